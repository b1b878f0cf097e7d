"""Whether a server is well, as monitoring asks it: in each state, and never for long."""

import contextlib
import json
import time

import dicom
import documentation
import pytest
import testbed
from https import CHAIN, KEY, MIDDLE, PAIR, put
from minion import NAME, Minion

# What the functions promise, in seconds; and what starting a program may take besides.
PROMISED, START = 3, 5
# A device that is never there.
AWAY = {"AET": "AWAY", "Host": "127.0.0.1", "Port": 9, "Timeout": 1}
# The server itself, as a device and as a peer.
SELF = {"AET": "ORTHANC", "Host": "127.0.0.1", "Port": 4242}
TWIN = {"Url": "http://127.0.0.1:18042/", "Username": "anna"}


@pytest.fixture(scope="module")
def whole(salt_version, users):
    """A server with all that may be asked for: users, HTTPS, PostgreSQL, DICOM, backups."""
    with Minion(testbed.deployed("trixie", salt_version)) as host:
        put(host, PAIR)
        host.settings = {
            "users": users,
            "remote_access": True,
            "https": {"enabled": True, "certificate": CHAIN, "key": KEY},
            "postgresql": {"enabled": True},
            "dicom": {"enabled": True},
            "modalities": {"away": AWAY, "self": SELF},
            "peers": {"twin": {**TWIN, "Password": users["anna"]["password"]}},
            "backup": {"repository": "/srv/backup/orthanc"},
            "access_log": {"days": 7},
        }
        host.anna = ("anna", users["anna"]["password"])
        host.apply(**host.settings)
        yield host


def look(host, code: int) -> dict:
    """Return what is said of a server, with this exit code."""
    done = host.call("orthanc.health", "--out=json", check=False)
    assert done.code == code, done
    assert "Traceback" not in done.out + done.err
    return json.loads(done.out)["local"]


def is_in_time(host) -> bool:
    """Return whether it comes in time, besides what Salt needs; this machine may be busy once."""
    for _ in range(3):
        times = []
        for function in ("test.ping", "orthanc.health"):
            began = time.monotonic()
            host.call(function, check=False)
            times.append(time.monotonic() - began)
        if times[1] - times[0] < PROMISED:
            return True
    return False


def line(host, code: int) -> str:
    """Return what the program without Salt says."""
    ((_, _, command),) = documentation.section("Icinga and Nagios without Salt")
    began = time.monotonic()
    done = host.run(command, check=False)
    assert time.monotonic() - began < PROMISED + START
    assert (done.code, done.err) == (code, ""), done
    assert done.out.count("\n") == 1
    return done.out


def the_others_answer(host, answers: bool) -> None:
    """What else people ask comes in time, too, and without a traceback."""
    asks = ("answers", "system", "echo self")
    for function in (*asks, "access", "errors", "backend /etc/orthanc", "security"):
        began = time.monotonic()
        done = host.call(*f"orthanc.{function}".split(), check=False)
        assert time.monotonic() - began < PROMISED + START, function
        # Debian's Orthanc has vulnerabilities that are known.
        no = function == "security" or (function in asks and not answers)
        assert done.code == no, done
        assert "Traceback" not in done.out + done.err


@contextlib.contextmanager
def settings(host, **changed):
    """Let the pillar be another one for a while."""
    host.apply(**{**host.settings, **changed})
    yield
    host.apply(**host.settings)


