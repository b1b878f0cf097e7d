"""
The one place where pillar, map file of the OS family and defaults meet.

``part.py`` loads it, once in a run, and the SLS files get a dict: the merged settings below
``settings``; functions that return what becomes of them: ``configuration`` for Orthanc and
``proxy`` for nginx, with or without its site (of ``options.py``); ``pillar_state``, the state that
fails with all that is wrong with the pillar; and ``apart``, for states of packages. In the place of
a secret there is a reference, by which the host looks it up; see ``orthanc_pillar``. Of a pillar
with mistakes the settings are what is sound of it, so that each SLS always gives its states.
``SHAPE`` is the list of all keys that the pillar may hold. What Orthanc itself may be told is
judged later, on the host, by ``orthanc_conf.valid`` in ``orthanc.validation``.
"""

from __future__ import annotations

import copy
import difflib
import functools
import hashlib
import ipaddress
import posixpath
import re
import urllib.parse

from salt.utils.dictupdate import merge_recurse


class Value:
    """
    What a value must be: in words for the administrator, and in those of JSON Schema. A ``pattern``
    is one for the whole text here, and means the same to Python and to JavaScript.
    """

    def __init__(self, wanted: str, **schema) -> None:
        self.wanted, self.schema = wanted, schema

    def test(self, value) -> bool:
        """Return whether a value is one."""
        return fits(value, self.schema)


def fits(value, schema: dict) -> bool:
    """Return whether a value is as a schema says, of which it knows the words of this file."""
    if "anyOf" in schema:
        return any(fits(value, each) for each in schema["anyOf"])
    if "enum" in schema:
        return any(isinstance(value, type(each)) and value == each for each in schema["enum"])
    if "type" in schema and not isinstance(value, TYPES[schema["type"]]):
        return False
    if "minimum" in schema:
        # For Python, true is a number.
        return not isinstance(value, bool) and schema["minimum"] <= value <= schema["maximum"]
    if "pattern" in schema and not re.fullmatch(schema["pattern"], value):
        return False
    return "format" not in schema or FORMATS[schema["format"]](value)


def is_origin(text: str) -> bool:
    """Return whether an origin is in the form that browsers give it, of which its pattern holds."""
    scheme, _, where = text.partition("://")
    host, port = re.fullmatch(r"(.*?)(?::([0-9]+))?", where).groups()
    if host[0] == "[" or host.rpartition(".")[2].isdigit():
        try:
            if ipaddress.ip_address(host.strip("[]")).compressed != host.strip("[]"):
                return False
        except ValueError:
            return False
    return port is None or (int(port) < 65536 and (scheme, port) not in USUAL_PORTS)


TYPES = {"boolean": bool, "integer": int, "string": str}
FORMATS = {"origin": is_origin}
# Browsers leave these out.
USUAL_PORTS = (("http", "80"), ("https", "443"))
LABEL = r"(?!-)[a-z0-9_-]{1,63}(?<!-)"
FLAG = Value("true or false", type="boolean")
TEXT = Value("a text (put it in quotes)", type="string", pattern=r"[\s\S]+")
PASSWORD = Value(TEXT.wanted, **TEXT.schema)
PORT = Value("a port number from 1 to 65535", type="integer", minimum=1, maximum=65535)
COUNT = Value("a whole number, 0 or more", type="integer", minimum=0, maximum=2**31 - 1)
SECONDS = Value("a number of seconds from 1 to 86400", type="integer", minimum=1, maximum=86400)
FOLDER = Value("an absolute path", type="string", pattern=r"/[^\0\n]*")
HOST = Value(
    "the name or the IP address of a host",
    type="string",
    pattern=r"[A-Za-z0-9_.-]+|[0-9A-Fa-f.]*(:[0-9A-Fa-f.]*){2,7}",
)
DATABASE_URL = Value(
    "postgresql://user:password@host:port/database",
    type="string",
    pattern=r"postgres(ql)?://[^\n]*",
)
PATTERN = Value("a path of the REST API that begins with /", type="string", pattern=r"/[^\s?#]*")
AET = Value(
    "1 to 16 ASCII characters without backslash, not all blank (in quotes)",
    type="string",
    pattern=r"(?= *[^ ])[ -\[\]-~]{1,16}",
)
OVERWRITE = Value(
    "true, false, Never, Always or IfChanged", enum=[True, False, "Never", "Always", "IfChanged"]
)
ROLE = Value("admin, writer or reader", enum=["admin", "writer", "reader"])
METHOD = Value("GET, POST, PUT or DELETE", enum=["GET", "POST", "PUT", "DELETE"])
ANY = Value("anything")
# What Orthanc is told as it stands, and judged on the host: an entry, where nothing may be empty,
# and an option, which null takes out.
ENTRY = Value("anything")
OPTION = Value("anything")
DEIDENTIFY = Value(
    "true, false, or the year of a DICOM standard such as '2021b'",
    anyOf=[FLAG.schema, {"type": "string", "pattern": "[0-9]{4}[a-e]?"}],
)
USER_NAME = Value(
    "a user name without colon or control characters",
    type="string",
    pattern=r"[^:\x00-\x1f]+",
)
OPTION_NAME = Value("the name of an option of Orthanc", type="string", pattern="[A-Za-z0-9_]+")
DOWNLOAD = Value(
    "an https://, http:// or salt:// URL without a password in it, or an absolute path",
    type="string",
    pattern=r"https?://[^\s/@?#]+/[^\s]+|salt://[^\s/][^\0\n]*|/[^\0\n]+",
)
SHA256 = Value(
    "sha256= and the 64 hexadecimal digits that sha256sum prints (in quotes)",
    type="string",
    pattern="(?:sha256=)?[0-9A-Fa-f]{64}",
)
PLUGIN_FILE = Value(
    "a file name of letters, digits and . _ + - that ends in .so",
    type="string",
    pattern=r"[A-Za-z0-9_+-][A-Za-z0-9._+-]*\.so",
)
ACCOUNT = Value("the name of an account", type="string", pattern="[A-Za-z_][A-Za-z0-9._-]*")
# Of a path, what nginx cannot have between quotes is left out.
SOURCE = Value(
    "an absolute path on the host, a salt:// URL, or the text of a PEM file",
    type="string",
    pattern=r'/[^\0\n"\\$]*|salt://[^\0\n]+|[\s\S]*-----BEGIN [A-Z0-9 ]+-----[\s\S]+',
)
# As browsers send it: https://fetch.spec.whatwg.org/#origin-header
ORIGIN = Value(
    "an origin as browsers send it: https://viewer.example.org, with a port behind it where it is"
    " not the usual one; small letters, no path, no / at the end, no *",
    type="string",
    pattern=rf"https?://({LABEL}(\.{LABEL})*|\[[0-9a-f:]+\])(:[1-9][0-9]{{0,4}})?",
    format="origin",
)
HEADER = Value(
    "the name of a header: letters, digits, _ and -", type="string", pattern="[A-Za-z0-9_-]+"
)
# What nginx takes between quotes, in a buffer of 4096 bytes.
HEADER_TEXT = Value(
    r'a text (in quotes) of up to 4000 printable ASCII characters without $ \ and "',
    type="string",
    pattern=r"[ !#%-\[\]-~]{1,4000}",
)
TERMINATOR = Value("nginx or orthanc", enum=["nginx", "orthanc"])

