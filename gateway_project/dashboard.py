"""The admin's first page: what happened in the last 24 hours, how the providers are, and what needs a person."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from django.core import checks
from django.core.cache import cache
from django.db.models import OuterRef, Q, Subquery, Sum
from django.urls import reverse
from django.utils import timezone

from inference import rollup_windows
from inference.alert_models import AlertIncident
from inference.models import FailureRollup, UsageRollup
from inference.rollup_models import DURATION, FIRST_BYTE, OVERHEAD
from inference.rollup_windows import Amounts
from providers import cells
from providers.models import ProbeResult, Provider, ProviderModel
from routing import budget_cells, budget_status, snapshot, visibility
from routing.models import Budget, ClientKey
from routing.rollout import GATEWAY

DAY = timedelta(hours=24)
MOST_ROWS = 8
MOST_BUDGETS = 500
FINDINGS_SECONDS = 30
"""How long the findings of the system checks are kept; they read files and the database."""
CURRENCY = "USD"
_OUR_PACKAGES = ("gateway_project", "providers", "routing", "inference")


@dataclass(frozen=True, slots=True)
class Kpi:
    label: str
    value: Any
    change: str = ""


@dataclass(frozen=True, slots=True)
class Hour:
    """Heights are percent of the busiest hour."""

    at: datetime
    requests: int
    failed: int
    good_height: float
    bad_height: float


@dataclass(frozen=True, slots=True)
class Finding:
    tone: str
    text: str
    hint: str = ""


def context(user: Any, now: datetime | None = None) -> dict[str, Any]:
    """What the user sees: figures of the user's own teams, or of everything; the state of the registry for who may see that."""
    now = now or timezone.now()
    teams = visibility.teams_of(user)
    where = Q(side=GATEWAY) if teams is None else Q(side=GATEWAY, team_id__in=teams)
    return {
        "kpis": _kpis(now, where, of_everything=teams is None),
        "hours": _hours(now, where),
        "busiest": _busiest(now, where),
        "troubles": _troubles(now, where),
        "budgets": _budgets(user, now),
        **_registry(user, now),
    }


def _budgets(user: Any, now: datetime) -> list[dict[str, Any]] | None:
    """Those nearest to their end; None where there are none, or none for this user to see."""
    if not user.has_perm("routing.view_budget"):
        return None
    rows = visibility.visible(Budget.objects.filter(enabled=True), user, ("team_id", "client_key__team_id"))
    found = list(rows.select_related("client_key", "team", "provider", "model__provider")[:MOST_BUDGETS])
    if not found:
        return None
    return [
        {
            "name": str(row),
            "who": one.who if row.subject.startswith("each_") else "",
            "link": reverse("admin:routing_budget_change", args=[row.pk]),
            "bar": budget_cells.bar(one),
            "pace": budget_cells.pace(one),
        }
        for row, one in budget_status.nearest(found, now=now)
    ]


def _registry(user: Any, now: datetime) -> dict[str, Any]:
    if not (user.has_perm("providers.view_provider") and visibility.sees_everything(user)):
        return {"only_teams": True}
    return {"provider_states": _provider_states(now), "findings": [*_incidents(), *findings()], "steps": _steps()}


def _incidents() -> list[Finding]:
    """Alerts under way that nobody looks after yet."""
    under_way = AlertIncident.objects.filter(ended_at__isnull=True, acknowledged_at__isnull=True)
    return [
        Finding(
            "bad",
            f"{one.rule_name}: {one.subject_name}, {one.amount(one.value)}.",
            f"The rule is {one.condition}; it began {cells.relative(one.began_at)}. See Alerts.",
        )
        for one in under_way[:MOST_ROWS]
    ]


def findings() -> list[Finding]:
    """What the system checks and the building of the snapshot say; without the checks of Django itself."""
    found = cache.get("dashboard-findings")
    if found is None:
        found = [*_check_findings(), *_snapshot_findings()]
        cache.set("dashboard-findings", found, FINDINGS_SECONDS)
    return found


def _check_findings() -> list[Finding]:
    said: list[checks.CheckMessage] = []
    for check in checks.registry.registry.get_checks():
        if check.__module__.partition(".")[0] in _OUR_PACKAGES:
            said += check(app_configs=None, databases=["default"])
    return [
        Finding("bad" if message.level >= checks.ERROR else "warn", str(message.msg), str(message.hint or ""))
        for message in said
    ]


def _snapshot_findings() -> list[Finding]:
    problem = snapshot.problem()
    found = [Finding("bad", f"The registry cannot be read, an old revision serves: {problem}")] if problem else []
    try:
        notes = snapshot.current().notes
    except Exception as error:  # the dashboard must open when the registry cannot be built: it says why
        return [Finding("bad", f"The registry cannot be built: {type(error).__name__}: {error}")]
    return [*found, *(Finding("warn", note[:1].upper() + note[1:] + ".") for note in notes[:20])]


def _kpis(now: datetime, where: Q, *, of_everything: bool) -> list[Kpi]:
    today, yesterday = _totals(now - DAY, now, where), _totals(now - 2 * DAY, now - DAY, where)
    spent, before = _spent(now - DAY, now, where), _spent(now - 2 * DAY, now - DAY, where)
    return [
        Kpi("Requests", cells.number(today.requests), _change(today.requests, yesterday.requests)),
        Kpi("Errors", _share(today), f"{today.failed} failed, {today.rescued} rescued by another try"),
        Kpi("Spend", cells.money(spent, CURRENCY), _change(spent, before)),
        *(_times(now) if of_everything else _mean_time(today)),
    ]


def _totals(since: datetime, until: datetime, where: Q) -> Amounts:
    return rollup_windows.amounts(since, until, where).get((), rollup_windows.NOTHING)


