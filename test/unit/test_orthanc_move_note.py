"""What is noted of a move of the index, and what follows from it."""

import time

import orthanc_move_note
import pytest

SQLITE = {"StorageDirectory": "/images"}
POSTGRESQL = {"PostgreSQL": {"EnableIndex": True, "ConnectionUri": "postgresql:///orthanc"}}
OTHER = {"PostgreSQL": {"EnableIndex": True, "ConnectionUri": "postgresql:///other"}}
WITH_IMAGES = {"PostgreSQL": {**POSTGRESQL["PostgreSQL"], "EnableStorage": True}}
MYSQL = {"MySQL": {"EnableIndex": True}}


@pytest.fixture
def name(tmp_path, monkeypatch):
    def write(path, text, mode):
        if text is None:
            (tmp_path / "orthanc.index-move").unlink(missing_ok=True)
        else:
            (tmp_path / "orthanc.index-move").write_text(text)

    monkeypatch.setitem(orthanc_move_note.__salt__, "orthanc_files.write", write)
    return str(tmp_path / "orthanc")


def test_it_is_noted_bit_by_bit_and_gone_when_nothing_is_left(name):
    assert orthanc_move_note.read(name) == {}
    orthanc_move_note.write(name, asked=5, lose=False)
    orthanc_move_note.write(name, begun={"target": "SQLite"})
    assert orthanc_move_note.read(name) == {"asked": 5, "begun": {"target": "SQLite"}}
    orthanc_move_note.write(name, asked=None, begun=None)
    assert orthanc_move_note.read(name) == {}


@pytest.mark.parametrize("text", ["", "[]", "{damaged"])
def test_what_somebody_has_written_is_nothing(name, text, tmp_path):
    (tmp_path / "orthanc.index-move").write_text(text)
    assert orthanc_move_note.read(name) == {}


@pytest.mark.parametrize(
    ("before", "options", "expected"),
    [
        (SQLITE, POSTGRESQL, True),
        (POSTGRESQL, SQLITE, True),
        (POSTGRESQL, OTHER, False),
        (SQLITE, SQLITE, False),
        ({}, POSTGRESQL, False),
        (SQLITE, MYSQL, False),
        (SQLITE, WITH_IMAGES, False),
        (WITH_IMAGES, SQLITE, False),
    ],
)
def test_a_move_is_asked_for_between_files_and_a_database(name, before, options, expected):
    assert not orthanc_move_note.is_asked(name, before, options)
    orthanc_move_note.write(name, asked=time.time())
    assert orthanc_move_note.is_asked(name, before, options) == expected
    orthanc_move_note.write(name, asked=time.time() - 2 * orthanc_move_note.ASKED)
    assert not orthanc_move_note.is_asked(name, before, options)


@pytest.mark.parametrize(
    ("noted", "before", "options", "stale"),
    [
        ({}, SQLITE, POSTGRESQL, False),
        ({"begun": {"target": "postgresql:///orthanc"}}, SQLITE, POSTGRESQL, True),
        ({"begun": {"target": "postgresql:///orthanc"}}, SQLITE, OTHER, False),
        ({"begun": {"target": "postgresql:///orthanc"}}, POSTGRESQL, POSTGRESQL, False),
        ({"kept": ["/index.moved-1", "postgresql:///orthanc"]}, SQLITE, POSTGRESQL, True),
        ({"kept": ["/index.moved-1"]}, SQLITE, POSTGRESQL, False),
    ],
)
def test_an_index_that_is_not_the_newest_is_not_served(name, noted, before, options, stale):
    orthanc_move_note.write(name, **noted)
    found = orthanc_move_note.judge(name, before, options)
    assert (found is not None) == stale
    if stale:
        ((path, sentence),) = found
        assert path == ["PostgreSQL", "EnableIndex"]
        assert "orthanc.move_index" in sentence


@pytest.mark.parametrize("test", [True, False])
def test_what_was_only_tried_moves_nothing_later(name, monkeypatch, test):
    """Who tries may be killed, and does not take back what is noted."""
    orthanc_move_note.write(name, asked=time.time(), tried=True)
    monkeypatch.setitem(orthanc_move_note.__opts__, "test", test)
    assert orthanc_move_note.is_asked(name, SQLITE, POSTGRESQL) == test


@pytest.mark.parametrize(
    ("before", "options", "images", "told"),
    [
        (POSTGRESQL, SQLITE, True, True),
        # Nobody says anything of images that are not there, as on a disk that is not mounted.
        (POSTGRESQL, SQLITE, False, False),
        (POSTGRESQL, {"StorageDirectory": "/others"}, True, False),
        (SQLITE, POSTGRESQL, True, False),
        (SQLITE, SQLITE, True, False),
        ({}, SQLITE, True, False),
        (MYSQL, SQLITE, True, False),
    ],
)
def test_who_comes_from_a_database_is_told_once(name, before, options, images, told):
    before = {**before, "StorageDirectory": "/images"} if before else before
    seen = {"storage": {"images": images}}
    assert orthanc_move_note.is_told(name, before, options, seen) == told
    assert not orthanc_move_note.is_told(name, before, options, {})


def test_of_an_index_that_cannot_be_told_nothing_is_said(name):
    cannot_be_read = {"PostgreSQL": {"EnableIndex": True, "ConnectionUri": "password=a blank"}}
    for options in (MYSQL, cannot_be_read):
        assert orthanc_move_note.judge(name, SQLITE, options) is None
