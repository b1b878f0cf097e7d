"""One pillar gives the same server on every system, in every way and with every line of Salt."""

from __future__ import annotations

import json
import pathlib

import dicom
import orthanc_json
import pytest
import yaml
from testbed import network
from ways import NEWEST, OLDEST, SALT_VERSIONS, WAYS

FORMULA = pathlib.Path(__file__).resolve().parents[2]
SYSTEMS = {"bookworm": "Debian", "trixie": "Debian", "leap": "Suse"}
CASES = [
    *((system, way, NEWEST) for system in SYSTEMS for way in WAYS),
    *((system, "masterless", salt) for system in SYSTEMS for salt in SALT_VERSIONS[:-1]),
    *(("bookworm", way, OLDEST) for way in ("master", "salt-ssh")),
    # A minion of this line does not run on the Python of the newer systems; the rest of it does.
    ("trixie", "salt-ssh", OLDEST),
    # The next release of Orthanc, which no stable release of a distribution has yet.
    *((system, "masterless", NEWEST) for system in ("sid", "tumbleweed")),
    ("ubuntu", "masterless", NEWEST),
]
ANNA, RITA, WIM = (
    (name, f"{name}'s password: \u00e4 \" \\ $ {{}}") for name in ("anna", "rita", "wim")
)
PILLAR = {
    "remote_access": True,
    "users": {
        name: {"password": password, "role": role}
        for (name, password), role in ((ANNA, "admin"), (RITA, "reader"), (WIM, "writer"))
    },
    "dicom": {"enabled": True, "aet": "EVERYWHERE", "port": 11112},
    "peers": {"north": {"Url": "http://192.0.2.19:8042/", "Username": "x", "Password": "y"}},
    "limit_find": 5,
    "overwrite_instances": True,
    "packages": ["orthanc", "orthanc-dicomweb"],
    "config": {
        "Name": "Same everywhere",
        "DicomAlwaysAllowStore": False,
        "StableAge": 7,
        "DicomWeb": {"Root": "/dicom-web/"},
    },
}
OPTIONS = {
    "AuthenticationEnabled": True,
    "DicomCheckModalityHost": True,
    "DicomAet": "EVERYWHERE",
    "DicomAlwaysAllowStore": False,
    "DicomPort": 11112,
    "DicomServerEnabled": True,
    "DicomWeb": {"Root": "/dicom-web/"},
    "ExecuteLuaEnabled": False,
    "HttpsCACertificates": "config:HttpsCACertificates",
    "IndexDirectory": "paths:storage",
    "LimitFindInstances": 5,
    "LimitFindResults": 5,
    "LuaScripts": [
        "paths:config/orthanc-formula-users.lua",
        "paths:config/orthanc-formula-reserve.lua",
    ],
    "Name": "Same everywhere",
    "OrthancPeers": PILLAR["peers"],
    "OverwriteInstances": True,
    "Plugins": ["paths:plugins/libOrthancDicomWeb.so"],
    "RegisteredUsers": dict([ANNA, RITA, WIM]),
    "RemoteAccessAllowed": True,
    "RestApiWriteToFileSystemEnabled": False,
    "StableAge": 7,
    "StorageDirectory": "paths:storage",
    "WebDavEnabled": False,
}
# What is asked from another host, who asks, and what must come back.
FIND = json.dumps({"Level": "Patient", "Query": {}})
REQUESTS = [
    ("GET", "/system", (), None, 401),
    ("GET", "/system", (ANNA[0], "wrong"), None, 401),
    ("GET", "/system", ANNA, None, 200),
    ("GET", "/modalities", RITA, None, ["ct", "finder"]),
    ("GET", "/peers", RITA, None, ["north"]),
    ("GET", "/dicom-web/studies", RITA, None, 200),
    ("PUT", "/modalities/new", WIM, '["NEW", "192.0.2.1", 104]', 403),
    ("POST", "/tools/find", RITA, FIND, 200),
    ("POST", "/tools/bulk-delete", WIM, '{"Resources": []}', 403),
    ("POST", "/tools/shutdown", WIM, "", 403),
    ("POST", "/tools/execute-script", ANNA, "print(1)", 403),
    ("DELETE", "/patients/none", RITA, None, 403),
    ("DELETE", "/patients/none", ANNA, None, 404),
]
SYSTEM = {
    "Name": "Same everywhere",
    "DicomAet": "EVERYWHERE",
    "DicomPort": 11112,
    "HttpPort": 8042,
    "IsHttpServerSecure": True,
}


def map_of(family: str) -> dict:
    """Return the paths and options that the map file of the OS family and the defaults give."""
    defaults, osmap = (
        yaml.safe_load((FORMULA / f"orthanc/{name}.yaml").read_text())
        for name in ("defaults", f"osfamily/{family}")
    )
    return {section: {**osmap[section], **defaults[section]} for section in ("paths", "config")}


def effective(host, family: str) -> dict:
    """Return the options of all files together, with the map's values named instead of given."""
    given: dict = {}
    for name in host.run("ls /etc/orthanc/*.json").out.split():
        content = orthanc_json.parse(host.read(name))
        assert not set(given) & set(content), f"{name} holds an option of another file"
        given.update(content)
    text = json.dumps(given)
    for section in ("paths", "config"):
        for name, value in map_of(family)[section].items():
            if isinstance(value, str) and name != "home":
                text = text.replace(f'"{value}', f'"{section}:{name}')
    return json.loads(text)


