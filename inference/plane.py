"""What serves requests on one event loop: its backends, its watch, and the process's recorder and counters."""

from __future__ import annotations

import asyncio

from inference.backends.table import BackendTable
from inference.dispatch import Dispatcher
from inference.endpoints.watch import Watch
from inference.idempotency import Promises
from inference.kept_replies import KeptReplies
from inference.limits import Limits
from inference.metrics import Metrics, metrics
from inference.recording import Recorder
from inference.response_cache import ResponseCache
from inference.response_keeping import Keeper
from routing import loop_store, metering


class DataPlane:
    """Made on the loop that it serves."""

    def __init__(
        self,
        limits: Limits,
        recorder: Recorder,
        *,
        counters: Metrics = metrics,
        table: BackendTable | None = None,
        keeper: Keeper | None = None,
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.limits = limits
        self.recorder = recorder
        self.metrics = counters
        self.keeper = keeper
        """Of responses that clients want stored; None keeps nothing."""
        self.table = table or BackendTable()
        self.dispatcher = Dispatcher(self.table, limits, counters, recorder.began)
        self.watch = Watch(self.loop, limits)
        self.kept_replies = KeptReplies()
        self.promises = Promises(self.kept_replies)
        self.cache = ResponseCache(self.kept_replies, counters)

    async def aclose(self) -> None:
        await self.promises.aclose()
        await self.kept_replies.settled()
        await self.table.aclose()
        if self.keeper is not None:
            await self.keeper.aclose()
        await loop_store.close()
        await metering.stop()
