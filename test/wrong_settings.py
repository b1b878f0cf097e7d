"""Settings with one mistake each, and what Orthanc itself makes of them.

Measured with Debian's packages, each setting alone on scratch folders and ports, those of a
plugin with the plugin loaded.
"""

from __future__ import annotations

from collections import namedtuple

VERSIONS = ("1.10.1", "1.12.7", "1.13.0")
# What each version does: it "dies" at the start, "swallows" the setting and serves as if it were
# not there or another one, or takes it as it is meant, which is "right".
DIES = ("dies", "dies", "dies")
SWALLOWS = ("swallows", "swallows", "swallows")
DIES_SINCE_1_12 = ("swallows", "dies", "dies")
DIES_SINCE_1_13 = ("swallows", "swallows", "dies")
# "tried": it dies, and only the trial start of the formula shows it beforehand.
TRIED_SINCE_1_12 = ("swallows", "tried", "tried")
NEW_IN_1_12 = ("swallows", "right", "right")
NEW_IN_1_13 = ("swallows", "swallows", "right")
FATAL_BEFORE_1_12 = ("dies", "right", "right")
FATAL_BEFORE_1_13 = ("dies", "dies", "right")

# The class of a mistake, options of Orthanc that have it, its path, a piece of the sentence by
# which the oldest version refuses it, and what each version does without the formula.
Wrong = namedtuple("Wrong", "mistake options path remedy outcomes")
# The same for a pillar, below ``orthanc:``. The options are what would become of it, None where
# Orthanc has no part in it, and the outcome is that of the oldest version.
WrongPillar = namedtuple("WrongPillar", "mistake pillar path remedy options outcome")

CT = {"AET": "CT", "Host": "10.0.0.1", "Port": 104}
FAR = {"Url": "http://10.0.0.2:8042/"}


def modalities(entries) -> dict:
    return {"DicomModalities": entries}


def peers(entries) -> dict:
    return {"OrthancPeers": entries}


def ct(**keys) -> dict:
    """Options with one modality that is right but for these keys."""
    return modalities({"ct": {**CT, **keys}})


def far(**keys) -> dict:
    """Options with one peer that is right but for these keys."""
    return peers({"far": {**FAR, **keys}})


def table(classes: dict) -> list[Wrong]:
    """Return the rows, with whole paths: they are given below the first option."""
    return [
        Wrong(mistake, options, f"{next(iter(options))}:{below}".rstrip(":"), remedy, outcomes)
        for mistake, rows in classes.items()
        for options, below, remedy, outcomes in rows
    ]


def pillar_table(classes: dict) -> list[WrongPillar]:
    """Return the rows, with whole paths: they are given below ``orthanc``."""
    return [
        WrongPillar(mistake, pillar, f"orthanc:{below}", *rest)
        for mistake, rows in classes.items()
        for pillar, below, *rest in rows
    ]


def in_pillar(row: Wrong) -> WrongPillar:
    """Return the row as a pillar has it, below its own key or below ``config``."""
    option, *below = row.path.split(":")
    key = {"DicomModalities": "modalities", "OrthancPeers": "peers"}.get(option)
    pillar = {key: row.options[option]} if key else {"config": row.options}
    path = ":".join(["orthanc", *([key] if key else ["config", option]), *below])
    return WrongPillar(row.mistake, pillar, path, row.remedy, row.options, row.outcomes[0])


