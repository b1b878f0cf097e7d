"""Runs that are killed: one set of files or the other, a server that starts, and a next run that
finishes the work.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import pytest
from applying import FIRST, Applying, children, descendants

FOLDER = "/etc/orthanc"
DROP_IN = "/etc/systemd/system/orthanc.service.d/formula.conf"
# In the command line and the mounts of every process of a trial start.
TRIAL = "orthanc-preflight"
# Every set of files holds its own name in several of them; this is how it is found.
NAME = re.compile(r"set\d{4}")
# The steps that a run is killed before, each of them, and the first of all other kinds. What lies
# between them writes into files that nobody reads before they are renamed, or is gone already.
EACH = re.compile(
    r"run (cp|.* restart|.*daemon-reload)|os.rename|os.rmdir|exchange|os.remove /etc/orthanc/"
)
# The steps in the middle of which it is killed, too.
LASTING = re.compile("run (cp|.* restart)")
# Who is killed: the process alone, its group as by a terminal, or all that descends from it.
VICTIMS = ("process", "group", "family")


class SaltCall:
    """A run of the formula on a host that goes on while the test does something else."""

    def __init__(self, host) -> None:
        self.host = host
        words = ["salt-call", "--retcode-passthrough", "state.apply", "orthanc", "sync_mods=all"]
        self.process = subprocess.Popen(
            [*host.inside(), *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self.pid = 0
        while not self.pid and self.runs():
            self.pid = next(iter(children(self.process.pid)), 0)

    def runs(self) -> bool:
        return self.process.poll() is None

    def kill(self, victim: str) -> None:
        """Kill the run at once, and wait until its first process is gone."""
        if victim == "group":
            kill(self.process.pid, group=True)
        elif victim == "family":
            for pid in [self.pid, *descendants(self.pid)]:
                kill(pid)
        else:
            kill(self.pid)
        self.process.wait(30)


def kill(pid: int, group: bool = False) -> None:
    with contextlib.suppress(ProcessLookupError):
        (os.killpg if group else os.kill)(pid, signal.SIGKILL)


def content(path: str) -> str:
    """Return what a file of /proc holds, nothing if its process is gone."""
    try:
        return pathlib.Path(path).read_text(errors="replace")
    except OSError:
        return ""


def processes(host) -> list[int]:
    """Return all processes of a host, as this machine numbers them."""
    inside, found = os.readlink(f"/proc/{host.leader}/ns/pid"), []
    for entry in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            if os.readlink(f"/proc/{entry}/ns/pid") == inside:
                found.append(int(entry))
    return found


def trials(host) -> dict[int, str]:
    """Return what belongs to a trial start: the names of processes on the host, by their id."""
    return {
        pid: content(f"/proc/{pid}/comm").strip()
        for pid in processes(host)
        if TRIAL in content(f"/proc/{pid}/cmdline") + content(f"/proc/{pid}/mountinfo")
    }


def say(text: str) -> None:
    """Tell what was measured; where tests run side by side, only this way out is open."""
    print(f"\n  [interrupted] {text}", file=sys.stderr, flush=True)


def wait_until(condition, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def assert_no_trial(host) -> None:
    """Whatever a trial start was doing, nothing of it is there within two seconds."""
    assert wait_until(lambda: not trials(host), 2), trials(host)
    for folder in (FOLDER, f"{FOLDER}.new"):
        assert not host.path(f"{folder}/scratch").exists()


def named(name: str) -> dict:
    """Return a pillar whose name stands in orthanc.json, credentials.json and the Lua filter."""
    secret = {"password": f"secret of {name}"}
    users = {"anna": {**secret, "role": "admin"}, name: {**secret, "role": "reader"}}
    return {"users": users, "config": {"Name": name}}


def texts(host) -> dict[str, str]:
    """Return all that lies in the folder, but for what is not part of the configuration."""
    folder = host.path(FOLDER)
    return {
        str(path.relative_to(folder)): path.read_text()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".unproven" and ".new-" not in path.name
    }


def model_of(host) -> dict[str, str]:
    """Return the files of ``set0000``, as a completed run writes them."""
    return {entry: NAME.sub("set0000", text) for entry, text in texts(host).items()}


def the_set(files: dict[str, str | None], model: dict[str, str]) -> str:
    """Return the name of the set that the files are, each of them whole."""
    names = {name for text in files.values() for name in NAME.findall(text or "")}
    assert len(names) == 1, f"the files are of several sets: {names}"
    (name,) = names
    found = {entry: text for entry, text in files.items() if text is not None}
    assert found == {entry: text.replace("set0000", name) for entry, text in model.items()}
    return name


def assert_serves(host, name: str) -> None:
    """Orthanc serves with this set: its password, its Lua filter, its name."""

    def serves() -> bool:
        answer = host.ask("GET", "/system", name, f"secret of {name}")
        return answer.code == 200 and answer.json["Name"] == name

    said = "tail -n 20 /var/log/orthanc/Orthanc.log; systemctl status orthanc"
    assert wait_until(serves, 20), f"{name} is not served\n{host.run(said, check=False)}"


def assert_tidy(host) -> None:
    """Nothing is left of runs that were killed."""
    etc = host.path("/etc")
    found = [
        path for name in ("orthanc.new", "**/.*.new-*", "**/.unproven") for path in etc.glob(name)
    ]
    assert not found, f"left behind: {[str(path.relative_to(host.tree)) for path in found]}"


def wait_for_trial(run: SaltCall) -> None:
    """Wait until a run tries Orthanc, or has ended."""
    while run.runs():
        if any(TRIAL in content(f"/proc/{pid}/cmdline") for pid in children(run.pid)):
            return
        time.sleep(0.001)


def assert_closed(host) -> None:
    """Nobody reaches the Orthanc that is installed, and nothing starts it."""
    host.run("systemctl start orthanc; sleep 2")
    assert host.pid() == 0
    assert host.ask("GET", "/system").code == 0
    assert host.run("ss -Hltn sport 4242").out == ""


@pytest.fixture(scope="module")
def minion(pristine_minion):
    return pristine_minion


def test_a_first_run_that_is_killed_leaves_nothing_that_starts(minion):
    """And two runs at once finish it, one of them with folders of Salt's own elsewhere."""
    minion.write("/srv/slow.lua", "local t = os.time() while os.time() - t < 5 do end")
    minion.pillar(config={"LuaScripts": ["/srv/slow.lua"]})
    run = SaltCall(minion)
    wait_for_trial(run)
    assert run.runs()
    run.kill("family")
    assert not minion.path(f"{FOLDER}.last-good").exists()
    assert_closed(minion)
    minion.reboot()
    assert_closed(minion)

    minion.pillar(**named("set0000"))
    minion.run("mkdir -p /srv/other; cp /etc/salt/minion /srv/other")
    minion.run("echo 'root_dir: /srv/other' >> /srv/other/minion")
    run = SaltCall(minion)
    other = "salt-call --config-dir=/srv/other state.apply orthanc sync_mods=all"
    said = minion.run(other, check=False, timeout=300).out
    run.process.wait(300)
    assert "Failed:     0" in said, said
    assert_serves(minion, "set0000")
    assert minion.state().changes == {}


