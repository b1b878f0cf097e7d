"""The Lua filter, in a real Lua: who may do what."""

import pathlib
import re

import jinja2
import lupa
import pytest

FORMULA = pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture
def allows(read_yaml, read_file):
    """A function that makes the filter for users and returns the filter."""
    roles = read_yaml("roles.yaml")
    template = jinja2.Template((FORMULA / "orthanc/users.lua.jinja").read_text())
    filled = {"slsutil.renderer": lambda *_, users, **__: template.render(users=users)}
    lua_filter = read_file("orthanc/lua_filter.py", __salt__=filled, __env__="base")["lua_filter"]

    def make(users, config=(), before=""):
        lua = lupa.LuaRuntime(encoding="utf-8")
        lua.execute(before)
        lua.execute(lua_filter(users, dict(config), roles))
        check = lua.globals().IncomingHttpRequestFilter
        return lambda user, method, path: check(method, path, "127.0.0.1", user, {})

    return make


def test_the_pillar_takes_the_roles_that_there_are(read_yaml, pillar_files):
    roles, mistakes = read_yaml("roles.yaml"), pillar_files["reader"]["mistakes"]
    for role in roles:
        assert mistakes({"users": {"x": {"password": "x", "role": role}}}) == []
    (refused,) = mistakes({"users": {"x": {"password": "x", "role": "y"}}})
    named = re.findall(r"\w+", refused.partition("must be ")[2].partition(", but")[0])
    assert {*named} - {"or"} == {*roles}


@pytest.mark.parametrize(
    ("role", "method", "path", "allowed"),
    [
        ("admin", "DELETE", "/patients/x", True),
        ("admin", "POST", "/tools/shutdown", True),
        ("admin", "GET", "/", True),
        *(("monitor", "GET", f"/{path}", True) for path in ("system", "statistics/")),
        ("monitor", "GET", "/tools/metrics-prometheus", True),
        *(("monitor", "GET", f"/{path}", False) for path in ("", "changes", "patients", "systems")),
        *(("monitor", "GET", f"/{path}", False) for path in ("tools/metrics", "statistics/x")),
        *(("monitor", method, "/system", False) for method in ("POST", "PUT", "DELETE")),
        ("monitor", "PUT", "/tools/metrics-prometheus", False),
        *(("peer", "GET", f"/{path}", True) for path in ("system", "dicom-web/studies")),
        *(
            ("peer", "GET", f"/dicom-web/{path}", True)
            for path in ("instances", "studies/1/series")
        ),
        *(("peer", "POST", f"/{path}", True) for path in ("instances", "tools/find")),
        *(("peer", "POST", f"/dicom-web/{path}", True) for path in ("studies", "studies/1.2")),
        *(("peer", "GET", f"/{path}", False) for path in ("", "instances/x/file", "statistics")),
        *(("peer", "GET", f"/{path}", False) for path in ("changes", "instances", "dicom-web/")),
        *(("peer", "GET", f"/dicom-web/studies/1{end}", False) for end in ("", "/metadata")),
        ("peer", "GET", "/dicom-web/studies/1/series/2/instances/3/frames/1", False),
        *(("peer", "POST", f"/{path}", False) for path in ("tools/bulk-delete", "peers/x/store")),
        *(
            ("peer", "POST", f"/{path}", False)
            for path in ("tools/create-archive", "jobs/x/cancel")
        ),
        *(("peer", method, "/instances/x", False) for method in ("GET", "PUT", "DELETE")),
        ("reader", "GET", "/", True),
        ("reader", "GET", "/instances/x/file", True),
        ("reader", "POST", "/tools/find", True),
        ("reader", "POST", "/tools/count-resources", True),
        ("reader", "POST", "/studies/x/archive", True),
        ("reader", "POST", "/tools/create-dicom", False),
        ("reader", "POST", "/tools/find/x", False),
        ("reader", "POST", "/instances", False),
        ("reader", "POST", "/modalities/x/find", False),
        ("reader", "POST", "/dicom-web/studies", False),
        ("reader", "POST", "/instances/x/attachments/dicom/compress", False),
        ("reader", "PUT", "/instances/x/metadata/1024", False),
        ("reader", "DELETE", "/instances/x", False),
        ("writer", "GET", "/studies", True),
        ("writer", "POST", "/instances", True),
        ("writer", "POST", "/instances/", True),
        ("writer", "POST", "/tools/find", True),
        ("writer", "POST", "/studies/x/archive", True),
        ("writer", "POST", "/dicom-web/studies", True),
        ("writer", "POST", "/dicom-web/studies/1.2.3", True),
        ("writer", "PUT", "/studies/x/labels/seen", True),
        ("writer", "DELETE", "/studies/x/labels/seen", False),
        ("writer", "DELETE", "/instances/x", False),
        ("writer", "POST", "/tools/bulk-delete", False),
        ("writer", "POST", "/tools/findx", False),
        ("writer", "POST", "/x/tools/find", False),
        ("writer", "POST", "/studies/x/modify", False),
        ("writer", "POST", "/studies/x/anonymize", False),
        ("writer", "POST", "/modalities/x/store", False),
        ("writer", "POST", "/modalities/x/move", False),
        ("writer", "PUT", "/modalities/x", False),
        ("writer", "PUT", "/tools/log-level", False),
        ("writer", "POST", "/dicom-web/servers/x/stow", False),
        ("writer", "PUT", "/patients/x/protected", False),
        ("writer", "PATCH", "/instances/x", False),
    ],
)
def test_roles(allows, role, method, path, allowed):
    check = allows({"someone": {"password": "x", "role": role}})
    assert check("someone", method, path) is allowed


