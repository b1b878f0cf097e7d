"""
The folder of Orthanc's configuration, as Orthanc reads it: the options of all ``*.json`` in it
together.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re

from salt.exceptions import CommandExecutionError, SaltInvocationError

log = logging.getLogger(__name__)

# The options that say where images and index are, in this order.
PLACES = ("StorageDirectory", "IndexDirectory")
# Where Orthanc itself puts images where nothing else is said, below the folder.
STORAGE = "OrthancStorage"
# What is larger is no configuration, and is not read: it would take for ever. In bytes.
LARGEST = 4 << 20


def json_files(name):
    """
    Part of the formula. Return the names of the files that Orthanc would read, a list of texts.

    name
        The path of the folder.

    Raises CommandExecutionError where the account that runs this may not look.
    """
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


def contents(name):
    """
    Part of the formula. Return the options of each file that Orthanc would read, as a mapping from
    the name of the file; None for one where Orthanc would give up.

    name
        The path of the folder.
    """
    found = {}
    for entry in json_files(name):
        path = os.path.join(name, entry)
        try:
            found[entry] = __salt__["orthanc_json.parse"](_text(path))
        except (OSError, ValueError) as err:
            log.debug("%s: %s", path, err)
            found[entry] = None
    return found


def _text(path: str) -> str:
    """Return the text of a file; raise OSError for one that cannot be read, or is too large."""
    if os.path.isfile(path) and os.path.getsize(path) > LARGEST:
        raise OSError(f"no configuration has more than {LARGEST >> 20} MB; take it away")
    return __salt__["orthanc_files.read"](path)


def others(name, owned, options):
    """
    Part of the formula. Return the options of each file that is not the formula's and stays, as
    ``contents`` does.

    name
        The path of the folder.

    owned
        The names of the formula's files.

    options
        A mapping from option name to value, of what the formula writes.
    """
    gone = said_again(name, owned, options)
    found = contents(name).items()
    return {entry: content for entry, content in found if entry not in owned and entry not in gone}


def said_again(name, owned, options):
    """
    Part of the formula. Return the names of the files of somebody else that say only what the
    formula says as well. They go, because Orthanc refuses to hear it twice.

    name, owned, options
        See ``others``.
    """
    found = contents(name).items()
    return [
        entry
        for entry, content in found
        if entry not in owned and content and not unsaid(content, options)
    ]


def unsaid(content, options):
    """
    Part of the formula. Return the names of the options of a file that the formula does not set, or
    otherwise: without these, it takes the place of the file.

    content
        The options of the file, a mapping from option name to value.

    options
        See ``others``.
    """
    said, own = dict(options), __salt__["orthanc_files.is_own_name"]
    if isinstance(said.get("LuaScripts"), list):
        said["LuaScripts"] = [path for path in said["LuaScripts"] if not own(str(path))]

    def text(values: dict, option: str) -> str:
        return json.dumps({o: value for o, value in values.items() if o == option}, sort_keys=True)

    return sorted(option for option in content if text(content, option) != text(said, option))


def in_part(path, content, options):
    """
    Part of the formula. Say of a file, some of whose options the formula sets alike, how it goes as
    a whole: a list of sentences, none for another file.

    path
        The path of the file.

    content, options
        See ``unsaid``.
    """
    rest = unsaid(content, options)
    if len(rest) in (0, len(content)):
        return []
    return [
        f"{path}: where the pillar sets {', '.join(rest)} as this file does, the formula takes the"
        " place of all of it, and nothing is lost meanwhile"
    ]


def options(name, without=()):
    """
    Part of the formula. Return the options of all files that can be read, secrets included.

    name
        The path of the folder.

    without
        The names of files that are left out.
    """
    found = contents(name).items()
    layers = [content or {} for entry, content in found if entry not in without]
    return __salt__["orthanc_json.merge"](layers)


def read(path, named=False):
    """
    Part of the formula. Return what Orthanc would read, secrets included: the ``options``, the
    ``owners``, which is the path of the file that each is in, and the paths of all ``files`` that
    can be read; with ``problems``, why Orthanc would not start, and ``warnings``, what it passes
    over, each a list of sentences.

    path
        The path of a folder, or of one file.

    named
        See ``orthanc_json.read``.
    """
    entries = [path]
    if os.path.isdir(path):
        entries = [os.path.join(path, entry) for entry in json_files(path)]
    found = {"options": {}, "owners": {}, "files": [], "problems": [], "warnings": []}
    for place in entries:
        try:
            text = __salt__["orthanc_json.read"](_text(place), named)
        except OSError as err:
            found["problems"].append(f"{place} cannot be read: {err}")
            continue
        except ValueError as err:
            found["problems"].append(f"{place}: Orthanc does not start with this file: {err}")
            continue
        found["files"].append(place)
        found["warnings"] += [f"{place}: {remark}" for remark in text["remarks"]]
        for option, value in text["options"].items():
            if option in found["owners"]:
                found["problems"].append(
                    f"{place}: {option}: is set in {found['owners'][option]} too, and Orthanc does"
                    " not start when two files set one option; take it out of one of them"
                )
                continue
            found["owners"][option], found["options"][option] = place, value
    return found


def effective(name):
    """
    Part of the formula. Return the options that Orthanc gets of the folder, secrets included.

    name
        The path of the folder.

    Raises CommandExecutionError where Orthanc would not start: a file that is no JSON, or an
    option in two files.
    """
    found: dict = {}
    for entry, content in contents(name).items():
        if content is None:
            path = os.path.join(name, entry)
            if os.path.isfile(path) and not os.access(path, os.R_OK):
                raise CommandExecutionError(f"{path} cannot be read; call it as root, with sudo")
            raise CommandExecutionError("\n".join(read(path)["problems"]))
        for option in content:
            if option in found:
                raise CommandExecutionError(f"{option} is set in two files below {name}")
        found.update(content)
    return found


def served(name):
    """
    Part of the formula. Return the options with which Orthanc was last seen serving; none if it
    never was.

    name
        The path of the folder.
    """
    found = {}
    for entry, text in __salt__["orthanc_files.last_good"](name).items():
        if text and entry.endswith(".json"):
            with contextlib.suppress(ValueError):
                found.update(__salt__["orthanc_json.parse"](text))
    return found


def chosen(config=None):
    """
    Part of the formula. Return the path of the folder: the one given, or that of the pillar.

    config
        A path; None where none is given.

    Raises SaltInvocationError where the one given is not there: of nothing, all would be well.
    """
    # A number would be that of a file which is open already.
    if config and not os.path.isdir(str(config)):
        raise SaltInvocationError(f"there is no folder {config}")
    return str(config or "") or __salt__["orthanc_pillar.paths"]().get("config") or "/etc/orthanc"


def without(name, service):
    """
    Part of the formula. Return the folder with which the service is started when the formula is
    gone: another one where the pillar has moved it.

    name
        The path of the folder as the pillar has it.

    service
        The name of the service.
    """
    gone = __salt__["orthanc_files.removal"](name, __salt__["orthanc_files.last_good"](name))
    left = [named for path, named in _starts(service).items() if named and path not in gone]
    return [name, *left][-1]


def before_formula(name, service):
    """
    Part of the formula. Return the options that Orthanc gets when the formula is gone, with the
    places of images and index; see ``orthanc_files.remove``.

    name, service
        See ``without``.
    """
    name = without(name, service)
    found = contents(name)
    entries = __salt__["orthanc_files.last_good"](name)
    for path, original in __salt__["orthanc_files.removal"](name, entries).items():
        kept = contents(os.path.dirname(original)) if original else {}
        found[os.path.basename(path)] = kept.get(os.path.basename(path))
    layers = [content or {} for content in found.values()]
    return with_places(__salt__["orthanc_json.merge"](layers), name)


def in_use(name, service):
    """
    Part of the formula. Return the folder of the configuration with which the service is started:
    another one than the given where that has just been moved in the pillar, or is being moved back.

    name
        The path of the folder as the pillar has it, for where nothing else can be told.

    service
        The name of the service.
    """
    for shown in __salt__["orthanc_host.unit"](service, "ExecStart"):
        found = re.search(r"argv\[\]=(.*?) ;", shown)
        named = _named(found.group(1)) if found else ""
        if named:
            return named
    return name


def _named(command: str) -> str:
    """Return the configuration that a command of Orthanc names; an empty text where it does not."""
    words = [word.strip("\"'").rstrip("/") for word in command.split()[1:]]
    # Behind another program, Orthanc's own one.
    paths = [w for w in words if w.startswith("/") and not w.lower().endswith("bin/orthanc")]
    return paths[-1] if paths else ""


def _starts(service: str) -> dict:
    """Return the configuration that each file of a unit starts Orthanc with, the last one holds."""
    lines = __salt__["orthanc_host.unit_lines"](service)
    return {path: _named(value) for path, _, row, value in lines if row == "ExecStart" and value}


def elsewhere(name, wanted):
    """
    Part of the formula. Say why the service would be started with another configuration than that
    of the folder, a list of sentences: none where it is not, or will not be.

    name
        The path of the folder.

    wanted
        What ``orthanc_layers.complete`` returned.
    """
    service = wanted["service"]
    own = next((text for text in wanted["texts"] if f"/{service}.service.d/" in text), "")
    # That of the formula as it will be, and not as it is.
    starts = {own: name} if "\nExecStart=/" in (wanted["texts"].get(own) or "") else {}
    found = _starts(service).items()
    starts.update({path: named or name for path, named in found if path != own})
    # The last one holds: the unit itself stands before its drop-ins.
    last = max(
        starts, key=lambda path: (path.endswith(".conf"), os.path.basename(path)), default=""
    )
    if not last or os.path.realpath(starts[last]) == os.path.realpath(name):
        return []
    return [
        f"orthanc:paths:config: {last} starts Orthanc with {starts[last]}, and not with {name}:"
        " nothing that is written there would be in force. Take over what it reads"
        f" (orthanc_conf.to_pillar), then write {name} there in its place, and call"
        " `systemctl daemon-reload`"
    ]


def options_in_use(name, service):
    """
    Part of the formula. Return the options that the server has now, with the places of its images;
    none where there is no server.

    name
        The path of the folder as the pillar has it.

    service
        The name of the service.
    """
    folder = in_use(name, service)
    found = options(folder)
    return with_places(found, folder) if found else {}


def with_places(options, folder):
    """
    Part of the formula. Return options with the places of images and index, which Orthanc gives
    itself where they are not set, as whole paths.

    options
        A mapping from option name to value.

    folder
        The path of the folder.
    """
    found = dict(options)
    for option in PLACES:
        value = found.get(option, found.get("StorageDirectory", STORAGE))
        found[option] = os.path.join(folder, value) if isinstance(value, str) else value
    return found


def located(folder):
    """
    Part of the formula. Return the options of a folder with the places of images and index; see
    ``effective`` and ``with_places``.

    folder
        The path of the folder.
    """
    return with_places(effective(folder), folder)


def places(options):
    """
    Part of the formula. Return the places of images and index among options, two values by the
    names of their options; what is none is no text.

    options
        What ``with_places`` returned.
    """
    return {option: options.get(option) for option in PLACES}


def used(name):
    """
    Part of the formula. Return the paths of the files that Orthanc reads in the folder, and of what
    these name.

    name
        The path of the folder.
    """
    found = options(name)
    named = [path for _, path, _ in __salt__["orthanc_paths.named"](found, name)]
    files = [os.path.join(name, entry) for entry in json_files(name)]
    return [*files, *named, *__salt__["orthanc_reads.files"](found, name)]


def scrub(name, lines):
    """
    Part of the formula. Return lines of a log without the secrets of the configuration.

    name
        The path of the folder.

    lines
        A list of texts.
    """
    return __salt__["orthanc_secrets.scrub"](lines, options(name))
