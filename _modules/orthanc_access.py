"""
Who gets at what is in a folder that only Orthanc's account and group may enter.

The closed folder is what keeps everybody else out. What is in it loses the rights of others as
well, in case the folder is opened some day, by a package or by hand.
"""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import stat

from salt.exceptions import CommandExecutionError

# Of what is the formula's own in the folder of the configuration.
FILE_MODE, FOLDER_MODE = 0o640, 0o750
# How many paths are named; there may be a million images.
NAMED = 100
# What is in a folder that is as good as empty: each new ext4 has it.
NO_CONTENT = {"lost+found"}
# Where the pillar has the folder of the configuration, which is root's.
CONFIG_PATH = "orthanc:paths:config"


def close(name, user, group, own=None, test=False):
    """
    Part of the formula. Take the rights of others from all that is in a folder; not from the folder
    itself.

    All else of a file or folder stays. Only where Orthanc's account, neither its owner nor in its
    group, got in as one of the others, Orthanc's group takes the place of its group, and gets the
    rights that the others had. Links are not followed, what is mounted read-only is left alone, and
    files may come and go meanwhile.

    name
        The path of the folder. It need not exist.

    user, group
        The names of the service's account and of its group. Nothing is done where these are not
        there.

    own
        For the folder of the configuration: the names in it that are the formula's, a list of
        texts. They are root's, and the group may read them, whatever somebody made of them. Of the
        other files, those that Orthanc is not known to read, and whose group is not root's, are
        closed to Orthanc, too, and keep their group. By default, Orthanc needs all of the folder.

    test
        True changes nothing.

    Returns the changes: a mapping from path to mode, owner and group, old and new. Of many, only
    the first ones are named.

    Raises CommandExecutionError if the system does not allow it somewhere, and all else is closed.
    """
    changes: dict = {}
    failed: list = []
    account, top, more = _account(user, group), os.path.realpath(name), 0
    if account is None or not os.path.isdir(top):
        return changes
    used = [top] if own is None else __salt__["orthanc_folder.used"](top)
    used = [os.path.realpath(path) for path in used]
    for folder, folders, files, descriptor in os.fwalk(top):
        for entry in folders + files:
            path = os.path.join(folder, entry)

            def right(found, path=path):
                if own and os.path.relpath(path, top).split(os.sep)[0] in own:
                    return _owned(found, account)
                return _closed(found, account, any(_share(path, other) for other in used))

            try:
                change = _put_right(entry, descriptor, right, test)
            except FileNotFoundError:
                continue
            except OSError as err:
                failed.append(f"{path} stays as it is: {err.strerror}")
                continue
            if change and len(changes) < NAMED:
                changes[path] = change
            elif change:
                more += 1
    if failed:
        raise CommandExecutionError("\n".join(failed[:NAMED]))
    if more:
        changes["and others"] = {"old": "open", "new": f"{more} closed"}
    return changes


def why_open(folder, place, user, group):
    """
    Part of the formula. Return why a folder cannot be closed to all but Orthanc, an empty text if
    it can; and whether that may stay so where the folder is in use.

    folder
        The path of the folder, which need not exist.

    place
        The path of the pillar that it comes from.

    user, group
        The names of the service's account and of its group.
    """
    parent, uid = os.path.dirname(os.path.abspath(folder)), __salt__["file.user_to_uid"](user)
    while not os.path.isdir(parent):
        parent = os.path.dirname(parent)
    if os.path.islink(folder):
        return (
            f"{folder} is a link, and what it leads to would stay open to others; set {place}"
            f" to {os.path.realpath(folder)}"
        ), True
    if _is_of_others(folder, {0, uid} if place == CONFIG_PATH else {uid}):
        owner = __salt__["file.get_user"](folder)
        # Before the first run there is nobody to give a folder to.
        give = f"chown {user}" if uid != "" else f"install the package of {user} and chown {user}"
        return (
            f"{folder} belongs to {owner}, and would be closed to all but {user}; choose"
            f" another folder, or {give} {folder}"
        ), True
    is_config = not _is_filled(folder) or __salt__["orthanc_folder.json_files"](folder)
    if place == CONFIG_PATH and not is_config:
        return (
            f"{folder} holds other things than a configuration of Orthanc, and would be closed"
            f" to all but {user}; choose another folder"
        ), True
    if uid != "" and not __salt__["orthanc_host.may"](["-x", parent], user, group):
        return (
            f"the account {user} may not enter {parent}; choose another folder, or"
            f" chmod o+x {parent}"
        ), False
    return "", True


