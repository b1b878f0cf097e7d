"""
What a configuration changes in the behaviour of the server.

Options are compared as Orthanc takes them, whatever files they are in: one that is not set has
Orthanc's own default, which the sample of the installed version tells, and both notations of a
modality are one.

The functions are parts of the formula.
"""

from __future__ import annotations

import os

# The notation of a modality or a peer as a list: the names of its items.
ROWS = {
    "DicomModalities": ("AET", "Host", "Port", "Manufacturer"),
    "OrthancPeers": ("Url", "Username", "Password"),
}
RIGHTS = ("Echo", "Find", "FindWorklist", "Get", "Move", "Store", "Transcoding")
# What holds for one of them where it says nothing else.
UNSAID = {
    "Manufacturer": "Generic",
    **{f"Allow{right}": True for right in (*RIGHTS, "NAction", "EventReport")},
    **{"UseDicomTls": False, "Pkcs11": False, "Timeout": 0, "LocalAet": "", "HttpHeaders": {}},
    "RetrieveMethod": "SystemDefault",
}
# Of these, another option says what holds where they are not set.
DEPENDENT = (
    *("StorageDirectory", "IndexDirectory", "AuthenticationEnabled", "RegisteredUsers"),
    "SslTrustedClientCertificates",
)
# What has no effect without the other, which is false where it is not set.
WITHOUT_EFFECT = {"SslTrustedClientCertificates": "SslVerifyPeers"}
# What is named first when it goes, by its option.
NAMED = {
    "RegisteredUsers": "user",
    "DicomModalities": "modality",
    "OrthancPeers": "peer",
    "DicomWeb:Servers": "DICOMweb server",
}


def compare(name, wanted, options, texts, here):
    """
    Part of the formula. Return the files to write, a mapping from name to text, None to remove one;
    and the changes by the path of the file, without any secret.

    name
        The path of the folder.

    wanted
        What ``orthanc_layers.complete`` returned.

    options
        A mapping from option name to value.

    texts
        The texts of all files that are not made of options.

    here
        What the installed Orthanc says of itself; see ``orthanc_options.installed``.
    """
    placed = __salt__["orthanc_layers.place"](wanted, options)
    on_host = __salt__["orthanc_folder.contents"](name)
    contents = {
        entry: __salt__["orthanc_json.dump"](content)
        for entry, content in placed.items()
        # A file of a package that is not installed is written only if it has something to say.
        if content or entry in on_host or not wanted["option_files"].get(entry)
    }
    contents.update(texts)
    before = {entry: content or {} for entry, content in on_host.items() if entry in placed}
    others, folder = __salt__["orthanc_folder.options"](name, list(placed)), name
    if not on_host:
        # It has been moved in the pillar.
        folder = __salt__["orthanc_folder.in_use"](name, wanted["service"])
        before = {e: o or {} for e, o in __salt__["orthanc_folder.contents"](folder).items()}
    found: dict = {}
    told = options
    if wanted["in_database"]:
        told = {**__salt__["orthanc_network_note.moved"](options), **options}
    for option, change in _changed((before, folder), (told, name), others, here).items():
        top = option.partition(":")[0]
        owners = [entry for some in (placed, before) for entry in some if top in some[entry]]
        owner = next((entry for entry in owners if entry in placed), wanted["main_file"])
        found.setdefault(owner, {})[option] = change
    files, changes = {}, {}
    for entry, text in contents.items():
        path = os.path.join(name, entry)
        current = __salt__["orthanc_files.read_if_there"](path)
        if text == current:
            continue
        files[entry] = text
        there = None if current is None else "other text"
        told = {"old": "present", "new": None} if text is None else {"old": there, "new": "written"}
        changes[path] = found.get(entry) or told
    return files, changes


def _changed(before: tuple, after: tuple, others: dict, here: dict) -> dict:
    """
    Return how options differ from those in files: the first two are files and options, each with
    its folder; the options of others stay as they are.
    """
    old = {option: value for content in before[0].values() for option, value in content.items()}
    old = __salt__["orthanc_network_note.filled"](old, before[1])
    sides = [
        in_force({**others, **given}, folder, here) if given else {}
        for given, folder in ((old, before[1]), after)
    ]
    return differences(*({o: side[o] for o in (*old, *after[0]) if o in side} for side in sides))


