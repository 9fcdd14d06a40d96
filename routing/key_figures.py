"""What a page of client keys shows beside the rows: which limits each meets, and how much of its budget is spent."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from routing import allowance_rows, budget_status, subjects
from routing.allowances import BUDGET, CALLS, DAY, MINUTE, REQUEST, REQUESTS, TOKENS, Allowance
from routing.budget_status import Counted, in_usd
from routing.models import ClientKey

_SHORT = {
    (REQUESTS, MINUTE): "rpm",
    (TOKENS, MINUTE): "tpm",
    (REQUESTS, DAY): "rpd",
    (TOKENS, DAY): "tpd",
}
_ORDER = ("rpm", "tpm", "at once", "rpd", "tpd")


@dataclass(frozen=True, slots=True)
class Figures:
    """Of one key; its team's and everybody's limits are not its own."""

    limits: tuple[tuple[int, str], ...] = ()
    """Amounts and their short names: rpm, tpm, rpd, tpd, at once."""
    budget: Allowance | None = None
    """Of its budgets the one of which most is spent."""
    used: Decimal | None = None
    """USD; None when the shared counters do not answer."""

    @property
    def amount(self) -> Decimal:
        return in_usd(self.budget.amount) if self.budget is not None else Decimal(0)

    @property
    def percent(self) -> float:
        return float(self.used / self.amount * 100) if self.used is not None and self.amount else 0.0


def of_page(keys: Sequence[ClientKey]) -> dict[int, Figures]:
    """By the key's id; as many questions for one key as for all of a page."""
    identities = [key.identity for key in keys]
    index = allowance_rows.for_some(identities)
    own = {one.key_id: [each for each in index.of_caller(one) if each.subject == subjects.KEY] for one in identities}
    budgets = [each for some in own.values() for each in some if each.kind == BUDGET and each.period != REQUEST]
    counted = budget_status.figures(budgets)
    return {key_id: _figures(some, counted) for key_id, some in own.items()}


def _figures(own: Iterable[Allowance], counted: Mapping[str, Counted] | None) -> Figures:
    limits, standings = [], []
    for one in own:
        if one.kind == BUDGET:
            if one.period != REQUEST:
                standings.append((one, _used(one, counted)))
        else:
            limits.append(
                (one.amount, "at once" if one.unit == CALLS else _SHORT.get((one.unit, one.period), one.unit))
            )
    limits.sort(key=lambda told: _ORDER.index(told[1]) if told[1] in _ORDER else len(_ORDER))
    budget, used = max(standings, key=_share, default=(None, None))
    return Figures(tuple(limits), budget, used)


def _used(one: Allowance, counted: Mapping[str, Counted] | None) -> Decimal | None:
    if counted is None:
        return None
    seen = counted.get(one.key)
    return Decimal(0) if seen is None else in_usd(seen.used)


def _share(standing: tuple[Allowance, Decimal | None]) -> Decimal:
    one, used = standing
    return (used or Decimal(0)) / max(in_usd(one.amount), Decimal("0.000000001"))
