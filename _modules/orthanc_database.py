"""
The PostgreSQL database of Orthanc: made where it is local, and tried as Orthanc itself will use it.

All of it goes through ``psql``, as the account of the service: that is the same library, the same
certificates, the same peer authentication and the same environment that Orthanc's plugin has. It is
PostgreSQL's own program: what Debian puts before it looks for a server by itself, on another port
than the library's perhaps. A password is handed over in the environment, which no other account can
read; a command line is seen by everybody.

Salt's own states of PostgreSQL are of no use here: without ``psql`` they are not there at all, so
that ``test=True`` fails on a new host.

https://www.postgresql.org/docs/current/libpq-connect.html
"""

from __future__ import annotations

import contextlib
import glob
import json
import os
import re
import shlex
import urllib.parse

import salt.utils.files
import salt.utils.path
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
# For how long psql may take altogether, and for one host. In seconds.
PATIENCE, CONNECT_TIMEOUT = 60, 10
# The code of PostgreSQL's error where a table is not there.
NO_TABLE = "42P01"
URL = re.compile(
    r"(?s)postgres(?:ql)?://(?:(?P<user>[^:@/]*)(?::(?P<password>[^@/]*))?@)?(?P<hosts>[^/?]*)"
    r"(?:/(?P<dbname>[^?]*))?(?:\?(?P<query>.*))?"
)
HOST = re.compile(r"\[(?P<address>[^\]]*)\](?::(?P<port6>.*))?|(?P<name>[^:[]*)(?::(?P<port>.*))?")
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
SQLITE = "SQLite"
# Whether any image is known to the index, or is in the store.
IN_INDEX = "SELECT 1 FROM resources LIMIT 1"
IN_STORE = "SELECT 1 FROM storagearea LIMIT 1"
# Some of the files that the index knows, the oldest and the newest ones.
FILES = (
    "(SELECT uuid FROM attachedfiles ORDER BY id LIMIT 50) UNION"
    " (SELECT uuid FROM attachedfiles ORDER BY id DESC LIMIT 50)"
)
# Where the programs of each version of PostgreSQL are, on Debian and on openSUSE.
PROGRAMS = ("/usr/lib/postgresql/*/bin", "/usr/lib/postgresql[0-9]*/bin")
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
# The plugin's own keys by their names in libpq, for a section without ConnectionUri.
KEYS = {
    "host": "Host",
    "port": "Port",
    "dbname": "Database",
    "user": "Username",
    "password": "Password",
}


def advice(options):
    """
    Part of the formula. Return what in the connection to PostgreSQL is advised against, as a list
    of pairs: the path of the value, and a sentence.

    options
        A mapping from option name to value.

    https://www.postgresql.org/docs/current/libpq-ssl.html
    """
    section = _section(options)
    parameters = _parameters(section) or {}
    # Host may be several, and the folder of a socket as well.
    far = [host for host in parameters.get("host", "").split(",") if host and host[0] != "/"]
    if not far or parameters.get("sslmode") == "verify-full":
        return []
    if all(host == "localhost" or host.startswith("127.") or host == "::1" for host in far):
        return []
    key = _key(section)
    path = ["PostgreSQL", key, "sslmode"] if key == "ConnectionUri" else ["PostgreSQL", key]
    servers = _quoted(", ".join(far), options)
    sentence = (
        f"the server behind {servers} is not verified, so whoever stands in between can read the"
        " password and the images; use sslmode=verify-full, with the certificate of its CA"
    )
    return [(path, sentence)]


