"""
Images of the server sent on, by a service of its own that asks Orthanc for its changes.

What has come in is a matter of :py:mod:`orthanc_routes_intake`, what is sent of
:py:mod:`orthanc_routes_delivery`, and what is to be remembered of
:py:mod:`orthanc_routes_queue`.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import sqlite3
import threading
import time

from salt.exceptions import CommandExecutionError

log = logging.getLogger(__name__)

# What the pillar says.
JOB = "/etc/orthanc-routes.json"
# What is wrong now: no part of the queue, whose disk may be full.
ERRORS = "/run/orthanc-routes/errors.json"
NAME = "orthanc-routes"
# What is behind the name of the queue where nobody could read it.
BROKEN = ".broken"
# What reads the changes, among the names of the routes.
READING = "the changes of Orthanc"
UNIT = """\
# Managed by Salt
[Unit]
Description={description}
{after}StartLimitIntervalSec=0

[Service]
Type=exec
ExecStart={command} {function} {argument}
Restart=always
RestartSec=2
StateDirectory={name}
StateDirectoryMode=0700
RuntimeDirectory={name}
RuntimeDirectoryMode=0700
CPUWeight=50
# Rather this than the server.
OOMScoreAdjust=500
UMask=0077
# It reads Orthanc's configuration, looks who listens at Orthanc's port, and writes to its folder.
CapabilityBoundingSet=CAP_DAC_READ_SEARCH CAP_SYS_PTRACE
NoNewPrivileges=yes
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
PrivateDevices=yes
ProtectClock=yes
ProtectHostname=yes
ProtectControlGroups=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
LockPersonality=yes
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6
SystemCallArchitectures=native
SystemCallFilter=@system-service
MemoryDenyWriteExecute=yes

