"""
A server that is there already, taken over: the pillar with which the formula changes none of its
options.

.. code-block:: text

    options of the host --> settings of the pillar --formula--> options
              |                                                    |
              +------------------- what differs -------------------+--> orthanc:config

Which option a setting becomes is known by ``orthanc/options.py`` alone. So a setting is looked up
there, the formula is asked what it makes of it, and what would still be another value is set below
``config``. Of what differs after that the formula is sure, and the pillar says so in comments.
"""

from __future__ import annotations

import copy
import json
import os
import re
from typing import NamedTuple

from salt.exceptions import CommandExecutionError

# What is said of an option that Orthanc passes over: nothing changes without it.
IGNORED = re.compile(r"\bignored\b|; take it out$")
# Options that follow from users, scripts and plugins, each in a way of its own.
OWN_WAY = ("RegisteredUsers", "AuthenticationEnabled", "LuaScripts", "Plugins")
# Settings that refuse what Orthanc takes, and the option that has all of it.
STRICTER = {"modalities": "DicomModalities", "peers": "OrthancPeers"}
# By these versions it makes no user orthanc:orthanc any more, with and without the option.
NO_DEFAULT_USER = {True: "1.12.9", False: "1.13.0"}
DEFAULT_USER = "orthanc"
# A key of a section that is not there is the same.
SWITCHED_OFF = ("EnableIndex", "EnableStorage")
# Of these, what Orthanc lets each user do without a filter is the last; the strictest comes first.
ROLES = ("monitor", "peer", "reader", "writer", "admin")
# The formula's filter, and the rules of one user in it.
FILTER = "{}-users.lua"
RULES = re.compile(r'^  \["([^"]*)"\] = \{\n(.*?)^  \},$', re.MULTILINE | re.DOTALL)
OWN_FILES = (
    "They are the formula's own: look for its pillar first. What is no option of Orthanc is not in"
    " this one, and would end with it: backups, HTTPS by nginx, retention, monitoring."
)
NO_UTF_8 = re.compile("[\ud800-\udfff]")
MISSING = object()


class Server(NamedTuple):
    """What is taken over."""

    name: str  # the path of the folder
    options: dict  # without those that it passes over
    version: str | None  # of the installed Orthanc
    defaults: dict  # what it does where an option is not set
    formula: dict  # see orthanc/map.py
    rules: dict | None  # by user, the rules of the formula's own filter; None where there is none

    def value(self, option: str, options: dict):
        """Return the value that an option has; None where nobody can tell."""
        return options.get(option, self.defaults.get(option))

    def differs(self, option: str, options: dict) -> bool:
        """Return whether an option has another value among other options."""
        here, there = (self.value(option, some) for some in (self.options, options))
        # A section of nothing is none.
        return (here, there) not in ((None, {}), ({}, None)) and _json(here) != _json(there)


def _json(value) -> str:
    """Return a value as it is compared: for Python, true is 1."""
    return json.dumps(value, sort_keys=True)


def formula(saltenv="base"):
    """
    Part of the formula. Return what ``orthanc/map.py`` does.

    saltenv
        The environment of Salt that the formula is of.

    Raises CommandExecutionError where the files of the formula cannot be had.
    """
    found = __salt__["slsutil.renderer"](
        "salt://orthanc/map.py", default_renderer="py", saltenv=saltenv
    )
    if not isinstance(found, dict) or "of" not in found:
        raise CommandExecutionError(
            "the files of the formula cannot be had here, and salt-ssh does not bring them along"
            " for this; call it on a minion or with orthanc/masterless.sh, where a copy of the"
            " folder is enough"
        )
    return found


