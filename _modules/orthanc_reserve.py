"""
The free space below which the server takes no new images, held against the disks of this host.

A script in Lua that comes with the configuration sees to it while the server runs; see
``orthanc/reserve.lua.jinja``. How much that is stands in a mapping, the *reserve*: a ``percent`` of
the size of a file system, but at ``most`` and at ``least`` so many bytes. It is empty where there
is none.
"""

from __future__ import annotations

import os
import re

SETTING = "orthanc:storage_reserve"
# In which Orthanc counts MaximumStorageSize.
MEGABYTE = 1024 * 1024
# The file of the script in the folder of the configuration, and what it says of the reserve.
SCRIPT = "{}-reserve.lua"
FIGURES = re.compile(
    r"(?m)^local PERCENT, MOST, LEAST = (?P<percent>\d+), (?P<most>\d+), (?P<least>\d+)$"
)
# What it does by itself with images beyond that.
RECYCLE = "Recycle"


def advice(options, reserve):
    """
    Part of the formula. Say where the server would refuse new images from its start on, or before
    it makes room for them by itself; a list of sentences.

    options
        A mapping from option name to value, with the places of images and index.

    reserve
        See the module.
    """
    found: dict = {}
    for option, (path, size, free, kept) in spaces(options, reserve).items() if reserve else ():
        if free < kept:
            # Once where both are on one file system.
            found.setdefault((size, free), _too_little(path, size, free, kept))
        if option == "StorageDirectory" and _is_out_of_reach(options, size - kept):
            found[option] = (
                f"{SETTING}: {amount(kept)} of the file system of {path} stay free, which has"
                f" {amount(size)}, so that images never reach MaximumStorageSize, and Orthanc"
                " deletes no old ones to make room; set that to less, or make the reserve smaller"
            )
    return list(found.values())


def spaces(options, reserve):
    """
    Part of the formula. Return the disks in which new images need room, by the option that names
    the folder: a list of its path, the size of the disk, how much is free for Orthanc, and how much
    stays in reserve, in bytes.

    options, reserve
        See ``advice``; without a reserve, nothing stays in it.
    """
    found = {}
    for option in _watched(options):
        path = options[option]
        if isinstance(path, str):  # otherwise it is judged with the other options
            size, free = space(path)
            share = size * reserve.get("percent", 0) // 100
            kept = max(reserve.get("least", 0), min(reserve.get("most", 0), share))
            found[option] = [path, size, free, kept]
    return found


def in_force(options):
    """
    Part of the formula. Return the reserve that the running Orthanc has; see the module.

    options
        A mapping from option name to value.
    """
    own = __salt__["orthanc_files.own"](SCRIPT)
    for path in options.get("LuaScripts") or ():
        if os.path.basename(str(path)) == own:
            text = __salt__["orthanc_files.read_if_there"](path) or ""
            found = FIGURES.search(text)
            return {name: int(value) for name, value in found.groupdict().items()} if found else {}
    return {}


def _watched(options: dict) -> list[str]:
    """Return the options that name folders in which new images need room."""
    in_folder = __salt__["orthanc_identity.in_folder"](options)
    is_sqlite = __salt__["orthanc_postgresql.is_sqlite"](options)
    return ["StorageDirectory"] * in_folder + ["IndexDirectory"] * is_sqlite


def space(path):
    """
    Part of the formula. Return the size of the file system of a path, and what is free for Orthanc,
    in bytes.

    path
        The path of a folder, which need not be there.
    """
    while not os.path.isdir(path):
        path = os.path.dirname(path)
    state = os.statvfs(path)
    # As df has it: what is kept for root is free for nobody else.
    return state.f_blocks * state.f_frsize, state.f_bavail * state.f_frsize


def _too_little(path: str, size: int, free: int, kept: int) -> str:
    remedy = "give Orthanc a larger disk, or make the reserve smaller"
    if kept < size:
        remedy = f"make room, {remedy}"
    return (
        f"{SETTING}: Orthanc refuses new images, because the file system of {path} has"
        f" {amount(free)} free of {amount(size)}, and {amount(kept)} stay in reserve; {remedy}"
    )


def _is_out_of_reach(options: dict, room: int) -> bool:
    """Return whether images fill their disk up to the reserve before Orthanc deletes old ones."""
    most = options.get("MaximumStorageSize")
    if not isinstance(most, int) or options.get("MaximumStorageMode", RECYCLE) != RECYCLE:
        return False
    return most * MEGABYTE > room


def amount(size):
    """
    Part of the formula. Return a number of bytes for people.

    size
        The number.
    """
    if size < 10**9:
        return f"{size / 10**6:.0f} MB"
    return f"{size / 10**9:.1f} GB"
