"""
A backup restored whole, into a server that has no images, or in the place of those that it has.

All is restored aside first, on the disk where it is to be, while the server goes on. Then that is
stopped, what it has is moved away and kept, and what was restored takes its place, the index last.
Who is interrupted calls it again, and it goes on from there.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import shutil
import time

from salt.exceptions import CommandExecutionError

log = logging.getLogger(__name__)

# Who else may be at work on the images.
BUSY = "a backup, or another restore,"
# Variables that restic reads its credentials from.
CREDENTIAL = re.compile("(AWS|AZURE|B2|GOOGLE|OS|ST|RCLONE|RESTIC_REST)_")
# An address with a password in it.
LOGIN = re.compile("://[^/@:]*:[^/]*@")
# How long Orthanc may take to answer with what was restored, in seconds.
PATIENCE = 600
# The folder for what is restored, below that of the images. In it: which backup it is of, and which
# one is there whole; and that what the server had was moved away.
ASIDE, CHOSEN, WHOLE, MOVED = ".orthanc-restore", "chosen", "whole", "begun"
# What is told of what was restored.
COUNTED = ("images", "damaged")
FAR = (
    "the database is on another host, where the formula exchanges none; restore all into a folder"
    " (target=), and database.dump in it with pg_restore, see docs/backup.md"
)
# Where what the server had is kept, below that of the images; the number is that of a second.
BEFORE = ".before-restore-{}"
FOLDER = re.compile("[0-9a-f]{2}")
INDEX = ("index", "index-journal", "index-shm", "index-wal")
# The databases while a restore lasts, and who may make them.
NEW, OLD, SUPERUSER = "{}_restored", "{}_before_{}", "postgres"


def chosen(job, snapshot, host=None):
    """
    Part of the formula. Return a backup as restic gives it.

    job
        See ``orthanc_backup_job.job``.

    snapshot
        How its identifier begins, or ``latest``.

    host
        The name of the host that it is of; by default this one.

    Raises CommandExecutionError if there is none.
    """
    found = __salt__["orthanc_restic.snapshots"](job, host or job["host"])
    # Salt takes digits for a number, and a zero before them is gone.
    name = str(snapshot)
    names = (name, name.zfill(8)) if name else ()
    if name != "latest":
        found = [one for one in found if one["id"].startswith(names)]
    if not found:
        raise CommandExecutionError(
            f"there is no such backup of the host {host or job['host']}; orthanc.backups lists all,"
            " and host= names another one"
        )
    if name != "latest" and found[1:]:
        raise CommandExecutionError(f"more than one backup begins with {name}; write more of it")
    return found[-1]


def settings(repository, password, host=None):
    """
    Bring back what an empty machine needs before the formula is applied, from a backup: the pillar
    of ``masterless.sh``, what the configuration names, and the password of the repository.

    repository
        The repository of the backup, as ``orthanc:backup:repository`` has it, or the path of a file
        that holds it. Credentials for it are taken from the environment.

    password
        The path of a file with its password.

    host
        The name of the host that the backup is of; by default that of the newest backup.

    Returns a mapping: the path of the ``pillar``, None where the backup has none of
    ``masterless.sh``; the ``host``; and the paths that were ``restored``.

    Raises CommandExecutionError if there is no such backup, if the address has a password in it, or
    if it is not root who asks.

    CLI Example:

    .. code-block:: bash

        salt-call --local orthanc_restore.settings /srv/backup/orthanc /root/password
    """
    __salt__["orthanc_host.require_root"]()
    if os.path.isfile(repository):
        repository = __salt__["orthanc_files.read"](repository).strip()
    elif LOGIN.search(repository):
        raise CommandExecutionError(
            "the address of the repository has a password in it, which everybody on this host can"
            " read while the command runs; write it into a file (chmod 600), and name that file"
        )
    folder = __salt__["orthanc_backup_job.folder"]()
    given = {name: value for name, value in os.environ.items() if CREDENTIAL.match(name)}
    job = {"repository": repository, "password_file": password, "environment": given}
    job.update(folder=folder, host=host)
    __salt__["orthanc_backup_job.put"](folder, {})
    found = __salt__["orthanc_restic.snapshots"](job)
    hosts = sorted({one["hostname"] for one in found})
    backup = [one for one in found if host in (None, one["hostname"])][-1:]
    if not backup:
        of = f"; there are some of {', '.join(hosts)}" if hosts else ""
        raise CommandExecutionError(f"there is no such backup in the repository{of}")
    manifest = __salt__["orthanc_restic.manifest"](job, backup[0]["id"])
    others = manifest["others"]
    if others:
        __salt__["orthanc_restic.restore"](job, backup[0]["id"], "/", others)
    _own(others, manifest["config"])
    text = __salt__["orthanc_files.read"](password)
    __salt__["orthanc_files.write"](os.path.join(folder, "password"), text, 0o600)
    last = [path for path in others if path.endswith("/pillar")]
    pillar = __salt__["orthanc_files.read"](last[0]).strip() if last else None
    return {"pillar": pillar, "host": backup[0]["hostname"], "restored": others}


def _own(paths: list, config: str) -> None:
    """Give to root what was restored: numbers of accounts and groups are the other machine's."""
    for path in filter(os.path.isfile, paths):
        os.chown(path, 0, 0)
        if path.startswith(f"{config}/"):
            # What the group might read, the formula lets Orthanc's group read; until then nobody
            # gets into the folder.
            os.chown(config, 0, 0)
            os.chmod(config, 0o700)
            mode = os.stat(path).st_mode & 0o7777
            os.chmod(path, mode | (mode & 0o070) >> 3)


