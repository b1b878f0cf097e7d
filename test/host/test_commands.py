"""The README's first command, on machines that have nothing but a clean clone; and the program that
it leaves there, up to the moment when that takes all of it away.
"""

import re

import documentation
import pytest
import testbed
from minion import Minion

CLONE = "/root/orthanc-formula"
# What is on a machine of the formula's, and of nothing else.
OWN = ("/opt/orthanc-formula", "/var/lib/orthanc-formula", "/run/orthanc-formula")
OWN = (*OWN, "/etc/orthanc-formula", "/usr/local/sbin/orthanc-formula")
# As in an image that is built: services must not be started by packages.
POLICY = "#!/bin/sh\nexit 101\n"


class Machine(Minion):
    """A pristine machine: no Salt, no pillar, a clone of the repository in root's home."""

    before = "export PIP_CACHE_DIR=/root/.cache/pip;"

    def __enter__(self):
        testbed.Host.__enter__(self)
        self.install_formula(CLONE)
        return self

    def command(self, arguments: str = "", check: bool = True):
        """Run the first command of the README and return what it printed."""
        ((_, _, command),) = (b for b in documentation.section("Two commands") if b[0] == "test")
        line = f"{self.before} cd {CLONE} && {command.strip()} {arguments}"
        return self.run(line, check=check, timeout=900)

    def program(self, words: str, check: bool = True):
        """Call the program that the first command has left, from anywhere."""
        return self.run(f"cd /tmp; orthanc-formula {words}", check=check, timeout=900)

    def packages(self) -> set[str]:
        """Return the names of the packages that are installed."""
        return set(self.run(f"sh {CLONE}/orthanc/command/packages.sh").out.split())

    def left(self) -> list[str]:
        """Return which of the formula's own folders are there."""
        return [path for path in OWN if self.run(f"test -e {path}", check=False).ok]


class Building(Machine):
    """One where pip builds all that it needs, with the packages that the script brings for that."""

    before = "export PIP_NO_CACHE_DIR=1;"


MACHINES = {"bookworm": Building, "trixie": Machine, "leap": Machine}


def who(machine: Machine, printed: str) -> dict:
    """Return port, user and password, as the printed text tells where they are."""
    port = re.search(r"Open +http://[^:]+:(\d+)/", printed)[1]
    user = re.search(r"Log in +(\w+)\n", printed)[1]
    pillar = re.search(r"orthanc:users in (\S+)", printed)[1]
    password = re.search(rf"{user}:\n +password: '(.*)'", machine.read(pillar))[1]
    assert password not in printed
    return {"user": user, "password": password, "port": int(port)}


def log_in(machine: Machine, printed: str, **how):
    """Log in as the printed text tells, and return the answer."""
    return machine.ask("GET", "/system", **who(machine, printed), **how)


def failed_alone(failed) -> list[str]:
    """Return the states that are named as those which failed by themselves."""
    alone = failed.out.partition("What failed by itself:\n")[2]
    return [line for line in alone.splitlines() if line and not line.startswith(" ")]


def fail_the_first_run(machine: Machine, start: str):
    """What is refused when all is installed leaves no Orthanc that anything starts."""
    machine.write("/srv/broken.lua", "no Lua at all")
    machine.write("/root/broken.sls", "orthanc: {config: {LuaScripts: [/srv/broken.lua]}}")
    failed = machine.command("/root/broken.sls", check=False)
    assert failed.code != 0
    assert failed_alone(failed) == ["orthanc-config:"]
    assert machine.run("command -v Orthanc || command -v orthanc").ok
    machine.run(f"{start}; sleep 2", check=False)
    assert machine.pid() == 0
    assert machine.ask("GET", "/system").code == 0
    machine.run("rm /var/lib/orthanc-formula/pillar")
    assert "there was none" in machine.command("orthanc.verify", check=False).err
    # What somebody has set up goes unasked no more than users do.
    file = machine.run("ls /etc/orthanc/*.json").out.split()[0]
    text = machine.read(file)
    machine.run(f"echo >> {file}")
    assert f"was configured by hand ({file})" in machine.command(check=False).err
    machine.write(file, text)


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
    assert "users: admin\n" in machine.program("access").out
    assert machine.program("answers").out == "yes\n"
    assert "\nok\n" in documentation.follow(machine, "One command without a master")
    assert "Succeeded: 1\n" in machine.program("state.apply orthanc.validation").out
    assert machine.command("orthanc.answers --out=raw").out.endswith("{'local': True}\n")
    last, other = machine.read("/var/lib/orthanc-formula/pillar"), "/root/other.sls"
    machine.write(other, "orthanc: {prot: 8043}")
    machine.write("/var/lib/orthanc-formula/pillar", other)
    wrong = machine.program("validate", check=False)
    assert wrong.code == 1
    assert "orthanc:prot" in wrong.out
    machine.run(f"rm {other}")
    asked = machine.program("access")
    assert "users: admin\n" in asked.out
    assert f"{other}, is gone" in asked.err
    gone = machine.program("validate", check=False)
    assert (gone.code, gone.out) == (1, "")
    assert gone.err.startswith(f"The pillar of the last run, {other}, is gone.")
    machine.write("/var/lib/orthanc-formula/pillar", last)
    for name in ("orthanc.sls", "/root/none.sls"):
        assert f"no file {name}" in machine.command(name, check=False).err