def pillar(path, formula):
    """
    Part of the formula. Return the pillar that takes a server over, secrets included: ``settings``
    is what stands below ``orthanc:``, ``remarks`` are the comments; see
    ``orthanc_pillar_file.text``.

    path
        The path of the folder of its configuration, or of a file.

    formula
        What ``formula`` returned.

    Raises CommandExecutionError where Orthanc would not start.
    """
    read = __salt__["orthanc_folder.read"](path, named=True)
    if not read["files"] and not read["problems"]:
        read["problems"].append(f"{path} holds no *.json; name the folder of a configuration")
    if read["problems"]:
        raise CommandExecutionError("\n".join(read["problems"]))
    name = path if os.path.isdir(path) else os.path.dirname(os.path.abspath(path))
    name = name.rstrip("/") or "/"
    unset = _outcome(name, {}, formula)
    here = __salt__["orthanc_options.installed"](unset["wanted"]["command"] or "")
    version, defaults = here.get("version"), __salt__["orthanc_options.defaults"](here)
    # There, another one than Orthanc's own.
    defaults.pop("SslTrustedClientCertificates", None)
    told, stored, unseen = _of_database(read["options"], name)
    options = __salt__["orthanc_options.adapt"](_readable(told), version)
    checked_for = {
        "version": version,
        "sample": here.get("sample"),
        "plugins": __salt__["orthanc_plugins.here"](options, name) if here else None,
        "allowed": unset["wanted"]["sections"],
    }
    passed, wrong = _judge(options, options, checked_for)
    rules = _rules(options, name)
    server = Server(name, _located(options, name), version, defaults, formula, rules)
    settings = {**_settings(server, unset), **stored}
    made = _reproduced(server, settings)
    # What stands beside its own default may be told to be ignored only without that.
    if _judge(made["options"], settings.get("config", {}), checked_for)[0]:
        _judge(made["options"], server.options, checked_for)
        made = _outcome(name, settings, formula)
    beside = _of_other_files(server, made)
    if beside:
        settings.setdefault("config", {}).update(beside)
        made = _outcome(name, settings, formula)
    remarks = [
        *_remarks(server, settings, made),
        ("Modalities and peers are in Orthanc's database:", unseen),
        ("Left out, because this Orthanc passes over it:", read["warnings"] + passed),
        ("Wrong where it stands; put it right first:", wrong),
    ]
    head = f"The options of Orthanc in {path}, but for its own defaults."
    if rules is not None or __salt__["orthanc_files.written"](name):
        head += f" {OWN_FILES}"
    return {"settings": settings, "remarks": [(head, []), *(pair for pair in remarks if pair[1])]}


def _of_database(options: dict, name: str) -> tuple[dict, dict, list]:
    """
    Return options with the modalities and peers that Orthanc keeps in its database as if they were
    in a file, the setting for that, and what cannot be seen of them.
    """
    kept = __salt__["orthanc_network_note.kept"](options)
    try:
        found = __salt__["orthanc_connections.known"](name) if len(kept) == len(STRICTER) else {}
    except CommandExecutionError as err:
        return options, {}, [f"they are not in this pillar, because Orthanc was not asked: {err}"]
    if not found:
        return options, {}, [f"{option} is not in this pillar" for option in kept]
    placeholder = __salt__["orthanc_passwords.placeholder"]
    peers, unseen = found["OrthancPeers"], []
    for one, peer in peers.items():
        place, hidden = f"orthanc:peers:{one}", {}
        if "Username" in peer and "Password" not in peer:
            hidden["Password"] = placeholder(f"{place}:Password")
        headers = [header for header, value in peer.get("HttpHeaders", {}).items() if not value]
        if headers:
            unknown = {header: placeholder(f"{place}:HttpHeaders:{header}") for header in headers}
            hidden["HttpHeaders"] = {**peer["HttpHeaders"], **unknown}
        if hidden:
            unseen.append(f"Orthanc shows no {' and '.join(hidden)} of {place}; put that in")
            peers[one] = {**peer, **hidden}
    switches = __salt__["orthanc_network_note.moved"]({})
    others = {option: value for option, value in options.items() if option not in switches}
    return {**others, **found}, {"modalities_in_database": True}, unseen


