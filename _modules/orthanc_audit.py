"""
What a running site is held against: the points of the Orthanc Book's page on security, and more.

Data and pure functions, parts of the formula; :py:mod:`orthanc_security` asks for the answers.

https://orthanc.uclouvain.be/book/faq/security.html
"""

from __future__ import annotations

import json
import urllib.parse
from typing import Callable, NamedTuple

# The results, in the order of their names.
FAIL, ABSENT, PASS = "fail", "not applicable", "pass"
LOCAL = ("localhost", "127.0.0.1", "::1")
# Of an option that is advised against, when it matters; by how its name begins, the longest first.
MATTERS = {
    "DicomTls": ("DicomServerEnabled", "DicomTlsEnabled"),
    "Dicom": ("DicomServerEnabled",),
    "Ssl": ("SslEnabled",),
    "WebDavDelete": ("WebDavEnabled",),
    "": (),
}
# The line of the pillar for one of them that has a setting of its own, and no opposite.
LINES = {
    **{
        f"DicomAlwaysAllow{right}": "dicom:unknown: []"
        for right in ("Echo", "Store", "Find", "FindWorklist", "Get", "Move")
    },
    **dict.fromkeys(("LimitFindResults", "LimitFindInstances"), "limit_find: 100"),
    "DeidentifyLogs": "deidentify_logs: true",
    "DicomCheckModalityHost": "dicom:check_modality_host: true",
    "DicomTlsRemoteCertificateRequired": "dicom:tls:require_certificate: true",
    "DicomTlsMinimumProtocolVersion": "config:DicomTlsMinimumProtocolVersion: 4",
    "SslMinimumProtocolVersion": "config:SslMinimumProtocolVersion: 4",
}
# Where options with secrets stand in the pillar, and what comes behind the names there.
SETTINGS = {
    "RegisteredUsers": ("users", ("password",)),
    "OrthancPeers": ("peers", ()),
    "PostgreSQL": ("postgresql", ()),
}
# Storages of somebody else's.
CLOUDS = ("AwsS3Storage", "AzureBlobStorage", "GoogleCloudStorage")
LIMITS = ("MaximumStorageSize", "MaximumPatientCount")
# What a unit has to say for it to be hardened.
HARDENED = {"NoNewPrivileges": "yes", "ProtectSystem": "strict"}
ALL = "everybody who reaches this host may read and delete all images without a password"


class Point(NamedTuple):
    """One thing that a site is held against."""

    needs: str  # which answer it is judged by
    # What is wrong, a list of sentences, by that answer; None where there is nothing to judge.
    check: Callable
    good: str  # what is said where nothing is wrong
    absent: str  # and where there is nothing to judge
    pillar: str | Callable  # the line of the pillar that mends it, or what it is by that answer


def judge(answers):
    """
    Part of the formula. Return what of a site is right, and what is not: by ``fail``, ``not
    applicable`` and ``pass``, mappings from the name of a point. One that fails has ``why``, a list
    of sentences, and the line of the ``pillar`` that mends it; the others a sentence.

    answers
        What ``orthanc_inquiry.ask`` returned.
    """
    found: dict = {FAIL: {}, ABSENT: dict(NOT_JUDGED), PASS: {}}
    for name, point in {**POINTS, **_of_options()}.items():
        answer = answers.get(point.needs, {"error": "there is no answer in time"})
        if "error" in answer:
            found[ABSENT][name] = f"it is not known: {answer['error']}"
            continue
        wrong = None if answer["found"] is None else point.check(answer["found"])
        if wrong:
            line = point.pillar(answer["found"]) if callable(point.pillar) else point.pillar
            found[FAIL][name] = {"why": wrong, "pillar": line}
        elif wrong is None:
            found[ABSENT][name] = point.absent
        else:
            found[PASS][name] = point.good
    return {result: dict(sorted(points.items())) for result, points in found.items()}


