"""
The first run of the formula on a host: what was there before it, and an Orthanc that nobody
reaches until it serves as the pillar says.

What was there is noted in ``RECORD`` before anything is installed, and put back by
``orthanc.clean``. What a later pillar adds, a package or a folder, is noted by the run that it
comes with.

Debian's package starts an Orthanc that takes images from everybody. So a unit that is yet to come
is closed before its package is installed: ``CLOSED`` are files by which systemd, and the init
script where there is no systemd, start nothing as long as they exist. ``orthanc.serving`` opens it
when the configuration of the pillar is in place, and closes it again if Orthanc does not serve
with it. An Orthanc that was there before is never closed.

The functions are parts of the formula; none of them is called by hand.
"""

from __future__ import annotations

import contextlib
import copy
import json
import os
import stat

import salt.utils.files
import salt.utils.systemd
from salt.exceptions import CommandExecutionError

__func_alias__ = {"open_": "open"}

# What is said of a place that is not known here.
ELSEWHERE = "a database, or what a plugin has"
# See ``orthanc_files.own``.
RECORD = "/var/lib/{}/first-run.json"
WHY = """\
# Written by Salt before Orthanc was installed; goes when its first configuration is in place.
# Until then Orthanc is not started, because the package's own configuration is open to all.
"""
# By the path of the file for a service. systemd reads the condition whenever it is about to start
# the unit, at boot too; Debian's init scripts read all files of the other folder.
CLOSED = {
    "/etc/systemd/system/{service}.service.d/formula-first-run.conf": WHY
    + """\
[Unit]
ConditionPathExists=!{path}
""",
    "/lib/lsb/init-functions.d/10-{service}-formula-first-run": WHY
    + """\
case "${{0##*/}} $1" in
  {service}" start"|{service}" restart"|{service}" force-reload"|S[0-9][0-9]{service}" start")
    echo "{service} is not started before its first configuration is in place, see {path}" >&2
    exit 0
    ;;
esac
""",
}
# Said where the images would be out of sight of the server that comes back.
HIDDEN = (
    "with the configuration from before the formula, which comes back, Orthanc would look for its"
    " {what} in {old}, and this server has it in {new}: no image would be seen. {remedy}."
    " To begin anew without them, stop {service} and move {storage} aside"
)
MOVE_INDEX = (
    "Take the index back there first: set orthanc:postgresql so, call orthanc.move_index, and then"
    " this again"
)
MOVE_FILES = "Take them back there first, and have orthanc:paths say so"


def begin(service, packages, others=(), folders=(), config=None, test=False):
    """
    Part of the formula. Note what is on the host and was not noted by an earlier run, and close a
    service that is yet to come.

    service
        The name of the service, and of the package that brings it.

    packages
        A list of the names of packages that ``orthanc.clean`` removes if they came with the
        formula.

    others
        The same of those that stay then, because others may use them by then.

    folders
        A list of the paths of folders whose owner and mode the formula may change.

    config
        The path of the folder of the configuration, of which the same is noted for all that is in
        it.

    test
        True writes nothing.

    Returns the changes.

    Raises CommandExecutionError if writing failed.
    """
    changes = {}
    failing = __salt__["orthanc_files.failing"]
    with failing("noting what is on this host"), _record(test) as record:
        first = not record
        closed = any(map(os.path.exists, _closed(service)))
        if first:
            record.update(served=True, held=_held(service), service=_state(service))
            if closed or __salt__["orthanc_files.written"](config):
                # By an earlier version of the formula, or by a run whose record is lost: what was
                # there before that is not known.
                record.update(held=False, service={"running": False, "enabled": False})
        names = {"packages": packages, "others": others}
        noted = [*_note_packages(record, names), *_note_paths(record, folders, config)]
        if noted:
            changes[_place()] = {"old": None if first else "without", "new": noted}
        if closed or not (_are_installed([service]) or __salt__["service.status"](service)):
            record["served"] = False
            open_yet = [
                path
                for path, text in _closed(service).items()
                if __salt__["orthanc_files.read_if_there"](path) != text
            ]
            changes.update({path: {"old": None, "new": "written"} for path in open_yet})
            if open_yet and not test:
                close(service)
    return changes