def whole(job, backup, options, address, overwrite=False, again=False):
    """
    Part of the formula. Let a backup take the place of what the server has.

    job
        See ``orthanc_backup_job.job``.

    backup
        What ``chosen`` returned.

    options
        A mapping from option name to value, with the places of images and index.

    address
        The URL at which Orthanc answers then.

    overwrite, again
        See ``prepare``.

    Returns a mapping: the ``snapshot``, when it was ``made``, how many ``images`` it knows, and how
    many files of theirs it lacks or has not whole, ``damaged``; where what the server had is
    ``kept``, None where it had nothing, and how many seconds it was ``away``.

    Raises CommandExecutionError if that failed; called again, it goes on.
    """
    account = __salt__["orthanc_backup_job.account"](job)
    server, place = __salt__["orthanc_tables.get"]("SERVER"), "putting the backup in place"
    with __salt__["orthanc_backup_job.alone"](job["folder"], BUSY):
        manifest = prepare(job, backup, options, account, overwrite, again)
        began = time.monotonic()
        # First: whatever becomes of it, what was proven was of other images.
        __salt__["orthanc_backup_note.restored"](job["config"])
        log.info("Stopping the server for what was restored")
        __salt__["service.stop"](server)
        with __salt__["orthanc_files.failing"](
            f"the server is stopped until you repeat it; {place}"
        ):
            kept = put(options, account, manifest)
        __salt__["service.start"](server)
    while not __salt__["orthanc_http.answers"](address):
        if time.monotonic() - began > PATIENCE:
            raise CommandExecutionError("the backup is in place, and Orthanc does not answer yet")
        time.sleep(0.1)
    return {
        "snapshot": backup["short_id"],
        "made": backup["time"],
        **{name: manifest[name] for name in COUNTED},
        "kept": kept,
        "away": round(time.monotonic() - began, 1),
    }


