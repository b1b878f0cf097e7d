"""The index in PostgreSQL: on the host itself, and on another one that is reached over TLS."""

from __future__ import annotations

import contextlib
import json
import re
import time
import urllib.parse

import documentation
import pki
import pytest
import testbed
from clients import Clients
from database import NAME, OTHER_NAME, OTHER_PORT, PASSWORD, ROLE, Database
from minion import Minion
from ways import NEWEST, OLDEST, WAYS

SYSTEMS = ["bookworm", "trixie", "leap"]
NINE = """
CREATE TABLE attachedfiles(id bigint, uuid text);
INSERT INTO attachedfiles SELECT n, gen_random_uuid() FROM generate_series(1, 9) n;
ALTER TABLE attachedfiles OWNER TO {};
"""
RESTORED = """
CREATE ROLE orthanc LOGIN;
CREATE DATABASE orthanc OWNER orthanc;
\\c orthanc
"""
FILES = (
    "cd /etc && find orthanc orthanc.last-good -printf '%p %u %g %m %T@\\n' | sort;"
    " find /etc/orthanc* /srv/tls -type f -exec sha256sum {} + 2>/dev/null; true"
)
LOCAL = {"enabled": True}
REMOTE = {
    **LOCAL,
    "host": NAME,
    "database": "images",
    "user": ROLE,
    "password": PASSWORD,
    "ca_source": "salt://hospital-ca.pem",
}


class Site:
    """A server with its users, and what is asked of it."""

    def __init__(self, host: Minion, users: dict) -> None:
        self.host, self.users = host, users
        self.anna = ("anna", users["anna"]["password"])

    def settings(self, **postgresql) -> dict:
        return {"users": self.users, "remote_access": True, "postgresql": postgresql}

    def apply(self, **postgresql):
        return self.host.apply(**self.settings(**postgresql))

    def ask(self, path: str):
        return self.host.ask("GET", path, *self.anna).json

    def store(self, file) -> str:
        """Store an image and return its name."""
        answer = self.host.ask("POST", "/instances", *self.anna, data=f"@{file}")
        assert answer.code == 200, str(answer)
        return answer.json["ID"]

    def images(self) -> list[str]:
        """Return the names of the images, each of which can be fetched."""
        deadline = time.monotonic() + 120
        while (answer := self.host.ask("GET", "/instances", *self.anna)).code != 200:
            assert time.monotonic() < deadline, str(answer)
            time.sleep(0.1)
        for name in answer.json:
            assert self.host.ask("GET", f"/instances/{name}/file", *self.anna).body[128:132] == (
                b"DICM"
            )
        return sorted(answer.json)

    def index(self) -> str:
        """Return which plugin has the index, as Orthanc itself says; empty for SQLite."""
        return self.ask("/system")["DatabaseBackendPlugin"] or ""

    def files(self) -> int:
        """Return how many files of images there are."""
        folders = "/var/lib/orthanc/db-v6 /var/lib/orthanc/OrthancStorage"
        return int(
            self.host.run(f"find {folders} -path '*/??/??/*' -type f 2>/dev/null | wc -l").out
        )

    def section(self) -> dict:
        """Return what Orthanc is told of the database, which stands in one file only."""
        path = "/etc/orthanc/postgresql.json"
        assert self.host.run("grep -l ConnectionUri /etc/orthanc/*.json").out.split() == [path]
        assert self.host.run(f"stat -c '%a %U %G' {path}").out.split() == ["640", "root", "orthanc"]
        assert not self.host.run(f"cat {path}", user="nobody", check=False).ok
        return json.loads(self.host.read(path))["PostgreSQL"]

    def refused(self, state: str, words: tuple, tests=(False,), **settings) -> None:
        """Apply settings that must be refused by a state, while the server serves on."""
        host = self.host
        pid, files = host.pid(), host.run(FILES).out
        host.pillar(**settings)
        with Clients(host.address, self.anna) as clients:
            for test in tests:
                run = host.state(test=test)
                for word in words:
                    assert word in run.failed.get(state, ""), str(run)
                for secret in (PASSWORD, urllib.parse.quote(PASSWORD, safe=""), "WrongWord"):
                    assert secret not in run.output
                    assert json.dumps(secret)[1:-1] not in run.output
        assert clients.failed == []
        assert len(clients.answered) > 5
        assert host.pid() == pid
        assert host.run(FILES).out == files