# A dict lists the keys of a mapping; a mapping with names that the administrator chooses has one
# key, the Value that these names must have. A list stands for a list of such items.
LINK = {"name": TEXT, "target": FOLDER}
SHAPE = {
    "packages": [TEXT],
    "version": TEXT,
    "port": PORT,
    "remote_access": FLAG,
    "overwrite_instances": OVERWRITE,
    "limit_find": COUNT,
    "deidentify_logs": DEIDENTIFY,
    "https": {
        "enabled": FLAG,
        "certificate": SOURCE,
        "key": SOURCE,
        "self_signed": FLAG,
        "terminator": TERMINATOR,
        "backend_port": PORT,
        "cors": [ORIGIN],
        "headers": {HEADER: HEADER_TEXT},
    },
    "dicom": {
        "enabled": FLAG,
        "aet": AET,
        "port": PORT,
        "check_modality_host": FLAG,
        "tls": {
            "enabled": FLAG,
            "certificate": SOURCE,
            "key": SOURCE,
            "trusted_certificates": SOURCE,
            "require_certificate": FLAG,
        },
    },
    "users": {
        USER_NAME: {
            "password": PASSWORD,
            "role": ROLE,
            "rules": [{"methods": [METHOD], "paths": [PATTERN]}],
        }
    },
    "demo_users": FLAG,
    "modalities": {ANY: ENTRY},
    "peers": {ANY: ENTRY},
    "ca_source": SOURCE,
    "links": {
        "enabled": FLAG,
        "dir": FOLDER,
        **{name: LINK for name in ("config", "log", "data", "plugins")},
    },
    "paths": {name: FOLDER for name in ("config", "home", "storage", "index", "plugins", "log")},
    "postgresql": {
        **{name: FLAG for name in ("enabled", "verify", "storage")},
        **{name: TEXT for name in ("database", "user")},
        "password": PASSWORD,
        "uri": DATABASE_URL,
        "host": HOST,
        "port": PORT,
        "ca_source": SOURCE,
        "ca": FOLDER,
    },
    "start_timeout": SECONDS,
    "preflight": FLAG,
    "plugins": [{"source": DOWNLOAD, "source_hash": SHA256, "name": PLUGIN_FILE, "insecure": FLAG}],
    "plugin_sections": [OPTION_NAME],
    "backup_key": {"enabled": FLAG, "dir": FOLDER, "path": FOLDER, "remote_user": ACCOUNT},
    "config": {ANY: OPTION},
}
# What is or may be a secret, and so is no argument of a state; and where something comes from: a
# text may be a key, and a URL hold a token, unless it is a path or one of Salt's own. (salt-ssh
# brings along what it sees in the arguments as salt://.) Of the values of orthanc:config, which may
# be secrets all of them, ``options.py`` takes care, because it looks at some.
SECRET = (PASSWORD, DATABASE_URL, ENTRY)
SECRET_UNLESS_PLACE = (SOURCE, DOWNLOAD)
# The families of systems that the formula has a map file for.
FAMILIES = ("Debian", "Suse")
# What people write, in small letters without _ and -, and where its place is. A name in capitals
# and small letters that is not here, and near no key, is taken for an option of Orthanc.
MEANT = {
    "orthanc": {
        **dict.fromkeys(("aet", "aetitle", "aetname", "title", "dicomaet"), "orthanc:dicom:aet"),
        **dict.fromkeys(("modality", "aets", "nodes", "scanners"), "orthanc:modalities"),
        **dict.fromkeys(("dicommodalities", "dicomnodes"), "orthanc:modalities"),
        **dict.fromkeys(("orthancpeers", "peer"), "orthanc:peers"),
        **dict.fromkeys(("password", "admin", "adminpassword"), "orthanc:users"),
        **dict.fromkeys(("auth", "authentication", "authenticationenabled"), "orthanc:users"),
        **dict.fromkeys(("registeredusers", "credentials", "accounts"), "orthanc:users"),
        **dict.fromkeys(("httpport", "webport"), "orthanc:port"),
        **dict.fromkeys(("remote", "remoteaccessallowed", "public"), "orthanc:remote_access"),
        **dict.fromkeys(("tls", "ssl", "certificates", "sslenabled"), "orthanc:https:enabled"),
        **dict.fromkeys(("nginx", "proxy", "reverseproxy"), "orthanc:https:terminator"),
        **dict.fromkeys(("certificate", "cert", "sslcertificate"), "orthanc:https:certificate"),
        **dict.fromkeys(("key", "privatekey", "sslkey"), "orthanc:https:key"),
        **dict.fromkeys(("cors", "origins", "allowedorigins", "corsorigins"), "orthanc:https:cors"),
        **dict.fromkeys(("headers", "httpheaders", "hsts"), "orthanc:https:headers"),
        **dict.fromkeys(("database", "db", "postgres", "psql"), "orthanc:postgresql"),
        **dict.fromkeys(("storage", "images", "datadir"), "orthanc:paths:storage"),
        **dict.fromkeys(("storagedirectory", "storagepath"), "orthanc:paths:storage"),
        **dict.fromkeys(("index", "indexdirectory"), "orthanc:paths:index"),
        **dict.fromkeys(("log", "logs", "logdir"), "orthanc:paths:log"),
        **dict.fromkeys(("script", "scripts", "lua", "luascript"), "orthanc:config:LuaScripts"),
        **dict.fromkeys(("options", "settings", "configuration"), "orthanc:config"),
        **dict.fromkeys(("backup", "sshkey"), "orthanc:backup_key"),
        **dict.fromkeys(("plugin", "downloads"), "orthanc:plugins"),
        **dict.fromkeys(("dicomtls", "dicomtlsenabled"), "orthanc:dicom:tls:enabled"),
        **dict.fromkeys(("worklist", "worklists"), "orthanc:config:Worklists"),
        **dict.fromkeys(("overwrite",), "orthanc:overwrite_instances"),
        **dict.fromkeys(("limitfindresults", "limitfindinstances"), "orthanc:limit_find"),
        "deidentifylogsdicomversion": "orthanc:deidentify_logs",
        "name": "orthanc:config:Name",
        "dicomport": "orthanc:dicom:port",
        "dicomserverenabled": "orthanc:dicom:enabled",
        "dicomtlscertificate": "orthanc:dicom:tls:certificate",
        "dicomtlsprivatekey": "orthanc:dicom:tls:key",
        "dicomtlstrustedcertificates": "orthanc:dicom:tls:trusted_certificates",
        "dicomtlsremotecertificaterequired": "orthanc:dicom:tls:require_certificate",
        "dicomweb": "orthanc:config:DicomWeb",
        "maximumstoragesize": "orthanc:config:MaximumStorageSize",
        "webdav": "orthanc:config:WebDavEnabled",
        "storagecompression": "orthanc:config:StorageCompression",
        "compression": "orthanc:config:StorageCompression",
        "timeout": "orthanc:start_timeout",
    },
    "orthanc:dicom": {
        **dict.fromkeys(("aetitle", "title", "name"), "orthanc:dicom:aet"),
        **dict.fromkeys(("modalities", "nodes"), "orthanc:modalities"),
    },
    "orthanc:dicom:tls": {
        **dict.fromkeys(
            ("ca", "cacertificate", "trusted"), "orthanc:dicom:tls:trusted_certificates"
        ),
        **dict.fromkeys(("privatekey",), "orthanc:dicom:tls:key"),
    },
    "orthanc:https": {
        **dict.fromkeys(("port", "listen"), "orthanc:port"),
        **dict.fromkeys(("fullchain", "chain"), "orthanc:https:certificate"),
        **dict.fromkeys(("proxy", "nginx"), "orthanc:https:terminator"),
        **dict.fromkeys(("origins", "allowedorigins", "corsorigins"), "orthanc:https:cors"),
        **dict.fromkeys(("hsts", "addheader", "addheaders"), "orthanc:https:headers"),
        "privatekey": "orthanc:https:key",
    },
    "orthanc:postgresql": {
        **dict.fromkeys(("name", "db", "dbname"), "orthanc:postgresql:database"),
        **dict.fromkeys(("url", "connectionuri", "dsn"), "orthanc:postgresql:uri"),
        **dict.fromkeys(("server", "address"), "orthanc:postgresql:host"),
        **dict.fromkeys(("enableindex", "enable"), "orthanc:postgresql:enabled"),
        "enablestorage": "orthanc:postgresql:storage",
    },
    "orthanc:users:*": {
        **dict.fromkeys(("pw", "pwd", "secret"), "password"),
        **dict.fromkeys(("permissions", "rights", "methods", "paths", "allow"), "rules"),
        **dict.fromkeys(("admin", "group", "groups"), "role"),
    },
}
# What people write and no setting can give.
NO_SETTING = {
    **dict.fromkeys(
        ("loglevel", "verbose", "debug", "trace"),
        "Orthanc has no option for it; PUT /tools/log-level changes it while Orthanc runs",
    ),
    **dict.fromkeys(
        ("retention", "retentiondays", "maxage"),
        "Orthanc deletes nothing by its age; orthanc:config:MaximumStorageSize limits the images by"
        " their size",
    ),
    "firewall": "the formula leaves the firewall alone; see the README",
    "monitoring": "the formula has none; Orthanc tells its numbers at /tools/metrics-prometheus",
}
# How alike a mistyped name and a known one are at least, of 1.
NEAR = 0.75
# What null may take out below an option: the formula itself, and nobody else, sets it.
TAKEN_OUT = (
    "orthanc:config:PostgreSQL:MaximumConnectionRetries",
    "orthanc:config:PostgreSQL:ConnectionRetryInterval",
)
# Settings of the pillar that are one option of Orthanc, whole.
WHOLE = {"DicomModalities": "modalities", "OrthancPeers": "peers"}
# What to write instead of nothing, where that is not plain.
INSTEAD = {
    "orthanc": "write `orthanc: {}` for a server with all defaults",
    "orthanc:users": "give each user a password and a role, or write `users: {}` for a server"
    " without users",
}
# What a pillar is that there is not: no mapping, and no `orthanc:` with nothing behind it either.
ABSENT = object()
# For each pkg.installed. Where ``state_aggregate`` is on, Salt would join it with those of others:
# it knows no version then, and installs before what must come first. Salt leaves alone
# what comes from another source, and an empty one is none.
APART = [{"aggregate": False}, {"fromrepo": ""}]
# state.apply does not bring custom modules by itself, as a highstate does.
UNSYNCED = (
    "the formula's own modules are not on this minion yet; nothing was changed. Bring them with"
    " `salt-call saltutil.sync_all`, or add sync_mods=all to state.apply"
)
# A package that brings a plugin.
PLUGIN_PACKAGE = re.compile(r"orthanc-(?!.*(doc|devel|dev|source)$).*")
ACCESS_PATHS = ("orthanc:users", "orthanc:demo_users", "orthanc:remote_access", "orthanc:config")
# Headers that are not the administrator's, in small letters: those of the message itself, those
# that nginx and Orthanc give a meaning for this answer, and one that goes with cors.
FIXED_HEADERS = (
    *("connection", "content-encoding", "content-length", "content-range", "content-type", "date"),
    *("etag", "keep-alive", "last-modified", "location", "server", "set-cookie", "trailer"),
    *("transfer-encoding", "upgrade", "vary", "www-authenticate"),
)
# Options that say who may reach Orthanc over HTTPS, and behind nginx also where it listens.
OWN_HTTPS = ("SslEnabled", "SslCertificate")
BEHIND_NGINX = (*OWN_HTTPS, "HttpPort", "HttpBindAddresses", "RemoteAccessAllowed")
# Where Orthanc has to listen, among others: there the formula asks it whether it serves.
LOCAL_ADDRESSES = ("127.0.0.1", "0.0.0.0")  # noqa: S104 no address to bind to
# The browser's own host.
LOCAL_ORIGIN = re.compile(r"http://(localhost|127\.\d+\.\d+\.\d+|\[::1\])(:|$)")
# Folders that others need; the formula would close them.
OF_OTHERS = re.compile(
    r"/(bin|etc|home|lib\w*|media|mnt|opt|root|sbin|srv|tmp|usr|var)?"
    r"|/(boot|dev|proc|run|sys)(/.*)?|/usr/(bin|lib\w*|local(/\w+)?|sbin|share)"
    r"|/var/(cache|lib|local|log|mail|opt|run|spool|tmp)"
)
# Of paths in the unit, what systemd would not take as it stands is left out.
UNIT_PATH = re.compile(r"[A-Za-z0-9/._+-]+")
# Below these paths of the pillar a wrong value may be a secret.
NOT_SHOWN = "password|secret|users|config|postgresql|source$|certificate|:key$"
# The three users that the GNU Health role calls demo users.
DEMO_USERS = {
    "admin": {"password": "admin", "role": "admin"},
    "alice": {"password": "bob", "role": "reader"},
    "bob": {"password": "alice", "role": "writer"},
}


