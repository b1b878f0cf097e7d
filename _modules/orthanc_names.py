"""
The name that was meant: what a name stands near that Orthanc and its plugins do not know.

A name that is hardly different is a misspelt one, or an abbreviation; what people really write,
because other servers have it, is in a table with what they want instead.

All functions are pure.
"""

from __future__ import annotations

import fnmatch
import re

# What Salt offers.
__load__ = ["instead", "meant"]


_HEADERS = (
    "Orthanc itself sends no headers of one's choice, also none for CORS; nginx in front of it does"
    " that: orthanc:https:cors lists origins, orthanc:https:headers other headers"
)
_LEVEL = "the level of the log is no option: PUT /tools/log-level with verbose or trace changes it"
_LOG = "the folder of the log is orthanc:paths:log"
_HTTPS = "HTTPS is set up by orthanc:https"
_USERS = "who may log in stands in orthanc:users"
_TITLE = "the title of this server is DicomAet (orthanc:dicom:aet)"
_STORAGE = "the folder of the images is StorageDirectory (orthanc:paths:storage)"
_DATABASE = "a database is used by orthanc:postgresql"
_ADDRESS = (
    "who may reach the port says orthanc:remote_access; the addresses that Orthanc listens on are"
    " HttpBindAddresses, from 1.12.10 on"
)
_SWITCH = "EnableIndex switches it on for the index, EnableStorage for the images"
_DICOMWEB = "it is always there with the plugin; only DicomWeb:Enable switches all of it off"
_ROUTING = "Orthanc sends images on by a script of LuaScripts, or by a plugin"
_TIMEOUT = "DicomScpTimeout is for what others ask of Orthanc, DicomScuTimeout for what it asks"

# What people write where Orthanc has nothing of that name (found in public configurations), and
# what they want instead: patterns of names in lower case without - and _, below a section with it.
INSTEAD = {
    "httpheaders": _HEADERS,
    "headers": _HEADERS,
    "*cors*": _HEADERS,
    "accesscontrol*": _HEADERS,
    "loglevel": _LEVEL,
    "verbose*": _LEVEL,
    "trace*": _LEVEL,
    "debug*": _LEVEL,
    "logverbos*": _LEVEL,
    "logfile*": _LOG,
    "logdir*": _LOG,
    "logfolder": _LOG,
    "logpath": _LOG,
    "logspath": _LOG,
    "logs": _LOG,
    "aet": _TITLE,
    "aetitle": _TITLE,
    "dicomaetitle": _TITLE,
    "orthancaet*": _TITLE,
    "https": _HTTPS,
    "httpsport": _HTTPS,
    "httpsenable*": _HTTPS,
    "httpscert*": _HTTPS,
    "httpskey*": _HTTPS,
    "httpsprivatekey*": _HTTPS,
    "sslport": _HTTPS,
    "sslkey*": _HTTPS,
    "sslprivatekey*": _HTTPS,
    "sslcertificatekey*": _HTTPS,
    "certificatefile": _HTTPS,
    "certificatekey*": _HTTPS,
    "keyfile": _HTTPS,
    "tls": _HTTPS,
    "enablessl": _HTTPS,
    "usessl": _HTTPS,
    "ssl": _HTTPS,
    "user": _USERS,
    "users": _USERS,
    "username": _USERS,
    "password": _USERS,
    "httpuser*": _USERS,
    "httppassword": _USERS,
    "adminuser*": _USERS,
    "adminpassword": _USERS,
    "host": _ADDRESS,
    "httphost": _ADDRESS,
    "httpaddress*": _ADDRESS,
    "bindaddress*": _ADDRESS,
    "listenaddress*": _ADDRESS,
    "port": "the port is HttpPort (orthanc:port) for browsers, DicomPort (orthanc:dicom:port) for"
    " modalities",
    "storage": _STORAGE,
    "storagepath": _STORAGE,
    "storagearea*": _STORAGE,
    "storagelocation": _STORAGE,
    "datadir*": _STORAGE,
    "dicomstorage*": _STORAGE,
    "database": _DATABASE,
    "databaseurl": _DATABASE,
    "databasetype": _DATABASE,
    "databasehost": _DATABASE,
    "db": _DATABASE,
    "postgres": _DATABASE,
    "modalityworklist*": "worklists are set up by the section Worklists",
    "wado": "WADO belongs to the plugin of DICOMweb: DicomWeb:EnableWado and DicomWeb:WadoRoot",
    "stow": _DICOMWEB,
    "qido": _DICOMWEB,
    "dicomtimeout": _TIMEOUT,
    "dicomconnectiontimeout": _TIMEOUT,
    "dicomassociationtimeout": _TIMEOUT,
    "*allowduplicates": "what comes a second time is ruled by OverwriteInstances"
    " (orthanc:overwrite_instances)",
    "autorout*": _ROUTING,
    "autoforward*": _ROUTING,
    "routing*": _ROUTING,
    "forwarding*": _ROUTING,
    "transfers:bidirectionalpeers": "RemoteSelf of each peer (orthanc:peers) says so",
    "webhook*": "Orthanc calls others by a script of LuaScripts, or by a plugin",
    "postgresql:enable": _SWITCH,
    "postgresql:enabled": _SWITCH,
    "mysql:enable": _SWITCH,
    "mysql:enabled": _SWITCH,
    "odbc:enable": _SWITCH,
    "odbc:enabled": _SWITCH,
    "dicomweb:port": "it is served on the port of Orthanc itself, HttpPort (orthanc:port)",
    "dicomweb:enablestow*": _DICOMWEB,
    "dicomweb:enableqido*": _DICOMWEB,
    "dicomweb:enablemetadata": _DICOMWEB,
    "dicomweb:stow*root": "all of it is below DicomWeb:Root",
    "dicomweb:qido*root": "all of it is below DicomWeb:Root",
    "dicomweb:user*": _USERS,
    "dicomweb:password": _USERS,
    "dicomweb:*cors*": _HEADERS,
    "dicomweb:httpheaders": _HEADERS,
    "dicommodalities:*:aetitle": "the title of a modality is AET",
    "dicommodalities:*:title": "the title of a modality is AET",
    "dicommodalities:*:ip*": "the address of a modality is Host",
    "dicommodalities:*:address": "the address of a modality is Host",
    "dicommodalities:*:hostname": "the address of a modality is Host",
    "orthancpeers:*:host": "the address of a peer is Url",
    "orthancpeers:*:address": "the address of a peer is Url",
    "orthancpeers:*:user": "the account at a peer is Username",
}
# How many levels there may be to choose from.
SEVERAL = 3
# So many names are few enough to list them all.
FEW = 12


