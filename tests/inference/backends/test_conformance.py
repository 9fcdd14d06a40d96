"""What every registered provider type must do alike. A new type adds its stand to `STANDS` by the backend it names."""

from __future__ import annotations

import asyncio
import base64
import struct
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec
import orjson
import pytest

from inference import errors
from inference.backends import llama_cpp
from inference.backends.anthropic import Anthropic
from inference.backends.base import Backend, Reply, UpstreamCall
from inference.backends.fake import Fake
from inference.backends.kamiwaza import Kamiwaza
from inference.backends.llama_cpp import LlamaCpp
from inference.backends.ollama import Ollama
from inference.backends.openai_compatible import OpenAICompatible
from inference.backends.transformers import Transformers
from inference.engine.preflight import Preflight
from inference.engine.spec import DEMO_PATH
from inference.engine.supervised import EngineChoice, SupervisedEngine
from inference.residency import Residency
from providers import provider_types
from providers.secrets import Secret
from routing.types import ModelView, ProviderView, UpstreamKey
from tests.fakes.anthropic import FakeAnthropic
from tests.fakes.upstream import Answer, FakeUpstream, failure, html, rate_limited
from tests.inference import registry
from tests.inference.engine.conftest import directory_of, kept_engine, needs

KEY = "sk-conformance-canary-0123456789"


@dataclass
class Stand:
    """A backend with something real behind it. `break_with` names ways to fail and how each is brought about."""

    backend: type
    provider: ProviderView
    chat: ModelView
    embedding: ModelView
    prompt: str
    failures: dict[str, tuple[Callable[[Stand], UpstreamCall], type[errors.GatewayError]]]
    upstream: FakeUpstream | None = None
    key: UpstreamKey | None = None
    closing: ExitStack = field(default_factory=ExitStack)

    def call(self, operation: str = "chat", *, model: ModelView | None = None, **fields: Any) -> UpstreamCall:
        if operation == "chat":
            fields = {"messages": [{"role": "user", "content": self.prompt}]} | fields
        elif operation == "completions":
            fields = {"prompt": self.prompt} | fields
        target = model or (self.embedding if operation == "embeddings" else self.chat)
        body = {"model": "a-name-of-the-client", **fields}
        return UpstreamCall(
            operation=operation,
            model=target,
            fields={name: msgspec.Raw(orjson.dumps(value)) for name, value in body.items()},
            stream=bool(fields.get("stream")),
            request_id="req-conformance",
            key=self.key,
        )


def over_http(kind: provider_types.ProviderType, fake: FakeUpstream | None = None) -> Stand:
    closing = ExitStack()
    upstream = closing.enter_context(fake or FakeUpstream(api_key=KEY))
    base_url = upstream.origin if kind.defaults.get("url_style") == "azure" else upstream.base_url
    view = replace(
        registry.remote(base_url, kind.name),
        connection={**kind.defaults, "base_url": base_url},
    )

    def scripted(answer: Any) -> Callable[[Stand], UpstreamCall]:
        def prepare(stand: Stand) -> UpstreamCall:
            upstream.script(answer)
            return stand.call()

        return prepare

    def silent(stand: Stand) -> UpstreamCall:
        upstream.script(Answer(hang=True))
        stand.provider = replace(stand.provider, settings={"first_byte_timeout_seconds": 0.3})
        return stand.call()

    def nobody_listening(stand: Stand) -> UpstreamCall:
        upstream.stop()
        return stand.call()

    def wrong_key(stand: Stand) -> UpstreamCall:
        return replace(stand.call(), key=UpstreamKey(9, Secret("sk-wrong-conformance-key")))

    return Stand(
        backend=OpenAICompatible,
        provider=view,
        chat=registry.model(view, "gpt-test"),
        embedding=registry.model(view, "embed-test"),
        prompt="alpha beta gamma delta epsilon zeta eta theta",
        upstream=upstream,
        key=UpstreamKey(1, Secret(KEY)),
        closing=closing,
        failures={
            "rate limited": (scripted(rate_limited(3)), errors.UpstreamRateLimited),
            "server error": (scripted(failure(500)), errors.UpstreamFailed),
            "bad request": (scripted(failure(400, "no such parameter")), errors.UpstreamRejected),
            "not its protocol": (scripted(html()), errors.UpstreamBroken),
            "silent": (silent, errors.UpstreamTimeout),
            "wrong key": (wrong_key, errors.UpstreamRefusedOurKey),
            "unreachable": (nobody_listening, errors.UpstreamUnreachable),
        },
    )


