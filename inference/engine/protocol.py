"""What the worker and its engine child say to each other: msgpack frames over a Unix socket.

A frame is four bytes of length, little endian, and a msgpack list of commands (to the child) or events (from it). A step of
the engine is one frame, however many requests it moved on. Every command but `Cancel` is answered by events with
its id, the last of which is `Done`, `Vectors` or `Failed`; a cancelled request is answered by silence.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from typing import Any

import msgspec

from inference import errors
from inference.engine.requests import EmbedRequest, GenerateRequest

_LENGTH = struct.Struct("<I")
LARGEST_FRAME = 256 * 1024 * 1024


class Load(msgspec.Struct, tag="load", frozen=True):
    """The first command. `spec` are the fields of the engine's kind of spec; `safe` avoids what crashes some builds; limits are in bytes."""

    engine: str
    spec: dict[str, Any]
    safe: bool = False
    memory_limit: int | None = None


class Generate(msgspec.Struct, tag="generate", frozen=True, omit_defaults=True):
    """`client` is an opaque number of who asks and `priority` lower for who waits: see `inference.engine.fairness`."""

    id: int
    request: GenerateRequest
    client: int = 0
    priority: int = 0


class Embed(msgspec.Struct, tag="embed", frozen=True):
    id: int
    request: EmbedRequest


class Cancel(msgspec.Struct, tag="cancel", frozen=True):
    id: int


class Ready(msgspec.Struct, tag="ready", frozen=True, omit_defaults=True):
    """The model is loaded. `memory_bytes` is the child's resident size, `cache_tokens` the room all requests share."""

    engine: str
    version: str
    context_size: int
    cache_tokens: int
    max_sequences: int
    dimension: int
    memory_bytes: int
    load_seconds: float
    notes: tuple[str, ...] = ()
    device_bytes: int = 0
    """Memory of a GPU that the model has taken, where that can be told."""


class Piece(msgspec.Struct, tag="piece", frozen=True, omit_defaults=True):
    """Some text of an answer; `logprobs` are of OpenAI's chat form, one entry per token, `tool_calls` of its stream's."""

    id: int
    text: str
    logprobs: list[dict[str, Any]] | None = None
    tool_calls: list[dict[str, Any]] | None = None


class Done(msgspec.Struct, tag="done", frozen=True, omit_defaults=True):
    id: int
    finish_reason: str
    input_tokens: int
    output_tokens: int
    cached_tokens: int = 0


class Vectors(msgspec.Struct, tag="vectors", frozen=True):
    """One embedding per input as 32-bit little-endian floats, of length 1."""

    id: int
    vectors: list[bytes]
    input_tokens: int


class Failed(msgspec.Struct, tag="failed", frozen=True, omit_defaults=True):
    """`error` is the name of a class in `inference.errors`. Id 0 is the engine itself: the model could not be loaded."""

    id: int
    error: str
    message: str
    detail: str = ""
    param: str | None = None

    @classmethod
    def of(cls, identifier: int, error: errors.GatewayError) -> Failed:
        return cls(
            id=identifier, error=type(error).__name__, message=error.message, detail=error.detail, param=error.param
        )

    def exception(self) -> errors.GatewayError:
        kind = getattr(errors, self.error, errors.EngineError)
        return kind(self.message, detail=self.detail, param=self.param)


Command = Load | Generate | Embed | Cancel
Event = Ready | Piece | Done | Vectors | Failed

_encoder = msgspec.msgpack.Encoder()
_commands = msgspec.msgpack.Decoder(list[Command])
_events = msgspec.msgpack.Decoder(list[Event])


def encode(items: list[Any]) -> bytes:
    body = _encoder.encode(items)
    return _LENGTH.pack(len(body)) + body


def commands(connection: socket.socket) -> Iterator[list[Command]]:
    for frame in _frames(connection):
        yield _commands.decode(frame)


def events(connection: socket.socket) -> Iterator[list[Event]]:
    for frame in _frames(connection):
        yield _events.decode(frame)


def _frames(connection: socket.socket) -> Iterator[bytes]:
    """Whole frames until the other side closes; a frame that was cut off is not given."""
    with connection.makefile("rb", buffering=1 << 16) as file:
        while True:
            try:
                head = file.read(_LENGTH.size)
                if len(head) < _LENGTH.size:
                    return
                (length,) = _LENGTH.unpack(head)
                if length > LARGEST_FRAME:
                    raise ValueError(f"a frame of {length} bytes")
                body = file.read(length)
            except ConnectionResetError:
                return
            if len(body) < length:
                return
            yield body
