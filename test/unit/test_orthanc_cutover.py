"""The moment in which an index moves: nobody else may have the server meanwhile."""

import os
import types

import orthanc_cutover
import pytest
from salt.exceptions import CommandExecutionError


@pytest.mark.parametrize(
    ("running", "last", "now", "refused"),
    [
        (False, ["1"], ["1"], False),
        (False, [], [], False),
        # systemd has forgotten a unit that does not run and is not enabled.
        (False, ["1"], [], False),
        (True, ["1"], ["2"], True),
        (True, [], [], True),
        # It was stopped again.
        (False, ["1"], ["2"], True),
    ],
)
def test_nothing_is_moved_if_somebody_starts_the_server(monkeypatch, running, last, now, refused):
    given = {"service.status": lambda _: running, "orthanc_host.unit": lambda *_: now}
    monkeypatch.setattr(orthanc_cutover, "__salt__", {**orthanc_cutover.__salt__, **given})
    if not refused:
        orthanc_cutover._refuse_others("orthanc", last)
        return
    with pytest.raises(CommandExecutionError, match="somebody has started orthanc"):
        orthanc_cutover._refuse_others("orthanc", last)


def test_an_index_in_place_outlasts_a_power_cut(monkeypatch, tmp_path):
    """The configuration that names it may be on another disk."""
    aside, done = tmp_path / ".orthanc-move-1", []
    aside.mkdir()
    me = types.SimpleNamespace(pw_uid=os.getuid(), pw_gid=os.getgid())
    given = {
        "orthanc_host.account": lambda _: me,
        "orthanc_index_checks.state": lambda *_: (1, ""),
        "orthanc_index_checks.size": lambda *_: 0,
        "orthanc_index_checks.lost": lambda *_: [],
        "orthanc_index_rows.into_sqlite": lambda *_: None,
    }
    monkeypatch.setattr(orthanc_cutover, "__salt__", {**orthanc_cutover.__salt__, **given})
    monkeypatch.setattr(orthanc_cutover, "_make", lambda *_: (aside / "index").touch())
    rename, fsync = os.rename, os.fsync
    monkeypatch.setattr(os, "rename", lambda *paths: (done.append("renamed"), rename(*paths)))

    def sync(descriptor):
        done.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", sync)
    case = types.SimpleNamespace(
        name="/etc/orthanc",
        before={},
        placed={"IndexDirectory": str(tmp_path)},
        account={"user": "orthanc", "group": "orthanc"},
    )
    orthanc_cutover._to_sqlite(case, str(aside), is_ours=False)()
    assert done == ["renamed", str(tmp_path)]
