"""Test hosts for an Orthanc server: one that is asked, and one that applies the formula itself."""

from __future__ import annotations

import json
import pathlib
import select
import subprocess

import yaml
from testbed import Host, Network, Result, network

FORMULA = "/srv/formulas/orthanc-formula"
# The name by which clients know a server with HTTPS.
NAME = "pacs.example.org"
MINION = f"""\
file_client: local
file_roots: {{base: [{FORMULA}, /srv/salt]}}
pillar_roots: {{base: [/srv/pillar]}}
fileserver_list_cache_time: 0
grains_cache: true
id: testhost
"""
# What a run of Salt writes for itself, also with test=True: the lists of packages among it.
SALTS_OWN = (
    *("var/cache/salt", "var/log", "etc/salt", "srv/pillar", "root"),
    *("tmp", "run", "var/tmp", "var/cache/apt", "var/lib/apt/lists", "var/cache/zypp"),
    *("var/lib/rpm/rpmdb.sqlite-shm", "srv/rpm"),
)
# The formula's own note of what images there are follows them.
NOTE = "etc/orthanc.identity"


class Run:
    """What ``state.apply`` returned: ``ok``, ``changes`` and ``failed`` by state ID, ``output``."""

    def __init__(self, result: Result) -> None:
        self.output = str(result)
        try:
            returned = json.loads(result.out)["local"]
        except (ValueError, KeyError):
            raise AssertionError(f"no JSON came back:\n{self.output}") from None
        if isinstance(returned, list):
            raise AssertionError("\n".join(returned))
        # state_|-ID_|-name_|-function
        self.states = {tag.split("_|-")[1]: state for tag, state in returned.items()}
        for state in self.states.values():
            # They stand in the comment, because Salt makes one paragraph of what is below warnings.
            comment, told, lines = str(state["comment"]).partition("\nWarnings:\n- ")
            if told:
                state.update(comment=comment, warnings=lines.split("\n- "))
        self.changes = {id: s["changes"] for id, s in self.states.items() if s["changes"]}
        self.failed = {id: s["comment"] for id, s in self.states.items() if s["result"] is False}
        self.ok = not self.failed and result.ok

    def __str__(self) -> str:
        return self.output


