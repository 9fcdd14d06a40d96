"""The content blocks of one of Anthropic's streams: each begins, moves and ends before the next begins. No I/O.

OpenAI's streams may write two calls by turns, or a text between the pieces of a call, and Anthropic's clients take a block for whole
when it ends. So what comes between the pieces of a call waits until that call's arguments are whole, or the stream is over.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from inference.wire import sse

_CALL = "tool_use"
_WRITTEN = {"thinking": ("thinking_delta", "thinking"), "text": ("text_delta", "text")}
_WRITTEN[_CALL] = ("input_json_delta", "partial_json")


@dataclass(frozen=True, slots=True)
class Piece:
    """Of the block that begins as `block`, its next words. `call` tells calls apart."""

    block: dict[str, Any]
    text: str = ""
    call: int | None = None
    signature: str = ""
    """Ends a thought."""

    @property
    def key(self) -> tuple[str, int | None]:
        return self.block["type"], self.call


@dataclass(slots=True)
class _Open:
    key: tuple[str, int | None]
    written: list[str] = field(default_factory=list)

    @property
    def is_unfinished(self) -> bool:
        """Whether it is a call that has not said all of its arguments, which are an object."""
        return self.key[0] == _CALL and sse.object_in("".join(self.written).encode("utf-8", "replace")) is None


@dataclass(slots=True)
class Blocks:
    """Fed piece by piece; gives the events."""

    _index: int = -1
    _open: _Open | None = None
    _waiting: list[Piece] = field(default_factory=list)

    def say(self, piece: Piece) -> bytes:
        if self._open is not None and self._open.key == piece.key:
            said = self._moved(self._open, piece)
            if self._waiting and piece.text.rstrip().endswith("}") and not self._open.is_unfinished:
                waited, self._waiting = self._waiting, []
                said += b"".join(map(self.say, waited))
            return said
        if self._waiting or (self._open is not None and self._open.is_unfinished):
            self._waiting.append(piece)
            return b""
        return self._begun(piece)

    def end(self) -> bytes:
        """What waits, block by block, and the end of the last."""
        said = b""
        while self._waiting:
            key = self._waiting[0].key
            first, *more = (piece for piece in self._waiting if piece.key == key)
            self._waiting = [piece for piece in self._waiting if piece.key != key]
            said += self._begun(first)
            for piece in more:
                said += self._moved(self._open, piece) if self._open is not None else self._begun(piece)
        return said + self._closed()

    def _begun(self, piece: Piece) -> bytes:
        said = self._closed()
        self._index += 1
        self._open = _Open(piece.key)
        said += sse.named({"type": "content_block_start", "index": self._index, "content_block": piece.block})
        return said + self._moved(self._open, piece)

    def _moved(self, block: _Open, piece: Piece) -> bytes:
        said = b""
        if piece.text:
            block.written.append(piece.text)
            kind, member = _WRITTEN[piece.block["type"]]
            said = self._delta({"type": kind, member: piece.text})
        if piece.signature:
            said += self._delta({"type": "signature_delta", "signature": piece.signature})
        return said + self._closed() if piece.signature or block.key[0] not in _WRITTEN else said

    def _delta(self, delta: dict[str, Any]) -> bytes:
        return sse.named({"type": "content_block_delta", "index": self._index, "delta": delta})

    def _closed(self) -> bytes:
        if self._open is None:
            return b""
        self._open = None
        return sse.named({"type": "content_block_stop", "index": self._index})
