"""Runs that are killed: one set of files or the other, a server that starts, and a next run that
finishes the work.

Half of the kills are aimed at what matters, half of them fall anywhere. ``ORTHANC_TEST_SEED``
repeats the choices of another run, ``ORTHANC_TEST_KILLS`` sets their number.
"""

from __future__ import annotations

import collections
import contextlib
import json
import os
import pathlib
import random
import re
import signal
import subprocess
import sys
import time

import pytest

KILLS = int(os.environ.get("ORTHANC_TEST_KILLS", "50"))
SEED = int(os.environ.get("ORTHANC_TEST_SEED", "1895"))
FOLDER = "/etc/orthanc"
DROP_IN = "/etc/systemd/system/orthanc.service.d/formula.conf"
# In the command line and the mounts of every process of a trial start.
TRIAL = "orthanc-preflight"
# Every set of files holds its own name in several of them; this is how it is found.
NAME = re.compile(r"set\d{4}")
# At what a kill is aimed, and within how many seconds from there it falls.
MOMENTS = {
    "trial": 0.1,  # Orthanc is tried
    "note": 0.005,  # the last good set was noted
    "copy": 0.01,  # the new folder is being filled
    "swap": 0.002,  # the new folder has taken the place of the old one
    "restart": 2.0,  # Orthanc stops, starts, and is waited for
    "proof": 0.02,  # Orthanc was seen serving
}
# Who is killed: the process alone, its group as by a terminal, or all that descends from it.
VICTIMS = ("process", "group", "family")


