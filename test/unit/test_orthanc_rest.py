"""Questions to Orthanc: who asks, and what an answer that is none means."""

import orthanc_ask_rest as people
import orthanc_rest as rest
import pytest
from salt.exceptions import CommandExecutionError, SaltInvocationError

USERS = {"mon": "her word", "anna": "another one"}


@pytest.fixture
def asked(monkeypatch):
    """A function that lets Orthanc give codes, by the account; and the accounts that have asked."""
    told = []

    def let(codes, strangers=frozenset(), users=USERS):
        def ask(url, method, account, timeout, data):
            assert 0 < timeout <= rest.LIMIT
            told.append(account and account[0])
            return codes[told[-1]], {"by": told[-1]}

        monkeypatch.setitem(rest.__salt__, "orthanc_http.ask", ask)
        monkeypatch.setitem(rest.__salt__, "orthanc_host.owners", lambda port: set(strangers))
        options = {"RegisteredUsers": users}
        monkeypatch.setitem(rest.__salt__, "orthanc_folder.effective", lambda config: options)
        return told

    return let


def test_the_first_user_who_may_asks(asked):
    told = asked({None: 401, "mon": 403, "anna": 200})
    assert rest.ask("/x", "GET", "/jobs") == (200, {"by": "anna"})
    assert told == [None, "mon", "anna"]


def test_where_nobody_needs_a_password_none_is_sent(asked):
    told = asked({None: 200})
    assert rest.get("/x", ["/jobs"]) == [{"by": None}]
    assert rest.ask("/x", "GET", "/jobs")[0] == 200
    assert told == [None]


def test_where_nobody_may_it_is_said(asked):
    asked(dict.fromkeys([None, *USERS], 403))
    with pytest.raises(
        CommandExecutionError, match=r"none of the users .* may ask GET /jobs; give"
    ):
        rest.get("/x", ["/jobs"])
    asked({None: 401}, users={})
    with pytest.raises(CommandExecutionError, match="none of the users"):
        rest.get("/x", ["/jobs"])


@pytest.mark.parametrize("code", [401, 200])
def test_nobody_but_orthanc_is_told_a_password_or_believed(asked, code):
    told = asked({None: code}, strangers={4711})
    with pytest.raises(CommandExecutionError, match="is not Orthanc, but"):
        rest.ask("/x", "GET", "/jobs")
    assert told == []


@pytest.mark.parametrize("users", [None, [], ["anna"], "anna", 5, True])
def test_users_that_are_no_mapping_are_none(asked, users):
    asked({None: 401}, users=users)
    assert rest.ask("/x", "GET", "/jobs") == (401, None)


@pytest.mark.parametrize(
    ("path", "good", "bad"),
    [
        ("/system", {"a": 1}, [{}]),
        ("/jobs?expand", [{"ID": 1}, {}], ["x"]),
        ("/jobs?expand", [], {}),
        ("/plugins", ["a"], ["a", {}]),
        ("/plugins", [], [None]),
        ("/peers?expand", {"a": {}}, {"a": 1}),
        ("/dicom-web/servers?expand", {}, ["a"]),
    ],
)
def test_an_answer_of_another_form_makes_no_sense(asked, monkeypatch, path, good, bad):
    asked({None: 200})
    for answer in (good, bad):
        monkeypatch.setitem(rest.__salt__, "orthanc_http.ask", lambda *_, of=answer: (200, of))
        if answer is good:
            assert rest.get("/x", [path]) == [good]
    with pytest.raises(CommandExecutionError, match="makes no sense"):
        rest.get("/x", [path])


def test_jobs_of_which_orthanc_says_little(asked, monkeypatch):
    monkeypatch.setitem(people.__salt__, "orthanc_folder.chosen", lambda config: "/x")
    odd = [{}, {"State": [1], "CreationTime": 5, "Content": 3}, {"State": "Failure"}]
    monkeypatch.setitem(people.__salt__, "orthanc_rest.get", lambda *_: [odd])
    assert people.jobs()["states"] == {"None": 1, "[1]": 1, "Failure": 1}
    assert people.jobs(state="Failure")["list"] == [{"State": "Failure"}]


@pytest.mark.parametrize("answer", [None, 5, "x", True])
def test_an_answer_that_makes_no_sense_is_refused(asked, monkeypatch, answer):
    asked({None: 200})
    monkeypatch.setitem(rest.__salt__, "orthanc_http.ask", lambda *_: (200, answer))
    with pytest.raises(CommandExecutionError, match="answers to GET /jobs makes no sense"):
        rest.get("/x", ["/jobs"])


def test_what_is_not_there_and_what_fails(asked):
    asked({None: 404})
    assert rest.get("/x", ["/dicom-web/servers"]) == [None]
    asked({None: 500})
    with pytest.raises(CommandExecutionError, match=r"Orthanc answers 500 to GET /jobs$"):
        rest.get("/x", ["/jobs"])
    said = {"Message": "Error in the network protocol", "Details": "Connection refused"}
    assert rest.refusal(500, said, "POST /x").endswith("answers 500 to POST /x: Connection refused")
    assert rest.refusal(500, ["x"], "POST /x") == "Orthanc answers 500 to POST /x"


@pytest.mark.parametrize(
    ("known", "shown"),
    [
        ({"Url": "http://anna:secret@peer/x?t=secret", "Password": None}, {"Url": "http://peer/x"}),
        (
            {"Url": "http://a/", "HttpHeaders": {"X": "secret"}, "Timeout": 0},
            {"HttpHeaders": ["X"]},
        ),
        ({"Url": "http://a/", "Username": "u", "Pkcs11": True}, {"Username": "u"}),
        ({}, {"Url": ""}),
    ],
)
def test_nothing_secret_is_shown_of_a_server(known, shown):
    found = people._server(known)
    assert "secret" not in str(found)
    assert found | shown == found


def test_a_job_is_shown_without_the_names_of_patients():
    content = {"Query": [{"0010,0010": "DOE^JANE"}], "RemoteAet": "CT", "Description": "DOE^JANE"}
    job = {"ID": "a", "Type": "DicomMove", "State": "Success", "ErrorDescription": "Success"}
    shown = {"ID": "a", "Type": "DicomMove", "State": "Success", "Progress": 0, "Target": "CT"}
    assert people._job({**job, "Content": content, "Progress": 0}) == shown
    assert people._job({**job, "Content": None, "State": "Retry"})["ErrorDescription"] == "Success"


@pytest.mark.parametrize("value", [0, -1, 100001, True, "5", 2.5, None])
def test_a_limit_that_is_none_is_refused(value):
    with pytest.raises(SaltInvocationError, match="limit must be a whole number"):
        people.jobs(limit=value)


def test_a_state_that_is_none_is_refused():
    with pytest.raises(SaltInvocationError, match="state must be one of Pending, "):
        people.jobs(state="failed")


def test_why_there_is_no_answer_is_what_the_process_tells(asked, monkeypatch):
    monkeypatch.setitem(rest.__salt__, "orthanc_inquiry.ask", lambda *_: {})
    trouble = ["Orthanc does not run", ""]
    monkeypatch.setitem(rest.__salt__, "orthanc_server.trouble", lambda: trouble.pop(0))
    with pytest.raises(CommandExecutionError, match="Orthanc does not run"):
        rest.get("/x", ["/system"])
    with pytest.raises(CommandExecutionError, match="no answer within"):
        rest.get("/x", ["/system"])
