"""
What of the images is sent on, and to whom: what the pillar may say of it, in the language of
``orthanc_shapes``, kinds for ``pillar.py``; what of it does not go together, for ``checks.py``; and
what the host is told of it.
"""

from __future__ import annotations

import fnmatch

# To whom images may be sent: where the pillar says so, the option of Orthanc that may say so too,
# and by which word Orthanc's REST API knows them.
TARGETS = (
    ("modalities", ("DicomModalities",), "modalities"),
    ("peers", ("OrthancPeers",), "peers"),
    ("dicomweb:servers", ("DicomWeb", "Servers"), "servers"),
)
# What holds where a route says nothing else.
DEFAULTS = {
    "when": "at_once",
    "keep_trying": "7 days",
    "warn_after": "1 hour",
    "warn_above": 10000,
}
UNITS = {"minute": 60, "hour": 3600, "day": 86400}
KINDS = {
    "time span": {
        "wanted": "a number of minutes, hours or days, such as 30 minutes",
        "type": "string",
        "pattern": "[1-9][0-9]{0,3} (minute|hour|day)s?",
    },
    "DICOM tag": {
        "wanted": "the keyword of a DICOM tag, such as StationName, or its number, such as"
        " '0008,1010'",
        "type": "string",
        "pattern": "[A-Z][A-Za-z0-9]{1,63}|[0-9A-Fa-f]{4},[0-9A-Fa-f]{4}",
    },
    "route": {
        "keys": {
            "to": "some text",
            "modality": {"items": "modality"},
            "from": {"items": "aet"},
            "tags": {"names": "DICOM tag", "each": {"items": "some text"}},
            "when": {"wanted": "at_once or stable", "enum": ["at_once", "stable"]},
            "keep_trying": "time span",
            "warn_after": "time span",
            "warn_above": "number",
        }
    },
}


def run() -> dict:
    return {"KINDS": KINDS, "check_routes": check_routes, "routes_job": routes_job}


def targets(settings: dict) -> dict:
    """Return to whom images may be sent: by name the words of the REST API that know it."""
    found: dict = {}
    for setting, option, word in TARGETS:
        for path in (setting.split(":"), ["config", *option]):
            part = settings
            for key in path:
                part = (part.get(key) or {}) if isinstance(part, dict) else {}
            for name in part if isinstance(part, dict) else ():
                if word not in found.setdefault(str(name), []):
                    found[str(name)].append(word)
    return found


def of_group(site: str, settings: dict) -> str:
    """Return by which word a site of the group is known: a peer, where it has an account for it."""
    accounts = settings["network"].get("accounts", {})
    return "peers" if any(fnmatch.fnmatchcase(site, one) for one in accounts) else "modalities"


def check_routes(settings: dict) -> list[str]:
    """Return what is wrong with the routes."""
    routes, known, problems = settings["routes"], targets(settings), []
    if not routes:
        return []
    for name, route in routes.items():
        problems += check_route(f"orthanc:routes:{name}", route, known, settings)
    if not settings["system"]["booted"]:
        problems.append(
            "orthanc:routes: systemd does not run here, so nothing would be sent; take it out"
        )
    if settings["config"].get("JobsHistorySize") == 0:
        problems.append(
            "orthanc:config:JobsHistorySize: must not be 0 together with orthanc:routes: what has"
            " arrived could not be told, and would be sent again and again; take it out"
        )
    users = settings["users"].values()
    may = any(user.get("role") == "admin" or "rules" in user for user in users)
    if users and not may and not settings["demo_users"]:
        problems.append(
            "orthanc:routes: none of the users of orthanc:users may send images, in whose name that"
            " is done; give one of them the role admin"
        )
    return problems


def check_route(path: str, route: dict, known: dict, settings: dict) -> list[str]:
    """Return what is wrong with one route."""
    places = [f"orthanc:{setting}" for setting, _, _ in TARGETS]
    places = f"{', '.join(places[:-1])} or {places[-1]}"
    if "to" not in route:
        return [f"{path}:to: missing; give the name of one in {places}"]
    problems, kinds = [], known.get(route["to"], [])
    # Which sites are in a group is not known before the host asks for their cards.
    if not kinds and not settings["network"].get("group"):
        problems.append(
            f"{path}:to: {route['to']} is in none of {places}; put it there, or take one that is:"
            f" {', '.join(sorted(known)[:20]) or 'there is none'}"
        )
    elif len(kinds) > 1:
        problems.append(
            f"{path}:to: {route['to']} is the name of several, in {places}; give one of them"
            " another name"
        )
    elif kinds == ["servers"] and not settings["dicomweb"]["enabled"]:
        problems.append(
            f"{path}:to: {route['to']} is a DICOMweb server, which needs orthanc:dicomweb:enabled;"
            " set that to true"
        )
    lists = {key: route.get(key) for key in ("modality", "from")}
    lists.update({f"tags:{tag}": values for tag, values in route.get("tags", {}).items()})
    problems += [
        f"{path}:{key}: is an empty list, and the route would be for nothing; take it out"
        for key, value in lists.items()
        if value == []
    ]
    return problems


def routes_job(settings: dict) -> dict:
    """Return what the host is told."""
    known, routes, section = targets(settings), {}, settings["config"].get("DicomWeb")
    root = section.get("Root") if isinstance(section, dict) else None
    root = str(root or settings["dicomweb"].get("root", "/dicom-web/")).strip("/")
    for name, given in settings["routes"].items():
        to = str(given.get("to"))
        route = {**DEFAULTS, **given, "kind": known.get(to, [of_group(to, settings)])[0]}
        for key in ("keep_trying", "warn_after"):
            number, unit = route[key].split()
            route[key] = int(number) * UNITS[unit.rstrip("s")]
        routes[str(name)] = {**route, "web": f"/{root}"} if route["kind"] == "servers" else route
    return {
        "routes": routes,
        "config": settings["paths"]["config"],
        **{key: settings["system"][key] for key in ("user", "group")},
    }
