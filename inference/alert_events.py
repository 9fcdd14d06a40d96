"""What alerts have to know and no roll-up tells: counters of each process, watched by a thread and kept by the minute in the database.

Nothing of it is on the request path. While the database is away the counts wait; they are few, because subjects are names and
numbers from the registry.
"""

from __future__ import annotations

import logging
import os
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta

from django.db import IntegrityError, connection, transaction
from django.db.models import F
from django.utils import timezone

from inference.alert_models import AlertEvent
from routing import metering
from routing.allowances import BUDGET

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
        self._watched: dict[str, tuple[Callable[[], Mapping[str, int]], Mapping[str, int]]] = {}
        self._states: dict[str, Callable[[], bool]] = {}
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def note(self, kind: str, subject: str = "", count: int = 1) -> None:
        with self._lock:
            if len(self._noted) < _MOST_SUBJECTS or (kind, subject) in self._noted:
                self._noted[kind, subject] += count

    def watch(self, kind: str, read: Callable[[], Mapping[str, int]]) -> None:
        """Note by how much counters grew, by their subjects, whenever they did."""
        self._watched[kind] = (read, dict(read()))

    def watch_state(self, kind: str, read: Callable[[], bool]) -> None:
        """Note it once each time that it is looked at and is so."""
        self._states[kind] = read

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

    def begin_anew(self) -> None:
        """In a forked child: the thread, and what was noted before, are the parent's."""
        self._noted, self._lock = Counter(), threading.Lock()
        self._stopping, self._thread = threading.Event(), None

    def write(self) -> int:
        """Store what was noted; returns how many counters. What cannot be stored is kept for the next time, and raises."""
        self._look()
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

    def _look(self) -> None:
        for kind, (read, before) in list(self._watched.items()):
            now = dict(read())
            self._watched[kind] = (read, now)
            for subject, count in now.items():
                if count > before.get(subject, 0):
                    self.note(kind, subject, count - before.get(subject, 0))
        for kind, is_so in self._states.items():
            if is_so():
                self.note(kind)

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
os.register_at_fork(after_in_child=events.begin_anew)


def watch_meter() -> None:
    """Budgets that only warn, and whether this process counts alone."""
    events.watch(BUDGET_EXCEEDED, _warned)
    events.watch_state(BUDGET_STORE_AWAY, lambda: metering.current().is_away)


def _warned() -> dict[str, int]:
    return {str(row): count for (kind, row), count in list(metering.current().warned.items()) if kind == BUDGET}
