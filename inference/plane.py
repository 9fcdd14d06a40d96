"""What serves requests on one event loop: its backends, its watch, and the process's recorder and counters."""

from __future__ import annotations

import asyncio

from inference.backends.table import BackendTable
from inference.dispatch import Dispatcher
from inference.endpoints.watch import Watch
from inference.limits import Limits
from inference.metrics import Metrics, metrics
from inference.recording import Recorder
from routing import metering, selections


class DataPlane:
    """Made on the loop that it serves."""

    def __init__(
        self,
        limits: Limits,
        recorder: Recorder,
        *,
        counters: Metrics = metrics,
        table: BackendTable | None = None,
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.limits = limits
        self.recorder = recorder
        self.metrics = counters
        self.table = table or BackendTable()
        self.dispatcher = Dispatcher(self.table, limits, counters, recorder.began)
        self.watch = Watch(self.loop, limits)

    async def aclose(self) -> None:
        await self.table.aclose()
        await selections.close()
        await metering.stop()
