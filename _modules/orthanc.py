"""
The Orthanc server on this host: whether it answers, how to reach it, why it does not start.

https://orthanc.uclouvain.be/book/users/rest.html
"""

from __future__ import annotations

import os

# Where Debian's package logs; openSUSE's does into the journal.
PACKAGES_LOG = "/var/log/orthanc"
# For how many seconds to wait for an answer.
PATIENCE = 2


def answers(address=None):
    """
    Return whether an Orthanc answers at an address.

    address
        The URL of its REST API; by default that of the Orthanc on this host, also if nginx is in
        front of it. No password is needed: being asked for one is an answer.

    The exit code of salt-call is 1 if it does not.

    CLI Example:

    .. code-block:: bash

        salt '*' orthanc.answers
    """
    address = address or __salt__["orthanc_server.url"](_folder(None))
    found = __salt__["orthanc_http.answers"](address, PATIENCE)
    if not found:
        __context__["retcode"] = 1
    return found


def health(config=None):
    """
    Say whether the server is well: its process, its REST API, its index, the disks, the DICOM port,
    certificates, jobs, associations that were refused since the last look, backups, and whether it
    runs with its configuration as it is. It takes three seconds at most, whatever hangs.

    config
        The path of the folder of the configuration; by default that of the service.

    Returns a mapping: the ``verdict``, which is ok, warning or critical; the ``reasons``, a list of
    sentences, the worst first; the ``figures`` of each check; and the verdict of each of the
    ``checks``. The exit code, where Salt passes it on (``--retcode-passthrough``), is 0, 1 or 2.

    Raises CommandExecutionError if it is not root who asks.

    CLI Example:

    .. code-block:: bash

        salt '*' orthanc.health
    """
    found = __salt__["orthanc_health.look"](config)
    __context__["retcode"] = __salt__["orthanc_verdict.code"](found["verdict"])
    return found


def nagios(config=None):
    """
    Say whether the server is well, in one line as Nagios and Icinga take it; see
    ``orthanc.health``.

    config
        The path of the folder of the configuration; by default that of the service.

    The exit code, where Salt passes it on (``--retcode-passthrough``), is 0, 1 or 2, and 3 where it
    cannot be told, as where it is not root who asks.

    CLI Example:

    .. code-block:: bash

        salt-call --retcode-passthrough --out=txt orthanc.nagios
    """
    return __salt__["orthanc_health.nagios"](config)


def restart(service=None):
    """
    Restart Orthanc, or start it, also where systemd has given it up after too many failures. One
    that was started a moment ago is waited for, because it may be making its index.

    service
        The name of the service; by default the one that the packages bring.

    Returns whether that succeeded, which does not say yet that Orthanc serves; ``orthanc.answers``
    does.

    Raises CommandExecutionError if it is not root who asks.

    No example, because it interrupts the server that it is typed on.
    """
    __salt__["orthanc_host.require_root"]()
    return __salt__["orthanc_server.restart"](service or _server())


def _server() -> str:
    """Return how the packages call the service and its account."""
    return __salt__["orthanc_tables.get"]("SERVER")


def backend(config):
    """
    Return where the Orthanc that runs keeps its index: "PostgreSQL", "SQLite", None for something
    else or where none runs, or "unknown" where this process may not look at others, as in a
    container without CAP_SYS_PTRACE.

    It is told by the files that the process has open, because Orthanc itself tells it only to
    those who have a password.

    config
        The path of the folder of the configuration.

    CLI Example:

    .. code-block:: bash

        salt '*' orthanc.backend /etc/orthanc
    """
    return __salt__["orthanc_server.backend"](config)


def errors(service=None, log="", count=10, config=None):
    """
    Return the last error lines that Orthanc logged since it was last started, a list of texts;
    without any, its last lines.

    service
        The name of the service; by default the one that the packages bring.

    log
        The path of the folder of the logs; None for the journal. By default the one of the pillar,
        or the one that Debian's package has if it is there.

    count
        How many lines at most.

    config
        The path of the folder of the configuration, whose secrets are hidden; by default the one
        of the pillar.

    CLI Example:

    .. code-block:: bash

        salt '*' orthanc.errors
    """
    if log == "":
        log = _paths().get("log") or (PACKAGES_LOG if os.path.isdir(PACKAGES_LOG) else None)
    name = service or _server()
    return __salt__["orthanc_server.errors"](name, log, _folder(config), count)


def _folder(config):
    """Return the path of the folder of the configuration: the one given, or that of the pillar."""
    return config or _paths().get("config") or "/etc/orthanc"


