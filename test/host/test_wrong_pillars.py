"""Pillars with one mistake: each is refused, named and harmless, where Orthanc itself would die of
it or serve on as if nothing were wrong.
"""

import base64
import collections
import concurrent.futures
import http.client
import json
import shlex
import sys
import threading

import pytest
import wrong_settings
from applying import Applying

ROWS = [*map(wrong_settings.in_pillar, wrong_settings.WRONG), *wrong_settings.WRONG_PILLARS]
TRIED = [wrong_settings.in_pillar(row) for row in wrong_settings.ONLY_TRIED]
# Of each mistake the first one; all of the formula is applied with it.
FIRST = list({row.mistake: row for row in reversed(ROWS)}.values())
ALL = "orthanc"
SIDE_BY_SIDE = 6
PACKAGES = ["orthanc", "orthanc-dicomweb", "orthanc-gdcm"]
FILES = """
find /etc/orthanc /etc/orthanc.last-good -printf '%p %y %M %u %g %s %T@ %C@ %i\\n' | sort
find /etc/orthanc /etc/orthanc.last-good -type f -exec sha256sum {} + | sort
systemctl show --property MainPID,NRestarts,ActiveEnterTimestampMonotonic orthanc
"""
# Runs Orthanc with the configuration of standard input and says what becomes of it. What it dies of
# a moment after its start, it dies of before it has stopped in order, for which SIGTERM has to be
# caught already.
PLAIN = """
cd $(mktemp -d) && trap 'rm -r $PWD' EXIT && cat > orthanc.json && mkfifo log
/usr/sbin/Orthanc $PWD > log 2>&1 & exec 3< log
if grep -m 1 'Orthanc has started' <&3 > started; then
  until grep -Eq '^State:.Z|^SigCgt:.*[4-7c-f]...$' /proc/$!/status; do sleep 0.05; done
  kill $!
fi
cat <&3 > /dev/null
wait $!; code=$?
if [ $code != 0 ]; then echo dies; elif [ -s started ]; then echo swallows; else echo ends; fi
"""
# Alone on its network, so that any number of them may run side by side.
ALONE = f"unshare -n runuser -u orthanc -- sh -c {shlex.quote(PLAIN)}"


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
            connection = http.client.HTTPConnection(server.address, 8042, timeout=60)
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
    return server.run(ALONE, input=json.dumps(options), check=False).out.strip()


@pytest.fixture(scope="module")
def outcomes(request, server):
    """What plain Orthanc does with each row that is tried, side by side: it is slow to stop."""
    items = [item for item in request.session.items if item.path == request.path]
    rows = [item.callspec.params["row"] for item in items if hasattr(item, "callspec")]
    with concurrent.futures.ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        found = {id(row): pool.submit(plain_orthanc, server, row) for row in rows}
        yield lambda row: found[id(row)].result()
    counts = collections.Counter(outcome.result() for outcome in found.values())
    say(
        f"of {len(rows)} wrong pillars, Orthanc alone swallows {counts['swallows']}"
        f" and dies of {counts['dies']}"
    )


@pytest.fixture(scope="module")
def applying(server):
    with Applying(server) as process:
        yield process


@pytest.fixture(scope="module")
def refused(server, sound, untouched, applying, outcomes):
    """A function that applies a wrong pillar, all of the formula or what judges it. It returns the
    run, which has left all alone.
    """

    def refused(row, sls):
        run = applying.apply(sls, **{**sound, **row.pillar})
        assert not run.ok
        assert run.changes == {}
        if sls == ALL:
            assert {"orthanc-config", "orthanc-serving"} <= set(run.failed)
            assert server.run(FILES).out == untouched
        assert outcomes(row) == row.outcome
        return run

    return refused


@pytest.mark.parametrize("row", named(ROWS))
def test_a_wrong_pillar_is_refused_by_name_and_harmless(refused, row):
    """By the state that all others require; those follow for one row of each mistake."""
    sls = ALL if row in FIRST else "orthanc.validation"
    _, *problems = refused(row, sls).failed["orthanc-pillar"].split("\n")
    assert len(problems) == 1, problems
    path = f"- {row.path}: "
    assert problems[0].startswith(path)
    assert row.remedy in problems[0][len(path) :]


@pytest.mark.parametrize("row", named(TRIED))
def test_what_only_the_host_knows_is_found_before_anything_is_written(refused, row):
    run = refused(row, ALL)
    assert run.states["orthanc-pillar"]["result"] is True, str(run)
    assert row.remedy in run.failed["orthanc-config"]


def test_a_run_of_its_own_says_the_same(server, sound, untouched, applying):
    """What one process says of many pillars is what each run of salt-call says."""
    for row in (ROWS[0], ROWS[-1], TRIED[0]):
        pillar = {**sound, **row.pillar}
        server.pillar(**pillar)
        runs = [server.state(), applying.apply(ALL, **pillar)]
        assert set(runs[0].failed) == set(runs[1].failed)
        # Salt names in any order what failed beforehand.
        own, same = (
            {id: text for id, text in run.failed.items() if "requisite failed" not in text}
            for run in runs
        )
        assert own == same
        assert server.run(FILES).out == untouched


def test_the_sound_pillar_is_still_in_force(server, sound, untouched):
    server.pillar(**sound)
    run = server.state()
    assert run.ok, str(run)
    assert run.changes == {}
    assert server.run(FILES).out == untouched
