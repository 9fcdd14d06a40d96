"""Where recorded usage goes: rows into the database, many at a time, on the recorder thread's own connection.

Plain SQL, because this is the one place where a row's cost decides how much the gateway can carry: COPY on PostgreSQL, one
prepared INSERT elsewhere. Times of last use skip the registry's revision on purpose: they change nothing that is served.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import lru_cache, partial
from operator import itemgetter
from typing import Any

from django.conf import settings
from django.db import DataError, IntegrityError, connection, models, transaction
from django.db.models.constants import OnConflict

from inference import batch_sums, rollups
from inference.contents import Kept
from inference.models import DecisionRecord, Trace, TraceContent, UsageRecord
from inference.reasons import TELL_AGAIN_SECONDS, Reason
from inference.recording import Row
from providers.models import ApiKey
from routing import key_use

logger = logging.getLogger("gateway.recording")

_COST: Any = Trace._meta.get_field("cost")
_ROWS_AT_ONCE = 100
_MOST_DELETES = 1_000
_NO_MONEY = Decimal(0)
_UTC_OFFSET = len("+00:00")
_CENT = Decimal(1).scaleb(-_COST.decimal_places)


def write(rows: Sequence[Row]) -> None:
    """Insert the rows, each at most once however often this is repeated. Raises when the database is away."""
    _renew_connection()
    try:
        insert(rows)
    except (DataError, IntegrityError):
        _write_one_by_one(rows)


def is_told(row: Row) -> bool:
    """Whether its request's end stands in the ledger as this very run's: written by a transaction whose end was not heard of."""
    _renew_connection()
    return UsageRecord.objects.filter(request_id=row.request_id, attempt=0, at=row.at).exists()


def insert(rows: Sequence[Row]) -> None:
    """All the rows or none. Raises `IntegrityError` when one of them was written before."""
    with transaction.atomic():
        lines = [line for row in rows for line in _ledger_lines(row)]
        batch_sums.add(lines)  # first, as whoever writes answers has their batch before anything else
        _LEDGER.add(lines)
        _TRACES.add([_whole(row) for row in rows if not row.attempt])
        # Last, because other processes wait for the same sums until this transaction ends.
        rollups.add(lines)


def _write_one_by_one(rows: Sequence[Row]) -> None:
    """Some were written before, or one does not fit, which must not take the others with it. The ledger knows which are new."""
    for row in rows:
        try:
            with transaction.atomic():
                new = [line for line in _ledger_lines(row) if _LEDGER.add([line], unless_there=True)]
                if new and not new[0].attempt:
                    _TRACES.add([_whole(row)])
                batch_sums.add(new)
                rollups.add(new)
        except (DataError, IntegrityError) as error:
            logger.error("a usage row does not fit the table: request_id=%s %s", row.request_id, error)


def _ledger_lines(row: Row) -> list[Row]:
    if not row.paid:
        return [row]
    return [row, *(row._replace(**paid._asdict()) for paid in row.paid)]


def _whole(row: Row) -> Row:
    """For the trace, which tells of the request as a whole: what all its tries used and cost together."""
    if not row.paid:
        return row
    parts = (row, *row.paid)
    costs = [part.cost for part in parts]
    return row._replace(
        input_tokens=sum(part.input_tokens for part in parts),
        output_tokens=sum(part.output_tokens for part in parts),
        cached_tokens=sum(part.cached_tokens for part in parts),
        reasoning_tokens=sum(part.reasoning_tokens for part in parts),
        cost=None
        if None in costs or len({part.currency for part in parts}) > 1
        else sum(filter(None, costs), _NO_MONEY),
    )


def write_reasons(reasons: Sequence[Reason]) -> None:
    """Explanations that usage rows refer to, each once however many processes tell it, and when one was told last."""
    _renew_connection()
    # Each once a statement, and in one order for all processes: they wait for each other and not in a circle.
    latest = {one.digest: one for one in sorted(reasons, key=lambda one: (one.digest, one.at))}
    rows = [DecisionRecord(digest=one.digest, body=one.body, at=_moment(one.at)) for one in latest.values()]
    with transaction.atomic():
        DecisionRecord.objects.bulk_create(
            rows, update_conflicts=True, unique_fields=["digest"], update_fields=["at"], batch_size=_ROWS_AT_ONCE
        )


def write_contents(contents: Sequence[Kept]) -> None:
    """Prompts and answers of traces, encrypted here; each once."""
    _renew_connection()
    TraceContent.objects.bulk_create([TraceContent(**one._asdict()) for one in contents], ignore_conflicts=True)


def forget_reasons(now: datetime) -> int:
    """Delete explanations that no request of the last GATEWAY_EXPLANATION_DAYS refers to; returns how many went.

    By their own time alone, without a look at the usage rows: whoever refers to one tells it again within `TELL_AGAIN_SECONDS`.
    A few at a time, so that nobody who tells one has to wait; what is left over goes with the next call.
    """
    oldest = now - timedelta(days=settings.GATEWAY_EXPLANATION_DAYS, seconds=TELL_AGAIN_SECONDS)
    forgotten = 0
    for _ in range(_MOST_DELETES):
        digests = DecisionRecord.objects.filter(at__lt=oldest).order_by("at").values_list("digest", flat=True)
        some = list(digests[:_ROWS_AT_ONCE])
        # The time is asked for again: a process may have told one since.
        forgotten += DecisionRecord.objects.filter(digest__in=some, at__lt=oldest).delete()[0]
        if len(some) < _ROWS_AT_ONCE:
            break
    return forgotten


def _moment(at: float) -> datetime:
    return datetime.fromtimestamp(at, UTC)


def write_key_use(client_keys: dict[int, tuple[float, str]], api_keys: dict[int, float]) -> None:
    """When keys were used last, client keys with the address; no process turns a time back that another one wrote."""
    _renew_connection()
    with transaction.atomic():
        _touch_client_keys(client_keys)
        _touch(ApiKey._meta.db_table, api_keys)


def _touch_client_keys(used: dict[int, tuple[float, str]]) -> None:
    for key_id, (at, address) in sorted(used.items()):
        key_use.write(key_id, _moment(at), address)


def _renew_connection() -> None:
    """A thread without requests has nobody else who notices that its connection is dead.

    Only after an error: opening one for each batch would cost as much as a fifth of its rows.
    """
    if connection.errors_occurred and not connection.in_atomic_block:
        connection.close_if_unusable_or_obsolete()


def close() -> None:
    """For the recorder's thread, when it ends."""
    connection.close()


