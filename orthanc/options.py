"""
Settings become options of Orthanc, lines of its unit and a site of nginx; users become credentials
and a Lua filter.

The SLS files get what these functions return from ``map.py``.
https://orthanc.uclouvain.be/book/users/configuration.html
"""

from __future__ import annotations

import os
import re
from urllib.parse import quote

# The setting of the pillar that each derived option comes from.
SOURCES = {
    "HttpPort": "orthanc:port",
    "RemoteAccessAllowed": "orthanc:remote_access",
    "AuthenticationEnabled": "orthanc:users",
    "RegisteredUsers": "orthanc:users",
    "OverwriteInstances": "orthanc:overwrite_instances",
    "LimitFindResults": "orthanc:limit_find",
    "LimitFindInstances": "orthanc:limit_find",
    "DeidentifyLogs": "orthanc:deidentify_logs",
    "DeidentifyLogsDicomVersion": "orthanc:deidentify_logs",
    "DicomServerEnabled": "orthanc:dicom:enabled",
    "DicomAet": "orthanc:dicom:aet",
    "DicomPort": "orthanc:dicom:port",
    "DicomCheckModalityHost": "orthanc:dicom:check_modality_host",
    "DicomModalities": "orthanc:modalities",
    "OrthancPeers": "orthanc:peers",
    "HttpsCACertificates": "orthanc:ca_source",
    "StorageDirectory": "orthanc:paths:storage",
    "IndexDirectory": "orthanc:paths:index",
    "PostgreSQL": "orthanc:postgresql",
    "SslEnabled": "orthanc:https:terminator",
    "SslCertificate": "orthanc:https:certificate",
    "DicomTlsEnabled": "orthanc:dicom:tls:enabled",
    "DicomTlsCertificate": "orthanc:dicom:tls:certificate",
    "DicomTlsPrivateKey": "orthanc:dicom:tls:key",
    "DicomTlsTrustedCertificates": "orthanc:dicom:tls:trusted_certificates",
    "DicomTlsRemoteCertificateRequired": "orthanc:dicom:tls:require_certificate",
}
# The same where nginx listens on orthanc:port.
SOURCES_BEHIND_NGINX = {
    **SOURCES,
    "HttpPort": "orthanc:https:backend_port",
    "RemoteAccessAllowed": "orthanc:https:enabled",
    "HttpBindAddresses": "orthanc:https:enabled",
}
# What Orthanc does by itself. Where nobody asks for anything, nothing is written, so that another
# file may say it. Who gets in is always written.
ORTHANCS_OWN = {
    "HttpPort": 8042,
    "OverwriteInstances": False,
    "DeidentifyLogs": True,
    "DicomAet": "ORTHANC",
    "DicomPort": 4242,
    "DicomModalities": {},
    "OrthancPeers": {},
}
NETWORK = "network-online.target"
# What begins an address in roles.yaml, and the option by which a plugin has it elsewhere.
MOVED = {"/dicom-web/": ("DicomWeb", "Root")}

# The folders that only Orthanc's account and group may enter; others keep theirs as they are.
CLOSED = ("home", "storage", "index")
CLOSED_IF_MOVED = ("config", "log")
# What a unit takes as it is.
UNIT_PATH = re.compile(r"[A-Za-z0-9/._+-]*")
# The options that name folders in which Orthanc keeps something, and their names among the paths.
DATA = {"StorageDirectory": "storage", "IndexDirectory": "index", "TemporaryDirectory": None}


def run() -> dict:
    return {"configuration": configuration, "proxy": proxy}


