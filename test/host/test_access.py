"""Who may do what: roles, rules, demo users, passwords, and what is never open."""

import json
import subprocess

import pytest
import testbed
from minion import Minion

QUERY = json.dumps({"Level": "Study", "Query": {}})
DESTRUCTIVE = [
    ("DELETE", "/instances/x", None),
    ("POST", "/tools/bulk-delete", '{"Resources": []}'),
    ("POST", "/tools/bulk-modify", "{}"),
    ("POST", "/tools/reset", ""),
    ("POST", "/tools/shutdown", ""),
    ("POST", "/tools/execute-script", "print(1)"),
    ("PUT", "/modalities/x", '["X", "10.0.0.1", 104]'),
    ("PUT", "/peers/x", '["http://10.0.0.1"]'),
    ("PUT", "/tools/log-level", "verbose"),
    ("POST", "/modalities/x/store", ""),
    ("POST", "/peers/x/store", ""),
    ("POST", "/instances/x/export", "/tmp/x"),
    ("POST", "/studies/x/modify", "{}"),
    ("POST", "/storage-commitment/x/remove", ""),
    # The same in other spellings that lead to the same route.
    ("POST", "//tools//bulk-delete/", '{"Resources": []}'),
    ("POST", "/tools/%62ulk-delete", '{"Resources": []}'),
    ("POST", "/instances/../tools/bulk-delete", '{"Resources": []}'),
    ("GET", "/instances/x?_method=delete", None),
    ("GET", "/instances/x?_method=DELETE", None),
]


@pytest.fixture(scope="module")
def server(minion, users):
    """A server with users of all roles, demo users, and a user with rules of his own."""
    rules = [
        {"methods": ["GET"], "paths": ["/studies/*/archive", "/system"]},
        {"methods": ["POST"], "paths": ["/tools/find", "/modalities/*/store"]},
    ]
    minion.apply(users={**users, "export-bot": {"password": "x", "rules": rules}}, demo_users=True)
    return minion


@pytest.fixture(
    params=[("anna", "rita", "wim"), ("admin", "alice", "bob")], ids=["pillar", "demo users"]
)
def trio(request, users):
    """Admin, reader and writer, each as (name, password)."""
    demo = {"admin": "admin", "alice": "bob", "bob": "alice"}
    known = {**{name: user["password"] for name, user in users.items()}, **demo}
    return [(name, known[name]) for name in request.param]


def test_everybody_reads(server, trio):
    for who in trio:
        assert server.ask("GET", "/system", *who).code == 200
        assert server.ask("GET", "/patients", *who).code == 200
        assert server.ask("GET", "/app/explorer.html", *who).code == 200


def test_a_reader_only_reads(server, trio):
    for method in ("PUT", "POST", "DELETE"):
        for path in ("/instances", "/tools/reset", "/modalities/x", "/instances/x/metadata/1024"):
            assert server.ask(method, path, *trio[1], data="{}").code == 403, (method, path)
    for method, path, data in DESTRUCTIVE:
        assert server.ask(method, path, *trio[1], data=data).code == 403, (method, path)
    # The search form of the web interface.
    assert server.ask("POST", "/tools/find", *trio[1], data=QUERY).code == 200


def test_a_writer_does_all_but_delete(server, trio, image):
    stored = server.ask("POST", "/instances", *trio[2], data=f"@{image()}")
    assert stored.code == 200, stored
    instance = stored.json["ID"]
    metadata = f"/instances/{instance}/metadata/1024"
    assert server.ask("PUT", metadata, *trio[2], data="seen").code == 200
    assert server.ask("POST", "/tools/find", *trio[2], data=QUERY).code == 200
    assert server.ask("POST", "/tools/find/", *trio[2], data=QUERY).code == 200
    archive = f"/studies/{stored.json['ParentStudy']}/archive"
    assert server.ask("POST", archive, *trio[2], data="{}").code == 200
    for method, path, data in DESTRUCTIVE:
        existing = path.replace("/instances/x", f"/instances/{instance}")
        assert server.ask(method, existing, *trio[2], data=data).code == 403, (method, path)
    for name in ("X-HTTP-Method-Override", "x-http-method-override"):
        overridden = server.ask(
            "POST", f"/instances/{instance}", *trio[2], data="", headers=(f"{name}: DELETE",)
        )
        assert overridden.code == 403
    assert server.ask("GET", f"/instances/{instance}", *trio[2]).code == 200


