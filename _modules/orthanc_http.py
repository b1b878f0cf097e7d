"""
Orthanc asked over HTTP on this host.

https://orthanc.uclouvain.be/book/users/rest.html
"""

from __future__ import annotations

import base64
import http.client
import json
import ssl
import urllib.error
import urllib.request

from salt.exceptions import CommandExecutionError

# Orthanc's own realm, in the answer to a request without a password.
REALM = "Orthanc Secure Area"


def answers(address, timeout=5):
    """
    Part of the formula. Return whether an Orthanc answers at an address; see ``orthanc.answers``.

    address
        The URL of its REST API.

    timeout
        For how many seconds to wait at most.
    """
    try:
        with _opener().open(f"{address}/system", timeout=timeout) as response:
            return "ApiVersion" in json.loads(response.read().decode())
    except urllib.error.HTTPError as err:
        # 403 comes from a filter in Lua.
        return err.code == 403 or REALM in err.headers.get("WWW-Authenticate", "")
    except (OSError, ValueError, http.client.HTTPException):
        return False


def _opener():
    # Its own certificate is for the name by which clients know it, not for 127.0.0.1.
    unverified = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    unverified.check_hostname = False
    unverified.verify_mode = ssl.CERT_NONE
    return urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=unverified)
    )


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
    # One of the formula's own.
    request = urllib.request.Request(url, data, method=method)  # noqa: S310
    if account:
        token = base64.b64encode(":".join(map(str, account)).encode()).decode()
        request.add_header("Authorization", f"Basic {token}")
    try:
        try:
            response = _opener().open(request, timeout=timeout)
        except urllib.error.HTTPError as err:
            response = err
        with response:
            code, text = response.getcode(), response.read().decode(errors="replace")
    except (OSError, http.client.HTTPException) as err:
        why = getattr(err, "reason", None) or err
        raise CommandExecutionError(f"Orthanc gives no answer at {url}: {why}") from None
    try:
        return code, json.loads(text)
    except ValueError:
        return code, None
