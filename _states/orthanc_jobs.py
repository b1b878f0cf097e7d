"""
What systemd starts by itself: functions of the formula's modules, also where there is no Salt.

The work is done by the execution module :py:mod:`orthanc_jobs`.
"""

import os

from salt.exceptions import CommandExecutionError

__virtualname__ = "orthanc_jobs"


def __virtual__():
    if "orthanc_jobs.put" not in __salt__:
        return False, "orthanc_jobs: the execution module of this name is not on this minion"
    return __virtualname__


def present(name, timer, folder):
    """
    Ensure that a timer is there, with what it starts, and runs.

    name
        The name of the units.

    timer
        What they are; see the execution module. The name need not be in it.

    folder
        The path of the folder that the function writes to, which somebody else has made.

    .. code-block:: yaml

        orthanc-health:
          orthanc_jobs.present:
            - timer:
                description: How Orthanc is, for Prometheus
                function: orthanc_health.write
                argument: /var/lib/prometheus/node-exporter/orthanc.prom
                schedule: minutely
                place: orthanc:monitoring
                mounts: []
            - folder: /var/lib/prometheus/node-exporter
    """
    ret = {"name": name, "result": True, "changes": {}, "comment": f"{name} is there and runs"}
    timers = [{"name": name, **timer}]
    try:
        if not os.path.isdir(folder):
            raise CommandExecutionError(
                f"{timer['place']}: there is no folder {folder}; install what collects from"
                " there, such as prometheus-node-exporter, or name the folder that it has"
            )
        ret["changes"] = __salt__["orthanc_files.changes"](__salt__["orthanc_jobs.pending"](timers))
        if ret["changes"] and __opts__["test"]:
            ret.update(result=None, comment=f"{name} would be changed")
        elif ret["changes"]:
            __salt__["orthanc_jobs.put"](timers)
            ret["comment"] = f"{name} was changed"
    except CommandExecutionError as err:
        ret.update(result=False, changes={}, comment=str(err))
    return ret


def absent(name, files):
    """
    Ensure that a timer is gone, with what it has written.

    name
        The name of the units.

    files
        A list of the paths of the files that it has written.

    .. code-block:: yaml

        orthanc-health:
          orthanc_jobs.absent:
            - files: [/var/lib/prometheus/node-exporter/orthanc.prom]
    """
    ret = {"name": name, "result": True, "changes": {}, "comment": f"{name} is not there"}
    timers = [{"name": name}]
    try:
        written = [path for path in files if os.path.lexists(path)]
        units = [p for p in __salt__["orthanc_jobs.left"](timers) if name in os.path.basename(p)]
        # What others need too goes with the last of them; without units of its own, it is theirs.
        left = __salt__["orthanc_jobs.left"](timers) if units else []
        ret["changes"] = {path: {"old": "there", "new": None} for path in [*left, *written]}
        # Without the timer, there are notes of those who looked.
        what = name if left else ", ".join(written)
        if ret["changes"] and __opts__["test"]:
            ret.update(result=None, comment=f"{what} would be removed")
        elif ret["changes"]:
            if units:
                __salt__["orthanc_jobs.remove"](timers)
            for path in written:
                os.unlink(path)
            ret["comment"] = f"{what} was removed"
    except (CommandExecutionError, OSError) as err:
        ret.update(result=False, changes={}, comment=str(err))
    return ret
