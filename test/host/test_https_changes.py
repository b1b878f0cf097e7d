"""HTTPS when something about it changes: certificates, ports, other sites; and wrong pairs."""

from __future__ import annotations

import pki
import pytest
from clients import Clients
from minion import NAME
from test_https import CHAIN, KEY, MIDDLE, PAIR, ROOT, login, pids, put

FILES = """
cd /etc && find orthanc orthanc.last-good nginx -printf '%p %y %M %u %g %s %T@ %i\\n' | sort
find orthanc orthanc.last-good nginx -type f -exec sha256sum {} + | sort
systemctl show --property MainPID,NRestarts orthanc nginx
"""
OTHER_SITE = """
server {
    listen 8099;
    location / { default_type text/plain; return 200 "another site"; }
}
"""
ENDED = MIDDLE.sign(NAME, starts=-20, ends=-1)
COMING = MIDDLE.sign(NAME, starts=1)
OTHER = MIDDLE.sign(NAME)
WEAK = pki.make(NAME, rsa_key=True, bits=1024)


@pytest.fixture(scope="module")
def ca(tmp_path_factory):
    path = tmp_path_factory.mktemp("ca") / "ca.pem"
    path.write_text(ROOT.pem)
    return str(path)


@pytest.fixture(scope="module")
def server(minion, users, image):
    """Debian 12 with HTTPS, and another site of its nginx."""
    minion.run("apt-get install -y -qq nginx >/dev/null")
    minion.write("/etc/nginx/sites-enabled/other", OTHER_SITE)
    minion.run("systemctl reload nginx")
    put(minion, PAIR)
    minion.apply(**pillar(users))
    anna = login(users, "anna")
    assert minion.ask("POST", "/instances", *anna, data=f"@{image()}", port=18042).code == 200
    return minion


def pillar(users, https=(), **more):
    https = {"enabled": True, "certificate": CHAIN, "key": KEY, **dict(https)}
    return {"users": users, "remote_access": True, "https": https, **more}


def other_site(host) -> str:
    """Return what the other site of the same nginx answers."""
    return host.ask("GET", "/", port=8099, remote=True).body.decode()


@pytest.mark.parametrize(
    ("certificate", "key", "place", "words"),
    [
        ("/srv/none.pem", KEY, "certificate", "there is no file /srv/none.pem"),
        (CHAIN, "salt://none.pem", "key", "there is no salt://none.pem"),
        (CHAIN, OTHER.key, "key", "does not belong"),
        (ENDED.chain, ENDED.key, "certificate", "ended on"),
        (COMING.chain, COMING.key, "certificate", "only from"),
        (MIDDLE.pem + PAIR.pem, KEY, "certificate", "did not sign"),
        (PAIR.pem + ROOT.pem, KEY, "certificate", "did not sign"),
        (CHAIN, PAIR.encrypted_key, "key", "is encrypted"),
        (CHAIN, "/srv/tls", "key", "there is no file /srv/tls"),
        (CHAIN, PAIR.key.replace(PAIR.key[60:90], "A" * 30), "key", "damaged"),
        (CHAIN, "/srv/tls/key.pem\n", "key", "an absolute path"),
        # What only nginx knows.
        (WEAK.pem, WEAK.key, "", "key too small"),
    ],
)
def test_a_wrong_pair_is_refused_and_nothing_happens(
    server, users, ca, certificate, key, place, words
):
    before = server.run(FILES).out
    with Clients(server.address, login(users, "anna"), ca, keeping=1) as clients:
        server.pillar(**pillar(users, {"certificate": certificate, "key": key}))
        for test in (False, True) if "/none.pem" in key or not place else (False,):
            run = server.state(test=test)
            assert not run.ok
            (comment,) = [text for text in run.failed.values() if "One or more" not in text]
            assert words in comment
            if place:
                assert f"orthanc:https:{place}: " in comment
            assert run.changes == {} or test, run
            assert not [line for line in PAIR.key.splitlines()[1:-1] if line in run.output]
        clients.wait_for(10)
    assert not clients.failed
    assert len(clients.answered) >= 10
    assert len(clients.seen) == 1
    assert server.run(FILES).out == before
    assert server.run("ls -d /run/orthanc-formula* /etc/nginx/.orthanc*", check=False).out == ""


def renew(server, clients, change, days: int) -> None:
    """Renew the certificate, apply the formula, and see that clients get the new one."""
    pair = MIDDLE.sign(NAME, ends=90 + days)
    change(pair)
    if not days:
        tried = server.state(test=True)
        assert set(tried.changes) == {"orthanc-serving"}, tried
        assert pair.fingerprint not in clients.seen
    run = server.state()
    assert run.ok, run
    assert set(run.changes) == {"orthanc-serving"}
    clients.wait_for(len(clients.answered) + 50)
    assert pair.fingerprint in clients.seen
    assert days or server.state().changes == {}


def test_a_certificate_is_renewed_under_load(server, users, ca):
    server.apply(**pillar(users))
    before = pids(server)
    sources = {"certificate": "salt://tls/chain.pem", "key": "salt://tls/key.pem"}

    def by_salt(pair):
        put(server, pair, "/srv/salt/tls/chain.pem", "/srv/salt/tls/key.pem")

    by_salt(MIDDLE.sign(NAME))
    anna = login(users, "anna")
    with Clients(server.address, anna, ca, keeping=3, opening=3, pause=0.02) as clients:
        for days in range(3):
            renew(server, clients, lambda pair: put(server, pair), days)
        server.apply(**pillar(users, sources))
        for days in range(2):
            renew(server, clients, by_salt, days)
        clients.wait_for(3000)
    assert clients.failed == []
    assert len(clients.answered) >= 3000
    assert len(clients.seen) == 7
    assert pids(server) == before
    assert other_site(server) == "another site"
    mode = server.run("stat -c '%a %U %G' /etc/nginx/orthanc-formula.pem").out.split()
    assert mode == ["640", "root", "root"]
    # Nothing of it stays behind.
    put(server, PAIR)
    server.apply(**pillar(users))
    assert not server.run("test -e /etc/nginx/orthanc-formula.pem", check=False).ok
    assert pids(server) == before
