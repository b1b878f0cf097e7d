"""HTTPS by nginx: what clients get, and that nothing of Orthanc is had without it."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import ssl
import time

import browser
import documentation
import plugins
import pytest
import testbed
from clients import SEARCH, Clients, Connection
from https import CHAIN, KEY, MIDDLE, OTHER_SITE, PAIR, ROOT, handshake, login, pids, put, renew
from minion import NAME, Minion


@pytest.fixture(scope="module", params=["bookworm", "trixie", "leap"])
def server(request, salt_version, users):
    with Minion(testbed.deployed(request.param, salt_version)) as host:
        put(host, PAIR)
        host.apply(**pillar(users))
        yield host


VIEWER = "https://viewer.example.org"
# Longer than what nginx's tables of names hold by default.
LONG_NAME = f"https://{'.'.join(['a' * 60] * 4)}:8443"


def pillar(users, **more):
    """Return a pillar with HTTPS, and WebDAV and DICOMweb, at another place, behind it."""
    return {
        "users": users,
        "remote_access": True,
        "packages": ["orthanc", "orthanc-dicomweb"],
        "https": {
            **{"enabled": True, "certificate": CHAIN, "key": KEY},
            "cors": [VIEWER, LONG_NAME, "http://localhost:3000"],
            "headers": {"Strict-Transport-Security": "max-age=31536000", "X-Frame-Options": "DENY"},
        },
        **more,
        "config": {
            "WebDavEnabled": True,
            "DicomWeb": {"Enable": True, "Root": "/rad/"},
            **more.get("config", {}),
        },
    }


def files(host) -> set[str]:
    """Return all files of the host that were written, but for the index and the images."""
    return {name for name in host.written() if not name.startswith("var/lib/orthanc/")}


def basic(name, password) -> dict:
    """Return the header of a user who gave a page his password."""
    return {"Authorization": "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()}


def test_clients_get_https_and_nothing_else(server, users, ca):
    anna = login(users, "anna")
    assert server.ask("GET", "/system", *anna, remote=True, ca=ca).json["ApiVersion"]
    assert server.ask("GET", "/system", remote=True, ca=ca).code == 401
    shown = handshake(server, "-showcerts", "-CAfile", ca, "-verify_hostname", NAME)
    assert "Verify return code: 0 (ok)" in shown
    assert shown.count("BEGIN CERTIFICATE") == 2
    for version, taken in (("1_1", False), ("1_2", True), ("1_3", True)):
        # Which this machine's own policy allows to ask for.
        shown = handshake(server, f"-tls{version}", "-cipher", "ALL:@SECLEVEL=0")
        assert ("BEGIN CERTIFICATE" in shown) is taken, version
    plain = server.ask("GET", "/system", *anna, remote=True)
    assert plain.code == 400
    assert b"Orthanc" not in plain.body
    assert b"ApiVersion" not in plain.body
    # An nginx that came for Orthanc serves nothing else, but for what openSUSE's nginx.conf has.
    opened = server.ask("GET", "/", remote=True, port=80).code
    assert opened == (404 if "leap" in str(server.layers) else 0)
    behind = server.ask("GET", "/system", *anna, remote=True, port=18042)
    assert behind.code in (0, 401)
    assert server.ask("GET", "/system", *anna, port=18042).code == 200


def test_the_roles_hold(server, users, image, ca):
    how = {"remote": True, "ca": ca}
    anna, rita, wim = (login(users, name) for name in ("anna", "rita", "wim"))
    stored = server.ask("POST", "/instances", *wim, data=f"@{image()}", **how)
    assert stored.code == 200, stored
    path = stored.json["Path"]
    for who in (rita, wim):
        assert server.ask("GET", path, *who, **how).code == 200
        for method, wrong, data, headers in (
            ("DELETE", path, None, ()),
            ("GET", f"{path}?_method=delete", None, ()),
            ("POST", path, "", ("X-HTTP-Method-Override: DELETE",)),
            ("POST", "/tools/bulk-delete", json.dumps({"Resources": [stored.json["ID"]]}), ()),
            ("POST", "//tools//bulk-delete/", json.dumps({"Resources": [stored.json["ID"]]}), ()),
            ("POST", "/tools/%62ulk-delete", json.dumps({"Resources": [stored.json["ID"]]}), ()),
            ("POST", "/tools/shutdown", "", ()),
        ):
            answer = server.ask(method, wrong, *who, data=data, headers=headers, **how)
            assert answer.code == 403, (method, wrong, answer)
    assert server.ask("POST", "/instances", *rita, data=f"@{image()}", **how).code == 403
    # What a client says of where it comes from counts for nothing.
    claims = ("X-Forwarded-For: 127.0.0.1", "Forwarded: for=127.0.0.1", "X-Real-IP: 127.0.0.1")
    assert server.ask("GET", path, headers=claims, **how).code == 401
    assert server.ask("DELETE", path, *anna, **how).code == 200


CORS = ("Allow-Origin", "Allow-Credentials", "Allow-Methods", "Allow-Headers", "Max-Age")
# What a browser asks before it sends what a page of another origin wants; it gives no password.
PREFLIGHT = {
    "Access-Control-Request-Method": "DELETE",
    "Access-Control-Request-Headers": "accept,authorization,range,x-of-the-viewer",
}


def send(server, ca, method, path, headers) -> tuple:
    """Send a request from this machine; return status, the headers that the answer has, those of
    CORS by the end of their names, and the body.
    """
    context = ssl.create_default_context(cafile=ca)
    connection = Connection(server.address, 8042, context, 60)
    connection.request(method, path, headers={"Host": f"{NAME}:8042", **headers})
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    cors = {name: answer.headers.get_all(f"Access-Control-{name}") for name in CORS}
    return answer.status, answer.headers, {name: v for name, v in cors.items() if v}, body


def test_pages_of_listed_origins_get_answers(server, users, image, ca):
    anna, rita = (basic(*login(users, name)) for name in ("anna", "rita"))
    stored = server.ask(
        "POST", "/instances", *login(users, "wim"), data=f"@{image()}", remote=True, ca=ca
    )
    path = stored.json["Path"]
    for origin in (VIEWER, LONG_NAME, "http://localhost:3000"):
        page, known = {"Origin": origin}, {"Allow-Origin": [origin], "Allow-Credentials": ["true"]}
        code, headers, cors, body = send(server, ca, "OPTIONS", path, {**page, **PREFLIGHT})
        assert (code, body) == (204, b"")
        assert "DELETE" in cors.pop("Allow-Methods")[0].split(", ")
        assert cors.pop("Allow-Headers") == [PREFLIGHT["Access-Control-Request-Headers"]]
        assert cors.pop("Max-Age") == ["3600"]
        assert cors == known
        # The page sees that it needs a password; and who may do what is as it was.
        for method, there, login_as, status in (
            ("GET", path, {}, 401),
            ("GET", path, rita, 200),
            ("GET", f"{path}/file", {**rita, "Range": "bytes=0-9"}, 200),
            ("GET", "/rad/studies", rita, 200),
            ("DELETE", path, {}, 401),
            ("DELETE", path, rita, 403),
            ("GET", "/none", anna, 404),
        ):
            code, headers, cors, body = send(server, ca, method, there, {**page, **login_as})
            assert (code, cors) == (status, known), (method, there)
            assert headers.get_all("Vary") == ["Origin"]
            assert "Content-Disposition" in headers["Access-Control-Expose-Headers"]
        # No browser asks so: it goes the ordinary way.
        for other in ({}, {"Access-Control-Request-Method": ""}):
            assert send(server, ca, "OPTIONS", path, {**page, **other})[0] == 401
        odd = {**page, **PREFLIGHT, "Access-Control-Request-Headers": "a\tb: c"}
        assert "Allow-Headers" not in send(server, ca, "OPTIONS", path, odd)[2]


def test_pages_of_other_origins_get_nothing(server, users, image, ca):
    rita = basic(*login(users, "rita"))
    for origin in (
        *(f"{VIEWER}.evil", f"{VIEWER}:8443", f"{VIEWER}/", f"{VIEWER} {VIEWER}", f"x{VIEWER}"),
        *("https://viewerXexample.org", "http://viewer.example.org", VIEWER.upper()),
        *("null", "", "*", "https://localhost:3000", "http://localhost:30000"),
    ):
        page = {"Origin": origin}
        for method, more, status in (
            ("OPTIONS", PREFLIGHT, 401),
            ("GET", {}, 401),
            ("GET", rita, 200),
        ):
            code, headers, *_ = send(server, ca, method, "/system", {**page, **more})
            assert not [name for name in headers if name.lower().startswith("access-")], origin
            assert headers.get_all("Vary") == ["Origin"]
            assert code == status, (origin, method)


def test_headers_are_on_each_answer(server, users, ca):
    """Also on those of nginx itself, which needs no Orthanc for what browsers ask beforehand."""
    rita, page = basic(*login(users, "rita")), {"Origin": VIEWER}
    server.run("systemctl stop orthanc")
    asked = [("OPTIONS", PREFLIGHT, 204), ("GET", {}, 502)]
    for start, requests in ((True, asked), (False, [("GET", rita, 200), ("GET", {}, 401)])):
        for method, headers, status in requests:
            code, got, cors, _ = send(server, ca, method, "/system", {**page, **headers})
            assert code == status
            assert cors["Allow-Origin"] == [VIEWER]
            assert got.get_all("Strict-Transport-Security") == ["max-age=31536000"]
            assert got.get_all("X-Frame-Options") == ["DENY"]
        if start:
            server.run("systemctl start orthanc")
            server.wait_for_port(18042)


def test_a_real_browser_lets_a_viewer_have_images(server, users, image, ca):
    if "trixie" not in str(server.layers):
        pytest.skip("one nginx is enough for a browser")
    wim, rita = login(users, "wim"), basic(*login(users, "rita"))
    sent = server.ask("POST", "/instances", *wim, data=f"@{image()}", remote=True, ca=ca).json
    found = server.ask("GET", "/rad/studies", *wim, remote=True, ca=ca).json
    study = found[0]["00081190"]["Value"][0].removeprefix(f"https://{NAME}:8042")
    wado = {**rita, "Accept": 'multipart/related; type="application/dicom"; transfer-syntax=*'}
    search = {"method": "POST", "headers": {**rita, "Content-Type": "application/json"}}
    requests = [
        ("/rad/studies", {"headers": {**rita, "Accept": "application/dicom+json"}}),
        (study, {"headers": wado, "credentials": "include"}),
        (f"{sent['Path']}/file", {"headers": {**rita, "Range": "bytes=0-9,20-29"}}),
        ("/tools/find", {**search, "body": SEARCH}),
        ("/system", {"credentials": "include"}),
        (sent["Path"], {"method": "DELETE", "headers": rita}),
    ]
    with testbed.Host(browser.root()) as client:
        told, said = browser.ask(client, server, 3000, requests)
        assert None not in told, said
        assert [code for code, _ in told] == [200, 200, 200, 200, 401, 403]
        listed, images, _, answer, *_ = told
        assert study.rpartition("/")[2] in listed[1]
        assert "DICM" in images[1]
        assert json.loads(answer[1])
        told, said = browser.ask(client, server, 3001, requests)
        assert told == [None] * len(requests)
        refusals = set(re.findall(f"https://{NAME}:8042(\\S+)' from origin .* CORS policy", said))
        assert refusals == {path for path, _ in requests}, said


def test_dicomweb(server, users, image, ca):
    wim, how = login(users, "wim"), {"remote": True, "ca": ca}
    body = b"--x\r\nContent-Type: application/dicom\r\n\r\n" + image().read_bytes() + b"\r\n--x--"
    kind = 'Content-Type: multipart/related; type="application/dicom"; boundary=x'
    for transfer in ((), ("Transfer-Encoding: chunked",)):
        path = image().with_suffix(".multipart")
        path.write_bytes(body)
        headers = (kind, "Accept: application/dicom+json", *transfer)
        stored = server.ask("POST", "/rad/studies", *wim, data=f"@{path}", headers=headers, **how)
        assert stored.code == 200, stored
        assert f"https://{NAME}:8042/rad/studies/" in stored.body.decode()
    refused = {"data": f"@{path}", "headers": (kind,), **how}
    rita = login(users, "rita")
    assert server.ask("POST", "/rad/studies", *rita, **refused).code == 403
    assert server.ask("POST", "/rad/studies", **refused).code == 401
    found = server.ask("GET", "/rad/studies?PatientName=Test*", *wim, **how).json
    urls = [study["00081190"]["Value"][0] for study in found]
    (url,) = {url for url in urls if url in stored.body.decode()}
    assert url.startswith(f"https://{NAME}:8042/rad/studies/")
    study = url.removeprefix(f"https://{NAME}:8042")
    accept = ('Accept: multipart/related; type="application/dicom"',)
    fetched = server.ask("GET", study, *wim, headers=accept, **how)
    assert fetched.code == 200
    assert b"DICM" in fetched.body
    if "trixie" in str(server.layers):
        # Where another proxy has it at another address; older plugins have no such option.
        moved = {"enabled": True, "public_root": "/site/dicom/"}
        server.apply(**pillar(users, dicomweb=moved))
        found = server.ask("GET", "/rad/studies?PatientName=Test*", *wim, **how).json
        urls = [study["00081190"]["Value"][0] for study in found]
        assert url.replace("/rad/", "/site/dicom/") in urls
    # nginx keeps no names of patients in its log.
    log = server.read("/var/log/nginx/access.log")
    assert "/rad/studies" in log
    assert "PatientName" not in log


def test_the_server_as_a_dicomweb_server_of_its_own(server, users):
    name, password = login(users, "anna")
    twin = {"Url": "http://127.0.0.1:18042/rad/", "Username": name, "Password": password}
    added = server.ask("PUT", "/rad/servers/twin", name, password, json.dumps(twin), port=18042)
    assert added.code == 200, added
    told = json.loads(server.call("orthanc.peers", "--out=json").out)["local"]
    assert told["dicomweb_servers"] == {"twin": {"Url": twin["Url"], "Username": name}}
    told = json.loads(server.call("orthanc.echo", "twin", "--out=json").out)["local"]
    assert (told["kind"], told["answers"]) == ("DICOMweb server", True)
    removed = server.ask("DELETE", "/rad/servers/twin", name, password, port=18042)
    assert removed.code == 200


def test_a_peer_whose_certificate_an_own_ca_signed(server, users):
    """Orthanc behind nginx is the other server here, which is reached by its name."""
    server.run(f"grep -q {NAME} /etc/hosts || echo 127.0.0.1 {NAME} >> /etc/hosts")
    name, password = login(users, "rita")
    peer = {"Url": f"https://{NAME}:8042/", "Username": name, "Password": password}
    server.apply(**pillar(users, peers={"far": peer}))
    anna = login(users, "anna")
    assert server.ask("GET", "/peers/far/system", *anna, port=18042).code == 500
    server.write("/srv/own-ca.pem", ROOT.pem)
    server.apply(**pillar(users, peers={"far": peer}, ca_source="/srv/own-ca.pem"))
    answer = server.ask("GET", "/peers/far/system", *anna, port=18042)
    assert answer.json["ApiVersion"], answer
    # Nobody else's CA is lost.
    file = "/etc/orthanc/orthanc-formula-ca.pem"
    suse = "leap" in str(server.layers)
    bundle = "/etc/ssl/ca-bundle.pem" if suse else "/etc/ssl/certs/ca-certificates.crt"
    blocks = [server.run(f"grep -cs BEGIN {path}", check=False).out for path in (file, bundle)]
    assert int(blocks[0]) == int(blocks[1] or 0) + 1
    assert not server.state().changes
    server.apply(**pillar(users))
    assert not server.run(f"test -e {file}", check=False).ok


def test_webdav(server, users, image, ca):
    anna, how = login(users, "anna"), {"remote": True, "ca": ca}
    others = [login(users, name) for name in ("rita", "wim")]
    for who in (anna, *others):
        listed = server.ask("PROPFIND", "/webdav/", *who, headers=("Depth: 1",), **how)
        assert listed.code == 207, listed
        assert b"uploads" in listed.body
    assert (
        b"uploads"
        not in server.ask("PROPFIND", "/webdav/", *anna, headers=("Depth: 0",), **how).body
    )
    folder = "/webdav/uploads/new"
    for method, path, data in (
        *(("PROPFIND", "/webdav/", None), ("MKCOL", folder, None), ("DELETE", folder, None)),
        ("PUT", "/webdav/uploads/x.dcm", f"@{image()}"),
    ):
        assert server.ask(method, path, data=data, **how).code == 401, method
        for who in others if method != "PROPFIND" else ():
            answer = server.ask(method, path, *who, data=data, **how)
            assert answer.code == 403, (method, who, answer)
    assert server.ask("MKCOL", folder, *anna, **how).code == 201
    count = len(server.ask("GET", "/instances", *anna, **how).json)
    uploaded = server.ask("PUT", f"{folder}/x.dcm", *anna, data=f"@{image()}", **how)
    assert uploaded.code == 201
    deadline = time.monotonic() + 120
    while len(server.ask("GET", "/instances", *anna, **how).json) == count:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    moved = (f"Destination: https://{NAME}:8042{folder}/y.dcm",)
    answer = server.ask("MOVE", f"{folder}/x.dcm", *anna, headers=moved, **how)
    assert answer.code == 400, answer


def test_a_certificate_is_renewed_under_load(server, users, ca):
    """On the host, and by Salt; and a wrong one is refused meanwhile."""
    anna, before = login(users, "anna"), pids(server)
    by_salt = ("/srv/salt/tls/chain.pem", "/srv/salt/tls/key.pem")
    put(server, MIDDLE.sign(NAME), *by_salt)
    sources = {"certificate": "salt://tls/chain.pem", "key": "salt://tls/key.pem"}
    with Clients(server.address, anna, ca, keeping=3, opening=3, pause=0.02) as clients:
        server.pillar(**pillar(users))
        for _ in range(2):
            renew(server, clients, CHAIN, KEY)
        server.apply(**pillar(users, https={"enabled": True, **sources}))
        for _ in range(2):
            renew(server, clients, *by_salt)
        seen = len(clients.seen)
        put(server, MIDDLE.sign(NAME, starts=-20, ends=-1), *by_salt)
        run = server.state()
        assert "orthanc:https:certificate: the one of CN=" in run.failed["orthanc-pillar"]
        assert run.changes == {}
        clients.wait_for(3000)
    assert clients.failed == []
    assert len(clients.answered) >= 3000
    assert len(clients.seen) == seen == 6
    mode = server.run("stat -c '%a %U %G' /etc/nginx/orthanc-formula.pem").out.split()
    assert mode == ["640", "root", "root"]
    # Nothing of it stays behind.
    put(server, PAIR)
    server.apply(**pillar(users))
    assert not server.run("test -e /etc/nginx/orthanc-formula.pem", check=False).ok
    assert pids(server) == before


def test_an_authority_that_was_forgotten_comes_with_the_next_run(server, users):
    """The server's own certificate is the same one, before and after."""
    server.pillar(**pillar(users))
    before = pids(server)
    for text, count, warned in ((PAIR.pem, 1, True), (PAIR.chain, 2, False)):
        server.write(CHAIN, text)
        run = server.state()
        assert set(run.changes) == {"orthanc-serving"}, str(run)
        assert handshake(server, "-showcerts").count("BEGIN CERTIFICATE") == count
        warnings = str(run.states["orthanc-pillar"].get("warnings"))
        assert ("CN=Intermediate CA is neither in the file" in warnings) is warned
        assert server.state().changes == {}
    assert pids(server) == before


