"""
The Orthanc server on this host: it serves when it answers.

``service.running`` is not enough for Orthanc: systemd reports success although Orthanc dies a
second later of a wrong option, and where systemd is not PID 1 the state does nothing at all. So
these states use the functions of the ``service`` module, which work in both places.
"""

import os

import salt.utils.systemd
from salt.exceptions import CommandExecutionError, SaltInvocationError

__virtualname__ = "orthanc"

# Said where the disk of the images came after the start.
STRAYED = (
    "The server ran without the disk of its images or its index, which was mounted since. What it"
    " stored meanwhile lies beneath the point where the disk is mounted now: `mount --bind / /mnt`"
    " shows it below /mnt, from where it can be stored again"
)


def __virtual__():
    if "orthanc_server.wait" not in __salt__:
        return False, "orthanc: the execution module of this name is not on this minion"
    return __virtualname__


def serving(name, server, proxy=None):
    """
    Ensure that Orthanc runs with its configuration as it is on the host, and answers; and that
    nginx in front of it, if it shall be there, does so too.

    It is started if it does not run, and restarted if the configuration was written since it was
    last seen serving, also by a run that was interrupted, or if the disk of images or index was
    mounted since its start. If it does not answer with a new configuration, the last good one
    returns, Orthanc is restarted with that, and the state fails with the errors of Orthanc's log.
    Where the port of clients moves between Orthanc and nginx, each gives it up before the other one
    takes it, and both go back together.

    name
        The name of the service.

    server
        A mapping: ``config``, the path of the folder of the configuration; ``user`` and ``group``,
        the names of the service's account and of the group that may read it; ``log``, the path of
        the folder of the logs, for the reason of a failure, None for the journal; ``timeout``, for
        how many seconds to wait for an answer at most; and ``postgresql``, true to fail also if
        Orthanc does not keep its index in PostgreSQL.

    proxy
        The site of nginx, or that there shall be none; see the execution module ``orthanc_nginx``.
        In the place of a secret in it is a reference to the pillar; see ``orthanc_pillar``.

    .. code-block:: yaml

        orthanc:
          orthanc.serving:
            - server:
                config: /etc/orthanc
                user: orthanc
                group: orthanc
                log: /var/log/orthanc
                timeout: 60
                postgresql: false
            - watch:
              - orthanc_conf: orthanc-config
    """
    return _serve(name, server, proxy, restart=False)


def mod_watch(name, server, proxy=None, **kwargs):
    """
    Restart Orthanc because something that it watches has changed; see ``serving``.
    """
    return _serve(name, server, proxy, restart=True)


def _serve(name, server, proxy, restart):
    ret = {"name": name, "result": True, "changes": {}, "comment": ""}
    config, upgrade = server["config"], __salt__["orthanc_upgrade.pending"]()
    server = {**server, "timeout": server["timeout"] + (upgrade.get("more") or 0)}
    running = __salt__["service.status"](name)
    done = "restarted" if running else "started"
    strayed = running and __salt__["orthanc_proof.strayed"](config)
    fresh = strayed or upgrade or __salt__["orthanc_files.unproven"](config)
    # Who moves the index has started it.
    fresh = fresh or (restart and not __salt__["orthanc_cutover.is_fresh"](config))
    if running and not fresh:
        done = ""
    if strayed:
        ret["warnings"] = [STRAYED]
    trouble = __salt__["orthanc_server.trouble"]() if running and not done else ""
    if trouble and __opts__["test"]:
        ret["warnings"] = [*ret.get("warnings", []), trouble]
    before = None
    try:
        proxy = __salt__["orthanc_pillar.resolve"](proxy)
        publish = __salt__["orthanc_nginx.pending"](proxy) if proxy else {}
        start = {name: {"old": "running" if running else "stopped", "new": done}} if done else {}
        if __opts__["test"]:
            ret["changes"] = {**publish, **start}
            ret["comment"] = f"{name} would be {done}" if done else f"{name} runs"
            ret["comment"] += ", and nginx would be changed" if publish else ""
            ret["result"] = None if ret["changes"] else True
            return ret
        if proxy:
            before = __salt__["orthanc_nginx.current"](proxy)
        __salt__["orthanc_first_run.open"](name)
        if done:
            _restart(name, server, proxy)
            ret["changes"].update(start)
        address = __salt__["orthanc_server.wait"](name, config, server["log"], server["timeout"])
        if server["postgresql"]:
            __salt__["orthanc_server.require_postgresql"](config)
        if publish:
            __salt__["orthanc_nginx.publish"](proxy)
            ret["changes"].update(publish)
        _prove(server)
        __salt__["orthanc_first_run.end"]()
        __salt__["orthanc_upgrade.end"]()
    except (CommandExecutionError, SaltInvocationError) as err:
        ret.update(result=False, comment=str(err))
        if upgrade or __salt__["orthanc_files.unproven"](config):
            ret["comment"] += f"\n{_go_back(name, server, proxy, before)}"
        return ret
    ret["comment"] = f"{name} {f'was {done}' if done else 'runs'} and answers at {address}"
    ret["comment"] += "; nginx was changed" if publish else ""
    return ret


