"""HTTPS while certificates change: what is under way goes on.

A file of its own, because it does little but wait, beside other files.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import json
import socket
import time

import pytest
import testbed
from clients import Clients
from https import (
    CHAIN,
    KEY,
    NGINX,
    PAIR,
    login,
    other_site,
    pillar,
    put,
    renew,
    serve_another_site,
)
from minion import Minion

# For how many seconds a transfer goes on, or nothing moves at all.
SLOW = 310
# What a slow transfer moves, in bytes, and in how many parts: more than buffers on the way take.
LARGE, PARTS = 64 * 2**20, 128


@pytest.fixture(scope="module")
def servers(salt_version, users):
    """Each system with HTTPS, and another site of an nginx that was there before."""
    with contextlib.ExitStack() as hosts:
        found = []
        for system in NGINX:
            host = hosts.enter_context(Minion(testbed.deployed(system, salt_version)))
            serve_another_site(host, system)
            put(host, PAIR)
            found.append(host)
        yield found


def slowly(read):
    """Give what ``read()`` gives until there is no more, over the time of a slow transfer."""
    while part := read():
        time.sleep(SLOW / PARTS)
        yield part


def test_what_is_under_way_goes_on(servers, users, ca, image):
    """While nginx takes new certificates, and for longer than it waits by default.

    On all systems at the same time, because it takes so long.
    """
    path = image(Rows=2**12, Columns=LARGE // 2**12, PixelData=bytes(LARGE))
    with concurrent.futures.ThreadPoolExecutor() as pool:
        for done in [pool.submit(go_on, host, users, ca, path) for host in servers]:
            done.result()


def go_on(server, users, ca, path) -> None:
    """A modality says nothing, and an image comes and goes over a slow line."""
    anna, how = login(users, "anna"), {"remote": True, "ca": ca}
    slow = Clients(server.address, anna, ca)

    def upload() -> str:
        with path.open("rb") as file:
            parts = slowly(lambda: file.read(LARGE // PARTS))
            stored = slow.send("POST", "/instances", parts, path.stat().st_size)
        return json.load(stored)["Status"]

    def download(url: str) -> bytes:
        answer = slow.send("GET", f"{url}/file")
        return b"".join(slowly(lambda: answer.read(LARGE // PARTS)))

    with socket.create_server(("", 0)) as mute, concurrent.futures.ThreadPoolExecutor() as pool:
        address = {"Host": server.network.gateway, "Port": mute.getsockname()[1]}
        modalities = {"mute": {"AET": "MUTE", "Timeout": SLOW, **address}}
        server.apply(**pillar(users, modalities=modalities))
        with path.open("rb") as file:
            url = json.load(slow.send("POST", "/instances", file, path.stat().st_size))["Path"]
        words = ("POST", "/modalities/mute/echo", *anna)
        silence = pool.submit(server.ask, *words, data="{}", limit=2 * SLOW, **how)
        uploaded, downloaded = pool.submit(upload), pool.submit(download, url)
        with Clients(server.address, anna, ca, opening=1) as clients:
            for _ in range(2):
                renew(server, clients, CHAIN, KEY)
        assert not any(transfer.done() for transfer in (silence, uploaded, downloaded))
        assert uploaded.result() == "AlreadyStored"
        assert downloaded.result() == path.read_bytes()
        # Until Orthanc itself gives up.
        answer = silence.result()
        assert answer.code == 500, str(answer)
        assert b"HttpError" in answer.body
    assert slow.send("DELETE", url).status == 200
    put(server, PAIR)
    server.apply(**pillar(users))
    assert other_site(server) == "another site"
