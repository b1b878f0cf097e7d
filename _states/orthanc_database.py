"""
The local PostgreSQL database of Orthanc.

The work is done by the execution module :py:mod:`orthanc_database`.
"""

from salt.exceptions import CommandExecutionError

__virtualname__ = "orthanc_database"


def __virtual__():
    return __virtualname__


def present(name, owner, port=None):
    """
    Ensure that the local PostgreSQL server has a database for Orthanc: its owner, who logs in by
    being that account of the host, the database in UTF-8, and the extension that Orthanc uses.
    What is there is left alone.

    name
        The name of the database.

    owner
        The name of its owner.

    port
        The port of the local server, which its socket is named after.

    .. code-block:: yaml

        orthanc:
          orthanc_database.present:
            - owner: orthanc
    """
    ret = {"name": name, "result": True, "changes": {}, "comment": f"The database {name} is there"}
    try:
        function = "orthanc_database.missing" if __opts__["test"] else "orthanc_database.make"
        made = __salt__[function](name, owner, port=port)
    except CommandExecutionError as err:
        if not __opts__["test"]:
            ret.update(result=False, comment=f"The database {name} was not made: {err}")
            return ret
        # The server is not there yet, or it would be started before this.
        made = [f"role {owner}", f"database {name}", "extension pg_trgm"]
    if made:
        ret["changes"] = {what: {"old": None, "new": "present"} for what in made}
        ret["comment"] = f"The database {name} was made"
    if made and __opts__["test"]:
        ret.update(result=None, comment=f"The database {name} would be made")
    return ret
