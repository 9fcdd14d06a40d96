"""A legacy system down to its bytes: keeps every request exactly as it came over the wire, answers with scripted bytes."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

Reply = bytes | Callable[[socket.socket], None]
"""What is written after a request was read; a function talks for itself."""


def answer(body: bytes = b"{}", *headers: bytes, status: bytes = b"200 OK") -> bytes:
    lines = [b"HTTP/1.1 " + status, *headers, b"Content-Length: %d" % len(body)]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


@dataclass
class Request:
    head: bytes
    body: bytes = b""

    @property
    def line(self) -> bytes:
        return self.head.split(b"\r\n")[0]

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        lines = self.head.split(b"\r\n")[1:]
        return [(name, value.strip()) for name, _, value in (line.partition(b":") for line in lines)]

    def values(self, name: bytes) -> list[bytes]:
        return [value for each, value in self.headers if each.lower() == name]


@dataclass
class LegacyServer:
    """Reads whole requests, by length or chunks (which `body` keeps joined), and answers each with the next reply."""

    requests: list[Request] = field(default_factory=list)
    replies: list[Reply] = field(default_factory=list)
    left: threading.Event = field(default_factory=threading.Event)
    """Set when a client closes its connection."""
    port: int = 0
    otherwise: Callable[[Request], bytes] = lambda request: answer()
    """What is answered when no reply is left."""
    tls: ssl.SSLContext | None = None

    @property
    def url(self) -> str:
        return f"{'http' if self.tls is None else 'https'}://127.0.0.1:{self.port}"

    def __enter__(self) -> LegacyServer:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        for each in (self._listening, *self._open):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listening.accept()
                self._open.append(connection)
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            if self.tls is not None:
                connection = self.tls.wrap_socket(connection, server_side=True)
            while request := self._read(connection):
                self.requests.append(request)
                reply = self.replies.pop(0) if self.replies else self.otherwise(request)
                if callable(reply):
                    reply(connection)
                else:
                    connection.sendall(reply)
        self.left.set()
        connection.close()

    def _read(self, connection: socket.socket) -> Request | None:
        received = b""
        while b"\r\n\r\n" not in received:
            data = connection.recv(65536)
            if not data:
                return None
            received += data
        head, _, rest = received.partition(b"\r\n\r\n")
        request = Request(head)
        if request.values(b"transfer-encoding"):
            while not rest.endswith(b"0\r\n\r\n"):
                rest += _more(connection)
            request.body = _joined(rest)
        else:
            length = int((request.values(b"content-length") or [b"0"])[0])
            while len(rest) < length:
                rest += _more(connection)
            request.body = rest
        return request


def _more(connection: socket.socket) -> bytes:
    data = connection.recv(65536)
    if not data:
        raise ConnectionError("the client left in the middle of its request")
    return data


def _joined(chunks: bytes) -> bytes:
    body = b""
    while chunks:
        size, _, chunks = chunks.partition(b"\r\n")
        count = int(size, 16)
        body, chunks = body + chunks[:count], chunks[count + 2 :]
    return body
