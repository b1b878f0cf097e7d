"""Images sent on: to whom, not twice, and none lost, whatever is killed or away meanwhile."""

import json
import time

import pydicom
import pytest
import testbed
from clients import meanwhile
from minion import Minion

UNIT, QUEUE = "orthanc-routes", "/var/lib/orthanc-routes"
# What the target does not take.
REFUSES = """
local other = ReceivedInstanceFilter
function ReceivedInstanceFilter(dicom, origin, info)
  if dicom.PatientID == "REFUSED" then
    error("not this one")
  end
  return other == nil or other(dicom, origin, info)
end
"""


# In the place of a peer: what sends everybody on to it, as http:// to https://.
MOVES = """
import http.server
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(301)
        self.send_header("Location", "http://127.0.0.1:8042" + self.path)
        self.end_headers()
    do_POST = do_GET
http.server.HTTPServer(("127.0.0.1", 9001), Handler).serve_forever()
"""
# A device that takes connections, and says nothing.
SILENT = """
import socket, time
server = socket.create_server(("127.0.0.1", 9002))
time.sleep(600)
"""


@pytest.fixture(scope="module")
def sites(salt_version, users):
    """Two sites that send each other what they get, on the oldest and the newest Orthanc."""
    layers = [testbed.deployed(suite, salt_version) for suite in ("bookworm", "trixie")]
    with Minion(layers[0]) as here, Minion(layers[1]) as there:
        here.write("/srv/salt/.keep", "")
        there.write("/srv/refuses.lua", REFUSES)
        peer = {
            "Url": f"http://{there.address}:8042/",
            "Username": "anna",
            "Password": users["anna"]["password"],
        }
        common = {
            "users": users,
            "remote_access": True,
            # Then what comes back would be new each time.
            "overwrite_instances": True,
            "dicomweb": {"enabled": True},
            "config": {"StableAge": 2},
        }
        here.settings = {
            **common,
            "dicom": {"enabled": True, "aet": "HERE"},
            "modalities": {"there": {"AET": "THERE", "Host": there.address, "Port": 4242}},
            "peers": {"peer": peer},
            "dicomweb": {
                "enabled": True,
                "servers": {"web": {**peer, "Url": f"{peer['Url']}dicom-web/"}},
            },
            "routes": {
                "CT": {"to": "there", "modality": ["CT"]},
                "US": {"to": "web", "modality": ["US"]},
                "Großes Haus": {
                    "to": "peer",
                    "tags": {"StudyDescription": ["*knie*"]},
                    "when": "stable",
                },
            },
        }
        there.settings = {
            **common,
            "config": {"StableAge": 2, "LuaScripts": ["/srv/refuses.lua"]},
            "dicom": {"enabled": True, "aet": "THERE"},
            "modalities": {"here": {"AET": "HERE", "Host": here.address, "Port": 4242}},
            "routes": {"back": {"to": "here"}},
        }
        for host in (here, there):
            host.anna = ("anna", users["anna"]["password"])
            host.first = host.apply(**host.settings)
        yield here, there


def store(host, file) -> str:
    answer = host.ask("POST", "/instances", *host.anna, data=f"@{file}")
    assert answer.code == 200, answer
    return answer.json["ID"]


def instances(host) -> set:
    return set(host.ask("GET", "/instances", *host.anna).json)


def until(what, limit: float = 40) -> None:
    """Wait until something is so."""
    end = time.monotonic() + limit
    while not what():
        assert time.monotonic() < end, what
        time.sleep(0.2)


def arrived(host, *wanted):
    return lambda: set(wanted) <= instances(host)


def routes(host) -> dict:
    return json.loads(host.call("orthanc.routes", "--out=json", check=False).out)["local"]


def waiting(host) -> int:
    return sum(row["waiting"] for row in routes(host)["routes"].values())


def kill(host, unit: str) -> None:
    host.run(f"systemctl kill --kill-who=main -s KILL {unit}")


def test_what_a_route_is_for_arrives_and_nothing_else(sites, image):
    here, there = sites
    assert here.first.changes.keys() >= {"orthanc-routes"}
    ct, mr = store(here, image(Modality="CT")), store(here, image(Modality="MR"))
    # A study of which more comes: it is waited for.
    study = {"StudyInstanceUID": "1.2.826.0.1.3680043.8.498.9", "PatientID": "K"}
    knees = [image(StudyDescription="Linkes KNIE", **study) for _ in range(2)]
    first = store(here, knees[0])
    until(arrived(there, ct))
    time.sleep(1)
    second = store(here, knees[1])
    assert first not in instances(there)
    us = store(here, image(Modality="US"))
    until(arrived(there, first, second, us))
    assert mr not in instances(there)
    # What came from here by DICOM is not sent back.
    changes = here.ask("GET", "/changes?since=0&limit=1000", *here.anna).json["Changes"]
    assert [one["ChangeType"] for one in changes if one["ID"] == ct] == ["NewInstance"]
    assert there.ask("GET", f"/instances/{first}/file", *there.anna).body == knees[0].read_bytes()


