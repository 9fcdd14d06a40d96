"""How both sides of a parallel run do, from the rows of usage: the figures that decide whether the share may grow.

Only requests that generate count, on both sides: a list of models costs nothing and hides slow answers in the median.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from django.db.models import Avg, Count, Q, QuerySet, Sum
from django.db.models.functions import TruncHour
from django.utils import timezone

from inference.models import Trace
from routing.rollout import GATEWAY, LEGACY

HOUR = timedelta(hours=1)
LONGEST_HOURS = 24 * 31
"""How far back one may ask."""

_GENERATING = ("chat", "completions", "embeddings", "generate")
_FAILED = ~Q(status__lt=400, error_code="") & ~Q(status=499)
"""499 is a client that left."""


@dataclass(frozen=True, slots=True)
class SideFigures:
    """Times in milliseconds, None without requests. A client that left is no error."""

    side: str
    requests: int = 0
    errors: int = 0
    clients: int = 0
    p50_ms: float | None = None
    p95_ms: float | None = None
    first_byte_p95_ms: float | None = None
    """Of streams."""
    input_tokens: int = 0
    output_tokens: int = 0
    costs: Mapping[str, Decimal] = field(default_factory=dict)
    """By currency; the legacy side's are estimates, at this gateway's prices of the same models."""

    @property
    def error_rate(self) -> float | None:
        """0 to 1."""
        return self.errors / self.requests if self.requests else None


@dataclass(frozen=True, slots=True)
class HourOfSide:
    requests: int = 0
    errors: int = 0
    mean_ms: float | None = None


@dataclass(frozen=True, slots=True)
class Hour:
    at: datetime
    gateway: HourOfSide
    legacy: HourOfSide


@dataclass(frozen=True, slots=True)
class Figures:
    """`hours` holds every hour that the span touches, oldest first."""

    since: datetime
    until: datetime
    gateway: SideFigures
    legacy: SideFigures
    hours: tuple[Hour, ...]


def figures(since: datetime, until: datetime | None = None) -> Figures:
    """Both sides between two moments; `until` is now when it is not given."""
    until = until or timezone.now()
    rows = Trace.objects.filter(at__gte=since, at__lt=until, operation__in=_GENERATING).order_by()
    totals = {row["side"]: row for row in rows.values("side").annotate(**_totals())}
    costs: dict[str, dict[str, Decimal]] = {}
    for row in rows.filter(cost__isnull=False).values("side", "currency").annotate(cost=Sum("cost")):
        costs.setdefault(row["side"], {})[row["currency"]] = row["cost"]
    gateway, legacy = (_side(side, rows, totals.get(side), costs.get(side, {})) for side in (GATEWAY, LEGACY))
    return Figures(since, until, gateway, legacy, _hours(rows, since, until))


def _totals() -> dict[str, Any]:
    return {
        "requests": Count("id"),
        "errors": Count("id", filter=_FAILED),
        "streams": Count("id", filter=Q(first_byte_ms__isnull=False)),
        "clients": Count("client_key_prefix", distinct=True),
        "tokens_in": Sum("input_tokens"),
        "tokens_out": Sum("output_tokens"),
    }


def _side(side: str, rows: QuerySet, total: dict[str, Any] | None, costs: dict[str, Decimal]) -> SideFigures:
    if total is None:
        return SideFigures(side)
    own = rows.filter(side=side)
    return SideFigures(
        side=side,
        requests=total["requests"],
        errors=total["errors"],
        clients=total["clients"],
        p50_ms=_percentile(own, "duration_ms", total["requests"], 50),
        p95_ms=_percentile(own, "duration_ms", total["requests"], 95),
        first_byte_p95_ms=_percentile(own, "first_byte_ms", total["streams"], 95),
        input_tokens=total["tokens_in"],
        output_tokens=total["tokens_out"],
        costs=costs,
    )


def _percentile(rows: QuerySet, field: str, count: int, percent: int) -> float | None:
    """The nearest rank: the smallest value that is not below so many percent of all."""
    if not count:
        return None
    rank = max(1, -(-count * percent // 100))
    ordered = rows.filter(**{f"{field}__isnull": False}).order_by(field).values_list(field, flat=True)
    return next(iter(ordered[rank - 1 : rank]), None)


def _hours(rows: QuerySet, since: datetime, until: datetime) -> tuple[Hour, ...]:
    counted = (
        rows.annotate(hour=TruncHour("at", tzinfo=UTC))
        .values("hour", "side")
        .annotate(requests=Count("id"), errors=Count("id", filter=_FAILED), mean_ms=Avg("duration_ms"))
    )
    told = {(row["hour"], row["side"]): HourOfSide(row["requests"], row["errors"], row["mean_ms"]) for row in counted}
    empty = HourOfSide()
    hours = []
    at = since.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    while at < until:
        hours.append(Hour(at, told.get((at, GATEWAY), empty), told.get((at, LEGACY), empty)))
        at += HOUR
    return tuple(hours)
