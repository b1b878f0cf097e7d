"""Every SLS compiles for every OS family and pillar case, to states that exist and in order."""

import functools
import importlib
import inspect
import json
import pathlib
import re

import pytest
import salt.utils.templates
import yaml
from salt.exceptions import CommandExecutionError

FORMULA = pathlib.Path(__file__).resolve().parents[2]
ALL_SLS = sorted(
    ".".join(path.relative_to(FORMULA).with_suffix("").parts).replace(".init", "")
    for path in (FORMULA / "orthanc").rglob("*.sls")
    # That is for the master.
    if path.stem != "rolling"
)
FULL = {
    "access_log": True,
    "version": "1.12.7",
    "packages": ["orthanc", "orthanc-gdcm"],
    "port": 8050,
    "remote_access": True,
    "overwrite_instances": True,
    "limit_find": 0,
    "deidentify_logs": "2021b",
    "dicom": {"enabled": True, "aet": "WARD", "port": 104},
    "users": {
        "anna": {"password": "Geheim", "role": "admin"},
        "bot": {"password": "Geheim", "rules": [{"methods": ["GET"], "paths": ["/system"]}]},
    },
    "demo_users": False,
    "modalities": {"ct": {"AET": "CT", "Host": "10.0.0.1", "Port": 104, "AllowStore": True}},
    "peers": {"x": {"Url": "http://10.0.0.2/", "Username": "x", "Password": "Geheim"}},
    "links": {"dir": "/srv/links", "data": {"name": "images"}},
    "paths": {"storage": "/srv/images", "index": "/srv/index"},
    "start_timeout": 90,
    "plugins": [
        {"source": "https://192.0.2.1/libOne.so", "source_hash": "sha256=" + 64 * "A"},
        {"source": "salt://two-1.0", "insecure": True, "name": "libTwo.so"},
    ],
    "backup_key": {"enabled": True},
    "backup": {"repository": "/srv/backup", "password": "Geheim", "limit_upload": 100},
    "retention": {"rules": [{"older_than": "10 years", "by": "study_date"}], "dry_run": False},
    "monitoring": {"enabled": True},
    "config": {"Name": "Ward 3", "LuaScripts": ["/srv/own.lua"], "DicomModalities": {"mr": []}},
}
DOWNLOADS = "/usr/local/lib/orthanc-plugins"
PEM = "-----BEGIN X-----\nGeheim\n-----END X-----\n"
ON_HOST = {"enabled": True, "certificate": "/srv/chain.pem", "key": "/srv/key.pem"}
HTTPS = {"users": FULL["users"], "remote_access": True, "https": ON_HOST}
DICOM_TLS = {**ON_HOST, "key": PEM, "trusted_certificates": "salt://ca.pem"}
# What may be a secret holds this word, at each place where one can stand.
SECRET = "Geheim"
SECRETS = {
    "users": {"anna": {"password": f"{SECRET} 1", "role": "admin"}},
    "peers": {
        "one": {"Url": f"https://x:{SECRET}@far/", "HttpHeaders": {"X-Token": SECRET}},
        "two": ["http://192.0.2.1/", "x", SECRET],
        5: {"Url": "http://192.0.2.1/", "Password": SECRET},
    },
    "modalities": {"ct": {"AET": "CT", "Host": "192.0.2.1", "Port": 104, "Own": SECRET}},
    "https": {"enabled": True, "certificate": PEM, "key": PEM},
    "dicom": {
        "enabled": True,
        "tls": {"enabled": True, "certificate": PEM, "key": PEM, "trusted_certificates": PEM},
    },
    "ca_source": PEM,
    "postgresql": {
        "enabled": True,
        "host": "db.example.org",
        "password": f"{SECRET}:/@%",
        "ca_source": PEM,
    },
    "plugins": [{"source": f"https://192.0.2.1/libX.so?token={SECRET}", "insecure": True}],
    "backup": {
        "repository": f"rest:https://x:{SECRET}@192.0.2.1/",
        "password": SECRET,
        "environment": {"AWS_ACCESS_KEY_ID": "pacs", "AWS_SECRET_ACCESS_KEY": SECRET},
    },
    "plugin_sections": ["Own"],
    "config": {
        "Own": {"deep": [[{"token": SECRET}], SECRET]},
        "DicomWeb": {"Servers": {"web": ["http://192.0.2.1/", "x", SECRET]}},
        "PostgreSQL": {"Own": SECRET},
        "MySQL": {"Password": SECRET},
        "Name": SECRET,
    },
}
PILLARS = {
    "routes": {"peers": FULL["peers"], "routes": {"ct": {"to": "x", "modality": ["CT"]}}},
    "empty": {},
    "secrets": SECRETS,
    "secrets for orthanc": {
        **SECRETS,
        "https": {**SECRETS["https"], "terminator": "orthanc"},
        "postgresql": {"enabled": True, "uri": f"postgresql://x:{SECRET}@192.0.2.1/images"},
    },
    "demo": {"demo_users": True},
    "full": FULL,
    "no links": {"links": {"enabled": False}},
    "moved": {"paths": {"config": "/srv/etc", "log": "/srv/log"}},
    "https": HTTPS,
    "https of the pillar": {"https": {"enabled": True, "certificate": PEM, "key": "salt://k.pem"}},
    "https for trying out": {"https": {"enabled": True, "self_signed": True}},
    "https by orthanc": {"https": {**ON_HOST, "terminator": "orthanc"}},
    "dicom tls": {"dicom": {"enabled": True, "tls": DICOM_TLS}},
    "own ca": {"ca_source": "salt://ca.pem", "peers": {"far": {"Url": "https://far/"}}},
    "local database": {"postgresql": {"enabled": True, "storage": True}},
    "remote database": {
        "postgresql": {
            "enabled": True,
            "host": "db.example.org",
            "password": "Geheim b:/@%",
            "ca_source": "salt://ca.pem",
        }
    },
    "cluster": {
        "users": FULL["users"],
        "remote_access": True,
        "https": {"enabled": True, "certificate": PEM, "key": PEM},
        "dicom": {"enabled": True, "check_modality_host": False},
        "postgresql": {"enabled": True, "host": "db.example.org"},
        "cluster": {"nodes": {"node-1": "192.0.2.11", "node-2": "2001:db8::2"}},
        "balancer": {"addresses": ["192.0.2.10"], "name": "pacs.example.org", "out": ["node-2"]},
    },
    "database by URI": {"postgresql": {"enabled": True, "uri": "postgresql:///images"}},
}
FAMILIES = ("Debian", "Suse")
# What is refused, on which host, and a word that is in each sentence.
REFUSED = {
    "unknown key": ({"prot": 1}, {}, "orthanc:prot"),
    "open server": ({"remote_access": True}, {"family": "Suse"}, "orthanc:remote_access"),
    "unknown system": ({}, {"family": "RedHat"}, "RedHat"),
    **{
        f"{case} without systemd on {family}": (
            PILLARS[case],
            {"init": "unknown", "family": family},
            "systemd",
        )
        for case in ("moved", "local database")
        for family in FAMILIES
    },
    "text": ("text", {}, "orthanc: "),
    "list": (["users"], {"init": "unknown"}, "orthanc: "),
    "no certificate": ({"https": {"enabled": True}}, {}, "orthanc:https:"),
    "half a pair": (
        {"https": {"enabled": True, "key": PEM, "terminator": "orthanc"}},
        {},
        "orthanc:https:certificate",
    ),
    "half of DICOM TLS": (
        {"dicom": {"tls": {"enabled": True, "key": PEM, "require_certificate": False}}},
        {},
        "orthanc:dicom:tls:certificate",
    ),
    "plugins": (
        {
            "plugins": [
                *({"insecure": True}, {"source": "/srv/", "insecure": True}),
                *2 * [{"source": "/srv/libX.so", "insecure": True}],
            ]
        },
        {},
        "orthanc:plugins",
    ),
    "users": (
        {"users": {"anna": {"password": "Geheim"}, "otto": {"role": "admin", "rules": []}}},
        {},
        "orthanc:users",
    ),
    "one user": ({"users": {"anna": "Geheim"}}, {}, "orthanc:users"),
    "no server": ({"packages": []}, {}, "orthanc:packages"),
    "one folder for all": (
        {"paths": dict.fromkeys(("config", "home", "storage", "index", "log"), "/srv/all")},
        {},
        "orthanc:paths:config",
    ),
    "place of the key": (
        {"backup_key": {"enabled": True, "dir": "/srv", "path": "/key"}},
        {},
        "orthanc:backup_key",
    ),
    "database elsewhere": (
        {"postgresql": {"enabled": True, "password": "Geheim", "host": []}, "config": []},
        {},
        "orthanc:",
    ),
}
# What a host cannot have where systemd does not run.
NEEDS_SYSTEMD = ("moved", "local database", "routes")
# Each case meets both families and both kinds of init; in turn, so do these each other.
PAIRS = (
    (("Debian", "systemd"), ("Suse", "unknown")),
    (("Suse", "systemd"), ("Debian", "unknown")),
)
HOSTS = [
    (case, family, "systemd" if case in NEEDS_SYSTEMD else init)
    for number, case in enumerate(PILLARS)
    for family, init in PAIRS[number % 2]
]
# What Salt itself adds to a state.
COMPILERS_OWN = {
    *("state", "fun", "name", "order", "require", "watch", "onchanges", "require_in", "prereq"),
    "aggregate",
}


