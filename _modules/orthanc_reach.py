"""
Whom Orthanc reaches: each modality, peer and DICOMweb server, asked by Orthanc itself as it would
talk to them, and why one does not answer, in plain words.
"""

from __future__ import annotations

import functools
import http.client
import re
import socket
import ssl
import time
import urllib.parse

from salt.exceptions import CommandExecutionError

# In seconds: what an answer of Orthanc takes, besides that of the one who is asked.
OWN = 0.9
# How many are asked at the same time. Orthanc answers 50 requests at a time, and its clients go on.
AT_ONCE = 16
PORTS = {"http": 80, "https": 443}
SILENT = "takes the connection and gives no answer within {timeout} seconds"
# What Orthanc says of modalities (measured with 1.10.1, 1.12.7 and 1.13.0), and what it means.
REASONS = {
    "Association Rejected": "rejects the association: it is not called {aet}, or does not know the"
    " AET {own} of this server; compare both with its settings",
    "aborted Association": "takes the connection and breaks it off: it does not know the AET {own}"
    " of this server, or lets it not ask that; add this server there",
    "Unrecognized PDU": "another program than a DICOM server answers there",
    "read timeout": SILENT,
    "No path to the private key": "is to be asked over TLS, and this server has no certificate to"
    " show; set orthanc:dicom:tls:certificate and key",
    "TLS": "TLS fails: {said}",
    "SSL": "TLS fails: {said}",
}
# The same of what a web server says without a password.
CODES = {
    401: "does not take the user and password that this server has for it; renew them on one of the"
    " two sides (or the path in the Url is wrong)",
    403: "does not let this server ask that: the user needs other rights there",
    404: "has nothing at this address; correct the Url here",
}
NO_ACCOUNT = "asks for a user and password, and none is set here"


def targets(config):
    """
    Part of the formula. Return all that Orthanc knows and may ask, a list of mappings: the
    ``name``, the ``kind``, its ``address``, and what else ``ask_all`` needs.

    config
        The path of the folder of the configuration.

    Raises CommandExecutionError if Orthanc gives no answer.
    """
    options = __salt__["orthanc_folder.effective"](config)
    web, own = dicomweb(options), str(options.get("DicomAet", "ORTHANC"))
    paths = ["/modalities?expand", "/peers?expand", f"{web}/servers?expand"]
    modalities, peers, servers = (
        found or {} for found in __salt__["orthanc_rest.get"](config, paths)
    )
    found = [_modality(name, known, own) for name, known in sorted(modalities.items())]
    for kind, there, place, path in (
        ("peer", peers, ("", "peers"), "/system"),
        ("DICOMweb server", servers, (web, "servers"), "/studies?limit=1"),
    ):
        for name, known in sorted(there.items()):
            url = public_url(known.get("Url", ""))
            target = {"name": name, "kind": kind, "address": url, "known": known, "path": path}
            target.update(request=_request(*place, name), web=_web(url, known, options))
            found.append(target)
    return found


def dicomweb(options):
    """
    Part of the formula. Return where DICOMweb is below the REST API, whether the plugin is there or
    not.

    options
        A mapping from option name to value.
    """
    section = options.get("DicomWeb")
    root = section.get("Root") if isinstance(section, dict) else None
    return f"/{root.strip('/')}" if isinstance(root, str) and root.strip("/") else "/dicom-web"


def _request(root: str, word: str, name) -> tuple:
    """Return the request by which Orthanc asks one that its REST API has below a word."""
    method, question, data = __salt__["orthanc_tables.get"]("PINGS")[word]
    return method, f"{root}/{word}/{urllib.parse.quote(str(name), safe='')}/{question}", data


def _modality(name: str, known: dict, own: str) -> dict:
    aet, host, port = (known.get(key) for key in ("AET", "Host", "Port"))
    return {
        **{"name": name, "kind": "modality", "address": f"{aet} at {host}:{port}"},
        **{"aet": aet, "own": known.get("LocalAet") or own, "place": (host, port)},
        "known": known,
        "request": _request("", "modalities", name),
    }


def _web(url: str, known: dict, options: dict) -> dict | None:
    """
    Return how this host gets to a web server, to tell why Orthanc does not; None where it would go
    another way.
    """
    try:
        parts = urllib.parse.urlsplit(url if "://" in url else f"http://{url}")
        port = parts.port or PORTS[parts.scheme]
    except (ValueError, KeyError):
        return None
    if not parts.hostname or options.get("HttpProxy") or known.get("CertificateFile"):
        return None
    ca = options.get("HttpsCACertificates") or None
    verify = options.get("HttpsVerifyPeers", True) is not False
    tls = {"ca": ca, "verify": verify} if parts.scheme == "https" else None
    return {"host": parts.hostname, "port": port, "tls": tls, "path": parts.path.rstrip("/")}


