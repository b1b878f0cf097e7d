"""The stand-ins for openSUSE are what the formula would find there.

The tests of a stand-in share a host, from the installation of Orthanc to its removal; each of them
also runs alone.
"""

import json
import time

import orthanc_json
import pytest
import testbed
from minion import Minion

PLUGIN_PACKAGES = [
    f"orthanc-{name}"
    for name in ("dicomweb", "gdcm", "mysql", "postgresql", "python", "webviewer", "wsi")
]


class OpenSuse(Minion):
    """A host with Salt; ``suite`` says which openSUSE it stands in for."""

    def __init__(self, suite, salt_version):
        super().__init__(testbed.root_with_salt(suite, salt_version))
        self.suite = suite

    def salt(self, *words):
        """Return what a function of Salt returns."""
        return json.loads(self.call("--out=json", *words).out)["local"]

    def modes(self, *paths):
        """Return mode, user and group of each path."""
        return self.run(f"stat -c '%a %U %G' {' '.join(paths)}").out.splitlines()

    def start(self):
        """Start Orthanc and return its process id."""
        self.run("systemctl start orthanc")
        self.answer("/system")
        return self.pid()

    def answer(self, path):
        """Return what Orthanc answers as soon as it answers."""
        deadline = time.monotonic() + 60
        while not (answer := self.ask("GET", path)).code and time.monotonic() < deadline:
            time.sleep(0.1)
        assert answer.code, f"{answer}\n{self.run('journalctl -n 50 -u orthanc').out}"
        return answer.json


@pytest.fixture(scope="module", params=["leap", "tumbleweed"])
def pristine(request, salt_version):
    with OpenSuse(request.param, salt_version) as host:
        yield host


@pytest.fixture(scope="module")
def host(pristine):
    """A stand-in with Orthanc."""
    assert set(pristine.salt("pkg.install", "orthanc")) == {"orthanc", "dcmtk"}
    return pristine


def test_salt_sees_opensuse(pristine):
    grains = pristine.salt("grains.item", "os", "os_family", "osfullname", "osrelease", "init")
    assert (grains["os_family"], grains["os"], grains["init"]) == ("Suse", "SUSE", "systemd")
    assert pristine.suite in grains["osfullname"].lower()
    assert not pristine.run("command -v apt-get apt dpkg dpkg-query adduser", check=False).out
    assert not pristine.run("getent passwd orthanc; getent group orthanc", check=False).out
    left = pristine.run(
        "find / -xdev -iname '*orthanc*' -not -path '/srv/*' -not -path '/var/lib/dpkg/*'"
    )
    assert [path for path in left.out.split() if "/liborthancframework" not in path.lower()] == []
    assert pristine.run("systemctl is-enabled sshd", check=False).out == "disabled\n"
    assert "BEGIN CERTIFICATE" in pristine.read("/etc/ssl/ca-bundle.pem")


def test_orthanc_is_installed_as_opensuse_does_it(host):
    assert host.salt("pkg.list_pkgs")["orthanc"] == host.salt("pkg.version", "orthanc")
    assert host.run("systemctl is-enabled orthanc", check=False).out == "disabled\n"
    assert host.pid() == 0
    user = host.run("getent passwd orthanc").out.strip().split(":")
    assert user[5:] == ["/var/lib/orthanc", "/sbin/nologin"]
    assert host.modes("/etc/orthanc", "/var/lib/orthanc") == ["755 orthanc orthanc"] * 2
    assert host.run("ls /etc/orthanc").out.split() == [
        *("Configuration.json", "serve-folders.json", "worklists.json")
    ]
    assert host.modes("/etc/orthanc/*.json") == ["750 orthanc orthanc"] * 3
    assert not host.path("/var/log/orthanc").exists()


def test_its_configuration_is_that_of_opensuse(host):
    options = orthanc_json.parse(host.read("/etc/orthanc/Configuration.json"))
    assert options["Name"] == "MyOrthanc@openSUSE"
    assert options["StorageDirectory"] == "/var/lib/orthanc/OrthancStorage"
    assert options["DicomServerEnabled"] is True
    if host.suite == "leap":
        assert options["IndexDirectory"] == options["StorageDirectory"]
        assert options["Plugins"] == ["/usr/share/orthanc/plugins"]
        assert options["RegisteredUsers"] == {}
        assert options["LimitJobs"] == 10
    else:
        assert options["Plugins"] == []
        assert not {"IndexDirectory", "RegisteredUsers", "AuthenticationEnabled"} & set(options)
    built_in = host.run("timeout 20 /usr/sbin/orthanc --config=-", user="orthanc").out
    assert orthanc_json.parse(built_in) == options


