"""
The configuration of Orthanc as a folder of JSON files.

Orthanc reads every ``*.json`` of its folder and refuses to start where two of them hold the same
option. So every option has one owner file here, and each file that the formula owns holds exactly
the options that it manages: what leaves the pillar leaves the host.

The functions above ``effective`` are pure; it and those below it look at the host and change it.

.. code-block:: text

    layers --merge--> options --judge--> options --place--> files --preflight, apply--> folder
                                                                  <------ restore ------

What options there are is known by :py:mod:`orthanc_options`, the trial start is made by
:py:mod:`orthanc_preflight`.

The functions that judge, try and write take what belongs together as one mapping, the
*configuration*; what it lacks has the value in ``CONFIGURATION``:

layers
    A list of mappings from option name to value; see ``merge``.

main_file, option_files
    Which file owns which option; see ``place``.

texts
    A mapping from file name to text, for other files than JSON; None removes a file. A name may be
    a whole path, for a file elsewhere.

certificates
    What ``orthanc_tls.judge`` takes: the sources of certificates and keys.

pems
    A mapping from file name, or whole path for a file elsewhere, to what ``orthanc_tls.pem`` needs;
    None removes a file.

saltenv
    The name of the environment of Salt that a ``salt://`` URL among these sources is of.

sources
    A mapping from option (names below it joined by colons) to the path of the pillar that it comes
    from, for the sentences about problems. Options that it lacks come from ``orthanc:config``.

defaults
    A list of the names of options that nobody asked for: they have the formula's own values.

sections
    A list of the names of options of plugins that nobody knows.

command
    The path of Orthanc's program; None asks nothing of it.

packages
    A list of the names of packages that will be installed before the options are written. The
    plugins that they bring are loaded.

installed
    True where these packages are there by now, or do not come.

version
    The version of the package of Orthanc that will be installed before that; None for any.

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

user, group, service
    The names of the service's account, of the only group that may read the configuration, and of
    the service itself.

site
    The path of the site of nginx that gives its port up before Orthanc is restarted; None for none.

preflight
    False leaves the trial start out.

allow_no_users
    False refuses where a server that has users would lose all of them.

remote_access
    Whether other hosts reach the server; None leaves it to the options. (Behind nginx they do not
    tell.)

https://orthanc.uclouvain.be/book/users/configuration.html
"""

from __future__ import annotations

import contextlib
import copy
import ctypes
import fcntl
import glob
import json
import logging
import os
import re
import shutil
import tempfile

import salt.utils.files
import salt.utils.systemd
from salt.exceptions import CommandExecutionError, SaltInvocationError

log = logging.getLogger(__name__)

# What a configuration may hold, and the value of what it lacks; REQUIRED may not be lacking.
CONFIGURATION = {
    **{name: {} for name in ("texts", "certificates", "pems", "sources", "folders")},
    **dict.fromkeys(("defaults", "sections", "packages", "plugins", "databases"), ()),
    **dict.fromkeys(("command", "version", "site", "plugin_folder")),
    **dict.fromkeys(("preflight", "allow_no_users"), True),
    "installed": False,
    **dict.fromkeys(("user", "group", "service"), "orthanc"),
    "saltenv": "base",
    "remote_access": None,
}
REQUIRED = ("layers", "main_file", "option_files")
# What is in a folder that is as good as empty: each new ext4 has it.
NO_CONTENT = {"lost+found"}
# What is said of a mistake with which Orthanc serves already.
IN_USE = "Orthanc serves with it already; this run goes on"
# Only root and the service may read a file; the folder itself is not this module's business.
FILE_MODE = 0o640
# systemd warns of a drop-in that not everybody can read.
UNIT_MODE, UNIT = 0o644, ".conf"
# Where the pillar lets in users whose passwords everybody knows.
DEMO_USERS = "orthanc:demo_users"
# Where the pillar has the folder of the configuration.
CONFIG_PATH = "orthanc:paths:config"
# The options that say where images and index are, in this order.
PLACES = ("StorageDirectory", "IndexDirectory")
# Where Orthanc itself puts images where nothing else is said, below the folder.
STORAGE = "OrthancStorage"
# Lies in the folder from before the first write until Orthanc was seen serving with the files.
UNPROVEN = ".unproven"
# What the names begin with of files that are no JSON and of the formula's making.
OWN = "orthanc-formula"
# The folder for what was there before the formula: the packages' own files, or an administrator's.
ORIGINALS = "before-formula"
# Stands beside the folder: the last files with which Orthanc was seen serving, for root only.
LAST_GOOD = ".last-good"
# The least free space with which an index opens, in bytes.
INDEX_NEEDS = 1024 * 1024
# Stands beside the folder: what Orthanc read at its start; see orthanc_reads.
AS_READ = ".as-read"
# Stands beside the folder: where images and index were; see orthanc_identity.
IDENTITY = ".identity"
# Stands beside the folder while a new set of files is written.
NEW = ".new"
# How orthanc_database names an index that is a file.
SQLITE = "SQLite"
# The package of the server, by the name that the tables of orthanc_options have for it.
SERVER = "orthanc"
# Where packages of Debian and openSUSE have their plugins; not all of these are read by Orthanc.
PLUGIN_FOLDERS = (
    *("/usr/share/orthanc/plugins", "/usr/lib64/share/orthanc/plugins"),
    *("/usr/lib/orthanc", "/usr/lib64/orthanc"),
)
# Keys that people write where JSON has no comments.
COMMENT = re.compile(r"(?i)\W|_|(?:comment|note|help|readme)\w*$")
# How renameat2(2) swaps two folders in one step.
AT_FDCWD, RENAME_EXCHANGE = -100, 2


def merge(layers: list[dict]) -> dict:
    """
    Merge layers of options; the last one wins.

    Mappings merge, lists and plain values replace, ``None`` takes an option out. The layers
    themselves stay as they are.

    layers
        A list of mappings from option name to value.

    CLI Example:

    .. code-block:: bash

        salt '*' orthanc_conf.merge '[{"HttpPort": 8042}, {"HttpPort": 8043}]'
    """
    merged: dict = {}
    for layer in layers:
        for option, value in layer.items():
            if value is None:
                merged.pop(option, None)
            elif isinstance(value, dict):
                below = merged.get(option)
                merged[option] = merge([below if isinstance(below, dict) else {}, value])
            else:
                merged[option] = copy.deepcopy(value)
    return merged


def place(options: dict, main_file: str, option_files: dict) -> dict:
    """
    Give each option its one owner file.

    options
        A mapping from option name to value.

    main_file
        The name of the file for all options that no other file owns.

    option_files
        A mapping from file name to the list of options that live in it.

    Returns a mapping from file name to the options in it, for every file that has a say.

    CLI Example:

    .. code-block:: bash

        salt '*' orthanc_conf.place '{"HttpPort": 8042}' orthanc.json '{}'
    """
    owners = {option: name for name, owned in option_files.items() for option in owned}
    files: dict = {name: {} for name in [main_file, *option_files]}
    for option, value in options.items():
        files[owners.get(option, main_file)][option] = value
    return files


def differences(old: dict, new: dict, path: str = "") -> dict:
    """
    Return ``{option: {"old": …, "new": …}}`` for all that differs, without any secret.

    old, new
        Mappings from option name to value. Mappings below an option are compared key by key;
        the names are joined by colons.

    path
        The name of the option that the mappings stand below, if any.

    CLI Example:

    .. code-block:: bash

        salt '*' orthanc_conf.differences '{"HttpPort": 8042}' '{"HttpPort": 8043}'
    """
    changes: dict = {}
    for key in sorted(set(old) | set(new)):
        name = f"{path}:{key}" if path else key
        before, after = old.get(key), new.get(key)
        if key in old and key in new and before == after and type(before) is type(after):
            continue
        if isinstance(before, dict) or isinstance(after, dict):
            below = differences(
                before if isinstance(before, dict) else {},
                after if isinstance(after, dict) else {},
                name,
            )
            if below:
                changes.update(below)
                continue
        changes[name] = {}
        if key in old:
            changes[name]["old"] = __salt__["orthanc_options.redact"](name, before)
        if key in new:
            changes[name]["new"] = __salt__["orthanc_options.redact"](name, after)
    return changes


