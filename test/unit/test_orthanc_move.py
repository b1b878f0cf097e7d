"""The index moved: what is asked before, and what is said afterwards."""

import contextlib

import orthanc_move
import pytest
from salt.exceptions import CommandExecutionError


def test_what_is_said_of_a_run_is_what_failed_by_itself():
    states = {
        "a": {"result": True, "comment": "good"},
        "b": {"result": None, "comment": "would be"},
        "c": {"result": False, "comment": "the disk is full"},
        "d": {"result": False, "comment": "One or more requisite failed: c"},
    }
    assert orthanc_move._failed(states) == ["the disk is full"]


SQLITE = {"StorageDirectory": "/images", "IndexDirectory": "/images"}
SECTION = {"EnableIndex": True, "ConnectionUri": "postgresql:///orthanc"}


DATABASE, OTHER = (
    {"PostgreSQL": SECTION},
    {"PostgreSQL": {**SECTION, "ConnectionUri": "postgresql:///b"}},
)
WITH_IMAGES = {"PostgreSQL": {**SECTION, "EnableStorage": True}}


@pytest.mark.parametrize(
    ("options", "wanted", "words"),
    [
        ({}, SQLITE, "there is no Orthanc"),
        ({**SQLITE, "MySQL": {"EnableIndex": True}}, DATABASE, "a database that the formula does"),
        (SQLITE, SQLITE, "set orthanc:postgresql:enabled to true"),
        (DATABASE, DATABASE, "set orthanc:postgresql:enabled to false"),
        (DATABASE, OTHER, "and not from postgresql:///orthanc to postgresql:///b"),
        (WITH_IMAGES, SQLITE, "the images themselves"),
        (SQLITE, WITH_IMAGES, "set orthanc:postgresql:storage to false"),
    ],
)
def test_what_is_not_to_be_moved_is_said(monkeypatch, options, wanted, words):
    given = {"orthanc_folder.options_in_use": lambda *_: options}
    monkeypatch.setattr(orthanc_move, "__salt__", {**orthanc_move.__salt__, **given})
    monkeypatch.setattr(orthanc_move, "_wanted", lambda: wanted)
    with pytest.raises(CommandExecutionError, match=words):
        orthanc_move._ready("/etc/orthanc", lose=False)


@pytest.mark.parametrize(
    ("used", "noted", "files", "databases"),
    [
        ("SQLite", {}, [], []),
        ("postgresql:///a", {"kept": ["/index.moved-1"]}, ["index.moved-1"], []),
        ("SQLite", {"kept": ["/index.moved-1", "postgresql:///a"]}, ["index.moved-1"], ["a"]),
        # Never the one that is served.
        ("postgresql:///a", {"kept": ["postgresql:///a"]}, [], []),
        ("SQLite", {"begun": {"target": "SQLite"}}, [], []),
        # What was filled in vain.
        ("SQLite", {"begun": {"target": "postgresql:///a"}}, [], ["a"]),
        ("postgresql:///a", {"begun": {"target": "SQLite"}}, ["index"], []),
        ("SQLite", {"begun": {"target": "postgresql:///a", "served": True}}, [], []),
    ],
)
def test_only_old_indexes_are_forgotten(monkeypatch, tmp_path, used, noted, files, databases):
    emptied, written = [], []
    noted = {**noted, "kept": [k.replace("/i", f"{tmp_path}/i") for k in noted.get("kept", ())]}
    for name in ("index", "index-wal", "index.moved-1", "index.moved-1-wal"):
        (tmp_path / name).touch()
    given = {
        "orthanc_server.url": lambda _: "http://127.0.0.1:1",
        "orthanc_http.answers": lambda _: True,
        "orthanc_move_note.read": lambda _: noted,
        "orthanc_move_note.write": lambda _, **values: written.append(values),
        "orthanc_folder.located": lambda _: {"IndexDirectory": str(tmp_path)},
        "orthanc_postgresql.index": lambda _: used,
        "orthanc_index_checks.empty": lambda place, _: emptied.append(place),
    }
    monkeypatch.setattr(orthanc_move, "__salt__", {**orthanc_move.__salt__, **given})
    orthanc_move.forget("/etc/orthanc")
    gone = {each for name in files for each in (name, f"{name}-wal")}
    left = {"index", "index-wal", "index.moved-1", "index.moved-1-wal"} - gone
    assert {path.name for path in tmp_path.iterdir()} == left
    assert emptied == [f"postgresql:///{name}" for name in databases]
    assert written == [{"begun": None, "kept": None, "forgotten": []}]


