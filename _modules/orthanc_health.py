"""
Whether the server is well: all that tells of it is asked side by side, each in a process of its
own, so that nothing that hangs holds up the others.

What is asked is in ``ASKED``; what it means, in :py:mod:`orthanc_verdict`.
"""

from __future__ import annotations

import calendar
import contextlib
import functools
import json
import os
import re
import socket
import struct
import time

from salt.exceptions import CommandExecutionError, SaltInvocationError

# How long all of it takes at most, and what is needed before anything else can be asked. In
# seconds. Three are given, and Salt itself needs some.
LIMIT, FIRST = 1.8, 1
# Where Orthanc's configuration is, if nothing else is known.
CONFIG = "/etc/orthanc"
# What was seen at the last look, of each who looks.
NOTE = "/run/{{}}-{}.json"
DAY, HOUR = 86400, 3600
# What is free for the log at least, and for images and index where there is no reserve. In bytes.
LEAST = 100 * 10**6
# The timer of backups, and when it begins.
TIMER = "/etc/systemd/system/orthanc-{}.timer"
SCHEDULE = re.compile(r"(?m)^OnCalendar=(.+)$")
# Where PostgreSQL has its socket; and what its protocol begins with: whether there is TLS, which
# is answered before anybody says who he is.
SOCKETS = ("/run/postgresql", "/tmp")  # noqa: S108
HELLO = struct.pack("!II", 8, 80877103)
# The states of a job that goes on.
GOING = ("Pending", "Running", "Retry")


def look(config=None, who="health"):
    """
    Part of the formula. Say whether the server is well; see ``orthanc.health``.

    config
        The path of the folder of the configuration; by default that of the service.

    who
        Who looks, of whose last look is known.

    Returns what ``orthanc_verdict.judge`` returns.

    Raises CommandExecutionError if it is not root who asks, and SaltInvocationError if there is no
    such folder.
    """
    __salt__["orthanc_host.require_root"]()
    if config:
        __salt__["orthanc_folder.chosen"](config)
    began = time.monotonic()
    ask, judge = __salt__["orthanc_inquiry.ask"], __salt__["orthanc_verdict.judge"]
    case = ask({"case": functools.partial(_case, config, who)}, FIRST).get("case", {})
    if "found" not in case:
        why = case.get("error", "there is no answer in time")
        said = [f"the configuration of Orthanc cannot be read: {why}"]
        absent = {name: {"found": None} for name in ASKED}
        return judge({**absent, "process": {"found": {"critical": said}}})
    case = case["found"]
    questions = {name: functools.partial(asked, case) for name, asked in ASKED.items()}
    answers = ask(questions, LIMIT - (time.monotonic() - began))
    _note(case, answers)
    return judge(answers)


def nagios(config=None):
    """
    Part of the formula. Say whether the server is well, in one line; see ``orthanc.nagios``.

    config
        See ``look``.
    """
    try:
        found = look(config, "nagios")
    except (CommandExecutionError, SaltInvocationError) as err:
        found = {"verdict": "unknown", "reasons": [f"unknown: {err}"], "figures": {}}
    __context__["retcode"] = __salt__["orthanc_verdict.code"](found["verdict"])
    return __salt__["orthanc_verdict.line"](found)


def write(path):
    """
    Part of the formula. Write how the server is for the textfile collector of Prometheus.

    path
        The path of the file.

    Raises OSError if that failed.
    """
    text = __salt__["orthanc_verdict.metrics"](look(None, "metrics"), time.time())
    __salt__["orthanc_files.write"](path, text, 0o644)


def _case(config, who: str) -> dict:
    """Return what has to be known before anything is asked."""
    service = __salt__["orthanc_tables.get"]("SERVER")
    config = __salt__["orthanc_folder.in_use"](config or CONFIG, service)
    options = __salt__["orthanc_folder.located"](config)
    path = __salt__["orthanc_files.own"](NOTE.format(who))
    note = __salt__["orthanc_json.noted"](__salt__["orthanc_files.read_if_there"](path))
    return {
        "config": config,
        "options": options,
        "service": service,
        "url": __salt__["orthanc_server.url"](config),
        "log": __salt__["orthanc_server.paths"]().get("log"),
        "who": who,
        "note": note,
    }


