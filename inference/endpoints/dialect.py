"""Other clients' protocols in front of a chat completion: the body is translated on its way in, the reply on its way out.

Between the two is the very `Exchange` of `/v1/chat/completions`, so admission, routing, limits, the ledger and traces are the same.
A dialect that some upstreams speak themselves keeps the client's own words beside (`native`): such an upstream gets these, and its
reply is passed on untranslated.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from inference.backends.base import Reply
from inference.endpoints.exchange import Exchange, Receive, Send
from inference.errors import UpstreamBroken
from inference.wire import errors, sse
from inference.wire.dialects import readable
from inference.wire.openai import Operation, ParsedRequest

if TYPE_CHECKING:
    from inference.endpoints.headers import Header
    from inference.errors import GatewayError
    from inference.idempotency import Promise
    from inference.plane import DataPlane
    from inference.wire.native import Native


class Dialect(Protocol):
    """One request's translation. Made with the request's id, which replies may tell."""

    stream_type: bytes
    """The content type of its streams: `sse.CONTENT_TYPE`, unless the protocol has another."""

    native: Native | None
    """The client's own words, known once `question` was asked; None for a protocol that no upstream of ours speaks."""

    def question(self, body: bytes) -> bytes:
        """The body of a chat completion. Raises `InvalidRequest`."""

    def headers(self, request_id: bytes) -> list[Header]:
        """Those that the protocol's clients look for, beside ours."""

    def answer(self, body: bytes) -> bytes:
        """Of a whole chat completion."""

    def refusal(self, body: bytes, status: int) -> bytes:
        """Of an error in OpenAI's envelope."""

    def piece(self, piece: bytes) -> bytes:
        """Of the next bytes of an event stream; empty while no event is complete."""

    def end(self) -> bytes:
        """What is left to say after the last of them."""


class Translated(Exchange):
    """An exchange whose client speaks a dialect."""

    __slots__ = ("_dialect", "_head", "_passes", "_streams", "_to_client")

    def __init__(
        self,
        plane: DataPlane,
        operation: Operation,
        scope: dict[str, Any],
        receive: Receive,
        send: Send,
        dialect: Callable[[str], Dialect],
    ) -> None:
        super().__init__(plane, operation, scope, receive, self._translated)
        self._to_client = send
        self._dialect = dialect(self.gateway_id)
        self._head: dict[str, Any] = {}
        self._streams = False
        self._passes = False
        """The upstream answers in the client's own protocol."""

    def _parsed(self, body: bytes) -> ParsedRequest:
        request = super()._parsed(self._dialect.question(body))
        request.native = self._dialect.native
        return request

    async def _reply_whole(self, reply: Reply) -> None:
        self._passes = bool(reply.api)
        await super()._reply_whole(reply)

    async def _reply_streamed(self, reply: Reply, first: bytes) -> None:
        # A protocol without events travels in them as far as here.
        self._passes = bool(reply.api) and self._dialect.stream_type == sse.CONTENT_TYPE
        await super()._reply_streamed(reply, first)

    def _listen(self, promise: Promise) -> None:
        self._to_client = promise.listening(self._to_client)

    async def _refuse(self, failure: GatewayError) -> None:
        self._passes = False
        await super()._refuse(failure)

    async def _translated(self, message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            await self._begin(message)
        elif self._streams and self._passes:
            await self._to_client(message)
        elif self._streams:
            await self._go_on(message.get("body", b""), more=message.get("more_body", False))
        else:
            await self._say_whole(message.get("body", b""))

    async def _begin(self, head: dict[str, Any]) -> None:
        """The head of a whole reply waits for the body, whose length it tells."""
        head["headers"] += self._dialect.headers(self.gateway_id.encode())
        self._head = head
        self._streams = (b"content-type", sse.CONTENT_TYPE) in head["headers"]
        if self._streams:
            if self._dialect.stream_type != sse.CONTENT_TYPE:
                others = [header for header in head["headers"] if header[0] != b"content-type"]
                head["headers"] = [*others, (b"content-type", self._dialect.stream_type)]
            await self._to_client(head)

    async def _go_on(self, piece: bytes, *, more: bool) -> None:
        with readable():
            said = self._dialect.piece(piece) if piece else b""
            if not more:
                said += self._dialect.end()
        if said or not more:
            await self._to_client({"type": "http.response.body", "body": said, "more_body": more})

    async def _say_whole(self, body: bytes) -> None:
        broken: UpstreamBroken | None = None
        if self._head["status"] < 400:
            try:
                with readable():
                    body = await self._answered(body)
            except UpstreamBroken as error:
                broken, body = error, errors.body_of(error)
                self._head["status"] = error.status
        status = self._head["status"]
        said = body if status < 400 else self._dialect.refusal(body, status)
        kept = [header for header in self._head["headers"] if header[0] != b"content-length"]
        self._head["headers"] = [*kept, (b"content-length", b"%d" % len(said))]
        await self._to_client(self._head)
        await self._to_client({"type": "http.response.body", "body": said})
        if broken is not None:  # its client has been told, the books have not
            raise broken

    async def _answered(self, body: bytes) -> bytes:
        return body if self._passes else self._dialect.answer(body)
