"""HTTPS when something about it changes: certificates, ports, other sites; and wrong pairs."""

from __future__ import annotations

import contextlib
import json
import time

import pki
import pytest
import testbed
from applying import Applying
from clients import Clients
from https import (
    CHAIN,
    KEY,
    MIDDLE,
    NGINX,
    PAIR,
    ROOT,
    handshake,
    login,
    other_site,
    pids,
    pillar,
    put,
    serve_another_site,
)
from minion import NAME, Minion

FILES = """
cd /etc && find orthanc orthanc.last-good nginx -printf '%p %y %M %u %g %s %T@ %i\\n' | sort
find orthanc orthanc.last-good nginx -type f -exec sha256sum {} + | sort
systemctl show --property MainPID,NRestarts orthanc nginx
"""
ENDED = MIDDLE.sign(NAME, starts=-20, ends=-1)
COMING = MIDDLE.sign(NAME, starts=1)
OTHER = MIDDLE.sign(NAME)
WEAK = pki.make(NAME, rsa_key=True, bits=1024)
ON_DEBIAN_12 = pytest.mark.parametrize("server", ["bookworm"], indirect=True, scope="module")


@pytest.fixture(scope="module")
def servers(salt_version, users, image):
    """Each system with HTTPS, and another site of an nginx that was there before."""
    with contextlib.ExitStack() as hosts:
        found = {}
        for system in NGINX:
            host = hosts.enter_context(Minion(testbed.root_with_salt(system, salt_version)))
            serve_another_site(host, system)
            host.welcome = welcome(host)
            put(host, PAIR)
            host.apply(**pillar(users))
            path, anna = image(), login(users, "anna")
            stored = host.ask("POST", "/instances", *anna, data=f"@{path}", port=18042)
            assert stored.code == 200, str(stored)
            found[system] = host
        yield found


@pytest.fixture(scope="module")
def applying(servers):
    """On each system, what applies one pillar after the other."""
    with contextlib.ExitStack() as processes:
        yield {host: processes.enter_context(Applying(host)) for host in servers.values()}


@pytest.fixture(scope="module", params=NGINX)
def server(request, servers):
    return servers[request.param]


def welcome(host) -> tuple[int, bytes]:
    """Return what nginx itself answers, on the port of its default site."""
    answer = host.ask("GET", "/", port=80, remote=True)
    return answer.code, answer.body


def test_what_nginx_served_before_it_serves_on(server):
    assert other_site(server) == "another site"
    assert server.welcome[0] == (404 if "leap" in str(server.layers) else 200)
    assert welcome(server) == server.welcome


# Tried on each system, and all others on Debian 12.
WRONG = [
    ("/srv/none.pem", KEY, "certificate", "there is no file /srv/none.pem"),
    (CHAIN, OTHER.key, "key", "does not belong"),
    (MIDDLE.pem + PAIR.pem, KEY, "certificate", "did not sign"),
]
MORE_WRONG = [
    (CHAIN, "salt://none.pem", "key", "there is no salt://none.pem"),
    (ENDED.chain, ENDED.key, "certificate", "ended on"),
    (COMING.chain, COMING.key, "certificate", "only from"),
    (PAIR.pem + ROOT.pem, KEY, "certificate", "did not sign"),
    (CHAIN, PAIR.encrypted_key, "key", "is encrypted"),
    (CHAIN, "/srv/tls", "key", "there is no file /srv/tls"),
    (CHAIN, PAIR.key.replace(PAIR.key[60:90], "A" * 30), "key", "damaged"),
    (CHAIN, "/srv/tls/key.pem\n", "key", "an absolute path"),
    # What only nginx knows.
    (WEAK.pem, WEAK.key, "", "key too small"),
]


@pytest.mark.parametrize(
    ("server", "certificate", "key", "place", "words"),
    [
        *((system, *case) for system in NGINX for case in WRONG),
        *(("bookworm", *case) for case in MORE_WRONG),
    ],
    indirect=["server"],
    scope="module",
)
def test_a_wrong_pair_is_refused_and_nothing_happens(
    server, applying, users, ca, certificate, key, place, words
):
    before = server.run(FILES).out
    with Clients(server.address, login(users, "anna"), ca, keeping=1) as clients:
        wrong = pillar(users, {"certificate": certificate, "key": key})
        for test in (False, True) if "/none.pem" in key or not place else (False,):
            run = applying[server].apply(test=test, **wrong)
            assert not run.ok
            (comment,) = [text for text in run.failed.values() if "One or more" not in text]
            assert words in comment
            if place:
                assert f"orthanc:https:{place}: " in comment
            assert run.changes == {} or test, str(run)
            assert not [line for line in PAIR.key.splitlines()[1:-1] if line in run.output]
        clients.wait_for(10)
    assert not clients.failed
    assert len(clients.answered) >= 10
    assert len(clients.seen) == 1
    assert server.run(FILES).out == before
    assert server.run("ls -d /run/orthanc-formula* /etc/nginx/.orthanc*", check=False).out == ""