def kind(value) -> str:
    """Name what a YAML value is, without telling a value that may be secret."""
    if value is None:
        return "nothing"
    names = {bool: "true or false", int: "a number", float: "a number", str: "a text"}
    for cls, name in {**names, dict: "a mapping", list: "a list"}.items():
        if isinstance(value, cls):
            return name
    return type(value).__name__


def nearest(key, known, path: str) -> str:
    """Return where the value of an unknown key probably belongs, or the keys that are known."""
    name = str(key)
    plain_name = re.sub("[_ -]", "", name).lower()
    level = "orthanc:users:*" if re.fullmatch("orthanc:users:[^:]+", path) else path
    meant = MEANT.get(level, {}).get(plain_name, "")
    lower = {one.lower(): one for one in known}
    near = lower.get(name.lower())
    if plain_name in NO_SETTING:
        return NO_SETTING[plain_name]
    if meant and not near:
        return f"what it sets has its place at {meant if ':' in meant else f'{path}:{meant}'}"
    if path == "orthanc" and not near and re.fullmatch("[A-Z]+[a-z][A-Za-z0-9]*", name):
        return f"if it is an option of Orthanc, its place is {path}:config:{name}"
    near = near or _near(name.lower(), lower)
    if near:
        return f"the nearest known key is {path}:{near}"
    return f"known below {path}: " + ", ".join(sorted(known))


