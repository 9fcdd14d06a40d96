"""The same client over aiohttp, for what the lean one does not do: HTTP proxies and TLS client certificates.

It costs about five times the CPU per request. Names are looked up and judged by our own resolver here too; behind a proxy
it is the proxy's address that is judged, since the proxy looks the provider's name up.
"""

from __future__ import annotations

import asyncio
import io
import socket
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import unquote, urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.client_proto import ResponseHandler
from aiohttp.http import RawResponseMessage
from aiohttp.streams import StreamReader
from yarl import URL

from inference.backends import dial
from inference.backends.exchange import (
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
from inference.errors import ConfigurationError, GatewayError, UpstreamUnreachable
from providers.addresses import AddressRefused, check_url

_LARGE_BYTES = 1024 * 1024
"""aiohttp wants larger bodies as files."""

_SKIPPED_HEADERS = ("User-Agent", "Accept", "Accept-Encoding", "Content-Type")


@dataclass(frozen=True, slots=True)
class Prepared:
    method: str
    url: URL
    headers: dict[str, str]


class ProxiedClient:
    """Bound to the event loop of its first request."""

    def __init__(self, origin: Origin) -> None:
        self.origin = origin
        self._session: aiohttp.ClientSession | None = None
        self._proxy, self._proxy_headers = _proxy_of(origin)

    def prepare(self, method: str, target: str, headers: Headers) -> Prepared:
        if any(b"\r" in part or b"\n" in part for header in headers for part in header):
            raise ValueError("a header of the provider holds a line end")
        host = f"[{self.origin.host}]" if ":" in self.origin.host else self.origin.host
        url = URL(f"{self.origin.scheme}://{host}:{self.origin.port}{target}", encoded=True)
        given = {name.decode("latin-1"): value.decode("latin-1") for name, value in headers}
        if self.origin.scheme == "http":  # there is no CONNECT that could carry them
            given.update(self._proxy_headers)
        return Prepared(method, url, given)

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
    ) -> AiohttpReply:
        if isinstance(body, tuple):
            body = b"".join(body)
        headers = prepared.headers
        if request_id and request_id.isprintable():
            headers = {**headers, "x-request-id": request_id.encode("ascii", "ignore").decode()}
        if traceparent:
            headers = {**headers, "traceparent": traceparent.decode("ascii")}
        now = asyncio.get_running_loop().time()
        ends_at = now + limits.total if deadline is None else min(now + limits.total, deadline)
        try:
            async with asyncio.timeout_at(min(ends_at, now + limits.first_byte)):
                response = await self._request(prepared, headers, body, limits)
        except TimeoutError as error:
            raise (took_too_long(limits) if ends_at < now + limits.first_byte else no_first_byte(limits)) from error
        if response.status < 200:
            response.close()
            raise broken(f"status {response.status}")
        reply = AiohttpReply(response, limits, now + limits.first_byte, ends_at)
        if whole:
            await reply.load()
        return reply

    async def aclose(self) -> None:
        if self._session is not None:
            session, self._session = self._session, None
            await session.close()
            await asyncio.sleep(0)  # lets the transports close

    async def _request(
        self, prepared: Prepared, headers: dict[str, str], body: bytes | None, limits: Limits
    ) -> aiohttp.ClientResponse:
        try:
            return await self._attempt(prepared, headers, body, limits)
        except _Stale:
            pass
        try:
            return await self._attempt(prepared, headers, body, limits)
        except _Stale as error:
            raise hung_up() from error

    async def _attempt(
        self, prepared: Prepared, headers: dict[str, str], body: bytes | None, limits: Limits
    ) -> aiohttp.ClientResponse:
        session = self._session
        if session is None:
            session = self._session = self._open_session()
        seen = _Seen()
        try:
            return await session.request(
                prepared.method,
                prepared.url,
                headers=headers,
                data=io.BytesIO(body) if body and len(body) > _LARGE_BYTES else body,
                allow_redirects=False,
                proxy=self._proxy,
                proxy_headers=self._proxy_headers if self.origin.scheme == "https" else None,
                timeout=aiohttp.ClientTimeout(total=None, connect=limits.connect),
                trace_request_ctx=seen,
            )
        except (aiohttp.ClientError, ValueError, OSError) as error:
            if seen.reused and isinstance(error, (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError)):
                raise _Stale from error
            raise _ours(error, limits) from error

    def _open_session(self) -> aiohttp.ClientSession:
        trace = aiohttp.TraceConfig()
        trace.on_connection_reuseconn.append(_note_reuse)
        connector = aiohttp.TCPConnector(
            limit=self.origin.max_connections,
            keepalive_timeout=60,
            resolver=_JudgingResolver(self.origin),
            ssl=dial.tls_context(self.origin) or True,
        )
        connections: partial[Any] = partial(_OneReplyEach, loop=asyncio.get_running_loop())
        connector._factory = connections
        return aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
            skip_auto_headers=_SKIPPED_HEADERS,
            max_line_size=MAX_HEAD_BYTES,
            max_field_size=MAX_HEAD_BYTES,
            trace_configs=[trace],
        )


