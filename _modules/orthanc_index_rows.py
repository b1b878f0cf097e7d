"""
The rows of an index, taken from SQLite to PostgreSQL and back as they are.

Both hold the same tables. What differs: SQLite counts kinds of resources from 1 and PostgreSQL's
plugin from 0, older ones in SQLite have no revisions, and the sums in ``GlobalIntegers`` are kept
by triggers, which are too slow for a whole index and switched off meanwhile. Whether both sides
hold the same is told by a digest that each makes of its own rows.

https://www.postgresql.org/docs/current/sql-copy.html
"""

# ruff: noqa: S608 (the names of tables and columns are those of this file)

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import re
import sys
import urllib.parse

from salt.exceptions import CommandExecutionError

try:
    import sqlite3
except ImportError:  # not every Python has it
    sqlite3 = None

log = logging.getLogger(__name__)

# The columns of each table by their names in SQLite, resources before what is of them.
TABLES = {
    "Resources": ("internalId", "resourceType", "publicId", "parentId"),
    "PatientRecyclingOrder": ("seq", "patientId"),
    "MainDicomTags": ("id", "tagGroup", "tagElement", "value"),
    "DicomIdentifiers": ("id", "tagGroup", "tagElement", "value"),
    "Metadata": ("id", "type", "value", "revision"),
    "AttachedFiles": (
        *("id", "fileType", "uuid", "compressedSize", "uncompressedSize", "compressionType"),
        *("uncompressedMD5", "compressedMD5", "revision"),
    ),
    "Labels": ("id", "label"),
    "Changes": ("seq", "changeType", "internalId", "resourceType", "date"),
    "ExportedResources": (
        *("seq", "resourceType", "publicId", "remoteModality", "patientId"),
        *("studyInstanceUid", "seriesInstanceUid", "sopInstanceUid", "date"),
    ),
}
# The tables that count their rows, and by which column.
COUNTED = {
    "Resources": "internalId",
    "PatientRecyclingOrder": "seq",
    "Changes": "seq",
    "ExportedResources": "seq",
}
# Those with rows that a trigger adds something to.
TRIGGERED = ("Resources", "AttachedFiles", "Changes")
# The property that tells how many names were made up, and goes along.
NAMES = 3
# In a digest: between two values, and in the place of none.
BETWEEN, NONE = "\x1f", "\x1e"
ESCAPES = {ord(c): f"\\{e}" for c, e in zip("\\\b\f\n\r\t\v", "\\bfnrtv")}
ESCAPED = {f"\\{e}": c for c, e in zip("\\\b\f\n\r\t\v", "\\bfnrtv")}
ESCAPE = re.compile(r"\\.")
# A line of psql that is no row.
MARK = "\\#"
# After so many rows it is said that it goes on.
SAID = 500_000
# Empties an index in PostgreSQL, with all that belongs to resources.
EMPTIED = f"""
TRUNCATE resources, exportedresources, serverproperties CASCADE;
UPDATE globalintegers SET value = 0;
DELETE FROM globalproperties WHERE property = {NAMES};
"""
# The sums that triggers keep. Orthanc itself counts in SQLite.
SUMS = """
UPDATE globalintegers SET value = (SELECT coalesce(sum(compressedsize), 0) FROM attachedfiles)
 WHERE key = 0;
UPDATE globalintegers SET value = (SELECT coalesce(sum(uncompressedsize), 0) FROM attachedfiles)
 WHERE key = 1;
UPDATE globalintegers SET value = (SELECT count(*) FROM resources WHERE resourcetype = key - 2)
 WHERE key BETWEEN 2 AND 5;
"""
LAST_VALUES = "SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM {}"


class Columns:
    """How the columns of a table are asked for on both sides, and told to them."""

    def __init__(self, table: str, there: set) -> None:
        """``there`` are the columns that the index in SQLite has."""
        self.table, self.names = table, TABLES[table]
        # SQLite, PostgreSQL, and PostgreSQL as SQLite has it.
        self.sqlite = [name if name in there else "0" for name in self.names]
        self.postgresql = [name.lower().replace("md5", "hash") for name in self.names]
        self.read = [_as_sqlite(*pair) for pair in zip(self.postgresql, self.sqlite)]
        self.kind = self.names.index("resourceType") if "resourceType" in self.names else None

    def digest(self) -> str:
        """Return the statement by which PostgreSQL makes the digest of its rows."""
        texts = [f"coalesce(({one})::text, E'{_hex(NONE)}')" for one in self.read]
        row = f" || E'{_hex(BETWEEN)}' || ".join(texts)
        number = f"('x' || substr(md5({row}), 1, 15))::bit(60)::bigint"
        return f"SELECT count(*), coalesce(sum({number}), 0) FROM {self.table}"


def _as_sqlite(column: str, there: str) -> str:
    if there == "0":
        return "0"
    return {"resourcetype": "resourcetype + 1", "revision": "coalesce(revision, 0)"}.get(
        column, column
    )


