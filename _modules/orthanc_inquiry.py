"""
Questions that may never be answered, such as one about a disk of another host, which is away: each
is asked in a process of its own, and one that hangs is left behind.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import time


def ask(questions, limit):
    """
    Part of the formula. Return what functions return, all called at the same time: by its name,
    ``found`` of each, or the ``error`` with which it failed. Those that take too long are left out.

    questions
        A mapping from name to function, which takes nothing and returns what JSON has.

    limit
        For how many seconds to wait at most, for all of them.
    """
    deadline = time.monotonic() + limit
    pending, found = {}, {}
    for name, question in questions.items():
        pipe, group = _begin(question)
        pending[pipe] = (name, group, [])
    while pending and time.monotonic() < deadline:
        ready, _, _ = select.select(list(pending), [], [], max(0, deadline - time.monotonic()))
        for pipe in ready:
            name, _, parts = pending[pipe]
            parts.append(os.read(pipe, 1 << 16))
            if not parts[-1]:
                os.close(pipe)
                del pending[pipe]
                with contextlib.suppress(ValueError):
                    found[name] = json.loads(b"".join(parts))
    for pipe, (_, group, _) in pending.items():
        os.close(pipe)
        # With the programs that it waits for.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)
    return found


def _begin(question) -> tuple:
    """Return where the answer to a question comes from, and the group of its processes."""
    pipe, end = os.pipe()
    group = os.fork()
    if not group:
        # Nothing of this process goes on here, whatever happens.
        try:
            os.setsid()
            # What asks is nobody's child, so that nobody has to wait for its end.
            if not os.fork():
                _answer(question, end)
        finally:
            os._exit(0)
    os.close(end)
    os.waitpid(group, 0)
    return pipe, group


def _answer(question, end: int) -> None:
    # Who waits for the output of this process to end must not wait for one that hangs.
    silent = os.open(os.devnull, os.O_RDWR)
    for descriptor in range(3):
        os.dup2(silent, descriptor)
    try:
        found = {"found": question()}
    # What a question fails of is part of the answer.
    except Exception as err:
        found = {"error": str(err) or type(err).__name__}
    with os.fdopen(end, "wb") as file:
        file.write(json.dumps(found).encode())
