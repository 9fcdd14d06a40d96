from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from inference.engine.prefixes import common_prefix


@given(st.integers(0, 1500), st.integers(0, 40), st.integers(0, 40))
def test_the_common_beginning_is_counted_exactly(shared: int, one_more: int, other_more: int) -> None:
    beginning = list(range(shared))
    assert common_prefix(beginning + [-1] * one_more, beginning + [-2] * other_more) == shared


def test_equal_sequences_have_everything_in_common() -> None:
    assert common_prefix([1] * 777, [1] * 777) == 777
