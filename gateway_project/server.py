"""The HTTP server: uvicorn with bounds on what a client may send before the application sees it.

uvicorn has no deadline for receiving a request and no bound on its headers (Kludex/uvicorn#157), so a client that sends a byte a
minute holds a connection for ever. Here a request's head has a size and a time, and its body a time.
"""

from __future__ import annotations

import asyncio
from typing import Any

import uvicorn
from django.conf import settings
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

APPLICATION = "gateway_project.asgi:application"

_BACKLOG = 2048
_KEEP_ALIVE_SECONDS = 75
"""Longer than clients keep idle connections, so that it is they who close: a server that does so races their next request."""
_GRACE_SECONDS = 30


class HeadTooLarge(Exception):
    """The request's line and headers are larger than allowed."""


class BoundedHttp(HttpToolsProtocol):
    """One connection. One timer serves a request: first for its head, then for its body."""

    max_header_bytes: int = settings.GATEWAY_MAX_HEADER_BYTES
    header_seconds: float = settings.GATEWAY_HEADER_TIMEOUT_SECONDS
    body_seconds: float = settings.GATEWAY_BODY_TIMEOUT_SECONDS

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._late: asyncio.TimerHandle | None = None
        self._head_bytes = 0
        self._in_body = False
        self._complete = False
        self._too_large = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        # A client that connects and says nothing is a request that never comes.
        self._late = self.loop.call_later(self.header_seconds, self._head_is_late)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Most requests come whole in one read; only one that a read leaves unfinished is counted and timed."""
        self._complete = False
        if not self._in_body:
            self._head_bytes += len(data)
        super().data_received(data)
        if self._complete:
            self._head_bytes = 0
            return
        if self.transport.is_closing():
            return
        if self._in_body:
            if self._late is None:
                self._late = self.loop.call_later(self.body_seconds, self._body_is_late)
        elif self._head_bytes > self.max_header_bytes:
            self._refuse(431, b"Request Header Fields Too Large")
        elif self._late is None:
            self._late = self.loop.call_later(self.header_seconds, self._head_is_late)

    def on_headers_complete(self) -> None:
        if self._late is not None:
            self._stop_timer()
        if self._head_bytes > self.max_header_bytes and self._size_of_head() > self.max_header_bytes:
            self._too_large = True
            raise HeadTooLarge
        self._head_bytes = 0
        self._in_body = True
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._complete = True
        self._in_body = False
        if self._late is not None:
            self._stop_timer()
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """uvicorn's answer when its parser stops, which is also how a too large head is stopped."""
        if self._too_large:
            self._refuse(431, b"Request Header Fields Too Large")
        else:
            super().send_400_response(msg)

    def _size_of_head(self) -> int:
        return len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)

    def _head_is_late(self) -> None:
        """A head that follows an unfinished reply (pipelining) is not late: it is ourselves who do not read it."""
        self._late = None
        if self.cycle is not None and not self.cycle.response_complete:
            self._late = self.loop.call_later(self.header_seconds, self._head_is_late)
        elif not self.transport.is_closing():
            self._refuse(408, b"Request Timeout")

    def _body_is_late(self) -> None:
        self._late = None
        if self.transport.is_closing():
            return
        if self.cycle.response_started:
            self.transport.close()
        else:
            self._refuse(408, b"Request Timeout")

    def _refuse(self, status: int, phrase: bytes) -> None:
        self.transport.write(
            b"HTTP/1.1 %d %s\r\ncontent-type: text/plain\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%s"
            % (status, phrase, len(phrase), phrase)
        )
        self.transport.close()

    def _stop_timer(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None


def run_web(host: str = "127.0.0.1", port: int = 8000, workers: int = 1, fd: int | None = None) -> None:
    """Serve both planes until a signal. With several workers a supervisor restarts those that die.

    `fd` is a listening socket to take over instead of binding. SIGTERM lets replies in flight finish for 30 s; streams that
    last longer end with an error event.
    """
    uvicorn.run(
        APPLICATION,
        host=host,
        port=port,
        fd=fd,
        workers=workers,
        http=BoundedHttp,
        loop="uvloop",
        ws="none",
        lifespan="on",
        interface="asgi3",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=_BACKLOG,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=_GRACE_SECONDS,
    )
