"""The shape of the pillar: each mistake is named with its path and the remedy."""

import copy
import re

import orthanc_layers
import orthanc_pillar
import orthanc_tables
import pytest
from hypothesis import given
from hypothesis import strategies as st

ADMIN = {"password": "a word of her own", "role": "admin"}
KEYS = ["users", "config", "dicom", "port", "aet", "enabled", "links", "dir", "modalities", "x"]
KEYS += ["plugins", "source", "insecure", "backup_key"]
MODALITY = {"AET": "CT", "Host": "10.0.0.1", "Port": 104}
PAIR = {"certificate": "/srv/c.pem", "key": "salt://k.pem"}
HTTPS = {"enabled": True, **PAIR}
NO_ORIGINS = [
    *("*", "null", "https://*", "https://*.example.org", "viewer.example.org", "//a", "https://"),
    *("https://Viewer.example.org", "HTTPS://a", "https://a/", "https://a/viewer", "https://a?b"),
    *("https://a:443", "http://a:80", "https://a:", "https://a:0", "https://a:65536"),
    *("https://a:080", "https://anna@a", "https://a,https://b", "https://a https://b"),
    *("https://a b", " https://a", "https://a\n", 'https://a"', "https://a$b", "https://a\\b"),
    *("https://a;b", "https://a{b", "https://ä", "https://a..b", "https://a.", "https://.a"),
    *("https://-a", "https://1.2.3", "https://010.0.0.1", "https://1.2.3.400", "https://::1"),
    *("https://[::0001]", "https://[::1", "https://[1.2.3.4]", "ftp://a", "file:///a", 8042),
]
ORIGINS = [
    *("https://viewer.example.org", "https://viewer", "https://viewer:8443", "https://a_b.c"),
    *("http://viewer:443", "https://a:80", "https://192.0.2.7", "https://[2001:db8::7]:3000"),
    *("https://xn--bcher-kva.example", "http://localhost:3000", "https://1.example"),
]
TLS = {"enabled": True, **PAIR, "require_certificate": False}
# Keys below orthanc:postgresql, besides enabled.
POSTGRESQL = [
    ({"prot": 1}, "orthanc:postgresql:prot", "orthanc:postgresql:port"),
    ({"host": "db:5433"}, "orthanc:postgresql:host", "the name or the IP address"),
    ({"host": "postgresql://db"}, "orthanc:postgresql:host", "the name or the IP address"),
    ({"host": "db", "port": "5432"}, "orthanc:postgresql:port", "port number"),
    ({"uri": "host=db password=x"}, "orthanc:postgresql:uri", "postgresql://user:password@host"),
    ({"uri": "postgresql://u:a@b@db/x"}, "orthanc:postgresql:uri", "URL-encoded"),
    ({"uri": "postgresql://u:100%@127.0.0.1/x"}, "orthanc:postgresql:uri", "URL-encoded"),
    ({"uri": "postgresql:///x", "host": "db"}, "orthanc:postgresql:host", "orthanc:postgresql:uri"),
    ({"uri": "postgresql:///x", "user": "y"}, "orthanc:postgresql:user", "orthanc:postgresql:uri"),
    (
        {"uri": "postgresql://127.0.0.1/x", "ca": "/srv/ca.pem"},
        "orthanc:postgresql:uri",
        "sslrootcert=%2Fsrv%2Fca.pem",
    ),
    ({"password": "x"}, "orthanc:postgresql:password", "set orthanc:postgresql:host"),
    ({"ca": "/srv/ca.pem"}, "orthanc:postgresql:ca", "set orthanc:postgresql:host"),
    ({"verify": False}, "orthanc:postgresql:verify", "take it out"),
    ({"user": "pacs"}, "orthanc:postgresql:user", "must be orthanc for the local database"),
    (
        {"host": "db", "verify": False, "ca": "/srv/ca.pem"},
        "orthanc:postgresql:verify",
        "must not be false",
    ),
    ({"host": "db", "ca_source": "ca.pem"}, "orthanc:postgresql:ca_source", "salt://"),
    ({"storage": "yes"}, "orthanc:postgresql:storage", "true or false"),
]
SOURCE = "https://192.0.2.1/a/libX.so?x=y.so"
BACKUP = {"repository": "/srv/backup"}
RULE = {"older_than": "10 years", "by": "study_date"}
NO_RETENTION = [
    ({"dry_run": False}, "rules", "missing"),
    ({"rules": RULE}, "rules", "a list"),
    ({"rules": [{"by": "received"}]}, "rules:0:older_than", "10 years"),
    ({"rules": [{"older_than": "10 years"}]}, "rules:0:by", "study_date"),
    *(
        ({"rules": [{**RULE, "older_than": age}]}, "rules:0:older_than", "400 days")
        for age in (10, "10", "10 Years", "0 days", "-1 days", "1.5 years", "2 weeks", "1000 years")
    ),
    ({"rules": [{**RULE, "by": "StudyDate"}]}, "rules:0:by", "study_date or received"),
    ({"rules": [{**RULE, "modality": "US"}]}, "rules:0:modality", "a list"),
    ({"rules": [{**RULE, "modality": ["us"]}]}, "rules:0:modality:0", "capital"),
    ({"rules": [{**RULE, "modality": []}]}, "rules:0:modality", "for nothing"),
    ({"rules": [{**RULE, "aet": ["A TITLE OF 17 LET"]}]}, "rules:0:aet:0", "16"),
    ({"rules": [RULE, {**RULE, "modality": ["US"]}]}, "rules:0", "put it last"),
    ({"rules": [{**RULE, "sex": "M"}]}, "rules:0:sex", "known"),
    ({"rules": [RULE], "hours": 24}, "hours", "1 to 23"),
    ({"rules": [RULE], "rate": 0}, "rate", "1 to 1000"),
    ({"rules": [RULE], "max_percent": 101}, "max_percent", "1 to 100"),
    ({"rules": [RULE], "older_than": "1 year"}, "older_than", "retention:rules"),
]
HASH = "sha256=" + 64 * "0"
PLUGIN = {"source": SOURCE, "source_hash": HASH}


@pytest.mark.parametrize("given", [True, False])
def test_an_empty_pillar_gives_the_defaults(load_settings, map_file, given):
    settings, problems = load_settings({} if given else map_file.ABSENT)
    assert problems == []
    assert settings["port"] == 8042
    assert settings["remote_access"] is False
    dicom = {name: settings["dicom"][name] for name in ("enabled", "aet", "port")}
    assert dicom == {"enabled": False, "aet": "ORTHANC", "port": 4242}
    assert settings["users"] == {}


