"""The gateway's own ids of requests: unguessable, unique over processes and cheap."""

from __future__ import annotations

import os


class _RandomIds:
    """128 random bits each, read from the system for many at a time: one system call per request is too many."""

    _AT_ONCE = 512

    def __init__(self) -> None:
        self._drawn: list[str] = []

    def draw(self) -> str:
        if not self._drawn:
            pool = os.urandom(16 * self._AT_ONCE).hex()
            self._drawn = ["req_" + pool[at : at + 32] for at in range(0, len(pool), 32)]
        return self._drawn.pop()

    def forget(self) -> None:
        self._drawn = []


_ids = _RandomIds()
os.register_at_fork(after_in_child=_ids.forget)
new_request_id = _ids.draw
