"""Whose turn it is at a local model: lines of batches never take all of its sequences, so that whoever waits for an answer gets one.

For one event loop, which alone may touch it. Elsewhere there is nobody to wait for: providers have limits of their own.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from typing import Any

from inference.deciding import rule
from inference.wire.openai import ParsedRequest
from providers.provider_types import LLAMA_CPP, TRANSFORMERS
from routing import snapshot
from routing.types import Identity, ModelView

USUAL_SEQUENCES = {
    kind.backend: parameter.default
    for kind in (LLAMA_CPP, TRANSFORMERS)
    for parameter in kind.parameters
    if parameter.name == "max_sequences"
}
"""Of a model that does not say, by its backend."""
KEPT_FREE = 4
"""One in so many sequences, and one at least, is for those who wait."""


class Gate:
    """So many at a time; of those that wait the one with the lowest priority number, and of equals the first."""

    def __init__(self, places: int) -> None:
        self.free = places
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []
        self._order = count()

    async def enter(self, priority: int) -> None:
        if self.free > 0 and not self._waiting:
            self.free -= 1
            return
        turn = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (priority, next(self._order), turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # it came in the same moment
                self.leave()
            raise

    def leave(self) -> None:
        while self._waiting:
            turn = heapq.heappop(self._waiting)[2]
            if not turn.done():
                turn.set_result(None)
                return
        self.free += 1


class Turns:
    def __init__(self) -> None:
        self._gates: dict[tuple[str, int], Gate] = {}

    @asynccontextmanager
    async def of(self, request: ParsedRequest, identity: Identity | None, priority: int) -> AsyncIterator[None]:
        model = _local_model(request, identity)
        if model is None:
            yield
            return
        places = places_at(model)
        gate = self._gates.setdefault((model.route, places), Gate(places))
        await gate.enter(priority)
        try:
            yield
        finally:
            gate.leave()


def _local_model(request: ParsedRequest, identity: Identity | None) -> ModelView | None:
    """The one that is asked first, where it runs in a worker."""
    candidates = rule(request, identity, snapshot.current()).candidates
    first = candidates[0].model if candidates else None
    return first if first is not None and first.provider.runs_in == "worker" else None


def places_at(model: ModelView) -> int:
    """Sequences of a local model that lines of batches may take together."""
    told = {**model.provider.connection, **model.parameters}.get("max_sequences")
    sequences = _sequences(told, USUAL_SEQUENCES.get(model.provider.backend, 1))
    return max(1, sequences - max(1, sequences // KEPT_FREE))


def _sequences(told: Any, usual: int) -> int:
    try:
        return max(1, int(told))
    except (TypeError, ValueError):
        return usual
