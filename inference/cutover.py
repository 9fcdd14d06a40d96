"""How both sides of a parallel run do, from the sums of hours and minutes: the figures that decide whether the share may grow.

Only requests that generate count, on both sides: a list of models costs nothing and hides slow answers in the median.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from django.db.models import Count, Q
from django.utils import timezone

from inference import rollup_windows
from inference.models import UsageRollup
from inference.rollup_models import DURATION, FIRST_BYTE
from inference.rollup_windows import NO_TIMES, NOTHING, Amounts, Times
from routing.rollout import GATEWAY, LEGACY

HOUR = timedelta(hours=1)
LONGEST_HOURS = 24 * 31
"""How far back one may ask."""

_GENERATING = ("chat", "completions", "embeddings", "generate")
_WANTED = Q(operation__in=_GENERATING)


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
    found = rollup_windows.amounts(since, until, _WANTED, ["side", "currency", "hour"])
    clients = _clients(since, until)
    took, began = (rollup_windows.times(measure, since, until, _WANTED, ["side"]) for measure in (DURATION, FIRST_BYTE))
    gateway, legacy = (
        _side(side, found, clients.get(side, 0), took.get((side,), NO_TIMES), began.get((side,), NO_TIMES))
        for side in (GATEWAY, LEGACY)
    )
    return Figures(since, until, gateway, legacy, _hours(found, since, until))


_Found = Mapping[tuple[str, str, datetime], Amounts]


def _side(side: str, found: _Found, clients: int, took: Times, began: Times) -> SideFigures:
    total = NOTHING
    costs: dict[str, Decimal] = {}
    for (of_side, currency, _), told in found.items():
        if of_side == side:
            total = total.plus(told)
            costs[currency] = costs.get(currency, Decimal(0)) + told.cost
    if not total.requests:
        return SideFigures(side)
    return SideFigures(
        side=side,
        requests=total.requests,
        errors=total.failed,
        clients=clients,
        p50_ms=took.percentile(50),
        p95_ms=took.percentile(95),
        first_byte_p95_ms=began.percentile(95),
        input_tokens=total.input_tokens,
        output_tokens=total.output_tokens,
        costs={currency: cost for currency, cost in costs.items() if cost},
    )


def _clients(since: datetime, until: datetime) -> Mapping[str, int]:
    """By side, of all the hours that the span touches: who came in which minute is not kept."""
    first = since.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    rows = UsageRollup.objects.filter(_WANTED, hour__gte=first, hour__lt=until, requests__gt=0).order_by()
    told = rows.values("side").annotate(clients=Count("client_key_prefix", distinct=True))
    return dict(told.values_list("side", "clients"))


def _hours(found: _Found, since: datetime, until: datetime) -> tuple[Hour, ...]:
    counted: dict[tuple[str, datetime], Amounts] = {}
    for (side, _, at), told in found.items():
        counted[side, at] = counted.get((side, at), NOTHING).plus(told)
    hours = []
    at = since.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    while at < until:
        hours.append(Hour(at, *(_hour(counted.get((side, at), NOTHING)) for side in (GATEWAY, LEGACY))))
        at += HOUR
    return tuple(hours)


def _hour(told: Amounts) -> HourOfSide:
    return HourOfSide(told.requests, told.failed, told.mean_ms)
