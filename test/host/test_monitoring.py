"""A real Prometheus that collects from a real server, and its alerts."""

import json
import time

import dicom
import documentation
import pki
import pytest
import testbed
import yaml
from minion import NAME, Minion

RULES = "/etc/prometheus/orthanc.yml"
TEXTFILE = "/var/lib/prometheus/node-exporter"
# No alert waits here, and nothing is looked back at for longer than a test lasts.
SOONER = r"sed -E 's/^( +for:) .*/\1 0s/; s/\[1h\]/[20s]/'"
OFTEN = "sed -i s/30s/1s/g /etc/prometheus/prometheus.yml"
AWAY = {"AET": "AWAY", "Host": "127.0.0.1", "Port": 9, "Timeout": 1}
# How long a change takes until Prometheus has seen it, in seconds.
LIMIT = 60


@pytest.fixture(scope="module")
def server(salt_version):
    script = """
        export DEBIAN_FRONTEND=noninteractive
        apt-get install -qq --no-install-recommends prometheus prometheus-node-exporter >/dev/null
        systemctl disable prometheus
    """
    base = testbed.deployed("trixie", salt_version)
    name = f"trixie-salt{salt_version}-prometheus"
    with Minion(testbed.layer(name, script, base, lambda host: host.run(script))) as host:
        documentation.write_files(host, "Prometheus", **{"pacs.example.org": "127.0.0.1"})
        pillar = yaml.safe_load(host.read("/srv/pillar/orthanc.sls"))["orthanc"]
        host.anna = ("anna", pillar["users"]["anna"]["password"])
        host.watch = ("prometheus", pillar["users"]["prometheus"]["password"])
        host.settings = {
            **pillar,
            "dicom": {"enabled": True},
            "modalities": {"away": AWAY},
            "backup": {"repository": "/srv/backup"},
            # A job that failed is forgotten with a restart.
            "config": {"SaveJobs": False},
        }
        host.apply(**host.settings)
        host.run(
            f"{OFTEN}; {SOONER} /srv/formulas/orthanc-formula/orthanc/monitoring/alerts.yml"
            f" > {RULES}; systemctl restart prometheus"
        )
        yield host


def note_backup(host, days: float) -> None:
    """Let the last good backup, and a drill of it, be so old."""
    one = {"time": int(time.time() - days * 86400), "duration": 1, "error": None, "warning": None}
    host.write("/etc/orthanc.backup", json.dumps({"backup": one, "good": one, "drill": one}))


def refused(host) -> None:
    """Let a device be refused."""
    asked = dicom.client("findscu", host.address, "-k", "QueryRetrieveLevel=STUDY", "-S")
    assert not asked.ok


def firing(host, *names: str) -> None:
    """Wait until these alerts are on, and no other ones."""
    host.run("systemctl start orthanc-health")
    deadline, found = time.monotonic() + LIMIT, None
    while found != {f"Orthanc{name}" for name in names}:
        assert time.monotonic() < deadline, (names, found, host.read(f"{TEXTFILE}/orthanc.prom"))
        time.sleep(0.5)
        answer = host.ask("GET", "/api/v1/alerts", port=9090)
        alerts = answer.json["data"]["alerts"] if answer.code == 200 else ()
        found = {one["labels"]["alertname"] for one in alerts if one["state"] == "firing"}


def test_the_rules_are_what_they_shall_be(server):
    rules, tests = (
        testbed.FORMULA / p for p in ("orthanc/monitoring/alerts.yml", "test/alerts_test.yml")
    )
    server.write("/srv/rules/alerts.yml", rules.read_text())
    server.write("/srv/rules/test.yml", tests.read_text())
    assert "SUCCESS" in server.run("cd /srv/rules && promtool test rules test.yml").out
    server.run(f"cat {TEXTFILE}/orthanc.prom || systemctl start orthanc-health")
    checked = server.run(f"promtool check metrics < {TEXTFILE}/orthanc.prom", check=False)
    assert checked.out + checked.err == "", checked


