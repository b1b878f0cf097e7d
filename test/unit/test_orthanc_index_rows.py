"""The rows of an index: what is asked of both sides, and what of it cannot be moved."""

import json
import sqlite3

import orthanc_index_checks
import orthanc_index_rows
import pytest
from salt.exceptions import CommandExecutionError

# As Orthanc 1.12.7 makes them, and what 1.12.8 adds.
OLD = """
CREATE TABLE GlobalProperties(property INTEGER PRIMARY KEY, value TEXT);
CREATE TABLE Resources(internalId INTEGER PRIMARY KEY AUTOINCREMENT, resourceType INTEGER,
 publicId TEXT, parentId INTEGER);
CREATE TABLE MainDicomTags(id INTEGER, tagGroup INTEGER, tagElement INTEGER, value TEXT);
CREATE TABLE DicomIdentifiers(id INTEGER, tagGroup INTEGER, tagElement INTEGER, value TEXT);
CREATE TABLE Metadata(id INTEGER, type INTEGER, value TEXT);
CREATE TABLE AttachedFiles(id INTEGER, fileType INTEGER, uuid TEXT, compressedSize INTEGER,
 uncompressedSize INTEGER, compressionType INTEGER, uncompressedMD5 TEXT, compressedMD5 TEXT);
CREATE TABLE Changes(seq INTEGER PRIMARY KEY AUTOINCREMENT, changeType INTEGER,
 internalId INTEGER, resourceType INTEGER, date TEXT);
CREATE TABLE ExportedResources(seq INTEGER PRIMARY KEY AUTOINCREMENT, resourceType INTEGER,
 publicId TEXT, remoteModality TEXT, patientId TEXT, studyInstanceUid TEXT,
 seriesInstanceUid TEXT, sopInstanceUid TEXT, date TEXT);
CREATE TABLE PatientRecyclingOrder(seq INTEGER PRIMARY KEY AUTOINCREMENT, patientId INTEGER);
INSERT INTO GlobalProperties VALUES (1, '6'), (6, '1');
INSERT INTO Resources VALUES (1, 1, 'aa', NULL);
INSERT INTO Metadata VALUES (1, 3, '20260101T000000');
"""
NEW = """
ALTER TABLE Metadata ADD COLUMN revision INTEGER;
ALTER TABLE AttachedFiles ADD COLUMN revision INTEGER;
ALTER TABLE AttachedFiles ADD COLUMN customData BLOB;
CREATE TABLE Labels(id INTEGER, label TEXT);
CREATE TABLE KeyValueStores(storeId TEXT, key TEXT, value BLOB);
UPDATE Metadata SET revision = 2;
INSERT INTO Labels VALUES (1, 'urgent');
"""
JOBS = json.dumps({"Jobs": {"a": {"State": "Success"}, "b": {"State": "Pending"}}, "Type": "x"})


class Psql:
    """Notes what is written to it, and answers in turn."""

    def __init__(self, *answers):
        self.answers, self.text = list(answers), ""

    def write(self, text):
        self.text += text

    def read(self):
        return self.answers.pop(0)


@pytest.fixture
def index(tmp_path):
    """A function that makes an index, and returns its path."""

    def make(*scripts):
        path = str(tmp_path / "index ?")
        connection = sqlite3.connect(path)
        connection.executescript("".join(scripts))
        connection.close()
        return path

    return make


def rows(path):
    with orthanc_index_rows.opened(path) as connection:
        return {table: (names, list(found)) for table, names, found in _tables(connection)}


def _tables(connection):
    return orthanc_index_rows.tables(connection)


def test_each_table_that_an_index_has_is_read(index):
    found = rows(index(OLD))
    assert "Labels" not in found
    # What it does not know is 0, as a new one has it.
    assert found["Metadata"] == (
        ("id", "type", "value", "revision"),
        [(1, 3, "20260101T000000", 0)],
    )
    assert found["Resources"][1] == [(1, 1, "aa", None)]


def test_what_newer_ones_have_is_read_too(index):
    found = rows(index(OLD, NEW, "INSERT INTO Metadata VALUES (1, 4, 'x', NULL)"))
    assert [row[-1] for row in found["Metadata"][1]] == [2, 0]
    assert found["Labels"][1] == [(1, "urgent")]


def test_nothing_is_written_beside_an_index_that_is_read(index, tmp_path):
    path = index("PRAGMA journal_mode = WAL;", OLD)
    rows(path)
    assert [found.name for found in tmp_path.iterdir()] == ["index ?"]


@pytest.mark.parametrize(
    ("row", "kind", "line"),
    [
        ((1, 1, "aa", None), 1, "1\t0\taa\t\\N\n"),
        ((1, 2, "a\\b\tc\nd\re\vf\bg\fh"), None, "1\t2\ta\\\\b\\tc\\nd\\re\\vf\\bg\\fh\n"),
        ((7, ""), None, "7\t\n"),
        ((7, "\\N"), None, "7\t\\\\N\n"),
        ((7, "\\."), None, "7\t\\\\.\n"),
    ],
)
def test_a_row_is_written_as_copy_reads_it_and_comes_back(row, kind, line):
    assert orthanc_index_rows._line(row, kind) == line
    if kind is None:
        psql = Psql(line[:-1], orthanc_index_rows.MARK)
        (found,) = orthanc_index_rows._read(psql, [True] * len(row))
        assert found == [None if value is None else str(value) for value in row]


