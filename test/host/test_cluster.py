"""Two nodes on one database, which fails over, and one folder, behind a balancer, under load."""

from __future__ import annotations

import base64
import collections
import contextlib
import hashlib
import http.client
import itertools
import json
import pathlib
import ssl
import threading
import time

import dicom
import documentation
import pydicom
import pytest
import testbed
from clients import Connection, meanwhile
from database import NAME as DATABASE
from database import PASSWORD, ROLE, Database
from https import CHAIN, KEY, PAIR, ROOT, put
from minion import MINION, NAME, Minion
from pydicom.uid import generate_uid
from ways import ROOTS, start_master, start_minion

MULTIPART = 'multipart/related; type="application/dicom"; boundary=XX'
PART = b"--XX\r\nContent-Type: application/dicom\r\n\r\n%b\r\n--XX--\r\n"
# A study that comes in through all nodes.
ONE = {"PatientID": "One", "StudyInstanceUID": generate_uid(), "SeriesInstanceUID": generate_uid()}
UUIDS = "SELECT uuid FROM attachedfiles ORDER BY uuid"
# A second server of the database, which follows the first one.
STANDBY = "standby.hospital.example"
FOLLOW = f"""
    systemctl stop postgresql@15-main
    rm -rf /var/lib/postgresql/15/main
    PGPASSWORD=replica runuser -u postgres -- pg_basebackup -h {DATABASE} -U replica \\
        -R -X stream -c fast -D /var/lib/postgresql/15/main
    systemctl start postgresql@15-main
"""
TWICE = "SELECT publicid FROM resources GROUP BY publicid HAVING count(*) > 1"


class Node(Minion):
    """A host that has a folder of this machine at /srv/shared, as others do."""

    def __init__(self, layers, name: str, shared: pathlib.Path) -> None:
        super().__init__(layers)
        self.id, self.shared = name, shared

    def boot(self) -> None:
        self.path("/srv/shared").mkdir(parents=True, exist_ok=True)
        testbed.local("mount", "--bind", str(self.shared), str(self.path("/srv/shared")))
        super().boot()

    def __enter__(self) -> Node:
        super().__enter__()
        self.write("/etc/salt/minion", MINION.replace("testhost", self.id))
        self.write("/srv/salt/test-ca.pem", ROOT.pem)
        put(self, PAIR)
        return self

    def mount(self) -> None:
        self.run("mkdir -p /srv/images && mount --bind /srv/shared /srv/images")


