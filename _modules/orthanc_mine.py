"""
The cards of the sites of a group: this one's own, and those of the others, by the master's mine.

The mine keeps the last card of a minion that is away, until its key is deleted. Where the mine
cannot be asked, or does not even have this site's own card, the last cards that were seen hold.

https://docs.saltproject.io/en/latest/topics/mine/
"""

from __future__ import annotations

import logging
import os

from salt.exceptions import CommandExecutionError, SaltException, SaltInvocationError

log = logging.getLogger(__name__)

# The function whose value the mine keeps.
CARD = "orthanc.card"


def card(config=None):
    """
    Part of the formula. Return what this site tells the others of itself; see ``orthanc.card``.

    config
        The path of the folder of the configuration; by default the one of the pillar.
    """
    config = __salt__["orthanc_folder.chosen"](config)
    network = (__pillar__.get("orthanc") or {}).get("network") or {}
    if "group" not in network:
        # Over salt-ssh a function sees no pillar, but a run does.
        noted = __salt__["orthanc_network_note.load"](config, "cards").get(__opts__["id"])
        if noted and __opts__["file_client"] == "local":
            return noted
        raise SaltInvocationError(
            "orthanc:network:group: is not in the pillar of this minion; over salt-ssh, apply the"
            " formula first"
        )
    options = __salt__["orthanc_folder.effective"](config)
    found = {"group": str(network["group"]), "role": str(network.get("role", "workstation"))}
    host = str(network.get("host") or _address())
    if options.get("DicomServerEnabled", True) and host:
        found.update(aet=options.get("DicomAet", "ORTHANC"), host=host)
        found.update(port=options.get("DicomPort", 4242), tls=bool(options.get("DicomTlsEnabled")))
    reached = __salt__["orthanc_server.access"](config)
    # No peer sends a password there in clear text.
    if reached["reachable from"] == "other hosts" and reached["url"].startswith("https://"):
        found["url"] = reached["url"]
    return found


def _address() -> str:
    """Return the first IPv4 address of this host that others reach, as far as it knows."""
    own = [*__grains__.get("fqdn_ip4", []), *__grains__.get("ipv4", [])]
    return next((one for one in own if not str(one).startswith("127.")), "")


def exchange(name, sites, test=False):
    """
    Part of the formula. Publish the card of this site, and return those of all: a mapping from the
    ID of a minion to its card; and why they may be old, a list of sentences.

    name
        The path of the folder of the configuration.

    sites
        Cards of the pillar, by the ID of the minion; they take the place of others.

    test
        True publishes and notes nothing.
    """
    noted, doubts = __salt__["orthanc_network_note.load"](name, "cards"), []
    # Over salt-ssh and without a master there is no mine to ask.
    if __opts__["file_client"] == "local":
        found = noted if test else {__opts__["id"]: card(name)}
    else:
        found = _mine(test)
        if __opts__["id"] not in found and not (test and found):
            found = noted
            doubts.append("the mine was not read; the cards that were seen last hold")
    if found != noted and not test:
        __salt__["orthanc_network_note.write"](name, found, "cards")
    return {**found, **sites}, doubts


def _mine(test: bool) -> dict:
    try:
        if not test and not __salt__["mine.send"](CARD):
            raise CommandExecutionError("this site has no card")
        found = __salt__["mine.get"]("*", CARD)
    # What a transport of Salt's raises is of many kinds.
    except (SaltException, OSError, ValueError) as err:
        log.warning("the mine cannot be used: %s", err)
        return {}
    return found if isinstance(found, dict) else {}


def leave(name, test=False):
    """
    Part of the formula. Take the card of this site back, if it was published.

    name
        The path of the folder of the configuration.

    test
        True only says whether there is one.

    Returns whether there was one.
    """
    path = __salt__["orthanc_network_note.path"](name, "cards")
    if not os.path.exists(path):
        return False
    if not test:
        if __opts__["file_client"] != "local":
            __salt__["mine.delete"](CARD)
        os.unlink(path)
    return True
