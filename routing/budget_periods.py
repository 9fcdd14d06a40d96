"""The calendar that budgets are counted by: when a period began and ends in a time zone, and what a pace leads to. Pure."""

from __future__ import annotations

import zoneinfo
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal

from routing.allowances import DAY, HOUR

_LEAST_SHARE = 0.01
"""Of a period that must be over before a pace is worth anything."""


@dataclass(frozen=True, slots=True)
class Span:
    """A period: from `start` until just before `end`, both in its zone."""

    start: datetime
    end: datetime

    def share_over(self, now: datetime) -> float:
        """0 at its start, 1 at its end."""
        length = self.end.timestamp() - self.start.timestamp()
        return min(1.0, max(0.0, (now.timestamp() - self.start.timestamp()) / length))


def span(period: str, at: datetime, time_zone: str = "UTC") -> Span:
    """The hour, day or month of the clock and the calendar in `time_zone` that `at` falls into.

    A day on which the clocks change has 23 or 25 hours; an hour always has 60 minutes.
    """
    zone = zoneinfo.ZoneInfo(time_zone)
    local = at.astimezone(zone)
    if period == HOUR:
        start = local.replace(minute=0, second=0, microsecond=0)
        return Span(start, (start.astimezone(UTC) + timedelta(hours=1)).astimezone(zone))
    first = local.date() if period == DAY else local.date().replace(day=1)
    after = first + timedelta(days=1) if period == DAY else (first + timedelta(days=32)).replace(day=1)
    return Span(datetime.combine(first, time(), zone), datetime.combine(after, time(), zone))


def spans_before(period: str, at: datetime, time_zone: str = "UTC") -> Iterator[Span]:
    """The periods before the one that `at` falls into, newest first, without end."""
    current = span(period, at, time_zone)
    while True:
        current = span(period, current.start.astimezone(UTC) - timedelta(seconds=1), time_zone)
        yield current


@dataclass(frozen=True, slots=True)
class Forecast:
    """Where the pace of the period so far leads."""

    at_end: Decimal
    """USD spent when the period ends."""
    empty_at: datetime | None
    """When nothing is left, if that is before the period ends; in the period's zone."""


def forecast(used: Decimal, amount: Decimal, within: Span, now: datetime) -> Forecast | None:
    """None while too little of the period is over to tell, and when nothing was spent."""
    over = within.share_over(now)
    if used <= 0 or over < _LEAST_SHARE:
        return None
    at_end = (used / Decimal(repr(over))).quantize(Decimal("0.0001"))
    if at_end <= amount:
        return Forecast(at_end, None)
    if used >= amount:
        return Forecast(at_end, now.astimezone(within.start.tzinfo))
    start, end = within.start.timestamp(), within.end.timestamp()
    empty = start + (end - start) * float(amount / at_end)
    return Forecast(at_end, datetime.fromtimestamp(empty, within.start.tzinfo))
