"""Secrets that are none."""

import base64

import orthanc_judge
import orthanc_layers
import orthanc_options
import orthanc_passwords
import pytest

PGP = "-----BEGIN PGP MESSAGE-----\n\nhQEMA5f2\n-----END PGP MESSAGE-----\n"
FAILED = [
    *("**********", "••••••••", "●●●●●●", PGP, "(hidden)", "REDACTED"),
    *("{{ pillar['x'] }}", "{{ salt['sdb.get']('sdb://x/y') }}\n", "{% if x %}y{% endif %}"),
    *("sdb://vault/orthanc?password", "vault:secret/data/orthanc#pw", "op://it/orthanc/password"),
    *("$ANSIBLE_VAULT;1.1;AES256\n6162", "ENC[AES256_GCM,data:x,iv:y]", "NACL[x]"),
]
FAILED_PASSWORDS = [
    *("None", "null", "undefined", "<no value>", "<password>", "<YOUR PASSWORD>", "__PASSWORD__"),
    *("CHANGEME", "change-me", "Change_Me!", "changeit", "your-password-here", "your password"),
    *("xxxxxxxx", "TODO", "$PASSWORD", "$(pass show orthanc)", "...", "[password]", "***"),
    *("a{{ x }}b", "enter password here", "@@PASSWORD@@"),
]
SOUND = [
    "a sentence of our own",
    "quotes \"double\" and 'single'",
    "#hash // no comment /* none */",
    "dollar $x $$ {b} %s",
    "p*ss**w0rd*1",
    "nonesuch place",
    "9f{%!x{{k",
    "xK7!changeMePlease2",
]
OWN = "a word of our own"


def judge(options, before=None, **configuration):
    """Return the paths that are refused, and those that are warned about."""
    wanted = {**orthanc_layers.defaults(), **configuration}
    case = orthanc_judge.Case("/x", wanted, {}, None, options, {}, before or {}, host=True)
    found = orthanc_judge._secrets(case)
    return tuple([":".join(path) for path, _ in pairs] for pairs in found)


def everywhere(secret):
    """Return options with one secret, and the place of it, for each place that has one."""
    server = {"Url": "http://192.0.2.1/", "Username": "x", "Password": secret}
    row = ["http://192.0.2.1/", "x", secret]
    return [
        ({"RegisteredUsers": {"anna": secret}}, "RegisteredUsers:anna"),
        ({"OrthancPeers": {"far": server}}, "OrthancPeers:far:Password"),
        ({"OrthancPeers": {"far": row}}, "OrthancPeers:far:2"),
        ({"DicomWeb": {"Servers": {"far": server}}}, "DicomWeb:Servers:far:Password"),
        ({"DicomWeb": {"Servers": {"far": row}}}, "DicomWeb:Servers:far:2"),
        ({"PostgreSQL": {"Host": "db", "Password": secret}}, "PostgreSQL:Password"),
        ({"MySQL": {"Host": "db", "Password": secret}}, "MySQL:Password"),
        ({"OwnPlugin": {"Deep": {"ApiToken": secret}}}, "OwnPlugin:Deep:ApiToken"),
        (
            {"OrthancPeers": {"far": {"HttpHeaders": {"Authorization": f"Bearer {secret}"}}}},
            "OrthancPeers:far:HttpHeaders:Authorization",
        ),
    ]


@pytest.mark.parametrize("secret", [*FAILED, *FAILED_PASSWORDS])
def test_what_failed_to_become_a_secret_is_refused_wherever_one_stands(secret):
    for options, place in everywhere(secret):
        for remote in (True, False):
            refused, _ = judge({**options, "RemoteAccessAllowed": remote})
            assert refused == [place]


@pytest.mark.parametrize("secret", FAILED)
def test_it_means_nothing_elsewhere_either(secret):
    for options in ({"Name": secret}, {"DicomModalities": {"ct": ["CT", secret, 104]}}):
        assert len(judge(options)[0]) == 1


@pytest.mark.parametrize("secret", SOUND)
def test_a_sound_secret_is_neither_refused_nor_warned_about(secret):
    for options, _ in everywhere(secret):
        assert judge({**options, "RemoteAccessAllowed": True}) == ([], [])


@pytest.mark.parametrize("secret", ["orthanc", "Admin", "orthanctest", "123456", "another one"])
def test_what_the_whole_world_knows_is_refused_where_others_ask_for_it(secret):
    for options, place in everywhere(secret):
        assert judge({**options, "RemoteAccessAllowed": True}) == ([place], [])
        assert judge({**options}, remote_access=True) == ([place], [])
    users = {"RegisteredUsers": {"anna": secret}}
    assert judge(users) == ([], ["RegisteredUsers:anna"])
    server = {"PostgreSQL": {"Host": "localhost", "Password": secret}}
    assert judge({**server, "RemoteAccessAllowed": True}) == ([], ["PostgreSQL:Password"])


