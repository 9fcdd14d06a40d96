"""Which models may serve a request, in which order, and why every other one may not. Pure: time and chance are arguments."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

from providers.capabilities import TASK_OF_OPERATION, TASKS, TEXT_OPERATIONS
from providers.cost_tiers import rank
from routing import estimates, filters, rollout, strategies, unwritten_nodes
from routing.nearest import nearest
from routing.policy_documents import PolicyDocument, Requirements
from routing.policy_limits import limited
from routing.shortlists import ENOUGH, LeftOut, any_model, candidate_of, shorten
from routing.types import (
    NOMINAL,
    Asked,
    Candidate,
    Conditions,
    Dropped,
    Identity,
    ModelView,
    PolicyTarget,
    PolicyVersionView,
    PolicyView,
    RequestFacts,
    RouteDecision,
    Snapshot,
)

_SURE_OF_A_FALLBACK = 0.5
_IS_NOT, _MAY_NOT = "does not exist", "may not serve this request"


@dataclass(frozen=True, slots=True)
class _Plan:
    """Whom a request means: models to order, and what is asked when none of them answers."""

    document: PolicyDocument
    targets: Sequence[PolicyTarget]
    version: PolicyVersionView | None = None
    policy: PolicyView | None = None
    bucket: int | None = None
    notices: tuple[str, ...] = ()
    withheld: tuple[PolicyTarget, ...] = ()
    """Fallbacks that only policies lead to which the client key is not allowed."""


def decide(
    facts: RequestFacts,
    snapshot: Snapshot,
    conditions: Conditions = NOMINAL,
    *,
    now: float,
    chance: float = 0.0,
    everything: bool = False,
) -> RouteDecision:
    """Candidates for the request, best first.

    A policy's name means the policy; `model_id` every provider that lists it, `provider/model_id` that one; no name any model.
    A name that nothing has gives no candidate and the nearest names.

    Of a pool of very many models the best are candidates and the first of the others are named with their reasons; the rest is
    counted in `unnamed`. `everything` names all of them, for whoever asks about one; the first candidates are the same.
    """
    facts = _as_meant(facts, snapshot)
    plan = _plan(facts, snapshot)
    if plan is None:
        return RouteDecision(
            candidates=(),
            dropped=snapshot.out_of_service.get(facts.model, ()),
            reason=f"no model is named {facts.model!r}",
            nearest=nearest(facts, snapshot),
            confidence=0.0,
        )
    asked = _asked(facts, plan, snapshot, conditions, now, chance)
    return _Deciding(asked, plan, snapshot, everything).decision()


def demanded(
    facts: RequestFacts, snapshot: Snapshot, conditions: Conditions = NOMINAL, *, now: float, chance: float = 0.0
) -> Asked | None:
    """What is demanded of a model that is to serve the request; None when nothing has the name that was asked for."""
    facts = _as_meant(facts, snapshot)
    plan = _plan(facts, snapshot)
    return None if plan is None else _asked(facts, plan, snapshot, conditions, now, chance)


class _Deciding:
    """One decision on its way: who is in, in order, and who is out."""

    def __init__(self, asked: Asked, plan: _Plan, snapshot: Snapshot, everything: bool) -> None:
        self.asked, self.plan, self.snapshot, self.everything = asked, plan, snapshot, everything
        self.strategy = strategies.find(asked.facts.strategy or plan.document.strategy)
        self.in_order: list[Candidate] = []
        self.left_out = LeftOut(None if everything else ENOUGH)
        self.notices = list(plan.notices)
        self.windows: list[int] = []

    def decision(self) -> RouteDecision:
        self._prefer()
        chosen = self._ranked(self.plan.targets, "target")
        self._add(chosen[:1])
        if chosen and self.plan.version is not None:
            self._add(self._eligible(self.plan.version.chains.get(chosen[0].via, ()), "fallback"))
        self._add(chosen[1:])
        if self.plan.version is not None:
            self._add(self._eligible(self.plan.version.fallbacks, "fallback"))
        for target in self.plan.withheld:
            why = "only a policy that the client key is not allowed leads to it"
            self.left_out.add(Dropped(target.model.route, "policy_not_allowed", why))
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
            self._add(self._ranked(override.targets, "override", asked))
        if facts.preferred_model and facts.preferred_model != facts.model:
            self._prefer_as_wished(facts.preferred_model)

    def _prefer_as_wished(self, name: str) -> None:
        policy = _policy(name, self.snapshot)
        if policy is not None:
            targets: Sequence[PolicyTarget] = policy.active.targets
            requirements = _both(self.asked.requirements, policy.active.document.requirements)
        else:
            targets = _targets_of(name, self.snapshot)
            requirements = self.asked.requirements
        if not targets:
            self.notices.append(f"the preferred model {name!r} {_IS_NOT}")
            return
        allowed, barred = _standing(self.asked.facts.identity, policy, name, self.snapshot)
        asked = replace(self.asked, requirements=requirements, allowed_by_name=allowed, barred_policy=barred)
        found = self._ranked(targets, "preferred", asked)
        if not found:
            # To a client key, what it is not allowed does not exist.
            permits = (filters.permits(asked.facts.identity, target.model) for target in targets)
            known = allowed or (not barred and any(permits))
            self.notices.append(f"the preferred model {name!r} {_MAY_NOT if known else _IS_NOT}")
        self._add(found)

    def _ranked(self, targets: Sequence[PolicyTarget], role: str, asked: Asked | None = None) -> list[Candidate]:
        """Those that may serve, best first."""
        asked = asked or self.asked
        if len(targets) <= ENOUGH or self.everything:
            return self.strategy.order(self._eligible(targets, role, asked), asked)
        shortened = shorten(targets, asked, self.strategy, self.snapshot, self.left_out)
        return self._no_more_than_enough(self.strategy.order(self._of_right_size(shortened, role, asked), asked))

    def _no_more_than_enough(self, found: list[Candidate]) -> list[Candidate]:
        """Of an order that had to see everybody, as many as have to be looked at further."""
        if len(found) <= ENOUGH or self.asked.facts.operation == "embeddings":
            return found
        able = 0
        for place, candidate in enumerate(found):
            able += filters.out_for_now(candidate.model, self.asked) is None
            if able == ENOUGH:
                self.left_out.unnamed += len(found) - place - 1
                return found[: place + 1]
        return found

    def _eligible(self, targets: Iterable[PolicyTarget], role: str, asked: Asked | None = None) -> list[Candidate]:
        asked = asked or self.asked
        found = []
        for target in targets:
            refused = filters.fixed_refusal(target.model, asked)
            if refused is None:
                found.append(target)
            else:
                self.left_out.add(refused)
        return self._of_right_size(found, role, asked)

    def _of_right_size(self, targets: Iterable[PolicyTarget], role: str, asked: Asked) -> list[Candidate]:
        found = []
        for target in targets:
            model = target.model
            if model.context_window is not None:
                self.windows.append(model.context_window)
            refused = filters.refusal_of_size(model, asked)
            if refused is None:
                found.append(candidate_of(target, role, self._estimate(model)))
            else:
                self.left_out.add(refused)
        return found

    def _estimate(self, model: ModelView) -> Decimal | None:
        return estimates.cost(self.asked.facts, model, self.asked.conditions.of(model.route))

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
                self.left_out.add(Dropped(model.route, "other_embedding", why))
        self.in_order = kept

    def _leave_out_for_now(self) -> None:
        kept = []
        for candidate in self.in_order:
            route = candidate.model.route
            out = filters.out_for_now(candidate.model, self.asked)
            if out is not None:
                self.left_out.add(out)
            elif self.asked.conditions.of(route).breaker != "closed":
                kept.append(replace(candidate, needs_permit=True))
            else:
                kept.append(candidate)
        self.in_order = kept

    def _keep_only_the_first(self) -> None:
        for candidate in self.in_order[1:]:
            route = candidate.model.route
            self.left_out.add(Dropped(route, "fallback_off", "fallback is switched off"))
        del self.in_order[1:]

    def _told(self) -> RouteDecision:
        plan, facts = self.plan, self.asked.facts
        # Of a policy that is closed to the caller no header and no explanation tells: what was dropped names it, for the operator.
        policy, version = (None, None) if self.asked.barred_policy else (plan.policy, plan.version)
        return RouteDecision(
            candidates=tuple(self.in_order),
            dropped=self.left_out.named(without=(candidate.model.route for candidate in self.in_order)),
            unnamed=self.left_out.unnamed,
            reason=_reason(self.in_order, self.strategy.name),
            policy=policy.name if policy is not None else "",
            version=version.number if version is not None else 0,
            bucket=plan.bucket,
            strategy=self.strategy.name,
            confidence=self._confidence(),
            notices=tuple(self.notices),
            retries=plan.document.retries,
            timeouts=plan.document.timeouts,
            cache=plan.document.cache,
            steady_bytes=min(self.windows, default=None),
            varies=self.strategy.varies
            or self.asked.max_cost is not None
            or plan.bucket is not None
            or bool(facts.images)
            or facts.input_tokens is not None,
        )

    def _confidence(self) -> float:
        """0 to 1: points where the strategy counts them, and no doubt where somebody or a rule has decided."""
        if not self.in_order:
            return 0.0
        first = self.in_order[0]
        if first.role == "fallback":
            return _SURE_OF_A_FALLBACK
        if first.role == "target" and first.score is not None and self.strategy.full_score is not None:
            return round(min(1.0, first.score / self.strategy.full_score), 4)
        return 1.0


# --- Whom a request means ---------------------------------------------------------------------------------------------------


def _as_meant(facts: RequestFacts, snapshot: Snapshot) -> RequestFacts:
    """A model that is named and preferred as well is a wish: others may serve when it cannot."""
    if facts.model and facts.model == facts.preferred_model and _policy(facts.model, snapshot) is None:
        return replace(facts, model="") if facts.model in snapshot.by_name else facts
    return facts


def _plan(facts: RequestFacts, snapshot: Snapshot) -> _Plan | None:
    """None when nothing has the name."""
    if not facts.model:
        return _plan_without_name(facts, snapshot)
    policy = _policy(facts.model, snapshot)
    if policy is not None:
        return _plan_of(policy, facts, snapshot)
    targets = _targets_of(facts.model, snapshot)
    if targets:
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
        policy = _policy(f"task/{facts.task}", snapshot)
        if policy is not None:
            return _plan_of(policy, facts, snapshot)
        return _Plan(PolicyDocument(requirements=Requirements(task=facts.task)), any_model(snapshot))
    # What the registry has a policy for, embeddings go by: their vectors must not depend on which model comes first today.
    names = [f"task/{task}"] if (task := TASK_OF_OPERATION.get(facts.operation)) else []
    if facts.operation in TEXT_OPERATIONS:  # a default for chats would keep pictures and sound from whoever makes them
        names.append(snapshot.defaults.default_policy)
    policy = next((found for name in names if (found := _policy(name, snapshot)) is not None), None)
    return _plan_of(policy, facts, snapshot) if policy is not None else _Plan(PolicyDocument(), any_model(snapshot))


def _policy(name: str, snapshot: Snapshot) -> PolicyView | None:
    policy = snapshot.policies.get(name)
    if policy is None:
        return unwritten_nodes.stand_in(snapshot) if name == unwritten_nodes.ANY_NODE else None
    if not policy.stands_for:
        return policy
    return snapshot.policies.get(policy.stands_for, policy)


def _plan_of(policy: PolicyView, facts: RequestFacts, snapshot: Snapshot) -> _Plan:
    version, bucket = policy.active, None
    if policy.candidate is not None:
        bucket = rollout.bucket(policy.salt, known_by(facts))
        if bucket < policy.share:
            version = policy.candidate
    plan = _Plan(version.document, version.targets, version, policy, bucket)
    if facts.identity is None or facts.identity.allowed_policies is None:
        return plan
    return _within_limits(plan, version, policy, snapshot, facts.identity)


def _within_limits(
    plan: _Plan, version: PolicyVersionView, policy: PolicyView, snapshot: Snapshot, identity: Identity
) -> _Plan:
    """What the policy chooses serves whoever may name it. Where its choice fails, other policies' chains are open only to those
    who may name those, too."""
    held = limited(policy, version, snapshot, identity)
    kept = {target.model.route for target in (*held.targets, *held.fallbacks)}
    return replace(plan, version=held, withheld=tuple(one for one in version.fallbacks if one.model.route not in kept))


def known_by(facts: RequestFacts) -> bytes:
    """What a caller is told apart by when only some get another version: its session, else its key."""
    if facts.session_id:
        return b"session:" + facts.session_id.encode("utf-8", "surrogatepass")
    return b"key:" + (facts.identity.prefix.encode() if facts.identity is not None else b"")


def _targets_of(name: str, snapshot: Snapshot) -> tuple[PolicyTarget, ...]:
    return tuple(PolicyTarget(model, order=order) for order, model in enumerate(snapshot.by_name.get(name, ())))


def _asked(
    facts: RequestFacts, plan: _Plan, snapshot: Snapshot, conditions: Conditions, now: float, chance: float
) -> Asked:
    limits = [facts.max_cost, plan.document.max_cost, snapshot.defaults.max_cost]
    allowed, barred = _standing(facts.identity, plan.policy, facts.model, snapshot)
    return Asked(
        facts=facts,
        requirements=_both(plan.document.requirements, _demanded(facts)),
        conditions=conditions,
        now=now,
        chance=chance,
        max_cost=min((limit for limit in limits if limit is not None), default=None),
        barred_types=snapshot.defaults.barred_types,
        allowed_by_name=allowed,
        barred_policy=barred,
    )


def _standing(identity: Identity | None, policy: PolicyView | None, sent: str, snapshot: Snapshot) -> tuple[bool, str]:
    """Whether a policy opens all that it chooses to the client key, and its name where the key is limited to other ones."""
    if policy is None:
        return False, ""
    if allows(identity, policy, sent, snapshot):
        return True, ""
    limited_to_others = identity is not None and identity.allowed_policies is not None
    return False, policy.name if limited_to_others else ""


def allows(identity: Identity | None, policy: PolicyView, sent: str, snapshot: Snapshot) -> bool:
    """Whether the client key is allowed a policy, under its own name, with or without its kind, or under the name that was
    sent. A name that nothing has is none of the policy that serves in its place."""
    named = _policy(sent, snapshot)
    names = [policy.name, f"{policy.kind}/{policy.name}"]
    if named is not None and named.name == policy.name:
        names.append(sent)
    return filters.permits_policy(identity, names)


def _demanded(facts: RequestFacts) -> Requirements:
    """What the request itself demands."""
    return Requirements(
        capabilities=facts.capabilities,
        vision=facts.require_vision or facts.images > 0,
        max_cost_tier=facts.max_cost_tier,
        task=facts.task,
        local_only=facts.local_only,
        data_tags=facts.data_tags,
    )


def _under_override(policy: Requirements, facts: RequestFacts) -> Requirements:
    """Whoever overrides a policy has judged that the model is able enough. Where data may go, and what this request needs,
    still holds."""
    return _both(Requirements(local_only=policy.local_only, data_tags=policy.data_tags), _demanded(facts))


_NOTHING = Requirements()


def _both(first: Requirements, second: Requirements) -> Requirements:
    """What two sides demand together. Of two tasks, which no model can be told to serve at once, the second's counts."""
    if second == _NOTHING:
        return first
    if first == _NOTHING:
        return second
    tiers = [tier for tier in (first.max_cost_tier, second.max_cost_tier) if tier]
    return Requirements(
        capabilities=first.capabilities | second.capabilities,
        preferred_capabilities=first.preferred_capabilities | second.preferred_capabilities,
        min_context_window=max(first.min_context_window, second.min_context_window),
        max_cost_tier=min(tiers, key=rank, default=""),
        reasoning=first.reasoning or second.reasoning,
        vision=first.vision or second.vision,
        task=second.task or first.task,
        local_only=first.local_only or second.local_only,
        data_tags=first.data_tags | second.data_tags,
    )


def _reason(candidates: Sequence[Candidate], strategy: str) -> str:
    if not candidates:
        return "no model may serve this request"
    first = candidates[0]
    how = {
        "override": "an override puts it first",
        "preferred": "the request prefers it",
        "fallback": "it is the first fallback that may serve",
    }.get(first.role, f"first by {strategy}" if len(candidates) > 1 else "the only one that may serve")
    return f"{first.model.route}: {how}"
