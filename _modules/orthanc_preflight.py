"""
The trial start: a configuration with the real Orthanc, before anything on the host is changed.

Orthanc is started with it once, as the service's user, with the host's own plugins, scripts and
certificates. It lives in a mount name space of its own, in which a file system in memory covers
the folder of the configuration: what happens there is seen by nobody, and ends with the process,
however that ends. Images, index, ports and databases are scratch ones.

What such a start cannot show is seen to beforehand: the ports, and whether the database answers.
(The files and folders that the options name are judged by :py:mod:`orthanc_paths`.)
"""

from __future__ import annotations

import copy
import logging
import os
import random
import re
import select
import signal
import socket
import subprocess
import tempfile
import time

import salt.utils.files
import salt.utils.systemd
from salt.exceptions import CommandExecutionError

log = logging.getLogger(__name__)

# Runs until the configuration is there and a line says go. Arguments: folder, user, group, program.
START = """
set -e
mount -t tmpfs -o nosuid,nodev,mode=0750 orthanc-preflight "$1"
chgrp "$3" "$1"
echo ready
read -r go
exec setpriv --reuid "$2" --regid "$3" --init-groups --pdeathsig KILL -- "$4" "$1" 1>&2
"""
# The folder for images and index, below that of the configuration.
SCRATCH = "scratch"
# Below the ports that the kernel gives to outgoing connections.
SCRATCH_PORTS = range(20000, 32000)
# For how long Orthanc may take; it needs 0.1 to 2 seconds.
PATIENCE = 60
STARTED = "Orthanc has started"
# What stands in the lines where Orthanc's own HTTPS is the reason; without libssl-dev it says no
# more than that the port may be in use.
HTTPS_FAILED = "SSL|TCP port of the HTTP server|it crashed|it did not answer"


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
    watch = len(scripts) > 1
    if watch:
        probe = __salt__["orthanc_lua.probe"]()
        texts = {**texts, probe["name"]: probe["text"]}
        trial["LuaScripts"] = __salt__["orthanc_lua.watched"](scripts)
    words = [
        # The kernel ends all of it together with this process, however that ends.
        *("setpriv", "--pdeathsig", "KILL"),
        *("unshare", "--mount", "--propagation", "private"),
        *("sh", "-c", START, "sh", name, wanted["user"], wanted["group"], wanted["command"]),
    ]
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": os.environ.get("LANG", "C")}
    with tempfile.TemporaryFile() as output, subprocess.Popen(
        words,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=output,
        cwd="/",
        env=environment,
    ) as process:
        try:
            ready = select.select([process.stdout], [], [], PATIENCE)[0]
            if ready and process.stdout.readline():
                _fill(f"/proc/{process.pid}/root", name, wanted, trial, texts)
                process.stdin.write(b"go\n")
                process.stdin.flush()
                errors = _watch(process, output, {**trial, "LuaScripts": scripts})
                found = __salt__["orthanc_lua.overridden"](_lines(output), scripts) if watch else []
                return errors, found
            log.warning(
                "Orthanc cannot be tried before the configuration is written, because this host"
                " allows no mount name spaces: %s",
                " ".join(_lines(output)),
            )
            return [], []
        finally:
            process.kill()


