"""Models that a request names beside its own: an upstream may answer with one of them, or ask it on the way. Pure.

OpenRouter falls back on `models` (https://openrouter.ai/docs/features/model-routing), Anthropic on `fallbacks`; tools that run at the
vendor, such as OpenAI's `image_generation`, name a model of their own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

_LISTS = ("models", "fallbacks", "tools")
_NAME = b'"model"'


def named_beside(fields: Mapping[str, msgspec.Raw]) -> Iterator[str]:
    """Of a request's members, those names that its `model` is not."""
    for member in _LISTS:
        raw = fields.get(member)
        if raw is None or (member == "tools" and _NAME not in bytes(raw)):
            continue
        try:
            told = msgspec.json.decode(raw)
        except (
            msgspec.DecodeError,
            RecursionError,
            UnicodeDecodeError,
        ):  # the upstream shall say what is wrong with it
            continue
        for one in told if isinstance(told, list) else [told]:
            name = _name_of(one)
            if name is not None and (member != "tools" or isinstance(one, dict)):
                yield name


def _name_of(told: Any) -> str | None:
    name = told.get("model") if isinstance(told, dict) else told
    return name if isinstance(name, str) else None
