"""What one process holds of one allowance: taken from the common store in blocks, used here without asking. Pure.

Of what the store lets a process have, a part is spent, a part reserved by requests under way, and the rest free. The three are
told to the store as they stand and not as changes, so that a message that was lost, or came twice, or met an emptied store,
is put right by the next one. Moments are seconds of the monotonic clock, but for `period` and `period_ends`, which are
milliseconds of the store's.
"""

from __future__ import annotations

from datetime import UTC, datetime
from math import inf

from routing import budget_periods
from routing.allowances import CALLS, DAY, HOUR, MINUTE, MONEY, MONTH, MOST, REQUESTS, TOKENS, UNDER_WAY, Allowance

MINUTE_MS = 60_000
NO_PERIOD = -1
STARTING, ASKED_TOKENS, RUNNING, ASKED_MONEY, MOST_TOKENS, MOST_MONEY = range(6)
"""Places in what a request needs: one to begin, the tokens that are likely, one under way, the money that is likely, and the most
that both can be."""

NONE, WINDOW, CALENDAR = 0, 1, 2
"""Kinds of periods: without end, from the first request on, of the calendar."""

_KINDS = {UNDER_WAY: NONE, MINUTE: WINDOW, HOUR: CALENDAR, DAY: CALENDAR, MONTH: CALENDAR}
_WITHOUT_END = 2**62
"""What a soft allowance has free: it only counts."""


class Purse:
    """Of one allowance, for one process."""

    __slots__ = (
        "_now_ms",
        "allowance",
        "amount",
        "away_used",
        "denied_until",
        "ends",
        "free",
        "held",
        "kind",
        "left",
        "over",
        "period",
        "period_ends",
        "place",
        "reserved",
        "scarce",
        "seed",
        "since",
        "spent",
        "touched",
        "used",
        "verdict",
    )

    def __init__(self, allowance: Allowance) -> None:
        self.kind = _KINDS[allowance.period]
        self.spent = self.reserved = 0
        self.free = 0 if allowance.hard else _WITHOUT_END
        self.period = 0 if self.kind == NONE else NO_PERIOD
        self.period_ends = 0
        self.ends = 0.0 if self.kind == CALENDAR or not allowance.hard else inf
        """When what is free is worth nothing any more."""
        self.used = self.held = 0
        """Of all processes, as the store said last."""
        self.left = allowance.amount
        """Beyond what all processes hold."""
        self.over = False
        """Used up, by the last word of the store."""
        self.scarce = True
        """The store has no more to spare than what is asked for."""
        self.touched = 0.0
        self.since = 0.0
        """When it learned of its period: what was reserved before went with another one."""
        self.denied_until = 0.0
        self.away_used = 0
        self.verdict = 0
        self.seed: int | None = None
        """What the ledger says was spent in this period, when the store wanted to know."""
        self.adopt(allowance)

    def adopt(self, allowance: Allowance) -> None:
        """The same allowance, perhaps with another amount: what is free was taken under the old one."""
        amount = min(max(allowance.amount, 0), MOST)
        if getattr(self, "amount", amount) != amount:
            self.give_back()
            self.denied_until = 0.0
            self.over = False
        self.allowance, self.amount = allowance, amount
        if allowance.hard != (self.free < _WITHOUT_END // 2):
            self.free = 0 if allowance.hard else _WITHOUT_END
        self.place = _place(allowance)

    def begin_period(self, now_ms: int, now: float) -> None:
        """The period that `now_ms` falls into; of a minute it is known when the store has seen its first request."""
        allowance = self.allowance
        if self.kind == CALENDAR:
            start, end = span_ms(allowance, now_ms)
            if start == self.period:  # the clocks differ by a moment, and it is not over yet
                self.take_period(start, end, now_ms, now)
                return
        self.spent = self.reserved = self.away_used = 0
        self.used = self.held = 0
        self.left, self.over, self.denied_until, self.seed = self.amount, False, 0.0, None
        if allowance.hard:
            self.free = 0
        if self.kind == CALENDAR:
            self.take_period(start, end, now_ms, now)
        elif self.kind == NONE:
            self.period, self.ends = 0, inf
        elif allowance.hard:
            self.period, self.ends, self.since = NO_PERIOD, inf, now
        else:  # nobody asks for it, so nobody says when it began
            self.take_period(now_ms, now_ms + MINUTE_MS, now_ms, now)

    def take_period(self, start: int, end: int, now_ms: int, now: float) -> None:
        """Without a change to what is held in it."""
        if start != self.period:
            self.since = now
        self.period, self.period_ends = start, end
        self.ends = now + (end - now_ms) / 1000 if end else inf

    def spend_now(self, need: int) -> None:
        self.free -= need
        self.spent += need

    def reserve(self, need: int) -> None:
        self.free -= need
        self.reserved += need

    def take_beyond(self, need: int) -> None:
        """Without the store: `need` counts, though nobody granted it."""
        short = need - max(self.free, 0)
        if short > 0:
            self.free += short
            self.away_used += short
        if self.place == STARTING:
            self.spend_now(need)
        else:
            self.reserve(need)

    def settle(self, reserved: int, actual: int) -> None:
        """What was reserved is used as far as `actual` says; more than that is owed to nobody here, the store counts it."""
        self.reserved -= reserved
        self.spent += actual
        free = self.free + reserved - actual
        self.free = free if free > 0 else 0

    def give_back(self) -> bool:
        """Keep nothing that no request needs; whether there was anything."""
        had = 0 < self.free < _WITHOUT_END // 2
        if had:
            self.free = 0
        self.scarce = True
        return had

    @property
    def hard(self) -> bool:
        return self.allowance.hard

    @property
    def told_free(self) -> int:
        return self.free if self.allowance.hard else 0

    @property
    def remaining(self) -> int:
        """What is left for requests of this process, as far as it knows."""
        return max(0, self.left) + (max(0, self.free) if self.allowance.hard else 0)

    @property
    def is_idle(self) -> bool:
        return self.reserved == 0 and self.told_free == 0

    def share(self, processes: int) -> int:
        """What this process may use while the store is away."""
        allowance = self.allowance
        if allowance.away_amount is not None:
            return allowance.away_amount
        if allowance.kind == "budget":
            return self.amount // 10
        return -(-self.amount // max(1, processes))


def _place(allowance: Allowance) -> int:
    if allowance.unit == REQUESTS:
        return STARTING
    if allowance.unit == CALLS:
        return RUNNING
    if allowance.unit == TOKENS:
        return MOST_TOKENS if allowance.strict else ASKED_TOKENS
    assert allowance.unit == MONEY
    return MOST_MONEY if allowance.strict else ASKED_MONEY


def span_ms(allowance: Allowance, now_ms: int) -> tuple[int, int]:
    """Begin and end of an hour, a day or a month, in epoch milliseconds."""
    at = datetime.fromtimestamp(now_ms / 1000, UTC)
    found = budget_periods.span(allowance.period, at, allowance.time_zone)
    return round(found.start.timestamp() * 1000), round(found.end.timestamp() * 1000)