@pytest.mark.parametrize(("case", "family", "init"), HOSTS)
def test_every_sls_gives_states_that_exist(compiled, state_module, case, family, init):
    # The first two include all others; each stands alone as well.
    names = ALL_SLS if case in ("full", "secrets") else ("orthanc", "orthanc.clean")
    for sls, low in compiled(names, PILLARS[case], family=family, init=init):
        assert SECRET not in str(low)
        assert not loose(low)
        assert sls != "orthanc" or not missing(low)
        assert [chunk["problems"] for chunk in low if chunk.get("problems")] == []
        for chunk in low:
            given = {name for name in chunk if not name.startswith("__")} - COMPILERS_OWN
            # An unknown argument aborts the whole run; unless, onlyif and creates cost 0.8 s.
            taken = arguments(chunk["state"], chunk["fun"], state_module)
            assert not given - taken, (sls, chunk)


@functools.lru_cache(None)
def arguments(state, function, state_module):
    """Return the names of the arguments that a state function takes."""
    if state.startswith("orthanc"):
        module = state_module(state)
    else:
        module = importlib.import_module(f"salt.states.{state}")
    return set(inspect.signature(getattr(module, function)).parameters)


@pytest.mark.parametrize("family", ["Debian", "Suse"])
def test_the_states_come_in_the_order_of_the_road(render, family):
    low = render("orthanc", FULL, family=family)
    # What has a prereq is run twice, the first time in test mode.
    ids = [chunk["__id__"] for chunk in low if not chunk.get("__prereq__")]
    road = [
        "orthanc-pillar",
        "orthanc-first-run",
        "orthanc-packages",
        "orthanc-packaged",
        "orthanc-plugin-libOne.so",
        "orthanc-access",
        "orthanc-access-content",
        "orthanc-config",
        "orthanc-serving",
        "orthanc-plugins-unused",
        "orthanc-backup-key",
        "orthanc-backup",
        "orthanc-retention",
        "orthanc-routes",
        "orthanc-monitoring",
    ]
    assert sorted(ids, key=ids.index) == ids
    assert [id for id in ids if id in road] == road
    assert len(ids) == len(set(ids))
    clean = [chunk["__id__"] for chunk in render("orthanc.clean", FULL, family=family)]
    assert clean.index("orthanc-stopped") < clean.index("orthanc-config")
    assert clean.index("orthanc-config") < clean.index("orthanc-plugins-unused")
    assert clean.index("orthanc-config") < clean.index("orthanc-packages")
    assert clean.index("orthanc-packages") < clean.index("orthanc-first-run")


