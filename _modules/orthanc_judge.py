"""
Everything that can be said of a configuration before anything is done: by the tables of options,
by what is on this host, and by what its server has now.

What is in use and unchanged is not refused, but warned about: a run must be able to lock a user out
on a host with an expired certificate.
"""

from __future__ import annotations

import os
import re
from typing import NamedTuple

# What is said of a mistake with which Orthanc serves already.
IN_USE = "Orthanc serves with it already; this run goes on"
# Where the pillar lets in users whose passwords everybody knows.
DEMO_USERS = "orthanc:demo_users"
NO_USERS = (
    "orthanc:users: is not in the pillar of this host, but its server has users, who would be gone;"
    " put them there (does the top file of the pillar name this host?), or write `users: {}` for a"
    " server that asks nobody who he is"
)


class Case(NamedTuple):
    """What is judged, gathered once."""

    name: str  # the path of the folder
    wanted: dict  # the configuration, complete
    here: dict  # what the installed Orthanc says of itself
    expected: str | None  # the version that will be there
    options: dict  # as that version takes them
    origins: dict  # where each of them comes from, see orthanc_layers
    before: dict  # those that the server has now, with the places of images and index
    host: bool  # whether the files that are there count

    @property
    def placed(self) -> dict:
        """The options with the places of images and index."""
        return __salt__["orthanc_folder.with_places"](self.options, self.name)

    @property
    def account(self) -> dict:
        """The names of Orthanc's user and group."""
        return __salt__["orthanc_layers.account"](self.wanted)

    def texts(self, entries: dict) -> dict:
        """The texts of files by their whole path."""
        return __salt__["orthanc_files.at"](self.name, entries)


def case(name, configuration, host=True):
    """
    Part of the formula. Return what ``judge`` needs.

    name
        The path of the folder.

    configuration
        See :py:mod:`orthanc_layers`.

    host
        False leaves out what depends on the files that are there.

    Raises SaltInvocationError if something in the configuration is missing, unknown or no mapping.
    """
    wanted = __salt__["orthanc_layers.complete"](configuration)
    here, expected = __salt__["orthanc_layers.versions"](wanted)
    options, origins = __salt__["orthanc_layers.options"](name, wanted, expected)
    before = __salt__["orthanc_folder.options_in_use"](name, wanted["service"]) if host else {}
    return Case(name, wanted, here, expected, options, origins, before, host)


def judge(case, refused=()):
    """
    Part of the formula. Say what is wrong with a configuration, for this host and its Orthanc.

    case
        What ``case`` returned.

    refused
        What was found while the pillar was read, a list of sentences. Of the keys in them a default
        may have taken the place: neither that nor what follows from it alone is told.

    Returns ``problems`` and ``warnings``, each a list of sentences with pillar path and remedy; and
    ``paths``, the problems with files and folders that another state may bring until Orthanc is
    told of them.
    """
    paths = _paths(case) if case.host else ([], [])
    found = [part(case) for part, asks_host in PARTS if case.host or not asks_host]
    problems = [problem for part in found for problem in part[0]]
    warnings = [warning for part in [*found, paths] for warning in part[1]]
    keys = {":".join(line.partition(": ")[0].split(":")[:2]) for line in refused}
    keys.discard("orthanc:config")
    of = case.origins.items()
    unsaid = [p[0] for p, origin in of if origin.default and not _without(keys, [origin.key or ""])]
    return {
        "problems": _without(unsaid, lines(case, problems)),
        "warnings": _without(keys, lines(case, warnings)),
        "paths": lines(case, paths[0]),
    }


def _without(words, lines: list) -> list:
    """Return the lines that name none of some words."""
    return [each for each in lines if not any(re.search(rf"{re.escape(w)}\b", each) for w in words)]


