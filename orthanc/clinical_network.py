"""
Whom Orthanc talks to besides its modalities and peers: what the pillar may say of it, in the
language of ``orthanc_shapes``, kinds for ``pillar.py``; and what options become of it, for
``options.py``.
"""

from __future__ import annotations

import posixpath
import re

# What those may do whom Orthanc does not know, by the words of the pillar. Orthanc's own default is
# the one of ``defaults.yaml``.
# https://orthanc.uclouvain.be/book/users/configuration.html
UNKNOWN = {
    "echo": "DicomAlwaysAllowEcho",
    "store": "DicomAlwaysAllowStore",
    "find": "DicomAlwaysAllowFind",
    "find_worklist": "DicomAlwaysAllowFindWorklist",
    "get": "DicomAlwaysAllowGet",
    "move": "DicomAlwaysAllowMove",
}
# What a site may be to the others of its group; ``orthanc_cards`` knows what each may do.
ROLES = ["archive", "modality", "workstation"]
# What the card of a site needs in the pillar, and what to do about it.
LACKING = {
    "role": "set archive, modality or workstation",
    "aet": "give its title, which is its orthanc:dicom:aet",
    "host": "give the IPv4 address that it comes from",
    "port": "give the port of its DICOM server, which is 4242 where its pillar says nothing else",
}
# What the system is made of: whoever may write there may become root.
SYSTEM = re.compile(r"/(bin|boot|etc|lib(32|64|x32)?|root|sbin|usr)/.*")
KINDS = {
    "dicom": {
        "keys": {
            "enabled": "flag",
            "aet": "aet",
            "port": "port",
            "check_modality_host": "flag",
            "unknown": "unknown devices",
            "tls": {
                "keys": {
                    "enabled": "flag",
                    "certificate": "source",
                    "key": "source",
                    "trusted_certificates": "source",
                    "require_certificate": "flag",
                }
            },
        }
    },
    "unknown devices": {
        "items": {
            "wanted": "echo, store, find, find_worklist, get or move",
            "enum": list(UNKNOWN),
        }
    },
    "dicomweb": {
        "keys": {
            "enabled": "flag",
            "root": "address of a plugin",
            "public_root": "address of a plugin",
            "servers": {"names": "anything", "each": "entry"},
        }
    },
    "address of a plugin": {
        "wanted": "a path of the REST API without * that begins with /, such as /dicom-web/",
        "type": "string",
        "pattern": r"/[^\s?#*]+",
    },
    "network": {
        "keys": {
            "group": "some text",
            "role": "role of a site",
            "host": "address of this host",
            "members": {"items": "some text"},
            "accounts": {
                "names": "some text",
                "each": {"keys": {"username": "some text", "password": "password"}},
            },
            "sites": {
                "names": "some text",
                # As a card has it.
                "each": {
                    "keys": {
                        "group": "some text",
                        "role": "role of a site",
                        "aet": "aet",
                        "host": "address of this host",
                        "port": "port",
                        "tls": "flag",
                        "url": "address of a site",
                    }
                },
            },
        }
    },
    "role of a site": {"wanted": "archive, modality or workstation", "enum": ROLES},
    "address of this host": {
        "wanted": "an IPv4 address, such as 192.0.2.5",
        "type": "string",
        "pattern": r"(?!(127|0|22[4-9]|2[3-5][0-9])\.|169\.254\.)"
        r"((25[0-5]|(2[0-4]|1?[0-9])?[0-9])(\.(?!$)|$)){4}",
    },
    # No password goes to another server in clear text.
    "address of a site": {
        "wanted": "an address that begins with https:// and holds no user, such as"
        " https://north.example.org/",
        "type": "string",
        "pattern": r"https://([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?(/[!-?A-~]*)?",
    },
    "worklists": {
        "keys": {"enabled": "flag", "folder": "folder", "writer": "account"},
    },
}


def run() -> dict:
    functions = (check_network, made, moved, network_options, site_of_group)
    return {"KINDS": KINDS, **{function.__name__: function for function in functions}}


