"""Every protocol of clients in front of every protocol of upstreams: what they say to one another comes through.

The native pairs pass on bytes, all others are translated twice; what a client reads must be the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import orjson
import pytest

from inference.backends.anthropic import Anthropic
from inference.backends.ollama import Ollama
from routing.types import ProviderView
from tests.fakes.anthropic import FakeAnthropic, event
from tests.fakes.upstream import Answer, FakeUpstream
from tests.inference import registry, scripted
from tests.inference.door import Door

KEY = "sk-upstream-of-dialects"
PICTURE = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER = {"name": "weather", "description": "of a city", "parameters": PARAMETERS}
TEXT = "Grüße 👋 aus Köln"
UPSTREAMS = ("chat", "responses", "messages", "ollama", "local")


@dataclass
class Heard:
    """An answer as its client understands it."""

    text: str = ""
    calls: list[str] = field(default_factory=list)
    arguments: list[str] = field(default_factory=list)
    usage: tuple[int, int] = (0, 0)
    error: str = ""
    over: bool = False


class Chat:
    path = "/v1/chat/completions"

    def asked(self, text: str, *, tools: bool, picture: bool) -> dict[str, Any]:
        shown = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PICTURE}"}}
        content: Any = [{"type": "text", "text": text}, shown] if picture else text
        said: dict[str, Any] = {"messages": [{"role": "user", "content": content}]}
        return {**said, "tools": [{"type": "function", "function": WEATHER}]} if tools else said

    def streamed(self, asked: dict[str, Any]) -> dict[str, Any]:
        return {**asked, "stream": True, "stream_options": {"include_usage": True}}

    def whole(self, told: dict[str, Any]) -> Heard:
        heard = Heard(over=True)
        self._hear(told["choices"][0]["message"], heard)
        return self._count(told, heard)

    def stream(self, body: bytes) -> Heard:
        heard = Heard()
        for told in _events(body):
            if told == "[DONE]":
                heard.over = True
            elif "error" in told:
                heard.error = told["error"]["message"]
            else:
                for choice in told["choices"]:
                    self._hear(choice["delta"], heard)
                self._count(told, heard)
        return heard

    def _hear(self, said: dict[str, Any], heard: Heard) -> None:
        heard.text += said.get("content") or ""
        for call in said.get("tool_calls") or ():
            if name := call["function"].get("name"):
                heard.calls.append(name)
                heard.arguments.append("")
            heard.arguments[-1] += call["function"].get("arguments") or ""

    def _count(self, told: dict[str, Any], heard: Heard) -> Heard:
        if usage := told.get("usage"):
            heard.usage = (usage["prompt_tokens"], usage["completion_tokens"])
        return heard


class Responses:
    path = "/v1/responses"

    def asked(self, text: str, *, tools: bool, picture: bool) -> dict[str, Any]:
        shown = {"type": "input_image", "image_url": f"data:image/png;base64,{PICTURE}"}
        content: Any = [{"type": "input_text", "text": text}, shown] if picture else text
        said: dict[str, Any] = {"input": [{"role": "user", "content": content}]}
        return {**said, "tools": [{"type": "function", **WEATHER}]} if tools else said

    def streamed(self, asked: dict[str, Any]) -> dict[str, Any]:
        return {**asked, "stream": True}

    def whole(self, told: dict[str, Any]) -> Heard:
        heard = Heard(over=told["status"] == "completed")
        for item in told["output"]:
            if item["type"] == "message":
                heard.text += "".join(part["text"] for part in item["content"])
            elif item["type"] == "function_call":
                heard.calls.append(item["name"])
                heard.arguments.append(item["arguments"])
        heard.usage = (told["usage"]["input_tokens"], told["usage"]["output_tokens"])
        return heard

    def stream(self, body: bytes) -> Heard:
        heard = Heard()
        deltas = ""
        events = list(_events(body))
        numbers = [told["sequence_number"] for told in events]
        assert numbers == sorted(set(numbers))
        for told in events:
            if told["type"] == "response.completed":
                heard = self.whole(told["response"])
                assert numbers == list(range(len(events)))
                assert heard.text == deltas
            elif told["type"] == "response.output_text.delta":
                deltas += told["delta"]
            elif told["type"] == "error":
                heard.error = told["message"]
        return heard


class Messages:
    path = "/v1/messages"

    def asked(self, text: str, *, tools: bool, picture: bool) -> dict[str, Any]:
        source = {"type": "base64", "media_type": "image/png", "data": PICTURE}
        shown = {"type": "image", "source": source}
        content: Any = [{"type": "text", "text": text}, shown] if picture else text
        said: dict[str, Any] = {"max_tokens": 100, "messages": [{"role": "user", "content": content}]}
        tool = {"name": "weather", "description": "of a city", "input_schema": PARAMETERS}
        return {**said, "tools": [tool]} if tools else said

    def streamed(self, asked: dict[str, Any]) -> dict[str, Any]:
        return {**asked, "stream": True}

    def whole(self, told: dict[str, Any]) -> Heard:
        heard = Heard(over=told["stop_reason"] in ("end_turn", "tool_use"))
        for block in told["content"]:
            if block["type"] == "text":
                heard.text += block["text"]
            elif block["type"] == "tool_use":
                heard.calls.append(block["name"])
                heard.arguments.append(orjson.dumps(block["input"]).decode())
        heard.usage = (told["usage"]["input_tokens"], told["usage"]["output_tokens"])
        return heard

    def stream(self, body: bytes) -> Heard:
        heard = Heard()
        inputs = 0
        for told in _events(body):
            kind = told["type"]
            if kind == "message_start":
                inputs = told["message"]["usage"]["input_tokens"]
            elif kind == "content_block_start" and told["content_block"]["type"] == "tool_use":
                heard.calls.append(told["content_block"]["name"])
                heard.arguments.append("")
            elif kind == "content_block_delta" and told["delta"]["type"] == "text_delta":
                heard.text += told["delta"]["text"]
            elif kind == "content_block_delta" and told["delta"]["type"] == "input_json_delta":
                heard.arguments[-1] += told["delta"]["partial_json"]
            elif kind == "message_delta":
                usage = told["usage"]
                heard.usage = (usage.get("input_tokens") or inputs, usage["output_tokens"])
            elif kind == "message_stop":
                heard.over = True
            elif kind == "error":
                heard.error = told["error"]["message"]
        return heard


class OllamaChat:
    path = "/api/chat"

    def asked(self, text: str, *, tools: bool, picture: bool) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "user", "content": text}
        if picture:
            message["images"] = [PICTURE]
        said: dict[str, Any] = {"messages": [message], "stream": False}
        return {**said, "tools": [{"type": "function", "function": WEATHER}]} if tools else said

    def streamed(self, asked: dict[str, Any]) -> dict[str, Any]:
        return {**asked, "stream": True}

    def whole(self, told: dict[str, Any]) -> Heard:
        return self._heard([told])

    def stream(self, body: bytes) -> Heard:
        return self._heard([orjson.loads(line) for line in body.splitlines()])

    def _heard(self, lines: list[dict[str, Any]]) -> Heard:
        heard = Heard()
        for told in lines:
            if "error" in told:
                heard.error = told["error"]
                continue
            heard.text += told["message"]["content"]
            for call in told["message"].get("tool_calls") or ():
                heard.calls.append(call["function"]["name"])
                heard.arguments.append(orjson.dumps(call["function"]["arguments"]).decode())
            if told["done"]:
                heard.over = True
                heard.usage = (told["prompt_eval_count"], told["eval_count"])
        return heard


DIALECTS = {"chat": Chat(), "responses": Responses(), "messages": Messages(), "ollama": OllamaChat()}
Dialect = Chat | Responses | Messages | OllamaChat


def _events(body: bytes) -> Iterator[Any]:
    for line in body.split(b"\n"):
        if line.startswith(b"data: "):
            yield "[DONE]" if line == b"data: [DONE]" else orjson.loads(line[6:])


@dataclass(frozen=True)
class Upstream:
    """One protocol's far end: the provider, where its server is, and how it fails in its own words after status 200."""

    view: ProviderView
    server: FakeUpstream | None
    error: Any = None


