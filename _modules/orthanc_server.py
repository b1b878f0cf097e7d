"""
The service of Orthanc on this host: its address, started and waited for, and what its log says.

Part of the formula; what people ask of it is in :py:mod:`orthanc`.
"""

from __future__ import annotations

import logging
import os
import re
import time

import salt.utils.systemd
from salt.exceptions import CommandExecutionError

log = logging.getLogger(__name__)

# For how many seconds a service may be seen as not running before waiting for it is given up:
# systemd restarts it after 0.1 s where the unit says so.
GRACE = 3
# For how many seconds it may stand still: a backup stops it for less.
BACKUP = 10
STILL = (
    "Orthanc stands still: a signal has stopped it. A backup does so for 8 seconds; where none is"
    " made now, let it go on: systemctl kill --signal=CONT orthanc"
)
# Where Debian's package logs, and how a unit says where; openSUSE's logs into the journal.
LOG = "/var/log/orthanc"
LOGDIR = re.compile(r"--logdir=([^ ;]+)")


def paths():
    """
    Part of the formula. Return the paths that the unit of the service gives to Orthanc, as the
    pillar has them: ``config``, and ``log`` where it is not the journal.
    """
    service = __salt__["orthanc_tables.get"]("SERVER")
    found = {"config": __salt__["orthanc_folder.in_use"]("/etc/orthanc", service)}
    given = LOGDIR.search(" ".join(__salt__["orthanc_host.unit"](service, "ExecStart")))
    log = given.group(1) if given else LOG if os.path.isdir(LOG) else None
    return {**found, **({"log": log} if log else {})}


def port(config):
    """
    Part of the formula. Return the number of the port of the REST API, as the configuration gives
    it.

    config
        The path of the folder of the configuration.
    """
    return __salt__["orthanc_folder.effective"](config).get("HttpPort", 8042)


def url(config):
    """
    Part of the formula. Return the address of the REST API on this host, as the configuration gives
    it.

    config
        The path of the folder of the configuration.
    """
    options = __salt__["orthanc_folder.effective"](config)
    scheme = "https" if options.get("SslEnabled") else "http"
    # Orthanc takes only 127.0.0.1 for local, neither localhost nor ::1.
    return f"{scheme}://127.0.0.1:{options.get('HttpPort', 8042)}"


def access(config):
    """
    Part of the formula. Return how people reach Orthanc; see ``orthanc.access``.

    config
        The path of the folder of the configuration.
    """
    options = __salt__["orthanc_folder.effective"](config)
    address, remote = url(config), options.get("RemoteAccessAllowed", False)
    certificate = options.get("SslCertificate") if options.get("SslEnabled") else None
    users = options.get("RegisteredUsers")
    site = __salt__["orthanc_nginx.found"]()
    if site:
        remote, certificate = site["open"], site["certificate"]
        address = f"https://127.0.0.1:{site['port']}"
    if remote:
        address = address.replace("127.0.0.1", __salt__["orthanc_tls.host"](certificate))
    dicom = f"{options.get('DicomAet', 'ORTHANC')} on port {options.get('DicomPort', 4242)}"
    if options.get("DicomTlsEnabled"):
        dicom += ", over TLS"
    return {
        "url": address,
        "reachable from": "other hosts" if remote else "this host only",
        "users": ", ".join(sorted(users)) if isinstance(users, dict) else "",
        "dicom": dicom if options.get("DicomServerEnabled", True) else "off",
    }


def by_hand():
    """
    Part of the formula. Return the files by which somebody has configured the server: a list of the
    paths of those that are not as the packages brought them.
    """
    used = paths()["config"]
    if not os.path.isdir(used):
        return [used] if os.path.exists(used) else []
    files = [os.path.join(used, e) for e in __salt__["orthanc_folder.json_files"](used)]
    return __salt__["orthanc_packages.edited"](files, __salt__["orthanc_tables.get"]("SERVER"))


def restart(service):
    """
    Part of the formula. Restart Orthanc; see ``orthanc.restart``.

    service
        The name of the service.
    """
    __salt__["orthanc_host.settle"]()
    forget(service)
    return __salt__["service.restart"](service)


def forget(service):
    """
    Part of the formula. Let systemd start Orthanc as its unit and drop-in are by now, also where it
    has given it up after too many failures.

    service
        The name of the service.
    """
    if salt.utils.systemd.booted(__context__):
        for words in (["daemon-reload"], ["reset-failed", service]):
            __salt__["cmd.run_all"](["systemctl", *words], python_shell=False, ignore_retcode=True)


