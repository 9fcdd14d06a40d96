"""Anthropic's event streams out of OpenAI's, as their pieces come. No I/O."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from inference.wire import sse
from inference.wire.anthropic import error_of, message_of, named_call, stop_of, usage_of
from inference.wire.anthropic_blocks import Blocks, Piece
from inference.wire.bodies import plain
from inference.wire.call_numbers import CallNumbers

PING = b'event: ping\ndata: {"type": "ping"}\n\n'


_THOUGHT = {"type": "thinking", "thinking": "", "signature": ""}


@dataclass(slots=True)
class _Call:
    """A tool's call, and what of its arguments is still to be told."""

    id: str = ""
    block: dict[str, Any] | None = None
    """As it begins; None while its name is not known."""
    pieces: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Events:
    """An OpenAI event stream, fed piece by piece, as Anthropic's events. `stops` are the sequences at which it is to end."""

    request_id: str
    stops: Collection[str] = ()
    names: Mapping[str, str] = field(default_factory=dict)
    """The client's of tools that were said by others."""
    _rest: bytes = b""
    _blocks: Blocks = field(default_factory=Blocks)
    _speaks: bool = False
    """The last that was told is a text."""
    _blanks: str = ""
    """What that text would begin with."""
    _thought: bool = False
    """Words of a thought have come since the last signature."""
    _model: str = ""
    _begun: bool = False
    _ended: bool = False
    _stop: dict[str, Any] = field(default_factory=lambda: stop_of({}))
    _usage: dict[str, Any] = field(default_factory=lambda: usage_of(None))
    _numbers: CallNumbers = field(default_factory=CallNumbers)
    _calls: dict[int, _Call] = field(default_factory=dict)
    """By number. A call is why the answer ended, whatever its upstream says (Gemini: stop)."""

    def feed(self, piece: bytes) -> bytes:
        """Bytes to send; empty while an event is not complete."""
        *events, self._rest = sse.split(self._rest + piece)
        return b"".join(self._said(event) for event in events)

    def end(self) -> bytes:
        """What is left to say when the upstream's stream is over."""
        if self._ended or not self._begun:
            return b""
        self._ended = True
        if self._calls and self._stop["stop_reason"] == "end_turn":
            self._stop = {**self._stop, "stop_reason": "tool_use"}
        nameless = ((number, call) for number, call in self._calls.items() if call.block is None)
        said = b"".join(self._told(number, call) for number, call in nameless) + self._blocks.end()
        told = {"type": "message_delta", "delta": self._stop, "usage": self._usage}
        return said + sse.named(told) + sse.named({"type": "message_stop"})

    def _said(self, event: bytes) -> bytes:
        if event.startswith(b":"):
            return PING
        data = sse.data_of(event)
        if not data or self._ended:
            return b""
        if data == b"[DONE]":
            return self.end()
        told = sse.object_in(data)
        if told is None:
            return b""
        if told.get("error"):
            self._ended = True
            return sse.named(error_of(told, 502, self.request_id))
        return self._of_chunk(told)

    def _of_chunk(self, chunk: dict[str, Any]) -> bytes:
        self._model = chunk.get("model") or self._model
        if chunk.get("usage"):
            self._usage = usage_of(chunk["usage"])
        said = b""
        if not self._begun:
            self._begun = True
            message = message_of(self.request_id, self._model, [])
            said = sse.named({"type": "message_start", "message": message}) + PING
        for choice in chunk.get("choices") or ():
            if choice.get("index"):
                continue  # one message is all that this format can say
            said += self._of_delta(plain(choice.get("delta") or {}))
            if choice.get("finish_reason"):
                self._stop = stop_of(choice, self.stops)
        return said

    def _of_delta(self, delta: Mapping[str, Any]) -> bytes:
        said = b""
        if thought := delta.get("reasoning_content") or delta.get("reasoning"):
            self._thought = True
            self._stop_speaking()
            said += self._blocks.say(Piece(_THOUGHT, thought))
        for block in delta.get("thinking_blocks") or ():
            said += self._of_thought(block)
        if text := delta.get("content") or delta.get("refusal"):
            said += self._of_text(text)
        for call in delta.get("tool_calls") or ():
            self._stop_speaking()
            said += self._of_call(call)
        return said

    def _of_text(self, text: str) -> bytes:
        """Some models put blanks between a thought and a call. Anthropic refuses to be told a text of blanks alone, as it would be when
        it goes on with the conversation."""
        if not self._speaks and text.isspace():
            self._blanks += text
            return b""
        said = self._blocks.say(Piece({"type": "text", "text": ""}, self._blanks + text))
        self._speaks, self._blanks = True, ""
        return said

    def _stop_speaking(self) -> None:
        self._speaks, self._blanks = False, ""

    def _of_thought(self, block: dict[str, Any]) -> bytes:
        """A signed thought. Its words were told before, unless there were none to tell."""
        if block.get("type") == "redacted_thinking":
            return self._blocks.say(Piece(block))
        if not block.get("signature"):
            return b""
        words = "" if self._thought else block.get("thinking") or ""
        self._thought = False
        return self._blocks.say(Piece(_THOUGHT, words, signature=block["signature"]))

    def _of_call(self, call: dict[str, Any]) -> bytes:
        """The next piece of a tool's call, which is told once its name is known."""
        number, function = self._numbers.of(call), call.get("function") or {}
        known = self._calls.setdefault(number, _Call())
        known.id = known.id or call.get("id") or ""
        known.pieces.append(function.get("arguments") or "")
        if known.block is None and function.get("name"):
            name = self.names.get(function["name"], function["name"])
            known.block = named_call(known.id, name, self.request_id, number)
        return b"" if known.block is None else self._told(number, known)

    def _told(self, number: int, call: _Call) -> bytes:
        block = call.block or named_call(call.id, "", self.request_id, number)
        arguments, call.pieces = "".join(call.pieces), []
        return self._blocks.say(Piece(block, arguments, number))
