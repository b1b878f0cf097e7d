"""
nginx before several nodes of Orthanc: an instance of its own, with its own configuration, so that
another nginx of the host is left alone.

The functions take what belongs together as one mapping, the *balancer*:

texts
    A mapping from path to text: its configuration and its unit; None removes one.

pems
    A mapping from path to what ``orthanc_tls.pem`` needs for a PEM file; None removes one.

config, unit, command
    The paths of the two and of nginx's program.

ports, certificate
    The ports that it listens on, and the path of the certificate that clients see; None for none.

https://nginx.org/en/docs/
"""

from __future__ import annotations

import os
import time

from salt.exceptions import CommandExecutionError

# Lies beside the configuration from before it is written until nginx was seen with it.
UNLOADED = ".unloaded"
# For how many seconds nginx may need.
PATIENCE = 15


def pending(balancer):
    """
    Part of the formula. Return what there is to do, as changes without a secret.

    balancer
        See the module.

    Raises SaltInvocationError if there is nothing behind a source of the certificate.
    """
    changes = __salt__["orthanc_nginx.differences"](_wanted(balancer), balancer["pems"])
    if not changes and (os.path.exists(balancer["config"] + UNLOADED) or not _serves(balancer)):
        changes[_name(balancer)] = {"old": "not as it shall be", "new": "loaded"}
    return changes


def put(balancer):
    """
    Part of the formula. Let nginx serve as it shall, or go; if it does not, the files return that
    were there before, and nginx serves on with these.

    balancer
        See the module.

    Raises CommandExecutionError with nginx's reasons if it does not, and SaltInvocationError if
    there is nothing behind a source of the certificate.
    """
    wanted, marker = _wanted(balancer), balancer["config"] + UNLOADED
    before = {path: __salt__["orthanc_files.read_if_there"](path) for path in wanted}
    unit = balancer["unit"]
    gone = wanted[unit] is None
    if gone and before[unit] is not None:
        __salt__["orthanc_host.systemctl"]("disable", "--now", _name(balancer))
    with __salt__["orthanc_files.failing"]("writing the files of the balancer"):
        if not gone:
            __salt__["orthanc_files.write"](marker, "", 0o600)
        _write(balancer, wanted)
    if gone:
        __salt__["orthanc_host.systemctl"]("daemon-reload")
        with __salt__["orthanc_files.failing"]("removing the files of the balancer"):
            __salt__["orthanc_files.write"](marker, None)
        return
    words = [balancer["command"], "-t", "-q", "-e", "stderr", "-c", balancer["config"]]
    tried = __salt__["cmd.run_all"](words, python_shell=False, ignore_retcode=True)
    if tried["retcode"]:
        with __salt__["orthanc_files.failing"]("putting the files of the balancer back"):
            _write(balancer, before)
            __salt__["orthanc_files.write"](marker, None)
        raise CommandExecutionError(f"nginx does not take it. It says: {tried['stderr']}")
    try:
        _load(balancer, anew=before[unit] != wanted[unit])
    except CommandExecutionError:
        if not before[unit]:
            __salt__["orthanc_host.systemctl"]("disable", "--now", _name(balancer))
        with __salt__["orthanc_files.failing"]("putting the files of the balancer back"):
            _write(balancer, before)
        __salt__["orthanc_host.systemctl"]("daemon-reload")
        if before[unit]:
            __salt__["orthanc_host.systemctl"]("reload-or-restart", _name(balancer))
        raise
    with __salt__["orthanc_files.failing"]("removing a mark of the balancer"):
        __salt__["orthanc_files.write"](marker, None)


def _write(balancer: dict, texts: dict) -> None:
    for path, text in texts.items():
        __salt__["orthanc_files.sweep"](path)
        __salt__["orthanc_files.write"](path, text, 0o600 if path in balancer["pems"] else 0o644)


def _load(balancer: dict, anew: bool) -> None:
    """Let nginx take its files, and wait until it has."""
    name = _name(balancer)
    if anew:
        __salt__["orthanc_host.systemctl"]("daemon-reload")
    __salt__["orthanc_host.systemctl"]("enable", name)
    # What is under way goes on where it is reloaded.
    __salt__["orthanc_host.systemctl"]("restart" if anew else "reload-or-restart", name)
    deadline = time.monotonic() + PATIENCE
    while not _serves(balancer):
        if time.monotonic() > deadline:
            raise CommandExecutionError(
                f"nginx does not serve as it shall after {PATIENCE} seconds; `journalctl -u {name}`"
                " may say why"
            )
        time.sleep(0.05)


def _serves(balancer: dict) -> bool:
    """Return whether nginx listens where it shall, and shows the certificate on the host."""
    command, path = os.path.realpath(balancer["command"]), balancer["certificate"]
    holders = map(__salt__["orthanc_host.holders"], balancer["ports"])
    if not all(command in found for found in holders):
        return False
    return not path or __salt__["orthanc_tls.chain"](path) == __salt__["orthanc_tls.served"](
        balancer["ports"][0]
    )


def _wanted(balancer: dict) -> dict:
    """Return the texts of all files as they shall be; None for one that shall not be."""
    pems = balancer["pems"].items()
    made = {path: spec and __salt__["orthanc_tls.pem"](path, spec) for path, spec in pems}
    return {**made, **balancer["texts"]}


def _name(balancer: dict) -> str:
    return os.path.basename(balancer["unit"])