@pytest.fixture(scope="module")
def server(minion):
    minion.apply(**named("set0000"))
    return minion


@pytest.fixture(scope="module")
def applying(server):
    with Applying(server) as process:
        yield process


@pytest.fixture(scope="module")
def steps(applying):
    """What a run does from where it begins to write until it is done."""
    assert applying.kill(**named("set0000")) == []
    found = applying.kill(**named("set0001"))
    assert applying.apply("orthanc", **named("set0000")).ok
    assert found[0] == FIRST
    return found


def kills(steps: list[str]) -> list[tuple[str, str]]:
    """Return at which steps runs are killed, and who is killed there."""
    kinds = {}
    # Whether the note of the images is written anew depends on how the index has grown.
    steps = [name for name in steps if ".orthanc.identity" not in name]
    for name in reversed(steps):
        kinds[name.split()[0]] = name
    chosen = [(name, "") for name in steps if EACH.match(name) or name in kinds.values()]
    lasting = [name for name in steps if LASTING.match(name)]
    return [*chosen, *((name, victim) for name in lasting for victim in VICTIMS)]


def sets_left(sets: dict, done: list, begun: str, step: str) -> set[str]:
    """Return which set may lie there, depending on a step that is done, begun, or neither."""
    if step in done:
        return {sets["new"]}
    return {*sets.values()} if step == begun else {sets["old"]}