WRONG = table(
    {
        "misspelt name": [
            ({"HttpPrt": 8043}, "", "HttpPort", SWALLOWS),
            ({"RegisterdUsers": {"alice": "secret"}}, "", "RegisteredUsers", SWALLOWS),
            ({"LimitFindResult": 100}, "", "LimitFindResults", SWALLOWS),
            ({"SSLEnabled": True}, "", "SslEnabled", SWALLOWS),
        ],
        "miscased name": [
            ({"overwriteinstances": True}, "", "OverwriteInstances", SWALLOWS),
            ({"DicomAET": "PACS"}, "", "DicomAet", SWALLOWS),
            ({"RegisteredUSers": {"alice": "secret"}}, "", "RegisteredUsers", SWALLOWS),
        ],
        "wrong type": [
            ({"HttpPort": "8043"}, "", "from 1 to 65535", DIES),
            ({"RemoteAccessAllowed": "true"}, "", "true or false", DIES),
            ({"Name": 5}, "", "in quotes", SWALLOWS),
            ({"Plugins": "/usr/share/orthanc/plugins"}, "", "a list", DIES),
            ({"LuaScripts": "filter.lua"}, "", "a list", DIES),
            ({"StableAge": True}, "", "whole number from 0", DIES),
            ({"MaximumStorageSize": "1000"}, "", "whole number from 0", DIES_SINCE_1_13),
            ({"MaximumStorageMode": True}, "", "needs Orthanc 1.11.2", SWALLOWS),
            ({"DicomModalities": [["ct", "CT", "10.0.0.1", 104]]}, "", "a mapping", DIES),
            (peers({"far": "http://10.0.0.2:8042/"}), "far", "http:// or https://", DIES),
            ({"UserMetadata": {"Mine": "1024"}}, "Mine", "whole number from 1024 to 65535", DIES),
            ({"Dictionary": [["0015,1020", "DA", "Mine"]]}, "", "a mapping", SWALLOWS),
            ({"HttpTimeout": 60.5}, "", "whole number from 0", DIES),
            ({"SslCiphersAccepted": "AES128-GCM-SHA256"}, "", "a list", SWALLOWS),
        ],
        "out of range": [
            ({"HttpPort": 99999}, "", "from 1 to 65535", SWALLOWS),
            ({"HttpPort": -1}, "", "from 1 to 65535", DIES),
            ({"DicomPort": 65536}, "", "from 1 to 65535", SWALLOWS),
            ({"HttpThreadsCount": 0}, "", "whole number from 1", DIES),
            ({"MaximumPduLength": 1024}, "", "whole number from 4096 to 131072", DIES),
            ({"DicomLossyTranscodingQuality": 0}, "", "whole number from 1 to 100", DIES),
            ({"MaximumStorageSize": -5}, "", "whole number from 0", DIES_SINCE_1_13),
            ({"UserMetadata": {"Mine": 1000}}, "Mine", "whole number from 1024 to 65535", DIES),
            ({"SslMinimumProtocolVersion": 12}, "", "whole number from 0 to 5", SWALLOWS),
            ({"HttpTimeout": 3000000000}, "", "whole number from 0", DIES),
            ({"DicomThreadsCount": 0}, "", "whole number from 1", DIES),
            (ct(Port=65535), "ct:Port", "from 1 to 65534", DIES),
            (ct(Timeout=-1), "ct:Timeout", "whole number from 0", DIES),
        ],
        "wrong word": [
            ({"StorageAccessOnFind": "Sometimes"}, "", '"Always"', DIES),
            ({"DefaultEncoding": "UTF-8"}, "", '"Utf8"', DIES),
            ({"BuiltinDecoderTranscoderOrder": "First"}, "", '"After"', DIES),
            ({"DeidentifyLogsDicomVersion": "2020a"}, "", '"2021b"', DIES),
            ({"IngestTranscoding": "JPEG2000"}, "", '"1.2.840.10008.1.2.4.70"', DIES),
            (ct(Manufacturer="Siemens"), "ct:Manufacturer", '"Generic"', DIES),
            ({"DicomDefaultRetrieveMethod": "C-FIND"}, "", "needs Orthanc 1.12.6", DIES_SINCE_1_12),
            ({"Dictionary": {"0015,1020": ["XX", "Mine", 1, 1]}}, "0015,1020:0", '"DA"', DIES),
        ],
        "miscased word": [
            ({"StorageAccessOnFind": "always"}, "", '"Always"', DIES),
            ({"DeidentifyLogsDicomVersion": "2021B"}, "", '"2021b"', DIES),
            (ct(Manufacturer="generic"), "ct:Manufacturer", '"Generic"', DIES),
            ({"DicomDefaultRetrieveMethod": "c-get"}, "", "needs Orthanc 1.12.6", DIES_SINCE_1_12),
            ({"Dictionary": {"0015,1020": ["da", "Mine", 1, 1]}}, "0015,1020:0", '"DA"', DIES),
        ],
        "newer option": [
            (
                {"MaximumStorageMode": "Reject", "MaximumPatientCount": 9},
                "",
                "needs Orthanc 1.11.2",
                NEW_IN_1_12,
            ),
            ({"ReadOnly": True}, "", "needs Orthanc 1.12.5", NEW_IN_1_12),
            ({"DicomTlsMinimumProtocolVersion": 4}, "", "needs Orthanc 1.12.4", NEW_IN_1_12),
            (
                {"AcceptedSopClasses": ["1.2.840.10008.5.1.4.1.1.2"]},
                "",
                "needs Orthanc 1.12.6",
                NEW_IN_1_12,
            ),
            ({"HttpBindAddresses": ["127.0.0.1"]}, "", "needs Orthanc 1.12.10", NEW_IN_1_13),
            ({"MaximumRequestBodySizeMB": 1024}, "", "needs Orthanc 1.12.11", NEW_IN_1_13),
            (
                {"ExtraMainDicomTags": {"Instance": ["Rows"]}},
                "",
                "needs Orthanc 1.11.0",
                NEW_IN_1_12,
            ),
            (ct(RetrieveMethod="C-GET"), "ct:RetrieveMethod", "needs Orthanc 1.12.6", NEW_IN_1_12),
        ],
        "newer word": [
            (
                {"DeidentifyLogsDicomVersion": "2023b"},
                "",
                '"2023b" needs Orthanc 1.12.1',
                FATAL_BEFORE_1_12,
            ),
            (
                ct(Manufacturer="SiemensSyngoCT"),
                "ct:Manufacturer",
                '"SiemensSyngoCT" needs Orthanc 1.13.0',
                FATAL_BEFORE_1_13,
            ),
            (
                {"Dictionary": {"0015,1020": ["OV", "Mine", 1, 1]}},
                "0015,1020:0",
                '"OV" needs Orthanc 1.13.0',
                FATAL_BEFORE_1_13,
            ),
        ],
        "removed option": [
            ({"LimitJobs": 10}, "", "after 1.10.0", SWALLOWS),
            ({"AllowFindSopClassesInStudy": True}, "", "after 1.5.0", SWALLOWS),
        ],
        "bad AET": [
            ({"DicomAet": "SEVENTEENLETTERSX"}, "", "16 ASCII characters", DIES),
            ({"DicomAet": ""}, "", "16 ASCII characters", DIES),
            ({"DicomAet": "A\\B"}, "", "16 ASCII characters", DIES_SINCE_1_13),
            ({"DicomAet": "RÖNTGEN"}, "", "16 ASCII characters", SWALLOWS),
            (ct(AET="SEVENTEENLETTERSX"), "ct:AET", "16 ASCII characters", SWALLOWS),
            (ct(LocalAet="SEVENTEENLETTERSX"), "ct:LocalAet", "16 ASCII characters", SWALLOWS),
            (
                modalities({"ct": ["SEVENTEENLETTERSX", "10.0.0.1", 104]}),
                "ct:0",
                "16 ASCII characters",
                SWALLOWS,
            ),
        ],
        "bad symbolic name": [
            (modalities({"my ct": ["CT", "10.0.0.1", 104]}), "my ct", "letters, digits", DIES),
            (peers({"röntgen": ["http://10.0.0.2:8042/"]}), "röntgen", "letters, digits", DIES),
        ],
        "unknown key in a modality": [
            (ct(AllowFnd=False), "ct:AllowFnd", "AllowFind", SWALLOWS),
            (ct(allowEcho=False), "ct:allowEcho", "AllowEcho", SWALLOWS),
            (ct(Aet="CT"), "ct:Aet", "AET", SWALLOWS),
        ],
        "missing key in a modality": [
            (modalities({"ct": {"Host": "10.0.0.1", "Port": 104}}), "ct:AET", "missing", DIES),
            (modalities({"ct": {"AET": "CT", "Host": "10.0.0.1"}}), "ct:Port", "missing", DIES),
        ],
        "wrong type in a modality": [
            (ct(AllowEcho="false"), "ct:AllowEcho", "true or false", DIES),
            (ct(Port=104.0), "ct:Port", "from 1 to 65534", DIES),
            (ct(Port="DICOM"), "ct:Port", "from 1 to 65534", DIES),
            (modalities({"ct": ["CT", "10.0.0.1"]}), "ct", "a list of", DIES),
            (modalities({"ct": "CT@10.0.0.1:104"}), "ct", "a list of", DIES),
        ],
        "unknown key in a peer": [
            (far(Pasword="x"), "far:Pasword", "Password", SWALLOWS),
            (far(UserName="alice"), "far:UserName", "Username", SWALLOWS),
            (far(Headers={"Token": "x"}), "far:Headers", "HttpHeaders", DIES),
        ],
        "bad peer URL": [
            (far(Url="ftp://10.0.0.2/"), "far:Url", "http:// or https://", DIES),
            (peers({"far": {"Username": "a"}}), "far:Url", "missing", DIES),
        ],
        "wrong type in a peer": [
            (
                peers({"far": ["http://10.0.0.2:8042/", "alice"]}),
                "far",
                "http:// or https://",
                DIES,
            ),
            (far(Pkcs11=0), "far:Pkcs11", "true or false", DIES),
            (far(HttpHeaders={"Token": 5}), "far:HttpHeaders:Token", "in quotes", DIES),
            (far(Timeout="60"), "far:Timeout", "whole number from 0", DIES),
            (peers({"far": [8042]}), "far:0", "http:// or https://", SWALLOWS),
        ],
        "relative DICOM TLS path": [
            ({"DicomTlsTrustedCertificates": "trusted.crt"}, "", "an absolute path", DIES),
            ({"DicomTlsPrivateKey": "orthanc.key"}, "", "an absolute path", SWALLOWS),
        ],
        "variable in a value": [
            ({"Name": "PACS ${HOSPITAL}"}, "", "without it", SWALLOWS),
            ({"DicomAet": "${AET}"}, "", "without it", DIES),
        ],
        "conflicting settings": [
            (
                {"CheckRevisions": True, "StoreMD5ForAttachments": False},
                "",
                "StoreMD5ForAttachments",
                DIES,
            ),
            (
                {"PatientLevelEnabled": False, "MaximumPatientCount": 10},
                "",
                "needs Orthanc 1.12.11",
                DIES_SINCE_1_13,
            ),
        ],
        "unknown plugin section": [
            ({"DicomWebb": {"Enable": True}}, "", "DicomWeb", SWALLOWS),
            ({"dicomweb": {"Enable": False}}, "", "DicomWeb", SWALLOWS),
            ({"PostgreSql": {"EnableIndex": True}}, "", "PostgreSQL", SWALLOWS),
        ],
        "section of a plugin that is not installed": [
            (
                {"PostgreSQL": {"EnableIndex": True}},
                "",
                "add orthanc-postgresql to orthanc:packages",
                SWALLOWS,
            ),
            (
                {"OrthancExplorer2": {"Enable": True}},
                "",
                "name a download of libOrthancExplorer2.so in orthanc:plugins",
                SWALLOWS,
            ),
        ],
        "unknown key in a plugin section": [
            ({"DicomWeb": {"Enabled": False}}, "Enabled", "Enable", SWALLOWS),
            ({"DicomWeb": {"root": "/dw/"}}, "root", "Root", SWALLOWS),
            ({"Worklists": {"Enabled": True}}, "Enabled", "Enable", SWALLOWS),
            ({"Gdcm": {"Throtling": 2}}, "Throtling", "Throttling", SWALLOWS),
            (
                {"DicomWeb": {"Servers": {"far": {**FAR, "Pasword": "x"}}}},
                "Servers:far:Pasword",
                "Password",
                SWALLOWS,
            ),
            (
                {"ServeFolders": {"Folders": {"/doc": "/usr/share/doc"}, "AllowCash": True}},
                "AllowCash",
                "AllowCache",
                SWALLOWS,
            ),
        ],
        "wrong type in a plugin section": [
            ({"DicomWeb": {"Enable": "true"}}, "Enable", "true or false", DIES),
            ({"DicomWeb": ["Enable"]}, "", "a mapping", DIES),
            ({"Worklists": {"Enable": 1}}, "Enable", "true or false", DIES),
            ({"Gdcm": {"Throttling": "2"}}, "Throttling", "whole number from 1", DIES),
            (
                {"Gdcm": {"RestrictTransferSyntaxes": "1.2.840.10008.1.2.4.90"}},
                "RestrictTransferSyntaxes",
                "a list",
                DIES,
            ),
        ],
        "wrong word in a plugin section": [
            ({"DicomWeb": {"StudiesMetadata": "full"}}, "StudiesMetadata", '"Full"', DIES),
        ],
        "variable in a plugin section": [
            ({"DicomWeb": {"Root": "/${ROOT}/"}}, "Root", "without it", SWALLOWS),
        ],
    }
)

