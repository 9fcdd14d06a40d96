"""`Idempotency-Key`: a client that asks the same again gets the same answer, and the provider is asked and paid once.

What stands in Redis under a digest of the client key and the header's value:

    nothing ──claim──> under way (a lease that is renewed while its process lives) ──> answered, for a day
       ^                        │                                                 └──> answered, and too large to be kept
       └────────────────────────┴── failed, or its process died: the next try is a real one

Who asks while the first request is under way waits for its answer, and is told to come back when that takes long. An answer is
remembered when it is final: a success, or an error that would be the same the next time. Who leaves before it is complete may
ask for it later: the request goes on without its client.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import secrets
from time import time
from typing import TYPE_CHECKING, Any

import msgspec

from inference import kept_replies
from inference.errors import CallerError, GatewayError, InvalidRequest
from inference.kept_replies import LARGEST_BYTES, KeptReplies
from inference.wire import sse
from routing.loop_store import AWAY

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from routing.types import Identity

    Message = dict[str, Any]
    Send = Callable[[Message], Awaitable[None]]
    Header = tuple[bytes, bytes]

logger = logging.getLogger("gateway.requests")

HEADER = b"idempotency-key"
REPLAYED: Header = (b"x-gateway-idempotent-replay", b"1")
REASON = "idempotent_replay"
"""Why the provider stands in a trace without having been asked."""

KEPT_SECONDS = 24 * 3600
MOST_KEPT_BYTES = 256 * 1024 * 1024
"""Of answers of one client key in a day; those that come after are too large to be kept. Redis holds what else the gateway needs."""
_NOT_COUNTED_BYTES = 4096
LEASE_SECONDS = 15.0
_RENEWED_EVERY = LEASE_SECONDS / 3
WAIT_SECONDS = 30.0
"""For the answer of an equal request that is under way."""
MOST_WAITERS = 8
"""For one answer, in one process. They wait before limits let them through, so that a client which lost its connection finds its answer
although the request that makes it holds the only turn; more than a few are no lost connections."""
_COME_BACK_SECONDS = 5.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.02, 1.0
_TRIES_TO_SETTLE = 5

_FIT = re.compile(rb"[\x21-\x7e](?:[\x20-\x7e]{0,253}[\x21-\x7e])?").fullmatch
_UNDER_WAY, _ANSWERED, _NOT_KEPT = b"w", b"a", b"n"
_FINGERPRINT = slice(1, 65)
_REST = slice(65, None)

_CLAIM = """
local held = redis.call('GET', KEYS[1])
if held then return held end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return false
"""
_SETTLE = """
local held = redis.call('GET', KEYS[1])
if held and held ~= ARGV[1] then return 0 end
if ARGV[2] == '' then redis.call('DEL', KEYS[1]) else redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3]) end
return 1
"""
"""Whoever lost the lease to another has no say any more; one that ran out unnoticed is still its last holder's."""

_PASSING = frozenset({401, 403, 404, 408, 409, 425, 429})
"""Of a refusal that may be another one tomorrow: it depends on keys, permissions, the registry or the moment."""

_OF_ONE_REPLY = frozenset(
    {
        b"x-gateway-attempts",
        b"x-gateway-cost-usd",
        b"x-gateway-fallback",
        b"x-gateway-cache",
        b"age",
        b"date",
        b"content-length",
        b"retry-after",
        b"retry-after-ms",
    }
)
"""Headers that a repeated answer does not repeat, beside those that every reply says of itself."""


class InProgress(GatewayError):
    """An equal request is under way, and stays so. OpenAI's clients try again after a 409."""

    status = 409
    code = "idempotency_in_progress"
    type = "invalid_request_error"
    retryable = True
    owner = "caller"


class Unavailable(GatewayError):
    """Who asks for exactly one call is not served when that cannot be promised."""

    status = 503
    code = "idempotency_unavailable"
    retryable = True


class Answer(msgspec.Struct, array_like=True, frozen=True):
    """As it went to the client; `request_id` is its own, `model` what was asked for, `route` who answered."""

    request_id: str
    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes
    stream: bool
    model: str
    route: str
    error_code: str

    def again(self, own: list[Header]) -> list[Header]:
        """The headers of a repetition, `own` being those of the reply that it is."""
        said = {name for name, _ in own}
        repeated = [header for header in self.headers if header[0] not in said and header[0] not in _OF_ONE_REPLY]
        told = [REPLAYED, (b"x-gateway-original-request-id", self.request_id.encode())]
        if not self.stream:
            told.append((b"content-length", b"%d" % len(self.body)))
        return [*own, *repeated, *told]


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Answer).decode


