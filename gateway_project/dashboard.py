"""The admin's first page: what happened in the last 24 hours, how the providers are, and what needs a person."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from django.core import checks
from django.core.cache import cache
from django.db.models import Count, OuterRef, Q, QuerySet, Subquery, Sum
from django.db.models.functions import TruncHour
from django.urls import reverse
from django.utils import timezone

from inference.models import Trace
from providers import cells
from providers.models import ProbeResult, Provider, ProviderModel
from routing import snapshot, visibility
from routing.models import ClientKey
from routing.rollout import GATEWAY

DAY = timedelta(hours=24)
MOST_ROWS = 8
FINDINGS_SECONDS = 30
"""How long the findings of the system checks are kept; they read files and the database."""
_FAILED = ~Q(status__lt=400, error_code="")
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
    ours = visibility.visible(Trace.objects.filter(side=GATEWAY), user)
    today = ours.filter(at__gte=now - DAY, at__lte=now)
    yesterday = ours.filter(at__gte=now - 2 * DAY, at__lt=now - DAY)
    return {
        "kpis": _kpis(today, yesterday),
        "hours": _hours(today, now),
        "busiest": _busiest(today),
        "troubles": _troubles(today),
        **_registry(user),
    }


def _registry(user: Any) -> dict[str, Any]:
    if not (user.has_perm("providers.view_provider") and visibility.sees_everything(user)):
        return {"only_teams": True}
    return {"provider_states": _provider_states(), "findings": findings(), "steps": _steps()}


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


def _kpis(today: QuerySet, yesterday: QuerySet) -> list[Kpi]:
    now, before = _totals(today), _totals(yesterday)
    times = {name: _p95(today, name, now["requests"]) for name in ("duration_ms", "first_byte_ms", "overhead_ms")}
    return [
        Kpi("Requests", cells.number(now["requests"]), _change(now["requests"], before["requests"])),
        Kpi("Errors", _share(now), f"{now['failed']} failed, {now['rescued']} rescued by another try"),
        Kpi("Spend", cells.money(now["cost"] or Decimal(0), now["currency"]), _change(now["cost"], before["cost"])),
        Kpi("p95", cells.milliseconds(times["duration_ms"]), "from request to last byte"),
        Kpi("p95 first byte", cells.milliseconds(times["first_byte_ms"]), "of streamed answers"),
        Kpi("p95 overhead", cells.milliseconds(times["overhead_ms"]), "what the gateway itself adds"),
    ]


def _totals(rows: QuerySet) -> dict[str, Any]:
    totals = rows.order_by().aggregate(
        requests=Count("id"),
        failed=Count("id", filter=_FAILED),
        rescued=Count("id", filter=Q(status__lt=400, attempts__gt=1)),
        cost=Sum("cost"),
    )
    return totals | {"currency": "USD"}


def _p95(rows: QuerySet, field: str, count: int) -> float | None:
    rows = rows.filter(**{f"{field}__isnull": False})
    if field == "first_byte_ms":
        rows = rows.filter(stream=True)
        count = rows.count()
    if not count:
        return None
    return rows.order_by(field).values_list(field, flat=True)[min(count - 1, int(count * 0.95))]


def _share(totals: dict[str, Any]) -> Any:
    share = 100 * totals["failed"] / totals["requests"] if totals["requests"] else 0.0
    return cells.number(share, "%", 1 if 0 < share < 10 else 0)


def _change(now: Any, before: Any) -> str:
    if not before:
        return "nothing the day before"
    change = round(100 * (float(now or 0) - float(before)) / float(before))
    return f"{change:+d}\u202f% against the day before"


def _hours(today: QuerySet, now: datetime) -> list[Hour]:
    counted = {
        row["hour"]: row
        for row in today.order_by()
        .annotate(hour=TruncHour("at"))
        .values("hour")
        .annotate(requests=Count("id"), failed=Count("id", filter=_FAILED))
    }
    last = timezone.localtime(now).replace(minute=0, second=0, microsecond=0)
    hours = [last - timedelta(hours=back) for back in range(23, -1, -1)]
    most = max((row["requests"] for row in counted.values()), default=0) or 1
    return [_hour(hour, counted.get(hour), most) for hour in hours]


def _hour(at: datetime, row: dict[str, Any] | None, most: int) -> Hour:
    requests, failed = (row["requests"], row["failed"]) if row else (0, 0)
    return Hour(at, requests, failed, 100 * (requests - failed) / most, 100 * failed / most)


def _busiest(today: QuerySet) -> list[dict[str, Any]]:
    rows = (
        today.order_by()
        .exclude(provider_id="")
        .values("provider_id", "model_id", "currency")
        .annotate(
            requests=Count("id"),
            failed=Count("id", filter=_FAILED),
            input=Sum("input_tokens"),
            output=Sum("output_tokens"),
            spent=Sum("cost"),
        )
        .order_by("-requests")[:MOST_ROWS]
    )
    return [row | {"spent": cells.money(row["spent"], row["currency"])} for row in rows]


def _troubles(today: QuerySet) -> list[dict[str, Any]]:
    listed = reverse("admin:inference_trace_changelist")
    rows = (
        today.order_by()
        .filter(_FAILED)
        .values("error_code", "status", "provider_id")
        .annotate(times=Count("id"))
        .order_by("-times")[:MOST_ROWS]
    )
    return [row | {"link": f"{listed}?outcome=bad"} for row in rows]


def _provider_states() -> list[dict[str, Any]]:
    last = ProbeResult.objects.filter(provider=OuterRef("pk")).order_by("-id").values("id")[:1]
    providers = list(Provider.objects.filter(enabled=True).annotate(last_probe_id=Subquery(last))[:40])
    results = ProbeResult.objects.in_bulk([row.last_probe_id for row in providers if row.last_probe_id])
    states = []
    for provider in providers:
        probe = results.get(provider.last_probe_id)
        word, tone = cells.state_of(probe)
        states.append({"provider": provider, "probe": probe, "word": word, "tone": tone})
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
            Trace.objects.exists(),
            reverse("admin:inference_trace_changelist"),
        ),
    ]
    return [] if all(done for _, done, _ in steps) else steps
