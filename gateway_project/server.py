"""The HTTP server: uvicorn with bounds on what a client may send before the application sees it.

uvicorn has no deadline for receiving a request and no bound on its headers (Kludex/uvicorn#157), so a client that sends a byte a
minute holds a connection for ever. Here a request's head has a size and a time, and its body a time.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import re
import sys
from typing import Any
from urllib.parse import unquote

import django
import httptools
import uvicorn
from django.conf import settings
from django.core.management import CommandError, call_command
from django.core.management.base import OutputWrapper
from django.db import DatabaseError, connections
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from inference.outgoing import OutgoingTransport

log = logging.getLogger(__name__)

APPLICATION = "gateway_project.asgi:application"

_BACKLOG = 2048
_KEEP_ALIVE_SECONDS = 75
"""Longer than clients keep idle connections, so that it is they who close: a server that does so races their next request."""
_GRACE_SECONDS = 30


class HeadTooLarge(Exception):
    """The request's line and headers are larger than allowed."""


class OneWrite(RequestResponseCycle):
    """A reply whose head leaves together with its body: one system call and one packet instead of two.

    uvicorn looks at each header with two regular expressions; here the finished head is counted once, which finds a line end
    smuggled into any of them. Only replies of known length wait for their body; the head of a stream leaves at once.
    """

    _head = b""
    _handed_over = False
    _until_close = False
    task: asyncio.Task[None]
    tasks: set[asyncio.Task[None]]

    async def run_asgi(self, app: Any) -> None:
        """Signs itself off: a done callback would cost a turn of the loop and a copy of the context."""
        try:
            await super().run_asgi(app)
        finally:
            self.tasks.discard(self.task)

    async def receive(self) -> Any:
        """A body that has come whole is handed over without waiting; everything else is uvicorn's."""
        if self.more_body or self._handed_over or self.disconnected or self.response_complete:
            message = await super().receive()
            # Once the end of the body is told, what comes next can only be the client's leaving.
            self._handed_over = not message.get("more_body", False)
            return message
        self._handed_over = True
        self.message_event.clear()
        body, self.body = bytes(self.body), bytearray()
        self.flow.resume_reading()
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(self, message: Any) -> None:
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()
        if self.disconnected:
            return
        if self.response_started:
            self._send_body(message)
        elif message["type"] == "http.response.start":
            self._send_head(message)
        else:
            raise RuntimeError(f"a reply began with {message['type']!r}")

    def _send_head(self, message: Any) -> None:
        self.response_started = True
        self.waiting_for_100_continue = False
        status = message["status"]
        content = [STATUS_LINE[status]]
        lines = 2
        closes = False
        for headers in (self.default_headers, message.get("headers", ())):
            for name, value in headers:
                content += (name, b": ", value, b"\r\n")
                lines += 1
                if (lowered := name.lower()) in _FRAMING:  # Django writes them as people do
                    closes |= self._note_framing(lowered, value)
        if not self.keep_alive and not closes:
            content.append(b"connection: close\r\n")
            lines += 1
        if self.chunked_encoding is None and self.scope["method"] != "HEAD" and status not in (204, 304):
            if self.scope["http_version"] == "1.0":  # which knows no chunks: its reply ends with the connection
                self._until_close = True
            else:
                self.chunked_encoding = True
                content.append(b"transfer-encoding: chunked\r\n")
                lines += 1
        content.append(b"\r\n")
        head = b"".join(content)
        if not head.count(b"\r\n") == head.count(b"\n") == head.count(b"\r") == lines or b"\0" in head:
            raise RuntimeError("a header of the reply holds a line end or a NUL")
        if self.chunked_encoding or self._until_close:
            self.transport.write(head)
        else:
            self._head = head

    def _note_framing(self, name: bytes, value: bytes) -> bool:
        """Whether the header says that the connection ends with this reply."""
        if name == b"content-length" and self.chunked_encoding is None:
            self.expected_content_length = int(value)
            self.chunked_encoding = False
        elif name == b"transfer-encoding" and value.lower() == b"chunked":
            self.expected_content_length = 0
            self.chunked_encoding = True
        elif name == b"connection" and b"close" in value.lower():
            self.keep_alive = False
            return True
        return False

    def _send_body(self, message: Any) -> None:
        if self.response_complete or message["type"] != "http.response.body":
            raise RuntimeError(f"{message['type']!r} does not belong here in a reply")
        body = message.get("body", b"")
        more_body = message.get("more_body", False)
        if self.scope["method"] == "HEAD":
            self.expected_content_length = 0
            body = b""
        if self.chunked_encoding:
            self._write_chunk(body, more_body)
        elif self._until_close:
            self.transport.write(body)
        else:
            self.expected_content_length -= len(body)
            if self.expected_content_length < 0:
                raise RuntimeError("the reply is longer than its content-length")
            self.transport.write(self._head + body if self._head else body)
            self._head = b""
        if not more_body:
            self._end()

    def _write_chunk(self, body: bytes, more_body: bool) -> None:
        if body and more_body:
            self.transport.write(b"%x\r\n%b\r\n" % (len(body), body))
        elif body:
            self.transport.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body))
        elif not more_body and self.scope["method"] != "HEAD":
            self.transport.write(b"0\r\n\r\n")

    def _end(self) -> None:
        if self.expected_content_length != 0:
            raise RuntimeError("the reply is shorter than its content-length")
        self.response_complete = True
        self.message_event.set()
        if not self.keep_alive:
            self.transport.close()
        self.on_response()


