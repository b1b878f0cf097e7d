"""Images a second over DICOM, in and out, beside the package as it comes and beside a peer that
drops them.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import json
import os
import pathlib
import socket
import subprocess
import tempfile
import time

import dicom
import sites
from figures import ratio
from server import HALF_A_MEGABYTE, STUDY
from ways import NEWEST

SYSTEMS = ("trixie", "bookworm", "leap")
KINDS = {"small": STUDY, "of 0.5 MB": {**STUDY, **HALF_A_MEGABYTE}}
SETTINGS = {**sites.FEW, "dicom": {"enabled": True, "unknown": ["echo", "store", "get"]}}
# Takes the formula's own unit settings away, one of which is for DICOM.
AS_PACKAGED = "rm -rf /etc/systemd/system/orthanc.service.d && systemctl daemon-reload"
GOAL = 1 / 1.5
MANY = 8


def measure(scale):
    for system in SYSTEMS[:1] if scale.small else SYSTEMS:
        with contextlib.ExitStack() as stack:
            hosts = {
                side: stack.enter_context(sites.deployed(NEWEST, system, **SETTINGS))
                for side in ("formula", "package")
            }
            hosts["package"].run(f"{AS_PACKAGED} && systemctl restart orthanc")
            for host in hosts.values():
                host.wait_for_port(4242)
            for kind, tags in KINDS.items():
                yield from compared(hosts, f"{system}: images {kind} a second", tags, scale)


def compared(hosts: dict, what: str, tags: dict, scale):
    """Yield the ratios of each way to send or fetch images of a kind."""
    rates = {}
    with tempfile.TemporaryDirectory() as folder, peer() as port:
        files = [str(dicom.make(pathlib.Path(folder), **tags)) for _ in range(scale.images)]
        for number in range(scale.rounds + 1):
            found = {side: of_server(host, files) for side, host in hosts.items()}
            found["peer that drops them"] = stored("127.0.0.1", port, files)
            for side, ways in found.items() if number else ():
                for way, rate in ways.items():
                    rates.setdefault(way, {}).setdefault(side, []).append(rate)
    for way, of in rates.items():
        formula = of.pop("formula")
        for side, others in of.items():
            goal = GOAL if side == "package" else None
            pairs = {"formula": formula, side: others}
            yield ratio(f"{what}, {way}: over the {side}", pairs, goal, more_is_better=True)


def of_server(host, files: list[str]) -> dict[str, float]:
    """Return how many images a second a server took and gave; they are deleted again."""
    found = stored(host.address, 4242, files, lambda: emptied(host, len(files)))
    # Those of the second time are there.
    found["C-GET"] = rate(files, lambda: get(host.address, 4242))
    emptied(host, len(files))
    return found


def stored(address: str, port: int, files: list[str], between=lambda: None) -> dict[str, float]:
    """Return how many images a second were taken, over one association and over several."""
    shares = [files[number::MANY] for number in range(MANY)]

    def one():
        send(address, port, files)

    def several():
        with concurrent.futures.ThreadPoolExecutor() as pool:
            list(pool.map(lambda share: share and send(address, port, share), shares))

    found = {"one association": rate(files, one)}
    between()
    found[f"{MANY} associations"] = rate(files, several)
    return found


def rate(files: list[str], work) -> float:
    began = time.monotonic()
    work()
    return len(files) / (time.monotonic() - began)


def send(address: str, port: int, files: list[str]) -> None:
    done = dicom.client("storescu", address, *files, called="ORTHANC", port=port)
    assert done.ok, done.output


def get(address: str, port: int) -> None:
    """Fetch the study, and keep nothing of it."""
    keys = ["-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={STUDY['StudyInstanceUID']}"]
    words = ["--ignore", "-S", *keys]
    done = dicom.client("getscu", address, *words, called="ORTHANC", port=port)
    assert "Received C-GET Response (Success)" in done.output, done.output


def emptied(host, expected: int) -> None:
    images = host.ask("GET", "/instances", *sites.ANNA).json
    assert len(images) == expected
    resources = json.dumps({"Resources": images})
    assert host.ask("POST", "/tools/bulk-delete", *sites.ANNA, data=resources).code == 200


@contextlib.contextmanager
def peer():
    """A DICOM server that drops what it gets; its port."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    words = ["storescp", "--ignore", "--fork", str(port)]
    process = subprocess.Popen(words, env={**os.environ, "TCP_NODELAY": "1"})
    try:
        while socket.socket().connect_ex(("127.0.0.1", port)):
            time.sleep(0.05)
        yield port
    finally:
        process.terminate()
        process.wait()
