"""Certificates for hosts with HTTPS, and what is seen of them from outside."""

from __future__ import annotations

import subprocess

import pki
from minion import NAME

CHAIN, KEY = "/srv/tls/chain.pem", "/srv/tls/key.pem"
ROOT = pki.make("Test CA", authority=True)
MIDDLE = ROOT.sign("Intermediate CA", authority=True)
PAIR = MIDDLE.sign(NAME)


# A site of somebody else.
OTHER_SITE = """
server {
    listen 8099;
    location / { default_type text/plain; return 200 "another site"; }
}
"""

# How nginx comes to each system without the formula, and where it has the sites of others.
NGINX = {
    "bookworm": ("apt-get install -y -qq nginx", "sites-enabled"),
    "trixie": ("apt-get install -y -qq nginx", "sites-enabled"),
    "leap": ("zypper -n -q install nginx", "vhosts.d"),
}


def pillar(users, https=(), **more):
    https = {"enabled": True, "certificate": CHAIN, "key": KEY, **dict(https)}
    return {"users": users, "remote_access": True, "https": https, **more}


def serve_another_site(host, system: str) -> None:
    """Let an nginx with the site of somebody else be there before the formula."""
    install, folder = NGINX[system]
    host.write(f"/etc/nginx/{folder}/other.conf", OTHER_SITE)
    host.run(f"{install} >/dev/null; systemctl restart nginx")
    host.wait_for_port(80)


def other_site(host) -> str:
    """Return what the other site of the same nginx answers."""
    return host.ask("GET", "/", port=8099, remote=True).body.decode()


def put(host, pair, chain=CHAIN, key=KEY):
    """Put a pair on the host, as certbot does: whole files, one after the other."""
    for path, text in ((key, pair.key), (chain, pair.chain)):
        host.write(f"{path}.new", text)
        host.run(f"chmod 600 {path}.new && mv {path}.new {path}")


def login(users, name):
    return (name, users[name]["password"])


def pids(host) -> str:
    """Return the process ids of Orthanc and of nginx's master."""
    return host.run("pgrep -x '[Oo]rthanc'; cat /run/nginx.pid").out


def handshake(host, *words: str) -> str:
    """Return what openssl says of a connection from this machine."""
    return subprocess.run(
        ["openssl", "s_client", "-connect", f"{host.address}:8042", *words],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=60,
        check=False,
    ).stdout


def renew(server, clients, chain, key) -> None:
    """Renew the pair in two files, apply the formula, and see that clients get the new one."""
    pair = MIDDLE.sign(NAME)
    put(server, pair, chain, key)
    tried = server.state(test=True)
    assert set(tried.changes) == {"orthanc-serving"}, str(tried)
    assert pair.fingerprint not in clients.seen
    run = server.state()
    assert run.ok, str(run)
    assert set(run.changes) == {"orthanc-serving"}
    clients.wait_for(len(clients.answered) + 50)
    assert pair.fingerprint in clients.seen
    assert server.state().changes == {}
