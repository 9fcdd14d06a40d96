"""What limits and budgets allow, as the data plane reads them: plain values, found by who asks and who would answer. Pure.

An `Allowance` is one number in one period for one subject; a row of limits makes several of them. The index is built with the
snapshot, and `routing.metering` does the counting.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from routing.types import Identity, ModelView

REQUEST, MINUTE, HOUR, DAY, MONTH = "request", "minute", "hour", "day", "month"
UNDER_WAY = "under_way"
"""Periods: one request by itself; a minute that begins with its first request; of the calendar; what runs at this moment."""

REQUESTS, TOKENS, CALLS, MONEY = "requests", "tokens", "calls", "money"
"""Units: requests that begin, tokens of prompts and answers, requests under way at once, nano-USD."""

NANO = 10**9
"""Nano-USD in a USD."""
MOST = 2**53 - 1
"""The largest amount that is counted exactly: nine million USD, or more requests than anybody sends."""

LIMIT, BUDGET = "limit", "budget"
ALL, KEY, TEAM, TAG, MODEL, PROVIDER = "all", "key", "team", "tag", "model", "provider"
OPEN, CLOSED = "open", "closed"

_BUDGET_CODES = {
    REQUEST: "REQUEST_BUDGET_EXCEEDED",
    HOUR: "HOURLY_BUDGET_EXCEEDED",
    DAY: "DAILY_BUDGET_EXCEEDED",
    MONTH: "MONTHLY_BUDGET_EXCEEDED",
}


@dataclass(frozen=True, slots=True)
class Allowance:
    """How much of one unit one subject may use in one period."""

    key: str
    """Names its counter, and stays the same when the amount changes: `limit:12:rpm:key:7`."""
    unit: str
    period: str
    amount: int
    name: str
    """For people: `limits of team research`, or a budget's name."""
    kind: str
    """`limit` or `budget`."""
    source_id: int
    """The row's."""
    subject: str
    """`all`, `key`, `team`, `tag`, `model` or `provider`: what stands for each is resolved."""
    whom: int | str = ""
    """Which: the id of the key or team, the tag, the route or the provider's id; empty for `all`."""
    hard: bool = True
    """Refuses what goes beyond; else it only warns."""
    strict: bool = False
    """Reserves what a request may use at most, so that nothing ever goes beyond."""
    time_zone: str = "UTC"
    """Whose calendar."""
    when_away: str = OPEN
    """What happens while the common store does not answer: `open` or `closed`."""
    away_amount: int | None = None
    """The most that each process may use meanwhile; None is a tenth of a budget, and of a limit an even share."""
    refuse_unpriced: bool = False
    warn_percent: int = 80

    @property
    def targets(self) -> bool:
        """It counts for who answers: when it is used up, another candidate may serve; else the request is refused."""
        return self.subject in (MODEL, PROVIDER)

    @property
    def exceeded_code(self) -> str:
        """What a budget that is used up is called, such as `DAILY_BUDGET_EXCEEDED`; empty for limits."""
        return _BUDGET_CODES.get(self.period, "") if self.kind == BUDGET else ""


@dataclass(frozen=True, slots=True)
class AllowanceIndex:
    """All allowances, by whom they count for. What stands for each key or team by itself is entered under every one of them."""

    every: tuple[Allowance, ...] = ()
    """For all requests together."""
    keys: Mapping[int, tuple[Allowance, ...]] = field(default_factory=dict)
    """By id of the client key."""
    teams: Mapping[int, tuple[Allowance, ...]] = field(default_factory=dict)
    tags: Mapping[str, tuple[Allowance, ...]] = field(default_factory=dict)
    models: Mapping[str, tuple[Allowance, ...]] = field(default_factory=dict)
    """By route."""
    providers: Mapping[str, tuple[Allowance, ...]] = field(default_factory=dict)
    """By `provider_id`."""

    def __bool__(self) -> bool:
        return bool(self.every or self.keys or self.teams or self.tags or self.models or self.providers)

    def of_caller(self, identity: Identity | None, tags: tuple[str, ...] = ()) -> tuple[Allowance, ...]:
        """Those that count for who asks; `tags` are the request's, beside the key's own."""
        found = self.every
        if identity is not None:
            found += self.keys.get(identity.key_id, ())
            if identity.team_id is not None:
                found += self.teams.get(identity.team_id, ())
            tags = (*identity.tags, *tags)
        if self.tags:
            for tag in dict.fromkeys(tags):
                found += self.tags.get(tag, ())
        return found

    def of_model(self, model: ModelView) -> tuple[Allowance, ...]:
        """Those that count for who answers."""
        return self.models.get(model.route, ()) + self.providers.get(model.provider.provider_id, ())

    def each(self) -> Iterator[Allowance]:
        """Every one of them once."""
        yield from self.every
        for group in (self.keys, self.teams, self.tags, self.models, self.providers):
            for some in group.values():
                yield from some


EMPTY = AllowanceIndex()
"""Nothing is limited."""
