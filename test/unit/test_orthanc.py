"""What the module of the server does to files."""

import os

import orthanc_log


def test_a_log_that_is_rotated_between_two_looks(tmp_path):
    for number, name in enumerate(("Orthanc.log.1", "Orthanc.log.2")):
        (tmp_path / name).write_text(f"line {name}\n")
        os.utime(tmp_path / name, (number, number))
    (tmp_path / "Orthanc.log.3").mkdir()
    seen = [str(path) for path in tmp_path.iterdir()] + [str(tmp_path / "Orthanc.log.gone")]
    assert orthanc_log._newest(seen) == ["line Orthanc.log.2"]
    assert orthanc_log._newest([]) == []