def packaged(folders, config, test=False):
    """
    Part of the formula. Note owners and modes of what the packages brought, before the formula
    changes them.

    folders
        A list of the paths of folders that the packages may bring.

    config
        The path of the folder of the configuration, of which all is noted that is in it.

    test
        True writes nothing.

    Returns the changes.

    Raises CommandExecutionError if writing failed.
    """
    found = {}
    failing = __salt__["orthanc_files.failing"]
    with failing("noting what the packages brought"), _record(test) as record:
        if record and not __salt__["orthanc_files.written"](config):
            paths = [*filter(None, folders), config, *_below(config)]
            here = {path: _mode(path) for path in paths if not record["paths"].get(path)}
            found = {path: mode for path, mode in here.items() if mode}
            record["paths"].update(found)
    return {_place(): {"old": "without", "new": sorted(found)}} if found else {}


def close(service):
    """
    Part of the formula. Let nothing start the service, now or at boot, until ``open``. One that
    runs is left alone.

    service
        Its name.

    Raises CommandExecutionError if writing failed.
    """
    with __salt__["orthanc_files.failing"](f"closing {service}"):
        for path, text in _closed(service).items():
            _write(path, text, 0o644)
    if salt.utils.systemd.booted(__context__):
        __salt__["cmd.run_all"](["systemctl", "daemon-reload"], python_shell=False)


def open_(service):
    """
    Part of the formula. Let the service be started again.

    service
        Its name.

    Raises CommandExecutionError if that failed.
    """
    with __salt__["orthanc_files.failing"](f"opening {service}"):
        for path in filter(os.path.exists, _closed(service)):
            os.unlink(path)


def served():
    """
    Part of the formula. Return whether Orthanc was seen serving on this host: before the formula,
    or as a pillar says. True also where no first run was noted.
    """
    return _read().get("served", True)


def end():
    """
    Part of the formula. Note that Orthanc serves as the pillar says.

    Raises CommandExecutionError if writing failed.
    """
    with __salt__["orthanc_files.failing"]("noting that Orthanc serves"), _record() as record:
        if record:
            record["served"] = True


def configurations():
    """
    Part of the formula. Return the folders in which there are configurations of the formula, as far
    as they were noted: more than one where the pillar has moved it.
    """
    return list(filter(__salt__["orthanc_files.written"], _read().get("paths", ())))


def known():
    """
    Part of the formula. Return the packages that are installed and of which it is noted whether
    they came with the formula: a mapping with three lists of names, ``came`` for those that did and
    go with it, ``others`` for those that did and stay, and ``before`` for those that were there
    already.
    """
    record = _read()
    kinds = {"came": ("packages", False), "others": ("others", False), "before": ("packages", True)}
    return {
        kind: _are_installed([name for name, was in record.get(key, {}).items() if was is before])
        for kind, (key, before) in kinds.items()
    }


def remove_packages(service):
    """
    Part of the formula. Remove the packages that came with the formula.

    service
        The name of the service, and of the package that brings it.

    Returns what the package manager says of each.

    Raises CommandExecutionError if it fails; the service is closed then.
    """
    names = known()["came"]
    if not names:
        return {}
    if service in names:
        close(service)
        if salt.utils.systemd.booted(__context__):
            # Debian notes that a unit was disabled, and would not enable it if somebody installed
            # the package again.
            __salt__["service.enable"](service)
        if _held(service):
            __salt__["pkg.unhold"](name=service)
    removed = __salt__["pkg.remove"](pkgs=names)
    left = _are_installed(names)
    if left:
        raise CommandExecutionError(f"could not be removed: {', '.join(left)}")
    if service in names:
        open_(service)
    return removed