@pytest.mark.parametrize("family", ["Debian", "Suse"])
@pytest.mark.parametrize(("case", "local"), [("local database", True), ("remote database", False)])
def test_the_database_comes_before_the_configuration(render, family, case, local):
    rendered = render("orthanc", PILLARS[case], family=family)
    low = {chunk["__id__"]: chunk for chunk in rendered}
    road = ["orthanc-pillar", "orthanc-database-packages", "orthanc-database-reached"]
    road += ["orthanc-packages", "orthanc-config", "orthanc-serving"]
    assert [id for id in low if id in road] == road
    assert "orthanc-postgresql" in low["orthanc-packages"]["pkgs"]
    assert low["orthanc-serving"]["server"]["postgresql"] is True
    needed = "postgresql.service" if local else "network-online.target"
    after = needed if local else f"{needed} postgresql.service"
    assert f"\nWants={needed}\nAfter={after}\n[Service]\n" in unit(rendered)
    assert ("orthanc-database" in low) is local
    cleaned = render("orthanc.clean", PILLARS[case], family=family)
    assert "orthanc-formula-postgresql-ca.pem" in chunk_of(cleaned, "orthanc-config")["files"]
    # Others may use what the database needs.
    noted = chunk_of(rendered, "orthanc-first-run")
    assert "orthanc-postgresql" in noted["packages"]
    assert "postgresql" in noted["others"]


def test_no_database_is_no_matter(render):
    low = render("orthanc", {})
    database = [chunk for chunk in low if "database" in chunk["__id__"]]
    assert [chunk["__id__"] for chunk in database] == [
        *("orthanc-database-packages", "orthanc-database-reached"),
    ]
    assert database[0]["pkgs"] == []
    assert "configuration" not in database[1]
    assert "PostgreSQL" not in options(low)
    assert "\nWants=" not in unit(low)


