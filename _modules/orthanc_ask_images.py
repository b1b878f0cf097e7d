"""
Images and index of the Orthanc server on this host: verified, repaired, moved; old ones deleted.
"""

from __future__ import annotations

import functools

# One of the files of which Salt makes the module ``orthanc``.
__virtualname__ = "orthanc"


def __virtual__():
    return __virtualname__


def verify(sample=100, rate=50, config=None):
    """
    Say which files of the images are lost or damaged, and which no index knows, while the server
    runs and goes on serving.

    sample
        Of how many per cent of the files the content is read and held against its MD5. All are
        looked at, whether they are there and have their size.

    rate
        How many megabytes are read in a second at most; 0 for as many as the disk gives.

    config
        The path of the folder of the configuration; by default the one of the pillar.

    Returns a mapping: how many ``files`` the index knows, of how many the content was ``read``;
    which of them are ``missing``, ``empty`` or ``wrong``; the ``orphans``, files that the index
    does not know; and the ``studies`` with damaged files, by their Orthanc identifiers: let the
    devices send these again, with ``overwrite_instances: true``. The exit code of salt-call is 1 if
    files are damaged.

    Raises CommandExecutionError if the index cannot be read, or if it is not root who asks.

    CLI Example:

    .. code-block:: bash

        salt '*' orthanc.verify
        salt '*' orthanc.verify sample=5 rate=20
    """
    name, options = _images(config)
    found = __salt__["orthanc_images.verify"](options, _account(), sample, rate)
    __salt__["orthanc_images.note"](name, found)
    if found["missing"] or found["empty"] or found["wrong"]:
        __context__["retcode"] = 1
    return found


def repair(test=True, rate=50, config=None, snapshot=None, host=None):
    """
    Put right what is certain among what ``orthanc.verify`` finds: a damaged file is put back where
    an orphan has its content, or a backup, and an orphan with the content of a sound file goes.

    test
        False does it; otherwise it is only said what would be done.

    rate, config
        See ``orthanc.verify``.

    snapshot
        How the identifier of a backup begins, which ``orthanc.backups`` tells, or ``latest``: what
        is damaged is looked for in that one, too.

    host
        The name of the host that the backup is of; by default this one.

    Returns a mapping: the files that are ``put back``, each with where that is from; the
    orphans that are ``removed``; the files that are ``left``, of which nothing is certain; and the
    ``studies`` whose files are still damaged.

    Raises CommandExecutionError if index or backup cannot be read, or if it is not root who asks,
    and SaltInvocationError for a value of test that is neither True nor False.

    CLI Example:

    .. code-block:: bash

        salt '*' orthanc.repair
    """
    __salt__["orthanc_host.require_flags"]({"test": test})
    _, options = _images(config)
    spare = None
    if snapshot is not None:
        job = __salt__["orthanc_backup_job.job"]()
        chosen = __salt__["orthanc_restore.chosen"](job, snapshot, host)
        spare = functools.partial(__salt__["orthanc_extract.spare"], job, chosen, options)
    return __salt__["orthanc_images.repair"](options, _account(), test, rate, spare)


def _images(config) -> tuple:
    """Return the folder of the configuration, and its options with the places of the images."""
    __salt__["orthanc_host.require_root"]()
    name = __salt__["orthanc_folder.chosen"](config)
    return name, __salt__["orthanc_folder.located"](name)


def _account() -> dict:
    """Return the names of Orthanc's user and group."""
    return dict.fromkeys(("user", "group"), __salt__["orthanc_tables.get"]("SERVER"))


def move_index(forget=False, lose=False, test=False):
    """
    Move the index of all images to where the pillar has it, from SQLite to PostgreSQL or back, and
    apply the pillar. The images stay where they are; the server is away while the index is copied.
    The old index is kept.

    forget
        True lets go of the old indexes that are kept, and does nothing else.

    lose
        True lets what does not go along be lost: jobs that have not ended, modalities and peers
        that are kept in the index, and what plugins keep there.

    test
        True only says what would be done.

    Returns a mapping: where the index comes ``from``, how many ``images`` it knows, what is
    ``lost``, for how many seconds the server was ``away``, and where the old one is ``kept``; or
    which ones are ``forgotten``.

    Raises CommandExecutionError if it cannot be moved; then the server goes on with the old one;
    and SaltInvocationError for an argument that is neither True nor False.

    CLI Example:

    .. code-block:: bash

        salt '*' orthanc.move_index test=True
    """
    __salt__["orthanc_host.require_root"]()
    __salt__["orthanc_host.require_flags"]({"forget": forget, "lose": lose, "test": test})
    name = __salt__["orthanc_folder.chosen"]()
    if forget:
        return __salt__["orthanc_move.forget"](name)
    return __salt__["orthanc_move.run"](name, lose, test)


def retention(limit=20, test=True):
    """
    Say which studies would be deleted by ``orthanc:retention``, and why others are not.

    limit
        How many of them are listed, the oldest first.

    test
        False deletes them now, as systemd does it at night, and waits until that is done; it may
        take ``orthanc:retention:hours``. Nothing is deleted as long as
        ``orthanc:retention:dry_run`` is true.

    Returns a mapping: how many ``studies`` there are, and how many of them are ``due``, how many
    ``bytes`` their images have, and how many ``nights`` it takes to delete them; how many studies
    are ``held back`` for which reason; why ``nothing is deleted`` now, a list of sentences, empty
    where there is no reason; and the ``list``. With ``test=False``, how many were ``deleted``, how
    many were ``kept`` because they had changed, and what else the log says of the run.

    Raises CommandExecutionError if there are no rules, if the index cannot be read, if deletion did
    not come to its end, or if it is not root who asks; and SaltInvocationError for a limit that is
    no whole number from 1 on, or a value of test that is neither True nor False.

    CLI Example:

    .. code-block:: bash

        salt '*' orthanc.retention
        salt '*' orthanc.retention limit=1000
    """
    __salt__["orthanc_host.require_root"]()
    __salt__["orthanc_host.require_flags"]({"test": test})
    __salt__["orthanc_host.require_number"]("limit", limit)
    if test:
        return __salt__["orthanc_retention.listed"](limit)
    return __salt__["orthanc_retention.start"]()
