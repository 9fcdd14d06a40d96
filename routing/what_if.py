"""What would have to change for one model to be the one that is chosen. Pure.

First the reasons that keep it out, every one and not only the first, each with its remedy. Then, if another model still comes
before it, the single changes of which any one would bring it to the front. Each is tried by deciding again, so what is proposed
is what helps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from decimal import Decimal
from itertools import islice
from typing import Any

from providers.cost_tiers import COST_TIERS, rank
from routing import filters, remedies
from routing.decide import decide, demanded
from routing.remedies import MODEL, POLICY, PROVIDER, REQUEST, Remedy, World
from routing.types import (
    Asked,
    Candidate,
    Conditions,
    Dropped,
    ModelView,
    PolicyTarget,
    PolicyVersionView,
    RequestFacts,
    RouteDecision,
    Snapshot,
)

_HALVINGS = 12
_FEW = 200
_IN_FRONT = 50


def what_would_change(
    facts: RequestFacts,
    snapshot: Snapshot,
    conditions: Conditions,
    wanted: str,
    *,
    now: float,
    chance: float = 0.0,
    decision: RouteDecision | None = None,
) -> dict[str, Any]:
    """`wanted` is `provider/model`, or a model id, which means the provider that is asked first for it.

    `steps` are needed all, in their order; of the `ways` any one suffices after them. `wins` tells whether deciding again, with
    all steps and one of the ways, did choose the model. `decision` saves making it: with everything, and with fallback on.
    """
    trying = _Trying(now, chance)
    model = next(iter(snapshot.by_name.get(wanted, ())), None)
    if model is None:
        return _not_there(wanted, snapshot)
    # Without fallback all but the first are dropped; what is compared here is who that first one is.
    world = World(facts, snapshot, conditions)
    if not snapshot.defaults.fallback_enabled:
        world, decision = world.defaults(fallback_enabled=True), None
    if decision is None:
        decision = trying.decide(world)
    world = _narrowed(replace(world, policy=decision.policy), model, decision)
    verdict, place = _verdict(model, decision)
    steps, world = trying.steps(model, world, decision)
    after = trying.decide(world)
    then = _place(model, after)
    ways = [] if then in (None, 1) else list(trying.ways(model, world, after))
    return {
        "wanted": model.route,
        "verdict": verdict,
        "place": place,
        "sentence": _sentence(model, verdict, decision, steps, then, after),
        "steps": steps,
        "place_then": then,
        "ways": [{"remedy": way.sentence, "where": way.where} for way in ways],
        "wins": then == 1 or bool(ways),
    }


def _narrowed(world: World, model: ModelView, decision: RouteDecision) -> World:
    """Of a large pool, the models that a change may concern: those in front, and the wanted one with its provider's others."""
    if len(decision.candidates) + len(decision.dropped) <= _FEW:
        return world
    keep = {model.route, *(one.model.route for one in decision.candidates[:_IN_FRONT])}
    others = (one.route for one in world.snapshot.models if one.provider.provider_id == model.provider.provider_id)
    return world.only(keep.union(islice(others, _FEW)))


