"""What a site is held against: each point passes, fails, or does not apply."""

import json

import orthanc_audit
import orthanc_tables as tables
import pytest
from hypothesis import given
from hypothesis import strategies as st

SAFE = {
    **tables.DEFAULTS,
    **{"AuthenticationEnabled": True, "RegisteredUsers": {"anna": "x"}},
    **{"LimitFindResults": 100, "LimitFindInstances": 100, "WebDavEnabled": False},
    **{"DicomAlwaysAllowEcho": False, "DicomAlwaysAllowStore": False},
    **{"DicomCheckCalledAet": True, "DicomCheckModalityHost": True},
    "OrthancPeers": {"far": {"Url": "https://x/"}},
}
SITE = {
    **{"config": "/etc/orthanc", "options": SAFE, "version": "1.13.0", "filtered": True},
    **{"remote": True, "https": True, "has_secrets": True, "database": []},
    "secrets": {"failed": [], "known": [], "weak": []},
}
ASKED = {"open": False, "default": False, "remote": True}
PROCESS = {"root": False, "unit": {"NoNewPrivileges": "yes", "ProtectSystem": "strict"}}
PACKAGE = {"version": "1.13.0", "package": "1.13.0-1", "fixes": []}
FILES = {"open": [], "writable": [], "plugins": ["/p/x.so"], "plugin_folders": []}
SOUND = {"site": SITE, "asked": ASKED, "process": PROCESS, "package": PACKAGE, "files": FILES}


def judge(changed=(), options=()):
    """Return what is said of a sound site, but for what is changed of its answers."""
    answers = {name: {**found, **dict(changed).get(name, {})} for name, found in SOUND.items()}
    answers["site"]["options"] = {**answers["site"]["options"], **dict(options)}
    return orthanc_audit.judge({name: {"found": found} for name, found in answers.items()})


def result(found, point):
    """Return what a point came to."""
    (name,) = (name for name, points in found.items() if point in points)
    return name


def test_a_sound_site_fails_in_nothing():
    found = judge()
    assert found["fail"] == {}
    assert list(found) == ["fail", "not applicable", "pass"]


SECRET = {"failed": [], "known": [[["RegisteredUsers", "anna"], "everybody knows it"]], "weak": []}
WEAK = {"failed": [], "known": [], "weak": [[["RegisteredUsers", "anna"], "is short"]]}
DEBIAN_12 = {
    **{"version": "1.10.1", "package": "1.10.1+dfsg-2+deb12u1"},
    "fixes": ["CVE-2023-33466"],
}


@pytest.mark.parametrize(
    ("point", "changed", "options", "words"),
    [
        ("account", {"process": {"root": True}}, {}, "as root"),
        (
            "hardening",
            {"process": {"unit": {"NoNewPrivileges": "no", "ProtectSystem": "full"}}},
            {},
            "ProtectSystem=full",
        ),
        ("authentication", {}, {"AuthenticationEnabled": False}, "without a password"),
        ("asked without a password", {"asked": {"open": True}}, {}, "without a password"),
        ("account orthanc", {"asked": {"default": True}}, {}, "orthanc"),
        ("known passwords", {"site": {"secrets": SECRET}}, {}, "RegisteredUsers:anna: everybody"),
        (
            "known passwords",
            {"site": {"secrets": {**SECRET, "known": [], "failed": SECRET["known"]}}},
            {},
            "RegisteredUsers:anna",
        ),
        ("weak passwords", {"site": {"secrets": WEAK}}, {}, "RegisteredUsers:anna: is short"),
        ("roles", {"site": {"filtered": False}}, {}, "each user may do everything"),
        (
            "colons",
            {"site": {"version": "1.12.9"}},
            {"RegisteredUsers": {"a:b": "x"}},
            "the user a:b",
        ),
        ("clear text", {"site": {"https": False}}, {}, "clear text"),
        ("other servers", {}, {"OrthancPeers": {"x": {"Url": "http://x/"}}}, "peer x"),
        ("other servers", {}, {"OrthancPeers": {"x": ["HTTP://192.0.2.1/", "u", "p"]}}, "peer x"),
        ("other servers", {}, {"DicomWeb": {"Servers": {"x": ["http://x/"]}}}, "DICOMweb server x"),
        ("other servers", {}, {"DicomWeb": {"Servers": {"x": {"Url": "http://x/"}}}}, "server x"),
        ("database", {"site": {"database": ["is not verified"]}}, {}, "is not verified"),
        ("deleted for room", {}, {"MaximumStorageSize": 1}, "oldest patients"),
        ("deleted for room", {}, {"MaximumPatientCount": 1}, "MaximumPatientCount"),
        ("replaced images", {}, {"OverwriteInstances": True}, "sent again"),
        ("replaced images", {}, {"OverwriteInstances": "Always"}, "sent again"),
        ("replaced images", {}, {"OverwriteInstances": "IfChanged"}, "sent again"),
        ("cloud", {}, {"AwsS3Storage": {"BucketName": "x"}}, "AwsS3Storage"),
        ("cloud", {}, {"AwsS3Storage": {"StorageEncryption": {"Enable": False}}}, "AwsS3Storage"),
        ("files", {"files": {"open": ["/srv/images"]}}, {}, "/srv/images"),
        ("configuration", {"files": {"writable": ["/srv/x.lua"]}}, {}, "/srv/x.lua"),
        ("plugins", {"files": {"plugin_folders": ["/srv/p"]}}, {}, "/srv/p: each plugin"),
        ("vulnerabilities", {"package": DEBIAN_12}, {}, "CVE-2026-5437"),
    ],
)
def test_a_point_fails(point, changed, options, words):
    found = judge(changed, options)
    assert words in " ".join(found["fail"][point]["why"])
    assert found["fail"][point]["pillar"]
    # Nothing else becomes wrong by it, and no secret is shown.
    assert {*found["fail"]} - {point} <= {"asked without a password", "authentication"}
    assert "u:p" not in json.dumps(found)


