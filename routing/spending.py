"""What subjects spent in a span of time, by the ledger. Who keeps the ledger registers how to ask; without, nothing is known."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal


@dataclass(frozen=True, slots=True)
class Spending:
    """A question: USD of all requests from `start` until just before `end`, of one subject or of each.

    `subject` is one of `routing.subjects`: `key` and `team` with the row's id, `provider` with a provider's id, `model` with
    `provider/model`, `tag` with the tag, `all` with nothing. Without `name`, `key` and `team` mean each of them.
    """

    subject: str
    start: datetime
    end: datetime
    name: int | str | None = None


Reader = Callable[[Spending], Mapping[int | str, Decimal]]

_read: Reader | None = None


def read_with(read: Reader) -> None:
    """At start-up, from above. `read` answers by name (`""` for `all`) and leaves out those that spent nothing."""
    global _read
    _read = read


def of(asked: Spending) -> Mapping[int | str, Decimal]:
    """USD by name; empty where nothing was spent."""
    return _read(asked) if _read is not None else {}
