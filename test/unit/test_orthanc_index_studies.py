"""What an index in SQLite says of studies."""

import sqlite3

import orthanc_index
import pytest

SCHEMA = """
CREATE TABLE Resources (internalId INTEGER, resourceType INTEGER, publicId TEXT, parentId INTEGER);
CREATE TABLE MainDicomTags (id INTEGER, tagGroup INTEGER, tagElement INTEGER, value TEXT);
CREATE TABLE Metadata (id INTEGER, type INTEGER, value TEXT);
CREATE TABLE AttachedFiles (id INTEGER, fileType INTEGER, compressedSize INTEGER);
CREATE TABLE PatientRecyclingOrder (seq INTEGER, patientId INTEGER);
INSERT INTO Resources VALUES (1, 1, 'p', NULL), (2, 2, 's', 1);
INSERT INTO MainDicomTags VALUES (2, 8, 32, '20100102');
INSERT INTO Metadata VALUES (2, 7, '20240101T120000');
INSERT INTO PatientRecyclingOrder VALUES (1, 1);
"""


@pytest.fixture
def study():
    """A function that returns what is known of a study, by the SeriesDates of its series."""

    def known(*dates):
        with sqlite3.connect(":memory:") as connection:
            connection.executescript(SCHEMA)
            for number, date in enumerate(dates, start=10):
                series, image = (number, 3, f"e{number}", 2), (10 * number, 4, f"i{number}", number)
                connection.execute("INSERT INTO Resources VALUES (?, ?, ?, ?)", series)
                connection.execute("INSERT INTO Resources VALUES (?, ?, ?, ?)", image)
                files = [(image[0], 1, 100), (image[0], 2, 5)]
                connection.executemany("INSERT INTO AttachedFiles VALUES (?, ?, ?)", files)
                if date is not None:
                    tag = (number, 8, 33, date)
                    connection.execute("INSERT INTO MainDicomTags VALUES (?, ?, ?, ?)", tag)
            ask = lambda statement: connection.execute(statement).fetchall()  # noqa: E731
            return orthanc_index.Index(ask, orthanc_index.SQLITE).all_studies()["s"]

    return known


@pytest.mark.parametrize(
    ("dates", "found"),
    [
        ((None,), []),
        (("", None), []),
        (("20100102", None, "20110102"), ["20100102", "20110102"]),
        # Between the others for who goes by the letters.
        (("20100102", "2024.12.31", "20240101"), ["20100102", "2024.12.31", "20240101"]),
        ((" 20100102", " 20240102", "20100102"), ["20100102", "20240102", "20100102"]),
    ],
)
def test_the_date_of_each_series_is_told(study, dates, found):
    known = study(*dates)
    assert sorted(known["dates"]) == sorted(found)
    assert (known["instances"], known["bytes"]) == (len(dates), 105 * len(dates))
    assert (known["StudyDate"], known["received"]) == ("20100102", "20240101T120000")
    assert not known["protected"]
