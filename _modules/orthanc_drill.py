"""
The drill: the newest backup is restored aside, and the real Orthanc is started on it.

A backup that nobody has restored is a hope. The files of the images are held against the restored
index by their MD5, Orthanc has to serve them, and then all is thrown away. Where the name space of
the network can be had, nobody else reaches that Orthanc; elsewhere it answers this host only, and
asks for a password that nobody else knows. It has no plugins but that of its database.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import logging
import os
import random
import shutil
import socket
import struct
import time
import urllib.parse

from salt.exceptions import CommandExecutionError

log = logging.getLogger(__name__)

# What may be wrong with files.
BAD = ("missing", "empty", "wrong")
# The folder for what is restored, below that of the images: beside them there is room.
ASIDE = ".orthanc-drill"
# The database for it, and the superuser who makes it on this host.
DATABASE, SUPERUSER = "orthanc_drill", "postgres"
# How many images Orthanc is asked for; the files are all read anyway.
ASKED = 200
# How many of the files that are not as they should be are named.
NAMED = 100
# See unshare(2), and netdevice(7) for the device `lo`.
CLONE_NEWNET, SIOCSIFFLAGS, IFF_UP = 0x40000000, 0x8914, 0x1


def run(name):
    """
    Part of the formula. Restore the newest backup of this host, try it, and throw it away; note
    what became of it.

    name
        The path of the folder of the backup; see ``orthanc_backup_job.job``.

    Raises CommandExecutionError if the backup is not good.
    """
    job = __salt__["orthanc_backup_job.job"](name)
    with _alone(name):
        found: dict = {"error": "it was ended before it was done"}
        __salt__["orthanc_backup_note.begin"](job["config"], "drill", time.time())
        try:
            found = {"error": None, **_drill(job)}
            found["error"] = _verdict(found)
        except (CommandExecutionError, OSError) as err:
            found = {**found, "error": __salt__["orthanc_restic.hidden"](job, str(err))}
        finally:
            _clear(job)
            __salt__["orthanc_backup_note.end"](job["config"], "drill", found)
        if found["error"]:
            raise CommandExecutionError(found["error"])


def _alone(name: str):
    path, flags = os.path.join(name, "drill"), os.O_RDWR | os.O_CREAT
    return __salt__["orthanc_backup_job.alone"](path, "a drill", flags)


def ended(name):
    """
    Part of the formula. Clear up after a drill, also after one that was killed.

    name
        See ``run``.
    """
    job = __salt__["orthanc_backup_job.job"](name)
    with contextlib.suppress(CommandExecutionError), _alone(name):
        if os.path.isdir(_aside(job)):
            _clear(job)
        __salt__["orthanc_backup_note.killed"](job["config"], "drill")


def _aside(job: dict) -> str:
    storage = __salt__["orthanc_folder.located"](job["config"])["StorageDirectory"]
    return os.path.join(os.path.realpath(storage), ASIDE)


def _clear(job: dict) -> None:
    """Throw away what was restored."""
    options = __salt__["orthanc_folder.located"](job["config"])
    __salt__["orthanc_planted.remove"](_aside(job))
    if not __salt__["orthanc_postgresql.is_sqlite"](options):
        with contextlib.suppress(CommandExecutionError):
            _sql(options, job, f"DROP DATABASE IF EXISTS {DATABASE}")


def _drill(job: dict) -> dict:
    options, aside = __salt__["orthanc_folder.located"](job["config"]), _aside(job)
    _clear(job)
    snapshots = __salt__["orthanc_restic.snapshots"](job, job["host"])
    if not snapshots:
        raise CommandExecutionError("there is no backup of this host yet; see orthanc.backup")
    newest = snapshots[-1]
    manifest = __salt__["orthanc_restic.manifest"](job, newest["id"])
    folders = _chosen(job.get("drill_sample", 100))
    _make_sure_of_room(options, newest, len(folders))
    os.mkdir(aside, 0o700)
    images = [os.path.join(manifest["storage"], folder) for folder in folders]
    wanted = [manifest["aside"], manifest["config"], *images]
    log.info("Restoring the backup of %s", newest["time"])
    __salt__["orthanc_restic.restore"](job, newest["id"], aside, wanted)
    # Orthanc would not start with one that cannot be read.
    __salt__["orthanc_folder.effective"](aside + manifest["config"])
    restored = _restored(options, job, manifest)
    with _opened(restored, job) as index:
        known, count, dicom = index.files(), index.images(), index.dicom()
        studies = index.all_studies()
    if manifest["files"]:
        known = {uuid: row for uuid, row in known.items() if uuid[:2] in folders}
        whole = __salt__["orthanc_images.with_sums"](options["StorageDirectory"], known)
        found = __salt__["orthanc_images.damaged"](restored["StorageDirectory"], whole)
    else:
        found = {"read": 0, "missing": [], "empty": [], "wrong": []}
    sound = set(dicom) & set(known) - __salt__["orthanc_images.bad"](found)
    sums = {dicom[one]: known[one][1] for one in sorted(sound)}
    served = _serve(restored, job, sums)
    bad = {kind: found[kind] for kind in BAD}
    # What is not known to the server any more was deleted while the backup was made.
    deleted: list = []
    if bad["missing"]:
        with __salt__["orthanc_index.opened"](
            options, __salt__["orthanc_backup_job.account"](job)
        ) as index:
            left = index.files()
        deleted = [uuid for uuid in bad["missing"] if uuid not in left]
        bad["missing"] = [uuid for uuid in bad["missing"] if uuid in left]
    __salt__["orthanc_backup_note.prove"](job["folder"], newest["short_id"], studies)
    return {
        "snapshot": newest["short_id"],
        "repository": __salt__["orthanc_restic.known"](job["folder"]).get(job["repository"]),
        "made": newest["time"],
        "images": count,
        "read": found["read"],
        "served": served,
        "deleted": deleted[:NAMED],
        **{kind: uuids[:NAMED] for kind, uuids in bad.items()},
    }


def _verdict(found: dict):
    """Return what is wrong with the backup, None where it is good."""
    bad = [f"{len(found[kind])} {kind}" for kind in BAD if found[kind]]
    if bad:
        return f"of the restored files are {', '.join(bad)}; see orthanc.verify for the server's"
    return None


def _chosen(sample) -> list:
    """Return so many per cent of the folders of images, others each time."""
    number = max(1, round(256 * min(sample, 100) / 100))
    return [f"{each:02x}" for each in sorted(random.sample(range(256), number))]


def _make_sure_of_room(options: dict, snapshot: dict, folders: int) -> None:
    tags = dict(tag.partition("=")[::2] for tag in snapshot["tags"])
    needed = int(tags.get("bytes", 0)) * folders // 256
    reserve = __salt__["orthanc_reserve.in_force"](options)
    spaces = __salt__["orthanc_reserve.spaces"](options, reserve)
    kept = spaces["StorageDirectory"][-1] if "StorageDirectory" in spaces else 0
    free = shutil.disk_usage(options["StorageDirectory"]).free - kept
    # As much again stays free, because Orthanc goes on storing, and refuses to in its reserve.
    if 2 * needed > free:
        raise CommandExecutionError(
            f"the drill would restore {needed >> 20} MB to the disk of the images, where"
            f" {max(0, free) >> 20} MB are free beside the reserve; make room, or set"
            " orthanc:backup:drill_sample to fewer per cent"
        )


def _restored(options: dict, job: dict, manifest: dict) -> dict:
    """Return the options of an Orthanc on what was restored, whose account it belongs to by now."""
    aside, account = _aside(job), __salt__["orthanc_host.account"](job["user"])
    storage = aside + manifest["storage"]
    os.makedirs(storage, exist_ok=True)
    # What they lead to is the server's, and in no backup.
    __salt__["orthanc_planted.unlink"](storage)
    __salt__["orthanc_planted.give"](aside, account, 0o700)
    found = {
        "StorageDirectory": storage,
        "IndexDirectory": aside + manifest["aside"],
        "Plugins": [],
    }
    if not manifest["database"]:
        return found
    section = __salt__["orthanc_postgresql.section_of"](options)
    parameters = __salt__["orthanc_postgresql.parameters_of"](section)
    parameters["dbname"] = DATABASE
    query = urllib.parse.urlencode(parameters, quote_via=urllib.parse.quote)
    plugins = [path for path in options.get("Plugins", []) if "PostgreSQL" in str(path)]
    switches = {name: bool(section.get(name)) for name in ("EnableIndex", "EnableStorage")}
    found.update(
        PostgreSQL={**switches, "ConnectionUri": f"postgresql://?{query}"}, Plugins=plugins
    )
    log.info("Restoring the database")
    _sql(options, job, f"CREATE DATABASE {DATABASE} OWNER {job['user']}")
    dump = os.path.join(found["IndexDirectory"], "database.dump")
    __salt__["orthanc_postgresql.restore"](
        found["PostgreSQL"], dump, **__salt__["orthanc_backup_job.account"](job)
    )
    return found


def _sql(options: dict, job: dict, statement: str) -> None:
    """Let a statement be carried out by who may make databases."""
    section = __salt__["orthanc_postgresql.section_of"](options)
    parameters = __salt__["orthanc_postgresql.parameters_of"](section) or {}
    if parameters.get("dbname") == DATABASE:
        raise CommandExecutionError(
            f"the server has its index in the database {DATABASE}, which drills make and drop;"
            " give that another name"
        )
    if __salt__["orthanc_postgresql.is_local"](parameters):
        port = {"port": parameters["port"]} if "port" in parameters else {}
        said = __salt__["orthanc_postgresql.psql"](
            {"dbname": SUPERUSER, **port}, ["--file=-"], SUPERUSER, SUPERUSER, stdin=statement
        )
    else:
        statement = statement.partition(" OWNER ")[0]
        said = __salt__["orthanc_postgresql.ask"](
            section, statement, **__salt__["orthanc_backup_job.account"](job)
        )
    if said is None or said["retcode"]:
        why = said["stderr"] if said else "there is no psql"
        if "permission denied" in why:
            why += " (on its host, ALTER ROLE … CREATEDB lets it, see docs/backup.md)"
        raise CommandExecutionError(f"no database for the drill can be made or dropped: {why}")


@contextlib.contextmanager
def _opened(restored: dict, job: dict):
    if "PostgreSQL" in restored:
        with __salt__["orthanc_index.opened"](
            restored, __salt__["orthanc_backup_job.account"](job)
        ) as index:
            yield index
    else:
        path = os.path.join(restored["IndexDirectory"], "index")
        with __salt__["orthanc_index.of_copy"](path) as index:
            yield index


def _serve(restored: dict, job: dict, sums: dict) -> int:
    """Start Orthanc, and return how many of the images it has found to be what was stored.

    Each comes with its MD5, if the index has it.
    """
    asked = random.sample(sorted(sums), min(ASKED, len(sums)))
    own = "PostgreSQL" not in restored or __salt__["orthanc_postgresql.is_local"](
        __salt__["orthanc_postgresql.parameters_of"](restored["PostgreSQL"])
    )
    is_apart = own and _leave_the_network()
    given = (_aside(job), restored, job["group"], _words(job, is_apart))
    with __salt__["orthanc_scratch.running"](*given) as ask:
        return sum(_is_sound(image, sums[image], ask) for image in asked)


def _words(job: dict, is_apart: bool):
    """Return what makes the words that start Orthanc as its unit does, where systemd can."""
    account = __salt__["orthanc_backup_job.account"](job)
    service = __salt__["orthanc_tables.get"]("SERVER")
    apart = [("NetworkNamespacePath", f"/proc/{os.getpid()}/ns/net")] if is_apart else []
    command = __salt__["orthanc_hardening.of_unit"](service, **account, more=apart)
    name = "orthanc-drill-server"
    return __salt__["orthanc_scratch.starter"](job["command"], account, command, name)


def _leave_the_network() -> bool:
    """Go where there is no network but one's own, and return whether the system allows it."""
    libc = ctypes.CDLL(None, use_errno=True)
    here = os.open("/proc/self/ns/net", os.O_RDONLY)
    try:
        if libc.unshare(CLONE_NEWNET) == 0:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
                fcntl.ioctl(probe, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", IFF_UP))
            return True
    except OSError:
        # As in containers, which may have a network and not change it.
        libc.setns(here, CLONE_NEWNET)
    finally:
        os.close(here)
    log.warning("The drill shares the network of this host, which allows no other one")
    return False


def _is_sound(image: str, md5: str, ask) -> bool:
    """Return whether Orthanc itself finds an image to be what was stored, or reads it at least."""
    code, _ = ask("POST", f"/instances/{image}/attachments/dicom/verify-md5", {})
    if code != 200 and not md5:
        code, _ = ask("GET", f"/instances/{image}/simplified-tags")
    if code != 200:
        raise CommandExecutionError(
            f"the restored Orthanc does not have the image {image} as it was stored"
        )
    return True
