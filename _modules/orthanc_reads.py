"""
The files that Orthanc reads at its start: whether they still hold what the running one has read.

Scripts, plugins, certificates and dictionaries are named by options, and somebody else may change
them at any time. Orthanc does not see it before its next start, and may die then. So the SHA-256 of
each is remembered as of the start of an Orthanc that was seen serving.
"""

from __future__ import annotations

import ast
import contextlib
import glob
import hashlib
import os
import re
import time

import salt.utils.files

# How a Lua script runs another one.
LUA_FILE = re.compile(r"""\b(?:dofile|loadfile)\s*\(?\s*["']([^"']+)["']""")

# How exactly the start of a process is known, in seconds; and what is surely later than it.
MARGIN, SECOND = 0.1, 1


def files(options, folder):
    """
    Part of the formula. Return the paths of the files that Orthanc reads at its start, but for its
    configuration.

    options
        A mapping from option name to value.

    folder
        The path of the folder of the configuration.
    """
    found: list = []
    for where, path, place in __salt__["orthanc_paths.named"](options, folder):
        if place.mode == "write" or not place.start:
            continue
        if os.path.isdir(path):
            # Of plugins; what else there is a folder of is not known to be read.
            found += sorted(glob.glob(f"{glob.escape(path)}/*.so*"))
        elif where[0] == "LuaScripts":
            found += _closure(path, _lua_files)
        elif path.endswith(".py"):
            found += _closure(path, _python_files)
        else:
            found.append(path)
    return sorted({path for path in found if os.path.isfile(path)})


def changed(paths, known, running=True):
    """
    Part of the formula. Return those files that hold something else than what the running Orthanc
    has read.

    paths
        A list of the paths of files.

    known
        What ``seen`` returned when Orthanc was last seen serving. What is gone of it counts too.

    running
        False compares with that only, whatever Orthanc has been started since: it may die of them.
    """
    since = _started() if running else 0.0
    found = [path for path in known if not os.path.exists(path)]
    for path in paths:
        if path not in known:
            # Time alone tells.
            if since and _written(path) > since + SECOND:
                found.append(path)
        # What was written before the start has been read, whatever is known.
        elif _written(path) > since - MARGIN and _hash(path) != known[path][0]:
            found.append(path)
    return found


def seen(paths, known):
    """
    Part of the formula. Return what the running Orthanc has read, as a mapping from path to the
    SHA-256 of the content and when it was written. Of files that were written after its start, it
    is what is known.

    paths, known
        See ``changed``.
    """
    since = _started()
    found = {}
    for path in paths:
        written = _written(path)
        if path in known and (written >= since - MARGIN or known[path][1] == written):
            found[path] = known[path]
        elif written < since - MARGIN:
            found[path] = [_hash(path), written]
    return found


def _written(path: str) -> float:
    """Return when a file was written or put in its place; now if it is gone."""
    with contextlib.suppress(OSError):
        return max(os.stat(path).st_ctime, os.lstat(path).st_ctime)
    return time.time()


def _hash(path: str) -> str:
    digest = hashlib.sha256()
    with contextlib.suppress(OSError), salt.utils.files.fopen(path, "rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def _started() -> float:
    """Return when the Orthanc that runs was started, in seconds of the clock; 0 where none runs."""
    starts = [0.0]
    for process in __salt__["orthanc_host.orthancs"]():
        with contextlib.suppress(OSError):  # It may have ended meanwhile.
            starts.append(__salt__["orthanc_host.started"](process))
    return max(starts)


def _closure(path: str, directly) -> list[str]:
    """Return a script and what it runs or imports, and so on."""
    found, to_do = [], [path]
    while to_do:
        path = to_do.pop()
        if path not in found and os.path.isfile(path):
            found.append(path)
            with salt.utils.files.fopen(path, encoding="utf-8", errors="replace") as file:
                to_do += directly(path, file.read())
    return found


def _lua_files(path: str, text: str) -> list[str]:
    return [os.path.join("/", name) for name in LUA_FILE.findall(text)]


def _python_files(path: str, text: str) -> list[str]:
    """Return the modules that a script imports from its own folder."""
    try:
        nodes = list(ast.walk(ast.parse(text)))
    except (SyntaxError, ValueError):
        return []
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    for node in nodes:
        if isinstance(node, ast.ImportFrom):
            names |= {node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)}
            names |= set() if node.module else {alias.name for alias in node.names}
    found = []
    for name in names:
        parts = name.split(".")
        for length in range(1, len(parts) + 1):
            base = os.path.join(os.path.dirname(path), *parts[:length])
            found += [f"{base}.py", f"{base}/__init__.py"]
    return found
