"""Anthropic's Messages format, said in OpenAI's and back: bodies and errors. No I/O; `anthropic_events` has the streams.

What cannot be said in a chat completion is refused by name rather than dropped: documents, server tools, MCP servers.
`top_k`, `thinking` and `cache_control` are hints of which an answer without them is no wrong one; they are left out.
Source: https://docs.anthropic.com/en/api/messages and …/messages-streaming.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import orjson

from inference.errors import InvalidRequest

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
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}

_SAME = ("model", "temperature", "top_p", "max_tokens")
_SAID_OTHERWISE = {"messages", "system", "stream", "stop_sequences", "metadata", "tools", "tool_choice", "mcp_servers"}
_LEFT_OUT = {"top_k", "thinking", "service_tier", "container", "context_management", "output_config", "inference_geo"}
_READ = frozenset({*_SAME, *_SAID_OTHERWISE, *_LEFT_OUT})
_THOUGHTS = ("thinking", "redacted_thinking")
"""What a model thought is its own, and its next turn does without."""
_TOOL_CHOICES = {"auto": "auto", "any": "required", "none": "none"}


# Requests ----------------------------------------------------------------------------------------------------------


def chat_body(body: bytes, *, counts_only: bool = False) -> bytes:
    """The body of a chat completion that asks for the same. Raises `InvalidRequest`, naming the member in Anthropic's words."""
    told = _object(body)
    if not isinstance(told.get("messages"), list) or not told["messages"]:
        raise InvalidRequest("messages: Field required", param="messages")
    if not counts_only and told.get("max_tokens") is None:
        raise InvalidRequest("max_tokens: Field required", param="max_tokens")
    if told.get("mcp_servers"):
        raise InvalidRequest("mcp_servers: the gateway calls no MCP servers", param="mcp_servers")
    said: dict[str, Any] = {name: value for name, value in told.items() if name not in _READ}
    said |= {name: told[name] for name in _SAME if told.get(name) is not None}
    said["messages"] = [*_system(told.get("system")), *_messages(told["messages"])]
    if stops := told.get("stop_sequences"):
        said["stop"] = stops
    if user := _object_of(told, "metadata").get("user_id"):
        said["user"] = user
    if tools := told.get("tools"):
        said["tools"] = [_tool(tool, place) for place, tool in enumerate(_list(tools, "tools"))]
    if (choice := told.get("tool_choice")) is not None:
        said |= _tool_choice(choice)
    if told.get("stream") is True and not counts_only:
        said["stream"], said["stream_options"] = True, {"include_usage": True}
    try:
        return orjson.dumps(said)
    except orjson.JSONEncodeError:  # it reads more levels than it writes
        raise InvalidRequest("The request body is nested too deeply.") from None


def _object(body: bytes) -> dict[str, Any]:
    try:
        told = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidRequest(f"The request body is not valid JSON: {error}.") from None
    if not isinstance(told, dict):
        raise InvalidRequest("The request body must be a JSON object.")
    return told


