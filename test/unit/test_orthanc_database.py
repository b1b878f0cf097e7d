"""The connection to PostgreSQL: how it is written, read, and judged."""

import orthanc_database
import orthanc_options
import orthanc_pillar
import orthanc_postgresql
import orthanc_secrets
import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg.conninfo import conninfo_to_dict
from salt.exceptions import CommandExecutionError

TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1)
HOSTS = st.sampled_from(["db", "db.example.org", "192.0.2.1", "2001:db8::1"])
PORTS = st.integers(1, 65534)
SPECIAL = "".join(map(chr, range(32, 127))) + "äß€ ${HOME}"


def uri_of(options_file, keys):
    """Return the URI that the host makes of the pillar's keys."""
    password = {"password": {"__pillar__": ["password"]}} if "password" in keys else {}
    return orthanc_pillar._resolve(options_file.connection_uri({**keys, **password}), keys)


def kept(**values):
    return {name: str(value) for name, value in values.items() if value is not None}


@given(
    st.fixed_dictionaries(
        {"host": HOSTS, "database": TEXTS, "user": TEXTS, "ca": TEXTS, "verify": st.booleans()},
        optional={"password": TEXTS, "port": PORTS},
    )
)
def test_the_uri_says_what_the_pillar_says(options_file, database):
    uri = uri_of(options_file, database)
    tls = {"sslmode": "require"}
    if database["verify"]:
        tls = {"sslmode": "verify-full", "sslrootcert": database["ca"]}
    wanted = kept(
        host=database["host"],
        port=database.get("port"),
        dbname=database["database"],
        user=database["user"],
        password=database.get("password"),
        connect_timeout=10,
        **tls,
    )
    assert conninfo_to_dict(uri) == wanted
    # Orthanc would put an environment variable in its place.
    assert "${" not in uri
    section = {"EnableIndex": True, "ConnectionUri": uri}
    assert orthanc_options.check({"PostgreSQL": section}) == []


def test_of_several_hosts_the_one_that_takes_writes(options_file, load_settings):
    hosts = ["db1.example.org", "2001:db8::1"]
    keys = {"host": hosts, "port": 5433, "database": "x", "user": "u", "verify": True, "ca": "/x"}
    assert conninfo_to_dict(uri_of(options_file, keys)) == {
        **{"host": ",".join(hosts), "port": "5433,5433", "dbname": "x", "user": "u"},
        **{"sslmode": "verify-full", "sslrootcert": "/x", "connect_timeout": "3"},
        **{"target_session_attrs": "read-write", "tcp_user_timeout": "10000"},
    }
    assert load_settings({"postgresql": {"enabled": True, "host": hosts}})[1] == []


@given(TEXTS, st.none() | PORTS)
def test_the_uri_of_a_local_database(options_file, name, port):
    uri = uri_of(options_file, {"database": name, "user": "x", **kept(port=port)})
    assert conninfo_to_dict(uri) == kept(dbname=name, port=port)


@pytest.mark.parametrize(
    "uri",
    [
        "postgresql://",
        "postgres:///orthanc",
        "postgresql:///orthanc?port=5433",
        "postgresql://u@/orthanc",
        "postgresql://u:@db/orthanc",
        "postgresql://u:p%40ss%3A%2F%25@db/orthanc?sslmode=verify-full&sslrootcert=%2Fx%20y",
        "postgresql://db:5433",
        "postgresql://[2001:db8::1]:5433/orthanc",
        "postgresql://[::1]",
        "postgresql://one:1,two,[::1]:3/orthanc?target_session_attrs=read-write",
        "postgresql://%2Frun%2Fpg/orthanc",
        "postgresql:///orthanc?host=/run/pg&password=a%26b&application_name=x%3Dy",
        "postgresql://db/orthanc?ssl=true",
    ],
)
def test_a_uri_is_read_as_the_library_does(uri):
    assert orthanc_postgresql.parameters_of({"ConnectionUri": uri}) == conninfo_to_dict(uri)


@given(TEXTS, TEXTS, TEXTS, PORTS)
def test_any_uri_is_read_as_the_library_does(options_file, name, user, password, port):
    keys = {"host": "db", "port": port, "database": name, "user": user, "password": password}
    uri = uri_of(options_file, {**keys, "ca": SPECIAL, "verify": True})
    assert orthanc_postgresql.parameters_of({"ConnectionUri": uri}) == conninfo_to_dict(uri)


def test_other_forms_are_left_to_the_library():
    assert orthanc_postgresql.parameters_of({"ConnectionUri": "host=db password=x"}) is None
    assert orthanc_postgresql.parameters_of({"ConnectionUri": "postgresql://[::1/x"}) is None
    assert orthanc_postgresql.parameters_of({"ConnectionUri": ["postgresql://x"]}) is None


