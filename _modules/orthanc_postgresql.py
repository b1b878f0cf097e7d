"""
A connection to PostgreSQL: what the options of Orthanc say of it, and ``psql`` as an account.

``psql`` has the same library, the same certificates, the same peer authentication and the same
environment that Orthanc's plugin has. It is PostgreSQL's own program: what Debian puts before it
looks for a server by itself, on another port than the library's perhaps. A password is handed over
in the environment, which no other account can read; a command line is seen by everybody.

https://www.postgresql.org/docs/current/libpq-connect.html
"""

from __future__ import annotations

import contextlib
import glob
import os
import re
import shlex
import subprocess
import tempfile
import urllib.parse

import salt.utils.files
import salt.utils.path
from salt.exceptions import CommandExecutionError

# For how long psql may take altogether, and for one host. In seconds.
PATIENCE, CONNECT_TIMEOUT = 60, 10
URL = re.compile(
    r"(?s)postgres(?:ql)?://(?:(?P<user>[^:@/]*)(?::(?P<password>[^@/]*))?@)?(?P<hosts>[^/?]*)"
    r"(?:/(?P<dbname>[^?]*))?(?:\?(?P<query>.*))?"
)
HOST = re.compile(r"\[(?P<address>[^\]]*)\](?::(?P<port6>.*))?|(?P<name>[^:[]*)(?::(?P<port>.*))?")
SQLITE = "SQLite"
# How the rows of a table begin in a dump; they end with a line of its own.
COPY = re.compile(r"COPY \S+ \((.*)\) FROM stdin;")
# What a server before version 17 says of what a newer client sets first, and this of that alone.
NEWER, ONE_ERROR = 'parameter "transaction_timeout"', "errors ignored on restore: 1"
# Where the programs of each version of PostgreSQL are, on Debian and on openSUSE.
PROGRAMS = ("/usr/lib/postgresql/*/bin", "/usr/lib/postgresql[0-9]*/bin")
# The plugin's own keys by their names in libpq, for a section without ConnectionUri.
KEYS = {
    "host": "Host",
    "port": "Port",
    "dbname": "Database",
    "user": "Username",
    "password": "Password",
}


def section_of(options):
    """
    Part of the formula. Return the section of PostgreSQL if Orthanc would connect to it, else an
    empty one.

    options
        A mapping from option name to value.
    """
    section = options.get("PostgreSQL")
    if not isinstance(section, dict):
        return {}
    return section if section.get("EnableIndex") or section.get("EnableStorage") else {}


def key_of(section):
    """
    Part of the formula. Return the name of the key that says where the database is.

    section
        What ``section_of`` returned.
    """
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
    section = section_of(options)
    return place_of(section) if section.get("EnableIndex") else SQLITE


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
    return not is_local(parameters_of(section_of(options)) or {})


def place_of(section):
    """
    Part of the formula. Name a database, without who logs in; None where that cannot be told.

    section
        What ``section_of`` returned.
    """
    parameters = parameters_of(section)
    if parameters is None:
        return None
    host, port = parameters.get("host", ""), parameters.get("port") or "5432"
    where = f"{host}:{port}" if host or port != "5432" else ""
    return f"postgresql://{where}/{parameters.get('dbname') or parameters.get('user') or ''}"


def is_local(parameters):
    """
    Part of the formula. Return whether a connection goes to a socket of this host, where the
    library looks itself.

    parameters
        What ``parameters_of`` returned.
    """
    return not parameters.get("host") and "service" not in parameters


def is_far(options):
    """
    Part of the formula. Return whether the database is on another host, as far as can be told.

    options
        A mapping from option name to value.
    """
    host = (parameters_of(section_of(options)) or {}).get("host", "")
    return bool(host) and not host.startswith("/")


def parameters_of(section):
    """
    Part of the formula. Return the parameters of the connection by their names in libpq, a mapping
    of texts; None where the URI has another form.

    section
        What ``section_of`` returned.
    """
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


