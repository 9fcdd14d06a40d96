"""The scripted provider: answers the same question the same way, at the pace and with the failures it is told.

Connection parameters: `reply` (what it says; empty echoes the last user message), `delay_seconds` (before each token) and
`scenario` (a failure that every call meets). A user message beginning with `/fail` meets one too: `/fail 503`, `/fail
stall`, … A scenario is an HTTP status (400, 401, 404, 429, 500, 503, 504 …) or one of `cut` (fails after three tokens),
`stall` (falls silent after three), `unreachable`, `timeout`, `context`.

A token is a word with the white space before it; usage counts white-space separated words, embeddings are unit vectors
drawn from a hash of the text.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
import re
import struct
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

import orjson

from inference.backends.base import Chunk, ChunkBackend, UpstreamCall, Usage
from inference.errors import (
    ContextLengthExceeded,
    GatewayError,
    InvalidRequest,
    UpstreamFailed,
    UpstreamRateLimited,
    UpstreamRefusedOurKey,
    UpstreamRejected,
    UpstreamTimeout,
    UpstreamUnreachable,
)
from routing.types import ProviderView

_TOKEN = re.compile(r"\s*\S+")
_TOKENS_BEFORE_FAILURE = 3
_DEFAULT_DIMENSION = 8
_LARGEST_DIMENSION = 16_384


class Fake(ChunkBackend):
    def __init__(self, provider: ProviderView) -> None:
        super().__init__(provider)
        told = {**provider.connection, **provider.settings}
        self._reply = str(told.get("reply") or "")
        self._delay = float(told.get("delay_seconds") or 0)
        self._scenario = str(told.get("scenario") or "").strip()

    async def list_models(self) -> list[dict[str, Any]]:
        return [{"id": "fake-chat", "object": "model"}, {"id": "fake-embedding", "object": "model"}]

    async def chunks(self, call: UpstreamCall) -> AsyncIterator[Chunk]:
        messages = call.field("messages") or []
        prompt = _last_user_text(messages) if call.operation == "chat" else _text_of(call.field("prompt", ""))
        scenario = self._scenario_of(prompt)
        _raise_before_start(scenario, call)
        asked = _count_words(messages if call.operation == "chat" else call.field("prompt", ""))
        if call.model.context_window is not None and asked > call.model.context_window:
            raise ContextLengthExceeded(
                f"This model's maximum context length is {call.model.context_window} tokens; the prompt has {asked}.",
                param=_subject(call),
            )
        answered = 0
        choices = _positive(call, "n") or 1
        for index in range(choices):
            async for chunk in self._choice(call, index, messages, prompt, scenario):
                answered += bool(chunk.text) + bool(chunk.tool_calls)
                yield chunk
        yield Chunk(index=choices - 1, usage=Usage(asked, answered))

    async def embed(self, call: UpstreamCall) -> tuple[list[list[float]], Usage]:
        texts = _inputs(call.field("input", ""))
        _raise_before_start(self._scenario_of(texts[0] if texts else ""), call)
        dimension = _positive(call, "dimensions") or call.model.dimension or _DEFAULT_DIMENSION
        if dimension > _LARGEST_DIMENSION:
            raise InvalidRequest(f"'dimensions' must be at most {_LARGEST_DIMENSION}.", param="dimensions")
        if self._delay:
            await asyncio.sleep(self._delay)
        vectors = [embedding(text, dimension) for text in texts]
        return vectors, Usage(input_tokens=sum(len(text.split()) for text in texts))

    def _scenario_of(self, prompt: str) -> str:
        if prompt.startswith("/fail"):
            return prompt.removeprefix("/fail").strip().partition(" ")[0] or "500"
        return self._scenario

    async def _choice(
        self, call: UpstreamCall, index: int, messages: list[Any], prompt: str, scenario: str
    ) -> AsyncIterator[Chunk]:
        tool_calls = _tool_calls(call, messages, prompt)
        if tool_calls:
            yield Chunk(index=index, tool_calls=tool_calls)
            yield Chunk(index=index, finish_reason="tool_calls")
            return
        text = _until_stop(self._answer(call, prompt), _stops(call))
        tokens = _TOKEN.findall(text)
        limit = _positive(call, "max_completion_tokens") or _positive(call, "max_tokens") or call.model.max_tokens
        cut = limit is not None and len(tokens) > limit
        wants_logprobs = bool(call.field("logprobs"))
        for position, token in enumerate(tokens[:limit] if cut else tokens):
            if self._delay:
                await asyncio.sleep(self._delay)
            if position == _TOKENS_BEFORE_FAILURE:
                await _fail_midway(scenario)
            yield Chunk(token, index, logprobs=_logprobs(call.operation, token) if wants_logprobs else None)
        if not tokens or len(tokens) <= _TOKENS_BEFORE_FAILURE:
            await _fail_midway(scenario)
        yield Chunk(index=index, finish_reason="length" if cut else "stop")

    def _answer(self, call: UpstreamCall, prompt: str) -> str:
        said = self._reply or prompt or "Hello."
        wanted = call.field("response_format")
        if not isinstance(wanted, dict) or wanted.get("type") in (None, "text"):
            return said
        if wanted.get("type") == "json_schema":
            schema = (wanted.get("json_schema") or {}).get("schema") or {}
            return orjson.dumps(_example(schema, said)).decode()
        return orjson.dumps({"reply": said}).decode()


def embedding(text: str, dimension: int) -> list[float]:
    """A unit vector that depends on the text alone; the values are exact in 32 bits."""
    raw = hashlib.shake_256(text.encode("utf-8", "replace")).digest(dimension * 4)
    numbers = [value / 2**31 - 1.0 for value in struct.unpack(f"<{dimension}I", raw)]
    norm = math.sqrt(sum(value * value for value in numbers)) or 1.0
    return list(struct.unpack(f"<{dimension}f", struct.pack(f"<{dimension}f", *(value / norm for value in numbers))))


# Failures ----------------------------------------------------------------------------------------------------------


def _raise_before_start(scenario: str, call: UpstreamCall) -> None:
    if scenario.isdigit():
        raise _failure_of(int(scenario))
    if scenario == "unreachable":
        raise UpstreamUnreachable("The provider could not be reached.")
    if scenario == "timeout":
        raise UpstreamTimeout("The provider did not answer in time.")
    if scenario == "context":
        raise ContextLengthExceeded("The prompt is longer than the model's context.", param=_subject(call))


def _failure_of(status: int) -> GatewayError:
    if status == 401:
        return UpstreamRefusedOurKey("The provider refused the gateway's key.")
    body = orjson.dumps(
        {"error": {"message": f"Scripted failure {status}.", "type": "fake_error", "param": None, "code": "scripted"}}
    )
    if status == 429:
        return UpstreamRateLimited("Scripted failure 429.", body=body, retry_after=2.0)
    if status == 504:
        return UpstreamTimeout("Scripted failure 504.")
    if 400 <= status < 500:
        return UpstreamRejected(f"Scripted failure {status}.", body=body, status=status, code="scripted")
    return UpstreamFailed(f"Scripted failure {status}.", status=503 if status == 503 else 502)


async def _fail_midway(scenario: str) -> None:
    if scenario == "cut":
        raise UpstreamFailed("The provider ended its answer in the middle.")
    if scenario == "stall":
        await asyncio.Event().wait()


# Reading the call --------------------------------------------------------------------------------------------------


def _subject(call: UpstreamCall) -> str:
    return "messages" if call.operation == "chat" else "prompt"


def _positive(call: UpstreamCall, name: str) -> int | None:
    value = call.field(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InvalidRequest(f"'{name}' must be a positive integer.", param=name)
    return value


def _stops(call: UpstreamCall) -> list[str]:
    stop = call.field("stop")
    if stop is None:
        return []
    stops = [stop] if isinstance(stop, str) else stop
    if not isinstance(stops, list) or not all(isinstance(one, str) for one in stops):
        raise InvalidRequest("'stop' must be a string or a list of strings.", param="stop")
    return [one for one in stops if one]


def _until_stop(text: str, stops: list[str]) -> str:
    """Up to the earliest of the stop strings, which is not part of the answer."""
    places = [place for stop in stops if (place := text.find(stop)) >= 0]
    return text[: min(places)] if places else text


def _last_user_text(messages: list[Any]) -> str:
    for message in reversed(messages):
        if isinstance(message, Mapping) and message.get("role") == "user":
            return _text_of(message.get("content"))
    return _text_of(messages[-1].get("content")) if messages and isinstance(messages[-1], Mapping) else ""


def _text_of(content: Any) -> str:
    if isinstance(content, str):
        return content
    return " ".join(_texts(content))


def _texts(content: Any) -> Iterator[str]:
    if isinstance(content, str):
        yield content
    elif isinstance(content, list):
        for item in content:
            yield from _texts(item)
    elif isinstance(content, Mapping):
        yield from _texts(content.get("text", content.get("content")))


def _count_words(content: Any) -> int:
    return sum(len(text.split()) for text in _texts(content))


def _inputs(given: Any) -> list[str]:
    """The texts of an `input`: one, several, or lists of token numbers."""
    if isinstance(given, str):
        return [given]
    if all(isinstance(item, int) for item in given):
        return [" ".join(map(str, given))]
    return [item if isinstance(item, str) else " ".join(map(str, item)) for item in given]


# Making things up --------------------------------------------------------------------------------------------------


def _tool_calls(call: UpstreamCall, messages: list[Any], prompt: str) -> list[dict[str, Any]] | None:
    """One call of the tool that was chosen, else of the first; none once a tool has answered."""
    tools = call.field("tools")
    choice = call.field("tool_choice", "auto")
    if call.operation != "chat" or not tools or choice == "none":
        return None
    if messages and isinstance(messages[-1], Mapping) and messages[-1].get("role") == "tool":
        return None
    named = choice.get("function", {}).get("name") if isinstance(choice, dict) else None
    functions = [tool.get("function", {}) for tool in tools if isinstance(tool, dict)]
    function = next((one for one in functions if one.get("name") == named), functions[0] if functions else None)
    if function is None:
        return None
    arguments = orjson.dumps(_example(function.get("parameters") or {}, prompt)).decode()
    digest = hashlib.sha256(arguments.encode()).hexdigest()[:24]
    return [
        {
            "id": f"call_{digest}",
            "type": "function",
            "function": {"name": function.get("name", ""), "arguments": arguments},
        }
    ]


def _example(schema: Mapping[str, Any], text: str) -> Any:
    """A value that fits a JSON schema's types."""
    if "const" in schema:
        return schema["const"]
    if schema.get("enum"):
        return schema["enum"][0]
    kind = schema.get("type", "object")
    kind = kind[0] if isinstance(kind, list) and kind else kind
    if kind == "object":
        return {name: _example(part, text) for name, part in (schema.get("properties") or {}).items()}
    if kind == "array":
        return [_example(schema.get("items") or {"type": "string"}, text)]
    return {"string": text, "integer": 1, "number": 1.0, "boolean": True, "null": None}.get(kind, text)


def _logprobs(operation: str, token: str) -> dict[str, Any]:
    if operation == "chat":
        return {"content": [{"token": token, "logprob": 0.0, "bytes": list(token.encode()), "top_logprobs": []}]}
    return {"tokens": [token], "token_logprobs": [0.0], "top_logprobs": [None], "text_offset": [0]}
