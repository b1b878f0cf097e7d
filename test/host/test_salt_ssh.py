"""Over salt-ssh: by an ordinary account with sudo, from gitfs, and what stays on the target."""

import re

import pytest
import readme
import yaml
from ways import GITFS, NEWEST, OLDEST, ROOTS, SaltSsh, open_for_ssh, put_into_git

PASSWORD = "Geheim-4711"
PILLAR = {"users": {"anna": {"password": PASSWORD, "role": "admin"}}, "remote_access": True}
SLS = "#!py\ndef run():\n    {}\n    return {{}}\n"
# What is packed counts as well.
FIND = f"""
find /tmp /var /root /home /opt -type f | while read file; do
    case $file in *gz) tar -xzOf $file ;; *) cat $file ;; esac 2>/dev/null |
        grep -qF {PASSWORD} && echo $file
done; true
"""


class Ordinary(SaltSsh):
    """Logs in as an account that may use sudo."""

    def set_up(self):
        super().set_up()
        login = open_for_ssh(self.leader, self.target, user="admin")
        self.leader.write("/etc/salt/roster", yaml.safe_dump({self.id: login}))


@pytest.fixture(scope="module", params=[("trixie", NEWEST), ("bookworm", OLDEST)])
def site(request):
    with Ordinary(*request.param) as site:
        site.pillar(**PILLAR)
        yield site


def left_behind(site) -> list[str]:
    """Return the files with the password on the target, Orthanc's own aside."""
    return site.target.run(FIND).out.split()


def test_an_ordinary_account_with_sudo(site):
    assert site.target.run("sudo -n id -u", user="admin").out.strip() == "0"
    run = site.state()
    assert run.ok, str(run)
    assert site.target.ask("GET", "/system", "anna", PASSWORD, remote=True).code == 200
    assert site.state().changes == {}


def test_rendering_asks_nothing_of_the_target(site):
    """Compiling the whole formula takes as many commands on the target as compiling nothing."""
    site.leader.write("/srv/salt/nothing.sls", SLS.format(""))
    site.leader.write("/srv/salt/asking.sls", SLS.format('__salt__["cmd.run"]("true")'))
    site.target.write("/etc/ssh/sshd_config.d/log.conf", "LogLevel VERBOSE\n")
    site.target.run("systemctl restart ssh")

    def commands(sls: str) -> int:
        counted = "journalctl --unit ssh | grep -c 'Starting session'; true"
        before = int(site.target.run(counted).out)
        site.returned(f"state.show_low_sls {sls}")
        return int(site.target.run(counted).out) - before

    commands("nothing")
    assert commands("asking") > commands("nothing") > 0
    assert commands("orthanc") == commands("nothing")


def test_what_stays_on_the_target_and_the_switch_that_avoids_it(site):
    site.state()
    (left,) = left_behind(site)
    assert re.fullmatch(r"/var/tmp/\.\w+_salt/salt_state\.tgz", left)
    wiped = site.salt("--wipe state.apply orthanc")
    assert "Geheim" not in wiped.out + wiped.err
    assert left_behind(site) == []
    assert site.target.run("ls -d /var/tmp/.*_salt", check=False).out == ""


def test_from_gitfs(site):
    """As the README says: salt-ssh takes custom modules from local folders only."""
    put_into_git(site.leader)
    site.leader.write("/etc/salt/master", yaml.safe_dump({**ROOTS, **GITFS}))
    site.leader.run("rm -rf /var/cache/salt")
    refused = site.state()
    assert "'orthanc_conf.valid' was not found" in refused.failed["orthanc-pillar"], refused
    ((_, _, text),) = [block for block in readme.section("gitfs") if "sync_all" in block[2]]
    site.leader.run(text)
    site.pillar(**PILLAR, port=8043)
    run = site.state()
    assert run.ok, str(run)
    assert site.target.ask("GET", "/system", "anna", PASSWORD, remote=True, port=8043).code == 200