@pytest.mark.parametrize(
    ("config", "root"),
    [
        ({}, "/dicom-web/"),
        ({"DicomWeb": {"Enable": True}}, "/dicom-web/"),
        ({"DicomWeb": {"Root": "/rad/"}}, "/rad/"),
        ({"DicomWeb": {"Root": "rad"}}, "/rad/"),
        ({"DicomWeb": {"Root": "/a/b.c-d"}}, "/a/b.c-d/"),
        ({"DicomWeb": {"Root": "/"}}, "/"),
        # What is refused opens nothing.
        *(({"DicomWeb": wrong}, "/dicom-web/") for wrong in (None, [], {"Root": 1})),
        ({"DicomWeb": {"Root": "/*/"}}, "/dicom-web/"),
    ],
)
def test_a_writer_stores_where_the_options_have_dicomweb(allows, config, root):
    users = {name: {"password": "x", "role": name} for name in ("writer", "reader")}
    check = allows(users, config)
    for path, allowed in (("studies", True), ("studies/1.2", True), ("servers/x/stow", False)):
        assert check("writer", "POST", root + path) is allowed
        assert check("reader", "POST", root + path) is False
    for other in {"/dicom-web/", "/rad/", "/b/"} - {root}:
        assert check("writer", "POST", f"{other}studies") is False


@pytest.mark.parametrize("user", ["", "nobody", "Someone", "RULES", "__index"])
def test_an_unknown_user_may_nothing(allows, user):
    check = allows({"someone": {"password": "x", "role": "admin"}})
    assert check(user, "GET", "/") is False


@pytest.mark.parametrize(
    ("pattern", "path", "allowed"),
    [
        ("/studies/*", "/studies/x", True),
        ("/studies/*", "/studies", False),
        ("/studies/*", "/studies/x/y", False),
        ("/studies/**", "/studies/x/y", True),
        ("/studies/**", "/studiesx", False),
        ("/a.b", "/a.b", True),
        ("/a.b", "/axb", False),
        ("/a-b%c[d]$^(e)+?", "/a-b%c[d]$^(e)+?", True),
        ("/a+", "/aa", False),
        ("/", "/", True),
        ("/", "/x", False),
        ("/x", "/x/", True),
        ("/ä/*", "/ä/ö", True),
    ],
)
def test_patterns_of_rules(allows, pattern, path, allowed):
    rules = [{"methods": ["GET"], "paths": [pattern]}]
    check = allows({"x": {"password": "x", "rules": rules}})
    assert check("x", "GET", path) is allowed


@pytest.mark.parametrize("name", ["o'neill", 'x"] = {} --', "back\\slash", "Müller", "line", "]]"])
def test_a_user_name_is_only_a_name(allows, name):
    check = allows({name: {"password": "x", "role": "reader"}})
    assert check(name, "GET", "/") is True
    assert check(name, "POST", "/") is False
    assert check("x", "GET", "/") is False


@pytest.mark.parametrize(
    ("before", "allowed"),
    [
        ("", (True, False)),
        ("function IncomingHttpRequestFilter() return true end", (True, False)),
        ("function IncomingHttpRequestFilter() return false end", (False, False)),
        # Orthanc itself would answer with an error.
        ("function IncomingHttpRequestFilter() end", (False, False)),
        (
            "function IncomingHttpRequestFilter(method, uri, ip, user, headers)"
            " return method .. uri .. ip .. user .. type(headers) =="
            " 'GET/x/127.0.0.1auserdata' end",
            (True, False),
        ),
    ],
)
def test_a_filter_that_was_there_before_has_to_agree(allows, before, allowed):
    check = allows({"a": {"password": "x", "role": "reader"}}, before=before)
    assert (check("a", "GET", "/x/"), check("a", "PUT", "/x/")) == allowed
