"""No secret of the pillar is in what Salt prints, logs or keeps: each way, each version, right or
wrong. Salt's own copies of the pillar, and of files that it serves, are what they are.

Each secret is a number of 18 digits, so that it is found in whatever it is wrapped in.
"""

from __future__ import annotations

import json
import random

import pki
import pytest
from minion import Run
from ways import NEWEST, OLDEST, SALT_VERSIONS, WAYS, Master, SaltSsh

# salt-ssh leaves a folder on the host that it configures.
SALTS_LOGS = "/var/log/salt /var/tmp/.*_salt/running_data/var/log"
# What Salt keeps of jobs and states, on the master, the minion and the host of salt-ssh.
CACHES = (
    "/var/cache/salt/master/jobs /var/cache/salt/minion"
    " /var/tmp/.*_salt/running_data/var/cache/salt/minion"
)
SHOW = ("show_sls orthanc", "show_low_sls orthanc", "show_highstate", "show_lowstate")
HIDDEN = {"old": "(hidden)", "new": "(hidden)"}
# A script that stops Orthanc, with two passwords and a URL in the lines of its errors.
SCRIPT = """\
local all = GetOrthancConfiguration()
print(all["RegisteredUsers"]["anna"])
local peer = all["OrthancPeers"]["archive"]
error("no " .. peer["Url"] .. " for " .. peer["Password"] .. all["RegisteredUsers"]["anna"])
"""


# A key that Salt brings, and one of the pillar; a line of each is a secret.
BROUGHT, GIVEN = pki.make("dicom"), {"first": pki.make("first"), "second": pki.make("second")}
# What is on the host for Orthanc and nginx only.
FILES = "cat /etc/orthanc/*.json /etc/orthanc/*.pem /etc/nginx/orthanc-formula.pem"


class Secrets(dict):
    """Secrets by what they are; one that is asked for the first time is made up."""

    def __missing__(self, what: str) -> str:
        self[what] = str(random.randrange(10**17, 10**18))
        return self[what]


@pytest.fixture
def secrets():
    return Secrets()


# What lies between the oldest and the newest is asked without a master only, as elsewhere. What
# people ask, and what does not depend on Salt, is shown by the newest.
CASES = [
    *((way, salt) for way in WAYS for salt in (OLDEST, NEWEST)),
    *(("masterless", salt) for salt in SALT_VERSIONS[1:-1]),
]


@pytest.fixture(params=CASES, ids="-".join)
def site(request):
    way, salt = request.param
    with WAYS[way]("bookworm", salt) as site:
        site.leader.write("/srv/salt/tls/dicom.key", BROUGHT.key)
        yield site, salt == NEWEST


def try_and_do(site, marker: str, tried_out: str = "json") -> Run:
    """
    Apply the formula with test=True and for real, one of it with JSON and one with the default
    output. Neither may lack the marker; both fail or none. Returns the Run with JSON.
    """
    if tried_out == "json":
        run, failed = site.state(test=True), site.state(out="default")
    else:
        failed, run = site.state(test=True, out="default"), site.state()
    assert bool(failed) == bool(run.failed), str(run)
    outputs = [text for name, text in site.shown.items() if "stdout" in name][-2:]
    assert all(marker in text for text in outputs), outputs
    return run


def look_into(site, folders: str, marker: str = ""):
    """Keep what is in the files of both hosts, but for Salt's copies of those that it serves. The
    marker is in them.
    """
    number = len(site.shown)
    find = f"find {folders} -type f -not -path '*/minion/files/*' -exec cat -v {{}} + 2>/dev/null"
    for host in {site.leader, site.target}:
        site.shown[f"{number} {folders} on {host.name}"] = host.run(find, check=False).out
        journal = host.run("journalctl --no-pager", check=False).out
        site.shown[f"{number} the journal of {host.name}"] = journal
    assert marker in "".join(text for name, text in site.shown.items() if folders in name)


def right(secrets, which):
    """Return a sound pillar with a secret in every place that has one."""

    def secret(what):
        return secrets[f"{which} {what}"]

    key = GIVEN[which].key
    secrets[f"{which} key of HTTPS"] = key.splitlines()[2]
    secrets["key of DICOM TLS"] = BROUGHT.key.splitlines()[2]
    if which == "first":
        database = {"Password": secret("password of PostgreSQL")}
    else:
        database = {"ConnectionUri": f"postgresql://pacs:{secret('URI of PostgreSQL')}@10.0.0.9/db"}
    own = {"Deep": [{"token": secret("unknown section")}, int(secret("unknown number"))]}
    return {
        "packages": ["orthanc", "orthanc-dicomweb", "orthanc-postgresql"],
        "https": {"enabled": True, "certificate": GIVEN[which].pem, "key": key},
        "dicom": {
            "enabled": True,
            "tls": {
                "enabled": True,
                "certificate": BROUGHT.pem,
                "key": "salt://tls/dicom.key",
                "require_certificate": False,
            },
        },
        # As from `password: |` in YAML.
        "users": {"anna": {"password": secret("password of a user") + "\n", "role": "admin"}},
        "peers": {
            "archive": {
                "Url": f"http://ward:{secret('URL of a peer')}@10.0.0.9/",
                "Username": "ward",
                "Password": secret("password of a peer"),
                "HttpHeaders": {"X-Key": secret("header for a peer")},
            },
            "mirror": ["http://10.0.0.8/", "ward", secret("password of a peer in a list")],
        },
        "plugin_sections": ["Own"],
        "config": {
            "Name": f"Ward {which}",
            "Own": own,
            "PostgreSQL": {"EnableIndex": False, **database},
            "DicomWeb": {
                "Servers": {"web": ["http://10.0.0.7/", "x", secret("password of DICOMweb")]}
            },
        },
    }


