"""Batches to look at: found by state and key, newest first, a page at a time and never counted. Without what was said."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.db.models import Q, QuerySet

from inference import owners
from inference.batch_models import Batch

ROWS = 50
WORKING = "working"
"""Of all the states in which a batch is not over."""


@dataclass(frozen=True, slots=True)
class Page:
    """`keys` are the names of owners by prefix; `cursor` leads to the next page, empty on the last."""

    rows: list[Batch]
    keys: dict[str, str]
    cursor: str = ""


def visible(user: Any) -> QuerySet[Batch]:
    return owners.visible(Batch.objects.all(), user)


def page(rows: QuerySet[Batch], *, state: str = "", key: str = "", cursor: str = "") -> Page:
    """A cursor that no page gave out leads to an empty one."""
    if state == WORKING:
        rows = rows.filter(state__in=Batch.OPEN)
    elif state:
        rows = rows.filter(state=state)
    if key:
        rows = rows.filter(owner=key)
    if cursor:
        last = Batch.objects.filter(pk=cursor).first()
        if last is None:
            return Page([], {})
        rows = rows.filter(Q(created_at__lt=last.created_at) | Q(created_at=last.created_at, id__lt=last.pk))
    found = list(rows.order_by("-created_at", "-id")[: ROWS + 1])
    shown = found[:ROWS]
    return Page(shown, owners.names(shown), shown[-1].pk if len(found) > ROWS else "")


def answered(batch: Batch) -> int:
    """Lines, whatever the answer was. Those that were never asked count as failed once a batch has ended before its time."""
    early = batch.is_over and batch.state != Batch.State.COMPLETED
    return batch.completed if early else batch.completed + batch.failed


def percent(batch: Batch) -> int:
    """Of the lines, how many are answered."""
    return 100 * answered(batch) // batch.total if batch.total else 0
