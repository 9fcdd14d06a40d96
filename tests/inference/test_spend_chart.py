from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

from inference.spend_chart import APART, HEIGHT, OTHERS, drawn

DAYS = [datetime(2026, 11, day, tzinfo=UTC) for day in (1, 2)]


def test_the_highest_bar_is_as_high_as_the_chart():
    chart = drawn(
        DAYS, {("a", DAYS[0]): Decimal(3), ("b", DAYS[0]): Decimal(1), ("a", DAYS[1]): Decimal(2)}, ["a", "b"]
    )
    first, second = chart.columns
    assert sum(part.height for part in first.parts) == HEIGHT
    assert [part.height for part in second.parts] == [HEIGHT / 2]
    assert (chart.most, first.parts[-1].y) == (4, 0)


def test_the_small_ones_are_drawn_together():
    amounts = {(str(number), DAYS[0]): Decimal(20 - number) for number in range(10)}
    chart = drawn(DAYS[:1], amounts, [str(number) for number in range(10)])
    last = chart.columns[0].parts[-1]
    assert (last.colour, last.name, last.amount) == (APART, OTHERS, Decimal(14 + 13 + 12 + 11))
    assert chart.names[-1] == OTHERS


def test_nothing_is_drawn_of_nothing():
    chart = drawn(DAYS, {}, [])
    assert [column.parts for column in chart.columns] == [(), ()]
    assert chart.most == 0