class Site:
    """The hosts, what is asked of them, and what they have acknowledged."""

    def __init__(self, user: tuple, databases: list, hosts: list[Node], folder) -> None:
        self.user, self.folder = user, folder
        self.database, self.standby = databases
        *self.nodes, self.balancer = hosts
        self.acknowledged: dict[str, str] = {}
        self.refused: list[str] = []
        self.ways: collections.Counter = collections.Counter()
        self.numbers, self.lock = itertools.count(), threading.Lock()

    def pillar(self, out=(), **more) -> dict:
        anna, password = self.user
        return {
            "users": {anna: {"password": password, "role": "admin"}},
            "remote_access": True,
            "ca_source": "salt://test-ca.pem",
            "https": {"enabled": True, "certificate": CHAIN, "key": KEY},
            "dicom": {"enabled": True, "aet": "HOSPITAL", "check_modality_host": False},
            "dicomweb": {"enabled": True},
            "access_log": True,
            "paths": {"storage": "/srv/images"},
            "postgresql": {
                "enabled": True,
                **{"host": [DATABASE, STANDBY], "database": "images", "user": ROLE},
                **{"password": PASSWORD, "ca_source": "salt://hospital-ca.pem"},
            },
            "cluster": {"nodes": {node.id: node.address for node in self.nodes}},
            "balancer": {"addresses": [self.balancer.address], "name": NAME, "out": list(out)},
            **more,
        }

    def balance(self, *out: str):
        """Apply the balancer, which leaves some nodes out."""
        self.balancer.pillar(**self.pillar(out))
        run = self.balancer.state("orthanc.balancer")
        assert run.ok, str(run)
        return run

    def connect(self, host) -> contextlib.closing:
        context = ssl.create_default_context(cadata=ROOT.pem)
        return contextlib.closing(Connection(host.address, 8042, context, timeout=60))

    def ask(self, connection, method: str, path: str, body=None, headers=()) -> bytes:
        token = base64.b64encode(":".join(self.user).encode()).decode()
        headers = {"Authorization": f"Basic {token}", **dict(headers)}
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        text = answer.read()
        if answer.status != 200:
            raise ValueError(f"{method} {path}: HTTP {answer.status} {text[:200]!r}")
        return text

    def rest(self, file: pathlib.Path) -> None:
        with self.connect(self.balancer) as connection:
            self.ask(connection, "POST", "/instances", file.read_bytes())

    def stow(self, file: pathlib.Path) -> None:
        headers = {"Content-Type": MULTIPART, "Accept": "application/dicom+json"}
        with self.connect(self.balancer) as connection:
            body = PART % file.read_bytes()
            answer = json.loads(self.ask(connection, "POST", "/dicom-web/studies", body, headers))
        if "00081198" in answer:
            raise ValueError(f"STOW: {answer}")

    def c_store(self, file: pathlib.Path) -> None:
        # From another address, which may lead to another node.
        sent = dicom.client(
            *("storescu", self.balancer.address, str(file)), inside=self.balancer.leader
        )
        if not sent.ok:
            raise ValueError(f"C-STORE: {sent}")

    def store(self) -> None:
        """Store an image, until it is acknowledged, as devices do."""
        time.sleep(0.05)
        with self.lock:
            number = next(self.numbers)
            file = dicom.make(self.folder, **(ONE if number % 2 else {}))
        way = (self.rest, self.stow, self.c_store)[number % 3]
        for _ in range(300):
            try:
                way(file)
            except (OSError, ValueError, http.client.HTTPException) as err:
                self.refused.append(f"{way.__name__}: {err!r}")
                time.sleep(0.2)
                continue
            self.ways[way.__name__] += 1
            self.acknowledged[name_of(file)] = digest_of(file.read_bytes())
            return

    def wait_for(self, count: int) -> None:
        """Wait until so many more images were acknowledged."""
        wanted, deadline = len(self.acknowledged) + count, time.monotonic() + 60
        while len(self.acknowledged) < wanted:
            assert time.monotonic() < deadline, self.refused[-3:]
            time.sleep(0.05)


def digest_of(content: bytes) -> str:
    """Return a hash of an image without the header of its file, which each program writes anew."""
    start = 144 + int.from_bytes(content[140:144], "little")
    return hashlib.sha256(content[start:]).hexdigest()


def name_of(file: pathlib.Path) -> str:
    """Return how Orthanc calls an image."""
    tags = pydicom.dcmread(file, stop_before_pixels=True)
    names = (tags.PatientID, tags.StudyInstanceUID, tags.SeriesInstanceUID, tags.SOPInstanceUID)
    text = hashlib.sha1("|".join(names).encode()).hexdigest()
    return "-".join(text[start : start + 8] for start in range(0, 40, 8))


