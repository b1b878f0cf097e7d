"""Each setting shows its effect in the running server."""

import contextlib
import json

import dicom
import pytest
from clients import meanwhile


@pytest.fixture
def admin(users):
    return ("anna", users["anna"]["password"])


def test_limit_find(minion, users, admin, image):
    minion.apply(users=users, limit_find=2, dicom={"enabled": True})
    for number in range(4):
        assert (
            minion.ask("POST", "/instances", *admin, data=f"@{image(PatientID=str(number))}").code
            == 200
        )
    query = json.dumps({"Level": "Patient", "Query": {}})
    # Orthanc itself gives one more over REST than over DICOM.
    assert len(minion.ask("POST", "/tools/find", *admin, data=query).json) in (2, 3)
    minion.apply(users=users, limit_find=0)
    assert len(minion.ask("POST", "/tools/find", *admin, data=query).json) == 4


def test_limit_find_holds_for_dicom_queries(minion, users):
    peer = {"AET": "FINDSCU", "Host": minion.network.gateway, "Port": 104, "AllowFind": True}
    found = {}
    for limit in (2, 0):
        minion.apply(
            users=users, limit_find=limit, dicom={"enabled": True}, modalities={"finder": peer}
        )
        words = ("-P", "-k", "QueryRetrieveLevel=PATIENT", "-k", "PatientID=")
        asked = dicom.client("findscu", minion.address, *words)
        # A peer that tells less than there is may call that no success.
        assert "Received Final Find Response" in asked.output, asked
        found[limit] = asked.output.count("Find Response:")
    assert found[2] < found[0] == 4, found


def test_overwrite_instances(minion, users, admin, image):
    uids = {"SOPInstanceUID": "1.2.3", "StudyInstanceUID": "1.2", "SeriesInstanceUID": "1.2.1"}
    first = image(PatientID="same", ImageComments="first", **uids)
    second = image(PatientID="same", ImageComments="second", **uids)

    def comment_after_storing(path):
        stored = minion.ask("POST", "/instances", *admin, data=f"@{path}").json
        tags = minion.ask("GET", f"/instances/{stored['ID']}/simplified-tags", *admin).json
        return tags["ImageComments"]

    minion.apply(users=users, overwrite_instances=False)
    assert comment_after_storing(first) == "first"
    assert comment_after_storing(second) == "first"
    minion.apply(users=users, overwrite_instances=True)
    assert comment_after_storing(second) == "second"


def test_deidentify_logs(minion, users, admin):
    peer = {"AET": "FINDSCU", "Host": minion.network.gateway, "Port": 104, "AllowFind": True}
    logged = {}
    for setting in (True, False, "2017c"):
        minion.apply(
            users=users,
            dicom={"enabled": True},
            modalities={"finder": peer},
            deidentify_logs=setting,
        )
        assert minion.ask("PUT", "/tools/log-level-dicom", *admin, data="verbose").code == 200
        name = f"Secret^Patient{str(setting).upper()}"
        words = ("-P", "-k", "QueryRetrieveLevel=PATIENT", "-k", f"PatientName={name}")
        assert dicom.client("findscu", minion.address, *words).ok
        log = minion.read("/var/log/orthanc/Orthanc.log")
        assert "PatientName" in log
        logged[setting] = name in log
    assert logged == {True: False, False: True, "2017c": False}
    minion.pillar(users=users, deidentify_logs="1999a")
    assert "orthanc:deidentify_logs: must be one of" in minion.state().failed["orthanc-pillar"]
    minion.apply(users=users)


def test_port(minion, users, admin):
    minion.apply(users=users, port=8050, remote_access=True)
    assert minion.ask("GET", "/system", *admin, port=8050, remote=True).code == 200
    assert minion.ask("GET", "/system", *admin, port=8042).code == 0


