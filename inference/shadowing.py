"""Shadow mode: of a share of the requests the other side gets a copy, and both answers are kept to be compared.

The client's request pays for being sampled with a copy of the bytes that pass and nothing else: the other side is asked after
the answer's end, in tasks of our own, few at a time. A copy that finds no room, no money or no store is dropped and counted.
Nobody who was refused here, or whose answer broke off, is copied.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from time import perf_counter, time
from typing import Any
from urllib.parse import unquote

from django.db import connection, connections

from inference import shadow_asking, shadow_budget, shadow_pairs
from inference.errors import GatewayError
from inference.forwarding import credential_of
from inference.metrics import Metrics, metrics
from inference.request_ids import new_request_id
from inference.shadow_asking import Heard, LegacyWay, Question, model_of
from inference.shadow_budget import Budget, Reservation, StoreAway
from inference.shadow_pairs import Compared
from inference.shadow_texts import OPERATIONS, Asked, Unreadable, asked
from inference.wire import errors, hops
from routing import client_keys
from routing.client_keys import KeyRefused
from routing.rollout import BUCKETS, GATEWAY, bucket
from routing.snapshot import current
from routing.types import Identity, RolloutView, Snapshot

logger = logging.getLogger("gateway.shadowing")

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
Serve = Callable[[dict[str, Any], Receive, Send], Awaitable[None]]

AT_ONCE = 4
"""Copies that a process asks for at a time."""
WAITING = 50
"""Copies that may wait for their turn; more are dropped."""
LISTENING = 200
"""Requests that may be listened to at a time; more are not sampled."""
MOST_BYTES = 128 * 1024
"""Of a request's body; a larger one is not copied."""
COPY_SECONDS = 120.0

_REFUSED = frozenset({401, 402, 403, 404, 405, 413, 429, 499})
"""Who was not let in, asked for what is not there or asked too much gets no second answer at our cost; nor does who was sent
elsewhere, such as to log in."""


def is_sampled(rollout: RolloutView, request_id: bytes) -> bool:
    """Whether a request is copied: always the same for the same id, so a client's retry is not another draw."""
    share = rollout.shadow_share
    return share >= BUCKETS or bucket(rollout.salt, b"shadow:" + request_id) < share


