"""Images sent on: which, to whom, once, and none lost, whatever comes in whichever order."""

import calendar
import collections
import contextlib
import fnmatch
import itertools
import sqlite3
import time

import orthanc_routes_delivery as delivery
import orthanc_routes_intake as intake
import orthanc_routes_queue as queue_of
import orthanc_routes_rules as rules
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from salt.exceptions import CommandExecutionError

TAGS = {
    "0008,0060": {"Name": "Modality", "Type": "String", "Value": "CT "},
    "0008,1030": {"Name": "StudyDescription", "Type": "String", "Value": "Großes KNIE\\rechts"},
    "0008,1140": {"Name": "ReferencedImageSequence", "Type": "Sequence", "Value": [{}]},
    "0010,4000": {"Name": "PatientComments", "Type": "TooLong", "Value": None},
    "0029,1010": {"Name": "Unknown Tag & Data", "Type": "String", "Value": "a[b]*"},
}
FROM_CT = {"RemoteAET": "CT1", "RemoteIP": "192.0.2.1"}


@pytest.mark.parametrize(
    ("route", "is_for"),
    [
        ({}, True),
        ({"modality": ["MR", "CT"]}, True),
        ({"modality": ["MR"]}, False),
        ({"from": ["CT1"]}, True),
        ({"from": ["CT"]}, False),
        ({"tags": {"StudyDescription": ["*knie*"]}}, True),
        ({"tags": {"StudyDescription": ["RECHTS"]}}, True),
        ({"tags": {"StudyDescription": ["GROSSES KNIE"]}}, True),
        ({"tags": {"StudyDescription": ["knie"]}}, False),
        ({"tags": {"0008,1030": ["recht?"]}}, True),
        ({"tags": {"0008,1030": ["recht??"]}}, False),
        ({"tags": {"0029,1010": ["a[b]?"]}}, True),
        ({"tags": {"0029,1010": ["[a]*"]}}, False),
        ({"tags": {"ReferencedImageSequence": ["*"]}}, False),
        ({"tags": {"PatientComments": ["*"]}}, False),
        ({"tags": {"StationName": ["*"]}}, False),
        ({"modality": ["CT"], "from": ["CT1"], "tags": {"0008,1030": ["*ß*"]}}, True),
        ({"modality": ["CT"], "from": ["CT2"]}, False),
    ],
)
def test_what_a_route_is_for(route, is_for):
    assert rules.chooses(route, TAGS, FROM_CT) is is_for


@given(value=st.text(max_size=300), pattern=st.text(alphabet="*?a[]\\.^$", max_size=60))
def test_whatever_a_tag_holds_it_is_read_in_no_time(value, pattern):
    tags = {"0008,1030": {"Name": "StudyDescription", "Value": value}}
    rules.chooses({"tags": {"StudyDescription": [pattern or "*"]}}, tags, {})
    assert rules.chooses({"tags": {"StudyDescription": ["*"]}}, tags, {})


@pytest.mark.parametrize("parts", [6, 60])
def test_a_pattern_of_many_parts_is_tried_in_no_time(parts):
    began = time.monotonic()
    assert not rules._fits("a" * 256, "*a" * parts + "b")
    assert rules._fits("a" * 256 + "b", "*a?" * parts + "*b")
    assert time.monotonic() - began < 5


@given(
    value=st.text(alphabet="ab\n", max_size=8),
    pattern=st.text(alphabet="ab*?", max_size=6),
)
def test_a_pattern_means_what_it_means_to_others(value, pattern):
    assert rules._fits(value, pattern) is fnmatch.fnmatchcase(value, pattern)


def test_an_image_came_from_a_target_by_address_and_name():
    target, here = {"AET": "CT1", "Host": "192.0.2.1"}, ["192.0.2.1"]
    assert rules.came_from(FROM_CT, target, here)
    # Each alone may be that of others.
    assert not rules.came_from(FROM_CT, target, ["192.0.2.2"])
    assert not rules.came_from(FROM_CT, {"AET": "CT2"}, here)
    peer = {"Url": "http://192.0.2.1/", "Username": "site"}
    assert rules.came_from({"RemoteIP": "192.0.2.1", "HttpUsername": "site"}, peer, here)
    assert not rules.came_from({"RemoteIP": "192.0.2.1", "HttpUsername": ""}, peer, here)
    assert not rules.came_from({"RemoteIP": "192.0.2.1"}, {"Url": "http://192.0.2.1/"}, here)


