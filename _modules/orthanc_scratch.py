"""
An Orthanc that runs aside for a moment, on folders of its own: it answers this host only, and
nobody but the one who has started it. With this process it ends, however that ends.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import re
import secrets
import socket
import subprocess
import tempfile
import time

from salt.exceptions import CommandExecutionError

# For how long Orthanc may take to start, to answer or to end, in seconds.
PATIENCE = 60
STARTED = "Orthanc has started"
USER = "scratch"
# Whatever it is for.
CLOSED = {
    "DicomServerEnabled": False,
    "RemoteAccessAllowed": False,
    "AuthenticationEnabled": True,
    "SaveJobs": False,
}
# Runs as soon as a line says go. As soon as the other end of the pipe is gone, so is the shell, and
# systemd kills what it leaves. Arguments: program, configuration.
RUN = """
echo ready $$
read -r go || exit 0
exec 3<&0
{ cat <&3 >/dev/null; kill -s KILL $$; } &
"$1" "$2" </dev/null 1>&2 3<&- &
wait $!
exit $?
"""


@contextlib.contextmanager
def running(folder, options, group, words, environment=None, gently=False):
    """
    Part of the formula. Let an Orthanc run as long as the block lasts, which gets a function that
    asks it: from method, path and data, which may be left out, to the code of the answer and what
    it holds.

    folder
        The path of the folder for its configuration, and for its log, which has no name there.

    options
        A mapping from option name to value, besides those that close it.

    group
        The name of Orthanc's group.

    words
        What ``starter`` returned.

    environment
        Its variables, a mapping; None for those of this process.

    gently
        Whether it ends as a service does, with all on the disk.

    Raises CommandExecutionError with Orthanc's own words if it does not start, or where what the
    block does with it fails.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    password = secrets.token_urlsafe()
    own = {**options, **CLOSED, "HttpPort": port, "RegisteredUsers": {USER: password}}
    config, said = os.path.join(folder, "orthanc.json"), []
    gid = __salt__["orthanc_host.gid"](group)
    __salt__["orthanc_files.write"](config, __salt__["orthanc_json.dump"](own), 0o640, gid)
    words = words(config)

    def ask(method, path, data=None):
        given = None if data is None else json.dumps(data).encode()
        url = f"http://127.0.0.1:{port}{path}"
        return __salt__["orthanc_http.ask"](url, method, (USER, password), PATIENCE, given)

    try:
        # Of no name: the folder is Orthanc's by then.
        with _log(folder, said) as output, subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", *words],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            cwd="/",
            env=environment,
        ) as process:
            try:
                with contextlib.suppress(BrokenPipeError):
                    process.stdin.write(b"go\n")
                    process.stdin.flush()
                _wait(process, output)
                yield ask
                if gently:
                    process.terminate()
                    process.wait(PATIENCE)
            finally:
                end(process, words)
    except (CommandExecutionError, OSError, subprocess.TimeoutExpired) as err:
        said = __salt__["orthanc_secrets.scrub"](said, own)
        raise CommandExecutionError(" ".join([str(err), *said])) from None
    finally:
        os.unlink(config)  # it has passwords in it


@contextlib.contextmanager
def _log(folder: str, said: list):
    """Give a file for what Orthanc says, and put its errors into a list in the end."""
    with tempfile.TemporaryFile(dir=folder) as file:
        try:
            yield file
        finally:
            lines = _read(file).splitlines()
            said += [line for line in lines if re.match(r"E\d{4}", line)][-5:] or lines[-3:]


def starter(program, account, command=(), name=""):
    """
    Part of the formula. Return a function that makes the words which start Orthanc of the path of
    its configuration.

    program
        The path of Orthanc.

    account
        A mapping with the names of its ``user`` and ``group``.

    command, name
        For a unit of systemd, see ``unit``; without a command it is started as the account, and
        nothing else.
    """
    if command:
        return functools.partial(unit, command, name, program)
    switch = __salt__["orthanc_host.as_account"](**account)
    alone = [*switch[:-1], "--pdeathsig", "KILL", "--", program]
    return lambda config: [*alone, config]


def unit(command, name, program, config):
    """
    Part of the formula. Return the words that let systemd start Orthanc when a line comes in, and
    kill it as soon as nothing more can come in.

    command
        What ``orthanc_hardening.words`` or ``orthanc_hardening.of_unit`` returned.

    name
        How the name of the unit begins.

    program, config
        The path of Orthanc, and that of its configuration.
    """
    return [
        *command,
        f"--unit={name}-{os.urandom(4).hex()}",
        # That it is killed is no failure, as the journal would have it.
        *("--property=KillSignal=SIGKILL", "--property=SuccessExitStatus=SIGKILL"),
        "--property=Type=exec",
        # It puts variables of its own in the place of what follows a $.
        *("--", "sh", "-c", RUN.replace("$", "$$"), "sh", program, config),
    ]


def end(process, words):
    """
    Part of the formula. End what was started; systemd says when nothing of it is left.

    process
        What ``subprocess.Popen`` returned.

    words
        The words that started it.
    """
    if words[0] == "systemd-run":
        process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(PATIENCE)
    process.kill()


def _wait(process, output) -> None:
    deadline = time.monotonic() + PATIENCE
    while process.poll() is None and time.monotonic() < deadline:
        if STARTED in _read(output):
            return
        time.sleep(0.05)
    raise CommandExecutionError("it does not start:")


def _read(file) -> str:
    return os.pread(file.fileno(), os.fstat(file.fileno()).st_size, 0).decode(errors="replace")
