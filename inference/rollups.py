"""Adds lines of the ledger to the roll-ups, in the transaction that writes them: what is summed is what is written, once.

A batch is added up in memory first, by plain loops over columns, and then told in one statement a table. Its rows are in the
order of their keys for every process, so that two of them wait for each other and never in a circle.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import lru_cache, partial
from itertools import chain
from operator import itemgetter
from typing import Any

import orjson
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
_UTC_OFFSET = len("+00:00")

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
_ESTIMATED, _COST, _DURATION, _FIRST_BYTE, _OVERHEAD, _QUEUE, _AT = range(4, 11)
"""Places in `_MEASURED`."""

AMOUNTS = (
    *("requests", "failed", "left", "rescued", "streams", "estimated", "unpriced"),
    *("input_tokens", "output_tokens", "cached_tokens", "reasoning_tokens", "failed_tries", "cost", "duration_ms"),
)
_ROUTE = ("policy", "requested_model", "provider_id", "model_id", "currency")
_CLIENT = ("client_key_id", "client_key_prefix", "team_id")

_ONE_FAILED_TRY = tuple(int(name == "failed_tries") for name in AMOUNTS)

_bucket_of = partial(bisect_left, BOUNDS_MS)

_Key = tuple[Any, ...]
_Found = defaultdict[_Key, list[tuple[datetime, tuple[Any, ...]]]]
"""What a row sums for, with the latest moment and the amounts of each part."""
_Times = defaultdict[_Key, list[tuple[list[tuple[Any, ...]], bool]]]
"""Columns as measured, and whether they are of streams."""


class _Sums:
    """One table's part of a batch: amounts by what they are summed for."""

    def __init__(self, model: type[models.Model], by: tuple[str, ...], sums: tuple[str, ...], latest: str = "") -> None:
        self._model = model
        self._columns = ("digest", *by, *sums, *([latest] if latest else []))
        self._sums, self._latest = sums, latest

    def store(self, found: _Found) -> None:
        if not found:
            return
        lines = sorted([(_digest(key), *key, *self._amounts(parts)) for key, parts in found.items()], key=itemgetter(0))
        with connection.cursor() as cursor:
            if connection.vendor == "postgresql":
                cursor.execute(self._from_json(), [orjson.dumps([*map(self._named, lines)]).decode()])
                return
            for start in range(0, len(lines), _ROWS_AT_ONCE):
                some = lines[start : start + _ROWS_AT_ONCE]
                cursor.execute(self._of_values(len(some)), [_plain(value) for line in some for value in line])

    def _amounts(self, parts: list[tuple[datetime, tuple[Any, ...]]]) -> Iterable[Any]:
        amounts = parts[0][1] if len(parts) == 1 else map(sum, zip(*[part[1] for part in parts], strict=True))
        return (*amounts, max([part[0] for part in parts])) if self._latest else amounts

    def _named(self, line: tuple[Any, ...]) -> dict[str, Any]:
        return dict(zip(self._columns, line, strict=True))

    @lru_cache(maxsize=8)  # noqa: B019 -- there are five, for ever
    def _from_json(self) -> str:
        """One parameter: thousands of them cost the driver more than the database needs for all the rest."""
        types = {field.column: field.db_type(connection) for field in self._model._meta.concrete_fields}
        told = ", ".join(f'"{name}" {types[name]}' for name in self._columns)
        names = ", ".join(f'told."{name}"' for name in self._columns)
        return f"{self._begin()} SELECT {names} FROM json_to_recordset(%s::json) AS told ({told}) {self._end()}"

    @lru_cache(maxsize=8 * _ROWS_AT_ONCE)  # noqa: B019
    def _of_values(self, rows: int) -> str:
        line = f"({', '.join(['%s'] * len(self._columns))})"
        return f"{self._begin()} VALUES {', '.join([line] * rows)} {self._end()}"

    def _begin(self) -> str:
        names = ", ".join(f'"{name}"' for name in self._columns)
        return f"INSERT INTO {self._model._meta.db_table} ({names})"

    def _end(self) -> str:
        own, latest = self._model._meta.db_table, self._latest
        changes = [f'"{name}" = {own}."{name}" + excluded."{name}"' for name in self._sums]
        if latest:
            greatest = "GREATEST" if connection.vendor == "postgresql" else "MAX"
            changes.append(f"{latest} = {greatest}({own}.{latest}, excluded.{latest})")
        return f"ON CONFLICT (digest) DO UPDATE SET {', '.join(changes)}"