def test_a_lost_place_or_queue_loses_nothing(sites, image):
    here, there = sites
    here.run(f"systemctl stop {UNIT}")
    first = store(here, image(Modality="CT"))
    assert here.ask("DELETE", "/changes", *here.anna).code == 200
    before = there.ask("GET", "/changes?last", *there.anna).json["Last"]
    here.run(f"systemctl start {UNIT}")
    until(arrived(there, first))
    # And nothing else is sent again.
    changes = there.ask("GET", f"/changes?since={before}", *there.anna).json["Changes"]
    assert {one["ID"] for one in changes if one["ChangeType"] == "NewInstance"} == {first}
    here.run(f"systemctl stop {UNIT}; rm -f {QUEUE}/queue.db-*; echo rubbish > {QUEUE}/queue.db")
    second = store(here, image(Modality="CT"))
    here.run(f"systemctl start {UNIT}")
    until(arrived(there, second))
    assert "the queue was damaged" in str(routes(here)["problems"])
    here.run(f"rm {QUEUE}/queue.db.broken")
    command = here.run(f"grep -oP '(?<=ExecStart=).*' /etc/systemd/system/{UNIT}.service").out
    assert "runs already" in here.run(command, check=False).err


def test_nothing_is_lost_whatever_dies(sites, image):
    """The target is away, and Orthanc and the service are killed under a load of images."""
    here, there = sites
    there.run("systemctl stop orthanc")
    sent = {}

    def load():
        file = image(Modality="CT", PatientComments="x" * 5000)
        answer = here.ask("POST", "/instances", *here.anna, data=f"@{file}")
        if answer.code == 200:
            sent[answer.json["ID"]] = file

    with meanwhile(load, threads=2):
        for unit in (UNIT, "orthanc", UNIT):
            time.sleep(2)
            kill(here, unit)
        here.wait_for_port()
        time.sleep(1)
        there.run("systemctl start orthanc")
        there.wait_for_port()
        for unit in ("orthanc", UNIT):
            time.sleep(2)
            kill(here, unit)
        here.wait_for_port()
        time.sleep(1)
        until(lambda: len(sent) > 50)
    until(arrived(there, *sent), 60)
    for identifier, file in list(sent.items())[::10]:
        got = there.ask("GET", f"/instances/{identifier}/file", *there.anna).body
        assert dicom_of(got) == pydicom.dcmread(file)
    assert routes(here)["routes"]["CT"]["waiting"] == 0


def dicom_of(content: bytes):
    return pydicom.dcmread(pydicom.filebase.DicomBytesIO(content))


def test_what_is_refused_holds_up_nobody(sites, image):
    here, there = sites
    kinds = ["CT"] * 7 + ["US"]
    refused = [store(here, image(Modality=kind, PatientID="REFUSED")) for kind in kinds]
    good = [store(here, image(Modality="CT")) for _ in range(5)]
    began = time.monotonic()
    until(arrived(there, *good))
    assert time.monotonic() - began < 15
    found = routes(here)
    assert found["routes"]["CT"]["waiting"] == 7
    assert "0xA700" in found["routes"]["CT"]["why"][0]
    # As after a week.
    here.run(f"systemctl stop {UNIT}")
    week = "UPDATE waiting SET since = since - 700000, tries = 9, due = 0"
    here.run(
        f"""python3 -c 'import sqlite3; base = sqlite3.connect("{QUEUE}/queue.db");"""
        f""" base.execute("{week}"); base.commit()'"""
    )
    here.run(f"systemctl start {UNIT}")
    until(lambda: routes(here)["routes"]["CT"]["failed"] == 7)
    told = here.call("orthanc.routes", check=False)
    assert told.code == 1
    health = here.call("orthanc.health", check=False).out
    assert "the route CT to there has given up 7 images" in health
    # Each has left a job that failed, of which the route says all there is to say.
    jobs = here.ask("GET", "/jobs?expand", *here.anna).json
    failed = {job["Type"] for job in jobs if job["State"] == "Failure"}
    assert failed >= {"DicomModalityStore", "DicomWebStowClient"}
    assert "jobs have failed" not in health
    # But of what people send by hand.
    study = here.ask("GET", f"/instances/{refused[-1]}/study", *here.anna).json["ID"]
    data = json.dumps({"Resources": [study], "Synchronous": True})
    assert here.ask("POST", "/dicom-web/servers/web/stow", *here.anna, data=data).code != 200
    assert "1 jobs have failed" in here.call("orthanc.health", check=False).out
    for identifier in refused:
        assert here.ask("DELETE", f"/instances/{identifier}", *here.anna).code == 200
    here.call("orthanc.routes", "retry=True", check=False)
    until(lambda: routes(here)["routes"]["CT"]["deleted"] == 7)
    here.call("orthanc.routes", "retry=True")
    assert routes(here)["routes"]["CT"]["deleted"] == 0


