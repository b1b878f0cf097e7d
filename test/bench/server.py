"""The server itself: requests and images a second, with what the formula adds and without."""

from __future__ import annotations

import contextlib
import json
import pathlib
import shlex
import ssl
import tempfile
import time

import dicom
import https
import sites
from clients import Connection
from figures import ratio
from ways import NEWEST

# Takes all filters in Lua away, which the formula never does itself.
PLAIN = """
import json, pathlib
path = pathlib.Path("/etc/orthanc/orthanc.json")
options = json.loads(path.read_text())
del options["LuaScripts"]
path.write_text(json.dumps(options))
"""
HALF_A_MEGABYTE = {
    "Rows": 512,
    "Columns": 512,
    "BitsAllocated": 16,
    "BitsStored": 16,
    "HighBit": 15,
}
TLS = {"https": sites.PILLARS["everything on"]["https"]}
# What is measured against the server with nothing, and how much of it shall be left: of requests,
# and of images stored.
SIDES = {
    "filters": ({}, 0.95, 0.95),
    "access log": ({"access_log": True}, None, None),
    "nginx with TLS": (TLS, 0.7, 0.85),
    "PostgreSQL": ({"postgresql": {"enabled": True}}, None, None),
}


def measure(scale):
    for name, (settings, *goals) in SIDES.items():
        requests, images = {name: [], "plain": []}, {name: [], "plain": []}
        with contextlib.ExitStack() as stack:
            folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
            files = [
                dicom.make(folder, PixelData=bytes(2 * 512 * 512), **HALF_A_MEGABYTE).read_bytes()
                for _ in range(scale.images)
            ]
            sides = {name: settings, "plain": {}}
            hosts = {
                side: stack.enter_context(sites.deployed(NEWEST, **{**sites.FEW, **of}))
                for side, of in sides.items()
            }
            hosts["plain"].run(f"python3 -c {shlex.quote(PLAIN)} && systemctl restart orthanc")
            hosts["plain"].wait_for_port()
            for number in range(scale.rounds + 1):
                for side, host in hosts.items():
                    with connected(host, "https" in sides[side]) as connection:
                        rates = asked(connection, scale.requests), stored(connection, files)
                    if number:
                        requests[side].append(rates[0])
                        images[side].append(rates[1])
        yield ratio(
            f"{name}: GET /system a second, over plain", requests, goals[0], more_is_better=True
        )
        yield ratio(
            f"{name}: images of 0.5 MB stored a second, over plain",
            images,
            goals[1],
            more_is_better=True,
        )


@contextlib.contextmanager
def connected(host, tls: bool):
    """A connection to the server that is kept."""
    context = ssl.create_default_context(cadata=https.ROOT.pem) if tls else None
    connection = Connection(host.address, 443 if tls else 8042, context, 60)
    yield connection
    connection.close()


def answer(connection, method: str, path: str, body=None):
    """Ask the server, and return what it answered."""
    connection.request(method, path, body, sites.LOGIN)
    given = connection.getresponse()
    content = given.read()
    assert given.status == 200, (given.status, content)
    return content


def asked(connection, number: int) -> float:
    """Return how many requests a second were answered."""
    began = time.monotonic()
    for _ in range(number):
        answer(connection, "GET", "/system")
    return number / (time.monotonic() - began)


def stored(connection, files: list[bytes]) -> float:
    """Return how many images a second were stored; they are deleted again."""
    began = time.monotonic()
    for content in files:
        answer(connection, "POST", "/instances", content)
    took = time.monotonic() - began
    everything = json.loads(answer(connection, "GET", "/instances"))
    answer(connection, "POST", "/tools/bulk-delete", json.dumps({"Resources": everything}))
    return len(files) / took
