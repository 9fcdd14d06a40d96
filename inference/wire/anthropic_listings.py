"""The list of models in the form of Anthropic's clients, page by page. Pure.

Source: https://platform.claude.com/docs/en/api/models/list.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from inference.errors import InvalidRequest

_USUAL, _MOST = 20, 1000


def model_of(told: Mapping[str, Any]) -> dict[str, Any]:
    """One model out of its object in OpenAI's form."""
    name = told["id"]
    said = {
        "type": "model",
        "id": name,
        "display_name": told.get("display_name") or name,
        "created_at": datetime.fromtimestamp(told["created"], UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "lifecycle": "active",
    }
    if told.get("context_window"):
        said["max_input_tokens"] = told["context_window"]
    if told.get("max_tokens"):
        said["max_tokens"] = told["max_tokens"]
    return said


def page_of(models: Sequence[dict[str, Any]], asked: Mapping[str, str]) -> dict[str, Any]:
    """`limit` models after `after_id`, or before `before_id`. Raises `InvalidRequest`."""
    limit = _limit(asked.get("limit"))
    names = [model["id"] for model in models]
    begin, end = 0, len(models)
    if after := asked.get("after_id"):
        begin = _place(names, after, "after_id") + 1
    if before := asked.get("before_id"):
        end = _place(names, before, "before_id")
    shown = list(models[begin:end])
    has_more = len(shown) > limit
    shown = shown[-limit:] if before and not after else shown[:limit]
    return {
        "data": shown,
        "has_more": has_more,
        "first_id": shown[0]["id"] if shown else None,
        "last_id": shown[-1]["id"] if shown else None,
    }


def _limit(told: str | None) -> int:
    if told is None:
        return _USUAL
    if not told.isdecimal() or len(told) > 4 or not 1 <= int(told) <= _MOST:
        raise InvalidRequest(f"limit: Input should be a number from 1 to {_MOST}", param="limit")
    return int(told)


def _place(names: Sequence[str], name: str, param: str) -> int:
    try:
        return names.index(name)
    except ValueError:
        raise InvalidRequest(f"{param}: there is no model '{name[:200]}' on this list", param=param) from None