class Shadowing:
    """One per serving process."""

    def __init__(
        self,
        redis_url: str,
        counters: Metrics = metrics,
        *,
        at_once: int = AT_ONCE,
        waiting: int = WAITING,
        copy_seconds: float = COPY_SECONDS,
    ) -> None:
        self._redis_url = redis_url
        self._counters = counters
        self._at_once = at_once
        self._most_waiting = waiting
        self._copy_seconds = copy_seconds
        self._waiting: deque[Listening] = deque()
        self._running: set[asyncio.Task[None]] = set()
        self._listening = 0
        self._budget: Budget | None = None
        self._legacy = LegacyWay()
        self._writer: ThreadPoolExecutor | None = None
        self._closed = False

    def listen(self, rollout: RolloutView, side: str, scope: dict[str, Any]) -> Listening | OwnCopy | None:
        """What serves a request that is sampled, so that it can be copied afterwards; None for all others.

        A copy of our own, which came back because the legacy system's address leads here, is refused: the client whose
        key it carries did not ask for it.
        """
        path = scope["path"].rstrip("/")
        if scope["method"] != "POST" or path not in OPERATIONS:
            return None
        headers: list[tuple[bytes, bytes]] = scope["headers"]
        if mark := hops.value_of(headers, shadow_asking.MARK):
            return OwnCopy() if mark == shadow_asking.sender(rollout) else None
        shown = hops.value_of(headers, b"x-request-id") or hops.value_of(headers, b"x-client-request-id")
        request_id = shown or new_request_id().encode()
        if not is_sampled(rollout, request_id):
            return None
        if self._listening >= LISTENING:
            self._count("busy")
            return None
        self._listening += 1
        return Listening(self, rollout, side, path, request_id.decode("latin-1"), scope)

    async def aclose(self) -> None:
        """Drop what waits, end what runs."""
        self._closed = True
        while self._waiting:
            self._waiting.popleft()
            self._count("stopped")
        while self._running:
            for task in self._running:
                task.cancel()
            await asyncio.wait(self._running, timeout=1.0)
        self._legacy.close()
        if self._budget is not None:
            await self._budget.aclose()
            self._budget = None
        if self._writer is not None:
            self._writer.submit(connections.close_all)
            await asyncio.to_thread(self._writer.shutdown)
            self._writer = None
        self._closed = False

    async def idle(self) -> None:
        """Wait until no copy is under way."""
        while self._running:
            await asyncio.wait(self._running)

    # Called by what listens

    def over(self, listening: Listening) -> None:
        """The client has its answer, or will get none."""
        self._listening -= 1
        if reason := listening.why_not:
            self._count(reason)
        elif self._closed:
            self._count("stopped")
        elif len(self._waiting) >= self._most_waiting:
            self._count("queue_full")
        else:
            self._waiting.append(listening)
            self._begin()

    def _begin(self) -> None:
        while self._waiting and len(self._running) < self._at_once and not self._closed:
            task = asyncio.get_running_loop().create_task(self._copy(self._waiting.popleft()))
            self._running.add(task)
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._begin()

    def _count(self, outcome: str) -> None:
        self._counters.shadow[outcome] += 1

    # A copy

    async def _copy(self, listening: Listening) -> None:
        try:
            outcome = await self._compare(listening)
        except asyncio.CancelledError:
            self._count("stopped")
            raise
        except Exception as error:  # nobody waits for a copy; its text stays out of the log
            logger.warning("request_id=%s no copy was made: %s", listening.request_id[:128], type(error).__name__)
            outcome = "failed"
        self._count(outcome)

    async def _compare(self, listening: Listening) -> str:
        registry = current()
        try:
            request = asked(listening.path, listening.body)
            first = await listening.heard(request, registry)
        except (Unreadable, GatewayError):
            return "unreadable"
        model = model_of(registry, request.model)
        most = shadow_budget.estimate(
            model, request_bytes=request.size, most_output_tokens=request.most_output_tokens, choices=request.choices
        )
        try:
            reservation = await self._money.reserve(most, listening.rollout.shadow_daily_cap, time())
        except StoreAway:
            return "store_away"
        if reservation is None:
            return "cap_reached"
        if self._closed:  # the Redis client may swallow a cancellation while it connects
            await self._money.settle(reservation, Decimal(0))
            return "stopped"
        second = await self._ask(listening, request, registry, reservation, most)
        here, there = (first, second) if listening.side == GATEWAY else (second, first)
        pair = Compared(
            at=listening.at,
            request_id=listening.request_id,
            answered_by=listening.side,
            path=listening.path,
            model=request.model,
            request_text=request.text,
            gateway=here.answer,
            legacy=there.answer,
        )
        await asyncio.get_running_loop().run_in_executor(self._thread, _store, pair)
        return "stored"

    async def _ask(
        self, listening: Listening, request: Asked, registry: Snapshot, reservation: Reservation, most: Decimal
    ) -> Heard:
        """The other side's answer. Whatever happens to it, the day's money is settled once."""
        costs = most
        try:
            if listening.side == GATEWAY:
                heard = await self._legacy.ask(
                    listening.rollout, listening.question(request), registry, self._copy_seconds
                )
            else:
                heard = await shadow_asking.of_gateway(
                    request, registry, self._copy_seconds, listening.identity(registry)
                )
            costs = most if heard.counts is None else heard.counts
            return heard
        finally:
            await self._money.settle(reservation, costs)

    @property
    def _money(self) -> Budget:
        if self._budget is None:
            self._budget = Budget(self._redis_url)
        return self._budget

    @property
    def _thread(self) -> ThreadPoolExecutor:
        """One: comparing must not take the processor from those who serve, nor hold many connections."""
        if self._writer is None:
            self._writer = ThreadPoolExecutor(1, thread_name_prefix="shadow")
        return self._writer


