"""The words of the program: which function of Salt each of them stands for."""

from __future__ import annotations

import ast
import difflib
import os
import pathlib
import re
from typing import NamedTuple

import told

# Of these modules, what people may call has a word; where both have the name, it is the last one's,
# and that of the first one goes by its whole name.
MODULES = ("orthanc_conf", "orthanc")
FORMULAS = "Part of the formula"
OWN = {
    "apply": "Make this machine what the pillar asks for; or what another PILLAR-FILE does",
    "test": "Say what that would change",
    "status": "Say whether the server is well, and why it is not",
    "remove": "Take away all that came with the formula; images and databases stay",
    "help": "This list, or what a WORD does and takes",
}
FUNCTION = re.compile(r"(orthanc[a-z_]*|state|sys)\.[a-z_]+")
# What a run may be told besides the pillar file.
RUN = ("test", "pillar", "exclude", "queue", "saltenv", "pillarenv", "sync_mods")
PILLAR = re.compile(r"\.(sls|ya?ml)$")
REMOVAL = ("--yes", "--keep-orthanc")
# How each word of the program's own is called.
USAGE = {
    **dict.fromkeys(("apply", "test"), "[PILLAR-FILE]"),
    "remove": " ".join(f"[{each}]" for each in ("PILLAR-FILE", *REMOVAL)),
    "help": "[WORD]",
}
HELP = ("-h", "--help")
# What Salt takes as an argument with a name, and which of its own options make sense here.
NAMED = re.compile(r"([^\d\W]\w*)=(?!=)")
OPTIONS = re.compile(
    r"--(out(put)?(-[a-z-]+)?|log-level|state-output|state-verbose)=|--(no|force)-color$"
)


class Wrong(Exception):
    """The program was called in a way that means nothing."""


class Function(NamedTuple):
    """A function of Salt that has a word."""

    name: str
    does: str  # in a few words
    takes: dict  # the names of its arguments: each with what it is by default, None if it must be
    text: str


class Chosen(NamedTuple):
    """What is to be done."""

    what: str  # a word of ``OWN``, "restore", or "call"
    function: str = ""
    pillar: str = ""
    arguments: tuple = ()


def functions(folder: pathlib.Path) -> dict:
    """
    Return the functions that people may call, by their words: each with its name and what it does.

    folder
        That of the formula's modules.
    """
    found: dict = {name: {} for name in MODULES}
    for path in sorted(folder.glob("orthanc*.py")):
        text = path.read_text(encoding="utf-8")
        named = re.search(r'(?m)^__virtualname__ = "(\w+)"', text)
        module = named[1] if named else path.stem
        for node in ast.parse(text).body if module in MODULES else []:
            doc = ast.get_docstring(node) if isinstance(node, ast.FunctionDef) else None
            if doc and not node.name.startswith("_") and not doc.startswith(FORMULAS):
                name = node.name.rstrip("_")
                does = re.split(
                    r"[.:;,](?:\s|$)", " ".join(doc.replace("``", "").split()), maxsplit=1
                )[0]
                found[module][name.replace("_", "-")] = Function(
                    f"{module}.{name}", does, _takes(node.args), doc
                )
    first, last = (found[module] for module in MODULES)
    whole = {each.name: each for word, each in first.items() if word in last}
    return {**first, **last, **whole}


def _takes(of: ast.arguments) -> dict:
    names = [each.arg for each in of.args]
    defaults = [ast.unparse(each) for each in of.defaults]
    return dict(zip(names, [*[None] * (len(names) - len(defaults)), *defaults]))


def choose(arguments: list, known: dict) -> Chosen:
    """
    Return what a call of the program means.

    arguments
        The words behind its name.

    known
        What ``functions`` returns.

    Raises Wrong if it means nothing.
    """
    # Those of salt-call stand before the function, too.
    arguments = sorted(arguments, key=lambda each: each.startswith("--out="))
    first, rest = (arguments[0], tuple(arguments[1:])) if arguments else ("help", ())
    if first in HELP:
        first = "help"
    if first == "help" or {*HELP} & {*rest}:
        word = rest[:1] if first == "help" else (first,)
        if {*word} - {*known, *OWN}:
            raise _no_word(word[0], known)
        return Chosen("help", "", "", word)
    if first == "--restore":
        if len(rest) not in (2, 3):
            raise Wrong("Say of what: --restore REPOSITORY PASSWORD-FILE [HOST]")
        return Chosen("restore", arguments=rest)
    named = known.get("health" if first == "status" else first)
    is_file = os.path.exists(first) or PILLAR.search(first)
    names = {each.name for each in known.values()}
    is_known = first.partition(".")[0] not in MODULES or first in names
    if named:
        _check(first, named, rest)
    if named or (FUNCTION.fullmatch(first) and is_known and not is_file):
        return Chosen(
            "status" if first == "status" else "call", named.name if named else first, "", rest
        )
    if first in OWN:
        return _with_pillar(first, rest)
    if is_file or ("=" in first and not first.startswith("-")):
        return _with_pillar("apply", tuple(arguments))
    raise _no_word(first, known if is_known else dict.fromkeys(names))


