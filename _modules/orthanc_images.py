"""
The files of Orthanc, held against what its index knows of them.

A file is written once, and never changed; so one that is missing, empty or not what the index says
is lost there, although Orthanc goes on to show the image in its lists, and to leave it out of
archives without a word. A file that no index knows is an *orphan*: Orthanc never looks at it again.

https://orthanc.uclouvain.be/book/faq/orthanc-storage.html
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import random
import sys
import time

import salt.utils.files
from salt.exceptions import CommandExecutionError, SaltInvocationError

log = logging.getLogger(__name__)

# Beside the folder of the configuration: what was found last.
NOTE = ".verified"
# What was written so many seconds before the index was read may not be known to it yet.
IN_FLIGHT = 60
# Every so many seconds the log says how far it is.
TELL = 10
CHUNK = 1024 * 1024
DAMAGED = ("missing", "empty", "wrong")


def verify(options, account, sample=100, rate=50):
    """
    Part of the formula. Say which files are not what the index knows of them.

    options
        A mapping from option name to value, with the places of images and index.

    account
        A mapping with the names of Orthanc's ``user`` and ``group``.

    sample
        Of how many per cent of the files the content is read. All are looked at.

    rate
        How many megabytes are read in a second at most; 0 for as many as the disk gives.

    Returns a mapping: how many ``files`` the index knows, of how many the content was ``read``; the
    UUIDs that are ``missing``, ``empty``, or ``wrong``, and the ``orphans``, each a sorted list;
    and the ``studies`` that damaged files are of.

    Raises SaltInvocationError if one of these is no such number, CommandExecutionError if the
    images are no files in a folder, or the index cannot be read.
    """
    _require("sample", sample, 100)
    _require("rate", rate)
    storage = _storage(options)
    began = time.time()
    with _opened(options, account) as index:
        known = index.files()
    found = _look(storage, known, _chosen(known, sample), rate)
    found["orphans"] = _orphans(storage, known, began - IN_FLIGHT)
    damaged = bad(found)
    if damaged:
        # Some were deleted meanwhile, as they may be.
        with _opened(options, account) as index:
            left = index.files()
            found["studies"] = index.studies({left[uuid][2] for uuid in damaged if uuid in left})
        for kind in DAMAGED:
            found[kind] = [uuid for uuid in found[kind] if uuid in left]
    return found


def _require(name: str, value, most=float("inf")) -> None:
    """Raise an error unless an argument is a number within its limits."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not (is_number and 0 <= value <= most):
        limits = f"from 0 to {most}" if most == 100 else "0 or more"
        raise SaltInvocationError(f"{name} must be a number, {limits}, and not {value!r}")


def _opened(options: dict, account: dict):
    return __salt__["orthanc_index.opened"](options, account)


def _storage(options: dict) -> str:
    storage = options["StorageDirectory"]
    if not __salt__["orthanc_identity.in_folder"](options):
        raise CommandExecutionError(
            "the images are no files in StorageDirectory, but in a database or with a plugin, which"
            " looks after them itself"
        )
    if not os.path.isdir(storage):
        raise CommandExecutionError(f"the folder of the images, {storage}, is not there")
    return storage


def path_of(storage, uuid):
    """
    Part of the formula. Return the path of a file.

    storage
        The path of the folder of the images.

    uuid
        The name of the file.
    """
    return os.path.join(storage, uuid[:2], uuid[2:4], uuid)


def links(storage, known):
    """
    Part of the formula. Return the paths of what is a link among files and their folders, a list.

    storage, known
        See ``damaged``.
    """
    folders = {folder for uuid in known for folder in (uuid[:2], os.path.join(uuid[:2], uuid[2:4]))}
    found = [
        path
        for path in (os.path.join(storage, each) for each in sorted(folders))
        if os.path.islink(path)
    ]
    return found or [
        path for path in (path_of(storage, uuid) for uuid in known) if os.path.islink(path)
    ]