def _of_options() -> dict:
    """Return the points that are one option, which the tables advise against."""
    found = {}
    for option, (unsafe, reason) in __salt__["orthanc_tables.get"]("ADVISED_AGAINST").items():
        begin = next(word for word in MATTERS if option.startswith(word))
        line = LINES.get(option) or f"config:{option}: {json.dumps(not unsafe)}"
        absent = f"this Orthanc has none, or {' or '.join(MATTERS[begin]) or 'it'} is off"

        def check(site, option=option, unsafe=unsafe, reason=reason, begin=begin):
            options = site["options"]
            if not all(options.get(other) for other in MATTERS[begin]) or option not in options:
                return None
            shown = json.dumps(options[option])
            return [f"{option} is {shown}: {reason}"] if _is(options[option], unsafe) else []

        good = f"{option} is as advised"
        found[option] = Point("site", check, good, absent, f"orthanc:{line}")
    return found


def _is(value, unsafe) -> bool:
    if isinstance(unsafe, dict):
        kinds = __salt__["orthanc_tables.get"]("KINDS")
        return __salt__["orthanc_shapes.fits"](value, unsafe, kinds)
    return value == unsafe and type(value) is type(unsafe)


def _account(process) -> list:
    return ["Orthanc runs as root"] if process["root"] else []


def _hardening(process) -> list | None:
    unit = process["unit"]
    return unit and [
        f"the unit has {row}={unit.get(row)} and not {good}"
        for row, good in HARDENED.items()
        if unit.get(row) != good
    ]


def _authentication(site) -> list | None:
    if not site["remote"]:
        return None
    return [] if site["options"].get("AuthenticationEnabled") else [ALL]


def _unasked(asked) -> list | None:
    return [ALL] if asked["open"] and asked["remote"] else []


def _default_account(asked) -> list:
    name = "the account orthanc with the password orthanc, which everybody knows, gets in"
    return [name] if asked["default"] else []


def _passwords(site) -> list | None:
    secrets = site["secrets"]
    return _listed(secrets["failed"] + secrets["known"]) if site["has_secrets"] else None


def _line_of_secrets(*kinds) -> Callable:
    """Return what gives the places in the pillar of the secrets of these kinds."""

    def line(site) -> str:
        pairs = [pair for kind in kinds for pair in site["secrets"][kind]]
        return ", ".join(dict.fromkeys(f"{_place(path)}: ..." for path, _ in pairs))

    return line


def _place(path: list) -> str:
    """Return where a secret stands in the pillar."""
    option, *names = map(str, path)
    setting, behind = SETTINGS.get(option, (f"config:{option}", ()))
    names = ["uri" if name == "ConnectionUri" else name for name in names]
    names = [name.lower() for name in names] if setting == "postgresql" else names
    return ":".join(["orthanc", setting, *names, *behind])


def _weak(site) -> list | None:
    return _listed(site["secrets"]["weak"]) if site["has_secrets"] else None


def _listed(pairs) -> list:
    return [f"{':'.join(path)}: {sentence}" for path, sentence in pairs]


def _clear_text(site) -> list | None:
    if not site["remote"]:
        return None
    sentence = "passwords and images go over the network in clear text"
    return [] if site["https"] else [sentence]


def _servers(site) -> list | None:
    servers = {
        **{f"peer {name}": one for name, one in _in(site, "OrthancPeers").items()},
        **{f"DICOMweb server {n}": one for n, one in _in(site, "DicomWeb", "Servers").items()},
    }
    wrong = [name for name, server in servers.items() if _is_clear(_url(server))]
    sentence = "gets the password and the images in clear text"
    return [f"{name} {sentence}" for name in wrong] if servers else None


def _in(site, *names) -> dict:
    """Return the mapping at a path of the options; an empty one where there is none."""
    value = site["options"]
    for name in names:
        value = value.get(name)
        value = value if isinstance(value, dict) else {}
    return value


