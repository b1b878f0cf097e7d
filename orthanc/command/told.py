"""What Salt has returned, told in a few lines."""

from __future__ import annotations

import json
import re
import time

WIDTH = 100
# How wide a column of a table is at most; what is longer stands out of it.
WIDEST = 64
REQUISITE = "One or more requisite failed"
WARNINGS = "Warnings:"
# What stands below an option has a name of its own.
NAMED = {"RegisteredUsers": "user", "DicomModalities": "modality", "OrthancPeers": "peer"}
# What becomes another one with a file that holds no options.
FILES = {
    "-users.lua": "what the users may do",
    "-access.lua": "how it is written down who asks what",
    "-reserve.lua": "below which free space images are refused",
    "/formula.conf": "what systemd keeps from Orthanc",
}


class Run:
    """
    What ``state.apply`` has returned.

    returned
        The mapping of all states.
    """

    def __init__(self, returned: dict) -> None:
        ordered = sorted(returned.items(), key=lambda item: item[1].get("__run_num__", 0))
        # state_|-ID_|-name_|-function
        states = [(tag.split("_|-")[1], state) for tag, state in ordered]
        self.count = len(states)
        self.failed, self.waiting, self.changed, self.warnings = {}, [], {}, []
        self.tried = any(state.get("result") is None for _, state in states)
        for name, state in states:
            comment = str(state.get("comment") or "")
            if state.get("result") is False and comment.startswith(REQUISITE):
                self.waiting.append(name)
            elif state.get("result") is False:
                # The warnings are told elsewhere.
                self.failed[name] = comment.partition(f"\n{WARNINGS}\n")[0]
            # Some of Salt's own say only in words what they would do.
            if state.get("changes") or state.get("result") is None:
                self.changed[name] = state
            self.warnings += _warnings(comment, state)

    def lines(self) -> list[str]:
        """Return the count, each state that changed something, and what is different now."""
        word = "would change" if self.tried else "changed"
        parts = [f"{len(self.changed)} {word} something"]
        parts += [f"{len(self.failed)} failed"] if self.failed else []
        parts += [f"{len(self.waiting)} wait for what failed"] if self.waiting else []
        found = [f"{self.count} states: {', '.join(parts)}."]
        found += self.changes()
        different = [] if self.is_first() else behaviour(self._options())
        if different:
            title = "What would be different" if self.tried else "What is different now"
            found += ["", f"{title}, for those who use the server:"]
            found += [cut(f"  {line}") for line in different]
        if self.warnings:
            found += ["", "To be thought of:", *(f"  - {line}" for line in self.warnings)]
        return found

    def changes(self) -> list[str]:
        """Return what each state changed, in a line."""
        return [_line(name, state) for name, state in self.changed.items()]

    def failures(self) -> list[str]:
        """Return what failed by itself, and not only because something else did."""
        found = []
        for name, comment in self.failed.items():
            found += [f"{name}:", *(f"  {line}" for line in comment.splitlines())]
        return found

    def is_first(self) -> bool:
        """Return whether Orthanc did not run before: nobody used it then."""
        start = self.changed.get("orthanc-serving", {}).get("changes", {}).get("orthanc", {})
        return isinstance(start, dict) and start.get("old") == "stopped"

    def _options(self) -> dict:
        return self.changed.get("orthanc-config", {}).get("changes", {})


def _warnings(comment: str, state: dict) -> list[str]:
    """Return the warnings of a state, also of those that stand in its comment line by line."""
    told = comment.partition(f"\n{WARNINGS}\n- ")[2]
    return told.split("\n- ") if told else list(state.get("warnings") or [])


def _line(name: str, state: dict) -> str:
    """Return what a state changed, in a line."""
    said = (str(state.get("comment") or "").splitlines() or [""])[0]
    if not said or said.endswith(":"):
        said = ", ".join(map(str, state["changes"]))
    return cut(f"  {name:<24} {said}")


def reason(errors: str) -> str:
    """Return what a program says of its failure: of a traceback, what it is about."""
    errors = re.sub(r"(?s)Passed invalid arguments: (.*?)\.?\s*\n\nUsage:.*", r"\1.", errors)
    found = re.findall(r"(?m)^[\w.]*(?:Error|Exception): .*", errors)
    return found[0] if "Traceback" in errors and found else errors


def refusal(errors: str, function: str) -> str:
    """Return what Salt says of a call that failed, without its own words around it."""
    return errors.replace(f"Error running '{function}': ", "")


def spoken(text: str, known: dict, program: str) -> str:
    """
    Return a text in which functions of Salt are called by the words of the program.

    known
        What ``words.functions`` returns.
    """
    names = {function.name: word for word, function in known.items()}

    def word(found) -> str:
        return f"{program} {names[found[1]]}" if found[1] in names else found[0]

    return re.sub(r"(?<![\w./-])(?:salt-call )?(orthanc(?:_conf)?\.[a-z_]+)(?![\w/])", word, text)


