"""
Files that are written whole or not at all, and a folder of them as one transaction.

``apply`` puts a set of files of a folder in place in one step. With them, the file ``.unproven``
says that nobody has seen the service serving with them; ``prove`` takes it away. What was there
when that was last so is kept beside the folder, for ``restore``, and what was there before the
formula in the folder ``before-formula``, for ``remove``.

A file may have a whole path for a name, for one elsewhere that belongs to the set.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import glob
import json
import os
import re
import shutil
import tempfile

import salt.utils.files
from salt.exceptions import CommandExecutionError

# Only root and the service may read a file; the folder itself is not this module's business.
FILE_MODE = 0o640
# systemd warns of a drop-in that not everybody can read.
UNIT_MODE, UNIT = 0o644, ".conf"
# Lies in the folder from before the first write until the service was seen serving with the files.
UNPROVEN = ".unproven"
# What the names begin with of files that are no JSON and of the formula's making. (The SLS files
# have it from orthanc/defaults.yaml.)
OWN = "orthanc-formula"
# The same for copies of the administrator's scripts; see ``orthanc_scripts``.
SCRIPTS = "formula-script-"
# The folder for what was there before the formula: the packages' own files, or an administrator's.
ORIGINALS = "before-formula"
# Stands beside the folder: the last files with which the service was seen serving, for root only.
LAST_GOOD = ".last-good"
# Stands beside a folder, or in the name of a file, that is not whole yet. (The name of a file must
# not end in .json: Orthanc reads hidden files as well.)
NEW = ".new"
# How renameat2(2) swaps two folders in one step.
AT_FDCWD, RENAME_EXCHANGE = -100, 2


class Unreadable(CommandExecutionError, OSError):
    """A file that cannot be read: some go on without it, and for all others that is their error."""


@contextlib.contextmanager
def failing(what):
    """
    Part of the formula. Let what the operating system refuses raise CommandExecutionError.

    what
        What is being done, a text.
    """
    try:
        yield
    except OSError as err:
        remedy = "; call it as root, with sudo" if os.geteuid() else ""
        raise CommandExecutionError(f"{what} failed: {err}{remedy}") from err


@contextlib.contextmanager
def locked(name):
    """
    Part of the formula. Let one run after the other write: a minion's and one over salt-ssh know
    nothing of each other.

    name
        The path of what is written. Its parent is locked, because a folder itself is swapped.
    """
    parent = os.path.dirname(os.path.realpath(name))
    with failing(f"opening {parent}"):
        descriptor = os.open(parent, os.O_RDONLY)
    try:
        with failing(f"locking {parent}"):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def read(path):
    """
    Part of the formula. Return the text of a file, whatever its encoding, to the byte.

    path
        The path of the file.

    Raises OSError, which is a CommandExecutionError too, where there is none, or no file.
    """
    if not os.path.isfile(path):
        raise Unreadable(f"{path} is no file")  # a pipe would be waited for
    try:
        with salt.utils.files.fopen(path, "rb") as file:
            return file.read().decode("utf-8", "surrogateescape")
    except OSError as err:
        raise Unreadable(f"{path} cannot be read: {err}") from None


def read_if_there(path):
    """
    Part of the formula. Return what ``read`` does, and None where there is nothing.

    path
        The path of the file.
    """
    return read(path) if os.path.exists(path) else None


def write(path, text, mode=FILE_MODE, gid=0):
    """
    Part of the formula. Put a whole new file of root's in the place of the old, or remove it.

    path
        The path of the file.

    text
        Its text, or bytes; None to remove it.

    mode
        Its mode, a number.

    gid
        The number of its group.

    Raises OSError if that failed.
    """
    if text is None:
        if os.path.lexists(path):
            os.unlink(path)
        return
    folder, entry = os.path.split(path)
    content = text if isinstance(text, bytes) else text.encode("utf-8", "surrogateescape")
    handle, temporary = tempfile.mkstemp(dir=folder, prefix=f".{entry}{NEW}-")
    try:
        with os.fdopen(handle, "wb") as file:
            os.fchown(file.fileno(), 0, gid)
            os.fchmod(file.fileno(), mode)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def is_unfinished(path):
    """
    Part of the formula. Return whether a file is what a run that was killed left behind.

    path
        The path of the file.
    """
    return re.match(rf"\..+{re.escape(NEW)}-", os.path.basename(path)) is not None


def changes(words):
    """
    Part of the formula. Return what a state reports of what becomes of paths.

    words
        A mapping from path to a word, such as "written" or "removed".
    """
    return {
        path: {"old": "there" if os.path.lexists(path) else None, "new": word}
        for path, word in words.items()
    }


def sweep(path):
    """
    Part of the formula. Remove what a run that was killed left behind of a file that it wrote.

    path
        The path of the file; the name may be a pattern.
    """
    folder, entry = os.path.split(path)
    for left in glob.glob(f"{glob.escape(folder)}/.{entry}{NEW}-*"):
        os.unlink(left)


def at(name, entries):
    """
    Part of the formula. Return a mapping with the whole paths in the place of the names of files.

    name
        The path of their folder.

    entries
        A mapping from the names.
    """
    return {os.path.join(name, entry): value for entry, value in entries.items()}


def apply(name, files, managed, gid):
    """
    Part of the formula. Put a set of files in place, all of them in one step: a whole new folder
    takes the place of the old one. Whatever interrupts this leaves the old set or the new one.

    Where that cannot be (a mount point, an old file system), one file after the other takes the
    place of its predecessor, each of them whole, and the next run writes what is missing.

    name
        The path of the folder.

    files
        A mapping from name to text, None to remove the file.

    managed
        The names of all files of the set, also of those that stay.

    gid
        The number of the group that may read them.

    Raises CommandExecutionError if that failed.
    """
    with failing("writing the configuration"):
        _keep_originals(name, files, gid)
        _keep_last_good(name, managed)
        _put(name, files, gid)


def clean(name):
    """
    Part of the formula. Remove what a run that was killed left behind of a folder.

    name
        The path of the folder.
    """
    shutil.rmtree(os.path.realpath(name) + NEW, ignore_errors=True)
    folder, entry = os.path.split(name)
    for path in (f"{name}/*", f"{name}/{ORIGINALS}/*", f"{folder}/{glob.escape(entry)}.*"):
        sweep(path)


def last_good(name):
    """
    Part of the formula. Return the last files with which the service was seen serving, as a mapping
    from name to text, None for one that was not there.

    name
        The path of the folder.
    """
    path = name + LAST_GOOD
    return __salt__["orthanc_json.noted"](read_if_there(path), path)


def prove(name):
    """
    Part of the formula. Note that the service serves with the files as they are.

    name
        The path of the folder.

    Raises OSError if writing failed.
    """
    marker = os.path.join(name, UNPROVEN)
    if os.path.exists(marker):
        _keep_last_good(name, read(marker).split("\n"), anew=True)
        os.unlink(marker)


def unproven(name):
    """
    Part of the formula. Return whether files were written and the service not yet seen serving with
    them.

    name
        The path of the folder.
    """
    return os.path.exists(os.path.join(name, UNPROVEN))


def written(name):
    """
    Part of the formula. Return whether the formula has written files of the folder, and ``remove``
    was not there since.

    name
        The path of the folder.
    """
    return os.path.exists(name + LAST_GOOD)


def restore(name, gid):
    """
    Part of the formula. Put the files back with which the service was last seen serving.

    name
        The path of the folder.

    gid
        The number of the group that may read them.

    Returns the names of the files that were put back; none where all of them are as they were.

    Raises CommandExecutionError if writing failed.
    """
    with failing(f"putting {name} back"), locked(name):
        files = {
            entry: text
            for entry, text in last_good(name).items()
            if text != read_if_there(os.path.join(name, entry))
        }
        if files:
            _put(name, files, gid)
    return sorted(files)


def remove(name, entries, notes=()):
    """
    Part of the formula. Remove files, and put back those that were there before the formula.

    Debian's packages need theirs: their postinst fails where one is missing, and dpkg does not
    bring a removed one back.

    name
        The path of the folder; it goes too if nothing is left in it.

    entries
        The names of the files.

    notes
        The paths of what others have noted of the folder, which goes too.

    Returns a mapping from the path of each file to that of what was put in its place, None where
    it was removed.

    Raises CommandExecutionError if that failed.
    """
    if not os.path.isdir(os.path.dirname(os.path.realpath(name))):
        return {}
    with failing(f"removing the configuration in {name}"), locked(name):
        clean(name)
        done = removal(name, entries, notes)
        for path, original in done.items():
            if original:
                os.replace(original, path)
            else:
                os.unlink(path)
        for folder in (os.path.join(name, ORIGINALS), name):
            if os.path.isdir(folder) and not os.listdir(folder):
                os.rmdir(folder)
    return done


def removal(name, entries, notes=()):
    """
    Part of the formula. Return what ``remove`` would, and do nothing.

    name, entries, notes
        See ``remove``.
    """
    done, originals = {}, os.path.join(name, ORIGINALS)
    replaced = os.listdir(originals) if os.path.isdir(originals) else ()
    # The form of a file alone does not say whose it is.
    for entry in dict.fromkeys([*entries, *replaced, UNPROVEN]) if written(name) else ():
        path, original = os.path.join(name, entry), os.path.join(originals, entry)
        # Of a file elsewhere, which has its whole path for a name, no copy is kept.
        if not os.path.isabs(entry) and os.path.exists(original):
            done[path] = original
        elif os.path.lexists(path) and (entry == UNPROVEN or is_ours(name, entry)):
            done[path] = None
    # Last, because it knows what elsewhere is of the formula.
    return {**done, **dict.fromkeys(filter(os.path.exists, [name + LAST_GOOD, *notes]))}


def is_ours(name, entry):
    """
    Part of the formula. Return whether a file is of the formula's making: JSON by its form, others
    by their name, and those elsewhere because they were written before.

    name
        The path of the folder.

    entry
        The name of the file.
    """
    if os.path.isabs(entry):
        return entry in last_good(name)
    if not entry.lower().endswith(".json"):
        return is_own_name(entry) or entry.startswith(SCRIPTS)
    content = read(os.path.join(name, entry))
    try:
        return __salt__["orthanc_json.dump"](__salt__["orthanc_json.parse"](content)) == content
    except ValueError:
        return False


def own(pattern):
    """
    Part of the formula. Return a path of the formula's own.

    pattern
        The path, with ``{}`` for what the names of the formula's files begin with.
    """
    return pattern.format(OWN)


def is_own_name(path):
    """
    Part of the formula. Return whether the name of a file, which is no JSON, is one that the
    formula gives.

    path
        The path of the file.
    """
    return os.path.basename(path).startswith(OWN)


def _keep_originals(name: str, files: dict, gid: int) -> None:
    """Copy what is about to be replaced and is not of the formula's making."""
    folder, ours = os.path.join(name, ORIGINALS), written(name)
    for entry in files:
        path, copy_path = os.path.join(name, entry), os.path.join(folder, entry)
        if os.path.exists(copy_path) or not os.path.exists(path):
            continue
        # The form alone does not tell: other programs write JSON like that.
        if ours and is_ours(name, entry):
            continue
        os.makedirs(folder, mode=0o750, exist_ok=True)
        os.chown(folder, 0, gid)
        write(copy_path, read(path), gid=gid)


