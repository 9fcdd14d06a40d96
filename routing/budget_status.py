"""Where budgets stand: used, reserved, left, where the pace leads, when they begin anew, and how past periods ended.

Figures of the period under way come from the counters that all processes share; where those do not answer, and for what is
over, from the ledger.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import islice
from typing import Any

import redis
from django.conf import settings
from django.core.cache import cache
from django.utils import timezone

from routing import allowance_rows, budget_periods, metering_store, spending, subjects
from routing.allowances import BUDGET, DAY, HOUR, MONTH, NANO, REQUEST, Allowance
from routing.budget_periods import Forecast, Span
from routing.models import Budget, ClientKey, Team
from routing.spending import Spending

log = logging.getLogger(__name__)

OK = "BUDGET_OK"
"""Of seed 001: what a budget answers that has something left; see `Allowance.exceeded_code` for the others."""
SHOWN_AT_ONCE = 100
_SETTLED = timedelta(hours=1)
"""After which nothing is added to a period that is over: what was spooled is written long before."""
_KEPT_SECONDS = 6 * 3600
PAST_SHOWN = {HOUR: 24, DAY: 14, MONTH: 12}


@dataclass(frozen=True, slots=True)
class Counted:
    """What the shared counters say of one allowance, in its unit."""

    used: int
    reserved: int
    ends: float | None = None
    """Epoch second at which the period is over; None without one."""


@dataclass(frozen=True, slots=True)
class Standing:
    """Where one subject's budget stands in the period under way; amounts in USD."""

    allowance: Allowance
    name: Any
    """Whom it counts for: an id, a route, a provider's id, a tag or nothing."""
    who: str
    """For people: `Team search`."""
    raised: Decimal
    """How much of the amount is a raise."""
    used: Decimal
    reserved: Decimal
    """Held for requests under way."""
    counted: bool
    """By the counters; else only the ledger is known, which is some seconds behind."""
    span: Span | None
    """None for a budget of single requests."""
    forecast: Forecast | None

    @property
    def amount(self) -> Decimal:
        return in_usd(self.allowance.amount)

    @property
    def left(self) -> Decimal:
        return max(Decimal(0), self.amount - self.used - self.reserved)

    @property
    def percent(self) -> float:
        """Of the amount that is used; what is reserved may come back."""
        if not self.amount:
            return 100.0
        return float(self.used / self.amount * 100)

    @property
    def code(self) -> str:
        """`BUDGET_OK`, or what a request would be told."""
        if self.span is not None and self.used >= self.amount:
            return self.allowance.exceeded_code
        return OK

    @property
    def state(self) -> str:
        """`ok`, `warning` or `spent`."""
        if self.code != OK:
            return "spent"
        return "warning" if self.span is not None and self.percent >= self.allowance.warn_percent else "ok"


@dataclass(frozen=True, slots=True)
class Status:
    """A budget's standings, those nearest to their end first; `others` have spent nothing yet, or are not shown."""

    standings: tuple[Standing, ...]
    others: int = 0

    @property
    def worst(self) -> Standing | None:
        return self.standings[0] if self.standings else None


@dataclass(frozen=True, slots=True)
class Past:
    """How a period that is over ended. Of a budget for each key or team: of the one that spent the most."""

    span: Span
    used: Decimal
    name: Any
    who: str
    spenders: int


def in_usd(nano: int) -> Decimal:
    return Decimal(nano) / NANO


class Spent:
    """Sums of the ledger, each span asked for once though many budgets want it."""

    def __init__(self) -> None:
        self._found: dict[Spending, Mapping[Any, Decimal]] = {}

    def by_name(self, subject: str, span: Span) -> Mapping[Any, Decimal]:
        return self._ask(Spending(subject, span.start, span.end))

    def of(self, subject: str, name: Any, span: Span) -> Decimal:
        each = subject in (subjects.KEY, subjects.TEAM)
        asked = Spending(subject, span.start, span.end, None if each or name == "" else name)
        return self._ask(asked).get(name, Decimal(0))

    def _ask(self, asked: Spending) -> Mapping[Any, Decimal]:
        if asked not in self._found:
            self._found[asked] = spending.of(asked)
        return self._found[asked]