class Promises:
    """Those that requests of this process made and have not settled. For one event loop."""

    def __init__(self, kept: KeptReplies) -> None:
        self._kept = kept
        self._held: set[Promise] = set()
        self._waiting: dict[str, set[Promise]] = {}
        """For the answer of an equal request, by key."""
        self._renewing: asyncio.Task[None] | None = None

    async def claim(self, promise: Promise) -> bytes | None:
        """What stands under the promise's key; None when it is the promise itself from now on. Raises what is in `AWAY`."""
        held: bytes | None = await self._kept.store.eval(  # type: ignore[misc]
            _CLAIM, 1, promise.key, promise.claim, int(LEASE_SECONDS * 1000)
        )
        if held is None:
            self._held.add(promise)
            if self._renewing is None:
                self._renewing = asyncio.get_running_loop().create_task(self._renew())
        return held

    def lets_wait(self, promise: Promise) -> bool:
        """Whether it may wait for the answer under its key; it then counts as waiting until `waits_no_more`."""
        waiting = self._waiting.setdefault(promise.key, set())
        if promise not in waiting and len(waiting) >= MOST_WAITERS:
            return False
        waiting.add(promise)
        return True

    def waits_no_more(self, promise: Promise) -> None:
        waiting = self._waiting.get(promise.key)
        if waiting is not None:
            waiting.discard(promise)
            if not waiting:
                del self._waiting[promise.key]

    def settle(self, promise: Promise, value: bytes | Answer) -> None:
        """Write how it ended, after the reply. Empty: the key is free."""
        self._kept.afterwards(self._settle(promise, value))

    async def _settle(self, promise: Promise, told: bytes | Answer) -> None:
        """While Redis is away the lease runs out, and the next try is a real one."""
        try:
            value = told if isinstance(told, bytes) else _sealed(told, promise)
            counted = len(value) <= _NOT_COUNTED_BYTES
            for again in range(_TRIES_TO_SETTLE):
                try:
                    if not isinstance(told, bytes) and not counted:
                        is_full = await self._is_full(promise, value)
                        counted = True
                        if is_full:
                            value = _NOT_KEPT + promise.claim[_FINGERPRINT] + told.request_id.encode()
                    async with promise.saying:
                        await self._say(promise, value, KEPT_SECONDS)
                except AWAY as error:
                    logger.warning("an answer is not remembered yet: %s", type(error).__name__)
                    await asyncio.sleep(2**again * 0.1)
                else:
                    return
        finally:
            self._held.discard(promise)

    async def _is_full(self, promise: Promise, value: bytes) -> bool:
        """Whether the client key has had as many bytes kept today as it may, these among them."""
        day = f"gw:idem:bytes:{promise.owner}:{int(time() // KEPT_SECONDS)}"
        async with self._kept.store.pipeline() as pipe:
            pipe.incrby(day, len(value))
            pipe.expire(day, 2 * KEPT_SECONDS)
            total, _ = await pipe.execute()
        return bool(total > MOST_KEPT_BYTES)

    async def _renew(self) -> None:
        while self._held:
            await asyncio.sleep(_RENEWED_EVERY)
            for promise in tuple(self._held):
                try:
                    async with promise.saying:
                        if not promise.settled:
                            await self._say(promise, promise.claim, LEASE_SECONDS)
                except AWAY:
                    break
        self._renewing = None

    async def _say(self, promise: Promise, value: bytes, seconds: float) -> None:
        await self._kept.store.eval(_SETTLE, 1, promise.key, promise.claim, value, int(seconds * 1000))  # type: ignore[misc]

    async def aclose(self) -> None:
        if self._renewing is not None:
            self._renewing.cancel()
            self._renewing = None


