"""What a site makes of the cards of others, whatever these hold."""

import copy
import json

import orthanc_cards as cards
import orthanc_mine as mine
import orthanc_options
import pytest
from hypothesis import given
from hypothesis import strategies as st
from salt.exceptions import SaltException, SaltInvocationError

CARD = {
    **{"group": "hospital", "role": "archive", "aet": "NORTH", "host": "192.0.2.6", "port": 4242},
    **{"tls": False, "url": "https://north.example.org/"},
}
SITE = {
    **{"id": "south-1", "group": "hospital", "aet": "SOUTH", "tls": False, "members": ["*"]},
    "accounts": {"north-1": {"username": "u", "password": "her word"}},
}
NOTHING = {"DicomModalities": {}, "OrthancPeers": {}}


def entries(told, site=SITE, taken=NOTHING, known=NOTHING):
    return cards.entries(told, site, taken, known)


def test_a_card_becomes_a_modality_and_a_peer():
    found, left_out = entries(
        {"north-1": CARD, "south-1": {"group": "hospital", "role": "archive"}}
    )
    refused = {"AllowFindWorklist": False, "AllowNAction": False}
    modality = {"AET": "NORTH", "Host": "192.0.2.6", "Port": 4242, **refused}
    assert found["DicomModalities"] == {"north-1": modality}
    peer = {"Url": "https://north.example.org/", "Username": "u", "Password": "her word"}
    assert found["OrthancPeers"] == {"north-1": peer}
    assert left_out == []


@pytest.mark.parametrize(
    ("role", "may"),
    [
        ("archive", {"Echo", "Store", "Find", "Get", "Move", "EventReport"}),
        ("modality", {"Echo", "Store", "FindWorklist", "NAction"}),
        ("workstation", {"Echo", "Store", "Find", "Get", "Move"}),
    ],
)
def test_who_may_what_is_a_matter_of_the_role(role, may):
    found, _ = entries({"north-1": {**CARD, "role": role}})
    denied = {key[5:] for key, value in found["DicomModalities"]["north-1"].items() if not value}
    assert denied == set(cards.RIGHTS) - may


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"aet": "South"}, "its AET South is that of this server"),
        ({"aet": "ct"}, "its AET ct is that of the modality scanner"),
        ({"aet": ""}, "aet of its card cannot be used"),
        ({"aet": "X" * 17}, "aet of its card"),
        ({"aet": "A\\B"}, "aet of its card"),
        ({"aet": ["x"]}, "aet of its card"),
        ({"host": "north.example.org"}, "host of its card"),
        ({"host": "127.0.0.1"}, "host of its card"),
        ({"host": "0.0.0.0"}, "host of its card"),
        ({"host": 5}, "host of its card"),
        ({"port": True}, "port of its card"),
        ({"port": 0}, "port of its card"),
        ({"role": "admin"}, "role of its card"),
        ({"role": ["archive"]}, "role of its card"),
        ({"url": "http://north/"}, "url of its card"),
        ({"url": "https://u:p@north/"}, "url of its card"),
        ({"tls": True}, "no certificate in orthanc:dicom:tls"),
        ({"tls": "no"}, "tls of its card"),
    ],
)
def test_what_cannot_be_used_is_named_and_left_out(change, words):
    taken = {**NOTHING, "DicomModalities": {"scanner": ["CT", "192.0.2.9", 104]}}
    found, (said,) = entries({"north-1": {**CARD, **change}}, taken=taken)
    assert found == NOTHING
    assert said.startswith("site north-1: ")
    assert words in said


@pytest.mark.parametrize("key", ["aet", "host", "port", "role"])
def test_what_a_card_lacks_is_named(key):
    card = {name: value for name, value in CARD.items() if name != key}
    found, (said,) = entries({"north-1": card})
    assert found == NOTHING
    assert said == f"site north-1: its card lacks {key}"