def deployed(kind: provider_types.ProviderType) -> Stand:
    """The platform lists its deployments at one URL, and each answers at another."""
    stand = over_http(kind)
    assert stand.upstream is not None
    where = {"base_urls": [stand.upstream.base_url]}
    view = replace(stand.provider, connection={**stand.provider.connection, "base_url": f"{stand.upstream.origin}/api"})
    stand.chat = replace(stand.chat, provider=view, parameters={**where, "upstream_model_id": "model"})
    stand.embedding = replace(stand.embedding, provider=view, parameters={**where, "upstream_model_id": "model"})
    stand.backend, stand.provider = Kamiwaza, view
    return stand


def ollama_server(kind: provider_types.ProviderType) -> Stand:
    """Its address is the one that rows have from when it was asked in OpenAI's protocol."""
    stand = over_http(kind)
    stand.backend = Ollama
    return stand


def in_anthropics_words(kind: provider_types.ProviderType) -> Stand:
    stand = over_http(kind, FakeAnthropic(api_key=KEY, models=["gpt-test"]))
    stand.backend = Anthropic
    return stand


def scripted_fake(kind: provider_types.ProviderType) -> Stand:
    view = registry.provider(kind.name, connection=dict(kind.defaults))

    def told(command: str) -> Callable[[Stand], UpstreamCall]:
        return lambda stand: stand.call(messages=[{"role": "user", "content": f"/fail {command}"}])

    return Stand(
        backend=Fake,
        provider=view,
        chat=registry.model(view, "fake-chat"),
        embedding=registry.model(view, "fake-embedding", dimension=16),
        prompt="alpha beta gamma delta epsilon zeta eta theta",
        failures={
            "rate limited": (told("429"), errors.UpstreamRateLimited),
            "server error": (told("500"), errors.UpstreamFailed),
            "bad request": (told("400"), errors.UpstreamRejected),
            "wrong key": (told("401"), errors.UpstreamRefusedOurKey),
            "unreachable": (told("unreachable"), errors.UpstreamUnreachable),
            "silent": (told("timeout"), errors.UpstreamTimeout),
        },
    )


def local_model(kind: provider_types.ProviderType) -> Stand:
    view = registry.provider(kind.name, connection={**kind.defaults, "model_path": "builtin:demo", "context_size": 512})
    missing = registry.model(view, "missing", parameters={"model_path": "/nowhere/model.gguf"})
    return Stand(
        backend=LlamaCpp,
        provider=view,
        chat=registry.model(view, "demo"),
        embedding=registry.model(view, "demo-embedding"),
        prompt="What is a provider?",
        failures={
            "no file": (lambda stand: stand.call(model=missing), errors.ModelUnavailable),
            "prompt over context": (
                lambda stand: stand.call(messages=[{"role": "user", "content": "word " * 3000}]),
                errors.ContextLengthExceeded,
            ),
            "bad field": (lambda stand: stand.call(temperature="hot"), errors.InvalidRequest),
        },
    )


def model_directory(kind: provider_types.ProviderType) -> Stand:
    """The same model by the other engine."""
    needs("transformers")
    told = {"model_path": str(directory_of(DEMO_PATH)), "threads": 1}
    view = registry.provider(kind.name, backend=kind.backend, connection={**kind.defaults, **told})
    stand = local_model(kind)
    missing = registry.model(view, "missing", parameters={"model_path": "/nowhere/model"})
    return replace(
        stand,
        backend=Transformers,
        provider=view,
        chat=registry.model(view, "demo"),
        embedding=registry.model(view, "demo-embedding"),
        failures={
            "no directory" if way == "no file" else way: (
                (lambda stand: stand.call(model=missing)) if way == "no file" else prepare,
                error,
            )
            for way, (prepare, error) in stand.failures.items()
        },
    )


STANDS = {
    "inference.backends.anthropic.Anthropic": in_anthropics_words,
    "inference.backends.openai_compatible.OpenAICompatible": over_http,
    "inference.backends.kamiwaza.Kamiwaza": deployed,
    "inference.backends.ollama.Ollama": ollama_server,
    "inference.backends.fake.Fake": scripted_fake,
    "inference.backends.llama_cpp.LlamaCpp": local_model,
    "inference.backends.transformers.Transformers": model_directory,
}
TYPES = list(provider_types.registered().values())
ONE_OF_EACH = [
    provider_types.OPENAI_COMPATIBLE,
    provider_types.OLLAMA,
    provider_types.FAKE,
    provider_types.LLAMA_CPP,
    provider_types.TRANSFORMERS,
]
"""Presets differ in where and how they are reached, not in what comes back: the slower promises are kept by one of each."""
OF_CHATS = [*ONE_OF_EACH, provider_types.ANTHROPIC]
"""Those, and what has neither embeddings nor completions."""


def _start(spec: Any, choice: EngineChoice, **limits: Any) -> SupervisedEngine:
    return kept_engine(spec.key) if choice.name == "transformers" else SupervisedEngine(spec, choice, **limits)


