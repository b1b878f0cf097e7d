"""Whom Orthanc talks to: keys of the pillar, and what becomes of them."""

import re

import orthanc_cards
import pytest

OF_OTHERS = re.compile("/(srv|var)?")
PATHS = {
    **{"config": "/etc/orthanc", "home": "/var/lib/orthanc", "log": ""},
    **{"storage": "/srv/images", "index": "/srv/images"},
}


@pytest.fixture(scope="module")
def network(pillar_files):
    return pillar_files["parts"]


def settings(**given):
    return {
        "dicom": {"unknown": ["echo", "store"]},
        "dicomweb": {"enabled": False, "servers": {}},
        "worklists": {"enabled": False, "folder": "/var/lib/orthanc-worklists"},
        **{"paths": PATHS, "config": {}, "asked": [], "users": {}, "demo_users": False},
        **{"modalities_in_database": False, "postgresql": {"enabled": False}, "network": {}},
        **given,
    }


def options(network, **given):
    return {option: value for option, value, _ in network["network_options"](settings(**given))}


def test_what_nobody_asks_for_is_not_written(network):
    assert options(network) == {}
    assert network["made"](settings()) == {}


@pytest.mark.parametrize("unknown", [[], ["echo"], ["echo", "store", "move", "find_worklist"]])
def test_unknown_devices_may_do_what_is_listed(network, unknown):
    found = options(network, dicom={"unknown": unknown}, asked=["orthanc:dicom:unknown"])
    assert len(found) == 6
    allowed = {name.replace("DicomAlwaysAllow", "") for name, value in found.items() if value}
    assert allowed == {"".join(map(str.capitalize, one.split("_"))) for one in unknown}


def test_dicomweb_is_what_is_asked_for(network):
    on = {"enabled": True, "servers": {}}
    assert options(network, dicomweb=on) == {"DicomWeb": {}, ("DicomWeb", "Enable"): True}
    found = options(network, dicomweb={**on, "root": "/web/", "servers": {"a": {"Url": "x"}}})
    assert found[("DicomWeb", "Root")] == "/web/"
    assert found[("DicomWeb", "Servers")] == {"a": {"Url": "x"}}


@pytest.mark.parametrize(
    ("section", "root"),
    [({}, "/web/"), ({"Root": "/own/"}, "/own/"), ({"EnableWado": False}, "/web/")],
)
def test_the_address_that_roles_follow_is_the_one_that_wins(network, section, root):
    asked = {"enabled": True, "root": "/web/", "servers": {}}
    found = network["moved"](settings(dicomweb=asked, config={"DicomWeb": section}))
    assert found["DicomWeb"]["Root"] == root
    found = network["moved"](settings(dicomweb={**asked, "enabled": False}))
    assert "Root" not in found["DicomWeb"]


@pytest.mark.parametrize("section", [None, [], "text"])
def test_a_section_that_is_no_mapping_is_left_for_the_judge(network, section):
    asked = {"enabled": True, "root": "/web/", "servers": {}}
    found = network["moved"](settings(dicomweb=asked, config={"DicomWeb": section}))
    assert found == {"DicomWeb": section}


def test_the_folder_of_worklists_is_made(network):
    asked = {"enabled": True, "folder": "/srv/worklists"}
    assert network["made"](settings(worklists=asked)) == {"/srv/worklists": "root"}
    known = network["made"](settings(worklists={**asked, "writer": "ris"}))
    assert known == {"/srv/worklists": "ris"}
    assert options(network, worklists=asked)[("Worklists", "Database")] == "/srv/worklists"


@pytest.mark.parametrize(
    ("folder", "word"),
    [
        *((path, "is for others too") for path in ("/", "/srv", "/srv/", "/var/lib/..")),
        ("/var/lib/orthanc/worklists", "orthanc:paths:home"),
        ("/etc/orthanc", "orthanc:paths:config"),
        ("/srv/images/../images/x", "orthanc:paths:storage"),
        *(
            (f"{path}/x", "of the system")
            for path in ("/etc/cron.d", "/usr/lib", "/root", "/lib64")
        ),
        ("/home/../etc/cron.d", "of the system"),
    ],
)
def test_a_folder_that_cannot_be_shared_is_refused(network, folder, word):
    asked = {"enabled": True, "folder": folder}
    (problem,) = network["check_network"](settings(worklists=asked), OF_OTHERS)
    assert problem.startswith("orthanc:worklists:folder: ")
    assert word in problem


@pytest.mark.parametrize(("section", "key"), [("DicomWeb", "dicomweb"), ("Worklists", "worklists")])
def test_null_and_a_key_contradict_each_other(network, section, key):
    asked = {"enabled": True, "folder": "/srv/worklists", "servers": {}}
    given = settings(config={section: None}, **{key: asked})
    (problem,) = network["check_network"](given, OF_OTHERS)
    assert problem.startswith(f"orthanc:config:{section}: must not be null")
    assert network["check_network"](settings(config={section: None}), OF_OTHERS) == []


def test_modalities_in_postgresql_belong_to_a_server_of_a_lasting_name(network):
    asked = {"modalities_in_database": True, "system": {"id": "south-1"}}
    assert options(network, **asked) == {}
    told = options(network, **asked, postgresql={"enabled": True})
    assert told == {"DatabaseServerIdentifier": "south-1"}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"users": {"rita": {"role": "reader"}}}, "give one the role admin"),
        ({"users": {"rita": {"role": "reader"}, "anna": {"role": "admin"}}}, ""),
        ({"users": {"own": {"rules": []}}}, ""),
        ({"users": {"rita": {"role": "reader"}}, "demo_users": True}, ""),
        ({"config": {"OrthancPeersInDatabase": True}}, "set that alone"),
    ],
)
def test_modalities_in_the_database_are_told_by_somebody_and_said_once(network, given, words):
    asked = {"modalities_in_database": True, "asked": ["orthanc:modalities_in_database"]}
    found = network["check_network"](settings(**asked, **given), OF_OTHERS)
    assert bool(found) is bool(words)
    assert words in str(found)


