"""The snapshot that the data plane reads: built by the ORM off the event loop, replaced by one reference.

A process holds one at a time. It is built again after each commit of its own, on a hint from Redis, and when the polled
revision is higher; a build that fails keeps the old one and says so.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import redis
from django.conf import settings
from django.db import connection, connections

from providers import revision
from routing import building
from routing.types import RolloutView, Snapshot

log = logging.getLogger(__name__)

HINT_CHANNEL = "gw:registry"
POLL_SECONDS = 1.0
_LAST_READ_SECONDS = 5.0
"""For who reads when the following ends: what it reads would be in force, and its connection open, after all else is over."""

_current: Snapshot | None = None
_problem: str = ""
_building = threading.Lock()
_live = False


def current() -> Snapshot:
    """The snapshot in force; the first call of a process builds it."""
    return _current if _current is not None else refresh()


def held() -> Snapshot | None:
    """The snapshot in force, without building anything."""
    return _current


def rollout() -> RolloutView | None:
    """The parallel run in force, without building anything: a process that has read no registry parts no clients."""
    return None if _current is None else _current.rollout


def replace(snapshot: Snapshot | None) -> None:
    """Put another snapshot in force; None forgets it. Requests in flight keep theirs."""
    global _current
    _current = snapshot


def problem() -> str:
    """Why the last build failed; empty when it did not."""
    return _problem


def refresh() -> Snapshot:
    """Build from the database now, unless what is in force has the database's revision. Call it from a thread."""
    global _problem
    with _building:
        held = _current
        if held is not None and not _is_stale(held) and held.revision == revision.current():
            _problem = ""  # the database is back, and nothing was missed
            return held
        try:
            replace(building.build())
            _problem = ""
        except Exception as error:
            if held is None:
                raise
            _problem = f"{type(error).__name__}: {error}"
            log.exception("the registry could not be read; revision %s stays in force", held.revision)
        assert _current is not None
        return _current


def _is_stale(held: Snapshot) -> bool:
    return held.stale_at is not None and held.stale_at <= time.time()


def read() -> Snapshot:
    """As `refresh`, for a thread that leaves no connection behind."""
    try:
        return refresh()
    finally:
        connections.close_all()


def registry_changed() -> None:
    """After a commit here: rebuild what this process holds, and tell the others to look. What was written stays so, whether or
    not it can be read back now."""
    if _current is not None:
        _refresh_quietly()
    threading.Thread(target=_hint, name="registry-hint", daemon=True).start()


async def keep_fresh() -> None:
    """Follow the registry until cancelled: a hint or the poll, whichever comes first."""
    # One thread, so that one connection follows the registry, and is closed with it.
    reader = ThreadPoolExecutor(1, thread_name_prefix="registry")
    loop = asyncio.get_running_loop()
    woken = asyncio.Event()
    listener = asyncio.create_task(_listen(woken))
    try:
        await loop.run_in_executor(reader, _refresh_quietly)
        while True:
            with contextlib.suppress(TimeoutError):
                # `wait_for` of Python 3.11 loses a cancellation that meets a hint, and a shutdown would wait for ever.
                async with asyncio.timeout(POLL_SECONDS):
                    await woken.wait()
            woken.clear()
            await loop.run_in_executor(reader, _refresh_quietly)
    finally:
        listener.cancel()
        await asyncio.wait([loop.run_in_executor(reader, connections.close_all)], timeout=_LAST_READ_SECONDS)
        reader.shutdown(wait=False)


def age_seconds() -> float:
    return time.time() - _current.built_at if _current else float("inf")


def _refresh_quietly() -> None:
    global _problem
    if connection.errors_occurred:
        connection.close_if_unusable_or_obsolete()
    try:
        refresh()
    except Exception as error:  # the database may be away; what is in force serves on
        _problem = f"{type(error).__name__}: {error}"
        log.warning("the registry's revision could not be read: %s", type(error).__name__)


async def _listen(woken: asyncio.Event) -> None:
    while True:
        client = redis.asyncio.Redis.from_url(settings.REDIS_URL)
        try:
            async with client, client.pubsub() as channel:
                await channel.subscribe(HINT_CHANNEL)
                async for message in channel.listen():
                    if message["type"] == "message":
                        woken.set()
        except (redis.RedisError, OSError):
            await asyncio.sleep(POLL_SECONDS)


def _hint() -> None:
    with (
        contextlib.suppress(redis.RedisError, OSError),
        redis.Redis.from_url(settings.REDIS_URL, socket_timeout=1) as client,
    ):
        client.publish(HINT_CHANNEL, b"")
