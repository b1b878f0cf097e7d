"""
The PostgreSQL database of Orthanc: made where it is local, and tried as Orthanc itself will use it.

All of it goes through ``psql``, as the account of the service: that is the same library, the same
certificates and the same peer authentication that Orthanc's plugin has. A password is handed over
in the environment, which no other account can read; a command line is seen by everybody.

Salt's own states of PostgreSQL are of no use here: without ``psql`` they are not there at all, so
that ``test=True`` fails on a new host.

https://www.postgresql.org/docs/current/libpq-connect.html
"""

from __future__ import annotations

import os
import pwd
import re
import urllib.parse

import salt.utils.files
import salt.utils.path
import salt.utils.platform
from salt.exceptions import CommandExecutionError

__virtualname__ = "orthanc_database"

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
# The plugin's own keys by their names in libpq, for a section without ConnectionUri.
KEYS = {
    "host": "Host",
    "port": "Port",
    "dbname": "Database",
    "user": "Username",
    "password": "Password",
}


def __virtual__():
    if not salt.utils.platform.is_linux():
        return False, "orthanc_database: Orthanc is managed on Linux only"
    return __virtualname__


def advice(options):
    """
    Return what in the connection to PostgreSQL is advised against, as a list of pairs: the path of
    the value, and a sentence.

    options
        A mapping from option name to value.

    https://www.postgresql.org/docs/current/libpq-ssl.html

    CLI Example:

    .. code-block:: bash

        salt '*' orthanc_database.advice '{"PostgreSQL": {"EnableIndex": true, "Host": "db"}}'
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
    Return why Orthanc could not use its PostgreSQL database: a list of pairs of an option's path
    and a sentence with PostgreSQL's own words; None where it cannot be tried.

    options
        A mapping from option name to value.

    user, group
        The names of the service's account and of its group.

    texts
        A mapping from path to text, for files that will be written: a certificate among them is
        taken for the one that is there.

    CLI Example:

    .. code-block:: bash

        salt '*' orthanc_database.problems '{"PostgreSQL": {"EnableIndex": true}}'
    """
    section = _section(options)
    if not section:
        return []
    result = _ask(section, USABLE, user, group, texts)
    if result is None:
        return None
    path = ["PostgreSQL", _key(section)]
    if result["retcode"]:
        lines = [line.strip() for line in result["stderr"].splitlines() if line.strip()]
        words = re.sub(r"^psql: (error: )?", "", " ".join(lines)) or f"it took over {PATIENCE} s"
        said = _quoted(words, options)
        return [(path, f"the database cannot be used. PostgreSQL says: {said}")]
    allowed, encoding, remedy = result["stdout"].strip().split("|", 2)
    found = []
    if allowed != "t":
        found.append((path, f"Orthanc may not make its tables in the database; let it: {remedy}"))
    if encoding not in ENCODINGS:
        sentence = f"the database is encoded in {encoding}, which not every name of a patient fits"
        found.append((path, f"{sentence} in; make one with ENCODING 'UTF8'"))
    return found