def configuration(settings: dict, roles: dict, demo_users: dict) -> dict:
    """Return the configuration that the execution module ``orthanc_conf`` takes."""
    users = dict(settings["users"])
    if settings["demo_users"]:
        users.update(demo_users)
    derived = options_of(settings, users)
    known = SOURCES_BEHIND_NGINX if behind_nginx(settings) else SOURCES
    unasked = {option for option in derived if known[option] not in settings["asked"]}
    derived = {
        option: value
        for option, value in derived.items()
        if option not in unasked or ORTHANCS_OWN.get(option) != value
    }
    database, system = settings["postgresql"], settings["system"]
    filter_file = system["own_files"]["users"]
    return {
        "layers": layers(settings, users, derived),
        "main_file": system["main_file"],
        "option_files": system["option_files"],
        "texts": {
            filter_file: lua_filter(users, roles_of(settings, roles)) if users else None,
            # Without systemd as PID 1 there is no unit.
            **({system["drop_in"]: unit(settings)} if system["booted"] else {}),
        },
        "certificates": certificates(settings),
        "pems": pems(settings),
        "site": system["nginx"]["site"],
        "sources": {
            **sources(derived, settings["config"], behind_nginx(settings)),
            **{
                f"RegisteredUsers:{name}": f"orthanc:users:{name}:password"
                if name in settings["users"]
                else "orthanc:demo_users"
                for name in users
            },
            **database_sources(settings),
        },
        "defaults": sorted({*settings["default_config"], *unasked} - {*settings["config"]}),
        "sections": settings["plugin_sections"],
        "folders": folders(settings),
        "version": settings.get("version"),
        "saltenv": __env__,
        "command": system["command"],
        "packages": settings["packages"],
        "plugins": [plugin["path"] for plugin in settings["plugins"]],
        # What the pillar itself says of the option Plugins holds as it stands.
        "plugin_folder": None if "Plugins" in settings["config"] else settings["paths"]["plugins"],
        "user": system["user"],
        "group": system["group"],
        "service": system["service"],
        "preflight": settings["preflight"],
        "databases": ["PostgreSQL"] if database["enabled"] and database["local"] else [],
        "allow_no_users": "orthanc:users" in settings["asked"],
        # Behind nginx, the options do not tell.
        "remote_access": settings["remote_access"] if behind_nginx(settings) else None,
    }


def folders(settings: dict) -> dict:
    """Return the folders that the formula closes to others, by their place in the pillar."""
    moved = [name for name in CLOSED_IF_MOVED if name in settings["moved_paths"]]
    found = {}
    for name in (*CLOSED, *moved):
        if settings["paths"][name] not in found.values():
            found[f"orthanc:paths:{name}"] = settings["paths"][name]
    return found


def unit(settings: dict) -> str:
    """Return the drop-in of the unit: what disks, database and moved paths need, and limits."""
    paths, system = settings["paths"], settings["system"]
    database, wants, after = f"{system['database']['service']}.service", None, []
    if settings["postgresql"]["enabled"]:
        local = settings["postgresql"]["local"]
        # A URI may lead to this host or another one.
        wants, after = (database, [database]) if local else (NETWORK, [NETWORK, database])
    start = []
    if {"config", "log"} & set(settings["moved_paths"]):
        log = [f"--logdir={paths['log']}"] if paths["log"] else []
        start = [system["command"], *log, paths["config"]]
    return render("unit.conf.jinja", mounts=mounts(settings), wants=wants, after=after, start=start)


def mounts(settings: dict) -> list:
    """Return the folders of what Orthanc keeps, as a unit has them; each may be a disk's own."""
    paths, config = settings["paths"], settings["config"]
    found = [paths["home"], paths["log"]]
    found += [config.get(option, paths.get(name)) for option, name in DATA.items()]
    absolute = [path for path in found if isinstance(path, str) and path.startswith("/")]
    # systemd unquotes, undoes backslashes and replaces what follows a percent sign.
    return [
        path
        if UNIT_PATH.fullmatch(path)
        else '"{}"'.format(re.sub(r'(["\\])', r"\\\1", path).replace("%", "%%"))
        for path in dict.fromkeys(absolute)
    ]


def render(template: str, **values) -> str:
    """Return what a template of this folder gives with these values."""
    return __salt__["slsutil.renderer"](
        f"salt://orthanc/{template}", default_renderer="jinja", saltenv=__env__, **values
    )


def layers(settings: dict, users: dict, derived: dict) -> list:
    """Return the layers of options, last wins: defaults, derived, pillar, and what must hold."""
    config = settings["config"]
    # Each option of the pillar may be a secret; see orthanc_pillar.
    looked_up = {option: {"__pillar__": ["orthanc", "config", option]} for option in config}
    layers = [settings["default_config"], derived, looked_up]
    own = config.get("LuaScripts") or []
    # Anything but a list is refused later on, as it stands in the pillar.
    if users and isinstance(own, list):
        # The filter asks the one that was defined before it: scripts of the pillar come first.
        layers.append({"LuaScripts": [*own, own_file(settings, "users")]})
    plugins = config.get("Plugins") or []
    # Where the pillar does not set it, the host makes it of what is in the folder of the plugins.
    if settings["plugins"] and "Plugins" in config and isinstance(plugins, list):
        files = [plugin["path"] for plugin in settings["plugins"]]
        layers.append({"Plugins": [*plugins, *files]})
    return layers


