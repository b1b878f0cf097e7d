"""
What is noted of the modalities and peers that Orthanc keeps in its database: what the formula, and
its states, have put there. Orthanc itself shows no password of a peer again.

What Orthanc does (measured with 1.10.1, 1.12.7 and 1.13.0): with one of the ``SWITCHES``, it passes
over the modalities or peers of its files without a word; what comes over its REST API is in the
index at once, and holds after a restart. Without it, that is in memory alone.
"""

from __future__ import annotations

import contextlib
import json

# The options, and those that keep them in the database.
SWITCHES = {
    "DicomModalities": "DicomModalitiesInDatabase",
    "OrthancPeers": "OrthancPeersInDatabase",
}
# What is noted, and what that is.
NOTES = {"network": "modalities and peers", "cards": "cards"}
# Who wants one: this, the card of another site, or others.
PILLAR = "pillar"


def path(name, what="network"):
    """
    Part of the formula. Return the path of the note, which is beside the folder.

    name
        The path of the folder of the configuration.

    what
        What is noted: this, or the ``cards`` of other sites.
    """
    return f"{name}.{what}"


def read(name):
    """
    Part of the formula. Return what is noted, by option and by name: of each modality and peer what
    was ``wanted``, what Orthanc has ``shown`` of it then, and who wants it, ``of``.

    name
        See ``path``.
    """
    found = load(name)
    return {option: found.get(option) or {} for option in SWITCHES}


def load(name, what="network"):
    """
    Part of the formula. Return what is noted, a mapping, which is empty where that cannot be read.

    name, what
        See ``path``.
    """
    found = {}
    with contextlib.suppress(OSError, ValueError):
        found = json.loads(__salt__["orthanc_files.read_if_there"](path(name, what)) or "{}")
    return found if isinstance(found, dict) else {}


def write(name, noted, what="network"):
    """
    Part of the formula. Note something for root alone: there are passwords in it.

    name, what
        See ``path``.

    noted
        What ``load`` is to return.

    Raises CommandExecutionError if that failed.
    """
    with __salt__["orthanc_files.failing"](f"noting the {NOTES[what]}"):
        text = json.dumps(noted, indent=2) + "\n"
        __salt__["orthanc_files.write"](path(name, what), text, 0o600)


def kept(options):
    """
    Part of the formula. Return the options that Orthanc keeps in its database.

    options
        A mapping from option name to value.
    """
    return [option for option, switch in SWITCHES.items() if options.get(switch) is True]


def filled(options, name):
    """
    Part of the formula. Return options with the formula's own modalities and peers in the place of
    those that Orthanc passes over.

    options
        A mapping from option name to value.

    name
        See ``path``.
    """
    there = kept(options)
    noted = read(name) if there else {}
    own = {
        o: {one: row["wanted"] for one, row in noted[o].items() if row["of"] == PILLAR}
        for o in there
    }
    return {**options, **own}


def moved(options):
    """
    Part of the formula. Return options as the files have them where modalities and peers are in the
    database: these are left out, and the switches are on.

    options
        A mapping from option name to value.
    """
    found = {option: value for option, value in options.items() if option not in SWITCHES}
    return {**found, **dict.fromkeys(SWITCHES.values(), True)}
