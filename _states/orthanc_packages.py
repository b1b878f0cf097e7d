"""
The version of the package that the pillar pins.

The work is done by the execution module :py:mod:`orthanc_packages`.
"""

from salt.exceptions import CommandExecutionError

__virtualname__ = "orthanc_packages"


def __virtual__():
    if "orthanc_packages.missing" not in __salt__:
        return False, "orthanc_packages: the execution module of this name is not on this minion"
    return __virtualname__


def available(name, version=None):
    """
    Fail where the package manager does not have the version of a package; with ``test=True``, when
    ``pkg.installed`` does not look, as well.

    name
        The name of the package.

    version
        The version, a text; any, without one.

    .. code-block:: yaml

        orthanc:
          orthanc_packages.available:
            - version: 1.12.7+dfsg-4
    """
    ret = {"name": name, "result": True, "changes": {}, "comment": "Any version is right"}
    if version is None:
        return ret
    try:
        problem = __salt__["orthanc_packages.missing"](name, version)
    except CommandExecutionError as err:
        problem = str(err)
    if problem:
        ret.update(result=False, comment=problem)
    else:
        ret["comment"] = f"Version {version} is there or can be installed"
    return ret
