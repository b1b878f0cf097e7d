"""From layers to options and files: merging, placing."""

import copy

import orthanc_json
import orthanc_layers as layers
import pytest
from hypothesis import given
from hypothesis import strategies as st
from salt.exceptions import SaltInvocationError

NAMES = st.text("abcABC", min_size=1, max_size=3)
SCALARS = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text(max_size=5)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3)
)
OPTIONS = st.dictionaries(NAMES, VALUES, max_size=4)
FILES = {"credentials.json": ["RegisteredUsers", "a"], "empty.json": [], "b.json": ["b", "c"]}
CONFIG = "orthanc:config:a"
WANTED = {"main_file": "main.json", "option_files": FILES}


@pytest.mark.parametrize(
    ("given_layers", "merged"),
    [
        ([], {}),
        ([{"a": 1}, {"a": 2}], {"a": 2}),
        ([{"a": {"x": 1, "y": 2}}, {"a": {"y": 3}}], {"a": {"x": 1, "y": 3}}),
        ([{"a": [1, 2]}, {"a": [3]}], {"a": [3]}),
        ([{"a": 1, "b": 2}, {"a": None}], {"b": 2}),
        ([{"a": {"x": 1, "y": 2}}, {"a": {"x": None}}], {"a": {"y": 2}}),
        ([{"a": 1}, {"a": {"x": 1}}], {"a": {"x": 1}}),
        ([{"a": {"x": 1}}, {"a": 1}], {"a": 1}),
        ([{"a": None}], {}),
        ([{"a": {"x": None}}], {"a": {}}),
        ([{"a": 1}, {"a": None}, {"a": 2}], {"a": 2}),
        ([{"a": False}, {"a": 0}], {"a": 0}),
    ],
)
def test_merge(given_layers, merged):
    assert orthanc_json.merge(given_layers) == merged


@given(st.lists(OPTIONS, max_size=3))
def test_merge_leaves_the_layers_alone(given_layers):
    before = copy.deepcopy(given_layers)
    merged = orthanc_json.merge(given_layers)
    for option in merged:
        if isinstance(merged[option], (dict, list)):
            merged[option].clear()
    assert given_layers == before


@given(OPTIONS)
def test_merging_what_is_merged_changes_nothing(options):
    merged = orthanc_json.merge([options])
    assert orthanc_json.merge([merged]) == merged
    assert orthanc_json.merge([merged, merged]) == merged


def layer(*option, **more):
    return {"option": list(option), **more}


@pytest.mark.parametrize(
    ("given_layers", "options", "keys"),
    [
        ([layer("a", value=1, origin="x")], {"a": 1}, {"a": "x"}),
        # What wins is the last one's, and the rest of a mapping stays that of who said it.
        ([layer("a", value=1, origin="x"), layer("a", value=2)], {"a": 2}, {"a": CONFIG}),
        (
            [
                layer("a", value={"b": 1, "c": 2}, origin="x"),
                layer("a", value={"c": 3}, origin="y"),
            ],
            {"a": {"b": 1, "c": 3}},
            {"a": "y", "a:b": "x:b", "a:c": "y:c", "a:b:0": "x:b:0", "a:d": "y:d"},
        ),
        # One name below an option.
        (
            [layer("a", value={}, origin="x"), layer("a", "b", value=1, origin="z")],
            {"a": {"b": 1}},
            {"a": "x", "a:b": "z", "a:c": "x:c"},
        ),
        # A part of a value, as long as it is that value.
        (
            [layer("a", value="u", origin="x"), layer("a", "part", origin="z")],
            {"a": "u"},
            {"a": "x", "a:part": "z", "a:other": "x:other"},
        ),
        (
            [
                *(layer("a", value="u", origin="x"), layer("a", "part", origin="z")),
                layer("a", value="v", origin="y"),
            ],
            {"a": "v"},
            {"a:part": "y:part"},
        ),
        # What is taken out, and what was below it.
        (
            [layer("a", value={"b": 1}, origin="x"), layer("a", value=None, origin="y")],
            {},
            {"a": "y", "a:b": "y:b"},
        ),
        ([], {}, {"a": "orthanc:config:a", "a:b": "orthanc:config:a:b"}),
    ],
)
def test_a_value_keeps_where_it_comes_from(given_layers, options, keys):
    found, origins = layers.merge(given_layers)
    assert found == options
    assert {path: layers.key_of(path.split(":"), origins) for path in keys} == keys


