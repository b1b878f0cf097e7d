"""
The pillar, read against its shape: what is wrong with it, what is sound of it, and which of it no
state is handed.

``map.py`` loads it, with the functions of ``orthanc_shapes`` as ``shapes`` and the tables of
``pillar.py`` as ``tables``.
"""

from __future__ import annotations

import re

# Of a shape's word ``secret``; the other one is that it depends on the value.
ALWAYS = "always"
# By these words a YAML value is named.
NAMES = (
    (type(None), "nothing"),
    (bool, "true or false"),
    ((int, float), "a number"),
    (str, "a text"),
    (dict, "a mapping"),
    (list, "a list"),
)


def run() -> dict:
    return {
        "kind": kind,
        "mistakes": mistakes,
        "nearest": nearest,
        "sound_part": sound_part,
        "without_secrets": without_secrets,
    }


def kind(value) -> str:
    """Name what a YAML value is, without telling a value that may be secret."""
    names = (name for cls, name in NAMES if isinstance(value, cls))
    return next(names, type(value).__name__)


def sound_part(pillar) -> tuple[dict, list[str]]:
    """Return the keys whose values are of the right shape, and what is wrong with the others."""
    problems = mistakes(pillar)
    if not isinstance(pillar, dict):
        return {}, problems
    sound = {}
    for key, value in pillar.items():
        found = mistakes({key: value})
        if not found or (key == "config" and isinstance(value, dict)):
            sound[key] = value
        elif key in tables["WHOLE"].values() and isinstance(value, dict):
            # The other entries are judged on the host as well.
            sound[key] = {
                name: item for name, item in value.items() if not mistakes({key: {name: item}})
            }
    return sound, problems


def mistakes(pillar) -> list[str]:
    """Return one sentence for each place where the pillar is not of its shape."""
    reader = {
        "kinds": tables["KINDS"],
        "shown": shown,
        "unknown": unknown,
        "noun": "key",
        "empty": empty,
    }
    found = shapes["mistakes"](pillar, tables["SHAPE"], ["orthanc"], reader)
    return [f"{':'.join(path)}: {sentence}" for path, sentence in found]


def empty(value, path: list[str]) -> str:
    """Return the sentence for what is written and empty."""
    what = "is written, with nothing behind it" if value is None else "is an empty text"
    remedy = tables["INSTEAD"].get(":".join(path), "give it a value, or take it out")
    return f"{what}; {remedy} (a loop of a template that found nothing looks so, too)"


def shown(value, path: list[str], wanted: str) -> str:
    """Show a wrong value where it helps and can be no secret."""
    hidden = re.search(tables["NOT_SHOWN"], ":".join(path), re.IGNORECASE)
    is_part = wanted in ("a mapping", "a list")
    if hidden or is_part or not isinstance(value, (bool, int, float, str)):
        return kind(value)
    return f"{kind(value)}: {value!r}"


def unknown(path: list[str], known) -> str:
    """Return the sentence for a key that nobody knows."""
    *place, key = path
    return f"unknown key; {nearest(key, known, ':'.join(place))}"


def nearest(name: str, known, path: str) -> str:
    """Return where the value of an unknown key probably belongs, or the keys that are known."""
    plain_name = re.sub("[_ -]", "", name).lower()
    level = "orthanc:users:*" if re.fullmatch("orthanc:users:[^:]+", path) else path
    meant = place_of(plain_name, tables["MEANT"].get(level, {}))
    no_setting = place_of(plain_name, tables["NO_SETTING"])
    same = [one for one in known if one.lower() == name.lower()]
    if no_setting:
        return no_setting
    if meant and not same:
        return f"what it sets has its place at {meant if ':' in meant else f'{path}:{meant}'}"
    if path == "orthanc" and not same and re.fullmatch("[A-Z]+[a-z][A-Za-z0-9]*", name):
        return f"if it is an option of Orthanc, its place is {path}:config:{name}"
    near = same or shapes["near"](name, list(known)) or alike(name.lower(), known)[:1]
    if near:
        ones = " or ".join(f"{path}:{one}" for one in near)
        return f"the nearest known {'keys are' if near[1:] else 'key is'} {ones}"
    return f"known below {path}: " + ", ".join(sorted(known))


def alike(name: str, known) -> list[str]:
    """Return the keys that begin like a name, have it as a word, or that it would switch on."""
    longer = [one for one in known if min(len(name), len(one)) > 2]
    switched = [one for one in longer if name in (f"use_{one}", f"enable_{one}")]
    return [
        one
        for one in longer
        if one.startswith(name) or name.startswith(one) or name in one.split("_")
    ] + switched


def place_of(name: str, table: dict) -> str:
    """Return what a table has for a name; nothing where it does not know it."""
    return next((place for place, names in table.items() if name in names), "")


def without_secrets(settings: dict) -> dict:
    """
    Return the settings with a reference in the place of each value that may be a secret.

    The module ``orthanc_pillar`` looks it up on the host, when the state runs.
    """
    return referring(settings, tables["SHAPE"], ["orthanc"])


def referring(value, shape, path: list):
    """Return the same for a part of the settings; what the pillar does not know has no shape."""
    if shape is None:
        return value
    secret = shapes["resolved"](shape, tables["KINDS"]).get("secret")
    is_place = isinstance(value, str) and value.startswith(("/", "salt://"))
    if secret == ALWAYS or (secret and not is_place):
        return {"__pillar__": path}
    pairs = enumerate(value) if isinstance(value, list) else ()
    below = {
        key: referring(item, shapes["below"](shape, key, tables["KINDS"]), [*path, key])
        for key, item in (value.items() if isinstance(value, dict) else pairs)
    }
    return list(below.values()) if isinstance(value, list) else below or value
