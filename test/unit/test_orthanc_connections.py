"""Modalities and peers in Orthanc's database: what changes, and what stays."""

import json

import orthanc_connections as connections
import orthanc_network_note as note
import pytest
from hypothesis import given
from hypothesis import strategies as st
from salt.exceptions import CommandExecutionError, SaltInvocationError

RIGHTS = ("Echo", "Find", "FindWorklist", "Get", "Move", "Store", "Transcoding")
CT = {"AET": "CT", "Host": "192.0.2.1", "Port": 104}
FAR = {"Url": "https://far/", "Username": "u", "Password": "her word", "HttpHeaders": {"X": "y"}}


class Orthanc:
    """What Orthanc keeps, and shows again (measured with 1.10.1, 1.12.7 and 1.13.0)."""

    def __init__(self, **options):
        self.kept = {"modalities": {}, "peers": {}}
        self.options = {"DicomModalitiesInDatabase": True, "OrthancPeersInDatabase": True}
        self.options.update(options)
        self.sent, self.refuses = [], ()

    def show(self, route, item):
        if route == "modalities":
            item = dict(zip(("AET", "Host", "Port"), item)) if isinstance(item, list) else item
            rights = {f"Allow{right}": True for right in (*RIGHTS, "NAction", "EventReport")}
            shown = {**rights, "LocalAet": "", "Manufacturer": "Generic", "Timeout": 0, **item}
            both = shown.pop("AllowStorageCommitment", True)
            shown.update(AllowNAction=both, AllowEventReport=both, Port=int(shown["Port"]))
            return {**shown, "RetrieveMethod": "SystemDefault", "UseDicomTls": False}
        shown = {"Pkcs11": False, "Timeout": 0, **item}
        shown["HttpHeaders"] = sorted(shown.get("HttpHeaders", {}))
        return {**shown, "Password": None}

    def get(self, config, paths, limit=None):
        routes = [path[1:].partition("?")[0] for path in paths]
        return [{n: self.show(r, i) for n, i in self.kept[r].items()} for r in routes]

    def send_all(self, config, requests):
        return [self.answer(*request) for request in requests]

    def answer(self, method, path, item):
        _, route, name = path.split("/")
        self.sent.append(method)
        if name in self.refuses:
            return 400, {"Message": "Bad file format"}
        if method == "DELETE":
            del self.kept[route][name]
        else:
            self.kept[route][name] = item
        return 200, None


@pytest.fixture
def orthanc(monkeypatch):
    """An Orthanc, and its note in memory."""
    server, kept = Orthanc(), {}
    known = {
        "orthanc_rest.get": server.get,
        "orthanc_rest.send_all": server.send_all,
        "orthanc_folder.effective": lambda name: server.options,
        "orthanc_folder.chosen": lambda config=None: "/x",
        "orthanc_options.command": lambda: None,
        "orthanc_files.read_if_there": kept.get,
        "orthanc_files.write": lambda path, text, mode: kept.update({path: text}),
    }
    for name, function in known.items():
        monkeypatch.setitem(connections.__salt__, name, function)
    return server


def wanted(modalities=None, peers=None):
    return {"DicomModalities": modalities or {}, "OrthancPeers": peers or {}}


def test_what_the_pillar_says_is_put_once(orthanc):
    asked = wanted({"ct": CT, "mr": ["MR", "192.0.2.2", 104]}, {"far": FAR})
    told = connections.ensure_all("/x", asked, test=True)
    assert orthanc.sent == []
    assert connections.ensure_all("/x", asked) == told
    assert set(told[0]) == {"DicomModalities:ct", "DicomModalities:mr", "OrthancPeers:far"}
    assert "her word" not in json.dumps(told)
    assert connections.ensure_all("/x", asked) == ({}, [], [])
    assert connections.known("/x")["OrthancPeers"]["far"] == FAR


@pytest.mark.parametrize(
    "change", [{"Password": "another"}, {"HttpHeaders": {"X": "z"}}, {"Username": "v"}]
)
def test_what_orthanc_does_not_show_is_a_change_as_well(orthanc, change):
    connections.ensure_all("/x", wanted({}, {"far": FAR}))
    changed, *_ = connections.ensure_all("/x", wanted({}, {"far": {**FAR, **change}}), test=True)
    (key,) = change
    assert [path.split(":")[2] for path in changed] == [key]
    assert "another" not in str(changed)


def test_what_others_added_stays_and_is_named(orthanc):
    orthanc.kept["modalities"]["theirs"] = CT
    connections.ensure_all("/x", wanted({"ct": CT}))
    connections.ensure("/x", "DicomModalities", {"mr": CT})
    changed, others, _ = connections.ensure_all("/x", wanted())
    assert [*changed] == ["DicomModalities:ct"]
    assert others == ["modality mr", "modality theirs"]
    assert set(orthanc.kept["modalities"]) == {"mr", "theirs"}


def test_what_is_said_in_another_form_is_no_change(orthanc):
    orthanc.kept["modalities"]["ct"] = CT
    same = {**CT, "Port": "104", "AllowStorageCommitment": True, "Timeout": 0}
    assert connections.ensure_all("/x", wanted({"ct": same})) == ({}, [], [])
    assert orthanc.sent == []


def test_one_that_is_refused_loses_nothing_of_the_others(orthanc):
    orthanc.refuses = ("a",)
    with pytest.raises(CommandExecutionError, match="Orthanc answers 400 to PUT /modalities/a"):
        connections.ensure_all("/x", wanted({"a": CT, "b": CT}))
    noted = note.read("/x")["DicomModalities"]
    assert [*orthanc.kept["modalities"]] == [*noted] == ["b"]


def test_where_orthanc_would_forget_it_nothing_is_put(orthanc):
    orthanc.options = {"DicomModalitiesInDatabase": False}
    with pytest.raises(SaltInvocationError, match="set orthanc:modalities_in_database: true"):
        connections.ensure("/x", "DicomModalities", {"ct": CT})
    with pytest.raises(SaltInvocationError, match=r"ct:Port"):
        connections.ensure("/x", "DicomModalities", {"ct": {**CT, "Port": 0}})
    assert orthanc.sent == []
    # Before the first run with the setting, all are to come.
    changed, *_ = connections.ensure_all("/x", wanted({"ct": CT}), test=True)
    assert [*changed] == ["DicomModalities:ct"]


NAMES = st.sampled_from("abc")
SIDES = st.dictionaries(NAMES, st.builds(lambda p: {**CT, "Port": p}, st.integers(1, 3)))


@given(theirs=SIDES, runs=st.lists(SIDES, max_size=4))
def test_whatever_the_pillar_holds_nothing_of_others_is_lost(theirs, runs):
    server, kept, salt = Orthanc(), {}, connections.__salt__
    known = {
        "orthanc_rest.get": server.get,
        "orthanc_rest.send_all": server.send_all,
        "orthanc_folder.effective": lambda name: server.options,
        "orthanc_files.read_if_there": kept.get,
        "orthanc_files.write": lambda path, text, mode: kept.update({path: text}),
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, function in known.items():
            patch.setitem(salt, name, function)
        server.kept["modalities"] = dict(theirs)
        ever: set = set()
        for run in runs:
            ever |= {*run}
            before, *_ = connections.ensure_all("/x", wanted(run), test=True)
            changed, others, _ = connections.ensure_all("/x", wanted(run))
            assert before == changed
            assert connections.ensure_all("/x", wanted(run)) == ({}, others, [])
            stay = {name: item for name, item in theirs.items() if name not in ever}
            assert server.kept["modalities"] == {**stay, **run}
            assert others == [f"modality {name}" for name in sorted(stay)]