def test_a_backup_that_was_never_drilled_is_a_warning(whole, image):
    stored = whole.ask("POST", "/instances", *whole.anna, data=f"@{image()}", port=18042)
    assert stored.code == 200
    (reason,) = look(whole, 1)["reasons"]
    assert "there is no backup yet" in reason
    whole.call("orthanc.backup")
    (reason,) = look(whole, 1)["reasons"]
    assert "a backup was never restored for a trial" in reason
    whole.call("orthanc.drill")
    found = look(whole, 0)
    assert found["verdict"] == "ok"
    assert found["reasons"] == []
    figures = found["figures"]
    assert figures["backend"]["found"] == "PostgreSQL"
    assert figures["index"]["last_change"] > 0
    assert 89 < figures["certificates"]["https_days"] <= 90
    assert figures["backup"]["backup_good"] == figures["backup"]["drill_good"] == 1
    assert figures["package"]["pinned"] == 0
    assert set(found["checks"]) >= {"proxy", "storage", "log_disk", "dicom", "jobs", "refused"}
    assert line(whole, 0).startswith("ORTHANC OK - all is well | ")
    said = documentation.follow(whole, "Is it well?")
    assert said.count("ORTHANC OK - all is well | ") == 1
    # Nobody learns a password from it.
    assert whole.anna[1] not in json.dumps(found) + said


def ask(host, words: str, code: int = 0):
    """Return what a function says, with this exit code."""
    done = host.call(*f"orthanc.{words}".split(), "--out=json", check=False)
    assert done.code == code, done
    return json.loads(done.out)["local"]


def test_what_orthanc_itself_knows(whole, users):
    told = {name: ask(whole, name) for name in ("system", "statistics", "jobs", "plugins")}
    assert told["system"]["DatabaseBackendPlugin"]
    assert told["statistics"]["CountStudies"] == 1
    assert told["jobs"] == {"states": {}, "list": []}
    assert told["plugins"]["postgresql-index"]["Version"]
    assert ask(whole, "modalities")["away"]["AET"] == "AWAY"
    assert ask(whole, "peers") == {"peers": {"twin": TWIN}, "dicomweb_servers": {}}
    assert ask(whole, "echo self") | {"seconds": 0} == {
        **{"name": "self", "kind": "modality", "address": "ORTHANC at 127.0.0.1:4242"},
        **{"answers": True, "seconds": 0},
    }
    assert ask(whole, "echo twin")["kind"] == "peer"
    refused = ask(whole, "echo away timeout=2", code=1)
    assert not refused["answers"]
    assert refused["why"] == "127.0.0.1 refuses the connection: nothing listens on its port 9"
    errors = ask(whole, "errors")
    assert errors[0].startswith("E")
    assert "AWAY" in str(errors)
    wrong = whole.call("orthanc.echo", "../../system", check=False)
    assert wrong.code == 1
    assert "no modality, peer or DICOMweb server of the name ../../system" in wrong.err
    assert not any(user["password"] in str([told, errors]) for user in users.values())