def wrong_in_shape(secrets):
    """Return a pillar with mistakes at its secrets, and the paths that have to be named."""
    pem = "-----BEGIN {0} KEY-----\n{1}\n-----END {0} KEY-----\n".format
    pillar = {
        "users": {
            "anna": {"password": int(secrets["number as password"]), "role": "admin"},
            "berta": {"Pasword": secrets["password of a mistyped key"], "role": "admin"},
            "carl": secrets["user that is a text"],
            "dora": [secrets["user that is a list"]],
            "emil": {"password": [secrets["password that is a list"]], "role": "admin"},
        },
        "peers": {
            "one": f"http://x:{secrets['peer that is a text']}@10.0.0.9/",
            "two": {"Url": "http://10.0.0.9/", "Pasword": secrets["mistyped key of a peer"]},
            "three": ["http://10.0.0.9/", secrets["peer that is too short"]],
            "four": {"Url": f"ftp://x:{secrets['wrong URL of a peer']}@10.0.0.9/"},
            "five": {"Url": "http://10.0.0.9/", "Password": secrets["${ in a peer"] + "${HOME}"},
        },
        "https": {"enabled": True, "key": secrets["key without its frame"]},
        "postgres_uri": f"postgresql://x:{secrets['unknown setting']}@10.0.0.9/",
        "postgresql": {
            "host": f"x:{secrets['password at the host of a database']}@10.0.0.9",
            "password": int(secrets["number as password of a database"]),
            "uri": f"x:{secrets['URI without a scheme']}@10.0.0.9/",
        },
        "config": {
            "DicomTlsPrivateKey": pem("PRIVATE", secrets["private key as a text"]),
            "DicomTlsCertificate": pem("RSA PRIVATE", secrets["private key as a certificate"]),
            "AdminPasswort": secrets["unknown option"],
            "PostgreSQL": {
                "EnableIndex": False,
                "Port": f"postgresql://x:{secrets['URI as a port']}@10.0.0.9/db",
                "Password": int(secrets["number as password of PostgreSQL"]),
                "Pasword": secrets["mistyped key of PostgreSQL"],
                "ConnectionUri": [f"postgresql://x:{secrets['URI in a list']}@10.0.0.9/db"],
            },
            "DicomWeb": {
                "Servers": {"web": ["http://10.0.0.7/", "x", int(secrets["number in DICOMweb"])]}
            },
        },
    }
    return pillar, [
        *(f"orthanc:users:{name}" for name in ("anna", "berta", "carl", "dora", "emil")),
        *(f"orthanc:peers:{name}" for name in ("one", "two", "three", "four", "five")),
        *(f"orthanc:postgresql:{key}" for key in ("host", "password", "uri")),
        "orthanc:https:key",
        *("orthanc:postgres_uri", "orthanc:config:DicomTlsPrivateKey"),
        *("orthanc:config:DicomTlsCertificate", "orthanc:config:AdminPasswort"),
        *(
            f"orthanc:config:PostgreSQL:{key}"
            for key in ("Port", "Password", "Pasword", "ConnectionUri")
        ),
        "orthanc:config:DicomWeb:Servers:web",
    ]


def wrong_in_sense(secrets):
    """Return another one, of which the shape is right."""
    pillar = {
        "https": {"enabled": True, "certificate": GIVEN["first"].pem, "key": GIVEN["second"].key},
        "users": {"anna": {"password": secrets["password with ${"] + "${HOME}", "role": "admin"}},
        "plugins": [
            {"source": f"http://192.0.2.1/x.so?t={secrets['token of a URL']}", "insecure": True}
        ],
        "config": {"RegisteredUsers": {"berta": secrets["user in config"]}},
        "postgresql": {
            "enabled": True,
            "uri": f"postgresql://x:y@{secrets['@ in the password of a URI']}@10.0.0.9/db",
        },
    }
    return pillar, [
        *("orthanc:users:anna:password", "orthanc:config:RegisteredUsers", "orthanc:https:key"),
        "orthanc:postgresql:uri",
    ]


def leaks(secrets, shown):
    """Return a sentence for each secret in each text, with the line that it is in."""
    return [
        f"{what} is in {name}:\n    {line[:500]}"
        for name, text in shown.items()
        for line in text.splitlines()
        for what, secret in secrets.items()
        if secret in line
    ]