def test_columns_that_are_not_kept_are_left_out():
    psql = Psql("1\t3\tx\t0", orthanc_index_rows.MARK)
    assert list(orthanc_index_rows._read(psql, [True, True, True, False])) == [["1", "3", "x"]]


def digest(*rows):
    found = orthanc_index_rows.Digest()
    for row in rows:
        found.add(row)
    return found.value


def test_a_digest_tells_rows_from_other_ones():
    one, two = (1, "a", None), (2, "b", "c")
    assert digest(one, two) == digest(two, one)
    others = [
        *([one], [one, one], [one, two, two], [one, (2, "b", None)]),
        *([one, (2, "bc", "")], [one, (2, "b", "C")], [(1, "a", ""), two]),
    ]
    assert digest(one, two) not in [digest(*rows) for rows in others]


def test_what_differs_between_both_is_said():
    columns = {"Labels": orthanc_index_rows.Columns("Labels", {"id", "label"})}
    made = {"Labels": digest((1, "urgent"))}
    orthanc_index_rows._compare(Psql("|".join(map(str, made["Labels"]))), made, columns)
    for answer in ("0|0", f"1|{made['Labels'][1] + 1}"):
        with pytest.raises(CommandExecutionError, match="Labels is not the same on both sides"):
            orthanc_index_rows._compare(Psql(answer), made, columns)


def test_postgresql_makes_the_digest_of_what_sqlite_has():
    columns = orthanc_index_rows.Columns("Changes", set(orthanc_index_rows.TABLES["Changes"]))
    assert "coalesce((resourcetype + 1)::text, E'\\x1e')" in columns.digest()
    columns = orthanc_index_rows.Columns("AttachedFiles", {"uncompressedMD5"})
    assert columns.postgresql[-3:] == ["uncompressedhash", "compressedhash", "revision"]
    assert columns.read[-3:] == ["uncompressedhash", "0", "0"]


def test_labels_are_not_lost_where_the_plugin_knows_none(index):
    with orthanc_index_rows.opened(index(OLD, NEW)) as connection:
        columns = orthanc_index_rows._columns(connection)
        with pytest.raises(CommandExecutionError, match="there are 1 labels"):
            orthanc_index_rows._refuse_labels(connection, columns)
    assert "Labels" not in columns


def test_numbers_go_on_where_they_were(index):
    path = index(OLD, "INSERT INTO Changes VALUES (7, 1, 1, 1, 'x'); DELETE FROM Changes")
    with orthanc_index_rows.opened(path) as connection:
        last = orthanc_index_rows._last
        assert last(connection, "Changes", "seq") == 7
        assert last(connection, "Resources", "internalId") == 1
        assert last(connection, "ExportedResources", "seq") == 0


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("", []),
        ("UPDATE Metadata SET value = CAST(x'610062' AS TEXT)", ["Metadata: 1", "a NUL byte"]),
        ("UPDATE Metadata SET value = CAST(x'ff' AS TEXT)", ["Metadata: 1", "no UTF-8"]),
        (f"UPDATE Resources SET publicId = '{'x' * 65}'", ["publicId", "over 64"]),
        (f"UPDATE Metadata SET value = '{'x' * 65}'", []),
        ("UPDATE GlobalProperties SET value = '5' WHERE property = 1", ["a version that is not"]),
        ("DELETE FROM GlobalProperties", ["a version that is not"]),
    ],
)
def test_what_postgresql_does_not_take_is_said_before(index, script, words):
    found = orthanc_index_checks.problems(index(OLD, script))
    assert len(found) == bool(words)
    for word in words:
        assert word in found[0]


def test_notes_of_plugins_on_files_are_not_lost(index):
    row = "INSERT INTO AttachedFiles(id, customData) VALUES (1, {})"
    assert orthanc_index_checks.problems(index(OLD, NEW, row.format("NULL"))) == []


def test_notes_of_plugins_on_files_are_said(index):
    row = "INSERT INTO AttachedFiles(id, customData) VALUES (1, x'00')"
    (found,) = orthanc_index_checks.problems(index(OLD, NEW, row))
    assert "notes of its own on 1 files" in found


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("", []),
        (f"INSERT INTO GlobalProperties VALUES (5, '{JOBS}')", ["1 jobs that have not ended"]),
        ("INSERT INTO GlobalProperties VALUES (5, 'damaged'), (3, '12')", []),
        ("INSERT INTO GlobalProperties VALUES (20, '{}'), (21, NULL)", []),
        (
            "INSERT INTO GlobalProperties VALUES (20, '{\"a\": 1}'), (1024, 'x')",
            [
                "the property 20 (modalities, of DicomModalitiesInDatabase)",
                "the property 1024 (of a plugin)",
            ],
        ),
        (
            "INSERT INTO KeyValueStores VALUES ('a', 'b', 'c')",
            ["1 rows of plugins in KeyValueStores"],
        ),
    ],
)
def test_what_would_be_lost_is_said(index, script, expected):
    assert orthanc_index_checks.lost({}, {}, index(OLD, NEW, script)) == expected


def test_what_is_no_index_is_said(tmp_path):
    path = tmp_path / "index"
    path.write_text("nothing of the kind " * 100)
    with pytest.raises(CommandExecutionError, match="cannot be moved"):
        orthanc_index_checks.problems(str(path))
