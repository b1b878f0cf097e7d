"""
A running site, held against the points of :py:mod:`orthanc_audit`: what is asked, all of it side by
side, so that nothing that hangs holds up the others.
"""

from __future__ import annotations

import contextlib
import functools
import gzip
import os
import re
import time

from salt.exceptions import CommandExecutionError

# How long all of it takes at most, in seconds. Three are given, and Salt itself needs some.
LIMIT, FIRST = 1.5, 1
LOG = "/var/log/orthanc"
CHANGELOG = "/usr/share/doc/{0}/changelog.Debian.gz"
CVE = re.compile(r"CVE-\d{4}-\d+")
FILTER = "IncomingHttpRequestFilter"
WELL_KNOWN = ("orthanc", "orthanc")


def look(config=None):
    """
    Part of the formula. Hold the site against the points; see ``orthanc.security``.

    config
        The path of the folder of the configuration; by default that of the service.

    Returns what ``orthanc_audit.judge`` returns.

    Raises CommandExecutionError if the configuration cannot be read, or if it is not root who asks.
    """
    __salt__["orthanc_host.require_root"]()
    began, ask = time.monotonic(), __salt__["orthanc_inquiry.ask"]
    answers = ask({"site": functools.partial(_site, config)}, FIRST)
    site = answers.get("site", {}).get("found")
    if not site:
        why = answers.get("site", {}).get("error", "there is no answer in time")
        raise CommandExecutionError(f"the configuration of Orthanc cannot be read: {why}")
    questions = {
        "asked": functools.partial(_asked, site),
        "files": functools.partial(_files, site),
        "package": functools.partial(_package, site),
        "process": _process,
    }
    answers.update(ask(questions, LIMIT - (time.monotonic() - began)))
    return __salt__["orthanc_audit.judge"](answers)


def _server() -> str:
    return __salt__["orthanc_tables.get"]("SERVER")


def _site(config) -> dict:
    """Return what the configuration makes of the server, with the site in front of it."""
    chosen = __salt__["orthanc_folder.chosen"](config)
    config = config or __salt__["orthanc_folder.in_use"](chosen, _server())
    package = (__salt__["orthanc_packages.held"](_server()) or {}).get("version")
    said, version = __salt__["orthanc_folder.effective"](config), _version(package)
    said = __salt__["orthanc_connections.filled"](said, config, FIRST / 2)
    options = __salt__["orthanc_differences.in_force"](said, config, {"version": version})
    proxy = __salt__["orthanc_nginx.found"]()
    bound = options.get("HttpBindAddresses") == __salt__["orthanc_tables.get"]("LOOPBACK")
    reached = options["HttpServerEnabled"] and options["RemoteAccessAllowed"] and not bound
    shown = {o: __salt__["orthanc_options.redact"](o, value) for o, value in said.items()}
    elsewhere = __salt__["orthanc_postgresql.is_elsewhere"](options)
    return {
        **{"config": config, "options": options, "package": package, "version": version},
        "remote": bool(proxy.get("open") or reached),
        # What reaches Orthanc itself, besides nginx.
        "https": bool(options["SslEnabled"] or (proxy and not reached)),
        "filtered": "Authorization" in options or _has_filter(options),
        "has_secrets": shown != said,
        "secrets": __salt__["orthanc_passwords.check"](said, shown, True),
        "database": _of_database(options) if elsewhere else None,
    }


def _of_database(options: dict) -> list:
    return [sentence for _, sentence in __salt__["orthanc_database.advice"](options)]


def _has_filter(options: dict) -> bool:
    """Return whether a script judges each request."""
    found = False
    for path in _scripts(options):
        with contextlib.suppress(OSError):
            found = found or FILTER in (__salt__["orthanc_files.read_if_there"](path) or "")
    return found


def _scripts(options: dict) -> list:
    """Return the paths of the scripts that Orthanc runs."""
    lua = options.get("LuaScripts")
    found = [*(lua if isinstance(lua, list) else ()), options.get("PythonScript")]
    return [path for path in found if isinstance(path, str)]


def _process() -> dict:
    found = __salt__["orthanc_host.orthancs"]()
    if not found:
        raise CommandExecutionError("Orthanc does not run")
    names = ("NoNewPrivileges", "ProtectSystem")
    values = __salt__["orthanc_host.unit"](_server(), *names)
    root = [process for process in found if os.stat(process).st_uid == 0]
    return {"root": bool(root), "unit": dict(zip(names, values)) or None}


def _asked(site: dict) -> dict:
    """Return whether the server gives something without a password, or with one that all know."""
    url = f"{__salt__['orthanc_server.url'](site['config'])}/system"
    __salt__["orthanc_server.require_orthanc"](site["config"])
    if any(map(__salt__["orthanc_host.stands_still"], __salt__["orthanc_host.orthancs"]())):
        raise CommandExecutionError(__salt__["orthanc_server.trouble"]())
    ask = functools.partial(__salt__["orthanc_http.ask"], url, timeout=LIMIT)
    unasked = ask()[0] == 200
    known = not unasked and ask(account=WELL_KNOWN)[0] == 200
    return {"open": unasked, "default": known, "remote": site["remote"]}


def _files(site: dict) -> dict:
    """Return what of Orthanc's others get into, and what of its own it might change."""
    options, config = site["options"], site["config"]
    places = __salt__["orthanc_folder.places"](options).values()
    folders = dict.fromkeys([config, *places, LOG])
    account = __salt__["orthanc_host.account"](_server())
    uid, gid = (account.pw_uid, account.pw_gid) if account else (None, None)
    plugins = [path for path in options["Plugins"] or () if isinstance(path, str)]
    found: dict = {"writable": [], "plugins": plugins or None}
    found["plugin_folders"] = [path for path in plugins if os.path.isdir(path)]
    found["open"] = [path for path in filter(os.path.isdir, folders) if _is_open(path)]
    files = __salt__["orthanc_folder.json_files"](config)
    for path in [config, *(os.path.join(config, entry) for entry in files), *_scripts(options)]:
        with contextlib.suppress(OSError):
            state = os.stat(path)
            own = state.st_uid == uid or (state.st_gid == gid and state.st_mode & 0o020)
            if own or state.st_mode & 0o002:
                found["writable"].append(path)
    return found


def _is_open(path: str) -> bool:
    """Return whether every account gets into a folder, through all those above it."""
    way, whole = [], os.path.realpath(path)
    while whole != os.path.dirname(whole):
        whole = os.path.dirname(whole)
        way.append(os.stat(whole).st_mode & 0o001)
    return all(way) and bool(os.stat(path).st_mode & 0o007)


def _version(package: str | None) -> str | None:
    """Return the version of Orthanc, which the one of its package begins with."""
    found = re.match(r"(?:\d+:)?(\d+(?:\.\d+)+)", package or "")
    if found:
        return found[1]
    command = __salt__["orthanc_options.command"]()
    return __salt__["orthanc_options.installed"](command).get("version")


def _package(site: dict) -> dict:
    """Return which version there is, and which vulnerabilities its package says it has fixed."""
    text, path = "", CHANGELOG.format(_server())
    if os.path.exists(path):
        with gzip.open(path, "rt", errors="replace") as file:
            text = file.read()
    elif site["package"]:
        text = __salt__["orthanc_host.ask"](["rpm", "--query", "--changelog", _server()]) or ""
    fixes = sorted(set(CVE.findall(text)))
    return {"version": site["version"], "package": site["package"], "fixes": fixes}