_USAGE_BY = ("hour", "side", "operation", *_CLIENT, *_ROUTE)
_USAGE = _Sums(UsageRollup, _USAGE_BY, AMOUNTS, "last_at")
_TAGS = _Sums(TagRollup, (*_USAGE_BY, "tag"), AMOUNTS, "last_at")
_TRAFFIC = _Sums(TrafficRollup, ("minute", "side", "operation", "team_id", *_ROUTE), AMOUNTS)
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


def add(lines: Iterable[Row], *, spend_only: bool = False) -> None:
    """Add lines of the ledger that were written just now, in the same transaction. Several tries of a request are several lines;
    the request counts by the line whose `attempt` is 0.

    `spend_only` leaves out what needs more than the ledger knows: minutes, failures and times.
    """
    usage: _Found = defaultdict(list)
    tags: _Found = defaultdict(list)
    traffic: _Found = defaultdict(list)
    failures: _Found = defaultdict(list)
    times: _Times = defaultdict(list)
    for (minute, *alike), group in _groups(lines).items():
        (side, operation, key_id, prefix, team_id, policy, requested, provider_id, model_id, currency) = alike[:10]
        (status, error_code, owner, stream, tag_text, attempts, attempt) = alike[10:]
        columns = list(zip(*map(_measured, group), strict=True))
        amounts = _amounts(columns, status, error_code, stream, attempts, attempt)
        latest = max(columns[_AT])
        hour = minute.replace(minute=0)
        route = (policy, requested if provider_id or policy else "", provider_id, model_id, currency)
        by_hour = (hour, side, operation, key_id, prefix, team_id, *route)
        usage[by_hour].append((latest, amounts))
        traffic[(minute, side, operation, team_id, *route)].append((latest, amounts))
        for tag in tag_text.split(",") if tag_text else ():
            if tag:
                tags[(*by_hour, tag)].append((latest, amounts))
        if attempt:
            continue
        if attempts > 1 or status >= 400 or error_code:
            for failed_at in _failed_tries(group):
                tried = (policy, route[1], *failed_at, currency)
                usage[(hour, side, operation, key_id, prefix, team_id, *tried)].append((latest, _ONE_FAILED_TRY))
                traffic[(minute, side, operation, team_id, *tried)].append((latest, _ONE_FAILED_TRY))
        if status >= 400 or error_code:
            key = (hour, side, operation, key_id, team_id, policy, provider_id, model_id, status, error_code, owner)
            failures[key].append((latest, (len(group),)))
        times[(minute, side, operation, provider_id, model_id)].append((columns, stream))
    # One order of the tables for all processes.
    _USAGE.store(usage)
    _TAGS.store(tags)
    if spend_only:
        return
    _TRAFFIC.store(traffic)
    _FAILURES.store(failures)
    _LATENCIES.store(_latencies(times))


class Corrections:
    """What later corrections add to the costs of lines of the ledger, or take away; told to the roll-ups all at once, at the end.

    The costs as they were stay; the differences show beside them. At the end and in the order in which everybody else writes them:
    a long transaction that held some of the sums and came back for more would stop the writers, or wait with one in a circle.
    """

    def __init__(self) -> None:
        self._by_hour: dict[str, Decimal] = defaultdict(Decimal)
        self._by_tag: dict[str, Decimal] = defaultdict(Decimal)

    def take(self, line: Any, difference: Decimal) -> None:
        """`line` has the attributes of `UsageRecord`. Of a correction of a correction, what the second adds to the first."""
        route = (line.policy, line.requested_model if line.provider_id or line.policy else "")
        key = (
            *(line.at.astimezone(UTC).replace(minute=0, second=0, microsecond=0), line.side, line.operation),
            *(line.client_key_id, line.client_key_prefix, line.team_id, *route),
            *(line.provider_id, line.model_id, line.currency),
        )
        exact = difference.quantize(_CENT)
        self._by_hour[_digest(key)] += exact
        for tag in filter(None, line.tags.split(",")):
            self._by_tag[_digest((*key, tag))] += exact

    def store(self) -> None:
        """In the transaction that writes the corrections."""
        for model, differences in ((UsageRollup, self._by_hour), (TagRollup, self._by_tag)):
            for digest, difference in sorted(differences.items()):
                added = models.F("correction") + models.Value(units(difference))
                model.objects.filter(digest=digest).update(correction=added)


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


