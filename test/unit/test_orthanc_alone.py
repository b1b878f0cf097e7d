"""The formula's modules in a Python that has no Salt, as systemd starts them."""

import json
import pathlib
import re
import subprocess
import sys

import pytest

MODULES = pathlib.Path(__file__).resolve().parents[2] / "_modules"
# A module that does as the others do, with the words that it is called with.
PROBE = """
import json
import os
import sys

import salt.utils.files
import salt.utils.path
import salt.utils.systemd
from salt.exceptions import CommandExecutionError, SaltInvocationError


def look(folder):
    write, read = __salt__["orthanc_files.write"], __salt__["orthanc_files.read_if_there"]
    write(os.path.join(folder, "text"), "ä", 0o600)
    said = __salt__["cmd.run_all"](["sh", "-c", "cat; echo $X >&2; exit 3"], stdin="in\\n",
        env={"X": "x", "PATH": os.environ["PATH"]}, clean_env=True, python_shell=False)
    print(json.dumps({
        "text": read(os.path.join(folder, "text")),
        "none": read(os.path.join(folder, "none")),
        "said": [said["retcode"], said["stdout"], said["stderr"]],
        "root": __salt__["file.user_to_uid"]("root"),
        "nobody": __salt__["file.user_to_uid"]("nobody of this host"),
        "late": __salt__["cmd.run_all"](["sleep", "9"], timeout=0.1)["retcode"],
        "salt": getattr(sys.modules["salt"], "__file__", None),
        "options": __salt__["orthanc_json.parse"]("{}"),
    }))


def fail(kind):
    kinds = {"work": CommandExecutionError, "input": SaltInvocationError, "disk": OSError}
    raise kinds[kind]("why")


def wait():
    os.kill(os.getpid(), 15)


def say():
    return __salt__["orthanc_probe.judge"]()


def judge():
    __context__["retcode"] = 2
    return "not well"
"""


@pytest.fixture
def call(tmp_path):
    """A function that calls one of the probe, in a folder as it is on a host."""
    for path in MODULES.glob("*.py"):
        (tmp_path / path.name).write_text(path.read_text())
    (tmp_path / "orthanc_probe.py").write_text(PROBE)
    runner = str(tmp_path / "orthanc_alone.py")

    def call(*words):
        return subprocess.run(
            [sys.executable, "-I", runner, *words], capture_output=True, text=True, check=False
        )

    return call


def test_modules_find_what_they_take_of_salt(call, tmp_path):
    done = call("orthanc_probe.look", str(tmp_path))
    assert done.stderr == ""
    assert json.loads(done.stdout) == {
        "text": "ä",
        "none": None,
        "said": [3, "in", "x"],
        "root": 0,
        "nobody": "",
        "late": 1,
        "salt": None,
        "options": {},
    }


@pytest.mark.parametrize("kind", ["work", "input", "disk"])
def test_a_failure_is_a_sentence_and_an_exit_code(call, kind):
    done = call("orthanc_probe.fail", kind)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "why\n")


def test_a_text_is_said_and_its_exit_code_passed_on(call):
    done = call("orthanc_probe.say")
    assert (done.returncode, done.stdout, done.stderr) == (2, "not well\n", "")


def test_what_is_ended_can_tidy_up(call):
    done = call("orthanc_probe.wait")
    assert done.returncode == 1
    assert "it was ended before it was done" in done.stderr


def test_every_module_that_a_backup_calls_loads_without_salt(call):
    """Those on the floors below its own."""
    text = (MODULES.parent / "docs/architecture.md").read_text()
    rows = re.findall(r"(?m)^\| (\d+) \| `(\w+)` \|", text)
    floor = {module: int(number) for number, module in rows}
    below = [name for name, number in floor.items() if number < floor["orthanc_backup"]]
    code = "import sys; sys.path.insert(0, sys.argv[1]); import orthanc_alone, importlib\n"
    code += "orthanc_alone.stand_in()\nfor name in sys.argv[2:]: importlib.import_module(name)"
    # Those read the pillar, which is where Salt is.
    of_salt = {"orthanc_pillar", "orthanc_pillar_file", "orthanc_plugins"}
    words = [
        sys.executable,
        "-I",
        "-c",
        code,
        str(MODULES),
        "orthanc_backup",
        *sorted(set(below) - of_salt),
    ]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.stderr == ""
