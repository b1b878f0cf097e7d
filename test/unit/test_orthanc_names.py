"""The name that was meant: a slip of the keyboard is answered with it, anything else is not."""

import itertools
import random

import orthanc_names
import orthanc_options as options
import orthanc_shapes
import orthanc_tables as tables
import pytest
from hypothesis import given
from hypothesis import strategies as st
from wrong_settings import CT, FAR

TOP = sorted({*tables.OPTIONS, *tables.SECTIONS, *tables.PLUGIN_OPTIONS})
LEVELS = [[], *([name] for name in sorted(tables.SECTIONS))]
NAMES = {
    ":".join(path): names
    for path, names in orthanc_shapes.mappings(
        {"keys": {**tables.OPTIONS, **tables.SECTIONS}}, [], tables.KINDS
    )
    if path in LEVELS[1:]
}
KEYS = {"": TOP, **NAMES}
LETTERS = "abcdefghijklmnopqrstuvwxyz"


def said(settings, **arguments):
    ((_, sentence),) = options.check(settings, **arguments)
    return sentence


def slips(name, chance):
    """Return a name with one slip of each kind."""
    at = chance.randrange(1, len(name) - 1)
    letter = chance.choice(LETTERS)
    return [
        name[:at] + name[at + 1 :],
        name[:at] + name[at] + name[at:],
        name[:at] + name[at + 1] + name[at] + name[at + 2 :],
        name[:at] + letter + name[at + 1 :],
        name[:at] + letter + name[at:],
    ]


def test_slips_of_the_keyboard_are_helped_and_hardly_ever_led_astray():
    chance = random.Random(12)
    tried, helped, astray = 0, 0, []
    for place, names in KEYS.items():
        for name in names:
            for slip in slips(name, chance) if len(name) > 4 else ():
                if slip.lower() in {one.lower() for one in names}:
                    continue
                end = orthanc_names.meant([*filter(None, [place]), slip], names, {})
                tried += 1
                helped += name in end
                astray += [(place, slip, end)] if "nearest" in end and name not in end else []
    assert tried > 1500
    assert helped >= 0.97 * tried, (helped, tried)
    assert len(astray) <= 0.005 * tried, astray[:20]


def test_two_slips_are_helped_too():
    chance = random.Random(12)
    names = [name for name in TOP if len(name) > 12]
    twice = [
        (name, chance.choice(slips(chance.choice(slips(name, chance)), chance))) for name in names
    ]
    helped = [name in orthanc_names.meant([slip], TOP, {}) for name, slip in twice]
    assert sum(helped) >= 0.9 * len(helped), (sum(helped), len(helped))


@pytest.mark.parametrize(
    ("written", "right"),
    [
        ("MaxStorageSize", "is MaximumStorageSize"),
        ("StorageDir", "is StorageDirectory"),
        ("AuthEnabled", "is AuthenticationEnabled"),
        ("EnableMetrics", "is MetricsEnabled"),
        ("EnableDicomTls", "is DicomTlsEnabled"),
        ("Scripts", "are LuaScripts or PythonScript"),
        ("Modalities", "is DicomModalities"),
        ("Peers", "is OrthancPeers"),
        ("Threads", "belongs below Transfers or WebViewer"),
    ],
)
def test_abbreviations_are_understood(written, right):
    assert right in said({written: "x"})


# From public configurations: what there is no option for, and what is wanted instead.
WRITTEN = [
    ({"HttpHeaders": {"Access-Control-Allow-Origin": "*"}}, "orthanc:https:headers"),
    ({"Access-Control-Allow-Origin": "*"}, "orthanc:https:cors"),
    ({"CORS": True}, "orthanc:https:cors"),
    ({"CorsEnabled": True}, "orthanc:https"),
    ({"CorsOrigins": ["*"]}, "orthanc:https"),
    ({"CORSAllowedOrigins": ["*"]}, "orthanc:https"),
    ({"EnableCors": True}, "orthanc:https"),
    ({"HttpCorsEnabled": True}, "orthanc:https"),
    ({"LogLevel": "default"}, "PUT /tools/log-level"),
    ({"Verbose": True}, "PUT /tools/log-level"),
    ({"VerboseEnabled": True}, "PUT /tools/log-level"),
    ({"TraceEnabled": False}, "PUT /tools/log-level"),
    ({"LogFile": "/var/log/orthanc.log"}, "orthanc:paths:log"),
    ({"LogDirectory": "/var/log/orthanc"}, "orthanc:paths:log"),
    ({"AETitle": "PACS"}, "DicomAet"),
    ({"DicomAET": "PACS"}, "it is spelt DicomAet"),
    ({"DicomAETitle": "PACS"}, "DicomAet"),
    ({"HttpsPort": 8043}, "orthanc:https"),
    ({"HttpsCertificate": "/a.crt"}, "orthanc:https"),
    ({"HttpsPrivateKey": "/a.key"}, "orthanc:https"),
    ({"CertificateFile": "/a.crt"}, "orthanc:https"),
    ({"Username": "admin"}, "orthanc:users"),
    ({"Password": "x"}, "orthanc:users"),
    ({"Users": {}}, "orthanc:users"),
    ({"Port": 8042}, "DicomPort"),
    ({"Host": "0.0.0.0"}, "orthanc:remote_access"),
    ({"DicomConnectionTimeout": 30}, "DicomScuTimeout"),
    ({"DicomAssociationTimeout": 30}, "DicomScpTimeout"),
    ({"PatientsAllowDuplicates": True}, "OverwriteInstances"),
    ({"Wado": {"Enable": True}}, "DicomWeb:EnableWado"),
    ({"PostgreSQL": {"Enable": True}}, "EnableIndex"),
    ({"PostgreSQL": {"Enabled": True}}, "EnableIndex"),
    ({"DicomWeb": {"Port": 8042}}, "orthanc:port"),
    ({"DicomWeb": {"EnableStow": True}}, "DicomWeb:Enable"),
    ({"DicomWeb": {"EnableQido": True}}, "DicomWeb:Enable"),
    ({"DicomWeb": {"Cors": True}}, "orthanc:https"),
    ({"Transfers": {"BidirectionalPeers": {}}}, "RemoteSelf"),
    ({"DicomModalities": {"ct": {**CT, "AETitle": "CT"}}}, "is AET"),
    ({"OrthancPeers": {"far": {**FAR, "Host": "far"}}}, "is Url"),
]


