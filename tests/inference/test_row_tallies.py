from __future__ import annotations

from tests.inference.door import Door


async def test_a_stream_counts_as_the_capability_that_it_needs(door: Door) -> None:
    await door.chat("one")
    await door.chat("one", stream=True)
    await door.app.shutdown()
    assert dict(door.metrics.demanded) == {"streaming": 1}
