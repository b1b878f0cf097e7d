"""Which studies are old enough to go, and what the log says of them."""

import datetime
import json
import os
import pwd
import resource
import socket
import time

import orthanc_http
import orthanc_retention
import orthanc_retention_log
import orthanc_retention_rules as rules
import pytest
from salt.exceptions import CommandExecutionError

TODAY = datetime.date(2026, 11, 30)
TEN_YEARS = {"older_than": "10 years", "by": "study_date"}
MONTH = {"older_than": "30 days", "by": "received"}


def study(date="20100102", received="20240101T120000", parts=(("CT", "CT1"),), **other):
    """A study, by default an old one of one series."""
    known = {"StudyDate": date, "received": received, "parts": list(parts), "dates": []}
    return {**known, "protected": False, "patient": "p", "instances": 1, "bytes": 10, **other}


def outcome(one, *given, today=TODAY, proven=None):
    """Why a study stays, or that it is due."""
    due, held = rules.decide({"s": one}, list(given), today, proven)
    assert len(due) + sum(held.values()) == 1
    return "due" if due else next(iter(held))


@pytest.mark.parametrize(
    ("date", "age", "today", "is_due"),
    [
        ("20161129", "10 years", (2026, 11, 30), True),
        ("20161130", "10 years", (2026, 11, 30), False),
        ("20161201", "10 years", (2026, 11, 30), False),
        # Born on a 29 February: a year more, and no day less.
        ("20160229", "10 years", (2026, 2, 28), False),
        ("20160229", "10 years", (2026, 3, 1), False),
        ("20160229", "10 years", (2026, 3, 2), True),
        ("20160229", "4 years", (2020, 2, 29), False),
        ("20160229", "4 years", (2020, 3, 1), True),
        ("20160301", "10 years", (2026, 3, 1), False),
        ("20160228", "4 years", (2020, 2, 29), True),
        ("20251130", "1 year", (2026, 11, 30), False),
        ("20251129", "1 year", (2026, 11, 30), True),
        ("20261129", "1 day", (2026, 11, 30), False),
        ("20261128", "1 day", (2026, 11, 30), True),
        ("20251025", "400 days", (2026, 11, 30), True),
        ("20251026", "400 days", (2026, 11, 30), False),
        ("19100101", "999 years", (2026, 11, 30), False),
        ("19100101", "99999 days", (9999, 12, 31), True),
        ("20100102", "never", (9999, 12, 31), False),
    ],
)
def test_years_are_those_of_the_calendar(date, age, today, is_due):
    rule = {"older_than": age, "by": "study_date"}
    found = outcome(study(date), rule, today=datetime.date(*today))
    assert found == ("due" if is_due else rules.YOUNG)


@pytest.mark.parametrize(
    ("date", "why"),
    [
        *((date, rules.NO_DATE) for date in ("", "2010", "20101301", "20100230", "2010.01.02")),
        *(
            (date, rules.NO_DATE)
            for date in ("99999999", "00000000", "2010010x", "201001021", "2010112")
        ),
        *((date, rules.FUTURE) for date in ("20261202", "20991231", "99991231")),
        *((date, rules.UNLIKELY) for date in ("00010101", "19000101", "19700101", "20000101")),
        ("18950101", rules.UNLIKELY),
        ("20000102", "due"),
        # A device in a time zone where it is tomorrow already.
        ("20261201", rules.YOUNG),
    ],
)
def test_a_date_that_is_none_lets_nothing_go(date, why):
    assert outcome(study(date), TEN_YEARS) == why


@pytest.mark.parametrize(
    ("dates", "why"),
    [
        ([], "due"),
        (["20100103", "20110102"], "due"),
        (["20240102"], rules.YOUNG),
        (["20100102", "20240102"], rules.YOUNG),
        (["20991231"], rules.FUTURE),
        (["unknown"], rules.NO_DATE),
        (["19000101"], "due"),
    ],
)
def test_a_study_is_as_old_as_its_newest_series(dates, why):
    assert outcome(study(dates=dates), TEN_YEARS) == why


