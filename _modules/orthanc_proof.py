"""
With what Orthanc was last seen serving, and whether that is still so: the files of its
configuration, what these name, images and index, and its packages.
"""

from __future__ import annotations

import contextlib
import json
import os

# Stand beside the folder: what Orthanc read at its start, see orthanc_reads; where images and index
# were, see orthanc_identity; and which versions of its packages there were.
AS_READ, IDENTITY, PACKAGES = ".as-read", ".identity", ".packages"


def prove(name, account):
    """
    Part of the formula. Note that Orthanc serves with the configuration as it is.

    name
        The path of the folder.

    account
        A mapping with the names of Orthanc's ``user`` and ``group``.

    Raises CommandExecutionError if writing failed.
    """
    with __salt__["orthanc_files.failing"]("keeping the configuration as the last good one"):
        __salt__["orthanc_files.prove"](name)
        known = _as_read(name)
        read = __salt__["orthanc_reads.seen"](_read_at_start(name), known)
        if read != known:
            _note(name + AS_READ, read)
        _note_identity(name, account)
        installed = _installed()
        if installed != packages(name):
            _note(name + PACKAGES, installed)


def _note(path: str, content: dict) -> None:
    __salt__["orthanc_files.write"](path, json.dumps(content, indent=2) + "\n", 0o600)


def _note_identity(name: str, account: dict) -> None:
    """Note where images and index are with which Orthanc serves."""
    known = identity(name)
    found = seen(_placed(name), known, account)
    noted = __salt__["orthanc_identity.note"](found, known) if found else {}
    if noted != known:
        _note(name + IDENTITY, noted)


def _placed(name: str) -> dict:
    options = __salt__["orthanc_folder.options"](name)
    return __salt__["orthanc_folder.with_places"](options, name)


def notes(name):
    """
    Part of the formula. Return the paths of what is noted, which may be there: ``as_read``,
    ``identity``, ``packages``, ``index_move``, ``network``, ``cards``, ``verified`` and ``backup``.

    name
        The path of the folder.
    """
    verified = __salt__["orthanc_images.note_path"](name)
    backup = __salt__["orthanc_backup_note.path"](name)
    own = {"as_read": name + AS_READ, "identity": name + IDENTITY, "packages": name + PACKAGES}
    own["index_move"] = __salt__["orthanc_move_note.path"](name)
    own["network"] = __salt__["orthanc_network_note.path"](name)
    own["cards"] = __salt__["orthanc_network_note.path"](name, "cards")
    return {**own, "verified": verified, "backup": backup}


def identity(name):
    """
    Part of the formula. Return where images and index were when Orthanc was last seen serving; see
    ``orthanc_identity.note``.

    name
        The path of the folder.
    """
    known = _noted(name + IDENTITY)
    return known if __salt__["orthanc_identity.is_note"](known) else {}


def _noted(path: str) -> dict:
    """Return what ``_note`` wrote; nothing where it cannot be read."""
    with contextlib.suppress(OSError):
        return __salt__["orthanc_json.noted"](__salt__["orthanc_files.read_if_there"](path))
    return {}


def packages(name):
    """
    Part of the formula. Return the versions of the packages of Orthanc and its plugins when it was
    last seen serving, by their names.

    name
        The path of the folder.
    """
    return _noted(name + PACKAGES)


def upgraded(name):
    """
    Part of the formula. Return which packages of Orthanc have another version than when it was last
    seen serving: a mapping from name to ``old`` and ``new``.

    name
        The path of the folder.
    """
    known = packages(name)
    return {
        package: {"old": known[package], "new": version}
        for package, version in _installed().items()
        if known.get(package, version) != version
    }


def _installed() -> dict:
    """Return the versions of the packages of Orthanc and its plugins that are installed."""
    server = __salt__["orthanc_tables.get"]("SERVER")
    found = __salt__["pkg.list_pkgs"]()
    return {name: found[name] for name in found if f"{name}-".startswith(f"{server}-")}