def lines(case, found):
    """
    Part of the formula. Return a line for each thing that was found, each line once.

    case
        What ``case`` returned.

    found
        A list of sentences, which stay as they are, and of pairs of an option's path and a
        sentence, before which comes the path of the pillar.
    """
    key_of = __salt__["orthanc_layers.key_of"]
    told = [e if isinstance(e, str) else f"{key_of(e[0], case.origins)}: {e[1]}" for e in found]
    # A key of the pillar may be more than one option.
    return list(dict.fromkeys(told))


def _options(case: Case) -> tuple[list, list]:
    """
    Check the options by the tables; what Orthanc serves with already is no worse for this run,
    which may lock out a user, and must not wait until it is put right.
    """
    known = []
    checked_for = _checked_for(case, case.options, case.expected)
    mistakes = __salt__["orthanc_options.check"](case.options, **checked_for)
    served = __salt__["orthanc_folder.served"](case.name) if case.host and mistakes else {}
    if served:
        checked_for = _checked_for(case, served, case.here.get("version"))
        known = [
            pair
            for pair in __salt__["orthanc_options.check"](served, **checked_for)
            if _at_path(served, pair[0]) == _at_path(case.options, pair[0])
        ]
    warnings = [(path, f"{sentence} ({IN_USE})") for path, sentence in known]
    return [pair for pair in mistakes if pair not in known], warnings


def _checked_for(case: Case, options: dict, version: str | None) -> dict:
    """Return what ``orthanc_options`` has to know of this host, besides the options."""
    return {
        "version": version,
        "sample": case.here.get("sample") if version == case.here.get("version") else None,
        "plugins": __salt__["orthanc_plugins.here"](options, case.name) if case.here else None,
        "packages": __salt__["orthanc_layers.coming"](case.wanted),
        "allowed": case.wanted["sections"],
    }


def _advice(case: Case) -> tuple[list, list]:
    """Return what is allowed, and not wise."""
    checked_for = _checked_for(case, case.options, case.expected)
    return [], [
        *__salt__["orthanc_options.doubts"](case.options, **checked_for),
        *__salt__["orthanc_options.advice"](case.options),
        *__salt__["orthanc_database.advice"](case.options),
    ]


def _strangers(case: Case) -> tuple[list, list]:
    """Judge the files that are of nobody here: Orthanc would not start with some of them."""
    wanted = case.wanted
    problems = __salt__["orthanc_folder.elsewhere"](case.name, wanted)
    owned = __salt__["orthanc_layers.place"](wanted, case.options)
    others = __salt__["orthanc_folder.others"](case.name, owned, case.options)
    for entry, content in others.items():
        path = os.path.join(case.name, entry)
        if content is None:
            problems.append(
                f"{path} cannot be read as JSON, and Orthanc does not start with it; remove it or"
                " put it right"
            )
        elif _is_shut_out(case, path):
            problems.append(
                f"{path} cannot be read by the user {wanted['user']}, and Orthanc does not start"
                f" without it; let its group do so: chgrp {wanted['group']} {path};"
                f" chmod g+r {path}"
            )
        twice = sorted({*(content or {})} & {*case.options}.union(*owned.values()))
        problems += [_set_twice(case, path, option) for option in twice]
        problems += __salt__["orthanc_folder.in_part"](path, content or {}, case.options)
    return problems, []


def _is_shut_out(case: Case, path: str) -> bool:
    """Return whether Orthanc's account gets into the folder, and not at a file in it."""
    may = __salt__["orthanc_host.may"]
    return may(["-x", case.name], **case.account) and not may(["-r", path], **case.account)


def _set_twice(case: Case, path: str, option: str) -> str:
    """Return that a file of somebody else's sets an option that the formula sets."""
    origin = case.origins.get((option,))
    key = __salt__["orthanc_layers.key_of"]([option], case.origins)
    sentence = f"{path} sets {option}, which {key} sets too; remove it from that file"
    # Some have no setting: users bring a script.
    if not origin or not origin.key or origin.default:
        default = ", by default" if origin and origin.default else ""
        sentence = (
            f"{path} sets {option}, which the formula sets too{default}; say it in {key} and"
            " remove it from that file"
        )
    return f"{sentence}, because Orthanc does not start when two files set one option"