def test_the_plugins_own_keys():
    assert orthanc_postgresql.parameters_of({"Host": "db", "Database": "x", "Username": "u"}) == {
        **{"host": "db", "port": "5432", "dbname": "x", "user": "u"},
        "sslmode": "disable",
    }
    assert orthanc_postgresql.parameters_of({"EnableSsl": True})["sslmode"] == "require"


@pytest.mark.parametrize(
    ("section", "path"),
    [
        ({"ConnectionUri": "postgresql://db/x?sslmode=require"}, "ConnectionUri:sslmode"),
        ({"ConnectionUri": "postgresql://db/x?sslmode=verify-ca"}, "ConnectionUri:sslmode"),
        ({"ConnectionUri": "postgresql://db,localhost/x"}, "ConnectionUri:sslmode"),
        ({"Host": "db", "EnableSsl": True}, "Host"),
        ({"ConnectionUri": "postgresql://db/x?sslmode=verify-full"}, None),
        ({"ConnectionUri": "postgresql:///x"}, None),
        ({"ConnectionUri": "postgresql:///x?host=/run/pg"}, None),
        ({"ConnectionUri": "postgresql://localhost/x"}, None),
        ({"ConnectionUri": "host=db"}, None),
        ({}, None),
    ],
)
def test_a_server_that_is_not_verified_is_advised_against(section, path):
    options = {"PostgreSQL": {"EnableIndex": True, **section}}
    found = [":".join(where) for where, _ in orthanc_database.advice(options)]
    assert found == ([f"PostgreSQL:{path}"] if path else [])
    options["PostgreSQL"]["EnableIndex"] = False
    assert orthanc_database.advice(options) == []


def rule(database, user, method, kind="local"):
    return {"type": kind, "database": database, "user_name": user, "auth_method": method}


@pytest.mark.parametrize(
    ("rules", "method"),
    [
        ([rule(["all"], ["postgres"], "peer"), rule(["all"], ["all"], "md5")], "md5"),
        ([rule(["all"], ["all"], "md5", "host"), rule(["all"], ["all"], "peer")], "peer"),
        ([rule(["pacs"], ["orthanc"], "peer"), rule(["all"], ["all"], "md5")], "peer"),
        ([rule(["sameuser"], ["all"], "peer"), rule(["all"], ["all"], "md5")], "md5"),
        ([rule(["replication"], ["all"], "peer")], None),
        # Whether these are meant depends on more than the rules.
        ([rule(["all"], ["+staff"], "peer"), rule(["all"], ["all"], "md5")], None),
        ([rule(["/^p"], ["all"], "peer"), rule(["all"], ["all"], "md5")], None),
        ([], None),
    ],
)
def test_the_first_rule_for_a_role(rules, method):
    found = orthanc_database._first(rules, "pacs", "orthanc")
    assert (found["auth_method"] if found else None) == method


@pytest.mark.parametrize(
    ("sockets", "words"),
    [
        ([("/run/postgresql", 5432)], ""),
        ([("/run/postgresql", 5433)], "set orthanc:postgresql:port to 5433"),
        ([("/run/postgresql", 5432), ("/run/postgresql", 5433)], ""),
        ([("/tmp", 5432)], "add /run/postgresql to unix_socket_directories"),
        ([("/tmp", 5432), ("/run/postgresql", 5434)], "set orthanc:postgresql:port to 5434"),
        ([], ""),
    ],
)
def test_a_server_elsewhere_on_the_host_is_named(monkeypatch, sockets, words):
    monkeypatch.setattr(orthanc_database, "_sockets", lambda: sockets)
    found = orthanc_database._elsewhere(5432)
    assert words in found if words else found == ""


