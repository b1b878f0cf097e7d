"""The server itself: requests and images a second, with what the formula adds and without."""

from __future__ import annotations

import contextlib
import json
import os
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
STUDY = {"PatientID": "P", "StudyInstanceUID": "1.2.826.0.1.3680043.8.498.1"}
HALF_A_MEGABYTE = {
    "Rows": 512,
    "Columns": 512,
    "BitsAllocated": 16,
    "BitsStored": 16,
    "HighBit": 15,
    # Which no archive makes smaller.
    "PixelData": os.urandom(2 * 512 * 512),
}
USERS = {f"user{n}": {"password": f"secret{n:07}", "role": "reader"} for n in range(1000)}
DATABASE = {"postgresql": {"enabled": True}}
# What is measured against the server with nothing, and how much of it shall be left: of requests,
# and of images that are stored and fetched.
SIDES = {
    "nginx with TLS": ({"https": sites.PILLARS["everything on"]["https"]}, 0.7, 0.85),
    "filters": ({}, 0.95, 0.95),
    "filters, 1,000 users": ({"users": {**USERS, **sites.USERS}}, 0.95, 0.95),
    "access log": ({"access_log": True}, None, None),
    "PostgreSQL": (DATABASE, None, None),
    "PostgreSQL, images in it": ({"postgresql": {"enabled": True, "storage": True}}, None, None),
}
WHAT = ("GET /system", "images of 0.5 MB stored", "images of 0.5 MB fetched, as a study")


def measure(scale):
    for name, (settings, *goals) in list(SIDES.items())[: 1 if scale.small else None]:
        sides = {name: settings, "plain": {}}
        rates = {what: {side: [] for side in sides} for what in WHAT}
        with contextlib.ExitStack() as stack:
            folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
            files = [
                dicom.make(folder, **STUDY, **HALF_A_MEGABYTE).read_bytes()
                for _ in range(scale.images)
            ]
            hosts = {
                side: stack.enter_context(sites.deployed(NEWEST, **{**sites.FEW, **of}))
                for side, of in sides.items()
            }
            hosts["plain"].run(f"python3 -c {shlex.quote(PLAIN)} && systemctl restart orthanc")
            hosts["plain"].wait_for_port()
            for number in range(scale.rounds + 1):
                for side, host in hosts.items():
                    with connected(host, "https" in sides[side]) as connection:
                        found = asked(connection, scale.requests), *moved(connection, files)
                    for what, rate in zip(WHAT, found) if number else ():
                        rates[what][side].append(rate)
        for what, goal in zip(WHAT, (goals[0], goals[1], goals[1]), strict=True):
            title = f"{name}: {what} a second, over plain"
            yield ratio(title, rates[what], goal, more_is_better=True)


@contextlib.contextmanager
def connected(host, tls: bool):
    """A connection to the server that is kept."""
    context = ssl.create_default_context(cadata=https.ROOT.pem) if tls else None
    connection = Connection(host.address, 8042, context, 60)
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


def moved(connection, files: list[bytes]) -> tuple[float, float]:
    """Return how many images a second were stored, and fetched as a study; deletes them."""
    began = time.monotonic()
    for content in files:
        answer(connection, "POST", "/instances", content)
    stored = time.monotonic()
    (study,) = json.loads(answer(connection, "GET", "/studies"))
    asked_at = time.monotonic()
    assert len(answer(connection, "GET", f"/studies/{study}/archive")) > sum(map(len, files)) * 0.9
    fetched = time.monotonic()
    answer(connection, "DELETE", f"/studies/{study}")
    return len(files) / (stored - began), len(files) / (fetched - asked_at)
