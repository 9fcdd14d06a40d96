"""When requests come: by the hour of the day, the day of the week and a slow growth, with bursts now and then. Pure."""

from __future__ import annotations

import random
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import accumulate

SLOT = timedelta(minutes=5)
GROWTH = 0.5
"""By how much more comes at the end of the month than at its beginning."""

OFFICE = (1, 1, 1, 1, 1, 2, 6, 18, 55, 88, 96, 92, 70, 80, 94, 90, 76, 52, 30, 22, 18, 14, 8, 3)
"""Hours of the day (UTC), in percent of the busiest."""
SHOP = (16, 11, 8, 7, 7, 10, 18, 30, 44, 54, 60, 64, 68, 64, 60, 60, 64, 74, 90, 100, 98, 86, 60, 32)
NIGHT = (70, 100, 100, 90, 70, 30, 4, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 2, 6, 20, 45)
STEADY = (60,) * 24


@dataclass(frozen=True, slots=True)
class Pace:
    """How much somebody sends: `share` beside others, and how it goes over the day and at weekends."""

    share: float
    hours: Sequence[int] = OFFICE
    weekend: float = 0.35
    since: datetime | None = None
    until: datetime | None = None

    def at(self, moment: datetime) -> float:
        if (self.since is not None and moment < self.since) or (self.until is not None and moment >= self.until):
            return 0.0
        return self.share * self.hours[moment.hour] * (self.weekend if moment.weekday() >= 5 else 1.0)


@dataclass(frozen=True, slots=True)
class Burst:
    """Somebody sends many times as much for a while."""

    who: int
    begin: datetime
    end: datetime
    times: float


def arrivals(
    paces: Sequence[Pace],
    bursts: Sequence[Burst],
    begin: datetime,
    end: datetime,
    count: int,
    chance: random.Random,
) -> Iterator[tuple[datetime, int]]:
    """So many moments between the two, in their order, each with the number of who sends then."""
    slots, weights = _slots(paces, bursts, begin, end)
    totals = list(accumulate(sum(one) for one in weights))
    shares = [list(accumulate(one)) for one in weights]
    whole = totals[-1]
    for number in range(count):
        place = (number + chance.random()) / count * whole
        slot = min(bisect_left(totals, place), len(slots) - 1)
        before = totals[slot - 1] if slot else 0.0
        within = (place - before) / (totals[slot] - before or 1.0)
        who = bisect_left(shares[slot], chance.random() * shares[slot][-1])
        yield min(slots[slot] + SLOT * within, end), min(who, len(paces) - 1)


def _slots(
    paces: Sequence[Pace], bursts: Sequence[Burst], begin: datetime, end: datetime
) -> tuple[list[datetime], list[list[float]]]:
    slots, weights = [], []
    moment, span = begin.astimezone(UTC), (end - begin) / timedelta(days=1) or 1.0
    while moment < end:
        grown = 1 + GROWTH * ((moment - begin) / timedelta(days=1)) / span
        partial = min(1.0, (end - moment) / SLOT)
        some = [pace.at(moment) * grown * partial for pace in paces]
        for burst in bursts:
            if burst.begin <= moment < burst.end:
                some[burst.who] = max(some[burst.who], paces[burst.who].share * 50) * burst.times
        slots.append(moment)
        weights.append(some)
        moment += SLOT
    return slots, weights
