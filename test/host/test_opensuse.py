"""What is different on openSUSE: its package, its unit, and images that everybody may read."""

import json

import dicom
import orthanc_json
import pytest
import testbed
from minion import Minion
from ways import NEWEST, OLDEST

DATA = "/var/lib/orthanc/OrthancStorage"
RELEASE = "rpm -q --qf '%{VERSION}-%{RELEASE}' orthanc"


@pytest.fixture(params=["leap", "tumbleweed"])
def minion(request, salt_version):
    with Minion(testbed.root_with_salt(request.param, salt_version)) as host:
        yield host


@pytest.fixture
def leap(salt_version):
    with Minion(testbed.root_with_salt("leap", salt_version)) as host:
        yield host


def read_by_nobody(host) -> list[str]:
    """Return the files below the data folder that the account nobody can read."""
    found = f"find {DATA} -type f -readable 2>/dev/null; true"
    return host.run(found, user="nobody").out.split()


def open_to_others(host) -> str:
    """Return the files and folders below the data folder whose mode lets others in."""
    return host.run(f"find {DATA} -perm /007").out


def packages_are_not_joined_with_those_of_others(minion, settings):
    """As Salt does with ``state_aggregate``; Salt 3006 finds its requisites recursive then."""
    version = minion.run("rpm -q --qf '%{VERSION}-%{RELEASE}' orthanc").out
    minion.apply(**settings, version=version)
    minion.write("/etc/salt/minion.d/aggregate.conf", "state_aggregate: true")
    minion.write("/srv/salt/own.sls", "own: {pkg.installed: [{pkgs: []}]}")
    run = minion.state("own,orthanc")
    assert run.ok, str(run)
    assert run.changes == {}
    minion.run("rm /etc/salt/minion.d/aggregate.conf /srv/salt/own.sls")


def the_package_is_not_safe(minion):
    """Least of all where somebody opens it without a user: 1.12 lets orthanc:orthanc in."""
    old = "1.12" in minion.run("orthanc --version").out
    if old:
        minion.run("sed -i '/RemoteAccessAllowed/s/false/true/' /etc/orthanc/Configuration.json")
        minion.run("systemctl restart orthanc")
        minion.wait_for_port()
    asked = minion.call("orthanc.security", "--out=json", check=False)
    found = json.loads(asked.out)["local"]
    assert asked.code == 1
    assert {"files", "configuration", "hardening"} <= set(found["fail"])
    assert ("account orthanc" in found["fail"]) is ("clear text" in found["fail"]) is old
    assert ("vulnerabilities" in found["fail"]) is ("plugins" in found["fail"]) is old


@pytest.mark.parametrize(
    ("minion", "salt_version"), [("leap", OLDEST), ("tumbleweed", NEWEST)], indirect=["minion"]
)
def test_nobody_else_reads_an_image(minion, users, image):
    anna = ("anna", users["anna"]["password"])
    minion.run("zypper -n -q install orthanc && systemctl start orthanc")
    minion.wait_for_port()
    assert minion.ask("POST", "/instances", data=f"@{image()}").code == 200
    assert len(read_by_nobody(minion)) > 1, "then there is nothing to close"

    settings = {"users": users, "dicom": {"enabled": True}}
    minion.pillar(**settings)
    minion.call("saltutil.sync_modules")
    the_package_is_not_safe(minion)
    found = json.loads(minion.call("orthanc_conf.diff", "--out=json").out)["local"]
    assert found["gone"] == []
    assert found["options"]["LimitFindResults"] == {"old": 0, "new": 100}
    # What the package says and what Orthanc does by itself are the same here, or are not.
    assert {"StorageDirectory", "HttpPort"}.isdisjoint(found["options"])
    assert minion.state().ok
    assert read_by_nobody(minion) == []
    assert open_to_others(minion) == ""
    assert minion.ask("POST", "/instances", *anna, data=f"@{image()}").code == 200
    assert dicom.client("storescu", minion.address, str(image())).ok
    assert len(minion.ask("GET", "/instances", *anna).json) == 3
    assert open_to_others(minion) == ""

    minion.run("zypper -n -q install --force orthanc")
    assert minion.run("stat -c %a /var/lib/orthanc /etc/orthanc").out.split() == ["755", "755"]
    assert "Anna" in minion.run("grep -rhs password /etc/orthanc").out
    assert minion.run("grep -rhs password /etc/orthanc; true", user="nobody").out == ""
    minion.run("systemctl restart orthanc")
    minion.wait_for_port()
    assert minion.ask("POST", "/instances", *anna, data=f"@{image()}").code == 200
    assert dicom.client("storescu", minion.address, str(image())).ok
    assert len(minion.ask("GET", "/instances", *anna).json) == 5
    assert read_by_nobody(minion) == []
    assert open_to_others(minion) == ""

    assert set(minion.apply(**settings).changes) <= {
        *("orthanc-access", "orthanc-access-content"),
        *("orthanc-home", "orthanc-home-content"),
    }
    assert minion.run("stat -c %a /var/lib/orthanc").out.strip() == "750"
    assert minion.apply(**settings).changes == {}
    packages_are_not_joined_with_those_of_others(minion, settings)


