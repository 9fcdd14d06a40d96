"""What every backend promises, and how a stream of chunks becomes OpenAI's wire format.

A backend is given a frozen `ProviderView` and never reads settings. It answers an `UpstreamCall` with a `Reply`: the
bytes of an OpenAI body, or an async iterator of bytes of an OpenAI event stream. Upstreams that already speak the protocol are
relayed untouched; `ChunkBackend` is for those that produce text (local engines, the scripted fake, other protocols): they
yield `Chunk`s and the rendering is written once, here.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import msgspec

from inference.errors import UnsupportedCapability, UpstreamBroken
from inference.wire import openai, sse
from inference.wire.multipart import Form
from inference.wire.native import Native
from providers.capabilities import TEXT_OPERATIONS
from routing.types import ModelView, ProviderView, UpstreamKey


class Usage(msgspec.Struct, frozen=True):
    """Tokens as the upstream counted them; `estimated` when we had to count ourselves. A struct, since each request makes one."""

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    estimated: bool = False

    @property
    def counts(self) -> tuple[int, int, int, int]:
        """Input, output, cached and reasoning tokens."""
        return self.input_tokens, self.output_tokens, self.cached_tokens, self.reasoning_tokens


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
    traceparent: bytes = b""
    """W3C's, for an upstream that is reached over HTTP; empty when the caller sent none."""
    native: Native | None = None
    """The same request in its client's own protocol, for a backend that `speaks` it."""
    form: Form | None = None
    """The body, when the client sent a form with files; `fields` then only tell of it."""

    client: int = 0
    """Number of the client key that asks, 0 for none: local models share themselves evenly between those."""
    priority: int = 0
    """1 for what nobody waits for at this moment, such as a job's question."""

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
    api: str = ""
    """The protocol of `call.native`, when the reply is in that. Such a reply brings its `usage`."""
    opaque: bool = False
    """`chunks` are no events but the bytes of one body of `content_type`, such as sound. They are passed on as they come and nobody
    looks into them; they are whole when they end without an error."""
    length: int | None = None
    """Of an opaque body, in bytes, where the upstream announced it."""
    source: AsyncIterator[Any] | None = None
    """What `chunks` reads, closed with it: a generator that nobody has begun to read closes nothing by itself."""

    async def aclose(self) -> None:
        for stream in (self.chunks, self.source):
            close = getattr(stream, "aclose", None)
            if close is not None:
                await close()


class Backend(Protocol):
    """Made once per provider and configuration, shared by all requests of one event loop."""

    speaks: frozenset[str]
    """Protocols of `inference.wire.native` in which it takes a call and answers."""

    def __init__(self, provider: ProviderView) -> None: ...

    async def send(self, call: UpstreamCall) -> Reply:
        """Raise an `inference.errors.GatewayError` for every failure before the first byte."""
        ...

    async def list_models(self) -> list[dict[str, Any]]:
        """What the upstream offers, as `{"id": …}` objects with whatever else it says of each."""
        ...

    async def aclose(self) -> None: ...


class ChunkBackend:
    """A backend that makes text: a subclass yields `Chunk`s, and how they read on the wire is decided here, once.

    A whole reply is a collected stream. A subclass implements `chunks`, and `embed` when its models embed.
    """

    speaks: frozenset[str] = frozenset()

    def __init__(self, provider: ProviderView) -> None:
        self.provider = provider

    def chunks(self, call: UpstreamCall) -> AsyncIterator[Chunk]:
        """Raise an `inference.errors.GatewayError` for every failure, before or after the first chunk."""
        raise UnsupportedCapability(f"The model '{call.model.model_id}' does not generate text.", param="model")

    async def embed(self, call: UpstreamCall) -> tuple[list[list[float]], Usage]:
        raise UnsupportedCapability(f"The model '{call.model.model_id}' does not make embeddings.", param="model")

    async def list_models(self) -> list[dict[str, Any]]:
        return []

    async def aclose(self) -> None:
        return None

    async def send(self, call: UpstreamCall) -> Reply:
        if call.operation not in TEXT_OPERATIONS:
            raise UnsupportedCapability(
                f"The model '{call.model.model_id}' does not serve {call.operation}.", param="model"
            )
        if call.operation == "embeddings":
            vectors, usage = await self.embed(call)
            encoding = call.field("encoding_format", "float")
            body = openai.embeddings_body(vectors, call.model.model_id, usage, encoding)
            return Reply(body=body, usage=usage)
        chunks = self.chunks(call)
        if call.stream:
            return await _streamed(call, chunks)
        collected = [chunk async for chunk in chunks]
        return Reply(body=_rendering(call).whole(collected), usage=_usage_of(collected))


async def _streamed(call: UpstreamCall, chunks: AsyncIterator[Chunk]) -> Reply:
    """The first chunk is awaited before the reply exists, so that a failure before it can still be answered by another."""
    reply = Reply(content_type=sse.CONTENT_TYPE)
    rendering = _rendering(call)
    try:
        first = await anext(chunks)
    except StopAsyncIteration:
        raise UpstreamBroken("The model ended its answer before it began.") from None
    reply.chunks, reply.source = _rendered(rendering, first, chunks, reply), chunks
    return reply


async def _rendered(
    rendering: openai.Rendering, first: Chunk, rest: AsyncIterator[Chunk], reply: Reply
) -> AsyncIterator[bytes]:
    try:
        reply.usage = first.usage
        yield rendering.events(first)
        async for chunk in rest:
            if chunk.usage is not None:
                reply.usage = chunk.usage
            events = rendering.events(chunk)
            if events:
                yield events
        yield rendering.end(reply.usage)
    finally:
        close = getattr(rest, "aclose", None)
        if close is not None:
            await close()


def _rendering(call: UpstreamCall) -> openai.Rendering:
    options = call.field("stream_options") if call.stream else None
    prefix = "chatcmpl-" if call.operation == "chat" else "cmpl-"
    return openai.Rendering(
        operation=call.operation,
        reply_id=prefix + call.request_id,
        model=call.model.model_id,
        created=int(time.time()),
        include_usage=bool(options and options.get("include_usage")),
    )


def _usage_of(chunks: list[Chunk]) -> Usage | None:
    return next((chunk.usage for chunk in reversed(chunks) if chunk.usage is not None), None)
