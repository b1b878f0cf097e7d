"""
A backup of the server while it goes on: first what the index knows, as it is at one moment, then
the files of the images and the configuration with all that it names.

A file of an image is never changed, so what was stored before the moment is in the backup, unless
it was deleted before its file was read. Those are named. What is stored later is of the next one.

https://orthanc.uclouvain.be/book/users/backup.html
"""

from __future__ import annotations

import contextlib
import glob
import json
import logging
import os
import shutil
import time

from salt.exceptions import CommandExecutionError

log = logging.getLogger(__name__)

# What systemd starts; see ``orthanc_jobs.pending``.
JOBS = {
    "backup": {
        "name": "orthanc-backup",
        "description": "Backup of Orthanc",
        "function": "orthanc_backup.run",
        "ended": "orthanc_backup.ended",
        "place": "orthanc:backup:schedule",
    },
    "drill": {
        "name": "orthanc-drill",
        "description": "Trial restore of the backup of Orthanc",
        "function": "orthanc_drill.run",
        "ended": "orthanc_drill.ended",
        "place": "orthanc:backup:drill",
    },
}
# The folder for the copy of the index or the dump of the database, beside the index, and what they
# are called in it.
ASIDE, INDEX, DUMP = ".orthanc-backup", "index", "database.dump"
# In the folder of the backup, and in each backup: what there is in it, for who restores it.
MANIFEST = "manifest.json"
# That a run has begun and did not come to its good end, in the folder of the backup.
RUNNING = "running"
# What else is there for this job alone.
OWN = ("job.json", MANIFEST, RUNNING, "drill", "proven")
# What drills, restores and repairs have below the folder of the images.
RESTORED = (".orthanc-drill", ".orthanc-restore", ".orthanc-spare", ".before-restore-*")
# What of an index in SQLite there may be besides the copy.
OPEN_INDEX = ("index", "index-journal", "index-shm", "index-wal", ".orthanc-index-*")
# How many of the images that were deleted meanwhile, or are lost, are named.
NAMED = 100
# Where packages have their files, which a backup need not hold.
PACKAGED, LOCAL = "/usr/", "/usr/local/"
# The formula's own notes, and where masterless.sh has its pillar; see ``orthanc_files.own``.
PILLAR_FOLDER, LAST_PILLAR, RECORD = "/etc/{}", "/var/lib/{}/pillar", "/var/lib/{}/first-run.json"
# What the database holds, without what is made of it again.
SIZE = (
    "SELECT coalesce(sum(pg_catalog.pg_table_size(oid)), 0)::bigint FROM pg_catalog.pg_class"
    " WHERE relkind IN ('r', 'm')"
)
KEPT = "until then no older backup is removed"
# Older backups may be all that there is of some images.
LOST = f"files are lost or damaged of images that the index knows, see orthanc.verify; {KEPT}"
DRILLED = f"the last drill found files that are lost or damaged; call orthanc.drill again; {KEPT}"
# From how many images on it is strange that less than half of them are left.
MANY = 100
FEWER = (
    "the index knows {} images, and knew {} when the last backup was made; if that is not as it"
    " should be, restore that one. Only the next backup removes older ones"
)
# By their age, the new one may be among those that go.
LATER = (
    "earlier backups are of the future, by the clock of this host, and a restore takes them for the"
    f" newest ones ({{}}); put the clock right, or remove them (restic forget); {KEPT}"
)
IMAGES_ELSEWHERE = (
    "the images are kept by a plugin and are no files in StorageDirectory; a backup of them is a"
    " matter of what keeps them. Take orthanc:backup out"
)