def test_a_server_is_dumped_by_the_programs_of_its_own_version(monkeypatch, tmp_path):
    for path in ("15/bin/pg_dump", "15/bin/psql", "17/bin/pg_dump", "9.6/bin/pg_dump"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    monkeypatch.setattr(orthanc_postgresql, "PROGRAMS", (f"{tmp_path}/*/bin",))
    found = {
        release: (orthanc_postgresql.program("pg_dump", release) or "").split("/")[-3]
        for release in (None, 15, 16, 17)
    }
    assert found == {None: "17", 15: "15", 16: "17", 17: "17"}
    assert orthanc_postgresql.program("psql").endswith("15/bin/psql")


@pytest.mark.parametrize("having", [[], [5433], [5433, 5434]])
def test_no_database_is_made_beside_one_of_that_name(monkeypatch, having):
    ports = [5432, 5433, 5434]
    sockets = [("/run/postgresql", port) for port in ports]
    monkeypatch.setattr(orthanc_database, "_sockets", lambda: sockets)
    monkeypatch.setattr(orthanc_database, "_is_served", lambda port: True)

    def ask(statement, port, database="postgres", **variables):
        if port == 5434 and port not in having:
            raise CommandExecutionError("who are you?")
        return "1" if port in having and variables["name"] == "pacs" else ""

    monkeypatch.setattr(orthanc_database, "_command", ask)
    assert orthanc_database.others("pacs") == having
    if not having:
        assert "database pacs" in orthanc_database.missing("pacs", "orthanc")
        return
    with pytest.raises(CommandExecutionError, match="set orthanc:postgresql:port to 5433"):
        orthanc_database.missing("pacs", "orthanc")
    assert "database pacs" not in orthanc_database.missing("pacs", "orthanc", 5433)


def test_the_name_of_a_database_on_this_host_is_no_secret():
    for place, uri, told in (
        ("postgresql:///pacs", "postgresql:///pacs", "postgresql:///pacs"),
        ("postgresql:///u:pass@word", "postgresql:///u:pass@word", "(hidden)"),
        ("of pass", "postgresql://u:pass@db/x", "of (hidden)"),
    ):
        options = {"PostgreSQL": {"ConnectionUri": uri}}
        assert orthanc_database._quoted(place, options) == told


def test_the_password_is_hidden_in_every_form(options_file):
    keys = {"host": "db", "database": "x", "user": "u", "password": "a b/c:d%"}
    uri = uri_of(options_file, {**keys, "verify": False})
    lines = [f"no {uri}", "no a%20b%2Fc%3Ad%25 there", "no a b/c:d% there"]
    hidden = orthanc_secrets.scrub(lines, {"PostgreSQL": {"ConnectionUri": uri}})
    assert hidden == ["no (hidden)", "no (hidden) there", "no (hidden) there"]


HERE = {"PostgreSQL": {"EnableIndex": True, "ConnectionUri": "postgresql:///orthanc"}}
FAR = {"PostgreSQL": {"EnableIndex": True, "ConnectionUri": "postgresql://db/orthanc"}}


def storing(options):
    """The same database, with the images in it too."""
    return {"PostgreSQL": {**options["PostgreSQL"], "EnableStorage": True}}


@pytest.mark.parametrize(
    ("before", "after", "images", "known", "refused"),
    [
        ({}, HERE, True, False, "EnableIndex"),
        ({}, HERE, False, False, None),
        # As where both were restored from a backup.
        ({}, HERE, True, True, None),
        ({}, HERE, True, None, "EnableIndex"),
        # The database on another host is asked again when psql is there.
        ({}, FAR, True, None, None),
        ({}, FAR, True, False, "EnableIndex"),
        (HERE, {}, True, True, "EnableIndex"),
        (HERE, {}, False, True, None),
        (HERE, FAR, True, False, "EnableIndex"),
        (HERE, FAR, True, True, None),
        (HERE, HERE, True, False, None),
        (HERE, storing(HERE), True, True, "EnableStorage"),
        (HERE, storing(HERE), False, True, None),
        (storing(HERE), HERE, False, True, "EnableStorage"),
        (storing(HERE), HERE, False, False, None),
        # It may have images and does not answer.
        (storing(HERE), {}, False, None, "EnableIndex"),
        (storing(HERE), {}, False, True, "EnableIndex"),
        (storing(HERE), {}, False, False, None),
        # What these know is not known here.
        ({"MySQL": {"EnableIndex": True}}, HERE, True, False, None),
    ],
)
def test_images_are_not_left_behind(monkeypatch, tmp_path, before, after, images, known, refused):
    monkeypatch.setattr(orthanc_database, "_holds", lambda *_: known)
    (tmp_path / "index").touch()
    if images:
        (tmp_path / "0a").mkdir()
    storage = {"StorageDirectory": str(tmp_path)}
    found = orthanc_database.left_behind(
        {**before, **storage}, {**after, **storage}, user="root", group="root"
    )
    assert [path for path, _ in found] == ([["PostgreSQL", refused]] if refused else [])


def test_a_host_without_orthanc_leaves_nothing_behind():
    assert orthanc_database.left_behind({}, HERE, user="root", group="root") == []


def test_a_database_that_takes_too_long_is_said_to_do_so(monkeypatch):
    # So Salt answers for a program that it has stopped.
    stopped = {"retcode": 1, "stdout": "Timed out after 60 seconds", "stderr": ""}
    monkeypatch.setattr(orthanc_postgresql, "psql", lambda *_: stopped)
    options = {"PostgreSQL": {"EnableIndex": True, "Host": "db"}}
    ((path, sentence),) = orthanc_database.tried(options, user="root", group="root")
    assert path == ["PostgreSQL", "Host"]
    assert sentence.endswith("PostgreSQL says: it took over 60 s")