@pytest.mark.parametrize(
    ("pillar", "path", "words"),
    [
        ([], "orthanc", "must be a mapping"),
        ({"prot": 1}, "orthanc:prot", "nearest known key is orthanc:port"),
        ({"Port": 1}, "orthanc:Port", "nearest known key is orthanc:port"),
        ({"user": {}}, "orthanc:user", "orthanc:users"),
        ({"dicom": {"AET": "X"}}, "orthanc:dicom:AET", "orthanc:dicom:aet"),
        ({"dicom": {"enable": True}}, "orthanc:dicom:enable", "orthanc:dicom:enabled"),
        ({"qqqq": 1}, "orthanc:qqqq", "known below orthanc"),
        ({True: 1}, "orthanc:True", "unknown key"),
        ({"port": "8042"}, "orthanc:port", "port number"),
        ({"port": True}, "orthanc:port", "port number"),
        ({"port": 0}, "orthanc:port", "1 to 65535"),
        ({"port": 65536}, "orthanc:port", "1 to 65535"),
        ({"port": 99999}, "orthanc:port", "a number: 99999"),
        ({"port": 80.0}, "orthanc:port", "port number"),
        ({"remote_access": "yes"}, "orthanc:remote_access", "true or false"),
        ({"remote_access": 1}, "orthanc:remote_access", "true or false"),
        ({"limit_find": -1}, "orthanc:limit_find", "0 or more"),
        ({"limit_find": "many"}, "orthanc:limit_find", "whole number"),
        ({"packages": "orthanc"}, "orthanc:packages", "must be a list, but is a text"),
        ({"packages": ["orthanc", 1]}, "orthanc:packages:1", "text"),
        ({"packages": ["orthanc-gdcm"]}, "orthanc:packages", "must contain orthanc"),
        ({"version": 1.12}, "orthanc:version", "put it in quotes"),
        ({"overwrite_instances": "never"}, "orthanc:overwrite_instances", "true, false, Never"),
        ({"deidentify_logs": 2021}, "orthanc:deidentify_logs", "DICOM standard"),
        *(
            ({"storage_reserve": wrong}, "orthanc:storage_reserve", "or false for none")
            for wrong in (
                *(
                    0,
                    10,
                    True,
                    ["5%"],
                    {"percent": 5},
                    "5",
                    "0%",
                    "100%",
                    "5.5%",
                    "99 MB",
                    "0.05 GB",
                ),
                *(
                    "10 GiB",
                    "10G",
                    "10 GB up to 5%",
                    "5% up to 10%",
                    "5% up to",
                    "0",
                    "none",
                    "-5%",
                ),
            )
        ),
        ({"dicom": {"aet": "X" * 17}}, "orthanc:dicom:aet", "16 ASCII"),
        ({"dicom": {"aet": ""}}, "orthanc:dicom:aet", "an empty text"),
        ({"dicom": {"aet": "A\\B"}}, "orthanc:dicom:aet", "without backslash"),
        ({"dicom": {"aet": True}}, "orthanc:dicom:aet", "in quotes"),
        ({"dicom": True}, "orthanc:dicom", "must be a mapping, but is true or false"),
        ({"users": ["anna"]}, "orthanc:users", "must be a mapping, but is a list"),
        ({"users": {"anna": "secret"}}, "orthanc:users:anna", "must be a mapping"),
        ({"users": {"anna": {"role": "admin"}}}, "orthanc:users:anna:password", "missing"),
        ({"users": {"anna": {"password": "x"}}}, "orthanc:users:anna", "role"),
        (
            {"users": {"anna": {**ADMIN, "rules": []}}},
            "orthanc:users:anna",
            "either role (admin, writer, reader, peer or monitor) or rules",
        ),
        (
            {"users": {"anna": {"password": "x", "role": "root"}}},
            "orthanc:users:anna:role",
            "admin, writer, reader, peer or monitor",
        ),
        ({"users": {"a:b": ADMIN}}, "orthanc:users:a:b", "without colon"),
        ({"users": {1: ADMIN}}, "orthanc:users:1", "user name"),
        ({"users": {"anna": {**ADMIN, "pasword": "x"}}}, "orthanc:users:anna:pasword", "password"),
        ({"users": {"anna": {**ADMIN, "password": 1234}}}, "orthanc:users:anna:password", "quotes"),
        ({"users": {"anna": {**ADMIN, "password": ""}}}, "orthanc:users:anna:password", "empty"),
        (
            {"users": {"anna": {**ADMIN, "password": "a${b}"}}},
            "orthanc:users:anna:password",
            "environment variable",
        ),
        (
            {"users": {"x": {"password": "x", "rules": [{"methods": ["GET"]}]}}},
            "orthanc:users:x:rules:0:paths",
            "missing",
        ),
        (
            {"users": {"x": {"password": "x", "rules": [{"methods": ["get"], "paths": ["/"]}]}}},
            "orthanc:users:x:rules:0:methods:0",
            "GET, POST, PUT or DELETE",
        ),
        (
            {"users": {"x": {"password": "x", "rules": [{"methods": ["GET"], "paths": ["x"]}]}}},
            "orthanc:users:x:rules:0:paths:0",
            "begins with /",
        ),
        ({"demo_users": True, "users": {"bob": ADMIN}}, "orthanc:users:bob", "demo user"),
        ({"remote_access": True}, "orthanc:remote_access", "orthanc:users"),
        ({"remote_access": True, "demo_users": True}, "orthanc:remote_access", "do not count"),
        ({"config": {"RemoteAccessAllowed": True}}, "orthanc:remote_access", "orthanc:users"),
        (
            {
                "remote_access": True,
                "users": {"a": ADMIN},
                "config": {"AuthenticationEnabled": False},
            },
            "orthanc:config:AuthenticationEnabled",
            "must be true",
        ),
        (
            # Behind nginx, Orthanc would take everybody for somebody on this host.
            {
                "remote_access": True,
                "users": {"a": ADMIN},
                "https": {"enabled": True, "self_signed": True},
                "config": {"AuthenticationEnabled": None},
            },
            "orthanc:config:AuthenticationEnabled",
            "must be true",
        ),
        ({"config": {"RegisteredUsers": {}}}, "orthanc:config:RegisteredUsers", "orthanc:users"),
        ({"config": {"LuaScripts": "/x"}}, "orthanc:config:LuaScripts", "list"),
        ({"config": {"LuaScripts": 5}}, "orthanc:config:LuaScripts", "list"),
        ({"config": {"LuaScripts": {"a": 1}}}, "orthanc:config:LuaScripts", "list"),
        ({"config": {"Name": "${HOSTNAME}"}}, "orthanc:config:Name", "environment variable"),
        (
            {"config": {"Plugins": ["/x", "/${x}"]}},
            "orthanc:config:Plugins:1",
            "environment variable",
        ),
        (
            {"config": {"UserMetadata": {"${x}": 1024}}},
            "orthanc:config:UserMetadata:${x}",
            "environment variable",
        ),
        ({"config": {"not an option": 1}}, "orthanc:config:not an option", "unknown option"),
        ({"config": []}, "orthanc:config", "must be a mapping"),
        ({"modalities": {"c t": MODALITY}}, "orthanc:modalities:c t", "letters, digits"),
        (
            {"modalities": {"ct": {"AET": "CT", "Port": 104}}},
            "orthanc:modalities:ct:Host",
            "missing",
        ),
        (
            {"modalities": {"ct": {**MODALITY, "AllowFnd": True}}},
            "orthanc:modalities:ct:AllowFnd",
            "AllowFind",
        ),
        (
            {"modalities": {"ct": {**MODALITY, "Port": 65535}}},
            "orthanc:modalities:ct:Port",
            "65534",
        ),
        ({"modalities": {"ct": ["CT", "h"]}}, "orthanc:modalities:ct", "but has 2"),
        ({"modalities": {"ct": "CT"}}, "orthanc:modalities:ct", "must be a mapping or a list"),
        ({"modalities": ["CT"]}, "orthanc:modalities", "must be a mapping"),
        ({"peers": {"x": {}}}, "orthanc:peers:x:Url", "missing"),
        ({"peers": {"x": {"Url": "http://x", "User": "x"}}}, "orthanc:peers:x:User", "Username"),
        ({"links": {"dir": "relative"}}, "orthanc:links:dir", "absolute path"),
        ({"links": {"data": "/x"}}, "orthanc:links:data", "must be a mapping"),
        ({"paths": {"storge": "/x"}}, "orthanc:paths:storge", "orthanc:paths:storage"),
        ({"paths": {"storage": "x"}}, "orthanc:paths:storage", "absolute path"),
        *(
            ({"paths": {name: path}}, f"orthanc:paths:{name}", "is for others too")
            for name, path in (
                *(("log", "/var/log"), ("home", "/home/"), ("storage", "/srv/x/..")),
                *(("config", "/etc"), ("index", "/tmp"), ("config", "/run/orthanc")),
            )
        ),
        ({"paths": {"log": "/srv/my logs"}}, "orthanc:paths:log", "only letters"),
        ({"paths": {"config": "/srv/a%b"}}, "orthanc:paths:config", "only letters"),
        ({"paths": {"config": "/var/lib/orthanc/etc"}}, "orthanc:paths:config", "paths:home"),
        (
            {"config": {"HttpBindAddresses": ["192.0.2.1"]}},
            "orthanc:config:HttpBindAddresses",
            "must contain 127.0.0.1",
        ),
        (
            {"config": {"HttpServerEnabled": False}},
            "orthanc:config:HttpServerEnabled",
            "asks over HTTP",
        ),
        ({"ca_source": "ca.pem"}, "orthanc:ca_source", "salt://"),
        *(
            (
                {"packages": ["orthanc", "orthanc-dicomweb"], "config": {"Plugins": plugins}},
                "orthanc:config:Plugins",
                "what orthanc-dicomweb brings",
            )
            for plugins in (["/srv/plugins"], [], None)
        ),
        (
            {"ca_source": "/srv/ca.pem", "config": {"HttpsVerifyPeers": False}},
            "orthanc:ca_source",
            "HttpsVerifyPeers is false",
        ),
        (
            {"ca_source": "/srv/ca.pem", "config": {"HttpsCACertificates": "/srv/x.pem"}},
            "orthanc:config:HttpsCACertificates",
            "take one of the two out",
        ),
        (
            {"modalities": {"ct": MODALITY}, "config": {"DicomModalitiesInDatabase": True}},
            "orthanc:modalities",
            "would be ignored",
        ),
        (
            {"peers": {"p": {"Url": "http://p"}}, "config": {"OrthancPeersInDatabase": True}},
            "orthanc:peers",
            "would be ignored",
        ),
        (
            {"modalities": {"ct": {**MODALITY, "AllowStore": False}}},
            "orthanc:modalities:ct:AllowStore",
            "set DicomAlwaysAllowStore to false",
        ),
        ({"start_timeout": 0}, "orthanc:start_timeout", "seconds"),
        ({"log_keep": {"days": 0}}, "orthanc:log_keep:days", "a number of days from 1"),
        ({"log_keep": {"size": 100}}, "orthanc:log_keep:size", "such as 1 GB"),
        ({"log_keep": {"size": "0 GB"}}, "orthanc:log_keep:size", "such as 1 GB"),
        ({"log_keep": False}, "orthanc:log_keep", "must be a mapping"),
        ({"hardening": "no"}, "orthanc:hardening", "must be true or false or a mapping"),
        ({"hardening": {"ProtectHom": True}}, "orthanc:hardening:ProtectHom", "ProtectHome"),
        ({"hardening": {"ProtectHome": "maybe"}}, "orthanc:hardening:ProtectHome", "read-only"),
        ({"hardening": {"UMask": 63}}, "orthanc:hardening:UMask", "four octal digits"),
        (
            {"hardening": {"ReadWritePaths": ["srv"]}},
            "orthanc:hardening:ReadWritePaths:0",
            "absolute path",
        ),
        (
            {"hardening": {"RestrictAddressFamilies": ["inet"]}},
            "orthanc:hardening:RestrictAddressFamilies:0",
            "AF_NETLINK",
        ),
        ({"hardening": {"ExecStart": "/bin/sh"}}, "orthanc:hardening:ExecStart", "unknown key"),
        (
            {"users": {7: {"password": "a long one of mine", "role": "reader"}}},
            "orthanc:users:7",
            "(in quotes)",
        ),
        (
            {"network": {"sites": {7: {"role": "archive"}}}},
            "orthanc:network:sites:7",
            "the key must be a text (put it in quotes)",
        ),
        ({"https": True}, "orthanc:https", "must be a mapping"),
        ({"https": {**HTTPS, "cert": "/x"}}, "orthanc:https:cert", "orthanc:https:certificate"),
        ({"https": {**HTTPS, "key": "k.pem"}}, "orthanc:https:key", "an absolute path on the host"),
        ({"https": {**HTTPS, "key": '/x"'}}, "orthanc:https:key", "an absolute path on the host"),
        ({"https": {**HTTPS, "key": "salt://"}}, "orthanc:https:key", "a salt:// URL"),
        (
            {"https": {**HTTPS, "certificate": "-----BEGIN-----"}},
            "orthanc:https:certificate",
            "PEM",
        ),
        (
            {"https": {**HTTPS, "certificate": "/etc/nginx/orthanc-formula.pem"}},
            "orthanc:https:certificate",
            "the formula itself writes",
        ),
        ({"https": {**HTTPS, "terminator": "apache"}}, "orthanc:https:terminator", "nginx or"),
        (
            {"https": {**HTTPS, "backend_port": 8042}},
            "orthanc:https:backend_port",
            "is orthanc:port",
        ),
        (
            {"https": HTTPS, "dicom": {"enabled": True, "port": 8042}},
            "orthanc:dicom:port",
            "is orthanc:port",
        ),
        (
            {"https": HTTPS, "dicom": {"enabled": True, "port": 18042}},
            "orthanc:dicom:port",
            "the port for HTTP",
        ),
        ({"https": {**HTTPS, "cors": "*"}}, "orthanc:https:cors", "must be a list"),
        *(
            ({"https": {**HTTPS, "cors": ["https://ok", origin]}}, "orthanc:https:cors:1", words)
            for origin, words in (
                *((origin, "must be an origin as browsers send it") for origin in NO_ORIGINS),
                ("", "is an empty text"),
            )
        ),
        *(
            ({"https": {**HTTPS, "headers": headers}}, f"orthanc:https:headers:{name}", words)
            for headers, name, words in (
                ({"X Y": "a"}, "X Y", "the key must be the name of a header"),
                ({"X:": "a"}, "X:", "the key must be the name of a header"),
                ({"X-Y": 1}, "X-Y", "a text (in quotes)"),
                ({"X-Y": 'a"b'}, "X-Y", "a text (in quotes)"),
                ({"X-Y": "$host"}, "X-Y", "a text (in quotes)"),
                ({"X-Y": "a\\b"}, "X-Y", "a text (in quotes)"),
                ({"X-Y": "a\nb"}, "X-Y", "a text (in quotes)"),
                ({"X-Y": "ä"}, "X-Y", "a text (in quotes)"),
                ({"X-Y": "a" * 4001}, "X-Y", "up to 4000"),
                ({"X-Y": ""}, "X-Y", "is an empty text"),
                ({"X-Y": "a", "x-y": "b"}, "x-y", "in other letters"),
                ({"access-control-allow-origin": "*"}, "access-control-allow-origin", "https:cors"),
                ({"Content-Type": "a"}, "Content-Type", "is set by nginx and Orthanc"),
                ({"vary": "Accept"}, "vary", "is set by nginx and Orthanc"),
            )
        ),
        *(
            ({"https": {**https, key: value}}, f"orthanc:https:{key}", "is for nginx")
            for key, value in (("cors", ["https://a"]), ("headers", {"X-Y": "z"}))
            for https in ({}, {**HTTPS, "enabled": False}, {**HTTPS, "terminator": "orthanc"})
        ),
        ({"https": {"enabled": True, "key": "/x"}}, "orthanc:https:certificate", "missing"),
        ({"https": {"enabled": True, "certificate": "/x"}}, "orthanc:https:key", "missing"),
        ({"https": {"enabled": False, "certificate": "/x"}}, "orthanc:https:key", "missing"),
        ({"https": PAIR}, "orthanc:https:enabled", "protects nothing"),
        ({"https": {"self_signed": True}}, "orthanc:https:enabled", "missing"),
        ({"https": {**HTTPS, "self_signed": True}}, "orthanc:https:self_signed", "must be false"),
        (
            {"https": HTTPS, "config": {"HttpPort": 1234}},
            "orthanc:config:HttpPort",
            "follows from orthanc:https",
        ),
        (
            {"https": HTTPS, "config": {"RemoteAccessAllowed": False}},
            "orthanc:config:RemoteAccessAllowed",
            "orthanc:remote_access",
        ),
        (
            {"https": {**HTTPS, "terminator": "orthanc"}, "config": {"SslEnabled": None}},
            "orthanc:config:SslEnabled",
            "follows from",
        ),
        ({"https": HTTPS, "remote_access": True}, "orthanc:remote_access", "one user of your own"),
        (
            {"dicom": {"tls": {"enabled": False, "certificate": "/x"}}},
            "orthanc:dicom:tls:key",
            "missing",
        ),
        ({"dicom": {"tls": PAIR}}, "orthanc:dicom:tls:enabled", "protects nothing"),
        (
            {"dicom": {"tls": {**TLS, "require_certificate": True}}},
            "orthanc:dicom:tls:trusted_certificates",
            "require_certificate to false",
        ),
        (
            {"dicom": {"tls": {**TLS, "ca": "/x"}}},
            "orthanc:dicom:tls:ca",
            "tls:trusted_certificates",
        ),
        *(({"postgresql": {"enabled": True, **keys}}, *rest) for keys, *rest in POSTGRESQL),
        ({"postgresql": "orthanc"}, "orthanc:postgresql", "must be a mapping, but is a text"),
        (
            {"postgresql": {"enabled": True}, "config": {"PostgreSQL": {"Host": "db"}}},
            "orthanc:config:PostgreSQL:Host",
            "use the keys of orthanc:postgresql",
        ),
        (
            {"postgresql": {"enabled": True}, "config": {"PostgreSQL": {"EnableIndex": False}}},
            "orthanc:config:PostgreSQL:EnableIndex",
            "SQLite",
        ),
        (
            {"postgresql": {"enabled": True}, "config": {"PostgreSQL": None}},
            "orthanc:config:PostgreSQL",
            "must not be null",
        ),
        ({"plugins": {"a": 1}}, "orthanc:plugins", "must be a list"),
        ({"plugins": ["https://x/y.so"]}, "orthanc:plugins:0", "must be a mapping"),
        ({"plugins": [{**PLUGIN, "hash": "x"}]}, "orthanc:plugins:0:hash", "source_hash"),
        ({"plugins": [{"source_hash": HASH}]}, "orthanc:plugins:0:source", "missing"),
        ({"plugins": [{"source": SOURCE}]}, "orthanc:plugins:0:source_hash", "insecure: true"),
        (
            {"plugins": [{"source": SOURCE, "insecure": False}]},
            "orthanc:plugins:0:source_hash",
            "sha256sum",
        ),
        ({"plugins": [{**PLUGIN, "insecure": "yes"}]}, "orthanc:plugins:0:insecure", "true or"),
        *(
            ({"plugins": [{**PLUGIN, "source": source}]}, "orthanc:plugins:0:source", "password")
            for source in (
                *("ftp://x/a.so", "a.so", "https:///a.so", "http://u:p@x/a.so", "salt:///a.so"),
                *("https://x/a b.so", "file:///a.so", "https://x"),
            )
        ),
        *(
            ({"plugins": [{**PLUGIN, "source_hash": hash}]}, "orthanc:plugins:0:source_hash", "64")
            for hash in ("md5=" + 32 * "0", 63 * "0", 64 * "g", 64 * "0" + "\n", 1, SOURCE)
        ),
        *(
            ({"plugins": [{**PLUGIN, "name": name}]}, "orthanc:plugins:0:name", "ends in .so")
            for name in (
                *("../a.so", "/a.so", "a/b.so", ".a.so", "..so", "a.so.1", "a.SO", "a", ".so"),
                *("a b.so", "a.so\n", "a\0.so", "\u00e4.so", 1),
            )
        ),
        *(
            ({"plugins": [{**PLUGIN, "source": source}]}, "orthanc:plugins:0:name", "missing")
            for source in (
                *("https://x/a.zip", "https://x/a.so/", "https://x/?a.so", "/srv/..", "salt://x"),
                *("https://x/%2e%2e%2fa.so", "https://x/a.so%00"),
            )
        ),
        ({"plugins": [PLUGIN, PLUGIN]}, "orthanc:plugins:1:name", "libX.so"),
        (
            {"plugins": [{**PLUGIN, "source": "/a/b.so"}, {**PLUGIN, "name": "b.so"}]},
            "orthanc:plugins:1:name",
            "b.so",
        ),
        ({"backup_key": True}, "orthanc:backup_key", "must be a mapping"),
        ({"backup_key": {"enable": True}}, "orthanc:backup_key:enable", "enabled"),
        ({"backup_key": {"dir": "x"}}, "orthanc:backup_key:dir", "absolute path"),
        ({"backup_key": {"remote_user": "a b"}}, "orthanc:backup_key:remote_user", "account"),
        ({"backup_key": {"remote_user": "-o"}}, "orthanc:backup_key:remote_user", "account"),
        ({"backup_key": {"dir": "/a", "path": "/b/k"}}, "orthanc:backup_key:path", "/a"),
        ({"backup_key": {"dir": "/a", "path": "/a/../k"}}, "orthanc:backup_key:path", "/a"),
        *(
            ({"backup_key": {"path": f"{folder}/k"}}, "orthanc:backup_key:dir", "another use")
            for folder in ("/var/lib/orthanc", "/etc/orthanc", "")
        ),
        *(
            ({"retention": retention}, f"orthanc:retention:{path}", remedy)
            for retention, path, remedy in NO_RETENTION
        ),
        ({"retention": {"rules": [RULE], "dry_run": False}}, "orthanc:retention", "unproven"),
        ({"backup": {"repo": "/srv/backup"}}, "orthanc:backup:repo", "backup:repository"),
        ({"backup": {"schedule": "03:00"}}, "orthanc:backup:repository", "missing"),
        ({"backup": {"repository": "x"}}, "orthanc:backup:repository", "an absolute path, or"),
        ({"backup": {**BACKUP, "schedule": "a;b"}}, "orthanc:backup:schedule", "OnCalendar"),
        ({"backup": {**BACKUP, "keep": {"hourly": 1}}}, "orthanc:backup:keep:hourly", "daily"),
        ({"backup": {**BACKUP, "keep": {"daily": -1}}}, "orthanc:backup:keep:daily", "0 or more"),
        (
            {"backup": {**BACKUP, "environment": {"A-B": "x"}}},
            "orthanc:backup:environment:A-B",
            "variable",
        ),
        *(
            (
                {"backup": {**BACKUP, "environment": {name: "Geheim"}}},
                f"orthanc:backup:environment:{name}",
                f"see orthanc:backup:{key}",
            )
            for name, key in (("RESTIC_PASSWORD", "password"), ("RESTIC_REPOSITORY", "repository"))
        ),
        (
            {
                "backup": {
                    **BACKUP,
                    "repository": "s3:https://s3.example.org/orthanc",
                    "environment": {"AWS_ACCESS_KEY_ID": "AKEXAMPLE"},
                }
            },
            "orthanc:backup:environment:AWS_SECRET_ACCESS_KEY",
            "missing; S3 takes AWS_ACCESS_KEY_ID and",
        ),
        *(
            ({"backup": {"repository": folder}}, "orthanc:backup:repository", "another disk")
            for folder in (
                *("/", "//", "/etc/orthanc", "/etc/orthanc/x", "/var/lib/orthanc/backup"),
                *("/var/lib/orthanc/db-v6/../x", "/etc/orthanc-backup"),
            )
        ),
    ],
)
def test_a_mistake_is_named_with_its_path(problems_of, pillar, path, words):
    problems = problems_of(pillar)
    assert len(problems) == 1, problems
    assert problems[0].startswith(f"{path}: ")
    assert words in problems[0]
    # Said once.
    assert "quotes) (" not in problems[0]