@pytest.fixture(scope="module")
def site(users, salt_version, tmp_path_factory):
    """Two nodes without Orthanc's configuration yet, a database, and a host for the balancer."""
    shared, images = (tmp_path_factory.mktemp(name) for name in ("shared", "images"))
    shared.chmod(0o755)
    deployed = testbed.deployed("trixie", salt_version)
    alone = testbed.root_with_salt("trixie", salt_version)
    with contextlib.ExitStack() as stack:
        database, standby = databases = [stack.enter_context(Database()) for _ in range(2)]
        database.make("images")
        standby.show(database.authority.sign(STANDBY))
        hosts = [
            stack.enter_context(Node(layers, name, shared))
            for layers, name in ((deployed, "node-1"), (alone, "node-2"), (alone, "balancer"))
        ]
        for host in [*hosts, standby]:
            database.introduce(host)
            host.run(f"echo {standby.address} {STANDBY} >> /etc/hosts")
        for host in hosts:
            host.write("/srv/salt/hospital-ca.pem", database.authority.pem)
        site = Site(("anna", users["anna"]["password"]), databases, hosts, images)
        for host in hosts:
            host.pillar(**site.pillar())
        yield site


def apart(run) -> list[str]:
    """Return what a state says of the folder of the images."""
    lines = "\n".join(run.failed.values()).splitlines()
    return [line for line in lines if line.startswith("orthanc:paths:storage: ")]


def test_nodes_share_a_folder_or_are_refused(site):
    first, second = site.nodes
    first.mount()
    run = first.state()
    assert run.ok, str(run)
    assert "mark" in run.changes["orthanc-cluster"]
    second.run("mkdir /srv/images")
    (reason,) = apart(second.state())
    assert "in another folder than /srv/images of this host" in reason
    assert second.pid() == 0
    # Nor is a copy taken for it.
    second.run("cp -a /srv/shared/. /srv/images")
    assert apart(second.state()) == [reason]
    second.run("mv /srv/images /srv/copy")
    second.mount()
    run = second.state()
    assert run.ok, str(run)
    assert "orthanc-cluster" not in run.changes
    run = site.balance()
    assert "orthanc-balancer" in run.changes
    # More than is held in memory.
    site.rest(dicom.make(site.folder, Rows=2048, Columns=2048, PixelData=bytes(2048 * 2048)))
    for node in site.nodes:
        assert node.state(test=True).changes == {}
    assert site.balance().changes == {}


def test_a_node_is_killed_and_all_that_was_acknowledged_is_there(site):
    with meanwhile(site.store, threads=4):
        for node in site.nodes:
            site.wait_for(60)
            node.run("pkill -9 -x Orthanc")
            site.wait_for(60)
            node.wait_for_port(18042)
            # Until then the balancer asks it for nothing.
            time.sleep(2)
    print(f"\n{len(site.acknowledged)} stored, {len(site.refused)} refused: {site.refused[:5]}")
    assert min(site.ways[way] for way in ("rest", "stow", "c_store")) > 20
    # An association that was open on it, of four clients at most. All else another node has got.
    assert len(site.refused) <= 8
    assert all(line.startswith("c_store: ") for line in site.refused)
    same_everywhere(site)


def same_everywhere(site) -> None:
    """See that each node has each image that was acknowledged, once and to the byte."""
    for node in site.nodes:
        with site.connect(node) as connection:
            known = json.loads(site.ask(connection, "GET", "/instances"))
            assert not site.acknowledged.keys() - set(known)
            for name, digest in list(site.acknowledged.items()):
                content = site.ask(connection, "GET", f"/instances/{name}/file")
                assert digest_of(content) == digest
    assert site.database.sql(TWICE, "images") == ""
    uuids = site.database.sql(UUIDS, "images").split()
    assert len(set(uuids)) == len(uuids) >= len(known) > 0


def test_the_address_of_a_client_is_kept(site):
    node = site.nodes[0]
    log = "cat /var/log/orthanc/access-*.log"
    gateway = node.network.gateway
    assert f" {gateway} anna POST /instances allowed" in "".join(n.run(log).out for n in site.nodes)
    # Who is no balancer is not believed.
    with site.connect(node) as connection:
        site.ask(connection, "GET", "/system", headers={"X-Forwarded-For": "203.0.113.9"})
    assert f" {gateway} anna GET /system allowed" in node.run(log).out
    assert "203.0.113.9" not in node.run(log).out
    assert (
        f'{gateway} - anna "POST /instances" 200' in site.balancer.run("journalctl -t balancer").out
    )


