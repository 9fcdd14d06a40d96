"""What all processes share in Redis: breakers, resting keys, how routes fared. Without a Redis the demo goes without it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta

from django.conf import settings

from gateway_project import embedded_redis
from providers.models import ApiKey
from routing import breakers, key_exhaustion, performance, shared_health
from routing.breakers import Breaker
from routing.key_exhaustion import Exhaustion
from routing.performance import Figures
from routing.types import Snapshot


def write(snapshot: Snapshot, unwell: Mapping[str, Breaker], figures: Mapping[str, Figures], until: datetime) -> bool:
    """False when no Redis takes it."""
    calls = [
        shared_health.put(name, documents)
        for name, documents in (
            (shared_health.BREAKERS, {route: breakers.as_document(one) for route, one in unwell.items()}),
            (shared_health.PERFORMANCE, {route: performance.as_document(one) for route, one in figures.items()}),
            (shared_health.KEYS, _resting(snapshot, until)),
        )
        if documents
    ]
    try:
        with redis_running():
            shared_health.ask(settings.REDIS_URL, *calls)
    except (*shared_health.AWAY, embedded_redis.NoRedis):
        return False
    return True


def _resting(snapshot: Snapshot, until: datetime) -> dict[str, dict[str, object]]:
    """One key whose account ran out of money."""
    key = ApiKey.objects.select_related("provider").get(provider__provider_id="anthropic", name="batch jobs")
    provider = snapshot.providers[key.provider.provider_id]
    back_at = int((until + timedelta(hours=7)).timestamp() * 1000)
    rests = Exhaustion(back_at, "insufficient_quota", 3, provider.provider_id, provider.fingerprint)
    return {str(key.pk): key_exhaustion.as_document(rests)}


@contextmanager
def redis_running() -> Iterator[None]:
    """The installation's own is started for the while, unless it runs."""
    if not settings.REDIS_URL.startswith(f"unix://{settings.DATA_DIR}/"):
        yield
        return
    path = embedded_redis.socket_path(settings.DATA_DIR)
    if embedded_redis.answers(path):
        yield
        return
    process = subprocess.Popen(
        embedded_redis.command(settings.DATA_DIR), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        embedded_redis.wait_until_it_answers(path)
        yield
    finally:
        process.terminate()
        process.wait(10)
