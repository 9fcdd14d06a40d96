"""Backends whose every step a test decides: the far end of a dispatch."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from inference.backends.base import Reply, UpstreamCall
from routing.types import ProviderView
from tests.inference import registry

Behave = Callable[[UpstreamCall], Awaitable[Reply]]

WHOLE = b'{"id":"1","object":"chat.completion","choices":[],"usage":{"prompt_tokens":5,"completion_tokens":7}}'
EVENT = b'data: {"choices":[{"index":0,"delta":{"content":"a"},"finish_reason":null}]}\n\n'
FINISH = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":11,"completion_tokens":2,"total_tokens":13}}\n\n'
DONE = b"data: [DONE]\n\n"


class Far:
    """One upstream: what it was asked, whether its work was ended early, and how it behaves."""

    def __init__(self, behave: Behave) -> None:
        self.behave = behave
        self.calls: list[UpstreamCall] = []
        self.cancelled = asyncio.Event()
        self.asked = asyncio.Event()
        self.closed = asyncio.Event()


_far: dict[str, Far] = {}


class Scripted:
    def __init__(self, provider: ProviderView) -> None:
        self._far = _far[provider.provider_id]

    async def send(self, call: UpstreamCall) -> Reply:
        far = self._far
        far.calls.append(call)
        far.asked.set()
        try:
            return await far.behave(call)
        except asyncio.CancelledError:
            far.cancelled.set()
            raise

    async def list_models(self) -> list[dict[str, Any]]:
        return []

    async def aclose(self) -> None:
        self._far.closed.set()


def far(provider_id: str, behave: Behave, **more: Any) -> tuple[Far, ProviderView]:
    made = _far[provider_id] = Far(behave)
    return made, registry.provider(provider_id, backend="tests.inference.scripted.Scripted", **more)


def raising(error: Exception) -> Behave:
    async def behave(call: UpstreamCall) -> Reply:
        raise error

    return behave


def whole(body: bytes = WHOLE, **more: Any) -> Behave:
    async def behave(call: UpstreamCall) -> Reply:
        return Reply(body=body, **more)

    return behave


def in_turn(*steps: Behave) -> Behave:
    remaining = list(steps)

    async def behave(call: UpstreamCall) -> Reply:
        return await remaining.pop(0)(call)

    return behave


async def never(call: UpstreamCall) -> Reply:
    await asyncio.Event().wait()
    raise AssertionError("unreachable")


def streaming(*steps: bytes | Exception | asyncio.Event, ended: asyncio.Event | None = None) -> Behave:
    """Bytes are sent, events are waited for, exceptions are raised; `ended` is set however the stream ends."""

    async def chunks() -> AsyncIterator[bytes]:
        try:
            for step in steps:
                if isinstance(step, bytes):
                    yield step
                elif isinstance(step, Exception):
                    raise step
                else:
                    await step.wait()
        finally:
            if ended is not None:
                ended.set()

    async def behave(call: UpstreamCall) -> Reply:
        return Reply(chunks=chunks(), content_type=b"text/event-stream")

    return behave