@pytest.mark.parametrize(
    ("received", "date", "why"),
    [
        ("20261030T235959", "20100102", "due"),
        ("20261031T000000", "20100102", rules.YOUNG),
        ("20261130T000000", "20100102", rules.YOUNG),
        # Without a date of its own, or one that counts.
        ("20261030T235959", "", "due"),
        ("20261030T235959", "19700101", "due"),
        ("", "20100102", rules.NOT_RECEIVED),
        ("yesterday", "20100102", rules.NOT_RECEIVED),
        # Clocks that were wrong when it was received.
        ("19700101T000010", "20100102", rules.NOT_RECEIVED),
        ("20120101T000000", "20240102", rules.NOT_RECEIVED),
        ("20130101T000000", "20240102", rules.TOO_EARLY),
        ("20240101T230000", "20240102", "due"),
        ("20991231T000000", "20100102", rules.FUTURE),
    ],
)
def test_what_was_received_counts_by_its_last_image(received, date, why):
    assert outcome(study(date, received), MONTH) == why


US_5 = {"modality": ["US", "CR"], "older_than": "5 years", "by": "study_date"}
MG_20 = {"modality": ["MG"], "older_than": "20 years", "by": "study_date"}
CT1_5 = {"aet": ["CT1"], "older_than": "5 years", "by": "study_date"}
BOTH = {"modality": ["CT"], "aet": ["CT1"], "older_than": "5 years", "by": "study_date"}


@pytest.mark.parametrize(
    ("parts", "given", "why"),
    [
        ([("US", "")], [US_5], "due"),
        ([("US", ""), ("CR", "X")], [US_5], "due"),
        ([("MR", "")], [US_5], rules.NO_RULE),
        ([("", "")], [US_5], rules.NO_RULE),
        ([("us", "")], [US_5], "due"),
        # As of a device that keeps to no rules: it is not for the ones behind.
        ([("mg", "")], [MG_20, TEN_YEARS], rules.YOUNG),
        ([("US", ""), ("SR", "")], [US_5], rules.PARTLY),
        ([("US", ""), ("", "")], [US_5], rules.PARTLY),
        ([("US", "CT1")], [CT1_5], "due"),
        ([("US", "ct1")], [CT1_5], rules.NO_RULE),
        # Over HTTP nobody has a title.
        ([("CT", "")], [CT1_5], rules.NO_RULE),
        ([("CT", "CT1"), ("CT", "")], [CT1_5], rules.PARTLY),
        ([("CT", "CT1")], [BOTH], "due"),
        ([("CT", "CT2")], [BOTH], rules.NO_RULE),
        ([("MR", "CT1")], [BOTH], rules.NO_RULE),
        # A mixed one goes when the rules of all of its series let it.
        ([("MG", "")], [MG_20, TEN_YEARS], rules.YOUNG),
        ([("MG", ""), ("US", "")], [MG_20, TEN_YEARS], rules.YOUNG),
        ([("US", "")], [MG_20, TEN_YEARS], "due"),
        ([("CT", "")], [MG_20], rules.NO_RULE),
        # The first one that fits, whatever comes behind it.
        (
            [("CT", "")],
            [{**TEN_YEARS, "modality": ["CT"], "older_than": "never"}, TEN_YEARS],
            "young",
        ),
        ([("CT", "")], [TEN_YEARS, {**TEN_YEARS, "older_than": "never"}], "due"),
        ([], [TEN_YEARS], rules.NO_RULE),
        ([("CT", "")], [], rules.NO_RULE),
    ],
)
def test_each_series_is_judged_by_the_first_rule_for_it(parts, given, why):
    why = rules.YOUNG if why == "young" else why
    assert outcome(study("20100102", parts=parts), *given) == why


def test_rules_by_both_dates_have_both_to_agree():
    given = [{**MONTH, "modality": ["US"]}, TEN_YEARS]
    mixed = [("US", ""), ("CT", "")]
    assert outcome(study(parts=mixed), *given) == "due"
    assert outcome(study(received="20261129T000000", parts=mixed), *given) == rules.YOUNG
    assert outcome(study("20200102", parts=mixed), *given) == rules.YOUNG
    assert outcome(study("", parts=mixed), *given) == rules.NO_DATE
    assert outcome(study("", "20261129T000000", parts=mixed), *given) == rules.YOUNG
    assert outcome(study("", "20261129T000000", parts=mixed), *given[::-1]) == rules.NO_DATE
    given = [{**TEN_YEARS, "modality": ["US"]}, MONTH]
    assert outcome(study("", "20261129T000000", parts=mixed), *given) == rules.YOUNG


