"""Runs of the formula in one process of a host, where loading Salt takes longer than a run.

On the host this file is the program. It reads a line for each run, with an SLS and a pillar, and
answers with a line of what ``state.apply`` returned. A run that is to be killed has a process of
its own; its answer is the *steps* that it came to: what it was about to do with files of Orthanc's
or with other programs, from where it begins to write.
"""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import re
import select
import signal
import subprocess
import sys
import tempfile

PILLAR = "/srv/pillar/orthanc.sls"
# How many seconds a run may take.
LIMIT = 600
# Where the files are of which each step counts.
PLACES = ("/etc/orthanc", "/etc/.orthanc", "/etc/systemd/system/orthanc")
# What Python tells of files before it does it: what is said first is a path, or a descriptor; at
# which place that of its folder stands.
ON_FILES = {
    **{"open": None, "fsync": None, "os.truncate": None, "os.rename": 2},
    **{"os.remove": 1, "os.rmdir": 1, "os.mkdir": 2, "os.chown": 3, "os.chmod": 2},
}
# The names of temporary files differ.
RANDOM = re.compile(r"new-\w+")
# With this step a run begins to write.
FIRST = "run cp -aT -- /etc/orthanc /etc/orthanc.new"


class Applying:
    """The process on a host with Salt and the formula; it ends with the ``with`` block."""

    def __init__(self, host) -> None:
        self.host = host

    def __enter__(self) -> Applying:
        self.log = tempfile.NamedTemporaryFile("w")
        self.process = subprocess.Popen(
            [*self.host.inside(), "/opt/salt/bin/python3", f"{minion.FORMULA}/test/applying.py"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
        )
        return self

    def __exit__(self, *_) -> None:
        self.process.communicate()
        assert self.process.returncode == 0, self._logged()
        self.log.close()

    def apply(self, sls: str = "orthanc", test: bool = False, **settings) -> minion.Run:
        """Set the pillar and apply an SLS, whether that works or not."""
        before = self._logged()
        returned = self._ask(sls=sls, test=test, pillar={"orthanc": settings})
        logged = self._logged()[len(before) :]
        return minion.Run(testbed.Result(0, json.dumps({"local": returned}), logged))

    def kill(self, at: str = "", victim: str = "", **settings) -> list[str]:
        """Set the pillar, and kill a run at a step.

        at
            The step before which it is killed; without one it finishes.
        victim
            Kills it while the program runs that the step starts: the ``process`` alone, its
            ``group`` as by a terminal, or its whole ``family``.

        Returns the steps, the last of which it did not do, or did not see the end of.
        """
        return self._ask(pillar={"orthanc": settings}, at=at, victim=victim)

    def _logged(self) -> str:
        return pathlib.Path(self.log.name).read_text()

    def _ask(self, **words):
        print(json.dumps(words), file=self.process.stdin, flush=True)
        ended, *_ = select.select([self.process.stdout], [], [], LIMIT)
        assert ended, f"{words} did not end within {LIMIT} s\n{self._logged()}"
        return json.loads(self.process.stdout.readline())


class Steps:
    """Tells of the steps of this process, and kills it at one."""

    def __init__(self, told: int, at: str, victim: str) -> None:
        self.told, self.at, self.victim = told, at, victim
        self.begun = self.inside = False

    def __call__(self, event: str, arguments: tuple) -> None:
        # What is done here is no step.
        if self.inside:
            return
        self.inside = True
        name = step(event, arguments)
        self.begun = self.begun or name == FIRST
        if name and self.begun:
            self.come_to(name)
        self.inside = False

    def come_to(self, name: str) -> None:
        os.write(self.told, f"{name}\n".encode())
        if name == self.at and self.victim:
            kill_with_child(os.getpid(), self.victim)
        elif name == self.at:
            os.kill(os.getpid(), signal.SIGKILL)


def step(event: str, arguments: tuple) -> str:
    """Return the name of a step, nothing where an event is none."""
    if event == "subprocess.Popen":
        return f"run {' '.join(map(os.fsdecode, arguments[1]))}"
    if event == "ctypes.dlsym" and arguments[1] == "renameat2":
        return "exchange"
    if event not in ON_FILES:
        return ""
    if event == "open" and not writes(*arguments):
        return ""
    place = ON_FILES[event]
    path = whole(arguments[0], arguments[place] if place else -1)
    return f"{event} {RANDOM.sub('new-', path)}" if path.startswith(PLACES) else ""


def writes(path, _, flags: int) -> bool:
    """Return whether a file is opened to be written, which was not before."""
    return not isinstance(path, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) != 0


def whole(path, folder: int) -> str:
    """Return the whole path of what an event tells of."""
    if isinstance(path, int):
        return os.readlink(f"/proc/self/fd/{path}")
    base = os.readlink(f"/proc/self/fd/{folder}") if folder >= 0 else os.getcwd()
    return os.path.join(base, os.fsdecode(path))


def children(pid: int) -> list[int]:
    with contextlib.suppress(OSError):
        return [
            int(n) for n in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        ]
    return []


def descendants(pid: int) -> list[int]:
    found = children(pid)
    return found + [pid for child in found for pid in descendants(child)]


def kill_with_child(pid: int, victim: str) -> None:
    """Let another process kill this one as soon as a program that it starts is there."""
    helper = os.fork()
    if helper:
        os.waitpid(helper, 0)
        return
    os.setsid()
    if os.fork():
        os._exit(0)
    while not children(pid) and os.path.exists(f"/proc/{pid}"):
        pass
    if victim == "group":
        os.killpg(pid, signal.SIGKILL)
    for each in [pid, *(descendants(pid) if victim == "family" else ())]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(each, signal.SIGKILL)
    os._exit(0)


def killed(caller, at: str, victim: str) -> list[str]:
    """Apply the formula in a process of its own that is killed, and return its steps."""
    steps, told = os.pipe()
    pid = os.fork()
    if not pid:
        os.setsid()
        fsync = os.fsync
        os.fsync = lambda descriptor: (sys.audit("fsync", descriptor), fsync(descriptor))
        sys.addaudithook(Steps(told, at, victim))
        caller.cmd("state.apply", "orthanc")
        os._exit(0)
    os.close(told)
    with open(steps) as file:
        names = file.read().splitlines()
    os.waitpid(pid, 0)
    return names


def main() -> None:
    """Apply what comes in, on the host."""
    # Salt adds what is in the pillar by now to all that comes.
    pathlib.Path(PILLAR).write_text("{}")
    caller = salt.client.Caller(mopts=salt.config.minion_config("/etc/salt/minion"))
    for line in sys.stdin:
        words = json.loads(line)
        # JSON is YAML.
        pathlib.Path(PILLAR).write_text(json.dumps(words["pillar"]))
        if "at" in words:
            returned = killed(caller, words["at"], words["victim"])
        else:
            returned = caller.cmd("state.apply", words["sls"], test=words["test"])
        print(json.dumps(returned), flush=True)


if __name__ == "__main__":
    import salt.client
    import salt.config

    main()
else:
    import minion
    import testbed
