"""What is read of a model directory, and what is told of one that cannot be loaded."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from inference.engine.spec import DEMO_PATH
from inference.engine.transformers_files import ModelFiles
from inference.errors import ModelUnavailable
from tests.inference.engine.model_directory import write_directory


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return write_directory(DEMO_PATH, tmp_path / "model")


def test_the_weights_are_counted_by_their_headers(directory: Path) -> None:
    files = ModelFiles.read(directory)
    assert files.stored_dtype == "F16"
    assert 700_000 < files.weight_numbers < 2_000_000
    assert (files.trained_context, files.width, files.generates) == (2048, 128, True)
    assert files.cache_numbers_per_token == 2 * 3 * 128


def _without(name: str) -> Callable[[Path], None]:
    return lambda path: (path / name).unlink()


def _pickled(path: Path) -> None:
    (path / "model.safetensors").rename(path / "pytorch_model.bin")


def _cut(path: Path) -> None:
    file = path / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1000])


def _nonsense(path: Path) -> None:
    (path / "model.safetensors").write_bytes(b"\xff" * 64)


def _shard_missing(path: Path) -> None:
    index = {"weight_map": {"a": "model.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (path / "model.safetensors.index.json").write_text(json.dumps(index))


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (_without("config.json"), "has no config.json"),
        (_without("model.safetensors"), "no \\*.safetensors"),
        (_pickled, "allow_pickle"),
        (_cut, "cut off"),
        (_nonsense, "header is longer"),
        (_shard_missing, "model-00002-of-00002"),
        (lambda path: (path / "config.json").write_text("{"), "model"),
    ],
    ids=["no configuration", "no weights", "pickled", "cut", "nonsense", "no second part", "broken configuration"],
)
def test_what_is_wrong_is_told_to_the_operator(directory: Path, spoil: Callable[[Path], None], told: str) -> None:
    spoil(directory)
    with pytest.raises(ModelUnavailable) as caught:
        ModelFiles.read(directory)
    assert re.search(told, caught.value.detail)
    assert str(directory) not in caught.value.message


def test_pickled_weights_are_taken_where_they_are_allowed(directory: Path) -> None:
    _pickled(directory)
    files = ModelFiles.read(directory, pickles=True)
    assert files.size_bytes > 1_000_000
    assert files.weight_numbers == 0


def test_a_directory_that_is_none_is_told(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    with pytest.raises(ModelUnavailable, match="not on the worker") as caught:
        ModelFiles.read(tmp_path / "model.gguf")
    assert "is a file" in caught.value.detail
    with pytest.raises(ModelUnavailable):
        ModelFiles.read(tmp_path / "none")
