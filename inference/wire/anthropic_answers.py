"""Anthropic's messages and event streams as chat completions: what an upstream that speaks that protocol answers. No I/O.

Thoughts become `reasoning_content`; with their signatures, which the model wants back with the results of its tools, they stand
beside as `thinking_blocks`. Source: https://platform.claude.com/docs/en/build-with-claude/streaming.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from inference.wire import sse
from inference.wire.anthropic_usage import Counted

FINISH_REASONS = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "pause_turn": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}
_THOUGHTS = ("thinking", "redacted_thinking")


class NoMessage(Exception):
    """The bytes are not what the protocol says."""


@dataclass(slots=True)
class Failed(Exception):
    """The upstream says in its stream that it failed; `kind` is one of Anthropic's types of errors."""

    kind: str
    message: str


def completion_body(message: bytes, *, created: int) -> tuple[bytes, Counted]:
    """The chat completion that a whole message says. Raises `NoMessage`, or `Failed` for an error under a good status."""
    try:
        told = orjson.loads(message)
    except orjson.JSONDecodeError:
        raise NoMessage from None
    if not isinstance(told, dict):
        raise NoMessage
    if told.get("type") == "error":
        raise _failure(told)
    if not isinstance(told.get("content"), list):
        raise NoMessage
    counted = Counted()
    counted.take_in(told.get("usage"))
    choice = {"index": 0, "message": _said(told["content"]), "logprobs": None, **_ending(told)}
    completion = {
        "id": told.get("id") or "",
        "object": "chat.completion",
        "created": created,
        "model": told.get("model") or "",
        "choices": [choice],
        "usage": counted.as_chat(),
    }
    return orjson.dumps(completion), counted


def _said(content: list[Any]) -> dict[str, Any]:
    blocks = [block for block in content if isinstance(block, dict)]
    texts = [block.get("text") or "" for block in blocks if block.get("type") == "text"]
    calls = [_call(block) for block in blocks if block.get("type") == "tool_use"]
    thoughts = [block for block in blocks if block.get("type") in _THOUGHTS]
    said: dict[str, Any] = {"role": "assistant", "content": "".join(texts) if texts or not calls else None}
    said["refusal"] = None
    if thoughts:
        said["reasoning_content"] = "".join(block.get("thinking") or "" for block in thoughts)
        said["thinking_blocks"] = thoughts
    if calls:
        said["tool_calls"] = calls
    return said


def _call(block: Mapping[str, Any]) -> dict[str, Any]:
    arguments = orjson.dumps(block.get("input") or {}).decode()
    return {
        "id": block.get("id") or "",
        "type": "function",
        "function": {"name": block.get("name") or "", "arguments": arguments},
    }


def _ending(told: Mapping[str, Any]) -> dict[str, Any]:
    """The finish reason, and beside it the stop that was met, under the name that other servers have for it."""
    ending: dict[str, Any] = {"finish_reason": FINISH_REASONS.get(told.get("stop_reason") or "", "stop")}
    if isinstance(told.get("stop_sequence"), str):
        ending["stop_reason"] = told["stop_sequence"]
    return ending


def _failure(told: Mapping[str, Any]) -> Failed:
    error = told.get("error")
    error = error if isinstance(error, dict) else {}
    return Failed(str(error.get("type") or "api_error"), str(error.get("message") or "no reason given"))


@dataclass(slots=True)
class _Thought:
    """A block that thinks, as it began, and what it thought since."""

    block: dict[str, Any]
    pieces: list[str] = field(default_factory=list)

    @property
    def whole(self) -> dict[str, Any]:
        if self.block.get("type") != "thinking":
            return self.block
        return {**self.block, "thinking": "".join([self.block.get("thinking") or "", *self.pieces])}