@pytest.mark.parametrize(
    ("proven", "why"),
    [({"s", "t"}, "due"), ({"t"}, rules.NOT_PROVEN), (set(), rules.NOT_PROVEN), (None, "due")],
)
def test_only_what_is_in_the_proven_backup_goes(proven, why):
    assert outcome(study(), TEN_YEARS, proven=proven) == why
    assert outcome(study("20250102"), TEN_YEARS, proven=proven) == rules.YOUNG
    # Whether images came since could not be told.
    assert outcome(study(received=""), TEN_YEARS, proven=proven) == rules.NOT_RECEIVED


def test_protected_patients_stay():
    assert outcome(study(protected=True), TEN_YEARS) == rules.PROTECTED
    assert outcome(study("20250102", protected=True), TEN_YEARS) == rules.YOUNG


def test_the_oldest_goes_first_and_all_are_counted():
    known = {
        "b": study("20110102", parts=[("US", "")]),
        "a": study("20120102"),
        "c": study("20110102"),
        "young": study("20250102"),
        "none": study(""),
        "protected": study(protected=True),
    }
    due, held = rules.decide(known, [US_5, TEN_YEARS], TODAY)
    assert [one["id"] for one in due] == ["b", "c", "a"]
    assert (due[0]["date"], due[0]["rules"]) == (
        "2011-01-02",
        ["older than 5 years by study_date, modality US, CR"],
    )
    assert held == {rules.YOUNG: 1, rules.NO_DATE: 1, rules.PROTECTED: 1}


NOW = "20261130T033000"


@pytest.mark.parametrize(
    ("newest", "due", "percent", "words"),
    [
        ("20261130T033000", 2, 10, []),
        ("20261130T033001", 2, 10, ["clock of this host"]),
        ("20240101T000000", 3, 10, ["3 of 20 studies are due"]),
        ("20240101T000000", 3, 15, []),
        ("20240101T000000", 20, 100, []),
        ("20270101T000000", 20, 99, ["clock of this host", "20 of 20 studies are due"]),
    ],
)
def test_a_wrong_clock_or_rule_deletes_nothing(newest, due, percent, words):
    known = {str(number): study() for number in range(20)}
    known["7"]["received"] = newest
    found = rules.objections(known, list(range(due)), NOW, percent)
    assert len(found) == len(words)
    assert all(word in sentence for word, sentence in zip(words, found))


def test_an_empty_server_is_no_wrong_one():
    assert rules.decide({}, [TEN_YEARS], TODAY) == ([], {})
    assert rules.objections({}, [], NOW, 1) == []


def test_the_log_tells_what_is_not_settled(tmp_path):
    path, write = str(tmp_path / "log"), orthanc_retention_log.write
    nothing = {"unsettled": {}, "runs": 0, "last": {}, "killed": False}
    assert orthanc_retention_log.read(path) == nothing
    for study_of, end in (("a", "deleted"), ("b", "kept"), ("c", None)):
        write(path, "deleting", study=study_of, AccessionNumber="Ä|1")
        if end:
            write(path, end, study=study_of)
    found = orthanc_retention_log.read(path)
    assert list(found["unsettled"]) == ["c"]
    assert found["unsettled"]["c"]["AccessionNumber"] == "Ä|1"
    assert found["killed"]
    write(path, "run", error="why", deleted=1)
    found = orthanc_retention_log.read(path)
    assert (found["runs"], found["killed"], found["last"]["error"]) == (1, False, "why")
    assert (tmp_path / "log").stat().st_mode & 0o777 == 0o600


def test_a_line_that_was_cut_off_spoils_no_other(tmp_path):
    path = tmp_path / "log"
    orthanc_retention_log.write(str(path), "deleting", study="a")
    path.write_text(path.read_text() + '{"time": "2026')
    orthanc_retention_log.write(str(path), "deleted", study="a")
    assert orthanc_retention_log.read(str(path))["unsettled"] == {}
    assert [line[:9] for line in path.read_text().splitlines()] == ['{"time": '] * 3


