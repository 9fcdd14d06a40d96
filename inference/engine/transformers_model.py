"""A model of the transformers library in memory, and what several answers have computed of it so far.

Only classes of the library itself are built, unless the operator trusts the code that a model brings; only files of this machine are
read; pickled weights only where the operator allows them, and then without running what they hold.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import transformers
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, DynamicCache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from inference.engine.transformers_files import ModelFiles
from inference.engine.transformers_spec import TransformersSpec
from inference.errors import ConfigurationError, GatewayError, ModelUnavailable, OutOfMemory

VERSION = f"{transformers.__version__} on torch {torch.__version__}"
_MEGABYTE = 1024 * 1024
_UNUSED_PARTS = ("pooler.", "cls.", "lm_head.", "position_ids")
"""What a model that only embeds may lack: heads that are not asked."""
_PLAIN = (DynamicLayer, DynamicSlidingWindowLayer)


class Model:
    """Raises `ConfigurationError`, `ModelUnavailable` or `OutOfMemory` when it cannot be loaded."""

    def __init__(self, spec: TransformersSpec, files: ModelFiles, *, memory_limit: int | None = None) -> None:
        torch.set_num_threads(spec.threads)
        self.device = _device(spec)
        self.dtype, self.notes = _dtype(spec, files, self.device)
        self._limit_memory(spec, memory_limit)
        self.generates = files.generates if spec.task == "auto" else spec.task == "generate"
        self.network: Any = self._load(spec)
        configuration = self.network.config.get_text_config(decoder=True)
        self.vocabulary_size = int(configuration.vocab_size)
        self.dimension = int(getattr(configuration, "hidden_size", 0) or files.width)
        self.ends = _ends(self.network)
        accepted = inspect.signature(self.network.forward).parameters
        self._cache = "cache_params" if "cache_params" in accepted else "past_key_values"
        self._takes_positions = "position_ids" in accepted
        self._takes_last_only = "logits_to_keep" in accepted
        self.joins = self.generates and all(
            type(layer) in _PLAIN for layer in DynamicCache(config=self.network.config).layers
        )
        """Whether answers can be computed together; state-space models keep what cannot be laid side by side."""

    def _limit_memory(self, spec: TransformersSpec, memory_limit: int | None) -> None:
        if self.device.type == "cuda" and spec.max_memory_bytes:
            total = torch.cuda.get_device_properties(self.device).total_memory
            torch.cuda.set_per_process_memory_fraction(min(1.0, spec.max_memory_bytes / total), self.device)
        elif self.device.type == "cpu" and memory_limit is not None:
            import resource

            # Not on a GPU: its driver maps far more than it takes.
            resource.setrlimit(resource.RLIMIT_DATA, (memory_limit, memory_limit))

    def _load(self, spec: TransformersSpec) -> Any:
        kind = AutoModelForCausalLM if self.generates else AutoModel
        try:
            configuration = AutoConfig.from_pretrained(
                str(spec.path), local_files_only=True, trust_remote_code=spec.trust_remote_code
            )
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                network, found = kind.from_pretrained(
                    str(spec.path),
                    config=configuration,
                    dtype=self.dtype,
                    local_files_only=True,
                    trust_remote_code=spec.trust_remote_code,
                    use_safetensors=None if spec.allow_pickle else True,
                    weights_only=True,
                    output_loading_info=True,
                )
            missing = sorted(key for key in found["missing_keys"] if self.generates or not _is_unused(key))
            if missing:
                raise ModelUnavailable(
                    "The model's weights are incomplete.",
                    detail=f"{spec.path} lacks {len(missing)} tensors, such as {missing[0]}; they would be random numbers",
                )
            return network.to(self.device).eval()
        except GatewayError:
            raise
        except Exception as error:  # a directory of somebody else's making may fail in any way
            raise _refused(spec, error) from error

    @torch.inference_mode()
    def read(self, tokens: Sequence[int], rows: Rows, *, want: bool = True) -> np.ndarray | None:
        """Go on with the one prompt of `rows`; the logits after its last token if they are wanted."""
        return self._forward(torch.tensor([list(tokens)], device=self.device), rows, want=want)

    @torch.inference_mode()
    def step(self, tokens: Sequence[int], rows: Rows) -> np.ndarray:
        """Give each row its next token; the logits after it, one line per row."""
        found = self._forward(torch.tensor([[token] for token in tokens], device=self.device), rows, want=True)
        assert found is not None
        return found

    def _forward(self, ids: torch.Tensor, rows: Rows, *, want: bool) -> np.ndarray | None:
        count = ids.shape[1]
        positions = rows.lengths[:, None] + torch.arange(count, device=self.device)[None, :]
        rows.mask = torch.cat([rows.mask, rows.mask.new_ones((len(rows), count))], dim=1)
        rows.lengths = rows.lengths + count
        arguments: dict[str, Any] = {"input_ids": ids, self._cache: rows.cache}
        if self._cache == "past_key_values":  # a state has no padding, and wants no mask of what it has taken in
            arguments["attention_mask"] = rows.mask
        if self._takes_positions:
            arguments["position_ids"] = positions
        if self._takes_last_only:
            arguments["logits_to_keep"] = 1
        found = self.network(**arguments, use_cache=True)
        rows.cache = found.get(self._cache) or rows.cache
        if not want:
            return None
        logits: np.ndarray = found.logits[:, -1].float().cpu().numpy()
        return logits

    @torch.inference_mode()
    def hidden(self, inputs: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor]:
        """What the last layer makes of each token of several texts, and which of them count, both padded on the right."""
        longest = max(map(len, inputs))
        ids = torch.zeros((len(inputs), longest), dtype=torch.long)
        mask = torch.zeros((len(inputs), longest), dtype=torch.long)
        for row, tokens in enumerate(inputs):
            ids[row, : len(tokens)] = torch.tensor(list(tokens))
            mask[row, : len(tokens)] = 1
        body = self.network.base_model if self.generates else self.network
        mask = mask.to(self.device)
        found = body(input_ids=ids.to(self.device), attention_mask=mask)
        return found.last_hidden_state, mask

    def new_rows(self) -> Rows:
        """For one prompt of which nothing was read."""
        cache = DynamicCache() if self.joins else DynamicCache(config=self.network.config)
        return Rows(
            cache,
            torch.ones((1, 0), dtype=torch.long, device=self.device),
            torch.zeros(1, dtype=torch.long, device=self.device),
        )

    def free(self) -> None:
        """Give back what the allocator keeps for later."""
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    @property
    def device_bytes(self) -> int:
        """Memory of the GPU that this process has taken; 0 on a CPU."""
        return torch.cuda.memory_reserved(self.device) if self.device.type == "cuda" else 0


class Rows:
    """Keys and values of answers computed together, padded on the left; `lengths` are their tokens without padding."""

    def __init__(self, cache: Any, mask: torch.Tensor, lengths: torch.Tensor) -> None:
        self.cache = cache
        self.mask = mask
        self.lengths = lengths

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def cells(self) -> int:
        """Tokens' worth of memory that it holds, padding included."""
        return int(self.mask.shape[0] * self.mask.shape[1])

    @torch.inference_mode()
    def join(self, other: Rows) -> None:
        """Lay the other's rows below these."""
        width = max(self.mask.shape[1], other.mask.shape[1])
        mine, theirs = width - self.mask.shape[1], width - other.mask.shape[1]
        for layer, more in zip(self.cache.layers, other.cache.layers, strict=True):
            if not layer.is_initialized:
                continue
            layer.keys = torch.cat([_padded(layer.keys, mine), _padded(more.keys, theirs)])
            layer.values = torch.cat([_padded(layer.values, mine), _padded(more.values, theirs)])
        pad = torch.nn.functional.pad
        self.mask = torch.cat([pad(self.mask, (mine, 0)), pad(other.mask, (theirs, 0))])
        self.lengths = torch.cat([self.lengths, other.lengths])

    @torch.inference_mode()
    def repeat(self, times: int) -> None:
        """The one row several times."""
        self.cache.batch_repeat_interleave(times)
        self.mask = self.mask.repeat_interleave(times, dim=0)
        self.lengths = self.lengths.repeat_interleave(times, dim=0)

    @torch.inference_mode()
    def keep(self, places: Sequence[int]) -> None:
        """Only these rows, without the padding that none of them needs."""
        chosen = torch.tensor(list(places), dtype=torch.long, device=self.mask.device)
        self.mask, self.lengths = self.mask[chosen], self.lengths[chosen]
        spare = self.mask.shape[1] - int(self.lengths.max())
        self.mask = self.mask[:, spare:]
        for layer in self.cache.layers:
            if layer.is_initialized:
                layer.keys = layer.keys[chosen][:, :, spare:].contiguous()
                layer.values = layer.values[chosen][:, :, spare:].contiguous()