def test_who_asks_for_no_cluster_has_nothing_of_it(render):
    words = ("cluster", "balancer", "real_ip", "DatabaseServerIdentifier", "IndexConnectionsCount")
    for case in ("empty", "full", "https", "remote database"):
        low = str(render("orthanc", PILLARS[case]))
        assert not [word for word in words if word in low]
    (chunk,) = [c for c in render("orthanc.balancer", {}) if c["__id__"] == "orthanc-balancer"]
    assert chunk["balancer"]["ports"] == []
    assert not any({**chunk["balancer"]["texts"], **chunk["balancer"]["pems"]}.values())


@pytest.mark.parametrize("family", ["Debian", "Suse"])
def test_nodes_of_a_cluster_and_the_balancer(render, family):
    pillar = PILLARS["cluster"]
    low = render("orthanc", pillar, family=family)
    found = options(low, pillar)
    assert found["DatabaseServerIdentifier"]
    several = {key: found["PostgreSQL"][key] for key in ("Lock", "IndexConnectionsCount")}
    assert several == {"Lock": False, "IndexConnectionsCount": 1}
    ids = [chunk["__id__"] for chunk in low]
    assert ids.index("orthanc-storage") < ids.index("orthanc-cluster")
    assert ids.index("orthanc-cluster") < ids.index("orthanc-serving")
    site = chunk_of(low, "orthanc-serving")["proxy"]["text"]
    assert "set_real_ip_from 192.0.2.10;" in site
    low = render("orthanc.balancer", pillar, family=family)
    balancer = chunk_of(low, "orthanc-balancer")["balancer"]
    text = balancer["texts"][balancer["config"]]
    assert "server 192.0.2.11:8042 max_fails=2 fail_timeout=1s;" in text
    assert "server [2001:db8::2]:4242 max_fails=2 fail_timeout=1s down;" in text
    assert "proxy_ssl_name pacs.example.org;" in text
    assert balancer["ports"] == [8042, 4242]
    assert "Geheim" not in str(low)
    cleaned = chunk_of(render("orthanc.balancer.clean", pillar, family=family), "orthanc-balancer")
    assert not any({**cleaned["balancer"]["texts"], **cleaned["balancer"]["pems"]}.values())


def test_the_unit_waits_for_the_disks_of_all_that_orthanc_keeps(render):
    default = "/var/lib/orthanc /var/log/orthanc /var/lib/orthanc/db-v6"
    assert f"\nRequiresMountsFor={default}\n" in unit(render("orthanc", {}))
    pillar = {
        "paths": {"storage": '/srv/a "b" 100%', "index": "/srv/index", "log": "/srv/log"},
        "config": {"IndexDirectory": "/srv/\\other", "TemporaryDirectory": "/srv/tmp"},
    }
    moved = r'/var/lib/orthanc /srv/log "/srv/a \"b\" 100%%" "/srv/\\other" /srv/tmp'
    assert f"\nRequiresMountsFor={moved}\n" in unit(render("orthanc", pillar))
    # A relative one is below the folder of the configuration, and null is Orthanc's own default.
    pillar = {"config": {"StorageDirectory": "here", "IndexDirectory": None}}
    assert "\nRequiresMountsFor=/var/lib/orthanc /var/log/orthanc\n" in unit(
        render("orthanc", pillar)
    )
    assert "\nRequiresMountsFor=/var/lib/orthanc /var/lib/orthanc/OrthancStorage\n" in unit(
        render("orthanc", {}, family="Suse")
    )


def test_old_logs_are_removed_where_there_are_files_and_a_timer(render):
    (chunk,) = render("orthanc.logs", {"paths": {"log": "/srv/log"}, "log_keep": {"size": "2TB"}})[
        -1:
    ]
    service = chunk["files"]["/etc/systemd/system/orthanc-formula-logs.service"]
    program = "/usr/local/lib/orthanc-formula/log-keep.sh"
    assert f"\nExecStart=/bin/sh {program} /srv/log Orthanc.log 30 2000000000000\n" in service
    assert chunk["fun"] == "present"
    assert chunk["files"][program] == (FORMULA / "orthanc/log_keep.sh").read_text()
    for pillar, host in (
        ({"log_keep": {"enabled": False}}, {}),
        ({}, {"family": "Suse"}),
        ({}, {"init": "unknown"}),
    ):
        low = render("orthanc.logs", pillar, **host)
        assert chunk_of(low, "orthanc-log-keep")["fun"] == "absent"
    on_suse = render("orthanc.logs", {"paths": {"log": "/srv/log"}}, family="Suse")
    service = chunk_of(on_suse, "orthanc-log-keep")["files"][service_of(on_suse)]
    assert " orthanc.log 30 1000000000\n" in service
    # Where it is asked for and nothing comes of it, that is said.
    for host in ({"family": "Suse"}, {"init": "unknown"}):
        low = render("orthanc", {"log_keep": {"days": 3}}, **host)
        (warning,) = chunk_of(low, "orthanc-pillar")["warnings"]
        assert warning.startswith("orthanc:log_keep: ")


