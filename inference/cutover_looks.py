"""How a parallel run looks on its page: both sides' figures as rows and against each other, and the hours as charts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from django.utils import timezone
from django.utils.formats import date_format
from django.utils.html import format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from inference.cutover import Figures, Hour, SideFigures
from providers import cells, charts
from routing.rollout import LEGACY


@dataclass(frozen=True, slots=True)
class Row:
    """One figure of both sides; `verdict` is how the gateway does against the legacy side, with its tone."""

    label: str
    gateway: Any
    legacy: Any
    verdict: str = ""
    tone: str = ""
    hint: Any = ""


def versus(told: Figures) -> list[Row]:
    """What decides whether clients may move: errors, time and money."""
    here, there = told.gateway, told.legacy
    return [
        Row(_("Error rate"), _rate(here), _rate(there), *_rate_verdict(here, there)),
        Row("p95", *times(here.p95_ms, there.p95_ms)),
        Row(_("Cost of 1 000 requests"), *_costs_of_a_thousand(here, there)),
    ]


def rows(told: Figures) -> list[Row]:
    here, there = told.gateway, told.legacy
    until_end = _("From request to last byte.")
    return [
        Row(
            _("Requests"), cells.number(here.requests), cells.number(there.requests), hint=_("That generate; no lists.")
        ),
        Row(_("Clients"), cells.number(here.clients), cells.number(there.clients)),
        Row(_("Errors"), cells.number(here.errors), cells.number(there.errors), hint=_("Not clients that left.")),
        Row(_("Error rate"), _rate(here), _rate(there), *_rate_verdict(here, there)),
        Row("p50", *times(here.p50_ms, there.p50_ms), hint=until_end),
        Row("p95", *times(here.p95_ms, there.p95_ms), hint=until_end),
        Row(_("p95 first byte"), *times(here.first_byte_p95_ms, there.first_byte_p95_ms), hint=_("Of streams.")),
        Row(_("Tokens in"), cells.number(here.input_tokens), cells.number(there.input_tokens)),
        Row(_("Tokens out"), cells.number(here.output_tokens), cells.number(there.output_tokens)),
        Row(
            _("Cost"),
            _costs(here),
            _costs(there),
            hint=_("The legacy side's is an estimate at this gateway's prices."),
        ),
    ]


def charts_of(hours: Sequence[Hour]) -> list[tuple[str, charts.Chart]]:
    """Requests and failures of both sides, hour by hour."""
    labels = [date_format(timezone.localtime(hour.at), "D H:i") for hour in hours]
    sides = [
        (_("Gateway"), [hour.gateway for hour in hours], ""),
        (_("Legacy"), [hour.legacy for hour in hours], "quiet"),
    ]
    requests = [charts.Series(name, [float(one.requests) for one in told], tone) for name, told, tone in sides]
    failed = [
        charts.Series(name, [100 * one.errors / one.requests if one.requests else None for one in told], tone)
        for name, told, tone in sides
    ]
    return [
        (_("Requests per hour"), charts.lines(labels, requests, _grouped)),
        (_("Failed, per cent"), charts.lines(labels, failed, _percent)),
    ]


def times(here: float | None, there: float | None) -> tuple[SafeString, SafeString, str, str]:
    shown = cells.milliseconds(here), cells.milliseconds(there)
    if here is None or not there:
        return *shown, "", ""
    return *shown, *_against(here / there)


def _against(ratio: float) -> tuple[str, str]:
    """In words and a tone, where less is better."""
    percent = 100 * (ratio - 1)
    if abs(percent) < 1:
        return _("the same"), ""
    words = f"{percent:+.0f} %" if percent < 1000 else _("%s times") % f"{ratio:.0f}"
    return words, "good" if percent < 0 else "bad"


def _rate(side: SideFigures) -> SafeString:
    return cells.number(None if side.error_rate is None else 100 * side.error_rate, "%", 2)


def _rate_verdict(here: SideFigures, there: SideFigures) -> tuple[str, str]:
    if here.error_rate is None or there.error_rate is None:
        return "", ""
    points = 100 * (here.error_rate - there.error_rate)
    if abs(points) < 0.005:
        return _("the same"), ""
    return _("%s points") % f"{points:+.2f}", "good" if points < 0 else "bad"


def _costs_of_a_thousand(here: SideFigures, there: SideFigures) -> tuple[Any, Any, str, str]:
    """Compared where both sides cost money of one and the same currency."""
    mine, other = _of_a_thousand(here), _of_a_thousand(there)
    shown = tuple(cells.EMPTY if one is None else cells.money(one[1].quantize(_CENT), one[0]) for one in (mine, other))
    if mine is None or other is None or mine[0] != other[0] or not other[1]:
        return shown[0], shown[1], "", ""
    return shown[0], shown[1], *_against(float(mine[1] / other[1]))


_CENT = Decimal("0.0001")


def _of_a_thousand(side: SideFigures) -> tuple[str, Decimal] | None:
    if not side.requests or len(side.costs) != 1:
        return None
    ((currency, money),) = side.costs.items()
    return currency, 1000 * money / side.requests


def _costs(side: SideFigures) -> SafeString:
    costs = sorted((side.costs or {}).items())
    if not costs:
        return cells.money(None)
    about = "≈\u202f" if side.side == LEGACY else ""
    return format_html_join(", ", "{}{}", ((about, cells.money(money, currency)) for currency, money in costs))


def _grouped(number: float) -> str:
    return f"{number:,.0f}".replace(",", "\u202f")


def _percent(number: float) -> str:
    return f"{number:.3g}\u202f%"
