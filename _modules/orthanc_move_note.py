"""
What is noted of a move of the index: that it was asked for, where a copy lies that was not served
yet, and where old indexes are kept that were.
"""

from __future__ import annotations

import contextlib
import json
import time

SQLITE = "SQLite"
# Stands beside the folder of the configuration.
NOTE = ".index-move"
# For how many seconds a move may be asked for before the formula is applied.
ASKED = 3600
STALE = (
    "{} holds an index of this server that is not its newest one, after a move; call"
    " orthanc.move_index, which takes the newest one along"
)


def path(name):
    """
    Part of the formula. Return the path of the note.

    name
        The path of the folder of the configuration.
    """
    return name + NOTE


def read(name):
    """
    Part of the formula. Return what is noted, a mapping: when a move was ``asked`` for, and whether
    that was only ``tried``; ``begun``, a mapping with the ``source`` and the ``target`` of the last
    one, each as ``orthanc_postgresql.index`` names them, its ``time``, and whether the server has
    ``served`` with it; for how many seconds it was ``away``; the process that has started it
    ``fresh``; the old indexes that are ``kept``, a list of paths and
    addresses; and those that are ``forgotten`` and could not be emptied.

    name
        See ``path``.
    """
    with contextlib.suppress(OSError):
        return __salt__["orthanc_json.noted"](__salt__["orthanc_files.read_if_there"](path(name)))
    return {}


def write(name, **values):
    """
    Part of the formula. Note something more.

    name
        See ``path``.

    values
        What ``read`` returns; None takes it out.

    Raises CommandExecutionError if writing failed.
    """
    noted = {key: value for key, value in {**read(name), **values}.items() if value}
    text = json.dumps(noted, indent=2, sort_keys=True) + "\n" if noted else None
    with __salt__["orthanc_files.failing"]("noting the move of the index"):
        __salt__["orthanc_files.write"](path(name), text, 0o600)


def is_asked(name, before, options):
    """
    Part of the formula. Return whether the index is to be moved where the options have it.

    name
        See ``path``.

    before
        The options that the server has now; a mapping from option name to value.

    options
        The options that it shall have.
    """
    places = [__salt__["orthanc_postgresql.index"](each) for each in (before, options)]
    sqlite = [__salt__["orthanc_postgresql.is_sqlite"](each) for each in (before, options)]
    sections = [__salt__["orthanc_postgresql.section_of"](each) for each in (before, options)]
    noted = read(name)
    # Where what only tried was killed, the next run moves nothing.
    tried = noted.get("tried") and not __opts__.get("test")
    return (
        noted.get("asked", 0) > time.time() - ASKED
        and not tried
        and bool(before)
        and None not in places
        and sorted(sqlite) == [False, True]
        and not any(section.get("EnableStorage") for section in sections)
    )


def is_told(name, before, options, seen):
    """
    Part of the formula. Return whether it is said elsewhere that the index is not where the options
    have it: it is to be moved there, or could be, from a database that knows the same images.

    name, before, options
        See ``is_asked``.

    seen
        What ``orthanc_identity.look`` saw.
    """
    index = __salt__["orthanc_postgresql.index"](before)
    goes_back = __salt__["orthanc_postgresql.is_sqlite"](options) and index not in (None, SQLITE)
    same = before.get("StorageDirectory") == options.get("StorageDirectory")
    images = seen.get("storage", {}).get("images")
    return bool(goes_back and same and images) or is_asked(name, before, options)


def judge(name, before, options):
    """
    Part of the formula. Say whether the options may name another index than the server has, as a
    list of pairs of an option's path and a sentence: none where the index is to be moved there.
    None where nothing is noted of it.

    name, before, options
        See ``is_asked``.
    """
    if is_asked(name, before, options):
        return []
    old, new = (__salt__["orthanc_postgresql.index"](each) for each in (before, options))
    noted = read(name)
    known = [noted.get("begun", {}).get("target"), *noted.get("kept", ())]
    known += noted.get("forgotten", ())
    # Of one that cannot be told, nothing is noted.
    if before and new and old != new and new in known:
        return [(["PostgreSQL", "EnableIndex"], STALE.format(new))]
    return None