def _restart(name, server, proxy):
    if proxy:
        __salt__["orthanc_nginx.withdraw"](proxy, __salt__["orthanc_server.port"](server["config"]))
    __salt__["orthanc_server.restart"](name)


def _prove(server):
    account = {"user": server["user"], "group": server["group"]}
    __salt__["orthanc_proof.prove"](server["config"], account)
    __salt__["orthanc_cutover.settle"](server["config"])


def _go_back(name, server, proxy, before):
    """Let Orthanc serve with the last good configuration again, and say how that went."""
    config, packages = server["config"], ""
    upgraded = __salt__["orthanc_upgrade.pending"]()
    others = ", ".join(__salt__["orthanc_proof.changed_files"](config, running=False))
    if others and not upgraded:
        # They are somebody else's, and no copy of them is kept.
        others = f" Files have changed since it last served, put them right: {others}."
    try:
        if not __salt__["orthanc_first_run.served"]():
            # What would come back is the package's own configuration, which is open to all.
            __salt__["orthanc_first_run.close"](name)
            __salt__["service.stop"](name)
            if before and before != __salt__["orthanc_nginx.current"](proxy):
                __salt__["orthanc_nginx.put"](proxy, before)
            return f"{name} never served before, so it was stopped; the next run tries again."
        restored = __salt__["orthanc_conf.restore"](config, server["group"])
        if upgraded.get("back"):
            __salt__["orthanc_upgrade.back"](name)
            packages = f"Version {upgraded['old']} of the packages is back. "
        elif not restored:
            return f"There is no other configuration to go back to.{others}"
        # The port that Orthanc is about to take may be nginx's by now, or the other way round.
        _restart(name, server, proxy if before else None)
        # Where the folder itself has been moved, the last good one is another.
        served = __salt__["orthanc_folder.in_use"](config, name)
        __salt__["orthanc_server.wait"](name, served, server["log"], server["timeout"])
        if before and before != __salt__["orthanc_nginx.current"](proxy):
            __salt__["orthanc_nginx.put"](proxy, before)
        _prove(server)
    except (CommandExecutionError, SaltInvocationError) as err:
        lost = "The last good configuration is back, but Orthanc does not serve with it:"
        return f"{packages}{lost}{others}\n{err}"
    return f"{packages}The last good configuration is back, and Orthanc serves with it."


def stopped(name, config):
    """
    Ensure that Orthanc does not run, and is not started at boot. One that the formula has not
    configured is left alone.

    name
        The name of the service.

    config
        The path of the folder of the configuration.

    .. code-block:: yaml

        orthanc:
          orthanc.stopped:
            - config: /etc/orthanc
    """
    ret = {"name": name, "result": True, "changes": {}, "comment": f"{name} does not run"}
    try:
        came = name in __salt__["orthanc_first_run.known"]()["came"]
        if not came and not __salt__["orthanc_files.written"](config):
            ret["comment"] = f"{name} is not of the formula's making"
            return ret
        functions = {"running": ("service.status", "service.stop")}
        # Without systemd as PID 1 there is no boot to prepare for.
        if salt.utils.systemd.booted(__context__):
            functions["enabled"] = ("service.enabled", "service.disable")
        for what, (is_so, function) in functions.items():
            if __salt__[is_so](name):
                ret["changes"][f"{name} {what}"] = {"old": True, "new": False}
                if not __opts__["test"]:
                    __salt__[function](name)
        if ret["changes"] and __opts__["test"]:
            again = "" if came else "; where it ran before the formula, it does so again at the end"
            ret.update(result=None, comment=f"{name} would be stopped{again}")
        elif ret["changes"]:
            if __salt__["service.status"](name):
                raise CommandExecutionError("it still runs")
            ret["comment"] = f"{name} was stopped"
    except (CommandExecutionError, SaltInvocationError, OSError) as err:
        ret.update(result=False, changes={}, comment=f"{name} could not be stopped: {err}")
    return ret


def unlinked(name, links):
    """
    Ensure that symbolic links are gone. A real file or folder in the place of one is left alone.

    name
        The folder of the links; it goes too if nothing is left in it.

    links
        A list of the paths of the links.

    .. code-block:: yaml

        /opt/gnuhealth/orthanc:
          orthanc.unlinked:
            - links: [/opt/gnuhealth/orthanc/data]
    """
    ret = {"name": name, "result": True, "changes": {}, "comment": "The links are not there"}
    found = [path for path in links if os.path.islink(path)]
    if not found:
        return ret
    ret["changes"] = {path: {"old": os.readlink(path), "new": None} for path in found}
    if __opts__["test"]:
        ret.update(result=None, comment="The links would be removed")
        return ret
    ret["changes"] = {}
    try:
        for path in found:
            target = os.readlink(path)
            os.unlink(path)
            ret["changes"][path] = {"old": target, "new": None}
        if os.path.isdir(name) and not os.listdir(name):
            os.rmdir(name)
        ret["comment"] = "The links were removed"
    except OSError as err:
        ret.update(result=False, comment=f"The links were not all removed: {err}")
    return ret