def test_whom_the_server_reaches_and_why_not_the_others(whole, users):
    """Added over the REST API, which needs no restart."""
    anna, url = ("anna", users["anna"]["password"]), "http://127.0.0.1"
    account = {"Username": anna[0], "Password": anna[1]}
    # It takes connections, and never says a word.
    mute = "import socket, time; s = socket.create_server(('', 7000)); time.sleep(600)"
    for words in (f'-c "{mute}"', "-m http.server 7001"):
        whole.run(f"(cd /usr; setsid python3 {words} </dev/null >/dev/null 2>&1 &)")
    whole.wait_for_port(7001)
    added = {
        "modalities/nowhere": {**SELF, "Host": "nowhere.invalid"},
        "modalities/silent": {**SELF, "Port": 7000},
        "modalities/web": {**SELF, "Port": 18042},
        "modalities/tls": {**SELF, "UseDicomTls": True},
        "peers/password": {"Url": f"{url}:18042/", **account, "Password": "a wrong word"},
        "peers/nobody": {"Url": f"{url}:18042/"},
        "peers/elsewhere": {"Url": f"{url}:7001/nothing/", **account},
        "peers/plain": {"Url": "https://127.0.0.1:18042/", **account},
        "peers/untrusted": {"Url": "https://127.0.0.1:8042/", **account},
        "peers/refused": {"Url": f"{url}:9/", **account},
    }
    for path, data in added.items():
        done = whole.ask("PUT", f"/{path}", *anna, json.dumps(data), port=18042)
        assert done.code == 200, done
    began = time.monotonic()
    found = ask(whole, "check_network timeout=2", code=1)
    assert time.monotonic() - began < 2 * 2 + START
    rows = {row["name"]: row for row in found["asked"]}
    assert {name for name, row in rows.items() if row["answers"]} == {"self", "twin"}
    assert rows["twin"]["address"] == TWIN["Url"]
    for name, words in {
        "away": "127.0.0.1 refuses the connection: nothing listens on its port 9",
        "nowhere": "there is no host of the name nowhere.invalid",
        "silent": "takes the connection and gives no answer within 2 seconds",
        "web": "another program than a DICOM server answers there",
        "tls": "this server has no certificate to show; set orthanc:dicom:tls:certificate",
        "password": "does not take the user and password",
        "nobody": "asks for a user and password, and none is set here",
        "elsewhere": "has nothing at this address",
        "plain": "TLS fails: ",
        "untrusted": "TLS fails: its certificate is not trusted: ",
        "refused": "127.0.0.1 refuses the connection",
    }.items():
        assert words in rows[name]["why"], rows[name]
    assert len(found["reasons"]) == len(rows) - 2
    assert found["verdict"] == "warning"
    assert anna[1] not in str(found)
    assert "silent" in whole.call("orthanc.map", "ask=False").out
    whole.write("/srv/page.dot", documentation.section("A picture")[2][2])
    whole.call("orthanc.map", "dot", "/srv/own.dot", "timeout=2")
    whole.run("apt-get install -qq --no-install-recommends graphviz")
    picture = whole.run("cd /srv; dot -Tsvg own.dot && dot -Tsvg page.dot").out
    assert picture.count("</svg>") == 2
    assert picture.count('stroke="red"') > len(rows) - 2
    assert "there is no host of the name nowhere.invalid" in picture
    for path in added:
        assert whole.ask("DELETE", f"/{path}", *anna, port=18042).code == 200


def test_modalities_in_postgresql_hold_after_a_restart(whole):
    with settings(whole, modalities_in_database=True):
        assert set(ask(whole, "modalities")) == {"away", "self"}
        whole.run("systemctl restart orthanc")
        whole.wait_for_port(18042)
        assert not whole.state().changes
        assert ask(whole, "echo self")["answers"]
        assert ask(whole, "echo twin")["answers"]
    assert set(ask(whole, "modalities")) == {"away", "self"}


def test_who_did_what_is_written_down(whole, users, ca):
    """Also through nginx; whoever asks, from wherever he says to come, in whatever words."""
    anna, rita = ((name, users[name]["password"]) for name in ("anna", "rita"))
    (study,) = whole.ask("GET", "/studies", *anna, port=18042).json
    whole.run("touch -d 2020-01-01 /var/log/orthanc/access-2020-01-01.log")
    whole.run("chown orthanc: /var/log/orthanc/access-2020-01-01.log; systemctl restart orthanc")
    whole.wait_for_port(18042)
    forged = "2026-01-01T00:00:00Z%20192.0.2.1%20anna%20DELETE%20/studies%20allowed"
    header = ("X-Real-IP: 192.0.2.66", "X-Forwarded-For: 192.0.2.66")
    for code, who, method, path in (
        (200, anna, "GET", f"/studies/{study}?PatientName=DOE"),
        (403, rita, "DELETE", f"/studies/{study}"),
        (404, rita, "GET", f"/patients/DOE%5EJANE%0A{forged}"),
        (401, (rita[0], "wrong"), "GET", "/series"),
        (200, anna, "GET", "/changes?limit=1"),
    ):
        done = whole.ask(method, path, *who, headers=header, remote=True, ca=ca)
        assert done.code == code, (path, done)
    told = [
        (one["account"], one["method"], one["path"], one["result"], one.get("study"))
        for one in ask(whole, "log 4")
        if one["address"] == whole.network.gateway
    ]
    assert told == [
        ("anna", "GET", f"/studies/{study}", "allowed", study),
        ("rita", "DELETE", f"/studies/{study}", "denied", study),
        # The slashes in it are parts of the path, whatever is between them.
        ("rita", "GET", "/patients/*/*", "allowed", None),
        ("anna", "GET", "/changes", "allowed", None),
    ]
    looks = [
        {one["path"] for one in ask(whole, f"log 9999{more}") if one["account"] == "Salt as anna"}
        for more in (" all=True", "")
    ]
    assert looks[0] - looks[1] >= {"/system", "/jobs"}
    assert {one["account"] for one in ask(whole, "log account=rita")} == {"rita"}
    assert len(ask(whole, f"log study={study}")) == 2
    files = "/var/log/orthanc/access-*.log"
    assert "2020" not in whole.run(f"ls {files}").out
    assert whole.run(f"stat -c '%a %U %G' {files} | sort -u").out == "640 orthanc orthanc\n"
    assert not whole.run(f"grep -E 'DOE|192.0.2|{anna[1]}' {files}", check=False).out