class _Trying:
    """Decides again and again, at one moment."""

    def __init__(self, now: float, chance: float) -> None:
        self.now, self.chance = now, chance

    def decide(self, world: World) -> RouteDecision:
        """With every model named, however many there are."""
        return decide(world.facts, world.snapshot, world.conditions, now=self.now, chance=self.chance, everything=True)

    def wins(self, model: ModelView, world: World) -> bool:
        decision = decide(world.facts, world.snapshot, world.conditions, now=self.now, chance=self.chance)
        return _place(model, decision) == 1

    def steps(self, model: ModelView, world: World, decision: RouteDecision) -> tuple[list[dict[str, Any]], World]:
        """The remedies of all reasons, and the world with them."""
        told: list[dict[str, Any]] = []
        if _place(model, decision) is not None:
            return told, world
        world = self._mean_it(model, world, decision, told)
        while True:
            asked = demanded(world.facts, world.snapshot, world.conditions, now=self.now)
            reasons = [] if asked is None else list(_reasons(_of(model, world), asked))
            if not reasons:
                reasons = [one for one in self.decide(world).dropped if one.route == model.route]
            already = {step["reason"] for step in told}
            reasons = [reason for reason in reasons if reason.reason not in already]
            if not reasons or asked is None:
                return told, world
            for reason in reasons:
                remedy = remedies.remedy(reason, _of(model, world), asked, world)
                told.append(_step(reason, remedy))
                if remedy is not None and remedy.apply is not None:
                    world = remedy.apply(world)

    def _mean_it(self, model: ModelView, world: World, decision: RouteDecision, told: list[dict[str, Any]]) -> World:
        """The request, or the policy that it names, made to mean the model at all."""
        if any(one.route == model.route for one in decision.dropped):
            return world
        if decision.policy:
            why = Dropped(model.route, "not_a_target", f"it is no target of the policy {decision.policy}")
            remedy = Remedy(
                f"Add {model.route!r} to the targets of the policy {decision.policy}.", POLICY, _adding(model)
            )
        else:
            why = Dropped(model.route, "other_model", f"the request asks for {world.facts.model!r}")
            remedy = _asking_for(model)
        told.append(_step(why, remedy))
        return remedy.apply(world) if remedy.apply is not None else world

    def ways(self, model: ModelView, world: World, decision: RouteDecision) -> Iterator[Remedy]:
        """Single changes that bring the model, which may serve, before the one that is first now."""
        first = decision.candidates[0]
        own = next(one for one in decision.candidates if one.model.route == model.route)
        for lever in _LEVERS:
            for remedy in lever(self, own, first, world):
                if remedy.apply is not None and self.wins(model, remedy.apply(world)):
                    yield remedy
                    break


# --- Levers: each yields changes from the smallest to the largest; the first that helps is told ------------------------------


def _prefer(trying: _Trying, own: Candidate, first: Candidate, world: World) -> Iterator[Remedy]:
    route = own.model.route
    yield Remedy(f"Send preferred_model {route!r}.", REQUEST, lambda world: world.ask(preferred_model=route))


def _name(trying: _Trying, own: Candidate, first: Candidate, world: World) -> Iterator[Remedy]:
    if not world.policy:
        yield _asking_for(own.model)


def _override(trying: _Trying, own: Candidate, first: Candidate, world: World) -> Iterator[Remedy]:
    if first.role == "override":
        yield Remedy(
            f"Let the override of the policy {world.policy} name {own.model.route!r}.",
            POLICY,
            lambda world: world.override(own.model),
        )


def _target(trying: _Trying, own: Candidate, first: Candidate, world: World) -> Iterator[Remedy]:
    if not world.policy:
        return
    route = own.model.route
    if own.role == "fallback":
        yield Remedy(f"Make {route!r} a target of the policy {world.policy}.", POLICY, _adding(own.model))
    yield Remedy(
        f"Put {route!r} first among the targets of the policy {world.policy}.", POLICY, _putting_first(own.model)
    )
    yield Remedy(f"Make {route!r} the only target of the policy {world.policy}.", POLICY, _putting_only(own.model))


def _priority(trying: _Trying, own: Candidate, first: Candidate, world: World) -> Iterator[Remedy]:
    provider, least = own.model.provider, first.model.provider.priority
    for number in (least, least - 1):
        if number < provider.priority:
            yield Remedy(
                f"Lower the priority number of the provider {provider.provider_id} from {provider.priority} to {number}.",
                PROVIDER,
                _with_priority(provider.provider_id, number),
            )


def _tier(trying: _Trying, own: Candidate, first: Candidate, world: World) -> Iterator[Remedy]:
    for tier in reversed(COST_TIERS[: rank(own.model.cost_tier)]):
        yield Remedy(
            f"Declare its cost tier {tier} instead of {own.model.cost_tier}.", MODEL, _with_tier(own.model.route, tier)
        )


