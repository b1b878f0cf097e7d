"""
What became of studies that were too old: a log for good, a line of JSON each.

``deleting`` is on the disk before Orthanc is asked, and ``deleted`` or ``kept`` follows. A ``run``
ends with a line of its own. Nobody's name is in it: a study is known by its StudyInstanceUID and
its AccessionNumber.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import time

import salt.utils.files


def write(path, event, **what):
    """
    Part of the formula. Add a line, and return when it is on the disk.

    path
        The path of the log, which is root's alone.

    event
        ``deleting``, ``deleted``, ``kept`` or ``run``.

    what
        What else is in the line.

    Raises OSError if that failed.
    """
    line = {"time": stamp(time.time()), "event": event, **what}
    line = json.dumps(line) + "\n"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
    try:
        os.fchmod(descriptor, 0o600)
        size = os.fstat(descriptor).st_size
        # One that was killed in the middle of a line.
        torn = size and os.pread(descriptor, 1, size - 1) != b"\n"
        text = (("\n" if torn else "") + line).encode()
        # A disk may be full in the middle of a line.
        if os.write(descriptor, text) < len(text):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    folder = os.open(os.path.dirname(path), os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def stamp(moment):
    """
    Part of the formula. Return a time as it stands in the log.

    moment
        In seconds since 1970.
    """
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(moment))


def read(path):
    """
    Part of the formula. Return what the log says of the last runs: ``unsettled``, the lines of
    studies of which it does not say whether they are deleted, by the Orthanc identifier; ``runs``,
    how many came to an end; the ``last`` one of these, a mapping, empty where there was none; and
    whether a run was ``killed`` since.

    path
        The path of the log.
    """
    found: dict = {"unsettled": {}, "runs": 0, "last": {}, "killed": False}
    opened = salt.utils.files.fopen
    with contextlib.suppress(FileNotFoundError), opened(path, errors="replace") as file:
        for written in file:
            with contextlib.suppress(ValueError, KeyError, TypeError):
                line = json.loads(written)
                found["killed"] = line["event"] != "run"
                if line["event"] == "run":
                    found.update(last=line, runs=found["runs"] + 1)
                elif line["event"] == "deleting":
                    found["unsettled"][line["study"]] = line
                else:
                    found["unsettled"].pop(line["study"], None)
    return found
