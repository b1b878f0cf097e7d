"""
The configuration of Orthanc in the form that the pillar asks for.

The work is done by the execution module :py:mod:`orthanc_conf`.
"""

from salt.exceptions import CommandExecutionError, SaltInvocationError

__virtualname__ = "orthanc_conf"


def __virtual__():
    return __virtualname__


def valid(
    name,
    problems=(),
    warnings=(),
    layers=None,
    main_file=None,
    option_files=None,
    sources=None,
    sections=(),
    command=None,
    packages=(),
    version=None,
    allow_no_users=True,
    user="orthanc",
    group="orthanc",
    certificates=None,
    pems=None,
):
    """
    Fail, with all that is wrong with the pillar, before anything on the host is changed.

    name
        The path of the folder of the configuration.

    problems
        What was found while the pillar was read, a sentence each.

    warnings
        The same, of what does not stop the run.

    layers, main_file, option_files, sources, sections, command, packages, allow_no_users
        See ``managed``. Without layers, only the problems count.

    user, group, certificates, pems
        See ``managed``.

    version
        The version of the package of Orthanc that the pillar asks for.
    """
    ret = {"name": name, "result": True, "changes": {}, "comment": "The pillar is sound"}
    problems, warnings = list(problems), list(warnings)
    try:
        if layers is not None:
            verdict = __salt__["orthanc_conf.judge"](
                *(name, layers, main_file, option_files),
                sources=sources,
                sections=sections,
                command=command,
                packages=packages,
                version=version,
                allow_no_users=allow_no_users,
                user=user,
                group=group,
                certificates=certificates,
                pems=pems,
                saltenv=__env__,
                host=not problems,
            )
            problems += verdict["problems"]
            warnings += verdict["warnings"]
    except (CommandExecutionError, SaltInvocationError) as err:
        problems.append(str(err))
    if warnings:
        ret["warnings"] = warnings
    if problems:
        lines = "\n".join(f"- {problem}" for problem in problems)
        ret.update(result=False, comment=f"The pillar is refused; nothing was changed.\n{lines}")
    return ret


def managed(
    name,
    layers,
    main_file,
    option_files,
    texts=None,
    sources=None,
    sections=(),
    command=None,
    packages=(),
    plugins=(),
    user="orthanc",
    group="orthanc",
    service="orthanc",
    preflight=True,
    allow_no_users=True,
    databases=(),
    certificates=None,
    pems=None,
    site=None,
):
    """
    Ensure that the folder holds exactly the options that the layers give, if Orthanc starts with
    them.

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

    sources
        A mapping from option to the path of the pillar that it comes from; by default
        ``orthanc:config``.

    sections
        The names of options of plugins that nobody knows.

    command
        The path of Orthanc's program; without one, nothing is asked of it.

    packages
        The names of packages that the same run installs, for test mode.

    plugins
        The paths of plugins that the same run downloads; see ``orthanc_plugins.present``.

    user, group, service
        The service's own, and its name. Only the group may read the configuration.

    preflight
        False leaves the trial start out.

    allow_no_users
        False fails where a server that has users would lose all of them.

    databases
        The sections of databases that the same run makes, for test mode.

    certificates
        A mapping from a place in the pillar to the sources of certificates and keys there, by name;
        they are judged before anything is done. See ``orthanc_tls.judge``.

    pems
        A mapping from file name, or whole path for a file elsewhere, to what ``orthanc_tls.pem``
        needs; ``null`` removes a file. Only the group may read them.

    site
        The path of the site of nginx that gives its port up before Orthanc is restarted.

    .. code-block:: yaml

        /etc/orthanc:
          orthanc_conf.managed:
            - layers:
              - HttpPort: 8042
              - RegisteredUsers: {anna: secret}
            - main_file: orthanc.json
            - option_files:
                credentials.json: [RegisteredUsers]
            - command: /usr/sbin/Orthanc
    """
    ret = {"name": name, "result": True, "changes": {}, "comment": ""}
    try:
        ret["changes"] = __salt__["orthanc_conf.apply"](
            *(name, layers, main_file, option_files),
            texts=texts,
            sources=sources,
            sections=sections,
            command=command,
            # In a real run they are there by now.
            packages=packages if __opts__["test"] else (),
            plugins=plugins,
            user=user,
            group=group,
            service=service,
            preflight=preflight,
            allow_no_users=allow_no_users,
            databases=databases if __opts__["test"] else (),
            certificates=certificates,
            pems=pems,
            saltenv=__env__,
            site=site,
            test=__opts__["test"],
        )
    except (CommandExecutionError, SaltInvocationError) as err:
        ret.update(result=False, comment=f"The configuration was not changed.\n{err}")
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
    except CommandExecutionError as err:
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
