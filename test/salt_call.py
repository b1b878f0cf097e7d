"""``salt-call``, ``salt`` and ``salt-ssh``, forked from an interpreter that has loaded Salt.

What Salt imports takes a third of a run that changes nothing. Each call is a process of its own, as
it is without this, and begins where the imports end.

Runs on a host, with the Python of its Salt. Reads the words of a call from each line of its input,
and writes exit code, output and errors to a line of its output; all in JSON.
"""

import importlib
import json
import os
import sys
import tempfile

import salt.scripts

# What each program runs, and the modules of Salt that it loads, or most of what it calls.
PROGRAMS = {
    "salt-call": ("salt_call", "salt.cli.call", "salt.state", "salt.utils.gitfs", "salt.runner"),
    "salt": ("salt_main", "salt.cli.salt"),
    "salt-ssh": ("salt_ssh", "salt.cli.ssh", "salt.client.ssh.wrapper.state"),
}


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


for line in sys.stdin:
    print(json.dumps(call(json.loads(line))), flush=True)
