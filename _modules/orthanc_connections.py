"""
The modalities and peers of a server that keeps them in its database: asked and changed over its
REST API while it goes on.

.. code-block:: text

    wanted --+                                +--> PUT, DELETE
             +-- plan: what Orthanc shows, and +
    note  ---+   of its secrets what is noted  +--> note

https://orthanc.uclouvain.be/book/users/rest.html
"""

from __future__ import annotations

import contextlib
import json
import urllib.parse

from salt.exceptions import CommandExecutionError, SaltInvocationError

# Where the REST API has them, and what one is called, by their option.
ROUTES = {"DicomModalities": "modalities", "OrthancPeers": "peers"}
NOUNS = {"DicomModalities": "modality", "OrthancPeers": "peer"}
# Who wants one, as orthanc_network_note has it.
PILLAR, CARD, OTHERS = "pillar", "card", "others"
LOST = (
    "orthanc:modalities_in_database: only Orthanc itself knows {}, added over its REST API, and"
    " with this change it would know them no longer; put them into the pillar (`salt-call"
    " orthanc.modalities` and `orthanc.peers` show them), or delete them with the states"
    " orthanc.modality_absent and orthanc.peer_absent or over the REST API"
)


def known(name, limit=None):
    """
    Part of the formula. Return the modalities and peers that Orthanc knows, by option and name;
    with the secrets of those that are as the formula's states have put them.

    name
        The path of the folder of the configuration.

    limit
        For how many seconds to wait at most; None for as long as is usual.

    Raises CommandExecutionError if Orthanc gives no answer.
    """
    shown = _shown(name, limit)
    noted = __salt__["orthanc_network_note.read"](name)
    return {
        option: {one: _told(item, noted[option].get(one)) for one, item in shown[option].items()}
        for option in ROUTES
    }


def _shown(name: str, limit: float | None = None) -> dict:
    paths = [f"/{route}?expand" for route in ROUTES.values()]
    given = {"limit": limit} if limit else {}
    answers = __salt__["orthanc_rest.get"](name, paths, **given)
    return {option: answer or {} for option, answer in zip(ROUTES, answers)}


def _told(shown: dict, noted) -> dict:
    """Return what is known of one: as it was put, if Orthanc still shows what it did then."""
    if noted and noted["shown"] == shown:
        return noted["wanted"]
    found = {key: value for key, value in shown.items() if value is not None}
    # Of headers Orthanc shows the names.
    if "HttpHeaders" in found:
        found["HttpHeaders"] = dict.fromkeys(found["HttpHeaders"], "")
    return found


def filled(options, name, limit=None):
    """
    Part of the formula. Return options with the modalities and peers that Orthanc keeps in its
    database; those that are noted, if it gives no answer.

    options
        A mapping from option name to value.

    name, limit
        See ``known``.
    """
    there = __salt__["orthanc_network_note.kept"](options)
    if there:
        with contextlib.suppress(CommandExecutionError):
            found = known(name, limit)
            return {**options, **{option: found[option] for option in there}}
    return __salt__["orthanc_network_note.filled"](options, name)


def of(name, configuration):
    """
    Part of the formula. Return the modalities and peers of a configuration by option and name, as
    the installed Orthanc takes them.

    name
        The path of the folder.

    configuration
        See :py:mod:`orthanc_layers`.
    """
    wanted = __salt__["orthanc_layers.complete"](configuration)
    here, _ = __salt__["orthanc_layers.versions"](wanted)
    options, _ = __salt__["orthanc_layers.options"](name, wanted, here.get("version"))
    return {option: options.get(option) or {} for option in ROUTES}


def changes(name, wanted):
    """
    Part of the formula. Return how the formula's modalities and peers differ from those that it has
    put there, as ``orthanc_differences.differences`` does; Orthanc is not asked.

    name
        The path of the folder.

    wanted
        What ``of`` returned.
    """
    switches = __salt__["orthanc_folder.effective"](name)
    return _differences(__salt__["orthanc_network_note.filled"](switches, name), wanted)


