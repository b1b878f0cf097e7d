"""
Timers of systemd, the units that they start, services that go on, and the programs of these: what
is done by the host itself, also where no minion runs.
"""

from __future__ import annotations

import contextlib
import os

import salt.utils.files
import salt.utils.systemd

MODE = 0o644
# Where systemd notes when a timer last elapsed.
STAMP = "/var/lib/systemd/timers/stamp-{}"
GOOD = ["active", "enabled"]
# Where a unit says when it is started.
INSTALL = "\n[Install]\n"


def pending(files):
    """
    Part of the formula. Return what ``put`` would do: a mapping from path to "written" or
    "removed", and from the name of a timer to "started".

    files
        A mapping from path to text, None for one that is not to be there. Each unit among them that
        says when it is started, as timers do, is to run, and to be started at boot.

    Raises CommandExecutionError if a file cannot be read.
    """
    read = __salt__["orthanc_files.read_if_there"]
    with __salt__["orthanc_files.failing"]("reading the units"):
        # What is to go may be anything, also a link that leads nowhere.
        other = {
            path: text
            for path, text in files.items()
            if (os.path.lexists(path) if text is None else read(path) != text)
        }
    words = {path: "removed" if text is None else "written" for path, text in other.items()}
    units = [os.path.basename(path) for path in _kept(files, True)]
    idle = [unit for unit in units if _booted() and _state(unit) != GOOD]
    return {**words, **dict.fromkeys(idle, "started")}


def _booted() -> bool:
    return salt.utils.systemd.booted(__context__)


def _kept(files: dict, wanted: bool) -> list:
    """Return the paths of the units that are to be kept running, or are no longer."""
    read = __salt__["orthanc_files.read_if_there"]
    return [
        path
        for path, text in files.items()
        if path.endswith((".timer", ".service")) and (text is not None) == wanted
        # What is on the disk may be anything, also a link that leads nowhere.
        if path.endswith(".timer") or INSTALL in ((text if wanted else read(path)) or "")
    ]


def _state(unit: str):
    return __salt__["orthanc_host.unit"](unit, "ActiveState", "UnitFileState")


def put(files):
    """
    Part of the formula. Write and remove files, and start and stop the units among them.

    files
        See ``pending``.

    Raises CommandExecutionError if that failed.
    """
    todo = pending(files)
    for path in _kept(files, False):
        if _booted() and path in todo:
            __salt__["orthanc_host.systemctl"]("disable", "--now", os.path.basename(path))
    with __salt__["orthanc_files.failing"]("writing the units"):
        for path in [path for path in files if path in todo]:
            with salt.utils.files.set_umask(0o022):
                os.makedirs(os.path.dirname(path), exist_ok=True)
            __salt__["orthanc_files.sweep"](path)
            __salt__["orthanc_files.write"](path, files[path], MODE)
        for path in _kept(files, False):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(STAMP.format(os.path.basename(path)))
    if not _booted():
        return
    if any(path.endswith((".service", ".timer")) for path in todo):
        __salt__["orthanc_host.systemctl"]("daemon-reload")
    for path in _kept(files, True):
        unit = os.path.basename(path)
        if unit in todo:
            __salt__["orthanc_host.systemctl"]("enable", unit)
        # With its schedule as it is now; a service, with its program.
        if unit in todo or path in todo or (path.endswith(".service") and todo):
            __salt__["orthanc_host.systemctl"]("restart", unit)
