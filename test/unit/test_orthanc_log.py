"""What Orthanc has logged since it was last looked at."""

import os

import orthanc_log
import pytest

LINE = "W1130 10:45:51.73 DICOM-0 CommandDispatcher.cpp:839] "
OLD = "W1130 10:45:51.732547 CommandDispatcher.cpp:839] "


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (LINE + "Rejected association for remote AET X on IP 10.0.0.9", True),
        (OLD + "Rejected association, because of a bad called AET in the request (Y)", True),
        (LINE + 'Rejected Find request from remote DICOM modality with AET "X"', True),
        # Said before one of these, of the same.
        (LINE + "DICOM authorization rejected  for AET X on IP 10.0.0.9: This AET is not", False),
        (LINE + "Rejected is a word that a script may log", False),
        ("", False),
    ],
)
def test_what_a_device_was_refused_is_known(line, said):
    found = orthanc_log.refused(["W1130 a.cpp:1] Orthanc has started", line])
    assert found == ([line.partition("] ")[2]] if said else [])


def test_a_log_is_read_on_from_where_it_was_read_to(tmp_path):
    def write(number, text, mode="a"):
        path = tmp_path / f"Orthanc.log.20261130-10000{number}.1"
        with open(path, mode) as file:
            file.write(text)
        os.utime(path, (number, number))

    def since(mark):
        return orthanc_log.since("orthanc", str(tmp_path), mark)

    assert since(None) == ([], None)
    write(1, "a\nb\nhal")
    lines, mark = since(None)
    assert lines == ["a", "b"]
    assert since(mark) == ([], mark)
    write(1, "f\nc\n")
    lines, mark = since(mark)
    assert lines == ["half", "c"]
    # Of a start that nobody has looked at yet, too.
    write(1, "d\n")
    write(2, "e\n")
    write(3, "f\n")
    lines, mark = since(mark)
    assert lines == ["d", "e", "f"]
    # The one that was read is gone.
    (tmp_path / "Orthanc.log.20261130-100003.1").unlink()
    assert since(mark)[0] == ["e"]
    # Of a host whose log was the journal before.
    assert since("s=123")[0] == ["e"]


def test_of_a_large_log_the_end_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(orthanc_log, "MOST", 6)
    (tmp_path / "orthanc.log.1").write_text("a\nb\nc\nd\ne\n")
    assert orthanc_log.since("orthanc", str(tmp_path))[0] == ["c", "d", "e"]
