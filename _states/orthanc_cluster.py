"""
Several nodes of Orthanc on one database, with one folder of images.

The work is done by the execution module :py:mod:`orthanc_cluster`.
"""

from salt.exceptions import CommandExecutionError, SaltInvocationError

__virtualname__ = "orthanc_cluster"


def __virtual__():
    if "orthanc_cluster.share" not in __salt__:
        return False, "orthanc_cluster: the execution module of this name is not on this minion"
    return __virtualname__


def shared(name, user, group):
    """
    Fail unless the folder of the images is that of the other nodes; the first node marks it.

    name
        The path of the folder of the configuration.

    user, group
        The names of the service's account and of its group.

    .. code-block:: yaml

        /etc/orthanc:
          orthanc_cluster.shared:
            - user: orthanc
            - group: orthanc
    """
    ret = {"name": name, "result": True, "changes": {}, "comment": "All nodes share the images"}
    options, account = __salt__["orthanc_folder.located"](name), {"user": user, "group": group}
    try:
        if __salt__["orthanc_cluster.share"](options, account, test=__opts__["test"]):
            ret["changes"] = {"mark": {"old": None, "new": "present"}}
            ret["comment"] = "Database and folder of the images got a mark in common"
        if __opts__["test"] and ret["changes"]:
            ret.update(result=None, comment="Database and folder would get a mark in common")
    except (CommandExecutionError, SaltInvocationError) as err:
        ret.update(result=False, changes={}, comment=f"Orthanc was not restarted: {err}")
    return ret
