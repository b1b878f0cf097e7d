"""The language of shapes, and every word of the tables that are written in it."""

import ast
import json
import pathlib

import orthanc_shapes as shapes
import orthanc_tables as tables
import pytest

FORMULA = pathlib.Path(__file__).resolve().parents[2]
VERSION = {"type": "string", "pattern": r"[0-9]+(\.[0-9]+)*"}
NAMES = {"items": "name"}
SHAPES = {"names": "name", "each": "shape"}
# The language, in its own words.
WORDS = {
    "wanted": {"type": "string", "pattern": ".+"},
    "type": {"enum": [*shapes.TYPES, "any"]},
    "minimum": {"type": "integer"},
    "maximum": {"type": "integer"},
    "pattern": {"type": "string", "pattern": "(?s).+"},
    "format": {"enum": list(shapes.FORMATS)},
    "enum": {
        "anyOf": [
            {"items": {"anyOf": ["name", "flag"]}},
            {"names": "name", "each": {"anyOf": [{"enum": [""]}, VERSION]}},
        ]
    },
    "any_case": {"enum": [True]},
    "anyOf": {"items": "shape"},
    "items": "shape",
    "keys": SHAPES,
    "names": "shape",
    "each": "shape",
    "keys_of": {"each": SHAPES},
    "known": NAMES,
    "required": {"items": NAMES},
    "row": {"items": "shape"},
    "lengths": {"items": {"type": "integer", "minimum": 1, "maximum": 9}},
    "since": VERSION,
    "until": VERSION,
    "changed": {"names": VERSION, "each": "shape"},
    "empty": {"items": {"enum": ["nothing", "text"]}},
}
# Words that go together.
TOGETHER = [
    *({"minimum", "maximum"}, {"row", "lengths"}),
]


def faults(shape, kinds, more=None):
    """Return what is wrong with a shape, which may have some more words."""
    kind = {"enum": [*shapes.KINDS, *kinds]}
    language = {
        "kind": kind,
        "shape": {"anyOf": ["kind", {"keys": {**WORDS, "kind": kind, **(more or {})}}]},
    }
    reader = {**shapes.QUIET, "kinds": language, "shown": lambda value, *_: repr(value)}
    reader["unknown"] = lambda path, known: f"no word: {path[-1]}"
    return shapes.mistakes(shape, "shape", [], reader)


def all_shapes(shape, kinds):
    """Yield a shape and those that it is made of, each with all of its words."""
    words = shapes.resolved(shape, kinds)
    yield words
    several = [words.get(word, ()) for word in ("anyOf", "row")]
    several += [words.get(word, {}).values() for word in ("keys", "changed")]
    several += [keys.values() for keys in words.get("keys_of", {}).values()]
    several.append([words[word] for word in ("items", "names", "each") if word in words])
    for one in (one for each in several for one in each):
        if not isinstance(one, str):
            yield from all_shapes(one, kinds)


ROW = {
    "library": {"items": "name"},
    "package": {"type": "string", "pattern": "(orthanc(-[a-z]+)?)?"},
}
PLUGINS = {**tables.SECTIONS, **tables.PLUGIN_OPTIONS}
SHAPES_OF_OPTIONS = {**shapes.KINDS, **tables.KINDS, **tables.OPTIONS, **PLUGINS}


def test_every_word_of_the_tables_is_one_of_the_language():
    for name, shape in SHAPES_OF_OPTIONS.items():
        assert faults(shape, tables.KINDS, ROW if name in PLUGINS else {}) == [], name
    for name, row in PLUGINS.items():
        assert row["library"] and "package" in row, name
        assert set(row.get("keys_of", {})) <= set(row["library"]), name


def test_the_words_of_every_shape_go_together():
    found = [
        (name, words)
        for name, shape in SHAPES_OF_OPTIONS.items()
        for words in all_shapes(shape, tables.KINDS)
    ]
    assert len(found) > 300
    for name, words in found:
        for pair in TOGETHER:
            assert pair <= words.keys() or not pair & words.keys(), name
        if "row" in words:
            assert max(words["lengths"]) == len(words["row"]), name
        for one in words.get("required", ()):
            assert set(one) <= words["keys"].keys(), name
        # Whoever is refused is told what is wanted.
        assert shapes.wanted(words, tables.KINDS), name


SECRET = {"secret": {"enum": ["always", "unless a place"]}}


