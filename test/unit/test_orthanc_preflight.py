"""What a trial start replaces, and which databases are asked for."""

import copy
import json

import orthanc_options
import orthanc_preflight as preflight
import orthanc_tables
import pytest
from hypothesis import given
from hypothesis import strategies as st

REAL = {
    "HttpPort": 8042,
    "DicomPort": 4242,
    "StorageDirectory": "/var/lib/orthanc/db-v6",
    "IndexDirectory": "/var/lib/orthanc/db-v6",
    "RemoteAccessAllowed": True,
    "Name": "Ward",
    "LuaScripts": ["/etc/orthanc/orthanc-formula-users.lua"],
    "PostgreSQL": {"EnableIndex": True, "EnableStorage": True, "Host": "db"},
    "MySQL": {"EnableIndex": True},
    "AwsS3Storage": {"BucketName": "images"},
    "Indexer": {"Enable": True, "TakeOwnership": True},
    "DelayedDeletion": {"Enable": True, "Path": "/var/lib/orthanc/pending"},
    "MultitenantDicom": {"Servers": [{"AET": "A", "Port": 4243}, {"AET": "B", "Port": 4244}]},
    "DicomWeb": {"Root": "/dicom-web/"},
}


def test_a_trial_touches_nothing_real():
    before = copy.deepcopy(REAL)
    trial = preflight.scratch(REAL, iter(range(20000, 20010)), "/x")
    assert before == REAL
    text = json.dumps(trial)
    for real in ("8042", "4242", "4243", "4244", "/var/lib", "images"):
        assert real not in text
    assert trial["PostgreSQL"]["EnableIndex"] is trial["PostgreSQL"]["EnableStorage"] is False
    assert trial["MySQL"]["EnableIndex"] is False
    assert trial["Indexer"]["Enable"] is False
    assert "DelayedDeletion" not in trial
    assert trial["RemoteAccessAllowed"] is False
    ports = [trial["HttpPort"], trial["DicomPort"]]
    ports += [server["Port"] for server in trial["MultitenantDicom"]["Servers"]]
    assert len(set(ports)) == 4


def test_a_trial_keeps_the_rest():
    trial = preflight.scratch(REAL, iter(range(20000, 20010)), "/x")
    for option in ("Name", "LuaScripts", "DicomWeb"):
        assert trial[option] == REAL[option]


@given(
    st.dictionaries(
        st.sampled_from(sorted(orthanc_tables.SECTIONS)),
        st.none() | st.integers() | st.text() | st.lists(st.integers()) | st.just({}),
    )
)
def test_a_trial_can_be_made_of_any_section(options):
    assert preflight.scratch(options, iter(range(20000, 20010)), "/x")["HttpPort"]
    assert preflight.databases(options) == {}


@pytest.mark.parametrize(
    ("section", "keys", "found"),
    [
        ("PostgreSQL", {"Host": "db", "Port": 5433}, ("Host", ("db", 5433))),
        ("PostgreSQL", {"Host": "db"}, ("Host", ("db", 5432))),
        ("PostgreSQL", {}, ("Host", ("localhost", 5432))),
        ("PostgreSQL", {"Host": ""}, ("Host", "/var/run/postgresql/.s.PGSQL.5432")),
        ("PostgreSQL", {"Host": "/run/x", "Port": 5433}, ("Host", "/run/x/.s.PGSQL.5433")),
        (
            "PostgreSQL",
            {"ConnectionUri": "postgresql://u:p@db.example:5433/x?sslmode=verify-full"},
            ("ConnectionUri", ("db.example", 5433)),
        ),
        (
            "PostgreSQL",
            {"ConnectionUri": "postgresql:///orthanc", "Host": "ignored"},
            ("ConnectionUri", "/var/run/postgresql/.s.PGSQL.5432"),
        ),
        (
            "PostgreSQL",
            {"ConnectionUri": "postgresql:///x?host=/run/pg&port=5433"},
            ("ConnectionUri", "/run/pg/.s.PGSQL.5433"),
        ),
        (
            "PostgreSQL",
            {"ConnectionUri": "postgresql://%2Frun%2Fpg/x"},
            ("ConnectionUri", "/run/pg/.s.PGSQL.5432"),
        ),
        (
            "PostgreSQL",
            {"ConnectionUri": "postgresql://[2001:db8::1]/x"},
            ("ConnectionUri", ("2001:db8::1", 5432)),
        ),
        ("MySQL", {"Host": "db"}, ("Host", ("db", 3306))),
        ("MySQL", {}, ("UnixSocket", "/var/run/mysqld/mysqld.sock")),
        ("MySQL", {"UnixSocket": "/run/x.sock"}, ("UnixSocket", "/run/x.sock")),
    ],
)
def test_where_the_database_is(section, keys, found):
    assert preflight.databases({section: {**keys, "EnableIndex": True}}) == {section: found}
    assert preflight.databases({section: {**keys, "EnableStorage": True}}) == {section: found}
    assert preflight.databases({section: {**keys, "EnableIndex": False}}) == {}


def test_several_databases_one_after_the_other_are_not_asked_for():
    uri = "postgresql://one:5432,two:5432/orthanc"
    options = {"PostgreSQL": {"EnableIndex": True, "ConnectionUri": uri}}
    assert preflight.databases(options) == {}


@pytest.mark.parametrize("uri", ["host=/run/pg dbname=orthanc", "postgresql://h:x/y", "dbname=x"])
def test_what_is_no_plain_url_is_not_asked_for(uri):
    options = {"PostgreSQL": {"EnableIndex": True, "ConnectionUri": uri}}
    assert preflight.databases(options) == {}


@pytest.mark.parametrize(
    ("uri", "right"),
    [
        ("postgresql://u:p%40ss@db.example:5432/orthanc?sslmode=verify-full", True),
        ("postgres:///orthanc?user=x", True),
        ("postgresql://one:5432,two:5432/orthanc", True),
        ("host=db password='a@b'", True),
        ("postgresql://u:p@ss@db/orthanc", False),
        ("postgresql://u:12/x@db/orthanc", False),
    ],
)
def test_the_password_in_a_url_is_encoded(uri, right):
    problems = orthanc_options.check({"PostgreSQL": {"EnableIndex": True, "ConnectionUri": uri}})
    assert bool(problems) is not right
