"""
The plugins that the pillar downloads.

The work is done by the execution module :py:mod:`orthanc_plugins`.
"""

import os

from salt.exceptions import CommandExecutionError, SaltInvocationError

__virtualname__ = "orthanc_plugins"

WOULD_BE_REMOVED = "Plugins would be removed, if Orthanc's configuration does not name them then"


def __virtual__():
    if "orthanc_plugins.fetch" not in __salt__:
        return False, "orthanc_plugins: the execution module of this name is not on this minion"
    return __virtualname__


def present(name, source):
    """
    Ensure that a plugin is there, and as it was downloaded. Whether Orthanc loads it is said by
    its configuration.

    name
        The path of its file: ``<folder>/<SHA-256 of its content>/<name>``, or, for whatever the
        source gives the first time, ``<folder>/insecure-<anything>/<name>``.

    source
        A URL, ``https://``, ``http://`` or ``salt://``, or an absolute path on the host; of a URL
        that may be a secret, a reference to the pillar (see ``orthanc_pillar``).

    .. code-block:: yaml

        /usr/local/lib/orthanc-plugins/insecure-x/libX.so:
          orthanc_plugins.present:
            - source: https://plugins.example.org/libX.so
    """
    ret = {"name": name, "result": True, "changes": {}, "comment": "The plugin is there"}
    if __salt__["orthanc_plugins.sound"](name):
        return ret
    old = "not as downloaded" if os.path.exists(name) else None
    changes = {name: {"old": old, "new": "downloaded"}}
    if __opts__["test"]:
        ret.update(result=None, changes=changes, comment="The plugin would be downloaded")
        return ret
    try:
        source = __salt__["orthanc_pillar.resolve"](source)
        __salt__["orthanc_plugins.fetch"](name, source, saltenv=__env__)
        ret.update(changes=changes, comment="The plugin was downloaded")
    except (CommandExecutionError, SaltInvocationError) as err:
        ret.update(result=False, comment=str(err))
    return ret


def only(name, config, keep=()):
    """
    Ensure that of the plugins that were downloaded none is there but those to keep.

    A file that somebody changed since is left alone. If the configuration on the host still names
    one of them, the state fails and nothing is removed; in test mode the same run may be about to
    change that configuration, so that it is not looked at.

    name
        The path of the folder of the plugins.

    config
        The path of the folder of the configuration.

    keep
        A list of the paths of the plugins to keep.

    .. code-block:: yaml

        /usr/local/lib/orthanc-plugins:
          orthanc_plugins.only:
            - config: /etc/orthanc
            - keep: [/usr/local/lib/orthanc-plugins/insecure-x/libX.so]
    """
    ret = {"name": name, "result": True, "changes": {}, "comment": "No other plugin is there"}
    try:
        found = __salt__["orthanc_plugins.unused"](name, keep)
    except OSError as err:
        ret.update(result=False, comment=f"{name} cannot be looked through: {err}")
        return ret
    left = [f"{path} {problem}" for path, problem in found.items() if problem]
    gone = [path for path, problem in found.items() if not problem]
    if left:
        ret["comment"] = "\n".join(left)
    if not gone:
        return ret
    ret["changes"] = {path: {"old": "present", "new": None} for path in gone}
    if __opts__["test"]:
        ret.update(result=None, comment="\n".join([WOULD_BE_REMOVED, *left]))
        return ret
    try:
        named = __salt__["orthanc_conf.effective"](config).get("Plugins") or []
        if set(named) & {os.path.realpath(path) for path in gone}:
            raise CommandExecutionError(
                "Orthanc's configuration still names them; take them out of orthanc:plugins and"
                " apply orthanc, or apply orthanc.clean"
            )
        __salt__["orthanc_plugins.remove"](name, keep)
        ret["comment"] = "\n".join(["Plugins were removed", *left])
    except CommandExecutionError as err:
        ret.update(result=False, changes={}, comment="\n".join([str(err), *left]))
    return ret
