"""The event streams of OpenAI's Responses API: made of a chat completion's chunks, or an upstream's own under our ids. No I/O.

The events are numbered from 0, and the same chunks make the same events: a client that lost its connection can be told the rest.
Source: https://platform.openai.com/docs/api-reference/responses-streaming.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from inference.wire import responses_objects as objects
from inference.wire import sse
from inference.wire.bodies import plain
from inference.wire.call_numbers import CallNumbers
from inference.wire.responses import Asked

Item = dict[str, Any]
Clock = Callable[[], int]

_LAST = ("response.completed", "response.incomplete", "response.failed", "response.cancelled")
_NUMBER = re.compile(rb'"sequence_number"\s*:\s*(\d+)')
_HOLDS_RESPONSE = re.compile(
    rb'"type"\s*:\s*"response\.(?:created|queued|in_progress|completed|incomplete|failed|cancelled)"'
)


def error_event(error: Item, number: int) -> Item:
    told = {name: error.get(name) for name in ("code", "message", "param")}
    return {"type": "error", "sequence_number": number, **told, "message": error.get("message") or ""}


def next_number(piece: bytes) -> int:
    """What follows the last number of a stream that was passed on unread."""
    found = _NUMBER.findall(piece)
    return int(found[-1]) + 1 if found else 0


def unkept(said: bytes) -> bytes:
    """The same events; the one that ends the Response says that it is not stored."""
    *events, rest = sse.split(said)
    return b"".join(map(_unkept, events)) + rest


def _unkept(event: bytes) -> bytes:
    told = sse.object_in(sse.data_of(event))
    if told is None or told.get("type") not in _LAST:
        return event + b"\n\n"
    return sse.named({**told, "response": {**told["response"], "store": False}})


@dataclass(slots=True)
class _Open:
    """An item under way, at its place in the output."""

    place: int
    kind: str
    item: Item
    pieces: list[str] = field(default_factory=list)
    """Of the part or the arguments under way."""
    part: str = ""
    """The type of the message's part under way; a message may have a text and a refusal."""
    logprobs: list[Item] = field(default_factory=list)

    @property
    def text(self) -> str:
        return "".join(self.pieces)