def _near(name: str, known: dict) -> str | None:
    """Return the known name that is nearly the same, or holds the other one as a whole word."""
    found = difflib.get_close_matches(name, known, n=1, cutoff=NEAR)
    found += [
        one
        for one in known
        if min(len(name), len(one)) > 2
        and (one.startswith(name) or name.startswith(one) or name in one.split("_"))
    ]
    return known[found[0]] if found else None


def is_empty(value) -> bool:
    """Return whether nothing was written behind a key, or a text of nothing."""
    return value is None or (isinstance(value, str) and not value.strip())


def empty(value, path: str) -> str:
    """Return the sentence for what is written and empty."""
    what = "is written, with nothing behind it" if value is None else "is an empty text"
    remedy = INSTEAD.get(path, "give it a value, or take it out")
    return f"{path}: {what}; {remedy} (a loop of a template that found nothing looks so, too)"


def check_entry(value, path: str) -> list[str]:
    """Return one sentence for each place in an entry where nothing stands."""
    if is_empty(value):
        return [empty(value, path)]
    return [problem for place, item in _inside(value, path) for problem in check_entry(item, place)]


def check_option(value, path: str) -> list[str]:
    """
    Return one sentence for each null that would lose what stands there: null takes an option out,
    and of what is below one only what the formula itself has put there.
    """
    problems = []
    # A list replaces another one as it stands, and loses nothing.
    for place, item in _inside(value, path) if isinstance(value, dict) else ():
        if item is None and place not in TAKEN_OUT:
            problems.append(empty(item, place))
        problems += check_option(item, place)
    return problems


def _inside(value, path: str) -> list[tuple]:
    """Return path and value of each item of a mapping or a list; there are none in others."""
    pairs = value.items() if isinstance(value, dict) else ()
    if isinstance(value, list):
        pairs = enumerate(value)
    return [(f"{path}:{key}", item) for key, item in pairs]


def check_shape(value, shape, path: str) -> list[str]:
    """Return one sentence for each place where the value is not of the shape."""
    problems = []
    if shape in (OPTION, ENTRY):
        problems += (check_option if shape is OPTION else check_entry)(value, path)
    elif is_empty(value):
        problems.append(empty(value, path))
    elif isinstance(shape, Value):
        if not shape.test(value):
            problems.append(f"{path}: must be {shape.wanted}, but is {_shown(value, path)}")
    elif not isinstance(value, type(shape)):
        problems.append(f"{path}: must be {kind(shape)}, but is {kind(value)}")
    elif isinstance(shape, list):
        for place, item in _inside(value, path):
            problems += check_shape(item, shape[0], place)
    else:
        problems += check_keys(value, shape, path)
    return problems


def check_keys(value: dict, shape: dict, path: str) -> list[str]:
    """Return the same for a mapping."""
    problems = []
    names = next((key for key in shape if isinstance(key, Value)), None)
    for key, item in value.items():
        if names:
            if names.test(key):
                problems += check_shape(item, shape[names], f"{path}:{key}")
            else:
                quotes = "" if isinstance(key, str) else " (in quotes)"
                problems.append(f"{path}:{key}: the key must be {names.wanted}{quotes}")
        elif key in shape:
            problems += check_shape(item, shape[key], f"{path}:{key}")
        else:
            problems.append(f"{path}:{key}: unknown key; {nearest(key, shape, path)}")
    return problems


def _shown(value, path: str) -> str:
    """Show a wrong value where it helps and can be no secret."""
    secret = re.search(NOT_SHOWN, path, re.IGNORECASE)
    if secret or not isinstance(value, (bool, int, float, str)):
        return kind(value)
    return f"{kind(value)}: {value!r}"


