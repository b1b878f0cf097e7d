"""
Several nodes of Orthanc on one database: whether they share the folder of the images as well.

Each node that is given a folder of its own would store images there that no other one finds. So the
folder and the database have a mark in common: a file with a random text, and its number in the file
system, which is noted in the database. A copy of the folder has another number.

All of it is done by Orthanc's account: root may not look into a folder of NFS.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets

from salt.exceptions import CommandExecutionError

# The file in the folder of the images; its text, and its number in the file system.
MARK = ".orthanc-cluster"
FORM = re.compile("[0-9a-f]{32} [0-9]+")
# In the database.
READ = "SELECT mark FROM orthanc_formula_mark"
# Of nodes that come at the same time, all get what the first one wrote.
NOTE = (
    "CREATE TABLE IF NOT EXISTS orthanc_formula_mark"
    " (one boolean PRIMARY KEY CHECK (one), mark text NOT NULL);"
    " INSERT INTO orthanc_formula_mark VALUES (true, '{}') ON CONFLICT DO NOTHING;"
    " SELECT mark FROM orthanc_formula_mark"
)
NO_TABLE = "42P01"
LOOK = 'cat "$0" && stat -c %i "$0"'
# Made only where there is none.
MAKE = 'umask 077; test -e "$0" || { set -C; echo "$1" > "$0"; } 2>/dev/null; ' + LOOK


def judge(options, account, texts=None):
    """
    Part of the formula. Say why the images of a server would be in another folder than those of the
    other nodes: a list of pairs of an option's path and a sentence. It is empty where there are no
    others, and where it cannot be told yet.

    options
        A mapping from option name to value, with whole paths.

    account
        The names of Orthanc's ``user`` and ``group``, a mapping.

    texts
        See ``orthanc_database.tried``.
    """
    if not _shares(options):
        return []
    path, known = os.path.join(options["StorageDirectory"], MARK), ""
    with contextlib.suppress(CommandExecutionError):
        known = _ask(options, READ, account, texts)
    if not known or _look(path, account) == known:
        return []
    return [(["StorageDirectory"], _sentence(path, account))]


def share(options, account, test=False):
    """
    Part of the formula. Give folder and database their mark, where they have none.

    options, account
        See ``judge``.

    test
        True only says what would be done.

    Returns True if the database got the mark.

    Raises CommandExecutionError if the folder is not that of the other nodes, or if one of the two
    cannot be written.
    """
    if not _shares(options):
        return False
    path = os.path.join(options["StorageDirectory"], MARK)
    known = _ask(options, READ, account)
    if not known and test:
        return True
    found = _look(path, account, "" if known else secrets.token_hex(16))
    if not known and not found:
        raise CommandExecutionError(f"the account {account['user']} cannot write {path}")
    if found != (known or _ask(options, NOTE.format(found), account)):
        raise CommandExecutionError(_sentence(path, account))
    return not known


def _shares(options: dict) -> bool:
    """Return whether other nodes may use the database, and whether images are files."""
    section = __salt__["orthanc_postgresql.section_of"](options)
    shared = section.get("EnableIndex") and section.get("Lock") is False
    return bool(shared) and __salt__["orthanc_identity.in_folder"](options)


def _ask(options: dict, statement: str, account: dict, texts=None) -> str:
    """Return the mark of the database; empty where it has none."""
    section = __salt__["orthanc_postgresql.section_of"](options)
    result = __salt__["orthanc_postgresql.ask"](section, statement, **account, texts=texts)
    if result is None:
        raise CommandExecutionError("the database cannot be asked what its nodes share")
    if result["retcode"] and NO_TABLE not in result["stderr"]:
        words = " ".join(result["stderr"].split())
        raise CommandExecutionError(f"the database does not say what its nodes share: {words}")
    return result["stdout"].strip()


def _look(path: str, account: dict, new: str = "") -> str:
    """Return the mark in the folder, which is made if there is a new one; empty for none."""
    switch = __salt__["orthanc_host.as_account"](**account)
    words = [*switch, "sh", "-c", MAKE if new else LOOK, path, *([new] if new else [])]
    found = " ".join((__salt__["orthanc_host.ask"](words) or "").split()) if switch else ""
    return found if FORM.fullmatch(found) else ""


def _sentence(path: str, account: dict) -> str:
    folder, may = os.path.dirname(path), __salt__["orthanc_host.may"]
    if may(["-e", path], **account) and not may(["-r", path], **account):
        return (
            f"the account {account['user']} may not read {path}, which another node has written: it"
            f" has another number there. Give it the same one on all nodes: `id {account['user']}`"
            " shows it, usermod -u changes it"
        )
    return (
        f"the other nodes of this database keep their images in another folder than {folder} of"
        f" this host: {path} is not there as they have written it. Mount the file system that they"
        " share; a copy will not do. If that of all nodes was moved or restored on purpose: stop"
        f" Orthanc on all of them, remove {path} if it is there, and let the owner of the database"
        " DROP TABLE orthanc_formula_mark; the first node that is applied then marks both anew"
    )
