"""
The PostgreSQL database of Orthanc: made where it is local, and tried as Orthanc itself will use it.

All of it goes through ``psql``, as the account of the service; see :py:mod:`orthanc_postgresql`.

Salt's own states of PostgreSQL are of no use here: without ``psql`` they are not there at all, so
that ``test=True`` fails on a new host.

https://www.postgresql.org/docs/current/libpq-connect.html
"""

from __future__ import annotations

import contextlib
import json
import os
import re

from salt.exceptions import CommandExecutionError

# The account that owns PostgreSQL's files, and its superuser by peer authentication.
SUPERUSER = "postgres"
# Makes searches with wildcards fast; the plugin wants to have it.
EXTENSION = "pg_trgm"
# What a local database is made of, in this order: how to ask for a part, and how to make it.
PARTS = {
    "role": ("SELECT 1 FROM pg_roles WHERE rolname = :'name'", 'CREATE ROLE :"name" LOGIN'),
    "database": (
        "SELECT 1 FROM pg_database WHERE datname = :'name'",
        # Not every cluster's own template is in UTF-8; the bare one takes any encoding.
        'CREATE DATABASE :"name" OWNER :"owner" ENCODING \'UTF8\' TEMPLATE template0',
    ),
    "extension": (
        "SELECT 1 FROM pg_extension WHERE extname = :'name'",
        'CREATE EXTENSION :"name"',
    ),
}
# The code of PostgreSQL's error where a table is not there.
NO_TABLE = "42P01"
# The folders of images are named after the first two digits of their UUID.
IMAGE_FOLDER = re.compile("[0-9a-f]{2}")
# What the role needs: to make its tables, or to find them made.
USABLE = (
    "SELECT to_regclass('resources') IS NOT NULL"
    " OR coalesce(has_schema_privilege(current_schema(), 'CREATE'), false),"
    " current_setting('server_encoding'),"
    " format('ALTER DATABASE %I OWNER TO %I', current_database(), current_user)"
)
ENCODINGS = ("UTF8", "SQL_ASCII")
# Whether any image is known to the index, or is in the store.
IN_INDEX = "SELECT 1 FROM resources LIMIT 1"
IN_STORE = "SELECT 1 FROM storagearea LIMIT 1"
# How images are taken along to another index.
MOVE = "call `salt-call orthanc.move_index`, which applies the pillar too"
REPLICATE = "see https://orthanc.uclouvain.be/book/users/replication.html"
SQLITE = "SQLite"
# Some of the files that the index knows, the oldest and the newest ones.
FILES = (
    "(SELECT uuid FROM attachedfiles ORDER BY id LIMIT 50) UNION"
    " (SELECT uuid FROM attachedfiles ORDER BY id DESC LIMIT 50)"
)
# The name of a server's socket, and where the library looks for it.
SOCKET = re.compile(r"(?P<folder>/.*)/\.s\.PGSQL\.(?P<port>\d+)")
SOCKETS = "/run/postgresql"
PORT = 5432
# Who may log in how, the first line that fits; and the ways in without a password.
RULES = (
    "SELECT json_agg(r) FROM (SELECT line_number, type, database, user_name, auth_method, options,"
    " current_setting('hba_file') AS file FROM pg_hba_file_rules WHERE error IS NULL) r"
)
WITHOUT_PASSWORD = ("peer", "trust")
# What PostgreSQL says where an account is not let in.
NOT_LET_IN = re.compile("authentication|password|pg_hba")


def advice(options):
    """
    Part of the formula. Return what in the connection to PostgreSQL is advised against, as a list
    of pairs: the path of the value, and a sentence.

    options
        A mapping from option name to value.

    https://www.postgresql.org/docs/current/libpq-ssl.html
    """
    section = __salt__["orthanc_postgresql.section_of"](options)
    parameters = __salt__["orthanc_postgresql.parameters_of"](section) or {}
    # Host may be several, and the folder of a socket as well.
    far = [host for host in parameters.get("host", "").split(",") if host and host[0] != "/"]
    if not far or parameters.get("sslmode") == "verify-full":
        return []
    if all(host == "localhost" or host.startswith("127.") or host == "::1" for host in far):
        return []
    key = __salt__["orthanc_postgresql.key_of"](section)
    path = ["PostgreSQL", key, "sslmode"] if key == "ConnectionUri" else ["PostgreSQL", key]
    servers = _quoted(", ".join(far), options)
    sentence = (
        f"the server behind {servers} is not verified, so whoever stands in between can read the"
        " password and the images; use sslmode=verify-full, with the certificate of its CA"
    )
    return [(path, sentence)]


