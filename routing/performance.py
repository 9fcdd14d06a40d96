"""How well a route did lately: share of good calls, moving latency, recent failures. Pure.

Counted by process, added up over all of them inside Redis by `lua/performance.lua`, which says the same as `after()`;
`tests/routing/test_performance.py` proves the two equal.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

DAYS = 7
DAY_MS = 24 * 3600 * 1000
WEIGHT = 0.1
"""Of one call in the moving latency."""
MOST_RECENT_FAILURES = 10


@dataclass(frozen=True, slots=True)
class Figures:
    days: Mapping[int, tuple[int, int]] = field(default_factory=dict)
    """Calls and good ones, by days since the epoch."""
    latency_us: int = 0
    """Moving average of good calls; 0 when there was none."""
    recent_failures: int = 0
    """0 to 10: raised by a failure, lowered by a success."""

    @property
    def calls(self) -> int:
        return sum(calls for calls, _ in self.days.values())

    @property
    def success_rate(self) -> float | None:
        calls = self.calls
        return sum(good for _, good in self.days.values()) / calls if calls else None

    @property
    def latency_seconds(self) -> float | None:
        return self.latency_us / 1_000_000 if self.latency_us else None


UNKNOWN = Figures()


@dataclass(frozen=True, slots=True)
class Batch:
    """What one process saw of a route since it told last."""

    good: int = 0
    bad: int = 0
    mean_us: int = 0
    """Of the good ones."""


def after(figures: Figures, batch: Batch, now_ms: int) -> Figures:
    today = now_ms // DAY_MS
    days = {day: counts for day, counts in figures.days.items() if today - DAYS < day <= today}
    calls, good = days.get(today, (0, 0))
    days[today] = (calls + batch.good + batch.bad, good + batch.good)
    return Figures(
        days,
        _moved(figures.latency_us, batch),
        min(MOST_RECENT_FAILURES, max(0, figures.recent_failures + batch.bad - batch.good)),
    )


def _moved(latency_us: int, batch: Batch) -> int:
    """As if each call of the batch had taken the mean, one after the other."""
    if not batch.good:
        return latency_us
    if not latency_us:
        return batch.mean_us
    kept = (1 - WEIGHT) ** batch.good
    return math.floor(latency_us * kept + batch.mean_us * (1 - kept) + 0.5)


def as_document(figures: Figures) -> dict[str, Any]:
    return {
        "days": {str(day): list(counts) for day, counts in figures.days.items()},
        "latency_us": figures.latency_us,
        "recent_failures": figures.recent_failures,
    }


def from_document(document: Mapping[str, Any]) -> Figures:
    """Raises `KeyError`, `TypeError` or `ValueError` for what is none."""
    return Figures(
        days={int(day): (int(calls), int(good)) for day, (calls, good) in document["days"].items()},
        latency_us=int(document["latency_us"]),
        recent_failures=int(document["recent_failures"]),
    )
