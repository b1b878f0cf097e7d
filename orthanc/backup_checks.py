"""
What about backups and retention contradicts itself, as ``checks.py`` finds it of all else.
"""

from __future__ import annotations

import posixpath
import re

# Variables by which restic gets its repository and password.
OWN_VARIABLES = (
    *("RESTIC_REPOSITORY", "RESTIC_REPOSITORY_FILE", "RESTIC_PASSWORD", "RESTIC_PASSWORD_FILE"),
    "RESTIC_PASSWORD_COMMAND",
)
# Those of S3, of which one alone opens nothing.
S3_VARIABLES = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")

# What a rule lacks that has not all of it.
NEEDED = {
    "older_than": "such as 10 years, or 400 days",
    "by": "study_date, which devices have written, or received, when the last image came",
}


def run() -> dict:
    return {"check_backup": check_backup, "check_retention": check_retention}


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
    lacking = [name for name in S3_VARIABLES if name not in given["environment"]]
    if len(lacking) == 1 and given["repository"].startswith("s3:"):
        problems.append(
            f"{path}:environment:{lacking[0]}: missing; S3 takes {' and '.join(S3_VARIABLES)}"
        )
    repository = posixpath.normpath(re.sub("^/+", "/", given["repository"]))
    taken = [*filter(None, settings["paths"].values()), settings["system"]["backup"]["folder"]]
    if repository == "/" or any(f"{repository}/".startswith(f"{folder}/") for folder in taken):
        problems.append(
            f"{where}: must not be {repository}, where the server has its own files; choose a"
            " folder on another disk"
        )
    return problems


def check_retention(settings: dict, default: dict) -> list[str]:
    """Return what is wrong with the rules by which studies are deleted."""
    path, given = "orthanc:retention", settings["retention"]
    if given == default:
        return []
    if not given["rules"]:
        return [f"{path}:rules: missing; say which studies are to be deleted"]
    problems, last = [], len(given["rules"]) - 1
    for number, rule in enumerate(given["rules"]):
        where = f"{path}:rules:{number}"
        missing = [key for key in NEEDED if key not in rule]
        problems += [f"{where}:{key}: missing; {NEEDED[key]}" for key in missing]
        # A list with nothing in it is for nothing.
        problems += [
            f"{where}:{key}: is an empty list, and the rule would be for nothing; take it out"
            for key in ("modality", "aet")
            if rule.get(key) == []
        ]
        if not {"modality", "aet"} & set(rule) and number < last:
            problems.append(
                f"{where}: is for all studies, and the rules behind it would be for none; put it"
                " last"
            )
    if not (given["dry_run"] or given["unproven"] or "repository" in settings["backup"]):
        problems.append(
            f"{path}: nothing would ever be deleted, because there is no backup; set"
            f" orthanc:backup:repository, or {path}:unproven to true to delete what is in none"
        )
    return problems
