"""
Backups of the server, which systemd makes by itself.

The work is done by the execution module :py:mod:`orthanc_backup`.
"""

import os

from salt.exceptions import CommandExecutionError, SaltInvocationError

__virtualname__ = "orthanc_backup"

# Said where a password was made.
KEEP = (
    "KEEP A COPY of {folder}/password in another place, such as the password safe of the site: it"
    " was made on this host and is lost with it, and without it NOBODY can open the backups"
)


def __virtual__():
    if "orthanc_backup.make" not in __salt__:
        return False, "orthanc_backup: the execution module of this name is not on this minion"
    return __virtualname__


def present(name, job, schedules):
    """
    Ensure that backups are made. What is wrong with the last one is warned about.

    name
        The path of the folder for what they need, which is closed to all but root. The password in
        it is never replaced by one that does not open the backups that there are.

    job
        A mapping: ``repository``, ``password``, ``environment``, ``keep`` and ``limit_upload`` as
        the pillar has them, and so ``drill_sample``; ``config``, the path of the folder of the
        configuration; ``command``, the path of Orthanc's program; the names of its ``user`` and
        ``group``; ``key``, the path of the SSH key for another host, or None; and more paths that
        are to be in the backup: ``files``, which the formula makes, and ``named``, which the pillar
        names. In the place of a secret is a reference to the pillar; see ``orthanc_pillar``.

    schedules
        When systemd is to start the ``backup`` and the ``drill``, as OnCalendar of systemd.time(7)
        has it; None for never.

    .. code-block:: yaml

        /etc/orthanc-backup:
          orthanc_backup.present:
            - job:
                repository: /srv/backup
                environment: {}
                keep: {daily: 7}
                limit_upload: 0
                drill_sample: 100
                config: /etc/orthanc
                command: /usr/sbin/Orthanc
                user: orthanc
                group: orthanc
                key: null
                files: []
                named: []
            - schedules: {backup: '02:00', drill: weekly}
    """
    ret = {"name": name, "result": True, "changes": {}, "comment": "Backups are set up"}
    try:
        job = __salt__["orthanc_pillar.resolve"](job)
        lacks = __salt__["orthanc_backup.lacks"](name, job, schedules)
        ret["changes"] = __salt__["orthanc_files.changes"](lacks)
        if lacks and __opts__["test"]:
            ret.update(result=None, comment="Backups would be set up")
            return ret
        if lacks:
            __salt__["orthanc_backup.make"](name, job, schedules)
            ret["comment"] = "Backups were set up"
        told = __salt__["orthanc_backup.warnings"](name, job, schedules)
        if "made" in lacks.values():
            told.insert(0, KEEP.format(folder=name))
        if told:
            ret["comment"] += "\nWarnings:\n- " + "\n- ".join(told)
            ret["warnings"] = [f"{len(told)}, each on a line of its own in the comment"]
    except (CommandExecutionError, SaltInvocationError) as err:
        ret.update(result=False, changes={}, comment=str(err))
    return ret


def absent(name):
    """
    Ensure that no backups are made any more. What was made stays where it is, and so does the
    password, of which there may be no other copy.

    name
        The path of the folder for what they need.

    .. code-block:: yaml

        /etc/orthanc-backup:
          orthanc_backup.absent: []
    """
    ret = {"name": name, "result": True, "changes": {}, "comment": "No backups are made"}
    try:
        left = __salt__["orthanc_backup.left"](name)
        # The program is many files, of which nobody wants to read.
        shown = [os.path.dirname(path) if path.endswith(".py") else path for path in left]
        ret["changes"] = {path: {"old": "there", "new": None} for path in shown}
        if left and __opts__["test"]:
            ret.update(result=None, comment="Backups would be made no more")
        elif left:
            __salt__["orthanc_backup.remove"](name)
            ret["comment"] = f"No more backups are made; their password stays in {name}"
    except CommandExecutionError as err:
        ret.update(result=False, changes={}, comment=str(err))
    return ret
