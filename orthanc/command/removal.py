"""All that came with the formula taken away again, or the formula alone."""

from __future__ import annotations

import contextlib
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import textwrap
from typing import NoReturn

import call
import places
import told

# What stays with all that it is made of, where others may have come to need it. Of Orthanc's own
# packages orthanc.clean takes those that came; whoever purged them would take the images' owner.
KEEP = {
    "orthanc": r"orthanc",
    "python3": r"python3$",
    "nginx": r"(lib)?nginx",
    "postgresql": r"postgresql",
}
UNITS = pathlib.Path("/etc/systemd/system")
# What is not Orthanc's: what else is there may be in use by others.
SITES = ("/etc/nginx/sites-enabled", "/etc/nginx/conf.d", "/etc/nginx/vhosts.d")
DATABASES = ("/var/lib/postgresql", "/var/lib/pgsql/data")
# What stays beside images and databases.
LEFT = {
    "/var/log/orthanc": "the logs",
    "/var/log/orthanc-retention.log": "the log of what was deleted",
    "/etc/orthanc-backup": "the password of the backups, which stay as well",
}
# Of the folder of notes, what a later run of the formula needs to take away what is kept now.
KEPT = ("first-run.json", places.FOR_ORTHANC.name)
INDENTS = ("initial_indent", "subsequent_indent")
# What is left to do when Salt is no longer needed: it takes Python away, and the program itself.
REST = """\
#!/bin/sh
# The rest of a removal that was begun; call it again where it was interrupted. It goes last.
if [ "${{1-}}" != remove ]; then
  echo "A removal was begun and not finished. Finish it: {program} remove" >&2
  exit 1
fi
export DEBIAN_FRONTEND=noninteractive
{units}
names={names}
{purge}
left=
for each in $names; do {is_there} && left="$left $each"; done
{keep}
rm -rf -- {paths}
{note}
[ -z "$left" ] || echo "Packages that stay, because others need them, or the manager failed:$left"
echo {gone}
rm -f -- {program}
"""
DPKG = {
    "purge": '[ -z "$names" ] || dpkg --purge $names >/dev/null 2>&1',
    "is_there": "dpkg-query -Wf '${db:Status-Status}' \"$each\" 2>/dev/null | grep -qx installed",
    # Otherwise the next one who asks for what is selected takes them away.
    "keep": 'for each in $left; do echo "$each install"; done | dpkg --set-selections',
}
# All of them at once, or none: one after the other, as long as some can go.
RPM = {
    "purge": 'go=$names; rpm -e $names 2>/dev/null && go=\nwhile [ -n "$go" ]; do\n  go=\n'
    '  for each in $names; do rpm -e "$each" 2>/dev/null && go=on; done\ndone',
    "is_there": 'rpm -q "$each" >/dev/null 2>&1',
    "keep": "",
}
# Each tries a removal; and what it says of a package that stays, or of what is needed of it.
TRIES = {
    True: (["dpkg", "--no-act", "--purge"], re.compile(r"error processing package ([^ :]+)")),
    False: (["rpm", "--erase", "--test"], re.compile(r"(\S+)(?: \S+ \S+)? is needed by")),
}


def installed() -> set:
    """Return the names of the packages that are installed."""
    done = subprocess.run(["sh", places.PACKAGES], capture_output=True, text=True, check=False)
    return set(done.stdout.split())


@contextlib.contextmanager
def packages_noted():
    """Note which packages came meanwhile."""
    before = installed()
    try:
        yield
    finally:
        came = sorted(installed() - before)
        if came:
            with open(places.FOR_ORTHANC, "a", encoding="utf-8") as file:
                file.write("".join(f"{name}\n" for name in came))


def going(came: list, here: set, keep: set) -> list:
    """
    Return the packages that are to go.

    came
        The names of those that came with the formula.

    here
        Those that are installed.

    keep
        What stays, of the names of ``KEEP``.
    """
    patterns = [KEEP[each] for each in keep]
    names = {*came} & here
    return sorted(name for name in names if not any(re.match(each, name) for each in patterns))


def free(names: list, also=()) -> list:
    """
    Return those of packages that nobody else needs: the manager itself would let them go.

    names
        The names of the packages.

    also
        Those that will be gone by then.
    """
    is_dpkg = bool(shutil.which("apt-get"))
    command, stays = TRIES[is_dpkg]
    trial, needed = [*names, *also], {""}
    while trial and needed:
        done = subprocess.run(
            [*command, *trial],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "LC_ALL": "C"},
        )
        found = set(stays.findall(done.stderr)) if done.returncode else set()
        needed = (found if is_dpkg else _brought(found)) & {*trial}
        trial = [name for name in trial if name not in needed]
    return [name for name in names if name in trial]