def effective(name):
    """
    Return the configuration that Orthanc gets from a folder: the options of all files together,
    with every secret hidden.

    name
        The path of the folder.

    Raises CommandExecutionError where Orthanc would not start: a file that is no JSON, or an
    option in two files.

    CLI Example:

    .. code-block:: bash

        salt '*' orthanc_conf.effective /etc/orthanc
    """
    options: dict = {}
    for entry, content in _read_folder(name).items():
        if content is None:
            raise CommandExecutionError(f"{os.path.join(name, entry)} is not valid JSON")
        for option in content:
            if option in options:
                raise CommandExecutionError(f"{option} is set in two files below {name}")
        options.update(content)
    return {o: __salt__["orthanc_options.redact"](o, value) for o, value in options.items()}


def validate(path=None, saltenv=None, pillarenv=None):
    """
    Say what is wrong with the pillar as it stands, or with a file or folder of Orthanc, and change
    nothing.

    path
        The path of a JSON file or of a folder of them. By default the pillar is judged, with all
        that the formula derives from it, by the same rules as when it is applied. (The trial
        start is made by ``state.apply orthanc test=True``.)

    saltenv, pillarenv
        The environments that formula and pillar are of; by default those of the minion.

    Returns ``problems``, which are refused when the formula is applied, and ``warnings``, which
    are not; each a list of sentences. The exit code of salt-call is 1 if there are problems.

    Raises SaltInvocationError if there is no such path, CommandExecutionError if the formula
    cannot be rendered here (over salt-ssh: use ``state.apply orthanc test=True``).

    CLI Example:

    .. code-block:: bash

        salt-call orthanc_conf.validate
        salt-call orthanc_conf.validate /etc/orthanc
    """
    if path is None:
        environments = {"saltenv": saltenv, "pillarenv": pillarenv}
        verdict = _validate_pillar({name: value for name, value in environments.items() if value})
    elif os.path.exists(path):
        verdict = _validate_path(path)
    else:
        raise SaltInvocationError(f"{path} does not exist")
    if verdict["problems"]:
        __context__["retcode"] = 1
    return verdict


def _validate_pillar(environments: dict) -> dict:
    low = __salt__["state.show_low_sls"]("orthanc.validation", **environments)
    for chunk in low:
        if isinstance(chunk, dict) and chunk.get("state") == "orthanc_conf":
            found, advice = chunk["problems"], list(chunk.get("warnings", []))
            if "configuration" not in chunk:
                return {"problems": found, "warnings": advice}
            configuration = __salt__["orthanc_pillar.resolve"](chunk["configuration"], environments)
            verdict = judge(chunk["name"], configuration, host=not found)
            return {
                "problems": found + verdict["problems"] + verdict["paths"],
                "warnings": advice + verdict["warnings"],
            }
    raise CommandExecutionError("\n".join(str(line) for line in low))


def _validate_path(path: str) -> dict:
    folder = path if os.path.isdir(path) else os.path.dirname(os.path.abspath(path))
    contents, problems, warnings, owners = {}, [], [], {}
    for entry in _json_files(path) if os.path.isdir(path) else [os.path.basename(path)]:
        place = os.path.join(folder, entry)
        try:
            found = __salt__["orthanc_json.read"](_read(place))
            contents[place] = found["options"]
            warnings += [f"{place}: {remark}" for remark in found["remarks"]]
        except (OSError, ValueError) as err:
            problems.append(f"{place}: Orthanc does not start with this file: {err}")
    for place, content in contents.items():
        for option in content:
            if option in owners:
                problems.append(
                    f"{place}: {option}: is set in {owners[option]} too, and Orthanc does not start"
                    " when two files set one option; take it out of one of them"
                )
            owners.setdefault(option, place)
    options = {option: contents[place][option] for option, place in owners.items()}
    command = shutil.which("Orthanc") or shutil.which("orthanc") or ""
    here = __salt__["orthanc_options.installed"](command)
    allowed = (__pillar__.get("orthanc") or {}).get("plugin_sections") or []
    # One file of several may leave it to another one which plugins there are.
    judge_plugins = here and (os.path.isdir(path) or "Plugins" in options)
    host = {
        "version": here.get("version"),
        "sample": here.get("sample"),
        "plugins": _plugins(options, folder) if judge_plugins else None,
        "allowed": allowed,
    }
    found = __salt__["orthanc_options.check"](options, **host)
    advice = __salt__["orthanc_options.doubts"](options, **host)
    advice += __salt__["orthanc_options.advice"](options)
    advice += __salt__["orthanc_modalities.check"](options)["problems"]
    advice += __salt__["orthanc_database.advice"](options)
    known, guessed = _open_secrets({}, options, CONFIGURATION)
    found += known
    advice += guessed

    def sentences(pairs):
        return [f"{owners.get(where[0], path)}: {':'.join(where)}: {text}" for where, text in pairs]

    who = _reader(contents)
    found += __salt__["orthanc_paths.look"](options, folder, who, command=command)["problems"]
    # What is in the environment of the service is not known here.
    found = [pair for pair in found if not _has_variable(options, pair[0])]
    comments = [pair for pair in found if _is_comment(*pair)]
    found = [pair for pair in found if pair not in comments]
    warnings += sentences((where, "nobody reads it, like a comment") for where, _ in comments)
    return {"problems": problems + sentences(found), "warnings": warnings + sentences(advice)}


def _has_variable(options: dict, path: list) -> bool:
    """Return whether an option, or a key on the way to it, holds an environment variable."""
    value = options
    for name in path:
        if isinstance(value, dict):
            value = value.get(name)
        elif isinstance(value, list) and name.isdigit() and int(name) < len(value):
            value = value[int(name)]
    return any("${" in text for text in [*path, value] if isinstance(text, str))


def _is_comment(path: list, sentence: str) -> bool:
    """Return whether a key that nobody knows seems to be a comment, which JSON has not."""
    return sentence.startswith("unknown") and COMMENT.match(path[-1]) is not None


def _reader(paths) -> dict | None:
    """Return Orthanc's account if it may read these files, which are then meant for it."""
    who = {name: CONFIGURATION[name] for name in ("user", "group")}
    may = __salt__["orthanc_paths.may"]
    return who if all(may(["-r", path], **who) for path in paths) else None


