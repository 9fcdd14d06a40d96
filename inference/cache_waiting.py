"""How many requests may wait for the answer of an equal one. They hold a connection and no turn among those that limits count, so a
few of a client key do, and not too many together; whoever is beyond that asks for itself. No I/O.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

MOST_OF_A_KEY = 32
MOST = 256
"""Of one process."""


class Waiting:
    """For one event loop. Client keys are known by their numbers."""

    def __init__(self) -> None:
        self._of: Counter[int] = Counter()

    def has_room(self, key_id: int) -> bool:
        return self._of[key_id] < MOST_OF_A_KEY and self._of.total() < MOST

    @contextmanager
    def one(self, key_id: int) -> Iterator[None]:
        self._of[key_id] += 1
        try:
            yield
        finally:
            self._of[key_id] -= 1
            if not self._of[key_id]:
                del self._of[key_id]
