"""Chat completions as Anthropic's clients read them: whole answers and errors. No I/O.

`anthropic_events` has the streams, `anthropic_questions` what is asked; the other way round, for upstreams that speak the protocol,
are `anthropic_asking` and `anthropic_answers`. Source: https://platform.claude.com/docs/en/api/messages.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import orjson

from inference.errors import ContextLengthExceeded
from inference.wire.bodies import plain

STOP_REASONS = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "function_call": "tool_use",
    "content_filter": "refusal",
}
ERROR_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}
OVERLOADED = 529
"""What Anthropic answers where others say 503."""

_AS_THEY_ARE: Mapping[str, str] = {}
_KEPT_OF_ERRORS = ("code", "param", "details")


# Answers -----------------------------------------------------------------------------------------------------------


def message_body(
    completion: bytes, request_id: str, stops: Collection[str] = (), names: Mapping[str, str] = _AS_THEY_ARE
) -> bytes:
    """The message that a whole chat completion says. `stops` are the sequences at which it was to end, `names` the client's of tools
    that were said by others."""
    told = orjson.loads(completion)
    choice = (told.get("choices") or [{}])[0]
    said = plain(choice.get("message") or {})
    content = _thoughts(said)
    if (text := said.get("content") or said.get("refusal")) and text.strip():
        content.append({"type": "text", "text": text})
    content += [_tool_use(call, request_id, place, names) for place, call in enumerate(said.get("tool_calls") or ())]
    message = message_of(request_id, told.get("model"), content)
    message |= stop_of(choice, stops)
    if said.get("tool_calls") and message["stop_reason"] == "end_turn":  # as Gemini ends its calls
        message["stop_reason"] = "tool_use"
    message["usage"] = usage_of(told.get("usage"))
    if "x_gateway" in told:
        message["x_gateway"] = told["x_gateway"]
    return orjson.dumps(message)


def message_of(request_id: str, model: Any, content: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "id": f"msg_{request_id}",
        "type": "message",
        "role": "assistant",
        "model": model or "",
        "content": content,
        "stop_reason": None,
        "stop_sequence": None,
        "usage": usage_of(None),
    }


def stop_of(choice: dict[str, Any], stops: Collection[str] = ()) -> dict[str, Any]:
    """Why the answer ended. Some servers tell which stop they met (vLLM as `stop_reason`, SGLang as `matched_stop`); where none is
    told it counts as the answer's own end."""
    met = choice.get("stop_reason") or choice.get("matched_stop")
    if isinstance(met, str) and met in stops:
        return {"stop_reason": "stop_sequence", "stop_sequence": met}
    reason = STOP_REASONS.get(choice.get("finish_reason") or "stop", "end_turn")
    return {"stop_reason": reason, "stop_sequence": None}


def _thoughts(said: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Signed ones as they are: their model wants them back so."""
    blocks = said.get("thinking_blocks")
    if isinstance(blocks, list) and blocks:
        return [block for block in blocks if isinstance(block, dict)]
    thought = said.get("reasoning_content") or said.get("reasoning")
    return [{"type": "thinking", "thinking": thought, "signature": ""}] if isinstance(thought, str) and thought else []


def _tool_use(call: dict[str, Any], request_id: str, place: int, names: Mapping[str, str]) -> dict[str, Any]:
    function = call.get("function") or {}
    try:
        arguments = orjson.loads(function.get("arguments") or "{}")
    except orjson.JSONDecodeError:  # a model wrote it
        arguments = {}
    name = function.get("name") or ""
    block = named_call(call.get("id"), names.get(name, name), request_id, place)
    return {**block, "input": arguments if isinstance(arguments, dict) else {}}


def named_call(call_id: Any, name: str, request_id: str, place: int) -> dict[str, Any]:
    """A call's block before its input. Some servers leave the id out, by which results are told apart. OpenAI, which may be asked
    next, takes 40 letters of one."""
    its_id = call_id or f"toolu_{request_id.removeprefix('req_')}{place:02x}"
    return {"type": "tool_use", "id": its_id, "name": name, "input": {}}


def usage_of(told: Any) -> dict[str, Any]:
    """Anthropic counts what was read from a cache, or written to one, apart from the other input."""
    told = told if isinstance(told, dict) else {}
    details = told.get("prompt_tokens_details") or {}
    read, written = details.get("cached_tokens") or 0, details.get("cache_write_tokens") or 0
    return {
        "input_tokens": max(0, (told.get("prompt_tokens") or 0) - read - written),
        "cache_creation_input_tokens": written,
        "cache_read_input_tokens": read,
        "output_tokens": told.get("completion_tokens") or 0,
    }


# Errors ------------------------------------------------------------------------------------------------------------


def status_of(status: int) -> int:
    """Anthropic's number for one of ours."""
    return OVERLOADED if status == 503 else status


_TOO_LONG = "prompt is too long"
"""Anthropic's words, by which its clients know that they have to shorten a conversation."""


def error_of(told: Any, status: int, request_id: str) -> dict[str, Any]:
    """OpenAI's error envelope in Anthropic's; our code and parameter, and an upstream's details, stay beside the message."""
    error = told.get("error") if isinstance(told, dict) else None
    error = error if isinstance(error, dict) else {"message": str(error or "")}
    kind = ERROR_TYPES.get(status, "api_error" if status >= 500 else "invalid_request_error")
    said = {"type": kind, "message": error.get("message") or ""}
    if error.get("code") == ContextLengthExceeded.code and _TOO_LONG not in said["message"].lower():
        said["message"] = f"{_TOO_LONG}: {said['message']}"
    said |= {name: error[name] for name in _KEPT_OF_ERRORS if error.get(name) is not None}
    return {"type": "error", "error": said, "request_id": request_id}


def error_body(body: bytes, status: int, request_id: str) -> bytes:
    try:
        told = orjson.loads(body)
    except orjson.JSONDecodeError:
        told = None
    return orjson.dumps(error_of(told, status, request_id))
