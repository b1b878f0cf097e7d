"""
The repository of the backups, by restic, which encrypts all that leaves the host.

restic reads repository, password and credentials from its environment; a command line is seen by
everybody.

https://restic.readthedocs.io/
"""

from __future__ import annotations

import contextlib
import datetime
import json
import logging
import os
import re
import shlex
import subprocess
import tempfile
import threading
import time

from salt.exceptions import CommandExecutionError

log = logging.getLogger(__name__)

# The files in the folder of the job; in the last one, which repositories were there once.
PASSWORD, KNOWN_HOSTS, MADE = "password", "known_hosts", "repositories"
# What all backups of the formula are marked with.
TAG = "orthanc"
# How long to wait where another host has locked the repository, how often to look, and how often
# the log says how far it is; in seconds.
PATIENCE, PAUSE, TELL = 3600, 30, 10
# A repository on a host that is reached over SSH.
SFTP = re.compile(
    r"sftp://(?P<url_login>[^/:]+)(?::(?P<port>\d+))?/.*|sftp:(?P<login>[^/:]+):.*", re.DOTALL
)
# What lets in root itself, as on a new machine whose own key nobody knows yet.
ROOTS_KEYS = ("/root/.ssh/id_ed25519", "/root/.ssh/id_ecdsa", "/root/.ssh/id_rsa")
# For how many seconds restic may say nothing but that it tries again, or nothing at all.
CONTACT, SILENCE = 120, 1800
# What restic says, and what that means.
NOT_THERE = re.compile(
    "Is there a repository at|repository does not exist|specified bucket does not exist"
)
LOCKED = re.compile("already locked")
FULL = re.compile("no space left on device|[Dd]isk quota exceeded")
NO_FOLDER = re.compile("not a directory|read-only file system")
AWAY = (
    "[Cc]onnection timed out|[Cc]onnection refused|[Nn]o route to host|Could not resolve"
    "|no such host|i/o timeout|not responding|said nothing"
)
UNREACHED = re.compile(
    f"{AWAY}|Broken pipe|unexpectedly closed|connection lost|error receiving version|ssh command ex"
)
KEY = (
    "with orthanc:backup_key:enabled, `salt-call orthanc.backup_key` shows the key that it has to"
    " know; otherwise, and on an empty machine, that is /root/.ssh/id_ed25519.pub"
)
REFUSED = re.compile(
    "signature we calculated|Key Id you provided|InvalidAccessKeyId|SignatureDoesNotMatch"
    "|Access ?Denied|response \\(401\\)|401 Unauthorized"
)
UNTRUSTED = re.compile("x509: |tls: first record")
SKEWED = re.compile("difference between the request time and|RequestTimeTooSkewed")
WRONG_PASSWORD = re.compile("wrong password|no key found")
# What is not better a quarter of an hour later, for which restic tries again; and what is not
# before there was an answer. Afterwards it may be about one file of many.
HOPELESS = re.compile(f"{FULL.pattern}|{NO_FOLDER.pattern}")
HOPELESS_AT_FIRST = re.compile(
    f"{REFUSED.pattern}|{UNTRUSTED.pattern}|{SKEWED.pattern}|specified bucket does not exist"
)
# Of a repository that has lost some of what it holds.
DAMAGED = re.compile(
    r"ciphertext verification failed|<data/\w+>.*(?:no such file|not exist|response \(404\))"
)
MEANINGS = (
    (
        DAMAGED,
        "the repository is damaged, and no later backup into it would be whole. Keep it, and give"
        " orthanc:backup:repository another place, where the next one begins anew",
    ),
    (
        WRONG_PASSWORD,
        "the password does not open the repository; put the one with which it was made into"
        " {password}, or into orthanc:backup:password",
    ),
    ("Host key verification failed", "the other host has another key than it had; see {folder}"),
    (
        "Permission denied \\(publickey|Permission denied, please try again",
        f"the other host does not let this one in; {KEY}",
    ),
    (
        REFUSED,
        "the server of the repository does not let this host in, or not do that; S3 takes"
        " AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY of orthanc:backup:environment (of the shell,"
        " on an empty machine), a REST server the account in orthanc:backup:repository",
    ),
    (
        UNTRUSTED,
        "the server of the repository has no certificate that this host trusts; look at http or"
        " https in orthanc:backup:repository, and let this host know the server's authority"
        " (update-ca-certificates)",
    ),
    (
        SKEWED,
        "the clock of this host is wrong, and S3 takes nothing from it; put that right",
    ),
    (r"/restic-temp\S*: no space left", "/tmp of this host is full; make room there"),  # noqa: S108
    (FULL, "the disk of the repository is full"),
    (
        "Resolving password failed|an empty password is not allowed",
        "no password is in {password}; put your copy of it there, or into orthanc:backup:password",
    ),
    (
        # restic may have ended before it has read why ssh did.
        f"(?s)^(?!.*({AWAY})).*unable to start the sftp session",
        f"the other host does not let this one in, or has no sftp for it; {KEY}",
    ),
    (
        UNREACHED,
        "the other host does not answer; look at its name in orthanc:backup:repository, its network"
        " and its firewall",
    ),
    (NO_FOLDER, "the repository is no folder that can be used; see orthanc:backup:repository"),
    (NOT_THERE, "there is no repository; is its disk mounted, and the path the right one?"),
    ("already locked", "another backup of the repository does not end, or `restic unlock` it"),
)
# How many of its last lines are told; a secret of fewer characters may be a part of any word; and
# how many words a command takes.
LINES, SHORT, WORDS = 3, 4, 5000