def hidden(service, config):
    """
    Part of the formula. Return why the images of the server would be out of sight of the one that
    ``undo`` lets serve again: a sentence, an empty one where they would not be.

    service, config
        See ``undo``.
    """
    record = _read()
    returns = record.get("packages", {}).get(service) and any(record["service"].values())
    if not returns or not __salt__["orthanc_files.written"](config):
        return ""
    now = __salt__["orthanc_folder.options_in_use"](config, service)
    new = _places(now) if now else {}
    if not new or not (
        new["images"] == ELSEWHERE or __salt__["orthanc_identity.images"](new["images"])
    ):
        return ""
    for what, old in _places(__salt__["orthanc_folder.before_formula"](config, service)).items():
        if old != new[what]:
            is_file = what == "images" or (old[:1], new[what][:1]) == ("/", "/")
            remedy = MOVE_FILES if is_file else MOVE_INDEX
            given = {"what": what, "old": old, "new": new[what], "remedy": remedy}
            return HIDDEN.format(**given, service=service, storage=now["StorageDirectory"])
    return ""


def _places(options: dict) -> dict:
    """Return where images and index are."""
    places = __salt__["orthanc_folder.places"](options)
    storage, folder = (os.path.realpath(str(place)) for place in places.values())
    index = __salt__["orthanc_postgresql.index"](options)
    is_file = __salt__["orthanc_postgresql.is_sqlite"](options)
    return {
        "images": storage if __salt__["orthanc_identity.in_folder"](options) else ELSEWHERE,
        "index": os.path.join(folder, "index") if is_file else index or ELSEWHERE,
    }


def undo(service, config, log=None, test=False):
    """
    Part of the formula. Put back what was there before the formula: owners and modes, the hold on
    the package, and the service, which serves again if it did. Empty folders that came since go.

    service
        The name of the service, and of the package that brings it.

    config
        The path of the folder of the configuration.

    log
        The path of the folder of the logs; None for the journal.

    test
        True only says what would be put back.

    Returns the changes, a mapping from path, service or package to old and new.

    Raises CommandExecutionError if something could not be put back.
    """
    record = _read()
    if not record:
        return {}
    changes = _changed_paths(record)
    before = record["service"] if record["packages"].get(service) else {}
    now = _state(service)
    for what in before:
        if None not in (before[what], now[what]) and before[what] != now[what]:
            changes[f"{service} {what}"] = {"old": now[what], "new": before[what]}
    if before and record["held"] != _held(service):
        changes[f"{service} held"] = {"old": not record["held"], "new": record["held"]}
    changes[_place()] = {"old": "present", "new": None}
    if test:
        return changes
    open_(service)
    _put_back_paths(record, changes)
    if f"{service} held" in changes:
        __salt__["pkg.hold" if record["held"] else "pkg.unhold"](name=service)
    if f"{service} enabled" in changes:
        __salt__["service.enable" if before["enabled"] else "service.disable"](service)
    if before.get("running"):
        __salt__["orthanc_server.restart"](service)
        serves_with = __salt__["orthanc_folder.in_use"](config, service)
        __salt__["orthanc_server.wait"](service, serves_with, log=log)
    path = _place()
    with __salt__["orthanc_files.failing"](f"removing {path}"):
        os.unlink(path)
        with contextlib.suppress(OSError):  # masterless.sh may have its own things there
            os.rmdir(os.path.dirname(path))
    return changes


def _closed(service: str) -> dict:
    """Return the texts of the files that close a service, by their paths."""
    paths = {pattern: pattern.format(service=service) for pattern in CLOSED}
    return {
        path: CLOSED[pattern].format(service=service, path=path)
        for pattern, path in paths.items()
        if "/lsb/" not in path or __grains__["os_family"] == "Debian"
    }


