"""
What is known of each option: by the tables, and by the sample configuration of the installed
Orthanc, which explains each of its own.

The functions are parts of the formula.
"""

from __future__ import annotations

import fnmatch
import re

# A line of a sample: a comment, or an option, which may be commented out.
COMMENT = re.compile(r"  //(.*)")
OPTION = re.compile(r'  (?://\s*)?"(\w+)"\s*:')
# Where a sentence ends, and what says since when there is an option.
END = re.compile(r"(?<=[.?!])(?<!i\.e\.)(?<!e\.g\.)(?<!cf\.)\s+(?=[A-Z(])")
NEWS = re.compile(r"\s*\(\W*new in Orthanc ([\d.]+\d)[^()]*\)")
# Settings of the pillar that stand for options, besides those that are one option as it stands.
SETTINGS = {
    "AuthenticationEnabled": "users",
    "RegisteredUsers": "users",
    "DeidentifyLogsDicomVersion": "deidentify_logs",
    **{
        f"DicomAlwaysAllow{right}": "dicom:unknown"
        for right in ("Echo", "Store", "Find", "FindWorklist", "Get", "Move")
    },
    "DicomTlsEnabled": "dicom:tls:enabled",
    "DicomTlsCertificate": "dicom:tls:certificate",
    "DicomTlsPrivateKey": "dicom:tls:key",
    "DicomTlsTrustedCertificates": "dicom:tls:trusted_certificates",
    "DicomTlsRemoteCertificateRequired": "dicom:tls:require_certificate",
    "DicomWeb": "dicomweb",
    "HttpsCACertificates": "ca_source",
    "LuaScripts": "lua_scripts",
    "PostgreSQL": "postgresql",
    "PythonScript": "python_scripts",
    "SslCertificate": "https:certificate",
    "SslEnabled": "https:enabled",
    "Worklists": "worklists",
}


def look_up(pattern, here, plain=None):
    """
    Part of the formula. Return what is known of options, by their names: a mapping of texts, with
    the ``default``, which may be any value, where it is known.

    pattern
        A part of the name or of what is said of it, whose case does not matter; or, with ``*`` or
        ``?`` in it, the whole name. That of an option of a plugin begins with its section.

    here
        What the installed Orthanc says of itself; see ``orthanc_options.installed``.

    plain
        The settings of the pillar that are one option, by its name: their paths below ``orthanc:``.
        None where they are not known here.
    """
    words = _explained(here.get("texts", ()))
    keys = None if plain is None else {**SETTINGS, **plain}
    found = {
        option: _entry(option, row, (here, words.get(option, ""), keys))
        for option, row in _rows(here).items()
    }
    return {o: entry for o, entry in found.items() if _fits(o, entry.get("what", ""), pattern)}


def _fits(option: str, what: str, pattern: str) -> bool:
    if re.search(r"[*?]", pattern):
        return fnmatch.fnmatchcase(option.lower(), pattern.lower())
    return pattern.lower() in f"{option}\n{what}".lower()


def meant(pattern):
    """
    Part of the formula. Return what may have been meant by the name of an option that the installed
    Orthanc does not have, or since when there is one: a sentence.

    pattern
        See ``look_up``.
    """
    rows = _rows({})
    for option, row in rows.items():
        if option.lower() == pattern.lower():
            return f"{option} {_span(row['shape'])}"
    near = __salt__["orthanc_shapes.near"](pattern, [*rows])
    return f"the nearest known one is {' or '.join(near)}" if near else "nothing is like it"


def _span(words) -> str:
    """Return which versions know an option."""
    if "until" in words:
        return f"was there until {words['until']}"
    return f"is there from {words.get('since', 'another version')} on"


def _rows(here: dict) -> dict:
    """Return the shape of each option that a version knows, and the plugin that reads it."""
    table, version = __salt__["orthanc_tables.get"], here.get("version")
    sample = here.get("sample") or {}
    rows = {name: {"shape": _words(shape)} for name, shape in table("OPTIONS").items()}
    rows = {o: row for o, row in rows.items() if o in sample or _is_known(row["shape"], version)}
    rows.update({o: {"shape": {"kind": "anything"}} for o in sample if o not in rows})
    for section, plugin in {**table("SECTIONS"), **table("PLUGIN_OPTIONS")}.items():
        package = plugin["package"] or f"lib{plugin['library'][0]}.so"
        rows[section] = {"shape": plugin, "plugin": package}
        for key, shape in plugin.get("keys", {}).items():
            rows[f"{section}:{key}"] = {"shape": _words(shape), "plugin": package}
    return dict(sorted(rows.items()))


def _words(shape) -> dict:
    """Return the words of a shape, with those of a kind of the tables."""
    return {"kind": shape} if isinstance(shape, str) else shape


def _is_known(shape: dict, version) -> bool:
    is_before = __salt__["orthanc_shapes.is_before"]
    if version is None:
        return True
    old = "until" in shape and is_before(shape["until"], version)
    return not old and not ("since" in shape and is_before(version, shape["since"]))


def _entry(option: str, row: dict, known: tuple) -> dict:
    """Return what is known of one option."""
    (here, words, keys), table = known, __salt__["orthanc_tables.get"]
    shape, news = row["shape"], NEWS.search(words)
    since = shape.get("since") or (news and news[1])
    of = f" ({row['plugin']})" if "plugin" in row else ""
    found = {"type": __salt__["orthanc_shapes.wanted"](shape, table("KINDS"))}
    default = __salt__["orthanc_options.defaults"](here)
    if option in default:
        found["default"] = __salt__["orthanc_options.redact"](option, default[option])
    found.update({"since": f"{since}{of}"} if since else {})
    found.update({"until": f"{shape['until']}{of}"} if "until" in shape else {})
    what = END.split(NEWS.sub("", words))[0].strip()
    if "plugin" in row:
        what = f"read by the plugin of {row['plugin']}"
    found.update({"what": f"{what.rstrip('.')}."} if what else {})
    if option in table("ADVISED_AGAINST"):
        unsafe, why = table("ADVISED_AGAINST")[option]
        if not isinstance(unsafe, dict):
            found["advice"] = f"not {str(unsafe).lower()}: {why}"
    if keys is not None:
        top, _, below = option.partition(":")
        key = keys.get(top) if not below or top not in keys else None
        found["pillar"] = f"orthanc:{key or f'config:{option}'}"
    return found


def _explained(texts) -> dict:
    """Return what samples say of each option, one text each."""
    found: dict = {}
    for text in texts:
        comment, last = [], ""
        for line in text.splitlines():
            option, said = OPTION.match(line), COMMENT.match(line)
            if option:
                # Several in a row share what is said before the first one.
                words = " ".join(comment).split()
                # A word or two are a heading.
                last = " ".join(words) if len(words) > 2 else last
                found.setdefault(option[1], last)
                comment = []
            elif said:
                comment.append(said[1])
            elif not line.strip():
                comment, last = [], ""
    return found