def test_aet_and_dicom_port_and_an_option_of_the_book(minion, users, admin):
    config = {"DicomCheckCalledAet": True, "Name": "Radiologie Süd"}
    dicom_settings = {"enabled": True, "aet": "WARD 3", "port": 11112}
    minion.apply(users=users, dicom=dicom_settings, config=config)
    system = minion.ask("GET", "/system", *admin).json
    assert (system["DicomAet"], system["DicomPort"]) == ("WARD 3", 11112)
    assert system["Name"] == "Radiologie Süd"
    assert dicom.client("echoscu", minion.address, called="WARD 3", port=11112).ok
    assert not dicom.client("echoscu", minion.address, called="OTHER", port=11112).ok
    assert not dicom.client("echoscu", minion.address, called="WARD 3").ok


def test_null_takes_an_option_out(minion, users):
    minion.apply(users=users, config={"WebDavEnabled": None})
    assert "WebDavEnabled" not in json.loads(minion.read("/etc/orthanc/orthanc.json"))
    minion.apply(users=users)
    assert json.loads(minion.read("/etc/orthanc/orthanc.json"))["WebDavEnabled"] is False


def test_modalities(minion, users, admin):
    itself = {"AET": "ORTHANC", "Host": "127.0.0.1", "Port": 4242}
    closed = {"AET": "CLOSED", "Host": "127.0.0.1", "Port": 4243}
    minion.apply(
        users=users, dicom={"enabled": True}, modalities={"itself": itself, "closed": closed}
    )
    assert minion.ask("GET", "/modalities", *admin).json == ["closed", "itself"]
    assert minion.ask("POST", "/modalities/itself/echo", *admin, data="").code == 200
    assert minion.ask("POST", "/modalities/closed/echo", *admin, data="").code == 500


def test_a_modality_is_known_by_title_and_address(minion, users, image, tmp_path):
    """Two clients with the title of one modality: one at its address, one at another."""
    modality = {"AET": "MR1", "Host": minion.network.gateway, "Port": 104}
    keys = ("-P", "-k", "QueryRetrieveLevel=PATIENT", "-k", "PatientID=MR")
    # What is asked, words of the answer, and whether the stranger gets one too.
    requests = {
        "storescu": ((str(image(PatientID="MR")),), "Store Response (Success)", True),
        "echoscu": ((), "Echo Response (Success)", True),
        "findscu": (keys, "Find Response: 1", False),
        "getscu": ((*keys, "-od", str(tmp_path)), "C-STORE Request", False),
        "movescu": ((*keys, "-aem", "MR1"), "Final Move Response", False),
    }
    for check in (True, False):
        dicom_settings = {"enabled": True, "check_modality_host": check}
        run = minion.apply(users=users, dicom=dicom_settings, modalities={"mr": modality})
        warned = "orthanc:dicom:check_modality_host" in str(run.states["orthanc-pillar"])
        assert warned is not check
        for program, (words, told, everybody) in requests.items():
            answers = [
                dicom.client(program, minion.address, "-aet", "MR1", *words, inside=inside)
                for inside in (0, minion.leader)
            ]
            got = [told in one.output for one in answers]
            assert got == [True, everybody or not check], (program, answers)
    # Nothing that worked so far is taken away without a word.
    by_name = {"mr": {**modality, "Host": "mr1.example.org"}}
    minion.apply(users=users, dicom=dicom_settings, modalities=by_name)
    minion.pillar(users=users, dicom={"enabled": True}, modalities=by_name)
    assert "orthanc:modalities:mr:Host: mr1.exam" in minion.state().failed["orthanc-pillar"]


def test_peers(minion, users, admin):
    peer = {"Url": "http://127.0.0.1:8042/", "Username": admin[0], "Password": admin[1]}
    minion.apply(users=users, peers={"itself": peer, "wrong": {**peer, "Password": "no"}})
    assert minion.ask("GET", "/peers", *admin).json == ["itself", "wrong"]
    assert minion.ask("GET", "/peers/itself/system", *admin).json["ApiVersion"] > 10
    assert minion.ask("GET", "/peers/wrong/system", *admin).code != 200


