"""Nodes and logical models, in the words of a source system: who serves a node, and who could. Pure.

A node is a policy of kind `node`, a logical model one of kind `logical`; see `unwritten_nodes` for a node that is no policy.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal

from routing.decide import decide
from routing.types import (
    Candidate,
    Conditions,
    PolicyView,
    RequestFacts,
    RouteDecision,
    Snapshot,
)
from routing.unwritten_nodes import NODE, as_policy

USUAL_INPUT_TOKENS = 1000
"""Of the request that estimates are made for; the answer has half as many."""
_LONGER = {"long_context": Decimal(2), "reasoning": Decimal("1.5")}
"""How much longer a request is that demands a capability."""


@dataclass(frozen=True, slots=True)
class Selection:
    """A node's choice. `snapshot` is the one that was decided by: with a policy of that name, also for an unknown node."""

    facts: RequestFacts
    snapshot: Snapshot
    decision: RouteDecision
    ranking: tuple[Candidate, ...]
    """What the node's own strategy makes of its targets: without override and fallbacks."""

    @property
    def first(self) -> Candidate | None:
        return self.decision.candidates[0] if self.decision.candidates else None


def of_kind(kind: str, snapshot: Snapshot) -> dict[str, PolicyView]:
    return {policy.name: policy for policy in snapshot.each_policy() if policy.kind == kind}


def find(name: str, snapshot: Snapshot) -> PolicyView | None:
    """The policy that a node's name means; a node goes before another kind under the same name."""
    return snapshot.policies.get(f"{NODE}/{name}") or snapshot.policies.get(name)


def select(
    name: str,
    snapshot: Snapshot,
    conditions: Conditions,
    *,
    now: float,
    capabilities: frozenset[str] = frozenset(),
    strategy: str = "",
    max_cost_tier: str = "",
) -> Selection:
    """Who would serve the node now. Without a strategy its own decides."""
    policy = find(name, snapshot)
    if policy is None:
        policy = as_policy(name, snapshot)
        snapshot = _with(policy, snapshot)
    length = USUAL_INPUT_TOKENS * _longer(capabilities)
    facts = RequestFacts(
        model=policy.name,
        capabilities=capabilities,
        strategy=strategy,
        max_cost_tier=max_cost_tier,
        input_tokens=int(length),
        max_output_tokens=int(length / 2),
    )
    active = replace(policy.active, fallbacks=(), chains={})
    bare = replace(policy, active=active, candidate=None, override=None, stands_for="")
    return Selection(
        facts,
        snapshot,
        decide(facts, snapshot, conditions, now=now),
        decide(facts, _with(bare, snapshot), conditions, now=now).candidates,
    )


def _with(policy: PolicyView, snapshot: Snapshot) -> Snapshot:
    return replace(snapshot, policies={**snapshot.policies, policy.name: policy})


def _longer(capabilities: frozenset[str]) -> Decimal:
    times = Decimal(1)
    for capability, more in _LONGER.items():
        if capability in capabilities:
            times *= more
    return times


def name_of(candidate: Candidate) -> str:
    """What a node's people call it: the logical model, else the model's own id."""
    return candidate.via or candidate.model.model_id
