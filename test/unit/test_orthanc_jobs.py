"""The program and the units of what systemd starts by itself."""

import pathlib

import orthanc_files
import orthanc_jobs
import orthanc_timer
import pytest
from salt.exceptions import CommandExecutionError

MODULES = pathlib.Path(__file__).resolve().parents[2] / "_modules"
TIMER = {
    "name": "orthanc-backup",
    "description": "Backup of Orthanc",
    "function": "orthanc_backup.run",
    "ended": "orthanc_backup.ended",
    "argument": "/etc/orthanc-backup",
    "schedule": "02:00",
    "place": "orthanc:backup:schedule",
    "mounts": ['/srv/a "b" 100%'],
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The folders of a host, of which systemd is not asked."""
    monkeypatch.setattr(orthanc_jobs, "PROGRAM", str(tmp_path / "lib/{}"))
    monkeypatch.setattr(orthanc_jobs, "UNITS", str(tmp_path / "system"))
    monkeypatch.setattr(orthanc_jobs, "CACHE", str(tmp_path / "cache/{}"))
    monkeypatch.setattr(orthanc_jobs, "_check", lambda timer: None)
    monkeypatch.setattr(orthanc_jobs, "_booted", lambda: True)
    monkeypatch.setattr(orthanc_timer, "_booted", lambda: False)
    return tmp_path


def test_the_program_is_all_modules_as_they_are(folder):
    program = folder / "lib" / orthanc_files.OWN
    units = [str(folder / f"system/orthanc-backup.{kind}") for kind in ("service", "timer")]
    assert orthanc_jobs.pending([TIMER]).keys() == {str(program), *units}
    orthanc_jobs.put([TIMER])
    names = {path.name for path in program.iterdir()}
    assert names == {path.name for path in MODULES.glob("orthanc*.py")}
    assert orthanc_jobs.RUNNER in names
    assert orthanc_jobs.pending([TIMER]) == {}
    # Of an earlier version, and of somebody else.
    (program / "orthanc_old.py").touch()
    (program / "own.sh").touch()
    assert orthanc_jobs.pending([TIMER]) == {str(program): "removed"}


def test_the_program_goes_with_the_last_of_its_units(folder):
    other = {**TIMER, "name": "orthanc-other"}
    orthanc_jobs.put([TIMER, other])
    cache = folder / "cache/orthanc-backup/ab"
    cache.mkdir(parents=True)
    orthanc_jobs.remove([TIMER])
    assert not cache.parent.exists()
    assert sorted(path.name for path in (folder / "system").iterdir()) == [
        "orthanc-other.service",
        "orthanc-other.timer",
    ]
    assert orthanc_jobs.pending([other]) == {}
    assert orthanc_jobs.left([TIMER]) == []
    orthanc_jobs.remove([other])
    assert [path for path in folder.rglob("*") if path.is_file()] == []


def test_the_unit_wakes_the_server_whatever_happens_and_waits_for_the_disk(folder):
    files = orthanc_jobs._files([TIMER])
    service = files[str(folder / "system/orthanc-backup.service")]
    runner = f"{folder}/lib/{orthanc_files.OWN}/orthanc_alone.py"
    assert f" -I -B {runner} orthanc_backup.run /etc/orthanc-backup\n" in service
    assert "\nExecStopPost=" in service
    assert f" -I -B {runner} orthanc_backup.ended /etc/orthanc-backup\n" in service
    assert '\nRequiresMountsFor="/srv/a \\"b\\" 100%%"\n' in service
    assert "\nOnCalendar=02:00\n" in files[str(folder / "system/orthanc-backup.timer")]


def test_without_a_schedule_there_is_a_service_and_no_timer(folder):
    orthanc_jobs.put([TIMER])
    orthanc_jobs.put([{**TIMER, "schedule": None}])
    assert [path.name for path in (folder / "system").iterdir()] == ["orthanc-backup.service"]


def test_a_night_that_was_missed_is_made_up_for_where_that_is_wanted(folder):
    units = {
        given.get("persistent"): orthanc_jobs._units([{**TIMER, **given}])
        for given in ({}, {"persistent": "no"})
    }
    timer = str(folder / "system/orthanc-backup.timer")
    assert "\nPersistent=yes\n" in units[None][timer]
    assert "\nPersistent=no\n" in units["no"][timer]


def test_a_host_without_systemd_gets_the_program_alone(folder, monkeypatch):
    monkeypatch.setattr(orthanc_jobs, "_booted", lambda: False)
    orthanc_jobs.put([TIMER])
    assert not (folder / "system").exists()
    assert orthanc_jobs.pending([TIMER]) == {}


def test_no_python_that_fits_is_said(monkeypatch):
    monkeypatch.setattr(orthanc_jobs, "FIT", "raise SystemExit(1)")
    with pytest.raises(CommandExecutionError, match=r"no Python of this host is 3\.8 or newer"):
        orthanc_jobs.command()


@pytest.mark.parametrize(
    ("schedule", "days"),
    [("02:00", 1), ("hourly", 1 / 24), ("Sat 03:00", 7), ("Mon,Tue 03:00", 6), ("noon", None)],
)
def test_how_much_time_is_between_two_times(schedule, days):
    found = orthanc_jobs.interval(schedule)
    # An hour more or less where the clocks change.
    assert found is None if days is None else abs(found - days * 86400) <= 3600


@pytest.mark.parametrize("schedule", ["noon", "--version", "--help"])
def test_what_is_no_time_is_refused(schedule):
    with pytest.raises(CommandExecutionError, match=f"orthanc:backup:schedule: .*'{schedule}'"):
        orthanc_jobs._check({**TIMER, "schedule": schedule})
    orthanc_jobs._check(TIMER)


def test_what_only_looks_waits_for_nothing(folder):
    words = {"delay": "5s", "persistent": "no", "after": "", "ended": None, "mounts": []}
    orthanc_jobs.put([{**TIMER, **words}])
    unit = (folder / "system/orthanc-backup.service").read_text()
    assert "After=" not in unit
    assert "ExecStopPost=" not in unit
    assert "ExecStart=" in unit
    timer = (folder / "system/orthanc-backup.timer").read_text()
    assert "RandomizedDelaySec=5s\nPersistent=no\n" in timer.replace(
        "# At the start, too, after a night in which this one was off.\n", ""
    )
    orthanc_jobs.put([TIMER])
    unit = (folder / "system/orthanc-backup.service").read_text()
    assert "After=network-online.target orthanc.service" in unit
    assert "ExecStopPost=" in unit