def check_network(settings: dict, of_others) -> list[str]:
    """
    Return what is wrong between these settings and others.

    of_others
        A pattern of folders that others need.
    """
    paths, asked = settings["paths"], settings["worklists"]
    problems = [
        f"orthanc:config:{section}: must not be null together with orthanc:{key}:enabled; take one"
        " of the two out"
        for section, key in (("DicomWeb", "dicomweb"), ("Worklists", "worklists"))
        if settings[key]["enabled"] and settings["config"].get(section, {}) is None
    ]
    problems += check_in_database(settings) + check_group(settings["network"], settings)
    folder, where = posixpath.normpath(asked["folder"]), "orthanc:worklists:folder"
    closed = [
        name
        for name in ("config", "home", "storage", "index", "log")
        if paths[name] and f"{folder}/".startswith(f"{paths[name]}/")
    ]
    if of_others.fullmatch(folder):
        problems.append(
            f"{where}: {folder} is for others too, and would be closed to them; choose a folder"
            f" below it, such as {folder.rstrip('/')}/worklists"
        )
    if closed:
        problems.append(
            f"{where}: must not be in {paths[closed[0]]} (orthanc:paths:{closed[0]}), which nobody"
            " but Orthanc may enter; choose another folder"
        )
    elif SYSTEM.fullmatch(folder):
        problems.append(
            f"{where}: {folder} is in a folder of the system, where others must not write; choose"
            " another one, such as /var/lib/orthanc-worklists"
        )
    return problems


def check_in_database(settings: dict) -> list[str]:
    """Return what modalities and peers in the database lack, or what would say it twice."""
    key, config, users = "orthanc:modalities_in_database", settings["config"], settings["users"]
    problems = [
        f"orthanc:config:{option}: is what {key} says; set that alone, true or false, and take this"
        " one out"
        for option in ("DicomModalitiesInDatabase", "OrthancPeersInDatabase")
        if key in settings["asked"] and option in config
    ]
    able = any("rules" in user or user.get("role") == "admin" for user in users.values())
    if settings["modalities_in_database"] and users and not able and not settings["demo_users"]:
        problems.append(
            f"{key}: none of orthanc:users may tell Orthanc its modalities; give one the role admin"
        )
    return problems


def check_group(network: dict, settings: dict) -> list[str]:
    """Return what is wrong with the group of sites that this one is in."""
    key = "orthanc:network"
    if "group" not in network:
        return [
            f"{key}:group: missing; name the group, or take {key}:{other} out"
            for other in ("accounts", "sites", "host")
            if network.get(other)
        ][:1]
    problems = []
    if not settings["modalities_in_database"]:
        problems.append(
            f"{key}: needs orthanc:modalities_in_database: true, so that a site that joins restarts"
            " no other one"
        )
    for site, account in network["accounts"].items():
        problems += check_account(f"{key}:accounts:{site}", site, account, settings)
    for site, card in network["sites"].items():
        problems += [
            f"{key}:sites:{site}:{one}: missing; {remedy}"
            for one, remedy in LACKING.items()
            # One that does not answer over DICOM has none of them.
            if one not in card and (one == "role" or {"aet", "host", "port"} & {*card})
        ]
    return problems


def check_account(path: str, site: str, account: dict, settings: dict) -> list[str]:
    """Return what is wrong with an account that this server has at another site."""
    name = account.get("username")
    if name is None:
        return [f"{path}:username: missing"]
    problems = []
    if "password" not in account and name not in settings["users"]:
        problems.append(
            f"{path}:password: missing; give it, or make {name} one of orthanc:users with the role"
            " peer, whose password is the one then"
        )
    elif "password" not in account and settings["users"][name].get("role") != "peer":
        problems.append(
            f"{path}:username: {name} is no user with the role peer here, and other sites would get"
            " its password; choose a user of that role, or give a password"
        )
    # A site is whoever the master knows; and a password that anybody asks for is none.
    if not site.strip("*?") and any(not one.strip("*?") for one in settings["network"]["members"]):
        problems.append(
            f"{path}: each minion of the master could get this password, by a card of its own; say"
            " in orthanc:network:members who is of the group"
        )
    return problems


