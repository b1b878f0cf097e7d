"""
Settings become options of Orthanc, users become credentials and a Lua filter.

The SLS files load this through ``slsutil.renderer``, after ``map.py``, and get a function from the
settings to the arguments of ``orthanc_conf.managed``.
https://orthanc.uclouvain.be/book/users/configuration.html
"""

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
    "DicomModalities": "orthanc:modalities",
    "OrthancPeers": "orthanc:peers",
    "StorageDirectory": "orthanc:paths:storage",
    "IndexDirectory": "orthanc:paths:index",
    "Plugins": "orthanc:paths:plugins",
    "PostgreSQL": "orthanc:postgresql",
}


def run():
    return {"of": configuration}


def configuration(settings, roles, demo_users):
    """Return the arguments that say what the configuration shall be, for both states of it."""
    users = dict(settings["users"])
    if settings["demo_users"]:
        users.update(demo_users)
    derived = options_of(settings, users)
    database = settings["postgresql"]
    return {
        "name": settings["paths"]["config"],
        "layers": layers(settings, users, derived),
        "main_file": settings["main_file"],
        "option_files": settings["option_files"],
        "texts": {
            "users.lua": lua_filter(users, roles) if users else None,
            settings["database"]["ca"]: None,
        },
        "authorities": authorities(settings),
        "sources": {
            **sources(derived, settings["config"]),
            **{f"RegisteredUsers:{name}": f"orthanc:users:{name}:password" for name in users},
            **database_sources(settings),
        },
        "sections": settings["plugin_sections"],
        "command": settings["command"],
        "packages": settings["packages"],
        "user": settings["user"],
        "group": settings["group"],
        "service": settings["service"],
        "preflight": settings["preflight"],
        "databases": ["PostgreSQL"] if database["enabled"] and database["local"] else [],
        "allow_no_users": settings["pillar_given"],
    }


def layers(settings, users, derived):
    """Return the layers of options, last wins: defaults, derived, pillar, and what must hold."""
    layers = [settings["default_config"], derived, settings["config"]]
    own = settings["config"].get("LuaScripts") or []
    # Anything but a list is refused later on, as it stands in the pillar.
    if users and isinstance(own, list):
        # The last script that defines the filter wins: scripts of the pillar come first.
        layers.append({"LuaScripts": [*own, f"{settings['paths']['config']}/users.lua"]})
    return layers


def sources(derived, config):
    """Return the path of the pillar for each option, or name below it, that config leaves alone."""
    found = {}
    for option, value in derived.items():
        over = config.get(option)
        if option not in config:
            found[option] = SOURCES[option]
        elif isinstance(value, dict) and isinstance(over, dict):
            found.update(
                {
                    f"{option}:{name}": f"{SOURCES[option]}:{name}"
                    for name in value
                    if name not in over
                }
            )
    return found


def options_of(settings, users):
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
        "DicomModalities": settings["modalities"],
        "OrthancPeers": settings["peers"],
        "StorageDirectory": paths["storage"],
        "IndexDirectory": paths["index"],
        "Plugins": [paths["plugins"]],
    }
    if isinstance(deidentify, str):
        options["DeidentifyLogsDicomVersion"] = deidentify
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
    return options


def connection_uri(database):
    """
    Return the URI of the database, everything special in it URL-encoded.

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
    password = f":{quote(database['password'], safe='')}" if "password" in database else ""
    if ":" in host:
        host = f"[{host}]"
    tls = "sslmode=require"
    if database["verify"]:
        tls = f"sslmode=verify-full&sslrootcert={quote(database['ca'], safe='')}"
    # Otherwise a host that is gone is waited for as long as the kernel does.
    return f"postgresql://{user}{password}@{host}{port}/{name}?{tls}&connect_timeout=10"


def authorities(settings):
    """Return where the certificates come from, by the name of the file that they go into."""
    database = settings["postgresql"]
    if not database["enabled"] or "ca_source" not in database:
        return {}
    return {ca_entry(settings): database["ca_source"]}


def ca_entry(settings):
    """Return the name of the file of the CA, or its whole path where that is another folder."""
    folder, name = os.path.split(settings["postgresql"]["ca"])
    return name if folder == settings["paths"]["config"] else settings["postgresql"]["ca"]


def database_sources(settings):
    """Return the path of the pillar for what is found wrong with the connection."""
    over = settings["config"].get("PostgreSQL")
    if over and not (settings["postgresql"]["enabled"] and isinstance(over, dict)):
        return {}
    found = {
        "ConnectionUri": "uri" if "uri" in settings["postgresql"] else "",
        "ConnectionUri:sslmode": "verify",
        "EnableIndex": "enabled",
        "EnableStorage": "storage",
    }
    return {
        ca_entry(settings): "orthanc:postgresql:ca_source",
        **{
            f"PostgreSQL:{name}": f"orthanc:postgresql:{key}".rstrip(":")
            for name, key in found.items()
            if name not in (over or {})
        },
    }


def lua_filter(users, roles):
    """Return the Lua script that lets each user do what the role or the rules allow."""
    rules = {
        lua_text(name): [
            {
                "methods": rule["methods"],
                "paths": [lua_text(lua_pattern(path)) for path in rule["paths"]],
            }
            for rule in (user.get("rules") or roles[user["role"]])
        ]
        for name, user in sorted(users.items())
    }
    return __salt__["slsutil.renderer"](
        "salt://orthanc/users.lua.jinja", default_renderer="jinja", saltenv=__env__, users=rules
    )


def lua_pattern(path):
    """Return a Lua pattern: ``**`` matches everything, ``*`` one part of a path."""
    wildcards = {"**": ".*", "*": "[^/]+"}
    parts = re.split(r"(\*\*|\*)", path)
    return "^{}$".format(
        "".join(wildcards.get(part) or re.sub(r"([^A-Za-z0-9/])", r"%\1", part) for part in parts)
    )


def lua_text(text):
    """Escape a text for use between quotes in Lua: all but plain characters become \\ddd."""
    return "".join(
        chr(byte) if re.match(rb"[A-Za-z0-9/^$%\[\].*+_-]", bytes([byte])) else f"\\{byte:03d}"
        for byte in text.encode()
    )