def test_an_interrupted_closing_is_taken_up_again(leap, users):
    leap.run(f"zypper -n -q install orthanc && install -d -o orthanc -m 755 {DATA} {DATA}/aa")
    leap.run(f"echo x > {DATA}/aa/image && ln -s /etc/passwd {DATA}/link")
    leap.run(f"chmod 644 {DATA}/aa/image; chmod 750 /var/lib/orthanc; chown -R orthanc: {DATA}")
    # As root puts back what was lost.
    leap.run(f"echo x > {DATA}/aa/restored; chown daemon:daemon {DATA}/aa/restored")
    tried_on = leap.written()
    leap.pillar(users=users)
    tried = leap.state("orthanc.config", test=True)
    assert "orthanc-storage" in tried.changes
    assert leap.written() == tried_on
    # What is in it comes first; the folder itself, which says that all is done, comes last.
    leap.run(f"salt-call orthanc_access.close {DATA} orthanc orthanc")
    assert open_to_others(leap).split() == [DATA, f"{DATA}/link"]
    assert leap.run("stat -c %a /etc/passwd").out.strip() == "644"
    shown = leap.run(f"stat -c '%a %U %G' {DATA}/aa/restored").out.split()
    assert shown == ["640", "daemon", "orthanc"]
    assert "orthanc-storage" in leap.state("orthanc.config").changes
    assert open_to_others(leap).split() == [f"{DATA}/link"]


def test_the_packages_own_configuration_is_replaced(minion, users):
    """Its RegisteredUsers would stand in two files, and newer packages load no plugin at all."""
    minion.run("zypper -n -q install orthanc")
    shipped = minion.read("/etc/orthanc/Configuration.json")
    modes = "stat -c '%n %a %U %G' /etc/orthanc /etc/orthanc/* /var/lib/orthanc"
    before = minion.run(modes).out
    newest = "Tumbleweed" in minion.read("/etc/os-release")
    assert (orthanc_json.parse(shipped)["Plugins"] == []) is newest
    assert minion.run("systemctl is-enabled orthanc", check=False).out.strip() == "disabled"
    assert minion.pid() == 0
    minion.apply(users=users, packages=["orthanc", "orthanc-dicomweb"])
    assert minion.run("systemctl is-enabled orthanc").out.strip() == "enabled"
    options = json.loads(minion.read("/etc/orthanc/Configuration.json"))
    assert "RegisteredUsers" not in options
    assert options["Plugins"] == ["/usr/share/orthanc/plugins/libOrthancDicomWeb.so"]
    anna = ("anna", users["anna"]["password"])
    assert minion.ask("GET", "/dicom-web/studies", *anna).code == 200
    assert minion.run("readlink /opt/gnuhealth/orthanc/data").out.strip() == DATA
    assert "log" not in minion.run("ls /opt/gnuhealth/orthanc").out

    run = minion.state("orthanc.clean")
    assert run.ok, str(run)
    assert minion.pid() == 0
    assert minion.run("systemctl is-enabled orthanc", check=False).out.strip() == "disabled"
    assert minion.run("rpm -q orthanc").ok
    assert not minion.run("rpm -q orthanc-dicomweb", check=False).ok
    assert minion.read("/etc/orthanc/Configuration.json") == shipped
    assert minion.run(modes).out == before
    assert not minion.run("grep -rs Anna /etc/orthanc", check=False).out
    assert minion.state("orthanc.clean").changes == {}


