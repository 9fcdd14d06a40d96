from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from inference.turns import Gate, places_at
from providers import provider_types


async def test_the_more_urgent_comes_first_and_equals_in_their_order() -> None:
    gate, came = Gate(1), []

    async def come(name: str, priority: int) -> None:
        await gate.enter(priority)
        came.append(name)

    await gate.enter(1)
    waiting = [asyncio.ensure_future(come(*one)) for one in (("a", 1), ("b", 2), ("c", 1), ("d", 0))]
    await asyncio.sleep(0)
    for _ in waiting:
        gate.leave()
        await asyncio.sleep(0)
    assert came == ["d", "a", "c", "b"]


async def test_who_leaves_while_waiting_takes_nobodys_place() -> None:
    gate = Gate(1)
    await gate.enter(0)
    gone = asyncio.ensure_future(gate.enter(0))
    await asyncio.sleep(0)
    gate.leave()
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    assert gate.free == 1


@pytest.mark.parametrize(("sequences", "places"), [(None, 12), (32, 24), ("8", 6), (2, 1), (1, 1), ("x", 12)])
def test_some_sequences_are_left_to_those_who_wait(sequences: Any, places: int) -> None:
    connection = {} if sequences is None else {"max_sequences": sequences}
    model = SimpleNamespace(
        provider=SimpleNamespace(connection=connection, backend=provider_types.LLAMA_CPP.backend), parameters={}
    )
    assert places_at(model) == places  # type: ignore[arg-type]
