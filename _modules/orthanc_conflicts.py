"""
Options that do not go together: what Orthanc refuses, and what it ignores without a word because
of another option.

https://orthanc.uclouvain.be/book/users/configuration.html
"""

from __future__ import annotations

import re
from collections import namedtuple

# A value that is not empty, false or 0.
SOMETHING = object()

# What Orthanc refuses together (M): ({option: value, ...}, first release, reason).
REFUSED = [
    *(
        (
            {
                "DicomTlsEnabled": True,
                "DicomTlsTrustedCertificates": trusted,
                "DicomTlsRemoteCertificateRequired": required,
            },
            "",
            "Orthanc does not start without DicomTlsTrustedCertificates, by which it knows the"
            " other side; name that file, or set DicomTlsRemoteCertificateRequired to false",
        )
        for trusted in (None, "")
        for required in (None, True)
    ),
    (
        {"CheckRevisions": True, "StoreMD5ForAttachments": False},
        "",
        "revisions need StoreMD5ForAttachments",
    ),
    (
        {"OverwriteInstances": "IfChanged", "StoreMD5ForAttachments": False},
        "1.13.0",
        '"IfChanged" compares MD5 sums, so it needs StoreMD5ForAttachments',
    ),
    (
        {"PatientLevelEnabled": False, "MaximumStorageSize": SOMETHING},
        "1.12.11",
        "recycling works on patients, so it needs PatientLevelEnabled",
    ),
    (
        {"PatientLevelEnabled": False, "MaximumPatientCount": SOMETHING},
        "1.12.11",
        "recycling works on patients, so it needs PatientLevelEnabled",
    ),
]

# An option (``path``, with * for any name) that has no effect with the value ``given`` unless each
# of the options in ``needs`` has one of its values there, None where it is not given. Of several
# options in a tuple, one is enough.
Effect = namedtuple("Effect", "path given needs sentence")
OFF, ON = (None, False), (None, True)
KEPT = "; or set orthanc:modalities_in_database, which puts them there"


def _allowed_anyway(right: str, default: tuple) -> Effect:
    """Return the row of a right of one modality that everybody has."""
    always = f"DicomAlwaysAllow{right}"
    return Effect(
        f"DicomModalities:*:Allow{right}",
        False,
        {always: default},
        f"{always} is {'not false' if default == (False,) else 'true'}, which allows it to"
        f" everybody; set {always} to false",
    )


def _in_database(option: str, switch: str, what: str, other: str = "") -> Effect:
    return Effect(
        option,
        SOMETHING,
        {switch: OFF},
        f"{switch} is true, and Orthanc takes its {what} from its database then; take {switch} out,"
        f" or these {what}{other}",
    )


def _uri_wins(key: str) -> Effect:
    return Effect(
        f"PostgreSQL:{key}",
        SOMETHING,
        {"PostgreSQL:ConnectionUri": (None, "")},
        "ConnectionUri says how to connect; put it into that, or use the keys of"
        " orthanc:postgresql, and take it out here",
    )


def _switch(section: str, *switches: str) -> Effect:
    """Return the row of a section that asks for nothing while its switches are not written."""
    return Effect(
        section,
        SOMETHING,
        {tuple(f"{section}:{switch}" for switch in switches): (True, False)},
        f"the plugin is off unless {' or '.join(switches)} is true; write it there, true or false",
    )


