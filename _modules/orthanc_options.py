"""
What Orthanc and its plugins can be told: options, checked, adapted to a version, advised on, and
shown without secrets.

Orthanc ignores an option that it does not know without a word, reads some wrong values as
"unlimited", and dies of others a second after its start. So every option is held against
:py:mod:`orthanc_tables` before it gets near a server. An option that the tables lack is known if
the sample configuration of the installed Orthanc (``Orthanc --config=-``) has it.

All functions but ``command`` and ``installed`` are pure.

https://orthanc.uclouvain.be/book/users/configuration.html
"""

from __future__ import annotations

import functools
import logging
import os
import re
import shutil
from collections import namedtuple

log = logging.getLogger(__name__)

# What Salt offers.
__load__ = ["adapt", "advice", "check", "command", "defaults", "doubts", "idle"]
__load__ += ["installed", "is_before", "libraries", "redact", "untouchable"]

# What options are checked for; see ``check``.
Host = namedtuple("Host", "version sample plugins packages")
# Above all versions
NEWEST = "9999"
# The version in the name of a plugin's file, as Debian and openSUSE give it.
RELEASE_IN_NAME = re.compile(r"\.so\.(\d+(?:\.\d+)*)$")
HIDDEN = "(hidden)"
# The kind of an option of which only the value in the sample is known.
KINDS_OF_SAMPLES = ((bool, "flag"), (int, "integer"), (str, "text"), (list, {"items": "anything"}))
# What is said of a wrong value that is not shown.
NOT_SHOWN = {type(None): "nothing", str: "a text", dict: "a mapping", list: "a list"}


def _table(name: str):
    return __salt__["orthanc_tables.get"](name)


def _plugin(option):
    """Return the row of an option that only a plugin reads, a whole section or not; or None."""
    return _table("SECTIONS").get(option) or _table("PLUGIN_OPTIONS").get(option)


def redact(name: str, value):
    """
    Part of the formula. Return the value as it may be shown: every part that may be secret is
    hidden.

    name
        The name of the option; names below an option are joined by colons.

    value
        Its value.
    """
    name = str(name)
    if isinstance(value, dict):
        return {key: redact(f"{name}:{key}", item) for key, item in value.items()}
    hidden = _table("HIDDEN_OPTIONS")
    if any(name == option or name.startswith(f"{option}:") for option in hidden):
        return HIDDEN
    if re.search(_table("HIDDEN_KEYS"), name, re.IGNORECASE) or _is_of_nobody(name):
        return HIDDEN
    if isinstance(value, (list, tuple)):
        return [redact(name, item) for item in value]
    if isinstance(value, str) and re.search(_table("HIDDEN_VALUES"), value):
        return HIDDEN
    return value


def _is_of_nobody(name: str) -> bool:
    """Return whether a key stands in a section that nobody knows, or is unknown in its section."""
    section, *below = name.split(":")
    if not below or section in _table("OPTIONS") or section in _table("PLUGIN_OPTIONS"):
        return False
    keys_are_known = section not in _table("SECTIONS") or "keys" in _table("SECTIONS")[section]
    return keys_are_known and [section] not in _elsewhere().get(below[0], [])


def adapt(options: dict, version: str | None = None) -> dict:
    """
    Part of the formula. Return the options in the form that this version of Orthanc takes.

    options
        A mapping from option name to value.

    version
        The version of Orthanc; None leaves everything as it is.
    """
    adapted = dict(options)
    for option, (since, forms) in _table("NEW_FORMS").items():
        value = options.get(option)
        for old, new in forms:
            if version and is_before(version, since) and value == new:
                adapted[option] = old
            elif version and not is_before(version, since) and _is(options, option, old):
                adapted[option] = new
    for option, (since, until, old) in _table("OLD_NAMES").items():
        value, other = options.get(option), options.get(old)
        its_own = version and not is_before(version, since) and not is_before(until, version)
        if its_own and isinstance(value, list) and isinstance(other, (list, type(None))):
            adapted[old] = [*(other or ()), *value]
            del adapted[option]
    bound = options.get("HttpBindAddresses") == _table("LOOPBACK")
    if bound and options.get("RemoteAccessAllowed") is False and is_before(version, "1.12.10"):
        # There is no such option yet, and what comes from elsewhere is refused all the same.
        del adapted["HttpBindAddresses"]
    return adapted


