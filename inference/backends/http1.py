"""A lean HTTP/1.1 client: one write per request, one future per wait, no task, queue or timer of its own.

It does what a relay to a model needs and nothing else: POST and GET with a length, replies by length, chunked or until
close (RFC 9112), interim replies skipped, keep-alive. No redirects, cookies, proxies or pipelining. llhttp parses.
"""

from __future__ import annotations

import asyncio
from typing import Any, cast

import httptools

from inference.backends import pool as pools
from inference.backends.exchange import (
    HIGH_WATER_BYTES,
    MAX_HEAD_BYTES,
    Body,
    Headers,
    Limits,
    Origin,
    broken,
    cut,
    hung_up,
    no_first_byte,
    stalled,
    too_large,
    took_too_long,
)
from inference.outgoing import OutgoingTransport
from inference.told_usage import usage_tail

_DEFAULT_PORTS = {"http": 80, "https": 443}
_ENDS_BY_ITSELF = (b"content-length", b"transfer-encoding")


class Stale(Exception):
    """A kept connection turned out to be closed before any byte of the reply came."""


class Http1Client:
    """Bound to the event loop of its first request."""

    def __init__(self, origin: Origin) -> None:
        self.origin = origin
        self._pool: pools.Pool[Connection] | None = None

    def prepare(self, method: str, target: str, headers: Headers) -> bytes:
        lines = [f"{method} {target} HTTP/1.1".encode("ascii"), b"host: " + authority(self.origin)]
        lines += [name + b": " + value for name, value in headers]
        if any(b"\r" in line or b"\n" in line for line in lines):
            raise ValueError("a header or path of the provider holds a line end")
        return b"\r\n".join(lines) + b"\r\n"

    async def send(
        self,
        prepared: Any,
        body: Body | None = None,
        *,
        request_id: str = "",
        traceparent: bytes = b"",
        whole: bool = True,
        limits: Limits = Limits(),  # noqa: B008
        deadline: float | None = None,
    ) -> Exchange:
        pool = self._pool
        if pool is None:
            pool = self._pool = pools.lease(self.origin, Connection)
        if traceparent:
            prepared = b"%btraceparent: %b\r\n" % (prepared, traceparent)
        data = _message(prepared, request_id, body)
        connection = pool.take_idle()
        if connection is None:
            connection = await pool.take(limits)
        try:
            return await connection.ask(data, whole, limits, deadline).head()
        except Stale:
            connection = await pool.take(limits, fresh=True)
        try:
            return await connection.ask(data, whole, limits, deadline).head()
        except Stale as error:
            raise hung_up() from error

    async def aclose(self) -> None:
        if self._pool is not None:
            pools.give_back(self._pool)
            self._pool = None