@pytest.mark.parametrize(
    ("uri", "refused"),
    [
        ("postgresql://pacs:pacs@192.0.2.1/x", True),
        ("postgresql://pacs:%2A%2A%2A%2A%2A%2A@192.0.2.1/x", True),
        ("host=192.0.2.1 user=pacs password=postgres", True),
        ("postgresql://x:a%20word%20of%20ours@192.0.2.1/x", False),
        ("postgresql:///orthanc", False),
        ("postgresql://pacs@192.0.2.1/x", False),
    ],
)
def test_the_password_in_a_connection(uri, refused):
    found, warned = judge({"PostgreSQL": {"EnableIndex": True, "ConnectionUri": uri}})
    assert found == (["PostgreSQL:ConnectionUri:password"] if refused else [])
    assert warned == []


def test_a_password_in_a_header_and_one_that_is_its_users_name():
    users = {"RegisteredUsers": {"schmidt-ct": "Schmidt-CT"}, "RemoteAccessAllowed": True}
    assert judge(users)[0] == ["RegisteredUsers:schmidt-ct"]
    basic = base64.b64encode(b"orthanc:orthanc").decode()
    headers = {"Url": "http://192.0.2.1/", "HttpHeaders": {"Authorization": f"Basic {basic}"}}
    (place,) = judge({"OrthancPeers": {"far": headers}})[0]
    assert place == "OrthancPeers:far:HttpHeaders:Authorization"


@pytest.mark.parametrize("secret", ["x", "Geheim", "hospital", "Radiology2024!", "aaaaaaaaaaaa"])
def test_what_is_easily_guessed_is_warned_about(secret):
    options = {"RegisteredUsers": {"anna": secret}, "RemoteAccessAllowed": True}
    assert judge(options) == ([], ["RegisteredUsers:anna"])


@pytest.mark.parametrize("secret", ["**********", "orthanc"])
def test_what_is_in_use_and_did_not_get_worse_is_warned_about(secret):
    used = {"RegisteredUsers": {"anna": secret}, "RemoteAccessAllowed": True}
    assert judge(used, before=used) == ([], ["RegisteredUsers:anna"])
    assert judge(used, before={"RegisteredUsers": {"anna": OWN}, "RemoteAccessAllowed": True})[0]
    assert judge(used, before={"RegisteredUsers": {"bert": secret}, "RemoteAccessAllowed": True})[0]
    if secret == "orthanc":
        assert judge(used, before={**used, "RemoteAccessAllowed": False})[0]


def test_demo_users_are_a_deliberate_thing(load_settings, options_file, map_file, problems_of):
    users = {"anna": {"password": OWN, "role": "admin"}}
    assert problems_of({"demo_users": True, "users": users, "remote_access": True}) == []
    (problem,) = problems_of(
        {"users": {"bob": {"password": "alice", "role": "admin"}}, "remote_access": True}
    )
    assert problem.startswith("orthanc:users:bob:password: ")


def test_where_in_the_pillar_it_stands(problems_of):
    peer = {"Url": "http://192.0.2.1/", "Username": "x", "Password": "**********"}
    database = {"enabled": True, "host": "db.example.org", "password": "**********"}
    problems = problems_of(
        {
            "users": {"anna": {"password": PGP, "role": "admin"}},
            "peers": {"far": peer},
            "postgresql": database,
            "config": {"DicomWeb": {"Servers": {"web": peer}}},
            "packages": ["orthanc", "orthanc-dicomweb"],
        }
    )
    assert sorted(problem.split(": ")[0] for problem in problems) == [
        "orthanc:config:DicomWeb:Servers:web:Password",
        "orthanc:peers:far:Password",
        "orthanc:postgresql:password",
        "orthanc:users:anna:password",
    ]


def test_a_sample_of_a_plugin_that_is_off_is_no_matter():
    section = {"EnableIndex": False, "EnableStorage": False, "Password": "my_password"}
    assert judge({"PostgreSQL": section}) == ([], [])


def test_no_sentence_holds_the_secret():
    for secret in [*FAILED, "orthanc-demo", "Radiology2024!"]:
        options = {"RegisteredUsers": {"anna": secret}}
        shown = {o: orthanc_options.redact(o, value) for o, value in options.items()}
        found = orthanc_passwords.check(options, shown, remote=True)
        told = [sentence for pairs in found.values() for _, sentence in pairs]
        assert told
        assert not [sentence for sentence in told if secret in sentence]