def tried(options, user, group, texts=None):
    """
    Part of the formula. Try the PostgreSQL database as Orthanc would use it. Return why it could
    not: a list of pairs of an option's path and a sentence with PostgreSQL's own words; None where
    it cannot be tried.

    options
        A mapping from option name to value.

    user, group
        The names of the service's account and of its group.

    texts
        A mapping from path to text, for files that will be written: a certificate among them is
        taken for the one that is there.
    """
    section = __salt__["orthanc_postgresql.section_of"](options)
    if not section:
        return []
    path = ["PostgreSQL", __salt__["orthanc_postgresql.key_of"](section)]
    result = __salt__["orthanc_postgresql.ask"](section, USABLE, user, group, texts)
    if result is None:
        # Before the first run there is no account to try it with, but there are the server's rules.
        remedy = (
            ""
            if __salt__["orthanc_host.account"](user)
            else _not_let_in(__salt__["orthanc_postgresql.parameters_of"](section) or {}, user)
        )
        return [(path, remedy)] if remedy else None
    if result["retcode"]:
        lines = [line.strip() for line in result["stderr"].splitlines() if line.strip()]
        words = re.sub(r"^psql: (error: )?", "", " ".join(lines))
        said = f"PostgreSQL says: {_quoted(words, options)}"
        remedy = _remedy(__salt__["orthanc_postgresql.parameters_of"](section) or {}, words, user)
        sentence = f"the database cannot be used, and Orthanc does not start without it. {said}"
        return [(path, f"{sentence}{remedy}")]
    allowed, encoding, remedy = result["stdout"].strip().split("|", 2)
    found = []
    if allowed != "t":
        found.append((path, f"Orthanc may not make its tables in the database; let it: {remedy}"))
    if encoding not in ENCODINGS:
        sentence = f"the database is encoded in {encoding}, which not every name of a patient fits"
        found.append((path, f"{sentence} in; make one with ENCODING 'UTF8'"))
    return found


def untried(options, user):
    """
    Part of the formula. Return why ``tried`` cannot try the database of the options; None if it
    can.

    options, user
        See ``tried``.
    """
    section = __salt__["orthanc_postgresql.section_of"](options)
    parameters = __salt__["orthanc_postgresql.parameters_of"](section) if section else {}
    if parameters is None:
        return "its ConnectionUri is not written as a URL"
    if "sslpassword" in parameters:
        return "psql takes the passphrase of a key on its command line only, which everybody sees"
    if not __salt__["orthanc_postgresql.program"]("psql"):
        return "there is no psql on this host yet"
    if section and not __salt__["orthanc_host.account"](user):
        return f"there is no account {user} on this host yet, which logs in"
    return None


def left_behind(before, options, user, group, texts=None, name=None):
    """
    Part of the formula. Return why the server would no longer find its images, as a list of pairs
    of an option's path and a sentence: they stay in one index or store while it is told to use
    another one.

    before
        The options that the server has now; a mapping from option name to value.

    options
        The options that it shall have.

    user, group
        The names of the service's account and of its group.

    texts
        See ``tried``.

    name
        The path of the folder of the configuration, beside which it is noted whether an index is
        to be moved along.
    """
    noted = __salt__["orthanc_move_note.judge"](name, before, options) if name else None
    if noted is not None:
        return noted
    old, new = (
        __salt__["orthanc_postgresql.index"](before),
        __salt__["orthanc_postgresql.index"](options),
    )
    stored = [
        bool(__salt__["orthanc_postgresql.section_of"](each).get("EnableStorage"))
        for each in (before, options)
    ]
    if not before or None in (old, new) or (old, stored[0]) == (new, stored[1]):
        return []
    storage = before.get("StorageDirectory", "")
    if stored[0]:
        # A database that does not answer may hold images.
        images = _holds(before, user, group) is not False
        section = __salt__["orthanc_postgresql.section_of"](before)
        place = __salt__["orthanc_postgresql.place_of"](section)
        kept = _quoted(place or "another database", before)
        aside = "rename that database"
    else:
        images, kept, aside = has_images(storage), storage, f"move {storage} aside"
    if not images:
        return []
    if old == new:
        sentence = (
            f"the images are in {kept}, and would not be found elsewhere. Leave it as it is; or, to"
            f" begin anew without them, stop the server and {aside}"
        )
        return [(["PostgreSQL", "EnableStorage"], sentence)]
    is_file = __salt__["orthanc_postgresql.is_sqlite"](options)
    known = False if is_file else _holds(options, user, group, texts)
    # One on another host is asked again when psql is there.
    if known or (known is None and __salt__["orthanc_postgresql.is_far"](options)):
        return []
    along = MOVE if True not in stored and SQLITE in (old, new) else REPLICATE
    old, new = _quoted(old, before), _quoted(new, options)
    sentence = (
        f"the images in {kept} are known to the index of this server, {old}, and not to {new}: they"
        f" would be out of sight. To take them along, {along}; to begin anew without them, stop the"
        f" server and {aside}"
    )
    return [(["PostgreSQL", "EnableIndex"], sentence)]


