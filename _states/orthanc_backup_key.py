"""
The SSH key with which Orthanc's account logs in to the backup host.

The work is done by the execution module :py:mod:`orthanc_backup_key`.
"""

from salt.exceptions import CommandExecutionError

__virtualname__ = "orthanc_backup_key"


def __virtual__():
    if "orthanc_backup_key.make" not in __salt__:
        return False, "orthanc_backup_key: the execution module of this name is not on this minion"
    return __virtualname__


def present(name, remote_user, user, group):
    """
    Ensure that there is a key pair for backups. A private key that is there is never replaced.

    name
        The path of the private key.

    remote_user
        The account on the backup host that it is for.

    user, group
        The account that it belongs to.

    .. code-block:: yaml

        /var/lib/orthanc/.ssh/id_ed25519:
          orthanc_backup_key.present:
            - remote_user: pacs-backup
            - user: orthanc
            - group: orthanc
    """
    shown = f"`salt-call orthanc.backup_key` shows what {remote_user} needs"
    ret = {"name": name, "result": True, "changes": {}, "comment": f"The key is there; {shown}"}
    try:
        lacks = __salt__["orthanc_backup_key.lacks"](name, user)
        ret["changes"] = {path: {"old": None, "new": what} for path, what in lacks.items()}
        if lacks and __opts__["test"]:
            ret.update(result=None, comment="The key would be made")
        elif lacks:
            __salt__["orthanc_backup_key.make"](name, user, group)
            ret["comment"] = f"The key was made; {shown}"
    except CommandExecutionError as err:
        ret.update(result=False, changes={}, comment=str(err))
    return ret


def kept(name):
    """
    Say that a backup key stays where none is asked for: the backup host trusts it, and there is no
    other copy of it.

    name
        The path of the private key.

    .. code-block:: yaml

        /var/lib/orthanc/.ssh/id_ed25519:
          orthanc_backup_key.kept: []
    """
    comment = f"A backup key is never removed. If there is one, it stays in {name}."
    return {"name": name, "result": True, "changes": {}, "comment": comment}