def test_an_admin_may_all(server, trio, image):
    stored = server.ask("POST", "/instances", *trio[0], data=f"@{image()}").json
    assert server.ask("PUT", "/modalities/x", *trio[0], data='["X", "10.0.0.1", 104]').code == 200
    assert server.ask("DELETE", "/modalities/x", *trio[0]).code == 200
    resources = json.dumps({"Resources": [stored["ID"]]})
    assert server.ask("POST", "/tools/bulk-delete", *trio[0], data=resources).code == 200
    assert server.ask("GET", f"/instances/{stored['ID']}", *trio[0]).code == 404
    level = server.ask("PUT", "/tools/log-level", *trio[0], data="default")
    assert level.code == 200


def test_rules_allow_what_they_say_and_nothing_else(server):
    who = ("export-bot", "x")
    assert server.ask("GET", "/system", *who).code == 200
    assert server.ask("POST", "/tools/find", *who, data=QUERY).code == 200
    # Allowed by the rules; there is just no such study and no such modality.
    assert server.ask("GET", "/studies/x/archive", *who).code == 404
    assert server.ask("POST", "/modalities/x/store", *who, data="").code == 400
    for method, path in [
        ("GET", "/patients"),
        ("GET", "/studies"),
        ("GET", "/studies/x/y/archive"),
        ("POST", "/instances"),
        ("DELETE", "/studies/x"),
    ]:
        assert server.ask(method, path, *who, data="{}").code == 403, (method, path)


LEVELS = ("patients", "studies", "series", "instances")
ATTACHMENTS = [f"/{level}/{{id}}/attachments/{{name}}" for level in LEVELS]
READ_BY_POST = {
    *(f"POST /{level}/{{id}}/{what}" for level in LEVELS[:3] for what in ("archive", "media")),
    *(f"POST {path}/verify-md5" for path in ATTACHMENTS),
    *(
        f"POST /tools/{what}"
        for what in (
            *("bulk-content", "count-resources", "create-archive", "create-media"),
            *("create-media-extended", "find", "lookup"),
        )
    ),
}
WRITTEN = {
    *("POST /instances", "POST /jobs/{id}/cancel", "POST /jobs/{id}/pause"),
    *("POST /jobs/{id}/resume", "POST /tools/create-dicom"),
    *(f"PUT {path}" for path in ATTACHMENTS),
    *(f"POST {path}/{what}" for path in ATTACHMENTS for what in ("compress", "uncompress")),
    *(f"PUT /{level}/{{id}}/metadata/{{name}}" for level in LEVELS),
    *(f"PUT /{level}/{{id}}/labels/{{label}}" for level in LEVELS),
    *(
        f"POST /modalities/{{id}}/{what}"
        for what in (
            *("echo", "find", "find-instance", "find-patient", "find-series", "find-study"),
            *("find-worklist", "get", "query", "storage-commitment"),
        )
    ),
    *(
        f"POST /queries/{{id}}/{what}"
        for what in (
            *("answers/{index}/query-instances", "answers/{index}/query-series"),
            *("answers/{index}/query-studies", "answers/{index}/retrieve", "retrieve"),
        )
    ),
}


