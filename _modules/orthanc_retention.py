"""
Studies that are old enough are deleted, slowly, at night, by Orthanc itself: so index and files
stay right. What rules say of a study is a matter of :py:mod:`orthanc_retention_rules`.

Nothing is deleted that is not in a backup which a drill has restored, unless the pillar says so.

https://orthanc.uclouvain.be/book/users/rest.html#deleting-patients-studies-series-or-instances
"""

from __future__ import annotations

import contextlib
import datetime
import json
import logging
import os
import time

from salt.exceptions import CommandExecutionError

log = logging.getLogger(__name__)

# What the pillar says, and the log of what was deleted.
JOB, LOG = "/etc/orthanc-retention.json", "/var/log/orthanc-retention.log"
# What systemd starts; see ``orthanc_jobs.pending``.
TIMER = {
    "name": "orthanc-retention",
    "description": "Deletion of old studies of Orthanc",
    "function": "orthanc_retention.run",
    "ended": "orthanc_retention.ended",
    "place": "orthanc:retention:schedule",
    "mounts": [],
    # At night, and not at the start of a host that was off at night.
    "persistent": "no",
}
# What an account has to be allowed to do, asked of what no server has; how others are answered.
NOBODY = "00000000-00000000-00000000-00000000-00000000"
NEEDED = (
    ("DELETE", f"/studies/{NOBODY}"),
    ("GET", f"/studies/{NOBODY}"),
    ("GET", f"/patients/{NOBODY}/protected"),
)
DENIED = (401, 403)
# For how many seconds Orthanc may be deleting a study.
PATIENCE = 900
# What is told of a study, in the list and in the log.
TOLD = ("date", "StudyDate", "received", "instances", "bytes", "rules")
IS_DRY = "orthanc:retention:dry_run is true, so nothing is deleted"
ENDED, KILLED = "it was ended before it was done", "it was killed"
INTERRUPTED = "the run was ended meanwhile"


def _job(name: str = JOB) -> dict:
    """Return what the pillar says."""
    missing = (
        "there is no retention on this host; set orthanc:retention:rules and apply the formula"
    )
    return __salt__["orthanc_backup_job.read"](name, missing)


def run(name):
    """
    Part of the formula. Delete studies that are due, and note what became of them.

    name
        The path of the file with what the pillar says.

    Raises CommandExecutionError if nothing is to be deleted, or something cannot be.
    """
    job = _job(name)
    with _alone():
        began, done = time.monotonic(), {"deleted": 0, "bytes": 0, "kept": 0, "failed": 0}
        done["error"] = ENDED
        try:
            _delete(job, done)
            done["error"] = None
        except (CommandExecutionError, OSError) as err:
            done["error"] = str(err)
            raise
        finally:
            _note("run", duration=round(time.monotonic() - began), **done)


def _note(event: str, **what) -> None:
    __salt__["orthanc_retention_log.write"](LOG, event, **what)


def _alone():
    return __salt__["orthanc_backup_job.alone"](LOG, "a retention", os.O_RDWR | os.O_CREAT)


def ended(name):
    """
    Part of the formula. Note what became of a study that was being deleted when a run was killed.

    name
        See ``run``.
    """
    job = _job(name)
    with contextlib.suppress(CommandExecutionError), _alone():
        noted = __salt__["orthanc_retention_log.read"](LOG)
        # Where the server gives no answer, the next run does it.
        with contextlib.suppress(CommandExecutionError):
            _settle(_server(job) if noted["unsettled"] else (), noted)
        if noted["killed"]:
            _note("run", error=KILLED)


def _settle(server: tuple, noted: dict) -> None:
    """Note which studies are deleted of those of which the log does not say so."""
    over = __salt__["orthanc_retention_log.stamp"](time.time() - PATIENCE)
    for study, line in noted["unsettled"].items():
        if _ask(server, f"/studies/{study}") is None:
            _note("deleted", study=study, why=INTERRUPTED)
        # Orthanc may still be at it.
        elif line["time"] < over:
            _note("kept", study=study, why=INTERRUPTED)


def _server(job: dict) -> tuple:
    """Return the address of the server, and who may delete there: name and password, or None."""
    config = job["config"]
    address = __salt__["orthanc_server.url"](config)
    # Nobody else is told a password.
    __salt__["orthanc_server.require_orthanc"](config)
    users = __salt__["orthanc_folder.effective"](config).get("RegisteredUsers") or {}
    for account in (None, *sorted(users.items())):
        if all(_code((address, account), *one) not in DENIED for one in NEEDED):
            return address, account
    raise CommandExecutionError(
        f"none of the users of this server may delete studies ({', '.join(sorted(users))}); give"
        " one in orthanc:users the role admin, or rules: GET and DELETE for /studies/*, GET for"
        " /patients/*/protected"
    )