def test_pauses_grow_up_to_an_end():
    pauses = [rules.pause(tries) for tries in range(1, 100)]
    assert pauses == sorted(pauses)
    assert (pauses[0], pauses[-1]) == (rules.FIRST, rules.LAST)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ({"Details": "libCURL error: Couldn't connect to server"}, "nothing listens there: lib"),
        ({"Details": "C-STORE SCU to AET has failed with DIMSE status 0xA700"}, "it has no room"),
        ({"Message": "Error in the network protocol"}, "orthanc.check_network may tell why: Err"),
        ({"Message": "Anything else"}, "Anything else"),
        (None, "HTTP 500"),
    ],
)
def test_why_it_was_not_sent_is_said_in_plain_words(answer, words):
    assert rules.reason(500, answer).startswith(words)


class Target:
    """Where images are sent: it has them, refuses some, or is away."""

    def __init__(self, name: str) -> None:
        self.name, self.has, self.refuses, self.away = name, [], set(), False


class Orthanc:
    """What the modules know of an Orthanc, and the moments in which all may end."""

    def __init__(self, *targets: Target) -> None:
        self.targets = {target.name: target for target in targets}
        self.images: dict = {}
        self.changes: list = []
        self.seq, self.clock, self.dies_in = 0, 0, -1

    def store(self, identifier: str, metadata=None) -> None:
        self.clock += 1
        self.seq += 1
        date = f"20261130T{self.clock // 3600:02}{self.clock // 60 % 60:02}{self.clock % 60:02}"
        self.images[identifier] = {"ReceptionDate": date, **(metadata or {})}
        self.changes.append(
            {"Seq": self.seq, "ID": identifier, "Date": date, "ChangeType": "NewInstance"}
        )

    def delete(self, identifier: str) -> None:
        self.images.pop(identifier, None)
        self.changes = [one for one in self.changes if one["ID"] != identifier]

    def moment(self) -> None:
        if self.dies_in == 0:
            raise KeyboardInterrupt
        self.dies_in -= 1

    def __call__(self, method, path, data=None, patience=60):
        self.moment()
        code, found = self.answer(path, data)
        # What is done is done, also where nobody hears of it.
        self.moment()
        return code, found

    def answer(self, path: str, data):
        kind, *parts = path.split("?", maxsplit=1)[0].split("/")[1:]
        if kind == "changes":
            return 200, self.changed(path)
        known = self.images.get(parts[0]) if parts else None
        found = {
            # Each image is its own study.
            "studies": {"LastUpdate": known and known["ReceptionDate"], "Series": parts},
            "series": {"Instances": parts},
            "instances": known,
        }
        if kind in found:
            return (
                (200, found[kind]) if known else (404, None) if parts else (200, list(self.images))
            )
        return self.sends(self.targets[parts[0]], parts[1], data) if parts else (200, {})

    def changed(self, path: str) -> dict:
        if path == "/changes?last":
            return {"Changes": self.changes[-1:], "Last": self.seq}
        since = int(path.split("since=")[1].split("&", maxsplit=1)[0])
        found = [one for one in self.changes if one["Seq"] > since]
        return {"Changes": found[:3], "Done": len(found) <= 3, "Last": self.seq}

    def sends(self, target: Target, word: str, data) -> tuple:
        if word in ("system", "echo", "get"):
            return (500, {}) if target.away else (200, {})
        for identifier in data["Resources"]:
            if identifier not in self.images:
                return 404, {"Message": "Unknown resource"}
            if target.away or identifier in target.refuses:
                return 500, {"Details": "Connection refused" if target.away else "status 0xA700"}
            target.has.append(identifier)
        return 200, {}


ROUTE = {"kind": "peers", "when": "at_once", "keep_trying": 10**6}


def name(number: int) -> str:
    return "-".join([f"{number:08x}"] * 5)


@pytest.fixture
def clock(monkeypatch):
    """A clock that only goes on when it is told."""
    now = [10**9]
    for module in (queue_of, delivery):
        monkeypatch.setattr(module.time, "time", lambda: now[0])
    return now


def turn(folder, orthanc, routes) -> None:
    """One turn of all threads."""
    with queue_of.opened(str(folder)) as queue:
        step = queue.step

        @contextlib.contextmanager
        def stepping():
            orthanc.moment()
            with step():
                yield
            orthanc.moment()

        queue.step = stepping
        while intake.look(queue, routes, orthanc):
            pass
        for one, route in routes.items():
            delivery.send(queue, one, route, orthanc)


