"""What the module of the server does to files."""

import os
import stat

import orthanc


def modes(folder):
    """Return the rights of others for each file and folder below a folder, by name."""
    return {path.name: stat.S_IMODE(path.lstat().st_mode) & 0o007 for path in folder.rglob("*")}


def test_close_takes_the_rights_of_others_and_no_more(tmp_path):
    folder = tmp_path / "images"
    (folder / "aa" / "bb").mkdir(parents=True)
    (folder / "aa" / "bb" / "image").write_text("x")
    (folder / "closed").write_text("x")
    (folder / "closed").chmod(0o640)
    (folder / "aa" / "bb" / "image").chmod(0o644)
    assert orthanc.close_to_others(str(folder)) == 3
    assert set(modes(folder).values()) == {0}
    assert stat.S_IMODE((folder / "aa" / "bb" / "image").stat().st_mode) == 0o640
    assert stat.S_IMODE(folder.stat().st_mode) & 0o007, "the folder itself is for file.directory"
    assert orthanc.close_to_others(str(folder)) == 0


def test_close_follows_no_link_and_waits_for_nobody(tmp_path):
    outside, folder = tmp_path / "outside", tmp_path / "images"
    outside.mkdir()
    (outside / "file").write_text("x")
    for path in (outside, outside / "file"):
        path.chmod(0o755)
    folder.mkdir()
    (folder / "link").symlink_to(outside / "file")
    (folder / "folder").symlink_to(outside)
    os.mkfifo(folder / "fifo")
    orthanc.close_to_others(str(folder))
    assert modes(outside) == {"file": 0o005}


def test_close_of_a_folder_that_is_not_there(tmp_path):
    assert orthanc.close_to_others(str(tmp_path / "none")) == 0
