"""What is noted at the first run, when an Orthanc is closed, and what is put back."""

import importlib
import json
import os
import shutil
import subprocess

import orthanc_first_run as first_run
import pytest
from salt.exceptions import CommandExecutionError

pytestmark = pytest.mark.each_salt


class Machine:
    """What the package manager and systemd of a host would say."""

    def __init__(self, folder):
        self.folder = folder
        self.config = str(folder / "etc")
        self.packages = {"base": "1"}
        self.running = self.enabled = self.written = False
        self.held: list = []
        self.done: list = []
        self.stuck = False

    def begin(self, packages=("orthanc",), test=False, folders=()):
        return first_run.begin("orthanc", packages, ["nginx"], folders, self.config, test)

    def remove(self, pkgs):
        assert self.closed() or "orthanc" not in pkgs
        if not self.stuck:
            for name in pkgs:
                del self.packages[name]
        return {name: {"old": "1", "new": ""} for name in pkgs}

    def note(self, what):
        return lambda *names, **named: self.done.append((what, *names, *named.values()))

    def guards(self):
        return [path for path in (self.folder / "unit", self.folder / "lsb") if path.exists()]

    def closed(self):
        assert len(self.guards()) in (0, 2)
        return bool(self.guards())

    def record(self):
        return json.loads((self.folder / "lib/formula/record").read_text())


# How the record is kept.
NOTES = ("orthanc_files.", "orthanc_json.")


@pytest.fixture
def machine(tmp_path, monkeypatch):
    found = Machine(tmp_path)
    (tmp_path / "lib").mkdir()
    texts = dict(zip((f"{tmp_path}/unit", f"{tmp_path}/lsb"), first_run.CLOSED.values()))
    monkeypatch.setattr(first_run, "RECORD", f"{tmp_path}/lib/formula/record")
    monkeypatch.setattr(first_run, "CLOSED", texts)
    monkeypatch.setattr(first_run, "__grains__", {"os_family": "Debian"})
    monkeypatch.setattr(first_run.salt.utils.systemd, "booted", lambda _: True)
    functions = {
        "pkg.list_pkgs": lambda: found.packages,
        "pkg.get_selections": lambda state: {"hold": found.held},
        "pkg.remove": found.remove,
        "service.status": lambda _: found.running,
        "service.enabled": lambda _: found.enabled,
        "orthanc_files.written": lambda _: found.written,
        "orthanc_folder.in_use": lambda config, _: config,
    }
    noted = ("pkg.hold", "pkg.unhold", "service.enable", "service.disable")
    noted += ("cmd.run_all", "orthanc_server.restart", "orthanc_server.wait")
    functions.update({name: found.note(name) for name in noted})
    own = {name: given for name, given in first_run.__salt__.items() if name.startswith(NOTES)}
    monkeypatch.setattr(first_run, "__salt__", {**own, **functions})
    return found


def test_an_orthanc_that_is_yet_to_come_is_closed(machine):
    tried = machine.begin(test=True)
    assert not machine.closed()
    assert not (machine.folder / "lib/formula").exists()
    assert machine.begin() == tried
    assert machine.closed()
    assert not first_run.served()
    assert machine.begin() == {}
    # Installed, and the run failed or was killed: it stays closed until Orthanc serves.
    machine.packages["orthanc"] = "1"
    assert machine.begin() == {}
    assert machine.closed()
    first_run.open_("orthanc")
    assert not machine.closed()
    assert not first_run.served()
    first_run.end()
    assert first_run.served()
    assert machine.begin() == {}
    assert not machine.closed()


@pytest.mark.parametrize(
    "here", [{"running": True}, {"packages": {"orthanc": "1"}}, {"written": True, "running": True}]
)
def test_an_orthanc_that_was_there_is_never_closed(machine, here):
    vars(machine).update(here)
    assert machine.begin()
    assert machine.begin() == {}
    assert not machine.closed()
    assert first_run.served()


def test_one_that_was_taken_away_is_closed_again(machine):
    machine.packages["orthanc"] = "1"
    machine.begin()
    del machine.packages["orthanc"]
    assert len(machine.begin()) == 2
    assert machine.closed()
    assert not first_run.served()


def test_one_that_is_closed_never_served_whatever_became_of_the_record(machine):
    machine.begin()
    machine.packages["orthanc"] = "1"
    machine.enabled = True
    os.unlink(first_run.RECORD)
    machine.begin()
    assert machine.closed()
    assert not first_run.served()
    assert machine.record()["service"] == {"running": False, "enabled": False}