def plain(users, **more):
    return {"users": users, "remote_access": True, "https": {"enabled": False}, **more}


def reached(host, user, ca) -> str:
    """Return how Orthanc is reached on its port from another host."""
    if host.ask("GET", "/system", *user, remote=True, ca=ca).code == 200:
        return "https"
    return "http" if host.ask("GET", "/system", *user, remote=True).code == 200 else "not at all"


@ON_DEBIAN_12
def test_on_and_off(server, users, ca):
    anna = login(users, "anna")
    away = {}
    for https in (False, True):
        wanted = pillar(users) if https else plain(users)
        ways = [Clients(server.address, anna, ca), Clients(server.address, anna)]
        with ways[0], ways[1]:
            time.sleep(1)
            run = server.apply(**wanted)
            clients = ways[0 if https else 1]
            clients.wait_for(5)
            time.sleep(0.5)
            moments = sorted(ways[0].answered + ways[1].answered)
        away[https] = max(after - before for before, after in zip(moments, moments[1:]))
        assert "orthanc-serving" in run.changes
        assert reached(server, anna, ca) == ("https" if https else "http")
        assert server.state().changes == {}
        assert other_site(server) == "another site"
    print(f"\n  [https] away for {away[True]:.1f} s when switched on, {away[False]:.1f} s off")
    assert max(away.values()) < 15


@ON_DEBIAN_12
def test_ports_change_places_and_hosts_are_shut_out(server, users, ca):
    anna = login(users, "anna")
    server.apply(**pillar(users))
    swapped = pillar(users, {"backend_port": 8042}, port=18042)
    server.apply(**swapped)
    how = {"remote": True, "ca": ca}
    assert server.ask("GET", "/system", *anna, port=18042, **how).code == 200
    assert server.ask("GET", "/system", *anna, port=8042).code == 200
    assert server.ask("GET", "/system", *anna, port=8042, remote=True).code in (0, 401)
    pid = server.pid()
    server.apply(**pillar(users, {"backend_port": 8042}, port=9443))
    assert server.ask("GET", "/system", *anna, port=9443, **how).code == 200
    assert server.ask("GET", "/system", *anna, port=18042, **how).code == 0
    # From all addresses to the local ones and back, which nginx cannot do in one step.
    for remote in (False, True):
        server.apply(**pillar(users, {"backend_port": 8042}, port=9443, remote_access=remote))
        assert server.ask("GET", "/system", *anna, port=9443, ca=ca).code == 200
        answer = server.ask("GET", "/system", *anna, port=9443, **how)
        assert answer.code == (200 if remote else 0)
        told = json.loads(server.call("orthanc.access", "--out=json").out)["local"]
        assert told["url"] == f"https://{NAME if remote else '127.0.0.1'}:9443"
        assert server.state().changes == {}
    assert server.pid() == pid
    server.apply(**pillar(users))
    assert reached(server, anna, ca) == "https"


@ON_DEBIAN_12
def test_a_taken_port_is_refused(server, users, ca):
    server.apply(**pillar(users))
    before = server.run(FILES).out
    server.run("systemd-run -q --unit taken python3 -m http.server 8098")
    server.wait_for_port(8098)
    for settings, path, program in (
        ({"port": 8098}, "orthanc:port: 8098", "python3"),
        ({"port": 8099}, "orthanc:port: 8099", "nginx"),
        ({"https": {"backend_port": 8098}}, "orthanc:https:backend_port: 8098", "python3"),
    ):
        server.pillar(**{**pillar(users, settings.get("https", ())), **without(settings)})
        run = server.state()
        (comment,) = [text for text in run.failed.values() if "taken by" in text]
        assert path in comment
        assert program in comment
    assert server.run(FILES).out == before
    server.run("systemctl stop taken")


def without(settings):
    return {name: value for name, value in settings.items() if name != "https"}