class SaltCall:
    """A run of the formula on a host that goes on while the test does something else."""

    def __init__(self, host) -> None:
        self.host = host
        words = ["nsenter", "-t", str(host.leader), *"-m -p -u -i -n -C -r -w env -i".split()]
        words += ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]
        words += ["HOME=/root", "LANG=C.UTF-8", "salt-call", "--retcode-passthrough"]
        words += ["state.apply", "orthanc", "sync_mods=all"]
        self.process = subprocess.Popen(
            words,
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


def children(pid: int) -> list[int]:
    return [int(word) for word in content(f"/proc/{pid}/task/{pid}/children").split()]


def descendants(pid: int) -> list[int]:
    found = children(pid)
    return found + [pid for child in found for pid in descendants(child)]


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


def set_pillar(host, name: str) -> None:
    """Set a pillar whose name stands in orthanc.json, credentials.json and the Lua filter."""
    secret = {"password": f"secret of {name}"}
    users = {"anna": {**secret, "role": "admin"}, name: {**secret, "role": "reader"}}
    host.pillar(users=users, config={"Name": name})


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


def key(path: pathlib.Path):
    """Return what tells a file or folder from the one that was there before; None if none is."""
    try:
        state = path.stat()
    except OSError:
        return None
    return state.st_ino, state.st_ctime_ns


def wait_for(moment: str, run: SaltCall) -> None:
    """Wait until a run has come to this moment, or has ended."""
    marks = {
        "note": run.host.path(f"{FOLDER}.last-good"),
        "copy": run.host.path(f"{FOLDER}.new"),
        "swap": run.host.path(f"{FOLDER}/.unproven"),
    }
    mark = marks.get(moment, marks["swap"])
    before, came = key(mark), False
    while run.runs():
        now = key(mark)
        came = came or now not in (before, None)
        if moment == "trial":
            here = any(TRIAL in content(f"/proc/{pid}/cmdline") for pid in children(run.pid))
        else:
            here = came and (moment != "proof" or now is None)
        if here:
            return
        time.sleep(0.0002)


def assert_closed(host) -> None:
    """Nobody reaches the Orthanc that is installed, and nothing starts it."""
    host.run("systemctl start orthanc; sleep 2")
    assert host.pid() == 0
    assert host.ask("GET", "/system").code == 0
    assert host.run("ss -Hltn sport 4242").out == ""


def test_a_first_run_that_is_killed_leaves_nothing_that_starts(minion):
    """And two runs at once finish it, one of them with folders of Salt's own elsewhere."""
    minion.write("/srv/slow.lua", "local t = os.time() while os.time() - t < 5 do end")
    minion.pillar(config={"LuaScripts": ["/srv/slow.lua"]})
    run = SaltCall(minion)
    wait_for("trial", run)
    assert run.runs()
    run.kill("family")
    assert not minion.path(f"{FOLDER}.last-good").exists()
    assert_closed(minion)
    minion.reboot()
    assert_closed(minion)

    set_pillar(minion, "set0000")
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
    set_pillar(minion, "set0000")
    assert minion.state().ok
    return minion


def timed(server) -> float:
    """Let a run finish, and return how long it took."""
    started = time.monotonic()
    run = server.state()
    assert run.ok, str(run)
    return time.monotonic() - started


def killed_at(server, moment: str, victim: str, delay: float = 0) -> str:
    """Start a run, kill it at a moment or after a delay, and say what it was doing."""
    copy = server.path(f"{FOLDER}.new")
    before, run = key(copy), SaltCall(server)
    if moment in MOMENTS:
        wait_for(moment, run)
    time.sleep(delay)
    killed = run.runs()
    tried = any(TRIAL in content(f"/proc/{pid}/mountinfo") for pid in children(run.pid))
    run.kill(victim)
    if not killed:
        return "finished"
    if tried:
        return "trial"
    return "copy" if key(copy) not in (before, None) else "else"


def test_a_killed_run_leaves_one_set_of_files_and_the_next_one_finishes(server):
    model = model_of(server)
    where = {entry for entry, text in model.items() if NAME.search(text)}
    assert where == {"orthanc.json", "credentials.json", "orthanc-formula-users.lua"}
    current = "set9999"
    set_pillar(server, current)
    duration = timed(server)
    choose = random.Random(SEED)
    say(f"{KILLS} kills with seed {SEED}; a run takes {duration:.1f} s")

    hits: collections.Counter = collections.Counter()
    for number in range(1, KILLS + 1):
        old, new = current, f"set{number:04}"
        moment = list(MOMENTS)[number // 2 % len(MOMENTS)] if number % 2 == 0 else "start"
        victim = VICTIMS[number % 3]
        delay = choose.uniform(0, MOMENTS.get(moment, duration))
        what = f"kill {number} (seed {SEED}): {victim}, {delay:.4f} s after {moment}"

        set_pillar(server, new)
        doing = killed_at(server, moment, victim, delay)
        current = the_set(texts(server), model)
        assert current in (old, new), what
        noted = json.loads(server.path(f"{FOLDER}.last-good").read_text())
        # The drop-in of the unit is the same in all of them.
        assert noted.pop(DROP_IN) == server.read(DROP_IN)
        the_set(noted, {entry: text for entry, text in model.items() if entry in noted})
        assert_no_trial(server)
        hits[f"{doing}, {'old' if current == old else 'new'} set"] += 1

        # Most times the server dies with the run, as in a power cut; it stops slowly otherwise.
        power_cut = "systemctl kill --kill-whom=main -s KILL orthanc; " if number % 4 < 3 else ""
        server.run(f"{power_cut}systemctl reset-failed orthanc; systemctl restart orthanc")
        assert_serves(server, current)

        if number % 10 == 0 or number == KILLS:
            # The machine may be less busy by now.
            duration = min(duration, timed(server))
            current = the_set(texts(server), model)
            assert current == new, what
            assert_serves(server, new)
            assert server.state().changes == {}, what
            assert_tidy(server)

    say("killed while: " + "; ".join(f"{doing}: {n}" for doing, n in sorted(hits.items())))
    if KILLS >= 50:
        assert sum(n for doing, n in hits.items() if "finished" not in doing) >= KILLS * 0.6
        assert hits["trial, old set"] >= 2
        assert hits["else, old set"] >= 5
        assert hits["else, new set"] >= 5


def test_a_run_with_nothing_to_write_takes_away_what_a_killed_one_left(server):
    for number in range(8000, 8010):
        set_pillar(server, f"set{number}")
        killed_at(server, "copy", "group")
        if server.path(f"{FOLDER}.new").exists():
            break
    assert server.path(f"{FOLDER}.new").exists()
    # Somebody has taken the change back, unless the kill came too late for that.
    set_pillar(server, the_set(texts(server), model_of(server)))
    run = server.state()
    assert run.ok, str(run)
    assert "orthanc-config" not in run.changes
    assert_tidy(server)


def test_a_trial_that_is_killed_half_way_leaves_nothing(server):
    set_pillar(server, "set7000")
    assert server.state().ok
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
