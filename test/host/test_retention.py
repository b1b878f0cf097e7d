"""Old studies: listed, held back, deleted by Orthanc itself, and what the log says of it."""

import collections
import datetime
import json

import dicom
import documentation
import pytest
import testbed
from minion import Minion

LOG, UNIT = "/var/log/orthanc-retention.log", "orthanc-retention"
REPOSITORY = "/srv/backup/orthanc"
STORAGE = {"bookworm": "/var/lib/orthanc/db-v6", "leap": "/var/lib/orthanc/OrthancStorage"}
RULES = [
    {"modality": ["MG"], "older_than": "20 years", "by": "study_date"},
    {"aet": ["GATE"], "older_than": "90 days", "by": "received"},
    {"older_than": "10 years", "by": "study_date"},
]
# Holds up what deletes a study, but no question whether one may.
SLOW = """
function IncomingHttpRequestFilter(method, uri)
  if method == "DELETE" and not string.find(uri, "00000000%-00000000") then
    os.execute("sleep 2")
  end
  return true
end
"""
# Whoever may listen where Orthanc is away, and hopes to be told a password.
FAKE = """
import socket
listening = socket.create_server(("127.0.0.1", 8042))
print("listens", flush=True)
while True:
    connection, _ = listening.accept()
    print(connection.recv(4096), flush=True)
    connection.close()
"""
# When the last image came, as the index has it.
AGE = """
import sqlite3, sys
index = sqlite3.connect(sys.argv[1] + "/index")
for study, received in zip(sys.argv[2::2], sys.argv[3::2]):
    index.execute(
        "UPDATE Metadata SET value = ? WHERE type = 7 AND id ="
        " (SELECT internalId FROM Resources WHERE publicId = ?)",
        (received, study),
    )
index.commit()
"""
# As long as the run after the last one has not begun with a study, and until it is over.
UNTIL_DELETING = f"until tail -n 1 {LOG} | grep -q '\"deleting\"'; do sleep 0.1; done"
UNTIL_ENDED = f"while systemctl show -p ActiveState {UNIT} | grep -q activating; do sleep 0.1; done"


@pytest.fixture(scope="module", params=["bookworm", "leap"])
def server(request, salt_version, users):
    with Minion(testbed.deployed(request.param, salt_version)) as host:
        host.anna = ("anna", users["anna"]["password"])
        host.storage = STORAGE[request.param]
        host.settings = {
            "users": users,
            "dicom": {"enabled": True},
            "config": {"StableAge": 1},
            "backup": {"repository": REPOSITORY},
            "retention": {"rules": RULES, "rate": 1000, "max_percent": 50},
        }
        host.first = host.apply(**host.settings)
        yield host


def stored(server, file) -> str:
    """Return the Orthanc identifier of the study that a file becomes a part of."""
    answer = server.ask("POST", "/instances", *server.anna, data=f"@{file}")
    assert answer.code == 200, answer
    return answer.json["ParentStudy"]


def sent(server, file, title) -> str:
    """Return the same for a file that a device sends."""
    before = set(studies(server))
    assert dicom.client("storescu", server.address, "-aet", title, str(file)).ok
    ((study),) = set(studies(server)) - before
    return study


def studies(server) -> list:
    return server.ask("GET", "/studies", *server.anna).json


def protect(server, study) -> None:
    patient = server.ask("GET", f"/studies/{study}", *server.anna).json["ParentPatient"]
    path = f"/patients/{patient}/protected"
    assert server.ask("PUT", path, *server.anna, data="1").code == 200


def age(server, days: dict) -> None:
    """Let the last image of studies have come so many days ago."""
    now, words = datetime.datetime.now(datetime.timezone.utc), []
    for study, number in days.items():
        then = now - datetime.timedelta(days=number)
        words += [study, then.strftime("%Y%m%dT%H%M%S")]
    server.write("/srv/age.py", AGE)
    server.run(f"systemctl stop orthanc; python3 /srv/age.py {server.storage} {' '.join(words)}")
    server.run("systemctl start orthanc")
    server.wait_for_port()


def called(server, *words: str):
    return json.loads(server.call("orthanc.retention", *words, "--out=json").out)["local"]


def log(server) -> list:
    return [json.loads(line) for line in server.read(LOG).splitlines()]


def files(server) -> set:
    """Return the files of images that there are."""
    found = server.run(f"find {server.storage} -type f -path '*/??/??/*'").out
    return set(found.split())


