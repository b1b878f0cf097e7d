"""The network as a picture and as a table."""

import re

import documentation
import orthanc_drawing as drawing
from hypothesis import given
from hypothesis import strategies as st

ROWS = [
    {"name": "ct", "kind": "modality", "address": "CT1 at 192.0.2.17:104"},
    {"name": "south-1", "kind": "site", "address": "SOUTH at 192.0.2.7:4242"},
    {"name": "archive", "kind": "peer", "address": "https://archive.example.org/", "may": []},
]
ROWS[0].update(may=["store", "worklists"], answers=True)
ROWS[1].update(may=["store", "find", "get", "move"], answers=True)
ROWS[2].update(answers=False, why="there is no host of the name archive.example.org")
TEXT = st.text(alphabet=st.sampled_from('a"\\\n;{}[]N\u2028'), max_size=8)


def test_the_documentation_shows_what_is_drawn():
    (_, _, table), _, (_, _, dot) = documentation.section("A picture")
    assert drawing.dot("Hospital North", ROWS) == dot
    shown = [line[4:] for line in table.splitlines()[2:]]
    assert [re.split("  +", line) for line in shown] == [
        re.split("  +", line) for line in drawing.table(ROWS).splitlines()
    ]


@given(TEXT, TEXT, TEXT)
def test_no_name_draws_anything_else(own, name, why):
    row = {"name": name, "kind": "peer", "address": why, "may": [], "answers": False, "why": why}
    plain = re.sub(r'"(\\.|[^"\\\n])*"', "TEXT", drawing.dot(own, [row]))
    known = re.sub(
        r'"(\\.|[^"\\\n])*"', "TEXT", drawing.dot("x", [{**row, "name": "x", "why": "x"}])
    )
    assert plain == known


def test_what_a_modality_may():
    assert drawing.may({}) == ["store", "find", "worklists", "get", "move"]
    assert drawing.may({"AllowStore": True, "AllowFind": False}) == [
        *("store", "worklists", "get", "move"),
    ]