def test_every_word_of_the_pillar_is_one_of_the_language(pillar_files):
    own = pillar_files["tables"]
    kinds, found = own["KINDS"], list(all_shapes(own["SHAPE"], own["KINDS"]))
    assert len(found) > 20
    for shape in [*kinds.values(), own["SHAPE"]]:
        assert faults(shape, kinds, SECRET) == []
    for words in [*found, *(shapes.resolved(one, kinds) for one in kinds)]:
        assert words.get("type") == "any" or shapes.wanted(words, kinds)
    # A kind that both sides have is the same one.
    assert not kinds.keys() & shapes.KINDS.keys()
    assert not tables.KINDS.keys() & shapes.KINDS.keys()


def test_what_is_no_word_of_the_language_is_found():
    kinds = {"mine": {"type": "string"}}
    assert faults({"keys": {"a": "mine", "b": {"items": "flag"}}}, kinds) == []
    for wrong in (
        "flagg",
        {"kind": "flagg"},
        {"typ": "string"},
        {"type": "number"},
        {"keys": {"a": {"since": 1.12}}},
        {"each": {"items": "text"}},
        {"enum": {"a": None}},
        {"anyOf": ["flag", {"minimun": 1}]},
        {"changed": {"1.13.0": {"formt": "origin"}}},
        {"keys_of": {"OrthancX": {"a": "texts"}}},
        None,
        [],
    ):
        assert faults(wrong, kinds), wrong


@pytest.mark.parametrize("name", ["_modules/orthanc_tables.py", "orthanc/pillar.py"])
def test_the_tables_are_data_alone(name):
    """Nothing is called, computed or looked up, but by the one function that hands them out."""
    tree = ast.parse((FORMULA / name).read_text())
    assigned = [node for node in tree.body if isinstance(node, ast.Assign)]
    assert len(assigned) > 6
    data = (ast.Constant, ast.Dict, ast.List, ast.Starred, ast.Tuple, ast.Load)
    for node in assigned:
        assert all(isinstance(each, data) for each in ast.walk(node.value)), node.targets[0].id
    others = [type(node) for node in tree.body if not isinstance(node, ast.Assign)]
    assert sorted(each.__name__ for each in others) == ["Expr", "FunctionDef", "ImportFrom"]


def test_what_hands_the_tables_out(pillar_files):
    assert tables.get("OPTIONS") is tables.OPTIONS
    assert {"KINDS", "SHAPE", "MEANT"} <= pillar_files["tables"].keys()
    json.dumps(pillar_files["tables"])


def told(value, shape, **reader):
    """Return the sentences about a value, with their paths."""
    reader = {
        "kinds": {},
        "shown": lambda value, path, wanted: repr(value),
        "unknown": lambda path, known: f"unknown, not {' or '.join(known)}",
        "noun": "name",
        **reader,
    }
    found = shapes.mistakes(value, shape, ["x"], reader)
    return [f"{':'.join(path)}: {sentence}" for path, sentence in found]


@pytest.mark.parametrize(
    ("shape", "right", "wrong"),
    [
        ("anything", [None, 1, "", [], {}], []),
        ("name", ["", "a\nb"], [None, 1, True]),
        ("flag", [True, False], [0, 1, None, "true"]),
        ("count", [0, 1, 2**31 - 1], [True, False, -1, 2**31, 1.0, "1", None]),
        ("port", [1, 65535], [0, 65536, True, "80", 80.0]),
        ("aet", ["A", " A", "A" * 16], ["", " ", "A" * 17, "A\\B", "Ä", 1]),
        ({"enum": ["a", True]}, ["a", True], ["A", 1, False, None]),
        ({"enum": {"a": ""}}, ["a"], ["b", 1, ["a"], {"a": ""}]),
        ({"enum": ["Ab"], "any_case": True}, ["ab", "AB"], ["a", 1]),
        ({"type": "string", "pattern": "a|b"}, ["a", "b"], ["ab", "a\n", 1]),
        ({"items": "flag"}, [[], [True], (False,)], [None, "x", {}, [1]]),
        ({"row": ["flag", "name"], "lengths": [1, 2]}, [[True], [True, ""]], [[], [1, ""], "ab"]),
        ({"keys": {"a": "flag"}}, [{}, {"a": True}], [[], None, {"a": 1}, {"b": True}, {1: 1}]),
        ({"each": "flag"}, [{}, {"a": True}], [{1: True}, {"a": 1}, []]),
        ({"names": "anything", "each": "flag"}, [{1: True}], [{1: 1}]),
        ({"keys": {"a": "flag"}, "each": "name"}, [{"a": True, "b": ""}], [{"a": ""}, {"b": 1}]),
        ({"known": ["a"]}, [{}, {"b": 1}], [None, []]),
        ({"anyOf": ["flag", {"items": "flag"}]}, [True, [True]], [1, [1]]),
        ({"kind": "count", "maximum": 5}, [5], [6, -1]),
        ({"type": "any", "each": "flag", "items": "name"}, [1, None, {"a": True}], [{"a": 1}, [1]]),
        (
            {"keys": {"a": "flag", "b": "flag"}, "required": [["a", "b"]]},
            [{"a": True}, {"b": True}],
            [{}],
        ),
        (
            {"type": "string", "pattern": "https?://[^/]+", "format": "origin"},
            ["https://a:8443"],
            ["https://a:443", "https://a/"],
        ),
    ],
)
def test_what_a_value_may_be(shape, right, wrong):
    for value in right:
        assert told(value, shape) == [], value
        assert shapes.fits(value, shape, {})
    for value in wrong:
        assert told(value, shape), value
        assert not shapes.fits(value, shape, {})


