"""Configurations in the style of those that people publish, and what becomes of each of them when
the formula takes the server over.

``test/unit/test_orthanc_import.py`` lets the formula reproduce each.
"""

from __future__ import annotations

import dataclasses
import json

# What Orthanc 1.12.7 does with an option that nobody sets; None where that is not in its sample.
DEFAULTS = {
    "AcceptedTransferSyntaxes": ["1.2.840.10008.1.*"],
    "BuiltinDecoderTranscoderOrder": "After",
    "CaseSensitivePN": False,
    "CheckRevisions": False,
    "ConcurrentJobs": 2,
    "DefaultEncoding": "Latin1",
    "DeidentifyLogs": True,
    "DeidentifyLogsDicomVersion": "2023b",
    "Dictionary": {},
    "DicomAet": "ORTHANC",
    "DicomAlwaysAllowEcho": True,
    "DicomAlwaysAllowFind": False,
    "DicomAlwaysAllowGet": False,
    "DicomAlwaysAllowMove": False,
    "DicomAlwaysAllowStore": True,
    "DicomAssociationCloseDelay": 5,
    "DicomCheckCalledAet": False,
    "DicomCheckModalityHost": False,
    "DicomModalities": {},
    "DicomModalitiesInDatabase": False,
    "DicomPort": 4242,
    "DicomScpTimeout": 30,
    "DicomScuTimeout": 10,
    "DicomServerEnabled": True,
    "DicomTlsEnabled": False,
    "DicomTlsRemoteCertificateRequired": True,
    "ExecuteLuaEnabled": False,
    "HttpCompressionEnabled": False,
    "HttpDescribeErrors": True,
    "HttpPort": 8042,
    "HttpServerEnabled": True,
    "HttpThreadsCount": 50,
    "HttpTimeout": 60,
    "HttpsCACertificates": "",
    "HttpsVerifyPeers": True,
    "IndexDirectory": "OrthancStorage",
    "JobsHistorySize": 10,
    "KeepAlive": True,
    "LimitFindInstances": 0,
    "LimitFindResults": 0,
    "LuaScripts": [],
    "MaximumPatientCount": 0,
    "MaximumStorageMode": "Recycle",
    "MaximumStorageSize": 0,
    "Name": None,
    "OrthancPeers": {},
    "OverwriteInstances": False,
    "Plugins": [],
    "QueryRetrieveSize": 100,
    "RemoteAccessAllowed": False,
    "RestApiWriteToFileSystemEnabled": False,
    "SaveJobs": True,
    "SslEnabled": False,
    "SslVerifyPeers": False,
    "StableAge": 60,
    "StorageAccessOnFind": "Always",
    "StorageCompression": False,
    "StorageDirectory": "OrthancStorage",
    "StoreDicom": True,
    "StrictAetComparison": False,
    "SynchronousCMove": True,
    "UnknownSopClassAccepted": False,
    "WebDavEnabled": True,
}
PLUGINS = "/usr/share/orthanc/plugins"
USERS = {"anna": "Anna's own word"}
DEVICE = {"AET": "CT1", "Host": "192.0.2.17", "Port": 104}


@dataclasses.dataclass(frozen=True)
class Case:
    """A configuration that somebody has.

    files
        The texts of its files, or what is in them, by name; one without a name is `orthanc.json`.
    settings
        Some settings of the pillar, by their path.
    config
        All options that stand below ``config``; None leaves that open.
    told
        Words of the comments.
    changes
        The options that the formula changes on purpose.
    refused
        A word of the first line about what of the pillar the formula refuses.
    """

    name: str
    files: dict | str
    settings: dict = dataclasses.field(default_factory=dict)
    config: dict | None = None
    told: tuple[str, ...] = ()
    changes: frozenset = frozenset()
    refused: str = ""

    def texts(self) -> dict:
        """Return the text of each file."""
        given = self.files
        if isinstance(given, str) or not any(name.endswith(".json") for name in given):
            given = {"orthanc.json": given}
        return {n: t if isinstance(t, str) else json.dumps(t) for n, t in given.items()}


ASKED = frozenset({"AuthenticationEnabled"})
MADE_USER = frozenset({"RegisteredUsers"})
ALL = ["orthanc", "orthanc-dicomweb", "orthanc-postgresql", "orthanc-python"]
# What each server has that sets nothing of it, and the formula sets otherwise.
SILENT = {"WebDavEnabled": True, "HttpsCACertificates": ""}

