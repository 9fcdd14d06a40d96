"""`GET /v1/models` and `/v1/models/{id}`: the names that this caller may send as `model`, policies' names among them.

In OpenAI's form, or in that of Anthropic's clients, which ask for pages.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs

import orjson

from inference.errors import ModelNotFound
from inference.offered import is_route, may_use, usable
from inference.wire.anthropic_listings import model_of, page_of
from inference.wire.openai import model_object
from routing.types import Identity, ModelView, PolicyView, Snapshot


def listing(identity: Identity, snapshot: Snapshot) -> bytes:
    """Each model once under its own name, with every provider that has it; best priority first decides what is told of it."""
    return orjson.dumps({"object": "list", "data": _objects(identity, snapshot)})


def page(identity: Identity, snapshot: Snapshot, query: bytes) -> bytes:
    """The same names in Anthropic's form. Raises `InvalidRequest` for a page that there cannot be."""
    asked = {name: values[-1] for name, values in parse_qs(query.decode("latin-1")).items()}
    return orjson.dumps(page_of([model_of(told) for told in _objects(identity, snapshot)], asked))


def one_for_anthropic(name: str, identity: Identity, snapshot: Snapshot) -> bytes:
    return orjson.dumps(model_of(_one(name, identity, snapshot)))


def _objects(identity: Identity, snapshot: Snapshot) -> list[dict[str, Any]]:
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
    return objects


def one(name: str, identity: Identity, snapshot: Snapshot) -> bytes:
    return orjson.dumps(_one(name, identity, snapshot))


def _one(name: str, identity: Identity, snapshot: Snapshot) -> dict[str, Any]:
    policy = snapshot.policies.get(name)
    if policy is not None and may_use(policy, identity):
        return _policy_object(policy, snapshot)
    models = usable(name, identity, snapshot)
    if not models:
        raise ModelNotFound(f"The model '{name[:200]}' does not exist or you do not have access to it.", param="model")
    return _object(name, models)


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
