"""Moderations, rerankings, pictures and sound: passed through to providers that offer them.

Admission, routing, limits, budgets, the ledger and traces are those of every other request. What is different is what goes through:
forms with files on the way in, and on the way out sound that nobody looks into and events that end in ways of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Any

from inference.alternatives import with_alternatives
from inference.backends.base import Reply
from inference.endpoints import headers as h
from inference.endpoints.exchange import Exchange, Receive, Send
from inference.errors import GatewayError, UpstreamBroken, UpstreamError
from inference.tokens_seen import in_media
from inference.wire import media, openai
from inference.wire.openai import Operation, ParsedRequest

if TYPE_CHECKING:
    from inference.idempotency import Promise
    from inference.plane import DataPlane
    from routing.types import Identity

_UNREADABLE = frozenset({"images", "image_edits", "image_variations", "speech"})
"""Operations whose answers say nothing to a reader of traces."""


class Media(Exchange):
    """An exchange whose body may be a form, and whose reply may be the bytes of a file."""

    __slots__ = ("_answer_bytes", "_choices", "_content_type", "_opaque")

    def __init__(
        self, plane: DataPlane, operation: Operation, scope: dict[str, Any], receive: Receive, send: Send
    ) -> None:
        super().__init__(plane, operation, scope, receive, send)
        self._content_type = next((value for name, value in scope["headers"] if name == b"content-type"), b"")
        self._choices = 1
        self._answer_bytes = 0
        self._opaque = False
        """The reply's head is sent and its body is no event stream: a failure can only cut it off."""

    async def _serve(self) -> None:
        try:
            await super()._serve()
        except GatewayError as error:
            told = with_alternatives(error, self._operation, self.trail)
            if told is error:
                raise
            raise told from error

    def _joined(self, pieces: bytearray) -> bytes:
        return pieces  # type: ignore[return-value]  # read in place: a second copy of a large file would be its only use

    def _parsed(self, body: bytes) -> ParsedRequest:
        limits = self._plane.limits
        request = media.parsed(self._operation, body, self._content_type, limits.json_depth, limits.pictures)
        self._choices = request.choices
        return request

    async def _is_answered(self, promise: Promise, identity: Identity, body: bytes) -> bool:
        return await super()._is_answered(promise, identity, media.regardless_of_boundary(body, self._content_type))

    async def _is_cached(self, *_: Any) -> bool:
        """Never: what a file holds is no part of what such answers are found by."""
        return False

    # Replies

    async def _reply_whole(self, reply: Reply) -> None:
        if b"json" not in reply.content_type:
            self.wants_account = self.wants_reason = False
        if self.capture is not None and self._operation.name in _UNREADABLE:
            self.capture.hear_no_more()
        if reply.usage is None:
            reply.usage = in_media(self.question_tokens, self._operation.name, reply.body or b"", self._choices)
        await super()._reply_whole(reply)

    async def _reply_streamed(self, reply: Reply, first: bytes) -> None:
        self.first_byte = perf_counter() - self.started
        assert reply.chunks is not None
        if not self.streaming:
            await self._start_stream(reply)
        if self.capture is not None and self._operation.name in _UNREADABLE:
            self.capture.hear_no_more()
        piece, more, complete = first, aiter(reply.chunks), self._opaque
        while True:
            if self._commenting is not None:
                await self._commenting
                self._commenting = None
            self._note(piece)
            complete = complete or media.is_complete(piece)
            if reply.usage is not None and self.trail.slot is not None:
                self.trail.slot.told(reply.status, reply.usage.counts)
            await self._send({"type": "http.response.body", "body": piece, "more_body": True})
            try:
                piece = await anext(more)
            except StopAsyncIteration:
                break
        failed = not self._opaque and media.holds_error(self.last)
        if not failed and not complete:
            raise UpstreamBroken("The provider's stream ended before its answer was complete.")
        self.done = True
        await self._send({"type": "http.response.body", "body": b""})
        usage = reply.usage or in_media(*self._guess()[:1], self._operation.name, b"", self._choices)
        if failed:  # the upstream has told the client itself
            await self._close(UpstreamError.code, usage, UpstreamError.code)
        else:
            await self._close("", usage)

    def _note(self, piece: bytes) -> None:
        self.pieces += 1
        self._answer_bytes += len(piece)
        if not self._opaque:
            self.last = piece
            if self.capture is not None:
                self.capture.hear(piece)

    async def _start_stream(self, reply: Reply | None) -> None:
        if reply is None or not reply.opaque:
            await super()._start_stream(reply)
            return
        self.streaming = self._opaque = True
        self.status = reply.status
        headers = [*self._headers(perf_counter()), (b"content-type", reply.content_type), _UNBUFFERED]
        if reply.length is not None:
            headers.append((b"content-length", b"%d" % reply.length))
        headers += h.relayed(reply.headers)
        await self._send({"type": "http.response.start", "status": self.status, "headers": headers})

    async def _refuse(self, failure: GatewayError) -> None:
        if not self._opaque:
            await super()._refuse(failure)
        # Else the reply just ends here: the server sees that it is not complete and closes, which tells the client as much.

    def _guess(self) -> tuple[int, int]:
        """Of a stream that was cut: the question was read, and what came of the answer is not text."""
        return (self.question_tokens, 0) if self.pieces else (0, 0)

    def comment(self) -> None:
        """Only once the upstream has said that it streams: some models answer whole to whoever asks for a stream."""
        if self.streaming and not self._opaque:
            super().comment()


_UNBUFFERED = (b"x-accel-buffering", b"no")


def _endpoint(operation: Operation) -> Callable[..., Coroutine[Any, Any, None]]:
    return partial(_run, operation)


def _run(
    operation: Operation, plane: DataPlane, scope: dict[str, Any], receive: Receive, send: Send
) -> Coroutine[Any, Any, None]:
    return Media(plane, operation, scope, receive, send).run()


ALIASES = ("/rerank", "/v2/rerank")
"""Where clients of Cohere and of vLLM ask for a reranking."""

ENDPOINTS: dict[str, Callable[..., Any]] = {
    "/v1/moderations": _endpoint(openai.MODERATIONS),
    **{path: _endpoint(openai.RERANK) for path in ("/v1/rerank", *ALIASES)},
    "/v1/images/generations": _endpoint(openai.IMAGES),
    "/v1/images/edits": _endpoint(openai.IMAGE_EDITS),
    "/v1/images/variations": _endpoint(openai.IMAGE_VARIATIONS),
    "/v1/audio/speech": _endpoint(openai.SPEECH),
    "/v1/audio/transcriptions": _endpoint(openai.TRANSCRIPTIONS),
    "/v1/audio/translations": _endpoint(openai.TRANSLATIONS),
}