def _price(trying: _Trying, own: Candidate, first: Candidate, world: World) -> Iterator[Remedy]:
    """A price that is half of what is known to be too dear may be too cheap to be smallest: the limit is what is told."""
    theirs, ours = first.model.prices, own.model.prices
    if theirs.input_cost_per_million is None or theirs.output_cost_per_million is None:
        limit = None
    else:
        limit = theirs.input_cost_per_million + theirs.output_cost_per_million
    if not limit:
        return
    known = ours.input_cost_per_million is not None and ours.output_cost_per_million is not None
    now = (ours.input_cost_per_million or Decimal(0)) + (ours.output_cost_per_million or Decimal(0))
    if known and now < limit:
        return
    share = Decimal("0.999") * limit
    prices = replace(ours, input_cost_per_million=Decimal(0), output_cost_per_million=share)
    was = f"{now:f}" if known else "unknown"
    yield Remedy(
        f"Its price of a million tokens in and a million out ({was} {ours.currency}) would have to be below {limit:f}.",
        MODEL,
        lambda world: world.model(own.model.route, prices=prices),
    )


def _preferences(trying: _Trying, own: Candidate, first: Candidate, world: World) -> Iterator[Remedy]:
    asked = demanded(world.facts, world.snapshot, world.conditions, now=trying.now)
    missing = frozenset() if asked is None else asked.requirements.preferred_capabilities - own.model.capabilities
    if missing:
        yield Remedy(
            f"Declare what the policy {world.policy} prefers: {', '.join(sorted(missing))}.",
            MODEL,
            lambda world: world.model(own.model.route, capabilities=own.model.capabilities | missing),
        )


def _failures(trying: _Trying, own: Candidate, first: Candidate, world: World) -> Iterator[Remedy]:
    condition = world.conditions.of(own.model.route)
    if condition.recent_failures or (condition.success_rate is not None and condition.success_rate < 1):
        yield Remedy(
            "Let it recover: without failures its score would be high enough.",
            remedies.HEALTH,
            lambda world: world.condition(own.model.route, recent_failures=0, success_rate=1.0),
        )


def _latency(trying: _Trying, own: Candidate, first: Candidate, world: World) -> Iterator[Remedy]:
    route, now = own.model.route, world.conditions.of(own.model.route).latency_seconds
    if not now or not trying.wins(own.model, world.condition(route, latency_seconds=1e-6)):
        return
    fast, slow = 1e-6, now
    for _ in range(_HALVINGS):
        middle = (fast + slow) / 2
        if trying.wins(own.model, world.condition(route, latency_seconds=middle)):
            fast = middle
        else:
            slow = middle
    enough = float(f"{fast:.2g}")
    for seconds in (enough, fast):
        yield Remedy(
            f"It would have to answer in {seconds:.2g} s instead of {now:.2g} s.",
            remedies.HEALTH,
            _with_latency(route, seconds),
        )


_LEVERS: tuple[Callable[[_Trying, Candidate, Candidate, World], Iterator[Remedy]], ...] = (
    _override,
    _name,
    _prefer,
    _target,
    _priority,
    _tier,
    _price,
    _preferences,
    _failures,
    _latency,
)


# --- Changes ----------------------------------------------------------------------------------------------------------------


def _asking_for(model: ModelView) -> Remedy:
    return Remedy(
        f"Ask for the model {model.route!r}.", REQUEST, lambda world: replace(world.ask(model=model.route), policy="")
    )


def _adding(model: ModelView) -> Callable[[World], World]:
    return _changing_targets(lambda targets: (*targets, PolicyTarget(model, order=len(targets))))


def _putting_first(model: ModelView) -> Callable[[World], World]:
    def first(targets: tuple[PolicyTarget, ...]) -> tuple[PolicyTarget, ...]:
        own = next((target for target in targets if target.model.route == model.route), PolicyTarget(model))
        others = [target for target in targets if target.model.route != model.route]
        return tuple(replace(target, order=order) for order, target in enumerate([own, *others]))

    return _changing_targets(first)


def _putting_only(model: ModelView) -> Callable[[World], World]:
    return _changing_targets(lambda targets: (PolicyTarget(model),))


def _changing_targets(
    change: Callable[[tuple[PolicyTarget, ...]], tuple[PolicyTarget, ...]],
) -> Callable[[World], World]:
    def changed(version: PolicyVersionView) -> PolicyVersionView:
        return replace(version, targets=change(version.targets))

    return lambda world: world.version(changed)


