"""
The language of shapes: what a value may be, as plain data; the sentence when it is not; and the
name that was meant.

A shape is the name of a kind, or a mapping of words:

``type``, ``minimum``, ``maximum``, ``enum``, ``anyOf``, ``items``
    As in JSON Schema. A type is boolean, integer or string; true is no number. ``enum`` may be a
    mapping: from each word to the first version that knows it, "" for all. With ``any_case``, case
    does not matter for it.
``pattern``, ``format``
    A pattern for the whole text; the name of one of ``FORMATS``, for what no pattern can say.
``wanted``
    What the value must be, in words for the administrator, where the others do not say it well.
``kind``
    The name of a kind, whose words hold as well; if both have ``keys``, they are joined.
``keys``
    A mapping: its keys, each with the shape of its value.
``names``, ``each``
    A mapping whose names the administrator chooses: the shape of these (any text, if there is
    none) and of what stands behind each. Beside ``keys`` for all others.
``keys_of``
    Keys that only one of several plugins reads: from a piece of the name of its file to ``keys``.
``known``
    A mapping that nobody looks into, and the names that are known of it.
``required``
    Which keys must be there: lists of names, of each of which one is enough.
``row``, ``lengths``
    A list whose items are told apart by their position: their shapes, and how many there may be.
``since``, ``until``, ``changed``
    The first and the last version that knows it; from which version on it has another shape.
``empty``
    Which of ``nothing`` and ``text`` may stand there empty, for a reader that refuses both.

With the type ``any`` the words for mappings and lists hold only for what is one. Words that are
none of these are for others, such as ``library`` and ``package`` of a plugin.

The caller is a reader, a mapping of these keys; the last two are not there with all of them:

kinds
    Its own kinds, besides ``KINDS``.
shown
    A function that shows a wrong value, given the value, its path and what was wanted.
unknown
    A function that returns the sentence about an unknown key, given its path and the known ones.
noun
    What it calls a name that the administrator chooses.
empty
    A function that returns the sentence about an empty value, given the value and its path.
release
    Of what the shape has to be known, as a mapping with a ``name`` for people, the ``version``
    (None where nobody can tell it) and ``libraries``, from the pieces of names of files that are
    there to the version of each.

All functions are pure. The SLS side loads this file through ``slsutil.renderer``, and gets them
from ``run``.
"""

from __future__ import annotations

import ipaddress
import re

# What Salt offers.
__load__ = ["fits", "is_before", "mappings", "mistakes", "near", "wanted"]


def run() -> dict:
    functions = (below, fits, is_origin, mistakes, near, resolved)
    return {function.__name__: function for function in functions}


# The kinds that all readers have.
KINDS = {
    "anything": {"wanted": "anything"},
    "name": {"wanted": "a name", "type": "string"},
    "flag": {"wanted": "true or false", "type": "boolean"},
    "integer": {"type": "integer", "minimum": -2147483648, "maximum": 2147483647},
    "count": {"type": "integer", "minimum": 0, "maximum": 2147483647},
    "positive": {"type": "integer", "minimum": 1, "maximum": 2147483647},
    "port": {
        "wanted": "a port number from 1 to 65535",
        "type": "integer",
        "minimum": 1,
        "maximum": 65535,
    },
    # The title of a DICOM application.
    "aet": {
        "wanted": "1 to 16 ASCII characters without backslash, not all blank (in quotes)",
        "type": "string",
        "pattern": r"(?= *[^ ])[ -\[\]-~]{1,16}",
    },
}


def is_origin(text: str) -> bool:
    """
    Part of the formula. Return whether an origin is in the form that browsers give it, of which its
    pattern holds.
    """
    scheme, _, where = text.partition("://")
    host, port = re.fullmatch(r"(.*?)(?::([0-9]+))?", where).groups()
    if host[0] == "[" or host.rpartition(".")[2].isdigit():
        try:
            if ipaddress.ip_address(host.strip("[]")).compressed != host.strip("[]"):
                return False
        except ValueError:
            return False
    return port is None or (int(port) < 65536 and (scheme, port) not in USUAL_PORTS)


