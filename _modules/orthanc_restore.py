"""
A backup restored: whole, into a server that has no images; or a part of it, into a folder.

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
import zlib

import salt.utils.files
from salt.exceptions import CommandExecutionError, SaltInvocationError

log = logging.getLogger(__name__)

# Variables that restic reads its credentials from.
CREDENTIAL = re.compile("(AWS|AZURE|B2|GOOGLE|OS|ST|RCLONE|RESTIC_REST)_")
# How long Orthanc may take to answer with what was restored, in seconds.
PATIENCE = 600
# The folder for what is restored, below that of the images; in it, which backup is there whole.
ASIDE, WHOLE = ".orthanc-restore", "whole"
# Where what the server had is kept, below that of the images; the number is that of a second.
BEFORE = ".before-restore-{}"
FOLDER = re.compile("[0-9a-f]{2}")
INDEX = ("index", "index-journal", "index-shm", "index-wal")
# The databases while a restore lasts, and who may make them.
NEW, OLD, SUPERUSER = "{}_restored", "{}_before_{}", "postgres"
# How Orthanc compresses a file: how long it was in 8 bytes, and zlib.
COMPRESSED, HEAD = 2, 8
STUDY = (
    "SELECT r.publicId FROM Resources r LEFT JOIN DicomIdentifiers d ON d.id = r.internalId"
    " AND d.tagGroup = 32 AND d.tagElement = 13"
    " WHERE r.resourceType = 2 AND '{name}' IN (r.publicId, d.value)"
)
# The files of the images of a study.
FILES = (
    "SELECT i.publicId, a.uuid, a.compressionType FROM Resources s"
    " JOIN Resources x ON x.parentId = s.internalId JOIN Resources i ON i.parentId = x.internalId"
    " JOIN AttachedFiles a ON a.id = i.internalId AND a.fileType = 1 WHERE s.publicId = '{name}'"
)


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
    if snapshot != "latest":
        found = [one for one in found if one["id"].startswith(str(snapshot))]
    if not found:
        raise CommandExecutionError(
            f"there is no such backup of the host {host or job['host']}; orthanc.backups lists all,"
            " and host= names another one"
        )
    return found[-1]


def settings(repository, password, host=None):
    """
    Bring back what an empty machine needs before the formula is applied, from a backup: the pillar
    of ``masterless.sh``, what the configuration names, and the password of the repository.

    repository
        The repository of the backup, as ``orthanc:backup:repository`` has it. Credentials for it
        are taken from the environment.

    password
        The path of a file with its password.

    host
        The name of the host that the backup is of; by default that of the newest backup.

    Returns a mapping: the path of the ``pillar``, None where the backup has none of
    ``masterless.sh``; the ``host``; and the paths that were ``restored``.

    Raises CommandExecutionError if there is no such backup, or if it is not root who asks.

    CLI Example:

    .. code-block:: bash

        salt-call --local orthanc_restore.settings /srv/backup/orthanc /root/password
    """
    __salt__["orthanc_host.require_root"]()
    folder = __salt__["orthanc_backup_job.folder"]()
    given = {name: value for name, value in os.environ.items() if CREDENTIAL.match(name)}
    job = {"repository": repository, "password_file": password, "environment": given}
    job.update(folder=folder, host=host)
    __salt__["orthanc_backup_job.put"](folder, {})
    backup = __salt__["orthanc_restic.snapshots"](job, host)[-1:]
    if not backup:
        raise CommandExecutionError("there is no such backup in the repository")
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


def into_folder(job, backup, target, study=None):
    """
    Part of the formula. Restore a backup, or the images of one study in it, into a folder.

    job
        See ``orthanc_backup_job.job``.

    backup
        What ``chosen`` returned.

    target
        The path of the folder, which is empty or not there.

    study
        The Orthanc identifier or the StudyInstanceUID of a study. Its images become DICOM files.

    Returns a list of the paths of the DICOM files, or of what is right below the folder.
    """
    if not os.path.isabs(target) or (os.path.isdir(target) and os.listdir(target)):
        raise SaltInvocationError(f"target must be the path of an empty folder, and not {target}")
    os.makedirs(target, mode=0o700, exist_ok=True)
    if not study:
        __salt__["orthanc_restic.restore"](job, backup["id"], target, ["/"])
        return sorted(os.path.join(target, entry) for entry in os.listdir(target))
    manifest = __salt__["orthanc_restic.manifest"](job, backup["id"])
    if manifest["database"] or not manifest["files"]:
        raise CommandExecutionError(
            "one study alone can be restored of an index in SQLite only; restore all into a folder"
        )
    aside = os.path.join(target, ASIDE)
    try:
        __salt__["orthanc_restic.restore"](job, backup["id"], aside, [manifest["aside"]])
        with __salt__["orthanc_index.of_copy"](f"{aside}{manifest['aside']}/index") as index:
            files = _of_study(index, study)
        path_of = __salt__["orthanc_images.path_of"]
        paths = {uuid: path_of(manifest["storage"], uuid) for _, uuid, _ in files}
        __salt__["orthanc_restic.restore"](job, backup["id"], aside, paths.values())
        return [
            _write_image(aside + paths[uuid], os.path.join(target, f"{image}.dcm"), kind)
            for image, uuid, kind in files
        ]
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _of_study(index, study: str) -> list:
    if not re.fullmatch("[0-9a-f.-]+", study):
        raise SaltInvocationError(
            f"study must be an Orthanc identifier or a StudyInstanceUID, and not {study}"
        )
    found = index.ask(STUDY.format(name=study))
    if not found:
        raise CommandExecutionError(f"the study {study} is not in this backup")
    return index.ask(FILES.format(name=found[0][0]))


def _write_image(path: str, target: str, kind: int) -> str:
    with salt.utils.files.fopen(path, "rb") as file:
        content = file.read()
    if kind == COMPRESSED:
        content = zlib.decompress(content[HEAD:])
    with salt.utils.files.fopen(target, "wb") as file:
        file.write(content)
    return target


def whole(job, backup, options, address, overwrite=False):
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

    overwrite
        See ``prepare``.

    Returns a mapping: where what the server had is ``kept``, None where it had nothing, and how
    many seconds it was ``away``.

    Raises CommandExecutionError if that failed; called again, it goes on.
    """
    account = __salt__["orthanc_backup_job.account"](job)
    manifest = prepare(job, backup, options, account, overwrite)
    began = time.monotonic()
    log.info("Stopping the server for what was restored")
    __salt__["service.stop"](__salt__["orthanc_tables.get"]("SERVER"))
    with __salt__["orthanc_files.failing"]("putting the backup in place"):
        kept = put(options, account, manifest)
    __salt__["service.start"](__salt__["orthanc_tables.get"]("SERVER"))
    while not __salt__["orthanc_http.answers"](address):
        if time.monotonic() - began > PATIENCE:
            raise CommandExecutionError("the backup is in place, and Orthanc does not answer yet")
        time.sleep(0.1)
    return {"kept": kept, "away": round(time.monotonic() - began, 1)}


