"""A job's events as server-sent events: from any event on, until the row says how it ended."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import orjson

from inference import events
from inference.api.serializers import JobOut
from inference.models import Job
from inference.wire import sse

KEEP_ALIVE_SECONDS = 10.0


async def job_events(redis_url: str, job_id: Any, after: str) -> AsyncIterator[bytes]:
    """`running`, `restarted` and `chunk` events of the log, then one named for the final state, holding the job.

    The last one repeats the id of what was sent before, so a client that resumes after it is told the end again.
    """
    yield b": open\n\n"
    sent_at = time.monotonic()
    was_over = False
    async with aclosing(events.follow(redis_url, job_id, after)) as log:
        async for event in log:
            if event is not None and event.kind != "over":
                after, sent_at = event.id, time.monotonic()
                yield frame(event.kind, event.data, event.id)
                continue
            job = await Job.objects.filter(pk=job_id).afirst()
            if job is None:
                return
            if job.is_over and (was_over or event is not None):
                yield frame(job.state, orjson.dumps(JobOut(job).data), after if after != events.BEGINNING else "")
                return
            was_over = job.is_over  # the log may have grown since it was silent, and is read once more
            if time.monotonic() - sent_at >= KEEP_ALIVE_SECONDS:
                sent_at = time.monotonic()
                yield sse.KEEP_ALIVE


def frame(kind: str, data: bytes, event_id: str = "") -> bytes:
    """`data` is JSON, which has no line ends."""
    head = f"id: {event_id}\n" if event_id else ""
    return f"{head}event: {kind}\n".encode() + sse.event_of(data)