@pytest.fixture(scope="module")
def upstreams() -> Iterator[dict[str, Upstream]]:
    with FakeUpstream(models=["m"]) as openai, FakeAnthropic(api_key=KEY, models=["m"]) as anthropic:
        at_anthropic = {"base_url": anthropic.base_url, "allow_private": True}
        at_ollama = {"base_url": openai.origin, "allow_private": True, "url_style": "ollama"}
        failure = {"message": "overloaded", "type": "server_error", "code": None}
        yield {
            "chat": Upstream(registry.remote(openai.base_url, "chat"), openai, {"error": failure}),
            "responses": Upstream(
                registry.remote(openai.base_url, "responses", connection={"responses_api": True}),
                openai,
                event("error", sequence_number=0, code="server_error", message="overloaded", param=None),
            ),
            "messages": Upstream(
                registry.provider("messages", backend=_path(Anthropic), connection=at_anthropic, keys=[KEY]),
                anthropic,
                event("error", error={"type": "overloaded_error", "message": "overloaded"}),
            ),
            "ollama": Upstream(
                registry.provider("ollama", backend=_path(Ollama), connection=at_ollama),
                openai,
                b'{"error":"overloaded"}\n',
            ),
            "local": Upstream(registry.provider("local"), None),
        }


def _path(backend: type) -> str:
    return f"{backend.__module__}.{backend.__name__}"


