"""Forget at once, in every process, what was cached under a policy: its entries count only under the generation they were made in."""

from __future__ import annotations

import hashlib
import secrets

import redis
from django.conf import settings
from redis.backoff import NoBackoff
from redis.retry import Retry

_PATIENCE_SECONDS = 1.0


class CacheAway(Exception):
    """Redis does not answer: nothing can be forgotten now, and nothing is served from there either."""


def generation_key(policy: str) -> str:
    return f"gw:cache:generation:{hashlib.sha256(policy.encode('utf-8', 'surrogatepass')).hexdigest()[:40]}"


def forget(policy: str) -> None:
    """Raises `CacheAway`."""
    try:
        with redis.Redis.from_url(
            settings.REDIS_URL,
            socket_timeout=_PATIENCE_SECONDS,
            socket_connect_timeout=_PATIENCE_SECONDS,
            retry=Retry(NoBackoff(), 0),
        ) as store:
            store.set(generation_key(policy), secrets.token_bytes(8))
    except (redis.RedisError, OSError) as error:
        raise CacheAway("Redis does not answer; nothing was forgotten") from error
