"""From rows of limits and budgets to the allowances that requests meet: who has one of its own, what roles and raises make of it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.db.models import Q
from django.utils import timezone

from routing import allowances, subjects
from routing.allowances import (
    BUDGET,
    CALLS,
    EMPTY,
    LIMIT,
    MINUTE,
    MONEY,
    MOST,
    NANO,
    REQUESTS,
    TOKENS,
    UNDER_WAY,
    Allowance,
    AllowanceIndex,
)
from routing.budgets import ROLE_FACTORS
from routing.models import Budget, BudgetRaise, RateLimit, Team
from routing.types import Identity

USUAL_ROLE = "user"
CHECKED_IN_ORDER = (allowances.DAY, allowances.HOUR, allowances.REQUEST, allowances.MONTH)
"""As seed 001 looks at them: of several that are used up, the first one's code is told. A request that is too dear by itself is
refused before anything is counted, so at the gateway's door that comes first."""
_NUMBERS = {
    "requests_per_minute": ("rpm", REQUESTS, MINUTE),
    "requests_per_day": ("rpd", REQUESTS, allowances.DAY),
    "tokens_per_minute": ("tpm", TOKENS, MINUTE),
    "tokens_per_day": ("tpd", TOKENS, allowances.DAY),
    "concurrent_requests": ("calls", CALLS, UNDER_WAY),
}


@dataclass(frozen=True, slots=True)
class Rule:
    """One number of a row. `slot` is what a subject has one of: its own rule there takes the place of the one for each."""

    slot: str
    subject: str
    """As the row says it: one of `routing.subjects`."""
    named: Any
    """Whom the row names: an id, a route, a provider's id or a tag; empty where it names nobody."""
    pattern: Allowance
    """With the row's amount, for nobody yet."""
    by_role: bool = False
    more: int = 0
    """By which it is raised now, whatever the role."""

    def of(self, name: Any = "", role: str = "") -> Allowance:
        """What it allows one subject."""
        kind = subjects.OF_EACH.get(self.subject, self.subject)
        amount = self.pattern.amount
        if self.by_role:
            amount = int(amount * ROLE_FACTORS.get(role or USUAL_ROLE, Decimal(1)))
        amount = min(MOST, amount + self.more)
        told = kind if name == "" else f"{kind}:{name}"
        return replace(self.pattern, key=f"{self.pattern.key}:{told}", subject=kind, amount=amount, whom=name)


def build(identities: Iterable[Identity], now: datetime | None = None) -> tuple[AllowanceIndex, float | None]:
    """The index, and the epoch second from which the same rows allow something else because a raise ends."""
    return _built(identities, now, Q())


def for_some(identities: Sequence[Identity], now: datetime | None = None) -> AllowanceIndex:
    """The index as these keys meet it: what others have of their own is not even read."""
    theirs = Q(client_key=None) | Q(client_key__in=[one.key_id for one in identities])
    return _built(identities, now, theirs)[0]


def _built(identities: Iterable[Identity], now: datetime | None, wanted: Q) -> tuple[AllowanceIndex, float | None]:
    now = now or timezone.now()
    named = ("client_key", "team", "provider", "model__provider")
    limits = RateLimit.objects.filter(wanted, enabled=True).select_related(*named).order_by("pk")
    budgets = list(Budget.objects.filter(wanted, enabled=True).select_related(*named).order_by("pk"))
    raises = raises_now([row.pk for row in budgets], now) if budgets else {}
    rules = [rule for row in limits for rule in limit_rules(row)]
    budgets.sort(key=lambda row: CHECKED_IN_ORDER.index(row.period))
    rules += [budget_rule(row, raises.get(row.pk, ())) for row in budgets]
    ends = [one.expires_at.timestamp() for some in raises.values() for one in some]
    return _index(rules, identities) if rules else EMPTY, min(ends, default=None)


def budget_rule(row: Budget, raises: Iterable[BudgetRaise] = ()) -> Rule:
    """What a budget's row allows; `raises` are those that hold now."""
    more = sum((one.amount for one in raises), Decimal(0))
    pattern = Allowance(
        key=f"budget:{row.pk}:{row.period}",
        unit=MONEY,
        period=row.period,
        amount=min(MOST, nano(row.amount)),
        name=str(row),
        kind=BUDGET,
        source_id=row.pk,
        subject=row.subject,
        hard=row.hard,
        strict=row.strict,
        time_zone=row.time_zone,
        when_away=row.when_away,
        away_amount=None if row.away_amount is None else min(MOST, nano(row.away_amount)),
        refuse_unpriced=row.refuse_unpriced,
        warn_percent=row.warn_percent,
    )
    return Rule(row.period, row.subject, named_by(row), pattern, row.by_role, nano(more))