def apply(server, **retention):
    settings = {**server.settings["retention"], **retention}
    return server.apply(**{**server.settings, "retention": settings})


# Of which another image comes after the backup.
LATE = {"PatientID": "L", "StudyInstanceUID": "1.2.826.0.1.3680043.8.498.6"}


@pytest.fixture(scope="module")
def known(server, image):
    """Studies of all sorts, by what they are."""
    old = {"StudyDate": "20100102"}
    both = {**old, "PatientID": "X", "StudyInstanceUID": "1.2.826.0.1.3680043.8.498.7"}
    gone = {"StudyInstanceUID": "1.2.826.0.1.3680043.8.498.8", "AccessionNumber": "A|1"}
    found = {
        "old": stored(server, image(**old, **gone, PatientID="Y", PatientName="Doe^Jane")),
        "old too": stored(server, image(StudyDate="20110102", Modality="CT")),
        "young": stored(server, image(StudyDate="20250102")),
        "mammography": stored(server, image(**old, Modality="MG")),
        "mixed": stored(server, image(**both)),
        "no date": stored(server, image()),
        "of the future": stored(server, image(StudyDate="20991231")),
        "protected": stored(server, image(**old)),
        "later series": stored(server, image(**old, SeriesDate="20240102")),
        "by gateway": sent(server, image(StudyDate="20250102"), "GATE"),
        "by gateway lately": sent(server, image(**old), "GATE"),
        "by another": sent(server, image(StudyDate="20250102"), "CT1"),
        "not yet in a backup": stored(server, image(**old, **LATE)),
    }
    assert stored(server, image(**both, Modality="MG")) == found["mixed"]
    assert (
        stored(server, image(**old, **gone, PatientID="Y", PatientName="Doe^Jane")) == found["old"]
    )
    protect(server, found["protected"])
    age(server, {**dict.fromkeys(found.values(), 100), found["by gateway lately"]: 80})
    return found


DUE = ("old", "old too", "by gateway")


def test_at_first_studies_are_only_listed(server, known):
    state = server.first.states["orthanc-retention"]
    assert "only listed" in state["comment"]
    assert not server.run(f"systemctl list-timers --all | grep {UNIT}", check=False).ok
    ((_, _, command),) = (one for one in documentation.section("Retention") if one[0] == "test")
    assert known["old"] in server.run(command).out
    found = called(server)
    # No drill has shown yet what is in a backup.
    due = [known[name] for name in (*DUE, "not yet in a backup")]
    assert sorted(one["study"] for one in found["list"]) == sorted(due)
    assert found["list"][0]["StudyDate"] == "20100102"
    assert (found["studies"], found["due"], found["nights"]) == (len(known), 4, 1)
    assert sum(found["held back"].values()) == len(known) - 4
    assert found["held back"]["of a protected patient"] == 1
    why = "its StudyDate is missing, or is no date, or a SeriesDate is none"
    assert found["held back"][why] == 1
    assert found["held back"]["a date in the future"] == 1
    assert len(called(server, "limit=1")["list"]) == 1
    why = str(found["nothing is deleted"])
    assert "dry_run" in why
    assert "there is no backup yet" in why
    refused = server.call("orthanc.retention", "test=False", check=False)
    assert not refused.ok
    assert "dry_run is true" in str(refused)
    assert sorted(studies(server)) == sorted(known.values())


def test_nothing_goes_without_a_proven_backup(server, known):
    apply(server, dry_run=False)
    shown = server.run(f"systemctl show -p NextElapseUSecRealtime --value {UNIT}.timer").out
    assert " 03:" in shown or " 04:0" in shown
    for command, why in (
        ("true", "there is no backup yet"),
        ("systemctl start orthanc-backup", "no backup was ever restored"),
    ):
        server.run(command)
        # As at night, where the host of salt-ssh has no Salt.
        night = f"mv /opt/salt /opt/away; systemctl start {UNIT}; mv /opt/away /opt/salt"
        server.run(night, check=False)
        assert server.run(f"systemctl is-failed {UNIT}").out.strip() == "failed"
        assert why in server.run(f"journalctl -u {UNIT}").out
        last = log(server)[-1]
        assert (last["event"], last["deleted"]) == ("run", 0)
        assert "no backup is proven" in last["error"]
        assert any(why in reason for reason in called(server)["nothing is deleted"])
    assert "no backup is proven" in str(server.state().states["orthanc-retention"]["warnings"])
    health = server.call("orthanc.health", check=False).out
    assert "last night's retention did not come to its end: no backup is proven" in health
    assert sorted(studies(server)) == sorted(known.values())