def test_who_is_of_another_group_or_no_member_is_passed_over():
    told = {
        "a": {**CARD, "group": "other"},
        "b": {"role": "archive"},
        "c": "x",
        "d": None,
        "e": CARD,
    }
    assert entries(told, {**SITE, "members": ["north-*"]}) == (NOTHING, [])


def test_a_name_that_is_in_use_stays_what_it_is():
    for taken in ({"north-1": ["X", "h", 1]}, {"NORTH-1": ["X", "h", 1]}):
        for option in NOTHING:
            found, (said,) = entries({"north-1": CARD}, taken={**NOTHING, option: taken})
            assert found == NOTHING
            assert "a modality or peer of the name north-1 already" in said


def test_whoever_was_first_with_a_title_keeps_it():
    told = {"b": CARD, "a": {**CARD, "host": "192.0.2.7"}}
    known, _ = entries({"b": CARD})
    found, (said,) = entries(told, known=known)
    assert [*found["DicomModalities"]] == ["b"]
    assert said == "site a: its AET NORTH is that of the site b"
    # Also where one that is known takes the title of another one.
    known, _ = entries({"b": CARD, "a": {**CARD, "aet": "A"}})
    assert [*entries(told, known=known)[0]["DicomModalities"]] == ["b"]


@pytest.mark.parametrize(
    ("change", "known", "words"),
    [
        ({"host": "192.0.2.5", "port": 104}, [], "its host and port are those of this server"),
        ({"host": "192.0.2.5", "port": 105}, ["north-1"], ""),
        # As where one certificate is for all.
        (
            {"url": "https://south/"},
            ["north-1"],
            "its url is that of this server, so it is no peer",
        ),
    ],
)
def test_no_site_is_at_the_address_of_this_one(change, known, words):
    own = {**CARD, "aet": "SOUTH", "host": "192.0.2.5", "port": 104, "url": "https://south/"}
    found, left_out = entries({"south-1": own, "north-1": {**CARD, **change}})
    assert [*found["DicomModalities"]] == known
    assert [*found["OrthancPeers"]] == ([] if words else known)
    assert words in "".join(left_out)
    assert len(left_out) == bool(words)


@pytest.mark.parametrize(
    ("accounts", "username"),
    [
        (["*"], "*"),
        (["north-*", "*"], "north-*"),
        (["*", "north-1"], "north-1"),
        (["south-*"], None),
        (["NORTH-1", "north"], None),
    ],
)
def test_an_account_is_for_the_site_or_a_pattern(accounts, username):
    known = {one: {"username": one, "password": "x"} for one in accounts}
    found, _ = entries({"north-1": CARD}, {**SITE, "accounts": known})
    assert found["OrthancPeers"].get("north-1", {}).get("Username") == username


def test_who_is_no_peer_is_only_named_where_the_pillar_names_him():
    card = {key: value for key, value in CARD.items() if key != "url"}
    site = {**SITE, "accounts": {"*": {"username": "u", "password": "x"}}}
    assert entries({"north-1": card}, site)[1] == []


def test_a_password_goes_to_nobody_else():
    found, left_out = entries({"evil": CARD, "north-1": {**CARD, "aet": "N2"}})
    assert [*found["OrthancPeers"]] == ["north-1"]
    assert "her word" not in str(left_out)
    card = {key: value for key, value in CARD.items() if key != "url"}
    found, (said,) = entries({"north-1": card})
    assert found["OrthancPeers"] == {}
    assert "no https:// address" in said


def test_thousands_of_cards_are_told_of_in_some_lines():
    """One in ten is another site; all others claim the title of the first, or nonsense."""
    told = {
        f"site-{n}": {**CARD, "aet": f"S{n}"} if n % 10 else {**CARD, "aet": "S1", "port": n % 3}
        for n in range(10000)
    }
    found, left_out = entries(told)
    assert len(found["DicomModalities"]) == 9000
    assert len(left_out) == cards.SAID + 1
    assert left_out[-1] == f"{1000 - cards.SAID} more sites are left out"
    assert entries(told, known=found) == (found, left_out)