def test_the_log_is_no_link_of_somebody_elses(tmp_path):
    (tmp_path / "log").symlink_to(tmp_path / "other")
    with pytest.raises(OSError, match="symbolic"):
        orthanc_retention_log.write(str(tmp_path / "log"), "run")


def test_nothing_is_asked_for_that_the_log_has_no_room_for(tmp_path):
    """As where the disk becomes full in the middle of a line."""
    path = str(tmp_path / "log")
    orthanc_retention_log.write(path, "deleting", study="a")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (os.path.getsize(path) + 20, before[1]))
    try:
        with pytest.raises(OSError, match="No space left"):
            orthanc_retention_log.write(path, "deleting", study="b")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(orthanc_retention_log.read(path)["unsettled"]) == ["a"]


def test_nothing_that_a_device_sends_ends_a_line_or_a_run(tmp_path):
    path, hostile = tmp_path / "log", 'A"\n{"event":"deleted"}\r\u2028\x9b2J\ud800'
    orthanc_retention_log.write(str(path), "deleting", study="a", AccessionNumber=hostile)
    assert path.read_bytes().isascii()
    found = orthanc_retention_log.read(str(path))["unsettled"]
    assert found["a"]["AccessionNumber"] == hostile
    assert len(path.read_text().splitlines()) == 1


@pytest.fixture
def host(tmp_path, monkeypatch):
    """A host with rules and a log, whose Orthanc answers what a test says."""
    job = {"rules": [TEN_YEARS], "dry_run": False, "hours": 3, "rate": 1000, "max_percent": 100}
    # There is no account of Orthanc's here, and it does not matter which one it is.
    user = pwd.getpwuid(os.geteuid()).pw_name
    job.update(unproven=True, config=str(tmp_path / "etc"), user=user, group="orthanc")
    (tmp_path / "etc").mkdir()
    users = {"anna": "her word", "rita": "another"}
    (tmp_path / "etc/orthanc.json").write_text(json.dumps({"RegisteredUsers": users}))
    (tmp_path / "job").write_text(json.dumps(job))
    monkeypatch.setattr(orthanc_retention, "JOB", str(tmp_path / "job"))
    monkeypatch.setattr(orthanc_retention, "LOG", str(tmp_path / "log"))
    return tmp_path


@pytest.mark.parametrize(
    ("allowed", "account"),
    [
        ({None: 404, "anna": 404, "rita": 403}, None),
        ({None: 401, "anna": 404, "rita": 403}, ("anna", "her word")),
        ({None: 401, "anna": 403, "rita": 404}, ("rita", "another")),
        ({None: 401, "anna": 403, "rita": 403}, "none of the users"),
        ({None: 403, "anna": 401, "rita": 401}, "none of the users"),
    ],
)
def test_who_may_delete_is_found_by_asking_for_what_is_not_there(
    host, monkeypatch, allowed, account
):
    asked = []

    def ask(url, method, given, timeout):
        asked.append((method, url))
        return allowed[given and given[0]], None

    monkeypatch.setitem(orthanc_retention.__salt__, "orthanc_http.ask", ask)
    job = json.loads((host / "job").read_text())
    if isinstance(account, str):
        with pytest.raises(CommandExecutionError, match=account) as caught:
            orthanc_retention._server(job)
        assert "her word" not in str(caught.value)
    else:
        assert orthanc_retention._server(job) == ("http://127.0.0.1:8042", account)
    assert all("00000000-00000000" in url for _, url in asked)


def test_nobody_but_orthanc_is_told_a_password(host, monkeypatch):
    monkeypatch.setitem(
        orthanc_retention.__salt__, "orthanc_host.holders", lambda port: ["/usr/bin/nc"]
    )
    monkeypatch.setitem(orthanc_retention.__salt__, "orthanc_http.ask", None)
    with pytest.raises(CommandExecutionError, match="is not Orthanc, but /usr/bin/nc"):
        orthanc_retention._server(json.loads((host / "job").read_text()))


