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
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.parse

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
IMAGES = "SELECT count(*) FROM Resources WHERE resourceType = {instance}"
# The files that are images as they were sent.
DICOM = (
    "SELECT a.uuid, r.publicId FROM AttachedFiles a JOIN Resources r ON r.internalId = a.id"
    " WHERE a.fileType = 1 AND r.resourceType = {instance}"
)
# Each study: itself, its patient, whether that is protected, when the last image came, StudyDate.
STUDY = (
    "SELECT s.publicId, p.publicId, CASE WHEN EXISTS (SELECT 1 FROM PatientRecyclingOrder o"
    " WHERE o.patientId = p.internalId) THEN 0 ELSE 1 END, {hex}u.value{end}, {hex}d.value{end}"
    " FROM Resources s JOIN Resources p ON p.internalId = s.parentId"
    " LEFT JOIN Metadata u ON u.id = s.internalId AND u.type = 7"
    " LEFT JOIN MainDicomTags d ON d.id = s.internalId AND d.tagGroup = 8 AND d.tagElement = 32"
    " WHERE s.resourceType = {study}"
)
# The images of each study by Modality, the title of who sent them, and SeriesDate: how many there
# are, and the size of their files.
PARTS = (
    "SELECT s.publicId, {hex}m.value{end}, {hex}t.value{end}, {hex}d.value{end}, count(*),"
    " sum(coalesce(f.size, 0))"
    " FROM Resources i JOIN Resources e ON e.internalId = i.parentId"
    " JOIN Resources s ON s.internalId = e.parentId"
    " LEFT JOIN MainDicomTags m ON m.id = e.internalId AND m.tagGroup = 8 AND m.tagElement = 96"
    " LEFT JOIN MainDicomTags d ON d.id = e.internalId AND d.tagGroup = 8 AND d.tagElement = 33"
    " LEFT JOIN Metadata t ON t.id = i.internalId AND t.type = 3"
    " LEFT JOIN (SELECT id, sum(compressedSize) AS size FROM AttachedFiles GROUP BY id) f"
    " ON f.id = i.internalId WHERE i.resourceType = {instance}"
    " GROUP BY s.publicId, m.value, t.value, d.value"
)
# What differs: SQLite counts kinds of resources from 1, PostgreSQL's plugin from 0. Texts that
# devices have sent may hold what separates columns and rows.
SQLITE = {"hash": "MD5", "study": 2, "instance": 4, "hex": "hex(", "end": ")"}
POSTGRESQL = {
    **{"hash": "hash", "study": 1, "instance": 3},
    **{"hex": "encode(convert_to(", "end": ", 'UTF8'), 'hex')"},
}

# What is asked of a dump of PostgreSQL, as SQLite would have it, and how it comes there.
TABLES = """
CREATE TABLE Resources(internalId INTEGER, resourceType INTEGER, publicId TEXT, parentId INTEGER);
CREATE TABLE AttachedFiles(id INTEGER, fileType INTEGER, uuid TEXT, compressionType INTEGER,
  compressedSize INTEGER, compressedMD5 TEXT);
CREATE TABLE DicomIdentifiers(id INTEGER, tagGroup INTEGER, tagElement INTEGER, value TEXT);
"""
DUMPED = {
    "resources": "INSERT INTO Resources"
    " VALUES (:internalid, :resourcetype + 1, :publicid, :parentid)",
    "attachedfiles": "INSERT INTO AttachedFiles VALUES (:id, :filetype, :uuid, :compressiontype,"
    " :compressedsize, :compressedhash)",
    "dicomidentifiers": "INSERT INTO DicomIdentifiers VALUES (:id, :taggroup, :tagelement, :value)",
}
LOOK_UP = """
CREATE INDEX ofParents ON Resources(parentId);
CREATE INDEX ofFiles ON AttachedFiles(id);
CREATE INDEX ofIdentifiers ON DicomIdentifiers(id);
"""


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
    with copied(os.path.join(options["IndexDirectory"], "index")) as path, of_copy(path) as index:
        yield index


