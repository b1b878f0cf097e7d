"""
The SSH key with which Orthanc's account logs in to the backup host: made once, never replaced.

What the administrator needs of it is returned by ``orthanc.backup_key``.
"""

from __future__ import annotations

import os
import shlex
import stat

import salt.utils.files
from salt.exceptions import CommandExecutionError

# Makes what is lacking of a key pair, as its owner. Arguments: path, comment.
MAKE_KEY = """
set -e
umask 077
rm -rf "$1".new-*
chmod 700 "$(dirname "$1")"
if [ ! -e "$1" ]; then
    new=$(mktemp -d "$1.new-XXXXXX")
    ssh-keygen -q -t ed25519 -N '' -C "$2" -f "$new/key"
    sync "$new/key"
    mv -n "$new/key" "$1"
fi
chmod 600 "$1"
if [ ! -e "$1.pub" ]; then
    new=$(mktemp -d "$1.new-XXXXXX")
    ssh-keygen -y -P '' -f "$1" > "$new/key.pub"
    chmod 644 "$new/key.pub"
    mv -n "$new/key.pub" "$1.pub"
fi
rm -rf "$1".new-*
"""


def lacks(name, user):
    """
    Part of the formula. Say what ``make`` would do, as a mapping from path to what would be made or
    changed there, and do nothing.

    name
        The path of the private key.

    user
        The account that it belongs to.

    Raises CommandExecutionError where something is in the way that is not to be touched.
    """
    folder, public = os.path.dirname(name), f"{name}.pub"
    if os.path.lexists(public) and not os.path.lexists(name):
        raise CommandExecutionError(
            f"{public} is there, and its private key {name} is not; put that back, or remove"
            f" {public} to get a new pair"
        )
    if os.path.exists(name) and not os.path.isfile(name):
        raise CommandExecutionError(f"{name} is no file; choose another orthanc:backup_key:path")
    uid = __salt__["file.user_to_uid"](user)
    for path in (folder, name):
        if os.path.exists(path) and os.stat(path).st_uid != uid and not _is_empty(path):
            raise CommandExecutionError(
                f"{path} does not belong to {user}; give orthanc:backup_key:dir a folder of its"
                f" own, or chown {path}"
            )
    found = {}
    if not _has(folder, 0o700, uid):
        found[folder] = f"a folder for {user} alone"
    if not os.path.exists(name):
        found[name] = "an ed25519 key pair"
    elif not os.path.exists(public):
        found[public] = f"the public key of {name}"
    if os.path.exists(name) and not _has(name, 0o600, uid):
        found[name] = f"for {user} alone"
    return found


def _has(path: str, mode: int, uid: int) -> bool:
    if not os.path.exists(path):
        return False
    status = os.stat(path)
    return (stat.S_IMODE(status.st_mode), status.st_uid) == (mode, uid)


def make(name, user, group):
    """
    Part of the formula. Make an ed25519 key pair without a passphrase, or what is lacking of it. A
    private key that is there is never replaced.

    All is done with the rights of its owner, and without its shell, which may be nologin. A run
    that is killed leaves no half of a file, and the next one goes on.

    name
        The path of the private key; the public one is beside it, with ``.pub`` at the end.

    user, group
        The account that it belongs to.

    Raises CommandExecutionError where something is in the way that is not to be touched, or if a
    command failed.
    """
    lacks(name, user)
    uid, gid = __salt__["file.user_to_uid"](user), __salt__["file.group_to_gid"](group)
    if "" in (uid, gid):
        raise CommandExecutionError(
            f"the account {user} or the group {group} does not exist; the package of Orthanc"
            " creates them"
        )
    folder = os.path.dirname(name)
    try:
        with salt.utils.files.set_umask(0o022):
            os.makedirs(folder, exist_ok=True)
        if os.stat(folder).st_uid != uid:
            # What the account may have put there instead is not followed.
            os.chown(folder, uid, gid, follow_symlinks=False)
    except OSError as err:
        raise CommandExecutionError(f"{folder} cannot be made: {err}") from err
    comment = f"{user}@{__grains__.get('fqdn') or __grains__.get('host')}"
    result = __salt__["cmd.run_all"](
        [
            *("setpriv", "--reuid", user, "--regid", group, "--init-groups", "--"),
            *("sh", "-c", MAKE_KEY, "sh", name, comment),
        ],
        python_shell=False,
        ignore_retcode=True,
        cwd="/",
    )
    if result["retcode"]:
        raise CommandExecutionError(f"{name} cannot be made: {result['stderr']}")


def _is_empty(path: str) -> bool:
    """Return whether a path is a folder in which nothing is: it may be meant for the key."""
    return os.path.isdir(path) and not os.listdir(path)


def shown(path, remote_user, user, environments):
    """
    Part of the formula. Return the public key and how to use it, as ``orthanc.backup_key`` does.

    path, remote_user
        The path of the private key, and the account on the backup host; None for those of the
        pillar.

    user
        The account that the key belongs to.

    environments
        A mapping that may hold the ``saltenv`` and the ``pillarenv``.

    Raises CommandExecutionError if there is no such key, or if the formula cannot be rendered here.
    """
    given = {} if path and remote_user else _of_pillar(environments)
    path, remote_user = path or given["name"], remote_user or given["remote_user"]
    if not os.path.isfile(f"{path}.pub"):
        raise CommandExecutionError(f"there is no {path}.pub; apply orthanc.backup_key first")
    with salt.utils.files.fopen(f"{path}.pub") as file:
        public = file.read().strip()
    login = f"ssh -i {shlex.quote(path)} {remote_user}@BACKUP-HOST true"
    return {
        "public_key": public,
        "on_the_backup_host": (
            f"As {remote_user}, add this line to ~/.ssh/authorized_keys:\nrestrict {public}"
        ),
        "on_this_host": f"Then try it:\nrunuser -u {user} -- {login}",
    }


def _of_pillar(environments: dict) -> dict:
    """Return what the formula, with the pillar as it is now, passes to the state of the key."""
    given = {name: value for name, value in environments.items() if value}
    low = __salt__["state.show_low_sls"]("orthanc.backup_key", **given)
    for chunk in low:
        if isinstance(chunk, dict) and chunk["state"] == "orthanc_backup_key":
            if chunk["fun"] == "present":
                return chunk
            raise CommandExecutionError(
                "orthanc:backup_key:enabled is not true; or give path and remote_user"
            )
    # Why the formula cannot be rendered.
    raise CommandExecutionError("\n".join(map(str, low)))
