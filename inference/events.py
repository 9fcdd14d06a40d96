"""A job's event log: a capped Redis stream that readers may join late and resume.

An entry's id is the event's id on the wire (`Last-Event-ID`). The log is a convenience: how a job ended is said by its row,
and a log that was lost or cut costs a reader the text so far, never the result. Each entry carries the fence of the worker
that wrote it, so that one thought dead cannot speak into the answer of its successor.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass

import orjson
import redis
import redis.asyncio

logger = logging.getLogger("gateway.jobs")

KEPT_EVENTS = 20_000
KEPT_SECONDS = 24 * 3600
BEGINNING = "0-0"
POLL_SECONDS = 1.0
_PATIENCE_SECONDS = 2.0
"""With a Redis that does not answer."""
_ID = re.compile(r"\d{1,19}-\d{1,19}")


@dataclass(frozen=True, slots=True)
class Event:
    """`kind` is `running`, `chunk`, `restarted` or `over`; `data` is JSON. An `over` only says that the row is final."""

    id: str
    kind: str
    data: bytes
    fence: int


def key(job_id: object) -> str:
    return f"gw:job:{job_id}:events"


def is_event_id(text: str) -> bool:
    return _ID.fullmatch(text) is not None


class Log:
    """The writing end, for one attempt at one job. A log that cannot be written is given up: the job goes on."""

    def __init__(self, redis_url: str, job_id: object, fence: int) -> None:
        self._url = redis_url
        self._key = key(job_id)
        self._fence = fence
        self._redis: redis.asyncio.Redis | None = None
        self._lost = False

    async def append(self, kind: str, data: list[bytes]) -> None:
        if self._lost or not data:
            return
        if self._redis is None:
            self._redis = redis.asyncio.Redis.from_url(self._url, socket_timeout=_PATIENCE_SECONDS)
        try:
            async with self._redis.pipeline(transaction=False) as commands:
                for one in data:
                    fields = {b"k": kind, b"f": self._fence, b"d": one}
                    commands.xadd(self._key, fields, maxlen=KEPT_EVENTS)
                commands.expire(self._key, KEPT_SECONDS)
                await commands.execute()
        except (redis.RedisError, OSError) as error:
            self._lost = True
            logger.warning("%s: the event log is given up: %s", self._key, type(error).__name__)

    async def aclose(self) -> None:
        if self._redis is not None:
            await self._redis.aclose()


def note(redis_url: str, job_id: object, kind: str, fence: int, **data: object) -> None:
    """One entry, from synchronous code; best effort, as the row says the same."""
    try:
        with (
            redis.Redis.from_url(redis_url, socket_timeout=_PATIENCE_SECONDS) as client,
            client.pipeline(transaction=False) as commands,
        ):
            fields = {b"k": kind, b"f": fence, b"d": orjson.dumps(data)}
            commands.xadd(key(job_id), fields, maxlen=KEPT_EVENTS)
            commands.expire(key(job_id), KEPT_SECONDS)
            commands.execute()
    except (redis.RedisError, OSError) as error:
        logger.warning("job %s: event %s was not written: %s", job_id, kind, type(error).__name__)


def summary(redis_url: str, job_id: object) -> tuple[list[Event], int]:
    """What happened beside pieces of the answer, oldest first, and how many pieces there are; nothing where Redis is away.

    Pieces are counted and not looked at.
    """
    try:
        with redis.Redis.from_url(redis_url, socket_timeout=_PATIENCE_SECONDS) as client:
            found = client.xrange(key(job_id), count=KEPT_EVENTS)
    except (redis.RedisError, OSError):
        return [], 0
    told = [Event(at.decode(), fields[b"k"].decode(), fields[b"d"], int(fields[b"f"])) for at, fields in found]
    noted = [event for event in told if event.kind != "chunk"]
    return noted, len(told) - len(noted)


def lengths(redis_url: str, job_ids: Sequence[object]) -> list[int]:
    """How many events each job has; zeros where Redis is away."""
    if not job_ids:
        return []
    try:
        with (
            redis.Redis.from_url(redis_url, socket_timeout=_PATIENCE_SECONDS) as client,
            client.pipeline(transaction=False) as commands,
        ):
            for job_id in job_ids:
                commands.xlen(key(job_id))
            return commands.execute()
    except (redis.RedisError, OSError):
        return [0] * len(job_ids)


async def follow(redis_url: str, job_id: object, after: str = BEGINNING) -> AsyncGenerator[Event | None, None]:
    """The events after an id, then those that come. None after each second without any: time to look at the row.

    A `restarted` says that a later attempt has begun: what was told of the answer before is void.
    """
    fence = 0
    async with redis.asyncio.Redis.from_url(redis_url, socket_timeout=POLL_SECONDS + _PATIENCE_SECONDS) as client:
        while True:
            try:
                found = await client.xread({key(job_id): after}, count=500, block=int(POLL_SECONDS * 1000))
            except (redis.RedisError, OSError):
                found = []
                await asyncio.sleep(POLL_SECONDS)
            # redis-py loses a cancellation that meets it while it connects.
            if (task := asyncio.current_task()) is not None and task.cancelling():
                raise asyncio.CancelledError
            for _, entries in found.items() if isinstance(found, dict) else found:
                for entry_id, fields in entries:
                    event = Event(entry_id.decode(), fields[b"k"].decode(), fields[b"d"], int(fields[b"f"]))
                    after = event.id
                    if event.fence < fence:
                        continue
                    fence = event.fence
                    yield event
            if not found:
                yield None