def limit_rules(row: RateLimit) -> Iterator[Rule]:
    for field, (short, unit, period) in _NUMBERS.items():
        if (amount := getattr(row, field)) is not None:
            pattern = Allowance(
                key=f"limit:{row.pk}:{short}",
                unit=unit,
                period=period,
                amount=min(MOST, amount),
                name=str(row),
                kind=LIMIT,
                source_id=row.pk,
                subject=row.subject,
            )
            yield Rule(short, row.subject, named_by(row), pattern)


def named_by(row: RateLimit | Budget) -> Any:
    """Whom it counts for, as the index finds it."""
    match row.subject:
        case subjects.KEY:
            return row.client_key_id
        case subjects.TEAM:
            return row.team_id
        case subjects.PROVIDER:
            return row.provider.provider_id
        case subjects.MODEL:
            return row.model.route
        case subjects.TAG:
            return row.tag
    return ""


def nano(amount: Decimal) -> int:
    """Whole nano-USD; what is less than one is left out."""
    return int(amount * NANO)


def raises_now(budget_ids: Iterable[int], now: datetime) -> dict[int, list[BudgetRaise]]:
    """Those that hold, by the budget's id."""
    found: dict[int, list[BudgetRaise]] = defaultdict(list)
    for one in BudgetRaise.objects.filter(budget__in=list(budget_ids), expires_at__gt=now).order_by("pk"):
        found[one.budget_id].append(one)
    return found


def _index(rules: list[Rule], identities: Iterable[Identity]) -> AllowanceIndex:
    by_subject: dict[str, list[Rule]] = defaultdict(list)
    for rule in rules:
        by_subject[rule.subject].append(rule)
    own = {kind: _by_name(by_subject[kind]) for kind in (subjects.KEY, subjects.TEAM)}
    each_key, each_team = by_subject[subjects.EACH_KEY], by_subject[subjects.EACH_TEAM]
    roles = {one.key_id: one.role for one in (identities if each_key or own[subjects.KEY] else ())}
    if not each_key:
        roles = {pk: role for pk, role in roles.items() if pk in own[subjects.KEY]}
    teams = Team.objects.values_list("pk", flat=True) if each_team else own[subjects.TEAM]
    return AllowanceIndex(
        every=tuple(rule.of() for rule in by_subject[subjects.ALL]),
        keys=_WhenAsked(roles, own[subjects.KEY], each_key),
        teams=_WhenAsked(dict.fromkeys(teams, ""), own[subjects.TEAM], each_team),
        tags=_resolved(by_subject[subjects.TAG]),
        models=_resolved(by_subject[subjects.MODEL]),
        providers=_resolved(by_subject[subjects.PROVIDER]),
    )


class _WhenAsked(Mapping[int, tuple[Allowance, ...]]):
    """Allowances of each key, or of each team, made when somebody asks for them: of ten thousand keys few call at a time."""

    def __init__(self, roles: Mapping[int, str], own: Mapping[Any, Sequence[Rule]], each: Sequence[Rule]) -> None:
        self._roles, self._own, self._each = roles, own, each
        self._made: dict[int, tuple[Allowance, ...]] = {}

    def __getitem__(self, name: int) -> tuple[Allowance, ...]:
        made = self._made.get(name)
        if made is None:
            role = self._roles[name]
            made = self._made[name] = _for_one(name, self._own.get(name, ()), self._each, role)
        return made

    def __iter__(self) -> Iterator[int]:
        return iter(self._roles)

    def __len__(self) -> int:
        return len(self._roles)


def _for_one(name: int, own: Sequence[Rule], each: Sequence[Rule], role: str = "") -> tuple[Allowance, ...]:
    taken = {rule.slot for rule in own}
    rest = (rule for rule in each if rule.slot not in taken)
    return tuple(rule.of(name, role) for rule in (*own, *rest))


def _resolved(rules: Iterable[Rule]) -> dict[str, tuple[Allowance, ...]]:
    return {name: tuple(rule.of(name) for rule in some) for name, some in _by_name(rules).items()}


def _by_name(rules: Iterable[Rule]) -> dict[Any, list[Rule]]:
    found: dict[Any, list[Rule]] = defaultdict(list)
    for rule in rules:
        found[rule.named].append(rule)
    return found
