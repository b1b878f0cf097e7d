"""
Scripts of the administrator, in Lua and Python: copied into the folder of the configuration, so
that Orthanc reads them there and nobody else changes them.

What is in them is for Orthanc to judge, at its trial start; here they are texts.

https://orthanc.uclouvain.be/book/users/lua.html
https://orthanc.uclouvain.be/book/plugins/python.html
"""

from __future__ import annotations

import os
import re

from salt.exceptions import SaltInvocationError

# How the files are called; also in orthanc/scripts.py, and SCRIPTS of orthanc_files.
NAME = re.compile(r"formula-script-\w+\.(lua|py)")

# Where a script was that does not come to its end, as Python's faulthandler says it.
HANGS = re.compile(r'^  File ".*/formula-script-(\w+)\.py", line (\d+) in ')


def hanging(lines):
    """
    Part of the formula. Return which script in Python does not come to its end, and in which line;
    an empty text where none is known.

    lines
        What was written while it was loaded.
    """
    found = next(filter(None, map(HANGS.match, lines)), None)
    return f"orthanc:python_scripts:{found[1]}: line {found[2]} does not end" if found else ""


def texts(name, wanted):
    """
    Part of the formula. Return the texts of the scripts by the names of their files; None for one
    that must not be there any more.

    name
        The path of the folder of the configuration.

    wanted
        What ``orthanc_layers.complete`` returned.

    Raises SaltInvocationError if there is nothing behind a source, or no text.
    """
    found = dict.fromkeys(there(name))
    found.update({entry: _text(spec, wanted) for entry, spec in wanted["scripts"].items()})
    return found


def there(name):
    """
    Part of the formula. Return the names of the files of scripts that are in a folder, a list.

    name
        The path of the folder.
    """
    return sorted(filter(NAME.fullmatch, os.listdir(name))) if os.path.isdir(name) else []


def judge(wanted):
    """
    Part of the formula. Return what is wrong with the sources of scripts, a list of sentences.

    wanted
        What ``orthanc_layers.complete`` returned.
    """
    problems = []
    for spec in wanted["scripts"].values():
        try:
            _text(spec, wanted)
        except SaltInvocationError as err:
            problems.append(str(err))
    return problems


def _text(spec: dict, wanted: dict) -> str:
    try:
        content = __salt__["orthanc_sources.read"](spec["source"], wanted["saltenv"])
        reason = _why_not(content)
    except SaltInvocationError as err:
        reason = str(err)
    if reason:
        raise SaltInvocationError(f"{spec['place']}: {reason}")
    return content.decode()


def _why_not(content: bytes) -> str:
    """Return why the content of a file is no script, an empty text if it is one."""
    if not content.strip():
        return "is empty; write a script, or take the key out"
    if b"\0" in content:
        return "is no text (it holds a byte of zero); give the source of the script"
    try:
        content.decode()
    except UnicodeDecodeError as err:
        line = content.count(b"\n", 0, err.start) + 1
        return f"is no text in UTF-8 (line {line}); convert it, as with iconv -f LATIN1 -t UTF-8"
    return ""
