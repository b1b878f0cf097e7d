"""
Orthanc, started once with a configuration that is not written: aside, where nobody sees it, as the
service's user, with the host's own plugins, scripts and certificates.

It lives in a mount name space of its own, in which a file system in memory covers the folder of the
configuration: what happens there is seen by nobody, and ends with the process, however that ends.

Where the unit of the service keeps something from Orthanc, systemd runs it with the same: what
Orthanc, a script or a plugin needs at the start and would not have is said with the name of the
directive.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import re
import select
import signal
import subprocess
import tempfile
import time

import salt.utils.files
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
# How the units of trials are called.
UNIT = "orthanc-preflight"
# What is in the way of scripts and plugins, the likeliest first; the other rows come behind.
SUSPECTS = (
    *("ProtectSystem", "MemoryDenyWriteExecute", "SystemCallFilter", "RestrictAddressFamilies"),
    *("ProtectHome", "PrivateTmp", "PrivateDevices", "ProcSubset", "RestrictNamespaces"),
)
# For how many seconds it is looked for.
SEARCH = 40
# How an entry of the log begins; what follows without that is of the same one.
ENTRY = re.compile(r"[A-Z]\d{4} ")
# What is said where a file cannot be written, and what names one.
PATH = re.compile(r"/[^\s'\":)]+")
READ_ONLY = re.compile(r"(.*)Read-only file system(.*)")
# For how long Orthanc may take; it needs 0.1 to 2 seconds.
PATIENCE = 60
STARTED, NO_ANSWER = "Orthanc has started", f"(it did not answer within {PATIENCE} seconds)"
# What stands in the lines where Orthanc's own HTTPS is the reason; without libssl-dev it says no
# more than that the port may be in use.
HTTPS_FAILED = "SSL|TCP port of the HTTP server|it crashed|it did not answer"


def run(name, wanted, options, trial, texts, scripts):
    """
    Part of the formula. Start Orthanc once, and end it.

    name
        The path of the folder of the configuration, which must be there.

    wanted
        The configuration; see :py:mod:`orthanc_layers`.

    options
        A mapping from option name to value, as the service is to have them.

    trial
        The same with which it is started here: its folders and ports are scratch ones. That for
        images and index is made below the folder of the configuration.

    texts
        A mapping from file name to text, for other files than JSON in that folder; None removes
        a file.

    scripts
        The paths of the scripts as the administrator knows them.

    Returns what Orthanc wrote, a list of lines, and those of them that say why it did not start.
    The first is None where a mount name space cannot be had; the log says so.

    Raises OSError or CommandExecutionError if that failed.
    """
    start = functools.partial(_start, name, wanted, trial, texts, scripts)
    words = functools.partial(__salt__["orthanc_hardening.words"], name, wanted, options)
    lines = None
    if wanted["hardening"]:
        lines, errors = start(_in_unit(words(), name, wanted))
        refused = __salt__["orthanc_hardening.refused"](words()) if lines is None else ""
        if refused and not wanted["aside"]:
            return [], [_not_to_be_had(words, wanted, refused)]
        if refused:
            log.warning("They are tried without what the unit keeps from Orthanc: %s", refused)
        # One that hangs would be waited for twice.
        if errors and NO_ANSWER not in errors:
            plain, other = start(_aside(name, wanted))
            if plain is not None and not other:
                errors.append(_in_the_way(words, start, (name, wanted), errors))
    if lines is None:
        lines, errors = start(_aside(name, wanted))
    if lines is None:
        log.warning(
            "Orthanc cannot be tried before the configuration is written, because this host"
            " allows no mount name spaces: %s",
            " ".join(errors),
        )
        errors = []
    return lines, errors


def _aside(name: str, wanted: dict) -> list[str]:
    """Return the words that try it in a mount name space that this process makes."""
    return [
        *("unshare", "--mount", "--propagation", "private"),
        *("sh", "-c", START, "sh", name, wanted["user"], wanted["group"], wanted["command"]),
    ]


def _in_unit(command: list, name: str, wanted: dict) -> list[str]:
    """Return the words that try it in a unit of systemd's, as the service will be run."""
    folder, gid = os.path.realpath(name), __salt__["orthanc_host.gid"](wanted["group"])
    covered = f"--property=TemporaryFileSystem={folder}:mode=0750,gid={gid},nosuid,nodev"
    limit = f"--property=RuntimeMaxSec={10 * PATIENCE}"
    command = [*command, covered, limit]
    return __salt__["orthanc_scratch.unit"](command, UNIT, wanted["command"], name)


