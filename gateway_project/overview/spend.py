"""Spend by day on the first page: stacked by model, provider, key or team, as the address says."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from hashlib import md5
from typing import Any

from django.core.cache import cache
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from gateway_project.overview import links
from gateway_project.overview.spans import Span
from gateway_project.overview.traffic import CURRENCY
from inference import spend_reports
from inference.spend_reports import DAY, KEY, MODEL, PROVIDER, TEAM, Question, Sight
from providers import cells, charts
from providers.charts import Chart

BY = {
    MODEL: gettext_lazy("model"),
    PROVIDER: gettext_lazy("provider"),
    KEY: gettext_lazy("key"),
    TEAM: gettext_lazy("team"),
}
KEPT_SECONDS = 60
_MOST = 20_000
_SMALLEST = Decimal("1e-10")


@dataclass(frozen=True, slots=True)
class Spend:
    by: str
    days: int
    total: Any
    chart: Chart
    others: str
    """What was spent in further currencies, which cannot be added to it."""
    csv: str
    more: str


def told(by: str, span: Span, now: datetime, teams: frozenset[int] | None) -> Spend:
    first = timezone.localtime(now).replace(hour=0, minute=0, second=0, microsecond=0)
    days = [first - timedelta(days=back) for back in range(span.spend_days - 1, -1, -1)]
    totals, spent = _sums(by, days[0], now, teams)
    currency = CURRENCY if CURRENCY in totals or not totals else max(totals, key=lambda one: totals[one])
    places = {f"{day:%Y-%m-%d}": number for number, day in enumerate(days)}
    amounts: dict[str, list[float]] = defaultdict(lambda: [0.0] * len(days))
    for (name, day, of), cost in spent.items():
        if of == currency and day in places:
            amounts[name or _("none")][places[day]] += float(cost)
    asked = {"span": "custom", "since": f"{days[0]:%Y-%m-%d}", "until": f"{first:%Y-%m-%d}", "by": by}
    return Spend(
        by,
        len(days),
        cells.money(totals.get(currency, Decimal(0)), currency),
        charts.stacked(
            [date_format(day, "j M") for day in days],
            charts.largest(amounts, _("others")),
            lambda value: f"{cells.amount(Decimal(repr(value)).quantize(_SMALLEST))}\u202f{currency}",
            [links.usage(by=by, span="custom", since=f"{day:%Y-%m-%d}", until=f"{day:%Y-%m-%d}") for day in days],
        ),
        ", ".join(f"{cells.amount(cost)}\u202f{name}" for name, cost in totals.items() if name != currency and cost),
        links.usage_file(**asked),
        links.usage(**asked),
    )


def _sums(
    by: str, since: datetime, now: datetime, teams: frozenset[int] | None
) -> tuple[dict[str, Decimal], dict[tuple[str, str, str], Decimal]]:
    """By currency; and by name, day and currency. Kept for a minute: weeks of hours of a busy installation take a while."""
    whose = "all" if teams is None else ",".join(map(str, sorted(teams)))
    key = f"overview-spend-{by}-{since:%Y%m%d}-{md5(whose.encode(), usedforsecurity=False).hexdigest()}"
    kept: tuple[dict[str, Decimal], dict[tuple[str, str, str], Decimal]] | None = cache.get(key)
    if kept is None:
        question = Question(since, now, (by, DAY), time_zone=timezone.get_current_timezone_name())
        report = spend_reports.report(question, Sight(teams=teams), most=_MOST)
        spent: dict[tuple[str, str, str], Decimal] = defaultdict(Decimal)
        for line in report.lines:
            spent[line.names[by], line.by[DAY][:10], line.currency] += line.cost
        kept = {line.currency: line.cost for line in report.totals}, dict(spent)
        cache.set(key, kept, KEPT_SECONDS)
    return kept
