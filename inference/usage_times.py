"""How long requests took, over a span: percentiles from histograms by hour, by model, provider and operation.

No team's and no key's: that is not summed, and a percentile of percentiles would be no number at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from django.db.models import Q, Sum
from django.db.models.functions import TruncDay, TruncHour, TruncMonth, TruncWeek

from inference import spend_reports
from inference.models import LatencyRollup
from inference.rollup_models import BUCKETS, DURATION, FIRST_BYTE, HOUR
from inference.rollup_windows import NO_TIMES, Times
from inference.spend_reports import MODEL, OPERATION, PROVIDER, BadReport, Question

_COLUMNS = {MODEL: ("provider_id", "model_id"), PROVIDER: ("provider_id",), OPERATION: ("operation",)}
_TRUNC: dict[str, Any] = {"hour": TruncHour, "day": TruncDay, "week": TruncWeek, "month": TruncMonth}
PERCENTS = (50, 95, 99)

Key = tuple[tuple[str, ...], datetime | None]
"""Names of the groups, and the beginning of the step."""


def histograms(question: Question, measure: str) -> dict[Key, Times]:
    """By the question's groups and step. Raises `BadReport` where that is not summed."""
    groups = tuple(name for name in question.group_by if name not in spend_reports.TIMES)
    for name in groups:
        if name not in _COLUMNS:
            raise BadReport("group_by", f"Times are summed by {', '.join(_COLUMNS)}, not by {name}.")
    for name in ("key", "team", "policy", "tag"):
        if getattr(question, name) not in ("", None):
            raise BadReport(name, f"Times are summed by {', '.join(_COLUMNS)}, not by {name}.")
    rows = LatencyRollup.objects.filter(
        span=HOUR, measure=measure, at__gte=question.start, at__lt=question.end, side=question.side
    ).filter(_narrowing(question))
    columns = list(dict.fromkeys(column for name in groups for column in _COLUMNS[name]))
    for step in question.times:
        rows = rows.annotate(time=_TRUNC[step]("at", tzinfo=ZoneInfo(question.time_zone)))
        columns.append("time")
    sums: dict[str, Any] = {f"sum_{name}": Sum(name) for name in ("requests", "total_ms", *BUCKETS)}
    found: dict[Key, Times] = {}
    for row in rows.order_by().values(*columns).annotate(**sums) if columns else [rows.aggregate(**sums)]:
        if row["sum_requests"]:
            key = (tuple(_name(name, row) for name in groups), row.get("time"))
            counts = tuple(row[f"sum_{name}"] for name in BUCKETS)
            found[key] = found.get(key, NO_TIMES).plus(Times(row["sum_requests"], row["sum_total_ms"], counts))
    return found


def over_groups(told: dict[Key, Times]) -> dict[tuple[str, ...], Times]:
    """The same without the steps of time."""
    found: dict[tuple[str, ...], Times] = {}
    for (names, _at), times in told.items():
        found[names] = found.get(names, NO_TIMES).plus(times)
    return found


def document(question: Question) -> dict[str, Any]:
    """As the API and the command tell it."""
    duration, first = (histograms(question, measure) for measure in (DURATION, FIRST_BYTE))
    groups = [name for name in question.group_by if name not in spend_reports.TIMES]
    keys = sorted(duration, key=lambda key: (key[1].isoformat() if key[1] else "", -duration[key].requests, key[0]))
    return {
        "since": question.start.isoformat(),
        "until": question.end.isoformat(),
        "time_zone": question.time_zone,
        "group_by": list(question.group_by),
        "lines": [
            {
                "by": dict(zip(groups, names, strict=True)) | ({"time": at.isoformat()} if at else {}),
                "requests": duration[names, at].requests,
                "duration_ms": _percentiles(duration[names, at]),
                "first_byte_ms": _percentiles(first.get((names, at), NO_TIMES)),
            }
            for names, at in keys
        ],
    }


def _percentiles(times: Times) -> dict[str, float | None]:
    told: dict[str, float | None] = {"mean": times.mean_ms}
    told |= {f"p{percent}": times.percentile(percent) for percent in PERCENTS}
    return {name: None if value is None else round(value, 3) for name, value in told.items()}


def _narrowing(question: Question) -> Q:
    where = Q()
    if question.provider:
        where &= Q(provider_id=question.provider)
    if question.operation:
        where &= Q(operation=question.operation)
    return where & spend_reports.is_model(question.model) if question.model else where


def _name(group: str, row: Any) -> str:
    if group == MODEL:
        return f"{row['provider_id']}/{row['model_id']}" if row["model_id"] else ""
    return row[_COLUMNS[group][0]]


def names_of(line_by: Sequence[Any]) -> tuple[str, ...]:
    """A report line's groups as a key of `over_groups`."""
    return tuple(str(value or "") for value in line_by)
