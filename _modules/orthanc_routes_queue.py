"""
What routes have still to send, in a file of SQLite; and what they have sent, so that nothing is
sent twice.

How far the changes of Orthanc are read is noted in the same step as the images that were found
there: whatever ends the process or the host, both are there, or neither. The last steps before a
power cut may be lost (``synchronous=NORMAL``); then the changes are read again.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import time

try:
    import sqlite3
except ImportError:  # not every Python has it
    sqlite3 = None

log = logging.getLogger(__name__)

# The folder, which is root's alone, and the file in it.
FOLDER, FILE = "/var/lib/orthanc-routes", "queue.db"
# How a backup calls it.
COPY = "routes"
SCHEMA = """
CREATE TABLE IF NOT EXISTS note (name TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS sent (
    instance BLOB, route TEXT, PRIMARY KEY (instance, route)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS waiting (
    route TEXT, instance BLOB, study BLOB, judged INTEGER, since REAL, due REAL,
    tries INTEGER DEFAULT 0, state TEXT DEFAULT 'waiting', why TEXT DEFAULT '',
    PRIMARY KEY (route, instance)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS due ON waiting (route, state, tries, due);
CREATE INDEX IF NOT EXISTS oldest ON waiting (route, state, since);
CREATE INDEX IF NOT EXISTS reasons ON waiting (route, why) WHERE why != '';
CREATE INDEX IF NOT EXISTS which ON waiting (instance);
"""
# What is to be sent, what was given up, and what was deleted before.
STATES = ("waiting", "failed", "deleted")
# Further away than that nothing is due: then the clock was put back. In seconds.
FAR = 3600


# What a backup knows, added to what is known here: what was sent, and what is still to be. Where
# nothing is known here, also up to which place the changes of Orthanc were read.
TAKE_BACK = (
    "INSERT OR REPLACE INTO note SELECT * FROM old.note WHERE name NOT LIKE 'failing %'"
    " AND NOT EXISTS (SELECT 1 FROM sent) AND NOT EXISTS (SELECT 1 FROM waiting)",
    "INSERT OR IGNORE INTO waiting SELECT * FROM old.waiting o WHERE NOT EXISTS"
    " (SELECT 1 FROM sent s WHERE s.instance = o.instance AND s.route = o.route)",
    "INSERT OR IGNORE INTO sent SELECT * FROM old.sent",
)


def path():
    """
    Part of the formula. Return the path of the file of the queue.
    """
    return os.path.join(FOLDER, FILE)


def saved(place, of=FOLDER):
    """
    Part of the formula. Copy the queue, as it is at one moment, into a folder, if there is one.

    place
        The path of the folder.

    of
        The path of that of the queue.

    Returns a sentence if that failed, otherwise an empty text.
    """
    there = os.path.join(of, FILE)
    if sqlite3 is None or not os.path.exists(there):
        return ""
    try:
        with opened(of, True) as queue, contextlib.closing(
            sqlite3.connect(os.path.join(place, COPY))
        ) as copy:
            queue.base.backup(copy)
    except sqlite3.Error as err:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(place, COPY))
        return f"{there} is not in it, with what the routes have still to send: {err}"
    return ""


def take_back(place, of=FOLDER):
    """
    Part of the formula. Add what ``saved`` has copied to what the queue knows, in one step.

    place, of
        See ``saved``.
    """
    copy = os.path.join(place, COPY)
    if sqlite3 is None or not os.path.exists(copy):
        return
    os.makedirs(of, mode=0o700, exist_ok=True)
    try:
        with opened(of) as queue:
            queue.base.execute("ATTACH ? AS old", (copy,))
            with queue.step():
                for statement in TAKE_BACK:
                    queue.base.execute(statement)
    except sqlite3.Error as err:
        # The images are more than what is known of them.
        log.error("what the routes had to send is not taken out of the backup: %s", err)


@contextlib.contextmanager
def opened(folder=FOLDER, there=False):
    """
    Part of the formula. Open the queue as long as the block lasts.

    folder
        The path of the folder that it is in.

    there
        Whether it is there already, and is not made.

    Raises sqlite3.Error if it cannot be used.
    """
    queue = Queue(os.path.join(folder, FILE), there)
    try:
        yield queue
    finally:
        queue.base.close()


def packed(identifier):
    """
    Part of the formula. Return what an identifier of Orthanc is in the queue; None of None.

    identifier
        Five groups of eight hexadecimal digits.
    """
    return None if identifier is None else bytes.fromhex(identifier.replace("-", ""))


def unpacked(found):
    """
    Part of the formula. Return the identifier that ``packed`` was given.

    found
        What it returned.
    """
    text = found.hex()
    return "-".join(text[start : start + 8] for start in range(0, len(text), 8))


class Queue:
    """The queue; each thread has one of its own of the same file."""

    def __init__(self, path: str, there: bool = False) -> None:
        self.base = sqlite3.connect(path, timeout=1 if there else 30, isolation_level=None)
        if not there:
            self.base.execute("PRAGMA journal_mode=WAL")
            self.base.execute("PRAGMA synchronous=NORMAL")
            self.base.executescript(SCHEMA)

    def check(self) -> None:
        """Raise sqlite3.DatabaseError where the file is damaged."""
        found = self.base.execute("PRAGMA quick_check(1)").fetchone()[0]
        if found != "ok":
            raise sqlite3.DatabaseError(found)

    @contextlib.contextmanager
    def step(self):
        """All that is changed in the block, or nothing."""
        self.base.execute("BEGIN IMMEDIATE")
        try:
            yield
            self.base.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                self.base.execute("ROLLBACK")
            raise

    def note(self, name: str):
        """Return what is noted; None where nothing is."""
        row = self.base.execute("SELECT value FROM note WHERE name = ?", (name,)).fetchone()
        return json.loads(row[0]) if row else None

    def _notes(self, notes: dict) -> None:
        rows = [(name, json.dumps(value)) for name, value in notes.items()]
        self.base.executemany("INSERT OR REPLACE INTO note VALUES (?, ?)", rows)

    def put(self, **notes) -> None:
        """Note something by its names."""
        with self.step():
            self._notes(notes)

    def take(self, rows: list, **notes) -> None:
        """
        Put images into the queue that their routes have not sent, and note how far that goes.

        rows
            Of each its ``route``, ``instance``, ``study``, and whether it was ``judged``.
        """
        now = time.time()
        with self.step():
            self.base.executemany(
                # One that was deleted, and is here again, is a new one.
                "INSERT INTO waiting (route, instance, study, judged, since, due)"
                " SELECT :route, :instance, :study, :judged, :now, :now WHERE NOT EXISTS"
                " (SELECT 1 FROM sent WHERE instance = :instance AND route = :route)"
                " ON CONFLICT (route, instance) DO UPDATE SET since = :now, due = :now, tries = 0,"
                " state = 'waiting' WHERE state != 'waiting'",
                [{**row, "now": now} for row in rows],
            )
            self._notes(notes)

    def knows(self, instance) -> bool:
        """Return whether an image is known of which it was found out for which routes it is."""
        return any(
            self.base.execute(query, (instance,)).fetchone()
            for query in (
                "SELECT 1 FROM sent WHERE instance = ? LIMIT 1",
                "SELECT 1 FROM waiting WHERE instance = ? AND state != 'deleted' LIMIT 1",
            )
        )

    def due(self, route: str, limit: int) -> list:
        """Return the images that a route is to send now: at first those that are new."""
        now, found = time.time(), []
        names = ("instance", "study", "judged", "since", "tries")
        for tries in ("tries = 0", "tries > 0"):
            found += self.base.execute(
                f"SELECT {', '.join(names)} FROM waiting WHERE route = ? AND state = 'waiting'"  # noqa: S608
                f" AND {tries} AND (due <= ? OR due > ?) ORDER BY due LIMIT ?",
                (route, now, now + FAR, limit - len(found)),
            ).fetchall()
        return [dict(zip(names, row)) for row in found]

    def sent(self, route: str, instances: list) -> None:
        """Note that a route has sent images."""
        rows = [(instance, route) for instance in instances]
        with self.step():
            self.base.executemany("INSERT OR IGNORE INTO sent VALUES (?, ?)", rows)
            self._drop(route, instances)

    def _drop(self, route: str, instances: list) -> None:
        rows = [(route, instance) for instance in instances]
        self.base.executemany("DELETE FROM waiting WHERE route = ? AND instance = ?", rows)

    def drop(self, route: str, instance) -> None:
        """Forget an image that a route is not for."""
        with self.step():
            self._drop(route, [instance])

    def change(self, route: str, instance, **values) -> None:
        """Set columns of an image that waits."""
        words = ", ".join(f"{name} = :{name}" for name in values)
        with self.step():
            self.base.execute(
                f"UPDATE waiting SET {words} WHERE route = :of AND instance = :which",  # noqa: S608
                {"of": route, "which": instance, **values},
            )

    def hold(self, route: str, study, due: float) -> None:
        """Let what a route has of a study wait until then."""
        with self.step():
            self.base.execute(
                "UPDATE waiting SET due = ? WHERE route = ? AND study = ? AND state = 'waiting'",
                (due, route, study),
            )

    def give_up(self, route: str, before: float, why: str) -> None:
        """Give up what has waited since before then."""
        with self.step():
            self.base.execute(
                "UPDATE waiting SET state = 'failed', why = ?, due = ? WHERE route = ?"
                " AND state = 'waiting' AND since < ?",
                (why, time.time(), route, before),
            )

    def forget_deleted(self, route: str, before: float) -> None:
        """Say no more of what was deleted before then."""
        with self.step():
            self.base.execute(
                "DELETE FROM waiting WHERE route = ? AND state = 'deleted' AND due < ?",
                (route, before),
            )

    def retry(self) -> None:
        """Let what was given up be tried anew, and say no more of what was deleted."""
        now = time.time()
        with self.step():
            self.base.execute(
                "UPDATE waiting SET since = ?, due = ?, tries = 0, state = 'waiting' WHERE state ="
                " 'failed'",
                (now, now),
            )
            self.base.execute("DELETE FROM waiting WHERE state = 'deleted'")

    def figures(self, route: str) -> dict:
        """Return how many images of a route wait, and since when; what failed, and why."""
        found = dict(
            self.base.execute(
                "SELECT state, count(*) FROM waiting WHERE route = ? GROUP BY state", (route,)
            )
        )
        oldest = self.base.execute(
            "SELECT min(since) FROM waiting WHERE route = ? AND state = 'waiting'", (route,)
        ).fetchone()[0]
        why = self.base.execute(
            "SELECT why, count(*) FROM waiting WHERE route = ? AND state != 'deleted'"
            " AND why != '' GROUP BY why ORDER BY 2 DESC LIMIT 5",
            (route,),
        )
        return {
            **{state: found.get(state, 0) for state in STATES},
            "oldest": oldest,
            "why": [f"{text} ({count})" for text, count in why],
        }

    def total(self) -> int:
        """Return for how many images some route has still something to do."""
        return self.base.execute(
            "SELECT count(*) FROM waiting WHERE state != 'deleted'"
        ).fetchone()[0]
