"""
The file of a pillar: written; and before Salt reads it, what is wrong with it, where, and how to
put it right.

Salt itself answers with a traceback, among the lines of which is the one with the password.
``orthanc/masterless.sh`` asks this first.
"""

from __future__ import annotations

import os
import re
import textwrap

import salt.utils.files
import salt.utils.yaml
import yaml
from salt.exceptions import SaltInvocationError, SaltRenderError

QUOTES = "put the value in single quotes: password: 'it''s 100%: #1' (a ' in it is written twice)"
# What PyYAML says (in words of its own, or of the library in C), what it means, and the remedy.
MEANINGS = (
    (r"tab|\\t", "there is a tab before or between the words", "use spaces instead of tabs"),
    (
        r"cannot start any token|reserved indicator",
        "a value begins with a character that means something in YAML, such as % @ `",
        QUOTES,
    ),
    (
        r"mapping values are not allowed|alias|anchor|tag|directive",
        "a value without quotes holds something that means something in YAML, such as : * & !",
        f"{QUOTES}; or the lines before it are not indented alike",
    ),
    (r"quoted scalar|escape", "a quote is not closed, or there is a \\ in double quotes", QUOTES),
    (
        r"flow (mapping|sequence)|expected ',' or",
        "a { or [ is not closed, or a value begins with one",
        f"close it, or {QUOTES}",
    ),
    (r"(?i)conflicting ID|duplicate", "a key stands there twice", "take one of the two out"),
    (
        r"could not find expected ':'|simple key",
        "a key has no : behind it",
        "write `key: value`, with a space behind the colon",
    ),
    (
        r"block|indent|expected key|expected the node content|column",
        "the line does not fit to those before it",
        "let what stands below one key begin in the same column, two spaces further in",
    ),
)
AGAIN = "Put it right, then call this again."
# A text that stands for itself without quotes, in each version of YAML; the words among them that
# do not.
PLAIN = re.compile("[A-Za-z/][A-Za-z0-9_/.+-]*")
NO_TEXT = frozenset(("y", "n", "yes", "no", "on", "off", "true", "false", "null"))
WIDTH = 98
CLEARTEXT = re.compile(r"""\s*["']?\w*password["']?:\s+[^'"\s#|>][^'"]*?\s#""", re.IGNORECASE)


def check(path):
    """
    Say what is wrong with a file that shall be the pillar of a host, as lines of text.

    path
        The path of the file.

    Returns what is wrong, and the exit code of salt-call is 1; or what may be meant otherwise.
    No line of the file is quoted: it may be a password.

    Raises SaltInvocationError if the file cannot be read.

    CLI Example:

    .. code-block:: bash

        salt-call --local orthanc_pillar_file.check /srv/pillar/orthanc.sls
    """
    # A number would be that of a file which is open already.
    path = str(path)
    if not os.path.isfile(path):
        # A pipe would be waited for.
        raise SaltInvocationError(f"{path} cannot be read: it is no file")
    try:
        with salt.utils.files.fopen(path, encoding="utf-8", errors="strict") as file:
            text = file.read()
    except (OSError, ValueError) as err:
        raise SaltInvocationError(f"{path} cannot be read: {err}") from err
    problems = _problems(path, text)
    if problems:
        __context__["retcode"] = 1
        return problems
    return [
        f"{path}, line {number}: what stands behind # is a comment and not part of the password;"
        " if it belongs to it, put the password in quotes"
        for number, line in enumerate(text.splitlines(), 1)
        if CLEARTEXT.match(line)
    ]


def text(settings, remarks):
    """
    Part of the formula. Return the text of a file with a pillar, which Salt reads as it is meant.

    settings
        What stands below ``orthanc:``.

    remarks
        What stands before it as comments: pairs of a sentence, and a list of those that it is
        about.
    """
    lines = []
    for sentence, about in remarks:
        lines += _comment(sentence, "# ", "# ")
        for one in about:
            lines += _comment(one, "#   - ", "#     ")
    data = yaml.dump(
        {"orthanc": settings},
        Dumper=_Dumper,
        allow_unicode=True,
        default_flow_style=False,
        sort_keys=False,
        width=1 << 30,
    )
    found = "\n".join([*lines, data])
    # Otherwise the file is a template, for which this means something.
    return f"#!yaml\n{found}" if re.search(r"{[{%#]", found) else found


