"""What to load: a model's registry entry reduced to the values that an engine is built from."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from inference.engine.gguf_file import GgufHeader, read_header
from inference.errors import ConfigurationError, ModelUnavailable
from providers.connection import flag
from routing.types import ModelView

BUILTIN_DEMO = "builtin:demo"
DEMO_PATH = Path(__file__).resolve().parent.parent / "demo_model" / "demo-f16.gguf"

POOLINGS = ("mean", "cls", "last")
_MEGABYTE = 1024 * 1024
_BASE_MEMORY = 48 * _MEGABYTE
_DEFAULT_CONTEXT = 4096
_DEFAULT_SEQUENCES = 8
_CACHE_ALLOWANCE = 256 * _MEGABYTE


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """One engine's worth of settings. Equal specs share one resident model.

    `context_size` is the most tokens of one request, prompt and answer together; `cache_tokens` the tokens that all
    requests at work may hold together (prefixes in common count once). None means: decided from the file when it is loaded.
    `pooling` is how token vectors become one embedding; None takes the model's own way, else the mean.
    """

    path: Path
    context_size: int | None = None
    cache_tokens: int | None = None
    threads: int = 1
    gpu_layers: int = 0
    max_sequences: int = _DEFAULT_SEQUENCES
    batch_size: int = 512
    chat_template: str | None = None
    pooling: str | None = None
    preload: bool = False
    sha256: str | None = None
    name: str = ""
    """For people: the route of the model that first asked for it. Not part of what makes specs equal."""

    @classmethod
    def from_model(cls, model: ModelView) -> ModelSpec:
        """Raise `ConfigurationError` naming the parameter that cannot work."""
        return cls.from_parameters({**model.provider.connection, **model.parameters}, name=model.route)

    @classmethod
    def from_parameters(cls, parameters: Mapping[str, Any], *, name: str = "") -> ModelSpec:
        """Read the registry's names and llama.cpp's own (`n_ctx`, `n_threads`, `n_gpu_layers`)."""
        path = str(_first(parameters, "model_path", "path") or "")
        if not path:
            raise ConfigurationError(
                "This model has no file.", detail=f"{name}: set `model_path` to a GGUF file", param="model_path"
            )
        pooling = _first(parameters, "pooling")
        if pooling is not None and pooling not in POOLINGS:
            raise ConfigurationError(
                "This model's pooling is not known.",
                detail=f"{name}: `pooling` is one of {', '.join(POOLINGS)}",
                param="pooling",
            )
        return cls(
            path=DEMO_PATH if path == BUILTIN_DEMO else Path(path).expanduser(),
            context_size=_whole(parameters, name, "context_size", "n_ctx", least=16),
            cache_tokens=_whole(parameters, name, "cache_tokens", least=16),
            threads=_whole(parameters, name, "threads", "n_threads", least=1) or default_threads(),
            gpu_layers=_whole(parameters, name, "gpu_layers", "n_gpu_layers", least=-1) or 0,
            max_sequences=_whole(parameters, name, "max_sequences", least=1, most=64) or _DEFAULT_SEQUENCES,
            batch_size=_whole(parameters, name, "batch_size", "n_batch", least=32, most=8192) or 512,
            chat_template=_first(parameters, "chat_template") or None,
            pooling=pooling,
            preload=flag(parameters, "preload", default=False),
            sha256=_first(parameters, "sha256") or None,
            name=name,
        )

    @property
    def key(self) -> ModelSpec:
        """The spec without what does not change the engine: what residency tells models apart by."""
        if not self.name and not self.preload:
            return self
        return replace(self, name="", preload=False)

    def sized(self, header: GgufHeader | None = None) -> ModelSpec:
        """The same with context and cache decided: the trained context up to 4096, the cache within a modest allowance."""
        header = header or read_header(self.path)
        trained = header.trained_context or _DEFAULT_CONTEXT
        context = self.context_size or min(trained, _DEFAULT_CONTEXT)
        wanted = context * self.max_sequences
        per_token = header.cache_bytes_per_token()
        allowance = max(_CACHE_ALLOWANCE, header.size_bytes // 4)
        affordable = max(2 * context, allowance // per_token) if per_token else wanted
        cache = self.cache_tokens or min(wanted, affordable)
        return replace(self, context_size=context, cache_tokens=max(cache, context))

    def estimated_bytes(self, header: GgufHeader | None = None) -> int:
        """Weights, cache and working memory: a sum to plan with, measured again once the model is loaded."""
        header = header or read_header(self.path)
        sized = self.sized(header)
        cache = header.cache_bytes_per_token() * (sized.cache_tokens or 0)
        working = self.batch_size * max(header.number("embedding_length"), 64) * 4 * 8
        return header.size_bytes + cache + working + _BASE_MEMORY

    def verify_checksum(self) -> None:
        """Raise `ModelUnavailable` when the registry names a sha256 that the file does not have."""
        if self.sha256 is None:
            return
        with self.path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != self.sha256.lower():
            raise ModelUnavailable(
                "The model's file is not the one that was registered.",
                detail=f"{self.path} has sha256 {found}, the registry says {self.sha256}; copy the file again or correct `sha256`",
            )


def default_threads() -> int:
    """All cores but one: with every core taken, llama.cpp's waiting threads starve the rest of the machine and each other."""
    return max(1, (os.cpu_count() or 2) - 1)


def _first(parameters: Mapping[str, Any], *names: str) -> Any:
    for name in names:
        value = parameters.get(name)
        if value is not None and value != "":
            return value
    return None


def _whole(parameters: Mapping[str, Any], model: str, *names: str, least: int, most: int = 1 << 24) -> int | None:
    value = _first(parameters, *names)
    if value is None:
        return None
    try:
        number = int(value)
    except (TypeError, ValueError):
        number = least - 1
    if isinstance(value, bool) or not least <= number <= most:
        raise ConfigurationError(
            "This model is set up with a value that cannot work.",
            detail=f"{model}: `{names[0]}` is {value!r}; a whole number from {least} to {most} is needed",
            param=names[0],
        )
    return number