def left_behind(before, options, user="orthanc", group="orthanc", texts=None):
    """
    Return why the server would no longer find its images, as a list of pairs of an option's path
    and a sentence: they stay in one index or store while it is told to use another one.

    before
        The options that the server has now; a mapping from option name to value.

    options
        The options that it shall have.

    user, group
        The names of the service's account and of its group.

    texts
        See ``problems``.

    CLI Example:

    .. code-block:: bash

        salt '*' orthanc_database.left_behind '{}' '{"PostgreSQL": {"EnableIndex": true}}'
    """
    old, new = _index(before), _index(options)
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
    Return whether images lie in a folder.

    storage
        The path of the folder.

    CLI Example:

    .. code-block:: bash

        salt '*' orthanc_database.has_images /var/lib/orthanc/db-v6
    """
    if not isinstance(storage, str) or not os.path.isdir(storage):
        return False
    return any(map(IMAGE_FOLDER.fullmatch, os.listdir(storage)))


def missing(name, owner, port=None):
    """
    Return what is missing of a local database, as a list of "role …", "database …", "extension …";
    all of it where no server runs.

    name
        The name of the database.

    owner
        The name of its owner.

    port
        The number of the port of the local server, which its socket is named after; by default
        PostgreSQL's own.

    Raises CommandExecutionError if a server runs that cannot be asked.

    CLI Example:

    .. code-block:: bash

        salt '*' orthanc_database.missing orthanc orthanc
    """
    parts = _parts(name, owner)
    if not _is_served(port):
        return [f"{kind} {part}" for kind, part, _ in parts]
    lacking: list = []
    for kind, part, home in parts:
        found = f"database {home}" not in lacking
        if not (found and _command(PARTS[kind][0], port, home, name=part)):
            lacking.append(f"{kind} {part}")
    return lacking


def make(name, owner, port=None):
    """
    Make what is missing of a local database, and leave alone what is there.

    name, owner, port
        See ``missing``.

    Returns what was made, as ``missing`` does.

    Raises CommandExecutionError if there is no local server that can be asked, or if it refuses.

    CLI Example:

    .. code-block:: bash

        salt '*' orthanc_database.make orthanc orthanc
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
        raise CommandExecutionError(result["stderr"].strip() or result["stdout"])
    return result["stdout"].strip()


def _quoted(text: str, options: dict) -> str:
    """Return what a sentence quotes without the secrets of the options, such as a mistyped URI."""
    return __salt__["orthanc_secrets.scrub"]([text], options)[0]


def _section(options: dict) -> dict:
    """Return the section of PostgreSQL if Orthanc would connect to it, else an empty one."""
    section = options.get("PostgreSQL")
    if not isinstance(section, dict):
        return {}
    return section if section.get("EnableIndex") or section.get("EnableStorage") else {}


def _key(section: dict) -> str:
    return "ConnectionUri" if section.get("ConnectionUri") else "Host"


def _index(options: dict) -> str | None:
    """Name the index that Orthanc uses with the options; None for one that is not known here."""
    others = [options.get(name) for name in ("MySQL", "Odbc")]
    if any(isinstance(other, dict) and other.get("EnableIndex") for other in others):
        return None
    section = _section(options)
    return _place(section) if section.get("EnableIndex") else SQLITE


def _place(section: dict) -> str | None:
    """Name a database, without who logs in; None where that cannot be told."""
    parameters = _parameters(section)
    if parameters is None:
        return None
    host, port = parameters.get("host", ""), parameters.get("port") or "5432"
    where = f"{host}:{port}" if host or port != "5432" else ""
    return f"postgresql://{where}/{parameters.get('dbname') or parameters.get('user') or ''}"


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
    if parameters is None or "sslpassword" in parameters or not _account(user):
        return None
    parameters.setdefault("connect_timeout", str(CONNECT_TIMEOUT))
    text = (texts or {}).get(parameters.get("sslrootcert"))
    if text is None:
        return _psql(parameters, words, user, group)
    path = salt.utils.files.mkstemp(prefix="orthanc-database-")
    try:
        with salt.utils.files.fopen(path, "w") as file:
            file.write(text)
        os.chown(path, _account(user).pw_uid, -1)
        parameters["sslrootcert"] = path
        result = _psql(parameters, words, user, group)
    finally:
        os.unlink(path)
    return result


def _account(user: str) -> pwd.struct_passwd | None:
    """Return an account of this host; None where it is missing, as before the first run."""
    try:
        return pwd.getpwnam(user)
    except KeyError:
        return None


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
    account = _account(user)
    if not account or not salt.utils.path.which(program):
        return None
    return __salt__["cmd.run_all"](
        [
            *("setpriv", "--reuid", user, "--regid", group, "--init-groups", "--"),
            *(program, *words),
        ],
        python_shell=False,
        cwd="/",
        env={
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": account.pw_dir,
            "LC_ALL": "C.UTF-8",
            "PGPASSWORD": password,
        },
        clean_env=True,
        stdin=stdin,
        timeout=PATIENCE,
        ignore_retcode=True,
        output_loglevel="quiet",
    )