def prepare(job, backup, options, account, overwrite=False, again=False):
    """
    Part of the formula. Restore all of a backup aside, and see to it that it may take the place of
    what the server has.

    job
        See ``orthanc_backup_job.job``.

    backup
        What ``chosen`` returned.

    options
        A mapping from option name to value, with the places of images and index.

    account
        A mapping with the names of Orthanc's ``user`` and ``group``.

    overwrite
        True lets it take the place of images that the server has.

    again
        True lets it too, and takes files that an earlier restore has brought, which are known by
        their names and sizes, as they are.

    Returns what is where in the backup, see ``orthanc_restic.manifest``; and how many ``images`` it
    knows, and how many files of theirs are ``damaged``.

    Raises CommandExecutionError if the server has images, or if something else is in the way.
    """
    manifest = __salt__["orthanc_restic.manifest"](job, backup["id"])
    is_database = not __salt__["orthanc_postgresql.is_sqlite"](options)
    if is_database != manifest["database"]:
        kinds = {True: "PostgreSQL", False: "SQLite"}
        raise CommandExecutionError(
            f"the index of the backup is in {kinds[manifest['database']]}, and that of this server"
            f" in {kinds[is_database]}; set orthanc:postgresql:enabled as it was there"
        )
    aside = os.path.join(options["StorageDirectory"], ASIDE)
    marker = os.path.join(aside, WHOLE)
    if not (overwrite or again or interrupted(options)):
        _refuse_images(options, account)
    whole = __salt__["orthanc_json.noted"](__salt__["orthanc_files.read_if_there"](marker))
    if whole.get("id") == backup["id"]:
        return {**manifest, **{name: whole.get(name) for name in COUNTED}}
    section = __salt__["orthanc_postgresql.section_of"](options)
    parameters = __salt__["orthanc_postgresql.parameters_of"](section) or {}
    if is_database and not __salt__["orthanc_postgresql.is_local"](parameters):
        raise CommandExecutionError(FAR)
    __salt__["orthanc_planted.remove"](aside)
    needed = dict(tag.partition("=")[::2] for tag in backup["tags"]).get("bytes", 0)
    free = shutil.disk_usage(options["StorageDirectory"]).free
    if int(needed) > free and not again:
        raise CommandExecutionError(
            f"the backup has {int(needed) >> 20} MB of images, and {options['StorageDirectory']}"
            f" {free >> 20} MB of free space; make room first"
        )
    failing = __salt__["orthanc_files.failing"](f"restoring into {aside}")
    with failing, _whole_or_empty(aside, backup):
        restore = __salt__["orthanc_restic.restore"]
        images = [manifest["storage"]] if manifest["files"] else []
        restore(job, backup["id"], aside, [manifest["aside"], *([] if again else images)])
        opened = __salt__["orthanc_index.of_copy"](f"{aside}{manifest['aside']}/index")
        if is_database:
            section = _fill_database(options, account, f"{aside}{manifest['aside']}/database.dump")
            opened = __salt__["orthanc_index.opened"]({**options, "PostgreSQL": section}, account)
        with opened as index:
            count, known = index.images(), index.files() if images else {}
        here = known if again else {}
        lacking = _lacking(here, options["StorageDirectory"], aside, manifest["storage"])
        restore(job, backup["id"], aside, lacking)
        path_of, fault = __salt__["orthanc_images.path_of"], __salt__["orthanc_images.fault"]
        place = aside + manifest["storage"]
        bad = sum(bool(fault(path_of(place, uuid), size)) for uuid, (size, *_) in known.items())
        counts = dict(zip(COUNTED, (count, bad)))
        _give(place, __salt__["orthanc_host.account"](account["user"]))
    # What takes the place of images has to be on the disk itself.
    os.sync()
    __salt__["orthanc_files.write"](marker, json.dumps({"id": backup["id"], **counts}), 0o600)
    return {**manifest, **counts}


@contextlib.contextmanager
def _whole_or_empty(aside: str, backup: dict):
    """Restore into an empty folder. If that fails, only which backup it was is left: the server
    goes on, and needs the room.
    """
    chosen = (os.path.join(aside, CHOSEN), backup["id"], 0o600)
    # It may be a mount.
    os.makedirs(aside, mode=0o700, exist_ok=True)
    if os.listdir(aside):
        raise CommandExecutionError(f"{aside} cannot be emptied; remove what is in it")
    __salt__["orthanc_files.write"](*chosen)
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):
            shutil.rmtree(aside, ignore_errors=True)
            os.makedirs(aside, mode=0o700, exist_ok=True)
            __salt__["orthanc_files.write"](*chosen)
        raise


