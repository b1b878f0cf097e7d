"""
Another version of Orthanc, tried before it is installed, and the way back when it does not serve.

The packages are downloaded and unpacked aside, and the configuration is judged and tried with them
as ever: by :py:mod:`orthanc_conf`, which sees them in the place of those that are installed. What
becomes of the index is rehearsed on an empty one.

The way back is prepared before anything is installed: the packages of Orthanc as they are lie in
``READY`` until Orthanc was seen serving with the new ones.
"""

from __future__ import annotations

import json
import logging
import math
import os
import re
import shutil
import time

import salt.utils.files
from salt.exceptions import CommandExecutionError, SaltInvocationError

log = logging.getLogger(__name__)

# Where the packages are tried; see ``orthanc_files.own``.
ASIDE = "/var/cache/{}-aside"
# For the way back: the packages as they are, and the note of what is under way, or has failed.
READY, NOTE = "/var/lib/{}/upgrade", "note.json"
# How old the last good backup may be where the index changes, in seconds.
DAY = 24 * 3600
# How many seconds more Orthanc may take for each GB of an index that it changes: the largest that
# the Orthanc Book tells of took 5.
PER_GB = 60
# The revision of PostgreSQL's schema up to which older plugins go on with it.
SHARED = 1
# Packages of Orthanc, which the way back puts back; libraries stay as they are.
OWN = "orthanc"
# What is said of the index.
STAYS = "stays as it is"
CHANGES = "changes when the new version starts; the present version goes on with it after that"
ONE_WAY = "changes when the new version starts, and the present version cannot go on with it"
UNKNOWN = "is of a kind that cannot be rehearsed: what becomes of it is not known"
NO_BACKUP = (
    "orthanc:version: the index {index}, and {backup}; make a backup with `salt-call"
    " orthanc.backup`, or set orthanc:without_backup to true"
)
NO_BACKUP_YET = "there is no backup of this server"
NO_WAY_BACK = "orthanc:version: should {new} not serve, there is no way back to {old}: {reason}"
LACKING = "no package source of this host has {} of that version any more"
RESTORE = "the index would have to be restored from a backup"
COMPANY = (
    "orthanc:packages: {0} would bring {1} {2} in the place of {3}, which nobody has tried; set"
    " orthanc:version to {2}, so that it is tried first"
)
FAILED = (
    "orthanc:version: {new} was installed here on {day} and did not serve, and {old} is back; set"
    " it to that, or remove {note} to try it once more"
)


def asked(version):
    """
    Part of the formula. Try an upgrade with the pillar as it stands, and return what
    ``orthanc.try_upgrade`` does.

    version
        The version of the package; None for the newest one.

    Raises CommandExecutionError as ``tried``, and where the formula cannot be rendered here.
    """
    given = __salt__["orthanc_conf.of_pillar"]({})
    if given["configuration"] is None or given["problems"]:
        found = {"problems": given["problems"]}
    else:
        __salt__["pkg.refresh_db"]()
        found = _told(tried(given["name"], given["configuration"], version))
    if found["problems"]:
        __context__["retcode"] = 1
    return found


def _told(found: dict | None) -> dict:
    """Return what people are told of a try."""
    if not found:
        here = __salt__["pkg.version"](_server())
        return {"version": {"old": here, "new": here}, "problems": []}
    packages = {one: " -> ".join(map(str, each)) for one, each in found["packages"].items()}
    told = {key: found[key] for key in ("options", "defaults", "index", "warnings", "problems")}
    return {"version": {key: found[key] for key in ("old", "new")}, "packages": packages, **told}


