"""Which kind of local model a registry entry describes, and what of an entry its engine would refuse."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from inference.engine.option_values import Refusals
from inference.engine.spec import ModelSpec
from inference.engine.transformers_spec import NAME, TransformersSpec
from providers.provider_types import ProviderType
from routing.types import ModelView

_OURS = "inference.backends."
_TRANSFORMERS = f"{_OURS}{NAME}."


def spec_of(model: ModelView) -> ModelSpec | TransformersSpec:
    """Raise `ConfigurationError` naming the parameter that cannot work."""
    return _kind(model.provider.backend).from_model(model)


def wrong_options(kind: ProviderType, parameters: Mapping[str, Any]) -> dict[str, str]:
    """What is wrong with parameters of a provider of this type or of its models, by name.

    Files are not looked for: they may lie on the workers only.
    """
    if kind.runs_in != "worker" or not kind.backend.startswith(_OURS):
        return {}
    read = Refusals(parameters)
    for name in (("model_path", "path"), ("revision",)):
        read.text(*name)
    read.flag("truncate_inputs", default=False)
    _kind(kind.backend).read(read, Path())
    return read.found


def _kind(backend: str) -> type[ModelSpec] | type[TransformersSpec]:
    return TransformersSpec if backend.startswith(_TRANSFORMERS) else ModelSpec
