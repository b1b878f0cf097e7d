"""
nginx in front of Orthanc: one file with a site of its own, and a PEM file where the certificate
does not lie on the host already. All else of that nginx is left alone.

The functions take what belongs together as one mapping, the *proxy*:

site
    The path of the file with the site.

text
    What the site shall be; None if there shall be none.

port, open
    The port that it listens on, and whether other hosts reach it.

pem
    The path of the PEM file.

certificate
    What ``orthanc_tls.pem`` needs for it; None if there shall be none.

service, command
    The name of nginx's service and the path of its program.

orthanc
    The path of Orthanc's program, which gives up the port that nginx takes.

https://nginx.org/en/docs/
"""

from __future__ import annotations

import difflib
import logging
import os
import re
import shutil
import time

from salt.exceptions import CommandExecutionError

log = logging.getLogger(__name__)

# Lies beside the site from before it is written until nginx was seen with it. (nginx takes no file
# for a site whose name does not end in .conf.)
UNLOADED = ".unloaded"
# For how many seconds nginx may need to take what it was told to load.
PATIENCE = 15
# A folder for trying things, and what puts another folder in the place of one, seen by this nginx
# only, and lets it read all that it has. See ``orthanc_files.own``.
SCRATCH = "/run/{}-nginx"
TRY = 'mount --bind "$1" "$2" && echo mounted && exec "$3" -t -q'
# Where the formula's site is, on the systems that it knows.
SITES = ("/etc/nginx/conf.d/{}.conf", "/etc/nginx/vhosts.d/{}.conf")


def site(path):
    """
    Part of the formula. Return what a site of the formula says of itself: its ``port``, whether it
    is ``open`` to other hosts, and the path of its ``certificate``; nothing where there is none.

    path
        The path of the file.
    """
    text = __salt__["orthanc_files.read_if_there"](path) or ""
    listening = re.findall(r"(?m)^ *listen (?:(\S+):)?(\d+) ssl;", text)
    certificate = re.search(r'(?m)^ *ssl_certificate "(.*)";', text)
    if not listening or not certificate:
        return {}
    return {
        "port": int(listening[0][1]),
        "open": not listening[0][0],
        "certificate": certificate.group(1),
    }


def found():
    """
    Part of the formula. Return what the site of the formula on this host says of itself, as
    ``site`` does.
    """
    return next(filter(None, map(site, map(__salt__["orthanc_files.own"], SITES))), {})


def differences(wanted, pems):
    """
    Part of the formula. Return what changes of files, without a secret.

    wanted
        A mapping from path to text; None where there shall be no file.

    pems
        Which of them are PEM files.
    """
    changes = {}
    for path, text in wanted.items():
        current = __salt__["orthanc_files.read_if_there"](path)
        if text == current:
            continue
        if path in pems:
            described = [__salt__["orthanc_tls.describe"](part) for part in (current, text)]
            changes[path] = dict(zip(("old", "new"), described))
        else:
            lines = [(part or "").splitlines(keepends=True) for part in (current, text)]
            changes[path] = {"diff": "".join(difflib.unified_diff(*lines, "old", "new"))}
    return changes


def pending(proxy):
    """
    Part of the formula. Return what there is to do until nginx serves as it shall, as changes
    without a secret.

    proxy
        See the module.
    """
    changes = differences(_wanted(proxy), [proxy["pem"]])
    reason = None if changes else _why_load(proxy)
    if reason:
        changes[proxy["service"]] = {"old": reason, "new": "loaded"}
    return changes