# More of the same, what a pillar cannot hold, and what needs a plugin that the test host has not.
MORE_WRONG = table(
    {
        "misspelt name": [
            ({"RemoteAccesAllowed": True}, "", "RemoteAccessAllowed", SWALLOWS),
            ({"DicomAlwaysAllowEchos": False}, "", "DicomAlwaysAllowEcho", SWALLOWS),
            (
                {"HttpsCaCertificate": "/etc/ssl/certs/ca-certificates.crt"},
                "",
                "HttpsCACertificates",
                SWALLOWS,
            ),
        ],
        "miscased name": [
            ({"httpPort": 8043}, "", "HttpPort", SWALLOWS),
            (
                {"HttpsCaCertificates": "/etc/ssl/certs/ca-certificates.crt"},
                "",
                "HttpsCACertificates",
                SWALLOWS,
            ),
        ],
        "wrong type": [
            ({"DicomPort": 4243.0}, "", "from 1 to 65535", DIES),
            ({"RemoteAccessAllowed": 1}, "", "true or false", DIES),
            ({"StorageDirectory": ["/srv/orthanc"]}, "", "in quotes", DIES),
            ({"MaximumPatientCount": "10"}, "", "whole number from 0", DIES_SINCE_1_13),
            ({"UserMetadata": ["Mine"]}, "", "a mapping", DIES),
            ({"DicomCheckCalledAet": "yes"}, "", "true or false", DIES),
            ({"LimitFindResults": "100"}, "", "whole number from 0", DIES),
            ({"ExecuteLuaEnabled": "false"}, "", "true or false", DIES),
            ({"OverwriteInstances": 1}, "", "true or false", ("dies", "dies", "swallows")),
            ({"TemporaryDirectory": False}, "", "in quotes", SWALLOWS),
            ({"LogExportedResources": "yes"}, "", "true or false", SWALLOWS),
            ({"Name": None}, "", "in quotes", SWALLOWS),
            ({"StableAge": None}, "", "whole number from 0", DIES),
            ({"RegisteredUsers": {"alice": 1234}}, "alice", "in quotes", DIES_SINCE_1_13),
            ({"RegisteredUsers": {"alice": None}}, "alice", "in quotes", DIES_SINCE_1_13),
            ({"RegisteredUsers": ["alice", "secret"]}, "", "a mapping", DIES),
        ],
        "out of range": [
            ({"MaximumStorageSize": 0.0}, "", "whole number from 0", DIES_SINCE_1_13),
            ({"HttpRequestTimeout": 0}, "", "whole number from 1", DIES),
            ({"MaximumPduLength": 200000}, "", "whole number from 4096 to 131072", DIES),
            ({"DicomLossyTranscodingQuality": 101}, "", "whole number from 1 to 100", DIES),
            ({"StableAge": -1}, "", "whole number from 0", DIES),
            ({"UserContentType": {"mine": 70000}}, "mine", "from 1024 to 65535", DIES),
            ({"MediaArchiveSize": 0}, "", "whole number from 1", DIES),
            ({"QueryRetrieveSize": 0}, "", "whole number from 1", DIES),
            (ct(Port=0), "ct:Port", "from 1 to 65534", DIES),
            ({"LimitFindResults": -1}, "", "whole number from 0", DIES),
        ],
        "wrong word": [
            ({"DefaultEncoding": "ISO_IR 100"}, "", '"Utf8"', DIES),
            ({"MaximumStorageMode": "Stop"}, "", "needs Orthanc 1.11.2", SWALLOWS),
            ({"IngestTranscoding": ""}, "", '"1.2.840.10008.1.2.4.70"', DIES),
            ({"DicomScuPreferredTransferSyntax": "1.2.3"}, "", '"1.2.840.10008.1.2.1"', DIES),
            ({"Warnings": {"W099_Nothing": False}}, "", "needs Orthanc 1.11.0", DIES_SINCE_1_12),
            (
                {"ExtraMainDicomTags": {"Frame": ["Rows"]}},
                "",
                "needs Orthanc 1.11.0",
                DIES_SINCE_1_12,
            ),
            (
                {"ExtraMainDicomTags": {"Instance": ["NoSuchTag"]}},
                "",
                "needs Orthanc 1.11.0",
                TRIED_SINCE_1_12,
            ),
        ],
        "miscased word": [
            ({"BuiltinDecoderTranscoderOrder": "after"}, "", '"After"', DIES),
            ({"MaximumStorageMode": "reject"}, "", "needs Orthanc 1.11.2", SWALLOWS),
            (modalities({"ct": ["CT", "10.0.0.1", 104, "ge"]}), "ct:3", '"GE"', DIES),
            (
                {"Warnings": {"w001_TagsBeingReadFromStorage": False}},
                "",
                "needs Orthanc 1.11.0",
                DIES_SINCE_1_12,
            ),
            (
                {"ExtraMainDicomTags": {"Instance": ["rows"]}},
                "",
                "needs Orthanc 1.11.0",
                TRIED_SINCE_1_12,
            ),
        ],
        "newer option": [
            ({"KeepAliveTimeout": 5}, "", "needs Orthanc 1.11.3", NEW_IN_1_12),
            (
                {"RejectedSopClasses": ["1.2.840.10008.5.1.4.1.1.2"]},
                "",
                "needs Orthanc 1.12.6",
                NEW_IN_1_13,
            ),
            ({"StorageLoaderThreadsCount": 4}, "", "needs Orthanc 1.13.0", NEW_IN_1_13),
            ({"ZipUseUtf8": True}, "", "needs Orthanc 1.12.11", NEW_IN_1_13),
            ({"DicomDefaultRetrieveMethod": "C-GET"}, "", "needs Orthanc 1.12.6", NEW_IN_1_12),
        ],
        "newer word": [
            (
                {"IngestTranscoding": "1.2.840.10008.1.2.4.202"},
                "",
                '"1.2.840.10008.1.2.4.202" needs Orthanc 1.12.11',
                FATAL_BEFORE_1_13,
            ),
            ({"Warnings": {"W003_DecoderFailure": False}}, "", "needs Orthanc 1.11.0", NEW_IN_1_12),
            ({"OverwriteInstances": "IfChanged"}, "", "true or false", FATAL_BEFORE_1_13),
            ({"OverwriteInstances": "Always"}, "", "true or false", FATAL_BEFORE_1_13),
        ],
        "bad AET": [
            (ct(AET="A\\B"), "ct:AET", "16 ASCII characters", SWALLOWS),
        ],
        "bad symbolic name": [
            (modalities({"ct.1": ["CT", "10.0.0.1", 104]}), "ct.1", "letters, digits", DIES),
            (peers({"far/1": ["http://10.0.0.2:8042/"]}), "far/1", "letters, digits", DIES),
        ],
        "unknown key in a modality": [
            (ct(UseDicomTLS=True), "ct:UseDicomTLS", "UseDicomTls", SWALLOWS),
        ],
        "missing key in a modality": [
            (modalities({"ct": {"AET": "CT", "Port": 104}}), "ct:Host", "missing", DIES),
        ],
        "wrong type in a modality": [
            (modalities({"ct": ["CT", "10.0.0.1", 104, "GE", 5]}), "ct", "a list of", DIES),
            (ct(Host=None), "ct:Host", "in quotes", DIES),
        ],
        "bad peer URL": [
            (far(Url=""), "far:Url", "http:// or https://", DIES),
            (peers({"far": ["HTTP://10.0.0.2:8042/"]}), "far:0", "http:// or https://", DIES),
        ],
        "wrong type in a peer": [
            (peers({"far": []}), "far", "http:// or https://", DIES),
        ],
        "wrong type in a plugin section": [
            ({"DicomWeb": {"Host": 5}}, "Host", "in quotes", SWALLOWS),
            ({"DicomWeb": {"Root": 5}}, "Root", "in quotes", DIES),
            ({"Gdcm": {"Enable": "yes"}}, "Enable", "true or false", DIES),
            ({"WebViewer": {"CacheSize": "10"}}, "CacheSize", "whole number from 1", SWALLOWS),
            ({"PostgreSQL": {"EnableIndex": "true"}}, "EnableIndex", "true or false", DIES),
            (
                {"PostgreSQL": {"EnableIndex": True, "Port": "5432"}},
                "Port",
                "whole number from 1 to 65534",
                DIES,
            ),
        ],
        "variable in a value": [
            ({"RegisteredUsers": {"alice": "a${b}c"}}, "alice", "without it", SWALLOWS),
        ],
        "conflicting settings": [
            (
                {"OverwriteInstances": "IfChanged", "StoreMD5ForAttachments": False},
                "",
                "true or false",
                DIES,
            ),
        ],
        "wrong number of items": [
            ({"Dictionary": {"0009,1001": ["DA", "Mine"]}}, "0009,1001", "but has 2", DIES),
            ({"UserContentType": {"report": [1025]}}, "report", "but has 1", DIES),
        ],
        "unknown key in a plugin section": [
            ({"WebViewer": {"CacheSiz": 10}}, "CacheSiz", "CacheSize", SWALLOWS),
            ({"PostgreSQL": {"EnableIndx": True}}, "EnableIndx", "EnableIndex", SWALLOWS),
        ],
    }
)

