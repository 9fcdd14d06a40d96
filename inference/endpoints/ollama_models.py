"""What Ollama's clients are told of models: the names that a caller may send, with what the registry knows of each.

Sizes and digests of files that are not ours are not known: a digest then is the hash of the name, which is as stable.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any

import orjson

from inference.offered import MODEL, Name, is_route, may_use, named, usable
from inference.wire.ollama import moment
from routing.types import Identity, ModelView, Snapshot

VERSION = orjson.dumps({"version": "0.14.3", "server": "llm-gateway"})
"""Of Ollama, whose API this is. Clients compare it number by number: VS Code's wants 0.6.4, agents 0.14 and more."""
FOREVER_SECONDS = 100 * 365 * 86_400.0
"""Nothing is unloaded for its age, but for what another model needs: Ollama's clients are told a day that nobody will see."""

_FAMILY = "gateway"
"""Of a model whose architecture nobody tells."""
_IN_BILLIONS = re.compile(r"(?:^|[-_: ])(\d{1,4}(?:\.\d{1,2})?(?:x\d{1,3}(?:\.\d)?)?[bBmM])(?=$|[-_:. ])")
_QUANTISED = re.compile(
    r"(?i)(?:^|[-_:. ])(i?q[1-8]_[a-z0-9_]+|bf16|f16|fp16|f32|mxfp4|nvfp4|fp8|awq|gptq)(?=$|[-_:. ])"
)
_WORDS = {"chat": "completion", "tools": "tools", "vision": "vision", "embedding": "embedding", "reasoning": "thinking"}
_WORDS |= {"thinking": "thinking", "completion": "completion", "insert": "insert", "audio": "audio"}


def listing(identity: Identity, snapshot: Snapshot) -> bytes:
    """Each name once, as `/v1/models` has them."""
    names = [name for name in snapshot.by_name if (own := usable(name, identity, snapshot)) and not is_route(name, own)]
    names += [
        policy.name for policy in snapshot.each_policy() if policy.name not in names and may_use(policy, identity)
    ]
    found = [one for name in names if (one := named(name, identity, snapshot)) is not None]
    return orjson.dumps({"models": [_listed(one, snapshot) for one in found]})


def loaded(held: Sequence[Mapping[str, Any]], identity: Identity, snapshot: Snapshot, now: float) -> bytes:
    """Of the models that workers hold, those that a caller may use: each name once, however many hold it."""
    found: dict[str, dict[str, Any]] = {}
    for one in held:
        name = _named_as(str(one["name"]), identity, snapshot)
        if name is not None:
            found.setdefault(name.name, _loaded(name, one, now))
    return orjson.dumps({"models": list(found.values())})


def _named_as(route: str, identity: Identity, snapshot: Snapshot) -> Name | None:
    """The model of a route by the name that is listed, else by its route; None where the caller may send neither."""
    for model in snapshot.by_name.get(route, ()):
        for name in (model.model_id, route):
            if model in usable(name, identity, snapshot):
                return Name(name, MODEL, models=(model,))
    return None


def _loaded(name: Name, held: Mapping[str, Any], now: float) -> dict[str, Any]:
    size = int(held["memory_bytes"])
    return {
        "name": name.name,
        "model": name.name,
        "size": size,
        "digest": _digest(name, name.models[0]),
        "details": _details(name),
        "expires_at": moment(now + FOREVER_SECONDS),
        # How much of it lies on a GPU nobody tells; that some does is what people look for.
        "size_vram": size if held["gpu_layers"] else 0,
        "context_length": held["context_size"] or _context(name.models),
    }


def shown(name: Name, asked: str, snapshot: Snapshot) -> bytes:
    best = name.models[0] if name.models else None
    details = _details(name)
    family = details["family"] or _FAMILY
    info: dict[str, Any] = {"general.architecture": family, "general.basename": asked}
    if context := _context(name.models):
        info[f"{family}.context_length"] = context
    if best is not None and best.dimension:
        info[f"{family}.embedding_length"] = best.dimension
    told = {
        "modelfile": f"# Served by the gateway.\nFROM {asked}\n",
        "parameters": "",
        "template": "",
        "details": details,
        "model_info": info,
        "capabilities": _capabilities(name.models),
        "modified_at": moment(_created(best, snapshot)),
    }
    return orjson.dumps(told)


def _listed(name: Name, snapshot: Snapshot) -> dict[str, Any]:
    best = name.models[0] if name.models else None
    details = _details(name)
    if context := _context(name.models):
        details["context_length"] = context
    return {
        "name": name.name,
        "model": name.name,
        "modified_at": moment(_created(best, snapshot)),
        "size": _whole(best, "size"),
        "digest": _digest(name, best),
        "details": details,
        "capabilities": _capabilities(name.models),
    }


def _details(name: Name) -> dict[str, Any]:
    """What the upstream told when the model was discovered, else what its names say of it."""
    if not name.models:
        return _detail("", "", "", "")
    best = name.models[0]
    told = best.parameters.get("details")
    told = told if isinstance(told, Mapping) else {}
    path = str(best.parameters.get("model_path") or "")
    file = path.rpartition("/")[2].removesuffix(".gguf")
    names = [file, best.upstream_model_id, best.model_id]
    form = "gguf" if path.endswith(".gguf") else ""
    return _detail(
        str(told.get("family") or ""),
        str(told.get("format") or form),
        str(told.get("parameter_size") or _first(_IN_BILLIONS, names)).upper(),
        str(told.get("quantization_level") or _first(_QUANTISED, names)).upper(),
    )


def _detail(family: str, form: str, size: str, quantisation: str) -> dict[str, Any]:
    return {
        "parent_model": "",
        "format": form,
        "family": family,
        "families": [family] if family else [],
        "parameter_size": size,
        "quantization_level": quantisation,
    }


def _first(words: re.Pattern[str], names: Sequence[str]) -> str:
    return next((found.group(1) for name in names if (found := words.search(name))), "")


def _capabilities(models: Sequence[ModelView]) -> list[str]:
    """In Ollama's words, of whichever of the models may answer."""
    own = {word for model in models for name in model.capabilities if (word := _WORDS.get(name))}
    if any(model.model_type == "embedding" for model in models):
        own.add("embedding")
    if not models or any(model.model_type in ("chat", "completion", "vision") for model in models):
        own.add("completion")
    if any(model.model_type == "embedding" for model in models) and all(m.model_type == "embedding" for m in models):
        own.discard("completion")
    return sorted(own)


def _context(models: Sequence[ModelView]) -> int:
    """The least of those that may answer, so that what fits into it fits whoever does; 0 when none tells."""
    return min((model.context_window for model in models if model.context_window), default=0)


def _created(model: ModelView | None, snapshot: Snapshot) -> float:
    return snapshot.built_at if model is None else model.created


def _digest(name: Name, model: ModelView | None) -> str:
    for told in () if model is None else (model.parameters.get("digest"), model.parameters.get("sha256")):
        if isinstance(told, str) and told:
            return told
    return sha256(f"{name.group}/{name.name}".encode()).hexdigest()


def _whole(model: ModelView | None, parameter: str) -> int:
    value = None if model is None else model.parameters.get(parameter)
    return value if isinstance(value, int) and not isinstance(value, bool) else 0