def modalities() -> dict:
    """Return two devices, both on this machine."""
    address = {"Host": network().gateway, "Port": 104}
    return {
        "ct": {"AET": "CT1", **address, "AllowStore": True},
        "finder": {"AET": "FINDSCU", **address},
    }


def store_over_dicom(host, file: str) -> None:
    """Only a modality of the pillar, known by title and address, may store and find an image."""
    call = {"called": "EVERYWHERE", "port": 11112}
    assert dicom.client("echoscu", host.address, **call).ok
    assert not dicom.client("storescu", host.address, file, **call).ok
    elsewhere = {**call, "inside": host.leader}
    stored = dicom.client("storescu", host.address, "-aet", "CT1", file, **elsewhere)
    assert not stored.ok
    assert dicom.client("storescu", host.address, "-aet", "CT1", file, **call).ok
    assert len(host.ask("GET", "/instances", *RITA, remote=True).json) == 1
    question = ("-P", "-k", "QueryRetrieveLevel=PATIENT", "-k", "PatientName")
    found = dicom.client("findscu", host.address, *question, **call)
    assert "Same^Everywhere" in found.output
    stranger = dicom.client("findscu", host.address, *question, **elsewhere)
    assert "Same^Everywhere" not in stranger.output
    unknown = dicom.client("findscu", host.address, "-aet", "OTHER", *question, **call)
    assert "Same^Everywhere" not in unknown.output


def store_over_rest(host, file: pathlib.Path) -> None:
    """A writer may store an image, a reader may not; he gets back what was stored."""
    image = {"data": f"@{file}", "remote": True}
    assert host.ask("POST", "/instances", *RITA, **image).code == 403
    stored = host.ask("POST", "/instances", *WIM, **image)
    assert stored.code == 200, stored
    got = host.ask("GET", f"/instances/{stored.json['ID']}/file", *RITA, remote=True)
    assert got.body == file.read_bytes()


# What each way makes of the exit codes 1 and 2: that of salt-call is passed on.
CODES = {"masterless": (1, 2), "master": (1, 1), "salt-ssh": (20, 20)}


def ask_how_it_is(site, way: str, functions: tuple[str, ...]) -> None:
    """Whether it is well can be asked in each way; the exit code says at least that it is not."""
    warning, critical = CODES[way]
    # Of the strangers, which each hears of that asks.
    for function in functions:
        assert site.salt(f"orthanc.{function}").code == warning
    well = site.salt("orthanc.nagios")
    assert well.code == 0
    assert "ORTHANC OK - all is well" in well.out
    site.target.run("systemctl stop orthanc")
    for function in functions:
        done = site.salt(f"orthanc.{function}")
        assert done.code == critical, done
        assert "Orthanc does not run" in done.out


@pytest.mark.parametrize(("system", "way", "salt"), CASES)
def test_one_pillar_gives_the_same_server(system, way, salt, image, proven):
    newest = system in ("sid", "tumbleweed")
    family = {**SYSTEMS, "sid": "Debian", "tumbleweed": "Suse", "ubuntu": "Debian"}[system]
    with WAYS[way](system, salt) as site:
        if system == "ubuntu":
            grains = site.returned("grains.item os os_family osfinger")
            assert grains == {"os": "Ubuntu", "os_family": "Debian", "osfinger": "Ubuntu-25.10"}
        site.pillar(**PILLAR, modalities=modalities())
        tried = site.state(test=True)
        assert tried.changes, str(tried)
        assert not tried.failed, str(tried)
        assert site.target.pid() == 0
        run = site.state()
        assert run.ok, str(run)
        # Orthanc 1.13 has words for it.
        overwrite = {"OverwriteInstances": "Always"} if newest else {}
        assert effective(site.target, family) == {
            **OPTIONS,
            "DicomModalities": modalities(),
            **overwrite,
        }

        host = site.target
        for method, path, who, data, expected in REQUESTS:
            answer = host.ask(method, path, *who, data=data, remote=True)
            if isinstance(expected, list):
                assert sorted(answer.json) == expected, (path, answer)
            else:
                assert answer.code == expected, (path, who, answer)
        system_of = host.ask("GET", "/system", *ANNA).json
        assert {name: system_of[name] for name in SYSTEM} == SYSTEM

        store_over_dicom(host, str(image(PatientName="Same^Everywhere")))
        store_over_rest(host, image(PatientName="Over^Rest"))
        storage = map_of(family)["paths"]["storage"]
        images = f"find {storage} -type f -not -name 'index*' -readable; true"
        assert len(host.run(images).out.split()) > 1
        assert host.run(images, user="nobody").out == ""

        pid, written = host.pid(), host.written()
        again = site.state()
        assert again.ok, str(again)
        assert again.changes == {}
        assert again.states.keys() == run.states.keys()
        assert host.pid() == pid
        # Orthanc itself writes to its index at any time, and plugins add what they make of images.
        now, own = host.written(), storage.lstrip("/")
        assert [path for path in written - now if not path.startswith(f"{own}/index")] == []
        assert [path for path in now - written if not path.startswith(f"{own}/")] == []
        assert host.run("systemctl is-enabled orthanc").out.strip() == "enabled"
        ask_how_it_is(site, way, ("health", "nagios") if system == "bookworm" else ("nagios",))
        if system == "bookworm":
            assert site.salt("orthanc.answers").code == CODES[way][0]
        host.reboot()
        host.wait_for_port()
        assert host.ask("GET", "/system", *ANNA, remote=True).code == 200
    proven(system=system, way=way, salt=salt, orthanc=system_of["Version"])
