"""How many of a policy's targets could serve at this moment, and what is the matter with the others. Pure."""

from __future__ import annotations

from collections.abc import Container, Iterable
from dataclasses import dataclass

from routing import filters
from routing.types import Asked, Conditions, Dropped, PolicyTarget, PolicyView, RequestFacts, Snapshot

MOST_LOOKED_AT = 200
"""A policy may target every model of a registry; what thousands of them are up to is no figure for a list."""

FALLBACKS_LOOKED_AT = 20
"""A chain that goes on through other policies may hold every model too; whether somebody is left shows at its beginning."""


@dataclass(frozen=True, slots=True)
class Standing:
    """`lost` are the targets that cannot serve now; `fallbacks` counts what could in their place, of the first of the chain."""

    targets: int
    lost: tuple[Dropped, ...]
    fallbacks: int
    is_whole: bool = True
    """False where only the first of very many targets were looked at."""

    @property
    def serving(self) -> int:
        return self.targets - len(self.lost)

    @property
    def is_served(self) -> bool:
        return bool(self.serving or self.fallbacks)


def of(
    policy: PolicyView, snapshot: Snapshot, conditions: Conditions, *, now: float, without: Container[str] = ()
) -> Standing:
    """`without` are routes to be thought away: what would be left if they were switched off."""
    asked = Asked(
        RequestFacts(),
        policy.active.document.requirements,
        conditions,
        now,
        barred_types=snapshot.defaults.barred_types,
    )
    targets = policy.active.targets[:MOST_LOOKED_AT]
    lost = tuple(found for target in targets if (found := _lost(target, asked, without)) is not None)
    later = () if not snapshot.defaults.fallback_enabled else policy.active.fallbacks[:FALLBACKS_LOOKED_AT]
    own = {target.model.route for target in targets}
    fallbacks = sum(target.model.route not in own and _lost(target, asked, without) is None for target in later)
    return Standing(len(targets), lost, fallbacks, len(targets) == len(policy.active.targets))


@dataclass(frozen=True, slots=True)
class Effect:
    """What becomes of a policy when routes go: `left` of the `before` targets that serve it now, and so many fallbacks behind them."""

    policy: str
    before: int
    left: int
    fallbacks: int

    @property
    def is_fatal(self) -> bool:
        return not self.left and not self.fallbacks


def effects(snapshot: Snapshot, conditions: Conditions, routes: Container[str], *, now: float) -> list[Effect]:
    """Of taking these routes out of service: on every policy that loses a target by it, or the last fallback that serves it; the
    worst first."""
    found = []
    for policy in snapshot.each_policy():
        if not _names_one((*policy.active.targets, *policy.active.fallbacks[:FALLBACKS_LOOKED_AT]), routes):
            continue
        before = of(policy, snapshot, conditions, now=now)
        after = of(policy, snapshot, conditions, now=now, without=routes)
        if after.serving < before.serving or (before.is_served and not after.is_served):
            found.append(Effect(policy.name, before.serving, after.serving, after.fallbacks))
    return sorted(found, key=lambda one: (not one.is_fatal, one.left, one.policy))


def _names_one(targets: Iterable[PolicyTarget], routes: Container[str]) -> bool:
    return any(target.model.route in routes for target in targets)


def _lost(target: PolicyTarget, asked: Asked, without: Container[str]) -> Dropped | None:
    model = target.model
    if model.route in without:
        return Dropped(model.route, "thought_away", "it would be out of service")
    for rule in (filters.switched_off, *filters.DEMANDS, *filters.PASSING):
        if (found := rule(model, asked)) is not None:
            return found
    return None