def judge(name, configuration, host=True):
    """
    Say what is wrong with a configuration, for this host and its Orthanc.

    name
        The path of the folder.

    configuration
        See the module.

    host
        False leaves out what depends on the files that are there.

    Returns ``problems`` and ``warnings``, each a list of sentences with pillar path and remedy; and
    ``paths``, the problems with files and folders that another state may bring until Orthanc is
    told of them.

    Raises SaltInvocationError if something in the configuration is missing, unknown or no mapping.

    CLI Example:

    .. code-block:: bash

        salt '*' orthanc_conf.judge /etc/orthanc \
            '{"layers": [{"HttpPrt": 8042}], "main_file": "orthanc.json", "option_files": {}}'
    """
    wanted = _complete(configuration)
    here, expected = _versions(wanted)
    options = _options(name, wanted, expected)
    wanted["sources"] = _sources(wanted, options)
    on_host = _read_folder(name) if host else {}
    before = _in_use(name, wanted["service"], on_host) if host else {}
    judged_for = _judged_for(name, options, wanted, here, expected)
    mistakes = __salt__["orthanc_options.check"](options, **judged_for)
    known = _known_mistakes(name, options, wanted, here) if host and mistakes else []
    problems = _sentences([pair for pair in mistakes if pair not in known], wanted["sources"])
    owned = place(options, wanted["main_file"], wanted["option_files"])
    problems += _strangers(name, owned, wanted, on_host)
    placed = _with_places(options, name)
    left_behind, nowhere = _left_behind(before, placed), {"problems": [], "warnings": []}
    problems += _sentences(left_behind, wanted["sources"])
    # What was not moved along is missing for that reason.
    strange = _strange(name, placed, wanted, before) if host and not left_behind else nowhere
    problems += _sentences(strange["problems"], wanted["sources"])
    in_use = _folders_in_use(name, before, wanted["user"]) if host else set()
    shared, kept = _shared_folders(wanted, in_use) if host else ([], [])
    problems += shared
    shown = _shown(before, wanted["site"]) if host and wanted["certificates"] else {}
    verdict = __salt__["orthanc_tls.judge"](wanted["certificates"], wanted["saltenv"], shown)
    problems += verdict["problems"]
    if not verdict["problems"]:
        files = _at(name, _pems(name, wanted["pems"]))
        problems += _overwritten(name, files)
        arguments = (before, options, wanted["user"], wanted["group"], files)
        left_behind = __salt__["orthanc_database.left_behind"](*arguments)
        problems += _sentences(left_behind, wanted["sources"])
    loses_users = before.get("RegisteredUsers") and not options.get("RegisteredUsers")
    if loses_users and not wanted["allow_no_users"]:
        problems.append(
            "orthanc:users: is not in the pillar of this host, but its server has users, who would"
            " be gone; put them there (does the top file of the pillar name this host?), or write"
            " `users: {}` for a server that asks nobody who he is"
        )
    open_secrets, guessed = _open_secrets(before, options, wanted)
    problems += _sentences(open_secrets, wanted["sources"])
    advice = [(path, f"{sentence} ({IN_USE})") for path, sentence in known]
    advice += __salt__["orthanc_options.doubts"](options, **judged_for)
    advice += __salt__["orthanc_options.advice"](options)
    devices = __salt__["orthanc_modalities.check"](options, before)
    problems += _sentences(devices["problems"], wanted["sources"])
    advice += devices["warnings"]
    advice += __salt__["orthanc_database.advice"](options)
    looked = _look(name, options, wanted, before) if host else nowhere
    advice += strange["warnings"] + looked["warnings"]
    return {
        "problems": problems,
        "warnings": [
            *kept,
            *_sentences([*guessed, *advice], wanted["sources"]),
            *verdict["warnings"],
        ],
        "paths": _sentences(looked["problems"], wanted["sources"]),
    }


def _strange(name: str, options: dict, wanted: dict, before: dict, files=None) -> dict:
    """
    Return what Orthanc would not find again of images and index; see ``orthanc_identity.judge``.

    files
        The texts of certificates by their path, where a database on another host is asked too.
    """
    known = _noted(name)
    seen = _seen(options, known, wanted, files)
    if not seen or (before and not __salt__["orthanc_identity.in_folder"](before)):
        return {"problems": [], "warnings": []}
    index = __salt__["orthanc_database.index"]
    # Asked only where it matters.
    doubtful = seen["lacking"] or seen["knows"] is False
    running = bool(doubtful) and __salt__["service.status"](wanted["service"])
    served = bool(
        (running or _last_good(name))
        and all(before.get(option) == options[option] for option in PLACES)
        and index(before) == index(options)
    )
    verdict = __salt__["orthanc_identity.judge"](known, seen, name + IDENTITY, served, running)
    place_of_index = ["IndexDirectory"] if seen["index"] else ["PostgreSQL", "EnableIndex"]
    places = {"storage": ["StorageDirectory"], "index": place_of_index}
    ends = {"problems": "", "warnings": f" ({IN_USE})"}
    return {
        kind: [(places[part], sentence + ends[kind]) for part, sentence in pairs]
        for kind, pairs in verdict.items()
    }


def _strange_from_afar(name: str, options: dict, wanted: dict, texts: dict) -> list[str]:
    """Return what ``judge`` does not see, because it is in a database on another host."""
    before = _in_use(name, wanted["service"], _read_folder(name))
    placed = _with_places(options, name)
    found = _strange(name, placed, wanted, before, _at(name, texts))
    return _sentences(found["problems"], wanted["sources"])


def _seen(options: dict, known: dict, wanted: dict, files=None) -> dict:
    """Return what ``orthanc_identity.look`` sees; nothing where images are no files in a folder."""
    storage, folder = (options[option] for option in PLACES)
    in_folder = isinstance(storage, str) and __salt__["orthanc_identity.in_folder"](options)
    if not in_folder or not isinstance(folder, str):
        return {}
    if __salt__["orthanc_database.index"](options) == SQLITE:
        return __salt__["orthanc_identity.look"](storage, os.path.join(folder, "index"), known)
    arguments = (options, wanted["user"], wanted["group"], files, files is not None)
    uuids = __salt__["orthanc_database.known_images"](*arguments)
    return __salt__["orthanc_identity.look"](storage, None, known, uuids)


def _noted(name: str) -> dict:
    """Return where images and index were when Orthanc was last seen serving."""
    with contextlib.suppress(OSError, ValueError):
        known = json.loads(_read_if_there(name + IDENTITY) or "{}")
        return known if __salt__["orthanc_identity.is_note"](known) else {}
    return {}


def _look(name: str, options: dict, wanted: dict, before: dict) -> dict:
    """Return what is wrong with the files and folders that the options name; not of those that
    come with the configuration, and nothing while Orthanc's account is still to come.
    """
    if __salt__["file.user_to_uid"](wanted["user"]) == "":
        return {"problems": [], "warnings": []}
    own = _at(name, {**wanted["texts"], **wanted["pems"]})
    expected = options["Plugins"] if wanted["plugin_folder"] else wanted["plugins"]
    to_come = [path for path in expected if not os.path.lexists(path)]
    # The first of several layers holds what nobody asked for.
    known = [before, *wanted["layers"][:-1][:1]]
    return __salt__["orthanc_paths.look"](
        options,
        name,
        {part: wanted[part] for part in ("user", "group", "service")},
        known=known,
        coming=[*own, *to_come, *wanted["folders"].values()],
        command=wanted["command"],
    )


def database_problems(name, configuration):
    """
    Say why Orthanc could not use its PostgreSQL database with a configuration.

    name
        The path of the folder.

    configuration
        See the module.

    Returns a list of sentences with pillar path and PostgreSQL's own words; none also where it
    cannot be tried.

    Raises SaltInvocationError if something in the configuration is missing, unknown or no mapping,
    or if a certificate is not there.

    CLI Example:

    .. code-block:: bash

        salt '*' orthanc_conf.database_problems /etc/orthanc '{"main_file": "orthanc.json",
            "option_files": {}, "layers": [{"PostgreSQL": {"EnableIndex": true}}]}'
    """
    wanted = _complete(configuration)
    options = _options(name, wanted, None)
    before = _in_use(name, wanted["service"], _read_folder(name))
    files = _at(name, _pems(name, wanted["pems"]))
    arguments = (options, wanted["user"], wanted["group"], files)
    found = __salt__["orthanc_database.problems"](*arguments)
    found = found or __salt__["orthanc_database.left_behind"](before, *arguments)
    if not found:
        found = _strange(name, _with_places(options, name), wanted, before, files)["problems"]
    return _sentences(found, wanted["sources"])


