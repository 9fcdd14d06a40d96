"""Lists as Anthropic's clients page through them: `after_id` or `before_id`, and `limit`; the newest first."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from django.db.models import QuerySet

from inference.api.openai_lists import beyond
from inference.errors import InvalidRequest
from inference.wire.message_batches import limit_of


def listed(
    rows: QuerySet[Any],
    asked: Mapping[str, str],
    named: Callable[[str, str], Any],
    document: Callable[[Any], dict[str, Any]],
) -> dict[str, Any]:
    """A page of rows that have `created_at`; `named` finds one by its id, of a parameter. Raises `InvalidRequest` and `NotFound`."""
    limit = limit_of(asked.get("limit"))
    found = list(_nearest(rows, asked, named)[: limit + 1])
    shown = [document(row) for row in found[:limit]]
    if "before_id" in asked:
        shown.reverse()
    return {
        "data": shown,
        "has_more": len(found) > limit,
        "first_id": shown[0]["id"] if shown else None,
        "last_id": shown[-1]["id"] if shown else None,
    }


def _nearest(rows: QuerySet[Any], asked: Mapping[str, str], named: Callable[[str, str], Any]) -> QuerySet[Any]:
    """Those nearest to the row that is named first: before it are the newer ones."""
    after, before = asked.get("after_id"), asked.get("before_id")
    if after and before:
        raise InvalidRequest("before_id: only one of 'after_id' and 'before_id' may be given", param="before_id")
    if before is not None:
        return rows.filter(beyond(named(before, "before_id"), "asc")).order_by("created_at", "id")
    if after is not None:
        rows = rows.filter(beyond(named(after, "after_id"), "desc"))
    return rows.order_by("-created_at", "-id")