def test_a_killed_run_leaves_one_set_of_files_and_the_next_one_finishes(server, applying, steps):
    model = model_of(server)
    where = {entry for entry, text in model.items() if NAME.search(text)}
    assert where == {"orthanc.json", "credentials.json", "orthanc-formula-users.lua"}
    # All of the new set is there before the exchange, and all of the old one goes after it.
    swapped = steps.index("exchange")
    assert all(f"os.rename {FOLDER}.new/.{entry}.new-" in steps[:swapped] for entry in where)
    assert all(f"os.remove {FOLDER}.new/{entry}" in steps[swapped:] for entry in where)
    proven = "os.rename /etc/.orthanc.last-good.new-"
    assert f"os.remove {FOLDER}/.unproven" in steps[steps.index(proven) :]

    current = "set0000"
    chosen = kills(steps)
    for number, (at, victim) in enumerate(chosen, 1):
        old, new = current, f"set{number:04}"
        what = f"kill {number} at {at} {victim}"
        *done, last = applying.kill(at, victim, **named(new))
        # A program may be done before it is seen on a busy machine; a later one is killed then.
        assert last == at or (victim and at in done), what
        begun = last if victim else ""
        left = functools.partial(sets_left, {"old": old, "new": new}, done, begun)
        current = the_set(texts(server), model)
        assert current in left("exchange"), what
        noted = json.loads(server.path(f"{FOLDER}.last-good").read_text())
        # The drop-in of the unit is the same in all of them.
        assert noted.pop(DROP_IN) == server.read(DROP_IN)
        of_noted = {entry: text for entry, text in model.items() if entry in noted}
        assert the_set(noted, of_noted) in left(proven), what
        assert_no_trial(server)

        # Most times the server dies with the run, as in a power cut; it stops slowly otherwise.
        power_cut = "systemctl kill --kill-whom=main -s KILL orthanc; " if number % 4 < 3 else ""
        server.run(f"{power_cut}systemctl reset-failed orthanc; systemctl restart orthanc")
        assert_serves(server, current)

        # After the others, the next run that is killed has come as far as this one.
        if current == new or number % 4 == 0:
            run = applying.apply("orthanc", **named(new))
            assert run.ok, str(run)
            current = the_set(texts(server), model)
            assert current == new, what
            assert_serves(server, new)
            assert_tidy(server)
        if number % 10 == 0 or number == len(chosen):
            assert applying.apply("orthanc", **named(current)).changes == {}, what
    say(f"{len(chosen)} kills at {len(steps)} steps")


def test_a_run_with_nothing_to_write_takes_away_what_a_killed_one_left(server, applying, steps):
    before = the_set(texts(server), model_of(server))
    applying.kill("exchange", **named("set8000"))
    assert server.path(f"{FOLDER}.new").exists()
    # Somebody has taken the change back.
    run = applying.apply("orthanc", **named(before))
    assert run.ok, str(run)
    assert "orthanc-config" not in run.changes
    assert_tidy(server)


def test_a_trial_that_is_killed_half_way_leaves_nothing(server):
    server.apply(**named("set7000"))
    server.write("/srv/slow.lua", "local t = os.time() while os.time() - t < 5 do end")
    secret = {"password": "other", "role": "admin"}
    server.pillar(users={"other": secret}, config={"LuaScripts": ["/srv/slow.lua"]})
    pid, before = server.pid(), texts(server)
    for victim in VICTIMS:
        run = SaltCall(server)
        assert wait_until(lambda: "Orthanc" in trials(server).values(), 60), victim
        time.sleep(0.5)
        tried = {pid for pid, name in trials(server).items() if name == "Orthanc"}
        assert tried
        run.kill(victim)
        assert_no_trial(server)
        assert wait_until(lambda tried=tried: not tried & set(processes(server)), 2), victim
        assert TRIAL not in server.run("cat /proc/mounts").out
        assert texts(server) == before
        assert server.pid() == pid
        assert_serves(server, "set7000")
