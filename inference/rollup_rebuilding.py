"""Sums what was written before there were roll-ups, and tells whether roll-ups and ledger still agree.

An hour at a time, each in a transaction that nobody else writes the ledger in, so that requests may go on meanwhile. What only
traces tell (times, codes of errors, whether a try was saved by another) is summed where the traces still are, and else left as it
stands; corrections stay.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import islice
from typing import Any

from django.db import connection, transaction
from django.db.models import Min, Q, Sum

from inference import rollups
from inference.models import FailureRollup, LatencyRollup, TagRollup, Trace, TrafficRollup, UsageRecord, UsageRollup
from inference.recording import Row
from inference.rollup_models import MINUTE
from inference.rollup_windows import KEPT_MINUTES

_HOUR = timedelta(hours=1)
_ROWS_AT_ONCE = 1_000
_MOST_DELETES = 1_000
_LEDGER = tuple(field.column for field in UsageRecord._meta.concrete_fields if field.column in Row._fields)
_OF_TRACES = (
    *(
        "request_id",
        "error_code",
        "error_owner",
        "attempts",
        "duration_ms",
        "first_byte_ms",
        "overhead_ms",
        "queue_ms",
        "attempts_log",
    ),
)
_TOLD_BY_TRACES = ("rescued", "failed_tries", "duration_ms")
"""Of a roll-up's amounts."""
_UNKNOWN: dict[str, Any] = {
    **dict.fromkeys(Row._fields, ""),
    **dict.fromkeys(("attempts", "duration_ms", "overhead_ms", "upstream_ms", "queue_ms", "policy_version"), 0),
    "first_byte_ms": None,
    "fallback": False,
    "paid": (),
}


@dataclass(frozen=True, slots=True)
class Difference:
    """An hour of which the sums of the ledger and of the roll-ups are not the same."""

    hour: datetime
    ledger_requests: int
    rollup_requests: int
    ledger_cost: Decimal
    rollup_cost: Decimal


def rebuild_if_empty() -> int:
    """After a migration: how many lines of the ledger were summed, 0 where roll-ups exist."""
    if UsageRollup.objects.exists():
        return 0
    return sum(rebuild(hour) for hour in hours())


def hours(since: datetime | None = None, until: datetime | None = None) -> list[datetime]:
    """Those in which the ledger has lines, oldest first; a bound within an hour means all of it."""
    found = UsageRecord.objects.order_by()
    if since is not None:
        found = found.filter(at__gte=_floor(since))
    if until is not None:
        found = found.filter(at__lt=_floor(until + _HOUR - timedelta.resolution))
    return list(found.datetimes("at", "hour", tzinfo=UTC))


def rebuild(hour: datetime) -> int:
    """Sum the hour again; returns the lines of the ledger in it."""
    hour = _floor(hour)
    with transaction.atomic():
        _keep_others_from_writing()
        has_traces = _has_traces(hour)
        summed = [name for name in rollups.AMOUNTS if has_traces or name not in _TOLD_BY_TRACES]
        for model in (UsageRollup, TagRollup):
            model.objects.filter(hour=hour).update(**dict.fromkeys(summed, 0))
        if has_traces:
            within = {"gte": hour, "lt": hour + _HOUR}
            TrafficRollup.objects.filter(**{f"minute__{name}": at for name, at in within.items()}).delete()
            LatencyRollup.objects.filter(**{f"at__{name}": at for name, at in within.items()}).delete()
            FailureRollup.objects.filter(hour=hour).delete()
        lines = 0
        for some in _lines(hour):
            lines += len(some)
            rollups.add(some, spend_only=not has_traces)
        nothing = Q(requests=0, failed_tries=0, input_tokens=0, output_tokens=0, cost=0, correction=0)
        for model in (UsageRollup, TagRollup):
            model.objects.filter(nothing, hour=hour).delete()
    return lines


def _has_traces(hour: datetime) -> bool:
    """All of them: of the oldest hour some may be gone, by their age."""
    known = Trace.objects.aggregate(oldest=Min("at"))["oldest"]
    if known is None or _floor(known) > hour:
        return False
    within = {"at__gte": hour, "at__lt": hour + _HOUR}
    asked = UsageRecord.objects.filter(**within, attempt=0)
    return _floor(known) < hour or Trace.objects.filter(**within).count() >= asked.count()


def differences(since: datetime | None = None, until: datetime | None = None) -> Iterator[Difference]:
    """Hours that do not agree, oldest first. The running hour may be among them while a batch is written."""
    for hour in hours(since, until):
        ledger = UsageRecord.objects.filter(at__gte=hour, at__lt=hour + _HOUR).order_by()
        summed = UsageRollup.objects.filter(hour=hour).aggregate(told=Sum("requests"), spent=Sum("cost"))
        # Added up here, because not every database adds decimals exactly.
        costs = ledger.filter(cost__isnull=False).values_list("cost", flat=True)
        spent = sum(costs.iterator(_ROWS_AT_ONCE), Decimal(0))
        requests = ledger.filter(attempt=0).count()
        found = Difference(hour, requests, summed["told"] or 0, spent, summed["spent"] or Decimal(0))
        if (found.ledger_requests, found.ledger_cost) != (found.rollup_requests, found.rollup_cost):
            yield found


def forget_minutes(now: datetime) -> int:
    """Delete sums of minutes that are older than a month; returns how many rows went. A few at a time, so that nobody waits."""
    oldest = now - KEPT_MINUTES - _HOUR
    return _forget(TrafficRollup.objects.filter(minute__lt=oldest)) + _forget(
        LatencyRollup.objects.filter(span=MINUTE, at__lt=oldest)
    )


def _forget(rows: Any) -> int:
    gone = 0
    for _ in range(_MOST_DELETES):
        some = list(rows.order_by().values_list("pk", flat=True)[:_ROWS_AT_ONCE])
        gone += rows.model.objects.filter(pk__in=some).delete()[0]
        if len(some) < _ROWS_AT_ONCE:
            break
    return gone


def _lines(hour: datetime) -> Iterator[list[Row]]:
    found = UsageRecord.objects.filter(at__gte=hour, at__lt=hour + _HOUR).order_by("id").values(*_LEDGER)
    rows = found.iterator(_ROWS_AT_ONCE)
    while some := list(islice(rows, _ROWS_AT_ONCE)):
        yield _with_traces(some, hour)


def _with_traces(some: Sequence[dict[str, Any]], hour: datetime) -> list[Row]:
    wanted = Trace.objects.filter(
        request_id__in=[line["request_id"] for line in some], at__gte=hour, at__lt=hour + _HOUR
    )
    traces = {trace["request_id"]: trace for trace in wanted.order_by().values(*_OF_TRACES)}
    return [Row(**(_UNKNOWN | line | traces.get(line["request_id"], {}))) for line in some]


def _keep_others_from_writing() -> None:
    """Until the transaction ends. SQLite has one writer anyway, from the first change on."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute(f"LOCK TABLE {UsageRecord._meta.db_table} IN SHARE ROW EXCLUSIVE MODE")


def _floor(at: datetime) -> datetime:
    return at.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
