"""
The system's package manager: which version of a package it can bring, what it would change for
that, and the packages themselves, without an installation; and whether a pin still fits.

Part of the formula.
"""

from __future__ import annotations

import fnmatch
import glob
import hashlib
import operator
import os
import re
import shutil
import tempfile
import urllib.parse
from xml.etree import ElementTree

import salt.utils.files
from salt.exceptions import CommandExecutionError

# How the programs of a family of systems are called, and what unpacks the package $1 into $2.
APT = ["apt-get", "--yes", "-q", "--allow-downgrades", "--allow-change-held-packages"]
ZYPPER = ["zypper", "--non-interactive"]
FETCH_RPM = [*ZYPPER, "--pkg-cache-dir", "{folder}", "install", "--download-only", "--oldpackage"]
MANAGERS = {
    "Debian": {
        "plan": [*APT, "--simulate", "install", "--"],
        "fetch": [*APT, "--option", "Dir::Cache::archives={folder}", "--download-only", "install"],
        # What lies in a folder of this host is not downloaded.
        "local": [*APT, "--print-uris", "install"],
        "fetch_old": ["apt-get", "-q", "download"],
        "unpack": 'dpkg-deb --extract "$1" "$2"',
        # The administrator's own files stay, as in a run.
        "put_back": [*APT, "--option", "Dpkg::Options::=--force-confold", "install"],
        "cache": "/var/cache/apt/archives",
        "all": "*.deb",
        "one": "{name}_{version}_*.deb",
    },
    "Suse": {
        "plan": [*ZYPPER, "--xmlout", "install", "--dry-run", "--oldpackage"],
        "fetch": FETCH_RPM,
        "fetch_old": [*FETCH_RPM, "--force"],
        "unpack": 'rpm2archive - < "$1" | tar --extract --gzip --directory "$2"',
        "put_back": ["rpm", "--upgrade", "--oldpackage"],
        "cache": "/var/cache/zypp/packages",
        "all": "**/*.rpm",
        "one": "**/{name}-{version}.*.rpm",
        # A file like that of its configuration, without a hold on anything.
        "unheld": ("ZYPP_CONF", "/etc/zypp/zypp.conf", "locksfile.path = /nonexistent"),
    },
}
LOCAL = re.compile(r"(?m)^'file:([^']+)'")
OPERATORS = {
    **{"<": operator.lt, "<=": operator.le, "=": operator.eq, "==": operator.eq},
    **{">": operator.gt, ">=": operator.ge},
}
# One that is compared; each version begins with a digit.
COMPARED = re.compile(r"([<>=]=?)\s*(\d.*)")
# What zypper is not to change.
LOCKS = "/etc/zypp/locks"
# What apt-get says that it would do with a package.
INSTALL = re.compile(r"(?m)^Inst (\S+) (?:\[(\S+)\] )?\((\S+) ")
REMOVE = re.compile(r"(?m)^Remv (\S+) \[(\S+)\]")
# How much more a package takes unpacked, at most, as by far.
UNPACKED = 8


def missing(name, version):
    """
    Part of the formula. Say what is wrong with a version that ``pkg.installed`` would not find:
    with ``test=True``, that state says of any version that it would be installed.

    name
        The name of the package.

    version
        The version, as ``pkg.installed`` takes it: with ``*`` for any rest of it, or with ``>=``
        and the like before it.

    Returns a sentence, or None where the version is installed or can be. The package lists are
    renewed before a version counts as unknown.
    """
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