class _OneReplyEach(ResponseHandler):
    """A connection that ends when the upstream says more than it was asked; aiohttp would keep the surplus for the next request."""

    _answered = False

    def set_response_params(self, **params: Any) -> None:
        self._answered = False
        super().set_response_params(**params)

    def feed_data(self, data: tuple[RawResponseMessage, StreamReader], size: int = 0) -> None:
        if data[0].code >= 200:
            if self._answered:
                self.force_close()
                self.close()
                return
            self._answered = True
        super().feed_data(data, size)


class AiohttpReply:
    """See `exchange.HttpReply`."""

    def __init__(self, response: aiohttp.ClientResponse, limits: Limits, first_due: float, ends_at: float) -> None:
        self.status = response.status
        self.headers = [(name.lower(), value) for name, value in response.raw_headers]
        self._response = response
        self._limits = limits
        self._first_due = first_due
        self._ends_at = ends_at
        self._begun = False
        self._body: bytes | None = None

    async def load(self) -> None:
        parts, size = [], 0
        async for part in self:
            size += len(part)
            if size > self._limits.max_body:
                self._response.close()
                raise too_large(self._limits.max_body)
            parts.append(part)
        self._body = b"".join(parts)

    async def read(self) -> bytes:
        if self._body is None:
            await self.load()
        assert self._body is not None
        return self._body

    def __aiter__(self) -> AiohttpReply:
        return self

    async def __anext__(self) -> bytes:
        due_at = asyncio.get_running_loop().time() + self._limits.idle if self._begun else self._first_due
        try:
            async with asyncio.timeout_at(min(due_at, self._ends_at)):
                piece = await self._response.content.readany()
        except asyncio.CancelledError:
            self._response.close()
            raise
        except TimeoutError as error:
            self._response.close()
            raise self._late(due_at) from error
        except (aiohttp.ClientError, OSError) as error:
            self._response.close()
            raise cut() from error
        if not piece:
            self._response.release()
            raise StopAsyncIteration
        self._begun = True
        return piece

    def _late(self, due_at: float) -> GatewayError:
        if self._ends_at <= due_at:
            return took_too_long(self._limits)
        return stalled(self._limits) if self._begun else no_first_byte(self._limits)

    async def aclose(self) -> None:
        if not self._response.content.at_eof():
            self._response.close()


class _Stale(Exception):
    """A kept connection turned out to be closed before any byte of the reply came."""


class _Seen:
    """What happened to one request before it failed."""

    def __init__(self) -> None:
        self.reused = False


async def _note_reuse(session: aiohttp.ClientSession, context: Any, params: Any) -> None:
    context.trace_request_ctx.reused = True


class _JudgingResolver(AbstractResolver):
    """Looks names up and lets only addresses through that may be dialled; aiohttp then dials exactly those."""

    def __init__(self, origin: Origin) -> None:
        self._origin = origin

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        families = {str(entry[4][0]): entry[0] for entry in found}
        allowed = dial.allowed_addresses(list(families), self._origin.allow_private)
        return [
            ResolveResult(
                hostname=host, host=address, port=port, family=families[address], proto=0, flags=socket.AI_NUMERICHOST
            )
            for address in allowed
        ]

    async def close(self) -> None:
        return None


def _ours(error: Exception, limits: Limits) -> GatewayError:
    """Foreign exceptions of the time before the reply's head, most specific first."""
    match error:
        case aiohttp.ClientConnectorCertificateError():
            return dial.not_connected(error.certificate_error, limits)
        case aiohttp.ClientProxyConnectionError():
            return UpstreamUnreachable(
                "The provider's proxy could not be reached.", detail="no connection to the proxy"
            )
        case aiohttp.ClientHttpProxyError():
            return UpstreamUnreachable(
                "The provider's proxy refused the connection.", detail=f"the proxy answered {error.status}"
            )
        case aiohttp.ClientConnectorDNSError():
            return UpstreamUnreachable("The provider's host name does not resolve.", detail="name look-up failed")
        case aiohttp.ClientConnectorError():
            return dial.not_connected(error.os_error, limits)
        case aiohttp.ServerTimeoutError() | TimeoutError():
            return dial.not_connected(TimeoutError(), limits)
        case aiohttp.ServerDisconnectedError() | aiohttp.ClientOSError():
            return hung_up()
        case _:
            return broken(type(error).__name__)


def _proxy_of(origin: Origin) -> tuple[URL | None, dict[str, str]]:
    """The proxy's URL without its credentials, and the header that shows them."""
    if origin.proxy is None:
        return None, {}
    parts = urlsplit(origin.proxy.reveal())
    credentials, _, host = parts.netloc.rpartition("@")
    try:
        checked = check_url(f"{parts.scheme}://{host}", allow_private=True)
    except AddressRefused as error:
        raise ConfigurationError(
            "The provider's proxy is not allowed.", detail=f"proxy: {error}", param="proxy"
        ) from error
    user, _, password = credentials.partition(":")
    headers = {}
    if credentials:
        headers["Proxy-Authorization"] = aiohttp.encode_basic_auth(unquote(user), unquote(password))
    return URL(f"{checked.scheme}://{checked.authority}"), headers
