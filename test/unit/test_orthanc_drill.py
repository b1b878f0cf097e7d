"""What a drill restores, and what it says of that."""

import shutil

import orthanc_drill
import pytest
from salt.exceptions import CommandExecutionError

SOUND = {"missing": [], "empty": [], "wrong": []}


@pytest.mark.parametrize(("sample", "number"), [(100, 256), (50, 128), (1, 3), (0.1, 1)])
def test_so_many_per_cent_of_the_images_are_restored(sample, number):
    folders = orthanc_drill._chosen(sample)
    assert len(folders) == len(set(folders)) == number
    assert all(len(folder) == 2 and int(folder, 16) < 256 for folder in folders)


def test_a_backup_is_good_where_nothing_is_wrong():
    assert orthanc_drill._verdict(SOUND) is None
    found = orthanc_drill._verdict({**SOUND, "missing": ["a", "b"], "wrong": ["c"]})
    assert "2 missing, 1 wrong" in found


def test_there_has_to_be_room(tmp_path):
    options = dict.fromkeys(("StorageDirectory", "IndexDirectory"), str(tmp_path))
    snapshot = {"tags": ["orthanc", f"bytes={10**18}"]}
    orthanc_drill._make_sure_of_room(options, {"tags": ["orthanc", "bytes=10"]}, 256)
    with pytest.raises(CommandExecutionError, match="drill_sample to fewer per cent"):
        orthanc_drill._make_sure_of_room(options, snapshot, 256)
    with pytest.raises(CommandExecutionError, match="would restore"):
        orthanc_drill._make_sure_of_room(options, snapshot, 3)


def test_the_reserve_of_the_server_is_no_room(tmp_path, monkeypatch):
    options = dict.fromkeys(("StorageDirectory", "IndexDirectory"), str(tmp_path))
    free = shutil.disk_usage(tmp_path).free
    snapshot = {"tags": [f"bytes={free // 4}"]}
    orthanc_drill._make_sure_of_room(options, snapshot, 256)
    everything = {"percent": 99, "most": 10**18, "least": 0}
    monkeypatch.setitem(
        orthanc_drill.__salt__, "orthanc_reserve.in_force", lambda options: everything
    )
    with pytest.raises(CommandExecutionError, match="beside the reserve"):
        orthanc_drill._make_sure_of_room(options, snapshot, 256)


def test_the_database_of_the_server_itself_is_not_dropped(monkeypatch):
    asked = []
    monkeypatch.setitem(
        orthanc_drill.__salt__, "orthanc_postgresql.psql", lambda *w, **g: asked.append(w)
    )
    own = {"EnableIndex": True, "ConnectionUri": f"postgresql:///{orthanc_drill.DATABASE}"}
    for section in (own, {**own, "ConnectionUri": f"postgresql://far/{orthanc_drill.DATABASE}"}):
        with pytest.raises(CommandExecutionError, match="give that another name"):
            orthanc_drill._sql({"PostgreSQL": section}, {"user": "x", "group": "x"}, "DROP")
    assert asked == []


def test_an_image_without_a_sum_is_read_at_least():
    asked = []

    def ask(method, path, data=None):
        asked.append(method)
        return (200 if method == "GET" else 404), None

    assert orthanc_drill._is_sound("a", "", ask)
    with pytest.raises(CommandExecutionError, match="as it was stored"):
        orthanc_drill._is_sound("a", "5f", ask)
    assert asked == ["POST", "GET", "POST"]