def accounts(settings: dict) -> dict:
    """Return the accounts at other sites, each with its password, or a reference to it."""
    found, users = {}, settings["users"]
    for site, account in settings["network"].get("accounts", {}).items():
        # Without one it is that of the same user here: sites of a group may have them in common.
        known = {"password": users.get(account.get("username"), {}).get("password")}
        found[site] = {**known, **account}
    return found


def site_of_group(settings: dict) -> dict | None:
    """Return what ``orthanc_cards`` makes modalities and peers of; None for no group."""
    network = settings["network"]
    if "group" not in network or not settings["modalities_in_database"]:
        return None
    group = network["group"]
    return {
        **{"id": settings["system"]["id"], "group": group},
        "aet": str(settings["config"].get("DicomAet", settings["dicom"]["aet"])),
        "tls": "certificate" in settings["dicom"]["tls"],
        "members": network["members"],
        "accounts": accounts(settings),
        "sites": {site: {"group": group, **card} for site, card in network["sites"].items()},
    }


def network_options(settings: dict) -> list[tuple]:
    """Return rows of option, value and key of the pillar, as ``options.py`` makes layers of."""
    return [
        *unknown(settings),
        *dicomweb(settings["dicomweb"]),
        *worklists(settings["worklists"]),
        *database(settings),
    ]


def database(settings: dict) -> list[tuple]:
    """
    Return the option for modalities and peers in PostgreSQL, which holds them for each server.

    The name that Orthanc gives itself changes with its addresses.
    """
    if not settings["modalities_in_database"] or not settings["postgresql"]["enabled"]:
        return []
    return [("DatabaseServerIdentifier", settings["system"]["id"], "modalities_in_database")]


def unknown(settings: dict) -> list[tuple]:
    """Return the options that say what devices may do which Orthanc does not know."""
    key, allowed = "dicom:unknown", settings["dicom"]["unknown"]
    # Otherwise they may be said by another file.
    if f"orthanc:{key}" not in settings["asked"]:
        return []
    return [(option, what in allowed, key) for what, option in UNKNOWN.items()]


def dicomweb(asked: dict) -> list[tuple]:
    """Return the options of the plugin for DICOMweb."""
    if not asked["enabled"]:
        return []
    names = {"root": "Root", "public_root": "PublicRoot", "servers": "Servers"}
    return [
        ("DicomWeb", {}, "dicomweb:enabled"),
        (("DicomWeb", "Enable"), True, "dicomweb:enabled"),
        *(
            (("DicomWeb", option), asked[key], f"dicomweb:{key}")
            for key, option in names.items()
            if asked.get(key)
        ),
    ]


def worklists(asked: dict) -> list[tuple]:
    """Return the options of the plugin for worklists, as each of its releases reads them."""
    if not asked["enabled"]:
        return []
    return [
        ("Worklists", {}, "worklists:enabled"),
        (("Worklists", "Enable"), True, "worklists:enabled"),
        (("Worklists", "Database"), asked["folder"], "worklists:folder"),
    ]


def made(settings: dict) -> dict:
    """Return the folders besides Orthanc's own that the formula makes, and whose they are."""
    asked = settings["worklists"]
    return {asked["folder"]: asked.get("writer", "root")} if asked["enabled"] else {}


def moved(settings: dict) -> dict:
    """Return the options that move addresses of the REST API."""
    dicomweb, section = settings["dicomweb"], settings["config"].get("DicomWeb", {})
    root = {"Root": dicomweb["root"]} if dicomweb["enabled"] and "root" in dicomweb else {}
    # Anything but a mapping is refused later on.
    return {"DicomWeb": {**root, **section} if isinstance(section, dict) else section}
