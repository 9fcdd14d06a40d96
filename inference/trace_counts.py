"""How many requests a search is about, hour by hour: from sums, and only where sums tell it exactly.

A search that asks for what no sum is kept by (an id, a session, a duration, the name that was asked for) has no chart; a wrong one
would be worse.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db.models import Q, QuerySet, Sum
from django.utils import timezone

from inference import trace_search
from inference.models import FailureRollup, TagRollup, TrafficRollup, UsageRollup
from inference.trace_partitions import horizon
from inference.trace_search import Search, Sight
from routing.models import ClientKey
from routing.rollout import PROBE

USUAL_SPAN = timedelta(hours=24)
_BY_MINUTE = timedelta(hours=2)
_BY_HOUR = timedelta(days=8)
_MINUTE, _HOUR, _DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
_PLAIN = {"team": "team_id", "provider": "provider_id", "policy": "policy", "operation": "operation", "side": "side"}
_OF_FAILURES = {"error": "error_code", "owner": "error_owner", "status": "status"}
_COUNTED = {*_PLAIN, *_OF_FAILURES, "key", "tag", "served_by", "outcome"}


@dataclass(frozen=True, slots=True)
class Bar:
    since: datetime
    until: datetime
    answered: int
    failed: int


@dataclass(frozen=True, slots=True)
class Counts:
    bars: tuple[Bar, ...]
    step: timedelta

    @property
    def answered(self) -> int:
        return sum(bar.answered for bar in self.bars)

    @property
    def failed(self) -> int:
        return sum(bar.failed for bar in self.bars)


def counted(search: Search, sight: Sight, now: datetime) -> Counts | None:
    """Over the search's span, the last 24 hours where it names none; None where no sum is kept of it. Whole minutes, hours or days."""
    told = {one.name for one in fields(search) if getattr(search, one.name) not in ("", None)} - {"since", "until"}
    by_failure = bool(told & {*_OF_FAILURES}) or search.outcome == "cut"
    if told - _COUNTED or search.outcome == "rescued" or (by_failure and _is_more_than_failures(search)):
        return None
    until = min(search.until or now, now)
    since = max(search.since or until - USUAL_SPAN, horizon(now))
    if since >= until:
        return None
    step = _step(until - since, by_minute=not by_failure and not search.key and not search.tag and sight.key_id is None)
    begin = _floor(since, step)
    sums = _failures(search, sight) if by_failure else _requests(search, sight, step)
    return Counts(tuple(_bars(sums, begin, until, step, search.outcome)), step)


def _is_more_than_failures(search: Search) -> bool:
    """Of these, the sums of failures know nothing."""
    lower = search.status is not None and search.status < 400
    return bool(search.tag) or lower or search.outcome == "answered"


def _step(span: timedelta, *, by_minute: bool) -> timedelta:
    return _MINUTE if by_minute and span <= _BY_MINUTE else _HOUR if span <= _BY_HOUR else _DAY


def _floor(at: datetime, step: timedelta) -> datetime:
    if step == _DAY:
        return timezone.localtime(at).replace(hour=0, minute=0, second=0, microsecond=0)
    at = at.astimezone(UTC).replace(second=0, microsecond=0)
    return at if step == _MINUTE else at.replace(minute=0)


def _requests(search: Search, sight: Sight, step: timedelta) -> tuple[QuerySet[Any], str, tuple[str, ...]]:
    model = TagRollup if search.tag else TrafficRollup if step == _MINUTE else UsageRollup
    rows = _narrowed(search, sight, model.objects.all())  # type: ignore[attr-defined]
    if search.key:
        rows = rows.filter(client_key_prefix=search.key)
    if search.tag:
        rows = rows.filter(tag=search.tag)
    return rows, "minute" if model is TrafficRollup else "hour", ("requests", "failed", "left")


def _failures(search: Search, sight: Sight) -> tuple[QuerySet[Any], str, tuple[str, ...]]:
    rows = _narrowed(search, sight, FailureRollup.objects.all())
    for name, column in _OF_FAILURES.items():
        if (wanted := getattr(search, name)) not in ("", None):
            rows = rows.filter(**{column: wanted})
    if search.outcome == "cut":
        rows = rows.filter(status__lt=400)
    if search.key:
        rows = rows.filter(client_key_id__in=ClientKey.objects.filter(prefix=search.key).values("pk"))
    return rows, "hour", ("requests",)


def _narrowed(search: Search, sight: Sight, rows: QuerySet[Any]) -> QuerySet[Any]:
    where = Q() if search.side else ~Q(side=PROBE)  # as the search itself has it
    for name, column in _PLAIN.items():
        if name == "side" and search.side == trace_search.ALL_SIDES:
            continue
        if (wanted := getattr(search, name)) not in ("", None):
            where &= Q(**{column: wanted})
    if search.served_by:
        where &= trace_search.served_by(search.served_by)
    if sight.key_id is not None:
        where &= Q(client_key_id=sight.key_id)
    if sight.teams is not None:
        where &= Q(team_id__in=sight.teams)
    return rows.filter(where)


def _bars(
    told: tuple[QuerySet[Any], str, tuple[str, ...]], begin: datetime, until: datetime, step: timedelta, outcome: str
) -> Iterator[Bar]:
    rows, column, names = told
    within = rows.filter(**{f"{column}__gte": begin, f"{column}__lt": until}).order_by()
    sums: dict[datetime, list[int]] = defaultdict(lambda: [0, 0])
    for row in within.values(column).annotate(**{f"sum_{name}": Sum(name) for name in names}):
        counted_at = sums[_floor(row[column], step)]
        failed = row["sum_failed"] + row["sum_left"] if "failed" in names else row["sum_requests"]
        counted_at[0] += row["sum_requests"] - failed
        counted_at[1] += failed
    at = begin
    while at < until:
        after = _after(at, step)
        answered, failed = sums[at]
        yield Bar(at, after, 0 if outcome == "failed" else answered, 0 if outcome == "answered" else failed)
        at = after


def _after(at: datetime, step: timedelta) -> datetime:
    """Days of a zone are not all as long."""
    return _floor(at + step * 1.5, step) if step == _DAY else at + step
