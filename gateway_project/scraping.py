"""Figures that belong to no process: read from the stores when Prometheus asks, and left out when a store is away."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator

import redis
from django.conf import settings
from django.db import DatabaseError
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from gateway_project.celery import QUEUES

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


SOURCES: list[Callable[[], Iterator[Metric]]] = [queues]
