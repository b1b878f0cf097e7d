"""What a measurement gives: figures that are held against a goal, and curves of what grows."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import statistics

import pygal


@dataclasses.dataclass(frozen=True)
class Scale:
    """How much is measured.

    rounds
        How many pairs a ratio is the median of.
    sizes
        How many there are of what grows.
    requests, images
        How many of them a side gets in a round.
    versions
        The versions of Salt.
    """

    rounds: int
    sizes: tuple[int, ...]
    requests: int
    images: int
    versions: tuple[str, ...]

    @property
    def small(self) -> bool:
        """Whether it is only to be shown that it can be measured."""
        return self.rounds == 1


@dataclasses.dataclass(frozen=True)
class Figure:
    """One measured value.

    what
        What was measured, against what.
    goal
        What the value shall not be above, or not below where ``more_is_better``; None for one that
        stands for itself.
    samples
        Each measured value, by the side that it is of.
    """

    what: str
    value: float
    unit: str
    samples: dict[str, list[float]]
    goal: float | None = None
    more_is_better: bool = False

    @property
    def verdict(self) -> str:
        if self.goal is None:
            return ""
        reached = self.value >= self.goal if self.more_is_better else self.value <= self.goal
        return "reached" if reached else "missed"


@dataclasses.dataclass(frozen=True)
class Curve:
    """How something grows: a value of each series for each size."""

    what: str
    sizes: tuple[int, ...]
    unit: str
    series: dict[str, list[float]]


def ratio(what: str, samples: dict[str, list[float]], goal: float | None = None, **more) -> Figure:
    """Return the median of the ratios of pairs, the first side over the second."""
    one, other = samples.values()
    value = statistics.median(a / b for a, b in zip(one, other, strict=True))
    return Figure(what, value, "x", samples, goal, **more)


def table(results: list) -> str:
    """Return the figures, and the values of the curves, as lines of text."""
    lines = []
    for result in results:
        if isinstance(result, Curve):
            lines.append(f"{result.what} ({result.unit})")
            lines.append(_line("", *map(str, result.sizes)))
            lines += [_line(name, *map(_short, of)) for name, of in result.series.items()]
            continue
        goal = "" if result.goal is None else f"goal {'>=' if result.more_is_better else '<='}"
        goal += "" if result.goal is None else f" {_short(result.goal)}: {result.verdict}"
        lines.append(
            f"{result.what:<76} {_short(result.value):>9} {result.unit:<4} {goal}".rstrip()
        )
        for side, of in result.samples.items():
            lines.append(_line(side, _short(statistics.median(of)), f"({len(of)})"))
    return "\n".join(lines)


def _line(name: str, *values: str) -> str:
    return f"    {name:<40}" + "".join(f"{value:>12}" for value in values)


def _short(value: float) -> str:
    return f"{value:.3g}" if value < 1000 else f"{value:.0f}"


def write(folder: pathlib.Path, name: str, results: list) -> None:
    """Write what was measured as JSON, and each curve as a plot."""
    folder.mkdir(parents=True, exist_ok=True)
    content = [{"kind": type(one).__name__.lower(), **dataclasses.asdict(one)} for one in results]
    (folder / f"{name}.json").write_text(json.dumps(content, indent=2))
    curves = [result for result in results if isinstance(result, Curve)]
    for number, curve in enumerate(curves, 1):
        plot = pygal.XY(title=curve.what, y_title=curve.unit, logarithmic=True, truncate_legend=-1)
        for series, values in curve.series.items():
            plot.add(series, list(zip(curve.sizes, values, strict=True)))
        (folder / f"{name}-{number}.svg").write_bytes(plot.render(disable_xml_declaration=False))
