"""The page of one client key: what it asked and spent lately, what bounds it, its latest requests and what became of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.http import HttpRequest
from django.utils import timezone
from django.utils.html import format_html_join
from django.utils.translation import gettext as _

from providers import audit_files, cells, charts
from providers.models import AuditEntry
from providers.pricing import USD
from routing import allowance_rows, budget_cells, budget_status, key_traffic, visibility
from routing.allowances import KEY, LIMIT, TEAM, Allowance
from routing.budget_status import Counted, Standing
from routing.key_traffic import Traffic
from routing.models import ClientKey

_HISTORY = 8


def overview(request: HttpRequest, key: ClientKey) -> dict[str, Any]:
    """What this user may see of it: figures, requests and history each need their own right."""
    told: dict[str, Any] = _bounds(request, key)
    if request.user.has_perm("inference.view_usagerecord"):
        told |= _figures(key_traffic.figures_of(key.pk))
    if request.user.has_perm("inference.view_trace"):
        told["calls"] = key_traffic.calls_of(key.pk)
        told["shows_calls"] = True
    if request.user.has_perm("providers.view_auditentry"):
        rows = AuditEntry.objects.filter(target_id=key.prefix, target_type="clientkey").order_by("-id")
        told["history"] = [(entry, _some(audit_files.changed(entry))) for entry in rows[:_HISTORY]]
    return told


def _figures(traffic: Traffic | None) -> dict[str, Any]:
    if traffic is None:
        return {}
    rate = 100 * traffic.failed / traffic.requests if traffic.requests else None
    spent = [cells.money(amount, currency) for currency, amount in sorted(traffic.costs.items())]
    spent = format_html_join(" + ", "{}", ((cells.money(told[1], told[0]),) for told in sorted(traffic.costs.items())))
    return {
        "kpis": [
            (_("Requests"), cells.number(traffic.requests), charts.sparkline([day.requests for day in traffic.days])),
            (
                _("Failed"),
                cells.number(rate, "%", 1),
                charts.sparkline([day.failed for day in traffic.days]),
            ),
            (
                _("Spent"),
                spent or cells.money(Decimal(0), USD),
                charts.sparkline([float(day.cost) for day in traffic.days]),
            ),
            (_("Tokens in"), cells.number(traffic.input_tokens), None),
            (_("Tokens out"), cells.number(traffic.output_tokens), None),
        ],
        "traffic": traffic,
        "spend": charts.stacked(
            [f"{day.at:%d %b}" for day in traffic.days],
            [charts.Series(_("Spent"), [float(day.cost) for day in traffic.days])],
            lambda amount: f"{cells.amount(Decimal(repr(amount)))}\u202f{USD}",
        ),
    }


def _bounds(request: HttpRequest, key: ClientKey) -> dict[str, Any]:
    """Limits and budgets that its requests meet; those of everybody only for who sees every team."""
    now = timezone.now()
    met = allowance_rows.for_some([key.identity], now).of_caller(key.identity)
    if not visibility.sees_everything(request.user):
        met = tuple(one for one in met if one.subject in (KEY, TEAM))
    counted = budget_status.figures(met)
    team = key.team.name if key.team is not None else ""
    whom: Mapping[str, tuple[Any, str]] = {KEY: (key.pk, key.name), TEAM: (key.team_id, team)}
    standings = budget_status.of_allowances(met, whom, counted or {}, now)
    return {
        "limits": [_limit(one, counted) for one in met if one.kind == LIMIT],
        "budgets": [_budget(one) for one in standings],
        "counters_answer": counted is not None,
    }


def _limit(one: Allowance, counted: Mapping[str, Counted] | None) -> dict[str, Any]:
    seen = (counted or {}).get(one.key, Counted(0, 0))
    unit = budget_cells.UNITS[one.unit, one.period]
    return {
        "whose": _whose(one),
        "unit": unit,
        "amount": cells.number(one.amount),
        "bar": budget_cells.share(seen.used + seen.reserved, one.amount, "") if counted is not None else "",
        "ends": datetime.fromtimestamp(seen.ends, timezone.get_current_timezone()) if seen.ends else None,
    }


def _budget(one: Standing) -> dict[str, Any]:
    return {
        "whose": _whose(one.allowance),
        "period": one.allowance.period,
        "pk": one.allowance.source_id,
        "bar": budget_cells.bar(one),
        "pace": budget_cells.pace(one),
        "anew": budget_cells.anew(one),
        "hard": one.allowance.hard,
    }


def _whose(one: Allowance) -> str:
    return {KEY: _("this key"), TEAM: _("its team")}.get(one.subject, _("everybody"))


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" +{len(names) - 5}" if len(names) > 5 else "")
