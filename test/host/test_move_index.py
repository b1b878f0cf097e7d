"""The index moves to PostgreSQL and back; who kills a move does not end the server."""

from __future__ import annotations

import json
import shlex
import shutil

import pytest
import testbed
from database import NAME, PASSWORD, ROLE, Database
from minion import Minion

FOLDERS = "/var/lib/orthanc/db-v6 /var/lib/orthanc/OrthancStorage"
STORED = f"find {FOLDERS} -type f -path '*/??/*' 2>/dev/null | sort"
# Everything that Orthanc shows, asked on the host itself; the state of being stable is in memory.
SNAPSHOT = """
import base64, hashlib, json, urllib.error, urllib.request
TOKEN = base64.b64encode(b"anna:Anna's password").decode()
def ask(path, raw=False):
    request = urllib.request.Request(f"http://127.0.0.1:8042{path}")
    request.add_header("Authorization", f"Basic {TOKEN}")
    try:
        with urllib.request.urlopen(request) as answer:
            body = answer.read()
    except urllib.error.HTTPError as err:
        return err.code
    return hashlib.md5(body).hexdigest() if raw else json.loads(body)
found = {path: ask(path) for path in ("/changes?limit=9999", "/exports?limit=9999", "/statistics")}
for level in ("patients", "studies", "series", "instances"):
    found[level] = sorted(ask(f"/{level}"))
    for name in found[level]:
        place = f"/{level}/{name}"
        found[place] = {k: v for k, v in ask(place).items() if k != "IsStable"}
        for part in ("metadata?expand", "labels"):
            found[f"{place}/{part}"] = ask(f"{place}/{part}")
        if level == "patients":
            found[f"{place}/protected"] = ask(f"{place}/protected")
        if level == "instances":
            found[f"{place}/file"] = ask(f"{place}/file", raw=True)
        found[f"{place}/attachments"] = ask(f"{place}/attachments")
        for attached in found[f"{place}/attachments"]:
            where = f"{place}/attachments/{attached}"
            found[where] = [ask(f"{where}/info"), ask(f"{where}/data", raw=True)]
for value in found.values():
    if isinstance(value, list):
        value.sort(key=str)
print(json.dumps(found))
"""
# A move in which something happens before the first event with some words in it: it kills itself,
# or a command is run.
STOPPED_AT = """
import os, signal, subprocess, sys
import salt.client, salt.config
left = [sys.argv[1]]
def watch(event, arguments):
    if left and event in ("subprocess.Popen", "os.rename", "ctypes.dlsym"):
        if left[0] in f"{event} {arguments[:3]}":
            left.clear()
            if len(sys.argv) == 2:
                os.kill(os.getpid(), signal.SIGKILL)
            subprocess.run(sys.argv[2:], check=True)
sys.addaudithook(watch)
caller = salt.client.Caller(mopts=salt.config.minion_config("/etc/salt/minion"))
print(caller.cmd("orthanc.move_index"))
"""
# Somebody starts the server, and a device sends at once.
STORE = """
import base64, subprocess, time, urllib.request
subprocess.run(["systemctl", "start", "orthanc"], check=True)
request = urllib.request.Request("http://127.0.0.1:8042/instances")
request.add_header("Authorization", "Basic " + base64.b64encode(b"anna:Anna's password").decode())
with open("/root/image.dcm", "rb") as file:
    request.data = file.read()
for _ in range(300):
    try:
        urllib.request.urlopen(request)
        break
    except OSError:
        time.sleep(0.1)
"""
NUL = (
    "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]);"
    " c.execute('UPDATE MainDicomTags SET value = value || char(0) || 1'); c.commit()"
)
# Before what it is killed, in this order, and whether the new configuration is there by then.
STEPS = {
    "'stop', 'orthanc.service'": False,
    "--file=-": False,  # psql, to which all goes
    "renameat2": False,
    "'restart', 'orthanc.service'": True,
}