@pytest.fixture(scope="module", params=SYSTEMS)
def local(request, users, salt_version):
    """A server that is pristine at first."""
    with Minion(testbed.root_with_salt(request.param, salt_version)) as host:
        yield Site(host, users)


@pytest.fixture(scope="module")
def database():
    with Database() as host:
        yield host


@pytest.fixture(scope="module", params=SYSTEMS)
def remote(request, users, salt_version, database):
    """A server whose index is in the database of another host, and new."""
    database.sql("DROP DATABASE IF EXISTS images WITH (FORCE)")
    database.make("images")
    with Minion(testbed.root_with_salt(request.param, salt_version)) as host:
        database.introduce(host)
        host.write("/srv/salt/hospital-ca.pem", database.authority.pem)
        host.write("/srv/salt/foreign-ca.pem", pki.make("Foreign CA", authority=True).pem)
        yaml_word = "'{}'".format(PASSWORD.replace("'", "''"))
        documentation.write_files(
            host, "A database on another host", **{"'as special as you like: @/%'": yaml_word}
        )
        if request.param == "bookworm":
            # Restored beforehand, without the images that it knows.
            database.sql(NINE.format(ROLE), "images")
            run = host.state()
            assert "the index knows images whose files are not" in run.failed["orthanc-config"]
            assert database.sql("SELECT to_regclass('resources')", "images") == ""
            database.sql("DROP TABLE attachedfiles", "images")
        run = host.state()
        assert run.ok, str(run)
        site = Site(host, users)
        site.apply(**REMOTE)
        yield site


def test_sqlite_is_not_left_with_the_images_in_it(fresh_minion, users, image, database):
    site = Site(fresh_minion, users)
    fresh_minion.apply(**{**site.settings(), "postgresql": {"enabled": False}})
    site.store(image())
    settings = site.settings(**LOCAL)
    words = ("orthanc:postgresql:enabled", "move /var/lib/orthanc/db-v6 aside", "SQLite")
    site.refused("orthanc-pillar", words, **settings)
    assert not fresh_minion.run("command -v psql", check=False).ok
    # What is elsewhere cannot be asked before psql is there; all else comes later.
    database.introduce(fresh_minion)
    database.make("nothing")
    fresh_minion.write("/srv/salt/hospital-ca.pem", database.authority.pem)
    settings = site.settings(**{**REMOTE, "database": "nothing"})
    state = "orthanc-database-reached"
    site.refused(state, ("orthanc:postgresql:enabled", "SQLite"), **settings)
    settings["postgresql"]["password"] = "WrongWord"
    site.refused(state, ("orthanc:postgresql", "password authentication failed"), **settings)
    assert not fresh_minion.run("dpkg -s orthanc-postgresql", check=False).ok
    # As the sentence says.
    fresh_minion.run("systemctl stop orthanc; mv /var/lib/orthanc/db-v6 /srv/images")
    documentation.write_files(fresh_minion, "PostgreSQL")
    fresh_minion.run("echo '  users: {}' >> /srv/pillar/orthanc.sls")
    run = fresh_minion.state()
    assert run.ok, str(run)
    assert "PostgreSQL" in site.index()
    assert site.images() == []


ON_DEBIAN_12 = pytest.mark.parametrize("local", ["bookworm"], indirect=True, scope="module")


