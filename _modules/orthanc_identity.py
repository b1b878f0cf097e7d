"""
The identity of images and index: whether they are those with which Orthanc was last seen serving.

Where the disk of the images is not mounted, or a database was restored without the files, Orthanc
starts all the same, and serves none of them. So it is noted where images and index were when it
served, on which file system, and some of the images' names. ``judge`` compares that with what is
there now, and the images with what the index knows of them; it is pure, ``look`` is not.

An image is a file ``ab/cd/abcd….``, named after its UUID, below the folder of the images.

https://orthanc.uclouvain.be/book/faq/orthanc-storage.html
"""

from __future__ import annotations

import contextlib
import fcntl
import glob
import os
import re
import shutil
import struct
import tempfile
import urllib.parse

import salt.utils.files

try:
    import sqlite3
except ImportError:  # not every Python has it
    sqlite3 = None

# How many images are noted, and from how many folders.
NOTED = 20
# How an index is asked for some of the files that it knows, the oldest and the newest ones.
ENDS = (
    "SELECT uuid FROM AttachedFiles ORDER BY rowid LIMIT 50",
    "SELECT uuid FROM AttachedFiles ORDER BY rowid DESC LIMIT 50",
)
UUID = re.compile("[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
FOLDER = re.compile("[0-9a-f]{2}")
# Up to what size an index is copied to be read, in bytes.
COPIED = 256 * 1024 * 1024
# After so many steps a file is given up that pretends to be an index.
STEPS = 10_000_000
# Plugins that keep images elsewhere, by their sections and by the names of their files. Some can be
# switched off, and those of databases do it only where EnableStorage says so.
ELSEWHERE = ("AwsS3Storage", "AzureBlobStorage", "BlobStorage", "GoogleCloudStorage", "S3")
SWITCHED = ("AdvancedStorage", "Indexer")
DATABASES = ("PostgreSQL", "MySQL", "Odbc", "MongoDB")
STORAGE_PLUGIN = re.compile("(?i)storage|s3|blob")
DATABASE_PLUGIN = re.compile("(?i)postgresql|mysql|odbc")
# What a Python script calls that keeps the images itself.
STORAGE_CALL = re.compile("RegisterStorageArea")
REIMPORT = "https://orthanc.uclouvain.be/book/users/replication.html"


def in_folder(options):
    """
    Part of the formula. Return whether the images are files in StorageDirectory, named after their
    UUIDs.

    options
        A mapping from option name to value.
    """
    sections = {name: value for name, value in options.items() if isinstance(value, dict)}
    if any(sections.get(name, {}).get("EnableStorage") for name in DATABASES):
        return False
    if any(name in sections for name in ELSEWHERE):
        return False
    if any(sections[name].get("Enable", True) for name in SWITCHED if name in sections):
        return False
    plugins = options.get("Plugins")
    names = [os.path.basename(str(path)) for path in plugins] if isinstance(plugins, list) else []
    if any(STORAGE_PLUGIN.search(name) and not DATABASE_PLUGIN.search(name) for name in names):
        return False
    script = sections.get("Python", {}).get("Path") or options.get("PythonScript")
    return not (isinstance(script, str) and os.path.isfile(script) and _stores(script))


def _stores(script: str) -> bool:
    """Return whether a Python script, or a module that lies beside it, keeps the images itself."""
    folder = os.path.join(glob.escape(os.path.dirname(script)), "")
    modules = glob.glob(f"{folder}*.py") + glob.glob(f"{folder}*/*.py")
    for path in filter(os.path.isfile, [script, *modules]):
        with salt.utils.files.fopen(path, errors="replace") as file:
            if STORAGE_CALL.search(file.read()):
                return True
    return False


def place(path):
    """
    Part of the formula. Return where a folder is: its ``path``, the point at which its file system
    is mounted, ``mount``, and which one that is, ``file_system``, whatever the kernel calls its
    disk today.

    path
        The path of the folder, which need not be there.
    """
    real = os.path.realpath(path)
    os.path.exists(real)  # a disk that is mounted on demand
    found: dict = {"mount": "/", "file_system": ""}
    for mounted in __salt__["orthanc_host.mounts"]():
        point = mounted["point"]
        # Of several at one point, the last one covers the others.
        inside = f"{real}/".startswith(f"{point.rstrip('/')}/")
        if inside and len(point) >= len(found["mount"]):
            found = {"mount": point, "file_system": _name(**mounted)}
    return {"path": path, **found}


def _name(kind: str, source: str, point: str, root: str) -> str:
    """Return the name of a file system, and which folder of it is mounted."""
    device = os.path.realpath(source) if source.startswith("/") else ""
    for link in glob.glob("/dev/disk/by-uuid/*") if device else ():
        if os.path.realpath(link) == device:
            return f"{os.path.basename(link)} {root}"
    number = 0
    with contextlib.suppress(OSError):
        number = os.statvfs(point).f_fsid
    return f"{kind} {source} {number:x} {root}"


def images(storage):
    """
    Part of the formula. Return the names of some images in a folder, each with the folders it is
    in: of up to 20 folders, one each.

    storage
        The path of the folder.
    """
    found: list = []
    for outer in _entries(storage, FOLDER):
        folder = os.path.join(storage, outer)
        for inner in _entries(folder, FOLDER):
            names = _entries(os.path.join(folder, inner), UUID)
            if names:
                found.append(f"{outer}/{inner}/{names[0]}")
                break
        if len(found) == NOTED:
            break
    return found


def uuids(storage):
    """
    Part of the formula. Return the names of all files in the folder of the images that Orthanc has
    put there, one after the other.

    storage
        The path of the folder.
    """
    for outer in _entries(storage, FOLDER):
        for inner in _entries(os.path.join(storage, outer), FOLDER):
            for uuid in _entries(os.path.join(storage, outer, inner), UUID):
                if uuid.startswith(outer + inner):
                    yield uuid


def _entries(folder: str, pattern: re.Pattern) -> list[str]:
    """Return the names in a folder that are as they should be; it may go meanwhile."""
    with contextlib.suppress(OSError):
        return sorted(filter(pattern.fullmatch, os.listdir(folder)))
    return []


def known_images(index):
    """
    Part of the formula. Return the UUIDs of the first and last files that an index in SQLite knows;
    None where that cannot be told: there is none, it is in use, or damaged, or not an index of
    Orthanc's.

    index
        The path of the index.
    """
    if sqlite3 is None:
        return None
    with contextlib.suppress(OSError, sqlite3.Error):
        log = f"{index}-wal"
        if not os.path.isfile(index) or _is_locked(index):
            return None
        if not _size(log):
            # Nothing is written beside it then.
            return _ask(f"file:{urllib.parse.quote(index)}?mode=ro&immutable=1")
        if _size(index) + _size(log) <= COPIED:
            # It was copied from a running server, or that crashed; reading would change it.
            with tempfile.TemporaryDirectory(prefix="orthanc-identity-") as folder:
                shutil.copyfile(index, f"{folder}/index")
                shutil.copyfile(log, f"{folder}/index-wal")
                return _ask(f"file:{folder}/index")
    return None


def _ask(address: str) -> list[str]:
    with contextlib.closing(sqlite3.connect(address, uri=True)) as connection:
        connection.set_progress_handler(lambda: 1, STEPS)
        rows = [row for statement in ENDS for row in connection.execute(statement)]
    return _uuids(uuid for (uuid,) in rows)


def _uuids(values) -> list[str]:
    """Return the UUIDs among some values, each once."""
    texts = [value for value in values if isinstance(value, str) and UUID.fullmatch(value)]
    return list(dict.fromkeys(texts))


def _is_locked(index: str) -> bool:
    """Return whether somebody uses an index."""
    with salt.utils.files.fopen(index, "rb") as file:
        # Who would keep us from writing? Orthanc has it locked as long as it runs.
        question = struct.pack("hhqqi", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        answer = fcntl.fcntl(file, fcntl.F_GETLK, question + bytes(4))
    return struct.unpack("hhqqi", answer[: struct.calcsize("hhqqi")])[0] != fcntl.F_UNLCK


def _size(path: str) -> int:
    """Return the size of a file in bytes, 0 where there is none."""
    with contextlib.suppress(OSError):
        return os.stat(path).st_size
    return 0


def look(storage, index=None, known=None, uuids=None):
    """
    Part of the formula. Return what there is of images and index, for ``judge`` and to be noted.

    storage
        The path of the folder of the images.

    index
        The path of the index in SQLite; None for one in a database.

    known
        What was noted when Orthanc was last seen serving.

    uuids
        UUIDs of files that the index in a database knows; None where that was not asked.

    Returns a mapping: ``storage`` and ``index`` with their place, the names of some ``images``, the
    ``size`` of the index in bytes, None where it is missing, and its ``least`` one after a stop;
    ``knows``, whether the index knows any image, and ``lacking``, one of those that are not there
    if that is more than half of them, both None where that cannot be told; ``noted``, where the
    noted folders are now; and ``kept``, how many of the noted images are there. Returns an empty
    mapping where root may not look into the folders, as on NFS with ``root_squash``.
    """
    if any(map(_is_closed, [storage, *([os.path.dirname(index)] if index else [])])):
        return {}
    if index:
        uuids = known_images(index)
    noted = {part: (known or {}).get(part) for part in ("storage", "index")}
    paths = [os.path.join(uuid[:2], uuid[2:4], uuid) for uuid in _uuids(uuids or ())]
    missing = [path for path in paths if not os.path.lexists(os.path.join(storage, path))]
    lacking = missing[0] if 2 * len(missing) > len(paths) else ""
    # What is in the second file is in part there twice, and moves to the first one.
    least = _size(index) if index else 0
    size = least + _size(f"{index}-wal") if index and os.path.exists(index) else None
    kept = [
        path
        for path in (noted["storage"] or {}).get("images", ())
        if os.path.lexists(os.path.join(storage, path))
    ]
    return {
        "storage": {**place(storage), "images": images(storage)},
        "index": {**place(os.path.dirname(index)), "size": size, "least": least} if index else None,
        "knows": None if uuids is None else bool(paths),
        "lacking": None if uuids is None else lacking,
        "noted": {part: place(spec["path"]) for part, spec in noted.items() if spec},
        "kept": len(kept),
    }


def _is_closed(folder: str) -> bool:
    """Return whether root may not list a folder."""
    try:
        os.scandir(folder).close()
    except OSError as err:
        return isinstance(err, PermissionError)
    return False


def note(seen, known):
    """
    Part of the formula. Return what is to be noted of what ``look`` has seen, so that little is
    written anew.

    seen
        What ``look`` returned.

    known
        What was noted before.
    """
    noted = {name: seen[name] for name in ("storage", "index", "knows", "lacking")}
    if noted["index"]:
        # It grows all the time; half of it tells as much.
        noted["index"] = {**noted["index"], "least": _rounded(noted["index"]["least"])}
        del noted["index"]["size"]
    before = (known or {}).get("storage") or {}
    here = noted["storage"]
    if before and len(before["images"]) == seen.get("kept") == len(here["images"]):
        noted["storage"] = {**here, "images": before["images"]}
    return noted


def is_note(value):
    """
    Part of the formula. Return whether a value is what ``note`` returns; somebody may have written
    into its file.

    value
        Any value.
    """
    if not isinstance(value, dict) or not {"knows", "lacking"} <= value.keys():
        return False
    storage, index = value.get("storage"), value.get("index")
    images = storage.get("images") if _is_place(storage) else None
    is_index = index is None or (_is_place(index) and isinstance(index.get("least"), int))
    return is_index and isinstance(images, list) and all(isinstance(path, str) for path in images)


def _is_place(value) -> bool:
    keys = ("path", "mount", "file_system")
    return isinstance(value, dict) and all(isinstance(value.get(key), str) for key in keys)


def _rounded(size: int) -> int:
    """Return the power of two that is not above a size."""
    return 1 << size.bit_length() - 1 if size else 0


def judge(known, seen, file, served=False, running=False):
    """
    Part of the formula. Say what Orthanc would not find again of images and index.

    known
        What was noted when Orthanc was last seen serving; an empty mapping where nothing was.

    seen
        What ``look`` returned.

    file
        The path of the note, for who wants to begin anew.

    served
        Whether the server has its images and index where they shall be, and was seen serving with
        them or runs.

    running
        Whether it runs.

    Returns ``problems`` and ``warnings``, each a list of pairs: what is meant, "storage" or
    "index", and a sentence.
    """
    gone = _gone(known, seen, file)
    if gone:
        return {"problems": [("storage", gone)], "warnings": []}
    lost = _lost_index(known, seen, file, served)
    if lost:
        return {"problems": [("index", lost)], "warnings": []}
    lacking = _lacking(seen)
    if not lacking:
        return {"problems": [], "warnings": []}
    # So it was when it last served, as far as is known; or it serves with what is left.
    before = known.get("lacking", "?")
    rest = seen["storage"]["images"] and (running or before is None)
    if served and (before or rest):
        return {"problems": [], "warnings": [("storage", lacking)]}
    return {"problems": [("storage", lacking)], "warnings": []}


def _gone(known: dict, seen: dict, file: str) -> str:
    """Return that the images are gone together with their file system."""
    before, here = known.get("storage") or {}, seen["storage"]
    if not before.get("images") or _is_same(before, seen["noted"]["storage"]):
        return ""
    if _is_emptied(known, seen):
        return ""
    path, now = before["path"], seen["noted"]["storage"]
    if before["mount"] == now["mount"]:
        # Another disk, filled with others on purpose, is none that is missing.
        found = bool(here["images"])
        why = f"another file system is mounted at {now['mount']} now"
    else:
        found = bool(seen["kept"])
        why = f"the file system that was mounted at {before['mount']} is not mounted there now"
        if before["mount"] == "/":
            why = f"another file system is mounted at {now['mount']} now, and hides them"
    if found:
        return ""
    return (
        f"the server had images in {path}, and none of them is there: {why}."
        f" {_remedy(before['mount'], now['mount'])}. If they were moved away or deleted on purpose:"
        f" rm {file}"
    )


def _is_emptied(known: dict, seen: dict) -> bool:
    """Return whether all images were deleted through Orthanc: its own index knows none."""
    index, before = seen["index"], known["index"]
    if seen["knows"] is not False or not index or not before or index["size"] < before["least"]:
        return False
    return before["path"] == index["path"] and _is_same(before, index)


def _remedy(before: str, now: str) -> str:
    if before in (now, "/"):
        return f"Mount the right one (`findmnt {now}` shows what is there, /etc/fstab what belongs)"
    return f"Mount it (`mount {before}`; it belongs into /etc/fstab), and leave Orthanc as it is"


def _lost_index(known: dict, seen: dict, file: str, served: bool) -> str:
    """Return that Orthanc would begin, or has begun, another index than that of the images."""
    storage = seen["storage"]
    if not storage["images"]:
        return ""
    anew = (
        f"; to begin anew without them, stop the server and move {storage['path']} aside (from"
        f" there they can be stored again: {REIMPORT})"
    )
    if not seen["index"]:
        return _empty_database(known, seen, anew, served)
    if seen["index"]["size"] is None:
        return _missing_index(known, seen, anew)
    return _other_index(known, seen, file)


def _empty_database(known: dict, seen: dict, anew: str, served: bool) -> str:
    """Return that the database knows no images; what somebody else has left may lie there."""
    noted = (known.get("storage") or {}).get("images")
    suddenly = noted and known["knows"] and 2 * seen["kept"] >= len(noted)
    if seen["knows"] is not False or (not suddenly if known else served):
        return ""
    return (
        f"there are images in {seen['storage']['path']}, and the database knows none of them: they"
        f" would be out of sight. Restore the database{anew}"
    )


def _missing_index(known: dict, seen: dict, anew: str) -> str:
    before, disk = known.get("index"), ""
    if before and not _is_same(before, seen["noted"]["index"]):
        disk = f"mount its disk (`mount {before['mount']}`), or "
    return (
        f"there are images in {seen['storage']['path']}, and their index"
        f" {seen['index']['path']}/index is not there: Orthanc would begin an empty one, with none"
        f" of them. First {disk}put it back from the backup{anew}"
    )


def _other_index(known: dict, seen: dict, file: str) -> str:
    index, before = seen["index"], known.get("index")
    if not before or not known["storage"]["images"] or before["path"] != index["path"]:
        return ""
    is_new = index["size"] < before["least"] or seen["knows"] is False
    if _is_same(before, index) or not is_new:
        return ""
    if seen["knows"] and not seen["lacking"]:
        return ""  # It is theirs, in less space.
    return (
        f"{index['path']}/index is on another file system than when the server was last seen"
        f" serving, and is another index, without the images in {seen['storage']['path']}."
        f" {_remedy(before['mount'], index['mount'])}. If it was replaced on purpose: rm {file}"
    )


def _lacking(seen: dict) -> str:
    """Return that the index knows images whose files are not there."""
    if not seen["lacking"]:
        return ""
    path, index = seen["storage"]["path"], seen["index"]
    aside = f"move {index['path']}/index aside" if index else "rename its database"
    return (
        f"the index knows images whose files are not in {path}, such as"
        f" {os.path.join(path, seen['lacking'])}, which makes more than half of those that were"
        f" looked for. Mount the disk of the images (`findmnt -T {path}` shows what is there), or"
        f" restore them to {path}; to begin anew without them, stop the server and {aside}"
    )


def _is_same(one: dict, other: dict) -> bool:
    """Return whether two places are on one file system, mounted at one point."""
    return all(one[key] == other[key] for key in ("mount", "file_system"))