def _fill(root: str, name: str, wanted: dict, trial: dict, texts: dict) -> None:
    """Write the configuration into the folder as it is below the root of the trial."""
    # A symbolic link on the way would lead back to the folder as everybody sees it.
    folder = f"{root}{os.path.realpath(name)}"
    managed = [wanted["main_file"], *wanted["option_files"]]
    result = __salt__["cmd.run_all"](
        ["cp", "-a", "--", f"{name}/.", folder], python_shell=False, output_loglevel="quiet"
    )
    if result["retcode"]:
        raise CommandExecutionError(f"trying the configuration failed: {result['stderr']}")
    uid = __salt__["file.user_to_uid"](wanted["user"])
    gid = __salt__["file.group_to_gid"](wanted["group"])
    texts = {
        **dict.fromkeys(managed),
        **texts,
        managed[0]: __salt__["orthanc_json.dump"](trial),
    }
    for entry, text in texts.items():
        if os.path.isabs(entry):
            continue  # not of this folder, and nothing that Orthanc itself would read
        path = os.path.join(folder, entry)
        # A link leads out of this folder, to a real file.
        if os.path.lexists(path):
            os.unlink(path)
        if text is not None:
            with salt.utils.files.fopen(path, "x", encoding="utf-8") as file:
                file.write(text)
            os.chown(path, 0, gid)
            os.chmod(path, 0o640)
    for entry, content in __salt__["orthanc_folder.contents"](folder).items():
        # Of what is in two files Orthanc would die, and these two have become scratch ones. What
        # cannot be read is left as it is, for Orthanc to say.
        if entry not in managed and set(content or {}) & set(trial):
            kept = {option: value for option, value in content.items() if option not in trial}
            with salt.utils.files.fopen(os.path.join(folder, entry), "w") as file:
                file.write(__salt__["orthanc_json.dump"](kept))
    os.mkdir(os.path.join(folder, SCRATCH), mode=0o700)
    os.chown(os.path.join(folder, SCRATCH), uid, gid)


def _watch(process, output, trial: dict) -> list[str]:
    """Return why Orthanc did not start, nothing if it did."""
    deadline = time.monotonic() + PATIENCE
    while process.poll() is None and time.monotonic() < deadline:
        if any(STARTED in line for line in _lines(output)):
            # Distribution builds crash at the first request over HTTPS. (There is no certificate
            # here for a server that wants one of its clients.)
            https = trial.get("SslEnabled") and not trial.get("SslVerifyPeers")
            if not https or _answers(process, trial):
                return []
            break
        time.sleep(0.02)
    lines = _lines(output)
    errors = [line for line in lines if re.match(r"E\d{4}", line)] or lines[-5:]
    errors = __salt__["orthanc_secrets.scrub"](errors, trial)
    if any("Lua command" in line for line in errors):
        errors.append(
            f"(it does not say in which of the scripts: {', '.join(trial['LuaScripts'])})"
        )
    if any("already registered" in line for line in errors):
        errors.append("(a package or another file brings this plugin too; take one of them out)")
    if process.poll() is None:
        errors.append(f"(it did not answer within {PATIENCE} seconds)")
    elif process.returncode < 0:
        errors.append(f"(it crashed: {signal.Signals(-process.returncode).name})")
    if trial.get("SslEnabled") and any(re.search(HTTPS_FAILED, line) for line in errors):
        errors.append(
            "(the builds of Debian and Ubuntu cannot do HTTPS themselves; let nginx do it in front"
            " of Orthanc: orthanc:https with terminator: nginx, and no SslEnabled)"
        )
    return errors


def _answers(process, trial: dict) -> bool:
    address = f"https://127.0.0.1:{trial['HttpPort']}"
    deadline = time.monotonic() + 10
    while process.poll() is None and time.monotonic() < deadline:
        if __salt__["orthanc.answers"](address):
            return True
        time.sleep(0.1)
    return False


def _lines(output) -> list[str]:
    output.seek(0)
    return output.read().decode(errors="replace").splitlines()


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
    problems = []
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
        elif port < _first_open_port() and not _may_open_low_ports(service):
            sentence = (
                f"the service may not open {port}, as it is below {_first_open_port()}; choose a"
                f" higher port, or give {service}.service"
                " AmbientCapabilities=CAP_NET_BIND_SERVICE"
            )
            problems.append(([option], sentence))
    return problems


def _first_open_port() -> int:
    setting = "/proc/sys/net/ipv4/ip_unprivileged_port_start"
    if not os.path.exists(setting):
        return 1024
    with salt.utils.files.fopen(setting) as file:
        return int(file.read())


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
