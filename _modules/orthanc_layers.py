"""
From the layers of a configuration to the options of this host's Orthanc, and to the files that they
are in.

Orthanc refuses to start where two files of its folder hold the same option. So every option has one
owner file here, and each file that the formula owns holds exactly the options that it manages: what
leaves the pillar leaves the host.

What belongs together travels as one mapping, the *configuration*; what it lacks has the value that
``defaults`` gives:

layers
    A list of mappings, of which the last one wins; see ``merge``. Each has an ``option``, the list
    of its name and of names below it; its ``value``; its ``origin``, the path of the pillar that
    the value comes from, without which that is ``orthanc:config``; and ``default``, True where
    nobody asked for it. One without a value only says from where a part of a value comes.

main_file, option_files
    Which file owns which option; see ``place``.

texts, pems
    Mappings from file name, or whole path for a file elsewhere, to the text of a file that is not
    JSON, and to what ``orthanc_tls.pem`` needs for one; None removes a file.

scripts
    What ``orthanc_scripts`` needs of the administrator's scripts, by the names of their files.

certificates
    What ``orthanc_tls.judge`` takes: the sources of certificates and keys.

saltenv
    The name of the environment of Salt that a ``salt://`` URL among these sources is of.

sections
    A list of the names of options of plugins that nobody knows.

command
    The path of Orthanc's program; None asks nothing of it.

packages
    A list of the names of packages that will be installed before the options are written. The
    plugins that they bring are loaded.

installed, aside
    True where they are there by now, or do not come; and where only this process sees them.

version, without_backup
    The package of Orthanc that will be installed before that; whether it needs no fresh backup.

plugins
    A list of the paths of plugins that are downloaded before the options are written. A link among
    them is followed here and now, so that another file behind it is another configuration.

plugin_folder
    The folder of the plugins of packages: of the files in it, those that the options and packages
    ask for are loaded, and those of nobody (see ``orthanc_plugins.choose``), and then ``plugins``.
    None where the options themselves say what is loaded.

databases
    A list of the sections of databases that will be made before the options are written.

folders
    A mapping from the path of the pillar to that of a folder which will be closed to all others.

made
    A mapping from the path of a folder that will be made to the name of the account that it will
    be of.

reserve
    How much of a file system is to stay free; see ``orthanc_reserve``.

user, group, service
    The names of the service's account, of the only group that may read the configuration, and of
    the service itself.

site
    The path of the site of nginx that gives its port up before Orthanc is restarted; None for none.

preflight, allow_no_users
    False leaves the trial start out, or refuses where a server would lose all of its users.

in_database
    Whether modalities and peers are put into Orthanc's database, in the place of its files.

remote_access
    Whether other hosts reach the server; None leaves it to the options.

hardening
    What the unit keeps from Orthanc, see :py:mod:`orthanc_hardening`; None for nothing.

https://orthanc.uclouvain.be/book/users/configuration.html
"""

from __future__ import annotations

import os
import re
from typing import NamedTuple

from salt.exceptions import SaltInvocationError

ONE_NAME = ("command", "version", "site", "plugin_folder", "aside")
SET, NOT_SET = ("preflight", "allow_no_users"), ("installed", "without_backup", "in_database")
SOME_NAMES = ("sections", "packages", "plugins", "databases")
# What a configuration may hold, and the value of what it lacks.
CONFIGURATION = {
    **{name: {} for name in ("texts", "certificates", "pems", "scripts")},
    **{name: {} for name in ("folders", "made", "reserve")},
    **dict.fromkeys(SOME_NAMES, ()),
    **dict.fromkeys((*ONE_NAME, "remote_access", "hardening")),
    **{**dict.fromkeys(SET, True), **dict.fromkeys(NOT_SET, False)},
    "saltenv": "base",
}
# What has the name of the server's package, where it is lacking.
NAMED = ("user", "group", "service")
EMPTY = {"empty": ["nothing", "text"]}
NAMES, ANYTHING = {"items": "name"}, {"kind": "anything", **EMPTY}
# Of what is no text, the judgement of the options has something to say.
SCALARS = [{"type": word} for word in ("string", "integer", "boolean")]
KEY = {"wanted": "a name", "anyOf": SCALARS, **EMPTY}
LAYER = {"option": {"items": KEY}, "value": ANYTHING, "origin": "name", "default": "flag"}
# What it holds, in the language of orthanc_shapes; None may stand where that is the default.
SHAPE = {
    "keys": {
        "layers": {"items": {"keys": LAYER}},
        "option_files": {"each": NAMES},
        "texts": {"each": {"type": "string", "wanted": "a text", **EMPTY}},
        "pems": {"each": {"each": ANYTHING, **EMPTY}},
        "certificates": {"each": {"each": "name"}},
        "scripts": {"each": {"each": "name"}},
        "folders": {"each": "name"},
        "made": {"each": "name"},
        "reserve": {"each": {"wanted": "a whole number", "type": "integer"}},
        "hardening": {"each": ANYTHING},
        **dict.fromkeys(SOME_NAMES, NAMES),
        **dict.fromkeys((*SET, *NOT_SET, "remote_access"), "flag"),
        **dict.fromkeys((*ONE_NAME, "main_file", "saltenv", *NAMED), "name"),
    },
    "required": [["layers"], ["main_file"], ["option_files"]],
}
# It tells no value, which may be a secret.
READER = {
    **{"kinds": {}, "noun": "name", "unknown": lambda *_: "unknown"},
    "shown": lambda value, *_: type(value).__name__,
    "empty": lambda *_: "must not be empty",
}