def _note(case: dict, answers: dict) -> None:
    """Keep what the next look is compared with; what was not seen stays as it was noted."""
    note = dict(case["note"])
    for answer in answers.values():
        note.update((answer.get("found") or {}).pop("note", {}))
    with contextlib.suppress(OSError):
        path = __salt__["orthanc_files.own"](NOTE.format(case["who"]))
        __salt__["orthanc_files.write"](path, json.dumps(note), 0o600)


def _get(case: dict, path: str):
    """Return what Orthanc answers to the first of its users who may ask that; None if none may."""
    code, found = __salt__["orthanc_rest.ask"](case["config"], "GET", path, timeout=LIMIT)
    if code in (401, 403):
        return None
    if code != 200 or found is None:
        raise CommandExecutionError(f"HTTP {code}")
    return found


def _process(case: dict) -> dict:
    found = __salt__["orthanc_host.orthancs"]()
    # Of one that nobody has stopped.
    moves = not any(map(__salt__["orthanc_host.stands_still"], found))
    return {"runs": len(found), **({"moves": int(moves)} if found else {})}


def _database(case: dict) -> dict | None:
    """Return whether the PostgreSQL of the index answers, which Orthanc itself waits for."""
    section = __salt__["orthanc_postgresql.section_of"](case["options"])
    parameters = __salt__["orthanc_postgresql.parameters_of"](section)
    if not section.get("EnableIndex") or parameters is None or "service" in parameters:
        return None
    host, port = parameters.get("host", ""), parameters.get("port") or "5432"
    if "," in host + port or "hostaddr" in parameters:
        return None
    folder = host or next(filter(os.path.isdir, SOCKETS), "")
    path = f"{folder}/.s.PGSQL.{port}" if folder.startswith("/") else ""
    place = path or f"{host}:{port}"
    try:
        if path:
            sock = socket.socket(socket.AF_UNIX)
            sock.settimeout(FIRST)
            sock.connect(path)
        else:
            sock = socket.create_connection((host, int(port)), FIRST)
        with sock:
            sock.sendall(HELLO)
            return {"answers": int(bool(sock.recv(1))), "place": place, "why": "it hangs up"}
    except (OSError, ValueError) as err:
        return {"answers": 0, "place": place, "why": str(err)}


def _rest(case: dict) -> dict:
    began = time.monotonic()
    answers = __salt__["orthanc_http.answers"](case["url"], LIMIT)
    taken = {"seconds": round(time.monotonic() - began, 3)} if answers else {}
    return {"answers": int(answers), "url": case["url"], **taken}


def _index(case: dict) -> dict | None:
    try:
        found = _get(case, "/changes?last")
    except CommandExecutionError as err:
        return {"read": 0, "error": str(err)}
    # Of users who may all ask for nothing of it, nothing follows.
    return None if found is None else {"read": 1, "last_change": found.get("Last", 0)}


def _backend(case: dict) -> dict | None:
    wanted = __salt__["orthanc_postgresql.index"](case["options"])
    found = __salt__["orthanc_server.backend"](case["config"])
    if wanted is None or found == "unknown":
        return None
    wanted = wanted if wanted == "SQLite" else "PostgreSQL"
    found = found or "another place"
    return {"found": found, "wanted": wanted, "as_wanted": int(found == wanted)}


def _proxy(case: dict) -> dict | None:
    site = __salt__["orthanc_nginx.found"]()
    if not site:
        return None
    url = f"https://127.0.0.1:{site['port']}"
    return {"answers": int(__salt__["orthanc_http.answers"](url, LIMIT)), "url": url}


def _disk(option: str, case: dict) -> dict | None:
    """Return what there is of the disk of images or index; nothing where it holds no new ones."""
    reserve = __salt__["orthanc_reserve.in_force"](case["options"])
    found = __salt__["orthanc_reserve.spaces"](case["options"], reserve).get(option)
    return _room(*found[1:]) if found else None


