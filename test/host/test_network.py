"""Three sites on three systems, with one master: they find each other over DICOM TLS and HTTPS with
an authority of their own, send images on, and lose none while one of them is away. Their password
is renewed under load; a fourth site joins, and leaves.

``ORTHANC_TEST_OUTAGE=120`` lets a site be away for two minutes.
"""

import collections
import contextlib
import json
import os
import re
import time

import documentation
import pki
import pytest
import testbed
import yaml
from clients import meanwhile
from minion import FORMULA, NAME, Server
from ways import ROOTS, start_master, start_minion

CA = pki.make("Hospital CA", authority=True, rsa_key=True)
# By the minion: the system, and the five lines of pillar in which the site differs.
SITES = {"north-1": "bookworm", "south-1": "trixie", "east-1": "leap", "west-1": "trixie"}
OF_SITE = """\
orthanc:
  dicom: {{aet: {aet}}}
  users:
    anna: {{password: 'only for {name}, of Anna', role: admin}}
{more}"""
ROUTES = """\
  routes:
    ct: {to: south-1, modality: [CT]}
    mr: {to: east-1, modality: [MR]}
"""
PAIR, KEY = "/etc/ssl/pacs/chain.pem", "/etc/ssl/pacs/key.pem"
TLS = {"enabled": True, "certificate": PAIR, "key": KEY}
COMMON = {
    "remote_access": True,
    "https": TLS,
    "ca_source": "salt://hospital-ca.pem",
    "dicom": {"enabled": True, "tls": {**TLS, "trusted_certificates": "salt://hospital-ca.pem"}},
    "dicomweb": {"enabled": True},
}
NETWORK = "/srv/pillar/orthanc/network.sls"
OUTAGE = float(os.environ.get("ORTHANC_TEST_OUTAGE", "6"))


class Network:
    """The sites by their minions, a master, and what is asked of them."""

    def __init__(self, hosts: dict, ca: str) -> None:
        self.hosts, self.ca, self.there = hosts, ca, []
        # The master needs no machine of its own.
        self.master = hosts["north-1"]

    def pillar(self, path: str, text: str) -> None:
        self.master.write(path, text)

    def top(self) -> None:
        """Write the top file of the sites that are there."""
        rows = {f"{id.partition('-')[0]}-*": [f"orthanc.{id}"] for id in self.there}
        top = {"base": {"*": ["orthanc.common", "orthanc.network"], **rows}}
        self.pillar("/srv/pillar/top.sls", yaml.safe_dump(top, sort_keys=False))

    def join(self, id: str, more: str = "") -> None:
        name = id.partition("-")[0]
        text = OF_SITE.format(aet=name.upper(), name=name, more=more)
        self.pillar(f"/srv/pillar/orthanc/{id}.sls", text)
        host, pair = self.hosts[id], CA.sign(f"{id}.example.org", NAME, rsa_key=True)
        host.write(PAIR, pair.chain)
        host.write(KEY, pair.key)
        self.there.append(id)
        self.top()
        for one in self.there:
            names = [f"{self.hosts[other].address} {other}.example.org" for other in self.there]
            text = "\n".join(["127.0.0.1 localhost", *names])
            self.hosts[one].write("/etc/hosts", text + "\n")

    def salt(self, target: str, words: str, check: bool = True) -> str:
        done = self.master.run(f"salt -t 300 '{target}' {words}", check=False, timeout=600)
        assert done.ok or not check, done
        return done.out

    def apply(self, target: str, sites: int = 1) -> str:
        done = self.salt(target, "state.apply orthanc", check=False)
        assert done.count("Failed:     0") == sites, done
        return done

    def ask(self, id: str, method: str, path: str, data=None, who=None):
        who = who or ("anna", f"only for {id.partition('-')[0]}, of Anna")
        data = json.dumps(data) if isinstance(data, dict) else data
        return self.hosts[id].ask(method, path, *who, data=data, remote=True, ca=self.ca)

    def store(self, id: str, file) -> str:
        answer = self.ask(id, "POST", "/instances", f"@{file}")
        assert answer.code == 200, answer
        return answer.json["ID"]

    def has(self, id: str) -> set:
        answer = self.ask(id, "GET", "/instances")
        return set(answer.json) if answer.code == 200 else set()

    def until(self, what, limit: float = 60) -> None:
        end = time.monotonic() + limit
        while not what():
            assert time.monotonic() < end, self.salt("north-1", "orthanc.routes", check=False)
            time.sleep(0.3)


