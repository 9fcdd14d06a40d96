"""What every backend promises, and how a stream of chunks becomes OpenAI's wire format.

A backend is given a frozen `ProviderView` and never reads settings. It answers an `UpstreamCall` with a `Reply`: the
bytes of an OpenAI body, or an async iterator of bytes of an OpenAI event stream. Upstreams that already speak the protocol are
relayed untouched; `ChunkBackend` is for those that produce text (local engines, the scripted fake, other protocols): they
yield `Chunk`s and the rendering is written once, here.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import msgspec

from routing.types import ModelView, ProviderView, UpstreamKey


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens as the upstream counted them; `estimated` when we had to count ourselves."""

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    estimated: bool = False


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of an answer. `usage` stands only in the last one, `finish_reason` in the last one of its choice."""

    text: str = ""
    index: int = 0
    finish_reason: str | None = None
    usage: Usage | None = None
    logprobs: dict[str, Any] | None = None
    tool_calls: list[dict[str, Any]] | None = None
    reasoning: str | None = None


@dataclass(slots=True)
class UpstreamCall:
    """One attempt at one candidate.

    `fields` are the top-level members of the client's body as raw JSON, the gateway's own already removed; `model` still
    holds the client's name and the backend replaces it by `model.upstream_model_id`. Times are in seconds; `deadline` is
    on the event loop's clock.
    """

    operation: str
    model: ModelView
    fields: dict[str, msgspec.Raw]
    stream: bool
    request_id: str
    key: UpstreamKey | None = None
    deadline: float | None = None
    session_id: str | None = None

    def field(self, name: str, default: Any = None) -> Any:
        """A top-level member, decoded; JSON null counts as absent."""
        raw = self.fields.get(name)
        if raw is None:
            return default
        value = msgspec.json.decode(raw)
        return default if value is None else value


@dataclass(slots=True)
class Reply:
    """A backend's answer: `body` when whole, `chunks` (bytes of server-sent events) when streamed.

    `headers` are the upstream's, already reduced to the allow-list. Whoever takes a reply with `chunks` must iterate to the
    end or call `aclose()`, which ends the upstream's work.
    """

    status: int = 200
    headers: tuple[tuple[bytes, bytes], ...] = ()
    body: bytes | None = None
    chunks: AsyncIterator[bytes] | None = None
    usage: Usage | None = None
    """Filled by `ChunkBackend`s; for relayed bodies the recorder reads it from the bytes."""
    content_type: bytes = field(default=b"application/json")

    async def aclose(self) -> None:
        close = getattr(self.chunks, "aclose", None)
        if close is not None:
            await close()


class Backend(Protocol):
    """Made once per provider and configuration, shared by all requests of one event loop."""

    def __init__(self, provider: ProviderView) -> None: ...

    async def send(self, call: UpstreamCall) -> Reply:
        """Raise an `inference.errors.GatewayError` for every failure before the first byte."""
        ...

    async def list_models(self) -> list[dict[str, Any]]:
        """What the upstream offers, as `{"id": …}` objects with whatever else it says of each."""
        ...

    async def aclose(self) -> None: ...
