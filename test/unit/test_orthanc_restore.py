"""What was restored takes the place of what the server has, also after an interruption; a study."""

import os
import pwd
import sqlite3
import zlib

import orthanc_index
import orthanc_restore
import pytest
from salt.exceptions import CommandExecutionError, SaltInvocationError

ME = {"user": pwd.getpwuid(os.geteuid()).pw_name, "group": "root"}
TABLES = """
CREATE TABLE Resources(internalId INTEGER PRIMARY KEY, resourceType INTEGER, publicId TEXT,
  parentId INTEGER);
CREATE TABLE AttachedFiles(id INTEGER, fileType INTEGER, uuid TEXT, compressionType INTEGER);
CREATE TABLE DicomIdentifiers(id INTEGER, tagGroup INTEGER, tagElement INTEGER, value TEXT);
INSERT INTO Resources VALUES (1, 1, 'aa-1', NULL), (2, 2, 'aa-2', 1), (3, 3, 'aa-3', 2),
  (4, 4, 'aa-4', 3), (5, 4, 'aa-5', 3), (6, 2, 'aa-6', 1);
INSERT INTO AttachedFiles VALUES (4, 1, 'one', 1), (4, 2, 'json', 1), (5, 1, 'two', 2);
INSERT INTO DicomIdentifiers VALUES (2, 32, 13, '1.2.3'), (3, 32, 14, '1.2.3'), (6, 32, 13, '9');
"""


@pytest.fixture
def server(tmp_path):
    """The folders of a server with images, and beside its images a backup that is there whole."""
    storage, index = tmp_path / "storage", tmp_path / "index"
    restored = storage / ".orthanc-restore"
    for path, text in {
        storage / "ab/cd/old": "old",
        storage / "note": "of somebody else",
        index / "index": "old",
        index / "index-wal": "old",
        restored / "srv/db/ab/cd/new": "new",
        restored / "srv/db/ef/01/new": "new",
        restored / "srv/db/.orthanc-backup/index": "new",
        restored / "whole": "5f",
    }.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    options = {"StorageDirectory": str(storage), "IndexDirectory": str(index)}
    manifest = {"storage": "/srv/db", "aside": "/srv/db/.orthanc-backup", "database": False}
    return options, manifest


def texts(folder):
    """Return the text of each file below a folder."""
    return {str(p.relative_to(folder)): p.read_text() for p in folder.rglob("*") if p.is_file()}


def is_in_place(tmp_path, kept):
    index = {"index/index": "new"}
    images = {"storage/ab/cd/new": "new", "storage/ef/01/new": "new"}
    old = {f"{kept}/ab/cd/old": "old", f"{kept}/index": "old", f"{kept}/index-wal": "old"}
    return texts(tmp_path) == {**index, **images, **old, "storage/note": "of somebody else"}


def test_what_was_there_is_kept(server, tmp_path):
    options, manifest = server
    kept = orthanc_restore.put(options, ME, manifest)
    assert is_in_place(tmp_path, os.path.relpath(kept, tmp_path))


@pytest.mark.parametrize("step", range(1, 8))
def test_it_goes_on_where_it_was_interrupted(server, tmp_path, monkeypatch, step):
    options, manifest = server
    left = [step]

    class Killed(BaseException):
        pass

    def killing(real):
        def call(*words, **given):
            left[0] -= 1
            if left[0] == 0:
                raise Killed
            return real(*words, **given)

        return call

    with monkeypatch.context() as patched:
        for module, name in ((os, "rename"), (orthanc_restore.shutil, "rmtree")):
            patched.setattr(module, name, killing(getattr(module, name)))
        with pytest.raises(Killed):
            orthanc_restore.put(options, ME, manifest)
    kept = orthanc_restore.put(options, ME, manifest)
    assert is_in_place(tmp_path, os.path.relpath(kept, tmp_path))


def test_an_empty_server_has_nothing_to_keep(server, tmp_path):
    options, manifest = server
    for path in ("storage/ab/cd/old", "index/index", "index/index-wal"):
        (tmp_path / path).unlink()
    (tmp_path / "storage/ab/cd").rmdir()
    (tmp_path / "storage/ab").rmdir()
    assert orthanc_restore.put(options, ME, manifest) is None
    assert (tmp_path / "index/index").read_text() == "new"
    assert not [path for path in os.listdir(tmp_path / "storage") if path.startswith(".")]


@pytest.fixture
def index(tmp_path):
    path = str(tmp_path / "index")
    connection = sqlite3.connect(path)
    connection.executescript(TABLES)
    connection.close()
    with orthanc_index.of_copy(path) as index:
        yield index


@pytest.mark.parametrize("name", ["aa-2", "1.2.3"])
def test_the_files_of_a_study_are_found_by_either_of_its_names(index, name):
    found = sorted(orthanc_restore._of_study(index, name))
    assert found == [("aa-4", "one", 1), ("aa-5", "two", 2)]


def test_a_study_that_is_not_there_is_said(index):
    assert orthanc_restore._of_study(index, "aa-6") == []
    for name in ("aa-3", "aa-1", "4"):
        with pytest.raises(CommandExecutionError, match=f"{name} is not in this backup"):
            orthanc_restore._of_study(index, name)
    with pytest.raises(SaltInvocationError, match="StudyInstanceUID"):
        orthanc_restore._of_study(index, "1' OR 1")


@pytest.mark.parametrize(
    ("content", "kind"), [(b"DICM", 1), (b"\4\0\0\0\0\0\0\0" + zlib.compress(b"DICM"), 2)]
)
def test_an_image_is_written_as_it_was_sent(tmp_path, content, kind):
    (tmp_path / "file").write_bytes(content)
    target = str(tmp_path / "image.dcm")
    assert orthanc_restore._write_image(str(tmp_path / "file"), target, kind) == target
    assert (tmp_path / "image.dcm").read_bytes() == b"DICM"


@pytest.mark.parametrize("target", ["", "relative", "{full}"])
def test_only_an_empty_folder_is_restored_into(tmp_path, target):
    (tmp_path / "file").touch()
    with pytest.raises(SaltInvocationError, match="an empty folder"):
        orthanc_restore.into_folder({}, {}, target.format(full=tmp_path))
