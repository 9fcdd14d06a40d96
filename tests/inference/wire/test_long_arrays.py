"""A long array in a JSON object, cut into its elements while it comes in."""

from __future__ import annotations

import json
from typing import Any

import pytest

from inference.errors import BodyTooLarge, InvalidRequest
from inference.wire import long_arrays
from inference.wire.long_arrays import Elements

ODD = [{"a": 'x "{[]}" \\" \\'}, {"deep": [{"b": [1, {}]}], "ü": "\n\t}"}, {}, {"last": "\\"}]


def cut(raw: bytes, size: int = 1 << 20, longest: int = 1000) -> tuple[list[bytes], dict[str, Any]]:
    elements = Elements("these", longest)
    found = [one for at in range(0, len(raw), size) for one in elements.feed(raw[at : at + size])]
    return found, elements.end()


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("size", [1, 2, 3, 7, 1 << 20])
def test_elements_are_whole_wherever_the_pieces_end(size: int, indent: int | None) -> None:
    told = {"before": [{"these": [{}]}], "these": ODD, "after": "these: [{}]"}
    found, around = cut(json.dumps(told, indent=indent).encode(), size)
    assert [json.loads(one) for one in found] == ODD
    assert around == told | {"these": [{}, {}, {}, {}]}


def test_what_is_no_object_is_left_where_it_stands() -> None:
    assert cut(b'{"these": [1, [{"a": 1}], {"b": 2}, null]}') == ([b'{"b": 2}'], {"these": [1, [{"a": 1}], {}, None]})
    assert cut(b'{"these": {"a": {"b": 1}}}') == ([], {"these": {"a": {"b": 1}}})
    assert cut(b"{}") == ([], {})


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[]",
        b"[[{}]]",
        b'{"these": [{}',
        b'{"these": [{}]',
        b'{"these": [{}]}]',
        b'{"these": [{}{}]}',
        b'{"these": [{}], "these": []}',
        b'{"these": [{}], "these": [{}]}',
        b'{"x\\"these": [{}]}',
        b'{"these"' + b" " * 500 + b": [{}]}",
        b'}}{"these": [{}]}',
    ],
)
def test_what_is_no_object_with_such_an_array_is_refused(raw: bytes) -> None:
    with pytest.raises(InvalidRequest):
        cut(raw, 3)


@pytest.mark.parametrize("inside", [b"{}," * 3000, b'[""],' * 3000, b"[" * 3000 + b"]" * 3000 + b",", b'"",' * 3000])
def test_what_is_dense_inside_an_element_is_passed_over_at_once(inside: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = []
    step = Elements._next
    monkeypatch.setattr(Elements, "_next", lambda self, data, at: steps.append(at) or step(self, data, at))
    element = b'{"a": [' + inside + b"0]}"
    assert cut(b'{"these": [' + element + b"]}", longest=100_000) == ([element], {"these": [{}]})
    assert len(steps) < 20


@pytest.mark.parametrize("tail", [b"", b"}]}"])
def test_an_element_that_is_too_large_is_refused_by_its_place_before_its_end(tail: bytes) -> None:
    with pytest.raises(BodyTooLarge) as refused:
        cut(b'{"these": [{"a": 1}, {"b": "' + b"x" * 90 + tail, 10, longest=50)
    assert refused.value.param == "these.1"


def test_what_stands_around_may_not_be_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(long_arrays, "MOST_AROUND", 50)
    assert cut(b'{"these": [{}]}' + b" " * 30)[0] == [b"{}"]
    with pytest.raises(InvalidRequest, match="too much beside"):
        cut(b'{"these": "' + b"x" * 60 + b'"}', 10)
