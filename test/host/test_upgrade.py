"""The next release of Debian, and with it of Orthanc, comes to a host that the formula manages."""

import dicom
import pytest
import testbed
from minion import Minion
from pydicom.uid import CTImageStorage, SecondaryCaptureImageStorage

PLUGINS = ["orthanc-dicomweb", "orthanc-gdcm", "orthanc-postgresql", "orthanc-python"]
SID = "deb {} sid main\n"
# Only what is asked for comes from there.
PIN = "Package: *\nPin: release n=sid\nPin-Priority: 100\n"
UPGRADE = (
    "export DEBIAN_FRONTEND=noninteractive;"
    " apt-get -qq -o Acquire::Check-Valid-Until=false update;"
    # What DEBIAN_FRONTEND and an administrator who presses Enter both choose.
    " apt-get install -y -o Dpkg::Options::=--force-confold -t sid {}"
)


REJECTED = str(SecondaryCaptureImageStorage)
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
    # The options that have another form or name in the new release.
    changed = {
        "OverwriteInstances": {"old": True, "new": "Always"},
        "RejectSopClasses": {"old": [REJECTED]},
        "RejectedSopClasses": {"new": [REJECTED]},
    }
    # The packages have reset the modes of their files.
    assert set(run.changes) == {"orthanc-access-content", "orthanc-config", "orthanc-serving"}
    assert run.changes["orthanc-config"] == {"/etc/orthanc/orthanc.json": changed}
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
