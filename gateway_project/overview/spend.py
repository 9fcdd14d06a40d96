"""Spend by day on the first page: stacked by model, provider, key or team, as the address says."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

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
_MOST = 20_000


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
    question = Question(days[0], now, (by, DAY), time_zone=timezone.get_current_timezone_name())
    report = spend_reports.report(question, Sight(teams=teams), most=_MOST)
    totals = {line.currency: line.cost for line in report.totals}
    currency = CURRENCY if CURRENCY in totals or not totals else max(totals, key=lambda one: totals[one])
    places = {day.date(): number for number, day in enumerate(days)}
    amounts: dict[str, list[float]] = defaultdict(lambda: [0.0] * len(days))
    for line in report.lines:
        place = places.get(datetime.fromisoformat(line.by[DAY]).date())
        if line.currency == currency and place is not None:
            amounts[line.names[by] or _("none")][place] += float(line.cost)
    span_asked = {"span": "custom", "since": f"{days[0]:%Y-%m-%d}", "until": f"{first:%Y-%m-%d}", "by": by}
    return Spend(
        by,
        len(days),
        cells.money(totals.get(currency, Decimal(0)), currency),
        charts.stacked(
            [date_format(day, "j M") for day in days],
            charts.largest(amounts, _("others")),
            lambda value: f"{cells.amount(Decimal(repr(value)).quantize(Decimal('1e-10')))}\u202f{currency}",
            [links.usage(by=by, span="custom", since=f"{day:%Y-%m-%d}", until=f"{day:%Y-%m-%d}") for day in days],
        ),
        ", ".join(f"{cells.amount(cost)}\u202f{name}" for name, cost in totals.items() if name != currency and cost),
        links.usage_file(**span_asked),
        links.usage(**span_asked),
    )