def wait(service, config, log=None, timeout=60):
    """
    Part of the formula. Wait until Orthanc answers.

    service
        The name of the service.

    config
        The path of the folder of the configuration.

    log
        The path of the folder of the logs; None for the journal.

    timeout
        For how many seconds to wait at most. A service that has died is not waited for.

    Returns the address at which it answers.

    Raises CommandExecutionError with the errors of Orthanc's log if it does not.
    """
    address = url(config)
    started = seen_running = seen_moving = time.monotonic()
    while not __salt__["orthanc_http.answers"](address):
        now = time.monotonic()
        if trouble() != STILL:
            seen_moving = now
        elif now - seen_moving > BACKUP:
            raise CommandExecutionError(STILL)
        if __salt__["service.status"](service):
            seen_running = now
        if now - seen_running > GRACE:
            what = f"{service} does not stay up"
        elif now - started > timeout:
            what = f"{service} runs, but did not answer at {address} within {timeout} seconds"
        else:
            time.sleep(0.1)
            continue
        lines = __salt__["orthanc_log.lines"](service, log)
        # One that dies without an error has said something else.
        lines = __salt__["orthanc_folder.scrub"](config, (_errors(lines) or lines)[-10:])
        raise CommandExecutionError(
            "\n".join([f"{what}. Its log says:", *(lines or ["(nothing)"])])
        )
    return address


def backend(config):
    """
    Part of the formula. Return where the Orthanc that runs keeps its index; see
    ``orthanc.backend``.

    config
        The path of the folder of the configuration.
    """
    options = __salt__["orthanc_folder.effective"](config)
    folder = options.get("IndexDirectory") or options.get("StorageDirectory") or ""
    return __salt__["orthanc_host.backend"](os.path.join(folder, "index"))


def require_orthanc(config):
    """
    Part of the formula. Return nothing if nobody but Orthanc listens at its port, or nobody at all.
    Who is about to send a password asks this right before.

    config
        The path of the folder of the configuration.

    Raises CommandExecutionError if somebody else does.
    """
    number, name = port(config), __salt__["orthanc_tables.get"]("SERVER")
    holders = __salt__["orthanc_host.holders"](number)
    others = [path for path in holders if os.path.basename(path).lower() != name]
    require_account(number, (others or holders or ["a program"])[0])
    if others:
        raise CommandExecutionError(f"at the port {number} is not Orthanc, but {others[0]}")


def require_account(number, who="a program"):
    """
    Part of the formula. Return nothing if nobody listens at a port but Orthanc's account and root,
    who may call a program as they like. It is much faster than ``require_orthanc``.

    number
        Of the port.

    who
        The path of the program that listens there.

    Raises CommandExecutionError if somebody else does.
    """
    account = __salt__["orthanc_host.account"](__salt__["orthanc_tables.get"]("SERVER"))
    strangers = __salt__["orthanc_host.owners"](number) - {0, account.pw_uid if account else 0}
    if strangers:
        of = f" of the account {min(strangers)}"
        raise CommandExecutionError(f"at the port {number} is not Orthanc, but {who}{of}")


def require_postgresql(config):
    """
    Part of the formula. Return nothing if the Orthanc that runs keeps its index in PostgreSQL.

    config
        The path of the folder of the configuration.

    Raises CommandExecutionError with the reason if it does not: it says nothing by itself, and
    serves without the images that the database knows.
    """
    found = backend(config)
    if found == "PostgreSQL":
        return
    if found == "unknown":
        log.warning("Whether Orthanc keeps its index in PostgreSQL cannot be told on this host")
        return
    options = __salt__["orthanc_folder.effective"](config)
    reason = f"none of Plugins ({options.get('Plugins')}) is the index plugin of PostgreSQL"
    if not (options.get("PostgreSQL") or {}).get("EnableIndex"):
        reason = "EnableIndex is not true in the section PostgreSQL"
    raise CommandExecutionError(
        f"Orthanc serves, but keeps its index in {found or 'another place'} and not in PostgreSQL:"
        f" {reason}"
    )


def trouble():
    """
    Part of the formula. Say why Orthanc can give no answer, as far as its process tells; an empty
    text where it does not tell anything.
    """
    # Nobody else sees that process.
    if os.geteuid():
        return ""
    found = __salt__["orthanc_host.orthancs"]()
    if not found:
        return "Orthanc does not run; start it with orthanc.restart, and see orthanc.errors"
    return STILL if any(map(__salt__["orthanc_host.stands_still"], found)) else ""


def errors(service, log, config, count=10):
    """
    Part of the formula. Return the last errors that Orthanc logged; see ``orthanc.errors``.

    service
        The name of the service.

    log
        The path of the folder of the logs; None for the journal.

    config
        The path of the folder of the configuration, whose secrets are hidden.

    count
        How many lines at most.
    """
    found = _errors(__salt__["orthanc_log.lines"](service, log))
    return __salt__["orthanc_folder.scrub"](config, found[-count:])


def _errors(lines: list) -> list:
    # Orthanc begins each line with its level: E, W, I or T, and the date.
    return [line for line in lines if line[:1] == "E" and line[1:5].isdigit()]
