"""What a registry entry of a transformers model becomes, before anybody imports torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from inference.engine import transformers_spec
from inference.engine.spec import DEMO_PATH
from inference.engine.specs import spec_of
from inference.engine.transformers_spec import TransformersSpec, find
from inference.errors import ConfigurationError, ModelUnavailable
from tests.inference import registry
from tests.inference.engine.model_directory import write_directory

BACKEND = "inference.backends.transformers.Transformers"


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_directory(DEMO_PATH, tmp_path_factory.mktemp("model"))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A hub cache that holds org/name at one revision."""
    snapshot = tmp_path / "models--org--name" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (tmp_path / "models--org--name" / "refs").mkdir()
    (tmp_path / "models--org--name" / "refs" / "main").write_text("abc\n")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    return snapshot


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transformers_spec, "sees_cuda", lambda: False)


def spec(path: Path | str, **parameters: Any) -> TransformersSpec:
    return TransformersSpec.from_parameters({"model_path": str(path), **parameters})


def test_the_registrys_values_reach_the_engine(directory: Path) -> None:
    made = spec(directory, device="cuda:1", dtype="bfloat16", max_memory_gb="7.5", context_size=512, preload="true")
    assert (made.device, made.dtype, made.context_size, made.preload) == ("cuda:1", "bfloat16", 512, True)
    assert made.max_memory_bytes == int(7.5 * 2**30)
    assert not made.trust_remote_code
    assert not made.allow_pickle


def test_the_librarys_own_names_are_understood(directory: Path) -> None:
    made = spec(directory, torch_dtype="torch.float16", device_map="cpu")
    assert (made.dtype, made.device) == ("float16", "cpu")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("dtype", "int4"),
        ("device", "gpu"),
        ("max_memory_gb", "much"),
        ("max_memory_gb", -1),
        ("pooling", "max"),
        ("task", "x"),
    ],
)
def test_a_value_that_cannot_work_is_named(directory: Path, name: str, value: Any) -> None:
    with pytest.raises(ConfigurationError) as caught:
        spec(directory, **{name: value})
    assert caught.value.param == name


def test_a_model_without_a_path_is_looked_up_by_its_id(cache: Path) -> None:
    owner = registry.provider("gpu", backend=BACKEND)
    made = spec_of(registry.model(owner, "org/name"))
    assert isinstance(made, TransformersSpec)
    assert made.path == cache


def test_a_model_with_neither_path_nor_such_an_id_has_no_directory() -> None:
    with pytest.raises(ConfigurationError, match="no directory"):
        spec_of(registry.model(registry.provider("gpu", backend=BACKEND), "just-a-name"))


def test_a_revision_may_be_a_commit(cache: Path) -> None:
    assert find("org/name", revision="abc") == cache


def test_what_was_never_downloaded_is_told_with_the_command(cache: Path) -> None:
    with pytest.raises(ModelUnavailable) as caught:
        find("org/other")
    assert "hf download org/other" in caught.value.detail


def test_the_name_does_not_make_another_model(directory: Path) -> None:
    one = TransformersSpec.from_parameters({"model_path": str(directory)}, name="a/b")
    assert one.key == TransformersSpec.from_parameters({"model_path": str(directory), "preload": True}, name="c/d").key


@pytest.mark.usefixtures("no_gpu")
def test_memory_is_planned_by_the_numbers_that_the_weights_become(directory: Path) -> None:
    half, single = (spec(directory, dtype=dtype).device_bytes() for dtype in ("bfloat16", "float32"))
    assert single - half > 700_000 * 2
    assert spec(directory).device_bytes() == single, "float16 is computed in single precision on a CPU"


@pytest.mark.usefixtures("no_gpu")
def test_on_a_gpu_the_machines_own_memory_is_not_needed(directory: Path) -> None:
    here, there = spec(directory, device="cpu"), spec(directory, device="cuda")
    assert here.estimated_bytes() == there.estimated_bytes() + here.device_bytes()


def test_the_context_is_the_trained_one_up_to_a_bound(directory: Path) -> None:
    assert spec(directory).sized().context_size == 2048
    assert spec(directory, context_size=64).sized().context_size == 64