@ON_DEBIAN_12
def test_what_debians_psql_finds_by_itself_is_not_taken_for_orthancs(local):
    """A server on another port, and one that lets its accounts in with passwords only."""
    host, rules = local.host, "/etc/postgresql/15/main/pg_hba.conf"
    settings = local.settings(**LOCAL)
    host.run("apt-get install -y -qq postgresql >/dev/null", timeout=300)
    host.run("sed -i 's/^port = .*/port = 5433/' /etc/postgresql/15/main/postgresql.conf")
    host.run("systemctl restart postgresql@15-main")
    assert host.run("psql -qAtX -c 'SHOW port'", user="postgres").out.strip() == "5433"
    host.pillar(**settings)
    for test in (True, False):
        run = host.state(test=test)
        words = "no PostgreSQL server of this host listens on port 5432, but one on 5433; set"
        assert words in run.failed["orthanc-database"], str(run)
        assert not host.run("id orthanc", check=False).ok
    # As the sentence says; and a database that was restored, without the images that it knows.
    settings["postgresql"]["port"] = 5433
    host.run(
        "psql -qAtX -v ON_ERROR_STOP=1", user="postgres", input=RESTORED + NINE.format("orthanc")
    )
    host.pillar(**settings)
    for test in (True, False):
        comment = host.state(test=test).failed["orthanc-pillar"]
        assert "the index knows images whose files are not in /var/lib/orthanc/db-v6" in comment
        assert "restore them to /var/lib/orthanc/db-v6" in comment
        assert "chown" not in comment
    host.run("psql -qAtX orthanc -c 'DROP TABLE attachedfiles'", user="postgres")
    # Orthanc has no account yet.
    host.run(f"sed -i 's/^local  *all  *all .*/local all all scram-sha-256/' {rules}")
    host.run("systemctl reload postgresql")
    host.pillar(**settings)
    run = host.state()
    comment = run.failed["orthanc-database-reached"]
    assert "wants scram-sha-256" in comment
    assert rules in comment
    assert not host.run("id orthanc", check=False).ok
    line = re.search("`(local .* peer)`", comment).group(1)
    assert line == "local orthanc orthanc peer"
    host.run(f"sed -i '1i {line}' {rules}; systemctl reload postgresql")
    run = host.state()
    assert run.ok, str(run)
    assert "there is no account orthanc" in run.states["orthanc-database-reached"]["comment"]
    assert "PostgreSQL" in local.index()
    # The same with an account, and beside a second server on the library's own port.
    host.run(f"sed -i 1d {rules}; systemctl reload postgresql")
    remaining = {**settings, "users": {"anna": settings["users"]["anna"]}}
    local.refused("orthanc-database-reached", (f"put the line `{line}` above",), **remaining)
    host.run(f"sed -i '1i {line}' {rules}; pg_createcluster --start 15 second >/dev/null")
    host.run("systemctl reload postgresql")
    host.apply(**remaining)
    assert "PostgreSQL" in local.index()
    host.run("systemctl stop orthanc; pg_dropcluster --stop 15 main")


def test_a_database_on_the_host(local, image):
    host = local.host
    host.pillar(**local.settings(**LOCAL))
    before = host.written()
    tried = host.state(test=True)
    assert not tried.failed, str(tried)
    assert tried.changes["orthanc-database"].keys() == {
        *("role orthanc", "database orthanc", "extension pg_trgm")
    }
    # The package managers write down what they were asked.
    written = [
        path for path in host.written() - before if re.search("orthanc|postgres|pgsql", path)
    ]
    # A server that was there before writes its own cache and log.
    assert not [path for path in written if not re.search("pg_internal.init|/pg_wal/", path)]

    run = local.apply(**LOCAL)
    assert run.changes["orthanc-database"] == tried.changes["orthanc-database"]
    assert "PostgreSQL" in local.index()
    assert local.ask("/system")["StorageAreaPlugin"] is None
    stored = [local.store(image())]
    assert local.files() > 0
    known = "psql -qAtX orthanc -c 'SELECT publicid FROM resources WHERE resourcetype = 3'"
    assert host.run(known, user="postgres").out.split() == stored
    extension = "psql -qAtX orthanc -c 'SELECT extname FROM pg_extension'"
    assert "pg_trgm" in host.run(extension, user="postgres").out

    pid, written = host.pid(), host.written()
    assert local.apply(**LOCAL).changes == {}
    assert host.state(test=True).changes == {}
    assert host.pid() == pid
    # The database writes, now and then.
    changed = {path for path in written ^ host.written() if "postgresql" not in path}
    assert not [path for path in changed if "pgsql" not in path]

    assert local.section()["ConnectionUri"].startswith("postgresql:///orthanc")
    assert not host.run("psql orthanc -c 'SELECT 1'", user="nobody", check=False).ok

    host.run("systemctl restart postgresql")
    assert local.images() == stored
    host.run("systemctl restart orthanc")
    host.wait_for_port()
    assert local.images() == stored


