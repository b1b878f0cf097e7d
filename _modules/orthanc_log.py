"""
What Orthanc has logged since its last start: into a file, or into the journal.
"""

from __future__ import annotations

import contextlib
import glob
import os
import re

import salt.utils.files


def lines(service, folder=None):
    """
    Part of the formula. Return the lines that Orthanc logged since it was last started, secrets
    included.

    service
        The name of the service.

    folder
        The path of the folder of the logs; None for the journal.
    """
    if folder:
        # One file for each start, named after the program: openSUSE's begins with a small letter.
        return _newest(glob.glob(os.path.join(glob.escape(folder), "[Oo]rthanc.log.*")))
    journal = __salt__["cmd.run_stdout"](
        ["journalctl", "--unit", service, "--lines", "200", "--output", "cat"], python_shell=False
    )
    # Of several starts, the last one: the first line that Orthanc logs names its version.
    return re.split(r"^.*\] Orthanc version: ", journal, flags=re.MULTILINE)[-1].splitlines()


def _newest(paths: list) -> list[str]:
    """Return the lines of the newest of some files; any of them may be rotated away meanwhile."""
    ages = {}
    for path in paths:
        with contextlib.suppress(OSError):
            ages[path] = os.stat(path).st_mtime_ns
    for path in sorted(ages, key=ages.get, reverse=True):
        with contextlib.suppress(OSError), salt.utils.files.fopen(path, errors="replace") as file:
            return file.read().splitlines()
    return []
