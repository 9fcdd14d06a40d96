"""Finding requests among millions: by their names and by what they have in common, newest first, a page at a time.

Nothing is counted and no page is numbered: a page goes on where the one before ended. A search goes back through time in spans that
grow while they are read quickly, and ends after a moment; a page may so be short or even empty and still have one that follows
it, which goes on from `looked_back_to`. Without that, one rare combination would read the whole table.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime, timedelta
from time import perf_counter
from typing import Any

import orjson
from django.db import OperationalError, connection, transaction
from django.db.models import BooleanField, DateTimeField, F, Q, QuerySet
from django.db.models.expressions import OrderBy, RawSQL

from inference.models import Trace
from inference.trace_partitions import horizon
from providers.models import Provider
from routing.models import ClientKey
from routing.rollout import PROBE

ALL_SIDES = "all"

OUTCOMES = ("answered", "failed", "rescued", "cut")
OWNERS = ("caller", "policy", "provider", "gateway")
MOST_ROWS = 500

_FIRST_SPAN = timedelta(minutes=1)
_LEAST_SPAN = timedelta(seconds=1)
_NEAR = timedelta(days=1)
_SHORTLY = 0.05
"""Seconds for what an index leads to."""
_INDEXED = {"key", "own key", "team", "model", "served_by", "provider", "error", "status", "outcome"}
_QUICK, _SLOW, _ENOUGH = 0.01, 0.04, 0.07
"""Seconds: a span after which the next one is longer, or shorter, and after which all together the search ends."""
_CANCELED = "57014"
_BULKY = ("asked", "attempts_log", "decision")
_NO_HEX = "req_"


@dataclass(frozen=True, slots=True)
class Search:
    """What to find; what is empty matters not. Names are compared as a whole."""

    id: str = ""
    """Of the request, or of its trace in whatever form: the caller's, ours, or W3C's 32 digits."""
    key: str = ""
    """Prefix of a client key."""
    team: int | None = None
    model: str = ""
    """As it was asked for: a model, an alias, a policy or a node."""
    served_by: str = ""
    """`provider/model`, or a model of whatever provider."""
    provider: str = ""
    policy: str = ""
    session: str = ""
    tag: str = ""
    error: str = ""
    owner: str = ""
    status: int | None = None
    outcome: str = ""
    operation: str = ""
    side: str = ""
    """Of `routing.rollout`. Empty is all but probes, which nobody asked for; `ALL_SIDES` is those too."""
    slower_than_ms: float | None = None
    since: datetime | None = None
    until: datetime | None = None

    @property
    def is_empty(self) -> bool:
        return all(getattr(self, one.name) in ("", None) for one in fields(self))


@dataclass(frozen=True, slots=True)
class Page:
    """`cursor` leads to the next page and is empty when there is none."""

    rows: list[Trace]
    cursor: str = ""
    looked_back_to: datetime | None = None
    """Where the search ended before the page was full, and goes on."""


class BadCursor(ValueError):
    """A text that no page gave out."""


@dataclass(frozen=True, slots=True)
class Sight:
    """Whose requests may be seen: those of these teams, or of this client key; of all, when both are None."""

    teams: Collection[int] | None = None
    key_id: int | None = None

    def narrowed(self, rows: QuerySet[Trace]) -> QuerySet[Trace]:
        if self.key_id is not None:
            rows = rows.filter(client_key_id=self.key_id)
        return rows if self.teams is None else rows.filter(team_id__in=self.teams)


EVERYTHING = Sight()


def find(
    search: Search, sight: Sight, *, now: datetime, limit: int = 50, cursor: str = "", whole: bool = False
) -> Page:
    """Rows lack their longest columns unless they are wanted `whole`: asking for one of a row later would look through all of them,
    as a partitioned table has no index of row numbers alone. Raises `BadCursor`."""
    place = _read(cursor) if cursor else None
    floor = max(horizon(now), search.since) if search.since is not None else horizon(now)
    rows = _matching(search, sight.narrowed(Trace.objects.filter(at__gte=floor)))
    if not whole:
        rows = rows.defer(*_BULKY)
    if search.until is not None:
        rows = rows.filter(at__lt=search.until)
    rows = rows.order_by(*_newest_first(search))
    if place is not None:
        rows = rows.filter(at__lte=place[0]).exclude(at=place[0], id__gte=place[1])
    if search.id or search.session:  # there are few, and an index leads to them
        return _page(list(rows[: limit + 1]), limit)
    top = min(one for one in (now, search.until, None if place is None else place[0]) if one is not None)
    if _is_in_order(search, sight):
        try:
            with _patiently(_SHORTLY):
                return _page(list(rows[: limit + 1]), limit)
        except OperationalError as error:
            if not _was_too_slow(error):
                raise
    return _Walk(rows, top, floor, limit).page()


def _is_in_order(search: Search, sight: Sight) -> bool:
    """One index leads to what is looked for, and gives it in the order of time."""
    told = {one.name for one in fields(search) if getattr(search, one.name) not in ("", None)} - {"since", "until"}
    if sight.key_id is not None:
        told.add("own key")
    indexed = told <= _INDEXED and search.outcome in ("", "failed", "rescued") and (search.status or 400) >= 400
    return len(told) <= 1 and indexed and sight.teams is None


def one(name: str, sight: Sight, now: datetime) -> Trace | None:
    """The latest request of that id, or of the trace of that name."""
    if "\0" in name:  # PostgreSQL takes no question with one
        return None
    rows = sight.narrowed(Trace.objects.filter(at__gte=horizon(now)))
    return rows.filter(request_id=name).first() or rows.filter(_named(name)).order_by("-at", "-id").first()


def neighbours(trace: Trace, search: Search, sight: Sight) -> tuple[str, str]:
    """Ids of the next newer and the next older request of the same search; empty where there is none within a day of this one."""
    if search.since is not None or search.until is not None:
        search = replace(search, since=None, until=None)
    rows = _matching(search, sight.narrowed(Trace.objects.all())).only("request_id", "at")
    newer = rows.filter(at__gte=trace.at, at__lt=trace.at + _NEAR).exclude(at=trace.at, id__lte=trace.pk)
    older = rows.filter(at__lte=trace.at, at__gt=trace.at - _NEAR).exclude(at=trace.at, id__gte=trace.pk)
    return _first(newer.order_by("at", "id")), _first(older.order_by("-at", "-id"))


def _first(rows: QuerySet[Trace]) -> str:
    """Empty as well where it could not be found at once."""
    try:
        with _patiently(_SHORTLY):
            found = rows.first()
    except OperationalError as error:
        if not _was_too_slow(error):
            raise
        return ""
    return found.request_id if found is not None else ""


class _Walk:
    """Back through time, span by span, until the page is full, the time is up or there is no more."""

    def __init__(self, rows: QuerySet[Trace], top: datetime, floor: datetime, limit: int) -> None:
        self._rows = rows
        self._floor = floor
        self._limit = limit
        self._found: list[Trace] = []
        self._lower = top
        self._upper: datetime | None = None
        """None at the newest end: clocks of several machines differ."""

    def page(self) -> Page:
        span = _FIRST_SPAN
        while True:
            try:
                with _patiently(None if span <= _LEAST_SPAN else _ENOUGH):
                    return self._walked(span)
            except OperationalError as error:
                if not _was_too_slow(error):
                    raise
            if self._upper is not None:
                return self._so_far()
            span /= 10  # not even the first span was read in time

    def _walked(self, span: timedelta) -> Page:
        began = perf_counter()
        while True:
            lower = max(self._floor, self._lower - span)
            some = self._rows.filter(at__gte=lower)
            if self._upper is not None:
                some = some.filter(at__lt=self._upper)
            asked_at = perf_counter()
            self._found += some[: self._limit + 1 - len(self._found)]
            self._lower = self._upper = lower
            now = perf_counter()
            if len(self._found) > self._limit or lower <= self._floor:
                return _page(self._found, self._limit)
            if now - began > _ENOUGH:
                return self._so_far()
            took = now - asked_at
            span = span * 4 if took < _QUICK else span / 2 if took > _SLOW else span

    def _so_far(self) -> Page:
        return Page(self._found, _written(self._lower, 0), self._lower)


@contextmanager
def _patiently(seconds: float | None) -> Iterator[None]:
    """On PostgreSQL no statement may take longer; None waits. Compiling a query for one page and waking other processes for it would
    cost more than reading it."""
    if connection.vendor != "postgresql":
        yield
        return
    within = connection.in_atomic_block
    with transaction.atomic(), connection.cursor() as cursor:
        limit = 0 if seconds is None else max(1, int(seconds * 1000))
        cursor.execute(
            f"SET LOCAL jit = off; SET LOCAL max_parallel_workers_per_gather = 0; SET LOCAL statement_timeout = {limit}"
        )
        yield
        if within:  # what was set would last as long as the transaction around
            cursor.execute("RESET jit; RESET max_parallel_workers_per_gather; RESET statement_timeout")


def _was_too_slow(error: OperationalError) -> bool:
    return getattr(error.__cause__, "sqlstate", "") == _CANCELED


def _newest_first(search: Search) -> tuple[Any, ...]:
    """PostgreSQL shall look into the index of tags, or of ids, and not read back in order of time until it has found enough."""
    if (search.tag or search.id) and connection.vendor == "postgresql":
        at = RawSQL("inference_trace.at + interval '0 s'", [], output_field=DateTimeField())
        return OrderBy(at, descending=True), "-id"
    return "-at", "-id"


def _page(found: list[Trace], limit: int) -> Page:
    if len(found) <= limit:
        return Page(found)
    last = found[limit - 1]
    return Page(found[:limit], _written(last.at, last.pk))


def _matching(search: Search, rows: QuerySet[Trace]) -> QuerySet[Trace]:
    if search.id:
        rows = rows.filter(_named(search.id))
    elif not search.side:
        rows = rows.exclude(side=PROBE)
    if search.key:
        known = ClientKey.objects.filter(prefix=search.key).values_list("pk", flat=True).first()
        rows = rows.filter(client_key_prefix=search.key) if known is None else rows.filter(client_key_id=known)
    if search.served_by:
        rows = rows.filter(served_by(search.served_by))
    if search.tag:
        rows = _tagged(rows, search.tag)
    exact = {
        "team_id": search.team,
        "requested_model": search.model,
        "provider_id": search.provider,
        "policy": search.policy,
        "session_id": search.session,
        "error_code": search.error,
        "error_owner": search.owner,
        "status": search.status,
        "operation": search.operation,
        "side": "" if search.side == ALL_SIDES else search.side,
    }
    rows = rows.filter(**{name: value for name, value in exact.items() if value not in ("", None)})
    if search.session:
        rows = rows.exclude(session_id="")  # the words of the index
    if search.error:
        rows = rows.exclude(error_code="")
    if search.owner or search.outcome == "cut":
        rows = rows.filter(Trace.FAILED)
    if search.status is not None and search.status >= 400:
        rows = rows.filter(status__gte=400)
    if search.slower_than_ms is not None:
        rows = rows.filter(duration_ms__gte=search.slower_than_ms)
    return rows.filter(_ended(search.outcome)) if search.outcome else rows


def _named(name: str) -> Q:
    """A W3C trace id that we made holds the digits of the request's id."""
    ours = [name, f"{_NO_HEX}{name}", f"job_{name}"] if len(name) == 32 else [name]
    return Q(request_id__in=ours) | (Q(trace_id=name) & ~Q(trace_id=F("request_id")))


