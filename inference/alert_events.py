"""What alerts have to know and no roll-up tells: noted in memory on any path, counted by the minute in the database by a thread.

`note` is safe on the request path: it adds to a counter and returns. While the database is away the counts wait; they are few,
because subjects are names from the registry.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta

from django.db import IntegrityError, connection, transaction
from django.db.models import F
from django.utils import timezone

from inference.alert_models import AlertEvent

logger = logging.getLogger("gateway.alerts")

RECORDS_DROPPED, BUDGET_EXCEEDED, BUDGET_STORE_AWAY = "records_dropped", "budget_exceeded", "budget_store_away"
"""Signals of `inference.alert_signals` that are told by events. The subject of a budget is its row's id."""

KEPT = timedelta(days=2)
WRITE_SECONDS = 5.0
_MOST_SUBJECTS = 1_000


class Events:
    """One per process."""

    def __init__(self) -> None:
        self._noted: Counter[tuple[str, str]] = Counter()
        self._watched: dict[str, tuple[Callable[[], int], int]] = {}
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def note(self, kind: str, subject: str = "", count: int = 1) -> None:
        with self._lock:
            if len(self._noted) < _MOST_SUBJECTS or (kind, subject) in self._noted:
                self._noted[kind, subject] += count

    def watch(self, kind: str, read: Callable[[], int]) -> None:
        """Note by how much a counter grew, whenever it did."""
        self._watched[kind] = (read, read())

    def start(self) -> None:
        if self._thread is None:
            self._stopping.clear()
            self._thread = threading.Thread(target=self._run, name="alert-events", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def write(self) -> int:
        """Store what was noted; returns how many counters. What cannot be stored is kept for the next time, and raises."""
        for kind, (read, before) in self._watched.items():
            now = read()
            self._watched[kind] = (read, now)
            if now > before:
                self.note(kind, count=now - before)
        with self._lock:
            noted, self._noted = self._noted, Counter()
        minute = timezone.now().replace(second=0, microsecond=0)
        written = 0
        try:
            for (kind, subject), count in noted.items():
                _add(kind, subject, minute, count)
                written += 1
        except BaseException:
            with self._lock:
                self._noted.update(dict(list(noted.items())[written:]))
            raise
        return written

    def _run(self) -> None:
        over = False
        while not over:
            over = self._stopping.wait(WRITE_SECONDS)
            try:
                self.write()
            except Exception as error:
                logger.warning("alert events were not stored, will try again: %s", type(error).__name__)
                connection.close()
        connection.close()


def _add(kind: str, subject: str, minute: datetime, count: int) -> None:
    rows = AlertEvent.objects.filter(kind=kind, subject=subject, minute=minute)
    if rows.update(count=F("count") + count):
        return
    try:
        with transaction.atomic():
            AlertEvent.objects.create(kind=kind, subject=subject, minute=minute, count=count)
    except IntegrityError:  # another process was first
        rows.update(count=F("count") + count)


def forget_old(now: datetime) -> int:
    return AlertEvent.objects.filter(minute__lt=now - KEPT).delete()[0]


events = Events()


def note(kind: str, subject: str = "", count: int = 1) -> None:
    """For any path: one of the kinds above, `subject` a stable name from the registry."""
    events.note(kind, subject, count)
