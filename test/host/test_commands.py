"""The README's first command, on machines that have nothing but a clean clone."""

import re

import documentation
import pytest
import testbed
from minion import Minion

CLONE = "/root/orthanc-formula"
# As in an image that is built: services must not be started by packages.
POLICY = "#!/bin/sh\nexit 101\n"


class Machine(Minion):
    """A pristine machine: no Salt, no pillar, a clone of the repository in root's home."""

    before = ""

    def __enter__(self):
        testbed.Host.__enter__(self)
        self.install_formula(CLONE)
        return self

    def command(self, arguments: str = "", check: bool = True):
        """Run the first command of the README and return what it printed."""
        ((_, _, command),) = (b for b in documentation.section("Two commands") if b[0] == "test")
        line = f"{self.before} cd {CLONE} && {command.strip()} {arguments}"
        return self.run(line, check=check, timeout=900)


class Building(Machine):
    """One where pip builds all that it needs, with the packages that the script brings for that."""

    before = "export PIP_NO_CACHE_DIR=1;"


MACHINES = {"bookworm": Building, "trixie": Machine, "leap": Building}


def log_in(machine: Machine, printed: str, **how):
    """Log in as the printed text tells, and return the answer."""
    url = re.search(r"Open +http://[^:]+:(\d+)/", printed)
    user = re.search(r"Log in +(\w+)\n", printed)[1]
    pillar = re.search(r"orthanc:users in (\S+)", printed)[1]
    password = re.search(rf"{user}:\n +password: '(.*)'", machine.read(pillar))[1]
    assert password not in printed
    return machine.ask("GET", "/system", user, password, port=int(url[1]), **how)


def fail_the_first_run(machine: Machine, start: str):
    """What is refused when all is installed leaves no Orthanc that anything starts."""
    machine.write("/srv/broken.lua", "no Lua at all")
    machine.write("/root/broken.sls", "orthanc: {config: {LuaScripts: [/srv/broken.lua]}}")
    failed = machine.command("/root/broken.sls", check=False)
    assert failed.code != 0
    alone = failed.out.partition("What failed by itself")[2]
    assert "ID: orthanc-config" in alone, failed
    assert alone.count("Result: False") == 1
    assert machine.run("command -v Orthanc || command -v orthanc").ok
    machine.run(f"{start}; sleep 2", check=False)
    assert machine.pid() == 0
    assert machine.ask("GET", "/system").code == 0
    machine.run("rm /var/lib/orthanc-formula/pillar")
    assert "there was none" in machine.command("orthanc.access", check=False).err


def hold_what_salt_cannot_read(machine: Machine):
    """Each mistake in a pillar file is said in three lines, without a traceback."""
    for text, words in {
        "orthanc:\n\tport: 8043\n": "line 2, column 1: this is no YAML.\nHere, there is a tab",
        "orthanc:\n  users:\n    a:\n      password: %x\n": "line 4, column 17",
        "orthanc:\n  users:\n    a:\n      password: x: y\n": "put the value in single quotes",
        "orthanc: {port: {{ nine + }}}\n": "line 1: Jinja cannot render this",
    }.items():
        machine.write("/root/mine.sls", text)
        wrong = machine.command("/root/mine.sls", check=False)
        assert wrong.code != 0
        assert words in wrong.err, wrong
        assert "Traceback" not in wrong.out + wrong.err
        assert len(wrong.err.strip().splitlines()) == 3


def call_what_salt_call_would(machine: Machine):
    """What the README has for daily work is done with the pillar of the last run."""
    assert "'users': 'admin'" in machine.command("orthanc.access --out=raw").out
    assert machine.command("orthanc.answers").out == "local:\n    True\n"
    assert "Succeeded: 1\n" in machine.command("state.apply orthanc.validation").out
    last, other = machine.read("/var/lib/orthanc-formula/pillar"), "/root/other.sls"
    machine.write(other, "orthanc: {prot: 8043}")
    machine.write("/var/lib/orthanc-formula/pillar", other)
    wrong = machine.command("orthanc_conf.validate", check=False)
    assert wrong.code == 1
    assert "orthanc:prot" in wrong.out
    machine.write("/var/lib/orthanc-formula/pillar", last)
    for name in ("orthanc.sls", "/root/none.sls"):
        assert f"no file {name}" in machine.command(name, check=False).err


