"""Which names a caller may send as `model`: policies of every kind, models, and single routes. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from providers.capabilities import serves
from routing.filters import meets, permits, permits_policy, permits_provider
from routing.policy_documents import KINDS
from routing.types import Identity, ModelView, PolicyView, Snapshot

MODEL, ROUTE = "model", "route"
GROUPS = (*KINDS, MODEL, ROUTE)
"""In the order in which people choose: what decides by itself comes first."""


@dataclass(frozen=True, slots=True)
class Name:
    """One name that may be sent. `models` are those that may answer to it, as far as they can be told beforehand."""

    name: str
    group: str
    description: str = ""
    models: Sequence[ModelView] = ()
    sees: bool = False
    """One that may answer reads pictures."""


@dataclass(frozen=True, slots=True)
class Offer:
    """`more` names besides match, and are not listed."""

    names: list[Name] = field(default_factory=list)
    more: int = 0


def usable(name: str, identity: Identity | None, snapshot: Snapshot) -> list[ModelView]:
    """The models that a caller may name so."""
    models = [model for model in snapshot.by_name.get(name, ()) if permits(identity, model)]
    return [] if models and is_barred(name, identity, snapshot) else models


def is_route(name: str, models: Sequence[ModelView]) -> bool:
    """`provider/model` answers too, but listing it beside `model` would show everything twice."""
    return all(name == model.route and name != model.model_id for model in models)


def may_use(policy: PolicyView, identity: Identity | None) -> bool:
    """By its own name, where a provider that is allowed serves it; else, unless the key is limited to other policies, because one
    of the models that it may choose is allowed."""
    if identity is None:
        return True
    models = [target.model for target in (*policy.active.targets, *policy.active.fallbacks)]
    if permits_policy(identity, (policy.name, f"{policy.kind}/{policy.name}")):
        return not models or any(permits_provider(identity, model.provider.provider_id) for model in models)
    return identity.allowed_policies is None and any(permits(identity, model) for model in models)


def is_barred(name: str, identity: Identity | None, snapshot: Snapshot) -> bool:
    """A policy that has a model's name decides about it, also for a key that is limited to other policies."""
    policy = snapshot.policies.get(name)
    if policy is None or identity is None or identity.allowed_policies is None:
        return False
    return not permits_policy(identity, (name, policy.name, f"{policy.kind}/{policy.name}"))


def for_chat(identity: Identity | None, snapshot: Snapshot, words: str, most: int) -> Offer:
    """What can be chatted with and holds all the words, `most` of each group; routes only where words ask for them."""
    wanted = words.lower().split()
    found: dict[str, list[Name]] = {group: [] for group in GROUPS}
    more = 0
    for policy in snapshot.each_policy():
        if _holds(wanted, f"{policy.name} {policy.description}") and may_use(policy, identity):
            if len(found[policy.kind]) < most:
                found[policy.kind].append(_of_policy(policy))
            else:
                more += 1
    for name in snapshot.by_name:
        if name in snapshot.policies or not _holds(wanted, name):
            continue
        models = [one for one in usable(name, identity, snapshot) if serves(one.model_type, one.capabilities, "chat")]
        group = ROUTE if is_route(name, models) else MODEL
        if not models or (group == ROUTE and not wanted):
            continue
        if len(found[group]) < most:
            found[group].append(_of_models(name, group, models))
        else:
            more += 1
    return Offer([one for group in GROUPS for one in found[group]], more)


def for_operation(operation: str, identity: Identity | None, snapshot: Snapshot, most: int) -> list[str]:
    """Names that a caller may send for an operation, models before policies."""
    names: list[str] = []
    able = [model for model in snapshot.models if _serves(model, operation)]
    for model in able:
        if len(names) == most:
            return names
        name = model.model_id if snapshot.by_name.get(model.model_id, ())[:1] == (model,) else model.route
        if permits(identity, model) and not is_barred(name, identity, snapshot):
            names.append(name)
    for policy in snapshot.each_policy() if able else ():
        if len(names) < most and may_use(policy, identity):
            views = (target.model for target in (*policy.active.targets, *policy.active.fallbacks))
            if any(_serves(view, operation) and meets(view, policy.active.document.requirements) for view in views):
                names.append(policy.name)
    return names


def _serves(model: ModelView, operation: str) -> bool:
    able = model.provider.operations
    return (able is None or operation in able) and serves(model.model_type, model.capabilities, operation)


def named(name: str, identity: Identity | None, snapshot: Snapshot) -> Name | None:
    """What a name stands for; None where the caller may not send it."""
    policy = snapshot.policies.get(name)
    if policy is not None:
        return _of_policy(policy) if may_use(policy, identity) else None
    models = usable(name, identity, snapshot)
    return _of_models(name, ROUTE if is_route(name, models) else MODEL, models) if models else None


def _holds(wanted: Sequence[str], text: str) -> bool:
    lower = text.lower()
    return all(word in lower for word in wanted)


def _of_policy(policy: PolicyView) -> Name:
    views = [target.model for target in (*policy.active.targets, *policy.active.fallbacks)]
    distinct = tuple({view.route: view for view in views}.values())
    return Name(policy.name, policy.kind, policy.description, distinct, _sees(distinct))


def _of_models(name: str, group: str, models: Sequence[ModelView]) -> Name:
    return Name(name, group, "", models, _sees(models))


def _sees(models: Sequence[ModelView]) -> bool:
    return any("vision" in model.capabilities for model in models)
