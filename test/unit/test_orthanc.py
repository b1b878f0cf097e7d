"""What the module of the server does to files."""

import os

import orthanc_log
import orthanc_requests
import orthanc_server
import pytest


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