def test_images_are_held_against_the_database(local, image):
    name = local.store(image())
    study = local.ask(f"/instances/{name}/study")["ID"]
    uuid = local.ask(f"/instances/{name}/attachments/dicom/info")["Uuid"]
    (path,) = local.host.run(f"find /var/lib/orthanc -name {uuid}").out.split()

    def verified():
        return json.loads(local.host.call("orthanc.verify", "--out=json", check=False).out)["local"]

    assert [verified()[kind] for kind in ("missing", "studies", "orphans")] == [[], [], []]
    local.host.run(f"mv {path} /srv/")
    found = verified()
    assert (found["missing"], found["studies"]) == ([uuid], [study])
    local.host.run(f"mv /srv/{uuid} {path}")
    assert verified()["missing"] == []


def test_both_come_back_after_a_boot(local, image):
    """Orthanc's account in the database is of no use before that is up."""
    stored = sorted([*local.images(), local.store(image())])
    local.host.reboot()
    local.host.wait_for_port()
    assert local.images() == stored
    started = "systemctl show -P {}TimestampMonotonic {}"
    up = int(local.host.run(started.format("ActiveEnter", "postgresql")).out)
    assert 0 < up <= int(local.host.run(started.format("ExecMainStart", "orthanc")).out)
    assert local.apply(**LOCAL).changes == {}


@contextlib.contextmanager
def two_clusters(host):
    """Make a second cluster, and give a function that sets the ports of both."""

    def on_ports(main, new):
        for cluster, port in (("main", main), ("new", new)):
            path = f"/etc/postgresql/17/{cluster}/postgresql.conf"
            host.run(f"sed -i 's/^port = .*/port = {port}/' {path}")
        # By their own names, so that each is waited for.
        units = "postgresql@17-main postgresql@17-new"
        host.run(f"systemctl stop {units} && systemctl start {units}")

    host.run("pg_createcluster 17 new >/dev/null")
    try:
        yield on_ports
    finally:
        on_ports(5432, 5433)
        host.run("pg_dropcluster --stop 17 new")


@pytest.mark.parametrize("local", ["trixie"], indirect=True, scope="module")
def test_a_cluster_that_went_to_another_port_is_found(local):
    """As when somebody makes the new one of an upgrade by hand; Debian 13 has one version only."""
    host, stored, pid = local.host, local.images(), local.host.pid()
    with two_clusters(host) as on_ports:
        on_ports(5433, 5432)
        host.pillar(**local.settings(**LOCAL))
        for test in (True, False):
            comment = host.state(test=test).failed["orthanc-database"]
            assert "on port 5433, has, as after an upgrade" in comment
            assert "set orthanc:postgresql:port to 5433" in comment
        # Orthanc would make its tables there, and know none of its images.
        databases = "psql -p 5432 -qAtXc 'SELECT datname FROM pg_database'"
        assert "orthanc" not in host.run(databases, user="postgres").out.split()
        # Both have it, as where the old one of an upgrade was started again.
        on_ports(5432, 5433)
        assert local.images() == stored
        assert not local.apply(**LOCAL).states["orthanc-database"].get("warnings")
        host.run("createdb -p 5433 orthanc", user="postgres")
        run = local.apply(**LOCAL)
        assert run.changes == {}
        (warning,) = run.states["orthanc-database"]["warnings"]
        assert "on port 5433 has a database orthanc too" in warning
        assert (local.images(), host.pid()) == (stored, pid)


def test_images_are_never_left_out_of_sight(local, image):
    stored = local.images()
    assert stored
    for settings, state in (
        ({"enabled": False}, "orthanc-pillar"),
        ({**LOCAL, "storage": True}, "orthanc-pillar"),
        ({**LOCAL, "database": "another"}, "orthanc-pillar"),
    ):
        local.refused(state, ("images", "move /var/lib/orthanc/"), **local.settings(**settings))
    assert local.images() == stored


