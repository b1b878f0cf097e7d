"""
Orthanc asked over HTTP on this host.

https://orthanc.uclouvain.be/book/users/rest.html
"""

from __future__ import annotations

import json
import ssl
import urllib.error
import urllib.request

# Orthanc's own realm, in the answer to a request without a password.
REALM = "Orthanc Secure Area"


def answers(address):
    """
    Part of the formula. Return whether an Orthanc answers at an address; see ``orthanc.answers``.

    address
        The URL of its REST API.
    """
    # Its own certificate is for the name by which clients know it, not for 127.0.0.1.
    unverified = ssl.create_default_context()
    unverified.check_hostname = False
    unverified.verify_mode = ssl.CERT_NONE
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=unverified)
    )
    try:
        with opener.open(f"{address}/system", timeout=5) as response:
            return "ApiVersion" in json.loads(response.read().decode())
    except urllib.error.HTTPError as err:
        # 403 comes from a filter in Lua.
        return err.code == 403 or REALM in err.headers.get("WWW-Authenticate", "")
    except (OSError, ValueError):
        return False
