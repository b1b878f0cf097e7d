"""Which logs the program of the timer removes, on files of this machine."""

import os
import pathlib
import subprocess
import time

import pytest

SCRIPT = pathlib.Path(__file__).resolve().parents[2] / "orthanc/log_keep.sh"
DAY = 86400


def log(number):
    """Return the name that Orthanc gives to the log of a start."""
    return f"Orthanc.log.202611{number:02}-120000.{number}"


@pytest.fixture
def tmp_path(tmp_path):
    """The folder of the logs, whose name could pass for a pattern."""
    folder = tmp_path / "a [b]*\\?"
    folder.mkdir()
    return folder


@pytest.fixture
def keep(tmp_path):
    """A function from files, by name their age in days and size in bytes, to what is left of them;
    the link leads to the first one, as Orthanc makes it.
    """

    def keep(files, days=30, size=1000):
        for name, (age, length) in files.items():
            (tmp_path / name).write_bytes(length * b"x")
            os.utime(tmp_path / name, 2 * (time.time() - age * DAY,))
        (tmp_path / "Orthanc.log").symlink_to(next(iter(files)))
        words = ["sh", str(SCRIPT), str(tmp_path), "Orthanc.log", str(days), str(size)]
        subprocess.run(words, check=True, capture_output=True)
        return {path.name for path in tmp_path.iterdir()} - {"Orthanc.log"}

    return keep


def test_the_old_ones_go(keep):
    files = {log(5): (0, 1), log(4): (29, 1), log(3): (31, 1), log(2): (400, 1)}
    assert keep(files) == {log(5), log(4)}


def test_beyond_the_size_the_oldest_ones_go(keep):
    files = {log(5): (0, 400), log(4): (1, 500), log(3): (2, 200), log(2): (3, 10)}
    assert keep(files) == {log(5), log(4)}


def test_the_last_one_stays_however_old_and_large_it_is(keep):
    assert keep({log(5): (400, 5000), log(4): (400, 1)}) == {log(5)}


def test_one_that_is_open_stays_though_the_link_leads_elsewhere(keep, tmp_path):
    with open(tmp_path / log(1), "w"):
        files = {log(5): (0, 1), log(1): (400, 5000), log(2): (400, 1)}
        assert keep(files) == {log(5), log(1)}


def test_what_is_of_others_stays(keep, tmp_path):
    others = ["own.log", "Orthanc.log.old", f"{log(1)}.gz", f"x{log(1)}", "Orthanc log.1"]
    (tmp_path / "folder").mkdir()
    (tmp_path / log(2)).mkdir()
    (tmp_path / log(3)).symlink_to("own.log")
    left = keep({log(5): (0, 1), **dict.fromkeys(others, (400, 5000))})
    assert left == {log(5), *others, "folder", log(2), log(3)}


def test_nothing_is_done_elsewhere_where_the_folder_is_gone(tmp_path):
    words = ["sh", str(SCRIPT), str(tmp_path / "none"), "Orthanc.log", "1", "1"]
    (tmp_path / log(1)).write_text("")
    os.utime(tmp_path / log(1), (0, 0))
    assert subprocess.run(words, cwd=tmp_path, capture_output=True, check=False).returncode
    assert (tmp_path / log(1)).exists()
