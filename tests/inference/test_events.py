"""The event log: in order, resumable, deaf to workers whose fence has passed."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncGenerator
from typing import Any

import pytest
import redis

from inference import events


@pytest.fixture
def job_id() -> uuid.UUID:
    return uuid.uuid4()


async def written(redis_url: str, job_id: Any, fence: int, *data: bytes) -> None:
    log = events.Log(redis_url, job_id, fence)
    await log.append("chunk", list(data))
    await log.aclose()


async def read(redis_url: str, job_id: Any, after: str = events.BEGINNING) -> list[events.Event]:
    """What is there now."""
    found = []
    stream = events.follow(redis_url, job_id, after)
    async for event in stream:
        if event is None:
            break
        found.append(event)
    await stream.aclose()
    return found


async def test_events_come_in_order(redis_url: str, job_id: Any) -> None:
    await written(redis_url, job_id, 1, b"1", b"2", b"3")
    assert [event.data for event in await read(redis_url, job_id)] == [b"1", b"2", b"3"]


async def test_a_reader_resumes_after_the_last_event_it_had(redis_url: str, job_id: Any) -> None:
    await written(redis_url, job_id, 1, b"1", b"2", b"3")
    second = (await read(redis_url, job_id))[1]
    assert events.is_event_id(second.id)
    assert [event.data for event in await read(redis_url, job_id, second.id)] == [b"3"]


async def test_a_reader_waits_for_what_comes(redis_url: str, job_id: Any) -> None:
    stream = events.follow(redis_url, job_id)
    waiting = asyncio.create_task(_next_event(stream))
    await asyncio.sleep(0.1)
    await written(redis_url, job_id, 1, b"late")
    assert (await waiting).data == b"late"
    await stream.aclose()


async def _next_event(stream: AsyncGenerator[events.Event | None, None]) -> events.Event:
    while (event := await anext(stream)) is None:
        pass
    return event


async def test_a_worker_thought_dead_is_not_heard_any_more(redis_url: str, job_id: Any) -> None:
    await written(redis_url, job_id, 1, b"old")
    events.note(redis_url, job_id, "restarted", 2, attempt=2)
    await written(redis_url, job_id, 1, b"stale")
    await written(redis_url, job_id, 2, b"new")
    found = await read(redis_url, job_id)
    assert [(event.kind, event.data) for event in found if event.kind == "chunk"] == [
        ("chunk", b"old"),
        ("chunk", b"new"),
    ]


async def test_a_log_ends_by_itself_after_a_day(redis_url: str, job_id: Any) -> None:
    await written(redis_url, job_id, 1, b"1")
    with redis.Redis.from_url(redis_url) as store:
        assert 0 < store.ttl(events.key(job_id)) <= events.KEPT_SECONDS


async def test_a_log_that_cannot_be_written_does_not_stop_the_job(job_id: Any) -> None:
    log = events.Log("redis://127.0.0.1:1/0", job_id, 1)
    await log.append("chunk", [b"1"])
    await log.append("chunk", [b"2"])
    await log.aclose()
    events.note("redis://127.0.0.1:1/0", job_id, "over", 1)


def test_only_ids_of_streams_are_event_ids() -> None:
    assert events.is_event_id("1700000000000-0")
    assert not events.is_event_id("$")
    assert not events.is_event_id("1700000000000")
    assert not events.is_event_id("9" * 25 + "-0")
