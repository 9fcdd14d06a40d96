"""What happened between two moments, from the roll-ups: full hours from the hourly sums, the edges from those of minutes.

So a day is some hundred rows, however many requests it had, and still begins and ends at the minute that was asked for. Minutes
are kept for a month; a span that begins before that begins at its full hour.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from django.db.models import Q, QuerySet, Sum
from django.db.models.functions import TruncHour

from inference.rollup_models import BOUNDS_MS, BUCKETS, HOUR, MINUTE, LatencyRollup, TrafficRollup, UsageRollup

KEPT_MINUTES = timedelta(days=32)

_HOUR, _MINUTE = timedelta(hours=1), timedelta(minutes=1)
_SUMS = (
    *("requests", "failed", "left", "rescued", "streams", "estimated", "unpriced"),
    *("input_tokens", "output_tokens", "cached_tokens", "reasoning_tokens", "failed_tries", "cost", "duration_ms"),
)


@dataclass(frozen=True, slots=True)
class Amounts:
    """Sums over requests; see the columns of `UsageRollup`. `cost` is as it was charged, in the currency asked for."""

    requests: int = 0
    failed: int = 0
    left: int = 0
    rescued: int = 0
    streams: int = 0
    estimated: int = 0
    unpriced: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    failed_tries: int = 0
    cost: Decimal = Decimal(0)
    duration_ms: float = 0.0

    @property
    def error_rate(self) -> float | None:
        """0 to 1; None without requests. A client that left is no error."""
        return self.failed / self.requests if self.requests else None

    @property
    def try_error_rate(self) -> float | None:
        """0 to 1, of the tries at a provider or model, also of requests that another one answered then; None without any."""
        good = self.requests - self.failed - self.left
        tries = max(0, good) + self.failed_tries
        return self.failed_tries / tries if tries else None

    @property
    def mean_ms(self) -> float | None:
        return self.duration_ms / self.requests if self.requests else None

    def plus(self, other: Amounts) -> Amounts:
        return Amounts(*(getattr(self, name) + getattr(other, name) for name in _SUMS))


NOTHING = Amounts()


@dataclass(frozen=True, slots=True)
class Times:
    """A histogram of milliseconds; `counts` by `BOUNDS_MS`."""

    requests: int
    total_ms: float
    counts: tuple[int, ...]

    @property
    def mean_ms(self) -> float | None:
        return self.total_ms / self.requests if self.requests else None

    def percentile(self, percent: float) -> float | None:
        """Milliseconds that so many percent of the requests took at most, None without requests.

        Within a bucket they are taken to lie evenly, so the figure may be off by a fifth; never by more than the bucket.
        """
        if not self.requests:
            return None
        rank = max(1.0, self.requests * percent / 100)
        passed = 0
        for number, count in enumerate(self.counts):
            if count and passed + count >= rank:
                low = BOUNDS_MS[number - 1] if number else 0.0
                high = BOUNDS_MS[number] if number < len(BOUNDS_MS) else 2 * BOUNDS_MS[-1]
                # A single one cannot have taken longer than all together.
                return min(low + (high - low) * (rank - passed) / count, self.total_ms)
            passed += count
        return None

    def plus(self, other: Times) -> Times:
        counts = tuple(one + more for one, more in zip(self.counts, other.counts, strict=True))
        return Times(self.requests + other.requests, self.total_ms + other.total_ms, counts)


NO_TIMES = Times(0, 0.0, (0,) * len(BUCKETS))


def amounts(since: datetime, until: datetime, where: Q | None = None, by: Sequence[str] = ()) -> dict[tuple, Amounts]:
    """Sums of the requests that `where` holds for, for each value of the columns `by`; without, under `()`.

    Columns, in both: hour, side, operation, team_id, policy, requested_model, provider_id, model_id, currency.
    """
    found: dict[tuple, Amounts] = defaultdict(lambda: NOTHING)
    for rows in _parts(since, until, UsageRollup.objects.all(), "hour", TrafficRollup.objects.all(), "minute"):
        if rows.model is TrafficRollup and "hour" in by:
            rows = rows.annotate(hour=TruncHour("minute", tzinfo=UTC))
        for key, sums in _summed(rows, where, by, _SUMS):
            if sums["requests"] is not None:
                found[key] = found[key].plus(Amounts(**sums))
    return dict(found)


def times(
    measure: str, since: datetime, until: datetime, where: Q | None = None, by: Sequence[str] = ()
) -> dict[tuple, Times]:
    """How long requests took, for each value of the columns `by`; without, under `()`.

    `measure` is one of `rollup_models`. Columns: side, operation, provider_id, model_id; `at` is the hour's or minute's beginning.
    """
    return {key[1:]: told for key, told in times_of([measure], since, until, where, by).items()}


def times_of(
    measures: Sequence[str], since: datetime, until: datetime, where: Q | None = None, by: Sequence[str] = ()
) -> dict[tuple, Times]:
    """The same of several measures at once; each key begins with the measure."""
    found: dict[tuple, Times] = defaultdict(lambda: NO_TIMES)
    measured = LatencyRollup.objects.filter(measure__in=list(measures))
    for rows in _parts(since, until, measured.filter(span=HOUR), "at", measured.filter(span=MINUTE), "at"):
        for key, sums in _summed(rows, where, ("measure", *by), ("requests", "total_ms", *BUCKETS)):
            counts = tuple(sums[name] for name in BUCKETS)
            found[key] = found[key].plus(Times(sums["requests"], sums["total_ms"], counts))
    return dict(found)


def _summed(
    rows: QuerySet[Any], where: Q | None, by: Sequence[str], sums: Sequence[str]
) -> Iterator[tuple[tuple, Mapping[str, Any]]]:
    if where is not None:
        rows = rows.filter(where)
    # Under names of their own: a sum may not be named as its column.
    told = {f"sum_{name}": Sum(name) for name in sums}
    found = rows.order_by().values(*by).annotate(**told) if by else [rows.order_by().aggregate(**told)]
    for row in found:
        yield tuple(row[name] for name in by), {name: row[f"sum_{name}"] for name in sums}


def _parts(
    since: datetime, until: datetime, hourly: QuerySet[Any], hour: str, minutely: QuerySet[Any], minute: str
) -> Iterator[QuerySet[Any]]:
    since, until = since.astimezone(UTC), until.astimezone(UTC)
    if until - since > KEPT_MINUTES:
        since = _floor(since)
    first, last = _floor(since + _HOUR - timedelta.resolution), _floor(until)
    since, until = since.replace(second=0, microsecond=0), until + _MINUTE - timedelta.resolution
    until = until.replace(second=0, microsecond=0)
    if first >= last:
        yield minutely.filter(**{f"{minute}__gte": since, f"{minute}__lt": until})
        return
    yield hourly.filter(**{f"{hour}__gte": first, f"{hour}__lt": last})
    edges = Q(**{f"{minute}__gte": since, f"{minute}__lt": first}) | Q(
        **{f"{minute}__gte": last, f"{minute}__lt": until}
    )
    if since < first or last < until:
        yield minutely.filter(edges)


def _floor(at: datetime) -> datetime:
    return at.replace(minute=0, second=0, microsecond=0)
