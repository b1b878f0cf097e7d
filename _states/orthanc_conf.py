"""
The configuration of Orthanc in the form that the pillar asks for.

The work is done by the execution module :py:mod:`orthanc_conf`. In the place of a secret, a
configuration here has a reference to the pillar; see :py:mod:`orthanc_pillar`.
"""

import os

from salt.exceptions import CommandExecutionError, SaltInvocationError

__virtualname__ = "orthanc_conf"

# Before the warnings in a comment.
WARNINGS = "Warnings:"
GONE = "Not in the pillar, and gone from the server with this run"
NOT_LOADED = "Plugins that are installed and not loaded, because the pillar does not ask for them"
NOT_ROOT = "Salt does not run as root here, so nothing can be done; call it with sudo"


def __virtual__():
    if "orthanc_conf.apply" not in __salt__:
        return False, "orthanc_conf: the execution module of this name is not on this minion"
    return __virtualname__


def valid(name, configuration=None, problems=(), warnings=()):
    """
    Fail, with all that is wrong with the pillar, before anything on the host is changed.

    name
        The path of the folder of the configuration.

    configuration
        See the execution module :py:mod:`orthanc_layers`. Without one, only the problems count.

    problems
        What was found while the pillar was read, a list of sentences.

    warnings
        The same, of what does not stop the run.

    .. code-block:: yaml

        /etc/orthanc:
          orthanc_conf.valid:
            - configuration:
                layers: [{option: [HttpPort], value: 8042}]
                main_file: orthanc.json
                option_files: {}
    """
    ret = {"name": name, "result": True, "changes": {}, "comment": "The pillar is sound"}
    problems, warnings = list(problems), list(warnings)
    if os.geteuid():
        ret.update(result=False, comment=NOT_ROOT)
        return ret
    try:
        if configuration is not None:
            configuration = __salt__["orthanc_pillar.resolve"](configuration)
            case = __salt__["orthanc_judge.case"](name, configuration, host=not problems)
            found = __salt__["orthanc_judge.judge"](case, problems)
            problems += found["problems"] + __salt__["orthanc_connections.strayed"](case)
            warnings += found["warnings"]
    except (CommandExecutionError, SaltInvocationError) as err:
        problems.append(str(err))
    if problems:
        lines = "\n".join(f"- {problem}" for problem in problems)
        ret.update(result=False, comment=f"The pillar is refused; nothing was changed.\n{lines}")
    if warnings:
        # Of what is below "warnings", Salt makes one paragraph.
        lines = "\n".join(f"- {warning}" for warning in warnings)
        ret["comment"] += f"\n{WARNINGS}\n{lines}"
        ret["warnings"] = [
            f"{len(warnings)}, each on a line of its own in the comment of orthanc-pillar and in"
            " what `salt-call orthanc_conf.validate` says"
        ]
    return ret


def managed(name, configuration):
    """
    Ensure that the folder holds exactly the options of the configuration, if Orthanc starts with
    them.

    name
        The path of the folder.

    configuration
        See the execution module :py:mod:`orthanc_layers`.

    .. code-block:: yaml

        /etc/orthanc:
          orthanc_conf.managed:
            - configuration:
                layers:
                  - {option: [HttpPort], value: 8042, origin: "orthanc:port"}
                  - option: [RegisteredUsers, anna]
                    value: {__pillar__: [orthanc, users, anna, password]}
                    origin: orthanc:users:anna:password
                main_file: orthanc.json
                option_files:
                  credentials.json: [RegisteredUsers]
                command: /usr/sbin/Orthanc
    """
    ret = {"name": name, "result": True, "changes": {}, "comment": ""}
    try:
        configuration = __salt__["orthanc_pillar.resolve"](configuration)
        ret["changes"] = __salt__["orthanc_conf.apply"](name, configuration, test=__opts__["test"])
        # Those of the server's own package are worth a word only when that is news.
        news = any("Plugins" in options for options in ret["changes"].values())
        gone = __salt__["orthanc_differences.gone"](ret["changes"])
        unused = __salt__["orthanc_layers.unused_plugins"](name, configuration, of_server=news)
    except (CommandExecutionError, SaltInvocationError) as err:
        ret.update(result=False, comment=f"The configuration was not changed.\n{err}")
        return ret
    if not ret["changes"]:
        ret["comment"] = "The configuration is as the pillar asks"
    elif __opts__["test"]:
        ret.update(result=None, comment="The configuration would be changed")
    else:
        ret["comment"] = "The configuration was changed"
    if gone:
        ret["comment"] = f"{GONE}: {', '.join(gone)}\n{ret['comment']}"
    if unused:
        files = [f"{os.path.basename(path)} ({package})" for path, package in unused.items()]
        ret["comment"] += f"\n{NOT_LOADED}: {', '.join(files)}"
    return ret


def absent(name, files):
    """
    Ensure that files of the configuration are gone, and that those which were there before the
    formula are back.

    name
        The path of the folder; it goes too if nothing is left in it.

    files
        The names of the files; the whole path of one that lies elsewhere.

    .. code-block:: yaml

        /etc/orthanc:
          orthanc_conf.absent:
            - files: [orthanc.json, credentials.json, orthanc-formula-users.lua]
    """
    ret = {"name": name, "result": True, "changes": {}, "comment": ""}
    try:
        done = __salt__["orthanc_conf.remove"](name, files, test=__opts__["test"])
    except CommandExecutionError as err:
        ret.update(result=False, comment=str(err))
        return ret
    ret["changes"] = {
        path: {"old": "of the formula", "new": "put back" if original else None}
        for path, original in done.items()
    }
    if not done:
        ret["comment"] = "Nothing of the formula is there"
    elif __opts__["test"]:
        ret.update(result=None, comment="The files of the formula would be removed")
    else:
        ret["comment"] = "The files of the formula were removed"
    return ret
