"""The connections to one origin on one event loop: which is used next, how many there may be, when each has had its time.

Times cost nothing per request: every exchange knows when it is due, and one timer per pool, set to the earliest, looks.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar

from inference.backends import dial
from inference.backends.exchange import IDLE_SECONDS, Limits, Origin
from inference.errors import GatewayOverloaded
from inference.outgoing import OutgoingTransport

_NEVER = float("inf")


class Connection(Protocol):
    """What a pool asks of a connection. `counted` belongs to the pool: whether it stands in the number of open ones."""

    transport: OutgoingTransport
    idle_since: float
    counted: bool
    exchange: Any
    """The exchange under way, with `expire(now)`; None while idle."""

    def abort(self) -> None: ...


C = TypeVar("C", bound=Connection)


class Pool(Generic[C]):
    """Kept by `lease`, which shares it among all backends of one origin."""

    def __init__(self, origin: Origin, loop: asyncio.AbstractEventLoop, make: Callable[[Pool[C]], C]) -> None:
        self.origin = origin
        self._make = make
        self.loop = loop
        self.idle: deque[C] = deque()
        self.busy: set[C] = set()
        self.users = 0
        self._open = 0
        self._waiting: deque[asyncio.Future[C | None]] = deque()
        self._addresses: list[str] = []
        self._addresses_until = 0.0
        self._looking_up: asyncio.Task[list[str]] | None = None
        self._sweep_at = _NEVER
        self._sweep_timer: asyncio.TimerHandle | None = None
        self._closed = False

    # Taking

    def take_idle(self) -> C | None:
        """The connection used last: the likeliest to be alive still."""
        idle = self.idle
        while idle:
            connection = idle.pop()
            if connection.idle_since + IDLE_SECONDS > self.loop.time() and not connection.transport.is_closing():
                self.busy.add(connection)
                return connection
            connection.abort()
        return None

    async def take(self, limits: Limits, *, fresh: bool = False) -> C:
        """An idle connection, a new one, or the next that comes free; `fresh` asks for a new one."""
        until = self.loop.time() + limits.connect
        while True:
            connection = None if fresh else self.take_idle()
            if connection is not None:
                return connection
            if fresh and self._open >= self.origin.max_connections and self.idle:
                self.idle.popleft().abort()
            if self._open < self.origin.max_connections:
                return await self._dial(limits)
            connection = await self._next_free(until - self.loop.time())
            if connection is not None and not connection.transport.is_closing():
                return connection

    async def _dial(self, limits: Limits) -> C:
        self._open += 1
        try:
            try:
                async with asyncio.timeout(limits.connect):
                    addresses = await self._look_up()
            except TimeoutError as error:
                raise dial.not_connected(error, limits) from error
            made: C = await dial.connect(self.origin, addresses, lambda: self._make(self), limits)
        except BaseException:
            self._one_less()
            raise
        made.counted = True
        if made.transport.is_closing():  # it was accepted and dropped at once: let the request find out
            self._one_less()
            made.counted = False
        self.busy.add(made)
        return made

    async def _next_free(self, seconds: float) -> C | None:
        waiter: asyncio.Future[C | None] = self.loop.create_future()
        self._waiting.append(waiter)
        try:
            async with asyncio.timeout(seconds):
                return await waiter
        except TimeoutError as error:
            self._give_back(waiter)
            raise GatewayOverloaded("All connections to the provider are busy.", retry_after=1) from error
        except asyncio.CancelledError:
            self._give_back(waiter)
            raise

    def _give_back(self, waiter: asyncio.Future[C | None]) -> None:
        """A waiter that gave up may have been handed a connection in the same moment."""
        if not waiter.done() or waiter.cancelled():
            return
        connection = waiter.result()
        if connection is not None:
            self.release(connection, reusable=True)
        else:
            self._wake(None)

    async def _look_up(self) -> list[str]:
        if self._addresses and self._addresses_until > self.loop.time():
            return self._addresses
        if self._looking_up is None:
            self._looking_up = self.loop.create_task(dial.look_up(self.origin))
            self._looking_up.add_done_callback(self._looked_up)
        return await asyncio.shield(self._looking_up)

    def _looked_up(self, task: asyncio.Task[list[str]]) -> None:
        self._looking_up = None
        if not task.cancelled() and task.exception() is None:
            self._addresses = task.result()
            self._addresses_until = self.loop.time() + dial.LOOK_UP_SECONDS

    # Giving back

    def release(self, connection: C, *, reusable: bool) -> None:
        if not reusable or self._closed:
            self.busy.discard(connection)
            connection.abort()
            return
        if self._waiting and self._wake(connection):
            return
        self.busy.discard(connection)
        connection.idle_since = self.loop.time()
        self.idle.append(connection)

    def forget(self, connection: C) -> None:
        """The connection is lost."""
        self.busy.discard(connection)
        if connection in self.idle:
            self.idle.remove(connection)
        if connection.counted:
            connection.counted = False
            self._one_less()

    def _one_less(self) -> None:
        self._open -= 1
        self._wake(None)

    def _wake(self, connection: C | None) -> bool:
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(connection)
                return True
        return False

    # Times

    def watch(self, due_at: float) -> None:
        """See to it that somebody looks at `due_at`."""
        if due_at >= self._sweep_at:
            return
        if self._sweep_timer is not None:
            self._sweep_timer.cancel()
        self._sweep_at = due_at
        self._sweep_timer = self.loop.call_at(due_at, self._sweep)

    def _sweep(self) -> None:
        self._sweep_timer = None
        self._sweep_at = earliest = _NEVER
        now = self.loop.time() + 0.002  # the clock of uvloop has steps of a millisecond
        for connection in list(self.busy):
            if connection.exchange is not None:
                earliest = min(earliest, connection.exchange.expire(now))
        while self.idle and self.idle[0].idle_since + IDLE_SECONDS <= now:
            self.idle.popleft().abort()
        if self.idle:
            earliest = min(earliest, self.idle[0].idle_since + IDLE_SECONDS)
        if earliest < _NEVER:
            self.watch(earliest)

    def close(self) -> None:
        """Close what is idle; what is busy closes when it is done."""
        self._closed = True
        if self._sweep_timer is not None and not self.busy:
            self._sweep_timer.cancel()
            self._sweep_timer = None
            self._sweep_at = _NEVER  # whoever holds the pool still may ask once more
        while self.idle:
            self.idle.pop().abort()


_pools: dict[asyncio.AbstractEventLoop, dict[Origin, Pool[Any]]] = {}


def lease(origin: Origin, make: Callable[[Pool[C]], C]) -> Pool[C]:
    """The running loop's pool for an origin; each lease is given back by `give_back`."""
    loop = asyncio.get_running_loop()
    pools = _pools.get(loop)
    if pools is None:
        for ended in [each for each in _pools if each.is_closed()]:
            del _pools[ended]
        pools = _pools[loop] = {}
    pool = pools.get(origin)
    if pool is None:
        pool = pools[origin] = Pool(origin, loop, make)
    pool.users += 1
    return pool


def give_back(pool: Pool[Any]) -> None:
    pool.users -= 1
    if pool.users:
        return
    pool.close()
    pools = _pools.get(pool.loop, {})
    if pools.get(pool.origin) is pool:
        del pools[pool.origin]