def service_of(low):
    """Return the path of the unit that removes old logs."""
    files = chunk_of(low, "orthanc-log-keep")["files"]
    return next(path for path in files if path.endswith(".service"))


def missing(low):
    """Return the states that docs/states.md lists and that are not there."""
    text = (FORMULA / "docs/states.md").read_text()
    listed = re.findall(r"(?m)^\| `(\w+): (orthanc-[\w-]+)` \|", text)
    assert ("orthanc", "orthanc-serving") in listed
    return set(listed) - {(chunk["state"], chunk["__id__"]) for chunk in low}


def loose(low):
    """Return the states that would run although orthanc-pillar failed."""
    pillar = chunk_of(low, "orthanc-pillar", "orthanc_conf")
    bound, left = [pillar], [chunk for chunk in low if chunk is not pillar]
    while True:
        found = [chunk for chunk in left if any(needs(chunk, other) for other in bound)]
        if not found:
            return left
        bound += found
        left = [chunk for chunk in left if chunk not in found]


def needs(chunk, other):
    """Return whether a state is run only if another one did not fail."""
    return any(
        {kind: name} in ({other["state"]: other["__id__"]}, {"sls": other["__sls__"]})
        for requisite in ("require", "watch", "onchanges", "prereq")
        for wanted in chunk.get(requisite, [])
        for kind, name in wanted.items()
    )


@pytest.mark.parametrize("case", REFUSED)
def test_with_a_refused_pillar_every_state_is_there_and_none_is_run(compiled, state_module, case):
    pillar, host, word = REFUSED[case]
    names = ALL_SLS if case == "text" else ("orthanc", "orthanc.clean")
    for sls, low in compiled(names, pillar, **host):
        chunk = chunk_of(low, "orthanc-pillar")
        assert (chunk["state"], chunk["fun"]) == ("orthanc_conf", "valid")
        assert SECRET not in str(low)
        assert chunk["problems"]
        assert all(word in problem for problem in chunk["problems"])
        assert not loose(low)
        assert sls != "orthanc" or not missing(low)
        for chunk in low:
            given = {name for name in chunk if not name.startswith("__")} - COMPILERS_OWN
            taken = arguments(chunk["state"], chunk["fun"], state_module)
            assert not given - taken, (sls, chunk)


def options(low, pillar=()):
    """Return the options that the layers of the low state give together with a pillar."""
    import orthanc_json
    import orthanc_layers
    import orthanc_pillar

    layers = orthanc_pillar._resolve(configuration(low)["layers"], {"orthanc": pillar})
    with pytest.MonkeyPatch.context() as patch:
        functions = {"orthanc_json.merge": orthanc_json.merge}
        patch.setattr(orthanc_layers, "__salt__", functions, raising=False)
        return orthanc_layers.merge(layers)[0]


def configuration(low):
    """Return the configuration that the low state manages."""
    return chunk_of(low, "orthanc-config")["configuration"]


def unit(low):
    """Return the drop-in of the unit."""
    texts = configuration(low)["texts"].items()
    return next(text for name, text in texts if name.endswith("/formula.conf"))


def test_settings_become_options_of_orthanc(render):
    assert options(render("orthanc.config", FULL), FULL) == {
        "AuthenticationEnabled": True,
        "DeidentifyLogs": True,
        "DeidentifyLogsDicomVersion": "2021b",
        "DicomAet": "WARD",
        "DicomCheckModalityHost": True,
        "DicomModalities": {**FULL["modalities"], "mr": []},
        "DicomPort": 104,
        "DicomServerEnabled": True,
        "ExecuteLuaEnabled": False,
        "Gdcm": {"Enable": False},
        "HttpPort": 8050,
        "HttpsCACertificates": "/etc/ssl/certs/ca-certificates.crt",
        "IndexDirectory": "/srv/index",
        "LimitFindInstances": 0,
        "LimitFindResults": 0,
        "LuaScripts": [
            "/srv/own.lua",
            "/etc/orthanc/orthanc-formula-users.lua",
            "/etc/orthanc/orthanc-formula-reserve.lua",
            "/etc/orthanc/orthanc-formula-access.lua",
        ],
        "Name": "Ward 3",
        "OrthancPeers": FULL["peers"],
        "OverwriteInstances": True,
        "RegisteredUsers": {"anna": "Geheim", "bot": "Geheim"},
        "RemoteAccessAllowed": True,
        "RestApiWriteToFileSystemEnabled": False,
        "StorageDirectory": "/srv/images",
        "WebDavEnabled": False,
    }


