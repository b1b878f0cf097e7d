"""What Orthanc may be told: mistakes are named, what is right passes, and no secret is shown."""

import copy
import datetime
import functools
import itertools

import orthanc_options as options
import orthanc_shapes as shapes
import orthanc_tables as tables
import pytest
import wrong_settings
from hypothesis import given
from hypothesis import strategies as st
from wrong_settings import CT, FAR, VERSIONS, ct, far, modalities, peers

PLUGINS = {**tables.SECTIONS, **tables.PLUGIN_OPTIONS}
ALL_FILES = sorted({f"lib{piece}.so" for row in PLUGINS.values() for piece in row["library"]})


def test_the_mistakes_are_of_many_kinds():
    rows = [*wrong_settings.WRONG, *wrong_settings.MORE_WRONG, *wrong_settings.WRONG_PILLARS]
    assert len(rows) > 150
    assert len({row.mistake for row in rows}) > 20


@pytest.mark.parametrize(
    ("row", "version", "outcome"),
    [
        pytest.param(row, version, outcome, id=f"{row.mistake}-{row.path}-{version}")
        for row in [*wrong_settings.WRONG, *wrong_settings.MORE_WRONG]
        for version, outcome in zip(VERSIONS, row.outcomes)
        if outcome != "tried"
    ],
)
def test_a_mistake_is_named_in_the_versions_in_which_it_is_one(row, version, outcome):
    files = [] if "not installed" in row.mistake else ALL_FILES
    found = options.check(row.options, version=version, plugins=files)
    if outcome == "right":
        assert found == []
        return
    ((path, sentence),) = found
    assert ":".join(path).startswith(row.path)
    assert version != VERSIONS[0] or row.remedy in sentence


@pytest.mark.parametrize("row", wrong_settings.ONLY_TRIED, ids=lambda row: row.path)
def test_what_only_the_trial_start_finds_is_no_matter_of_the_tables(row):
    for version in VERSIONS:
        assert options.check(row.options, version=version, plugins=ALL_FILES) == []


