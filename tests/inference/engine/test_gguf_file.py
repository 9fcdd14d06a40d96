from __future__ import annotations

from pathlib import Path

import pytest

from inference.engine.gguf_file import read_header
from inference.engine.spec import DEMO_PATH
from inference.errors import ModelUnavailable


def refusal(path: Path) -> str:
    with pytest.raises(ModelUnavailable) as caught:
        read_header(path)
    assert str(path) not in caught.value.message, "callers do not learn where files lie"
    return caught.value.detail


def test_the_header_tells_context_and_cache_size() -> None:
    header = read_header(DEMO_PATH)
    assert header.architecture == "llama"
    assert header.trained_context == 2048
    assert header.cache_bytes_per_token() == 3 * 128 * 2 * 2
    assert header.size_bytes == DEMO_PATH.stat().st_size


def test_a_missing_file_is_named_to_the_operator(tmp_path: Path) -> None:
    assert "model_path" in refusal(tmp_path / "none.gguf")


def test_another_kind_of_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(b"PK\x03\x04 not a model")
    assert "GGUF" in refusal(path)


@pytest.mark.parametrize("length", [4, 7, 20, 300, 5000])
def test_a_cut_file_is_refused(tmp_path: Path, length: int) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(DEMO_PATH.read_bytes()[:length])
    assert "cut or damaged" in refusal(path)


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    first = tmp_path / "big-00001-of-00003.gguf"
    first.write_bytes(DEMO_PATH.read_bytes())
    (tmp_path / "big-00002-of-00003.gguf").write_bytes(b"GGUF")
    assert "big-00003-of-00003.gguf" in refusal(first)


def test_the_first_shard_is_asked_for(tmp_path: Path) -> None:
    second = tmp_path / "big-00002-of-00002.gguf"
    second.write_bytes(DEMO_PATH.read_bytes())
    assert "big-00001-of-00002.gguf" in refusal(second)


def test_all_shards_count_for_the_size(tmp_path: Path) -> None:
    for number in (1, 2):
        (tmp_path / f"big-0000{number}-of-00002.gguf").write_bytes(DEMO_PATH.read_bytes())
    assert read_header(tmp_path / "big-00001-of-00002.gguf").size_bytes == 2 * DEMO_PATH.stat().st_size