def database_untried(configuration):
    """
    Return why ``database_problems`` cannot try the database; None if it can.

    configuration
        See the module.

    Raises SaltInvocationError if something in the configuration is missing, unknown or no mapping.

    CLI Example:

    .. code-block:: bash

        salt '*' orthanc_conf.database_untried '{"main_file": "orthanc.json",
            "option_files": {}, "layers": [{"PostgreSQL": {"EnableIndex": true}}]}'
    """
    wanted = _complete(configuration)
    return __salt__["orthanc_database.untried"](merge(wanted["layers"]), wanted["user"])


def apply(name, configuration, test=False):
    """
    Merge the layers, judge what they give, try it, and write the files of the configuration.

    All files are put in place in one step. With them, the file ``.unproven`` says that Orthanc
    has to be restarted (``orthanc.serving`` does it, and takes it away). What was there before
    stays beside the folder, as ``<folder>.last-good``, for ``restore``.

    name
        The path of the folder, which must be there.

    configuration
        See the module.

    test
        True judges and tries, and writes nothing.

    Returns the changes, without any secret.

    Raises SaltInvocationError for a configuration that is refused, CommandExecutionError if Orthanc
    does not start with it or if writing failed.

    CLI Example:

    .. code-block:: bash

        salt '*' orthanc_conf.apply /etc/orthanc \
            '{"layers": [{"HttpPort": 8042}], "main_file": "orthanc.json", "option_files": {}}'
    """
    wanted = _complete(configuration)
    if test:
        return _plan(name, wanted)[1]
    # Of what was to come before the options are written, nothing comes any more.
    wanted.update(installed=True, databases=(), version=None)
    with _alone(name):
        _sweep(name)
        files, changes = _plan(name, wanted, coming=False)
        if changes:
            gid = _gid(wanted["group"])
            entries = (*wanted["option_files"], *wanted["texts"], *wanted["pems"])
            with _failing("writing the configuration"):
                _keep_originals(name, files, gid)
                _keep_last_good(name, [wanted["main_file"], *entries])
                _put(name, files, gid)
    return changes


def _plan(name: str, wanted: dict, coming: bool = True) -> tuple[dict, dict]:
    """
    Return the files to write, ``{file: new text, or None to remove it}``, and the changes, of a
    configuration with which Orthanc starts.

    coming
        Whether plugins may be lacking, because they will be downloaded or installed before that.
    """
    verdict = judge(name, wanted)
    if verdict["problems"]:
        raise SaltInvocationError("\n".join(verdict["problems"]))
    here, _ = _versions(wanted)
    options = _options(name, wanted, here.get("version"))
    wanted["sources"] = _sources(wanted, options)
    plugins = wanted["plugins"]
    if plugins:
        options["Plugins"] = [
            os.path.realpath(path) if path in plugins else path for path in options["Plugins"]
        ]
    lacking = [path for path in map(os.path.realpath, plugins) if not os.path.exists(path)]
    if wanted["plugin_folder"]:
        lacking += [path for path in options["Plugins"] if not os.path.lexists(path)]
    if lacking and not coming:
        raise CommandExecutionError(f"{lacking[0]} is not there; apply orthanc.plugins first")
    texts = {**wanted["texts"], **_pems(name, wanted["pems"])}
    files, changes = _compare(name, options, wanted, texts, here.get("sample") or {})
    own = _at(name, {wanted["main_file"]: None, **wanted["option_files"], **texts})
    read = [path for path in changed_files(name) if path not in own]
    changes.update({path: {"old": "as Orthanc has read it", "new": "changed"} for path in read})
    # Before the first run the folder is not there yet, in test mode.
    if (files or read) and here and os.path.isdir(name):
        lines = verdict["paths"] + _sentences(_no_room(name, options), wanted["sources"])
        if wanted["preflight"]:
            lines = lines + _try(name, options, wanted, texts, lacking, start=not lines)
        # A database on another host lets Orthanc in by now.
        lines = lines or _strange_from_afar(name, options, wanted, texts)
        if lines:
            raise CommandExecutionError("\n".join(lines))
    return files, changes


def _no_room(name: str, options: dict) -> list:
    """
    Return that Orthanc would not start again because it cannot write beside its index (M); as long
    as it runs, it serves what it has.
    """
    folder = _with_places(options, name)["IndexDirectory"]
    if not isinstance(folder, str) or __salt__["orthanc_database.index"](options) != SQLITE:
        return []
    with contextlib.suppress(OSError):
        state = os.statvfs(folder)
        if state.f_bavail * state.f_frsize < INDEX_NEEDS:
            sentence = (
                f"the file system of {folder} is full, and Orthanc could not open its index there"
                " after a restart; make room first"
            )
            return [(["IndexDirectory"], sentence)]
    return []


def _try(
    name: str, options: dict, wanted: dict, texts: dict, lacking: list, start: bool
) -> list[str]:
    """Let Orthanc start with the options, and return its own reasons if it does not."""
    found = __salt__["orthanc_preflight.run"](
        *(name, options, [wanted["main_file"], *wanted["option_files"]], texts),
        command=wanted["command"],
        user=wanted["user"],
        group=wanted["group"],
        service=wanted["service"],
        databases=wanted["databases"],
        coming=lacking,
        site=wanted["site"],
        start=start,
    )
    errors = _sentences(found["problems"], wanted["sources"])
    overridden = _sentences(found["overridden"], wanted["sources"])
    if _same_scripts(name, wanted["service"], options):
        # So it has been all the time, and is no reason to stop what changes now.
        for sentence in overridden:
            log.warning("%s", sentence)
    else:
        errors += overridden
    if found["errors"]:
        errors.append("Orthanc does not start with this configuration. It says:")
        errors += found["errors"]
    return errors


def _same_scripts(name: str, service: str, options: dict) -> bool:
    """Return whether the server runs with the administrator's scripts as they are."""
    before = _in_use(name, service, _read_folder(name))
    old, new = (
        [
            path
            for path in some.get("LuaScripts") or ()
            if not os.path.basename(path).startswith(OWN)
        ]
        for some in (before, options)
    )
    return old == new and not set(new) & set(changed_files(name))


def unused_plugins(name, configuration, of_server=False):
    """
    Return the plugins of packages that are installed and not loaded, because the configuration does
    not ask for them: a mapping from path to the name of the package.

    name
        The path of the folder.

    configuration
        See the module.

    of_server
        True takes those in that come with the server's own package, which always are there.

    CLI Example:

    .. code-block:: bash

        salt '*' orthanc_conf.unused_plugins /etc/orthanc '{"main_file": "orthanc.json",
            "option_files": {}, "layers": [], "plugin_folder": "/usr/share/orthanc/plugins"}'
    """
    wanted = _complete(configuration)
    if not wanted["plugin_folder"]:
        return {}
    found = _choose(name, wanted, _options(name, wanted, None))["unused"]
    return {path: package for path, package in found.items() if of_server or package != SERVER}


def restore(name, group="orthanc"):
    """
    Put the files back with which Orthanc was last seen serving.

    name
        The path of the folder.

    group
        The group that may read the configuration.

    Returns the names of the files that were put back; none where all of them are as they were.

    Raises CommandExecutionError if writing failed.

    CLI Example:

    .. code-block:: bash

        salt '*' orthanc_conf.restore /etc/orthanc
    """
    gid = _gid(group)
    with _failing(f"putting {name} back"), _alone(name):
        files = {
            entry: text
            for entry, text in _last_good(name).items()
            if text != _read_if_there(os.path.join(name, entry))
        }
        if files:
            _put(name, files, gid)
    return sorted(files)


def in_use(name, service):
    """
    Return the folder of the configuration with which the service is started: another one than the
    given where that has just been moved in the pillar, or is being moved back.

    name
        The path of the folder as the pillar has it, for where nothing else can be told.

    service
        The name of the service.

    CLI Example:

    .. code-block:: bash

        salt '*' orthanc_conf.in_use /etc/orthanc orthanc
    """
    if not salt.utils.systemd.booted(__context__):
        return name
    shown = __salt__["cmd.run_stdout"](
        ["systemctl", "show", "--property", "ExecStart", "--value", service], python_shell=False
    )
    found = re.search(r"argv\[\]=\S.* (/[^ ;]*) ;", shown)
    return found.group(1).rstrip("/") if found else name