def check_required(pillar: dict) -> list[str]:
    """Return one sentence for each user that lacks something without which it is of no use."""
    problems = []
    for name, user in pillar.get("users", {}).items():
        if "password" not in user:
            problems.append(f"orthanc:users:{name}:password: missing")
        if ("role" in user) == ("rules" in user):
            problems.append(
                f"orthanc:users:{name}: needs either role (admin, writer or reader) or rules"
            )
        for number, rule in enumerate(user.get("rules", [])):
            problems += [
                f"orthanc:users:{name}:rules:{number}:{key}: missing; a rule without allows nothing"
                for key in ("methods", "paths")
                if not rule.get(key)
            ]
    return problems


def check_plugins(plugins: list) -> list[str]:
    """Return what is wrong with the plugins to download, each of which has the right shape."""
    problems = []
    names = [plugin.get("name") or file_name(plugin.get("source", "")) for plugin in plugins]
    for number, (plugin, name) in enumerate(zip(plugins, names)):
        path = f"orthanc:plugins:{number}"
        if "source" not in plugin:
            problems.append(f"{path}:source: missing")
        elif not PLUGIN_FILE.test(name):
            problems.append(
                f"{path}:name: missing, because the source does not end in {PLUGIN_FILE.wanted}"
            )
        elif name in names[:number]:
            problems.append(
                f"{path}:name: {name} is the name of another one too; choose another name"
            )
        if "source_hash" not in plugin and not plugin.get("insecure"):
            problems.append(
                f"{path}:source_hash: missing; put in what `sha256sum` prints for the right file,"
                " or set insecure: true to run whatever the source gives"
            )
    return problems


def check_loaded(settings: dict) -> list[str]:
    """Return that the option Plugins leaves out what the packages of the pillar bring."""
    config, folder = settings["config"], settings["paths"]["plugins"]
    brought = [name for name in settings["packages"] if PLUGIN_PACKAGE.fullmatch(name)]
    named = config.get("Plugins") or []
    if "Plugins" not in config or not brought or not isinstance(named, list):
        return []
    if any(f"{item}/".startswith((f"{folder}/", "/usr/")) for item in named):
        return []
    return [
        f"orthanc:config:Plugins: names neither {folder} nor a file in it, and Orthanc would not"
        f" load what {', '.join(brought)} brings; add it, or take Plugins out"
    ]


def check_backup_key(settings: dict) -> list[str]:
    """Return what is wrong with the places of the backup key."""
    key, paths = settings["backup_key"], settings["paths"]
    if key["dir"] in ("/", *paths.values()):
        return [
            f"orthanc:backup_key:dir: {key['dir']} has another use; choose a folder for the key"
            f" alone, such as {paths['home']}/.ssh"
        ]
    if posixpath.dirname(key["path"]) != key["dir"]:
        return [
            f"orthanc:backup_key:path: must be a file in orthanc:backup_key:dir, {key['dir']};"
            " change one of them"
        ]
    return []


def check_access(settings: dict) -> list[str]:
    """
    Return what would leave the server open, or open with a password that everybody knows.

    Orthanc up to 1.12.8 creates the user orthanc:orthanc where remote access is allowed and no
    user is declared. https://orthanc.uclouvain.be/book/faq/security.html
    """
    problems = []
    config = settings["config"]
    if (settings["users"] or settings["demo_users"]) and not config.get(
        "AuthenticationEnabled", True
    ):
        # Then Orthanc takes everybody who names a user for that user, and behind nginx everybody
        # is somebody on this host.
        problems.append(
            "orthanc:config:AuthenticationEnabled: must be true where there are users, whose"
            " passwords nobody would be asked for otherwise; take it out"
        )
    problems += [
        f"orthanc:config:{option}: null would take out all that orthanc:{key} names; take one of"
        " the two out"
        for option, key in WHOLE.items()
        if option in config and config[option] is None and settings[key]
    ]
    if "RegisteredUsers" in config:
        problems.append(
            "orthanc:config:RegisteredUsers: users are set in orthanc:users, with a role each"
        )
    if settings["demo_users"]:
        problems += [
            f"orthanc:users:{name}: is also the name of a demo user; choose another name, or set"
            " orthanc:demo_users to false"
            for name in sorted(set(settings["users"]) & set(DEMO_USERS))
        ]
    if not config.get("RemoteAccessAllowed", settings["remote_access"]):
        return problems
    if not settings["users"]:
        problems.append(
            "orthanc:remote_access: needs at least one user of your own in orthanc:users"
            " (demo users do not count: their passwords are public), otherwise everybody could"
            " read and delete the images"
        )
    return problems


def check_database(given: dict, settings: dict, defaults: dict) -> list[str]:
    """Return what in the pillar's own keys of PostgreSQL contradicts itself."""
    database, path, system = settings["postgresql"], "orthanc:postgresql", settings["system"]
    problems = []
    if "uri" in given:
        problems += [
            f"{path}:{key}: is said by {path}:uri as well; take one of the two out"
            for key in ("host", "port", "database", "user", "password", "verify")
            # A default may be written out.
            if key in given and given[key] != defaults.get(key)
        ]
        named = urllib.parse.quote(database["ca"], safe="")
        if {"ca", "ca_source"} & set(given) and f"sslrootcert={named}" not in given["uri"]:
            problems.append(
                f"{path}:uri: does not name {database['ca']}, so it would not be used; add"
                f" sslmode=verify-full&sslrootcert={named} behind the ? of the URI"
            )
    elif "host" not in given:
        problems += [
            f"{path}:{key}: is only for a database on another host; set {path}:host, or take it out"
            for key in ("password", "ca_source", "ca")
            if key in given
        ]
        if not database["verify"]:
            problems.append(f"{path}:verify: is only for a database on another host; take it out")
        if database["user"] != system["user"]:
            problems.append(
                f"{path}:user: must be {system['user']} for the local database, which knows"
                f" Orthanc by its account; take it out, or set {path}:host"
            )
    elif not database["verify"] and {"ca", "ca_source"} & set(given):
        problems.append(
            f"{path}:verify: must not be false together with {path}:ca or {path}:ca_source, which"
            " would not be used"
        )
    problems += check_ca(settings, path)
    if database["enabled"]:
        problems += check_section(settings["config"], path)
        if database["local"] and not system["booted"]:
            problems.append(
                f"{path}:enabled: systemd does not run here, so the formula cannot start a"
                f" database; start one yourself and set {path}:uri to postgresql:///orthanc"
            )
    return problems