def _places(case: Case) -> tuple[list, list]:
    """
    Say why the server would no longer find its images: they stay where they are while it is told to
    look elsewhere, or they are not there.
    """
    has_images = __salt__["orthanc_database.has_images"]
    old_places, new_places = map(__salt__["orthanc_folder.places"], (case.before, case.placed))
    used = (has_images, lambda folder: os.path.exists(os.path.join(folder, "index")))
    problems = []
    for (option, new), is_used in zip(new_places.items(), used):
        old = old_places[option]
        if not isinstance(old, str) or not isinstance(new, str):
            continue
        if os.path.normpath(old) == os.path.normpath(new):
            continue
        in_use = has_images(case.before.get("StorageDirectory", old)) and is_used(old)
        if in_use and not is_used(new):
            sentence = (
                f"the server keeps its images in {old}, and {new} holds none of them; set it to"
                f" {old}, or stop the server and move the folder first"
            )
            problems.append(([option], sentence))
    # What was not moved along is missing for that reason.
    return (problems, []) if problems else strange(case)


def strange(case, files=None):
    """
    Part of the formula. Return what Orthanc would not find again of images and index, problems and
    warnings; see ``orthanc_identity.judge``.

    case
        What ``case`` returned.

    files
        The texts of certificates by their path, where a database on another host is asked too.
    """
    options, before = case.placed, case.before
    judge_cluster = __salt__["orthanc_cluster.judge"]
    apart = [] if files is None else judge_cluster(options, case.account, files)
    if apart:
        return apart, []
    known = __salt__["orthanc_proof.identity"](case.name)
    seen = __salt__["orthanc_proof.seen"](options, known, case.account, files)
    moved = __salt__["orthanc_move_note.is_told"](case.name, before, options, seen)
    if not seen or moved or (before and not __salt__["orthanc_identity.in_folder"](before)):
        return [], []
    index, places = __salt__["orthanc_postgresql.index"], __salt__["orthanc_folder.places"]
    # Asked only where it matters.
    doubtful = seen["lacking"] or seen["knows"] is False
    running = bool(doubtful) and __salt__["service.status"](case.wanted["service"])
    served = bool(
        (running or __salt__["orthanc_files.last_good"](case.name))
        and places(before) == places(options)
        and index(before) == index(options)
    )
    note = __salt__["orthanc_proof.notes"](case.name)["identity"]
    found = __salt__["orthanc_identity.judge"](known, seen, note, served, running)
    place_of_index = ["IndexDirectory"] if seen["index"] else ["PostgreSQL", "EnableIndex"]
    place = {"storage": ["StorageDirectory"], "index": place_of_index}
    return (
        [(place[part], sentence) for part, sentence in found["problems"]],
        [(place[part], f"{sentence} ({IN_USE})") for part, sentence in found["warnings"]],
    )


def _folders(case: Case) -> tuple[list, list]:
    """Judge the folders that will be closed to others; what is not Orthanc's alone cannot be."""
    problems, warnings, in_use = [], [], set()
    # A server of the formula's making has them already, as they are.
    if __salt__["orthanc_files.last_good"](case.name):
        found = __salt__["orthanc_folder.places"](case.before).values()
        home = os.path.expanduser(f"~{case.wanted['user']}")
        in_use = {case.name, home, *filter(None, found)}
    for place, folder in case.wanted["folders"].items():
        reason, may_stay = __salt__["orthanc_access.why_open"](folder, place, **case.account)
        if reason and may_stay and folder in in_use:
            warnings.append(f"{place}: {reason} ({IN_USE})")
        elif reason:
            problems.append(f"{place}: {reason}")
    return problems, warnings


