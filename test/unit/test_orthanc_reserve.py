"""What is said of a disk that holds less than its reserve."""

import os

import orthanc_reserve
import pytest

GB = 10**9
FIVE = {"percent": 5, "most": 10 * GB, "least": 10**8}
SIZE, FREE = 1000 * GB, 8 * GB


@pytest.fixture(autouse=True)
def _disks(monkeypatch):
    """One disk at / and a smaller one at /small."""

    def statvfs(path):
        size, free = (GB, GB / 20) if path.startswith("/small") else (SIZE, FREE)
        # Blocks are counted by their fragments, not by what is best to read at once.
        return os.statvfs_result((4096, 1000, size // 1000, free // 500, free // 1000, *[0] * 5))

    monkeypatch.setattr(os, "statvfs", statvfs)
    monkeypatch.setattr(os.path, "isdir", lambda path: path in ("/", "/srv", "/small"))


def advice(reserve=FIVE, **options):
    places = {"StorageDirectory": "/srv/images", "IndexDirectory": "/srv/images"}
    return orthanc_reserve.advice({**places, **options}, reserve)


def test_a_disk_below_its_reserve_is_told_of_once():
    (sentence,) = advice()
    assert sentence == (
        "orthanc:storage_reserve: Orthanc refuses new images, because the file system of"
        " /srv/images has 8.0 GB free of 1000.0 GB, and 10.0 GB stay in reserve; make room, give"
        " Orthanc a larger disk, or make the reserve smaller"
    )


def test_images_and_index_each_have_their_own():
    assert [
        line.partition("file system of ")[2].split()[0]
        for line in advice(IndexDirectory="/small/index")
    ] == ["/srv/images", "/small/index"]
    # At least so much, whatever the size.
    (sentence,) = advice({**FIVE, "most": 7 * GB}, IndexDirectory="/small/index")
    assert "has 50 MB free of 1.0 GB, and 100 MB stay in reserve" in sentence


@pytest.mark.parametrize(
    "more",
    [
        {"reserve": {}},
        {"reserve": {**FIVE, "most": 8 * GB}},
        {"reserve": {"percent": 0, "most": 10**18, "least": 7 * GB}},
        # Judged with the other options.
        {"StorageDirectory": 5, "IndexDirectory": None},
        # What a plugin keeps is its own matter.
        {"PostgreSQL": {"EnableIndex": True, "EnableStorage": True}},
        {"AwsS3Storage": {}, "PostgreSQL": {"EnableIndex": True}},
    ],
)
def test_where_nothing_is_to_be_said(more):
    assert advice(**more) == []


def test_a_reserve_that_is_more_than_the_disk_cannot_be_kept_by_making_room():
    (sentence,) = advice({**FIVE, "least": 2 * GB, "most": 7 * GB}, StorageDirectory="/small")
    assert "has 50 MB free of 1.0 GB, and 2.0 GB stay in reserve" in sentence
    assert "make room" not in sentence


@pytest.mark.parametrize(
    ("most", "mode", "told"),
    [
        (990 * GB // 2**20 + 1, "Recycle", True),
        (990 * GB // 2**20, "Recycle", False),
        (2000 * GB // 2**20, None, True),
        # There, that is what is wanted.
        (2000 * GB // 2**20, "Reject", False),
        (0, None, False),
        ("x", None, False),
    ],
)
def test_old_images_that_would_never_be_deleted(most, mode, told):
    options = {"MaximumStorageSize": most, **({"MaximumStorageMode": mode} if mode else {})}
    sentences = [line for line in advice(**options) if "MaximumStorageSize" in line]
    assert len(sentences) == told
    for line in sentences:
        assert "10.0 GB of the file system of /srv/images stay free, which has 1000.0 GB" in line


def test_the_reserve_of_a_server_is_that_of_its_script(tmp_path):
    path = tmp_path / "orthanc-formula-reserve.lua"
    options = {"LuaScripts": ["/etc/other.lua", str(path)]}
    assert orthanc_reserve.in_force(options) == {}
    path.write_text("-- x\nlocal PERCENT, MOST, LEAST = 5, 10000000000, 100000000\nlocal A = 1\n")
    assert orthanc_reserve.in_force(options) == FIVE
    assert orthanc_reserve.in_force({"LuaScripts": []}) == orthanc_reserve.in_force({}) == {}
