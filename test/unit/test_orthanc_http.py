"""What answers at Orthanc's port and is none: in time, and nobody else is told a password."""

import contextlib
import json
import socket
import threading
import time

import orthanc_http as http
import pytest
from salt.exceptions import CommandExecutionError

OK = b"HTTP/1.1 200 OK\r\n"
JSON = OK + b"Content-Type: application/json\r\n\r\n"
ACCOUNT = ("anna", "her word")


@contextlib.contextmanager
def server(answer, again=b"", pause=0.0):
    """Give the URL of a server that answers with bytes, then with others without end, and a list of
    what it is asked.
    """
    asked = []
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()

        def serve():
            with contextlib.suppress(OSError):
                while True:
                    client, _ = listening.accept()
                    with client, contextlib.suppress(OSError):
                        asked.append(client.recv(65536))
                        client.sendall(answer)
                        while again:
                            client.sendall(again)
                            time.sleep(pause)
                        # Closed with a part of the request unread, it would take the answer back.
                        client.shutdown(socket.SHUT_WR)
                        while client.recv(65536):
                            pass

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}", asked
        listening.shutdown(socket.SHUT_RDWR)
    thread.join(10)
    assert not thread.is_alive()


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_who_names_another_place_does_not_send_the_password_there(code):
    with server(OK + b"\r\n{}") as (other, told):
        answer = f"HTTP/1.1 {code} Elsewhere\r\nLocation: {other}/x\r\nContent-Length: 0\r\n\r\n"
        with server(answer.encode()) as (url, asked):
            assert http.ask(f"{url}/x", account=ACCOUNT) == (code, None)
            assert not http.answers(url)
        assert b"Authorization: Basic" in asked[0]
        assert told == []


@pytest.mark.parametrize(
    ("answer", "again"),
    [
        (b"", b"H"),
        (OK, b"X-A: b"),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        (JSON, b" "),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
    ],
)
def test_an_answer_without_end_is_not_waited_for(answer, again):
    with server(answer, again, 0.02) as (url, _):
        began = time.monotonic()
        with pytest.raises(CommandExecutionError, match=r"no answer at .*/x: (timed out|got more)"):
            http.ask(f"{url}/x", account=ACCOUNT, timeout=0.3)
        assert not http.answers(url, 0.3)
        assert time.monotonic() - began < 5


def test_an_answer_without_end_does_not_fill_the_memory(monkeypatch):
    monkeypatch.setattr(http, "LONGEST", 1 << 16)
    long = pytest.raises(CommandExecutionError, match="longer than 65536 bytes")
    with server(JSON, b"x" * 4096) as (url, _), long:
        http.ask(f"{url}/x")


@pytest.mark.parametrize(
    "body", ["", "3", "null", '["ApiVersion"]', "[" * 100000, "\0", '"ApiVersion"', "\xff"]
)
def test_what_is_no_answer_of_orthanc_s_is_none(body):
    with server(JSON + body.encode("latin-1")) as (url, _):
        assert not http.answers(url)
        code, found = http.ask(url)
        assert (code, isinstance(found, dict)) == (200, False)


@pytest.mark.parametrize("answer", [b"", b"\0" * 9, b"SSH-2.0-x\r\n", b"HTTP/1.1 x\r\n\r\n"])
def test_what_does_not_speak_http_is_none(answer):
    with server(answer) as (url, _):
        assert not http.answers(url)
        assert not http.answers(url.replace("http:", "https:"))
        with pytest.raises(CommandExecutionError, match="no answer at"):
            http.ask(url)


@pytest.mark.parametrize(
    "url", ["", "x", "file:///etc/passwd", "http://", "http://x:y/", "ftp://x"]
)
def test_an_address_that_is_none_is_asked_nothing(url):
    assert not http.answers(url)
    with pytest.raises(CommandExecutionError, match="no answer at"):
        http.ask(url)


def test_an_answer_is_given_as_it_is():
    body = json.dumps({"ApiVersion": 27, "Name": "é"}).encode()
    with server(JSON + body) as (url, asked):
        assert http.answers(url)
        assert http.ask(f"{url}/a?b=c", "POST", data=b"{}")[1]["Name"] == "é"
    assert asked[1].startswith(b"POST /a?b=c HTTP/1.1\r\n")
    denied = f'HTTP/1.1 401 No\r\nWWW-Authenticate: Basic realm="{http.REALM}"\r\n\r\n'
    with server(denied.encode()) as (url, _):
        assert http.answers(url)
        assert http.ask(url)[0] == 401


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (JSON + b'{"ApiVersion": 27}', ""),
        (b"HTTP/1.1 401 No\r\n\r\n", ""),
        (b"HTTP/1.1 403 No\r\n\r\n", ""),
        (b"HTTP/1.1 502 Bad Gateway\r\n\r\n", ""),
        (b"SSH-2.0-x\r\n", ""),
        (OK + b"\r\n<html>Log in</html>", http.STRANGER),
        (JSON + b"[]", http.STRANGER),
        (OK + b"\r\n\xff", http.STRANGER),
        (b"HTTP/1.1 301 Moved\r\nLocation: https://x/system\r\n\r\n", http.MOVED),
        (b"HTTP/1.1 302 Found\r\nLocation: /login\r\n\r\n", http.MOVED),
    ],
)
def test_who_is_no_peer_is_seen_without_a_password(answer, said):
    with server(answer) as (url, asked):
        assert http.stranger(f"{url}/") == said
        assert http.stranger(url.replace("http://", "")) == said
    assert asked[0].startswith(b"GET /system HTTP/1.1\r\n")
    assert b"Authorization" not in asked[0]


def test_of_who_does_not_answer_it_is_not_said():
    assert http.stranger("http://127.0.0.1:1/") == http.stranger("no address") == ""
    with server(b"", b"H", 0.02) as (url, _), pytest.raises(TimeoutError):
        http.stranger(url, 0.3)
