"""The bodies of requests as the dialects read and write them, one JSON object each, and what answers say in them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import orjson

from inference.errors import InvalidRequest


def read(body: bytes) -> dict[str, Any]:
    """Raises `InvalidRequest` for what is no JSON object."""
    try:
        told = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidRequest(f"The request body is not valid JSON: {error}.") from None
    if not isinstance(told, dict):
        raise InvalidRequest("The request body must be a JSON object.")
    return told


def written(said: Mapping[str, Any]) -> bytes:
    """Raises `InvalidRequest`: orjson reads more levels than it writes."""
    try:
        return orjson.dumps(said)
    except orjson.JSONEncodeError:
        raise InvalidRequest("The request body is nested too deeply.") from None


def plain(said: Mapping[str, Any]) -> Mapping[str, Any]:
    """A message, or a piece of one, with a text for its content and beside it what was thought. Mistral's models that think answer
    with a list of parts, thoughts among them: https://docs.mistral.ai/capabilities/reasoning/."""
    content = said.get("content")
    if not isinstance(content, list):
        return said
    parts = [part for part in content if isinstance(part, dict)]
    told = {**said, "content": _joined(parts)}
    if thought := "".join(_thought(part) for part in parts if part.get("type") == "thinking"):
        told["reasoning_content"] = thought
    return told


def _thought(part: Mapping[str, Any]) -> str:
    thinking = part.get("thinking")
    return _joined(thinking) if isinstance(thinking, list) else str(thinking or "")


def _joined(parts: Iterable[Any]) -> str:
    texts = (part.get("text") for part in parts if isinstance(part, dict) and part.get("type") == "text")
    return "".join(text for text in texts if isinstance(text, str))
