"""Whom Orthanc reaches, and why not."""

import json

import orthanc_ask_network as people
import orthanc_reach as reach
import pytest
from salt.exceptions import SaltInvocationError


@pytest.mark.parametrize("value", [0, -1, 61, True, "5", 2.5, None])
@pytest.mark.parametrize("ask", [lambda t: people.echo("ct", timeout=t), people.check_network])
def test_a_number_that_is_none_is_refused(ask, value):
    with pytest.raises(SaltInvocationError, match="timeout must be a whole number from 1 to 60"):
        ask(value)


@pytest.mark.parametrize(
    ("section", "root"),
    [
        ({"Root": "/web/"}, "/web"),
        ({"Root": "web"}, "/web"),
        ({"Root": "/"}, "/dicom-web"),
        ({}, "/dicom-web"),
        ("x", "/dicom-web"),
    ],
)
def test_where_dicomweb_is(section, root):
    assert reach.dicomweb({"DicomWeb": section}) == root


@pytest.mark.parametrize(
    ("url", "host", "port", "tls"),
    [
        ("http://a/x/", "a", 80, False),
        ("https://a", "a", 443, True),
        ("https://[::1]:8/", "::1", 8, True),
        ("a:8042", "a", 8042, False),
        ("http://a:99999/", None, None, None),
        ("ftp://a/", None, None, None),
        ("", None, None, None),
        ("http://[/", None, None, None),
    ],
)
def test_the_way_to_a_web_server(url, host, port, tls):
    found = reach._web(url, {}, {})
    told = found and (found["host"], found["port"], found["tls"] is not None)
    assert told == ((host, port, tls) if host else None)


def test_where_orthanc_goes_another_way_nothing_is_told_of_this_one():
    assert reach._web("http://a/", {}, {"HttpProxy": "proxy:3128"}) is None
    assert reach._web("https://a/", {"CertificateFile": "/x"}, {}) is None


@pytest.mark.parametrize(
    ("answers", "verdict", "code"),
    [
        ([True, True], "ok", 0),
        ([], "ok", 0),
        ([True, False], "warning", 1),
        ([False], "critical", 2),
    ],
)
def test_the_verdict(monkeypatch, answers, verdict, code):
    row = {"name": "ct", "kind": "modality", "address": "CT at ct:104"}
    rows = [{**row, "answers": one, **({} if one else {"why": "it is away"})} for one in answers]
    known = {
        "orthanc_folder.chosen": lambda config: "/x",
        "orthanc_reach.targets": lambda config: rows,
        "orthanc_reach.ask_all": lambda config, asked, timeout: asked,
    }
    for name, function in known.items():
        monkeypatch.setitem(people.__salt__, name, function)
    found = people.check_network()
    assert (found["verdict"], people.__context__["retcode"]) == (verdict, code)
    assert found["reasons"] == ["modality ct: it is away"] * answers.count(False)
    json.dumps(found)


def test_a_peer_that_is_none_or_is_silent_is_not_asked_by_orthanc(monkeypatch):
    """While Orthanc waits for one, who changes modalities or peers holds up everybody."""
    target = {"name": "a", "kind": "peer", "address": "http://a/", "known": {}}
    target.update(request=("GET", "/peers/a/system", None), web={"host": "a", "port": 80})
    monkeypatch.setattr(reach, "_unreached", lambda *place: "")

    def stranger(url, timeout):
        assert url == "http://a/"
        if silent:
            raise TimeoutError
        return "another program"

    monkeypatch.setitem(reach.__salt__, "orthanc_http.stranger", stranger)
    monkeypatch.delitem(reach.__salt__, "orthanc_rest.ask")
    silent = False
    assert reach._ask("/etc/orthanc", target, 3)["why"] == "another program"
    silent = True
    assert "within 3 seconds" in reach._ask("/etc/orthanc", target, 3)["why"]
