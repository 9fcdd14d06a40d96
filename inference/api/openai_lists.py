"""Lists as OpenAI's clients page through them: `after` an id, `limit`, `order`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.db.models import Model, Q, QuerySet
from rest_framework.request import Request

from inference.errors import InvalidRequest


def listed(
    rows: QuerySet[Any], request: Request, document: Callable[[Any], dict[str, Any]], *, most: int, usual: int
) -> dict[str, Any]:
    """A page of rows that have `created_at`, the newest first unless `order` says `asc`. Raises `InvalidRequest`."""
    asked = request.query_params
    limit = limit_of(asked.get("limit"), most, usual)
    order = asked.get("order", "desc")
    if order not in ("asc", "desc"):
        raise InvalidRequest("'order' must be 'asc' or 'desc'.", param="order")
    if after := asked.get("after"):
        last: Model | None = rows.filter(pk=after).first()
        if last is None:
            raise InvalidRequest(f"There is nothing with the id '{after[:64]}'.", param="after")
        rows = rows.filter(beyond(last, order))
    sign = "-" if order == "desc" else ""
    found = list(rows.order_by(f"{sign}created_at", f"{sign}id")[: limit + 1])
    shown = [document(row) for row in found[:limit]]
    return {
        "object": "list",
        "data": shown,
        "first_id": shown[0]["id"] if shown else None,
        "last_id": shown[-1]["id"] if shown else None,
        "has_more": len(found) > limit,
    }


def beyond(last: Any, order: str) -> Q:
    """Of rows in that order of time, those after the row."""
    way = "lt" if order == "desc" else "gt"
    at = last.created_at
    return Q(**{f"created_at__{way}": at}) | Q(created_at=at, **{f"id__{way}": last.pk})


def limit_of(told: str | None, most: int, usual: int) -> int:
    """Of a page. Raises `InvalidRequest`."""
    if told is None:
        return usual
    if not told.isdecimal() or len(told) > len(str(most)) or not 1 <= int(told) <= most:
        raise InvalidRequest(f"'limit' must be from 1 to {most}.", param="limit")
    return int(told)