def of(budget: Budget, now: datetime | None = None, most: int = SHOWN_AT_ONCE) -> Status:
    return of_many([budget], now, most)[budget.pk]


def of_many(budgets: Sequence[Budget], now: datetime | None = None, most: int = SHOWN_AT_ONCE) -> dict[int, Status]:
    """By the budget's id. The shared counters are asked once for all of them."""
    now = now or timezone.now()
    raises = allowance_rows.raises_now([budget.pk for budget in budgets], now)
    spent, found = Spent(), {}
    for budget in budgets:
        rule = allowance_rows.budget_rule(budget, raises.get(budget.pk, ()))
        found[budget.pk] = _subjects_of(budget, rule, spent, now, most)
    counted = figures([one for some, _ in found.values() for one, *_ in some if one.period != REQUEST]) or {}
    return {
        pk: _status([_standing(*one, counted, spent, now) for one in some], count)
        for pk, (some, count) in found.items()
    }


def _status(standings: list[Standing], count: int) -> Status:
    """Of a budget for `count` subjects; 0 for one that counts for a single one."""
    shown = [one for one in standings if not count or one.used or one.reserved]
    return Status(tuple(sorted(shown, key=lambda one: -one.percent)), count and count - len(shown))


def nearest(budgets: Sequence[Budget], most: int = 5, now: datetime | None = None) -> list[tuple[Budget, Standing]]:
    """Those that are nearest to their end, with who it is: for a first page."""
    found = of_many([one for one in budgets if one.enabled and one.period != REQUEST], now, most)
    standings = [(row, one) for row in budgets if row.pk in found for one in found[row.pk].standings if one.used]
    return sorted(standings, key=lambda told: -told[1].percent)[:most]


_Told = tuple[Allowance, Any, str, Decimal]


def _subjects_of(
    budget: Budget, rule: allowance_rows.Rule, spent: Spent, now: datetime, most: int
) -> tuple[list[_Told], int]:
    """Whom the budget counts for: themselves, or those of each that spent something, and how many there are beside."""
    more = in_usd(rule.more)
    if budget.subject not in subjects.OF_EACH:
        role = budget.client_key.role if budget.client_key is not None else ""
        return [(rule.of(rule.named, role), rule.named, _who(budget), more)], 0
    one = subjects.OF_EACH[budget.subject]
    own = Budget.objects.filter(enabled=True, period=budget.period, subject=one)
    without = _rows(budget.subject).exclude(pk__in=own.values(subjects.NAMED_BY[one]))
    count = without.count()
    if budget.period == REQUEST:
        return [], count
    spenders = spent.by_name(one, budget_periods.span(budget.period, now, budget.time_zone))
    chosen = sorted(spenders, key=lambda name: -spenders[name])[:most]
    found = without.in_bulk(chosen)
    if len(found) < most:  # what begins at this moment is in no ledger yet
        found |= {row.pk: row for row in without.exclude(pk__in=chosen).order_by("-pk")[: most - len(found)]}
    return [(rule.of(pk, getattr(row, "role", "")), pk, row.name, more) for pk, row in found.items()], count


def _who(budget: Budget) -> str:
    return budget.subject_name.removeprefix(f"{budget.subject} ") if budget.subject != subjects.TAG else budget.tag


def _standing(
    allowance: Allowance,
    name: Any,
    who: str,
    raised: Decimal,
    counted: Mapping[str, Counted],
    spent: Spent,
    now: datetime,
) -> Standing:
    if allowance.period == REQUEST:
        return Standing(allowance, name, who, raised, Decimal(0), Decimal(0), False, None, None)
    span = budget_periods.span(allowance.period, now, allowance.time_zone)
    seen = counted.get(allowance.key)
    if seen is not None:
        used, reserved = in_usd(seen.used), in_usd(seen.reserved)
    else:
        used, reserved = spent.of(allowance.subject, name, span), Decimal(0)
    told = budget_periods.forecast(used, in_usd(allowance.amount), span, now)
    return Standing(allowance, name, who, raised, used, reserved, seen is not None, span, told)