[Install]
WantedBy=multi-user.target
"""
# What systemd keeps running; see ``orthanc_jobs.pending``.
SERVICE = {
    "name": NAME,
    "description": "Images of Orthanc sent on",
    "function": "orthanc_routes.run",
    "argument": JOB,
    "schedule": None,
    "mounts": [],
    "unit": UNIT,
}
# How often changes are asked for, how long to wait where something fails, and for how long that is
# no reason for a warning. In seconds.
SOON, PAUSE, GRACE = 1, 5, 60
DENIED = (401, 403)
# What the words of the REST API stand for.
KINDS = {"modalities": "modality", "peers": "peer", "servers": "DICOMweb server"}
# What a job is called that sends images to a DICOMweb server.
STOW = "DicomWebStowClient"
# By which number Orthanc says that it knows no such tag.
NO_TAG = 27


def _folder() -> str:
    return os.path.dirname(__salt__["orthanc_routes_queue.path"]())


def _job(name: str = JOB) -> dict:
    missing = "there are no routes on this host; set orthanc:routes and apply the formula"
    return __salt__["orthanc_backup_job.read"](name, missing)


def run(name):
    """
    Part of the formula. Send on what comes into Orthanc, until this process is ended, or the file
    changes.

    name
        The path of the file with what the pillar says.

    Raises CommandExecutionError if it runs already.
    """
    job, written = _job(name), os.stat(name).st_mtime_ns
    alone = __salt__["orthanc_backup_job.alone"](_folder(), "the service of the routes")
    # To be ended is no failure: it may be at any moment.
    with contextlib.suppress(SystemExit), alone:
        _mend(job)
        errors: dict = {}
        parts = [(READING, None), *job["routes"].items()]
        threads = [
            threading.Thread(target=_go_on, args=(job, errors, *part), daemon=True)
            for part in parts
        ]
        for thread in threads:
            thread.start()
        while all(thread.is_alive() for thread in threads):
            time.sleep(SOON)
            # systemd starts it anew, with what is there now.
            if not os.path.exists(name) or os.stat(name).st_mtime_ns != written:
                return
        raise CommandExecutionError("a part of it has ended")


def _mend(job: dict) -> None:
    """Put a queue aside that cannot be read, and let all be looked for that may have been in it."""
    opened, path = __salt__["orthanc_routes_queue.opened"], __salt__["orthanc_routes_queue.path"]()
    try:
        with opened() as queue:
            queue.check()
    except sqlite3.OperationalError as err:
        # Such as of a disk that is full: it is not the file.
        raise CommandExecutionError(f"{path} cannot be opened: {err}") from None
    except sqlite3.DatabaseError as err:
        log.error("%s is damaged, and was put aside: %s", path, err)
        longest = max((route["keep_trying"] for route in job["routes"].values()), default=0)
        last = os.stat(path).st_mtime
        for end in ("", "-wal", "-shm"):
            with contextlib.suppress(FileNotFoundError):
                os.replace(path + end, path + BROKEN + end)
        with opened() as queue:
            __salt__["orthanc_routes_intake.rescan"](queue, last - longest)


def _go_on(job: dict, errors: dict, name: str, route) -> None:
    """Read changes, or send what there is for a route, again and again, whatever comes between."""
    ask, failed = _asker(job["config"]), 0
    while True:
        try:
            with __salt__["orthanc_routes_queue.opened"]() as queue:
                while True:
                    if route is None:
                        more = __salt__["orthanc_routes_intake.look"](queue, job["routes"], ask)
                        wait = 0 if more else SOON
                    else:
                        wait = __salt__["orthanc_routes_delivery.send"](queue, name, route, ask)
                    _say(errors, name, None)
                    failed = 0
                    time.sleep(wait)
        # Whatever it is, the next time may be better.
        except Exception as err:
            if isinstance(err, sqlite3.DatabaseError) and type(err) is not sqlite3.OperationalError:
                # But a file that is damaged, which is looked at when all begins anew.
                _say(errors, name, repr(err))
                return
            said = str(err) if isinstance(err, CommandExecutionError) else repr(err)
            said = f"{_folder()}: {err}" if isinstance(err, sqlite3.Error) else said
            _say(errors, name, said)
            failed += 1
        # What was sent and cannot be noted is sent again each time.
        time.sleep(min(GRACE, PAUSE * failed))


def _say(errors: dict, name: str, why) -> None:
    """Tell what is wrong, once, and that it is over."""
    known = errors.get(name)
    if (why is None and known is None) or (known and known["why"] == why):
        return
    if why is None:
        log.info("%s: it goes on", name)
        del errors[name]
    else:
        log.error("%s: %s", name, why)
        errors[name] = {"since": (known or {"since": time.time()})["since"], "why": why}
    with contextlib.suppress(OSError):
        __salt__["orthanc_files.write"](ERRORS, json.dumps(dict(errors)), 0o600)


def _asker(config: str):
    """
    Return a function that sends a request to Orthanc, in the name of the first of its users who may
    ask that, and returns the code of the answer and what it holds.
    """
    known: dict = {}

    def begin() -> None:
        server = __salt__["orthanc_server.url"](config)
        # Nobody else is told a password.
        __salt__["orthanc_server.require_orthanc"](config)
        users = __salt__["orthanc_folder.effective"](config).get("RegisteredUsers") or {}
        known.update(url=server, port=__salt__["orthanc_server.port"](config))
        known.update(accounts=[None, *sorted(users.items())], until=time.monotonic() + GRACE)
        known.setdefault("chosen", {})

    def ask(method, path, data=None, patience=60):
        if time.monotonic() > known.get("until", 0):
            begin()
        body = None if data is None else json.dumps(data).encode()
        kind = (method, path.split("/")[1])
        last = known["chosen"].get(kind)
        others = [one for one in known["accounts"] if one != last]
        for account in [last, *others] if kind in known["chosen"] else others:
            try:
                __salt__["orthanc_server.require_account"](known["port"])
                code, found = __salt__["orthanc_http.ask"](
                    known["url"] + path, method, account, patience, body
                )
            except CommandExecutionError:
                known.clear()
                raise
            # With words, it is the answer of the one that Orthanc has asked.
            if code not in DENIED or isinstance(found, dict):
                known["chosen"][kind] = account
                return code, _scrubbed(config, found) if code != 200 else found
        known.clear()
        raise CommandExecutionError(
            __salt__["orthanc_rest.refusal"](code, None, f"{method} {path}")
        )

    return ask


def _scrubbed(config: str, answer):
    """Return the answer of a request that failed, without the secrets that may be in it."""
    if not isinstance(answer, dict):
        return answer
    lines = __salt__["orthanc_folder.scrub"](config, [str(value) for value in answer.values()])
    return dict(zip(answer, lines))


@contextlib.contextmanager
def _looked():
    """Open the queue for who only looks; None where there is none yet, or it cannot be read."""
    path = __salt__["orthanc_routes_queue.path"]()
    if not os.path.exists(path):
        yield None
        return
    try:
        with __salt__["orthanc_routes_queue.opened"](there=True) as queue:
            yield queue
    except sqlite3.Error as err:
        raise CommandExecutionError(f"{path} cannot be read: {err}") from None


def _stamp(moment: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(moment))


def listed(retry=False):
    """
    Part of the formula. Return what has not arrived, by route; see ``orthanc.routes``.

    retry
        Whether what was given up is tried anew, and what was deleted is told for the last time.

    Raises CommandExecutionError where there are no routes, or that cannot be told.
    """
    job, found = _job(), {}
    with _looked() as queue:
        for name, route in job["routes"].items() if queue else ():
            row = {"to": route["to"], **queue.figures(name)}
            bad = queue.note(__salt__["orthanc_routes_delivery.failing"](name)) or {}
            if bad.get("away"):
                row["no answer since"] = _stamp(bad["since"])
                row["why"] = [bad["why"], *row["why"]]
            row["seconds"] = time.time() - row["oldest"] if row["oldest"] else 0
            row["oldest"] = _stamp(row["oldest"]) if row["oldest"] else None
            found[name] = row
        if retry and queue:
            queue.retry()
    return {"routes": found, "problems": _problems()}


def _problems() -> list:
    """Return what is wrong with the service itself."""
    found = []
    state = __salt__["orthanc_host.unit"](NAME, "ActiveState")
    if state != ["active"]:
        found.append(f"the service {NAME} does not run; see journalctl -u {NAME}")
    with contextlib.suppress(ValueError):
        known = json.loads(__salt__["orthanc_files.read_if_there"](ERRORS) or "{}")
        over = time.time() - GRACE
        found += [f"{name}: {one['why']}" for name, one in known.items() if one["since"] < over]
    with contextlib.suppress(OSError):
        path = __salt__["orthanc_routes_queue.path"]() + BROKEN
        when = _stamp(os.stat(path).st_ctime)
        found.append(
            f"the queue was damaged, and put aside at {when}: what may have been in it is sent"
            f" again; look at the disk, and remove {path}"
        )
    return found


def warnings():
    """
    Part of the formula. Return what there is to say of the routes, a list of sentences; None where
    there are none.

    Raises CommandExecutionError if that cannot be told.
    """
    if not os.path.exists(JOB):
        return None
    routes, told = _job()["routes"], listed()
    found = list(told["problems"])
    for name, row in told["routes"].items():
        route, to = routes[name], f"the route {name} to {row['to']}"
        if row["failed"]:
            found.append(f"{to} has given up {row['failed']} images; see orthanc.routes")
        if row["deleted"]:
            found.append(f"{row['deleted']} images were deleted before {to} had sent them")
        if row["waiting"] > route["warn_above"]:
            found.append(f"{row['waiting']} images wait for {to}; see orthanc.routes")
        elif row["seconds"] > route["warn_after"]:
            found.append(f"{to} has not sent an image of {row['oldest']}; see orthanc.routes")
    return found


def known():
    """
    Part of the formula. Return where the routes go, by their name: the kind of the target, as
    ``orthanc_reach.targets`` has it, and its name.
    """
    routes = _job()["routes"] if os.path.exists(JOB) else {}
    return {name: (KINDS[route["kind"]], route["to"]) for name, route in routes.items()}


def handles(job):
    """
    Part of the formula. Return whether a job of Orthanc's is one whose images a route sends again,
    and tells of them itself.

    job
        What Orthanc shows of it.
    """
    if __salt__["orthanc_routes_delivery.sends"](job):
        return True
    # Older plugins for DICOMweb make 0 of each priority. Routes send nothing but single images.
    content, routes = job.get("Content") or {}, _job()["routes"] if os.path.exists(JOB) else {}
    targets = {route["to"] for route in routes.values() if route["kind"] == "servers"}
    is_route_s = content.get("Server") in targets and {*content.get("Resources", ())} == {
        "Instances"
    }
    return job["Type"] == STOW and is_route_s


def _text(job: dict) -> str:
    return json.dumps(job, indent=2, sort_keys=True) + "\n"


def _check(job: dict) -> None:
    """Raise an error for a tag that Orthanc does not know, if it answers at all."""
    places = {
        tag: f"orthanc:routes:{name}:tags:{tag}"
        for name, route in job["routes"].items()
        for tag in route.get("tags", {})
        if "," not in tag
    }
    # No image has this number, so none is looked at.
    queries = [{"Level": "Instance", "Query": {"SOPInstanceUID": "0", tag: "0"}} for tag in places]
    answers: list = []
    with contextlib.suppress(CommandExecutionError):
        requests = [("POST", "/tools/find", query) for query in queries]
        answers = __salt__["orthanc_rest.send_all"](job["config"], requests) if requests else []
    for place, (_, found) in zip(places.values(), answers):
        if isinstance(found, dict) and found.get("OrthancStatus") == NO_TAG:
            raise CommandExecutionError(
                f"{place}: Orthanc knows no tag of this name; correct it, or write its number, such"
                " as '0008,1010'"
            )


def lacks(job):
    """
    Part of the formula. Return what ``make`` would do: a mapping from path or unit to a word.

    job
        A mapping: the ``routes``; ``config``, the path of the folder of the configuration; and the
        names of Orthanc's ``user`` and ``group``.

    Raises CommandExecutionError for a tag that Orthanc does not know.
    """
    _check(job)
    there = __salt__["orthanc_files.read_if_there"](JOB) == _text(job)
    found = {} if there else {JOB: "written"}
    return {**found, **__salt__["orthanc_jobs.pending"]([SERVICE])}


def make(job):
    """
    Part of the formula. Write what the pillar says, and let the service run.

    job
        See ``lacks``.

    Raises CommandExecutionError if that failed.
    """
    with __salt__["orthanc_files.failing"]("setting up the routes"):
        __salt__["orthanc_files.write"](JOB, _text(job), 0o600)
        # What comes before the service has begun is for the routes too.
        os.makedirs(_folder(), mode=0o700, exist_ok=True)
        opened, ask = __salt__["orthanc_routes_queue.opened"], _asker(job["config"])
        with contextlib.suppress(CommandExecutionError, sqlite3.Error), opened() as queue:
            __salt__["orthanc_routes_intake.begin"](queue, ask)
        __salt__["orthanc_jobs.put"]([SERVICE])


def left():
    """
    Part of the formula. Return the paths that ``remove`` would remove, and how many images would
    not arrive.
    """
    own = [path for path in (JOB, _folder()) if os.path.lexists(path)]
    if not own:
        return [], 0
    waiting = 0
    with contextlib.suppress(CommandExecutionError), _looked() as queue:
        waiting = queue.total() if queue else 0
    return [*own, *__salt__["orthanc_jobs.left"]([SERVICE])], waiting


def remove():
    """
    Part of the formula. Let nothing be sent on any more, and forget what was sent.

    Raises CommandExecutionError if that failed.
    """
    with __salt__["orthanc_files.failing"]("removing the routes"):
        __salt__["orthanc_jobs.remove"]([SERVICE])
        shutil.rmtree(_folder(), ignore_errors=True)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(JOB)