def test_a_day_with_the_server(whole):
    said = documentation.follow(whole, "A day with the server", **{"echo ct": "echo self"})
    assert "Traceback" not in said
    for words in ("postgresql-index", "CountStudies", "answers:\n        True", "/studies/"):
        assert words in said, words


def test_associations_that_are_refused_are_told_once(whole):
    assert not dicom.client("findscu", whole.address, "-k", "QueryRetrieveLevel=STUDY", "-S").ok
    (reason,) = look(whole, 1)["reasons"]
    assert "1 DICOM associations were refused since the last look: Rejected Find" in reason
    assert look(whole, 0)["figures"]["refused"]["associations"] == 0


def test_a_server_that_stands_still_is_told_in_time(whole):
    pid = whole.pid()
    whole.run(f"kill -STOP {pid}")
    try:
        (reason,) = look(whole, 2)["reasons"]
        assert "Orthanc stands still" in reason
        assert is_in_time(whole)
        assert "ORTHANC CRITICAL - Orthanc stands still" in line(whole, 2)
        asked = whole.call("orthanc.security", "--out=json", check=False).out
        points = json.loads(asked)["local"]["not applicable"]
        assert "Orthanc stands still" in points["asked without a password"]
        assert "Orthanc stands still" in whole.call("orthanc.system", check=False).err
        assert "Orthanc stands still" in str(whole.state(test=True).states["orthanc-serving"])
        the_others_answer(whole, False)
    finally:
        whole.run(f"kill -CONT {pid}")
    assert look(whole, 0)


def test_a_database_that_hangs_or_is_away_is_told_in_time(whole):
    for stop, go_on in (
        ("pkill -STOP -u postgres", "pkill -CONT -u postgres"),
        ("systemctl stop postgresql 'postgresql@*'", "systemctl start postgresql"),
    ):
        whole.run(stop)
        reasons, in_time = look(whole, 2)["reasons"], is_in_time(whole)
        whole.run(go_on)
        assert "PostgreSQL, which has the index, does not answer" in reasons[0], reasons
        assert in_time
    whole.run("systemctl restart orthanc")
    whole.wait_for_port(18042)
    assert look(whole, 0)


def test_a_wrong_certificate_is_told(whole):
    whole.run(f"echo nonsense > {CHAIN}")
    reasons = look(whole, 2)["reasons"]
    assert f"{CHAIN} holds no certificate" in reasons[0]
    assert "nginx shows another certificate" in reasons[1]
    the_others_answer(whole, True)
    put(whole, MIDDLE.sign(NAME, ends=2))
    whole.run("systemctl reload nginx")
    found = look(whole, 2)
    while "another" in str(found):  # nginx is still loading it
        found = look(whole, 2)
    (reason,) = found["reasons"]
    assert f"HTTPS: the certificate {CHAIN} ends in 2 days" in reason
    whole.run("systemctl stop nginx")
    assert "nginx does not answer for Orthanc" in str(look(whole, 2)["reasons"])
    put(whole, PAIR)
    whole.run("systemctl start nginx")
    assert look(whole, 0)