FORMATS = {"origin": is_origin}
# Browsers leave these out.
USUAL_PORTS = (("http", "80"), ("https", "443"))
TYPES = {"boolean": bool, "integer": int, "string": str}
# The words that only a mapping or a list has.
MAPPING, LIST = frozenset(("keys", "keys_of", "each", "known")), frozenset(("items", "row"))


def resolved(shape, kinds: dict) -> dict:
    """
    Part of the formula. Return the words of a shape, those of its kind among them.
    """
    words = {"kind": shape} if isinstance(shape, str) else shape
    if "kind" not in words:
        return words
    name = words["kind"]
    found = dict(resolved(kinds[name] if name in kinds else KINDS[name], kinds))
    keys = {**found.get("keys", {}), **words.get("keys", {})}
    found.update({word: said for word, said in words.items() if word != "kind"})
    return {**found, "keys": keys} if keys else found


def fits(value, shape, kinds):
    """
    Part of the formula. Return whether a value is of a shape.

    value
        Anything.

    shape
        A shape.

    kinds
        The kinds of the reader.
    """
    return not mistakes(value, shape, [], {**QUIET, "kinds": kinds})


def mistakes(value, shape, path, reader):
    """
    Part of the formula. Return what is wrong with a value, as a list of pairs:
    the path of each place where it is not of its shape, as a list of names, and a sentence.

    value
        Anything.

    shape
        The shape that it must have.

    path
        Where it stands, as a list of names.

    reader
        See above.
    """
    words, release = resolved(shape, reader["kinds"]), reader.get("release")
    refused = _of_version(words, path, release) if release else []
    if refused:
        return refused
    for since, other in words.get("changed", {}).items():
        if not is_before(release and release["version"], since):
            return mistakes(value, other, path, reader)
    if "empty" in reader and _is_empty(value):
        allowed = ("nothing" if value is None else "text") in words.get("empty", ())
        return [] if allowed else [(path, reader["empty"](value, path))]
    return _check(value, words)(value, words, path, reader)


def _check(value, words: dict):
    """Return the function that holds a value against words."""
    if "anyOf" in words:
        return _of_any
    for forms, cls, check in FORMS:
        if forms & words.keys() and isinstance(value, cls):
            return check
        if forms & words.keys() and words.get("type") != "any":
            return _not_of
    return _of_scalar


def _not_of(value, shape, path: list, reader: dict) -> list:
    words = wanted(shape, reader["kinds"])
    return [(path, f"must be {words}, but is {reader['shown'](value, path, words)}")]


def wanted(shape, kinds):
    """
    Part of the formula. Say in words what a shape is.

    shape, kinds
        See ``fits``.
    """
    words = resolved(shape, kinds)
    if "wanted" in words:
        return words["wanted"]
    if "enum" in words:
        known = ", ".join(f'"{word}"' for word in words["enum"])
        return f"one of {known}" + ("" if words.get("any_case") else " (spelt so)")
    for word, text in (("anyOf", "{}"), ("row", "a list of {}")):
        if word in words:
            parts = dict.fromkeys(wanted(one, kinds) for one in words[word])
            return text.format((" or " if word == "anyOf" else ", ").join(parts))
    if "minimum" in words:
        return f"a whole number from {words['minimum']} to {words['maximum']}"
    return "a mapping" if MAPPING & words.keys() else "a list"


def _of_version(words: dict, path: list, release: dict) -> list:
    """Return that a version does not know this yet, or no longer."""
    name, version = release["name"], release["version"]
    since, until = words.get("since"), words.get("until")
    if since and is_before(version, since):
        return [(path, f"needs {name} {since}, this host has {version}; take it out")]
    if until and version and is_before(until, version):
        return [(path, f"is ignored by {name} after {until}; take it out")]
    return []


def _of_any(value, words: dict, path: list, reader: dict) -> list:
    found = [(mistakes(value, one, path, reader), one) for one in words["anyOf"]]
    if not all(each for each, _ in found):
        return []
    # Where it looks like one of them, that one was meant.
    alike = [each for each, one in found if each != _not_of(value, one, path, reader)]
    if alike and "wanted" not in words:
        return min(alike, key=lambda each: (len(each), -len(each[0][0])))
    return _not_of(value, words, path, reader)