class Exchange:
    """One request and its reply; see `exchange.HttpReply`."""

    __slots__ = (
        "_connection",
        "_deadline",
        "_error",
        "_first_due",
        "_limits",
        "_loop",
        "_parts",
        "_pending",
        "_waiter",
        "_whole",
        "finished",
        "headers",
        "paused",
        "read_at",
        "received",
        "size",
        "status",
    )

    def __init__(self, connection: Connection, whole: bool, limits: Limits, deadline: float | None) -> None:
        self._loop = connection.pool.loop
        now = self._loop.time()
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.finished = False
        self.received = 0
        """Bytes of the reply so far, head included."""
        self.size = 0
        self.read_at = now
        self._connection: Connection | None = connection
        self._whole = whole
        self._limits = limits
        self._first_due = now + limits.first_byte
        self._deadline = now + limits.total if deadline is None else min(now + limits.total, deadline)
        self._parts: list[bytes] = []
        self._pending = 0
        self.paused = False
        self._waiter: asyncio.Future[None] | None = None
        self._error: BaseException | None = None

    # The consumer's side

    async def read(self) -> bytes:
        self._whole = True
        self._check_size()
        if self.paused:
            self._resume()
        await self.head()
        if self._error is not None:
            raise self._error
        return self._take()

    def said_of_usage(self) -> bytes:
        """Of a whole body as far as it has come."""
        return usage_tail(b"".join(self._parts)) or b"" if self._whole else b""

    def __aiter__(self) -> Exchange:
        return self

    async def __anext__(self) -> bytes:
        while not self._parts:
            if self.finished:
                if self._error is not None:
                    raise self._error
                raise StopAsyncIteration
            if self.paused:
                self._resume()
            waiter = self._waiter = self._loop.create_future()
            try:
                await waiter
            except asyncio.CancelledError:
                self.abort()
                raise
        return self._take()

    async def aclose(self) -> None:
        self.abort()

    def abort(self) -> None:
        """End the connection at once; nothing when the reply is over."""
        connection = self._connection
        if connection is not None:
            self._end(None)
            connection.abort()

    def _take(self) -> bytes:
        parts = self._parts
        self._parts = []
        self._pending = 0
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _resume(self) -> None:
        self.paused = False
        if self._connection is not None:
            self.read_at = self._loop.time()
            self._connection.transport.resume_reading()
            self._connection.pool.watch(self.due_at())

    # The connection's side

    def piece(self, data: bytes) -> None:
        if not self.size and self._connection is not None:
            self._connection.pool.watch(self.read_at + self._limits.idle)
        self._parts.append(data)
        self.size += len(data)
        self._pending += len(data)

    def after_read(self, head_complete: bool) -> None:
        """Called once per read that did not end the reply."""
        if not head_complete:
            if self.received > MAX_HEAD_BYTES:
                self.fail(broken("the head of the reply is too large"))
            return
        if self._whole:
            self._check_size()
            return
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)
        if self._pending > HIGH_WATER_BYTES and not self.paused and self._connection is not None:
            self.paused = True
            self._connection.transport.pause_reading()

    def _check_size(self) -> None:
        if self.size > self._limits.max_body:
            self.fail(too_large(self._limits.max_body))

    def succeed(self) -> None:
        if self._whole and self.size > self._limits.max_body:
            self._end(too_large(self._limits.max_body))
        else:
            self._end(None)

    def fail(self, error: BaseException) -> None:
        connection = self._connection
        self._end(error)
        if connection is not None:
            connection.abort()

    def _end(self, error: BaseException | None) -> None:
        if self._connection is not None:
            self._connection.exchange = None
            self._connection = None
        self.finished = True
        self._error = error
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def due_at(self) -> float:
        if self.paused:  # the consumer is slow, not the upstream
            return self._deadline
        return min(self._deadline, self._first_due if not self.size else self.read_at + self._limits.idle)

    def expire(self, now: float) -> float:
        """Fail when it is time; else say when it will be."""
        due_at = self.due_at()
        if due_at > now:
            return due_at
        if self._deadline <= now:
            self.fail(took_too_long(self._limits))
        else:
            self.fail(stalled(self._limits) if self.size else no_first_byte(self._limits))
        return float("inf")

    async def head(self) -> Exchange:
        """Wait for the head or, if `whole`, for the end."""
        while not self.finished and (self._whole or not self.status):
            waiter = self._waiter = self._loop.create_future()
            try:
                await waiter
            except asyncio.CancelledError:
                self.abort()
                raise
        if self._error is not None and (self._whole or not self.status):
            raise self._error
        return self


