"""
What waits in the queue, sent by Orthanc to where a route goes.

What Orthanc could not send is looked at: where the target answers otherwise, it is the image that
is refused, and the others go on; where it does not, the target is away, and all wait.

https://orthanc.uclouvain.be/book/users/rest.html#sending-resources-to-remote-modalities
"""

from __future__ import annotations

import time
import urllib.parse

from salt.exceptions import CommandExecutionError

# How many images are sent at once, and how many at least are refused in a row before there is a
# pause behind each.
TOGETHER, ROW = 50, 5
# How often a target that does not answer a question is asked before it is sent an image instead,
# and is asked again.
QUESTIONS = 6
# For how many seconds to wait: for news, for a study to become stable, for all images of a request.
SOON, STABLE, PATIENCE = 1, 2, 3600
# How often a job is looked at.
LOOK = 0.1
# After how many seconds at most a target that was away is looked for again.
LONGEST = 60
# For how many seconds it is said that images were deleted before they were sent.
TOLD = 86400
# By which a job of Orthanc's is known that sends for a route. Whoever sends by hand comes first.
PRIORITY = -1000
UNREADABLE = "Orthanc cannot read it here; see orthanc.verify"
SILENT = "it gives no answer in time"


def failing(name):
    """
    Part of the formula. Return the name of the note of the queue that says since when, and why, a
    route comes to nothing.

    name
        That of the route.
    """
    return f"failing {name}"


def sends(job):
    """
    Part of the formula. Return whether a job of Orthanc's sends for a route.

    job
        What Orthanc shows of it.
    """
    return job.get("Priority") == PRIORITY


def send(queue, name, route, ask):
    """
    Part of the formula. Send what is due of a route, and return for how many seconds to wait before
    the next time.

    queue
        What ``orthanc_routes_queue.opened`` gives.

    name, route
        Its name, and what the pillar says: ``to``, its ``kind``, ``when``, ``keep_trying``.

    ask
        A function that takes a method, a path and what is sent, and returns the code of Orthanc's
        answer and what it holds.

    Raises CommandExecutionError if Orthanc does not answer; then it is not known what was sent.
    """
    due = [one for one in queue.due(name, TOGETHER) if _judged(queue, name, route, one, ask)]
    due = _stable(queue, name, due, ask)
    if not due:
        queue.forget_deleted(name, time.time() - TOLD)
        return SOON
    bad = queue.note(failing(name)) or {}
    # One that takes a connection and is silent then keeps others from sending meanwhile.
    if bad.get("away") and bad["row"] % (QUESTIONS + 1) < QUESTIONS and not _answers(route, ask):
        return _failed(queue, name, route, bad["why"], True)
    fresh = [one["instance"] for one in due if not one["tries"]]
    if len(fresh) > 1 and not bad and not _store(queue, name, route, fresh, ask):
        return 0
    for one in due[:1] if bad.get("away") else due:
        wait = _send_one(queue, name, route, one, ask)
        if wait:
            return wait
    return 0


def _id(one: dict) -> str:
    return __salt__["orthanc_routes_queue.unpacked"](one["instance"])


def _judged(queue, name: str, route: dict, one: dict, ask) -> bool:
    """Return whether a route is for an image, of which that could not be told at first."""
    if one["judged"]:
        return True
    rows = __salt__["orthanc_routes_intake.judge"]({name: route}, _id(one), ask)
    if not rows:
        queue.drop(name, one["instance"])
    elif rows[0]["judged"]:
        queue.change(name, one["instance"], judged=1, study=rows[0]["study"])
        one["study"] = rows[0]["study"]
        return True
    else:
        _later(queue, name, route, one, UNREADABLE)
    return False


def _stable(queue, name: str, due: list, ask) -> list:
    """Return the images whose study has not to become stable first."""
    waits = set()
    for study in {one["study"] for one in due if one["study"]}:
        path = f"/studies/{__salt__['orthanc_routes_queue.unpacked'](study)}"
        code, known = ask("GET", path)
        # What Orthanc knows of that is lost where it dies; then each is stable.
        if code == 200 and not known.get("IsStable", True):
            queue.hold(name, study, time.time() + STABLE)
            waits.add(study)
    return [one for one in due if one["study"] not in waits]


def _path(route: dict, word: str) -> str:
    # What DICOMweb has is below an address of its own.
    return (
        f"{route.get('web', '')}/{route['kind']}/{urllib.parse.quote(route['to'], safe='')}/{word}"
    )