class Promise:
    """One request's: that its answer will be the only one under its key."""

    __slots__ = (
        "_body",
        "_head",
        "_made",
        "_path",
        "_pieces",
        "_promises",
        "_sent",
        "_to",
        "claim",
        "key",
        "owner",
        "saying",
        "settled",
    )

    def __init__(self, sent: bytes, path: str) -> None:
        self._sent = sent
        self._path = path.encode("utf-8", "surrogatepass")
        self._promises: Promises | None = None
        self._to: Send | None = None
        self._head: Message | None = None
        self._pieces: list[bytes] = []
        self._body = 0
        self.key = ""
        self.owner = 0
        """The client key's number."""
        self.claim = b""
        self._made = self.settled = False
        self.saying = asyncio.Lock()
        """A lease that was being renewed while the key was freed would take it again."""

    async def kept(self, promises: Promises, identity: Identity, body: bytes) -> Answer | None:
        """The answer that an equal request has got; None when this is the one to be served.

        Raises the caller's error for a key that is none, that stands for another request, or whose answer cannot be had.
        """
        self._promises = promises
        fingerprint = self._named(identity, body)
        try:
            return await self._found(promises, fingerprint)
        finally:
            promises.waits_no_more(self)

    async def _found(self, promises: Promises, fingerprint: bytes) -> Answer | None:
        loop = asyncio.get_running_loop()
        until, pause = loop.time() + WAIT_SECONDS, _FIRST_PAUSE
        while True:
            try:
                held = await promises.claim(self)
            except AWAY as error:
                raise Unavailable(
                    "The gateway cannot promise at the moment that an Idempotency-Key is answered once; try again soon.",
                    detail=f"Redis: {type(error).__name__}",
                    retry_after=1,
                ) from None
            if held is None:
                self._made = True
                return None
            if held[_FINGERPRINT] != fingerprint:
                raise CallerError(
                    "This Idempotency-Key was used for a request with another body or path. Use a new key for a new request.",
                    status=422,
                    code="idempotency_key_reused",
                    param="Idempotency-Key",
                )
            if held[:1] != _UNDER_WAY:
                return self._read(held)
            if loop.time() >= until or not promises.lets_wait(self):
                raise InProgress(
                    "A request with this Idempotency-Key is still under way; ask again for its answer.",
                    param="Idempotency-Key",
                    retry_after=_COME_BACK_SECONDS,
                )
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)

    def listening(self, send: Send) -> Send:
        """What the client is told passes here, and goes on after it has left."""
        self._to = send
        return self._hear

    async def repeat(self, answer: Answer, own: list[Header]) -> None:
        """Say it to the client; `own` are the headers of this very reply."""
        assert self._to is not None
        await self._to({"type": "http.response.start", "status": answer.status, "headers": answer.again(own)})
        await self._to({"type": "http.response.body", "body": answer.body})

    def outlives_its_client(self) -> bool:
        """Whether the request goes on when its client closes the connection. Then nobody is told anything any more."""
        if self._made:
            self._to = None
        return self._made

    def settle(self, request_id: str, model: str, route: str, error_code: str, owner: str) -> None:
        """The reply is over. `owner` is whose fault it is, if it is an error."""
        if not self._made or self.settled or self._promises is None:
            return
        self.settled = True
        fingerprint = self.claim[_FINGERPRINT]
        head = self._head
        if head is None or not _is_final(head["status"], error_code, owner):
            self._promises.settle(self, b"")
        elif self._body > LARGEST_BYTES:
            self._promises.settle(self, _NOT_KEPT + fingerprint + request_id.encode())
        else:
            headers = [(bytes(name), bytes(value)) for name, value in head["headers"]]
            stream = not any(name == b"content-length" for name, _ in headers)
            body = b"".join(self._pieces)
            answer = Answer(request_id, head["status"], headers, body, stream, model, route, error_code)
            self._promises.settle(self, answer)

    def _named(self, identity: Identity, body: bytes) -> bytes:
        """Give the promise its key; returns what tells its request from others."""
        if _FIT(self._sent) is None:
            raise InvalidRequest(
                "An Idempotency-Key has 1 to 255 printable ASCII characters.",
                code="invalid_idempotency_key",
                param="Idempotency-Key",
            )
        self.owner = identity.key_id
        self.key = "gw:idem:" + kept_replies.digest("idempotency", b"%d" % identity.key_id, self._sent)
        fingerprint = kept_replies.digest("idempotency-body", self._path, body).encode()
        self.claim = _UNDER_WAY + fingerprint + secrets.token_bytes(16)
        return fingerprint

    def _read(self, held: bytes) -> Answer:
        if held[:1] == _ANSWERED and (told := kept_replies.unseal(held[_REST], self.key)) is not None:
            with contextlib.suppress(msgspec.MsgspecError):  # written by another release in its own way
                return _decode(told)
        first = held[_REST].decode("ascii", "replace") if held[:1] == _NOT_KEPT else "a request before"
        raise CallerError(
            f"This Idempotency-Key was answered by {first}, whose answer is too large or too old to be repeated. "
            "Use a new key to have it answered, and paid, again.",
            status=409,
            code="idempotency_answer_not_kept",
            param="Idempotency-Key",
        )

    async def _hear(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._head = {"status": message["status"], "headers": list(message["headers"])}
        else:
            piece = message.get("body", b"")
            if piece and piece != sse.KEEP_ALIVE:
                self._body += len(piece)
                if self._body <= LARGEST_BYTES:
                    self._pieces.append(piece)
                else:
                    self._pieces.clear()
        if self._to is not None:
            await self._to(message)


def _sealed(answer: Answer, promise: Promise) -> bytes:
    return _ANSWERED + promise.claim[_FINGERPRINT] + kept_replies.seal(_encode(answer), promise.key)


def _is_final(status: int, error_code: str, owner: str) -> bool:
    if status < 400:
        return not error_code
    return owner == "caller" and status < 500 and status not in _PASSING
