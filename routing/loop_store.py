"""Redis for whoever serves requests on an event loop: one pool of connections for each loop, made when it is first asked.

An answer takes less than a millisecond, so few connections serve many requests. Nobody waits long for a Redis that is silent: what
it is asked for here can be done without.
"""

from __future__ import annotations

import asyncio
from weakref import WeakKeyDictionary

import redis
import redis.asyncio
from django.conf import settings
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

AWAY = (redis.RedisError, OSError, TimeoutError)
"""What is raised when it cannot be asked."""

_PATIENCE_SECONDS = 0.5
_MOST_CONNECTIONS = 24

_stores: WeakKeyDictionary[asyncio.AbstractEventLoop, redis.asyncio.Redis] = WeakKeyDictionary()


def current() -> redis.asyncio.Redis:
    """Of the running loop."""
    loop = asyncio.get_running_loop()
    store = _stores.get(loop)
    if store is None:
        pool = redis.asyncio.BlockingConnectionPool.from_url(
            settings.REDIS_URL,
            max_connections=_MOST_CONNECTIONS,
            timeout=_PATIENCE_SECONDS,
            socket_timeout=_PATIENCE_SECONDS,
            socket_connect_timeout=_PATIENCE_SECONDS,
            retry=Retry(NoBackoff(), 0),
        )
        store = _stores[loop] = redis.asyncio.Redis.from_pool(pool)
    return store


async def close() -> None:
    """Before the running loop ends."""
    store = _stores.pop(asyncio.get_running_loop(), None)
    if store is not None:
        await store.aclose()
