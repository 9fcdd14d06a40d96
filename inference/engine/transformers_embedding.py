"""How token vectors become one embedding: as the sentence-transformers files beside a model say, or as its parameter does.

`modules.json` names the steps after the model, `1_Pooling/config.json` the pooling
(https://sbert.net/docs/sentence_transformer/usage/custom_models.html).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from inference.engine.transformers_model import Model
from inference.errors import ConfigurationError

_MODES = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_lasttoken": "last",
}
_NAMES = {"cls": "cls", "mean": "mean", "lasttoken": "last", "last": "last"}
_ACTIVATIONS = {"Identity": lambda x: x, "Tanh": torch.tanh, "ReLU": torch.relu, "GELU": torch.nn.functional.gelu}


@dataclass(frozen=True, slots=True)
class Dense:
    """One layer after the pooling."""

    weight: torch.Tensor
    bias: torch.Tensor | None
    activation: Any

    def __call__(self, vectors: torch.Tensor) -> torch.Tensor:
        return self.activation(torch.nn.functional.linear(vectors, self.weight, self.bias))


class Embedding:
    """Raises `ConfigurationError` for a step that is not known here."""

    def __init__(self, model: Model, path: Path, pooling: str | None) -> None:
        self._model = model
        self.longest = _longest(path)
        """Tokens of one text as its makers meant it; None when they say nothing."""
        told, self._dense = None, []
        for step in _steps(path):
            kind = str(step.get("type", "")).rpartition(".")[2]
            folder = path / str(step.get("path", ""))
            if kind == "Pooling":
                told = _pooling(folder)
            elif kind == "Dense":
                self._dense.append(_dense(folder, model))
            elif kind not in ("Transformer", "Normalize"):
                raise ConfigurationError(
                    "This embedding model has a step that is not known here.",
                    detail=f"{path}: the module {kind} of modules.json",
                )
        self.pooling = pooling or told or "mean"

    @property
    def dimension(self) -> int:
        return int(self._dense[-1].weight.shape[0]) if self._dense else self._model.dimension

    @torch.inference_mode()
    def vectors(self, inputs: Sequence[Sequence[int]]) -> list[bytes]:
        """One vector of length 1 for each, as 32-bit little-endian floats."""
        states, mask = self._model.hidden(inputs)
        pooled = self._pooled(states.float(), mask)
        for layer in self._dense:
            pooled = layer(pooled)
        found = torch.nn.functional.normalize(pooled, dim=-1).cpu().numpy()
        return [np.asarray(vector, "<f4").tobytes() for vector in found]

    def _pooled(self, states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        if self.pooling == "cls":
            return states[:, 0]
        if self.pooling == "last":
            return states[torch.arange(len(states), device=states.device), mask.sum(dim=1) - 1]
        weights = mask[:, :, None].float()
        return (states * weights).sum(dim=1) / weights.sum(dim=1)


def _steps(path: Path) -> list[dict[str, Any]]:
    found = _json(path / "modules.json")
    return [step for step in found if isinstance(step, dict)] if isinstance(found, list) else []


def _pooling(folder: Path) -> str:
    said = _json(folder / "config.json")
    said = said if isinstance(said, dict) else {}
    named = _NAMES.get(str(said.get("pooling_mode", "")))
    modes = [named] if named else [mode for flag, mode in _MODES.items() if said.get(flag) is True]
    others = [flag for flag, value in said.items() if flag.startswith("pooling_mode_") and value is True]
    if len(modes) != 1 or len(others) > 1:
        raise ConfigurationError(
            "This embedding model pools in a way that is not known here.",
            detail=f"{folder}: {', '.join(others) or 'no mode'}; `pooling` chooses one of mean, cls and last",
            param="pooling",
        )
    return modes[0]


def _dense(folder: Path, model: Model) -> Dense:
    from safetensors.torch import load_file

    said = _json(folder / "config.json")
    name = str(said.get("activation_function", "Identity") if isinstance(said, dict) else "").rpartition(".")[2]
    file = folder / "model.safetensors"
    if name not in _ACTIVATIONS or not file.exists():
        raise ConfigurationError(
            "This embedding model has a step that is not known here.",
            detail=f"{folder}: a dense layer with the activation {name}" if file.exists() else f"{file} is not there",
        )
    tensors = {key: tensor.float().to(model.device) for key, tensor in load_file(str(file)).items()}
    return Dense(tensors["linear.weight"], tensors.get("linear.bias"), _ACTIVATIONS[name])


def _longest(path: Path) -> int | None:
    said = _json(path / "sentence_bert_config.json")
    longest = said.get("max_seq_length") if isinstance(said, dict) else None
    return longest if isinstance(longest, int) and longest > 0 else None


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise ConfigurationError("A file of this model cannot be read.", detail=f"{path}: {error}") from error
