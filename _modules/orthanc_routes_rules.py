"""
What routes say of an image: to whom it goes, and to whom not. Pure functions.
"""

from __future__ import annotations

import re

# What Orthanc says of a request that failed, in plain words.
WORDS = (
    ("^Error in the network protocol$", "orthanc.check_network may tell why"),
    ("^Bad file format$", "its answer is not that of a DICOMweb server; look at its Url"),
    ("refused|Couldn't connect|Could not connect", "nothing listens there"),
    ("timed? ?out|Timeout", "it gives no answer in time"),
    ("resolve host", "the name of its host is not known"),
    ("Called AE Title Not Recognized", "it does not know its own title as it is in Host and AET"),
    ("Calling AE Title Not Recognized", "it does not know the title of this server"),
    ("Rejected|rejected", "it lets this server not in"),
    ("0xa7[0-9a-f]{2}", "it has no room, or takes nothing now"),
    ("0xa9[0-9a-f]{2}|0xc[0-9a-f]{3}", "it does not take this image"),
    (
        "0x0122|[Nn]o (valid |accepted )?presentation context|Unable to negotiate",
        "it takes no images of this kind",
    ),
    ("certificate|SSL|TLS", "its certificate is not accepted, or it does not accept this server's"),
    (
        "HTTP status code 40[13]|Unauthorized",
        "it does not know user and password, or lets that user not store",
    ),
)
# After how many seconds what was refused is tried again: twice as many each time, up to the last.
FIRST, LAST = 2, 900


def chooses(route, tags, metadata):
    """
    Part of the formula. Return whether a route is for an image.

    route
        What the pillar says: a mapping with ``modality``, ``from`` and ``tags``, of which all that
        are there have to hold.

    tags
        What Orthanc answers to ``/instances/…/tags``.

    metadata
        What it answers to ``/instances/…/metadata?expand``.
    """
    wanted = {**route.get("tags", {})}
    if "modality" in route:
        wanted["Modality"] = route["modality"]
    title = metadata.get("RemoteAET", "")
    if "from" in route and title.strip() not in [one.strip() for one in route["from"]]:
        return False
    return all(
        any(_fits(value, pattern) for value in _values(tags, name) for pattern in patterns)
        for name, patterns in wanted.items()
    )


def _values(tags: dict, name: str) -> list:
    """Return what an image has in a tag, by its name or its number: all of it, and each part."""
    found = [
        tag["Value"]
        for number, tag in tags.items()
        if number.lower() == name.lower() or tag.get("Name") == name
        if isinstance(tag.get("Value"), str)
    ]
    return [value.strip(" \0") for text in found for value in (text, *text.split("\\"))]


def _fits(value: str, pattern: str) -> bool:
    """Return whether a value is as a pattern has it, in which * and ? are those of DICOM."""
    first, *others = (
        "".join("." if char == "?" else re.escape(char) for char in part)
        for part in pattern.casefold().split("*")
    )
    text = first
    if others:
        # The first place for a part is as good as any other: whoever tried all of them would take
        # hours for a value of many letters that are the same.
        text += "".join(f"(?=(.*?{part}))\\{n}" for n, part in enumerate(others[:-1], start=1))
        text += f".*{others[-1]}"
    return re.fullmatch(text, value.casefold(), re.DOTALL) is not None


def came_from(metadata, target, addresses):
    """
    Part of the formula. Return whether an image came from where a route would send it: by address
    and by title or account, because each alone may be that of others as well.

    metadata
        See ``chooses``.

    target
        What Orthanc knows of the target: its ``AET``, or its ``Username``.

    addresses
        The IP addresses of the target.
    """
    if metadata.get("RemoteIP") not in addresses:
        return False
    names = {"AET": "RemoteAET", "Username": "HttpUsername"}
    return any(
        target.get(one) and str(target[one]).strip() == metadata.get(other, "").strip()
        for one, other in names.items()
    )


def pause(tries):
    """
    Part of the formula. Return after how many seconds something is tried again.

    tries
        How often it was tried before, 1 or more.
    """
    return min(LAST, FIRST * 2 ** min(tries - 1, 16))


def reason(code, answer):
    """
    Part of the formula. Return why Orthanc could not send something: in plain words, where these
    are known, and in its own.

    code, answer
        Of the answer of Orthanc.
    """
    answer = answer if isinstance(answer, dict) else {}
    said = answer.get("Details") or answer.get("Message") or f"HTTP {code}"
    plain = next((words for pattern, words in WORDS if re.search(pattern, said, re.I)), "")
    return f"{plain}: {said}" if plain else said