def has_images(storage):
    """
    Part of the formula. Return whether images lie in a folder.

    storage
        The path of the folder.
    """
    if not isinstance(storage, str) or not os.path.isdir(storage):
        return False
    return any(map(IMAGE_FOLDER.fullmatch, os.listdir(storage)))


def known_images(options, user, group, texts=None, far=False):
    """
    Part of the formula. Return the UUIDs of some files that the index in PostgreSQL knows, the
    oldest and the newest ones; none where it is new, None where the index is elsewhere or does not
    say.

    options
        A mapping from option name to value.

    user, group
        The names of the service's account and of its group. Before there is such an account, a
        database on this host is asked by its superuser.

    texts
        See ``tried``.

    far
        True asks also a database that is not reached by a socket of this host.
    """
    section = __salt__["orthanc_postgresql.section_of"](options)
    parameters = __salt__["orthanc_postgresql.parameters_of"](section)
    # A schema of its own has its tables elsewhere.
    known = section.get("EnableIndex") and __salt__["orthanc_postgresql.index"](options)
    if not known or not parameters or section.get("Schema"):
        return None
    local = __salt__["orthanc_postgresql.is_local"](parameters)
    if not local and not far:
        return None
    result = __salt__["orthanc_postgresql.ask"](section, FILES, user, group, texts)
    if result is None and local and _is_served(parameters.get("port")):
        with contextlib.suppress(CommandExecutionError):
            database = parameters.get("dbname", user)
            return _command(FILES, parameters.get("port"), database).split()
    if result and result["retcode"] == 0:
        return result["stdout"].split()
    return [] if result and NO_TABLE in result["stderr"] else None


def missing(name, owner, port=None):
    """
    Part of the formula. Return what is missing of a local database, as a list of "role …",
    "database …", "extension …"; all of it where no server runs.

    name
        The name of the database.

    owner
        The name of its owner.

    port
        The number of the port of the local server, which its socket is named after; by default
        PostgreSQL's own.

    Raises CommandExecutionError if a server runs that cannot be asked, if it listens elsewhere, or
    if another server of this host has the database.
    """
    parts = _parts(name, owner)
    if not _is_served(port):
        remedy = _elsewhere(port or PORT)
        if remedy:
            raise CommandExecutionError(remedy)
        return [f"{kind} {part}" for kind, part, _ in parts]
    lacking: list = []
    for kind, part, home in parts:
        found = f"database {home}" not in lacking
        if not (found and _command(PARTS[kind][0], port, home, name=part)):
            lacking.append(f"{kind} {part}")
    if f"database {name}" in lacking:
        for other in others(name, port):
            raise CommandExecutionError(
                f"the PostgreSQL server on port {port or PORT} has no database {name}, and another"
                f" one of this host, on port {other}, has, as after an upgrade; set"
                f" orthanc:postgresql:port to {other}, or, to begin anew,"
                " orthanc:postgresql:database to another name"
            )
    return lacking


def others(name, port=None):
    """
    Part of the formula. Return the ports of the other PostgreSQL servers of this host that have a
    database of this name; one that lets nobody in is passed over.

    name, port
        See ``missing``.
    """
    found = []
    for folder, other in _sockets():
        if folder == SOCKETS and other != (port or PORT):
            with contextlib.suppress(CommandExecutionError):
                found += [other] * bool(_command(PARTS["database"][0], other, name=name))
    return found


def make(name, owner, port=None):
    """
    Part of the formula. Make what is missing of a local database, and leave alone what is there.

    name, owner, port
        See ``missing``.

    Returns what was made, as ``missing`` does.

    Raises CommandExecutionError if there is no local server that can be asked, or if it refuses.
    """
    made = missing(name, owner, port)
    for kind, part, home in _parts(name, owner):
        if f"{kind} {part}" in made:
            _command(PARTS[kind][1], port, home, name=part, owner=owner)
    return made


def _parts(name: str, owner: str) -> list:
    """Return kind and name of each part, and the database in which it is asked for and made."""
    return [
        ("role", owner, SUPERUSER),
        ("database", name, SUPERUSER),
        ("extension", EXTENSION, name),
    ]


def _is_served(port) -> bool:
    """Return whether a PostgreSQL server runs on this host."""
    words = ["--port", str(port)] if port else []
    result = __salt__["orthanc_postgresql.run"](
        "pg_isready", ["--quiet", *words], SUPERUSER, SUPERUSER
    )
    return result is not None and result["retcode"] == 0


