"""Which local models are in memory now, as those who hold them tell with each beat. For the event loop; see `inference.process_beats`."""

from __future__ import annotations

from time import time
from typing import Any

import orjson

from inference.process_beats import MISSED_SECONDS, PROCESSES
from routing import loop_store


async def held() -> list[dict[str, Any]]:
    """Each holder's own, the last used first. None are known while Redis is away."""
    try:
        told: list[Any] = await loop_store.current().hvals(PROCESSES)  # type: ignore[misc]
    except loop_store.AWAY:
        return []
    alive_since = time() - MISSED_SECONDS
    processes = [process for raw in told if (process := orjson.loads(raw))["at"] > alive_since]
    models = [model for process in processes for model in process.get("models", ())]
    return sorted(models, key=lambda model: -model["last_used_at"])
