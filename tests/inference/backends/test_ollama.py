"""Beside what `test_conformance` asks of every backend: lines, Ollama's own words, and its defaults."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import orjson
import pytest

from inference.backends.base import Reply, UpstreamCall
from inference.backends.ollama import Ollama
from inference.errors import ConfigurationError, UpstreamBroken, UpstreamFailed, UpstreamRejected
from inference.wire import ollama
from inference.wire.native import OLLAMA_CHAT
from tests.fakes.upstream import FakeUpstream
from tests.inference import registry

HELLO = [{"role": "user", "content": "one two"}]


@pytest.fixture(scope="module")
def upstream() -> Iterator[FakeUpstream]:
    with FakeUpstream(models=("llama3.2:latest", "embed-test")) as fake:
        yield fake


@pytest.fixture
async def backend(upstream: FakeUpstream) -> Any:
    upstream.clear()
    made = Ollama(provider(upstream, keep_alive="10m", num_ctx=4096))
    yield made
    await made.aclose()


def provider(upstream: FakeUpstream, **connection: Any) -> Any:
    return registry.provider(
        "ollama",
        backend="inference.backends.ollama.Ollama",
        connection={"base_url": upstream.base_url, "allow_private": True, **connection},
    )


def call(backend: Ollama, *, stream: bool = False, **fields: Any) -> UpstreamCall:
    told = {"model": "m", "messages": HELLO, **fields}
    raw = {name: msgspec.Raw(orjson.dumps(value)) for name, value in told.items()}
    return UpstreamCall("chat", registry.model(backend.provider, "llama3.2"), raw, stream, "req-1")


def own(backend: Ollama, **fields: Any) -> UpstreamCall:
    question = ollama.chat(orjson.dumps({"model": "m", "messages": HELLO, **fields}))
    asked = call(backend, stream=question.stream)
    asked.native = question.native
    return asked


async def read(reply: Reply) -> list[Any]:
    assert reply.chunks is not None
    stream = b"".join([piece async for piece in reply.chunks])
    return [orjson.loads(line[6:]) for line in stream.split(b"\n") if line.startswith(b"data: {")]


def line(content: str = "", **more: Any) -> bytes:
    return (
        orjson.dumps({"model": "x", "message": {"role": "assistant", "content": content}, "done": False, **more})
        + b"\n"
    )


async def test_lines_may_be_cut_anywhere(backend: Ollama, upstream: FakeUpstream) -> None:
    stream = line("né") + b"\n" + line("w") + line(done=True, done_reason="stop", prompt_eval_count=3, eval_count=2)
    upstream.reply_with(
        events=[stream[n : n + 7] for n in range(0, len(stream), 7)], content_type="application/x-ndjson"
    )
    reply = await backend.send(call(backend, stream=True))
    chunks = await read(reply)
    assert "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks) == "néw"
    assert reply.usage is not None
    assert reply.usage.counts == (3, 2, 0, 0)


async def test_an_error_among_the_lines_is_one(backend: Ollama, upstream: FakeUpstream) -> None:
    died = orjson.dumps({"error": "the runner died"}) + b"\n"
    upstream.reply_with(events=[line("a"), died], content_type="application/x-ndjson")
    with pytest.raises(UpstreamFailed, match="the runner died"):
        await read(await backend.send(call(backend, stream=True)))
    upstream.reply_with(events=[died], content_type="application/x-ndjson")
    with pytest.raises(UpstreamFailed, match="the runner died"):
        await backend.send(call(backend, stream=True))


async def test_lines_that_end_before_the_last_are_a_broken_answer(backend: Ollama, upstream: FakeUpstream) -> None:
    for asked in (call(backend, stream=True), own(backend)):
        upstream.reply_with(events=[line("a"), line("b")[:-20]], content_type="application/x-ndjson")
        with pytest.raises(UpstreamBroken):
            await read(await backend.send(asked))
        upstream.reply_with(events=[line("a")], content_type="application/x-ndjson")
        with pytest.raises(UpstreamBroken, match="ended before"):
            await read(await backend.send(asked))


async def test_a_whole_answer_may_stand_on_several_lines_and_must_be_one(
    backend: Ollama, upstream: FakeUpstream
) -> None:
    told = {"model": "x", "message": {"role": "assistant", "content": "hi"}, "done": True}
    for asked in (call(backend), own(backend, stream=False)):
        upstream.reply_with(body=orjson.dumps(told, option=orjson.OPT_INDENT_2), content_type="application/json")
        assert b"hi" in ((await backend.send(asked)).body or b"")
        upstream.reply_with(json={"status": "ok"})
        with pytest.raises(UpstreamBroken):
            await backend.send(asked)


async def test_a_connection_is_used_again_after_a_stream(backend: Ollama, upstream: FakeUpstream) -> None:
    for asked in (call(backend, stream=True), own(backend), call(backend)):
        reply = await backend.send(asked)
        if reply.chunks is not None:
            await read(reply)
            await reply.aclose()
    assert len({request.connection for request in upstream.requests}) == 1


async def test_an_answer_that_nobody_waits_for_ends_the_upstreams_work(backend: Ollama, upstream: FakeUpstream) -> None:
    for asked in (call(backend, stream=True), own(backend)):
        upstream.clear()
        upstream.reply_with(stall_after=1)
        reply = await backend.send(asked)
        assert reply.chunks is not None
        await anext(reply.chunks)
        await reply.aclose()
        assert await upstream.requests[0].until_left()


async def test_defaults_hold_where_the_request_says_nothing(backend: Ollama, upstream: FakeUpstream) -> None:
    await backend.send(call(backend, options={"num_ctx": 99}))
    await backend.send(own(backend, stream=False, keep_alive=0))
    translated, passed = (request.json for request in upstream.requests)
    assert (translated["keep_alive"], translated["options"]) == ("10m", {"num_ctx": 99})
    assert (passed["keep_alive"], passed["options"]) == (0, {"num_ctx": 4096})
    assert {request.path for request in upstream.requests} == {"/api/chat"}


async def test_ollamas_own_words_are_answered_in_its_own(backend: Ollama) -> None:
    reply = await backend.send(own(backend, stream=False, think=True))
    told = orjson.loads(reply.body or b"")
    assert (reply.api, told["model"], told["message"]["thinking"]) == (OLLAMA_CHAT, "m", "about one two")
    assert reply.usage is not None
    assert reply.usage.counts == (2, 3, 0, 0)
    reply = await backend.send(own(backend))
    assert reply.usage is None
    assert [told["done"] for told in await read(reply)] == [False, False, False, True]
    assert reply.usage.counts == (2, 3, 0, 0)


async def test_tools_thoughts_and_log_probabilities_are_said_in_openais_words(backend: Ollama) -> None:
    tool = {"type": "function", "function": {"name": "f", "parameters": {"properties": {"x": {"type": "string"}}}}}
    chunks = await read(await backend.send(call(backend, stream=True, tools=[tool])))
    [called] = [made for chunk in chunks for made in chunk["choices"][0]["delta"].get("tool_calls", ())]
    assert (called["index"], called["function"]) == (0, {"name": "f", "arguments": '{"x":"text"}'})
    assert chunks[-1]["choices"][0]["finish_reason"] == "tool_calls"
    told = orjson.loads((await backend.send(call(backend, think=True, logprobs=True))).body or b"")
    [choice] = told["choices"]
    assert choice["message"]["reasoning_content"] == "about one two"
    assert [one["token"] for one in choice["logprobs"]["content"]] == ["echo: ", "one ", "two"]


async def test_a_model_that_is_not_there_is_the_callers_to_know(backend: Ollama, upstream: FakeUpstream) -> None:
    asked = call(backend)
    asked.model = registry.model(backend.provider, "nobody")
    with pytest.raises(UpstreamRejected, match="model 'nobody' not found") as caught:
        await backend.send(asked)
    assert caught.value.status == 404


async def test_its_models_are_listed_by_name(backend: Ollama) -> None:
    assert [model["id"] for model in await backend.list_models()] == ["llama3.2:latest", "embed-test"]


def test_an_address_is_needed() -> None:
    with pytest.raises(ConfigurationError):
        Ollama(registry.provider("ollama", backend="inference.backends.ollama.Ollama"))
