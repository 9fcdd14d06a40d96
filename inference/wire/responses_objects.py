"""The Response object of OpenAI's Responses API, and its items, made of what a chat completion answered. No I/O.

Every member that the official client knows is there. Ids of items follow from the response's, so that an answer that is told twice
(whole and in events, or again to a client that comes back) is told with the same ids.
Source: https://platform.openai.com/docs/api-reference/responses/object.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from inference.wire.bodies import plain
from inference.wire.responses import Asked
from inference.wire.responses_tools import CUSTOM_INPUT

Item = dict[str, Any]

PREFIX = "resp_"
NO_ARGUMENTS = "{}"
"""What a call says whose tool takes none; some servers say nothing, which no client reads as JSON."""
OVER = frozenset({"completed", "failed", "incomplete", "cancelled"})
_ECHOED: tuple[tuple[str, Any], ...] = (
    ("instructions", None),
    ("max_output_tokens", None),
    ("max_tool_calls", None),
    ("parallel_tool_calls", True),
    ("previous_response_id", None),
    ("prompt", None),
    ("prompt_cache_key", None),
    ("safety_identifier", None),
    ("service_tier", "default"),
    ("temperature", 1.0),
    ("tool_choice", "auto"),
    ("tools", []),
    ("top_logprobs", 0),
    ("top_p", 1.0),
    ("truncation", "disabled"),
    ("user", None),
    ("metadata", {}),
)
_REASONS = {"length": "max_output_tokens", "content_filter": "content_filter"}
_ERROR_CODES = {429: "rate_limit_exceeded", 400: "invalid_prompt"}


def response_id(request_id: str) -> str:
    return PREFIX + request_id.removeprefix("req_").removeprefix("job_")


def begun(
    asked: Asked, its_id: str, created_at: int, *, model: str = "", status: str = "in_progress", kept: bool
) -> Item:
    """The object of an answer that has not come yet. `kept` says whether it can be retrieved once it is over."""
    told = asked.told
    text, reasoning = told.get("text") or {}, told.get("reasoning") or {}
    return {
        "id": its_id,
        "object": "response",
        "created_at": created_at,
        "completed_at": None,
        "status": status,
        "background": asked.background,
        "error": None,
        "incomplete_details": None,
        "model": model or told.get("model") or "",
        "output": [],
        "usage": None,
        "store": kept,
        "reasoning": {"effort": reasoning.get("effort"), "summary": reasoning.get("summary")},
        "text": {**text, "format": text.get("format") or {"type": "text"}},
        **{name: default if told.get(name) is None else told[name] for name, default in _ECHOED},
    }


def from_completion(asked: Asked, completion: Mapping[str, Any], begun: Item, now: int) -> Item:
    """The Response that a whole chat completion says."""
    choice = (completion.get("choices") or [{}])[0]
    said = plain(choice.get("message") or {})
    its_id = begun["id"]
    output: list[Item] = []
    if thought := said.get("reasoning_content") or said.get("reasoning"):
        output.append(reasoning_item(item_id("rs", its_id, len(output)), thought))
    parts = []
    if text := said.get("content"):
        parts.append(text_part(text, logprobs_of(choice)))
    if refusal := said.get("refusal"):
        parts.append(refusal_part(refusal))
    if parts:
        output.append(message_item(item_id("msg", its_id, len(output)), parts))
    for call in said.get("tool_calls") or ():
        output.append(_with_arguments(call_item(asked, call, its_id, len(output))))
    ended = {**begun, "model": completion.get("model") or begun["model"], "output": output}
    if "x_gateway" in completion:
        ended["x_gateway"] = completion["x_gateway"]
    return over(ended, choice.get("finish_reason") or "stop", usage_of(completion.get("usage")), now)


def over(response: Item, finish_reason: str, usage: Item | None, now: int) -> Item:
    """The object with how it ended; what was cut off says so, and so does its last item."""
    reason = _REASONS.get(finish_reason)
    ended = {**response, "status": "incomplete" if reason else "completed", "completed_at": now, "usage": usage}
    if reason:
        ended["incomplete_details"] = {"reason": reason}
        ended["completed_at"] = None
        if ended["output"] and "status" in ended["output"][-1]:
            ended["output"] = [*ended["output"][:-1], {**ended["output"][-1], "status": "incomplete"}]
    return ended


def failed(response: Item, error: Mapping[str, Any], status: int = 500) -> Item:
    """The object of an answer that never came, or broke off. `error` is the inside of OpenAI's envelope."""
    return {**response, "status": "failed", "error": error_of(error, status)}


