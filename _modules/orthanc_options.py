"""
What Orthanc and its plugins can be told: the names, types, ranges and versions of all options.

Orthanc ignores an option that it does not know without a word, reads some wrong values as
"unlimited", and dies of others a second after its start. So every option is held against these
tables before it gets near a server: ``OPTIONS`` for the server, ``SECTIONS`` and
``PLUGIN_OPTIONS`` for the plugins. An option that the tables lack is known if the sample
configuration of the installed Orthanc (``Orthanc --config=-``) has it.

All functions but ``installed`` are pure.

https://orthanc.uclouvain.be/book/users/configuration.html
"""

from __future__ import annotations

import functools
import logging
import os
import re
from collections import namedtuple

log = logging.getLogger(__name__)

# What Salt offers; all else here makes the tables.
__load__ = [
    *("adapt", "advice", "check", "doubts", "installed", "is_before", "libraries", "redact"),
    "untouchable",
]


# What a value may be. A Kind is a plain value: what it must be, in words for the administrator,
# and the test for it. A dict is a mapping with known keys only.
Kind = namedtuple("Kind", "wanted test")
# A mapping whose names, of one Kind, the administrator chooses.
Named = namedtuple("Named", "names kind")
Listed = namedtuple("Listed", "kind")
Either = namedtuple("Either", "kinds")
# One of some words, each with the first version that knows it ("" for all).
Words = namedtuple("Words", "since")
# A list whose items are told apart by their position, and how many of them there may be.
Row = namedtuple("Row", "lengths kinds")
# What only versions from ``since`` to ``until`` know, both inclusive, and only the one plugin whose
# file has ``library`` in its name, where several share a section.
Option = namedtuple("Option", "kind since until library", defaults=("", "", ""))
# An option that later versions take in another form: ``old`` before the version ``since``.
Changed = namedtuple("Changed", "old since new")
# A mapping with keys that must be there, each a tuple of its names.
Required = namedtuple("Required", "keys kind")
# A mapping that a plugin hands on to the browser unread; ``names`` are those that are known.
Open = namedtuple("Open", "names")
# Of what a value has to be known: a name for people, the version (None where nobody can tell it),
# and of a plugin the pieces of the names of its files that are there, each with its version.
Release = namedtuple("Release", "name version libraries", defaults=({},))
# The section of a plugin: a piece of the name of its file (or several, of which one must be
# there), the package that brings it, and the keys of the section.
Section = namedtuple("Section", "library package keys")
# What options are judged for; see ``check``.
Host = namedtuple("Host", "version sample plugins packages")
# An option outside of all sections that only a plugin reads.
PluginOption = namedtuple("PluginOption", "library package kind")


def words(*names: str) -> Words:
    return Words(dict.fromkeys(names, ""))


def any_case(*names: str) -> Kind:
    """One of some words for which case does not matter."""
    lower = {name.lower() for name in names}
    return Kind(
        "one of " + ", ".join(f'"{name}"' for name in names),
        lambda value: isinstance(value, str) and value.lower() in lower,
    )


def either(*kinds) -> Either:
    return Either(kinds)


def between(low: int, high: int) -> Kind:
    return Kind(
        f"a whole number from {low} to {high}", lambda value: _whole(value) and low <= value <= high
    )


def matching(wanted: str, pattern: str) -> Kind:
    compiled = re.compile(pattern)
    return Kind(
        wanted,
        lambda value: isinstance(value, str) and compiled.fullmatch(value) is not None,
    )


def _whole(value) -> bool:
    return type(value) is int


FLAG = Kind("true or false", lambda value: isinstance(value, bool))
INTEGER = between(-(2**31), 2**31 - 1)
COUNT = between(0, 2**31 - 1)
POSITIVE = between(1, 2**31 - 1)
PORT = Kind(
    "a port number from 1 to 65535 (without quotes)",
    lambda value: _whole(value) and 1 <= value <= 65535,
)
TEXT = matching("a text (in quotes)", r"[^\0\ud800-\udfff]*")
AET = matching(
    "1 to 16 ASCII characters without backslash, not all blank (in quotes)",
    r"(?= *[^ ])[ -\[\]-~]{1,16}",
)
ANY = Kind("anything", lambda value: True)
FREE_NAME = matching("a name", r"(?s).*")
SYMBOLIC_NAME = matching("a name of letters, digits, - and _", r"[A-Za-z0-9_-]+")


def listed(kind) -> Listed:
    return Listed(kind)


def named(kind) -> Named:
    return Named(FREE_NAME, kind)


def symbolic(kind) -> Named:
    return Named(SYMBOLIC_NAME, kind)


def recent(kind) -> Option:
    """An option that only Orthanc 1.13 has."""
    return Option(kind, since="1.13.0")


# For libpq the host begins after the first @, whatever the password holds; it takes a list of
# keywords and values as well.
CONNECTION_URI = matching(
    "postgresql://user:password@host:port/database, what is special in it URL-encoded",
    r"(?s)(?!postgres(ql)?://).*"
    r"|postgres(ql)?://(?!.*%(?![0-9A-Fa-f]{2}))([^@/?#]*@)?[^@?#]*(\?[^@]*)?",
)

TEXTS = listed(TEXT)


# (M): measured with Orthanc 1.10.1, 1.12.7 and 1.13.0; (S): read in the source of all releases.

# ---------------------------------------------------------------- enumerations (case-sensitive)

MANUFACTURER_WORDS = {
    "Generic": "",
    "GenericNoWildcardInDates": "",
    "GenericNoUniversalWildcard": "",
    "Vitrea": "",
    "GE": "",
    "SiemensSyngoCT": "1.13.0",
    # Obsolete names: accepted with a warning in the log by all releases (M).
    "AgfaImpax": "",
    "SyngoVia": "",
    "EFilm2": "",
    "MedInria": "",
    "ClearCanvas": "",
    "Dcm4Chee": "",
}
MANUFACTURERS = Words(MANUFACTURER_WORDS)

# The one enumeration that is NOT case-sensitive (M: "latin1" and "LaTiN1" run, "foo" is fatal).
ENCODINGS = any_case(
    "Ascii",
    "Utf8",
    "Latin1",
    "Latin2",
    "Latin3",
    "Latin4",
    "Latin5",
    "Cyrillic",
    "Windows1251",
    "Arabic",
    "Greek",
    "Hebrew",
    "Thai",
    "Japanese",
    "Chinese",
    "JapaneseKanji",
    "Korean",
    "SimplifiedChinese",
)

# "2021b" is not in the source before 1.9.4 (the sample's comment says 1.8.2).
DICOM_VERSIONS = Words({"2008": "", "2017c": "", "2021b": "1.9.4", "2023b": "1.12.1"})

# "SystemDefault" is accepted as well, although only an error message says so (M).
RETRIEVE_METHODS = words("C-MOVE", "C-GET", "SystemDefault")

# The UIDs that IngestTranscoding and DicomScuPreferredTransferSyntax accept (S); any other text,
# also the empty one or a name, is fatal (M).
TRANSFER_SYNTAXES = Words(
    {
        **{
            "1.2.840.10008.1.2" + tail: ""
            for tail in (
                "",
                ".1",
                ".1.99",
                ".2",
                ".5",
                ".6.1",
                ".6.2",
                *(
                    f".4.{n}"
                    for n in (*range(50, 67), 70, 80, 81, *range(90, 96), *range(100, 109))
                ),
            )
        },
        **{f"1.2.840.10008.1.2.4.{n}": "1.12.11" for n in (110, 111, 112, 201, 202, 203)},
    }
)

VALUE_REPRESENTATIONS = Words(
    {
        **dict.fromkeys(
            re.findall("..", "AEASATCSDADSDTFDFLISLOLTOBODOFOLOWPNSHSLSQSSSTTMUCUIULUNURUSUT"), ""
        ),
        **dict.fromkeys(("OV", "SV", "UV"), "1.13.0"),
    }
)

# An unknown name is fatal from 1.11.0 on; before, the whole section is ignored (M).
WARNINGS = {
    "W001_TagsBeingReadFromStorage": FLAG,
    "W002_InconsistentDicomTagsInDb": FLAG,
    # 1.12.5 .. : not in the source of 1.12.4 (S).
    "W003_DecoderFailure": Option(FLAG, since="1.12.5"),
    "W004_NoMainDicomTagsSignature": Option(FLAG, since="1.12.5"),
    "W005_RequestingTagFromLowerResourceLevel": Option(FLAG, since="1.12.5"),
    "W006_RequestingTagFromMetaHeader": Option(FLAG, since="1.12.5"),
    "W007_MissingRequestedTagsNotReadFromDisk": Option(FLAG, since="1.12.5"),
}

# ---------------------------------------------------------------- structures

# Known keys of the object form of a DicomModalities entry. Orthanc ignores any other key (M).
# A wrong AET (too long, empty) is NOT noticed at the start, neither is a wrong LocalAet (M).
# 65535 is fatal, "104" is accepted (M)
MODALITY_PORT = Kind(
    "a whole number from 1 to 65534",
    lambda value: (
        re.fullmatch("[0-9]{1,5}", str(value)) is not None
        and isinstance(value, (int, str))
        and 1 <= int(value) <= 65534
    ),
)
MODALITY = {
    "AET": AET,
    "Host": TEXT,
    "Port": MODALITY_PORT,
    "Manufacturer": MANUFACTURERS,
    "AllowEcho": FLAG,
    "AllowFind": FLAG,
    "AllowFindWorklist": Option(FLAG, since="1.10.0"),
    "AllowGet": FLAG,
    "AllowMove": FLAG,
    "AllowStore": FLAG,
    "AllowNAction": FLAG,  # not documented, but read (S)
    "AllowEventReport": FLAG,  # likewise
    "AllowStorageCommitment": FLAG,  # sets the two above
    "AllowTranscoding": FLAG,
    "UseDicomTls": FLAG,
    "LocalAet": matching(
        "up to 16 ASCII characters without backslash", r"[ -\[\]-~]{0,16}"
    ),  # "" is as good as none (S)
    "Timeout": Option(COUNT, since="1.9.1"),
    "RetrieveMethod": Option(RETRIEVE_METHODS, since="1.12.6"),
}
MODALITY_REQUIRED = (("AET",), ("Host",), ("Port",))
# The list form: [AET, host, port] or [AET, host, port, manufacturer]; other lengths are fatal (M).
MODALITY_ROW = ((3, 4), (AET, TEXT, MODALITY_PORT, MANUFACTURERS))