def test_two_sites_make_no_loop(sites, image):
    """There, all is sent back; and each that comes again is new to Orthanc."""
    here, there = sites
    own = store(there, image(Modality="CT"))
    knee = store(here, image(StudyDescription="Knie"))
    until(arrived(here, own))
    until(arrived(there, knee))
    until(lambda: not any(waiting(host) for host in sites))

    def last():
        return [host.ask("GET", "/changes?last", *host.anna).json["Last"] for host in sites]

    # Longer than it takes to become stable, which is a change too.
    time.sleep(4)
    before = last()
    time.sleep(4)
    assert last() == before


def test_no_secret_is_shown(sites, users):
    here, _ = sites
    shown = here.run(f"journalctl -u {UNIT}; ps axww; cat /etc/orthanc-routes.json").out
    assert users["anna"]["password"] not in shown
    assert here.run(f"stat -c %a {QUEUE} /etc/orthanc-routes.json").out.split() == ["700", "600"]


def test_nothing_is_sent_to_a_stranger_and_what_waits_for_others_once(sites, image):
    """Orthanc takes any answer of a peer for success; DICOMweb breaks off behind others."""
    here, there = sites
    for name, text in (("moves", MOVES), ("silent", SILENT)):
        here.write(f"/srv/{name}.py", text)
        here.run(f"systemd-run -q python3 /srv/{name}.py")
    here.settings["peers"]["moved"] = {"Url": "http://127.0.0.1:9001/"}
    here.settings["modalities"]["silent"] = {"AET": "S", "Host": "127.0.0.1", "Port": 9002}
    here.settings["routes"]["XA"] = {"to": "moved", "modality": ["XA"]}
    here.apply(**here.settings)
    xa = store(here, image(Modality="XA"))
    until(lambda: "sends everybody on" in str(routes(here)["routes"]["XA"]))
    assert routes(here)["routes"]["XA"]["waiting"] == 1

    def stows() -> set:
        jobs = here.ask("GET", "/jobs?expand", *here.anna).json
        return {job["ID"] for job in jobs if job["Type"] == "DicomWebStowClient"}

    # As many jobs as Orthanc does at a time; each waits for ten seconds.
    data = json.dumps({"Resources": [xa], "Synchronous": False})
    for _ in range(2):
        assert here.ask("POST", "/modalities/silent/store", *here.anna, data=data).code == 200
    before, us = stows(), store(here, image(Modality="US"))
    until(arrived(there, us))
    until(lambda: routes(here)["routes"]["US"]["waiting"] == 0)
    assert len(stows() - before) == 1


def test_it_goes_again(sites):
    """Last: it takes the routes away."""
    here, _ = sites
    assert here.state().changes == {}
    wrong = {"CT": {"to": "there", "tags": {"StationName": ["x"], "StatonName": ["x"]}}}
    here.pillar(**{**here.settings, "routes": wrong})
    for test in (True, False):
        said = here.state("orthanc.routes", test=test).failed["orthanc-routes"]
        assert said.startswith("orthanc:routes:CT:tags:StatonName: Orthanc knows no tag")
    run = here.apply(**{**here.settings, "routes": {}})
    assert {"/etc/orthanc-routes.json", QUEUE} <= run.changes["orthanc-routes"].keys()
    left = "ls /etc/systemd/system | grep routes || ls /usr/local/lib/orthanc-formula/*.py"
    assert not here.run(left, check=False).ok
    assert not here.run(
        "pgrep -f orthanc_route[s] || systemctl --failed | grep routes", check=False
    ).ok
    assert here.state().changes == {}
