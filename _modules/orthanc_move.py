"""
The index moved from SQLite to PostgreSQL, or back, with all that it knows; images stay where they
are.

What can be known is said first, while the server serves. Then the formula is applied as always, and
moves the index where it would write the new configuration; see :py:mod:`orthanc_cutover`.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time

from salt.exceptions import CommandExecutionError

log = logging.getLogger(__name__)

# Locked as long as a move lasts.
ALONE = "/run/orthanc-move-index"
SQLITE = "SQLite"
# What the states that did not run say.
NOT_RUN = "One or more requisite failed"
# What Salt says where it is another program that has the formula.
NO_FORMULA = "No matching sls found"
SALT_SSH = (
    "The formula cannot be applied from here. Apply it within an hour, as always: that moves the"
    " index"
)


def run(name, lose=False, test=False):
    """
    Part of the formula. Move the index where the pillar has it; see ``orthanc.move_index``.

    name
        The path of the folder of the configuration.

    lose
        Whether what does not go along may be lost.

    test
        True only says what would be done.
    """
    flags = os.O_RDWR | os.O_CREAT
    with __salt__["orthanc_backup_job.alone"](ALONE, "a move of the index", flags):
        found = _ready(name, lose)
        before = __salt__["orthanc_move_note.read"](name).get("begun")
        __salt__["orthanc_move_note.write"](
            name, asked=time.time(), lose=lose, tried=test, away=None
        )
        log.info("Applying the formula, which moves the index of %d images", found["images"])
        states: object = {}
        try:
            states = __salt__["state.apply"]("orthanc", test=test)
        finally:
            if not _has_no_formula(states) or test:
                __salt__["orthanc_move_note.write"](name, asked=None, lose=None, tried=None)
        if _has_no_formula(states):
            __context__["retcode"] = 0
            return {**found, "next": SALT_SSH, "because": states}
        if not isinstance(states, dict):
            raise CommandExecutionError("\n".join(["The index was not moved.", *map(str, states)]))
        noted = __salt__["orthanc_move_note.read"](name)
        done = noted.get("begun") if noted.get("begun") != before else None
        failed = _failed(states)
        if failed:
            where = "was moved" if done and done.get("served") else "was not moved"
            raise CommandExecutionError("\n".join([f"The index {where}.", *failed]))
        if test:
            return {**found, "test": "this would be moved, and nothing is in the way so far"}
        if not done:
            raise CommandExecutionError("nothing was moved: the index is where the pillar has it")
        return {**found, "away": noted.get("away"), "kept": noted["kept"][-1]}


def _has_no_formula(states) -> bool:
    """Return whether Salt has no formula here, as over salt-ssh, which brings it itself."""
    return not isinstance(states, dict) and any(NO_FORMULA in str(line) for line in states)


def _failed(states: dict) -> list:
    """Return what the states say that have failed by themselves."""
    return [
        state["comment"]
        for state in states.values()
        if state["result"] is False and NOT_RUN not in state["comment"]
    ]


def _ready(name: str, lose: bool) -> dict:
    """Return what is to be moved; raise an error where that cannot be."""
    service = __salt__["orthanc_tables.get"]("SERVER")
    options = __salt__["orthanc_folder.options_in_use"](name, service)
    if not options:
        raise CommandExecutionError("there is no Orthanc on this host; apply the formula first")
    source = __salt__["orthanc_postgresql.index"](options)
    if source is None:
        raise CommandExecutionError("the index is in a database that the formula does not know")
    if __salt__["orthanc_postgresql.section_of"](options).get("EnableStorage"):
        raise CommandExecutionError(
            "the images themselves are in the database (EnableStorage), from where no tool brings"
            " them out but https://orthanc.uclouvain.be/book/users/replication.html"
        )
    _refuse_target(source)
    account = dict.fromkeys(("user", "group"), service)
    with _readable(options) as path:
        opened = __salt__["orthanc_index.of_copy"](path) if path else None
        with opened or __salt__["orthanc_index.opened"](options, account) as index:
            images = index.images()
        unfit = __salt__["orthanc_index_checks.problems"](path) if path else []
        lost = __salt__["orthanc_index_checks.lost"](options, account, path)
    if unfit:
        raise CommandExecutionError(
            "\n".join(["the index cannot go to PostgreSQL as it is:", *unfit])
        )
    if lost and not lose:
        raise CommandExecutionError(
            f"not all of the index can be moved: {'; '.join(lost)}. Let the jobs end first, or say"
            " that it may be lost: lose=True"
        )
    return {"from": source, "images": images, "lost": lost}


def _readable(options: dict):
    """Give the path of a copy of an index in SQLite, None for one in a database."""
    if __salt__["orthanc_postgresql.is_sqlite"](options):
        return __salt__["orthanc_index.copied"](os.path.join(options["IndexDirectory"], "index"))
    return contextlib.nullcontext()


def _refuse_target(source: str) -> None:
    """Raise an error where the pillar has the index at no place where it can go."""
    wanted = _wanted()
    target = __salt__["orthanc_postgresql.index"](wanted) if wanted else None
    if target == source:
        wish = "true" if source == SQLITE else "false"
        raise CommandExecutionError(
            f"the pillar has the index where it is, in {source}; set orthanc:postgresql:enabled to"
            f" {wish} first"
        )
    if target and SQLITE not in (source, target):
        raise CommandExecutionError(
            f"an index goes from SQLite to PostgreSQL, or back, and not from {source} to {target};"
            " use pg_dump and pg_restore for that"
        )
    if wanted and __salt__["orthanc_postgresql.section_of"](wanted).get("EnableStorage"):
        raise CommandExecutionError(
            "the images are files, and stay so: set orthanc:postgresql:storage to false"
        )


def _wanted() -> dict:
    """Return the options that the pillar asks for; none where that is for others to say."""
    for chunk in __salt__["state.show_low_sls"]("orthanc.validation"):
        if isinstance(chunk, dict) and "configuration" in chunk:
            # Not the pillar that a minion has in memory.
            configuration = __salt__["orthanc_pillar.resolve"](chunk["configuration"], {})
            return __salt__["orthanc_judge.case"](chunk["name"], configuration, host=False).options
    return {}


def forget(name):
    """
    Part of the formula. Let old indexes go; see ``orthanc.move_index``.

    name
        The path of the folder of the configuration.
    """
    if not __salt__["orthanc_http.answers"](__salt__["orthanc_server.url"](name)):
        raise CommandExecutionError("Orthanc does not answer; until it does, nothing is let go")
    service = __salt__["orthanc_tables.get"]("SERVER")
    account = dict.fromkeys(("user", "group"), service)
    __salt__["orthanc_cutover.arrived"](name, service, account)
    noted, options = (
        __salt__["orthanc_move_note.read"](name),
        __salt__["orthanc_folder.located"](name),
    )
    begun, kept = noted.get("begun", {}), list(noted.get("kept", []))
    if begun and not begun.get("served"):
        half = os.path.join(options["IndexDirectory"], "index")
        kept.append(half if begun["target"] == SQLITE else begun["target"])
    used = __salt__["orthanc_postgresql.index"](options)
    if used == SQLITE:
        used = os.path.join(options["IndexDirectory"], "index")
    kept = [old for old in dict.fromkeys(kept) if old != used]
    left = {}
    for old in kept:
        if old.startswith("/"):
            for part in __salt__["orthanc_index.parts"](old):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(part)
            continue
        try:
            __salt__["orthanc_index_checks.empty"](old, account)
        except CommandExecutionError as err:
            left[old] = str(err)
    forgotten = [*noted.get("forgotten", ()), *left]
    __salt__["orthanc_move_note.write"](name, begun=None, kept=None, forgotten=forgotten)
    return {"forgotten": kept, **({"not emptied": left} if left else {})}
