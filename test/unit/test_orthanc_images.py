"""The files of images, held against an index: a real one of SQLite, and real files."""

import contextlib
import hashlib
import os
import shutil
import sqlite3
import time
import uuid

import orthanc_images
import orthanc_index
import pytest
from salt.exceptions import CommandExecutionError, SaltInvocationError

ACCOUNT = {"user": "nobody", "group": "nogroup"}
TABLES = """
CREATE TABLE Resources(internalId INTEGER PRIMARY KEY, resourceType INTEGER, publicId TEXT,
  parentId INTEGER);
CREATE TABLE AttachedFiles(id INTEGER, fileType INTEGER, uuid TEXT, compressedSize INTEGER,
  uncompressedSize INTEGER, compressionType INTEGER, uncompressedMD5 TEXT, compressedMD5 TEXT);
"""
LONG_AGO = time.time() - 3600


class Archive:
    """A folder of images, and its index: studies of one series each, with some images."""

    def __init__(self, folder):
        self.folder, self.files = folder, {}
        self.options = {"StorageDirectory": str(folder), "IndexDirectory": str(folder)}
        self.index = sqlite3.connect(folder / "index")
        self.index.executescript(TABLES)
        self.number = 0

    def study(self, *images):
        patient = self.resource(1, None)
        study = self.resource(2, patient)
        series = self.resource(3, study)
        for image in images:
            self.file(self.resource(4, series), image)
        self.index.commit()
        return f"a{study}"

    def resource(self, kind, parent):
        self.number += 1
        row = (self.number, kind, f"a{self.number}", parent)
        self.index.execute("INSERT INTO Resources VALUES (?, ?, ?, ?)", row)
        return self.number

    def file(self, owner, content):
        name = self.lay(content)
        md5 = hashlib.md5(content).hexdigest()
        row = (owner, 1, name, len(content), len(content), 1, md5, md5)
        self.index.execute("INSERT INTO AttachedFiles VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
        self.files[content] = name

    def lay(self, content, age=LONG_AGO):
        """Put a file into the folder that no index knows yet."""
        name = str(uuid.uuid4())
        while (self.folder / name[:2]).exists():
            # Each in a folder of its own, which a test may remove.
            name = str(uuid.uuid4())
        path = self.path(name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(content)
        os.utime(path, (age, age))
        return name

    def path(self, name):
        return orthanc_images.path_of(str(self.folder), name)

    def read(self, name):
        with open(self.path(name), "rb") as file:
            return file.read()

    def verify(self, **how):
        return orthanc_images.verify(self.options, ACCOUNT, **how)

    def repair(self, **how):
        return orthanc_images.repair(self.options, ACCOUNT, **how)


@pytest.fixture
def archive(tmp_path):
    return Archive(tmp_path)


def test_nothing_is_found_where_nothing_is_wrong(archive):
    archive.study(b"one", b"two")
    archive.study(b"three")
    nothing = {"missing": [], "empty": [], "wrong": [], "orphans": [], "studies": []}
    assert archive.verify() == {"files": 3, "read": 3, **nothing}
    assert archive.verify(sample=1)["read"] == 1
    assert archive.verify(sample=50)["read"] == 2
    assert archive.verify(sample=0)["read"] == 0


def test_each_kind_of_damage_is_found_and_its_study_named(archive):
    first = archive.study(b"sound", b"missing", b"empty")
    archive.study(b"sound as well")
    third = archive.study(b"wrong", b"shorter")
    files = archive.files
    os.unlink(archive.path(files[b"missing"]))
    for content, now in ((b"empty", b""), (b"wrong", b"gnorw"), (b"shorter", b"short")):
        with open(archive.path(files[content]), "wb") as file:
            file.write(now)
    orphan = archive.lay(b"of nobody")
    # What was written a moment ago may not be known yet; other files are none of Orthanc's.
    archive.lay(b"coming", age=time.time())
    (archive.folder / "ab").mkdir(exist_ok=True)
    (archive.folder / "ab" / "notes.txt").write_text("x")
    found = archive.verify()
    assert found["missing"] == [files[b"missing"]]
    assert found["empty"] == [files[b"empty"]]
    assert found["wrong"] == sorted([files[b"wrong"], files[b"shorter"]])
    assert found["orphans"] == [orphan]
    assert found["studies"] == sorted([first, third])
    assert found["files"] == 6
    # Without reading, what has its size is taken for right.
    assert archive.verify(sample=0)["wrong"] == [files[b"shorter"]]


def test_what_was_deleted_meanwhile_is_not_missing(archive, monkeypatch):
    archive.study(b"stays", b"goes")
    name = archive.files[b"goes"]
    look = orthanc_images._look

    def delete(*arguments):
        os.unlink(archive.path(name))
        archive.index.execute("DELETE FROM AttachedFiles WHERE uuid = ?", (name,))
        archive.index.commit()
        return look(*arguments)

    monkeypatch.setattr(orthanc_images, "_look", delete)
    found = archive.verify()
    assert found["missing"] == found["studies"] == []


def test_what_is_certain_is_repaired_and_nothing_else(archive):
    study = archive.study(b"lost", b"kept elsewhere", b"sound")
    files = archive.files
    with open(archive.path(files[b"kept elsewhere"]), "wb"):
        pass
    os.unlink(archive.path(files[b"lost"]))
    # Root has restored it, into folders that Orthanc does not have yet.
    target = archive.path(files[b"kept elsewhere"])
    if not os.geteuid():
        os.chown(archive.folder, 65534, 65534)
    copy, twin, unknown = map(archive.lay, (b"kept elsewhere", b"sound", b"unknown"))
    expected = {
        "put back": {files[b"kept elsewhere"]: copy},
        "removed": [twin],
        "left": sorted([files[b"lost"], copy, unknown]),
        "studies": [study],
    }
    assert archive.repair() == expected
    assert archive.read(twin) == b"sound"
    assert archive.read(files[b"kept elsewhere"]) == b""
    shutil.rmtree(archive.folder / files[b"kept elsewhere"][:2])
    assert archive.repair(test=False) == expected
    owners = {os.stat(path).st_uid for path in (target, os.path.dirname(target), archive.folder)}
    assert len(owners) == 1
    assert os.stat(target).st_mode & 0o777 == 0o640
    assert archive.read(files[b"kept elsewhere"]) == b"kept elsewhere"
    assert not os.path.exists(archive.path(twin))
    assert archive.read(unknown) == b"unknown"
    # What was put back is sound now, so that its orphan is one of a sound file.
    assert archive.repair() == {
        **{"put back": {}, "removed": [copy], "studies": [study]},
        "left": sorted([files[b"lost"], unknown]),
    }


@pytest.mark.parametrize("test", [True, False])
def test_what_a_backup_has_sound_comes_back_and_nothing_else(archive, tmp_path, test):
    names = (b"empty", b"gone", b"wrong", b"deleted", b"nowhere", b"sound")
    archive.study(*names)
    files = {content: archive.files[content] for content in names}
    for content in (b"empty", b"wrong", b"deleted", b"nowhere"):
        with open(archive.path(files[content]), "wb"):
            pass
    os.unlink(archive.path(files[b"gone"]))

    @contextlib.contextmanager
    def spare(uuids):
        assert uuids == sorted(files[content] for content in names[:-1])
        for content in (b"empty", b"gone", b"deleted"):
            copy(files[content], content)
        copy(files[b"wrong"], b"gnorw")
        archive.index.execute("DELETE FROM AttachedFiles WHERE uuid = ?", (files[b"deleted"],))
        archive.index.commit()
        yield str(tmp_path / "backup")

    def copy(uuid, content):
        path = orthanc_images.path_of(str(tmp_path / "backup"), uuid)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(content)

    found = archive.repair(test=test, spare=spare)
    back = {files[content]: "the backup" for content in (b"empty", b"gone")}
    assert found["put back"] == back
    assert {files[content] for content in (b"wrong", b"nowhere")} <= set(found["left"])
    assert not set(back) & set(found["left"])
    for content in (b"empty", b"gone"):
        path = archive.path(files[content])
        assert (os.path.exists(path) and archive.read(files[content]) == content) is not test
    for content in (b"wrong", b"deleted", b"nowhere"):
        assert archive.read(files[content]) == b""


def test_what_is_being_stored_and_what_has_no_sound_twin_stays(archive, monkeypatch):
    archive.study(b"sound", b"no longer")
    late, twin = archive.lay(b"late"), archive.lay(b"no longer")
    verify = orthanc_images.verify

    def then(*arguments, **how):
        found = verify(*arguments, **how)
        # Its row comes while all is read; and another file is spoilt meanwhile.
        row = (2, 1, late, 4, 4, 1, "", hashlib.md5(b"late").hexdigest())
        archive.index.execute("INSERT INTO AttachedFiles VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
        archive.index.commit()
        with open(archive.path(archive.files[b"no longer"]), "wb") as file:
            file.write(b"NO LONGER")
        return found

    monkeypatch.setattr(orthanc_images, "verify", then)
    done = archive.repair(test=False)
    assert (done["removed"], done["left"]) == ([], [twin])
    assert archive.read(late) == b"late"


def test_reading_keeps_its_rate(archive):
    archive.study(bytes(300_000), bytes([1]) * 300_000)
    began = time.monotonic()
    archive.verify(rate=1)
    assert time.monotonic() - began > 0.5
    assert archive.verify(rate=0)["read"] == 2


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"PostgreSQL": {"EnableStorage": True, "EnableIndex": True}}, "no files in"),
        ({"StorageDirectory": "/nonexistent"}, "/nonexistent, is not there"),
        ({"IndexDirectory": "/nonexistent"}, "no index /nonexistent/index"),
    ],
)
def test_what_cannot_be_verified_is_said(archive, options, words):
    with pytest.raises(CommandExecutionError, match=words):
        orthanc_images.verify({**archive.options, **options}, ACCOUNT)


