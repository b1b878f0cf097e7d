"""
What Orthanc and its plugins can be told: all options with their shapes and versions, in the
language of :py:mod:`orthanc_shapes`.

Data only, held against the language by a test. ``OPTIONS`` are those of the server, ``SECTIONS``
and ``PLUGIN_OPTIONS`` those of its plugins. A row of these two says in the names of which files its
plugin is found (``library``; one of them has to be there) and which package brings it
(``package``). ``PLUGINS`` are those of packages.

(M): measured with Orthanc 1.10.1, 1.12.7 and 1.13.0; (S): read in the source of all releases.

https://orthanc.uclouvain.be/book/users/configuration.html
"""

from __future__ import annotations

# What Salt offers.
__load__ = ["get"]


def get(name):
    """
    Part of the formula. Return a table, which is not to be changed.

    name
        Its name.
    """
    return globals()[name]


# ---------------------------------------------------------------- kinds that several options have

KINDS = {
    "text": {
        "wanted": "a text (in quotes)",
        "type": "string",
        "pattern": r"[^\0\ud800-\udfff]*",
    },
    "texts": {"items": "text"},
    "symbolic name": {
        "wanted": "a name of letters, digits, - and _",
        "type": "string",
        "pattern": "[A-Za-z0-9_-]+",
    },
    # A list of texts, for which a single one is taken as well.
    "text or texts": {"anyOf": ["texts", "text"]},
    "bare port": {"kind": "port", "wanted": "a port number from 1 to 65535 (without quotes)"},
    # An enumeration for which case matters, as for all but one.
    "manufacturer": {
        "enum": {
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
    },
    # The one for which case does not matter (M: "latin1" and "LaTiN1" run, "foo" is fatal).
    "encoding": {
        "enum": [
            *("Ascii", "Utf8", "Latin1", "Latin2", "Latin3", "Latin4", "Latin5", "Cyrillic"),
            *("Windows1251", "Arabic", "Greek", "Hebrew", "Thai", "Japanese", "Chinese"),
            *("JapaneseKanji", "Korean", "SimplifiedChinese"),
        ],
        "any_case": True,
    },
    # "2021b" is not in the source before 1.9.4 (the sample's comment says 1.8.2).
    "dicom version": {"enum": {"2008": "", "2017c": "", "2021b": "1.9.4", "2023b": "1.12.1"}},
    # "SystemDefault" is accepted as well, although only an error message says so (M).
    "retrieve method": {"enum": ["C-MOVE", "C-GET", "SystemDefault"]},
    # The UIDs that IngestTranscoding and DicomScuPreferredTransferSyntax accept (S); any other
    # text, also the empty one or a name, is fatal (M).
    "transfer syntax": {
        "enum": {
            "1.2.840.10008.1.2": "",
            "1.2.840.10008.1.2.1": "",
            "1.2.840.10008.1.2.1.99": "",
            "1.2.840.10008.1.2.2": "",
            "1.2.840.10008.1.2.5": "",
            "1.2.840.10008.1.2.6.1": "",
            "1.2.840.10008.1.2.6.2": "",
            "1.2.840.10008.1.2.4.50": "",
            "1.2.840.10008.1.2.4.51": "",
            "1.2.840.10008.1.2.4.52": "",
            "1.2.840.10008.1.2.4.53": "",
            "1.2.840.10008.1.2.4.54": "",
            "1.2.840.10008.1.2.4.55": "",
            "1.2.840.10008.1.2.4.56": "",
            "1.2.840.10008.1.2.4.57": "",
            "1.2.840.10008.1.2.4.58": "",
            "1.2.840.10008.1.2.4.59": "",
            "1.2.840.10008.1.2.4.60": "",
            "1.2.840.10008.1.2.4.61": "",
            "1.2.840.10008.1.2.4.62": "",
            "1.2.840.10008.1.2.4.63": "",
            "1.2.840.10008.1.2.4.64": "",
            "1.2.840.10008.1.2.4.65": "",
            "1.2.840.10008.1.2.4.66": "",
            "1.2.840.10008.1.2.4.70": "",
            "1.2.840.10008.1.2.4.80": "",
            "1.2.840.10008.1.2.4.81": "",
            "1.2.840.10008.1.2.4.90": "",
            "1.2.840.10008.1.2.4.91": "",
            "1.2.840.10008.1.2.4.92": "",
            "1.2.840.10008.1.2.4.93": "",
            "1.2.840.10008.1.2.4.94": "",
            "1.2.840.10008.1.2.4.95": "",
            "1.2.840.10008.1.2.4.100": "",
            "1.2.840.10008.1.2.4.101": "",
            "1.2.840.10008.1.2.4.102": "",
            "1.2.840.10008.1.2.4.103": "",
            "1.2.840.10008.1.2.4.104": "",
            "1.2.840.10008.1.2.4.105": "",
            "1.2.840.10008.1.2.4.106": "",
            "1.2.840.10008.1.2.4.107": "",
            "1.2.840.10008.1.2.4.108": "",
            "1.2.840.10008.1.2.4.110": "1.12.11",
            "1.2.840.10008.1.2.4.111": "1.12.11",
            "1.2.840.10008.1.2.4.112": "1.12.11",
            "1.2.840.10008.1.2.4.201": "1.12.11",
            "1.2.840.10008.1.2.4.202": "1.12.11",
            "1.2.840.10008.1.2.4.203": "1.12.11",
        }
    },
    "value representation": {
        "enum": {
            "AE": "",
            "AS": "",
            "AT": "",
            "CS": "",
            "DA": "",
            "DS": "",
            "DT": "",
            "FD": "",
            "FL": "",
            "IS": "",
            "LO": "",
            "LT": "",
            "OB": "",
            "OD": "",
            "OF": "",
            "OL": "",
            "OW": "",
            "PN": "",
            "SH": "",
            "SL": "",
            "SQ": "",
            "SS": "",
            "ST": "",
            "TM": "",
            "UC": "",
            "UI": "",
            "UL": "",
            "UN": "",
            "UR": "",
            "US": "",
            "UT": "",
            "OV": "1.13.0",
            "SV": "1.13.0",
            "UV": "1.13.0",
        }
    },
    # Levels of the DICOM hierarchy, as the framework of Orthanc reads them.
    "level": {
        "enum": [
            *("patient", "patients", "study", "studies", "series"),
            *("instance", "instances", "image", "images"),
        ],
        "any_case": True,
    },
    "access level": {
        "enum": [
            *("patient", "patients", "study", "studies", "series"),
            *("instance", "instances", "system"),
        ],
        "any_case": True,
    },
    # 65535 is fatal, "104" is accepted (M).
    "modality port": {
        "wanted": "a whole number from 1 to 65534",
        "anyOf": [
            {"type": "integer", "minimum": 1, "maximum": 65534},
            {
                "type": "string",
                "pattern": "(?=.{1,5}$)0*([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}"
                "|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-4])",
            },
        ],
    },
    # Orthanc ignores any other key. A wrong AET (too long, empty) is NOT noticed at the start,
    # neither is a wrong LocalAet (M).
    "modality": {
        "keys": {
            "AET": "aet",
            "Host": "text",
            "Port": "modality port",
            "Manufacturer": "manufacturer",
            "AllowEcho": "flag",
            "AllowFind": "flag",
            "AllowFindWorklist": {"kind": "flag", "since": "1.10.0"},
            "AllowGet": "flag",
            "AllowMove": "flag",
            "AllowStore": "flag",
            "AllowNAction": "flag",  # not documented, but read (S)
            "AllowEventReport": "flag",  # likewise
            "AllowStorageCommitment": "flag",  # sets the two above
            "AllowTranscoding": "flag",
            "UseDicomTls": "flag",
            # "" is as good as none (S).
            "LocalAet": {
                "wanted": "up to 16 ASCII characters without backslash",
                "type": "string",
                "pattern": r"[ -\[\]-~]{0,16}",
            },
            "Timeout": {"kind": "count", "since": "1.9.1"},
            "RetrieveMethod": {"kind": "retrieve method", "since": "1.12.6"},
        },
        "required": [["AET"], ["Host"], ["Port"]],
    },
    # Other lengths are fatal (M).
    "modality in a row": {
        "row": ["aet", "text", "modality port", "manufacturer"],
        "lengths": [3, 4],
    },
    # The URL may lack the scheme ("host:8042"), but if it has one, then exactly "http://" or
    # "https://" in lower case (M); an empty URL is fatal.
    "peer url": {
        "wanted": "a URL that begins with http:// or https://",
        "type": "string",
        "pattern": r"https?://\S+|(?![A-Za-z][A-Za-z0-9+.-]*://)\S+",
    },
    # "URL" is an alias of "Url". Any other key is a free property for plugins and scripts (text,
    # Boolean, integer; other types are fatal, M); RemoteSelf is read by the transfers accelerator
    # plugin.
    "peer": {
        "keys": {
            "Url": "peer url",
            "URL": "peer url",
            "Username": "text",
            "Password": "text",  # without Username: fatal (M)
            "HttpHeaders": {"each": "text"},
            "CertificateFile": "text",
            "CertificateKeyFile": "text",
            "CertificateKeyPassword": "text",
            "Pkcs11": "flag",
            "Timeout": {"kind": "count", "since": "1.9.1"},
            "RemoteSelf": "text",
        },
        "required": [["Url", "URL"]],
    },
    # [url, user] is fatal (M).
    "peer in a row": {"row": ["peer url", "text", "text"], "lengths": [1, 3]},
    # Each number only once, and no name of Orthanc's own (M).
    "user number": {"type": "integer", "minimum": 1024, "maximum": 65535},
    # Resolved against the working directory of the process, not the configuration's folder as
    # SslCertificate is (1.10.1, 1.12.7 and 1.13.0 alike); read although DicomTlsEnabled is false;
    # "" is as good as none (M).
    "tls path": {
        "wanted": 'an absolute path (or ""), because Orthanc looks for any other one in the folder'
        " that it is started in (/ for a service), not beside its configuration",
        "type": "string",
        "pattern": r"(?:/[^\0\n]*)?",
    },
    # A Boolean of a user-defined property of a web service.
    "property flag": {
        "anyOf": [
            "flag",
            {"enum": ["true", "false", "1", "0"]},
            {"type": "integer", "minimum": 0, "maximum": 1},
        ]
    },
    # A remote web service in its long form (the same reader as for "OrthancPeers").
    "web service": {
        "keys": {
            "Url": "text",
            "URL": "text",
            "Username": "text",
            "Password": "text",
            "HttpHeaders": {"each": "text"},
            "CertificateFile": "text",
            "CertificateKeyFile": "text",
            "CertificateKeyPassword": "text",
            "Pkcs11": "flag",
            "Timeout": "count",
        }
    },
    # An error in any server is only a line in the log: Orthanc starts, but the rest of the servers
    # is missing.
    "dicomweb server": {
        "anyOf": [
            {"row": ["text", "text", "text"], "lengths": [1, 3]},
            {
                "kind": "web service",
                "keys": {
                    "HasDelete": "property flag",
                    "ChunkedTransfers": "property flag",
                    "HasWadoRsUniversalTransferSyntax": "property flag",
                },
                "required": [["Url", "URL"]],
            },
        ]
    },
    "metadata mode": {"enum": ["Full", "MainDicomTags", "Extrapolate"]},
    # [number of the key, path of the key file]
    "master key": {"items": {"anyOf": ["count", "text"]}},
    # Keys that the three object storages have in common.
    "object storage": {
        "keys": {
            "RootPath": "text",  # must not begin with a slash
            "StorageStructure": {"enum": ["flat", "legacy"]},
            "EnableLegacyUnknownFiles": "flag",
            "HybridMode": {"enum": ["Disabled", "WriteToObjectStorage", "WriteToFileSystem"]},
            "MigrationFromFileSystemEnabled": "flag",
            "StorageEncryption": {
                "keys": {
                    "Enable": "flag",
                    "MasterKey": "master key",
                    "PreviousMasterKeys": {"items": "master key"},
                    "MaxConcurrentInputSize": "count",
                }
            },
        }
    },
    "education users": {
        "keys": {
            "Authentication": {"enum": ["None", "Login", "RestrictedHttpHeader", "HttpHeader"]},
            "Credentials": {"each": "text"},
            "RestrictedHeaders": "texts",
        }
    },
    # For libpq the host begins after the first @, whatever the password holds; it takes a list of
    # keywords and values as well.
    "connection uri": {
        "wanted": "postgresql://user:password@host:port/database, what is special in it"
        " URL-encoded",
        "type": "string",
        "pattern": r"(?s)(?!postgres(ql)?://).*"
        r"|postgres(ql)?://(?!.*%(?![0-9A-Fa-f]{2}))([^@/?#]*@)?[^@?#]*(\?[^@]*)?",
    },
}

# ---------------------------------------------------------------- the options

OPTIONS = {
    # General
    "Name": "text",
    "StorageDirectory": "text",
    "IndexDirectory": "text",
    "TemporaryDirectory": "text",
    "StorageCompression": "flag",
    # A bad value of these four is swallowed up to 1.12 (an error in the log, then the default, so
    # no limit and "Recycle"); from 1.13.0 all are fatal but MaximumStorageMode (M).
    "MaximumStorageSize": "count",
    "MaximumPatientCount": "count",
    "MaximumStorageMode": {"enum": ["Recycle", "Reject"], "since": "1.11.2"},
    "MaximumStorageCacheSize": {"kind": "count", "since": "1.10.0"},
    "StorageLoaderThreadsCount": {"kind": "positive", "since": "1.13.0"},
    "StorageMemoryCapacity": {"kind": "count", "since": "1.13.0"},
    "LuaScripts": "texts",  # a missing script is fatal
    "LuaHeartBeatPeriod": {"kind": "count", "since": "1.11.1"},
    # A missing *.so is fatal in 1.12.7 and 1.13.0, but not in 1.10.1, a missing folder never (M).
    "Plugins": "texts",
    "ConcurrentJobs": "count",
    # Orthanc takes any name here, but looks up only this one (S).
    "JobsEngineThreadsCount": {"keys": {"ResourceModification": "count"}, "since": "1.11.3"},
    # HTTP server
    "HttpServerEnabled": "flag",
    "OrthancExplorerEnabled": "flag",
    "HttpPort": "bare port",  # above 65535: silently modulo 65536 (M)
    "HttpBindAddresses": {"kind": "texts", "since": "1.12.10"},
    "HttpDescribeErrors": "flag",
    "HttpCompressionEnabled": "flag",
    "HttpThreadsCount": "positive",
    "HttpRequestTimeout": "positive",
    "KeepAlive": "flag",
    "KeepAliveTimeout": {"kind": "count", "since": "1.11.3"},
    "TcpNoDelay": "flag",
    "WebDavEnabled": "flag",
    "WebDavDeleteAllowed": "flag",
    "WebDavUploadAllowed": "flag",
    "MaximumRequestBodySizeMB": {"kind": "count", "since": "1.12.11"},
    "MaximumFileSizeInArchiveMB": {"kind": "count", "since": "1.12.11"},
    "RemoteAccessAllowed": "flag",
    "AuthenticationEnabled": "flag",
    "RegisteredUsers": {"each": "text"},  # ":" in a name: fatal from 1.12.10
    "SslEnabled": "flag",
    "SslCertificate": "text",
    "SslMinimumProtocolVersion": {"type": "integer", "minimum": 0, "maximum": 5},
    "SslCiphersAccepted": "texts",
    "SslVerifyPeers": "flag",
    "SslTrustedClientCertificates": "text",
    "ExecuteLuaEnabled": "flag",
    # Upstream 1.12.0; Debian brought it back to its 1.10.1 (M), an older one ignores it.
    "RestApiWriteToFileSystemEnabled": {"kind": "flag", "since": "1.10.1"},
    "MetricsEnabled": "flag",
    # HTTP client and peers
    "HttpProxy": "text",
    "HttpVerbose": "flag",
    "HttpTimeout": "count",
    "HttpsVerifyPeers": "flag",
    "HttpsCACertificates": "text",
    # Fatal in Debian's builds (M: without PKCS#11 support).
    "Pkcs11": {"keys": {"Module": "text", "Pin": "text", "Verbose": "flag"}},
    "OrthancPeers": {
        "names": "symbolic name",
        "each": {"anyOf": ["peer", "peer in a row"]},
    },
    "OrthancPeersInDatabase": "flag",
    # DICOM server and client
    "DicomServerEnabled": "flag",
    "DicomAet": "aet",  # a backslash is fatal from 1.13.0 only (M)
    "DicomCheckCalledAet": "flag",
    "DicomPort": "bare port",
    "DicomThreadsCount": {"kind": "positive", "since": "1.10.0"},
    "DicomScpTimeout": "count",
    "DicomScuTimeout": "count",
    "DicomAssociationCloseDelay": "count",
    "MaximumPduLength": {"type": "integer", "minimum": 4096, "maximum": 131072},
    "StrictAetComparison": "flag",
    "DicomAlwaysAllowEcho": "flag",
    "DicomAlwaysAllowStore": "flag",
    "DicomAlwaysAllowFind": "flag",
    "DicomAlwaysAllowFindWorklist": {"kind": "flag", "since": "1.10.0"},
    "DicomAlwaysAllowGet": "flag",
    "DicomAlwaysAllowMove": {"kind": "flag", "since": "1.9.7"},
    "DicomCheckModalityHost": "flag",
    "DicomEchoChecksFind": "flag",
    "DicomModalities": {
        "names": "symbolic name",
        "each": {"anyOf": ["modality", "modality in a row"]},
    },
    "DicomModalitiesInDatabase": "flag",
    "DicomDefaultRetrieveMethod": {"kind": "retrieve method", "since": "1.12.6"},
    "SynchronousCMove": "flag",
    "QueryRetrieveSize": "positive",
    "StorageCommitmentReportsSize": "count",
    "LimitFindResults": "count",
    "LimitFindInstances": "count",
    "CaseSensitivePN": "flag",
    "LogExportedResources": "flag",
    "DicomTlsEnabled": "flag",
    "DicomTlsCertificate": "tls path",
    "DicomTlsPrivateKey": "tls path",
    "DicomTlsTrustedCertificates": "tls path",
    "DicomTlsRemoteCertificateRequired": {"kind": "flag", "since": "1.9.3"},
    "DicomTlsMinimumProtocolVersion": {
        "type": "integer",
        "minimum": 0,
        "maximum": 5,
        "since": "1.12.4",
    },
    "DicomTlsCiphersAccepted": {"kind": "texts", "since": "1.12.4"},
    # What the DICOM server accepts. The list may be one string (M); items are UIDs, "*" and "?"
    # are wildcards; one that matches nothing is ignored (M).
    "AcceptedTransferSyntaxes": {"anyOf": ["text", "texts"]},
    "DeflatedTransferSyntaxAccepted": "flag",
    "JpegTransferSyntaxAccepted": "flag",
    "Jpeg2000TransferSyntaxAccepted": "flag",
    "JpegLosslessTransferSyntaxAccepted": "flag",
    "JpipTransferSyntaxAccepted": "flag",
    "Mpeg2TransferSyntaxAccepted": "flag",
    "Mpeg4TransferSyntaxAccepted": "flag",
    "RleTransferSyntaxAccepted": "flag",
    "H265TransferSyntaxAccepted": "flag",
    "UnknownSopClassAccepted": "flag",
    "AcceptedSopClasses": {"kind": "texts", "since": "1.12.6"},
    # 1.12.6 and 1.12.7 document RejectedSopClasses, but read RejectSopClasses (M); later both.
    "RejectedSopClasses": {"kind": "texts", "since": "1.12.6"},
    "RejectSopClasses": {"kind": "texts", "since": "1.12.6"},
    # Transcoding, parsing
    "TranscodeDicomProtocol": "flag",
    "DicomScuPreferredTransferSyntax": "transfer syntax",
    "BuiltinDecoderTranscoderOrder": {"enum": ["After", "Before", "Disabled"]},
    "IngestTranscoding": "transfer syntax",
    "IngestTranscodingOfUncompressed": "flag",
    "IngestTranscodingOfCompressed": "flag",
    "DicomLossyTranscodingQuality": {"type": "integer", "minimum": 1, "maximum": 100},
    "MaximumConcurrentDcmtkTranscoders": {"kind": "count", "since": "1.12.6"},
    "DicomParserThreadsCount": {"kind": "positive", "since": "1.13.0"},
    "DicomParserMemoryCapacity": {"kind": "count", "since": "1.13.0"},
    "DicomParserCacheSize": {"kind": "count", "since": "1.13.0"},
    "TranscoderThreadsCount": {"kind": "positive", "since": "1.13.0"},
    "TranscoderMemoryCapacity": {"kind": "count", "since": "1.13.0"},
    "TranscoderCacheSize": {"kind": "count", "since": "1.13.0"},
    "SequentialDicomReaderThreadsCount": {"kind": "positive", "since": "1.13.0"},
    "SequentialDicomReaderWindowSize": {"kind": "positive", "since": "1.13.0"},
    "SequentialDicomReaderWindowCapacity": {"kind": "count", "since": "1.13.0"},
    # DICOM dictionary and encoding
    "DefaultEncoding": "encoding",
    "DefaultPrivateCreator": "text",
    "LoadPrivateDictionary": "flag",
    # "gggg,eeee": [VR, name, minimum, maximum, private creator]; minimum >= 1, maximum 0 = any.
    # Two items are fatal although documented as possible, three run (M).
    # Minimum > maximum is fatal unless maximum is 0; the key may also be written "ggggeeee" (M).
    # Not a mapping: silently ignored (M).
    "Dictionary": {
        "each": {
            "row": ["value representation", "text", "positive", "count", "text"],
            "lengths": [3, 4, 5],
        }
    },
    "ExternalDictionaries": {"kind": "texts", "since": "1.9.4"},  # a missing file is fatal (M)
    # Levels are compared without regard to case and in several spellings (M), an unknown level or
    # tag is fatal. A tag is a DICOM keyword ("PatientID", case-sensitive) or "gggg,eeee" or
    # "ggggeeee".
    "ExtraMainDicomTags": {
        "keys": {
            "Patient": "texts",
            "patient": "texts",
            "PATIENT": "texts",
            "Study": "texts",
            "study": "texts",
            "STUDY": "texts",
            "Series": "texts",
            "series": "texts",
            "SERIES": "texts",
            "Instance": "texts",
            "instance": "texts",
            "INSTANCE": "texts",
            "Patients": "texts",
            "patients": "texts",
            "PATIENTS": "texts",
            "Studies": "texts",
            "studies": "texts",
            "STUDIES": "texts",
            "Instances": "texts",
            "instances": "texts",
            "INSTANCES": "texts",
            "Image": "texts",
            "image": "texts",
            "IMAGE": "texts",
            "Images": "texts",
            "images": "texts",
            "IMAGES": "texts",
        },
        "since": "1.11.0",
    },
    "Locale": "text",  # an unknown one: only an error in the log (M)
    # Database, storage, jobs
    "UserMetadata": {"each": "user number"},
    "UserContentType": {
        "each": {"anyOf": ["user number", {"row": ["user number", "text"], "lengths": [2]}]}
    },
    "StableAge": "count",
    "StoreMD5ForAttachments": "flag",
    "StoreDicom": "flag",
    "OverwriteInstances": {
        "kind": "flag",
        "changed": {"1.13.0": {"anyOf": ["flag", {"enum": ["Never", "Always", "IfChanged"]}]}},
    },
    "StorageAccessOnFind": {"enum": ["Always", "Never", "Answers"]},
    "SyncStorageArea": "flag",
    "MallocArenaMax": "count",
    "DatabaseServerIdentifier": {
        "wanted": "a text",
        "type": "string",
        "pattern": "(?s).+",  # (M)
        "since": "1.9.2",
    },
    "CheckRevisions": {"kind": "flag", "since": "1.9.2"},
    "ReadOnly": {"kind": "flag", "since": "1.12.5"},
    "PatientLevelEnabled": {"kind": "flag", "since": "1.12.11"},
    "JobsHistorySize": "count",
    "SaveJobs": "flag",
    "MediaArchiveSize": "positive",
    "SynchronousZipStream": {"kind": "flag", "since": "1.9.4"},
    "ZipUseUtf8": {"kind": "flag", "since": "1.12.11"},
    # No longer documented from 1.13.0 on, but still read (M).
    "LoaderThreads": {"kind": "count", "since": "1.12.11"},
    "ZipLoaderThreads": {"kind": "count", "since": "1.10.0"},
    # Logs
    "DeidentifyLogs": "flag",
    "DeidentifyLogsDicomVersion": "dicom version",
    # An unknown name is fatal from 1.11.0 on; before, the whole section is ignored (M).
    "Warnings": {
        "keys": {
            "W001_TagsBeingReadFromStorage": "flag",
            "W002_InconsistentDicomTagsInDb": "flag",
            # 1.12.5 .. : not in the source of 1.12.4 (S).
            "W003_DecoderFailure": {"kind": "flag", "since": "1.12.5"},
            "W004_NoMainDicomTagsSignature": {"kind": "flag", "since": "1.12.5"},
            "W005_RequestingTagFromLowerResourceLevel": {"kind": "flag", "since": "1.12.5"},
            "W006_RequestingTagFromMetaHeader": {"kind": "flag", "since": "1.12.5"},
            "W007_MissingRequestedTagsNotReadFromDisk": {"kind": "flag", "since": "1.12.5"},
        },
        "since": "1.11.0",
    },
    # Gone. LimitJobs had no effect since 1.4.0, but was in the samples up to 1.10.0.
    "LimitJobs": {"kind": "count", "until": "1.10.0"},
    "AllowFindSopClassesInStudy": {"kind": "flag", "until": "1.5.0"},
}

SECTIONS = {
    # --- Databases ---------------------------------------------------------------------------
    # https://orthanc.uclouvain.be/book/plugins/postgresql.html
    "PostgreSQL": {
        "library": ["OrthancPostgreSQLIndex", "OrthancPostgreSQLStorage"],
        "package": "orthanc-postgresql",
        "keys": {
            "EnableIndex": "flag",
            "EnableStorage": "flag",
            "ConnectionUri": "connection uri",  # makes the next six keys (up to EnableSsl) useless
            "Host": "text",
            "Port": {
                "type": "integer",
                "minimum": 1,
                "maximum": 65534,
            },  # 65535 is refused by the plugin
            "Database": "text",
            "Username": "text",
            "Password": "text",
            "EnableSsl": "flag",
            "Lock": "flag",
            "MaximumConnectionRetries": "count",
            "ConnectionRetryInterval": "count",
            "IndexConnectionsCount": {"kind": "positive", "since": "4.0"},
            "TransactionMode": {"enum": ["ReadCommitted", "Serializable"], "since": "6.0"},
            "EnableVerboseLogs": {"kind": "flag", "since": "6.0"},
            "HousekeepingInterval": {"kind": "positive", "since": "7.0"},
            "AllowInconsistentChildCounts": {"kind": "flag", "since": "7.2"},
            "UseDynamicConnectionPool": {"kind": "flag", "since": "9.0"},
            "Schema": {"kind": "text", "since": "10.0"},
            "ApplicationName": {"kind": "text", "since": "10.0"},
        },
    },
    # https://orthanc.uclouvain.be/book/plugins/mysql.html
    "MySQL": {
        "library": ["OrthancMySQLIndex", "OrthancMySQLStorage"],
        "package": "orthanc-mysql",
        "keys": {
            "EnableIndex": "flag",
            "EnableStorage": "flag",
            "Host": "text",
            "Port": {
                "type": "integer",
                "minimum": 0,
                "maximum": 65534,
            },  # 65535 is refused by the plugin
            "UnixSocket": "text",
            "Database": "text",
            "Username": "text",
            "Password": "text",
            "EnableSsl": "flag",
            "SslVerifyServerCertificates": "flag",
            "SslCACertificates": "text",
            "Lock": "flag",
            "MaximumConnectionRetries": "count",
            "ConnectionRetryInterval": "count",
            "IndexConnectionsCount": {"kind": "positive", "since": "4.0"},
        },
    },
    # https://orthanc.uclouvain.be/book/plugins/odbc.html
    "Odbc": {
        "library": ["OrthancOdbcIndex", "OrthancOdbcStorage"],
        "package": "",
        "keys": {
            "EnableIndex": "flag",
            "EnableStorage": "flag",
            "IndexConnectionString": "text",
            "StorageConnectionString": "text",
            "IndexConnectionsCount": "positive",
            "MaximumConnectionRetries": "count",  # read by the index plugin
            "MaxConnectionRetries": "count",  # read by the storage plugin
            "ConnectionRetryInterval": "count",
        },
    },
    # https://github.com/Doc-Cirrus/orthanc-mongodb (contributed)
    "MongoDB": {
        "library": ["OrthancMongoDBIndex", "OrthancMongoDBStorage"],
        "package": "",
        "keys": {
            "EnableIndex": "flag",
            "EnableStorage": "flag",
            "ConnectionUri": "text",
            "ChunkSize": "count",
            "IndexConnectionsCount": "count",
            "MaxConnectionRetries": "count",
        },
    },
    # --- Storage -----------------------------------------------------------------------------
    # https://orthanc.uclouvain.be/book/plugins/object-storage.html
    "AwsS3Storage": {
        "library": ["OrthancAwsS3Storage"],
        "package": "",
        "kind": "object storage",
        "keys": {
            "BucketName": "text",
            "Region": "text",
            "AccessKey": "text",
            "SecretKey": "text",
            "Endpoint": "text",
            "ConnectTimeout": "count",
            "ConnectionTimeout": "count",
            "RequestTimeout": "count",
            "MaxConnections": "count",
            "MaxRetries": "count",
            "VirtualAddressing": "flag",
            "EnableAwsSdkLogs": "flag",
            "UseTransferManager": "flag",
            "TransferPoolSize": "count",
            "TransferBufferSize": "count",
            "StorageClass": {
                "enum": [
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
                ]
            },
            "Tags": {"each": "text"},
        },
    },
    # https://orthanc.uclouvain.be/book/plugins/object-storage.html
    "AzureBlobStorage": {
        "library": ["OrthancAzureBlobStorage"],
        "package": "",
        "kind": "object storage",
        "keys": {
            "ConnectionString": "text",
            "ContainerName": "text",
            "CreateContainerIfNotExists": "flag",
            "AccessTier": {"enum": ["Hot", "Cool", "Cold", "Archive", "Premium"]},
        },
    },
    # The Azure plugin before version 1.0 (no longer read by the newest versions)
    # https://orthanc.uclouvain.be/book/plugins/object-storage.html
    "BlobStorage": {
        "library": ["OrthancBlobStorage", "OrthancAzureBlobStorage"],
        "package": "",
        "keys": {
            "AccountName": "text",
            "AccountKey": "text",
            "ContainerName": "text",
            "CreateContainerIfNotExists": "flag",
        },
    },
    # https://orthanc.uclouvain.be/book/plugins/object-storage.html
    "GoogleCloudStorage": {
        "library": ["OrthancGoogleCloudStorage"],
        "package": "",
        "kind": "object storage",
        "keys": {
            "ServiceAccountFile": "text",
            "BucketName": "text",
        },
    },
    # https://github.com/radpointhq/orthanc-s3-storage (contributed)
    "S3": {
        "library": ["OrthancS3StoragePlugin"],
        "package": "",
        "keys": {
            "aws_access_key_id": "text",
            "aws_secret_access_key": "text",
            "aws_region": "text",
            "s3_bucket": "text",
            "s3_endpoint": "text",
            "implementation": "text",
        },
    },
    # https://orthanc.uclouvain.be/book/plugins/advanced-storage.html
    "AdvancedStorage": {
        "library": ["AdvancedStorage"],
        "package": "",
        "keys": {
            "Enable": "flag",
            "NamingScheme": "text",
            "MaxPathLength": "integer",
            "OtherAttachmentsPrefix": "text",
            "MultipleStorages": {
                "keys": {
                    "Storages": {"each": "text"},
                    "CurrentWriteStorage": "text",
                }
            },
            "Indexer": {
                "keys": {
                    "Enable": "flag",
                    "Folders": "text or texts",
                    "Interval": "count",
                    "ThrottleDelayMs": "count",
                    "ParsedExtensions": "text or texts",  # not together with SkippedExtensions
                    "SkippedExtensions": "text or texts",
                    "TakeOwnership": "flag",
                    "EnableVerboseLogs": "flag",
                }
            },
            "DelayedDeletion": {
                "keys": {
                    "Enable": "flag",
                    "ThrottleDelayMs": "count",
                    "MaxDeletionTime": "count",
                }
            },
        },
    },
    # https://orthanc.uclouvain.be/book/plugins/delayed-deletion-plugin.html
    "DelayedDeletion": {
        "library": ["DelayedDeletion"],
        "package": "orthanc",
        "keys": {
            "Enable": "flag",  # true by default as soon as the section exists
            "ThrottleDelayMs": "count",
            "Path": "text",
        },
        "since": "1.11.1",
    },
    # https://orthanc.uclouvain.be/book/plugins/indexer.html
    "Indexer": {
        "library": ["OrthancIndexer"],
        "package": "orthanc-indexer",
        "keys": {
            "Enable": "flag",
            "Folders": "text or texts",
            "Interval": "count",
            "Database": "text",
        },
    },
    # https://orthanc.uclouvain.be/book/plugins/housekeeper.html
    "Housekeeper": {
        "library": ["Housekeeper"],
        "package": "orthanc",
        "keys": {
            "Enable": "flag",
            # A smaller one aborts Orthanc.
            "GlobalPropertyId": {"type": "integer", "minimum": 1024, "maximum": 2147483647},
            "Force": "flag",
            "ForceReconstructFiles": {"kind": "flag", "since": "1.12.9"},
            "ThrottleDelay": "count",
            "Schedule": {
                "keys": {
                    "Monday": "texts",
                    "Tuesday": "texts",
                    "Wednesday": "texts",
                    "Thursday": "texts",
                    "Friday": "texts",
                    "Saturday": "texts",
                    "Sunday": "texts",
                }
            },
            "Triggers": {
                "keys": {
                    "StorageCompressionChange": "flag",
                    "MainDicomTagsChange": "flag",
                    "UnnecessaryDicomAsJsonFiles": "flag",
                    "IngestTranscodingChange": "flag",
                    "DicomWebCacheChange": {"kind": "flag", "since": "1.12.2"},
                }
            },
            "LimitMainDicomTagsReconstructLevel": {
                "enum": ["Patient", "Study", "Series", "Instance", "All"],
                "since": "1.12.4",
            },
        },
        "since": "1.11.0",
    },
    # --- DICOM and web services --------------------------------------------------------------
    # https://orthanc.uclouvain.be/book/plugins/dicomweb.html
    "DicomWeb": {
        "library": ["OrthancDicomWeb"],
        "package": "orthanc-dicomweb",
        "keys": {
            "Enable": "flag",
            "Root": "text",
            "PublicRoot": {"kind": "text", "since": "1.8"},
            "EnableWado": "flag",
            "WadoRoot": "text",
            "Host": "text",
            "Ssl": "flag",
            "Servers": {"each": "dicomweb server"},
            "ServersInDatabase": "flag",
            "QidoCaseSensitive": "flag",
            # Still in the Book, but of a client that is gone (S).
            "StowMaxInstances": {"kind": "count", "until": "0.6"},
            "StowMaxSize": {"kind": "count", "until": "0.6"},
            "StudiesMetadata": "metadata mode",
            "SeriesMetadata": "metadata mode",
            "StudiesMetadataExtrapolatedTags": "texts",
            "SeriesMetadataExtrapolatedTags": "texts",
            "EnableMetadataCache": {"kind": "flag", "since": "1.15"},
            "EnablePerformanceLogs": {"kind": "flag", "since": "1.21"},
            "MetadataWorkerThreadsCount": {"kind": "count", "since": "1.14"},
            "WadoRsLoaderThreadsCount": {"kind": "count", "since": "1.21"},
            "OtherBinaryMode": {
                "enum": ["BulkDataURI", "InlineBinary", "ArrayOfValues"],
                "since": "1.24",
            },
        },
    },
    # https://orthanc.uclouvain.be/book/plugins/google-cloud-platform.html
    "GoogleCloudPlatform": {
        "library": ["OrthancGoogleCloudPlatform"],
        "package": "",
        "keys": {
            "Accounts": {
                "each": {
                    "keys": {
                        "Project": "text",
                        "Location": "text",
                        "Dataset": "text",
                        "DicomStore": "text",
                        "ServiceAccountFile": "text",
                        "AuthorizedUserFile": "text",
                        "AuthorizedUserClientId": "text",
                        "AuthorizedUserClientSecret": "text",
                        "AuthorizedUserRefreshToken": "text",
                    }
                }
            },
            "BaseUrl": "text",
            "Timeout": "count",
            "RefreshInterval": "count",
            "RefreshInternal": "count",  # misspelling of the first version
        },
    },
    # Two plugins share this section: the sample that comes with Orthanc, and its successor.
    # https://orthanc.uclouvain.be/book/plugins/worklists-plugin.html
    # https://orthanc.uclouvain.be/book/plugins/worklists-plugin-new.html
    "Worklists": {
        "library": ["ModalityWorklists", "OrthancWorklists"],
        "package": "orthanc",
        "keys": {
            "Enable": "flag",
            "Database": "text",
            "FilterIssuerAet": "flag",
            "LimitAnswers": "count",
        },
        "keys_of": {
            "OrthancWorklists": {
                "Directory": "text",
                # not together with a folder
                "SaveInOrthancDatabase": "flag",
                "DeleteWorklistsOnStableStudy": "flag",
                # only with SaveInOrthancDatabase
                "DeleteWorklistsDelay": "count",
                "HousekeepingInterval": "count",
                "SetStudyInstanceUidIfMissing": "flag",
                "LogMatchedWorklistIds": {"kind": "flag", "since": "0.9.3"},
            },
        },
    },
    # https://orthanc.uclouvain.be/book/plugins/multitenant-dicom.html
    "MultitenantDicom": {
        "library": ["MultitenantDicom"],
        "package": "orthanc",
        "keys": {
            "Servers": {
                "items": {
                    "keys": {
                        "AET": "text",
                        "Port": "bare port",
                        "Labels": "texts",  # AET, Port and Labels are mandatory
                        "LabelsConstraint": {"enum": ["All", "Any", "None"]},
                        "LabelsStoreLevels": {"items": "level"},
                    }
                }
            },
        },
        "since": "1.12.0",
    },
    # https://orthanc.uclouvain.be/book/plugins/transfers.html
    "Transfers": {
        "library": ["OrthancTransfers"],
        "package": "",
        "keys": {
            "Threads": "positive",
            "BucketSize": "positive",
            "CacheSize": "count",
            "MaxPushTransactions": "positive",
            "MaxHttpRetries": "count",
            "PeerConnectivityTimeout": "count",
            "PeerCommitTimeout": "count",
            "CommitThreadsCount": "positive",
        },
    },
    # https://orthanc.uclouvain.be/book/plugins/tcia.html
    "Tcia": {
        "library": ["OrthancTcia"],
        "package": "orthanc-tcia",
        "keys": {
            "Enable": "flag",
            "BaseUrl": {"kind": "text", "since": "1.3"},
        },
    },
    # https://orthanc.uclouvain.be/book/plugins/serve-folders.html
    # Long form (as soon as "Folders" is a mapping) or short form (URI: folder).  In the short
    # form every value must be a string, the long form ignores all other keys.  An error (also a
    # folder that does not exist) is only a line in the log: Orthanc starts, but without folders.
    "ServeFolders": {
        "library": ["ServeFolders"],
        "package": "orthanc",
        "anyOf": [
            {
                "keys": {
                    "Folders": {"each": "text"},
                    "AllowCache": "flag",
                    "GenerateETag": "flag",
                    "Extensions": {"each": "text"},
                }
            },
            {"each": "text"},
        ],
    },
    # --- Users -------------------------------------------------------------------------------
    # https://orthanc.uclouvain.be/book/plugins/authorization.html
    "Authorization": {
        "library": ["OrthancAuthorization"],
        "package": "orthanc-authorization",
        "keys": {
            "WebServiceRootUrl": "text",
            "WebServiceTokenDecoderUrl": "text",
            "WebServiceTokenValidationUrl": "text",
            "WebServiceTokenCreationBaseUrl": "text",
            "WebServiceUserProfileUrl": "text",
            "WebServiceSettingsRolesUrl": "text",
            "WebService": "text",
            "WebServiceIdentifier": "text",
            "WebServiceUsername": "text",
            "WebServicePassword": "text",
            "EnableAuditLogs": {"kind": "flag", "since": "0.10.0"},
            "TokenHttpHeaders": "text or texts",
            "TokenGetArguments": "text or texts",
            "UncheckedResources": "texts",
            "UncheckedFolders": "texts",
            "UncheckedLevels": {"items": "access level"},  # not together with CheckedLevel
            "CheckedLevel": "access level",
            "StandardConfigurations": {
                "items": {
                    "enum": {
                        "osimis-web-viewer": "",
                        "stone-webviewer": "",
                        "orthanc-explorer-2": "",
                        "ohif": "0.5.3",
                        "volview": "0.8.2",
                        "stl": "0.10.2",
                    }
                }
            },
            # [method, pattern, permissions] and perhaps a remark
            "Permissions": {"items": "texts"},
            "ExtraPermissions": {"items": "texts", "since": "0.10.0"},
        },
    },
    # https://orthanc.uclouvain.be/book/plugins/education.html
    "Education": {
        "library": ["OrthancEducation"],
        "package": "",
        "keys": {
            "Enabled": "flag",
            "PublicRoots": "texts",
            "ListProjectsAsLearner": "flag",
            "WholeSlideImagingDicomizer": "text",
            "OpenSlideLibrary": "text",
            "AuthenticationHttpHeader": "text",
            "MaxLoginAge": "positive",
            "SecureCookies": "flag",
            "Administrators": "education users",
            "StandardUsers": "education users",
            "LTI": {
                "keys": {
                    "Enabled": "flag",
                    "OrthancUrl": "text",
                    "PlatformUrl": "text",
                    "PlatformKeysUrl": "text",
                    "PlatformRedirectionUrl": "text",
                }
            },
        },
    },
    # https://orthanc.uclouvain.be/book/plugins/orthanc-explorer-2.html
    "OrthancExplorer2": {
        "library": ["OrthancExplorer2"],
        "package": "",
        "keys": {
            "Enable": "flag",
            "Root": "text",
            "IsDefaultOrthancUI": "flag",
            "ReplaceDefaultExplorer": "flag",
            "Theme": {"enum": ["light", "dark"]},
            "CustomCssPath": "text",
            "CustomCssVariablesPath": "text",
            "CustomLogoUrl": "text",
            "CustomLogoPath": "text",
            "CustomFavIconPath": "text",
            "CustomTitle": "text",
            # These go to the browser as they are (S); UiOptions up to release 1.14.1.
            "UiOptions": {
                "known": [
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
                ]
            },
            "Keycloak": {
                "known": [
                    "Enable",
                    "Url",
                    "Realm",
                    "ClientId",
                    "CheckLoginIframe",
                ]
            },
            "Tokens": {
                "known": [
                    "InstantLinksValidity",
                    "ShareType",
                    "RequiredForLinks",
                    "LandingOptions",
                ]
            },
            "Shares": "anything",  # version 0.x
            "PublicRoot": "anything",  # version 0.x
            "OrthancApiPublicRoot": "anything",  # version 0.x
            "AdvancedOptions": {
                "known": [
                    "DownloadInstantLinksUseRestApiWithAuthHeaders",
                    "InstantLinksReuseTokenFromUri",
                    "AdaptUiOnReadOnlySystems",
                ]
            },
            "Inbox": {
                "known": [
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
                ]
            },
            "Emails": {
                "keys": {
                    "Server": "web service",
                }
            },
        },
    },
    # --- Viewers -----------------------------------------------------------------------------
    # https://orthanc.uclouvain.be/book/plugins/webviewer.html
    # https://orthanc.uclouvain.be/book/plugins/osimis-webviewer.html (the same section name)
    "WebViewer": {
        "library": ["OrthancWebViewer", "OsimisWebViewer"],
        "package": "orthanc-webviewer",
        "keys": {},
        "keys_of": {
            "OrthancWebViewer": {
                "CachePath": "text",
                "Cache": "text",  # still read in place of CachePath
                "CacheSize": "positive",
                "Threads": "positive",
                "EnableGdcm": {"kind": "flag", "until": "2.5"},
            },
            # (S)
            "OsimisWebViewer": {
                "RestrictTransferSyntaxes": "texts",
                "AlwaysShowNotForDiagnosticUsageDisclaimer": "flag",
                "AnnotationStorageEnabled": "flag",
                "CacheEnabled": "flag",
                "CombinedToolBehaviour": "anything",
                "CombinedToolEnabled": "flag",
                "CrossHairEnabled": "flag",
                "CustomCommandEnabled": "flag",
                "CustomCommandIconClass": "text",
                "CustomCommandIconLabel": "text",
                "CustomCommandLuaCode": "text",
                "CustomOverlayProviderUrl": "text",
                "DateFormat": "text",
                "DefaultLanguage": "text",
                "DefaultSelectedTool": "text",
                "DefaultStudyIslandsDisplayMode": {"enum": ["grid", "list", "oneCol"]},
                "DisplayOverlayIcons": "flag",
                "DisplayOverlayText": "flag",
                "DocumentationUrl": "text",
                "DownloadAsJpegEnabled": "flag",
                "GdcmEnabled": "flag",
                "HighQualityImagePreloadingEnabled": "flag",
                "InstanceInfoCacheEnabled": "flag",
                "KeyImageCaptureEnabled": "flag",
                "KeyboardShortcuts": "anything",
                "KeyboardShortcutsEnabled": "flag",
                "LiveshareEnabled": "flag",
                "MouseWheelBehaviour": "anything",
                "OpenAllPatientStudies": "flag",
                "PrintEnabled": "flag",
                "ReduceTimelineHeightOnSingleFrameSeries": "flag",
                "ReferenceLinesEnabled": "flag",
                "SeriesToIgnore": "anything",
                "SeriesToIgnoreFromMetadata": "anything",
                "ShortTermCacheDebugLogsEnabled": "flag",
                "ShortTermCacheEnabled": "flag",
                "ShortTermCachePath": "text",
                "ShortTermCachePrefetchOnInstanceStored": "flag",
                "ShortTermCacheSize": "integer",
                "ShowInfoPopupAtStartup": {"enum": ["always", "never", "user"]},
                "ShowInfoPopupButtonEnabled": "flag",
                "ShowNoReportIconInSeriesList": "flag",
                "ShowStudyInformationBreadcrumb": "flag",
                "StudyDownloadEnabled": "flag",
                "SynchronizedBrowsingEnabled": "flag",
                "ToggleOverlayIconsButtonEnabled": "flag",
                "ToggleOverlayTextButtonEnabled": "flag",
                "ToolbarButtonSize": {"enum": ["small", "large"]},
                "ToolbarLayoutMode": {"enum": ["flat", "tree"]},
                "VideoDisplayEnabled": "flag",
                "WindowingBehaviour": "anything",
                "WindowingPresets": "anything",
            },
        },
    },
    # https://orthanc.uclouvain.be/book/plugins/stone-webviewer.html
    # The whole section goes to the browser as it is (S).
    "StoneWebViewer": {
        "library": ["StoneWebViewer"],
        "package": "",
        "known": [
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
        ],
    },
    # https://orthanc.uclouvain.be/book/plugins/ohif.html
    "OHIF": {
        "library": ["OrthancOHIF"],
        "package": "orthanc-ohif",
        "keys": {
            "DataSource": {"enum": ["dicom-web", "dicom-json"]},
            "RouterBasename": "text",
            "UserConfiguration": "text",
            "Preload": "flag",
        },
    },
    # https://orthanc.uclouvain.be/book/plugins/wsi.html
    "WholeSlideImaging": {
        "library": ["OrthancWSI"],
        "package": "orthanc-wsi",
        "keys": {
            "EnableIIIF": "flag",
            "OrthancPublicURL": "text",
            "ServeMirador": "flag",
            "ServeOpenSeadragon": "flag",
            "ForcePowersOfTwoScaleFactors": "flag",
            "EnableAnnotations": {"kind": "flag", "since": "4.0"},
            "EnableAnnotationsSharing": {"kind": "flag", "since": "4.0"},
            "EnableLearnerToLearnerSharing": {"kind": "flag", "since": "4.0"},
            "Instructors": {"kind": "texts", "since": "4.0"},
            "AuthenticationSource": {
                "enum": ["None", "RegisteredUsers", "HttpHeader", "Plugin"],
                "since": "4.0",
            },
            "AuthenticationHttpHeader": {"kind": "text", "since": "4.0"},
        },
        "since": "2.0",
    },
    # https://orthanc.uclouvain.be/book/plugins/stl.html
    "STL": {
        "library": ["OrthancSTL"],
        "package": "orthanc-stl",
        "keys": {
            "EnableNIfTI": "flag",
            "EnableNexus": {"kind": "flag", "since": "1.1"},
            "3DHOP": {"keys": {"CanvasStyle": "text"}, "since": "1.3"},
        },
    },
    # --- Images ------------------------------------------------------------------------------
    # https://orthanc.uclouvain.be/book/plugins/gdcm.html
    "Gdcm": {
        "library": ["OrthancGdcm"],
        "package": "orthanc-gdcm",
        "keys": {
            "Enable": "flag",
            "Throttling": "positive",
            "RestrictTransferSyntaxes": "texts",
        },
    },
    # https://orthanc.uclouvain.be/book/plugins/pixels-masker.html
    # The section is in the Book, but version 1.0 does not read it
    "PixelsMasker": {
        "library": ["OrthancPixelsMasker"],
        "package": "",
        "keys": {
            "Enable": "flag",
        },
    },
    # --- Languages ---------------------------------------------------------------------------
    # https://orthanc.uclouvain.be/book/plugins/python.html
    # PythonScript and PythonVerbose, outside of a section, are in PLUGIN_OPTIONS
    "Python": {
        "library": ["OrthancPython"],
        "package": "orthanc-python",
        "keys": {
            "Path": "text",
            "Verbose": "flag",
            "AllowThreads": {"kind": "flag", "since": "4.3"},
            "DisplayMemoryUsage": "flag",
        },
        "since": "4.1",
    },
    # https://orthanc.uclouvain.be/book/plugins/java.html
    "Java": {
        "library": ["OrthancJava"],
        "package": "",
        "keys": {
            "Enabled": "flag",
            "Classpath": "text",
            "InitializationClass": "text",
        },
    },
}

# The package of the server, after which its service, account and group are named.
SERVER = "orthanc"
# The plugins of packages, by their names on Debian and openSUSE alike. Of the server's own package
# each is there as far as its version has it, and wanted only where options ask for it.
PLUGINS = {
    "orthanc": [
        "ConnectivityChecks",
        "DelayedDeletion",
        "Housekeeper",
        "ModalityWorklists",
        "MultitenantDicom",
        "ServeFolders",
    ],
    "orthanc-dicomweb": ["OrthancDicomWeb"],
    "orthanc-gdcm": ["OrthancGdcm"],
    "orthanc-mysql": ["OrthancMySQLIndex", "OrthancMySQLStorage"],
    "orthanc-neuro": ["OrthancNeuro"],
    "orthanc-ohif": ["OrthancOHIF"],
    "orthanc-postgresql": ["OrthancPostgreSQLIndex", "OrthancPostgreSQLStorage"],
    "orthanc-python": ["OrthancPython"],
    "orthanc-stl": ["OrthancSTL"],
    "orthanc-tcia": ["OrthancTcia"],
    "orthanc-webviewer": ["OrthancWebViewer"],
    "orthanc-wsi": ["OrthancWSI"],
}
# Packages of plugins that an OS family does not have: searched in Debian 12, 13 and unstable, and
# in openSUSE:Factory.
NOT_PACKAGED = {
    "Debian": [
        "orthanc-authorization",
        "orthanc-indexer",
        "orthanc-ohif",
        "orthanc-stl",
        "orthanc-tcia",
    ]
}
# Options outside of a section that only a plugin reads
PLUGIN_OPTIONS = {
    # https://orthanc.uclouvain.be/book/plugins/python.html
    "PythonScript": {"library": ["OrthancPython"], "package": "orthanc-python", "kind": "text"},
    "PythonVerbose": {"library": ["OrthancPython"], "package": "orthanc-python", "kind": "flag"},
    # Old versions of the plugins of Orthanc itself; the mere presence of the first one counts
    "ServeFoldersNoCache": {"library": ["ServeFolders"], "package": "orthanc", "kind": "anything"},
    "WorklistsFolder": {"library": ["ModalityWorklists"], "package": "orthanc", "kind": "text"},
}

# The keys of sections that switch their plugin off.
SWITCHES = ["Enable", "Enabled", "EnableIndex", "EnableStorage"]

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
HIDDEN_OPTIONS = ["RegisteredUsers", "OrthancPeers", "DicomWeb:Servers"]
# Names, and parts of values, that say that a value is secret; case does not matter for names.
HIDDEN_KEYS = (
    r"password|secret|token|credential|privatekey|accesskey|accountkey|apikey|masterkey"
    r"|connectionstring|connectionuri|authorization|headers|:pin$"
)
HIDDEN_VALUES = r"(?:://|^)\S*:\S*@|PRIVATE KEY"

# Security suggestions of the Orthanc Book. Value: the advised-against one, or a shape of them.
ADVISED_AGAINST = {
    "HttpsVerifyPeers": [False, "HTTPS peers could be impersonated"],
    "ExecuteLuaEnabled": [True, "lets HTTP clients run Lua code on the server"],
    "RestApiWriteToFileSystemEnabled": [True, "lets HTTP clients write files on the server"],
    "WebDavEnabled": [True, "WebDAV opens a second way into the store; switch it off if unused"],
    "WebDavDeleteAllowed": [True, "lets WebDAV clients delete images"],
    "LimitFindResults": [0, "without a limit one query can occupy the server; 100 is usual"],
    "LimitFindInstances": [0, "without a limit one query can occupy the server; 100 is usual"],
    "DicomAlwaysAllowEcho": [True, "any DICOM client may probe the server"],
    "DicomAlwaysAllowStore": [True, "any DICOM client may store images"],
    "DicomAlwaysAllowFind": [True, "any DICOM client may search for patients"],
    "DicomAlwaysAllowFindWorklist": [True, "any DICOM client may read the worklists"],
    "DicomAlwaysAllowGet": [True, "any DICOM client may fetch images"],
    "DicomAlwaysAllowMove": [True, "any DICOM client may have images sent away"],
    "DicomCheckCalledAet": [False, "clients need not even know the title of the server"],
    "DicomCheckModalityHost": [False, "a modality is known by its title only, not by its address"],
    "DeidentifyLogs": [False, "patient data in the logs"],
    "DicomTlsRemoteCertificateRequired": [False, "DICOM TLS without checking the other side"],
    "SslMinimumProtocolVersion": [{"type": "integer", "minimum": 0, "maximum": 3}, "TLS below 1.2"],
    "DicomTlsMinimumProtocolVersion": [
        {"type": "integer", "minimum": 1, "maximum": 3},
        "TLS below 1.2",
    ],
}

# What is advised against together: of which option it is said, what that is (a value, or a shape),
# what others are beside it, and why. An option that is not set has its default.
ADVISED_AGAINST_TOGETHER = [
    {
        "option": "RemoteAccessAllowed",
        "is": True,
        "beside": {"SslEnabled": False},
        "why": "passwords and images go over the network in clear text, where everybody on the way"
        " can read them; switch on orthanc:https, unless a proxy with HTTPS stands in front",
    },
    {
        "option": "AuthenticationEnabled",
        "is": False,
        "beside": {"RemoteAccessAllowed": True},
        "why": "everybody who reaches this host may read and delete all images without a password",
    },
    {
        "option": "MaximumStorageSize",
        "is": {"kind": "positive"},
        "beside": {"MaximumStorageMode": "Recycle"},
        "why": "once the limit is reached, the images of the oldest patients are deleted without a"
        ' word; "MaximumStorageMode": "Reject" (from Orthanc 1.11.2) refuses new ones instead',
    },
    {
        "option": "MaximumPatientCount",
        "is": {"kind": "positive"},
        "beside": {"MaximumStorageMode": "Recycle"},
        "why": "once the limit is reached, the images of the oldest patients are deleted without a"
        ' word; "MaximumStorageMode": "Reject" (from Orthanc 1.11.2) refuses new ones instead',
    },
]
# What holds where an option is not set, also where no sample of Orthanc says so, or another (S).
DEFAULTS = {
    "Name": "",
    "Plugins": [],
    "HttpServerEnabled": True,
    "RemoteAccessAllowed": False,
    "SslEnabled": False,
    "SslMinimumProtocolVersion": 4,
    "HttpsVerifyPeers": True,
    "ExecuteLuaEnabled": False,
    "RestApiWriteToFileSystemEnabled": False,
    "WebDavEnabled": True,
    "WebDavDeleteAllowed": False,
    "DeidentifyLogs": True,
    "LimitFindResults": 0,
    "LimitFindInstances": 0,
    "MaximumStorageSize": 0,
    "MaximumPatientCount": 0,
    "MaximumStorageMode": "Recycle",
    "OverwriteInstances": False,
    "DicomServerEnabled": True,
    "DicomAlwaysAllowEcho": True,
    "DicomAlwaysAllowStore": True,
    "DicomAlwaysAllowFind": False,
    "DicomAlwaysAllowFindWorklist": False,
    "DicomAlwaysAllowGet": False,
    "DicomAlwaysAllowMove": False,
    "DicomCheckCalledAet": False,
    "DicomCheckModalityHost": False,
    "DicomTlsEnabled": False,
    "DicomTlsRemoteCertificateRequired": True,
    "DicomTlsMinimumProtocolVersion": 0,
}

# Options that changed their form: the version since which they have the new one, and pairs of old
# and new value.
NEW_FORMS = {"OverwriteInstances": ["1.13.0", [[False, "Never"], [True, "Always"]]]}

# Options that some versions, from the first to the second one, read by another name only (M).
OLD_NAMES = {"RejectedSopClasses": ["1.12.6", "1.12.7", "RejectSopClasses"]}

# What one is asked to see that it answers, by the words of the REST API: the method, what is behind
# its name, and what is sent. Of a DICOMweb server one of its studies is enough.
PINGS = {
    "modalities": ["POST", "echo", {}],
    "peers": ["GET", "system", None],
    "servers": [
        *("POST", "get"),
        {
            "Uri": "/studies",
            "Arguments": {"limit": "1"},
            "HttpHeaders": {"Accept": "application/dicom+json"},
        },
    ],
}

# The value of HttpBindAddresses that older versions can do without.
LOOPBACK = ["127.0.0.1"]

# Vulnerabilities of Orthanc itself: how each is called, the names by which the changelog of a
# package tells of its fix, the version that has it, and the older packages into which a
# distribution has put it. Read in the NEWS of 1.13.0 and in the changelogs of Debian's packages.
ADVISORIES = [
    {
        "id": "CVE-2023-33466",
        "names": ["CVE-2023-33466"],
        "what": "users of the REST API may overwrite files of the host",
        "fixed": "1.12.0",
        "packages": ["1.10.1+dfsg-2+deb12u1"],
        "source": "https://security-tracker.debian.org/tracker/CVE-2023-33466",
    },
    {
        "id": "CVE-2024-22725",
        "names": ["CVE-2024-22725"],
        "what": "a link can run a script of somebody else's in the browser of a user",
        "fixed": "1.12.2",
        "packages": [],
        "source": "https://nvd.nist.gov/vuln/detail/CVE-2024-22725",
    },
    {
        "id": "CVE-2026-5437 to CVE-2026-5445",
        "names": [
            *("CVE-2026-5437", "CVE-2026-5438", "CVE-2026-5439", "CVE-2026-5440", "CVE-2026-5441"),
            *("CVE-2026-5442", "CVE-2026-5443", "CVE-2026-5444", "CVE-2026-5445"),
        ],
        "what": "images and requests that are made for it crash Orthanc, or let it read and write"
        " memory out of bounds",
        "fixed": "1.12.11",
        "packages": ["1.12.10+dfsg-4", "1.12.10+dfsg-5"],
        "source": "https://orthanc.uclouvain.be/hg/orthanc/file/Orthanc-1.13.0/NEWS",
    },
    {
        "id": "no CVE",
        "names": [],
        "what": "the name of a file in a request gets into the headers of the answer",
        "fixed": "1.12.11",
        "packages": [],
        "source": "https://orthanc.uclouvain.be/hg/orthanc/file/Orthanc-1.13.0/NEWS",
    },
    {
        "id": "CVE-2026-10528",
        "names": ["CVE-2026-10528"],
        "what": "an image with sequences deep in each other ends Orthanc",
        "fixed": "1.13.0",
        "packages": [],
        "source": "https://orthanc.uclouvain.be/bugs/show_bug.cgi?id=258",
    },
    {
        "id": "no CVE, after CVE-2026-5437 to CVE-2026-5445",
        "names": [],
        "what": "images let Orthanc read and write memory out of bounds",
        "fixed": "1.13.0",
        "packages": [],
        "source": "https://orthanc.uclouvain.be/hg/orthanc/file/Orthanc-1.13.0/NEWS",
    },
]
