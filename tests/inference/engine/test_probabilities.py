from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.engine.probabilities import in_order, log_probabilities

LOGITS = np.array([0.0, 3.0, 2.0, 2.0, -np.inf, 1.0], np.float32)


def test_log_probabilities_are_the_models_own() -> None:
    own, best = log_probabilities(LOGITS, 3, 2)
    assert own == pytest.approx(float(np.log(np.exp(2) / np.exp(LOGITS).sum())), abs=1e-5)
    assert [token for token, _ in best] == [1, 2], "of equal ones the first"
    assert log_probabilities(LOGITS, 3, 0)[1] == []


def test_what_is_impossible_is_no_alternative() -> None:
    assert [token for token, _ in log_probabilities(LOGITS, 1, 20)[1]] == [1, 2, 3, 5, 0]


@given(st.lists(st.sampled_from([-np.inf, 0.0, 1.0, 2.0]), min_size=1, max_size=30), st.integers(1, 40))
def test_the_likeliest_are_those_of_a_whole_order_however_many_are_equal(values: list[float], most: int) -> None:
    logits = np.array(values, np.float32)
    expected = [token for token in np.argsort(-logits, kind="stable") if np.isfinite(logits[token])][:most]
    assert in_order(logits, most).tolist() == expected
    assert in_order(logits, 0).tolist()[:most] == expected