EVENTS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["store"] * 4), st.integers(0, 15)),
        st.tuples(st.just("delete"), st.integers(0, 15)),
        st.tuples(st.sampled_from(["away", "back"]), st.integers(0, 1)),
        st.tuples(st.just("turn"), st.integers(-1, 30)),
        st.tuples(st.sampled_from(["forget", "renumber"]), st.just(0)),
    ),
    max_size=25,
)


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(events=EVENTS)
def test_nothing_is_lost_or_sent_twice_whatever_happens(events, tmp_path_factory, clock):
    folder = tmp_path_factory.mktemp("queue")
    targets = [Target("one"), Target("two")]
    orthanc = Orthanc(*targets)
    routes = {target.name: {**ROUTE, "to": target.name} for target in targets}
    turn(folder, orthanc, routes)
    stored, deleted, killed = set(), set(), 0
    for what, number in events:
        clock[0] += 100
        if what == "store" and name(number) not in orthanc.images:
            orthanc.store(name(number))
            stored.add(name(number))
        elif what == "delete":
            orthanc.delete(name(number))
            deleted.add(name(number))
        elif what in ("away", "back"):
            targets[number].away = what == "away"
        elif what == "forget":
            orthanc.changes = []
        elif what == "renumber":
            # As an index that was moved.
            orthanc.seq = 0
            for change in orthanc.changes:
                orthanc.seq += 1
                change["Seq"] = orthanc.seq
        elif what == "turn":
            orthanc.dies_in = number
            # The process is ended at any of its steps, with what it has not committed.
            with contextlib.suppress(KeyboardInterrupt):
                turn(folder, orthanc, routes)
            killed += orthanc.dies_in == 0
            orthanc.dies_in = -1
    for target in targets:
        target.away = False
    for _ in range(40):
        clock[0] += 1000
        turn(folder, orthanc, routes)
    for target in targets:
        assert stored - deleted <= set(target.has)
        # Twice only what was under way when all ended.
        assert len(target.has) - len(set(target.has)) <= killed * delivery.TOGETHER
        if not killed:
            assert len(target.has) == len(set(target.has))
    with queue_of.opened(str(folder)) as queue:
        assert all(queue.figures(one)["waiting"] == 0 for one in routes)


@pytest.mark.parametrize("forgets", [False, True])
def test_it_may_end_at_each_moment(tmp_path, clock, forgets):
    """Each of them once, also while images are looked for because the changes are gone."""
    for moment in itertools.count():
        folder, target = tmp_path / str(moment), Target("one")
        folder.mkdir()
        orthanc, routes = Orthanc(target), {"one": {**ROUTE, "to": "one"}}
        orthanc.store(name(0))
        turn(folder, orthanc, routes)
        for number in range(1, 6):
            orthanc.store(name(number))
        if forgets:
            orthanc.changes = []
        orthanc.dies_in = moment
        with contextlib.suppress(KeyboardInterrupt):
            turn(folder, orthanc, routes)
        ended, orthanc.dies_in = orthanc.dies_in == 0, -1
        for _ in range(3):
            clock[0] += 10
            turn(folder, orthanc, routes)
        wanted = {name(number) for number in range(1, 6)}
        # The first one came before the route, in the hour that is looked through again.
        assert wanted <= set(target.has) <= wanted | ({name(0)} if forgets else set())
        if not ended:
            assert moment > 20
            break