class Connection(asyncio.Protocol):
    """A connection and its parser. `exchange` is the reply under way; without one the connection is idle."""

    __slots__ = (
        "_head_complete",
        "_parser",
        "_reusable",
        "_surplus",
        "_time",
        "asked",
        "counted",
        "exchange",
        "idle_since",
        "pool",
        "transport",
    )

    def __init__(self, pool: pools.Pool[Connection]) -> None:
        self.pool = pool
        self._time = pool.loop.time
        self.transport: OutgoingTransport = None  # type: ignore[assignment]
        self.exchange: Exchange | None = None
        self.idle_since = 0.0
        self.asked = 0
        self.counted = False
        self._parser = httptools.HttpResponseParser(self)
        self._head_complete = False
        self._reusable = False
        self._surplus = False

    def ask(self, data: Body, whole: bool, limits: Limits, deadline: float | None) -> Exchange:
        self.asked += 1
        self._head_complete = False
        if self.transport.is_closing():
            self.pool.forget(self)
            raise Stale if self.asked > 1 else hung_up()
        exchange = self.exchange = Exchange(self, whole, limits, deadline)
        self.pool.watch(exchange.due_at())
        if isinstance(data, tuple):
            for piece in data:
                self.transport.write(piece)
                self.transport.flush()  # what waits would be joined, and so copied
        else:
            self.transport.write(data)
        return exchange

    def abort(self) -> None:
        self.transport.abort()

    # Called by the transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = OutgoingTransport(cast(asyncio.Transport, transport), self.pool.loop)

    def data_received(self, data: bytes) -> None:
        exchange = self.exchange
        if exchange is None:  # bytes that nobody asked for
            self.abort()
            return
        exchange.received += len(data)
        exchange.read_at = self._time()
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if exchange.finished:  # more than was announced
                self._over(exchange, reusable=False)
                return
            failure = broken(type(error).__name__)
            failure.__cause__ = error
            exchange.fail(failure)
            return
        if self._surplus:
            self._over(exchange, reusable=False)
        elif exchange.finished:
            self._over(exchange, reusable=self._reusable)
        else:
            exchange.after_read(self._head_complete)

    def eof_received(self) -> bool:
        exchange = self.exchange
        if exchange is not None:
            if self._head_complete and not any(name in _ENDS_BY_ITSELF for name, _ in exchange.headers):
                exchange.succeed()
            else:
                exchange.fail(self._lost(exchange, None))
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.pool.forget(self)
        if self.exchange is not None:
            self.exchange.fail(self._lost(self.exchange, exc))

    def _lost(self, exchange: Exchange, exc: Exception | None) -> BaseException:
        if exchange.received == 0:
            error: BaseException = Stale() if self.asked > 1 else hung_up()
        else:
            error = cut()
            error.used = exchange.said_of_usage()
        error.__cause__ = exc
        return error

    def _over(self, exchange: Exchange, *, reusable: bool) -> None:
        if exchange.paused:
            self.transport.resume_reading()
        exchange.succeed()
        self.pool.release(self, reusable=reusable and self.transport.get_write_buffer_size() == 0)

    # Called by the parser; what comes after the end of the reply only spoils the connection

    def on_message_begin(self) -> None:
        if self.exchange is not None and self.exchange.finished:
            self._surplus = True

    def on_header(self, name: bytes, value: bytes) -> None:
        exchange = self.exchange
        if exchange is not None and not exchange.finished:
            exchange.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        exchange = self.exchange
        if exchange is None or exchange.finished:
            return
        status = self._parser.get_status_code()
        if status < 200:
            exchange.headers.clear()
            return
        if (
            exchange.received > MAX_HEAD_BYTES
            and sum(len(name) + len(value) for name, value in exchange.headers) > MAX_HEAD_BYTES
        ):
            raise ValueError("the head is too large")  # reaches data_received as a parser's error
        exchange.status = status
        self._head_complete = True

    def on_body(self, data: bytes) -> None:
        exchange = self.exchange
        if exchange is not None and not exchange.finished:
            exchange.piece(data)

    def on_message_complete(self) -> None:
        exchange = self.exchange
        if self._head_complete and exchange is not None and not exchange.finished:
            self._reusable = self._parser.should_keep_alive()
            exchange.finished = True


def authority(origin: Origin) -> bytes:
    host = f"[{origin.host}]" if ":" in origin.host else origin.host
    port = "" if origin.port == _DEFAULT_PORTS[origin.scheme] else f":{origin.port}"
    return f"{host}{port}".encode("ascii")


def _message(prepared: bytes, request_id: str, body: Body | None) -> Body:
    if request_id and request_id.isprintable():
        prepared = b"%bx-request-id: %b\r\n" % (prepared, request_id.encode("ascii", "ignore"))
    if body is None:
        return prepared + b"\r\n"
    if isinstance(body, tuple):
        return b"%bcontent-length: %d\r\n\r\n" % (prepared, sum(map(len, body))), *body
    return b"%bcontent-length: %d\r\n\r\n%b" % (prepared, len(body), body)
