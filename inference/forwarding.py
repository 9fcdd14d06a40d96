"""The parallel run's other side: a request outside the share goes to the legacy system as it came, and its reply comes back so.

Nothing is read that need not be: method, path, query, headers and body pass unchanged, less the headers that belong to a
connection, and the legacy system does its own authentication. What passes is counted, and overheard for model and tokens. A
legacy system that cannot be reached is an error that the client sees: whoever is outside the share is never served here
instead.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from hashlib import blake2b
from time import perf_counter, time
from typing import TYPE_CHECKING, Any

import orjson

from inference.admission import whose
from inference.backends.exchange import Limits
from inference.backends.inflate import inflate_whole, is_compressed
from inference.backends.passthrough import PassedOrigin, PassedReply, PassingClient, Upload
from inference.errors import (
    BodyTooLarge,
    ConfigurationError,
    GatewayError,
    GatewayOverloaded,
    InvalidRequest,
    UpstreamBroken,
    UpstreamTimeout,
    UpstreamUnreachable,
)
from inference.overheard import Overheard, asked, error_code, usage
from inference.recording import Entry
from inference.request_ids import new_request_id
from inference.trace_ids import Origin, origin_of
from inference.wire import errors, hops, problems, sse
from providers.addresses import AddressRefused, check_url
from routing import client_addresses
from routing.client_keys import KeyRefused
from routing.rollout import LEGACY, is_shared, is_switched, side
from routing.snapshot import current

if TYPE_CHECKING:
    from inference.plane import DataPlane
    from routing.types import Identity, RolloutView

logger = logging.getLogger("gateway.forwarding")

Header = tuple[bytes, bytes]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

CLIENT_LEFT = 499
SIDE: Header = (b"x-gateway-side", LEGACY.encode())

OTHER = "other"
"""The operation of what generates nothing, such as a list of models."""
_OPERATIONS = {
    "/v1/chat/completions": "chat",
    "/v1/completions": "completions",
    "/v1/embeddings": "embeddings",
    "/generate": "generate",
    "/api/llm/gateway/generate": "generate",
}
_NOT_PASSED_ON = ("CONNECT", "TRACE")
"""One makes a tunnel of the connection, the other shows the headers that were added for the legacy system alone."""
_HIGHEST_STATUS = 599
_KEY_HEADERS = frozenset({b"x-api-key", b"api-key"})
_LONGEST_KEY = 512
_BYTES_PER_TOKEN = 4
_LARGEST_INFLATED = 4 * 1024 * 1024


def goes_to_legacy(rollout: RolloutView, scope: dict[str, Any]) -> bool:
    """Whether the legacy side serves a request: one hash of what the client is known by, on the paths that are shared."""
    path = scope["path"]
    if not rollout.gateway_enabled:
        return is_switched(path) or is_shared(rollout, path)
    # Nearly all that come are the first; is_shared says the same of them, and takes longer.
    shared = path.startswith("/v1/") or is_shared(rollout, path)
    return shared and side(rollout, known_by(scope)) == LEGACY


def known_by(scope: dict[str, Any]) -> bytes:
    """What tells a client from others: the credential that it shows, whoever knows it; else the address that it calls from."""
    credential = credential_of(scope["headers"])
    return b"key:" + credential if credential else b"address:" + _address(scope).encode()


def credential_of(headers: Iterable[Header]) -> bytes:
    """The key, without the word `Bearer`, out of the first of the headers that may carry one; empty when there is none."""
    others: dict[bytes, bytes] = {}
    for name, value in headers:
        if name == b"authorization":
            if value[:7].lower() == b"bearer ":
                value = value[7:].strip()
            if value:
                return value
        elif name in _KEY_HEADERS:
            others[name] = value
    return others.get(b"x-api-key") or others.get(b"api-key") or b""


def _address(scope: dict[str, Any]) -> str:
    client = scope.get("client")
    return client[0] if client else ""


class LegacySide:
    """How the legacy system is reached under one roll-out. Raises `ConfigurationError` when it may not be."""

    def __init__(self, rollout: RolloutView, total_seconds: float) -> None:
        try:
            url = check_url(rollout.legacy_base_url, rollout.allow_private)
        except AddressRefused as error:
            raise ConfigurationError("The legacy system's address is not allowed.", detail=str(error)) from error
        self.base_path = url.path
        self.local = hops.Local(url.authority.encode(), url.path)
        self.added = [(name.lower().encode(), value.reveal().encode()) for name, value in rollout.headers]
        self.client = PassingClient(
            PassedOrigin(url.scheme, url.host, url.port, rollout.allow_private, rollout.verify_tls),
            Limits(
                connect=rollout.connect_seconds,
                first_byte=rollout.reply_seconds,
                idle=rollout.idle_seconds,
                total=total_seconds,
            ),
        )


class Forwarder:
    """One per data plane. The way to the legacy system is made anew when the roll-out changes; what is under way keeps its own."""

    def __init__(self, plane: DataPlane) -> None:
        self._plane = plane
        self._rollout: RolloutView | None = None
        self._legacy: LegacySide | None = None

    def serve(
        self, rollout: RolloutView, scope: dict[str, Any], receive: Receive, send: Send
    ) -> Coroutine[Any, Any, None]:
        return Passage(self, self._plane, rollout, scope, receive, send).run()

    def legacy(self, rollout: RolloutView) -> LegacySide:
        if self._legacy is None or (self._rollout is not rollout and self._rollout != rollout):
            made = LegacySide(rollout, self._plane.limits.stream_seconds)
            self.close()
            self._legacy = made
        self._rollout = rollout
        return self._legacy

    def close(self) -> None:
        if self._legacy is not None:
            self._legacy.client.close()
            self._legacy = None


class ClientLeft(Exception):
    """The client closed its connection; there is nobody to answer."""


class Passage:
    """One request to the legacy system and back. The watch sees to clients that leave and to replies that take too long."""

    def __init__(
        self,
        forwarder: Forwarder,
        plane: DataPlane,
        rollout: RolloutView,
        scope: dict[str, Any],
        receive: Receive,
        send: Send,
    ) -> None:
        self._forwarder = forwarder
        self._plane = plane
        self._rollout = rollout
        self._scope = scope
        self._receive = receive
        self._send = send
        self._task: asyncio.Task[Any] | None = None
        self._uploading: asyncio.Task[None] | None = None
        self._request_id = new_request_id()
        self._path: str = scope["path"]
        self._operation = _OPERATIONS.get(self._path.rstrip("/"), OTHER)
        self._started = perf_counter()
        self._identity: Identity | None = None
        self._model = ""
        self._size = 0
        self._status = 0
        self._answering = False
        self._encoding = b""
        self._streaming = False
        self._first_byte: float | None = None
        self._overheard = Overheard(stream=False)
        self._client_left = self._timed_out = False
        # What the watch reads.
        self.deadline = 0.0
        self.pieces = 0
        self.body_read = self.done = False

    async def run(self) -> None:
        plane = self._plane
        self._task = asyncio.current_task(plane.loop)
        now = plane.loop.time()
        self.deadline = now + plane.limits.stream_seconds
        plane.watch.enter(self, now)
        failure: GatewayError | None = None
        try:
            await self._serve()
        except GatewayError as error:
            failure = _said_of_legacy(error)
        except ClientLeft:
            self._client_left = True
        except asyncio.CancelledError:
            failure = self._why_cancelled()
            if self._task is not None:
                self._task.uncancel()
        except Exception:
            logger.exception("request_id=%s the gateway failed", self._request_id)
            failure = GatewayError("The gateway failed while it passed the request on.")
        await self._finish(failure)

    async def _serve(self) -> None:
        self._identity = self._admitted()
        legacy = self._forwarder.legacy(self._rollout)
        reply = await self._ask(legacy)
        try:
            await self._answer(reply, legacy.local)
        finally:
            reply.abort()

    # The request

    async def _ask(self, legacy: LegacySide) -> PassedReply:
        scope, limit = self._scope, self._plane.limits.body_bytes
        headers: list[Header] = scope["headers"]
        raw_path: bytes = scope.get("raw_path") or self._path.encode()
        if scope["method"] in _NOT_PASSED_ON:
            raise InvalidRequest(f"{scope['method']} is not passed on.", status=405, code="method_not_allowed")
        if hops.climbs(raw_path):
            raise InvalidRequest("The path holds '.' or '..', which could mean another one at the legacy system.")
        own_name = b"gw-" + blake2b(key=self._rollout.digest_key, digest_size=6).hexdigest().encode()
        if any(own_name in value for name, value in headers if name == b"via"):
            raise GatewayError(
                "The legacy system's address leads back to this gateway.", status=508, code="loop_detected"
            )
        announced = hops.value_of(headers, b"content-length")
        if announced and (not announced.isdigit() or int(announced) > limit):
            raise BodyTooLarge(f"The request body is larger than {limit} bytes.")
        if hops.value_of(headers, b"transfer-encoding").lower() not in (b"", b"chunked"):
            raise InvalidRequest("Of transfer codings, only chunked is understood.", status=501)
        target = hops.target(legacy.base_path, raw_path, scope.get("query_string", b""))
        onward = hops.onward(
            headers,
            client=_address(scope),
            scheme=scope.get("scheme", "http"),
            request_id=self._request_id,
            replaced=legacy.added,
            own_cookies=self._rollout.own_cookies,
        )
        onward.append((b"via", b"1.1 " + own_name))
        message = await self._receive()
        if message["type"] == "http.disconnect":
            raise ClientLeft
        body: bytes = message.get("body", b"")
        self._size = len(body)
        if message.get("more_body"):
            if announced:
                onward.append((b"content-length", announced))
            upload = await legacy.client.begin(scope["method"], target, onward, chunked=not announced)
            self._uploading = self._plane.loop.create_task(self._upload(upload, body))
            return await upload.head()
        self.body_read = True
        if len(body) > limit:
            raise BodyTooLarge(f"The request body is larger than {limit} bytes.")
        if body or announced:
            onward.append((b"content-length", b"%d" % len(body)))
        self._model, _ = asked(body)
        return await legacy.client.send(scope["method"], target, onward, body)

    async def _upload(self, upload: Upload, piece: bytes) -> None:
        """As fast as the legacy system takes it. Whoever waits for the reply hears of a failure."""
        limit, more = self._plane.limits.body_bytes, True
        while True:
            if self._size > limit:
                upload.fail(BodyTooLarge(f"The request body is larger than {limit} bytes."))
                return
            await upload.write(piece, last=not more)
            if not more:
                self.body_read = True
                return
            message = await self._receive()
            if message["type"] == "http.disconnect":
                self._leave()
                return
            piece, more = message.get("body", b""), message.get("more_body", False)
            self._size += len(piece)

    # The reply

    async def _answer(self, reply: PassedReply, local: hops.Local) -> None:
        send = self._send
        if reply.status > _HIGHEST_STATUS:
            raise UpstreamBroken("The legacy system's answer is not HTTP.", detail=f"status {reply.status}")
        self._status = reply.status
        self._encoding = hops.value_of(reply.headers, b"content-encoding")
        self._streaming = hops.value_of(reply.headers, b"content-type").lower().startswith(b"text/event-stream")
        overheard = self._overheard = Overheard(stream=self._streaming)
        headers = hops.back(reply.headers, status=reply.status, own_cookies=self._rollout.own_cookies, local=local)
        self._answering = True
        await send({"type": "http.response.start", "status": reply.status, "headers": [*headers, SIDE]})
        async for piece in reply:
            if self._streaming and self._first_byte is None:
                self._first_byte = perf_counter() - self._started
            self.pieces += 1
            overheard.hear(piece)
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        self.done = True
        await send({"type": "http.response.body", "body": b""})

    # Ends

    async def _finish(self, failure: GatewayError | None) -> None:
        try:
            if failure is not None and not self._client_left:
                errors.log(failure, self._request_id, LEGACY)
                if not self.done:
                    await self._refuse(failure)
        finally:
            self.done = True
            if self._uploading is not None:
                self._uploading.cancel()
            if self._client_left:
                self._status = CLIENT_LEFT
            elif failure is not None and not self._answering:
                self._status = failure.status
            self._plane.watch.leave(self)
            await self._count(failure)

    async def _refuse(self, failure: GatewayError) -> None:
        if not self._answering:
            await self._refuse_whole(failure)
        elif self._streaming and not is_compressed(self._encoding):
            lead = b"" if sse.at_event_boundary(self._overheard.last) else b"\n\n"
            await self._send({"type": "http.response.body", "body": lead + errors.in_stream(failure)})
        # Else the reply just ends here: the server sees that it is not complete and closes, which tells the client as much.

    async def _refuse_whole(self, failure: GatewayError) -> None:
        if self._path == "/v1" or self._path.startswith("/v1/"):
            headers, body = errors.headers_of(failure), errors.body_of(failure)
        else:
            headers = [(b"content-type", problems.CONTENT_TYPE.encode()), *problems.headers_of(failure)]
            body = orjson.dumps(problems.document(failure, self._request_id))
        own = self._request_id.encode()
        headers += [(b"x-request-id", own), (b"x-gateway-request-id", own), SIDE]
        headers.append((b"content-length", b"%d" % len(body)))
        await self._send({"type": "http.response.start", "status": failure.status, "headers": headers})
        await self._send({"type": "http.response.body", "body": body})

    async def _count(self, failure: GatewayError | None) -> None:
        plane, duration = self._plane, perf_counter() - self._started
        code = "client_disconnected" if self._client_left else failure.code if failure is not None else ""
        plane.metrics.forwarded[code or _outcome(self._status)] += 1
        plane.metrics.forwarded_seconds.observe(duration)
        identity, client = self._who()
        if identity is None and failure is None and self._status == 401:
            return  # strangers are counted, but may not fill the table
        text = await self._heard()
        whole = not self._streaming and not self._overheard.cut
        if not code and self._status >= 400:
            code = (error_code(text) if whole else "") or f"http_{self._status}"
        known = current().by_name.get(self._model)
        events = self._overheard.events
        origin = self._origin()
        plane.recorder.add(
            Entry(
                self._request_id,
                time() - duration,
                self._operation,
                identity,
                self._model,
                known[0] if known else None,
                None,
                self._streaming,
                self._status,
                code[:64],
                1,
                usage(text, whole=whole),
                (self._size // _BYTES_PER_TOKEN, events) if events else (0, 0),
                duration,
                self._first_byte,
                duration,
                0.0,
                hops.value_of(self._scope["headers"], b"x-session-id").decode("latin-1")[:255] or None,
                LEGACY,
                client,
                trace_id=origin.trace_id,
                parent_span_id=origin.parent_span_id,
                address=origin.address,
            )
        )

    async def _heard(self) -> bytes:
        text = self._overheard.text()
        if not is_compressed(self._encoding):
            return text
        if self._streaming or self._overheard.cut:
            return b""
        try:
            return await inflate_whole(text, self._encoding, _LARGEST_INFLATED)
        except GatewayError:
            return b""

    def _who(self) -> tuple[Identity | None, str]:
        """The client key that was shown, or a name that tells a stranger from others and keeps nothing of what it showed."""
        if self._identity is not None:
            return self._identity, ""
        credential = credential_of(self._scope["headers"])
        if not credential:
            return None, f"address-{self._digest(_address(self._scope).encode())}"
        return None, f"legacy-{self._digest(credential)}"

    def _origin(self) -> Origin:
        sent = {name.decode("latin-1"): value.decode("latin-1") for name, value in self._scope["headers"]}
        return origin_of(sent, self._client_address())

    def _admitted(self) -> Identity | None:
        """The client key that was shown; None for a credential that only the legacy side may know. What was revoked here is not
        served there, and whatever else keeps a key of ours out does so on both sides: raises `InvalidKey`."""
        credential = credential_of(self._scope["headers"])
        if not credential or len(credential) > _LONGEST_KEY or not credential.isascii():
            return None
        try:
            return whose(credential.decode(), current(), now=time(), address=self._client_address())
        except KeyRefused:
            return None

    def _client_address(self) -> str:
        # The last one is the nearest proxy's, whatever a client sent before it.
        named = (value for name, value in reversed(self._scope["headers"]) if name == b"x-forwarded-for")
        return client_addresses.of_scope(self._scope, next(named, None), current().trusted_proxies)

    def _digest(self, shown: bytes) -> str:
        return blake2b(shown, digest_size=8, key=self._rollout.digest_key).hexdigest()

    def _why_cancelled(self) -> GatewayError | None:
        if self._client_left:
            return None
        if self._timed_out:
            return UpstreamTimeout("The request was not answered in time.")
        return GatewayError("The gateway is stopping.", status=503, code="gateway_stopping", retryable=True)

    # Called by the watch

    @property
    def wants_disconnect(self) -> bool:
        return self.body_read and not self.done

    async def wait_for_disconnect(self) -> None:
        while not self.done:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                self._leave()
                return

    def time_out(self) -> None:
        if not self.done and not self._timed_out:
            self._timed_out = True
            self._cancel()

    def comment(self) -> None:
        """Nothing of our own goes into somebody else's reply."""

    def _leave(self) -> None:
        if not self.done:
            self._client_left = True
            self._cancel()

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()


def _outcome(status: int) -> str:
    return "ok" if status < 400 else "refused" if status < 500 else "failed"


def _said_of_legacy(error: GatewayError) -> GatewayError:
    """The failure of the far end in words that name it; ours as they are."""
    match error:
        case ConfigurationError():
            return UpstreamUnreachable("The legacy system's address is not allowed.", detail=error.detail)
        case UpstreamTimeout():
            return UpstreamTimeout("The legacy system did not answer in time.", detail=error.detail)
        case UpstreamUnreachable():
            return UpstreamUnreachable("The legacy system could not be reached.", detail=error.detail)
        case UpstreamBroken():
            return UpstreamBroken("The legacy system's answer broke off or was not valid HTTP.", detail=error.detail)
        case GatewayOverloaded():
            return GatewayOverloaded("All connections to the legacy system are busy.", retry_after=error.retry_after)
    return error
