"""What serves here, in the words of a source system's info command: the backend, whether it has a key, and the models of two roles.

Keys are only ever SET or NOT SET; a text that stands where a key should be counts as none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from providers.connection import flag, text
from providers.placeholders import looks_like_placeholder
from routing.live_models import public_url
from routing.types import ModelView, ProviderView, Snapshot

BACKENDS = ("llama_cpp", "openai", "transformers_gpu")
"""Values of MODEL_BACKEND."""
_TYPES = {"transformers": "transformers_gpu"}
"""Our provider types that have another name there."""
HEAVY, LIGHT = "heavy", "light"
NOT_CONFIGURED = "not configured"

Line = tuple[str, str]


class UnknownBackend(ValueError):
    """MODEL_BACKEND says none of the three."""


@dataclass(frozen=True, slots=True)
class ProviderFacts:
    provider_id: str
    provider_type: str
    lines: tuple[Line, ...]


@dataclass(frozen=True, slots=True)
class Facts:
    lines: tuple[Line, ...]
    """Those of the source system."""
    providers: tuple[ProviderFacts, ...]
    warnings: tuple[str, ...] = ()


def facts(snapshot: Snapshot, told: str = "") -> Facts:
    """`told` is the value of MODEL_BACKEND, if there is one. Raises `UnknownBackend`."""
    wanted = told.strip().lower()
    if wanted and wanted not in BACKENDS:
        raise UnknownBackend(f"MODEL_BACKEND is {told!r}; it is one of: {', '.join(BACKENDS)}.")
    heavy, light = _served_by(HEAVY, snapshot), _served_by(LIGHT, snapshot)
    of_role = heavy or light
    used = _backend_of(of_role.provider) if of_role is not None else ""
    lines: list[Line] = [("Model Backend", used or wanted or NOT_CONFIGURED)]
    lines.append(("API Key", "NOT SET" if of_role is None else _key(of_role.provider)))
    lines += [("Heavy Model", _name(heavy)), ("Light Model", _name(light))]
    warnings = []
    if used and wanted and used != wanted:
        warnings.append(f"MODEL_BACKEND says {wanted}, but the policies {HEAVY} and {LIGHT} are served by {used}.")
    return Facts(tuple(lines), tuple(_facts_of(one, snapshot) for one in snapshot.providers.values()), tuple(warnings))


def _served_by(role: str, snapshot: Snapshot) -> ModelView | None:
    policy = snapshot.policies.get(role)
    return policy.active.targets[0].model if policy is not None and policy.active.targets else None


def _backend_of(provider: ProviderView) -> str:
    return _TYPES.get(provider.provider_type, provider.provider_type)


def _name(model: ModelView | None) -> str:
    return NOT_CONFIGURED if model is None else model.model_id


def _key(provider: ProviderView) -> str:
    good = any(not looks_like_placeholder(key.secret.reveal()) for key in provider.keys)
    return "SET" if good else "NOT SET"


def _facts_of(provider: ProviderView, snapshot: Snapshot) -> ProviderFacts:
    models = [model for model in snapshot.models if model.provider is provider]
    lines: list[Line] = []
    if provider.runs_in == "web":
        lines += [
            ("Endpoint", public_url(text(provider.connection, "base_url")) or "none"),
            ("API Key", _key(provider)),
        ]
        if not flag(provider.connection, "verify_tls", default=True):
            lines.append(("TLS", "NOT VERIFIED"))
    lines += [(_LABELS[name], value) for name, value in _said(provider.connection)]
    lines.append(("Models", ", ".join(model.model_id for model in models) or "none"))
    if provider.runs_in == "worker":
        lines += [(f"File of {model.model_id}", _file(model)) for model in models]
    return ProviderFacts(provider.provider_id, provider.provider_type, tuple(lines))


_LABELS = {
    "context_size": "Context Size",
    "threads": "Threads",
    "gpu_layers": "GPU Layers",
    "preload": "Preload",
    "max_memory_gb": "GPU Memory (GB)",
    "device": "Device",
    "dtype": "Torch Type",
    "torch_dtype": "Torch Type",
    "url_rule": "URL Rule",
}


def _said(connection: Mapping[str, Any]) -> list[Line]:
    return [(name, text(connection, name)) for name in _LABELS if text(connection, name)]


def _file(model: ModelView) -> str:
    path = text(model.parameters, "model_path") or text(model.provider.connection, "model_path")
    of_library = model.provider.provider_type in _TYPES
    if of_library and not path:
        return f"{model.upstream_model_id}, from the hub cache of the worker"
    if not path or path.startswith("builtin:"):
        return path or "none"
    there = Path(path).expanduser().is_dir() if of_library else Path(path).is_file()
    return path if there else f"{path} (MISSING)"