# With the first of VERSIONS that takes it.
RIGHT = [
    ({}, 0),
    ({"Name": "Radiologie Süd, Station 3"}, 0),
    ({"Name": "costs $5 {net}, 100 %"}, 0),
    ({"StorageDirectory": "images", "IndexDirectory": "/srv/index"}, 0),
    ({"TemporaryDirectory": "/var/tmp"}, 0),
    ({"StorageCompression": True, "StoreMD5ForAttachments": False}, 0),
    ({"MaximumStorageSize": 0, "MaximumPatientCount": 500, "MaximumStorageCacheSize": 64}, 0),
    ({"MaximumStorageMode": "Recycle"}, 1),
    ({"LuaScripts": []}, 0),
    ({"LuaScripts": ["routing.lua", "/srv/lua/filter.lua"]}, 0),
    ({"Plugins": ["/usr/share/orthanc/plugins", "/srv/libMine.so"]}, 0),
    ({"ConcurrentJobs": 0, "JobsHistorySize": 0, "SaveJobs": False}, 0),
    ({"JobsEngineThreadsCount": {"ResourceModification": 4}}, 1),
    ({"HttpServerEnabled": False, "DicomServerEnabled": False}, 0),
    ({"HttpPort": 1, "DicomPort": 65535}, 0),
    ({"DicomServerEnabled": False, "HttpPort": 4242}, 0),
    ({"HttpBindAddresses": ["127.0.0.1", "::1"]}, 2),
    ({"HttpThreadsCount": 50, "HttpRequestTimeout": 30, "KeepAlive": True, "TcpNoDelay": True}, 0),
    ({"KeepAliveTimeout": 1}, 1),
    ({"RemoteAccessAllowed": True, "RegisteredUsers": {"jo ann": "ä $ecret \\ \" '"}}, 0),
    ({"AuthenticationEnabled": True, "RegisteredUsers": {}}, 0),
    ({"SslEnabled": True, "SslCertificate": "server.pem", "SslMinimumProtocolVersion": 5}, 0),
    ({"SslCiphersAccepted": ["ECDHE-RSA-AES256-GCM-SHA384"]}, 0),
    (
        {
            **{"SslEnabled": True, "SslVerifyPeers": True},
            "SslTrustedClientCertificates": "clients.pem",
        },
        0,
    ),
    ({"WebDavEnabled": True, "WebDavDeleteAllowed": False, "WebDavUploadAllowed": True}, 0),
    ({"HttpProxy": "user:secret@proxy.example.org:3128", "HttpTimeout": 0}, 0),
    ({"HttpsVerifyPeers": True, "HttpsCACertificates": ""}, 0),
    ({"Pkcs11": {"Module": "/usr/lib/libpkcs11.so", "Pin": "1234", "Verbose": False}}, 0),
    ({"DicomAet": "WARD 3"}, 0),
    ({"DicomAet": "#[]^_~!sixteen$."}, 0),
    ({"DicomCheckCalledAet": True, "StrictAetComparison": True, "DicomThreadsCount": 8}, 0),
    ({"DicomScpTimeout": 0, "DicomScuTimeout": 3, "DicomAssociationCloseDelay": 5}, 0),
    ({"MaximumPduLength": 4096}, 0),
    ({"MaximumPduLength": 131072}, 0),
    ({"DicomAlwaysAllowEcho": False, "DicomAlwaysAllowFindWorklist": True}, 0),
    (modalities({}), 0),
    (modalities({"ct-1": ["CT_1", "ct.example.org", 104], "MR_2": ["MR", "::1", 1, "GE"]}), 0),
    (ct(Manufacturer="GenericNoWildcardInDates", LocalAet="WARD3", UseDicomTls=False), 0),
    (ct(AllowEcho=True, AllowStorageCommitment=False, AllowTranscoding=True, Timeout=0), 0),
    (ct(Port="11112", LocalAet=""), 0),
    (ct(RetrieveMethod="C-GET"), 1),
    (ct(Manufacturer="SiemensSyngoCT"), 2),
    ({"DicomModalitiesInDatabase": True, "OrthancPeersInDatabase": True}, 0),
    ({"DicomDefaultRetrieveMethod": "SystemDefault"}, 1),
    (peers({"a": ["http://far:8042/"], "b": ["https://far/orthanc/", "jo", "secret"]}), 0),
    (far(Username="jo", Password="secret", HttpHeaders={"X-Site": "3"}, Timeout=60), 0),
    (far(CertificateFile="a.crt", CertificateKeyFile="a.key", CertificateKeyPassword=""), 0),
    (peers({"a": {"URL": "far.example.org:8042", "Pkcs11": False}}), 0),
    (
        {
            "DicomTlsEnabled": True,
            "DicomTlsCertificate": "/a.crt",
            "DicomTlsPrivateKey": "/a.key",
            "DicomTlsTrustedCertificates": "/b.crt",
        },
        0,
    ),
    ({"DicomTlsTrustedCertificates": "", "DicomTlsRemoteCertificateRequired": False}, 0),
    ({"DicomTlsMinimumProtocolVersion": 0, "DicomTlsCiphersAccepted": []}, 1),
    ({"AcceptedTransferSyntaxes": ["1.2.840.10008.1.2.*", "1.2.840.10008.1.2"]}, 0),
    ({"AcceptedTransferSyntaxes": "1.2.840.10008.1.?"}, 0),
    ({"UnknownSopClassAccepted": True, "Mpeg4TransferSyntaxAccepted": False}, 0),
    ({"AcceptedSopClasses": []}, 1),
    ({"IngestTranscoding": "1.2.840.10008.1.2.4.90", "IngestTranscodingOfCompressed": False}, 0),
    ({"DicomScuPreferredTransferSyntax": "1.2.840.10008.1.2.1"}, 0),
    ({"BuiltinDecoderTranscoderOrder": "Disabled", "DicomLossyTranscodingQuality": 100}, 0),
    ({"DefaultEncoding": "latin1", "Locale": "de_DE.UTF-8"}, 0),
    (
        {"Dictionary": {"0009,1001": ["LO", "Ward", 1, 1, "HOSPITAL"], "00091002": ["DA", "D", 1]}},
        0,
    ),
    ({"Dictionary": {"0009,1003": ["SQ", "Any", 1, 0]}, "LoadPrivateDictionary": False}, 0),
    ({"ExternalDictionaries": ["/srv/vendor.dic"]}, 0),
    ({"ExtraMainDicomTags": {"Instance": ["Rows", "0028,0011"], "Patient": []}}, 1),
    ({"UserMetadata": {"Ward": 1024, "Bed": 65535}}, 0),
    ({"UserContentType": {"report": 1025, "scan": [1026, "application/pdf"]}}, 0),
    ({"StableAge": 60, "MediaArchiveSize": 1, "QueryRetrieveSize": 100}, 0),
    ({"OverwriteInstances": False}, 0),
    ({"OverwriteInstances": "IfChanged", "StoreMD5ForAttachments": True}, 2),
    ({"StorageAccessOnFind": "Answers", "LimitFindResults": 0, "LimitFindInstances": 100}, 0),
    ({"CheckRevisions": True, "DatabaseServerIdentifier": "ward3"}, 0),
    ({"ReadOnly": False}, 1),
    ({"PatientLevelEnabled": False, "MaximumPatientCount": 0}, 2),
    ({"DeidentifyLogs": True, "DeidentifyLogsDicomVersion": "2021b"}, 0),
    ({"DeidentifyLogsDicomVersion": "2023b"}, 1),
    ({"Warnings": {"W001_TagsBeingReadFromStorage": False, "W003_DecoderFailure": True}}, 1),
    ({"Worklists": {"Enable": True, "Database": "/srv/worklists", "LimitAnswers": 10}}, 0),
    ({"ServeFolders": {"/doc": "/usr/share/doc", "/img": "images"}}, 0),
    ({"ServeFolders": {"AllowCache": True, "Folders": {"/doc": "/usr/share/doc"}}}, 0),
    ({"DicomWeb": {"Enable": True, "Root": "/dw/", "Ssl": False, "StowMaxSize": 0}}, 0),
    ({"DicomWeb": {"Servers": {"a": ["https://far/dicom-web/"], "b": ["http://b/", "u", "p"]}}}, 0),
    ({"DicomWeb": {"Servers": {"a": {**FAR, "HasDelete": "1", "ChunkedTransfers": True}}}}, 0),
    ({"DicomWeb": {"StudiesMetadata": "MainDicomTags", "SeriesMetadata": "Extrapolate"}}, 0),
    ({"Gdcm": {"Enable": True, "Throttling": 4, "RestrictTransferSyntaxes": []}}, 0),
    ({"WebViewer": {"CachePath": "/var/cache/viewer", "CacheSize": 10, "Threads": 2}}, 0),
    ({"PostgreSQL": {"EnableIndex": True, "EnableStorage": False, "Host": "db", "Port": 5432}}, 0),
    ({"PostgreSQL": {"EnableIndex": True, "ConnectionUri": "postgresql://u:p@db:5432/x"}}, 0),
    ({"PostgreSQL": {"EnableIndex": True, "TransactionMode": "ReadCommitted", "Lock": True}}, 0),
    ({"MySQL": {"EnableIndex": True, "UnixSocket": "", "Port": 3306, "Password": "x"}}, 0),
    ({"Odbc": {"EnableIndex": True, "IndexConnectionString": "DSN=index"}}, 0),
    ({"PythonScript": "/srv/rest.py", "PythonVerbose": False}, 0),
    ({"Housekeeper": {"Enable": True, "Schedule": {"Monday": ["0-6", "20-24"]}}}, 1),
    ({"DelayedDeletion": {"Enable": True, "ThrottleDelayMs": 5, "Path": "/srv/queue"}}, 1),
    ({"MultitenantDicom": {"Servers": [{"AET": "A", "Port": 4243, "Labels": ["a"]}]}}, 1),
    ({"Transfers": {"Threads": 6, "BucketSize": 4096, "MaxHttpRetries": 0}}, 0),
    ({"OrthancExplorer2": {"Enable": True, "UiOptions": {"EnableUpload": False}}}, 0),
    ({"StoneWebViewer": {"WindowingPresets": [{"Name": "Lung", "WindowCenter": -400.5}]}}, 0),
    ({"Authorization": {"WebServiceRootUrl": "http://auth/", "CheckedLevel": "studies"}}, 0),
    ({"Authorization": {"Permissions": [["get", "^/system$", "view|all"]]}}, 0),
    (
        {
            "AwsS3Storage": {
                "BucketName": "images",
                "StorageEncryption": {"Enable": True, "MasterKey": [3, "/srv/3.key"]},
            }
        },
        0,
    ),
    ({"GoogleCloudStorage": {"BucketName": "images", "StorageStructure": "flat"}}, 0),
    ({"Java": {"Enabled": True, "Classpath": "/srv/a.jar", "InitializationClass": "Main"}}, 0),
    ({"WholeSlideImaging": {"EnableIIIF": True, "ServeMirador": False}}, 0),
    ({"OHIF": {"DataSource": "dicom-json", "Preload": True}}, 0),
    ({"Tcia": {"Enable": True}}, 0),
    ({"STL": {"EnableNIfTI": True, "3DHOP": {"CanvasStyle": "width: 50%"}}}, 0),
]


