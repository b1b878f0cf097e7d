"""
The configuration of Orthanc as a folder of JSON files.

Orthanc reads every ``*.json`` of its folder and refuses to start where two of them hold the same
option. So every option has one owner file here, and each file that the formula owns holds exactly
the options that it manages: what leaves the pillar leaves the host.

The functions above ``effective`` are pure; it and those below it look at the host and change it.

.. code-block:: text

    layers --merge--> options --place--> files --plan--> changes --apply--> folder

https://orthanc.uclouvain.be/book/users/configuration.html
"""

from __future__ import annotations

import copy
import json
import logging
import os
import re
import tempfile

import salt.utils.files
from salt.exceptions import CommandExecutionError, SaltInvocationError

log = logging.getLogger(__name__)

__virtualname__ = "orthanc_conf"

# Only root and the service may read a file; the folder itself is not this module's business.
FILE_MODE = 0o640
# Lies in the folder from before the first write until Orthanc was seen serving with the files.
UNPROVEN = ".unproven"
# The folder for what was there before the formula: the packages' own files, or an administrator's.
ORIGINALS = "before-formula"
HIDDEN = "(hidden)"
# Below these options every value counts as secret: they hold passwords at free places.
SECRET_OPTIONS = frozenset({"RegisteredUsers", "OrthancPeers", "DicomWeb:Servers"})
SECRET_KEYS = re.compile(
    r"password|secret|token|credential|private|accesskey|accountkey|apikey"
    r"|connectionstring|connectionuri|authorization|headers",
    re.IGNORECASE,
)
# Texts are matched as well, so that nothing inside of them is taken for a comment or a comma.
COMMENTS = re.compile(r'(?P<text>"(?:[^"\\]|\\.)*")|//[^\n]*|/\*.*?\*/', re.DOTALL)
TRAILING_COMMAS = re.compile(r'(?P<text>"(?:[^"\\]|\\.)*")|,(?=\s*[\]}])', re.DOTALL)
SECRET_VALUES = re.compile(r"://[^/@]*:[^/@]*@")


def __virtual__():
    return __virtualname__


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


def parse(text: str) -> dict:
    """
    Read JSON as Orthanc does: with comments, trailing commas and a byte order mark.

    text
        The content of a file.

    Raises ValueError where Orthanc would refuse the file.

    CLI Example:

    .. code-block:: bash

        salt '*' orthanc_conf.parse '{"HttpPort": 8042, // a comment'
    """

    def keep_texts(match):
        return match.group("text") or " "

    stripped = COMMENTS.sub(keep_texts, text.lstrip("\ufeff"))
    stripped = TRAILING_COMMAS.sub(keep_texts, stripped)
    options = json.loads(stripped, strict=False)
    if not isinstance(options, dict):
        raise ValueError("the file must hold an object: {...}")
    return options


def dump(options: dict) -> str:
    """
    Return options as the text of a file, always the same for the same options.

    options
        A mapping from option name to value.

    CLI Example:

    .. code-block:: bash

        salt '*' orthanc_conf.dump '{"HttpPort": 8042}'
    """
    return json.dumps(options, indent=2, sort_keys=True) + "\n"


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
            changes[name]["old"] = redact(name, before)
        if key in new:
            changes[name]["new"] = redact(name, after)
    return changes


def redact(name: str, value):
    """
    Return the value as it may be shown: every part that may be secret is hidden.

    name
        The name of the option; names below an option are joined by colons.

    value
        Its value.

    CLI Example:

    .. code-block:: bash

        salt '*' orthanc_conf.redact PostgreSQL '{"Host": "db", "Password": "secret"}'
    """
    if isinstance(value, dict):
        return {key: redact(f"{name}:{key}", item) for key, item in value.items()}
    if any(name == option or name.startswith(f"{option}:") for option in SECRET_OPTIONS):
        return HIDDEN
    if SECRET_KEYS.search(name):
        return HIDDEN
    if isinstance(value, list):
        return [redact(name, item) for item in value]
    if isinstance(value, str) and SECRET_VALUES.search(value):
        return HIDDEN
    return value


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
    return {option: redact(option, value) for option, value in options.items()}


def plan(name, layers, main_file, option_files, texts=None, group="orthanc", allow_no_users=True):
    """
    Say what ``apply`` would change, and change nothing.

    The arguments are those of ``apply``.

    Returns the changes, without any secret.

    Raises SaltInvocationError if an option stands in a file that the formula does not own, or if
    the server would no longer find its images.

    CLI Example:

    .. code-block:: bash

        salt '*' orthanc_conf.plan /etc/orthanc '[{"HttpPort": 8042}]' orthanc.json '{}'
    """
    return _plan(name, layers, main_file, option_files, texts, allow_no_users)[1]


