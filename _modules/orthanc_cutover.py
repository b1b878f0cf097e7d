"""
The moment in which the index moves: the server is stopped, the index copied, the configuration
written, and the server started with it.

Until the new configuration is there the old index is the one that counts: whoever interrupts this,
the server is started again. The old index is kept.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import glob
import logging
import os
import shutil
import subprocess
import tempfile
import time
import urllib.parse

import salt.utils.systemd
from salt.exceptions import CommandExecutionError

log = logging.getLogger(__name__)

# Locked as long as the server is away.
AWAY = "/run/orthanc-away"
# How the folder begins in which an empty index is made, and the name of an old one.
ASIDE, KEPT = ".orthanc-move-", "index.moved-{}"
# How many times as much an index takes in PostgreSQL, and where that has its files.
LARGER = 4
DATABASES = ("/var/lib/postgresql", "/var/lib/pgsql")
SQLITE, INDEX_PLUGIN = "SQLite", "PostgreSQLIndex"


@contextlib.contextmanager
def along(case):
    """
    Part of the formula. Take the index along, if that was asked for, and let the ``with`` block
    write the configuration that names its new place; the server is away meanwhile.

    case
        What ``orthanc_judge.case`` returned.

    Raises CommandExecutionError if the index cannot be moved; the server goes on as it was.
    """
    if not __salt__["orthanc_move_note.is_asked"](case.name, case.before, case.options):
        yield
        return
    begun = {
        "source": __salt__["orthanc_postgresql.index"](case.before),
        "target": __salt__["orthanc_postgresql.index"](case.options),
        "time": time.time(),
    }
    noted = __salt__["orthanc_move_note.read"](case.name)
    last = noted.get("begun", {})
    is_ours = last.get("target") == begun["target"] and not last.get("served")
    is_ours = is_ours or begun["target"] in noted.get("forgotten", ())
    with __salt__["orthanc_files.failing"]("moving the index"), _aside(
        case.placed["IndexDirectory"], case.account
    ) as aside:
        to = _to_sqlite if begun["target"] == SQLITE else _to_postgresql
        put, service = to(case, aside, is_ours), case.wanted["service"]
        began = time.monotonic()
        with _away(service) as refuse_others:
            __salt__["orthanc_move_note.write"](case.name, begun=begun)
            put()
            refuse_others()
            yield
        if arrived(case.name, service, case.account):
            away = round(time.monotonic() - began, 1)
            log.info("The index is in %s, the server was away for %s s", begun["target"], away)
            __salt__["orthanc_move_note.write"](case.name, away=away, fresh=os.getpid())


@contextlib.contextmanager
def _aside(folder: str, account: dict):
    """Give the path of a folder beside the index, as long as the block lasts."""
    _sweep(folder)
    owner = __salt__["orthanc_host.account"](account["user"])
    if not os.path.isdir(folder):
        os.makedirs(folder, 0o750)
        os.chown(folder, owner.pw_uid, owner.pw_gid)
    with tempfile.TemporaryDirectory(prefix=ASIDE, dir=folder) as aside:
        os.chown(aside, owner.pw_uid, owner.pw_gid)
        yield aside


def _sweep(folder: str) -> None:
    """Remove what a run that was killed left behind."""
    for old in glob.glob(os.path.join(glob.escape(folder), f"{ASIDE}*")):
        shutil.rmtree(old)


def _to_postgresql(case, aside: str, is_ours: bool):
    """See to it that the index can go to PostgreSQL, and return what takes it there."""
    index, account = os.path.join(case.before["IndexDirectory"], "index"), case.account
    section = _reachable(case, aside)
    parameters = __salt__["orthanc_postgresql.parameters_of"](section) or {}
    if __salt__["orthanc_postgresql.is_local"](parameters):
        for folder in filter(os.path.isdir, DATABASES):
            _make_sure_of_room(folder, LARGER * os.path.getsize(index))
    if __salt__["orthanc_index_checks.state"](section, account) is None:
        plugins = [path for path in case.options["Plugins"] if INDEX_PLUGIN in path]
        _make(case, aside, {"PostgreSQL": section, "Plugins": plugins})
    resources, problem = __salt__["orthanc_index_checks.state"](section, account)
    if problem:
        raise CommandExecutionError(problem)
    if resources and not is_ours:
        raise CommandExecutionError(
            f"the database knows {resources} resources already. If they are of an earlier move, let"
            " them go: orthanc.move_index forget=True. Otherwise name another database"
        )

    def put() -> None:
        path = index
        if os.path.exists(f"{index}-wal"):  # it was not stopped well
            path = __salt__["orthanc_index.copy"](index, aside)
        _refuse_news(case, path)
        __salt__["orthanc_index_rows.into_postgresql"](path, section, account)

    return put


def _reachable(case, aside: str) -> dict:
    """Return the section of PostgreSQL with the certificate of a CA that is written later."""
    section = __salt__["orthanc_postgresql.section_of"](case.options)
    parameters = __salt__["orthanc_postgresql.parameters_of"](section) or {}
    texts = case.texts(__salt__["orthanc_layers.pems"](case.name, case.wanted))
    text = texts.get(parameters.get("sslrootcert"))
    if text is None:
        return section
    path = os.path.join(aside, "ca.pem")
    __salt__["orthanc_files.write"](path, text, 0o644)
    query = urllib.parse.urlencode(
        {**parameters, "sslrootcert": path}, quote_via=urllib.parse.quote
    )
    return {**section, "ConnectionUri": f"postgresql://?{query}"}


def _refuse_news(case, path=None) -> None:
    """Raise an error where there is more by now that would be lost."""
    lost = __salt__["orthanc_index_checks.lost"](case.before, case.account, path)
    if lost and not __salt__["orthanc_move_note.read"](case.name).get("lose"):
        raise CommandExecutionError(f"by now there would be lost: {'; '.join(lost)}")


def _to_sqlite(case, aside: str, is_ours: bool):
    """See to it that the index can go to SQLite, and return what takes it there."""
    folder, account = case.placed["IndexDirectory"], case.account
    section = __salt__["orthanc_postgresql.section_of"](case.before)
    path, new = os.path.join(folder, "index"), os.path.join(aside, "index")
    if os.path.exists(path) and not is_ours:
        raise CommandExecutionError(f"there is an index already, {path}; move it away first")
    _, problem = __salt__["orthanc_index_checks.state"](section, account)
    if problem:
        raise CommandExecutionError(problem)
    _make_sure_of_room(folder, __salt__["orthanc_index_checks.size"](section, account))
    _make(case, aside, {"Plugins": []})

    def put() -> None:
        _refuse_news(case)
        __salt__["orthanc_index_rows.into_sqlite"](section, account, new)
        owner = __salt__["orthanc_host.account"](account["user"])
        os.chmod(new, 0o640)
        os.chown(new, owner.pw_uid, owner.pw_gid, follow_symlinks=False)
        for part in __salt__["orthanc_index.parts"](path):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(part)
        os.rename(new, path)
        _sync(folder)

    return put


def _sync(folder: str) -> None:
    """Let what is in a folder outlast a power cut, before another disk names it."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _make_sure_of_room(folder: str, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise CommandExecutionError(
            f"the index may need {needed >> 20} MB in {folder}, where {free >> 20} MB are free;"
            " make room first"
        )


