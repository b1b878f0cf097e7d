"""What speaks against another version, and what is said of it."""

import contextlib
import json
import time

import orthanc_upgrade
import pytest
from salt.exceptions import CommandExecutionError


@pytest.fixture
def note(monkeypatch, tmp_path):
    """The module with its note in a folder of the test."""
    ready = tmp_path / "upgrade"
    ready.mkdir()
    monkeypatch.setattr(orthanc_upgrade, "READY", str(ready))
    return ready / "note.json"


@pytest.mark.parametrize(
    ("index", "age", "without", "refused"),
    [
        (orthanc_upgrade.STAYS, None, False, ""),
        (orthanc_upgrade.CHANGES, None, False, "there is no backup of this server"),
        (orthanc_upgrade.CHANGES, 3600, False, ""),
        (orthanc_upgrade.CHANGES, 25 * 3600, False, "the last good backup is 25 hours old"),
        (orthanc_upgrade.CHANGES, 25 * 3600, True, ""),
        (orthanc_upgrade.ONE_WAY, None, True, ""),
        (orthanc_upgrade.UNKNOWN, None, False, "what becomes of it is not known, and there is no"),
    ],
)
def test_an_index_that_changes_needs_a_backup(tmp_path, index, age, without, refused):
    config = str(tmp_path / "orthanc")
    if age is not None:
        good = {"good": {"time": time.time() - age}}
        (tmp_path / "orthanc.backup").write_text(json.dumps(good))
    found = {"index": index, "problems": []}
    orthanc_upgrade._demand_backup(config, {"without_backup": without}, found)
    assert len(found["problems"]) == bool(refused)
    assert refused in "".join(found["problems"])
    assert all("orthanc:without_backup" in problem for problem in found["problems"])


@pytest.mark.parametrize(
    ("revision", "plugin", "index", "refused"),
    [
        (0, "4.0", orthanc_upgrade.STAYS, False),
        (0, "5.0", orthanc_upgrade.CHANGES, False),
        (0, "10.0", orthanc_upgrade.ONE_WAY, False),
        (1, "4.0", orthanc_upgrade.STAYS, False),
        (1, "5.0", orthanc_upgrade.STAYS, False),
        (1, "6.0", orthanc_upgrade.ONE_WAY, False),
        (6, "5.0", orthanc_upgrade.STAYS, True),
        (6, "4.0", orthanc_upgrade.STAYS, True),
    ],
)
def test_what_becomes_of_a_database(monkeypatch, revision, plugin, index, refused):
    library = f"/usr/lib/libOrthancPostgreSQLIndex.so.{plugin}"
    monkeypatch.setattr(
        orthanc_upgrade,
        "__salt__",
        {
            **orthanc_upgrade.__salt__,
            "orthanc_rehearsal.revision": lambda *_, **__: revision,
            "orthanc_aside.seen": lambda tree, work: [library],
        },
    )
    found = {"problems": []}
    account = {"user": "orthanc", "group": "orthanc"}
    assert orthanc_upgrade._judge_postgresql("", {}, account, "", found) == index
    told = f"revision {revision}, and version {plugin} of"
    assert [told in problem for problem in found["problems"]] == [True] * refused


def test_an_upgrade_is_pending_until_it_serves_or_has_failed(note):
    assert orthanc_upgrade.pending() == orthanc_upgrade.pending(failed=True) == {}
    upgrade = {"old": "1", "new": "2", "more": None, "back": True}
    orthanc_upgrade._write(upgrade)
    assert orthanc_upgrade.pending() == upgrade
    assert orthanc_upgrade.pending(failed=True) == {}
    orthanc_upgrade._write({**upgrade, "day": "2026-11-30"})
    assert orthanc_upgrade.pending() == {}
    assert orthanc_upgrade.pending(failed=True)["new"] == "2"
    # What has failed stays noted, whatever serves.
    orthanc_upgrade.end()
    assert note.exists()
    orthanc_upgrade._write(upgrade)
    orthanc_upgrade.end()
    assert not note.parent.exists()


def test_a_version_that_has_failed_is_not_installed_once_more(note, monkeypatch):
    functions = {
        **orthanc_upgrade.__salt__,
        "orthanc_packages.missing": lambda *_: None,
        "orthanc_packages.chosen": lambda *_: "2",
    }
    monkeypatch.setattr(orthanc_upgrade, "__salt__", functions)
    orthanc_upgrade._write({"old": "1", "new": "2", "day": "2026-11-30", "back": True})
    with pytest.raises(CommandExecutionError, match="2 was installed here on 2026-11-30 and did"):
        orthanc_upgrade.upgrade("/etc/orthanc", {"version": "2"})


@pytest.mark.parametrize(
    ("here", "plan", "refused"),
    [
        (["orthanc"], {"orthanc-wsi": (None, "3")}, False),
        (["orthanc"], {"orthanc-wsi": (None, "3"), "orthanc": ("1", "2")}, True),
        # All is there; the server is yet to come; and the package manager knows no such package.
        (["orthanc", "orthanc-wsi"], None, False),
        (["orthanc-wsi"], None, False),
        (["orthanc"], CommandExecutionError("none"), False),
    ],
)
def test_no_other_package_brings_another_server(monkeypatch, here, plan, refused):
    def planned(words):
        assert words == ["orthanc-wsi"]
        if isinstance(plan, Exception):
            raise plan
        return plan

    known = {"pkg.list_pkgs": lambda: here, "orthanc_packages.plan": planned}
    monkeypatch.setattr(orthanc_upgrade, "__salt__", {**orthanc_upgrade.__salt__, **known})
    given = contextlib.nullcontext()
    if refused:
        given = pytest.raises(CommandExecutionError, match="orthanc-wsi would bring orthanc 2 in")
    with given:
        assert (
            orthanc_upgrade.upgrade("/etc/orthanc", {"packages": ["orthanc", "orthanc-wsi"]})
            is None
        )


@pytest.mark.parametrize(
    ("sample", "program", "knows"),
    [({"A": 1}, b"", True), ({}, b"..A..", True), ({}, b"..B..", False)],
)
def test_what_an_orthanc_knows(sample, program, knows):
    assert orthanc_upgrade._has({"sample": sample, "program": program}, "A") is knows


def test_changes_of_options_are_told_and_those_of_files_are_not():
    assert orthanc_upgrade._are_options({"Name": {"new": "x"}})
    assert not orthanc_upgrade._are_options({"old": "as Orthanc has read it", "new": "changed"})
