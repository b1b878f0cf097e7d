"""The log of who asked what: the script that writes it, in a real Lua, and what is read of it."""

import os
import pathlib
import re

import jinja2
import lupa
import orthanc_ask_logs as people
import orthanc_http as http
import orthanc_requests as requests
import pytest
from salt.exceptions import CommandExecutionError, SaltInvocationError

FORMULA = pathlib.Path(__file__).resolve().parents[2]
STUDY = "1561e9f6-968b2d5a-9ff87278-5e72ada6-87a12226"
DAY = 86400


@pytest.fixture
def make(read_file):
    """A function that returns the text of the script."""
    template = jinja2.Template((FORMULA / "orthanc/access.lua.jinja").read_text())
    filled = {"slsutil.renderer": lambda *_, default_renderer, saltenv, **v: template.render(**v)}
    read = read_file("orthanc/lua_filter.py", __salt__=filled, __env__="base")
    return lambda folder, setting=True, proxy=False, known=True: read["access_filter"](
        setting, str(folder), ["127.0.0.1", "192.0.2.1"] if proxy else [], known
    )


@pytest.fixture
def server(make, tmp_path):
    """A function that starts an Orthanc's Lua, and returns what asks it; its clock is ``now``."""

    class Server:
        said, now = [], 1_800_000_000

        def start(self, before="", folder=tmp_path, **given):
            lua = lupa.LuaRuntime(encoding=None)
            has = lua.globals()
            has[b"print"] = self.said.append
            has[b"os"][b"time"] = lambda: self.now
            lua.execute(before.encode())
            lua.execute(make(folder, **given).encode())
            ask = has[b"IncomingHttpRequestFilter"]

            def asked(path, method="GET", account="anna", ip="192.0.2.7", headers=()):
                table = lua.table_from({k.encode(): v.encode() for k, v in dict(headers).items()})
                words = [one.encode() for one in (method, path, ip, account)]
                return ask(*words, table)

            return asked

        def lines(self):
            files = sorted(tmp_path.glob("access-*.log"))
            return "".join(file.read_text() for file in files).splitlines()

    return Server()


def test_a_line_has_all_of_it(server):
    ask = server.start()
    assert ask(f"/studies/{STUDY}/archive") is True
    assert server.lines() == [
        f"2027-01-15T08:00:00Z 192.0.2.7 anna GET /studies/{STUDY}/archive allowed"
    ]
    assert requests.parse(server.lines()[0]) == {
        **{"time": "2027-01-15T08:00:00Z", "address": "192.0.2.7", "account": "anna"},
        **{"method": "GET", "path": f"/studies/{STUDY}/archive", "result": "allowed"},
        "study": STUDY,
    }


@pytest.mark.parametrize(("answer", "result"), [("true", "allowed"), ("false", "denied")])
def test_the_rules_decide_and_it_is_noted(server, answer, result):
    ask = server.start(f"function IncomingHttpRequestFilter() return {answer} end")
    assert ask("/studies") is (answer == "true")
    assert server.lines()[0].endswith(f" /studies {result}")


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("/", "/"),
        ("/studies/", "/studies"),
        ("/dicom-web/studies/1.2.3/series/1.2.4/frames/1,2", None),
        ("/patients/DOE^JANE", "/patients/*"),
        ("/patients/DOE JANE/x", "/patients/*/x"),
        ("/a\n2027-01-01T00:00:00Z 192.0.2.1 anna DELETE /x allowed", "/*/*"),
        ("/webdav/by-uids/1.2.3/DOE.dcm", "/webdav/*"),
        ("/x\0y/z", "/*/z"),
        (f"/{'a' * 65}/b", "/*/b"),
        ("/b" * 500, "/b" * 12 + "/*"),
        ("/ümlaut/\x7f/'\"", "/*/*/*"),
    ],
)
def test_what_of_a_path_is_kept(server, path, shown):
    server.start()(path)
    (line,) = server.lines()
    assert requests.parse(line)["path"] == (shown or path)