def tried(proxy):
    """
    Part of the formula. Say why nginx would not take its site, and change nothing.

    nginx reads all of its configuration with the new site in it, in a mount name space of its
    own. Where there is no nginx yet, and where such a name space cannot be had, nothing is wrong.

    proxy
        See the module.

    Returns a list of sentences.

    Raises SaltInvocationError if there is nothing behind a source of the certificate,
    CommandExecutionError if the trial itself failed.
    """
    if proxy["text"] is None or not os.path.exists(proxy["command"]):
        return []
    port, live = proxy["port"], site(proxy["site"])
    holders = set(__salt__["orthanc_host.holders"](port))
    holders.discard(os.path.realpath(proxy["orthanc"]))
    if live.get("port") == port:
        holders.discard(os.path.realpath(proxy["command"]))
    if holders:
        return [
            f"orthanc:port: {port} is taken by {', '.join(sorted(holders))}; choose another port,"
            " or stop that program"
        ]
    folder = os.path.dirname(proxy["site"])
    if not os.path.isdir(folder):
        return [f"{folder}, where nginx has its sites, is not there"]
    scratch = __salt__["orthanc_files.own"](SCRATCH)
    try:
        done = _try(proxy, folder, scratch)
    except OSError as err:
        raise CommandExecutionError(f"trying the site of nginx failed: {err}") from err
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    if "mounted" not in done["stdout"]:
        log.warning(
            "nginx cannot try its site beforehand, because this host allows no mount name spaces:"
            " %s",
            done["stderr"],
        )
        return []
    if done["retcode"]:
        return ["nginx does not take its configuration with Orthanc's site. It says:", *_said(done)]
    return []


def _try(proxy, folder: str, scratch: str) -> dict:
    """Let nginx read its configuration, with what is in the folder and the files to come."""
    shutil.rmtree(scratch, ignore_errors=True)
    os.mkdir(scratch, mode=0o700)
    copy, pem = os.path.join(scratch, "sites"), os.path.join(scratch, "pem")
    shutil.copytree(folder, copy, symlinks=True)
    texts = _wanted(proxy)
    __salt__["orthanc_files.write"](pem, texts[proxy["pem"]], 0o600)
    site_text = texts[proxy["site"]].replace(f'"{proxy["pem"]}"', f'"{pem}"')
    __salt__["orthanc_files.write"](
        os.path.join(copy, os.path.basename(proxy["site"])), site_text, 0o644
    )
    return __salt__["cmd.run_all"](
        [
            *("unshare", "--mount", "--propagation", "private"),
            *("sh", "-c", TRY, "sh", copy, folder, proxy["command"]),
        ],
        python_shell=False,
        ignore_retcode=True,
    )


def publish(proxy):
    """
    Part of the formula. Let nginx serve as it shall; if it does not, the files return that were
    there before.

    proxy
        See the module.

    Raises CommandExecutionError with nginx's reasons if it does not.
    """
    before, wanted = current(proxy), _wanted(proxy)
    live = site(proxy["site"])
    try:
        stays = live and proxy["text"] and live["port"] == proxy["port"]
        if stays and live["open"] != proxy["open"]:
            # nginx opens new sockets before it closes old ones, and these two exclude each other.
            put(proxy, {proxy["site"]: None})
        put(proxy, wanted)
    except CommandExecutionError as err:
        sentences = ["nginx does not serve Orthanc's site.", str(err)]
        try:
            put(proxy, before)
        except CommandExecutionError as again:
            sentences += ["Nor with what was there before.", str(again)]
        raise CommandExecutionError("\n".join(sentences)) from err


def withdraw(proxy, port):
    """
    Part of the formula. Let nginx give up the port that Orthanc is about to take, if it listens
    there for Orthanc; and shut other hosts out before Orthanc starts without the users that it had,
    perhaps.

    proxy
        See the module.

    port
        The port that Orthanc's configuration gives it.

    Raises CommandExecutionError with nginx's reasons if it does not.
    """
    # After a run that was killed, nginx may listen there without a site any more.
    killed = os.path.exists(proxy["site"] + UNLOADED) and _holds(proxy, port)
    live = site(proxy["site"])
    shuts = live.get("open") and not (proxy["text"] and proxy["open"])
    if killed or shuts or live.get("port") == port:
        put(proxy, {proxy["site"]: None}, listened=live.get("port") or port)


