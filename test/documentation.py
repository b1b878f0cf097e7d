"""The documentation's examples, so that tests can do what it says."""

from __future__ import annotations

import pathlib
import re

import orthanc_passwords

FORMULA = pathlib.Path(__file__).resolve().parent.parent
PAGES = [FORMULA / "README.md", *sorted((FORMULA / "docs").glob("*.md"))]
BLOCK = re.compile(r"(?:<!-- (file|test)(?:: (\S+))? -->\n)?```(\w+)\n(.*?)```", re.DOTALL)


# What a reader puts in the place of the examples' passwords, which the formula refuses.
PASSWORD = re.compile(r"(?m)^( *password: )'(.*)'$")
OWN = ", and mine"


def with_own_passwords(text: str) -> str:
    """Return a pillar with other passwords than the documentation's."""

    def own(match):
        known = match[2] in orthanc_passwords.EXAMPLES
        return f"{match[1]}'{match[2]}{OWN if known else ''}'"

    return PASSWORD.sub(own, text)


def all_pages() -> str:
    """Return all pages."""
    return "\n".join(page.read_text() for page in PAGES)


def section(heading: str) -> list[tuple[str, str, str]]:
    """Return the examples below a heading: ``(what, path, text)`` with what ``file``, ``test``
    (commands to run) or empty (an example only).
    """
    parts = re.split(r"^#+ (.+)$", all_pages(), flags=re.MULTILINE)
    texts = dict(zip(parts[1::2], parts[2::2]))
    return [(kind, path, text) for kind, path, _, text in BLOCK.findall(texts[heading])]


def write_files(host, heading: str, **words: str) -> None:
    """Write the files of a section on a host.

    words
        What to put in the place of a word of the example.
    """
    for kind, path, text in section(heading):
        if kind == "file":
            host.write(path, with_own_passwords(_filled_in(text, words)))


def follow(host, heading: str, **words: str) -> str:
    """Write the files of a section on a host, run its commands, and return what they printed."""
    write_files(host, heading, **words)
    return "".join(
        host.run(f"set -e\n{_filled_in(text, words)}", timeout=900).out
        for kind, _, text in section(heading)
        if kind == "test"
    )


def _filled_in(text: str, words: dict[str, str]) -> str:
    for word, value in words.items():
        text = text.replace(word, value)
    return text


def pillars() -> list[str]:
    """Return every pillar that the documentation shows."""
    return [block[3] for block in BLOCK.findall(all_pages()) if block[3].startswith("orthanc:")]
