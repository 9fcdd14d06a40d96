"""What of usage is drawn over time: the largest groups apart, and the colours by which the table knows them again."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import accumulate
from typing import Any
from zoneinfo import ZoneInfo

from django.utils.translation import gettext as _

from inference.rollup_windows import Times
from inference.spend_reports import DAY, HOUR, MONTH, WEEK, Line, Question, Report
from inference.usage_links import Links
from inference.usage_looks import main_currency, series_name, shower, unnamed
from inference.usage_measures import MONEY, SHARE, Measure
from providers import charts
from providers.charts import APART, Chart, Series


def drawn(
    found: Report, step: str, measure: Measure, links: Links, *, cumulative: bool, largest: Sequence[str]
) -> tuple[Chart, dict[str, str]]:
    """The chart, and the colours of the groups that are told apart."""
    currency = main_currency(found.totals)
    at = times(found.question, step)
    sums: dict[str, list[list[Decimal]]] = {}
    for line in found.lines:
        if measure.kind == MONEY and line.currency != currency:
            continue
        told = sums.setdefault(series_name(line), [[Decimal(0), Decimal(0)] for _ in at])
        parts = (Decimal(line.failed), Decimal(line.requests)) if measure.kind == SHARE else _value(measure, line)
        place = told[_place(datetime.fromisoformat(line.by[step]), at)]
        place[0] += parts[0]
        place[1] += parts[1]
    show, addresses = shower(measure, currency), _addresses(found.question, at, links)
    labels = [label(moment, step) for moment in at]
    if measure.kind == SHARE:
        rates = [
            Series(unnamed(name), [float(bad / count) if count else None for bad, count in sums[name]])
            for name in largest[:APART]
            if name in sums
        ]
        return charts.lines(labels, rates, show, addresses), _colours(largest[:APART])
    amounts = {name: [float(amount) for amount, _count in told] for name, told in sums.items()}
    if cumulative:
        amounts = {name: list(accumulate(values)) for name, values in amounts.items()}
    apart = [name for name in largest[:APART] if name in amounts]
    rest = [values for name, values in amounts.items() if name not in apart]
    series = [Series(unnamed(name), amounts[name]) for name in apart]
    if rest:
        series.append(Series(_("others"), [sum(values) for values in zip(*rest, strict=True)], "quiet"))
    return charts.stacked(labels, series, show, addresses), _colours(apart)


def drawn_times(
    told: Mapping[Any, Times], question: Question, step: str, measure: Measure, links: Links, largest: Sequence[Any]
) -> tuple[Chart, dict[str, str]]:
    at = times(question, step)
    names = [" · ".join(name) for name in largest[:APART]]
    series = []
    for group, name in zip(largest, names, strict=False):
        found = {_place(moment, at): times for (one, moment), times in told.items() if one == group}
        values = [found[place].percentile(measure.percent) if place in found else None for place in range(len(at))]
        series.append(Series(unnamed(name), values))
    labels = [label(moment, step) for moment in at]
    chart = charts.lines(labels, series, shower(measure, ""), _addresses(question, at, links))
    return chart, _colours(names)


def _place(moment: datetime, beginnings: Sequence[datetime]) -> int:
    """The step that a moment is in. By instants: an hour that a zone repeats is equal to no hour of another zone."""
    return max(0, bisect_right([at.astimezone(UTC) for at in beginnings], moment.astimezone(UTC)) - 1)


def _colours(names: Sequence[str]) -> dict[str, str]:
    return {name: str(number) for number, name in enumerate(names)}


def _value(measure: Measure, line: Line) -> tuple[Decimal, Decimal]:
    assert measure.value is not None
    return measure.value(line) or Decimal(0), Decimal(0)


def _addresses(question: Question, at: Sequence[datetime], links: Links) -> list[str]:
    ends = [*at[1:], question.end]
    return [
        links.traces(since=max(begin, question.start), until=min(end, question.end))
        for begin, end in zip(at, ends, strict=True)
    ]


def times(question: Question, step: str) -> list[datetime]:
    """Beginnings of all steps that the report touches, also those in which nothing was asked."""
    zone = ZoneInfo(question.time_zone)
    at = question.start.astimezone(zone).replace(minute=0)  # zones may be half an hour off
    if step != HOUR:
        at = at.replace(hour=0, day=1 if step == MONTH else at.day)
    if step == WEEK:
        at -= timedelta(days=at.weekday())
    found = []
    while at < question.end:
        found.append(at)
        if step == HOUR:
            at = (at.astimezone(ZoneInfo("UTC")) + timedelta(hours=1)).astimezone(zone)
        elif step == MONTH:
            at = (at + timedelta(days=32)).replace(day=1)
        else:
            at += timedelta(days=1 if step == DAY else 7)
    return found


def label(at: datetime, step: str) -> str:
    return {HOUR: f"{at:%d %b %H:%M}", DAY: f"{at:%d %b}", WEEK: f"{at:%d %b}", MONTH: f"{at:%Y-%m}"}[step]