def _log_disk(case: dict) -> dict | None:
    return _room(*__salt__["orthanc_reserve.space"](case["log"])) if case["log"] else None


def _room(size: int, free: int, kept: int = 0) -> dict:
    amount, kept = __salt__["orthanc_reserve.amount"], kept or max(1, min(LEAST, size // 20))
    texts = {"size": amount(size), "free": amount(free), "kept": amount(kept)}
    return {**texts, "free_bytes": free, "reserves": round(free / kept, 2)}


def _dicom(case: dict) -> dict | None:
    options = case["options"]
    if not options.get("DicomServerEnabled", True):
        return None
    port = options.get("DicomPort", 4242)
    holders = __salt__["orthanc_host.holders"](port)
    orthanc = any(os.path.basename(path).lower() == "orthanc" for path in holders)
    return {"port": str(port), "listens": int(orthanc)}


def _certificates(case: dict) -> dict | None:
    """Return for how long the certificates hold that clients and devices are shown."""
    options, site = case["options"], __salt__["orthanc_nginx.found"]()
    path = options.get("SslCertificate") if options.get("SslEnabled") else None
    found = {"critical": [], "warning": []}
    if site:
        path = site["certificate"]
        shown = __salt__["orthanc_tls.served"](site["port"])
        if shown and shown[:1] != __salt__["orthanc_tls.chain"](path)[:1]:
            found["warning"].append(
                f"nginx shows another certificate than that in {path}: apply the formula, which"
                " says why nginx does not take it"
            )
    paths = {"https": path}
    if options.get("DicomTlsEnabled"):
        paths["dicom"] = options.get("DicomTlsCertificate")
    for name, path in paths.items():
        if path:
            found[name] = os.path.join(case["config"], path)
            end = __salt__["orthanc_tls.end"](found[name])
            if end is None:
                found["critical"].append(
                    f"{found[name]} holds no certificate that openssl can read"
                )
            else:
                found[f"{name}_days"] = round((end - time.time()) / DAY, 2)
    return found if any(paths.values()) else None


def _jobs(case: dict) -> dict | None:
    jobs = _get(case, "/jobs?expand")
    if jobs is None:
        return None
    now = time.time()
    failed = [job for job in jobs if job["State"] == "Failure" and now - _moment(job) < DAY]
    failed = [job for job in failed if not __salt__["orthanc_routes.handles"](job)]
    found = {"failed": len(failed), "kinds": ", ".join(sorted({job["Type"] for job in failed}))}
    # A job that waits for others is not stuck.
    running = any(job["State"] == "Running" for job in jobs)
    going = {
        job["ID"]: [job["State"], job.get("Progress")]
        for job in jobs
        if job["State"] in GOING and not (running and job["State"] == "Pending")
    }
    known = case["note"].get("jobs", {})
    since = {
        name: known[name] if known.get(name, [])[1:] == state else [now, *state]
        for name, state in going.items()
    }
    hours = [(now - began) / HOUR for began, *_ in since.values()]
    stuck = round(max(hours, default=0), 2)
    return {**found, "going": len(going), "stuck_hours": stuck, "note": {"jobs": since}}


def _moment(job: dict) -> float:
    """Return when a job ended, in seconds since 1970; Orthanc's clock has no zone."""
    text = job.get("CompletionTime") or job.get("CreationTime") or ""
    with contextlib.suppress(ValueError):
        return calendar.timegm(time.strptime(text[:15], "%Y%m%dT%H%M%S"))
    return 0.0


def _refused(case: dict) -> dict:
    mark = case["note"].get("log")
    lines, mark = __salt__["orthanc_log.since"](case["service"], case["log"], mark)
    found = __salt__["orthanc_log.refused"](lines)
    last, total = found[-1] if found else "", case["note"].get("refused", 0) + len(found)
    note = {"log": mark, "refused": total}
    return {"associations": len(found), "total": total, "last": last, "note": note}


def _backup(case: dict) -> dict | None:
    """Return what is noted of backups, where some are to be made."""
    if not __salt__["orthanc_backup_job.is_set_up"]():
        return None
    job = __salt__["orthanc_backup_job.job"]()
    noted, now = __salt__["orthanc_backup_note.read"](case["config"]), time.time()
    intervals = map(_interval, ("backup", "drill"))
    found = {"warning": __salt__["orthanc_backup_note.warnings"](case["config"], *intervals)}
    password = os.path.join(job["folder"], "password")
    if not os.path.exists(password):
        found["warning"].append(
            f"the password of the backups, {password}, is gone, and nobody opens them without it:"
            " put your copy of it back"
        )
    if noted.get("good"):
        found["age_hours"] = round((now - noted["good"]["time"]) / HOUR, 1)
    for what in ("backup", "drill"):
        if noted.get(what):
            failed = __salt__["orthanc_backup_note.failed"](what, noted[what])
            found[f"{what}_good"] = int(not failed)
    if noted.get("drill"):
        found["drill_age_days"] = round((now - noted["drill"]["time"]) / DAY, 1)
    return found


def _interval(what: str):
    """Return how many seconds there are between two times of a timer; None where there is none."""
    text = __salt__["orthanc_files.read_if_there"](TIMER.format(what))
    schedule = SCHEDULE.search(text or "")
    return __salt__["orthanc_jobs.interval"](schedule.group(1)) if schedule else None


def _retention(case: dict) -> dict | None:
    found = __salt__["orthanc_retention.warnings"]()
    return None if found is None else {"warning": found}


def _routes(case: dict) -> dict | None:
    found = __salt__["orthanc_routes.warnings"]()
    return None if found is None else {"warning": found}


def _images(case: dict) -> dict | None:
    account = dict.fromkeys(("user", "group"), case["service"])
    strange = __salt__["orthanc_proof.strange"](case["config"], case["options"], account)
    if __salt__["orthanc_restore.interrupted"](case["options"]):
        strange = ["a restore was interrupted amid its change; call orthanc.restore again"]
    noted = __salt__["orthanc_images.noted"](case["config"])
    if not noted:
        return {"critical": strange} if strange else None
    damaged = noted["missing"] + noted["empty"] + noted["wrong"]
    days = round((time.time() - noted["time"]) / DAY, 1)
    return {"damaged": damaged, "verified_days": days, "critical": strange}


def _restart(case: dict) -> dict:
    config = case["config"]
    why = [f"{path} has changed" for path in __salt__["orthanc_proof.changed_files"](config)]
    if __salt__["orthanc_files.unproven"](config):
        why.append("it was written, and Orthanc was not seen serving with it")
    else:
        read, good = __salt__["orthanc_files.read_if_there"], __salt__["orthanc_files.last_good"]
        files = __salt__["orthanc_files.at"](config, good(config)).items()
        why += [f"{path} is not as it was written" for path, text in files if read(path) != text]
    if __salt__["orthanc_host.unit"](case["service"], "NeedDaemonReload") == ["yes"]:
        why.append("systemd has not read the unit as it is")
    strayed = __salt__["orthanc_proof.strayed"](config)
    return {"waits": len(why), "why": "; ".join(why), "strayed": int(strayed)}


def _package(case: dict) -> dict | None:
    found = __salt__["orthanc_packages.held"](case["service"])
    proven = __salt__["orthanc_proof.packages"](case["config"]).get(case["service"])
    if found and proven not in (None, found["version"]):
        said = f"the package went from {proven} to {found['version']} outside of Salt; apply the"
        found["warning"] = [f"{said} formula, which judges the configuration for it"]
    return found


ASKED = {
    "process": _process,
    "database": _database,
    "rest": _rest,
    "index": _index,
    "backend": _backend,
    "proxy": _proxy,
    "storage": functools.partial(_disk, "StorageDirectory"),
    "index_disk": functools.partial(_disk, "IndexDirectory"),
    "log_disk": _log_disk,
    "dicom": _dicom,
    "certificates": _certificates,
    "jobs": _jobs,
    "refused": _refused,
    "backup": _backup,
    "retention": _retention,
    "routes": _routes,
    "images": _images,
    "restart": _restart,
    "package": _package,
}
