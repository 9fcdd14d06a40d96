"""What models of llama.cpp may be given beside their file, for both of its engines."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from inference.engine.supervised import EngineChoice, SupervisedEngine
from inference.errors import ModelUnavailable
from tests.inference.engine.conftest import ask, needs

Open = Callable[..., SupervisedEngine]


@pytest.fixture(params=["llama_cpp", "xllamacpp"])
def llama(request: pytest.FixtureRequest) -> EngineChoice:
    return needs(request.param)


def adapter(path: Path, dim: int) -> Path:
    """For models of `random_model`: turns what the first layer says of a token around."""
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", 8.0)
    chance = np.random.RandomState(1)
    for name in ("attn_q", "attn_v", "attn_output"):
        for part, shape in (("a", (8, dim)), ("b", (dim, 8))):
            writer.add_tensor(f"blk.0.{name}.weight.lora_{part}", chance.standard_normal(shape).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_an_adapter_changes_what_the_model_says_by_its_strength(
    llama: EngineChoice, open_engine: Open, random_file: Path, tmp_path: Path
) -> None:
    file = adapter(tmp_path / "adapter.gguf", 64)

    def said(lora: list[dict[str, Any]]) -> str:
        return ask(open_engine(llama, random_file, lora=lora), "abc", operation="completions", max_tokens=12).text

    without = said([])
    assert said([{"path": str(file), "scale": 1.0}]) != without
    assert said([{"path": str(file), "scale": 0.0}]) == without


@pytest.mark.parametrize("kind", ["missing", "of another model"])
def test_a_wrong_adapter_is_a_typed_error(
    llama: EngineChoice, open_engine: Open, random_file: Path, tmp_path: Path, kind: str
) -> None:
    file = tmp_path / "adapter.gguf" if kind == "missing" else adapter(tmp_path / "adapter.gguf", 32)
    with pytest.raises(ModelUnavailable) as caught:
        open_engine(llama, random_file, lora=str(file)).start()
    assert str(file) in caught.value.detail


def test_a_compressed_cache_and_the_other_options_reach_the_engine(llama: EngineChoice, open_engine: Open) -> None:
    told = {"cache_type_k": "q8_0", "cache_type_v": "f32", "flash_attn": "auto", "mmap": False, "ubatch_size": 32}
    engine = open_engine(llama, **told, main_gpu=0, tensor_split=[1], split_mode="layer", rope_freq_base=10000)
    assert ask(engine, "Who are you?", max_tokens=2).text == "I am"