def _keep_last_good(name: str, entries: list, anew: bool = False) -> None:
    """
    Note the texts of files as they are.

    anew
        False leaves those alone of which a text is known: they were seen serving.
    """
    known = {} if anew else last_good(name)
    files = {}
    for entry in filter(None, entries):
        path = os.path.join(name, entry)
        files[entry] = read_if_there(path)
        # A file that was not there then, and is of a package that was installed since, stays.
        as_known = known.get(entry) is not None or not files[entry] or is_ours(name, entry)
        if entry in known and as_known:
            files[entry] = known[entry]
    if files != known or anew:
        write(name + LAST_GOOD, json.dumps(files, indent=2) + "\n", 0o600)


def _put(name: str, files: dict, gid: int) -> None:
    """Put files in place and note that they are not proven; see ``apply``."""
    marked = sorted({*last_good(name), *files})
    files = {UNPROVEN: "\n".join(marked) + "\n", **files}
    inside = {entry: text for entry, text in files.items() if not os.path.isabs(entry)}
    if not _put_at_once(os.path.realpath(name), inside, gid):
        for path, text in at(name, inside).items():
            write(path, text, _mode(path), gid)
    # These come last: the note that they are not proven is there by then.
    for path in files.keys() - inside.keys():
        os.makedirs(os.path.dirname(path), exist_ok=True)
        write(path, files[path], _mode(path), gid)


def _mode(path: str) -> int:
    return UNIT_MODE if path.endswith(UNIT) else FILE_MODE


def _put_at_once(name: str, files: dict, gid: int) -> bool:
    """Swap the folder for a new one, and return whether that was possible."""
    mounted = [place["point"] for place in __salt__["orthanc_host.mounts"]()]
    if any(f"{point}/".startswith(f"{name}/") for point in mounted):
        return False  # the old folder is removed in the end, and they would be emptied with it
    folder = name + NEW
    shutil.rmtree(folder, ignore_errors=True)
    try:
        result = __salt__["cmd.run_all"](
            ["cp", "-aT", "--", name, folder], python_shell=False, output_loglevel="quiet"
        )
        if result["retcode"]:
            raise CommandExecutionError(result["stderr"])
        for path, text in at(folder, files).items():
            write(path, text, _mode(path), gid)
        return _exchange(folder, name)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _exchange(one: str, other: str) -> bool:
    """
    Swap two folders in one step, and return whether that was possible: renameat2(2), for which
    Python has no function, is not on all file systems.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "renameat2"):
        return False
    paths = (AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other))
    return libc.renameat2(*paths, RENAME_EXCHANGE) == 0
