"""`POST /v1/messages` and `/v1/messages/count_tokens`: Anthropic's clients, served by whatever model routing chooses."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any

import orjson

from inference.allowing import take_turn
from inference.backends.anthropic import Anthropic
from inference.backends.base import Reply, UpstreamCall, Usage
from inference.deciding import rule
from inference.dispatch import PassedOver, choose_key
from inference.endpoints import headers as h
from inference.endpoints.dialect import Translated
from inference.endpoints.exchange import Receive, Send
from inference.errors import GatewayError
from inference.tokens_seen import in_question
from inference.wire import anthropic
from inference.wire.dialects import CountedMessages, Messages
from inference.wire.openai import CHAT
from routing import health
from routing.snapshot import current

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from inference.plane import DataPlane
    from inference.wire.openai import ParsedRequest
    from routing.types import Identity, Snapshot

COUNT_WITHIN_SECONDS = 2.0
"""How long an upstream may take to count tokens; after that the estimate has to do."""


def messages(plane: DataPlane, scope: dict[str, Any], receive: Receive, send: Send) -> Coroutine[Any, Any, None]:
    return _Messaging(plane, CHAT, scope, receive, send, partial(Messages, _told(scope))).run()


def count_tokens(plane: DataPlane, scope: dict[str, Any], receive: Receive, send: Send) -> Coroutine[Any, Any, None]:
    return _Counted(plane, CHAT, scope, receive, send, partial(CountedMessages, _told(scope))).run()


def _told(scope: dict[str, Any]) -> tuple[tuple[str, str], ...]:
    """The headers that the protocol gives a meaning."""
    return tuple((name.decode(), value.decode("latin-1")) for name, value in scope["headers"] if name in h.ANTHROPIC)


class _Messaging(Translated):
    """Says what Anthropic says where it has another status for the same."""

    __slots__ = ()

    async def _begin(self, head: dict[str, Any]) -> None:
        head["status"] = anthropic.status_of(head["status"])
        await super()._begin(head)


class _Counted(_Messaging):
    """Costs nothing and is in no books, but is a request to its key's limits. Where routing would choose an upstream that counts tokens,
    that one is asked; else the count is the estimate by which budgets are held."""

    __slots__ = ()

    async def _serve(self) -> None:
        snapshot = current()
        identity = self._identified(self._presented(snapshot), snapshot)
        await take_turn(self.trail, snapshot, identity)
        asked = self._parsed(await self._read_body())
        if not h.ROUTING.isdisjoint(self.read):
            self._fold_headers(asked)
        counted = await self._asked_of_its_upstream(asked, identity, snapshot)
        if counted is None:
            counted = in_question(asked)
        await self._reply_whole(Reply(body=orjson.dumps({"input_tokens": counted}), usage=Usage()))

    async def _asked_of_its_upstream(self, asked: ParsedRequest, identity: Identity, snapshot: Snapshot) -> int | None:
        """None where nobody counts, or nobody does so quickly."""
        table = self._plane.table
        self._plane.dispatcher.follow(snapshot)
        candidates = rule(asked, identity, snapshot).candidates if asked.model else ()
        if not candidates or candidates[0].needs_permit:
            return None
        model = candidates[0].model
        try:
            shared = table.take(model.provider)
        except GatewayError:
            return None
        try:
            if not isinstance(shared.backend, Anthropic):
                return None
            keys = model.provider.keys
            key = choose_key(keys, set(), health.current()) if keys else None
            call = UpstreamCall("chat", model, asked.fields, False, self.gateway_id, key, native=asked.native)
            async with asyncio.timeout(COUNT_WITHIN_SECONDS):
                return await shared.backend.count_tokens(call)
        except (GatewayError, PassedOver, TimeoutError):
            return None
        finally:
            table.give_back(shared)