def _state(service: str) -> dict:
    """
    Return whether a service is ``running``, and whether it is ``enabled``, started at boot: None
    where systemd is not PID 1 and there is no boot to prepare for.
    """
    booted = salt.utils.systemd.booted(__context__)
    return {
        "running": bool(__salt__["service.status"](service)),
        "enabled": bool(__salt__["service.enabled"](service)) if booted else None,
    }


def _are_installed(packages: list) -> list[str]:
    """Return which of these packages are installed."""
    return sorted({*packages} & {*__salt__["pkg.list_pkgs"]()}) if packages else []


def _held(package: str) -> bool:
    """Return whether a package is held against upgrades."""
    if __grains__["os_family"] == "Debian":
        return package in __salt__["pkg.get_selections"](state="hold").get("hold", ())
    return package in __salt__["pkg.list_locks"]()


def _note_packages(record: dict, names: dict) -> list[str]:
    """Note of each package that is not noted whether it is installed."""
    noted = []
    for kind, packages in names.items():
        before = record.setdefault(kind, {})
        new = [name for name in packages if name not in before]
        here = _are_installed(new)
        before.update({name: name in here for name in new})
        noted += [f"package {name}" for name in new]
    return noted


def _note_paths(record: dict, folders, config) -> list[str]:
    """Note owner and mode of each folder that is not noted, None if it is not there."""
    before = record.setdefault("paths", {})
    new = [path for path in dict.fromkeys(filter(None, [*folders, config])) if path not in before]
    for path in new:
        before[path] = _mode(path)
        if path == config:
            before.update({entry: _mode(entry) for entry in _below(path)})
        above = os.path.dirname(path)
        while not os.path.lexists(above):
            before.setdefault(above, None)
            above = os.path.dirname(above)
    return new


def _below(folder: str) -> list[str]:
    """Return the paths of all that is in a folder."""
    return [
        os.path.join(top, entry)
        for top, folders, files in os.walk(folder)
        for entry in folders + files
    ]


def _mode(path: str):
    """Return owner, group and mode of a file or folder; None if there is none, or it is a link."""
    with contextlib.suppress(OSError):
        found = os.lstat(path)
        if not stat.S_ISLNK(found.st_mode):
            return [found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)]
    return None


def _changed_paths(record: dict) -> dict:
    """Return the changes that it takes to have owners and modes as they were."""
    text = "{}:{} {:04o}".format
    changes = {}
    for path, before in record["paths"].items():
        now = _mode(path)
        if before and now and now != before:
            changes[path] = {"old": text(*now), "new": text(*before)}
    return changes


def _put_back_paths(record: dict, changes: dict) -> None:
    """Put owners and modes back, and remove empty folders that came since; add these."""
    with __salt__["orthanc_files.failing"]("putting owners and modes back"):
        # What is deeper comes first.
        for path, before in sorted(record["paths"].items(), reverse=True):
            if path in changes:
                os.chown(path, *before[:2])
                os.chmod(path, before[2])
            elif not before and _mode(path) and os.path.isdir(path) and not os.listdir(path):
                os.rmdir(path)
                changes[path] = {"old": "empty", "new": None}


@contextlib.contextmanager
def _record(test: bool = False):
    """Lend the record to one run after the other, and write what was changed of it."""
    path = _place()
    with __salt__["orthanc_files.locked"](os.path.dirname(path)):
        record = _read()
        before = copy.deepcopy(record)
        yield record
        if record != before and not test:
            _write(path, json.dumps(record, indent=2, sort_keys=True) + "\n", 0o600)


def _place() -> str:
    """Return the path of the record."""
    return __salt__["orthanc_files.own"](RECORD)


def _read() -> dict:
    path = _place()
    with __salt__["orthanc_files.failing"](f"reading {path}"):
        return __salt__["orthanc_json.noted"](__salt__["orthanc_files.read_if_there"](path), path)


def _write(path: str, text: str, mode: int) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    __salt__["orthanc_files.write"](path, text, mode)
