"""The ways in which docs/ways.md says that the formula can be used, done as it says."""

import documentation
import pytest
import testbed
import yaml
from minion import FORMULA, Server
from ways import open_for_ssh, put_into_git


class Admin(Server):
    """A host with Salt and a clone of the formula, and no configuration of Salt at all."""

    def __enter__(self):
        super().__enter__()
        self.install_formula(FORMULA)
        return self


@pytest.fixture
def host(salt_version):
    with Admin(testbed.root_with_salt("bookworm", salt_version)) as host:
        yield host


@pytest.fixture
def first_site(host):
    """The pillar of the README's first site; returns the administrator."""
    documentation.follow(host, "First site")
    users = yaml.safe_load(host.read("/srv/pillar/orthanc.sls"))["orthanc"]["users"]
    return "anna", users["anna"]["password"]


def serves(host, who):
    system = host.ask("GET", "/system", *who, remote=True)
    assert system.code == 200
    assert system.json["DicomAet"] == "HOSPITAL"
    assert host.ask("GET", "/modalities", *who, remote=True).json == ["ct"]
    return True


def test_a_clone_as_a_file_root_and_a_highstate(host, first_site):
    for test in (True, False):
        unsynced = host.run(
            f"salt-call --local --file-root={FORMULA} --retcode-passthrough"
            f" state.apply orthanc test={test}",
            check=False,
        )
        assert not unsynced.ok
        assert "not on this minion yet; nothing was changed" in unsynced.out
        assert "salt-call saltutil.sync_all" in unsynced.out
        assert "sync_mods=all" in unsynced.out
    assert not host.path("/etc/orthanc").exists()
    documentation.follow(host, "A clone as a file root")
    assert serves(host, first_site)
    assert "Failed:     0" in documentation.follow(host, "Highstate with a top file")
    assert "changed=" not in documentation.follow(host, "Highstate with a top file")


def test_gitfs(host, first_site):
    put_into_git(host)
    host.write("/srv/pillar/top.sls", "base: {'*': [orthanc]}")
    documentation.follow(host, "gitfs")
    assert serves(host, first_site)


def test_spm(host, first_site):
    host.write("/srv/pillar/top.sls", "base: {'*': [orthanc]}")
    documentation.follow(host, "SPM")
    host.run(f"rm -rf {FORMULA}")
    host.run("salt-call --local --retcode-passthrough state.apply orthanc sync_mods=all")
    assert serves(host, first_site)
    assert (
        host.read("/srv/spm/pillar/orthanc.sls.orig")
        == (testbed.FORMULA / "pillar.example").read_text()
    )


def test_salt_ssh(host, first_site):
    host.write("/srv/pillar/top.sls", "base: {'*': [orthanc]}")
    with Server(testbed.root("bookworm")) as target:
        login = open_for_ssh(host, target)
        host.run(f"mv {login['priv']} /root/.ssh/id_ed25519")
        printed = documentation.follow(host, "salt-ssh, without an agent", TARGET=target.address)
        assert "Failed:     0" in printed
        assert serves(target, first_site)
        assert first_site[1] not in printed


@pytest.mark.parametrize(
    ("site", "user", "other"), [("north", "nora", "south"), ("south", "sven", "north")]
)
def test_many_sites_from_one_pillar_tree(host, site, user, other):
    documentation.write_files(host, "A clone as a file root")
    documentation.follow(host, "Many sites from one pillar tree")
    host.run(f"echo {site}-1 > /etc/salt/minion_id")
    host.run("salt-call --retcode-passthrough state.apply orthanc sync_mods=all")
    system = host.ask(
        "GET", "/system", user, f"only for the {site}{documentation.OWN}", remote=True
    ).json
    assert (system["DicomAet"], system["Name"]) == (site.upper(), f"Hospital {site.title()}")
    assert (
        other
        not in host.run(
            "cat /etc/orthanc/*.json /etc/orthanc/orthanc-formula-users.lua"
        ).out.lower()
    )


def test_the_example_pillar_as_it_stands(host):
    host.write("/srv/pillar/orthanc.sls", (testbed.FORMULA / "pillar.example").read_text())
    documentation.follow(host, "A clone as a file root")
    assert host.ask("GET", "/system").code == 200
    assert host.ask("GET", "/system", remote=True).code != 200