def _lacking(known: dict, storage: str, aside: str, place: str) -> list:
    """Take along what is here of the files of a backup, and return the paths of the others."""
    path_of, lacking = __salt__["orthanc_images.path_of"], []
    for uuid, (size, _, _) in known.items():
        here, there = path_of(storage, uuid), path_of(place, uuid)
        try:
            if os.path.getsize(here) != size:
                raise OSError(f"{here} has another size")
            os.makedirs(os.path.dirname(aside + there), mode=0o700, exist_ok=True)
            os.link(here, aside + there)
        except OSError:
            lacking.append(there)
    return lacking


def _give(folder: str, owner) -> None:
    """Give the folders of images below a folder, and what is in them, to Orthanc's account."""
    for entry in os.listdir(folder) if os.path.isdir(folder) else ():
        path = os.path.join(folder, entry)
        if FOLDER.fullmatch(entry) and os.path.isdir(path) and not os.path.islink(path):
            __salt__["orthanc_planted.give"](path, owner)


def interrupted(options):
    """
    Part of the formula. Return whether a restore has moved away what the server had, and did not
    come to its end.

    options
        See ``prepare``.
    """
    return os.path.exists(os.path.join(options["StorageDirectory"], ASIDE, MOVED))


def begun(job, options):
    """
    Part of the formula. Return the identifier of the backup that was being restored when that was
    interrupted; None where none was, or where the server has images all the same. By then, the last
    backup may be one of a server without images.

    job, options
        See ``prepare``.
    """
    note = os.path.join(options["StorageDirectory"], ASIDE, CHOSEN)
    found = __salt__["orthanc_files.read_if_there"](note)
    account = __salt__["orthanc_backup_job.account"](job)
    if found and (interrupted(options) or not _images(options, account)):
        return found
    return None


def _images(options: dict, account: dict) -> int:
    """Return how many images the server has."""
    there = os.path.isfile(os.path.join(options["IndexDirectory"], "index"))
    if there or not __salt__["orthanc_postgresql.is_sqlite"](options):
        with __salt__["orthanc_index.opened"](options, account) as index:
            return index.images()
    return sum(1 for _ in __salt__["orthanc_identity.uuids"](options["StorageDirectory"]))


def _refuse_images(options: dict, account: dict) -> None:
    images = _images(options, account)
    if images:
        raise CommandExecutionError(
            f"this server has {images} images; overwrite=True puts the backup in their place (they"
            " are kept aside), and target= restores it into a folder"
        )


def put(options, account, manifest):
    """
    Part of the formula. Let what ``prepare`` has restored take the place of what the server has,
    which is stopped.

    options, account
        See ``prepare``.

    manifest
        What ``prepare`` returned.

    Returns where what the server had is kept, None where it had nothing.

    Raises OSError or CommandExecutionError if that failed; called again, it goes on.
    """
    storage, folder = options["StorageDirectory"], options["IndexDirectory"]
    aside = os.path.join(storage, ASIDE)
    owner = __salt__["orthanc_host.account"](account["user"])
    restored, index = aside + manifest["storage"], f"{aside}{manifest['aside']}/index"
    kept = _keep(storage, folder, aside)
    for entry in sorted(os.listdir(restored)) if os.path.isdir(restored) else ():
        if FOLDER.fullmatch(entry):
            # One that was started meanwhile, as at boot, has stored anew.
            _move_away(os.path.join(storage, entry), kept)
            os.rename(os.path.join(restored, entry), os.path.join(storage, entry))
    if manifest["database"]:
        _exchange_databases(options, account)
    else:
        # The index may have a disk of its own, to which it is copied.
        here = os.path.join(folder, ".index.restored")
        if os.path.islink(here):
            os.unlink(here)
        if os.path.exists(index):
            shutil.move(index, here)
        if os.path.exists(here):
            for entry in INDEX:
                _move_away(os.path.join(folder, entry), kept)
            os.chmod(here, 0o640)
            os.chown(here, owner.pw_uid, owner.pw_gid, follow_symlinks=False)
            os.rename(here, os.path.join(folder, "index"))
    __salt__["orthanc_routes_queue.take_back"](f"{aside}{manifest['aside']}")
    os.sync()
    shutil.rmtree(aside)
    with contextlib.suppress(OSError):
        os.rmdir(kept)
    return kept if os.path.isdir(kept) else None


