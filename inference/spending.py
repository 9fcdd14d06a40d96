"""What was spent, for `routing.spending`: full hours from the roll-ups, what a zone's half hours leave over from the ledger itself."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from django.db.models import Q, QuerySet, Sum

from inference.models import TagRollup, UsageRecord, UsageRollup
from providers.pricing import USD
from routing import subjects
from routing.rollout import GATEWAY
from routing.spending import Spending

_COLUMNS = {subjects.KEY: "client_key_id", subjects.TEAM: "team_id"}
_COUNTED = {"side": GATEWAY, "currency": USD}
_HOUR = timedelta(hours=1)


def of(asked: Spending) -> Mapping[int | str, Decimal]:
    """Amounts as they were charged: later corrections of prices are for reports."""
    column = _COLUMNS.get(asked.subject)
    found: dict[int | str, Decimal] = defaultdict(Decimal)
    for rows in _parts(asked):
        if column and asked.name is None:
            sums = rows.exclude(**{column: None}).values_list(column).annotate(total=Sum("cost"))
        else:
            name = "" if asked.name is None else asked.name
            sums = [(name, rows.aggregate(total=Sum("cost"))["total"])]  # type: ignore[assignment]
        for name, total in sums:
            if total:
                found[name] += total
    return dict(found)


def _parts(asked: Spending) -> Iterator[QuerySet[Any]]:
    start, end = asked.start.astimezone(UTC), asked.end.astimezone(UTC)
    first, last = _hour(start + _HOUR - timedelta.resolution), _hour(end)
    if first < last:
        summed: type[UsageRollup | TagRollup] = TagRollup if asked.subject == subjects.TAG else UsageRollup
        yield _of_subject(summed.objects.filter(hour__gte=first, hour__lt=last), asked)
    for edge in {(start, min(first, end)), (max(last, start), end)}:
        if edge[0] < edge[1]:
            yield _of_subject(UsageRecord.objects.filter(at__gte=edge[0], at__lt=edge[1], cost__isnull=False), asked)


def _hour(at: datetime) -> datetime:
    return at.replace(minute=0, second=0, microsecond=0)


def _of_subject(rows: QuerySet[Any], asked: Spending) -> QuerySet[Any]:
    rows = rows.filter(**_COUNTED).order_by()
    if asked.name is None:
        return rows
    if column := _COLUMNS.get(asked.subject):
        return rows.filter(**{column: asked.name})
    if asked.subject == subjects.PROVIDER:
        return rows.filter(provider_id=asked.name)
    if asked.subject == subjects.MODEL:
        return rows.filter(_is_model(str(asked.name)))
    if asked.subject == subjects.TAG:
        return rows.filter(tag=asked.name) if rows.model is TagRollup else rows.filter(tags__contains=f",{asked.name},")
    return rows


def _is_model(route: str) -> Q:
    """Ids of providers and of models may both hold slashes."""
    either = Q(pk=None)
    for cut in (place for place, letter in enumerate(route) if letter == "/"):
        either |= Q(provider_id=route[:cut], model_id=route[cut + 1 :])
    return either