@ON_DEBIAN_12
def test_the_old_server_returns_where_nginx_does_not_follow(server, users, ca):
    """What no trial has shown: there is none here, or nginx does not do as it is told."""
    anna = login(users, "anna")
    server.apply(**plain(users))
    files = server.run("cat /etc/orthanc/*.json").out
    server.pillar(**pillar(users))
    server.write("/etc/nginx/sites-enabled/broken", "server { listen 8097; nonsense on; }")
    run = server.state()
    assert 'unknown directive "nonsense"' in run.failed["orthanc-nginx-tried"]
    assert run.changes == {}
    contained = "setpriv --bounding-set=-sys_admin salt-call state.apply orthanc 2>&1"
    said = server.run(contained, check=False).out
    assert "this host allows no mount name spaces" in said
    assert 'unknown directive "nonsense"' in said
    assert "The last good configuration is back, and Orthanc serves with it" in said
    assert reached(server, anna, ca) == "http"
    server.run("rm /etc/nginx/sites-enabled/broken")

    drop_in = "/etc/systemd/system/nginx.service.d/deaf.conf"
    server.write(drop_in, "[Service]\nExecReload=\nExecReload=/bin/true\n")
    server.run("systemctl daemon-reload")
    run = server.state()
    assert "does not serve the certificate on port 8042" in run.failed["orthanc-serving"], str(run)
    assert "Orthanc serves with it" in run.failed["orthanc-serving"]
    assert reached(server, anna, ca) == "http"
    assert server.run("cat /etc/orthanc/*.json").out == files
    assert "orthanc-formula" not in server.run("ls /etc/nginx/conf.d").out
    server.run(f"rm {drop_in}; systemctl daemon-reload")
    assert server.state().ok
    assert reached(server, anna, ca) == "https"
    assert other_site(server) == "another site"


@ON_DEBIAN_12
def test_https_returns_where_orthanc_does_not_start_without_it(server, users, ca):
    server.apply(**pillar(users))
    site = "cat /etc/nginx/conf.d/orthanc-formula.conf"
    before = server.run(site).out
    server.write("/srv/broken.lua", "function (")
    server.pillar(**plain(users, preflight=False, config={"LuaScripts": ["/srv/broken.lua"]}))
    run = server.state()
    assert "Orthanc serves with it" in run.failed["orthanc-serving"]
    assert reached(server, login(users, "anna"), ca) == "https"
    assert server.run(site).out == before
    server.apply(**pillar(users))


@pytest.mark.parametrize(
    "marker", ["orthanc/.unproven", "nginx/conf.d/orthanc-formula.conf.unloaded"]
)
@pytest.mark.parametrize("https", [True, False])
@ON_DEBIAN_12
def test_a_killed_run_is_taken_up_again(server, users, ca, marker, https):
    server.apply(**(plain(users) if https else pillar(users)))
    server.pillar(**(pillar(users) if https else plain(users)))
    server.run(
        f"""
        setsid salt-call state.apply orthanc >/dev/null 2>&1 & run=$!
        until test -e /etc/{marker} || ! kill -0 $run 2>/dev/null; do :; done
        kill -9 -$run; wait $run; true
        """
    )
    if not https and marker.endswith(".unloaded"):
        # A moment later; nginx still listens for it.
        server.run("rm -f /etc/nginx/conf.d/orthanc-formula.conf")
    run = server.state()
    assert run.ok, str(run)
    assert run.changes
    assert reached(server, login(users, "anna"), ca) == ("https" if https else "http")
    assert server.state().changes == {}
    left = server.run("ls -A /etc/nginx/conf.d /run | grep orthanc", check=False).out.split()
    assert [name for name in left if name != "orthanc-formula.conf"] == []


def test_a_self_signed_pair_is_made_once_and_before_it_ends(server, users):
    https = {"https": {"enabled": True, "self_signed": True}}
    pem = "/etc/nginx/orthanc-formula.pem"
    server.apply(**plain(users))
    assert not server.run(f"test -e {pem}", check=False).ok
    run = server.apply(**{**plain(users), **https})
    assert "PRIVATE" not in run.output
    made = server.read(pem)
    assert server.run(f"stat -c '%a %U' {pem}").out.split() == ["640", "root"]
    shown = handshake(server, "-verify_hostname", "testhost", "-CAfile", str(server.path(pem)))
    assert "Verify return code: 0 (ok)" in shown
    assert handshake(server, "-verify_ip", server.address, "-CAfile", str(server.path(pem))).count(
        "Verify return code: 0 (ok)"
    )
    assert server.state().changes == {}
    assert server.read(pem) == made
    before = pids(server)
    # The same one, but for when it ends.
    server.run(f"openssl x509 -in {pem} -signkey {pem} -days 29 -out /srv/cert.pem 2>/dev/null")
    server.run(f"openssl pkey -in {pem} >> /srv/cert.pem && cat /srv/cert.pem > {pem}")
    assert set(server.state(test=True).changes) == {"orthanc-serving"}
    run = server.state()
    assert run.ok, str(run)
    assert pem in run.changes["orthanc-serving"]
    assert server.read(pem) not in (made, server.read("/srv/cert.pem"))
    assert pids(server) == before
    assert server.state().changes == {}