class Loaded:
    """A process on a host that has loaded Salt and does one call after the other."""

    code = (pathlib.Path(__file__).parent / "salt_call.py").read_text()

    def __init__(self, host: Host) -> None:
        self.process = subprocess.Popen(
            [*host.inside(), "/opt/salt/bin/python", "-c", self.code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def call(self, *words: str, limit: int = 600) -> Result:
        """Return what a call printed, which must end within so many seconds."""
        print(json.dumps(words), file=self.process.stdin, flush=True)
        ended, *_ = select.select([self.process.stdout], [], [], limit)
        assert ended, f"{words} did not end within {limit} s"
        return Result(*json.loads(self.process.stdout.readline()))


class Server(Host):
    """A host that Orthanc runs on, or shall run on."""

    def __init__(self, *layers, **given) -> None:
        super().__init__(*layers, **given)
        self.idle: list[Loaded] = []

    def power_off(self) -> None:
        super().power_off()
        self.unload()

    def reboot(self) -> None:
        self.unload()
        super().reboot()

    def unload(self) -> None:
        """End the processes that have loaded Salt."""
        while self.idle:
            self.idle.pop().process.communicate(timeout=60)

    def run_salt(self, *words: str) -> Result:
        """Run one of Salt's programs and return what it printed; see ``salt_call.py``."""
        loaded = self.idle.pop() if self.idle else Loaded(self)
        result = loaded.call(*words)
        self.idle.append(loaded)
        return result

    @property
    def network(self) -> Network:
        """The network that joins the hosts; this machine is its gateway."""
        return network()

    def pid(self) -> int:
        """Return the process id of Orthanc, 0 if it does not run."""
        return int(self.run("pgrep -ix orthanc | head -1", check=False).out.strip() or 0)

    def wait_for_port(self, port: int = 8042) -> None:
        """Wait until something listens on a port of the host; tell what Orthanc says if not."""
        listens = f"ss -Hltn sport {port} | grep -q ."
        tell = "{ systemctl status orthanc; journalctl -n 50 -u orthanc; exit 1; }"
        self.run(f"timeout 180 sh -c 'until {listens}; do sleep 0.1; done' || {tell}")

    def ask(
        self,
        method: str,
        path: str,
        user: str = "",
        password: str = "",
        data: str | None = None,
        headers: tuple[str, ...] = (),
        remote: bool = False,
        port: int = 8042,
        ca: str = "",
        limit: int = 60,
    ) -> Answer:
        """Send an HTTP request to Orthanc, from the host itself or from another one.

        remote
            True asks from this machine, which is another host on the network of the test hosts.
        limit
            For how many seconds it may take.
        ca
            Asks over HTTPS, by the name ``pacs.example.org``: the file of the authority that must
            have signed the server's certificate.
        """
        here = [] if remote else ["nsenter", "-t", str(self.leader), "-n"]
        address = self.address if remote else "127.0.0.1"
        words = [*here, "curl", "-sS", "--max-time", str(limit), "-X", method]
        words += ["-w", "\n%{http_code}"]
        if user:
            words += ["-u", f"{user}:{password}"]
        for header in headers:
            words += ["-H", header]
        if data is not None:
            words += ["--data-binary", data]
        url = f"http://{address}:{port}{path}"
        if ca:
            words += ["--cacert", ca, "--resolve", f"{NAME}:{port}:{address}"]
            url = f"https://{NAME}:{port}{path}"
        done = subprocess.run([*words, url], capture_output=True, check=False)
        body, _, code = done.stdout.rpartition(b"\n")
        return Answer(int(code or 0), body, done.stderr.decode())

    def written(self) -> set[str]:
        """Return all files that were written or removed on the host, with their modes and owners,
        but for what is Salt's own, and for the note of what images there are.
        """
        found = set()
        for path in self.changes.rglob("*"):
            name = str(path.relative_to(self.changes))
            if path.is_dir() or name.startswith((*SALTS_OWN, NOTE)) or "__pycache__" in name:
                continue
            now = path.lstat()
            found.add(f"{name} {now.st_mtime_ns} {now.st_mode:o}:{now.st_uid}:{now.st_gid}")
        return found


class Minion(Server):
    """A host with Salt and the formula, masterless; ``root_with_salt`` gives its layers."""

    def __enter__(self) -> Minion:
        super().__enter__()
        self.install_formula(FORMULA)
        self.synced = False
        self.write("/etc/salt/minion", MINION)
        self.write("/srv/pillar/top.sls", "base: {'*': [orthanc]}")
        return self

    def pillar(self, **settings) -> None:
        """Set the pillar below ``orthanc:``."""
        self.write("/srv/pillar/orthanc.sls", yaml.safe_dump({"orthanc": settings}))

    def call(self, *words: str, check: bool = True) -> Result:
        """Run ``salt-call`` and return what it printed."""
        result = self.run_salt("salt-call", "--retcode-passthrough", *words)
        if check and not result.ok:
            raise AssertionError(f"salt-call {' '.join(words)}\nended with {result}")
        return result

    def state(self, sls: str = "orthanc", test: bool = False) -> Run:
        """Apply an SLS with the pillar as it stands, whether that works or not."""
        words = ["state.apply", sls, f"test={test}", "--out=json"]
        if not self.synced:
            # It takes as long as the rest of a run that changes nothing.
            self.synced = True
            words.append("sync_mods=all")
        return Run(self.call(*words, check=False))

    def apply(self, **settings) -> Run:
        """Set the pillar, apply the formula, and fail the test if a state failed."""
        self.pillar(**settings)
        run = self.state()
        assert run.ok, str(run)
        return run


class Answer:
    """An HTTP answer: ``code`` (0 if there was none), ``body``, ``json``."""

    def __init__(self, code: int, body: bytes, error: str) -> None:
        self.code, self.body, self.error = code, body, error

    @property
    def json(self):
        try:
            return json.loads(self.body)
        except ValueError:
            raise AssertionError(f"no JSON came back: {self}") from None

    def __str__(self) -> str:
        return f"HTTP {self.code} {self.body[:500]!r} {self.error}"
