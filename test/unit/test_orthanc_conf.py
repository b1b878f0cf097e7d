"""The configuration engine: merging, placing, reading, comparing, hiding."""

import copy
import json

import orthanc_conf as engine
import orthanc_json
import orthanc_tables
import pytest
from hypothesis import given
from hypothesis import strategies as st

NAMES = st.text("abcABC", min_size=1, max_size=3)
SCALARS = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text(max_size=5)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3)
)
OPTIONS = st.dictionaries(NAMES, VALUES, max_size=4)
FILES = {"credentials.json": ["RegisteredUsers", "a"], "empty.json": [], "b.json": ["b", "c"]}


@pytest.mark.parametrize(
    ("layers", "merged"),
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
def test_merge(layers, merged):
    assert engine.merge(layers) == merged


@given(st.lists(OPTIONS, max_size=3))
def test_merge_leaves_the_layers_alone(layers):
    before = copy.deepcopy(layers)
    merged = engine.merge(layers)
    for option in merged:
        if isinstance(merged[option], (dict, list)):
            merged[option].clear()
    assert layers == before


@given(OPTIONS)
def test_merging_what_is_merged_changes_nothing(options):
    merged = engine.merge([options])
    assert engine.merge([merged]) == merged
    assert engine.merge([merged, merged]) == merged


@given(OPTIONS)
def test_each_option_has_one_file_and_none_is_lost(options):
    files = engine.place(options, "main.json", FILES)
    placed = [option for content in files.values() for option in content]
    assert sorted(placed) == sorted(options)
    assert {o: v for content in files.values() for o, v in content.items()} == options
    for name, owned in FILES.items():
        assert set(files[name]) <= set(owned)


def test_every_file_of_the_table_is_named_even_if_it_holds_nothing():
    assert engine.place({}, "main.json", FILES) == {
        "main.json": {},
        "credentials.json": {},
        "empty.json": {},
        "b.json": {},
    }


@pytest.mark.parametrize(
    ("old", "new", "changes"),
    [
        ({}, {}, {}),
        ({"a": 1}, {"a": 1}, {}),
        ({"a": 1}, {"a": 2}, {"a": {"old": 1, "new": 2}}),
        ({"a": 1}, {}, {"a": {"old": 1}}),
        ({}, {"a": 1}, {"a": {"new": 1}}),
        ({"a": 1}, {"a": True}, {"a": {"old": 1, "new": True}}),
        ({"a": None}, {}, {"a": {"old": None}}),
        (
            {"UserMetadata": {"x": 1, "y": 2}},
            {"UserMetadata": {"x": 1, "y": 3}},
            {"UserMetadata:y": {"old": 2, "new": 3}},
        ),
        ({"a": {}}, {}, {"a": {"old": {}}}),
        ({"UserMetadata": {"x": 1}}, {"UserMetadata": 5}, {"UserMetadata:x": {"old": 1}}),
        ({"a": [1]}, {"a": [1, "b"]}, {"a": {"old": [1], "new": [1, "b"]}}),
    ],
)
def test_differences(old, new, changes):
    assert engine.differences(old, new) == changes


@given(OPTIONS, OPTIONS)
def test_there_are_differences_exactly_where_something_differs(old, new):
    assert engine.differences(old, old) == {}
    assert bool(engine.differences(old, new)) == (orthanc_json.dump(old) != orthanc_json.dump(new))


SECRET = "Geheim-4711"


@pytest.mark.parametrize(
    "options",
    [
        {"RegisteredUsers": {"anna": SECRET}},
        {"OrthancPeers": {"x": ["http://x/", "user", SECRET]}},
        {"OrthancPeers": {"x": {"Url": "http://x/", "Password": SECRET}}},
        {"OrthancPeers": {"x": {"Url": f"http://u:{SECRET}@x/"}}},
        {"PostgreSQL": {"Password": SECRET}},
        {"PostgreSQL": {"ConnectionUri": f"postgresql://u:{SECRET}@h/db"}},
        {"MySQL": {"Password": SECRET}},
        {"DicomWeb": {"Servers": {"x": ["http://x/", "user", SECRET]}}},
        {"DicomWeb": {"Servers": {"x": {"HttpHeaders": {"Authorization": SECRET}}}}},
        {"HttpProxy": f"http://u:{SECRET}@proxy:8080"},
        {"AwsS3Storage": {"SecretKey": SECRET}},
        {"AwsS3Storage": {"AccessKey": SECRET}},
        {"AzureBlobStorage": {"ConnectionString": SECRET}},
        {"Authorization": {"TokenHttpHeaders": [SECRET]}},
        {"CustomSection": {"deep": [{"ApiKey": SECRET}]}},
        {"DicomTlsPrivateKeyPassword": SECRET},
    ],
)
def test_no_secret_is_in_the_differences(options):
    other = json.loads(json.dumps(options).replace(SECRET, SECRET + "-old"))
    for old, new in [({}, options), (options, {}), (other, options)]:
        changes = engine.differences(old, new)
        assert changes
        assert SECRET not in json.dumps(changes)


@given(VALUES)
def test_the_values_of_registered_users_are_hidden_whatever_they_are(value):
    shown = json.dumps(engine.differences({}, {"RegisteredUsers": {"anna": value}}))
    assert set(json.loads(shown)) <= {"RegisteredUsers:anna", "RegisteredUsers"} | {
        name for name in json.loads(shown) if name.startswith("RegisteredUsers:anna:")
    }
    if isinstance(value, str) and len(value) > 3:
        assert value not in shown


BARE = {"layers": [{}], "main_file": "orthanc.json", "option_files": {}}
OPTION_NAMES = sorted({*orthanc_tables.OPTIONS, *orthanc_tables.SECTIONS})


@given(st.dictionaries(st.sampled_from(OPTION_NAMES) | st.text(max_size=5), VALUES, max_size=4))
def test_any_options_are_judged_and_stay_as_they_are(options):
    before = copy.deepcopy(options)
    verdict = engine.judge("/nonexistent", {**BARE, "layers": [options]}, host=False)
    assert options == before
    for sentence in verdict["problems"] + verdict["warnings"]:
        assert sentence.startswith("orthanc:config:")


@pytest.mark.parametrize(
    ("path", "origin"),
    [
        (["HttpPort"], "orthanc:port"),
        (["Name"], "orthanc:config:Name"),
        (["DicomModalities", "ct", "Port"], "orthanc:modalities:ct:Port"),
        (["DicomModalities", "mr", "Port"], "orthanc:config:DicomModalities:mr:Port"),
        (["RegisteredUsers", "anna"], "orthanc:users:anna:password"),
    ],
)
def test_a_problem_is_named_by_the_pillar_path_it_comes_from(path, origin, monkeypatch):
    monkeypatch.setitem(engine.__salt__, "orthanc_options.check", lambda *_, **__: [(path, "x")])
    sources = {
        "HttpPort": "orthanc:port",
        "DicomModalities:ct": "orthanc:modalities:ct",
        "RegisteredUsers:anna": "orthanc:users:anna:password",
    }
    verdict = engine.judge("/nonexistent", {**BARE, "sources": sources}, host=False)
    assert verdict["problems"] == [f"{origin}: x"]


@pytest.fixture
def validate(tmp_path, monkeypatch):
    """A function from the texts of files to what ``validate`` says of their folder."""
    monkeypatch.setattr(engine.shutil, "which", lambda _: None)

    def validate(**texts):
        for name, text in texts.items():
            (tmp_path / f"{name}.json").write_text(text)
        return engine.validate(str(tmp_path))

    return validate


@pytest.mark.parametrize(
    "text",
    [
        '{"HttpPort": ${PORT:-8042}}',
        '{"HttpPort": ${PORT}, "DicomAet": "${A_TITLE_OF_MORE_THAN_16}"}',
        '{"StorageAccessOnFind": "${X}"}',
        '{"DicomModalities": {"ct": ["CT", "${HOST:-192.0.2.1}", ${CT_PORT}, "${MAKER}"]}}',
        '{"DicomModalities": {"ct": {"AET": "CT", "Host": "${HOST}", "Port": "${CT_PORT}"}}}',
        '{"RegisteredUsers": {"${USER}": "${PASSWORD}"}}',
    ],
)
def test_environment_variables_are_no_mistake_in_a_file(validate, text):
    assert validate(a=text) == {"problems": [], "warnings": []}


def test_a_default_of_a_variable_is_judged(validate):
    (problem,) = validate(a='{"HttpPort": ${PORT:-99999}}')["problems"]
    assert "99999" in problem


def test_what_orthanc_passes_over_in_a_file_is_warned_about(validate, tmp_path):
    text = '{"StableAge": 1,\n"StableAge": 2, "_comment": "x", "//Name": "y"}\nand more'
    place = f"{tmp_path}/a.json"
    assert validate(a=text) == {
        "problems": [],
        "warnings": [
            f'{place}: line 2: "StableAge" is there a second time, and Orthanc takes the last',
            f"{place}: line 3: Orthanc does not read what stands behind the closing brace",
            f"{place}: _comment: nobody reads it, like a comment",
            f"{place}: //Name: nobody reads it, like a comment",
        ],
    }


def test_a_misspelt_option_is_no_comment(validate):
    assert "HttpPrt" in validate(a='{"HttpPrt": 1}')["problems"][0]


def test_the_formulas_own_words_are_never_hidden(validate):
    """Whatever the password is: these would be riddles."""
    users = '"RegisteredUsers": {"a": "orthanc", "b": "unknown", "c": "option", "d": "must"}'
    verdict = validate(a="{" + users + ', "HttpPrt": 1, "HttpPort": "1", "LimitFindResults": 0}')
    assert len(verdict["problems"]) == 2
    assert verdict["warnings"]
    assert "(hidden)" not in str(verdict)