def tried(name, configuration, version=None, ready=None):
    """
    Part of the formula. Try the configuration with another version of Orthanc, which is not
    installed, and leave nothing behind.

    name
        The path of the folder of the configuration.

    configuration
        See :py:mod:`orthanc_layers`.

    version
        The version of the package, as ``orthanc:version`` takes it; None for the newest one. The
        newest plugins come with it.

    ready
        The path of a folder for the packages as they are now, which is made; and the new ones are
        left to the package manager then. Nothing is made where there are problems.

    Returns a mapping: ``old`` and ``new``, the versions; ``words``, what the package manager would
    be asked for, and ``packages``, what it would change; ``options``, what the formula would write
    for it; ``defaults``, what Orthanc has another default for; ``index``, what becomes of it, a
    text, and ``more``, for how many seconds longer than ever it may keep Orthanc from an answer,
    None where it stays as it is; whether there is a way ``back``; and ``problems``, the sentences
    why it does not work, and ``warnings``. None where nothing would change.

    Raises CommandExecutionError if it cannot be tried, as where no package source has the version.
    """
    wanted, server = __salt__["orthanc_layers.complete"](configuration), _server()
    folder = __salt__["orthanc_files.own"](ASIDE)
    if os.path.isdir(folder):
        # It waits for one that goes on, and what one that was killed has left goes.
        with __salt__["orthanc_files.locked"](folder):
            shutil.rmtree(folder, ignore_errors=True)
    missing = version and __salt__["orthanc_packages.missing"](server, version)
    if missing:
        raise CommandExecutionError(missing)
    old, new = __salt__["pkg.version"](server), __salt__["orthanc_packages.chosen"](server, version)
    if version is None:
        # Of the plugins there may be others.
        new = new or old
    if not old or not new:
        return None
    words, packages = _planned(server, new, wanted["packages"])
    if not any(OWN in one for one in packages):
        return None
    found = {
        "words": words,
        "old": old,
        "new": new,
        "packages": packages,
        "options": {},
        "defaults": {},
    }
    found["problems"] = [
        f"orthanc:version: {new} takes the package {one} away, which orthanc:packages names"
        for one in wanted["packages"]
        if packages.get(one, ("", ""))[1] is None
    ]
    with __salt__["orthanc_files.failing"](f"trying {new}"):
        os.makedirs(os.path.dirname(folder), exist_ok=True)
        with __salt__["orthanc_files.locked"](folder):
            _try_all(name, wanted, folder, found, ready)
    return found


def _try_all(name: str, wanted: dict, folder: str, found: dict, ready) -> None:
    try:
        files = __salt__["orthanc_packages.fetch"](found["words"], os.path.join(folder, "packages"))
        tree = os.path.join(folder, "tree")
        __salt__["orthanc_packages.unpack"](files, tree)
        __salt__["orthanc_aside.prepare"](tree)
        _try(name, wanted, tree, found)
        _rehearse(name, wanted, tree, found)
        _demand_backup(name, wanted, found)
        _keep(folder, found, ready)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _planned(server: str, new: str, packages) -> tuple[list, dict]:
    """
    Return what is to be installed, and what that changes.

    The newest plugins come along: old ones, with other libraries than the new server's, have been
    seen to keep it from its end. With a server that is not the newest one these may not go.
    """
    others, here = [one for one in packages if one != server], __salt__["pkg.list_pkgs"]()
    words = [f"{server}={new}", *others]
    try:
        return words, __salt__["orthanc_packages.plan"](words)
    except CommandExecutionError:
        words = [f"{server}={new}", *(one for one in others if one not in here)]
        return words, __salt__["orthanc_packages.plan"](words)


def _server() -> str:
    return __salt__["orthanc_tables.get"]("SERVER")


def _try(name: str, wanted: dict, tree: str, found: dict) -> None:
    """Judge and try the configuration; add what there is to say."""
    before = _known(wanted)
    # What Python loads later on would be that of the other packages: this has it load all.
    __salt__["orthanc_judge.judge"](__salt__["orthanc_judge.case"](name, wanted))

    def try_it():
        try:
            changes = __salt__["orthanc_conf.tried"](name, wanted, tree)
            found["options"] = {path: what for path, what in changes.items() if _are_options(what)}
        except (CommandExecutionError, SaltInvocationError) as err:
            found["problems"] += str(err).splitlines()
        return _known(wanted)

    after = __salt__["orthanc_aside.seen"](tree, try_it)
    options, origins = __salt__["orthanc_layers.merge"](wanted["layers"])
    key_of = __salt__["orthanc_layers.key_of"]
    version, samples = after["version"], (before["sample"], after["sample"])
    found["problems"] += [
        f"{key_of([option], origins)}: Orthanc {version} knows no such option any more, and would"
        " ignore it; take it out"
        for option in options
        if _has(before, option) and not _has(after, option)
    ]
    found["defaults"] = {
        option: {"old": value, "new": samples[1][option]}
        for option, value in samples[0].items()
        if option not in options and None not in (value, samples[1].get(option))
        if value != samples[1][option]
    }


def _are_options(changes: dict) -> bool:
    """Return whether changes are those of options, and not of a file."""
    return all(isinstance(change, dict) for change in changes.values())