def run(name):
    """
    Part of the formula. Make a backup, and note what became of it.

    name
        The path of the folder of the backup; see ``orthanc_backup_job.job``.

    Raises CommandExecutionError if there is no backup.
    """
    job, marker = __salt__["orthanc_backup_job.job"](name), os.path.join(name, RUNNING)
    with _alone(name):
        began, found = time.time(), {"error": "it was ended before it was done"}
        __salt__["orthanc_files.write"](marker, f"{int(began)}\n", 0o600)
        __salt__["orthanc_backup_note.begin"](job["config"], "backup", began)
        try:
            found = {"error": None, **_back_up(job)}
            os.unlink(marker)
        except (CommandExecutionError, OSError) as err:
            found = {"error": __salt__["orthanc_restic.hidden"](job, str(err))}
            raise CommandExecutionError(found["error"]) from None
        finally:
            __salt__["orthanc_backup_note.end"](job["config"], "backup", found)
            _clear(job)


def now(what):
    """
    Part of the formula. Let systemd do a backup or a drill, and return what is noted of it.

    what
        ``backup`` or ``drill``.

    Raises CommandExecutionError with the reason if it failed, or if it is not root who asks.
    """
    __salt__["orthanc_host.require_root"]()
    job, began, unit = __salt__["orthanc_backup_job.job"](), int(time.time()), f"orthanc-{what}"
    __salt__["orthanc_jobs.start"](unit, f"orthanc_{what}.run", job["folder"])
    found = __salt__["orthanc_backup_note.read"](job["config"]).get(what, {})
    error, _ = found.pop("error", ""), found.pop("place", None)
    if error or found.get("time", 0) + (found.get("duration") or 0) < began:
        raise CommandExecutionError(error or f"it came to no end; see journalctl -u {unit}")
    return found


def _alone(name: str):
    return __salt__["orthanc_backup_job.alone"](name, "a backup, or a restore,")


def _clear(job: dict) -> None:
    """Remove the copy of the index."""
    with contextlib.suppress(CommandExecutionError):
        __salt__["orthanc_planted.remove"](_aside(job))


def ended(name):
    """
    Part of the formula. Clear up after a backup, also after one that was killed.

    name
        See ``run``.
    """
    job, marker = __salt__["orthanc_backup_job.job"](name), os.path.join(name, RUNNING)
    with contextlib.suppress(CommandExecutionError), _alone(name):
        if os.path.exists(marker):
            __salt__["orthanc_index.wake"]()
            _clear(job)
        __salt__["orthanc_backup_note.killed"](job["config"], "backup")


def _located(job: dict) -> dict:
    """Return the options with the real places of images and index: restic follows no links."""
    options = __salt__["orthanc_folder.located"](job["config"])
    places = ("IndexDirectory", "StorageDirectory")
    return {**options, **{name: os.path.realpath(options[name]) for name in places}}


def _aside(job: dict) -> str:
    """Return the path of the folder for the copy of the index."""
    options = _located(job)
    folders = [options[name] for name in ("IndexDirectory", "StorageDirectory")]
    return os.path.join(next(filter(os.path.isdir, folders), folders[0]), ASIDE)


