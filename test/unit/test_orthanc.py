"""What the module of the server does to files."""

import os

import orthanc


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