def test_images_that_are_gone_are_missed(local, image):
    """All of them suddenly, and then most of them."""
    for _ in range(3):
        local.store(image())
    stored = local.images()
    local.apply(**LOCAL)
    folders = "ls -d /var/lib/orthanc/db-v6/?? /var/lib/orthanc/OrthancStorage/?? 2>/dev/null"
    storage = local.host.run(f"dirname $({folders}) | head -1").out.strip()
    local.host.run(f"mkdir -p /srv/aside; mv {storage}/?? /srv/aside")
    words = (f"the index knows images whose files are not in {storage}, such as", "restore them")
    local.refused("orthanc-pillar", words, (True, False), **local.settings(**LOCAL))
    # With what is left, it serves.
    local.host.run(f"cd /srv/aside; mv $(ls -d ?? | head -1) {storage}")
    run = local.apply(**LOCAL)
    assert words[0] in str(run.states["orthanc-pillar"]["warnings"])
    assert run.changes == {}
    local.host.run(f"mv /srv/aside/?? {storage}")
    run = local.apply(**LOCAL)
    assert words[0] not in str(run.states["orthanc-pillar"].get("warnings"))
    assert local.images() == stored


def test_the_database_stays_when_orthanc_goes(local):
    stored = local.images()
    cleaned = local.host.state("orthanc.clean")
    assert cleaned.ok, str(cleaned)
    assert local.host.pid() == 0
    assert local.host.run("systemctl is-active postgresql").out.strip() == "active"
    local.apply(**LOCAL)
    assert local.images() == stored


def test_the_images_in_the_database_too(local, image):
    for name in local.images():
        assert local.host.ask("DELETE", f"/instances/{name}", *local.anna).code == 200
    settings = {**LOCAL, "storage": True}
    local.apply(**settings)
    assert "PostgreSQL" in local.ask("/system")["StorageAreaPlugin"]
    stored = [local.store(image())]
    assert local.files() == 0
    local.host.reboot()
    local.host.wait_for_port()
    assert local.images() == stored
    assert local.apply(**settings).changes == {}
    local.refused("orthanc-pillar", ("rename that database",), **local.settings(**LOCAL))
    assert local.images() == stored


@pytest.mark.parametrize("remote", ["bookworm"], indirect=True, scope="module")
def test_a_role_that_may_not_make_tables_is_refused(remote, database):
    """As long as there are no images: with them, an empty database is refused before."""
    database.sql("CREATE DATABASE foreign_one")
    settings = remote.settings(**{**REMOTE, "database": "foreign_one"})
    remote.refused(
        "orthanc-database-reached", ("ALTER DATABASE foreign_one OWNER TO pacs",), **settings
    )


def test_a_database_on_another_host(remote, database, image):
    assert "PostgreSQL" in remote.index()
    stored = [remote.store(image())]
    assert (
        database.sql("SELECT publicid FROM resources WHERE resourcetype = 3", "images")
        == (stored[0])
    )
    connections = "FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE usename = '{}'"
    assert database.sql(f"SELECT DISTINCT ssl {connections.format(ROLE)}") == "t"
    # It is the CA that Orthanc itself verifies with, and nobody else writes it.
    ca = "/etc/orthanc/orthanc-formula-postgresql-ca.pem"
    assert remote.host.run(f"stat -c '%a %U %G' {ca}").out.split() == ["640", "root", "orthanc"]
    assert remote.host.read(ca) == database.authority.pem
    section = remote.section()
    assert NAME in section["ConnectionUri"]
    assert section["MaximumConnectionRetries"] == 10
    assert section["ConnectionRetryInterval"] == 4
    # On openSUSE the plugin's package brings a server along, which does not run.
    assert not remote.host.run("dpkg -s postgresql", check=False).ok
    assert not remote.host.run("pgrep -x postgres", check=False).ok

    pid, written = remote.host.pid(), remote.host.written()
    assert remote.apply(**REMOTE).changes == {}
    assert remote.host.pid() == pid
    assert remote.host.written() == written

    database.run("systemctl restart postgresql@15-main")
    assert remote.images() == stored
    remote.host.reboot()
    database.introduce(remote.host)
    remote.host.wait_for_port()
    assert remote.images() == stored