def current(proxy):
    """
    Part of the formula. Return the texts of site and PEM file as they are, for ``put``; None for
    one that is not there.

    proxy
        See the module.
    """
    read = __salt__["orthanc_files.read_if_there"]
    return {path: read(path) for path in (proxy["pem"], proxy["site"])}


def put(proxy, texts, listened=None):
    """
    Part of the formula. Write or remove files, and let nginx load them.

    proxy
        See the module.

    texts
        A mapping from path to text, None to remove the file.

    listened
        The port that nginx is to give up if there is no site any more; by default the one of the
        site as it is.

    Raises CommandExecutionError with nginx's reasons if it does not serve accordingly.
    """
    marker = proxy["site"] + UNLOADED
    listened = listened or site(proxy["site"]).get("port")
    if not os.path.isdir(os.path.dirname(proxy["site"])):
        return  # there never was an nginx
    try:
        __salt__["orthanc_files.write"](marker, "", 0o600)
        for path, text in texts.items():
            __salt__["orthanc_files.sweep"](path)
            __salt__["orthanc_files.write"](path, text, 0o644 if path == proxy["site"] else 0o640)
    except OSError as err:
        raise CommandExecutionError(f"Its files cannot be written: {err}") from err
    _load(proxy, listened)
    os.unlink(marker)


def _load(proxy, listened: int | None) -> None:
    """Let nginx load its files, and wait until it has."""
    live = site(proxy["site"])
    running = os.path.exists(proxy["command"]) and __salt__["service.status"](proxy["service"])
    if not live and not running:
        return
    done = __salt__["cmd.run_all"](
        [proxy["command"], "-t", "-q"], python_shell=False, ignore_retcode=True
    )
    if done["retcode"]:
        raise CommandExecutionError("\n".join(["It says:", *_said(done)]))
    # What goes wrong from here on, nginx only writes into its log.
    __salt__["service.reload" if running else "service.start"](proxy["service"])
    deadline = time.monotonic() + PATIENCE
    while not _loaded(proxy, live, listened):
        if time.monotonic() > deadline:
            where = live["port"] if live else listened
            what = "does not serve the certificate" if live else "still listens"
            raise CommandExecutionError(
                f"It {what} on port {where} after {PATIENCE} seconds; /var/log/nginx/error.log may"
                " say why"
            )
        time.sleep(0.05)


def _loaded(proxy, live: dict, listened: int | None) -> bool:
    if live:
        return _serves(live)
    return not (listened and _holds(proxy, listened))


def _holds(proxy, port: int) -> bool:
    """Return whether nginx listens on a port."""
    holders = __salt__["orthanc_host.holders"](port)
    return os.path.realpath(proxy["command"]) in holders


def _serves(live: dict) -> bool:
    """Return whether nginx listens where it shall, and shows the certificate on the host."""
    wanted = __salt__["orthanc_tls.chain"](live["certificate"])
    if not wanted or __salt__["orthanc_tls.served"](live["port"]) != wanted:
        return False
    return __salt__["orthanc_host.is_open"](live["port"]) == live["open"]


def _why_load(proxy) -> str | None:
    """Return why nginx must load its files, although they are as they shall be."""
    if os.path.exists(proxy["site"] + UNLOADED):
        return "a run was interrupted"
    live = site(proxy["site"])
    if live and not _serves(live):
        return "another certificate, or none"
    return None


def _wanted(proxy) -> dict:
    """Return the texts of site and PEM file as they shall be; None for one that shall not be."""
    spec = proxy["certificate"]
    return {
        proxy["pem"]: __salt__["orthanc_tls.pem"](proxy["pem"], spec) if spec else None,
        proxy["site"]: proxy["text"],
    }


def _said(done: dict) -> list[str]:
    """Return what nginx said, without the marks that it puts before its lines."""
    return [line.replace("nginx: ", "", 1) for line in done["stderr"].splitlines()] or ["(nothing)"]