def _known(wanted: dict) -> dict:
    """Return what an Orthanc says of itself, and its program."""
    with salt.utils.files.fopen(wanted["command"], "rb") as file:
        program = file.read()
    return {**__salt__["orthanc_options.installed"](wanted["command"]), "program": program}


def _has(known: dict, option: str) -> bool:
    """Return whether an Orthanc knows an option: the name of each one is a text in its program."""
    return option in known["sample"] or option.encode() in known["program"]


def _rehearse(name: str, wanted: dict, tree: str, found: dict) -> None:
    """Add what becomes of the index."""
    options = __salt__["orthanc_folder.located"](name)
    account = __salt__["orthanc_layers.account"](wanted)
    if __salt__["orthanc_postgresql.is_sqlite"](options):
        found["index"] = _rehearse_sqlite(wanted["command"], account, tree, found)
    elif __salt__["orthanc_postgresql.index"](options):
        found["index"] = _judge_postgresql(name, options, account, tree, found)
    else:
        found["index"] = UNKNOWN
    found["more"] = None
    if found["index"] not in (STAYS, UNKNOWN):
        size = __salt__["orthanc_rehearsal.size"](options, **account)
        found["more"] = PER_GB * math.ceil(size / 1e9)


def _demand_backup(name: str, wanted: dict, found: dict) -> None:
    """Add that there is no fresh backup of an index that would change."""
    if found["index"] == STAYS or wanted["without_backup"]:
        return
    good = __salt__["orthanc_backup_note.read"](name).get("good")
    age = time.time() - good["time"] if good else None
    if age is None or age > DAY:
        backup = f"the last good backup is {int(age / 3600)} hours old" if good else NO_BACKUP_YET
        found["problems"].append(NO_BACKUP.format(index=found["index"], backup=backup))


def _keep(folder: str, found: dict, ready) -> None:
    """Get the packages of Orthanc as they are now, and say which ones cannot be had any more."""
    own = {one: old for one, (old, new) in found["packages"].items() if OWN in one and old}
    old = os.path.join(folder, "old")
    lacking = __salt__["orthanc_packages.fetch_old"](own, old)
    reason = LACKING.format(" and ".join(lacking)) if lacking else ""
    if found["index"] in (ONE_WAY, UNKNOWN):
        reason = RESTORE
    found["back"] = not reason
    found["warnings"] = [NO_WAY_BACK.format(**found, reason=reason)] if reason else []
    if ready and not found["problems"]:
        __salt__["orthanc_packages.lend"](os.path.join(folder, "packages"))
        shutil.rmtree(ready, ignore_errors=True)
        os.makedirs(os.path.dirname(ready), exist_ok=True)
        try:
            shutil.move(old, ready)
        except OSError:
            shutil.rmtree(ready, ignore_errors=True)
            raise


def _rehearse_sqlite(command: str, account: dict, tree: str, found: dict) -> str:
    def serve(tree_seen=None):
        folder = f"{tree}.index"
        return __salt__["orthanc_rehearsal.serve"](folder, command, **account, tree=tree_seen)

    before = serve()
    try:
        after = __salt__["orthanc_aside.seen"](tree, lambda: serve(tree))
    except CommandExecutionError as err:
        found["problems"].append(f"orthanc:version: {found['new']} does not take the index: {err}")
        return UNKNOWN
    if before == after:
        return STAYS
    try:
        serve()
    except CommandExecutionError:
        return ONE_WAY
    return CHANGES


def _judge_postgresql(name: str, options: dict, account: dict, tree: str, found: dict) -> str:
    revision = __salt__["orthanc_rehearsal.revision"](options, **account)
    plugins = __salt__["orthanc_aside.seen"](
        tree, lambda: __salt__["orthanc_plugins.here"](options, name)
    )
    match = re.search(r"PostgreSQLIndex\.so\.(\d[\d.]*)", " ".join(map(str, plugins)))
    if not match:
        return UNKNOWN
    coming = __salt__["orthanc_rehearsal.revision_of"](match[1])
    if revision > max(coming, SHARED):
        found["problems"].append(
            f"orthanc:version: the schema of the database has revision {revision}, and version"
            f" {match[1]} of orthanc-postgresql takes {coming} at most: the database is of a newer"
            " one; take a version of that plugin that knows it"
        )
    if revision >= coming:
        return STAYS
    return CHANGES if coming <= SHARED else ONE_WAY


