"""What ``validate`` says of the files of a folder."""

import json
import os

import orthanc_conf
import orthanc_files
import orthanc_folder
import orthanc_host
import orthanc_index
import orthanc_options
import pytest
from salt.exceptions import CommandExecutionError, SaltInvocationError


@pytest.fixture
def validate(tmp_path, monkeypatch):
    """A function from the texts of files to what ``validate`` says of their folder."""
    monkeypatch.setattr(orthanc_options.shutil, "which", lambda _: None)

    def validate(**texts):
        for name, text in texts.items():
            (tmp_path / f"{name}.json").write_text(text)
        return orthanc_conf.validate(str(tmp_path))

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
    found = validate(a="{" + users + ', "HttpPrt": 1, "HttpPort": "1", "LimitFindResults": 0}')
    assert len(found["problems"]) == 2
    assert found["warnings"]
    assert "(hidden)" not in str(found)


@pytest.mark.parametrize(
    ("function", "arguments"), [("validate", ()), ("restore", ("/etc/orthanc",))]
)
def test_what_only_root_may_do_says_so(function, arguments, monkeypatch):
    monkeypatch.setattr(orthanc_conf.os, "geteuid", lambda: 1000)
    with pytest.raises(CommandExecutionError, match="only root may do this; call it with sudo"):
        getattr(orthanc_conf, function)(*arguments)


def test_a_file_that_is_closed_to_who_asks_is_not_called_wrong(tmp_path, monkeypatch):
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(CommandExecutionError, match=r"a\.json: Orthanc does not start"):
        orthanc_folder.effective(str(tmp_path))
    monkeypatch.setattr(orthanc_folder.os, "access", lambda *_: False)
    with pytest.raises(CommandExecutionError, match=r"a\.json cannot be read; call it as root"):
        orthanc_folder.effective(str(tmp_path))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (os.mkfifo, "x.json is no file"),
        (lambda path: os.symlink("x.json", path), "x.json is no file"),
        (lambda path: os.symlink("/dev/zero", path), "x.json is no file"),
        (lambda path: path.write_bytes(b"\0\0"), "does not start with this file: line 1"),
        (lambda path: path.write_text('{"a": ' + "[" * 9999), "nested too deeply"),
        (lambda path: os.truncate(os.open(path, os.O_CREAT | os.O_RDWR), 100 << 20), "4 MB"),
    ],
)
def test_what_is_no_configuration_is_named_at_once(tmp_path, make, said):
    make(tmp_path / "x.json")
    with pytest.raises(CommandExecutionError, match=said):
        orthanc_folder.effective(str(tmp_path))
    (problem,) = orthanc_conf.validate(str(tmp_path))["problems"]
    assert said in problem
    assert problem.startswith(str(tmp_path / "x.json"))
    assert orthanc_folder.options(str(tmp_path)) == {}


def test_what_cannot_be_read_is_an_error_for_people_and_for_who_goes_on(tmp_path):
    os.mkfifo(tmp_path / "x.json")
    for error in (OSError, CommandExecutionError):
        with pytest.raises(error, match=r"x\.json is no file"):
            orthanc_files.read_if_there(str(tmp_path / "x.json"))


def test_a_nul_in_a_path_is_no_error_of_python(tmp_path):
    options = {"StorageDirectory": "a\0b", "LuaScripts": ["\0"], "Plugins": ["\0", "x\0"]}
    (tmp_path / "x.json").write_text(json.dumps(options))
    assert orthanc_conf.validate(str(tmp_path))["problems"]
    index = orthanc_index.copied("a\0b/index")
    with pytest.raises(CommandExecutionError, match="there is no index"), index:
        pass
    assert orthanc_host.backend("a\0b/index") != "SQLite"


@pytest.mark.parametrize("number", [1, 10**23, -1])
def test_a_number_is_no_folder_and_no_file(number):
    """It would be that of a file which is open already."""
    for function in (orthanc_folder.chosen, orthanc_conf.validate, orthanc_conf.effective):
        with pytest.raises(SaltInvocationError, match=f"{number}"):
            function(number)
