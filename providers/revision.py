"""The registry's revision: a number that every write raises, inside its own transaction.

Processes that hold a snapshot compare it with theirs. After the commit the listeners are called in the writing process
(its own snapshot is fresh at the next request) and other processes hear a hint over Redis, without payload; a process that
misses the hint notices by polling the number.
"""

from __future__ import annotations

from collections.abc import Callable

from django.db import connection, models, transaction

_listeners: list[Callable[[], None]] = []


class RegistryRevision(models.Model):
    """One row."""

    number = models.BigIntegerField(default=0)

    class Meta:
        app_label = "providers"

    def __str__(self) -> str:
        return str(self.number)


def bump() -> None:
    """Raise the revision; call it inside the transaction of the write, which is announced once however often it raises."""
    if not RegistryRevision.objects.filter(pk=1).update(number=models.F("number") + 1):
        RegistryRevision.objects.create(pk=1, number=1)
    if all(waiting is not _announce for _, waiting, _ in connection.run_on_commit):
        transaction.on_commit(_announce)


def current() -> int:
    return RegistryRevision.objects.filter(pk=1).values_list("number", flat=True).first() or 0


def on_change(listener: Callable[[], None]) -> None:
    """Call `listener` after each commit that raised the revision. Registered at start-up, from above."""
    if listener not in _listeners:
        _listeners.append(listener)


def _announce() -> None:
    for listener in _listeners:
        listener()