class Site:
    def __init__(self, host: Minion, users: dict, system: str) -> None:
        self.host, self.users, self.system = host, users, system
        self.anna = ("anna", users["anna"]["password"])

    def settings(self, **postgresql) -> dict:
        return {
            "users": self.users,
            "dicom": {"enabled": True, "aet": "HERE"},
            "modalities": {"itself": {"AET": "HERE", "Host": "127.0.0.1", "Port": 4242}},
            "config": {"StableAge": 3600, "LogExportedResources": True},
            "postgresql": postgresql,
        }

    def ask(self, method: str, path: str, data: str | None = None, code: int = 200):
        answer = self.host.ask(method, path, *self.anna, data=data)
        assert answer.code == code, str(answer)
        return answer

    def store(self, file) -> dict:
        return self.ask("POST", "/instances", f"@{file}").json

    def snapshot(self) -> dict:
        self.host.wait_for_port()
        self.host.write("/root/snapshot.py", SNAPSHOT)
        return json.loads(self.host.run("/opt/salt/bin/python3 /root/snapshot.py").out)

    def move(self, *words: str):
        """Move the index, and return what came of it."""
        result = self.host.call("orthanc.move_index", "--out=json", *words, check=False)
        assert result.ok, str(result)
        return json.loads(result.out)["local"]

    def refused(self, *words: str, given=()) -> None:
        """A move must be refused with these words, while the server serves on."""
        pid = self.host.pid()
        result = self.host.call("orthanc.move_index", *given, check=False)
        assert not result.ok
        for word in words:
            assert word in str(result)
        assert self.host.pid() == pid != 0

    def indexes(self) -> list:
        """Return the paths of all indexes in SQLite, and of what else may be left of a move."""
        names = r"\( -name 'index*' -o -name '.orthanc*' \) ! -name '*-wal'"
        return sorted(self.host.run(f"find {FOLDERS} {names} 2>/dev/null", check=False).out.split())

    def index(self) -> str:
        return self.host.call("orthanc.backend", "/etc/orthanc", "--out=txt").out.split()[-1]

    def fill(self, image) -> None:
        """Store images, and all that hangs on images."""
        last = {}
        for number in range(4):
            for name in ("Größe^\\\\Ö", "東京^Ω", "A\tB"):
                tags = {"PatientID": f"P{number}", "SpecificCharacterSet": "ISO_IR 192"}
                last = self.store(image(PatientName=name, **tags))
        for level in ("Patient", "Study", "Series"):
            place = f"/{level.lower().replace('study', 'studie').rstrip('s')}s/"
            name = last[f"Parent{level}"]
            self.ask("PUT", f"{place}{name}/metadata/1030", "of \\ our \\N own\n", code=200)
        image_place = f"/instances/{last['ID']}"
        self.ask("PUT", f"{image_place}/metadata/4321", "é")
        self.ask("PUT", f"{image_place}/attachments/1027", "a note of somebody's")
        self.ask("PUT", f"/patients/{last['ParentPatient']}/protected", "1")
        if self.host.ask("GET", f"{image_place}/labels", *self.anna).code == 200:
            self.ask("PUT", f"{image_place}/labels/urgent", "")
        self.ask("POST", f"/studies/{last['ParentStudy']}/anonymize", "{}")
        self.ask("POST", "/modalities/itself/store", last["ID"])
        gone = self.store(image())
        self.ask("DELETE", f"/patients/{gone['ParentPatient']}")


def sums(found: dict) -> tuple:
    return found["/statistics"]["CountInstances"], found["/changes?limit=9999"]["Last"]


@pytest.fixture
def site(request, users, salt_version):
    with Minion(testbed.deployed(request.param, salt_version)) as host:
        yield Site(host, users, request.param)


def on(*systems: str):
    return pytest.mark.parametrize("site", systems, indirect=True)


def goes_on(site, image, again) -> dict:
    """Store, find and delete, and return what there is then."""
    assert site.store(again)["Status"] == "AlreadyStored"
    new = site.store(image(PatientID="new"))
    found = site.ask("POST", "/tools/find", '{"Level": "Patient", "Query": {"PatientID": "new"}}')
    assert new["ParentPatient"] in found.json
    site.ask("DELETE", f"/patients/{site.store(image())['ParentPatient']}")
    return site.snapshot()


@on("trixie", "leap")
def test_there_and_back(site, image):
    host, again = site.host, image(PatientID="again")
    # As where it served before the formula.
    host.run("systemctl enable orthanc")
    host.apply(**site.settings())
    site.fill(image)
    site.store(again)
    before, storage = site.snapshot(), host.run(STORED).out
    assert before["/exports?limit=9999"]["Exports"]
    settings = site.settings(enabled=True)
    host.pillar(**settings)
    pid = host.pid()
    assert "orthanc.move_index" in host.state().failed["orthanc-pillar"]
    assert site.move("test=True")["images"] == sums(before)[0]
    assert (host.pid(), site.index()) == (pid, "SQLite")

    there = site.move()
    assert site.index() == "PostgreSQL"
    assert site.snapshot() == before
    assert host.run(STORED).out == storage
    assert site.indexes() == [there["kept"]]
    pid = host.pid()
    assert host.apply(**settings).changes == {}
    # What was there before looks for the index in SQLite.
    kept = host.state("orthanc.clean")
    assert "call orthanc.move_index, and then" in kept.failed["orthanc-in-sight"]
    assert "no image would be seen" in host.state("orthanc.config.clean").failed["orthanc-config"]
    assert kept.changes == {}
    assert host.pid() == pid
    meanwhile = goes_on(site, image, again)
    assert sums(meanwhile)[1] > sums(before)[1]

    settings = site.settings()
    host.pillar(**settings)
    refused = host.state().failed["orthanc-pillar"]
    assert "orthanc.move_index" in refused
    assert "from the backup" not in refused
    back = site.move()
    assert site.index() == "SQLite"
    assert site.snapshot() == meanwhile
    assert not host.state("orthanc.clean", test=True).failed
    assert host.apply(**settings).changes == {}
    goes_on(site, image, again)
    # The database has the old one now, which is not served by mistake.
    host.pillar(**site.settings(enabled=True))
    assert "not its newest one" in host.state().failed["orthanc-pillar"]
    site.refused("forget=True")
    assert site.move("forget=True") == {"forgotten": [there["kept"], back["kept"]]}
    assert site.indexes() == ["/".join([*there["kept"].split("/")[:-1], "index"])]
    known = "psql -qAtX orthanc -c 'SELECT count(*) FROM resources, attachedfiles'"
    assert host.run(known, user="postgres").out.strip() == "0"
    if site.system == "trixie":
        to_another_host(site)