def test_the_right_settings_are_many():
    assert len(RIGHT) > 60


@pytest.mark.parametrize(("settings", "first"), RIGHT)
def test_what_is_right_passes(settings, first):
    for version in [*VERSIONS[first:], None]:
        assert options.check(settings, version=version, plugins=ALL_FILES) == []
        assert options.check(settings, version=version) == []


# Of the releases of Ubuntu since 24.04; they lie between two of VERSIONS.
UBUNTU = ("1.12.2", "1.12.3", "1.12.4", "1.12.5", "1.12.6", "1.12.7")


@pytest.mark.parametrize("version", UBUNTU)
def test_ubuntus_versions_take_and_refuse_what_the_ones_around_them_do(version):
    for settings, first in RIGHT:
        if first == 0:
            assert options.check(settings, version=version, plugins=ALL_FILES) == []
    refused = [row for row in wrong_settings.WRONG if {*row.outcomes[:2]} <= {"dies", "swallows"}]
    assert len(refused) > 50
    for row in refused:
        files = [] if "not installed" in row.mistake else ALL_FILES
        assert len(options.check(row.options, version=version, plugins=files)) == 1, row


@pytest.mark.parametrize(
    ("settings", "since"),
    [
        ({"DicomTlsMinimumProtocolVersion": 5}, "1.12.4"),
        ({"DicomTlsCiphersAccepted": ["ECDHE-RSA-AES256-GCM-SHA384"]}, "1.12.4"),
        ({"Warnings": {"W003_DecoderFailure": True}}, "1.12.5"),
        ({"ReadOnly": True}, "1.12.5"),
        ({"DicomDefaultRetrieveMethod": "C-GET"}, "1.12.6"),
        (ct(RetrieveMethod="C-GET"), "1.12.6"),
        ({"AcceptedSopClasses": ["1.2.840.10008.5.1.4.1.1.2"]}, "1.12.6"),
        ({"MaximumConcurrentDcmtkTranscoders": 2}, "1.12.6"),
    ],
)
def test_what_came_between_ubuntus_versions(settings, since):
    for version in UBUNTU:
        found = sentences(settings, version=version)
        assert bool(found) is options.is_before(version, since), version
        assert all(f"needs Orthanc {since}, this host has {version}" in text for text in found)


@pytest.mark.parametrize(
    ("given", "version", "taken"),
    [
        (False, "1.12.7", False),
        (False, "1.13.0", "Never"),
        (True, "1.13.1", "Always"),
        ("Never", "1.10.1", False),
        ("Always", "1.12.11", True),
        ("Always", "1.13.0", "Always"),
        ("IfChanged", "1.12.7", "IfChanged"),
        ("IfChanged", "1.13.0", "IfChanged"),
        (0, "1.13.0", 0),
        (1, "1.13.0", 1),
        (None, "1.13.0", None),
        (["Always"], "1.10.1", ["Always"]),
        (True, None, True),
        ("Never", None, "Never"),
    ],
)
def test_adapt(given, version, taken):
    before = {"OverwriteInstances": given, "Name": "x"}
    assert repr(options.adapt(before, version)) == repr({**before, "OverwriteInstances": taken})
    assert repr(before["OverwriteInstances"]) == repr(given)


def test_adapt_adds_nothing():
    for version in [*VERSIONS, None]:
        assert options.adapt({"Name": "x"}, version) == {"Name": "x"}


def sentences(settings, **arguments):
    return [f"{':'.join(path)}: {text}" for path, text in options.check(settings, **arguments)]


@pytest.mark.parametrize(
    ("settings", "right"),
    [
        ({"httpport": 1}, "case matters: it is spelt HttpPort"),
        ({"HTTPPORT": 1}, "case matters: it is spelt HttpPort"),
        ({"DicomPrt": 1}, "nearest known one is DicomPort"),
        ({"StorageDir": "x"}, "nearest known one is StorageDirectory"),
        ({"LimitFindInstance": 1}, "nearest known one is LimitFindInstances"),
        ({"PostgresSQL": {}}, "nearest known one is PostgreSQL"),
        ({"pythonscript": "x"}, "case matters: it is spelt PythonScript"),
        ({"NoSuchThingAtAll": 1}, "see the Orthanc Book"),
        ({"": 1}, "see the Orthanc Book"),
        ({"Pkcs11": {"Zzz": "x"}}, "known here: Module, Pin, Verbose"),
        (ct(Aet="CT"), "case matters: it is spelt AET"),
        (far(Headers={}), "nearest known one is HttpHeaders"),
        ({"MultitenantDicom": {"Servers": [{"Prt": 1}]}}, "nearest known one is Port"),
    ],
)
def test_a_wrong_name_is_answered_with_the_right_one(settings, right):
    (sentence,) = sentences(settings)
    assert right in sentence


def test_a_name_that_is_no_text():
    assert sentences({5: 1, None: 2, True: 3}) == sentences({"5": 1, "None": 2, "True": 3})


def test_all_mistakes_at_once():
    settings = {
        "HttpPrt": 1,
        "Name": "${NAME}",
        **modalities({"c t": [], "ct": {**CT, "AET": "", "Prt": 1}, "mr": {"AET": "MR"}}),
    }
    assert [path for path, _ in options.check(settings)] == [
        ["HttpPrt"],
        ["Name"],
        ["DicomModalities", "c t"],
        ["DicomModalities", "ct", "AET"],
        ["DicomModalities", "ct", "Prt"],
        ["DicomModalities", "mr", "Host"],
        ["DicomModalities", "mr", "Port"],
    ]


