"""Anthropic's event streams on their way through: as they are for its own clients, as OpenAI's for everybody else's.

Both hold the opening back until the model says its first, so that an upstream that begins well and then says it is overloaded can
still be got around. Only events that tell tokens or an error are looked into.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import msgspec
import orjson

from inference.backends.base import Reply, Usage
from inference.backends.exchange import HttpReply
from inference.backends.inflate import InflatedReply
from inference.backends.sse_relay import RelayedStream
from inference.errors import UpstreamBroken, UpstreamFailed
from inference.wire import sse
from inference.wire.anthropic_answers import ChatEvents, Failed, NoMessage
from inference.wire.anthropic_usage import Counted
from inference.wire.errors import redact

_ERROR_EVENT = re.compile(rb'(?:\A|[\r\n])event: ?error[\r\n]|(?:\A|[\r\n])data: ?\{"type": ?"error"')
_FIRST_WORDS = (b'"content_block_start"', b'"message_delta"', b'"message_stop"')
_DELTA = b'"content_block_delta"'
_BYTES_AROUND_A_DELTA = 120
"""Of an event that holds a piece of the answer, without the piece."""
_BYTES_PER_TOKEN = 4


class _Start(msgspec.Struct):
    usage: dict[str, Any] | None = None


class _Event(msgspec.Struct):
    type: str = ""
    message: _Start | None = None
    usage: dict[str, Any] | None = None
    error: dict[str, Any] | None = None


_read_event = msgspec.json.Decoder(_Event).decode


def failed(error: Failed) -> UpstreamFailed:
    """As one of ours. Retryable, since it is said before the answer."""
    overloaded = error.kind in ("overloaded_error", "rate_limit_error")
    return UpstreamFailed(
        f"The provider failed: {redact(error.message)[:500]}",
        detail=f"error event of type {redact(error.kind)[:64]}",
        status=503 if overloaded else 502,
    )


def usage_of(counted: Counted, *, estimated: bool = False) -> Usage:
    return Usage(counted.input, counted.output, counted.read, counted.thinking, estimated)


class PassedMessages(RelayedStream):
    """For a client that speaks the protocol: byte for byte. The reply's `usage` is an estimate until the end tells it."""

    __slots__ = ("_answer_bytes", "_counted", "_deltas", "_opening", "_told_output")

    def __init__(
        self, source: HttpReply | InflatedReply, *, redact: Callable[[bytes], bytes], reply: Reply | None = None
    ) -> None:
        super().__init__(source, strip_usage=False, redact=redact, reply=reply)
        self._opening = b""
        self._counted = Counted()
        self._deltas = 0
        self._answer_bytes = 0
        self._told_output = 0

    def _look_at(self, events: bytes) -> bytes:
        if not self._begun:
            events = self._opening + events
            if not any(word in events for word in _FIRST_WORDS) and b'"error"' not in events:
                self._opening = events
                return b""
        if b'"usage"' in events or b'"error"' in events or b'"message_stop"' in events:
            self._read_events(events)
        self._begun = True
        if deltas := events.count(_DELTA):
            self._estimate(deltas, len(events) - events.find(_DELTA))
        return self._redact(events) if self.failed else events

    def _read_events(self, events: bytes) -> None:
        for event in sse.split(events):
            if b'"usage"' in event:
                self._take_usage(event)
            elif b'"error"' in event and _ERROR_EVENT.search(event):
                self._take_error(event)
            elif b'"message_stop"' in event:
                self.finished = self._done = True

    def _take_usage(self, event: bytes) -> None:
        try:
            told = _read_event(sse.data_of(event))
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            return
        if told.type == "message_start" and told.message is not None:
            self._counted.take_in(told.message.usage)
            self._tell(usage_of(self._counted, estimated=True))
        elif told.type == "message_delta":
            self._counted.take_in(told.usage)
            self._tell(usage_of(self._counted))

    def _take_error(self, event: bytes) -> None:
        try:
            error = _read_event(sse.data_of(event)).error or {}
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            error = {}
        if not self._begun:
            raise failed(Failed(str(error.get("type") or "api_error"), str(error.get("message") or "no reason given")))
        self.failed = True

    def _estimate(self, deltas: int, size: int) -> None:
        """Of an answer that is cut short nobody tells the tokens; what passed is known, to a few in a hundred."""
        self._deltas += deltas
        self._answer_bytes += size - deltas * _BYTES_AROUND_A_DELTA
        output = max(self._deltas, self._answer_bytes // _BYTES_PER_TOKEN)
        if output > self._told_output:
            self._told_output = output + output // 32
            if self.usage is None or self.usage.estimated:
                self._tell(Usage(self._counted.input, output, self._counted.read, 0, True))

    def _tell(self, usage: Usage) -> None:
        self.usage = usage
        if self.reply is not None:
            self.reply.usage = usage

    def _end(self) -> None:
        if self.finished or self.failed:
            raise StopAsyncIteration
        raise UpstreamBroken("The provider's stream ended before its answer was complete.", detail="no message_stop")


class TranslatedMessages(PassedMessages):
    """For everybody else: the same stream in OpenAI's events."""

    __slots__ = ("_events",)

    def __init__(
        self,
        source: HttpReply | InflatedReply,
        events: ChatEvents,
        *,
        redact: Callable[[bytes], bytes],
        reply: Reply | None = None,
    ) -> None:
        super().__init__(source, redact=redact, reply=reply)
        self._events = events

    def _look_at(self, events: bytes) -> bytes:
        try:
            said = self._events.feed(events)
        except Failed as error:
            return self._failing(error)
        except NoMessage:
            raise UpstreamBroken("The provider's stream cannot be read.", detail="an event is not JSON") from None
        self._counted = self._events.counted
        if self._events.ended:
            self.finished = self._done = True
            self._tell(usage_of(self._counted))
        elif deltas := events.count(_DELTA):
            self._estimate(deltas, len(events) - events.find(_DELTA))
        self._begun = self._begun or bool(said)
        return said

    def _failing(self, error: Failed) -> bytes:
        """What was said by the same piece before the error is let go: the answer is lost either way."""
        ours = failed(error)
        if not self._begun:
            raise ours
        self.failed = True
        return self._redact(b"data: " + orjson.dumps(ours.envelope()) + b"\n\n")
