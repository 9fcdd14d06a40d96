"""The Responses API of an upstream that speaks it: what is asked there, and its events on their way."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import msgspec
import orjson
import pytest

from inference.backends import responses_relay
from inference.backends.base import Reply, UpstreamCall, Usage
from inference.backends.openai_compatible import OpenAICompatible
from inference.backends.responses_relay import Events
from inference.errors import UpstreamBroken, UpstreamFailed, UpstreamRejected
from inference.wire.native import RESPONSES, Native
from providers import openai_api, provider_types
from providers.addresses import check_url
from tests.fakes.upstream import Answer, FakeUpstream
from tests.inference import registry

USAGE = {"input_tokens": 11, "output_tokens": 7, "input_tokens_details": {"cached_tokens": 3}}
CREATED = b'event: response.created\ndata: {"type":"response.created","response":{"error":null}}\n\n'
COMPLETED = b"event: response.completed\ndata: %b\n\n" % orjson.dumps(
    {"type": "response.completed", "response": {"usage": USAGE, "output": []}}
)
FAILED = b'event: error\ndata: {"type": "error", "code": "server_error", "message": "sk-secret is out"}\n\n'


class Pieces:
    def __init__(self, *pieces: bytes) -> None:
        self._pieces = list(pieces)

    async def __anext__(self) -> bytes:
        if not self._pieces:
            raise StopAsyncIteration
        return self._pieces.pop(0)

    async def aclose(self) -> None:
        self._pieces.clear()


async def relayed(*pieces: bytes) -> tuple[list[bytes], Reply]:
    events = Events(Pieces(*pieces), lambda data: data.replace(b"sk-secret", b"****"))  # type: ignore[arg-type]
    events.reply = Reply(chunks=events)
    return [piece async for piece in events], events.reply


def call(*, stream: bool = False, model: dict[str, Any] | None = None, **fields: Any) -> UpstreamCall:
    told = {name: msgspec.Raw(orjson.dumps(value)) for name, value in {"model": "m", "input": "hi", **fields}.items()}
    told.setdefault("store", msgspec.Raw(b"false"))
    view = registry.model(registry.provider(), "m", **(model or {}))
    chat = {"model": told["model"], "messages": msgspec.Raw(b'[{"role":"user","content":"hi"}]')}
    return UpstreamCall("chat", view, chat, stream, "req_1", native=Native(RESPONSES, told))


def asked(provider_type: str, made: UpstreamCall) -> dict[str, Any]:
    return orjson.loads(responses_relay.body_of(made, msgspec.Raw(b'"up"'), provider_type))


async def test_events_pass_whole_and_byte_for_byte_and_their_usage_is_read() -> None:
    stream = CREATED + COMPLETED
    pieces, reply = await relayed(*(stream[place : place + 10] for place in range(0, len(stream), 10)))
    assert b"".join(pieces) == stream
    assert all(piece.endswith(b"\n\n") for piece in pieces)
    assert reply.usage == Usage(11, 7, 3, 0)


async def test_an_error_before_anything_was_said_lets_another_be_asked() -> None:
    with pytest.raises(UpstreamFailed) as failed:
        await relayed(FAILED)
    assert failed.value.retryable
    assert "sk-secret" not in failed.value.message


async def test_a_later_error_is_told_without_our_secrets() -> None:
    pieces, _ = await relayed(CREATED, FAILED)
    assert pieces == [CREATED, FAILED.replace(b"sk-secret", b"****")]


async def test_a_stream_that_ends_too_early_is_broken() -> None:
    with pytest.raises(UpstreamBroken):
        await relayed(CREATED)
    pieces, _ = await relayed(CREATED, COMPLETED.rstrip(b"\n"))  # only its blank line is missing
    assert pieces[-1] == COMPLETED


def test_thoughts_are_asked_for_sealed_where_they_would_be_lost() -> None:
    thinking = call(reasoning={"effort": "low"}, include=["message.output_text.logprobs"])
    wanted = ["message.output_text.logprobs", "reasoning.encrypted_content"]
    assert asked("openai", thinking)["include"] == wanted
    assert asked("vllm", thinking)["include"] == wanted[:1]
    assert "include" not in asked("openai", call())  # OpenAI refuses the wish for models that do not think


def test_the_model_is_named_and_capped_as_the_registry_says() -> None:
    body = asked("openai", call(stream=True, model={"max_tokens": 10}, max_output_tokens=500))
    assert (body["model"], body["max_output_tokens"], body["stream"]) == ("up", 10, True)
    assert asked("openai", call(model={"max_tokens": 10}, max_output_tokens=5))["max_output_tokens"] == 5


@pytest.fixture
async def backend() -> AsyncIterator[tuple[OpenAICompatible, FakeUpstream]]:
    with FakeUpstream() as upstream:
        made = OpenAICompatible(registry.remote(upstream.base_url, connection={"responses_api": "true"}))
        yield made, upstream
        await made.aclose()


async def test_a_whole_response_brings_its_usage_and_a_refusal_is_one(backend: Any) -> None:
    made, upstream = backend
    reply = await made.send(call())
    assert (reply.api, reply.usage) == (RESPONSES, Usage(11, 7, 3, 2))
    assert upstream.requests[0].path == "/v1/responses"
    upstream.script(Answer(status=400, json={"error": {"message": "Bad input", "code": "invalid"}}))
    with pytest.raises(UpstreamRejected, match="Bad input"):
        await made.send(call())
    upstream.script(Answer(json={"error": {"message": "It broke"}}))
    with pytest.raises(UpstreamFailed, match="It broke"):
        await made.send(call())
    upstream.script(Answer(json={"id": "r", "status": "failed", "error": {"message": "Too long"}, "output": []}))
    assert orjson.loads((await made.send(call())).body)["status"] == "failed"


async def test_only_what_can_be_said_otherwise_is_asked_as_a_chat_completion(backend: Any) -> None:
    made, upstream = backend
    upstream.reply_with(status=404, times=2)
    unsayable = call()
    assert unsayable.native is not None
    unsayable.native = Native(RESPONSES, unsayable.native.fields, UpstreamFailed("needs the API"))
    with pytest.raises(UpstreamRejected):
        await made.send(unsayable)
    assert (await made.send(call())).api == ""
    assert [request.path for request in upstream.requests][1:] == ["/v1/responses", "/v1/chat/completions"]


def test_those_who_are_known_to_have_it_are_asked_so_and_azure_at_its_own_path() -> None:
    types = provider_types.registered()
    having = {name for name, kind in types.items() if kind.defaults.get("responses_api")}
    assert having == {"openai", "azure_openai", "openrouter", "xai", "vllm", "lm_studio"}
    base = check_url("https://name.openai.azure.com", True)
    target = openai_api.target(base, {"url_style": "azure", "api_version": "2024-10-21"})
    assert target("responses", "my-gpt") == "/openai/v1/responses"