# An OrthancPeers entry. The URL may lack the scheme ("host:8042"), but if it has one, then exactly
# "http://" or "https://" in lower case (M); an empty URL is fatal. "URL" is an alias of "Url".
# Any other key is a free property for plugins and scripts (text, Boolean, integer; other types are
# fatal, M); RemoteSelf is read by the transfers accelerator plugin.
PEER_URL = matching(
    "a URL that begins with http:// or https://",
    r"https?://\S+|(?![A-Za-z][A-Za-z0-9+.-]*://)\S+",
)
PEER = {
    "Url": PEER_URL,
    "URL": PEER_URL,
    "Username": TEXT,
    "Password": TEXT,  # without Username: fatal (M)
    "HttpHeaders": named(TEXT),
    "CertificateFile": TEXT,
    "CertificateKeyFile": TEXT,
    "CertificateKeyPassword": TEXT,
    "Pkcs11": FLAG,
    "Timeout": Option(COUNT, since="1.9.1"),
    "RemoteSelf": TEXT,
}
PEER_REQUIRED = (("Url", "URL"),)  # or "URL"
# The list form: [url] or [url, user, password]; [url, user] is fatal (M).
PEER_ROW = ((1, 3), (PEER_URL, TEXT, TEXT))

# "gggg,eeee": [VR, name, minimum, maximum, private creator]; minimum >= 1, maximum 0 = any.
# Two items are fatal although documented as possible, three run (M).
# Minimum > maximum is fatal unless maximum is 0; the key may also be written "ggggeeee" (M).
DICTIONARY_ROW = ((3, 4, 5), (VALUE_REPRESENTATIONS, TEXT, POSITIVE, COUNT, TEXT))

# Levels are compared without regard to case and in several spellings (M), an unknown level or tag
# is fatal. A tag is a DICOM keyword ("PatientID", case-sensitive) or "gggg,eeee" or "ggggeeee".
EXTRA_TAGS = {
    form: TEXTS
    for level in (
        "Patient",
        "Study",
        "Series",
        "Instance",
        "Patients",
        "Studies",
        "Instances",
        "Image",
        "Images",
    )
    for form in (level, level.lower(), level.upper())
}

USER_NUMBER = between(1024, 65535)  # each number only once, and no name of Orthanc's own (M)
PKCS11 = {"Module": TEXT, "Pin": TEXT, "Verbose": FLAG}
# Resolved against the working directory of the process, not the configuration's folder as
# SslCertificate is (1.10.1, 1.12.7 and 1.13.0 alike); read although DicomTlsEnabled is false; "" is
# as good as none (M).
TLS_PATH = matching(
    'an absolute path (or ""), because Orthanc looks for any other one in the folder that it is'
    " started in (/ for a service), not beside its configuration",
    r"(?:/[^\0\n]*)?",
)

# ---------------------------------------------------------------- the options

OPTIONS = {
    # General
    "Name": TEXT,
    "StorageDirectory": TEXT,
    "IndexDirectory": TEXT,
    "TemporaryDirectory": TEXT,
    "StorageCompression": FLAG,
    # A bad value of these four is swallowed up to 1.12 (an error in the log, then the default, so
    # no limit and "Recycle"); from 1.13.0 all are fatal but MaximumStorageMode (M).
    "MaximumStorageSize": COUNT,
    "MaximumPatientCount": COUNT,
    "MaximumStorageMode": Option(words("Recycle", "Reject"), since="1.11.2"),
    "MaximumStorageCacheSize": Option(COUNT, since="1.10.0"),
    "StorageLoaderThreadsCount": recent(POSITIVE),
    "StorageMemoryCapacity": recent(COUNT),
    "LuaScripts": TEXTS,  # a missing script is fatal
    "LuaHeartBeatPeriod": Option(COUNT, since="1.11.1"),
    # A missing *.so is fatal in 1.12.7 and 1.13.0, but not in 1.10.1, a missing folder never (M).
    "Plugins": TEXTS,
    "ConcurrentJobs": COUNT,
    # Orthanc takes any name here, but looks up only this one (S).
    "JobsEngineThreadsCount": Option({"ResourceModification": COUNT}, since="1.11.3"),
    # HTTP server
    "HttpServerEnabled": FLAG,
    "OrthancExplorerEnabled": FLAG,
    "HttpPort": PORT,  # above 65535: silently modulo 65536 (M)
    "HttpBindAddresses": Option(TEXTS, since="1.12.10"),
    "HttpDescribeErrors": FLAG,
    "HttpCompressionEnabled": FLAG,
    "HttpThreadsCount": POSITIVE,
    "HttpRequestTimeout": POSITIVE,
    "KeepAlive": FLAG,
    "KeepAliveTimeout": Option(COUNT, since="1.11.3"),
    "TcpNoDelay": FLAG,
    "WebDavEnabled": FLAG,
    "WebDavDeleteAllowed": FLAG,
    "WebDavUploadAllowed": FLAG,
    "MaximumRequestBodySizeMB": Option(COUNT, since="1.12.11"),
    "MaximumFileSizeInArchiveMB": Option(COUNT, since="1.12.11"),
    "RemoteAccessAllowed": FLAG,
    "AuthenticationEnabled": FLAG,
    "RegisteredUsers": named(TEXT),  # ":" in a name: fatal from 1.12.10
    "SslEnabled": FLAG,
    "SslCertificate": TEXT,
    "SslMinimumProtocolVersion": between(0, 5),
    "SslCiphersAccepted": TEXTS,
    "SslVerifyPeers": FLAG,
    "SslTrustedClientCertificates": TEXT,
    "ExecuteLuaEnabled": FLAG,
    # Upstream 1.12.0; Debian brought it back to its 1.10.1 (M), an older one ignores it.
    "RestApiWriteToFileSystemEnabled": Option(FLAG, since="1.10.1"),
    "MetricsEnabled": FLAG,
    # HTTP client and peers
    "HttpProxy": TEXT,
    "HttpVerbose": FLAG,
    "HttpTimeout": COUNT,
    "HttpsVerifyPeers": FLAG,
    "HttpsCACertificates": TEXT,
    "Pkcs11": PKCS11,  # fatal in Debian's builds (M: without PKCS#11 support)
    "OrthancPeers": symbolic(either(Required(PEER_REQUIRED, PEER), Row(*PEER_ROW))),
    "OrthancPeersInDatabase": FLAG,
    # DICOM server and client
    "DicomServerEnabled": FLAG,
    "DicomAet": AET,  # a backslash is fatal from 1.13.0 only (M)
    "DicomCheckCalledAet": FLAG,
    "DicomPort": PORT,
    "DicomThreadsCount": Option(POSITIVE, since="1.10.0"),
    "DicomScpTimeout": COUNT,
    "DicomScuTimeout": COUNT,
    "DicomAssociationCloseDelay": COUNT,
    "MaximumPduLength": between(4096, 131072),
    "StrictAetComparison": FLAG,
    "DicomAlwaysAllowEcho": FLAG,
    "DicomAlwaysAllowStore": FLAG,
    "DicomAlwaysAllowFind": FLAG,
    "DicomAlwaysAllowFindWorklist": Option(FLAG, since="1.10.0"),
    "DicomAlwaysAllowGet": FLAG,
    "DicomAlwaysAllowMove": Option(FLAG, since="1.9.7"),
    "DicomCheckModalityHost": FLAG,
    "DicomEchoChecksFind": FLAG,
    "DicomModalities": symbolic(either(Required(MODALITY_REQUIRED, MODALITY), Row(*MODALITY_ROW))),
    "DicomModalitiesInDatabase": FLAG,
    "DicomDefaultRetrieveMethod": Option(RETRIEVE_METHODS, since="1.12.6"),
    "SynchronousCMove": FLAG,
    "QueryRetrieveSize": POSITIVE,
    "StorageCommitmentReportsSize": COUNT,
    "LimitFindResults": COUNT,
    "LimitFindInstances": COUNT,
    "CaseSensitivePN": FLAG,
    "LogExportedResources": FLAG,
    "DicomTlsEnabled": FLAG,
    "DicomTlsCertificate": TLS_PATH,
    "DicomTlsPrivateKey": TLS_PATH,
    "DicomTlsTrustedCertificates": TLS_PATH,
    "DicomTlsRemoteCertificateRequired": Option(FLAG, since="1.9.3"),
    "DicomTlsMinimumProtocolVersion": Option(between(0, 5), since="1.12.4"),
    "DicomTlsCiphersAccepted": Option(TEXTS, since="1.12.4"),
    # What the DICOM server accepts. The list may be one string (M); items are UIDs, "*" and "?"
    # are wildcards; one that matches nothing is ignored (M).
    "AcceptedTransferSyntaxes": either(TEXT, TEXTS),
    "DeflatedTransferSyntaxAccepted": FLAG,
    "JpegTransferSyntaxAccepted": FLAG,
    "Jpeg2000TransferSyntaxAccepted": FLAG,
    "JpegLosslessTransferSyntaxAccepted": FLAG,
    "JpipTransferSyntaxAccepted": FLAG,
    "Mpeg2TransferSyntaxAccepted": FLAG,
    "Mpeg4TransferSyntaxAccepted": FLAG,
    "RleTransferSyntaxAccepted": FLAG,
    "H265TransferSyntaxAccepted": FLAG,
    "UnknownSopClassAccepted": FLAG,
    "AcceptedSopClasses": Option(TEXTS, since="1.12.6"),
    # 1.12.6 and 1.12.7 document RejectedSopClasses, but read RejectSopClasses (M); later both.
    "RejectedSopClasses": Option(TEXTS, since="1.12.6"),
    "RejectSopClasses": Option(TEXTS, since="1.12.6"),
    # Transcoding, parsing
    "TranscodeDicomProtocol": FLAG,
    "DicomScuPreferredTransferSyntax": TRANSFER_SYNTAXES,
    "BuiltinDecoderTranscoderOrder": words("After", "Before", "Disabled"),
    "IngestTranscoding": TRANSFER_SYNTAXES,
    "IngestTranscodingOfUncompressed": FLAG,
    "IngestTranscodingOfCompressed": FLAG,
    "DicomLossyTranscodingQuality": between(1, 100),
    "MaximumConcurrentDcmtkTranscoders": Option(COUNT, since="1.12.6"),
    "DicomParserThreadsCount": recent(POSITIVE),
    "DicomParserMemoryCapacity": recent(COUNT),
    "DicomParserCacheSize": recent(COUNT),
    "TranscoderThreadsCount": recent(POSITIVE),
    "TranscoderMemoryCapacity": recent(COUNT),
    "TranscoderCacheSize": recent(COUNT),
    "SequentialDicomReaderThreadsCount": recent(POSITIVE),
    "SequentialDicomReaderWindowSize": recent(POSITIVE),
    "SequentialDicomReaderWindowCapacity": recent(COUNT),
    # DICOM dictionary and encoding
    "DefaultEncoding": ENCODINGS,
    "DefaultPrivateCreator": TEXT,
    "LoadPrivateDictionary": FLAG,
    "Dictionary": named(Row(*DICTIONARY_ROW)),  # not a mapping: silently ignored (M)
    "ExternalDictionaries": Option(TEXTS, since="1.9.4"),  # a missing file is fatal (M)
    "ExtraMainDicomTags": Option(EXTRA_TAGS, since="1.11.0"),
    "Locale": TEXT,  # an unknown one: only an error in the log (M)
    # Database, storage, jobs
    "UserMetadata": named(USER_NUMBER),
    "UserContentType": named(either(USER_NUMBER, Row((2,), (USER_NUMBER, TEXT)))),
    "StableAge": COUNT,
    "StoreMD5ForAttachments": FLAG,
    "StoreDicom": FLAG,
    "OverwriteInstances": Changed(
        FLAG, "1.13.0", either(FLAG, words("Never", "Always", "IfChanged"))
    ),
    "StorageAccessOnFind": words("Always", "Never", "Answers"),
    "SyncStorageArea": FLAG,
    "MallocArenaMax": COUNT,
    "DatabaseServerIdentifier": Option(matching("a text", r"(?s).+"), since="1.9.2"),  # (M)
    "CheckRevisions": Option(FLAG, since="1.9.2"),
    "ReadOnly": Option(FLAG, since="1.12.5"),
    "PatientLevelEnabled": Option(FLAG, since="1.12.11"),
    "JobsHistorySize": COUNT,
    "SaveJobs": FLAG,
    "MediaArchiveSize": POSITIVE,
    "SynchronousZipStream": Option(FLAG, since="1.9.4"),
    "ZipUseUtf8": Option(FLAG, since="1.12.11"),
    # No longer documented from 1.13.0 on, but still read (M).
    "LoaderThreads": Option(COUNT, since="1.12.11"),
    "ZipLoaderThreads": Option(COUNT, since="1.10.0"),
    # Logs
    "DeidentifyLogs": FLAG,
    "DeidentifyLogsDicomVersion": DICOM_VERSIONS,
    "Warnings": Option(WARNINGS, since="1.11.0"),
    # Gone. LimitJobs had no effect since 1.4.0, but was in the samples up to 1.10.0.
    "LimitJobs": Option(COUNT, until="1.10.0"),
    "AllowFindSopClassesInStudy": Option(FLAG, until="1.5.0"),
}

