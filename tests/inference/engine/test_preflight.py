from __future__ import annotations

from pathlib import Path

import pytest

from inference.engine import preflight
from inference.engine.preflight import Preflight
from inference.engine.supervised import EngineChoice
from inference.errors import ModelUnavailable


@pytest.fixture
def trials(monkeypatch: pytest.MonkeyPatch) -> dict[EngineChoice, str | None]:
    """What each trial will say, by candidate; untold ones are not installed."""
    told: dict[EngineChoice, str | None] = {}
    asked: list[EngineChoice] = []

    def failure(choice: EngineChoice) -> str | None:
        asked.append(choice)
        return told.get(choice, "not installed")

    monkeypatch.setattr(preflight, "failure", failure)
    monkeypatch.setattr(preflight, "_LOOK_AGAIN_SECONDS", 0)
    monkeypatch.setattr(preflight, "asked", asked, raising=False)
    return told


COMPILED, SAFE, PREBUILT = preflight.CANDIDATES


def asked() -> list[EngineChoice]:
    return preflight.asked  # type: ignore[attr-defined,no-any-return]


def test_an_engine_of_this_machine_passes_its_trial(choice: EngineChoice) -> None:
    assert preflight.failure(choice) is None


def test_the_compiled_engine_is_preferred(trials: dict[EngineChoice, str | None]) -> None:
    trials.update({COMPILED: None, PREBUILT: None})
    assert Preflight().choose() == COMPILED


def test_a_build_that_crashes_is_used_without_the_extra_buffers(trials: dict[EngineChoice, str | None]) -> None:
    trials.update({COMPILED: "ended with code -11", SAFE: None})
    assert Preflight().choose() == SAFE


def test_the_prebuilt_engine_stands_in(trials: dict[EngineChoice, str | None]) -> None:
    trials[PREBUILT] = None
    assert Preflight().choose() == PREBUILT


def test_no_engine_at_all_says_what_to_do(trials: dict[EngineChoice, str | None]) -> None:
    with pytest.raises(ModelUnavailable) as caught:
        Preflight().choose()
    assert "make engine" in caught.value.detail


def test_the_result_is_remembered_in_the_data_directory(trials: dict[EngineChoice, str | None], tmp_path: Path) -> None:
    trials[COMPILED] = None
    Preflight(tmp_path).choose()
    assert Preflight(tmp_path).choose() == COMPILED
    assert asked() == [COMPILED]


def test_a_new_build_is_tried_again(
    trials: dict[EngineChoice, str | None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trials[PREBUILT] = None
    remembering = Preflight(tmp_path)
    assert remembering.choose() == PREBUILT
    trials[COMPILED] = None
    monkeypatch.setattr(preflight, "fingerprint", lambda: "another")
    assert remembering.choose() == COMPILED


def test_one_engine_alone_can_be_asked_for(trials: dict[EngineChoice, str | None]) -> None:
    trials.update({COMPILED: None, PREBUILT: None})
    assert Preflight(only="xllamacpp").choose() == PREBUILT


def test_a_damaged_memory_is_ignored(trials: dict[EngineChoice, str | None], tmp_path: Path) -> None:
    (tmp_path / "engine_preflight.json").write_text("{")
    trials[COMPILED] = None
    assert Preflight(tmp_path).choose() == COMPILED


def test_the_fingerprint_changes_with_what_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    before = preflight.fingerprint()
    monkeypatch.setattr(preflight, "PACKAGES", {"llama_cpp": "no-such-distribution"})
    assert preflight.fingerprint() != before