IDS = st.sampled_from(["a", "b", "B", "b.1", "b-1", "ct", "CT", "south-1"]) | st.text(max_size=4)
JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=6),
    lambda some: (
        st.lists(some, max_size=2) | st.dictionaries(st.text(max_size=3), some, max_size=2)
    ),
    max_leaves=4,
)
VALUES = {
    "group": st.sampled_from(["hospital", "other"]),
    "role": st.sampled_from([*cards.ROLES]) | JUNK,
    "aet": st.sampled_from(["A", "a", "CT", "SOUTH", "south", " "]) | JUNK,
    "host": st.sampled_from(["192.0.2.6", "127.0.0.1", "x"]) | JUNK,
    "port": st.integers(-1, 70000) | JUNK,
    "tls": st.booleans() | JUNK,
    "url": st.sampled_from(["https://x/", "http://x/", "https://x y/"]) | JUNK,
    "x": JUNK,
}
# Sound ones, of which some have something in common; and whatever else.
GOOD = st.builds(
    lambda aet, port, url: {**CARD, "aet": aet, "port": port, **url},
    st.sampled_from(["A", "a", "B", "b", "CT", "SOUTH", "south"]),
    st.sampled_from([104, 4242, 65534, 65535]),
    st.sampled_from([{}, {"url": "http://x/"}, {"x": "y"}]),
)
CARDS = st.dictionaries(
    IDS, GOOD | GOOD | st.fixed_dictionaries({}, optional=VALUES) | JUNK, max_size=8
)
TAKEN = st.dictionaries(
    st.sampled_from(["a", "ct", "CT"]),
    st.sampled_from([["CT", "192.0.2.9", 104], {"AET": "a", "Host": "h", "Port": 1}]),
)


@given(told=CARDS, pillar=TAKEN, earlier=CARDS)
def test_whatever_the_cards_hold_nothing_is_taken_over(told, pillar, earlier):
    taken, kept = {**NOTHING, "DicomModalities": pillar}, copy.deepcopy(told)
    site = {**SITE, "accounts": {one: SITE["accounts"]["north-1"] for one in ("a", "b*", "x")}}
    known, _ = entries(earlier, site, taken)
    found, left_out = entries(told, site, taken, known)
    assert told == kept
    modalities = found["DicomModalities"]
    names = [name.lower() for name in {*modalities, *found["OrthancPeers"]} | {*pillar}]
    own = {name.lower() for name in pillar}
    assert not own & {name.lower() for name in {*modalities, *found["OrthancPeers"]}}
    assert len({*names} - own) == len(names) - len(pillar)
    titles = [item["AET"].lower() for item in modalities.values()]
    assert len(set(titles)) == len(titles)
    assert not {*titles} & {cards._title(item).lower() for item in pillar.values()}
    assert SITE["aet"].lower() not in titles
    # None of them leads back here: by what it publishes itself, and others may claim.
    here = told.get(SITE["id"])
    if isinstance(here, dict) and not cards._wrong(here):
        places = [(item["Host"], item["Port"]) for item in modalities.values()]
        assert (here.get("host"), here.get("port")) not in places
        urls = [item["Url"] for item in found["OrthancPeers"].values()]
        assert here.get("url") not in urls
    assert orthanc_options.check(copy.deepcopy(found), "1.12.7") == []
    assert entries(told, site, taken, found) == (found, left_out)
    assert all(line.isprintable() for line in left_out)
    json.dumps(found)