def edited(paths, name):
    """
    Part of the formula. Return those files that are not as a package has brought them: somebody
    has written or changed them.

    paths
        A list of the paths of files.

    name
        How the names of the packages begin.
    """
    ask, packages = __salt__["orthanc_host.ask"], f"{name}*"
    shown = ask(["dpkg-query", "--show", "--showformat=${Conffiles}\n", packages])
    # Path and digest; or path, size, time and digest.
    rows = [line.split()[:2] for line in (shown or "").splitlines()]
    if shown is None:
        shown = ask(["rpm", "--query", "--all", "--configfiles", "--dump", packages])
        rows = [line.split()[:4:3] for line in (shown or "").splitlines()]
    known = {row[0]: row[1] for row in rows if len(row) == 2}

    def is_changed(path: str) -> bool:
        digest = known.get(path, "")
        with salt.utils.files.fopen(path, "rb") as file:
            found = hashlib.new("md5" if len(digest) == 32 else "sha256", file.read())
        return found.hexdigest() != digest

    return [path for path in paths if is_changed(path)]


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
    parts = re.split(r"\s*,\s*", version)
    return any(all(_fits(each, part) for part in parts) for each in known if each)


def _fits(known: str, wanted: str) -> bool:
    match = COMPARED.fullmatch(wanted)
    if match:
        return OPERATORS[match[1]](_compare(known, match[2]), 0)
    return fnmatch.fnmatchcase(known, wanted)


def _offered(name: str) -> list[str]:
    """Return the versions in the package lists, the newest first."""
    try:
        return list(dict.fromkeys(__salt__["pkg.list_repo_pkgs"](name).get(name, [])))
    except CommandExecutionError:
        # zypper's way to say that it knows no such package.
        return []


def chosen(name, version=None):
    """
    Part of the formula. Return the version of a package that would be installed: the newest one of
    those that are asked for; None where the one that is installed is among them, or there is none.

    name
        The name of the package.

    version
        The version, as ``pkg.installed`` takes it; any newer one, without one.
    """
    here = __salt__["pkg.version"](name)
    if version is None:
        newest = next(iter(_offered(name)), here)
        return newest if _compare(newest, here) > 0 else None
    if _matches(version, [here]):
        return None
    return next((each for each in _offered(name) if _matches(version, [each])), None)


def _compare(one: str, other: str) -> int:
    return __salt__["pkg.version_cmp"](one, other) or 0


def plan(wanted):
    """
    Part of the formula. Return what the package manager would change: a mapping from the name of a
    package to a pair, its version now and then, None for one that is not there.

    wanted
        What it is to install: a list of names, or of names and versions with ``=`` between them.

    Raises CommandExecutionError with its own words where it cannot.
    """
    said = _run([*_manager()["plan"], *wanted])
    if not said.lstrip().startswith("<?xml"):
        found = {name: (old or None, new) for name, old, new in INSTALL.findall(said)}
        gone = {name: (old, None) for name, old in REMOVE.findall(said)}
        return {**gone, **found}
    return {
        each.get("name"): (
            each.get("edition-old") or (each.get("edition") if "remove" in kind.tag else None),
            None if "remove" in kind.tag else each.get("edition"),
        )
        for summary in ElementTree.fromstring(said).iter("install-summary")  # noqa: S314
        for kind in summary
        for each in kind.iter("solvable")
        if each.get("type") == "package"
    }


def fetch(wanted, folder):
    """
    Part of the formula. Download what ``plan`` would install, with the signatures checked as
    always, and return the paths of the packages.

    wanted
        See ``plan``.

    folder
        The path of the folder for them.

    Raises CommandExecutionError with the words of the package manager where it cannot.
    """
    manager = _manager(folder)
    os.makedirs(os.path.join(folder, "partial"), exist_ok=True)
    _run([*manager["fetch"], *wanted])
    for path in LOCAL.findall(_run([*manager["local"], *wanted]) if "local" in manager else ""):
        shutil.copy(urllib.parse.unquote(path), folder)
    return _files(folder)