@contextlib.contextmanager
def _alone(name: str):
    """Let one run after the other write: a minion's and one over salt-ssh know nothing of it."""
    # The folder itself is swapped, so that its parent is what all of them have in common.
    parent = os.path.dirname(os.path.realpath(name))
    with _failing(f"opening {parent}"):
        descriptor = os.open(parent, os.O_RDONLY)
    try:
        with _failing(f"locking {parent}"):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _failing(what: str):
    """Let what the operating system refuses fail as everything else does."""
    try:
        yield
    except OSError as err:
        remedy = "; call it as root, with sudo" if os.geteuid() else ""
        raise CommandExecutionError(f"{what} failed: {err}{remedy}") from err


def _gid(group: str) -> int:
    """Return the number of a group of this host."""
    gid = __salt__["file.group_to_gid"](group)
    if gid == "":
        raise CommandExecutionError(
            f"the group {group} does not exist; the package of Orthanc creates it"
        )
    return gid


def _at(name: str, texts: dict) -> dict:
    """Return the texts of files by their whole path; some entries are one already."""
    return {os.path.join(name, entry): text for entry, text in texts.items()}


def _complete(configuration: dict) -> dict:
    """Return a configuration with a value for everything."""
    unknown = sorted(set(configuration) - {*CONFIGURATION, *REQUIRED})
    missing = [key for key in REQUIRED if key not in configuration]
    if unknown or missing:
        what = f"unknown: {', '.join(unknown)}" if unknown else f"missing: {', '.join(missing)}"
        raise SaltInvocationError(f"in the configuration, {what}")
    if not all(isinstance(layer, dict) for layer in configuration["layers"]):
        raise SaltInvocationError("each layer of options must be a mapping")
    return {**CONFIGURATION, **configuration}


def _versions(wanted: dict) -> tuple[dict, str | None]:
    """Return what the installed Orthanc says of itself, and the version that will be there."""
    command = wanted["command"]
    here = __salt__["orthanc_options.installed"](command) if command else {}
    coming = re.match(r"(?:\d+:)?(\d+(?:\.\d+)+)", str(wanted["version"] or ""))
    return here, coming.group(1) if coming else here.get("version")


def _options(name: str, wanted: dict, version: str | None) -> dict:
    """
    Return the options of a configuration as this version of Orthanc takes them, with the plugins
    that they ask for.
    """
    options = __salt__["orthanc_options.adapt"](merge(wanted["layers"]), version)
    if wanted["plugin_folder"]:
        options["Plugins"] = [*_choose(name, wanted, options)["load"], *wanted["plugins"]]
    return options


def _choose(name: str, wanted: dict, options: dict) -> dict:
    """Return what ``orthanc_plugins.choose`` says of the folder of the plugins."""
    owned = place({}, wanted["main_file"], wanted["option_files"])
    # A file of the administrator's own beside them may ask for a plugin, too.
    others = [content or {} for entry, content in _read_folder(name).items() if entry not in owned]
    return __salt__["orthanc_plugins.choose"](
        wanted["plugin_folder"],
        libraries=__salt__["orthanc_options.libraries"](merge([*others, options])),
        packages=wanted["packages"],
        coming=_coming(wanted),
        downloads=wanted["plugins"],
    )


def _coming(wanted: dict) -> list:
    """Return the names of the packages that may be installed before the options are written."""
    here, expected = _versions(wanted)
    packages = [] if wanted["installed"] else list(wanted["packages"])
    if here and expected == here.get("version"):
        # What comes with the server itself is there by now, or it does not come.
        return [package for package in packages if package != SERVER]
    return packages


def _sources(wanted: dict, options: dict) -> dict:
    """Return the path of the pillar for options, with that of each plugin that is loaded."""
    numbers = {path: number for number, path in enumerate(wanted["plugins"])}
    items = options.get("Plugins")
    found = dict(wanted["sources"])
    for position, item in enumerate(items if isinstance(items, list) else ()):
        if isinstance(item, str) and item in numbers:
            found[f"Plugins:{position}"] = f"orthanc:plugins:{numbers[item]}"
        elif wanted["plugin_folder"]:
            found[f"Plugins:{position}"] = "orthanc:paths:plugins"
    return found


def _judged_for(name: str, options: dict, wanted: dict, here: dict, expected: str | None) -> dict:
    """Return what ``orthanc_options`` has to know of this host, besides the options."""
    return {
        "version": expected,
        "sample": here.get("sample") if expected == here.get("version") else None,
        "plugins": _plugins(options, name) if here else None,
        "packages": _coming(wanted),
        "allowed": wanted["sections"],
    }


def _open_secrets(before: dict, options: dict, wanted: dict) -> tuple[list, list]:
    """
    Return the secrets that protect nothing, as pairs of an option's path and a sentence: those that
    are refused, and those that are warned about. What is in use, and reached from nowhere else than
    before, is not refused: a run must be able to change the rest.
    """
    remote = wanted["remote_access"]
    if remote is None:
        remote = options.get("RemoteAccessAllowed") is True
    used_remotely = before.get("RemoteAccessAllowed") is True or _site_is_open(wanted["site"])
    new = _judge_secrets(options, remote)
    old = _judge_secrets(before, used_remotely)
    refused, warned = [], new["weak"]
    for path, sentence in new["failed"] + new["known"]:
        in_use = (path, sentence) in old["failed"] + old["known"]
        same = in_use and _at_path(before, path) == _at_path(options, path)
        (warned if same else refused).append((path, sentence))

    def without_demo_users(pairs):
        # They have a warning of their own.
        return [p for p in pairs if wanted["sources"].get(":".join(p[0])) != DEMO_USERS]

    return without_demo_users(refused), without_demo_users(warned)


def _judge_secrets(options: dict, remote: bool) -> dict:
    shown = {o: __salt__["orthanc_options.redact"](o, value) for o, value in options.items()}
    return __salt__["orthanc_passwords.judge"](options, shown, remote)


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
    text = _read_if_there(site) if site else None
    return bool(re.search(r"(?m)^\s*listen (?!127\.|\[::1\])", text or ""))


def _known_mistakes(name: str, options: dict, wanted: dict, here: dict) -> list:
    """
    Return the mistakes that Orthanc serves with already: what is as it was is no worse for this
    run, which may lock out a user, and must not wait until it is put right.
    """
    served = _served(name)
    if not served:
        return []
    judged_for = _judged_for(name, served, wanted, here, here.get("version"))
    return [
        pair
        for pair in __salt__["orthanc_options.check"](served, **judged_for)
        if _at_path(served, pair[0]) == _at_path(options, pair[0])
    ]


def _served(name: str) -> dict:
    """Return the options with which Orthanc was last seen serving; nothing if it never was."""
    found = {}
    for entry, text in _last_good(name).items():
        if text and entry.endswith(".json"):
            with contextlib.suppress(ValueError):
                found.update(__salt__["orthanc_json.parse"](text))
    return found


def _shown(before: dict, site: str | None) -> dict:
    """Return the certificates that the server shows already, by their place in the pillar."""
    chain = __salt__["orthanc_tls.chain"]
    found = {}
    live = __salt__["orthanc_nginx.site"](site) if site else {}
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


