from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest

from routing import last_words


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    made = asyncio.new_event_loop()
    yield made
    made.close()


@pytest.fixture
def elsewhere(loop: asyncio.AbstractEventLoop) -> Iterator[asyncio.AbstractEventLoop]:
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield loop
    loop.call_soon_threadsafe(loop.stop)
    thread.join()


def test_what_was_to_be_said_was_said_when_another_thread_s_loop_runs(elsewhere: asyncio.AbstractEventLoop) -> None:
    said: list[str] = []

    async def stop() -> None:
        await asyncio.sleep(0.05)
        said.append("all")

    last_words.end_on(elsewhere, stop)
    assert said == ["all"]


async def test_a_loop_does_not_wait_for_itself() -> None:
    said = asyncio.Event()

    async def stop() -> None:
        said.set()

    last_words.end_on(asyncio.get_running_loop(), stop)
    assert not said.is_set()
    await asyncio.wait_for(said.wait(), 60)


def test_nobody_waits_for_a_loop_that_is_over(loop: asyncio.AbstractEventLoop) -> None:
    async def stop() -> None:
        raise AssertionError

    loop.close()
    last_words.end_on(loop, stop)