def served_by(name: str) -> Q:
    """Model ids hold slashes as well: a name is a route when it begins with a provider, and else a model's id."""
    provider, _, model = name.partition("/")
    if model and Provider.objects.filter(provider_id=provider).exists():
        return Q(provider_id=provider, model_id=model)
    return Q(provider_id=provider, model_id=model) | Q(model_id=name) if model else Q(model_id=name)


def _tagged(rows: QuerySet[Trace], tag: str) -> QuerySet[Trace]:
    """With PostgreSQL in the words of its index."""
    if connection.vendor != "postgresql":
        return rows.filter(tags__contains=f",{tag},")
    held = "string_to_array(trim(both ',' from tags), ',') @> ARRAY[%s]::text[] AND tags <> ''"
    return rows.filter(RawSQL(held, [tag], output_field=BooleanField()))


def _ended(outcome: str) -> Q:
    return {
        "answered": Q(status__lt=400, error_code=""),
        "failed": Trace.FAILED,
        "rescued": Q(status__lt=400, attempts__gt=1, error_code=""),
        "cut": Q(status__lt=400) & ~Q(error_code=""),
    }[outcome]


def _written(at: datetime, row_id: int) -> str:
    return base64.urlsafe_b64encode(orjson.dumps([at.astimezone(UTC).isoformat(), row_id])).decode().rstrip("=")


def _read(cursor: str) -> tuple[datetime, int]:
    try:
        told: Any = orjson.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        at, row_id = datetime.fromisoformat(told[0]), told[1]
        if at.tzinfo is None or not isinstance(row_id, int) or not 0 <= row_id < 2**63:
            raise BadCursor
    except (ValueError, TypeError, LookupError, binascii.Error):
        raise BadCursor("That is not a cursor of this list.") from None
    return at, row_id