@pytest.mark.parametrize(
    ("point", "changed", "options"),
    [
        ("hardening", {"process": {"unit": None}}, {}),
        ("authentication", {"site": {"remote": False}}, {"AuthenticationEnabled": False}),
        ("clear text", {"site": {"remote": False, "https": False}}, {}),
        ("known passwords", {"site": {"has_secrets": False}}, {}),
        ("weak passwords", {"site": {"has_secrets": False}}, {}),
        ("roles", {"site": {"filtered": False}}, {"RegisteredUsers": {}}),
        ("colons", {"site": {"version": "1.12.10"}}, {}),
        ("other servers", {}, {"OrthancPeers": {}}),
        ("database", {"site": {"database": None}}, {}),
        ("cloud", {}, {}),
        ("DICOM", {}, {}),
        ("DICOM over TLS", {}, {}),
        ("vulnerabilities", {"package": {"version": None}}, {}),
        ("DicomTlsRemoteCertificateRequired", {}, {"DicomTlsRemoteCertificateRequired": False}),
        ("DicomAlwaysAllowStore", {}, {"DicomServerEnabled": False, "DicomAlwaysAllowStore": True}),
        ("SslMinimumProtocolVersion", {}, {"SslMinimumProtocolVersion": 0}),
        ("WebDavDeleteAllowed", {}, {"WebDavDeleteAllowed": True}),
        ("plugins", {"files": {"plugins": None}}, {}),
        ("firewall", {}, {}),
    ],
)
def test_a_point_does_not_apply(point, changed, options):
    found = judge(changed, options)
    assert found["not applicable"][point]
    assert point not in {**found["fail"], **found["pass"]}


@pytest.mark.parametrize(
    ("point", "changed", "options"),
    [
        ("asked without a password", {"asked": {"open": True, "remote": False}}, {}),
        ("roles", {}, {}),
        ("colons", {"site": {"version": "1.12.9"}}, {}),
        ("other servers", {}, {"OrthancPeers": {"x": ["http://127.0.0.1:8043/"]}}),
        ("deleted for room", {}, {"MaximumStorageSize": 9, "MaximumStorageMode": "Reject"}),
        ("replaced images", {}, {"OverwriteInstances": "Never"}),
        ("cloud", {}, {"AwsS3Storage": {"StorageEncryption": {"Enable": True}}}),
        ("DICOM", {}, {"DicomServerEnabled": False}),
        ("DICOM over TLS", {}, {"DicomTlsEnabled": True, "DicomTlsMinimumProtocolVersion": 4}),
        ("vulnerabilities", {"package": {"version": "1.14.0"}}, {}),
    ],
)
def test_a_point_passes(point, changed, options):
    found = judge(changed, options)
    assert result(found, point) == "pass"
    assert found["fail"] == {}


