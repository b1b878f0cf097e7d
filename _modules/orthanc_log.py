"""
What Orthanc has logged, into a file or into the journal: since its last start, or since it was last
looked at.
"""

from __future__ import annotations

import contextlib
import glob
import os
import re

import salt.utils.files

# How much of a log is read at one time, in bytes.
MOST = 16 << 20
# Of what a device was refused, Orthanc says this, once.
REFUSED = re.compile(r"\] (Rejected (?:association,?|\S+ request from) .*)")


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


def since(service, folder=None, mark=None):
    """
    Part of the formula. Return the lines that Orthanc logged since a mark, and the mark of now,
    which JSON can hold.

    service, folder
        See ``lines``.

    mark
        The second value that this returned; without one, the last start is where it begins.
    """
    if not folder:
        return _of_journal(service, mark if isinstance(mark, str) else None)
    paths = _by_age(glob.glob(os.path.join(glob.escape(folder), "[Oo]rthanc.log.*")))
    path, place = mark if isinstance(mark, list) and mark[0] in paths else ("", 0)
    found = []
    for each in paths[paths.index(path) :] if path else paths[-1:]:
        with contextlib.suppress(OSError), salt.utils.files.fopen(each, "rb") as file:
            start = place if each == path else 0
            file.seek(max(start, os.fstat(file.fileno()).st_size - MOST))
            # The last line may be written yet.
            text, _, rest = file.read().rpartition(b"\n")
            found += text.decode(errors="replace").splitlines()
            mark = [each, file.tell() - len(rest)]
    return found, mark


def _of_journal(service: str, cursor: str | None) -> tuple:
    begin = f"--after-cursor={cursor}" if cursor else "--boot"
    words = ["journalctl", "--quiet", "--unit", service, "--output", "cat", "--show-cursor", begin]
    shown = __salt__["cmd.run_stdout"](words, python_shell=False, ignore_retcode=True)
    text, told, cursor_now = shown.rpartition("-- cursor: ")
    return (text if told else shown).splitlines(), cursor_now.strip() if told else cursor


def refused(lines):
    """
    Part of the formula. Return what lines of a log say of DICOM associations that were refused, or
    in which something was.

    lines
        A list of texts.
    """
    return [found.group(1) for found in map(REFUSED.search, lines) if found]


def _newest(paths: list) -> list[str]:
    """Return the lines of the newest of some files; any of them may be rotated away meanwhile."""
    for path in reversed(_by_age(paths)):
        with contextlib.suppress(OSError), salt.utils.files.fopen(path, errors="replace") as file:
            return file.read().splitlines()
    return []


def _by_age(paths: list) -> list[str]:
    """Return paths, that of the newest file last; without those that are gone meanwhile."""
    ages = {}
    for path in paths:
        with contextlib.suppress(OSError):
            ages[path] = os.stat(path).st_mtime_ns
    return sorted(ages, key=ages.get)
