"""Which models stay loaded. The engines are stand-ins at the far end; one test at the end loads real ones."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from inference.demo_model.build import random_model
from inference.engine.preflight import installed
from inference.engine.spec import BUILTIN_DEMO, ModelSpec
from inference.engine.supervised import EngineChoice
from inference.errors import ModelUnavailable, OutOfMemory
from inference.residency import Residency

MEGABYTE = 1024 * 1024
COMPILED = EngineChoice("llama_cpp")


class FakeEngine:
    """Counts what happens to it; `memory_mb` is what it will say it takes."""

    made: list[FakeEngine]
    memory_mb = 60

    def __init__(self, spec: ModelSpec, choice: EngineChoice, *, memory_limit: int | None = None) -> None:
        self.spec, self.choice, self.memory_limit = spec, choice, memory_limit
        self.starts, self.closed = 0, False
        self.ready: Any = None
        self.failure: Exception | None = None
        type(self).made.append(self)

    def start(self) -> Any:
        if self.failure is not None:
            raise self.failure
        self.starts += 1
        self.ready = SimpleNamespace(
            engine=self.choice.name, memory_bytes=self.memory_mb * MEGABYTE, load_seconds=0.1, notes=(), device_bytes=0
        )
        return self.ready

    def close(self) -> None:
        self.closed, self.ready = True, None


@pytest.fixture
def engines(monkeypatch: pytest.MonkeyPatch) -> list[FakeEngine]:
    monkeypatch.setattr(FakeEngine, "made", [], raising=False)
    return FakeEngine.made


@pytest.fixture
def open_residency() -> Iterator[Callable[..., Residency]]:
    opened: list[Residency] = []

    def make(budget: int | None = None, **more: Any) -> Residency:
        more = {"choose": lambda: COMPILED, "start": FakeEngine, "wait_seconds": 60, **more}
        opened.append(Residency(memory_budget_mb=budget, **more))
        return opened[-1]

    yield make
    for residency in opened:
        residency.close()


@pytest.fixture
def spec(tmp_path: Path) -> Callable[[str], ModelSpec]:
    """Specs of different files, each estimated at about 50 MB."""

    def make(name: str) -> ModelSpec:
        path = tmp_path / f"{name}.gguf"
        if not path.exists():
            random_model(path)
        return ModelSpec.from_parameters({"model_path": str(path), "context_size": 64}, name=name)

    return make


Open = Callable[..., Residency]
Spec = Callable[[str], ModelSpec]


def names(residency: Residency) -> list[str]:
    return [model.name for model in residency.resident()]


def test_a_model_is_kept_for_the_next_request(open_residency: Open, spec: Spec, engines: list[FakeEngine]) -> None:
    residency = open_residency()
    with residency.lease(spec("a")) as first:
        pass
    with residency.lease(spec("a")) as second:
        assert second is first
    assert len(engines) == 1


def test_a_file_outside_the_named_folders_is_not_loaded(
    open_residency: Open, spec: Spec, engines: list[FakeEngine], tmp_path: Path
) -> None:
    elsewhere = tmp_path / "models"
    elsewhere.mkdir()
    residency = open_residency(folders=[elsewhere])
    with pytest.raises(ModelUnavailable) as caught, residency.lease(spec("outside")):
        pass
    assert "GATEWAY_MODEL_FOLDERS" in caught.value.detail
    assert engines == []


def test_a_file_in_the_named_folders_and_the_built_in_one_are_loaded(
    open_residency: Open, spec: Spec, engines: list[FakeEngine], tmp_path: Path
) -> None:
    residency = open_residency(folders=[tmp_path])
    with residency.lease(spec("a")), residency.lease(ModelSpec.from_parameters({"model_path": BUILTIN_DEMO})):
        assert len(engines) == 2


def test_twenty_first_calls_make_one_engine(open_residency: Open, spec: Spec, engines: list[FakeEngine]) -> None:
    residency, wanted, together = open_residency(), spec("a"), threading.Barrier(20)

    def call(_: int) -> None:
        together.wait()
        with residency.lease(wanted):
            pass

    with ThreadPoolExecutor(20) as pool:
        list(pool.map(call, range(20)))
    assert len(engines) == 1


def test_the_longest_unused_idle_model_makes_place(open_residency: Open, spec: Spec, engines: list[FakeEngine]) -> None:
    residency = open_residency(130)
    for name in ("a", "b", "a", "c"):
        with residency.lease(spec(name)):
            pass
    assert names(residency) == ["c", "a"]
    assert [engine.closed for engine in engines] == [False, True, False]


def test_a_model_in_use_is_never_unloaded(open_residency: Open, spec: Spec, engines: list[FakeEngine]) -> None:
    residency = open_residency(130)
    with residency.lease(spec("a")), residency.lease(spec("b")):
        pass
    with residency.lease(spec("a")):
        with residency.lease(spec("c")):
            assert not engines[0].closed
        assert set(names(residency)) == {"a", "c"}


def test_when_all_are_in_use_a_request_waits_for_a_place(
    open_residency: Open, spec: Spec, engines: list[FakeEngine]
) -> None:
    residency = open_residency(70)
    inside, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with residency.lease(spec("a")):
            inside.set()
            leave.wait(60)

    with ThreadPoolExecutor(2) as pool:
        holding = pool.submit(hold)
        assert inside.wait(60)

        def want() -> str:
            with residency.lease(spec("b")) as engine:
                return engine.spec.name

        wanting = pool.submit(want)
        leave.set()
        assert wanting.result(60) == "b"
        holding.result(60)
    assert engines[0].closed


class OnDevice(ModelSpec):
    """Of another library, and of a GPU's memory that holds one of them."""

    library = "transformers"
    max_memory_bytes = 100 * MEGABYTE

    def device_bytes(self) -> int:
        return 60 * MEGABYTE