def chunk_of(low, id, state=None):
    """Return the one state of this ID, and of this module if one is given."""
    (chunk,) = (chunk for chunk in low if chunk["__id__"] == id and state in (None, chunk["state"]))
    return chunk


@pytest.mark.parametrize("family", ["Debian", "Suse"])
def test_nginx_is_there_before_orthanc_gives_up_its_port(render, family):
    low = render("orthanc.https", HTTPS, family=family)
    ids = {chunk["__id__"] for chunk in low}
    assert ids == {chunk["__id__"] for chunk in render("orthanc.service", HTTPS, family=family)}
    assert ("orthanc-nginx-default" in ids) is (family == "Debian")
    assert chunk_of(low, "orthanc-nginx")["pkgs"] == ["nginx"]
    for state, before in (
        ("orthanc-nginx", {"orthanc_first_run": "orthanc-first-run"}),
        ("orthanc-nginx-running", {"pkg": "orthanc-nginx"}),
        ("orthanc-nginx-tried", {"service": "orthanc-nginx-running"}),
    ):
        assert before in chunk_of(low, state)["require"]
    # Salt 3006 has turned it round by now.
    config = {"orthanc_conf": "orthanc-config"}
    if config not in chunk_of(low, "orthanc-nginx-tried").get("require_in", []):
        tried = {"orthanc_nginx": "orthanc-nginx-tried"}
        assert tried in chunk_of(low, "orthanc-config")["require"]


def test_the_site_has_the_headers_that_the_pillar_asks_for_and_no_other(render):
    def site(**more):
        low = render("orthanc.https", {"https": {**HTTPS["https"], **more}})
        return chunk_of(low, "orthanc-nginx-tried")["proxy"]["text"]

    plain = site()
    assert not re.findall("add_header|hide_header|http_origin|Access-Control|if ", plain)
    with_header = site(headers={"X-Frame-Options": "DENY"})
    added = {line.strip() for line in with_header.splitlines()} - set(
        map(str.strip, plain.splitlines())
    )
    assert added == {
        'add_header X-Frame-Options "DENY" always;',
        "proxy_hide_header X-Frame-Options;",
    }
    with_cors = site(cors=["https://a.example", "https://[2001:db8::7]:3000"])
    assert r'"~^https://a\.example$" $http_origin;' in with_cors
    assert r'"~^https://\[2001:db8::7\]:3000$" $http_origin;' in with_cors
    # Where a location had one of its own, these would be none of its.
    location = with_cors[with_cors.index("location / {") :]
    assert not re.findall("add_header|hide_header", location)


@pytest.mark.parametrize("https", [{}, {"enabled": False}, {**ON_HOST, "terminator": "orthanc"}])
def test_without_nginx_there_is_no_site(render, https):
    low = render("orthanc", {"https": https})
    nginx = [chunk["__id__"] for chunk in low if "nginx" in chunk["__id__"]]
    assert nginx == ["orthanc-nginx", "orthanc-nginx-tried"]
    assert chunk_of(low, "orthanc-nginx")["pkgs"] == []
    proxy = chunk_of(low, "orthanc-serving")["proxy"]
    assert (proxy["text"], proxy["certificate"]) == (None, None)


def test_behind_nginx_orthanc_answers_on_this_host_only(render):
    low = render("orthanc", HTTPS)
    result = options(low, HTTPS)
    assert result["HttpPort"] == 18042
    assert result["RemoteAccessAllowed"] is False
    assert result["HttpBindAddresses"] == ["127.0.0.1"]
    assert result["AuthenticationEnabled"] is True
    assert "SslEnabled" not in result
    text = chunk_of(low, "orthanc-serving")["proxy"]["text"]
    assert "\n    listen 8042 ssl;\n" in text
    assert text.count("    server 127.0.0.1:18042;") == 2
    assert 'ssl_certificate "/srv/chain.pem";' in text
    assert 'ssl_certificate_key "/srv/key.pem";' in text
    assert chunk_of(low, "orthanc-serving")["proxy"]["certificate"] is None
    certificates = chunk_of(low, "orthanc-pillar")["configuration"]["certificates"]
    assert certificates == {
        "orthanc:https": {name: ON_HOST[name] for name in ("certificate", "key")}
    }
    local = render("orthanc", {**HTTPS, "remote_access": False})
    assert "listen 127.0.0.1:8042 ssl;" in chunk_of(local, "orthanc-serving")["proxy"]["text"]


