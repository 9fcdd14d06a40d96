"""Anthropic's event streams out of OpenAI's, as their pieces come. No I/O."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import orjson

from inference.wire import sse
from inference.wire.anthropic import STOP_REASONS, error_of, message_of, usage_of

PING = b'event: ping\ndata: {"type": "ping"}\n\n'


@dataclass(slots=True)
class _Block:
    """A content block under way: what it is and, of a tool's call, which one of OpenAI's."""

    kind: str
    call: int | None = None


@dataclass(slots=True)
class Events:
    """An OpenAI event stream, fed piece by piece, as Anthropic's events."""

    request_id: str
    _rest: bytes = b""
    _index: int = -1
    _open: _Block | None = None
    _model: str = ""
    _begun: bool = False
    _ended: bool = False
    _stop_reason: str | None = None
    _usage: dict[str, Any] = field(default_factory=lambda: usage_of(None))

    def feed(self, piece: bytes) -> bytes:
        """Bytes to send; empty while an event is not complete."""
        *events, self._rest = sse.split(self._rest + piece)
        return b"".join(self._said(event) for event in events)

    def end(self) -> bytes:
        """What is left to say when the upstream's stream is over."""
        if self._ended or not self._begun:
            return b""
        self._ended = True
        delta = {"stop_reason": self._stop_reason or "end_turn", "stop_sequence": None}
        told = {"type": "message_delta", "delta": delta, "usage": self._usage}
        return self._closed() + _event(told) + _event({"type": "message_stop"})

    def _said(self, event: bytes) -> bytes:
        if event.startswith(b":"):
            return PING
        data = sse.data_of(event)
        if not data or self._ended:
            return b""
        if data == b"[DONE]":
            return self.end()
        told = orjson.loads(data)
        if told.get("error"):
            self._ended = True
            return _event(error_of(told, 502, self.request_id))
        return self._of_chunk(told)

    def _of_chunk(self, chunk: dict[str, Any]) -> bytes:
        self._model = chunk.get("model") or self._model
        if chunk.get("usage"):
            self._usage = usage_of(chunk["usage"])
        said = b""
        if not self._begun:
            self._begun = True
            message = message_of(self.request_id, self._model, [])
            said = _event({"type": "message_start", "message": message}) + PING
        for choice in chunk.get("choices") or ():
            if choice.get("index"):
                continue  # one message is all that this format can say
            said += self._of_delta(choice.get("delta") or {})
            if reason := choice.get("finish_reason"):
                self._stop_reason = STOP_REASONS.get(reason, "end_turn")
        return said

    def _of_delta(self, delta: dict[str, Any]) -> bytes:
        said = b""
        if thought := delta.get("reasoning_content") or delta.get("reasoning"):
            said += self._opened("thinking", {"type": "thinking", "thinking": "", "signature": ""})
            said += self._moved({"type": "thinking_delta", "thinking": thought})
        if text := delta.get("content") or delta.get("refusal"):
            said += self._opened("text", {"type": "text", "text": ""})
            said += self._moved({"type": "text_delta", "text": text})
        for call in delta.get("tool_calls") or ():
            function = call.get("function") or {}
            block: dict[str, Any] = {
                "type": "tool_use",
                "id": call.get("id") or "",
                "name": function.get("name") or "",
                "input": {},
            }
            said += self._opened("tool_use", block, call.get("index") or 0)
            if arguments := function.get("arguments"):
                said += self._moved({"type": "input_json_delta", "partial_json": arguments})
        return said

    def _opened(self, kind: str, block: dict[str, Any], call: int | None = None) -> bytes:
        if self._open is not None and (self._open.kind, self._open.call) == (kind, call):
            return b""
        said = self._closed()
        self._index += 1
        self._open = _Block(kind, call)
        return said + _event({"type": "content_block_start", "index": self._index, "content_block": block})

    def _moved(self, delta: dict[str, Any]) -> bytes:
        return _event({"type": "content_block_delta", "index": self._index, "delta": delta})

    def _closed(self) -> bytes:
        if self._open is None:
            return b""
        self._open = None
        return _event({"type": "content_block_stop", "index": self._index})


def _event(payload: dict[str, Any]) -> bytes:
    return b"event: " + str(payload["type"]).encode() + b"\ndata: " + orjson.dumps(payload) + b"\n\n"