def test_orthanc_waits_for_a_database_that_comes_later(remote, database):
    host, stored = remote.host, remote.images()
    database.run("systemctl stop postgresql@15-main")
    host.run("systemctl stop orthanc; systemctl start --no-block orthanc")
    # In this time it has tried more than once.
    time.sleep(6)
    waiting = host.pid()
    assert waiting
    assert host.ask("GET", "/system").code == 0
    database.run("systemctl start postgresql@15-main")
    assert remote.images() == stored
    assert host.pid() == waiting
    assert host.run("systemctl show -P NRestarts orthanc").out.strip() == "0"


@pytest.mark.parametrize("remote", ["trixie"], indirect=True, scope="module")
def test_backups_of_a_database_on_another_host(remote, database, image):
    """What its administrator has to allow is said, and what is done by hand there is refused."""
    host, file = remote.host, image()
    study = remote.ask(f"/instances/{remote.store(file)}/study")["ID"]
    host.pillar(**remote.settings(**REMOTE), backup={"repository": "/srv/backup"})
    assert host.state().ok
    host.call("orthanc.backup")
    refused = host.call("orthanc.drill", check=False)
    assert "ALTER ROLE" in refused.out + refused.err, refused
    database.sql(f"ALTER ROLE {ROLE} CREATEDB")
    host.call("orthanc.drill")
    database.sql(f"ALTER ROLE {ROLE} NOCREATEDB")
    assert database.sql("SELECT 1 FROM pg_database WHERE datname = 'orthanc_drill'") == ""
    stored = remote.images()
    refused = host.call("orthanc.restore", "overwrite=True", check=False)
    assert "the database is on another host" in refused.out + refused.err, refused
    assert remote.images() == stored
    host.call("orthanc.restore", "target=/srv/study", f"study={study}")
    (path,) = host.path("/srv/study").iterdir()
    assert path.read_bytes() == file.read_bytes()
    assert not host.path("/var/lib/orthanc/db-v6/.orthanc-restore").exists()
    remote.apply(**REMOTE)


def test_a_wrong_name_and_a_missing_database_are_refused(remote):
    for change, words in (
        ({"host": OTHER_NAME}, ("does not match host name", OTHER_NAME)),
        ({"database": "missing"}, ('database "missing" does not exist',)),
    ):
        settings = remote.settings(**{**REMOTE, **change})
        remote.refused("orthanc-database-reached", ("orthanc:postgresql", *words), **settings)


@pytest.mark.parametrize("remote", ["bookworm"], indirect=True, scope="module")
@pytest.mark.parametrize(
    ("change", "state", "words"),
    [
        ({"password": "WrongWord"}, "database-reached", ["password authentication failed"]),
        ({"ca_source": "salt://foreign-ca.pem"}, "database-reached", ["certificate verify failed"]),
        ({"port": 5999}, "database-reached", ["port 5999", "Connection refused"]),
        ({"host": "UNUSED"}, "database-reached", ["port 5432", "No route to host"]),
        ({"host": "nowhere.example"}, "database-reached", ["nowhere.example"]),
        # The CA of the hospital is not one of those that the host trusts.
        ({"ca_source": None}, "database-reached", ["certificate verify failed"]),
        ({"ca_source": None, "ca": "/srv/none.pem"}, "database-reached", ["/srv/none.pem"]),
        (
            {"ca_source": "salt://none.pem"},
            "pillar",
            ["orthanc:postgresql:ca_source: there is no salt://none.pem"],
        ),
        ({"enabled": False}, "pillar", ["orthanc:postgresql", "move /var/lib/orthanc/db-v6 aside"]),
    ],
)
def test_what_does_not_work_is_refused_while_the_old_server_serves(
    remote, database, change, state, words
):
    settings = {key: value for key, value in {**REMOTE, **change}.items() if value is not None}
    if settings["host"] == "UNUSED":
        settings["host"] = str(remote.host.network.net[-2])
    remote.refused(
        f"orthanc-{state}", ("orthanc:postgresql", *words), **remote.settings(**settings)
    )


