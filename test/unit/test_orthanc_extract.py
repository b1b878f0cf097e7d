"""A backup, or one study of it, restored into a folder."""

import contextlib
import os
import sqlite3
import zlib

import orthanc_extract
import orthanc_index
import pytest
from salt.exceptions import CommandExecutionError, SaltInvocationError

TABLES = """
CREATE TABLE Resources(internalId INTEGER PRIMARY KEY, resourceType INTEGER, publicId TEXT,
  parentId INTEGER);
CREATE TABLE AttachedFiles(id INTEGER, fileType INTEGER, uuid TEXT, compressionType INTEGER,
  compressedSize INTEGER, compressedMD5 TEXT);
CREATE TABLE DicomIdentifiers(id INTEGER, tagGroup INTEGER, tagElement INTEGER, value TEXT);
INSERT INTO Resources VALUES (1, 1, 'aa-1', NULL), (2, 2, 'aa-2', 1), (3, 3, 'aa-3', 2),
  (4, 4, 'aa-4', 3), (5, 4, 'aa-5', 3), (6, 2, 'aa-6', 1);
INSERT INTO AttachedFiles VALUES (4, 1, 'one', 1, 3, 'f97c5d29941bfb1b2fdab0874906ab82'),
  (4, 2, 'json', 1, 9, ''), (5, 1, 'two', 2, 7, '');
INSERT INTO DicomIdentifiers VALUES (2, 32, 13, '1.2.3'), (3, 32, 14, '1.2.3'), (6, 32, 13, '9');
"""


@pytest.fixture
def index(tmp_path):
    path = str(tmp_path / "known")
    connection = sqlite3.connect(path)
    connection.executescript(TABLES)
    connection.close()
    with orthanc_index.of_copy(path) as index:
        yield index


@pytest.mark.parametrize("name", ["aa-2", "1.2.3"])
def test_the_files_of_a_study_are_found_by_either_of_its_names(index, name):
    found = sorted(orthanc_extract._of_study(index, name))
    assert found == [
        ("aa-4", "one", 1, 3, "f97c5d29941bfb1b2fdab0874906ab82"),
        ("aa-5", "two", 2, 7, ""),
    ]


def test_a_study_that_is_not_there_is_said(index):
    assert orthanc_extract._of_study(index, "aa-6") == []
    for name in ("aa-3", "aa-1", "4"):
        with pytest.raises(CommandExecutionError, match=f"{name} is not in this backup"):
            orthanc_extract._of_study(index, name)


@pytest.mark.parametrize(
    ("content", "kind"), [(b"DICM", 1), (b"\4\0\0\0\0\0\0\0" + zlib.compress(b"DICM"), 2)]
)
def test_an_image_is_written_as_it_was_sent(tmp_path, content, kind):
    (tmp_path / "file").write_bytes(content)
    target = str(tmp_path / "image.dcm")
    assert orthanc_extract._write_image(str(tmp_path / "file"), target, kind) == target
    assert (tmp_path / "image.dcm").read_bytes() == b"DICM"
    # The folder may be open to others.
    assert (tmp_path / "image.dcm").stat().st_mode & 0o777 == 0o600
    (tmp_path / "link").symlink_to(tmp_path / "file")
    with pytest.raises(OSError, match="symbolic links"):
        orthanc_extract._write_image(str(tmp_path / "link"), f"{target}.2", kind)


