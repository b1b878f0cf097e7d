"""The next release of Debian, and with it of Orthanc, comes to a host that the formula manages."""

import json
import shlex

import dicom
import documentation
import pytest
import testbed
from minion import Minion
from pydicom.uid import CTImageStorage, SecondaryCaptureImageStorage

PLUGINS = ["orthanc-dicomweb", "orthanc-gdcm", "orthanc-postgresql", "orthanc-python"]
SID = "deb {} sid main\n"
# Only what is asked for comes from there.
PIN = "Package: *\nPin: release n=sid\nPin-Priority: 100\n"
UPDATE = "apt-get -qq -o Acquire::Check-Valid-Until=false update"
UPGRADE = (
    f"export DEBIAN_FRONTEND=noninteractive; {UPDATE};"
    # What DEBIAN_FRONTEND and an administrator who presses Enter both choose.
    " apt-get install -y -o Dpkg::Options::=--force-confold -t sid {}"
)
# Makes a source of packages: newer ones than those of Debian, each changed by a line of shell in
# the folder of its files. Arguments: pairs of name and line.
OFFER = """
set -e
rm -rf /srv/new; mkdir -p /srv/new; cd /srv/new
while [ $# -gt 0 ]; do
    dpkg-deb -R /var/cache/apt/archives/$1_[0-9]*.deb tree
    sed -i 's/^Version: .*/&+new/' tree/DEBIAN/control
    (cd tree; eval "$2")
    dpkg-deb -Znone -b tree $1.deb >/dev/null; rm -r tree
    { dpkg-deb -f $1.deb; echo "Filename: ./$1.deb"; echo "Size: $(stat -c %s $1.deb)"
      echo "SHA256: $(sha256sum $1.deb | cut -d' ' -f1)"; echo; } >> Packages
    shift 2
done
echo 'deb [trusted=yes] file:/srv/new ./' > /etc/apt/sources.list.d/new.list
apt-get -qq update
"""
UNINSTALLABLE = "printf '#!/bin/sh\\nexit 1' > DEBIAN/postinst"
BROKEN = "sed -i 's|^ExecStart=.*|ExecStart=/bin/false|' usr/lib/systemd/system/orthanc.service"
UNKNOWING = "sed -i s/ZipLoaderThreads/ZipLoaderThreadz/g usr/sbin/Orthanc"
# It tells of itself, and never comes to an end of its start.
SLEEPING = """
cd usr/sbin; mv Orthanc Real
printf '#!/bin/sh\\ncase $1 in --*) exec Real "$@";; esac; exec sleep 299\\n' > Orthanc
chmod 755 Orthanc
"""
# It needs a newer server.
DEPENDING = """
here=$(dpkg-query -Wf '${Version}' orthanc)
sed -i "s/^Depends: /&orthanc (>> $here), /" DEBIAN/control
"""
# The header says another processor.
FOREIGN = (
    "printf '\\002' | dd of=$(ls usr/lib/orthanc/libOrthancDicomWeb.so.*) bs=1 seek=18 conv=notrunc"
)
# It wants to write where its unit does not let it.
NEEDY = r"""
mv usr/sbin/Orthanc usr/sbin/Orthanc-itself
printf '#!/bin/sh
if grep -q " / / ro" /proc/self/mountinfo; then echo "E1130 All is read-only" >&2; exit 1; fi
exec /usr/sbin/Orthanc-itself "$@"' > usr/sbin/Orthanc
chmod 755 usr/sbin/Orthanc
"""
# What the server itself writes meanwhile.
SERVERS_OWN = ("var/lib/orthanc/db", "var/lib/postgresql", "var/log")
# What a try leaves neither on the disk nor running.
ASIDE = "/var/cache/orthanc-formula-aside"

REJECTED = str(SecondaryCaptureImageStorage)
MAIN_FILE = "/etc/orthanc/orthanc.json"
# The option that has another name in the new release. What has another form there, which means the
# same to it, is written and no change.
RENAMED = {"RejectSopClasses": {"old": [REJECTED]}, "RejectedSopClasses": {"new": [REJECTED]}}
ANNA = ("anna", "Anna's password")
SETTINGS = {
    "users": {ANNA[0]: {"password": ANNA[1], "role": "admin"}},
    "packages": ["orthanc", *PLUGINS],
    "remote_access": True,
    "overwrite_instances": True,
    "dicom": {"enabled": True},
    "config": {
        "Name": "Before",
        "DicomWeb": {"Root": "/dicom-web/"},
        "RejectedSopClasses": [REJECTED],
    },
}