@pytest.fixture(scope="module")
def network(salt_version, tmp_path_factory):
    ca = tmp_path_factory.mktemp("hospital") / "ca.pem"
    ca.write_text(CA.pem)
    with contextlib.ExitStack() as booted:
        hosts = {
            id: booted.enter_context(Server(testbed.deployed(system, salt_version)))
            for id, system in list(SITES.items())[:3]
        }
        network = Network(hosts, str(ca))
        network.booted, network.salt_version = booted, salt_version
        network.master.install_formula(FORMULA)
        network.pillar("/srv/salt/hospital-ca.pem", CA.pem)
        network.pillar("/srv/pillar/orthanc/common.sls", yaml.safe_dump({"orthanc": COMMON}))
        # To the others they talk by DICOM.
        words = {"'*'": "'east-*'", "['north-*', 'south-*']": "['*-1']"}
        documentation.write_files(network.master, "Passwords between sites", **words)
        start_master(network.master, ROOTS)
        for id, host in hosts.items():
            network.join(id, ROUTES if id == "north-1" else "")
            start_minion(network.master, host, id)
        network.salt("*", "saltutil.sync_all")
        network.apply("*", 3)
        network.apply("*", 3)
        yield network


def test_each_site_knows_the_others(network):
    for id in network.there:
        others = sorted({*network.there} - {id})
        assert network.ask(id, "GET", "/modalities").json == others
        assert network.ask(id, "GET", "/peers").json == [one for one in others if one == "east-1"]
        known = network.ask(id, "GET", "/modalities?expand").json
        assert all(one["UseDicomTls"] for one in known.values())
    found = json.loads(network.salt("*", "orthanc.check_network --static --out=json"))
    assert {id: (one["verdict"], len(one["asked"])) for id, one in found.items()} == {
        **{"north-1": ("ok", 3), "south-1": ("ok", 3), "east-1": ("ok", 2)}
    }
    cards = network.master.run("salt-run --out=json mine.get '*' orthanc.card").out
    assert json.loads(cards)["east-1"] == {
        **{"group": "hospital", "role": "archive", "aet": "EAST", "port": 4242, "tls": True},
        **{"host": network.hosts["east-1"].address, "url": "https://east-1.example.org:8042"},
    }
    assert "Anna" not in cards
    assert "changed=" not in network.apply("south-1")
    gather, draw = documentation.section("A picture")[-1][2].splitlines()
    network.master.run(gather)
    network.salt("north-1", draw.partition("salt-call ")[2])
    picture = network.master.read("/tmp/network.dot")
    assert (picture.count("style=bold"), picture.count("style=solid")) == (3, 6), picture
    assert {"route ct", "route mr"} <= {*re.findall(r"route \w+", picture)}
    assert "red" not in picture


def test_what_one_has_is_found_and_fetched_by_the_others(network, image):
    id = network.store("north-1", image(PatientID="FOUND"))
    query = {"Level": "Study", "Query": {"PatientID": "FOUND"}}
    for other in ("south-1", "east-1"):
        found = network.ask(other, "POST", "/modalities/north-1/query", query).json["Path"]
        assert network.ask(other, "GET", f"{found}/answers").json == ["0"]
        asked = {"TargetAet": other.partition("-")[0].upper(), "Synchronous": True}
        moved = network.ask(other, "POST", f"{found}/answers/0/retrieve", asked)
        assert moved.code == 200, moved
        assert id in network.has(other)
    # The account of the sites searches, and fetches nothing.
    user, account = next(
        iter(yaml.safe_load(network.master.read(NETWORK))["orthanc"]["users"].items())
    )
    who = (user, account["password"])
    found = network.ask("north-1", "GET", "/dicom-web/studies?PatientID=FOUND", who=who)
    assert len(found.json) == 1
    study = found.json[0]["0020000D"]["Value"][0]
    for path in (f"/dicom-web/studies/{study}", f"/instances/{id}/file", "/patients"):
        assert network.ask("north-1", "GET", path, who=who).code == 403
    assert network.ask("north-1", "DELETE", f"/instances/{id}", who=who).code == 403