def take_all_away(machine: Machine, before: set):
    """Nothing goes unasked; then all that came is gone, but for what nobody can get back."""
    stored = machine.run("find /var/lib/orthanc -type f | sort").out
    password = re.search("password: '(.*)'", machine.read("/etc/orthanc-formula/orthanc.sls"))[1]
    asked = machine.program("remove", check=False)
    assert asked.code == 1
    assert "add --yes" in asked.err
    assert machine.left() == list(OWN)
    # Killed when what Salt does is done, and again called.
    machine.run(
        f"orthanc-formula remove --yes >/root/gone & until grep -q '^# The rest' {OWN[4]};"
        " do sleep 0.05; done; kill -9 $!; while pgrep -x 'dpkg|rpm'; do sleep 0.1; done"
    )
    gone = machine.read("/root/gone")
    other = machine.program("status", check=False)
    assert other.code == 1
    assert "A removal was begun and not finished" in other.err
    assert documentation.follow(machine, "Taking it away").endswith("All of it is gone.\n")
    assert "images: /var/lib/orthanc" in gone
    assert machine.left() == []
    assert machine.pid() == 0
    assert machine.packages() == before
    # Nor does anything go later on.
    assert not machine.run("dpkg --get-selections | grep -w purge", check=False).ok
    assert not machine.run(f"grep -rsl {password} /etc /opt /root /run /usr/local /var", False).ok
    left = machine.run("find /var/lib/orthanc -type f | sort").out.split()
    assert {path for path in stored.split() if not path.endswith(("-wal", "-shm"))} <= set(left)
    assert not machine.run(
        "find / -xdev -name '*orthanc-formula*' ! -path '/root/*' | grep .", False
    ).ok


def take_the_formula_away(machine: Machine, before: set):
    """The server goes on as it is, and so does what only it needs."""
    metrics, pillar = "/var/lib/prometheus/node-exporter/orthanc.prom", OWN[3] + "/orthanc.sls"
    machine.run(f"mkdir -p $(dirname {metrics})")
    machine.run(f"printf '  monitoring: {{enabled: true}}\n' >> {pillar}")
    machine.program("apply")
    machine.run(f"systemctl start orthanc-health; test -s {metrics}")
    pid, files = machine.pid(), machine.run("cd /etc/orthanc; md5sum *.json *.lua").out
    gone = machine.program("remove --keep-orthanc --yes").out
    assert "orthanc-health, which needs nothing of what goes" in gone
    assert machine.left() == ["/var/lib/orthanc-formula"]
    assert machine.run("ls /var/lib/orthanc-formula").out.split() == [
        "first-run.json",
        "for-orthanc",
    ]
    assert machine.pid() == pid
    assert machine.run("cd /etc/orthanc; md5sum *.json *.lua").out == files
    assert not {"gcc", "python3-venv"} & machine.packages()
    machine.run(f"rm {metrics}; systemctl start orthanc-health; test -s {metrics}")


@pytest.mark.parametrize("system", MACHINES)
def test_on_a_pristine_booted_machine(system):
    with MACHINES[system](testbed.root(system)) as machine:
        assert not machine.run("command -v salt-call orthanc Orthanc", check=False).ok
        pillar, last = "/etc/orthanc-formula/orthanc.sls", "/var/lib/orthanc-formula/pillar"
        before = machine.packages()
        assert "it is not kept" in machine.command("test=True").out
        assert not any(machine.path(path).exists() for path in (pillar, last, "/etc/orthanc"))
        fail_the_first_run(machine, "systemctl start orthanc; systemctl restart orthanc")
        first = machine.command().out
        assert "Orthanc serves with the pillar as it is now" in first
        assert "pillar.example" in first
        assert "orthanc-formula status" in first
        assert len(first.splitlines()) < 40
        assert log_in(machine, first).code == 200
        assert machine.ask("GET", "/system").code == 401
        pid = machine.pid()

        assert "Nothing changed" in machine.command().out
        assert machine.pid() == pid
        # The program has a copy of its own of all that it needs.
        machine.run(f"mv {CLONE} /root/away")
        assert machine.program("answers").out == "yes\n"
        machine.run(f"mv /root/away {CLONE}")

        assert machine.run(f"stat -c '%a %U' {pillar}").out.strip() == "600 root"
        machine.run(f"sed -i 's/  # remote_access: true/  remote_access: true/' {pillar}")
        tried = machine.command(f"{pillar} test=True").out
        assert "would be changed" in tried
        assert machine.pid() == pid
        third = machine.command().out
        assert "other hosts" in third
        assert "RemoteAccessAllowed: false -> true" in third
        admin = who(machine, third)
        assert machine.ask("GET", "/system", **admin, remote=True).code == 200
        if system == "trixie":
            take_the_formula_away(machine, before)
            assert machine.ask("GET", "/system", **admin, remote=True).code == 200
        else:
            take_all_away(machine, before)


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
    # Who cannot read what is there takes nothing of it away.
    served.write("/etc/orthanc/two.json", '{"RegisteredUsers": {}}')
    broken = served.command(check=False)
    assert broken.code != 0
    assert "cannot be read (RegisteredUsers is set in two files" in broken.err
    served.run("rm /etc/orthanc/two.json")
    assert not served.path(pillar).exists()
    assert served.pid() == pid
    served.run(f"mv /root/orthanc.sls {pillar}; mv /root/pillar /var/lib/orthanc-formula")


