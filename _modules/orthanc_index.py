"""
What the index of Orthanc knows of its files, at one moment and while Orthanc runs.

Orthanc holds its index in SQLite for itself, so nobody else can read it, and a copy that is made
while it writes may be damaged. So it stands still for the blink of an eye in which the index is
copied, and the copy is read. A database of PostgreSQL is asked.

https://www.sqlite.org/wal.html
"""

from __future__ import annotations

import contextlib
import glob
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time

import salt.utils.files
from salt.exceptions import CommandExecutionError

try:
    import sqlite3
except ImportError:  # not every Python has it
    sqlite3 = None

# For how many seconds Orthanc stands still at most: who sends to it waits longer than that.
PAUSE = 8
# How the folder begins in which the copy lies, and after how many seconds one is of a killed run.
ASIDE, STALE = ".orthanc-index-", 3600
# The files: name, size on the disk, MD5 of what is there, and the resource that each belongs to.
FILES = (
    "SELECT a.uuid, a.compressedSize, a.compressed{hash}, r.publicId"
    " FROM AttachedFiles a JOIN Resources r ON r.internalId = a.id"
)
# The studies of some resources.
STUDIES = (
    "WITH RECURSIVE up AS (SELECT parentId, publicId, resourceType FROM Resources"
    " WHERE publicId IN ({names}) UNION SELECT r.parentId, r.publicId, r.resourceType"
    " FROM Resources r JOIN up ON r.internalId = up.parentId)"
    " SELECT publicId FROM up WHERE resourceType = {study} ORDER BY publicId"
)
RESOURCE = re.compile("[0-9a-f-]+")
# What differs: SQLite counts kinds of resources from 1, PostgreSQL's plugin from 0.
SQLITE = {"hash": "MD5", "study": 2}
POSTGRESQL = {"hash": "hash", "study": 1}


@contextlib.contextmanager
def opened(options, account):
    """
    Part of the formula. Give an ``Index`` to ask as long as the ``with`` block lasts.

    options
        A mapping from option name to value, with the places of images and index.

    account
        A mapping with the names of Orthanc's ``user`` and ``group``, whom PostgreSQL knows.

    Raises CommandExecutionError if the index cannot be read.
    """
    kind = __salt__["orthanc_postgresql.index"](options)
    if kind is None:
        raise CommandExecutionError("the index is in a database that the formula does not know")
    if not __salt__["orthanc_postgresql.is_sqlite"](options):
        yield Index(lambda statement: _ask_postgresql(options, account, statement), POSTGRESQL)
        return
    if sqlite3 is None:
        raise CommandExecutionError("this Python has no sqlite3, by which the index is read")
    path = os.path.join(options["IndexDirectory"], "index")
    with _copied(path) as copy, contextlib.closing(sqlite3.connect(copy)) as connection:
        yield Index(lambda statement: _ask_sqlite(connection, statement), SQLITE)


class Index:
    """An index as it is at one moment, or a database as it is now."""

    def __init__(self, ask, words: dict) -> None:
        self.ask, self.words = ask, words

    def files(self) -> dict:
        """Return what is known of each file: by its UUID, its size, its MD5 and its resource."""
        rows = self.ask(FILES.format(**self.words))
        return {uuid: (int(size), md5, resource) for uuid, size, md5, resource in rows}

    def studies(self, resources) -> list:
        """Return the studies of resources."""
        names = ", ".join(
            f"'{name}'" for name in sorted(resources) if name.replace("-", "").isalnum()
        )
        rows = self.ask(STUDIES.format(names=names, **self.words)) if names else []
        return [study for (study,) in rows]


def _ask_sqlite(connection, statement: str) -> list:
    try:
        return connection.execute(statement).fetchall()
    except sqlite3.Error as err:
        raise CommandExecutionError(f"the index cannot be read: {err}") from None