@pytest.fixture
def host(monkeypatch):
    """A minion with a master: what its mine holds, and what was noted."""
    state = {"mine": {}, "files": {}}
    known = {
        "mine.send": lambda name: bool(state["mine"].update({"south-1": CARD}) or True),
        "mine.get": lambda target, function: copy.deepcopy(state["mine"]),
        "orthanc_files.read_if_there": state["files"].get,
        "orthanc_files.write": lambda path, text, mode: state["files"].update({path: text}),
    }
    for name, function in known.items():
        monkeypatch.setitem(mine.__salt__, name, function)
    monkeypatch.setattr(mine, "__opts__", {"file_client": "remote", "id": "south-1"})
    return state


def test_without_the_mine_the_cards_that_were_seen_last_hold(host, monkeypatch):
    host["mine"]["north-1"] = CARD
    found = mine.exchange("/x", {"west": {"role": "archive"}})
    both = {"north-1": CARD, "south-1": CARD}
    assert found == ({**both, "west": {"role": "archive"}}, [])

    def fails(*_):
        raise SaltException("the master is away")

    for function in (fails, lambda *_: {}, lambda *_: "x", lambda *_: {"north-1": {}}):
        monkeypatch.setitem(mine.__salt__, "mine.get", function)
        found, (said,) = mine.exchange("/x", {})
        assert found == both
        assert "the cards that were seen last hold" in said


def test_without_a_master_nothing_is_asked(host, monkeypatch):
    monkeypatch.setattr(mine, "__opts__", {"file_client": "local", "id": "south-1"})
    monkeypatch.setattr(mine, "card", lambda name: {"aet": "SOUTH"})
    assert mine.exchange("/x", {"west": CARD}, test=True) == ({"west": CARD}, [])
    assert host["mine"] == host["files"] == {}
    both = {"west": CARD, "south-1": {"aet": "SOUTH"}}
    assert mine.exchange("/x", {"west": CARD}) == (both, [])
    assert host["mine"] == {}
    monkeypatch.undo()
    # What a run has noted, a function tells over salt-ssh, where it sees no pillar.
    files = {"/x.cards": json.dumps({"south-1": CARD})}
    for name, function in (
        ("orthanc_folder.chosen", lambda config: "/x"),
        ("orthanc_files.read_if_there", files.get),
    ):
        monkeypatch.setitem(mine.__salt__, name, function)
    monkeypatch.setattr(mine, "__opts__", {"file_client": "local", "id": "south-1"})
    assert mine.card() == CARD
    monkeypatch.setattr(mine, "__opts__", {"file_client": "remote", "id": "south-1"})
    with pytest.raises(SaltInvocationError, match="over salt-ssh, apply"):
        mine.card()


def test_a_test_publishes_nothing(host):
    assert mine.exchange("/x", {}, test=True)[0] == {}
    assert host["mine"] == host["files"] == {}


def test_a_card_has_nothing_but_what_others_may_know(host, monkeypatch):
    secret = {"RegisteredUsers": {"anna": "her word"}, "DicomAet": "SOUTH", "DicomTlsEnabled": True}
    known = {
        "orthanc_folder.chosen": lambda config: "/x",
        "orthanc_folder.effective": lambda config: secret,
        "orthanc_server.access": lambda config: {"reachable from": "this host only"},
    }
    for name, function in known.items():
        monkeypatch.setitem(mine.__salt__, name, function)
    monkeypatch.setattr(mine, "__grains__", {"ipv4": ["127.0.0.1", "192.0.2.5"]})
    network = {"group": "hospital", "role": "archive", "accounts": SITE["accounts"]}
    monkeypatch.setattr(mine, "__pillar__", {"orthanc": {"network": network}})
    dicom = {"aet": "SOUTH", "host": "192.0.2.5", "port": 4242, "tls": True}
    assert mine.card() == {"group": "hospital", "role": "archive", **dicom}
    monkeypatch.setattr(mine, "__pillar__", {})
    monkeypatch.setattr(mine, "__opts__", {"file_client": "remote", "id": "south-1"})
    with pytest.raises(SaltInvocationError, match="orthanc:network:group"):
        mine.card()
