"""
What systemd starts by itself, such as the backup at night: units, and the program that they start,
which is the formula's modules as they are here, see :py:mod:`orthanc_alone`.

Where systemd does not run, the program is there all the same, for a scheduler of the host's own.
"""

from __future__ import annotations

import glob
import os
import re
import shutil
import sys
import time

import salt.utils.systemd
from salt.exceptions import CommandExecutionError

UNITS = "/etc/systemd/system"
# Where a unit keeps what it can do without; see CacheDirectory below.
CACHE = "/var/cache/{}"
# The folder of the program; see ``orthanc_files.own``.
PROGRAM = "/usr/local/lib/{}"
RUNNER = "orthanc_alone.py"
# A moment as systemd has it.
TIME = re.compile(r"[A-Z][a-z]{2} (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)")
# What a Python has to have to run it.
FIT = "import sqlite3, sys; sys.exit(sys.version_info < (3, 8))"
SERVICE = """\
# Managed by Salt
[Unit]
Description={description}
# Whoever starts it again and again is not told of a run before.
StartLimitIntervalSec=0
{after}{mounts}
[Service]
Type=oneshot
ExecStart={command} {function} {argument}
{stop}CacheDirectory={name}
CPUWeight=20
IOWeight=20
# Rather this than the server.
OOMScoreAdjust=500
UMask=0077
"""
# What is not only read needs all that the server needs.
AFTER = """\
Wants=network-online.target
After=network-online.target orthanc.service postgresql.service
"""
STOP = """\
# Also where it was killed: a server that stood still for its sake goes on.
ExecStopPost={command} {ended} {argument}
"""
TIMER = """\
# Managed by Salt
[Unit]
Description={description}

[Timer]
OnCalendar={schedule}
# Not all servers of a site at once.
RandomizedDelaySec={delay}
# At the start, too, after a night in which this one was off.
Persistent={persistent}

[Install]
WantedBy=timers.target
"""


def pending(timers):
    """
    Part of the formula. Return what ``put`` would do, as ``orthanc_timer.pending`` does, with one
    entry for the whole program: it is many files, of which nobody wants to read.

    timers
        A list of mappings: the ``name`` of the units, their ``description``; the ``function`` that
        is called, None where the units are to go, with its ``argument``, and the one that is called
        when it has ``ended``, if there is one; the ``schedule``, None for none, and its ``place``
        in the pillar; ``persistent``, ``no`` where a night that was missed is not made up for;
        ``delay``, how much later than that it begins at most; ``after``, lines of the unit that say
        what comes before it; the paths in ``mounts``, whose disks it needs; and the ``unit`` of one
        that is no timer's, but goes on.

    Raises CommandExecutionError if systemd does not take a schedule, or no Python of this host can
    run the program.
    """
    return {
        os.path.dirname(path) if path.endswith(".py") else path: word
        for path, word in __salt__["orthanc_timer.pending"](_files(timers)).items()
    }


def _files(timers: list) -> dict:
    """Return the text of each file by its path, None of one that is not to be."""
    # What an earlier version of the formula had goes.
    old = dict.fromkeys(glob.glob(os.path.join(glob.escape(_folder()), "*.py")))
    return {**old, **_program(), **_units(timers)}


def _folder() -> str:
    return __salt__["orthanc_files.own"](PROGRAM)


def _program() -> dict:
    """Return the texts of all modules of the formula, by their paths in the folder."""
    here = os.path.dirname(os.path.abspath(__file__))
    return {
        os.path.join(_folder(), os.path.basename(path)): __salt__["orthanc_files.read"](path)
        for path in sorted(glob.glob(os.path.join(glob.escape(here), "orthanc*.py")))
    }


def _units(timers: list) -> dict:
    """Return the texts of the units of timers by their paths; None of one that is not to be."""
    texts = {}
    for timer in timers if _booted() else []:
        service = f"{UNITS}/{timer['name']}.service"
        texts.update({service: None, f"{UNITS}/{timer['name']}.timer": None})
        if timer["function"]:
            values = {**timer, "command": " ".join(command()), "mounts": _mounts(timer["mounts"])}
            values["stop"] = STOP.format(**values) if timer.get("ended") else ""
            unit = timer.get("unit", SERVICE)
            texts[service] = unit.format(**{"after": AFTER, **values})
        if timer["function"] and timer["schedule"]:
            _check(timer)
            values = {"persistent": "yes", "delay": "30min", **timer}
            texts[f"{UNITS}/{timer['name']}.timer"] = TIMER.format(**values)
    return texts


def _booted() -> bool:
    return salt.utils.systemd.booted(__context__)


def _mounts(paths: list) -> str:
    """Return the line that lets a unit wait for the disks of paths."""
    quoted = [re.sub(r'(["\\])', r"\\\1", path).replace("%", "%%") for path in paths]
    return "".join(f'RequiresMountsFor="{path}"\n' for path in quoted)


def _check(timer: dict) -> None:
    words = ["systemd-analyze", "calendar", "--", timer["schedule"]]
    if __salt__["orthanc_host.ask"](words) is None:
        raise CommandExecutionError(
            f"{timer['place']}: systemd does not know {timer['schedule']!r} as a time; write it as"
            " OnCalendar of systemd.time(7) has it, such as '02:30' or 'Sat 03:00'"
        )


def interval(schedule):
    """
    Part of the formula. Return how many seconds pass between two times of a schedule, as many as at
    most among the next ten; None where that cannot be told.

    schedule
        When, as OnCalendar has it.
    """
    words = ["systemd-analyze", "calendar", "--iterations=10", "--", schedule]
    found = TIME.findall(__salt__["orthanc_host.ask"](words) or "")
    times = [time.mktime(time.strptime(each, "%Y-%m-%d %H:%M:%S")) for each in found]
    return max((after - before for before, after in zip(times, times[1:])), default=None)


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


def put(timers):
    """
    Part of the formula. Write the program and the units, and start and stop the timers.

    timers
        See ``pending``.

    Raises CommandExecutionError if that failed.
    """
    __salt__["orthanc_timer.put"](_files(timers))


def left(timers):
    """
    Part of the formula. Return the paths of all that ``remove`` would remove.

    timers
        See ``pending``.
    """
    return [path for path in _absent(timers) if os.path.lexists(path)]


def _absent(timers: list) -> dict:
    """Return the paths of what goes with timers, with None: with the last ones the program."""
    units = {f"{UNITS}/{each['name']}.{kind}" for each in timers for kind in ("timer", "service")}
    others = set(glob.glob(f"{UNITS}/*.service")) - units
    runner, read = os.path.join(_folder(), RUNNER), __salt__["orthanc_files.read_if_there"]
    shared = any(runner in (read(path) or "") for path in others)
    program = [] if shared else sorted(glob.glob(os.path.join(glob.escape(_folder()), "*.py")))
    return dict.fromkeys([*sorted(units), *program])


def remove(timers):
    """
    Part of the formula. Remove what ``put`` wrote, but what other timers need.

    timers
        See ``pending``.

    Raises CommandExecutionError if that failed.
    """
    __salt__["orthanc_timer.put"](_absent(timers))
    for timer in timers:
        shutil.rmtree(CACHE.format(timer["name"]), ignore_errors=True)
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
