"""Salt without a master, called with the copy of the formula and a pillar of one file."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from typing import NamedTuple

import places
import told

CONFIGURATION = """\
file_client: local
file_roots: {{base: ['{formula}']}}
pillar_roots: {{base: ['{work}/pillar']}}
module_dirs: ['{formula}']
root_dir: {root}
log_file: {root}/log
log_level_logfile: warning
fileserver_list_cache_time: 0
"""
CHECK = "orthanc_pillar_file.check"
# What Salt says when it begins with a state, and what it begins the lines of its log with.
BEGINS = re.compile(r"\[INFO +\] Executing state (\S+) for \[(.*)\]")
BROKEN = f"If Salt is broken, this brings it anew: bash {places.MASTERLESS}"
# What Salt says of an argument that a function refuses, and the exit code for that.
REFUSED, WRONG = "Passed invalid arguments: ", 2
# How often it is said that something goes on, where that stays on the screen.
SAID = 30


class Failed(Exception):
    """What was asked for could not be done."""


class Answer(NamedTuple):
    """What Salt has returned: None where that is no JSON; its exit code, and its errors."""

    value: object
    code: int
    errors: str


class Salt:
    """
    Salt, for as long as the program runs.

    program
        The path of salt-call.

    work
        The path of a folder that nobody else may read.

    root
        The path of the folder for what Salt keeps.
    """

    def __init__(self, program: str, work: str, root) -> None:
        if not os.path.exists(program):
            raise Failed(f"The Salt of the last run, {program}, is gone.\n{BROKEN}")
        self.program, self.work = program, work
        os.mkdir(f"{work}/pillar")
        words = {"formula": places.FORMULA, "root": root, "work": work}
        pathlib.Path(work, "minion").write_text(CONFIGURATION.format(**words), encoding="utf-8")

    def take(self, pillar: str) -> list:
        """Let a file be the pillar, and return what may be meant otherwise in it."""
        checked = self.ask(CHECK, pillar)
        found = checked.value if isinstance(checked.value, list) else []
        if checked.code and not found:
            # Where there is no such sentence, it is not the file.
            _, error, said = checked.errors.rpartition(f"Error running '{CHECK}': ")
            raise Failed(said if error else f"{checked.errors}\n{BROKEN}".strip())
        if checked.code:
            raise Failed("\n".join(found))
        shutil.copy(pillar, f"{self.work}/pillar/orthanc.sls")
        pathlib.Path(self.work, "pillar/top.sls").write_text("base: {'*': [orthanc]}\n")
        return found

    def ask(self, *words: str) -> Answer:
        """Call a function, and say that it goes on where it takes long."""
        states = words[0].startswith("state.")
        level = "info" if states else "quiet"
        done = _watched(self._words("--out=json", f"--log-level={level}", *words), words[0])
        try:
            value = json.loads(done[1])["local"]
        except (ValueError, KeyError, TypeError):
            value = None
        # Behind the log there is what says why it ended.
        log = re.split(r"(?m)^(?=\[(?:ERROR|CRITICAL) )", done[2])
        errors = log[-1] if states and "Traceback" not in done[2] else done[2]
        # An argument that the function refuses is a wrong word of the program.
        code = WRONG if value is None and REFUSED in done[2] else done[0]
        return Answer(value, code, told.reason(errors.strip()))

    def show(self, *words: str) -> int:
        """Call a function, let Salt print what it has to say, and return the exit code."""
        words = self._words(*words)
        return subprocess.run(words, env=_environment(), close_fds=False, check=False).returncode

    def _words(self, *words: str) -> list:
        options = ("--local", f"--config-dir={self.work}", "--retcode-passthrough")
        return [self.program, *options, *words]


def _environment() -> dict:
    return {**os.environ, "PYTHONWARNINGS": "ignore"}


def _watched(words: list, what: str) -> tuple:
    """Run a program, and return its exit code, what it printed, and its errors."""
    child = subprocess.Popen(
        words,
        env=_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        close_fds=False,
        encoding="utf-8",
        errors="replace",
    )
    steps, printed, errors = [what], [], []

    def read_errors() -> None:
        for line in child.stderr:
            begun = BEGINS.match(line)
            if begun:
                steps.append(f"{begun[1]} {begun[2]}")
            errors.append(line)

    readers = [
        threading.Thread(target=lambda: printed.append(child.stdout.read()), daemon=True),
        threading.Thread(target=read_errors, daemon=True),
    ]
    for reader in readers:
        reader.start()
    try:
        _wait(child, steps)
    except BaseException:
        child.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(10)
        raise
    # What Salt has started may go on to hold them open.
    for reader in readers:
        reader.join(5)
    return child.returncode, "".join(printed), "".join(errors)


def _wait(child, steps: list) -> None:
    """Wait until a process has ended, and say what it is about."""
    begun, said, screen = time.monotonic(), 0, sys.stderr.isatty()
    while True:
        try:
            child.wait(1)
            break
        except subprocess.TimeoutExpired:
            seconds = int(time.monotonic() - begun)
            line = f"  {seconds} s: {steps[-1]}"[:79]
            if screen and seconds > 2:
                print(f"\r\033[K{line}", end="", file=sys.stderr, flush=True)
            elif seconds - said >= SAID:
                said = seconds
                print(line, file=sys.stderr, flush=True)
    if screen:
        print("\r\033[K", end="", file=sys.stderr, flush=True)


@contextlib.contextmanager
def workplace():
    """Lend a folder for one call, and remove those that killed ones have left."""
    places.RUN.mkdir(mode=0o700, exist_ok=True)
    for left in places.RUN.glob("[0-9]*"):
        with contextlib.suppress(OSError), _locked(left, os.O_RDONLY):
            if not os.path.exists(f"/proc/{left.name.partition('-')[0]}"):
                shutil.rmtree(left, ignore_errors=True)
    work = tempfile.mkdtemp(prefix=f"{os.getpid()}-", dir=places.RUN)
    try:
        with _locked(work, os.O_RDONLY):
            yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)


@contextlib.contextmanager
def _locked(path, flags: int):
    """
    Lock a file or folder, and lend its descriptor; raise BlockingIOError where somebody has it.

    Salt inherits it, and goes on to its end where this process is killed: nothing is left half done
    then, and it has the folder and the machine to itself until then.
    """
    descriptor = os.open(path, flags, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.set_inheritable(descriptor, True)
        yield descriptor
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def alone():
    """Let one run after the other change this machine; raise Failed where there is one."""
    path = places.RUN / "lock"
    with contextlib.ExitStack() as stack:
        try:
            lock = stack.enter_context(_locked(path, os.O_RDWR | os.O_CREAT))
        except BlockingIOError:
            holder = path.read_text(encoding="utf-8").strip()
            raise Failed(
                f"Another run goes on: process {holder}, or its Salt where that was killed. Wait"
                " until it has ended."
            ) from None
        os.truncate(lock, 0)
        os.write(lock, f"{os.getpid()}\n".encode())
        yield