@pytest.mark.parametrize(
    ("settings", "path"),
    [
        ({"Name": "${X}"}, "Name"),
        ({"Plugins": ["/a", "/${X:-b}"]}, "Plugins:1"),
        ({"UserMetadata": {"${X}": 1024}}, "UserMetadata:${X}"),
        (far(HttpHeaders={"A": "${X}"}), "OrthancPeers:far:HttpHeaders:A"),
        ({"DicomWeb": {"Servers": {"a": ["http://a/${X}"]}}}, "DicomWeb:Servers:a:0"),
        ({"Mine": {"deep": [{"er": "${X}"}]}}, "Mine:deep:0:er"),
    ],
)
def test_variables_are_found_at_any_place(settings, path):
    (sentence,) = sentences(settings, allowed=["Mine"])
    assert sentence.startswith(f"{path}: contains ${{")


@pytest.mark.parametrize(
    ("version", "other", "before"),
    [
        ("1.9.7", "1.10.0", True),
        ("1.10.1", "1.10.1", False),
        ("1.12.10", "1.12.9", False),
        ("1.13", "1.13.0", True),
        ("2.0", "1.13.0", False),
        (None, "99.0", False),
    ],
)
def test_is_before(version, other, before):
    assert options.is_before(version, other) is before


def test_without_a_version_the_newest_one_is_meant():
    assert options.check({"ZipUseUtf8": True, "StorageLoaderThreadsCount": 1}) == []
    assert "is ignored by Orthanc after 1.10.0" in sentences({"LimitJobs": 1})[0]
    assert options.check({"LimitJobs": 1}, version="1.10.0") == []


def test_the_two_sides_of_every_version():
    """An option is refused by the last release before it and taken by the first one with it."""
    for name, shape in tables.OPTIONS.items():
        since = isinstance(shape, dict) and shape.get("since")
        if since:
            major, minor, patch = map(int, since.split("."))
            before = f"{major}.{minor}.{patch - 1}" if patch else f"{major}.{minor - 1}.99"
            (sentence,) = sentences({name: object}, version=before)
            assert sentence.startswith(f"{name}: needs Orthanc {since}, this host has {before}")
            for sentence in sentences({name: object}, version=since):
                assert "needs Orthanc" not in sentence


def plugin_keys():
    """
    Yield each key of a plugin that not all of its releases know: which of several plugins reads it,
    the path, the words of its shape.
    """
    for section, plugin in tables.SECTIONS.items():
        todo = [("", [section], plugin)]
        while todo:
            library, path, shape = todo.pop()
            words = shapes.resolved(shape, tables.KINDS)
            if {"since", "until"} & words.keys():
                yield library, path, words
            todo += [(library, [*path, key], one) for key, one in words.get("keys", {}).items()]
            for other, keys in words.get("keys_of", {}).items():
                todo += [(other, [*path, key], one) for key, one in keys.items()]


PLUGIN_KEYS = list(plugin_keys())


def neighbours(release):
    """Return a release a little older, and one a little newer."""
    *major, minor = map(int, release.split("."))
    before = [*major, minor - 1] if minor else [*major[:-1], major[-1] - 1, 99]
    return [".".join(map(str, numbers)) for numbers in (before, [*major, minor + 1])]


def told_below(path, value, **host):
    settings = functools.reduce(lambda inner, key: {key: inner}, reversed(path), value)
    return [sentence for where, sentence in options.check(settings, **host) if where == path]


@pytest.mark.parametrize(
    ("library", "path", "words"), PLUGIN_KEYS, ids=[":".join(path) for _, path, _ in PLUGIN_KEYS]
)
def test_the_two_sides_of_every_version_of_a_plugin(library, path, words):
    section = tables.SECTIONS[path[0]]

    def told(release):
        file = f"lib{library or section['library'][0]}.so.{release}"
        host = {"version": "1.13.0", "plugins": [file]}
        if section["package"] == "orthanc" and not library:
            host["version"] = release
        return " ".join(told_below(path, object, **host))

    since, until = words.get("since"), words.get("until")
    if since:
        before, after = neighbours(since)
        assert f" {since}, this host has {before}; take it out" in told(before)
        assert "needs" not in told(since) + told(after)
    if until:
        before, after = neighbours(until)
        assert f"after {until}; take it out" in told(after)
        assert "ignored" not in told(until) + told(before)


def test_many_keys_of_plugins_have_versions():
    assert len(PLUGIN_KEYS) > 35
    assert {"", "OrthancWorklists", "OrthancWebViewer"} == {library for library, *_ in PLUGIN_KEYS}


def test_plugins_of_unknown_versions_are_not_accused():
    for library, path, _ in PLUGIN_KEYS:
        section = tables.SECTIONS[path[0]]
        file = f"lib{library or section['library'][0]}.so"
        if section["package"] != "orthanc" or library:
            for host in ({"plugins": [file]}, {"plugins": [f"{file}.mainline"]}, {}):
                told = " ".join(told_below(path, object, **host))
                assert "take it out" not in told, (path, told)


# Of the issue, each measured on Debian 12 or 13: the plugin ignores these.
OLD_PLUGINS = [
    ("libOrthancPostgreSQLIndex.so.4.0", "PostgreSQL", "TransactionMode", "ReadCommitted", "6.0"),
    ("libOrthancPostgreSQLIndex.so.5.0", "PostgreSQL", "EnableVerboseLogs", True, "6.0"),
    ("libOrthancPostgreSQLIndex.so.5.0", "PostgreSQL", "HousekeepingInterval", 60, "7.0"),
    ("libOrthancPostgreSQLIndex.so.5.0", "PostgreSQL", "AllowInconsistentChildCounts", True, "7.2"),
    ("libOrthancPostgreSQLIndex.so.5.0", "PostgreSQL", "UseDynamicConnectionPool", True, "9.0"),
    ("libOrthancPostgreSQLIndex.so.5.0", "PostgreSQL", "Schema", "pacs", "10.0"),
    ("libOrthancPostgreSQLIndex.so.5.0", "PostgreSQL", "ApplicationName", "pacs", "10.0"),
    ("libOrthancDicomWeb.so.1.7", "DicomWeb", "PublicRoot", "/dw/", "1.8"),
    ("libOrthancDicomWeb.so.1.7", "DicomWeb", "EnableMetadataCache", False, "1.15"),
    ("libOrthancDicomWeb.so.1.7", "DicomWeb", "MetadataWorkerThreadsCount", 2, "1.14"),
    ("libOrthancDicomWeb.so.1.20", "DicomWeb", "EnablePerformanceLogs", True, "1.21"),
    ("libOrthancDicomWeb.so.1.20", "DicomWeb", "WadoRsLoaderThreadsCount", 2, "1.21"),
    ("libOrthancDicomWeb.so.1.20", "DicomWeb", "OtherBinaryMode", "InlineBinary", "1.24"),
    ("libOrthancPython.so.4.0", "Python", "Path", "/srv/a.py", "4.1"),
    ("libOrthancPython.so.4.2", "Python", "AllowThreads", True, "4.3"),
    ("libOrthancWSI.so.1.1", "WholeSlideImaging", "EnableIIIF", True, "2.0"),
    ("libOrthancWSI.so.3.2", "WholeSlideImaging", "EnableAnnotations", True, "4.0"),
]