# Security suggestions of the Orthanc Book. Value: the advised-against one, or a kind of them.
ADVISED_AGAINST = {
    "HttpsVerifyPeers": (False, "HTTPS peers could be impersonated"),
    "ExecuteLuaEnabled": (True, "lets HTTP clients run Lua code on the server"),
    "RestApiWriteToFileSystemEnabled": (True, "lets HTTP clients write files on the server"),
    "WebDavEnabled": (True, "WebDAV opens a second way into the store; switch it off if unused"),
    "WebDavDeleteAllowed": (True, "lets WebDAV clients delete images"),
    "LimitFindResults": (0, "without a limit one query can occupy the server; 100 is usual"),
    "LimitFindInstances": (0, "without a limit one query can occupy the server; 100 is usual"),
    "DicomAlwaysAllowEcho": (True, "any DICOM client may probe the server"),
    "DicomAlwaysAllowStore": (True, "any DICOM client may store images"),
    "DicomAlwaysAllowFind": (True, "any DICOM client may search for patients"),
    "DicomAlwaysAllowFindWorklist": (True, "any DICOM client may read the worklists"),
    "DicomAlwaysAllowGet": (True, "any DICOM client may fetch images"),
    "DicomAlwaysAllowMove": (True, "any DICOM client may have images sent away"),
    "DicomCheckCalledAet": (False, "clients need not even know the title of the server"),
    "DicomCheckModalityHost": (False, "a modality is known by its title only, not by its address"),
    "DeidentifyLogs": (False, "patient data in the logs"),
    "DicomTlsRemoteCertificateRequired": (False, "DICOM TLS without checking the other side"),
    "SslMinimumProtocolVersion": (between(0, 3), "TLS below 1.2"),
    "DicomTlsMinimumProtocolVersion": (between(1, 3), "TLS below 1.2"),
}

# What is advised against together: the option that it is said of and what it has to be, what others
# have to be beside it, and why. An option that is not set has its default.
ADVISED_AGAINST_TOGETHER = (
    (
        ("RemoteAccessAllowed", True),
        {"SslEnabled": False},
        "passwords and images go over the network in clear text, where everybody on the way can"
        " read them; switch on orthanc:https, unless a proxy with HTTPS stands in front",
    ),
    (
        ("AuthenticationEnabled", False),
        {"RemoteAccessAllowed": True},
        "everybody who reaches this host may read and delete all images without a password",
    ),
    *(
        (
            (option, POSITIVE),
            {"MaximumStorageMode": "Recycle"},
            "once the limit is reached, the images of the oldest patients are deleted without a"
            ' word; "MaximumStorageMode": "Reject" (from Orthanc 1.11.2) refuses new ones instead',
        )
        for option in ("MaximumStorageSize", "MaximumPatientCount")
    ),
)
TOGETHER_DEFAULTS = {
    "SslEnabled": False,
    "RemoteAccessAllowed": False,
    "MaximumStorageMode": "Recycle",
}

# Options that changed their form: the version since which they have the new one, and pairs of old
# and new value.
NEW_FORMS = {"OverwriteInstances": ("1.13.0", ((False, "Never"), (True, "Always")))}

# Options that some versions, from the first to the second one, read by another name only (M).
OLD_NAMES = {"RejectedSopClasses": ("1.12.6", "1.12.7", "RejectSopClasses")}

# The value of HttpBindAddresses that older versions can do without.
LOOPBACK = ["127.0.0.1"]

# A list of strings for which the plugin takes a single string as well
SOME_TEXTS = either(TEXTS, TEXT)

# A Boolean of a user-defined property of a web service
PROPERTY_FLAG = either(FLAG, words("true", "false", "1", "0"), between(0, 1))

# Levels of the DICOM hierarchy, as the framework of Orthanc reads them
LEVEL = any_case(
    "patient", "patients", "study", "studies", "series", "instance", "instances", "image", "images"
)
ACCESS_LEVEL = any_case(
    "patient", "patients", "study", "studies", "series", "instance", "instances", "system"
)

# A remote web service in its long form (the same reader as for "OrthancPeers")
WEB_SERVICE = {
    "Url": TEXT,
    "URL": TEXT,
    "Username": TEXT,
    "Password": TEXT,
    "HttpHeaders": named(TEXT),
    "CertificateFile": TEXT,
    "CertificateKeyFile": TEXT,
    "CertificateKeyPassword": TEXT,
    "Pkcs11": FLAG,
    "Timeout": COUNT,
}

# [url] or [url, user, password].  An error in any server is only a line in the log: Orthanc
# starts, but the rest of the servers is missing.
DICOMWEB_SERVER = either(
    Row((1, 3), (TEXT, TEXT, TEXT)),
    Required(
        PEER_REQUIRED,
        {
            **WEB_SERVICE,
            "HasDelete": PROPERTY_FLAG,
            "ChunkedTransfers": PROPERTY_FLAG,
            "HasWadoRsUniversalTransferSyntax": PROPERTY_FLAG,
        },
    ),
)

METADATA_MODE = words("Full", "MainDicomTags", "Extrapolate")

# [number of the key, path of the key file]
MASTER_KEY = listed(either(COUNT, TEXT))

# Keys that the three object storages have in common
OBJECT_STORAGE = {
    "RootPath": TEXT,  # must not begin with a slash
    "StorageStructure": words("flat", "legacy"),
    "EnableLegacyUnknownFiles": FLAG,
    "HybridMode": words("Disabled", "WriteToObjectStorage", "WriteToFileSystem"),
    "MigrationFromFileSystemEnabled": FLAG,
    "StorageEncryption": {
        "Enable": FLAG,
        "MasterKey": MASTER_KEY,
        "PreviousMasterKeys": listed(MASTER_KEY),
        "MaxConcurrentInputSize": COUNT,
    },
}

EDUCATION_USERS = {
    "Authentication": words("None", "Login", "RestrictedHttpHeader", "HttpHeader"),
    "Credentials": named(TEXT),
    "RestrictedHeaders": TEXTS,
}

# The keys of the viewer of Osimis, which shares a section with Orthanc's own (S)
OSIMIS_WEB_VIEWER = {
    "RestrictTransferSyntaxes": TEXTS,
    "AlwaysShowNotForDiagnosticUsageDisclaimer": FLAG,
    "AnnotationStorageEnabled": FLAG,
    "CacheEnabled": FLAG,
    "CombinedToolBehaviour": ANY,
    "CombinedToolEnabled": FLAG,
    "CrossHairEnabled": FLAG,
    "CustomCommandEnabled": FLAG,
    "CustomCommandIconClass": TEXT,
    "CustomCommandIconLabel": TEXT,
    "CustomCommandLuaCode": TEXT,
    "CustomOverlayProviderUrl": TEXT,
    "DateFormat": TEXT,
    "DefaultLanguage": TEXT,
    "DefaultSelectedTool": TEXT,
    "DefaultStudyIslandsDisplayMode": words("grid", "list", "oneCol"),
    "DisplayOverlayIcons": FLAG,
    "DisplayOverlayText": FLAG,
    "DocumentationUrl": TEXT,
    "DownloadAsJpegEnabled": FLAG,
    "GdcmEnabled": FLAG,
    "HighQualityImagePreloadingEnabled": FLAG,
    "InstanceInfoCacheEnabled": FLAG,
    "KeyImageCaptureEnabled": FLAG,
    "KeyboardShortcuts": ANY,
    "KeyboardShortcutsEnabled": FLAG,
    "LiveshareEnabled": FLAG,
    "MouseWheelBehaviour": ANY,
    "OpenAllPatientStudies": FLAG,
    "PrintEnabled": FLAG,
    "ReduceTimelineHeightOnSingleFrameSeries": FLAG,
    "ReferenceLinesEnabled": FLAG,
    "SeriesToIgnore": ANY,
    "SeriesToIgnoreFromMetadata": ANY,
    "ShortTermCacheDebugLogsEnabled": FLAG,
    "ShortTermCacheEnabled": FLAG,
    "ShortTermCachePath": TEXT,
    "ShortTermCachePrefetchOnInstanceStored": FLAG,
    "ShortTermCacheSize": INTEGER,
    "ShowInfoPopupAtStartup": words("always", "never", "user"),
    "ShowInfoPopupButtonEnabled": FLAG,
    "ShowNoReportIconInSeriesList": FLAG,
    "ShowStudyInformationBreadcrumb": FLAG,
    "StudyDownloadEnabled": FLAG,
    "SynchronizedBrowsingEnabled": FLAG,
    "ToggleOverlayIconsButtonEnabled": FLAG,
    "ToggleOverlayTextButtonEnabled": FLAG,
    "ToolbarButtonSize": words("small", "large"),
    "ToolbarLayoutMode": words("flat", "tree"),
    "VideoDisplayEnabled": FLAG,
    "WindowingBehaviour": ANY,
    "WindowingPresets": ANY,
}

