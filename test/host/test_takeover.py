"""An Orthanc that was installed and configured by hand, taken over: nothing of it changes."""

import json

import dicom
import orthanc_files
import orthanc_json
import orthanc_tables
import pytest
import testbed
import yaml
from minion import Minion

PILLAR = "/srv/pillar/orthanc.sls"
ANNA, BERT = ("anna", "Anna's own: #1 {# word"), ("bert", "0123")
USERS = dict([ANNA, BERT])
SCRIPT = "function OnStoredInstance(id, tags, metadata) SetMetadata(id, 2000, 'by hand') end\n"
# What of a package alone the pillar says, besides what differs by system.
PRISTINE = {"limit_find": 0, "dicom": {"enabled": True, "check_modality_host": False}}
# What the formula changes on purpose.
ON_PURPOSE = {"LuaScripts", "Plugins"}


@pytest.fixture(params=["bookworm", "trixie", "leap"])
def system(request):
    return request.param


@pytest.fixture
def minion(system, salt_version):
    with Minion(testbed.deployed(system, salt_version)) as host:
        yield host


def options(minion) -> dict:
    """Return what Orthanc does by its files, with its own defaults for what they do not set."""
    found = dict(orthanc_tables.DEFAULTS)
    command = minion.run("ls /usr/sbin/[Oo]rthanc").out.strip()
    version = minion.run(f"{command} --version").out
    for argument in ("config", "advanced-config")[: 2 if " 1.13" in version else 1]:
        found.update(orthanc_json.parse(minion.run(f"{command} --{argument}=-").out))
    # What the sample has of these is not what Orthanc does without them, on each system.
    for option in ("Name", "IndexDirectory"):
        found.pop(option, None)
    found["HttpCompressionEnabled"] = " 1.10" in version
    found["RegisteredUsers"] = {}
    for name in minion.run("ls /etc/orthanc/*.json").out.split():
        found.update(orthanc_json.parse(minion.read(name)))
    found.setdefault("IndexDirectory", found["StorageDirectory"])
    found.setdefault("AuthenticationEnabled", found["RemoteAccessAllowed"])
    # A version that has both says the same by either of them.
    said = {False: "Never", True: "Always"} if " 1.13" in version else {}
    found["OverwriteInstances"] = said.get(found["OverwriteInstances"], found["OverwriteInstances"])
    own = orthanc_files.is_own_name
    found["LuaScripts"] = [path for path in found["LuaScripts"] if not own(path)]
    return {option: value for option, value in found.items() if value not in ({}, [], None)}


def differing(before: dict, after: dict) -> set:
    return {o for o in {*before, *after} if before.get(o) != after.get(o)}


def described(minion) -> dict:
    """Return the settings of the pillar of the server, which is that of the next run."""
    minion.run(f"rm -f {PILLAR}")
    told = minion.call("orthanc_conf.to_pillar", "secrets=True", f"file={PILLAR}")
    assert PILLAR in told.out
    assert minion.run(f"stat -c '%a %U' {PILLAR}").out.split() == ["600", "root"]
    return yaml.safe_load(minion.read(PILLAR))["orthanc"]


def by_hand(minion) -> None:
    """Configure Orthanc as administrators do: in the package's files, and in others."""
    main = minion.run("cd /etc/orthanc; ls -d orthanc.json Conf*.json; true").out.strip()
    minion.run("rm -f /etc/orthanc/credentials.json")
    given = orthanc_json.parse(minion.read(f"/etc/orthanc/{main}"))
    for option in ("OrthancPeers", "DicomAlwaysAllowStore"):
        given.pop(option, None)
    given.update(
        Name="By hand",
        DicomAet="BYHAND",
        RemoteAccessAllowed=True,
        RegisteredUsers=USERS,
        StableAge=7,
        OverwriteInstances=True,
        LuaScripts=["/etc/orthanc/own.lua"],
        DicomModalities={
            "ct": ["CT1", minion.network.gateway, 104],
            "finder": {"AET": "FINDSCU", "Host": minion.network.gateway, "Port": 104},
        },
    )
    files = {
        main: "// by hand\n" + json.dumps(given, indent=1)[:-1] + ",}",
        # With a default of Orthanc's own, it goes as a whole all the same.
        "peers.json": '{"OrthancPeers": {"a": ["http://192.0.2.1:8042/"]},'
        ' "DicomAlwaysAllowStore": true}',
        "own.lua": SCRIPT,
    }
    for name, text in files.items():
        minion.write(f"/etc/orthanc/{name}", text)
    minion.run("cd /etc/orthanc && chown orthanc *.json own.lua && systemctl start orthanc")
    minion.wait_for_port()


def answers(minion, image) -> list:
    """Return what the server answers to its users and devices, on another host."""
    found = [minion.ask("GET", "/system", *who, remote=True).code for who in (ANNA, BERT, ())]
    system = minion.ask("GET", "/system", *ANNA).json
    found += [system[key] for key in ("Name", "DicomAet", "DicomPort", "HttpPort")]
    found += [minion.ask("GET", path, *BERT).json for path in ("/modalities", "/peers")]
    found.append(dicom.client("storescu", minion.address, str(image()), called="BYHAND").ok)
    return found


def hold_another_start(minion) -> None:
    """Where the unit starts Orthanc with another file, a run does not say that all is well."""
    drop_in, other = "/etc/systemd/system/orthanc.service.d/site.conf", "/srv/oc/all.json"
    minion.run(f"mkdir /srv/oc; echo '{{}}' > {other}")
    minion.write(drop_in, f"[Service]\nExecStart=\nExecStart=/usr/sbin/Orthanc {other}\n")
    minion.run("systemctl daemon-reload")
    words = f"{drop_in} starts Orthanc with {other}"
    run = minion.state(test=True)
    assert not run.ok
    assert words in str(run)
    assert words in " ".join(minion.call("orthanc_conf.to_pillar").out.replace("#", "").split())
    minion.run(f"rm -r {drop_in} /srv/oc; systemctl daemon-reload")


def test_a_server_is_taken_over(minion, system, image):
    minion.call("saltutil.sync_modules")
    settings = described(minion)
    assert settings.items() >= PRISTINE.items()
    assert settings["config"]["WebDavEnabled"] is True
    by_hand(minion)
    told, before = answers(minion, image), options(minion)
    assert told[:3] == [200, 200, 401]
    assert "Anna" not in minion.call("orthanc_conf.to_pillar").out
    files = minion.run("cd /etc/orthanc; sha256sum *.json own.lua").out

    described(minion)
    if system == "bookworm":
        hold_another_start(minion)
    run = minion.state()
    assert run.ok, str(run)
    assert differing(before, options(minion)) <= ON_PURPOSE
    assert answers(minion, image) == told
    assert len(minion.ask("GET", "/instances", *ANNA).json) == 2
    assert minion.state().changes == {}
    # What it took over comes back.
    assert not minion.path("/etc/orthanc/peers.json").exists()
    assert minion.state("orthanc.clean").ok
    assert minion.run("cd /etc/orthanc; sha256sum *.json own.lua").out == files
    assert answers(minion, image) == told


@pytest.mark.parametrize("system", ["sid", "tumbleweed"])
def test_the_newest_packages_are_taken_over(minion):
    minion.call("saltutil.sync_modules")
    before = options(minion)
    assert described(minion).items() >= PRISTINE.items()
    run = minion.state()
    assert run.ok, str(run)
    assert differing(before, options(minion)) <= ON_PURPOSE