def ask(section, statement, user, group, texts=None):
    """
    Part of the formula. Return what psql makes of a statement, connected as Orthanc, as
    ``cmd.run_all`` does; None if that cannot be tried.

    section
        What ``section_of`` returned.

    statement
        A statement of SQL.

    user, group
        The names of the service's account and of its group.

    texts
        A mapping from path to text, for files that will be written: a certificate among them is
        taken for the one that is there.
    """
    parameters = parameters_of(section)
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
        return _with_reason(psql(parameters, words, user, group))
    path = salt.utils.files.mkstemp(prefix="orthanc-database-")
    try:
        with salt.utils.files.fopen(path, "w") as file:
            file.write(text)
        os.chown(path, __salt__["orthanc_host.account"](user).pw_uid, -1)
        parameters["sslrootcert"] = path
        result = psql(parameters, words, user, group)
    finally:
        os.unlink(path)
    return _with_reason(result)


def _with_reason(result: dict | None) -> dict | None:
    """Let a psql that was stopped say so where the others say why they failed."""
    if result and result["retcode"] and not result["stderr"].strip():
        return {**result, "stderr": f"it took over {PATIENCE} s"}
    return result


def psql(parameters, words, user, group, stdin=None):
    """
    Part of the formula. Run psql as an account of this host, and return what ``cmd.run_all`` does;
    None where one of the two is missing.

    parameters
        What ``parameters_of`` returned.

    words
        More arguments, a list of texts.

    user, group
        The names of the account and of its group.

    stdin
        What psql reads, a text.
    """
    options = ["--no-psqlrc", "--no-password", "--quiet", "--tuples-only", "--no-align"]
    options += ["--set=ON_ERROR_STOP=1", f"--dbname={_connection(parameters)}"]
    password = parameters.get("password", "")
    return run("psql", [*options, *words], user, group, password=password, stdin=stdin)


def _connection(parameters: dict) -> str:
    """Return parameters as one text, without the password, for a command line."""
    return " ".join(
        "{}='{}'".format(name, re.sub(r"(['\\])", r"\\\1", value))
        for name, value in parameters.items()
        if name != "password"
    )


def dump(section, path, user, group):
    """
    Part of the formula. Write all of the database into a file, in the custom format of
    ``pg_dump`` and not compressed, while it is used.

    section
        What ``section_of`` returned.

    path
        The path of the file, which only root may read.

    user, group
        The names of the service's account and of its group.

    Raises CommandExecutionError with PostgreSQL's own words if that failed.
    """
    words = ["pg_dump", "--format=custom", "--compress=0"]
    with salt.utils.files.fopen(path, "wb") as file:
        os.fchmod(file.fileno(), 0o600)
        said = _stream(words, section, (user, group), stdin=subprocess.DEVNULL, stdout=file)
    if said:
        raise CommandExecutionError(f"the database cannot be dumped. PostgreSQL says: {said}")


def restore(section, path, user, group):
    """
    Part of the formula. Fill an empty database with what ``dump`` wrote.

    section, path, user, group
        See ``dump``.

    Raises CommandExecutionError with PostgreSQL's own words if that failed.
    """
    words = ["pg_restore", "--no-owner", "--no-comments"]
    for more in (["--exit-on-error"], []):
        with salt.utils.files.fopen(path, "rb") as file:
            streams = {"stdin": file, "stdout": subprocess.DEVNULL}
            said = _stream([*words, *more], section, (user, group), **streams)
        # A server that is older than its client: it has taken nothing yet, and may leave this out.
        if NEWER not in said:
            break
    if said and not (NEWER in said and said.endswith(ONE_ERROR)):
        raise CommandExecutionError(f"the database cannot be restored. PostgreSQL says: {said}")


def rows(path, table):
    """
    Part of the formula. Give the rows of a table in what ``dump`` wrote, without a database: each a
    mapping from column to text, as COPY writes it.

    path
        The path of the file.

    table
        The name of the table.

    Raises CommandExecutionError if it cannot be read.
    """
    command, columns = program("pg_restore"), None
    if not command:
        raise CommandExecutionError("there is no pg_restore on this host, of PostgreSQL's clients")
    words = [command, "--data-only", f"--table={table}", "--file=-", path]
    with tempfile.TemporaryFile() as errors, subprocess.Popen(
        words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, cwd="/"
    ) as process:
        for line in process.stdout:
            text = line.decode(errors="replace").rstrip("\n")
            header = COPY.fullmatch(text)
            if columns is None and header:
                columns = [name.strip('"') for name in header[1].split(", ")]
            elif text == "\\.":
                columns = None
            elif columns:
                yield dict(zip(columns, text.split("\t")))
        if process.wait():
            errors.seek(0)
            said = " ".join(errors.read().decode(errors="replace").split())
            raise CommandExecutionError(f"the dump cannot be read. PostgreSQL says: {said}")


