"""
Users become a Lua filter, which lets each do what the role or the rules of the pillar allow.

The roles are in ``roles.yaml``, the script is made of ``users.lua.jinja``.
https://orthanc.uclouvain.be/book/users/lua.html
"""

from __future__ import annotations

import re

# What begins an address in roles.yaml, and the option by which a plugin has it elsewhere.
MOVED = {"/dicom-web/": ("DicomWeb", "Root")}


def run() -> dict:
    return {"lua_filter": lua_filter}


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
