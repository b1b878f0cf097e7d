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


def test_a_program_that_was_upgraded_while_it_starts_is_orthanc_still(tmp_path):
    for program, is_orthanc in (
        ("/usr/sbin/Orthanc", True),
        ("/usr/sbin/orthanc (deleted)", True),
        ("/usr/bin/orthanc-backup", False),
        ("/usr/sbin/Orthanc (old)", False),
    ):
        (tmp_path / "exe").symlink_to(program)
        assert orthanc._is_orthanc(str(tmp_path)) is is_orthanc, program
        (tmp_path / "exe").unlink()


def test_a_log_that_is_rotated_between_two_looks(tmp_path):
    for number, name in enumerate(("Orthanc.log.1", "Orthanc.log.2")):
        (tmp_path / name).write_text(f"line {name}\n")
        os.utime(tmp_path / name, (number, number))
    (tmp_path / "Orthanc.log.3").mkdir()
    seen = [str(path) for path in tmp_path.iterdir()] + [str(tmp_path / "Orthanc.log.gone")]
    assert orthanc._newest(seen) == ["line Orthanc.log.2"]
    assert orthanc._newest([]) == []
