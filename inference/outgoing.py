"""Bytes on their way out: what is written in one turn of the event loop leaves together, at the turn's end.

A write wakes its reader, and waking one on another core costs more than sending the bytes. At the turn's end the writes of all
connections follow each other closely, so a reader is woken once for many of them; what one connection wrote in pieces, such
as a head and a body or several events of a stream, leaves in one system call.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any
from weakref import WeakKeyDictionary

logger = logging.getLogger("gateway.server")

_MOST_BYTES = 64 * 1024
"""More than this leaves at once, so that the transport's own back-pressure is felt within the turn."""


class OutgoingTransport:
    """A transport whose writes wait for the end of the turn. Closing lets them go first; aborting drops them."""

    __slots__ = ("_loop", "_pieces", "_size", "_turn", "inner")

    def __init__(self, inner: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self.inner = inner
        self._loop = loop
        self._turn = _turn_of(loop)
        self._pieces: list[bytes | memoryview] = []
        self._size = 0

    def write(self, data: bytes | memoryview) -> None:
        if not self._pieces:
            self._turn.add(self, self._loop)
        self._pieces.append(data)
        self._size += len(data)
        if self._size > _MOST_BYTES:
            self.flush()

    def flush(self) -> None:
        pieces = self._pieces
        if not pieces:
            return
        self._pieces, self._size = [], 0
        if not self.inner.is_closing():
            self.inner.write(pieces[0] if len(pieces) == 1 else b"".join(pieces))

    def close(self) -> None:
        self.flush()
        self.inner.close()

    def abort(self) -> None:
        self._pieces.clear()
        self.inner.abort()

    def is_closing(self) -> bool:
        return self.inner.is_closing()

    def pause_reading(self) -> None:
        self.inner.pause_reading()

    def resume_reading(self) -> None:
        self.inner.resume_reading()

    def get_write_buffer_size(self) -> int:
        return self._size + self.inner.get_write_buffer_size()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self.inner.get_extra_info(name, default)


class _Turn:
    """The connections of one event loop that have something to send when this turn ends."""

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        self._waiting: list[OutgoingTransport] = []

    def add(self, transport: OutgoingTransport, loop: asyncio.AbstractEventLoop) -> None:
        if not self._waiting:
            loop.call_soon(self._end)
        self._waiting.append(transport)

    def _end(self) -> None:
        waiting, self._waiting = self._waiting, []
        for transport in waiting:
            try:
                transport.flush()
            except Exception:  # one connection's failure must not keep the others' bytes back
                logger.exception("a reply could not be written")


_turns: WeakKeyDictionary[asyncio.AbstractEventLoop, _Turn] = WeakKeyDictionary()


def _turn_of(loop: asyncio.AbstractEventLoop) -> _Turn:
    turn = _turns.get(loop)
    if turn is None:
        turn = _turns[loop] = _Turn()
    return turn
