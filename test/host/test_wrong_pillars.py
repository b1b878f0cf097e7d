"""Pillars with one mistake: each is refused, named and harmless, where Orthanc itself would die of
it or serve on as if nothing were wrong.
"""

import base64
import collections
import concurrent.futures
import http.client
import json
import sys
import threading

import pytest
import wrong_settings

ROWS = [*map(wrong_settings.in_pillar, wrong_settings.WRONG), *wrong_settings.WRONG_PILLARS]
TRIED = [wrong_settings.in_pillar(row) for row in wrong_settings.ONLY_TRIED]
PACKAGES = ["orthanc", "orthanc-dicomweb", "orthanc-gdcm"]
FILES = """
find /etc/orthanc /etc/orthanc.last-good -printf '%p %y %M %u %g %s %T@ %C@ %i\\n' | sort
find /etc/orthanc /etc/orthanc.last-good -type f -exec sha256sum {} + | sort
systemctl show --property MainPID,NRestarts,ActiveEnterTimestampMonotonic orthanc
"""
# Runs Orthanc with the configuration of standard input and says what becomes of it.
PLAIN = """
cd $(mktemp -d) && trap 'rm -r $PWD' EXIT && cat > orthanc.json
/usr/sbin/Orthanc $PWD > log 2>&1 &
for _ in $(seq 400); do
  if grep -q 'Orthanc has started' log; then kill -9 $!; echo swallows; exit; fi
  if ! kill -0 $! 2>/dev/null; then wait $! || echo dies; exit; fi
  sleep 0.05
done
kill -9 $!; cat log
"""


def say(text):
    """Tell a number where it is seen, also of tests that run side by side."""
    print(f"\n  {text}", file=sys.stderr, flush=True)


def named(rows):
    """Return the rows as parameters; their names say what is wrong."""
    return [
        pytest.param(row, id=f"{number}-{row.mistake}-{row.path}".replace(" ", "_"))
        for number, row in enumerate(rows)
    ]


@pytest.fixture(scope="module")
def sound(users):
    """The pillar that all others are made of."""
    return {"packages": PACKAGES, "users": users, "remote_access": True}


@pytest.fixture(scope="module")
def server(minion, sound):
    minion.apply(**sound)
    assert minion.state().changes == {}
    return minion


@pytest.fixture(scope="module")
def untouched(server):
    """What the folder of the configuration and the process are like."""
    return server.run(FILES).out


@pytest.fixture(scope="module", autouse=True)
def asking(server, users):
    """Asks the server every 50 ms for as long as the tests run: no request may fail."""
    failed, numbers, done = [], collections.Counter(), threading.Event()
    login = f"anna:{users['anna']['password']}".encode()
    headers = {"Authorization": "Basic " + base64.b64encode(login).decode()}

    def ask():
        while not done.wait(0.05):
            numbers["asked"] += 1
            connection = http.client.HTTPConnection(server.address, 8042, timeout=10)
            try:
                connection.request("GET", "/system", headers=headers)
                answer = connection.getresponse()
                if answer.status != 200 or b"DicomAet" not in answer.read():
                    failed.append(answer.status)
            except (OSError, http.client.HTTPException) as err:
                failed.append(err)
            finally:
                connection.close()

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    yield
    assert thread.is_alive()
    done.set()
    thread.join()
    say(f"{numbers['asked']} requests while wrong pillars were applied, {len(failed)} failed")
    assert numbers["asked"]
    assert failed == []


@pytest.fixture(scope="module")
def measured():
    """What Orthanc did without the formula, by wrong pillar; it is counted at the end."""
    outcomes = {}
    yield outcomes
    counts = collections.Counter(outcomes.values())
    say(
        f"of {len(outcomes)} wrong pillars, Orthanc alone swallows {counts['swallows']}"
        f" and dies of {counts['dies']}"
    )


def plain_orthanc(server, row):
    """Return what Orthanc does with the options of a row: dies, swallows, or what else it says."""
    if row.options is None:
        return None
    options = {
        "StorageDirectory": "storage",
        "IndexDirectory": "storage",
        "HttpPort": 18942,
        "DicomPort": 14942,
        "Plugins": ["/usr/share/orthanc/plugins"] if "plugin" in row.mistake else [],
        **row.options,
    }
    return server.run(PLAIN, user="orthanc", input=json.dumps(options), check=False).out.strip()


@pytest.fixture(scope="module")
def refused(server, sound, untouched, measured):
    """A function that applies a wrong pillar and returns the run, which has left all alone."""

    def refused(row):
        server.pillar(**{**sound, **row.pillar})
        with concurrent.futures.ThreadPoolExecutor() as pool:
            outcome = pool.submit(plain_orthanc, server, row)
            run = server.state()
        if row.options is not None:
            measured[str(row)] = outcome.result()
        assert not run.ok
        assert run.changes == {}
        assert server.run(FILES).out == untouched
        assert outcome.result() == row.outcome
        return run

    return refused


@pytest.mark.parametrize("row", named(ROWS))
def test_a_wrong_pillar_is_refused_by_name_and_harmless(refused, row):
    _, *problems = refused(row).failed["orthanc-pillar"].split("\n")
    assert len(problems) == 1, problems
    path = f"- {row.path}: "
    assert problems[0].startswith(path)
    assert row.remedy in problems[0][len(path) :]


@pytest.mark.parametrize("row", named(TRIED))
def test_what_only_the_host_knows_is_found_before_anything_is_written(refused, row):
    run = refused(row)
    assert run.states["orthanc-pillar"]["result"] is True, str(run)
    assert row.remedy in run.failed["orthanc-config"]


def test_the_sound_pillar_is_still_in_force(server, sound, untouched):
    server.pillar(**sound)
    run = server.state()
    assert run.ok, str(run)
    assert run.changes == {}
    assert server.run(FILES).out == untouched