def test_ten_thousand_requests(server, users, ca):
    before = pids(server)
    anna = login(users, "anna")
    with Clients(server.address, anna, ca, keeping=4, opening=2, pause=0) as clients:
        clients.wait_for(10_000)
    assert clients.failed == []
    # A connection that is kept is closed only where nginx says so in its answer.
    assert clients.repeated == []
    assert len(clients.answered) >= 10_000
    assert pids(server) == before
    assert server.run("systemctl show -P NRestarts orthanc nginx").out.split() == ["0", "0"]


def test_connections_to_orthanc_are_kept_for_what_may_be_asked_twice(server, users, ca):
    """However long a client pauses: nginx or Orthanc may be about to close one."""
    context = ssl.create_default_context(cafile=ca)
    header = basic(*login(users, "anna"))
    connection = Connection(server.address, 8042, context, 60)

    def made() -> int:
        """Return how many connections from anywhere were ever accepted on the host."""
        names, values = re.findall(r"^Tcp: (.*)", server.run("cat /proc/net/snmp").out, re.M)
        return int(dict(zip(names.split(), values.split()))["PassiveOpens"])

    def ask(method, path, body=None) -> None:
        connection.request(method, path, body, header)
        answer = connection.getresponse()
        answer.read()
        assert answer.status == 200

    for requests, new in (
        ([("GET", "/system")], range(10)),
        ([("GET", "/system"), ("POST", "/tools/find", SEARCH)], range(50, 100)),
    ):
        before = made()
        for _ in range(50):
            for request in requests:
                ask(*request)
        assert made() - before in new
    for pause in (0.19, 0.195, 0.2, 0.205, 0.21, 0.99, 1, 1.01):
        for _ in range(2):
            time.sleep(pause)
            ask("GET", "/system")
            ask("POST", "/tools/find", SEARCH)
    connection.close()