@contextlib.contextmanager
def not_interrupted(minion, admin):
    """Let somebody ask for the modalities meanwhile, of one and the same process."""
    codes, pid = [], minion.pid()
    with meanwhile(lambda: codes.append(minion.ask("GET", "/modalities", *admin).code)):
        yield
    assert set(codes) == {200}
    assert minion.pid() == pid


WEST = {"role": "archive", "aet": "WEST", "host": "192.0.2.30", "port": 104}


def put(minion, admin, path, data):
    assert minion.ask("PUT", path, *admin, json.dumps(data)).code == 200


def single(minion, function, *words, code=0):
    """Return what one of the formula's states says, with this exit code."""
    words = ("state.single", f"orthanc.{function}", *words, "--out=json")
    done = minion.call(*words, check=False)
    assert done.code == code, done
    (state,) = json.loads(done.out)["local"].values()
    return state


def states_of_others(minion, device, peer):
    """Others may say it as well, and leave it again."""
    for kind, name, settings in (("modality", "x", device), ("peer", "near", peer)):
        for function, words in (("present", [f"settings={settings}"]), ("absent", [])):
            for changed in (True, False):
                state = single(minion, f"{kind}_{function}", name, *words)
                assert bool(state["changes"]) is changed, state
    assert single(minion, "modality_present", "x", f"settings={device}")["changes"]
    # What a template has not found takes nothing away.
    assert "but is nothing" in str(single(minion, "modality_present", "x", "settings=null", code=2))
    assert single(minion, "modality_absent", "mr")["changes"]


def who_asks_is_told(minion):
    """Whatever tells of modalities and peers knows those in the database as well."""
    diff = json.loads(minion.call("orthanc_conf.diff", "--out=json").out)["local"]
    assert diff["gone"] == ["modality mr"]
    assert "peer far gets the password" in str(security(minion)[0]["fail"]["other servers"])
    taken = minion.call("orthanc_conf.to_pillar").out
    assert "modalities_in_database: true" in taken
    assert all(name in taken for name in ("theirs:", "mr:", "far:"))


def test_modalities_and_peers_without_a_restart(minion, users, admin):
    """There and back; what others have added stays, and is named."""

    def known(what="modalities"):
        return minion.ask("GET", f"/{what}", *admin).json

    ct = {"AET": "CT", "Host": "192.0.2.17", "Port": 104}
    far = {"Url": "http://192.0.2.9/", "Username": "ward", "Password": "the first word of it"}
    here = {"users": users, "dicom": {"enabled": True}, "modalities": {"ct": ct}}
    here["peers"] = {"far": far}
    minion.apply(**here)
    assert "at its next restart" in str(
        single(minion, "modality_present", "x", f"settings={ct}", code=2)
    )
    put(minion, admin, "/modalities/theirs", {**ct, "AET": "THEIRS"})
    minion.pillar(**here, modalities_in_database=True)
    refused = minion.state().failed["orthanc-pillar"]
    assert "only Orthanc itself knows modality theirs, added over its REST API" in refused
    assert known() == ["ct", "theirs"]
    assert minion.ask("DELETE", "/modalities/theirs", *admin).code == 200
    here["modalities_in_database"] = True
    assert set(minion.apply(**here).changes) >= {"orthanc-config", "orthanc-network"}
    assert "192.0.2.17" not in minion.read("/etc/orthanc/orthanc.json")
    assert (known(), known("peers")) == (["ct"], ["far"])
    assert not minion.state().changes
    put(minion, admin, "/modalities/theirs", {**ct, "AET": "THEIRS"})

    here["modalities"] = {"ct": {**ct, "AllowFind": False}, "mr": {**ct, "AET": "MR"}}
    here["peers"] = {"far": {**far, "Password": "another word for it"}}
    here["network"] = {"group": "hospital", "sites": {"west": WEST, "east": {**WEST, "aet": "CT"}}}
    minion.pillar(**here)
    tried = minion.state(test=True)
    with not_interrupted(minion, admin):
        run = minion.apply(**here)
    assert run.changes == tried.changes
    assert set(run.changes["orthanc-network"]) == {
        *("DicomModalities:ct:AllowFind", "DicomModalities:mr", "OrthancPeers:far:Password"),
        "DicomModalities:west",
    }
    told = str(run.states["orthanc-network"])
    assert "by others: modality theirs" in told
    assert "site east: its AET CT is that of the modality ct" in told
    assert "another word" not in str(run)
    assert minion.run("stat -c %a /etc/orthanc.network").out == "600\n"
    assert not minion.state().changes
    states_of_others(minion, ct, far)
    assert [*minion.state().changes["orthanc-network"]] == ["DicomModalities:mr"]
    minion.pillar(**{**here, "modalities": {"ct": ct}})
    who_asks_is_told(minion)
    minion.run("systemctl restart orthanc")
    minion.wait_for_port()
    assert known() == ["ct", "mr", "theirs", "west", "x"]

    del here["modalities_in_database"], here["network"]
    minion.pillar(**here)
    refused = minion.state().failed["orthanc-pillar"]
    assert "knows modality theirs, modality x, added" in refused
    assert known() == ["ct", "mr", "theirs", "west", "x"]
    here["modalities"].update({"theirs": {**ct, "AET": "THEIRS"}, "x": {**ct, "AET": "X"}})
    minion.apply(**here)
    assert (known(), known("peers")) == (["ct", "mr", "theirs", "x"], ["far"])