@pytest.mark.parametrize("system", MACHINES)
def test_on_a_pristine_booted_machine(system):
    with MACHINES[system](testbed.root(system)) as machine:
        assert not machine.run("command -v salt-call orthanc Orthanc", check=False).ok
        pillar, last = "/etc/orthanc-formula/orthanc.sls", "/var/lib/orthanc-formula/pillar"
        assert "it is not kept" in machine.command("test=True").out
        assert not any(machine.path(path).exists() for path in (pillar, last, "/etc/orthanc"))
        fail_the_first_run(machine, "systemctl start orthanc; systemctl restart orthanc")
        first = machine.command().out
        assert "Orthanc serves with the pillar as it is now" in first
        assert "pillar.example" in first
        assert log_in(machine, first).code == 200
        assert machine.ask("GET", "/system").code == 401
        pid = machine.pid()

        assert "Nothing changed" in machine.command().out
        assert machine.pid() == pid
        assert machine.command("orthanc.answers").out == "local:\n    True\n"

        assert machine.run(f"stat -c '%a %U' {pillar}").out.strip() == "600 root"
        machine.run(f"sed -i 's/  # remote_access: true/  remote_access: true/' {pillar}")
        tried = machine.command(f"{pillar} test=True").out
        assert "would be changed" in tried
        assert machine.pid() == pid
        third = machine.command().out
        assert "other hosts" in third
        assert log_in(machine, third, remote=True).code == 200


@pytest.fixture(scope="module")
def served(salt_version):
    """A machine that had Salt, and has run the command."""
    with Machine(testbed.deployed("bookworm", salt_version)) as machine:
        assert "Using the installed salt-call" in machine.command().out
        yield machine


def test_what_the_readme_has_for_daily_work(served):
    call_what_salt_call_would(served)


def test_a_pillar_for_trying_out_takes_no_users_away(served):
    pid, pillar = served.pid(), "/etc/orthanc-formula/orthanc.sls"
    served.run(f"mv {pillar} /var/lib/orthanc-formula/pillar /root")
    lost = served.command(check=False)
    assert lost.code != 0
    assert "has users already (admin)" in lost.err
    assert not served.path(pillar).exists()
    assert served.pid() == pid
    served.run(f"mv /root/orthanc.sls {pillar}; mv /root/pillar /var/lib/orthanc-formula")


def test_pillars_of_somebodys_own(served):
    served.write("/root/mine.sls", "orthanc: {prot: 8043, remote_access: true}")
    refused = served.command("/root/mine.sls", check=False)
    assert refused.code != 0
    assert "orthanc:prot" in refused.out
    # Once among all that Salt says, and once alone.
    alone = refused.out.partition("What failed by itself")[2]
    assert alone.count("Result: False") == 1
    assert "orthanc:prot" in alone
    hold_what_salt_cannot_read(served)
    served.write("/root/mine.sls", "orthanc: {port: 8043, users: {}}")
    assert "http://127.0.0.1:8043/" in served.command("/root/mine.sls").out
    assert served.ask("GET", "/system", port=8043).code == 200
    pid = served.pid()
    again = served.command().out
    assert "with the pillar /root/mine.sls" in again
    assert "Nothing changed" in again
    assert served.pid() == pid
    served.write("/root/mine.sls", "orthanc: {port: 8044, paths: {config: /srv/etc}}")
    assert "http://127.0.0.1:8044/" in served.command("/root/mine.sls").out
    served.write("/root/mine.sls", "port: 8043")
    assert "no key orthanc:" in served.command("/root/mine.sls", check=False).err


@pytest.mark.parametrize("policy", ["", POLICY], ids=["no policy-rc.d", "policy-rc.d"])
def test_where_systemd_is_not_pid_1(salt_version, policy):
    """With policy-rc.d, Salt comes from the script; without, an installed one is used."""
    layers = testbed.root("bookworm")
    if not policy:
        layers = testbed.root_with_salt("bookworm", salt_version)
    with Machine(layers, booted=False) as machine:
        assert "systemd" not in machine.read("/proc/1/comm")
        if policy:
            machine.write("/usr/sbin/policy-rc.d", policy)
            machine.run("chmod +x /usr/sbin/policy-rc.d")
        fail_the_first_run(machine, "service orthanc start; /etc/init.d/orthanc restart")
        first = machine.command().out
        assert ("Using the installed salt-call" in first) is (not policy)
        assert re.search("orthanc was (re)?started and answers at", first)
        assert log_in(machine, first).code == 200
        pid = machine.pid()
        second = machine.command().out
        assert "Nothing changed" in second
        assert machine.pid() == pid

        machine.write("/root/mine.sls", "orthanc: {users: {}, config: {Name: Changed}}")
        changed = machine.command("/root/mine.sls").out
        assert "orthanc was restarted and answers at" in changed
        assert machine.ask("GET", "/system").json["Name"] == "Changed"
        assert machine.pid() != pid
        machine.run("service orthanc stop")
        assert "orthanc was started and answers at" in machine.command("/root/mine.sls").out
        assert machine.ask("GET", "/system").code == 200


def test_ci_calls_the_second_command_and_nothing_else():
    script = (testbed.FORMULA / ".ci/run").read_text()
    lines = [line for line in script.splitlines() if line and not line.startswith("#")]
    assert len(lines) == 1
    ((_, _, command),) = (b for b in documentation.section("Two commands") if b[0] == "")
    assert command.strip() == "bash test/run.sh"
    assert "test/run.sh" in lines[0]
    # Otherwise a machine that cannot boot hosts skips their tests and ends well.
    assert "env CI=true" in lines[0]
