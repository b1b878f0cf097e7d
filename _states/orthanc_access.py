"""
What is in a folder that only Orthanc's account and group may enter.

The work is done by the execution module :py:mod:`orthanc_access`.
"""

from salt.exceptions import CommandExecutionError

__virtualname__ = "orthanc_access"


def __virtual__():
    if "orthanc_access.close" not in __salt__:
        return False, "orthanc_access: the execution module of this name is not on this minion"
    return __virtualname__


def closed(name, user, group, own=None):
    """
    Ensure that what is in a folder is closed to others. All else of it stays, but for what Orthanc
    needs and got as one of the others: that becomes its group's.

    name
        The path of the folder; its own mode is for ``file.directory``.

    user, group
        The names of the service's account and of its group.

    own
        For the folder of the configuration: the names in it that are the formula's, a list of
        texts, which are root's and read by the group.

    .. code-block:: yaml

        /etc/orthanc:
          orthanc_access.closed:
            - user: orthanc
            - group: orthanc
            - own: [orthanc.json, credentials.json]
    """
    ret = {"name": name, "result": True, "changes": {}, "comment": f"All of {name} is closed"}
    test = __opts__["test"]
    try:
        ret["changes"] = __salt__["orthanc_access.close"](name, user, group, own=own, test=test)
    except CommandExecutionError as err:
        ret.update(result=False, comment=str(err))
        return ret
    if ret["changes"]:
        ret["result"] = None if test else True
        ret["comment"] = f"What is open in {name} {'would be' if test else 'was'} closed to others"
    return ret