@ON_DEBIAN_12
def test_an_expired_pair_in_use_locks_nobody_in(server, users):
    """It is warned about; another one that has expired is refused."""
    server.apply(**pillar(users))
    ended, other = (MIDDLE.sign(NAME, like=PAIR, starts=-9, ends=-n) for n in (1, 2))
    put(server, ended)
    remaining = {name: user for name, user in users.items() if name != "wim"}
    # nginx has not read it yet.
    server.pillar(**pillar(remaining))
    assert "ended on" in server.state().failed["orthanc-pillar"]
    assert "wim" in server.read("/etc/orthanc/credentials.json")
    server.run("systemctl reload nginx")
    time.sleep(2)
    run = server.apply(**pillar(remaining))
    (warning,) = run.states["orthanc-pillar"]["warnings"]
    assert warning.startswith("orthanc:https:certificate: the one of CN=pacs.example.org ended on")
    assert "the server shows it already" in warning
    assert "wim" not in server.read("/etc/orthanc/credentials.json")
    server.pillar(**pillar(users, {"certificate": other.chain, "key": PAIR.key}))
    assert "ended on" in server.state().failed["orthanc-pillar"]
    put(server, PAIR)
    run = server.apply(**pillar(users))
    assert "warnings" not in run.states["orthanc-pillar"]


def test_a_pair_of_the_pillar_is_for_root_only_and_shown_nowhere(server, users, ca):
    secrets = PAIR.key.splitlines()[1:-1]
    https = {"certificate": PAIR.chain, "key": PAIR.key}
    server.pillar(**pillar(users, https))
    outputs = [server.state(test=True).output, server.state().output, server.state().output]
    assert "orthanc-formula.pem" in outputs[1]
    server.pillar(**pillar(users, {**https, "certificate": OTHER.chain}))
    outputs.append(server.state().output)
    assert "does not belong" in outputs[-1]
    server.pillar(**pillar(users, https))
    outputs += [server.call("-l", "info", "state.apply", "orthanc", check=False).out]
    outputs += [server.run("cat /var/log/salt/* /var/log/nginx/*; journalctl --no-pager").out]
    assert not [text for text in outputs for secret in secrets if secret in text]
    assert secrets[0] in server.read("/etc/nginx/orthanc-formula.pem")
    assert not server.run("cat /etc/nginx/orthanc-formula.pem", user="nobody", check=False).ok
    assert not server.run("cat /etc/nginx/orthanc-formula.pem", user="orthanc", check=False).ok
    assert reached(server, login(users, "anna"), ca) == "https"


@ON_DEBIAN_12
def test_clean_leaves_the_other_site_alone(server, users, ca):
    put(server, PAIR)
    server.apply(**pillar(users))
    others = "find /etc/nginx -not -name '*orthanc*' -type f -exec sha256sum {} + | sort"
    before, master = server.run(others).out, server.read("/run/nginx.pid")
    tried = server.state("orthanc.https.clean", test=True)
    assert tried.changes
    assert reached(server, login(users, "anna"), ca) == "https"
    run = server.state("orthanc.https.clean")
    assert run.ok, str(run)
    assert reached(server, login(users, "anna"), ca) == "not at all"
    assert server.run("find /etc/nginx -name '*orthanc*'").out == ""
    assert server.run(others).out == before
    assert server.read("/run/nginx.pid") == master
    assert other_site(server) == "another site"
    assert server.state("orthanc.https.clean").changes == {}
    assert server.state().ok
    run = server.state("orthanc.clean")
    assert run.ok, str(run)
    assert server.run("find /etc/nginx -name '*orthanc*'").out == ""
    assert other_site(server) == "another site"
    assert "orthanc-formula" not in server.run("ls /etc/orthanc").out
