"""The bridge between the two colours: synchronous code (views, tasks, commands) awaits the data plane's coroutines here.

A process has one loop for it: the one that serves `/v1` when this process serves, else one in a background thread, made on
first use. Pools and relays belong to that loop, so everything that uses them runs there.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from typing import Any, TypeVar

from inference.plane import DataPlane
from routing import last_words, loop_store

Result = TypeVar("Result")

MOST_THREADS = 64
"""For what blocks, such as an answer of a local model: asyncio's own few would keep an engine for many from having enough to do."""

_lock = threading.Lock()
_serving: DataPlane | None = None
_background: asyncio.AbstractEventLoop | None = None
_background_plane: DataPlane | None = None
_owner_pid = 0


def serve_on(plane: DataPlane) -> None:
    """This process serves `/v1` with this plane: what others ask for runs there too."""
    global _serving
    _serving = plane


def leave(plane: DataPlane) -> None:
    global _serving
    if _serving is plane:
        _serving = None


def is_serving() -> bool:
    """Whether this process serves `/v1`, and so holds a snapshot that is kept fresh."""
    return _serving is not None


def loop() -> asyncio.AbstractEventLoop:
    if _serving is not None and not _serving.loop.is_closed():
        return _serving.loop
    return _background_loop()


def run(coroutine: Coroutine[Any, Any, Result], timeout: float | None = None) -> Result:
    """Run it on the loop and wait. Raises what it raises, and `TimeoutError` (the coroutine is cancelled) after `timeout`.

    Not for use on the loop itself, where waiting would stop what is waited for.
    """
    target = loop()
    if _is_running_here(target):
        coroutine.close()
        raise RuntimeError("loop.run() was called on the data plane's own loop; await the coroutine instead")
    future = asyncio.run_coroutine_threadsafe(coroutine, target)
    try:
        return future.result(timeout)
    except (FutureTimeout, KeyboardInterrupt):
        future.cancel()
        raise


async def run_async(coroutine: Coroutine[Any, Any, Result]) -> Result:
    """The same for asynchronous code, on whichever loop it runs; cancelling the caller cancels the coroutine."""
    target = loop()
    if _is_running_here(target):
        return await coroutine
    return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(coroutine, target))


def plane(make: Callable[[], DataPlane]) -> DataPlane:
    """The plane of the running loop, which is `loop()`; made by `make` when this process does not serve."""
    global _background_plane
    if _serving is not None and _is_running_here(_serving.loop):
        return _serving
    if _background_plane is None or not _is_running_here(_background_plane.loop):
        _background_plane = make()
    return _background_plane


def _background_loop() -> asyncio.AbstractEventLoop:
    """A forked child has the parent's loop but not its thread: it makes its own."""
    global _background, _owner_pid
    with _lock:
        if _background is None or _owner_pid != os.getpid() or _background.is_closed():
            _background = asyncio.new_event_loop()
            _background.set_default_executor(ThreadPoolExecutor(MOST_THREADS, "data-plane-work"))
            _owner_pid = os.getpid()
            atexit.register(_close_store, _background)
            threading.Thread(target=_background.run_forever, name="data-plane-loop", daemon=True).start()
        return _background


def _close_store(of: asyncio.AbstractEventLoop) -> None:
    """When the process ends; nobody else closes what was opened on this loop."""
    if _owner_pid == os.getpid() and of.is_running():
        last_words.end_on(of, loop_store.close)


def _is_running_here(target: asyncio.AbstractEventLoop) -> bool:
    try:
        return asyncio.get_running_loop() is target
    except RuntimeError:
        return False
