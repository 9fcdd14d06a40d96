"""Replies that are remembered for a while, in Redis: the encryption, and the work that no client waits for.

Two rooms lie behind it: `idempotency` remembers a reply for the client that asked, `response_cache` for whoever asks the same. What
they write is content, so it is sealed with the gateway's keyring, and their keys are digests under a secret: whoever reads Redis
can neither read an answer nor guess a question.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
from collections.abc import Coroutine
from typing import Any

import redis.asyncio

from providers import keyring
from providers.secrets import SecretError
from routing import loop_store

logger = logging.getLogger("gateway.requests")

LARGEST_BYTES = 1_048_576
"""Of a reply that is remembered."""

_LAST_WORK_SECONDS = 2.0


class KeptReplies:
    """For one event loop."""

    def __init__(self) -> None:
        self._work: set[asyncio.Task[None]] = set()

    @property
    def store(self) -> redis.asyncio.Redis:
        """What it raises when Redis is away is among `loop_store.AWAY`."""
        return loop_store.current()

    def afterwards(self, work: Coroutine[Any, Any, None]) -> None:
        """Do it beside the requests; a failure is logged and hurts nobody."""
        task = asyncio.get_running_loop().create_task(work)
        self._work.add(task)
        task.add_done_callback(self._over)

    def _over(self, task: asyncio.Task[None]) -> None:
        self._work.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("a reply was not remembered: %s", type(error).__name__)

    async def settled(self) -> None:
        """Wait a little for what is under way, and end what takes longer."""
        if self._work:
            _, late = await asyncio.wait(self._work, timeout=_LAST_WORK_SECONDS)
            for task in late:
                task.cancel()


def digest(purpose: str, *parts: bytes) -> str:
    """64 hexadecimal digits that tell nothing of the parts to who does not have this installation's secret."""
    under = hmac.new(keyring.peppers().derive(purpose), digestmod="sha256")
    for part in parts:
        under.update(b"%d:" % len(part))
        under.update(part)
    return under.hexdigest()


def seal(value: bytes, key: str) -> bytes:
    return keyring.current().seal(value, bound_to=key)


def unseal(sealed: bytes, key: str) -> bytes | None:
    """None of what no key on the ring opens: it is as good as forgotten."""
    try:
        return keyring.current().unseal(sealed, bound_to=key)
    except SecretError:
        return None
