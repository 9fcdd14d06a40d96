"""Spend over time as stacked bars of an SVG, the largest groups apart and the others together. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

WIDTH, HEIGHT = 960.0, 180.0
APART = 6
"""Groups with a colour of their own."""
OTHERS = "others"
_GAP = 0.18
"""Share of a bar's width that stays empty."""


@dataclass(frozen=True, slots=True)
class Part:
    """`colour` counts from 0; `APART` is the others'."""

    colour: int
    name: str
    amount: Decimal
    y: float
    height: float


@dataclass(frozen=True, slots=True)
class Column:
    at: datetime
    x: float
    width: float
    parts: tuple[Part, ...]
    """From the bottom up."""
    total: Decimal


@dataclass(frozen=True, slots=True)
class Chart:
    """`most` is what the whole height stands for; `names` those of the colours, in their order."""

    columns: tuple[Column, ...]
    names: tuple[str, ...]
    most: Decimal
    width: float = WIDTH
    height: float = HEIGHT


def drawn(times: Sequence[datetime], amounts: Mapping[tuple[str, datetime], Decimal], largest: Sequence[str]) -> Chart:
    """`amounts` by group and time; of `largest` the first ones are told apart."""
    apart = list(largest[:APART])
    stacks = [_stack(at, amounts, apart) for at in times]
    totals = [sum((amount for _, _, amount in stack), Decimal(0)) for stack in stacks]
    most = max(totals, default=Decimal(0))
    step = WIDTH / max(1, len(times))
    columns = []
    for number, (at, stack, total) in enumerate(zip(times, stacks, totals, strict=True)):
        x, width = step * number + step * _GAP / 2, step * (1 - _GAP)
        columns.append(Column(at, round(x, 2), round(width, 2), _parts(stack, most), total))
    has_others = any(part.colour == APART for column in columns for part in column.parts)
    return Chart(tuple(columns), (*apart, *([OTHERS] if has_others else [])), most)


def _stack(
    at: datetime, amounts: Mapping[tuple[str, datetime], Decimal], apart: Sequence[str]
) -> list[tuple[int, str, Decimal]]:
    stack = [(colour, name, amounts.get((name, at), Decimal(0))) for colour, name in enumerate(apart)]
    others = sum((amount for (name, when), amount in amounts.items() if when == at and name not in apart), Decimal(0))
    return [part for part in (*stack, (APART, OTHERS, others)) if part[2] > 0]


def _parts(stack: Sequence[tuple[int, str, Decimal]], most: Decimal) -> tuple[Part, ...]:
    parts, top = [], HEIGHT
    for colour, name, amount in stack:
        height = float(amount / most) * HEIGHT
        top -= height
        parts.append(Part(colour, name, amount, round(top, 2), round(height, 2)))
    return tuple(parts)
