#!py
"""
The configuration: settings become options of Orthanc, users become credentials and a Lua filter.

``orthanc_conf.managed`` merges the layers below and writes the files.
https://orthanc.uclouvain.be/book/users/configuration.html
"""

import re


def run():
    orthanc = __salt__["slsutil.renderer"](
        "salt://orthanc/map.py", default_renderer="py", saltenv=__env__
    )
    if orthanc["problems"]:
        return orthanc["refuse"](__sls__)
    settings = orthanc["settings"]
    paths = settings["paths"]
    users = dict(settings["users"])
    if settings["demo_users"]:
        users.update(orthanc["demo_users"])

    states = {
        "include": ["orthanc.packages"],
        # The closed folder is what holds when a package resets the modes of the files in it: the
        # postinst of Debian's plugin packages makes them 0664 on every upgrade.
        "orthanc-access": {
            "file.directory": [
                {"name": paths["config"]},
                {"user": "root"},
                {"group": settings["group"]},
                {"dir_mode": "0750"},
                {"file_mode": "0640"},
                {"recurse": ["user", "group", "mode"]},
                {"makedirs": True},
                {"require": [{"sls": "orthanc.packages"}]},
            ],
        },
        "orthanc-config": {
            "orthanc_conf.managed": [
                {"name": paths["config"]},
                {"layers": layers(settings, users)},
                {"main_file": settings["main_file"]},
                {"option_files": settings["option_files"]},
                {"texts": {"users.lua": lua_filter(users, orthanc["roles"]) if users else None}},
                {"group": settings["group"]},
                {"allow_no_users": settings["pillar_given"]},
                {"require": [{"file": "orthanc-access"}]},
            ],
        },
    }
    for name in ("storage", "index", "log"):
        if name in settings["moved_paths"]:
            states[f"orthanc-{name}"] = {
                "file.directory": [
                    {"name": paths[name]},
                    {"user": settings["user"]},
                    {"group": settings["group"]},
                    {"dir_mode": "0750"},
                    {"makedirs": True},
                    {"require": [{"sls": "orthanc.packages"}]},
                ],
            }
    return states


def layers(settings, users):
    """Return the layers of options, last wins: defaults, derived, pillar, and what must hold."""
    layers = [
        settings["default_config"],
        options_of(settings, users),
        settings["config"],
    ]
    if users:
        # The last script that defines the filter wins: scripts of the pillar come first.
        own = settings["config"].get("LuaScripts") or []
        layers.append({"LuaScripts": [*own, f"{settings['paths']['config']}/users.lua"]})
    return layers


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
    return options


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