class _Table:
    """One of the tables that a row is written to, by those of its columns that are the row's."""

    def __init__(self, model: type[models.Model]) -> None:
        own = {field.attname for field in model._meta.concrete_fields}
        self.columns = tuple(name for name in Row._fields if name in own)
        self._name = model._meta.db_table
        self._pick = itemgetter(*map(Row._fields.index, self.columns))
        self._at, self._cost = self.columns.index("at"), self.columns.index("cost")

    def add(self, rows: Sequence[Row], *, unless_there: bool = False) -> int:
        """How many were written. `unless_there` passes over what is there already, which else raises `IntegrityError`."""
        if connection.vendor == "postgresql" and not unless_there:
            return self._copy(rows)
        return self._insert(rows, unless_there)

    def _copy(self, rows: Sequence[Row]) -> int:
        names = ", ".join(map(connection.ops.quote_name, self.columns))
        statement = f"COPY {connection.ops.quote_name(self._name)} ({names}) FROM STDIN"
        cost = self._cost
        with connection.cursor() as cursor, connection.wrap_database_errors, cursor.cursor.copy(statement) as copy:
            for row in rows:
                values = self._pick(row)
                copy.write_row((*values[:cost], _money(values[cost]), *values[cost + 1 :]))
        return len(rows)

    def _insert(self, rows: Sequence[Row], unless_there: bool) -> int:
        """Many rows a statement: `executemany` would let go of the interpreter at each row, and wait to get it back."""
        on_sqlite = connection.vendor == "sqlite"
        adapted, place = (self._for_sqlite, "?") if on_sqlite else (self._adapted, "%s")
        written = 0
        with connection.cursor() as cursor, connection.wrap_database_errors:
            # Django's own cursor would search each statement for its thousands of places, to write them as SQLite does.
            execute = partial(sqlite3.Cursor.execute, cursor.cursor) if on_sqlite else cursor.execute
            for start in range(0, len(rows), _ROWS_AT_ONCE):
                some = rows[start : start + _ROWS_AT_ONCE]
                statement = _statement(self._name, self.columns, len(some), unless_there, place)
                execute(statement, [value for row in some for value in adapted(row)])
                written += cursor.rowcount
        return written

    def _adapted(self, row: Row) -> Sequence[Any]:
        """The row as the driver takes it."""
        values = list(self._pick(row))
        values[self._at] = connection.ops.adapt_datetimefield_value(row.at)
        values[self._cost] = connection.ops.adapt_decimalfield_value(
            _money(row.cost), _COST.max_digits, _COST.decimal_places
        )
        return values

    def _for_sqlite(self, row: Row) -> Sequence[Any]:
        """As Django stores it, without Django's general way, which costs as much as the insert."""
        values = list(self._pick(row))
        values[self._at] = str(row.at)[:-_UTC_OFFSET]
        if row.cost is not None:
            values[self._cost] = format(row.cost.quantize(_CENT), "f")
        return values


_LEDGER, _TRACES = _Table(UsageRecord), _Table(Trace)


@lru_cache(maxsize=4 * _ROWS_AT_ONCE)
def _statement(table: str, columns: tuple[str, ...], rows: int, unless_there: bool, place: str) -> str:
    ops = connection.ops
    conflict = OnConflict.IGNORE if unless_there else None
    names = ", ".join(map(ops.quote_name, columns))
    places = ", ".join([place] * len(columns))
    begin = ops.insert_statement(on_conflict=conflict)
    end = ops.on_conflict_suffix_sql(["id"], conflict, [], []) or ""
    return f"{begin} {ops.quote_name(table)} ({names}) VALUES {', '.join([f'({places})'] * rows)} {end}"


def _money(cost: Decimal | None) -> Decimal | None:
    return None if cost is None else cost.quantize(_CENT)


def _touch(table: str, used: dict[int, float]) -> None:
    if not used:
        return
    adapt = connection.ops.adapt_datetimefield_value
    with connection.cursor() as cursor:
        cursor.executemany(
            f"UPDATE {connection.ops.quote_name(table)} SET last_used_at = %s "
            "WHERE id = %s AND (last_used_at IS NULL OR last_used_at < %s)",
            [(moment, key_id, moment) for key_id, at in sorted(used.items()) for moment in [adapt(_moment(at))]],
        )
