"""What a configuration changes in the behaviour of the server."""

import json

import orthanc_differences
import orthanc_json
import pytest
from hypothesis import given
from hypothesis import strategies as st

NAMES = st.text("abcABC", min_size=1, max_size=3)
SCALARS = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text(max_size=5)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3)
)
OPTIONS = st.dictionaries(NAMES, VALUES, max_size=4)
differences = orthanc_differences.differences


@pytest.mark.parametrize(
    ("old", "new", "changes"),
    [
        ({}, {}, {}),
        ({"a": 1}, {"a": 1}, {}),
        ({"a": 1}, {"a": 2}, {"a": {"old": 1, "new": 2}}),
        ({"a": 1}, {}, {"a": {"old": 1}}),
        ({}, {"a": 1}, {"a": {"new": 1}}),
        ({"a": 1}, {"a": True}, {"a": {"old": 1, "new": True}}),
        ({"a": None}, {}, {"a": {"old": None}}),
        (
            {"UserMetadata": {"x": 1, "y": 2}},
            {"UserMetadata": {"x": 1, "y": 3}},
            {"UserMetadata:y": {"old": 2, "new": 3}},
        ),
        ({"a": {}}, {}, {"a": {"old": {}}}),
        ({"UserMetadata": {"x": 1}}, {"UserMetadata": 5}, {"UserMetadata:x": {"old": 1}}),
        ({"a": [1]}, {"a": [1, "b"]}, {"a": {"old": [1], "new": [1, "b"]}}),
        # In JSON, true is no number, however deep.
        ({"a": [1]}, {"a": [True]}, {"a": {"old": [1], "new": [True]}}),
        # What is named comes and goes as one.
        (
            {"DicomModalities": {"ct": {"AET": "CT", "Port": 1}}},
            {"DicomModalities": {"mr": {"AET": "MR", "Port": 2}}},
            {
                "DicomModalities:ct": {"old": {"AET": "CT", "Port": 1}},
                "DicomModalities:mr": {"new": {"AET": "MR", "Port": 2}},
            },
        ),
    ],
)
def test_differences(old, new, changes):
    assert differences(old, new) == changes


@given(OPTIONS, OPTIONS)
def test_there_are_differences_exactly_where_something_differs(old, new):
    assert differences(old, old) == {}
    assert bool(differences(old, new)) == (orthanc_json.dump(old) != orthanc_json.dump(new))


SECRET = "Geheim-4711"


@pytest.mark.parametrize(
    "options",
    [
        {"RegisteredUsers": {"anna": SECRET}},
        {"OrthancPeers": {"x": ["http://x/", "user", SECRET]}},
        {"OrthancPeers": {"x": {"Url": "http://x/", "Password": SECRET}}},
        {"OrthancPeers": {"x": {"Url": f"http://u:{SECRET}@x/"}}},
        {"PostgreSQL": {"Password": SECRET}},
        {"PostgreSQL": {"ConnectionUri": f"postgresql://u:{SECRET}@h/db"}},
        {"MySQL": {"Password": SECRET}},
        {"DicomWeb": {"Servers": {"x": ["http://x/", "user", SECRET]}}},
        {"DicomWeb": {"Servers": {"x": {"HttpHeaders": {"Authorization": SECRET}}}}},
        {"HttpProxy": f"http://u:{SECRET}@proxy:8080"},
        {"AwsS3Storage": {"SecretKey": SECRET}},
        {"AwsS3Storage": {"AccessKey": SECRET}},
        {"AzureBlobStorage": {"ConnectionString": SECRET}},
        {"Authorization": {"TokenHttpHeaders": [SECRET]}},
        {"CustomSection": {"deep": [{"ApiKey": SECRET}]}},
        {"DicomTlsPrivateKeyPassword": SECRET},
    ],
)
def test_no_secret_is_in_the_differences(options):
    other = json.loads(json.dumps(options).replace(SECRET, SECRET + "-old"))
    for old, new in [({}, options), (options, {}), (other, options)]:
        changes = differences(old, new)
        assert changes
        assert SECRET not in json.dumps(changes)


