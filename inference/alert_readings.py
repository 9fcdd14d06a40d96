"""What each signal says now, read from roll-ups, from the health that processes share, and from the registry."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from django.db.models import OuterRef, QuerySet, Subquery, Sum

from inference.alert_deciding import Reading
from inference.alert_models import AlertEvent, AlertRule
from inference.alert_signals import GATEWAY, MODEL, PROVIDER
from inference.rollup_models import TrafficRollup
from providers.models import ProbeResult, Provider
from providers.pricing import USD
from routing import budget_status, health, route_health, subjects
from routing.models import Budget, ClientKey
from routing.rollout import GATEWAY as HERE

Readings = list[Reading]
_HOUR = timedelta(hours=1)
_PROBES_LOOKED_AT = 20


class Unknown(Exception):
    """The signal cannot be read at the moment: nothing begins and nothing ends."""


def read(rule: AlertRule, now: datetime) -> Readings:
    """Raises `Unknown`, or what the database raises."""
    return _READERS[rule.signal](rule, now)


def _error_rate(rule: AlertRule, now: datetime) -> Readings:
    """Of requests; of a provider or a model, of its tries, so that those count which another one got around."""
    found = []
    for subject, name, sums in _traffic(rule, now - timedelta(minutes=rule.window_minutes), now):
        counted, failed, what = sums["requests"] - sums["left"], sums["failed"], "requests"
        if rule.told_for != GATEWAY:
            counted, failed, what = counted - failed + sums["failed_tries"], sums["failed_tries"], "tries"
        if counted > 0:
            rate = Decimal(100 * failed) / counted
            found.append(Reading(subject, name, rate, f"{failed} of {counted} {what} failed", counted))
    return found


def _average_latency(rule: AlertRule, now: datetime) -> Readings:
    found = []
    for subject, name, sums in _traffic(rule, now - timedelta(minutes=rule.window_minutes), now):
        if sums["requests"]:
            seconds = Decimal(sums["duration_ms"]) / 1000 / sums["requests"]
            found.append(Reading(subject, name, seconds, f"over {sums['requests']} requests", sums["requests"]))
    return found


def _hourly_cost(rule: AlertRule, now: datetime) -> Readings:
    return [
        Reading(subject, name, sums["cost"], f"{sums['requests']} requests in the last hour")
        for subject, name, sums in _traffic(rule, now - _HOUR, now, currency=USD)
    ]


def _unpriced(rule: AlertRule, now: datetime) -> Readings:
    return [
        Reading(subject, name, Decimal(sums["unpriced"]), "enter a price for the model, or its cost counts as nothing")
        for subject, name, sums in _traffic(rule, now - timedelta(minutes=rule.window_minutes), now)
    ]


_SUMS = ("requests", "failed", "failed_tries", "left", "unpriced", "cost", "duration_ms")
_COLUMNS = {GATEWAY: (), PROVIDER: ("provider_id",), MODEL: ("provider_id", "model_id")}


def _traffic(rule: AlertRule, since: datetime, now: datetime, **only: Any) -> Iterable[tuple[str, str, dict[str, Any]]]:
    """Sums of the minutes that ended within the span, and of the one that has begun."""
    columns = _COLUMNS[rule.told_for]
    rows: QuerySet[Any] = TrafficRollup.objects.filter(minute__gt=since - timedelta(minutes=1), minute__lte=now, **only)
    rows = rows.filter(side=HERE).order_by()
    sums = {name: Sum(name) for name in _SUMS}
    if not columns:
        total = rows.aggregate(**sums)
        if total["requests"] is not None:
            yield "", "the gateway", total
        return
    for row in rows.exclude(provider_id="").values(*columns).annotate(**sums):
        name = "/".join(row[column] for column in columns)
        yield name, name, row


def _consecutive_failures(rule: AlertRule, now: datetime) -> Readings:
    seen = health.look()
    if seen is health.current():
        raise Unknown("Redis is away, and no other process's failures are known")
    return [
        Reading(route.route, route.route, Decimal(route.condition.failures), _last(route.code))
        for route in route_health.routes(seen)
        if route.condition.failures and route.enabled
    ]


def _last(code: str) -> str:
    return f"the last one: {code}" if code else ""


def _probe_failing(rule: AlertRule, now: datetime) -> Readings:
    last = ProbeResult.objects.filter(provider=OuterRef("pk")).order_by("-at").values("healthy")[:1]
    found = []
    for provider in (
        Provider.objects.filter(enabled=True).annotate(well=Subquery(last)).filter(well=False).only("provider_id")
    ):
        probes = list(provider.probes.order_by("-id").values_list("healthy", "message")[:_PROBES_LOOKED_AT])
        failed = next((place for place, (healthy, _) in enumerate(probes) if healthy), len(probes))
        found.append(Reading(provider.provider_id, provider.provider_id, Decimal(failed), probes[0][1][:300]))
    return found


def _key_expiring(rule: AlertRule, now: datetime) -> Readings:
    keys = ClientKey.objects.filter(enabled=True, revoked_at__isnull=True, expires_at__gt=now)
    soon = keys.filter(expires_at__lt=now + timedelta(days=float(rule.threshold)))
    return [
        Reading(
            key.prefix,
            f"{key.name} ({key.prefix}…)",
            Decimal((key.expires_at - now).total_seconds()) / 86_400,
            f"it expires at {key.expires_at:%Y-%m-%d %H:%M} UTC",
        )
        for key in soon
    ]


def _budget_used(rule: AlertRule, now: datetime) -> Readings:
    """Of a budget for each key or team, whoever has used the most of theirs stands for themselves."""
    budgets = {row.pk: row for row in Budget.objects.filter(enabled=True).select_related("client_key", "team")}
    found = []
    for budget_id, status in budget_status.of_many(list(budgets.values()), now).items():
        budget = budgets[budget_id]
        for one in status.standings:
            if one.span is None:
                continue
            subject, name = str(budget_id), str(budget)
            if budget.subject in (subjects.EACH_KEY, subjects.EACH_TEAM):
                subject, name = f"{budget_id}:{one.name}", f"{name}: {one.who}"
            percent = Decimal(str(round(one.percent, 6)))
            found.append(Reading(subject, name, percent, f"{one.used:f} of {one.amount:f} USD are spent"))
    return found


def _noted(rule: AlertRule, now: datetime) -> Readings:
    since = now - timedelta(minutes=rule.window_minutes + 1)
    rows = AlertEvent.objects.filter(kind=rule.signal, minute__gt=since, minute__lte=now)
    counts = {row["subject"]: row["total"] for row in rows.values("subject").annotate(total=Sum("count")).order_by()}
    names = _budget_names(counts) if rule.signal == "budget_exceeded" else {}
    return [
        Reading(subject, names.get(subject, subject or "the gateway"), Decimal(count))
        for subject, count in counts.items()
    ]


def _budget_names(ids: Iterable[str]) -> dict[str, str]:
    known = Budget.objects.filter(pk__in=[one for one in ids if one.isdecimal()])
    return {str(row.pk): str(row) for row in known}


_READERS: dict[str, Callable[[AlertRule, datetime], Readings]] = {
    "error_rate": _error_rate,
    "average_latency": _average_latency,
    "hourly_cost": _hourly_cost,
    "consecutive_failures": _consecutive_failures,
    "budget_used": _budget_used,
    "key_expiring": _key_expiring,
    "probe_failing": _probe_failing,
    "unpriced_requests": _unpriced,
    "records_dropped": _noted,
    "budget_exceeded": _noted,
    "budget_store_away": _noted,
}