def _back_up(job: dict) -> dict:
    options, aside = _located(job), _aside(job)
    if __salt__["orthanc_restore.interrupted"](options):
        raise CommandExecutionError("a restore was interrupted; call orthanc.restore again first")
    account = __salt__["orthanc_backup_job.account"](job)
    strange = __salt__["orthanc_proof.strange"](job["config"], options, account)
    if strange:
        # It would be the newest one, and let older ones go.
        raise CommandExecutionError(strange[0])
    __salt__["orthanc_planted.remove"](aside)
    __salt__["orthanc_restic.ready"](job)
    os.mkdir(aside, 0o700)
    # First: what routes did later they do again, with the changes that are in the index.
    warning = __salt__["orthanc_routes_queue.saved"](aside)
    known, images = _take_index(options, job, aside)
    log.info("%s images are known to the index", images)
    files = __salt__["orthanc_identity.in_folder"](options)
    here, good = __salt__["orthanc_identity.place"](options["StorageDirectory"]), _good(job)
    place = f"{here['mount']}: {here['file_system']}"
    _refuse_another_disk(job, good, images, place)
    if files:
        # Before there is a backup that has no more of them, and is the newest one.
        _gone(job, options, known)
    tags = [f"images={images}", f"bytes={sum(size for size, *_ in known.values())}"]
    paths = _paths(job, options, files)
    left_out = {"IndexDirectory": OPEN_INDEX, "StorageDirectory": RESTORED}
    excluded = [
        os.path.join(__salt__["orthanc_restic.escaped"](options[place]), pattern)
        for place, patterns in left_out.items()
        for pattern in patterns
    ]
    done = __salt__["orthanc_restic.backup"](job, [*paths, aside], excluded, tags)
    unread = [path for path in done["unread"] if not path.startswith("/") or os.path.lexists(path)]
    if unread:
        raise CommandExecutionError(f"what cannot be read is not in it: {', '.join(unread[:5])}")
    links = __salt__["orthanc_images.links"](options["StorageDirectory"], known) if files else []
    if links:
        raise CommandExecutionError(
            f"what links lead to is not in it: {', '.join(links[:5])}. Put the files themselves"
            " there, or mount their folder there (mount --bind)"
        )
    result = {
        "snapshot": done["snapshot"],
        "images": images,
        "files": len(known),
        "bytes_added": done["added"],
        "place": place,
        **(_gone(job, options, known) if files else {"deleted": [], "lost": []}),
    }
    doubt = _doubt(result, good.get("images", 0), done["later"])
    doubt = doubt or _known_damage(job["config"])
    result["warning"] = doubt or warning or None
    if doubt:
        return result
    try:
        __salt__["orthanc_restic.forget"](job)
    except CommandExecutionError as err:
        result["warning"] = "; ".join(filter(None, (warning, str(err))))
    return result


def _good(job: dict) -> dict:
    """Return what is noted of the last good backup."""
    return __salt__["orthanc_backup_note.read"](job["config"]).get("good", {})


def _refuse_another_disk(job: dict, good: dict, images: int, place: str) -> None:
    """Raise an error where most images of the last backup are gone together with their disk."""
    if good.get("place") not in (None, place) and 2 * images < good["images"]:
        raise CommandExecutionError(
            f"the index knows {images} images, and knew {good['images']} when the last backup was"
            f" made and they were on another file system, {good['place']}. Mount that; if they were"
            f" deleted on purpose: rm {__salt__['orthanc_backup_note.path'](job['config'])}"
        )


def _doubt(found: dict, before: int, later: list):
    """Return why no older backups are to be removed, None where they may go."""
    if found["lost"]:
        return LOST
    if before >= MANY and 2 * found["images"] < before:
        return FEWER.format(found["images"], before)
    return LATER.format(", ".join(later)) if later else None


def _known_damage(config: str):
    """Return why some images may be sound in older backups only, as far as that was found out by
    reading their files; None where it was not.
    """
    verified = __salt__["orthanc_images.noted"](config)
    drill = __salt__["orthanc_backup_note.read"](config).get("drill", {})
    for noted, why in ((verified, LOST), (drill, DRILLED)):
        if any(noted.get(kind) for kind in ("missing", "empty", "wrong")):
            return why
    return None


def _take_index(options: dict, job: dict, aside: str) -> tuple:
    """Take what the index knows aside. Return the files that it knows, and how many images."""
    account = __salt__["orthanc_backup_job.account"](job)
    section = __salt__["orthanc_postgresql.section_of"](options)
    is_sqlite = __salt__["orthanc_postgresql.is_sqlite"](options)
    in_folder = __salt__["orthanc_identity.in_folder"](options)
    if not in_folder and not section.get("EnableStorage"):
        raise CommandExecutionError(IMAGES_ELSEWHERE)
    _write_manifest(job, options)
    if is_sqlite:
        index = os.path.join(options["IndexDirectory"], "index")
        path = __salt__["orthanc_index.copy"](index, aside, "integrity_check")
        with __salt__["orthanc_index.of_copy"](path) as copy:
            return copy.files(), copy.images()
    with __salt__["orthanc_index.opened"](options, account) as index:
        _make_sure_of_room(aside, int(index.ask(SIZE)[0][0]))
        known, images = index.files(), index.images()
    __salt__["orthanc_postgresql.dump"](section, os.path.join(aside, DUMP), **account)
    return known, images