@pytest.fixture(scope="module")
def settings():
    network = testbed.network()
    sender = {"AET": "STORESCU", "Host": network.gateway, "Port": 104}
    return {**SETTINGS, "modalities": {"sender": sender}}


@pytest.fixture(scope="module")
def minion(salt_version):
    with Minion(testbed.root_with_salt("trixie", salt_version)) as host:
        yield host


@pytest.fixture
def store(minion, image):
    """A function that sends an image of a class over DICOM, and says whether it was taken."""

    def store(sop_class):
        file = str(image(SOPClassUID=sop_class))
        return dicom.client("storescu", minion.address, file).ok

    return store


def test_the_release_of_a_plugin_is_judged_as_soon_as_it_is_there(minion, settings):
    newer = {**SETTINGS["config"], "DicomWeb": {"OtherBinaryMode": "InlineBinary"}}
    minion.pillar(**{**settings, "config": newer})
    run = minion.state()
    assert run.states["orthanc-pillar"]["result"] is True
    refused = "DicomWeb:OtherBinaryMode: needs orthanc-dicomweb 1.24, this host has 1.20"
    assert refused in run.failed["orthanc-config"]
    assert "OtherBinaryMode" not in minion.run("cat /etc/orthanc/*.json").out
    assert refused in minion.state().failed["orthanc-pillar"]
    # Unless somebody vouches for the section.
    minion.pillar(**{**settings, "config": newer, "plugin_sections": ["DicomWeb"]})
    run = minion.state()
    assert run.ok, str(run)
    assert refused in str(run.states["orthanc-pillar"]["warnings"])


def test_sop_classes_are_rejected_by_the_name_that_1_12_7_reads(minion, settings, store):
    minion.apply(**settings)
    assert minion.ask("GET", "/system", *ANNA).json["Version"] == "1.12.7"
    assert store(CTImageStorage)
    assert not store(REJECTED)


def offer(minion, **changes):
    """Let newer packages be there, each changed by a line of shell."""
    words = [word for name, line in changes.items() for word in (name.replace("_", "-"), line)]
    minion.run(f"set -- {shlex.join(words)}\n{OFFER}")


def package(minion):
    return minion.run("dpkg-query -W -f '${Version}' orthanc").out


def tried(minion, *words):
    """Return what ``orthanc.try_upgrade`` says, which changes nothing."""
    before = minion.pid(), minion.written()
    said = minion.call("orthanc.try_upgrade", *words, "--out=json", check=False)
    changed = [line for line in before[1] ^ minion.written() if not line.startswith(SERVERS_OWN)]
    assert (minion.pid(), changed) == (before[0], [])
    assert not minion.path(ASIDE).exists()
    return json.loads(said.out)["local"] if said.out.startswith("{") else said.out + said.err


def test_what_speaks_against_a_version_is_said_before_it_is_installed(minion, settings):
    config = {**SETTINGS["config"], "ZipLoaderThreads": 2}
    minion.apply(**{**settings, "config": config})
    old = package(minion)
    assert f"has orthanc 9.9, but {old}" in tried(minion, "9.9")
    offer(minion, orthanc=UNKNOWING, orthanc_dicomweb=FOREIGN, orthanc_webviewer=DEPENDING)
    found = tried(minion)
    assert found["version"] == {"old": old, "new": f"{old}+new"}
    assert found["packages"]["orthanc-dicomweb"].endswith("+new")
    assert found["index"] == "stays as it is"
    problems = "\n".join(found["problems"])
    assert "orthanc:config:ZipLoaderThreads: Orthanc 1.12.7 knows no such option any" in problems
    assert "libOrthancDicomWeb.so" in problems
    # A run says the same, and leaves all as it is.
    pid = minion.pid()
    minion.pillar(**{**settings, "config": config, "version": f"{old}+new"})
    run = minion.state()
    assert problems in run.failed["orthanc-upgrade"]
    assert (package(minion), minion.pid(), run.changes) == (old, pid, {})
    # Nor does it come with another package.
    packages = [*settings["packages"], "orthanc-webviewer"]
    minion.pillar(**{**settings, "config": config, "packages": packages})
    run = minion.state()
    assert f"orthanc-webviewer would bring orthanc {old}+new" in run.failed["orthanc-upgrade"]
    assert (package(minion), minion.pid()) == (old, pid)