def cut(text: str) -> str:
    """Return a text that is not longer than a line."""
    return text if len(text) <= WIDTH else f"{text[: WIDTH - 1]}…"


def behaviour(changes: dict) -> list[str]:
    """
    Return what is different for those who use the server, what goes first.

    changes
        From the path of a file to what became of it: of its options, each with ``old`` and ``new``;
        or of itself.
    """
    old, new, files = {}, {}, []
    for path, options in changes.items():
        if not all(isinstance(each, dict) for each in options.values()):
            files += [what for end, what in FILES.items() if path.endswith(end) and options["old"]]
            continue
        for option, values in options.items():
            old.update({option: values["old"]} if "old" in values else {})
            new.update({option: values["new"]} if "new" in values else {})
    names, plain = {}, []
    for option in {**old, **new}:
        top, _, rest = option.partition(":")
        if top in NAMED and rest:
            names.setdefault((top, rest.partition(":")[0]), []).append(option)
        elif old.get(option) != new.get(option):
            plain.append(_differs(option, old, new))
    kinds = {"goes": [], "comes": [], "changes": []}
    for (top, name), options in names.items():
        in_old, in_new = ([each in values for each in options] for values in (old, new))
        kind = "changes" if any(in_old) and any(in_new) else "goes" if any(in_old) else "comes"
        what = ", ".join(_differs(option, old, new, short=True) for option in options)
        kinds[kind].append(f"{NAMED[top]} {name} {kind}" + f" ({what})" * (kind == "changes"))
    found = [line for kind in ("goes", "comes", "changes") for line in kinds[kind]]
    return [*found, *files, *plain]


def _differs(option: str, old: dict, new: dict, short: bool = False) -> str:
    """Return what becomes of an option; of a list, what goes and comes."""
    before, after = (values.get(option) for values in (old, new))
    name = option.split(":", 2)[-1] if short else option
    if before == after:
        # Both are hidden.
        return name if option.count(":") > 1 else "password"
    if isinstance(before, list) and isinstance(after, list):
        kinds = {"goes": [each for each in before if each not in after]}
        kinds["comes"] = [each for each in after if each not in before]
        said = [f"{_value(each)} {kind}" for kind, some in kinds.items() for each in some]
        if said:
            return f"{name}: {', '.join(said)}"
    ends = [_value(values[option]) if option in values else "default" for values in (old, new)]
    return f"{name}: {' -> '.join(ends)}"


def _value(value) -> str:
    return json.dumps(value, ensure_ascii=False)


def value(found, indent: str = "") -> list[str]:
    """Return the lines of what a function has returned."""
    if isinstance(found, dict) and found:
        pairs = [(key, _moment(each) if key == "time" else each) for key, each in found.items()]
        return [line for key, each in pairs for line in _entry(f"{key}:", each, indent)]
    if isinstance(found, list) and found:
        rows = _rows(found)
        if rows:
            return [f"{indent}{row}" for row in rows]
        return [line for each in found for line in _entry("-", each, indent)]
    words = {True: "yes", False: "no", None: "none"}
    text = "none" if found in ({}, []) else words.get(found, found) if _is_word(found) else found
    return [f"{indent}{line}" for line in str(text).splitlines() or [""]]


def _moment(found):
    """Return a time in seconds since 1970 as people read it, and all else as it is."""
    if isinstance(found, bool) or not isinstance(found, (int, float)):
        return found
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(found))


def _rows(found: list) -> list[str]:
    """
    Return a line for each mapping of a list, below their names, whatever one of them lacks; none
    where they hold more than a line.
    """
    if not all(isinstance(each, dict) for each in found):
        return []
    names = list(dict.fromkeys(name for each in found for name in each))
    cells = [each.get(name, "") for each in found for name in names]
    texts = [*map(str, names), *("\n".join(value(cell)) for cell in cells)]
    if "\n" in "".join(texts) or any(isinstance(cell, (dict, list)) for cell in cells):
        return []
    widths = [min(WIDEST, max(map(len, texts[at :: len(names)]))) for at in range(len(names))]
    padded = [text.ljust(widths[at % len(names)]) for at, text in enumerate(texts)]
    lines = range(0, len(texts), len(names))
    return ["  ".join(padded[at : at + len(names)]).rstrip() for at in lines]


def _is_word(found) -> bool:
    return found is None or isinstance(found, bool)


def _entry(label: str, each, indent: str) -> list[str]:
    lines = value(each, "")
    if len(lines) == 1 and not (isinstance(each, (dict, list)) and each):
        return [f"{indent}{label} {lines[0]}".rstrip()]
    if label == "-":
        return [f"{indent}- {lines[0]}", *(f"{indent}  {line}" for line in lines[1:])]
    return [f"{indent}{label}", *(f"{indent}  {line}" for line in lines)]
