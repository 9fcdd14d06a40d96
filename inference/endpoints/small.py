"""Endpoints that ask no upstream: the key is admitted, the snapshot says the rest."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from inference.endpoints.exchange import ClientLeft, Receive
from inference.errors import BodyTooLarge
from routing.types import Identity, Snapshot

if TYPE_CHECKING:
    from inference.limits import Limits

NOBODY = Identity(0, "", "", frozenset())
"""Who asks where no key is needed."""


@dataclass(frozen=True, slots=True)
class Asked:
    """`read` are the headers that the data plane reads."""

    scope: dict[str, Any]
    receive: Receive
    read: dict[bytes, bytes]
    identity: Identity
    snapshot: Snapshot


class Small(NamedTuple):
    """`refusal` says OpenAI's error envelope in the words of another protocol: body, status and the request's id."""

    method: str
    answer: Callable[[Asked], Awaitable[bytes]]
    refusal: Callable[[bytes, int, str], bytes] = lambda body, status, request_id: body
    needs_key: bool = True
    stand_in: Callable[[Limits, dict[str, Any]], str | None] = lambda limits, scope: None
    """The key in whose name a request is served that shows none."""
    content_type: bytes = b"application/json"


async def whole_body(receive: Receive, most: int) -> bytes:
    """Raises `BodyTooLarge` for one of more than `most` bytes, and `ClientLeft`."""
    pieces = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientLeft
        pieces += message.get("body", b"")
        if len(pieces) > most:
            raise BodyTooLarge(f"The request body is larger than {most} bytes.")
        if not message.get("more_body"):
            return bytes(pieces)
