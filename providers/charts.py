"""Charts that the server draws: numbers in, the places of an SVG's shapes out, with axes that end at round numbers. Pure.

The SVG is stretched to its box, so it holds no text: labels stand beside it as HTML, at the percentages given here.
`templates/gateway/chart.html` draws a `Chart` and its table twin, `templates/gateway/sparkline.html` a `Sparkline`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

WIDTH, HEIGHT = 960.0, 200.0
APART = 6
"""Series with a colour of their own."""
_GAP = 0.22
"""Share of a column's width that stays empty."""
_MOST_LABELS = 7
_STEPS = 4
"""How many lines the grid has at most, above the bottom one."""

Show = Callable[[float], str]
"""How a number is written, with its unit."""


@dataclass(frozen=True, slots=True)
class Series:
    """One value per label, None where there is none. Without `tone` it takes the next colour of the palette; good, bad, warn and
    quiet are fixed colours."""

    name: str
    values: Sequence[float | None]
    tone: str = ""


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a stacked column."""

    colour: str
    y: float
    height: float


@dataclass(frozen=True, slots=True)
class Said:
    """A value of a column in words, for its tooltip and for the table."""

    colour: str
    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Column:
    """One place on the time axis: `x` to `x + width` is drawn, `left` to `left + span` answers to the pointer."""

    label: str
    x: float
    width: float
    left: float
    span: float
    parts: tuple[Part, ...]
    said: tuple[Said, ...]
    total: str
    link: str = ""

    @property
    def title(self) -> str:
        """A line for the column and one for each series, a tab before what it amounts to."""
        head = f"{self.label}\t{self.total}" if self.total else self.label
        return "\n".join([head, *(f"{one.name}\t{one.text}" for one in self.said)])


@dataclass(frozen=True, slots=True)
class Line:
    """`runs` are the points of a polyline each: where a value is missing, the line is broken."""

    colour: str
    runs: tuple[str, ...]
    dots: tuple[tuple[float, float], ...]
    """Values that stand alone, which a line would not show."""


@dataclass(frozen=True, slots=True)
class Tick:
    """`percent` from the left or from the bottom."""

    label: str
    percent: float


@dataclass(frozen=True, slots=True)
class Key:
    colour: str
    name: str


@dataclass(frozen=True, slots=True)
class Chart:
    columns: tuple[Column, ...]
    lines: tuple[Line, ...]
    legend: tuple[Key, ...]
    rows: tuple[Tick, ...]
    """The grid, from the bottom up."""
    ticks: tuple[Tick, ...]
    """Labels of the time axis."""
    empty: bool
    """No value but zero."""
    width: float = WIDTH
    height: float = HEIGHT


@dataclass(frozen=True, slots=True)
class Sparkline:
    """A line in a box of 100 by 24, and the same closed to an area."""

    line: str
    area: str


def stacked(labels: Sequence[str], series: Sequence[Series], show: Show, links: Sequence[str] | None = None) -> Chart:
    """Columns of the series one upon the other, the first at the bottom. Negative values count as zero."""
    colours = _colours(series)
    amounts = [[max(0.0, value or 0.0) for value in one.values] for one in series]
    totals = [sum(values) for values in zip(*amounts, strict=True)] if series else [0.0] * len(labels)
    top, grid = _grid(totals, show)
    columns = []
    for number, label in enumerate(labels):
        parts, y = [], HEIGHT
        for colour, values in zip(colours, amounts, strict=True):
            height = HEIGHT * values[number] / top
            if height:
                y -= height
                parts.append(Part(colour, _round(y), _round(height)))
        total = show(totals[number]) if len(series) > 1 else ""
        columns.append(_column(number, label, labels, series, colours, show, links, tuple(parts), total))
    return Chart(tuple(columns), (), _legend(series, colours), grid, _ticks(labels), not any(totals))


def lines(labels: Sequence[str], series: Sequence[Series], show: Show, links: Sequence[str] | None = None) -> Chart:
    """A line for each series, broken where it has no value."""
    colours = _colours(series)
    known = [value for one in series for value in one.values if value is not None]
    top, grid = _grid(known, show)
    drawn = tuple(_line(one.values, colour, top) for one, colour in zip(series, colours, strict=True))
    columns = tuple(
        _column(number, label, labels, series, colours, show, links, (), "") for number, label in enumerate(labels)
    )
    return Chart(columns, drawn, _legend(series, colours), grid, _ticks(labels), not any(known))


def sparkline(values: Sequence[float | None]) -> Sparkline | None:
    """None where there is nothing to draw: fewer than two values, or nothing but zero."""
    amounts = [max(0.0, value or 0.0) for value in values]
    if len(amounts) < 2 or not any(amounts):
        return None
    most, step = max(amounts), 100 / (len(amounts) - 1)
    points = [f"{_round(number * step):g},{_round(22 - 20 * value / most):g}" for number, value in enumerate(amounts)]
    line = " ".join(points)
    return Sparkline(line, f"0,24 {line} 100,24")


def largest(amounts: Mapping[str, Sequence[float]], others: str, apart: int = APART) -> list[Series]:
    """The largest groups by their sums, and the rest added up as `others`, in the palette's last, quiet colour."""
    order = sorted(amounts, key=lambda name: (-sum(amounts[name]), name))
    shown = [Series(name, amounts[name]) for name in order[:apart]]
    rest = [amounts[name] for name in order[apart:]]
    if rest:
        shown.append(Series(others, [sum(values) for values in zip(*rest, strict=True)], "quiet"))
    return shown


