"""JSON that some database does not hold is told from JSON that all of them do."""

from __future__ import annotations

import json
from typing import Any

import pytest

from providers import storable_json


def test_what_every_database_holds_is_let_through() -> None:
    assert storable_json.why_not({"a": [1, 2.5, None, True, "é😀", {"b": {}}]}) == ""


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ({"a": "x\0"}, "Null characters"),
        ({"x\0": 1}, "Null characters"),
        ([{"a": "\ud800"}], "Surrogate characters"),
        ({"a": json.loads("1e400")}, "Numbers without an end"),
        ({"a": json.loads("[" * 60 + "]" * 60)}, "Nested more than 50"),
    ],
)
def test_the_rest_is_refused_with_the_reason(value: Any, told: str) -> None:
    assert storable_json.why_not(value).startswith(told)
