"""The gateway's own ids of requests: unguessable, unique over processes, cheap, and in the order of time.

The order is for the database: rows of one moment lie beside each other in the index of their ids, where random ids would
touch a page each. An id reads `req_`, the time in milliseconds (12 hex digits), a counter (3), and 68 random bits (17).
"""

from __future__ import annotations

import os
import time


class _Ids:
    """Made for many requests at a time: one system call for each would cost more than the id."""

    _AT_ONCE = 512

    def __init__(self) -> None:
        self._drawn: list[str] = []

    def draw(self) -> str:
        if not self._drawn:
            pool = os.urandom(9 * self._AT_ONCE).hex()
            now = time.time_ns() // 1_000_000
            self._drawn = [f"req_{now:012x}{n:03x}{pool[18 * n : 18 * n + 17]}" for n in range(self._AT_ONCE)][::-1]
        return self._drawn.pop()

    def forget(self) -> None:
        self._drawn = []


_ids = _Ids()
os.register_at_fork(after_in_child=_ids.forget)
new_request_id = _ids.draw