def test_a_run_that_was_killed_between_its_files_is_finished(machine):
    machine.begin()
    for path in machine.guards():
        path.write_text("half of")
        assert list(machine.begin()) == [str(path)]
        assert "half" not in path.read_text()
        path.unlink()
        assert list(machine.begin()) == [str(path)]
    (machine.folder / "lib/formula/record").unlink()
    assert len(machine.begin()) == 1
    assert not first_run.served()


@pytest.mark.parametrize(
    ("program", "word", "starts"),
    [
        ("/etc/init.d/orthanc", "start", False),
        ("/etc/init.d/orthanc", "restart", False),
        ("/etc/rc2.d/S01orthanc", "start", False),
        ("/etc/init.d/orthanc", "stop", True),
        ("/etc/init.d/orthanc", "status", True),
        ("/etc/init.d/not-orthanc", "start", True),
        ("/etc/init.d/orthanc-other", "start", True),
    ],
)
def test_the_init_script_starts_nothing(machine, program, word, starts):
    machine.begin()
    script = f". {machine.folder}/lsb; echo starts"
    done = subprocess.run(["sh", "-c", script, program, word], capture_output=True, text=True)
    assert done.returncode == 0
    assert ("starts" in done.stdout) is starts
    assert bool(done.stderr) is not starts


def test_what_comes_with_a_later_pillar_is_noted_then(machine):
    machine.packages.update(orthanc="1")
    machine.begin()
    assert machine.begin(["orthanc", "gdcm", "base"])
    machine.packages.update(gdcm="1", nginx="1")
    assert machine.begin(["orthanc", "gdcm", "base"]) == {}
    assert machine.begin() == {}
    assert first_run.known() == {
        "came": ["gdcm"],
        "others": ["nginx"],
        "before": ["base", "orthanc"],
    }


def test_what_came_is_removed_while_it_is_closed(machine):
    machine.begin()
    machine.packages["orthanc"] = "1"
    first_run.open_("orthanc")
    machine.stuck = True
    with pytest.raises(CommandExecutionError, match="orthanc"):
        first_run.remove_packages("orthanc")
    assert machine.closed()
    machine.stuck = False
    assert first_run.remove_packages("orthanc")
    assert not machine.closed()
    assert ("service.enable", "orthanc") in machine.done
    assert machine.packages == {"base": "1"}
    assert first_run.remove_packages("orthanc") == {}


def test_modes_and_folders_are_as_they_were(machine):
    folders = [str(machine.folder / name) for name in ("here", "new/below", "used", "link")]
    for name, mode in (("here", 0o755), ("etc", 0o755)):
        (machine.folder / name).mkdir()
        (machine.folder / name).chmod(mode)
    own = machine.folder / "etc/own.json"
    own.write_text("{}")
    own.chmod(0o644)
    (machine.folder / "link").symlink_to("here")
    machine.begin(folders=folders)
    (machine.folder / "packaged").mkdir(0o755)
    brought = machine.folder / "etc/brought.json"
    brought.write_text("{}")
    brought.chmod(0o644)
    packaged = [str(machine.folder / "packaged")]
    found = first_run.packaged(packaged, machine.config, test=True)
    assert first_run.packaged(packaged, machine.config) == found
    assert first_run.packaged(packaged, machine.config) == {}
    changed = [machine.folder / "here", own, brought, machine.folder / "packaged"]
    for path in changed:
        path.chmod(0o700)
    for name in folders[1:3]:
        os.makedirs(name)
    (machine.folder / "used/image").touch()
    machine.written = True
    # By now the modes are the formula's.
    (machine.folder / "etc/formula.json").touch()
    assert first_run.packaged(packaged, machine.config) == {}

    tried = first_run.undo("orthanc", machine.config, test=True)
    assert {*map(str, changed)} <= {*tried}
    assert {*tried} <= {*first_run.undo("orthanc", machine.config)}
    assert [path.stat().st_mode & 0o777 for path in changed] == [0o755, 0o644, 0o644, 0o755]
    assert not (machine.folder / "new").exists()
    assert (machine.folder / "used/image").exists()
    assert not (machine.folder / "lib/formula").exists()
    assert first_run.undo("orthanc", machine.config) == {}


@pytest.mark.parametrize("running", [True, False])
def test_a_server_that_was_there_is_as_it_was(machine, running):
    machine.packages["orthanc"] = "1"
    machine.running = machine.enabled = running
    machine.held = ["orthanc"]
    machine.begin()
    # The formula has it serve, and orthanc.clean has stopped it.
    machine.running, machine.enabled, machine.held = False, not running, []
    changes = first_run.undo("orthanc", machine.config)
    assert changes["orthanc enabled"] == {"old": not running, "new": running}
    assert ("orthanc running" in changes) is running
    done = [what for what, *_ in machine.done]
    assert done[:2] == ["pkg.hold", "service.enable" if running else "service.disable"]
    assert ("orthanc_server.restart" in done) is running
    assert not (machine.folder / "lib/formula").exists()


