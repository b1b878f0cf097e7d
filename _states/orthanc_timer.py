"""
A timer of systemd with the unit that it starts, of the formula's own.

The work is done by the execution module :py:mod:`orthanc_timer`.
"""

from salt.exceptions import CommandExecutionError

__virtualname__ = "orthanc_timer"


def __virtual__():
    if "orthanc_timer.make" not in __salt__:
        return False, "orthanc_timer: the execution module of this name is not on this minion"
    return __virtualname__


def present(name, files):
    """
    Ensure that a timer is there, runs, and is started at boot.

    name
        The name of the timer's unit.

    files
        A mapping from path to text: the timer, the unit that it starts, and what that needs.

    .. code-block:: yaml

        nightly.timer:
          orthanc_timer.present:
            - files:
                /etc/systemd/system/nightly.timer: "[Timer]\\nOnCalendar=daily\\n"
                /etc/systemd/system/nightly.service: "[Service]\\nExecStart=/bin/true\\n"
    """
    ret = {"name": name, "result": True, "changes": {}, "comment": f"{name} is there and runs"}
    try:
        changes = __salt__["orthanc_timer.pending"](name, files)
        if changes and __opts__["test"]:
            ret.update(result=None, changes=changes, comment=f"{name} would be changed")
        elif changes:
            __salt__["orthanc_timer.make"](name, files)
            ret.update(changes=changes, comment=f"{name} was changed")
    except CommandExecutionError as err:
        ret.update(result=False, comment=str(err))
    return ret


def absent(name, files):
    """
    Ensure that a timer and its files are gone.

    name
        The name of the timer's unit.

    files
        A list of the paths of its files.

    .. code-block:: yaml

        nightly.timer:
          orthanc_timer.absent:
            - files: [/etc/systemd/system/nightly.timer, /etc/systemd/system/nightly.service]
    """
    ret = {"name": name, "result": True, "changes": {}, "comment": f"{name} is not there"}
    found = __salt__["orthanc_timer.left"](name, files)
    if not found:
        return ret
    ret["changes"] = {path: {"old": "present", "new": None} for path in found}
    if __opts__["test"]:
        ret.update(result=None, comment=f"{name} would be removed")
        return ret
    try:
        __salt__["orthanc_timer.remove"](name, files)
        ret["comment"] = f"{name} was removed"
    except CommandExecutionError as err:
        ret.update(result=False, changes={}, comment=str(err))
    return ret
