"""The admin's first page: what happened in the last day, week or month, how the providers are, and what needs a person.

`gateway_project.overview` holds its parts. What stands in the address (`span`, `spend`) is all that it remembers.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from django.urls import reverse
from django.utils import timezone

from gateway_project import admin_doctor, admin_welcome, welcome
from gateway_project.doctor import examining
from gateway_project.overview import attention, batches, links, providing, spend, traffic
from gateway_project.overview.spans import SPANS, USUAL
from gateway_project.overview.traffic import Traffic
from inference.spend_reports import MODEL
from routing import visibility

MAY_SEE = "inference.view_trace"


def context(user: Any, now: datetime | None = None, asked: Mapping[str, str] | None = None) -> dict[str, Any]:
    """What the user sees: figures of the user's own teams, or of everything; the state of the registry for who may see that."""
    now, asked = now or timezone.now(), asked or {}
    first = _first_steps(user)
    if not user.has_perm(MAY_SEE):
        return {"restricted": True, **first}
    if first.get("nothing_yet"):
        return {**first, **_findings(user)}
    span, by = SPANS.get(asked.get("span", ""), USUAL), asked.get("spend", "")
    by = by if by in spend.BY else MODEL
    teams = visibility.teams_of(user)
    told = Traffic(span, now, teams)
    spent = spend.told(by, span, now, teams) if user.has_perm("inference.view_usagerecord") else None
    return {
        **first,
        **_findings(user),
        **_registry(user, now),
        "span": span,
        "only_teams": teams is not None,
        "spans": _switch(SPANS, span.key, lambda key: _address(key, by), lambda one: one.label),
        "kpis": traffic.cards(told),
        "requests_chart": traffic.requests_chart(told),
        "requests_step": span.step_hours,
        "times_chart": traffic.times_chart(told),
        "quiet": not told.total.requests,
        "spend": None if spent is None or (spent.chart.empty and not told.total.requests) else spent,
        "playground": admin_welcome.playground(user),
        "spend_by": _switch(spend.BY, by, lambda key: f"{_address(span.key, key)}#spend", str),
        "causes": attention.causes(told.since, now, teams),
        "failures": links.requests(told.since, outcome="failed"),
        "budgets": attention.budgets(user, now),
        "under_way": attention.under_way(user),
        "batches": batches.told(user, told.since),
    }


def _first_steps(user: Any) -> dict[str, Any]:
    """Until they are done, for those who can see whether they are."""
    waiting = welcome.unfinished() if welcome.sees(user) else []
    return {**admin_welcome.shown(user, waiting), "nothing_yet": welcome.is_empty(waiting)} if waiting else {}


def _findings(user: Any) -> dict[str, Any]:
    """One line of what the doctor found, and alerts under way."""
    shown, more = attention.incidents(user)
    told: dict[str, Any] = {"incidents": shown, "more_incidents": more}
    if admin_doctor.sees(user):
        report = examining.known()
        told["doctor"] = report
        told["doctor_tone"] = admin_doctor.TONES[report.state]
        told["worst"] = next((finding for _, finding in report.findings), None)
    return told


def _registry(user: Any, now: datetime) -> dict[str, Any]:
    if not (user.has_perm("providers.view_provider") and visibility.sees_everything(user)):
        return {}
    lines, more = providing.lines(now)
    off, more_off = providing.switched_off()
    return {"providers": lines, "more_providers": more, "providers_off": off, "more_providers_off": more_off}


def _switch(choices: Mapping[str, Any], chosen: str, address: Any, label: Any) -> list[tuple[str, str, bool]]:
    """Links of which one is where somebody is."""
    return [(address(key), str(label(one)), key == chosen) for key, one in choices.items()]


def _address(span: str, by: str) -> str:
    words = {name: value for name, value, usual in (("span", span, USUAL.key), ("spend", by, MODEL)) if value != usual}
    return f"{reverse('admin:index')}?{urlencode(words)}" if words else reverse("admin:index")