def _plan(name, layers, main_file, option_files, texts, allow_no_users):
    """Return the files to write, ``{file: new text, or None to remove it}``, and the changes."""
    for layer in layers:
        if not isinstance(layer, dict):
            raise SaltInvocationError("each layer of options must be a mapping")
    options = merge(layers)
    wanted = place(options, main_file, option_files)
    on_host = _read_folder(name)
    problems = [
        f"{os.path.join(name, entry)} sets {option}, which the pillar sets too; remove it from"
        " that file, because Orthanc does not start when two files set one option"
        for entry, content in on_host.items()
        if entry not in wanted
        for option in sorted(set(content or {}) & set(options))
    ]
    problems += [
        f"{os.path.join(name, entry)} cannot be read as JSON, and Orthanc does not start with it;"
        " remove it or put it right"
        for entry, content in on_host.items()
        if content is None and entry not in wanted
    ]
    before = merge([content or {} for content in on_host.values()])
    problems += _left_behind(before, options)
    if before.get("RegisteredUsers") and not options.get("RegisteredUsers") and not allow_no_users:
        problems.append(
            "orthanc: this host has no such pillar, but its server has users; check the top file of"
            " the pillar, or set `orthanc: {}` to go back to a server without users"
        )
    if problems:
        raise SaltInvocationError("\n".join(problems))

    contents = {
        entry: dump(content)
        for entry, content in wanted.items()
        # A file of a package that is not installed is written only if it has something to say.
        if content or entry in on_host or entry == main_file or not option_files.get(entry)
    }
    contents.update(texts or {})
    files, changes = {}, {}
    for entry, text in contents.items():
        path = os.path.join(name, entry)
        exists = os.path.exists(path)
        if text is None:
            if exists:
                files[entry] = None
                changes[path] = {"old": "present", "new": None}
        elif not exists or _read(path) != text:
            files[entry] = text
            if entry in wanted:
                changes[path] = differences(on_host.get(entry) or {}, wanted[entry])
            if not changes.get(path):
                changes[path] = {"old": "other text" if exists else None, "new": "written"}
    return files, changes


def apply(name, layers, main_file, option_files, texts=None, group="orthanc", allow_no_users=True):
    """
    Merge the layers and write the files of the configuration.

    Each file is replaced in one step by a whole new one with the right owner and mode. Before
    the first of them, the file ``.unproven`` says that Orthanc has to be restarted
    (``orthanc.serving`` does it, and takes it away).

    name
        The path of the folder, which must be there.

    layers
        A list of mappings from option name to value; see ``merge``.

    main_file, option_files
        Which file owns which option; see ``place``.

    texts
        A mapping from file name to text, for other files than JSON; None removes a file.

    group
        The group that may read the configuration: that of the service.

    allow_no_users
        False raises where a server that has users would lose all of them.

    Returns the changes, without any secret.

    Raises SaltInvocationError for a pillar that cannot be applied here, CommandExecutionError
    if writing failed.

    CLI Example:

    .. code-block:: bash

        salt '*' orthanc_conf.apply /etc/orthanc '[{"HttpPort": 8042}]' orthanc.json '{}'
    """
    files, changes = _plan(name, layers, main_file, option_files, texts, allow_no_users)
    if not files:
        return {}
    gid = __salt__["file.group_to_gid"](group)
    if gid == "":
        raise CommandExecutionError(
            f"the group {group} does not exist; the package of Orthanc creates it"
        )
    try:
        _keep_originals(name, files, gid)
        _write(os.path.join(name, UNPROVEN), "", gid)
        for entry, text in files.items():
            if text is None:
                os.unlink(os.path.join(name, entry))
            else:
                _write(os.path.join(name, entry), text, gid)
    except OSError as err:
        raise CommandExecutionError(f"writing the configuration failed: {err}") from err
    return changes


