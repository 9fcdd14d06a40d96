from __future__ import annotations

import asyncio
import threading

import pytest

from inference import loop
from inference.plane import DataPlane
from routing import loop_store
from tests.inference.door import Door


async def where() -> asyncio.AbstractEventLoop:
    return asyncio.get_running_loop()


def test_sync_code_runs_coroutines_on_one_loop() -> None:
    first = loop.run(where())
    assert loop.run(where()) is first
    seen = []
    thread = threading.Thread(target=lambda: seen.append(loop.run(where())))
    thread.start()
    thread.join()
    assert seen == [first]


def test_connections_of_the_background_loop_are_closed_when_the_process_ends(redis_url: str) -> None:
    async def asks() -> asyncio.AbstractEventLoop:
        await loop_store.current().ping()
        return asyncio.get_running_loop()

    background = loop.run(asks())
    loop._close_store(background)
    assert background not in loop_store._stores


def test_what_the_coroutine_raises_is_raised() -> None:
    async def fails() -> None:
        raise LookupError("inside")

    with pytest.raises(LookupError, match="inside"):
        loop.run(fails())


def test_a_coroutine_that_takes_too_long_is_cancelled() -> None:
    cancelled = threading.Event()

    async def waits() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    with pytest.raises(TimeoutError):
        loop.run(waits(), timeout=0.02)
    assert cancelled.wait(60)


async def test_async_code_on_another_loop_is_brought_over() -> None:
    assert await loop.run_async(where()) is loop.loop()
    assert loop.loop() is not asyncio.get_running_loop()


async def test_a_process_that_serves_uses_the_serving_loop(door: Door) -> None:
    assert await loop.run_async(where()) is asyncio.get_running_loop()
    assert await asyncio.to_thread(lambda: loop.run(where())) is asyncio.get_running_loop()
    with pytest.raises(RuntimeError, match="own loop"):
        loop.run(where())


async def test_the_serving_plane_is_the_one_that_is_used(door: Door) -> None:
    plane = loop.plane(lambda: pytest.fail("another plane was made"))
    assert isinstance(plane, DataPlane)
    assert loop.is_serving()
