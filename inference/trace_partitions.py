"""How long traces are kept, and on PostgreSQL the partitions that make it cheap: one for each day (UTC), made ahead, dropped whole.

A moment that has no partition goes to the default one, so that a row is never refused; a day with rows there gets no partition of
its own any more, and its rows are deleted by age as on the other databases. Nobody waits long for any of it: a lock that is not
had at once is left to the next call.
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import OperationalError, connection, transaction

from inference.models import Trace, TraceContent

logger = logging.getLogger("gateway.recording")

DAYS_AHEAD = 7
_TABLE, _OTHER = Trace._meta.db_table, "inference_trace_other"
_ROWS_AT_ONCE = 1_000
_MOST_BATCHES = 500
_PATIENCE = "2s"
_UPPER = re.compile(r"TO \('([^']+)'\)")
_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Kept:
    """What one call did."""

    partitions_made: int = 0
    partitions_dropped: int = 0
    rows_deleted: int = 0
    contents_deleted: int = 0


def horizon(now: datetime) -> datetime:
    """What is older is not shown any more, whether it is gone already or not."""
    return now - timedelta(hours=settings.GATEWAY_TRACE_HOURS)


def keep(now: datetime) -> Kept:
    """Make partitions for the days to come, and let go of what is too old. To be called again and again."""
    oldest = horizon(now)
    contents = _delete(TraceContent, now - timedelta(hours=settings.GATEWAY_CONTENT_HOURS))
    if connection.vendor != "postgresql":
        return Kept(rows_deleted=_delete(Trace, oldest), contents_deleted=contents)
    return Kept(_make(now), _drop(oldest), _delete_others(oldest), contents)


def _delete(model: Any, oldest: datetime) -> int:
    """A few rows at a time, so that nobody who writes has to wait."""
    deleted = 0
    for _ in range(_MOST_BATCHES):
        some = list(model.objects.filter(at__lt=oldest).order_by("at").values_list("pk", flat=True)[:_ROWS_AT_ONCE])
        if some:
            deleted += model.objects.filter(pk__in=some)._raw_delete(using=connection.alias)
        if len(some) < _ROWS_AT_ONCE:
            break
    return deleted


# PostgreSQL -----------------------------------------------------------------------------------------------------------------


def _make(now: datetime) -> int:
    covered = max((upper for upper in _partitions().values()), default=None)
    today = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    day = today if covered is None else max(covered, today)
    made = 0
    while day < today + _DAY * DAYS_AHEAD:
        made += _attempted(_make_one, day)
        day += _DAY
    return made


def _make_one(cursor: Any, day: datetime) -> None:
    """Attached when it is complete: making it in place would lock the whole table."""
    cursor.execute(f"SELECT EXISTS (SELECT FROM {_OTHER} WHERE at >= %s AND at < %s)", [day, day + _DAY])
    if cursor.fetchone()[0]:
        raise _Taken
    name = f"{_TABLE}_{day:%Y%m%d}"
    cursor.execute(f"CREATE TABLE {name} (LIKE {_TABLE} INCLUDING DEFAULTS INCLUDING INDEXES)")
    cursor.execute(
        f"ALTER TABLE {_TABLE} ATTACH PARTITION {name} "
        f"FOR VALUES FROM ('{day:%Y-%m-%d} 00:00+00') TO ('{day + _DAY:%Y-%m-%d} 00:00+00')"
    )


def _drop(oldest: datetime) -> int:
    too_old = [name for name, upper in _partitions().items() if upper <= oldest]
    return sum(_attempted(_drop_one, name) for name in too_old)


def _drop_one(cursor: Any, name: str) -> None:
    cursor.execute(f"DROP TABLE {connection.ops.quote_name(name)}")


def _delete_others(oldest: datetime) -> int:
    deleted = 0
    with connection.cursor() as cursor:
        for _ in range(_MOST_BATCHES):
            cursor.execute(
                f"DELETE FROM {_OTHER} WHERE ctid = ANY (ARRAY(SELECT ctid FROM {_OTHER} WHERE at < %s LIMIT %s))",
                [oldest, _ROWS_AT_ONCE],
            )
            deleted += cursor.rowcount
            if cursor.rowcount < _ROWS_AT_ONCE:
                break
    return deleted


def _partitions() -> dict[str, datetime]:
    """By name, with the moment at which each ends; without the default one."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT child.relname, pg_get_expr(child.relpartbound, child.oid) FROM pg_inherits "
            "JOIN pg_class child ON child.oid = inhrelid WHERE inhparent = %s::regclass",
            [_TABLE],
        )
        told = cursor.fetchall()
    bounds = {name: found.group(1) for name, bound in told if (found := _UPPER.search(bound))}
    return {name: _moment(text) for name, text in bounds.items()}


def _moment(text: str) -> datetime:
    """As PostgreSQL words it: `2026-11-22 00:00:00+00`, in the session's time zone."""
    return datetime.fromisoformat(text if ":" in text[-3:] else f"{text}:00").astimezone(UTC)


class _Taken(Exception):
    """The day has rows in the default partition."""


def _attempted(act: Any, what: Any) -> int:
    """1 when it was done, 0 when it has to wait for another time."""
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(f"SET LOCAL lock_timeout = '{_PATIENCE}'")
            act(cursor, what)
    except _Taken:
        return 0
    except OperationalError as error:
        logger.warning("traces: a partition has to wait: %s", error)
        return 0
    return 1