def test_what_is_due_goes_and_nothing_else(server, known, image):
    server.call("orthanc.drill")
    later = stored(server, image(StudyDate="20100102", **LATE))
    assert later == known["not yet in a backup"]
    before = files(server)
    assert called(server)["nothing is deleted"] == []
    # Whoever empties the repository, or whose disk is not mounted, has no backup.
    server.run(f"mv {REPOSITORY}/snapshots /srv/snapshots; mkdir {REPOSITORY}/snapshots")
    (why,) = called(server)["nothing is deleted"]
    assert "is not in the repository any more" in why
    server.run(f"rmdir {REPOSITORY}/snapshots; mv /srv/snapshots {REPOSITORY}")
    # More than that looks like a wrong clock.
    apply(server, dry_run=False, max_percent=10)
    assert "more than orthanc:retention:max_percent" in str(called(server)["nothing is deleted"])
    assert not server.call("orthanc.retention", "test=False", check=False).ok
    assert sorted(studies(server)) == sorted(known.values())
    apply(server, dry_run=False)
    done = called(server, "test=False")
    assert (done["deleted"], done["kept"], done["due"]) == (3, 0, 3)
    assert done["held"]["not, or not as it is now, in the backup that was proven"] == 1
    left = {study for name, study in known.items() if name not in DUE}
    assert set(studies(server)) == left
    gone = before - files(server)
    assert len(gone) == 4
    assert files(server) <= before
    lines = [line for line in log(server) if line["event"] != "run"]
    assert [line["event"] for line in lines] == ["deleting", "deleted"] * 3
    first = next(line for line in lines if line["study"] == known["old"])
    assert first["StudyInstanceUID"].endswith(".498.8")
    assert (first["AccessionNumber"], first["StudyDate"]) == ("A|1", "20100102")
    assert (first["Modality"], first["RemoteAET"], first["instances"]) == (["OT"], [""], 2)
    assert first["backup"]["snapshot"]
    assert first["rules"] == ["older than 10 years by study_date"]
    text = server.read(LOG)
    assert "Doe" not in text
    assert server.anna[1] not in text + server.run(f"journalctl -u {UNIT}").out
    assert server.run(f"stat -c '%a %U' {LOG}").out.split() == ["600", "root"]
    again = called(server, "test=False")
    assert (again["deleted"], again["due"]) == (0, 0)
    assert set(studies(server)) == left
    run = server.state()
    assert run.ok, str(run)
    assert run.changes == {}


def test_a_deleted_study_comes_back(server, known):
    before = set(studies(server))
    first = next(line for line in log(server) if line.get("study") == known["old"])
    # Another backup of this day has it no more.
    server.call("orthanc.backup")
    words = ["orthanc.restore", "target=/srv/study", f"study={first['StudyInstanceUID']}"]
    assert "snapshot= takes another one" in str(server.call(*words, check=False))
    server.call(*words, f"snapshot={first['backup']['snapshot']}")
    assert len(server.run("ls -R /srv/study | grep dcm").out.split()) == 2
    for file in server.path("/srv/study").glob("*.dcm"):
        assert stored(server, file) == known["old"]
    assert set(studies(server)) == {*before, known["old"]}
    protect(server, known["old"])
    assert called(server)["held back"]["of a protected patient"] == 2


def test_a_run_that_is_killed_leaves_nothing_half_done(server, known, image):
    server.write("/srv/slow.lua", SLOW)
    server.settings["config"]["LuaScripts"] = ["/srv/slow.lua"]
    due = {stored(server, image(StudyDate="20110304")) for _ in range(3)}
    due.add(known["not yet in a backup"])
    apply(server, dry_run=False, unproven=True)
    # The last ones in the list.
    last = {"StudyDate": "20150102", "StudyInstanceUID": "1.2.826.0.1.3680043.8.498.9"}
    last = image(**last, PatientID="Z"), image(**last, PatientID="Z")
    more, guarded = stored(server, last[0]), stored(server, image(StudyDate="20150102"))
    server.run("sleep 3")
    server.run(f"systemctl start --no-block {UNIT}; {UNTIL_DELETING}")
    server.run(f"kill -9 $(systemctl show --property=MainPID --value {UNIT}); {UNTIL_ENDED}")
    assert server.run(f"systemctl is-failed {UNIT}").out.strip() == "failed"
    killed = log(server)
    assert killed[-1]["error"] == "it was killed"
    assert len(set(studies(server)) & due) >= 3
    # What is not as it was when the list was made stays.
    server.run(f"systemctl start --no-block {UNIT}; {UNTIL_DELETING}")
    protect(server, guarded)
    assert stored(server, last[1]) == more
    server.run(UNTIL_ENDED)
    assert set(studies(server)) & {*due, more, guarded} == {more, guarded}
    ends = collections.defaultdict(list)
    for line in log(server):
        ends[line.get("study")].append((line["event"], line.get("why")))
    assert all(ends[study][0] == ("deleting", None) for study in due)
    assert all(ends[study][-1][0] == "deleted" for study in due)
    assert ends[guarded] == [("kept", "of a protected patient")]
    assert ends[more] == [("kept", "it has changed since it was listed")]
    assert (log(server)[-1]["kept"], log(server)[-1]["error"]) == (2, None)


