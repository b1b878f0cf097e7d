"""
Settings become options of Orthanc, lines of its unit and a site of nginx; users become credentials.
What becomes a script in Lua is a matter of ``lua_filter.py``.

The SLS files get what these functions return from ``map.py``.
https://orthanc.uclouvain.be/book/users/configuration.html
"""

from __future__ import annotations

import os
import re
from urllib.parse import quote

# The options that hold a setting of the pillar as it stands: which one, and what Orthanc does by
# itself. Where nobody asks for anything else, nothing is written, so that another file may say it.
# None stands for what is always written; so is who gets in.
PLAIN = {
    "HttpPort": ("port", 8042),
    "RemoteAccessAllowed": ("remote_access", None),
    "OverwriteInstances": ("overwrite_instances", False),
    "LimitFindResults": ("limit_find", None),
    "LimitFindInstances": ("limit_find", None),
    "DeidentifyLogs": ("deidentify_logs", True),
    "DicomServerEnabled": ("dicom:enabled", None),
    "DicomAet": ("dicom:aet", "ORTHANC"),
    "DicomPort": ("dicom:port", 4242),
    "DicomCheckModalityHost": ("dicom:check_modality_host", None),
    "DicomModalities": ("modalities", {}),
    "OrthancPeers": ("peers", {}),
    "StorageDirectory": ("paths:storage", None),
    "IndexDirectory": ("paths:index", None),
}
NETWORK = "network-online.target"

# The folders that only Orthanc's account and group may enter; others keep theirs as they are.
CLOSED = ("home", "storage", "index")
CLOSED_IF_MOVED = ("config", "log")
# What a unit takes as it is.
UNIT_PATH = re.compile(r"[A-Za-z0-9/._+-]*")
# The options that name folders in which Orthanc keeps something, and their names among the paths.
DATA = {"StorageDirectory": "storage", "IndexDirectory": "index", "TemporaryDirectory": None}

# What says whether images are in the database, and by which keys of the pillar.
SWITCHES = {"EnableIndex": "enabled", "EnableStorage": "storage"}
# Stands for the value where a part of one has an origin of its own.
PART = object()


def run() -> dict:
    found = {"configuration": configuration, "proxy": proxy, "PLAIN": PLAIN}
    # ``PLAIN`` is read without the other files, too.
    return {
        **found,
        "balancer": lambda *given: balancer((render, https_pem, is_path, own_ca), *given),
    }


