"""
A backup restored into a folder: all of it, or the images of one study as DICOM files.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import zlib

import salt.utils.files
from salt.exceptions import CommandExecutionError, SaltInvocationError

# The folder for what is restored only to be looked at, below the target.
ASIDE = ".orthanc-restore"
# The folder for files of a backup that may replace damaged ones, below that of the images.
SPARE = ".orthanc-spare"
# Of a study: its Orthanc identifier, or its StudyInstanceUID.
NAME = re.compile("[0-9a-f.-]+")
# How many of the images that a backup has not are named.
NAMED = 20
# How Orthanc compresses a file: how long it was in 8 bytes, and zlib.
COMPRESSED, HEAD = 2, 8
STUDY = (
    "SELECT r.publicId FROM Resources r LEFT JOIN DicomIdentifiers d ON d.id = r.internalId"
    " AND d.tagGroup = 32 AND d.tagElement = 13"
    " WHERE r.resourceType = 2 AND '{name}' IN (r.publicId, d.value)"
)
# The files of the images of a study, and what they should be.
FILES = (
    "SELECT i.publicId, a.uuid, a.compressionType, a.compressedSize, a.compressedMD5"
    " FROM Resources s JOIN Resources x ON x.parentId = s.internalId"
    " JOIN Resources i ON i.parentId = x.internalId"
    " JOIN AttachedFiles a ON a.id = i.internalId AND a.fileType = 1 WHERE s.publicId = '{name}'"
)


def into_folder(job, backup, options, target, study=None):
    """
    Part of the formula. Restore a backup, or the images of one study in it, into a folder.

    job
        See ``orthanc_backup_job.job``.

    backup
        What ``chosen`` returned.

    options
        A mapping from option name to value, with the places of images and index.

    target
        The path of the folder, which is empty or not there.

    study
        The Orthanc identifier or the StudyInstanceUID of a study. Its images become DICOM files.

    Returns a list of the paths of the DICOM files, or of what is right below the folder.

    Raises SaltInvocationError if this is no such folder or no name of a study,
    CommandExecutionError if it cannot be restored; then the folder is empty again, unless it is
    for some images of the study only that the backup has no sound file.
    """
    if study is not None and not (isinstance(study, str) and NAME.fullmatch(study)):
        raise SaltInvocationError(
            f"study must be an Orthanc identifier or a StudyInstanceUID, and not {study}"
        )
    own = [job["config"], options["StorageDirectory"], options["IndexDirectory"]]
    if not _is_free(target, own):
        raise SaltInvocationError(
            "target must be the path of an empty folder that is none of Orthanc's own, and not"
            f" {'missing' if target is None else repr(target)}"
        )
    with __salt__["orthanc_files.failing"](f"restoring into {target}"):
        os.makedirs(target, mode=0o700, exist_ok=True)
        try:
            if study:
                written, lacking = _study_into(job, backup, target, study)
            else:
                __salt__["orthanc_restic.restore"](job, backup["id"], target, ["/"])
                written, lacking = [os.path.join(target, each) for each in os.listdir(target)], []
        except BaseException:
            # Who calls it again, does so with the same folder.
            for entry in os.scandir(target):
                shutil.rmtree(entry) if entry.is_dir(follow_symlinks=False) else os.unlink(entry)
            raise
    if lacking:
        others = f"; the other {len(written)} are in {target}" if written else ""
        raise CommandExecutionError(
            f"of {len(lacking)} images of the study this backup has no sound file"
            f" ({', '.join(lacking[:NAMED])}){others}. An earlier one may have them: snapshot="
            " takes one of those that orthanc.backups lists, and target= another folder"
        )
    return sorted(written)


@contextlib.contextmanager
def spare(job, backup, options, uuids):
    """
    Part of the formula. Give for a ``with`` block the path of a folder with files of images as they
    are in a backup.

    job, backup, options
        See ``into_folder``.

    uuids
        A list of the names of the files.

    Raises CommandExecutionError if they cannot be restored.
    """
    manifest = __salt__["orthanc_restic.manifest"](job, backup["id"])
    aside = os.path.join(options["StorageDirectory"], SPARE)
    paths = [__salt__["orthanc_images.path_of"](manifest["storage"], uuid) for uuid in uuids]
    with __salt__["orthanc_backup_job.alone"](job["folder"], "a backup, or a restore,"):
        # A killed run may have left one.
        __salt__["orthanc_planted.remove"](aside)
        try:
            with __salt__["orthanc_files.failing"]("making room for files of the backup"):
                os.mkdir(aside, 0o700)
            __salt__["orthanc_restic.restore"](job, backup["id"], aside, paths)
            yield aside + manifest["storage"]
        finally:
            __salt__["orthanc_planted.remove"](aside)


def _is_free(target, own: list) -> bool:
    """Return whether something may be restored into a folder."""
    if not isinstance(target, str) or not os.path.isabs(target) or "\0" in target:
        return False
    real = f"{os.path.realpath(target)}/"
    if any(real.startswith(f"{os.path.realpath(path)}/") for path in own):
        return False
    return not os.path.lexists(target) or (os.path.isdir(target) and not os.listdir(target))


def _study_into(job: dict, backup: dict, target: str, study: str) -> tuple:
    """Write the images of a study into a folder. Return their paths, and the names of those that
    are missing in the backup, or damaged: no file is taken for one that it is not.
    """
    manifest = __salt__["orthanc_restic.manifest"](job, backup["id"])
    if not manifest["files"]:
        raise CommandExecutionError(
            "the images of this backup are in its database, of which one study alone cannot be"
            " restored; restore all into a folder, and database.dump in it with pg_restore"
        )
    aside = os.path.join(target, ASIDE)
    try:
        __salt__["orthanc_restic.restore"](job, backup["id"], aside, [manifest["aside"]])
        opened, name = __salt__["orthanc_index.of_copy"], "index"
        if manifest["database"]:
            opened, name = __salt__["orthanc_index.of_dump"], "database.dump"
        with opened(f"{aside}{manifest['aside']}/{name}") as index:
            files = _of_study(index, study)
        path_of = __salt__["orthanc_images.path_of"]
        paths = {uuid: path_of(manifest["storage"], uuid) for _, uuid, *_ in files}
        __salt__["orthanc_restic.restore"](job, backup["id"], aside, paths.values())
        known = {uuid: (int(size), md5, image) for image, uuid, _, size, md5 in files}
        found = __salt__["orthanc_images.damaged"](aside + manifest["storage"], known)
        bad = __salt__["orthanc_images.bad"](found)
        written = [
            _write_image(aside + paths[uuid], os.path.join(target, f"{image}.dcm"), kind)
            for image, uuid, kind, *_ in files
            if uuid not in bad
        ]
        return written, sorted(image for image, uuid, *_ in files if uuid in bad)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _of_study(index, study: str) -> list:
    found = index.ask(STUDY.format(name=study))
    if not found:
        raise CommandExecutionError(
            f"the study {study} is not in this backup; snapshot= takes another one, of those that"
            " orthanc.backups lists"
        )
    if len(found) > 1:
        names = ", ".join(name for (name,) in found)
        raise CommandExecutionError(
            f"studies of several patients are called {study}; name one by its Orthanc identifier:"
            f" {names}"
        )
    return index.ask(FILES.format(name=found[0][0]))


def _write_image(path: str, target: str, kind: int) -> str:
    """Write an image, for root alone: the folder may be open to others."""

    def opener(name: str, flags: int) -> int:
        return os.open(name, flags | os.O_NOFOLLOW, 0o600)

    with salt.utils.files.fopen(path, "rb", opener=opener) as file:
        content = file.read()
    if kind == COMPRESSED:
        content = zlib.decompress(content[HEAD:])
    with salt.utils.files.fopen(target, "wb", opener=opener) as file:
        file.write(content)
    return target