def test_a_try_that_is_killed_leaves_nothing(minion, settings):
    minion.apply(**settings)
    offer(minion, orthanc=SLEEPING)
    started = "pgrep -fx 'sleep 299' >/dev/null"
    kill = f"for i in $(seq 600); do {started} && break; sleep 0.1; done; kill -KILL $!; wait;"
    minion.run(f"salt-call orthanc.try_upgrade >/dev/null 2>&1 & {kill} ls -d {ASIDE}")
    # The kernel ends what it had started, a moment later.
    minion.run(f"for i in $(seq 100); do {started} || exit 0; sleep 0.1; done; exit 1")
    offer(minion, orthanc="true")
    assert not minion.run(f"grep {ASIDE} /proc/mounts", check=False).out
    assert "stays as it is" in documentation.follow(minion, "Upgrades")
    assert not minion.path(ASIDE).exists()


def test_a_version_that_does_not_serve_makes_way_for_the_one_before(minion, settings, image):
    minion.apply(**settings)
    assert minion.ask("POST", "/instances", *ANNA, data=f"@{image()}").code == 200
    old, stored = package(minion), minion.ask("GET", "/instances", *ANNA).json
    offer(minion, orthanc=BROKEN)
    minion.pillar(**settings, version=f"{old}+new")
    run = minion.state()
    assert run.changes["orthanc-upgrade"] == {"orthanc": {"old": old, "new": f"{old}+new"}}
    assert f"Version {old} of the packages is back. The last good" in run.failed["orthanc-serving"]
    assert package(minion) == old
    assert minion.ask("GET", "/instances", *ANNA).json == stored
    # It is not installed again and again.
    pid = minion.pid()
    assert "did not serve, and" in minion.state().failed["orthanc-upgrade"]
    assert (package(minion), minion.pid()) == (old, pid)
    # There is no room for the way back, and then the package manager fails amid it.
    ready = "/var/lib/orthanc-formula/upgrade"
    offer(minion, orthanc=UNINSTALLABLE)
    minion.run(f"rm -r {ready}; mount -t tmpfs -o size=100k small $(dirname {ready})")
    failed = minion.state().failed["orthanc-upgrade"]
    assert "No space left on device" in failed
    assert "Traceback" not in failed
    assert (minion.pid(), minion.path(f"{ready}").exists()) == (pid, False)
    minion.run(f"umount $(dirname {ready})")
    assert f"{old} is back, and Orthanc serves with it" in minion.state().failed["orthanc-upgrade"]
    assert package(minion) == old
    assert minion.ask("GET", "/instances", *ANNA).json == stored
    minion.run("rm -r /srv/new /etc/apt/sources.list.d/new.list /var/lib/orthanc-formula/upgrade")
    minion.apply(**settings)


def test_a_database_of_a_newer_plugin_is_not_given_to_an_older_one(salt_version):
    with Minion(testbed.root_with_salt("trixie", salt_version)) as host:
        host.apply(postgresql={"enabled": True})
        # As that of Debian 12 has left it.
        host.run('runuser -u postgres -- psql -q orthanc -c "drop table labels"')
        offer(host, orthanc=NEEDY)
        found = tried(host)
        assert found["index"].startswith("changes when the new version starts; the present")
        assert "there is no backup of this server; make a backup" in str(found["problems"])
        host.run("systemctl restart orthanc")
        host.wait_for_port()
        revision = "update globalproperties set value = 11 where property = 4"
        host.run(f'runuser -u postgres -- psql -q orthanc -c "{revision}"')
        problems = "\n".join(tried(host)["problems"])
        assert "the schema of the database has revision 11, and version 5.0 of" in problems
        # It is tried with what the unit keeps from Orthanc.
        assert "E1130 All is read-only\n(orthanc:hardening:ReadWritePaths: the unit" in problems