@pytest.mark.parametrize("upstream", UPSTREAMS)
@pytest.mark.parametrize("dialect", DIALECTS)
async def test_a_client_understands_an_upstream_of_any_protocol(
    serve, upstreams: dict[str, Upstream], dialect: str, upstream: str
) -> None:
    client, far = DIALECTS[dialect], upstreams[upstream]
    serve(registry.model(far.view, "m", capabilities=frozenset({"chat", "tools", "vision"})))
    async with Door() as door:
        for tools in (False, True):
            asked = {"model": "m", **client.asked(TEXT, tools=tools, picture=False)}
            whole = client.whole((await door.call(client.path, asked)).json)
            assert whole.over
            assert whole.calls == ["weather"] * tools
            assert all(list(orjson.loads(one)) == ["city"] for one in whole.arguments)
            assert (TEXT in whole.text) is not tools
            assert min(whole.usage) > 0
            streamed = client.stream((await door.call(client.path, client.streamed(asked))).body)
            streamed.arguments = [orjson.dumps(orjson.loads(one)).decode() for one in streamed.arguments]
            whole.arguments = [orjson.dumps(orjson.loads(one)).decode() for one in whole.arguments]
            assert streamed == whole
        shown = await door.call(client.path, {"model": "m", **client.asked("Look", tools=False, picture=True)})
        assert shown.status == 200, shown.body
        if far.server is not None:
            assert PICTURE in far.server.requests[-1].body.decode()
    for row in door.rows:
        assert (row.status, row.error_code, row.estimated) == (200, "", False)


@pytest.mark.parametrize("dialect", ["responses", "messages", "ollama"])
async def test_an_answer_that_has_no_shape_is_an_error_of_its_upstream(
    serve, upstreams: dict[str, Upstream], dialect: str
) -> None:
    client, far = DIALECTS[dialect], upstreams["chat"]
    assert far.server is not None
    serve(registry.model(far.view, "m"))
    asked = {"model": "m", **client.asked(TEXT, tools=False, picture=False)}
    async with Door() as door:
        message = {"content": "hi", "tool_calls": [3]}
        far.server.reply_with(json={"object": "chat.completion", "choices": [{"index": 0, "message": message}]})
        whole = await door.call(client.path, asked)
        assert whole.status == 502
        assert "cannot be read" in whole.body.decode()
        event = {"choices": [{"index": 0, "delta": message, "finish_reason": None}]}
        far.server.reply_with(events=[{**event, "choices": []}, event, "[DONE]"])
        assert "cannot be read" in client.stream((await door.call(client.path, client.streamed(asked))).body).error
    assert [row.error_code for row in door.rows] == ["upstream_broken"] * 2


@pytest.mark.parametrize("dialect", ["responses", "messages", "ollama"])
async def test_an_answer_that_has_no_shape_was_paid_for(serve, dialect: str) -> None:
    client = DIALECTS[dialect]
    message = {"content": "hi", "tool_calls": [3]}
    usage = {"prompt_tokens": 5, "completion_tokens": 7}
    _, far = scripted.far("far", scripted.whole(orjson.dumps({"choices": [{"message": message}], "usage": usage})))
    serve(registry.model(far, "m"))
    async with Door() as door:
        await door.call(client.path, {"model": "m", **client.asked(TEXT, tools=False, picture=False)})
    [row] = door.rows
    assert (row.error_code, row.input_tokens, row.output_tokens) == ("upstream_broken", 5, 7)


@pytest.mark.parametrize("upstream", UPSTREAMS[:-1])
@pytest.mark.parametrize("dialect", DIALECTS)
async def test_a_client_is_spared_what_an_upstream_of_any_protocol_breaks(
    serve, upstreams: dict[str, Upstream], dialect: str, upstream: str
) -> None:
    client, far = DIALECTS[dialect], upstreams[upstream]
    assert far.server is not None
    error = far.error if upstream != "responses" or dialect == "responses" else upstreams["chat"].error
    spare = registry.provider("spare", priority=200)
    serve(registry.model(far.view, "m"), registry.model(spare, "m"))
    asked = client.streamed({"model": "m", **client.asked(f"{TEXT} und noch viele andere", tools=False, picture=False)})
    far.server.clear()
    async with Door() as door:
        for fault in (Answer(status=503, json={"error": "away"}), Answer(events=[error])):
            far.server.reply_with(fault, times=None)
            answer = await door.call(client.path, asked)
            far.server.clear()
            assert answer.headers["x-gateway-route"] == "spare/m"
            assert (client.stream(answer.body).over, answer.headers["x-gateway-fallback"]) == (True, "1")
        far.server.reply_with(cut_after=6)
        cut = client.stream((await door.call(client.path, asked)).body)
        assert (bool(cut.error), cut.over) == (True, False)
    assert [row.error_code for row in door.rows] == ["", "", "upstream_broken"]
    assert door.rows[-1].output_tokens > 0