def hold_every_route(host, users):
    """Reader and writer may POST or PUT to no route of this Orthanc but to these."""
    host.run("Orthanc --openapi=/root/routes.json 2>/dev/null")
    # DicomWeb and other plugins bring routes of their own, which are not in this list.
    paths = json.loads(host.read("/root/routes.json"))["paths"]
    routes = {
        f"{method.upper()} {path}"
        for path, methods in paths.items()
        for method in ("post", "put", "delete")
        if method in methods
    }
    for name, expected in (("rita", READ_BY_POST), ("wim", READ_BY_POST | WRITTEN)):
        allowed = set()
        for route in routes:
            method, path = route.replace("{", "").replace("}", "").split()
            # With a body that no route takes; the filter is asked first.
            answer = host.ask(method, path, name, users[name]["password"], data="?")
            if answer.code != 403:
                allowed.add(route)
        assert allowed == expected & routes


def test_every_route_of_this_orthanc_is_judged_by_the_roles(server, users):
    hold_every_route(server, users)


@pytest.mark.parametrize(
    "password",
    [
        "plain",
        "quotes \"double\" and 'single'",
        'back\\slash \\" \\n',
        "Umläute ß € 😀",
        "#hash // no comment /* none */",
        "dollar $x $$ {b} %s",
        "a:colon",
    ],
)
def test_a_password_is_taken_as_it_stands(server, password):
    server.apply(users={"anna": {"password": password, "role": "admin"}})
    assert server.ask("GET", "/system", "anna", password).code == 200
    assert server.ask("GET", "/system", "anna", password + "x").code == 401
    assert server.state().changes == {}


def test_user_names_are_taken_as_they_stand(server):
    names = ["o'neill", 'x"] = {} --', "Müller", "a.b%c-d", "two words"]
    server.apply(users={name: {"password": "x", "role": "reader"} for name in names})
    for name in names:
        assert server.ask("GET", "/system", name, "x").code == 200
        assert server.ask("POST", "/instances", name, "x", data="").code == 403


@pytest.mark.parametrize("system", ["sid", "tumbleweed"])
def test_the_next_release_without_a_user_is_open_to_this_host_only(system, salt_version, users):
    with Minion(testbed.root_with_salt(system, salt_version)) as host:
        host.apply()
        assert host.ask("GET", "/system").code == 200
        for who in ((), ("orthanc", "orthanc")):
            answer = host.ask("GET", "/system", *who, remote=True)
            assert answer.code == 401, (who, str(answer))
        assert host.apply().changes == {}
        if system == "sid":
            host.apply(users=users)
            hold_every_route(host, users)


def test_a_filter_of_the_administrator_and_the_roles_both_have_to_agree(server, users):
    for own, deleted in (('method ~= "DELETE"', 403), ("true", 404)):
        script = f"function IncomingHttpRequestFilter(method) return {own} end\n"
        server.write("/etc/orthanc/own.lua", script)
        server.run("chgrp orthanc /etc/orthanc/own.lua")
        server.apply(users=users, config={"LuaScripts": ["/etc/orthanc/own.lua"]})
        for name, method, path, code in (
            ("rita", "GET", "/system", 200),
            ("rita", "POST", "/tools/reset", 403),
            ("wim", "DELETE", "/patients/x", 403),
            ("anna", "DELETE", "/patients/x", deleted),
        ):
            answer = server.ask(method, path, name, users[name]["password"])
            assert answer.code == code, (own, name, method, path)


def test_nobody_gets_in_while_users_and_remote_access_leave(server, users):
    """Without users Orthanc asks nobody for a password: nginx has to be closed before that."""
    https = {"https": {"enabled": True, "self_signed": True}}
    server.apply(users=users, remote_access=True, **https)
    server.pillar(users={}, **https)
    url = f"https://{server.address}:8042/system"
    ask = f"while :; do curl -sk --max-time 2 -o /dev/null -w '%{{http_code}}\\n' {url}; done"
    with subprocess.Popen(["sh", "-c", ask], stdout=subprocess.PIPE, text=True) as clients:
        try:
            run = server.state()
        finally:
            clients.kill()
        codes = clients.stdout.read().split()
    assert run.ok, str(run)
    assert set(codes) == {"401", "000"}
    assert server.ask("GET", "/system", port=18042).code == 200