@pytest.fixture(scope="module", autouse=True)
def _one_engine() -> Iterator[None]:
    """The local model stays loaded from one promise to the next, as it does for a process."""
    with llama_cpp._held.lock:
        llama_cpp._held.residency = Residency(choose=Preflight().choose, start=_start)
    yield
    llama_cpp.close()


@pytest.fixture
def stand(request: pytest.FixtureRequest) -> Iterator[Stand]:
    made = STANDS[request.param.backend](request.param)
    with made.closing:
        yield made


def _grouped(kinds: list[provider_types.ProviderType]) -> list[Any]:
    """To import torch takes seconds, so one worker does it for all tests."""
    group = [pytest.mark.xdist_group("transformers")]
    return [pytest.param(kind, marks=group if kind is provider_types.TRANSFORMERS else []) for kind in kinds]


every_type = pytest.mark.parametrize("stand", _grouped(TYPES), indirect=True, ids=lambda kind: kind.name)
every_chat = pytest.mark.parametrize("stand", _grouped(OF_CHATS), indirect=True, ids=lambda kind: kind.name)
every_backend = pytest.mark.parametrize("stand", _grouped(ONE_OF_EACH), indirect=True, ids=lambda kind: kind.name)


@asynccontextmanager
async def backend_of(stand: Stand) -> AsyncIterator[Backend]:
    backend = stand.backend(stand.provider)
    try:
        yield backend
    finally:
        await backend.aclose()


async def whole(stand: Stand, operation: str = "chat", **fields: Any) -> dict[str, Any]:
    async with backend_of(stand) as backend:
        reply = await backend.send(stand.call(operation, **fields))
        assert reply.status == 200
        assert reply.body is not None
        return orjson.loads(reply.body)


async def events(stand: Stand, operation: str = "chat", **fields: Any) -> list[dict[str, Any]]:
    async with backend_of(stand) as backend:
        reply = await backend.send(stand.call(operation, stream=True, **fields))
        return await read(reply)


async def read(reply: Reply) -> list[dict[str, Any]]:
    assert reply.chunks is not None
    stream = b"".join([piece async for piece in reply.chunks])
    lines = [line.removeprefix(b"data: ") for line in stream.split(b"\n") if line.startswith(b"data: ")]
    assert lines[-1] == b"[DONE]"
    return [orjson.loads(line) for line in lines[:-1]]


def text_of(body: dict[str, Any]) -> str:
    choice = body["choices"][0]
    return choice["message"]["content"] if "message" in choice else choice["text"]


def streamed_text(chunks: list[dict[str, Any]]) -> str:
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks if chunk["choices"]]
    return "".join(delta.get("content") or "" for delta in deltas)


def test_every_registered_type_has_a_stand():
    assert {kind.backend for kind in TYPES} <= set(STANDS)


@every_type
async def test_a_whole_chat_reply_has_choices_text_finish_reason_and_usage(stand: Stand):
    body = await whole(stand)
    assert body["object"] == "chat.completion"
    assert text_of(body)
    assert body["choices"][0]["message"]["role"] == "assistant"
    assert body["choices"][0]["finish_reason"] == "stop"
    usage = body["usage"]
    assert usage["prompt_tokens"] > 0
    assert usage["completion_tokens"] > 0
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]


@every_backend
async def test_a_completion_has_the_same_shape_with_a_text(stand: Stand):
    body = await whole(stand, "completions", prompt="A provider is a place that", max_tokens=8)
    assert body["object"] == "text_completion"
    assert isinstance(text_of(body), str)
    assert body["choices"][0]["finish_reason"] in {"stop", "length"}
    assert body["usage"]["completion_tokens"] > 0


@every_chat
async def test_streamed_and_whole_say_the_same(stand: Stand):
    said = text_of(await whole(stand, temperature=0))
    chunks = await events(stand, temperature=0)
    assert streamed_text(chunks) == said
    assert chunks[0]["object"] == "chat.completion.chunk"
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks if chunk["choices"]][-1] == "stop"


@every_chat
async def test_usage_comes_as_the_last_event_when_it_is_asked_for(stand: Stand):
    chunks = await events(stand, stream_options={"include_usage": True})
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"]["completion_tokens"] > 0


@every_chat
async def test_no_usage_event_comes_when_it_is_not_asked_for(stand: Stand):
    assert all(chunk["choices"] for chunk in await events(stand))


@every_chat
async def test_usage_of_a_stream_is_known_to_the_gateway_even_if_the_client_did_not_ask(stand: Stand):
    async with backend_of(stand) as backend:
        reply = await backend.send(stand.call(stream=True))
        await read(reply)
        assert reply.usage is not None
        assert reply.usage.output_tokens > 0