def _paths(case: Case) -> tuple[list, list]:
    """
    Judge the files and folders that the options name; not those that come with the configuration,
    and none while Orthanc's account is still to come.
    """
    wanted = case.wanted
    if __salt__["file.user_to_uid"](wanted["user"]) == "":
        return [], []
    own = case.texts({**wanted["texts"], **wanted["pems"], **wanted["scripts"]})
    expected = case.options["Plugins"] if wanted["plugin_folder"] else wanted["plugins"]
    to_come = [path for path in expected if not os.path.lexists(path)]
    unit = {"service": wanted["service"], "run": _coming_unit(case)}
    found = __salt__["orthanc_paths.judge"](
        case.options,
        case.name,
        {
            **case.account,
            **({} if wanted["aside"] else unit),
            "prepared": bool(wanted["hardening"]),
        },
        known=[case.before, __salt__["orthanc_layers.unasked"](wanted)],
        coming=[*own, *to_come, *wanted["folders"].values(), *wanted["made"]],
        command=wanted["command"],
    )
    unmade = __salt__["orthanc_paths.unmade"](wanted["made"])
    return unmade + found["problems"], found["warnings"]


def _coming_unit(case: Case) -> list[str] | None:
    """
    Return the words that run a command as the service will be run; None where the unit stays as it
    is, and its service can be looked into.
    """
    given = (case.name, case.wanted, case.options)
    if case.wanted["hardening"] and __salt__["orthanc_hardening.changed"](*given):
        return [*__salt__["orthanc_hardening.words"](*given), "--"]
    return None


def _sources(case: Case) -> tuple[list, list]:
    """
    Judge where scripts, certificates and keys come from; and what is asked over a connection that
    these are for.
    """
    wanted = case.wanted
    shown = _shown(case) if case.host and wanted["certificates"] else {}
    found = __salt__["orthanc_tls.judge"](wanted["certificates"], wanted["saltenv"], shown)
    problems = list(found["problems"])
    if not problems:
        files = case.texts(__salt__["orthanc_layers.pems"](case.name, wanted))
        problems += _overwritten(case, files)
        left_behind = __salt__["orthanc_database.left_behind"]
        given = {**case.account, "texts": files, "name": case.name}
        problems += left_behind(case.before, case.options, **given)
    return __salt__["orthanc_scripts.judge"](wanted) + problems, found["warnings"]


def _shown(case: Case) -> dict:
    """Return the certificates that the server shows already, by their place in the pillar."""
    chain, before, site = __salt__["orthanc_tls.chain"], case.before, case.wanted["site"]
    found, live = {}, __salt__["orthanc_nginx.site"](site) if site else {}
    if live:
        found["orthanc:https"] = chain(live["certificate"])
        # A file that was replaced since nginx read it is not in use yet.
        if __salt__["orthanc_tls.served"](live["port"]) not in ([], found["orthanc:https"]):
            del found["orthanc:https"]
    elif before.get("SslEnabled"):
        found["orthanc:https"] = chain(str(before.get("SslCertificate")))
    if before.get("DicomTlsEnabled"):
        found["orthanc:dicom:tls"] = chain(str(before.get("DicomTlsCertificate")))
    return found


def _overwritten(case: Case, files: dict) -> list[str]:
    """Return the files elsewhere that are of somebody else, and would be written over."""
    is_ours, read = __salt__["orthanc_files.is_ours"], __salt__["orthanc_files.read"]
    return [
        f"orthanc:postgresql:ca: {path} is there already, and holds something else than"
        " orthanc:postgresql:ca_source; choose another path, or remove it"
        for path, text in files.items()
        if not path.startswith(f"{case.name}/")
        and text is not None
        and os.path.lexists(path)
        and not is_ours(case.name, path)
        and not (os.path.isfile(path) and read(path) == text)
    ]


def _users(case: Case) -> tuple[list, list]:
    """Judge whether a server would lose all of its users."""
    had, has = case.before.get("RegisteredUsers"), case.options.get("RegisteredUsers")
    return [NO_USERS] if had and not has and not case.wanted["allow_no_users"] else [], []


