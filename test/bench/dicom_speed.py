"""Images a second over DICOM, in and out, beside the package as it comes."""

from __future__ import annotations

import contextlib
import json
import pathlib
import tempfile
import time

import dicom
import sites
from figures import ratio
from server import HALF_A_MEGABYTE
from ways import NEWEST

SYSTEMS = ("bookworm", "trixie", "leap")
KINDS = {"small": {}, "of 0.5 MB": {"PixelData": bytes(2 * 512 * 512), **HALF_A_MEGABYTE}}
SETTINGS = {**sites.FEW, "dicom": {"enabled": True, "unknown": ["echo", "store"]}}
# Takes the formula's own unit settings away, one of which is for DICOM.
AS_PACKAGED = "rm -rf /etc/systemd/system/orthanc.service.d && systemctl daemon-reload"


def measure(scale):
    for system in SYSTEMS:
        for kind, tags in KINDS.items():
            rates = {"formula": [], "package": []}
            with contextlib.ExitStack() as stack:
                folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
                files = [str(dicom.make(folder, **tags)) for _ in range(scale.images)]
                hosts = {
                    side: stack.enter_context(sites.deployed(NEWEST, system, **SETTINGS))
                    for side in rates
                }
                hosts["package"].run(f"{AS_PACKAGED} && systemctl restart orthanc")
                for host in hosts.values():
                    host.wait_for_port(4242)
                for number in range(scale.rounds + 1):
                    for side, host in hosts.items():
                        rate = sent(host, files)
                        if number:
                            rates[side].append(rate)
            yield ratio(
                f"{system}: C-STORE of images {kind} a second, over the package's unit",
                rates,
                more_is_better=True,
            )


def sent(host, files: list[str]) -> float:
    """Return how many images a second the server took over one association; deletes them."""
    began = time.monotonic()
    done = dicom.client("storescu", host.address, *files, called="ORTHANC")
    took = time.monotonic() - began
    assert done.ok, done.output
    images = host.ask("GET", "/instances", *sites.ANNA)
    assert len(images.json) == len(files)
    resources = json.dumps({"Resources": images.json})
    assert host.ask("POST", "/tools/bulk-delete", *sites.ANNA, data=resources).code == 200
    return len(files) / took