def _object_of(told: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = told.get(name) or {}
    if not isinstance(value, dict):
        raise InvalidRequest(f"{name}: Input should be an object", param=name)
    return value


def _list(value: Any, name: str) -> list[Any]:
    if not isinstance(value, list):
        raise InvalidRequest(f"{name}: Input should be a list", param=name)
    return value


def _system(told: Any) -> Iterator[dict[str, Any]]:
    if told is None or told == "":
        return
    if isinstance(told, str):
        yield {"role": "system", "content": told}
        return
    texts = [_text(block, f"system.{place}") for place, block in enumerate(_list(told, "system"))]
    yield {"role": "system", "content": "\n\n".join(texts)}


def _messages(told: Iterable[Any]) -> Iterator[dict[str, Any]]:
    for place, message in enumerate(told):
        where = f"messages.{place}"
        if not isinstance(message, dict) or message.get("role") not in ("user", "assistant", "system"):
            raise InvalidRequest(f"{where}.role: Input should be 'user' or 'assistant'", param=f"{where}.role")
        content = message.get("content")
        if isinstance(content, str):
            yield {"role": message["role"], "content": content}
        elif isinstance(content, list):
            said = _assistant if message["role"] == "assistant" else _user
            yield from said(content, f"{where}.content", message["role"])
        else:
            raise InvalidRequest(f"{where}.content: Field required", param=f"{where}.content")


def _assistant(blocks: list[Any], where: str, role: str) -> Iterator[dict[str, Any]]:
    texts, calls = [], []
    for place, block in enumerate(blocks):
        kind = _kind(block, f"{where}.{place}")
        if kind == "tool_use":
            arguments = orjson.dumps(block.get("input") or {}).decode()
            called = {"name": str(block.get("name", "")), "arguments": arguments}
            calls.append({"id": str(block.get("id", "")), "type": "function", "function": called})
        elif kind not in _THOUGHTS:
            texts.append(_text(block, f"{where}.{place}"))
    said: dict[str, Any] = {"role": role, "content": "".join(texts) or None}
    if calls:
        said["tool_calls"] = calls
    if texts or calls:
        yield said


def _user(blocks: list[Any], where: str, role: str) -> Iterator[dict[str, Any]]:
    """What tools answered comes first, each as a message of its own: it must follow the calls at once."""
    parts: list[dict[str, Any]] = []
    for place, block in enumerate(blocks):
        at = f"{where}.{place}"
        kind = _kind(block, at)
        if kind == "tool_result":
            yield from _tool_result(block, at, parts)
        elif kind == "image":
            parts.append(_image(block, at))
        else:
            parts.append({"type": "text", "text": _text(block, at)})
    if parts:
        only_text = all(part["type"] == "text" for part in parts)
        yield {"role": role, "content": "\n\n".join(part["text"] for part in parts) if only_text else parts}


def _tool_result(block: dict[str, Any], where: str, parts: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Pictures of a result go into the message that follows: a tool's message holds text alone."""
    content = block.get("content")
    texts = [content] if isinstance(content, str) else []
    for place, part in enumerate(content if isinstance(content, list) else ()):
        at = f"{where}.content.{place}"
        if _kind(part, at) == "image":
            parts.append(_image(part, at))
        else:
            texts.append(_text(part, at))
    text = "\n".join(texts)
    if block.get("is_error"):
        text = f"Error: {text}" if text else "Error"
    yield {"role": "tool", "tool_call_id": str(block.get("tool_use_id", "")), "content": text}


def _kind(block: Any, where: str) -> str:
    kind = block.get("type") if isinstance(block, dict) else None
    if not isinstance(kind, str):
        raise InvalidRequest(f"{where}.type: Field required", param=f"{where}.type")
    return kind


def _text(block: Any, where: str) -> str:
    kind = _kind(block, where)
    if kind != "text" or not isinstance(block.get("text"), str):
        raise InvalidRequest(
            f"{where}.type: the gateway cannot hand on a block of type '{kind}'", param=f"{where}.type"
        )
    text: str = block["text"]
    return text


def _image(block: dict[str, Any], where: str) -> dict[str, Any]:
    source = block.get("source")
    if not isinstance(source, dict):
        raise InvalidRequest(f"{where}.source: Field required", param=f"{where}.source")
    if source.get("type") == "base64":
        url = f"data:{source.get('media_type', 'image/png')};base64,{source.get('data', '')}"
    elif source.get("type") == "url":
        url = str(source.get("url", ""))
    else:
        raise InvalidRequest(f"{where}.source.type: Input should be 'base64' or 'url'", param=f"{where}.source.type")
    return {"type": "image_url", "image_url": {"url": url}}


def _tool(tool: Any, place: int) -> dict[str, Any]:
    if not isinstance(tool, dict) or not isinstance(tool.get("name"), str):
        raise InvalidRequest(f"tools.{place}.name: Field required", param=f"tools.{place}.name")
    if tool.get("type") not in (None, "custom"):
        kind = tool["type"]
        raise InvalidRequest(f"tools.{place}.type: no model here offers the tool '{kind}'", param=f"tools.{place}.type")
    function = {"name": tool["name"], "parameters": tool.get("input_schema") or {"type": "object", "properties": {}}}
    if tool.get("description"):
        function["description"] = tool["description"]
    return {"type": "function", "function": function}


def _tool_choice(choice: Any) -> dict[str, Any]:
    kind = choice.get("type") if isinstance(choice, dict) else None
    if kind == "tool":
        said: dict[str, Any] = {"tool_choice": {"type": "function", "function": {"name": choice.get("name", "")}}}
    elif kind in _TOOL_CHOICES:
        said = {"tool_choice": _TOOL_CHOICES[kind]}
    else:
        raise InvalidRequest(
            "tool_choice.type: Input should be 'auto', 'any', 'tool' or 'none'", param="tool_choice.type"
        )
    if choice.get("disable_parallel_tool_use"):
        said["parallel_tool_calls"] = False
    return said


# Answers -----------------------------------------------------------------------------------------------------------


def message_body(completion: bytes, request_id: str) -> bytes:
    """The message that a whole chat completion says."""
    told = orjson.loads(completion)
    choice = (told.get("choices") or [{}])[0]
    said = choice.get("message") or {}
    content: list[dict[str, Any]] = []
    if thought := said.get("reasoning_content") or said.get("reasoning"):
        content.append({"type": "thinking", "thinking": thought, "signature": ""})
    if text := said.get("content") or said.get("refusal"):
        content.append({"type": "text", "text": text})
    content += [_tool_use(call) for call in said.get("tool_calls") or ()]
    message = message_of(request_id, told.get("model"), content)
    message["stop_reason"] = STOP_REASONS.get(choice.get("finish_reason") or "stop", "end_turn")
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


def _tool_use(call: dict[str, Any]) -> dict[str, Any]:
    function = call.get("function") or {}
    try:
        arguments = orjson.loads(function.get("arguments") or "{}")
    except orjson.JSONDecodeError:  # a model wrote it
        arguments = {}
    return {"type": "tool_use", "id": call.get("id") or "", "name": function.get("name") or "", "input": arguments}


def usage_of(told: Any) -> dict[str, Any]:
    """Anthropic counts what was read from a cache apart from the other input."""
    told = told if isinstance(told, dict) else {}
    cached = (told.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
    return {
        "input_tokens": max(0, (told.get("prompt_tokens") or 0) - cached),
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": cached,
        "output_tokens": told.get("completion_tokens") or 0,
    }


# Errors ------------------------------------------------------------------------------------------------------------


def error_of(told: Any, status: int, request_id: str) -> dict[str, Any]:
    """OpenAI's error envelope in Anthropic's; our code and parameter stay beside the message."""
    error = told.get("error") if isinstance(told, dict) else None
    error = error if isinstance(error, dict) else {"message": str(error or "")}
    kind = ERROR_TYPES.get(status, "api_error" if status >= 500 else "invalid_request_error")
    said = {"type": kind, "message": error.get("message") or ""}
    said |= {name: error[name] for name in ("code", "param") if error.get(name) is not None}
    return {"type": "error", "error": said, "request_id": request_id}


def error_body(body: bytes, status: int, request_id: str) -> bytes:
    try:
        told = orjson.loads(body)
    except orjson.JSONDecodeError:
        told = None
    return orjson.dumps(error_of(told, status, request_id))
