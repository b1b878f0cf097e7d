"""A server under load while pillars are applied: bad ones cost no request, good ones no more than
a plain restart.

Orthanc looks only now and then whether it is to stop, so how long a restart takes depends on when
it comes: the time repeats every two seconds. Both kinds of restart are spread evenly over these.
"""

from __future__ import annotations

import statistics
import sys
import time

import pytest
from applying import Applying
from clients import Clients

THREADS = 4
PAUSE = 0.04
TIMEOUT = 20
STOP_PERIOD = 2
# On a busy machine of two processors: by how much good pillars may be slower than restarts.
NOISE, NOISE_SECONDS = 1.25, 0.3
TLS = {
    "DicomTlsEnabled": True,
    "DicomTlsCertificate": "/srv/missing.pem",
    "DicomTlsPrivateKey": "/srv/missing.pem",
    "DicomTlsTrustedCertificates": "/srv/missing.pem",
}
# Pillars that are refused, some at once, others only by the trial start.
BAD = [
    {"prot": 8043},
    {"port": "8042"},
    {"config": {"LuaScripts": ["/srv/broken.lua"]}},
    {"config": {"HttpPrt": 8042}},
    {"dicom": {"enabled": True}, "config": TLS},
    {"config": {"HttpTimeout": "long"}},
    {"config": {"Plugins": ["/srv/broken.so"]}},
    {"storage_reserve": "much"},
    {"paths": {"storage": "/srv/elsewhere"}},
    {"config": {"LuaScripts": ["/srv/failing.lua"]}},
]
ROUNDS = len(BAD)


def spread(number: int, server) -> None:
    """Wait so that the steps of a kind begin at even distances from when Orthanc was started."""
    show = "systemctl show -P ExecMainStartTimestampMonotonic orthanc"
    started = int(server.run(show).out) / 1e6
    age = time.clock_gettime(time.CLOCK_MONOTONIC) - started
    time.sleep((number * STOP_PERIOD / ROUNDS - age) % STOP_PERIOD)


@pytest.fixture(scope="module")
def settings(users):
    return {"users": users, "remote_access": True}


@pytest.fixture(scope="module")
def server(minion, settings, users, image):
    minion.apply(**settings)
    anna = ("anna", users["anna"]["password"])
    assert minion.ask("POST", "/instances", *anna, data=f"@{image()}").code == 200
    minion.write("/srv/broken.lua", "function (")
    minion.write("/srv/failing.lua", "error('the reason is in the script')")
    minion.write("/srv/broken.so", "no library")
    return minion


def test_bad_pillars_cost_no_request_and_good_ones_no_more_than_a_restart(server, settings, users):
    applied, restarted = [], []
    anna = ("anna", users["anna"]["password"])
    load = Clients(server.address, anna, opening=THREADS, pause=PAUSE, timeout=TIMEOUT)
    with Applying(server) as applying, load:
        began = time.monotonic()
        time.sleep(2)
        assert load.answered
        assert not load.failed
        for number, bad in enumerate(BAD):
            since, pid = time.monotonic(), server.pid()
            assert not applying.apply(**settings, **bad).ok, bad
            assert not load.failures(since), (bad, load.failures(since))
            assert server.pid() == pid

            spread(number, server)
            since = time.monotonic()
            run = applying.apply(**settings, config={"Name": f"Ward {number}"})
            assert run.ok, str(run)
            load.wait_for_answer()
            applied.append(load.away(since))
            assert server.pid() != pid

            spread(number, server)
            since = time.monotonic()
            server.run("systemctl reset-failed orthanc; systemctl restart orthanc")
            load.wait_for_answer()
            restarted.append(load.away(since))
        lasted = time.monotonic() - began

    assert load.failed, "not even the restarts were seen"
    good, plain = statistics.median(applied), statistics.median(restarted)
    rate = (len(load.answered) + len(load.failed)) / lasted
    for what, measured in (("good pillar", applied), ("plain restart", restarted)):
        say(
            f"{what}: away for {statistics.median(measured):.2f} s (median of {ROUNDS}),"
            f" {statistics.mean(measured):.2f} (mean), {min(measured):.2f} to {max(measured):.2f}"
        )
    say(f"ratio {good / plain:.2f}; {rate:.0f} requests per second, 0 failed in {ROUNDS} bad ones")
    assert good <= plain * NOISE + NOISE_SECONDS


def say(text: str) -> None:
    """Tell what was measured; where tests run side by side, only this way out is open."""
    print(f"\n  [load] {text}", file=sys.stderr, flush=True)
