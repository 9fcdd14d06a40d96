"""One question to several names at once, from within the process: each answer as it grows, with what it took. For people at a terminal."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from time import perf_counter
from typing import TYPE_CHECKING, Any

import orjson

from inference import client
from inference.answering import Collected
from inference.attempts import Trail
from inference.backends.base import Usage
from inference.errors import GatewayError
from inference.recording import cost_of

if TYPE_CHECKING:
    from routing.types import Identity


@dataclass(slots=True)
class Asked:
    """What came of asking one name. Spans in seconds; `first` is None until there is something to read."""

    model: str
    text: str = ""
    reasoning: str = ""
    first: float | None = None
    total: float = 0.0
    usage: Usage | None = None
    request_id: str = ""
    error: GatewayError | None = None
    trail: Trail = field(default_factory=Trail)

    @property
    def cost(self) -> Decimal | None:
        return None if self.usage is None else cost_of(self.trail.model, self.usage)

    @property
    def tokens_a_second(self) -> float | None:
        """While it was being written: the wait for the first token is not counted."""
        writing = self.total - (self.first or 0.0)
        if self.first is None or self.usage is None or not self.usage.output_tokens or writing < 0.005:
            return None
        return self.usage.output_tokens / writing


async def ask(
    models: Sequence[str], body: Mapping[str, Any], identity: Identity | None, heard: Callable[[Asked], None]
) -> list[Asked]:
    """Ask all at once; `heard` whenever one has more. One's failure stands on it and stops no other. On the data plane's loop."""
    return await asyncio.gather(*(_one(Asked(model), body, identity, heard) for model in models))


async def _one(
    asked: Asked, body: Mapping[str, Any], identity: Identity | None, heard: Callable[[Asked], None]
) -> Asked:
    began = perf_counter()
    collected = Collected()

    def named(request_id: str) -> None:
        asked.request_id = request_id

    def served(trail: Trail) -> None:
        asked.trail = trail

    def told(usage: Usage) -> None:
        asked.usage = usage

    pieces = client.stream_async(
        {**body, "model": asked.model}, identity=identity, begun=named, served=served, told=told
    )
    try:
        async for piece in pieces:
            for data in collected.feed(piece):
                _take(asked, data)
            asked.total = perf_counter() - began
            if asked.first is None and (asked.text or asked.reasoning):
                asked.first = asked.total
            heard(asked)
    except GatewayError as error:
        asked.error = error
    asked.total = perf_counter() - began
    heard(asked)
    return asked


def _take(asked: Asked, data: bytes) -> None:
    for choice in orjson.loads(data).get("choices") or ():
        delta = choice.get("delta") or {}
        asked.text += delta.get("content") or ""
        asked.reasoning += delta.get("reasoning_content") or ""