def _with_priority(provider_id: str, number: int) -> Callable[[World], World]:
    return lambda world: world.provider(provider_id, priority=number)


def _with_tier(route: str, tier: str) -> Callable[[World], World]:
    return lambda world: world.model(route, cost_tier=tier)


def _with_latency(route: str, seconds: float) -> Callable[[World], World]:
    return lambda world: world.condition(route, latency_seconds=seconds)


# --- What is told -----------------------------------------------------------------------------------------------------------


def unknown(wanted: str) -> dict[str, Any]:
    """What is told of a name that nothing has, or that the caller must not know."""
    return _away(wanted, "unknown", f"No model is named {wanted!r}.")


def _away(wanted: str, verdict: str, sentence: str, steps: Sequence[dict[str, Any]] = ()) -> dict[str, Any]:
    return {
        "wanted": wanted,
        "verdict": verdict,
        "place": None,
        "sentence": sentence,
        "steps": list(steps),
        "place_then": None,
        "ways": [],
        "wins": False,
    }


def _not_there(wanted: str, snapshot: Snapshot) -> dict[str, Any]:
    off = snapshot.out_of_service.get(wanted, ())
    if off:
        steps = [_step(off[0], Remedy("Switch it on again.", MODEL))]
        return _away(wanted, "disabled", f"{off[0].route} is switched off: {off[0].detail}.", steps)
    if wanted in snapshot.policies:
        return _away(wanted, "unknown", f"{wanted!r} is a policy; name one of its models.")
    return unknown(wanted)


def _reasons(model: ModelView, asked: Asked) -> Iterator[Dropped]:
    for rule in (*filters.LASTING, *filters.PASSING):
        reason = rule(model, asked)
        if reason is not None:
            yield reason


def _of(model: ModelView, world: World) -> ModelView:
    return next((one for one in world.snapshot.by_name.get(model.route, ()) if one.route == model.route), model)


def _place(model: ModelView, decision: RouteDecision) -> int | None:
    routes = [candidate.model.route for candidate in decision.candidates]
    return routes.index(model.route) + 1 if model.route in routes else None


def _verdict(model: ModelView, decision: RouteDecision) -> tuple[str, int | None]:
    place = _place(model, decision)
    if place is not None:
        return ("first" if place == 1 else "outranked"), place
    dropped = any(one.route == model.route for one in decision.dropped)
    return ("dropped" if dropped else "not_meant"), None


def _step(reason: Dropped, remedy: Remedy | None) -> dict[str, Any]:
    return {
        "reason": reason.reason,
        "detail": reason.detail,
        "remedy": "" if remedy is None else remedy.sentence,
        "where": "" if remedy is None else remedy.where,
    }


def _sentence(
    model: ModelView,
    verdict: str,
    decision: RouteDecision,
    steps: list[dict[str, Any]],
    then: int | None,
    after: RouteDecision,
) -> str:
    if verdict == "first":
        return f"{model.route} is the one that is chosen."
    if verdict == "outranked":
        first = decision.candidates[0].model.route
        return f"{model.route} may serve, and {first} comes first by {_how(decision)}.{_by_chance(model, decision)}"
    count = f"{len(steps)} reasons keep" if len(steps) > 1 else "One reason keeps"
    told = f"{count} {model.route} out."
    if then == 1:
        return f"{told} Without {'them' if len(steps) > 1 else 'it'} it would be chosen."
    if then is not None:
        return f"{told} Then {after.candidates[0].model.route} would still come first by {_how(after)}."
    return told


def _how(decision: RouteDecision) -> str:
    role = decision.candidates[0].role
    return {"override": "an override", "preferred": "the request's preference"}.get(role, decision.strategy)


def _by_chance(model: ModelView, decision: RouteDecision) -> str:
    own = next(one for one in decision.candidates if one.model.route == model.route)
    share = dict(own.parts).get("share")
    return "" if share is None else f" The draw falls on it for {share:.1%} of the requests."
