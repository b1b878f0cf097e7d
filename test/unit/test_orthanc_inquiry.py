"""Questions that may never be answered."""

import functools
import os
import pathlib
import subprocess
import sys
import time

import orthanc_inquiry
import pytest

MODULES = pathlib.Path(__file__).resolve().parents[2] / "_modules"


def fail():
    raise ValueError("why")


def ignore_its_end():
    """Hang outside of the group of the processes that are ended, with all that is open here."""
    os.setsid()
    time.sleep(20)


def test_answers_come_side_by_side():
    began = time.monotonic()
    questions = {
        "number": lambda: {"a": [1, None, "ä"]},
        "none": lambda: None,
        "failed": fail,
        "large": lambda: "x" * 1000000,
        **{str(n): functools.partial(time.sleep, 1) for n in range(4)},
    }
    found = orthanc_inquiry.ask(questions, 20)
    assert found["number"] == {"found": {"a": [1, None, "ä"]}}
    assert found["none"] == {"found": None}
    assert found["failed"] == {"error": "why"}
    assert len(found["large"]["found"]) == 1000000
    assert found.keys() == questions.keys()
    assert time.monotonic() - began < 4


def test_what_hangs_is_left_out_and_ended_with_what_it_waits_for(tmp_path):
    words = ["sh", "-c", f"echo $$ > {tmp_path}/pid; sleep 20; touch {tmp_path}/went-on"]
    questions = {
        "hangs": lambda: subprocess.run(words, check=False).returncode,
        "dies": lambda: os.kill(os.getpid(), 9),
        "comes": lambda: 1,
    }
    began = time.monotonic()
    assert orthanc_inquiry.ask(questions, 1) == {"comes": {"found": 1}}
    assert time.monotonic() - began < 5
    pid = pathlib.Path(tmp_path, "pid").read_text().strip()
    while pathlib.Path(f"/proc/{pid}").exists():
        assert time.monotonic() - began < 10
        time.sleep(0.05)
    # Nothing is left for this process to wait for.
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_nobody_waits_for_one_that_cannot_be_ended():
    """Its end is not the end of what the caller of this process reads."""
    code = (
        "import sys, time; sys.path[:0] = sys.argv[1:]\n"
        "import orthanc_inquiry, test_orthanc_inquiry as here\n"
        "print(orthanc_inquiry.ask({'hangs': here.ignore_its_end, 'comes': lambda: 1}, 0.5))"
    )
    began = time.monotonic()
    here = os.path.dirname(os.path.abspath(__file__))
    words = [sys.executable, "-c", code, str(MODULES), here]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)
    assert done.stdout == "{'comes': {'found': 1}}\n", done.stderr
    assert time.monotonic() - began < 15