def remove(name, files):
    """
    Remove files of the configuration, and put back those that were there before the formula.

    Debian's packages need theirs: their postinst fails where one is missing, and dpkg does not
    bring a removed one back.

    name
        The path of the folder; it goes too if nothing is left in it.

    files
        The names of the files.

    Returns a mapping from path to "removed" or "put back".

    CLI Example:

    .. code-block:: bash

        salt '*' orthanc_conf.remove /etc/orthanc '[orthanc.json]'
    """
    done = removal(name, files)
    for path, action in done.items():
        if action == "put back":
            os.replace(os.path.join(name, ORIGINALS, os.path.basename(path)), path)
        else:
            os.unlink(path)
    for folder in (os.path.join(name, ORIGINALS), name):
        if os.path.isdir(folder) and not os.listdir(folder):
            os.rmdir(folder)
    return done


def removal(name, files):
    """
    Say what ``remove`` would do, and do nothing; the arguments are those of ``remove``.

    CLI Example:

    .. code-block:: bash

        salt '*' orthanc_conf.removal /etc/orthanc '[orthanc.json]'
    """
    done = {}
    for entry in [*files, UNPROVEN]:
        path = os.path.join(name, entry)
        if os.path.exists(os.path.join(name, ORIGINALS, entry)):
            done[path] = "put back"
        elif os.path.lexists(path) and (entry == UNPROVEN or _is_ours(path)):
            done[path] = "removed"
    return done


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

    CLI Example:

    .. code-block:: bash

        salt '*' orthanc_conf.prove /etc/orthanc
    """
    if unproven(name):
        os.unlink(os.path.join(name, UNPROVEN))
    return True


def _read_folder(name: str) -> dict:
    """Return the options of each file that Orthanc would read; None where it would give up."""
    files = {}
    if not os.path.isdir(name):
        return files
    for entry in sorted(os.listdir(name)):
        path = os.path.join(name, entry)
        # Orthanc reads hidden files too, and takes .JSON for .json.
        if entry.lower().endswith(".json") and not os.path.isdir(path):
            try:
                files[entry] = parse(_read(path))
            except (OSError, ValueError) as err:
                log.debug("%s: %s", path, err)
                files[entry] = None
    return files


def _is_ours(path: str, text: str = "") -> bool:
    """
    Return whether a file has the form in which this module writes.

    text
        For other files than JSON: the text whose first line, a comment, is the mark.
    """
    content = _read(path)
    if not path.lower().endswith(".json"):
        return not text or content.split("\n")[0] == text.split("\n", maxsplit=1)[0]
    try:
        return dump(parse(content)) == content
    except ValueError:
        return False


def _keep_originals(name: str, files: dict, gid: int) -> None:
    """Copy what is about to be replaced and is not of this module's making."""
    folder = os.path.join(name, ORIGINALS)
    for entry, text in files.items():
        path, copy_path = os.path.join(name, entry), os.path.join(folder, entry)
        if os.path.exists(copy_path) or not os.path.exists(path) or _is_ours(path, text or ""):
            continue
        os.makedirs(folder, mode=0o750, exist_ok=True)
        os.chown(folder, 0, gid)
        _write(copy_path, _read(path), gid)


def _left_behind(before: dict, options: dict) -> list[str]:
    """
    Return why the server would no longer find its images: they stay where they are while it is
    told to look elsewhere.
    """
    problems = []
    for option, setting, trace in (
        # The images lie in folders named after the first two digits of their UUID.
        ("StorageDirectory", "orthanc:paths:storage", re.compile("[0-9a-f]{2}")),
        ("IndexDirectory", "orthanc:paths:index", re.compile("index")),
    ):
        old, new = before.get(option), options.get(option)
        if not old or not new or os.path.normpath(old) == os.path.normpath(new):
            continue
        in_use = _holds(before.get("StorageDirectory", old), re.compile("[0-9a-f]{2}"))
        if in_use and _holds(old, trace) and not _holds(new, trace):
            problems.append(
                f"{setting}: the server keeps its images in {old}, and {new} holds none of"
                f" them; set {setting} to {old}, or stop the server and move the folder first"
            )
    return problems


def _holds(folder: str, pattern: re.Pattern) -> bool:
    return os.path.isdir(folder) and any(pattern.fullmatch(name) for name in os.listdir(folder))


def _read(path: str) -> str:
    with salt.utils.files.fopen(
        path, encoding="utf-8", errors="surrogateescape", newline=""
    ) as file:
        return file.read()


def _write(path: str, text: str, gid: int) -> None:
    """Put a whole new file in the place of the old one; Orthanc sees either of them."""
    # The name must not end in .json: Orthanc reads hidden files as well.
    handle, temporary = tempfile.mkstemp(dir=os.path.dirname(path), prefix=".new-")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
            os.fchown(file.fileno(), 0, gid)
            os.fchmod(file.fileno(), FILE_MODE)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
