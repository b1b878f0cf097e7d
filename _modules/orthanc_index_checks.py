"""
What of an index cannot be moved, or would be lost, and whether a database can take it.
"""

# ruff: noqa: S608 (the names of tables are those of this file)

from __future__ import annotations

import collections
import json
import re

from salt.exceptions import CommandExecutionError

# What was no UTF-8.
SURROGATE = re.compile("[\ud800-\udfff]")
# How long a text may be in PostgreSQL.
LONGEST = dict.fromkeys(("publicId", "uuid", "date", "patientId"), 64)
# The versions of the schema that are known, by the property that says which one it is: of all
# indexes, and the revision of that in PostgreSQL.
SCHEMA, REVISION = (1, "6"), (4, "1")
# Properties: what an index says of itself; how many names were made up, which goes along; the jobs,
# which the plugin keeps with the name of a server that it makes up itself.
OWN, NAMES, JOBS = (1, 2, 4, 6, 7, 10, 11, 12, 13), 3, 5
# What is kept in the index where an option says so.
KEPT = {20: "modalities, of DicomModalitiesInDatabase", 21: "peers, of OrthancPeersInDatabase"}
# The states of jobs of which nothing is lost but that they were there.
ENDED = ("Success", "Failure")
# What newer versions of Orthanc keep for plugins.
OF_PLUGINS = ("KeyValueStores", "Queues")
# What tells of it: how many resources there are, and of which version it is.
STATE = """
SELECT (SELECT count(*) FROM resources),
 (SELECT value FROM globalproperties WHERE property = 1),
 (SELECT value FROM globalproperties WHERE property = 4)
"""
PROPERTIES = "SELECT json_agg(json_build_array(property, value)) FROM {}"


def problems(path):
    """
    Part of the formula. Return why an index in SQLite cannot go to PostgreSQL, a list of sentences.

    path
        The path of a copy of the index that nobody else has open.

    Raises CommandExecutionError if it cannot be read.
    """
    found = []
    with __salt__["orthanc_index_rows.opened"](path) as connection:
        version = connection.execute(
            "SELECT value FROM GlobalProperties WHERE property = ?", SCHEMA[:1]
        ).fetchone()
        if version != SCHEMA[1:]:
            return [f"its index is of a version that is not known here ({version})"]
        connection.text_factory = lambda text: text.decode(errors="surrogateescape")
        for table, names, rows in __salt__["orthanc_index_rows.tables"](connection):
            found += [
                f"{table}: {number} {what}, which PostgreSQL does not take"
                for what, number in sorted(_unfit(names, rows).items())
            ]
        there = {row[1] for row in connection.execute("PRAGMA table_info(AttachedFiles)")}
        if "customData" in there:
            statement = "SELECT count(*) FROM AttachedFiles WHERE length(customData) > 0"
            ((number,),) = connection.execute(statement)
            if number:
                found.append(
                    f"a plugin has notes of its own on {number} files, which would be lost"
                )
    return found


def _unfit(names: tuple, rows) -> dict:
    """Count the values of a table that PostgreSQL does not take, by what is wrong with them."""
    found: dict = collections.Counter()
    for row in rows:
        for name, value in zip(names, row):
            if not isinstance(value, str):
                continue
            if "\0" in value:
                found["values with a NUL byte"] += 1
            elif SURROGATE.search(value):
                found["values that are no UTF-8"] += 1
            elif len(value) > LONGEST.get(name, len(value)):
                found[f"values of {name} with over {LONGEST[name]} characters"] += 1
    return found


def lost(options, account, path=None):
    """
    Part of the formula. Return what of an index does not go along, a list of texts: unfinished
    jobs, devices that are kept in the index, and what plugins keep there.

    options
        A mapping from option name to value, with the section of an index in PostgreSQL.

    account
        A mapping with the names of Orthanc's ``user`` and ``group``, whom PostgreSQL knows.

    path
        The path of an index in SQLite in its place, which nobody else has open.

    Raises CommandExecutionError if it cannot be read.
    """
    found = []
    if path:
        with __salt__["orthanc_index_rows.opened"](path) as connection:
            rows = connection.execute("SELECT property, value FROM GlobalProperties").fetchall()
            tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            for table in {name for (name,) in tables} & set(OF_PLUGINS):
                ((number,),) = connection.execute(f"SELECT count(*) FROM {table}")
                found += [f"{number} rows of plugins in {table}"] if number else []
    else:
        section = __salt__["orthanc_postgresql.section_of"](options)
        tables = ("globalproperties", "serverproperties")
        texts = [_ask(section, account, PROPERTIES.format(table)) for table in tables]
        rows = [row for text in texts for row in json.loads(text or "[]")]
    for number, value in rows:
        if number == JOBS:
            unfinished = _unfinished(value)
            found += [f"{unfinished} jobs that have not ended"] if unfinished else []
        elif number not in (*OWN, NAMES) and (value or "").strip() not in ("", "{}", "[]", "null"):
            found.append(f"the property {number} ({KEPT.get(number, 'of a plugin')})")
    return found


def _ask(section: dict, account: dict, statement: str) -> str:
    """Return what a statement gives."""
    result = __salt__["orthanc_postgresql.ask"](section, statement, **account)
    if result is None or result["retcode"]:
        words = " ".join(result["stderr"].split()) if result else "there is no psql for it here"
        raise CommandExecutionError(f"the database cannot be asked. PostgreSQL says: {words}")
    return result["stdout"].strip()


def state(section, account):
    """
    Part of the formula. Return how many resources an index in PostgreSQL knows, and why it cannot
    be moved or filled, an empty text where it can; None where there is none yet.

    section, account
        See ``orthanc_index_rows.into_postgresql``.

    Raises CommandExecutionError if the database cannot be asked.
    """
    if _ask(section, account, "SELECT to_regclass('resources') IS NULL") == "t":
        return None
    number, schema, revision = _ask(section, account, STATE).split("|")
    problem = ""
    if (schema, revision or REVISION[1]) != (SCHEMA[1], REVISION[1]):
        problem = (
            f"the tables in the database are of a newer plugin (schema {schema}, revision"
            f" {revision}), which this version of the formula does not know how to fill"
        )
    return int(number), problem


def size(section, account):
    """
    Part of the formula. Return how many bytes a database has.

    section, account
        See ``orthanc_index_rows.into_postgresql``.
    """
    return int(_ask(section, account, "SELECT pg_database_size(current_database())"))


def empty(place, account):
    """
    Part of the formula. Let an index in PostgreSQL know nothing any more.

    place
        Where it is, as ``orthanc_postgresql.place_of`` names it.

    account
        See ``orthanc_index_rows.into_postgresql``.

    Raises CommandExecutionError if that failed.
    """
    emptied = __salt__["orthanc_index_rows.emptied"]()
    _ask({"EnableIndex": True, "ConnectionUri": place}, account, emptied)


def _unfinished(text: str) -> int:
    """Return how many of the jobs that were saved have not ended."""
    try:
        jobs = json.loads(text or "{}").get("Jobs", {})
    except (ValueError, AttributeError):
        return 0
    return sum(job.get("State") not in ENDED for job in jobs.values() if isinstance(job, dict))