def _make_sure_of_room(aside: str, needed: int) -> None:
    free = shutil.disk_usage(aside).free
    # As much again stays free, because Orthanc goes on writing.
    if 2 * needed > free:
        raise CommandExecutionError(
            f"the database has {needed >> 20} MB, and its dump needs as much in {aside}, where"
            f" {free >> 20} MB are free; make room first"
        )


def _write_manifest(job: dict, options: dict) -> None:
    """Write down what there is in the backup, for who restores it."""
    manifest = {
        "config": job["config"],
        "storage": options["StorageDirectory"],
        "index": options["IndexDirectory"],
        "aside": _aside(job),
        "database": not __salt__["orthanc_postgresql.is_sqlite"](options),
        "files": __salt__["orthanc_identity.in_folder"](options),
        "host": job["host"],
        "others": _others(job),
    }
    path, text = os.path.join(job["folder"], MANIFEST), json.dumps(manifest, indent=2) + "\n"
    __salt__["orthanc_files.write"](path, text, 0o600)


def _others(job: dict) -> list:
    """
    Return what the server needs before the pillar can be applied on another machine: the pillar of
    masterless.sh, and what the configuration names that neither formula nor packages bring.
    """
    own = [__salt__["orthanc_files.own"](path) for path in (PILLAR_FOLDER, LAST_PILLAR)]
    config = job["config"]
    found = [*own, *_pillar(), *job["named"]]
    for path in _named(config):
        inside = os.path.dirname(path) == config
        if not (inside and __salt__["orthanc_files.is_ours"](config, os.path.basename(path))):
            found.append(path)
    return sorted({path for path in found if os.path.lexists(path)})


def _named(config: str) -> list:
    """Return the files that the configuration is made of and names, but for those of packages."""
    return [
        path
        for path in __salt__["orthanc_folder.used"](config)
        if os.path.isfile(path) and (not path.startswith(PACKAGED) or path.startswith(LOCAL))
    ]


def _paths(job: dict, options: dict, files: bool) -> list:
    """Return what is in the backup besides the index: images, configuration, and what it names."""
    config = job["config"]
    found = [config, *glob.glob(f"{glob.escape(config)}.*"), *job["files"], *job["named"]]
    found += [*_named(config), *_others(job), __salt__["orthanc_files.own"](RECORD)]
    found += [options["StorageDirectory"]] if files else []
    found.append(os.path.join(job["folder"], MANIFEST))
    found += [os.path.realpath(path) for path in found]
    return sorted({path for path in found if os.path.lexists(path)})


def _pillar() -> list:
    """Return the path of the pillar of masterless.sh, where that was called."""
    last = __salt__["orthanc_files.own"](LAST_PILLAR)
    path = __salt__["orthanc_files.read_if_there"](last) or ""
    return [path.strip()] if path.strip() else []


def _gone(job: dict, options: dict, known: dict) -> dict:
    """Return which images were deleted meanwhile, and which are lost: the index still knows them,
    and there is no file, or one of another size, as after a full disk.

    Each by the UUID of its file.
    """
    path_of, storage = __salt__["orthanc_images.path_of"], options["StorageDirectory"]
    fault = __salt__["orthanc_images.fault"]
    faults = {uuid: fault(path_of(storage, uuid), size) for uuid, (size, *_) in known.items()}
    gone = sorted(uuid for uuid, kind in faults.items() if kind)
    if not gone:
        return {"deleted": [], "lost": []}
    with __salt__["orthanc_index.opened"](
        options, __salt__["orthanc_backup_job.account"](job)
    ) as index:
        left = index.files()
    lost = [uuid for uuid in gone if uuid in left]
    missing = sum(faults[uuid] == "missing" for uuid in lost)
    if 2 * missing > len(known):
        raise CommandExecutionError(
            f"{missing} of {len(known)} files that the index knows are not in {storage}; is its"
            " disk mounted?"
        )
    deleted = [uuid for uuid in gone if uuid not in left]
    return {
        "deleted": deleted[:NAMED],
        "lost": lost[:NAMED],
        "counts": {"deleted": len(deleted), "lost": len(lost)},
    }