def _secrets(case: Case) -> tuple[list, list]:
    """
    Judge the secrets that protect nothing. What is in use, and reached from nowhere else than
    before, is not refused.
    """
    options, before, remote = case.options, case.before, case.wanted["remote_access"]
    if remote is None:
        remote = options.get("RemoteAccessAllowed") is True
    used_remotely = before.get("RemoteAccessAllowed") is True or _site_is_open(case.wanted["site"])
    new, old = open_secrets(options, remote), open_secrets(before, used_remotely)
    problems, warnings = [], new["weak"]
    for path, sentence in new["failed"] + new["known"]:
        in_use = (path, sentence) in old["failed"] + old["known"]
        same = in_use and _at_path(before, path) == _at_path(options, path)
        (warnings if same else problems).append((path, sentence))

    def without_demo_users(pairs):
        # They have a warning of their own.
        key_of = __salt__["orthanc_layers.key_of"]
        return [pair for pair in pairs if key_of(pair[0], case.origins) != DEMO_USERS]

    return without_demo_users(problems), without_demo_users(warnings)


def open_secrets(options, remote):
    """
    Part of the formula. Return the secrets of options that protect nothing; see
    ``orthanc_passwords.check``.

    options
        A mapping from option name to value.

    remote
        Whether other hosts reach the server.
    """
    shown = {o: __salt__["orthanc_options.redact"](o, value) for o, value in options.items()}
    return __salt__["orthanc_passwords.check"](options, shown, remote)


def _at_path(value, path: list):
    """Return what stands at a path of names and numbers, as deep as there is something."""
    for key in path:
        if isinstance(value, dict) and key in value:
            value = value[key]
        elif isinstance(value, list) and key.isdigit() and int(key) < len(value):
            value = value[int(key)]
    return value


def _site_is_open(site) -> bool:
    """Return whether nginx listens for other hosts too, with the site as it is."""
    text = __salt__["orthanc_files.read_if_there"](site) if site else None
    return bool(re.search(r"(?m)^\s*listen (?!127\.|\[::1\])", text or ""))


def _devices(case: Case) -> tuple[list, list]:
    """Judge the devices that the server would not know."""
    found = __salt__["orthanc_modalities.check"](case.options, case.before)
    return found["problems"], found["warnings"]


def _reserve(case: Case) -> tuple[list, list]:
    """Return where the server would refuse new images because there is too little space."""
    return [], __salt__["orthanc_reserve.advice"](case.placed, case.wanted["reserve"])


def _upgraded(case: Case) -> tuple[list, list]:
    """Judge what others have done to the packages since Orthanc was last seen serving."""
    found, server = __salt__["orthanc_proof.upgraded"](case.name), __salt__["orthanc_tables.get"]
    return __salt__["orthanc_packages.judge"](found, server("SERVER"), case.wanted["version"])


def database(name, configuration):
    """
    Part of the formula. Say why Orthanc could not use its PostgreSQL database with a configuration.

    name, configuration
        See ``case``.

    Returns ``problems``, a list of sentences with pillar path and PostgreSQL's own words; and
    ``untried``, why that cannot be tried, None if it can.

    Raises SaltInvocationError if something in the configuration is missing, unknown or no mapping,
    or if a certificate is not there.
    """
    judged = case(name, configuration)
    files = judged.texts(__salt__["orthanc_layers.pems"](name, judged.wanted))
    given = {**judged.account, "texts": files}
    found = __salt__["orthanc_database.tried"](judged.options, **given)
    left_behind = __salt__["orthanc_database.left_behind"]
    found = found or left_behind(judged.before, judged.options, **given, name=name)
    found = found or strange(judged, files)[0]
    untried = __salt__["orthanc_database.untried"](judged.options, judged.account["user"])
    return {"problems": lines(judged, found), "untried": untried}


# In the order of the lines: what is judged, and whether that depends on the files that are there.
PARTS = (
    (_options, False),
    (_strangers, True),
    (_places, True),
    (_folders, True),
    (_sources, False),
    (_users, False),
    (_secrets, False),
    (_devices, False),
    (_advice, False),
    (_reserve, True),
    (_upgraded, True),
)