def prepare(job, backup, options, account, overwrite=False):
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

    Returns what is where in the backup; see ``orthanc_restic.manifest``.

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
    if __salt__["orthanc_files.read_if_there"](marker) == backup["id"]:
        return manifest
    if not overwrite:
        _refuse_images(options, account)
    shutil.rmtree(aside, ignore_errors=True)
    needed = dict(tag.partition("=")[::2] for tag in backup["tags"]).get("bytes", 0)
    free = shutil.disk_usage(options["StorageDirectory"]).free
    if int(needed) > free:
        raise CommandExecutionError(
            f"the backup has {int(needed) >> 20} MB of images, and {options['StorageDirectory']}"
            f" {free >> 20} MB of free space; make room first"
        )
    os.mkdir(aside, 0o700)
    wanted = [manifest["aside"], *([manifest["storage"]] if manifest["files"] else [])]
    __salt__["orthanc_restic.restore"](job, backup["id"], aside, wanted)
    if is_database:
        dump = f"{aside}{manifest['aside']}/database.dump"
        _fill_database(options, account, dump)
    else:
        with __salt__["orthanc_index.of_copy"](f"{aside}{manifest['aside']}/index") as index:
            index.images()
    __salt__["orthanc_files.write"](marker, backup["id"], 0o600)
    return manifest


def _refuse_images(options: dict, account: dict) -> None:
    there = os.path.isfile(os.path.join(options["IndexDirectory"], "index"))
    if there or not __salt__["orthanc_postgresql.is_sqlite"](options):
        with __salt__["orthanc_index.opened"](options, account) as index:
            images = index.images()
    else:
        images = sum(1 for _ in __salt__["orthanc_identity.uuids"](options["StorageDirectory"]))
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
        path = os.path.join(restored, entry)
        if FOLDER.fullmatch(entry):
            for inside, folders, files in os.walk(path):
                for each in (".", *folders, *files):
                    os.chown(os.path.join(inside, each), owner.pw_uid, owner.pw_gid)
            os.rename(path, os.path.join(storage, entry))
    if manifest["database"]:
        _exchange_databases(options, account)
    else:
        # The index may have a disk of its own, to which it is copied.
        here = os.path.join(folder, ".index.restored")
        if os.path.exists(index):
            shutil.move(index, here)
        if os.path.exists(here):
            os.chown(here, owner.pw_uid, owner.pw_gid)
            os.chmod(here, 0o640)
            os.rename(here, os.path.join(folder, "index"))
    shutil.rmtree(aside)
    return kept


def _keep(storage: str, folder: str, aside: str):
    """Move what the server has out of the way, once, and return where it is."""
    note = os.path.join(aside, "kept")
    known = json.loads(__salt__["orthanc_files.read_if_there"](note) or "null")
    if known is None:
        known = os.path.join(storage, BEFORE.format(int(time.time())))
        __salt__["orthanc_files.write"](note, json.dumps(known), 0o600)
    begun = os.path.join(aside, "begun")
    if not os.path.exists(begun):
        os.makedirs(known, mode=0o700, exist_ok=True)
        entries = [entry for entry in os.listdir(storage) if FOLDER.fullmatch(entry)]
        paths = [os.path.join(storage, entry) for entry in entries]
        for path in [*paths, *(os.path.join(folder, entry) for entry in INDEX)]:
            if os.path.lexists(path):
                shutil.move(path, os.path.join(known, os.path.basename(path)))
        __salt__["orthanc_files.write"](begun, "", 0o600)
    with contextlib.suppress(OSError):
        os.rmdir(known)
    return known if os.path.isdir(known) else None


def _fill_database(options: dict, account: dict, dump: str) -> None:
    section = __salt__["orthanc_postgresql.section_of"](options)
    parameters = __salt__["orthanc_postgresql.parameters_of"](section) or {}
    name = parameters.get("dbname", account["user"])
    if not __salt__["orthanc_postgresql.is_local"](parameters):
        raise CommandExecutionError(
            "the database is on another host; restore all into a folder, and database.dump in it"
            " with pg_restore"
        )
    new = NEW.format(name)
    _sql(parameters, f'DROP DATABASE IF EXISTS "{new}"')
    _sql(parameters, f'CREATE DATABASE "{new}" OWNER "{account["user"]}"')
    other = {**parameters, "dbname": new}
    __salt__["orthanc_postgresql.restore"](_section(other), dump, **account)


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