def _stream(words: list, section: dict, account: tuple, **streams) -> str:
    """Run a program of PostgreSQL for as long as it takes, and return why it failed, if it did."""
    try:
        with begun(words, section, account, **streams, stderr=subprocess.PIPE) as process:
            said = " ".join(process.communicate()[1].split())
    except CommandExecutionError as err:
        return str(err)
    return (said or "(nothing)") if process.returncode else ""


def begun(words, section, account, **streams):
    """
    Part of the formula. Start a program of PostgreSQL, connected as Orthanc; return the process.

    words
        Its name and arguments, a list of texts.

    section
        What ``section_of`` returned.

    account
        The names of the service's account and of its group, a pair.

    streams
        See ``subprocess.Popen``.

    Raises CommandExecutionError if that cannot be.
    """
    parameters, path = parameters_of(section), program(words[0], _release(section, account))
    if not path:
        raise CommandExecutionError(f"there is no {words[0]} on this host")
    if parameters is None or "sslpassword" in parameters:
        raise CommandExecutionError("its ConnectionUri cannot be given to another program")
    parameters.setdefault("connect_timeout", str(CONNECT_TIMEOUT))
    switch = __salt__["orthanc_host.as_account"](*account)
    return subprocess.Popen(
        [*switch, path, *words[1:], "--no-password", f"--dbname={_connection(parameters)}"],
        **streams,
        encoding="utf-8",
        errors="replace",
        cwd="/",
        env=environment(account[0], parameters.get("password", "")),
    )


def _release(section: dict, account: tuple) -> int | None:
    """
    Return the version of the server, of which its programs are best: those of a newer one write
    what it does not know. A new Debian brings these before the server itself is upgraded.
    """
    result = ask(section, "SHOW server_version_num", *account)
    return int(result["stdout"]) // 10000 if result and result["retcode"] == 0 else None


def run(name, words, user, group, password="", stdin=None):
    """
    Part of the formula. Run a program of PostgreSQL as ``psql`` does.

    name
        The name of the program.

    password
        The password that it logs in with, if there is one.

    words, user, group, stdin
        See ``psql``.
    """
    account = __salt__["orthanc_host.account"](user)
    path = program(name)
    if not account or not path:
        return None
    return __salt__["cmd.run_all"](
        [*__salt__["orthanc_host.as_account"](user, group), path, *words],
        python_shell=False,
        cwd="/",
        env=environment(user, password),
        clean_env=True,
        stdin=stdin,
        timeout=PATIENCE,
        ignore_retcode=True,
        output_loglevel="quiet",
    )


def environment(user, password=""):
    """
    Part of the formula. Return the environment that a program which connects gets of an account.

    user
        The name of the account.

    password
        The password that it logs in with, if there is one.
    """
    found = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
    found["HOME"] = __salt__["orthanc_host.account"](user).pw_dir
    found.update(_environment(user))
    if password:
        found["PGPASSWORD"] = password
    return {**found, "LC_ALL": "C.UTF-8"}


def program(name, release=None):
    """
    Part of the formula. Return the path of a program of PostgreSQL, of its newest version on this
    host; None where there is none.

    name
        The name of the program.

    release
        The number of the version that it is to be of, where that one is there.
    """
    found = [path for folder in PROGRAMS for path in glob.glob(os.path.join(folder, name))]
    numbers = {path: [int(part) for part in re.findall(r"\d+", path)] for path in found}
    of_release = [path for path in found if re.search(rf"\D{release}/bin/", path)]
    return max(of_release or found, key=numbers.get) if found else salt.utils.path.which(name)


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