def check_ca(settings: dict, path: str) -> list[str]:
    """Return what is wrong with the place of the CA on the host."""
    ca, folder = settings["postgresql"]["ca"], settings["paths"]["config"]
    if "ca_source" not in settings["postgresql"]:
        if ca == own_ca(settings):
            return [
                f"{path}:ca: {ca} is where {path}:ca_source is copied to; set {path}:ca_source, or"
                " keep the file in another folder"
            ]
    elif ca == ca_bundle(settings):
        return [
            f"{path}:ca: {ca} holds the CAs that the whole host trusts; choose another file, or"
            " leave it out"
        ]
    elif ca != own_ca(settings) and ca.startswith(f"{folder}/"):
        return [f"{path}:ca: must not be below {folder}, whose files are replaced; leave it out"]
    return []


def check_section(config: dict, path: str) -> list[str]:
    """Return what in the section PostgreSQL of the options would undo the pillar's own keys."""
    section = config.get("PostgreSQL", {})
    where = "orthanc:config:PostgreSQL"
    if section is None:
        return [f"{where}: must not be null together with {path}:enabled"]
    if not isinstance(section, dict):
        return []  # judged with the other options
    problems = []
    if "ConnectionUri" in section:
        problems.append(
            f"{where}:ConnectionUri: is not looked at together with {path}:enabled; use the keys of"
            f" {path}"
        )
    if section.get("EnableIndex", True) is not True:
        problems.append(
            f"{where}:EnableIndex: must be true together with {path}:enabled, otherwise the index"
            " would be in SQLite"
        )
    return problems


def check_own_ca(settings: dict) -> list[str]:
    """Return what would make the CA of other servers, which Orthanc connects to, of no use."""
    if "ca_source" not in settings:
        return []
    problems, config = [], settings["config"]
    if "HttpsCACertificates" in config:
        problems.append(
            "orthanc:config:HttpsCACertificates: is written by orthanc:ca_source, together with the"
            " CAs that the host trusts; take one of the two out"
        )
    if config.get("HttpsVerifyPeers", True) is False:
        problems.append(
            "orthanc:ca_source: would be ignored, because orthanc:config:HttpsVerifyPeers is false;"
            " take that out"
        )
    return problems


def check_pair(path: str, given: dict, needed: bool, own: str) -> list[str]:
    """Return what a certificate and its key lack. ``own`` begins the names of own files."""
    there = [name for name in ("certificate", "key") if name in given]
    problems = [
        f"{path}:{name}: missing; give a path on the host, a salt:// URL or the text of a PEM file"
        for name in ("certificate", "key")
        if (needed or there) and name not in there
    ]
    if there and "enabled" not in given:
        problems.append(
            f"{path}:enabled: missing, and without it {path}:{there[0]} protects nothing; set it to"
            " true, or to false to leave it off"
        )
    problems += [
        f"{path}:{name}: must not be a file that the formula itself writes"
        for name, source in given.items()
        if re.fullmatch(rf"/.*/{re.escape(own)}[^/]*", str(source))
    ]
    return problems


def check_https(settings: dict, given: dict) -> list[str]:
    """Return what about HTTPS is missing or contradicts itself."""
    https, dicom, config = settings["https"], settings["dicom"], settings["config"]
    self_signed, behind_nginx = https["self_signed"], https["terminator"] == "nginx"
    own, needed = settings["system"]["own"], https["enabled"] and not self_signed
    problems = check_pair("orthanc:https", given, needed, own)
    if self_signed and {"certificate", "key"} & set(given):
        problems.append(
            "orthanc:https:self_signed: must be false where there are orthanc:https:certificate and"
            " orthanc:https:key"
        )
    if self_signed and "enabled" not in given:
        problems.append("orthanc:https:enabled: missing; set it to true, or leave self_signed out")
    problems += check_headers(https["headers"])
    problems += [
        f"orthanc:https:{key}: is for nginx, and needs orthanc:https:enabled: true and"
        " orthanc:https:terminator: nginx; set these, or take it out"
        for key in ("cors", "headers")
        if https[key] and not (https["enabled"] and behind_nginx)
    ]
    if not https["enabled"]:
        return problems
    options = BEHIND_NGINX if behind_nginx else OWN_HTTPS
    problems += [
        f"orthanc:config:{option}: follows from orthanc:https; the settings are orthanc:port,"
        " orthanc:remote_access and what is below orthanc:https"
        for option in options
        if option in config
    ]
    port, backend = settings["port"], https["backend_port"]
    if behind_nginx and port == backend:
        problems.append(
            f"orthanc:https:backend_port: must not be {port}, which is orthanc:port; nginx listens"
            " there, and Orthanc behind it on a port of its own"
        )
    if behind_nginx and dicom["enabled"] and config.get("DicomPort", dicom["port"]) == port:
        problems.append(f"orthanc:dicom:port: must not be {port}, which is orthanc:port")
    return problems


def check_headers(headers: dict) -> list[str]:
    """Return which headers are not for the administrator to set, or are there twice."""
    problems, known = [], set()
    for name in headers:
        plain_name, where = name.lower(), f"orthanc:https:headers:{name}"
        if plain_name.startswith("access-control-"):
            problems.append(
                f"{where}: depends on who asks; list the origins in orthanc:https:cors, and take it"
                " out"
            )
        elif plain_name in FIXED_HEADERS:
            problems.append(f"{where}: is set by nginx and Orthanc, for each answer; take it out")
        elif plain_name in known:
            problems.append(f"{where}: is there already, in other letters; take one of them out")
        known.add(plain_name)
    return problems


def check_dicom_tls(settings: dict, given: dict) -> list[str]:
    """Return what about DICOM TLS is missing."""
    tls = settings["dicom"]["tls"]
    problems = check_pair("orthanc:dicom:tls", given, tls["enabled"], settings["system"]["own"])
    if tls["enabled"] and tls["require_certificate"] and "trusted_certificates" not in given:
        problems.append(
            "orthanc:dicom:tls:trusted_certificates: missing; give the certificate of the authority"
            " that signed those of the devices, or set orthanc:dicom:tls:require_certificate to"
            " false to let in devices without one"
        )
    return problems


