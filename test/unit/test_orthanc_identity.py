"""Whether images and index are those that Orthanc was last seen serving with."""

from __future__ import annotations

import contextlib
import os
import random
import sqlite3
import subprocess
import sys
import uuid

import orthanc_identity as identity
import pytest

DISK = {"mount": "/srv/images", "file_system": "ext4 /dev/sdb1 1 /"}
ROOT = {"mount": "/", "file_system": "ext4 /dev/sda1 2 /"}
NEW_DISK = {"mount": "/srv/images", "file_system": "ext4 /dev/sdc1 3 /"}
PATH, IMAGE, OTHER = "/srv/images", "ab/cd/abcd", "00/11/0011"
FILE = "/etc/orthanc.identity"


def known(place=DISK, images=(IMAGE,), index=DISK, **more):
    """What was noted; of an index in a database, where ``index`` is None."""
    index = index and {"path": "/srv/index", "least": 4096, **index}
    storage = {"path": PATH, "images": list(images), **place}
    return {"storage": storage, "index": index, "knows": None, "lacking": None, **more}


def seen(place=DISK, images=(IMAGE,), index=DISK, size=8192, **more):
    """What is there now, in the same places."""
    storage = {"path": PATH, "images": list(images), **place}
    noted = {"storage": {"path": PATH, **place}}
    if index:
        noted["index"] = {"path": "/srv/index", **index}
        index = {"path": "/srv/index", "size": size, "least": size, **index}
    return {
        **{"storage": storage, "index": index, "noted": noted, "kept": len(images)},
        **{"knows": None, "lacking": None, **more},
    }


