"""
What Orthanc answers to questions about itself: in the name of the first user of its configuration
who may ask that, and in time, whatever hangs.
"""

from __future__ import annotations

import functools
import json
import time

from salt.exceptions import CommandExecutionError

# How long it takes at most, in seconds: three are given, and Salt itself needs some.
LIMIT = 1.8
# What each of many requests takes on top of that.
EACH = 0.2
# Of these, what there is to say that Orthanc gave no answer.
SAY = 0.2
# Which answers are lists, and of what. All others are mappings, and with ?expand of mappings.
LISTS = {"/jobs?expand": dict, "/plugins": str}
# What those are told who may not ask.
DENIED = (401, 403)


def get(config, paths, limit=LIMIT):
    """
    Part of the formula. Return what Orthanc answers, a list; None for what it does not know.

    config
        The path of the folder of the configuration.

    paths
        What is asked for, a list of paths of the REST API.

    limit
        For how many seconds to wait at most, for all of them.

    Raises CommandExecutionError if one of them is not answered.
    """
    found = []
    for path, (code, answer) in zip(
        paths, _in_time(config, [("GET", p, None) for p in paths], limit)
    ):
        if code not in (200, 404):
            raise CommandExecutionError(refusal(code, answer, f"GET {path}"))
        if code == 200 and not _makes_sense(path, answer):
            raise CommandExecutionError(f"what Orthanc answers to GET {path} makes no sense")
        found.append(answer if code == 200 else None)
    return found


def _makes_sense(path: str, answer) -> bool:
    """Return whether an answer has the form of Orthanc's own."""
    if path in LISTS:
        return isinstance(answer, list) and all(isinstance(each, LISTS[path]) for each in answer)
    items = answer.values() if isinstance(answer, dict) and path.endswith("?expand") else ()
    return isinstance(answer, dict) and all(isinstance(each, dict) for each in items)


def send_all(config, requests):
    """
    Part of the formula. Send requests, one after the other, and return a list of pairs: the code of
    the answer, and what it holds.

    config
        See ``get``.

    requests
        A list of method and path of each, and what is sent with it, as JSON has it; None for
        nothing.

    Raises CommandExecutionError if there is no answer.
    """
    return _in_time(config, requests, LIMIT + EACH * len(requests))


def refusal(code, answer, what):
    """
    Part of the formula. Return the sentence for an answer that is none.

    code, answer
        What ``send_all`` returned for it.

    what
        The method and path of the request.
    """
    if code in DENIED:
        return (
            f"none of the users in the configuration of Orthanc may ask {what}; give one in"
            " orthanc:users the role admin"
        )
    why = answer if isinstance(answer, dict) else {}
    said = why.get("Details") or why.get("Message")
    return f"Orthanc answers {code} to {what}" + (f": {said}" if said else "")


def _in_time(config: str, requests: list, limit: float) -> list:
    question = functools.partial(_all, config, requests, limit - SAY)
    told = __salt__["orthanc_inquiry.ask"]({"all": question}, limit).get("all")
    if told is None:
        told = {"error": f"Orthanc gives no answer within {limit:g} seconds"}
    if "error" in told:
        raise CommandExecutionError(__salt__["orthanc_server.trouble"]() or told["error"])
    return told["found"]


def _all(config: str, requests: list, limit: float) -> list:
    deadline = time.monotonic() + limit
    return [ask(config, *request, deadline - time.monotonic()) for request in requests]


def ask(config, method, path, data=None, timeout=LIMIT):
    """
    Part of the formula. Ask Orthanc, without a password and with that of each of its users, until
    one may; and return the code of the answer and what it holds.

    config
        See ``get``.

    method, path, data
        See ``send_all``.

    timeout
        For how many seconds to wait for each answer at most.

    Raises CommandExecutionError if there is no answer, or if at its port is not Orthanc.
    """
    users = __salt__["orthanc_folder.effective"](config).get("RegisteredUsers")
    users = users if isinstance(users, dict) else {}
    url, body = __salt__["orthanc_server.url"](config) + path, None
    if data is not None:
        body = json.dumps(data).encode()
    deadline, code = time.monotonic() + timeout, 0
    for account in [None, *users.items()]:
        # Nobody else is told a password, or believed.
        __salt__["orthanc_server.require_orthanc"](config)
        left = max(0.01, deadline - time.monotonic())
        code, found = __salt__["orthanc_http.ask"](url, method, account, left, body)
        if code not in DENIED:
            return code, found
    return code, None
