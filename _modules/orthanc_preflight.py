"""
The trial start: a configuration with the real Orthanc, before anything on the host is changed.

Orthanc is started with it once, by :py:mod:`orthanc_trial`: with the host's own plugins, scripts
and certificates, and with scratch images, index, ports and databases.

What such a start cannot show is seen to beforehand: the ports, and whether the database answers.
(The files and folders that the options name are judged by :py:mod:`orthanc_paths`.)
"""

from __future__ import annotations

import copy
import os
import random
import re
import socket

from salt.exceptions import CommandExecutionError

# Below the ports that the kernel gives to outgoing connections.
SCRATCH_PORTS = range(20000, 32000)
# The folder for images and index, below that of the configuration.
SCRATCH = "scratch"


def tried(name, wanted, options, texts, start=True):
    """
    Part of the formula. Try a configuration, and leave nothing behind.

    name
        The path of the folder of the configuration, which must be there.

    wanted
        The configuration; see :py:mod:`orthanc_layers`. Files that are not of it count as they are.

    options
        A mapping from option name to value.

    texts
        A mapping from file name to text, for other files than JSON in that folder; None removes
        a file. A name may be a whole path, for a file elsewhere.

    start
        False only sees to ports and database, and does not start Orthanc.

    Returns ``problems``, pairs of an option's path and a sentence; ``errors``, lines that Orthanc
    itself wrote before it gave up; and ``overridden``, what ``orthanc_lua.overridden`` says of the
    scripts. All are empty for a good configuration, and for every one where a mount name space
    cannot be had; the log says so.

    Raises CommandExecutionError if the trial itself failed.
    """
    managed = [wanted["main_file"], *wanted["option_files"]]
    everything = {**__salt__["orthanc_folder.options"](name, managed), **options}
    problems = [
        *_ports_problems(everything, wanted),
        *_database_problems(options, wanted, __salt__["orthanc_files.at"](name, texts)),
    ]
    errors, overridden = [], []
    if start and not problems:
        try:
            errors, overridden = _trial(name, wanted, options, texts)
        except OSError as err:
            raise CommandExecutionError(f"trying the configuration failed: {err}") from err
    return {"problems": problems, "errors": errors, "overridden": overridden}


def scratch(options, ports, folder):
    """
    Part of the formula. Return the options with all replaced by scratch ones that must not be
    touched by a trial.

    options
        A mapping from option name to value.

    ports
        Free ports, as many as it may need.

    folder
        The path of the folder for images and index. Some plugins take a relative one for one of
        the folder that the process was started in.
    """
    ports = iter(ports)
    trial = copy.deepcopy(options)
    for section, keys in __salt__["orthanc_options.untouchable"]().items():
        if keys is None:
            trial.pop(section, None)
        elif isinstance(trial.get(section), dict):
            trial[section].update(keys)
    tenants = trial.get("MultitenantDicom")
    for server in (tenants.get("Servers") or []) if isinstance(tenants, dict) else []:
        server["Port"] = next(ports)
    trial.update(
        HttpPort=next(ports),
        DicomPort=next(ports),
        # Nobody else is to find anything behind these ports.
        RemoteAccessAllowed=False,
        DicomAlwaysAllowEcho=False,
        DicomAlwaysAllowStore=False,
        StorageDirectory=folder,
        IndexDirectory=folder,
    )
    return trial


def _trial(name: str, wanted: dict, options: dict, texts: dict) -> tuple[list, list]:
    """
    Start Orthanc with the options. Return the lines that say why it did not work, and which
    callbacks its scripts take from each other.
    """
    trial = scratch(options, _free_ports(), os.path.join(name, SCRATCH))
    scripts = trial.get("LuaScripts") or []
    if scripts:
        probe = __salt__["orthanc_lua.probe"]()
        texts = {**texts, probe["name"]: probe["text"]}
        trial["LuaScripts"] = __salt__["orthanc_lua.watched"](scripts)
    lines, errors = __salt__["orthanc_trial.run"](name, wanted, options, trial, texts, scripts)
    return errors, __salt__["orthanc_lua.overridden"](lines or (), scripts)


def _free_ports():
    """Yield ports of this host that nothing listens on."""
    for port in random.sample(SCRATCH_PORTS, len(SCRATCH_PORTS)):
        if not __salt__["orthanc_host.listening"](port):
            yield port