def _hex(character: str) -> str:
    return f"\\x{ord(character):02x}"


class Digest:
    """Tells rows from other ones, in whatever order they come."""

    def __init__(self) -> None:
        self.count = self.sum = 0
        # What forbids MD5 forbids it for secrets.
        told = {"usedforsecurity": False} if sys.version_info >= (3, 9) else {}
        self.md5 = hashlib.new("md5", **told)  # noqa: S324

    def add(self, row) -> None:
        texts = [NONE if value is None else str(value) for value in row]
        md5 = self.md5.copy()
        md5.update(BETWEEN.join(texts).encode())
        self.count += 1
        self.sum += int(md5.hexdigest()[:15], 16)

    @property
    def value(self) -> tuple:
        return self.count, self.sum


@contextlib.contextmanager
def opened(path, changed=False):
    """
    Part of the formula. Give a connection to an index in SQLite, as long as the ``with`` block
    lasts. Nothing is written beside it.

    path
        The path of the index, which nobody else has open.

    changed
        True gives one that may be written to.

    Raises CommandExecutionError where SQLite refuses something.
    """
    address = f"file:{urllib.parse.quote(path)}"
    if not changed and not os.path.exists(f"{path}-wal"):
        address += "?immutable=1"
    try:
        with contextlib.closing(
            sqlite3.connect(address, isolation_level=None, uri=True)
        ) as connection:
            yield connection
    except (sqlite3.Error, UnicodeError) as err:
        raise CommandExecutionError(f"the index {path} cannot be moved: {err}") from None


def _columns(connection) -> dict:
    """Return how to ask for each table that an index in SQLite has."""
    found = {}
    for table in TABLES:
        there = {row[1] for row in connection.execute(f"PRAGMA table_info({table})")}
        if there:
            found[table] = Columns(table, there)
    return found


def tables(connection):
    """
    Part of the formula. Yield each table of an index in SQLite: its name, the names of its columns,
    and its rows.

    connection
        What ``opened`` gives.
    """
    for table, columns in _columns(connection).items():
        yield table, columns.names, _rows(connection, columns)


def _rows(connection, columns: Columns):
    """Yield the rows of a table in SQLite, with ``revision`` where it has none as 0."""
    words = [f"coalesce({one}, 0)" if one == "revision" else one for one in columns.sqlite]
    for number, row in enumerate(
        connection.execute(f"SELECT {', '.join(words)} FROM {columns.table}"), 1
    ):
        if not number % SAID:
            log.info("%s: %d rows", columns.table, number)
        yield row


def emptied():
    """
    Part of the formula. Return the statements that empty an index in PostgreSQL.
    """
    return EMPTIED


def into_postgresql(path, section, account):
    """
    Part of the formula. Let the tables of an index in PostgreSQL hold what one in SQLite holds,
    and nothing else, in one transaction.

    path
        The path of the index in SQLite, which nobody else has open.

    section
        The section of PostgreSQL among the options; the plugin has made its tables there.

    account
        A mapping with the names of Orthanc's ``user`` and ``group``, whom PostgreSQL knows.

    Raises CommandExecutionError if that failed, or if both do not hold the same; then the tables
    are as they were, or the move is not over.
    """
    made = {}
    with opened(path) as connection, __salt__["orthanc_psql.session"](section, account) as psql:
        all_columns = _columns(connection)
        psql.write("BEGIN; SET LOCAL lock_timeout = '30s';\n")
        psql.write("SELECT to_regclass('labels') IS NOT NULL;\n")
        if psql.read() == "f":
            _refuse_labels(connection, all_columns)
        psql.write(EMPTIED)
        _trigger(psql, "DISABLE")
        for table, columns in all_columns.items():
            log.info("Moving %s", table)
            made[table] = Digest()
            psql.write(f"COPY {table} ({', '.join(columns.postgresql)}) FROM STDIN;\n")
            for row in _rows(connection, columns):
                made[table].add(row)
                psql.write(_line(row, columns.kind))
            psql.write("\\.\n")
        _trigger(psql, "ENABLE")
        psql.write(SUMS)
        for table, column in COUNTED.items():
            last = _last(connection, table, column)
            sequence = f"pg_get_serial_sequence('{table.lower()}', '{column.lower()}')"
            psql.write(f"SELECT setval({sequence}, {max(last, 1)}, {str(last > 0).lower()});\n")
            psql.read()
            if table == "Changes":
                psql.write(f"UPDATE globalintegers SET value = {last} WHERE key = 6;\n")
        for number in _names(connection):
            psql.write(f"INSERT INTO globalproperties VALUES ({NAMES}, '{number}');\n")
        log.info("Comparing both")
        _compare(psql, {table: digest.value for table, digest in made.items()}, all_columns)
        psql.write(f"COMMIT; ANALYZE {', '.join(all_columns)};\n")