class Told:
    """A chat completion's chunks as events. `final` is the Response once it is over."""

    def __init__(self, asked: Asked, begun: Item, clock: Clock) -> None:
        self.response = begun
        self.final: Item | None = None
        self._asked = asked
        self._clock = clock
        self._rest = b""
        self._number = 0
        self._output: list[Item] = []
        self._open: _Open | None = None
        """The thought or the message under way."""
        self._calls: dict[int, _Open] = {}
        """All of them stay open until the end: an upstream may go on with any."""
        self._unnamed: dict[int, list[Item]] = {}
        """Pieces of calls whose name has not come yet."""
        self._numbers = CallNumbers()
        self._begun = False
        self._finish_reason = ""
        self._usage: Item | None = None

    @property
    def number(self) -> int:
        """Of the next event."""
        return self._number

    @property
    def has_begun(self) -> bool:
        return self._begun

    def feed(self, piece: bytes) -> bytes:
        """Bytes to send; empty while no event of the upstream is complete."""
        *events, self._rest = sse.split(self._rest + piece)
        said = []
        for event in events:
            if event.startswith(b":"):
                said.append(sse.KEEP_ALIVE)
            elif (data := sse.data_of(event)) == b"[DONE]":
                said += map(sse.named, self.end())
            elif (chunk := sse.object_in(data)) is not None:
                said += map(sse.named, self.take(chunk))
        return b"".join(said)

    def take(self, chunk: Item) -> list[Item]:
        """The events of one chunk of a chat completion."""
        if self.final is not None:
            return []
        if chunk.get("error"):
            error = chunk["error"]
            return self.fail(error if isinstance(error, dict) else {"message": str(error)})
        return list(self._of_chunk(chunk))

    def end(self) -> list[Item]:
        """What is left to say when the upstream's stream is over."""
        if self.final is not None or not self._begun:
            return []
        said = self.close_items()
        response = {**self.response, "output": self._output}
        self.final = objects.over(response, self._finish_reason or "stop", self._usage, self._clock())
        return [*said, self._event(f"response.{self.final['status']}", response=self.final)]

    def fail(self, error: Item, status: int = 500) -> list[Item]:
        """The end of an answer that broke off, or never began."""
        if self.final is not None:
            return []
        said = list(self._begin())
        self.final = objects.failed(self.so_far(), error, status)
        said.append(error_event(error, self._next()))
        return [*said, self._event("response.failed", response=self.final)]

    def so_far(self) -> Item:
        """The Response with the items that are over."""
        return {**self.response, "output": [item for item in self._output if item]}

    def close_items(self) -> list[Item]:
        said = list(self._close())
        for call in sorted(self._calls.values(), key=lambda one: one.place):
            said += self._close_call(call)
        self._calls.clear()
        return said

    def _of_chunk(self, chunk: Item) -> Iterator[Item]:
        if not self._begun and chunk.get("model"):
            self.response = {**self.response, "model": chunk["model"]}
        yield from self._begin()
        self._usage = objects.usage_of(chunk.get("usage")) or self._usage
        for choice in chunk.get("choices") or ():
            if choice.get("index"):
                continue  # one answer is all that this format can say
            yield from self._of_delta(plain(choice.get("delta") or {}), objects.logprobs_of(choice))
            self._finish_reason = choice.get("finish_reason") or self._finish_reason

    def _begin(self) -> Iterator[Item]:
        if not self._begun:
            self._begun = True
            yield self._event("response.created", response=self.response)
            yield self._event("response.in_progress", response=self.response)

    def _of_delta(self, delta: Mapping[str, Any], logprobs: list[Item]) -> Iterator[Item]:
        if thought := delta.get("reasoning_content") or delta.get("reasoning"):
            yield from self._thought(thought)
        if text := delta.get("content"):
            yield from self._part("output_text")
            opened = self._moving(text)
            opened.logprobs += logprobs
            yield self._event("response.output_text.delta", **self._where(opened), delta=text, logprobs=logprobs)
        if refusal := delta.get("refusal"):
            yield from self._part("refusal")
            yield self._event("response.refusal.delta", **self._where(self._moving(refusal)), delta=refusal)
        for call in delta.get("tool_calls") or ():
            yield from self._call(call)

    def _moving(self, text: str) -> _Open:
        assert self._open is not None
        self._open.pieces.append(text)
        return self._open

    def _where(self, opened: _Open) -> Item:
        place = max(0, len(opened.item["content"])) if opened.kind == "message" else 0
        return {"item_id": opened.item["id"], "output_index": opened.place, "content_index": place}

    # Thoughts and texts

    def _thought(self, text: str) -> Iterator[Item]:
        if self._open is None or self._open.kind != "reasoning":
            yield from self._close()
            item = objects.reasoning_item(self._id("rs"), "")
            yield from self._opened("reasoning", item)
            assert self._open is not None
            part = {"type": "reasoning_text", "text": ""}
            yield self._event("response.content_part.added", **self._where(self._open), part=part)
        opened = self._moving(text)
        yield self._event("response.reasoning_text.delta", **self._where(opened), delta=text)

    def _part(self, kind: str) -> Iterator[Item]:
        if self._open is None or self._open.kind != "message":
            yield from self._close()
            yield from self._opened("message", objects.message_item(self._id("msg"), [], "in_progress"))
        opened = self._open
        assert opened is not None
        if opened.part == kind:
            return
        yield from self._close_part(opened)
        opened.part, opened.pieces, opened.logprobs = kind, [], []
        yield self._event("response.content_part.added", **self._where(opened), part=self._part_of(opened))

    def _part_of(self, opened: _Open) -> Item:
        if opened.part == "refusal":
            return objects.refusal_part(opened.text)
        return objects.text_part(opened.text, opened.logprobs)

    def _close_part(self, opened: _Open) -> Iterator[Item]:
        if not opened.part:
            return
        where, part = self._where(opened), self._part_of(opened)
        if opened.part == "refusal":
            yield self._event("response.refusal.done", **where, refusal=opened.text)
        else:
            yield self._event("response.output_text.done", **where, text=opened.text, logprobs=opened.logprobs)
        yield self._event("response.content_part.done", **where, part=part)
        opened.item["content"].append(part)

    def _opened(self, kind: str, item: Item) -> Iterator[Item]:
        self._open = _Open(len(self._output), kind, item)
        self._output.append({})
        yield self._event("response.output_item.added", output_index=self._open.place, item=dict(item, content=[]))

    def _close(self) -> Iterator[Item]:
        opened, self._open = self._open, None
        if opened is None:
            return
        if opened.kind == "reasoning":
            part = {"type": "reasoning_text", "text": opened.text}
            yield self._event("response.reasoning_text.done", **self._where(opened), text=part["text"])
            yield self._event("response.content_part.done", **self._where(opened), part=part)
            opened.item["content"] = [part]
        else:
            yield from self._close_part(opened)
            opened.item["status"] = self._status()
        yield self._done(opened)

    # Calls

    def _call(self, call: Item) -> Iterator[Item]:
        index = self._numbers.of(call)
        opened = self._calls.get(index)
        function = call.get("function") or {}
        if opened is None and not function.get("name"):
            self._unnamed.setdefault(index, []).append(call)
            return
        if opened is None:
            yield from self._close()
            place = len(self._output)
            call, function = self._with_what_came_before(index, call)
            item = objects.call_item(
                self._asked, {**call, "function": {**function, "arguments": ""}}, self._its_id, place
            )
            item["status"] = "in_progress"
            opened = self._calls[index] = _Open(place, item["type"], item)
            self._output.append({})
            yield self._event("response.output_item.added", output_index=place, item=dict(item))
        if arguments := function.get("arguments"):
            opened.pieces.append(arguments)
            if opened.kind == "function_call":
                where = {"item_id": opened.item["id"], "output_index": opened.place}
                yield self._event("response.function_call_arguments.delta", **where, delta=arguments)

    def _with_what_came_before(self, index: int, call: Item) -> tuple[Item, Item]:
        """A call and its function, with an id and arguments that came before its name."""
        pieces = [*self._unnamed.pop(index, ()), call]
        functions = [piece.get("function") or {} for piece in pieces]
        arguments = "".join(function.get("arguments") or "" for function in functions)
        its_id = next((piece["id"] for piece in pieces if piece.get("id")), None)
        return {**call, "id": its_id}, {**functions[-1], "arguments": arguments}

    def _close_call(self, opened: _Open) -> Iterator[Item]:
        where = {"item_id": opened.item["id"], "output_index": opened.place}
        if opened.kind == "function_call":
            if not opened.text.strip():
                opened.pieces = [objects.NO_ARGUMENTS]
                yield self._event("response.function_call_arguments.delta", **where, delta=objects.NO_ARGUMENTS)
            arguments = opened.item["arguments"] = opened.text
            told = {**where, "name": opened.item["name"], "arguments": arguments}
            yield self._event("response.function_call_arguments.done", **told)
        else:
            text = opened.item["input"] = objects.custom_input(opened.text)
            yield self._event("response.custom_tool_call_input.delta", **where, delta=text)
            yield self._event("response.custom_tool_call_input.done", **where, input=text)
        opened.item["status"] = self._status()
        yield self._done(opened)

    # What all have in common

    def _done(self, opened: _Open) -> Item:
        self._output[opened.place] = opened.item
        return self._event("response.output_item.done", output_index=opened.place, item=opened.item)

    def _status(self) -> str:
        """Of the item that is closed last, which is the one that was cut off."""
        cut = self._finish_reason in ("length", "content_filter")
        waiting = sum(1 for item in self._output if not item)
        return "incomplete" if cut and waiting == 1 else "completed"

    @property
    def _its_id(self) -> str:
        return str(self.response["id"])

    def _id(self, kind: str) -> str:
        return objects.item_id(kind, self._its_id, len(self._output))

    def _next(self) -> int:
        self._number += 1
        return self._number - 1

    def _event(self, kind: str, **told: Any) -> Item:
        return {"type": kind, "sequence_number": self._next(), **told}