def own_file(settings: dict, what: str) -> str:
    """Return the path of one of the formula's own files in the folder of the configuration."""
    return f"{settings['paths']['config']}/{settings['system']['own_files'][what]}"


def sources(derived: dict, config: dict, behind_nginx: bool = False) -> dict:
    """Return the path of the pillar for each option, or name below it, that config leaves alone."""
    known = SOURCES_BEHIND_NGINX if behind_nginx else SOURCES
    found = {}
    for option, value in derived.items():
        over = config.get(option)
        if option not in config:
            found[option] = known[option]
        elif isinstance(value, dict) and isinstance(over, dict):
            found.update(
                {
                    f"{option}:{name}": f"{known[option]}:{name}"
                    for name in value
                    if name not in over
                }
            )
    return found


def options_of(settings: dict, users: dict) -> dict:
    """Return the options of Orthanc that follow from the settings."""
    dicom, paths = settings["dicom"], settings["paths"]
    deidentify = settings["deidentify_logs"]
    options = {
        "HttpPort": settings["port"],
        "RemoteAccessAllowed": settings["remote_access"],
        "AuthenticationEnabled": bool(users),
        "RegisteredUsers": {name: user["password"] for name, user in users.items()},
        "OverwriteInstances": settings["overwrite_instances"],
        "LimitFindResults": settings["limit_find"],
        "LimitFindInstances": settings["limit_find"],
        "DeidentifyLogs": bool(deidentify),
        "DicomServerEnabled": dicom["enabled"],
        "DicomAet": dicom["aet"],
        "DicomPort": dicom["port"],
        "DicomCheckModalityHost": dicom["check_modality_host"],
        "DicomModalities": settings["modalities"],
        "OrthancPeers": settings["peers"],
        "StorageDirectory": paths["storage"],
        "IndexDirectory": paths["index"],
    }
    if isinstance(deidentify, str):
        options["DeidentifyLogsDicomVersion"] = deidentify
    if "ca_source" in settings:
        options["HttpsCACertificates"] = own_file(settings, "ca")
    if settings["postgresql"]["enabled"]:
        options["PostgreSQL"] = {
            # Without them Orthanc stays with SQLite and files, and does not say so.
            "EnableIndex": True,
            "EnableStorage": settings["postgresql"]["storage"],
            "ConnectionUri": connection_uri(settings["postgresql"]),
            # At the start: less than start_timeout, so that its own lines tell why.
            "MaximumConnectionRetries": 10,
            "ConnectionRetryInterval": 4,
        }
    if behind_nginx(settings):
        options["HttpPort"] = settings["https"]["backend_port"]
        # What comes through nginx comes from this host, and nothing else is to come.
        options["RemoteAccessAllowed"] = False
        options["HttpBindAddresses"] = ["127.0.0.1"]
    elif settings["https"]["enabled"]:
        options["SslEnabled"] = True
        options["SslCertificate"] = own_file(settings, "https")
    if "certificate" in dicom["tls"]:
        options.update(dicom_tls(settings))
    return options


def connection_uri(database: dict) -> str | dict:
    """
    Return the URI of the database, everything special in it URL-encoded; or a reference to it, or
    to the password in it.

    https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNSTRING-URIS
    """
    if "uri" in database:
        return database["uri"]
    host, port = database.get("host", ""), f":{database['port']}" if "port" in database else ""
    name = quote(database["database"], safe="")
    if not host:
        # By the account that the service has; a port is in the name of the socket.
        return f"postgresql:///{name}{port.replace(':', '?port=')}"
    user = quote(database["user"], safe="")
    if ":" in host:
        host = f"[{host}]"
    tls = "sslmode=require"
    if database["verify"]:
        tls = f"sslmode=verify-full&sslrootcert={quote(database['ca'], safe='')}"
    before = f"postgresql://{user}"
    # Otherwise a host that is gone is waited for as long as the kernel does.
    behind = f"@{host}{port}/{name}?{tls}&connect_timeout=10"
    if "password" not in database:
        return before + behind
    return {**database["password"], "in_url": [f"{before}:", behind]}