def _comment(sentence: str, first: str, rest: str) -> list[str]:
    shown = "".join(each if each.isprintable() else "?" for each in sentence)
    return textwrap.wrap(
        shown,
        WIDTH,
        initial_indent=first,
        subsequent_indent=rest,
        break_long_words=False,
        break_on_hyphens=False,
    )


class _Dumper(yaml.SafeDumper):
    """Writes what is no plain word in quotes, and each value where it stands."""

    def ignore_aliases(self, _):
        return True

    def increase_indent(self, flow=False, indentless=False):
        return super().increase_indent(flow, False)

    def text(self, text: str):
        is_plain = PLAIN.fullmatch(text) and text.lower() not in NO_TEXT
        style = None if is_plain else "'" if text.isprintable() else '"'
        return self.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _Dumper.text)


def _problems(path: str, text: str) -> list[str]:
    first, _, rest = text.partition("\n")
    stages = ["jinja", "yaml"]
    if first.startswith("#!"):
        stages = [stage.split()[0] for stage in first[2:].split("|") if stage.split()]
        text = f"\n{rest}"
    rendered = "after Jinja, " if re.search(r"{[{%]", text) else ""
    try:
        if "yaml" not in stages:
            data = __salt__["slsutil.renderer"](path=path)
        else:
            before = stages[: stages.index("yaml")]
            if before:
                text = __salt__["slsutil.renderer"](string=text, default_renderer="|".join(before))
            data = salt.utils.yaml.load(text, Loader=salt.utils.yaml.SaltYamlSafeLoader)
    except yaml.YAMLError as err:
        return _of_yaml(path, err, rendered if "yaml" in stages[1:] else "", text)
    except SaltRenderError as err:
        return _of_jinja(path, err)
    except Exception as err:  # whatever a template raises
        return [f"{path}: cannot be rendered: {type(err).__name__}.", _plain(str(err)), AGAIN]
    if isinstance(data, dict) and "orthanc" in data:
        return []
    what = "it is empty"
    if data and isinstance(data, dict):
        what = f"what stands there is {', '.join(sorted(map(str, data)))}"
    elif data:
        what = "it is no mapping of keys"
    return [
        f"{path}: there is no key orthanc: at its top, below which all settings stand.",
        f"Without it nothing of the file would be used; {what}.",
        "Write `orthanc:` into the first line, and indent all settings below it by two spaces.",
    ]


def _of_yaml(path: str, err, rendered: str, text: str) -> list[str]:
    """Return the lines about a text that is no YAML; its own words would quote the text."""
    mark = getattr(err, "problem_mark", None) or getattr(err, "context_mark", None)
    if "quoted scalar" in str(getattr(err, "context", "")):
        mark = err.context_mark  # where it begins: the end is that of the file
    where = f"{rendered}line {mark.line + 1}, column {mark.column + 1}" if mark else "somewhere"
    said = " ".join(filter(None, (getattr(err, "context", ""), getattr(err, "problem", str(err)))))
    lines = text.splitlines()
    # The mark may stand behind the last line.
    line = lines[mark.line] if mark and mark.line < len(lines) else ""
    if re.match(r" *\t", line):
        said = "tab"
    for pattern, meaning, remedy in MEANINGS:
        if re.search(pattern, said):
            return [f"{path}, {where}: this is no YAML.", f"Here, {meaning}.", f"Remedy: {remedy}."]
    return [f"{path}, {where}: this is no YAML.", "It says: " + re.sub(r"'.*'", "…", said), AGAIN]


def _of_jinja(path: str, err) -> list[str]:
    """Return the lines about a template that cannot be rendered."""
    line = err.line_num if isinstance(err.line_num, int) else "?"
    said = str(getattr(err, "error", err)).partition("\n")[0]
    return [
        f"{path}, line {line}: Jinja cannot render this.",
        f"It says: {said.partition(';')[0]}",
        "Remedy: put it right; a text that holds {{ or {% itself goes between {% raw %} and"
        " {% endraw %}.",
    ]


def _plain(text: str) -> str:
    """Return the last line of what an error says."""
    return f"It says: {(text.strip().splitlines() or [''])[-1]}"