@pytest.mark.parametrize(
    "repository",
    [
        *("/srv/backup", "/var/lib/orthanc-backup", "/mnt", "sftp:me@far.example.org:/x"),
        *("sftp://me@far:2222//x", "rest:https://me:Geheim@far/", "s3:https://far/x"),
    ],
)
def test_a_repository_is_what_restic_takes(load_settings, repository):
    settings, problems = load_settings({"backup": {"repository": repository}})
    assert problems == []
    shown = settings["backup"]["repository"]
    assert shown == repository or "Geheim" not in str(shown)
    assert settings["backup"]["keep"]["daily"] == 7


@pytest.mark.parametrize(
    "pillar",
    [
        {"https": HTTPS},
        {"https": {**HTTPS, "enabled": False}},
        {"https": {"enabled": True, "self_signed": True}},
        {"https": {**HTTPS, "terminator": "orthanc", "backend_port": 8042}},
        {"https": HTTPS, "port": 443, "config": {"AuthenticationEnabled": True}},
        {"https": {**HTTPS, "cors": ORIGINS, "headers": {"X-Y": "a; 'b' #{c}", "Z": "0"}}},
        {"https": {"cors": [], "headers": {}}},
        {"dicom": {"enabled": True, "tls": TLS}},
        {"dicom": {"tls": {**TLS, "enabled": False, "trusted_certificates": "/etc/ca.pem"}}},
    ],
)
def test_a_sound_pillar_with_tls(load_settings, pillar):
    assert load_settings(pillar)[1] == []