def check(options, version=None, sample=None, plugins=None, packages=(), allowed=()):
    """
    Part of the formula. Return all that is wrong with options, as a list of pairs: the path of the
    value, as a list of names, and one sentence that says what is wrong and what would be right,
    without a secret.

    options
        A mapping from option name to value.

    version
        The version of Orthanc that has to take them; None for the newest.

    sample
        A mapping from the names of the options in this Orthanc's own sample to their values
        (None where the sample only mentions the option). They are known, whatever the tables say.

    plugins
        The names of the files of all plugins that are loaded, as the links to them end; a version
        behind ``.so`` is believed. And the whole paths of others that are there. None leaves open
        whether a plugin is there.

    packages
        The names of packages that will be there: their plugins count as well.

    allowed
        The names of options of plugins for which somebody vouches; see ``doubts``.
    """
    host = Host(version, sample or {}, plugins, packages)
    problems = []
    for option, value in options.items():
        path, before = [str(option)], len(problems)
        if option not in allowed or option in _table("OPTIONS"):
            problems += _unlike_tables(option, value, host)
        if len(problems) == before:
            problems += _not_json(value, path)
        problems += _substitutions(value, path)
    problems += _old_names(options, version)
    wrong = {path[0] for path, _ in problems}
    conflicts = __salt__["orthanc_conflicts.check"](options, version)
    problems += [conflict for conflict in conflicts if conflict[0][0] not in wrong]
    port, dicom = options.get("HttpPort", 8042), options.get("DicomPort", 4242)
    whole = type(port) is type(dicom) is int
    if options.get("DicomServerEnabled", True) and whole and port == dicom:
        problems.append((["DicomPort"], f"must not be {dicom}, which is the port for HTTP"))
    return problems


def doubts(options, version=None, sample=None, plugins=None, packages=(), allowed=()):
    """
    Part of the formula. Return what ``check`` would say of the options of plugins for which
    somebody vouches, in the same form: the tables may be older than the plugin, but they may also
    be right.

    options, version, sample, plugins, packages, allowed
        See ``check``. Of what the tables do not know at all nothing is said.
    """
    host = Host(version, sample or {}, plugins, packages)
    return [
        (path, f"{sentence} (not refused, because orthanc:plugin_sections names {option})")
        for option in options
        if option in allowed and _plugin(option)
        for path, sentence in _unlike_tables(option, options[option], host)
    ]


def advice(options):
    """
    Part of the formula. Return which options the security page of the Orthanc Book advises against,
    as a list of pairs: the path of the value, and a sentence.

    options
        A mapping from option name to value.

    https://orthanc.uclouvain.be/book/faq/security.html
    """
    return [
        ([option], f"{str(value).lower()} is advised against by the Orthanc Book: {reason}")
        for option, (unsafe, reason) in _table("ADVISED_AGAINST").items()
        for value in [options.get(option)]
        if _is(options, option, unsafe)
    ] + [
        ([row["option"]], row["why"])
        for row in _table("ADVISED_AGAINST_TOGETHER")
        if _is(options, row["option"], row["is"])
        and all(_is({**_table("DEFAULTS"), **options}, *pair) for pair in row["beside"].items())
    ]


def libraries(options):
    """
    Part of the formula. Return which plugins options ask for, as pieces of the names of their
    files.

    options
        A mapping from option name to value.
    """
    found = []
    for option, value in options.items():
        plugin, switches = _plugin(option), []
        if isinstance(value, dict):
            switches = [value[key] for key in _table("SWITCHES") if key in value]
        if plugin and (not switches or any(switches)):
            found += plugin["library"]
    return found


def untouchable():
    """
    Part of the formula. Return what a trial start must not touch: a mapping from section to None,
    if it must go as a whole, or to the keys and values that make it harmless.
    """
    return _table("UNTOUCHABLE")


def command():
    """
    Part of the formula. Return the path of Orthanc's program, an empty text where there is none.
    """
    return shutil.which("Orthanc") or shutil.which("orthanc") or ""