def test_who_cannot_be_asked_is_named(server, users):
    server.run("systemctl stop orthanc")
    said = str(server.call("orthanc.retention", "test=False", check=False))
    assert "Orthanc gives no answer at http://127.0.0.1:8042" in said
    server.write("/srv/fake.py", FAKE)
    server.run("install -m 755 $(readlink -f /usr/bin/python3) /usr/local/bin/orthanc")
    words = "/usr/local/bin/orthanc /srv/fake.py"
    server.run(f"systemd-run --unit=fake --uid=nobody -p StandardOutput=file:/srv/told {words}")
    server.wait_for_port()
    said = str(server.call("orthanc.retention", "test=False", check=False))
    assert "is not Orthanc, but /usr/local/bin/orthanc of the account" in said
    server.call("orthanc.health", check=False)
    server.run("systemctl stop fake; rm /usr/local/bin/orthanc")
    assert "Authorization" not in server.read("/srv/told")
    server.run("systemctl start orthanc")
    server.wait_for_port()
    settings = {**server.settings, "users": {"rita": users["rita"]}}
    settings["retention"] = {**settings["retention"], "dry_run": False, "unproven": True}
    server.apply(**settings)
    (why,) = called(server)["nothing is deleted"]
    assert "none of the users of this server may delete studies (rita)" in why


def test_it_goes_and_its_log_stays(server, users):
    """Last: it takes the rules away."""
    server.write("/etc/orthanc-retention.json", "{")
    for function in ("orthanc.retention", "orthanc.health"):
        said = str(server.call(function, check=False))
        assert "/etc/orthanc-retention.json is not as the formula has written it" in said
    clean = server.state("orthanc.retention.clean")
    assert "/etc/orthanc-retention.json" in clean.changes["orthanc-retention"]
    run = server.apply(users=users, backup=server.settings["backup"])
    assert "orthanc-retention" not in run.changes
    assert all(LOG in one.states["orthanc-retention"]["comment"] for one in (clean, run))
    assert not server.run(f"systemctl list-timers --all | grep {UNIT}", check=False).ok
    assert not server.path("/etc/orthanc-retention.json").exists()
    assert server.path(LOG).exists()
    # The backup's program is the same.
    server.call("orthanc.backup")
    assert (
        LOG
        in server.run(
            f"restic -r {REPOSITORY} --password-file /etc/orthanc-backup/password ls latest"
        ).out
    )
    assert server.state().changes == {}


def test_with_postgresql(salt_version, users, image):
    with Minion(testbed.deployed("trixie", salt_version)) as host:
        host.anna = ("anna", users["anna"]["password"])
        retention = {"rules": RULES, "rate": 1000, "max_percent": 100, "dry_run": False}
        host.apply(
            users=users,
            dicom={"enabled": True},
            config={"StableAge": 1},
            postgresql={"enabled": True},
            retention={**retention, "unproven": True},
        )
        old = sent(host, image(StudyDate="20100102"), "CT|1")
        kept = [sent(host, image(StudyDate="20100102"), "GATE"), stored(host, image())]
        kept.append(stored(host, image(StudyDate="20100102", Modality="MG")))
        kept.append(stored(host, image(StudyDate="20100102")))
        protect(host, kept[-1])
        host.run("sleep 3")
        (listed,) = called(host)["list"]
        assert (listed["study"], listed["RemoteAET"]) == (old, ["CT|1"])
        assert listed["bytes"] > 500
        assert called(host, "test=False")["deleted"] == 1
        assert sorted(studies(host)) == sorted(kept)
