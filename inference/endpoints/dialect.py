"""Other clients' protocols in front of a chat completion: the body is translated on its way in, the reply on its way out.

Between the two is the very `Exchange` of `/v1/chat/completions`, so admission, routing, limits, the ledger and traces are the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from inference.endpoints.exchange import Exchange, Receive, Send
from inference.wire import sse
from inference.wire.openai import Operation

if TYPE_CHECKING:
    from inference.endpoints.headers import Header
    from inference.plane import DataPlane


class Dialect(Protocol):
    """One request's translation."""

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

    __slots__ = ("_dialect", "_head", "_streams", "_to_client")

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

    async def _read_body(self) -> bytes:
        return self._dialect.question(await super()._read_body())

    async def _translated(self, message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            await self._begin(message)
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
            await self._to_client(head)

    async def _go_on(self, piece: bytes, *, more: bool) -> None:
        said = self._dialect.piece(piece) if piece else b""
        if not more:
            said += self._dialect.end()
        if said or not more:
            await self._to_client({"type": "http.response.body", "body": said, "more_body": more})

    async def _say_whole(self, body: bytes) -> None:
        status = self._head["status"]
        said = self._dialect.answer(body) if status < 400 else self._dialect.refusal(body, status)
        kept = [header for header in self._head["headers"] if header[0] != b"content-length"]
        self._head["headers"] = [*kept, (b"content-length", b"%d" % len(said))]
        await self._to_client(self._head)
        await self._to_client({"type": "http.response.body", "body": said})