def test_orthanc_serves_hardened_and_logs_to_the_journal(host, image):
    assert host.salt("service.enable", "orthanc") is True
    assert host.salt("service.start", "orthanc") is True
    assert host.answer("/system")["Name"] == "MyOrthanc@openSUSE"
    assert (
        host.answer("/system")["Version"] == host.salt("pkg.version", "orthanc").partition("-")[0]
    )
    assert host.salt("service.status", "orthanc") is True
    assert "Orthanc has started" in host.run("journalctl -u orthanc").out
    shown = host.run("systemctl show -p MemoryDenyWriteExecute,ProtectSystem,Restart orthanc").out
    assert shown.split() == ["Restart=no", "ProtectSystem=yes", "MemoryDenyWriteExecute=yes"]

    assert host.ask("POST", "/instances", data=f"@{image()}").code == 200
    storage = "/var/lib/orthanc/OrthancStorage"
    stored = host.run(f"find {storage} -path '*/??/??/*' -type f", user="nobody").out.split()
    assert host.modes(storage, stored[0]) == ["755 orthanc orthanc", "644 orthanc orthanc"]


def test_plugins_bring_libraries_and_templates_only(host):
    before = host.run("ls /etc/orthanc").out
    host.salt("pkg.install", f"pkgs={json.dumps(PLUGIN_PACKAGES)}")
    assert host.run("ls /etc/orthanc").out == before
    assert {"postgresql.json", "dicomweb.json"} <= set(
        host.run("ls /usr/share/doc/packages/orthanc").out.split()
    )
    libraries = host.run("readlink -e /usr/share/orthanc/plugins/*").out.split()
    folders = {path.rpartition("/")[0] for path in libraries}
    assert folders == {"/usr/lib64/orthanc", "/usr/lib64/share/orthanc/plugins"}
    host.run("systemctl restart orthanc")
    loaded = set(host.answer("/plugins")) - {"explorer.js"}
    if host.suite == "leap":
        assert {"serve-folders", "worklists", "postgresql-index", "dicom-web"} <= loaded
        assert len(loaded) == len(libraries)
    else:
        assert loaded == set()


def test_a_package_can_be_held(host):
    host.salt("pkg.hold", "orthanc")
    (held,) = host.salt("pkg.list_holds")
    assert held.startswith("orthanc-")
    host.run("zypper --non-interactive modifyrepo --enable update")
    version = host.salt("pkg.version", "orthanc")
    host.run("zypper --non-interactive update")
    assert host.salt("pkg.version", "orthanc") == version
    host.salt("pkg.unhold", "orthanc")
    assert host.salt("pkg.list_holds") == []


def harden_and_edit(host):
    """Do what an administrator may have done; return the edited file."""
    host.run("chown root /etc/orthanc /var/lib/orthanc; chmod 0700 /etc/orthanc /var/lib/orthanc")
    host.run("chmod 0640 /etc/orthanc/*.json; echo >> /etc/orthanc/Configuration.json")
    return host.read("/etc/orthanc/Configuration.json")


def packages_have_their_way(host, edited):
    """Say whether folders and files are as packages leave them that are installed over others."""
    folders = host.modes("/etc/orthanc", "/var/lib/orthanc")
    files = host.modes("/etc/orthanc/Configuration.json", "/etc/orthanc/worklists.json")
    assert (folders, files) == (
        ["755 orthanc orthanc", "755 orthanc orthanc"],
        ["640 orthanc orthanc", "750 orthanc orthanc"],
    )
    return host.read("/etc/orthanc/Configuration.json") == edited


def test_an_upgrade_restarts_and_resets_modes_but_for_edited_files(host):
    pid, version = host.start(), host.salt("pkg.version", "orthanc")
    edited = harden_and_edit(host)
    host.run("zypper --non-interactive modifyrepo --enable update")
    host.run("zypper --non-interactive update")
    assert host.salt("pkg.version", "orthanc") == version.replace("-1", "-2")
    assert packages_have_their_way(host, edited)
    assert host.answer("/system")
    assert host.pid() not in (0, pid)


def test_a_reinstallation_does_the_same(host):
    pid = host.start()
    edited = harden_and_edit(host)
    host.run("zypper --non-interactive install --force orthanc")
    assert packages_have_their_way(host, edited)
    assert host.answer("/system")
    assert host.pid() not in (0, pid)


def test_a_removal_leaves_the_images_and_the_user(host):
    host.start()
    harden_and_edit(host)
    host.salt("pkg.remove", "orthanc")
    assert host.pid() == 0
    assert not host.run("rpm -q orthanc", check=False).ok
    assert host.path("/var/lib/orthanc/OrthancStorage/index").exists()
    assert host.run("getent passwd orthanc").ok
    assert host.run("ls /etc/orthanc").out == "Configuration.json.rpmsave\n"
    assert not host.path("/usr/share/orthanc").exists()
