"""Adds lines of the ledger to the roll-ups, in the transaction that writes them: what is summed is what is written, once.

A batch is added up in memory first, by plain loops over columns, and then told in one statement a table. Its rows are in the
order of their keys for every process, so that two of them wait for each other and never in a circle.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from operator import itemgetter
from typing import Any

from django.db import connection, models

from inference.recording import Row
from inference.rollup_models import (
    BOUNDS_MS,
    BUCKETS,
    DURATION,
    FIRST_BYTE,
    HOUR,
    MINUTE,
    MONEY_PLACES,
    OVERHEAD,
    QUEUE,
    FailureRollup,
    LatencyRollup,
    TagRollup,
    TrafficRollup,
    UsageRollup,
    units,
)

CLIENT_LEFT = 499

_CENT = Decimal(1).scaleb(-MONEY_PLACES)
_ROWS_AT_ONCE = 100
_MINUTE = timedelta(seconds=MINUTE)

_ALIKE = (
    *("side", "operation", "client_key_id", "client_key_prefix", "team_id", "policy", "requested_model"),
    *(
        "provider_id",
        "model_id",
        "currency",
        "status",
        "error_code",
        "error_owner",
        "stream",
        "tags",
        "attempts",
        "attempt",
    ),
)
"""Lines that have these in common, and the minute, are added up before anything else is done with them."""
_alike = itemgetter(*map(Row._fields.index, _ALIKE))
_MEASURED = (
    *("input_tokens", "output_tokens", "cached_tokens", "reasoning_tokens", "estimated"),
    *("cost", "duration_ms", "first_byte_ms", "overhead_ms", "queue_ms", "at"),
)
_measured = itemgetter(*map(Row._fields.index, _MEASURED))

_AMOUNTS = (
    *("requests", "failed", "left", "rescued", "streams", "estimated", "unpriced"),
    *("input_tokens", "output_tokens", "cached_tokens", "reasoning_tokens", "cost", "duration_ms"),
)
_ROUTE = ("policy", "requested_model", "provider_id", "model_id", "currency")
_CLIENT = ("client_key_id", "client_key_prefix", "team_id")

_Key = tuple[Any, ...]


class _Sums:
    """One table's part of a batch: amounts by what they are summed for."""

    def __init__(self, model: type[models.Model], by: tuple[str, ...], sums: tuple[str, ...], latest: str = "") -> None:
        self._name = model._meta.db_table
        self._by, self._sums, self._latest = by, sums, latest

    def statement(self, rows: int) -> str:
        return _upsert(self._name, self._by, self._sums, self._latest, rows)

    def store(self, found: dict[_Key, list[Any]]) -> None:
        """`found` has the amounts in the order of the columns, with the latest moment at the end where there is one."""
        if not found:
            return
        told = _as_the_driver_takes_it
        lines = sorted([(_digest(key), key, amounts) for key, amounts in found.items()], key=itemgetter(0))
        with connection.cursor() as cursor:
            for start in range(0, len(lines), _ROWS_AT_ONCE):
                some = lines[start : start + _ROWS_AT_ONCE]
                values = [
                    value
                    for digest, key, amounts in some
                    for value in (digest, told(key[0]), *key[1:], *amounts[:-1], told(amounts[-1]))
                ]
                cursor.execute(self.statement(len(some)), values)


_USAGE_BY = ("hour", "side", "operation", *_CLIENT, *_ROUTE)
_USAGE = _Sums(UsageRollup, _USAGE_BY, _AMOUNTS, "last_at")
_TAGS = _Sums(TagRollup, (*_USAGE_BY, "tag"), _AMOUNTS, "last_at")
_TRAFFIC = _Sums(TrafficRollup, ("minute", "side", "operation", *_ROUTE), _AMOUNTS)
_FAILURES = _Sums(
    FailureRollup,
    (
        *("hour", "side", "operation", "client_key_id", "team_id", "policy", "provider_id", "model_id"),
        *("status", "error_code", "error_owner"),
    ),
    ("requests",),
    "last_at",
)
_LATENCIES = _Sums(
    LatencyRollup,
    ("at", "span", "side", "operation", "provider_id", "model_id", "measure"),
    ("requests", *BUCKETS, "total_ms"),
)


def add(lines: Iterable[Row]) -> None:
    """Add lines of the ledger that were written just now, in the same transaction. Several tries of a request are several lines;
    the request counts by the line whose `attempt` is 0."""
    usage, tags, traffic, failures, latencies = {}, {}, {}, {}, {}  # type: ignore[var-annotated]
    for (minute, *alike), group in _groups(lines).items():
        (side, operation, key_id, prefix, team_id, policy, requested, provider_id, model_id, currency) = alike[:10]
        (status, error_code, owner, stream, tag_text, attempts, attempt) = alike[10:]
        columns = list(zip(*map(_measured, group), strict=True))
        latest = max(columns[10])
        amounts = _amounts(columns, status, error_code, stream, attempts, attempt)
        hour = minute.replace(minute=0)
        route = (policy, requested if provider_id or policy else "", provider_id, model_id, currency)
        by_hour = (hour, side, operation, key_id, prefix, team_id, *route)
        _fold(usage, by_hour, amounts, latest)
        _fold(traffic, (minute, side, operation, *route), amounts)
        for tag in tag_text.split(",") if tag_text else ():
            if tag:
                _fold(tags, (*by_hour, tag), amounts, latest)
        if attempt:
            continue
        if status >= 400 or error_code:
            key = (hour, side, operation, key_id, team_id, policy, provider_id, model_id, status, error_code, owner)
            _fold(failures, key, (len(group),), latest)
        for measure, column in _times(columns, stream):
            taken = _histogram(column)
            told = (side, operation, provider_id, model_id, measure)
            _fold(latencies, (minute, MINUTE, *told), taken)
            _fold(latencies, (hour, HOUR, *told), taken)
    # One order of the tables for all processes.
    _USAGE.store(usage)
    _TAGS.store(tags)
    _TRAFFIC.store(traffic)
    _FAILURES.store(failures)
    _LATENCIES.store(latencies)