def _is_of_others(folder: str, owners: set) -> bool:
    """Return whether a folder with something in it belongs to somebody else."""
    # Root may not look into one of Orthanc's on NFS with root_squash.
    is_other = os.path.isdir(folder) and os.stat(folder).st_uid not in owners
    return is_other and _is_filled(folder)


def _is_filled(folder: str) -> bool:
    return os.path.isdir(folder) and bool(set(os.listdir(folder)) - NO_CONTENT)


def _account(user: str, group: str) -> tuple | None:
    """Return the number of an account, that of its group, and those of all of its groups."""
    try:
        account, gid = pwd.getpwnam(user), grp.getgrnam(group).gr_gid
    except KeyError:
        return None
    return account.pw_uid, gid, {gid, *os.getgrouplist(user, account.pw_gid)}


def _share(path: str, other: str) -> bool:
    """Return whether one of two paths is the other one, or above it."""
    return f"{path}/".startswith(f"{other}/") or f"{other}/".startswith(f"{path}/")


def _owned(found: os.stat_result, account: tuple) -> tuple:
    """Return mode, owner and group of what is the formula's own."""
    return FOLDER_MODE if stat.S_ISDIR(found.st_mode) else FILE_MODE, 0, account[1]


def _closed(found: os.stat_result, account: tuple, is_used: bool) -> tuple:
    """Return mode, owner and group of what is somebody else's, without the rights of others."""
    uid, gid, groups = account
    mode = stat.S_IMODE(found.st_mode)
    others = mode & stat.S_IRWXO
    mode -= others
    is_other = found.st_uid != uid and found.st_gid not in groups
    # Nobody but root is in root's group, who needs no right.
    if others and is_other and (is_used or found.st_gid == 0):
        return mode & ~stat.S_IRWXG | others << 3, found.st_uid, gid
    return mode, found.st_uid, found.st_gid


def _put_right(entry: str, descriptor: int, right, test: bool) -> dict:
    """
    Give a file or folder, an entry of an opened folder, the mode, owner and group that a function
    returns for its status, and return the change.
    """
    kinds = (stat.S_IFREG, stat.S_IFDIR)
    found = os.stat(entry, dir_fd=descriptor, follow_symlinks=False)
    if stat.S_IFMT(found.st_mode) not in kinds or _shown(found) == right(found):
        return {}
    # Its owner is not trusted to put no link, or a pipe, in its place now.
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
    opened = os.open(entry, flags, dir_fd=descriptor)
    try:
        found = os.fstat(opened)
        old, new = _shown(found), right(found)
        if stat.S_IFMT(found.st_mode) not in kinds or old == new:
            return {}
        if os.fstatvfs(opened).f_flag & os.ST_RDONLY:
            return {}
        if not test:
            if old[1:] != new[1:]:
                os.fchown(opened, *new[1:])
            os.fchmod(opened, new[0])
    finally:
        os.close(opened)
    return {"old": _words(*old), "new": _words(*new)}


def _shown(found: os.stat_result) -> tuple:
    return stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid


def _words(mode: int, uid: int, gid: int) -> str:
    names = [str(uid), str(gid)]
    with contextlib.suppress(KeyError):
        names[0] = pwd.getpwuid(uid).pw_name
    with contextlib.suppress(KeyError):
        names[1] = grp.getgrgid(gid).gr_name
    return f"{mode:04o} {names[0]}:{names[1]}"
