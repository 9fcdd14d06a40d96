"""The lean client once more, for requests that are passed on as they came: any method, a body in pieces, a reply as it is.

A body that is in hand whole may be sent again when a kept connection turns out to be dead; one that comes in pieces cannot,
so it gets a new connection. The names of the reply's headers keep their spelling, trailers are left out.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from inference.backends import http1
from inference.backends import pool as pools
from inference.backends.exchange import Headers, Limits, Origin, hung_up
from inference.backends.http1 import Stale

_WITHOUT_BODY = (204, 304)


@dataclass(frozen=True, slots=True)
class PassedOrigin(Origin):
    """Unequal to a provider's of the same address: the connections are of another kind, and the two share none."""


class Connection(http1.Connection):
    """`uploading` while the request's body is not sent to its end: until then nobody else may have the connection."""

    __slots__ = ("_paused", "_writable", "asks_for_head", "spelled", "uploading")

    def __init__(self, pool: pools.Pool[Connection]) -> None:
        super().__init__(pool)  # type: ignore[arg-type]
        self.asks_for_head = False
        self.uploading = False
        self.spelled: list[bytes] = []
        """The names of the reply's headers, as they were written; a list of its own for each reply."""
        self._paused = False
        self._writable: asyncio.Future[None] | None = None

    async def drain(self) -> None:
        """Wait until the other side has taken enough of what was written; also when the connection is lost."""
        while self._paused and not self.transport.is_closing():
            self._writable = self.pool.loop.create_future()
            await self._writable

    # Called by the transport

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.resume_writing()

    def _wake(self) -> None:
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)

    def _over(self, exchange: http1.Exchange, *, reusable: bool) -> None:
        super()._over(exchange, reusable=reusable and not self.uploading)

    # Called by the parser

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._head_complete:
            self.spelled.append(name)
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        if not self._head_complete:  # an interim reply
            self.spelled.clear()
            return
        exchange = self.exchange
        if exchange is not None and (self.asks_for_head or exchange.status in _WITHOUT_BODY):
            # The parser does not know what was asked, and would wait for the body that the head describes.
            self._reusable = False
            exchange.finished = True


class PassedReply:
    """A reply whose head has come. Iterate it; `abort()` before the end closes the connection at once."""

    __slots__ = ("_exchange", "headers", "status")

    def __init__(self, exchange: http1.Exchange, spelled: list[bytes]) -> None:
        self._exchange = exchange
        self.status = exchange.status
        self.headers = list(zip(spelled, (value for _, value in exchange.headers), strict=True))

    def __aiter__(self) -> http1.Exchange:
        return self._exchange

    def abort(self) -> None:
        self._exchange.abort()


class Upload:
    """The way of a body that comes in pieces. `write` waits while the other side is slow; it does nothing once that has
    closed, since what it said to that is the reply."""

    __slots__ = ("_chunked", "_connection", "_exchange", "_spelled")

    def __init__(self, connection: Connection, exchange: http1.Exchange, *, chunked: bool) -> None:
        self._connection = connection
        self._exchange = exchange
        # A reply that comes in one read lets go of its connection, and another request may have it before we are resumed.
        self._spelled = connection.spelled
        self._chunked = chunked

    async def write(self, piece: bytes, *, last: bool) -> None:
        if self._connection.exchange is not self._exchange:
            return
        self._connection.transport.write(_chunk(piece, last) if self._chunked else piece)
        if last:
            self._connection.uploading = False
        await self._connection.drain()

    async def head(self) -> PassedReply:
        """Wait for the reply's head. Raises `Stale` when a kept connection was dead."""
        await self._exchange.head()
        return PassedReply(self._exchange, self._spelled)

    def fail(self, error: BaseException) -> None:
        """Whoever waits for the reply gets `error`."""
        self._exchange.fail(error)

    def abort(self) -> None:
        self._exchange.abort()


class PassingClient:
    """Requests to one origin; bound to the event loop of its first."""

    def __init__(self, origin: PassedOrigin, limits: Limits) -> None:
        self.limits = limits
        self._pool: pools.Pool[Connection] = pools.lease(origin, Connection)
        self._authority = http1.authority(origin)

    async def send(self, method: str, target: bytes, headers: Headers, body: bytes) -> PassedReply:
        """The whole request, then the reply's head."""
        data = self._head(method, target, headers) + b"\r\n" + body
        connection = self._pool.take_idle() or await self._pool.take(self.limits)
        try:
            return await self._ask(connection, method, data).head()
        except Stale:
            connection = await self._pool.take(self.limits, fresh=True)
        try:
            return await self._ask(connection, method, data).head()
        except Stale as error:
            raise hung_up() from error

    async def begin(self, method: str, target: bytes, headers: Headers, *, chunked: bool) -> Upload:
        """The request's head; its body is to follow."""
        data = self._head(method, target, headers) + (b"transfer-encoding: chunked\r\n\r\n" if chunked else b"\r\n")
        connection = await self._pool.take(self.limits, fresh=True)
        while connection.asked:  # one that came free while the pool was full
            self._pool.release(connection, reusable=False)
            connection = await self._pool.take(self.limits, fresh=True)
        connection.uploading = True
        return self._ask(connection, method, data, chunked=chunked)

    def close(self) -> None:
        pools.give_back(self._pool)

    def _ask(self, connection: Connection, method: str, data: bytes, *, chunked: bool = False) -> Upload:
        connection.asks_for_head = method == "HEAD"
        connection.spelled = []
        return Upload(connection, connection.ask(data, False, self.limits, None), chunked=chunked)

    def _head(self, method: str, target: bytes, headers: Headers) -> bytes:
        """As it was parsed, so no name or value of it can hold a line end."""
        lines = [b"%b %b HTTP/1.1" % (method.encode("ascii"), target), b"host: " + self._authority]
        lines += [name + b": " + value for name, value in headers]
        return b"\r\n".join(lines) + b"\r\n"


def _chunk(piece: bytes, last: bool) -> bytes:
    framed = b"%x\r\n%b\r\n" % (len(piece), piece) if piece else b""
    return framed + b"0\r\n\r\n" if last else framed
