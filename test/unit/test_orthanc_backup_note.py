"""What is noted of backups, and what a run says of it."""

import time

import orthanc_backup_note as note
import pytest


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
