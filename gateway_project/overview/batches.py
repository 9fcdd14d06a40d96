"""Batches on the first page: those at work, what holds others, how many lines are left, and those that ended badly of late."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models import Count, F, Q, Sum
from django.urls import reverse

from inference import batch_lists, batch_looks, owners
from inference.batch_models import Batch

MOST_OPEN, MOST_FAILED = 5, 3
_BADLY = (Batch.State.FAILED, Batch.State.EXPIRED)


@dataclass(frozen=True, slots=True)
class Line:
    """`said` is why it failed."""

    name: str
    who: str
    link: str
    state: Any
    bar: Any
    said: str
    ended_at: datetime | None


@dataclass(frozen=True, slots=True)
class Batches:
    """Counts of those that are not over; `more` of them are not shown."""

    running: int
    held: int
    left: int
    open: list[Line]
    failed: list[Line]
    more: int


def told(user: Any, since: datetime) -> Batches | None:
    """None where there are none, or none for this user to see."""
    rows = batch_lists.visible(user)
    if not user.has_perm("inference.view_batch") or not rows.exists():
        return None
    under_way = rows.filter(state__in=Batch.OPEN).order_by()
    lines = Sum(F("total") - F("completed") - F("failed"), filter=Q(state=Batch.State.IN_PROGRESS))
    held = Q(state=Batch.State.IN_PROGRESS) & ~Q(held="")
    counts = under_way.aggregate(count=Count("pk"), held=Count("pk", filter=held), left=lines)
    shown = list(under_way.order_by("priority", "created_at")[:MOST_OPEN]) if counts["count"] else []
    failed = list(rows.filter(state__in=_BADLY, ended_at__gte=since).order_by("-ended_at")[:MOST_FAILED])
    names = owners.names([*shown, *failed]) if shown or failed else {}
    return Batches(
        counts["count"] - counts["held"],
        counts["held"],
        counts["left"] or 0,
        [_line(batch, names) for batch in shown],
        [_line(batch, names) for batch in failed],
        counts["count"] - len(shown),
    )


def _line(batch: Batch, names: dict[str, str]) -> Line:
    problem = batch.errors[0] if batch.errors else {}
    return Line(
        batch.model or batch.endpoint,
        names.get(batch.owner) or batch.owner,
        reverse("admin:inference_batch_change", args=[batch.pk]),
        batch_looks.state(batch),
        batch_looks.bar(batch) if batch.total and not batch.is_over else "",
        problem.get("message") or "",
        batch.ended_at,
    )
