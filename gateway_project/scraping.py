"""Figures that belong to no process: read from the stores when Prometheus asks, and left out when a store is away."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator

import redis
from django.conf import settings
from django.db import DatabaseError
from django.db.models import Count, F, Sum
from django.utils import timezone
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from gateway_project.celery import QUEUES
from inference.alert_models import WAITING, AlertDelivery, AlertIncident
from inference.batch_models import Batch
from routing import budget_status, subjects
from routing.models import Budget, Team

logger = logging.getLogger("gateway.metrics")

_PATIENCE_SECONDS = 1.0


def families() -> Iterator[Metric]:
    for read in SOURCES:
        try:
            yield from read()
        except (DatabaseError, redis.RedisError, OSError) as error:
            logger.warning("%s are not shown: %s", read.__name__, type(error).__name__)


def queues() -> Iterator[Metric]:
    waiting = GaugeMetricFamily("gateway_queue_depth", "Tasks that wait for a worker.", labels=["queue"])
    with redis.Redis.from_url(
        settings.REDIS_URL, socket_timeout=_PATIENCE_SECONDS, socket_connect_timeout=_PATIENCE_SECONDS
    ) as client:
        pipeline = client.pipeline(transaction=False)
        for queue in QUEUES:
            pipeline.llen(queue)
        for queue, length in zip(QUEUES, pipeline.execute(), strict=True):
            waiting.add_metric([queue], length)
    yield waiting


def budgets() -> Iterator[Metric]:
    """The ratio may be above 1: what only warns goes on, and a raise may have ended."""
    used = GaugeMetricFamily(
        "gateway_budget_used_ratio",
        "Of the budget of a team that is used the most, in its current period; without a team: of those for everything.",
        labels=["team"],
    )
    rows = Budget.objects.filter(enabled=True, subject__in=(subjects.ALL, subjects.TEAM, subjects.EACH_TEAM))
    teams = dict(Team.objects.values_list("pk", "name"))
    ratios: dict[str, float] = {}
    for status in budget_status.of_many(list(rows.select_related("client_key", "team"))).values():
        for one in status.standings:
            if one.span is not None:
                team = teams.get(one.name, "")
                ratios[team] = max(ratios.get(team, 0.0), one.percent / 100)
    for team, ratio in sorted(ratios.items()):
        used.add_metric([team], ratio)
    yield used


def alerts() -> Iterator[Metric]:
    firing = GaugeMetricFamily("gateway_alerts_firing", "Incidents under way, by rule.", labels=["rule"])
    under_way = AlertIncident.objects.filter(ended_at__isnull=True).order_by()
    for row in under_way.values("rule_name").annotate(count=Count("pk")):
        firing.add_metric([row["rule_name"]], row["count"])
    yield firing
    waiting = AlertDelivery.objects.filter(state=WAITING, due_at__lte=timezone.now()).count()
    yield GaugeMetricFamily("gateway_alert_messages_waiting", "Messages of alerts that are due.", value=waiting)


def batches() -> Iterator[Metric]:
    states = GaugeMetricFamily("gateway_batches", "Batches by how they stand.", labels=["state"])
    told = {row["state"]: row for row in Batch.objects.order_by().values("state").annotate(count=Count("pk"))}
    for state in Batch.State.values:
        states.add_metric([state], told.get(state, {}).get("count", 0))
    yield states
    left = Batch.objects.filter(state=Batch.State.IN_PROGRESS).aggregate(
        lines=Sum(F("total") - F("completed") - F("failed"))
    )
    yield GaugeMetricFamily(
        "gateway_batch_lines_waiting", "Lines of batches without an answer.", value=left["lines"] or 0
    )
    held = GaugeMetricFamily(
        "gateway_batches_held", "Batches that wait for better times, by what for.", labels=["reason"]
    )
    waiting = Batch.objects.filter(state=Batch.State.IN_PROGRESS).exclude(held="").order_by()
    for row in waiting.values("held").annotate(count=Count("pk")):
        held.add_metric([row["held"]], row["count"])
    yield held


SOURCES: list[Callable[[], Iterator[Metric]]] = [queues, budgets, alerts, batches]