def test_defaults_follow_the_security_page(minion, users, admin):
    minion.apply(users=users)
    assert minion.ask("POST", "/tools/execute-script", *admin, data="print(1)").code == 403
    assert minion.ask("GET", "/webdav/", *admin).code == 404
    options = json.loads(minion.read("/etc/orthanc/orthanc.json"))
    assert options["LimitFindResults"] == options["LimitFindInstances"] == 100


def test_what_the_options_are(minion, users):
    minion.apply(users=users)
    found = json.loads(minion.call("orthanc_conf.options", "MaximumStorage*", "--out=json").out)
    found = found["local"]
    assert set(found) == {"MaximumStorageCacheSize", "MaximumStorageSize"}
    said = (
        'Maximum size of the storage in MB (a value of "0" indicates no limit on the storage size).'
    )
    assert found["MaximumStorageSize"]["what"] == said
    assert found["MaximumStorageSize"]["pillar"] == "orthanc:config:MaximumStorageSize"
    port = json.loads(minion.call("orthanc_conf.options", "HttpPort", "--out=json").out)["local"]
    assert (port["HttpPort"]["default"], port["HttpPort"]["pillar"]) == (8042, "orthanc:port")
    newer = minion.call("orthanc_conf.options", "MaximumStorageMode", check=False)
    assert newer.code == 1
    words = "Orthanc 1.10.1 has no option like MaximumStorageMode; MaximumStorageMode is there from"
    assert f"{words} 1.11.2 on" in newer.err


def security(minion):
    """Return what fails of the points on security, and the exit code."""
    done = minion.call("orthanc.security", "--out=json", check=False)
    assert "Traceback" not in done.out + done.err
    return json.loads(done.out)["local"], done.code


