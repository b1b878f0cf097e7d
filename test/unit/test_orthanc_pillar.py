"""References: how a state's argument becomes what the pillar holds."""

import copy
import json

import orthanc_pillar
import pytest
from hypothesis import given
from hypothesis import strategies as st
from salt.exceptions import SaltInvocationError

pytestmark = pytest.mark.each_salt

PILLAR = {
    "orthanc": {
        "users": {"anna": {"password": "Geheim"}, "x:y": {"password": "with a colon"}},
        "peers": {5: "number", "5": "text", 6: "only a number", True: "yes", None: "nothing"},
        "plugins": [{"source": "one"}, {"source": "two"}],
        "config": {"Off": None, "False": False, "Zero": 0, "Empty": "", "Own": {"a": [1, {}]}},
    }
}


def reference(*path, **more):
    return {"__pillar__": ["orthanc", *path], **more}


def resolve(value, pillar=PILLAR):
    return orthanc_pillar._resolve(value, pillar)


@pytest.mark.parametrize(
    ("path", "found"),
    [
        (("users", "anna", "password"), "Geheim"),
        (("users", "x:y", "password"), "with a colon"),
        (("peers", 5), "number"),
        (("peers", "5"), "text"),
        (("peers", "6"), "only a number"),
        (("peers", "true"), "yes"),
        (("peers", None), "nothing"),
        (("plugins", 1, "source"), "two"),
        (("config", "Off"), None),
        (("config", "False"), False),
        (("config", "Zero"), 0),
        (("config", "Empty"), ""),
        (("config", "Own"), {"a": [1, {}]}),
        (("config",), PILLAR["orthanc"]["config"]),
        ((), PILLAR["orthanc"]),
    ],
)
def test_a_reference_becomes_the_value(path, found):
    result = resolve(reference(*path))
    assert (result, type(result)) == (found, type(found))


@pytest.mark.parametrize("value", [None, True, 0, "", "text", [], {}, [[{"a": ["b"]}], None]])
def test_what_holds_no_reference_stays_as_it_is(value):
    assert resolve(value) == value


def test_references_stand_anywhere():
    value = {"layers": [{"a": {"b": [reference("users", "anna", "password"), 1]}}, {"c": None}]}
    before = copy.deepcopy(value)
    assert resolve(value) == {"layers": [{"a": {"b": ["Geheim", 1]}}, {"c": None}]}
    assert value == before


def test_the_pillar_stays_as_it_is():
    pillar = copy.deepcopy(PILLAR)
    resolve(reference("config"), pillar)["Own"]["a"].append("more")
    assert pillar == PILLAR


def test_what_comes_from_the_pillar_is_no_reference():
    lookalike = {"__pillar__": ["orthanc", "secret"]}
    pillar = {"orthanc": {"config": {"Own": lookalike}, "secret": "x"}}
    assert resolve(reference("config"), pillar) == {"Own": lookalike}


@pytest.mark.parametrize(
    ("path", "named"),
    [
        (("users", "otto", "password"), "orthanc:users:otto:password: "),
        (("users", "anna", "password", "deeper"), "orthanc:users:anna:password:deeper: "),
        (("plugins", 2, "source"), "orthanc:plugins:2:source: "),
        (("peers", 7), "orthanc:peers:7: "),
        (("config", "Off", "x"), "orthanc:config:Off:x: "),
    ],
)
def test_what_is_not_there_is_named_by_its_path(path, named):
    with pytest.raises(SaltInvocationError) as err:
        resolve(reference(*path))
    assert str(err.value).startswith(named)
    assert "run it again" in str(err.value)
    assert "Geheim" not in str(err.value)
    with pytest.raises(SaltInvocationError):
        resolve(reference(*path), {})


def test_a_value_within_a_url_is_encoded():
    pillar = {"orthanc": {"password": "a b/c:d@e%ä"}}
    url = reference("password", in_url=["postgresql://u:", "@db/x?y=%20{}"])
    assert resolve(url, pillar) == "postgresql://u:a%20b%2Fc%3Ad%40e%25%C3%A4@db/x?y=%20{}"


def test_what_salt_masks_becomes_plain():
    """Salt 3008 hands over what a master sends in containers that show asterisks."""
    secret = pytest.importorskip("salt.utils.secret", reason="of Salt 3008")
    found = resolve(reference(), secret.hide(copy.deepcopy(PILLAR)))
    assert "Geheim" in str(found)
    assert "**" not in str(found)
    assert (found, type(found["users"])) == (PILLAR["orthanc"], dict)
    assert type(found["plugins"]) is list


TREES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda below: st.lists(below) | st.dictionaries(st.text() | st.integers(), below),
)


def paths(value, path=()):
    """Return the path of every value, with that value."""
    pairs = enumerate(value) if isinstance(value, list) else ()
    if isinstance(value, dict):
        pairs = value.items()
    below = [found for key, item in pairs for found in paths(item, (*path, key))]
    return [(path, value), *below]


@given(TREES)
def test_every_value_is_found_by_its_path(tree):
    for path, value in paths(tree):
        assert resolve(reference(*path), {"orthanc": tree}) == value


@pytest.mark.parametrize("key", [5, True, None, 1.5, "5"])
def test_it_is_found_in_what_salt_ssh_hands_over(key):
    """The pillar goes over as JSON, and so do the states: a key of a mapping is a text then."""
    pillar, wanted = json.loads(json.dumps([{"orthanc": {key: "Geheim"}}, reference(key)]))
    assert resolve(wanted, pillar) == "Geheim"


@pytest.mark.parametrize("path", [None, 5, "orthanc:port", {"orthanc": 1}])
def test_a_reference_that_is_none_is_refused(path):
    with pytest.raises(SaltInvocationError, match="must be a list of keys of the pillar"):
        resolve({"__pillar__": path}, {"orthanc": {}})


@pytest.mark.parametrize(
    ("pillar", "known"),
    [
        (
            {"orthanc": {"paths": {"config": "/a", "log": None, "other": 5}}},
            {"config": "/a", "log": None},
        ),
        *(
            ({"orthanc": wrong}, {})
            for wrong in (None, [], "x", 5, {}, {"paths": "x"}, {"paths": [1]})
        ),
        ({}, {}),
    ],
)
def test_of_a_pillar_that_is_about_to_be_refused_no_path_is_known(monkeypatch, pillar, known):
    monkeypatch.setattr(orthanc_pillar, "__pillar__", pillar, raising=False)
    assert orthanc_pillar.paths() == known