def error_of(error: Mapping[str, Any], status: int) -> Item:
    """In the words of a Response, whose codes are few."""
    return {"code": _ERROR_CODES.get(status, "server_error"), "message": error.get("message") or "The request failed."}


def as_kept(native: Mapping[str, Any], begun: Item) -> Item:
    """An upstream's own object under the id by which it is kept here, with what the client asked in place of what we asked there.

    It has a status and a list of items, whatever the upstream forgot: it is read again by those two.
    """
    ours = ("id", "previous_response_id", "store", "background", "metadata")
    output, status = native.get("output"), native.get("status")
    read = {
        "status": status if isinstance(status, str) else "completed",
        "output": [item for item in output if isinstance(item, dict)] if isinstance(output, list) else [],
    }
    return {**native, **{name: begun[name] for name in ours}, **read}


# Items ---------------------------------------------------------------------------------------------------------------


def item_id(kind: str, its_response: str, place: int) -> str:
    return f"{kind}_{its_response.removeprefix(PREFIX)}{place:02x}"


def reasoning_item(its_id: str, text: str) -> Item:
    content = [{"type": "reasoning_text", "text": text}] if text else []
    return {"type": "reasoning", "id": its_id, "summary": [], "content": content, "encrypted_content": None}


def message_item(its_id: str, parts: list[Item], status: str = "completed") -> Item:
    return {"type": "message", "id": its_id, "role": "assistant", "status": status, "content": parts}


def text_part(text: str, logprobs: list[Item] | None = None) -> Item:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": logprobs or []}


def refusal_part(text: str) -> Item:
    return {"type": "refusal", "refusal": text}


def call_item(asked: Asked, call: Mapping[str, Any], its_response: str, place: int, status: str = "completed") -> Item:
    """A call in a chat completion's words; that of a custom tool gets its text back, that of a namespace its two names."""
    function = call.get("function") or {}
    name, arguments = function.get("name") or "", function.get("arguments") or ""
    call_id = call.get("id") or f"call_{its_response.removeprefix(PREFIX)}{place:02x}"
    tool = asked.tool_said_as(name)
    item: Item = {"status": status, "call_id": call_id, "name": tool.name if tool is not None else name}
    if tool is not None and tool.namespace:
        item["namespace"] = tool.namespace
    if tool is not None and tool.is_custom:
        return {
            "type": "custom_tool_call",
            "id": item_id("ctc", its_response, place),
            **item,
            "input": custom_input(arguments),
        }
    return {"type": "function_call", "id": item_id("fc", its_response, place), **item, "arguments": arguments}


def _with_arguments(item: Item) -> Item:
    return {**item, "arguments": item["arguments"] or NO_ARGUMENTS} if "arguments" in item else item


def custom_input(arguments: str) -> str:
    """What stands for a custom tool's text among the arguments that a model wrote; a model that wrote none meant all of it."""
    try:
        told = orjson.loads(arguments or "{}")
    except orjson.JSONDecodeError:
        return arguments
    text = told.get(CUSTOM_INPUT) if isinstance(told, dict) else None
    if isinstance(text, str):
        return text
    return arguments if told else ""


def logprobs_of(choice: Mapping[str, Any]) -> list[Item]:
    told = (choice.get("logprobs") or {}).get("content") or []
    return [
        {
            "token": one.get("token") or "",
            "logprob": one.get("logprob") or 0.0,
            "bytes": one.get("bytes") or [],
            "top_logprobs": [
                {
                    "token": other.get("token") or "",
                    "logprob": other.get("logprob") or 0.0,
                    "bytes": other.get("bytes") or [],
                }
                for other in one.get("top_logprobs") or ()
            ],
        }
        for one in told
    ]


def usage_of(told: Any) -> Item | None:
    """None where the upstream did not count."""
    if not isinstance(told, dict) or told.get("prompt_tokens") is None:
        return None
    asked, answered = told.get("prompt_tokens") or 0, told.get("completion_tokens") or 0
    details = told.get("prompt_tokens_details") or {}
    cached, written = details.get("cached_tokens") or 0, details.get("cache_write_tokens") or 0
    thought = (told.get("completion_tokens_details") or {}).get("reasoning_tokens") or 0
    return {
        "input_tokens": asked,
        "input_tokens_details": {"cached_tokens": cached, "cache_write_tokens": written},
        "output_tokens": answered,
        "output_tokens_details": {"reasoning_tokens": thought},
        "total_tokens": told.get("total_tokens") or asked + answered,
    }