EMPTY = [
    ("users", None),
    ("users", ""),
    ("users:anna", None),
    ("users:anna:password", None),
    ("users:anna:password", "  "),
    ("users:anna:role", None),
    ("users:anna:rules", None),
    ("users:anna:rules:0", None),
    ("users:anna:rules:0:methods", None),
    ("users:anna:rules:0:paths:1", None),
    ("modalities", None),
    ("modalities:ct", None),
    ("modalities:ct", ""),
    ("modalities:ct:Host", None),
    ("modalities:ct:Host", ""),
    ("modalities:ct:2", None),
    ("peers", None),
    ("peers:far", None),
    ("peers:far:Password", None),
    ("peers:far:Password", ""),
    ("peers:far:HttpHeaders", None),
    ("peers:far:HttpHeaders:Token", None),
    ("packages", None),
    ("packages:1", None),
    ("packages:0", ""),
    ("version", None),
    ("version", "\n"),
    ("port", None),
    ("remote_access", None),
    ("https", None),
    ("https:certificate", None),
    ("https:key", ""),
    ("dicom", None),
    ("dicom:aet", None),
    ("dicom:aet", "    "),
    ("dicom:tls", None),
    ("dicom:tls:trusted_certificates", None),
    ("links:data", None),
    ("links:data:name", None),
    ("paths:storage", None),
    ("postgresql", None),
    ("postgresql:password", None),
    ("postgresql:uri", ""),
    ("plugins", None),
    ("plugins:0", None),
    ("plugins:0:source", ""),
    ("plugins:0:name", ""),
    ("plugins:0:source_hash", None),
    ("plugin_sections:0", None),
    ("backup_key:dir", None),
    ("config", None),
    ("config", ""),
    # Null takes an option out; of what is below it, it would lose what was meant to stand there.
    ("config:DicomModalities:ct", None),
    ("config:DicomModalities:ct:Host", None),
    ("config:DicomWeb:Servers:pacs", None),
    ("config:PostgreSQL:Host", None),
    ("config:UserMetadata:Mine", None),
]