def _paths() -> dict:
    """Return the paths that the pillar gives."""
    return (__pillar__.get("orthanc") or {}).get("paths") or {}


def access(config=None):
    """
    Return how people reach Orthanc: its addresses, and who may log in, as a mapping of texts.

    config
        The path of the folder of the configuration; by default the one of the pillar.

    CLI Example:

    .. code-block:: bash

        salt '*' orthanc.access
    """
    return __salt__["orthanc_server.access"](_folder(config))


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


def repair(test=True, rate=50, config=None):
    """
    Put right what is certain among what ``orthanc.verify`` finds: a damaged file is put back where
    an orphan has its content, and an orphan with the content of a sound file goes.

    test
        False does it; otherwise it is only said what would be done.

    rate, config
        See ``orthanc.verify``.

    Returns a mapping: the files that are ``put back``, each with the orphan; the orphans that are
    ``removed``; the files that are ``left``, of which nothing is certain; and the ``studies`` whose
    files are still damaged.

    Raises CommandExecutionError if the index cannot be read, or if it is not root who asks.

    CLI Example:

    .. code-block:: bash

        salt '*' orthanc.repair
    """
    _, options = _images(config)
    return __salt__["orthanc_images.repair"](options, _account(), test, rate)


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

    Raises CommandExecutionError if it cannot be moved; then the server goes on with the old one.

    CLI Example:

    .. code-block:: bash

        salt '*' orthanc.move_index test=True
    """
    __salt__["orthanc_host.require_root"]()
    name = _folder(None)
    if forget:
        return __salt__["orthanc_move.forget"](name)
    return __salt__["orthanc_move.run"](name, lose, test)


def _images(config) -> tuple:
    """Return the folder of the configuration, and its options with the places of the images."""
    __salt__["orthanc_host.require_root"]()
    name = _folder(config)
    return name, __salt__["orthanc_folder.located"](name)


def _account() -> dict:
    """Return the names of Orthanc's user and group."""
    return dict.fromkeys(("user", "group"), _server())


def try_upgrade(version=None):
    """
    Try another version of Orthanc with the pillar as it stands, before it is installed: its
    packages are downloaded, unpacked aside, and thrown away, and the server goes on meanwhile.

    version
        The version of the package, as ``orthanc:version`` takes it; by default the newest one.

    Returns a mapping: the ``version`` now and then; the ``packages`` that would change; ``options``
    that the formula would write for it, and ``defaults`` that are others; what becomes of the
    ``index``; ``warnings``; and the ``problems``, with which the exit code of salt-call is 1.

    Raises CommandExecutionError if no package source has the version, if there is no room for it,
    or if it is not root who asks.

    CLI Example:

    .. code-block:: bash

        salt '*' orthanc.try_upgrade
    """
    return __salt__["orthanc_upgrade.asked"](version and str(version))


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
    environments = {"saltenv": saltenv, "pillarenv": pillarenv}
    return __salt__["orthanc_backup_key.shown"](path, remote_user, _server(), environments)


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


def restore(snapshot="latest", target=None, study=None, host=None, overwrite=False):
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

    Returns a list of paths in ``target``; or a mapping: where what the server had is ``kept``, and
    for how many seconds it was ``away``.

    Raises CommandExecutionError if the server has images, or if there is no such backup.

    CLI Example:

    .. code-block:: bash

        salt '*' orthanc.restore target=/srv/restored
        salt '*' orthanc.restore target=/srv/study study=1.2.840.113619.2.1
    """
    name, options = _images(None)
    job = __salt__["orthanc_backup_job.job"]()
    if snapshot == "latest" and target is None:
        snapshot = __salt__["orthanc_restore.begun"](job, options) or snapshot
    chosen = __salt__["orthanc_restore.chosen"](job, snapshot, host)
    if target is not None or study is not None:
        return __salt__["orthanc_extract.into_folder"](job, chosen, options, target, study)
    address = __salt__["orthanc_server.url"](name)
    return __salt__["orthanc_restore.whole"](job, chosen, options, address, overwrite)


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
    not come to its end, or if it is not root who asks.

    CLI Example:

    .. code-block:: bash

        salt '*' orthanc.retention
        salt '*' orthanc.retention limit=1000
    """
    __salt__["orthanc_host.require_root"]()
    if test:
        return __salt__["orthanc_retention.listed"](limit)
    return __salt__["orthanc_retention.start"]()


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
    return __salt__["orthanc_restic.listed"](__salt__["orthanc_backup_job.job"]())
