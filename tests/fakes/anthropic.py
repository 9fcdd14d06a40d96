"""A scriptable upstream that speaks Anthropic's Messages API: `FakeUpstream` with other well-behaved answers.

    with FakeAnthropic(api_key="sk-ant-upstream") as upstream:
        provider = make_provider(base_url=upstream.base_url)      # http://127.0.0.1:PORT/v1

Unscripted it echoes the last text of the conversation (whole or streamed, with `stop_sequences` and `max_tokens`), calls the first tool
when there are tools and no result yet, answers a JSON schema, thinks when it is told to, counts tokens and lists `models` in pages.
Each word is a token. Whoever shows no key gets a 401. Faults are those of `FakeUpstream`, and the functions at the end.
"""

from __future__ import annotations

import itertools
import json as json_module
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from tests.fakes.upstream import Answer, FakeUpstream, RecordedRequest, _sample

SIGNATURE = "c2lnbmVk"
CREATED_AT = "2026-02-03T04:05:06Z"

_numbers = itertools.count(1)


class FakeAnthropic(FakeUpstream):
    """See the module. `keep_requests` and the like as for `FakeUpstream`."""

    def __init__(
        self, *, api_key: str = "sk-ant-upstream", models: Sequence[str] = ("claude-test",), **more: Any
    ) -> None:
        super().__init__(api_key=api_key, models=models, **more)

    def _next_answer(self, request: RecordedRequest) -> Answer:
        answer = super()._next_answer(request)
        scripted = answer.raw is not None or any(part is not None for part in (answer.json, answer.body, answer.events))
        if scripted or answer.hang or answer.status != 200:
            return answer
        default = self._behaving(request)
        return replace(answer, status=default.status, json=default.json, events=default.events)

    def _behaving(self, request: RecordedRequest) -> Answer:
        shown = request.headers.get("x-api-key") or request.headers.get("authorization", "").removeprefix("Bearer ")
        if shown != self.api_key:
            return error(401, "authentication_error", f"invalid x-api-key: {shown}")
        if "anthropic-version" not in request.headers:
            return error(400, "invalid_request_error", "anthropic-version: header is required")
        if request.method == "GET":
            return self._listing(request)
        asked = request.json
        if asked.get("model") not in self.models:
            return error(404, "not_found_error", f"model: {asked.get('model')}")
        if request.path.endswith("/messages/count_tokens"):
            return Answer(json={"input_tokens": _input_tokens(asked)})
        if not isinstance(asked.get("max_tokens"), int):
            return error(400, "invalid_request_error", "max_tokens: Field required")
        message = _message(asked)
        request.reported_usage = message["usage"]
        return Answer(events=list(_events(message))) if asked.get("stream") else Answer(json=message)

    def _listing(self, request: RecordedRequest) -> Answer:
        limit = int(request.query.get("limit", "20"))
        shown = [_model(name) for name in self.models[:limit]]
        page = {"first_id": shown[0]["id"], "last_id": shown[-1]["id"]} if shown else {}
        return Answer(json={"data": shown, "has_more": len(self.models) > limit, **page})


def _model(name: str) -> dict[str, Any]:
    yes, no = {"supported": True}, {"supported": False}
    return {
        "type": "model",
        "id": name,
        "display_name": name.title(),
        "created_at": CREATED_AT,
        "lifecycle": "active",
        "max_input_tokens": 200_000,
        "max_tokens": 64_000,
        "capabilities": {"image_input": yes, "structured_outputs": yes, "pdf_input": no, "batch": yes},
    }


def _message(asked: dict[str, Any]) -> dict[str, Any]:
    content, stop = _content(asked)
    output = sum(
        len(str(block.get("text") or block.get("input") or block.get("thinking")).split()) for block in content
    )
    usage = {
        "input_tokens": _input_tokens(asked),
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 2 if "cache_control" in json_module.dumps(asked) else 0,
        "output_tokens": output,
        "service_tier": "standard",
    }
    return {
        "id": f"msg_fake{next(_numbers)}",
        "type": "message",
        "role": "assistant",
        "model": asked["model"],
        "content": content,
        "stop_reason": stop[0],
        "stop_sequence": stop[1],
        "usage": usage,
    }