def nested(path, value):
    """Return the pillar with this value at a path; what stands before it in a list is 1."""
    for key in reversed(path.split(":")):
        value = [*([1] * int(key)), value] if key.isdigit() else {key: value}
    return value


@pytest.fixture(scope="module")
def places(pillar_files):
    """All places of the pillar: the path of each, its shape, and whether something is below it."""
    tables, resolved = pillar_files["tables"], pillar_files["shapes"]["resolved"]

    def places(shape, path=()):
        words = resolved(shape, tables["KINDS"])
        # Of what Orthanc is told as it stands there is no end.
        inside = [] if words.get("type") == "any" else list(words.get("keys", {}).items())
        if inside or words.get("type") != "any":
            inside += [(name, words[word]) for word, name in BELOW if word in words]
        found = [(":".join(path), shape, bool(inside))] if path else []
        return found + [each for key, one in inside for each in places(one, (*path, key))]

    return places(tables["SHAPE"])


# (The name is one that a DICOM tag may have, too.)
BELOW = (("each", "Xx"), ("items", "0"))


def test_what_may_be_a_secret_is_handed_on_as_a_reference(places, pillar_files):
    """A new key that takes any text, a URL or a PEM file has to be decided on."""
    literal = set()
    tables, fits = pillar_files["tables"], pillar_files["shapes"]["fits"]
    without_secrets = pillar_files["reader"]["without_secrets"]
    for path, shape, is_inner in places:
        if is_inner:
            continue
        for secret in (
            *("any täxt", "https://192.0.2.1/Geheim.so", "postgresql://u:Geheim@192.0.2.1/x"),
            "-----BEGIN X KEY-----\nGeheim\n-----END X KEY-----\n",
        ):
            handed_on = without_secrets(nested(path, secret))
            keys = [int(key) if key.isdigit() else key for key in path.split(":")]
            if not fits(secret, shape, tables["KINDS"]):
                continue
            if handed_on == nested(path, {"__pillar__": ["orthanc", *keys]}):
                continue
            assert handed_on == nested(path, secret)
            literal.add(path)
    assert literal == {
        *("packages:0", "version", "postgresql:database", "postgresql:user"),
        *(f"links:{name}:name" for name in ("config", "log", "data", "plugins")),
        # Each client gets it.
        "https:headers:Xx",
        # options.py does.
        *("config:Xx", "config:PostgreSQL"),
        *("routes:Xx:to", "routes:Xx:tags:Xx:0"),
        *("network:group", "network:members:0", "network:sites:Xx:url"),
        "network:sites:Xx:group",
        "network:accounts:Xx:username",
        *("cluster:chores", "balancer:out:0"),
    }
    # salt-ssh brings along what it sees.
    for place in ("salt://tls/key.pem", "/srv/key.pem"):
        for pillar in ({"https": {"key": place}}, {"plugins": [{"source": place}]}):
            assert without_secrets(pillar) == pillar


@pytest.mark.parametrize(("path", "value"), EMPTY)
def test_what_is_written_and_empty_is_refused_with_its_path(problems_of, path, value):
    found = [line for line in problems_of(nested(path, value)) if " empty text; " in line] or [
        line for line in problems_of(nested(path, value)) if " nothing behind it; " in line
    ]
    assert len(found) == 1, problems_of(nested(path, value))
    assert found[0].startswith(f"orthanc:{path}: ")
    assert "take it out" in found[0] or "write `" in found[0]


def test_every_key_of_the_pillar_is_refused_where_nothing_stands_behind_it(places, pillar_files):
    tables, resolved = pillar_files["tables"], pillar_files["shapes"]["resolved"]
    # An option is taken out by null.
    found = [path for path, shape, _ in places if "empty" not in resolved(shape, tables["KINDS"])]
    assert len(found) > 60
    for path in found:
        for value in (None, ""):
            problems = pillar_files["reader"]["sound_part"](nested(path, value))[1]
            assert [line for line in problems if line.startswith(f"orthanc:{path}: ")], path


def test_nothing_behind_orthanc_itself(load_settings):
    for pillar in (None, "", "  "):
        (problem,) = load_settings(pillar)[1]
        assert problem.startswith("orthanc: ")
        assert "`orthanc: {}`" in problem