# What people ask, and what is to be shown of it.
ASKED = {"orthanc.access": "anna", "orthanc.peers": "mirror"}


def look_at_it(site):
    """As people do, in each way."""
    assert site.returned("orthanc_conf.effective")["Name"] == "Ward second"
    assert all(word in str(site.returned(asked)) for asked, word in ASKED.items())
    points = site.returned("orthanc.security")
    assert {"roles", "known passwords", "hardening", "account orthanc"} <= points["pass"].keys()
    assert site.returned("orthanc_conf.options HttpPort")["HttpPort"]["default"] == 8042
    if not isinstance(site, SaltSsh):
        nothing = {"gone": [], "options": {}, "other files": []}
        assert site.returned("orthanc_conf.diff") == nothing


def refuse_what_is_wrong(site, secrets, newest):
    """The paths of all mistakes are named."""
    for (pillar, paths), out in ((wrong_in_shape(secrets), "json"), (wrong_in_sense(secrets), "")):
        site.pillar(**pillar)
        if newest:
            comment = try_and_do(site, paths[0], tried_out=out).failed["orthanc-pillar"]
        else:
            comment = site.state().failed["orthanc-pillar"]
        assert [path for path in paths if path not in comment] == []
        if newest:
            site.salt("state.show_low_sls orthanc")
        if newest and not isinstance(site, SaltSsh):
            found = str(site.returned("orthanc_conf.validate")["problems"])
            assert [path for path in paths if path not in found] == []


def test_no_secret_is_shown(site, secrets):
    site, newest = site
    site.pillar(**right(secrets, "first"))
    assert not (try_and_do(site, "Ward first") if newest else site.state()).failed
    written = site.target.run(FILES).out
    assert not [what for what, secret in secrets.items() if secret not in written]

    site.pillar(**right(secrets, "second"))
    run = try_and_do(site, "Ward second", tried_out="default")
    assert not run.failed, str(run)
    # A key that a master serves can be read by all of its minions.
    warning = "every minion of this master can read salt://tls/dicom.key"
    assert (warning in str(run.states)) is isinstance(site, Master)
    changed = run.changes["orthanc-config"]["/etc/orthanc/credentials.json"]
    assert changed["RegisteredUsers:anna"] == HIDDEN
    assert changed["OrthancPeers:archive:Password"] == HIDDEN
    pem = run.changes["orthanc-serving"]["/etc/nginx/orthanc-formula.pem"]
    assert [pem[when].split(",")[0] for when in ("old", "new")] == ["CN=first", "CN=second"]
    # Nor does a copy of Salt's own tell others.
    found = "find / -xdev -name 'dicom.key*' -readable 2>/dev/null; true"
    if site.target is not site.leader:
        assert site.target.run(found, user="nobody").out == ""
    assert secrets["second password of a user"] in site.target.run(FILES).out
    for words in SHOW if newest else SHOW[:2]:
        assert "orthanc-serving" in site.salt(f"state.{words}").out
    if newest:
        look_at_it(site)
        # What the command line adds to the pillar is looked up as well.
        added = json.dumps({"orthanc": {"config": {"HttpTimeout": "soon"}}})
        judged = site.run(f"state.apply orthanc.validation pillar='{added}'")
        assert "HttpTimeout: must be a whole number" in judged.failed["orthanc-pillar"]

    refuse_what_is_wrong(site, secrets, newest)

    # What Orthanc itself says, at the trial start.
    settings = right(secrets, "second")
    site.target.write("/srv/wrong.lua", SCRIPT)
    site.pillar(**{**settings, "config": {**settings["config"], "LuaScripts": ["/srv/wrong.lua"]}})
    assert "Lua" in try_and_do(site, "does not start").failed["orthanc-config"]
    look_into(site, "/var/log/orthanc")

    # Behind the first @, the host begins for the library of PostgreSQL.
    uri = f"postgresql://pacs:x@{secrets['URI with @ in the password']}@127.0.0.1/db"
    settings["config"]["PostgreSQL"] = {"EnableIndex": True, "ConnectionUri": uri}
    site.pillar(**settings)
    assert "URL-encoded" in site.state().failed["orthanc-pillar"]

    # What the log says of a password with a blank in it, and without quotes.
    uri = f"host=127.0.0.1 password=x {secrets['keyword with a blank']}"
    settings["config"]["PostgreSQL"] = {"EnableIndex": True, "ConnectionUri": uri}
    site.pillar(**settings, start_timeout=2)
    assert 'missing "=" after "(hidden)"' in site.state().failed["orthanc-serving"]
    look_into(site, SALTS_LOGS, "[INFO")
    look_into(site, CACHES, "orthanc-config")
    assert "orthanc-config" in "".join(site.shown.values())
    assert len(secrets) > 20
    found = leaks(secrets, site.shown)
    assert not found, "\n".join(found)