def _colours(series: Sequence[Series]) -> list[str]:
    """A series with a tone takes none of the palette's colours away."""
    colours, taken = [], 0
    for one in series:
        colours.append(one.tone or str(taken % APART))
        taken += not one.tone
    return colours


def _grid(values: Sequence[float], show: Show) -> tuple[float, tuple[Tick, ...]]:
    """The value at the top, and the lines from zero to it, at steps of 1, 2, 2.5 or 5 times a power of ten; at whole ones where
    nothing but whole numbers is drawn."""
    most = max(values, default=0.0)
    if most <= 0:
        return 1.0, (Tick(show(0.0), 0.0),)
    is_counted = all(float(value).is_integer() for value in values)
    power = 10.0 ** math.floor(math.log10(most / _STEPS))
    steps = [power * factor for factor in (1.0, 2.0, 2.5, 5.0, 10.0)]
    fitting = [step for step in steps if step * _STEPS >= most * 0.999999 and (step.is_integer() or not is_counted)]
    step = fitting[0] if fitting else 1.0
    count = math.ceil(most / step - 1e-6)
    return step * count, tuple(Tick(show(step * number), 100 * number / count) for number in range(count + 1))


def _column(
    number: int,
    label: str,
    labels: Sequence[str],
    series: Sequence[Series],
    colours: Sequence[str],
    show: Show,
    links: Sequence[str] | None,
    parts: tuple[Part, ...],
    total: str,
) -> Column:
    span = WIDTH / len(labels)
    said = tuple(
        Said(colour, one.name, "–" if (value := one.values[number]) is None else show(value))
        for one, colour in zip(series, colours, strict=True)
    )
    left = span * number
    link = links[number] if links else ""
    x, width = _round(left + span * _GAP / 2), _round(span * (1 - _GAP))
    return Column(label, x, width, _round(left), _round(span), parts, said, total, link)


def _line(values: Sequence[float | None], colour: str, top: float) -> Line:
    span = WIDTH / max(1, len(values))
    places = [
        None if value is None else (_round(span * (number + 0.5)), _round(HEIGHT * (1 - max(0.0, value) / top)))
        for number, value in enumerate(values)
    ]
    breaks = [-1, *(number for number, place in enumerate(places) if place is None), len(places)]
    runs = [[place for place in places[start + 1 : end] if place] for start, end in pairwise(breaks)]
    joined = tuple(" ".join(f"{x:g},{y:g}" for x, y in run) for run in runs if len(run) > 1)
    return Line(colour, joined, tuple(run[0] for run in runs if len(run) == 1))


def _legend(series: Sequence[Series], colours: Sequence[str]) -> tuple[Key, ...]:
    return tuple(Key(colour, one.name) for one, colour in zip(series, colours, strict=True))


def _ticks(labels: Sequence[str]) -> tuple[Tick, ...]:
    """As many labels as fit, evenly apart, each in the middle of its column."""
    count = len(labels)
    every = max(1, math.ceil(count / _MOST_LABELS))
    return tuple(Tick(labels[number], _round(100 * (number + 0.5) / count)) for number in range(0, count, every))


def _round(number: float) -> float:
    return round(number, 2)
