"""``salt-call``, ``salt`` and ``salt-ssh``, forked from an interpreter that has loaded Salt.

What Salt imports takes a third of a run that changes nothing. Each call is a process of its own, as
it is without this, and begins where the imports end.

Runs on a host, with the Python of its Salt. Reads the words of a call from each line of its input,
and writes exit code, output and errors to a line of its output; all in JSON.
"""

import contextlib
import hashlib
import importlib
import json
import os
import socket
import sys
import tempfile

import salt.scripts

# What each program runs, and the modules of Salt that it loads, or most of what it calls.
PROGRAMS = {
    "salt-call": ("salt_call", "salt.cli.call", "salt.state", "salt.utils.gitfs", "salt.runner"),
    "salt": ("salt_main", "salt.cli.salt"),
    "salt-ssh": ("salt_ssh", "salt.cli.ssh", "salt.client.ssh.wrapper.state"),
}
# That of the masterless hosts of the tests.
ID = "testhost"


def listen():
    """Take what is told to a minion, which there is not: for a second Salt tries again without a
    pause each time that packages or modules are new. Nobody has to read it.
    """
    folder = "/var/run/salt/minion"
    os.makedirs(folder, exist_ok=True)
    path = f"{folder}/minion_event_{hashlib.sha256(ID.encode()).hexdigest()[:10]}_pull.ipc"
    with contextlib.suppress(FileNotFoundError):
        os.remove(path)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(4096)
    return listener


def call(words):
    """Return exit code, output and errors of a call."""
    main, *modules = PROGRAMS[words[0]]
    for module in modules:
        importlib.import_module(module)
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        child = os.fork()
        if child == 0:
            files = (os.open(os.devnull, os.O_RDONLY), out.fileno(), err.fileno())
            for number, file in enumerate(files):
                os.dup2(file, number)
            sys.argv = words
            sys.exit(getattr(salt.scripts, main)())
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read().decode())
    return [code, *texts]


listener = None
for line in sys.stdin:
    if line.startswith('["salt-call"'):
        listener = listener or listen()
    print(json.dumps(call(json.loads(line))), flush=True)