def is_out_of_memory(error: BaseException) -> bool:
    """Whether torch, CUDA or Python itself was refused memory."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    said = str(error).lower()
    return isinstance(error, RuntimeError) and ("out of memory" in said or "allocate memory" in said)


def _padded(states: torch.Tensor, count: int) -> torch.Tensor:
    return torch.nn.functional.pad(states, (0, 0, count, 0)) if count else states


def _device(spec: TransformersSpec) -> torch.device:
    cuda = torch.cuda.is_available()
    if spec.device == "auto":
        wanted = "cuda" if cuda else "mps" if torch.backends.mps.is_available() else "cpu"
    else:
        wanted = spec.device
    if wanted.startswith("cuda"):
        if not cuda:
            built = "this build of torch is for CPUs only" if torch.version.cuda is None else "no CUDA device is there"
            raise ConfigurationError(
                "This model is set up for a GPU that the worker does not have.",
                detail=f"{spec.name or spec.path}: `device` is {spec.device!r}, but {built}",
                param="device",
            )
        number = int(wanted.partition(":")[2] or 0)
        if number >= torch.cuda.device_count():
            raise ConfigurationError(
                "This model is set up for a GPU that the worker does not have.",
                detail=f"{spec.name or spec.path}: `device` is {spec.device!r}; the worker sees {torch.cuda.device_count()}",
                param="device",
            )
        return torch.device("cuda", number)
    if wanted == "mps" and not torch.backends.mps.is_available():
        raise ConfigurationError(
            "This model is set up for a GPU that the worker does not have.",
            detail=f"{spec.name or spec.path}: `device` is 'mps', which is Apple's",
            param="device",
        )
    return torch.device(wanted)


def _dtype(spec: TransformersSpec, files: ModelFiles, device: torch.device) -> tuple[Any, tuple[str, ...]]:
    """What the weights become, and what there is to say about it."""
    half = spec.dtype == "float16" or (spec.dtype == "auto" and files.stored_dtype == "F16")
    if half and device.type == "cpu":
        note = "float16 is slow and less exact on a CPU; float32 is used. `dtype` bfloat16 takes half of the memory"
        return torch.float32, (note,)
    return ("auto" if spec.dtype == "auto" else getattr(torch, spec.dtype)), ()


def _ends(network: Any) -> set[int]:
    """Tokens that end an answer, as the model's generation settings say."""
    said = getattr(getattr(network, "generation_config", None), "eos_token_id", None)
    if said is None:
        said = getattr(network.config, "eos_token_id", None)
    return {said} if isinstance(said, int) else set(said or ())


def _is_unused(key: str) -> bool:
    return any(part in key for part in _UNUSED_PARTS)


def _refused(spec: TransformersSpec, error: Exception) -> GatewayError:
    """What the library's exception means for an operator."""
    if "trust_remote_code" in str(error):  # which may stand behind long paths
        return ConfigurationError(
            "This model brings code of its own, which is not run here.",
            detail=f"{spec.name or spec.path}: read the Python files in {spec.path}; if you trust them, set its parameter "
            "`trust_remote_code`",
            param="trust_remote_code",
        )
    said = " ".join(str(error).split())[:400]
    if is_out_of_memory(error):
        return OutOfMemory(
            "There is not enough memory for this model on the worker.",
            detail=f"{spec.name or spec.path}: {said}; lower `context_size`, choose a smaller `dtype`, or raise the limit "
            "(GATEWAY_LOCAL_MEMORY_MB, `max_memory_gb`)",
            retry_after=5.0,
        )
    return ModelUnavailable(
        "The model cannot be loaded by the engine.", detail=f"{spec.path}: {type(error).__name__}: {said}"
    )