class Origin(NamedTuple):
    """Where a value comes from."""

    key: str | None = None  # the path of the pillar; None where it has none
    default: bool = False  # whether nobody asked for it


def complete(configuration):
    """
    Part of the formula. Return a configuration with a value for everything.

    configuration
        See the module.

    Raises SaltInvocationError if something in it is missing, unknown or no mapping.
    """
    known = defaults()
    given = configuration if isinstance(configuration, dict) else {}
    layers = given.get("layers")
    for layer in layers if isinstance(layers, (list, tuple)) else ():
        if not isinstance(layer, dict) or not layer.get("option") or set(layer) - {*LAYER}:
            raise SaltInvocationError(
                "each layer must be a mapping with an option, and a value, an origin or a default"
            )
    told = {k: v for k, v in given.items() if v is not None or known.get(k, 0) is not None}
    wrong = __salt__["orthanc_shapes.mistakes"](told, SHAPE, [], READER)
    if wrong:
        lines = [f"{':'.join(path)}: {sentence}" for path, sentence in wrong]
        raise SaltInvocationError("in the configuration, " + "; ".join(lines))
    return {**known, **given}


def defaults():
    """
    Part of the formula. Return a configuration with all that may be lacking, and nothing else.
    """
    return {**CONFIGURATION, **dict.fromkeys(NAMED, _server())}


def _server() -> str:
    return __salt__["orthanc_tables.get"]("SERVER")


def account(wanted):
    """
    Part of the formula. Return the names of Orthanc's ``user`` and ``group``, a mapping.

    wanted
        What ``complete`` returned.
    """
    return {name: wanted[name] for name in ("user", "group")}


def managed(wanted):
    """
    Part of the formula. Return the names of the files of a configuration, the main one first.

    wanted
        What ``complete`` returned.
    """
    kinds = ("option_files", "texts", "pems", "scripts")
    return [wanted["main_file"], *(entry for kind in kinds for entry in wanted[kind])]


def versions(wanted):
    """
    Part of the formula. Return what the installed Orthanc says of itself, a mapping, and the
    version that will be there, a text or None.

    wanted
        What ``complete`` returned.
    """
    command = wanted["command"]
    here = __salt__["orthanc_options.installed"](command) if command else {}
    coming = re.match(r"(?:\d+:)?(\d+(?:\.\d+)+)", str(wanted["version"] or ""))
    return here, coming.group(1) if coming else here.get("version")


def coming(wanted):
    """
    Part of the formula. Return the names of the packages that may be installed before the options
    are written.

    wanted
        What ``complete`` returned.
    """
    here, expected = versions(wanted)
    packages = [] if wanted["installed"] else list(wanted["packages"])
    if here and expected == here.get("version"):
        # What comes with the server itself is there by now, or it does not come.
        return [package for package in packages if package != _server()]
    return packages


def merge(layers):
    """
    Part of the formula. Return the options that layers give, and where each comes from.

    Mappings merge, lists and plain values replace, ``None`` takes an option out.

    layers
        See the module.

    Returns the options, a mapping from name to value; and their origins, a mapping from the names
    of an option, a tuple, to an ``Origin``.
    """
    given, origins = [], {}
    for layer in layers:
        path = tuple(layer["option"])
        origin = Origin(layer.get("origin"), layer.get("default", False))
        if "value" not in layer:
            origins[path] = origin
            continue
        if not isinstance(layer["value"], dict):
            # What stood there before is gone, with all that was below it.
            origins = {other: o for other, o in origins.items() if other[: len(path)] != path}
        origins.update(_below(path, layer["value"], origin))
        option = layer["value"]
        for name in reversed(path):
            option = {name: option}
        given.append(option)
    return __salt__["orthanc_json.merge"](given), origins