def check_paths(settings: dict) -> list[str]:
    """Return what is wrong with the folders that the formula closes to others."""
    paths, user = settings["paths"], settings["system"]["user"]
    closed = {name: paths[name] for name in ("config", "home", "storage", "index", "log")}
    problems = []
    for name in settings["moved_paths"]:
        path, where = closed.get(name), f"orthanc:paths:{name}"
        if not path:
            continue
        if OF_OTHERS.fullmatch(path):
            problems.append(
                f"{where}: {path} is for others too, and would be closed to them; choose a folder"
                f" below it, such as {path.rstrip('/')}/orthanc"
            )
        elif name in ("config", "log") and not UNIT_PATH.fullmatch(path):
            problems.append(
                f"{where}: only letters, digits and / . _ + - are possible in this path"
            )
    for name in ("home", "storage", "index", "log"):
        if f"{paths['config']}/".startswith(f"{closed[name]}/"):
            problems.append(
                f"orthanc:paths:config: must not be {paths['config']}, where the account"
                f" {user} writes (orthanc:paths:{name}); choose another folder"
            )
            break
    return problems


def check_host(settings: dict) -> list[str]:
    """Return what the pillar asks for and this host cannot give."""
    problems, system = [], settings["system"]
    bound = settings["config"].get("HttpBindAddresses")
    if isinstance(bound, list) and not set(map(str, bound)) & set(LOCAL_ADDRESSES):
        problems.append(
            "orthanc:config:HttpBindAddresses: must contain 127.0.0.1, where the formula asks"
            " whether Orthanc serves"
        )
    if settings["config"].get("HttpServerEnabled", True) is False:
        problems.append(
            "orthanc:config:HttpServerEnabled: must be true, because the formula asks over HTTP"
            " whether Orthanc serves; leave remote_access at false, so that nobody else gets in"
        )
    if system["package"] not in settings["packages"]:
        problems.append(f"orthanc:packages: must contain {system['package']}, the server itself")
    moved = {"config", "log"} & set(settings["moved_paths"])
    if moved and not system["booted"]:
        problems += [
            f"orthanc:paths:{name}: the package's init script fixes this path; it can be changed"
            " only where systemd runs"
            for name in sorted(moved)
        ]
    return problems


def advice(settings: dict) -> list[str]:
    """Return what is allowed, and not wise."""
    found = []
    if settings["demo_users"] and settings["remote_access"]:
        found.append(
            "orthanc:demo_users: everybody knows their passwords, and one of them may delete all"
            " images; set it to false before there are images of patients"
        )
    found += [
        f"orthanc:https:cors:{number}: whoever is on the network between {origin} and a browser can"
        " change its pages, and with them read and send what the browser's user may; serve the"
        " viewer over https"
        for number, origin in enumerate(settings["https"]["cors"])
        if origin.startswith("http:") and not LOCAL_ORIGIN.match(origin)
    ]
    return found + [
        f"orthanc:plugins:{number}:insecure: nothing says what {plugin['name']} should hold, and it"
        " runs with all rights of Orthanc; give it a source_hash"
        for number, plugin in enumerate(settings["plugins"])
        if "source_hash" not in plugin
    ]


def plain(value):
    """Return the value in plain dicts and lists: Salt 3008's masked ones copy their mask along."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value


def without_secrets(value, shape=SHAPE, path=("orthanc",)):
    """
    Return the settings with a reference in the place of each value that may be a secret.

    The module ``orthanc_pillar`` looks it up on the host, when the state runs.
    """
    is_source = shape in SECRET_UNLESS_PLACE and not value.startswith(("/", "salt://"))
    if shape in SECRET or is_source:
        return {"__pillar__": list(path)}
    if isinstance(shape, dict) and isinstance(value, dict):
        others = next((below for key, below in shape.items() if isinstance(key, Value)), None)
        return {
            key: without_secrets(item, shape.get(key, others), (*path, key))
            for key, item in value.items()
        }
    if isinstance(shape, list):
        return [without_secrets(item, shape[0], (*path, n)) for n, item in enumerate(value)]
    return value


def asked(pillar: dict, path: str = "orthanc") -> list[str]:
    """Return the path of every key that the pillar holds."""
    found = []
    for key, value in pillar.items():
        found.append(f"{path}:{key}")
        if isinstance(value, dict):
            found += asked(value, found[-1])
    return found


def derive_paths(settings: dict) -> None:
    """Fill in the paths that follow from others: index, links."""
    paths = settings["paths"]
    paths.setdefault("index", paths["storage"])
    links = settings["links"]
    targets = {"config": "config", "log": "log", "data": "storage", "plugins": "plugins"}
    for name, target in targets.items():
        links[name] = {"name": name, "target": paths[target], **links.get(name, {})}
        if not links[name]["name"].startswith("/"):
            links[name]["name"] = f"{links['dir']}/{links[name]['name']}"


def ca_bundle(settings: dict) -> str:
    """Return the path of the CAs that the whole host trusts."""
    return settings["default_config"]["HttpsCACertificates"]


def own_ca(settings: dict) -> str:
    """Return the path of the formula's own copy of a CA."""
    return f"{settings['paths']['config']}/{settings['system']['own_files']['database_ca']}"


def derive_own_files(system: dict) -> None:
    """Fill in the names of the formula's own files."""
    own, nginx = system["own"], system["nginx"]
    system["own_files"] = {what: f"{own}-{name}" for what, name in system["own_files"].items()}
    nginx["site"] = f"{nginx.pop('sites')}/{own}.conf"
    nginx["pem"] = f"{nginx.pop('folder')}/{own}.pem"


def derive_database(settings: dict) -> None:
    """Fill in what follows from others: whether the database is local, its CA, the packages."""
    database = settings["postgresql"]
    database["local"] = "uri" not in database and "host" not in database
    default = own_ca if "ca_source" in database else ca_bundle
    database["ca"] = posixpath.normpath(database.get("ca") or default(settings))
    plugin = settings["system"]["database"]["plugin"]
    if database["enabled"] and plugin not in settings["packages"]:
        settings["packages"] = [*settings["packages"], plugin]


def file_name(source: str) -> str:
    """Return the last part of a URL, without its query, or of a path."""
    path = re.split("[?#]", source)[0] if "://" in source else source
    return posixpath.basename(path)