def known(folder):
    """
    Part of the formula. Return the repositories that were seen, each with its identifier.

    folder
        The path of the folder with what is needed to use them.
    """
    path = os.path.join(folder, MADE)
    return __salt__["orthanc_json.noted"](__salt__["orthanc_files.read_if_there"](path), path)


def opens(job):
    """
    Part of the formula. Return whether the password opens the repository.

    job
        See ``orthanc_backup_job.job``.

    Raises CommandExecutionError if that cannot be told.
    """
    said = _run(job, ["cat", "config"])
    if said["retcode"] and _meaning(said["stderr"])[0] is WRONG_PASSWORD:
        return False
    return bool(_succeed(job, said, "whether the password opens the repository is not known"))


def ready(job):
    """
    Part of the formula. Make sure that the repository opens, and make it where there never was one.

    job
        See ``orthanc_backup_job.job``.

    Raises CommandExecutionError if it does not open, or was there and is gone.
    """
    said = _patient(job, ["cat", "config"])
    folder, repository = job["folder"], job["repository"]
    seen = known(folder)
    # An older restic asks that of whatever keeps it from the repository.
    if said["retcode"] and _meaning(said["stderr"])[0] is NOT_THERE:
        if repository in seen:
            raise CommandExecutionError(
                "the repository was there, and is gone. Is its disk mounted, the other host, or"
                f" the bucket, the right one? To begin anew: rm {folder}/{MADE}"
            )
        log.info("Making the repository")
        if repository.startswith("/"):
            os.makedirs(repository, mode=0o700, exist_ok=True)
        _succeed(job, _run(job, ["init"]), "the repository cannot be made")
        said = _run(job, ["cat", "config"])
    config = json.loads(_succeed(job, said, "the repository does not open")["stdout"])
    if seen.get(repository) != config["id"]:
        text = json.dumps({**seen, repository: config["id"]}) + "\n"
        __salt__["orthanc_files.write"](os.path.join(folder, MADE), text, 0o600)


def snapshots(job, host=None):
    """
    Part of the formula. Return the backups in the repository, the oldest first: a list of mappings
    as restic gives them.

    job
        See ``orthanc_backup_job.job``.

    host
        Only those of a host.

    Raises CommandExecutionError if it cannot be opened.
    """
    words = ["snapshots", "--json", "--tag", TAG, *(["--host", host] if host else [])]
    said = _succeed(job, _patient(job, words), "the backups cannot be listed")
    return sorted(json.loads(said["stdout"]) or [], key=lambda one: moment(one["time"]))


def moment(written):
    """
    Part of the formula. Return a time of restic's, which counts nanoseconds, in seconds since 1970.

    written
        A text, with the zone in which it was written.
    """
    text = re.sub(r"\.[0-9]+", "", written).replace("Z", "+00:00")
    return datetime.datetime.fromisoformat(text).timestamp()


def backup(job, paths, excluded, tags):
    """
    Part of the formula. Make a backup of paths.

    job
        See ``orthanc_backup_job.job``.

    paths
        A list of paths.

    excluded
        Patterns of paths that are left out.

    tags
        More tags, a list of texts.

    Returns a mapping: its ``snapshot``, how many bytes were ``added``, and the paths that could not
    be ``unread``, because they were gone by then or for another reason; and the earlier backups
    that are ``later`` than now, by the clock of this host.

    Raises CommandExecutionError if there is no backup.
    """
    before = snapshots(job, job["host"])
    # restic itself looks for one of the very same paths, and would read all files again.
    parent = ["--parent", before[-1]["id"]] if before else []
    words = ["backup", "--json", "--host", job["host"], *parent]
    words += [word for tag in (TAG, *tags) for word in ("--tag", tag)]
    words += [f"--exclude={pattern}" for pattern in excluded]
    said = _patient(job, [*words, "--", *paths])
    summary = _message(said["stdout"].splitlines(), "summary")
    # 3: there is a backup, and some files are not in it.
    if said["retcode"] not in (0, 3) or not summary:
        _succeed(job, {**said, "retcode": said["retcode"] or 1}, "the backup failed")
    return {
        "snapshot": summary["snapshot_id"][:8],
        "added": summary["data_added"],
        "unread": _unread(said["stderr"].splitlines()),
        "later": [one["short_id"] for one in before if moment(one["time"]) > time.time()],
    }


