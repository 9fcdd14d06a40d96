"""What to load with PyTorch's transformers: a model's registry entry reduced to the values that an engine is built from.

A model is a directory as the Hugging Face libraries write it, or a hub id whose files are already in this machine's hub cache.
Nothing is ever downloaded here. Only files are read, torch is not needed: plans are made before anybody imports it.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from inference.engine.option_values import Options
from inference.engine.spec import POOLINGS, default_threads
from inference.engine.transformers_files import ModelFiles
from inference.errors import ConfigurationError, ModelUnavailable
from routing.types import ModelView

NAME = "transformers"
DTYPES = {"auto": 0, "float32": 4, "float16": 2, "bfloat16": 2}
"""Bytes of one number; `auto` is as the weights are stored."""
TASKS = ("auto", "generate", "embed")

_DEVICE = re.compile(r"auto|cpu|mps|cuda(:[0-9]{1,2})?", re.IGNORECASE).fullmatch
_DEVICES = "one of auto, cpu, mps, cuda or cuda:0"
_HUB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*").fullmatch
_MEGABYTE = 1024 * 1024
_GIGABYTE = 1024 * _MEGABYTE
_BASE_MEMORY = 450 * _MEGABYTE
"""What a process takes that has imported torch and transformers and loaded nothing."""
_DEFAULT_CONTEXT = 4096
_DEFAULT_SEQUENCES = 8
_CACHE_ALLOWANCE = 256 * _MEGABYTE


@dataclass(frozen=True, slots=True)
class TransformersSpec:
    """One engine's worth of settings. Equal specs share one resident model.

    `context_size` is the most tokens of one request, prompt and answer together; `cache_tokens` the tokens that all requests at
    work may hold together. None means: decided from the directory when it is loaded. `max_memory_bytes` is the most that this
    model may take on its device, and that all resident models of this library may take there together.
    """

    library: ClassVar[str] = NAME

    path: Path
    device: str = "auto"
    dtype: str = "auto"
    max_memory_bytes: int | None = None
    context_size: int | None = None
    cache_tokens: int | None = None
    threads: int = 1
    max_sequences: int = _DEFAULT_SEQUENCES
    max_sequences_per_key: int | None = None
    batch_size: int = 512
    chat_template: str | None = None
    pooling: str | None = None
    task: str = "auto"
    trust_remote_code: bool = False
    allow_pickle: bool = False
    preload: bool = False
    name: str = ""
    """For people: the route of the model that first asked for it. Not part of what makes specs equal."""

    @classmethod
    def from_model(cls, model: ModelView) -> TransformersSpec:
        """Raise `ConfigurationError` naming the parameter that cannot work."""
        parameters = {**model.provider.connection, **model.parameters}
        if not Options(parameters).text("model_path", "path") and _HUB_ID(model.upstream_model_id):
            parameters["model_path"] = model.upstream_model_id
        return cls.from_parameters(parameters, name=model.route)

    @classmethod
    def from_parameters(cls, parameters: Mapping[str, Any], *, name: str = "") -> TransformersSpec:
        """Read the registry's names and those that transformers uses itself (`torch_dtype`, `device_map`)."""
        read = Options(parameters, name)
        path = read.text("model_path", "path")
        if not path:
            raise ConfigurationError(
                "This model has no directory.",
                detail=f"{name}: set `model_path` to a model directory or to the id of a downloaded model, such as org/name",
                param="model_path",
            )
        return cls.read(read, find(path, revision=read.text("revision") or "main"), name)

    @classmethod
    def read(cls, read: Options, path: Path, name: str = "") -> TransformersSpec:
        return cls(
            path=path,
            device=(read.matching(_DEVICE, _DEVICES, "device", "device_map") or "auto").lower(),
            dtype=read.one_of(DTYPES, "dtype", "torch_dtype", plain=_plain_dtype) or "auto",
            max_memory_bytes=_bytes(read.positive("max_memory_gb", below=1 << 20)),
            context_size=read.whole("context_size", "n_ctx", least=16),
            cache_tokens=read.whole("cache_tokens", least=16),
            threads=read.whole("threads", least=1) or default_threads(),
            max_sequences=read.whole("max_sequences", least=1, most=256) or _DEFAULT_SEQUENCES,
            max_sequences_per_key=read.whole("max_sequences_per_key", least=1, most=256),
            batch_size=read.whole("batch_size", least=16, most=8192) or 512,
            chat_template=read.text("chat_template"),
            pooling=read.one_of(POOLINGS, "pooling"),
            task=read.one_of(TASKS, "task") or "auto",
            trust_remote_code=read.flag("trust_remote_code", default=False),
            allow_pickle=read.flag("allow_pickle", default=False),
            preload=read.flag("preload", default=False),
            name=name,
        )

    @property
    def key(self) -> TransformersSpec:
        """The spec without what does not change the engine: what residency tells models apart by."""
        if not self.name and not self.preload:
            return self
        return replace(self, name="", preload=False)

    @property
    def gpu_layers(self) -> int:
        """As the list of loaded models says it of llama.cpp's: all, or none."""
        return 0 if self.on_host else -1

    @property
    def on_host(self) -> bool:
        """Whether the weights lie in the machine's own memory, as far as can be told without torch."""
        return self.device in ("cpu", "mps") or (self.device == "auto" and not sees_cuda())

    def sized(self, files: ModelFiles | None = None) -> TransformersSpec:
        """The same with context and cache decided: the trained context up to 4096, the cache within a modest allowance."""
        files = files or ModelFiles.read(self.path, pickles=self.allow_pickle)
        context = self.context_size or min(files.trained_context or _DEFAULT_CONTEXT, _DEFAULT_CONTEXT)
        wanted = context * self.max_sequences
        per_token = files.cache_numbers_per_token * self._number_bytes(files)
        allowance = max(_CACHE_ALLOWANCE, self._weight_bytes(files) // 4)
        affordable = max(2 * context, allowance // per_token) if per_token else wanted
        cache = self.cache_tokens or min(wanted, affordable)
        return replace(self, context_size=context, cache_tokens=max(cache, context))

    def estimated_bytes(self, files: ModelFiles | None = None) -> int:
        """What the process will take of the machine's own memory: a sum to plan with, measured again once the model is loaded."""
        return _BASE_MEMORY + (self._model_bytes(files) if self.on_host else 0)

    def device_bytes(self, files: ModelFiles | None = None) -> int:
        """What the model takes where it computes: weights, cache and working memory. Raises `ModelUnavailable`."""
        return self._model_bytes(files)

    def _model_bytes(self, files: ModelFiles | None) -> int:
        files = files or ModelFiles.read(self.path, pickles=self.allow_pickle)
        sized = self.sized(files)
        cache = files.cache_numbers_per_token * self._number_bytes(files) * (sized.cache_tokens or 0)
        working = self.batch_size * max(files.width, 64) * 4 * 8
        return self._weight_bytes(files) + cache + working

    def _weight_bytes(self, files: ModelFiles) -> int:
        return files.weight_numbers * self._number_bytes(files) if files.weight_numbers else files.size_bytes

    def _number_bytes(self, files: ModelFiles) -> int:
        wanted = DTYPES[self.dtype] or files.number_bytes
        # On a CPU half precision is computed in single: see `transformers_model`.
        half = self.dtype == "float16" or (self.dtype == "auto" and files.stored_dtype == "F16")
        return 4 if half and self.on_host else wanted


def find(reference: str, *, revision: str = "main") -> Path:
    """The directory that a path or a hub id means; a hub id is looked up in this machine's hub cache, never over the network."""
    path = Path(reference).expanduser()
    if path.exists() or not _HUB_ID(reference):
        return path
    kept = hub_cache() / f"models--{reference.replace('/', '--')}"
    with contextlib.suppress(OSError):  # else it is a commit itself, or the model was never downloaded
        revision = (kept / "refs" / revision).read_text().strip()
    snapshot = kept / "snapshots" / revision
    if snapshot.is_dir():
        return snapshot
    raise ModelUnavailable(
        "The model's files are not on the worker.",
        detail=f"{reference} is no directory and is not in {hub_cache()}; `.venv/bin/hf download {reference}` brings it there",
    )


def hub_cache() -> Path:
    """Where the Hugging Face libraries keep what they download
    (https://huggingface.co/docs/huggingface_hub/package_reference/environment_variables).
    """
    for variable in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if os.environ.get(variable):
            return Path(os.environ[variable]).expanduser()
    home = os.environ.get("HF_HOME")
    if home:
        return Path(home).expanduser() / "hub"
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "huggingface" / "hub"


def sees_cuda() -> bool:
    """Whether an NVIDIA card is there and not hidden from this process."""
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    return hidden not in ("", "-1") and Path("/dev/nvidiactl").exists()


def _plain_dtype(said: str) -> str:
    return said.lower().removeprefix("torch.")


def _bytes(gigabytes: float | None) -> int | None:
    return None if gigabytes is None else int(gigabytes * _GIGABYTE)