def _spent(since: datetime, until: datetime, where: Q) -> Decimal:
    return _totals(since, until, where & Q(currency=CURRENCY)).cost


def _times(now: datetime) -> list[Kpi]:
    def p95(measure: str) -> float | None:
        found = rollup_windows.times(measure, now - DAY, now, Q(side=GATEWAY))
        return found.get((), rollup_windows.NO_TIMES).percentile(95)

    return [
        Kpi("p95", cells.milliseconds(p95(DURATION)), "from request to last byte"),
        Kpi("p95 first byte", cells.milliseconds(p95(FIRST_BYTE)), "of streamed answers"),
        Kpi("p95 overhead", cells.milliseconds(p95(OVERHEAD)), "what the gateway itself adds"),
    ]


def _mean_time(today: Amounts) -> list[Kpi]:
    """Of teams: percentiles are kept for all of them together only."""
    return [Kpi("Mean time", cells.milliseconds(today.mean_ms), "from request to last byte")]


def _share(totals: Amounts) -> Any:
    share = 100 * (totals.error_rate or 0.0)
    return cells.number(share, "%", 1 if 0 < share < 10 else 0)


def _change(now: Any, before: Any) -> str:
    if not before:
        return "nothing the day before"
    change = round(100 * (float(now or 0) - float(before)) / float(before))
    return f"{change:+d}\u202f% against the day before"


def _hours(now: datetime, where: Q) -> list[Hour]:
    # By hours of UTC, as they are kept: a zone may be half an hour off.
    last = now.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    hours = [last - timedelta(hours=back) for back in range(23, -1, -1)]
    found = rollup_windows.amounts(hours[0], now, where, ["hour"])
    counted = {at: amounts for (at,), amounts in found.items()}
    most = max((amounts.requests for amounts in counted.values()), default=0) or 1
    return [_hour(hour, counted.get(hour, rollup_windows.NOTHING), most) for hour in hours]


def _hour(at: datetime, told: Amounts, most: int) -> Hour:
    bad = told.failed
    return Hour(timezone.localtime(at), told.requests, bad, 100 * (told.requests - bad) / most, 100 * bad / most)


def _busiest(now: datetime, where: Q) -> list[dict[str, Any]]:
    by = ["provider_id", "model_id", "currency"]
    found = rollup_windows.amounts(now - DAY, now, where & ~Q(provider_id=""), by)
    most = sorted(found.items(), key=lambda item: (-item[1].requests, item[0]))[:MOST_ROWS]
    return [
        {
            "provider_id": provider_id,
            "model_id": model_id,
            "requests": told.requests,
            "error_rate": cells.number(100 * (told.error_rate or 0.0), "%", 1 if told.failed else 0),
            "input": cells.number(told.input_tokens),
            "output": cells.number(told.output_tokens),
            "spent": cells.money(told.cost, currency),
        }
        for (provider_id, model_id, currency), told in most
    ]


def _troubles(now: datetime, where: Q) -> list[dict[str, Any]]:
    """By full hours, which is near enough for a list of causes."""
    listed = reverse("admin:inference_trace_changelist")
    first = (now - DAY).replace(minute=0, second=0, microsecond=0)
    rows = (
        FailureRollup.objects.filter(where, hour__gte=first, hour__lte=now)
        .order_by()
        .values("error_code", "status", "provider_id")
        .annotate(times=Sum("requests"))
        .order_by("-times")[:MOST_ROWS]
    )
    return [row | {"link": f"{listed}?outcome=failed"} for row in rows]


def _provider_states(now: datetime) -> list[dict[str, Any]]:
    last = ProbeResult.objects.filter(provider=OuterRef("pk")).order_by("-id").values("id")[:1]
    providers = list(Provider.objects.filter(enabled=True).annotate(last_probe_id=Subquery(last))[:40])
    results = ProbeResult.objects.in_bulk([row.last_probe_id for row in providers if row.last_probe_id])
    served = rollup_windows.amounts(now - DAY, now, Q(side=GATEWAY), ["provider_id"])
    took = rollup_windows.times(DURATION, now - DAY, now, Q(side=GATEWAY), ["provider_id"])
    states = []
    for provider in providers:
        probe = results.get(provider.last_probe_id)
        word, tone = cells.state_of(probe)
        key = (provider.provider_id,)
        told = served.get(key, rollup_windows.NOTHING)
        states.append(
            {
                "provider": provider,
                "probe": probe,
                "word": word,
                "tone": tone,
                "requests": told.requests,
                "failed": cells.number(100 * (told.try_error_rate or 0.0), "%", 1 if told.failed_tries else 0),
                "p95": cells.milliseconds(took.get(key, rollup_windows.NO_TIMES).percentile(95)),
            }
        )
    order = {"bad": 0, "warn": 1, "": 2, "good": 3}
    return sorted(states, key=lambda state: order[state["tone"]])[: MOST_ROWS + 4]


def _steps() -> list[tuple[str, bool, str]]:
    """The first steps of a new installation; empty when all are done."""
    steps = [
        ("Add a provider", Provider.objects.exists(), reverse("admin:providers_provider_add")),
        (
            "Test its connection until it is green",
            ProbeResult.objects.filter(healthy=True).exists(),
            reverse("admin:providers_provider_changelist"),
        ),
        (
            "Enable a model",
            ProviderModel.objects.filter(enabled=True).exists(),
            reverse("admin:providers_providermodel_changelist"),
        ),
        ("Create a client key", ClientKey.objects.exists(), reverse("admin:routing_clientkey_add")),
        (
            "Send the first request",
            UsageRollup.objects.exists(),
            reverse("admin:inference_trace_changelist"),
        ),
    ]
    return [] if all(done for _, done, _ in steps) else steps