@pytest.mark.parametrize("case", ["https of the pillar", "https for trying out"])
def test_what_does_not_lie_on_the_host_gets_a_file_for_nginx(render, case):
    low = render("orthanc", PILLARS[case])
    proxy = chunk_of(low, "orthanc-serving")["proxy"]
    assert 'ssl_certificate "/etc/nginx/orthanc-formula.pem";' in proxy["text"]
    assert "Geheim" not in proxy["text"]
    judged = chunk_of(low, "orthanc-pillar")["configuration"]["certificates"]
    if case == "https for trying out":
        assert proxy["certificate"]["names"]
        assert judged == {}
    else:
        # What is a text in the pillar is looked up there.
        text = {"__pillar__": ["orthanc", "https", "certificate"]}
        assert judged["orthanc:https"] == {"certificate": text, "key": "salt://k.pem"}
        assert proxy["certificate"] == {**judged["orthanc:https"], "saltenv": "base"}


def test_what_orthanc_itself_reads_lies_in_its_folder(render):
    low = render("orthanc", {**PILLARS["https by orthanc"], **PILLARS["dicom tls"]})
    result = options(low)
    folder = "/etc/orthanc/orthanc-formula-"
    assert result["SslEnabled"] is True
    assert result["SslCertificate"] == f"{folder}https.pem"
    assert result["DicomTlsCertificate"] == f"{folder}dicom-tls.pem"
    assert result["DicomTlsPrivateKey"] == f"{folder}dicom-tls.pem"
    assert result["DicomTlsTrustedCertificates"] == f"{folder}dicom-tls-trusted.pem"
    assert result["DicomTlsRemoteCertificateRequired"] is True
    pems = configuration(low)["pems"]
    assert {name for name, pem in pems.items() if pem} == {
        "orthanc-formula-https.pem",
        "orthanc-formula-dicom-tls.pem",
        "orthanc-formula-dicom-tls-trusted.pem",
    }
    plain = render("orthanc", {})
    assert not any(configuration(plain)["pems"].values())
    assert not [name for name in options(plain) if "Tls" in name or "Ssl" in name]


def test_the_host_looks_up_what_the_pillar_holds(render, loaders):
    """Also over salt-ssh, where pillar and states go over as JSON and 5 becomes "5"."""
    import orthanc_pillar

    low = render("orthanc.config", SECRETS)
    for again in (lambda value: value, lambda value: json.loads(json.dumps(value))):
        result = options(again(low), again(SECRETS))
        assert result["OrthancPeers"] == again(SECRETS["peers"])
        assert result["DicomModalities"] == SECRETS["modalities"]
        assert result["RegisteredUsers"] == {"anna": "Geheim 1"}
        assert result["Own"] == SECRETS["config"]["Own"]
        uri = "postgresql://orthanc:Geheim%3A%2F%40%25@db.example.org/orthanc?sslmode=verify-full"
        assert result["PostgreSQL"]["ConnectionUri"].startswith(uri)
        assert result["PostgreSQL"]["Own"] == "Geheim"
    found = orthanc_pillar._resolve(configuration(low), {"orthanc": SECRETS})
    assert found["certificates"]["orthanc:dicom:tls"] == {
        name: PEM for name in ("certificate", "key", "trusted_certificates")
    }
    assert found["pems"]["orthanc-formula-ca.pem"]["trusted_certificates"] == PEM
    proxy = chunk_of(render("orthanc", SECRETS), "orthanc-serving")["proxy"]
    # As Salt loads it, from the pillar that is there now.
    resolved = loaders.modules.orthanc_pillar.resolve(proxy, {})["certificate"]
    assert resolved == {"certificate": PEM, "key": PEM, "saltenv": "base"}
    plugin = chunk_of(render("orthanc.plugins", SECRETS), "orthanc-plugin-libX.so")
    source = loaders.modules.orthanc_pillar.resolve(plugin["source"], {})
    assert source == SECRETS["plugins"][0]["source"]


