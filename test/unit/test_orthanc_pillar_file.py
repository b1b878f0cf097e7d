"""The file of a pillar, before Salt reads it."""

import orthanc_pillar_file
import pytest
from salt.exceptions import SaltInvocationError

pytestmark = pytest.mark.each_salt


@pytest.fixture
def check(tmp_path, monkeypatch):
    """A function from a text without Jinja to what is said of it."""
    path = tmp_path / "orthanc.sls"
    monkeypatch.setitem(
        orthanc_pillar_file.__salt__, "slsutil.renderer", lambda string, **_: string
    )

    def check(text):
        path.write_text(text)
        orthanc_pillar_file.__context__ = {}
        found = [line.replace(str(path), "FILE") for line in orthanc_pillar_file.check(str(path))]
        return found, orthanc_pillar_file.__context__.get("retcode", 0)

    return check


USER = "orthanc:\n  users:\n    anna:\n      role: admin\n      password: "


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("orthanc:\n\tport: 1\n", "line 2", "tab"),
        ("orthanc:\n  \tport: 1\n", "line 2", "tab"),
        (USER + "%geheim\n", "line 5", "single quotes"),
        (USER + "@geheim\n", "line 5", "single quotes"),
        (USER + "ge: heim\n", "line 5", "single quotes"),
        (USER + "'geheim\n", "line 5", "quote is not closed"),
        (USER + "{geheim\n", "line", "single quotes"),
        ("orthanc:\n  port: 1\n users: {}\n", "line 3", "same column"),
        ("orthanc:\n  port: 1\n  port: 2\n", "line 3", "twice"),
        ("port: 1\n", "", "indent all settings below it"),
        ("", "", "Write `orthanc:`"),
        ("- orthanc\n", "", "Write `orthanc:`"),
    ],
)
def test_what_is_no_pillar_is_said_in_three_lines_without_a_secret(check, text, line, words):
    found, code = check(text)
    assert code == 1
    assert len(found) == 3
    assert found[0].startswith(f"FILE, {line}" if line else "FILE: ")
    assert words in " ".join(found)
    assert "heim" not in " ".join(found)


@pytest.mark.parametrize(
    "text", ["orthanc: {}\n", "#!yaml\northanc:\n", USER + "'a #b'\n", USER + "a#b\n"]
)
def test_a_pillar_is_nothing_to_speak_of(check, text):
    assert check(text) == ([], 0)


def test_a_comment_in_a_password_is_asked_about(check):
    (found,), code = check(USER + "abc #123\n")
    assert code == 0
    assert "line 5" in found and "abc" not in found


@pytest.mark.parametrize("path", [0, -1, True, None, "a\0b", [], "/nonexistent/\u2603"])
def test_what_is_no_path_cannot_be_read(path):
    with pytest.raises(SaltInvocationError, match="cannot be read"):
        orthanc_pillar_file.check(path)