def _ports_problems(options: dict, wanted: dict) -> list:
    """Return the ports that another program has, or that the service may not open."""
    service, site = wanted["service"], wanted["site"]
    given_up = __salt__["orthanc_nginx.site"](site).get("port") if site else None
    holders, own = __salt__["orthanc_host.holders"], os.path.realpath(wanted["command"])
    ports = {"HttpPort": options.get("HttpPort", 8042)}
    if options.get("DicomServerEnabled", True):
        ports["DicomPort"] = options.get("DicomPort", 4242)
    problems, first = [], __salt__["orthanc_hardening.first_open_port"]()
    for option, port in ports.items():
        if not isinstance(port, int):
            continue  # an environment variable, in a file of somebody else
        others = set() if port == given_up else {*holders(port)} - {own}
        if others:
            sentence = (
                f"{port} is taken by {', '.join(sorted(others))}; choose another port, or stop"
                " that program"
            )
            problems.append(([option], sentence))
        elif port < first and not (wanted["hardening"] or _may_open_low_ports(service)):
            sentence = (
                f"the service may not open {port}, as it is below {first}; choose a higher port,"
                f" leave orthanc:hardening on, or give {service}.service"
                " AmbientCapabilities=CAP_NET_BIND_SERVICE"
            )
            problems.append(([option], sentence))
    return problems


def _may_open_low_ports(service: str) -> bool:
    shown = __salt__["orthanc_host.unit"](service, "AmbientCapabilities", "User")
    return bool(shown) and ("cap_net_bind_service" in shown[0].lower() or not shown[1])


def _database_problems(options: dict, wanted: dict, texts: dict) -> list:
    """Return the databases in use that do not answer, or not to Orthanc."""
    tried = []
    if "PostgreSQL" not in wanted["databases"]:
        account = __salt__["orthanc_layers.account"](wanted)
        tried = __salt__["orthanc_database.tried"](options, **account, texts=texts)
    # Without psql, whether anything answers is all that can be told.
    untried = {
        section: where
        for section, where in databases(options).items()
        if section != "PostgreSQL" or tried is None
    }
    silent = [problem for item in untried.items() for problem in _silence(*item, options)]
    return [*(tried or []), *silent]


def _silence(section: str, where: tuple, options: dict) -> list:
    """Return that nothing answers where a database is to be, if that is so."""
    option, address = where
    try:
        if isinstance(address, str):
            with socket.socket(socket.AF_UNIX) as probe:
                probe.settimeout(5)
                probe.connect(address)
        else:
            socket.create_connection(address, timeout=5).close()
    except (OSError, UnicodeError) as err:
        where = address if isinstance(address, str) else "{} port {}".format(*address)
        # Of a mistyped URI, a part of the password may pass for the host.
        where, reason = __salt__["orthanc_secrets.scrub"]([where, str(err)], options)
        sentence = f"no database answers at {where} ({reason}); start it first"
        return [([section, option], sentence)]
    return []


def databases(options):
    """
    Part of the formula. Return where the databases are that Orthanc would use: a mapping from
    section to a pair, the key that says so, and the path of a socket or a pair of host and port.

    options
        A mapping from option name to value.
    """
    found: dict = {}
    for section in ("PostgreSQL", "MySQL"):
        keys = options.get(section)
        if not isinstance(keys, dict) or not (keys.get("EnableIndex") or keys.get("EnableStorage")):
            continue
        option, host, port = "Host", keys.get("Host", "localhost"), keys.get("Port")
        if section == "PostgreSQL":
            option = __salt__["orthanc_postgresql.key_of"](keys)
            parameters = __salt__["orthanc_postgresql.parameters_of"](keys)
            if parameters is None or not re.fullmatch(r"\d*", parameters.get("port", "")):
                continue  # of several hosts, the library tries one after the other
            host, port = parameters.get("host", ""), int(parameters.get("port") or 5432)
            if "," in host:
                continue
        if section == "PostgreSQL" and (not host or host.startswith("/")):
            address = f"{host or '/var/run/postgresql'}/.s.PGSQL.{port or 5432}"
        elif section == "MySQL" and host == "localhost":
            option = "UnixSocket"
            address = keys.get("UnixSocket") or "/var/run/mysqld/mysqld.sock"
        else:
            address = (host, port or (5432 if section == "PostgreSQL" else 3306))
        found[section] = (option, address)
    return found
