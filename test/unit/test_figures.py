"""What the measurements of test/bench give: figures against goals, tables, JSON and plots."""

import json
from xml.etree import ElementTree

import pytest
from bench.figures import Curve, Figure, ratio, table, write


def test_a_ratio_is_the_median_of_pairs():
    """Of each pair: what slows both down in a round is no matter."""
    found = ratio("x", {"one": [1, 20, 3], "other": [1, 10, 1]}, goal=2)
    assert (found.value, found.unit) == (2, "x")
    with pytest.raises(ValueError, match="shorter"):
        ratio("x", {"one": [1, 2], "other": [1]})


@pytest.mark.parametrize(
    ("goal", "more", "verdict"),
    [
        (None, False, ""),
        (2.0, False, "reached"),
        (1.9, False, "missed"),
        (2.0, True, "reached"),
        (2.1, True, "missed"),
    ],
)
def test_a_figure_reaches_its_goal_or_misses_it(goal, more, verdict):
    figure = Figure("x", 2.0, "s", {}, goal, more)
    assert figure.verdict == verdict
    assert (verdict in table([figure])) is bool(verdict) or not verdict


def test_what_was_measured_is_a_table_and_files(tmp_path):
    figure = ratio("a no-op", {"formula": [2.0], "floor": [1.0]}, 1.3)
    curve = Curve("growth", (10, 100), "s", {"no-op": [1.0, 2000.4]})
    lines = table([figure, curve]).splitlines()
    assert lines[0].split() == ["a", "no-op", "2", "x", "goal", "<=", "1.3:", "missed"]
    assert lines[1].split() == ["formula", "2", "(1)"]
    assert lines[-2].split() == ["10", "100"]
    assert lines[-1].split() == ["no-op", "1", "2000"]
    write(tmp_path / "out", "x", [figure, curve])
    written = json.loads((tmp_path / "out/x.json").read_text())
    assert [one["kind"] for one in written] == ["figure", "curve"]
    assert written[0]["samples"] == figure.samples
    plot = ElementTree.parse(tmp_path / "out/x-1.svg").getroot()
    assert plot.tag.endswith("svg")
