"""How far a run is, told to other processes through Redis: its rows lie in a transaction that they cannot see into.

Best effort: an import on a machine without Redis runs all the same.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

import redis
from django.conf import settings

_KEPT_SECONDS = 3600
_EVERY_SECONDS = 0.25
_TIMEOUT_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Progress:
    """Rows read so far, of `total` (0 when unknown), and what is being worked on."""

    rows: int
    total: int
    doing: str
    rows_per_second: float


class Meter:
    """Counts, and tells `heard` and the other processes, each a few times a second."""

    def __init__(self, heard: Callable[[Progress], None] | None = None) -> None:
        self.total = 0
        self._heard = heard
        self._began = self._last = time.monotonic()
        self._rows, self._doing = 0, ""
        self._key = ""
        self._store: redis.Redis | None = None

    def tell_of(self, run_pk: int) -> None:
        """From now on other processes are told."""
        self._key, self._store = key_of(run_pk), _store()

    def rows(self, rows: int) -> None:
        self._rows = rows
        now = time.monotonic()
        if now - self._last >= _EVERY_SECONDS:
            self._last = now
            self.tell()

    def done_with(self, name: str) -> None:
        self._doing = name
        self.rows(self._rows)

    def tell(self) -> None:
        seconds = time.monotonic() - self._began
        progress = Progress(self._rows, self.total, self._doing, round(self._rows / seconds, 1) if seconds else 0.0)
        if self._heard:
            self._heard(progress)
        if self._store:
            try:
                self._store.set(self._key, json.dumps(asdict(progress)), ex=_KEPT_SECONDS)
            except redis.RedisError:
                self._store = None

    def close(self) -> None:
        self.tell()
        if self._store:
            self._store.close()


def of(run_pk: int) -> Progress | None:
    """What the process that does the run told last."""
    try:
        with _store() as store:
            text = store.get(key_of(run_pk))
    except redis.RedisError:
        return None
    return Progress(**json.loads(text)) if text else None  # type: ignore[arg-type]


def key_of(run_pk: int) -> str:
    return f"gw:import:progress:{run_pk}"


def _store() -> redis.Redis:
    return redis.Redis.from_url(
        settings.REDIS_URL, socket_timeout=_TIMEOUT_SECONDS, socket_connect_timeout=_TIMEOUT_SECONDS
    )