class Passed:
    """An upstream's own events under the id by which the answer is kept. Pieces hold whole events.

    Only those that hold a Response are read; all others are passed on as they are.
    """

    def __init__(self, begun: Item) -> None:
        self.response = begun
        self.final: Item | None = None
        self.number = 0
        self.has_begun = False
        self._output: dict[int, Item] = {}

    def feed(self, piece: bytes) -> bytes:
        events = sse.split(piece)
        return b"".join(self._said(event) for event in events if event)

    def take(self, event: Item) -> Item:
        """One event, told under our id."""
        self.has_begun = True
        self.number = int(event.get("sequence_number", self.number)) + 1
        if isinstance(event.get("response"), dict):
            response = objects.as_kept(event["response"], self.response)
            if event["type"] in _LAST:
                self.final = response
            return {**event, "response": response}
        if event.get("type") == "response.output_item.done" and isinstance(event.get("item"), dict):
            self._output[int(event.get("output_index") or 0)] = event["item"]
        return event

    def so_far(self) -> Item:
        return {**self.response, "output": [self._output[place] for place in sorted(self._output)]}

    def end(self) -> list[Item]:
        return []

    def fail(self, error: Item, status: int = 500) -> list[Item]:
        if self.final is not None:
            return []
        self.final = objects.failed(self.so_far(), error, status)
        told = {"type": "response.failed", "sequence_number": self.number + 1, "response": self.final}
        return [error_event(error, self.number), told]

    def _said(self, event: bytes) -> bytes:
        data = sse.data_of(event)
        if not data or data == b"[DONE]":
            return event + b"\n\n"
        if _HOLDS_RESPONSE.search(data) is None and b"response.output_item.done" not in data:
            self.number = next_number(data) or self.number
            return event + b"\n\n"
        told = sse.object_in(data)
        if told is None:
            return event + b"\n\n"
        told = self.take(told)
        return sse.named(told) if "response" in told else event + b"\n\n"
