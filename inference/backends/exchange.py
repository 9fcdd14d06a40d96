"""The words of upstream HTTP that both clients share: where to, within what times, and what comes back.

Two clients speak them: `http1` (lean, the common case) and `proxied` (aiohttp, for proxies and client certificates).
Neither follows redirects, keeps cookies or reads the environment.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from inference.errors import UpstreamBroken, UpstreamTimeout
from providers.secrets import Secret

MAX_HEAD_BYTES = 64 * 1024
MAX_BODY_BYTES = 64 * 1024 * 1024
"""Of a whole reply, also after inflating."""

HIGH_WATER_BYTES = 256 * 1024
"""Unread bytes of a stream at which we stop reading from the upstream."""

IDLE_SECONDS = 60.0
"""How long an unused connection is kept."""

Headers = Sequence[tuple[bytes, bytes]]

Body = bytes | tuple[bytes | memoryview, ...]
"""Of a request. One in pieces is written piece by piece, so a large file in it is not copied."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Whom to connect to and how; equal origins share connections. `host` is a name or a bare IP address."""

    scheme: str
    host: str
    port: int
    allow_private: bool = True
    verify_tls: bool = True
    ca_file: str | None = None
    client_certificate: str | None = None
    """Path of a PEM file with certificate and key."""
    proxy: Secret | None = None
    """URL of an HTTP proxy; it may hold a password."""
    max_connections: int = 1000


@dataclass(frozen=True, slots=True)
class Limits:
    """Times in seconds. `first_byte` runs until the first byte of the body, since servers may send headers early."""

    connect: float = 5.0
    first_byte: float = 120.0
    idle: float = 60.0
    """Between two reads of a body, while we are willing to read."""
    total: float = 600.0
    max_body: int = MAX_BODY_BYTES


class HttpReply(Protocol):
    """A reply whose head has come. Iterate it, or `read()` it; `aclose()` before the end ends the connection at once."""

    status: int
    headers: list[tuple[bytes, bytes]]
    """Names in lower case."""

    async def read(self) -> bytes:
        """The whole body, as it was sent; `UpstreamBroken` over the body limit."""
        ...

    def __aiter__(self) -> HttpReply: ...

    async def __anext__(self) -> bytes:
        """What one read of the connection brought."""
        ...

    async def aclose(self) -> None: ...


class HttpClient(Protocol):
    """Requests to one origin, with a pool of connections per event loop."""

    def prepare(self, method: str, target: str, headers: Headers) -> object:
        """The part that is the same in every request, made once."""
        ...

    async def send(
        self,
        prepared: object,
        body: Body | None = None,
        *,
        request_id: str = "",
        traceparent: bytes = b"",
        whole: bool = True,
        limits: Limits = Limits(),
        deadline: float | None = None,
    ) -> HttpReply:
        """Return when the head has come or, with `whole`, when all has. `deadline` is on the event loop's clock."""
        ...

    async def aclose(self) -> None: ...


def header(reply: HttpReply, name: bytes) -> bytes:
    for each, value in reply.headers:
        if each == name:
            return value
    return b""


def no_first_byte(limits: Limits) -> UpstreamTimeout:
    return UpstreamTimeout(
        "The provider did not answer in time.", detail=f"no first byte within {limits.first_byte:g} s"
    )


def stalled(limits: Limits) -> UpstreamTimeout:
    return UpstreamTimeout(
        "The provider stopped in the middle of its answer.", detail=f"nothing came for {limits.idle:g} s"
    )


def took_too_long(limits: Limits) -> UpstreamTimeout:
    return UpstreamTimeout(
        "The provider's answer took longer than allowed.", detail=f"limit {limits.total:g} s or the request's own"
    )


def broken(detail: str) -> UpstreamBroken:
    return UpstreamBroken("The provider's answer was not valid HTTP.", detail=detail)


def cut() -> UpstreamBroken:
    return UpstreamBroken("The provider closed the connection in the middle of its answer.", detail="cut body")


def hung_up() -> UpstreamBroken:
    return UpstreamBroken(
        "The provider closed the connection without an answer.", detail="closed before the first byte"
    )


def too_large(limit: int) -> UpstreamBroken:
    return UpstreamBroken("The provider's answer is too large.", detail=f"body over {limit} bytes")