def installed(command):
    """
    Part of the formula. Return what the Orthanc of this host says of itself: its ``version`` (None
    where that is no release), the ``sample`` of its options, and the ``texts`` of it; nothing where
    it is not installed.

    command
        The path of the program.
    """
    if not os.access(command, os.X_OK):
        return {}
    key = f"orthanc_options.{command}.{os.stat(command).st_mtime_ns}"
    if key not in __context__:
        found = re.match(r"\S*orthanc (\d+(?:\.\d+)+)", _ask(command, "--version"), re.I)
        version = found and found.group(1)
        texts = [_ask(command, "--config=-")]
        # An older one does not know this argument, ignores it and starts to serve.
        if version and not is_before(version, "1.13.0"):
            texts.append(_ask(command, "--advanced-config=-"))
        sample = {}
        for text in texts:
            # Options that are commented out stand below the outermost brace.
            sample.update(dict.fromkeys(re.findall(r'(?m)^  //\s*"(\w+)"\s*:', text)))
            try:
                sample.update(__salt__["orthanc_json.parse"](text))
            except ValueError as err:
                log.warning("the sample configuration of %s cannot be read: %s", command, err)
        __context__[key] = {"version": version, "sample": sample, "texts": texts}
    return __context__[key]


def defaults(here):
    """
    Part of the formula. Return what Orthanc does where an option is not set, as far as that is
    known: a mapping from option name to value.

    here
        What ``installed`` returned. openSUSE's sample is a configuration of its own in part.
    """
    sample = {o: value for o, value in (here.get("sample") or {}).items() if value is not None}
    compressed = is_before(here.get("version"), "1.12.2")
    return {**sample, **_table("DEFAULTS"), "HttpCompressionEnabled": compressed}


def _ask(command: str, argument: str) -> str:
    return __salt__["cmd.run_stdout"](
        [command, argument], python_shell=False, output_loglevel="quiet", timeout=20
    )


def is_before(version: str | None, other: str) -> bool:
    """
    Part of the formula. Return whether a version is older than another one; None is the newest.

    version, other
        Numbers with points between them.
    """
    return __salt__["orthanc_shapes.is_before"](version, other)


def _is(options: dict, option: str, value) -> bool:
    """Return whether an option has a value, or one of a shape."""
    given = options.get(option)
    if isinstance(value, dict):
        return __salt__["orthanc_shapes.fits"](given, value, _table("KINDS"))
    return given == value and type(given) is type(value)


def _unlike_tables(option, value, host: Host) -> list:
    """Return what is wrong with an option by the tables, in the form of ``check``."""
    path, sample, plugin = [str(option)], host.sample, _plugin(option)
    orthanc = {"name": "Orthanc", "version": host.version or NEWEST, "libraries": {}}
    if option in _table("OPTIONS"):
        shape = _table("OPTIONS")[option]
        if option in sample and isinstance(shape, dict):
            # It is older than the tables say, or not gone.
            shape = {word: shape[word] for word in shape if word not in ("since", "until")}
        return _mistakes(value, shape, path, orthanc)
    if plugin:
        found = _mistakes(value, plugin, path, _release(plugin, host))
        missing = path not in [where for where, _ in found] and not idle(value)
        return found + (_missing_plugin(plugin, host, path) if missing else [])
    if option in sample:
        kinds = (kind for cls, kind in KINDS_OF_SAMPLES if isinstance(sample[option], cls))
        return _mistakes(value, next(kinds, "anything"), path, orthanc)
    known = [*sample, *_table("OPTIONS"), *_table("SECTIONS"), *_table("PLUGIN_OPTIONS")]
    sentence = f"unknown option, {_meant(path, known)}"
    if isinstance(value, dict) and not __salt__["orthanc_names.instead"](path):
        sentence += "; if a plugin that the formula does not know reads it, name it in"
        sentence += " orthanc:plugin_sections"
    return [(path, sentence)]


def _release(plugin: dict, host: Host) -> dict:
    """Return of which release of a plugin its options have to be known."""
    found = {
        piece: RELEASE_IN_NAME.search(file)
        for piece in plugin["library"]
        for file in host.plugins or ()
        if not file.startswith("/") and piece.lower() in file.lower()
    }
    libraries = {piece: number and number.group(1) for piece, number in found.items()}
    if plugin["package"] == _table("SERVER"):
        name, version = "Orthanc", host.version or NEWEST
    else:
        versions = [number for number in libraries.values() if number]
        name = plugin["package"] or plugin["library"][0]
        oldest = sorted(versions, key=lambda version: [*map(int, version.split("."))])[:1]
        version = oldest[0] if oldest else None
    return {"name": name, "version": version, "libraries": libraries}


def _old_names(options: dict, version: str | None) -> list:
    """Return the options that this version of Orthanc reads by another name only."""
    return [
        ([option], f"Orthanc {version} reads it by the name {old} only; write that")
        for option, (since, until, old) in _table("OLD_NAMES").items()
        if option in options and version and not is_before(version, since)
        if not is_before(until, version)
    ]


