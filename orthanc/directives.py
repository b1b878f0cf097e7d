"""
What the pillar may give to directives of systemd, in the language of ``orthanc_shapes``: kinds for
``pillar.py``. Data only.

https://www.freedesktop.org/software/systemd/man/latest/systemd.exec.html
"""

from __future__ import annotations


def run() -> dict:
    return {"KINDS": KINDS}


# Directives of systemd that are one of a few words.
WORDS = {
    "ProtectSystem": [True, False, "full", "strict"],
    "ProtectHome": [True, False, "read-only", "tmpfs"],
    "ProtectProc": [False, "noaccess", "invisible", "ptraceable"],
    "ProcSubset": [False, "pid"],
    "DevicePolicy": [False, "closed", "strict"],
    "KeyringMode": [False, "inherit", "private", "shared"],
}
KINDS = {
    "directives": {
        "keys": {
            **dict.fromkeys(
                (
                    *("LockPersonality", "MemoryDenyWriteExecute", "NoNewPrivileges"),
                    *("PrivateDevices", "PrivateIPC", "PrivateMounts", "PrivateTmp"),
                    *("PrivateUsers", "ProtectClock", "ProtectControlGroups", "ProtectHostname"),
                    *("ProtectKernelLogs", "ProtectKernelModules", "ProtectKernelTunables"),
                    *("RemoveIPC", "RestrictNamespaces", "RestrictRealtime", "RestrictSUIDSGID"),
                ),
                "flag",
            ),
            **{
                name: {"wanted": ", ".join(map(str, words)).lower(), "enum": words}
                for name, words in WORDS.items()
            },
            "SystemCallErrorNumber": {
                "wanted": "false or the name of an error, such as EPERM",
                "anyOf": ["off", {"type": "string", "pattern": "E[A-Z0-9]+"}],
            },
            "UMask": {
                "wanted": "four octal digits (in quotes)",
                "type": "string",
                "pattern": "[0-7]{3,4}",
            },
            **dict.fromkeys(
                (
                    *("BindPaths", "BindReadOnlyPaths", "ExecPaths", "InaccessiblePaths"),
                    *("NoExecPaths", "ReadOnlyPaths", "ReadWritePaths"),
                ),
                "folders",
            ),
            "AmbientCapabilities": {"anyOf": ["off", "capabilities"]},
            "CapabilityBoundingSet": {"anyOf": ["off", "capabilities"]},
            "RestrictAddressFamilies": {"anyOf": ["off", "families"]},
            "SystemCallArchitectures": {"anyOf": ["off", "lines"]},
            "SystemCallFilter": {"anyOf": ["off", "lines"]},
            **dict.fromkeys(("DeviceAllow", "IPAddressAllow", "IPAddressDeny"), "lines"),
            **dict.fromkeys(("SocketBindAllow", "SocketBindDeny"), "lines"),
        }
    },
    "off": {"wanted": "false", "enum": [False]},
    "folders": {"items": "folder"},
    "capabilities": {
        "items": {
            "wanted": "the name of a capability, such as CAP_NET_BIND_SERVICE",
            "type": "string",
            "pattern": "CAP_[A-Z_]+",
        },
    },
    "families": {
        "items": {
            "wanted": "the name of a family of addresses, such as AF_NETLINK",
            "type": "string",
            "pattern": "AF_[A-Z0-9]+",
        },
    },
    "lines": {
        "items": {
            "wanted": "a text of letters, digits and : . / @ ~ _ - (in quotes)",
            "type": "string",
            "pattern": "[A-Za-z0-9:./@~_-]+( [A-Za-z0-9:./@~_-]+)*",
        },
    },
}
