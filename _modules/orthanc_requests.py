"""
Who asked Orthanc what: the lines that a script in Lua writes while the server runs, a file a day;
see ``orthanc/access.lua.jinja``.
"""

from __future__ import annotations

import collections
import glob
import os
import re

import salt.utils.files

# The file of the script in the folder of the configuration, and what it says of its own files.
SCRIPT = "{}-access.lua"
FOLDER = re.compile(r'(?m)^local FOLDER, DAYS = "(.*)", \d+$')
FILES = "access-[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9].log"
# What a line has, in this order, and the study among it: by Orthanc's identifier or by its UID.
FIELDS = ("time", "address", "account", "method", "path", "result")
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
STUDY = re.compile(r"/studies/([0-9a-f]{8}(?:-[0-9a-f]{8}){4}|[0-9]+(?:\.[0-9]+)+)(?=/|$)")
# What follows in a line of the formula's own, and whose such a request is then.
AGENT, OWN = "Salt-for-Orthanc", "Salt as {}"
# What of these nobody needs to know: it changes nothing, and is about no image.
PLAIN = re.compile(
    "/(system|statistics|changes|jobs|plugins|modalities|peers|[^/]+/servers)(/[^/]+(/system)?)?"
)
# What the script writes of a character that would end a field; the others stay as they are written.
HIDDEN = re.compile(r"\\x(20|5c)")
# How much is read at one time, from the end of a file. In bytes.
BLOCK = 1 << 16
# No line of the script's is that long.
LONGEST = 1 << 16


def folder(options):
    """
    Part of the formula. Return the folder of the files; None where nothing is written down.

    options
        A mapping from option name to value.
    """
    own = __salt__["orthanc_files.own"](SCRIPT)
    scripts = options.get("LuaScripts")
    for path in scripts if isinstance(scripts, list) else ():
        if os.path.basename(str(path)) == own:
            found = FOLDER.search(__salt__["orthanc_files.read_if_there"](path) or "")
            return (found and __salt__["orthanc_lua.plain"](found.group(1))) or None
    return None


def last(folder, count, wanted, own=False):
    """
    Part of the formula. Return the last requests, a list of mappings, the last one at its end.

    folder
        The path of the folder of the files.

    count
        How many at most.

    wanted
        What they have to have, a mapping from the name of a field to its value.

    own
        Whether those are among them with which the formula itself asks how the server is.
    """
    found: collections.deque = collections.deque()
    # By their names, which are days.
    for path in sorted(glob.glob(os.path.join(glob.escape(folder), FILES)), reverse=True):
        # What is no file was not written by the script, and might never end.
        for line in _from_its_end(path) if os.path.isfile(path) else ():
            request = parse(line)
            if not request or not (own or _is_of_people(request)):
                continue
            if all(request.get(name) == value for name, value in wanted.items()):
                found.appendleft(request)
                if len(found) >= count:
                    return list(found)
    return list(found)


def parse(line):
    """
    Part of the formula. Return what a line says, by the names of its fields; None for one that is
    none, as where the disk was full.

    line
        A text.
    """
    fields = line.split(" ")
    own = len(fields) == len(FIELDS) + 1 and fields.pop() == AGENT
    if len(fields) != len(FIELDS) or not TIME.fullmatch(fields[0]):
        return None
    found = dict(zip(FIELDS, fields))
    found["account"] = HIDDEN.sub(lambda code: chr(int(code.group(1), 16)), found["account"])
    if own:
        found["account"] = OWN.format(found["account"])
    study = STUDY.search(found["path"])
    return {**found, **({"study": study.group(1)} if study else {})}


def _is_of_people(request: dict) -> bool:
    """Return whether a request is more than a look of the formula's at how the server is."""
    own = request["account"].startswith(OWN.format(""))
    return not (own and request["method"] == "GET" and PLAIN.fullmatch(request["path"]))


def _from_its_end(path: str):
    """Give the lines of a file, the last one first; those of one that is gone are none."""
    try:
        file = salt.utils.files.fopen(path, "rb")
    except FileNotFoundError:
        return
    with file:
        place, rest = file.seek(0, os.SEEK_END), b""
        while place:
            size = min(BLOCK, place)
            place -= size
            file.seek(place)
            rest, *lines = (file.read(size) + rest).split(b"\n")
            for line in reversed(lines):
                yield line.decode(errors="replace")
            # It may be the hole that a crash has left.
            rest = rest[-LONGEST:]
        yield rest.decode(errors="replace")