def test_the_database_fails_over(site):
    primary, standby = site.database, site.standby
    primary.sql("CREATE ROLE replica REPLICATION LOGIN PASSWORD 'replica'")
    line = "hostssl replication replica 0.0.0.0/0 scram-sha-256"
    primary.run(f"echo '{line}' >> /etc/postgresql/15/main/pg_hba.conf")
    primary.run("systemctl reload postgresql@15-main")
    standby.run(FOLLOW)
    primary.sql("ALTER SYSTEM SET synchronous_standby_names = '*'")
    primary.sql("SELECT pg_reload_conf()")
    deadline = time.monotonic() + 30
    while primary.sql("SELECT sync_state FROM pg_stat_replication") != "sync":
        assert time.monotonic() < deadline
    site.refused.clear()
    with meanwhile(site.store, threads=4):
        site.wait_for(40)
        began = time.monotonic()
        testbed.local("ip", "-n", primary.name, "link", "set", "eth0", "down")
        standby.run("pg_ctlcluster 15 main promote")
        site.wait_for(10)
        away = time.monotonic() - began
        site.wait_for(40)
    print(f"\nstores again after {away:.0f} s, {len(site.refused)} refused: {site.refused[:3]}")
    assert away < 60
    site.database = standby
    same_everywhere(site)


def test_a_rolling_change_fails_nobody(site):
    master, hosts = site.balancer, [*site.nodes, site.balancer]
    start_master(master, ROOTS)
    for host in hosts:
        # It has the formula's modules by now.
        start_minion(master, host, host.id)
    pids = [node.pid() for node in site.nodes]
    command = documentation.section("A change without a moment away")[0][2]
    site.refused.clear()
    with meanwhile(site.store, threads=2):
        # One that is refused ends before it begins.
        master.pillar(**site.pillar(config={"HttpTimeout": "soon"}))
        done = master.run(command, check=False)
        assert not done.ok
        assert "orthanc:config:HttpTimeout" in done.out
        assert [node.pid() for node in site.nodes] == pids
        before, began = len(site.acknowledged), time.monotonic()
        master.pillar(**site.pillar(limit_find=17))
        done = master.run(command, check=False)
        stored, seconds = len(site.acknowledged) - before, time.monotonic() - began
        assert done.ok, str(done)
    print(f"\n{stored} stored in {seconds:.0f} s, refused: {site.refused[:3]}")
    assert stored > 100
    assert site.refused == []
    assert not {node.pid() for node in site.nodes} & {0, *pids}
    for node in site.nodes:
        assert '"LimitFindResults": 17' in node.read("/etc/orthanc/orthanc.json")
    assert " down;" not in master.read("/etc/nginx/orthanc-formula-balancer.conf")
    same_everywhere(site)


def test_a_configuration_that_nginx_does_not_take_is_not_left(site):
    host, path = site.balancer, "/etc/nginx/orthanc-formula-balancer.conf"
    module, before = "/usr/lib/nginx/modules/ngx_stream_module.so", host.read(path)
    host.pillar(**site.pillar(["node-1"]))
    host.run(f"mv $(readlink -f {module}) /srv/module")
    run = host.state("orthanc.balancer")
    host.run(f"mv /srv/module {module}")
    assert "nginx does not take it. It says: " in run.failed["orthanc-balancer"]
    assert host.read(path) == before
    with site.connect(host) as connection:
        site.ask(connection, "GET", "/system")


def test_the_balancer_goes_again(site):
    run = site.balancer.state("orthanc.balancer.clean")
    assert run.ok, str(run)
    assert site.balancer.run("ss -Hltn '( sport = 8042 or sport = 4242 )'").out == ""
    assert site.balancer.run("find / -xdev -name '*formula-balancer*'").out == ""