def _of_scalar(value, words: dict, path: list, reader: dict) -> list:
    if not _is_one(value, words):
        return _not_of(value, words, path, reader)
    enum, release = words.get("enum"), reader.get("release")
    since = enum[value] if isinstance(enum, dict) else ""
    if release and since and is_before(release["version"], since):
        name, version = release["name"], release["version"]
        return [(path, f'"{value}" needs {name} {since}, this host has {version}')]
    return []


def _is_one(value, words: dict) -> bool:
    """Return whether a value is what the words for a single one say."""
    if "enum" in words:
        if words.get("any_case"):
            known = {word.lower() for word in words["enum"]}
            return isinstance(value, str) and value.lower() in known
        return any(isinstance(value, type(each)) and value == each for each in words["enum"])
    cls = TYPES.get(words.get("type"), object)
    # For Python, true is a number.
    if not isinstance(value, cls) or (cls is int and isinstance(value, bool)):
        return False
    if "minimum" in words and not words["minimum"] <= value <= words["maximum"]:
        return False
    if "pattern" in words and not re.fullmatch(words["pattern"], value):
        return False
    return "format" not in words or FORMATS[words["format"]](value)


def _of_list(value, words: dict, path: list, reader: dict) -> list:
    row = words.get("row") or [words["items"]] * len(value)
    if "row" in words and len(value) not in words["lengths"]:
        form = wanted(words, reader["kinds"])
        right = " or ".join(str(length) for length in words["lengths"])
        return [(path, f"must be {form}, {right} items, but has {len(value)}")]
    return [
        mistake
        for number, (item, shape) in enumerate(zip(value, row))
        for mistake in mistakes(item, shape, [*path, str(number)], reader)
    ]


def _of_mapping(value, words: dict, path: list, reader: dict) -> list:
    found: list = []
    keys = words.get("keys", {})
    for key, item in value.items():
        where = [*path, str(key)]
        library = next((one for one, own in words.get("keys_of", {}).items() if key in own), None)
        if key in keys:
            found += mistakes(item, keys[key], where, reader)
        elif library:
            found += _of_library(item, words["keys_of"][library][key], where, (library, reader))
        elif "each" in words:
            found += _of_name(key, words, where, reader) or mistakes(
                item, words["each"], where, reader
            )
        elif "known" not in words:
            found.append((where, reader["unknown"](where, _keys(words))))
    required = words.get("required", ())
    return found + [([*path, one[0]], "missing") for one in required if not set(one) & set(value)]


def _of_library(item, shape, where: list, reading: tuple) -> list:
    """Return the same for a key that only one of several plugins reads."""
    library, reader = reading
    release = reader.get("release")
    here = release["libraries"] if release else {}
    if here and library not in here:
        there = " and ".join(here)
        return [(where, f"only {library} reads it, this host has {there}; take it out")]
    release = {"name": library, "version": here.get(library), "libraries": here}
    return mistakes(item, shape, where, {**reader, "release": release})


def _of_name(key, words: dict, where: list, reader: dict) -> list:
    names = words.get("names", "name")
    if fits(key, names, reader["kinds"]):
        return []
    form = wanted(names, reader["kinds"])
    quotes = "" if isinstance(key, str) or "in quotes" in form else " (in quotes)"
    return [(where, f"the {reader['noun']} must be {form}{quotes}")]


def _keys(words: dict) -> list:
    """Return the names that are known of a mapping."""
    own = [key for keys in words.get("keys_of", {}).values() for key in keys]
    return [*words.get("keys", ()), *own, *words.get("known", ())]


FORMS = ((MAPPING, dict, _of_mapping), (LIST, (list, tuple), _of_list))
# A reader that only wants to know whether.
QUIET = {"shown": lambda *_: "", "unknown": lambda *_: "", "noun": ""}


def _is_empty(value) -> bool:
    """Return whether nothing is there, or a text of nothing."""
    return value is None or (isinstance(value, str) and not value.strip())


def below(shape, key, kinds: dict):
    """
    Part of the formula. Return the shape of what stands behind a key, or at a position; None if
    nothing is said.
    """
    words = resolved(shape, kinds)
    if isinstance(key, int) and "items" in words:
        return words["items"]
    return words.get("keys", {}).get(key, words.get("each"))


