"""
The text of a configuration file, read as Orthanc reads it, and written.

All functions are pure, and part of the formula.

https://orthanc.uclouvain.be/book/users/configuration.html
"""

from __future__ import annotations

import copy
import json
import re

from salt.exceptions import CommandExecutionError

# White space is only what JSON calls so, and comments are allowed almost wherever it is.
BLANK = re.compile(r"[ \t\r\n]*")
BLANK_OR_COMMENT = re.compile(r"(?:[ \t\r\n]+|//[^\r\n]*|/\*.*?\*/)*", re.DOTALL)
TOKEN = re.compile(
    r'(?P<text>"[^"\\]*(?:\\.[^"\\]*)*")'
    r"|(?P<number>[-+0-9][0-9]*(?:\.[0-9]*)?(?:[eE][-+]?[0-9]*)?)"
    r"|true|false|null|[][{}:,]",
    re.DOTALL,
)
# A part of a text that does not stand for itself; a bare \ is one that none of the others fits.
# Control characters stand for themselves up to Orthanc 1.12; 1.13 refuses them at its trial start.
ESCAPE = re.compile(
    r"\\u([dD][89abAB][0-9a-fA-F]{2})\\u([0-9a-fA-F]{4})"
    r"|\\u((?![dD][89abAB])[0-9a-fA-F]{4})"
    r'|\\(["/\\bfnrt])'
    r"|\\"
)
ESCAPED = {'"': '"', "/": "/", "\\": "\\", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
WORDS = {"true": True, "false": False, "null": None}
# Environment variables, which Orthanc puts into the text before it reads it: with a default, whose
# quotes do not count, and without one. (Measured with 1.10.1.)
WITH_DEFAULT = re.compile(
    r"""\$\{[^:}]+:-(?:'(?P<single>[^}']*)'|"(?P<double>[^}"]*)"|(?P<bare>[^}'"][^}]*|))\}"""
)
VARIABLE = re.compile(r"\$\{[^:}]+\}")
# How deep objects and lists may stand in each other, the outermost included.
MAX_DEPTH = 256


# What a note is not; and a way out that takes nobody's word for what it said.
BROKEN = (
    "{0} is not as the formula has written it, as after a damage to the disk; put back the one of a"
    " backup, or let the formula begin anew with it: echo '{{}}' > {0}"
)


def noted(text, path=None):
    """
    Part of the formula. Return what a note of the formula's own says, a mapping: an empty one where
    there is none.

    text
        The content of its file; None where there is none.

    path
        The path of its file; None where one that is broken is worth as much as none.

    Raises CommandExecutionError if it is broken.
    """
    try:
        found = {} if text is None else json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict) and path:
        raise CommandExecutionError(BROKEN.format(path))
    return found if isinstance(found, dict) else {}


def parse(text: str) -> dict:
    """
    Part of the formula. Read JSON as Orthanc does; see ``read``.

    text
        The content of a file.

    Raises ValueError where Orthanc would refuse the file.
    """
    return read(text)["options"]


def read(text: str, named: bool = False) -> dict:
    """
    Part of the formula. Read JSON as Orthanc does: with comments, trailing commas, a byte order
    mark, and environment variables. In the place of a variable comes its default; one without a
    default is a text, ``${NAME}``, because the environment of the service is not known here.

    text
        The content of a file.

    named
        True takes a variable with a default for one without: the environment decides there too.

    Returns ``options``, a mapping from option name to value, and ``remarks``, sentences about what
    Orthanc passes over: it takes the last of two values for one key, and does not read what stands
    behind the closing brace. An integer that 64 bits do not hold becomes a float.

    Raises ValueError where Orthanc would refuse the file.
    """
    reader = _Reader(
        WITH_DEFAULT.sub(
            lambda match: f"{match[0].partition(':-')[0]}}}" if named else match[match.lastgroup],
            text,
        )
    )
    try:
        options = reader.value()
    except RecursionError:
        raise reader.error("nested too deeply") from None
    if not isinstance(options, dict):
        raise reader.error("the file must hold an object: {...}")
    reader.end()
    return {"options": options, "remarks": reader.remarks}