def connected(name, configuration=None, site=None):
    """
    Ensure that Orthanc knows the modalities and peers of a configuration, and those no longer that
    were of it before, without a restart. Those that others have added stay, and are named.

    name
        The path of the folder of the configuration.

    configuration
        See the execution module :py:mod:`orthanc_layers`; None where they are in its files.

    site
        What is made of the cards of other sites, see the execution module :py:mod:`orthanc_cards`;
        None for none. What of them is of no use is a warning.

    .. code-block:: yaml

        /etc/orthanc:
          orthanc.connected:
            - configuration:
                layers:
                  - {option: [DicomModalities, ct, AET], value: CT}
                  - {option: [DicomModalities, ct, Host], value: 192.0.2.17}
                  - {option: [DicomModalities, ct, Port], value: 104}
                main_file: orthanc.json
                option_files: {}
                in_database: true
    """
    ret = {"name": name, "result": True, "changes": {}, "comment": "They are in the configuration"}
    try:
        left = not site and __salt__["orthanc_mine.leave"](name, __opts__["test"])
        others, left_out = [], []
        if configuration is not None:
            configuration, site = __salt__["orthanc_pillar.resolve"]([configuration, site])
            wanted = __salt__["orthanc_connections.of"](name, configuration)
            ret["changes"], others, left_out = __salt__["orthanc_connections.ensure_all"](
                name, wanted, site, test=__opts__["test"]
            )
            ret["comment"] = "Orthanc knows all modalities and peers"
        if left:
            ret["changes"]["card"] = {"old": "published", "new": None}
    except (CommandExecutionError, SaltInvocationError) as err:
        ret.update(result=False, comment=str(err))
        return ret
    if ret["changes"] and __opts__["test"]:
        ret.update(result=None, comment="Orthanc would be told modalities and peers")
    if left_out:
        ret["warnings"] = left_out
    if others:
        ret["comment"] += f"; it also knows, added by others: {', '.join(others)}"
    return ret


def modality_present(name, settings, config=None):
    """
    Ensure that Orthanc knows a modality, without a restart, if it keeps them in its database
    (``orthanc:modalities_in_database``).

    name
        The name of the modality.

    settings
        A mapping with AET, Host and Port, and what else the Orthanc Book lists below
        DicomModalities; or a reference to it in the pillar, ``{__pillar__: [key, key below it]}``.

    config
        The path of the folder of the configuration; by default the one of the pillar.

    .. code-block:: yaml

        ct:
          orthanc.modality_present:
            - settings: {AET: CT_WARD3, Host: 192.0.2.17, Port: 104}
            - require:
              - orthanc: orthanc-network
    """
    return _connection(name, "DicomModalities", {name: settings}, config)


def modality_absent(name, config=None):
    """
    Ensure that Orthanc knows no modality of a name; see ``modality_present``.

    name
        The name of the modality.

    config
        The path of the folder of the configuration; by default the one of the pillar.

    .. code-block:: yaml

        old-ct:
          orthanc.modality_absent: []
    """
    return _connection(name, "DicomModalities", {}, config)


def peer_present(name, settings, config=None):
    """
    Ensure that Orthanc knows a peer, without a restart, if it keeps them in its database
    (``orthanc:modalities_in_database``).

    name
        The name of the peer.

    settings
        A mapping with Url, and what else the Orthanc Book lists below OrthancPeers. A password is
        not shown where a reference stands for it, ``{__pillar__: [key, key below it]}``.

    config
        The path of the folder of the configuration; by default the one of the pillar.

    .. code-block:: yaml

        archive:
          orthanc.peer_present:
            - settings:
                Url: https://archive.example.org/
                Username: ward3
                Password: {__pillar__: [secrets, archive]}
    """
    return _connection(name, "OrthancPeers", {name: settings}, config)


def peer_absent(name, config=None):
    """
    Ensure that Orthanc knows no peer of a name; see ``peer_present``.

    name
        The name of the peer.

    config
        The path of the folder of the configuration; by default the one of the pillar.

    .. code-block:: yaml

        old-archive:
          orthanc.peer_absent: []
    """
    return _connection(name, "OrthancPeers", {}, config)


def _connection(name, option, wanted, config):
    ret = {"name": name, "result": True, "changes": {}, "comment": "It is as it should be"}
    try:
        folder = __salt__["orthanc_folder.chosen"](config)
        gone = [] if wanted else [name]
        wanted = __salt__["orthanc_pillar.resolve"](wanted)
        ret["changes"] = __salt__["orthanc_connections.ensure"](
            folder, option, wanted, gone, test=__opts__["test"]
        )
    except (CommandExecutionError, SaltInvocationError) as err:
        ret.update(result=False, comment=str(err))
        return ret
    if ret["changes"]:
        ret["comment"] = "Orthanc was told"
        if __opts__["test"]:
            ret.update(result=None, comment="Orthanc would be told")
    return ret
