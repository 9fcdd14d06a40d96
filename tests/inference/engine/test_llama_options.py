from __future__ import annotations

from dataclasses import asdict
from typing import Any

import msgspec
import pytest

from inference.engine.llama_options import LlamaOptions
from inference.engine.spec import ModelSpec
from inference.errors import ConfigurationError


def options(**parameters: Any) -> LlamaOptions:
    return LlamaOptions.from_parameters(parameters, "local/m")


def test_nothing_said_leaves_it_to_the_file() -> None:
    assert options() == LlamaOptions()


def test_an_adapter_is_a_path_or_a_path_with_its_strength() -> None:
    assert options(lora="/a.gguf").lora == (("/a.gguf", 1.0),)
    assert options(lora=["/a.gguf", {"path": "/b.gguf", "scale": 0.5}]).lora == (("/a.gguf", 1.0), ("/b.gguf", 0.5))
    assert options(lora='["/a.gguf"]').lora == (("/a.gguf", 1.0),)


def test_llama_cpps_own_names_are_read_too() -> None:
    found = options(type_k="q8_0", n_ubatch="64", use_mmap="false", flash_attn=True)
    assert (found.cache_type_k, found.ubatch_size, found.mmap, found.flash_attn) == ("q8_0", 64, False, "on")


def test_shares_of_gpus_may_be_typed_as_text() -> None:
    assert options(tensor_split="3, 1").tensor_split == (3.0, 1.0)


def test_a_compressed_cache_counts_as_less_memory() -> None:
    assert options(cache_type_k="q8_0", cache_type_v="q8_0").cache_share == 8.5 / 16


@pytest.mark.parametrize(
    ("parameters", "name"),
    [
        ({"lora": 7}, "lora"),
        ({"lora": [{"path": "/a.gguf", "scale": "strong"}]}, "lora"),
        ({"cache_type_k": "q3"}, "cache_type_k"),
        ({"cache_type_v": "q8_0", "flash_attn": "off"}, "cache_type_v"),
        ({"rope_freq_base": -1}, "rope_freq_base"),
        ({"tensor_split": "0,0"}, "tensor_split"),
        ({"split_mode": "column"}, "split_mode"),
        ({"main_gpu": True}, "main_gpu"),
        ({"ubatch_size": 1.5}, "ubatch_size"),
    ],
)
def test_a_value_that_cannot_work_is_named(parameters: dict[str, Any], name: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        options(**parameters)
    assert caught.value.param == name
    assert "local/m" in caught.value.detail


def test_a_specs_options_survive_the_way_to_the_engine_and_tell_models_apart() -> None:
    spec = ModelSpec.from_parameters({"path": "/m.gguf", "lora": "/a.gguf", "tensor_split": [1, 2]})
    sent = msgspec.msgpack.decode(msgspec.msgpack.encode({**asdict(spec), "path": str(spec.path)}))
    assert ModelSpec.of(sent) == spec
    assert spec.key != ModelSpec.from_parameters({"path": "/m.gguf", "tensor_split": [1, 2]}).key