@given(st.lists(OPTIONS, max_size=3))
def test_layers_give_what_their_options_give(given_options):
    made = [layer(name, value=value) for each in given_options for name, value in each.items()]
    assert layers.merge(made)[0] == orthanc_json.merge(given_options)


def test_what_nobody_asked_for_is_known():
    made = [
        layer("own", value=1, default=True),
        layer("derived", value=2, origin="orthanc:x", default=True),
        layer("asked", value=3, origin="orthanc:y"),
        layer("over", value=4, default=True),
        layer("over", value=5, origin="orthanc:config:over"),
    ]
    _, origins = layers.merge(made)
    assert [name for (name,), origin in origins.items() if origin.default] == ["own", "derived"]
    assert layers.unasked({"layers": made}) == {"own": 1, "over": 4}


@pytest.mark.parametrize(
    "wrong", ["x", {}, {"option": []}, {"HttpPort": 1}, {"option": ["a"], "valeu": 1}]
)
def test_a_layer_that_is_none_is_refused(wrong):
    with pytest.raises(SaltInvocationError, match="each layer must be a mapping with an option"):
        layers.complete({**WANTED, "layers": [wrong]})


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (None, "layers: missing; main_file: missing; option_files: missing"),
        ({"layers": 5}, "layers: must be a list, but is int"),
        ({"layers": None}, "layers: must not be empty"),
        ({"layers": [{"option": "HttpPort"}]}, "layers:0:option: must be a list, but is str"),
        ({"layers": [{"option": ["a", []]}]}, "layers:0:option:1: must be a name, but is list"),
        ({"layers": [{"option": ["a"], "origin": 5}]}, "layers:0:origin: must be a name"),
        ({"option_files": {"a.json": 1}}, "option_files:a.json: must be a list, but is int"),
        ({"texts": {"a": {"secret": 1}}}, "texts:a: must be a text, but is dict"),
        ({"pems": {"a": "x"}}, "pems:a: must be a mapping, but is str"),
        ({"plugins": [None]}, "plugins:0: must not be empty"),
        ({"preflight": "no"}, "preflight: must be true or false, but is str"),
        ({"version": 1.12}, "version: must be a name, but is float"),
        ({5: 1, None: 2}, "5: unknown; None: unknown"),
    ],
)
def test_a_configuration_that_is_none_is_refused_in_words(wrong, words):
    """A state of an administrator's own may hand over anything."""
    with pytest.raises(SaltInvocationError) as refused:
        layers.complete(wrong and {**WANTED, **wrong})
    assert words in str(refused.value)
    assert "secret" not in str(refused.value)


def test_what_may_be_lacking_may_be_nothing():
    lacking = dict.fromkeys(("command", "version", "site", "plugin_folder", "remote_access"))
    layer_of_nothing = {"option": ["a"], "value": {"b": [None, ""]}}
    given = {**WANTED, **lacking, "texts": {"x": None, "y": ""}, "pems": {"z": None}}
    assert layers.complete({**given, "layers": [layer_of_nothing]})["texts"] == given["texts"]


@given(OPTIONS)
def test_each_option_has_one_file_and_none_is_lost(options):
    files = layers.place({**WANTED, "in_database": False}, options)
    placed = [option for content in files.values() for option in content]
    assert sorted(placed) == sorted(options)
    assert {o: v for content in files.values() for o, v in content.items()} == options
    for name, owned in FILES.items():
        assert set(files[name]) <= set(owned)


def test_every_file_of_the_table_is_named_even_if_it_holds_nothing():
    assert layers.place({**WANTED, "in_database": False}, {}) == {
        "main.json": {},
        "credentials.json": {},
        "empty.json": {},
        "b.json": {},
    }