class OwnCopy:
    """A copy that this gateway sent to what it takes for the legacy system."""

    async def serve(self, serve: Serve, receive: Receive, send: Send) -> None:
        error = GatewayError(
            "The legacy system's address leads back to this gateway.", status=508, code="loop_detected"
        )
        body = errors.body_of(error)
        headers = [*errors.headers_of(error), (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": error.status, "headers": headers})
        await send({"type": "http.response.body", "body": body})


class Listening:
    """One sampled request while it is served, and what of it the copy needs."""

    def __init__(
        self,
        shadowing: Shadowing,
        rollout: RolloutView,
        side: str,
        path: str,
        request_id: str,
        scope: dict[str, Any],
    ) -> None:
        self._shadowing = shadowing
        self._scope = scope
        self._asked: list[bytes] = []
        self._answered: list[bytes] = []
        self._asked_bytes = self._answered_bytes = 0
        self._status = 0
        self._headers: list[tuple[bytes, bytes]] = []
        self._seconds = 0.0
        self._is_whole = False
        self._began = perf_counter()
        self.rollout = rollout
        self.side = side
        self.path = path
        self.request_id = request_id
        self.at = time()

    async def serve(self, serve: Serve, receive: Receive, send: Send) -> None:
        """Serve the request as it is served anyway, keeping a copy of what passes."""

        async def receive_and_keep() -> dict[str, Any]:
            message = await receive()
            self._keep_asked(message)
            return message

        async def send_and_keep(message: dict[str, Any]) -> None:
            await send(message)
            self._keep_answered(message)

        try:
            await serve(self._scope, receive_and_keep, send_and_keep)
        finally:
            self._shadowing.over(self)

    def _keep_asked(self, message: dict[str, Any]) -> None:
        piece = message.get("body", b"")
        self._asked_bytes += len(piece)
        if self._asked_bytes <= MOST_BYTES:
            self._asked.append(piece)

    def _keep_answered(self, message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self._status, self._headers = message["status"], list(message["headers"])
            return
        piece = message.get("body", b"")
        self._answered_bytes += len(piece)
        if self._answered_bytes <= shadow_asking.MOST_BYTES:
            self._answered.append(piece)
        if not message.get("more_body"):
            self._is_whole = True
            self._seconds = perf_counter() - self._began

    @property
    def why_not(self) -> str:
        """Why no copy is made of it; empty when one is."""
        if not self._is_whole:
            return "not_answered"
        if self._status in _REFUSED or 300 <= self._status < 400:
            return "refused"
        if self._asked_bytes > MOST_BYTES or self._answered_bytes > shadow_asking.MOST_BYTES:
            return "too_large"
        return ""

    @property
    def body(self) -> bytes:
        return b"".join(self._asked)

    def identity(self, registry: Snapshot) -> Identity | None:
        """Whose request it is, where the key that it shows is one of ours."""
        shown = credential_of(self._scope["headers"])
        try:
            return client_keys.find(shown.decode("ascii"), registry, now=self.at).view.identity
        except (KeyRefused, UnicodeDecodeError):
            return None

    async def heard(self, request: Asked, registry: Snapshot) -> Heard:
        """What the client was told. Raises `GatewayError` when the reply cannot be read."""
        raw = await shadow_asking.inflated(b"".join(self._answered), hops.value_of(self._headers, b"content-encoding"))
        stream = shadow_asking.is_stream(hops.value_of(self._headers, b"content-type"))
        route = unquote(hops.value_of(self._headers, b"x-gateway-route").decode("latin-1"))
        model = model_of(registry, route) or model_of(registry, request.model)
        return shadow_asking.read(self._status, raw, stream, request, model, self._seconds)

    def question(self, request: Asked) -> Question:
        scope = self._scope
        client = scope.get("client")
        return Question(
            path=self.path,
            target=scope.get("raw_path") or scope["path"].encode(),
            query=scope.get("query_string", b""),
            headers=scope["headers"],
            address=client[0] if client else "",
            scheme=scope.get("scheme", "http"),
            request_id=self.request_id,
            body=self.body,
            asked=request,
        )


def _store(pair: Compared) -> None:
    if connection.errors_occurred:
        connection.close_if_unusable_or_obsolete()
    shadow_pairs.store(pair)