def _mistakes(value, shape, path: list, release: dict) -> list:
    """Return a pair of path and sentence for each place where the value is not of its shape."""
    reader = {
        "kinds": _table("KINDS"),
        "shown": _shown,
        "unknown": lambda where, known: f"unknown key, {_meant(where, known)}",
        "noun": "name",
        "release": release,
    }
    return __salt__["orthanc_shapes.mistakes"](value, shape, path, reader)


def _shown(value, path: list, wanted: str) -> str:
    """Show a wrong value, but for secrets and what is long."""
    # What stands in the place of a whole section may be anything, a secret too.
    shown = "a mapping" not in wanted and isinstance(value, (bool, int, float, str))
    if not shown or redact(":".join(path), value) == HIDDEN:
        return NOT_SHOWN.get(type(value), "another kind of value")
    if isinstance(value, str):
        return f'a text "{value}"' if len(value) <= 80 else f'a text "{value[:80]}…"'
    return str(value).lower() if isinstance(value, bool) else str(value)


def _meant(path: list, known) -> str:
    """Return what may have been meant by a name that is not known."""
    return __salt__["orthanc_names.meant"](path, list(known), _elsewhere())


@functools.lru_cache(None)
def _elsewhere() -> dict:
    """Return where in the tables each name stands: the paths of the mappings that have it."""
    found: dict = {}
    tables = {**_table("OPTIONS"), **_table("SECTIONS"), **_table("PLUGIN_OPTIONS")}
    mappings = __salt__["orthanc_shapes.mappings"]({"keys": tables}, [], _table("KINDS"))
    for path, names in mappings:
        for name in names:
            found.setdefault(name, []).append(path)
    return found


def _not_json(value, path: list) -> list:
    """Return what YAML can say and JSON cannot: names that are no text, dates."""
    if isinstance(value, dict):
        problems = [
            ([*path, str(name)], "the name must be a text (in quotes)")
            for name in value
            if not isinstance(name, str)
        ]
        pairs = value.items()
    elif isinstance(value, (list, tuple)):
        problems, pairs = [], enumerate(value)
    elif value is None or isinstance(value, (bool, int, float, str)):
        return []
    else:
        return [(path, "is a date or the like, which JSON does not know; put it in quotes")]
    return problems + [p for name, item in pairs for p in _not_json(item, [*path, str(name)])]


def _substitutions(value, path: list) -> list:
    """
    Return the places with ``${`` in a text. Orthanc puts the value of an environment variable in
    its place, or nothing, without a word: ``a${b}c`` becomes ``ac``.
    """
    items = []
    if isinstance(value, dict):
        items = [([*path, str(key)], part) for key, item in value.items() for part in (key, item)]
    elif isinstance(value, (list, tuple)):
        items = [([*path, str(number)], item) for number, item in enumerate(value)]
    elif isinstance(value, str) and "${" in value:
        return [
            (
                path,
                "contains ${, which Orthanc would replace by an environment variable;"
                " choose a value without it",
            )
        ]
    return [problem for place, item in items for problem in _substitutions(item, place)]


def idle(section):
    """
    Part of the formula. Return whether the section of a plugin asks for nothing, so that the plugin
    is not missed.

    section
        Its value.
    """
    if not isinstance(section, dict):
        return False
    switches = [item for key, item in section.items() if str(key).startswith("Enable")]
    return not section or (bool(switches) and not any(switches))


def _missing_plugin(plugin: dict, host: Host, path: list) -> list:
    """Return the sentence for options of a plugin that is not loaded."""
    package = plugin["package"]
    if host.plugins is None or package in host.packages:
        return []
    of_it = [
        file
        for file in host.plugins
        for piece in plugin["library"]
        if piece.lower() in os.path.basename(file).lower()
    ]
    if any(not file.startswith("/") for file in of_it):
        return []
    reason, remedy = "no plugin of this host reads it, so it would be ignored", "take it out"
    absent = _table("NOT_PACKAGED").get(__grains__.get("os_family"), ())
    if of_it:
        reason = f"{of_it[0]} reads it, but is not loaded, so it would be ignored"
        remedy = "name that file in the option Plugins, or leave Plugins out"
    elif package in absent or package in ("", _table("SERVER")):
        files = " or ".join(f"lib{piece}.so" for piece in plugin["library"])
        remedy = f"no package brings it here: name a download of {files} in orthanc:plugins"
    elif package:
        remedy = f"add {package} to orthanc:packages"
    return [(path, f"{reason}; {remedy}")]