def to_another_host(site) -> None:
    """Move it once more, to a database that wants a password and is verified."""
    before, account = site.snapshot(), {"database": "images", "user": ROLE, "password": PASSWORD}
    with Database() as database:
        database.introduce(site.host)
        database.make("images")
        site.host.write("/srv/salt/hospital-ca.pem", database.authority.pem)
        remote = {"host": NAME, "ca_source": "salt://hospital-ca.pem", **account}
        site.host.pillar(**site.settings(enabled=True, **remote))
        site.move()
        assert (site.index(), site.snapshot()) == ("PostgreSQL", before)


@on("bookworm")
def test_whatever_is_killed_a_server_serves(site, image):
    host, again = site.host, image(PatientID="again")
    host.apply(**site.settings())
    site.fill(image)
    site.store(again)
    site.refused("the pillar has the index where it is")
    # What its trial start shows, others show.
    host.pillar(**site.settings(enabled=True), preflight=False)
    host.run("systemd-run -q --unit=other flock /run/orthanc-move-index sleep 600; sleep 1")
    site.refused("a move of the index runs already")
    host.run("systemctl stop other")
    host.write("/root/moved.py", STOPPED_AT)
    for step, is_new in STEPS.items():
        before = goes_on(site, image, again)
        run = host.run(f'/opt/salt/bin/python3 /root/moved.py "{step}"', check=False)
        assert run.code == 137, f"{step}: {run}"
        host.wait_for_port()
        assert site.index() == ("PostgreSQL" if is_new else "SQLite"), step
        assert site.snapshot() == before, step
        if step == "renameat2":
            # All of it is in the database, but for what is stored now.
            site.store(image())
            host.run("sed -i s/asked/was_asked/ /etc/orthanc.index-move")
            assert "not its newest one" in host.state().failed["orthanc-pillar"]
    # The next run settles what was left, with what has come since.
    before = goes_on(site, image, again)
    run = host.state()
    assert run.ok, str(run)
    assert site.snapshot() == before
    assert ["moved" in path for path in site.indexes()] == [True]

    host.pillar(**site.settings(), preflight=False)
    taken_meanwhile(site, image)
    before = goes_on(site, image, again)
    site.move()
    assert (site.index(), site.snapshot()) == ("SQLite", before)
    # What PostgreSQL would not take is found while the server serves.
    host.pillar(**site.settings(enabled=True))
    (index,) = (path for path in site.indexes() if path.endswith("index"))
    host.run(f'systemctl stop orthanc; /opt/salt/bin/python3 -c "{NUL}" {index}')
    host.run(f"chown orthanc: {index}; systemctl start orthanc")
    host.wait_for_port()
    site.refused("MainDicomTags", "NUL byte")


def taken_meanwhile(site, image) -> None:
    """An image that is taken while the index is away must not be lost with the old index."""
    shutil.copy(image(PatientID="meanwhile"), site.host.path("/root/image.dcm"))
    site.host.write("/root/store.py", STORE)
    # When it was copied, and is about to be put in place.
    words = [
        "/root/moved.py",
        "/index', '/var/lib/orthanc",
        *("/opt/salt/bin/python3", "/root/store.py"),
    ]
    run = site.host.run(shlex.join(["/opt/salt/bin/python3", *words]), check=False)
    assert "somebody has started orthanc" in str(run)
    site.host.wait_for_port()
    found = site.ask("POST", "/tools/find", '{"Level": "Patient", "Query": {"PatientID": "mean*"}}')
    assert (site.index(), len(found.json)) == ("PostgreSQL", 1)