@pytest.mark.parametrize(
    ("point", "site", "options", "line"),
    [
        (
            "deleted for room",
            {"version": "1.10.1"},
            {"MaximumStorageSize": 9, "MaximumPatientCount": 9},
            "orthanc:config:MaximumStorageSize: 0, orthanc:config:MaximumPatientCount: 0",
        ),
        (
            "deleted for room",
            {"version": "1.11.2"},
            {"MaximumStorageSize": 9},
            "orthanc:config:MaximumStorageMode: Reject",
        ),
        (
            "weak passwords",
            {"secrets": {**WEAK, "weak": [[["OrthancPeers", "far", "Password"], "is short"]]}},
            {},
            "orthanc:peers:far:Password: ...",
        ),
        (
            "known passwords",
            {
                "secrets": {
                    "failed": [[["PostgreSQL", "Password"], "x"], [["DicomWeb", "Servers"], "x"]],
                    "known": SECRET["known"],
                    "weak": [],
                }
            },
            {},
            "orthanc:postgresql:password: ..., orthanc:config:DicomWeb:Servers: ...,"
            " orthanc:users:anna:password: ...",
        ),
    ],
)
def test_the_line_mends_it_on_the_installed_version(point, site, options, line):
    assert judge({"site": site}, options)["fail"][point]["pillar"] == line


@pytest.mark.parametrize("option", tables.ADVISED_AGAINST)
def test_each_option_that_is_advised_against_is_a_point(option):
    unsafe, reason = tables.ADVISED_AGAINST[option]
    value = unsafe["minimum"] if isinstance(unsafe, dict) else unsafe
    switches = {"DicomTlsEnabled": True, "SslEnabled": True, "WebDavEnabled": True}
    found = judge(options={**switches, option: value})["fail"][option]
    assert reason in found["why"][0]
    assert found["pillar"].startswith("orthanc:")
    # What the line says mends it.
    key, _, text = found["pillar"].rpartition(": ")
    if key.startswith("orthanc:config:"):
        mended = judge(options={**switches, option: json.loads(text)})
        assert result(mended, option) in ("pass", "not applicable")


@pytest.mark.parametrize("needed", SOUND)
def test_what_is_not_known_is_not_judged(needed):
    points = {name for name, point in orthanc_audit.POINTS.items() if point.needs == needed}
    assert points
    answers = {name: {"found": found} for name, found in SOUND.items()}
    for answer, words in (({"error": "it hangs"}, "it hangs"), (None, "no answer in time")):
        given = {**answers, needed: answer}
        if answer is None:
            del given[needed]
        found = orthanc_audit.judge(given)
        assert all(words in found["not applicable"][point] for point in points)
        assert found["fail"] == {}


ANYTHING = st.none() | st.integers(0, 9) | st.lists(st.just("x")) | st.just({"x": ["y"]})
MIXED = st.dictionaries(st.sampled_from([*SAFE, "DicomWeb", *orthanc_audit.CLOUDS]), ANYTHING)


@given(MIXED)
def test_each_point_has_one_result_whatever_the_options_hold(options):
    found = judge(options=options)
    points = [name for result in found.values() for name in result]
    assert len(points) == len(set(points))
    assert {*orthanc_audit.POINTS, *tables.ADVISED_AGAINST, *orthanc_audit.NOT_JUDGED} == set(
        points
    )


def fixed(version, package=None, fixes=()):
    """Return which vulnerabilities such a package has, by their rows."""
    package = {"version": version, "package": package, "fixes": list(fixes)}
    return [r["fixed"] for r in tables.ADVISORIES if not orthanc_audit._is_fixed(r, package)]


def test_a_vulnerability_is_fixed_by_the_version_or_by_a_distribution():
    assert fixed("1.13.0") == fixed("1.14.1") == []
    assert set(fixed("1.12.11")) == {"1.13.0"}
    assert set(fixed("1.12.7", "1.12.7+dfsg-4")) == {"1.12.11", "1.13.0"}
    assert "1.12.0" in fixed("1.10.1", "1.10.1+dfsg-2")
    # Debian's package of the same version has it, and says so in its changelog.
    assert "1.12.0" not in fixed("1.10.1", "1.10.1+dfsg-2+deb12u1")
    assert "1.12.0" not in fixed("1.10.1", "1.10.1+dfsg-2+deb12u9", ["CVE-2023-33466"])
    # Of nine, all have to be named.
    nine = [f"CVE-2026-{number}" for number in range(5437, 5446)]
    assert fixed("1.12.7", None, nine).count("1.12.11") == 1
    assert fixed("1.12.7", None, nine[1:]).count("1.12.11") == 2


def test_each_vulnerability_has_a_source():
    for row in tables.ADVISORIES:
        assert row["source"].startswith("https://")
        assert all(name.startswith("CVE-") for name in row["names"])
        assert row["names"] or "no CVE" in row["id"]
