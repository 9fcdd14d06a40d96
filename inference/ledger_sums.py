"""What budgets have spent by the word of the ledger: told to the counters that all processes share, which know what is under way
but can be lost, and lose what a killed process had not told yet."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from time import monotonic, time

from django.conf import settings
from django.db import connection

from routing import metering_store, snapshot, spending
from routing.allowances import KEY, MONEY, REQUEST, TEAM, Allowance, AllowanceIndex
from routing.ledger_word import Asked
from routing.metering import nano
from routing.metering_sharing import AWAY, BEAT_SECONDS, PATIENCE_SECONDS
from routing.metering_store import NOTHING
from routing.purses import span_ms
from routing.spending import Spending

RECONCILED_SECONDS = 60.0
"""After a process died: until then the others have told what they spent, and their records are written."""


def of(asked: Sequence[Asked]) -> list[int]:
    """Nano-USD of each, in their order; rounded up. Raises what the database raises."""
    if connection.errors_occurred and not connection.in_atomic_block:
        connection.close_if_unusable_or_obsolete()
    known: dict[Spending, Mapping[int | str, object]] = {}
    return [_sum(allowance, begin, end, known) for allowance, begin, end in asked]


def of_in_a_thread(asked: Sequence[Asked]) -> list[int]:
    """As `of`, in a thread that is lent for it: with the thread, its connection is given back."""
    try:
        return of(asked)
    finally:
        if not connection.in_atomic_block:
            connection.close()


def reconcile(allowances: AllowanceIndex | None = None, *, wait: Callable[[float], None] | None = None) -> int:
    """Raise the counters of budgets to what the ledger says; never lower them. Returns how many were told.

    Of all that the registry has, where none are given. With `wait`, such as `time.sleep`, it is asked to wait until all processes must have spoken, and what the
    ledger has beyond their words is then counted beside them. Raises what Redis raises when it is away.
    """
    index = snapshot.refresh().allowances if allowances is None else allowances
    by_key = {one.key: one for one in index.each()}
    counted = [one for one in by_key.values() if one.unit == MONEY and one.period != REQUEST]
    if not counted:
        return 0
    now_ms = round(time() * 1000)
    asked = [(one, *span_ms(one, now_ms)) for one in counted]
    known = metering_store.counters(settings.REDIS_URL, counted)
    sums = [(allowance, begin, end, spent) for (allowance, begin, end), spent in zip(asked, of(asked), strict=True)]
    told = metering_store.raise_to(
        settings.REDIS_URL, [one for one in sums if one[3] > known.get(one[0].key, NOTHING).used]
    )
    untold = [one for one in sums if one[3] > known.get(one[0].key, NOTHING).told]
    if untold and wait is not None:
        with metering_store.client(settings.REDIS_URL) as store:
            read_by = metering_store.now_ms(store) + round(
                PATIENCE_SECONDS * 1000
            )  # a word may be that long on its way
        wait(2 * BEAT_SECONDS + PATIENCE_SECONDS)
        metering_store.raise_to(settings.REDIS_URL, untold, whole_since=read_by)
    return told


class Reconciling:
    """For one process: reconciles for a while after records of a dead one were found, whose spending nobody had told."""

    def __init__(self, adopt: Callable[[], int]) -> None:
        self._adopt = adopt
        self._until = 0.0

    def __call__(self) -> int:
        """As `adopt`, which it calls."""
        found = self._adopt()
        if found:
            self._until = monotonic() + RECONCILED_SECONDS
        if monotonic() < self._until:
            served = snapshot.held()  # this process has others who keep it fresh
            with contextlib.suppress(*AWAY):
                reconcile(None if served is None else served.allowances)
        return found


def _sum(allowance: Allowance, begin: int, end: int, known: dict[Spending, Mapping[int | str, object]]) -> int:
    """Keys and teams by one question for all of them, where several are asked for."""
    each = allowance.subject in (KEY, TEAM)
    name = None if each or allowance.whom == "" else allowance.whom
    question = Spending(allowance.subject, _moment(begin), _moment(end), name)
    if question not in known:
        known[question] = spending.of(question)
    spent = known[question].get(allowance.whom)
    return nano(spent) if spent else 0  # type: ignore[arg-type]


def _moment(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)