# Up to release 1.14.1 (S)
EXPLORER_UI = (
    "EnableStudyList",
    "EnableUpload",
    "EnableAddSeries",
    "AddSeriesDefaultTags",
    "EnableDicomModalities",
    "EnableDicomWebServers",
    "EnableDeleteResources",
    "EnableDownloadZip",
    "EnableDownloadDicomDir",
    "EnableDownloadDicomFile",
    "EnableAnonymization",
    "EnableAnonimization",
    "EnableModification",
    "EnableSendTo",
    "EnableApiViewMenu",
    "EnableWorklists",
    "EnableSettings",
    "EnablePermissionsEdition",
    "EnableAuditLogs",
    "EnableJobsList",
    "EnableLinkToLegacyUi",
    "EnableChangePassword",
    "EnableViewerQuickButton",
    "EnableReportQuickButton",
    "EnableQuickViewerButton",
    "EnableQuickReportButton",
    "EnableEditLabels",
    "EnableLabels",
    "AvailableLabels",
    "EnableLabelsCount",
    "EnableMultiLabelsSearch",
    "EnableShares",
    "DefaultShareDuration",
    "ShareDuration",
    "ShareDurations",
    "AnonymizeSharesByDefault",
    "EnableAnonymizedShares",
    "EnableStandardShares",
    "EnableSharesByEmail",
    "ShareEmailTemplate",
    "ShareEmailContentTemplate",
    "ShareEmailLayoutTemplate",
    "ShareEmailTitle",
    "EnableInboxLinks",
    "InboxLinksDuration",
    "EnableInboxLinksByEmail",
    "InboxLinksEmailContentTemplate",
    "InboxLinksEmailLayoutTemplate",
    "InboxLinksEmailTitle",
    "EnableOpenInOhifViewer",
    "OhifViewerPublicRoot",
    "EnableOpenInOhifViewer3",
    "OhifViewer3PublicRoot",
    "EnableOpenInMedDreamViewer",
    "EnableMedDreamInstantLinks",
    "MedDreamViewerPublicRoot",
    "EnableOpenInWeasisViewer",
    "ViewersIcons",
    "ViewerIcons",
    "ViewersOrdering",
    "MaxStudiesDisplayed",
    "PageLoadSize",
    "MaxMyJobsHistorySize",
    "StudyListSearchMode",
    "StudyListSearchAsYouTypeMinChars",
    "StudyListSearchAsYouTypeDelay",
    "StudyListEmptyIfNoSearch",
    "StudyListContentIfNoSearch",
    "DefaultOrdering",
    "AutoAddWildcardsToSearchFields",
    "ShowOrthancName",
    "UploadReportTags",
    "UploadReportMaxTags",
    "StudyListColumns",
    "PatientMainTags",
    "StudyMainTags",
    "SeriesMainTags",
    "ModalitiesFilter",
    "WorklistsColumns",
    "NewWorklistDefaultTags",
    "AvailableLanguages",
    "DefaultLanguage",
    "TranslateDicomTags",
    "DateFormat",
    "PatientNameCapture",
    "PatientNameFormatting",
    "Modifications",
    "ShowSamePatientStudiesFilter",
    "DownloadStudyFileNameTemplate",
    "DownloadSeriesFileNameTemplate",
    "DownloadInstanceFileNameTemplate",
    "CustomButtons",
)

