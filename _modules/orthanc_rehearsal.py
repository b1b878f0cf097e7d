"""
A rehearsal: what one version of Orthanc and another one make of an index, shown by an empty one.

Each is started on it, reads what the other one has stored, stores, and deletes. So no table of
versions is needed to know that the index changes, nor that the old version goes on with it.

For a database there is the number of its schema's revision.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import socket
import subprocess
import time

import salt.utils.files
from salt.exceptions import CommandExecutionError

try:
    import sqlite3
except ImportError:  # not every Python has it
    sqlite3 = None

# For how long Orthanc may take to start or to answer, in seconds.
PATIENCE = 60
STARTED = "Orthanc has started"
USER = "rehearsal"
# An image of nobody.
IMAGE = {"Tags": {"PatientID": "rehearsal", "SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"}}
# The revision of the schema that the plugin for PostgreSQL makes, from its version on; see
# https://orthanc.uclouvain.be/book/plugins/postgresql.html and PostgreSQL/NEWS in
# https://orthanc.uclouvain.be/hg/orthanc-databases/. Between two rows it is that of the first.
REVISIONS = {
    **{(0,): 1, (6,): 2, (7,): 3, (7, 2): 4, (8,): 5},
    **{(9,): 6, (10,): 10, (11,): 11},
}
# Where PostgreSQL keeps the revision; there is none before plugin 5.1.
REVISION = "SELECT value FROM globalproperties WHERE property = 4"
SIZE = "SELECT pg_database_size(current_database())"


def serve(folder, command, user, group):
    """
    Part of the formula. Let Orthanc serve from the index and the images in a folder for a moment.

    folder
        The path of the folder, which is made where it is not there.

    command
        The path of Orthanc's program.

    user, group
        The names of Orthanc's account and of its group.

    Returns the tables and indexes of the index, a mapping from name to statement.

    Raises CommandExecutionError with Orthanc's own words if it does not start, or does not take,
    give, or delete an image.
    """
    account = __salt__["orthanc_host.account"](user)
    if not os.path.isdir(folder):
        os.makedirs(folder, 0o700)
        os.chown(folder, account.pw_uid, account.pw_gid)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    password = secrets.token_urlsafe()
    options = {
        "StorageDirectory": folder,
        "IndexDirectory": folder,
        "Plugins": [],
        "HttpPort": port,
        "DicomServerEnabled": False,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": True,
        "RegisteredUsers": {USER: password},
        "SaveJobs": False,
    }
    config = os.path.join(folder, "orthanc.json")
    text = __salt__["orthanc_json.dump"](options)
    __salt__["orthanc_files.write"](config, text, 0o640, account.pw_gid)
    switch = __salt__["orthanc_host.as_account"](user, group)
    words = [*switch[:-1], "--pdeathsig", "KILL", "--", command, config]
    output = os.path.join(folder, "log")
    with salt.utils.files.fopen(output, "wb") as file, subprocess.Popen(
        words, stdin=subprocess.DEVNULL, stdout=file, stderr=file, cwd="/"
    ) as process:
        try:
            _wait(process, output)
            _use(lambda *what: _ask(port, password, *what))
        except (CommandExecutionError, OSError) as err:
            raise CommandExecutionError(f"{err} {_errors(output)}") from None
        finally:
            process.kill()
    return _schema(os.path.join(folder, "index"))


def _wait(process, output: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while process.poll() is None and time.monotonic() < deadline:
        with salt.utils.files.fopen(output, errors="replace") as file:
            if STARTED in file.read():
                return
        time.sleep(0.05)
    raise OSError("it does not start:")


def _errors(output: str) -> str:
    with salt.utils.files.fopen(output, errors="replace") as file:
        lines = file.read().splitlines()
    return " ".join([line for line in lines if re.match(r"E\d{4}", line)][-5:] or lines[-3:])


def _use(ask) -> None:
    """Read all images, store two more, and delete one of them."""
    for image in ask("GET", "/instances"):
        ask("GET", f"/instances/{image}/file")
    stored = [ask("POST", "/tools/create-dicom", IMAGE)["ID"] for _ in range(2)]
    ask("DELETE", f"/instances/{stored[0]}")


def _ask(port: int, password: str, method: str, path: str, data=None):
    code, found = __salt__["orthanc_http.ask"](
        f"http://127.0.0.1:{port}{path}",
        method,
        (USER, password),
        PATIENCE,
        data and json.dumps(data).encode(),
    )
    if code != 200:
        raise OSError(f"{method} {path.split('/')[1]} fails ({code}):")
    return found


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