def _answers(route: dict, ask) -> bool:
    """Return whether the target answers a question."""
    if _stranger(route, ask, SILENT):
        return False
    method, word, data = __salt__["orthanc_tables.get"]("PINGS")[route["kind"]]
    return ask(method, _path(route, word), data)[0] == 200


def _stranger(route: dict, ask, silent: str = "") -> str:
    """
    Return why what answers in the place of a peer is none, or that it is silent. Orthanc is not
    asked for that: it takes any answer, and holds up all who change modalities and peers meanwhile.
    """
    code, peers = ask("GET", "/peers?expand") if route["kind"] == "peers" else (404, None)
    url = peers.get(route["to"], {}).get("Url") if code == 200 else None
    try:
        return __salt__["orthanc_http.stranger"](url) if url else ""
    except TimeoutError:
        return silent


def _store(queue, name: str, route: dict, instances: list, ask) -> str:
    """Send images, note that they are sent, and return nothing; or the sentence why not."""
    why = _stranger(route, ask)
    if why:
        return why
    unpacked = __salt__["orthanc_routes_queue.unpacked"]
    data = {"Resources": [unpacked(one) for one in instances], "Priority": PRIORITY}
    if route["kind"] == "servers":
        code, answer = _stow(_path(route, "stow"), data, ask)
    else:
        data["Synchronous"] = True
        code, answer = ask("POST", _path(route, "store"), data, PATIENCE)
    if code != 200:
        return __salt__["orthanc_routes_rules.reason"](code, answer)
    queue.sent(name, instances)
    if queue.note(failing(name)):
        queue.put(**{failing(name): None})
    return ""


def _stow(path: str, data: dict, ask) -> tuple:
    """
    Send images over DICOMweb; return the code of an answer and what it holds. The plugin itself
    waits for no job that comes behind others: it breaks off, and all would be sent again and again.
    """
    code, job = ask("POST", path, {**data, "Synchronous": False})
    if code != 200:
        return code, job
    while True:
        time.sleep(LOOK)
        code, found = ask("GET", f"/jobs/{job['ID']}")
        if code != 200:
            raise CommandExecutionError(f"what became of the job {job['ID']} is not known")
        if found["State"] == "Success":
            return 200, None
        if found["State"] == "Failure":
            content = found.get("Content") or {}
            said = [found.get("ErrorDetails"), content.get("FunctionErrorDescription")]
            return 500, {"Details": next(filter(None, said), found.get("ErrorDescription"))}


def _send_one(queue, name: str, route: dict, one: dict, ask) -> float:
    """Send an image, and return how long the others have to wait."""
    why = _store(queue, name, route, [one["instance"]], ask)
    if not why:
        return 0
    if ask("GET", f"/instances/{_id(one)}")[0] == 404:
        queue.change(name, one["instance"], state="deleted", due=time.time())
        return 0
    if _answers(route, ask):
        _later(queue, name, route, one, why)
        return _failed(queue, name, route, why, False)
    # Another one is the next: it may be this one all the same.
    first = __salt__["orthanc_routes_rules.pause"](1)
    queue.change(name, one["instance"], due=time.time() + first)
    return _failed(queue, name, route, why, True)


def _later(queue, name: str, route: dict, one: dict, why: str) -> None:
    """Let an image wait that was refused; or give it up, where that went on for too long."""
    now, tries = time.time(), one["tries"] + 1
    values = {
        "tries": tries,
        "why": why,
        "due": now + __salt__["orthanc_routes_rules.pause"](tries),
    }
    # Not where this host was off meanwhile.
    if tries > ROW and now - one["since"] > route["keep_trying"]:
        values["state"] = "failed"
    queue.change(name, one["instance"], **values)


def _failed(queue, name: str, route: dict, why: str, away: bool) -> float:
    """Note that nothing was sent, and return how long the others have to wait."""
    now, bad = time.time(), queue.note(failing(name)) or {}
    bad = bad if bad.get("away") == away else {"since": now, "row": 0}
    bad.update(row=bad["row"] + 1, why=why, away=away)
    queue.put(**{failing(name): bad})
    if not away:
        return SOON if bad["row"] >= ROW else 0
    before = now - route["keep_trying"]
    if bad["since"] < before:
        queue.give_up(name, before, why)
    return min(LONGEST, __salt__["orthanc_routes_rules.pause"](bad["row"]))
