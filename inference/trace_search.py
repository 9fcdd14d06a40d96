"""Finding requests among millions: by their names and by what they have in common, newest first, a page at a time.

Nothing is counted and no page is numbered: a page goes on where the one before ended. A search goes back through time in spans that
grow while they are read quickly, and ends after a moment; a page may so be short or even empty and still have one that follows
it, which goes on from `looked_back_to`. Without that, one rare combination would read the whole table.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Collection
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from time import perf_counter
from typing import Any

import orjson
from django.db import connection
from django.db.models import BooleanField, F, Q, QuerySet
from django.db.models.expressions import RawSQL

from inference.models import Trace
from inference.trace_partitions import horizon
from routing.models import ClientKey

OUTCOMES = ("answered", "failed", "rescued", "cut")
OWNERS = ("caller", "policy", "provider", "gateway")
MOST_ROWS = 500

_FIRST_SPAN = timedelta(minutes=10)
_QUICK, _SLOW, _ENOUGH = 0.02, 0.05, 0.08
"""Seconds: a span after which the next one is longer, or shorter, and after which all together the search ends."""
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


def find(search: Search, sight: Sight, *, now: datetime, limit: int = 50, cursor: str = "") -> Page:
    """Raises `BadCursor`."""
    place = _read(cursor) if cursor else None
    floor = max(horizon(now), search.since) if search.since is not None else horizon(now)
    rows = _matching(search, sight.narrowed(Trace.objects.filter(at__gte=floor))).defer(*_BULKY)
    if search.until is not None:
        rows = rows.filter(at__lt=search.until)
    rows = rows.order_by("-at", "-id")
    if place is not None:
        rows = rows.filter(at__lte=place[0]).exclude(at=place[0], id__gte=place[1])
    if search.id or search.session:  # there are few, and an index leads to them
        return _page(list(rows[: limit + 1]), limit)
    top = min(one for one in (now, search.until, None if place is None else place[0]) if one is not None)
    return _going_back(rows, top, floor, limit)


def one(name: str, sight: Sight, now: datetime) -> Trace | None:
    """The latest request of that id, or of the trace of that name."""
    rows = sight.narrowed(Trace.objects.filter(at__gte=horizon(now)))
    return rows.filter(request_id=name).first() or rows.filter(_named(name)).order_by("-at", "-id").first()


def _going_back(rows: QuerySet[Trace], top: datetime, floor: datetime, limit: int) -> Page:
    found: list[Trace] = []
    began, span, upper = perf_counter(), _FIRST_SPAN, None
    lower = top
    while True:
        lower = max(floor, lower - span)
        some = rows.filter(at__gte=lower) if upper is None else rows.filter(at__gte=lower, at__lt=upper)
        asked_at = perf_counter()
        found += some[: limit + 1 - len(found)]
        now = perf_counter()
        if len(found) > limit or lower <= floor:
            return _page(found, limit)
        if now - began > _ENOUGH:
            return Page(found, _written(lower, 0), lower)
        took = now - asked_at
        span = span * 4 if took < _QUICK else span / 2 if took > _SLOW else span
        upper = lower


def _page(found: list[Trace], limit: int) -> Page:
    if len(found) <= limit:
        return Page(found)
    last = found[limit - 1]
    return Page(found[:limit], _written(last.at, last.pk))


def _matching(search: Search, rows: QuerySet[Trace]) -> QuerySet[Trace]:
    if search.id:
        rows = rows.filter(_named(search.id))
    if search.key:
        known = ClientKey.objects.filter(prefix=search.key).values_list("pk", flat=True).first()
        rows = rows.filter(client_key_prefix=search.key) if known is None else rows.filter(client_key_id=known)
    if search.served_by:
        rows = rows.filter(_served_by(search.served_by))
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
        "side": search.side,
    }
    rows = rows.filter(**{name: value for name, value in exact.items() if value not in ("", None)})
    if search.session:
        rows = rows.exclude(session_id="")  # the words of the index
    if search.error:
        rows = rows.exclude(error_code="")
    if search.slower_than_ms is not None:
        rows = rows.filter(duration_ms__gte=search.slower_than_ms)
    return rows.filter(_ended(search.outcome)) if search.outcome else rows


def _named(name: str) -> Q:
    """A W3C trace id that we made holds the digits of the request's id."""
    ours = [name, f"{_NO_HEX}{name}", f"job_{name}"] if len(name) == 32 else [name]
    return Q(request_id__in=ours) | (Q(trace_id=name) & ~Q(trace_id=F("request_id")))


def _served_by(name: str) -> Q:
    """Model ids hold slashes as well; so a name is a route when it may be one, and else a model's id."""
    provider, _, model = name.partition("/")
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
