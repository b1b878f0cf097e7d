"""
The network of servers as a picture, for Graphviz, and as a table.

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
COLUMNS = ("name", "kind", "address", "may here", "routes", "answers")
# What each row has: texts and lists.
NEEDED = {"name": str, "kind": str, "address": str, "may": list, "routes": list}
HEAD = (
    "digraph network {",
    "  rankdir=LR;",
    '  node [shape=box, fontname="sans-serif"];',
    '  edge [fontname="sans-serif", fontsize=10];',
)


def may(known):
    """
    Part of the formula. Return what a modality may do on this server, a list of words.

    known
        What Orthanc shows of it.
    """
    return [word for option, word in MAY.items() if known.get(option, True) is not False]


def site(name, told):
    """
    Part of the formula. Return a site as ``dot`` takes it.

    name
        How it is called where nothing else is known of it.

    told
        What ``orthanc.map`` returned there as data; anything else if it did not answer.
    """
    if isinstance(told, dict) and isinstance(told.get("rows"), list):
        return {"name": told.get("name") or name, "rows": [*filter(_is_row, told["rows"])]}
    return {"name": name, "rows": [], "why": str(told).split("\n", maxsplit=1)[0][:100]}


def _is_row(row) -> bool:
    return isinstance(row, dict) and all(
        isinstance(row.get(key), kind) for key, kind in NEEDED.items()
    )


def dot(sites):
    """
    Part of the formula. Return a picture in the language of Graphviz.

    sites
        By the name that a site has among the modalities of others, a mapping: how the server is
        called, its ``name``; and its ``rows``, a list of mappings: the ``name``, ``kind`` and
        ``address`` of each whom it knows, what it ``may`` do there and which ``routes`` go to it,
        lists of words; whether it ``answers``, if it was asked, and ``why`` not. Or ``why`` the
        site itself tells nothing, and no rows.
    """
    nodes: dict = {}
    edges: dict = {}
    for one, told in sites.items():
        nodes[one] = {"label": [told["name"]], "style": "bold", "why": told.get("why")}
    for one, told in sites.items():
        for row in told["rows"]:
            # What several know is one thing, and a site that tells of itself is itself.
            other = row["name"] if row["name"] in sites else (row["kind"], row["address"])
            away = row.get("answers") is False
            shape = SHAPES.get(row["kind"], "box")
            known = {"label": [row["name"], row["address"]], "shape": shape, "why": None}
            node = nodes.setdefault(other, known)
            node["why"] = node["why"] or (row.get("why") if away else None)
            there = edges.setdefault((one, other), {"label": []})
            there["label"] += [f"route {route}" for route in row["routes"]]
            there["style"] = "dashed" if away else "solid"
            if row["may"]:
                edges.setdefault((other, one), {"label": []})["label"] += row["may"]
    names = {one: f"n{number}" for number, one in enumerate(nodes)}
    lines = []
    for one, node in nodes.items():
        words = [*node["label"], *([node["why"]] if node["why"] else [])]
        lines.append(f"  {names[one]} [{_attributes(node, words)}];")
    for (one, other), edge in edges.items():
        edge["why"] = "away" if edge.get("style") == "dashed" else None
        edge["label"] = [", ".join(map(str, edge["label"]))] if edge["label"] else []
        lines.append(f"  {names[one]} -> {names[other]} [{_attributes(edge, edge['label'])}];")
    return "\n".join([*HEAD, *lines, "}", ""])


def _attributes(what: dict, label: list) -> str:
    """Return the attributes of a node or an edge, red where it does not answer."""
    found = [f"label={_quoted(*label)}"] if label else []
    found += [f"{key}={what[key]}" for key in ("shape", "style") if key in what]
    return ", ".join(found + (["color=red", "fontcolor=red"] if what["why"] else []))


def _plain(text) -> str:
    """Return a text in which nothing moves on a line or a terminal."""
    return "".join(char if char.isprintable() else "?" for char in str(text))


def _quoted(*lines) -> str:
    """Return lines of text as one label, in which nothing else has a meaning."""
    plain = [_plain(line).replace("\\", "\\\\").replace('"', '\\"') for line in lines]
    return '"' + "\\n".join(plain) + '"'


def table(sites):
    """
    Part of the formula. Return a table, a line of text for each row; of several sites with the site
    in front.

    sites
        See ``dot``.
    """
    cells = [("site", *COLUMNS)]
    for one, told in sites.items():
        for row in told["rows"]:
            answers = "yes" if row.get("answers") is True else ""
            answers = f"no: {row.get('why')}" if row.get("answers") is False else answers
            words = [", ".join(map(str, row[key])) for key in ("may", "routes")]
            cells.append((one, row["name"], row["kind"], row["address"], *words, answers))
        if told.get("why"):
            cells.append((one, *[""] * (len(COLUMNS) - 1), f"no: {told['why']}"))
    cells = [[_plain(word) for word in row[len(sites) < 2 :]] for row in cells]
    widths = [max(map(len, column)) for column in zip(*cells)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in cells
    )