def configuration(settings: dict, roles: dict, demo_users: dict) -> dict:
    """Return the configuration that the execution module ``orthanc_conf`` takes."""
    users = dict(settings["users"])
    if settings["demo_users"]:
        users.update(demo_users)
    database, system = settings["postgresql"], settings["system"]
    own = system["own_files"]
    return {
        "layers": layers(settings, users),
        "main_file": system["main_file"],
        "option_files": system["option_files"],
        "texts": {
            own["users"]: lua_filter(users, moved(settings), roles) if users else None,
            own["reserve"]: reserve_filter(settings["storage_reserve"], *places(settings)),
            own["access"]: access_filter(
                settings["access_log"],
                settings["paths"]["log"] or settings["paths"]["home"],
                ["127.0.0.1"] * behind_nginx(settings) + proxies(settings),
                bool(users),
            ),
            own["python"]: python_script(settings),
            # Without systemd as PID 1 there is no unit.
            **({system["drop_in"]: unit(settings)} if system["booted"] else {}),
        },
        "certificates": certificates(settings),
        "pems": pems(settings),
        "scripts": scripts(settings),
        "site": system["nginx"]["site"],
        "sections": settings["plugin_sections"],
        "folders": folders(settings),
        "made": made(settings),
        "reserve": reserve_of(settings["storage_reserve"]),
        "version": settings.get("version"),
        "without_backup": settings["without_backup"],
        "in_database": settings["modalities_in_database"],
        "hardening": hardening(settings),
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


def places(settings: dict) -> list[str]:
    """Return the folders of images and index, as whole paths."""
    paths, config = settings["paths"], settings["config"]
    found = []
    for option, name in (("StorageDirectory", "storage"), ("IndexDirectory", "index")):
        path = config.get(option, paths[name])
        # Anything but a text is refused later on, or Orthanc has a folder of its own choice.
        path = path if isinstance(path, str) else (found or ["OrthancStorage"])[-1]
        found.append(os.path.join(paths["config"], path))
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


def hardening(settings: dict) -> dict | None:
    """Return what the host needs for the rows of the unit that keep something from Orthanc."""
    asked, system, paths = settings["hardening"], settings["system"], settings["paths"]
    if asked is False or not system["booted"]:
        return None
    return {
        "drop_in": system["drop_in"],
        "rows": system["hardening"],
        "given": {} if asked is True else asked,
        "folders": [path for path in (paths["home"], paths["log"]) if path],
    }


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


def layers(settings: dict, users: dict) -> list[dict]:
    """
    Return the layers of the configuration, last wins: defaults, what follows from the settings,
    the options of the pillar, and what must hold.
    """
    config = settings["config"]
    found = [
        {"option": [option], "value": value, "default": True}
        for option, value in settings["default_config"].items()
    ]
    found += definitions(settings, users)
    found += [
        {
            "option": [option],
            # Each option of the pillar may be a secret; see orthanc_pillar.
            "value": {"__pillar__": ["orthanc", "config", option]},
            "origin": f"orthanc:config:{option}",
        }
        for option in config
    ]
    own = config.get("LuaScripts") or []
    filters = [own_file(settings, "users")] * bool(users)
    filters += [own_file(settings, "reserve")] * bool(settings["storage_reserve"])
    filters += [own_file(settings, "access")] * (settings["access_log"] is not False)
    # Anything but a list is refused later on, as it stands in the pillar.
    if isinstance(own, list):
        # Each asks the one that was defined before it: scripts of the pillar come first.
        found += lua_layers(settings, own, filters)
    plugins = config.get("Plugins") or []
    # Where the pillar does not set it, the host makes it of what is in the folder of the plugins.
    if settings["plugins"] and "Plugins" in config and isinstance(plugins, list):
        files = [plugin["path"] for plugin in settings["plugins"]]
        found.append({"option": ["Plugins"], "value": [*plugins, *files]})
    return found


def own_file(settings: dict, what: str) -> str:
    """Return the path of one of the formula's own files in the folder of the configuration."""
    return f"{settings['paths']['config']}/{settings['system']['own_files'][what]}"


def definitions(settings: dict, users: dict) -> list[dict]:
    """Return a layer for each option, or name below one, that follows from a setting."""
    own = settings["users"]
    rows = [
        *((option, value_of(settings, key), key) for option, (key, _) in PLAIN.items()),
        ("AuthenticationEnabled", bool(users), "users"),
        ("RegisteredUsers", {}, "users"),
        *(
            (
                ("RegisteredUsers", name),
                user["password"],
                f"users:{name}:password" if name in own else "demo_users",
            )
            for name, user in users.items()
        ),
        *log_options(settings["deidentify_logs"]),
        *database_options(settings["postgresql"], settings["config"]),
        *cluster_options(settings),
        *https_options(settings),
        *dicom_tls_options(settings),
        *gdcm_options(settings),
        *network_options(settings),
        *script_options(settings),
    ]
    if "ca_source" in settings:
        rows.append(("HttpsCACertificates", own_file(settings, "ca"), "ca_source"))
    # The last one wins: behind nginx, a plain setting is that of nginx.
    last = {option: (value, f"orthanc:{key}") for option, value, key in rows}
    found = []
    for option, (value, origin) in last.items():
        default = origin not in settings["asked"]
        if default and option in PLAIN and value == PLAIN[option][1]:
            continue
        path = [option] if isinstance(option, str) else list(option)
        layer = {"option": path, "origin": origin}
        layer.update({} if value is PART else {"value": value})
        layer.update({"default": True} if default else {})
        found.append(layer)
    return found


def value_of(settings: dict, setting: str):
    """Return a setting by its path in the pillar."""
    for key in setting.split(":"):
        settings = settings[key]
    return settings


def log_options(setting) -> list[tuple]:
    """Return the options for logs without names of patients, where the standard for it is said."""
    if not isinstance(setting, str):
        return []
    return [
        ("DeidentifyLogs", True, "deidentify_logs"),
        ("DeidentifyLogsDicomVersion", setting, "deidentify_logs"),
    ]


def database_options(postgresql: dict, config: dict) -> list[tuple]:
    """Return the options for the PostgreSQL database; without one, where it would be said."""
    if not postgresql["enabled"]:
        # An administrator's own section says it by itself.
        said = {} if config.get("PostgreSQL") else SWITCHES
        return [(("PostgreSQL", name), PART, f"postgresql:{key}") for name, key in said.items()]
    uri = "uri" if "uri" in postgresql else ""
    section = {
        # Without it Orthanc stays with SQLite, and does not say so.
        "EnableIndex": (True, "enabled"),
        "EnableStorage": (postgresql["storage"], "storage"),
        "ConnectionUri": (connection_uri(postgresql), uri),
        # At the start: less than start_timeout, so that its own lines tell why.
        "MaximumConnectionRetries": (10, ""),
        "ConnectionRetryInterval": (4, ""),
    }
    rows = [
        (("PostgreSQL", name), value, f"postgresql:{key}".rstrip(":"))
        for name, (value, key) in section.items()
    ]
    parts = {"sslmode": uri or "verify", "password": uri or "password"}
    rows += [
        (("PostgreSQL", "ConnectionUri", part), PART, f"postgresql:{key}")
        for part, key in parts.items()
    ]
    return [("PostgreSQL", {}, "postgresql"), *rows]


def https_options(settings: dict) -> list[tuple]:
    """Return the options for HTTPS: behind nginx, or of Orthanc's own."""
    if behind_nginx(settings):
        # What comes through nginx comes from this host, and nothing else is to come.
        return [
            ("HttpPort", settings["https"]["backend_port"], "https:backend_port"),
            ("RemoteAccessAllowed", False, "https:enabled"),
            ("HttpBindAddresses", ["127.0.0.1"], "https:enabled"),
        ]
    if not settings["https"]["enabled"]:
        return []
    return [
        ("SslEnabled", True, "https:terminator"),
        ("SslCertificate", own_file(settings, "https"), "https:certificate"),
    ]


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
    places, patience = database_hosts(host, port)
    tls = "sslmode=require"
    if database["verify"]:
        tls = f"sslmode=verify-full&sslrootcert={quote(database['ca'], safe='')}"
    before = f"postgresql://{user}"
    behind = f"@{places}/{name}?{tls}&{patience}"
    if "password" not in database:
        return before + behind
    return {**database["password"], "in_url": [f"{before}:", behind]}


def behind_nginx(settings: dict) -> bool:
    """Return whether nginx listens on the port that clients use, and Orthanc behind it."""
    https = settings["https"]
    return https["enabled"] and https["terminator"] == "nginx"


def dicom_tls_options(settings: dict) -> list[tuple]:
    """
    Return the options for DICOM TLS, also for connections that Orthanc opens.

    https://orthanc.uclouvain.be/book/faq/dicom-tls.html
    """
    tls, path = settings["dicom"]["tls"], "dicom:tls"
    if "certificate" not in tls:
        return []
    pair = own_file(settings, "dicom_tls")
    trusted = own_file(settings, "dicom_trusted") if "trusted_certificates" in tls else pair
    return [
        ("DicomTlsEnabled", tls["enabled"], f"{path}:enabled"),
        ("DicomTlsCertificate", pair, f"{path}:certificate"),
        ("DicomTlsPrivateKey", pair, f"{path}:key"),
        # Up to Orthanc 1.12.3 it must be there, also where nobody is to be verified with it.
        ("DicomTlsTrustedCertificates", trusted, f"{path}:trusted_certificates"),
        (
            "DicomTlsRemoteCertificateRequired",
            tls["require_certificate"],
            f"{path}:require_certificate",
        ),
    ]


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
        proxies=proxies(settings),
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
