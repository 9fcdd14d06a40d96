"""Ends the engine's process when one step of a library takes far too long: a grammar can be so ambiguous that following it takes
longer than anybody lives, and nothing but the process can be stopped. Whoever was being answered is told; the next request
starts a new process.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


def _end(reason: str) -> None:
    print(reason, file=sys.stderr, flush=True)
    os._exit(1)


class Watch:
    """`end` is called once with `reason` when a block has taken more than `seconds`; blocks are not nested."""

    def __init__(self, seconds: float, reason: str, *, end: Callable[[str], None] = _end) -> None:
        self._seconds = seconds
        self._reason = reason
        self._end = end
        self._since: float | None = None
        self._watching = False

    @contextmanager
    def block(self) -> Iterator[None]:
        if not self._watching:
            self._watching = True
            threading.Thread(target=self._look, daemon=True, name="watch").start()
        self._since = time.monotonic()
        try:
            yield
        finally:
            self._since = None

    def _look(self) -> None:
        while True:
            time.sleep(self._seconds / 4)
            since = self._since
            if since is not None and time.monotonic() - since > self._seconds:
                self._end(self._reason)
                return
