"""Which files Orthanc reads at its start, and which of them hold something else by now."""

import hashlib
import os
import time

import orthanc_reads as reads
import pytest


@pytest.fixture
def started(monkeypatch):
    """A function that says when the Orthanc of the test was started; None for not at all."""
    return lambda when: monkeypatch.setattr(reads, "_started", lambda: when or 0.0)


def test_scripts_are_read_with_what_they_run_and_import(tmp_path):
    texts = {
        "a.lua": f'dofile("{tmp_path}/b.lua")',
        "b.lua": f"local f = loadfile '{tmp_path}/a.lua'",
        "main.py": "import os, helper\nfrom pack.inner import x\nimport missing",
        "helper.py": "from . import other",
        "other.py": "this is no Python",
        "pack/__init__.py": "",
        "pack/inner.py": "import helper",
        "unused.py": "",
        "plugins/libX.so": "",
        "plugins/readme.txt": "",
        "key.pem": "",
        "worklist/a.wl": "",
    }
    for name, text in texts.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    options = {
        "LuaScripts": ["a.lua", "none.lua"],
        "PythonScript": f"{tmp_path}/main.py",
        "Plugins": ["plugins"],
        "DicomTlsPrivateKey": f"{tmp_path}/key.pem",
        "Worklists": {"Enable": True, "Database": f"{tmp_path}/worklist"},
        "StorageDirectory": f"{tmp_path}/worklist",
        "HttpsCACertificates": f"{tmp_path}/key.pem",
    }
    found = [os.path.relpath(path, tmp_path) for path in reads.files(options, str(tmp_path))]
    unread = {"unused.py", "plugins/readme.txt", "worklist/a.wl"}
    assert set(found) == set(texts) - unread
    assert len(found) == len(set(found))


def test_what_changed_is_told_by_content_and_time(tmp_path, started):
    path = str(tmp_path / "x.lua")
    (tmp_path / "x.lua").write_text("one")
    written, now = os.stat(path).st_ctime, time.time()
    started(now + 10)
    known = reads.seen([path], {})
    assert known == {path: [hashlib.sha256(b"one").hexdigest(), written]}
    assert reads.changed([path], known) == []
    (tmp_path / "x.lua").write_text("two")
    # What runs was started after that: it has read it.
    assert reads.changed([path], known) == []
    for when in (now - 10, None):
        started(when)
        assert reads.changed([path], known) == [path]
        assert reads.seen([path], known) == known
    (tmp_path / "x.lua").write_text("one")
    assert reads.changed([path], known) == []
    os.unlink(path)
    assert reads.changed([], known) == [path]


def test_what_is_not_known_is_told_by_time(tmp_path, started):
    path = str(tmp_path / "x.lua")
    (tmp_path / "x.lua").write_text("one")
    for when, changed in ((time.time() - 10, [path]), (time.time() + 10, []), (None, [])):
        started(when)
        assert reads.changed([path], {}) == changed
    started(time.time() - 10)
    assert reads.seen([path], {}) == {}
