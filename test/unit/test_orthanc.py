"""What the module of the server does to files."""

import os

import orthanc_log
import orthanc_requests
import orthanc_server
import pytest
from salt.exceptions import CommandExecutionError


def test_a_log_that_is_rotated_between_two_looks(tmp_path):
    for number, name in enumerate(("Orthanc.log.1", "Orthanc.log.2")):
        (tmp_path / name).write_text(f"line {name}\n")
        os.utime(tmp_path / name, (number, number))
    (tmp_path / "Orthanc.log.3").mkdir()
    seen = [str(path) for path in tmp_path.iterdir()] + [str(tmp_path / "Orthanc.log.gone")]
    assert orthanc_log._newest(seen) == ["line Orthanc.log.2"]
    assert orthanc_log._newest([]) == []


@pytest.mark.parametrize("value", [None, 5, "x", True, []])
def test_options_of_a_wrong_kind_are_none(monkeypatch, value):
    options = {"RegisteredUsers": value, "LuaScripts": value}
    monkeypatch.setitem(orthanc_server.__salt__, "orthanc_folder.effective", lambda _: options)
    monkeypatch.setitem(orthanc_server.__salt__, "orthanc_nginx.found", dict)
    assert orthanc_server.access("/x")["users"] == ""
    assert orthanc_requests.folder(options) is None


@pytest.mark.parametrize(
    ("still", "said"), [(True, "a signal has stopped it"), (False, "within 60")]
)
def test_one_that_stands_still_is_not_waited_for(monkeypatch, still, said):
    """But as long as a backup may stop it."""
    clock = [0.0]
    monkeypatch.setattr(orthanc_server.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(orthanc_server.time, "sleep", lambda _: clock.append(clock.pop() + 1))
    functions = {
        "orthanc_folder.effective": lambda _: {},
        "orthanc_folder.scrub": lambda _, lines: lines,
        "orthanc_http.answers": lambda _: False,
        "orthanc_host.orthancs": lambda: ["/proc/7"],
        "orthanc_host.stands_still": lambda _: still,
        "orthanc_log.lines": lambda *_: [],
        "service.status": lambda _: True,
    }
    for name, function in functions.items():
        monkeypatch.setitem(orthanc_server.__salt__, name, function)
    with pytest.raises(CommandExecutionError, match=said):
        orthanc_server.wait("orthanc", "/x")
    assert 8 < clock[0] <= (12 if still else 62)
