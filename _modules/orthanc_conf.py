"""
The configuration of Orthanc: what is wrong with it, and how it comes into its folder.

.. code-block:: text

    layers --merge--> options --judge--> options --place--> files --trial start, apply--> folder
                                                                  <------ restore ------

What a configuration is says :py:mod:`orthanc_layers`; it is judged by :py:mod:`orthanc_judge` and
tried by :py:mod:`orthanc_preflight`.

https://orthanc.uclouvain.be/book/users/configuration.html
"""

from __future__ import annotations

import contextlib
import logging
import os
import re

from salt.exceptions import CommandExecutionError, SaltInvocationError

log = logging.getLogger(__name__)

# The least free space with which an index opens, in bytes.
INDEX_NEEDS = 1024 * 1024
# Of what was to come before the options are written, nothing comes any more.
NOTHING_TO_COME = {"installed": True, "databases": (), "version": None}
REFUSED = "A run would be refused, and change nothing:"
# Keys that people write where JSON has no comments.
COMMENT = re.compile(r"(?i)\W|_|(?:comment|note|help|readme)\w*$")


def effective(name=None):
    """
    Return the configuration that Orthanc gets from a folder: the options of all files together,
    with every secret hidden.

    name
        The path of the folder; by default the one with which the service is started.

    Raises CommandExecutionError where Orthanc would not start: a file that is no JSON, or an
    option in two files.

    CLI Example:

    .. code-block:: bash

        salt '*' orthanc_conf.effective
    """
    if name is None:
        server = __salt__["orthanc_tables.get"]("SERVER")
        name = __salt__["orthanc_folder.in_use"](__salt__["orthanc_folder.chosen"](), server)
    options = __salt__["orthanc_folder.effective"](__salt__["orthanc_folder.chosen"](name))
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
    cannot be rendered here (over salt-ssh: use ``state.apply orthanc test=True``), or if it is not
    root who asks about the pillar.

    CLI Example:

    .. code-block:: bash

        salt-call orthanc_conf.validate
        salt-call orthanc_conf.validate /etc/orthanc
    """
    if path is None:
        found = _validate_pillar(of_pillar(_environments(saltenv, pillarenv)))
    elif os.path.exists(str(path)):
        found = _validate_path(str(path))
    else:
        raise SaltInvocationError(f"{path} does not exist")
    if found["problems"]:
        __context__["retcode"] = 1
    return found


def diff(saltenv=None, pillarenv=None):
    """
    Say what a run of the formula would change in the behaviour of the server, and change nothing.
    An option that leaves the pillar, and has Orthanc's own default, is no change.

    saltenv, pillarenv
        The environments that formula and pillar are of; by default those of the minion.

    Returns a mapping: who is ``gone``, a list of users, modalities and other servers that the
    server knows now and the pillar does not; the ``options`` that change, each with its ``old`` and
    ``new`` value, secrets hidden; and the ``other files`` that would be written, such as the script
    with the rights of the users.

    Raises CommandExecutionError where the run would be refused, if the formula cannot be rendered
    here (over salt-ssh: use ``state.apply orthanc test=True``), or if it is not root who asks.

    CLI Example:

    .. code-block:: bash

        salt-call orthanc_conf.diff
    """
    given = of_pillar(_environments(saltenv, pillarenv))
    if given["problems"] or given["configuration"] is None:
        raise CommandExecutionError("\n".join([REFUSED, *_validate_pillar(given)["problems"]]))
    try:
        case, *_ = _judged(given["name"], given["configuration"])
    except SaltInvocationError as err:
        raise CommandExecutionError(f"{REFUSED}\n{err}") from None
    changes = _compared(case)[2]
    if case.wanted["in_database"]:
        changes["database"] = __salt__["orthanc_connections.changes"](case.name, case.options)
    return {
        "gone": __salt__["orthanc_differences.gone"](changes),
        "options": __salt__["orthanc_differences.options"](changes),
        "other files": [
            path
            for path, change in changes.items()
            if not __salt__["orthanc_differences.options"]({path: change})
        ],
    }


def of_pillar(environments):
    """
    Part of the formula. Return what the formula makes of the pillar as it stands: a mapping with
    the ``name`` of the folder, what was found to be wrong, ``problems`` and ``warnings``, and the
    ``configuration``, None where nothing can be made of it.

    environments
        A mapping that may hold the ``saltenv`` and the ``pillarenv``.

    Raises CommandExecutionError if the formula cannot be rendered here, or if it is not root who
    asks.
    """
    __salt__["orthanc_host.require_root"]()
    low = __salt__["state.show_low_sls"]("orthanc.validation", **environments)
    for chunk in low:
        if isinstance(chunk, dict) and chunk.get("state") == "orthanc_conf":
            found = {"name": chunk["name"], "problems": chunk["problems"], "configuration": None}
            if "configuration" in chunk:
                resolve = __salt__["orthanc_pillar.resolve"]
                found["configuration"] = resolve(chunk["configuration"], environments)
            return {**found, "warnings": list(chunk.get("warnings", []))}
    raise CommandExecutionError("\n".join(str(line) for line in low))


def _environments(saltenv, pillarenv) -> dict:
    """Return the environments that are given, by their names."""
    given = {"saltenv": saltenv, "pillarenv": pillarenv}
    return {name: value for name, value in given.items() if value}


def _validate_pillar(given: dict) -> dict:
    problems, warnings, configuration = (
        given[key] for key in ("problems", "warnings", "configuration")
    )
    if configuration is None:
        return {"problems": problems, "warnings": warnings}
    case = __salt__["orthanc_judge.case"](given["name"], configuration, host=not problems)
    found = __salt__["orthanc_judge.judge"](case, problems)
    return {
        "problems": [
            *(problems + found["problems"] + found["paths"]),
            *__salt__["orthanc_connections.strayed"](case),
        ],
        "warnings": warnings + found["warnings"],
    }


def _validate_path(path: str) -> dict:
    is_folder = os.path.isdir(path)
    folder = path if is_folder else os.path.dirname(os.path.abspath(path))
    read = __salt__["orthanc_folder.read"](path)
    options, owners, problems, warnings = (
        read[key] for key in ("options", "owners", "problems", "warnings")
    )
    # One file of several may leave it to another one which plugins there are.
    found, advice = _judge_file(options, folder, is_folder or "Plugins" in options, read["files"])

    def sentences(pairs):
        return [f"{owners.get(where[0], path)}: {':'.join(where)}: {text}" for where, text in pairs]

    # What is in the environment of the service is not known here.
    found = [pair for pair in found if not _has_variable(options, pair[0])]
    comments = [pair for pair in found if _is_comment(*pair)]
    found = [pair for pair in found if pair not in comments]
    warnings += sentences((where, "nobody reads it, like a comment") for where, _ in comments)
    return {"problems": problems + sentences(found), "warnings": warnings + sentences(advice)}


def _judge_file(options: dict, folder: str, all_of_it: bool, paths) -> tuple[list, list]:
    """
    Return what is wrong with options, and what is advised against, as pairs.

    all_of_it
        Whether they say all that Orthanc would be told.

    paths
        The paths of their files.
    """
    command = __salt__["orthanc_options.command"]()
    here = __salt__["orthanc_options.installed"](command)
    plugins = __salt__["orthanc_plugins.here"]
    host = {
        "version": here.get("version"),
        "sample": here.get("sample"),
        "plugins": plugins(options, folder) if here and all_of_it else None,
        "allowed": (__pillar__.get("orthanc") or {}).get("plugin_sections") or [],
    }
    secrets = __salt__["orthanc_judge.open_secrets"](
        options, options.get("RemoteAccessAllowed") is True
    )
    who = __salt__["orthanc_layers.account"](__salt__["orthanc_layers.defaults"]())
    may = __salt__["orthanc_host.may"]
    if not all(may(["-r", path], **who) for path in paths):
        who = None  # They are not meant for Orthanc's account.
    judged = __salt__["orthanc_paths.judge"](options, folder, who, command=command)
    return [
        *__salt__["orthanc_options.check"](options, **host),
        *secrets["failed"],
        *secrets["known"],
        *judged["problems"],
    ], [
        *__salt__["orthanc_options.doubts"](options, **host),
        *__salt__["orthanc_options.advice"](options),
        *__salt__["orthanc_modalities.check"](options)["problems"],
        *__salt__["orthanc_database.advice"](options),
        *secrets["weak"],
    ]


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


def apply(name, configuration, test=False):
    """
    Part of the formula. Merge the layers, judge what they give, try it, and write the files of the
    configuration; see ``orthanc_files.apply``.

    name
        The path of the folder, which must be there.

    configuration
        See :py:mod:`orthanc_layers`.

    test
        True judges and tries, and writes nothing.

    Returns the changes, without any secret.

    Raises SaltInvocationError for a configuration that is refused, CommandExecutionError if Orthanc
    does not start with it or if writing failed.
    """
    if test:
        return _plan(name, configuration)[1]
    configuration = {**configuration, **NOTHING_TO_COME}
    wanted = __salt__["orthanc_layers.complete"](configuration)
    account = __salt__["orthanc_layers.account"](wanted)
    with __salt__["orthanc_files.locked"](name):
        __salt__["orthanc_files.clean"](name)
        # One that was interrupted, before something else takes its place.
        __salt__["orthanc_cutover.arrived"](name, wanted["service"], account)
        files, changes = _plan(name, configuration, coming=False)
        if changes:
            case = __salt__["orthanc_judge.case"](name, configuration)
            managed = list(dict.fromkeys([*__salt__["orthanc_layers.managed"](wanted), *files]))
            gid = __salt__["orthanc_host.gid"](wanted["group"])
            with __salt__["orthanc_cutover.along"](case):
                __salt__["orthanc_files.apply"](name, files, managed, gid)
    return changes


def tried(name, configuration, tree):
    """
    Part of the formula. Judge and try a configuration as ``apply`` does, also where it changes
    nothing, for the packages that this process sees; see :py:mod:`orthanc_aside`.

    name, configuration
        See ``apply``.

    tree
        The path of the folder with the files of the packages.

    Returns and raises what ``apply`` does.
    """
    return _plan(name, {**configuration, **NOTHING_TO_COME, "aside": tree})[1]


def _plan(name: str, configuration: dict, coming: bool = True) -> tuple[dict, dict]:
    """
    Return the files to write, ``{file: new text, or None to remove it}``, and the changes, of a
    configuration with which Orthanc starts.

    coming
        Whether plugins may be lacking, because they will be downloaded or installed before that.
    """
    case, found, lacking = _judged(name, configuration, coming)
    wanted, here, options = case.wanted, case.here, case.options
    texts, files, changes = _compared(case)
    own = case.texts(dict.fromkeys(__salt__["orthanc_layers.managed"](wanted)))
    read = [path for path in __salt__["orthanc_proof.changed_files"](name) if path not in own]
    changes.update({path: {"old": "as Orthanc has read it", "new": "changed"} for path in read})
    # Before the first run the folder is not there yet, in test mode.
    if (files or read or wanted["aside"]) and here and os.path.isdir(name):
        reasons = found["paths"] + __salt__["orthanc_judge.lines"](case, _no_room(case.placed))
        if wanted["preflight"]:
            reasons = reasons + _try(case, texts, lacking, start=not reasons)
        # A database on another host lets Orthanc in by now.
        if not reasons and __salt__["orthanc_postgresql.is_elsewhere"](options):
            strange, _ = __salt__["orthanc_judge.strange"](case, case.texts(texts))
            reasons = __salt__["orthanc_judge.lines"](case, strange)
        if reasons:
            raise CommandExecutionError("\n".join(reasons))
    return files, changes


def _judged(name: str, configuration: dict, coming: bool = True) -> tuple:
    """
    Return the case of a configuration that is not refused, with the options as the Orthanc that is
    there takes them; what ``orthanc_judge.judge`` said; and the plugins that are not there yet.
    """
    case = __salt__["orthanc_judge.case"](name, configuration)
    found = __salt__["orthanc_judge.judge"](case)
    if found["problems"]:
        raise SaltInvocationError("\n".join(found["problems"]))
    wanted, version = case.wanted, case.here.get("version")
    # What is tried is the Orthanc that is there, not one that is to come.
    options, origins = __salt__["orthanc_layers.options"](name, wanted, version)
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
    return case._replace(options=options, origins=origins), found, lacking


def _compared(case) -> tuple[dict, dict, dict]:
    """Return the texts of the files that are not made of options, and what changes; see _plan."""
    name, wanted, options = case.name, case.wanted, case.options
    texts = __salt__["orthanc_hardening.texts"](name, wanted, options)
    owned = __salt__["orthanc_layers.place"](wanted, options)
    to_go = __salt__["orthanc_folder.said_again"](name, owned, options)
    texts = {**texts, **__salt__["orthanc_layers.pems"](name, wanted), **dict.fromkeys(to_go)}
    texts.update(__salt__["orthanc_scripts.texts"](name, wanted))
    compare = __salt__["orthanc_differences.compare"]
    return (texts, *compare(name, wanted, options, texts, case.here))


def _no_room(options: dict) -> list:
    """
    Return that Orthanc would not start again because it cannot write beside its index (M); as long
    as it runs, it serves what it has.
    """
    folder = options["IndexDirectory"]
    if not isinstance(folder, str) or not __salt__["orthanc_postgresql.is_sqlite"](options):
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


def _try(case, texts: dict, lacking: list, start: bool) -> list[str]:
    """Let Orthanc start with the options, and return its own reasons if it does not."""
    options = case.options
    if lacking:
        options = {**options, "Plugins": [p for p in options["Plugins"] if p not in lacking]}
    found = __salt__["orthanc_preflight.tried"](case.name, case.wanted, options, texts, start)
    errors = __salt__["orthanc_judge.lines"](case, found["problems"])
    overridden = __salt__["orthanc_judge.lines"](case, found["overridden"])
    if _same_scripts(case, texts):
        # So it has been all the time, and is no reason to stop what changes now.
        for sentence in overridden:
            log.warning("%s", sentence)
    else:
        errors += overridden
    if found["errors"]:
        errors.append("Orthanc does not start with this configuration. It says:")
        errors += found["errors"]
    return errors


def _same_scripts(case, texts: dict) -> bool:
    """Return whether the server runs with the administrator's scripts as they are to be."""
    is_own, read = (__salt__[f"orthanc_files.{what}"] for what in ("is_own_name", "read_if_there"))
    old, new = (
        [path for path in some.get("LuaScripts") or () if not is_own(path)]
        for some in (case.before, case.options)
    )
    changed = set(__salt__["orthanc_proof.changed_files"](case.name))
    changed |= {path for path, text in case.texts(texts).items() if text != read(path)}
    return old == new and not set(new) & changed


