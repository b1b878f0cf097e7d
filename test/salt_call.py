"""``salt-call``, forked from an interpreter that has loaded Salt already.

What Salt imports takes a third of a run that changes nothing. Each call is a process of its own, as
it is without this, and begins where the imports end.

Runs on a host, with the Python of its Salt. Reads the words of a call from each line of its input,
and writes exit code, output and errors to a line of its output; all in JSON.
"""

import json
import os
import sys
import tempfile

import salt.cli.call
import salt.scripts
import salt.state  # Not loaded by salt-call itself, but by most of what is called.


def call(words):
    """Return exit code, output and errors of a call."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        child = os.fork()
        if child == 0:
            files = (os.open(os.devnull, os.O_RDONLY), out.fileno(), err.fileno())
            for number, file in enumerate(files):
                os.dup2(file, number)
            sys.argv = words
            sys.exit(salt.scripts.salt_call())
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read().decode())
    return [code, *texts]


for line in sys.stdin:
    print(json.dumps(call(json.loads(line))), flush=True)