@pytest.mark.parametrize(("settings", "right"), WRITTEN, ids=lambda value: str(value)[:40])
def test_what_people_write_is_answered_with_what_they_want(settings, right):
    sentence = said(settings)
    assert right in sentence
    assert "nearest" not in sentence
    assert "plugin_sections" not in sentence


def test_what_the_table_speaks_of_is_no_option():
    plain = {name.lower() for name in TOP}
    for pattern in orthanc_names.INSTEAD:
        for name in plain if ":" not in pattern else ():
            assert not orthanc_names.fnmatch.fnmatchcase(name, pattern), (name, pattern)
        for section, names in NAMES.items():
            for name in names:
                path = f"{section}:{name}".lower()
                assert not orthanc_names.fnmatch.fnmatchcase(path, pattern), (path, pattern)


@pytest.mark.parametrize(
    ("settings", "right"),
    [
        (
            {"OrthancExplorer2": {"StudyListColumns": []}},
            "belongs below OrthancExplorer2:UiOptions",
        ),
        ({"OrthancExplorer2": {"enableupload": 1}}, "EnableUpload belongs below OrthancExplorer2:"),
        ({"DicomWeb": {"HttpPort": 1}}, "HttpPort belongs outside of DicomWeb"),
        ({"StowMaxSize": 1}, "StowMaxSize belongs below DicomWeb"),
        ({"EnableWado": True}, "EnableWado belongs below DicomWeb"),
        ({"DicomWeb": {"HasDelete": True}}, "HasDelete belongs below DicomWeb:Servers:<name>"),
        ({"Housekeeper": {"Monday": []}}, "Monday belongs below Housekeeper:Schedule"),
        ({"UiOptions": {}}, "UiOptions belongs below OrthancExplorer2"),
        ({"AllowStore": True}, "AllowStore belongs below DicomModalities:<name>"),
    ],
)
def test_a_name_of_another_level_is_sent_there(settings, right):
    assert right in said(settings)


# Names that are near to something only if one does not read them.
@pytest.mark.parametrize(
    "name",
    [
        *("Retention", "Monitoring", "Compliance", "HttpCacheSize", "EnableApi"),
        *("RestApiEnabled", "AuditEnabled", "BackupEnabled", "CacheEnabled2", "LogRotate"),
        *("MaxConnections", "IndexStorage", "Encryption", "SessionTimeout", "Locale2Log"),
    ],
)
def test_what_is_near_to_nothing_gets_no_suggestion(name):
    assert "nearest" not in said({name: "x"})


@given(st.lists(st.text(max_size=12), min_size=1, max_size=3), st.lists(st.text(max_size=12)))
def test_there_is_an_answer_to_anything(path, known):
    end = orthanc_names.meant(path, known, {})
    assert end and "\n" not in end.replace("\n".join(path), "").replace("\n", "")


@pytest.mark.parametrize(
    ("one", "other", "distance"),
    [
        ("", "", 0),
        ("abc", "abc", 0),
        ("abc", "abd", 1),
        ("abc", "acb", 1),
        ("abc", "ab", 1),
        ("abc", "xabc", 1),
        ("abc", "", 3),
        ("httpprt", "httpport", 1),
        ("kitten", "sitting", 3),
    ],
)
def test_distance(one, other, distance):
    for pair in itertools.permutations([one, other]):
        assert orthanc_shapes._distance(*pair) == distance
