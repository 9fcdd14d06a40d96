"""A request in Anthropic's own words, made fit for the model that gets it."""

from __future__ import annotations

from typing import Any

import msgspec
import orjson
import pytest

from inference.wire.anthropic_native import most_output, without_unsigned_thoughts


def raw(told: Any) -> msgspec.Raw:
    return msgspec.Raw(orjson.dumps(told))


def changed(most: int, **fields: Any) -> dict[str, Any]:
    told = most_output({name: raw(value) for name, value in fields.items()}, most)
    return {name: orjson.loads(bytes(value)) for name, value in told.items()}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"max_tokens": 4000}, {}),
        ({"max_tokens": 5000}, {"max_tokens": 4000}),
        ({"max_tokens": "many"}, {}),
        (
            {"max_tokens": 32_000, "thinking": {"type": "enabled", "budget_tokens": 31_999}},
            {"max_tokens": 4000, "thinking": {"type": "enabled", "budget_tokens": 2000}},
        ),
        ({"max_tokens": 9000, "thinking": {"type": "adaptive"}}, {"max_tokens": 4000}),
    ],
)
def test_no_answer_is_longer_than_the_registry_lets_it_be(fields: dict, expected: dict) -> None:
    assert changed(4000, **fields) == expected


def test_a_limit_too_small_to_think_in_turns_thinking_off() -> None:
    told = changed(1000, max_tokens=9000, thinking={"type": "enabled", "budget_tokens": 2000})
    assert told["thinking"] == {"type": "disabled"}


def test_thoughts_of_other_models_are_left_out_and_the_rest_stays_byte_for_byte() -> None:
    signed = {"type": "thinking", "thinking": "hm", "signature": "s"}
    foreign = {"type": "thinking", "thinking": "hm", "signature": ""}
    said = {"type": "text", "text": "a"}
    clean = msgspec.Raw(b'[{"role": "assistant",  "content": [{"type":"text","text":"a"}]}]')
    assert without_unsigned_thoughts(clean) is clean
    told = without_unsigned_thoughts(raw([{"role": "assistant", "content": [foreign, signed, said]}]))
    assert orjson.loads(bytes(told)) == [{"role": "assistant", "content": [signed, said]}]