def _brought(capabilities: set) -> set:
    """Return which packages have what others need of them."""
    query = ["rpm", "--query", "--queryformat", "%{NAME}\\n", "--whatprovides", *capabilities]
    done = subprocess.run(query, capture_output=True, text=True, check=False)
    return set(done.stdout.splitlines())


def remove(salt: call.Salt, chosen, pillar: str) -> None:
    """
    Show what goes and what stays, ask, and take it away.

    chosen
        What ``words.choose`` returns.

    pillar
        The path of the pillar of the last run, an empty text where there was none.
    """
    keep = "--keep-orthanc" in chosen.arguments
    clean, stays = [], []
    if pillar and not keep:
        salt.take(pillar)
        clean, stays = _tried(salt)
    elif not keep and (places.STATE / "first-run.json").exists():
        raise call.Failed(
            "No pillar of an earlier run is known, and it says what there is to take away."
            f" Name it:\n{places.NAME} remove PILLAR-FILE"
        )
    units = _units() if keep else ([], [])
    came = _packages(keep, units[1])
    # Orthanc's own go before.
    names = free(came, () if keep else _of_orthanc())
    paths = _paths(keep, pillar)
    print("\n".join(_list(clean, names, paths, units[0])))
    stays += _stays(keep, pillar, units[1])
    needed = sorted({*came} - {*names})
    stays += [f"packages that others need: {' '.join(needed)}"] if needed else []
    print("\n".join(["", "This stays:", *(f"  {line}" for line in stays)]), flush=True)
    _ask(chosen.arguments)
    if clean:
        print("\nTaking away what the formula did.", flush=True)
        _clean(salt, "Nothing else was removed. Call it again.")
    _finish(free(came), paths, units[0], keep)


def _clean(salt: call.Salt, otherwise: str, *words: str) -> tuple:
    """Let the formula take away what it did; return what its states have returned, as Salt and as
    told. Where one failed, raise Failed with what to know then.
    """
    answer = salt.ask("state.apply", "orthanc.clean", *words)
    run = told.Run(answer.value) if isinstance(answer.value, dict) else None
    if run is None or run.failed:
        lines = run.failures() if run else [answer.errors or str(answer.value)]
        raise call.Failed("\n".join([*lines, "", otherwise]))
    return answer.value, run


def _tried(salt: call.Salt) -> tuple:
    """Return what the formula would take away, and what it leaves, as lines."""
    returned, run = _clean(salt, "Nothing was removed.", "test=True")
    config = next(tag.split("_|-")[2] for tag in returned if "_|-orthanc-config_|-" in tag)
    options = salt.ask("orthanc_folder.located", config).value
    return run.changes() or ["  nothing of Orthanc's is left"], _images(options)


def _images(options) -> list:
    """Return where the images and their index are."""
    if not isinstance(options, dict):
        return []
    database = options.get("PostgreSQL") or {}
    index = options.get("IndexDirectory")
    if isinstance(database, dict) and database.get("EnableIndex"):
        host = database.get("Host") or "this host"
        index = f"the database {database.get('Database') or 'orthanc'} of PostgreSQL on {host}"
    found = [f"the images: {options.get('StorageDirectory')}", f"their index: {index}"]
    worklists = options.get("Worklists")
    folder = worklists.get("Database") if isinstance(worklists, dict) else None
    return [*found, *([f"the worklists: {folder}"] if folder else [])]


def _units() -> tuple:
    """Return the services of systemd that need what goes, and those that do not."""
    found = ([], [])
    for path in sorted(UNITS.glob("orthanc*.service")):
        found[str(places.HOME) not in path.read_text(encoding="utf-8")].append(path)
    return found


def _packages(keep: bool, stay: list) -> list:
    came = []
    for path in (places.FOR_SALT,) if keep else (places.FOR_SALT, places.FOR_ORTHANC):
        came += path.read_text(encoding="utf-8").split() if path.exists() else []
    kept = {"orthanc"}
    if any("python3" in path.read_text(encoding="utf-8") for path in stay):
        kept.add("python3")
    if any(map(os.path.isdir, DATABASES)):
        kept.add("postgresql")
    if any(places.NAME not in path.name for site in SITES for path in pathlib.Path(site).glob("*")):
        kept.add("nginx")
    return going(came, installed(), kept)