def problems(options, user="orthanc", group="orthanc", texts=None):
    """
    Part of the formula. Return why Orthanc could not use its PostgreSQL database: a list of pairs
    of an option's path and a sentence with PostgreSQL's own words; None where it cannot be tried.

    options
        A mapping from option name to value.

    user, group
        The names of the service's account and of its group.

    texts
        A mapping from path to text, for files that will be written: a certificate among them is
        taken for the one that is there.
    """
    section = _section(options)
    if not section:
        return []
    path = ["PostgreSQL", _key(section)]
    result = _ask(section, USABLE, user, group, texts)
    if result is None:
        # Before the first run there is no account to try it with, but there are the server's rules.
        remedy = (
            ""
            if __salt__["orthanc_host.account"](user)
            else _not_let_in(_parameters(section) or {}, user)
        )
        return [(path, remedy)] if remedy else None
    if result["retcode"]:
        lines = [line.strip() for line in result["stderr"].splitlines() if line.strip()]
        words = re.sub(r"^psql: (error: )?", "", " ".join(lines)) or f"it took over {PATIENCE} s"
        said = f"PostgreSQL says: {_quoted(words, options)}"
        remedy = _remedy(_parameters(section) or {}, words, user)
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


def untried(options, user="orthanc"):
    """
    Part of the formula. Return why ``problems`` cannot try the database of the options; None if it
    can.

    options, user
        See ``problems``.
    """
    section = _section(options)
    parameters = _parameters(section) if section else {}
    if parameters is None:
        return "its ConnectionUri is not written as a URL"
    if "sslpassword" in parameters:
        return "psql takes the passphrase of a key on its command line only, which everybody sees"
    if not _program("psql"):
        return "there is no psql on this host yet"
    if section and not __salt__["orthanc_host.account"](user):
        return f"there is no account {user} on this host yet, which logs in"
    return None


def left_behind(before, options, user="orthanc", group="orthanc", texts=None):
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
        See ``problems``.
    """
    old, new = index(before), index(options)
    stored = [bool(_section(each).get("EnableStorage")) for each in (before, options)]
    if not before or None in (old, new) or (old, stored[0]) == (new, stored[1]):
        return []
    storage = before.get("StorageDirectory", "")
    if stored[0]:
        # A database that does not answer may hold images.
        images = _holds(before, user, group) is not False
        kept = _quoted(_place(_section(before)) or "another database", before)
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
    known = _holds(options, user, group, texts) if new != SQLITE else False
    # One on another host is asked again when psql is there.
    if known or (known is None and _is_far(options)):
        return []
    old, new = _quoted(old, before), _quoted(new, options)
    sentence = (
        f"the images in {kept} are known to the index of this server, {old}, and not to {new}: they"
        f" would be out of sight. To begin anew without them, stop the server and {aside}; to take"
        " them along, see https://orthanc.uclouvain.be/book/users/replication.html"
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


def known_images(options, user="orthanc", group="orthanc", texts=None, far=False):
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
        See ``problems``.

    far
        True asks also a database that is not reached by a socket of this host.
    """
    section = _section(options)
    parameters = _parameters(section)
    # A schema of its own has its tables elsewhere.
    if index(options) in (None, SQLITE) or not parameters or section.get("Schema"):
        return None
    if not _is_local(parameters) and not far:
        return None
    result = _ask(section, FILES, user, group, texts)
    if result is None and _is_local(parameters) and _is_served(parameters.get("port")):
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

    Raises CommandExecutionError if a server runs that cannot be asked, or listens elsewhere.
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
    return lacking


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
    result = _run("pg_isready", ["--quiet", *words], SUPERUSER, SUPERUSER)
    return result is not None and result["retcode"] == 0


def _command(statement: str, port, database: str = SUPERUSER, **variables) -> str:
    """Return what a statement gives to PostgreSQL's superuser on this host."""
    parameters = {"dbname": database, **({"port": str(port)} if port else {})}
    words = [f"--variable={name}={value}" for name, value in variables.items()]
    result = _psql(parameters, [*words, "--file=-"], SUPERUSER, SUPERUSER, stdin=statement)
    if result is None:
        raise CommandExecutionError("there is no psql on this host")
    if result["retcode"]:
        words = result["stderr"].strip() or result["stdout"]
        raise CommandExecutionError(words + _remedy(parameters, words, SUPERUSER, "all"))
    return result["stdout"].strip()


def _quoted(text: str, options: dict) -> str:
    """Return what a sentence quotes without the secrets of the options, such as a mistyped URI."""
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
    if not _is_local(parameters):
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
    if not _is_local(parameters) or not _is_served(parameters.get("port")):
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


