"""The backend for Anthropic's Messages API: translated for chats, untouched for its own clients."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import msgspec
import orjson
import pytest

from inference import errors
from inference.backends.anthropic import Anthropic
from inference.backends.base import Reply, UpstreamCall
from inference.wire.native import MESSAGES, Native
from routing.types import UpstreamKey
from tests.fakes import anthropic as fakes
from tests.fakes.anthropic import FakeAnthropic, event
from tests.fakes.upstream import Answer
from tests.inference import registry

ASKED = {"model": "theirs", "max_tokens": 50, "messages": [{"role": "user", "content": "one two three"}]}
START = event("message_start", message={"usage": {"input_tokens": 3, "cache_read_input_tokens": 4, "output_tokens": 1}})
OPEN = event("content_block_start", index=0, content_block={"type": "text", "text": ""})
SAID = event("content_block_delta", index=0, delta={"type": "text_delta", "text": "a"})
END = event("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 9}) + event("message_stop")
ERROR = event("error", error={"type": "overloaded_error", "message": "Overloaded"})


@pytest.fixture
def upstream() -> Iterator[FakeAnthropic]:
    with FakeAnthropic(api_key=registry.UPSTREAM_KEY) as fake:
        yield fake


@pytest.fixture
async def backend(upstream: FakeAnthropic) -> AsyncIterator[Anthropic]:
    made = Anthropic(view(upstream))
    yield made
    await made.aclose()


def view(upstream: FakeAnthropic, **connection: Any) -> Any:
    connection = {"base_url": upstream.base_url, "allow_private": True, **connection}
    return registry.provider("claude", connection=connection, keys=[registry.UPSTREAM_KEY])


def call(
    body: dict[str, Any] = ASKED, *, native: bool = False, headers: tuple[tuple[str, str], ...] = (), **model: Any
) -> UpstreamCall:
    provider = registry.provider("claude", keys=[registry.UPSTREAM_KEY])
    fields = {name: msgspec.Raw(orjson.dumps(value)) for name, value in body.items()}
    return UpstreamCall(
        "chat",
        registry.model(provider, "claude-test", **model),
        fields,
        bool(body.get("stream")),
        "req-1",
        provider.keys[0],
        native=Native(MESSAGES, fields, headers=headers) if native else None,
    )


async def bytes_of(reply: Reply) -> bytes:
    assert reply.chunks is not None
    return b"".join([piece async for piece in reply.chunks])


async def test_a_chat_is_asked_at_its_path_with_its_headers(upstream, backend) -> None:
    reply = await backend.send(call())
    [asked] = upstream.requests
    assert asked.path == "/v1/messages"
    assert asked.headers["x-api-key"] == registry.UPSTREAM_KEY
    assert asked.headers["anthropic-version"] == "2023-06-01"
    assert "authorization" not in asked.headers
    assert asked.json["model"] == "claude-test"
    assert orjson.loads(reply.body)["choices"][0]["message"]["content"] == "echo: one two three"
    assert (reply.usage.counts, reply.api) == ((3, 4, 0, 0), "")


async def test_a_native_request_and_its_reply_pass_as_they_are(upstream, backend) -> None:
    body = {**ASKED, "tools": [{"type": "web_search_20250305", "name": "web_search"}], "unheard_of": {"a": 1}}
    reply = await backend.send(call(body, native=True))
    assert upstream.requests[0].json == {**body, "model": "claude-test"}
    assert orjson.loads(reply.body)["content"] == [{"type": "text", "text": "echo: one two three"}]
    assert (reply.api, reply.usage.counts) == (MESSAGES, (3, 4, 0, 0))


async def test_a_native_stream_passes_byte_for_byte_and_tells_its_usage(upstream, backend) -> None:
    sent = START + event("ping") + OPEN + SAID + END
    upstream.reply_with(events=[sent[at : at + 37] for at in range(0, len(sent), 37)])
    reply = await backend.send(call({**ASKED, "stream": True}, native=True))
    assert await bytes_of(reply) == sent
    assert reply.usage.counts == (7, 9, 4, 0)
    assert not reply.usage.estimated


async def test_of_a_stream_that_is_cut_short_what_passed_is_counted(upstream, backend) -> None:
    upstream.reply_with(events=[START, OPEN, SAID * 5])
    reply = await backend.send(call({**ASKED, "stream": True}, native=True))
    with pytest.raises(errors.UpstreamBroken):
        await bytes_of(reply)
    assert reply.usage.estimated
    assert reply.usage.counts[:3] == (7, 5, 4)


@pytest.mark.parametrize("native", [True, False])
async def test_an_error_before_the_first_word_can_be_got_around(upstream, backend, native: bool) -> None:
    upstream.reply_with(events=[START, event("ping"), ERROR])
    reply = await backend.send(call({**ASKED, "stream": True}, native=native))
    with pytest.raises(errors.UpstreamFailed, match="Overloaded") as failed:
        await bytes_of(reply)
    assert (failed.value.status, failed.value.retryable) == (503, True)


async def test_an_error_after_it_ends_the_stream(upstream, backend) -> None:
    leak = event("error", error={"type": "api_error", "message": f"broke with {registry.UPSTREAM_KEY}"})
    upstream.reply_with(events=[START + OPEN, SAID, leak], event_delay_seconds=0.02, times=2)
    passed = await bytes_of(await backend.send(call({**ASKED, "stream": True}, native=True)))
    translated = await bytes_of(await backend.send(call({**ASKED, "stream": True})))
    assert passed.rpartition(b"event: error")[2].count(b"api_error") == 1
    assert b'data: {"error":{"message":"The provider failed: broke' in translated
    assert registry.UPSTREAM_KEY.encode() not in passed + translated


async def test_its_clients_version_and_safe_betas_go_along(upstream) -> None:
    backend = Anthropic(view(upstream, anthropic_beta="ours-1"))
    headers = (("anthropic-version", "2026-10-21"), ("anthropic-beta", "theirs-2, ours-1,bad\r\nvalue, Bad"))
    await backend.send(call(native=True, headers=headers))
    await backend.send(call(native=True, headers=(("anthropic-version", "latest\r\nx: y"),)))
    first, second = upstream.requests
    assert (first.headers["anthropic-version"], first.headers["anthropic-beta"]) == ("2026-10-21", "ours-1,theirs-2")
    assert (second.headers["anthropic-version"], second.headers["anthropic-beta"]) == ("2023-06-01", "ours-1")
    await backend.aclose()


async def test_no_answer_is_longer_than_the_registry_says(upstream, backend) -> None:
    await backend.send(call(native=True, max_tokens=7))
    await backend.send(call(max_tokens=7))
    assert [asked.json["max_tokens"] for asked in upstream.requests] == [7, 7]


async def test_a_spent_account_is_a_key_that_is_used_up(upstream, backend) -> None:
    upstream.script(fakes.spent())
    with pytest.raises(errors.UpstreamRateLimited) as spent:
        await backend.send(call())
    assert spent.value.code == "insufficient_quota"
    assert 0 < spent.value.retry_after <= 31 * 86_400


async def test_an_overloaded_upstream_failed_and_a_refused_key_is_ours(upstream, backend) -> None:
    upstream.script(fakes.overloaded())
    with pytest.raises(errors.UpstreamFailed) as overloaded:
        await backend.send(call())
    assert overloaded.value.status == 503
    wrong = call()
    wrong.key = UpstreamKey(9, type(wrong.key.secret)("sk-wrong"))
    with pytest.raises(errors.UpstreamRefusedOurKey):
        await backend.send(wrong)


async def test_an_error_under_a_good_status_is_one(upstream, backend) -> None:
    failed = fakes.error(200, "api_error", "broke").json
    for native in (True, False):
        upstream.script(Answer(json=failed), Answer(json=failed))
        with pytest.raises(errors.UpstreamFailed, match="broke"):
            await backend.send(call(native=native))
        with pytest.raises(errors.UpstreamFailed, match="broke"):
            await backend.send(call({**ASKED, "stream": True}, native=native))


async def test_tokens_are_counted_and_models_are_listed(upstream, backend) -> None:
    asked = {name: value for name, value in ASKED.items() if name != "max_tokens"}
    assert await backend.count_tokens(call(asked, native=True)) == 3
    assert [model["id"] for model in await backend.list_models()] == ["claude-test"]
    assert upstream.requests[-1].query == {"limit": "1000"}


async def test_an_address_without_its_version_is_understood(upstream) -> None:
    backend = Anthropic(view(upstream, base_url=upstream.origin))
    await backend.send(call())
    assert upstream.requests[0].path == "/v1/messages"
    await backend.aclose()


async def test_other_operations_are_refused(backend) -> None:
    asked = call()
    asked.operation = "embeddings"
    with pytest.raises(errors.UnsupportedCapability):
        await backend.send(asked)
