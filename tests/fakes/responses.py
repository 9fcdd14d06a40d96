"""What a well-behaved upstream answers at `/responses`; part of `FakeUpstream`. It keeps nothing, and says so.

It echoes the last text of the input, behind a thought whose text is sealed where that was asked for; with `tools` it calls the first
function. Like OpenAI's it refuses what refers to something that it does not have: earlier responses, and items known by id alone.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator
from typing import Any

CREATED = 1_700_000_000
SEALED = "sealed-by-the-upstream"

_numbers = itertools.count(1)


def answer(asked: dict[str, Any]) -> dict[str, Any]:
    """The members of an `Answer`."""
    problem = _problem(asked)
    if problem:
        return {"status": 400, "json": {"error": {"message": problem, "type": "invalid_request_error", "code": None}}}
    response = _response(asked)
    if asked.get("stream"):
        return {"events": [_event(event, number) for number, event in enumerate(_events(response))]}
    return {"json": response}


def _problem(asked: dict[str, Any]) -> str:
    if asked.get("previous_response_id"):
        return f"Previous response with id '{asked['previous_response_id']}' not found."
    if asked.get("store") is not False:
        return "nothing is kept here: store must be false"
    for item in asked["input"] if isinstance(asked["input"], list) else ():
        if item.get("type") == "item_reference" or (
            item.get("type") == "reasoning" and not item.get("encrypted_content")
        ):
            return f"Item with id '{item.get('id')}' not found. Items are not persisted when `store` is set to false."
    return ""


def _response(asked: dict[str, Any]) -> dict[str, Any]:
    number = next(_numbers)
    sealed = SEALED if "reasoning.encrypted_content" in (asked.get("include") or ()) else None
    output: list[dict[str, Any]] = [
        {"type": "reasoning", "id": f"rs_up{number}", "summary": [], "encrypted_content": sealed}
    ]
    tool = next((tool for tool in asked.get("tools") or () if tool["type"] in ("function", "custom")), None)
    answered = isinstance(asked["input"], list) and str(asked["input"][-1].get("type")).endswith("_output")
    if tool is not None and not answered:
        output.append(_call(tool, number))
    else:
        text = {"type": "output_text", "text": f"echo: {_last_text(asked['input'])}", "annotations": []}
        message = {"type": "message", "id": f"msg_up{number}", "role": "assistant", "status": "completed"}
        output.append({**message, "content": [text]})
    usage = {"input_tokens": 11, "output_tokens": 7, "total_tokens": 18}
    usage |= {"input_tokens_details": {"cached_tokens": 3}, "output_tokens_details": {"reasoning_tokens": 2}}
    return {
        "id": f"resp_up{number}",
        "object": "response",
        "created_at": CREATED,
        "status": "completed",
        "error": None,
        "incomplete_details": None,
        "model": asked["model"],
        "output": output,
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "store": False,
        "tool_choice": "auto",
        "tools": asked.get("tools") or [],
        "temperature": 1.0,
        "top_p": 1.0,
        "metadata": {},
        "usage": usage,
    }


def _call(tool: dict[str, Any], number: int) -> dict[str, Any]:
    call = {"call_id": f"call_up{number}", "name": tool["name"], "status": "completed"}
    if tool["type"] == "custom":
        return {"type": "custom_tool_call", "id": f"ctc_up{number}", **call, "input": "text"}
    names = (tool.get("parameters") or {}).get("properties") or {}
    return {
        "type": "function_call",
        "id": f"fc_up{number}",
        **call,
        "arguments": json.dumps(dict.fromkeys(names, "text")),
    }


def _last_text(given: Any) -> str:
    if isinstance(given, str):
        return given
    last = given[-1]
    said = last.get("content") or last.get("output") or ""
    return said if isinstance(said, str) else " ".join(part.get("text", f"[{part.get('type')}]") for part in said)


def _events(response: dict[str, Any]) -> Iterator[dict[str, Any]]:
    begun = {**response, "status": "in_progress", "output": [], "usage": None}
    yield {"type": "response.created", "response": begun}
    yield {"type": "response.in_progress", "response": begun}
    for place, item in enumerate(response["output"]):
        where = {"output_index": place, "item_id": item["id"]}
        empty = {**item, "content": []} if item["type"] == "message" else item
        if item["type"] == "function_call":
            empty = {**item, "arguments": ""}
        yield {"type": "response.output_item.added", "output_index": place, "item": {**empty, "status": "in_progress"}}
        if item["type"] == "message":
            part = item["content"][0]
            where["content_index"] = 0
            yield {"type": "response.content_part.added", **where, "part": {**part, "text": ""}}
            for delta in re.findall(r"\S+ ?", part["text"]):
                yield {"type": "response.output_text.delta", **where, "delta": delta, "logprobs": []}
            yield {"type": "response.output_text.done", **where, "text": part["text"], "logprobs": []}
            yield {"type": "response.content_part.done", **where, "part": part}
        elif item["type"] == "function_call":
            yield {"type": "response.function_call_arguments.delta", **where, "delta": item["arguments"]}
            done = {"name": item["name"], "arguments": item["arguments"]}
            yield {"type": "response.function_call_arguments.done", **where, **done}
        yield {"type": "response.output_item.done", "output_index": place, "item": item}
    yield {"type": "response.completed", "response": response}


def _event(told: dict[str, Any], number: int) -> bytes:
    return f"event: {told['type']}\ndata: {json.dumps({**told, 'sequence_number': number})}\n\n".encode()