def _message(lines: list, kind: str) -> dict:
    found: dict = {}
    for line in lines:
        with contextlib.suppress(ValueError):
            message = json.loads(line)
            if isinstance(message, dict) and message.get("message_type") == kind:
                found = message
    return found


def _unread(lines: list) -> list:
    """Return the paths that restic could not read; where it names none, what it says."""
    found = []
    for line in lines:
        message = _message([line], "error")
        if message:
            found.append(message.get("item") or str(message.get("error")))
    return found


def manifest(job, snapshot):
    """
    Part of the formula. Return what is where in a backup, as ``orthanc_backup`` has written it.

    job
        See ``orthanc_backup_job.job``.

    snapshot
        Its identifier.
    """
    path = os.path.join(job["folder"], "manifest.json")
    said = _patient(job, ["dump", snapshot, path])
    return json.loads(_succeed(job, said, "what is in the backup cannot be told")["stdout"])


def restore(job, snapshot, target, paths):
    """
    Part of the formula. Restore paths of a backup.

    job
        See ``orthanc_backup_job.job``.

    snapshot
        Its identifier.

    target
        The path of the folder below which they are restored.

    paths
        A list of paths.

    Raises CommandExecutionError if that failed.
    """
    included = [f"--include={escaped(path)}" for path in paths]
    for first in range(0, len(included), WORDS):
        some = included[first : first + WORDS]
        said = _patient(job, ["restore", snapshot, f"--target={target}", *some])
        if said["retcode"] and FULL.search(said["stderr"]):
            why = f"there is no room for the backup in {target}; make room first"
            raise CommandExecutionError(why)
        _succeed(job, said, "the backup cannot be restored")


def escaped(path):
    """
    Part of the formula. Return a path as a pattern of restic that stands for itself alone.

    path
        The path.
    """
    return "".join(f"\\{letter}" if letter in "*?[]\\" else letter for letter in path)


def forget(job):
    """
    Part of the formula. Let the backups of this host go that are not to be kept, and what only they
    hold.

    job
        See ``orthanc_backup_job.job``.

    Raises CommandExecutionError if that failed.
    """
    kept = [f"--keep-{kind}={number}" for kind, number in sorted(job["keep"].items()) if number]
    # The last one of a day has not what was deleted that day.
    days = job["keep"].get("daily")
    kept += [f"--keep-within={days}d"] if days else []
    if kept:
        words = ["forget", "--host", job["host"], "--tag", TAG, "--group-by", "host", "--prune"]
        _succeed(job, _patient(job, [*words, *kept]), "old backups cannot be removed")


def _patient(job: dict, words: list) -> dict:
    """Run restic, again as long as another host has locked the repository."""
    deadline, pause = time.monotonic() + PATIENCE, 0
    while True:
        said = _run(job, words)
        cache = os.environ.get("CACHE_DIRECTORY")
        if said["retcode"] and cache and FULL.search(said["stderr"]) and cache in said["stderr"]:
            log.warning("There is no room in %s; it goes on without", cache)
            del os.environ["CACHE_DIRECTORY"]
            continue
        waits = said["retcode"] and LOCKED.search(said["stderr"])
        if not waits or time.monotonic() > deadline:
            return said
        # What killed runs left: here without their process, of others half an hour old.
        _run(job, ["unlock"])
        if pause:
            log.info("Another backup has locked the repository; waiting for it")
        time.sleep(pause)
        pause = PAUSE