def database_sources(settings: dict) -> dict:
    """Return the path of the pillar for what is found wrong with the connection."""
    over = settings["config"].get("PostgreSQL")
    if over and not (settings["postgresql"]["enabled"] and isinstance(over, dict)):
        return {}
    found = {
        "ConnectionUri": "uri" if "uri" in settings["postgresql"] else "",
        "ConnectionUri:sslmode": "verify",
        "ConnectionUri:password": "uri" if "uri" in settings["postgresql"] else "password",
        "EnableIndex": "enabled",
        "EnableStorage": "storage",
    }
    return {
        f"PostgreSQL:{name}": f"orthanc:postgresql:{key}".rstrip(":")
        for name, key in found.items()
        if name not in (over or {})
    }


def behind_nginx(settings: dict) -> bool:
    """Return whether nginx listens on the port that clients use, and Orthanc behind it."""
    https = settings["https"]
    return https["enabled"] and https["terminator"] == "nginx"


def dicom_tls(settings: dict) -> dict:
    """
    Return the options for DICOM TLS, also for connections that Orthanc opens.

    https://orthanc.uclouvain.be/book/faq/dicom-tls.html
    """
    tls, pair = settings["dicom"]["tls"], own_file(settings, "dicom_tls")
    trusted = own_file(settings, "dicom_trusted") if "trusted_certificates" in tls else pair
    return {
        "DicomTlsEnabled": tls["enabled"],
        "DicomTlsCertificate": pair,
        "DicomTlsPrivateKey": pair,
        # Up to Orthanc 1.12.3 it must be there, also where nobody is to be verified with it.
        "DicomTlsTrustedCertificates": trusted,
        "DicomTlsRemoteCertificateRequired": tls["require_certificate"],
    }


def given(sources: dict, *names: str) -> dict:
    """Return those of the sources that are given."""
    return {name: sources[name] for name in names if name in sources}


def certificates(settings: dict) -> dict:
    """Return the sources of certificates and keys that are used, by their place in the pillar."""
    https, tls, database = settings["https"], settings["dicom"]["tls"], settings["postgresql"]
    used = {
        "orthanc:https": given(https, "certificate", "key") if https["enabled"] else {},
        "orthanc:dicom:tls": given(tls, "certificate", "key", "trusted_certificates"),
        "orthanc:postgresql": given(database, "ca_source") if database["enabled"] else {},
        "orthanc": given(settings, "ca_source"),
    }
    return {place: sources for place, sources in used.items() if sources}


def https_pem(settings: dict) -> dict | None:
    """Return what ``orthanc_tls.pem`` needs for the certificate and key of the HTTPS server."""
    if settings["https"]["self_signed"]:
        return {"names": [*settings["system"]["names"], "localhost"]}
    return pem_of(settings["https"], "certificate", "key")


def pem_of(sources: dict, *names: str) -> dict | None:
    """Return what ``orthanc_tls.pem`` needs for sources of the pillar; None if none is given."""
    found = given(sources, *names)
    return {**found, "saltenv": __env__} if found else None


def pems(settings: dict) -> dict:
    """
    Return what ``orthanc_tls.pem`` needs for each PEM file that Orthanc itself reads, by its name
    in the folder of the configuration; None for those that must not be there.
    """
    https, tls, database = settings["https"], settings["dicom"]["tls"], settings["postgresql"]
    names = settings["system"]["own_files"]
    own_https = https["enabled"] and not behind_nginx(settings)
    found = {
        names["https"]: https_pem(settings) if own_https else None,
        names["dicom_tls"]: pem_of(tls, "certificate", "key"),
        names["dicom_trusted"]: pem_of(tls, "trusted_certificates"),
        names["ca"]: own_ca(settings),
        names["database_ca"]: None,
    }
    if database["enabled"] and "ca_source" in database:
        folder, name = os.path.split(database["ca"])
        # A file elsewhere has its whole path for a name.
        entry = name if folder == settings["paths"]["config"] else database["ca"]
        found[entry] = {"trusted_certificates": database["ca_source"], "saltenv": __env__}
    return found