def _url(server) -> str:
    if isinstance(server, dict):
        return str(server.get("Url") or server.get("url") or "")
    return str(server[0]) if isinstance(server, list) and server else str(server)


def _is_clear(url: str) -> bool:
    try:
        parts = urllib.parse.urlsplit(url)
        return parts.scheme.lower() == "http" and parts.hostname not in LOCAL
    except ValueError:
        return False


def _roles(site) -> list | None:
    users = _in(site, "RegisteredUsers")
    sentence = "each user may do everything: delete, send images away, change what Orthanc does"
    return ([] if site["filtered"] else [sentence]) if users else None


def _colons(site) -> list | None:
    """Up to 1.12.9, a filter sees of such a name what stands before the colon (M)."""
    users = _in(site, "RegisteredUsers")
    wrong = [name for name in users if ":" in name]
    old = __salt__["orthanc_shapes.is_before"](site["version"] or "0", "1.12.10")
    sentence = "counts for the roles as the user whose name stands before the colon"
    return [f"the user {name} {sentence}" for name in wrong] if users and old else None


def _recycled(site) -> list:
    options = site["options"]
    limits = [o for o in LIMITS if options.get(o)]
    sentence = "is reached, the images of the oldest patients are deleted without a word"
    if options.get("MaximumStorageMode") != "Recycle":
        return []
    return [f"once {option} {sentence}" for option in limits]


def _room(site) -> str:
    """Up to 1.11.1, Orthanc knows no other way than to delete."""
    if not __salt__["orthanc_shapes.is_before"](site["version"] or "0", "1.11.2"):
        return "orthanc:config:MaximumStorageMode: Reject"
    limits = [o for o in LIMITS if site["options"].get(o)]
    return ", ".join(f"orthanc:config:{option}: 0" for option in limits)


def _overwritten(site) -> list:
    value = site["options"].get("OverwriteInstances")
    sentence = "an image that is sent again takes the place of the one that is there"
    return [] if value in (False, "Never") else [sentence]


def _database(site) -> list | None:
    return site["database"]


def _cloud(site) -> list | None:
    sections = [name for name in CLOUDS if _in(site, name)]
    wrong = [name for name in sections if not _in(site, name, "StorageEncryption").get("Enable")]
    return [f"{name} gets the images as they are" for name in wrong] if sections else None


def _dicom(site) -> list | None:
    return None if site["options"].get("DicomServerEnabled") else []


def _dicom_tls(site) -> list | None:
    options = site["options"]
    return [] if options.get("DicomServerEnabled") and options.get("DicomTlsEnabled") else None


def _plugins(files) -> list | None:
    """What is in a folder is loaded, asked for or not, with the routes that it brings."""
    sentence = "each plugin in it is loaded, with all that it lets others do"
    return files["plugins"] and [f"{path}: {sentence}" for path in files["plugin_folders"]]


def _open_files(files) -> list:
    return [f"every account of this host gets into {path}" for path in files["open"]]


def _own_files(files) -> list:
    return [f"Orthanc itself, or everybody, may change {path}" for path in files["writable"]]


def _vulnerabilities(package) -> list | None:
    if not package["version"]:
        return None
    return [
        f"{row['id']}: {row['what']} (fixed in {row['fixed']}; {row['source']})"
        for row in __salt__["orthanc_tables.get"]("ADVISORIES")
        if not _is_fixed(row, package)
    ]


def _is_fixed(row: dict, package: dict) -> bool:
    """Return whether this version has the fix, or a distribution has put it into its package."""
    if not __salt__["orthanc_shapes.is_before"](package["version"], row["fixed"]):
        return True
    backported = package["package"] in row["packages"]
    names = row["names"]
    return backported or (bool(names) and all(name in package["fixes"] for name in names))