def test_nothing_is_started_where_an_earlier_version_was(machine):
    machine.packages["orthanc"] = "1"
    machine.running = machine.enabled = machine.written = True
    machine.held = ["orthanc"]
    machine.begin()
    assert first_run.known()["before"] == ["orthanc"]
    machine.running = machine.enabled = False
    assert set(first_run.undo("orthanc", machine.config)) == {first_run.RECORD, "orthanc held"}
    assert [what for what, *_ in machine.done] == ["pkg.unhold"]


POSTGRESQL = {"PostgreSQL": {"EnableIndex": True, "Host": "db", "Database": "images"}}


@pytest.mark.parametrize(
    ("served", "before", "now", "said"),
    [
        (True, {}, {}, ""),
        (
            True,
            {},
            POSTGRESQL,
            "its index in {}/index, and this server has it in postgresql://db:54",
        ),
        (
            True,
            POSTGRESQL,
            {},
            "its index in postgresql://db:5432/images, and this server has it in",
        ),
        (True, {}, {"IndexDirectory": "other"}, "Take them back there first"),
        (True, {}, {"StorageDirectory": "other", "IndexDirectory": "."}, "its images in {}, and"),
        (True, {}, {"PostgreSQL": {"EnableStorage": True}}, "this server has it in a database, or"),
        # It does not start again.
        (False, {}, POSTGRESQL, ""),
    ],
)
def test_a_server_that_comes_back_finds_its_images(machine, monkeypatch, served, before, now, said):
    functions = vars(importlib.import_module("orthanc_conf"))["__salt__"]
    for function in ("orthanc_host.unit", "orthanc_host.unit_lines"):
        monkeypatch.setitem(functions, function, lambda *_: [])
    monkeypatch.setattr(first_run, "__salt__", {**functions, **first_run.__salt__})
    machine.packages["orthanc"] = "1"
    machine.running = served
    machine.begin()
    machine.written = True
    folder = machine.folder / "images"
    for place in (folder, machine.folder / "etc/other"):
        (place / "ab/cd").mkdir(parents=True)
        (place / "ab/cd/abcd0000-0000-0000-0000-000000000000").touch()
    options = {"StorageDirectory": str(folder)}
    original = machine.folder / "etc/before-formula/orthanc.json"
    original.parent.mkdir()
    original.write_text(json.dumps({**options, **before}))
    written = functions["orthanc_json.dump"]({**options, **now})
    (machine.folder / "etc/orthanc.json").write_text(written)
    (machine.folder / "etc.last-good").write_text(json.dumps({"orthanc.json": written}))
    found = first_run.hidden("orthanc", machine.config)
    assert bool(found) is bool(said)
    assert said.format(folder) in found
    # Where there are none, none gets out of sight.
    shutil.rmtree(folder)
    shutil.rmtree(machine.folder / "etc/other")
    assert bool(first_run.hidden("orthanc", machine.config)) is ("EnableStorage" in str(now))


UNIT = """# /lib/orthanc.service
[Service]
ExecStart=/sbin/Orthanc --logdir=/l /etc/it/{}
# /etc/own.conf
[Unit]
# {}
ExecStart=
ExecStart=/sbin/Orthanc /srv/conf
"""


@pytest.mark.parametrize("more", ["", " --verbose"])
def test_the_folder_that_comes_back_is_that_of_the_unit_without_the_formula(
    tmp_path, monkeypatch, more
):
    folder, host = map(importlib.import_module, ("orthanc_folder", "orthanc_host"))
    conf, own = tmp_path / "conf", tmp_path / "formula.conf"
    conf.mkdir()
    own.touch()
    monkeypatch.setattr(host, "ask", lambda _: UNIT.format(more, own))
    assert folder.without(str(conf), "orthanc") == "/srv/conf"
    (tmp_path / "conf.last-good").write_text(json.dumps({str(own): "written"}))
    assert folder.without(str(conf), "orthanc") == "/etc/it"
    monkeypatch.setattr(host, "ask", lambda _: None)
    assert folder.without(str(conf), "orthanc") == str(conf)


def test_what_cannot_be_written_is_said(machine):
    (machine.folder / "lib").rmdir()
    (machine.folder / "lib").write_text("a file")
    with pytest.raises(CommandExecutionError, match="noting"):
        machine.begin()
