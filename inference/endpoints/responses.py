"""`POST /v1/responses`: OpenAI's Responses API, answered by whatever model routing chooses.

Between a request and its answer is the exchange of a chat completion. An upstream that speaks the API gets the client's own words,
and its events pass as they are; but the conversation is kept here and told there whole, so that any upstream can go on with it, and
what a client was told under an id can always be retrieved by it. Retrieving is the control plane's: see `inference.api.responses`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from time import time
from typing import TYPE_CHECKING, Any

import orjson

from inference.allowing import take_turn
from inference.backends.base import Reply, Usage
from inference.endpoints.dialect import Translated
from inference.endpoints.exchange import Receive, Send
from inference.errors import GatewayError, InvalidRequest, NotImplementedHere
from inference.refusing import refusal
from inference.response_keeping import Keeper, Turn, nothing_kept
from inference.tokens_seen import in_question
from inference.wire import errors, responses, responses_events, sse
from inference.wire import responses_objects as objects
from inference.wire.dialects import Responses, readable
from inference.wire.native import RESPONSES
from inference.wire.openai import CHAT
from inference.wire.responses import Asked
from routing.snapshot import current

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from inference.deciding import Ruling
    from inference.plane import DataPlane
    from inference.wire.openai import ParsedRequest


def create(plane: DataPlane, scope: dict[str, Any], receive: Receive, send: Send) -> Coroutine[Any, Any, None]:
    return _Responding(plane, CHAT, scope, receive, send, Responses).run()


def input_tokens(plane: DataPlane, scope: dict[str, Any], receive: Receive, send: Send) -> Coroutine[Any, Any, None]:
    return _Counted(plane, CHAT, scope, receive, send, Responses).run()


def compact(plane: DataPlane, scope: dict[str, Any], receive: Receive, send: Send) -> Coroutine[Any, Any, None]:
    return _Uncompacted(plane, CHAT, scope, receive, send, Responses).run()


ENDPOINTS = {"/v1/responses": create, "/v1/responses/input_tokens": input_tokens, "/v1/responses/compact": compact}


class _Asking(Translated):
    """What all requests under `/v1/responses` have in common: the body, and what it goes on from."""

    __slots__ = ()

    _dialect: Responses

    async def _conversation(self, body: bytes, owner: str, *, needs_input: bool = True) -> Asked:
        asked = self._dialect.asked = responses.read(body, needs_input=needs_input)
        if asked.previous or asked.references:
            keeper = self._keeper("previous_response_id" if asked.previous else "input")
            model = asked.told.get("model") or ""
            asked.resolve(*await keeper.before(owner, asked.previous, asked.references, model))
        return asked

    def _keeper(self, param: str) -> Keeper:
        keeper: Keeper | None = self._plane.keeper
        if keeper is None:
            raise nothing_kept(param)
        return keeper


class _Responding(_Asking):
    __slots__ = ("_following", "_is_kept", "_keeps", "_queued", "_teller")

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._keeps = False
        """Its client wants it stored, and somebody is there to do so."""
        self._is_kept = self._queued = False
        self._teller: responses_events.Told | responses_events.Passed | None = None
        """None as long as nothing was said, and where an upstream's events pass unread."""
        self._following: AsyncIterator[bytes] | None = None

    async def _read_body(self) -> bytes:
        body = await super()._read_body()
        assert self.identity is not None
        asked = await self._conversation(body, self.identity.prefix)
        if asked.background:
            self._keeper("background")
            if not asked.store:
                raise InvalidRequest("'background' needs 'store': the answer is retrieved later.", param="background")
        self._keeps = asked.store and self._plane.keeper is not None
        self._dialect.begin(kept=self._keeps)
        return body

    # In the background

    async def _is_cached(self, request: ParsedRequest, ruling: Ruling, identity: Any) -> bool:
        return not self._dialect.asked.background and await super()._is_cached(request, ruling, identity)

    async def _ask(self, request: ParsedRequest, ruling: Ruling, deadline: float) -> tuple[Reply, bytes | None]:
        if not self._dialect.asked.background:
            return await super()._ask(request, ruling, deadline)
        if not ruling.candidates:
            raise refusal(ruling.facts, ruling.decision, ruling.at)
        identity, keeper = self.identity, self._keeper("background")
        assert identity is not None
        response = self._dialect.begun = {**self._dialect.begun, "status": "queued", "model": request.model}
        await keeper.queue(self._dialect.asked, request, identity, response)
        self._queued = True
        self.identity = self.capture = None  # the job tells the books, and traces, of what it does
        if not request.stream:
            return Reply(body=orjson.dumps(response), usage=Usage(), api=RESPONSES), None
        self._following = keeper.follow(identity.prefix, response["id"])
        first = await anext(self._following)
        return Reply(chunks=self._following, usage=Usage(), api=RESPONSES), first

    # What the client is told

    async def _translated(self, message: dict[str, Any]) -> None:
        if message["type"] != "http.response.start" and self._streams:
            await self._go_on(message.get("body", b""), more=message.get("more_body", False))
        else:
            await super()._translated(message)

    async def _go_on(self, piece: bytes, *, more: bool) -> None:
        if self._passes_unread or piece == sse.KEEP_ALIVE:  # ours, which may come before it is known who answers
            said = piece
        else:
            teller = self._telling()
            with readable():
                said = teller.feed(piece) if piece else b""
                if not more:
                    said += b"".join(map(sse.named, teller.end()))
            said = await self._once_kept(said)
        if said or not more:
            await self._to_client({"type": "http.response.body", "body": said, "more_body": more})

    @property
    def _passes_unread(self) -> bool:
        return self._passes and (self._queued or not (self._keeps or self._dialect.asked.previous))

    def _telling(self) -> responses_events.Told | responses_events.Passed:
        if self._teller is None:
            dialect = self._dialect
            if self._passes:
                self._teller = responses_events.Passed(dialect.begun)
            else:
                self._teller = responses_events.Told(dialect.asked, dialect.begun, lambda: int(time()))
        return self._teller

    async def _answered(self, body: bytes) -> bytes:
        if self._passes_unread:
            return body
        response = self._dialect.response(body, native=self._passes)
        if self._keeps:
            response["store"] = await self._kept(response)
        return orjson.dumps(response)

    async def _refuse(self, failure: GatewayError) -> None:
        """In a stream that has begun, an error is an event of its own, and the end of the Response."""
        if not self.streaming:
            await super()._refuse(failure)
            return
        if self._commenting is not None:
            await self._commenting
        error = orjson.loads(errors.body_of(failure))["error"]
        if self._passes_unread and self.pieces:
            number = responses_events.next_number(self.previous + self.last)
            events = [responses_events.error_event(error, number)]
        else:
            events = self._telling().fail(error, failure.status)
        said = await self._once_kept(b"".join(map(sse.named, events)))
        await self._to_client({"type": "http.response.body", "body": said, "more_body": False})

    # What is kept

    async def _once_kept(self, said: bytes) -> bytes:
        """What the client is told, once the Response is kept whose end that is: who has heard of it can retrieve it, or is told that it
        could not be kept."""
        over = None if self._teller is None else self._teller.final
        if over is None or not self._keeps or self._is_kept or await self._kept(over):
            return said
        return responses_events.unkept(said)

    async def _kept(self, response: objects.Item) -> bool:
        keeper, asked, owner = self._plane.keeper, self._dialect.asked, self.trail.identity
        assert keeper is not None
        assert owner is not None
        self._is_kept = True
        return await keeper.keep(Turn(owner.prefix, self.model_name, asked.previous, asked.input, response))

    async def _finish(self, failure: GatewayError | None) -> None:
        await super()._finish(failure)
        if self._keeps and not self._is_kept and self._teller is not None and self._teller.has_begun:
            # Its client knows the id, but has left before the end.
            await self._kept({**self._teller.so_far(), "status": "cancelled"})

    async def _close(self, error_code: str, usage: Any, outcome: str = "ok") -> None:
        try:
            await super()._close(error_code, usage, outcome)
        finally:
            close = getattr(self._following, "aclose", None)
            if close is not None:
                await close()


class _Counted(_Asking):
    """Asks nobody, so it costs nothing and is in no books, but is a request to its key's limits. The count is the estimate by which
    budgets are held."""

    __slots__ = ()

    async def _serve(self) -> None:
        snapshot = current()
        identity = self._identified(self._presented(snapshot), snapshot)
        await take_turn(self.trail, snapshot, identity)
        body = await self._read_body()
        await self._conversation(body, identity.prefix, needs_input=False)
        counted = {"object": "response.input_tokens", "input_tokens": in_question(self._parsed(body))}
        await self._reply_whole(Reply(body=orjson.dumps(counted), usage=Usage(), api=RESPONSES))


class _Uncompacted(_Asking):
    __slots__ = ()

    async def _serve(self) -> None:
        snapshot = current()
        self._identified(self._presented(snapshot), snapshot)
        raise NotImplementedHere(
            "The gateway does not compact conversations: what OpenAI makes of one can be read by OpenAI alone. "
            "Leave out old items, or have a model summarise them."
        )