def test_each_point_on_security_that_fails_says_the_line_that_mends_it(minion, users, admin):
    own = "function IncomingHttpRequestFilter() return true end\n"
    minion.write("/srv/own.lua", own)
    minion.run("chown orthanc /srv/own.lua; systemctl start orthanc")
    accounts = {"ward": "summer1", "guest": "to be replaced"}
    accounts = {name: {"password": word, "role": "reader"} for name, word in accounts.items()}
    settings = {"users": {**users, **accounts}}
    peer = {"Url": "http://192.0.2.9/", "Username": "far", "Password": "far from being short"}
    lax = {"LuaScripts": ["/srv/own.lua"], "WebDavEnabled": True, "MaximumStorageSize": 9000}
    settings.update(remote_access=True, limit_find=0, hardening=False, overwrite_instances=True)
    settings.update(peers={"far": peer}, dicom={"enabled": True, "check_modality_host": False})
    minion.apply(**settings, config=lax)
    # What the formula refuses, somebody writes by hand.
    minion.run("sed -i 's/to be replaced/guest/' /etc/orthanc/credentials.json")
    by_hand = "/AuthenticationEnabled/s/true/false/; /orthanc-formula-users.lua/d"
    minion.run(f"sed -i '{by_hand}' /etc/orthanc/orthanc.json")
    minion.run("systemctl restart orthanc")
    minion.wait_for_port()
    found, code = security(minion)
    assert code == 1
    assert set(found["fail"]) >= {
        *("WebDavEnabled", "LimitFindResults", "LimitFindInstances", "DicomAlwaysAllowStore"),
        *("DicomAlwaysAllowEcho", "DicomCheckCalledAet", "DicomCheckModalityHost"),
        *("authentication", "asked without a password", "clear text", "other servers"),
        *("weak passwords", "deleted for room", "replaced images", "hardening", "configuration"),
        *("known passwords", "vulnerabilities"),
    }
    assert found["fail"]["configuration"]["why"] == [
        "Orthanc itself, or everybody, may change /srv/own.lua"
    ]
    shown = json.dumps(found)
    assert not [word for word in (admin[1], "summer1") if word in shown]
    # Another folder than that of the service.
    minion.write("/srv/other/a.json", '{"WebDavEnabled": false}')
    other = minion.call("orthanc.security", "/srv/other", "--out=json", check=False)
    assert "WebDavEnabled" in json.loads(other.out)["local"]["pass"]
    # As its lines say.
    minion.run("chown root /srv/own.lua")
    config = dict.fromkeys(("DicomAlwaysAllowEcho", "DicomAlwaysAllowStore"), False)
    minion.apply(
        **{"users": users, "remote_access": True, "dicom": {"enabled": True}},
        https={"enabled": True, "self_signed": True},
        peers={"far": {**peer, "Url": "https://192.0.2.9/"}},
        config={**config, "DicomCheckCalledAet": True, "LuaScripts": ["/srv/own.lua"]},
    )
    found, code = security(minion)
    assert (set(found["fail"]), code) == ({"vulnerabilities"}, 1)
    told = " ".join(found["fail"]["vulnerabilities"]["why"])
    assert "CVE-2026-5437" in told
    # Debian has put the fix of this one into its package of 1.10.1.
    assert "CVE-2023-33466" not in told
    assert {"clear text", "authentication", "roles", "hardening"} <= set(found["pass"])
    assert not [why for why in found["not applicable"].values() if "not known" in why]
    minion.apply(users=users)


def test_strangers_may_do_what_they_are_let_do(minion, users, image):
    for unknown, echo, store in (([], False, False), (["store"], False, True)):
        minion.apply(users=users, dicom={"enabled": True, "unknown": unknown})
        assert dicom.client("echoscu", minion.address).ok is echo
        assert dicom.client("storescu", minion.address, str(image())).ok is store
    minion.apply(users=users, dicom={"enabled": True})
    assert dicom.client("echoscu", minion.address).ok


def test_dicomweb(minion, users, admin):
    """Its package comes with it, and roles follow its address."""
    server = {
        "Url": "http://127.0.0.1:8042/pacs/",
        "Username": "rita",
        "Password": "not to be told",
    }
    settings = {"enabled": True, "root": "/pacs/", "servers": {"itself": server}}
    run = minion.apply(users=users, dicomweb=settings)
    assert server["Password"] not in run.output
    rita, wim = ((name, users[name]["password"]) for name in ("rita", "wim"))
    assert minion.ask("GET", "/pacs/studies", *rita).code == 200
    assert minion.ask("POST", "/pacs/studies", *rita, data="x").code == 403
    assert minion.ask("POST", "/pacs/studies", *wim, data="x").code not in (403, 404)
    assert minion.ask("GET", "/pacs/servers", *admin).json == ["itself"]
    minion.pillar(users=users, dicomweb={**settings, "root": "pacs"})
    assert "orthanc:dicomweb:root: must be a path" in minion.state().failed["orthanc-pillar"]
    minion.apply(users=users)
    assert minion.ask("GET", "/pacs/studies", *admin).code == 404