def test_a_job_that_failed_is_a_warning(whole):
    (name,) = whole.ask("GET", "/instances", *whole.anna, port=18042).json
    job = json.dumps({"Resources": [name], "Synchronous": False})
    sent = whole.ask("POST", "/modalities/away/store", *whole.anna, data=job, port=18042)
    assert sent.code == 200, sent
    path, deadline = f"/jobs/{sent.json['ID']}", time.monotonic() + 60
    while whole.ask("GET", path, *whole.anna, port=18042).json["State"] != "Failure":
        assert time.monotonic() < deadline
        time.sleep(0.1)
    (reason,) = look(whole, 1)["reasons"]
    assert "1 jobs have failed within a day (DicomModalityStore)" in reason
    told = ask(whole, "jobs state=Failure")
    assert told["states"]["Failure"] == 1
    (job,) = told["list"]
    assert (job["Type"], job["Target"]) == ("DicomModalityStore", "AWAY")


def test_a_configuration_that_waits_and_a_disk_below_the_reserve_are_told(whole):
    whole.run("systemctl restart orthanc")
    # Its history of jobs is of no matter here.
    with settings(whole, storage_reserve="900 TB", config={"SaveJobs": False}, version="*"):
        found = look(whole, 2)
        assert "the disk of the images has" in found["reasons"][0]
        assert "900000.0 GB stay in reserve" in found["reasons"][0]
        assert found["figures"]["package"]["pinned"] == 1
    whole.run("echo '-- by hand' >> /etc/orthanc/orthanc-formula-users.lua")
    assert "Orthanc does not run with its configuration" in str(look(whole, 1)["reasons"])


def test_a_server_that_is_down_is_told(whole):
    whole.run("systemctl stop orthanc")
    reasons = look(whole, 2)["reasons"]
    assert "Orthanc does not run; start it with orthanc.restart" in reasons[0]
    assert "Orthanc does not run" in whole.call("orthanc.system", check=False).err
    assert not [line for line in reasons[1:] if line.startswith("critical")], reasons
    the_others_answer(whole, False)


@pytest.mark.parametrize("system", ["bookworm", "leap"])
def test_a_server_without_anything_else(system, salt_version):
    """Nobody needs a password, the index is a file, and leap logs into the journal."""
    modality = {"AET": "CT", "Host": "192.0.2.1", "Port": 104}
    with Minion(testbed.deployed(system, salt_version)) as host:
        pillar = {"users": {}, "dicom": {"enabled": True}, "modalities": {"ct": modality}}
        host.apply(**pillar, config={"DicomAlwaysAllowEcho": False}, access_log=True)
        found = look(host, 0)
        assert found["figures"]["backend"]["found"] == "SQLite"
        assert found["figures"]["index"]["read"] == 1
        assert not {"proxy", "certificates", "backup", "images"} & set(found["checks"])
        assert found["figures"]["package"]["version"]
        assert ask(host, "system")["DatabaseVersion"] == 6
        assert ask(host, "errors") == []
        assert host.ask("GET", "/studies/1.2.3?PatientName=DOE", "eve", "x").code == 404
        told = ask(host, "log 1")[0]
        assert (told["account"], told["path"], told["study"]) == ("-", "/studies/1.2.3", "1.2.3")
        folder = "/var/log/orthanc" if system == "bookworm" else "/var/lib/orthanc"
        modes = host.run(f"stat -c '%a %U' {folder}/access-*.log | sort -u").out
        assert modes == "640 orthanc\n"
        assert not dicom.client("echoscu", host.address).ok
        assert "Rejected" in str(look(host, 1)["reasons"])
        assert look(host, 0)
        host.run("systemctl stop orthanc")
        (reason,) = look(host, 2)["reasons"]
        assert "Orthanc does not run" in reason
