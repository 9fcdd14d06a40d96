"""Which endpoints a batch may be for, and how a line for each is read and answered: by the code of the data plane's endpoint.

What is different in a batch: answers are whole and come when there is time for them, whatever the line says of that; and a Response
lies in the output file and is not kept beside it.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import orjson

from inference import response_keeper
from inference.alternatives import with_alternatives
from inference.attempts import Trail
from inference.errors import GatewayError, InvalidRequest
from inference.limits import Limits
from inference.response_keeping import Before, nothing_kept
from inference.wire import anthropic, dialects, media, openai, responses
from inference.wire import errors as wire_errors
from inference.wire.openai import CHAT, MODERATIONS, Operation, ParsedRequest
from inference.wire.responses import Asked
from routing.types import Identity

_WHOLE = ("stream", "stream_options")
_Headers = tuple[tuple[str, str], ...]
_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class Reading:
    """One line, in the words of the operation itself. Made with its request id and its headers."""

    operation: Operation
    left_out: tuple[str, ...] = _WHOLE
    """Members that a batch answers otherwise than they say."""

    def __init__(self, request_id: str, headers: _Headers) -> None:
        self.request_id = request_id
        self.headers = headers

    async def parsed(self, body: bytes, identity: Identity) -> ParsedRequest:
        """Raises the `GatewayError` that the endpoint would."""
        return openai.parse(self.operation, self._wanted(body))

    def said(self, body: bytes, native: bool) -> bytes:
        """The answer as the endpoint tells it, out of the upstream's. Raises `UpstreamBroken`."""
        return body

    def explained(self, error: GatewayError, trail: Trail) -> GatewayError:
        """The error with what the endpoint would say beside it."""
        return error

    def refused(self, error: GatewayError) -> tuple[int, bytes]:
        """Status and body."""
        return error.status, wire_errors.body_of(error)

    def _wanted(self, body: bytes) -> bytes:
        """As it was sent, where nothing has to be left out."""
        try:
            members = _members(body)
        except RecursionError:
            raise InvalidRequest("The request body is nested too deeply.") from None
        except (msgspec.DecodeError, UnicodeDecodeError):  # whoever reads it says what is wrong
            return body
        if members.keys().isdisjoint(self.left_out):
            return body
        return msgspec.json.encode({name: raw for name, raw in members.items() if name not in self.left_out})


class _Chat(Reading):
    operation = CHAT


class _Completion(Reading):
    operation = openai.COMPLETIONS


class _Embedding(Reading):
    operation = openai.EMBEDDINGS


class _Moderation(Reading):
    operation = MODERATIONS

    async def parsed(self, body: bytes, identity: Identity) -> ParsedRequest:
        limits = Limits()
        return media.parsed(self.operation, self._wanted(body), b"application/json", limits.json_depth, limits.pictures)

    def explained(self, error: GatewayError, trail: Trail) -> GatewayError:
        return with_alternatives(error, self.operation, trail)


class _Message(Reading):
    """Anthropic's."""

    operation = CHAT

    def __init__(self, request_id: str, headers: _Headers) -> None:
        super().__init__(request_id, headers)
        self._dialect = dialects.Messages(headers, request_id)

    async def parsed(self, body: bytes, identity: Identity) -> ParsedRequest:
        request = openai.parse(CHAT, self._dialect.question(self._wanted(body)))
        request.native = self._dialect.native
        return request

    def said(self, body: bytes, native: bool) -> bytes:
        if native:
            return body
        with dialects.readable():
            return self._dialect.answer(body)

    def refused(self, error: GatewayError) -> tuple[int, bytes]:
        status, body = super().refused(error)
        status = anthropic.status_of(status)
        return status, self._dialect.refusal(body, status)


class _Response(Reading):
    """OpenAI's. It may go on from kept responses."""

    operation = CHAT
    left_out = (*_WHOLE, "background")

    def __init__(self, request_id: str, headers: _Headers) -> None:
        super().__init__(request_id, headers)
        self._dialect = dialects.Responses(request_id)

    async def parsed(self, body: bytes, identity: Identity) -> ParsedRequest:
        dialect = self._dialect
        asked = dialect.asked = responses.read(self._wanted(body))
        if asked.previous or asked.references:
            asked.resolve(*await _before(asked, identity.prefix))
        dialect.begin(kept=False)
        request = openai.parse(CHAT, dialect.question(asked.body))
        request.native = dialect.native
        return request

    def said(self, body: bytes, native: bool) -> bytes:
        if native and not self._dialect.asked.previous:
            return body
        with dialects.readable():
            return orjson.dumps(self._dialect.response(body, native=native))


async def _before(asked: Asked, owner: str) -> Before:
    keeper = response_keeper.for_this_process()
    if keeper is None:
        raise nothing_kept("previous_response_id" if asked.previous else "input")
    try:
        return await keeper.before(owner, asked.previous, asked.references, asked.told.get("model") or "")
    finally:
        await keeper.aclose()


ENDPOINTS: dict[str, Callable[[str, _Headers], Reading]] = {
    "/v1/chat/completions": _Chat,
    "/v1/responses": _Response,
    "/v1/messages": _Message,
    "/v1/completions": _Completion,
    "/v1/embeddings": _Embedding,
    "/v1/moderations": _Moderation,
}