@given(edges=st.sets(st.tuples(st.integers(0, 3), st.integers(0, 3)), max_size=12))
@settings(
    max_examples=20,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_no_routes_between_sites_make_a_loop(edges, tmp_path_factory, clock):
    """Each has what comes again for new, as with OverwriteInstances."""
    sites = [Orthanc() for _ in range(4)]
    for number, site in enumerate(sites):
        for there in {to for of, to in edges if of == number}:
            target = Target(str(there))
            target.has = Arriving(sites[there])
            site.targets[str(there)] = target
    folders = [tmp_path_factory.mktemp("site") for _ in sites]
    routes = [{to: {**ROUTE, "to": to} for to in site.targets} for site in sites]
    for folder, site, own in zip(folders, sites, routes):
        turn(folder, site, own)
    sites[0].store(name(7))
    for _ in range(12):
        clock[0] += 10
        for folder, site, own in zip(folders, sites, routes):
            turn(folder, site, own)
    reached, more = {0}, True
    while more:
        more = {to for of, to in edges if of in reached} - reached
        reached |= more
    for number, site in enumerate(sites):
        assert (name(7) in site.images) is (number in reached)
    sent = sum(target.has.count for site in sites for target in site.targets.values())
    assert sent == len({(of, to) for of, to in edges if of in reached})


class Arriving:
    """What a site gets."""

    def __init__(self, site: Orthanc) -> None:
        self.site, self.count = site, 0

    def append(self, identifier: str) -> None:
        self.count += 1
        self.site.delete(identifier)
        self.site.store(identifier)


@pytest.fixture
def one(tmp_path, clock):
    """A target with one route to it, and a function that lets seconds go by, and all work."""
    target = Target("one")
    orthanc, routes = Orthanc(target), {"one": {**ROUTE, "to": "one", "keep_trying": 3600}}
    orthanc.target, orthanc.folder = target, tmp_path

    def work(seconds: int = 1, times: int = 1) -> dict:
        for _ in range(times):
            clock[0] += seconds
            turn(tmp_path, orthanc, routes)
        with queue_of.opened(str(tmp_path)) as queue:
            return queue.figures("one")

    orthanc.work = work
    work()
    return orthanc


def test_what_is_refused_holds_up_nobody_and_is_given_up_in_the_end(one):
    bad, good = [name(n) for n in range(20)], [name(n) for n in range(20, 90)]
    one.target.refuses = set(bad)
    for identifier in bad + good:
        one.store(identifier)
    found = one.work(1, 40)
    assert sorted(one.target.has) == good
    assert found["waiting"] == 20
    one.store(name(999))
    one.work(1, 3)
    assert name(999) in one.target.has
    found = one.work(100, 200)
    assert (found["waiting"], found["failed"]) == (0, 20)
    assert found["why"] == ["it has no room, or takes nothing now: status 0xA700 (20)"]
    with queue_of.opened(str(one.folder)) as queue:
        queue.retry()
    one.target.refuses = set()
    assert one.work(1, 10)["failed"] == 0
    assert set(bad) <= set(one.target.has)


def test_a_target_that_is_away_is_waited_for_and_given_up_in_the_end(one):
    one.target.away = True
    images = [name(n) for n in range(300)]
    for identifier in images:
        one.store(identifier)
    assert one.work(30, 60)["waiting"] == 300
    one.target.away = False
    one.work(60, 8)
    assert sorted(one.target.has) == images
    one.target.away = True
    one.store(name(999))
    found = one.work(60, 70)
    assert (found["waiting"], found["failed"]) == (0, 1)
    assert "nothing listens there" in found["why"][0]


def test_what_was_deleted_is_told_for_a_day_and_may_come_again(one):
    one.target.away = True
    one.store(name(1))
    one.store(name(2))
    one.work()
    one.delete(name(1))
    one.delete(name(2))
    one.target.away = False
    found = one.work(60, 6)
    assert (found["waiting"], found["failed"], found["deleted"]) == (0, 0, 2)
    one.store(name(2))
    found = one.work(60, 3)
    assert one.target.has == [name(2)]
    assert found["deleted"] == 1
    assert one.work(90000)["deleted"] == 0


def test_what_comes_from_a_target_is_not_sent_back(one):
    target = {"Url": "http://192.0.2.1:8042/", "Username": "site"}
    answer = one.answer
    one.answer = lambda path, data: (
        (200, {"one": target}) if path == "/peers?expand" else answer(path, data)
    )
    one.store(name(1), {"RemoteIP": "192.0.2.1", "HttpUsername": "site"})
    one.store(name(2), {"RemoteIP": "192.0.2.1", "HttpUsername": "other"})
    one.work(1, 3)
    assert one.target.has == [name(2)]


def test_a_study_is_waited_for_until_it_is_stable(tmp_path, clock):
    target, stable = Target("one"), [False]
    orthanc, routes = Orthanc(target), {"one": {**ROUTE, "to": "one", "when": "stable"}}
    answer = orthanc.answer

    def answers(path, data):
        if path.endswith("/study"):
            return 200, {"ID": name(77)}
        if path == f"/studies/{name(77)}":
            return 200, {"IsStable": stable[0]}
        return answer(path, data)

    orthanc.answer = answers
    turn(tmp_path, orthanc, routes)
    for number in (1, 2):
        orthanc.store(name(number))
        clock[0] += 10
        turn(tmp_path, orthanc, routes)
    assert target.has == []
    stable[0] = True
    clock[0] += 10
    turn(tmp_path, orthanc, routes)
    assert target.has == [name(1), name(2)]


def test_what_orthanc_cannot_read_holds_up_nobody(one):
    answer = one.answer
    one.answer = lambda path, data: (
        (500, {}) if path == f"/instances/{name(1)}/metadata?expand" else answer(path, data)
    )
    one.store(name(1))
    one.store(name(2))
    found = one.work(1, 3)
    assert one.target.has == [name(2)]
    assert found["why"] == [f"{delivery.UNREADABLE} (1)"]
    one.answer = answer
    one.work(10, 3)
    assert one.target.has == [name(2), name(1)]


def test_an_orthanc_that_says_nothing_changes_nothing(one):
    one.store(name(1))
    for code in (0, 401, 500, 503):
        one.answer, answer = lambda path, data, code=code: (code, None), one.answer
        with pytest.raises(CommandExecutionError):
            one.work()
        one.answer = answer
    one.work()
    assert one.target.has == [name(1)]


def test_a_change_that_comes_late_is_not_passed_over(one, clock):
    clock[0] = calendar.timegm((2026, 11, 30, 0, 0, 0))
    one.store(name(1))
    one.seq += 1
    one.store(name(3))
    one.work(1)
    assert one.target.has == [name(1)]
    one.images[name(2)] = {"ReceptionDate": one.images[name(3)]["ReceptionDate"]}
    one.changes.insert(-1, {**one.changes[-1], "ID": name(2), "Seq": one.seq - 1})
    one.work(1, 2)
    assert sorted(one.target.has) == [name(1), name(2), name(3)]
    # One that never comes is waited for only for a while.
    one.seq += 1
    one.store(name(4))
    one.work(10, 2)
    assert name(4) in one.target.has


def test_a_clock_that_is_put_back_holds_up_nothing(one, clock):
    one.target.refuses = {name(1)}
    one.store(name(1))
    one.work()
    clock[0] -= 10**8
    one.target.refuses = set()
    one.work(1, 3)
    assert one.target.has == [name(1)]


def test_a_disk_that_is_full_loses_nothing(one):
    one.store(name(1))
    with queue_of.opened(str(one.folder)) as queue:
        queue.base.execute("PRAGMA max_page_count = 1")
        for number in itertools.count(2):
            one.store(name(number))
            try:
                intake.look(queue, {f"{n}" * 500: {**ROUTE, "to": "one"} for n in range(9)}, one)
            except sqlite3.OperationalError as err:
                assert "full" in str(err)
                break
    one.work(1, 10)
    assert set(one.target.has) == set(one.images)


def test_a_name_may_be_any(tmp_path, clock):
    target = Target("one")
    orthanc, routes = Orthanc(target), {"a' OR 1; --\n ☃": {**ROUTE, "to": "one"}}
    turn(tmp_path, orthanc, routes)
    orthanc.store(name(1))
    turn(tmp_path, orthanc, routes)
    assert target.has == [name(1)]


class Job(Orthanc):
    """An Orthanc whose DICOMweb has each job wait behind others."""

    def answer(self, path: str, data):
        if path.endswith("/stow"):
            # What is asked to wait for such a job breaks off.
            assert data["Synchronous"] is False
            self.jobs = [*getattr(self, "jobs", ()), data]
            return 200, {"ID": str(len(self.jobs) - 1)}
        if not path.startswith("/jobs/"):
            return super().answer(path.replace("/dicom-web", ""), data)
        number = int(path.rpartition("/")[2])
        looked = self.jobs[number]["looked"] = self.jobs[number].get("looked", 0) + 1
        if looked < 4:
            return 200, {"State": "Pending" if looked < 3 else "Running"}
        (target,) = self.targets.values()
        code, found = self.sends(target, "stow", self.jobs[number])
        words = (
            {"ErrorDescription": "Success"} if code == 200 else {"ErrorDetails": found["Details"]}
        )
        return 200, {"State": "Success" if code == 200 else "Failure", **words}


def test_over_dicomweb_a_job_that_comes_behind_others_is_waited_for(tmp_path, clock, monkeypatch):
    monkeypatch.setattr(delivery, "LOOK", 0)
    target = Target("one")
    orthanc = Job(target)
    routes = {"one": {**ROUTE, "to": "one", "kind": "servers", "web": "/dicom-web"}}
    turn(tmp_path, orthanc, routes)
    target.refuses = {name(0)}
    for number in range(3):
        orthanc.store(name(number))
    for _ in range(3):
        clock[0] += 1
        turn(tmp_path, orthanc, routes)
    assert sorted(target.has) == [name(1), name(2)]
    with queue_of.opened(str(tmp_path)) as queue:
        found = queue.figures("one")
    assert (found["waiting"], found["why"][0]) == (
        1,
        "it has no room, or takes nothing now: status 0xA700 (1)",
    )


def test_what_is_no_peer_is_sent_nothing(one, monkeypatch):
    """Orthanc would take its answer for that of a peer, and the images for sent."""
    answer, url = one.answer, "https://peer.example.org/"
    one.answer = lambda path, data: (
        (200, {"one": {"Url": url}}) if path == "/peers?expand" else answer(path, data)
    )
    said = ["another program"]
    monkeypatch.setitem(
        delivery.__salt__, "orthanc_http.stranger", lambda asked: said[0] * (asked == url)
    )
    one.store(name(1))
    one.store(name(2))
    found = one.work(60, 20)
    assert (one.target.has, found["waiting"], found["why"]) == ([], 2, [])
    with queue_of.opened(str(one.folder)) as queue:
        assert queue.note(delivery.failing("one"))["why"] == said[0]
    said[0] = ""
    assert one.work(60, 3)["waiting"] == 0
    assert sorted(one.target.has) == [name(1), name(2)]


def test_one_that_is_silent_is_asked_rather_than_sent_to(one):
    """A job that waits for it would keep those of others from being done."""
    one.target.away = True
    one.store(name(1))
    asked = collections.Counter()
    call = one.sends
    one.sends = lambda target, word, data: (asked.update([word]), call(target, word, data))[1]
    one.work(60, 70)
    assert 8 <= asked["store"] <= 12
    assert asked["system"] >= 60


@pytest.mark.parametrize("again", [False, True])
def test_a_restored_server_goes_on_where_the_backup_was(tmp_path, one, clock, again):
    """Nothing is lost that was not sent yet, and what was is not sent anew."""
    sent, waits, later = name(1), name(2), name(3)
    one.store(sent)
    one.work(1, 3)
    one.target.away = True
    one.store(waits)
    one.work(1)
    place, new = tmp_path / "aside", tmp_path / "new"
    place.mkdir()
    assert queue_of.saved(str(place), str(one.folder)) == ""
    one.store(later)
    routes = {"one": {**ROUTE, "to": "one"}}
    # The formula was applied there, to a server without an image.
    new.mkdir()
    turn(new, Orthanc(), routes)
    for _ in range(1 + again):
        queue_of.take_back(str(place), str(new))
    one.target.away, one.target.has = False, []
    for _ in range(4):
        clock[0] += 100
        turn(new, one, routes)
    assert sorted(one.target.has) == [waits, later]
    # What was noted later is not taken back.
    queue_of.take_back(str(place), str(new))
    with queue_of.opened(str(new)) as queue:
        assert queue.figures("one")["waiting"] == 0
        assert queue.note(intake.PLACE)["id"] == later


def test_a_queue_that_cannot_be_copied_is_said_and_one_that_cannot_be_read_is_left_out(
    tmp_path, monkeypatch
):
    assert queue_of.saved(str(tmp_path), str(tmp_path / "none")) == ""
    queue_of.take_back(str(tmp_path), str(tmp_path / "none"))
    assert list(tmp_path.iterdir()) == []
    (tmp_path / queue_of.FILE).write_text("rubbish" * 1000)
    assert "is not in it" in queue_of.saved(str(tmp_path), str(tmp_path))
    (tmp_path / queue_of.COPY).write_text("rubbish" * 1000)
    said = []
    monkeypatch.setattr(queue_of.log, "error", lambda words, err: said.append(words % err))
    queue_of.take_back(str(tmp_path), str(tmp_path / "new"))
    assert "is not taken out of the backup: file is not a database" in said[0]
    with queue_of.opened(str(tmp_path / "new")) as queue:
        assert queue.total() == 0


def test_what_comes_before_the_service_has_begun_is_for_the_routes(tmp_path, clock):
    target = Target("one")
    orthanc, routes = Orthanc(target), {"one": {**ROUTE, "to": "one"}}
    orthanc.store(name(1))
    for number in (2, 3):
        with queue_of.opened(str(tmp_path)) as queue:
            intake.begin(queue, orthanc)
        orthanc.store(name(number))
    turn(tmp_path, orthanc, routes)
    assert target.has == [name(2), name(3)]