def restore(name, group=None):
    """
    Put the files back with which Orthanc was last seen serving. It reads them when it is restarted;
    the next run of the formula applies the pillar again.

    name
        The path of the folder of the configuration.

    group
        The name of the group that may read the files; by default that of Orthanc's account.

    Returns the names of the files that were put back; none where all of them are as they were.

    Raises CommandExecutionError if there is no such group, if writing failed, or if it is not root
    who asks.

    No example, because it replaces the configuration of the server that it is typed on.
    """
    __salt__["orthanc_host.require_root"]()
    defaults = __salt__["orthanc_layers.defaults"]()
    group, account = group or defaults["group"], __salt__["orthanc_layers.account"](defaults)
    # With a moved index there is no way back, because it may have taken images.
    __salt__["orthanc_cutover.arrived"](name, defaults["service"], account)
    return __salt__["orthanc_files.restore"](name, __salt__["orthanc_host.gid"](group))


def remove(name, files, test=False):
    """
    Part of the formula. Remove files of the configuration; see ``orthanc_files.remove``.

    Raises CommandExecutionError if that failed, or if a server that comes back with what was there
    before would not find its images.

    name
        The path of the folder.

    files
        The names of the files.

    test
        True only says what would be done.
    """
    service = __salt__["orthanc_tables.get"]("SERVER")
    hidden = __salt__["orthanc_first_run.hidden"](service, name)
    if hidden:
        raise CommandExecutionError(hidden)
    done: dict = {}
    function = "orthanc_files.removal" if test else "orthanc_files.remove"
    # Where the folder was moved, those before have the formula's files too.
    without = __salt__["orthanc_folder.without"](name, service)
    for folder in dict.fromkeys([name, without, *__salt__["orthanc_first_run.configurations"]()]):
        named = [*files, *__salt__["orthanc_scripts.there"](folder)]
        notes = list(__salt__["orthanc_proof.notes"](folder).values())
        done.update(__salt__[function](folder, named, notes))
    return done