@pytest.mark.parametrize("remote", ["bookworm"], indirect=True, scope="module")
def test_another_database_must_know_the_images(remote, database):
    stored = remote.images()
    assert stored
    database.make("empty")
    settings = {**REMOTE, "database": "empty"}
    remote.refused("orthanc-pillar", ("out of sight",), **remote.settings(**settings))
    database.run("pg_dump images | psql -qX empty", user="postgres")
    remote.apply(**settings)
    assert remote.images() == stored
    remote.apply(**REMOTE)


def test_a_server_that_is_not_verified_is_warned_about(remote, database):
    """And is reached on another port, behind which the server sees its own address."""
    settings = {**REMOTE, "host": OTHER_NAME, "port": OTHER_PORT, "verify": False}
    del settings["ca_source"]
    run = remote.apply(**settings)
    (warning,) = [line for line in run.states["orthanc-pillar"]["warnings"] if "postgresql" in line]
    assert warning.startswith("orthanc:postgresql:verify: the server behind other.hospital.example")
    assert "PostgreSQL" in remote.index()
    seen = f"SELECT DISTINCT client_addr FROM pg_stat_activity WHERE usename = '{ROLE}'"
    assert database.sql(seen) == "127.0.0.1"
    run = remote.apply(**REMOTE)
    assert database.sql(seen) == remote.host.address
    assert "postgresql" not in str(run.states["orthanc-pillar"].get("warnings"))


def test_the_certificate_lies_where_the_pillar_says(remote, database):
    """And goes back with everything else where Orthanc does not serve with what is new."""
    pem = database.authority.pem
    remote.host.write("/srv/hospital.pem", f"Subject: the CA\n{pem}")
    settings = {**REMOTE, "ca": "/srv/tls/database.pem"}
    remote.apply(**{**settings, "ca_source": "/srv/hospital.pem"})
    assert remote.host.read("/srv/tls/database.pem") == pem
    assert "orthanc-formula-postgresql-ca.pem" not in remote.host.run("ls /etc/orthanc").out
    assert remote.apply(**{**settings, "ca_source": pem}).changes == {}
    foreign = {**settings, "ca_source": pki.make("Foreign CA", authority=True).pem}
    remote.refused(
        "orthanc-database-reached", ("certificate verify failed",), **remote.settings(**foreign)
    )
    # A certificate more, and a script that only the start shows to be wrong.
    remote.host.write("/srv/wrong.lua", "function (")
    more = {**settings, "ca_source": pem + pki.make("Another CA", authority=True).pem}
    remote.host.pillar(
        **remote.settings(**more), preflight=False, config={"LuaScripts": ["/srv/wrong.lua"]}
    )
    run = remote.host.state()
    assert "The last good configuration is back" in run.failed["orthanc-serving"], str(run)
    assert remote.host.read("/srv/tls/database.pem") == pem
    assert "PostgreSQL" in remote.index()
    remote.host.pillar(**remote.settings(**settings))
    cleaned = remote.host.state("orthanc.config.clean")
    assert cleaned.ok, str(cleaned)
    assert not remote.host.path("/srv/tls/database.pem").exists()
    remote.apply(**REMOTE)


def test_a_file_of_the_administrators_and_a_certificate_that_signed_itself(remote, database):
    """The one stays as it is, and the other is its own authority."""
    own = "/srv/own.pem"
    remote.host.write(own, f"Subject: the CA\n{database.authority.pem}")
    before = remote.host.run(f"stat -c '%a %U %i %y' {own}; sha256sum {own}").out
    settings = {**REMOTE, "ca": own}
    del settings["ca_source"]
    remote.apply(**settings)
    assert "PostgreSQL" in remote.index()
    assert own in urllib.parse.unquote(remote.section()["ConnectionUri"])
    assert remote.host.state().changes == {}
    pair = pki.make(NAME)
    database.show(pair)
    remote.refused(
        "orthanc-database-reached", ("certificate verify failed",), **remote.settings(**settings)
    )
    remote.apply(**{**REMOTE, "ca_source": pair.pem})
    assert "PostgreSQL" in remote.index()
    database.show(database.authority.sign(NAME))
    remote.apply(**REMOTE)
    assert remote.host.run(f"stat -c '%a %U %i %y' {own}; sha256sum {own}").out == before