@every_chat
async def test_max_tokens_ends_the_answer_with_length(stand: Stand):
    body = await whole(stand, max_tokens=3)
    assert body["choices"][0]["finish_reason"] == "length"
    assert body["usage"]["completion_tokens"] <= 3


@every_chat
async def test_of_several_stop_strings_the_earliest_ends_the_answer(stand: Stand):
    said = text_of(await whole(stand, temperature=0))
    words = said.split()
    later, earlier = words[-2], words[3]
    cut = min(said.index(later), said.index(earlier))
    body = await whole(stand, temperature=0, stop=[later, "never said", earlier])
    assert text_of(body).rstrip() == said[:cut].rstrip()
    assert body["choices"][0]["finish_reason"] == "stop"


@every_chat
async def test_temperature_zero_answers_the_same_twice(stand: Stand):
    assert text_of(await whole(stand, temperature=0)) == text_of(await whole(stand, temperature=0))


@every_chat
async def test_parallel_calls_all_get_their_answer(stand: Stand):
    expected = text_of(await whole(stand, temperature=0))
    async with backend_of(stand) as backend:
        replies = await asyncio.gather(*(backend.send(stand.call(temperature=0)) for _ in range(20)))
    assert [text_of(orjson.loads(reply.body or b"")) for reply in replies] == [expected] * 20


@every_backend
async def test_an_embedding_is_the_same_as_floats_and_as_base64(stand: Stand):
    floats = await whole(stand, "embeddings", input="a text")
    packed = await whole(stand, "embeddings", input="a text", encoding_format="base64")
    vector = floats["data"][0]["embedding"]
    raw = base64.b64decode(packed["data"][0]["embedding"])
    assert len(vector) > 0
    assert struct.unpack(f"<{len(vector)}f", raw) == pytest.approx(vector, rel=1e-6)
    assert floats["usage"]["prompt_tokens"] > 0


@every_backend
async def test_several_inputs_give_as_many_embeddings_in_order(stand: Stand):
    both = await whole(stand, "embeddings", input=["first text", "second thing"])
    alone = await whole(stand, "embeddings", input="second thing")
    assert [item["index"] for item in both["data"]] == [0, 1]
    assert both["data"][1]["embedding"] == pytest.approx(alone["data"][0]["embedding"], abs=1e-4)


@every_chat
async def test_a_stream_that_is_closed_early_leaves_the_backend_well(stand: Stand):
    async with backend_of(stand) as backend:
        reply = await backend.send(stand.call(stream=True))
        assert reply.chunks is not None
        await anext(reply.chunks)
        await reply.aclose()
        again = await backend.send(stand.call())
    assert text_of(orjson.loads(again.body or b""))


FAILURES = [
    pytest.param(*_grouped([kind])[0].values, way, id=f"{kind.name}: {way}", marks=_grouped([kind])[0].marks)
    for kind, ways in (
        (
            provider_types.OPENAI_COMPATIBLE,
            ["rate limited", "server error", "bad request", "not its protocol", "silent", "wrong key", "unreachable"],
        ),
        (
            provider_types.ANTHROPIC,
            ["rate limited", "server error", "bad request", "not its protocol", "silent", "wrong key", "unreachable"],
        ),
        (
            provider_types.OLLAMA,
            ["rate limited", "server error", "bad request", "not its protocol", "silent", "wrong key", "unreachable"],
        ),
        (provider_types.FAKE, ["rate limited", "server error", "bad request", "wrong key", "unreachable", "silent"]),
        (provider_types.LLAMA_CPP, ["no file", "prompt over context", "bad field"]),
        (provider_types.TRANSFORMERS, ["no directory", "prompt over context", "bad field"]),
    )
    for way in ways
]


@pytest.mark.parametrize(("stand", "way"), FAILURES, indirect=["stand"])
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
async def test_each_failure_is_an_error_of_its_class_and_never_text(stand: Stand, way: str, stream: bool):
    prepare, expected = stand.failures[way]
    call = prepare(stand)
    if stream:
        call = replace(call, stream=True, fields={**call.fields, "stream": msgspec.Raw(b"true")})
    async with backend_of(stand) as backend:
        with pytest.raises(expected) as caught:
            reply = await backend.send(call)
            if reply.chunks is not None:
                await anext(reply.chunks)
    shown = f"{caught.value.message} {caught.value.detail} {getattr(caught.value, 'body', b'')!r}"
    assert KEY not in shown
    assert "127.0.0.1" not in caught.value.message


def test_the_table_of_failures_names_every_way_that_a_stand_knows():
    listed = {(param.values[0].name, param.values[1]) for param in FAILURES}
    known = set()
    for kind in OF_CHATS:
        stand = STANDS[kind.backend](kind)
        with stand.closing:
            known |= {(kind.name, way) for way in stand.failures}
    assert listed == known
