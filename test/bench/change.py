"""One option changed: how long the server is away, beside a bare restart; how long a run takes."""

from __future__ import annotations

import threading
import time

import sites
from clients import Connection
from figures import Figure, ratio
from ways import NEWEST

# Orthanc looks every two seconds whether it is to stop: the rounds are spread over these.
STOP_PERIOD = 2


def measure(scale):
    away, took = {"change": [], "restart": []}, {"change": [], "floor": []}
    with sites.deployed(NEWEST, **sites.FEW) as host:
        for number in range(scale.rounds + 1):
            host.pillar(**sites.FEW, config={"Name": f"Round {number}"})
            steps = {
                "change": lambda: host.call(*sites.APPLY[1:]),
                "restart": lambda: host.run("systemctl restart orthanc"),
            }
            for name, step in steps.items():
                time.sleep(STOP_PERIOD * number / scale.rounds % STOP_PERIOD)
                gone, seconds = watched(host, step)
                if number:
                    away[name].append(gone)
                if number and name in took:
                    took[name].append(seconds)
            began = time.monotonic()
            host.call(*sites.FLOOR[1:])
            if number:
                took["floor"].append(time.monotonic() - began)
            assert host.ask("GET", "/system", *sites.ANNA).json["Name"] == f"Round {number}"
    yield ratio("one option changed: the server is away, over a bare restart", away, 1.05)
    above = [one - other for one, other in zip(*took.values(), strict=True)]
    yield Figure(
        "one option changed: the whole run above the floor",
        sorted(above)[len(above) // 2],
        "s",
        took,
        2.0,
    )


def watched(host, step) -> tuple[float, float]:
    """Return for how long the server did not answer while something was done, and how long that
    took; waits until it answers again.
    """
    answered, done = [time.monotonic()], threading.Event()

    def ask():
        while True:
            ended = done.is_set()
            try:
                connection = Connection(host.address, 8042, None, 5)
                connection.request("GET", "/system")
                connection.getresponse().read()
                answered.append(time.monotonic())
                if ended:
                    return
            except OSError:
                time.sleep(0.002)
            finally:
                connection.close()

    thread = threading.Thread(target=ask)
    thread.start()
    began = time.monotonic()
    step()
    took = time.monotonic() - began
    done.set()
    thread.join()
    return max(b - a for a, b in zip(answered, answered[1:])), took
