"""When the clock (Celery beat) last sent a task, told in Redis: so that everybody notices when it stands still."""

from __future__ import annotations

import contextlib
import time
from functools import cache
from typing import Any

import redis
from django.conf import settings
from redis.backoff import NoBackoff
from redis.retry import Retry

KEY = "gw:clock"
KEPT_SECONDS = 86_400


def tick(**_: Any) -> None:
    """A task was sent; without Redis nothing is, and nothing is told."""
    with contextlib.suppress(redis.RedisError, OSError):
        _client().set(KEY, f"{time.time():.3f}", ex=KEPT_SECONDS)


def last_tick() -> float | None:
    """Epoch seconds; None when there was none within a day. Raises what Redis raises when it is away."""
    told = _client().get(KEY)
    return None if told is None else float(told)


@cache
def _client() -> redis.Redis:
    once = Retry(NoBackoff(), 0)
    return redis.Redis.from_url(settings.REDIS_URL, socket_timeout=1, socket_connect_timeout=1, retry=once)
