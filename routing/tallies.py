"""What one process saw of a route and has not worked in yet: sums between two rounds of telling."""

from __future__ import annotations

from dataclasses import dataclass, field

from providers.breaker_settings import BreakerSettings
from routing.performance import Batch


@dataclass(frozen=True, slots=True)
class Sums:
    """Calls of one route."""

    good: int = 0
    bad: int = 0
    seconds: float = 0.0
    """Of the good ones together."""

    def __bool__(self) -> bool:
        return bool(self.good or self.bad)

    def __add__(self, other: Sums) -> Sums:
        return Sums(self.good + other.good, self.bad + other.bad, self.seconds + other.seconds)

    def __sub__(self, other: Sums) -> Sums:
        return Sums(self.good - other.good, self.bad - other.bad, self.seconds - other.seconds)

    def batch(self) -> Batch:
        return Batch(self.good, self.bad, int(max(0.0, self.seconds) * 1_000_000 / self.good) if self.good else 0)


@dataclass(slots=True, eq=False)
class Tally:
    """Of one route. Spans in seconds."""

    route: str
    settings: BreakerSettings
    watched: bool
    """The breaker is not well: a success changes more than a count."""
    good: int = 0
    """Not yet counted by the breaker."""
    fresh: int = 0
    """Good calls that are counted there, and not yet in the figures."""
    bad: int = 0
    """Failures that are not yet in the figures."""
    seconds: float = 0.0
    """Of `good` and `fresh`."""
    untold: Sums = field(default_factory=Sums)
    """In this mirror's figures, and not yet in the shared ones."""

    def take_fresh(self) -> Sums:
        """What the figures lack; from now on it is only untold."""
        sums = Sums(self.fresh, self.bad, self.seconds)
        self.fresh, self.bad, self.seconds = 0, 0, 0.0
        self.untold += sums
        return sums