def correct(line: Any, difference: Decimal) -> None:
    """Tell the roll-ups what a correction adds to the cost of a line of the ledger, or takes away; in the same transaction.

    `line` has the attributes of `UsageRecord`. The cost as it was stays; the difference shows beside it. With a correction of a
    correction, `difference` is what the second adds to the first.
    """
    route = (line.policy, line.requested_model if line.provider_id or line.policy else "")
    key = (
        *(line.at.astimezone(UTC).replace(minute=0, second=0, microsecond=0), line.side, line.operation),
        *(line.client_key_id, line.client_key_prefix, line.team_id, *route),
        *(line.provider_id, line.model_id, line.currency),
    )
    _correct(UsageRollup, key, difference)
    for tag in filter(None, line.tags.split(",")):
        _correct(TagRollup, (*key, tag), difference)


def _correct(model: Any, key: _Key, difference: Decimal) -> None:
    quantized = difference.quantize(_CENT)
    model.objects.filter(digest=_digest(key)).update(correction=models.F("correction") + models.Value(units(quantized)))


def _groups(lines: Iterable[Row]) -> dict[_Key, list[Row]]:
    groups: dict[_Key, list[Row]] = {}
    begin = end = datetime.min.replace(tzinfo=UTC)
    for line in lines:
        at = line.at
        if not begin <= at < end:
            begin = at.astimezone(UTC).replace(second=0, microsecond=0)
            end = begin + _MINUTE
        key = (begin, *_alike(line))
        if (group := groups.get(key)) is None:
            groups[key] = [line]
        else:
            group.append(line)
    return groups


def _amounts(
    columns: list[tuple[Any, ...]], status: int, error_code: str, stream: bool, attempts: int, attempt: int
) -> tuple[Any, ...]:
    """In the order of `_AMOUNTS`."""
    tokens = [sum(column) for column in columns[:4]]
    costs = columns[5]
    unpriced = 0
    if None in costs:
        unpriced = sum(
            [cost is None and bool(i or o) for cost, i, o in zip(costs, columns[0], columns[1], strict=True)]
        )
        costs = tuple(cost for cost in costs if cost is not None)
    spent = units(sum([cost.quantize(_CENT) for cost in costs], Decimal(0)))
    if attempt:
        return (0, 0, 0, 0, 0, 0, unpriced, *tokens, spent, 0.0)
    count = len(columns[0])
    left = status == CLIENT_LEFT
    failed = not left and (status >= 400 or bool(error_code))
    rescued = status < 400 and attempts > 1
    return (
        *(count, count * failed, count * left, count * rescued, count * stream, sum(columns[4]), unpriced),
        *(*tokens, spent, sum(columns[6])),
    )


def _times(columns: list[tuple[Any, ...]], stream: bool) -> Iterable[tuple[str, Sequence[float]]]:
    yield DURATION, columns[6]
    yield OVERHEAD, columns[8]
    if stream:
        first_bytes = [taken for taken in columns[7] if taken is not None]
        if first_bytes:
            yield FIRST_BYTE, first_bytes
    if any(columns[9]):
        yield QUEUE, columns[9]


def _histogram(column: Sequence[float]) -> list[Any]:
    counts = Counter([bisect_left(BOUNDS_MS, taken) for taken in column])
    return [len(column), *map(counts.__getitem__, range(len(BUCKETS))), sum(column)]


def _fold(found: dict[_Key, list[Any]], key: _Key, amounts: Sequence[Any], latest: datetime | None = None) -> None:
    known = found.get(key)
    if known is None:
        found[key] = [*amounts] if latest is None else [*amounts, latest]
        return
    for place, amount in enumerate(amounts):
        known[place] += amount
    if latest is not None and latest > known[-1]:
        known[-1] = latest


def _digest(key: _Key) -> str:
    return hashlib.blake2b(repr([str(part) for part in key]).encode(), digest_size=16).hexdigest()


def _as_the_driver_takes_it(value: Any) -> Any:
    return connection.ops.adapt_datetimefield_value(value) if isinstance(value, datetime) else value


@lru_cache(maxsize=8 * _ROWS_AT_ONCE)
def _upsert(table: str, by: tuple[str, ...], sums: tuple[str, ...], latest: str, rows: int) -> str:
    quote = connection.ops.quote_name
    own = quote(table)
    columns = ["digest", *by, *sums, *([latest] if latest else [])]
    greater = "GREATEST" if connection.vendor == "postgresql" else "MAX"
    changes = [f"{quote(name)} = {own}.{quote(name)} + excluded.{quote(name)}" for name in sums]
    if latest:
        changes.append(f"{quote(latest)} = {greater}({own}.{quote(latest)}, excluded.{quote(latest)})")
    places = ", ".join(["%s"] * (1 + len(by) + len(sums) + bool(latest)))
    values = ", ".join([f"({places})"] * rows)
    return (
        f"INSERT INTO {own} ({', '.join(map(quote, columns))}) VALUES {values} "
        f"ON CONFLICT (digest) DO UPDATE SET {', '.join(changes)}"
    )
