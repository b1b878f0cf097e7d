"""
The network of a server as a picture, for Graphviz, and as a table.

Pure functions; :py:mod:`orthanc_reach` asks who answers.

https://graphviz.org/doc/info/lang.html
"""

from __future__ import annotations

# What a modality may do on this server, by its options.
MAY = {
    "AllowStore": "store",
    "AllowFind": "find",
    "AllowFindWorklist": "worklists",
    "AllowGet": "get",
    "AllowMove": "move",
}
SHAPES = {"modality": "box", "site": "house", "peer": "component", "DICOMweb server": "tab"}
COLUMNS = ("name", "kind", "address", "may here", "answers")


def may(known):
    """
    Part of the formula. Return what a modality may do on this server, a list of words.

    known
        What Orthanc shows of it.
    """
    return [word for option, word in MAY.items() if known.get(option, True) is not False]


def dot(own, rows):
    """
    Part of the formula. Return a picture in the language of Graphviz.

    own
        How this server is called.

    rows
        A list of mappings: the ``name``, ``kind`` and ``address`` of each whom it knows, what it
        ``may`` do here, a list of words; whether it ``answers``, if it was asked, and ``why`` not.
    """
    lines = [
        "digraph network {",
        "  rankdir=LR;",
        '  node [shape=box, fontname="sans-serif"];',
        '  edge [fontname="sans-serif", fontsize=10];',
        f"  here [label={_quoted(own)}, style=bold];",
    ]
    for number, row in enumerate(rows):
        away = row.get("answers") is False
        red = ", color=red, fontcolor=red" if away else ""
        label = _quoted(row["name"], row["address"], *([row["why"]] if away else []))
        lines.append(f"  n{number} [label={label}, shape={SHAPES[row['kind']]}{red}];")
        lines.append(f"  here -> n{number} [style={'dashed' if away else 'solid'}{red}];")
        if row["may"]:
            lines.append(f"  n{number} -> here [label={_quoted(', '.join(row['may']))}];")
    return "\n".join([*lines, "}", ""])


def _quoted(*lines) -> str:
    """Return lines of text as one label, in which nothing else has a meaning."""
    plain = [
        "".join(char if char.isprintable() else "?" for char in str(line))
        .replace("\\", "\\\\")
        .replace('"', '\\"')
        for line in lines
    ]
    return '"' + "\\n".join(plain) + '"'


def table(rows):
    """
    Part of the formula. Return a table, a line of text for each row.

    rows
        See ``dot``.
    """
    cells = [COLUMNS]
    for row in rows:
        answers = {True: "yes", False: f"no: {row.get('why')}", None: ""}[row.get("answers")]
        words = (row["name"], row["kind"], row["address"], ", ".join(row["may"]), answers)
        cells.append(tuple(str(word) for word in words))
    widths = [max(len(row[number]) for row in cells) for number in range(len(COLUMNS))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in cells
    )
