"""What is noted of backups, and what a run says of it."""

import time

import orthanc_backup_note as note
import pytest
from salt.exceptions import CommandExecutionError


def test_what_is_noted_stays_until_it_is_noted_anew(tmp_path):
    config = str(tmp_path / "orthanc")
    assert note.read(config) == {}
    note.begin(config, "backup", 7.5)
    assert "it runs, or was killed" in note.read(config)["backup"]["error"]
    note.end(config, "backup", {"error": None, "images": 3})
    noted = note.read(config)
    assert noted["good"] == noted["backup"]
    assert (noted["good"]["time"], noted["good"]["images"]) == (7, 3)
    note.killed(config, "backup")
    assert note.read(config) == noted
    note.begin(config, "backup", 9)
    note.killed(config, "backup")
    note.begin(config, "drill", 9)
    note.end(config, "drill", {"error": None})
    again = note.read(config)
    assert again["backup"]["error"] == "it was killed"
    assert again["good"] == noted["good"]
    assert (tmp_path / "orthanc.backup").stat().st_mode & 0o777 == 0o600
    (tmp_path / "orthanc.backup").write_text("{")
    assert note.read(config) == {}


GOOD = {"error": None, "warning": None}
BAD = {"error": "why", "time": 0}
TRIED = {"drill": {"error": None, "time": 0}}


@pytest.mark.parametrize(
    ("noted", "words"),
    [
        ({}, ["no backup yet"]),
        ({"backup": {**GOOD, "time": 0}, "good": {"time": 0}}, ["was never restored"]),
        ({"backup": {**GOOD, "time": 0}, "good": {"time": 0}, **TRIED}, []),
        ({"backup": {**GOOD, "time": 0}, "good": {"time": -4}, **TRIED}, ["4 days old"]),
        ({"backup": {**GOOD, "time": 3}, "good": {"time": 3}, **TRIED}, ["of the future"]),
        ({"backup": BAD, "good": {"time": 0}, **TRIED}, ["failed: why"]),
        ({"backup": BAD, "good": {"time": -9}, **TRIED}, ["failed: why", "9 days old"]),
        ({"backup": BAD, "good": {"time": 0}, "drill": BAD}, ["backup failed", "drill failed"]),
        ({"backup": {**GOOD, "warning": "odd", "time": 0}}, ["but: odd"]),
    ],
)
def test_a_run_warns_of_what_is_wrong(tmp_path, noted, words):
    """Times are in days from now."""
    config, now = str(tmp_path / "orthanc"), time.time()
    found = {what: {**one, "time": now + 86400 * one["time"] - 60} for what, one in noted.items()}
    note._add(config, found)
    said = note.warnings(config)
    assert len(said) == len(words)
    assert all(word in line for word, line in zip(words, said))


MADE = "2026-11-29T02:10:04.123456789+01:00"
PROVES = {"error": None, "time": -6, "snapshot": "5f0c1a2b", "made": MADE, "repository": "id"}
WELL = {
    "backup": {**GOOD, "time": 0},
    "good": {**GOOD, "time": 0},
    "drill": PROVES,
}


def proven(tmp_path, snapshots=None, **other):
    """What is proven, where the note is good but for this; times are in days from now."""
    config, now = str(tmp_path / "orthanc"), time.time()
    found = {
        what: {**one, **({"time": now + 86400 * one["time"] - 60} if "time" in one else {})}
        for what, one in {**WELL, **other}.items()
    }
    note._add(config, found)
    # A backup of the time after the drill's.
    later = {"short_id": "7e1d2b3c", "time": "2026-11-30T01:00:00Z"}
    given = [{"short_id": "5f0c1a2b", "time": found["drill"].get("made")}, later]
    return note.proven(config, "id", lambda: given if snapshots is None else snapshots)


def test_a_drill_proves_the_backup_that_it_restored(tmp_path):
    found = proven(tmp_path)
    assert found == {"snapshot": "5f0c1a2b", "made": MADE, "drilled": "5f0c1a2b"}


# Of the time before it, whatever the letters say; and of a second after it.
BEFORE = ("2026-11-29T02:10:05.1+01:30", "2026-11-28T20:10:03-05:00")
AFTER = "2026-11-29T01:10:05Z"


def test_where_keep_has_let_it_go_a_later_one_has_all_of_it(tmp_path):
    listed = [{"short_id": time, "time": time} for time in (*BEFORE, AFTER)]
    found = proven(tmp_path, snapshots=listed)
    assert found == {"snapshot": AFTER, "made": AFTER, "drilled": "5f0c1a2b"}
    for gone in ([], listed[:-1]):
        with pytest.raises(CommandExecutionError, match="not in the repository any more"):
            proven(tmp_path, snapshots=gone)


STUDY = {"received": "20240101T120000", "instances": 2, "bytes": 100, "protected": False}


