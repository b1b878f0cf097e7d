"""
Backups of the Orthanc server on this host, and the key with which they leave it.
"""

from __future__ import annotations

# One of the files of which Salt makes the module ``orthanc``.
__virtualname__ = "orthanc"


def __virtual__():
    return __virtualname__


def backup():
    """
    Make a backup now, and wait until it is done; one that runs already is waited for. The server
    goes on meanwhile.

    Returns a mapping: when it began, ``time`` in seconds since 1970, and its ``duration`` in
    seconds; the ``snapshot``, by which restic knows it; how many ``images`` and ``files`` the index
    knew; how many bytes were added, ``bytes_added``; the files that were ``deleted`` before they
    were read, and those that are ``lost``, which the index goes on to know; and a ``warning``, or
    None.

    Raises CommandExecutionError if there is no backup, or if it is not root who asks.

    CLI Example:

    .. code-block:: bash

        salt '*' orthanc.backup
    """
    return __salt__["orthanc_backup.now"]("backup")


def backups():
    """
    Return the backups in the repository, also those of other hosts, the newest first: a list of
    mappings with the ``host``, the ``time``, the ``snapshot``, by which restic knows it, and how
    many ``images`` and ``bytes`` of files the index knew.

    Raises CommandExecutionError if it cannot be opened, or if it is not root who asks.

    CLI Example:

    .. code-block:: bash

        salt '*' orthanc.backups
    """
    __salt__["orthanc_host.require_root"]()
    found = []
    for one in reversed(__salt__["orthanc_restic.snapshots"](__salt__["orthanc_backup_job.job"]())):
        known = {"host": one["hostname"], "time": one["time"], "snapshot": one["short_id"]}
        tags = dict(tag.partition("=")[::2] for tag in one["tags"])
        known.update({name: int(tags[name]) for name in ("images", "bytes") if name in tags})
        found.append(known)
    return found


def backup_key(path=None, remote_user=None, saltenv=None, pillarenv=None):
    """
    Return the public key with which Orthanc's account logs in to the backup host, and how to use
    it, as a mapping of texts.

    path
        The path of the private key; by default the one of the pillar.

    remote_user
        The account on the backup host; by default the one of the pillar.

    saltenv, pillarenv
        The environments that formula and pillar are of; by default those of the minion.

    Raises CommandExecutionError if there is no such key, or if the formula cannot be rendered here
    (over salt-ssh: give both arguments), or if it is not root who asks.

    CLI Example:

    .. code-block:: bash

        salt '*' orthanc.backup_key
        salt-ssh '*' orthanc.backup_key /var/lib/orthanc/.ssh/id_ed25519 backup
    """
    __salt__["orthanc_host.require_root"]()
    service = __salt__["orthanc_tables.get"]("SERVER")
    environments = {"saltenv": saltenv, "pillarenv": pillarenv}
    return __salt__["orthanc_backup_key.shown"](path, remote_user, service, environments)


def drill():
    """
    Restore the newest backup of this host aside, start the real Orthanc on it, hold each image
    against its MD5, and throw it away. The server goes on meanwhile. It needs as much room on the
    disk of the images as these have, or so many per cent of it as ``orthanc:backup:drill_sample``
    says.

    Returns a mapping: when it began, ``time`` in seconds since 1970, and its ``duration`` in
    seconds, which is how long a restore takes; the ``snapshot``, when it was ``made``, and the
    identifier of its ``repository``; how many ``images`` it knows, how many files were ``read``,
    and how many images Orthanc itself has ``served``; and the files that were ``deleted`` while the
    backup was made.

    Raises CommandExecutionError if the backup is not good, or if it is not root who asks.

    CLI Example:

    .. code-block:: bash

        salt '*' orthanc.drill
    """
    return __salt__["orthanc_backup.now"]("drill")


def restore(snapshot="latest", target=None, study=None, host=None, overwrite=False, again=False):
    """
    Restore a backup: all of it into this server, which has no images yet, or into a folder; or the
    images of one study.

    snapshot
        How the identifier of a backup begins, which ``orthanc.backups`` tells; by default the last
        one.

    target
        The path of an empty folder that is none of Orthanc's own: there all is restored, and the
        server is left alone. Without one, images and index take the place of what the server has.
        It goes on until all is restored, and is away only for the change.

    study
        The Orthanc identifier or the StudyInstanceUID of a study, whose images are written into
        ``target`` as DICOM files.

    host
        The name of the host that the backup is of; by default this one.

    overwrite
        True puts the backup in the place of images that the server has. They are kept.

    again
        True does that too, and restores only what is new: a file that an earlier restore has
        brought, known by its name and size, is taken as it is. For the second pass of a move.

    Returns a list of paths in ``target``; or a mapping: the ``snapshot``, when it was ``made``, how
    many ``images`` it knows, and how many files it lacks or has not whole, ``damaged``, as of what
    was deleted while it was made (``orthanc.verify`` names them); where what the server had is
    ``kept``, and for how many seconds it was ``away``.

    Raises CommandExecutionError if the server has images, or if there is no such backup, and
    SaltInvocationError for a value of overwrite or again that is neither True nor False.

    CLI Example:

    .. code-block:: bash

        salt '*' orthanc.restore target=/srv/restored
        salt '*' orthanc.restore target=/srv/study study=1.2.840.113619.2.1
    """
    __salt__["orthanc_host.require_root"]()
    __salt__["orthanc_host.require_flags"]({"overwrite": overwrite, "again": again})
    name = __salt__["orthanc_folder.chosen"]()
    options = __salt__["orthanc_folder.located"](name)
    job = __salt__["orthanc_backup_job.job"]()
    if snapshot == "latest" and target is None:
        snapshot = __salt__["orthanc_restore.begun"](job, options) or snapshot
    chosen = __salt__["orthanc_restore.chosen"](job, snapshot, host)
    if target is not None or study is not None:
        return __salt__["orthanc_extract.into_folder"](job, chosen, options, target, study)
    address = __salt__["orthanc_server.url"](name)
    return __salt__["orthanc_restore.whole"](job, chosen, options, address, overwrite, again)