def _start(name: str, wanted: dict, trial: dict, texts: dict, scripts, words: list) -> tuple:
    """
    Start Orthanc by these words. Return its lines, and those that say why it did not work; None in
    the place of its lines where it came to nothing, and what was said of that.
    """
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": os.environ.get("LANG", "C")}
    with tempfile.TemporaryFile() as output, subprocess.Popen(
        # The kernel ends all of it together with this process, however that ends.
        ["setpriv", "--pdeathsig", "KILL", *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=output,
        cwd="/",
        env=environment,
    ) as process:
        try:
            ready = select.select([process.stdout], [], [], PATIENCE)[0]
            said = process.stdout.readline().split() if ready else []
            root = f"/proc/{said[1].decode() if said[1:] else process.pid}/root"
            if not said or not _is_covered(root, name):
                return None, _lines(output)
            _fill(root, name, wanted, trial, texts)
            process.stdin.write(b"go\n")
            process.stdin.flush()
            errors = _watch(process, output, {**trial, "LuaScripts": scripts})
            return _lines(output), errors
        finally:
            __salt__["orthanc_scratch.end"](process, words)


def _is_covered(root: str, name: str) -> bool:
    """Return whether the folder of the configuration is another one there than everybody's."""
    # Not every root may look into what others run.
    with contextlib.suppress(OSError):
        return os.stat(f"{root}{os.path.realpath(name)}").st_dev != os.stat(name).st_dev
    return False


def _in_the_way(words, start, where: tuple, errors: list) -> str:
    """Return which directive keeps Orthanc from starting, and what lets it."""
    name, wanted = where
    rows = sorted(wanted["hardening"]["rows"])
    found, deadline = "", time.monotonic() + SEARCH
    for row in [*SUSPECTS, *(row for row in rows if row not in SUSPECTS)]:
        lines, other = start(_in_unit(words(without=row), name, wanted))
        if lines is not None and not other:
            found = row
            break
        if time.monotonic() > deadline:
            break
    return __salt__["orthanc_hardening.sentence"](found, _read_only(errors))


def _read_only(errors: list) -> str:
    """Return the path that Orthanc says it cannot write, an empty text where it says none."""
    for line in errors:
        match = READ_ONLY.search(line)
        before, behind = (PATH.findall(part) for part in match.groups()) if match else ((), ())
        if match and (before or behind):
            # The script that wrote to it may stand before it, or Python's own words.
            return behind[0] if behind else before[-1]
    return ""


def _not_to_be_had(words, wanted: dict, refused: str) -> str:
    """Return which directive this host cannot do, and what to set in its place."""
    ask, found = __salt__["orthanc_hardening.refused"], ""
    for row in sorted({*wanted["hardening"]["rows"], *wanted["hardening"]["given"]}):
        if not ask(words(without=row)):
            found = row
            break
    return __salt__["orthanc_hardening.unknown"](found, refused)


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
    images = os.path.join(folder, os.path.basename(trial["StorageDirectory"]))
    os.mkdir(images, mode=0o700)
    os.chown(images, uid, gid)


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
    errors = _errors(lines) or lines[-5:]
    errors = __salt__["orthanc_secrets.scrub"](errors, trial)
    script = __salt__["orthanc_lua.loading"](lines, trial["LuaScripts"])
    if script:
        errors.append(f"(it was loading the script {script})")
    if any("already registered" in line for line in errors):
        errors.append("(a package or another file brings this plugin too; take one of them out)")
    if process.poll() is None:
        errors += [*filter(None, [__salt__["orthanc_scripts.hanging"](lines)]), NO_ANSWER]
    elif _signal(process.returncode):
        errors.append(f"(it crashed: {_signal(process.returncode)})")
    if trial.get("SslEnabled") and any(re.search(HTTPS_FAILED, line) for line in errors):
        errors.append(
            "(the builds of Debian and Ubuntu cannot do HTTPS themselves; let nginx do it in front"
            " of Orthanc: orthanc:https with terminator: nginx, and no SslEnabled)"
        )
    return errors


def _errors(lines: list) -> list[str]:
    """Return the lines of errors, with what belongs to them, such as Python's own words."""
    found, is_error = [], False
    for line in lines:
        if ENTRY.match(line):
            is_error = line.startswith("E")
        found += [line] if is_error else []
    return found


def _signal(code: int) -> str:
    """Return the name of the signal that a program, or the one that its shell ran, died of."""
    number = -code if code < 0 else code - 128
    return signal.Signals(number).name if number in signal.valid_signals() else ""


def _answers(process, trial: dict) -> bool:
    address = f"https://127.0.0.1:{trial['HttpPort']}"
    deadline = time.monotonic() + 10
    while process.poll() is None and time.monotonic() < deadline:
        if __salt__["orthanc_http.answers"](address):
            return True
        time.sleep(0.1)
    return False


def _lines(output) -> list[str]:
    output.seek(0)
    return output.read().decode(errors="replace").splitlines()
