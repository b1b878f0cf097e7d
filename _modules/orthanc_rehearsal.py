"""
A rehearsal: what one version of Orthanc and another one make of an index, shown by an empty one.

Each is started on it, reads what the other one has stored, stores, and deletes. So no table of
versions is needed to know that the index changes, nor that the old version goes on with it.

For a database there is the number of its schema's revision.
"""

from __future__ import annotations

import contextlib
import os
import re

from salt.exceptions import CommandExecutionError

try:
    import sqlite3
except ImportError:  # not every Python has it
    sqlite3 = None

# An image of nobody.
IMAGE = {"Tags": {"PatientID": "rehearsal", "SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"}}
# The revision of the schema that the plugin for PostgreSQL makes, from its version on; see
# https://orthanc.uclouvain.be/book/plugins/postgresql.html and PostgreSQL/NEWS in
# https://orthanc.uclouvain.be/hg/orthanc-databases/. Between two rows it is that of the first.
# What is 0 here calls itself 1 too, and has no table of labels, which plugin 5.0 adds.
REVISIONS = {
    **{(0,): 0, (5,): 1, (6,): 2, (7,): 3, (7, 2): 4, (8,): 5},
    **{(9,): 6, (10,): 10, (11,): 11},
}
# Where PostgreSQL keeps the revision.
REVISION = (
    "SELECT CASE WHEN to_regclass('labels') IS NULL THEN '0' ELSE"
    " (SELECT value FROM globalproperties WHERE property = 4) END"
)
SIZE = "SELECT pg_database_size(current_database())"


def serve(folder, command, user, group, tree=None):
    """
    Part of the formula. Let Orthanc serve from the index and the images in a folder for a moment,
    with what the unit of the service keeps from it, where systemd can do that.

    folder
        The path of the folder, which is made where it is not there.

    command
        The path of Orthanc's program.

    user, group
        The names of Orthanc's account and of its group.

    tree
        The path of the folder with the files of packages that are not installed.

    Returns the tables and indexes of the index, a mapping from name to statement.

    Raises CommandExecutionError with Orthanc's own words if it does not start, or does not take,
    give, or delete an image.
    """
    if not os.path.isdir(folder):
        os.makedirs(folder, 0o700)
        os.chown(folder, __salt__["orthanc_host.account"](user).pw_uid, -1)
    options = {"StorageDirectory": folder, "IndexDirectory": folder, "Plugins": []}
    more = [("ReadWritePaths", folder), *([("ExtensionDirectories", tree)] if tree else [])]
    service = __salt__["orthanc_tables.get"]("SERVER")
    restricted = __salt__["orthanc_hardening.of_unit"](service, user, group, more)
    words = __salt__["orthanc_scratch.starter"](
        *(command, {"user": user, "group": group}, restricted, "orthanc-rehearsal")
    )
    with __salt__["orthanc_scratch.running"](folder, options, group, words) as ask:
        _use(ask)
    return _schema(os.path.join(folder, "index"))


def _use(ask) -> None:
    """Read all images, store two more, and delete one of them."""

    def succeed(method, path, data=None):
        code, found = ask(method, path, data)
        if code != 200:
            raise CommandExecutionError(f"{method} {path.split('/')[1]} fails ({code}):")
        return found

    for image in succeed("GET", "/instances"):
        succeed("GET", f"/instances/{image}/file")
    stored = [succeed("POST", "/tools/create-dicom", IMAGE)["ID"] for _ in range(2)]
    succeed("DELETE", f"/instances/{stored[0]}")


def _schema(index: str) -> dict:
    if sqlite3 is None:
        raise CommandExecutionError("this Python has no sqlite3, by which the index is read")
    with contextlib.closing(sqlite3.connect(index)) as connection:
        return dict(connection.execute("SELECT name, sql FROM sqlite_master").fetchall())


def revision(options, user, group):
    """
    Part of the formula. Return the revision of the schema of a PostgreSQL database, a number.

    options
        A mapping from option name to value.

    user, group
        The names of Orthanc's account and of its group, whom PostgreSQL knows.

    Raises CommandExecutionError if it cannot be asked.
    """
    found = _sql(options, REVISION, user, group)
    return int(found) if found else 1


def revision_of(plugin):
    """
    Part of the formula. Return the revision of the schema that a version of the plugin for
    PostgreSQL makes.

    plugin
        The version, a text.
    """
    version = tuple(map(int, re.findall(r"\d+", plugin)))
    return [number for first, number in REVISIONS.items() if first <= version][-1]


def size(options, user, group):
    """
    Part of the formula. Return how large the index is, in bytes.

    options, user, group
        See ``revision``; with the places of images and index.
    """
    if __salt__["orthanc_postgresql.is_sqlite"](options):
        return os.path.getsize(os.path.join(options["IndexDirectory"], "index"))
    return int(_sql(options, SIZE, user, group))


def _sql(options: dict, statement: str, user: str, group: str) -> str:
    section = __salt__["orthanc_postgresql.section_of"](options)
    said = __salt__["orthanc_postgresql.ask"](section, statement, user, group)
    if said is None or said["retcode"]:
        why = " ".join(said["stderr"].split()) if said else "there is no psql"
        raise CommandExecutionError(f"the database cannot be asked: {why}")
    return said["stdout"].strip()