def test_pillars_of_somebodys_own(served):
    served.write("/root/mine.sls", "orthanc: {prot: 8043, remote_access: true}")
    refused = served.command("/root/mine.sls", check=False)
    assert refused.code != 0
    assert "orthanc:prot" in refused.out
    assert failed_alone(refused) == ["orthanc-pillar:"]
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


def test_what_means_nothing_is_told_in_a_line(served):
    served.write("/root/mine.sls", "orthanc: {users: {}}")
    for words, code, said in (
        ("bakcup", 2, "the nearest one is backup"),
        ("'$(touch /root/hostile)'", 2, "There is no word $(touch"),
        (
            "errors '--config-dir=/nowhere' 'x=`touch /root/hostile`'",
            2,
            "errors takes no --config-dir",
        ),
        ("echo", 2, "echo needs NAME. Usage: echo NAME"),
        ("jobs 0", 2, "limit must be a whole number"),
        ("apply tset=True", 2, "A run takes no tset=True; the nearest one is test="),
        ("status /etc/orthnac", 3, "there is no folder /etc/orthnac"),
        ("remove --now", 2, "remove takes --yes and --keep-orthanc"),
        ("backup", 1, "there is no backup on this host; set orthanc:backup:repository"),
    ):
        wrong = served.program(words, check=False)
        assert wrong.code == code, wrong
        assert said in wrong.err
        assert "Traceback" not in str(wrong)
    assert not served.path("/root/hostile").exists()
    served.run("useradd eve; chmod 711 /root")
    for words, said in (("status", "This needs root: sudo orthanc-formula status"), ("help", "")):
        denied = served.run(f"orthanc-formula {words}", check=False, user="eve")
        assert denied.code == (3 if said else 0)
        assert said in denied.err


def test_one_run_after_the_other(served):
    lock = "/run/orthanc-formula/lock"
    held = f"echo 4711 > {lock}; until test -e /root/go; do sleep 0.1; done"
    served.run(f"flock {lock} sh -c '{held}' >/dev/null 2>&1 &")
    served.run(f"until grep -q 4711 {lock}; do sleep 0.1; done")
    for second in (served.program("apply", check=False), served.command(check=False)):
        assert second.code == 1
        assert second.err == (
            "Another run goes on: process 4711, or its Salt where that was killed. Wait until it"
            " has ended.\n"
        )
    assert served.program("validate").ok
    served.run("touch /root/go")
    served.run(f"until flock -n {lock} true; do sleep 0.1; done")
    # What a killed run has left, with the pillar in it, goes with the next one.
    served.run("mkdir -p /run/orthanc-formula/4194305-x/pillar")
    served.program("validate")
    assert served.run("ls /run/orthanc-formula").out == "lock\n"


def test_all_that_salt_says(served):
    whole = served.program("apply --verbose").out
    assert "Summary for local" in whole
    assert whole.count("Result: True") > 20
    assert "Open        http" in whole


def test_what_was_there_before_stays(served):
    """Orthanc's package and Salt; and it asks first, where there is somebody to ask."""
    before = served.packages()
    asked = "dicom: {enabled: true}, worklists: {enabled: true, folder: /srv/lists}"
    served.write("/root/mine.sls", f"orthanc: {{users: {{}}, {asked}}}")
    served.command("/root/mine.sls")
    words = "printf 'no\\n' | script -qec 'orthanc-formula remove' /dev/null"
    asked = served.run(words, check=False)
    assert asked.code == 1
    assert "Take it away? Type yes: " in asked.out
    assert "Nothing was removed." in asked.out
    gone = served.program("remove --yes").out
    assert "/root/mine.sls, the pillar that you wrote" in gone
    assert "the worklists: /srv/lists\n" in gone
    assert served.packages() == before
    assert served.left() == []
    assert served.run("salt-call --version").ok
    assert served.path("/root/mine.sls").exists()


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
        if not policy:
            assert machine.program("remove --yes").out.endswith("All of it is gone.\n")
            assert (machine.pid(), machine.left()) == (0, [])


def test_ci_calls_the_second_command_and_nothing_else():
    script = (testbed.FORMULA / ".ci/run").read_text()
    lines = [line for line in script.splitlines() if line and not line.startswith("#")]
    assert len(lines) == 1
    ((_, _, command),) = (b for b in documentation.section("Two commands") if b[0] == "")
    assert command.strip() == "bash test/run.sh"
    assert "test/run.sh" in lines[0]
    # Otherwise a machine that cannot boot hosts skips their tests and ends well.
    assert "env CI=true" in lines[0]
