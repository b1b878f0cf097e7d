"""Which versions the package manager can bring."""

import hashlib
import pathlib

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


@pytest.mark.parametrize("version", ["1.10.1-2", "1.10*", "1.12.7-4", "*"])
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


@pytest.fixture
def comparing(packages):
    def compare(one, other):
        return (one > other) - (one < other)

    packages.__salt__["pkg.version_cmp"] = compare
    packages.__salt__["pkg.refresh_db"]()
    return packages


@pytest.mark.parametrize(
    ("version", "is_there"),
    [
        *[(">=1.11", True), ("<2", True), (">= 1.11, <2", True), ("1.1*,<1.11", True)],
        *[(">=9", False), (">1.11,<1.12", False), (">= x", False), (">=", False), ("<>1", False)],
    ],
)
def test_a_range_of_versions(comparing, version, is_there):
    assert (comparing.missing("orthanc", version) is None) is is_there
    assert is_there or comparing.chosen("orthanc", version) is None


@pytest.mark.parametrize(
    ("version", "chosen"),
    [
        *[
            (None, "1.12.7-4"),
            ("1.12.7-4", "1.12.7-4"),
            ("1.12*", "1.12.7-4"),
            (">1.11", "1.12.7-4"),
        ],
        # What is installed is right, or nothing is.
        *[("1.10.1-2", None), ("1.1*", None), (">=1.10", None), ("<2", None), ("9.9", None)],
    ],
)
def test_the_version_that_comes(comparing, version, chosen):
    assert comparing.chosen("orthanc", version) == chosen


def test_no_other_version_comes_where_the_newest_is_there(packages):
    packages.__salt__["pkg.version_cmp"] = lambda one, other: 0
    assert packages.chosen("orthanc") is None


APT = """\
NOTE: This is only a simulation!
Remv orthanc-wsi [3.2-1]
Inst libdcmtk20 (3.7.0-7 Debian:unstable [amd64]) []
Inst orthanc [1.12.7+dfsg-4] (1.13.0+dfsg-1+b1 Debian:unstable [amd64])
Conf orthanc (1.13.0+dfsg-1+b1 Debian:unstable [amd64])
"""
ZYPPER = """\
<?xml version='1.0'?>
<stream><message type="info">Loading repository data...</message>
<install-summary download-size="4657874" packages-to-change="1">
<to-upgrade><solvable type="package" name="orthanc" edition="1.13.0-1" edition-old="1.12.7-1"/>
</to-upgrade><to-install><solvable type="package" name="libdcmtk20" edition="3.7.0-7"/>
</to-install><to-remove><solvable type="package" name="orthanc-wsi" edition="3.2-1"/></to-remove>
</install-summary></stream>
"""


@pytest.mark.parametrize(
    ("family", "said", "versions"),
    [
        ("Debian", APT, ("1.12.7+dfsg-4", "1.13.0+dfsg-1+b1")),
        ("Suse", ZYPPER, ("1.12.7-1", "1.13.0-1")),
    ],
)
def test_what_a_package_manager_would_change(packages, monkeypatch, family, said, versions):
    monkeypatch.setattr(packages, "__grains__", {"os_family": family})
    packages.__salt__["orthanc_files.read_if_there"] = lambda path: None
    answer = {"retcode": 0, "stdout": said, "stderr": ""}
    packages.__salt__["cmd.run_all"] = lambda words, **_: answer
    assert packages.plan(["orthanc"]) == {
        "orthanc": versions,
        "libdcmtk20": (None, "3.7.0-7"),
        "orthanc-wsi": ("3.2-1", None),
    }
    answer.update(retcode=100, stderr="W: of no matter\nE: No packages found")
    with pytest.raises(CommandExecutionError, match="says: E: No packages found"):
        packages.plan(["orthanc"])


@pytest.mark.parametrize("manager", ["dpkg", "rpm"])
def test_a_file_that_no_package_has_brought_so_is_edited(monkeypatch, tmp_path, manager):
    paths = [str(tmp_path / name) for name in ("own.json", "edited.json", "added.json")]
    for path in paths:
        pathlib.Path(path).write_text("{}")
    md5, sha256 = (hashlib.new(form, b"{}").hexdigest() for form in ("md5", "sha256"))
    shown = {
        "dpkg": f"\n {paths[0]} {md5}\n {paths[1]} {md5[::-1]}\n /gone {md5} obsolete\n",
        "rpm": f"{paths[0]} 2 17 {sha256} 0100640 root root 1 0 0 X\n{paths[1]} 2 17 {md5} 0 r r\n",
    }
    pathlib.Path(paths[1]).write_text("{ }")
    ask = {"orthanc_host.ask": lambda words: shown[manager] if manager in words[0] else None}
    monkeypatch.setattr(orthanc_packages, "__salt__", ask)
    assert orthanc_packages.edited(paths, "orthanc") == paths[1:]