def test_a_program_of_that_name_is_not_orthanc_for_all_that(host, monkeypatch):
    """Where Orthanc does not run, each account may listen at its port."""
    salt, listening = orthanc_retention.__salt__, socket.socket()
    with listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        port = listening.getsockname()[1]
        assert salt["orthanc_host.owners"](port) == {os.geteuid()}
    assert salt["orthanc_host.owners"](port) == set()
    monkeypatch.setitem(salt, "orthanc_host.holders", lambda port: ["/home/eve/orthanc"])
    monkeypatch.setitem(salt, "orthanc_host.owners", lambda port: {0, 4711})
    monkeypatch.setitem(salt, "orthanc_http.ask", None)
    with pytest.raises(CommandExecutionError, match="/home/eve/orthanc of the account 4711"):
        orthanc_retention._server(json.loads((host / "job").read_text()))


def test_as_long_as_it_is_dry_nothing_is_asked_of_orthanc(host, monkeypatch):
    (host / "job").write_text(
        (host / "job").read_text().replace('"dry_run": false', '"dry_run": true')
    )
    monkeypatch.setitem(orthanc_retention.__salt__, "orthanc_http.ask", None)
    with pytest.raises(CommandExecutionError, match="dry_run"):
        orthanc_retention.run(str(host / "job"))
    noted = orthanc_retention_log.read(str(host / "log"))
    assert (noted["last"]["deleted"], noted["unsettled"]) == (0, {})
    # Which is no fault of the nights that come.
    job = (host / "job").read_text().replace('"dry_run": true', '"dry_run": false')
    monkeypatch.setattr(orthanc_retention, "_job", lambda: json.loads(job))
    monkeypatch.setattr(orthanc_retention, "JOB", str(host / "job"))
    assert orthanc_retention.warnings() == []


OLD = {**study(), "id": "s", "date": "2010-01-02", "rules": ["r"]}
NOW_THERE = {
    "MainDicomTags": {"StudyDate": "20100102", "StudyInstanceUID": "1.2"},
    **{"LastUpdate": "20240101T120000", "IsStable": True, "ParentPatient": "p"},
}


@pytest.mark.parametrize(
    ("now", "protected", "code", "events"),
    [
        ({}, 0, 200, ["deleting", "deleted"]),
        # Somebody else was faster.
        ({}, 0, 404, ["deleting", "deleted"]),
        (None, 0, 200, []),
        ({}, 0, 500, ["deleting", "kept"]),
        ({}, 1, 200, ["kept"]),
        # Where the server knows no patients.
        ({}, None, 200, ["kept"]),
        ({"IsStable": False}, 0, 200, ["kept"]),
        ({"LastUpdate": "20240101T120001"}, 0, 200, ["kept"]),
        ({"MainDicomTags": {"StudyDate": "20200102"}}, 0, 200, ["kept"]),
        ({"MainDicomTags": {}}, 0, 200, ["kept"]),
        ({"LastUpdate": None}, 0, 200, ["kept"]),
    ],
)
def test_a_study_is_looked_at_again_before_it_goes(host, monkeypatch, now, protected, code, events):
    def ask(url, method, account, timeout=60):
        if method == "DELETE":
            (line,) = (host / "log").read_text().splitlines()
            assert json.loads(line)["event"] == "deleting"
            return code, None
        found = None if now is None else {**NOW_THERE, **now}
        found = protected if url.endswith("/p/protected") else found
        return (404 if found is None else 200), found

    monkeypatch.setitem(orthanc_retention.__salt__, "orthanc_http.ask", ask)
    done = {"deleted": 0, "bytes": 0, "kept": 0, "failed": 0}
    (host / "log").touch()
    orthanc_retention._delete_one(("http://x", None), OLD, done, {})
    assert [json.loads(one)["event"] for one in (host / "log").read_text().splitlines()] == events
    assert done["deleted"] == events.count("deleted")
    assert done["failed"] == (code == 500)


def test_before_each_study_it_is_made_sure_that_it_is_orthanc(host, monkeypatch):
    """Somebody may wait for the moment of a restart, for as long as a night."""
    gone, ids = [], {0}
    plan = {"due": [OLD, OLD], "held": {}, "backup": {}, "reasons": []}
    monkeypatch.setattr(orthanc_retention, "_plan", lambda job: plan)
    monkeypatch.setattr(orthanc_retention, "_server", lambda job: ("http://x", None))
    monkeypatch.setattr(orthanc_retention.time, "sleep", lambda _: ids.add(4711))
    monkeypatch.setattr(orthanc_retention, "_delete_one", lambda *given: gone.append(given))
    monkeypatch.setitem(orthanc_retention.__salt__, "orthanc_host.owners", lambda port: ids)
    with pytest.raises(CommandExecutionError, match=r"is not Orthanc, but .* of the account 4711"):
        orthanc_retention.run(str(host / "job"))
    assert len(gone) == 1


