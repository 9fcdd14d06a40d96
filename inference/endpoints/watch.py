"""Keeps an eye on requests that last: clients that leave, replies that are late, streams that are silent.

One timer per event loop serves all of them. A request is looked at only when it is older than `watch_after_seconds`; most are
over by then and cost one entry. The others get a task that waits for the client to close.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from inference.limits import Limits

_SWEEP_SECONDS = 0.25


class Exchange(Protocol):
    """What is asked of a request under watch. `deadline` is on the loop's clock, `pieces` grows whenever the reply moves."""

    deadline: float
    pieces: int

    @property
    def wants_disconnect(self) -> bool: ...

    async def wait_for_disconnect(self) -> None: ...

    def time_out(self) -> None: ...

    def comment(self) -> None: ...


class Watched:
    """A request under watch and when it was last seen to move, on the loop's clock."""

    __slots__ = ("pieces", "silent_since", "waiting")

    def __init__(self, now: float) -> None:
        self.waiting: asyncio.Task[None] | None = None
        self.pieces = 0
        self.silent_since = now


class Watch:
    def __init__(self, loop: asyncio.AbstractEventLoop, limits: Limits) -> None:
        self._loop = loop
        self._limits = limits
        self._fresh: dict[Exchange, float] = {}
        """By arrival, and in its order."""
        self._watched: dict[Exchange, Watched] = {}
        self._armed = False
        self._sweep_at = 0.0
        self._sweep_every = min(_SWEEP_SECONDS, limits.keep_alive_seconds / 2, limits.reply_seconds / 2)

    @property
    def inflight(self) -> int:
        return len(self._fresh) + len(self._watched)

    def enter(self, exchange: Exchange, now: float) -> None:
        self._fresh[exchange] = now
        if not self._armed:
            self._armed = True
            self._loop.call_later(self._limits.watch_after_seconds, self._tick)

    def leave(self, exchange: Exchange) -> None:
        if self._fresh.pop(exchange, None) is not None:
            return
        watched = self._watched.pop(exchange, None)
        if watched is not None and watched.waiting is not None:
            watched.waiting.cancel()

    def _tick(self) -> None:
        now = self._loop.time()
        ripe = now - self._limits.watch_after_seconds
        grown = []
        for exchange, arrived in self._fresh.items():
            if arrived > ripe:
                break
            grown.append(exchange)
        for exchange in grown:
            self._watched[exchange] = Watched(self._fresh.pop(exchange))
            self._wait_for_disconnect(exchange)
        if now >= self._sweep_at:
            self._sweep_at = now + self._sweep_every
            for exchange, watched in list(self._watched.items()):
                self._look_at(exchange, watched, now)
        self._armed = bool(self._fresh or self._watched)
        if self._armed:
            self._loop.call_later(self._limits.watch_after_seconds, self._tick)

    def _look_at(self, exchange: Exchange, watched: Watched, now: float) -> None:
        if watched.waiting is None:
            self._wait_for_disconnect(exchange)
        if now >= exchange.deadline:
            exchange.time_out()
        elif exchange.pieces != watched.pieces:
            watched.pieces, watched.silent_since = exchange.pieces, now
        elif now - watched.silent_since >= self._limits.keep_alive_seconds:
            watched.silent_since = now
            exchange.comment()

    def _wait_for_disconnect(self, exchange: Exchange) -> None:
        """Two readers of one connection would steal from each other: the body must have been read."""
        if exchange.wants_disconnect:
            watched = self._watched[exchange]
            watched.waiting = self._loop.create_task(exchange.wait_for_disconnect())
