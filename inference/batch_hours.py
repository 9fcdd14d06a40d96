"""Hours of the day in which batches are answered, such as `22:00-06:00`. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime, time

from inference.quiet_hours import quiet_until

OFF_PEAK = "off_peak"
USUAL_OFF_PEAK = "22:00-06:00"

_HOURS = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]):([0-5]\d)")


def read(text: str) -> tuple[time, time]:
    """Begin and end; the end may be on the next day. Raises `ValueError` with a sentence."""
    found = _HOURS.fullmatch(text)
    if found is None or found[1] + found[2] == found[3] + found[4]:
        raise ValueError(f"'{text[:32]}' is not a span of hours such as 22:00-06:00.")
    begin_hour, begin_minute, end_hour, end_minute = map(int, found.groups())
    return time(begin_hour, begin_minute), time(end_hour, end_minute)


def closed_until(now: datetime, spans: Iterable[str], zone: str) -> datetime | None:
    """When all the spans are open next as far as one can see from here; None while they are. An empty span is always open."""
    closed = []
    for span in filter(None, spans):
        begin, end = read(span)
        if (until := quiet_until(now, end, begin, zone)) is not None:
            closed.append(until)
    return max(closed, default=None)