@dataclass(slots=True)
class ChatEvents:
    """Anthropic's events, fed in whole ones, as OpenAI's. The first thing said is the first that the model says, so until then a
    failure can still be got around."""

    created: int
    include_usage: bool
    counted: Counted = field(default_factory=Counted)
    ended: bool = False
    _head: dict[str, Any] = field(default_factory=dict)
    _begun: bool = False
    _calls: dict[int, int] = field(default_factory=dict)
    """The index of a tool's call, by that of its block."""
    _thoughts: dict[int, _Thought] = field(default_factory=dict)
    _heard: bool = False
    """The call's arguments have begun to come."""

    def feed(self, events: bytes) -> bytes:
        """Bytes to send, often none. Raises `Failed` for an error event and `NoMessage` for what is no event."""
        return b"".join(self._of_event(event) for event in sse.split(events) if event)

    def _of_event(self, event: bytes) -> bytes:
        data = sse.data_of(event)
        if not data or self.ended:
            return b""
        try:
            told = orjson.loads(data)
        except orjson.JSONDecodeError:
            raise NoMessage from None
        if not isinstance(told, dict):
            raise NoMessage
        say = _SAYS.get(told.get("type") or "")
        return say(self, told) if say is not None else b""

    def _start(self, told: dict[str, Any]) -> bytes:
        message = told.get("message") or {}
        self._head = {
            "id": message.get("id") or "",
            "object": "chat.completion.chunk",
            "created": self.created,
            "model": message.get("model") or "",
        }
        self.counted.take_in(message.get("usage"))
        return b""

    def _open(self, told: dict[str, Any]) -> bytes:
        block, place = told.get("content_block") or {}, told.get("index") or 0
        kind = block.get("type")
        if kind == "tool_use":
            index = self._calls[place] = len(self._calls)
            self._heard = False
            function = {"name": block.get("name") or "", "arguments": ""}
            call = {"index": index, "id": block.get("id") or "", "type": "function", "function": function}
            said = self._delta({"tool_calls": [call]})
            # Most begin empty and are told in pieces; some servers tell the whole input at once.
            return said + (self._arguments(place, orjson.dumps(block["input"]).decode()) if block.get("input") else b"")
        if kind in _THOUGHTS:
            self._thoughts[place] = _Thought(dict(block))
            return self._delta({"reasoning_content": block["thinking"]}) if block.get("thinking") else b""
        return self._delta({"content": block["text"]}) if kind == "text" and block.get("text") else b""

    def _move(self, told: dict[str, Any]) -> bytes:
        delta, place = told.get("delta") or {}, told.get("index") or 0
        kind = delta.get("type")
        if kind == "text_delta":
            return self._delta({"content": delta.get("text") or ""})
        if kind == "input_json_delta" and place in self._calls:
            return self._arguments(place, delta.get("partial_json") or "")
        if kind == "thinking_delta":
            thought = delta.get("thinking") or ""
            self._thoughts.setdefault(place, _Thought({"type": "thinking"})).pieces.append(thought)
            return self._delta({"reasoning_content": thought})
        if kind == "signature_delta" and place in self._thoughts:
            known = self._thoughts[place].block
            known["signature"] = (known.get("signature") or "") + (delta.get("signature") or "")
        return b""

    def _arguments(self, place: int, piece: str) -> bytes:
        if not piece:
            return b""
        self._heard = True
        return self._delta({"tool_calls": [{"index": self._calls[place], "function": {"arguments": piece}}]})

    def _close(self, told: dict[str, Any]) -> bytes:
        place = told.get("index") or 0
        if (thought := self._thoughts.pop(place, None)) is not None:
            return self._delta({"thinking_blocks": [thought.whole]})
        if place in self._calls and not self._heard:
            self._heard = True
            return self._arguments(place, "{}")  # of a tool that takes none
        return b""

    def _finish(self, told: dict[str, Any]) -> bytes:
        self.counted.take_in(told.get("usage"))
        delta = told.get("delta") or {}
        return self._delta({}, _ending(delta)) if delta.get("stop_reason") else b""

    def _stop(self, told: dict[str, Any]) -> bytes:
        self.ended = True
        if not self.include_usage:
            return sse.DONE
        return sse.event({**self._head, "choices": [], "usage": self.counted.as_chat()}) + sse.DONE

    def _fail(self, told: dict[str, Any]) -> bytes:
        raise _failure(told)

    def _delta(self, delta: dict[str, Any], ending: dict[str, Any] | None = None) -> bytes:
        said = b""
        if not self._begun:
            self._begun = True
            said = self._delta({"role": "assistant", "content": ""})
        choice = {"index": 0, "delta": delta, "logprobs": None, **(ending or {"finish_reason": None})}
        chunk: dict[str, Any] = {**self._head, "choices": [choice]}
        if self.include_usage:
            chunk["usage"] = None
        return said + sse.event(chunk)


_SAYS = {
    "message_start": ChatEvents._start,
    "content_block_start": ChatEvents._open,
    "content_block_delta": ChatEvents._move,
    "content_block_stop": ChatEvents._close,
    "message_delta": ChatEvents._finish,
    "message_stop": ChatEvents._stop,
    "error": ChatEvents._fail,
}
