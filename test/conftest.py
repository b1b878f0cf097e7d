"""What all layers share: each test carries the name of its layer as a mark."""

import os
import pathlib
import sys

import pytest

HERE = pathlib.Path(__file__).parent
FORMULA = HERE.parent
sys.dont_write_bytecode = True
sys.path[:0] = [str(HERE), str(FORMULA / "_modules"), str(FORMULA / "_states")]


def pytest_collection_modifyitems(items):
    for item in items:
        layer = pathlib.Path(item.fspath).relative_to(HERE).parts[0]
        item.add_marker(getattr(pytest.mark, layer))


@pytest.fixture(scope="session")
def salt_version():
    """The Salt that the test hosts get."""
    return os.environ.get("SALT_VERSION", "3008.3")