class Index:
    """An index as it is at one moment, or a database as it is now."""

    def __init__(self, ask, words: dict) -> None:
        self.ask, self.words = ask, words

    def files(self) -> dict:
        """Return what is known of each file: by its UUID, its size, its MD5 and its resource."""
        rows = self.ask(FILES.format(**self.words))
        return {uuid: (int(size), md5, resource) for uuid, size, md5, resource in rows}

    def images(self) -> int:
        """Return how many images there are."""
        ((number,),) = self.ask(IMAGES.format(**self.words))
        return int(number)

    def dicom(self) -> dict:
        """Return the image that each file with one is of: by its UUID, its name."""
        return dict(self.ask(DICOM.format(**self.words)))

    def studies(self, resources) -> list:
        """Return the studies of resources."""
        names = ", ".join(
            f"'{name}'" for name in sorted(resources) if name.replace("-", "").isalnum()
        )
        rows = self.ask(STUDIES.format(names=names, **self.words)) if names else []
        return [study for (study,) in rows]

    def all_studies(self) -> dict:
        """
        Return what is known of each study, by its name: its ``patient`` and whether that is
        ``protected``; when the last image was ``received``; StudyDate, and the ``dates`` of those
        of its series that have one; its ``parts``, each a Modality and the title of who sent it;
        and how many ``instances`` and ``bytes`` it has.
        """
        found = {
            name: {
                "patient": patient,
                "protected": bool(int(protected)),
                "received": _text(received),
                "StudyDate": _text(date),
                **{"dates": [], "parts": [], "instances": 0, "bytes": 0},
            }
            for name, patient, protected, received, date in self.ask(STUDY.format(**self.words))
        }
        for name, modality, title, date, instances, size in self.ask(PARTS.format(**self.words)):
            # What has come since, where a database is asked twice.
            study = found.get(name, {"dates": [], "parts": [], "instances": 0, "bytes": 0})
            study["parts"].append((_text(modality), _text(title)))
            study["dates"] += [_text(date)] if date else []
            study["instances"] += int(instances)
            study["bytes"] += int(size)
        return found


def _text(written) -> str:
    """Return what a database has written in hexadecimal digits; an empty text for nothing."""
    return bytes.fromhex(written or "").decode(errors="replace").strip()


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
def copied(index):
    """
    Part of the formula. Give the path of a sound copy of an index in SQLite, as long as the
    ``with`` block lasts; see ``copy``.

    index
        The path of the index.
    """
    if not os.path.isfile(index):
        raise CommandExecutionError(f"there is no index {index}")
    folder = os.path.dirname(index)
    for old in glob.glob(os.path.join(glob.escape(folder), f"{ASIDE}*")):
        with contextlib.suppress(OSError):
            if time.time() - os.stat(old).st_mtime > STALE:
                shutil.rmtree(old)
    # On its own file system, some of which copy without copying.
    with tempfile.TemporaryDirectory(prefix=ASIDE, dir=folder) as aside:
        yield copy(index, aside)


def copy(index, folder, check="quick_check"):
    """
    Part of the formula. Copy an index in SQLite as it is at one moment, while Orthanc runs, and
    return the path of the copy, which is one file and sound.

    index
        The path of the index.

    folder
        The path of the folder for the copy.

    check
        How the copy is proven: ``quick_check``, or ``integrity_check``, which takes longer.

    Raises CommandExecutionError if there is no room for it, if it cannot be made, or if the index
    is damaged.
    """
    if sqlite3 is None:
        raise CommandExecutionError("this Python has no sqlite3, by which the index is read")
    if not os.path.isfile(index):
        raise CommandExecutionError(f"there is no index {index}")
    parts = [index, f"{index}-wal"]
    _make_sure_of_room(folder, parts)
    # One at a time: the first to let it go on would spoil the copy of the other.
    with __salt__["orthanc_files.locked"](index), _standing_still(index):
        for part in filter(os.path.exists, parts):
            words = ["cp", "--reflink=auto", "--", part, folder]
            if __salt__["orthanc_host.ask"](words) is None:
                raise CommandExecutionError(f"{part} could not be copied to {folder}")
    found = os.path.join(folder, os.path.basename(index))
    with contextlib.closing(sqlite3.connect(found)) as connection:
        if _ask_sqlite(connection, f"PRAGMA {check}") != [("ok",)]:
            raise CommandExecutionError(
                f"{index} is damaged; put it back from a backup, before more is written to it"
            )
    return found