def test_a_run_brings_the_next_orthanc_with_a_backup_or_without(salt_version, settings, image):
    with Minion(testbed.root_with_salt("trixie", salt_version)) as host:
        host.apply(**settings)
        assert host.ask("POST", "/instances", *ANNA, data=f"@{image()}").code == 200
        stored, old = host.ask("GET", "/instances", *ANNA).json, package(host)
        host.write("/etc/apt/sources.list.d/sid.list", SID.format(testbed.mirror()))
        host.run(UPDATE, timeout=600)
        version = host.run("apt-cache policy orthanc | sed -n 's/ *Candidate: //p'").out.strip()

        # Its index is another one, and there is no backup.
        settings = {**settings, "version": version}
        host.pillar(**settings)
        pid = host.pid()
        refused = host.state().failed["orthanc-upgrade"]
        assert "the index changes when the new version starts; the present version goes" in refused
        assert "there is no backup of this server; make a backup" in refused
        assert (package(host), host.pid()) == (old, pid)

        settings["without_backup"] = True
        run = host.apply(**settings)
        assert package(host) == version
        assert run.changes["orthanc-upgrade"]["orthanc"] == {"old": old, "new": version}
        assert run.changes["orthanc-config"] == {MAIN_FILE: RENAMED}
        assert json.loads(host.read(MAIN_FILE))["OverwriteInstances"] == "Always"
        system = host.ask("GET", "/system", *ANNA, remote=True).json
        assert system["Version"].startswith("1.1") and not system["Version"].startswith("1.12.")
        assert host.ask("GET", "/instances", *ANNA).json == stored
        assert host.ask("GET", f"/instances/{stored[0]}/file", *ANNA).code == 200
        assert host.ask("GET", "/dicom-web/studies", *ANNA).code == 200
        assert not host.path("/var/lib/orthanc-formula/upgrade").exists()
        pid = host.pid()
        assert host.apply(**settings).changes == {}
        assert host.pid() == pid


def test_from_debian_13_to_sid(minion, settings, image, store):
    minion.apply(**settings)
    instances = minion.ask("GET", "/instances", *ANNA).json
    assert minion.ask("POST", "/instances", *ANNA, data=f"@{image()}").code == 200
    (stored,) = {*minion.ask("GET", "/instances", *ANNA).json} - {*instances}
    written = minion.run("cat /etc/orthanc/*.json").out

    minion.write("/etc/apt/sources.list.d/sid.list", SID.format(testbed.mirror()))
    minion.write("/etc/apt/preferences.d/sid", PIN)
    minion.run(UPGRADE.format(" ".join(SETTINGS["packages"])), timeout=600)
    # It starts at once, without the formula, with all that was written for the old release.
    assert minion.run("cat /etc/orthanc/*.json").out == written
    assert minion.path("/etc/orthanc/advanced.json.dpkg-dist").exists()
    minion.wait_for_port()
    assert minion.run("systemctl show -P NRestarts orthanc").out.strip() == "0"
    system = minion.ask("GET", "/system", *ANNA, remote=True).json
    assert system["Version"].startswith("1.1") and not system["Version"].startswith("1.12.")
    assert system["Name"] == "Before"
    assert minion.ask("GET", "/system").code == 401
    assert stored in minion.ask("GET", "/instances", *ANNA).json
    assert minion.ask("GET", f"/instances/{stored}/file", *ANNA).code == 200

    health = "the package went from 1.12.7"
    assert health in minion.call("orthanc.health", check=False).out
    # The run does not bring an older one back by itself.
    minion.pillar(**settings, version="1.12.7*")
    pid, refused = minion.pid(), minion.state().failed["orthanc-pillar"]
    assert "orthanc:version: pins 1.12.7*, and somebody has installed 1.1" in refused
    assert minion.pid() == pid
    minion.pillar(**settings)
    tried = minion.state(test=True)
    run = minion.apply(**settings)
    told = "upgraded outside of Salt, or by a run that failed: orthanc"
    for each in (tried, run):
        assert told in str(each.states["orthanc-pillar"]["warnings"])
    # The packages have reset the modes of their files.
    assert set(run.changes) == {"orthanc-access-content", "orthanc-config", "orthanc-serving"}
    assert run.changes["orthanc-config"] == {MAIN_FILE: RENAMED}
    assert json.loads(minion.read(MAIN_FILE))["OverwriteInstances"] == "Always"
    assert tried.changes["orthanc-config"] == run.changes["orthanc-config"]
    pid, again = minion.pid(), minion.apply(**settings)
    assert again.changes == {}
    assert told not in str(again.states["orthanc-pillar"]["warnings"])
    assert health not in minion.call("orthanc.health", check=False).out
    assert minion.pid() == pid
    assert stored in minion.ask("GET", "/instances", *ANNA).json
    assert minion.ask("GET", "/dicom-web/studies", *ANNA).code == 200
    assert store(CTImageStorage)
    assert not store(REJECTED)
