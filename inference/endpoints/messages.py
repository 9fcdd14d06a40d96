"""`POST /v1/messages` and `/v1/messages/count_tokens`: Anthropic's clients, served by whatever model routing chooses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from inference.backends.base import Reply, Usage
from inference.endpoints.dialect import Translated
from inference.endpoints.exchange import Receive, Send
from inference.tokens_seen import in_question
from inference.wire import anthropic
from inference.wire.anthropic_events import Events
from inference.wire.openai import CHAT, parse
from routing.snapshot import current

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from inference.endpoints.headers import Header
    from inference.plane import DataPlane


def messages(plane: DataPlane, scope: dict[str, Any], receive: Receive, send: Send) -> Coroutine[Any, Any, None]:
    return Translated(plane, CHAT, scope, receive, send, _Messages).run()


def count_tokens(plane: DataPlane, scope: dict[str, Any], receive: Receive, send: Send) -> Coroutine[Any, Any, None]:
    return _Counted(plane, CHAT, scope, receive, send, _Question).run()


class _Messages:
    def __init__(self, request_id: str) -> None:
        self._request_id = request_id
        self._events = Events(request_id)

    def question(self, body: bytes) -> bytes:
        return anthropic.chat_body(body)

    def headers(self, request_id: bytes) -> list[Header]:
        return [(b"request-id", request_id)]

    def answer(self, body: bytes) -> bytes:
        return anthropic.message_body(body, self._request_id)

    def refusal(self, body: bytes, status: int) -> bytes:
        return anthropic.error_body(body, status, self._request_id)

    def piece(self, piece: bytes) -> bytes:
        return self._events.feed(piece)

    def end(self) -> bytes:
        return self._events.end()


class _Question(_Messages):
    def question(self, body: bytes) -> bytes:
        return anthropic.chat_body(body, counts_only=True)

    def answer(self, body: bytes) -> bytes:
        return body


class _Counted(Translated):
    """Asks nobody, so it costs nothing and is in no books. The count is the estimate by which budgets are held."""

    __slots__ = ()

    async def _serve(self) -> None:
        snapshot = current()
        self._identified(self._presented(snapshot), snapshot)
        limits = self._plane.limits
        question = parse(CHAT, await self._read_body(), limits.json_depth, limits.pictures)
        counted = orjson.dumps({"input_tokens": in_question(question)})
        await self._reply_whole(Reply(body=counted, usage=Usage()))