def _readable(value):
    """Return a copy in which each byte that is no UTF-8 stands as what the formula refuses."""
    if isinstance(value, dict):
        return {_readable(key): _readable(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_readable(item) for item in value]
    return NO_UTF_8.sub("${?}", value) if isinstance(value, str) else value


def _outcome(name: str, settings: dict, formula: dict) -> dict:
    """Return the ``options`` that the formula makes of settings, and what belongs to them."""
    made = formula["of"](copy.deepcopy(settings))
    configuration = __salt__["orthanc_pillar.resolve"](
        made["configuration"](), pillar={"orthanc": settings}
    )
    wanted = __salt__["orthanc_layers.complete"](configuration)
    _, version = __salt__["orthanc_layers.versions"](wanted)
    options, origins = __salt__["orthanc_layers.options"](name, wanted, version)
    return {**made, "options": _located(options, name), "origins": origins, "wanted": wanted}


def _located(options: dict, name: str) -> dict:
    """
    Return options without the formula's own scripts, and with the places of images and index as
    whole paths, each in one form.
    """
    found = __salt__["orthanc_folder.with_places"](options, name)
    own = __salt__["orthanc_files.is_own_name"]
    if isinstance(found.get("LuaScripts"), list):
        found["LuaScripts"] = [path for path in found["LuaScripts"] if not own(str(path))]
    places = __salt__["orthanc_folder.places"](found)
    return {**found, **{o: os.path.normpath(p) for o, p in places.items() if isinstance(p, str)}}


def _judge(options: dict, among: dict, checked_for: dict) -> tuple[list, list]:
    """
    Take out of a mapping what of the options Orthanc passes over, and return the sentences about
    it; and those about what is wrong.
    """
    passed, wrong = [], []
    for path, sentence in __salt__["orthanc_options.check"](options, **checked_for):
        line = f"{':'.join(path)}: {sentence}"
        if IGNORED.search(sentence) and _take_out(among, path):
            passed.append(line)
        elif line not in wrong:
            wrong.append(line)
    return passed, wrong


def _take_out(options: dict, path: list) -> bool:
    """Return whether a value was there that stands at a path of names, and is gone now."""
    value = options
    for name in path[:-1]:
        value = value.get(name) if isinstance(value, dict) else None
    return isinstance(value, dict) and value.pop(path[-1], MISSING) is not MISSING


def _settings(server: Server, unset: dict) -> dict:
    """Return the settings that the server's options come from, but for ``config``."""
    options, found = server.options, {}
    packages = _packages(server)
    if packages:
        found["packages"] = [unset["wanted"]["service"], *packages]
    users = _users(server)
    if users:
        roles = _roles(server, users)
        found["users"] = {
            n: {"password": password, **({"role": roles[n]} if roles[n] else {})}
            for n, password in users.items()
        }
    of_standard = options.get("DeidentifyLogs", True) is True
    if of_standard and server.differs("DeidentifyLogsDicomVersion", {}):
        found["deidentify_logs"] = options["DeidentifyLogsDicomVersion"]
    for option, (setting, known) in server.formula["plain"]().items():
        default = server.defaults.get(option, known)
        value = options.get(option, default)
        if value is not None and _json(value) != _json(unset["options"].get(option, default)):
            _put(found, setting.split(":"), value)
    paths = found.get("paths", {})
    if "storage" in paths:
        # Without it, the index is beside the images.
        paths["index"] = options["IndexDirectory"]
        if paths["index"] == paths["storage"]:
            del paths["index"]
    section = options.get("PostgreSQL")
    uri = section.get("ConnectionUri") if isinstance(section, dict) else None
    if isinstance(uri, str) and section.get("EnableIndex") is True:
        found["postgresql"] = {"enabled": True, "uri": uri}
        if section.get("EnableStorage") is True:
            found["postgresql"]["storage"] = True
    in_use = __salt__["orthanc_folder.in_use"](
        unset["settings"]["paths"]["config"], unset["wanted"]["service"]
    )
    if server.name == in_use != unset["settings"]["paths"]["config"]:
        _put(found, ["paths", "config"], in_use)
    # What the formula does not take there, and Orthanc does, is set as an option.
    refused = server.formula["of"](copy.deepcopy(found))["problems"]
    for setting in (*STRICTER, "postgresql", "deidentify_logs"):
        if any(line.startswith(f"orthanc:{setting}:") for line in refused):
            found.pop(setting, None)
    return found


def _put(settings: dict, path: list, value) -> None:
    """Set what is not set yet."""
    for key in path[:-1]:
        settings = settings.setdefault(key, {})
    settings.setdefault(path[-1], value)


def _users(server: Server) -> dict:
    """Return the passwords of the users that the server lets in."""
    users = server.options.get("RegisteredUsers")
    if not users and server.value("RemoteAccessAllowed", server.options) is True:
        until = NO_DEFAULT_USER[users is not None]
        before = __salt__["orthanc_options.is_before"](server.version, until)
        if before and server.options.get("AuthenticationEnabled") is not False:
            return {DEFAULT_USER: DEFAULT_USER}
    return users if isinstance(users, dict) else {}


def _rules(options: dict, name: str) -> dict | None:
    """Return what the formula's own filter lets each user do; of one that is gone, nothing."""
    file, scripts = __salt__["orthanc_files.own"](FILTER), options.get("LuaScripts")
    if not isinstance(scripts, list) or file not in [os.path.basename(str(s)) for s in scripts]:
        return None
    text = __salt__["orthanc_files.read_if_there"](os.path.join(name, file)) or ""
    plain = __salt__["orthanc_lua.plain"]
    return {plain(user): rules for user, rules in RULES.findall(text)}


def _roles(server: Server, users: dict) -> dict:
    """Return the role of each user; None where the rules of the formula's filter are of no role."""
    if server.rules is None:
        return dict.fromkeys(users, ROLES[-1])
    config, known = {k: v for k, v in server.options.items() if k == "DicomWeb"}, {}
    for role in reversed(ROLES):
        asked = {"users": {"x": {"password": "of nobody", "role": role}}, "config": config}
        texts = _outcome(server.name, asked, server.formula)["wanted"]["texts"]
        known.update({r: role for r in _of_filter(texts)})
    return {user: known.get(server.rules.get(user)) for user in users}


def _of_filter(texts: dict) -> list:
    """Return the rules of each user in the filter among texts of files."""
    file = __salt__["orthanc_files.own"](FILTER)
    found = [text or "" for path, text in texts.items() if os.path.basename(path) == file]
    return [rules for text in found for _, rules in RULES.findall(text)]


def _asks_for_users(server: Server) -> bool:
    remote = server.value("RemoteAccessAllowed", server.options)
    return server.options.get("AuthenticationEnabled", remote) is True


def _loaded(server: Server) -> list[str]:
    """Return the names of the files of the plugins that the server loads."""
    here = __salt__["orthanc_plugins.here"](server.options, server.name)
    return [name for name in here if not name.startswith("/")]


def _packages(server: Server) -> list[str]:
    """Return the packages that the plugins are of, but for the server's own."""
    tables, loaded = __salt__["orthanc_tables.get"], _loaded(server)
    return [
        package
        for package, libraries in tables("PLUGINS").items()
        if package != tables("SERVER")
        and any(f"lib{library}.so" in name for library in libraries for name in loaded)
    ]


def _reproduced(server: Server, settings: dict) -> dict:
    """Set below ``config`` what settings do not say, and return what the formula makes of it."""
    made = _outcome(server.name, settings, server.formula)
    config = {}
    for option in sorted({*server.options, *made["options"]} - {*OWN_WAY}):
        if server.differs(option, made["options"]):
            config.update(_of_option(option, server, made))
    config.update(_of_own_ways(server, made))
    if config:
        settings["config"] = config
        made = _outcome(server.name, settings, server.formula)
    return made


def _of_other_files(server: Server, made: dict) -> dict:
    """
    Return the options with Orthanc's own defaults that stand in a file beside what the formula
    sets: it takes the place of that file where it says all of it.
    """
    return {
        option: server.options[option]
        for content in _in_the_way(server, made).values()
        for option in content
        if option in server.options and option not in {*made["options"], *OWN_WAY}
    }


def _in_the_way(server: Server, made: dict) -> dict:
    """Return the files that set what the formula sets too, and that would stay, as mappings."""
    owned = __salt__["orthanc_layers.place"](made["wanted"], {})
    others = __salt__["orthanc_folder.others"](server.name, owned, made["options"])
    return {
        entry: found for entry, found in others.items() if {*(found or {})} & {*made["options"]}
    }


def _of_option(option: str, server: Server, made: dict) -> dict:
    """Return what stands below ``config`` for one option."""
    here, there = server.options.get(option), made["options"].get(option)
    if option not in server.options:
        origin = made["origins"].get((option,))
        if origin and origin.key == "orthanc:packages":
            return {}
        # Null takes it out.
        return {option: server.defaults.get(option)}
    if isinstance(here, dict) and isinstance(there, dict):
        here = {k: v for k, v in here.items() if k not in there or _json(v) != _json(there[k])}
        gone = {k for k in there if k not in server.options[option]} - {*SWITCHED_OFF}
        here.update(dict.fromkeys(sorted(gone)))
    return {option: here}


def _of_own_ways(server: Server, made: dict) -> dict:
    """Return the same for the options of ``OWN_WAY``."""
    options, found = server.options, {}
    users = options.get("RegisteredUsers")
    if users and not isinstance(users, dict):
        found["RegisteredUsers"] = users
    if not _users(server) and _asks_for_users(server):
        found["AuthenticationEnabled"] = True
    if options.get("LuaScripts"):
        found["LuaScripts"] = options["LuaScripts"]
    plugins, folder = options.get("Plugins") or [], made["settings"]["paths"]["plugins"]
    only_folder = isinstance(plugins, list) and all(
        os.path.join(server.name, str(path)).rstrip("/") == folder for path in plugins
    )
    chosen = made["options"].get("Plugins") or []
    if isinstance(plugins, list) and sorted(map(str, plugins)) == sorted(chosen):
        return found
    if not only_folder or (not plugins and chosen):
        found["Plugins"] = plugins
    return found


def _remarks(server: Server, settings: dict, made: dict) -> list:
    """Return what the formula changes nevertheless, and what of the settings it refuses."""
    changed = [
        "LuaScripts: one is added that refuses images while the disk is nearly full"
        " (storage_reserve), and one that lets each user do what the role allows"
    ]
    if server.rules is not None:
        changed = []
    elif settings.get("users"):
        changed.append(
            "users: Orthanc lets each of them do everything, as the role admin does; choose reader,"
            " writer or monitor where that is enough"
        )
    if settings.get("users"):
        if not _asks_for_users(server):
            changed.append("AuthenticationEnabled: nobody was asked for a password up to now")
        if not server.options.get("RegisteredUsers"):
            changed.append(
                "users: none was set, so Orthanc has made this one by itself, whose password"
                " everybody knows; choose another one"
            )
    plugins = made["options"].get("Plugins")
    listed = plugins if isinstance(plugins, list) else ()
    now = {os.path.basename(str(path)) for path in listed}
    gone = [name for name in _loaded(server) if not any(name.startswith(one) for one in now)]
    if gone and "Plugins" not in settings.get("config", {}):
        changed.append(
            f"Plugins: {', '.join(gone)}: no longer loaded, because no option asks for it; to load"
            " all of the folder, name it in orthanc:config:Plugins"
        )
    differing = [
        option
        for option in sorted({*server.options, *made["options"]} - {*OWN_WAY})
        if server.differs(option, made["options"])
    ]
    both = (server.options, made["options"])
    old, new = ({o: some[o] for o in differing if o in some} for some in both)
    for option, values in __salt__["orthanc_differences.differences"](old, new).items():
        if option.rpartition(":")[2] in SWITCHED_OFF and values == {"new": False}:
            continue
        shown = {kind: _json(value) for kind, value in values.items()}
        changed.append(f"{option}: {shown.get('old', 'not set')} -> {shown.get('new', 'not set')}")
    main = os.path.join(server.name, made["wanted"]["main_file"])
    unsaid = __salt__["orthanc_folder.unsaid"]
    rest = {e: unsaid(o, made["options"]) for e, o in _in_the_way(server, made).items()}
    return [
        ("The formula changes on purpose:", changed),
        (
            "Files in the way, because they set more than the formula, or otherwise; move this of"
            f" them to {main} before the first run, which changes nothing:",
            [f"{os.path.join(server.name, e)}: {', '.join(rows)}" for e, rows in rest.items()],
        ),
        (
            "The formula refuses this as it stands; change it first:",
            [*made["problems"], *_started_elsewhere(made)],
        ),
    ]


def _started_elsewhere(made: dict) -> list:
    return __salt__["orthanc_folder.elsewhere"](made["settings"]["paths"]["config"], made["wanted"])
