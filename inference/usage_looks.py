"""How usage looks: figures with what changed, and the table of groups. `usage_charts` draws it over time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from django.utils.html import format_html
from django.utils.translation import gettext as _

from inference.spend_reports import DAY, HOUR, MONTH, WEEK, Line
from inference.usage_links import Links
from inference.usage_measures import COUNT, MEASURES, MILLISECONDS, MONEY, SHARE, Measure
from providers import cells, charts
from providers.pricing import USD

CURRENCY = USD
MOST_SHOWN = 100
_THIN = "\u202f"


@dataclass(frozen=True, slots=True)
class Cell:
    text: Any
    link: str = ""
    quiet: bool = False


@dataclass(frozen=True, slots=True)
class Change:
    """What became of a figure since the span before; `tone` is up for better and down for worse."""

    text: str
    tone: str
    before: str


@dataclass(frozen=True, slots=True)
class Kpi:
    label: str
    value: Any
    hint: str
    link: str = ""
    change: Change | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """One group. `narrower` is empty where it has no name to be searched by; `colour` is its series'."""

    names: tuple[str, ...]
    hint: str
    narrower: str
    colour: str
    share: float
    cells: tuple[Cell, ...]
    change: Change | None


@dataclass(frozen=True, slots=True)
class Column:
    """A heading of the table, and the address of the page sorted by it."""

    label: str
    link: str
    sorted: str
    """As `aria-sort` has it; empty where the table is not sorted by it."""


_SORTS: Mapping[str, Any] = {
    "cost": lambda line: line.cost,
    "requests": lambda line: line.requests,
    "failed": lambda line: line.failed,
    "error_rate": lambda line: Decimal(line.failed) / line.requests if line.requests else Decimal(-1),
    "rescued": lambda line: line.rescued,
    "input": lambda line: line.input_tokens,
    "output": lambda line: line.output_tokens,
    "cached": lambda line: line.cached_tokens,
}


def main_currency(totals: Sequence[Line]) -> str:
    """The currency that is drawn: the usual one, where anything was spent in it."""
    currencies = [line.currency for line in totals]
    return CURRENCY if CURRENCY in currencies or not currencies else currencies[0]


# --- Figures ------------------------------------------------------------------------------------------------------------------


def kpis(totals: Sequence[Line], before: Sequence[Line], links: Links) -> list[Kpi]:
    def both(measure: str) -> tuple[Decimal, Decimal]:
        told = MEASURES[measure].value
        assert told is not None
        return _sum(told, totals), _sum(told, before)

    requests, failed, rescued = both("requests"), both("failed"), both("rescued")
    input_, output, cached = both("input"), both("output"), both("cached")
    rates = tuple(bad / count if count else Decimal(0) for bad, count in zip(failed, requests, strict=True))
    estimated = sum(line.estimated for line in totals)
    return [
        *_spend(totals, before),
        Kpi(
            _("Requests"),
            cells.number(int(requests[0])),
            _each(totals),
            links.traces(),
            change(*requests, MEASURES["requests"], ""),
        ),
        Kpi(
            _("Error rate"),
            cells.number(float(100 * rates[0]), "%", 2 if 0 < 100 * rates[0] < 1 else 1),
            _("%(n)s failed") % {"n": number(int(failed[0]))} if failed[0] else _("none failed"),
            links.traces({"outcome": "failed"}) if failed[0] else "",
            change(*rates, MEASURES["error_rate"], "") if requests[1] else None,
        ),
        Kpi(
            _("Rescued"),
            cells.number(int(rescued[0])),
            _("answered by another try"),
            links.traces({"outcome": "rescued"}) if rescued[0] else "",
            change(*rescued, MEASURES["rescued"], ""),
        ),
        Kpi(
            _("Tokens in"),
            cells.number(int(input_[0])),
            _("%(share)s from the cache") % {"share": percent(cached[0] / input_[0])} if cached[0] else "",
            "",
            change(*input_, MEASURES["input"], ""),
        ),
        Kpi(
            _("Tokens out"),
            cells.number(int(output[0])),
            _("%(n)s requests estimated") % {"n": number(estimated)} if estimated else "",
            "",
            change(*output, MEASURES["output"], ""),
        ),
    ]


def _spend(totals: Sequence[Line], before: Sequence[Line]) -> list[Kpi]:
    past = {line.currency: line.cost for line in before}
    told = []
    for line in totals:
        hint = _("as charged")
        if line.correction:
            hint = _("%(amount)s after corrections of prices") % {"amount": money(line.corrected_cost, line.currency)}
        changed = change(line.cost, past.get(line.currency, Decimal(0)), MEASURES["cost"], line.currency)
        told.append(Kpi(_("Spend"), cells.money(line.cost, line.currency), hint, "", changed))
    return told or [Kpi(_("Spend"), cells.money(Decimal(0), CURRENCY), "")]


def _each(totals: Sequence[Line]) -> str:
    if len(totals) != 1 or not totals[0].requests:
        return ""
    return _("%(amount)s each") % {"amount": money(totals[0].cost / totals[0].requests, totals[0].currency)}


def change(now: Decimal | None, before: Decimal | None, measure: Measure, currency: str) -> Change | None:
    """None where there was nothing before to compare with."""
    if now is None or before is None or not before:
        return None
    share = 100 * (now - before) / before
    better = None if measure.good_up is None or not share else (share > 0) == measure.good_up
    tone = "" if better is None else "up" if better else "down"
    if share >= 1000:
        text = f"×{_short(float(round(now / before)))}"
    else:
        text = "±0" if abs(share) < Decimal("0.05") else f"{share:+.0f}" if abs(share) >= 10 else f"{share:+.1f}"
        text += f"{_THIN}%"
    return Change(text, tone, shown(float(before), measure, currency))