def _differences(old: dict, new: dict) -> dict:
    entries = __salt__["orthanc_differences.entries"]
    sides = [{option: side.get(option) or {} for option in ROUTES} for side in (old, new)]
    return __salt__["orthanc_differences.differences"](*map(entries, sides))


def _check(option: str, name: str, settings) -> None:
    """Raise an error, with all that is wrong, for what Orthanc would not take as it is meant."""
    command = __salt__["orthanc_options.command"]()
    version = __salt__["orthanc_options.installed"](command).get("version") if command else None
    found = __salt__["orthanc_options.check"]({option: {name: settings}}, version)
    if found:
        lines = [f"{':'.join(path[1:])}: {sentence}" for path, sentence in found]
        raise SaltInvocationError("\n".join(lines))


def ensure_all(name, wanted, site=None, test=False):
    """
    Part of the formula. Let Orthanc know the formula's modalities and peers, and those of the
    formula's no longer that have left it. Those of others stay.

    name
        The path of the folder.

    wanted
        What ``of`` returned.

    site
        What ``orthanc_cards.entries`` takes, with the ``sites`` of the pillar; None for no group.

    test
        True only says what would change.

    Returns the changes, without a secret; the ``others``, a list of words; and what of the cards of
    other sites is left out, a list of sentences.

    Raises CommandExecutionError if Orthanc gives no answer or refuses one.
    """
    noted = __salt__["orthanc_network_note.read"](name)
    own = {o: {one: row for one, row in noted[o].items() if row["of"] != OTHERS} for o in ROUTES}
    # Before the restart with which Orthanc looks there, all are to come.
    fresh = test and _kept(name) != [*ROUTES]
    found = {option: {} for option in ROUTES} if fresh else known(name)
    theirs = {
        o: {one: item for one, item in found[o].items() if one not in {*wanted[o], *own[o]}}
        for o in ROUTES
    }
    cards, left_out = {option: {} for option in ROUTES}, []
    if site:
        told, left_out = __salt__["orthanc_mine.exchange"](name, site["sites"], test)
        taken = {option: {**theirs[option], **wanted[option]} for option in ROUTES}
        before = {
            o: {one: row["wanted"] for one, row in own[o].items() if row["of"] == CARD}
            for o in ROUTES
        }
        cards, why = __salt__["orthanc_cards.entries"](told, site, taken, before)
        left_out = left_out + why
    new = {option: {**cards[option], **wanted[option]} for option in ROUTES}
    gone = {option: {*own[option]} - {*new[option]} for option in ROUTES}
    of = {o: {one: CARD if one in cards[o] else PILLAR for one in new[o]} for o in ROUTES}
    changed = _ensure(name, (new, gone, found), of, test)
    return changed, [f"{NOUNS[o]} {one}" for o in ROUTES for one in sorted(theirs[o])], left_out


def ensure(name, option, wanted, gone=(), test=False):
    """
    Part of the formula. Let Orthanc know some modalities or peers, or no longer.

    name
        The path of the folder.

    option
        DicomModalities or OrthancPeers.

    wanted
        Those to be known, a mapping from name to settings.

    gone
        The names of those to be gone.

    test
        True only says what would change.

    Returns the changes, without a secret.

    Raises SaltInvocationError for what Orthanc would not take, or if it does not keep them in its
    database, and CommandExecutionError if it gives no answer or refuses one.
    """
    for one, settings in wanted.items():
        _check(option, one, settings)
    if option not in _kept(name):
        raise SaltInvocationError(
            "Orthanc would forget that at its next restart; set orthanc:modalities_in_database:"
            " true and apply the formula first"
        )
    sides = [{**{o: {} for o in ROUTES}, option: side} for side in (wanted, dict.fromkeys(gone))]
    return _ensure(name, (*sides, known(name)), {o: {} for o in ROUTES}, test)