# (what was noted, what is there now)
ACCEPTED = {
    "nothing is different": (known(), seen()),
    "a fresh host": ({}, seen(images=(), size=None)),
    "a fresh host, and PostgreSQL": ({}, seen(images=(), index=None)),
    "a restored backup": ({}, seen(lacking="", knows=True)),
    "a restored database": ({}, seen(index=None, lacking="", knows=True)),
    "no images yet": (known(images=()), seen(images=())),
    "the last image was deleted": (known(), seen(images=())),
    "the last one in a database too": (
        known(index=None, knows=True),
        seen(images=(), index=None, knows=False, lacking=""),
    ),
    "begun anew on the same disk": (known(), seen(images=(), size=None)),
    "all images were deleted, then came a new disk": (
        known(index=ROOT),
        seen(place=NEW_DISK, index=ROOT, images=(), knows=False, lacking=""),
    ),
    "the index was rewritten in less space on a new disk": (
        known(),
        seen(index=NEW_DISK, size=1024, knows=True, lacking=""),
    ),
    "copied to a new disk": (known(), seen(place=NEW_DISK, index=NEW_DISK)),
    "copied to a new disk, and all of them newer": (
        known(),
        seen(place=NEW_DISK, index=NEW_DISK, images=(OTHER,), kept=0),
    ),
    "copied from a disk of their own to the root": (known(), seen(place=ROOT, index=ROOT)),
    "the disk came later": (known(place=ROOT, index=ROOT), seen()),
    "no images, and the disk is gone": (known(images=()), seen(place=ROOT, images=())),
    "the index was moved to another folder": (
        {**known(), "index": {"path": "/srv/old", "least": 1 << 20, **ROOT}},
        seen(),
    ),
    "the index was moved to PostgreSQL": (known(), seen(index=None, knows=True, lacking="")),
    "the database was not asked": (known(index=None, knows=True), seen(index=None)),
    "what others left beside an empty index": (
        known(index=None, knows=False),
        seen(index=None, knows=False, lacking=""),
    ),
    "all images were deleted, what others left is not": (
        known(images=(IMAGE, OTHER, "x"), index=None, knows=True),
        seen(index=None, knows=False, lacking="", kept=1),
    ),
}
REFUSED = {
    "the disk is not mounted": (
        known(),
        seen(place=ROOT, images=(), index=ROOT, size=4096),
        "storage",
        (f"had images in {PATH}", "`mount /srv/images`", f"rm {FILE}", "/etc/fstab"),
    ),
    "nor is the one of the index": (
        known(),
        seen(place=ROOT, images=(), index=ROOT, size=None),
        "storage",
        ("mounted at /srv/images is not mounted there now",),
    ),
    "it is not mounted, and Orthanc has new images": (
        known(),
        seen(place=ROOT, images=(OTHER,), kept=0),
        "storage",
        ("none of them is there",),
    ),
    "an empty disk in the place of the other": (
        known(),
        seen(place=NEW_DISK, images=()),
        "storage",
        ("another file system is mounted at /srv/images", "findmnt /srv/images"),
    ),
    "an empty disk, and an index that knows what was there": (
        known(index=ROOT),
        seen(place=NEW_DISK, index=ROOT, images=(), knows=True, lacking=IMAGE),
        "storage",
        ("another file system is mounted at /srv/images",),
    ),
    "an empty disk with an index of its own": (
        known(),
        seen(place=NEW_DISK, index=NEW_DISK, images=(), knows=False, lacking=""),
        "storage",
        ("another file system is mounted at /srv/images",),
    ),
    "a disk over the images": (
        known(place=ROOT),
        seen(images=()),
        "storage",
        ("mounted at /srv/images now, and hides them", "findmnt /srv/images"),
    ),
    "the index is gone": (known(), seen(size=None), "index", ("/srv/index/index is not there",)),
    "and never was": ({}, seen(size=None), "index", ("move /srv/images aside",)),
    "the index is gone with its disk": (
        known(),
        seen(index=ROOT, size=None),
        "index",
        ("mount its disk (`mount /srv/images`)",),
    ),
    "a new index, without its disk": (
        known(),
        seen(index=ROOT, size=1024),
        "index",
        ("is another index", f"rm {FILE}"),
    ),
    "a new index, as large as the other": (
        known(),
        seen(index=ROOT, knows=False, lacking=""),
        "index",
        ("is another index", "`mount /srv/images`"),
    ),
    "the database was made anew": (
        known(index=None, knows=True),
        seen(index=None, knows=False, lacking=""),
        "index",
        ("the database knows none of them", "Restore the database"),
    ),
    "a database that is new, of images that are not": (
        {},
        seen(index=None, knows=False, lacking=""),
        "index",
        ("the database knows none of them",),
    ),
    "a restored index without the images": (
        {},
        seen(images=(), lacking=IMAGE, knows=True),
        "storage",
        (f"files are not in {PATH}, such as {PATH}/{IMAGE}", "restore them", "/srv/index/index"),
    ),
    "a restored database without the images": (
        {},
        seen(images=(), index=None, lacking=IMAGE, knows=True),
        "storage",
        ("restore them", "rename its database"),
    ),
}
REMAINING = known(index=None, knows=True, lacking="")


@pytest.mark.parametrize("case", ACCEPTED)
def test_what_may_change(case):
    for served in (False, True):
        found = identity.judge(*ACCEPTED[case], FILE, served)
        # A server's own database may be empty beside what others left there.
        assert found == {"problems": [], "warnings": []}


@pytest.mark.parametrize("case", REFUSED)
def test_what_must_not(case):
    before, now, part, words = REFUSED[case]
    found = identity.judge(before, now, FILE)
    ((which, sentence),) = found["problems"]
    assert (which, found["warnings"]) == (part, [])
    for word in words:
        assert word in sentence