def in_force(options, name, here):
    """
    Part of the formula. Return what Orthanc makes of options: with its own defaults where these are
    known, whole paths of images and index, modalities and peers as mappings without what holds by
    itself, and without the sections of plugins that are switched off.

    options
        A mapping from option name to value.

    name
        The path of the folder.

    here
        See ``compare``.
    """
    defaults = __salt__["orthanc_options.defaults"](here)
    found = {o: v for o, v in defaults.items() if o not in DEPENDENT}
    found.update({o: v for o, v in options.items() if not _is_idle(o, v)})
    found.setdefault("AuthenticationEnabled", found["RemoteAccessAllowed"])
    for option, switch in WITHOUT_EFFECT.items():
        if not found.get(switch):
            found.pop(option, None)
    found.update(entries(found))
    found = __salt__["orthanc_options.adapt"](found, here.get("version"))
    return __salt__["orthanc_folder.with_places"](found, name)


def _is_idle(option: str, value) -> bool:
    """Return whether a section of a plugin asks for nothing."""
    plugin = option in __salt__["orthanc_tables.get"]("SECTIONS")
    return plugin and __salt__["orthanc_options.idle"](value)


def entries(options):
    """
    Part of the formula. Return modalities and peers as mappings without what holds by itself, in
    one form, whether the pillar says it or Orthanc.

    options
        A mapping from option name to value; all but these two are left out.
    """
    return {
        option: {name: _entry(item, names) for name, item in options[option].items()}
        for option, names in ROWS.items()
        if isinstance(options.get(option), dict)
    }


def _entry(item, names: tuple):
    """Return a modality or a peer as a mapping, without what holds by itself."""
    if isinstance(item, list):
        item = dict(zip(names, item))
    if not isinstance(item, dict):
        return item
    both = item.get("AllowStorageCommitment")
    if both is not None:
        item = {k: v for k, v in item.items() if k != "AllowStorageCommitment"}
        item.update(AllowNAction=both, AllowEventReport=both)
    for key in ("Port", "Timeout"):
        if isinstance(item.get(key), str) and item[key].isdigit():
            item = {**item, key: int(item[key])}
    return {key: v for key, v in item.items() if key not in UNSAID or not _same(v, UNSAID[key])}


def _same(one, other) -> bool:
    """Return whether two values are the same in JSON, where true is no number."""
    one, other = (__salt__["orthanc_json.dump"]({"": value}) for value in (one, other))
    return one == other


def differences(old, new, path=""):
    """
    Part of the formula. Return ``{option: {"old": …, "new": …}}`` for all that differs, without any
    secret.

    old, new
        Mappings from option name to value. Mappings below an option are compared key by key;
        the names are joined by colons. What is named there and comes or goes is one change.

    path
        The name of the option that the mappings stand below, if any.
    """
    changes: dict = {}
    for key in sorted({*old, *new}):
        name = f"{path}:{key}" if path else str(key)
        given = {kind: side[key] for kind, side in (("old", old), ("new", new)) if key in side}
        values = list(given.values())
        if len(values) == 2 and _same(*values):
            continue
        mappings = [value if isinstance(value, dict) else {} for value in values]
        below: dict = {}
        if any(mappings) and (len(values) == 2 or not path):
            sides = {**{"old": {}, "new": {}}, **dict(zip(given, mappings))}
            below = differences(**sides, path=name)
        redact = __salt__["orthanc_options.redact"]
        changes.update(below or {name: {kind: redact(name, v) for kind, v in given.items()}})
    return changes


def options(changes):
    """
    Part of the formula. Return the changes of options, as ``differences`` gives them.

    changes
        What ``compare`` returned.
    """
    found = [change for changed in changes.values() for change in changed.items()]
    return {option: change for option, change in found if isinstance(change, dict)}


def gone(changes):
    """
    Part of the formula. Return whom and what the server would know no longer, a list of words:
    users, modalities, and other servers.

    changes
        What ``compare`` returned.
    """
    return [
        f"{noun} {option[len(place) + 1 :]}"
        for place, noun in NAMED.items()
        for option, change in options(changes).items()
        if option.startswith(f"{place}:")
        and set(change) == {"old"}
        # Not what is said of one that stays; the name of a user may hold a colon.
        and (option.count(":") == place.count(":") + 1 or place == "RegisteredUsers")
    ]
