"""The documentation's table of what was proven where, made from the results of a test run.

A test says what it proves with the fixture ``proven``. A run of all tests fails if it says
anything else; ``bash test/run.sh host --write-matrix`` writes the table.
"""

from __future__ import annotations

import pathlib
import re

PAGE = pathlib.Path(__file__).resolve().parent.parent / "docs/tests.md"
TABLE = re.compile(r"(?<=<!-- matrix -->\n)(\|.*\n)*")
SYSTEMS = {
    "bookworm": "Debian 12",
    "trixie": "Debian 13",
    "sid": "Debian sid",
    "ubuntu": "Ubuntu",
    "leap": "openSUSE Leap",
    "tumbleweed": "openSUSE Tumbleweed",
}
WAYS = {"masterless": "Masterless", "master": "Master and minion", "salt-ssh": "salt-ssh"}


def table(results: list[dict]) -> str:
    """Return the table in Markdown.

    results
        One mapping for each passed test: system, way, salt, and the version of Orthanc.
    """
    lines = [["System", "Orthanc", *WAYS.values()], ["---"] * (2 + len(WAYS))]
    for system, name in SYSTEMS.items():
        of_system = [result for result in results if result["system"] == system]
        cells = [
            ", ".join(sorted({result["salt"] for result in of_system if result["way"] == way}))
            for way in WAYS
        ]
        versions = ", ".join(sorted({result["orthanc"] for result in of_system}))
        if of_system:
            lines.append([name, versions, *cells])
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def written() -> str:
    """Return the table that the page holds."""
    return TABLE.search(PAGE.read_text()).group()


def write(text: str) -> None:
    """Put the table into the page."""
    PAGE.write_text(TABLE.sub(lambda _: text, PAGE.read_text(), count=1))


def without_versions(text: str) -> list[list[str]]:
    """Return the cells but for the version of Orthanc, which a distribution may raise any day."""
    rows = [line.strip("| ").split(" | ") for line in text.splitlines()]
    return [[row[0], *row[2:]] for row in rows]