def _refuse_labels(connection, all_columns: dict) -> None:
    """Leave labels out where the plugin does not know them; Orthanc does not either, then."""
    if all_columns.pop("Labels", None):
        ((number,),) = connection.execute("SELECT count(*) FROM Labels")
        if number:
            raise CommandExecutionError(
                f"there are {number} labels, and the plugin of PostgreSQL is too old for them"
            )


def _trigger(psql, word: str) -> None:
    # One row at a time they take as long as the square of the number of rows.
    for table in TRIGGERED:
        psql.write(f"ALTER TABLE {table} {word} TRIGGER USER;\n")


def _line(row, kind: int | None) -> str:
    """Return a row as COPY reads it."""
    texts = ["\\N" if value is None else str(value).translate(ESCAPES) for value in row]
    if kind is not None:
        texts[kind] = str(row[kind] - 1)
    return "\t".join(texts) + "\n"


def _last(connection, table: str, column: str) -> int:
    """Return the highest number that a row of a table has, or had."""
    found = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = ?", (table,))
    ((highest,),) = connection.execute(f"SELECT max({column}) FROM {table}")
    return max([0, highest or 0, *(int(number) for (number,) in found)])


def _names(connection) -> list:
    statement = "SELECT value FROM GlobalProperties WHERE property = ?"
    return [int(v) for (v,) in connection.execute(statement, (NAMES,)) if re.fullmatch(r"\d+", v)]


def _compare(psql, made: dict, all_columns: dict) -> None:
    """Raise an error unless PostgreSQL says that its rows are the same."""
    for table, columns in all_columns.items():
        psql.write(f"{columns.digest()};\n")
        found = tuple(map(int, psql.read().split("|")))
        if found != made[table]:
            raise CommandExecutionError(
                f"{table} is not the same on both sides: {made[table][0]} rows in SQLite and"
                f" {found[0]} in PostgreSQL, or other values in them"
            )


def into_sqlite(section, account, path):
    """
    Part of the formula. Let an index in SQLite hold what one in PostgreSQL holds, in one
    transaction.

    section, account
        See ``into_postgresql``.

    path
        The path of an index that is new, which nobody else has open.

    Raises CommandExecutionError if that failed, or if both do not hold the same.
    """
    with opened(path, changed=True) as connection, __salt__["orthanc_psql.session"](
        section, account
    ) as psql:
        all_columns = _columns(connection)
        psql.write("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;\n")
        psql.write("SELECT to_regclass('labels') IS NOT NULL;\n")
        if psql.read() == "f":
            all_columns.pop("Labels", None)
        connection.execute("PRAGMA journal_mode = DELETE")
        connection.execute("BEGIN IMMEDIATE")
        for table, columns in all_columns.items():
            log.info("Moving %s", table)
            if table == "PatientRecyclingOrder":  # a trigger has filled it
                connection.execute(f"DELETE FROM {table}")
            psql.write(f"COPY (SELECT {', '.join(columns.read)} FROM {table}) TO STDOUT;\n")
            psql.write(f"\\echo '\\{MARK}'\n")
            names = [n for n, there in zip(columns.names, columns.sqlite) if there != "0"]
            places = ", ".join("?" * len(names))
            connection.executemany(
                f"INSERT INTO {table} ({', '.join(names)}) VALUES ({places})",
                _read(psql, [there != "0" for there in columns.sqlite]),
            )
        for table, column in COUNTED.items():
            psql.write(f"{LAST_VALUES.format(f'{table}_{column}_seq')};\n")
            last = psql.read()
            connection.execute("DELETE FROM sqlite_sequence WHERE name = ?", (table,))
            connection.execute("INSERT INTO sqlite_sequence VALUES (?, ?)", (table, int(last)))
        psql.write(f"SELECT count(*) FROM globalproperties WHERE property = {NAMES};\n")
        if psql.read() == "1":
            psql.write(f"SELECT value FROM globalproperties WHERE property = {NAMES};\n")
            row = (NAMES, psql.read())
            connection.execute("INSERT INTO GlobalProperties VALUES (?, ?)", row)
        connection.execute("COMMIT")
        log.info("Comparing both")
        made = {}
        for table, columns in all_columns.items():
            made[table] = Digest()
            for row in _rows(connection, columns):
                made[table].add(row)
        _compare(psql, {table: digest.value for table, digest in made.items()}, all_columns)


def _read(psql, kept: list):
    """Yield the rows that COPY writes, without the columns that are not kept."""
    while True:
        line = psql.read()
        if line == MARK:
            return
        yield [_value(text) for text, is_kept in zip(line.split("\t"), kept) if is_kept]


def _value(text: str):
    if text == "\\N":
        return None
    return ESCAPE.sub(lambda match: ESCAPED[match.group()], text) if "\\" in text else text