def _no_word(word: str, known: dict) -> Wrong:
    words = [*OWN, *known]
    near = difflib.get_close_matches(word.lower().replace("_", "-"), words, n=1)
    near = near or difflib.get_close_matches(word.lower(), words, n=1)
    nearest = f"; the nearest one is {near[0]}" if near else ""
    return Wrong(f"There is no word {word}{nearest}. All of them: help")


def _check(word: str, function: Function, given: tuple) -> None:
    """Raise Wrong where a function would not take its arguments."""
    usage = f". Usage: {_usage(word, function)}"
    plain = [each for each in given if not (each.startswith("-") or NAMED.match(each))]
    names = [NAMED.match(each)[1] for each in given if NAMED.match(each)]
    for each in given:
        if each.startswith("-") and not OPTIONS.match(each):
            raise Wrong(f"{word} takes no {each}{usage}")
    for name in names:
        if name not in function.takes:
            raise Wrong(f"{word} takes no {name}={usage}")
    if len(plain) > len(function.takes):
        raise Wrong(f"{word} takes no {plain[-1]}{usage}")
    for name in list(function.takes)[len(plain) :]:
        if function.takes[name] is None and name not in names:
            raise Wrong(f"{word} needs {name.upper()}{usage}")


def _usage(word: str, function: Function | None) -> str:
    if not function:
        return f"{word} {USAGE[word]}"
    takes = function.takes.items()
    return " ".join([word, *(n.upper() if d is None else f"[{n}={d}]" for n, d in takes)])


def _with_pillar(what: str, rest: tuple) -> Chosen:
    """Return what is to be done with a pillar file, where one is named."""
    plain = [each for each in rest if "=" not in each and not each.startswith("-")]
    if plain[1:]:
        raise Wrong(f"{what} takes no {plain[-1]}")
    if plain and not os.path.isfile(plain[0]):
        raise Wrong(f"There is no file {plain[0]}.")
    # It is noted in a line, and Salt takes no other one.
    if plain and not os.path.realpath(plain[0]).isprintable():
        raise Wrong("The path of the pillar must be of characters that can be printed: rename it.")
    pillar = os.path.realpath(plain[0]) if plain else ""
    others = tuple(each for each in rest if each not in plain)
    wrong = [each for each in others if each not in REMOVAL]
    if what != "remove":
        others = tuple(map(_argument, others))
    elif wrong:
        raise Wrong(f"remove takes {' and '.join(REMOVAL)}, not {wrong[0]}")
    return Chosen(what, "", pillar, others)


def _argument(given: str) -> str:
    """
    Return an argument of a run; raise Wrong for one that Salt would pass over without a word: with
    ``tset=True`` it would change what was only to be tried.
    """
    name, equals, value = given.partition("=")
    if OPTIONS.match(given):
        return given
    if not equals or name not in RUN:
        near = difflib.get_close_matches(name.strip("-").lower(), RUN, n=1)
        raise Wrong(f"A run takes no {given}{f'; the nearest one is {near[0]}=' if near else ''}")
    if name == "test" and value.capitalize() not in ("True", "False"):
        raise Wrong(f"test must be True or False, but is {value}")
    return f"test={value.capitalize()}" if name == "test" else given


def help_lines(program: str, known: dict) -> list:
    """Return what the program says of itself."""
    words = {**OWN, **{word: known[word].does for word in sorted(known)}}
    lines = [told.cut(f"  {word:<14} {does}") for word, does in words.items()]
    return [
        f"Usage: {program} WORD [ARGUMENTS] [--verbose]",
        "",
        *lines,
        "",
        f"What a word takes: {program} help WORD. --verbose shows all that Salt says, --out=json",
        "what a function returns. Any other function of Salt: its own name, as state.apply.",
    ]


def help_of(word: str, program: str, known: dict) -> list:
    """Return what one word does, and what it takes."""
    function = known.get("health" if word == "status" else word)
    does = OWN.get(word)
    text = "" if not function else re.split(r"(?m)^CLI Example:$", function.text)[0]
    text = told.spoken(text.replace("``", "").strip(), known, program)
    lines = [f"Usage: {program} {_usage(word, function)}", ""]
    return [*lines, *([f"{does}."] if does else []), *text.splitlines()]