def _section(options: dict) -> dict:
    """Return the section of PostgreSQL if Orthanc would connect to it, else an empty one."""
    section = options.get("PostgreSQL")
    if not isinstance(section, dict):
        return {}
    return section if section.get("EnableIndex") or section.get("EnableStorage") else {}


def _key(section: dict) -> str:
    return "ConnectionUri" if section.get("ConnectionUri") else "Host"


def index(options):
    """
    Part of the formula. Name the index that Orthanc uses with the options: "SQLite" or the URI of a
    database, without who logs in; None for one that is not known here.

    options
        A mapping from option name to value.
    """
    others = [options.get(name) for name in ("MySQL", "Odbc", "MongoDB")]
    if any(isinstance(other, dict) and other.get("EnableIndex") for other in others):
        return None
    section = _section(options)
    return _place(section) if section.get("EnableIndex") else SQLITE


def is_sqlite(options):
    """
    Part of the formula. Return whether Orthanc keeps its index in a file.

    options
        A mapping from option name to value.
    """
    return index(options) == SQLITE


def is_elsewhere(options):
    """
    Part of the formula. Return whether Orthanc keeps its index in a database of PostgreSQL that is
    not reached by a socket of this host.

    options
        A mapping from option name to value.
    """
    if index(options) in (None, SQLITE):
        return False
    return not _is_local(_parameters(_section(options)) or {})


def _place(section: dict) -> str | None:
    """Name a database, without who logs in; None where that cannot be told."""
    parameters = _parameters(section)
    if parameters is None:
        return None
    host, port = parameters.get("host", ""), parameters.get("port") or "5432"
    where = f"{host}:{port}" if host or port != "5432" else ""
    return f"postgresql://{where}/{parameters.get('dbname') or parameters.get('user') or ''}"


def _is_local(parameters: dict) -> bool:
    """Return whether a connection goes to a socket of this host, where the library looks itself."""
    return not parameters.get("host") and "service" not in parameters


def _is_far(options: dict) -> bool:
    """Return whether the database is on another host, as far as can be told."""
    host = (_parameters(_section(options)) or {}).get("host", "")
    return bool(host) and not host.startswith("/")


def _holds(options: dict, user: str, group: str, texts: dict | None = None) -> bool | None:
    """Return whether images are known to the database of the options; None if it does not say."""
    section = _section(options)
    statement = IN_INDEX if section.get("EnableIndex") else IN_STORE
    result = _ask(section, statement, user, group, texts)
    if result and (result["retcode"] == 0 or NO_TABLE in result["stderr"]):
        return bool(result["stdout"].strip())
    return None


def _parameters(section: dict) -> dict | None:
    """Return the parameters of the connection by their names in libpq; None for other forms."""
    uri = section.get("ConnectionUri")
    if uri and not isinstance(uri, str):
        return None
    if not uri:
        given = {"Host": "localhost", "Port": 5432, **section}
        found = {name: str(given[key]) for name, key in KEYS.items() if given.get(key)}
        return {**found, "sslmode": "require" if section.get("EnableSsl") else "disable"}
    match = URL.fullmatch(uri)
    if not match:
        return None
    hosts = [HOST.fullmatch(host) for host in match["hosts"].split(",")]
    if not all(hosts):
        return None
    found = {
        **{name: match[name] for name in ("user", "password", "dbname")},
        # Of several hosts, each may have a port of its own.
        "host": ",".join(host["address"] or host["name"] or "" for host in hosts),
        "port": ",".join(host["port6"] or host["port"] or "" for host in hosts),
    }
    pairs = [pair.partition("=") for pair in (match["query"] or "").split("&") if pair]
    found.update({name: value for name, _, value in pairs})
    # As the library does, for the URLs of JDBC.
    if found.pop("ssl", None) == "true":
        found["sslmode"] = "require"
    return {
        urllib.parse.unquote(name): urllib.parse.unquote(value)
        for name, value in found.items()
        if value and value.strip(",")
    }


