"""The network as a picture and as a table."""

import re

import documentation
import orthanc_drawing as drawing
from hypothesis import given
from hypothesis import strategies as st

ROWS = [
    {"name": "ct", "kind": "modality", "address": "CT1 at 192.0.2.17:104"},
    {"name": "south-1", "kind": "site", "address": "SOUTH at 192.0.2.7:4242"},
    {"name": "archive", "kind": "peer", "address": "https://archive.example.org/"},
]
ROWS[0].update(may=["store", "worklists"], routes=[], answers=True)
ROWS[1].update(may=["store", "find", "get", "move"], routes=["ct-to-south"], answers=True)
ROWS[2].update(
    may=[], routes=[], answers=False, why="there is no host of the name archive.example.org"
)
NORTH = {"here": {"name": "Hospital North", "rows": ROWS}}
TEXT = st.text(alphabet=st.sampled_from('a"\\\n;{}[]N\u2028'), max_size=8)


def test_the_documentation_shows_what_is_drawn():
    (_, _, table), _, (_, _, dot), _ = documentation.section("A picture")
    assert drawing.dot(NORTH) == dot
    shown = [line[4:] for line in table.splitlines()[2:]]
    assert [re.split("  +", line) for line in shown] == [
        re.split("  +", line) for line in drawing.table(NORTH).splitlines()
    ]


@given(TEXT, TEXT, TEXT)
def test_no_name_draws_anything_else(own, name, why):
    row = {"name": f"{name}-", "kind": "peer", "address": why, "may": [name], "routes": [own]}

    def drawn(own, row):
        shown = drawing.dot({own: {"name": own, "rows": [{**row, "answers": False}]}})
        return re.sub(r'"(\\.|[^"\\\n])*"', "TEXT", shown)

    plain = {"name": "x", "kind": "peer", "address": "x", "may": ["x"], "routes": ["x"]}
    assert drawn(own, {**row, "why": why}) == drawn("own", {**plain, "why": why and "x"})
    lines = drawing.table({"here": {"name": own, "rows": [{**row, "why": why}]}}).split("\n")
    assert len(lines) == 2


SOUTH = {
    "name": "Hospital South",
    "rows": [
        {
            **{"name": "north-1", "kind": "site", "address": "NORTH at 192.0.2.6:4242"},
            **{"may": ["store"], "routes": ["back"], "answers": False, "why": "it is away"},
        },
        {**ROWS[0], "name": "scanner"},
    ],
}


def test_many_sites_are_one_picture():
    """A device that two know is one; a site that tells of itself is itself."""
    away = drawing.site("west-1", "Minion did not return. [No response]")
    sites = {"north-1": NORTH["here"], "south-1": SOUTH, "west-1": away}
    shown = drawing.dot(sites)
    nodes = re.findall(r'^  (n\d) \[label="([^"\\]*)', shown, re.MULTILINE)
    assert [label for _, label in nodes] == [
        *("Hospital North", "Hospital South", "west-1", "ct", "archive"),
    ]
    assert '  n0 -> n1 [label="route ct-to-south, store", style=solid];' in shown
    away = "style=dashed, color=red, fontcolor=red];"
    assert f'  n1 -> n0 [label="store, find, get, move, route back", {away}' in shown
    assert (
        r'n2 [label="west-1\nMinion did not return. [No response]", style=bold, color=red' in shown
    )
    assert "n1 -> n3 [style=solid];" in shown
    lines = drawing.table(sites).splitlines()
    assert len(lines) == 1 + 3 + 2 + 1
    assert {line.split()[0] for line in lines[1:]} == {*sites}


JUNK = st.recursive(
    st.none() | st.booleans() | TEXT,
    lambda some: st.lists(some, max_size=3) | st.dictionaries(TEXT, some, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(TEXT, JUNK | st.builds(lambda rows: {"rows": rows}, JUNK), min_size=1))
def test_whatever_a_site_tells_there_is_a_picture(told):
    sites = {one: drawing.site(one, found) for one, found in told.items()}
    assert drawing.dot(sites).count("style=bold") == len(told)
    drawing.table(sites)


def test_what_a_modality_may():
    assert drawing.may({}) == ["store", "find", "worklists", "get", "move"]
    assert drawing.may({"AllowStore": True, "AllowFind": False}) == [
        *("store", "worklists", "get", "move"),
    ]


ODD = st.sampled_from([None, 5, True, "x", [1], {"a": 1}])


@given(ODD, ODD, st.sampled_from([*NORTH["here"]["rows"][0], "answers", "why"]))
def test_whatever_one_site_tells_the_others_are_drawn(odd, name, key):
    told = [odd, {"rows": odd}, {"rows": [odd]}, {"name": name, "rows": [{**ROWS[2], key: odd}]}]
    for one in told:
        sites = {"north": NORTH["here"], "odd": drawing.site("odd", one)}
        assert "CT1 at 192.0.2.17:104" in drawing.dot(sites)
        assert "CT1 at 192.0.2.17:104" in drawing.table(sites)
