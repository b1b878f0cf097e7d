"""
What became of the last backup and of the last drill, for those who watch over the server.
"""

from __future__ import annotations

import hashlib
import json
import os
import time

from salt.exceptions import CommandExecutionError

# Beside the folder of the configuration.
NOTE = ".backup"
# As long as nothing else is known.
BEGUN = (
    "it runs, or was killed together with all that would have noted it; what it left goes when the"
    " next one begins"
)
# How old the last good backup may be before a run warns, in seconds: two times of the schedule, and
# as long as one may take; and where it is not known how much that is.
DAY = 24 * 3600
OLD = 3 * DAY
# How old the last backup may be, and the drill that proves one: each week there is one, up to half
# an hour later.
PROVES = 8 * DAY
# In the folder of the backup: which studies were in the one that the last drill restored, and how.
PROVEN = "proven"


def path(config):
    """
    Part of the formula. Return the path of the note.

    config
        The path of the folder of the configuration.
    """
    return config + NOTE


def read(config):
    """
    Part of the formula. Return what is noted: of the last ``backup``, of the last ``good`` one and
    of the last ``drill``, each a mapping that may be missing. ``time`` is when it began, in seconds
    since 1970, and ``error`` is a sentence, or None where all is well.

    config
        The path of the folder of the configuration.
    """
    return __salt__["orthanc_json.noted"](__salt__["orthanc_files.read_if_there"](path(config)))


def begin(config, what, began):
    """
    Part of the formula. Note that something has begun; what else is noted stays.

    config
        The path of the folder of the configuration.

    what
        ``backup`` or ``drill``.

    began
        When, in seconds since 1970.
    """
    _add(config, {what: {"time": int(began), "duration": 0, "error": BEGUN}})


def end(config, what, found):
    """
    Part of the formula. Note what became of what has begun.

    config, what
        See ``begin``.

    found
        A mapping, with the ``error``.
    """
    began = read(config).get(what, {}).get("time", int(time.time()))
    noted = {"time": began, "duration": int(time.time()) - began, **found}
    good = what == "backup" and not found["error"]
    _add(config, {what: noted, **({"good": noted} if good else {})})


def killed(config, what):
    """
    Part of the formula. Note that what has begun was killed, if it did not come to its end.

    config, what
        See ``begin``.
    """
    if read(config).get(what, {}).get("error") == BEGUN:
        end(config, what, {"error": "it was killed"})


def restored(config):
    """
    Part of the formula. Note that a backup takes the place of what the server has.

    config
        The path of the folder of the configuration.
    """
    _add(config, {"restored": {"time": int(time.time())}})


def _add(config: str, found: dict) -> None:
    text = json.dumps({**read(config), **found}, indent=2) + "\n"
    __salt__["orthanc_files.write"](path(config), text, 0o600)


def warnings(config, interval=None, drills=None):
    """
    Part of the formula. Return what is wrong with the backups as far as it is noted, a list of
    sentences.

    config
        The path of the folder of the configuration.

    interval
        How many seconds there are between two backups at most; None where that is not known.

    drills
        The same of drills; None where there are none by themselves.
    """
    noted = read(config)
    last, good = noted.get("backup"), noted.get("good")
    old = OLD if interval is None else 2 * interval + DAY
    if last is None:
        return ["there is no backup yet: the first one comes at its time, or by orthanc.backup now"]
    found = []
    if failed("backup", last):
        found.append(f"the last backup failed: {last['error']}")
    if last.get("warning"):
        found.append(f"the last backup was made, but: {last['warning']}")
    drill = noted.get("drill")
    if good and drill is None:
        found.append(
            "a backup was never restored for a trial: call orthanc.drill; with"
            " orthanc:backup:drill: weekly it is done by itself"
        )
    if drill and failed("drill", drill):
        found.append(f"the last drill failed: {drill['error']}")
    elif drill and drills and time.time() - drill["time"] > 2 * drills + DAY:
        days = int((time.time() - drill["time"]) / DAY)
        found.append(
            f"the last drill was {days} days ago, although orthanc:backup:drill wants more;"
            " see systemctl list-timers --all orthanc-drill"
        )
    if good and good["time"] > time.time() + DAY:
        found.append(
            "the last good backup is of the future, by the clock of this host: put that right"
        )
    if good and time.time() - good["time"] > old:
        days = int((time.time() - good["time"]) / DAY)
        found.append(f"the last good backup is {days} days old")
    return found


