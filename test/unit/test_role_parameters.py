"""Every parameter of the GNU Health role has a key in the pillar and tests that show it."""

import ast
import functools
import pathlib
import re
import subprocess
import sys

import pytest
from role_parameters import ROWS

FORMULA = pathlib.Path(__file__).resolve().parents[2]
# How many parameters the role has.
NUMBER = 42
# As the names of cases and of fixtures have them.
SYSTEMS = {"bookworm", "trixie", "leap"}
# The fixtures of the host layer whose host is a Debian 12, for all tests that name no system.
DEBIAN_12 = {"minion", "fresh_minion"}


@functools.lru_cache(None)
def fixtures(path: str) -> dict[str, set[str]]:
    """Return the names of the fixtures that each test of a file asks for."""
    return {
        part.name: {argument.arg for argument in part.args.args}
        for part in ast.parse((FORMULA / path).read_text()).body
        if isinstance(part, ast.FunctionDef)
    }


@pytest.fixture(scope="module")
def systems():
    """The systems that each host test runs on, by the name of the test."""
    words = [sys.executable, "-m", "pytest", "-q", "--collect-only", "-p", "no:cacheprovider"]
    done = subprocess.run([*words, "test/host"], cwd=FORMULA, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    found = {}
    for line in done.stdout.splitlines():
        name, _, case = line.partition("[")
        path, _, function = name.partition("::")
        if not function:
            continue
        asked = fixtures(path)[function]
        on = SYSTEMS & {*re.split("[^a-z]", case), *asked}
        if not case and asked & DEBIAN_12:
            on = {"bookworm"}
        found.setdefault(name.removeprefix("test/"), set()).update(on)
    return found


def test_no_parameter_is_missing_or_there_twice():
    names = [name for row in ROWS for name in row.role.split()]
    assert len(names) == len(set(names)) == NUMBER


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.role.split()[0])
def test_every_row_names_tests_that_run_on_each_system(row, systems):
    assert [test for test in row.tests if not systems.get(test)] == []
    assert set().union(*(systems[test] for test in row.tests)) == SYSTEMS


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.role.split()[0])
def test_the_pillar_knows_every_key(pillar_files, row):
    for key in row.pillar.split():
        tables, below = pillar_files["tables"], pillar_files["shapes"]["below"]
        shape = tables["SHAPE"]
        for part in key.split(":"):
            shape = below(shape, part, tables["KINDS"]) if shape else None
        assert shape is not None, f"the pillar does not know orthanc:{key}"


def test_the_documentation_has_the_same_rows():
    text = (FORMULA / "docs/gnuhealth-role.md").read_text()
    lines = [line.split("|")[1:4] for line in text.splitlines() if line.startswith("| `or_")]
    written = [[set(re.findall(r"`([\w:]+)`", cell)) for cell in cells[:2]] for cells in lines]
    assert written == [[set(row.role.split()), set(row.pillar.split())] for row in ROWS]