def _below(path: tuple, value, origin: Origin) -> dict:
    """Return the origin of a value, and of each name below it."""
    found = {path: origin}
    for name, item in value.items() if isinstance(value, dict) else ():
        key = origin.key and f"{origin.key}:{name}"
        found.update(_below((*path, name), item, origin._replace(key=key)))
    return found


def options(name, wanted, version=None):
    """
    Part of the formula. Return the options of a configuration as a version of Orthanc takes them,
    with the plugins that they ask for; and where each comes from, see ``merge``.

    name
        The path of the folder.

    wanted
        What ``complete`` returned.

    version
        A text; None where it is not known.
    """
    merged, origins = merge(wanted["layers"])
    found = __salt__["orthanc_options.adapt"](merged, version)
    if wanted["plugin_folder"]:
        found["Plugins"] = [*_choose(name, wanted, found)["load"], *wanted["plugins"]]
    numbers = {path: number for number, path in enumerate(wanted["plugins"])}
    plugins = found.get("Plugins")
    for position, item in enumerate(plugins if isinstance(plugins, list) else ()):
        if isinstance(item, str) and item in numbers:
            key = f"orthanc:plugins:{numbers[item]}"
        elif wanted["plugin_folder"]:
            key = "orthanc:paths:plugins"
        else:
            continue
        origins["Plugins", str(position)] = Origin(key)
    return found, origins


def unused_plugins(name, configuration, of_server=False):
    """
    Part of the formula. Return the plugins of packages that are installed and not loaded, because
    the configuration does not ask for them: a mapping from path to the name of the package.

    name
        The path of the folder.

    configuration
        See the module.

    of_server
        True takes those in that come with the server's own package, which always are there.
    """
    wanted = complete(configuration)
    if not wanted["plugin_folder"]:
        return {}
    found = _choose(name, wanted, options(name, wanted)[0])["unused"]
    return {path: package for path, package in found.items() if of_server or package != _server()}


def _choose(name: str, wanted: dict, options: dict) -> dict:
    """Return what ``orthanc_plugins.choose`` says of the folder of the plugins."""
    # A file of the administrator's own beside them may ask for a plugin, too.
    others = __salt__["orthanc_folder.options"](name, managed(wanted))
    everything = __salt__["orthanc_json.merge"]([others, options])
    return __salt__["orthanc_plugins.choose"](
        wanted["plugin_folder"],
        libraries=__salt__["orthanc_options.libraries"](everything),
        packages=wanted["packages"],
        coming=coming(wanted),
        downloads=wanted["plugins"],
    )


def place(wanted, options):
    """
    Part of the formula. Give each option its one owner file.

    wanted
        What ``complete`` returned.

    options
        A mapping from option name to value.

    Returns a mapping from file name to the options in it, for every file that has a say.
    """
    owned_by = wanted["option_files"]
    owners = {option: name for name, owned in owned_by.items() for option in owned}
    files: dict = {name: {} for name in [wanted["main_file"], *owned_by]}
    if wanted["in_database"]:
        options = __salt__["orthanc_network_note.moved"](options)
    for option, value in options.items():
        files[owners.get(option, wanted["main_file"])][option] = value
    return files


def pems(name, wanted):
    """
    Part of the formula. Return the texts of the PEM files of a configuration by their names; None
    for one that must not be there.

    name
        The path of the folder.

    wanted
        What ``complete`` returned.

    Raises SaltInvocationError if there is nothing behind a source.
    """
    return {
        entry: spec and __salt__["orthanc_tls.pem"](os.path.join(name, entry), spec)
        for entry, spec in wanted["pems"].items()
    }


def key_of(path, origins):
    """
    Part of the formula. Return the path of the pillar that an option, or what is below it, comes
    from.

    path
        The names of the option, a list.

    origins
        What ``options`` returned.
    """
    for depth in range(len(path), 0, -1):
        origin = origins.get(tuple(path[:depth]))
        if origin and origin.key:
            return ":".join([origin.key, *path[depth:]])
    return ":".join(["orthanc:config", *path])


def unasked(wanted):
    """
    Part of the formula. Return the options that the formula itself sets, whatever the pillar says
    of them, a mapping from name to value.

    wanted
        What ``complete`` returned.
    """
    layers = wanted["layers"]
    return merge([one for one in layers if one.get("default") and not one.get("origin")])[0]
