"""
The configuration of Orthanc in the form that the pillar asks for.

The work is done by the execution module :py:mod:`orthanc_conf`.
"""

from salt.exceptions import CommandExecutionError, SaltInvocationError

__virtualname__ = "orthanc_conf"


def __virtual__():
    return __virtualname__


def managed(
    name, layers, main_file, option_files, texts=None, group="orthanc", allow_no_users=True
):
    """
    Ensure that the folder holds exactly the options that the layers give.

    name
        The path of the folder.

    layers
        A list of mappings from option name to value; the last one wins. Mappings merge, lists
        and plain values replace, ``null`` takes an option out.

    main_file
        The name of the file for all options that no other file owns.

    option_files
        A mapping from file name to the list of options that live in it.

    texts
        A mapping from file name to text, for other files than JSON; ``null`` removes a file.

    group
        The group that may read the configuration: that of the service.

    allow_no_users
        False fails where a server that has users would lose all of them.

    .. code-block:: yaml

        /etc/orthanc:
          orthanc_conf.managed:
            - layers:
              - HttpPort: 8042
              - RegisteredUsers: {anna: secret}
            - main_file: orthanc.json
            - option_files:
                credentials.json: [RegisteredUsers]
    """
    ret = {"name": name, "result": True, "changes": {}, "comment": ""}
    function = "orthanc_conf.plan" if __opts__["test"] else "orthanc_conf.apply"
    try:
        ret["changes"] = __salt__[function](
            name,
            layers,
            main_file,
            option_files,
            texts=texts,
            group=group,
            allow_no_users=allow_no_users,
        )
    except (CommandExecutionError, SaltInvocationError) as err:
        ret.update(result=False, comment=str(err))
        return ret
    if not ret["changes"]:
        ret["comment"] = "The configuration is as the pillar asks"
    elif __opts__["test"]:
        ret.update(result=None, comment="The configuration would be changed")
    else:
        ret["comment"] = "The configuration was changed"
    return ret


def absent(name, files):
    """
    Ensure that files of the configuration are gone, and that those which were there before the
    formula are back.

    name
        The path of the folder; it goes too if nothing is left in it.

    files
        The names of the files.
    """
    ret = {"name": name, "result": True, "changes": {}, "comment": ""}
    function = "orthanc_conf.removal" if __opts__["test"] else "orthanc_conf.remove"
    try:
        done = __salt__[function](name, files)
    except OSError as err:
        ret.update(result=False, comment=str(err))
        return ret
    ret["changes"] = {path: {"old": "of the formula", "new": what} for path, what in done.items()}
    if not done:
        ret["comment"] = "Nothing of the formula is there"
    elif __opts__["test"]:
        ret.update(result=None, comment="The files of the formula would be removed")
    else:
        ret["comment"] = "The files of the formula were removed"
    return ret


def refused(name, problems):
    """
    Fail, because the pillar is wrong, in place of all that would have been done.

    name
        Which SLS file refuses.

    problems
        One sentence for each thing that is wrong, with its pillar path.
    """
    lines = "\n".join(f"- {problem}" for problem in problems)
    return {
        "name": name,
        "result": False,
        "changes": {},
        "comment": f"The pillar is refused; nothing was changed.\n{lines}",
    }
