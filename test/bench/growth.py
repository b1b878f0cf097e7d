"""What grows with a site: devices, users and options."""

from __future__ import annotations

import statistics
import time

import orthanc_json
import sites
from clients import Connection
from figures import Curve, Figure
from turns import take_turns
from ways import NEWEST

VALIDATE = ["salt-call", "state.apply", "orthanc.validation", "--retcode-passthrough"]
SIDES = {"no-op": sites.APPLY, "validate": VALIDATE, "floor": sites.FLOOR}
# So many pairs, as these runs are long.
ROUNDS = 3


def measure(scale):
    yield from devices(scale)
    yield options(scale)
    yield users(scale)


def devices(scale):
    """Yield how long runs take with so many modalities, and the goals for the most of them."""
    with sites.deployed(NEWEST, **sites.FEW) as host:
        several = [{"modalities": sites.modalities(size)} for size in scale.sizes]
        series = runs(host, several, scale)
    yield Curve("runs by the number of modalities", scale.sizes, "s", series)
    for name, goal in (("validate", 1.0), ("change", 4.0)):
        above = series[name][-1] - series["floor"][-1]
        what = f"{scale.sizes[-1]} modalities, {name}: above the floor"
        yield Figure(what, above, "s", {key: [series[key][-1]] for key in (name, "floor")}, goal)


def options(scale):
    """Return how long runs take with so many options in ``config``, up to all that there are."""
    with sites.deployed(NEWEST, **sites.FEW) as host:
        sample = host.run("Orthanc --config=/root/sample >&2; cat /root/sample").out
        taken = orthanc_json.parse(host.run("cat /etc/orthanc/orthanc.json").out)
        free = [
            (name, value)
            for name, value in orthanc_json.parse(sample).items()
            if isinstance(value, (bool, int, str)) and value != "" and name not in taken
        ]
        sizes = [1, 10, 40, len(free)][-len(scale.sizes) :]
        series = runs(host, [{"config": dict(free[:size])} for size in sizes], scale)
    return Curve("runs by the number of options", tuple(sizes), "s", series)


def runs(host, several: list[dict], scale) -> dict[str, list[float]]:
    """Return how long each kind of run takes on a host, with each of several settings."""
    series = {name: [] for name in (*SIDES, "change")}
    rounds = min(scale.rounds, ROUNDS)
    for more in several:
        settings = {**sites.FEW, **more}
        host.apply(**settings)
        found = take_turns(host, SIDES, rounds)
        for name in SIDES:
            series[name].append(statistics.median(found[name]["wall"]))
        changed = []
        for number in range(rounds):
            named = {**settings.get("config", {}), "Name": f"Round {number}"}
            host.pillar(**{**settings, "config": named})
            began = time.monotonic()
            host.run(" ".join(sites.APPLY))
            changed.append(time.monotonic() - began)
            assert host.ask("GET", "/system", *sites.ANNA).json["Name"] == named["Name"]
        series["change"].append(statistics.median(changed))
    return series


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
