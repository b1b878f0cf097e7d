"""The same work done by a playbook of Ansible: what the role for GNU Health documents."""

from __future__ import annotations

import json
import time

import sites
import testbed
import yaml
from figures import ratio
from minion import Minion
from turns import take_turns
from ways import NEWEST

RUN = ["/opt/ansible/bin/ansible-playbook", "-i", "localhost,", "-c", "local", "/srv/site.yml"]
STORAGE = "/var/lib/orthanc/db-v6"
OPTIONS = {
    "StorageDirectory": STORAGE,
    "IndexDirectory": STORAGE,
    "Name": "Orthanc",
    "RemoteAccessAllowed": True,
    "AuthenticationEnabled": True,
    "DicomServerEnabled": True,
    "DicomAet": "ORTHANC",
    "DicomPort": 4242,
}


def copied(name: str, options: dict) -> dict:
    """Return a task that writes a file of options."""
    content = json.dumps(options, indent=2)
    where = {"dest": f"/etc/orthanc/{name}.json", "owner": "root", "group": "orthanc"}
    return {"copy": {**where, "mode": "0640", "content": content}, "notify": "restart"}


def folder(path: str, owner: str, group: str, mode: str) -> dict:
    return {
        "file": {"path": path, "state": "directory", "owner": owner, "group": group, "mode": mode}
    }


def link(name: str, path: str) -> dict:
    return {"file": {"src": path, "dest": f"/opt/gnuhealth/orthanc/{name}", "state": "link"}}


PLAYBOOK = [
    {
        "hosts": "all",
        "gather_facts": True,
        "tasks": [
            {"apt": {"name": "orthanc", "state": "present"}},
            folder("/etc/orthanc", "root", "orthanc", "0750"),
            folder(STORAGE, "orthanc", "orthanc", "0750"),
            copied("orthanc", OPTIONS),
            copied(
                "credentials",
                {"RegisteredUsers": {n: u["password"] for n, u in sites.USERS.items()}},
            ),
            copied("modalities", {"DicomModalities": sites.modalities(3)}),
            folder("/opt/gnuhealth/orthanc", "root", "root", "0755"),
            link("config", "/etc/orthanc"),
            link("log", "/var/log/orthanc"),
            link("data", STORAGE),
            {"meta": "flush_handlers"},
            {"service": {"name": "orthanc", "state": "started", "enabled": True}},
            {"wait_for": {"port": 8042, "timeout": 60}},
        ],
        "handlers": [{"name": "restart", "service": {"name": "orthanc", "state": "restarted"}}],
    }
]
PILLAR = {**sites.FEW, "modalities": sites.modalities(3)}


def root():
    """Return the layers of a host that has both Salt and Ansible."""
    script = (
        "/opt/salt/bin/python -m venv /opt/ansible && /opt/ansible/bin/pip -q install ansible-core"
    )
    base = testbed.root_with_salt("trixie", NEWEST)
    return testbed.layer("trixie-ansible", script, base, lambda host: host.run(script))


def measure(scale):
    first = {"formula": [], "playbook": []}
    for _ in range(scale.rounds):
        for side, run in (("formula", sites.APPLY), ("playbook", RUN)):
            with ready() as host:
                first[side].append(timed(host, run))
    with ready() as host:
        host.apply(**PILLAR)
        sides = {"playbook": RUN, "formula": sites.APPLY}
        host.run(" ".join(RUN))
        host.apply(**PILLAR)
        found = take_turns(host, sides, scale.rounds)
    wall = {side: of["wall"] for side, of in found.items()}
    what = "nothing to do: a playbook of the same work, over the formula"
    yield ratio(what, wall, 8, more_is_better=True)
    yield ratio("first run, packages among it: the formula, over a playbook", first, 1.1)


class Ready(Minion):
    """A host with Salt and Ansible, the formula and its pillar, and the playbook."""

    def __enter__(self):
        super().__enter__()
        self.pillar(**PILLAR)
        self.write("/srv/site.yml", yaml.safe_dump(PLAYBOOK))
        self.run("salt-call saltutil.sync_all")
        return self


def ready() -> Ready:
    return Ready(root())


def timed(host, run: list[str]) -> float:
    """Return how long a program takes on a host, in seconds."""
    began = time.monotonic()
    host.run(" ".join(run), timeout=600)
    return time.monotonic() - began