_FRAMING = frozenset({b"content-length", b"transfer-encoding", b"connection"})


_UPGRADE = re.compile(rb"\r\nupgrade(?=[ \t]*:)", re.IGNORECASE)


def _stay_with_http_1(data: bytes) -> bytes:
    """Take the offer of another protocol out of the head, which RFC 9110, 7.8 allows.

    The parser would leave the body to that protocol, and Java's client offers HTTP/2 with every first request.
    """
    head, end, rest = data.partition(b"\r\n\r\n")
    return _UPGRADE.sub(rb"\r\nignored", head) + end + rest


class BoundedHttp(HttpToolsProtocol):
    """One connection. One timer serves a request: first for its head, then for its body."""

    max_header_bytes: int = settings.GATEWAY_MAX_HEADER_BYTES
    header_seconds: float = settings.GATEWAY_HEADER_TIMEOUT_SECONDS
    body_seconds: float = settings.GATEWAY_BODY_TIMEOUT_SECONDS

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._serving: OneWrite | None = None
        self._late: asyncio.TimerHandle | None = None
        self._idle_timer: asyncio.TimerHandle | None = None
        self._idle_since = 0.0
        self._head_bytes = 0
        self._in_body = False
        self._complete = False
        self._too_large = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.transport = OutgoingTransport(transport, self.loop)  # type: ignore[assignment]
        # A client that connects and says nothing is a request that never comes.
        self._late = self.loop.call_later(self.header_seconds, self._head_is_late)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        if self._idle_timer is not None:
            self._idle_timer.cancel()
            self._idle_timer = None
        super().connection_lost(exc)
        # uvicorn tells the request that came last, which may still wait behind the one that is served.
        if self._serving is not None and not self._serving.response_complete:
            self._serving.disconnected = True
            self._serving.message_event.set()

    def data_received(self, data: bytes) -> None:
        """Most requests come whole in one read; only one that a read leaves unfinished is counted and timed."""
        self._complete = False
        if not self._in_body:
            self._head_bytes += len(data)
            if b"pgrade" in data:
                data = _stay_with_http_1(data)
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
        self._in_body, self._complete = True, False
        self._begin_cycle()

    def _begin_cycle(self) -> None:
        """As uvicorn's, with our cycle; without websockets and its bound on concurrency, which we do not use."""
        scope, parser = self.scope, self.parser
        http_version = parser.get_http_version()
        scope["method"] = parser.get_method().decode("ascii")
        if http_version != "1.1":
            scope["http_version"] = http_version
        url = httptools.parse_url(self.url)
        raw_path = url.path or b"/"
        path = raw_path.decode("ascii")
        scope["path"] = unquote(path) if "%" in path else path
        scope["raw_path"] = raw_path
        scope["query_string"] = url.query or b""
        previous = self.cycle
        self.cycle = OneWrite(
            scope,
            self.transport,
            self.flow,
            self.logger,
            self.access_logger,
            False,
            self.server_state.default_headers,
            asyncio.Event(),
            self.expect_100_continue,
            http_version != "1.0" and parser.should_keep_alive(),
            self.on_response_complete,
        )
        if previous is None or previous.response_complete:
            self._start_asgi_task(self.cycle, self.app)
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((self.cycle, self.app))

    def _start_asgi_task(self, cycle: OneWrite, app: Any) -> None:  # type: ignore[override]
        self._serving = cycle
        cycle.tasks = self.tasks
        cycle.task = self.loop.create_task(cycle.run_asgi(app))
        self.tasks.add(cycle.task)

    def on_response_complete(self) -> None:
        """As uvicorn's, but an idle connection keeps one timer that looks at the clock, not a new one for each reply."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
            return
        self._idle_since = self.loop.time()
        if self._idle_timer is None:
            self._idle_timer = self.loop.call_later(self.timeout_keep_alive, self._look_whether_idle)

    def _look_whether_idle(self) -> None:
        self._idle_timer = None
        if self.transport.is_closing():
            return
        busy = self.cycle is not None and not self.cycle.response_complete
        idle = 0.0 if busy else self.loop.time() - self._idle_since
        if idle >= self.timeout_keep_alive - 0.01:
            self.transport.close()
        else:
            self._idle_timer = self.loop.call_later(self.timeout_keep_alive - idle, self._look_whether_idle)

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
        """As with a head: one that waits behind an unfinished reply is not late."""
        self._late = None
        if self.transport.is_closing():
            return
        if self.pipeline:
            self._late = self.loop.call_later(self.body_seconds, self._body_is_late)
        elif self.cycle.response_started:
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


def read_configuration_files() -> None:
    """Before the first snapshot: the files that rule. Whatever goes wrong is said, and what was in force is served."""
    django.setup()
    try:
        call_command("apply_config", reload=True, no_color=True, stdout=OutputWrapper(sys.stderr))
    except (CommandError, DatabaseError) as error:
        log.error("the configuration files were not read: %s", error)
    except Exception:  # a mistake of ours in reading a file must not keep the gateway from serving
        log.exception("the configuration files were not read")
    except SystemExit as ended:
        log.error("some of the configuration files were not applied whole (status %s); see above", ended.code)
    finally:
        connections.close_all()


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m gateway_project.server", description="Serve both planes.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--fd", type=int, help="a listening socket to take over instead of binding")
    options = parser.parse_args(arguments)
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "gateway_project.settings")
    read_configuration_files()
    run_web(options.host, options.port, options.workers, options.fd)


if __name__ == "__main__":
    main()