def own_ca(settings: dict) -> dict | None:
    """
    Return what ``orthanc_tls.pem`` needs for the CAs of the servers that Orthanc connects to.

    They are one file, so those that the host trusts are in it, too.
    """
    if "ca_source" not in settings:
        return None
    return {
        "bundle": settings["default_config"]["HttpsCACertificates"],
        "trusted_certificates": settings["ca_source"],
        "saltenv": __env__,
    }


def proxy(settings: dict, site: bool = True) -> dict:
    """
    Return the site of nginx and what belongs to it, as ``orthanc_nginx`` takes it; or where there
    is to be none, what to look for.
    """
    https, nginx = settings["https"], settings["system"]["nginx"]
    result = {
        **{name: nginx[name] for name in ("site", "pem", "service", "command")},
        "text": None,
        "port": settings["port"],
        "open": settings["remote_access"],
        "certificate": None,
        "orthanc": settings["system"]["command"],
    }
    if not (site and behind_nginx(settings)):
        return result
    certificate, key = https.get("certificate"), https.get("key")
    if not (is_path(certificate) and is_path(key)):
        result["certificate"] = https_pem(settings)
        certificate = key = nginx["pem"]
    result["text"] = render(
        "nginx.conf.jinja",
        listen=listen(settings),
        backend=f"127.0.0.1:{https['backend_port']}",
        certificate=certificate,
        key=key,
        origins=[re.escape(origin) for origin in https["cors"]],
        headers=https["headers"],
    )
    return result


def is_path(source) -> bool:
    """Return whether a source is on the host already; a text of the pillar is a reference here."""
    return isinstance(source, str) and source.startswith("/")


def listen(settings: dict) -> list:
    """Return the addresses that nginx listens on: all of the host's, or only the local ones."""
    port, names = settings["port"], settings["system"]["names"]
    if settings["remote_access"]:
        return [port, f"[::]:{port}"] if any(":" in name for name in names) else [port]
    return [f"127.0.0.1:{port}", f"[::1]:{port}"] if "::1" in names else [f"127.0.0.1:{port}"]


def roles_of(settings: dict, roles: dict) -> dict:
    """Return the roles with the addresses that the options give to plugins."""
    moved = {
        address: root_of(settings["config"].get(section), option)
        for address, (section, option) in MOVED.items()
    }

    def follow(path: str) -> str:
        for address, root in moved.items():
            if root and path.startswith(address):
                return root + path[len(address) :]
        return path

    return {
        role: [{**rule, "paths": [follow(path) for path in rule["paths"]]} for rule in rules]
        for role, rules in roles.items()
    }


def root_of(section, option: str) -> str | None:
    """Return the address that a section gives to its plugin, as plugins complete it; or None."""
    root = section.get(option) if isinstance(section, dict) else None
    # Anything but a text is refused later on. A star would be more than one address.
    if not isinstance(root, str) or "*" in root:
        return None
    return f"/{root.strip('/')}/".replace("//", "/")


def lua_filter(users: dict, roles: dict) -> str:
    """Return the Lua script that lets each user do what the role or the rules allow."""
    rules = {
        lua_text(name): [
            {
                "methods": rule["methods"],
                "paths": [lua_text(lua_pattern(path)) for path in rule["paths"]],
            }
            for rule in (user["rules"] if "rules" in user else roles[user["role"]])
        ]
        for name, user in sorted(users.items())
    }
    return render("users.lua.jinja", users=rules)


def lua_pattern(path: str) -> str:
    """Return a Lua pattern: ``**`` matches everything, ``*`` one part of a path."""
    wildcards = {"**": ".*", "*": "[^/]+"}
    parts = re.split(r"(\*\*|\*)", path)
    return "^{}$".format(
        "".join(wildcards.get(part) or re.sub(r"([^A-Za-z0-9/])", r"%\1", part) for part in parts)
    )


def lua_text(text: str) -> str:
    """Escape a text for use between quotes in Lua: all but plain characters become \\ddd."""
    return "".join(
        chr(byte) if re.match(rb"[A-Za-z0-9/^$%\[\].*+_-]", bytes([byte])) else f"\\{byte:03d}"
        for byte in text.encode()
    )