def upgrade(name, configuration, test=False):
    """
    Part of the formula. Install the version that the configuration asks for, where that is not the
    one that is installed, after a try, and with a way back.

    name, configuration
        See ``tried``.

    test
        True only tries it.

    Returns what ``tried`` does; None where nothing is to be done.

    Raises CommandExecutionError if this version is not to be installed, or cannot be; or where none
    is asked for, and the packages bring another one.
    """
    version, server = configuration.get("version"), _server()
    if not version:
        _refuse_company(server, configuration.get("packages") or ())
    if not version or __salt__["orthanc_packages.missing"](server, version):
        # The state of the packages says so: others may bring their source until then.
        return None
    new, failed = __salt__["orthanc_packages.chosen"](server, version), pending(failed=True)
    if new and new == failed.get("new"):
        raise CommandExecutionError(FAILED.format(**failed, note=_note()))
    found = tried(name, configuration, version, None if test else _ready())
    if found and found["problems"]:
        raise CommandExecutionError("\n".join(found["problems"]))
    if found and not test:
        with __salt__["orthanc_files.failing"]("noting the upgrade"):
            _write({key: found[key] for key in ("old", "new", "more", "back")})
        try:
            _install(server, found)
        except CommandExecutionError as err:
            raise CommandExecutionError(f"{err}\n{_after_failure(name, server)}") from err
    return found


def _refuse_company(server: str, packages) -> None:
    """Raise an error where packages that are yet to come bring another version of the server."""
    here = __salt__["pkg.list_pkgs"]()
    coming = [one for one in packages if one not in here]
    if server not in here or not coming:
        return
    try:
        old, new = __salt__["orthanc_packages.plan"](coming).get(server, (None, None))
    except CommandExecutionError:
        return  # The state of the packages says why.
    if old:
        raise CommandExecutionError(COMPANY.format(" and ".join(coming), server, new, old))


def _install(server: str, found: dict) -> None:
    __salt__["pkg.unhold"](name=server)
    pkgs = [{server: found["new"]}, *found["words"][1:]]
    __salt__["pkg.install"](pkgs=pkgs, refresh=False)
    here = __salt__["pkg.version"](server)
    if here != found["new"]:
        raise CommandExecutionError(f"{server} {found['new']} was not installed, but is {here}")


def _after_failure(name: str, server: str) -> str:
    """Let the packages come back that were there before, and say how that went."""
    note = pending()
    old = note["old"]
    if not note["back"]:
        return f"There is no way back to {old}."
    try:
        back(server)
        __salt__["orthanc_server.restart"](server)
        __salt__["orthanc_server.wait"](server, name)
    except CommandExecutionError as err:
        return f"{old} does not come back: {err}"
    return f"{old} is back, and Orthanc serves with it."


def pending(failed=False):
    """
    Part of the formula. Return what is noted of an upgrade after which Orthanc was not yet seen
    serving: a mapping with the versions, ``old`` and ``new``, ``more``, see ``tried``, and whether
    there is a way ``back``; an empty one where there is none.

    failed
        True asks for one that has failed, with the ``day`` of that.
    """
    found = __salt__["orthanc_json.noted"](__salt__["orthanc_files.read_if_there"](_note()))
    return found if ("day" in found) == failed else {}


def end():
    """
    Part of the formula. Forget the way back, because Orthanc serves with what is installed.
    """
    if pending():
        shutil.rmtree(_ready(), ignore_errors=True)


def back(service):
    """
    Part of the formula. Install the packages again that were there before the upgrade which is
    pending.

    service
        The name of the service.

    Raises CommandExecutionError if that cannot be.
    """
    found = pending()
    # Debian's package fails where its service cannot be started because systemd has given it up.
    __salt__["service.stop"](service)
    __salt__["orthanc_server.forget"](service)
    __salt__["orthanc_packages.put_back"](_ready())
    try:
        _write({**found, "day": time.strftime("%Y-%m-%d")})
    except OSError as err:
        # Orthanc has to be started all the same.
        log.error("It cannot be noted that %s has failed: %s", found["new"], err)


def _ready() -> str:
    return __salt__["orthanc_files.own"](READY)


def _note() -> str:
    return os.path.join(_ready(), NOTE)


def _write(found: dict) -> None:
    __salt__["orthanc_files.write"](_note(), json.dumps(found, indent=2) + "\n", 0o600)
