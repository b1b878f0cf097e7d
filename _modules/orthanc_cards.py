"""
Cards: what each site of a group tells the others of itself, and what a site makes of theirs.

A card is what somebody else says. By what it holds it can take no name and no title that is in use
here, and gets no password but the one that the pillar has for its minion. A site is named after its
minion, whose ID the master vouches for.

Data and pure functions; :py:mod:`orthanc_mine` brings the cards.
"""

from __future__ import annotations

import fnmatch
import ipaddress
import re

# What others may do on this server, by their roles: rights of a modality.
ROLES = {
    "archive": ("Echo", "Store", "Find", "Get", "Move", "EventReport"),
    "modality": ("Echo", "Store", "FindWorklist", "NAction"),
    "workstation": ("Echo", "Store", "Find", "Get", "Move"),
}
RIGHTS = ("Echo", "Store", "Find", "FindWorklist", "Get", "Move", "NAction", "EventReport")
TITLE = re.compile(r"(?! +$)[ -\[\]-~]{1,16}")
# A password goes to no server in clear text.
URL = re.compile(r"https://([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?(/[!-~]*)?")
# Of how many sites that are left out it is said why.
SAID = 20
NO_NAME = re.compile("[^A-Za-z0-9_-]")


def _is_host(value) -> bool:
    """Return whether a value is the IPv4 address of another host, by which Orthanc knows it."""
    try:
        address = ipaddress.IPv4Address(value) if isinstance(value, str) else None
    except ValueError:
        return False
    none = address is None or str(address) != value or address.is_loopback or address.is_multicast
    return not (none or address.is_unspecified or address.is_reserved or address.is_link_local)


def _is_port(value) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < 65535


# What each key of a card may hold. With the first three a site is a modality.
CARD = {
    "aet": lambda value: isinstance(value, str) and TITLE.fullmatch(value),
    "host": _is_host,
    "port": _is_port,
    "tls": lambda value: isinstance(value, bool),
    "role": lambda value: isinstance(value, str) and value in ROLES,
    "url": lambda value: isinstance(value, str) and URL.fullmatch(value) and "@" not in value,
}
DICOM = ("aet", "host", "port")


def name(minion):
    """
    Part of the formula. Return the name that the site of a minion has among modalities and peers.

    minion
        Its ID.
    """
    return NO_NAME.sub("-", str(minion)) or "-"


def entries(cards, site, taken, known):
    """
    Part of the formula. Return the modalities and peers that come of cards, by option and name; and
    what of them is left out and why, a list of sentences.

    cards
        A mapping from the ID of a minion to its card, whatever that is.

    site
        What the pillar says of this one, a mapping: its own ``id``, ``aet`` and ``group``, whether
        it has certificates for DICOM ``tls``, the ``members``, patterns of IDs, and the
        ``accounts`` by such patterns, each a mapping of ``username`` and ``password``.

    taken
        The modalities and peers of the pillar and of others, by option and name.

    known
        Those that have come of cards so far: of two with one title, the one that was first stays.
    """
    before = known.get("DicomModalities", {})
    titles = {site["aet"].lower(): "this server"}
    for other, item in taken["DicomModalities"].items():
        titles.setdefault(_title(item).lower(), f"the modality {other}")
    names = {one.lower() for option in taken for one in taken[option]}
    found: dict = {"DicomModalities": {}, "OrthancPeers": {}}
    left_out, here = [], cards.get(site["id"])
    here = here if isinstance(here, dict) and not _wrong(here) else {}

    def is_news(minion) -> tuple:
        card = cards[minion]
        title = card.get("aet") if isinstance(card, dict) else None
        return _title(before.get(name(minion))) != title or title is None, str(minion)

    for minion in sorted(cards, key=is_news):
        card, one = cards[minion], name(minion)
        if minion == site["id"] or not _is_of_group(minion, card, site):
            continue
        why = _wrong(card)
        if not why and one.lower() in names:
            why = f"there is a modality or peer of the name {one} already"
        if not why and "aet" in card and card["aet"].lower() in titles:
            why = f"its AET {card['aet']} is that of {titles[card['aet'].lower()]}"
        if not why and "aet" in card and _place(card) == _place(here):
            why = "its host and port are those of this server"
        if not why and card.get("tls") and not site["tls"]:
            why = "it is asked over TLS, and this server has no certificate in orthanc:dicom:tls"
        if why:
            left_out.append(f"site {one}: {why}")
            continue
        names.add(one.lower())
        if "aet" in card:
            titles[card["aet"].lower()] = f"the site {one}"
            found["DicomModalities"][one] = _modality(card)
        account = _account(minion, site["accounts"])
        if account and "url" in card and card["url"] == here.get("url"):
            left_out.append(f"site {one}: its url is that of this server, so it is no peer here")
        elif account and "url" in card:
            found["OrthancPeers"][one] = {
                "Url": card["url"],
                "Username": account["username"],
                "Password": account["password"],
            }
        elif minion in site["accounts"]:
            left_out.append(f"site {one}: it tells no https:// address, so it is no peer here")
    left_out.sort()
    more = len(left_out) - SAID
    return found, left_out[:SAID] + ([f"{more} more sites are left out"] if more > 0 else [])


def _title(item) -> str:
    """Return the title of a modality in any of its notations."""
    if isinstance(item, dict):
        return str(item.get("AET", ""))
    return str(item[0]) if isinstance(item, (list, tuple)) and item else ""


def _place(card: dict) -> tuple:
    """Return the host and port of a card."""
    return card.get("host"), card.get("port")


def _account(minion, accounts: dict) -> dict:
    """Return the account for a minion: its own, or that of the first pattern which it fits."""
    fitting = (one for one in accounts if fnmatch.fnmatchcase(str(minion), one))
    return accounts.get(minion) or accounts.get(next(fitting, None)) or {}


def _is_of_group(minion, card, site: dict) -> bool:
    group = card.get("group") if isinstance(card, dict) else None
    return group == site["group"] and any(
        fnmatch.fnmatchcase(str(minion), pattern) for pattern in site["members"]
    )


def _wrong(card: dict) -> str:
    """Return why nothing can be made of a card; an empty text where something can."""
    wrong = [key for key, is_right in CARD.items() if key in card and not is_right(card[key])]
    if wrong:
        return f"{', '.join(wrong)} of its card cannot be used"
    lacking = [key for key in (*DICOM, "role") if key not in card]
    if lacking and (set(DICOM) & {*card} or "role" in lacking):
        return f"its card lacks {', '.join(lacking)}"
    return ""


def _modality(card: dict) -> dict:
    item = {"AET": card["aet"], "Host": card["host"], "Port": card["port"]}
    granted = ROLES[card["role"]]
    item.update({f"Allow{right}": False for right in RIGHTS if right not in granted})
    return {**item, **({"UseDicomTls": True} if card.get("tls") else {})}
