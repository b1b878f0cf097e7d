"""
Another version of Orthanc, installed after a try.

The work is done by the execution module :py:mod:`orthanc_upgrade`.
"""

from salt.exceptions import CommandExecutionError, SaltInvocationError

__virtualname__ = "orthanc_upgrade"


def __virtual__():
    if "orthanc_upgrade.upgrade" not in __salt__:
        return False, "orthanc_upgrade: the execution module of this name is not on this minion"
    return __virtualname__


def upgraded(name, configuration):
    """
    Ensure that Orthanc has the version that is asked for, with the newest plugins, if it starts
    with the configuration. Otherwise all that speaks against it is said, and nothing installed. An
    Orthanc that is yet to come is left to ``pkg.installed``.

    name
        The path of the folder of the configuration.

    configuration
        See the execution module :py:mod:`orthanc_layers`; with the ``version``.

    .. code-block:: yaml

        /etc/orthanc:
          orthanc_upgrade.upgraded:
            - configuration:
                layers: [{option: [HttpPort], value: 8042}]
                main_file: orthanc.json
                option_files: {}
                packages: [orthanc]
                version: 1.13.0+dfsg-1
    """
    ret = {"name": name, "result": True, "changes": {}, "comment": "No other version is to come"}
    try:
        configuration = __salt__["orthanc_pillar.resolve"](configuration)
        found = __salt__["orthanc_upgrade.upgrade"](name, configuration, __opts__["test"])
    except (CommandExecutionError, SaltInvocationError) as err:
        ret.update(result=False, comment=f"The server stays as it is.\n{err}")
        return ret
    if found:
        ret["changes"] = {
            package: dict(zip(("old", "new"), versions))
            for package, versions in found["packages"].items()
        }
        ret["comment"] = f"Nothing speaks against {found['new']}; the index {found['index']}"
        if found["warnings"]:
            ret["warnings"] = found["warnings"]
        ret["result"] = None if __opts__["test"] else True
    return ret