def test_a_damaged_index_is_no_index(archive):
    archive.study(*(bytes([number]) * 50 for number in range(200)))
    archive.index.close()
    path = archive.folder / "index"
    content = bytearray(path.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 3000] = bytes(3000)
    path.write_bytes(content)
    with pytest.raises(CommandExecutionError, match=r"is damaged|cannot be read"):
        archive.verify()
    assert [name for name in os.listdir(archive.folder) if name.startswith(".orthanc")] == []


def test_no_room_for_a_copy(archive, monkeypatch):
    archive.study(b"one")
    usage = orthanc_index.shutil._ntuple_diskusage(10**9, 10**9, 100)
    monkeypatch.setattr(orthanc_index.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(CommandExecutionError, match="make room first"):
        archive.verify()


@pytest.mark.parametrize(
    "given",
    [
        *({"sample": value} for value in (-1, 101, "all", None, True, [5])),
        *({"rate": value} for value in (-5, "fast", float("nan"))),
    ],
)
def test_what_is_no_number_is_said(archive, given):
    (name,) = given
    with pytest.raises(SaltInvocationError, match=f"{name} must be a number"):
        archive.verify(**given)


def test_links_are_named_for_what_follows_none(archive):
    archive.study(b"one", b"two")
    known = {name: (3, "", "") for name in archive.files.values()}
    links = lambda: orthanc_images.links(str(archive.folder), known)  # noqa: E731
    assert links() == []
    path = archive.path(archive.files[b"one"])
    os.rename(path, archive.folder / "elsewhere")
    os.symlink(archive.folder / "elsewhere", path)
    assert links() == [path]
    folder = os.path.dirname(path)
    os.rename(folder, archive.folder / "moved")
    os.symlink(archive.folder / "moved", folder)
    assert links() == [folder]


def test_repair_writes_nothing_but_images_and_waits_for_no_pipe(archive):
    archive.study(b"one", b"two")
    archive.lay(b"one")
    path = archive.path(archive.files[b"one"])
    other = archive.folder / "of root"
    other.write_text("as it was")
    os.unlink(path)
    os.symlink(other, f"{path}.new")
    pipe = archive.path(archive.lay(b""))
    os.unlink(pipe)
    os.mkfifo(pipe)
    os.utime(pipe, (LONG_AGO, LONG_AGO))
    assert list(archive.repair(test=False)["put back"]) == [archive.files[b"one"]]
    assert archive.read(archive.files[b"one"]) == b"one"
    assert other.read_text() == "as it was"


def test_where_the_index_has_no_sum_it_is_that_of_the_file(archive):
    archive.study(b"one", b"two")
    one, two = archive.files[b"one"], archive.files[b"two"]
    known = {one: (3, "", "a"), two: (3, "as the index has it", "b")}
    found = orthanc_images.with_sums(str(archive.folder), known)
    md5 = hashlib.md5(b"one").hexdigest()
    assert found == {one: (3, md5, "a"), two: (3, "as the index has it", "b")}
    os.unlink(archive.path(one))
    assert orthanc_images.with_sums(str(archive.folder), known)[one] == (3, "", "a")