def test_null_takes_an_option_out(load_settings, problems_of, options_file, pillar_files):
    """Also what the formula itself puts below one, and nothing that the pillar names."""
    for name in ("Name", "HttpPort", "DicomModalities", "LuaScripts", "DicomWeb"):
        assert problems_of({"config": {name: None}}) == []
    # A list stands as it is.
    deep = {"plugin_sections": ["Own"], "config": {"Own": {"Deep": [1, None, {"x": None}]}}}
    assert problems_of(deep) == []
    database = {"enabled": True, "uri": "postgresql:///x"}
    section = {"MaximumConnectionRetries": None, "ConnectionRetryInterval": None}
    pillar = {"postgresql": database, "config": {"PostgreSQL": section}}
    settings, problems = load_settings(pillar)
    assert problems == []
    given = orthanc_layers.merge(options_file.definitions(settings, {}))[0]["PostgreSQL"]
    config = pillar_files["tables"]["SHAPE"]["keys"]["config"]
    assert config["keys"]["PostgreSQL"]["keys"].keys() == section.keys()
    assert set(section) < set(given)
    for option, key, entry in (
        ("DicomModalities", "modalities", {"ct": MODALITY}),
        ("OrthancPeers", "peers", {"far": {"Url": "http://192.0.2.1/"}}),
    ):
        (problem,) = problems_of({key: entry, "config": {option: None}})
        assert problem.startswith(f"orthanc:config:{option}: null would take out all")


def test_a_sound_entry_beside_an_empty_one_is_judged_too(problems_of):
    problems = problems_of({"modalities": {"ct": None, "mr": {**MODALITY, "Port": 70000}}})
    assert [line.split(": ")[0] for line in problems] == [
        "orthanc:modalities:ct",
        "orthanc:modalities:mr:Port",
    ]


@pytest.mark.parametrize(
    ("pillar", "meant"),
    [
        ({"scripts": ["/x.lua"]}, "orthanc:lua_scripts"),
        ({"Name": "x"}, "orthanc:config:Name"),
        ({"name": "x"}, "orthanc:config:Name"),
        ({"HttpPort": 1}, "orthanc:port"),
        ({"http_port": 1}, "orthanc:port"),
        ({"DicomAet": "X"}, "orthanc:dicom:aet"),
        ({"AETitle": "X"}, "orthanc:dicom:aet"),
        ({"ae_title": "X"}, "orthanc:dicom:aet"),
        ({"HttpTimeout": 1}, "orthanc:config:HttpTimeout"),
        ({"StorageCompression": True}, "orthanc:config:StorageCompression"),
        ({"RegisteredUsers": {}}, "orthanc:users"),
        ({"database": "x"}, "orthanc:postgresql"),
        ({"tls": {}}, "orthanc:https:enabled"),
        ({"dicom": {"AETitle": "X"}}, "orthanc:dicom:aet"),
        ({"enable_https": True}, "orthanc:https"),
        ({"use_demo_users": True}, "orthanc:demo_users"),
        ({"https_enabled": True}, "orthanc:https"),
        ({"conf": {}}, "orthanc:config"),
        ({"https": {"port": 443}}, "orthanc:port"),
        ({"postgresql": {"dbname": "x"}}, "orthanc:postgresql:database"),
        ({"postgresql": {"username": "x"}}, "orthanc:postgresql:user"),
        ({"users": {"a": {**ADMIN, "pw": "x"}}}, "orthanc:users:a:password"),
        ({"users": {"a": {**ADMIN, "permissions": "x"}}}, "orthanc:users:a:rules"),
    ],
)
def test_what_people_write_is_told_its_place(problems_of, pillar, meant):
    (problem,) = problems_of(pillar)
    assert re.search(rf"{meant}(?![\w:])", problem), problem


@pytest.mark.parametrize(
    ("key", "not_meant"),
    [
        ("log_level", "limit_find"),
        *(("backend_port", "port"), ("remote_user", "demo_users"), ("own_config", "config")),
    ],
)
def test_what_is_not_near_is_not_suggested(pillar_files, key, not_meant):
    keys = pillar_files["tables"]["SHAPE"]["keys"]
    sentence = pillar_files["reader"]["nearest"](key, keys, "orthanc")
    assert "nearest" not in sentence
    assert f"at orthanc:{not_meant}" not in sentence


# With them, each option is there that can follow from a setting of its own.
ALL_OPTIONS = [
    {"deidentify_logs": "2021b", "ca_source": "/srv/ca.pem", "postgresql": {"enabled": True}},
    {"https": {**HTTPS, "terminator": "orthanc"}, "dicom": {"tls": TLS}},
]


def test_what_people_write_has_a_place_that_is_there(load_settings, pillar_files, options_file):
    tables, below = pillar_files["tables"], pillar_files["shapes"]["below"]
    for level, places in tables["MEANT"].items():
        names = [name for each in places.values() for name in each]
        assert len(set(names)) == len(names)
        assert names == [re.sub("[_ -]", "", name).lower() for name in names]
        for place in places:
            first, *keys = (place if ":" in place else f"{level}:{place}").split(":")
            assert first == "orthanc"
            shape = tables["SHAPE"]
            if keys[0] == "config":
                options = {**orthanc_tables.OPTIONS, **orthanc_tables.SECTIONS}
                assert keys[1:] == [] or keys[1] in options
                continue
            for key in keys:
                shape = below(shape, key, tables["KINDS"])
                assert shape, place
    # An option that follows from a setting is told that one.
    asked = [f"orthanc:{key}" for key, _ in options_file.PLAIN.values()]
    derived = {
        layer["option"][0]: layer["origin"]
        for pillar in ALL_OPTIONS
        for layer in options_file.definitions({**load_settings(pillar)[0], "asked": asked}, {})
        if len(layer["option"]) == 1
    }
    assert len(derived) == 26
    for option, origin in derived.items():
        if option.lower() not in tables["SHAPE"]["keys"]:
            near = pillar_files["reader"]["nearest"](option, tables["SHAPE"]["keys"], "orthanc")
            assert origin.rpartition(":")[0] in near or option in near


def test_all_mistakes_at_once(problems_of):
    pillar = {"prot": 1, "port": "x", "dicom": {"aett": "X"}, "users": {"a": {"pw": 1}}}
    assert len(problems_of(pillar)) == 4


def test_mistakes_of_different_kinds_at_once(problems_of):
    pillar = {
        "prot": 1,
        "remote_access": True,
        "packages": ["orthanc-gdcm"],
        "modalities": {"ct": {"AET": "CT", "Host": "h"}},
        "limit_find": "many",
    }
    paths = sorted(problem.split(": ")[0] for problem in problems_of(pillar))
    assert paths == [
        "orthanc:limit_find",
        "orthanc:modalities:ct:Port",
        "orthanc:packages",
        "orthanc:prot",
        "orthanc:remote_access",
    ]


def test_a_mistyped_user_is_no_missing_user(problems_of):
    pillar = {"remote_access": True, "users": {"anna": {"password": 1, "role": "admin"}}}
    assert len(problems_of(pillar)) == 1