def _timers(name: str, job: dict, schedules: dict) -> list:
    """Return what systemd is to start; see ``orthanc_jobs.pending``."""
    here = [job["repository"]] if job["repository"].startswith("/") else []
    return [
        {**each, "argument": name, "schedule": schedules.get(what), "mounts": here}
        for what, each in JOBS.items()
    ]


def lacks(name, job, schedules):
    """
    Part of the formula. Return what ``make`` would do: a mapping from path or unit to a word.

    name
        The path of the folder of the backup.

    job
        What the pillar says of it; see ``orthanc_backup_job.job``.

    schedules
        When systemd is to start the ``backup`` and the ``drill``, as OnCalendar has it; None for
        never.

    Raises CommandExecutionError if something is not to be done.
    """
    timers = _timers(name, job, schedules)
    files = __salt__["orthanc_backup_job.lacks"](name, job)
    found = {path: "made" if text is None else "written" for path, text in files.items()}
    return {**found, **__salt__["orthanc_jobs.pending"](timers)}


def make(name, job, schedules):
    """
    Part of the formula. Write what a backup needs, and let it begin at its time.

    name, job, schedules
        See ``lacks``.

    Raises CommandExecutionError if that failed.
    """
    timers = _timers(name, job, schedules)
    with __salt__["orthanc_files.failing"]("setting up the backup"):
        __salt__["orthanc_backup_job.put"](name, __salt__["orthanc_backup_job.lacks"](name, job))
        __salt__["orthanc_jobs.put"](timers)


def warnings(name, job, schedules):
    """
    Part of the formula. Return what is wrong with the backups, a list of sentences.

    name, job, schedules
        See ``lacks``.
    """
    repository = job["repository"]
    interval = __salt__["orthanc_jobs.interval"]
    intervals = [interval(schedules[what]) if schedules.get(what) else None for what in JOBS]
    found = __salt__["orthanc_backup_note.warnings"](job["config"], *intervals)
    noted = __salt__["orthanc_backup_note.read"](job["config"])
    if noted.get("backup") and repository not in __salt__["orthanc_restic.known"](name):
        found.append("there is no backup in this repository yet: call orthanc.backup")
    storage = __salt__["orthanc_folder.located"](job["config"])["StorageDirectory"]
    disks = __salt__["orthanc_host.disks"]
    if repository.startswith("/") and disks(repository) & disks(storage):
        found.append(
            f"orthanc:backup:repository: {repository} is on the disk of the images, and is lost"
            " together with them; choose a folder on another disk, or another host"
        )
    return found


def left(name):
    """
    Part of the formula. Return the paths that ``remove`` would remove.

    name
        The path of the folder of the backup.
    """
    own = [os.path.join(name, entry) for entry in OWN]
    own = [path for path in own if os.path.lexists(path)]
    timers = _timers(name, {"repository": ""}, {})
    # Where there is none, the program is that of others, also where no unit tells so.
    return [*__salt__["orthanc_jobs.left"](timers), *own] if own else []


def remove(name):
    """
    Part of the formula. Let no backup begin any more. The password stays: there may be no other
    copy of it.

    name
        The path of the folder of the backup.

    Raises CommandExecutionError if that failed.
    """
    with __salt__["orthanc_files.failing"]("removing the backup"):
        __salt__["orthanc_jobs.remove"](_timers(name, {"repository": ""}, {}))
        for path in left(name):
            os.unlink(path)
