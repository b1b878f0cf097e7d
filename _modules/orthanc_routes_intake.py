"""
What has come into Orthanc, read of its changes, and put into the queue of the routes that are for
it.

The place up to which they are read is known by its change: by number, image and time. Where that is
not found there any more, as after a backup was restored, the index moved, or the changes deleted,
nobody can tell which numbers mean what. Then what came since is looked for among the studies.

https://orthanc.uclouvain.be/book/users/rest.html#tracking-changes
"""

from __future__ import annotations

import calendar
import contextlib
import socket
import time
import urllib.parse

from salt.exceptions import CommandExecutionError

# How many changes are read at a time.
CHANGES = 100
# How much of what was read before is looked through again where the place is lost, in seconds.
MARGIN = 3600
# For how many seconds a number that is left out may still come: where several connections write to
# the index, one may be done before another that has a smaller number.
LATE = 5
TIME = "%Y%m%dT%H%M%S"
# Notes in the queue: the place, and since when images are looked for among the studies.
PLACE, SINCE = "place", "since"


def look(queue, routes, ask):
    """
    Part of the formula. Read the next changes, and return whether there may be more.

    queue
        What ``orthanc_routes_queue.opened`` gives.

    routes
        What the pillar says, a mapping from name to route.

    ask
        A function that takes a method and a path, and returns the code of Orthanc's answer and what
        it holds.

    Raises CommandExecutionError if Orthanc does not answer; then nothing is changed.
    """
    ask, place = _remembering(ask), queue.note(PLACE)
    if place is None:
        begin(queue, ask)
        return False
    if queue.note(SINCE):
        _scan(queue, routes, ask)
        return True
    known = "id" in place
    since = max(0, place["seq"] - known)
    found = _get(ask, f"/changes?since={since}&limit={CHANGES}")
    changes = found["Changes"]
    if known and (not changes or _place(changes[0]) != place):
        queue.put(**{PLACE: _last(ask), SINCE: _stamp(_moment(place["date"]) - MARGIN)})
        return True
    changes = _in_order(changes[known:], place["seq"])
    if not changes:
        return False
    new = [change["ID"] for change in changes if change["ChangeType"] == "NewInstance"]
    rows = [row for one in dict.fromkeys(new) for row in judge(routes, one, ask)]
    queue.take(rows, **{PLACE: _place(changes[-1])})
    return not found.get("Done", True)


def begin(queue, ask):
    """
    Part of the formula. Let all be read that comes from now on, if nothing was read before.

    queue, ask
        See ``look``.

    Raises CommandExecutionError if Orthanc does not answer.
    """
    if queue.note(PLACE) is None:
        queue.put(**{PLACE: _last(ask)})


def _in_order(changes: list, last: int) -> list:
    """Return the changes up to the first of which one before it may still come."""
    for number, change in enumerate(changes):
        is_new = -1 <= time.time() - _moment(change["Date"]) < LATE
        if change["Seq"] != last + 1 and is_new:
            return changes[:number]
        last = change["Seq"]
    return changes


def rescan(queue, moment):
    """
    Part of the formula. Let all be looked for that came since a moment, in seconds since 1970.

    queue
        See ``look``.
    """
    queue.put(**{PLACE: {"seq": 0}, SINCE: _stamp(moment)})


def _last(ask) -> dict:
    """Return the place behind all changes."""
    found = _get(ask, "/changes?last")
    return _place(found["Changes"][-1]) if found["Changes"] else {"seq": found["Last"]}


def _place(change: dict) -> dict:
    return {"seq": change["Seq"], "id": change["ID"], "date": change["Date"]}


def _moment(text: str) -> float:
    """Return the time that Orthanc writes, which has no zone and means UTC."""
    with contextlib.suppress(ValueError):
        return calendar.timegm(time.strptime(text[:15], TIME))
    return 0.0


def _stamp(moment: float) -> str:
    return time.strftime(TIME, time.gmtime(max(0, moment)))


def _get(ask, path: str):
    code, found = ask("GET", path)
    if code != 200 or found is None:
        raise CommandExecutionError(f"Orthanc answers {code} to GET {path}")
    return found


def _scan(queue, routes: dict, ask) -> None:
    """Look through the studies that have had images since then."""
    since = queue.note(SINCE)
    if queue.note(PLACE) == {"seq": 0}:
        queue.put(**{PLACE: _last(ask)})
    for study in _get(ask, "/studies"):
        code, known = ask("GET", f"/studies/{study}")
        # What is deleted meanwhile needs nothing.
        if code != 200 or known.get("LastUpdate", since) < since:
            continue
        rows = []
        for series in known["Series"]:
            code, found = ask("GET", f"/series/{series}")
            for instance in found["Instances"] if code == 200 else ():
                if not queue.knows(__salt__["orthanc_routes_queue.packed"](instance)):
                    rows += judge(routes, instance, ask, since)
        queue.take(rows)
    queue.put(**{SINCE: None})


def judge(routes, instance, ask, since=""):
    """
    Part of the formula. Return rows for the queue: those routes that are for an image.

    routes, ask
        See ``look``.

    instance
        Its identifier in Orthanc.

    since
        A time as Orthanc has it; what came before then is for no route.
    """
    packed = __salt__["orthanc_routes_queue.packed"]
    row = {"instance": packed(instance), "study": None, "judged": 1}
    code, metadata = ask("GET", f"/instances/{instance}/metadata?expand")
    if code == 404 or (code == 200 and metadata.get("ReceptionDate", since) < since):
        return []
    tags: dict | None = {}
    if code == 200 and any({"modality", "tags"} & set(route) for route in routes.values()):
        code, tags = ask("GET", f"/instances/{instance}/tags")
    if code == 404:
        return []
    if code != 200 or not isinstance(tags, dict):
        # Orthanc has it, and cannot read it: that is to be seen with each route it may be for.
        return [{**row, "judged": 0, "route": name} for name in routes]
    chosen = [
        name
        for name, route in routes.items()
        if __salt__["orthanc_routes_rules.chooses"](route, tags, metadata)
        and not _is_back(route, metadata, ask)
    ]
    if any(routes[name]["when"] == "stable" for name in chosen):
        code, study = ask("GET", f"/instances/{instance}/study")
        row["study"] = packed(study["ID"]) if code == 200 else None
    return [{**row, "route": name} for name in chosen]


def _is_back(route: dict, metadata: dict, ask) -> bool:
    """Return whether a route would send an image back to where it came from."""
    address, came = metadata.get("RemoteIP"), __salt__["orthanc_routes_rules.came_from"]
    target = _target(route, ask) if address else {}
    # No name is looked up for what came from somebody else.
    return came(metadata, target, [address]) and came(metadata, target, _addresses(target))


def _target(route: dict, ask) -> dict:
    """Return what Orthanc knows of the target of a route."""
    if route["kind"] == "servers":
        # What comes by DICOMweb has no sender.
        return {}
    code, known = ask("GET", f"/{route['kind']}?expand")
    return (known.get(route["to"]) or {}) if code == 200 else {}


def _addresses(target: dict) -> set:
    with contextlib.suppress(OSError, ValueError):
        host = target.get("Host") or urllib.parse.urlsplit(target.get("Url", "")).hostname
        return {found[4][0] for found in socket.getaddrinfo(host, None)} if host else set()
    return set()


def _remembering(ask):
    """Return a function that asks only once for what is the same for all images."""
    known: dict = {}

    def asked(method, path):
        if not path.endswith("s?expand"):
            return ask(method, path)
        if path not in known:
            known[path] = ask(method, path)
        return known[path]

    return asked