def mappings(shape, path, kinds):
    """
    Part of the formula. Return the mappings in a shape, as a list of pairs:
    the path of each, as a list of names, and the names that are known of it.

    shape, kinds
        See ``fits``.

    path
        Where it stands, as a list of names.
    """
    words = resolved(shape, kinds)
    found = [(path, _keys(words))] if _keys(words) else []
    keys = [words.get("keys", {}), *words.get("keys_of", {}).values()]
    parts = [([*path, key], one) for own in keys for key, one in own.items()]
    parts += [(path, one) for one in words.get("anyOf", ())]
    if "each" in words:
        parts.append(([*path, "<name>"], words["each"]))
    if "items" in words:
        parts.append((path, words["items"]))
    return found + [pair for where, one in parts for pair in mappings(one, where, kinds)]


def is_before(version, other):
    """
    Part of the formula. Return whether a version is older than another one;
    None is the newest.

    version, other
        Numbers with points between them.
    """
    return version is not None and _numbers(version) < _numbers(other)


def _numbers(version: str) -> tuple:
    return tuple(int(number) for number in re.findall(r"\d+", version))


# How many names there may be that are equally near.
SEVERAL = 3
# How long a name may be that can be a misspelt one: to look at longer ones takes long.
LONGEST = 100


def near(name, known):
    """
    Part of the formula. Return which of the known names a name is a
    misspelling or an abbreviation of: the best of them, if they are not too many.

    A wrong suggestion costs more than none: whoever follows it switches something else on. So a
    name is only taken for a misspelt one if it is hardly different.

    name
        A name that is not known.

    known
        The names that are known.
    """
    if len(name) > LONGEST:
        return []
    distances = [(_distance(name.lower(), one.lower()), one) for one in known if _close(name, one)]
    if distances:
        least = min(distance for distance, _ in distances)
        best = [one for distance, one in distances if distance == least]
    else:
        shorter = [one for one in known if _shortened(name, one)]
        fewest = min((len(_words(one)) for one in shorter), default=0)
        best = [one for one in shorter if len(_words(one)) == fewest]
    return sorted(best) if len(best) <= SEVERAL else []


def _words(name: str) -> list:
    return [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+", name)]


def _allowed(length: int) -> int:
    """Return in how many letters a word of this length may differ."""
    return 1 if length < 6 else 2 if length < 12 else 3


def _close(name: str, one: str) -> bool:
    """Return whether a name is another one with slips of the keyboard."""
    length = min(len(name), len(one))
    if length < 3 or abs(len(name) - len(one)) > _allowed(length):
        return False
    distance = _distance(name.lower(), one.lower())
    if distance <= 1:
        return True
    mine, its = _words(name), _words(one)
    if len(mine) != len(its):
        return distance <= _allowed(length) and length >= 10
    return distance <= _allowed(length) and all(map(_alike, mine, its))


def _alike(word: str, other: str) -> bool:
    return _distance(word, other) <= _allowed(min(len(word), len(other)))


def _shortened(name: str, one: str) -> bool:
    """Return whether a name has the words of another one, abbreviated, turned, or one left out."""
    mine, its = _words(name), _words(one)
    if len("".join(mine)) < 5:
        return False
    if len(mine) == len(its):
        turned = len(mine) > 1 and all(map(_stands_for, sorted(mine), sorted(its)))
        return turned or all(map(_stands_for, mine, its))
    return len(mine) + 1 == len(its) and any(
        all(map(_stands_for, mine, its[:left] + its[left + 1 :])) for left in range(len(its))
    )


def _stands_for(word: str, whole: str) -> bool:
    return (
        word == whole
        or (len(word) >= 3 and whole.startswith(word))
        or (min(len(word), len(whole)) >= 5 and _distance(word, whole) <= 1)
    )


def _distance(one: str, other: str) -> int:
    """Return how many letters have to be put in, left out, changed or swapped."""
    before: list = []
    line = list(range(len(other) + 1))
    for row, letter in enumerate(one, 1):
        before, above, line = line, before, [row]
        for column, its in enumerate(other, 1):
            best = min(before[column] + 1, line[-1] + 1, before[column - 1] + (letter != its))
            swapped = row > 1 and column > 1 and letter == other[column - 2] and its == one[row - 2]
            line.append(min(best, above[column - 2] + 1) if swapped else best)
    return line[-1]
