"""What a model directory holds, read without torch: its configuration and the headers of its weights.

A safetensors file begins with the length of a JSON header, which names every tensor with its type and shape
(https://huggingface.co/docs/safetensors/index#format).
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inference.errors import ModelUnavailable

CONFIGURATION = "config.json"
_PICKLES = ("*.bin", "*.pt", "*.pth")
_NO_WEIGHTS = {"training_args.bin", "optimizer.pt", "scheduler.pt"}
_LONGEST_HEADER = 100_000_000
_BYTES = {
    "F64": 8,
    "I64": 8,
    "F32": 4,
    "I32": 4,
    "F16": 2,
    "BF16": 2,
    "I16": 2,
    "F8_E4M3": 1,
    "F8_E5M2": 1,
    "I8": 1,
    "U8": 1,
}
_CONTEXTS = ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length", "n_ctx")


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """`weight_numbers` is 0 where only pickled weights are there, which tell nothing before they are loaded."""

    configuration: Mapping[str, Any]
    weights: tuple[Path, ...]
    size_bytes: int
    weight_numbers: int = 0
    number_bytes: int = 4
    stored_dtype: str = "F32"
    """As most of the weights are stored."""

    @classmethod
    def read(cls, path: Path, *, pickles: bool = False) -> ModelFiles:
        """Raise `ModelUnavailable` saying what is missing."""
        configuration = _configuration(path)
        weights = tuple(sorted(path.glob("*.safetensors")))
        if weights:
            _check_shards(path)
            numbers: dict[str, int] = {}
            for file in weights:
                for dtype, count in _tensors(file):
                    numbers[dtype] = numbers.get(dtype, 0) + count
            most = max(numbers, key=lambda dtype: numbers[dtype], default="F32")
            return cls(configuration, weights, _size(weights), sum(numbers.values()), _BYTES.get(most, 4), most)
        weights = tuple(
            file for pattern in _PICKLES for file in sorted(path.glob(pattern)) if file.name not in _NO_WEIGHTS
        )
        if not weights:
            raise ModelUnavailable(
                "The model's directory holds no weights.", detail=f"{path}: there is no *.safetensors file"
            )
        if not pickles:
            raise ModelUnavailable(
                "The model's weights are pickled, which is not loaded here.",
                detail=f"{path} holds {weights[0].name} and no safetensors, and a pickle may run code; convert it, or set the "
                "model's parameter `allow_pickle` if you trust where it came from",
            )
        return cls(configuration, weights, _size(weights))

    @property
    def text(self) -> Mapping[str, Any]:
        """The part of the configuration that describes the language model."""
        part = self.configuration.get("text_config")
        return part if isinstance(part, Mapping) else self.configuration

    @property
    def trained_context(self) -> int | None:
        return next((value for name in _CONTEXTS if (value := _whole(self.text, name))), None)

    @property
    def width(self) -> int:
        return _whole(self.text, "hidden_size", "n_embd", "d_model") or 0

    @property
    def cache_numbers_per_token(self) -> int:
        """Keys and values of all layers for one token; 0 for models that only embed."""
        if not self.generates:
            return 0
        layers = _whole(self.text, "num_hidden_layers", "n_layer", "num_layers") or 0
        heads = _whole(self.text, "num_attention_heads", "n_head", "num_heads") or 1
        head = _whole(self.text, "head_dim") or self.width // heads
        return 2 * layers * (_whole(self.text, "num_key_value_heads") or heads) * head

    @property
    def generates(self) -> bool:
        """Whether the directory names a class that continues text."""
        named = self.configuration.get("architectures") or []
        return any(str(name).endswith(("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")) for name in named)

    @property
    def needs_own_code(self) -> bool:
        """Whether it brings Python files that would have to run."""
        return bool(self.configuration.get("auto_map"))


def _configuration(path: Path) -> dict[str, Any]:
    if not path.is_dir():
        missing = "is a file, not a model directory" if path.exists() else "is not there"
        raise ModelUnavailable("The model's directory is not on the worker.", detail=f"{path} {missing}")
    try:
        found = json.loads((path / CONFIGURATION).read_text())
    except FileNotFoundError:
        raise ModelUnavailable(
            "The model's directory holds no model.", detail=f"{path} has no {CONFIGURATION}"
        ) from None
    except (OSError, ValueError) as error:
        raise ModelUnavailable("The model's configuration cannot be read.", detail=f"{path}: {error}") from error
    if not isinstance(found, dict):
        raise ModelUnavailable("The model's configuration cannot be read.", detail=f"{path}: it is no JSON object")
    return found


def _check_shards(path: Path) -> None:
    index = path / "model.safetensors.index.json"
    if not index.exists():
        return
    try:
        wanted = set(json.loads(index.read_text())["weight_map"].values())
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise ModelUnavailable("The model's index cannot be read.", detail=f"{index}: {error!r}") from error
    missing = sorted(str(name) for name in wanted if not (path / str(name)).exists())
    if missing:
        raise ModelUnavailable(
            "A part of the model is missing.", detail=f"{path}: {', '.join(missing)} of {len(wanted)} files"
        )


def _tensors(file: Path) -> list[tuple[str, int]]:
    """Type and count of numbers of each tensor."""
    try:
        with file.open("rb") as opened:
            (length,) = struct.unpack("<Q", opened.read(8))
            if length > min(_LONGEST_HEADER, file.stat().st_size):
                raise ValueError("its header is longer than the file")
            header = json.loads(opened.read(length))
        end = (
            8
            + length
            + max((entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"), default=0)
        )
        if end > file.stat().st_size:
            raise ValueError("it is cut off")
        return [
            (str(entry["dtype"]), math.prod(entry["shape"])) for name, entry in header.items() if name != "__metadata__"
        ]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, struct.error) as error:
        raise ModelUnavailable("A file of the model's weights is broken.", detail=f"{file}: {error}") from error


def _size(files: tuple[Path, ...]) -> int:
    return sum(file.stat().st_size for file in files)


def _whole(holder: Mapping[str, Any], *names: str) -> int | None:
    for name in names:
        value = holder.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            return value
    return None
