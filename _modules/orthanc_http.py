"""
Orthanc asked over HTTP: that of this host, and, without a password, whether another one is there.

https://orthanc.uclouvain.be/book/users/rest.html
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import socket
import ssl
import threading
import urllib.parse

from salt.exceptions import CommandExecutionError

# Orthanc's own realm, in the answer to a request without a password.
REALM = "Orthanc Secure Area"
# In bytes. What is longer is no answer to anything that is asked here.
LONGEST = 1 << 27
# What is there in the place of a peer. Orthanc itself follows to another address, and what was sent
# to the first one is a question to the second; and it takes any answer for that of a peer.
STRANGER = (
    "another program than Orthanc answers there, such as the login of a proxy; correct its Url"
)
MOVED = "sends everybody on to another address, where no image arrives; put that into its Url"
# How the formula calls itself, so that the access log tells its requests from those of people.
AGENT = "Salt-for-Orthanc"


def answers(address, timeout=5):
    """
    Part of the formula. Return whether an Orthanc answers at an address; see ``orthanc.answers``.

    address
        The URL of its REST API.

    timeout
        For how many seconds to wait at most.
    """
    try:
        code, headers, text = _exchange(f"{address}/system", "GET", {}, None, timeout)
        if code == 200:
            return is_system(json.loads(text.decode()))
        # 403 comes from a filter in Lua.
        return code == 403 or REALM in headers.get("WWW-Authenticate", "")
    except (OSError, ValueError, RecursionError, http.client.HTTPException):
        return False


def is_system(found):
    """
    Part of the formula. Return whether something is what an Orthanc answers to ``GET /system``:
    others answer as well, such as a proxy with its page for the login.

    found
        What an answer holds.
    """
    return isinstance(found, dict) and "ApiVersion" in found


def stranger(url, timeout=5):
    """
    Part of the formula. Return why what answers at the address of a peer is none, a sentence; an
    empty text where it may be one, which nobody can tell without a password.

    url
        The URL of its REST API.

    timeout
        For how many seconds to wait at most.

    Raises TimeoutError if it is silent for as long.
    """
    # As Orthanc takes one without.
    url = url if "://" in url else f"http://{url}"
    try:
        code, _, text = _exchange(f"{url.rstrip('/')}/system", "GET", {}, None, timeout)
    except (socket.timeout, TimeoutError) as err:
        raise TimeoutError(str(err)) from None
    except (OSError, ValueError, http.client.HTTPException):
        return ""
    if 300 <= code < 400:
        return MOVED
    with contextlib.suppress(ValueError, RecursionError):
        return "" if code != 200 or is_system(json.loads(text.decode())) else STRANGER
    return STRANGER


def _exchange(url: str, method: str, headers: dict, body, timeout: float) -> tuple:
    """
    Send a request, and return the code, the headers and the bytes of the answer, which is there in
    time, whoever gives it. It goes nowhere else: where another place is named, that is the answer.
    """
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{url} is no address of HTTP")
    port = parts.port or (443 if parts.scheme == "https" else 80)
    # More than that only for who ends it: each part of an answer has as long by itself.
    sock = socket.create_connection((parts.hostname, port), timeout)
    sock.settimeout(timeout + 1)
    over = threading.Event()
    with sock.dup() as same:
        timer = threading.Timer(timeout, _end, (same, over))
        timer.daemon = True
        timer.start()
        connection = http.client.HTTPConnection(parts.hostname, port)
        connection.sock = sock
        try:
            if parts.scheme == "https":
                # Its certificate is for the name by which clients know it, not for 127.0.0.1.
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
                context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
                connection.sock = context.wrap_socket(sock, server_hostname=parts.hostname)
            target = urllib.parse.urlunsplit(("", "", parts.path or "/", parts.query, ""))
            headers = {**headers, "User-Agent": AGENT, "Connection": "close"}
            connection.request(method, target, body, headers)
            with connection.getresponse() as response:
                text = response.read(LONGEST + 1)
        except (OSError, http.client.HTTPException):
            if over.is_set():
                raise TimeoutError("timed out") from None
            raise
        finally:
            timer.cancel()
            connection.close()
    if over.is_set():
        raise TimeoutError("timed out")
    if len(text) > LONGEST:
        raise OSError(f"the answer is longer than {LONGEST} bytes")
    return response.status, response.headers, text


def _end(sock, over) -> None:
    over.set()
    # It may be over by itself.
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)


def ask(url, method="GET", account=None, timeout=60, data=None):
    """
    Part of the formula. Send a request to the Orthanc of this host.

    url
        Where to.

    method
        The method of HTTP.

    account
        A pair of name and password; None for none.

    timeout
        For how many seconds to wait at most.

    data
        What is sent with it, bytes; None for nothing.

    Returns a tuple: the code of the answer, and what it holds; None where it is no JSON.

    Raises CommandExecutionError if there is no answer.
    """
    headers = {}
    if account:
        token = base64.b64encode(":".join(map(str, account)).encode()).decode()
        headers["Authorization"] = f"Basic {token}"
    if data is not None:
        headers["Content-Type"] = "application/x-www-form-urlencoded"
    try:
        code, _, text = _exchange(url, method, headers, data, timeout)
    except (OSError, ValueError, http.client.HTTPException) as err:
        raise CommandExecutionError(f"Orthanc gives no answer at {url}: {err}") from None
    try:
        return code, json.loads(text.decode(errors="replace"))
    except (ValueError, RecursionError):
        return code, None