def test_an_upload_of_600_megabytes(server, users, image, ca):
    """What comes is passed on as it comes: nginx keeps it neither in memory nor in files."""
    kept = "find -L $(pgrep nginx | sed 's,.*,/proc/&/fd,') -type f -size +64M"

    def parts(read):
        for number, part in enumerate(iter(lambda: read(2**20), b"")):
            if number == 300:
                # What goes nowhere for a moment would be kept, if it were.
                time.sleep(2)
                assert server.run(kept).out == ""
            yield part

    before, anna = pids(server), login(users, "anna")
    size = 600 * 2**20
    path = image(Rows=2**14, Columns=size // 2**14, PixelData=bytes(size))
    client = Clients(server.address, anna, ca)
    with path.open("rb") as file:
        sent = hashlib.file_digest(file, "md5").hexdigest()
        file.seek(0)
        stored = json.load(client.send("POST", "/instances", parts(file.read), path.stat().st_size))
    path.unlink()
    fetched = hashlib.md5()
    answer = client.send("GET", f"{stored['Path']}/file")
    for part in parts(answer.read):
        fetched.update(part)
    assert fetched.hexdigest() == sent
    peaks = server.run("grep -h VmHWM $(pgrep nginx | sed 's,.*,/proc/&/status,')").out.split()
    assert max(int(word) for word in peaks if word.isdigit()) < 64 * 1024, peaks
    deleted = server.ask("DELETE", stored["Path"], *anna, remote=True, ca=ca)
    assert deleted.code == 200
    assert pids(server) == before


def link_openssl(host) -> str:
    """Make OpenSSL's libraries known by the names that Orthanc loads; return their folder."""
    folder = host.run("dirname $(ldconfig -p | grep -m1 -o '/.*libssl.so.3')").out.strip()
    host.run(f"cd {folder} && ln -sf libcrypto.so.3 libcrypto.so && ln -sf libssl.so.3 libssl.so")
    return folder


def test_orthancs_own_https_is_refused_where_it_crashes(server, users, ca):
    https = {"enabled": True, "certificate": CHAIN, "key": KEY, "terminator": "orthanc"}
    server.pillar(**pillar(users, https=https))
    if "bookworm" in str(server.layers):
        # Without the package libssl-dev, this is all that civetweb knows.
        comment = server.state(test=True).failed["orthanc-config"]
        assert "already in use" in comment
        assert "terminator: nginx" in comment
    link_openssl(server)
    before, written = pids(server), files(server)
    with Clients(server.address, login(users, "anna"), ca) as clients:
        for test in (True, False):
            comment = server.state(test=test).failed["orthanc-config"]
            assert "crashed: SIGSEGV" in comment
            assert "terminator: nginx" in comment
        clients.wait_for(10)
    assert clients.failed == []
    assert pids(server) == before
    assert files(server) == written


def test_a_second_run_changes_nothing(server, users):
    before, written = pids(server), files(server)
    server.pillar(**pillar(users))
    for test in (True, False):
        run = server.state(test=test)
        assert run.ok, str(run)
        assert run.changes == {}
    assert pids(server) == before
    assert files(server) == written
    told = json.loads(server.call("orthanc.access", "--out=json").out)["local"]
    assert told["url"] == f"https://{NAME}:8042"
    assert told["reachable from"] == "other hosts"


def test_it_is_there_after_a_boot(server, users, ca):
    server.reboot()
    server.wait_for_port()
    server.wait_for_port(18042)
    answer = server.ask("GET", "/system", *login(users, "anna"), remote=True, ca=ca)
    assert answer.code == 200
    server.pillar(**pillar(users))
    assert server.state().changes == {}


# Lets the filter, which the formula defines after it, tell in the log where a request is said to
# come from, if the request asks for that.
HEADERS = """
setmetatable(_G, {__newindex = function(globals, name, value)
  rawset(globals, name, name ~= "IncomingHttpRequestFilter" and value or function(...)
    local headers = select(5, ...)
    local names = headers["x-tell"] and {"x-forwarded-for", "x-real-ip", "forwarded"} or {}
    for _, name in ipairs(names) do
      print("said to Orthanc: " .. name .. " " .. tostring(headers[name]))
    end
    return value(...)
  end)
end})
"""


def test_orthanc_is_told_the_real_address_of_a_client(server, users, ca):
    server.write("/srv/headers.lua", HEADERS)
    server.apply(**pillar(users, config={"LuaScripts": ["/srv/headers.lua"]}))
    claims = ("X-Forwarded-For: 192.0.2.7", "X-Real-IP: 192.0.2.7", "Forwarded: for=192.0.2.7")
    how = {"headers": ("X-Tell: yes", *claims), "remote": True, "ca": ca}
    assert server.ask("GET", "/system", *login(users, "anna"), **how).code == 200
    log = server.run("cat /var/log/orthanc/*.log 2>/dev/null || journalctl -u orthanc").out
    said = dict(re.findall(r"said to Orthanc: (\S+) (\S+)", log))
    address = server.network.gateway
    assert said == {
        **{"x-forwarded-for": address, "x-real-ip": address},
        "forwarded": f"host={NAME}:8042;proto=https",
    }


@pytest.mark.parametrize("server", ["bookworm"], indirect=True, scope="module")
def test_as_the_readme_says(server, ca):
    put(server, PAIR, "/etc/ssl/pacs/fullchain.pem", "/etc/ssl/pacs/privkey.pem")
    documentation.write_files(server, "HTTPS")
    run = server.state()
    assert run.ok, str(run)
    anna = ("anna", f"a long one of your own{documentation.OWN}")
    assert server.ask("GET", "/system", *anna, remote=True, ca=ca).code == 200


def test_off_for_trying_out_and_away(server, users, ca):
    """Another site of the same nginx sees nothing of it."""
    anna, others = login(users, "anna"), "find /etc/nginx -name '*orthanc*'"
    folder = server.run("dirname /etc/nginx/*/orthanc-formula.conf").out.strip()
    server.write(f"{folder}/other.conf", OTHER_SITE)
    server.run("systemctl reload nginx")
    server.apply(**pillar(users, https={"enabled": False}))
    assert server.ask("GET", "/system", *anna, remote=True).code == 200
    assert server.run(others).out == ""
    server.apply(**pillar(users, https={"enabled": True, "self_signed": True}))
    trusted = str(server.path("/etc/nginx/orthanc-formula.pem"))
    shown = handshake(server, "-CAfile", trusted, "-verify_ip", server.address)
    assert "Verify return code: 0 (ok)" in shown
    assert server.ask("GET", "/system", *anna, remote=True).code == 400
    assert server.state().changes == {}
    run = server.state("orthanc.clean")
    assert run.ok, str(run)
    assert "others may use them by now: nginx" in run.states["orthanc-packages"]["comment"]
    assert server.ask("GET", "/system", remote=True).code == 0
    assert server.run(others).out == ""
    assert server.ask("GET", "/", port=8099, remote=True).body == b"another site"


# What the distributions' builds miss in OpenSSL 3, where it is a macro.
MISSING = """
void *SSL_get1_peer_certificate(const void *ssl);
void *SSL_get_peer_certificate(const void *ssl) { return SSL_get1_peer_certificate(ssl); }
"""


@pytest.mark.parametrize("system", ["bookworm", "trixie", "leap"])
def test_orthancs_own_https_where_it_works(system, salt_version, users, ca, tmp_path, image):
    """As in a build with an OpenSSL of its own: the one function is there that the others miss."""
    stub, whole = tmp_path / "libssl.so.3", tmp_path / "libssl.so"
    plugins.compile(stub, "void *SSL_get1_peer_certificate;", "-Wl,-soname,libssl.so.3")
    plugins.compile(whole, MISSING, "-Wl,--no-as-needed", str(stub))
    with Minion(testbed.root_with_salt(system, salt_version)) as host:
        host.pillar(users=users)
        assert host.state("orthanc.packages").ok
        folder = link_openssl(host)
        host.run(f"rm {folder}/libssl.so")
        host.path(f"{folder}/libssl.so").write_bytes(whole.read_bytes())
        for terminator in ("orthanc", "nginx", "orthanc"):
            pair = MIDDLE.sign(NAME)
            https = {"enabled": True, "terminator": terminator}
            https.update(certificate=pair.chain, key=pair.key)
            run = host.apply(**pillar(users, https=https))
            assert not [line for line in pair.key.splitlines()[1:-1] if line in run.output]
            anna = login(users, "anna")
            assert host.ask("GET", "/system", *anna, remote=True, ca=ca).code == 200
            assert host.ask("GET", "/system", remote=True, ca=ca).code == 401
            assert host.ask("GET", "/system", *anna, remote=True).code in (0, 400)
            listening = "ss -Hltnp sport 8042 | grep -io 'orthanc\\|nginx' | sort -u"
            assert host.run(listening).out.strip().lower() == terminator
            assert host.state().changes == {}
            assert '"ok"' in host.call("orthanc.health", "--out=json").out
            assert "DatabaseVersion" in host.call("orthanc.system").out
        pem = "/etc/orthanc/orthanc-formula-https.pem"
        assert host.run(f"stat -c '%a %U %G' {pem}").out.split() == ["640", "root", "orthanc"]
        assert host.read(pem) == pair.chain + pair.key
        old = f"@{image(StudyDate='20100102')}"
        assert host.ask("POST", "/instances", *anna, remote=True, ca=ca, data=old).code == 200
        https = {"enabled": True, "terminator": "orthanc", "self_signed": True}
        rules = [{"older_than": "10 years", "by": "study_date"}]
        limits = {"dry_run": False, "unproven": True, "max_percent": 100}
        host.apply(**pillar(users, https=https, retention={"rules": rules, **limits}))
        # The formula itself asks over it, too.
        assert "deleted:\n        1" in host.call("orthanc.retention", "test=False").out
        shown = handshake(host, "-CAfile", str(host.path(pem)), "-verify_ip", host.address)
        assert "Verify return code: 0 (ok)" in shown
        assert host.state().changes == {}


def test_a_newer_orthanc_listens_on_this_host_only(salt_version, users, ca):
    """From 1.12.10 on; an older one answers others with 401."""
    with Minion(testbed.root_with_salt("tumbleweed", salt_version)) as host:
        put(host, PAIR)
        host.apply(**pillar(users))
        anna = login(users, "anna")
        assert host.ask("GET", "/system", *anna, remote=True, ca=ca).code == 200
        assert host.ask("GET", "/system", *anna, port=18042).code == 200
        assert host.ask("GET", "/system", *anna, port=18042, remote=True).code == 0
        assert host.state().changes == {}
