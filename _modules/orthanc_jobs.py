"""
What systemd starts by itself, such as the backup at night: units, and the program that they start,
which is the formula's modules as they are here, see :py:mod:`orthanc_alone`.

Where systemd does not run, the program is there all the same, for a scheduler of the host's own.
"""

from __future__ import annotations

import contextlib
import glob
import os
import re
import sys

import salt.utils.files
import salt.utils.systemd
from salt.exceptions import CommandExecutionError

UNITS = "/etc/systemd/system"
# Where systemd notes when a timer last elapsed.
STAMP = "/var/lib/systemd/timers/stamp-{}"
# The folder of the program; see ``orthanc_files.own``.
PROGRAM = "/usr/local/lib/{}"
RUNNER = "orthanc_alone.py"
# What a Python has to have to run it.
FIT = "import sqlite3, sys; sys.exit(sys.version_info < (3, 8))"
SERVICE = """\
# Managed by Salt
[Unit]
Description={description}
Wants=network-online.target
After=network-online.target orthanc.service postgresql.service
{mounts}
[Service]
Type=oneshot
ExecStart={command} {function} {argument}
# Also where it was killed: a server that stood still for its sake goes on.
ExecStopPost={command} {ended} {argument}
CacheDirectory={name}
CPUWeight=20
IOWeight=20
# Rather this than the server.
OOMScoreAdjust=500
UMask=0077
"""
TIMER = """\
# Managed by Salt
[Unit]
Description={description}

[Timer]
OnCalendar={schedule}
# Not all servers of a site at once; and after a night in which this one was off, at its start.
RandomizedDelaySec=30min
Persistent=yes

[Install]
WantedBy=timers.target
"""


def lacks(timers):
    """
    Part of the formula. Return what ``put`` would write, as a mapping from path to text, None for a
    file that goes.

    timers
        A list of mappings, see ``put``.

    Raises CommandExecutionError if systemd does not take a schedule, or no Python of this host can
    run the program.
    """
    wanted = {**_program(), **{k: v for timer in timers for k, v in _units(timer).items()}}
    # What an earlier version of the formula had.
    for path in glob.glob(os.path.join(glob.escape(_folder()), "*.py")):
        wanted.setdefault(path, None)
    read = __salt__["orthanc_files.read_if_there"]
    return {path: text for path, text in wanted.items() if read(path) != text}


def _folder() -> str:
    return __salt__["orthanc_files.own"](PROGRAM)


def _program() -> dict:
    """Return the texts of all modules of the formula, by their paths in the folder."""
    here = os.path.dirname(os.path.abspath(__file__))
    return {
        os.path.join(_folder(), os.path.basename(path)): __salt__["orthanc_files.read"](path)
        for path in sorted(glob.glob(os.path.join(glob.escape(here), "orthanc*.py")))
    }


def _units(timer: dict) -> dict:
    """Return the texts of the units of a timer by their paths; None of one that is not to be."""
    if not _booted():
        return {}
    texts: dict = {"service": None, "timer": None}
    if timer["function"]:
        values = {**timer, "command": " ".join(command()), "mounts": _mounts(timer["mounts"])}
        texts["service"] = SERVICE.format(**values)
    if timer["function"] and timer["schedule"]:
        _check(timer)
        texts["timer"] = TIMER.format(**timer)
    return {f"{UNITS}/{timer['name']}.{kind}": text for kind, text in texts.items()}


def _booted() -> bool:
    return salt.utils.systemd.booted(__context__)


def _mounts(paths: list) -> str:
    """Return the line that lets a unit wait for the disks of paths."""
    quoted = [re.sub(r'(["\\])', r"\\\1", path).replace("%", "%%") for path in paths]
    return "".join(f'RequiresMountsFor="{path}"\n' for path in quoted)