@pytest.mark.parametrize(("file", "section", "key", "value", "since"), OLD_PLUGINS, ids=str)
def test_what_the_installed_plugin_would_ignore_is_refused(file, section, key, value, since):
    switch = {"EnableIndex": True} if section == "PostgreSQL" else {}
    settings = {section: {**switch, key: value}}
    (sentence,) = sentences(settings, version="1.12.7", plugins=[file])
    package = tables.SECTIONS[section]["package"]
    assert f": needs {package} {since}, this host has {file.partition('.so.')[2]}" in sentence
    newer = f"{file.partition('.so.')[0]}.so.{since}"
    # Of several releases that are loaded, the oldest counts.
    assert len(sentences(settings, plugins=[newer, file])) == 1
    assert "needs" not in str(sentences(settings, plugins=[newer]))
    # What comes later in the same run is judged again when it is there.
    assert sentences(settings, plugins=[], packages=[package]) == []


def test_words_have_versions_in_plugins_too():
    settings = {"Authorization": {"StandardConfigurations": ["ohif", "stl"]}}
    file = "libOrthancAuthorization.so"
    (sentence,) = sentences(settings, plugins=[f"{file}.0.9.4"])
    assert "StandardConfigurations:1:" in sentence
    assert '"stl" needs orthanc-authorization 0.10.2, this host has 0.9.4' in sentence
    assert sentences(settings, plugins=[f"{file}.0.11.4"]) == sentences(settings) == []


@pytest.mark.parametrize(
    ("keys", "refused_by_old", "refused_by_new"),
    [
        ({"Enable": True, "SaveInOrthancDatabase": True}, "SaveInOrthancDatabase", None),
        ({"Enable": True, "Directory": "/srv/wl"}, "Directory", None),
        ({"Enable": True, "Database": "/srv/wl", "HousekeepingInterval": 5}, "Housekeeping", None),
        ({"Enable": True, "Database": "/srv/wl"}, None, None),
        ({"Enable": True, "Database": "/srv/wl", "LogMatchedWorklistIds": True}, "Log", "0.9.3"),
    ],
)
def test_two_plugins_that_share_a_section(keys, refused_by_old, refused_by_new):
    for file, refused in (
        ("libModalityWorklists.so.1.12.7", refused_by_old),
        ("libOrthancWorklists.so.0.9.2", refused_by_new),
        ("libOrthancWorklists.so", None),
    ):
        found = sentences({"Worklists": keys}, version="1.12.7", plugins=[file])
        assert len(found) == (refused is not None), (file, found)
        assert refused is None or refused in found[0]
    old = sentences({"Worklists": keys}, plugins=["libModalityWorklists.so.1.12.7"])
    if refused_by_old:
        assert "only OrthancWorklists reads it, this host has ModalityWorklists" in old[0]


def test_the_viewer_of_osimis_shares_a_section_too():
    for key, file in (
        ("CachePath", "libOrthancWebViewer.so.2.10"),
        ("ShortTermCachePath", "libOsimisWebViewer.so"),
    ):
        for loaded in ("libOrthancWebViewer.so.2.10", "libOsimisWebViewer.so"):
            found = sentences({"WebViewer": {key: "/srv/cache"}}, plugins=[loaded])
            assert bool(found) is (loaded != file)


@pytest.mark.parametrize(
    ("given", "version", "taken"),
    [
        ({"RejectedSopClasses": ["1.2"]}, "1.12.5", {"RejectedSopClasses": ["1.2"]}),
        ({"RejectedSopClasses": ["1.2"]}, "1.12.6", {"RejectSopClasses": ["1.2"]}),
        ({"RejectedSopClasses": ["1.2"]}, "1.12.7", {"RejectSopClasses": ["1.2"]}),
        ({"RejectedSopClasses": ["1.2"]}, "1.12.8", {"RejectedSopClasses": ["1.2"]}),
        ({"RejectedSopClasses": ["1.2"]}, None, {"RejectedSopClasses": ["1.2"]}),
        ({"RejectedSopClasses": "1.2"}, "1.12.7", {"RejectedSopClasses": "1.2"}),
        ({"RejectSopClasses": ["1.3"]}, "1.12.7", {"RejectSopClasses": ["1.3"]}),
        (
            {"RejectedSopClasses": ["1.2"], "RejectSopClasses": ["1.3"]},
            "1.12.7",
            {"RejectSopClasses": ["1.3", "1.2"]},
        ),
    ],
)
def test_an_option_is_written_by_the_name_that_this_version_reads(given, version, taken):
    before = copy.deepcopy(given)
    assert options.adapt(given, version) == taken
    assert given == before
    if isinstance(given.get("RejectedSopClasses", []), list):
        assert sentences(options.adapt(given, "1.12.7"), version="1.12.7") == []


def test_a_file_with_a_name_that_this_version_does_not_read():
    """Also where the sample of that version documents it."""
    settings, sample = {"RejectedSopClasses": ["1.2"]}, {"RejectedSopClasses": []}
    for version, refused in (("1.12.6", True), ("1.12.7", True), ("1.12.8", False), (None, False)):
        found = sentences(settings, version=version, sample=sample)
        assert ("by the name RejectSopClasses only" in str(found)) is refused