def test_a_site_is_away_under_load_and_all_arrives(network, image):
    """South is sent to over DICOM TLS, and east over HTTPS; the power of south fails."""
    sent = collections.defaultdict(list)

    def load():
        for modality in ("CT", "MR"):
            sent[modality].append(network.store("north-1", image(Modality=modality)))

    south = network.hosts["south-1"]
    with meanwhile(load):
        network.until(lambda: len(sent["CT"]) > 5)
        south.power_off()
        end = time.monotonic() + OUTAGE
        # A minion that is away is known on.
        assert "changed=" not in network.apply("north-1")
        told = json.loads(network.salt("north-1", "orthanc.routes --static --out=json", False))
        health = network.salt("north-1", "orthanc.health", check=False)
        time.sleep(max(0, end - time.monotonic()))
        south.boot()
        south.wait_for_port()
        time.sleep(1)
    assert told["north-1"]["routes"]["ct"]["no answer since"]
    # The queue has them; that is no failure of Orthanc's.
    failed = [
        one
        for one in network.ask("north-1", "GET", "/jobs?expand").json
        if one["State"] == "Failure"
    ]
    assert "jobs have failed" not in health, failed
    assert len(sent["CT"]) > OUTAGE
    network.until(lambda: {*sent["CT"]} <= network.has("south-1"), 120)
    network.until(lambda: {*sent["MR"]} <= network.has("east-1"))
    assert not {*sent["MR"]} & network.has("south-1")
    print(f"{len(sent['CT'])} images of each, south away for {OUTAGE} s")
    start_minion(network.master, south, "south-1")


def test_a_password_is_renewed_and_no_image_refused(network, image):
    """As the documentation has it, in three steps; whoever comes first, all goes on."""
    pillar, sent = yaml.safe_load(network.master.read(NETWORK)), []
    (old,) = users = pillar["orthanc"]["users"]
    east = network.hosts["east-1"]
    east.run("truncate -s 0 /var/log/nginx/access.log")

    def load():
        answer = network.ask("north-1", "POST", "/instances", f"@{image(Modality='MR')}")
        # With other users, Orthanc restarts.
        sent.extend([answer.json["ID"]] if answer.code == 200 else [])
        time.sleep(0.1)

    with meanwhile(load):
        users["hospital-next"] = {"password": "another word of theirs", "role": "peer"}
        network.pillar(NETWORK, yaml.safe_dump(pillar))
        network.apply("east-1")
        pillar["orthanc"]["network"]["accounts"]["east-*"]["username"] = "hospital-next"
        network.pillar(NETWORK, yaml.safe_dump(pillar))
        network.apply("north-1")
        del users[old]
        network.pillar(NETWORK, yaml.safe_dump(pillar))
        network.apply("east-1")
        count = len(sent)
        network.until(lambda: len(sent) > count + 5)
    network.until(lambda: {*sent} <= network.has("east-1"))
    lines = re.findall(
        r'- (\S+) \[.*"POST /instances HTTP/1.." (\d+)', east.read("/var/log/nginx/access.log")
    )
    assert {user for user, code in lines if code == "200"} == {old, "hospital-next"}
    assert "401" not in {code for _, code in lines}


def test_a_fourth_site_joins_and_leaves(network, image):
    west = network.booted.enter_context(
        Server(testbed.deployed(SITES["west-1"], network.salt_version))
    )
    network.hosts["west-1"] = west
    network.join("west-1")
    start_minion(network.master, west, "west-1")
    network.salt("west-1", "saltutil.sync_all")
    network.apply("west-1")
    network.apply("north-1")
    assert network.ask("west-1", "GET", "/modalities").json == ["east-1", "north-1", "south-1"]
    assert network.ask("north-1", "GET", "/modalities").json == ["east-1", "south-1", "west-1"]
    assert "answers:\n        True" in network.salt("west-1", "orthanc.echo north-1")
    id = network.store("west-1", image())
    stored = {"Resources": [id], "Synchronous": True}
    assert network.ask("west-1", "POST", "/modalities/north-1/store", stored).code == 200
    assert id in network.has("north-1")
    # It leaves; and claims to be somebody else.
    left = OF_SITE.format(aet="WEST", name="west", more="  network: {group: ours}\n")
    network.pillar("/srv/pillar/orthanc/west-1.sls", left)
    network.apply("west-1")
    assert network.ask("west-1", "GET", "/modalities").json == []
    forged = "group=hospital role=archive aet=NORTH host=192.0.2.66 port=104"
    network.salt("west-1", f"mine.send orthanc.card mine_function=test.kwarg {forged}")
    told = network.apply("north-1")
    assert "site west-1: its AET NORTH is that of this server" in told
    assert network.ask("north-1", "GET", "/modalities").json == ["east-1", "south-1"]
