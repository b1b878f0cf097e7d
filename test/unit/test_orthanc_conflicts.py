"""Options that do not go together: what would be ignored because of another one is named."""

import orthanc_conflicts as conflicts
import orthanc_options
import orthanc_tables
import pytest
from wrong_settings import CT, FAR, ct, far

FILES = {
    name: "/c"
    for name in ("DicomTlsCertificate", "DicomTlsPrivateKey", "DicomTlsTrustedCertificates")
}
URI = {"EnableIndex": True, "ConnectionUri": "postgresql:///orthanc"}


@pytest.mark.parametrize(
    ("options", "path", "remedy"),
    [
        ({**ct(), "DicomModalitiesInDatabase": True}, "DicomModalities", "take"),
        ({**far(), "OrthancPeersInDatabase": True}, "OrthancPeers", "database"),
        (
            {"DicomWeb": {"ServersInDatabase": True, "Servers": {"a": ["http://a"]}}},
            "DicomWeb:Servers",
            "DicomWeb:ServersInDatabase",
        ),
        (ct(AllowStore=False), "DicomModalities:ct:AllowStore", "set DicomAlwaysAllowStore"),
        (ct(AllowEcho=False), "DicomModalities:ct:AllowEcho", "set DicomAlwaysAllowEcho to false"),
        (
            {**ct(AllowFind=False), "DicomAlwaysAllowFind": True},
            "DicomModalities:ct:AllowFind",
            "set DicomAlwaysAllowFind to false",
        ),
        ({"PostgreSQL": {**URI, "EnableSsl": True}}, "PostgreSQL:EnableSsl", "ConnectionUri"),
        ({"PostgreSQL": {**URI, "Password": "x"}}, "PostgreSQL:Password", "ConnectionUri"),
        ({"PostgreSQL": {"Host": "db"}}, "PostgreSQL", "EnableIndex or EnableStorage"),
        ({"Worklists": {"Database": "/w"}}, "Worklists", "Enable is true"),
        (
            {"Worklists": {"Enable": True, "Database": "/w"}, "DicomServerEnabled": False},
            "Worklists:Enable",
            "switch the DICOM server on",
        ),
        ({"SslVerifyPeers": True}, "SslVerifyPeers", "SslEnabled"),
        ({"SslTrustedClientCertificates": "/c"}, "SslTrustedClientCertificates", "SslVerifyPeers"),
        (
            {"WebDavEnabled": False, "WebDavDeleteAllowed": True},
            "WebDavDeleteAllowed",
            "WebDavEnabled",
        ),
        ({"MaximumStorageMode": "Reject"}, "MaximumStorageMode", "set MaximumStorageSize"),
        (
            {"StoreDicom": False, "PostgreSQL": {"EnableStorage": True}},
            "StoreDicom",
            "EnableStorage",
        ),
        (far(CertificateKeyFile="/k"), "OrthancPeers:far:CertificateKeyFile", "CertificateFile"),
        (ct(UseDicomTls=True), "DicomModalities:ct:UseDicomTls", "DicomTlsCertificate"),
        (
            {"DicomTlsEnabled": True, "DicomTlsTrustedCertificates": "/c"},
            "DicomTlsEnabled",
            "name the files",
        ),
        (
            {"DicomTlsEnabled": True, **FILES, "DicomTlsTrustedCertificates": ""},
            "DicomTlsEnabled",
            "name that file",
        ),
        ({"PythonScript": "/a.py", "Python": {"Path": "/b.py"}}, "Python:Path", "PythonScript"),
    ],
)
def test_what_would_be_ignored_is_named(options, path, remedy):
    ((found, sentence),) = conflicts.check(options)
    assert ":".join(found) == path
    assert remedy in sentence
    # The path is one of the tables: they do not say that it is unknown.
    assert orthanc_options.check(options) == [(found, sentence)]


@pytest.mark.parametrize(
    "options",
    [
        {"DicomModalitiesInDatabase": True, "OrthancPeersInDatabase": True},
        {"DicomModalities": {}, "DicomModalitiesInDatabase": True},
        {**ct(), "DicomModalitiesInDatabase": False},
        {**ct(AllowStore=False), "DicomAlwaysAllowStore": False},
        ct(AllowStore=True, AllowFind=False),
        {**ct(UseDicomTls=True), **FILES},
        {"DicomTlsEnabled": True, **FILES},
        {
            "DicomTlsEnabled": True,
            **FILES,
            "DicomTlsTrustedCertificates": "",
            "DicomTlsRemoteCertificateRequired": False,
        },
        {"SslVerifyPeers": True, "SslEnabled": True, "SslTrustedClientCertificates": "/c"},
        {"SslVerifyPeers": False, "SslTrustedClientCertificates": "/c"},
        {"MaximumStorageMode": "Reject", "MaximumPatientCount": 5},
        {"PostgreSQL": {"EnableIndex": False, "EnableStorage": False, "Host": "db"}},
        {"PostgreSQL": {**URI, "Lock": False}},
        {"Worklists": {"Enable": False, "Database": "/w"}},
        {"StoreDicom": False, "PostgreSQL": {"EnableStorage": False}},
        far(CertificateFile="/c", CertificateKeyFile="/k"),
        {"WebDavEnabled": True, "WebDavDeleteAllowed": True},
    ],
)
def test_what_goes_together_passes(options):
    assert conflicts.check(options) == []


def test_each_modality_is_told_by_its_name():
    entries = {"a": {**CT, "AllowStore": False}, "b": CT, "c": {**CT, "AllowEcho": False}}
    found = conflicts.check({"DicomModalities": entries, "OrthancPeers": {"p": FAR}})
    assert [":".join(path[1:]) for path, _ in found] == ["c:AllowEcho", "a:AllowStore"]


def test_the_tables_speak_of_known_options():
    known = {
        **orthanc_tables.OPTIONS,
        **orthanc_tables.SECTIONS,
        **orthanc_tables.PLUGIN_OPTIONS,
    }
    rows = [*conflicts.IGNORED, *conflicts.LACKING]
    assert len(rows) > 25
    for row in rows:
        others = [o for needs in row.needs for o in ((needs,) if isinstance(needs, str) else needs)]
        assert {path.split(":")[0] for path in (row.path, *others)} <= set(known)
    assert {option for settings, *_ in conflicts.REFUSED for option in settings} <= set(known)
