"""The backend as a worker calls it, and as the data plane would; over a real engine and the demo model."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import orjson
import pytest

from inference.backends import llama_cpp
from inference.backends.base import Chunk, UpstreamCall
from inference.engine.preflight import installed
from inference.engine.supervised import Cancelled
from inference.errors import (
    ConfigurationError,
    ContextLengthExceeded,
    InvalidRequest,
    ModelUnavailable,
    UnsupportedCapability,
    WorkerLost,
)
from inference.residency import Residency
from tests.conftest import missing
from tests.inference.engine.models import local_model

I_AM = "I am the built-in demo model of the gateway: a tiny llama with about one million weights, running in llama.cpp on your CPU."
WHO = [{"role": "user", "content": "Who are you?"}]


@pytest.fixture(scope="module")
def residency(data_dir: Path) -> Iterator[Residency]:
    if not (installed("llama_cpp") or installed("xllamacpp")):
        missing("an engine for local models (make engine)")
    yield llama_cpp.configure(data_dir=data_dir)
    llama_cpp.close()


pytestmark = pytest.mark.usefixtures("residency")


def chat(parameters: dict[str, Any] | None = None, **fields: Any) -> list[Chunk]:
    payload = {"operation": "chat", "fields": {"messages": WHO, **fields}}
    return list(llama_cpp.generate(payload, local_model(parameters), threading.Event()))


def complete(**fields: Any) -> list[Chunk]:
    return list(llama_cpp.generate({"operation": "completions", "fields": fields}, local_model()))


def text(chunks: list[Chunk], index: int = 0) -> str:
    return "".join(chunk.text for chunk in chunks if chunk.index == index)


def call(operation: str, **fields: Any) -> UpstreamCall:
    raw = {name: msgspec.Raw(msgspec.json.encode(value)) for name, value in fields.items()}
    stream = bool(fields.get("stream"))
    return UpstreamCall(operation=operation, model=local_model(), fields=raw, stream=stream, request_id="r")


def test_the_demo_model_answers_greedily_by_itself() -> None:
    assert text(chat()) == I_AM


def test_the_last_chunk_holds_finish_and_usage() -> None:
    *before, last = chat()
    assert last.finish_reason == "stop"
    assert last.usage is not None
    assert last.usage.input_tokens == 15
    assert all(chunk.usage is None and chunk.finish_reason is None for chunk in before)


def test_a_prompt_shared_by_choices_is_counted_once() -> None:
    chunks = chat(n=2, max_tokens=4)
    assert text(chunks, 0) == text(chunks, 1) != ""
    usage = chunks[-1].usage
    assert usage is not None
    assert (usage.input_tokens, usage.output_tokens) == (15, 8)
    assert [chunk.finish_reason for chunk in chunks if chunk.finish_reason] == ["length", "length"]


def test_several_prompts_are_counted_each() -> None:
    chunks = complete(prompt=["Hello", "What is"], max_tokens=2)
    usage = chunks[-1].usage
    assert usage is not None
    assert usage.output_tokens == 4
    assert usage.input_tokens > complete(prompt="Hello", max_tokens=1)[-1].usage.input_tokens  # type: ignore[union-attr]


def test_echo_gives_the_prompt_first() -> None:
    chunks = complete(prompt=["Hello", "What"], max_tokens=1, echo=True)
    assert text(chunks, 0).startswith("Hello")
    assert text(chunks, 1).startswith("What")


def test_log_probabilities_of_chat_are_in_chats_form() -> None:
    first = chat(max_tokens=1, logprobs=True, top_logprobs=2)[0]
    assert first.logprobs is not None
    (entry,) = first.logprobs["content"]
    assert entry["token"] == "I"
    assert len(entry["top_logprobs"]) == 2


def test_log_probabilities_of_completions_are_in_the_older_form() -> None:
    chunks = [chunk for chunk in complete(prompt="Hello", max_tokens=3, logprobs=2) if chunk.logprobs]
    offsets = [offset for chunk in chunks for offset in chunk.logprobs["text_offset"]]  # type: ignore[index]
    assert offsets[0] == 0
    assert offsets == sorted(offsets)


def test_offsets_of_an_echoed_prompts_answer_count_the_prompt() -> None:
    chunks = [chunk for chunk in complete(prompt="Hello", max_tokens=1, logprobs=0, echo=True) if chunk.logprobs]
    assert chunks[0].logprobs is not None
    assert chunks[0].logprobs["text_offset"] == [len("Hello")]


def test_the_registrys_sampling_is_overridden_by_the_request() -> None:
    wild = {"model_path": "builtin:demo", "threads": 1, "temperature": 2.0, "seed": 5, "max_tokens": 16}
    assert text(chat(wild)) != text(chat(wild, temperature=0))
    assert I_AM.startswith(text(chat(wild, temperature=0)))


def test_the_models_own_limit_of_tokens_holds() -> None:
    payload = {"operation": "chat", "fields": {"messages": WHO}}
    chunks = list(llama_cpp.generate(payload, local_model(max_tokens=3)))
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.output_tokens == 3


def test_setting_the_event_ends_the_answer() -> None:
    cancelled = threading.Event()
    payload = {
        "operation": "completions",
        "fields": {"prompt": "a", "temperature": 2.0, "logit_bias": {"2": -100, "0": -100}},
    }
    chunks = llama_cpp.generate(payload, local_model(), cancelled)
    next(chunks)
    cancelled.set()
    assert len(list(chunks)) < 100


def test_an_embedding_has_length_one_and_usage() -> None:
    vectors, usage = llama_cpp.embed({"fields": {"input": ["Who are you", "What are you"]}}, local_model())
    assert [len(vector) for vector in vectors] == [128, 128]
    assert sum(x * x for x in vectors[0]) == pytest.approx(1, abs=1e-4)
    assert usage.input_tokens > 2


def test_dimensions_that_the_model_does_not_have_are_refused() -> None:
    with pytest.raises(UnsupportedCapability) as caught:
        llama_cpp.embed({"fields": {"input": "a", "dimensions": 64}}, local_model())
    assert caught.value.param == "dimensions"


def test_a_cancelled_embedding_says_so() -> None:
    cancelled = threading.Event()
    cancelled.set()
    with pytest.raises(Cancelled):
        llama_cpp.embed({"fields": {"input": "a"}}, local_model(), cancelled)


@pytest.mark.parametrize(
    ("parameters", "fields", "error"),
    [
        (None, {"messages": []}, InvalidRequest),
        (None, {"temperature": 9}, InvalidRequest),
        (None, {"messages": [{"role": "user", "content": "word " * 3000}]}, ContextLengthExceeded),
        (None, {"functions": [{"name": "f"}]}, UnsupportedCapability),
        ({}, {}, ConfigurationError),
        ({"model_path": "/no/such.gguf"}, {}, ModelUnavailable),
        ({"model_path": "builtin:demo", "threads": "many"}, {}, ConfigurationError),
    ],
)
def test_each_failure_has_its_error(
    parameters: dict[str, Any] | None, fields: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        chat(parameters, **fields)


def test_a_crash_is_an_error_and_the_next_request_succeeds(residency: Residency) -> None:
    chunks = llama_cpp.generate(
        {
            "operation": "completions",
            "fields": {"prompt": ["a"] * 128, "temperature": 2.0, "logit_bias": {"2": -100, "0": -100}},
        },
        local_model(),
    )
    next(chunks)
    (resident,) = [held for held in residency._residents.values() if held.users]
    os.kill(resident.engine.process_id or 0, signal.SIGKILL)
    with pytest.raises(WorkerLost):
        list(chunks)
    assert text(chat()) == I_AM


def test_preloading_tells_what_failed_and_goes_on(residency: Residency) -> None:
    good = local_model({"model_path": "builtin:demo", "preload": True, "context_size": 128}, model_id="good")
    bad = local_model({"model_path": "/no/such.gguf", "preload": True}, model_id="bad")
    later = local_model({"model_path": "/also/none.gguf"}, model_id="later")
    failures = llama_cpp.preload([bad, good, later])
    assert list(failures) == ["local/bad"]
    assert isinstance(failures["local/bad"], ModelUnavailable)
    assert "local/good" in [model.name for model in residency.resident()]


async def test_as_a_backend_it_answers_whole() -> None:
    backend = llama_cpp.LlamaCpp(local_model().provider)
    reply = await backend.send(call("chat", messages=WHO))
    body = orjson.loads(reply.body or b"")
    assert body["choices"][0]["message"]["content"] == I_AM
    assert body["usage"]["prompt_tokens"] == 15


async def test_as_a_backend_it_streams() -> None:
    backend = llama_cpp.LlamaCpp(local_model().provider)
    reply = await backend.send(call("chat", messages=WHO, stream=True))
    assert reply.chunks is not None
    events = b"".join([chunk async for chunk in reply.chunks])
    assert events.count(b"data: ") > 20
    assert events.endswith(b"data: [DONE]\n\n")


async def test_as_a_backend_it_embeds() -> None:
    backend = llama_cpp.LlamaCpp(local_model().provider)
    body = orjson.loads((await backend.send(call("embeddings", input="Who are you"))).body or b"")
    assert len(body["data"][0]["embedding"]) == 128


async def test_as_a_backend_it_raises_before_the_reply() -> None:
    backend = llama_cpp.LlamaCpp(local_model().provider)
    with pytest.raises(ContextLengthExceeded):
        await backend.send(call("chat", messages=[{"role": "user", "content": "word " * 3000}], stream=True))


async def test_a_failure_that_nobody_foresaw_reaches_whoever_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> Iterator[Chunk]:
        raise LookupError("unforeseen")

    monkeypatch.setattr(llama_cpp, "generate", fail)
    chunks = llama_cpp.LlamaCpp(local_model().provider).chunks(call("chat", messages=WHO))
    asking = asyncio.ensure_future(anext(chunks))
    assert (await asyncio.wait([asking], timeout=60))[0], "it waits for what never comes"
    with pytest.raises(LookupError, match="unforeseen"):
        await asking


async def test_a_dropped_reply_stops_the_engine(residency: Residency) -> None:
    backend = llama_cpp.LlamaCpp(local_model().provider)
    reply = await backend.send(
        call("completions", prompt="a", temperature=2.0, logit_bias={"2": -100, "0": -100}, stream=True)
    )
    await reply.aclose()
    assert not any(held.users for held in residency._residents.values())