SECTIONS = {
    # --- Databases ---------------------------------------------------------------------------
    # https://orthanc.uclouvain.be/book/plugins/postgresql.html
    "PostgreSQL": Section(
        library=("OrthancPostgreSQLIndex", "OrthancPostgreSQLStorage"),
        package="orthanc-postgresql",
        keys={
            "EnableIndex": FLAG,
            "EnableStorage": FLAG,
            "ConnectionUri": CONNECTION_URI,  # makes the next six keys (up to EnableSsl) useless
            "Host": TEXT,
            "Port": between(1, 65534),  # 65535 is refused by the plugin
            "Database": TEXT,
            "Username": TEXT,
            "Password": TEXT,
            "EnableSsl": FLAG,
            "Lock": FLAG,
            "MaximumConnectionRetries": COUNT,
            "ConnectionRetryInterval": COUNT,
            "IndexConnectionsCount": Option(POSITIVE, since="4.0"),
            "TransactionMode": Option(words("ReadCommitted", "Serializable"), since="6.0"),
            "EnableVerboseLogs": Option(FLAG, since="6.0"),
            "HousekeepingInterval": Option(POSITIVE, since="7.0"),
            "AllowInconsistentChildCounts": Option(FLAG, since="7.2"),
            "UseDynamicConnectionPool": Option(FLAG, since="9.0"),
            "Schema": Option(TEXT, since="10.0"),
            "ApplicationName": Option(TEXT, since="10.0"),
        },
    ),
    # https://orthanc.uclouvain.be/book/plugins/mysql.html
    "MySQL": Section(
        library=("OrthancMySQLIndex", "OrthancMySQLStorage"),
        package="orthanc-mysql",
        keys={
            "EnableIndex": FLAG,
            "EnableStorage": FLAG,
            "Host": TEXT,
            "Port": between(0, 65534),  # 65535 is refused by the plugin
            "UnixSocket": TEXT,
            "Database": TEXT,
            "Username": TEXT,
            "Password": TEXT,
            "EnableSsl": FLAG,
            "SslVerifyServerCertificates": FLAG,
            "SslCACertificates": TEXT,
            "Lock": FLAG,
            "MaximumConnectionRetries": COUNT,
            "ConnectionRetryInterval": COUNT,
            "IndexConnectionsCount": Option(POSITIVE, since="4.0"),
        },
    ),
    # https://orthanc.uclouvain.be/book/plugins/odbc.html
    "Odbc": Section(
        library=("OrthancOdbcIndex", "OrthancOdbcStorage"),
        package="",
        keys={
            "EnableIndex": FLAG,
            "EnableStorage": FLAG,
            "IndexConnectionString": TEXT,
            "StorageConnectionString": TEXT,
            "IndexConnectionsCount": POSITIVE,
            "MaximumConnectionRetries": COUNT,  # read by the index plugin
            "MaxConnectionRetries": COUNT,  # read by the storage plugin
            "ConnectionRetryInterval": COUNT,
        },
    ),
    # https://github.com/Doc-Cirrus/orthanc-mongodb (contributed)
    "MongoDB": Section(
        library=("OrthancMongoDBIndex", "OrthancMongoDBStorage"),
        package="",
        keys={
            "EnableIndex": FLAG,
            "EnableStorage": FLAG,
            "ConnectionUri": TEXT,
            "ChunkSize": COUNT,
            "IndexConnectionsCount": COUNT,
            "MaxConnectionRetries": COUNT,
        },
    ),
    # --- Storage -----------------------------------------------------------------------------
    # https://orthanc.uclouvain.be/book/plugins/object-storage.html
    "AwsS3Storage": Section(
        library="OrthancAwsS3Storage",
        package="",
        keys=dict(
            OBJECT_STORAGE,
            **{
                "BucketName": TEXT,
                "Region": TEXT,
                "AccessKey": TEXT,
                "SecretKey": TEXT,
                "Endpoint": TEXT,
                "ConnectTimeout": COUNT,
                "ConnectionTimeout": COUNT,
                "RequestTimeout": COUNT,
                "MaxConnections": COUNT,
                "MaxRetries": COUNT,
                "VirtualAddressing": FLAG,
                "EnableAwsSdkLogs": FLAG,
                "UseTransferManager": FLAG,
                "TransferPoolSize": COUNT,
                "TransferBufferSize": COUNT,
                "StorageClass": words(
                    "STANDARD",
                    "REDUCED_REDUNDANCY",
                    "STANDARD_IA",
                    "ONEZONE_IA",
                    "INTELLIGENT_TIERING",
                    "GLACIER",
                    "DEEP_ARCHIVE",
                    "OUTPOSTS",
                    "GLACIER_IR",
                    "SNOW",
                ),
                "Tags": named(TEXT),
            },
        ),
    ),
    # https://orthanc.uclouvain.be/book/plugins/object-storage.html
    "AzureBlobStorage": Section(
        library="OrthancAzureBlobStorage",
        package="",
        keys=dict(
            OBJECT_STORAGE,
            **{
                "ConnectionString": TEXT,
                "ContainerName": TEXT,
                "CreateContainerIfNotExists": FLAG,
                "AccessTier": words("Hot", "Cool", "Cold", "Archive", "Premium"),
            },
        ),
    ),
    # The Azure plugin before version 1.0 (no longer read by the newest versions)
    # https://orthanc.uclouvain.be/book/plugins/object-storage.html
    "BlobStorage": Section(
        library=("OrthancBlobStorage", "OrthancAzureBlobStorage"),
        package="",
        keys={
            "AccountName": TEXT,
            "AccountKey": TEXT,
            "ContainerName": TEXT,
            "CreateContainerIfNotExists": FLAG,
        },
    ),
    # https://orthanc.uclouvain.be/book/plugins/object-storage.html
    "GoogleCloudStorage": Section(
        library="OrthancGoogleCloudStorage",
        package="",
        keys=dict(
            OBJECT_STORAGE,
            **{
                "ServiceAccountFile": TEXT,
                "BucketName": TEXT,
            },
        ),
    ),
    # https://github.com/radpointhq/orthanc-s3-storage (contributed)
    "S3": Section(
        library="OrthancS3StoragePlugin",
        package="",
        keys={
            "aws_access_key_id": TEXT,
            "aws_secret_access_key": TEXT,
            "aws_region": TEXT,
            "s3_bucket": TEXT,
            "s3_endpoint": TEXT,
            "implementation": TEXT,
        },
    ),
    # https://orthanc.uclouvain.be/book/plugins/advanced-storage.html
    "AdvancedStorage": Section(
        library="AdvancedStorage",
        package="",
        keys={
            "Enable": FLAG,
            "NamingScheme": TEXT,
            "MaxPathLength": INTEGER,
            "OtherAttachmentsPrefix": TEXT,
            "MultipleStorages": {
                "Storages": named(TEXT),
                "CurrentWriteStorage": TEXT,
            },
            "Indexer": {
                "Enable": FLAG,
                "Folders": SOME_TEXTS,
                "Interval": COUNT,
                "ThrottleDelayMs": COUNT,
                "ParsedExtensions": SOME_TEXTS,  # not together with SkippedExtensions
                "SkippedExtensions": SOME_TEXTS,
                "TakeOwnership": FLAG,
                "EnableVerboseLogs": FLAG,
            },
            "DelayedDeletion": {
                "Enable": FLAG,
                "ThrottleDelayMs": COUNT,
                "MaxDeletionTime": COUNT,
            },
        },
    ),
    # https://orthanc.uclouvain.be/book/plugins/delayed-deletion-plugin.html
    "DelayedDeletion": Section(
        library="DelayedDeletion",
        package="orthanc",
        keys=Option(
            {
                "Enable": FLAG,  # true by default as soon as the section exists
                "ThrottleDelayMs": COUNT,
                "Path": TEXT,
            },
            since="1.11.1",
        ),
    ),
    # https://orthanc.uclouvain.be/book/plugins/indexer.html
    "Indexer": Section(
        library="OrthancIndexer",
        package="orthanc-indexer",
        keys={
            "Enable": FLAG,
            "Folders": SOME_TEXTS,
            "Interval": COUNT,
            "Database": TEXT,
        },
    ),
    # https://orthanc.uclouvain.be/book/plugins/housekeeper.html
    "Housekeeper": Section(
        library="Housekeeper",
        package="orthanc",
        keys=Option(
            {
                "Enable": FLAG,
                "GlobalPropertyId": between(1024, 2147483647),  # a smaller one aborts Orthanc
                "Force": FLAG,
                "ForceReconstructFiles": Option(FLAG, since="1.12.9"),
                "ThrottleDelay": COUNT,
                "Schedule": {
                    "Monday": TEXTS,
                    "Tuesday": TEXTS,
                    "Wednesday": TEXTS,
                    "Thursday": TEXTS,
                    "Friday": TEXTS,
                    "Saturday": TEXTS,
                    "Sunday": TEXTS,
                },
                "Triggers": {
                    "StorageCompressionChange": FLAG,
                    "MainDicomTagsChange": FLAG,
                    "UnnecessaryDicomAsJsonFiles": FLAG,
                    "IngestTranscodingChange": FLAG,
                    "DicomWebCacheChange": Option(FLAG, since="1.12.2"),
                },
                "LimitMainDicomTagsReconstructLevel": Option(
                    words("Patient", "Study", "Series", "Instance", "All"), since="1.12.4"
                ),
            },
            since="1.11.0",
        ),
    ),
    # --- DICOM and web services --------------------------------------------------------------
    # https://orthanc.uclouvain.be/book/plugins/dicomweb.html
    "DicomWeb": Section(
        library="OrthancDicomWeb",
        package="orthanc-dicomweb",
        keys={
            "Enable": FLAG,
            "Root": TEXT,
            "PublicRoot": Option(TEXT, since="1.8"),
            "EnableWado": FLAG,
            "WadoRoot": TEXT,
            "Host": TEXT,
            "Ssl": FLAG,
            "Servers": named(DICOMWEB_SERVER),
            "ServersInDatabase": FLAG,
            "QidoCaseSensitive": FLAG,
            # Still in the Book, but of a client that is gone (S).
            "StowMaxInstances": Option(COUNT, until="0.6"),
            "StowMaxSize": Option(COUNT, until="0.6"),
            "StudiesMetadata": METADATA_MODE,
            "SeriesMetadata": METADATA_MODE,
            "StudiesMetadataExtrapolatedTags": TEXTS,
            "SeriesMetadataExtrapolatedTags": TEXTS,
            "EnableMetadataCache": Option(FLAG, since="1.15"),
            "EnablePerformanceLogs": Option(FLAG, since="1.21"),
            "MetadataWorkerThreadsCount": Option(COUNT, since="1.14"),
            "WadoRsLoaderThreadsCount": Option(COUNT, since="1.21"),
            "OtherBinaryMode": Option(
                words("BulkDataURI", "InlineBinary", "ArrayOfValues"), since="1.24"
            ),
        },
    ),
    # https://orthanc.uclouvain.be/book/plugins/google-cloud-platform.html
    "GoogleCloudPlatform": Section(
        library="OrthancGoogleCloudPlatform",
        package="",
        keys={
            "Accounts": named(
                {
                    "Project": TEXT,
                    "Location": TEXT,
                    "Dataset": TEXT,
                    "DicomStore": TEXT,
                    "ServiceAccountFile": TEXT,
                    "AuthorizedUserFile": TEXT,
                    "AuthorizedUserClientId": TEXT,
                    "AuthorizedUserClientSecret": TEXT,
                    "AuthorizedUserRefreshToken": TEXT,
                }
            ),
            "BaseUrl": TEXT,
            "Timeout": COUNT,
            "RefreshInterval": COUNT,
            "RefreshInternal": COUNT,  # misspelling of the first version
        },
    ),
    # Two plugins share this section: the sample that comes with Orthanc, and its successor.
    # https://orthanc.uclouvain.be/book/plugins/worklists-plugin.html
    # https://orthanc.uclouvain.be/book/plugins/worklists-plugin-new.html
    "Worklists": Section(
        library=("ModalityWorklists", "OrthancWorklists"),
        package="orthanc",
        keys={
            "Enable": FLAG,
            "Database": TEXT,
            "FilterIssuerAet": FLAG,
            "LimitAnswers": COUNT,
            "Directory": Option(TEXT, library="OrthancWorklists"),
            # not together with a folder
            "SaveInOrthancDatabase": Option(FLAG, library="OrthancWorklists"),
            "DeleteWorklistsOnStableStudy": Option(FLAG, library="OrthancWorklists"),
            # only with SaveInOrthancDatabase
            "DeleteWorklistsDelay": Option(COUNT, library="OrthancWorklists"),
            "HousekeepingInterval": Option(COUNT, library="OrthancWorklists"),
            "SetStudyInstanceUidIfMissing": Option(FLAG, library="OrthancWorklists"),
            "LogMatchedWorklistIds": Option(FLAG, since="0.9.3", library="OrthancWorklists"),
        },
    ),
    # https://orthanc.uclouvain.be/book/plugins/multitenant-dicom.html
    "MultitenantDicom": Section(
        library="MultitenantDicom",
        package="orthanc",
        keys=Option(
            {
                "Servers": listed(
                    {
                        "AET": TEXT,
                        "Port": PORT,
                        "Labels": TEXTS,  # AET, Port and Labels are mandatory
                        "LabelsConstraint": words("All", "Any", "None"),
                        "LabelsStoreLevels": listed(LEVEL),
                    }
                ),
            },
            since="1.12.0",
        ),
    ),
    # https://orthanc.uclouvain.be/book/plugins/transfers.html
    "Transfers": Section(
        library="OrthancTransfers",
        package="",
        keys={
            "Threads": POSITIVE,
            "BucketSize": POSITIVE,
            "CacheSize": COUNT,
            "MaxPushTransactions": POSITIVE,
            "MaxHttpRetries": COUNT,
            "PeerConnectivityTimeout": COUNT,
            "PeerCommitTimeout": COUNT,
            "CommitThreadsCount": POSITIVE,
        },
    ),
    # https://orthanc.uclouvain.be/book/plugins/tcia.html
    "Tcia": Section(
        library="OrthancTcia",
        package="orthanc-tcia",
        keys={
            "Enable": FLAG,
            "BaseUrl": Option(TEXT, since="1.3"),
        },
    ),
    # https://orthanc.uclouvain.be/book/plugins/serve-folders.html
    # Long form (as soon as "Folders" is a mapping) or short form (URI: folder).  In the short
    # form every value must be a string, the long form ignores all other keys.  An error (also a
    # folder that does not exist) is only a line in the log: Orthanc starts, but without folders.
    "ServeFolders": Section(
        library="ServeFolders",
        package="orthanc",
        keys=either(
            {
                "Folders": named(TEXT),
                "AllowCache": FLAG,
                "GenerateETag": FLAG,
                "Extensions": named(TEXT),
            },
            named(TEXT),
        ),
    ),
    # --- Users -------------------------------------------------------------------------------
    # https://orthanc.uclouvain.be/book/plugins/authorization.html
    "Authorization": Section(
        library="OrthancAuthorization",
        package="orthanc-authorization",
        keys={
            "WebServiceRootUrl": TEXT,
            "WebServiceTokenDecoderUrl": TEXT,
            "WebServiceTokenValidationUrl": TEXT,
            "WebServiceTokenCreationBaseUrl": TEXT,
            "WebServiceUserProfileUrl": TEXT,
            "WebServiceSettingsRolesUrl": TEXT,
            "WebService": TEXT,
            "WebServiceIdentifier": TEXT,
            "WebServiceUsername": TEXT,
            "WebServicePassword": TEXT,
            "EnableAuditLogs": Option(FLAG, since="0.10.0"),
            "TokenHttpHeaders": SOME_TEXTS,
            "TokenGetArguments": SOME_TEXTS,
            "UncheckedResources": TEXTS,
            "UncheckedFolders": TEXTS,
            "UncheckedLevels": listed(ACCESS_LEVEL),  # not together with CheckedLevel
            "CheckedLevel": ACCESS_LEVEL,
            "StandardConfigurations": listed(
                Words(
                    {
                        "osimis-web-viewer": "",
                        "stone-webviewer": "",
                        "orthanc-explorer-2": "",
                        "ohif": "0.5.3",
                        "volview": "0.8.2",
                        "stl": "0.10.2",
                    }
                )
            ),
            # [method, pattern, permissions] and perhaps a remark
            "Permissions": listed(TEXTS),
            "ExtraPermissions": Option(listed(TEXTS), since="0.10.0"),
        },
    ),
    # https://orthanc.uclouvain.be/book/plugins/education.html
    "Education": Section(
        library="OrthancEducation",
        package="",
        keys={
            "Enabled": FLAG,
            "PublicRoots": TEXTS,
            "ListProjectsAsLearner": FLAG,
            "WholeSlideImagingDicomizer": TEXT,
            "OpenSlideLibrary": TEXT,
            "AuthenticationHttpHeader": TEXT,
            "MaxLoginAge": POSITIVE,
            "SecureCookies": FLAG,
            "Administrators": EDUCATION_USERS,
            "StandardUsers": EDUCATION_USERS,
            "LTI": {
                "Enabled": FLAG,
                "OrthancUrl": TEXT,
                "PlatformUrl": TEXT,
                "PlatformKeysUrl": TEXT,
                "PlatformRedirectionUrl": TEXT,
            },
        },
    ),
    # https://orthanc.uclouvain.be/book/plugins/orthanc-explorer-2.html
    "OrthancExplorer2": Section(
        library="OrthancExplorer2",
        package="",
        keys={
            "Enable": FLAG,
            "Root": TEXT,
            "IsDefaultOrthancUI": FLAG,
            "ReplaceDefaultExplorer": FLAG,
            "Theme": words("light", "dark"),
            "CustomCssPath": TEXT,
            "CustomCssVariablesPath": TEXT,
            "CustomLogoUrl": TEXT,
            "CustomLogoPath": TEXT,
            "CustomFavIconPath": TEXT,
            "CustomTitle": TEXT,
            # These go to the browser as they are (S).
            "UiOptions": Open(EXPLORER_UI),
            "Keycloak": Open(
                (
                    "Enable",
                    "Url",
                    "Realm",
                    "ClientId",
                    "CheckLoginIframe",
                )
            ),
            "Tokens": Open(
                (
                    "InstantLinksValidity",
                    "ShareType",
                    "RequiredForLinks",
                    "LandingOptions",
                )
            ),
            "Shares": ANY,  # version 0.x
            "PublicRoot": ANY,  # version 0.x
            "OrthancApiPublicRoot": ANY,  # version 0.x
            "AdvancedOptions": Open(
                (
                    "DownloadInstantLinksUseRestApiWithAuthHeaders",
                    "InstantLinksReuseTokenFromUri",
                    "AdaptUiOnReadOnlySystems",
                )
            ),
            "Inbox": Open(
                (
                    "Enable",
                    "EnableAnonymousAccess",
                    "Title",
                    "IntroTextHtml",
                    "SuccessTextHtml",
                    "FailureTextHtml",
                    "CommitUrl",
                    "FormValidationUrl",
                    "ProcessingMonitoringUrl",
                    "FormFields",
                )
            ),
            "Emails": {
                "Server": WEB_SERVICE,
            },
        },
    ),
    # --- Viewers -----------------------------------------------------------------------------
    # https://orthanc.uclouvain.be/book/plugins/webviewer.html
    # https://orthanc.uclouvain.be/book/plugins/osimis-webviewer.html (the same section name)
    "WebViewer": Section(
        library=("OrthancWebViewer", "OsimisWebViewer"),
        package="orthanc-webviewer",
        keys={
            "CachePath": Option(TEXT, library="OrthancWebViewer"),
            "Cache": Option(TEXT, library="OrthancWebViewer"),  # still read in place of CachePath
            "CacheSize": Option(POSITIVE, library="OrthancWebViewer"),
            "Threads": Option(POSITIVE, library="OrthancWebViewer"),
            "EnableGdcm": Option(FLAG, until="2.5", library="OrthancWebViewer"),
            **{
                name: Option(kind, library="OsimisWebViewer")
                for name, kind in OSIMIS_WEB_VIEWER.items()
            },
        },
    ),
    # https://orthanc.uclouvain.be/book/plugins/stone-webviewer.html
    # The whole section goes to the browser as it is (S).
    "StoneWebViewer": Section(
        library="StoneWebViewer",
        package="",
        keys=Open(
            (
                "DateFormat",
                "TimeFormat",
                "WindowingPresets",
                "CombinedToolEnabled",
                "CombinedToolBehaviour",
                "PrintEnabled",
                "DownloadAsJpegEnabled",
                "DownloadStudyEnabled",
                "DownloadDicomDir",
                "ExpectedMessageOrigin",
                "DicomWebRoot",
                "DicomWebHttpHeaders",
                "DicomCacheSize",
                "OrthancApiRoot",
                "InstitutionLogo",
                "SkipSeriesFromModalities",
                "ShowInfoPanelAtStartup",
                "ShowUserPreferencesButton",
                "ShowNotForDiagnosticUsageDisclaimer",
                "AnnotationsColor",
                "HighlightedAnnotationsColor",
                "ScreenshotTemplate",
            )
        ),
    ),
    # https://orthanc.uclouvain.be/book/plugins/ohif.html
    "OHIF": Section(
        library="OrthancOHIF",
        package="orthanc-ohif",
        keys={
            "DataSource": words("dicom-web", "dicom-json"),
            "RouterBasename": TEXT,
            "UserConfiguration": TEXT,
            "Preload": FLAG,
        },
    ),
    # https://orthanc.uclouvain.be/book/plugins/wsi.html
    "WholeSlideImaging": Section(
        library="OrthancWSI",
        package="orthanc-wsi",
        keys=Option(
            {
                "EnableIIIF": FLAG,
                "OrthancPublicURL": TEXT,
                "ServeMirador": FLAG,
                "ServeOpenSeadragon": FLAG,
                "ForcePowersOfTwoScaleFactors": FLAG,
                "EnableAnnotations": Option(FLAG, since="4.0"),
                "EnableAnnotationsSharing": Option(FLAG, since="4.0"),
                "EnableLearnerToLearnerSharing": Option(FLAG, since="4.0"),
                "Instructors": Option(TEXTS, since="4.0"),
                "AuthenticationSource": Option(
                    words("None", "RegisteredUsers", "HttpHeader", "Plugin"), since="4.0"
                ),
                "AuthenticationHttpHeader": Option(TEXT, since="4.0"),
            },
            since="2.0",
        ),
    ),
    # https://orthanc.uclouvain.be/book/plugins/stl.html
    "STL": Section(
        library="OrthancSTL",
        package="orthanc-stl",
        keys={
            "EnableNIfTI": FLAG,
            "EnableNexus": Option(FLAG, since="1.1"),
            "3DHOP": Option({"CanvasStyle": TEXT}, since="1.3"),
        },
    ),
    # --- Images ------------------------------------------------------------------------------
    # https://orthanc.uclouvain.be/book/plugins/gdcm.html
    "Gdcm": Section(
        library="OrthancGdcm",
        package="orthanc-gdcm",
        keys={
            "Enable": FLAG,
            "Throttling": POSITIVE,
            "RestrictTransferSyntaxes": TEXTS,
        },
    ),
    # https://orthanc.uclouvain.be/book/plugins/pixels-masker.html
    # The section is in the Book, but version 1.0 does not read it
    "PixelsMasker": Section(
        library="OrthancPixelsMasker",
        package="",
        keys={
            "Enable": FLAG,
        },
    ),
    # --- Languages ---------------------------------------------------------------------------
    # https://orthanc.uclouvain.be/book/plugins/python.html
    # PythonScript and PythonVerbose, outside of a section, are in PLUGIN_OPTIONS
    "Python": Section(
        library="OrthancPython",
        package="orthanc-python",
        keys=Option(
            {
                "Path": TEXT,
                "Verbose": FLAG,
                "AllowThreads": Option(FLAG, since="4.3"),
                "DisplayMemoryUsage": FLAG,
            },
            since="4.1",
        ),
    ),
    # https://orthanc.uclouvain.be/book/plugins/java.html
    "Java": Section(
        library="OrthancJava",
        package="",
        keys={
            "Enabled": FLAG,
            "Classpath": TEXT,
            "InitializationClass": TEXT,
        },
    ),
}