def _strangers(name: str, owned: dict, wanted: dict, on_host: dict) -> list[str]:
    """
    Return what is wrong with the files that are of nobody here: Orthanc would not start with them.

    owned
        The options by the files that the formula owns.
    """
    problems = []
    options = {option for content in owned.values() for option in content}
    for entry, content in on_host.items():
        path = os.path.join(name, entry)
        if entry in owned:
            continue
        if content is None:
            problems.append(
                f"{path} cannot be read as JSON, and Orthanc does not start with it; remove it or"
                " put it right"
            )
        elif _is_shut_out(name, path, wanted["user"], wanted["group"]):
            problems.append(
                f"{path} cannot be read by the user {wanted['user']}, and Orthanc does not start"
                f" without it; let its group do so: chgrp {wanted['group']} {path};"
                f" chmod g+r {path}"
            )
        for option in sorted(set(content or {}) & options):
            key = wanted["sources"].get(option)
            default = ", by default" if option in wanted["defaults"] else ""
            sentence = f"{path} sets {option}, which {key} sets too; remove it from that file"
            if default or not key:
                # Not all that has no setting is of orthanc:config: users bring a script.
                sentence = (
                    f"{path} sets {option}, which the formula sets too{default}; say it in"
                    f" {key or f'orthanc:config:{option}'} and remove it from that file"
                )
            problems.append(
                f"{sentence}, because Orthanc does not start when two files set one option"
            )
    return problems


def _is_shut_out(name: str, path: str, user: str, group: str) -> bool:
    """Return whether an account gets into a folder, and not at a file in it."""
    may = __salt__["orthanc_paths.may"]
    return may(["-x", name], user, group) and not may(["-r", path], user, group)


def _in_use(name: str, service: str, on_host: dict) -> dict:
    """
    Return the options that the server has now, with the places of its images, which Orthanc gives
    itself where they are not set; nothing where there is no server.
    """
    folder = in_use(name, service)
    found = on_host if folder == name else _read_folder(folder)
    options = merge([content or {} for content in found.values()])
    if not options:
        return {}
    return _with_places(options, folder)


def _with_places(options: dict, folder: str) -> dict:
    """Return options with the places of images and index, which Orthanc gives itself if need be."""
    found = dict(options)
    for option in PLACES:
        value = found.get(option, found.get("StorageDirectory", STORAGE))
        found[option] = os.path.join(folder, value) if isinstance(value, str) else value
    return found


def _folders_in_use(name: str, before: dict, user: str) -> set[str]:
    """Return the folders that a server of the formula's making has already, as they are."""
    if not _last_good(name):
        return set()
    found = [before.get(option) for option in PLACES]
    return {name, os.path.expanduser(f"~{user}"), *filter(None, found)}


def _shared_folders(wanted: dict, in_use: set) -> tuple[list, list]:
    """
    Return the folders that are not Orthanc's alone, and cannot be closed to others; and those with
    which it serves all the same.
    """
    problems, kept, user = [], [], wanted["user"]
    uid = __salt__["file.user_to_uid"](user)
    # Before the first run there is nobody to give a folder to.
    give = f"chown {user}" if uid != "" else f"install the package of {user} and chown {user}"
    for place, folder in wanted["folders"].items():
        parent = os.path.dirname(folder)
        while not os.path.isdir(parent):
            parent = os.path.dirname(parent)
        owners = {0, uid} if place == CONFIG_PATH else {uid}
        if os.path.islink(folder):
            sentence = (
                f"{folder} is a link, and what it leads to would stay open to others; set {place}"
                f" to {os.path.realpath(folder)}"
            )
        elif _is_of_others(folder, owners):
            owner = __salt__["file.get_user"](folder)
            sentence = (
                f"{folder} belongs to {owner}, and would be closed to all but {user}; choose"
                f" another folder, or {give} {folder}"
            )
        elif place == CONFIG_PATH and _is_filled(folder) and not _json_files(folder):
            sentence = (
                f"{folder} holds other things than a configuration of Orthanc, and would be closed"
                f" to all but {user}; choose another folder"
            )
        elif uid != "" and not __salt__["orthanc_paths.may"](["-x", parent], user, wanted["group"]):
            problems.append(
                f"{place}: the account {user} may not enter {parent}; choose another folder, or"
                f" chmod o+x {parent}"
            )
            continue
        else:
            continue
        if folder in in_use:
            kept.append(f"{place}: {sentence} ({IN_USE})")
        else:
            problems.append(f"{place}: {sentence}")
    return problems, kept


def _is_of_others(folder: str, owners: set) -> bool:
    """Return whether a folder with something in it belongs to somebody else."""
    # Root may not look into one of Orthanc's on NFS with root_squash.
    is_other = os.path.isdir(folder) and os.stat(folder).st_uid not in owners
    return is_other and _is_filled(folder)


def _is_filled(folder: str) -> bool:
    return os.path.isdir(folder) and bool(set(os.listdir(folder)) - NO_CONTENT)


def _overwritten(name: str, files: dict) -> list[str]:
    """Return the files elsewhere that are of somebody else, and would be written over."""
    return [
        f"orthanc:postgresql:ca: {path} is there already, and holds something else than"
        " orthanc:postgresql:ca_source; choose another path, or remove it"
        for path, text in files.items()
        if not path.startswith(f"{name}/")
        and text is not None
        and os.path.lexists(path)
        and not _is_ours(name, path)
        and not (os.path.isfile(path) and _read(path) == text)
    ]


def _pems(name: str, pems: dict | None) -> dict:
    """Return the texts of the PEM files by entry; None for one that must not be there."""
    return {
        entry: spec and __salt__["orthanc_tls.pem"](os.path.join(name, entry), **spec)
        for entry, spec in (pems or {}).items()
    }


def _sentences(pairs: list, sources: dict | None) -> list[str]:
    """Return one line for each pair of an option's path and a sentence, with the pillar path."""
    lines = []
    for path, sentence in pairs:
        origin = f"orthanc:config:{':'.join(path)}"
        for depth in range(len(path), 0, -1):
            source = (sources or {}).get(":".join(path[:depth]))
            if source:
                origin = ":".join([source, *path[depth:]])
                break
        lines.append(f"{origin}: {sentence}")
    return lines


def _plugins(options: dict, folder: str) -> list[str]:
    """
    Return the plugins of this host as ``orthanc_options.check`` wants them: the names of the files
    that Orthanc would load, and the whole paths of those that packages bring and it would not.
    """
    loaded: list = []
    plugins = options.get("Plugins")
    for entry in plugins if isinstance(plugins, list) else []:
        path = os.path.join(folder, str(entry))
        inside = os.listdir(path) if os.path.isdir(path) else None
        loaded += [path] if inside is None else [os.path.join(path, name) for name in inside]
    known = {os.path.realpath(path) for path in loaded}
    others: dict = {}
    for place in PLUGIN_FOLDERS:
        for path in sorted(glob.glob(os.path.join(place, "*.so*"))):
            others.setdefault(os.path.realpath(path), path)
    names = [_versioned_name(path) for path in loaded]
    return names + [path for real, path in others.items() if real not in known]


def _versioned_name(path: str) -> str:
    """Return the name of a file, or that behind a link if that only has a version more."""
    name, behind = os.path.basename(path), os.path.basename(os.path.realpath(path))
    return behind if behind.startswith(f"{name}.") else name


def _compare(
    name: str, options: dict, configuration: dict, texts: dict, sample: dict
) -> tuple[dict, dict]:
    """
    Return the files to write, and the changes; see ``_plan``.

    sample
        Orthanc's own defaults. An option that leaves a file with that value changes nothing.
    """
    main_file, option_files = configuration["main_file"], configuration["option_files"]
    wanted = place(options, main_file, option_files)
    on_host = _read_folder(name)
    contents = {
        entry: __salt__["orthanc_json.dump"](content)
        for entry, content in wanted.items()
        # A file of a package that is not installed is written only if it has something to say.
        if content or entry in on_host or entry == main_file or not option_files.get(entry)
    }
    contents.update(texts)
    files, changes = {}, {}
    for entry, text in contents.items():
        path = os.path.join(name, entry)
        current = _read_if_there(path)
        if text == current:
            continue
        files[entry] = text
        if text is None:
            changes[path] = {"old": "present", "new": None}
        elif entry in wanted:
            old = {
                option: value
                for option, value in (on_host.get(entry) or {}).items()
                if option in wanted[entry] or not _is_default(option, value, sample)
            }
            changes[path] = differences(old, wanted[entry])
        if not changes.get(path):
            changes[path] = {"old": None if current is None else "other text", "new": "written"}
    return files, changes


