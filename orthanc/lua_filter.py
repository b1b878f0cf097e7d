"""
Users become a Lua filter, which lets each do what the role or the rules of the pillar allow; and
the reserve of free space another one, which refuses images that are more than the disk is to take;
and the access log a third one, which notes who asks what.

The roles are in ``roles.yaml``, the scripts are made of ``users.lua.jinja``, ``reserve.lua.jinja``
and ``access.lua.jinja``.
https://orthanc.uclouvain.be/book/users/lua.html
"""

from __future__ import annotations

import re
import shlex

# What begins an address in roles.yaml, and the option by which a plugin has it elsewhere.
MOVED = {"/dicom-web/": ("DicomWeb", "Root")}
# Units of the reserve, in bytes; what it is at least, and what is no limit to it.
UNITS = {"MB": 10**6, "GB": 10**9, "TB": 10**12}
LEAST, ANY = 100 * 10**6, 10**18
# For how many days the access log is kept where nobody says it.
DAYS = 90


def run() -> dict:
    functions = (lua_filter, reserve_filter, reserve_of, access_filter)
    return {function.__name__: function for function in functions}


def lua_filter(users: dict, config: dict, roles: dict) -> str:
    """Return the Lua script that lets each user do what the role or the rules allow."""
    moved = roles_of(config, roles)
    rules = {
        lua_text(name): [
            {
                "methods": rule["methods"],
                "paths": [lua_text(lua_pattern(path)) for path in rule["paths"]],
            }
            for rule in (user["rules"] if "rules" in user else moved[user["role"]])
        ]
        for name, user in sorted(users.items())
    }
    return __salt__["slsutil.renderer"](
        "salt://orthanc/users.lua.jinja", default_renderer="jinja", saltenv=__env__, users=rules
    )


def roles_of(config: dict, roles: dict) -> dict:
    """Return the roles with the addresses that the options give to plugins."""
    moved = {
        address: root_of(config.get(section), option)
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


def reserve_of(setting) -> dict:
    """
    Return how much of a file system is to stay free: a ``percent`` of its size, but at ``most`` and
    at ``least`` so many bytes. Nothing where there is to be no reserve.

    setting
        A percentage, an amount, or both with "up to" between them, as ``pillar.py`` has them; or
        False.
    """
    if not setting:
        return {}
    found = {"percent": 0, "most": ANY, "least": LEAST}
    share, _, amount = setting.rpartition(" up to ") if "%" in setting else ("", "", setting)
    if amount.endswith("%"):
        share, amount = amount, ""
    if share:
        found["percent"] = int(share.rstrip("% "))
    if amount:
        size = round(float(amount[:-2]) * UNITS[amount[-2:]])
        found["most" if share else "least"] = size
    return found


def reserve_filter(setting, storage: str, index: str) -> str | None:
    """
    Return the Lua script that refuses images while there is too little space for them; None where
    there is to be no reserve.

    setting
        See ``reserve_of``.

    storage, index
        The paths of the folders of images and index.
    """
    reserve = reserve_of(setting)
    if not reserve:
        return None
    return __salt__["slsutil.renderer"](
        "salt://orthanc/reserve.lua.jinja",
        default_renderer="jinja",
        saltenv=__env__,
        storage=lua_text(shlex.quote(storage)),
        index=lua_text(shlex.quote(index)),
        **reserve,
    )


def access_filter(setting, folder: str, proxies: list, known: bool) -> str | None:
    """
    Return the Lua script that notes who asks what; None where that is not to be.

    setting
        True, False, or a mapping that may hold the ``days`` for which that is kept.

    folder
        The path of the folder for it.

    proxies
        The addresses from which nginx says whom it asks for.

    known
        Whether accounts need a password.
    """
    if setting is False:
        return None
    days = setting.get("days", DAYS) if isinstance(setting, dict) else DAYS
    return __salt__["slsutil.renderer"](
        "salt://orthanc/access.lua.jinja",
        default_renderer="jinja",
        saltenv=__env__,
        **{"folder": lua_text(folder), "days": days, "proxies": proxies, "known": known},
    )


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