# The package of the server, and of the plugins that come with it.
SERVER = "orthanc"
# Packages of plugins that an OS family does not have: searched in Debian 12, 13 and unstable, and
# in openSUSE:Factory.
NOT_PACKAGED = {
    "Debian": frozenset(
        f"orthanc-{name}" for name in ("authorization", "indexer", "ohif", "stl", "tcia")
    )
}
# Above all versions
NEWEST = "9999"
# The version in the name of a plugin's file, as Debian and openSUSE give it.
RELEASE_IN_NAME = re.compile(r"\.so\.(\d+(?:\.\d+)*)$")

# Options outside of a section that only a plugin reads
PLUGIN_OPTIONS = {
    # https://orthanc.uclouvain.be/book/plugins/python.html
    "PythonScript": PluginOption(library="OrthancPython", package="orthanc-python", kind=TEXT),
    "PythonVerbose": PluginOption(library="OrthancPython", package="orthanc-python", kind=FLAG),
    # Old versions of the plugins of Orthanc itself; the mere presence of the first one counts
    "ServeFoldersNoCache": PluginOption(library="ServeFolders", package="orthanc", kind=ANY),
    "WorklistsFolder": PluginOption(library="ModalityWorklists", package="orthanc", kind=TEXT),
}

# The keys of sections that switch their plugin off.
SWITCHES = ("Enable", "Enabled", "EnableIndex", "EnableStorage")

# What a trial start on a scratch folder must change, so that it can neither touch real data nor
# reach a remote service.  None: take the section (or option) out; mapping: replace these keys.
UNTOUCHABLE = {
    # The trial would work on the real index, would take or break its lock, would upgrade its
    # schema, and it would wait for minutes when the server is down.  SQLite takes over.
    "PostgreSQL": {"EnableIndex": False, "EnableStorage": False},
    "MySQL": {"EnableIndex": False, "EnableStorage": False},
    "Odbc": {"EnableIndex": False, "EnableStorage": False},
    "MongoDB": {"EnableIndex": False, "EnableStorage": False},
    # Object storages have no switch: the presence of the section connects to the real bucket
    # (Azure even creates the container), and some versions stop when it is out of reach.
    "AwsS3Storage": None,
    "AzureBlobStorage": None,
    "BlobStorage": None,
    "GoogleCloudStorage": None,
    "S3": None,
    # Would write into the real "MultipleStorages", index real folders, and with "TakeOwnership"
    # delete real files together with the instances of the trial.
    "AdvancedStorage": {"Enable": False},
    # Would index real folders, and "Database" is a real file outside of the scratch folder.
    "Indexer": {"Enable": False},
    # Enabled by default; "Path" is the real queue of files to delete: the trial would work it off
    # in the scratch folder, and the real files would be orphans for ever.
    "DelayedDeletion": None,
    # Nothing to keep in an empty index, only load.
    "Housekeeper": {"Enable": False},
    # A study that becomes stable must not delete a real worklist file.
    "Worklists": {"DeleteWorklistsOnStableStudy": False},
    # "CachePath" is the real cache: another index (or version) empties it.  Without the section
    # the cache is below "StorageDirectory", which is in the scratch folder.
    "WebViewer": None,
    # Asks Google for tokens as soon as Orthanc has started.
    "GoogleCloudPlatform": None,
    # Asks the real authorization service about each request, also about those of the trial.
    "Authorization": None,
    # Takes over the authentication, and its reading of the platform keys is a remote request.
    "Education": {"Enabled": False},
}


# Below these options every value counts as secret: they hold passwords at free places.
SECRET_OPTIONS = frozenset({"RegisteredUsers", "OrthancPeers", "DicomWeb:Servers"})
SECRET_KEYS = re.compile(
    r"password|secret|token|credential|privatekey|accesskey|accountkey|apikey|masterkey"
    r"|connectionstring|connectionuri|authorization|headers|:pin$",
    re.IGNORECASE,
)
SECRET_VALUES = re.compile(r"(?:://|^)\S*:\S*@|PRIVATE KEY")
HIDDEN = "(hidden)"


