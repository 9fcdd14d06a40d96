"""`GET /v1/models` and `/v1/models/{id}`: the names that this caller may send as `model`, policies' names among them."""

from __future__ import annotations

from typing import Any

import orjson

from inference.errors import ModelNotFound
from inference.offered import is_route, may_use, usable
from inference.wire.openai import model_object
from routing.types import Identity, ModelView, PolicyView, Snapshot


def listing(identity: Identity, snapshot: Snapshot) -> bytes:
    """Each model once under its own name, with every provider that has it; best priority first decides what is told of it."""
    objects = [
        _object(name, models)
        for name in snapshot.by_name
        if (models := usable(name, identity, snapshot)) and not is_route(name, models)
    ]
    listed = {told["id"] for told in objects}
    objects += [
        _policy_object(policy, snapshot)
        for policy in snapshot.each_policy()
        if policy.name not in listed and may_use(policy, identity)
    ]
    return orjson.dumps({"object": "list", "data": objects})


def one(name: str, identity: Identity, snapshot: Snapshot) -> bytes:
    policy = snapshot.policies.get(name)
    if policy is not None and may_use(policy, identity):
        return orjson.dumps(_policy_object(policy, snapshot))
    models = usable(name, identity, snapshot)
    if not models:
        raise ModelNotFound(f"The model '{name[:200]}' does not exist or you do not have access to it.", param="model")
    return orjson.dumps(_object(name, models))


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
