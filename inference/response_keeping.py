"""What the data plane asks of whoever keeps responses: the words between the request path and the database. No I/O.

The implementation is `inference.response_keeper`; without one the gateway keeps nothing, and says so to whom it matters.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from inference.errors import InvalidRequest

if TYPE_CHECKING:
    from inference.wire.openai import ParsedRequest
    from inference.wire.responses import Asked
    from routing.types import Identity

Item = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Turn:
    """A request and its answer, to be kept. `owner` is the client key's prefix, `response` as the client is told it."""

    owner: str
    model: str
    previous: str
    input: list[Item]
    response: Item


class Before(NamedTuple):
    """What was said before a request, oldest first, and the items that it names by their ids."""

    items: list[Item]
    named: Mapping[str, Item]


class Keeper(Protocol):
    """Asked on the event loop; whatever it does there is done by a thread."""

    async def before(self, owner: str, previous: str, references: Iterable[str], model: str) -> Before:
        """Thoughts of another model are left out. Raises `InvalidRequest` when there is no such response."""

    async def keep(self, turn: Turn) -> bool:
        """False, and a line in the log, when it could not be kept. What is kept can be retrieved at once."""

    async def queue(self, asked: Asked, parsed: ParsedRequest, identity: Identity, response: Item) -> None:
        """Keep a response that a worker is to answer, and wake one."""

    def follow(self, owner: str, response_id: str) -> AsyncIterator[bytes]:
        """The events of such a response, from the first to the last."""

    async def aclose(self) -> None:
        """After the last request."""


def nothing_kept(param: str) -> InvalidRequest:
    return InvalidRequest(
        f"'{param}' cannot be used here: this gateway keeps no responses. Send the whole conversation as 'input'.",
        param=param,
        code="responses_not_kept",
    )


def no_such_response(response_id: str) -> InvalidRequest:
    """In the words of OpenAI, whose clients look for the code."""
    return InvalidRequest(
        f"Previous response with id '{response_id[:100]}' not found.",
        param="previous_response_id",
        code="previous_response_not_found",
    )