def _make(case, folder: str, options: dict) -> None:
    """Let Orthanc make an empty index: start it once, where nobody reaches it."""
    own = {"StorageDirectory": folder, "IndexDirectory": folder, **options}
    given = __salt__["orthanc_postgresql.environment"](case.account["user"])
    words = __salt__["orthanc_scratch.starter"](case.wanted["command"], case.account)
    running = __salt__["orthanc_scratch.running"]
    try:
        with running(folder, own, case.account["group"], words, given, gently=True):
            pass
    except CommandExecutionError as err:
        raise CommandExecutionError(f"Orthanc does not make an empty index: {err}") from None


@contextlib.contextmanager
def _away(service: str):
    """
    Stop the server as long as the block lasts, and give a function that raises an error if somebody
    has started it since.

    Whatever becomes of this process, another one starts it again then.
    """
    descriptor = os.open(AWAY, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        # It gets the lock when this process has let it go, in one way or the other. It is a unit of
        # its own: who kills a service, or a session, kills all that it has started.
        words = ["flock", AWAY, *_start(service)]
        unit = f"--unit=orthanc-comes-back-{os.getpid()}"
        begin = ["systemd-run", "--quiet", "--collect", unit, *words]
        if __salt__["orthanc_host.ask"](begin) is None:
            subprocess.Popen(words, start_new_session=True, close_fds=True)
        log.info("Stopping the server")
        __salt__["service.stop"](service)
        try:
            if __salt__["service.status"](service):
                raise CommandExecutionError(f"{service} cannot be stopped")
            yield functools.partial(_refuse_others, service, _start_of(service))
        finally:
            __salt__["orthanc_server.restart"](service)
    finally:
        os.close(descriptor)


def _start_of(service: str) -> list:
    """Return what tells one start of the service from the next one; nothing without systemd."""
    return list(filter(None, __salt__["orthanc_host.unit"](service, "InvocationID")))


def _refuse_others(service: str, last: list) -> None:
    """Raise an error if the server was started since its last start: it may have taken images."""
    found = _start_of(service)
    if __salt__["service.status"](service) or found not in ([], last):
        raise CommandExecutionError(
            f"somebody has started {service} while its index was copied, and it may have taken"
            " images since: it goes on with the old index. Call orthanc.move_index again"
        )


def _start(service: str) -> list:
    if salt.utils.systemd.booted(__context__):
        return ["systemctl", "start", service]
    return ["service", service, "start"]


def is_fresh(name):
    """
    Part of the formula. Return whether this run has started the server, on a moved index and with
    the configuration as it is.

    name
        The path of the folder of the configuration.
    """
    started = __salt__["orthanc_move_note.read"](name).get("fresh")
    if started:
        __salt__["orthanc_move_note.write"](name, fresh=None)
    return started == os.getpid()


def arrived(name, service, account):
    """
    Part of the formula. Return whether the server, which was started on a moved index, serves with
    it. From then on the new index is the one that counts: there is no way back to the old one.

    name
        See ``is_fresh``.

    service
        The name of the service.

    account
        A mapping with the names of Orthanc's ``user`` and ``group``.

    Raises CommandExecutionError if the old index cannot be kept.
    """
    begun = __salt__["orthanc_move_note.read"](name).get("begun", {})
    options = __salt__["orthanc_folder.options"](name) if begun else {}
    if not begun or begun.get("served"):
        return False
    if begun["target"] != __salt__["orthanc_postgresql.index"](options):
        return False
    try:
        __salt__["orthanc_server.wait"](service, name)
        if begun["target"] != SQLITE:
            __salt__["orthanc_server.require_postgresql"](name)
    except CommandExecutionError as err:
        log.warning("The server does not serve with the moved index yet: %s", err)
        return False
    __salt__["orthanc_proof.prove"](name, account)
    settle(name)
    return True


def settle(name):
    """
    Part of the formula. Keep the old index of a move, with whose new one the server serves by now,
    so that nobody starts on it.

    name
        See ``is_fresh``.

    Raises CommandExecutionError if it cannot be renamed.
    """
    noted = __salt__["orthanc_move_note.read"](name)
    begun, kept = noted.get("begun", {}), noted.get("kept", [])
    options = __salt__["orthanc_folder.located"](name) if begun else {}
    if not begun or begun.get("served"):
        return
    if begun["target"] != __salt__["orthanc_postgresql.index"](options):
        return  # It went back.
    old = begun["source"]
    _sweep(options["IndexDirectory"])
    if old == SQLITE:
        path = os.path.join(options["IndexDirectory"], "index")
        old = os.path.join(options["IndexDirectory"], KEPT.format(int(begun["time"])))
        with __salt__["orthanc_files.failing"]("keeping the old index"):
            for part in reversed(__salt__["orthanc_index.parts"](path)):
                if os.path.exists(part):
                    os.rename(part, old + part[len(path) :])
    left = [place for place in noted.get("forgotten", ()) if place != begun["target"]]
    noted = {"begun": {**begun, "served": True}, "kept": [*kept, old], "forgotten": left}
    __salt__["orthanc_move_note.write"](name, **noted, asked=None, lose=None)