@pytest.mark.parametrize(
    ("section", "family", "plugins", "right"),
    [
        ("DicomWeb", "Debian", [], "add orthanc-dicomweb to orthanc:packages"),
        ("OHIF", "Debian", [], "name a download of libOrthancOHIF.so in orthanc:plugins"),
        ("OHIF", "Suse", [], "add orthanc-ohif to orthanc:packages"),
        ("Tcia", "Debian", [], "name a download of libOrthancTcia.so in orthanc:plugins"),
        ("Housekeeper", "Debian", [], "name a download of libHousekeeper.so in orthanc:plugins"),
        (
            "DicomWeb",
            "Debian",
            ["libMine.so", "/usr/share/orthanc/plugins/libOrthancDicomWeb.so"],
            "/usr/share/orthanc/plugins/libOrthancDicomWeb.so reads it, but is not loaded",
        ),
        (
            "Housekeeper",
            "Suse",
            ["/usr/lib64/orthanc/libHousekeeper.so.1.13.0"],
            "name that file in the option Plugins",
        ),
    ],
)
def test_the_remedy_for_a_missing_plugin_can_be_followed(
    monkeypatch, section, family, plugins, right
):
    monkeypatch.setattr(options, "__grains__", {"os_family": family}, raising=False)
    keys = {"Enable": True} if section != "OHIF" else {"Preload": True}
    (sentence,) = sentences({section: keys}, version="1.13.0", plugins=plugins)
    assert right in sentence


def test_a_plugin_that_comes_with_a_later_orthanc():
    (sentence,) = sentences({"Housekeeper": {"Enable": True}}, version="1.10.1", plugins=[])
    assert sentence == "Housekeeper: needs Orthanc 1.11.0, this host has 1.10.1; take it out"


def test_a_name_that_yaml_takes_for_no_text_is_to_be_put_in_quotes():
    for name, right in ((12, True), (True, True), ("1 2", False)):
        (sentence,) = sentences({"DicomModalities": {name: ["CT", "192.0.2.1", 104]}})
        assert sentence.startswith(f"DicomModalities:{name}: the name must be a name of letters")
        assert sentence.endswith("(in quotes)") is right


def test_what_json_does_not_know():
    allowed = {"allowed": ["Own"]}
    assert sentences({"Own": {"a": [1, "x", None, {"b": 2.5}]}}, **allowed) == []
    for own, path in (
        ({"a": datetime.date(2026, 1, 1)}, "Own:a: is a date"),
        ({1: "x"}, "Own:1: the name must be a text"),
        ({"a": [{"b": {None: 1}}]}, "Own:a:0:b:None: the name must be a text"),
    ):
        (sentence,) = sentences({"Own": own}, **allowed)
        assert sentence.startswith(path)


@pytest.mark.parametrize(
    ("settings", "sample", "right"),
    [
        ({"BrandNew": True}, {"BrandNew": False}, None),
        ({"BrandNew": 3}, {"BrandNew": False}, "true or false"),
        ({"BrandNew": "3"}, {"BrandNew": 3}, "a whole number"),
        ({"BrandNew": True}, {"BrandNew": 3}, "a whole number"),
        ({"BrandNew": 3}, {"BrandNew": "x"}, "a text"),
        ({"BrandNew": "x"}, {"BrandNew": []}, "a list"),
        ({"BrandNew": [1, "x"]}, {"BrandNew": []}, None),
        ({"BrandNew": {"any": "thing"}}, {"BrandNew": {}}, None),
        ({"BrandNew": 1}, {"BrandNew": None}, None),
        ({"BrandNew": 1.5}, {"BrandNew": 0.5}, None),
        ({"brandnew": 1}, {"BrandNew": 1}, "it is spelt BrandNew"),
        ({"BrandNw": 1}, {"BrandNew": 1}, "nearest known one is BrandNew"),
        ({"BrandNew": "${x}"}, {"BrandNew": "x"}, "contains ${"),
        # The sample shows that an option is older than the tables say, or not gone.
        ({"ReadOnly": True}, {"ReadOnly": None}, None),
        ({"ReadOnly": 1}, {"ReadOnly": None}, "true or false"),
        ({"LimitJobs": 5}, {"LimitJobs": 10}, None),
        ({"HttpPort": 70000}, {"HttpPort": 8042}, "a port number"),
        ({"BrandNew": 1}, {}, "unknown option"),
    ],
)
def test_the_installed_sample_wins_over_the_tables(settings, sample, right):
    found = sentences(settings, version="1.10.1", sample=sample)
    assert len(found) == (right is not None)
    assert right is None or right in found[0]


@pytest.mark.parametrize(
    ("arguments", "right"),
    [
        ({}, None),
        ({"plugins": None}, None),
        ({"plugins": ["libOrthancGdcm.so.1.5", "libOther.so"]}, None),
        ({"plugins": []}, "add orthanc-gdcm to orthanc:packages"),
        ({"plugins": ["libOther.so"]}, "add orthanc-gdcm to orthanc:packages"),
        ({"plugins": [], "packages": ["orthanc", "orthanc-gdcm"]}, None),
        ({"plugins": [], "packages": ["orthanc"]}, "add orthanc-gdcm"),
    ],
)
def test_a_section_needs_its_plugin(arguments, right):
    found = sentences({"Gdcm": {"Throttling": 2}}, **arguments)
    assert len(found) == (right is not None)
    assert right is None or right in found[0]


@pytest.mark.parametrize(
    "settings",
    [
        {"PostgreSQL": {}},
        {"PostgreSQL": {"EnableIndex": False, "EnableStorage": False, "Host": "db"}},
        {"DicomWeb": {"Enable": False}},
    ],
)
def test_a_section_that_asks_for_nothing_needs_no_plugin(settings):
    assert options.check(settings, plugins=[]) == []


def test_one_of_several_files_is_enough():
    for file in ("libOrthancPostgreSQLIndex.so.5.0", "libOrthancPostgreSQLStorage.so"):
        assert options.check({"PostgreSQL": {"EnableIndex": True}}, plugins=[file]) == []
    assert sentences({"Java": {"Enabled": True}}, plugins=[])[0].endswith(
        "name a download of libOrthancJava.so in orthanc:plugins"
    )
    assert "orthanc-python" in sentences({"PythonScript": "x"}, plugins=[])[0]


def test_a_section_that_the_administrator_vouches_for():
    settings = {"OurOwnPlugin": {"Anything": [1, None]}}
    assert "unknown option" in sentences(settings)[0]
    assert options.check(settings, allowed=["OurOwnPlugin"], plugins=[]) == []
    assert options.doubts(settings, allowed=["OurOwnPlugin"], plugins=[]) == []


