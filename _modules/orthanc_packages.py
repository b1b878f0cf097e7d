"""
Whether the system's package manager can bring the version that the pillar pins, and whether that
still fits.

Part of the formula.
"""

from __future__ import annotations

import fnmatch
import re

from salt.exceptions import CommandExecutionError

# What zypper is not to change.
LOCKS = "/etc/zypp/locks"


def missing(name, version):
    """
    Part of the formula. Say what is wrong with a version that ``pkg.installed`` would not find:
    with ``test=True``, that state says of any version that it would be installed.

    name
        The name of the package.

    version
        The version, as ``pkg.installed`` takes it: with ``*`` for any rest of it, and with ``>=``
        and the like passed over here.

    Returns a sentence, or None where the version is installed or can be. The package lists are
    renewed before a version counts as unknown.
    """
    if version.startswith(("<", ">", "=")):
        return None
    known = [__salt__["pkg.version"](name)]
    if _matches(version, known):
        return None
    known = _offered(name)
    if not _matches(version, known):
        __salt__["pkg.refresh_db"]()
        known = _offered(name)
    if _matches(version, known):
        return None
    return (
        f"orthanc:version: no package source of this host has {name} {version}, but"
        f" {', '.join(known) or 'no version at all'}; take one of these, or add the source that has"
        " it"
    )


def held(name):
    """
    Part of the formula. Return the ``version`` of an installed package, and whether ``pinned``,
    held against upgrades, as 1 or 0; None where there is no such package.

    name
        The name of the package.
    """
    ask = __salt__["orthanc_host.ask"]
    shown = ask(["dpkg-query", "--show", "--showformat=${db:Status-Want} ${Version}", name])
    if shown:
        wanted, _, version = shown.partition(" ")
        return {"version": version, "pinned": int(wanted == "hold")}
    version = ask(["rpm", "--query", "--queryformat=%{VERSION}-%{RELEASE}", name])
    locks = __salt__["orthanc_files.read_if_there"](LOCKS) or ""
    pinned = re.search(rf"(?m)^solvable_name: *{re.escape(name)}$", locks)
    return {"version": version, "pinned": int(bool(pinned))} if version else None


def judge(upgraded, name, pinned):
    """
    Part of the formula. Say what is to be said of packages that others have upgraded: problems and
    warnings, each a list of sentences.

    upgraded
        What ``orthanc_proof.upgraded`` returned.

    name
        The name of the server's package.

    pinned
        The version of that package which the pillar pins; None for any.
    """
    if not upgraded:
        return [], []
    what = ", ".join(f"{one} from {was['old']} to {was['new']}" for one, was in upgraded.items())
    warning = (
        f"orthanc:packages: upgraded outside of Salt, or by a run that failed: {what}; the"
        " configuration is judged for what is there now"
    )
    old, new = upgraded.get(name, {"old": "", "new": ""}).values()
    if not pinned or not _matches(pinned, [old]) or _matches(pinned, [new]):
        return [], [warning]
    problem = (
        f"orthanc:version: pins {pinned}, and somebody has installed {new} since; set it to that."
        " The formula does not go back by itself: the older one may not start with the index of"
        " the newer one"
    )
    return [problem], [warning]


def _matches(version: str, known: list[str]) -> bool:
    """Return whether one of the known versions is the one that is asked for."""
    return any(fnmatch.fnmatchcase(each, version) for each in known)


def _offered(name: str) -> list[str]:
    """Return the versions in the package lists, the newest first."""
    try:
        return list(dict.fromkeys(__salt__["pkg.list_repo_pkgs"](name).get(name, [])))
    except CommandExecutionError:
        # zypper's way to say that it knows no such package.
        return []
