"""One request and its reply, from the first byte read to the usage row: the part that all generating endpoints share.

The server's own task runs it; there is no other task unless the request lives long enough to be watched (see `watch`).
Whatever ends it, `_close` runs once: the upstream's work is ended, the usage is queued and the counters are told.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from decimal import Decimal
from time import perf_counter, time
from typing import TYPE_CHECKING, Any

from inference import allowing, idempotency, response_cache
from inference.admission import admit, presented_key
from inference.asking import fold_headers, settle_model
from inference.attempts import Attempt, Trail
from inference.backends.base import Reply, Usage
from inference.deciding import rule
from inference.dispatch import outcome_of
from inference.endpoints import account
from inference.endpoints import headers as h
from inference.errors import (
    BodyTooLarge,
    GatewayError,
    InvalidRequest,
    NotAllowed,
    UpstreamBroken,
    UpstreamError,
    UpstreamTimeout,
)
from inference.idempotency import Promise
from inference.outcomes import owner_of
from inference.recording import Entry, cost_of
from inference.request_ids import new_request_id
from inference.response_cache import Place
from inference.tokens_seen import Seen, in_question, in_whole
from inference.told_usage import read_usage, usage_tail
from inference.trace_ids import child
from inference.wire import errors, native, sse
from inference.wire.openai import Operation, ParsedRequest, parse
from providers.pricing import USD
from routing.client_addresses import address_of
from routing.rollout import GATEWAY
from routing.snapshot import current

if TYPE_CHECKING:
    from inference.contents import Capture
    from inference.deciding import Ruling
    from inference.plane import DataPlane
    from inference.spool import Slot
    from routing.types import Identity, Snapshot

logger = logging.getLogger("gateway.requests")

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

CLIENT_LEFT = 499
"""nginx's number for a client that closed before the reply; recorded, never sent."""


class ClientLeft(Exception):
    """The client closed its connection; there is nobody to answer."""


