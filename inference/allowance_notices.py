"""Which limits and budgets would stop a request at this moment: for explanations, which take nothing and ask nobody."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.conf import settings

from routing import metering_store
from routing.allowances import BUDGET, REQUEST, Allowance
from routing.metering import BUDGET_EXHAUSTED, LIMIT_REACHED
from routing.metering_sharing import AWAY
from routing.types import RequestFacts, RouteDecision, Snapshot

_MOST_CANDIDATES = 50


def of(facts: RequestFacts, decision: RouteDecision, held: Snapshot) -> list[str]:
    """Sentences without amounts, which are not for every caller; none where nothing is used up."""
    index = held.allowances
    if not index:
        return []
    own = _counted(index.of_caller(facts.identity))
    routes = [(one.model.route, _counted(index.of_model(one.model))) for one in decision.candidates[:_MOST_CANDIDATES]]
    every = {one.key: one for one in (*own, *(allowance for _, some in routes for allowance in some))}
    if not every:
        return []
    try:
        used = metering_store.read(settings.REDIS_URL, list(every.values()))
    except AWAY:
        return ["limits and budgets cannot be looked up at the moment: Redis does not answer"]
    told = [
        f"refused at the moment, {_reason(one)}: {one.name}, per {one.period.replace('_', ' ')}"
        for one in own
        if _is_used_up(one, used)
    ]
    for route, some in routes:
        reasons = dict.fromkeys(_reason(one) for one in some if _is_used_up(one, used))
        told += [f"{route} is passed over at the moment: {reason}" for reason in reasons]
    return told


def _counted(some: Sequence[Allowance]) -> list[Allowance]:
    return [one for one in some if one.hard and one.period != REQUEST]


def _is_used_up(one: Allowance, used: dict[str, Any]) -> bool:
    spent, reserved, _ = used.get(one.key, (0, 0, None))
    return spent + reserved >= one.amount


def _reason(one: Allowance) -> str:
    return BUDGET_EXHAUSTED if one.kind == BUDGET else LIMIT_REACHED
