"""What becomes of a rule's incidents, by what was read: which begin, which end, of which somebody is reminded. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal


@dataclass(frozen=True, slots=True)
class Reading:
    """`subject` is stable and tells one incident of a rule from another; `name` is for people."""

    subject: str
    name: str
    value: Decimal
    detail: str = ""
    requests: int | None = None
    """How many it was measured over, where that matters."""


@dataclass(frozen=True, slots=True)
class Watch:
    """What a rule says of readings."""

    threshold: Decimal
    below: bool = False
    least_requests: int = 0
    recover_after: timedelta = timedelta()
    remind_every: timedelta | None = None

    def breaks(self, reading: Reading) -> bool:
        if reading.requests is not None and reading.requests < self.least_requests:
            return False
        return reading.value < self.threshold if self.below else reading.value > self.threshold


@dataclass(frozen=True, slots=True)
class Standing:
    """An incident that is under way."""

    pk: int
    subject: str
    told_at: datetime
    well_since: datetime | None = None


@dataclass(slots=True)
class Decision:
    begin: list[Reading] = field(default_factory=list)
    still: list[tuple[Standing, Reading]] = field(default_factory=list)
    """Under way, with what was read now."""
    remind: list[tuple[Standing, Reading]] = field(default_factory=list)
    """Those of `still` whose reminder is due."""
    well: list[Standing] = field(default_factory=list)
    """Well since now, but not for long enough."""
    end: list[Standing] = field(default_factory=list)


def decide(watch: Watch, readings: Iterable[Reading], standing: Iterable[Standing], now: datetime) -> Decision:
    """A subject of which nothing was read is well: what has no traffic has no errors, what is gone has no state."""
    broken = {one.subject: one for one in readings if watch.breaks(one)}
    decided = Decision()
    for incident in standing:
        reading = broken.pop(incident.subject, None)
        if reading is not None:
            decided.still.append((incident, reading))
            if watch.remind_every is not None and now - incident.told_at >= watch.remind_every:
                decided.remind.append((incident, reading))
        elif incident.well_since is None and watch.recover_after:
            decided.well.append(incident)
        elif incident.well_since is None or now - incident.well_since >= watch.recover_after:
            decided.end.append(incident)
    decided.begin = list(broken.values())
    return decided