def redact(name: str, value):
    """
    Return the value as it may be shown: every part that may be secret is hidden.

    name
        The name of the option; names below an option are joined by colons.

    value
        Its value.

    CLI Example:

    .. code-block:: bash

        salt '*' orthanc_options.redact PostgreSQL '{"Host": "db", "Password": "secret"}'
    """
    if isinstance(value, dict):
        return {key: redact(f"{name}:{key}", item) for key, item in value.items()}
    if any(name == option or name.startswith(f"{option}:") for option in SECRET_OPTIONS):
        return HIDDEN
    if SECRET_KEYS.search(name) or _is_of_nobody(name):
        return HIDDEN
    if isinstance(value, (list, tuple)):
        return [redact(name, item) for item in value]
    if isinstance(value, str) and SECRET_VALUES.search(value):
        return HIDDEN
    return value


def _is_of_nobody(name: str) -> bool:
    """Return whether a key stands in a section that nobody knows, or is unknown in its section."""
    section, *below = name.split(":")
    if not below or section in OPTIONS or section in PLUGIN_OPTIONS:
        return False
    keys = SECTIONS[section].keys if section in SECTIONS else {}
    return isinstance(keys, dict) and below[0] not in keys


def adapt(options: dict, version: str | None = None) -> dict:
    """
    Return the options in the form that this version of Orthanc takes.

    options
        A mapping from option name to value.

    version
        The version of Orthanc; None leaves everything as it is.

    CLI Example:

    .. code-block:: bash

        salt '*' orthanc_options.adapt '{"OverwriteInstances": false}' 1.13.0
    """
    adapted = dict(options)
    for option, (since, forms) in NEW_FORMS.items():
        value = options.get(option)
        for old, new in forms:
            if version and is_before(version, since) and value == new:
                adapted[option] = old
            elif version and not is_before(version, since) and _is(options, option, old):
                adapted[option] = new
    for option, (since, until, old) in OLD_NAMES.items():
        value, other = options.get(option), options.get(old)
        its_own = version and not is_before(version, since) and not is_before(until, version)
        if its_own and isinstance(value, list) and isinstance(other, (list, type(None))):
            adapted[old] = [*(other or ()), *value]
            del adapted[option]
    bound = options.get("HttpBindAddresses") == LOOPBACK
    if bound and options.get("RemoteAccessAllowed") is False and is_before(version, "1.12.10"):
        # There is no such option yet, and what comes from elsewhere is refused all the same.
        del adapted["HttpBindAddresses"]
    return adapted


def check(options, version=None, sample=None, plugins=None, packages=(), allowed=()):
    """
    Return all that is wrong with options, as a list of pairs: the path of the value, as a list
    of names, and one sentence that says what is wrong and what would be right, without a secret.

    options
        A mapping from option name to value.

    version
        The version of Orthanc that has to take them; None for the newest.

    sample
        A mapping from the names of the options in this Orthanc's own sample to their values
        (None where the sample only mentions the option). They are known, whatever the tables say.

    plugins
        The names of the files of all plugins that are loaded, as the links to them end; a version
        behind ``.so`` is believed. And the whole paths of others that are there. None leaves open
        whether a plugin is there.

    packages
        The names of packages that will be there: their plugins count as well.

    allowed
        The names of options of plugins for which somebody vouches; see ``doubts``.

    CLI Example:

    .. code-block:: bash

        salt '*' orthanc_options.check '{"HttpPrt": 8042}' 1.12.7
    """
    host = Host(version, sample or {}, plugins, packages)
    problems = []
    for option, value in options.items():
        path, before = [str(option)], len(problems)
        if option not in allowed or option in OPTIONS:
            problems += _unlike_tables(option, value, host)
        if len(problems) == before:
            problems += _not_json(value, path)
        problems += _substitutions(value, path)
    problems += _old_names(options, version)
    wrong = {path[0] for path, _ in problems}
    conflicts = __salt__["orthanc_conflicts.problems"](options, version)
    problems += [conflict for conflict in conflicts if conflict[0][0] not in wrong]
    port, dicom = options.get("HttpPort", 8042), options.get("DicomPort", 4242)
    if options.get("DicomServerEnabled", True) and _whole(port) and port == dicom and _whole(dicom):
        problems.append((["DicomPort"], f"must not be {dicom}, which is the port for HTTP"))
    return problems


def doubts(options, version=None, sample=None, plugins=None, packages=(), allowed=()):
    """
    Return what ``check`` would say of the options of plugins for which somebody vouches, in the
    same form: the tables may be older than the plugin, but they may also be right.

    options, version, sample, plugins, packages, allowed
        See ``check``. Of what the tables do not know at all nothing is said.

    CLI Example:

    .. code-block:: bash

        salt '*' orthanc_options.doubts '{"Gdcm": {"Speed": 2}}' allowed='[Gdcm]'
    """
    host = Host(version, sample or {}, plugins, packages)
    return [
        (path, f"{sentence} (not refused, because orthanc:plugin_sections names {option})")
        for option in options
        if option in allowed and (option in SECTIONS or option in PLUGIN_OPTIONS)
        for path, sentence in _unlike_tables(option, options[option], host)
    ]


def advice(options):
    """
    Return which options the security page of the Orthanc Book advises against, as a list of
    pairs: the path of the value, and a sentence.

    options
        A mapping from option name to value.

    https://orthanc.uclouvain.be/book/faq/security.html

    CLI Example:

    .. code-block:: bash

        salt '*' orthanc_options.advice '{"ExecuteLuaEnabled": true}'
    """
    return [
        ([option], f"{str(value).lower()} is advised against by the Orthanc Book: {reason}")
        for option, (unsafe, reason) in ADVISED_AGAINST.items()
        for value in [options.get(option)]
        if _is(options, option, unsafe)
    ] + [
        ([option], reason)
        for (option, value), others, reason in ADVISED_AGAINST_TOGETHER
        if _is(options, option, value)
        and all(_is({**TOGETHER_DEFAULTS, **options}, *pair) for pair in others.items())
    ]


def libraries(options):
    """
    Return which plugins options ask for, as pieces of the names of their files.

    options
        A mapping from option name to value.

    CLI Example:

    .. code-block:: bash

        salt '*' orthanc_options.libraries '{"Worklists": {"Enable": true}}'
    """
    found = []
    for option, value in options.items():
        plugin = SECTIONS.get(option) or PLUGIN_OPTIONS.get(option)
        switches = (
            [value[key] for key in SWITCHES if key in value] if isinstance(value, dict) else []
        )
        if plugin and (not switches or any(switches)):
            found += _pieces(plugin)
    return found


def untouchable():
    """
    Return what a trial start must not touch: a mapping from section to None, if it must go as a
    whole, or to the keys and values that make it harmless.

    CLI Example:

    .. code-block:: bash

        salt '*' orthanc_options.untouchable
    """
    return UNTOUCHABLE


def installed(command):
    """
    Return what the Orthanc of this host says of itself: its ``version`` (None where that is no
    release) and the ``sample`` of its options; nothing where it is not installed.

    command
        The path of the program.

    CLI Example:

    .. code-block:: bash

        salt '*' orthanc_options.installed /usr/sbin/Orthanc
    """
    if not os.access(command, os.X_OK):
        return {}
    key = f"orthanc_options.{command}.{os.stat(command).st_mtime_ns}"
    if key not in __context__:
        found = re.match(r"\S*orthanc (\d+(?:\.\d+)+)", _ask(command, "--version"), re.I)
        version = found and found.group(1)
        texts = [_ask(command, "--config=-")]
        # An older one does not know this argument, ignores it and starts to serve.
        if version and not is_before(version, "1.13.0"):
            texts.append(_ask(command, "--advanced-config=-"))
        sample = {}
        for text in texts:
            # Options that are commented out stand below the outermost brace.
            sample.update(dict.fromkeys(re.findall(r'(?m)^  //\s*"(\w+)"\s*:', text)))
            try:
                sample.update(__salt__["orthanc_json.parse"](text))
            except ValueError as err:
                log.warning("the sample configuration of %s cannot be read: %s", command, err)
        __context__[key] = {"version": version, "sample": sample}
    return __context__[key]


def _ask(command: str, argument: str) -> str:
    return __salt__["cmd.run_stdout"](
        [command, argument], python_shell=False, output_loglevel="quiet", timeout=20
    )


def is_before(version: str | None, other: str) -> bool:
    """
    Return whether a version is older than another one; None is the newest.

    version, other
        Numbers with points between them.

    CLI Example:

    .. code-block:: bash

        salt '*' orthanc_options.is_before 1.12.7 1.13.0
    """
    return version is not None and _numbers(version) < _numbers(other)


def _is(options: dict, option: str, value) -> bool:
    """Return whether an option has a value, or one of a Kind."""
    given = options.get(option)
    if isinstance(value, Kind):
        return value.test(given)
    return given == value and type(given) is type(value)


def _numbers(version: str) -> tuple:
    return tuple(int(number) for number in re.findall(r"\d+", version))


def _unlike_tables(option, value, host: Host) -> list:
    """Return what is wrong with an option by the tables, in the form of ``check``."""
    path, sample = [str(option)], host.sample
    orthanc = Release("Orthanc", host.version or NEWEST)
    if option in OPTIONS:
        kind = OPTIONS[option]
        if option in sample and isinstance(kind, Option):
            kind = kind.kind
        return _mistakes(value, kind, path, orthanc)
    if option in SECTIONS or option in PLUGIN_OPTIONS:
        plugin = SECTIONS.get(option) or PLUGIN_OPTIONS[option]
        found = _mistakes(value, plugin[-1], path, _release(plugin, host))
        missing = path not in [where for where, _ in found] and not _idle(value)
        return found + (_missing_plugin(plugin, host, path) if missing else [])
    if option in sample:
        return _mistakes(value, _kind_of(sample[option]), path, orthanc)
    known = {**sample, **OPTIONS, **SECTIONS, **PLUGIN_OPTIONS}
    sentence = f"unknown option, {_meant(path, known)}"
    if isinstance(value, dict) and not __salt__["orthanc_names.instead"](path):
        sentence += "; if a plugin that the formula does not know reads it, name it in"
        sentence += " orthanc:plugin_sections"
    return [(path, sentence)]


def _pieces(plugin) -> tuple:
    return plugin.library if isinstance(plugin.library, tuple) else (plugin.library,)


