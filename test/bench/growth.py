"""What grows with a site: devices, users and options."""

from __future__ import annotations

import statistics
import time

import sites
from clients import Connection
from figures import Curve, Figure
from turns import take_turns
from ways import NEWEST

VALIDATE = ["salt-call", "state.apply", "orthanc.validation", "--retcode-passthrough"]


def measure(scale):
    yield from devices(scale)
    yield users(scale)


def devices(scale):
    """Yield how long runs take with so many modalities, and the goals for the most of them."""
    names = ("no-op", "validate", "change", "floor")
    series = {name: [] for name in names}
    with sites.deployed(NEWEST, **sites.FEW) as host:
        for size in scale.sizes:
            settings = {**sites.FEW, "modalities": sites.modalities(size)}
            host.apply(**settings)
            sides = {"no-op": sites.APPLY, "validate": VALIDATE, "floor": sites.FLOOR}
            found = take_turns(host, sides, min(scale.rounds, 3))
            for name in sides:
                series[name].append(statistics.median(found[name]["wall"]))
            changed = []
            for number in range(min(scale.rounds, 3)):
                host.pillar(**settings, config={"Name": f"Round {number}"})
                began = time.monotonic()
                host.call(*sites.APPLY[1:])
                changed.append(time.monotonic() - began)
            series["change"].append(statistics.median(changed))
    yield Curve("runs by the number of modalities", scale.sizes, "s", series)
    for name, goal in (("validate", 1.0), ("change", 4.0)):
        above = series[name][-1] - series["floor"][-1]
        what = f"{scale.sizes[-1]} modalities, {name}: above the floor"
        yield Figure(what, above, "s", {key: [series[key][-1]] for key in (name, "floor")}, goal)


def users(scale):
    """Return how long a request takes with so many users, whom the filter in Lua tells apart."""
    series = {"GET /system": []}
    with sites.deployed(NEWEST, **sites.FEW) as host:
        for size in scale.sizes:
            others = {
                f"user{n}": {"password": f"secret{n:07}", "role": "reader"} for n in range(size)
            }
            host.apply(**{**sites.FEW, "users": {**others, **sites.USERS}})
            series["GET /system"].append(1000 * each(host, scale.requests))
    return Curve("a request by the number of users", scale.sizes, "ms", series)


def each(host, requests: int, path: str = "/system") -> float:
    """Return how long a request takes over a connection that is kept, in seconds."""
    connection = Connection(host.address, 8042, None, 30)
    began = time.monotonic()
    for _ in range(requests):
        connection.request("GET", path, headers=sites.LOGIN)
        answer = connection.getresponse()
        answer.read()
        assert answer.status == 200
    connection.close()
    return (time.monotonic() - began) / requests
