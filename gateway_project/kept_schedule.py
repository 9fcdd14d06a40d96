"""When each periodic task ran last, kept in a file that a killed beat may leave half written."""

from __future__ import annotations

from typing import Any

from celery.beat import PersistentScheduler


class KeptSchedule(PersistentScheduler):  # type: ignore[misc]
    """Begins anew where the file cannot be read. Celery's own takes some ways of damage for the end: beat would never start again."""

    def _create_schedule(self) -> None:
        try:
            super()._create_schedule()
        except Exception as error:  # whatever unpickling half a file raises; such as EOFError of one that was just made
            self._store: Any = self._destroy_open_corrupted_schedule(error)
            super()._create_schedule()
