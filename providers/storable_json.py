"""Which JSON every supported database can hold, and everybody who reads it can walk through. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

DEEPEST = 50
TOO_DEEP = f"Nested more than {DEEPEST} levels deep."


def why_not(value: Any, depth: int = 0) -> str:
    """The first thing that cannot be stored, as a sentence; empty where all of it can."""
    if depth > DEEPEST:
        return TOO_DEEP
    if isinstance(value, float) and not math.isfinite(value):
        return "Numbers without an end are not allowed."
    if isinstance(value, str):
        return _why_not_text(value)
    return next(filter(None, (why_not(member, depth + 1) for member in _members(value))), "")


def _why_not_text(text: str) -> str:
    if "\x00" in text:
        return "Null characters are not allowed."
    try:
        text.encode()
    except UnicodeEncodeError:
        return "Surrogate characters are not allowed."
    return ""


def _members(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return (*value, *value.values())
    return value if isinstance(value, list) else ()
