"""Which tool call a piece of a stream belongs to."""

from __future__ import annotations

from typing import Any

import pytest

from inference.wire.call_numbers import CallNumbers


@pytest.mark.parametrize(
    ("pieces", "numbers"),
    [
        ([{"index": 0, "id": "a"}, {"index": 0}, {"index": 1, "id": "b"}, {"index": 0}], [0, 0, 1, 0]),
        ([{"id": "a"}, {"id": "b"}, {}], [0, 1, 1]),
        ([{"index": 0, "id": "a"}, {"index": 0, "id": "b"}, {"index": 0}], [0, 1, 1]),
        ([{"index": 0, "id": "a"}, {"index": 0, "id": "a"}, {"index": 1, "id": "b"}], [0, 0, 1]),
        ([{"index": 2}, {"index": 2}, {"index": 3}], [2, 2, 3]),
        ([{}, {}], [0, 0]),
    ],
    ids=["OpenAI", "no index", "one index for all", "ids repeated", "no ids", "nothing told"],
)
def test_a_piece_belongs_to_the_call_that_it_names(pieces: list[dict[str, Any]], numbers: list[int]):
    known = CallNumbers()
    assert [known.of(piece) for piece in pieces] == numbers