def _is_default(option: str, value, sample: dict) -> bool:
    return option in sample and value == sample[option] and type(value) is type(sample[option])


def scrub(name, lines):
    """
    Return lines of a log without the secrets of the configuration.

    name
        The path of the folder of the configuration.

    lines
        A list of texts.

    CLI Example:

    .. code-block:: bash

        salt '*' orthanc_conf.scrub /etc/orthanc '["the line of a log"]'
    """
    return __salt__["orthanc_secrets.scrub"](
        lines, merge([content or {} for content in _read_folder(name).values()])
    )


def remove(name, files):
    """
    Remove files of the configuration, and put back those that were there before the formula.

    Debian's packages need theirs: their postinst fails where one is missing, and dpkg does not
    bring a removed one back.

    name
        The path of the folder; it goes too if nothing is left in it.

    files
        The names of the files.

    Returns a mapping from path to what became of the file: None where it was removed, or "put
    back".

    Raises CommandExecutionError if that failed.

    CLI Example:

    .. code-block:: bash

        salt '*' orthanc_conf.remove /etc/orthanc '[orthanc.json]'
    """
    if not os.path.isdir(os.path.dirname(os.path.realpath(name))):
        return {}
    with _failing(f"removing the configuration in {name}"), _alone(name):
        _sweep(name)
        done = removal(name, files)
        for path, action in done.items():
            if action:
                os.replace(os.path.join(name, ORIGINALS, os.path.basename(path)), path)
            else:
                os.unlink(path)
        for folder in (os.path.join(name, ORIGINALS), name):
            if os.path.isdir(folder) and not os.listdir(folder):
                os.rmdir(folder)
    return done


def removal(name, files):
    """
    Say what ``remove`` would do, and do nothing.

    name, files
        See ``remove``, which also says what is returned.

    CLI Example:

    .. code-block:: bash

        salt '*' orthanc_conf.removal /etc/orthanc '[orthanc.json]'
    """
    done = {}
    # The form of a file alone does not say whose it is.
    for entry in [*files, UNPROVEN] if written(name) else ():
        path = os.path.join(name, entry)
        # Of a file elsewhere, which has its whole path for a name, no copy is kept.
        if not os.path.isabs(entry) and os.path.exists(os.path.join(name, ORIGINALS, entry)):
            done[path] = "put back"
        elif os.path.lexists(path) and (entry == UNPROVEN or _is_ours(name, entry)):
            done[path] = None
    # Last, because it knows what elsewhere is of the formula.
    notes = [name + LAST_GOOD, name + AS_READ, name + IDENTITY]
    return {**done, **dict.fromkeys(filter(os.path.exists, notes))}


def written(name):
    """
    Return whether the formula has written the configuration, and ``remove`` was not there since.

    name
        The path of the folder.

    CLI Example:

    .. code-block:: bash

        salt '*' orthanc_conf.written /etc/orthanc
    """
    return os.path.exists(name + LAST_GOOD)


def unproven(name):
    """
    Return whether the configuration was written and Orthanc not yet seen serving with it.

    name
        The path of the folder.

    CLI Example:

    .. code-block:: bash

        salt '*' orthanc_conf.unproven /etc/orthanc
    """
    return os.path.exists(os.path.join(name, UNPROVEN))


def prove(name):
    """
    Note that Orthanc serves with the configuration as it is.

    name
        The path of the folder.

    Returns True.

    Raises CommandExecutionError if writing failed.

    CLI Example:

    .. code-block:: bash

        salt '*' orthanc_conf.prove /etc/orthanc
    """
    marker = os.path.join(name, UNPROVEN)
    with _failing("keeping the configuration as the last good one"):
        if os.path.exists(marker):
            _keep_last_good(name, _read(marker).split("\n"), anew=True)
            os.unlink(marker)
        known = _as_read(name)
        seen = __salt__["orthanc_reads.seen"](_read_at_start(name), known)
        if seen != known:
            _write(name + AS_READ, json.dumps(seen, indent=2) + "\n", gid=0, mode=0o600)
        _note_identity(name)
    return True


def _note_identity(name: str) -> None:
    """Note where images and index are with which Orthanc serves."""
    known = _noted(name)
    seen = _seen(_with_places(_all_options(name), name), known, CONFIGURATION)
    noted = __salt__["orthanc_identity.note"](seen, known) if seen else {}
    if noted != known:
        _write(name + IDENTITY, json.dumps(noted, indent=2) + "\n", gid=0, mode=0o600)


def strayed(name):
    """
    Return whether the Orthanc that runs has other images or another index open than those which are
    there by now, as where a disk was mounted after its start.

    name
        The path of the folder.

    CLI Example:

    .. code-block:: bash

        salt '*' orthanc_conf.strayed /etc/orthanc
    """
    options = _with_places(_all_options(name), name)
    storage, folder = (options[option] for option in PLACES)
    if not isinstance(storage, str) or not isinstance(folder, str):
        return False
    is_file = __salt__["orthanc_database.index"](options) == SQLITE
    index = os.path.join(folder, "index") if is_file else None
    return __salt__["orthanc_identity.strayed"](storage, index)


def _all_options(name: str) -> dict:
    """Return the options of all files of the folder that can be read, secrets included."""
    return merge([content or {} for content in _read_folder(name).values()])


def changed_files(name, running=True):
    """
    Return the paths of the files that the configuration names, or that others have put beside it,
    and that hold something else than what the running Orthanc has read at its start.

    name
        The path of the folder.

    running
        False compares with what it had read when it was last seen serving.

    CLI Example:

    .. code-block:: bash

        salt '*' orthanc_conf.changed_files /etc/orthanc
    """
    paths, known = _read_at_start(name), _as_read(name)
    if unproven(name):
        # What a configuration names that the running Orthanc has never seen is new with it.
        paths = [path for path in paths if path in known]
    return __salt__["orthanc_reads.changed"](paths, known, running)


def used(name):
    """
    Return the paths of the files that Orthanc reads in a folder of its configuration, and of what
    these name.

    name
        The path of the folder.

    CLI Example:

    .. code-block:: bash

        salt '*' orthanc_conf.used /etc/orthanc
    """
    on_host = _read_folder(name)
    options = merge([content or {} for content in on_host.values()])
    named = [path for _, path, _ in __salt__["orthanc_paths.named"](options, name)]
    return [*_at(name, on_host), *named, *__salt__["orthanc_reads.files"](options, name)]


def _read_at_start(name: str) -> list[str]:
    """Return the files that Orthanc reads at its start, but for those of the formula's making."""
    on_host = _read_folder(name)
    options = merge([content or {} for content in on_host.values()])
    found = [*__salt__["orthanc_reads.files"](options, name), *_at(name, on_host)]
    own = _at(name, _last_good(name))
    return [path for path in found if path not in own]


def _as_read(name: str) -> dict:
    """Return what Orthanc had read when it was last seen serving: ``{path: SHA-256}``."""
    text = _read_if_there(name + AS_READ)
    return json.loads(text) if text else {}


def _json_files(name: str) -> list[str]:
    """Return the names of the files that Orthanc would read."""
    if not os.path.isdir(name):
        return []
    try:
        entries = sorted(os.listdir(name))
    except PermissionError:
        raise CommandExecutionError(
            f"{name} is closed to the account that runs this; call it as root, with sudo"
        ) from None
    return [
        entry
        for entry in entries
        # Orthanc reads hidden files too, and takes .JSON for .json.
        if entry.lower().endswith(".json") and not os.path.isdir(os.path.join(name, entry))
    ]