@pytest.mark.parametrize(
    "settings",
    [
        {"Gdcm": {"Quick": True}},
        {"DicomWeb": {"StudiesMetadata": "Quick"}},
        {"DicomWeb": {"Servers": {"far": {**FAR, "Quick": True}}}},
        {"PostgreSQL": {"EnableIndex": True, "Schema": "x"}},
        {"PythonScript": ["a.py"]},
    ],
)
def test_a_known_section_that_the_administrator_vouches_for(settings):
    """Tables that age do not block."""
    (section,) = settings
    host = {"version": "1.12.7", "plugins": [f"{file}.0.1" for file in ALL_FILES]}
    problems = options.check(settings, **host)
    assert problems
    assert options.check(settings, **host, allowed=[section]) == []
    doubts = options.doubts(settings, **host, allowed=[section])
    assert [path for path, _ in doubts] == [path for path, _ in problems]
    assert all(f"orthanc:plugin_sections names {section}" in sentence for _, sentence in doubts)
    assert options.doubts(settings, **host) == []


def test_nobody_vouches_for_options_of_orthanc_itself():
    settings = {"HttpPort": "x", "Warnings": {"Mine": True}}
    assert len(options.check(settings, allowed=list(settings))) == 2
    assert options.doubts(settings, allowed=list(settings)) == []


def test_a_section_that_somebody_vouches_for_is_still_json():
    settings = {"Gdcm": {"a": datetime.date(2026, 1, 1), "b": "${x}"}}
    assert len(options.check(settings, allowed=["Gdcm"])) == 2


@pytest.mark.parametrize(
    "settings",
    [
        {"OrthancExplorer2": {"Enable": True, "UiOptions": {"BrandNew": 1, "EnableUpload": "x"}}},
        {"OrthancExplorer2": {"Keycloak": {"Enable": True, "BrandNew": []}}},
        {"StoneWebViewer": {"BrandNew": {"any": None}}},
    ],
)
def test_what_goes_to_the_browser_unread_is_not_checked(settings):
    assert options.check(settings, plugins=ALL_FILES) == []
    assert len(options.check({section: "x" for section in settings}, plugins=ALL_FILES)) == 1


@pytest.mark.parametrize(
    ("settings", "refused"),
    [
        ({"HttpPort": 4242}, ["DicomPort"]),
        ({"DicomPort": 8042}, ["DicomPort"]),
        ({"HttpPort": 104, "DicomPort": 104}, ["DicomPort"]),
        ({"HttpPort": 104, "DicomPort": 104, "DicomServerEnabled": False}, []),
        ({"CheckRevisions": True, "StoreMD5ForAttachments": False}, ["CheckRevisions"]),
        ({"CheckRevisions": False, "StoreMD5ForAttachments": False}, []),
        ({"PatientLevelEnabled": False, "MaximumStorageSize": 1}, ["PatientLevelEnabled"]),
        ({"PatientLevelEnabled": True, "MaximumStorageSize": 1}, []),
        (
            {"OverwriteInstances": "IfChanged", "StoreMD5ForAttachments": False},
            ["OverwriteInstances"],
        ),
    ],
)
def test_what_does_not_go_together(settings, refused):
    assert [path for path, _ in options.check(settings)] == [[option] for option in refused]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"ExecuteLuaEnabled": True}, "true is advised against"),
        ({"HttpsVerifyPeers": False}, "false is advised against"),
        ({"LimitFindResults": 0}, "0 is advised against"),
        ({"SslMinimumProtocolVersion": 3}, "TLS below 1.2"),
        ({"DicomAlwaysAllowFind": True}, "any DICOM client"),
        ({"ExecuteLuaEnabled": False}, None),
        ({"LimitFindResults": 100}, None),
        ({"LimitFindResults": False}, None),
        ({"SslMinimumProtocolVersion": 4}, None),
        ({"SslMinimumProtocolVersion": "3"}, None),
        ({}, None),
    ],
)
def test_advice(settings, words):
    found = options.advice(settings)
    assert [path for path, _ in found] == ([list(settings)] if words else [])
    assert words is None or words in found[0][1]


def test_what_is_advised_against_is_an_option_and_allowed():
    for option, (unsafe, _) in tables.ADVISED_AGAINST.items():
        value = 1 if isinstance(unsafe, dict) else unsafe
        assert options.check({option: value}) == []
        assert len(options.advice({option: value})) == 1


def test_the_other_tables_speak_of_known_options():
    known = {**tables.OPTIONS, **PLUGINS}
    assert set(tables.UNTOUCHABLE) <= set(known)
    assert {*tables.NEW_FORMS, *tables.OLD_NAMES, *tables.DEFAULTS} <= set(known)
    for row in tables.ADVISED_AGAINST_TOGETHER:
        assert {row["option"], *row["beside"]} <= set(known)
        assert row["beside"].keys() <= tables.DEFAULTS.keys()
    for section, keys in tables.UNTOUCHABLE.items():
        # That they switch nothing on is as it should be.
        assert all("plugin is off" in line for _, line in options.check({section: keys or {}}))
    assert len(known) == len(tables.OPTIONS) + len(PLUGINS)


TEXTS = st.text(max_size=6) | st.sampled_from(["${x}", "http://u:p@h", "PRIVATE KEY", "x" * 99])
NUMBERS = st.integers() | st.floats() | st.sampled_from([0, 1, 104, 65535, 65536, 2**31])
ANYTHING = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(TEXTS | st.integers(), inner, max_size=4)
    ),
    max_leaves=8,
)


def like(shape):
    """Return values that are more or less of a shape."""
    return ANYTHING | st.deferred(lambda: _like(shape))


def _like(shape):
    words = shapes.resolved(shape, tables.KINDS)
    parts = [*words.get("anyOf", ()), *words.get("changed", {}).values()]
    found = [ANYTHING, *map(like, parts)]
    keys = {
        key: one
        for own in [words.get("keys", {}), *words.get("keys_of", {}).values()]
        for key, one in own.items()
    }
    if keys:
        names = st.sampled_from(sorted(keys))
        pairs = names.flatmap(lambda key: st.tuples(st.just(key), like(keys[key])))
        found.append(st.lists(pairs, max_size=4).map(dict))
    if "each" in words:
        found.append(st.dictionaries(TEXTS | st.just("a"), like(words["each"]), max_size=2))
    if "items" in words:
        found.append(st.lists(like(words["items"]), max_size=3))
    if "row" in words:
        found.append(st.tuples(*map(like, words["row"])).map(list))
    if "enum" in words:
        found.append(st.sampled_from(sorted(words["enum"], key=str)))
    return st.one_of(found)


