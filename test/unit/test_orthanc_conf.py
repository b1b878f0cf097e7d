"""What ``validate`` says of the files of a folder."""

import orthanc_conf
import orthanc_folder
import orthanc_options
import pytest
from salt.exceptions import CommandExecutionError


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
    with pytest.raises(CommandExecutionError, match=r"a\.json is not valid JSON"):
        orthanc_folder.effective(str(tmp_path))
    monkeypatch.setattr(orthanc_folder.os, "access", lambda *_: False)
    with pytest.raises(CommandExecutionError, match=r"a\.json cannot be read; call it as root"):
        orthanc_folder.effective(str(tmp_path))