CASES = (
    Case("nothing at all", {}, {"limit_find": 0, "dicom:enabled": True}, SILENT),
    Case("a name", {"Name": "My PACS"}, config={**SILENT, "Name": "My PACS"}),
    Case(
        "the sample as it stands", {k: v for k, v in DEFAULTS.items() if v is not None}, {}, SILENT
    ),
    Case(
        "ports and a title",
        {"HttpPort": 8080, "DicomPort": 104, "DicomAet": "PACS"},
        {"port": 8080, "dicom:port": 104, "dicom:aet": "PACS"},
        SILENT,
    ),
    Case(
        "open to all, as in most examples for a container",
        {"RemoteAccessAllowed": True, "AuthenticationEnabled": False, "DicomAet": "ORTHANC"},
        {"remote_access": True},
        refused="at least one user",
    ),
    Case(
        "remote without users, so with orthanc:orthanc",
        {"RemoteAccessAllowed": True},
        {"remote_access": True, "users": {"orthanc": {"password": "orthanc", "role": "admin"}}},
        told=("made this one by itself",),
        changes=MADE_USER,
    ),
    Case(
        "remote with an empty list of users",
        {"RemoteAccessAllowed": True, "RegisteredUsers": {}},
        {"users": {"orthanc": {"password": "orthanc", "role": "admin"}}},
        changes=MADE_USER,
    ),
    Case(
        "a user for all the world",
        {"RemoteAccessAllowed": True, "RegisteredUsers": USERS},
        {
            "remote_access": True,
            "users": {"anna": {"password": USERS["anna"], "role": "admin"}},
        },
        SILENT,
        told=("choose reader",),
    ),
    Case(
        "users that nobody is asked for, on this host",
        {"RegisteredUsers": USERS},
        {"users": {"anna": {"password": USERS["anna"], "role": "admin"}}},
        told=("nobody was asked",),
        changes=ASKED,
    ),
    Case(
        "users, and authentication off for all the world",
        {"RemoteAccessAllowed": True, "AuthenticationEnabled": False, "RegisteredUsers": USERS},
        told=("nobody was asked",),
        changes=ASKED,
    ),
    Case(
        "nobody gets in",
        {"AuthenticationEnabled": True},
        config={**SILENT, "AuthenticationEnabled": True},
    ),
    Case(
        "users and passwords that YAML would misread",
        {
            "RemoteAccessAllowed": True,
            "RegisteredUsers": {
                "yes": "no",
                "0123": "1e3",
                "null": "~",
                "on": "off",
                "3": "1_000",
                "a b": ": x",
                "# c": "d #e",
                "é": "ü\u0007\n\t",
                "{{ x }}": "{% raw %}",
                "<<": "*a",
                "2026-01-01": "!vault",
                "=": "12:30:45",
                " ": " leading and trailing ",
                "\u2028": "\U0001f600",
                "'": '"',
            },
        },
    ),
    Case(
        "the names of users that Orthanc 1.12.10 refuses",
        {"RemoteAccessAllowed": True, "RegisteredUsers": {"a:b": "a good password"}},
        refused="orthanc:users",
    ),
    Case(
        "modalities in both notations",
        {
            "DicomModalities": {
                "ct": ["CT1", "192.0.2.17", 104],
                "ge": ["GE", "192.0.2.18", "104", "GE"],
                "mr": DEVICE,
                "closed": {**DEVICE, "AllowFind": False, "AllowMove": False, "Timeout": 5},
            }
        },
        {"modalities:ct": ["CT1", "192.0.2.17", 104], "modalities:mr": DEVICE},
        SILENT,
    ),
    Case(
        "a modality with an empty name of its maker",
        {"DicomModalities": {"ct": {**DEVICE, "LocalAet": ""}}},
        config={**SILENT, "DicomModalities": {"ct": {**DEVICE, "LocalAet": ""}}},
    ),
    Case(
        "modalities in the database",
        {"DicomModalitiesInDatabase": True, "DicomModalities": {"ct": DEVICE}},
        config={**SILENT, "DicomModalitiesInDatabase": True},
        told=("DicomModalities: would be ignored",),
        changes=frozenset({"DicomModalities"}),
    ),
    Case(
        "peers in all notations",
        {
            "OrthancPeers": {
                "a": ["http://192.0.2.1:8042/"],
                "b": ["http://192.0.2.2:8042/", "anna", "a password of its own"],
                "c": {
                    "Url": "https://c.example.org/",
                    "Username": "x",
                    "Password": "y",
                    "Timeout": 9,
                },
            }
        },
        {"peers:a": ["http://192.0.2.1:8042/"]},
        SILENT,
    ),
    Case(
        "peers with empty accounts",
        {"OrthancPeers": {"a": ["http://192.0.2.1:8042/", "", ""]}},
        config={**SILENT, "OrthancPeers": {"a": ["http://192.0.2.1:8042/", "", ""]}},
    ),
    Case(
        "several files",
        {
            "orthanc.json": {
                "Name": "One",
                "StorageDirectory": "/srv/images",
                "IndexDirectory": "/ssd",
            },
            "credentials.json": {"RegisteredUsers": USERS, "RemoteAccessAllowed": True},
            "modalities.json": {"DicomModalities": {"ct": DEVICE}},
            "notes.txt": "no options",
        },
        {"paths": {"storage": "/srv/images", "index": "/ssd"}, "modalities:ct": DEVICE},
    ),
    Case(
        "one folder for images and index",
        {"StorageDirectory": "/srv/images/", "IndexDirectory": "/srv/images"},
        {"paths": {"storage": "/srv/images"}},
        SILENT,
    ),
    Case(
        "images beside the configuration",
        {"StorageDirectory": "images"},
        config=SILENT,
    ),
    Case(
        "comments, commas and a mark of Windows",
        '\ufeff// mine\n{ /* the name */ "Name" : "Ward 3", // here\n "StableAge": 5, }\n',
        config={**SILENT, "Name": "Ward 3", "StableAge": 5},
    ),
    Case(
        "one option twice in a file",
        '{"StableAge": 5, "StableAge": 7}',
        config={**SILENT, "StableAge": 7},
        told=("a second time",),
    ),
    Case(
        "comments as options",
        {"_comment": "mine", "//Name": "x", "StableAge": 5},
        config={**SILENT, "StableAge": 5},
        told=("_comment: unknown option", "//Name: unknown option"),
        changes=frozenset({"_comment", "//Name"}),
    ),
    Case(
        "options that Orthanc has never had",
        {
            "HttpHeaders": {"Access-Control-Allow-Origin": "*"},
            "LogLevel": "verbose",
            "AETitle": "X",
            "HttpsPort": 8443,
            "StableAge": 5,
        },
        config={**SILENT, "StableAge": 5},
        told=("orthanc:https:cors", "PUT /tools/log-level"),
        changes=frozenset({"HttpHeaders", "LogLevel", "AETitle", "HttpsPort"}),
    ),
    Case(
        "options of another version",
        {"LimitJobs": 5, "HttpBindAddresses": ["127.0.0.1"], "LoaderThreads": 4},
        config=SILENT,
        told=("LimitJobs: is ignored", "LoaderThreads: needs Orthanc"),
        changes=frozenset({"LimitJobs", "LoaderThreads", "HttpBindAddresses"}),
    ),
    Case(
        "an option by its old name",
        {"RejectSopClasses": ["1.2.840.10008.5.1.4.1.1.2"]},
    ),
    Case(
        "keys of a modality that nobody reads",
        {"DicomModalities": {"ct": {**DEVICE, "Description": "first floor"}}},
        {"modalities:ct": DEVICE},
        told=("DicomModalities:ct:Description: unknown key",),
        changes=frozenset({"DicomModalities"}),
    ),
    Case(
        "a section of a plugin that is not there",
        {"StoneWebViewer": {"ShowInfoPanelAtStartup": "Never"}, "StableAge": 5},
        config={**SILENT, "StableAge": 5},
        told=("StoneWebViewer: no plugin of this host reads it",),
        changes=frozenset({"StoneWebViewer"}),
    ),
    Case(
        "DICOMweb and its servers",
        {
            "DicomWeb": {
                "Enable": True,
                "Root": "/dicom-web/",
                "EnableWado": True,
                "WadoRoot": "/wado",
                "Ssl": False,
                "Host": "pacs.example.org",
                "Servers": {
                    "north": ["https://n.example.org/dicom-web/", "u", "a password of its own"]
                },
            },
            "Plugins": [PLUGINS],
        },
        {"packages": ALL},
    ),
    Case(
        "PostgreSQL by its parts",
        {
            "PostgreSQL": {
                "EnableIndex": True,
                "EnableStorage": False,
                "Host": "db.example.org",
                "Port": 5432,
                "Database": "orthanc",
                "Username": "orthanc",
                "Password": "a password of its own",
                "Lock": False,
            },
            "Plugins": [PLUGINS],
        },
        {"packages": ALL},
    ),
    Case(
        "PostgreSQL by a URI",
        {
            "PostgreSQL": {
                "EnableIndex": True,
                "ConnectionUri": "postgresql://orthanc:of%40its%2Fown@db.example.org/pacs",
                "Lock": False,
            },
            "Plugins": [PLUGINS],
        },
        {
            "postgresql": {
                "enabled": True,
                "uri": "postgresql://orthanc:of%40its%2Fown@db.example.org/pacs",
            }
        },
        {
            **SILENT,
            "PostgreSQL": {
                "Lock": False,
                "ConnectionRetryInterval": None,
                "MaximumConnectionRetries": None,
            },
        },
    ),
    Case(
        "PostgreSQL by a URI, images included, and with other retries",
        {
            "PostgreSQL": {
                "EnableIndex": True,
                "EnableStorage": True,
                "ConnectionUri": "postgresql:///orthanc",
                "MaximumConnectionRetries": 3,
                "ConnectionRetryInterval": 4,
            },
            "Plugins": [PLUGINS],
        },
        {"postgresql": {"enabled": True, "uri": "postgresql:///orthanc", "storage": True}},
        {**SILENT, "PostgreSQL": {"MaximumConnectionRetries": 3}},
    ),
    Case(
        "PostgreSQL by keywords",
        {
            "PostgreSQL": {
                "EnableIndex": True,
                "ConnectionUri": "host=db user=orthanc password=its_own_word dbname=pacs",
            },
            "Plugins": [PLUGINS],
        },
    ),
    Case(
        "PostgreSQL prepared and switched off",
        {"PostgreSQL": {"EnableIndex": False, "EnableStorage": False, "Host": "localhost"}},
    ),
    Case(
        "scripts in Lua",
        {"LuaScripts": ["/etc/orthanc/route.lua", "filter.lua"], "StableAge": 20},
        config={**SILENT, "LuaScripts": ["/etc/orthanc/route.lua", "filter.lua"], "StableAge": 20},
    ),
    Case(
        "a script in Python",
        {"PythonScript": "/etc/orthanc/own.py", "PythonVerbose": False, "Plugins": [PLUGINS]},
    ),
    Case(
        "plugins one by one",
        {"Plugins": [f"{PLUGINS}/libOrthancDicomWeb.so", "/opt/viewer/libOHIF.so"]},
        {"packages": ALL},
        {**SILENT, "Plugins": [f"{PLUGINS}/libOrthancDicomWeb.so", "/opt/viewer/libOHIF.so"]},
    ),
    Case(
        "plugins one by one, as the formula would load them",
        {
            "Plugins": [
                f"{PLUGINS}/libOrthancPython.so",
                f"{PLUGINS}/libOrthancDicomWeb.so",
                f"{PLUGINS}/libOrthancPostgreSQLIndex.so",
            ]
        },
        {"packages": ALL},
        SILENT,
    ),
    Case("one plugin that is no list", {"Plugins": 5}, told=("Plugins: must be",)),
    Case("plugins of the package", {"Plugins": [f"{PLUGINS}/"]}, told=("no longer loaded",)),
    Case(
        "limits that differ",
        {"LimitFindResults": 200, "LimitFindInstances": 50},
        {"limit_find": 200},
        {**SILENT, "LimitFindInstances": 50},
    ),
    Case("limits of the formula", {"LimitFindResults": 100, "LimitFindInstances": 100}, {}, SILENT),
    Case(
        "closed by the security page",
        {
            "WebDavEnabled": False,
            "DicomCheckCalledAet": True,
            "DicomCheckModalityHost": True,
            "DicomAlwaysAllowEcho": False,
            "DicomAlwaysAllowStore": False,
            "HttpsCACertificates": "/etc/ssl/certs/own.crt",
        },
        config={
            "DicomCheckCalledAet": True,
            "DicomAlwaysAllowEcho": False,
            "DicomAlwaysAllowStore": False,
            "HttpsCACertificates": "/etc/ssl/certs/own.crt",
        },
    ),
    Case(
        "open as in a demonstration",
        {
            "ExecuteLuaEnabled": True,
            "RestApiWriteToFileSystemEnabled": True,
            "WebDavDeleteAllowed": True,
            "DicomAlwaysAllowFind": True,
            "DicomAlwaysAllowGet": True,
            "DicomAlwaysAllowMove": True,
            "OverwriteInstances": True,
            "HttpsVerifyPeers": False,
        },
        {"overwrite_instances": True},
    ),
    Case(
        "logs with names, and by another standard",
        {"DeidentifyLogs": False, "DeidentifyLogsDicomVersion": "2021b"},
        {"deidentify_logs": False},
    ),
    Case(
        "logs by another standard",
        {"DeidentifyLogsDicomVersion": "2021b"},
        {"deidentify_logs": "2021b"},
        SILENT,
    ),
    Case("no DICOM", {"DicomServerEnabled": False}, {}, SILENT),
    Case(
        "HTTPS of its own",
        {
            "SslEnabled": True,
            "SslCertificate": "/etc/orthanc/https.pem",
            "SslVerifyPeers": True,
            "SslTrustedClientCertificates": "clients.pem",
        },
    ),
    Case(
        "DICOM over TLS",
        {
            "DicomTlsEnabled": True,
            "DicomTlsCertificate": "/etc/orthanc/tls.crt",
            "DicomTlsPrivateKey": "/etc/orthanc/tls.key",
            "DicomTlsTrustedCertificates": "/etc/orthanc/ca.crt",
            "DicomModalities": {"ct": {**DEVICE, "UseDicomTls": True}},
        },
        {"modalities:ct": {**DEVICE, "UseDicomTls": True}},
    ),
    Case(
        "variables of the environment",
        '{"Name": "${SITE:-St. Anna} A", "HttpPort": ${PORT:-8043}, "DicomAet": "${AET:-WARD}"}',
        told=("Name: contains ${", "HttpPort: contains ${", "DicomAet: contains ${"),
        refused="orthanc:port",
    ),
    Case(
        "tags of an own maker",
        {
            "Dictionary": {"0405,1001": ["DA", "Strange date", 1, 1, "Acme"]},
            "UserMetadata": {"sample": 1024},
            "UserContentType": {"report": [1025, "application/pdf"]},
            "ExtraMainDicomTags": {"Instance": ["Rows", "Columns"]},
        },
    ),
    Case(
        "a busy server",
        {
            "ConcurrentJobs": 8,
            "HttpThreadsCount": 100,
            "StorageAccessOnFind": "Never",
            "SaveJobs": False,
            "MaximumStorageSize": 500000,
            "MaximumStorageMode": "Reject",
            "StorageCompression": True,
            "MallocArenaMax": 5,
            "IngestTranscoding": "1.2.840.10008.1.2.4.70",
            "KeepAliveTimeout": 5,
        },
    ),
    Case(
        "a worklist, and folders for all",
        {
            "Worklists": {"Enable": True, "Database": "/srv/worklists", "FilterIssuerAet": False},
            "ServeFolders": {"/help": "/srv/help"},
            "Plugins": [PLUGINS],
        },
    ),
    Case(
        "numbers as texts",
        {"HttpPort": "8042", "StableAge": "60"},
        refused="orthanc:port",
        told=("StableAge: must be",),
    ),
    Case(
        "nothing as a value",
        {"StableAge": None},
        told=("StableAge: must be",),
        changes=frozenset({"StableAge"}),
    ),
    Case(
        "a list of users",
        {"RegisteredUsers": ["anna"]},
        told=("RegisteredUsers: must be",),
        refused="orthanc:config:RegisteredUsers",
    ),
    Case("no HTTP", {"HttpServerEnabled": False}, refused="orthanc:config:HttpServerEnabled"),
)