KNOWN = {**tables.OPTIONS, **PLUGINS}
SETTINGS = st.lists(
    st.tuples(TEXTS, ANYTHING)
    | st.sampled_from(sorted(KNOWN)).flatmap(
        lambda name: st.tuples(st.just(name), like(KNOWN[name]))
    ),
    max_size=4,
).map(dict)


@given(SETTINGS, st.sampled_from([*VERSIONS, None]), st.none() | st.just([]) | st.just(ALL_FILES))
def test_whatever_is_given_the_answer_is_paths_and_sentences(settings, version, plugins):
    before = copy.deepcopy(settings)
    found = options.check(settings, version=version, plugins=plugins)
    for path, sentence in [*found, *options.advice(settings)]:
        assert path and isinstance(path, list)
        assert all(isinstance(name, str) for name in path)
        assert sentence and isinstance(sentence, str)
    options.adapt(settings, version)
    assert repr(settings) == repr(before)


@given(SETTINGS, st.dictionaries(st.sampled_from(sorted(KNOWN)) | TEXTS, ANYTHING, max_size=3))
def test_whatever_the_sample_holds(settings, sample):
    before = copy.deepcopy(sample)
    options.check(settings, version="1.12.7", sample=sample, allowed=list(settings)[:1])
    assert repr(sample) == repr(before)


@given(st.sampled_from(sorted(KNOWN)), ANYTHING, st.sampled_from(VERSIONS))
def test_each_mistake_is_told_below_its_option(name, value, version):
    for path, _ in options.check({name: value}, version=version):
        assert path[0] in (name, "DicomPort")


TOKEN = "Geheim4711"
PEM = f"-----BEGIN PRIVATE KEY-----\n{TOKEN}\n-----END PRIVATE KEY-----"
SECRETS = st.recursive(
    st.sampled_from([TOKEN, f"${{{TOKEN}}}", f"{TOKEN}\0", 4711, 4711.5, -4711]),
    lambda inner: (
        st.lists(inner, min_size=1, max_size=4)
        | st.dictionaries(st.sampled_from(["Url", "Password", "x"]), inner, min_size=1, max_size=3)
    ),
    max_leaves=6,
)
PLACES = [
    ("RegisteredUsers",),
    ("RegisteredUsers", "anna"),
    ("OrthancPeers",),
    ("OrthancPeers", "far"),
    ("OrthancPeers", "far", "Url"),
    ("OrthancPeers", "far", "Password"),
    ("OrthancPeers", "far", "Timeout"),
    ("OrthancPeers", "far", "HttpHeaders"),
    ("OrthancPeers", "far", "Pasword"),
    ("PostgreSQL", "Password"),
    ("PostgreSQL", "password"),
    ("PostgreSQL", "ConnectionUri"),
    ("MySQL", "Password"),
    ("Odbc", "IndexConnectionString"),
    ("DicomWeb", "Servers"),
    ("DicomWeb", "Servers", "far"),
    ("DicomWeb", "Servers", "far", "ChunkedTransfers"),
    ("AwsS3Storage", "SecretKey"),
    ("AwsS3Storage", "StorageEncryption", "MasterKey"),
    ("AzureBlobStorage", "ConnectionString"),
    ("Authorization", "WebServicePassword"),
    ("DicomTlsPrivateKey",),
]


@pytest.mark.parametrize("place", PLACES, ids=":".join)
@given(SECRETS, st.sampled_from([*VERSIONS, None]))
def test_no_secret_is_in_a_sentence(place, value, version):
    settings = functools.reduce(lambda inner, key: {key: inner}, reversed(place), value)
    told = str(options.check(settings, version=version, plugins=[]))
    assert TOKEN not in told
    assert "4711" not in told


@pytest.mark.parametrize(
    "settings",
    [
        {"DicomTlsPrivateKey": PEM},
        {"DicomTlsCertificate": PEM},
        {"DicomTlsTrustedCertificates": [PEM]},
        {"HttpPort": PEM},
        {"PostgreSQL": f"postgresql://u:{TOKEN}@db/x"},
        {"PostgreSQL": {"Host": "db", "Port": f"u:{TOKEN}@db"}},
        {"RegisterdUsers": {"anna": TOKEN}},
        {"Warnings": f"http://u:{TOKEN}@x"},
        {"Mine": {"Deep": f"${{x}}{TOKEN}"}},
    ],
)
def test_no_secret_is_in_a_sentence_at_odd_places(settings):
    for version, plugins in itertools.product([*VERSIONS, None], [None, []]):
        told = str(options.check(settings, version=version, plugins=plugins))
        assert len(told) > 10
        assert TOKEN not in told


@pytest.mark.parametrize(
    ("settings", "arguments"),
    [
        ({"DicomAet": "   "}, {}),
        (ct(Port="99999"), {}),
        ({"DatabaseServerIdentifier": ""}, {}),
        ({"DicomWeb": {"Servers": {"far": []}}}, {}),
        ({"DicomWeb": {"Servers": {"far": ["http://far/", "jo"]}}}, {}),
        ({"DicomWeb": {"Servers": {"far": {"Username": "jo", "Password": "x"}}}}, {}),
        ({"Housekeeper": {"Enable": True}}, {"plugins": ["libOther.so"]}),
        ({"HttpPort": 4242.0}, {}),
        ({"CheckRevisions": 1, "StoreMD5ForAttachments": False}, {}),
        ({"ServeFolders": {"/doc": 5}}, {}),
    ],
)
def test_one_mistake_is_one_sentence(settings, arguments):
    assert len(options.check(settings, **arguments)) == 1


@pytest.mark.parametrize(
    "settings",
    [
        {"Pkcs11": {"Module": "/x.so", "Pin": 4711}},
        {"Pkcs11": TOKEN},
        {"PostgreSQL": f"host=db password={TOKEN}"},
        {"MySQL": TOKEN},
    ],
)
def test_what_stands_in_the_place_of_a_section_is_not_shown(settings):
    told = str(options.check(settings))
    assert len(told) > 10
    assert "4711" not in told
    assert TOKEN not in told