def _ask(section: dict, statement: str, user: str, group: str, texts: dict | None) -> dict | None:
    """Return what psql makes of a statement, connected as Orthanc; None if that cannot be tried."""
    parameters = _parameters(section)
    words = ["--set=VERBOSITY=verbose", f"--command={statement}"]
    # There is no variable for the password of a key, and it must not be on a command line.
    if (
        parameters is None
        or "sslpassword" in parameters
        or not __salt__["orthanc_host.account"](user)
    ):
        return None
    parameters.setdefault("connect_timeout", str(CONNECT_TIMEOUT))
    text = (texts or {}).get(parameters.get("sslrootcert"))
    if text is None:
        return _psql(parameters, words, user, group)
    path = salt.utils.files.mkstemp(prefix="orthanc-database-")
    try:
        with salt.utils.files.fopen(path, "w") as file:
            file.write(text)
        os.chown(path, __salt__["orthanc_host.account"](user).pw_uid, -1)
        parameters["sslrootcert"] = path
        result = _psql(parameters, words, user, group)
    finally:
        os.unlink(path)
    return result


def _psql(
    parameters: dict, words: list, user: str, group: str, stdin: str | None = None
) -> dict | None:
    """Run psql as an account of this host; None where one of the two is missing."""
    connection = " ".join(
        "{}='{}'".format(name, re.sub(r"(['\\])", r"\\\1", value))
        for name, value in parameters.items()
        if name != "password"
    )
    options = ["--no-psqlrc", "--no-password", "--quiet", "--tuples-only", "--no-align"]
    options += ["--set=ON_ERROR_STOP=1", f"--dbname={connection}"]
    password = parameters.get("password", "")
    return _run("psql", [*options, *words], user, group, password=password, stdin=stdin)


def _run(program: str, words: list, user: str, group: str, password="", stdin=None) -> dict | None:
    """Run a program of PostgreSQL as an account of this host; None if one of the two is missing."""
    account = __salt__["orthanc_host.account"](user)
    path = _program(program)
    if not account or not path:
        return None
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": account.pw_dir}
    if user != SUPERUSER:
        environment.update(_environment(user))
    if password:
        environment["PGPASSWORD"] = password
    return __salt__["cmd.run_all"](
        [*__salt__["orthanc_host.as_account"](user, group), path, *words],
        python_shell=False,
        cwd="/",
        env={**environment, "LC_ALL": "C.UTF-8"},
        clean_env=True,
        stdin=stdin,
        timeout=PATIENCE,
        ignore_retcode=True,
        output_loglevel="quiet",
    )


def _program(name: str) -> str | None:
    """Return the path of a program of PostgreSQL, of its newest version on this host."""
    found = [path for folder in PROGRAMS for path in glob.glob(os.path.join(folder, name))]
    numbers = {path: [int(part) for part in re.findall(r"\d+", path)] for path in found}
    return max(found, key=numbers.get) if found else salt.utils.path.which(name)


def _environment(user: str) -> dict:
    """Return what the library reads of the environment that the service has: PGPORT and so on."""
    pairs = _running(user)
    if pairs is None:
        shown = ["systemctl", "show", "--property", "Environment", "--value", user]
        pairs = []
        if salt.utils.path.which("systemctl"):
            shown = __salt__["cmd.run_stdout"](shown, python_shell=False, ignore_retcode=True)
            with contextlib.suppress(ValueError):
                pairs = shlex.split(shown)
    split = [pair.partition("=") for pair in pairs]
    return {name: value for name, _, value in split if name == "HOME" or name.startswith("PG")}


def _running(user: str) -> list | None:
    """Return the environment of the Orthanc that runs as an account; None if none does."""
    for process in __salt__["orthanc_host.orthancs"]():
        # It may have ended meanwhile, or be none of ours to look at.
        with contextlib.suppress(OSError):
            if os.stat(process).st_uid == __salt__["orthanc_host.account"](user).pw_uid:
                with salt.utils.files.fopen(f"{process}/environ", errors="replace") as file:
                    return file.read().split("\0")
    return None