@pytest.mark.parametrize(
    ("value", "shape", "sentence"),
    [
        (1, "flag", "x: must be true or false, but is 1"),
        (70000, "count", None),
        (-1, "count", "x: must be a whole number from 0 to 2147483647, but is -1"),
        ("c", {"enum": ["a", "b"]}, 'x: must be one of "a", "b" (spelt so), but is \'c\''),
        ("c", {"enum": ["a"], "any_case": True}, "x: must be one of \"a\", but is 'c'"),
        (1, {"anyOf": ["flag", {"items": "flag"}]}, "x: must be true or false or a list, but is 1"),
        ([1], {"anyOf": ["flag", {"items": "flag"}]}, "x:0: must be true or false, but is 1"),
        ([1], {"wanted": "W", "anyOf": ["flag", {"items": "flag"}]}, "x: must be W, but is [1]"),
        ([], {"row": ["flag", "name"], "lengths": [2]}, "x: must be a list of true or false, a"),
        ({"b": 1}, {"keys": {"a": "flag"}}, "x:b: unknown, not a"),
        ({1: 1}, {"each": "flag"}, "x:1: the name must be a name (in quotes)"),
        ({}, {"keys": {"a": "flag"}, "required": [["a"]]}, "x:a: missing"),
    ],
)
def test_what_is_said(value, shape, sentence):
    found = told(value, shape)
    assert len(found) == (sentence is not None)
    assert sentence is None or found[0].startswith(sentence)


@pytest.mark.parametrize(
    ("version", "value", "sentence"),
    [
        ("1.9", {"new": True}, "x:new: needs X 1.10, this host has 1.9; take it out"),
        ("1.10", {"new": True}, None),
        (None, {"new": True}, None),
        ("1.11", {"old": True}, "x:old: is ignored by X after 1.10; take it out"),
        ("1.10", {"old": True}, None),
        ("1.9", {"word": "b"}, 'x:word: "b" needs X 1.10, this host has 1.9'),
        ("1.10", {"word": "b"}, None),
        ("1.9", {"form": True}, None),
        ("1.10", {"form": True}, "x:form: must be a name, but is True"),
        (None, {"form": "a"}, None),
        ("1.9", {"own": True}, "x:own: only other reads it, this host has this; take it out"),
        ("1.9", {"mine": True}, "x:mine: needs this 2.0, this host has 1.0; take it out"),
    ],
)
def test_what_a_version_knows(version, value, sentence):
    shape = {
        "keys": {
            "new": {"kind": "flag", "since": "1.10"},
            "old": {"kind": "flag", "until": "1.10"},
            "word": {"enum": {"a": "", "b": "1.10"}},
            "form": {"kind": "flag", "changed": {"1.10": "name"}},
        },
        "keys_of": {"other": {"own": "flag"}, "this": {"mine": {"kind": "flag", "since": "2.0"}}},
    }
    release = {"name": "X", "version": version, "libraries": {"this": "1.0"}}
    assert told(value, shape, release=release) == ([sentence] if sentence else [])
    # Nobody is accused whose version is not known.
    assert told({"new": True, "old": True, "word": "b", "own": True}, shape) == []


def test_a_reader_may_refuse_what_is_empty():
    shape = {"keys": {"a": "name", "b": {"type": "any", "empty": ["nothing"], "each": "name"}}}
    value = {"a": " ", "b": None}
    assert told(value, shape) == []
    assert told(value, shape, empty=lambda value, path: "is empty") == ["x:a: is empty"]
    assert told({"b": ""}, shape, empty=lambda value, path: "is empty") == ["x:b: is empty"]
    assert told(None, shape, empty=lambda value, path: "is empty") == ["x: is empty"]


def test_nobody_waits_for_the_nearest_of_a_very_long_name():
    known = ["DicomAlwaysAllowFindWorklist", "DicomModalitiesInDatabase"]
    assert shapes.near("x" * 70000, known) == []
    assert shapes.near("DicomAlwaysAlowFindWorklist", known) == known[:1]
