"""
The system as it would be with other packages, seen by one function and by nobody else.

What the packages bring is laid over the folders of the system, in a mount name space of its own: so
programs, libraries and plugins are at their places, and all of it ends with the function, however
that ends.

https://docs.kernel.org/filesystems/overlayfs.html
https://www.freedesktop.org/software/systemd/man/latest/systemd.exec.html#ExtensionDirectories=
"""

from __future__ import annotations

import concurrent.futures
import contextvars
import ctypes
import os
import subprocess

import salt.utils.files
from salt.exceptions import CommandExecutionError

# See unshare(2).
CLONE_NEWNS = 0x00020000
# What of the packages is laid over the system: programs, libraries, data; no configuration.
PROGRAMS = ("bin", "lib", "lib64", "opt", "sbin")
# Without it systemd takes no tree.
RELEASE = "usr/lib/extension-release.d/extension-release."
NOT_ALLOWED = "this host allows no mount name spaces, or no overlays in them"


def seen(tree, work):
    """
    Part of the formula. Return what a function returns that sees the files of a tree in the place
    of those of the system, and so does what it starts.

    tree
        The path of the folder with the files; see ``orthanc_packages.unpack``.

    work
        The function.

    Raises OSError where this host does not allow it.
    """
    # A thread may have other mounts than the rest of its process.
    context = contextvars.copy_context()
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        return pool.submit(context.run, _seen, tree, work).result()


def _seen(tree: str, work):
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNS):
        raise OSError(ctypes.get_errno(), NOT_ALLOWED)
    _mount("--make-rprivate", "/")
    for place in _places(tree):
        here = os.path.realpath(place)
        _mount("-t", "overlay", "-o", f"ro,lowerdir={tree}{place}:{here}", "orthanc-aside", here)
    return work()


def _mount(*words: str) -> None:
    done = subprocess.run(["mount", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"{NOT_ALLOWED}: {done.stderr.strip()}")


def _places(tree: str) -> list[str]:
    """
    Return the folders of the system that the tree has something for. Of /usr they are those below
    it: what else is mounted there stays in sight.
    """
    usr = os.path.join(tree, "usr")
    below = sorted(os.listdir(usr)) if os.path.isdir(usr) else []
    places = [*(f"/{name}" for name in PROGRAMS), *(f"/usr/{name}" for name in below)]
    return [place for place in places if os.path.isdir(tree + place) and os.path.isdir(place)]


def prepare(tree):
    """
    Part of the formula. Make a tree ready for ``seen``, and for systemd, which can lay it over the
    system of a unit.

    tree
        See ``seen``.

    Raises CommandExecutionError where this host does not allow it.
    """
    try:
        path = os.path.join(tree, RELEASE + os.path.basename(tree))
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with salt.utils.files.fopen(path, "w") as file:
            file.write("ID=_any\n")
        seen(tree, lambda: None)
    except OSError as err:
        raise CommandExecutionError(str(err)) from err