def _kept(name: str) -> list[str]:
    """Return the options that Orthanc keeps in its database."""
    options = __salt__["orthanc_folder.effective"](name)
    return __salt__["orthanc_network_note.kept"](options)


def _ensure(name: str, sides: tuple, of: dict, test: bool) -> dict:
    """
    Let Orthanc know what is wanted, and no longer what is to be gone; return the changes.

    of
        Who wants it, by option and name, where that is the formula.
    """
    wanted, gone, found = sides
    new = {
        option: {
            **{one: item for one, item in found[option].items() if one not in gone[option]},
            **wanted[option],
        }
        for option in ROUTES
    }
    changed = _differences(found, new)
    if test:
        return changed
    touched = {":".join(path.split(":")[:2]) for path in changed}
    rows = [
        (option, one, wanted[option].get(one))
        for option in ROUTES
        for one in sorted({*wanted[option], *gone[option]} & {*new[option], *found[option]})
        # What Orthanc does not show of a peer is said again: its index may be an older one.
        if f"{option}:{one}" in touched or (option == "OrthancPeers" and one in wanted[option])
    ]
    requests = [
        ("PUT" if item else "DELETE", f"/{ROUTES[option]}/{urllib.parse.quote(one, safe='')}", item)
        for option, one, item in rows
    ]
    answers = __salt__["orthanc_rest.send_all"](name, requests) if requests else []
    done = [row for row, (code, _) in zip(rows, answers) if code == 200]
    same = [(o, one, wanted[o][one]) for o in ROUTES for one in wanted[o]]
    away = [(o, one, None) for o in ROUTES for one in gone[o] if one not in found[o]]
    _note(name, [row for row in same if row not in rows] + away + done, of)
    for (method, path, _), (code, answer) in zip(requests, answers):
        if code != 200:
            why = __salt__["orthanc_rest.refusal"](code, answer, f"{method} {path}")
            raise CommandExecutionError(why)
    return changed


def _note(name: str, rows: list, of: dict) -> None:
    """Note what is there now, and what Orthanc shows of it, where that is news."""
    noted = __salt__["orthanc_network_note.read"](name)
    before = json.dumps(noted, sort_keys=True)
    shown = _shown(name) if rows else {}
    for option, one, item in rows:
        row = noted[option].pop(one, {})
        if item is not None:
            row = {**row, "wanted": item, "shown": shown[option].get(one)}
            row["of"] = of[option].get(one) or row.get("of", OTHERS)
            noted[option][one] = row
    if json.dumps(noted, sort_keys=True) != before:
        __salt__["orthanc_network_note.write"](name, noted)


def strayed(case):
    """
    Part of the formula. Say which modalities and peers would be lost where they are to be kept
    elsewhere than now, because only Orthanc knows them, a list of sentences.

    case
        What ``orthanc_judge.case`` returned.
    """
    kept, wanted = __salt__["orthanc_network_note.kept"], case.wanted["in_database"]
    now = kept(case.before)
    then = [*ROUTES] if wanted else kept(case.options)
    moving = [option for option in ROUTES if (option in now) != (option in then)]
    if not moving or not case.host:
        return []
    folder = __salt__["orthanc_folder.in_use"](case.name, case.wanted["service"])
    noted = __salt__["orthanc_network_note.read"](folder)
    try:
        found = _shown(folder)
    except CommandExecutionError:
        # Of one that does not run nothing is lost: it is where it was, should the key come back.
        return []
    lost = [
        f"{NOUNS[option]} {one}"
        for option in moving
        for one in sorted({*found[option]} - {*case.options.get(option, ())})
        # The formula's own go as they would otherwise.
        if one not in (case.before.get(option) or ())
        and noted[option].get(one, {"of": OTHERS})["of"] == OTHERS
    ]
    return [LOST.format(", ".join(lost))] if lost else []
