"""What may become of a Redis while a test runs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import redis


@contextlib.contextmanager
def silent(redis_url: str) -> Iterator[None]:
    """It answers nothing that may write, and so no script, until this is over."""
    with redis.Redis.from_url(redis_url) as client:
        client.client_pause(600_000, all=False)  # paused as a whole, it would not hear of the end either
        try:
            yield
        finally:
            client.client_unpause()