def _of_orthanc() -> list:
    """Return the packages of Orthanc's own that came, and go with the formula."""
    noted = places.FOR_ORTHANC.read_text(encoding="utf-8") if places.FOR_ORTHANC.exists() else ""
    names = {*noted.split()} & installed()
    return sorted(name for name in names if re.match(KEEP["orthanc"], name))


def _paths(keep: bool, pillar: str) -> list:
    """Return the paths of what is to go, the program but for."""
    found = [places.HOME, places.RUN]
    if keep:
        found += [path for path in sorted(places.STATE.glob("*")) if path.name not in KEPT]
    else:
        found.append(places.STATE)
    # A pillar of somebody's own is not the formula's.
    own = places.PILLAR.parent
    others = set(own.glob("*")) - {places.PILLAR}
    found.append(places.PILLAR if others else own)
    return [path for path in found if path.exists()]


def _list(clean: list, names: list, paths: list, units: list) -> list:
    lines = ["This goes:", *clean]
    lines += [f"  the timer {path.stem}, which needs the formula" for path in units]
    if names:
        lines.append(f"  {len(names)} packages that came with it:")
        lines += textwrap.wrap(" ".join(names), told.WIDTH, **dict.fromkeys(INDENTS, " " * 4))
    return [*lines, *(f"  {_of(path)}" for path in [*paths, places.PROGRAM])]


def _of(path: pathlib.Path) -> str:
    """Return a path with what it is."""
    salt = "Salt that was brought, and " if (places.HOME / "salt").exists() else ""
    words = {
        places.HOME: f"{salt}the copy of the formula",
        places.PILLAR: "the pillar, with its passwords",
        places.PILLAR.parent: "the pillar, with its passwords",
        places.PROGRAM: "this program",
        places.STATE: "its notes, and what Salt keeps",
    }
    return f"{path}{f' ({words[path]})' if path in words else ''}"


def _stays(keep: bool, pillar: str, units: list) -> list:
    found = [f"{what}: {path}" for path, what in LEFT.items() if not keep and os.path.exists(path)]
    if not keep and os.path.isdir("/etc/orthanc"):
        found.append("the account that owns the images, and /etc/orthanc as it was before")
    if keep:
        found = ["Orthanc as it serves now, with its packages, configuration, users and images"]
        if places.PILLAR.exists():
            found.append(
                "the passwords of its users: note them before, the pillar that has them goes"
            )
        found += [f"{path.stem}, which needs nothing of what goes" for path in units]
        found += [f"{places.STATE}, with which a later run knows what was here before"]
    if pillar and pathlib.Path(pillar) != places.PILLAR:
        found.append(f"{pillar}, the pillar that you wrote: it may hold passwords")
    return found


def _ask(arguments: tuple) -> None:
    if "--yes" in arguments:
        return
    if not sys.stdin.isatty():
        raise call.Failed("\nNothing was removed: there is nobody to ask. To do it: add --yes")
    try:
        answer = input("\nTake it away? Type yes: ")
    except EOFError:
        answer = ""
    if answer.strip().lower() != "yes":
        raise call.Failed("Nothing was removed.")


def _finish(names: list, paths: list, units: list, keep: bool) -> NoReturn:
    """Let a script that needs neither Salt nor Python do the rest, in the place of this process."""
    manager = DPKG if os.path.exists("/usr/bin/apt-get") else RPM
    timers = " ".join(f"{path.stem}.timer" for path in units)
    files = [str(path.with_suffix(end)) for path in units for end in (".service", ".timer")]
    gone = "The formula is gone; Orthanc goes on." if keep else "All of it is gone."
    text = REST.format(
        names=shlex.quote(" ".join(names)),
        units=f"systemctl disable --now {timers}" if timers else "",
        paths=shlex.join([*files, *map(str, paths)]),
        gone=shlex.quote(gone),
        # What Orthanc needs by now goes with it one day.
        note=f"printf '%s\\n' $left >> {places.FOR_ORTHANC}" if keep else "",
        program=shlex.quote(str(places.PROGRAM)),
        **manager,
    )
    new = places.PROGRAM.with_suffix(".new")
    new.write_text(text, encoding="utf-8")
    new.chmod(0o755)
    new.replace(places.PROGRAM)
    sys.stdout.flush()
    os.execv("/bin/sh", ["sh", str(places.PROGRAM), "remove"])  # noqa: S606
