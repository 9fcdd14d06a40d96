"""The hours of a parallel run as shapes of an SVG: two bars an hour, the failed part of each on top. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from inference.cutover import Hour, HourOfSide

WIDTH, HEIGHT = 960.0, 150.0
_GAP = 0.22
"""Share of an hour's width that stays empty."""


@dataclass(frozen=True, slots=True)
class Bar:
    """Places in the SVG's own units; `failed` is the height of the red part, which is the upper one."""

    x: float
    y: float
    width: float
    height: float
    failed: float

    @property
    def good_y(self) -> float:
        return self.y + self.failed

    @property
    def good_height(self) -> float:
        return self.height - self.failed


@dataclass(frozen=True, slots=True)
class Column:
    at: datetime
    gateway: Bar
    legacy: Bar


@dataclass(frozen=True, slots=True)
class Chart:
    """`most` is the number of requests that the whole height stands for."""

    columns: tuple[Column, ...]
    most: int
    width: float = WIDTH
    height: float = HEIGHT


def drawn(hours: Sequence[Hour]) -> Chart:
    most = max((side.requests for hour in hours for side in (hour.gateway, hour.legacy)), default=0)
    step = WIDTH / max(1, len(hours))
    bar = step * (1 - _GAP) / 2
    columns = tuple(
        Column(
            hour.at,
            _bar(hour.gateway, step * number + step * _GAP / 2, bar, most),
            _bar(hour.legacy, step * number + step * _GAP / 2 + bar, bar, most),
        )
        for number, hour in enumerate(hours)
    )
    return Chart(columns, most)


def _bar(side: HourOfSide, x: float, width: float, most: int) -> Bar:
    height = HEIGHT * side.requests / most if most else 0.0
    failed = height * side.errors / side.requests if side.requests else 0.0
    return Bar(round(x, 2), round(HEIGHT - height, 2), round(width, 2), round(height, 2), round(failed, 2))