def fetch_old(versions, folder):
    """
    Part of the formula. Keep packages as they are installed, of the package manager's own cache or
    of their source, and return the names of those that cannot be had any more.

    versions
        A mapping from the name of a package to its version.

    folder
        The path of the folder for them.
    """
    manager, lacking = _manager(folder), []
    os.makedirs(folder, exist_ok=True)
    for name, version in versions.items():
        one = manager["one"].format(name=name, version=version.replace(":", "%3a"))
        cached = glob.glob(os.path.join(manager["cache"], one), recursive=True)
        if cached:
            shutil.copy(cached[0], folder)
            continue
        try:
            _run([*manager["fetch_old"], f"{name}={version}"], cwd=folder)
        except CommandExecutionError:
            lacking.append(name)
    return lacking


def unpack(files, tree):
    """
    Part of the formula. Unpack packages into a folder, where their files are at their paths on this
    host.

    files
        The paths of the packages.

    tree
        The path of the folder.

    Raises CommandExecutionError if there is no room for them, or if that failed.
    """
    os.makedirs(tree)
    needed, free = UNPACKED * sum(map(os.path.getsize, files)), shutil.disk_usage(tree).free
    if needed > free:
        raise CommandExecutionError(
            f"the packages take {needed >> 20} MB to be tried in {tree}, where {free >> 20} MB are"
            " free; make room first"
        )
    for file in files:
        # Orthanc's account has to get at the files.
        _run(["sh", "-e", "-c", f"umask 022; {_manager()['unpack']}", "sh", file, tree])
    for name in os.listdir(tree):
        here, path = os.path.realpath(f"/{name}"), os.path.join(tree, name)
        if here != f"/{name}" and os.path.isdir(path):
            # Such as /lib, which leads to /usr/lib where the package does not know of it.
            os.makedirs(tree + here, exist_ok=True)
            _run(["cp", "--archive", "--", f"{path}/.", tree + here])
            shutil.rmtree(path)


def lend(folder):
    """
    Part of the formula. Let the package manager find what ``fetch`` downloaded among its own
    downloads, so that it does not download it again.

    folder
        The path of the folder with the packages.
    """
    for file in _files(folder):
        place = os.path.join(_manager()["cache"], os.path.relpath(file, folder))
        os.makedirs(os.path.dirname(place), exist_ok=True)
        shutil.copy(file, place)


def put_back(folder):
    """
    Part of the formula. Install the packages that ``fetch_old`` kept.

    folder
        The path of the folder with them.

    Raises CommandExecutionError with the words of the package manager where it cannot.
    """
    _run([*_manager()["put_back"], *_files(folder)])
    # What Salt knows of the packages was so before that.
    for key in [key for key in __context__ if str(key).startswith("pkg.list_pkgs")]:
        del __context__[key]


def _files(folder: str) -> list[str]:
    where = os.path.join(glob.escape(folder), _manager()["all"])
    return sorted(glob.glob(where, recursive=True))


def _manager(folder: str = "") -> dict:
    rows = MANAGERS[__grains__["os_family"]]
    return {
        name: [word.replace("{folder}", folder) for word in row] if isinstance(row, list) else row
        for name, row in rows.items()
    }


def _run(words: list, cwd: str = "/") -> str:
    environment = {"DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}
    variable, path, line = _manager().get("unheld", ("", "", ""))
    with tempfile.NamedTemporaryFile("w") as file:
        if variable:
            own = __salt__["orthanc_files.read_if_there"](path) or "[main]"
            file.write(f"{own}\n{line}\n")
            file.flush()
            environment[variable] = file.name
        done = __salt__["cmd.run_all"](
            words,
            **{"python_shell": False, "cwd": cwd, "env": environment},
            **{"ignore_retcode": True, "output_loglevel": "quiet"},
        )
    if done["retcode"]:
        said = [*done["stderr"].splitlines(), *done["stdout"].splitlines()]
        errors = [number for number, line in enumerate(said) if line.startswith("E:")]
        said = said[errors[0] :][:9] if errors else said[-9:]
        raise CommandExecutionError(f"{words[0]} says: {' '.join(said)}")
    return done["stdout"]
