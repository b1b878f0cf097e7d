"""Over salt-ssh: by an ordinary account with sudo, from gitfs, and what stays on the target."""

import json
import re

import documentation
import pytest
import yaml
from ways import GITFS, NEWEST, OLDEST, ROOTS, TOP, SaltSsh, open_for_ssh, put_into_git

PASSWORD = "Geheim-4711"
PILLAR = {"users": {"anna": {"password": PASSWORD, "role": "admin"}}, "remote_access": True}
# All parts of the formula; what they need is not there, because they are only rendered.
ALL_PARTS = {
    **PILLAR,
    "https": {"enabled": True, "certificate": "salt://chain.pem", "key": "salt://key.pem"},
    "postgresql": {"enabled": True},
    "plugins": [{"source": "salt://one-1.0", "insecure": True, "name": "libOne.so"}],
    "backup_key": {"enabled": True},
    "links": {"enabled": True},
}
IDS = {
    *("orthanc-packages", "orthanc-database", "orthanc-nginx-tried", "orthanc-plugin-libOne.so"),
    *("orthanc-config", "orthanc-serving", "orthanc-link-config", "orthanc-backup-key"),
}
SLS = "#!py\ndef run():\n    {}\n    return {{}}\n"
# What is packed counts as well.
FIND = f"""
grep -rlsF {PASSWORD} / /dev/shm --exclude-dir=proc --exclude-dir=sys --exclude-dir=dev |
    grep -v ^/etc/orthanc
find / /tmp /run -xdev -name '*.t*gz' -type f | while read file; do
    tar -xzOf $file 2>/dev/null | grep -qF {PASSWORD} && echo $file
done; true
"""


class Ordinary(SaltSsh):
    """Logs in as an account that may use sudo."""

    def set_up(self):
        super().set_up()
        login = open_for_ssh(self.leader, self.target, user="admin")
        self.leader.write("/etc/salt/roster", yaml.safe_dump({self.id: login}))


DEBIAN = [("trixie", NEWEST), ("bookworm", OLDEST)]


@pytest.fixture(scope="module", params=[*DEBIAN, ("leap", NEWEST)])
def site(request):
    with Ordinary(*request.param) as site:
        site.pillar(**PILLAR)
        yield site


def left_behind(site) -> list[str]:
    """Return the files with the password on the target, Orthanc's own aside."""
    return site.target.run(FIND).out.split()


def test_an_ordinary_account_with_sudo(site):
    assert site.target.run("sudo -n id -u", user="admin").out.strip() == "0"
    site.leader.write("/srv/salt/own.lua", "-- own\n")
    network = {"modalities_in_database": True, "network": {"group": "hospital"}}
    site.pillar(
        **{**PILLAR, **network, "lua_scripts": {"own": "salt://own.lua"}},
        dicom={"enabled": True, "aet": "PACS1"},
    )
    card = {"group": "hospital", "role": "archive", "port": 4242, "tls": False}
    other = {**card, "aet": "SOUTH", "host": "192.0.2.7"}
    site.leader.write(
        "/srv/pillar/cards.json", json.dumps({"south-1": other, "x": {**other, "group": "x"}})
    )
    texts = [text for *_, text in documentation.section("Sites that know each other")]
    gather, group = (text for text in texts if "cards.json" in text)
    site.leader.write("/srv/pillar/network.sls", group)
    site.leader.write("/srv/pillar/top.sls", "base: {'*': [orthanc, network]}")
    run = site.state()
    assert run.ok, str(run)
    assert site.target.ask("GET", "/modalities", "anna", PASSWORD).json == ["south-1"]
    assert site.target.ask("GET", "/system", "anna", PASSWORD, remote=True).code == 200
    assert site.target.read("/etc/orthanc/formula-script-own.lua") == "-- own\n"
    assert site.state().changes == {}
    site.leader.run(gather)
    own = {**card, "role": "workstation", "aet": "PACS1", "host": site.target.address}
    assert json.loads(site.leader.read("/srv/pillar/cards.json")) == {site.id: own}
    # Functions of several files are one module here, too.
    assert site.returned("orthanc.access")["users"] == "anna"
    assert site.returned("orthanc.system")["DatabaseVersion"] == 6
    gone = site.salt("orthanc.answers http://127.0.0.1:1")
    assert (gone.code, "false" in gone.out) == (20, True), gone


@pytest.mark.parametrize("site", DEBIAN, indirect=True, scope="module")
def test_rendering_asks_nothing_of_the_target(site):
    """Compiling the whole formula takes as many commands on the target as compiling nothing."""
    site.leader.write("/srv/salt/nothing.sls", SLS.format(""))
    site.leader.write("/srv/salt/asking.sls", SLS.format('__salt__["cmd.run"]("true")'))
    site.target.write("/etc/ssh/sshd_config.d/log.conf", "LogLevel VERBOSE\n")
    site.target.run("systemctl restart ssh 2>/dev/null || systemctl restart sshd")
    site.pillar(**ALL_PARTS)

    def compiled(sls: str) -> tuple[int, set[str]]:
        """Return how many commands that took on the target, and the IDs of the states."""
        counted = "journalctl | grep -c 'Starting session: command'; true"
        before = int(site.target.run(counted).out)
        low = site.returned(f"state.show_low_sls {sls}")
        return int(site.target.run(counted).out) - before, {chunk["__id__"] for chunk in low}

    compiled("nothing")
    nothing, _ = compiled("nothing")
    asking, _ = compiled("asking")
    orthanc, ids = compiled("orthanc")
    assert ids >= IDS
    assert asking > nothing > 0
    assert orthanc == nothing


def test_what_stays_on_the_target_and_the_switch_that_avoids_it(site):
    site.leader.write("/srv/pillar/top.sls", TOP)
    site.pillar(**PILLAR)
    assert site.state().ok
    (left,) = left_behind(site)
    assert re.fullmatch(r"/var/tmp/\.admin_\w+_salt/salt_state\.tgz", left)
    # It is in the pillar only, not in the states as well.
    packed = {
        name: site.target.run(f"tar -xzOf {left} {name}.json || tar -xzOf {left} ./{name}.json").out
        for name in ("pillar", "lowstate")
    }
    assert (PASSWORD in packed["pillar"], PASSWORD in packed["lowstate"]) == (True, False)
    assert "orthanc_conf" in packed["lowstate"]
    assert site.target.run(f"test -r {left}", user="admin").ok
    assert not site.target.run(f"test -r {left}", user="nobody", check=False).ok
    wiped = site.run("--wipe state.apply orthanc")
    assert wiped.ok, str(wiped)
    assert wiped.changes == {}
    assert PASSWORD not in str(wiped)
    assert left_behind(site) == []
    assert site.target.run("ls -d /var/tmp/.*_salt", check=False).out == ""


@pytest.mark.parametrize("site", DEBIAN, indirect=True, scope="module")
def test_from_gitfs(site):
    """As docs/ways.md says: salt-ssh takes custom modules from local folders only."""
    put_into_git(site.leader)
    site.leader.write("/etc/salt/master", yaml.safe_dump({**ROOTS, **GITFS}))
    site.leader.run("rm -rf /var/cache/salt")
    refused = site.state()
    assert "'orthanc_conf.valid' was not found" in refused.failed["orthanc-pillar"], refused
    ((_, _, text),) = [block for block in documentation.section("gitfs") if "sync_all" in block[2]]
    site.leader.run(text)
    site.pillar(**PILLAR, port=8043)
    run = site.state()
    assert run.ok, str(run)
    assert site.target.ask("GET", "/system", "anna", PASSWORD, remote=True, port=8043).code == 200
