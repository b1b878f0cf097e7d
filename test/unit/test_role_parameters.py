"""Every parameter of the GNU Health role has a key in the pillar and tests that show it."""

import ast
import pathlib
import re

import pytest
from role_parameters import ROWS

FORMULA = pathlib.Path(__file__).resolve().parents[2]
TESTS = FORMULA / "test"
# How many parameters the role has.
NUMBER = 42


def functions(path: pathlib.Path) -> dict[str, ast.FunctionDef]:
    """Return the functions of a file by name."""
    tree = ast.parse(path.read_text())
    return {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_no_parameter_is_missing_or_there_twice():
    names = [name for row in ROWS for name in row.role.split()]
    assert len(names) == len(set(names)) == NUMBER


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.role.split()[0])
def test_every_row_names_tests_that_are_there(row):
    assert row.debian, "no test shows it on Debian"
    assert row.suse, "no test shows it on openSUSE"
    for test in row.debian + row.suse:
        path, _, name = test.partition("::")
        assert path.startswith("host/"), "a row is shown by asking a running server"
        assert name.startswith("test_")
        assert name in functions(TESTS / path), f"there is no {test}"


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.role.split()[0])
def test_the_pillar_knows_every_key(map_file, row):
    for key in row.pillar.split():
        shape = map_file.SHAPE
        for part in key.split(":"):
            shape = shape.get(part) if isinstance(shape, dict) else None
        assert shape is not None, f"the pillar does not know orthanc:{key}"


def test_the_readme_has_the_same_rows():
    text = (FORMULA / "README.md").read_text().split("## Moving from")[1]
    lines = [line.split("|")[1:4] for line in text.splitlines() if line.startswith("| `or_")]
    written = [[set(re.findall(r"`([\w:]+)`", cell)) for cell in cells[:2]] for cells in lines]
    assert written == [[set(row.role.split()), set(row.pillar.split())] for row in ROWS]
