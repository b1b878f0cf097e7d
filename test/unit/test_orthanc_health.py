"""What is made of what the server answers."""

import time

import orthanc_health as health
import orthanc_routes
import orthanc_routes_delivery
import pytest

HOUR = 3600


def job(name, state, progress=0, ended=""):
    return {"ID": name, "State": state, "Progress": progress, "Type": "Archive"} | (
        {"CompletionTime": ended} if ended else {}
    )


def moment(ago):
    return time.strftime("%Y%m%dT%H%M%S.123456", time.gmtime(time.time() - ago))


@pytest.fixture
def jobs(monkeypatch):
    """A function that returns what is made of jobs, and what was noted of them hours ago."""

    def jobs(*shown, noted=()):
        monkeypatch.setattr(health, "_get", lambda *_: list(shown))
        now = time.time()
        known = {name: [now - ago * HOUR, *state] for name, ago, *state in noted}
        return health._jobs({"note": {"jobs": known}})

    return jobs


def test_jobs_that_failed_lately_count(jobs):
    found = jobs(
        job("a", "Failure", ended=moment(HOUR)),
        job("b", "Failure", ended=moment(30 * HOUR)),
        job("c", "Failure"),
        job("d", "Success", ended=moment(HOUR)),
    )
    assert (found["failed"], found["kinds"], found["going"]) == (1, "Archive", 0)
    assert jobs()["failed"] == 0


IMAGE = {"Resources": {"Instances": ["a"]}}
STUDY = {"Resources": {"Instances": ["a"], "Studies": ["b"]}}
# As a plugin makes it that knows no priorities.
STOW = {"Type": "DicomWebStowClient", "Priority": 0, "Content": {"Server": "web", **IMAGE}}


@pytest.mark.parametrize(
    ("given", "kinds", "count"),
    [
        ({"Type": "DicomModalityStore", "Priority": orthanc_routes_delivery.PRIORITY}, [], 0),
        ({"Type": "DicomModalityStore", "Priority": 0}, ["modalities"], 1),
        (STOW, ["modalities"], 1),
        (STOW, ["modalities", "servers"], 0),
        (STOW, None, 1),
        ({**STOW, "Content": {}}, ["servers"], 1),
        # What people send by hand.
        ({**STOW, "Content": {"Server": "web", **STUDY}}, ["servers"], 1),
        ({**STOW, "Content": {"Server": "other", **IMAGE}}, ["servers"], 1),
        ({"Type": "Archive"}, ["servers"], 1),
    ],
)
def test_of_what_a_route_sends_again_its_job_says_nothing(
    jobs, monkeypatch, tmp_path, given, kinds, count
):
    routes = {str(n): {"kind": kind, "to": "web"} for n, kind in enumerate(kinds or ())}
    (tmp_path / "job").touch()
    monkeypatch.setattr(orthanc_routes, "JOB", str(tmp_path / ("job" if kinds else "none")))
    monkeypatch.setattr(orthanc_routes, "_job", lambda: {"routes": routes})
    found = jobs({**job("a", "Failure", ended=moment(HOUR)), **given})
    assert found["failed"] == count


@pytest.mark.parametrize(
    ("shown", "noted", "hours"),
    [
        # Never seen before; no progress since; some.
        ([job("a", "Running", 5)], [], 0),
        ([job("a", "Running", 5)], [("a", 2, "Running", 5)], 2),
        ([job("a", "Running", 6)], [("a", 2, "Running", 5)], 0),
        # One that is tried again and again.
        ([job("a", "Retry")], [("a", 3, "Retry", 0)], 3),
        # Nothing takes it up; or it waits for another one.
        ([job("a", "Pending")], [("a", 3, "Pending", 0)], 3),
        ([job("a", "Pending"), job("b", "Running", 1)], [("a", 3, "Pending", 0)], 0),
        # Somebody wants it so; it is done.
        ([job("a", "Paused")], [("a", 3, "Paused", 0)], 0),
        ([job("a", "Success")], [("a", 3, "Running", 99)], 0),
    ],
)
def test_a_job_without_progress_is_stuck(jobs, shown, noted, hours):
    found = jobs(*shown, noted=noted)
    assert found["stuck_hours"] == hours
    going = {one["ID"] for one in shown if one["State"] in health.GOING}
    assert found["note"]["jobs"].keys() <= going


def test_the_note_is_that_of_the_last_time_each_was_seen(monkeypatch, tmp_path):
    monkeypatch.setattr(health, "NOTE", f"{tmp_path}/{{{{}}}}-{{}}")
    answers = {"jobs": {"found": {"failed": 0, "note": {"jobs": {"a": 1}}}}, "rest": {"error": "x"}}
    health._note({"who": "me", "note": {"jobs": {}, "log": ["/log", 7]}}, answers)
    (path,) = tmp_path.iterdir()
    assert path.name == "orthanc-formula-me"
    assert path.read_text() == '{"jobs": {"a": 1}, "log": ["/log", 7]}'
    assert answers["jobs"]["found"] == {"failed": 0}
