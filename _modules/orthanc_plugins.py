"""
The plugins: those of packages, of which Orthanc loads what the pillar asks for, and those that the
pillar downloads.

A plugin changes a server by being loaded: it adds routes and handlers, takes memory and threads,
and one of Orthanc's own makes it forget an option. So Orthanc is not told the folder of the
packages' plugins, but the files in it that are wanted. Their names have no version in them: on
Debian and openSUSE they are links, which an upgrade leads elsewhere.

The downloaded ones lie in a folder of their own, each as ``<SHA-256 of its content>/<name>``, and
Orthanc loads those that its option ``Plugins`` names. So a new file never takes the place of an old
one: it lies there, unused, until the configuration that names it has passed its trial start, and
the old one lies there until Orthanc was seen serving with the new one. What a folder's name says of
its content also tells the files of the formula from those that somebody changed.

Of a plugin whose content nobody vouches for, the pillar's path begins with ``insecure-``; that is a
link to the folder of what was downloaded.
"""

from __future__ import annotations

import glob
import mmap
import os
import re

import salt.utils.files
import salt.utils.hashutils
from salt.exceptions import CommandExecutionError

# Where packages of Debian and openSUSE have their plugins; not all of these are read by Orthanc.
PLUGIN_FOLDERS = (
    *("/usr/share/orthanc/plugins", "/usr/lib64/share/orthanc/plugins"),
    *("/usr/lib/orthanc", "/usr/lib64/orthanc"),
)
FILE_NAME = "lib{}.so"
# What a shared library begins with, and what stands in one that is a plugin.
LIBRARY, PLUGIN = b"\x7fELF", b"OrthancPluginInitialize"
CONTENT = re.compile("[0-9a-f]{64}")
# What is not finished yet begins so.
NEW = ".new-"


def choose(folder, libraries=(), packages=(), coming=(), downloads=()):
    """
    Part of the formula. Say which plugins of a folder Orthanc has to load, and which are there for
    nothing.

    To load are those that the options ask for, those of the packages that are wanted, and all of
    which no package is known to have brought them: somebody put them there.

    folder
        The path of the folder. As by Orthanc, folders below it are not looked into, and of the
        shared libraries in it those are passed over that are no plugins.

    libraries
        What the options ask for, as pieces of the names of files.

    packages
        The names of the packages that are wanted. All plugins of each are loaded, but for those of
        the server's own package.

    coming
        The names of those among them that may be installed before Orthanc is started. Of one that
        is not there yet, the files are named that it brings.

    downloads
        The paths of plugins from elsewhere. What options ask for and one of them gives is not taken
        from the folder.

    Returns ``load``, a list of paths, and ``unused``, a mapping from path to the name of a package.
    """
    given = [os.path.basename(path) for path in downloads]
    asked = [piece for piece in libraries if not any(_has(name, piece) for name in given)]
    package_of = {name: package for package, names in _brought().items() for name in names}
    load, unused = [], {}
    for entry in _plugins(folder):
        package = package_of.get(entry)
        wanted = package in packages and package != _table("SERVER")
        if wanted or not package or any(_has(entry, piece) for piece in asked):
            load.append(entry)
        else:
            unused[entry] = package
    of_somebody = _of_no_package(folder, list(unused))
    load += of_somebody + _expected(load, asked, coming)
    return {
        "load": [os.path.join(folder, entry) for entry in sorted(load)],
        "unused": {
            os.path.join(folder, entry): package
            for entry, package in unused.items()
            if entry not in of_somebody
        },
    }


def here(options, folder):
    """
    Part of the formula. Return the plugins of this host as ``orthanc_options.check`` wants them:
    the names of the files that Orthanc would load, and the whole paths of those that packages bring
    and it would not.

    options
        A mapping from option name to value.

    folder
        The path of the folder of the configuration.
    """
    loaded: list = []
    plugins = options.get("Plugins")
    for entry in plugins if isinstance(plugins, list) else []:
        # Orthanc reads no further than a NUL.
        path = os.path.join(folder, str(entry).partition("\0")[0])
        inside = os.listdir(path) if os.path.isdir(path) else None
        loaded += [path] if inside is None else [os.path.join(path, name) for name in inside]
    known = {os.path.realpath(path) for path in loaded}
    others: dict = {}
    for place in PLUGIN_FOLDERS:
        for path in sorted(glob.glob(os.path.join(place, "*.so*"))):
            others.setdefault(os.path.realpath(path), path)
    names = [_versioned_name(path) for path in loaded]
    return names + [path for real, path in others.items() if real not in known]


def sound(name):
    """
    Part of the formula. Return whether a plugin is there, with the right content, and only root may
    change it.

    name
        The path of its file: ``<folder>/<SHA-256>/<name>``, or ``<folder>/insecure-…/<name>``.
    """
    if not _genuine(name):
        return False
    status = os.stat(name)
    return (status.st_uid, status.st_gid, status.st_mode & 0o777) == (0, 0, 0o644)