@pytest.mark.parametrize(
    "pillar",
    [
        {"users": {"anna": {"password": "Geheim${x}", "role": "Geheim-role"}}},
        {"users": {"anna": {"password": "Geheim${x}", "role": "admin"}}},
        {"config": {"DicomTlsPrivateKey": "-----BEGIN PRIVATE KEY----- Geheim"}},
        {"config": {"DicomTlsCertificate": "-----BEGIN PRIVATE KEY----- Geheim"}},
        {"config": {"PostgreSQL": {"ConnectionUri": ["Geheim"], "Pasword": "Geheim"}}},
        {"config": {"PostgreSQL": {"Host": "user:Geheim@host", "Port": "u:Geheim@h"}}},
        {"config": {"RegisteredUser": {"anna": "Geheim"}}},
        {"users": {"anna": {"password": 4711}}},
        {"users": {"anna": {"password": ["Geheim"]}}},
        {"users": {"anna": "Geheim"}},
        {"peers": {"x": {"Url": 1, "Password": {"Geheim": 1}}}},
        {"config": {"PostgreSQL": {"Password": "Geheim${x}"}}},
        {"https": {**HTTPS, "key": "-----BEGIN PRIVATE KEY Geheim"}},
        {"https": {**HTTPS, "certificate": "Geheim"}},
        {"dicom": {"tls": {**TLS, "key": ["Geheim"]}}},
        {"postgresql": "Geheim"},
        {"postgresql": {"host": "u:Geheim@db", "port": "Geheim"}},
        {"postgresql": {"uri": "u:Geheim@db", "password": 4711}},
        {"postgresql": {"enabled": True, "uri": "postgresql://u:Geheim@x@db/y"}},
        {"postgresql": {"enabled": True, "password": "Geheim"}},
        {"plugins": [{"source": "https://u:Geheim@x/a.so", "source_hash": HASH}]},
        {"plugins": [{"source": "ftp://u:Geheim@x/a.so", "source_hash": HASH}]},
    ],
)
def test_no_password_is_in_a_problem(problems_of, pillar):
    told = " ".join(problems_of(pillar)).replace("Geheim-role", "").replace(":Geheim", "")
    assert told
    assert "Geheim" not in told
    assert "4711" not in told


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(
                st.sampled_from(KEYS) | st.integers(),
                inner,
            )
        ),
    )
)
def test_any_pillar_gives_settings_or_problems(load_pillar, read_yaml, pillar):
    before = copy.deepcopy(pillar)
    osmap, defaults = read_yaml("osfamily/Debian.yaml"), read_yaml("defaults.yaml")
    settings, problems = load_pillar(pillar, osmap, defaults)
    assert settings or problems
    assert all(problem.startswith("orthanc") for problem in problems)
    assert repr(pillar) == repr(before)


def test_loading_changes_neither_pillar_nor_map(load_pillar, read_yaml):
    pillar = {"links": {"data": {"name": "images"}}, "paths": {"storage": "/srv/x"}, "users": {}}
    osmap, defaults = read_yaml("osfamily/Debian.yaml"), read_yaml("defaults.yaml")
    before = copy.deepcopy((pillar, osmap, defaults))
    load_pillar(pillar, osmap, defaults)
    assert (pillar, osmap, defaults) == before


def test_paths_follow_from_each_other(load_settings):
    settings, problems = load_settings({"paths": {"storage": "/srv/images"}})
    assert problems == []
    assert settings["paths"]["index"] == "/srv/images"
    assert settings["links"]["data"] == {
        "name": "/opt/gnuhealth/orthanc/data",
        "target": "/srv/images",
    }
    assert settings["moved_paths"] == ["storage"]


def test_a_link_may_have_a_name_and_a_target_of_its_own(load_settings):
    links = {"dir": "/srv/x", "data": {"name": "/srv/y"}, "plugins": {"target": "/srv/z"}}
    settings, problems = load_settings({"links": links})
    assert problems == []
    assert settings["links"]["data"]["name"] == "/srv/y"
    assert settings["links"]["plugins"] == {"name": "/srv/x/plugins", "target": "/srv/z"}


def test_fixed_paths_where_systemd_does_not_run(load_settings):
    _, problems = load_settings({"paths": {"config": "/srv/etc"}}, booted=False)
    assert [problem.split(": ")[0] for problem in problems] == ["orthanc:paths:config"]
    assert load_settings({"paths": {"storage": "/srv/x"}}, booted=False)[1] == []


def test_the_names_of_a_host(map_file):
    grains = {"fqdn": "pacs.example.org", "host": "pacs", "ipv4": ["127.0.0.1", "192.0.2.1"]}
    names = map_file.host_names({**grains, "ipv6": ["::1", "fe80::1", "2001:db8::1"]})
    assert names == ["pacs.example.org", "pacs", "127.0.0.1", "192.0.2.1", "::1", "2001:db8::1"]
    assert map_file.host_names({"fqdn": "pacs", "host": "pacs"}) == ["pacs"]


def test_a_local_database_needs_systemd(load_settings):
    (problem,) = load_settings({"postgresql": {"enabled": True}}, booted=False)[1]
    assert problem.startswith("orthanc:postgresql:enabled: ")
    for way in ({"host": "db"}, {"uri": "postgresql:///orthanc"}):
        assert load_settings({"postgresql": {"enabled": True, **way}}, booted=False)[1] == []


def test_the_packages_for_the_database_come_by_themselves(load_settings):
    settings, _ = load_settings({"postgresql": {"enabled": True}, "packages": ["orthanc", "x"]})
    assert settings["packages"] == ["orthanc", "x", "orthanc-postgresql"]
    assert load_settings({})[0]["packages"] == ["orthanc"]


def test_the_ca_of_the_database(load_settings):
    def ca(**keys):
        settings, problems = load_settings({"postgresql": {"host": "db", **keys}})
        assert problems == []
        return settings["postgresql"]["ca"]

    assert ca() in ("/etc/ssl/certs/ca-certificates.crt", "/etc/ssl/ca-bundle.pem")
    assert ca(ca="/srv/ca.pem") == "/srv/ca.pem"
    assert ca(ca_source="/srv/ca.pem") == "/etc/orthanc/orthanc-formula-postgresql-ca.pem"
    assert ca(ca_source="/srv/ca.pem", ca="/srv/x/y.pem") == "/srv/x/y.pem"
    own, source = ca(ca_source="/srv/ca.pem"), {"ca_source": "/srv/ca.pem"}
    # The one of the whole host, one that would be replaced, and one that would be removed.
    for wrong in ({"ca": ca(), **source}, {"ca": "/etc/orthanc/credentials.json", **source}):
        (problem,) = load_settings({"postgresql": {"host": "db", **wrong}})[1]
        assert problem.startswith("orthanc:postgresql:ca: ")
    (problem,) = load_settings({"postgresql": {"host": "db", "ca": own}})[1]
    assert problem.startswith(f"orthanc:postgresql:ca: {own} is where")


def test_a_slash_more_in_a_path_means_nothing(load_settings):
    settings, problems = load_settings({"paths": {"config": "/etc//orthanc/", "log": "/srv/log/"}})
    assert problems == []
    assert settings["paths"]["config"] == "/etc/orthanc"
    assert settings["paths"]["log"] == "/srv/log"
    assert "config" not in settings["moved_paths"]


def test_where_plugins_are_kept(load_settings):
    given = [
        PLUGIN,
        {"source": "salt://x/y?saltenv=dev", "source_hash": 64 * "A", "name": "libY.so"},
        {"source": "/srv/z.so", "insecure": True},
    ]
    settings, problems = load_settings({"plugins": given})
    assert problems == []
    folder = "/usr/local/lib/orthanc-plugins"
    paths = [plugin["path"] for plugin in settings["plugins"]]
    assert paths[:2] == [f"{folder}/{64 * '0'}/libX.so", f"{folder}/{64 * 'a'}/libY.so"]
    assert paths[2].startswith(f"{folder}/insecure-")
    assert paths[2].endswith("/z.so")
    (warning,) = settings["warnings"]
    assert warning.startswith("orthanc:plugins:2:insecure: ")
    # Another source without a hash is another plugin.
    other = {"source": "/srv/other/z.so", "insecure": True}
    assert load_settings({"plugins": [other]})[0]["plugins"][0]["path"] not in paths


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        # The host makes it of what is in the folder.
        ({}, None),
        ({"Plugins": ["/srv/a", "/srv/b.so"]}, ["/srv/a", "/srv/b.so"]),
        ({"Plugins": []}, []),
        ({"Plugins": None}, []),
    ],
)
def test_what_the_pillar_says_of_plugins_holds(
    load_settings, options_file, pillar_files, config, expected
):
    settings, _ = load_settings({"plugins": [PLUGIN], "config": config})
    arguments = options_file.configuration(settings, {}, pillar_files["tables"]["DEMO_USERS"])
    merged = {layer["option"][0]: layer.get("value") for layer in arguments["layers"]}
    (path,) = arguments["plugins"]
    if expected is None:
        assert arguments["plugin_folder"] == settings["paths"]["plugins"]
        assert "Plugins" not in merged
    else:
        assert arguments["plugin_folder"] is None
        assert merged["Plugins"] == [*expected, path]
    none, _ = load_settings({"config": config})
    assert all(
        "insecure" not in str(layer) and HASH[7:] not in str(layer)
        for layer in options_file.configuration(none, {}, {})["layers"]
    )