@pytest.mark.parametrize(
    ("change", "is_proven"),
    [
        ({}, True),
        ({"protected": True}, True),
        # An image came, was taken out, or was replaced.
        ({"received": "20240101T120001"}, False),
        ({"received": ""}, False),
        ({"instances": 1}, False),
        ({"bytes": 101}, False),
    ],
)
def test_a_study_is_proven_as_it_was_in_the_backup(tmp_path, change, is_proven):
    folder, other = str(tmp_path), {**STUDY, "received": "20240202T000000"}
    assert note.proves(folder, "a", {"s": STUDY}) == set()
    note.prove(folder, "a", {"s": STUDY, "t": other})
    now = {"s": {**STUDY, **change}, "t": other, "u": STUDY}
    assert note.proves(folder, "a", now) == ({"s", "t"} if is_proven else {"t"})
    # Of another drill, as one that was killed before it noted that it was good.
    assert note.proves(folder, "b", now) == set()
    assert (tmp_path / "proven").stat().st_mode & 0o777 == 0o600
    note.prove(folder, "b", {})
    assert note.proves(folder, "b", now) == set()


def test_a_weekly_backup_is_recent(tmp_path):
    assert proven(tmp_path, good={**GOOD, "time": -7})


def test_a_backup_that_is_being_made_is_no_failed_one(tmp_path):
    assert proven(tmp_path, backup={"error": note.BEGUN, "time": 0})["snapshot"] == "5f0c1a2b"


def test_what_was_proven_before_a_restore_is_of_other_images(tmp_path):
    def made(days):
        return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 86400 * days))

    before, after = ({**PROVES, "made": made(days)} for days in (-6.5, -5.5))
    assert proven(tmp_path, restored={"time": -6}, drill=after)
    with pytest.raises(CommandExecutionError, match="was restored into the server since"):
        proven(tmp_path, restored={"time": -6}, drill=before)
    config = str(tmp_path / "orthanc")
    note.restored(config)
    assert time.time() - note.read(config)["restored"]["time"] < 60
    assert note.read(config)["good"]


@pytest.mark.parametrize(
    ("other", "why"),
    [
        ({"good": {}, "backup": {}}, "there is no backup yet"),
        ({"backup": BAD}, "the last backup failed: why"),
        ({"good": {**GOOD, "time": -8}}, "the last good backup is older than 8 days"),
        ({"drill": {}}, "no backup was ever restored"),
        ({"drill": {**PROVES, "error": "why"}}, "the last drill failed: why"),
        ({"drill": {**PROVES, "error": note.BEGUN}}, "the last drill failed: it runs"),
        ({"drill": {**PROVES, "repository": "other"}}, "of another repository"),
        ({"drill": {**PROVES, "repository": None}}, "of another repository"),
        ({"drill": {**PROVES, "time": -8}}, "was 8 days ago"),
        ({"drill": {**PROVES, "time": -3650}}, "was 3650 days ago"),
        ({"drill": {**PROVES, "time": 1}}, "is of the future"),
    ],
)
def test_why_no_backup_is_proven(tmp_path, other, why):
    with pytest.raises(CommandExecutionError, match=why):
        proven(tmp_path, **other)


@pytest.mark.parametrize(("state", "warned"), [("activating", 0), ("inactive", 1), ("failed", 1)])
def test_one_that_runs_has_not_failed(tmp_path, monkeypatch, state, warned):
    monkeypatch.setitem(note.__salt__, "orthanc_host.unit", lambda *_: [state])
    config, now = str(tmp_path / "orthanc"), time.time()
    note._add(config, {"good": {"time": now}, "drill": {"error": None, "time": now}})
    note.begin(config, "backup", now)
    assert len(note.warnings(config)) == warned


@pytest.mark.parametrize(("days", "interval", "warned"), [(9, 7, 0), (16, 7, 1), (2, 0.05, 1)])
def test_how_old_is_too_old_follows_from_the_schedule(tmp_path, days, interval, warned):
    config, good = str(tmp_path / "orthanc"), {"error": None, "time": time.time() - days * 86400}
    note._add(config, {"backup": good, "good": good, "drill": good})
    assert len(note.warnings(config, interval * 86400)) == warned


@pytest.mark.parametrize(
    ("days", "interval", "warned"), [(14, 7, 0), (16, 7, 1), (90, None, 0), (90, 31, 1)]
)
def test_a_drill_that_does_not_come_by_itself_any_more_is_missed(tmp_path, days, interval, warned):
    config, now = str(tmp_path / "orthanc"), time.time()
    good = {"error": None, "time": now}
    note._add(config, {"backup": good, "good": good})
    note._add(config, {"drill": {"error": None, "time": now - days * 86400}})
    found = note.warnings(config, 86400, interval and interval * 86400)
    assert len(found) == warned
    assert all("list-timers --all orthanc-drill" in line for line in found)
