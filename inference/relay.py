"""What a web process and the workers say to each other over Redis while a worker answers an interactive call.

    web                                     Redis                                   worker
    SET payload, publish the id  ->  gw:relay:<id>, Celery queue  ->  GETDEL (the claim; a second claimer finds nothing)
    XREAD                        <-  gw:relay:out:<process>       <-  XADD Started, Text…, Done | Failed; Alive each second
    PUBLISH the id               ->  gw:relay:cancel              ->  the generation stops

Every web process has one stream, which it keeps alive by renewing its expiry; a worker never creates it, so a stream that is
gone says that nobody reads any more. A stream's entry is one frame of messages of any number of calls. The messages of a call
are numbered, so that a lost one is noticed and one that came twice is not told twice. The Celery message holds the id
alone; prompts lie in Redis until they are claimed, at most `Times.queue` seconds and a little.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from inference import errors
from inference.backends.base import Chunk, Usage
from inference.errors import EngineError, GatewayError, UpstreamRejected

QUEUE = "llama_cpp"
TASK = "inference.tasks.run_relayed"
CANCEL_CHANNEL = "gw:relay:cancel"
SERVED = f"gw:relay:served:{QUEUE}"
"""Stands while some worker consumes the queue."""
SERVED_SECONDS = 5
STREAM_SECONDS = 30
STREAM_ENTRIES = 50_000
"""A stream that nobody trims is cut here; who then misses messages is told."""


@dataclass(frozen=True, slots=True)
class Times:
    """In seconds. The web process's patience with a worker."""

    queue: float = 60.0
    """Until a call is claimed, while workers are there and busy."""
    no_worker: float = 10.0
    """The same when none is there: time enough for one to be restarted."""
    wake: float = 1.0
    """Until a worker is woken again for a call that nobody has claimed; then twice as long each time."""
    silence: float = 5.0
    """Without a message or a heartbeat after the claim, the worker counts as lost."""
    beat: float = 1.0


_PATIENT = Times()


def payload_key(relay_id: str) -> str:
    return f"gw:relay:{relay_id}"


def cancelled_key(relay_id: str) -> str:
    """Set beside the published cancel, for a worker whose subscription was away at that moment."""
    return f"gw:relay:cancelled:{relay_id}"


def stream_key(process: str) -> str:
    return f"gw:relay:out:{process}"


class Payload(msgspec.Struct, frozen=True):
    """A call. `fingerprint` is the web process's view of the provider: a worker that has another one looks again."""

    id: str
    reply_to: str
    operation: str
    provider_id: str
    model_id: str
    fingerprint: str
    fields: dict[str, msgspec.Raw]
    stream: bool
    request_id: str
    session_id: str | None = None
    seconds_left: float | None = None
    """Until the call's deadline; a span, because two machines' clocks differ."""
    client: int = 0
    priority: int = 0


class Piece(msgspec.Struct, frozen=True, omit_defaults=True):
    """A `Chunk` without its usage, which travels in `Done`."""

    text: str = ""
    index: int = 0
    finish_reason: str | None = None
    logprobs: dict[str, Any] | None = None
    tool_calls: list[dict[str, Any]] | None = None
    reasoning: str | None = None

    @classmethod
    def of(cls, chunk: Chunk) -> Piece:
        return cls(chunk.text, chunk.index, chunk.finish_reason, chunk.logprobs, chunk.tool_calls, chunk.reasoning)

    def chunk(self) -> Chunk:
        return Chunk(self.text, self.index, self.finish_reason, None, self.logprobs, self.tool_calls, self.reasoning)


class Started(msgspec.Struct, tag="started", frozen=True):
    id: str


class Text(msgspec.Struct, tag="text", frozen=True):
    """Pieces that were ready together. `number` counts the pieces of the call before these."""

    id: str
    number: int
    pieces: list[Piece]


class Vectors(msgspec.Struct, tag="vectors", frozen=True):
    """Embeddings, each as 32-bit little-endian floats."""

    id: str
    vectors: list[bytes]
    usage: Usage


class Done(msgspec.Struct, tag="done", frozen=True):
    """The answer is complete: `number` pieces in all."""

    id: str
    number: int
    usage: Usage | None = None


class Failed(msgspec.Struct, tag="failed", frozen=True, omit_defaults=True):
    """`error` is the name of a class in `inference.errors`."""

    id: str
    error: str
    message: str
    status: int
    code: str
    retryable: bool
    detail: str = ""
    param: str | None = None
    retry_after: float | None = None
    body: bytes = b""

    @classmethod
    def of(cls, relay_id: str, error: GatewayError) -> Failed:
        return cls(
            id=relay_id,
            error=type(error).__name__,
            message=error.message,
            status=error.status,
            code=error.code,
            retryable=error.retryable,
            detail=error.detail,
            param=error.param,
            retry_after=error.retry_after,
            body=error.body if isinstance(error, UpstreamRejected) else b"",
        )

    def exception(self) -> GatewayError:
        """The same class with the same facts; a class that is not known here is an `EngineError`."""
        kind = getattr(errors, self.error, None)
        if not (isinstance(kind, type) and issubclass(kind, GatewayError)):
            kind = EngineError
        more = {"body": self.body} if issubclass(kind, UpstreamRejected) else {}
        return kind(
            self.message,
            detail=self.detail,
            param=self.param,
            code=self.code,
            status=self.status,
            retry_after=self.retry_after,
            retryable=self.retryable,
            **more,
        )


class Alive(msgspec.Struct, tag="alive", frozen=True):
    """These calls are being worked on."""

    ids: list[str]


Message = Started | Text | Vectors | Done | Failed | Alive

_json = msgspec.json.Encoder()
_payloads = msgspec.json.Decoder(Payload)
_frame = msgspec.msgpack.Encoder()
_frames = msgspec.msgpack.Decoder(list[Message])


def encode_payload(payload: Payload) -> bytes:
    return _json.encode(payload)


def decode_payload(raw: bytes) -> Payload:
    return _payloads.decode(raw)


def encode(messages: list[Message]) -> bytes:
    return _frame.encode(messages)


def decode(frame: bytes) -> list[Message]:
    return _frames.decode(frame)


_connection: tuple[str, Callable[[str], None], Times] | None = None


def configure(redis_url: str, wake: Callable[[str], None], times: Times = _PATIENT) -> None:
    """Set at start-up where Redis is and how a worker is woken: `wake` publishes an id and may block."""
    global _connection
    _connection = (redis_url, wake, times)


def connection() -> tuple[str, Callable[[str], None], Times]:
    if _connection is None:
        raise RuntimeError("the relay was not configured; inference.apps does it at start-up")
    return _connection