def _release(plugin, host: Host) -> Release:
    """Return of which release of a plugin its options have to be known."""
    found = {
        piece: RELEASE_IN_NAME.search(file)
        for piece in _pieces(plugin)
        for file in host.plugins or ()
        if not file.startswith("/") and piece.lower() in file.lower()
    }
    libraries = {piece: number and number.group(1) for piece, number in found.items()}
    if plugin.package == SERVER:
        return Release("Orthanc", host.version or NEWEST, libraries)
    versions = [number for number in libraries.values() if number]
    name = plugin.package or _pieces(plugin)[0]
    return Release(name, min(versions, key=_numbers) if versions else None, libraries)


def _old_names(options: dict, version: str | None) -> list:
    """Return the options that this version of Orthanc reads by another name only."""
    return [
        ([option], f"Orthanc {version} reads it by the name {old} only; write that")
        for option, (since, until, old) in OLD_NAMES.items()
        if option in options and version and not is_before(version, since)
        if not is_before(until, version)
    ]


def _mistakes(value, kind, path: list, release: Release) -> list:
    """Return a pair of path and sentence for each place where the value is not of its kind."""
    return MISTAKES[type(kind)](value, kind, path, release)


def _not_of(value, kind, path: list) -> list:
    wanted = _wanted(kind)
    # What stands in the place of a whole section may be anything, a secret too.
    shown = _kind_name(value) if "a mapping" in wanted else _shown(value, path)
    return [(path, f"must be {wanted}, but is {shown}")]


def _of_kind(value, kind: Kind, path: list, release: Release) -> list:
    return [] if kind.test(value) else _not_of(value, kind, path)


def _of_option(value, kind: Option, path: list, release: Release) -> list:
    name, version, here = release.name, release.version, release.libraries
    if kind.library:
        name, version = kind.library, here.get(kind.library)
        if here and kind.library not in here:
            return [
                (path, f"only {name} reads it, this host has {' and '.join(here)}; take it out")
            ]
    if kind.since and is_before(version, kind.since):
        return [(path, f"needs {name} {kind.since}, this host has {version}; take it out")]
    if kind.until and version and is_before(kind.until, version):
        return [(path, f"is ignored by {name} after {kind.until}; take it out")]
    return _mistakes(value, kind.kind, path, release)


def _of_changed(value, kind: Changed, path: list, release: Release) -> list:
    form = kind.old if is_before(release.version, kind.since) else kind.new
    return _mistakes(value, form, path, release)


def _of_words(value, kind: Words, path: list, release: Release) -> list:
    since = kind.since.get(value) if isinstance(value, str) else None
    if since is None:
        return _not_of(value, kind, path)
    if is_before(release.version, since):
        return [(path, f'"{value}" needs {release.name} {since}, this host has {release.version}')]
    return []


def _of_open(value, kind: Open, path: list, release: Release) -> list:
    return [] if isinstance(value, dict) else _not_of(value, kind, path)


def _of_either(value, kind: Either, path: list, release: Release) -> list:
    found = [_mistakes(value, one, path, release) for one in kind.kinds]
    if not all(found):
        return []
    # Where it looks like one of them, that one was meant.
    alike = [m for m, one in zip(found, kind.kinds) if m != _not_of(value, one, path)]
    return (
        min(alike, key=lambda m: (len(m), -len(m[0][0]))) if alike else _not_of(value, kind, path)
    )


def _of_listed(value, kind: Listed, path: list, release: Release) -> list:
    if not isinstance(value, (list, tuple)):
        return _not_of(value, kind, path)
    return [
        mistake
        for number, item in enumerate(value)
        for mistake in _mistakes(item, kind.kind, [*path, str(number)], release)
    ]


def _of_row(value, kind: Row, path: list, release: Release) -> list:
    if not isinstance(value, (list, tuple)):
        return _not_of(value, kind, path)
    if len(value) not in kind.lengths:
        right = " or ".join(str(length) for length in kind.lengths)
        return [(path, f"must be {_wanted(kind)}, {right} items, but has {len(value)}")]
    return [
        mistake
        for number, item in enumerate(value)
        for mistake in _mistakes(item, kind.kinds[number], [*path, str(number)], release)
    ]


def _of_named(value, kind: Named, path: list, release: Release) -> list:
    if not isinstance(value, dict):
        return _not_of(value, kind, path)
    below: list = []
    for key, item in value.items():
        if kind.names.test(key):
            below += _mistakes(item, kind.kind, [*path, key], release)
        else:
            quotes = "" if isinstance(key, str) else " (in quotes)"
            below.append(([*path, str(key)], f"the name must be {kind.names.wanted}{quotes}"))
    return below


def _of_required(value, kind: Required, path: list, release: Release) -> list:
    if not isinstance(value, dict):
        return _not_of(value, kind, path)
    missing = [([*path, keys[0]], "missing") for keys in kind.keys if not set(keys) & set(value)]
    return _mistakes(value, kind.kind, path, release) + missing


def _of_mapping(value, kind: dict, path: list, release: Release) -> list:
    if not isinstance(value, dict):
        return _not_of(value, kind, path)
    below: list = []
    for key, item in value.items():
        if key in kind:
            below += _mistakes(item, kind[key], [*path, key], release)
        else:
            below.append(([*path, str(key)], f"unknown key, {_meant([*path, key], kind)}"))
    return below


MISTAKES = {
    Kind: _of_kind,
    Option: _of_option,
    Changed: _of_changed,
    Words: _of_words,
    Open: _of_open,
    Either: _of_either,
    Listed: _of_listed,
    Row: _of_row,
    Named: _of_named,
    Required: _of_required,
    dict: _of_mapping,
}


def _wanted(kind) -> str:
    """Say in words what a kind is."""
    if isinstance(kind, Kind):
        return kind.wanted
    if isinstance(kind, Words):
        return "one of " + ", ".join(f'"{word}"' for word in kind.since) + " (spelt so)"
    if isinstance(kind, (Either, Row)):
        parts = dict.fromkeys(_wanted(one) for one in kind.kinds)
        return " or ".join(parts) if isinstance(kind, Either) else f"a list of {', '.join(parts)}"
    return "a list" if isinstance(kind, Listed) else "a mapping"


def _kind_name(value) -> str:
    names = {type(None): "nothing", str: "a text", dict: "a mapping", list: "a list"}
    return names.get(type(value), "another kind of value")


def _shown(value, path: list) -> str:
    """Show a wrong value, but for secrets and what is long."""
    if not isinstance(value, (bool, int, float, str)) or redact(":".join(path), value) == HIDDEN:
        return _kind_name(value)
    if isinstance(value, str):
        return f'a text "{value}"' if len(value) <= 80 else f'a text "{value[:80]}…"'
    return str(value).lower() if isinstance(value, bool) else str(value)


def _meant(path: list, known) -> str:
    """Return what may have been meant by a name that is not known."""
    return __salt__["orthanc_names.meant"](path, list(known), _elsewhere())


@functools.lru_cache(None)
def _elsewhere() -> dict:
    """Return where in the tables each name stands: the paths of the mappings that have it."""
    found: dict = {}
    sections = {name: section.keys for name, section in SECTIONS.items()}
    for path, names in _mappings([], {**OPTIONS, **sections, **PLUGIN_OPTIONS}):
        for name in names:
            found.setdefault(name, []).append(path)
    return found


def _mappings(path: list, kind):
    """Yield the path of each mapping in a kind, and the names in it."""
    if isinstance(kind, (dict, Open)):
        yield path, list(kind.names if isinstance(kind, Open) else kind)
    if isinstance(kind, dict):
        for name, below in kind.items():
            yield from _mappings([*path, name], below)
    elif isinstance(kind, Either):
        for one in kind.kinds:
            yield from _mappings(path, one)
    elif isinstance(kind, Named):
        yield from _mappings([*path, "<name>"], kind.kind)
    elif isinstance(kind, (Option, Listed, Required)):
        yield from _mappings(path, kind.kind)


def _not_json(value, path: list) -> list:
    """Return what YAML can say and JSON cannot: names that are no text, dates."""
    if isinstance(value, dict):
        problems = [
            ([*path, str(name)], "the name must be a text (in quotes)")
            for name in value
            if not isinstance(name, str)
        ]
        pairs = value.items()
    elif isinstance(value, (list, tuple)):
        problems, pairs = [], enumerate(value)
    elif value is None or isinstance(value, (bool, int, float, str)):
        return []
    else:
        return [(path, "is a date or the like, which JSON does not know; put it in quotes")]
    return problems + [p for name, item in pairs for p in _not_json(item, [*path, str(name)])]


def _substitutions(value, path: list) -> list:
    """
    Return the places with ``${`` in a text. Orthanc puts the value of an environment variable in
    its place, or nothing, without a word: ``a${b}c`` becomes ``ac``.
    """
    items = []
    if isinstance(value, dict):
        items = [([*path, str(key)], part) for key, item in value.items() for part in (key, item)]
    elif isinstance(value, (list, tuple)):
        items = [([*path, str(number)], item) for number, item in enumerate(value)]
    elif isinstance(value, str) and "${" in value:
        return [
            (
                path,
                "contains ${, which Orthanc would replace by an environment variable;"
                " choose a value without it",
            )
        ]
    return [problem for place, item in items for problem in _substitutions(item, place)]


def _idle(section) -> bool:
    """Return whether a section asks for nothing, so that no plugin is missed."""
    if not isinstance(section, dict):
        return False
    switches = [item for key, item in section.items() if str(key).startswith("Enable")]
    return not section or (bool(switches) and not any(switches))


def _missing_plugin(plugin, host: Host, path: list) -> list:
    """Return the sentence for options of a plugin that is not loaded."""
    if host.plugins is None or plugin.package in host.packages:
        return []
    of_it = [
        file
        for file in host.plugins
        for piece in _pieces(plugin)
        if piece.lower() in os.path.basename(file).lower()
    ]
    if any(not file.startswith("/") for file in of_it):
        return []
    reason, remedy = "no plugin of this host reads it, so it would be ignored", "take it out"
    absent = NOT_PACKAGED.get(__grains__.get("os_family"), ())
    if of_it:
        reason = f"{of_it[0]} reads it, but is not loaded, so it would be ignored"
        remedy = "name that file in the option Plugins, or leave Plugins out"
    elif plugin.package in absent or plugin.package in ("", SERVER):
        files = " or ".join(f"lib{piece}.so" for piece in _pieces(plugin))
        remedy = f"no package brings it here: name a download of {files} in orthanc:plugins"
    elif plugin.package:
        remedy = f"add {plugin.package} to orthanc:packages"
    return [(path, f"{reason}; {remedy}")]


def _kind_of(value):
    """Return the kind of an option of which only the value in the sample is known."""
    for cls, kind in ((bool, FLAG), (int, INTEGER), (str, TEXT), (list, Listed(ANY))):
        if isinstance(value, cls):
            return kind
    return ANY
