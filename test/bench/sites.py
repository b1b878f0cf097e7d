"""Hosts with a site that the formula deployed, and the runs that are measured on them."""

from __future__ import annotations

import base64
import contextlib

import https
import testbed
from minion import Minion

APPLY = ["salt-call", "state.apply", "orthanc", "--retcode-passthrough"]
FLOOR = ["salt-call", "state.apply", "nop", "--retcode-passthrough"]
USERS = {
    name: {"password": f"password of {name}", "role": role}
    for name, role in (("anna", "admin"), ("rita", "reader"), ("wim", "writer"))
}
ANNA = ("anna", USERS["anna"]["password"])
LOGIN = {"Authorization": "Basic " + base64.b64encode(":".join(ANNA).encode()).decode()}
FEW = {"users": USERS, "remote_access": True, "dicom": {"enabled": True}}


def modalities(number: int) -> dict:
    """Return so many modalities."""
    return {
        f"device{n}": {
            "AET": f"DEVICE{n}",
            "Host": f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}",
            "Port": 104,
        }
        for n in range(1, number + 1)
    }


PILLARS = {
    "few keys": FEW,
    "everything on": {
        **FEW,
        "https": {"enabled": True, "certificate": https.CHAIN, "key": https.KEY},
        "postgresql": {"enabled": True},
        "packages": ["orthanc", "orthanc-dicomweb"],
        "modalities": modalities(10),
        "backup_key": {"enabled": True},
        "access_log": True,
        "monitoring": {"enabled": True},
    },
}


@contextlib.contextmanager
def deployed(version: str, suite: str = "trixie", **settings):
    """A host on which a pillar was applied."""
    with Minion(testbed.deployed(suite, version)) as host:
        host.write("/srv/salt/nop.sls", "nothing: test.nop")
        https.put(host, https.PAIR)
        # Where the exporter of Prometheus would collect.
        host.run("mkdir -p /var/lib/prometheus/node-exporter")
        host.apply(**settings)
        # The next one is the first that has nothing to do.
        assert not host.state().changes
        yield host