# --- The table ----------------------------------------------------------------------------------------------------------------


def sorted_lines(lines: Iterable[Line], sort: str, measure: Measure) -> list[Line]:
    """By the column that was asked for, else by what is measured, the most first."""
    name = sort.removeprefix("-")
    if name == "name":
        return sorted(lines, key=lambda line: tuple(line.names.values()), reverse=sort.startswith("-"))
    value = _SORTS.get(name) or (lambda line: -1 if (told := measure.value(line)) is None else told)  # type: ignore[misc]
    return sorted(lines, key=value, reverse=name not in _SORTS or sort.startswith("-"))


def columns(sort: str, measure_name: str, links: Links) -> list[Column]:
    """Those of numbers; a second click turns the order."""
    labels = {
        "cost": _("Spend"),
        "requests": _("Requests"),
        "failed": _("Failed"),
        "error_rate": _("Error rate"),
        "rescued": _("Rescued"),
        "input": _("Tokens in"),
        "output": _("out"),
        "cached": _("cached"),
    }
    current = sort or f"-{measure_name}"
    return [_column(label, name, current, links) for name, label in labels.items()]


def name_column(label: str, sort: str, links: Links) -> Column:
    ordered = {"name": "ascending", "-name": "descending"}.get(sort, "")
    return Column(label, links.here(sort="-name" if sort == "name" else "name"), ordered)


def _column(label: str, name: str, current: str, links: Links) -> Column:
    ordered = {name: "ascending", f"-{name}": "descending"}.get(current, "")
    return Column(label, links.here(sort=name if current == f"-{name}" else f"-{name}"), ordered)


def row(
    line: Line,
    before: Line | None,
    totals: Sequence[Line],
    measure: Measure,
    colours: Mapping[str, str],
    links: Links,
) -> Row:
    by = {name: value for name, value in line.by.items() if value not in ("", None)}
    named = len(by) == len(line.by)

    def behind(**more: str) -> str:
        return links.traces({**by, **more}) if named else ""

    value = measure.value
    assert value is not None
    whole = _sum(value, [one for one in totals if measure.kind != MONEY or one.currency == line.currency])
    told, past = value(line), value(before) if before is not None else None
    keys = [str(one) for group, one in line.by.items() if group == "key" and one != line.names[group]]
    return Row(
        names=tuple(unnamed(name) for name in line.names.values()),
        hint=", ".join(keys),
        narrower=links.narrower(by) if named else "",
        colour=colours.get(series_name(line), "quiet"),
        share=float(100 * told / whole) if measure.adds_up and whole and told is not None else 0.0,
        cells=tuple(_cells(line, behind)),
        change=change(told, past, measure, line.currency),
    )


def _cells(line: Line, behind: Any) -> Iterator[Cell]:
    cost = cells.money(line.cost, line.currency)
    if line.correction:
        after = _("%(amount)s corrected") % {"amount": money(line.corrected_cost, line.currency)}
        cost = cost + format_html('<small class="gw-quiet">{}</small>', after)
    yield Cell(cost, behind())
    yield Cell(cells.number(line.requests), behind())
    yield Cell(cells.number(line.failed), behind(outcome="failed") if line.failed else "", not line.failed)
    rate = Decimal(line.failed) / line.requests if line.requests else None
    yield Cell("–" if rate is None else percent(rate), "", not line.failed)
    yield Cell(cells.number(line.rescued), behind(outcome="rescued") if line.rescued else "", not line.rescued)
    yield Cell(cells.number(line.input_tokens))
    yield Cell(cells.number(line.output_tokens))
    yield Cell(cells.number(line.cached_tokens), "", not line.cached_tokens)


def total_cells(line: Line) -> list[Cell]:
    return [Cell(one.text) for one in _cells(line, lambda **more: "")]


# --- Words --------------------------------------------------------------------------------------------------------------------


def series_name(line: Line) -> str:
    return " · ".join(name or _("none") for group, name in line.names.items() if group not in (HOUR, DAY, WEEK, MONTH))


def unnamed(name: str) -> str:
    return name or _("none")


def shower(measure: Measure, currency: str) -> charts.Show:
    return lambda value: shown(value, measure, currency)


def shown(value: float, measure: Measure, currency: str) -> str:
    if measure.kind == MONEY:
        return money(Decimal(str(round(value, 10))), currency)
    if measure.kind == SHARE:
        return percent(Decimal(str(value)))
    if measure.kind == MILLISECONDS:
        return f"{value / 1000:.3g}{_THIN}s" if value >= 1000 else f"{value:.3g}{_THIN}ms"
    assert measure.kind == COUNT
    return _short(value)


def _short(value: float) -> str:
    """`12 345`, `1.2 M`: exact up to a million."""
    for size, unit in ((1e9, "G"), (1e6, "M")):
        if value >= size:
            return f"{value / size:.4g}{_THIN}{unit}"
    return number(round(value)) if value == round(value) else f"{value:.2g}"


def money(amount: Decimal, currency: str) -> str:
    return f"{cells.amount(amount)}{_THIN}{currency}" if currency else cells.amount(amount)


def number(count: int) -> str:
    return f"{count:,}".replace(",", _THIN)


def percent(share: Decimal) -> str:
    told = 100 * share
    return f"{told:.2f}{_THIN}%" if 0 < told < 1 else f"{told:.1f}{_THIN}%"


def _sum(value: Any, lines: Iterable[Line]) -> Decimal:
    return sum((value(line) or Decimal(0) for line in lines), Decimal(0))
