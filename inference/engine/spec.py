"""What to load: a model's registry entry reduced to the values that an engine is built from."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

from inference.engine.gguf_file import GgufHeader, checksum, read_header
from inference.engine.llama_options import LlamaOptions
from inference.engine.option_values import Options
from inference.errors import ConfigurationError, ModelUnavailable
from routing.types import ModelView

BUILTIN_DEMO = "builtin:demo"
DEMO_PATH = Path(__file__).resolve().parent.parent / "demo_model" / "demo-f16.gguf"

POOLINGS = ("mean", "cls", "last")
_SHA256 = re.compile(r"[0-9a-fA-F]{64}").fullmatch
_MEGABYTE = 1024 * 1024
_BASE_MEMORY = 48 * _MEGABYTE
_DEFAULT_CONTEXT = 4096
_DEFAULT_SEQUENCES = 16
_CACHE_ALLOWANCE = 256 * _MEGABYTE


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """One engine's worth of settings. Equal specs share one resident model.

    `context_size` is the most tokens of one request, prompt and answer together; `cache_tokens` the tokens that all
    requests at work may hold together (prefixes in common count once). None means: decided from the file when it is loaded.
    `pooling` is how token vectors become one embedding; None takes the model's own way, else the mean.
    """

    library: ClassVar[str | None] = None
    """Names the one engine for this kind of model; None leaves the choice to the preflight."""
    max_memory_bytes: ClassVar[int | None] = None

    path: Path
    context_size: int | None = None
    cache_tokens: int | None = None
    threads: int = 1
    gpu_layers: int = 0
    max_sequences: int = _DEFAULT_SEQUENCES
    max_sequences_per_key: int | None = None
    batch_size: int = 512
    chat_template: str | None = None
    pooling: str | None = None
    options: LlamaOptions = field(default_factory=LlamaOptions)
    preload: bool = False
    sha256: str | None = None
    name: str = ""
    """For people: the route of the model that first asked for it. Not part of what makes specs equal."""

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> ModelSpec:
        """From its own fields, as they come out of a message."""
        return cls(**{**fields, "path": Path(fields["path"]), "options": LlamaOptions.of(fields["options"])})

    @classmethod
    def from_model(cls, model: ModelView) -> ModelSpec:
        """Raise `ConfigurationError` naming the parameter that cannot work."""
        return cls.from_parameters({**model.provider.connection, **model.parameters}, name=model.route)

    @classmethod
    def from_parameters(cls, parameters: Mapping[str, Any], *, name: str = "") -> ModelSpec:
        """Read the registry's names and llama.cpp's own (`n_ctx`, `n_threads`, `n_gpu_layers`)."""
        path = Options(parameters, name).text("model_path", "path")
        if not path:
            raise ConfigurationError(
                "This model has no file.", detail=f"{name}: set `model_path` to a GGUF file", param="model_path"
            )
        return cls.read(Options(parameters, name), DEMO_PATH if path == BUILTIN_DEMO else Path(path).expanduser(), name)

    @classmethod
    def read(cls, read: Options, path: Path, name: str = "") -> ModelSpec:
        return cls(
            path=path,
            context_size=read.whole("context_size", "n_ctx", least=16),
            cache_tokens=read.whole("cache_tokens", least=16),
            threads=read.whole("threads", "n_threads", least=1) or default_threads(),
            gpu_layers=read.whole("gpu_layers", "n_gpu_layers", least=-1) or 0,
            max_sequences=read.whole("max_sequences", least=1, most=64) or _DEFAULT_SEQUENCES,
            max_sequences_per_key=read.whole("max_sequences_per_key", least=1, most=64),
            batch_size=read.whole("batch_size", "n_batch", least=32, most=8192) or 512,
            chat_template=read.text("chat_template"),
            pooling=read.one_of(POOLINGS, "pooling"),
            options=LlamaOptions.read(read),
            preload=read.flag("preload", default=False),
            sha256=read.matching(_SHA256, "a checksum of 64 hexadecimal digits", "sha256"),
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
        per_token = int(header.cache_bytes_per_token() * self.options.cache_share)
        allowance = max(_CACHE_ALLOWANCE, header.size_bytes // 4)
        affordable = max(2 * context, allowance // per_token) if per_token else wanted
        cache = self.cache_tokens or min(wanted, affordable)
        return replace(self, context_size=context, cache_tokens=max(cache, context))

    def estimated_bytes(self, header: GgufHeader | None = None) -> int:
        """Weights, cache and working memory: a sum to plan with, measured again once the model is loaded."""
        header = header or read_header(self.path)
        sized = self.sized(header)
        cache = int(header.cache_bytes_per_token() * self.options.cache_share * (sized.cache_tokens or 0))
        adapters = sum(path.stat().st_size for path in self.options.files if path.is_file())
        working = self.batch_size * max(header.number("embedding_length"), 64) * 4 * 8
        return header.size_bytes + adapters + cache + working + _BASE_MEMORY

    def device_bytes(self) -> int:
        """llama.cpp's layers on a GPU are the operator's to count."""
        return 0

    def verify_checksum(self) -> None:
        """Raise `ModelUnavailable` when the registry names a sha256 that the file does not have."""
        if self.sha256 is None:
            return
        found = checksum(read_header(self.path).shards)
        if found != self.sha256.lower():
            raise ModelUnavailable(
                "The model's file is not the one that was registered.",
                detail=f"{self.path} has sha256 {found}, the registry says {self.sha256}; copy the file again or correct `sha256`",
            )


def default_threads() -> int:
    """All cores but one: with every core taken, llama.cpp's waiting threads starve the rest of the machine and each other."""
    return max(1, (os.cpu_count() or 2) - 1)
