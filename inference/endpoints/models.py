"""`GET /v1/models` and `/v1/models/{id}`: the names that this caller may send as `model`, policies' names among them."""

from __future__ import annotations

from typing import Any

import orjson

from inference.errors import ModelNotFound
from inference.wire.openai import model_object
from routing.filters import permits, permits_policy, permits_provider
from routing.types import Identity, ModelView, PolicyView, Snapshot


def listing(identity: Identity, snapshot: Snapshot) -> bytes:
    """Each model once under its own name, with every provider that has it; best priority first decides what is told of it."""
    objects = [
        _object(name, usable)
        for name, models in snapshot.by_name.items()
        if (usable := [model for model in models if permits(identity, model)])
        and not _is_route(name, usable)
        and not _is_barred(name, identity, snapshot)
    ]
    listed = {told["id"] for told in objects}
    objects += [
        _policy_object(policy, snapshot)
        for policy in snapshot.each_policy()
        if policy.name not in listed and _may_use(policy, identity)
    ]
    return orjson.dumps({"object": "list", "data": objects})


def one(name: str, identity: Identity, snapshot: Snapshot) -> bytes:
    policy = snapshot.policies.get(name)
    if policy is not None and _may_use(policy, identity):
        return orjson.dumps(_policy_object(policy, snapshot))
    usable = [model for model in snapshot.by_name.get(name, ()) if permits(identity, model)]
    if not usable or _is_barred(name, identity, snapshot):
        raise ModelNotFound(f"The model '{name[:200]}' does not exist or you do not have access to it.", param="model")
    return orjson.dumps(_object(name, usable))


def _is_route(name: str, models: list[ModelView]) -> bool:
    """`provider/model` answers too, but listing it beside `model` would show everything twice."""
    return all(name == model.route and name != model.model_id for model in models)


def _may_use(policy: PolicyView, identity: Identity) -> bool:
    """By its own name, where a provider that is allowed serves it; else, unless the key is limited to other policies, because one
    of the models that it may choose is allowed."""
    models = [target.model for target in (*policy.active.targets, *policy.active.fallbacks)]
    if permits_policy(identity, (policy.name, f"{policy.kind}/{policy.name}")):
        return not models or any(permits_provider(identity, model.provider.provider_id) for model in models)
    return identity.allowed_policies is None and any(permits(identity, model) for model in models)


def _is_barred(name: str, identity: Identity, snapshot: Snapshot) -> bool:
    """A policy that has a model's name decides about it, also for a key that is limited to other policies."""
    policy = snapshot.policies.get(name)
    if policy is None or identity.allowed_policies is None:
        return False
    return not permits_policy(identity, (name, policy.name, f"{policy.kind}/{policy.name}"))


def _policy_object(policy: PolicyView, snapshot: Snapshot) -> dict[str, Any]:
    return model_object(policy.name, int(snapshot.built_at), "policy", type=policy.kind, description=policy.description)


def _object(name: str, models: list[ModelView]) -> dict[str, Any]:
    best = models[0]
    return model_object(
        name,
        best.created,
        best.provider.provider_id,
        providers=[model.provider.provider_id for model in models],
        type=best.model_type,
        context_window=best.context_window,
        capabilities=sorted(best.capabilities),
    )
