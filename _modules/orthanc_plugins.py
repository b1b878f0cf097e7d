"""
The plugins that the pillar downloads.

They lie in a folder of their own, each as ``<SHA-256 of its content>/<name>``, and Orthanc loads
those that its option ``Plugins`` names. So a new file never takes the place of an old one: it lies
there, unused, until the configuration that names it has passed its trial start, and the old one
lies there until Orthanc was seen serving with the new one. What a folder's name says of its content
also tells the files of the formula from those that somebody changed.

Of a plugin whose content nobody vouches for, the pillar's path begins with ``insecure-``; that is a
link to the folder of what was downloaded.
"""

from __future__ import annotations

import glob
import os
import re
import shutil
import tempfile

import salt.utils.files
import salt.utils.hashutils
import salt.utils.platform
from salt.exceptions import CommandExecutionError

__virtualname__ = "orthanc_plugins"

CONTENT = re.compile("[0-9a-f]{64}")
# What is not finished yet begins so.
NEW = ".new-"


def __virtual__():
    if not salt.utils.platform.is_linux():
        return False, "orthanc_plugins: Orthanc is managed on Linux only"
    return __virtualname__


def sound(name):
    """
    Return whether a plugin is there, with the right content, and only root may change it.

    name
        The path of its file: ``<folder>/<SHA-256>/<name>``, or ``<folder>/insecure-…/<name>``.

    CLI Example:

    .. code-block:: bash

        salt '*' orthanc_plugins.sound /usr/local/lib/orthanc-plugins/insecure-x/libX.so
    """
    if not _genuine(name):
        return False
    status = os.stat(name)
    return (status.st_uid, status.st_gid, status.st_mode & 0o777) == (0, 0, 0o644)


def fetch(name, source, saltenv="base"):
    """
    Download a plugin, or put right what is wrong with it.

    name
        The path of its file; see ``sound``.

    source
        A URL, ``https://``, ``http://`` or ``salt://``, or an absolute path on this host.

    saltenv
        The environment of ``salt://``.

    Raises CommandExecutionError if it cannot be had, or has another SHA-256 than its path says;
    then nothing has changed.

    CLI Example:

    .. code-block:: bash

        salt '*' orthanc_plugins.fetch /usr/local/lib/orthanc-plugins/insecure-x/libX.so \
            https://plugins.example.org/libX.so
    """
    shown = re.split("[?#]", source)[0] if "://" in source else source
    folder, entry = os.path.split(name)
    top, key = os.path.split(folder)
    wanted = key if CONTENT.fullmatch(key) else None
    try:
        copy = os.path.realpath(name) if _genuine(name) else _cached(source, wanted, saltenv)
        found = salt.utils.hashutils.get_hash(copy, "sha256")
        if wanted not in (None, found):
            raise CommandExecutionError(
                f"{shown} has the sha256 {found}, which is not the one of the pillar; nothing was"
                " changed"
            )
        with salt.utils.files.set_umask(0o022):
            os.makedirs(os.path.join(top, found), exist_ok=True)
            # A folder that is setgid, as Debian's /usr/local/lib may be, hands its group down.
            for made in (top, os.path.join(top, found)):
                os.chown(made, 0, 0)
            _put(copy, os.path.join(top, found, entry))
        if not wanted:
            _link(found, folder)
    except OSError as err:
        raise CommandExecutionError(f"{shown} cannot be had: {err}") from err


def unused(name, keep):
    """
    Return what is in the folder of the plugins besides those to keep, as a mapping from path to
    what to do about it: None to remove it, or a sentence that says why not.

    name
        The path of the folder.

    keep
        The paths of the plugins to keep.

    CLI Example:

    .. code-block:: bash

        salt '*' orthanc_plugins.unused /usr/local/lib/orthanc-plugins '[]'
    """
    found: dict = {}
    kept = {os.path.realpath(path) for path in keep}
    for key in sorted(os.listdir(name)) if os.path.isdir(name) else []:
        folder = os.path.join(name, key)
        if os.path.islink(folder):
            if folder not in [os.path.dirname(path) for path in keep]:
                found[folder] = None
        elif key.startswith(NEW):
            found[folder] = None
        elif CONTENT.fullmatch(key):
            for entry in sorted(os.listdir(folder)):
                path = os.path.join(folder, entry)
                if os.path.realpath(path) in kept:
                    continue
                found[path] = None if _genuine(path) else "was changed by hand; remove it yourself"
    return found


def remove(name, keep):
    """
    Remove what ``unused`` says.

    name, keep
        See ``unused``.

    Raises CommandExecutionError if that failed.

    CLI Example:

    .. code-block:: bash

        salt '*' orthanc_plugins.remove /usr/local/lib/orthanc-plugins '[]'
    """
    try:
        for path, problem in unused(name, keep).items():
            if not problem:
                os.unlink(path)
        for folder in [*glob.glob(os.path.join(glob.escape(name), "*")), name]:
            if os.path.isdir(folder) and not os.path.islink(folder) and not os.listdir(folder):
                os.rmdir(folder)
    except OSError as err:
        raise CommandExecutionError(f"a plugin cannot be removed: {err}") from err


def _genuine(name: str) -> bool:
    """Return whether a file has the content that the name of its folder says."""
    path = os.path.realpath(name)
    if not os.path.isfile(path):
        return False
    return salt.utils.hashutils.get_hash(path, "sha256") == os.path.basename(os.path.dirname(path))


def _cached(source: str, sha256: str | None, saltenv: str) -> str:
    """Return the path of a copy of the source on this host."""
    if source.startswith("/"):
        return source
    try:
        copy = __salt__["cp.cache_file"](source, saltenv, source_hash=sha256)
    except Exception as err:  # whatever one of Salt's many ways of a download raises
        raise OSError(str(err)) from err
    if not copy:
        raise OSError("there is no such file")
    return copy


def _put(source: str, path: str) -> None:
    """Put a whole copy of a file in its place."""
    handle, temporary = tempfile.mkstemp(dir=os.path.dirname(os.path.dirname(path)), prefix=NEW)
    try:
        with os.fdopen(handle, "wb") as file, salt.utils.files.fopen(source, "rb") as original:
            shutil.copyfileobj(original, file)
            os.fchown(file.fileno(), 0, 0)
            os.fchmod(file.fileno(), 0o644)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def _link(target: str, path: str) -> None:
    temporary = os.path.join(os.path.dirname(path), f"{NEW}{os.path.basename(path)}")
    if os.path.lexists(temporary):
        os.unlink(temporary)
    os.symlink(target, temporary)
    os.replace(temporary, path)