def test_a_database_that_lets_nobody_in_may_be_filled_again(monkeypatch, tmp_path):
    def empty(*_):
        raise CommandExecutionError("no password supplied")

    written, place = {}, "postgresql://db:5432/images"
    given = {
        "orthanc_server.url": lambda _: "http://127.0.0.1:1",
        "orthanc_http.answers": lambda _: True,
        "orthanc_move_note.read": lambda _: {"kept": [place], "forgotten": ["another"]},
        "orthanc_move_note.write": lambda _, **values: written.update(values),
        "orthanc_folder.located": lambda _: {"IndexDirectory": str(tmp_path)},
        "orthanc_index_checks.empty": empty,
    }
    monkeypatch.setattr(orthanc_move, "__salt__", {**orthanc_move.__salt__, **given})
    found = orthanc_move.forget("/etc/orthanc")
    assert found["not emptied"] == {place: "no password supplied"}
    assert written["forgotten"] == ["another", place]


@pytest.mark.parametrize(
    ("said", "later"),
    [
        ("No matching sls found for 'orthanc' in env 'base'", True),
        ('The function "state.apply" is running as PID 1', False),
        ("Rendering SLS 'base:orthanc.init' failed", False),
    ],
)
def test_only_where_another_program_has_the_formula_a_later_run_moves(monkeypatch, said, later):
    noted = {}
    given = {
        "orthanc_backup_job.alone": lambda *_: contextlib.nullcontext(),
        "orthanc_move_note.read": lambda _: noted,
        "orthanc_move_note.write": lambda _, **values: noted.update(values),
        "state.apply": lambda *_, **__: [said],
    }
    monkeypatch.setattr(orthanc_move, "__salt__", {**orthanc_move.__salt__, **given})
    monkeypatch.setattr(orthanc_move, "_ready", lambda *_: {"images": 1})
    if later:
        assert "next" in orthanc_move.run("/etc/orthanc")
    else:
        with pytest.raises(CommandExecutionError, match=said[:10]):
            orthanc_move.run("/etc/orthanc")
    assert bool(noted["asked"]) == later


def test_a_move_that_was_killed_at_last_is_settled_before_the_old_index_is_forgotten(monkeypatch):
    place, emptied = "postgresql:///a", []
    noted = {"begun": {"source": place, "target": "SQLite"}}

    def arrived(*_):
        noted.update(begun={**noted["begun"], "served": True}, kept=[place])

    given = {
        "orthanc_server.url": lambda _: "http://127.0.0.1:1",
        "orthanc_http.answers": lambda _: True,
        "orthanc_cutover.arrived": arrived,
        "orthanc_move_note.read": lambda _: noted,
        "orthanc_move_note.write": lambda _, **values: None,
        "orthanc_folder.located": lambda _: {"IndexDirectory": "/images"},
        "orthanc_postgresql.index": lambda _: "SQLite",
        "orthanc_index_checks.empty": lambda old, _: emptied.append(old),
    }
    monkeypatch.setattr(orthanc_move, "__salt__", {**orthanc_move.__salt__, **given})
    assert orthanc_move.forget("/etc/orthanc") == {"forgotten": emptied} == {"forgotten": [place]}
