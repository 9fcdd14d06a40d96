"""The ledger's word on what was spent of allowances of money. Who keeps the ledger registers how to ask."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from routing.allowances import Allowance

Asked = tuple[Allowance, int, int]
"""An allowance, and begin and end of one of its periods in epoch milliseconds."""
Reader = Callable[[Sequence[Asked]], list[int]]

_read: Reader | None = None


class NoLedger(Exception):
    """Nobody in this process knows how to ask."""


def read_with(read: Reader | None) -> None:
    """At start-up, from above: nano-USD of each, in their order. It is called in a thread, and may raise."""
    global _read
    _read = read


def of(asked: Sequence[Asked]) -> list[int]:
    """Raises `NoLedger`, and what the database raises."""
    if _read is None:
        raise NoLedger("nobody keeps a ledger in this process")
    return _read(asked)
