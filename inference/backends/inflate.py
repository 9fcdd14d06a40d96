"""Inflating replies that are compressed although we asked for none, in small steps and never past a limit."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator, Iterator

from inference.backends.exchange import HttpReply, broken, cut, too_large

STEP_BYTES = 256 * 1024
"""One step takes about a millisecond, so a bomb does not hold the event loop."""

_PLAIN = (b"", b"identity")
_KNOWN = (b"gzip", b"x-gzip", b"deflate")


def is_compressed(encoding: bytes) -> bool:
    return encoding not in _PLAIN


class Inflater:
    """Takes compressed pieces and gives inflated ones of at most `STEP_BYTES`."""

    def __init__(self, encoding: bytes) -> None:
        if encoding.lower() not in _KNOWN:
            raise broken("unknown content-encoding")
        self._gzip = encoding.lower() != b"deflate"
        self._inflate = zlib.decompressobj(wbits=47)  # gzip or zlib, by their headers
        self._begun = False

    def pieces(self, data: bytes) -> Iterator[bytes]:
        while data:
            if self._inflate.eof:
                if not self._gzip:
                    return
                self._inflate = zlib.decompressobj(wbits=31)  # RFC 1952: members may follow one another
            piece = self._step(data)
            if piece:
                yield piece
            data = self._inflate.unconsumed_tail or self._inflate.unused_data

    def _step(self, data: bytes) -> bytes:
        try:
            piece = self._inflate.decompress(data, STEP_BYTES)
        except zlib.error as error:
            if self._gzip or self._begun:
                raise broken("the compressed body is damaged") from error
            self._inflate = zlib.decompressobj(wbits=-15)  # some servers send deflate without the zlib header
            piece = self._raw_step(data)
        self._begun = True
        return piece

    def _raw_step(self, data: bytes) -> bytes:
        try:
            return self._inflate.decompress(data, STEP_BYTES)
        except zlib.error as error:
            raise broken("the compressed body is damaged") from error

    def finish(self) -> None:
        if not self._inflate.eof:
            raise cut()


async def inflate_whole(body: bytes, encoding: bytes, limit: int) -> bytes:
    inflater = Inflater(encoding)
    pieces, size = [], 0
    for piece in inflater.pieces(body):
        size += len(piece)
        if size > limit:
            raise too_large(limit)
        pieces.append(piece)
        await asyncio.sleep(0)
    inflater.finish()
    return b"".join(pieces)


class InflatedReply:
    """A streamed reply, inflated as it comes."""

    def __init__(self, reply: HttpReply, encoding: bytes) -> None:
        self._reply = reply
        self._pieces = self._inflated(encoding)

    async def _inflated(self, encoding: bytes) -> AsyncIterator[bytes]:
        inflater = Inflater(encoding)  # raises for whoever reads, who then also closes the reply
        async for data in self._reply:
            for piece in inflater.pieces(data):
                yield piece
        inflater.finish()

    def __aiter__(self) -> InflatedReply:
        return self

    async def __anext__(self) -> bytes:
        return await anext(self._pieces)

    async def aclose(self) -> None:
        await self._reply.aclose()
        close = getattr(self._pieces, "aclose", None)
        if close is not None:
            await close()
