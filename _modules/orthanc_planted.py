"""
What others may have planted where root works: links, in the folders of Orthanc's account. Who runs
programs inside Orthanc shall not get at other files by what root does there.
"""

from __future__ import annotations

import contextlib
import os
import shutil

# A file itself, and none that never ends; a folder itself.
FILE = os.O_NOFOLLOW | os.O_NONBLOCK
FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW


def remove(path):
    """
    Part of the formula. Remove a folder and all that is in it, or a link in the place of it, as far
    as that is possible.

    path
        The path of the folder.
    """
    if os.path.islink(path):
        os.unlink(path)
    shutil.rmtree(path, ignore_errors=True)


def unlink(folder):
    """
    Part of the formula. Remove all links below a folder.

    folder
        The path of the folder.

    Raises OSError if that failed.
    """
    for inside, folders, files in os.walk(folder):
        for path in (os.path.join(inside, entry) for entry in (*folders, *files)):
            if os.path.islink(path):
                os.unlink(path)


def give(folder, owner, mode=None):
    """
    Part of the formula. Give a folder and all that is in it to an account, itself last: until then
    nobody else gets in, where it is root's alone.

    folder
        The path of the folder.

    owner
        The account, as ``orthanc_host.account`` returns it.

    mode
        The mode of the folders; None to leave them as they are.

    Raises OSError if that failed.
    """
    for _, _, files, opened in os.fwalk(folder, topdown=False):
        for entry in files:
            os.chown(entry, owner.pw_uid, owner.pw_gid, dir_fd=opened, follow_symlinks=False)
        os.fchown(opened, owner.pw_uid, owner.pw_gid)
        if mode is not None:
            os.fchmod(opened, mode)


@contextlib.contextmanager
def below(folder, names, owner=None):
    """
    Part of the formula. Give the descriptor of a folder below another one, as long as the ``with``
    block lasts.

    folder
        The path of the other one.

    names
        The names of the folders on the way, a list.

    owner
        Whose a folder is that is made where there is none, as ``os.stat`` returns it; None where
        none is made.

    Raises OSError if there is none, or a link in the place of it.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for name in names:
            is_new = False
            with contextlib.suppress(FileExistsError):
                if owner:
                    os.mkdir(name, 0o750, dir_fd=descriptor)
                    is_new = True
            above, descriptor = descriptor, os.open(name, FOLDER, dir_fd=descriptor)
            os.close(above)
            if is_new:
                os.fchown(descriptor, owner.st_uid, owner.st_gid)
        yield descriptor
    finally:
        os.close(descriptor)


def copy(source, target, owner):
    """
    Part of the formula. Copy a file to the place of another one, whole or not at all.

    source, target
        Each the descriptor of a folder and the name of a file.

    owner
        Whose it is then, as ``os.stat`` returns it.

    Raises OSError if that failed.
    """
    folder, name = target
    new = f"{name}.new"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(new, dir_fd=folder)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    with open(os.open(source[1], os.O_RDONLY | FILE, dir_fd=source[0]), "rb") as file, open(
        os.open(new, flags, 0o600, dir_fd=folder), "wb"
    ) as copied:
        shutil.copyfileobj(file, copied)
        # Who restored the orphan may have been root; Orthanc has to read the file.
        os.fchown(copied.fileno(), owner.st_uid, owner.st_gid)
        os.fchmod(copied.fileno(), 0o640)
        copied.flush()
        os.fsync(copied.fileno())
    os.rename(new, name, src_dir_fd=folder, dst_dir_fd=folder)