@contextlib.contextmanager
def of_copy(path):
    """
    Part of the formula. Give an ``Index`` to ask, as ``opened`` does, of a copy that nobody else
    has open.

    path
        What ``copy`` returned.
    """
    # It makes none where there is none.
    address = f"file:{urllib.parse.quote(path)}?mode=rw"
    with contextlib.closing(sqlite3.connect(address, uri=True)) as connection:
        yield Index(lambda statement: _ask_sqlite(connection, statement), SQLITE)


@contextlib.contextmanager
def of_dump(path):
    """
    Part of the formula. Give an ``Index`` to ask, as ``of_copy`` does, of a dump of PostgreSQL,
    without a database: its tables are copied into a file beside it, as SQLite would have them.

    path
        The path of the dump.
    """
    made = f"{path}.index"
    with contextlib.closing(sqlite3.connect(made)) as connection:
        connection.executescript(TABLES)
        for table, statement in DUMPED.items():
            rows = __salt__["orthanc_postgresql.rows"](path, table)
            connection.executemany(statement, rows)
        connection.executescript(LOOK_UP)
    with of_copy(made) as index:
        yield index


def parts(path):
    """
    Part of the formula. Return the paths of the files that an index in SQLite has, or may have.

    path
        The path of the index.
    """
    return [path, *(f"{path}-{kind}" for kind in ("journal", "shm", "wal"))]


def wake():
    """
    Part of the formula. Let each Orthanc of this host go on that stands still, as where the process
    that stopped it was killed together with the one that was to wake it.
    """
    for process in __salt__["orthanc_host.orthancs"]():
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(os.path.basename(process)), signal.SIGCONT)


def _make_sure_of_room(folder: str, parts: list) -> None:
    needed = sum(os.path.getsize(part) for part in parts if os.path.exists(part))
    free = shutil.disk_usage(folder).free
    # As much again stays free, because Orthanc goes on writing.
    if 2 * needed > free:
        raise CommandExecutionError(
            f"the index has {needed >> 20} MB, and to be read it is copied to {folder}, where"
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
    with _woken(numbers):
        began, stands_still = time.monotonic(), __salt__["orthanc_host.stands_still"]
        for number in numbers:
            os.kill(number, signal.SIGSTOP)
        while not all(map(stands_still, found)) and time.monotonic() < began + 1:
            time.sleep(0.001)
        yield
        # The other process has slept for a moment already.
        if time.monotonic() > began + PAUSE - 1:
            raise CommandExecutionError(
                f"{index} is too large to be copied within the {PAUSE} seconds that Orthanc may"
                " stand still; put it on a file system that copies at once (XFS, btrfs), or stop"
                " Orthanc and call this again"
            )


@contextlib.contextmanager
def _woken(numbers: list):
    """Let processes go on at the end of the block, and after PAUSE seconds in any case."""
    words = ["sh", "-c", f"sleep {PAUSE}; kill -CONT {' '.join(map(str, numbers))}"]
    unit, waker = f"orthanc-goes-on-{os.getpid()}.service", None
    ask = __salt__["orthanc_host.ask"]
    # A unit of its own: who kills a service, or a session, kills all that it has started.
    if ask(["systemd-run", "--quiet", "--collect", f"--unit={unit}", *words]) is None:
        waker = subprocess.Popen(words, start_new_session=True, close_fds=True)
    try:
        yield
    finally:
        for number in numbers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(number, signal.SIGCONT)
        if waker is None:
            ask(["systemctl", "stop", unit])
        else:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(waker.pid, signal.SIGKILL)
            waker.wait()
