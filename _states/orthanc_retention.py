"""
Old studies of the server, which systemd lets Orthanc delete at night.

The work is done by the execution module :py:mod:`orthanc_retention`.
"""

import os

from salt.exceptions import CommandExecutionError

__virtualname__ = "orthanc_retention"

DRY = "Old studies are only listed, by orthanc.retention, until orthanc:retention:dry_run is false"


def __virtual__():
    if "orthanc_retention.make" not in __salt__:
        return False, "orthanc_retention: the execution module of this name is not on this minion"
    return __virtualname__


def present(name, job, schedule):
    """
    Ensure that studies are deleted by rules; or that it is known by which they would be.

    name
        The path of the log of what is deleted. No state ever removes it.

    job
        A mapping: ``rules``, ``dry_run``, ``hours``, ``rate``, ``max_percent`` and ``unproven`` as
        the pillar has them; ``config``, the path of the folder of the configuration; and the names
        of Orthanc's ``user`` and ``group``.

    schedule
        When systemd is to begin, as OnCalendar of systemd.time(7) has it.

    .. code-block:: yaml

        /var/log/orthanc-retention.log:
          orthanc_retention.present:
            - job:
                rules: [{older_than: 10 years, by: study_date}]
                dry_run: true
                hours: 3
                rate: 10
                max_percent: 10
                unproven: false
                config: /etc/orthanc
                user: orthanc
                group: orthanc
            - schedule: '03:30'
    """
    done = DRY if job["dry_run"] else "Old studies are deleted at night"
    ret = {"name": name, "result": True, "changes": {}, "comment": done}
    try:
        lacks = __salt__["orthanc_retention.lacks"](job, schedule)
        ret["changes"] = __salt__["orthanc_files.changes"](lacks)
        if lacks and __opts__["test"]:
            ret.update(result=None, comment=f"Would be set up: {done}")
            return ret
        if lacks:
            __salt__["orthanc_retention.make"](job, schedule)
        told = __salt__["orthanc_retention.warnings"]() or []
        if told:
            ret["comment"] += "\nWarnings:\n- " + "\n- ".join(told)
            ret["warnings"] = [f"{len(told)}, each on a line of its own in the comment"]
    except CommandExecutionError as err:
        ret.update(result=False, changes={}, comment=str(err))
    return ret


def absent(name):
    """
    Ensure that no studies are deleted. The log of what was deleted stays where it is.

    name
        The path of the log.

    .. code-block:: yaml

        /var/log/orthanc-retention.log:
          orthanc_retention.absent: []
    """
    stays = f"; what was deleted stands in {name}, which stays" if os.path.exists(name) else ""
    ret = {"name": name, "result": True, "changes": {}, "comment": f"No studies are deleted{stays}"}
    try:
        left = __salt__["orthanc_retention.left"]()
        ret["changes"] = {path: {"old": "there", "new": None} for path in left}
        if left and __opts__["test"]:
            ret.update(result=None, comment=f"No studies would be deleted any more{stays}")
        elif left:
            __salt__["orthanc_retention.remove"]()
            ret["comment"] = f"No studies are deleted any more{stays}"
    except CommandExecutionError as err:
        ret.update(result=False, changes={}, comment=str(err))
    return ret