def seen(options, known, account, files=None):
    """
    Part of the formula. Return what ``orthanc_identity.look`` sees; nothing where images are no
    files in a folder.

    options
        A mapping from option name to value, with the places of images and index.

    known
        What ``identity`` returned.

    account
        A mapping with the names of Orthanc's ``user`` and ``group``, whom PostgreSQL knows.

    files
        The texts of certificates by their path, where a database on another host is asked too.
    """
    storage, folder = __salt__["orthanc_folder.places"](options).values()
    in_folder = isinstance(storage, str) and __salt__["orthanc_identity.in_folder"](options)
    if not in_folder or not isinstance(folder, str):
        return {}
    if __salt__["orthanc_postgresql.is_sqlite"](options):
        return __salt__["orthanc_identity.look"](storage, os.path.join(folder, "index"), known)
    uuids = __salt__["orthanc_database.known_images"](
        options, **account, texts=files, far=files is not None
    )
    return __salt__["orthanc_identity.look"](storage, None, known, uuids)


def strange(name, options, account):
    """
    Part of the formula. Return why images or index of the server are not those with which it was
    last seen serving, as where a disk is not mounted, a list of sentences.

    name
        The path of the folder.

    options, account
        See ``seen``.
    """
    known = identity(name)
    found = seen(options, known, account) if known else {}
    if not found:
        return []
    note = notes(name)["identity"]
    judged = __salt__["orthanc_identity.judge"](known, found, note, served=True, running=True)
    return [sentence for _, sentence in judged["problems"]]


def strayed(name):
    """
    Part of the formula. Return whether the Orthanc that runs has other images or another index open
    than those which are there by now, as where a disk was mounted after its start.

    name
        The path of the folder.
    """
    options = _placed(name)
    storage, folder = __salt__["orthanc_folder.places"](options).values()
    if not isinstance(storage, str) or not isinstance(folder, str):
        return False
    is_file = __salt__["orthanc_postgresql.is_sqlite"](options)
    index = os.path.join(folder, "index") if is_file else None
    return any(_has_others(p, storage, index) for p in __salt__["orthanc_host.orthancs"]())


def _has_others(process: str, storage: str, index: str | None) -> bool:
    """Return whether a process sees other images, or has another index open, than we do."""
    # It may have ended meanwhile, or be none of ours to look at.
    with contextlib.suppress(OSError):
        root = f"{process}/root"
        if os.readlink(root) != "/":
            return False  # One with a root of its own sees other paths.
        real = os.path.realpath(storage)
        if _inode(real) not in (None, _inode(f"{root}{real}")):
            return True
        opened = __salt__["orthanc_host.opened"](process).items()
        links = [link for link, target in opened if target == index]
        return any(_inode(link) != _inode(index) for link in links)
    return False


def _inode(path: str) -> tuple | None:
    """Return what tells a file or folder from all others; None where there is none."""
    with contextlib.suppress(FileNotFoundError):
        found = os.stat(path)
        return found.st_dev, found.st_ino
    return None


def changed_files(name, running=True):
    """
    Part of the formula. Return the paths of the files that the configuration names, or that others
    have put beside it, and that hold something else than what the running Orthanc has read at its
    start.

    name
        The path of the folder.

    running
        False compares with what it had read when it was last seen serving.
    """
    paths, known = _read_at_start(name), _as_read(name)
    if __salt__["orthanc_files.unproven"](name):
        # What a configuration names that the running Orthanc has never seen is new with it.
        paths = [path for path in paths if path in known]
    return __salt__["orthanc_reads.changed"](paths, known, running)


def _read_at_start(name: str) -> list[str]:
    """Return the files that Orthanc reads at its start, but for those of the formula's making."""
    found = __salt__["orthanc_reads.files"](__salt__["orthanc_folder.options"](name), name)
    found += [os.path.join(name, entry) for entry in __salt__["orthanc_folder.json_files"](name)]
    own = __salt__["orthanc_files.at"](name, __salt__["orthanc_files.last_good"](name))
    return [path for path in found if path not in own]


def _as_read(name: str) -> dict:
    """Return what Orthanc had read when it was last seen serving: ``{path: SHA-256}``."""
    return _noted(name + AS_READ)