class Exchange:
    __slots__ = (
        "_commenting",
        "_operation",
        "_plane",
        "_receive",
        "_send",
        "_task",
        "address",
        "body_read",
        "cached",
        "capture",
        "client_left",
        "closed",
        "cost",
        "deadline",
        "done",
        "first_byte",
        "gateway_id",
        "identity",
        "last",
        "model_name",
        "overhead",
        "owner",
        "pieces",
        "previous",
        "promise",
        "question_tokens",
        "read",
        "request",
        "revision",
        "seen",
        "session_id",
        "started",
        "status",
        "stream",
        "streaming",
        "tags",
        "timed_out",
        "traced",
        "trail",
        "wants_account",
        "wants_reason",
    )

    def __init__(
        self, plane: DataPlane, operation: Operation, scope: dict[str, Any], receive: Receive, send: Send
    ) -> None:
        self._plane = plane
        self._operation = operation
        self._receive = receive
        self._send = send
        self._task: asyncio.Task[Any] | None = None
        self._commenting: asyncio.Task[None] | None = None
        wanted = h.READ
        self.read = {name: value for name, value in scope["headers"] if name in wanted}
        self.gateway_id = new_request_id()
        self.started = perf_counter()
        self.deadline = 0.0
        self.trail = Trail()
        self.traced = not h.TRACING.isdisjoint(self.read)
        """The caller names the trace that this belongs to."""
        if self.traced and (parent := h.parent_of(self.read)) is not None:
            self.trail.traceparent = child(parent, self.gateway_id).encode()
        client = scope.get("client")
        self.address: str = client[0] if client else ""
        self.tags: tuple[str, ...] = ()
        self.capture: Capture | None = None
        """What is asked and answered, when its client or its policy lets it be kept."""
        self.promise = (
            Promise(self.read[idempotency.HEADER], scope["path"]) if idempotency.HEADER in self.read else None
        )
        self.cached: Place | None = None
        """Its place in the cache, where the policy has one."""
        self.cost: Decimal | None = None
        self.wants_account = self.wants_reason = False
        self.request: ParsedRequest | None = None
        self.identity: Identity | None = None
        self.model_name = ""
        self.session_id: str | None = None
        self.stream = False
        self.revision = -1
        self.question_tokens = 0
        self.status = 0
        self.first_byte: float | None = None
        self.overhead = 0.0
        self.owner = ""
        self.body_read = False
        self.streaming = False
        """The reply's head is sent and its body is an event stream: an error can only be an event now."""
        self.pieces = 0
        self.seen = Seen()
        self.previous = self.last = b""
        self.client_left = self.timed_out = self.done = self.closed = False

    # The walk

    async def run(self) -> None:
        plane = self._plane
        loop = plane.loop
        self._task = asyncio.current_task(loop)
        now = loop.time()
        self.deadline = now + plane.limits.body_seconds
        plane.watch.enter(self, now)
        failure: GatewayError | None = None
        try:
            await self._serve()
        except GatewayError as error:
            failure = error
        except ClientLeft:
            self.client_left = True
        except asyncio.CancelledError:
            failure = self._why_cancelled()
            self._settle_cancellation()
        except Exception:
            logger.exception("request_id=%s the gateway failed", self.gateway_id)
            failure = GatewayError("The gateway failed while it served the request.")
        if not self.closed:
            await self._finish(failure)

    async def _serve(self) -> None:
        plane, read = self._plane, self.read
        snapshot = current()
        self.revision = snapshot.revision
        key = self._presented(snapshot)
        identity = self._identified(key, snapshot)
        plane.recorder.refuse_if_full()
        self.identity = self.trail.identity = identity
        limits = plane.limits
        body = await self._read_body()
        if self.promise is not None and await self._is_answered(self.promise, identity, body):
            return
        request = self.request = self._parsed(body)
        self.question_tokens = in_question(request)
        self.stream = request.stream
        self.wants_account, self.wants_reason = request.wants_account, request.wants_reason
        if not h.ROUTING.isdisjoint(read):
            self._fold_headers(request)
        self.session_id, self.tags = request.session_id, request.tags
        if not request.model:
            await settle_model(request, identity)
        self.model_name = request.model
        arrived = self.deadline - limits.body_seconds
        self.deadline = arrived + limits.reply_seconds
        deadline = arrived + limits.stream_seconds if self.stream else self.deadline
        plane.dispatcher.follow(snapshot)
        ruling = rule(request, identity, snapshot)
        if (contents := plane.recorder.contents) is not None:
            self.capture = contents.begin(self.gateway_id, time(), request, identity, ruling, key)
        if ruling.decision.cache.ttl_seconds and await self._is_cached(request, ruling, identity):
            return
        reply, first = await self._ask(request, ruling, deadline)
        self.request = None
        if self.cached is not None:
            self.cached.hear(reply, first)
        if first is None:
            await self._reply_whole(reply)
        else:
            self.deadline = deadline
            await self._reply_streamed(reply, first)

    def _ask(
        self, request: ParsedRequest, ruling: Ruling, deadline: float
    ) -> Coroutine[Any, Any, tuple[Reply, bytes | None]]:
        """The reply, and of a stream its first bytes."""
        return self._plane.dispatcher.send(request, ruling, self.trail, request_id=self.gateway_id, deadline=deadline)

    async def _is_answered(self, promise: Promise, identity: Identity, body: bytes) -> bool:
        """Whether the same was asked before under its `Idempotency-Key`: then it was answered now as it was then."""
        self.deadline += idempotency.WAIT_SECONDS
        answer = await promise.kept(self._plane.promises, identity, body)
        self.deadline -= idempotency.WAIT_SECONDS
        self._listen(promise)
        if answer is None:
            return False
        provider_id, _, model_id = answer.route.partition("/")
        trail, self.status, self.cost = self.trail, answer.status, response_cache.FREE
        trail.route, trail.log = answer.route, [Attempt(provider_id, model_id, idempotency.REASON, 0, "", time())]
        self.model_name, self.stream = answer.model, answer.stream
        await promise.repeat(answer, self._headers(perf_counter()))
        self.done = True
        await self._close(answer.error_code, Usage())
        return True

    def _listen(self, promise: Promise) -> None:
        """From here on, what the client is told passes the promise."""
        self._send = promise.listening(self._send)

    async def _is_cached(self, request: ParsedRequest, ruling: Ruling, identity: Identity) -> bool:
        """Whether an equal request was answered before under a policy that caches: then this one is, with that answer."""
        if not ruling.candidates:
            return False
        place = self.cached = Place(request, ruling, identity, self.read)
        found = await self._plane.cache.find(place, ruling.decision.policy)
        if found is None:
            return False
        await response_cache.count(self.trail, ruling, identity, request.tags, found.entry)
        self.request = None
        if found.first is None:
            await self._reply_whole(found.reply)
        else:
            await self._reply_streamed(found.reply, found.first)
        return True

    def _presented(self, snapshot: Snapshot) -> str:
        """The credential that is shown; from where, trusted proxies tell."""
        read = self.read
        if snapshot.trusted_proxies and (forwarded := read.get(b"x-forwarded-for")) is not None:
            self.address = address_of(self.address, forwarded.decode("latin-1"), snapshot.trusted_proxies)
        return presented_key(read.get(b"authorization"), read.get(b"x-api-key"), read.get(b"api-key"))

    def _identified(self, key: str, snapshot: Snapshot) -> Identity:
        return admit(key, snapshot, now=time(), address=self.address)

    def _fold_headers(self, request: ParsedRequest) -> None:
        fold_headers(request, self.read)

    def _parsed(self, body: bytes) -> ParsedRequest:
        limits = self._plane.limits
        return parse(self._operation, body, limits.json_depth, limits.pictures)

    async def _read_body(self) -> bytes:
        limit = self._plane.limits.body_bytes
        announced = self.read.get(b"content-length")
        if announced is not None and (not announced.isdigit() or int(announced) > limit):
            raise BodyTooLarge(f"The request body is larger than {limit} bytes.")
        if (encoding := self.read.get(b"content-encoding")) is not None and encoding.lower() != b"identity":
            raise InvalidRequest(f"The request body is encoded ({encoding.decode('latin-1')[:64]}); send it as it is.")
        message = await self._receive()
        if message["type"] == "http.request" and not message.get("more_body"):
            body: bytes = message.get("body", b"")
            if len(body) > limit:
                raise BodyTooLarge(f"The request body is larger than {limit} bytes.")
            self.body_read = True
            if not body:
                raise InvalidRequest("The request body is empty; a JSON object is needed.")
            return body
        pieces = bytearray()
        while True:
            if message["type"] == "http.disconnect":
                raise ClientLeft
            pieces += message.get("body", b"")
            if len(pieces) > limit:
                raise BodyTooLarge(f"The request body is larger than {limit} bytes.")
            if not message.get("more_body"):
                self.body_read = True
                return self._joined(pieces)
            message = await self._receive()

    def _joined(self, pieces: bytearray) -> bytes:
        return bytes(pieces)

    # Replies

    async def _reply_whole(self, reply: Reply) -> None:
        body = reply.body or b""
        self.status = reply.status
        if self.capture is not None:
            self.capture.hear(body)
        usage = reply.usage
        if usage is None and (tail := usage_tail(body)) is not None:
            usage = read_usage(tail)
        if usage is None:
            usage = in_whole(self.question_tokens, self._operation.name, body)
        reply.usage = usage  # whatever becomes of the answer on its way to the client, it was paid for
        self.cost = cost_of(self.trail.model, usage)
        if self.wants_account:
            body = account.added_to(body, self.trail, self.cost, why=self.wants_reason)
        now = perf_counter()
        headers = self._headers(now)
        if self.cost is not None and self.trail.model is not None and self.trail.model.prices.currency == USD:
            headers.append((b"x-gateway-cost-usd", h.money(self.cost)))
        headers.append((b"content-type", reply.content_type))
        headers.append((b"content-length", b"%d" % len(body)))
        if reply.headers:
            headers += h.relayed(reply.headers)
        send = self._send
        if (slot := self.trail.slot) is not None:
            if usage.estimated:
                slot.saw(usage.output_tokens)
            else:
                slot.told(reply.status, usage.counts)
        await send({"type": "http.response.start", "status": reply.status, "headers": headers})
        self.done = True
        await send({"type": "http.response.body", "body": body})
        await self._close("", usage)

    async def _reply_streamed(self, reply: Reply, first: bytes) -> None:
        self.first_byte = perf_counter() - self.started
        if not self.streaming:
            await self._start_stream(reply)
        send = self._send
        assert reply.chunks is not None
        piece, slot = first, self.trail.slot
        more = aiter(reply.chunks)
        while True:
            if self._commenting is not None:
                await self._commenting
                self._commenting = None
            self.pieces += 1
            self.previous, self.last = self.last, piece
            tokens = self.seen.hear(piece)
            if self.capture is not None:
                self.capture.hear(piece)
            if slot is not None:
                slot.saw(tokens)
                if b'"usage"' in piece or b"[DONE]" in piece:
                    self._tell_usage(slot, reply)
            await send({"type": "http.response.body", "body": piece, "more_body": True})
            try:
                piece = await anext(more)
            except StopAsyncIteration:
                break
        tail = self.previous + self.last
        api = reply.api
        failed = native.holds_error(tail) if api else sse.holds_error(tail)
        if not failed and not (native.is_complete(api, tail) if api else sse.is_complete(tail)):
            raise UpstreamBroken("The provider's stream ended before its answer was complete.")
        self.done = True
        await send({"type": "http.response.body", "body": b""})
        usage = reply.usage if reply.usage is not None else usage_tail(tail)
        if failed:  # the upstream has told the client itself
            await self._close(UpstreamError.code, usage, UpstreamError.code)
        else:
            await self._close("", usage)

    def _tell_usage(self, slot: Slot, reply: Reply) -> None:
        """What the client is about to learn is booked so, even if the process is killed in the next moment."""
        tail = usage_tail(self.previous + self.last) if reply.usage is None else None
        usage = reply.usage if tail is None else read_usage(tail)
        if usage is not None and not usage.estimated:
            slot.told(reply.status, usage.counts)

    async def _start_stream(self, reply: Reply | None) -> None:
        self.streaming = True
        self.status = 200 if reply is None else reply.status
        headers = self._headers(perf_counter())
        headers += _STREAM_HEADERS
        if reply is not None and reply.headers:
            headers += h.relayed(reply.headers)
        await self._send({"type": "http.response.start", "status": self.status, "headers": headers})

    def _headers(self, now: float) -> list[h.Header]:
        trail = self.trail
        own = self.gateway_id.encode()
        shown = h.shown_request_id(self.read, own)
        elapsed = now - self.started
        overhead = self.overhead = max(0.0, elapsed - trail.upstream)
        ruling = trail.ruling
        headers = [
            (b"x-request-id", shown),
            (b"openai-processing-ms", b"%d" % (elapsed * 1000)),
            h.OPENAI_VERSION,
            (b"x-gateway-request-id", own),
            (b"x-gateway-route", h.route_value(trail.route)),
            (b"x-gateway-attempts", h.number(trail.attempts)),
            (b"x-gateway-fallback", b"1" if trail.fallback else b"0"),
            (b"x-gateway-overhead-ms", b"%.3f" % (overhead * 1000)),
            (b"x-gateway-revision", h.number(self.revision)),
            (b"x-trace-id", h.trace_id(self.read, shown)),
        ]
        if trail.traceparent:
            headers.append((b"traceparent", trail.traceparent))
        if ruling is not None and ruling.headers:
            headers += ruling.headers
        if trail.grant is not None:
            headers += allowing.headers_of(trail.grant)
        if self.cached is not None:
            headers += self.cached.headers
        return headers

    # Ends

    async def _finish(self, failure: GatewayError | None) -> None:
        """The reply's end when it is not a good one; nothing is said to a client that is gone."""
        broke_off = self.first_byte is not None or (self.timed_out and self.trail.shared is not None)
        if isinstance(failure, UpstreamError) and broke_off:
            self._plane.dispatcher.broke_off(self.trail, failure)
        try:
            if failure is not None and not self.client_left:
                if isinstance(failure, NotAllowed):  # some of its codes are also the upstreams' own
                    self.owner = failure.owner
                errors.log(failure, self.gateway_id, self.trail.route)
                if not self.done:
                    await self._refuse(failure)
        finally:
            code = "client_disconnected" if self.client_left else (failure.code if failure is not None else "")
            self.done = True
            if self.client_left:
                self.status = CLIENT_LEFT
            elif failure is not None and not self.streaming:
                self.status = failure.status
            tail = self.previous + self.last
            reply = self.trail.reply
            usage = reply.usage if reply is not None and reply.usage is not None else usage_tail(tail) if tail else None
            await self._close(code, usage, outcome_of(failure) if failure is not None else code)

    async def _refuse(self, failure: GatewayError) -> None:
        send = self._send
        if self._commenting is not None:
            await self._commenting
        if self.streaming:
            lead = b"" if sse.at_event_boundary(self.last) else b"\n\n"
            await send({"type": "http.response.body", "body": lead + errors.in_stream(failure), "more_body": False})
            return
        body = errors.body_of(failure)
        headers = self._headers(perf_counter())
        headers += errors.headers_of(failure)
        headers.append((b"content-length", b"%d" % len(body)))
        await send({"type": "http.response.start", "status": failure.status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _close(self, error_code: str, usage: Any, outcome: str = "ok") -> None:
        plane, trail = self._plane, self.trail
        self.closed = True
        plane.watch.leave(self)
        if self.promise is not None or self.cached is not None:
            self._remember(error_code, usage, outcome)
        model = trail.model
        duration = perf_counter() - self.started
        try:
            if trail.shared is not None:
                await plane.dispatcher.release(trail)
        finally:
            if trail.grant is not None:
                usage, self.cost = allowing.settle(trail, usage, self._guess(), self.cost)
            metrics = plane.metrics
            metrics.ended(trail.ruling, model, outcome)
            if model is not None:
                metrics.overhead.observe(self.overhead)
            metrics.duration[self._operation.name].observe(duration)
            if self.first_byte is not None:
                metrics.first_token.observe(self.first_byte)
            if self.capture is not None and plane.recorder.contents is not None:
                plane.recorder.contents.end(self.capture)
            if self.identity is not None:  # strangers are counted, but may not fill the table
                plane.recorder.add(
                    Entry(
                        self.gateway_id,
                        time() - duration,
                        self._operation.name,
                        self.identity,
                        self.model_name,
                        model,
                        trail.key.key_id if trail.key is not None else None,
                        self.stream,
                        self.status,
                        error_code[:64],
                        trail.attempts,
                        usage,
                        self._guess(),
                        duration,
                        self.first_byte,
                        trail.upstream,
                        self.overhead,
                        self.session_id,
                        GATEWAY,
                        "",
                        trail.ruling,
                        trail.asked,
                        trail.log,
                        self.cost,
                        self.owner,
                        self._trace_id() if self.traced else "",
                        self._parent_span_id() if trail.traceparent else "",
                        self.tags,
                        self.address,
                        0.0,
                        tuple(trail.paid) if trail.paid else (),
                    ),
                    trail.slot,
                )

    def _remember(self, error_code: str, usage: Any, outcome: str) -> None:
        """For whoever asks the same: what came of it. None of this is waited for."""
        if self.promise is not None:
            owner = self.owner or owner_of(outcome, self.status)
            self.promise.settle(self.gateway_id, self.model_name, self.trail.route, error_code, owner)
        place, cache = self.cached, self._plane.cache
        if place is None:
            return
        if place.entry is not None:
            self.cost = response_cache.FREE
        elif error_code:
            cache.leave(place)
        else:
            cache.keep(place, self.trail, usage)

    def _trace_id(self) -> str:
        return h.trace_id(self.read, h.shown_request_id(self.read, self.gateway_id.encode())).decode("latin-1")

    def _parent_span_id(self) -> str:
        parent = h.parent_of(self.read)
        return "" if parent is None else parent.span_id

    def _guess(self) -> tuple[int, int]:
        """Tokens when nobody tells: of the answer what was seen of it."""
        seen = self.seen.tokens
        return (self.question_tokens, seen) if seen else (0, 0)

    def _why_cancelled(self) -> GatewayError | None:
        if self.client_left:
            return None
        if self.timed_out and not self.body_read:
            return GatewayError("The request was not sent in time.", status=408, code="request_timeout", retryable=True)
        if self.timed_out:
            return UpstreamTimeout("The request was not answered in time.", retryable=True)
        return GatewayError("The gateway is stopping.", status=503, code="gateway_stopping", retryable=True)

    # Called by the watch

    @property
    def wants_disconnect(self) -> bool:
        return self.body_read and not self.done

    async def wait_for_disconnect(self) -> None:
        while not self.done:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                if self.promise is not None and self.promise.outlives_its_client():
                    return
                if not self.done:
                    self.client_left = True
                    self._cancel()
                return

    def time_out(self) -> None:
        if not self.done and not self.timed_out:
            self.timed_out = True
            self._cancel()

    def comment(self) -> None:
        """Say that we are still here, between two events."""
        if self.done or not self.stream or (self.request is None and not self.streaming):
            return
        if self._commenting is None and sse.at_event_boundary(self.last):
            self._commenting = self._plane.loop.create_task(self._comment())

    async def _comment(self) -> None:
        if not self.streaming:
            await self._start_stream(None)
        await self._send({"type": "http.response.body", "body": sse.KEEP_ALIVE, "more_body": True})
        self._commenting = None

    def _settle_cancellation(self) -> None:
        if self._task is not None:
            self._task.uncancel()

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()


_STREAM_HEADERS: list[h.Header] = [
    (b"content-type", sse.CONTENT_TYPE),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
]