@pytest.mark.parametrize(
    ("before", "images", "running", "kind"),
    [
        # Seen serving by a formula that noted nothing, or with the same loss.
        ({}, (), True, "warnings"),
        ({}, (OTHER,), False, "warnings"),
        ({**REMAINING, "lacking": IMAGE}, (), False, "warnings"),
        # It serves with the rest.
        (REMAINING, (OTHER,), True, "warnings"),
        # Suddenly there is none; or it is down, and its index is another.
        (REMAINING, (), True, "problems"),
        (REMAINING, (OTHER,), False, "problems"),
        # What an index in SQLite knew cannot be told while it was in use.
        (known(), (OTHER,), False, "warnings"),
        (known(), (), False, "problems"),
    ],
)
def test_what_is_served_already_is_warned_about(before, images, running, kind):
    now = seen(images=images, index=None, lacking=IMAGE, knows=True)
    found = identity.judge(before, now, FILE, served=True, running=running)
    assert [part for part, _ in found[kind]] == ["storage"]
    assert not found["problems" if kind == "warnings" else "warnings"]


def test_an_empty_database_that_serves_is_left_alone():
    now = seen(index=None, knows=False, lacking="")
    assert not identity.judge({}, now, FILE, served=True)["problems"]


def store(folder, number=1):
    """Make files such as those of images, and return their UUIDs."""
    names = [str(uuid.UUID(int=position << 120)) for position in range(1, number + 1)]
    for name in names:
        (folder / name[:2] / name[2:4]).mkdir(parents=True, exist_ok=True)
        (folder / name[:2] / name[2:4] / name).touch()
    return names


def write_index(path, names, journal="DELETE"):
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA journal_mode={journal}")
        connection.execute("CREATE TABLE AttachedFiles(id INTEGER, uuid TEXT)")
        connection.executemany("INSERT INTO AttachedFiles VALUES (1, ?)", [(n,) for n in names])
        connection.commit()


def test_images_are_files_in_two_folders(tmp_path):
    assert identity.images(str(tmp_path / "none")) == []
    for name in ("lost+found", "index", "ab", "cd/ef"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "ab" / "cd").touch()
    (tmp_path / "cd" / "ef" / "notes.txt").touch()
    assert identity.images(str(tmp_path)) == []
    names = store(tmp_path, 40)
    found = identity.images(str(tmp_path))
    assert len(found) == identity.NOTED
    assert found[0] == f"{names[0][:2]}/{names[0][2:4]}/{names[0]}"
    assert all((tmp_path / path).is_file() for path in found)


@pytest.mark.parametrize("name", ["index", "in dex?#%41"])
def test_an_index_is_read_from_both_ends(tmp_path, name):
    path, names = tmp_path / name, [str(uuid.UUID(int=number)) for number in range(300)]
    write_index(path, names)
    before = sorted(os.listdir(tmp_path)), path.stat().st_mtime_ns
    found = identity.known_images(str(path))
    assert sorted(found) == sorted(names[:50] + names[-50:])
    assert (sorted(os.listdir(tmp_path)), path.stat().st_mtime_ns) == before


def test_what_is_no_index_tells_nothing(tmp_path):
    path = tmp_path / "index"
    assert identity.known_images(str(path)) is None
    for content in (
        b"",
        b"no database",
        b"SQLite format 3\0" + bytes(84),
        random.Random(12).randbytes(1 << 16),
    ):
        path.write_bytes(content)
        assert identity.known_images(str(path)) is None
    path.unlink()
    path.mkdir()
    assert identity.known_images(str(path)) is None
    path.rmdir()
    os.mkfifo(path)
    assert identity.known_images(str(path)) is None


def test_a_damaged_index_tells_what_it_can_or_nothing(tmp_path):
    path = tmp_path / "index"
    write_index(path, [str(uuid.UUID(int=number)) for number in range(3000)])
    whole, chance = path.read_bytes(), random.Random(12)
    for start in range(100, len(whole), 4000):
        path.write_bytes(whole[:start] + chance.randbytes(3000) + whole[start + 3000 :])
        found = identity.known_images(str(path))
        assert found is None or all(map(identity.UUID.fullmatch, found))
    path.write_bytes(whole[: len(whole) // 2])
    assert identity.known_images(str(path)) is None


def test_an_index_of_others_tells_nothing_of_images(tmp_path):
    path = tmp_path / "index"
    write_index(path, [None, 7, b"\xff", "../../etc/passwd", "no uuid"])
    assert identity.known_images(str(path)) == []
    path.unlink()
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE Other(x)")
    assert identity.known_images(str(path)) is None


LAST = str(uuid.UUID(int=7))
# Holds an index as Orthanc does, until its input ends.
HOLD = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1])
for words in ("locking_mode=EXCLUSIVE", "journal_mode=WAL"):
    connection.execute(f"PRAGMA {words}").fetchall()