def test_an_option_that_is_one_setting_takes_one_row(load_settings, options_file, monkeypatch):
    monkeypatch.setitem(options_file.PLAIN, "JobsHistorySize", ("start_timeout", 60))

    def layers(pillar):
        made = options_file.configuration(load_settings(pillar)[0], {}, {})["layers"]
        return [layer for layer in made if layer["option"] == ["JobsHistorySize"]]

    layer = {"option": ["JobsHistorySize"], "origin": "orthanc:start_timeout"}
    assert layers({"start_timeout": 70}) == [{**layer, "value": 70}]
    # Asked for, Orthanc's own default is written; otherwise it is left to Orthanc.
    assert layers({"start_timeout": 60}) == [{**layer, "value": 60}]
    assert layers({}) == []
    monkeypatch.setitem(options_file.PLAIN, "JobsHistorySize", ("start_timeout", None))
    assert layers({}) == [{**layer, "value": 60, "default": True}]


@pytest.mark.parametrize(
    ("pillar", "key"),
    [
        ({}, "orthanc:postgresql:enabled"),
        ({"postgresql": {"enabled": True}}, "orthanc:postgresql:enabled"),
        ({"config": {"PostgreSQL": {"Host": "db"}}}, "orthanc:config:PostgreSQL:EnableIndex"),
        (
            {"postgresql": {"enabled": True}, "config": {"PostgreSQL": {"EnableIndex": False}}},
            "orthanc:config:PostgreSQL:EnableIndex",
        ),
        (
            {"postgresql": {"enabled": True}, "config": {"PostgreSQL": {"Lock": False}}},
            "orthanc:postgresql:enabled",
        ),
    ],
)
def test_where_it_is_said_that_the_index_is_in_a_database(load_settings, options_file, pillar, key):
    """Also where it is not: images would be left behind in one."""
    made = options_file.configuration(load_settings(pillar)[0], {}, {})
    resolved = orthanc_pillar._resolve(made["layers"], {"orthanc": pillar})
    _, origins = orthanc_layers.merge(resolved)
    assert orthanc_layers.key_of(["PostgreSQL", "EnableIndex"], origins) == key


def test_a_wrong_list_of_plugins_is_refused_as_it_stands(problems_of):
    for wrong in ("/srv", 1, {"a": 1}, [1]):
        (problem,) = problems_of({"plugins": [PLUGIN], "config": {"Plugins": wrong}})
        assert problem.startswith("orthanc:config:Plugins")


@pytest.mark.parametrize(
    ("pillar", "path"),
    [
        ({}, "/var/lib/orthanc/.ssh/id_ed25519"),
        ({"paths": {"home": "/srv//home/"}}, "/srv/home/.ssh/id_ed25519"),
        ({"backup_key": {"dir": "/srv/keys/"}}, "/srv/keys/id_ed25519"),
        ({"backup_key": {"path": "/srv/keys/pacs"}}, "/srv/keys/pacs"),
        ({"backup_key": {"dir": "/srv/keys", "path": "/srv//keys/pacs"}}, "/srv/keys/pacs"),
    ],
)
def test_where_the_backup_key_is(load_settings, pillar, path):
    settings, problems = load_settings(pillar)
    assert problems == []
    assert settings["backup_key"]["path"] == path
    assert settings["backup_key"]["dir"] == path.rpartition("/")[0]


def test_demo_users_are_warned_about_where_others_reach_them(load_settings):
    users = {"anna": ADMIN}
    for remote in (True, False):
        pillar = {"remote_access": remote, "users": users, "demo_users": True}
        settings, problems = load_settings(pillar)
        assert problems == []
        assert [line.startswith("orthanc:demo_users: ") for line in settings["warnings"]] == (
            [True] if remote else []
        )


@pytest.mark.parametrize(
    ("retention", "backup", "words"),
    [
        ({"dry_run": False}, BACKUP, ["orthanc:backup:drill"]),
        ({"dry_run": False}, {**BACKUP, "drill": "weekly"}, []),
        ({"dry_run": False, "unproven": True}, BACKUP, []),
        ({}, BACKUP, []),
    ],
)
def test_a_retention_that_would_wait_for_a_drill_is_warned_about(
    load_settings, retention, backup, words
):
    settings, problems = load_settings(
        {"retention": {"rules": [RULE], **retention}, "backup": backup}
    )
    assert problems == []
    assert len(settings["warnings"]) == len(words)
    assert all(word in line for word, line in zip(words, settings["warnings"]))


def test_pages_that_others_can_change_on_their_way_are_warned_about(load_settings):
    local = ["http://localhost", "http://127.0.0.1:3000", "http://[::1]:3000"]
    open_ones = ["http://viewer", "http://localhost.example.org", "http://viewer:3000"]
    https = {**HTTPS, "cors": [*local, "https://viewer", *open_ones]}
    settings, problems = load_settings({"https": https})
    assert problems == []
    warned = [line.split(": ")[0] for line in settings["warnings"]]
    assert warned == [f"orthanc:https:cors:{number}" for number in (4, 5, 6)]


@pytest.mark.parametrize(
    ("config", "section", "words"),
    [
        ({}, {"Enable": False}, "orthanc:packages: orthanc-gdcm is installed, and switched off"),
        ({"Gdcm": {"Enable": False}}, None, ""),
        ({"Gdcm": {"Enable": True}}, None, "orthanc:config:Gdcm: one request"),
        ({"Gdcm": {"Throttling": 2}}, None, "orthanc:config:Gdcm: one request"),
        ({"Gdcm": None}, None, "orthanc:config:Gdcm: one request"),
    ],
)
def test_gdcm_is_off_unless_somebody_wants_it(load_settings, options_file, config, section, words):
    pillar = {"packages": ["orthanc", "orthanc-gdcm"], "config": config}
    settings, problems = load_settings(pillar)
    assert problems == []
    assert [line[: len(words)] for line in settings["warnings"]] == [words] * bool(words)
    jpeg_2000 = [f"1.2.840.10008.1.2.4.{number}" for number in (90, 91, 92, 93)]
    rows = {
        layer["option"][1]: layer["value"]
        for layer in options_file.definitions(settings, {})
        if layer["option"][0] == "Gdcm" and len(layer["option"]) > 1
    }
    assert rows == (section or {"RestrictTransferSyntaxes": jpeg_2000})
    without, _ = load_settings({"config": config})
    assert without["warnings"] == []
    assert "Gdcm" not in [layer["option"][0] for layer in options_file.definitions(without, {})]


def test_a_user_may_have_no_rights_at_all(problems_of):
    assert problems_of({"users": {"x": {"password": "x", "rules": []}}}) == []


def test_folders_that_are_closed(load_settings, options_file):
    settings, _ = load_settings({"paths": {"index": "/srv/index", "config": "/srv/etc"}})
    closed = options_file.folders(settings)
    assert closed["orthanc:paths:index"] == "/srv/index"
    assert closed["orthanc:paths:config"] == "/srv/etc"
    assert len(closed) == 4
    # Each once, and not what the package itself closes.
    assert len(options_file.folders(load_settings({})[0])) == 2


@pytest.mark.parametrize(
    ("repository", "over_ssh"),
    [("sftp:me@far:x", True), ("sftp://me@far/x", True), ("/srv/x", False), ("rest:x", False)],
)
def test_a_backup_over_ssh_brings_a_client_of_ssh(load_settings, repository, over_ssh):
    """Also without a key of the formula's, where that of root does."""
    system = load_settings({"backup": {"repository": repository}})[0]["system"]
    assert system["backup"]["packages"] == ["restic", *[system["ssh_client"]] * over_ssh]
