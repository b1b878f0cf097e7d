"""The next release of Debian, and with it of Orthanc, comes to a host that the formula manages."""

import testbed
from minion import Minion

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


def test_from_debian_13_to_sid(salt_version, users, image):
    packages = ["orthanc", *PLUGINS]
    settings = {
        "users": users,
        "packages": packages,
        "remote_access": True,
        "overwrite_instances": True,
        "dicom": {"enabled": True},
        "config": {"Name": "Before", "DicomWeb": {"Root": "/dicom-web/"}},
    }
    anna = ("anna", users["anna"]["password"])
    with Minion(testbed.root_with_salt("trixie", salt_version)) as minion:
        minion.apply(**settings)
        assert minion.ask("GET", "/system", *anna).json["Version"].startswith("1.12.")
        assert minion.ask("POST", "/instances", *anna, data=f"@{image()}").code == 200
        (stored,) = minion.ask("GET", "/instances", *anna).json
        written = minion.run("cat /etc/orthanc/*.json").out

        minion.write("/etc/apt/sources.list.d/sid.list", SID.format(testbed.mirror()))
        minion.write("/etc/apt/preferences.d/sid", PIN)
        minion.run(UPGRADE.format(" ".join(packages)), timeout=600)
        # It starts at once, without the formula, with all that was written for the old release.
        assert minion.run("cat /etc/orthanc/*.json").out == written
        assert minion.path("/etc/orthanc/advanced.json.dpkg-dist").exists()
        minion.wait_for_port()
        assert minion.run("systemctl show -P NRestarts orthanc").out.strip() == "0"
        system = minion.ask("GET", "/system", *anna, remote=True).json
        assert system["Version"].startswith("1.1") and not system["Version"].startswith("1.12.")
        assert system["Name"] == "Before"
        assert minion.ask("GET", "/system").code == 401
        assert minion.ask("GET", "/instances", *anna).json == [stored]
        assert minion.ask("GET", f"/instances/{stored}/file", *anna).code == 200

        tried = minion.state(test=True)
        run = minion.apply(**settings)
        # The one option that has another form in the new release.
        changed = {"OverwriteInstances": {"old": True, "new": "Always"}}
        # The packages have reset the modes of their files.
        assert set(run.changes) == {"orthanc-access", "orthanc-config", "orthanc-serving"}
        assert run.changes["orthanc-config"] == {"/etc/orthanc/orthanc.json": changed}
        assert tried.changes["orthanc-config"] == run.changes["orthanc-config"]
        pid = minion.pid()
        assert minion.apply(**settings).changes == {}
        assert minion.pid() == pid
        assert minion.ask("GET", "/instances", *anna).json == [stored]
        assert minion.ask("GET", "/dicom-web/studies", *anna).code == 200
