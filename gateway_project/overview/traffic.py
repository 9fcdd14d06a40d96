"""The figures at the top of the first page, and the charts of requests and of how long they took."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.db.models import Q
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from gateway_project.overview import links
from gateway_project.overview.spans import Span
from inference import rollup_windows
from inference.rollup_models import DURATION, FIRST_BYTE, OVERHEAD
from inference.rollup_windows import NO_TIMES, NOTHING, Amounts, Times
from providers import cells, charts
from providers.charts import Chart, Series, Sparkline
from providers.pricing import USD
from routing.rollout import GATEWAY

CURRENCY = USD
_SURE, _MUCH = 0.5, 20.0
"""Percent of change below which nothing changed; and from which a change of the number of requests is good or bad."""


@dataclass(frozen=True, slots=True)
class Delta:
    """How a figure changed. `tone` is up where that is good, down where it is bad, or empty."""

    text: str
    tone: str
    title: str


@dataclass(frozen=True, slots=True)
class Card:
    label: str
    value: Any
    delta: Delta | None
    spark: Sparkline | None
    link: str
    note: str = ""
    hint: str = ""


class Traffic:
    """What was served in a span, step by step, and in the span before as a whole. Percentiles are kept of all teams together, so
    for those who see some teams only, there are none."""

    def __init__(self, span: Span, now: datetime, teams: Sequence[int] | frozenset[int] | None) -> None:
        self.span, self.now, self.since = span, now, now - span.length
        self.starts = span.starts(now)
        self.has_times = teams is None
        where = Q(side=GATEWAY) if teams is None else Q(side=GATEWAY, team_id__in=teams)
        before = (self.since - span.length, self.since)
        told = rollup_windows.amounts(self.since, now, where, ["hour", "currency"])
        self.steps = self._by_step({at: _whole(some) for at, some in _by_hour(told).items()}, NOTHING)
        self.costs = self._by_step({at: _spent(some) for at, some in _by_hour(told).items()}, Decimal(0))
        self.total, self.cost = _whole(told), _spent(told)
        earlier = rollup_windows.amounts(*before, where, ["currency"])
        self.total_before, self.cost_before = _whole(earlier), _spent(earlier)
        self.times: dict[str, Times] = defaultdict(lambda: NO_TIMES)
        self.times_before: dict[str, Times] = defaultdict(lambda: NO_TIMES)
        self.times_by_step: dict[str, dict[datetime, Times]] = defaultdict(dict)
        if self.has_times:
            self._read_times(before)

    def _read_times(self, before: tuple[datetime, datetime]) -> None:
        measures, where = (DURATION, FIRST_BYTE, OVERHEAD), Q(side=GATEWAY)
        by_hour: dict[str, dict[datetime, Times]] = defaultdict(dict)
        for (measure, at), told in rollup_windows.times_of(measures, self.since, self.now, where, ["at"]).items():
            by_hour[measure][at] = told
            self.times[measure] = self.times[measure].plus(told)
        for measure, some in by_hour.items():
            self.times_by_step[measure] = self._by_step(some, NO_TIMES)
        for (measure,), told in rollup_windows.times_of(measures, *before, where).items():
            self.times_before[measure] = told

    def _by_step(self, told: Mapping[datetime, Any], nothing: Any) -> dict[datetime, Any]:
        """Added up by the steps of the charts; what lies before the first of them is in the totals only."""
        found = dict.fromkeys(self.starts, nothing)
        for at, one in told.items():
            start = self.span.floor(at)
            if start in found:
                found[start] = found[start].plus(one) if hasattr(one, "plus") else found[start] + one
        return found

    def percentiles(self, measure: str, percent: float) -> list[float | None]:
        some = self.times_by_step[measure]
        return [some.get(start, NO_TIMES).percentile(percent) for start in self.starts]


def cards(told: Traffic) -> list[Card]:
    """Six, and the same places for everybody."""
    middle = _times(told) if told.has_times else _without_times(told)
    return [*_amounts(told), *middle]


def _amounts(told: Traffic) -> list[Card]:
    total, before, steps = told.total, told.total_before, list(told.steps.values())
    return [
        Card(
            _("Requests"),
            cells.number(total.requests),
            _change(told, total.requests, before.requests, _plain, good=1),
            charts.sparkline([one.requests for one in steps]),
            links.requests(told.since),
        ),
        Card(
            _("Spend"),
            cells.money(told.cost, CURRENCY),
            _change(told, told.cost, told.cost_before, _money, good=0),
            charts.sparkline([float(cost) for cost in told.costs.values()]),
            links.usage(span=told.span.key),
        ),
        Card(
            _("Error rate"),
            _percent(total.error_rate),
            _points(told, total.error_rate, before.error_rate),
            charts.sparkline([one.error_rate for one in steps]),
            links.requests(told.since, outcome="failed"),
            _("%(count)s failed") % {"count": _plain(total.failed)},
        ),
    ]


def _rescued(told: Traffic) -> Card:
    total, before = told.total, told.total_before
    share = 100 * total.rescued / total.requests if total.requests else 0.0
    return Card(
        _("Rescued by fallback"),
        cells.number(total.rescued),
        _change(told, total.rescued, before.rescued, _plain, good=0),
        charts.sparkline([one.rescued for one in told.steps.values()]),
        links.requests(told.since, outcome="rescued"),
        _("%(share)s of all") % {"share": f"{share:.2g}\u202f%"} if total.rescued else "",
        _("Answered though a try had failed: what clients would else have seen as errors."),
    )


def _times(told: Traffic) -> list[Card]:
    return [
        _time(told, DURATION, _("Latency p95"), _("from request to last byte"), _slower(told), _first_byte(told)),
        _rescued(told),
        _time(
            told,
            OVERHEAD,
            _("Gateway overhead p95"),
            _("what the gateway itself adds to a request"),
            links.requests(told.since),
        ),
    ]


def _without_times(told: Traffic) -> list[Card]:
    total, before = told.total, told.total_before
    steps = told.steps.values()
    tokens = total.input_tokens + total.output_tokens
    return [
        Card(
            _("Mean time"),
            cells.milliseconds(total.mean_ms),
            _change(told, total.mean_ms, before.mean_ms, _milliseconds, good=-1),
            charts.sparkline([one.mean_ms for one in steps]),
            links.requests(told.since),
            hint=_("from request to last byte"),
        ),
        _rescued(told),
        Card(
            _("Tokens"),
            cells.number(tokens),
            _change(told, tokens, before.input_tokens + before.output_tokens, _plain, good=0),
            charts.sparkline([one.input_tokens + one.output_tokens for one in steps]),
            links.usage(span=told.span.key, measure="tokens"),
            _("%(count)s out") % {"count": _plain(total.output_tokens)},
        ),
    ]


def _time(told: Traffic, measure: str, label: str, hint: str, link: str, note: str = "") -> Card:
    now, before = told.times[measure].percentile(95), told.times_before[measure].percentile(95)
    return Card(
        label,
        cells.milliseconds(now),
        _change(told, now, before, _milliseconds, good=-1),
        charts.sparkline(told.percentiles(measure, 95)),
        link,
        note,
        hint,
    )


def _slower(told: Traffic) -> str:
    p95 = told.times[DURATION].percentile(95)
    return links.requests(told.since, slower_than_ms=round(p95) if p95 else None)


def _first_byte(told: Traffic) -> str:
    p95 = told.times[FIRST_BYTE].percentile(95)
    return "" if p95 is None else _("first byte %(time)s") % {"time": _milliseconds(p95)}


# --- Changes --------------------------------------------------------------------------------------------------------------------


def _change(told: Traffic, now: Any, before: Any, show: Callable[[Any], str], *, good: int) -> Delta | None:
    """`good` is 1 where more is better, -1 where less is, 0 where neither."""
    if not before:
        return None
    title = _("%(before)s: %(value)s") % {"before": _capital(told.span.before), "value": show(before)}
    percent = 100 * (float(now or 0) - float(before)) / float(before)
    if abs(percent) < _SURE:
        return Delta("±0\u202f%", "", title)
    text = f"{percent:+.0f}\u202f%" if abs(percent) < 1000 else f"×{float(now) / float(before):.0f}"
    tone = "" if good > 0 and abs(percent) < _MUCH else _tone(percent, good)
    return Delta(f"{'▲' if percent > 0 else '▼'} {text}", tone, title)


def _points(told: Traffic, now: float | None, before: float | None) -> Delta | None:
    """Shares differ by points, not by percent of themselves."""
    if now is None or before is None:
        return None
    by = 100 * (now - before)
    title = _("%(before)s: %(value)s") % {"before": _capital(told.span.before), "value": _share(before)}
    if abs(by) < 0.05:
        return Delta(_("±0 points"), "", title)
    return Delta(f"{'▲' if by > 0 else '▼'} {by:+.1f}", _tone(by, -1), title)


def _tone(change: float, good: int) -> str:
    return "" if good == 0 else "up" if change * good > 0 else "down"


def _capital(text: str | Promise) -> str:
    words = str(text)
    return words[:1].upper() + words[1:]


# --- Charts ---------------------------------------------------------------------------------------------------------------------


def requests_chart(told: Traffic) -> Chart:
    steps = list(told.steps.values())
    return charts.stacked(
        [told.span.name(start) for start in told.starts],
        [
            Series(_("answered"), [one.requests - one.failed for one in steps]),
            Series(_("failed"), [one.failed for one in steps], "bad"),
        ],
        _plain,
        _links(told),
    )


_LINES = ((50, gettext_lazy("half (p50)")), (95, "p95"), (99, "p99"))


def times_chart(told: Traffic) -> Chart | None:
    """None for those who see some teams only."""
    if not told.has_times:
        return None
    return charts.lines(
        [told.span.name(start) for start in told.starts],
        [Series(str(name), told.percentiles(DURATION, percent)) for percent, name in _LINES],
        _milliseconds,
        _links(told),
    )


def _links(told: Traffic) -> list[str]:
    ends = [*told.starts[1:], None]
    return [links.requests(start, end) for start, end in zip(told.starts, ends, strict=True)]


# --- Sums and words -------------------------------------------------------------------------------------------------------------


def _by_hour(told: Mapping[tuple, Amounts]) -> dict[datetime, dict[tuple, Amounts]]:
    found: dict[datetime, dict[tuple, Amounts]] = defaultdict(dict)
    for (at, *rest), one in told.items():
        found[at][tuple(rest)] = one
    return found


def _whole(told: Mapping[tuple, Amounts]) -> Amounts:
    whole = NOTHING
    for one in told.values():
        whole = whole.plus(one)
    return whole


def _spent(told: Mapping[tuple, Amounts]) -> Decimal:
    """In the usual currency; others cannot be added to it. Keys end with the currency."""
    return sum((one.cost for key, one in told.items() if key[-1] == CURRENCY), Decimal(0))


def _percent(share: float | None) -> Any:
    percent = 100 * (share or 0.0)
    return cells.number(percent, "%", 2 if 0 < percent < 1 else 1 if 0 < percent < 10 else 0)


def _share(share: float) -> str:
    return f"{100 * share:.2g}\u202f%"


def _plain(number: float) -> str:
    """Whole, except for the steps of an axis that are not."""
    return f"{number:,.{0 if number == int(number) else 1}f}".replace(",", "\u202f")


def _money(amount: Any) -> str:
    return f"{cells.amount(Decimal(amount))}\u202f{CURRENCY}"


def _milliseconds(value: float) -> str:
    """As `cells.milliseconds` writes them, without a zero behind the point."""
    amount, unit, digits = (value / 1000, "s", 1) if value >= 10_000 else (value, "ms", 1 if value < 10 else 0)
    return f"{f'{amount:,.{digits}f}'.removesuffix('.0')}\u202f{unit}".replace(",", "\u202f")
