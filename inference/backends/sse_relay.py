"""An upstream's event stream on its way to the client: whole events, byte for byte, watched in passing.

Nothing is parsed unless a few bytes say that an event holds usage or an error. Only CR and LF end a line. Events are handed
on whole: what a read cuts is kept until the rest has come, since nobody can use half an event.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec

from inference.backends.base import Reply, Usage
from inference.backends.exchange import HttpReply
from inference.backends.inflate import InflatedReply
from inference.errors import GatewayError, UpstreamBroken

MAX_EVENT_BYTES = 32 * 1024 * 1024
"""Models that draw send whole images in one event."""

AFTER_DONE_SECONDS = 1.0
"""How long a connection may stay open after `[DONE]` before we stop waiting for its end."""

_DONE_WITHIN = 64
"""How far from the end of a read `[DONE]` is looked for."""

_COMPACT = (b'"finish_reason":"', b'"usage":{', b',"usage":null')
_SPACED = (b'"finish_reason": "', b'"usage": {', b', "usage": null')

_ENDS = (b"\n\n", b"\r\n\r\n", b"\r\r", b"\n\r\n")
_EVENT = re.compile(rb".+?(?:\r\n\r\n|\n\r\n|\n\n|\r\r|\Z)", re.DOTALL)
_LINE = re.compile(rb"[^\r\n]+")
_DONE_LINE = re.compile(rb"(?:\A|[\r\n])data: ?\[DONE\]")


class _Event(msgspec.Struct):
    choices: list[msgspec.Raw] | None = None
    usage: dict[str, Any] | None = None
    error: Any = None


_read_event = msgspec.json.Decoder(_Event).decode


class RelayedStream:
    """The `chunks` of a reply. `usage` is what the stream said; it is set on `reply` too.

    `finished` says that a finish reason or `[DONE]` was seen, `failed` that the upstream sent an error event, which the
    client has got: no second one is needed. A stream that ends as neither raises `UpstreamBroken`.
    """

    __slots__ = (
        "_begun",
        "_done",
        "_held",
        "_held_bytes",
        "_marks",
        "_redact",
        "_seam",
        "_source",
        "_strip",
        "failed",
        "finished",
        "reply",
        "usage",
    )

    def __init__(
        self,
        source: HttpReply | InflatedReply,
        *,
        strip_usage: bool,
        redact: Callable[[bytes], bytes],
        reply: Reply | None = None,
    ) -> None:
        """`strip_usage` takes out the one event that the client did not ask for."""
        self.usage: Usage | None = None
        self.finished = False
        self.failed = False
        self.reply = reply
        self._source = source
        self._strip = strip_usage
        self._redact = redact
        self._held: list[bytes] = []
        self._held_bytes = 0
        self._seam = b""
        """The last three bytes held: an event's end may begin there."""
        self._done = False
        self._begun = False
        self._marks = _COMPACT

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        while True:
            if self._done:
                data = await self._after_done()
            else:
                try:
                    data = await self._source.__anext__()
                except StopAsyncIteration:
                    data = b""
            events = self._whole_events(data) if data else self._rest()
            if events:
                passed = self._look_at(events)
                if passed:
                    # Whoever did not ask for usage is not told in each event that there is none yet; no text can read so,
                    # since its quotes would be escaped.
                    return passed.replace(self._marks[2], b"") if self._strip else passed
            elif not data:
                self._end()

    async def aclose(self) -> None:
        await self._source.aclose()

    async def _after_done(self) -> bytes:
        """Everything was said; the connection gets a moment to end well, so that it can be used again."""
        try:
            async with asyncio.timeout(AFTER_DONE_SECONDS):
                return await self._source.__anext__()
        except StopAsyncIteration:
            return b""
        except (GatewayError, TimeoutError):
            await self._source.aclose()
            return b""

    def _end(self) -> None:
        if self.finished or self.failed:
            raise StopAsyncIteration
        raise UpstreamBroken(
            "The provider's stream ended before its answer was complete.", detail="neither [DONE] nor finish_reason"
        )

    def _whole_events(self, data: bytes) -> bytes:
        """What is complete up to the last event's end; the rest is held."""
        if data.endswith((b"\n\n", b"\r\n\r\n")):
            return self._rest() + data if self._held else data
        end = _last_end(self._seam + data) - len(self._seam)
        if end <= 0:
            self._hold(data)
            return b""
        complete = self._rest() + data[:end]
        if end < len(data):
            self._hold(data[end:])
        return complete

    def _hold(self, data: bytes) -> None:
        self._held.append(data)
        self._held_bytes += len(data)
        self._seam = (self._seam + data)[-3:]
        if self._held_bytes > MAX_EVENT_BYTES:
            raise UpstreamBroken(
                "The provider sent an event that is too large.", detail=f"event over {MAX_EVENT_BYTES} bytes"
            )

    def _rest(self) -> bytes:
        if not self._held:
            return b""
        rest = b"".join(self._held)
        self._held = []
        self._held_bytes = 0
        self._seam = b""
        return rest

    def _look_at(self, events: bytes) -> bytes:
        reason, usage, _ = self._marks
        if reason in events:
            self.finished = True
        if events.find(b"[DONE]", -_DONE_WITHIN) >= 0 and _DONE_LINE.search(events):
            self.finished = self._done = True
        if usage in events or b'"error"' in events:
            return self._read(events)
        if not self._begun:
            return self._begin(events)
        return events

    def _begin(self, events: bytes) -> bytes:
        """Learn how this upstream writes JSON: a search is what a relayed event costs, so none is done twice."""
        if b'"choices"' in events:
            self._begun = True
            if b'"choices": ' in events:
                self._marks = _SPACED
                return self._look_at(events)
        return events

    def _read(self, events: bytes) -> bytes:
        """Look into the events that a few bytes made interesting; give back what the client gets."""
        kept = [event for event in _EVENT.findall(events) if self._keeps(event)]
        passed = b"".join(kept)
        return self._redact(passed) if self.failed else passed

    def _keeps(self, event: bytes) -> bool:
        if b'"usage"' not in event and b'"error"' not in event:
            return True
        try:
            read = _read_event(_payload(event))
        except (msgspec.DecodeError, RecursionError):
            return True
        if read.error and not read.choices:
            self.failed = True
        if read.usage is None:
            return True
        usage = usage_of(read.usage)
        if usage is None:
            return True
        self.usage = usage
        if self.reply is not None:
            self.reply.usage = usage
        return not (self._strip and read.choices == [])


def usage_of(told: dict[str, Any]) -> Usage | None:
    """OpenAI's usage object; None when it does not count tokens."""
    try:
        given = int(told.get("prompt_tokens") or 0)
        usage = Usage(
            input_tokens=given,
            # As `told_usage` reads it: the sum holds what was thought, also where the answer's tokens leave it out.
            output_tokens=max(int(told.get("completion_tokens") or 0), int(told.get("total_tokens") or 0) - given),
            cached_tokens=int((told.get("prompt_tokens_details") or {}).get("cached_tokens") or 0),
            reasoning_tokens=int((told.get("completion_tokens_details") or {}).get("reasoning_tokens") or 0),
        )
    except (TypeError, ValueError, AttributeError):
        return None
    return usage if usage.input_tokens or usage.output_tokens or "prompt_tokens" in told else None


def _payload(event: bytes) -> bytes:
    lines = [line for line in _LINE.findall(event) if line.startswith(b"data:")]
    return b"\n".join(line[5:].removeprefix(b" ") for line in lines)


def _last_end(data: bytes) -> int:
    """Where the last event ends; 0 when none does."""
    return max((found + len(end) for end in _ENDS if (found := data.rfind(end)) >= 0), default=0)
