from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from inference.engine.spec import BUILTIN_DEMO, DEMO_PATH, ModelSpec, default_threads
from inference.errors import ConfigurationError, ModelUnavailable
from tests.inference.engine.models import local_model


def test_the_builtin_demo_is_a_file_of_ours() -> None:
    assert ModelSpec.from_parameters({"model_path": BUILTIN_DEMO}).path == DEMO_PATH


def test_a_models_parameters_win_over_its_providers() -> None:
    model = local_model(
        {"model_path": "/m.gguf", "context_size": 512}, connection={"model_path": "/p.gguf", "threads": 3}
    )
    spec = ModelSpec.from_model(model)
    assert (spec.path, spec.context_size, spec.threads) == (Path("/m.gguf"), 512, 3)


def test_llama_cpps_own_names_are_understood() -> None:
    spec = ModelSpec.from_parameters({"path": "/m.gguf", "n_ctx": "1024", "n_threads": 2, "n_gpu_layers": -1})
    assert (spec.context_size, spec.threads, spec.gpu_layers) == (1024, 2, -1)


def test_a_core_is_left_to_the_machine() -> None:
    assert ModelSpec.from_parameters({"model_path": "/m.gguf"}).threads == default_threads() >= 1


@pytest.mark.parametrize(
    ("parameters", "param"),
    [
        ({}, "model_path"),
        ({"model_path": "/m", "context_size": "many"}, "context_size"),
        ({"model_path": "/m", "threads": 0}, "threads"),
        ({"model_path": "/m", "max_sequences": 1000}, "max_sequences"),
        ({"model_path": "/m", "pooling": "median"}, "pooling"),
    ],
)
def test_a_parameter_that_cannot_work_is_named(parameters: dict[str, Any], param: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        ModelSpec.from_parameters(parameters)
    assert caught.value.param == param


def test_specs_that_differ_in_name_only_share_a_model() -> None:
    one = ModelSpec.from_parameters({"model_path": BUILTIN_DEMO, "preload": True}, name="a/b")
    other = ModelSpec.from_parameters({"model_path": BUILTIN_DEMO}, name="c/d")
    assert one.key == other.key


def test_a_larger_cache_is_estimated_to_take_more_memory() -> None:
    small = ModelSpec.from_parameters({"model_path": BUILTIN_DEMO, "context_size": 256, "max_sequences": 1})
    large = ModelSpec.from_parameters({"model_path": BUILTIN_DEMO, "context_size": 2048, "max_sequences": 8})
    assert large.estimated_bytes() - small.estimated_bytes() == (2048 * 8 - 256) * 1536


def test_a_file_with_another_checksum_is_refused() -> None:
    spec = ModelSpec.from_parameters({"model_path": BUILTIN_DEMO, "sha256": "00" * 32})
    with pytest.raises(ModelUnavailable, match="not the one"):
        spec.verify_checksum()


def test_the_right_checksum_passes() -> None:
    digest = DEMO_PATH.with_name("demo-f16.sha256").read_text().split()[0]
    ModelSpec.from_parameters({"model_path": BUILTIN_DEMO, "sha256": digest}).verify_checksum()


def test_a_flag_that_was_stored_as_text_is_read_as_one() -> None:
    assert not ModelSpec.from_parameters({"model_path": "/m.gguf", "preload": "false"}).preload
    assert ModelSpec.from_parameters({"model_path": "/m.gguf", "preload": "true"}).preload
