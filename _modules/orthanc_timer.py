"""
A timer of systemd, the unit that it starts, and the program of that: what is done by the host
itself, also where no minion runs.
"""

from __future__ import annotations

import contextlib
import os

import salt.utils.systemd
from salt.exceptions import CommandExecutionError

MODE = 0o644
# Where systemd notes when a timer last elapsed.
STAMP = "/var/lib/systemd/timers/stamp-{}"


def pending(name, files):
    """
    Part of the formula. Return what has to change for a timer to be there and to run, a mapping.

    name
        The name of the timer's unit.

    files
        A mapping from path to text.

    Raises CommandExecutionError if a file cannot be read.
    """
    read = __salt__["orthanc_files.read_if_there"]
    with __salt__["orthanc_files.failing"]("reading the units"):
        current = {path: read(path) for path in files}
    changes = {
        path: {"old": None if current[path] is None else "other text", "new": "written"}
        for path, text in files.items()
        if text != current[path]
    }
    for what, word in (("enabled", "is-enabled"), ("running", "is-active")):
        if not _is(word, name):
            changes[f"{name} {what}"] = {"old": False, "new": True}
    return changes


def make(name, files):
    """
    Part of the formula. Write the files of a timer, and start it, now and at boot.

    name, files
        See ``pending``.

    Raises CommandExecutionError if that failed.
    """
    with __salt__["orthanc_files.failing"](f"writing {name}"):
        for path, text in files.items():
            os.makedirs(os.path.dirname(path), exist_ok=True)
            __salt__["orthanc_files.sweep"](path)
            __salt__["orthanc_files.write"](path, text, MODE)
    _systemctl("daemon-reload")
    _systemctl("enable", name)
    _systemctl("restart", name)


def left(name, files):
    """
    Part of the formula. Return which files of a timer are there, a list of paths.

    name
        The name of the timer's unit.

    files
        A list of paths.
    """
    # Where it was enabled, the link goes with it.
    return [path for path in files if os.path.lexists(path)]


def remove(name, files):
    """
    Part of the formula. Stop a timer and remove its files.

    name, files
        See ``left``.

    Raises CommandExecutionError if that failed.
    """
    booted = salt.utils.systemd.booted(__context__)
    if booted and any(path.endswith(name) for path in left(name, files)):
        _systemctl("disable", "--now", name)
    with __salt__["orthanc_files.failing"](f"removing {name}"):
        for path in left(name, files):
            os.unlink(path)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(STAMP.format(name))
    if booted:
        _systemctl("daemon-reload")


def _is(word: str, name: str) -> bool:
    found = __salt__["cmd.retcode"](
        ["systemctl", word, name], python_shell=False, ignore_retcode=True
    )
    return found == 0


def _systemctl(*words: str) -> None:
    done = __salt__["cmd.run_all"](["systemctl", *words], python_shell=False)
    if done["retcode"]:
        raise CommandExecutionError(f"systemctl {' '.join(words)} failed: {done['stderr']}")
