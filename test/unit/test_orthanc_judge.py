"""What is said of a configuration before anything is done."""

import copy

import orthanc_judge
import orthanc_paths
import orthanc_tables
import pytest
from hypothesis import given
from hypothesis import strategies as st
from layers import layers

NAMES = st.text("abcABC", min_size=1, max_size=3)
SCALARS = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text(max_size=5)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3)
)
BARE = {"layers": [], "main_file": "orthanc.json", "option_files": {}}
FROM, OVER = "orthanc:modalities", "orthanc:config:DicomModalities"
OPTION_NAMES = sorted({*orthanc_tables.OPTIONS, *orthanc_tables.SECTIONS})


@given(st.dictionaries(st.sampled_from(OPTION_NAMES) | st.text(max_size=5), VALUES, max_size=4))
def test_any_options_are_judged_and_stay_as_they_are(options):
    before = copy.deepcopy(options)
    case = orthanc_judge.case("/nonexistent", {**BARE, "layers": layers(options)}, host=False)
    found = orthanc_judge.judge(case)
    assert options == before
    for sentence in found["problems"] + found["warnings"]:
        assert sentence.startswith("orthanc:config:")


@pytest.mark.parametrize("name", [5, True, None, ""])
@pytest.mark.parametrize("value", [1, "x", {None: 1, 3: {4: None}}])
def test_a_name_that_is_no_text_is_an_unknown_option(name, value):
    of = [{"option": [name], "value": value}]
    case = orthanc_judge.case("/nonexistent", {**BARE, "layers": of}, host=False)
    (problem,) = orthanc_judge.judge(case)["problems"]
    assert problem.startswith(f"orthanc:config:{name}: unknown option")


@pytest.mark.parametrize(
    ("writer", "name", "words"),
    [
        ("root", "new", []),
        ("root", "folder", []),
        ("root", "link", ["folder: {0}/link is a link; write where it leads to, {0}/folder"]),
        ("root", "gone", ["folder: {0}/gone is a link; write where it leads to, {0}/nowhere"]),
        ("root", "file", ["folder: {0}/file is no folder"]),
        ("no-such-account", "new", ["writer: this host has no account no-such-account; make it"]),
        ("no-such-account", "file", ["writer: this host has no", "folder: {0}/file is no folder"]),
    ],
)
def test_a_folder_that_cannot_be_made_for_others_is_named(tmp_path, writer, name, words):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "folder")
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    found = orthanc_paths.unmade({str(tmp_path / name): writer})
    assert len(found) == len(words)
    for sentence, word in zip(found, words):
        assert sentence.startswith(f"orthanc:worklists:{word.format(tmp_path)}")


@pytest.mark.parametrize(
    ("refused", "warned"),
    [
        ([], ["remote_access", "users"]),
        (["orthanc:users:ward:role: must be admin, writer, reader or monitor"], ["remote_access"]),
        # The remedy is there already, with a mistake in it.
        (["orthanc:https:key: is an empty text"], ["users"]),
        (["orthanc:config:HttpPrt: unknown option", "orthanc:port: x"], ["remote_access", "users"]),
        (["orthanc: must be a mapping"], []),
    ],
)
def test_no_warning_tells_of_a_default_in_the_place_of_what_was_refused(refused, warned):
    asked = {"RemoteAccessAllowed": "remote_access", "AuthenticationEnabled": "users"}
    of = [
        {"option": [option], "value": option.startswith("R"), "origin": f"orthanc:{key}"}
        for option, key in asked.items()
    ]
    case = orthanc_judge.case("/nonexistent", {**BARE, "layers": of}, host=False)
    warnings = orthanc_judge.judge(case, refused)["warnings"]
    assert [line.split(":")[1] for line in warnings] == warned


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
    found = {"orthanc_options.check": lambda *_, **__: [(path, "x")]}
    monkeypatch.setattr(orthanc_judge, "__salt__", {**orthanc_judge.__salt__, **found})
    of = [
        {"option": ["HttpPort"], "value": 1, "origin": "orthanc:port"},
        {
            "option": ["DicomModalities"],
            "value": {"ct": [], "mr": 1},
            "origin": "orthanc:modalities",
        },
        {"option": ["RegisteredUsers", "anna"], "origin": "orthanc:users:anna:password"},
        {
            "option": ["DicomModalities"],
            "value": {"mr": []},
            "origin": "orthanc:config:DicomModalities",
        },
    ]
    case = orthanc_judge.case("/nonexistent", {**BARE, "layers": of}, host=False)
    assert orthanc_judge.judge(case)["problems"] == [f"{origin}: x"]


def test_a_key_that_is_two_options_is_told_once():
    of = [{"option": [option], "value": 0, "origin": "orthanc:x"} for option in ("a", "b")]
    case = orthanc_judge.case("/nonexistent", {**BARE, "layers": of}, host=False)
    found = [(["a"], "s"), (["b"], "s"), (["b"], "t"), "as it is"]
    assert orthanc_judge.lines(case, found) == ["orthanc:x: s", "orthanc:x: t", "as it is"]


@pytest.mark.parametrize(
    ("refused", "default", "told"),
    [
        ([], True, True),
        (["orthanc:dicom:enabld: unknown key"], True, False),
        (["orthanc:dicom:enabld: unknown key"], False, True),
        (["orthanc:dicomweb:enabld: unknown key"], True, True),
    ],
)
def test_what_follows_from_a_misspelt_key_alone_is_not_told(refused, default, told):
    off = {"origin": "orthanc:dicom:enabled", "default": default}
    on = {"option": ["Worklists", "Enable"], "value": True, "origin": "orthanc:worklists:enabled"}
    of = [{"option": ["DicomServerEnabled"], "value": False, **off}, on]
    case = orthanc_judge.case("/nonexistent", {**BARE, "layers": of}, host=False)
    problems = orthanc_judge.judge(case, refused)["problems"]
    assert any("DicomServerEnabled is false" in line for line in problems) is told
