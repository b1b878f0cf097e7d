"""
What about the backups contradicts itself, as ``checks.py`` finds it of all else.
"""

from __future__ import annotations

import posixpath
import re

# Variables by which restic gets its repository and password.
OWN_VARIABLES = (
    *("RESTIC_REPOSITORY", "RESTIC_REPOSITORY_FILE", "RESTIC_PASSWORD", "RESTIC_PASSWORD_FILE"),
    "RESTIC_PASSWORD_COMMAND",
)


def run() -> dict:
    return {"check_backup": check_backup}


def check_backup(settings: dict, default: dict) -> list[str]:
    """Return what is wrong with the repository of the backups, and what belongs to it."""
    path, where, given = "orthanc:backup", "orthanc:backup:repository", settings["backup"]
    # Nobody asks for any, but a default may be written out.
    if given == default:
        return []
    if "repository" not in given:
        return [f"{where}: missing; say where the backups are to be kept"]
    problems = [
        f"{path}:environment:{name}: is set by the formula; see {path}:"
        f"{'password' if 'PASSWORD' in name else 'repository'}"
        for name in given["environment"]
        if name in OWN_VARIABLES
    ]
    repository = posixpath.normpath(re.sub("^/+", "/", given["repository"]))
    taken = [*filter(None, settings["paths"].values()), settings["system"]["backup"]["folder"]]
    if repository == "/" or any(f"{repository}/".startswith(f"{folder}/") for folder in taken):
        problems.append(
            f"{where}: must not be {repository}, where the server has its own files; choose a"
            " folder on another disk"
        )
    return problems