def test_a_model_whose_going_would_make_no_place_stays(
    open_residency: Open, spec: Spec, engines: list[FakeEngine]
) -> None:
    residency = open_residency(wait_seconds=0)
    with residency.lease(spec("a")):
        pass
    busy, wanted = (OnDevice.from_parameters({"model_path": str(spec(name).path)}, name=name) for name in ("b", "c"))
    with residency.lease(busy), pytest.raises(OutOfMemory), residency.lease(wanted):
        pass
    assert set(names(residency)) == {"a", "b"}


def test_no_place_within_the_wait_is_out_of_memory(open_residency: Open, spec: Spec, engines: list[FakeEngine]) -> None:
    residency = open_residency(70, wait_seconds=0)
    with residency.lease(spec("a")), pytest.raises(OutOfMemory) as caught, residency.lease(spec("b")):
        pass
    assert "GATEWAY_LOCAL_MEMORY_MB" in caught.value.detail
    assert caught.value.retryable


def test_a_model_larger_than_the_budget_is_refused_at_once(
    open_residency: Open, spec: Spec, engines: list[FakeEngine]
) -> None:
    with pytest.raises(OutOfMemory), open_residency(10).lease(spec("a")):
        pass
    assert engines == []


def test_without_a_budget_everything_stays(open_residency: Open, spec: Spec, engines: list[FakeEngine]) -> None:
    residency = open_residency()
    for name in ("a", "b", "c"):
        with residency.lease(spec(name)):
            pass
    assert names(residency) == ["c", "b", "a"]


def test_a_model_that_does_not_load_takes_no_place(
    open_residency: Open, spec: Spec, engines: list[FakeEngine], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: FakeEngine) -> None:
        raise ModelUnavailable("broken")

    residency = open_residency()
    with monkeypatch.context() as patch:
        patch.setattr(FakeEngine, "start", refuse)
        with pytest.raises(ModelUnavailable), residency.lease(spec("a")):
            pass
    assert residency.resident() == []
    with residency.lease(spec("a")):
        assert names(residency) == ["a"]


def test_an_idle_model_moves_to_the_engine_that_became_available(
    open_residency: Open, spec: Spec, engines: list[FakeEngine]
) -> None:
    best = [EngineChoice("xllamacpp")]
    residency = open_residency(choose=lambda: best[0])
    with residency.lease(spec("a")) as before:
        best[0] = COMPILED
        with residency.lease(spec("a")) as meanwhile:
            assert meanwhile is before, "not while it is in use"
    with residency.lease(spec("a")) as after:
        assert after.choice == COMPILED
    assert engines[0].closed


def test_the_status_tells_what_is_loaded(open_residency: Open, spec: Spec, engines: list[FakeEngine]) -> None:
    residency = open_residency()
    with residency.lease(spec("a")):
        (model,) = residency.resident()
    assert (model.name, model.engine, model.users, model.memory_bytes) == ("a", "llama_cpp", 1, 60 * MEGABYTE)


def test_a_model_can_be_unloaded_when_nobody_uses_it(
    open_residency: Open, spec: Spec, engines: list[FakeEngine]
) -> None:
    residency = open_residency()
    with residency.lease(spec("a")):
        assert not residency.unload(spec("a"))
    assert residency.unload(spec("a"))
    assert engines[0].closed
    assert not residency.unload(spec("a"))


def test_closing_unloads_everything(open_residency: Open, spec: Spec, engines: list[FakeEngine]) -> None:
    residency = open_residency()
    for name in ("a", "b"):
        residency.preload(spec(name))
    residency.close()
    assert all(engine.closed for engine in engines)
    with pytest.raises(ModelUnavailable), residency.lease(spec("c")):
        pass
    assert len(engines) == 2, "whoever comes late starts nothing that nobody would end"


def test_a_real_model_is_loaded_used_and_evicted(spec: Spec) -> None:
    choice = COMPILED if installed("llama_cpp") else EngineChoice("xllamacpp")
    residency = Residency(choose=lambda: choice, memory_budget_mb=125)
    demo = ModelSpec.from_parameters({"model_path": BUILTIN_DEMO, "threads": 1}, name="demo")
    try:
        with residency.lease(demo) as engine:
            first = engine.process_id
            assert first is not None
        assert residency.resident()[0].memory_bytes > 20 * MEGABYTE
        with residency.lease(spec("a")):
            assert names(residency) == ["a"]
        assert engine.process_id is None
    finally:
        residency.close()