def fetch(name, source, saltenv="base"):
    """
    Part of the formula. Download a plugin, or put right what is wrong with it.

    name
        The path of its file; see ``sound``.

    source
        A URL, ``https://``, ``http://`` or ``salt://``, or an absolute path on this host.

    saltenv
        The environment of ``salt://``.

    Raises CommandExecutionError if it cannot be had, or has another SHA-256 than its path says;
    then nothing has changed.
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
        # A token in its query is none of the reasons.
        reason = str(err).replace(source, shown)
        raise CommandExecutionError(f"{shown} cannot be had: {reason}") from err


def unused(name, keep):
    """
    Part of the formula. Return what is in the folder of the plugins besides those to keep, as a
    mapping from path to what to do about it: None to remove it, or a sentence that says why not.

    name
        The path of the folder.

    keep
        The paths of the plugins to keep.
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
                is_rest = _genuine(path) or __salt__["orthanc_files.is_unfinished"](path)
                found[path] = None if is_rest else "was changed by hand; remove it yourself"
    return found


def remove(name, keep):
    """
    Part of the formula. Remove what ``unused`` says.

    name, keep
        See ``unused``.

    Raises CommandExecutionError if that failed.
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


def _versioned_name(path: str) -> str:
    """Return the name of a file, or that behind a link if that only has a version more."""
    name, behind = os.path.basename(path), os.path.basename(os.path.realpath(path))
    return behind if behind.startswith(f"{name}.") else name


def _has(name: str, piece: str) -> bool:
    return piece.lower() in name.lower()


def _plugins(folder: str) -> list:
    """Return the names of the plugins in a folder, each file once, in order."""
    found: dict = {}
    for entry in sorted(os.listdir(folder)) if os.path.isdir(folder) else []:
        path = os.path.join(folder, entry)
        if entry.lower().endswith(".so") and not os.path.isdir(path) and _may_be_plugin(path):
            found.setdefault(os.path.realpath(path), entry)
    return list(found.values())


def _may_be_plugin(path: str) -> bool:
    """
    Return whether a file is no shared library without the functions of a plugin. Orthanc passes
    over such a one in a folder, and dies of it in a list of files; of all else it dies here as
    there, and the trial start says so.
    """
    try:
        with salt.utils.files.fopen(path, "rb") as file:
            content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            with content:
                return content[: len(LIBRARY)] != LIBRARY or content.find(PLUGIN) >= 0
    except (OSError, ValueError):
        return True  # a link to nowhere, an empty file


def _of_no_package(folder: str, entries: list) -> list:
    """Return which files of a folder were not brought by a package."""
    top = os.path.realpath(folder)
    paths = {os.path.join(top, entry): entry for entry in entries}
    if not paths:
        return []
    # Several states of a run ask; of a file that no package manager has put there since, the answer
    # is the same.
    key = f"orthanc_plugins.owned.{[(path, os.lstat(path).st_ctime_ns) for path in paths]}"
    if key not in __context__:
        __context__[key] = _owned(paths)
    return [entry for path, entry in paths.items() if path not in __context__[key]]


def _owned(paths) -> set:
    """Return which of these paths a package has brought."""
    if __grains__["os_family"] == "Debian":
        # orthanc: /usr/share/orthanc/plugins/libServeFolders.so
        lines = _ask(["dpkg-query", "--search", "--", *paths])
        return {line.partition(": ")[2] for line in lines}
    # A line for each of them, which is a sentence where it is of no package.
    lines = _ask(["rpm", "--query", "--file", "--queryformat", "%{NAME}\n", *paths])
    return {path for path, line in zip(paths, lines) if " " not in line}


def _ask(words: list) -> list:
    return __salt__["cmd.run_stdout"](
        words, python_shell=False, ignore_retcode=True, output_loglevel="quiet"
    ).splitlines()


def _table(name: str):
    return __salt__["orthanc_tables.get"](name)


def _brought() -> dict:
    """Return the names of the files of the plugins that each package brings."""
    return {
        package: [FILE_NAME.format(library) for library in libraries]
        for package, libraries in _table("PLUGINS").items()
    }


def _expected(there: list, asked: list, coming: list) -> list:
    """Return the names of the plugins that packages bring which are not installed yet."""
    found, brought = [], _brought()
    for package in coming:
        names = brought.get(package, [])
        if package == _table("SERVER"):
            found += [
                name
                for name in names
                if name not in there and any(_has(name, piece) for piece in asked)
            ]
        elif not set(names) & set(there):
            found += names
    return found


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
    with salt.utils.files.fopen(source, "rb") as original:
        __salt__["orthanc_files.write"](path, original.read(), 0o644)


def _link(target: str, path: str) -> None:
    temporary = os.path.join(os.path.dirname(path), f"{NEW}{os.path.basename(path)}")
    if os.path.lexists(temporary):
        os.unlink(temporary)
    os.symlink(target, temporary)
    os.replace(temporary, path)
