"""
The first run of the formula on a host, and what ``orthanc.clean`` puts back of it.

The work is done by the execution module :py:mod:`orthanc_first_run`.
"""

from salt.exceptions import CommandExecutionError

__virtualname__ = "orthanc_first_run"

STAYS = {
    "before": "There before the formula, or an earlier version of it, and not removed",
    "others": "Not removed, because others may use them by now",
}


def __virtual__():
    if "orthanc_first_run.begin" not in __salt__:
        return False, "orthanc_first_run: the execution module of this name is not on this minion"
    return __virtualname__


def begun(name, packages, others=(), folders=(), config=None):
    """
    Ensure that it is noted what was on the host before the formula, and that an Orthanc which is
    yet to be installed is not started before its configuration is in place.

    name
        The name of the service, and of the package that brings it.

    packages
        A list of the names of packages that are to be installed, and go with the formula.

    others
        The same of those that stay then.

    folders
        A list of the paths of folders whose owner and mode the formula may change.

    config
        The path of the folder of the configuration.

    .. code-block:: yaml

        orthanc:
          orthanc_first_run.begun:
            - packages: [orthanc]
            - config: /etc/orthanc
    """
    arguments = {"others": others, "folders": folders, "config": config}
    return _noted(name, "begin", name, packages, **arguments)


def packaged(name, folders):
    """
    Ensure that owners and modes of what the packages brought are noted before they are changed.

    name
        The path of the folder of the configuration.

    folders
        A list of the paths of other folders that the packages may bring.

    .. code-block:: yaml

        /etc/orthanc:
          orthanc_first_run.packaged:
            - folders: [/var/lib/orthanc]
    """
    return _noted(name, "packaged", folders, name)


def packages_removed(name):
    """
    Ensure that the packages which came with the formula are gone. Those that were there before
    stay, and so do all where no first run was noted.

    name
        The name of the service, and of the package that brings it.

    .. code-block:: yaml

        orthanc:
          orthanc_first_run.packages_removed: []
    """
    ret = {"name": name, "result": True, "changes": {}, "comment": "No package came with Orthanc"}
    try:
        known = __salt__["orthanc_first_run.known"]()
        if known["came"] and __opts__["test"]:
            ret["changes"] = {package: {"old": "installed", "new": ""} for package in known["came"]}
            names = ", ".join(known["came"])
            ret.update(result=None, comment=f"The packages would be removed: {names}")
        elif known["came"]:
            ret["changes"] = __salt__["orthanc_first_run.remove_packages"](name)
            ret["comment"] = "The packages were removed"
        elif not any(known.values()):
            ret["comment"] = "No package is noted as one that came with the formula: all stay"
    except CommandExecutionError as err:
        ret.update(result=False, comment=str(err))
        return ret
    for kind, words in STAYS.items():
        if known[kind]:
            ret["comment"] += f"\n{words}: {', '.join(known[kind])}"
    return ret


def in_sight(name, config):
    """
    Ensure that a server which comes back with what was there before the formula finds its images.

    name
        The name of the service.

    config
        The path of the folder of the configuration.

    .. code-block:: yaml

        orthanc:
          orthanc_first_run.in_sight:
            - config: /etc/orthanc
    """
    ret = {"name": name, "result": True, "changes": {}, "comment": "No image gets out of sight"}
    try:
        hidden = __salt__["orthanc_first_run.hidden"](name, config)
    except CommandExecutionError as err:
        hidden = str(err)
    if hidden:
        ret.update(result=False, comment=f"Nothing was taken away: {hidden}")
    return ret


def undone(name, config, log=None):
    """
    Ensure that owners, modes, the hold on the package and the service are as they were before the
    formula, and that nothing is noted of it.

    name
        The name of the service, and of the package that brings it.

    config
        The path of the folder of the configuration.

    log
        The path of the folder of the logs; None for the journal.

    .. code-block:: yaml

        orthanc:
          orthanc_first_run.undone:
            - config: /etc/orthanc
            - log: /var/log/orthanc
    """
    said = ("Nothing is noted", "What was here before would be put back", "It was put back")
    return _done(name, said, "undo", name, config, log=log)


def _noted(name, function, *words, **more):
    said = ("It is noted", "What is here would be noted for orthanc.clean", "It was noted")
    return _done(name, said, function, *words, **more)


def _done(name, said, function, *words, **more):
    """Return what a state returns whose function knows test mode, with one of three comments."""
    ret = {"name": name, "result": True, "changes": {}, "comment": said[0]}
    try:
        ret["changes"] = __salt__[f"orthanc_first_run.{function}"](
            *words, test=__opts__["test"], **more
        )
    except CommandExecutionError as err:
        ret.update(result=False, comment=str(err))
        return ret
    if ret["changes"] and __opts__["test"]:
        ret.update(result=None, comment=said[1])
    elif ret["changes"]:
        ret["comment"] = said[2]
    return ret
