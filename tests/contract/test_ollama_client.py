"""Ollama's official client against the gateway on a real socket, and straight at the upstream that is behind it.

The provider is Ollama's own kind in front of a fake of its API: whatever the client reads through the gateway it must read so
without it. A second provider speaks OpenAI's protocol, for what has to be translated.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import ollama
import pytest

from inference.limits import Limits
from inference.process_beats import WORKER, Beats
from providers.secrets import Secret
from routing import snapshot
from tests.contract.gateway import Gateway
from tests.fakes.upstream import FakeUpstream, rate_limited
from tests.inference import registry

TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Of a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
HELLO = [{"role": "user", "content": "one two three"}]
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
SCHEMA = {"type": "object", "properties": {"name": {"type": "string"}}}
OPTIONS = {"temperature": 0.5, "top_k": 7, "num_ctx": 4096, "num_predict": 2, "seed": 3, "stop": ["zzz"]}

ASKED: dict[str, tuple[str, dict[str, Any]]] = {
    "chat": ("chat", {"messages": HELLO}),
    "stream": ("chat", {"messages": HELLO, "stream": True}),
    "options": ("chat", {"messages": HELLO, "options": OPTIONS, "keep_alive": "3m"}),
    "thinking": ("chat", {"messages": HELLO, "think": True, "stream": True}),
    "schema": ("chat", {"messages": HELLO, "format": SCHEMA}),
    "tools": ("chat", {"messages": HELLO, "tools": [TOOL]}),
    "tools streamed": ("chat", {"messages": HELLO, "tools": [TOOL], "stream": True}),
    "logprobs": ("chat", {"messages": HELLO, "logprobs": True}),
    "generate": ("generate", {"prompt": "one two", "system": "be brief", "images": [PIXEL]}),
    "generate streamed": ("generate", {"prompt": "one two", "stream": True, "context": [1, 2]}),
    "raw": ("generate", {"prompt": "one two", "raw": True, "options": {"num_predict": 1}}),
    "template": ("generate", {"prompt": "one two", "template": "{{ .Prompt }}"}),
    "embed": ("embed", {"input": ["one", "two"], "dimensions": 4, "truncate": True}),
}


@pytest.fixture(scope="module")
def upstream() -> Iterator[FakeUpstream]:
    with FakeUpstream(api_key=registry.UPSTREAM_KEY, models=("llama3.2:latest", "gpt-test", "embed-test")) as fake:
        yield fake


@pytest.fixture(scope="module")
def gateway(upstream: FakeUpstream) -> Iterator[Gateway]:
    own = registry.provider(
        "ollama",
        backend="inference.backends.ollama.Ollama",
        connection={"base_url": upstream.base_url, "allow_private": True},
        keys=[registry.UPSTREAM_KEY],
    )
    sees = frozenset({"chat", "vision"})
    remote = registry.remote(upstream.base_url)
    models = [
        registry.model(own, "llama3.2:latest", capabilities=sees),
        registry.model(own, "embed-test"),
        registry.model(remote, "gpt-test", capabilities=sees, context_window=8192),
    ]
    snapshot.replace(registry.snapshot(*models, keys=[registry.key_view()]))
    with Gateway(Limits(ollama_key=Secret(registry.CLIENT_KEY))).serving() as served:
        yield served
    snapshot.replace(None)


@pytest.fixture
def client(gateway: Gateway, upstream: FakeUpstream) -> Iterator[ollama.Client]:
    upstream.clear()
    with ollama.Client(gateway.url, headers={"authorization": f"Bearer {registry.CLIENT_KEY}"}, timeout=60) as made:
        yield made


@pytest.fixture(scope="module")
def direct(upstream: FakeUpstream) -> Iterator[ollama.Client]:
    with ollama.Client(upstream.origin, headers={"authorization": f"Bearer {registry.UPSTREAM_KEY}"}) as made:
        yield made


def read(answer: Any) -> list[dict[str, Any]]:
    pieces = [answer] if hasattr(answer, "model_dump") else list(answer)
    return [piece.model_dump() for piece in pieces]


@pytest.mark.parametrize("what", ASKED)
def test_an_answer_is_field_by_field_what_the_upstream_says(client, direct, upstream, what) -> None:
    method, asked = ASKED[what]
    model = "embed-test" if method == "embed" else "llama3.2"
    straight = read(getattr(direct, method)(model=model, **asked))
    through = read(getattr(client, method)(model=model, **asked))
    assert through == straight
    first, second = (request.json for request in upstream.requests)
    assert {**second, "model": model} == {"stream": False, **first} if method != "embed" else {**second} == first


def test_an_old_embedding_is_the_upstreams(client, direct) -> None:
    asked = {"model": "embed-test", "prompt": "one"}
    assert client.embeddings(**asked).model_dump() == direct.embeddings(**asked).model_dump()


@pytest.mark.parametrize("stream", [False, True])
def test_a_model_of_another_protocol_answers_all_the_same(client, upstream, stream) -> None:
    answers = client.chat("gpt-test:latest", HELLO, stream=stream, options=OPTIONS, keep_alive=5, format="json")
    pieces = list(answers) if stream else [answers]
    assert "".join(piece.message.content for piece in pieces) == '{"echo": "one '
    last = pieces[-1]
    assert (last.model, last.done, last.done_reason) == ("gpt-test:latest", True, "length")
    assert (last.prompt_eval_count, last.eval_count) == (3, 2)
    assert last.total_duration >= last.eval_duration > 0
    assert not any(piece.done for piece in pieces[:-1])
    sent = upstream.requests[-1].json
    assert (sent["max_tokens"], sent["stop"], sent["response_format"]) == (2, ["zzz"], {"type": "json_object"})
    assert not {"options", "keep_alive", "top_k", "num_ctx"} & sent.keys()


@pytest.mark.parametrize("stream", [False, True])
def test_tools_of_another_protocol_are_called_with_objects(client, upstream, stream) -> None:
    answers = client.chat("gpt-test", HELLO, tools=[TOOL], stream=stream)
    pieces = list(answers) if stream else [answers]
    [call] = [call for piece in pieces for call in piece.message.tool_calls or ()]
    assert (call.function.name, call.function.arguments) == ("weather", {"city": "text"})
    told = [*HELLO, {"role": "assistant", "tool_calls": [call.model_dump()]}]
    client.chat("gpt-test", [*told, {"role": "tool", "tool_name": "weather", "content": "sunny"}])
    made, result = upstream.requests[-1].json["messages"][1:]
    assert made["tool_calls"][0]["function"]["arguments"] == '{"city":"text"}'
    assert result["tool_call_id"] == made["tool_calls"][0]["id"]


def test_a_prompt_with_a_picture_becomes_a_chat(client, upstream) -> None:
    answer = client.generate("gpt-test", "what is it", system="be brief", images=[PIXEL])
    assert answer.response.startswith("echo: what is it")
    system, user = upstream.requests[-1].json["messages"]
    assert system == {"role": "system", "content": "be brief"}
    assert user["content"][1]["image_url"]["url"] == f"data:image/png;base64,{PIXEL}"


def test_a_raw_prompt_becomes_a_completion(client, upstream) -> None:
    pieces = list(client.generate("gpt-test", "one", raw=True, stream=True))
    assert "".join(piece.response for piece in pieces) == "echo: one"
    assert upstream.requests[-1].path == "/v1/completions"


def test_what_only_ollama_can_say_is_refused_by_name(client) -> None:
    with pytest.raises(ollama.ResponseError, match="template") as refused:
        client.generate("gpt-test", "one", template="{{ .Prompt }}")
    assert refused.value.status_code == 400


def test_nothing_asked_loads_and_unloads_without_a_call(client, upstream) -> None:
    assert client.generate("gpt-test", "").done_reason == "load"
    assert client.chat("gpt-test", [], keep_alive=0).done_reason == "unload"
    assert [piece.done_reason for piece in client.chat("llama3.2", stream=True)] == ["load"]
    with pytest.raises(ollama.ResponseError, match="model 'nobody' not found"):
        client.generate("nobody", "")
    assert upstream.requests == []


def test_models_are_listed_and_shown(client) -> None:
    listed = {model.model: model for model in client.list().models}
    assert set(listed) == {"llama3.2:latest", "embed-test", "gpt-test"}
    assert len(listed["gpt-test"].digest) == 64
    shown = client.show("gpt-test:latest")
    assert shown.capabilities == ["completion", "vision"]
    assert shown.modelinfo["gateway.context_length"] == 8192
    assert client.show("embed-test").capabilities == ["embedding"]
    assert client.ps().models == []


def test_models_that_workers_hold_are_told_as_running(client, redis_url: str) -> None:
    told = {"gpu_layers": 0, "last_used_at": 1.0}
    models = [
        {**told, "name": "remote/gpt-test", "memory_bytes": 5_000_000, "context_size": 2048},
        {**told, "name": "local/hidden", "memory_bytes": 7, "context_size": None},
    ]
    worker = Beats(redis_url, WORKER, "worker@test", lambda: {"models": models})
    worker.beat()
    try:
        [running] = client.ps().models
    finally:
        worker.stop()
    assert (running.name, running.model, running.size, running.size_vram) == ("gpt-test", "gpt-test", 5_000_000, 0)
    assert (running.context_length, len(running.digest)) == (2048, 64)
    assert running.expires_at > datetime.now(UTC) + timedelta(days=20 * 365)
    assert client.ps().models == []


def test_errors_have_the_status_and_the_text(client, gateway, upstream) -> None:
    with pytest.raises(ollama.ResponseError, match="nobody") as unknown:
        client.chat("nobody", HELLO)
    assert unknown.value.status_code == 404
    wrong = ollama.Client(gateway.url, headers={"authorization": "Bearer gw-000000000000-wrong"})
    with wrong, pytest.raises(ollama.ResponseError, match="Incorrect API key") as refused:
        wrong.list()
    assert refused.value.status_code == 401
    upstream.reply_with(rate_limited(60), times=2)
    with pytest.raises(ollama.ResponseError, match="Rate limit") as limited:
        list(client.chat("llama3.2", HELLO, stream=True))
    assert limited.value.status_code == 429


def test_a_stream_that_is_cut_ends_with_an_error(client, upstream) -> None:
    upstream.reply_with(cut_after=2)
    said: list[ollama.ChatResponse] = []
    said = []
    with pytest.raises(ollama.ResponseError, match="closed the connection"):
        said.extend(client.chat("llama3.2", HELLO, stream=True))
    assert [piece.message.content for piece in said] == ["echo: ", "one "]


@pytest.mark.parametrize("call", [("pull", "llama3"), ("delete", "gpt-test"), ("copy", "gpt-test", "other")])
def test_models_are_managed_elsewhere(client, call) -> None:
    method, *arguments = call
    with pytest.raises(ollama.ResponseError, match="admin") as refused:
        getattr(client, method)(*arguments)
    assert refused.value.status_code == 403


def test_a_tool_without_a_key_is_served_where_the_operator_says_so(gateway) -> None:
    with ollama.Client(gateway.url) as keyless:
        assert keyless.chat("llama3.2", HELLO).message.content == "echo: one two three"
        assert keyless.list().models