def _ask_postgresql(options: dict, account: dict, statement: str) -> list:
    section = __salt__["orthanc_postgresql.section_of"](options)
    result = __salt__["orthanc_postgresql.ask"](section, statement, **account)
    if result is None:
        raise CommandExecutionError("the database cannot be asked: there is no psql for it here")
    if result["retcode"]:
        said = " ".join(result["stderr"].split())
        raise CommandExecutionError(f"the database cannot be asked. PostgreSQL says: {said}")
    return [line.split("|") for line in result["stdout"].splitlines() if line]


@contextlib.contextmanager
def _copied(index: str):
    """Give the path of a sound copy of an index in SQLite, as long as the block lasts."""
    if not os.path.isfile(index):
        raise CommandExecutionError(f"there is no index {index}")
    folder, parts = os.path.dirname(index), [index, f"{index}-wal"]
    for old in glob.glob(os.path.join(glob.escape(folder), f"{ASIDE}*")):
        with contextlib.suppress(OSError):
            if time.time() - os.stat(old).st_mtime > STALE:
                shutil.rmtree(old)
    _make_sure_of_room(folder, parts)
    # On its own file system, some of which copy without copying.
    with tempfile.TemporaryDirectory(prefix=ASIDE, dir=folder) as aside:
        with _standing_still(index):
            for part in filter(os.path.exists, parts):
                words = ["cp", "--reflink=auto", "--", part, aside]
                if __salt__["orthanc_host.ask"](words) is None:
                    raise CommandExecutionError(f"{part} could not be copied to {aside}")
        copy = os.path.join(aside, "index")
        with contextlib.closing(sqlite3.connect(copy)) as connection:
            if _ask_sqlite(connection, "PRAGMA quick_check") != [("ok",)]:
                raise CommandExecutionError(
                    f"{index} is damaged; put it back from a backup, before more is written to it"
                )
        yield copy


def _make_sure_of_room(folder: str, parts: list) -> None:
    needed = sum(os.path.getsize(part) for part in parts if os.path.exists(part))
    free = shutil.disk_usage(folder).free
    # As much again stays free, because Orthanc goes on writing.
    if 2 * needed > free:
        raise CommandExecutionError(
            f"the index has {needed >> 20} MB, and to be read it is copied within {folder}, where"
            f" {free >> 20} MB are free; make room first"
        )


@contextlib.contextmanager
def _standing_still(index: str):
    """
    Let the Orthanc that has an index open stand still as long as the block lasts.

    Whatever becomes of this process, after PAUSE seconds another one lets it go on.
    """
    found = [
        process
        for process in __salt__["orthanc_host.orthancs"]()
        if __salt__["orthanc_host.has_open"](process, index)
    ]
    if not found:
        yield
        return
    numbers = [int(os.path.basename(process)) for process in found]
    go_on = f"sleep {PAUSE}; kill -CONT {' '.join(map(str, numbers))}"
    waker = subprocess.Popen(["sh", "-c", go_on], start_new_session=True, close_fds=True)
    try:
        for number in numbers:
            os.kill(number, signal.SIGSTOP)
        deadline = time.monotonic() + 1
        while not all(map(_stands_still, found)) and time.monotonic() < deadline:
            time.sleep(0.001)
        yield
        if waker.poll() is not None:
            raise CommandExecutionError(
                f"{index} is too large to be copied within the {PAUSE} seconds that Orthanc may"
                " stand still; put it on a file system that copies at once (XFS, btrfs), or stop"
                " Orthanc and call this again"
            )
    finally:
        for number in numbers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(number, signal.SIGCONT)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(waker.pid, signal.SIGKILL)
        waker.wait()


def _stands_still(process: str) -> bool:
    """Return whether all threads of a process are stopped, or it has ended."""
    for path in glob.glob(f"{process}/task/*/stat"):
        with contextlib.suppress(OSError), salt.utils.files.fopen(path) as file:
            if file.read().rpartition(")")[2].split()[0] not in "TtXZ":
                return False
    return True