NEWEST = (
    "orthanc:version: the newest of the package sources, see orthanc.try_upgrade; while that has it"
    " too, let only those reach the server who need it"
)
POINTS = {
    "account": Point(
        *("process", _account, "Orthanc does not run as root", ""),
        "none is needed: apply the formula",
    ),
    "hardening": Point(
        *("process", _hardening, "the unit keeps from Orthanc what it has no need of"),
        *("systemd does not run here", "orthanc:hardening: true"),
    ),
    "authentication": Point(
        *("site", _authentication, "users are asked for their passwords"),
        *("only this host reaches the server", "orthanc:users:NAME:password: ..."),
    ),
    "asked without a password": Point(
        *("asked", _unasked, "the server gives others nothing without a password"),
        *("the server was not asked", "orthanc:users:NAME:password: ..."),
    ),
    "account orthanc": Point(
        *("asked", _default_account, "the server lets nobody in as orthanc:orthanc"),
        *("the server was not asked", "orthanc:users:NAME:password: ..."),
    ),
    "known passwords": Point(
        *("site", _passwords, "no password is one that everybody knows"),
        *("there is no password", _line_of_secrets("failed", "known")),
    ),
    "weak passwords": Point(
        *("site", _weak, "no password is empty, short or a common word"),
        *("there is no password", _line_of_secrets("weak")),
    ),
    "roles": Point(
        *("site", _roles, "a filter is asked what each user may do"),
        *("there are no users", "orthanc:users:NAME:role: reader"),
    ),
    "colons": Point(
        *("site", _colons, "no name of a user has a colon"),
        *("this Orthanc refuses names with a colon, or has no users", "orthanc:users:NAME: ..."),
    ),
    "clear text": Point(
        *("site", _clear_text, "others reach the server over HTTPS"),
        *("only this host reaches the server", "orthanc:https:enabled: true"),
    ),
    "other servers": Point(
        *("site", _servers, "other servers are on this host, or reached over HTTPS"),
        *("no other server is known", "orthanc:peers:NAME:Url: https://..."),
    ),
    "database": Point(
        *("site", _database, "the server of the database is verified"),
        *("the database is on this host", "orthanc:postgresql:verify: true"),
    ),
    "deleted for room": Point(
        *("site", _recycled, "no image is deleted to make room", ""),
        _room,
    ),
    "replaced images": Point(
        *("site", _overwritten, "an image that is there stays as it is", ""),
        "orthanc:overwrite_instances: false",
    ),
    "cloud": Point(
        *("site", _cloud, "Orthanc encrypts what it stores elsewhere"),
        *("images are not kept in an object storage", "orthanc:config:SECTION:StorageEncryption"),
    ),
    "DICOM": Point(
        *("site", _dicom, "DICOM is off"),
        *("devices need it; let nobody else reach the port", "orthanc:dicom:enabled: false"),
    ),
    "DICOM over TLS": Point(
        *("site", _dicom_tls, "DICOM goes over TLS"),
        *("use it between sites, where the devices can", "orthanc:dicom:tls:enabled: true"),
    ),
    "files": Point(
        *("files", _open_files, "images, index, log and configuration are closed to others", ""),
        "none is needed: apply the formula",
    ),
    "configuration": Point(
        *("files", _own_files, "Orthanc cannot change its configuration and scripts", ""),
        "none is needed: apply the formula",
    ),
    "plugins": Point(
        *("files", _plugins, "only plugins that are named are loaded", "no plugin is loaded"),
        "none is needed: apply the formula",
    ),
    "vulnerabilities": Point(
        *("package", _vulnerabilities, "no vulnerability of this version is known here"),
        *("this Orthanc tells no version", NEWEST),
    ),
}
# What nobody can see from here.
NOT_JUDGED = {
    "firewall": "not looked at: let only those reach the ports who need them",
    "encrypted disks": "not looked at: disks with images belong encrypted",
    "rights of devices": "not judged: take from each of orthanc:modalities what it does not need",
    "Orthanc Explorer": "not judged: on the Internet, set OrthancExplorerEnabled to false",
    "other sites' requests": "not judged: on the Internet, put an application in front (CSRF)",
}