def _command(statement: str, port, database: str = SUPERUSER, **variables) -> str:
    """Return what a statement gives to PostgreSQL's superuser on this host."""
    parameters = {"dbname": database, **({"port": str(port)} if port else {})}
    words = [f"--variable={name}={value}" for name, value in variables.items()]
    result = __salt__["orthanc_postgresql.psql"](
        parameters, [*words, "--file=-"], SUPERUSER, SUPERUSER, stdin=statement
    )
    if result is None:
        raise CommandExecutionError("there is no psql on this host")
    if result["retcode"]:
        words = result["stderr"].strip() or result["stdout"]
        raise CommandExecutionError(words + _remedy(parameters, words, SUPERUSER, "all"))
    return result["stdout"].strip()


def _quoted(text: str, options: dict) -> str:
    """Return what a sentence quotes without the secrets of the options, such as a mistyped URI."""
    if re.fullmatch(r"postgresql:///\w+", text):
        return text
    return __salt__["orthanc_secrets.scrub"]([text], options)[0]


def _sockets() -> list:
    """Return folder and port of each local server that listens, as its socket tells."""
    found = map(SOCKET.fullmatch, __salt__["orthanc_host.sockets_with_path"]())
    return [(os.path.realpath(match["folder"]), int(match["port"])) for match in found if match]


def _elsewhere(port: int) -> str:
    """Return what to do where no local server listens on a port, and one does elsewhere."""
    found = _sockets()
    here = [str(other) for folder, other in found if folder == SOCKETS]
    if not found or str(port) in here:
        return ""
    if here:
        return (
            f"no PostgreSQL server of this host listens on port {port}, but one on"
            f" {' and '.join(here)}; set orthanc:postgresql:port to {here[0]}"
        )
    folder, other = found[0]
    return (
        f"the PostgreSQL server of this host has its socket in {folder}, where Orthanc does not"
        f" look; add {SOCKETS} to unix_socket_directories in its postgresql.conf and restart it, or"
        f" make the database yourself and set orthanc:postgresql:uri to"
        f" postgresql:///NAME?host={folder}&port={other}"
    )


def _remedy(parameters: dict, words: str, account: str, database: str | None = None) -> str:
    """Return what to do about PostgreSQL's words, of a server on this host."""
    if not __salt__["orthanc_postgresql.is_local"](parameters):
        return ""
    if NOT_LET_IN.search(words):
        line = _line(database or parameters.get("dbname", account), account)
        return (
            f" It is asked by being the account {account}: put the line `{line}` above the others"
            " in pg_hba.conf, then systemctl reload postgresql"
        )
    port = parameters.get("port", "")
    remedy = _elsewhere(int(port) if port.isdigit() else PORT)
    return f" ({remedy})" if remedy else ""


def _line(database: str, role: str) -> str:
    names = [name if re.fullmatch(r"\w+", name) else f'"{name}"' for name in (database, role)]
    return " ".join(["local", *names, "peer"])


def _not_let_in(parameters: dict, account: str) -> str:
    """
    Return what to do where a local server would not let an account in which does not exist yet;
    nothing where it would, or where that cannot be told.
    """
    if not __salt__["orthanc_postgresql.is_local"](parameters) or not _is_served(
        parameters.get("port")
    ):
        return ""
    database = parameters.get("dbname", account)
    rules = json.loads(_command(RULES, parameters.get("port")) or "null") or []
    rule = _first(rules, database, parameters.get("user", account))
    if rule is None or rule["auth_method"] in WITHOUT_PASSWORD:
        return ""
    return (
        f"PostgreSQL does not let in Orthanc by being the account {account}, but wants"
        f" {rule['auth_method']} (line {rule['line_number']} of {rule['file']}); put the line"
        f" `{_line(database, account)}` above it, then systemctl reload postgresql"
    )


def _first(rules: list, database: str, role: str) -> dict | None:
    """Return the first rule for a role at the socket; None where that cannot be told."""
    for rule in rules:
        names = (rule["database"] or [], rule["user_name"] or [])
        fits = [
            {"all", name, *(["sameuser"] if database == role else [])} & set(given)
            for name, given in zip((database, role), names)
        ]
        # Groups, files of names and patterns.
        unknown = any(
            name[:1] in "+@/" or name in ("samerole", "samegroup")
            for part in names
            for name in part
        )
        if rule["type"] != "local":
            continue
        if all(fits):
            return rule
        if unknown:
            return None
    return None


def _holds(options: dict, user: str, group: str, texts: dict | None = None) -> bool | None:
    """Return whether images are known to the database of the options; None if it does not say."""
    section = __salt__["orthanc_postgresql.section_of"](options)
    statement = IN_INDEX if section.get("EnableIndex") else IN_STORE
    result = __salt__["orthanc_postgresql.ask"](section, statement, user, group, texts)
    if result and (result["retcode"] == 0 or NO_TABLE in result["stderr"]):
        return bool(result["stdout"].strip())
    return None
