"""`GET /v1/models` and `/v1/models/{id}`: the names that this caller may send as `model`."""

from __future__ import annotations

from typing import Any

import orjson

from inference.errors import ModelNotFound
from inference.wire.openai import model_object
from routing.filters import permits
from routing.types import Identity, ModelView, Snapshot


def listing(identity: Identity, snapshot: Snapshot) -> bytes:
    """Each model once under its own name, with every provider that has it; best priority first decides what is told of it."""
    objects = [
        _object(name, usable)
        for name, models in snapshot.by_name.items()
        if (usable := [model for model in models if permits(identity, model)]) and not _is_route(name, usable)
    ]
    return orjson.dumps({"object": "list", "data": objects})


def one(name: str, identity: Identity, snapshot: Snapshot) -> bytes:
    usable = [model for model in snapshot.by_name.get(name, ()) if permits(identity, model)]
    if not usable:
        raise ModelNotFound(f"The model '{name[:200]}' does not exist or you do not have access to it.", param="model")
    return orjson.dumps(_object(name, usable))


def _is_route(name: str, models: list[ModelView]) -> bool:
    """`provider/model` answers too, but listing it beside `model` would show everything twice."""
    return all(name == model.route and name != model.model_id for model in models)


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
