"""
A timer of systemd with the unit that it starts, of the formula's own.

The work is done by the execution module :py:mod:`orthanc_timer`.
"""

from salt.exceptions import CommandExecutionError

__virtualname__ = "orthanc_timer"


def __virtual__():
    if "orthanc_timer.put" not in __salt__:
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
    return _settled(name, files, f"{name} is there and runs", ("would be changed", "was changed"))


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
    gone, said = dict.fromkeys(files), ("would be removed", "was removed")
    return _settled(name, gone, f"{name} is not there", said)


def _settled(name: str, files: dict, comment: str, said: tuple) -> dict:
    """Return what a state returns that lets files, or their absence, be so."""
    ret = {"name": name, "result": True, "changes": {}, "comment": comment}
    try:
        changes = __salt__["orthanc_files.changes"](__salt__["orthanc_timer.pending"](files))
        if changes and __opts__["test"]:
            ret.update(result=None, changes=changes, comment=f"{name} {said[0]}")
        elif changes:
            __salt__["orthanc_timer.put"](files)
            ret.update(changes=changes, comment=f"{name} {said[1]}")
    except CommandExecutionError as err:
        ret.update(result=False, comment=str(err))
    return ret