def public_url(url):
    """
    Part of the formula. Return a URL without what may be a password.

    url
        A text.
    """
    return re.sub(r"//[^/]*@", "//", re.sub(r"[?#].*", "", str(url)))


def ask_all(config, asked, timeout):
    """
    Part of the formula. Let Orthanc ask some of the ``targets``, side by side, and return a mapping
    for each: its ``name``, ``kind`` and ``address``, whether it ``answers``, after how many
    ``seconds``, and ``why`` not.

    config
        The path of the folder of the configuration.

    asked
        A list of what ``targets`` returned.

    timeout
        For how many seconds to wait for each, a whole number.
    """
    found: list = []
    for first in range(0, len(asked), AT_ONCE):
        some = asked[first : first + AT_ONCE]
        questions = {
            str(number): functools.partial(_ask, config, target, timeout)
            for number, target in enumerate(some)
        }
        # A connection, and the answer.
        told = __salt__["orthanc_inquiry.ask"](questions, 2 * timeout + OWN)
        for number, target in enumerate(some):
            row = {key: target[key] for key in ("name", "kind", "address")}
            answer = told.get(str(number), {"error": SILENT.format(timeout=timeout)})
            row.update(answer.get("found") or {"answers": False, "why": answer.get("error")})
            if "why" in row:
                (row["why"],) = __salt__["orthanc_folder.scrub"](config, [row["why"]])
            found.append(row)
    return found


def _ask(config: str, target: dict, timeout: int) -> dict:
    began = time.monotonic()
    method, path, data = target["request"]
    why, place = "", target.get("web")
    if target["kind"] == "modality":
        data = {"Timeout": timeout}
    elif place:
        # Orthanc may wait for a minute, and is not to be kept busy by servers that are away.
        why = _unreached(place["host"], place["port"], timeout)
        if not why and target["kind"] == "peer":
            why = _stranger(target["address"], timeout)
    if not why:
        try:
            code, answer = __salt__["orthanc_rest.ask"](config, method, path, data, timeout + OWN)
        except CommandExecutionError as err:
            why = SILENT.format(timeout=timeout) if "timed out" in str(err) else str(err)
        else:
            why = "" if code == 200 else _reason(target, code, answer, timeout)
    row = {"answers": not why, "seconds": round(time.monotonic() - began, 3)}
    return {**row, "why": why} if why else row


def _unreached(host: str, port, timeout: int) -> str:
    """Return why this host gets no connection to a host and port; an empty text if it gets one."""
    try:
        with socket.create_connection((host, int(port)), timeout):
            return ""
    except (socket.gaierror, UnicodeError):
        return f"there is no host of the name {host}"
    except ConnectionRefusedError:
        return f"{host} refuses the connection: nothing listens on its port {port}"
    except socket.timeout:
        return f"{host} gives no answer on port {port} within {timeout} seconds"
    except (OSError, ValueError, OverflowError) as err:
        return f"{host}:{port} is not reached: {err}"


def _stranger(url: str, timeout: int) -> str:
    """
    Return why what answers is no peer. Who changes modalities and peers while Orthanc waits for one
    keeps all others waiting.
    """
    try:
        return __salt__["orthanc_http.stranger"](url, timeout)
    except TimeoutError:
        return SILENT.format(timeout=timeout)


def _reason(target: dict, code: int, answer, timeout: int) -> str:
    """Return in plain words why one does not answer Orthanc."""
    said = __salt__["orthanc_rest.refusal"](code, answer, " ".join(target["request"][:2]))
    if target["kind"] != "modality":
        return (target["web"] and _web_reason(target, timeout)) or said
    why = _unreached(*target["place"], timeout)
    words = next((words for piece, words in REASONS.items() if piece in said), "{said}")
    return why or words.format(**{**target, "said": said, "timeout": timeout})


def _web_reason(target: dict, timeout: int) -> str:
    """Return why a web server does not answer, asked without a password; nothing if it does."""
    place = target["web"]
    connection = http.client.HTTPConnection(place["host"], place["port"], timeout=timeout)
    try:
        if place["tls"]:
            context = ssl.create_default_context(cafile=place["tls"]["ca"])
            if not place["tls"]["verify"]:
                context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            connection = http.client.HTTPSConnection(
                place["host"], place["port"], timeout=timeout, context=context
            )
        connection.request("GET", place["path"] + target["path"])
        code = connection.getresponse().status
    except ssl.SSLCertVerificationError as err:
        return f"TLS fails: its certificate is not trusted: {err.verify_message}"
    except ssl.SSLError as err:
        return f"TLS fails: {err.reason or err}; is the Url right with https?"
    except socket.timeout:
        return SILENT.format(timeout=timeout)
    except (OSError, http.client.HTTPException) as err:
        return f"another program than a web server answers there: {err or type(err).__name__}"
    finally:
        connection.close()
    if code == 401 and not target["known"].get("Username"):
        return NO_ACCOUNT
    return CODES.get(code, "" if code == 200 else f"answers HTTP {code}")
