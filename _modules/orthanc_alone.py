"""
The formula's modules without Salt: what systemd starts by itself runs on hosts that have none, as
those of salt-ssh.

This file is a program. It lies beside copies of the other modules, and calls a function of one of
them as Salt would::

    python3 -I orthanc_alone.py orthanc_backup.run /etc/orthanc-backup

Each module finds the others in ``__salt__``. In the place of what it imports of Salt, and of the
few functions of Salt's that it calls, there is what Python has for that.
"""

from __future__ import annotations

import grp
import importlib
import logging
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import types

# Nothing for Salt to offer.
__load__: list = []


class Functions(dict):
    """Functions by the names that Salt gives them; a module is loaded when it is first called."""

    def __init__(self) -> None:
        super().__init__()
        self.context: dict = {}

    def __missing__(self, name: str):
        module = importlib.import_module(name.partition(".")[0])
        module.__salt__ = self
        module.__context__, module.__grains__, module.__pillar__ = self.context, {}, {}
        module.__opts__ = {"test": False}
        aliases = getattr(module, "__func_alias__", {})
        for each in dir(module):
            if not each.startswith("_"):
                self[f"{module.__name__}.{aliases.get(each, each)}"] = getattr(module, each)
        return self[name]

    def __contains__(self, name) -> bool:
        return super().__contains__(name) or str(name).startswith("orthanc")


class CommandExecutionError(Exception):
    """In the place of Salt's."""


class SaltInvocationError(TypeError):
    """In the place of Salt's."""


def run_all(words, **given):
    """
    Run a program as ``cmd.run_all`` does, as far as the modules use it, and return what that
    returns.

    words
        Its path and arguments, a list of texts.

    given
        Of the arguments of ``cmd.run_all``: ``cwd``, ``env``, ``clean_env``, ``stdin`` and
        ``timeout``.
    """
    environment = None
    if given.get("env"):
        environment = {**({} if given.get("clean_env") else os.environ), **given["env"]}
    try:
        done = subprocess.run(
            words,
            input=given.get("stdin") or "",
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            cwd=given.get("cwd") or "/",
            env=environment,
            timeout=given.get("timeout"),
            check=False,
        )
    except subprocess.TimeoutExpired:
        return {"retcode": 1, "stdout": "", "stderr": "", "pid": 0}
    texts = {"stdout": done.stdout.rstrip(), "stderr": done.stderr.rstrip()}
    return {"retcode": done.returncode, "pid": 0, **texts}


def number_of(look_up, name):
    """Return the number of an account or a group, an empty text where there is none."""
    try:
        return look_up(name)[2]
    except KeyError:
        return ""


def fopen(path, *words, **given):
    """Open a file as Salt does: text is UTF-8."""
    if "b" not in (words[0] if words else given.get("mode", "r")):
        given.setdefault("encoding", "utf-8")
    return open(path, *words, **given)


def mkstemp(**given):
    """Return the path of a new file."""
    handle, path = tempfile.mkstemp(**given)
    os.close(handle)
    return path


def stand_in() -> Functions:
    """Put into the place of Salt what the modules import of it, and return all functions."""
    parts = {
        "salt": {},
        "salt.exceptions": {
            "CommandExecutionError": CommandExecutionError,
            "SaltInvocationError": SaltInvocationError,
        },
        "salt.utils": {},
        "salt.utils.files": {"fopen": fopen, "mkstemp": mkstemp},
        "salt.utils.path": {"which": shutil.which},
        "salt.utils.systemd": {"booted": lambda _: os.path.isdir("/run/systemd/system")},
    }
    for name, values in parts.items():
        module = types.ModuleType(name)
        vars(module).update(values)
        sys.modules[name] = module
        above, _, own = name.rpartition(".")
        if above:
            setattr(sys.modules[above], own, module)
    functions = Functions()
    functions["cmd.run_all"] = run_all
    functions["cmd.run_stdout"] = lambda words, **given: run_all(words, **given)["stdout"]
    functions["file.user_to_uid"] = lambda name: number_of(pwd.getpwnam, name)
    functions["file.group_to_gid"] = lambda name: number_of(grp.getgrnam, name)
    return functions


def end(*_) -> None:
    """Let what was begun be tidied up where systemd ends this process."""
    raise SystemExit("it was ended before it was done")


def main(name: str, *words: str) -> int:
    """Call a function, and return the exit code."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    signal.signal(signal.SIGTERM, end)
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    functions = stand_in()
    try:
        found = functions[name](*words)
    except (CommandExecutionError, SaltInvocationError, OSError) as err:
        print(err, file=sys.stderr)
        return 1
    if isinstance(found, str):
        print(found)
    return functions.context.get("retcode", 0)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