def _failed_tries(group: Iterable[Row]) -> Iterator[tuple[str, str]]:
    """Provider and model of each try that went wrong there, whoever answered in the end. A caller who left is none."""
    for row in group:
        for one in _tries(row.attempts_log):
            status = one.get("status") or 0
            if status >= 400 and status != CLIENT_LEFT:
                yield one.get("provider_id", ""), one.get("model_id", "")


def _tries(log: str) -> list[dict[str, Any]]:
    """None of a text that is no list of them: one row must not keep all others from being written."""
    try:
        return [one for one in orjson.loads(log) if isinstance(one, dict)] if log else []
    except (orjson.JSONDecodeError, TypeError):
        return []


def _amounts(
    columns: list[tuple[Any, ...]], status: int, error_code: str, stream: bool, attempts: int, attempt: int
) -> tuple[Any, ...]:
    """In the order of `AMOUNTS`."""
    tokens = [sum(column) for column in columns[:4]]
    costs = columns[_COST]
    unpriced = 0
    if None in costs:
        unpriced = sum(
            [cost is None and bool(i or o) for cost, i, o in zip(costs, columns[0], columns[1], strict=True)]
        )
        costs = tuple(cost for cost in costs if cost is not None)
    spent = units(sum([cost.quantize(_CENT) for cost in costs], Decimal(0)))
    if attempt:
        return (0, 0, 0, 0, 0, 0, unpriced, *tokens, 0, spent, 0.0)
    count = len(columns[0])
    left = status == CLIENT_LEFT
    failed = not left and (status >= 400 or bool(error_code))
    rescued = status < 400 and attempts > 1
    return (
        *(count, count * failed, count * left, count * rescued, count * stream, sum(columns[_ESTIMATED]), unpriced),
        *(*tokens, 0, spent, sum(columns[_DURATION])),
    )


def _latencies(times: _Times) -> _Found:
    """Histograms, which are long, are made once for all that is in one of them."""
    found: _Found = defaultdict(list)
    for (minute, *route), groups in times.items():
        for measure, place in (
            (DURATION, _DURATION),
            (OVERHEAD, _OVERHEAD),
            (FIRST_BYTE, _FIRST_BYTE),
            (QUEUE, _QUEUE),
        ):
            taken = [
                *chain.from_iterable([columns[place] for columns, stream in groups if stream or measure != FIRST_BYTE])
            ]
            if measure == FIRST_BYTE:
                taken = [one for one in taken if one is not None]
            if not taken or (measure == QUEUE and not any(taken)):
                continue
            histogram = (minute, _histogram(taken))
            found[(minute, MINUTE, *route, measure)].append(histogram)
            found[(minute.replace(minute=0), HOUR, *route, measure)].append(histogram)
    return found


def _histogram(taken: Sequence[float]) -> tuple[Any, ...]:
    counts = Counter(map(_bucket_of, taken))
    return (len(taken), *[counts.get(number, 0) for number in range(len(BUCKETS))], sum(taken))


def _digest(key: _Key) -> str:
    return hashlib.blake2b(repr([str(part) for part in key]).encode(), digest_size=16).hexdigest()


def _plain(value: Any) -> Any:
    """As Django stores it where a time is a text, without the zone."""
    return str(value)[:-_UTC_OFFSET] if isinstance(value, datetime) else value