def test_who_watches_sees_figures_and_nothing_of_anybody(server):
    for path in ("/tools/metrics-prometheus", "/system", "/statistics"):
        assert server.ask("GET", path, *server.watch, remote=True).code == 200
    for path in ("/", "/patients", "/changes", "/jobs", "/modalities", "/tools/metrics"):
        assert server.ask("GET", path, *server.watch, remote=True).code == 403, path
    for method in ("POST", "PUT", "DELETE"):
        sent = server.ask(method, "/system", *server.watch, data="", remote=True)
        assert sent.code in (403, 405), (method, sent)


def test_each_alert_fires_and_ends(server, image):
    stored = server.ask("POST", "/instances", *server.anna, data=f"@{image()}")
    assert stored.code == 200
    firing(server, "Warning")  # there is no backup
    note_backup(server, 0)
    firing(server)

    job = json.dumps({"Resources": [stored.json["ID"]], "Synchronous": False})
    assert server.ask("POST", "/modalities/away/store", *server.anna, data=job).code == 200
    firing(server, "JobsFailed", "Warning")

    pair = pki.make("Test CA", authority=True).sign(NAME, ends=2)
    tls = {"enabled": True, "certificate": pair.pem, "key": pair.key, "require_certificate": False}
    changed = {"storage_reserve": "900 TB", "dicom": {"enabled": True, "tls": tls}}
    server.apply(**{**server.settings, **changed})
    note_backup(server, 4)
    firing(server, "BackupOld", "CertificateEnds", "Critical", "DiskFilling", "DiskFull")
    server.run("systemctl stop orthanc")
    firing(server, "BackupOld", "CertificateEnds", "Critical", "DiskFilling", "DiskFull", "Down")
    note_backup(server, 0)
    server.apply(**server.settings)
    firing(server)

    refused(server)
    firing(server, "DevicesRefused", "Warning")
    firing(server)

    server.run("systemctl stop orthanc-health.timer")
    server.run(f"sed -Ei 's/^(orthanc_health_timestamp_seconds) .*/\\1 1/' {TEXTFILE}/orthanc.prom")
    deadline = time.monotonic() + LIMIT
    while "OrthancNotWatched" not in server.ask("GET", "/api/v1/alerts", port=9090).body.decode():
        assert time.monotonic() < deadline
        time.sleep(0.5)
    # The timer comes back with the next run, and with it what it writes.
    assert set(server.apply(**server.settings).changes) == {"orthanc-monitoring"}
    firing(server)
    assert server.state().changes == {}


def test_the_timer_writes_by_itself_and_goes_without_a_trace(server):
    path = f"{TEXTFILE}/orthanc.prom"
    server.run(f"rm {path}; timeout 150 sh -c 'until test -e {path}; do sleep 0.5; done'")
    assert server.run(f"stat -c '%a %U' {path}").out.split() == ["644", "root"]
    ((_, _, command),) = documentation.section("Icinga and Nagios without Salt")
    note_backup(server, 0)
    refused(server)
    firing(server, "DevicesRefused", "Warning")
    # Nobody has asked this way yet, so it hears of the device, too.
    first, again = (server.run(command, check=False) for _ in range(2))
    assert (first.code, again.code) == (1, 0)
    assert first.out.startswith("ORTHANC WARNING - ")
    assert "DICOM associations were refused" in first.out
    assert again.out.startswith("ORTHANC OK - all is well | ")
    stranger = server.run(command, user="nobody", check=False)
    assert stranger.code == 3
    assert stranger.out == "ORTHANC UNKNOWN - only root may do this; call it with sudo\n"
    assert server.state("orthanc.monitoring.clean").ok
    assert not server.path(path).exists()
    assert server.run("ls /run/orthanc-formula-*.json", check=False).out == ""
    assert server.run("systemctl cat orthanc-health.timer", check=False).code
    # The backups need the program, too.
    assert server.path("/usr/local/lib/orthanc-formula/orthanc_alone.py").exists()
    assert server.apply(**{**server.settings, "monitoring": {"enabled": False}}).changes == {}
    missing = {"enabled": True, "textfile": "/srv/none"}
    server.pillar(**{**server.settings, "monitoring": missing})
    for test in (True, False):
        failed = server.state(test=test).failed
        assert "there is no folder /srv/none; install" in failed["orthanc-monitoring"]
