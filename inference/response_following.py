"""The events of a response that a worker answers, from the beginning or from any number on, for whoever listens.

They are made of the job's log, which holds what the upstream said; the same log makes the same events with the same numbers. How it
ended is the row's to say.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import orjson

from inference import events
from inference.wire import responses_events, sse
from inference.wire.responses import Asked
from inference.wire.responses_objects import OVER

Item = dict[str, Any]

KEEP_ALIVE_SECONDS = 10.0
_BEGUN_ANEW = {
    "code": "response_restarted",
    "message": "The worker that wrote this response was lost, and another one begins anew. Retrieve the stream again.",
}


@dataclass(frozen=True, slots=True)
class Standing:
    """How a response stands: what its row says, and which of its job's runs counts."""

    asked: Asked
    response: Item
    job_id: Any
    fence: int


async def follow(
    standing: Callable[[], Awaitable[Standing | None]], redis_url: str, after: int = -1
) -> AsyncIterator[bytes]:
    """The events whose numbers are greater than `after`, the last one being how it ended. `standing` reads the row."""
    now = await standing()
    if now is None:
        return
    telling = _Telling(now, after)
    yield telling.begin()
    sent_at = time.monotonic()
    was_over = False
    if now.job_id is not None:
        async with aclosing(events.follow(redis_url, now.job_id)) as log:
            async for event in log:
                said = telling.hear(event) if event is not None and event.fence >= now.fence else b""
                if said:
                    sent_at = time.monotonic()
                    yield said
                if telling.broke_off:
                    return
                if event is None or event.kind == "over":
                    now = await standing()
                    if now is None:
                        break
                    is_over = now.response["status"] in OVER
                    if is_over and (was_over or event is not None):
                        break
                    was_over = is_over  # the log may have grown since it was silent, and is read once more
                    if time.monotonic() - sent_at >= KEEP_ALIVE_SECONDS:
                        sent_at = time.monotonic()
                        yield sse.KEEP_ALIVE
    if now is not None:
        yield telling.end(now.response)


class _Telling:
    """Numbers events and leaves out those that the listener has."""

    def __init__(self, standing: Standing, after: int) -> None:
        self.broke_off = False
        self._begun = {**standing.response, "status": "queued", "output": [], "usage": None, "error": None}
        self._begun |= {"incomplete_details": None, "completed_at": None}
        self._asked = standing.asked
        self._after = after
        self._number = 0
        self._fence = standing.fence
        self._told = self._teller()
        self._moving = False

    def _teller(self) -> responses_events.Told:
        return responses_events.Told(self._asked, {**self._begun, "status": "in_progress"}, lambda: 0)

    def begin(self) -> bytes:
        return self._numbered(
            {"type": f"response.{word}", "sequence_number": 0, "response": self._begun}
            for word in ("created", "queued")
        )

    def hear(self, event: events.Event) -> bytes:
        if event.fence > self._fence and self._fence and self._moving:
            self.broke_off = True
            return self._numbered([responses_events.error_event(_BEGUN_ANEW, 0)])
        self._fence = event.fence
        if event.kind != "chunk":
            return b""
        chunk = orjson.loads(event.data)
        told = (
            self._own(chunk)
            if str(chunk.get("type") or "").startswith(("response.", "error"))
            else self._told.take(chunk)
        )
        return self._numbered(one for one in told if one["type"] != "response.created")

    def end(self, response: Item) -> bytes:
        told = [] if response["status"] == "failed" else self._told.close_items()
        return self._numbered(
            [*told, {"type": f"response.{response['status']}", "sequence_number": 0, "response": response}]
        )

    def _own(self, event: Item) -> list[Item]:
        """Of an upstream that speaks the API: how it ended is told by the row, under our id."""
        if isinstance(event.get("response"), dict):
            in_progress = event["type"] == "response.in_progress"
            return [{**event, "response": {**self._begun, "status": "in_progress"}}] if in_progress else []
        return [] if event["type"] == "error" else [event]

    def _numbered(self, told: Any) -> bytes:
        said = []
        for event in told:
            if event["type"] not in ("response.created", "response.queued"):
                self._moving = True
            numbered = {**event, "sequence_number": self._number}
            if self._number > self._after:
                said.append(sse.named(numbered))
            self._number += 1
        return b"".join(said)
