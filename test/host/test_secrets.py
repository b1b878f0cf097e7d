"""No other account on the host reads a password, whatever the packages do."""

import json
import re

import pytest

PLUGINS = ["dicomweb", "gdcm", "mysql", "postgresql", "python", "webviewer", "wsi"]
PASSWORDS = {
    "user": "Geheim-user-4711",
    "peer": "Geheim-peer-4712",
    "postgresql": "Geheim-postgresql-4713",
    "dicomweb": "Geheim-dicomweb-4714",
}
FOLDERS = "/etc/orthanc /var/lib/orthanc /opt/gnuhealth"


@pytest.fixture(scope="module")
def settings():
    """A pillar with a password in every place that has one, and all plugin packages."""
    return {
        "packages": ["orthanc", *(f"orthanc-{plugin}" for plugin in PLUGINS)],
        "users": {"anna": {"password": PASSWORDS["user"], "role": "admin"}},
        "peers": {
            "other": {"Url": "http://10.0.0.9/", "Username": "x", "Password": PASSWORDS["peer"]}
        },
        "config": {
            "PostgreSQL": {"EnableIndex": False, "Password": PASSWORDS["postgresql"]},
            "DicomWeb": {
                "Servers": {"other": ["http://10.0.0.9/", "x", PASSWORDS["dicomweb"]]},
            },
        },
    }


def read_by_nobody(minion):
    """Return the passwords that the account nobody finds below the folders."""
    found = minion.run(f"grep -rs Geheim {FOLDERS}; true", user="nobody").out
    found += minion.run(
        f"find {FOLDERS} -type f -exec cat {{}} + 2>/dev/null; true", user="nobody"
    ).out
    return re.findall("Geheim-[a-z]+-[0-9]+", found)


def test_nobody_reads_a_password_and_the_output_has_none(minion, settings):
    run = minion.apply(**settings)
    assert "Geheim" not in run.output
    everywhere = minion.run(f"grep -rhs Geheim {FOLDERS}").out
    assert {password for password in PASSWORDS.values() if password in everywhere} == set(
        PASSWORDS.values()
    ), "the passwords are not where this test looks for them"
    assert read_by_nobody(minion) == []
    who = ("anna", PASSWORDS["user"])
    assert minion.ask("GET", "/system", *who).code == 200
    assert minion.ask("GET", "/dicom-web/servers", *who).json == ["other"]


def test_a_changed_password_shows_as_changed_without_the_value(minion, settings):
    minion.apply(**settings)
    changed = json.loads(json.dumps(settings).replace("Geheim-user", "Geheim-anders"))
    minion.pillar(**changed)
    tried = minion.state(test=True)
    done = minion.state()
    for run in (tried, done):
        shown = run.changes["orthanc-config"]["/etc/orthanc/credentials.json"]
        assert shown == {"RegisteredUsers:anna": {"old": "(hidden)", "new": "(hidden)"}}
        assert "Geheim" not in run.output
    minion.apply(**settings)


def test_a_reinstall_of_all_packages_opens_nothing_and_orthanc_starts(minion, settings):
    minion.apply(**settings)
    names = " ".join(settings["packages"])
    minion.run(
        f"DEBIAN_FRONTEND=noninteractive apt-get install -y --reinstall {names}", timeout=600
    )
    # What the packages do to the modes is the reason for this test.
    assert "664" in minion.run("stat -c %a /etc/orthanc/postgresql.json").out
    assert read_by_nobody(minion) == []
    minion.run("systemctl restart orthanc")
    minion.wait_for_port()
    assert minion.ask("GET", "/system", "anna", PASSWORDS["user"]).code == 200
    run = minion.apply(**settings)
    assert set(run.changes) == {"orthanc-access-content"}, str(run)
    assert minion.state().changes == {}


def test_images_are_read_by_nobody_else(minion, settings, image):
    minion.apply(**settings)
    who = ("anna", PASSWORDS["user"])
    assert minion.ask("POST", "/instances", *who, data=f"@{image()}").code == 200
    stored = minion.run("find /var/lib/orthanc -type f").out.split()
    assert any(len(path.rsplit("/", 1)[1]) == 36 for path in stored)
    assert minion.run("find /var/lib/orthanc -type f 2>/dev/null; true", user="nobody").out == ""


def test_a_plugin_section_that_leaves_the_pillar_leaves_its_file(minion, settings):
    minion.apply(**settings)
    assert json.loads(minion.read("/etc/orthanc/dicomweb.json"))["DicomWeb"]
    minion.apply(**{**settings, "config": {}})
    assert json.loads(minion.read("/etc/orthanc/dicomweb.json")) == {}
    assert "Geheim-dicomweb" not in minion.run(f"grep -rhs Geheim {FOLDERS}").out
