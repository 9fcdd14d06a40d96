"""Background jobs to look at: found by state, key and model, newest first, a page at a time and never counted. Without what was said."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db.models import Q, QuerySet, TextField
from django.db.models.functions import Cast, Length

from inference import events, owners
from inference.models import Job

ROWS = 50


class BadCursor(ValueError):
    """A text that no page gave out."""


@dataclass(frozen=True, slots=True)
class Page:
    """`pieces` are those of the answers of running jobs; `keys` the names of owners by prefix."""

    rows: list[Any]
    pieces: dict[UUID, int]
    keys: dict[str, str]
    cursor: str = ""


def visible(user: Any) -> QuerySet[Job]:
    """Those that the user sees. Prompts and answers may be megabytes each and are nobody's business in a list."""
    return owners.visible(Job.objects.defer("request", "result"), user)


def page(rows: QuerySet[Job], *, state: str = "", key: str = "", model: str = "", cursor: str = "") -> Page:
    """Raises `BadCursor`."""
    asked = {"state": state, "owner": key, "model": model}
    rows = rows.filter(**{name: value for name, value in asked.items() if value})
    if cursor:
        at, job_id = _read(cursor)
        rows = rows.filter(Q(created_at__lt=at) | Q(created_at=at, id__lt=job_id))
    rows = rows.annotate(result_size=Length(Cast("result", TextField())))
    found = list(rows.order_by("-created_at", "-id")[: ROWS + 1])
    more, shown = len(found) > ROWS, found[:ROWS]
    last = shown[-1] if more else None
    return Page(
        shown,
        _pieces(shown),
        owners.names(shown),
        f"{last.created_at.isoformat()}_{last.pk}" if last is not None else "",
    )


def _pieces(jobs: list[Any]) -> dict[UUID, int]:
    """Each time that a worker began is an event beside them."""
    running = [job for job in jobs if job.state == Job.State.RUNNING]
    counts = events.lengths(settings.REDIS_URL, [job.pk for job in running])
    return {job.pk: max(0, count - job.fence) for job, count in zip(running, counts, strict=True)}


def _read(cursor: str) -> tuple[datetime, UUID]:
    at, _, job_id = cursor.partition("_")
    try:
        moment = datetime.fromisoformat(at)
        if moment.tzinfo is None:
            raise BadCursor("That is not a cursor of this list.")
        return moment, UUID(job_id)
    except ValueError as error:
        raise BadCursor("That is not a cursor of this list.") from error