def prove(folder, snapshot, studies):
    """
    Part of the formula. Note which studies there are in a backup that was restored for a trial.

    folder
        The path of the folder of the backup.

    snapshot
        What restic calls it.

    studies
        What the restored index knows; see ``orthanc_index``.

    Raises OSError if that failed.
    """
    lines = [snapshot, *sorted(_as_it_is(*one) for one in studies.items())]
    __salt__["orthanc_files.write"](os.path.join(folder, PROVEN), "\n".join(lines) + "\n", 0o600)


def proves(folder, snapshot, studies):
    """
    Part of the formula. Return the names of those studies that were in a backup as they are now.

    folder, snapshot, studies
        See ``prove``.
    """
    text = __salt__["orthanc_files.read_if_there"](os.path.join(folder, PROVEN)) or "\n"
    known, *lines = text.splitlines()
    there = set(lines) if known == snapshot else set()
    return {name for name, study in studies.items() if _as_it_is(name, study) in there}


def _as_it_is(name: str, study: dict) -> str:
    """Return a short text that is another one where images came, went or changed."""
    known = [name, *(study[what] for what in ("received", "instances", "bytes"))]
    return hashlib.sha256(json.dumps(known).encode()).hexdigest()[:32]


def proven(config, repository, snapshots):
    """
    Part of the formula. Return the backup that the last drill has proven, while backups go on being
    made, a mapping: its ``snapshot``, when it was ``made``, and the ``drilled`` one. Where ``keep``
    has let that one go, it is the next one, which has of it all that is still here.

    config
        The path of the folder of the configuration.

    repository
        The identifier of the repository that is in use.

    snapshots
        A function that returns the backups of this host in it, the oldest first.

    Raises CommandExecutionError with the reason if none is proven.
    """
    noted, now = read(config), time.time()
    last, good, drill = (noted.get(what) or {} for what in ("backup", "good", "drill"))
    failed = last.get("error") if last.get("error") != BEGUN else None
    days = round((now - drill.get("time", 0)) / DAY)
    reasons = {
        "there is no backup yet; call orthanc.backup, then orthanc.drill": not good,
        f"the last backup failed: {failed}": failed,
        "the last good backup is older than 8 days": not now - PROVES < good.get("time", 0),
        "no backup was ever restored for a trial: call orthanc.drill, or set orthanc:backup:drill"
        " to weekly": not drill,
        f"the last drill failed: {drill.get('error')}": drill.get("error"),
        "the last drill was of another repository, or by an earlier version of the formula: call"
        " orthanc.drill": drill.get("repository") != repository,
        f"the last drill was {days} days ago: call orthanc.drill, or set orthanc:backup:drill to"
        " weekly": now - drill.get("time", 0) > PROVES,
        "the last drill is of the future, by the clock of this host: put that right": now
        < drill.get("time", 0),
    }
    for reason, holds in reasons.items():
        if holds:
            raise CommandExecutionError(reason)
    made = __salt__["orthanc_restic.moment"](drill["made"])
    if made < (noted.get("restored") or {}).get("time", 0):
        raise CommandExecutionError(
            "a backup was restored into the server since the proven one was made: call"
            " orthanc.backup, then orthanc.drill"
        )
    there = [one for one in snapshots() if __salt__["orthanc_restic.moment"](one["time"]) >= made]
    if not there:
        raise CommandExecutionError(
            "the backup that the last drill restored is not in the repository any more: call"
            " orthanc.backup, then orthanc.drill"
        )
    found = {"snapshot": there[0]["short_id"], "made": there[0]["time"]}
    return {**found, "drilled": drill["snapshot"]}


def failed(what, noted):
    """
    Part of the formula. Return whether the last one came to no good end, and is not just running.

    what
        See ``begin``.

    noted
        What is noted of it.
    """
    if noted["error"] != BEGUN:
        return bool(noted["error"])
    state = __salt__["orthanc_host.unit"](f"orthanc-{what}.service", "ActiveState")
    return state not in (["activating"], ["deactivating"])
