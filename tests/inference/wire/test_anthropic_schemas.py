"""JSON schemas as Anthropic's structured output takes them."""

from __future__ import annotations

from inference.wire.anthropic_schemas import closed


def test_every_object_is_closed_and_bounds_are_left_out() -> None:
    inner = {"type": "object", "properties": {"minimum": {"type": "number", "minimum": 1}}}
    schema = {
        "type": "object",
        "properties": {"list": {"type": "array", "items": inner, "maxItems": 3, "minItems": 1}},
        "$defs": {"one": {"anyOf": [inner, {"type": "null"}]}},
        "required": ["list"],
    }
    shut = {"type": "object", "properties": {"minimum": {"type": "number"}}, "additionalProperties": False}
    assert closed(schema) == {
        "type": "object",
        "properties": {"list": {"type": "array", "items": shut, "minItems": 1}},
        "$defs": {"one": {"anyOf": [shut, {"type": "null"}]}},
        "required": ["list"],
        "additionalProperties": False,
    }