def derive_plugins(settings: dict) -> None:
    """
    Fill in the name of each plugin to download, and the path of its file.

    The folder above the file has the SHA-256 of its content as its name: an old and a new file
    never get into each other's way, and which of them Orthanc loads is a matter of its option
    Plugins alone. Without a hash it is a name for the source; see ``orthanc_plugins``.
    """
    plugins = [plugin for plugin in settings["plugins"] if "source" in plugin]
    for plugin in plugins:
        plugin.setdefault("name", file_name(plugin["source"]))
        folder = plugin.get("source_hash", "").rpartition("=")[2].lower()
        if not folder:
            folder = f"insecure-{hashlib.sha256(plugin['source'].encode()).hexdigest()[:16]}"
        plugin["path"] = f"{settings['system']['downloads']}/{folder}/{plugin['name']}"
    settings["plugins"] = plugins


def derive_backup_key(settings: dict) -> None:
    """Fill in where the backup key is."""
    key, home = settings["backup_key"], settings["paths"]["home"]
    folder = posixpath.dirname(key["path"]) if "path" in key else f"{home}/.ssh"
    key["dir"] = posixpath.normpath(key.get("dir", folder))
    key["path"] = posixpath.normpath(key.get("path", f"{key['dir']}/id_ed25519"))


def load(pillar, osmap: dict, defaults: dict, booted: bool, names=()) -> tuple[dict, list[str]]:
    """
    Return the merged settings and all that is wrong with the pillar.

    pillar
        What is below ``orthanc:``; ABSENT where there is no such key.

    names
        The names and addresses of the host.

    What is not for the pillar is below ``system``: what the map file of the OS family says, and
    what the host itself does.
    """
    pillar, found = {} if pillar is ABSENT else plain(pillar), []
    if not isinstance(pillar, dict):
        wrong = f"orthanc: must be a mapping, but is {kind(pillar)}"
        pillar, found = {}, [empty(pillar, "orthanc") if is_empty(pillar) else wrong]
    pillar, problems = sound_part(pillar)
    problems = found + problems
    settings = {**merge_recurse(defaults, osmap), "asked": asked(pillar)}
    pillar["paths"] = {
        name: posixpath.normpath(re.sub("/+", "/", path))
        for name, path in pillar.get("paths", {}).items()
    }
    settings["moved_paths"] = sorted(
        name for name, path in pillar["paths"].items() if path != settings["paths"].get(name)
    )
    # Options keep their layers apart, because a null in the pillar takes an option out.
    settings["default_config"] = settings.pop("config")
    own = {key: value for key, value in pillar.items() if key != "config"}
    settings = merge_recurse(settings, own)
    settings["config"] = pillar.get("config", {})
    settings["system"].update(booted=booted, names=list(names))
    derive_own_files(settings["system"])
    derive_paths(settings)
    derive_database(settings)
    derive_backup_key(settings)
    incomplete = check_required(pillar)
    problems += incomplete + check_host(settings) + check_paths(settings)
    problems += check_database(pillar.get("postgresql", {}), settings, defaults["postgresql"])
    problems += check_plugins(settings["plugins"]) + check_backup_key(settings)
    problems += check_own_ca(settings) + check_loaded(settings)
    derive_plugins(settings)
    settings["warnings"] = advice(settings)
    problems += check_https(settings, pillar.get("https", {}))
    problems += check_dicom_tls(settings, pillar.get("dicom", {}).get("tls", {}))
    settings["users"] = {
        name: user
        for name, user in settings["users"].items()
        if not any(problem.startswith(f"orthanc:users:{name}:") for problem in incomplete)
    }
    # Judged only where all that it depends on is sound: a mistyped user is no missing user.
    if not any(problem.startswith(ACCESS_PATHS) for problem in problems):
        problems += check_access(settings)
    return without_secrets(settings), problems


def sound_part(pillar: dict) -> tuple[dict, list[str]]:
    """Return the keys whose values are of the right shape, and what is wrong with the others."""
    sound, problems = {}, []
    for key, value in pillar.items():
        part = {key: value}
        found = check_shape(part, SHAPE, "orthanc")
        problems += found
        if not found or (key == "config" and isinstance(value, dict)):
            sound[key] = value
        elif key in WHOLE.values() and isinstance(value, dict):
            # The other entries are judged on the host as well.
            sound[key] = {name: item for name, item in value.items() if not check_entry(item, "")}
    return sound, problems


def host_names(grains) -> list[str]:
    """Return the names and addresses by which others reach the host, the first one first."""
    found = [
        grains.get("fqdn"),
        grains.get("host"),
        *grains.get("ipv4", []),
        *grains.get("ipv6", []),
    ]
    # A link-local address means nothing without the name of an interface.
    return [name for name in dict.fromkeys(found) if name and not name.startswith("fe80:")]


def run() -> dict:
    # Most of what is made is a matter of several SLS files.
    once = functools.lru_cache(maxsize=None)

    @once
    def read(name: str):
        renderer = name.rpartition(".")[2]
        return __salt__["slsutil.renderer"](
            f"salt://orthanc/{name}", default_renderer=renderer, saltenv=__env__
        )

    @once
    def configuration():
        return read("options.py")["configuration"](settings, read("roles.yaml"), DEMO_USERS)

    @once
    def proxy(site: bool):
        return read("options.py")["proxy"](settings, site)

    # Over salt-ssh they are always brought along, and this is always true.
    synced = "orthanc_pillar.resolve" in __salt__
    family = __grains__["os_family"]
    known = family in FAMILIES
    settings, problems = load(
        __pillar__.get("orthanc", ABSENT),
        # On another system nothing is done, but the states are there that others may refer to.
        read(f"osfamily/{family if known else FAMILIES[0]}.yaml"),
        read("defaults.yaml"),
        booted=__grains__.get("init") == "systemd",
        names=host_names(__grains__),
    )
    if not known:
        problems = [f"this formula knows Debian, Ubuntu and openSUSE, not {family}"]

    def pillar_state(*arguments):
        judged = [{"name": settings["paths"]["config"]}, {"problems": problems}, *arguments]
        state = {"orthanc_conf.valid": judged}
        if not synced:
            # The name as well, because Salt shows no comment of this state in test mode.
            state["test.fail_without_changes"] = [{"name": UNSYNCED}, {"comment": UNSYNCED}]
            judged.append({"require": [{"test": "orthanc-pillar"}]})
        return {"orthanc-pillar": state}

    return {
        "settings": settings,
        "pillar_state": pillar_state,
        "apart": APART,
        "configuration": lambda: copy.deepcopy(configuration()),
        "proxy": lambda site=True: copy.deepcopy(proxy(site)),
    }