# Sources: Orthanc's own (OrthancConfiguration, main), its plugins' and the Orthanc Book.
IGNORED = [
    _in_database("DicomModalities", "DicomModalitiesInDatabase", "modalities", KEPT),
    _in_database("OrthancPeers", "OrthancPeersInDatabase", "peers", KEPT),
    _in_database("DicomWeb:Servers", "DicomWeb:ServersInDatabase", "servers"),
    # These are asked before the modality is looked up.
    _allowed_anyway("Echo", (False,)),
    _allowed_anyway("Store", (False,)),
    *(_allowed_anyway(right, OFF) for right in ("Find", "FindWorklist", "Get", "Move")),
    *map(_uri_wins, ("Host", "Port", "Database", "Username", "Password", "EnableSsl")),
    _switch("PostgreSQL", "EnableIndex", "EnableStorage"),
    _switch("MySQL", "EnableIndex", "EnableStorage"),
    _switch("Odbc", "EnableIndex", "EnableStorage"),
    _switch("Worklists", "Enable"),
    _switch("Indexer", "Enable"),
    _switch("Housekeeper", "Enable"),
    Effect(
        "Worklists:Enable",
        True,
        {"DicomServerEnabled": ON},
        "worklists are asked for over DICOM, and DicomServerEnabled is false; switch the DICOM"
        " server on, or the worklists off",
    ),
    Effect(
        "SslVerifyPeers",
        True,
        {"SslEnabled": (True,)},
        "Orthanc does not speak HTTPS itself (SslEnabled), so it asks nobody for a certificate; let"
        " what is in front of it do so, and take it out",
    ),
    Effect(
        "SslTrustedClientCertificates",
        SOMETHING,
        {"SslVerifyPeers": (True, False)},
        "nobody is asked for a certificate unless SslVerifyPeers is true; write that too",
    ),
    Effect(
        "WebDavDeleteAllowed",
        True,
        {"WebDavEnabled": ON},
        "WebDavEnabled is false; set it to true, or take this out",
    ),
    Effect(
        "MaximumStorageMode",
        "Reject",
        {("MaximumStorageSize", "MaximumPatientCount"): (SOMETHING,)},
        "there is no limit at which to reject; set MaximumStorageSize or MaximumPatientCount",
    ),
    Effect(
        "StoreDicom",
        False,
        {
            "PostgreSQL:EnableStorage": OFF,
            "MySQL:EnableStorage": OFF,
            "Odbc:EnableStorage": OFF,
        },
        "the database keeps the images (EnableStorage), whatever it says; take one of them out",
    ),
    Effect(
        "Python:Path",
        SOMETHING,
        {"PythonScript": (None,)},
        "PythonScript names the script already; take one of the two out",
    ),
    Effect(
        "WebViewer:Cache",
        SOMETHING,
        {"WebViewer:CachePath": (None,)},
        "CachePath says it already; take one of the two out",
    ),
    Effect(
        "AdvancedStorage:Indexer:SkippedExtensions",
        SOMETHING,
        {"AdvancedStorage:Indexer:ParsedExtensions": (None, [])},
        "ParsedExtensions says which to take; take one of the two out",
    ),
    Effect(
        "OrthancPeers:*:CertificateKeyFile",
        SOMETHING,
        {"OrthancPeers:*:CertificateFile": (SOMETHING,)},
        "CertificateFile is missing; name the certificate that the key belongs to",
    ),
    Effect(
        "DicomWeb:Servers:*:CertificateKeyFile",
        SOMETHING,
        {"DicomWeb:Servers:*:CertificateFile": (SOMETHING,)},
        "CertificateFile is missing; name the certificate that the key belongs to",
    ),
]

# The same of what does not work then.
LACKING = [
    Effect(
        "DicomModalities:*:UseDicomTls",
        True,
        {"DicomTlsCertificate": (SOMETHING,), "DicomTlsPrivateKey": (SOMETHING,)},
        "Orthanc has no certificate to show (DicomTlsCertificate, DicomTlsPrivateKey), and every"
        " connection to this modality would fail; give it one",
    ),
    Effect(
        "DicomTlsEnabled",
        True,
        {"DicomTlsCertificate": (SOMETHING,), "DicomTlsPrivateKey": (SOMETHING,)},
        "Orthanc does not start without DicomTlsCertificate and DicomTlsPrivateKey; name the files",
    ),
]


def check(options, version=None):
    """
    Part of the formula. Return which options do not go together, as a list of pairs: the path of
    one of them, as a list of names, and a sentence with what to do.

    options
        A mapping from option name to value.

    version
        The version of Orthanc that has to take them; None for the newest.
    """
    here = _numbers(version or "9999")
    refused = [
        ([next(iter(settings))], reason)
        for settings, since, reason in REFUSED
        if here >= _numbers(since) and all(_is(options.get(o), v) for o, v in settings.items())
    ]
    ignored = [
        (path, f"would be ignored: {why}") for path, why in _without_effect(options, IGNORED)
    ]
    return refused + ignored + _without_effect(options, LACKING)


def _without_effect(options: dict, table: list) -> list:
    """Return path and sentence of each row of a table that the options fit."""
    rows = []
    for effect in table:
        names = effect.path.split(":")
        for path, value in __salt__["orthanc_paths.found"](options, effect.path):
            if not _is(value, effect.given):
                continue
            met = [
                any(_has(options, _bound(other, names, path), wanted) for other in others)
                for others, wanted in _by_tuple(effect.needs)
            ]
            if not all(met):
                rows.append((path, effect.sentence))
    return rows


def _by_tuple(needs: dict) -> list:
    """Return the options that are needed, each among those that can stand for it."""
    return [((key,) if isinstance(key, str) else key, wanted) for key, wanted in needs.items()]


def _bound(pattern: str, names: list, path: list) -> str:
    """Return a pattern with the names of a path in the place of each * that both begin with."""
    parts = pattern.split(":")
    for number, (part, name) in enumerate(zip(parts, names)):
        if part == "*" and name == "*":
            parts[number] = path[number]
    return ":".join(parts)


def _has(options: dict, place: str, wanted: tuple) -> bool:
    """Return whether an option has one of some values."""
    found = [value for _, value in __salt__["orthanc_paths.found"](options, place)] or [None]
    return any(_is(found[0], value) for value in wanted)


def _is(value, wanted) -> bool:
    if wanted is SOMETHING:
        return bool(value)
    return value == wanted and type(value) is type(wanted)


def _numbers(version: str) -> tuple:
    return tuple(int(number) for number in re.findall(r"\d+", version))
