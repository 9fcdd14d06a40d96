"""One request in another client's protocol: its question as a chat completion, and a chat completion's answer in its words. No I/O.

Ollama's dialects stand with their paths, in `inference.endpoints.ollama`: nobody else asks in them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from time import time

import msgspec
import orjson

from inference.errors import UpstreamBroken
from inference.wire import anthropic, responses, sse
from inference.wire import responses_objects as objects
from inference.wire.anthropic_events import Events
from inference.wire.anthropic_questions import question
from inference.wire.native import RESPONSES, Native
from inference.wire.responses import Asked

_stops = msgspec.json.Decoder(list[str])


class Messages:
    """Anthropic's. `headers` are those that the protocol gives a meaning."""

    stream_type = sse.CONTENT_TYPE

    def __init__(self, headers: tuple[tuple[str, str], ...], request_id: str) -> None:
        self.native: Native | None = None
        self._headers = headers
        self._request_id = request_id
        self._events = Events(request_id)

    def question(self, body: bytes) -> bytes:
        asked, self.native = question(body, self._headers)
        self._events.stops, self._events.names = _stops_of(self.native), self.native.names
        return asked

    def headers(self, request_id: bytes) -> list[tuple[bytes, bytes]]:
        return [(b"request-id", request_id)]

    def answer(self, body: bytes) -> bytes:
        return anthropic.message_body(body, self._request_id, self._events.stops, self._events.names)

    def refusal(self, body: bytes, status: int) -> bytes:
        return anthropic.error_body(body, status, self._request_id)

    def piece(self, piece: bytes) -> bytes:
        return self._events.feed(piece)

    def end(self) -> bytes:
        return self._events.end()


class CountedMessages(Messages):
    """Whose tokens are to be counted."""

    def question(self, body: bytes) -> bytes:
        asked, self.native = question(body, self._headers, counts_only=True)
        return asked

    def answer(self, body: bytes) -> bytes:
        return body


def _stops_of(native: Native) -> list[str]:
    raw = native.fields.get("stop_sequences")
    try:
        return [] if raw is None else _stops.decode(raw)
    except msgspec.MsgspecError:  # the upstream shall say what is wrong with it
        return []


class Responses:
    """OpenAI's. `asked` is there once the body was read."""

    stream_type = sse.CONTENT_TYPE

    def __init__(self, request_id: str) -> None:
        self.native: Native | None = None
        self.asked: Asked
        self.begun: objects.Item = {}
        """The Response as it begins."""
        self._id = objects.response_id(request_id)

    def question(self, body: bytes) -> bytes:
        translation = responses.chat_body(self.asked)
        fields = responses.native_fields(self.asked)
        self.native = Native(RESPONSES, fields, translation.untold, thoughts=translation.thoughts)
        return translation.body

    def begin(self, *, kept: bool) -> None:
        self.begun = objects.begun(self.asked, self._id, int(time()), kept=kept)

    def headers(self, request_id: bytes) -> list[tuple[bytes, bytes]]:
        return []

    def response(self, body: bytes, *, native: bool) -> objects.Item:
        told = orjson.loads(body)
        if native:
            return objects.as_kept(told, self.begun)
        return objects.from_completion(self.asked, told, self.begun, int(time()))

    def answer(self, body: bytes) -> bytes:
        return orjson.dumps(self.response(body, native=False))

    def refusal(self, body: bytes, status: int) -> bytes:
        return body

    def piece(self, piece: bytes) -> bytes:
        return piece

    def end(self) -> bytes:
        return b""


@contextlib.contextmanager
def readable() -> Iterator[None]:
    """What an upstream says can have any shape, and the first thing that is not as its protocol has it is found on the way."""
    try:
        yield
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise UpstreamBroken(
            "The provider's answer cannot be read.", detail=f"{type(error).__name__} while it was translated"
        ) from error
