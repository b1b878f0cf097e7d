"""The ways in which a host gets the formula: masterless, from a master, over salt-ssh.

Each way has two hosts: the ``leader``, where Salt's commands are given and where formula and
pillar are, and the ``target``, which becomes an Orthanc server. Masterless they are the same.

    with WAYS["salt-ssh"]("trixie", "3008.3") as way:
        way.pillar(port=8043)
        assert not way.state().failed
"""

from __future__ import annotations

import contextlib
import json
import pathlib
import re
import shlex

import suse
import testbed
import yaml
from minion import FORMULA, Run, Server

# The newest release of each line of Salt that is tested.
SALT_VERSIONS = (pathlib.Path(__file__).parent / "salt_versions.txt").read_text().split()
OLDEST, *_, NEWEST = SALT_VERSIONS
# Where a master or salt-ssh has the formula and the pillar from.
ROOTS = {
    "file_roots": {"base": [FORMULA, "/srv/salt"]},
    "pillar_roots": {"base": ["/srv/pillar"]},
    "fileserver_list_cache_time": 0,
    "log_level_logfile": "info",
}
# What makes it have the formula from a Git repository; ``put_into_git`` makes that.
GITFS = {
    "file_roots": {"base": ["/srv/salt"]},
    "fileserver_backend": ["roots", "gitfs"],
    "gitfs_provider": "gitpython",
    "gitfs_remotes": [{"file:///srv/git/orthanc-formula.git": [{"base": "main"}]}],
}
TOP = "base: {'*': [orthanc]}"


class Masterless:
    """A host that configures itself; the other ways differ in a few words."""

    id = "local"
    command = "salt-call -l info --retcode-passthrough"
    apply = "state.apply orthanc"
    # What is to be done once: the formula's modules stay as they are.
    sync = " sync_mods=all"

    def __init__(self, system: str, salt_version: str) -> None:
        self.leader = self.target = Server(testbed.root_with_salt(system, salt_version))
        self.shown: dict[str, str] = {}
        self.hosts = contextlib.ExitStack()

    def __enter__(self) -> Masterless:
        for host in dict.fromkeys((self.leader, self.target)):
            self.hosts.enter_context(host)
        self.leader.install_formula(FORMULA)
        self.leader.write("/srv/pillar/top.sls", TOP)
        self.leader.write("/srv/salt/top.sls", TOP)
        self.set_up()
        return self

    def __exit__(self, *error) -> None:
        self.hosts.__exit__(*error)

    def set_up(self) -> None:
        settings = {"file_client": "local", "id": "testhost", **ROOTS}
        self.leader.write("/etc/salt/minion", yaml.safe_dump(settings))

    def pillar(self, **settings) -> None:
        """Set the pillar below ``orthanc:``."""
        self.leader.write("/srv/pillar/orthanc.sls", yaml.safe_dump({"orthanc": settings}))

    def salt(self, words: str, out: str = "json") -> testbed.Result:
        """Run an execution function, and keep all that is printed in ``shown``."""
        printed = "" if out == "default" else f"--out={out}"
        done = self.leader.run_salt(*shlex.split(f"{self.command} {printed} {words}"))
        number = len(self.shown)
        self.shown[f"{number} stdout of {words} {printed}"] = done.out
        self.shown[f"{number} stderr of {words} {printed}"] = done.err
        return done

    def run(self, words: str) -> Run:
        """Run an execution function that returns states."""
        done = self.salt(words)
        return Run(testbed.Result(done.code, self._local(done), done.err))

    def state(self, test: bool = False, out: str = "json"):
        """Apply the formula; return a Run for JSON, and the number of failed states otherwise."""
        words = f"{self.apply}{self.sync} test={test}"
        self.sync = ""
        if out == "json":
            return self.run(words)
        done = self.salt(words, out)
        summary = re.search(r"Failed:\s+(\d+)", done.out)
        assert summary, done
        return int(summary.group(1))

    def returned(self, words: str):
        """Run an execution function and return what it returned."""
        return json.loads(self._local(self.salt(words)))["local"]

    def _local(self, done: testbed.Result) -> str:
        try:
            return json.dumps({"local": json.loads(done.out)[self.id]})
        except (ValueError, KeyError):
            raise AssertionError(f"no JSON of {self.id} came back: {done}") from None


class Master(Masterless):
    """A master on one host, a minion on another, and a top file."""

    id = "pacs1"
    command = "salt -l info -t 300 pacs1"
    apply = "state.highstate"
    sync = ""

    def __init__(self, system: str, salt_version: str) -> None:
        super().__init__(system, salt_version)
        self.leader = Server(testbed.root_with_salt("bookworm", salt_version))

    def set_up(self) -> None:
        start_master(self.leader, ROOTS)
        start_minion(self.leader, self.target, self.id)