def with_sums(storage, known):
    """
    Part of the formula. Return what is known of files, with the MD5 of the files as they are where
    an index has none, as without StoreMD5ForAttachments.

    storage, known
        See ``damaged``.
    """
    pace = _Pace(0)
    return {
        uuid: (size, md5 or _md5(path_of(storage, uuid), pace), resource)
        for uuid, (size, md5, resource) in known.items()
    }


def damaged(storage, known, rate=0):
    """
    Part of the formula. Return what is ``missing``, ``empty`` or ``wrong`` among files, each a
    sorted list of UUIDs, and how many were ``read``.

    storage
        The path of the folder of the images.

    known
        What an index knows of them; see ``orthanc_index``.

    rate
        See ``verify``.
    """
    return _look(storage, known, set(known), rate)


def bad(found):
    """
    Part of the formula. Return the UUIDs of all files with which something is wrong, a set.

    found
        What ``damaged`` returned.
    """
    return {uuid for kind in DAMAGED for uuid in found[kind]}


def _chosen(known: dict, sample) -> set:
    """Return the files whose content is read; of a sample, others each time."""
    if sample >= 100:
        return set(known)
    number = min(len(known), -(-len(known) * sample // 100))
    return set(random.sample(sorted(known), int(number)))


def _look(storage: str, known: dict, chosen: set, rate) -> dict:
    found: dict = {"files": len(known), "read": 0, "studies": []}
    found.update({kind: [] for kind in DAMAGED})
    pace = _Pace(rate)
    for number, (uuid, (size, md5, _)) in enumerate(sorted(known.items())):
        pace.tell("%s of %s files looked at", number, len(known))
        kind = fault(path_of(storage, uuid), size)
        if not kind and uuid in chosen and md5:
            found["read"] += 1
            kind = "" if _md5(path_of(storage, uuid), pace) == md5 else "wrong"
        if kind:
            found[kind].append(uuid)
    return found


def fault(path, size):
    """
    Part of the formula. Return what is wrong with a file as far as its size tells: ``missing``,
    ``empty``, ``wrong``, or nothing.

    path
        The path of the file.

    size
        How many bytes it should have.
    """
    try:
        there = os.stat(path).st_size
    except OSError:
        return "missing"
    if there == size:
        return ""
    return "wrong" if there else "empty"


class _Pace:
    """Keeps reading at a rate of megabytes in a second."""

    def __init__(self, rate) -> None:
        self.rate, self.read = rate, 0
        self.began = self.told = time.monotonic()

    def tell(self, *words) -> None:
        if time.monotonic() - self.told > TELL:
            self.told = time.monotonic()
            log.info(*words)

    def have_read(self, length: int) -> None:
        self.read += length
        if self.rate:
            ahead = self.read / (self.rate * 1e6) - (time.monotonic() - self.began)
            time.sleep(max(0, ahead))


def _md5(path: str, pace: _Pace) -> str:
    """Return the MD5 of a file; nothing of one that goes meanwhile, or cannot be read."""
    # No matter of security, which Python wants to be told where only secure sums are allowed.
    told = {} if sys.version_info < (3, 9) else {"usedforsecurity": False}
    md5 = hashlib.new("md5", **told)  # noqa: S324
    with contextlib.suppress(OSError), salt.utils.files.fopen(
        path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)
    ) as file:
        for piece in iter(lambda: file.read(CHUNK), b""):
            md5.update(piece)
            pace.have_read(len(piece))
        return md5.hexdigest()
    return ""


def _orphans(storage: str, known: dict, before: float) -> list:
    """Return the files that no index knows, and that are older than a time."""
    found = []
    for uuid in __salt__["orthanc_identity.uuids"](storage):
        if uuid in known:
            continue
        with contextlib.suppress(OSError):
            if os.stat(path_of(storage, uuid)).st_mtime < before:
                found.append(uuid)
    return sorted(found)


def note(name, found):
    """
    Part of the formula. Note what ``verify`` found, for those who watch over the server.

    name
        The path of the folder of the configuration.

    found
        What ``verify`` returned.
    """
    counts = {kind: len(found[kind]) for kind in (*DAMAGED, "orphans")}
    noted = {"time": int(time.time()), "files": found["files"], "read": found["read"], **counts}
    __salt__["orthanc_files.write"](note_path(name), json.dumps(noted) + "\n", 0o600)


def noted(name):
    """
    Part of the formula. Return what ``note`` wrote last: the ``time``, and how many ``files`` there
    were and how many of each kind; nothing if it never did.

    name
        The path of the folder of the configuration.
    """
    return __salt__["orthanc_json.noted"](__salt__["orthanc_files.read_if_there"](note_path(name)))


def note_path(name):
    """
    Part of the formula. Return the path of what ``note`` wrote.

    name
        The path of the folder of the configuration.
    """
    return name + NOTE


def repair(options, account, test=True, rate=50, spare=None):
    """
    Part of the formula. Put right what is certain: a damaged file of which an orphan has the
    content is put back, and an orphan with the content of a sound file goes.

    options, account, rate
        See ``verify``.

    test
        True only says what would be done.

    spare
        A function that takes UUIDs, and gives for a ``with`` block the path of a folder with files
        of these names, as a backup has them. Those are put back, too, whose content is right.

    Returns a mapping: UUIDs that are ``put back``, each with where that is from; orphans that are
    ``removed``; the UUIDs of damaged files and of orphans that are ``left``; and the ``studies``
    that damaged ones are of, which have to be sent again.
    """
    storage, failing = _storage(options), __salt__["orthanc_files.failing"]
    found, pace = verify(options, account, rate=rate), _Pace(rate)
    with _opened(options, account) as index:
        known = index.files()
        damaged = bad(found) & set(known)
        # What is known by now was only being stored.
        orphans = set(found["orphans"]) - set(known)
        content = {}
        for uuid in orphans:
            md5 = _md5(path_of(storage, uuid), pace)
            if md5:
                content[md5] = uuid
        back = {uuid: content[known[uuid][1]] for uuid in damaged if known[uuid][1] in content}
        twins = {known[uuid][1]: uuid for uuid in set(known) - damaged if known[uuid][1] in content}
        gone = [
            content[md5]
            for md5, twin in twins.items()
            # It may be newer than what was verified.
            if _md5(path_of(storage, twin), pace) == md5
        ]
        lacking = {uuid: known[uuid] for uuid in damaged - set(back)}
        with _from_backup(options, account, spare, lacking) as copies, failing(
            "putting files back"
        ):
            for uuid, folder in () if test else copies.items():
                _put_back(storage, folder, uuid, uuid)
        left = damaged - set(back) - set(copies)
        studies = index.studies({known[uuid][2] for uuid in left})
    if not test:
        with failing("putting files back"):
            for uuid, orphan in back.items():
                _put_back(storage, storage, orphan, uuid)
            for uuid in gone:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(path_of(storage, uuid))
    return {
        "put back": {**back, **dict.fromkeys(copies, "the backup")},
        "removed": sorted(gone),
        "left": sorted(left | (orphans - set(gone))),
        "studies": studies,
    }


@contextlib.contextmanager
def _from_backup(options: dict, account: dict, spare, wanted: dict):
    """Give the files in a backup whose content is that which is wanted, and the folder of each."""
    if not (spare and wanted):
        yield {}
        return
    # What has no MD5 may be anything.
    wanted = {uuid: known for uuid, known in wanted.items() if known[1]}
    with spare(sorted(wanted)) as folder:
        unsound = bad(damaged(folder, wanted))
        # Some were deleted while the others were restored.
        with _opened(options, account) as index:
            sound = set(wanted) & set(index.files()) - unsound
        yield dict.fromkeys(sorted(sound), folder)


def _put_back(storage: str, source: str, name: str, uuid: str) -> None:
    """Copy a file of a folder like that of the images to the place of one, whole or not at all."""
    below, owner = __salt__["orthanc_planted.below"], os.stat(storage)
    with below(source, _folders(name)) as found, below(storage, _folders(uuid), owner) as target:
        __salt__["orthanc_planted.copy"]((found, name), (target, uuid), owner)


def _folders(uuid: str) -> list:
    """Return the names of the folders in which a file is."""
    return [uuid[:2], uuid[2:4]]