@given(VALUES)
def test_the_values_of_registered_users_are_hidden_whatever_they_are(value):
    shown = json.dumps(differences({}, {"RegisteredUsers": {"anna": value}}))
    assert set(json.loads(shown)) <= {"RegisteredUsers:anna", "RegisteredUsers"} | {
        name for name in json.loads(shown) if name.startswith("RegisteredUsers:anna:")
    }
    if isinstance(value, str) and len(value) > 3:
        assert value not in shown


FOLDER = "/etc/orthanc"
SAMPLE = {
    **{"Name": "other", "HttpPort": 8042, "LimitFindResults": 0, "WebDavEnabled": True},
    **{"StorageDirectory": "OrthancStorage", "IndexDirectory": "OrthancStorage"},
    **{"DicomModalities": {}, "OrthancPeers": {}, "TemporaryDirectory": None, "LuaScripts": []},
    "OverwriteInstances": False,
}
CT = {"AET": "CT1", "Host": "192.0.2.17", "Port": 104}
PEER = {"Url": "http://x/", "Username": "u", "Password": "p"}


def changed(old, new, others=None, version="1.12.7"):
    """Return what differs between two configurations of a server."""
    here = {"version": version, "sample": SAMPLE}
    before, after = ({"a.json": old}, FOLDER), (new, FOLDER)
    return orthanc_differences._changed(before, after, others or {}, here)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        # Orthanc's own default, said or not.
        ({"HttpPort": 8042}, {"Name": ""}),
        ({"Name": "Ward", "LuaScripts": []}, {"Name": "Ward"}),
        ({"Name": "Ward"}, {"Name": "Ward", "RestApiWriteToFileSystemEnabled": False}),
        # Who is asked for a password follows from who may come.
        (
            {"RemoteAccessAllowed": True},
            {"RemoteAccessAllowed": True, "AuthenticationEnabled": True},
        ),
        ({"AuthenticationEnabled": False}, {"Name": ""}),
        # Nobody is asked for a certificate, as in Debian's files.
        ({"SslTrustedClientCertificates": "trusted.pem", "Name": "x"}, {"Name": "x"}),
        # The same place.
        ({"StorageDirectory": "x"}, {"StorageDirectory": f"{FOLDER}/x"}),
        ({"StorageDirectory": "/x"}, {"StorageDirectory": "/x", "IndexDirectory": "/x"}),
        # Both notations.
        ({"DicomModalities": {"ct": [*CT.values()]}}, {"DicomModalities": {"ct": CT}}),
        ({"DicomModalities": {"ct": [*CT.values(), "Generic"]}}, {"DicomModalities": {"ct": CT}}),
        ({"DicomModalities": {"ct": {**CT, "AllowEcho": True}}}, {"DicomModalities": {"ct": CT}}),
        ({"OrthancPeers": {"x": [*PEER.values()]}}, {"OrthancPeers": {"x": PEER}}),
        # What a plugin does not do.
        ({"Worklists": {"Enable": False, "Database": "/x"}}, {"Name": ""}),
        (
            {"ServeFolders": {}, "PostgreSQL": {"EnableIndex": False, "Host": "x"}},
            {"HttpPort": 8042},
        ),
    ],
)
def test_what_is_the_same_for_the_server_is_no_change(old, new):
    assert changed(old, new) == {}
    assert changed(new, old) == {}


