"""A JSON schema as Anthropic's structured output takes it, and whether OpenAI's takes it too. Pure.

Objects must be closed, and bounds of numbers, texts and lists are not known there: they are left out, so the answer has the shape and
its values may be wider. Source: https://platform.claude.com/docs/en/build-with-claude/structured-outputs.
"""

from __future__ import annotations

from typing import Any

_UNKNOWN = frozenset(
    {
        *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
        *("minLength", "maxLength", "maxItems", "uniqueItems", "minProperties", "maxProperties"),
    }
)
_NAMED = ("properties", "$defs", "definitions", "patternProperties")
_LISTED = ("anyOf", "oneOf", "allOf", "prefixItems")


def is_strict(schema: Any) -> bool:
    """Whether OpenAI follows it to the letter, for which every member of a closed object must be required; with Anthropic members may
    be left out. Source: https://platform.openai.com/docs/guides/structured-outputs#supported-schemas."""
    if isinstance(schema, list):
        return all(map(is_strict, schema))
    if not isinstance(schema, dict):
        return True
    members, required = schema.get("properties"), schema.get("required")
    if isinstance(members, dict) or schema.get("type") == "object":
        names = set(members) if isinstance(members, dict) else set()
        if schema.get("additionalProperties") is not False or not names.issubset(
            required if isinstance(required, list) else ()
        ):
            return False
    inner = (schema[name].values() for name in _NAMED if isinstance(schema.get(name), dict))
    return all(is_strict(each) for named in inner for each in named) and all(
        is_strict(schema[name]) for name in (*_LISTED, "items", "not") if name in schema
    )


def closed(schema: Any) -> Any:
    """The same schema with every object closed. What is no schema stays as it is."""
    if not isinstance(schema, dict):
        return schema
    said = {name: _member(name, value) for name, value in schema.items() if name not in _UNKNOWN}
    if isinstance(said.get("minItems"), int) and said["minItems"] > 1:
        del said["minItems"]
    kind = said.get("type")
    if kind == "object" or (isinstance(kind, list) and "object" in kind) or "properties" in said:
        said["additionalProperties"] = False
    return said


def _member(name: str, value: Any) -> Any:
    if name in _NAMED and isinstance(value, dict):
        return {each: closed(schema) for each, schema in value.items()}
    if name in _LISTED and isinstance(value, list):
        return [closed(schema) for schema in value]
    return closed(value) if name in ("items", "not") else value