def _content(asked: dict[str, Any]) -> tuple[list[dict[str, Any]], tuple[str, str | None]]:
    content: list[dict[str, Any]] = []
    if (asked.get("thinking") or {}).get("type") in ("enabled", "adaptive"):
        content.append({"type": "thinking", "thinking": "let me think", "signature": SIGNATURE})
    choice = (asked.get("tool_choice") or {}).get("type")
    last = asked["messages"][-1]["content"]
    answered = isinstance(last, list) and any(block["type"] == "tool_result" for block in last)
    tools = [tool for tool in asked.get("tools") or () if tool.get("type") in (None, "custom")]
    if tools and choice != "none" and not answered:
        wanted = (asked.get("tool_choice") or {}).get("name")
        tool = next((tool for tool in tools if tool["name"] == wanted), tools[0])
        call = {
            "type": "tool_use",
            "id": "toolu_1",
            "name": tool["name"],
            "input": _sample(tool.get("input_schema") or {}),
        }
        return [*content, call], ("tool_use", None)
    shape = (asked.get("output_config") or {}).get("format")
    text = json_module.dumps(_sample(shape["schema"])) if shape else f"echo: {_text(last)}"
    stops = asked.get("stop_sequences") or []
    met = min((stop for stop in stops if stop in text), key=text.index, default=None)
    if met is not None:
        text = text.partition(met)[0]
    words = text.split(" ")
    if len(words) > asked["max_tokens"]:
        return [*content, {"type": "text", "text": " ".join(words[: asked["max_tokens"]])}], ("max_tokens", None)
    ending = ("stop_sequence", met) if met is not None else ("end_turn", None)
    return [*content, {"type": "text", "text": text}], ending


def _events(message: dict[str, Any]) -> Iterator[bytes]:
    usage = message["usage"]
    start = {
        **message,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {**usage, "output_tokens": 1},
    }
    yield event("message_start", message=start)
    yield event("ping")
    for index, block in enumerate(message["content"]):
        kind = block["type"]
        if kind == "text":
            yield event("content_block_start", index=index, content_block={"type": "text", "text": ""})
            words = block["text"].split(" ")
            for place, word in enumerate(words):
                piece = word if place == len(words) - 1 else f"{word} "
                yield event("content_block_delta", index=index, delta={"type": "text_delta", "text": piece})
        elif kind == "thinking":
            empty = {"type": "thinking", "thinking": "", "signature": ""}
            yield event("content_block_start", index=index, content_block=empty)
            said = {"type": "thinking_delta", "thinking": block["thinking"]}
            yield event("content_block_delta", index=index, delta=said)
            signed = {"type": "signature_delta", "signature": block["signature"]}
            yield event("content_block_delta", index=index, delta=signed)
        else:
            yield event("content_block_start", index=index, content_block={**block, "input": {}})
            told = json_module.dumps(block["input"])
            for piece in (told[: len(told) // 2], told[len(told) // 2 :]):
                delta = {"type": "input_json_delta", "partial_json": piece}
                yield event("content_block_delta", index=index, delta=delta)
        yield event("content_block_stop", index=index)
    delta = {"stop_reason": message["stop_reason"], "stop_sequence": message["stop_sequence"]}
    yield event("message_delta", delta=delta, usage={"output_tokens": usage["output_tokens"]})
    yield event("message_stop")


def _input_tokens(asked: dict[str, Any]) -> int:
    texts = [asked.get("system"), *(message["content"] for message in asked["messages"])]
    return sum(len(_text(text).split()) for text in texts)


def _text(content: Any) -> str:
    if isinstance(content, list):
        return " ".join(_text_of(block) for block in content)
    return content or ""


def _text_of(block: dict[str, Any]) -> str:
    if block["type"] == "tool_result":
        return _text(block.get("content"))
    return block.get("text") or f"[{block['type']}]"


# Ready-made pieces and faults


def event(kind: str, **members: Any) -> bytes:
    """An event as it is on the wire."""
    return f"event: {kind}\ndata: {json_module.dumps({'type': kind, **members})}\n\n".encode()


def error(status: int, kind: str, message: str, *, details: Any = None, **changes: Any) -> Answer:
    said: dict[str, Any] = {"type": kind, "message": message}
    if details is not None:
        said["details"] = details
    return Answer(status=status, json={"type": "error", "error": said, "request_id": "req_fake"}, **changes)


def overloaded() -> Answer:
    return error(529, "overloaded_error", "Overloaded")


def spent() -> Answer:
    """The month's limit of the account is reached: no time to come back is named."""
    message = "This request would exceed your organization's monthly spend limit."
    return error(429, "rate_limit_error", message, details={"error_code": "enforced_spend_limit_reached"})
