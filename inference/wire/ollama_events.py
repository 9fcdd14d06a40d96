"""Ollama's streams out of event streams, as their pieces come: a JSON object on each line, the last one with `done`. No I/O.

The events are OpenAI's, or hold Ollama's own objects where an upstream speaks its protocol. Comments that keep an event stream
alive have no place between lines and are dropped.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import orjson

from inference.wire import ollama, sse
from inference.wire.bodies import plain
from inference.wire.call_numbers import CallNumbers
from inference.wire.ollama import Question

CONTENT_TYPE = b"application/x-ndjson"


@dataclass(slots=True)
class _Call:
    """A tool's call as it is being written."""

    id: str = ""
    name: str = ""
    arguments: list[str] = field(default_factory=list)

    @property
    def whole(self) -> dict[str, Any]:
        return {"id": self.id, "function": {"name": self.name, "arguments": "".join(self.arguments)}}


@dataclass(slots=True)
class Lines:
    """An event stream, fed piece by piece, as lines. `clock` gives seconds, `now` those since the epoch."""

    question: Question
    clock: Callable[[], float]
    now: Callable[[], float]
    began: float
    """When the request came, on `clock`."""
    _rest: bytes = b""
    _first: float | None = None
    """When the first piece of the answer came."""
    _last: float = 0.0
    _heard: bool = False
    _ended: bool = False
    _reason: str | None = None
    _told: dict[str, Any] = field(default_factory=dict)
    """Of the last chunks: usage and timings."""
    _calls: dict[int, _Call] = field(default_factory=dict)
    """Those whose arguments are still being written, by number."""
    _numbers: CallNumbers = field(default_factory=CallNumbers)

    def feed(self, piece: bytes) -> bytes:
        """Lines to send; empty while no event is complete."""
        *events, self._rest = sse.split(self._rest + piece)
        return b"".join(self._said(event) for event in events)

    def end(self) -> bytes:
        """What is left to say when the upstream's stream is over."""
        if self._ended or not self._heard:
            return b""
        said = self._calls_made()
        self._ended = True
        end = self.clock()
        first = end if self._first is None else self._first
        took = ollama.spent(self._told, end - self.began, first - self.began, max(0.0, self._last - first))
        last = ollama.last_members(self._reason, self._told.get("usage"), took)
        return said + self._line({**ollama.spoken(self.question, ""), **last})

    def _said(self, event: bytes) -> bytes:
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
            return orjson.dumps(ollama.error_of(told)) + b"\n"
        if "choices" not in told and "done" in told:
            self._ended = told["done"] is True
            return orjson.dumps({**told, "model": self.question.model}) + b"\n"
        return self._of_chunk(told)

    def _of_chunk(self, chunk: dict[str, Any]) -> bytes:
        self._heard = True
        self._told |= {name: chunk[name] for name in ("usage", "timings") if chunk.get(name)}
        said = b""
        for choice in chunk.get("choices") or ():
            if choice.get("index"):
                continue  # one answer is all that this format can say
            said += self._of_choice(choice)
        return said

    def _of_choice(self, choice: dict[str, Any]) -> bytes:
        delta = plain(choice.get("delta") or {"content": choice.get("text")})
        for call in delta.get("tool_calls") or ():
            self._hear_call(call)
        self._reason = choice.get("finish_reason") or self._reason
        text = delta.get("content") or delta.get("refusal") or ""
        thought = (delta.get("reasoning_content") or delta.get("reasoning") or "") if self.question.thinks else ""
        probabilities = ollama.logprobs_of(choice)
        if text or thought or probabilities or delta.get("tool_calls"):
            self._last = self.clock()
            self._first = self._last if self._first is None else self._first
        if not (text or thought or probabilities):
            return b""
        told = {**ollama.spoken(self.question, text, thought), "done": False}
        return self._line({**told, "logprobs": probabilities} if probabilities else told)

    def _hear_call(self, piece: dict[str, Any]) -> None:
        function = piece.get("function") or {}
        index = self._numbers.of(piece)
        call = self._calls.setdefault(index, _Call())
        call.id = piece.get("id") or call.id
        call.name += function.get("name") or ""
        call.arguments.append(function.get("arguments") or "")

    def _calls_made(self) -> bytes:
        """Whole, since Ollama's clients read arguments as objects."""
        if not self._calls:
            return b""
        calls = [ollama.tool_call(self._calls[index].whole) for index in sorted(self._calls)]
        return self._line({**ollama.spoken(self.question, "", calls=calls), "done": False})

    def _line(self, told: dict[str, Any]) -> bytes:
        head = {"model": self.question.model, "created_at": ollama.moment(self.now())}
        return orjson.dumps({**head, **told}) + b"\n"