def _read_folder(name: str) -> dict:
    """Return the options of each file that Orthanc would read; None where it would give up."""
    files = {}
    for entry in _json_files(name):
        path = os.path.join(name, entry)
        try:
            files[entry] = __salt__["orthanc_json.parse"](_read(path))
        except (OSError, ValueError) as err:
            log.debug("%s: %s", path, err)
            files[entry] = None
    return files


def _is_ours(name: str, entry: str) -> bool:
    """
    Return whether a file is of this module's making: JSON by its form, others by their name, and
    those elsewhere because they were written before.
    """
    if os.path.isabs(entry):
        return entry in _last_good(name)
    if not entry.lower().endswith(".json"):
        return entry.startswith(OWN)
    content = _read(os.path.join(name, entry))
    try:
        return __salt__["orthanc_json.dump"](__salt__["orthanc_json.parse"](content)) == content
    except ValueError:
        return False


def _keep_originals(name: str, files: dict, gid: int) -> None:
    """Copy what is about to be replaced and is not of this module's making."""
    folder, ours = os.path.join(name, ORIGINALS), written(name)
    for entry in files:
        path, copy_path = os.path.join(name, entry), os.path.join(folder, entry)
        if os.path.exists(copy_path) or not os.path.exists(path):
            continue
        # The form alone does not tell: other programs write JSON like that.
        if ours and _is_ours(name, entry):
            continue
        os.makedirs(folder, mode=0o750, exist_ok=True)
        os.chown(folder, 0, gid)
        _write(copy_path, _read(path), gid)


def _left_behind(before: dict, options: dict) -> list:
    """
    Return why the server would no longer find its images, as pairs of an option's path and a
    sentence: they stay where they are while it is told to look elsewhere.
    """
    has_images = __salt__["orthanc_database.has_images"]
    problems = []
    for option, is_used in zip(PLACES, (has_images, _has_index)):
        old, new = before.get(option), options.get(option)
        if not isinstance(old, str) or not isinstance(new, str) or _is_same(old, new):
            continue
        in_use = has_images(before.get("StorageDirectory", old)) and is_used(old)
        if in_use and not is_used(new):
            sentence = (
                f"the server keeps its images in {old}, and {new} holds none of them; set it to"
                f" {old}, or stop the server and move the folder first"
            )
            problems.append(([option], sentence))
    return problems


def _has_index(folder: str) -> bool:
    return os.path.exists(os.path.join(folder, "index"))


def _is_same(one: str, other: str) -> bool:
    return os.path.normpath(one) == os.path.normpath(other)


def _read(path: str) -> str:
    if not os.path.isfile(path):
        raise OSError(f"{path} is no file")  # a pipe would be waited for
    with salt.utils.files.fopen(
        path, encoding="utf-8", errors="surrogateescape", newline=""
    ) as file:
        return file.read()


def _read_if_there(path: str) -> str | None:
    return _read(path) if os.path.exists(path) else None


def _last_good(name: str) -> dict:
    """Return the last files with which Orthanc was seen serving: ``{file: text or None}``."""
    text = _read_if_there(name + LAST_GOOD)
    return json.loads(text) if text else {}


def _keep_last_good(name: str, entries: list[str], anew: bool = False) -> None:
    """
    Note the texts of files as they are.

    anew
        False leaves those alone of which a text is known: they were seen serving.
    """
    known = {} if anew else _last_good(name)
    files = {}
    for entry in filter(None, entries):
        path = os.path.join(name, entry)
        files[entry] = _read_if_there(path)
        # A file that was not there then, and is of a package that was installed since, stays.
        as_known = known.get(entry) is not None or not files[entry] or _is_ours(name, entry)
        if entry in known and as_known:
            files[entry] = known[entry]
    if files != known or anew:
        _write(name + LAST_GOOD, json.dumps(files, indent=2) + "\n", gid=0, mode=0o600)


def _put(name: str, files: dict, gid: int) -> None:
    """
    Put a set of files in place, all of them in one step: a whole new folder takes the place of the
    old one. Whatever interrupts this leaves the old set or the new one.

    Where that cannot be (a mount point, an old file system), one file after the other takes the
    place of its predecessor, each of them whole, and the next run writes what is missing.
    """
    marked = sorted({*_last_good(name), *files})
    files = {UNPROVEN: "\n".join(marked) + "\n", **files}
    inside = {entry: text for entry, text in files.items() if not os.path.isabs(entry)}
    if not _put_at_once(os.path.realpath(name), inside, gid):
        for entry, text in inside.items():
            _write_or_remove(os.path.join(name, entry), text, gid)
    # These come last: the note that they are not proven is there by then.
    for path in files.keys() - inside.keys():
        os.makedirs(os.path.dirname(path), exist_ok=True)
        _write_or_remove(path, files[path], gid)


def _put_at_once(name: str, files: dict, gid: int) -> bool:
    """Swap the folder for a new one, and return whether that was possible."""
    if _mounts(name):
        return False  # the old folder is removed in the end, and they would be emptied with it
    folder = name + NEW
    shutil.rmtree(folder, ignore_errors=True)
    try:
        result = __salt__["cmd.run_all"](
            ["cp", "-aT", "--", name, folder], python_shell=False, output_loglevel="quiet"
        )
        if result["retcode"]:
            raise CommandExecutionError(result["stderr"])
        for entry, text in files.items():
            _write_or_remove(os.path.join(folder, entry), text, gid)
        try:
            _exchange(folder, name)
        except OSError as err:
            log.info("%s cannot be replaced in one step: %s", name, err)
            return False
        return True
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _mounts(name: str) -> list[str]:
    """Return the mount points at a folder and below it."""
    with salt.utils.files.fopen("/proc/self/mountinfo") as file:
        points = [line.split()[4].replace("\\040", " ") for line in file]
    return [point for point in points if f"{point}/".startswith(f"{name}/")]


def _sweep(name: str) -> None:
    """Remove what a run that was killed left behind."""
    shutil.rmtree(os.path.realpath(name) + NEW, ignore_errors=True)
    folder, entry = (glob.escape(part) for part in os.path.split(name))
    for pattern in (
        f"{folder}/{entry}/.*{NEW}-*",
        f"{folder}/{entry}/{ORIGINALS}/.*{NEW}-*",
        f"{folder}/.{entry}{LAST_GOOD}{NEW}-*",
        f"{folder}/.{entry}{AS_READ}{NEW}-*",
        f"{folder}/.{entry}{IDENTITY}{NEW}-*",
    ):
        for path in glob.glob(pattern):
            os.unlink(path)


def _exchange(one: str, other: str) -> None:
    """Swap two folders in one step: renameat2(2), for which Python has no function."""
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "renameat2"):
        raise OSError("this system has no renameat2")
    paths = (AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other))
    if libc.renameat2(*paths, RENAME_EXCHANGE) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), one)


def _write_or_remove(path: str, text: str | None, gid: int) -> None:
    if text is not None:
        _write(path, text, gid, UNIT_MODE if path.endswith(UNIT) else FILE_MODE)
    elif os.path.lexists(path):
        os.unlink(path)


def _write(path: str, text: str, gid: int, mode: int = FILE_MODE) -> None:
    """Put a whole new file in the place of the old one; Orthanc sees either of them."""
    # The name must not end in .json: Orthanc reads hidden files as well.
    folder, entry = os.path.split(path)
    handle, temporary = tempfile.mkstemp(dir=folder, prefix=f".{entry}{NEW}-")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
            os.fchown(file.fileno(), 0, gid)
            os.fchmod(file.fileno(), mode)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
