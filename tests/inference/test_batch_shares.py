from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from inference.batch_shares import HIGH, LOW, NORMAL, Wish, shared

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)


def wish(name: str, priority: int = NORMAL, most: int | None = None, after: int = 0) -> Wish:
    return Wish(name, priority, BEGAN + timedelta(seconds=after), most)


def test_equals_share_and_the_older_gets_the_odd_line() -> None:
    assert shared(8, [wish("b", after=1), wish("a"), wish("c", after=2)]) == {"a": 3, "b": 3, "c": 2}


def test_the_higher_priority_takes_what_it_may_first() -> None:
    assert shared(8, [wish("low", LOW), wish("high", HIGH)]) == {"high": 8, "low": 0}
    assert shared(8, [wish("low", LOW), wish("high", HIGH, most=3)]) == {"high": 3, "low": 5}


def test_what_one_cannot_take_its_equals_get() -> None:
    assert shared(9, [wish("a", most=1), wish("b"), wish("c", after=1)]) == {"a": 1, "b": 4, "c": 4}


wishes = st.lists(st.tuples(st.sampled_from((HIGH, NORMAL, LOW)), st.none() | st.integers(0, 9)), max_size=8)


@given(st.integers(1, 40), wishes)
def test_the_limit_is_kept_and_nothing_is_left_that_somebody_could_take(limit: int, told: list) -> None:
    asked = [wish(str(n), priority, most, n) for n, (priority, most) in enumerate(told)]
    given_out = shared(limit, asked)
    assert all(one.most is None or given_out[one.batch_id] <= one.most for one in asked)
    wanted = sum(limit if one.most is None else one.most for one in asked)
    assert sum(given_out.values()) == min(limit, wanted)
