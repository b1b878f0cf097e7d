"""What was restored takes the place of what the server has, also after an interruption."""

import os
import pathlib
import pwd

import orthanc_restore
import pytest
from salt.exceptions import CommandExecutionError

ME = {"user": pwd.getpwuid(os.geteuid()).pw_name, "group": "root"}


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
        restored / "whole": '{"id": "5f"}',
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


def test_what_an_earlier_restore_has_brought_is_taken_along(tmp_path):
    known = {name * 8: (3, "md5", "resource") for name in ("aaaa", "bbbb", "cccc")}
    storage, aside = tmp_path / "storage", tmp_path / "aside"
    for folder, text in (("aa/aa", "one"), ("bb/bb", "other")):
        path = storage / folder / (folder.replace("/", "") * 8)
        path.parent.mkdir(parents=True)
        path.write_text(text)
    lacking = orthanc_restore._lacking(known, str(storage), str(aside), "/srv/db")
    assert lacking == [f"/srv/db/bb/bb/{'bbbb' * 8}", f"/srv/db/cc/cc/{'cccc' * 8}"]
    assert texts(aside) == {f"srv/db/aa/aa/{'aaaa' * 8}": "one"}


def test_one_that_fails_leaves_the_room_to_the_server(tmp_path):
    aside = tmp_path / ".orthanc-restore"
    with pytest.raises(OSError, match="no space"), orthanc_restore._whole_or_empty(
        str(aside), {"id": "5f"}
    ):
        (aside / "srv").mkdir()
        (aside / "srv/image").write_text("half of i")
        raise OSError("no space left on device")
    assert texts(aside) == {"chosen": "5f"}


def test_what_is_left_of_another_one_is_not_taken_along(tmp_path):
    """As where a folder cannot be removed."""
    aside = tmp_path / ".orthanc-restore"
    (aside / "srv").mkdir(parents=True)
    refused = pytest.raises(CommandExecutionError, match="cannot be emptied")
    with refused, orthanc_restore._whole_or_empty(str(aside), {"id": "5f"}):
        pytest.fail("it was taken along")


def test_an_empty_server_has_nothing_to_keep(server, tmp_path):
    options, manifest = server
    for path in ("storage/ab/cd/old", "index/index", "index/index-wal"):
        (tmp_path / path).unlink()
    (tmp_path / "storage/ab/cd").rmdir()
    (tmp_path / "storage/ab").rmdir()
    assert orthanc_restore.put(options, ME, manifest) is None
    assert (tmp_path / "index/index").read_text() == "new"
    assert not [path for path in os.listdir(tmp_path / "storage") if path.startswith(".")]


def test_images_that_came_in_between_are_kept(server, tmp_path, monkeypatch):
    """The power is cut as the first folder is there; at boot Orthanc begins anew and stores."""
    options, manifest = server
    real, left = os.rename, [2]

    def cut(old, new):
        left[0] -= "restore" in old
        if not left[0]:
            raise KeyboardInterrupt
        real(old, new)

    with monkeypatch.context() as patched:
        patched.setattr(os, "rename", cut)
        with pytest.raises(KeyboardInterrupt):
            orthanc_restore.put(options, ME, manifest)
    assert orthanc_restore.interrupted(options)
    for path in ("storage/ef/02/between", "index/index", "index/index-wal"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("between")
    kept = os.path.relpath(orthanc_restore.put(options, ME, manifest), tmp_path)
    found = texts(tmp_path)
    between = {f"{kept}/ef/02/between", f"{kept}/index.1", f"{kept}/index-wal.1"}
    assert {path for path, text in found.items() if text == "between"} == between
    assert found["index/index"] == found["storage/ef/01/new"] == found["storage/ab/cd/new"] == "new"
    assert found[f"{kept}/index"] == found[f"{kept}/ab/cd/old"] == "old"
    assert not orthanc_restore.interrupted(options)


SNAPSHOTS = [{"id": "5f0c", "n": 1}, {"id": "5f0d", "n": 2}, {"id": "00123456ab", "n": 3}]


@pytest.mark.parametrize(
    ("snapshot", "words"),
    [
        ("latest", 3),
        ("5f0c", 1),
        (123456, 3),
        ("5f", "more than one"),
        ("", "no such"),
        ("z", "no such"),
        (None, "no such"),
    ],
)
def test_a_backup_is_chosen_by_the_beginning_of_its_name(monkeypatch, snapshot, words):
    monkeypatch.setitem(
        orthanc_restore.__salt__, "orthanc_restic.snapshots", lambda job, host: SNAPSHOTS
    )
    if isinstance(words, int):
        assert orthanc_restore.chosen({"host": "h"}, snapshot)["n"] == words
    else:
        with pytest.raises(CommandExecutionError, match=words):
            orthanc_restore.chosen({"host": "h"}, snapshot)


def test_what_was_begun_goes_on_with_the_same_backup(server, monkeypatch):
    """Where the server has no images yet; otherwise the last backup is meant."""
    options, _ = server
    job, images = {"user": "orthanc", "group": "orthanc"}, [0]
    monkeypatch.setattr(orthanc_restore, "_images", lambda *_: images[0])
    assert orthanc_restore.begun(job, options) is None
    aside = pathlib.Path(options["StorageDirectory"], ".orthanc-restore")
    (aside / "chosen").write_text("5f")
    assert orthanc_restore.begun(job, options) == "5f"
    images[0] = 1
    assert orthanc_restore.begun(job, options) is None
    (aside / "begun").touch()
    assert orthanc_restore.begun(job, options) == "5f"


def test_links_in_the_way_are_not_followed(server, tmp_path):
    """In what was restored, and in the folder of the index; whoever has planted them."""
    options, manifest = server
    (tmp_path / "of root").mkdir(mode=0o755)
    restored = tmp_path / "storage/.orthanc-restore/srv/db"
    (restored / "ab/cd/dangling").symlink_to(tmp_path / "none")
    (restored / "ff").symlink_to(tmp_path / "none")
    orthanc_restore._give(str(restored), pwd.getpwuid(os.geteuid()))
    (tmp_path / "index/.index.restored").symlink_to(tmp_path / "of root")
    orthanc_restore.put(options, ME, manifest)
    assert (tmp_path / "index/index").read_text() == "new"
    assert list((tmp_path / "of root").iterdir()) == []
    assert (tmp_path / "of root").stat().st_mode & 0o777 == 0o755
