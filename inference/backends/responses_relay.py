"""The Responses API of an upstream that speaks it: its path, what is asked there in the gateway's name, and its events on their way.

The client's own members go there and the upstream's own events come back, byte for byte and whole; only those that end an answer or
tell an error are read, for what was used and so that no secret passes. No I/O but the stream's.
Source: https://platform.openai.com/docs/api-reference/responses.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import msgspec

from inference.backends.base import UpstreamCall, Usage
from inference.backends.exchange import HttpReply
from inference.backends.inflate import InflatedReply
from inference.backends.sse_relay import RelayedStream
from inference.errors import UpstreamBroken, UpstreamFailed
from inference.wire import sse
from inference.wire.errors import redact
from providers import capabilities

OPERATION = "responses"
"""Of `providers.openai_api.PATHS`."""

_SEALS_THOUGHTS = frozenset({"openai", "azure_openai", "xai"})
"""Provider types whose models need their thoughts back, and give them sealed when they keep nothing themselves."""
_SEALED = "reasoning.encrypted_content"
_LAST = re.compile(rb'"type"\s*:\s*"response\.(?:completed|incomplete|failed|cancelled)"')
_ERROR = re.compile(rb'"type"\s*:\s*"(?:error|response\.failed)"')
_encode = msgspec.json.Encoder().encode
_strings = msgspec.json.Decoder(list[str] | None).decode


class _InputDetails(msgspec.Struct):
    cached_tokens: int | None = 0


class _OutputDetails(msgspec.Struct):
    reasoning_tokens: int | None = 0


class _Usage(msgspec.Struct):
    input_tokens: int | None = 0
    output_tokens: int | None = 0
    input_tokens_details: _InputDetails | None = None
    output_tokens_details: _OutputDetails | None = None


class _Response(msgspec.Struct):
    usage: _Usage | None = None


class _Event(msgspec.Struct):
    response: _Response | None = None
    error: msgspec.Raw = msgspec.Raw(b"null")
    message: str | None = None


_read_response = msgspec.json.Decoder(_Response).decode
_read_event = msgspec.json.Decoder(_Event).decode


def body_of(call: UpstreamCall, model: msgspec.Raw, provider_type: str) -> bytes:
    """What is asked. Where the answer's thoughts would be lost because nothing is kept there, they are asked for sealed."""
    assert call.native is not None
    fields = {**call.native.fields, "model": model, "stream": msgspec.Raw(b"true" if call.stream else b"false")}
    if call.model.max_tokens is not None:
        _cap(fields, call.model.max_tokens)
    thinks = capabilities.thinks(call.model.upstream_model_id, call.model.capabilities)
    if ("reasoning" in fields or thinks) and provider_type in _SEALS_THOUGHTS:  # other models refuse the wish
        wanted = _strings(fields.get("include") or b"null") or []
        if _SEALED not in wanted:
            fields["include"] = msgspec.Raw(_encode([*wanted, _SEALED]))
    return _encode(fields)


def _cap(fields: dict[str, msgspec.Raw], most: int) -> None:
    """No answer is longer than the registry lets the model's be; what is no number, the upstream shall refuse."""
    asked = fields.get("max_output_tokens")
    digits = b"" if asked is None else bytes(asked)
    if digits.isdigit() and (len(digits) > 18 or int(digits) > most):
        fields["max_output_tokens"] = msgspec.Raw(b"%d" % most)


def usage_of(body: bytes) -> Usage | None:
    """Of a whole Response; None where the upstream does not count."""
    try:
        return _usage(_read_response(body).usage)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _usage(told: _Usage | None) -> Usage | None:
    if told is None:
        return None
    cached = told.input_tokens_details.cached_tokens if told.input_tokens_details else 0
    thought = told.output_tokens_details.reasoning_tokens if told.output_tokens_details else 0
    return Usage(told.input_tokens or 0, told.output_tokens or 0, cached or 0, thought or 0)


class Events(RelayedStream):
    """The `chunks` of a reply: whole events. `usage` is set on `reply` as soon as it is known.

    An upstream whose very first event is an error has not begun to answer, and another may be asked: that raises `UpstreamFailed`.
    A stream that ends before its last event raises `UpstreamBroken`.
    """

    __slots__ = ()

    def __init__(self, source: HttpReply | InflatedReply, redact: Callable[[bytes], bytes]) -> None:
        super().__init__(source, strip_usage=False, redact=redact)

    def _look_at(self, events: bytes) -> bytes:
        if not sse.at_event_boundary(events):  # the last event may lack its blank line
            if not events.strip():
                return b""
            events = events.rstrip(b"\r\n") + b"\n\n"
        if _LAST.search(events) is not None:
            self.finished = self._done = True
            self._read_usage(events)
        if _ERROR.search(events) is not None:
            if not self._begun:
                self._refuse(events)
            self.failed = True
            events = self._redact(events)
        self._begun = self._begun or bool(sse.after_comments(events))
        return events

    def _end(self) -> None:
        if self.finished or self.failed:
            raise StopAsyncIteration
        raise UpstreamBroken(
            "The provider's stream ended before its answer was complete.", detail="no response.completed"
        )

    def _read_usage(self, events: bytes) -> None:
        for event in sse.split(events):
            data = sse.data_of(event)
            if self.reply is None or _LAST.search(data) is None:
                continue
            try:
                response = _read_event(data).response
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                continue
            if response is not None and (usage := _usage(response.usage)) is not None:
                self.usage = self.reply.usage = usage

    def _refuse(self, events: bytes) -> None:
        first = sse.data_of(sse.split(sse.after_comments(events))[0])
        if b'"response.created"' in first or not _ERROR.search(first):
            return
        try:
            told = _read_event(first)
            message = told.message or msgspec.json.decode(told.error)["message"]
        except (msgspec.DecodeError, UnicodeDecodeError, KeyError, TypeError):
            message = "it sent an error instead of an answer."
        said = redact(self._redact(str(message).encode()).decode("utf-8", "replace"))[:500]
        raise UpstreamFailed(f"The provider failed: {said}", retryable=True)
