"""What needs a person: alerts under way, errors by cause, budgets that end, and work that is under way."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models import Count, Max, Q, Sum
from django.urls import reverse

from gateway_project.overview import links
from inference.alert_models import AlertIncident
from inference.models import FailureRollup, Job, Trace
from inference.rollups import CLIENT_LEFT
from providers.models import ImportRun
from routing import budget_cells, budget_status, visibility
from routing.models import Budget
from routing.rollout import GATEWAY

MOST_CAUSES, MOST_INCIDENTS, MOST_JOBS, MOST_BUDGETS = 7, 5, 5, 500


@dataclass(frozen=True, slots=True)
class Cause:
    code: str
    status: int
    owner: str
    provider_id: str
    times: int
    share: float
    """Percent of all failures."""
    last_at: datetime
    link: str
    example: str


def causes(since: datetime, now: datetime, teams: frozenset[int] | None) -> list[Cause]:
    """By full hours, which is near enough for a list of causes; each with its latest request that is still kept. A client that
    left is no error, here as in the error rate."""
    where = Q(side=GATEWAY) if teams is None else Q(side=GATEWAY, team_id__in=teams)
    first = since.replace(minute=0, second=0, microsecond=0)
    failures = (
        FailureRollup.objects.filter(where, hour__gte=first, hour__lte=now).exclude(status=CLIENT_LEFT).order_by()
    )
    rows = failures.values("error_code", "status", "error_owner", "provider_id")
    rows = list(rows.annotate(times=Sum("requests"), last=Max("last_at")).order_by("-times")[: MOST_CAUSES + 1])
    whole = failures.aggregate(times=Sum("requests"))["times"] if len(rows) > MOST_CAUSES else None
    total = whole or sum(row["times"] for row in rows) or 1
    return [_cause(row, first, total, where) for row in rows[:MOST_CAUSES]]


def _cause(row: dict[str, Any], first: datetime, total: int, where: Q) -> Cause:
    narrowed = {"provider": row["provider_id"], "status": row["status"]}
    narrowed |= {"error": row["error_code"]} if row["error_code"] else {"outcome": "failed"}
    same = Trace.objects.filter(
        where, at__gte=first, error_code=row["error_code"], status=row["status"], provider_id=row["provider_id"]
    )
    example = same.order_by("-at").values_list("request_id", flat=True).first()
    return Cause(
        row["error_code"],
        row["status"],
        row["error_owner"],
        row["provider_id"],
        row["times"],
        100 * row["times"] / total,
        row["last"],
        links.requests(first, **narrowed),
        reverse("admin:inference_trace_change", args=[example]) if example else "",
    )


@dataclass(frozen=True, slots=True)
class Incident:
    pk: int
    rule_name: str
    subject_name: str
    told: str
    condition: str
    began_at: datetime


def incidents(user: Any) -> tuple[list[Incident], int]:
    """Alerts under way that nobody looks after yet, and how many there are beside."""
    if not (user.has_perm("inference.view_alertincident") and visibility.sees_everything(user)):
        return [], 0
    under_way = AlertIncident.objects.filter(ended_at__isnull=True, acknowledged_at__isnull=True)
    found = list(under_way.order_by("began_at")[: MOST_INCIDENTS + 1])
    more = under_way.count() - MOST_INCIDENTS if len(found) > MOST_INCIDENTS else 0
    return [
        Incident(one.pk, one.rule_name, one.subject_name, one.amount(one.value), one.condition, one.began_at)
        for one in found[:MOST_INCIDENTS]
    ], more


def budgets(user: Any, now: datetime) -> list[dict[str, Any]] | None:
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
            "anew": one.span.end if one.span is not None else None,
        }
        for row, one in budget_status.nearest(found, now=now)
    ]


@dataclass(frozen=True, slots=True)
class Work:
    """`since` is when it was asked for, or begun where it runs."""

    name: str
    kind: str
    state: str
    tone: str
    since: datetime
    link: str


@dataclass(frozen=True, slots=True)
class UnderWay:
    running: int
    queued: int
    shown: tuple[Work, ...]


def under_way(user: Any) -> UnderWay | None:
    """Background jobs and imports; None for those who may not see them."""
    if not (user.has_perm("inference.view_job") and visibility.sees_everything(user)):
        return None
    active = Job.objects.filter(state__in=[Job.State.QUEUED, Job.State.RUNNING]).order_by()
    counted = dict(active.values_list("state").annotate(count=Count("pk")))
    jobs = (
        active.order_by("-started_at", "created_at").defer("request", "result", "error")[:MOST_JOBS] if counted else ()
    )
    shown = [_job(job) for job in jobs]
    if user.has_perm("providers.view_importrun"):
        imports = ImportRun.objects.filter(state__in=[ImportRun.State.QUEUED, ImportRun.State.RUNNING])
        shown = [*map(_import, imports.order_by("-id").defer("sealed")[:2]), *shown]
    return UnderWay(counted.get(Job.State.RUNNING, 0), counted.get(Job.State.QUEUED, 0), tuple(shown[:MOST_JOBS]))


def _job(job: Job) -> Work:
    return Work(
        job.model,
        job.operation,
        job.state,
        "info" if job.state == Job.State.RUNNING else "",
        job.started_at or job.created_at,
        reverse("admin:inference_job_change", args=[job.pk]),
    )


def _import(run: ImportRun) -> Work:
    return Work(
        run.source_label,
        "import",
        run.state,
        "info" if run.state == ImportRun.State.RUNNING else "",
        run.started_at or run.created_at,
        reverse("admin:providers_importrun_change", args=[run.pk]),
    )