# What is wrong in other keys of the pillar than ``config``, or only together with them.
WRONG_PILLARS = pillar_table(
    {
        "misspelt name": [
            ({"prot": 8043}, "prot", "orthanc:port", None, None),
            ({"dicom": {"AET": "PACS"}}, "dicom:AET", "orthanc:dicom:aet", None, None),
        ],
        "out of range": [
            ({"port": 99999}, "port", "from 1 to 65535", {"HttpPort": 99999}, "swallows"),
            (
                {"dicom": {"port": 70000}},
                "dicom:port",
                "from 1 to 65535",
                {"DicomPort": 70000},
                "swallows",
            ),
            ({"limit_find": -1}, "limit_find", "0 or more", {"LimitFindResults": -1}, "dies"),
            ({"storage_reserve": "50 MB"}, "storage_reserve", "100 MB or more", None, None),
        ],
        "wrong type": [
            ({"port": "8043"}, "port", "port number", {"HttpPort": "8043"}, "dies"),
            (
                {"remote_access": "yes"},
                "remote_access",
                "true or false",
                {"RemoteAccessAllowed": "yes"},
                "dies",
            ),
            ({"version": 1.1}, "version", "put it in quotes", None, None),
            (
                {"users": ["alice", "secret"]},
                "users",
                "a mapping",
                {"RegisteredUsers": ["alice", "secret"]},
                "dies",
            ),
            (
                {"users": {"alice": {"password": 1234, "role": "reader"}}},
                "users:alice:password",
                "in quotes",
                {"RegisteredUsers": {"alice": 1234}},
                "swallows",
            ),
            (
                {"users": {"alice": {"password": None, "role": "reader"}}},
                "users:alice:password",
                "nothing behind it",
                {"RegisteredUsers": {"alice": None}},
                "swallows",
            ),
            (
                {"modalities": {"ct": {**CT, "Host": None}}},
                "modalities:ct:Host",
                "nothing behind it",
                ct(Host=None),
                "dies",
            ),
        ],
        "empty entry": [
            ({"users": None}, "users", "nothing behind it", None, None),
            ({"modalities": {"ct": None}}, "modalities:ct", "nothing behind it", None, None),
            (
                {"modalities": {"ct": {**CT, "Host": ""}}},
                "modalities:ct:Host",
                "an empty text",
                ct(Host=""),
                "swallows",
            ),
            (
                {"config": modalities({"ct": None})},
                "config:DicomModalities:ct",
                "nothing behind it",
                modalities({"ct": None}),
                "dies",
            ),
        ],
        "wrong word": [
            (
                {"overwrite_instances": "Sometimes"},
                "overwrite_instances",
                "Never",
                {"OverwriteInstances": "Sometimes"},
                "dies",
            ),
            (
                {"deidentify_logs": "1999a"},
                "deidentify_logs",
                "2021b",
                {"DeidentifyLogsDicomVersion": "1999a"},
                "dies",
            ),
        ],
        "newer word": [
            (
                {"overwrite_instances": "IfChanged"},
                "overwrite_instances",
                "true or false",
                {"OverwriteInstances": "IfChanged"},
                "dies",
            ),
            (
                {"deidentify_logs": "2023b"},
                "deidentify_logs",
                "needs Orthanc 1.12.1",
                {"DeidentifyLogsDicomVersion": "2023b"},
                "dies",
            ),
        ],
        # The newer plugin that reads them would die of these values.
        "newer key in a plugin section": [
            (
                {"config": {"DicomWeb": {"PublicRoot": "/dw/"}}},
                "config:DicomWeb:PublicRoot",
                "needs orthanc-dicomweb 1.8, this host has 1.7",
                {"DicomWeb": {"PublicRoot": 5}},
                "swallows",
            ),
            (
                {"config": {"DicomWeb": {"OtherBinaryMode": "InlineBinary"}}},
                "config:DicomWeb:OtherBinaryMode",
                "needs orthanc-dicomweb 1.24, this host has 1.7",
                {"DicomWeb": {"OtherBinaryMode": 5}},
                "swallows",
            ),
            (
                {"config": {"Worklists": {"Enable": True, "SaveInOrthancDatabase": True}}},
                "config:Worklists:SaveInOrthancDatabase",
                "only OrthancWorklists reads it, this host has ModalityWorklists",
                {"Worklists": {"Enable": True, "SaveInOrthancDatabase": True}},
                "dies",
            ),
            (
                {"config": {"Housekeeper": {"Enable": True}}},
                "config:Housekeeper",
                "needs Orthanc 1.11.0, this host has 1.10.1",
                {"Housekeeper": {"Enable": "yes"}},
                "swallows",
            ),
        ],
        "what people write": [
            (
                {"config": {"HttpHeaders": {"Access-Control-Allow-Origin": "*"}}},
                "config:HttpHeaders",
                "orthanc:https",
                {"HttpHeaders": {"Access-Control-Allow-Origin": "*"}},
                "swallows",
            ),
            (
                {"config": {"LogLevel": "verbose"}},
                "config:LogLevel",
                "PUT /tools/log-level",
                {"LogLevel": "verbose"},
                "swallows",
            ),
        ],
        "bad AET": [
            (
                {"dicom": {"aet": "SEVENTEENLETTERSX"}},
                "dicom:aet",
                "16 ASCII characters",
                {"DicomAet": "SEVENTEENLETTERSX"},
                "dies",
            ),
            (
                {"dicom": {"aet": "RÖNTGEN"}},
                "dicom:aet",
                "16 ASCII characters",
                {"DicomAet": "RÖNTGEN"},
                "swallows",
            ),
        ],
        "variable in a value": [
            (
                {"users": {"alice": {"password": "a${b}c", "role": "reader"}}},
                "users:alice:password",
                "without it",
                {"RegisteredUsers": {"alice": "a${b}c"}},
                "swallows",
            ),
            (
                {"peers": {"far": {**FAR, "Username": "x", "Password": "${PW}"}}},
                "peers:far:Password",
                "without it",
                far(Username="x", Password="${PW}"),
                "swallows",
            ),
        ],
        "unknown key in a modality": [
            (
                {"config": ct(AllowFnd=False)},
                "config:DicomModalities:ct:AllowFnd",
                "AllowFind",
                ct(AllowFnd=False),
                "swallows",
            ),
        ],
        "relative path": [
            (
                {"paths": {"storage": "images"}},
                "paths:storage",
                "an absolute path",
                {"StorageDirectory": "images"},
                "swallows",
            ),
        ],
        "conflicting settings": [
            (
                {"dicom": {"enabled": True, "port": 8042}},
                "dicom:port",
                "must not be 8042",
                {"DicomServerEnabled": True, "HttpPort": 18942, "DicomPort": 18942},
                "dies",
            ),
        ],
        "open server": [
            (
                {"remote_access": True, "users": {}},
                "remote_access",
                "orthanc:users",
                {"RemoteAccessAllowed": True},
                "swallows",
            ),
            (
                {"remote_access": True, "config": {"AuthenticationEnabled": False}},
                "config:AuthenticationEnabled",
                "must be true",
                {"RemoteAccessAllowed": True, "AuthenticationEnabled": False},
                "swallows",
            ),
        ],
        "users in two places": [
            (
                {"config": {"RegisteredUsers": {"eve": "a word of her own"}}},
                "config:RegisteredUsers",
                "orthanc:users",
                None,
                None,
            ),
        ],
        "missing package": [
            ({"packages": ["orthanc-dicomweb"]}, "packages", "must contain orthanc", None, None),
        ],
    }
)

# What only a look at the host or the trial start with its Orthanc can find: what is missing, or is
# taken by Orthanc itself. The remedy is often a piece of what Orthanc says.
ONLY_TRIED = table(
    {
        "missing file": [
            ({"LuaScripts": ["/missing.lua"]}, "", "/missing.lua", DIES),
            ({"ExternalDictionaries": ["/missing.dic"]}, "", "/missing.dic", DIES),
            ({"DicomTlsTrustedCertificates": "/missing.crt"}, "", "/missing.crt", DIES),
        ],
        "conflicting settings": [
            (far(Password="a word of ours"), "far", "Bad file format", DIES),
        ],
        "number used twice": [
            ({"UserMetadata": {"One": 1024, "Two": 1024}}, "", "Two", DIES),
        ],
        "reserved name": [
            ({"UserMetadata": {"ReceptionDate": 1024}}, "", "ReceptionDate", DIES),
            ({"UserContentType": {"dicom": 1024}}, "", "Bad request", DIES),
        ],
        "missing key in a plugin section": [
            (
                {"Worklists": {"Enable": True}, "DicomServerEnabled": True},
                "",
                "Worklists.Database",
                DIES,
            ),
        ],
    }
)
