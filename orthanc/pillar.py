"""
All keys that the pillar may hold, in the language of ``orthanc_shapes``; and what people write that
is no key.

Data only, held against the language by a test. ``secret`` is a word of this file alone: what has it
is no argument of a state, ``always``, or ``unless a place``, because a text may be a key, and a URL
hold a token, unless it is a path or one of Salt's own. (salt-ssh brings along what it sees in the
arguments as salt://.) Of the values of orthanc:config, which may be secrets all of them,
``options.py`` takes care, because it looks at some.
"""

from __future__ import annotations


def run() -> dict:
    return {name: table for name, table in globals().items() if name.isupper()}


# The files beside this one with kinds, checks, or options of a part of the pillar.
PARTS = (
    *("directives", "retention_keys", "clinical_network", "routing", "scripts", "viewers"),
    *("backup_checks", "plugin_checks", "cluster"),
)
# A ``pattern`` means the same to Python and to JavaScript.
KINDS = {
    "some text": {
        "wanted": "a text (put it in quotes)",
        "type": "string",
        "pattern": r"[\s\S]+",
    },
    "password": {"kind": "some text", "secret": "always"},
    "seconds": {
        "wanted": "a number of seconds from 1 to 86400",
        "type": "integer",
        "minimum": 1,
        "maximum": 86400,
    },
    "days": {
        "wanted": "a number of days from 1 to 36500",
        "type": "integer",
        "minimum": 1,
        "maximum": 36500,
    },
    "size": {
        "wanted": "a whole number of MB, GB or TB, such as 1 GB",
        "type": "string",
        "pattern": "[1-9][0-9]{0,5} ?[MGT]B",
    },
    # Less than 100 MB may come in at one time.
    "reserve": {
        "wanted": "5%, 10 GB, or 5% up to 10 GB: a whole percentage below 100, an amount of 100 MB"
        " or more in MB, GB or TB; or false for none",
        "anyOf": [
            {"enum": [False]},
            {
                "type": "string",
                "pattern": r"[1-9][0-9]? ?%|([1-9][0-9]? ?% up to )?"
                r"([1-9][0-9]{2,5} ?MB|(0\.[1-9][0-9]*|[1-9][0-9]{0,5}(\.[0-9]+)?) ?[GT]B)",
            },
        ],
    },
    "folder": {"wanted": "an absolute path", "type": "string", "pattern": r"/[^\0\n]*"},
    # Which stands in a unit of systemd.
    "plain folder": {
        "wanted": "an absolute path of letters, digits and . _ - /",
        "type": "string",
        "pattern": "/[A-Za-z0-9._/-]*",
    },
    "host": {
        "wanted": "the name or the IP address of a host",
        "type": "string",
        "pattern": r"[A-Za-z0-9_.-]+|[0-9A-Fa-f.]*(:[0-9A-Fa-f.]*){2,7}",
    },
    "database url": {
        "wanted": "postgresql://user:password@host:port/database",
        "type": "string",
        "pattern": r"postgres(ql)?://[^\n]*",
        "secret": "always",
    },
    "path of the API": {
        "wanted": "a path of the REST API that begins with /",
        "type": "string",
        "pattern": r"/[^\s?#]*",
    },
    # What Orthanc is told as it stands, and judged on the host: an entry, where nothing may be
    # empty; an option, which null takes out; and what is below one, where null would lose what
    # stands there. A list replaces another one as it stands, and loses nothing.
    "entry": {
        "type": "any",
        "names": "anything",
        "each": "entry",
        "items": "entry",
        "secret": "always",
    },
    "option": {
        "type": "any",
        "empty": ["nothing", "text"],
        "names": "anything",
        "each": "part of an option",
    },
    "part of an option": {
        "type": "any",
        "empty": ["text"],
        "names": "anything",
        "each": "part of an option",
    },
    "user name": {
        "wanted": "a user name without colon or control characters",
        "type": "string",
        "pattern": r"[^:\x00-\x1f]+",
    },
    "name of an option": {
        "wanted": "the name of an option of Orthanc",
        "type": "string",
        "pattern": "[A-Za-z0-9_]+",
    },
    "download": {
        "wanted": "an https://, http:// or salt:// URL without a password in it, or an absolute"
        " path",
        "type": "string",
        "pattern": r"https?://[^\s/@?#]+/[^\s]+|salt://[^\s/][^\0\n]*|/[^\0\n]+",
        "secret": "unless a place",
    },
    "sha256": {
        "wanted": "sha256= and the 64 hexadecimal digits that sha256sum prints (in quotes)",
        "type": "string",
        "pattern": "(?:sha256=)?[0-9A-Fa-f]{64}",
    },
    "plugin file": {
        "wanted": "a file name of letters, digits and . _ + - that ends in .so",
        "type": "string",
        "pattern": r"[A-Za-z0-9_+-][A-Za-z0-9._+-]*\.so",
    },
    "account": {
        "wanted": "the name of an account",
        "type": "string",
        "pattern": "[A-Za-z_][A-Za-z0-9._-]*",
    },
    # Of a path, what nginx cannot have between quotes is left out.
    "source": {
        "wanted": "an absolute path on the host, a salt:// URL, or the text of a PEM file",
        "type": "string",
        "pattern": r'/[^\0\n"\\$]*|salt://[^\0\n]+|[\s\S]*-----BEGIN [A-Z0-9 ]+-----[\s\S]+',
        "secret": "unless a place",
    },
    # What restic takes: https://restic.readthedocs.io/en/stable/030_preparing_a_new_repo.html
    "repository": {
        "wanted": "an absolute path, or what restic takes: sftp:user@host:/path, rest:https://host/,"
        " s3:https://host/bucket",
        "type": "string",
        "pattern": r"/[^\0\n]*|(sftp|rest|s3|b2|azure|gs|swift|rclone):[^\0\n]+",
        "secret": "unless a place",
    },
    "time of systemd": {
        "wanted": "a time as OnCalendar of systemd.time(7) has it, such as '02:00' (in quotes)",
        "type": "string",
        "pattern": r"(?!.*//)[A-Za-z0-9 *:,./~_+-]+",
    },
    "number": {"kind": "count", "wanted": "a whole number, 0 or more"},
    "per cent": {
        "wanted": "a whole number of per cent from 1 to 100",
        "type": "integer",
        "minimum": 1,
        "maximum": 100,
    },
    "variable": {
        "wanted": "the name of a variable of the environment, such as AWS_ACCESS_KEY_ID",
        "type": "string",
        "pattern": "[A-Za-z_][A-Za-z0-9_]*",
    },
    # As browsers send it: https://fetch.spec.whatwg.org/#origin-header
    "origin": {
        "wanted": "an origin as browsers send it: https://viewer.example.org, with a port behind it"
        " where it is not the usual one; small letters, no path, no / at the end, no *",
        "type": "string",
        "pattern": r"https?://((?!-)[a-z0-9_-]{1,63}(?<!-)(\.(?!-)[a-z0-9_-]{1,63}(?<!-))*"
        r"|\[[0-9a-f:]+\])(:[1-9][0-9]{0,4})?",
        "format": "origin",
    },
    "header": {
        "wanted": "the name of a header: letters, digits, _ and -",
        "type": "string",
        "pattern": "[A-Za-z0-9_-]+",
    },
    # What nginx takes between quotes, in a buffer of 4096 bytes.
    "header text": {
        "wanted": r"a text (in quotes) of up to 4000 printable ASCII characters without $ \ and "
        '"',
        "type": "string",
        "pattern": r"[ !#%-\[\]-~]{1,4000}",
    },
    "rule": {
        "keys": {
            "methods": {
                "items": {
                    "wanted": "GET, POST, PUT or DELETE",
                    "enum": ["GET", "POST", "PUT", "DELETE"],
                }
            },
            "paths": {"items": "path of the API"},
        }
    },
    "link": {"keys": {"name": "some text", "target": "folder"}},
}
SHAPE = {
    "keys": {
        "packages": {"items": "some text"},
        "version": "some text",
        "without_backup": "flag",
        "port": "port",
        "remote_access": "flag",
        "overwrite_instances": {
            "wanted": "true, false, Never, Always or IfChanged",
            "enum": [True, False, "Never", "Always", "IfChanged"],
        },
        "limit_find": "number",
        "deidentify_logs": {
            "wanted": "true, false, or the year of a DICOM standard such as '2021b'",
            "anyOf": ["flag", {"type": "string", "pattern": "[0-9]{4}[a-e]?"}],
        },
        "access_log": {
            "wanted": "true, false, or a mapping with days",
            "anyOf": ["flag", {"keys": {"days": "days"}}],
        },
        "https": {
            "keys": {
                "enabled": "flag",
                "certificate": "source",
                "key": "source",
                "self_signed": "flag",
                "terminator": {"wanted": "nginx or orthanc", "enum": ["nginx", "orthanc"]},
                "backend_port": "port",
                "cors": {"items": "origin"},
                "headers": {"names": "header", "each": "header text"},
            }
        },
        "dicom": "dicom",
        "users": {
            "names": "user name",
            "each": {
                "keys": {
                    "password": "password",
                    "role": {
                        "wanted": "admin, writer, reader, peer or monitor",
                        "enum": ["admin", "writer", "reader", "peer", "monitor"],
                    },
                    "rules": {"items": "rule"},
                }
            },
        },
        "demo_users": "flag",
        "modalities": {"names": "anything", "each": "entry"},
        "peers": {"names": "anything", "each": "entry"},
        "modalities_in_database": "flag",
        "network": "network",
        "dicomweb": "dicomweb",
        "worklists": "worklists",
        "viewers": {"items": "viewer"},
        "lua_scripts": "scripts",
        "python_scripts": "scripts",
        "routes": {"names": "anything", "each": "route"},
        "ca_source": "source",
        "links": {
            "keys": {
                **{"enabled": "flag", "dir": "folder"},
                **{"config": "link", "log": "link", "data": "link", "plugins": "link"},
            }
        },
        "paths": {
            "keys": {
                **{"config": "folder", "home": "folder", "storage": "folder"},
                **{"index": "folder", "plugins": "folder", "log": "folder"},
            }
        },
        "postgresql": {
            "keys": {
                "enabled": "flag",
                "verify": "flag",
                "storage": "flag",
                "database": "some text",
                "user": "some text",
                "password": "password",
                "uri": "database url",
                "host": "hosts",
                "port": "port",
                "ca_source": "source",
                "ca": "folder",
            }
        },
        "cluster": "cluster",
        "balancer": "balancer",
        "storage_reserve": "reserve",
        "start_timeout": "seconds",
        # What systemd.exec(5) and systemd.resource-control(5) have for it.
        "hardening": {"anyOf": ["flag", "directives"]},
        "log_keep": {"keys": {"enabled": "flag", "days": "days", "size": "size"}},
        "preflight": "flag",
        "plugins": {
            "items": {
                "keys": {
                    "source": "download",
                    "source_hash": "sha256",
                    "name": "plugin file",
                    "insecure": "flag",
                }
            }
        },
        "plugin_sections": {"items": "name of an option"},
        "backup_key": {
            "keys": {
                "enabled": "flag",
                "dir": "folder",
                "path": "folder",
                "remote_user": "account",
            }
        },
        "backup": {
            "keys": {
                "repository": "repository",
                "password": "password",
                "schedule": "time of systemd",
                "keep": {
                    "keys": {
                        "daily": "number",
                        "weekly": "number",
                        "monthly": "number",
                        "yearly": "number",
                    },
                },
                "limit_upload": "number",
                "drill": "time of systemd",
                "drill_sample": "per cent",
                "environment": {"names": "variable", "each": "password"},
            }
        },
        "retention": "retention",
        "monitoring": {"keys": {"enabled": "flag", "textfile": "plain folder"}},
        "config": {
            "keys": {
                # What the formula itself, and nobody else, sets below an option.
                "PostgreSQL": {
                    "kind": "option",
                    "keys": {
                        "MaximumConnectionRetries": "option",
                        "ConnectionRetryInterval": "option",
                    },
                }
            },
            "names": "anything",
            "each": "option",
        },
    }
}
# Settings of the pillar that are one option of Orthanc, whole.
WHOLE = {"DicomModalities": "modalities", "OrthancPeers": "peers"}
# What people write, in small letters without _ and -, by its place. A name in capitals and small
# letters that is not here, and near no key, is taken for an option of Orthanc.
MEANT = {
    "orthanc": {
        "orthanc:dicom:aet": ["aet", "aetitle", "aetname", "title", "dicomaet"],
        "orthanc:modalities": [
            *("modality", "aets", "nodes", "scanners", "dicommodalities", "dicomnodes"),
        ],
        "orthanc:peers": ["orthancpeers", "peer"],
        "orthanc:routes": ["route", "routing", "autorouting", "forward", "forwarding"],
        "orthanc:users": [
            *("password", "admin", "adminpassword", "auth", "authentication"),
            *("authenticationenabled", "registeredusers", "credentials", "accounts"),
        ],
        "orthanc:port": ["httpport", "webport"],
        "orthanc:remote_access": ["remote", "remoteaccessallowed", "public"],
        "orthanc:https:enabled": ["tls", "ssl", "certificates", "sslenabled"],
        "orthanc:https:terminator": ["nginx", "proxy", "reverseproxy"],
        "orthanc:https:certificate": ["certificate", "cert", "sslcertificate"],
        "orthanc:https:key": ["key", "privatekey", "sslkey"],
        "orthanc:https:cors": ["cors", "origins", "allowedorigins", "corsorigins"],
        "orthanc:https:headers": ["headers", "httpheaders", "hsts"],
        "orthanc:postgresql": ["database", "db", "postgres", "psql"],
        "orthanc:cluster:nodes": ["replicas", "ha", "highavailability"],
        "orthanc:balancer": ["loadbalancer", "haproxy", "frontend"],
        "orthanc:paths:storage": [
            *("storage", "images", "datadir", "storagedirectory", "storagepath"),
        ],
        "orthanc:paths:index": ["index", "indexdirectory"],
        "orthanc:paths:log": ["log", "logs", "logdir"],
        "orthanc:access_log": ["accesslog", "auditlog", "audit", "httplog"],
        "orthanc:log_keep": ["logretention", "logrotate", "rotatelogs", "logdays", "logsize"],
        "orthanc:viewers": ["viewer", "webviewer", "ohif", "stone", "orthancexplorer2"],
        "orthanc:lua_scripts": ["script", "scripts", "lua", "luascript", "filters"],
        "orthanc:python_scripts": ["python", "pythonscript"],
        "orthanc:config": ["options", "settings", "configuration"],
        "orthanc:backup": ["backups", "restic"],
        "orthanc:monitoring": ["metrics", "prometheus", "health", "nagios", "icinga"],
        "orthanc:backup_key": ["sshkey"],
        "orthanc:retention": [
            *("retentiondays", "maxage", "expire", "expiry", "autodelete", "lifecycle", "purge"),
        ],
        "orthanc:plugins": ["plugin", "downloads"],
        "orthanc:dicom:tls:enabled": ["dicomtls", "dicomtlsenabled"],
        "orthanc:worklists": ["worklist", "modalityworklists", "mwl"],
        "orthanc:dicom:unknown": ["unknown", "strangers", "alwaysallow"],
        "orthanc:overwrite_instances": ["overwrite"],
        "orthanc:limit_find": ["limitfindresults", "limitfindinstances"],
        "orthanc:deidentify_logs": ["deidentifylogsdicomversion"],
        "orthanc:config:Name": ["name"],
        "orthanc:dicom:port": ["dicomport"],
        "orthanc:dicom:enabled": ["dicomserverenabled"],
        "orthanc:dicom:tls:certificate": ["dicomtlscertificate"],
        "orthanc:dicom:tls:key": ["dicomtlsprivatekey"],
        "orthanc:dicom:tls:trusted_certificates": ["dicomtlstrustedcertificates"],
        "orthanc:dicom:tls:require_certificate": ["dicomtlsremotecertificaterequired"],
        "orthanc:dicomweb": ["wado", "qido", "stow"],
        "orthanc:config:MaximumStorageSize": ["maximumstoragesize"],
        "orthanc:config:WebDavEnabled": ["webdav"],
        "orthanc:config:StorageCompression": ["storagecompression", "compression"],
        "orthanc:start_timeout": ["timeout"],
        "orthanc:storage_reserve": [
            *(
                "reserve",
                "freespace",
                "minfreespace",
                "minimumfreespace",
                "diskreserve",
                "watermark",
            ),
        ],
    },
    "orthanc:dicom": {
        "orthanc:dicom:aet": ["aetitle", "title", "name"],
        "orthanc:modalities": ["modalities", "nodes"],
        "orthanc:dicom:unknown": ["alwaysallow", "allow", "strangers", "unknownaets"],
    },
    "orthanc:worklists": {
        "orthanc:worklists:folder": ["database", "directory", "path", "dir"],
        "orthanc:worklists:writer": ["user", "owner", "account", "ris"],
    },
    "orthanc:dicom:tls": {
        "orthanc:dicom:tls:trusted_certificates": ["ca", "cacertificate", "trusted"],
        "orthanc:dicom:tls:key": ["privatekey"],
    },
    "orthanc:https": {
        "orthanc:port": ["port", "listen"],
        "orthanc:https:certificate": ["fullchain", "chain"],
        "orthanc:https:terminator": ["proxy", "nginx"],
        "orthanc:https:cors": ["origins", "allowedorigins", "corsorigins"],
        "orthanc:https:headers": ["hsts", "addheader", "addheaders"],
        "orthanc:https:key": ["privatekey"],
    },
    "orthanc:postgresql": {
        "orthanc:postgresql:database": ["name", "db", "dbname"],
        "orthanc:postgresql:uri": ["url", "connectionuri", "dsn"],
        "orthanc:postgresql:host": ["server", "address"],
        "orthanc:postgresql:enabled": ["enableindex", "enable"],
        "orthanc:postgresql:storage": ["enablestorage"],
    },
    "orthanc:backup": {
        "orthanc:backup:repository": ["repo", "url", "path", "target", "destination", "folder"],
        "orthanc:backup:keep": ["retention", "forget"],
        "orthanc:backup:limit_upload": ["limit", "bandwidth", "limitbandwidth"],
        "orthanc:backup:environment": ["env", "credentials"],
        "orthanc:backup:schedule": ["time", "oncalendar", "cron", "timer"],
    },
    "orthanc:retention": {
        "orthanc:retention:rules": ["olderthan", "by", "modality", "aet", "years", "days", "rule"],
        "orthanc:retention:dry_run": ["test", "enabled", "delete"],
        "orthanc:retention:hours": ["duration", "until", "maxhours"],
        "orthanc:retention:rate": ["perminute", "speed", "limit"],
        "orthanc:retention:schedule": ["time", "oncalendar", "cron", "timer", "at"],
    },
    "orthanc:users:*": {
        "password": ["pw", "pwd", "secret"],
        "rules": ["permissions", "rights", "methods", "paths", "allow"],
        "role": ["admin", "group", "groups"],
    },
}
# What people write and no setting can give, by what there is instead.
NO_SETTING = {
    "Orthanc has no option for it; PUT /tools/log-level changes it while Orthanc runs": [
        *("loglevel", "verbose", "debug", "trace"),
    ],
    "the formula leaves the firewall alone; see the README": ["firewall"],
}
# What to write instead of nothing, where that is not plain.
INSTEAD = {
    "orthanc": "write `orthanc: {}` for a server with all defaults",
    "orthanc:users": "give each user a password and a role, or write `users: {}` for a server"
    " without users",
}
# Below these paths of the pillar a wrong value may be a secret.
NOT_SHOWN = (
    "password|secret|users|config|postgresql|source$|certificate|:key$|repository|environment"
    "|scripts"
)
# The three users that the GNU Health role calls demo users.
DEMO_USERS = {
    "admin": {"password": "admin", "role": "admin"},
    "alice": {"password": "bob", "role": "reader"},
    "bob": {"password": "alice", "role": "writer"},
}