@pytest.mark.parametrize(
    "account", ["Dr. Müller", "a\\b", "x allowed", "\n", "\r\0", "\t", "a" * 9999, "\x1b[31m"]
)
def test_no_account_forges_a_line(server, account):
    server.start()("/studies", account=account)
    (line,) = server.lines()
    found = requests.parse(line)
    assert (found["path"], found["result"]) == ("/studies", "allowed")
    assert found["account"].isprintable()
    assert len(line) < 1000
    if account.isprintable() and len(account) < 100:
        assert found["account"] == account


def test_where_nobody_needs_a_password_nobody_is_named(server):
    server.start(known=False)("/studies", account="anna")
    assert requests.parse(server.lines()[0])["account"] == "-"
    server.start()("/studies", account="")
    assert requests.parse(server.lines()[1])["account"] == "-"


@pytest.mark.parametrize(
    ("proxy", "ip", "address"),
    [
        (True, "127.0.0.1", "192.0.2.9"),
        (True, "192.0.2.1", "192.0.2.9"),
        # Who comes past nginx says of himself what he likes.
        (True, "192.0.2.7", "192.0.2.7"),
        (False, "127.0.0.1", "127.0.0.1"),
    ],
)
def test_where_it_comes_from(server, proxy, ip, address):
    server.start(proxy=proxy)("/x", ip=ip, headers={"x-real-ip": "192.0.2.9"})
    assert requests.parse(server.lines()[0])["address"] == address


def test_behind_nginx_without_its_header(server):
    server.start(proxy=True)("/x", ip="127.0.0.1")
    assert requests.parse(server.lines()[0])["address"] == "127.0.0.1"


def test_what_the_formula_asks_is_nobody_else_s(server, tmp_path):
    ask, own = server.start(), {"user-agent": http.AGENT}
    elsewhere = ({"x-real-ip": "192.0.2.9"}, {"x-forwarded-for": "192.0.2.9"}, {"forwarded": "x"})
    for path, method in (("/changes", "GET"), ("/peers/b/system", "GET"), ("/studies/1", "DELETE")):
        ask(path, method, ip="127.0.0.1", headers=own)
    # Whoever comes from elsewhere is not it, whatever he says.
    ask("/system", headers=own)
    for other in elsewhere:
        ask("/system", ip="127.0.0.1", headers={**own, **other})

    def accounts(**given):
        return [one["account"] for one in requests.last(str(tmp_path), 99, {}, **given)]

    formula = "Salt as anna"
    assert accounts(own=True) == [formula] * 3 + ["anna"] * 4
    assert accounts() == [formula] + ["anna"] * 4
    assert len(requests.last(str(tmp_path), 99, {"account": "anna"})) == 4


def test_each_day_has_a_file_and_old_ones_go(server, tmp_path):
    ask = server.start(setting={"days": 2})
    for _ in range(5):
        ask("/studies")
        server.now += DAY
    assert sorted(os.listdir(tmp_path)) == [f"access-2027-01-{day}.log" for day in (17, 18, 19)]
    (tmp_path / "access-2020-01-01.log").write_text("")
    (tmp_path / "access-other.log").write_text("")
    # After a start, too.
    server.start(setting={"days": 1})("/studies")
    left = [f"access-2027-01-{day}.log" for day in (19, 20)]
    assert sorted(os.listdir(tmp_path)) == [*left, "access-other.log"]


def test_a_folder_that_is_not_there_is_said_once(server, tmp_path):
    ask = server.start(folder=tmp_path / "none")
    assert [ask("/studies") for _ in range(3)] == [True] * 3
    (said,) = server.said
    assert b"not written down" in said
    server.now += DAY + 1
    assert ask("/studies") is True
    assert len(server.said) == 2