@pytest.mark.parametrize(
    ("old", "new", "changes"),
    [
        (
            {"Name": "Ward"},
            {"HttpPort": 1},
            {
                "Name": {"old": "Ward", "new": ""},
                "HttpPort": {"old": 8042, "new": 1},
            },
        ),
        # Of what has no known default, only what is said.
        (
            {"TemporaryDirectory": "/x"},
            {"Name": ""},
            {"TemporaryDirectory": {"old": "/x"}},
        ),
        (
            {"WebDavEnabled": True},
            {"WebDavEnabled": False},
            {
                "WebDavEnabled": {"old": True, "new": False},
            },
        ),
        (
            {"RemoteAccessAllowed": True},
            {"AuthenticationEnabled": True},
            {
                "RemoteAccessAllowed": {"old": True, "new": False},
            },
        ),
        (
            {"RemoteAccessAllowed": True},
            {"AuthenticationEnabled": False},
            {
                "AuthenticationEnabled": {"old": True, "new": False},
                "RemoteAccessAllowed": {"old": True, "new": False},
            },
        ),
        (
            {"StorageDirectory": "/x"},
            {"StorageDirectory": "/x", "IndexDirectory": "/y"},
            {
                "IndexDirectory": {"old": "/x", "new": "/y"},
            },
        ),
        (
            {"DicomModalities": {"ct": [*CT.values()]}},
            {"DicomModalities": {"ct": {**CT, "Port": 105}}},
            {
                "DicomModalities:ct:Port": {"old": 104, "new": 105},
            },
        ),
        (
            {"DicomModalities": {"ct": CT}},
            {"DicomModalities": {"ct": {**CT, "AllowFind": False}}},
            {
                "DicomModalities:ct:AllowFind": {"new": False},
            },
        ),
        (
            {"DicomModalities": {"ct": CT}},
            {"Name": ""},
            {"DicomModalities:ct": {"old": CT}},
        ),
        (
            {"Worklists": {"Enable": True, "Database": "/x"}},
            {"Worklists": {"Enable": False}},
            {
                "Worklists:Database": {"old": "/x"},
                "Worklists:Enable": {"old": True},
            },
        ),
        # A configuration that is not there yet has no defaults.
        ({}, {"HttpPort": 1}, {"HttpPort": {"new": 1}}),
        ({"HttpPort": 1}, {}, {"HttpPort": {"old": 1}}),
    ],
)
def test_what_changes_for_the_server(old, new, changes):
    assert changed(old, new) == changes


@given(st.dictionaries(st.sampled_from([*SAMPLE, "OtherOption"]), SCALARS, max_size=6))
def test_a_configuration_is_the_same_with_the_defaults_said(options):
    assert changed(options, options) == {}
    said = {option: value for option, value in SAMPLE.items() if value is not None}
    said.update(
        {"Name": ""},
        **{place: FOLDER + "/OrthancStorage" for place in orthanc_differences.DEPENDENT[:2]},
    )
    if "StorageDirectory" not in options:
        assert changed({**options, "HttpPort": 1}, {**said, **options, "HttpPort": 1}) == {}


def test_both_forms_of_one_option_are_one_for_a_version_that_has_the_new_one():
    both = ({"OverwriteInstances": True}, {"OverwriteInstances": "Always"})
    assert changed(*both, version="1.13.0") == {}
    assert changed({"OverwriteInstances": False}, {"Name": ""}, version="1.13.0") == {}


def test_what_another_file_says_holds_on_both_sides():
    others = {"RemoteAccessAllowed": True, "Name": "Ward"}
    assert changed({"AuthenticationEnabled": True}, {"HttpPort": 8042}, others) == {}


def test_users_are_said_first_then_devices_then_other_servers():
    old = {
        "DicomWeb": {"Root": "/w/", "Servers": {"web": ["http://x/"]}},
        "OrthancPeers": {"far": PEER, "kept": PEER},
        "DicomModalities": {"ct": CT, "kept": {**CT, "LocalAet": "X"}},
        "RegisteredUsers": {"old:with a colon": "x", "anna": "y"},
    }
    new = {
        "DicomWeb": {"Root": "/v/", "Servers": {}},
        "OrthancPeers": {"kept": {"Url": "http://x/"}, "new": PEER},
        "DicomModalities": {"kept": CT},
        "RegisteredUsers": {"anna": "z"},
    }
    gone = ["user old:with a colon", "modality ct", "peer far", "DICOMweb server web"]
    changes = changed(old, new)
    assert orthanc_differences.gone({"x": changes, "y": {"old": None, "new": "written"}}) == gone
    everything = orthanc_differences.gone({"x": changed(old, {"Name": ""})})
    assert everything[:2] == ["user anna", "user old:with a colon"]
    assert {"peer far", "peer kept", "modality ct", "modality kept"} <= {*everything}
    assert orthanc_differences.gone({"x": changed(old, old)}) == []
    assert "http://x/" not in json.dumps([changes[o] for o in changes if "Peers" in o])