def figures(asked: Sequence[Allowance]) -> Mapping[str, Counted] | None:
    """What the shared counters say; of what nobody used in this period, nothing. None when they do not answer."""
    if not asked:
        return {}
    try:
        told = metering_store.read(settings.REDIS_URL, asked)
    except (redis.RedisError, OSError) as error:
        log.info("the counters of budgets do not answer: %s", type(error).__name__)
        return None
    return {key: Counted(used, reserved, ends) for key, (used, reserved, ends) in told.items()}


def of_allowances(
    asked: Iterable[Allowance],
    whom: Mapping[str, tuple[Any, str]],
    counted: Mapping[str, Counted],
    now: datetime | None = None,
) -> list[Standing]:
    """Of the budgets among what one caller meets. `whom` tells for each kind of subject its name and what people call it."""
    now, spent = now or timezone.now(), Spent()
    budgets = [one for one in asked if one.kind == BUDGET]
    raises = allowance_rows.raises_now({one.source_id for one in budgets}, now) if budgets else {}
    return [
        _standing(
            one,
            *whom.get(one.subject, (one.whom, str(one.whom))),
            sum((more.amount for more in raises.get(one.source_id, ())), Decimal(0)),
            counted,
            spent,
            now,
        )
        for one in budgets
    ]


def verdict(standings: Iterable[Standing], cost: Decimal = Decimal(0)) -> str:
    """What a request of that cost (USD) would meet: `BUDGET_OK`, or the code of the first hard budget that it would go beyond."""
    hard = [one for one in standings if one.allowance.hard]
    for one in sorted(hard, key=lambda one: allowance_rows.CHECKED_IN_ORDER.index(one.allowance.period)):
        if cost > one.left or (one.span is not None and one.used >= one.amount):
            return one.allowance.exceeded_code
    return OK


def past(budget: Budget, now: datetime | None = None, name: Any = None) -> list[Past]:
    """The periods before this one, newest first. `name` picks one key or team of a budget for each."""
    if budget.period == REQUEST:
        return []
    now = now or timezone.now()
    before = budget_periods.spans_before(budget.period, now, budget.time_zone)
    spent = Spent()
    found = [_once_over(budget, span, spent, name, now) for span in islice(before, PAST_SHOWN[budget.period])]
    return _with_names(budget, found)


def _once_over(budget: Budget, span: Span, spent: Spent, name: Any, now: datetime) -> Past:
    """A year of sums takes a while, and what is long over does not change: it is asked for once."""
    if now - span.end < _SETTLED:
        return _ended(budget, span, spent, name)
    key = f"budget-past:{budget.pk}:{budget.updated_at.timestamp()}:{span.start.timestamp():.0f}:{name}"
    found = cache.get(key)
    if found is None:
        found = _ended(budget, span, spent, name)
        cache.set(key, found, _KEPT_SECONDS)
    return found


def _ended(budget: Budget, span: Span, spent: Spent, name: Any) -> Past:
    each = subjects.OF_EACH.get(budget.subject)
    if each is None:
        named = allowance_rows.named_by(budget)
        used = spent.of(budget.subject, named, span)
        return Past(span, used, named, _who(budget), 1 if used else 0)
    by_name = spent.by_name(each, span)
    if name is None:
        name = max(by_name, key=lambda one: by_name[one], default=None)
    return Past(span, by_name.get(name, Decimal(0)), name, "", len(by_name))


def _with_names(budget: Budget, found: list[Past]) -> list[Past]:
    """Keys and teams by their names, those that are gone by their numbers."""
    if budget.subject not in subjects.OF_EACH:
        return found
    rows = _rows(budget.subject).in_bulk({one.name for one in found if one.name is not None})
    names = {None: ""} | {pk: row.name for pk, row in rows.items()}
    return [replace(one, who=names.get(one.name, f"number {one.name}")) for one in found]


def _rows(subject: str) -> Any:
    return (ClientKey if subject == subjects.EACH_KEY else Team).objects