def dump(options: dict) -> str:
    """
    Part of the formula. Return options as the text of a file, always the same for the same options.

    options
        A mapping from option name to value.
    """
    return json.dumps(options, indent=2, sort_keys=True) + "\n"


def merge(layers: list) -> dict:
    """
    Part of the formula. Merge layers of options; the last one wins.

    Mappings merge, lists and plain values replace, ``None`` takes an option out. The layers
    themselves stay as they are.

    layers
        A list of mappings from option name to value.
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


class _Reader:
    """Reads the values of a text, one after the other."""

    def __init__(self, text: str):
        self.text = text
        self.position = 1 if text.startswith("\ufeff") else 0
        self.remarks: list = []

    def at_line(self, sentence: str) -> str:
        """Return a sentence with the line that was reached."""
        line = len(re.findall(r"\r\n?|\n", self.text[: self.position])) + 1
        return f"line {line}: {sentence}"

    def error(self, problem: str) -> ValueError:
        """Return the error to raise."""
        return ValueError(self.at_line(problem))

    def end(self) -> None:
        """Look at what stands behind the last value."""
        self.peek()
        if self.text[self.position :].strip(" \t\r\n\0"):
            self.remarks.append(
                self.at_line("Orthanc does not read what stands behind the closing brace")
            )

    def peek(self, blank: re.Pattern = BLANK_OR_COMMENT):
        """Go over what is blank, and return the match of the next token, or None."""
        self.position = blank.match(self.text, self.position).end()
        return TOKEN.match(self.text, self.position)

    def take(self, expected: str, blank: re.Pattern = BLANK_OR_COMMENT) -> bool:
        """Say whether the next token is the expected one, and go over it if so."""
        token = self.peek(blank)
        if token is None or token.group() != expected:
            return False
        self.position = token.end()
        return True

    def value(self, depth: int = 1):
        """Read a value of any kind. Each level of it takes one call, and only one."""
        if depth > MAX_DEPTH:
            raise self.error("nested too deeply")
        if self.take("{"):
            options: dict = {}
            while not self.take("}"):
                key = self.key()
                if key in options:
                    self.remarks.append(
                        self.at_line(f'"{key}" is there a second time, and Orthanc takes the last')
                    )
                options[key] = self.value(depth + 1)
                if self.take("}"):
                    break
                if not self.take(","):
                    raise self.error("expected , or }")
            return options
        if self.take("["):
            items: list = []
            # Orthanc stumbles over a comment in an empty list, or behind the last comma.
            while not self.take("]", BLANK):
                items.append(self.value(depth + 1))
                if self.take("]"):
                    break
                if not self.take(","):
                    raise self.error("expected , or ]")
            return items
        return self.plain()

    def key(self) -> str:
        token = self.peek()
        if token is None or not token.group("text"):
            raise self.error('expected a key in "quotes", or }')
        key = self.plain()
        if not self.take(":", BLANK):
            raise self.error("expected : right after the key")
        return key

    def plain(self):
        """Read a value that holds no others."""
        token = self.peek()
        variable = VARIABLE.match(self.text, self.position)
        if variable:
            self.position = variable.end()
            return variable.group()
        found = token.group() if token else ""
        if found in WORDS:
            value = WORDS[found]
        elif token and token.group("text"):
            value = ESCAPE.sub(self.unescape, found[1:-1])
        elif token and token.group("number"):
            value = self.number(found)
        else:
            raise self.error("expected a value")
        self.position = token.end()
        return value

    def unescape(self, match) -> str:
        high, low, code, letter = match.groups()
        if letter:
            return ESCAPED[letter]
        if code:
            return chr(int(code, 16))
        if high:
            return chr(0x10000 + ((int(high, 16) & 0x3FF) << 10) + (int(low, 16) & 0x3FF))
        raise self.error("a text holds a wrong \\ escape")

    def number(self, found: str):
        sign, digits = (-1, found[1:]) if found[0] == "-" else (1, found)
        digits = digits.lstrip("0") or "0"
        if digits.isdigit() and len(digits) <= 20:
            number = sign * int(digits)
            if -(2**63) <= number < 2**64:
                return number
        try:
            return float(found)
        except ValueError:
            raise self.error(f"{found} is not a number") from None