def test_sqlite_in_spite_of_it_is_a_failure(remote):
    """As where the plugin is not the one that it is taken for."""
    plugins = "/usr/share/orthanc/plugins"
    remote.host.run(
        f"mkdir -p /srv/plugins && cp -L {plugins}/libServeFolders.so"
        " /srv/plugins/libOrthancPostgreSQLIndex.so"
    )
    settings = remote.settings(**REMOTE)
    remote.host.pillar(**settings, paths={"plugins": "/srv/plugins"})
    run = remote.host.state()
    comment = run.failed["orthanc-serving"]
    assert "keeps its index in SQLite and not in PostgreSQL" in comment, str(run)
    assert "/srv/plugins" in comment
    assert "The last good configuration is back" in comment
    assert "PostgreSQL" in remote.index()
    remote.apply(**REMOTE)


def test_a_uri_is_taken_as_it_is(remote, database):
    stored = remote.images()
    word = urllib.parse.quote(PASSWORD, safe="")
    settings = {
        **LOCAL,
        "uri": f"postgresql://{ROLE}:{word}@{NAME}/images?sslmode=verify-full"
        "&sslrootcert=%2Fetc%2Forthanc%2Forthanc-formula-postgresql-ca.pem",
        "ca_source": "salt://hospital-ca.pem",
    }
    remote.apply(**settings)
    assert remote.images() == stored
    wrong = {**settings, "uri": settings["uri"].replace(word, "WrongWord")}
    refusal = ("orthanc:postgresql:uri", "password authentication failed")
    remote.refused("orthanc-database-reached", refusal, **remote.settings(**wrong))
    remote.apply(**REMOTE)


@pytest.mark.parametrize("remote", ["bookworm"], indirect=True, scope="module")
def test_a_password_is_on_no_command_line(remote):
    """Whoever has an account on the host sees all command lines."""
    remote.host.write("/srv/words", "^_`abc\n%5E_%60abc\n")
    remote.host.write(
        "/srv/look",
        "while :; do cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' '\\n'"
        " | grep -aF -f /srv/words; done > /srv/seen",
    )
    remote.host.run("systemd-run -q --unit look sh /srv/look")
    remote.apply(**{**REMOTE, "port": 5432})
    remote.host.run("systemctl stop look")
    assert remote.host.read("/srv/seen") == ""
    remote.apply(**REMOTE)


@pytest.mark.parametrize(("way", "salt"), [("salt-ssh", OLDEST), ("master", NEWEST)])
def test_each_way(way, salt, users, database):
    """First a database on the host, then one elsewhere with a certificate of Salt's."""
    name = f"of_{way.replace('-', '_')}"
    database.make(name)
    with WAYS[way]("bookworm", salt) as site:
        database.introduce(site.target)
        site.leader.write("/srv/salt/hospital-ca.pem", database.authority.pem)
        for settings in (LOCAL, {**REMOTE, "database": name}):
            site.pillar(users=users, postgresql=settings)
            tried = site.state(test=True)
            assert not tried.failed, str(tried)
            run = site.state()
            assert run.ok, str(run)
            answer = site.target.ask("GET", "/system", "anna", users["anna"]["password"])
            assert "PostgreSQL" in answer.json["DatabaseBackendPlugin"]
            assert site.state().changes == {}
        logs = "cat /var/log/salt/* 2>/dev/null; true"
        logged = "".join(host.run(logs).out for host in (site.leader, site.target))
        assert "[INFO" in logged
        shown = "".join([*site.shown.values(), logged])
        assert PASSWORD not in shown
        assert urllib.parse.quote(PASSWORD, safe="") not in shown