def meant(path, known, elsewhere):
    """
    Part of the formula. Return the end of a sentence about a name that is not known, which says
    what was meant as far as that can be told.

    path
        The names of the place, as a list; the last one is that which is not known.

    known
        The names that are known at this place.

    elsewhere
        A mapping from known names to the paths of the mappings that they stand in, each a list.
    """
    *place, name = map(str, path)
    lower = {str(one).lower(): str(one) for one in known}
    if name.lower() in lower:
        return f"because case matters: it is spelt {lower[name.lower()]}"
    near = __salt__["orthanc_shapes.near"](name, list(lower.values()))
    wanted = instead(path) or _levels(name, place, elsewhere)
    if not wanted and near:
        wanted = f"the nearest known {'ones are' if near[1:] else 'one is'} {_or(near)}"
    if not wanted and len(lower) <= FEW:
        wanted = f"known here: {', '.join(sorted(lower.values()))}"
    return (
        f"which would be ignored; {wanted or 'take it out, or see the Orthanc Book for its name'}"
    )


def instead(path):
    """
    Part of the formula. Return what people want who write a name that Orthanc has never had;
    nothing where nobody knows.

    path
        The names of the place, as a list; the last one is that which is not known.
    """
    plain = ":".join(re.sub("[-_]", "", str(part)).lower() for part in path)
    for pattern, wanted in INSTEAD.items():
        if pattern.count(":") == plain.count(":") and fnmatch.fnmatchcase(plain, pattern):
            return wanted
    return ""


def _or(names: list) -> str:
    return " or ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def _levels(name: str, place: list, elsewhere: dict) -> str:
    """Return on which other level a name is known, if there are not too many of them."""
    found = {
        ":".join(level): spelt
        for spelt, levels in elsewhere.items()
        if spelt.lower() == name.lower()
        for level in levels
        if level != place
    }
    same = [level for level in found if level.split(":")[0] == (place or [""])[0]]
    candidates = same if place and same else list(found)
    if not candidates or len(candidates) > SEVERAL:
        return ""
    spelt = found[candidates[0]]
    if place and "" in candidates:
        return f"{spelt} belongs outside of {place[0]}"
    return f"{spelt} belongs below {_or(candidates)}"