@pytest.mark.parametrize(
    ("one", "two", "left", "said"),
    [
        (b"one", b"7 bytes", ["aa-4", "aa-5"], None),
        (b"", b"7 bytes", ["aa-5"], r"of 1 images .* no sound file \(aa-4\); the other 1 are in"),
        (b"eno", b"7 bytes", ["aa-5"], r"\(aa-4\); the other 1 are in .* snapshot="),
        (b"one", b"cut", ["aa-4"], r"\(aa-5\); the other 1 are in"),
        (None, b"7 bytes", ["aa-5"], r"\(aa-4\); the other 1 are in"),
        (None, b"", [], r"of 2 images .* \(aa-4, aa-5\)\. An earlier one may have them"),
    ],
)
def test_no_damaged_file_is_restored_as_an_image(
    tmp_path, places, index, monkeypatch, one, two, left, said
):
    def restore(job, snapshot, target, paths):
        for path in paths:
            content = {"one": one, "two": two}.get(path.rpartition("/")[2])
            if content is not None:
                os.makedirs(os.path.dirname(target + path), exist_ok=True)
                with open(target + path, "wb") as file:
                    file.write(content)

    manifest = {"files": True, "database": False, "storage": "/images", "aside": "/aside"}
    for name, function in (
        ("orthanc_restic.restore", restore),
        ("orthanc_restic.manifest", lambda *_: manifest),
        ("orthanc_index.of_copy", lambda _: contextlib.nullcontext(index)),
    ):
        monkeypatch.setitem(orthanc_extract.__salt__, name, function)
    # None of these files is compressed.
    ask = index.ask
    index.ask = lambda statement: ask(statement.replace("a.compressionType", "1"))
    if said:
        with pytest.raises(CommandExecutionError, match=said):
            orthanc_extract.into_folder(*places, f"{tmp_path}/new", "1.2.3")
    else:
        orthanc_extract.into_folder(*places, f"{tmp_path}/new", "1.2.3")
    assert sorted(os.listdir(tmp_path / "new")) == [f"{image}.dcm" for image in left]


@pytest.fixture
def places(tmp_path):
    """What ``into_folder`` is told of the server, whose folders are there."""
    for name in ("etc", "images", "index"):
        (tmp_path / name).mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "images")
    options = {"StorageDirectory": f"{tmp_path}/images", "IndexDirectory": f"{tmp_path}/index"}
    return {"config": f"{tmp_path}/etc", "folder": "/f"}, {"id": "5f"}, options


@pytest.mark.parametrize(
    "target",
    [
        *("", "relative", "{0}", "/", None, 5, ["/srv"], "{0}/etc/x", "{0}/images", "{0}/link/x"),
        *("{0}/images/ab/cd", "{0}/file", "{0}/dangling", "{0}/nul\0", "{0}/index/../images/x"),
    ],
)
def test_only_an_empty_folder_of_nobody_is_restored_into(tmp_path, places, target):
    (tmp_path / "file").touch()
    (tmp_path / "dangling").symlink_to("/none")
    target = target.format(tmp_path) if isinstance(target, str) else target
    with pytest.raises(SaltInvocationError, match="empty folder that is none of Orthanc's own"):
        orthanc_extract.into_folder(*places, target)


@pytest.mark.parametrize("study", ["", "x' OR '1'='1", 1.2, 12, ["a"], "--help", "a\n"])
def test_only_a_name_is_a_study(tmp_path, places, study):
    with pytest.raises(SaltInvocationError, match="study must be"):
        orthanc_extract.into_folder(*places, f"{tmp_path}/new", study)
    assert not (tmp_path / "new").exists()


def test_what_failed_leaves_the_folder_as_it_was(tmp_path, places, monkeypatch):
    def fail(job, snapshot, target, paths):
        (tmp_path / "new/etc").mkdir()
        (tmp_path / "new/etc/half").touch()
        (tmp_path / "new/link").symlink_to("/etc")
        raise CommandExecutionError("no room")

    monkeypatch.setitem(orthanc_extract.__salt__, "orthanc_restic.restore", fail)
    for _ in range(2):
        with pytest.raises(CommandExecutionError, match="no room"):
            orthanc_extract.into_folder(*places, f"{tmp_path}/new")
        assert list((tmp_path / "new").iterdir()) == []
    (tmp_path / "full").touch()
    with pytest.raises(CommandExecutionError, match="restoring into"):
        orthanc_extract.into_folder(*places, f"{tmp_path}/full/x")