def test_where_it_is_switched_off_there_is_no_script(make):
    assert make("/x", setting=False) is None
    assert ", 90\n" in make("/x")
    assert ", 90\n" in make("/x", setting={})
    assert ", 7\n" in make("/x", setting={"days": 7})


@pytest.mark.parametrize("name", ["/var/log/orthanc", '/srv/a "b"', "/srv/ü"])
def test_the_folder_is_found(make, tmp_path, name):
    path = tmp_path / "orthanc-formula-access.lua"
    path.write_text(make(name))
    assert requests.folder({"LuaScripts": ["/x.lua", str(path)]}) == name
    assert requests.folder({"LuaScripts": ["/x.lua"]}) is None
    assert requests.folder({}) is None
    path.write_text("-- by hand")
    assert requests.folder({"LuaScripts": [str(path)]}) is None


def line(number, account="anna", path="/studies"):
    time = f"2027-01-15T08:{number // 60:02}:{number % 60:02}Z"
    return f"{time} 192.0.2.7 {account} GET {path} allowed\n"


def test_the_last_ones_are_read_from_several_files(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "access-2027-01-17.log")
    assert requests.last(str(tmp_path), 5, {}) == []
    monkeypatch.setattr(requests, "BLOCK", 37)
    many = [line(number, account="ab"[number % 2]) for number in range(100)]
    (tmp_path / "access-2027-01-14.log").write_text("".join(many[:60]))
    (tmp_path / "access-2027-01-15.log").write_text("".join(many[60:]))
    (tmp_path / "access-2027-01-16.log").write_text("")

    def last(count, **wanted):
        return [one["time"][14:19] for one in requests.last(str(tmp_path), count, wanted)]

    assert last(2) == ["01:38", "01:39"]
    assert last(50) == [f"{n // 60:02}:{n % 60:02}" for n in range(50, 100)]
    assert len(last(1000)) == 100
    assert last(2, account="a") == ["01:36", "01:38"]
    assert last(1000, account="c") == []


def test_a_hole_in_a_file_is_not_gathered(tmp_path):
    line = "2026-01-02T03:04:05Z 127.0.0.1 anna GET /studies allowed"
    hole, path = "\0" * (8 << 20), tmp_path / "access-2026-01-02.log"
    path.write_text(f"{line}\n{hole}{line}\n{line}\n")
    assert max(map(len, requests._from_its_end(str(path)))) <= requests.LONGEST + requests.BLOCK
    assert len(requests.last(str(tmp_path), 9, {})) == 2


def test_a_line_that_is_torn_is_none(tmp_path):
    whole = line(1, path="/dicom-web/studies/1.2.840.1/series")
    (tmp_path / "access-2027-01-15.log").write_bytes(
        whole.encode() + b"2027-01\n\xff\n\n" + b"2027"
    )
    (found,) = requests.last(str(tmp_path), 9, {"study": "1.2.840.1"})
    assert found["study"] == "1.2.840.1"
    assert requests.last(str(tmp_path), 9, {"study": "1.2.840"}) == []


@pytest.mark.parametrize(
    ("path", "study"),
    [
        (f"/studies/{STUDY}", STUDY),
        (f"/studies/{STUDY}/series", STUDY),
        ("/dicom-web/studies/1.2.3/series/4.5", "1.2.3"),
        ("/studies", None),
        ("/studies/*", None),
        (f"/series/{STUDY}", None),
        (f"/studies/{STUDY}x", None),
    ],
)
def test_the_study_of_a_path(path, study):
    assert requests.parse(line(1, path=path).strip()).get("study") == study


@pytest.mark.parametrize("count", [0, -1, True, "5", 1.5, None])
def test_a_count_that_is_none_is_refused(count):
    with pytest.raises(SaltInvocationError, match="count must be a whole number"):
        people.log(count)


def test_where_nothing_is_written_down_it_is_said(tmp_path):
    with pytest.raises(CommandExecutionError, match=re.escape("set orthanc:access_log: true")):
        people.log(config=str(tmp_path))
