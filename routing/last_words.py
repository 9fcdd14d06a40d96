"""How something that lives on an event loop is ended from another thread."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from concurrent.futures import TimeoutError as NotInTime
from typing import Any

PATIENCE_SECONDS = 2.0


def end_on(loop: asyncio.AbstractEventLoop, stop: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Returns once `stop` ended, or after two seconds.

    From the loop's own thread, and where the loop stands still, it ends later; where the loop is over, its tasks are too.
    """
    if loop.is_closed():
        return
    ending = asyncio.run_coroutine_threadsafe(stop(), loop)
    if loop.is_running() and not _is_ours(loop):
        with contextlib.suppress(NotInTime):
            ending.result(PATIENCE_SECONDS)


def _is_ours(loop: asyncio.AbstractEventLoop) -> bool:
    with contextlib.suppress(RuntimeError):
        return asyncio.get_running_loop() is loop
    return False