def test_it_comes_back_by_itself_and_the_journal_tells_why_it_does_not(leap, users):
    leap.apply(users=users)
    anna = ("anna", users["anna"]["password"])
    pid = leap.pid()
    leap.run(f"kill -SEGV {pid}; while test -e /proc/{pid}; do sleep 0.1; done")
    leap.wait_for_port()
    assert leap.ask("GET", "/system", *anna).code == 200

    leap.write("/srv/wrong.lua", 'error("the first reason")')
    wrong = {"users": users, "preflight": False, "config": {"LuaScripts": ["/srv/wrong.lua"]}}
    leap.pillar(**wrong)
    run = leap.state()
    assert "the first reason" in run.failed["orthanc-serving"]
    assert "The last good configuration is back" in run.failed["orthanc-serving"]
    assert leap.ask("GET", "/system", *anna).code == 200
    # The start that went well is the last one; what was wrong before it is no error any more.
    assert "the first reason" not in leap.call("orthanc.errors", "orthanc", "count=1000").out


def one_that_does_not_serve_makes_way(leap, users, old, new):
    """The packages before it come back, and with them the lock on these."""
    name, pid = "/etc/systemd/system/orthanc.service.d/not-with-it.conf", leap.pid()
    leap.write(name, f"[Service]\nExecStartPre=+/bin/sh -c '! rpm -q orthanc | grep -F {new}'\n")
    leap.run("systemctl daemon-reload")
    leap.pillar(users=users, version=new)
    run = leap.state()
    assert run.changes["orthanc-upgrade"] == {"orthanc": {"old": old, "new": new}}
    assert f"Version {old} of the packages is back. The last good" in run.failed["orthanc-serving"]
    assert leap.run(RELEASE).out == old
    assert leap.pid() not in (0, pid)
    assert leap.ask("GET", "/system").code == 401
    # It is not installed again and again, neither by a run nor with the system.
    pid = leap.pid()
    assert "did not serve, and" in leap.state().failed["orthanc-upgrade"]
    assert (leap.run(RELEASE).out, leap.pid()) == (old, pid)
    leap.run(f"rm {name}; systemctl daemon-reload")
    leap.apply(users=users, version=old)
    leap.run("zypper -n -q update orthanc", check=False)
    assert leap.run(RELEASE).out == old


def test_a_version_is_pinned_and_held(leap, users):
    leap.run("zypper -n -q install orthanc")
    version = leap.run(RELEASE).out
    leap.apply(users=users, version=version)
    leap.run("zypper -n -q modifyrepo --enable update")
    assert "lock" in leap.run("zypper -n -q update orthanc", check=False).out
    assert leap.run(RELEASE).out == version
    # The lock is not in the way of who only tries.
    found = json.loads(leap.call("orthanc.try_upgrade", "--out=json").out)["local"]
    assert (found["version"]["old"], found["problems"]) == (version, [])
    assert found["packages"] == {"orthanc": f"{version} -> {found['version']['new']}"}
    assert leap.run(RELEASE).out == version
    assert leap.apply(users=users, version=version).changes == {}
    one_that_does_not_serve_makes_way(leap, users, version, found["version"]["new"])
    leap.apply(users=users)
    leap.run("zypper -n -q update orthanc")
    assert leap.run(RELEASE).out != version
    leap.wait_for_port()
    assert leap.ask("GET", "/system").code == 401
    leap.apply(users=users)
    assert leap.apply(users=users).changes == {}


def test_a_folder_for_logs_of_its_own(leap, users):
    settings = {"users": users, "paths": {"log": "/srv/log"}}
    leap.apply(**settings)
    assert "Orthanc version" in leap.read("/srv/log/orthanc.log")
    assert leap.run("stat -c %a /srv/log").out.strip() == "750"
    assert leap.run("readlink /opt/gnuhealth/orthanc/log").out.strip() == "/srv/log"
    leap.write("/srv/wrong.lua", 'error("the reason")')
    leap.pillar(**settings, preflight=False, config={"LuaScripts": ["/srv/wrong.lua"]})
    assert "the reason" in leap.state().failed["orthanc-serving"]

    run = leap.state("orthanc.clean")
    assert run.ok, str(run)
    assert leap.pid() == 0
    assert not leap.run("rpm -q orthanc", check=False).ok
    # rpm keeps a changed configuration under another name, or removes the one it knows.
    assert not leap.run("grep -rs password /etc/orthanc", check=False).out
    left = ("/opt/gnuhealth", "/etc/systemd/system/orthanc.service.d", "/var/lib/orthanc-formula")
    assert not [path for path in left if leap.path(path).exists()]
    assert leap.state("orthanc.clean").changes == {}