class SaltSsh(Masterless):
    """A host on which there is nothing of Salt, and one that configures it."""

    id = "pacs1"
    command = "salt-ssh -l info --log-file=/var/log/salt/ssh --log-file-level=info pacs1"
    sync = ""

    def __init__(self, system: str, salt_version: str) -> None:
        self.leader = Server(leader(salt_version))
        self.target = Server(agentless(system))
        self.shown = {}
        self.hosts = contextlib.ExitStack()

    def set_up(self) -> None:
        login = open_for_ssh(self.leader, self.target)
        self.leader.write("/etc/salt/roster", yaml.safe_dump({self.id: login}))
        self.leader.write("/etc/salt/master", yaml.safe_dump(ROOTS))


WAYS = {"masterless": Masterless, "master": Master, "salt-ssh": SaltSsh}


def put_into_git(host) -> None:
    """Make a bare Git repository of the formula, and remove the folder."""
    host.run("apt-get install -y -qq git >/dev/null", timeout=300)
    host.run(
        f"cd {FORMULA} && git init -q -b main && git add -A"
        " && git -c user.name=x -c user.email=x@example.org commit -qm x"
        " && git clone -q --bare . /srv/git/orthanc-formula.git"
        f" && cd / && rm -rf {FORMULA}"
    )


def start_master(host: Server, settings: dict) -> None:
    """Start a master, and wait until it takes minions."""
    host.write("/etc/salt/master", yaml.safe_dump({"auto_accept": True, **settings}))
    host.run("salt-master -d; until ss -Hltn sport 4506 | grep -q .; do sleep 0.1; done")


def start_minion(master: Server, host: Server, id: str) -> None:
    """Start a minion, and wait until the master reaches it."""
    settings = {"master": master.address, "id": id, "log_level_logfile": "info"}
    settings["cache_jobs"] = True
    host.write("/etc/salt/minion", yaml.safe_dump(settings))
    host.run("salt-minion -d")
    # Each ping costs more than all of this.
    host.run("until ss -Htn state established dport = 4505 | grep -q .; do sleep 0.2; done")
    master.run(f"until salt -t 2 {id} test.ping 2>&1 | grep -q True; do :; done")


def leader(salt_version: str) -> tuple[pathlib.Path, ...]:
    """Return a root with Salt that can do without more for salt-ssh."""
    script = """
        set -e
        apt-get install -y -qq --no-install-recommends openssh-client >/dev/null
        salt-run thin.generate >/dev/null
    """
    base = testbed.root_with_salt("bookworm", salt_version)
    name = f"bookworm-salt{salt_version}-ssh"
    return testbed.layer(name, script, base, lambda host: host.run(script))


def agentless(system: str) -> tuple[pathlib.Path, ...]:
    """Return a root that salt-ssh can log in to."""
    if system in suse.STAND_INS:
        return testbed.root(system)
    script = "apt-get install -y -qq --no-install-recommends openssh-server python3 >/dev/null"
    base = testbed.used(system)
    return testbed.layer(f"{system}-ssh", script, base, lambda host: host.run(script))


def open_for_ssh(leader: Server, target: Server, user: str = "root") -> dict:
    """
    Make the target an agentless host, with an SSH server, Python and nothing else, into which the
    leader logs in as the user; an ordinary one may use sudo. Returns its entry of the roster.
    """
    debian = "apt-get install -y -qq --no-install-recommends {} >/dev/null"
    leader.run(f"command -v ssh || {debian.format('openssh-client')}")
    # On the stand-ins for openSUSE, and on roots for this, they are there already.
    packages = "openssh-server python3" + (" sudo" if user != "root" else "")
    program = "sudo" if user != "root" else "sshd"
    target.run(f"command -v {program} || {debian.format(packages)}")
    target.run("systemctl start ssh 2>/dev/null || systemctl start sshd")
    leader.run("test -e /root/.ssh/id || ssh-keygen -q -t ed25519 -N '' -f /root/.ssh/id")
    login = {"host": target.address, "user": user, "priv": "/root/.ssh/id"}
    if user != "root":
        target.run(f"useradd --create-home --shell /bin/bash {user}")
        target.write("/etc/sudoers.d/admin", f"{user} ALL=(ALL) NOPASSWD: ALL\n")
        login["sudo"] = True
    home = target.run(f"getent passwd {user} | cut -d: -f6").out.strip()
    target.write(f"{home}/.ssh/authorized_keys", leader.read("/root/.ssh/id.pub"))
    target.run(f"chown -R {user}: {home}/.ssh; chmod -R go= {home}/.ssh")
    leader.run(f"ssh-keyscan {target.address} >> /root/.ssh/known_hosts 2>/dev/null")
    return login