def _move_away(path: str, kept: str) -> None:
    """Move what is there into a folder, in which nothing is overwritten."""
    if os.path.lexists(path):
        if os.path.islink(kept):
            os.unlink(kept)
        os.makedirs(kept, mode=0o700, exist_ok=True)
        place, number = os.path.join(kept, os.path.basename(path)), 0
        while os.path.lexists(place if not number else f"{place}.{number}"):
            number += 1
        shutil.move(path, place if not number else f"{place}.{number}")


def _keep(storage: str, folder: str, aside: str) -> str:
    """Move what the server has out of the way, once, and return where it is."""
    note = os.path.join(aside, "kept")
    noted = __salt__["orthanc_json.noted"](__salt__["orthanc_files.read_if_there"](note))
    known = noted.get("kept")
    if known is None:
        known = os.path.join(storage, BEFORE.format(int(time.time())))
        __salt__["orthanc_files.write"](note, json.dumps({"kept": known}), 0o600)
    moved = os.path.join(aside, MOVED)
    if not os.path.exists(moved):
        entries = [entry for entry in os.listdir(storage) if FOLDER.fullmatch(entry)]
        paths = [os.path.join(storage, entry) for entry in entries]
        for path in [*paths, *(os.path.join(folder, entry) for entry in INDEX)]:
            _move_away(path, known)
        __salt__["orthanc_files.write"](moved, "", 0o600)
    return known


def _fill_database(options: dict, account: dict, dump: str) -> dict:
    """Restore a dump into a new database, and return its section."""
    section = __salt__["orthanc_postgresql.section_of"](options)
    parameters = __salt__["orthanc_postgresql.parameters_of"](section) or {}
    name = parameters.get("dbname", account["user"])
    new = NEW.format(name)
    _sql(parameters, f'DROP DATABASE IF EXISTS "{new}"')
    _sql(parameters, f'CREATE DATABASE "{new}" OWNER "{account["user"]}"')
    restored = _section({**parameters, "dbname": new})
    __salt__["orthanc_postgresql.restore"](restored, dump, **account)
    return restored


def _section(parameters: dict) -> dict:
    """Return a section of PostgreSQL for parameters of a local connection."""
    port = f"?port={parameters['port']}" if "port" in parameters else ""
    return {"EnableIndex": True, "ConnectionUri": f"postgresql:///{parameters['dbname']}{port}"}


def _exchange_databases(options: dict, account: dict) -> None:
    section = __salt__["orthanc_postgresql.section_of"](options)
    parameters = __salt__["orthanc_postgresql.parameters_of"](section) or {}
    name = parameters.get("dbname", account["user"])
    old, new = OLD.format(name, int(time.time())), NEW.format(name)
    there = _sql(parameters, "SELECT datname FROM pg_database").split()
    if new in there and name in there:
        _sql(parameters, f'ALTER DATABASE "{name}" RENAME TO "{old}"')
    if new in there:
        _sql(parameters, f'ALTER DATABASE "{new}" RENAME TO "{name}"')


def _sql(parameters: dict, statement: str) -> str:
    """Return what a statement gives to the superuser of the database on this host."""
    port = {"port": parameters["port"]} if "port" in parameters else {}
    said = __salt__["orthanc_postgresql.psql"](
        {"dbname": SUPERUSER, **port}, ["--file=-"], SUPERUSER, SUPERUSER, stdin=statement
    )
    if said is None or said["retcode"]:
        raise CommandExecutionError(
            f"PostgreSQL says: {said['stderr'] if said else 'there is no psql'}"
        )
    return said["stdout"]
