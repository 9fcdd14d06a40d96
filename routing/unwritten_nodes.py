"""Nodes that nobody wrote down: each chooses among all logical models, or among all models where there are none. Pure."""

from __future__ import annotations

from routing.policy_documents import LOGICAL, PolicyDocument, Target
from routing.resolving import meeting
from routing.shortlists import any_model
from routing.types import PolicyTarget, PolicyVersionView, PolicyView, Snapshot

NODE = "node"
ANY = "*"
ANY_NODE = f"{NODE}/{ANY}"
"""What to ask `decide` for in the name of any of them, where there are logical models."""
STRATEGY = "balanced"


def stand_in(snapshot: Snapshot) -> PolicyView | None:
    """What `ANY_NODE` means; None without logical models."""
    found = snapshot.memory.get(stand_in)
    if found is None:
        found = snapshot.memory[stand_in] = (as_policy(ANY, snapshot) if _logical(snapshot) else None,)
    return found[0]  # type: ignore[no-any-return]


def as_policy(name: str, snapshot: Snapshot) -> PolicyView:
    logical = _logical(snapshot)
    targets = _targets(logical) if logical else any_model(snapshot)
    document = PolicyDocument(targets=(Target(kind=LOGICAL),) if logical else (), strategy=STRATEGY)
    chains = {one.name: meeting(one.active.document.requirements, one.active.fallbacks) for one in logical}
    return PolicyView(name, NODE, PolicyVersionView(0, document, targets, (), chains))


def _logical(snapshot: Snapshot) -> list[PolicyView]:
    return [policy for policy in snapshot.each_policy() if policy.kind == LOGICAL]


def _targets(logical: list[PolicyView]) -> tuple[PolicyTarget, ...]:
    found: dict[str, PolicyTarget] = {}
    for policy in logical:
        for target in meeting(policy.active.document.requirements, policy.active.targets):
            found.setdefault(target.model.route, PolicyTarget(target.model, policy.name, order=len(found)))
    return tuple(found.values())