def _code(server: tuple, method: str, path: str, patience=60) -> int:
    """Return the code of Orthanc's answer."""
    return __salt__["orthanc_http.ask"](server[0] + path, method, server[1], patience)[0]


def _ask(server: tuple, path: str):
    """Return what Orthanc answers, None where there is nothing."""
    code, found = __salt__["orthanc_http.ask"](server[0] + path, "GET", server[1])
    if code not in (200, 404):
        raise CommandExecutionError(f"Orthanc answers {code} to GET {path}")
    return None if code == 404 else found


def _plan(job: dict) -> dict:
    """Return what is due now, what is held back for which reason, and why nothing is to go."""
    options = __salt__["orthanc_folder.located"](job["config"])
    account = __salt__["orthanc_backup_job.account"](job)
    with __salt__["orthanc_index.opened"](options, account) as index:
        studies = index.all_studies()
    # On a disk that is not mounted, nothing would be deleted but what is known of it.
    reasons = __salt__["orthanc_proof.strange"](job["config"], options, account)
    backup, proven = {}, None
    if not job["unproven"]:
        try:
            backup, proven = _proven(studies)
        except CommandExecutionError as err:
            reasons.append(f"no backup is proven: {err}")
    now = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
    due, held = __salt__["orthanc_retention_rules.decide"](
        studies, job["rules"], datetime.date.today(), proven
    )
    reasons += __salt__["orthanc_retention_rules.objections"](studies, due, now, job["max_percent"])
    if job["dry_run"]:
        reasons.append(IS_DRY)
    found = {"studies": len(studies), "due": due, "held": held, "reasons": reasons}
    return {**found, "backup": backup}


def _proven(studies: dict) -> tuple:
    """Return the backup that the last drill has proven, and the studies that it has as they are."""
    job = __salt__["orthanc_backup_job.job"]()
    repository = __salt__["orthanc_restic.known"](job["folder"]).get(job["repository"])
    backup = __salt__["orthanc_backup_note.proven"](
        job["config"], repository, lambda: __salt__["orthanc_restic.snapshots"](job, job["host"])
    )
    drilled = backup.pop("drilled")
    return backup, __salt__["orthanc_backup_note.proves"](job["folder"], drilled, studies)


def _delete(job: dict, done: dict) -> None:
    """Delete the studies that are due, as many as there is time for; count them in ``done``."""
    if job["dry_run"]:
        raise CommandExecutionError(IS_DRY)
    deadline, pause = time.monotonic() + job["hours"] * 3600, 60 / job["rate"]
    server = _server(job)
    _settle(server, __salt__["orthanc_retention_log.read"](LOG))
    plan = _plan(job)
    done.update(due=len(plan["due"]), held=plan["held"], backup=plan["backup"])
    if plan["reasons"]:
        raise CommandExecutionError("; ".join(plan["reasons"]))
    restored = _restored(job)
    for number, study in enumerate(plan["due"]):
        began = time.monotonic()
        if _restored(job) != restored:
            raise CommandExecutionError("a backup is restored into the server meanwhile")
        # It may have been restarted.
        __salt__["orthanc_server.require_orthanc"](job["config"])
        if began > deadline:
            log.info("%s studies are left for the next night", len(plan["due"]) - number)
            break
        _delete_one(server, study, done, plan["backup"])
        took = time.monotonic() - began
        # At least as long as Orthanc was busy with it, it is left to others.
        time.sleep(max(pause - took, took))
    if done["failed"]:
        raise CommandExecutionError(f"Orthanc did not delete {done['failed']} studies; see {LOG}")


def _restored(job: dict):
    """Return which backup was restored last into the server, if any."""
    return __salt__["orthanc_backup_note.read"](job["config"]).get("restored")


def _delete_one(server: tuple, study: dict, done: dict, backup: dict) -> None:
    """Delete a study, if it is still as the index had it."""
    path = f"/studies/{study['id']}"
    now = _ask(server, path)
    if now is None:
        return
    tags = now["MainDicomTags"]
    known = {name: tags.get(name, "") for name in ("StudyInstanceUID", "AccessionNumber")}
    known = {"study": study["id"], **known}
    why = _changed(server, study, now)
    if why:
        done["kept"] += 1
        _note("kept", **known, why=why)
        return
    _note("deleting", **known, **_told(study), backup=backup)
    code = _code(server, "DELETE", path, PATIENCE)
    if code not in (200, 404):
        done["failed"] += 1
        _note("kept", **known, why=f"Orthanc answers {code} to DELETE {path}")
        return
    _note("deleted", **known)
    done["deleted"] += 1
    done["bytes"] += study["bytes"]