NETWORK = {"group": "hospital", "role": "archive", "members": ["*"], "accounts": {}, "sites": {}}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({}, "orthanc:network: needs orthanc:modalities_in_database: true"),
        ({"accounts": {"north-1": {"username": "u"}}}, "accounts:north-1:password: missing"),
        ({"accounts": {"north-1": {"username": "u"}}}, "one of orthanc:users with the role peer"),
        ({"accounts": {"north-1": {"password": "x"}}}, "accounts:north-1:username: missing"),
        (
            {"accounts": {"n": {"username": "anna"}}},
            "accounts:n:username: anna is no user with the",
        ),
        ({"accounts": {"*": {"username": "site"}}}, "orthanc:network:accounts:*: each minion of"),
        (
            {"accounts": {"**": {"username": "u", "password": "x"}}},
            "say in orthanc:network:members who",
        ),
        # Other words for everybody.
        (
            {"accounts": {"?*": {"username": "site"}}, "members": ["north-1", "*?*"]},
            "orthanc:network:accounts:?*: each minion of",
        ),
        ({"sites": {"north-1": {"aet": "N"}}}, "orthanc:network:sites:north-1:role: missing"),
        (
            {"sites": {"n": {"aet": "N", "host": "192.0.2.1"}}},
            "orthanc:network:sites:n:port: missing",
        ),
        ({"sites": {"n": {"port": 4242}}}, "orthanc:network:sites:n:aet: missing"),
    ],
)
def test_what_a_group_lacks_is_said(network, change, words):
    users = {"anna": {"password": "x", "role": "admin"}, "site": {"password": "y", "role": "peer"}}
    asked = settings(
        network={**NETWORK, **change}, modalities_in_database=bool(change), users=users
    )
    assert words in str(network["check_network"](asked, OF_OTHERS))
    alone = {key: value for key, value in NETWORK.items() if key != "group"}
    (problem,) = network["check_network"](
        settings(network={**alone, "host": "192.0.2.1"}), OF_OTHERS
    )
    assert problem.startswith("orthanc:network:group: missing")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("host", f"192.0.2.{last}") for last in (0, 7, 99, 199, 249, 255)),
        *(("host", text) for text in ("127.0.0.1", "0.0.0.0", "256.1.1.1", "1.2.3", "1.2.3.4.5")),
        *(("host", text) for text in ("224.0.0.1", "169.254.1.1", "192.0.2.7.", "north", "")),
        *(("url", f"https://{text}") for text in ("a", "a:8042/x", "192.0.2.1/", "[2001:db8::1]/")),
        *(
            ("url", text)
            for text in ("file:///etc/passwd", "http://a/", "https://u:p@a/", "https:")
        ),
        *(
            ("url", text)
            for text in ("https://a/u@b", "https://a/\n", "https://a b/", "https://ä/")
        ),
    ],
)
def test_what_the_pillar_takes_of_a_site_a_card_may_hold(pillar_files, key, value):
    sites = {"north-1": {"role": "archive", key: value}}
    found = pillar_files["reader"]["mistakes"]({"network": {"sites": sites}})
    assert bool(found) is not bool(orthanc_cards.CARD[key](value))
    assert all(line.startswith(f"orthanc:network:sites:north-1:{key}: ") for line in found)


def test_what_is_made_of_the_cards_of_a_group(network):
    card = {"role": "modality", "aet": "N", "host": "192.0.2.9", "port": 104}
    sites = {"north-1": card, "west-1": {**card, "group": "other"}}
    given = {"network": {**NETWORK, "sites": sites}, "modalities_in_database": True}
    host = {"system": {"id": "south-1"}, "dicom": {"aet": "SOUTH", "tls": {"certificate": "/x"}}}
    site = network["site_of_group"](settings(**given, **host))
    assert (site["id"], site["aet"], site["tls"]) == ("south-1", "SOUTH", True)
    assert site["sites"] == {**sites, "north-1": {**card, "group": "hospital"}}
    assert network["site_of_group"](settings(**host)) is None


@pytest.mark.parametrize(
    ("account", "password"),
    [
        ({"username": "site"}, "y"),
        ({"username": "site", "password": "z"}, "z"),
        ({"username": "ward3", "password": "z"}, "z"),
    ],
)
def test_an_account_has_its_own_password_or_that_of_a_user_here(network, account, password):
    group = {**NETWORK, "members": ["north-*"], "accounts": {"*": account}}
    users = {"site": {"password": "y", "role": "peer"}, "anna": {"password": "x", "role": "admin"}}
    given = settings(network=group, modalities_in_database=True, users=users)
    assert network["check_network"](given, OF_OTHERS) == []
    given.update({"system": {"id": "s"}, "dicom": {"aet": "S", "tls": {}}})
    assert network["site_of_group"](given)["accounts"]["*"]["password"] == password


def test_each_role_of_the_pillar_is_one_of_the_cards(network, pillar_files):
    kinds = pillar_files["tables"]["KINDS"]
    assert kinds["role of a site"]["enum"] == sorted(orthanc_cards.ROLES)