def _check(timer: dict) -> None:
    words = ["systemd-analyze", "calendar", timer["schedule"]]
    if __salt__["orthanc_host.ask"](words) is None:
        raise CommandExecutionError(
            f"{timer['place']}: systemd does not know {timer['schedule']!r} as a time; write it as"
            " OnCalendar of systemd.time(7) has it, such as '02:30' or 'Sat 03:00'"
        )


def command():
    """
    Part of the formula. Return the words that run a function of a module without Salt; its name and
    arguments follow.

    Raises CommandExecutionError if no Python of this host can do it.
    """
    for python in ("/usr/bin/python3", sys.executable):
        if __salt__["orthanc_host.ask"]([python, "-I", "-c", FIT]) is not None:
            return [python, "-I", "-B", os.path.join(_folder(), RUNNER)]
    raise CommandExecutionError("no Python of this host is 3.8 or newer and has sqlite3")


def put(files, timers):
    """
    Part of the formula. Write the program and the units, and start and stop the timers.

    files
        What ``lacks`` returned.

    timers
        A list of mappings: the ``name`` of the units, their ``description``; the ``function`` that
        is called, None where the units are to go, with its ``argument``, and the one that is called
        when it has ``ended``; the ``schedule``, None for none, and its ``place`` in the pillar; and
        the paths in ``mounts``, whose disks it needs.

    Raises OSError if writing failed, CommandExecutionError if systemd refuses.
    """
    timed = [f"{timer['name']}.timer" for timer in timers if _booted()]
    for unit in timed:
        if files.get(f"{UNITS}/{unit}", "") is None:
            _systemctl("disable", "--now", unit)
    for path, text in files.items():
        with salt.utils.files.set_umask(0o022):
            os.makedirs(os.path.dirname(path), exist_ok=True)
        __salt__["orthanc_files.write"](path, text, 0o644)
    if any(path.startswith(UNITS) for path in files):
        _systemctl("daemon-reload")
    for unit in idle(timers):
        _systemctl("enable", "--now", unit)
    for unit in timed:
        if files.get(f"{UNITS}/{unit}"):
            # With the schedule as it is now.
            _systemctl("restart", unit)


def idle(timers):
    """
    Part of the formula. Return the timers that are to be on and are not, a list of the names of
    units.

    timers
        See ``put``.
    """
    if not _booted():
        return []
    units = [f"{each['name']}.timer" for each in timers if each["function"] and each["schedule"]]
    good = ["active", "enabled"]
    shown = {u: __salt__["orthanc_host.unit"](u, "ActiveState", "UnitFileState") for u in units}
    return [unit for unit in units if shown[unit] != good]


def _systemctl(*words: str) -> None:
    said = __salt__["cmd.run_all"](["systemctl", *words], python_shell=False, ignore_retcode=True)
    if said["retcode"]:
        raise CommandExecutionError(f"systemctl {' '.join(words)} failed: {said['stderr']}")


def files_of(timers):
    """
    Part of the formula. Return the paths of all that ``put`` wrote and that is there.

    timers
        See ``put``.
    """
    units = [f"{UNITS}/{each['name']}.{kind}" for each in timers for kind in ("service", "timer")]
    program = glob.glob(os.path.join(glob.escape(_folder()), "*.py"))
    return [path for path in [*sorted(program), *units] if os.path.lexists(path)]


def remove(timers):
    """
    Part of the formula. Remove what ``put`` wrote.

    timers
        See ``put``.
    """
    put(dict.fromkeys(files_of(timers)), [{**timer, "function": None} for timer in timers])
    for timer in timers:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(STAMP.format(f"{timer['name']}.timer"))
    if os.path.isdir(_folder()) and not os.listdir(_folder()):
        os.rmdir(_folder())


def start(name, function, argument):
    """
    Part of the formula. Let systemd start what a timer starts, and wait until it has ended. One
    that runs already is waited for.

    name
        The name of the unit.

    function, argument
        What is called where systemd does not run.
    """
    words = ["systemctl", "start", f"{name}.service"]
    if not _booted():
        words = [*command(), function, argument]
    __salt__["cmd.run_all"](words, python_shell=False, ignore_retcode=True)
