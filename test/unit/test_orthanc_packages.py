"""Which versions the package manager can bring."""

import orthanc_packages
import pytest
from salt.exceptions import CommandExecutionError

pytestmark = pytest.mark.each_salt


@pytest.fixture
def packages(monkeypatch):
    """The module on a host where Orthanc 1.10.1-2 is installed, and 1.12.7-4 comes by a refresh."""
    offered = ["1.10.1-2", "1.10.1-2"]
    functions = {
        "pkg.version": lambda name: "1.10.1-2" if name == "orthanc" else "",
        "pkg.list_repo_pkgs": lambda name: {name: offered} if name == "orthanc" else {},
        "pkg.refresh_db": lambda: offered.insert(0, "1.12.7-4"),
    }
    monkeypatch.setattr(orthanc_packages, "__salt__", functions)
    return orthanc_packages


@pytest.mark.parametrize("version", ["1.10.1-2", "1.10*", "1.12.7-4", "*", ">=9", "<2"])
def test_what_is_installed_or_can_be_is_not_missing(packages, version):
    assert packages.missing("orthanc", version) is None


@pytest.mark.parametrize("version", ["9.9", "1.10", "1.10.1", "1.12.7-4 ", "1.13*"])
def test_another_version_is_refused_with_those_that_there_are(packages, version):
    problem = packages.missing("orthanc", version)
    assert problem.startswith("orthanc:version: ")
    assert f"{version}, but 1.12.7-4, 1.10.1-2;" in problem


def test_a_package_that_nobody_knows(packages):
    assert "no version at all" in packages.missing("orthanc-other", "1")


def test_a_package_manager_that_knows_no_such_package(packages):
    def refuse(name):
        raise CommandExecutionError("No matching items found.")

    packages.__salt__["pkg.list_repo_pkgs"] = refuse
    assert "no version at all" in packages.missing("orthanc-other", "1")


UPGRADED = {
    "orthanc": {"old": "1.12.7-4", "new": "1.13.0-1"},
    "orthanc-gdcm": {"old": "1.7-1", "new": "1.8-1"},
}


@pytest.mark.parametrize(
    ("pinned", "refused"),
    [
        (None, False),
        ("1.13.0-1", False),
        ("1.13*", False),
        ("1.1*", False),
        ("1.12.7-4", True),
        ("1.12*", True),
        # Asked for, whatever others have done.
        ("1.14.0-1", False),
    ],
)
def test_what_others_have_upgraded(pinned, refused):
    problems, (warning,) = orthanc_packages.judge(UPGRADED, "orthanc", pinned)
    assert "orthanc from 1.12.7-4 to 1.13.0-1, orthanc-gdcm from 1.7-1 to 1.8-1" in warning
    assert [line[:15] for line in problems] == ["orthanc:version"] * refused
    assert all("installed 1.13.0-1 since; set it to that" in line for line in problems)


def test_nothing_was_upgraded_and_plugins_are_not_pinned():
    assert orthanc_packages.judge({}, "orthanc", "1.12.7-4") == ([], [])
    plugin = {"orthanc-gdcm": UPGRADED["orthanc-gdcm"]}
    assert orthanc_packages.judge(plugin, "orthanc", "1.12.7-4")[0] == []