def _changed(server: tuple, study: dict, now: dict):
    """Return why a study is not to go that the index had for due; None where it is."""
    date = now["MainDicomTags"].get("StudyDate", "").strip()
    if (now.get("LastUpdate"), date) != (study["received"], study["StudyDate"]):
        return "it has changed since it was listed"
    if not now["IsStable"]:
        return "images of it are coming in"
    protected = _ask(server, f"/patients/{now['ParentPatient']}/protected")
    if protected == 0:
        return None
    return "of a protected patient" if protected else "whether its patient is protected is not told"


def _told(study: dict) -> dict:
    """Return what is told of a study."""
    modalities, titles = (sorted({part[number] for part in study["parts"]}) for number in (0, 1))
    return {**{name: study[name] for name in TOLD}, "Modality": modalities, "RemoteAET": titles}


def listed(limit):
    """
    Part of the formula. Return what would be deleted; see ``orthanc.retention``.

    limit
        How many studies are listed at most.
    """
    job = _job()
    plan = _plan(job)
    try:
        _server(job)
    except CommandExecutionError as err:
        plan["reasons"].append(str(err))
    due = plan["due"]
    return {
        "studies": plan["studies"],
        "due": len(due),
        "bytes": sum(study["bytes"] for study in due),
        "nights": -(-len(due) // (job["rate"] * 60 * job["hours"])),
        "held back": plan["held"],
        "nothing is deleted": plan["reasons"],
        "list": [{"study": study["id"], **_told(study)} for study in due[:limit]],
    }


def start():
    """
    Part of the formula. Let systemd delete what is due, and return what became of it; see
    ``orthanc.retention``.

    Raises CommandExecutionError if nothing is to be deleted, or something could not be.
    """
    _job()
    before = __salt__["orthanc_retention_log.read"](LOG)["runs"]
    __salt__["orthanc_jobs.start"](TIMER["name"], TIMER["function"], JOB)
    noted = __salt__["orthanc_retention_log.read"](LOG)
    found = {k: v for k, v in noted["last"].items() if k != "event"}
    error = found.pop("error", None)
    if noted["runs"] == before:
        raise CommandExecutionError(f"it came to no end; see journalctl -u {TIMER['name']}")
    if error:
        raise CommandExecutionError(error)
    return found


def warnings():
    """
    Part of the formula. Return what was wrong with the last run, a list of sentences; None where
    nothing is set up.

    Raises CommandExecutionError if what is set up cannot be read.
    """
    if not os.path.exists(JOB):
        return None
    if _job()["dry_run"]:
        return []
    error = __salt__["orthanc_retention_log.read"](LOG)["last"].get("error")
    # Somebody called it then; that is over.
    if not error or error == IS_DRY:
        return []
    return [f"the last night's retention did not come to its end: {error}"]


def _timers(job: dict, schedule) -> list:
    """Return what systemd is to start; nothing as long as studies are only listed."""
    return [{**TIMER, "argument": JOB, "schedule": None if job["dry_run"] else schedule}]


def _text(job: dict) -> str:
    return json.dumps(job, indent=2, sort_keys=True) + "\n"


def lacks(job, schedule):
    """
    Part of the formula. Return what ``make`` would do: a mapping from path or unit to a word.

    job
        A mapping, what the pillar says: ``dry_run``, ``rules``, ``rate``, ``hours``,
        ``max_percent`` and ``unproven``; with ``config``, the path of the folder of the
        configuration, and the names of Orthanc's ``user`` and ``group``.

    schedule
        When systemd is to begin, as OnCalendar has it.

    Raises CommandExecutionError if systemd does not take it.
    """
    there = __salt__["orthanc_files.read_if_there"](JOB) == _text(job)
    found = {} if there else {JOB: "written"}
    return {**found, **__salt__["orthanc_jobs.pending"](_timers(job, schedule))}


def make(job, schedule):
    """
    Part of the formula. Write what the pillar says, and let it begin at its time.

    job, schedule
        See ``lacks``.

    Raises CommandExecutionError if that failed.
    """
    with __salt__["orthanc_files.failing"]("setting up the retention"):
        __salt__["orthanc_files.write"](JOB, _text(job), 0o600)
        __salt__["orthanc_jobs.put"](_timers(job, schedule))


def left():
    """
    Part of the formula. Return the paths that ``remove`` would remove. The log is not among them.
    """
    if not os.path.lexists(JOB):
        return []
    return [JOB, *__salt__["orthanc_jobs.left"](_timers({"dry_run": True}, None))]


def remove():
    """
    Part of the formula. Let nothing be deleted any more. The log stays.

    Raises CommandExecutionError if that failed.
    """
    with __salt__["orthanc_files.failing"]("removing the retention"):
        __salt__["orthanc_jobs.remove"](_timers({"dry_run": True}, None))
        os.unlink(JOB)
