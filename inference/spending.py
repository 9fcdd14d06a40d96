"""What was spent, summed from the ledger: the answer that `routing.spending` asks for."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from django.db.models import Q, QuerySet, Sum

from inference.models import UsageRecord
from routing import subjects
from routing.rollout import GATEWAY
from routing.spending import Spending

_COLUMNS = {subjects.KEY: "client_key_id", subjects.TEAM: "team_id"}


def of(asked: Spending) -> Mapping[int | str, Decimal]:
    rows = UsageRecord.objects.filter(
        at__gte=asked.start, at__lt=asked.end, side=GATEWAY, currency="USD", cost__isnull=False
    ).order_by()
    if asked.name is None and (column := _COLUMNS.get(asked.subject)):
        sums = rows.exclude(**{column: None}).values_list(column).annotate(total=Sum("cost"))
        return {name: total for name, total in sums if total}
    total = _of_subject(rows, asked).aggregate(total=Sum("cost"))["total"]
    return {asked.name if asked.name is not None else "": total} if total else {}


def _of_subject(rows: QuerySet[UsageRecord], asked: Spending) -> QuerySet[UsageRecord]:
    if column := _COLUMNS.get(asked.subject):
        return rows.filter(**{column: asked.name})
    if asked.subject == subjects.PROVIDER:
        return rows.filter(provider_id=asked.name)
    if asked.subject == subjects.MODEL:
        return rows.filter(_is_model(str(asked.name)))
    if asked.subject == subjects.TAG:
        return rows.filter(tags__contains=f",{asked.name},")
    return rows


def _is_model(route: str) -> Q:
    """Provider ids and model ids may both hold slashes."""
    cuts = [place for place, letter in enumerate(route) if letter == "/"]
    either = Q(pk=None)
    for cut in cuts:
        either |= Q(provider_id=route[:cut], model_id=route[cut + 1 :])
    return either