def test_what_is_restored_meanwhile_is_not_deleted_again(host, monkeypatch):
    salt, config = orthanc_retention.__salt__, str(host / "etc")
    plan = {
        "due": [{**OLD, "id": "a"}, {**OLD, "id": "b"}],
        "held": {},
        "backup": {},
        "reasons": [],
    }
    monkeypatch.setattr(orthanc_retention, "_plan", lambda job: plan)
    monkeypatch.setattr(orthanc_retention, "_server", lambda job: ("http://x", None))
    monkeypatch.setattr(orthanc_retention.time, "sleep", lambda _: None)
    gone = []

    def delete(server, study, done, backup):
        gone.append(study["id"])
        salt["orthanc_backup_note.restored"](config)

    monkeypatch.setattr(orthanc_retention, "_delete_one", delete)
    salt["orthanc_backup_note.end"](config, "drill", {"error": None})
    with pytest.raises(CommandExecutionError, match="is restored into the server meanwhile"):
        orthanc_retention.run(str(host / "job"))
    assert gone == ["a"]


@pytest.mark.parametrize(
    ("is_there", "minutes", "events"),
    [(False, 0, ["deleted"]), (True, 0, []), (True, 14, []), (True, 16, ["kept"])],
)
def test_what_became_of_an_interrupted_one_is_looked_up(
    host, monkeypatch, is_there, minutes, events
):
    monkeypatch.setitem(
        orthanc_retention.__salt__,
        "orthanc_http.ask",
        lambda url, method, account: (200, {}) if is_there else (404, None),
    )
    began = orthanc_retention_log.stamp(time.time() - 60 * minutes)
    noted = {"unsettled": {"s": {"time": began}}}
    orthanc_retention._settle(("http://x", None), noted)
    written = (host / "log").read_text().splitlines() if (host / "log").exists() else []
    assert [json.loads(one)["event"] for one in written] == events


def test_who_stands_still_is_not_waited_for_without_end():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        url = f"http://127.0.0.1:{server.getsockname()[1]}/studies"
        with pytest.raises(CommandExecutionError, match=f"no answer at {url}: timed out"):
            orthanc_http.ask(url, timeout=0.2)


@pytest.mark.parametrize(
    ("rate", "took", "hours", "pauses"),
    [
        (10, 1, 3, [5, 5, 5, 5]),
        (10, 0, 3, [6, 6, 6, 6]),
        # A server that is slow is left alone for as long.
        (10, 4, 3, [4, 4, 4, 4]),
        (60, 30, 3, [30, 30, 30, 30]),
        # It is morning.
        (1, 0, 1, [60] * 4),
        (10, 1500, 1, [1500, 1500]),
    ],
)
def test_it_goes_slowly_and_ends_in_time(host, monkeypatch, rate, took, hours, pauses):
    clock, slept, done = [0.0], [], []
    monkeypatch.setattr(orthanc_retention.time, "monotonic", lambda: clock[0])

    def sleep(seconds):
        slept.append(round(seconds, 3))
        clock[0] += seconds

    def delete(server, study, counts, backup):
        done.append(study)
        clock[0] += took

    monkeypatch.setattr(orthanc_retention.time, "sleep", sleep)
    monkeypatch.setattr(orthanc_retention, "_delete_one", delete)
    monkeypatch.setattr(orthanc_retention, "_server", lambda job: ())
    plan = {"due": list("abcd"), "held": {}, "backup": {}, "reasons": []}
    monkeypatch.setattr(orthanc_retention, "_plan", lambda job: plan)
    job = {"dry_run": False, "hours": hours, "rate": rate, "config": str(host / "etc")}
    orthanc_retention._delete(job, {"failed": 0})
    assert slept == pauses
    assert done == list("abcd")[: len(pauses)]


def test_who_does_not_answer_is_named():
    with pytest.raises(
        CommandExecutionError, match=r"no answer at http://127\.0\.0\.1:1/x: .*refused"
    ):
        orthanc_http.ask("http://127.0.0.1:1/x", account=("anna", "her word"))
