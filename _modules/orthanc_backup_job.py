"""
What is needed for a backup, in a folder that is root's alone: ``job.json`` with what the pillar
says, the ``password`` of the repository, and what else :py:mod:`orthanc_restic` keeps there.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import socket
import tempfile
import time

import salt.utils.files
from salt.exceptions import CommandExecutionError

# The folder, and the files in it.
FOLDER = "/etc/orthanc-backup"
JOB, PASSWORD = "job.json", "password"


def folder():
    """
    Part of the formula. Return the path of the folder for what is needed to use the repository.
    """
    return FOLDER


def job(name=FOLDER):
    """
    Part of the formula. Return what the pillar says of the backup, with its ``folder``.

    name
        The path of the folder.

    Raises CommandExecutionError where no backup is set up.
    """
    missing = "there is no backup on this host; set orthanc:backup:repository and apply the formula"
    return {**read(os.path.join(name, JOB), missing), "folder": name}


def is_set_up(name=FOLDER):
    """
    Part of the formula. Return whether there are to be backups.

    name
        The path of the folder.
    """
    return os.path.exists(os.path.join(name, JOB))


def read(path, missing):
    """
    Part of the formula. Return what the pillar says of something that systemd starts, a mapping.

    path
        The path of its file.

    missing
        What is said where there is none.

    Raises CommandExecutionError where there is none, or it is not as the formula has written it.
    """
    text, found = __salt__["orthanc_files.read_if_there"](path), None
    if text is None:
        raise CommandExecutionError(missing)
    with contextlib.suppress(ValueError):
        found = json.loads(text)
    if not isinstance(found, dict) or not {"config", "user", "group"} <= found.keys():
        raise CommandExecutionError(
            f"{path} is not as the formula has written it; apply the formula, which writes it anew"
        )
    return found


def account(job):
    """
    Part of the formula. Return the names of Orthanc's ``user`` and ``group``, a mapping.

    job
        What ``job`` returned.
    """
    return {name: job[name] for name in ("user", "group")}


@contextlib.contextmanager
def alone(path, what, flags=os.O_RDONLY):
    """
    Part of the formula. Let nobody else do the same as long as the block lasts.

    path
        What is locked meanwhile.

    what
        What is done, for who comes second.

    flags
        How it is opened; see ``os.open``.

    Raises CommandExecutionError if somebody does it already.
    """
    descriptor = os.open(path, flags, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise CommandExecutionError(f"{what} runs already") from None
    finally:
        os.close(descriptor)


def lacks(name, wanted):
    """
    Part of the formula. Return what ``put`` would write, as a mapping from path to text; None as
    the text of a password that is made.

    name
        The path of the folder.

    wanted
        A mapping, what ``job`` returns; with the ``password`` if the pillar gives one.

    Raises CommandExecutionError where another password would lock out the backups that there are.
    """
    # By which the backups of several hosts in one repository are told apart.
    found, wanted = {}, {**wanted, "host": __grains__.get("host") or socket.gethostname()}
    path, password = os.path.join(name, PASSWORD), wanted.pop("password", None)
    _refuse_what_is_no_secret({**wanted["environment"], "password": password})
    there = __salt__["orthanc_files.read_if_there"](path)
    if password is not None and there != f"{password}\n":
        _refuse_what_does_not_open(name, wanted, password)
        found[path] = f"{password}\n"
    elif password is None and not there:
        _refuse_to_lock_out(name, wanted["repository"])
        found[path] = None
    text = json.dumps(wanted, indent=2, sort_keys=True) + "\n"
    if __salt__["orthanc_files.read_if_there"](os.path.join(name, JOB)) != text:
        found[os.path.join(name, JOB)] = text
    return found


def _refuse_what_is_no_secret(secrets_given: dict) -> None:
    for name, secret in secrets_given.items():
        options, shown = {"Password": secret or ""}, {"Password": ""}
        found = __salt__["orthanc_passwords.check"](options, shown, remote=name == "password")
        for _, sentence in [*found["failed"], *found["known"]] if secret else ():
            place = name if name == "password" else f"environment:{name}"
            raise CommandExecutionError(f"orthanc:backup:{place}: {sentence}")


def _refuse_to_lock_out(name: str, repository: str) -> None:
    known = __salt__["orthanc_restic.known"](name)
    there = repository.startswith("/") and os.path.exists(os.path.join(repository, "config"))
    if repository in known or there:
        raise CommandExecutionError(
            f"{name}/{PASSWORD} is gone, and the backups in the repository cannot be opened without"
            " it. Put your copy of it back there, or into orthanc:backup:password; without one,"
            " give orthanc:backup:repository another place, and begin anew there"
        )


def _refuse_what_does_not_open(name: str, wanted: dict, password: str) -> None:
    """Raise an error where a repository that there is has another password than the given."""
    if wanted["repository"] not in __salt__["orthanc_restic.known"](name):
        return
    with tempfile.NamedTemporaryFile("w") as file:
        file.write(f"{password}\n")
        file.flush()
        trial = {**wanted, "folder": name, "password_file": file.name}
        opens = __salt__["orthanc_restic.opens"](trial)
    if not opens:
        raise CommandExecutionError(
            "orthanc:backup:password: does not open the repository, which was made with the one in"
            f" {name}/{PASSWORD}; take it out of the pillar, or change the password of the"
            " repository first, with `restic key passwd`"
        )


def put(name, files):
    """
    Part of the formula. Write the files, for root alone, and make the password if there is none.

    name
        The path of the folder.

    files
        What ``lacks`` returned.

    Raises OSError if that failed.
    """
    with salt.utils.files.set_umask(0o077):
        os.makedirs(name, exist_ok=True)
    os.chmod(name, 0o700)
    for path, text in files.items():
        before = __salt__["orthanc_files.read_if_there"](path)
        if os.path.basename(path) == PASSWORD and before:
            # An older repository may still need it.
            __salt__["orthanc_files.write"](f"{path}.{int(time.time())}", before, 0o600)
        made = f"{secrets.token_urlsafe(32)}\n" if text is None else text
        __salt__["orthanc_files.write"](path, made, 0o600)