connection.execute("INSERT INTO AttachedFiles VALUES (1, ?)", (sys.argv[2],))
connection.commit()
print("ready", flush=True)
sys.stdin.read()
"""


def test_an_index_in_use_is_left_alone(tmp_path):
    path = tmp_path / "index"
    write_index(path, store(tmp_path))
    assert identity.known_images(str(path))
    words = [sys.executable, "-c", HOLD, str(path), LAST]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(words, **pipes) as holder:
        assert holder.stdout.readline() == b"ready\n"
        assert identity.known_images(str(path)) is None
        # The lock alone tells, too.
        (tmp_path / "index-wal").rename(tmp_path / "aside")
        assert identity.known_images(str(path)) is None
        (tmp_path / "aside").rename(tmp_path / "index-wal")
        copied = tmp_path / "copied"
        copied.mkdir()
        for name in ("index", "index-wal"):
            (copied / name).write_bytes((tmp_path / name).read_bytes())
        holder.stdin.close()
    assert identity.known_images(str(path))
    # A copy of one that was in use is read with all that is in it, and stays as it is.
    assert identity.known_images(str(copied / "index"))[-1] == LAST
    assert sorted(os.listdir(copied)) == ["index", "index-wal"]


@pytest.mark.parametrize(("there", "lacking"), [(9, False), (5, False), (4, True), (0, True)])
def test_more_than_half_of_the_images_have_to_be_missing(tmp_path, there, lacking):
    names = store(tmp_path, 9)
    write_index(tmp_path / "index", names)
    for name in names[there:]:
        (tmp_path / name[:2] / name[2:4] / name).unlink()
    found = identity.look(str(tmp_path), str(tmp_path / "index"))
    assert bool(found["lacking"]) is lacking
    assert found["knows"] is True
    assert identity.look(str(tmp_path), None, uuids=names)["lacking"] == found["lacking"]
    assert bool(identity.judge({}, found, FILE)["problems"]) is lacking


def test_nothing_new_is_nothing_to_note(tmp_path):
    store(tmp_path, 3)
    (tmp_path / "index").write_bytes(bytes(5000))
    storage, index = str(tmp_path), str(tmp_path / "index")
    first = identity.note(identity.look(storage, index), {})
    assert first["index"]["least"] == 4096
    assert len(first["storage"]["images"]) == 3
    (tmp_path / "index").write_bytes(bytes(6000))
    again = identity.look(storage, index, first)
    assert again["kept"] == 3
    assert identity.note(again, first) == first
    assert identity.judge(first, again, FILE) == {"problems": [], "warnings": []}
    (tmp_path / "index").unlink()
    (problem,) = identity.judge(first, identity.look(storage, index, first), FILE)["problems"]
    assert problem[0] == "index"


@pytest.mark.parametrize("name", ["images", "with space", "line\nfeed", "back\\slash", "ü"])
def test_a_mount_point_is_told_by_its_name(tmp_path, name):
    point = tmp_path / name
    point.mkdir()
    (tmp_path / f"{name}2").mkdir()
    outside = identity.place(str(point))
    subprocess.run(["mount", "-t", "tmpfs", "a disk", str(point)], check=True)
    try:
        inside = identity.place(str(point))
        assert inside["mount"] == str(point)
        assert inside["file_system"].startswith("tmpfs a disk ")
        assert identity.place(str(point / "none" / "below"))["mount"] == str(point)
        (tmp_path / "link").symlink_to(point)
        assert identity.place(str(tmp_path / "link"))["mount"] == str(point)
        beside = identity.place(str(tmp_path / f"{name}2"))
        assert beside["mount"] == outside["mount"]
        assert not identity._is_same(inside, outside)
    finally:
        subprocess.run(["umount", str(point)], check=True)
    assert identity.place(str(point)) == outside


@pytest.mark.parametrize(
    ("options", "in_folder"),
    [
        ({}, True),
        ({"PostgreSQL": {"EnableIndex": True, "EnableStorage": False}}, True),
        ({"PostgreSQL": {"EnableIndex": True, "EnableStorage": True}}, False),
        ({"MySQL": {"EnableStorage": True}}, False),
        ({"AwsS3Storage": {}}, False),
        ({"AdvancedStorage": {}}, False),
        ({"AdvancedStorage": {"Enable": False}}, True),
        ({"DelayedDeletion": {"Enable": True}}, True),
        ({"Indexer": {"Enable": True, "Folders": ["/mnt/dicom"]}}, False),
        ({"Indexer": {"Enable": False}}, True),
        ({"S3": {}}, False),
        ({"MongoDB": {"EnableStorage": True}}, False),
        ({"Plugins": ["/x/libOrthancPostgreSQLStorage.so", "/x/libServeFolders.so"]}, True),
        ({"Plugins": ["/x/libOrthancAwsS3Storage.so"]}, False),
        ({"Plugins": ["/x/OrthancAzureBlobStorage.so.2.0"]}, False),
        ({"Plugins": None, "PythonScript": "/none.py"}, True),
    ],
)
def test_where_images_are_files_in_the_folder(options, in_folder):
    assert identity.in_folder(options) is in_folder


def test_a_script_may_keep_the_images_itself(tmp_path):
    script = tmp_path / "storage.py"
    for text, in_folder in (
        ("orthanc.RegisterRestCallback('/x', f)", True),
        ("orthanc.RegisterStorageArea3(create, read, remove)", False),
    ):
        script.write_text(text)
        assert identity.in_folder({"PythonScript": str(script)}) is in_folder
        assert identity.in_folder({"Python": {"Path": str(script)}}) is in_folder


def test_a_script_may_leave_the_images_to_a_module(tmp_path):
    script, module = tmp_path / "[x]" / "main.py", tmp_path / "[x]" / "archive" / "__init__.py"
    module.parent.mkdir(parents=True)
    script.write_text("import archive")
    module.write_text("import orthanc")
    assert identity.in_folder({"PythonScript": str(script)})
    module.write_text("import orthanc; orthanc.RegisterStorageArea(create, read, remove)")
    assert not identity.in_folder({"PythonScript": str(script)})


@pytest.mark.parametrize("closed", ["images", "index"])
def test_a_folder_that_root_may_not_enter_tells_nothing(tmp_path, monkeypatch, closed):
    images, index = tmp_path / "images", tmp_path / "index"
    images.mkdir()
    index.mkdir()
    write_index(index / "index", [str(uuid.uuid4())])
    assert identity.look(str(images), str(index / "index"))["lacking"]
    scan = os.scandir

    def squashed(path):
        if path == str(tmp_path / closed):
            raise PermissionError(path)
        return scan(path)

    monkeypatch.setattr(os, "scandir", squashed)
    assert identity.look(str(images), str(index / "index")) == {}


def test_a_note_is_known_by_its_shape(tmp_path):
    assert identity.is_note(known())
    assert identity.is_note(known(index=None))
    assert identity.is_note(identity.note(identity.look(str(tmp_path), f"{tmp_path}/index"), {}))
    values = (3, "x", {}, [])
    wrong = [{**known(), part: value} for part in ("storage", "index") for value in values]
    wrong += [{**known(), "storage": {**known()["storage"], "images": [3]}}, {}, [], None, 3]
    wrong += [{**known(), "storage": None}, {"storage": {}}]
    for value in wrong:
        assert not identity.is_note(value), value
