"""Choosing tokens from logits: the same rules as llama.cpp's."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.engine.requests import Sampling
from inference.engine.transformers_sampling import Chooser

LOGITS = np.array([1.0, 4.0, 3.0, 2.0, -1.0], np.float32)


def chosen(logits: np.ndarray = LOGITS, times: int = 200, **settings: object) -> set[int | None]:
    """What may come first: every choice of as many seeds."""
    return {
        Chooser(Sampling(**{"seed": seed, **settings}), len(logits)).choose(logits)  # type: ignore[arg-type]
        for seed in range(times)
    }


def test_temperature_zero_takes_the_likeliest() -> None:
    assert chosen(temperature=0.0) == {1}


def test_top_k_leaves_the_likeliest() -> None:
    assert chosen(temperature=2.0, top_k=2) == {1, 2}


def test_top_p_leaves_as_many_as_reach_it() -> None:
    probabilities = np.exp(LOGITS) / np.exp(LOGITS).sum()
    assert chosen(temperature=2.0, top_p=float(probabilities[1] - 0.01)) == {1}
    assert chosen(temperature=2.0, top_p=float(probabilities[1] + 0.01)) == {1, 2}


def test_min_p_leaves_those_near_the_likeliest() -> None:
    assert chosen(temperature=2.0, min_p=0.3) == {1, 2}


def test_a_bias_of_minus_a_hundred_bans_and_another_moves() -> None:
    assert chosen(temperature=0.0, logit_bias={1: -100}) == {2}
    assert chosen(temperature=0.0, logit_bias={4: 10, 99: 50}) == {4}


@pytest.mark.parametrize(
    "penalty",
    [{"repeat_penalty": 2.0}, {"presence_penalty": 2.0}, {"frequency_penalty": 2.0}],
    ids=lambda p: next(iter(p)),
)
def test_a_penalty_makes_room_for_others(penalty: dict[str, float]) -> None:
    chooser = Chooser(Sampling(temperature=0.0, **penalty), len(LOGITS))  # type: ignore[arg-type]
    assert [chooser.choose(LOGITS) for _ in range(2)] == [1, 2]


def test_only_what_a_grammar_allows_is_chosen() -> None:
    allowed = np.array([True, False, False, True, False])
    assert Chooser(Sampling(temperature=0.0), 5).choose(LOGITS, allowed) == 3
    assert Chooser(Sampling(temperature=0.0), 5).choose(LOGITS, np.zeros(5, bool)) is None


def test_the_same_seed_chooses_the_same() -> None:
    def run(seed: int) -> list[int | None]:
        chooser = Chooser(Sampling(temperature=2.0, seed=seed), len(LOGITS))
        return [chooser.choose(LOGITS) for _ in range(20)]

    assert run(5) == run(5) != run(6)


def test_logits_that_are_no_numbers_are_never_chosen() -> None:
    assert chosen(np.array([np.nan, 1.0, -np.inf], np.float32), temperature=1.0) == {1}


@given(st.floats(0.05, 0.95), st.integers(0, 2**32))
def test_a_large_vocabulary_is_cut_as_a_whole_one(top_p: float, seed: int) -> None:
    """Only the likeliest are put in order where they reach `top_p`."""
    logits = np.random.default_rng(seed).normal(size=2000).astype(np.float32) * 4
    kept, _ = Chooser(Sampling(top_p=top_p), len(logits))._candidates(logits)
    order = np.argsort(-logits, kind="stable")
    ends = np.cumsum(np.exp(logits[order].astype(np.float64)) / np.exp(logits.astype(np.float64)).sum())
    expected = int(np.searchsorted(ends, top_p)) + 1
    assert abs(len(kept) - expected) <= 1
    assert set(kept) <= set(order[: expected + 1])