def _run(job: dict, words: list) -> dict:
    """Return what restic printed, and its exit code, as ``cmd.run_all`` does."""
    options = ["--no-cache"] if not os.environ.get("CACHE_DIRECTORY") else []
    if job.get("limit_upload"):
        options.append(f"--limit-upload={job['limit_upload']}")
    sftp = SFTP.fullmatch(job["repository"])
    if sftp:
        options.append(f"--option=sftp.command={_ssh(job, sftp)}")
    # It ends together with this process, and is no burden to the server.
    polite = ["setpriv", "--pdeathsig", "KILL", "nice", "-n", "15", "ionice", "-t", "-c", "2"]
    with tempfile.TemporaryFile() as errors, subprocess.Popen(
        [*polite, "-n", "7", "restic", *options, *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=errors,
        cwd="/",
        env=_environment(job),
    ) as process:
        heard = threading.Event()
        watcher = threading.Thread(target=_watch, args=[process, errors, heard], daemon=True)
        watcher.start()
        try:
            output, code = _followed(process.stdout, heard), process.wait()
        except BaseException:
            process.kill()
            raise
        errors.seek(0)
        said = errors.read().decode(errors="replace") or "it said nothing" * (code < 0)
    return {"retcode": code, "stdout": output, "stderr": said}


def _watch(process, errors, heard) -> None:
    """End restic as soon as it says what is hopeless, or where it never reaches the other host."""
    began = time.monotonic()
    while process.poll() is None:
        time.sleep(0.5)
        with contextlib.suppress(OSError, ValueError):  # it has ended meanwhile
            size, lasted = os.fstat(errors.fileno()).st_size, time.monotonic() - began
            said = os.pread(errors.fileno(), size, 0).decode(errors="replace")
            lost = not heard.is_set() and (
                (lasted > CONTACT and UNREACHED.search(said)) or lasted > SILENCE
            )
            refused = not heard.is_set() and HOPELESS_AT_FIRST.search(said)
            if lost or refused or HOPELESS.search(said):
                process.kill()
                return


def _followed(stream, heard) -> str:
    """Return what restic prints, of its many words on how far it is only some in the log."""
    lines, told = [], time.monotonic()
    for line in stream:
        heard.set()
        text = line.decode(errors="replace")
        status = _message([text], "status")
        if not status:
            lines.append(text)
        elif time.monotonic() - told > TELL:
            told = time.monotonic()
            log.info("%.0f %% of what there is, read", 100 * status.get("percent_done", 0))
    return "".join(lines)


def _environment(job: dict) -> dict:
    cache = os.environ.get("CACHE_DIRECTORY")
    return {
        **job["environment"],
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "LC_ALL": "C.UTF-8",
        "HOME": "/root",
        "RESTIC_REPOSITORY": job["repository"],
        "RESTIC_PASSWORD_FILE": job.get("password_file") or os.path.join(job["folder"], PASSWORD),
        "RESTIC_PROGRESS_FPS": "1",
        **({"RESTIC_CACHE_DIR": cache} if cache else {}),
    }


def _ssh(job: dict, sftp) -> str:
    """Return the command by which restic reaches another host."""
    known = os.path.join(job["folder"], KNOWN_HOSTS)
    words = ["ssh", "-o", "BatchMode=yes", "-o", "ServerAliveInterval=60"]
    # Of a host that takes the connection and then says nothing, too.
    words += ["-o", "ConnectTimeout=30"]
    # Who poses as that host gets what he cannot read, and from then on only that one is taken.
    words += ["-o", "StrictHostKeyChecking=accept-new", "-o", f"UserKnownHostsFile={known}"]
    for key in [job.get("key"), *ROOTS_KEYS]:
        words += ["-i", key] if key and (key == job.get("key") or os.path.exists(key)) else []
    words += ["-p", sftp["port"]] if sftp["port"] else []
    return shlex.join([*words, sftp["url_login"] or sftp["login"], "-s", "sftp"])


def _succeed(job: dict, said: dict, what: str) -> dict:
    """Return what restic said, or raise what it means in plain words if it failed."""
    if said["retcode"] == 0:
        return said
    words = said["stderr"].strip() or said["stdout"].strip() or f"exit code {said['retcode']}"
    fatal = _message(said["stderr"].splitlines(), "exit_error").get("message")
    words = fatal or words
    meaning = _meaning(words)[1]
    paths = {"folder": job["folder"], "password": _environment(job)["RESTIC_PASSWORD_FILE"]}
    what = f"{what}: {meaning.format(**paths)}" if meaning else what
    # What it says each time that it tries again is much, and always the same.
    words = " ".join(" ".join(words.splitlines()[-LINES:]).split())[-1000:]
    raise CommandExecutionError(f"{what}. restic says: {hidden(job, words)}")


def _meaning(words: str) -> tuple:
    """Return the first of what restic's words may mean, as ``MEANINGS`` has it."""
    return next((each for each in MEANINGS if re.search(each[0], words)), (None, None))


def hidden(job, text):
    """
    Part of the formula. Return a text without the secrets of a job.

    job
        See ``orthanc_backup_job.job``.

    text
        What somebody else said.
    """
    between = re.findall(r"://([^/@]*)@", job["repository"])
    parts = [part for login in between for part in [login, *login.split(":")[1:]]]
    for secret in [*job["environment"].values(), *parts]:
        if len(secret) >= SHORT:
            text = text.replace(secret, "(hidden)")
    return text