def test_the_two_os_families_differ_in_paths_only(render):
    debian, suse = (
        options(render("orthanc.config", FULL, family=family), FULL) for family in FAMILIES
    )
    assert set(debian) == set(suse)
    assert {name for name in debian if debian[name] != suse[name]} == {"HttpsCACertificates"}


def test_the_pillars_config_is_the_last_layer(render):
    pillar = {"config": {"HttpPort": 1, "WebDavEnabled": True, "ExecuteLuaEnabled": None}}
    result = options(render("orthanc.config", pillar), pillar)
    assert (result["HttpPort"], result["WebDavEnabled"]) == (1, True)
    assert "ExecuteLuaEnabled" not in result


def test_a_run_makes_settings_and_options_once(render, monkeypatch):
    loaded = []

    def counted(path, *arguments, **given):
        loaded.append(pathlib.Path(path).name)
        return salt_loads(path, *arguments, **given)

    salt_loads = salt.utils.templates.py
    monkeypatch.setattr(salt.utils.templates, "py", counted)
    for number in (1, 2):
        render("orthanc", PILLARS["https"])
        assert [loaded.count(name) for name in ("map.py", "options.py")] == [number, number]
    assert loaded.count("part.py") > 2 * loaded.count("map.py")


def test_the_example_pillar_holds_every_key_and_every_default(load_pillar, pillar_files):
    text = (FORMULA / "pillar.example").read_text()
    read = yaml.safe_load
    defaults = read((FORMULA / "orthanc/defaults.yaml").read_text())
    for family in ("Debian", "Suse"):
        osmap = read((FORMULA / f"orthanc/osfamily/{family}.yaml").read_text())
        example, empty = (
            load_pillar(pillar, osmap, defaults) for pillar in (read(text)["orthanc"], {})
        )
        assert example[0].pop("asked") and empty[0].pop("asked") == []
        assert example == empty

    # With all that is commented out. Of two examples for one key, the last one counts.
    whole = re.sub(r"(?m)^( *)# ( *(?:- )?[\w.-]+:(?: .*)?)$", r"\1\2", text)
    tables, resolved = pillar_files["tables"], pillar_files["shapes"]["resolved"]

    def words(shape):
        return resolved(shape, tables["KINDS"])

    assert not_in(tables["SHAPE"], [read(whole)["orthanc"]], words) == []


def not_in(shape, examples, words, path="orthanc"):
    """Return the keys of a shape of which there is no example."""
    said = words(shape)
    # What Orthanc is told as it stands is no key of the pillar.
    if said.get("type") == "any" or path == "orthanc:config":
        return []
    if "items" in said:
        return not_in(said["items"], [i for example in examples for i in example], words, path)
    lacking = []
    keys = dict(said.get("keys", {}))
    if "each" in said:
        keys[None] = said["each"]
    for key, below in keys.items():
        named = isinstance(key, str)
        found = [
            item
            for example in examples
            for name, item in example.items()
            if name == key or not named
        ]
        lacking += not_in(below, found, words, f"{path}:{key}") if found else [f"{path}:{key}"]
    return lacking


def test_what_people_call_takes_the_environment_of_the_pillar(render, loaders):
    render("orthanc", {"backup_key": {"enabled": False}})
    tree = pathlib.Path(loaders.opts["pillar_roots"]["prod"][0])
    (tree / "top.sls").write_text("prod: {'*': [orthanc]}")
    wrong = {"prot": 1, "backup_key": {"enabled": True, "remote_user": "night"}}
    wrong["config"] = {"HttpTimeout": "soon"}
    (tree / "orthanc.sls").write_text(yaml.safe_dump({"orthanc": wrong}))
    validate = loaders.modules.orthanc_conf.validate
    backup_key = loaders.modules.orthanc.backup_key
    try:
        assert not [text for text in validate(pillarenv="base")["problems"] if ":prot" in text]
        assert [text for text in validate(pillarenv="prod")["problems"] if ":prot" in text]
        # What states look up on the host is of the same pillar.
        assert [text for text in validate(pillarenv="prod")["problems"] if "HttpTimeout" in text]
        for env in ("prod", "base"):
            states = loaders.modules.state.sls("orthanc.validation", pillarenv=env)
            (comment,) = (state["comment"] for state in states.raw.values())
            assert ("HttpTimeout: must be" in comment) is (env == "prod")
            assert "of this run" not in comment
        with pytest.raises(CommandExecutionError, match="enabled is not true"):
            backup_key(pillarenv="base")
        with pytest.raises(CommandExecutionError, match=r"apply orthanc\.backup_key first"):
            backup_key(pillarenv="prod")
    finally:
        (tree / "top.sls").unlink()
