"""Which models may serve a request, in which order, and why every other one may not. Pure: time and chance are arguments."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

from providers.capabilities import TASKS
from providers.cost_tiers import rank
from routing import estimates, filters, rollout, strategies
from routing.policy_documents import PolicyDocument, Requirements
from routing.types import (
    NOMINAL,
    Asked,
    Candidate,
    Conditions,
    Dropped,
    PolicyTarget,
    PolicyVersionView,
    PolicyView,
    RequestFacts,
    RouteDecision,
    Snapshot,
)

_NEAREST = 3


@dataclass(frozen=True, slots=True)
class _Plan:
    """Whom a request means: models to order, and what is asked when none of them answers."""

    document: PolicyDocument
    targets: Sequence[PolicyTarget]
    version: PolicyVersionView | None = None
    policy: PolicyView | None = None
    bucket: int | None = None
    notices: tuple[str, ...] = ()


def decide(
    facts: RequestFacts, snapshot: Snapshot, conditions: Conditions = NOMINAL, *, now: float, chance: float = 0.0
) -> RouteDecision:
    """Candidates for the request, best first.

    A policy's name means the policy; `model_id` every provider that lists it, `provider/model_id` that one; no name any model.
    A name that nothing has gives no candidate and the nearest names.
    """
    plan = _plan(facts, snapshot)
    if plan is None:
        return RouteDecision(
            candidates=(),
            dropped=snapshot.out_of_service.get(facts.model, ()),
            reason=f"no model is named {facts.model!r}",
            nearest=nearest(facts, snapshot),
        )
    asked = _asked(facts, plan, snapshot, conditions, now, chance)
    return _Deciding(asked, plan, snapshot).decision()


def demanded(
    facts: RequestFacts, snapshot: Snapshot, conditions: Conditions = NOMINAL, *, now: float, chance: float = 0.0
) -> Asked | None:
    """What is demanded of a model that is to serve the request; None when nothing has the name that was asked for."""
    plan = _plan(facts, snapshot)
    return None if plan is None else _asked(facts, plan, snapshot, conditions, now, chance)


class _Deciding:
    """One decision on its way: who is in, in order, and who is out."""

    def __init__(self, asked: Asked, plan: _Plan, snapshot: Snapshot) -> None:
        self.asked, self.plan, self.snapshot = asked, plan, snapshot
        self.strategy = strategies.find(asked.facts.strategy or plan.document.strategy)
        self.in_order: list[Candidate] = []
        self.dropped: dict[str, Dropped] = {}
        self.notices = list(plan.notices)
        self.windows: list[int] = []

    def decision(self) -> RouteDecision:
        self._prefer()
        chosen = self._ordered(self._eligible(self.plan.targets, "target"))
        self._add(chosen[:1])
        if chosen and self.plan.version is not None:
            self._add(self._eligible(self.plan.version.chains.get(chosen[0].via, ()), "fallback"))
        self._add(chosen[1:])
        if self.plan.version is not None:
            self._add(self._eligible(self.plan.version.fallbacks, "fallback"))
        if self.asked.facts.operation == "embeddings":
            self._keep_embeddings_alike()
        self._leave_out_for_now()
        if not self.snapshot.defaults.fallback_enabled:
            self._keep_only_the_first()
        return self._told()

    def _prefer(self) -> None:
        """What goes before the policy's own choice: an override, then the caller's wish."""
        plan, facts = self.plan, self.asked.facts
        override = plan.policy.override if plan.policy is not None else None
        if override is not None and (override.expires_at is None or override.expires_at > self.asked.now):
            asked = replace(self.asked, requirements=_under_override(plan.document.requirements, facts))
            self._add(self._ordered(self._eligible(override.targets, "override", asked)))
        if facts.preferred_model and facts.preferred_model != facts.model:
            wanted = _targets_named(facts.preferred_model, self.snapshot)
            if not wanted:
                self.notices.append(f"the preferred model {facts.preferred_model!r} does not exist")
                return
            asked = replace(
                self.asked, allowed_by_name=_allows(facts, self.snapshot.policies.get(facts.preferred_model))
            )
            found = self._ordered(self._eligible(wanted, "preferred", asked))
            if not found:
                self.notices.append(f"the preferred model {facts.preferred_model!r} may not serve this request")
            self._add(found)

    def _eligible(self, targets: Iterable[PolicyTarget], role: str, asked: Asked | None = None) -> list[Candidate]:
        asked = asked or self.asked
        found = []
        for target in targets:
            model = target.model
            if model.route in self.dropped:
                continue
            if model.context_window is not None:
                self.windows.append(model.context_window)
            refused = filters.refusal(model, asked)
            if refused is not None:
                if all(model.route != candidate.model.route for candidate in self.in_order):
                    self.dropped[model.route] = refused
                continue
            found.append(
                Candidate(
                    model,
                    via=target.via,
                    role=role,
                    weight=target.weight,
                    order=target.order,
                    estimate=estimates.cost(self.asked.facts, model, self.asked.conditions.of(model.route)),
                )
            )
        return found

    def _ordered(self, candidates: list[Candidate]) -> list[Candidate]:
        return self.strategy.order(candidates, self.asked) if len(candidates) > 1 else candidates

    def _add(self, candidates: Iterable[Candidate]) -> None:
        there = {candidate.model.route for candidate in self.in_order}
        for candidate in candidates:
            if candidate.model.route not in there:
                there.add(candidate.model.route)
                self.in_order.append(candidate)

    def _keep_embeddings_alike(self) -> None:
        """Vectors of another model cannot be compared: the first choice decides, also while it is out of service."""
        if not self.in_order:
            return
        first = self.in_order[0].model
        mixed = self.plan.document.mixed_embeddings
        kept = []
        for candidate in self.in_order:
            model = candidate.model
            same_model = model.model_id == first.model_id
            length_known = None not in (model.dimension, first.dimension)
            if (same_model or mixed) and (model.dimension == first.dimension if length_known else same_model):
                kept.append(candidate)
            else:
                why = f"its vectors are not those of {first.route}"
                self.dropped[model.route] = Dropped(model.route, "other_embedding", why)
        self.in_order = kept

    def _leave_out_for_now(self) -> None:
        kept = []
        for candidate in self.in_order:
            route = candidate.model.route
            out = filters.out_for_now(candidate.model, self.asked)
            if out is not None:
                self.dropped[route] = out
            elif self.asked.conditions.of(route).breaker != "closed":
                kept.append(replace(candidate, needs_permit=True))
            else:
                kept.append(candidate)
        self.in_order = kept

    def _keep_only_the_first(self) -> None:
        for candidate in self.in_order[1:]:
            route = candidate.model.route
            self.dropped[route] = Dropped(route, "fallback_off", "fallback is switched off")
        del self.in_order[1:]

    def _told(self) -> RouteDecision:
        plan, facts, policy = self.plan, self.asked.facts, self.plan.policy
        return RouteDecision(
            candidates=tuple(self.in_order),
            dropped=tuple(self.dropped.values()),
            reason=_reason(self.in_order, self.strategy.label),
            policy=policy.name if policy is not None else "",
            version=plan.version.number if plan.version is not None else 0,
            bucket=plan.bucket,
            strategy=self.strategy.name,
            confidence=1.0 if self.in_order else 0.0,
            notices=tuple(self.notices),
            retries=plan.document.retries,
            timeouts=plan.document.timeouts,
            steady_bytes=min(self.windows, default=None),
            varies=self.strategy.varies
            or self.asked.max_cost is not None
            or plan.bucket is not None
            or bool(facts.images)
            or facts.input_tokens is not None,
        )


# --- Whom a request means ---------------------------------------------------------------------------------------------------


def _plan(facts: RequestFacts, snapshot: Snapshot) -> _Plan | None:
    """None when nothing has the name."""
    if not facts.model:
        return _plan_without_name(facts, snapshot)
    policy = snapshot.policies.get(facts.model)
    if policy is not None:
        return _plan_of(policy, facts)
    models = snapshot.by_name.get(facts.model)
    if models:
        targets = tuple(PolicyTarget(model, order=order) for order, model in enumerate(models))
        return _Plan(PolicyDocument(), targets)
    task = facts.model.removeprefix("task/")
    if task in TASKS:
        return _Plan(PolicyDocument(requirements=Requirements(task=task)), any_model(snapshot))
    if snapshot.defaults.unknown_model == "default" and facts.model not in snapshot.out_of_service:
        plan = _plan_without_name(facts, snapshot)
        return replace(plan, notices=(f"no model is named {facts.model!r}; the default serves",))
    return None


def _plan_without_name(facts: RequestFacts, snapshot: Snapshot) -> _Plan:
    if facts.task:
        policy = snapshot.policies.get(f"task/{facts.task}")
        if policy is not None:
            return _plan_of(policy, facts)
        return _Plan(PolicyDocument(requirements=Requirements(task=facts.task)), any_model(snapshot))
    policy = snapshot.policies.get(snapshot.defaults.default_policy)
    return _plan_of(policy, facts) if policy is not None else _Plan(PolicyDocument(), any_model(snapshot))


def _plan_of(policy: PolicyView, facts: RequestFacts) -> _Plan:
    version, bucket = policy.active, None
    if policy.candidate is not None:
        bucket = rollout.bucket(policy.salt, known_by(facts))
        if bucket < policy.share:
            version = policy.candidate
    return _Plan(version.document, version.targets, version, policy, bucket)


def known_by(facts: RequestFacts) -> bytes:
    """What a caller is told apart by when only some get another version: its session, else its key."""
    if facts.session_id:
        return b"session:" + facts.session_id.encode("utf-8", "surrogatepass")
    return b"key:" + (facts.identity.prefix.encode() if facts.identity is not None else b"")


def any_model(snapshot: Snapshot) -> tuple[PolicyTarget, ...]:
    return tuple(PolicyTarget(model, order=order) for order, model in enumerate(snapshot.models))


def _targets_named(name: str, snapshot: Snapshot) -> tuple[PolicyTarget, ...]:
    policy = snapshot.policies.get(name)
    if policy is not None:
        return policy.active.targets
    return tuple(PolicyTarget(model, order=order) for order, model in enumerate(snapshot.by_name.get(name, ())))


def _asked(
    facts: RequestFacts, plan: _Plan, snapshot: Snapshot, conditions: Conditions, now: float, chance: float
) -> Asked:
    limits = [facts.max_cost, plan.document.max_cost, snapshot.defaults.max_cost]
    return Asked(
        facts=facts,
        requirements=_together(plan.document.requirements, facts),
        conditions=conditions,
        now=now,
        chance=chance,
        max_cost=_lowest(limits),
        barred_types=snapshot.defaults.barred_types,
        allowed_by_name=_allows(facts, plan.policy),
    )


def _allows(facts: RequestFacts, policy: PolicyView | None) -> bool:
    return policy is not None and filters.permits_name(facts.identity, policy.name)


def _under_override(policy: Requirements, facts: RequestFacts) -> Requirements:
    """Whoever overrides a policy has judged that the model is able enough. Where data may go, and what this request needs,
    still holds."""
    return _together(Requirements(local_only=policy.local_only, data_tags=policy.data_tags), facts)


def _together(policy: Requirements, facts: RequestFacts) -> Requirements:
    """What the policy and the request demand: both."""
    tiers = [tier for tier in (policy.max_cost_tier, facts.max_cost_tier) if tier]
    return replace(
        policy,
        capabilities=policy.capabilities | facts.capabilities,
        vision=policy.vision or facts.require_vision or facts.images > 0,
        max_cost_tier=min(tiers, key=rank, default=""),
        task=facts.task or policy.task,
        local_only=policy.local_only or facts.local_only,
        data_tags=policy.data_tags | facts.data_tags,
    )


def _lowest(limits: Iterable[Decimal | None]) -> Decimal | None:
    return min((limit for limit in limits if limit is not None), default=None)


def nearest(facts: RequestFacts, snapshot: Snapshot) -> tuple[str, ...]:
    """Names like the one asked for, among those that this caller may use."""
    names = [
        name
        for name, models in snapshot.by_name.items()
        if any(filters.permits(facts.identity, model) for model in models)
    ]
    names += [policy.name for policy in snapshot.policies.values() if filters.permits_name(facts.identity, policy.name)]
    return tuple(difflib.get_close_matches(facts.model, dict.fromkeys(names), n=_NEAREST, cutoff=0.5))


def _reason(candidates: Sequence[Candidate], strategy: str) -> str:
    if not candidates:
        return "no model may serve this request"
    first = candidates[0]
    how = {
        "override": "an override puts it first",
        "preferred": "the request prefers it",
        "fallback": "it is the first fallback that may serve",
    }.get(first.role, f"first by {strategy.lower()}" if len(candidates) > 1 else "the only one that may serve")
    return f"{first.model.route}: {how}"
