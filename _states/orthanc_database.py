"""
The PostgreSQL database of Orthanc: made on this host, and reached wherever it is.

The work is done by the execution modules :py:mod:`orthanc_database` and :py:mod:`orthanc_conf`. In
the place of a secret, a configuration here has a reference to the pillar; see
:py:mod:`orthanc_pillar`.
"""

from salt.exceptions import CommandExecutionError, SaltInvocationError

__virtualname__ = "orthanc_database"


def __virtual__():
    if "orthanc_database.missing" not in __salt__:
        return False, "orthanc_database: the execution module of this name is not on this minion"
    return __virtualname__


def present(name, owner, port=None):
    """
    Ensure that the local PostgreSQL server has a database for Orthanc: its owner, who logs in by
    being that account of the host, the database in UTF-8, and the extension that Orthanc uses.
    What is there is left alone. Where another server of this host has a database of this name as
    well, it warns.

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
        others = __salt__["orthanc_database.others"](name, port)
    except CommandExecutionError as err:
        ret.update(result=False, comment=f"The database {name} was not made: {err}")
        return ret
    if others:
        ret["warnings"] = [
            f"The PostgreSQL server on port {others[0]} has a database {name} too, and Orthanc uses"
            f" that on port {port or 5432}; drop the other one once it is of no more use"
            " (docs/postgresql.md, A new version of PostgreSQL)"
        ]
    if made:
        ret["changes"] = {what: {"old": None, "new": "present"} for what in made}
        ret["comment"] = f"The database {name} was made"
    if made and __opts__["test"]:
        ret.update(result=None, comment=f"The database {name} would be made")
    return ret


def reached(name, configuration=None):
    """
    Fail unless Orthanc's account gets into the database with a configuration, and finds the images
    there that this server has. Where there is no such account yet, the rules of a server on this
    host are read. In test mode nothing is tried where the same run makes the database.

    name
        The path of the folder of the configuration.

    configuration
        See the execution module :py:mod:`orthanc_layers`. Without one, no database is asked for.

    .. code-block:: yaml

        /etc/orthanc:
          orthanc_database.reached:
            - configuration:
                layers:
                  - {option: [PostgreSQL, EnableIndex], value: true}
                  - option: [PostgreSQL, ConnectionUri]
                    value: {__pillar__: [orthanc, postgresql, uri]}
                    origin: orthanc:postgresql:uri
                main_file: orthanc.json
                option_files: {}
    """
    ret = {"name": name, "result": True, "changes": {}, "comment": "The database can be used"}
    if configuration is None:
        ret["comment"] = "orthanc:postgresql asks for no database"
        return ret
    if __opts__["test"] and configuration.get("databases"):
        ret["comment"] = "The database is tried when it is there"
        return ret
    try:
        configuration = __salt__["orthanc_pillar.resolve"](configuration)
        found = __salt__["orthanc_judge.database"](name, configuration)
        problems, untried = found["problems"], found["untried"]
    except (CommandExecutionError, SaltInvocationError) as err:
        problems, untried = [str(err)], None
    if problems:
        ret.update(result=False, comment="\n".join(["Nothing of Orthanc was changed.", *problems]))
    elif untried:
        ret["comment"] = f"The database was not tried: {untried}; orthanc-config tries it"
    return ret
