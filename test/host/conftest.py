"""Booted hosts as fixtures. Where this machine cannot boot any, the layer is skipped."""

import os

import dicom
import pytest
import testbed
from https import ROOT
from minion import Minion
from ways import NEWEST

USERS = {
    "anna": {"password": "Anna's password", "role": "admin"},
    "rita": {"password": "Rita's password", "role": "reader"},
    "wim": {"password": "Wim's password", "role": "writer"},
}


# Of these systems each worker of a test run makes another one ready first, where it is not yet.
# Otherwise they all wait for the one that builds what all of them need.
FIRST = ("bookworm", "trixie", "sid")


@pytest.fixture(scope="session", autouse=True)
def _network():
    why_not = testbed.missing()
    if why_not and os.environ.get("CI"):
        pytest.fail(f"the host tests cannot run: {why_not}")
    if why_not:
        pytest.skip(f"the host tests cannot run: {why_not}")
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    if worker:
        # Not the fixture of that name, in whose place some tests put versions of their own.
        version = os.environ.get("SALT_VERSION", NEWEST)
        testbed.root_with_salt(FIRST[int(worker[2:]) % len(FIRST)], version)
    yield
    testbed.close_network()


@pytest.fixture(scope="module")
def minion(salt_version):
    """A Debian 12 with Salt, the formula and the package of Orthanc, which never ran, shared by the
    tests of a module.
    """
    with Minion(testbed.deployed("bookworm", salt_version)) as host:
        yield host


@pytest.fixture(scope="module")
def pristine_minion(salt_version):
    """A pristine Debian 12 with Salt and the formula, shared by the tests of a module."""
    with Minion(testbed.root_with_salt("bookworm", salt_version)) as host:
        yield host


@pytest.fixture
def fresh_minion(salt_version):
    """A pristine Debian 12 with Salt and the formula, for one test."""
    with Minion(testbed.root_with_salt("bookworm", salt_version)) as host:
        yield host


@pytest.fixture(scope="session")
def users():
    """Three users of a pillar, one for each role."""
    return USERS


@pytest.fixture(scope="session")
def image(tmp_path_factory):
    """A function that makes a small DICOM file; see ``dicom.make``."""
    folder = tmp_path_factory.mktemp("images")
    return lambda **tags: dicom.make(folder, **tags)


@pytest.fixture
def proven(record_property):
    """A function that says what a test has proven, for docs/tests.md; see ``matrix``."""
    return lambda **what: record_property("proven", what)


@pytest.fixture(scope="session")
def ca(tmp_path_factory):
    """The file of the authority that clients of hosts with HTTPS trust."""
    path = tmp_path_factory.mktemp("ca") / "ca.pem"
    path.write_text(ROOT.pem)
    return str(path)
