"""Anthropic's official client against the gateway on a real socket: with an upstream of OpenAI's protocol behind it, and with one
of Anthropic's, where what the client gets must be what it gets straight from there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import anthropic
import pytest

from routing import snapshot
from routing.types import ProviderView
from tests.contract.gateway import Gateway
from tests.fakes import anthropic as fakes
from tests.fakes.anthropic import FakeAnthropic
from tests.fakes.upstream import FakeUpstream, rate_limited
from tests.inference import registry

MODEL = "claude-test"
HELLO = [{"role": "user", "content": "one two three four"}]
ASKED: dict[str, Any] = {"model": MODEL, "max_tokens": 50, "messages": HELLO}
PICTURE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}}
WEATHER = {
    "name": "weather",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
NATIVE = "inference.backends.anthropic.Anthropic"


@pytest.fixture(scope="module")
def gateway() -> Iterator[Gateway]:
    with Gateway().serving() as made:
        yield made


@contextmanager
def serving(gateway: Gateway, provider: ProviderView) -> Iterator[anthropic.Anthropic]:
    able = frozenset({"chat", "tools", "vision"})
    snapshot.replace(registry.snapshot(registry.model(provider, MODEL, context_window=200_000, capabilities=able)))
    with anthropic.Anthropic(base_url=gateway.url, api_key=registry.CLIENT_KEY, timeout=60, max_retries=0) as made:
        yield made
    snapshot.replace(None)


@pytest.fixture(scope="module")
def upstream() -> Iterator[FakeUpstream]:
    with FakeUpstream(api_key=registry.UPSTREAM_KEY) as fake:
        yield fake


@pytest.fixture
def client(gateway: Gateway, upstream: FakeUpstream) -> Iterator[anthropic.Anthropic]:
    with serving(gateway, registry.remote(upstream.base_url)) as made:
        yield made


@pytest.fixture(scope="module")
def native() -> Iterator[FakeAnthropic]:
    with FakeAnthropic(api_key=registry.UPSTREAM_KEY, models=[MODEL]) as fake:
        yield fake


@pytest.fixture
def both(gateway: Gateway, native: FakeAnthropic) -> Iterator[tuple[anthropic.Anthropic, anthropic.Anthropic]]:
    """Through the gateway, and straight."""
    native.clear()
    connection = {"base_url": native.base_url, "allow_private": True}
    provider = registry.provider("claude", backend=NATIVE, connection=connection, keys=[registry.UPSTREAM_KEY])
    with (
        anthropic.Anthropic(
            base_url=native.origin, api_key=registry.UPSTREAM_KEY, timeout=60, max_retries=0
        ) as straight,
        serving(gateway, provider) as through,
    ):
        yield through, straight


def told(message: Any) -> dict[str, Any]:
    """Every field but the id, which is each message's own."""
    return message.model_dump(exclude={"id"})


# With an upstream of OpenAI's protocol


def test_a_message_is_read_and_a_stream_adds_up_to_the_same(client) -> None:
    message = client.messages.create(**ASKED)
    assert message.content[0].text == "echo: one two three four"
    assert message.stop_reason == "end_turn"
    assert message.usage.output_tokens > 0
    with client.messages.stream(**ASKED) as stream:
        text = "".join(stream.text_stream)
        whole = stream.get_final_message()
    assert text == whole.content[0].text == "echo: one two three four"
    assert (whole.stop_reason, whole.usage) == ("end_turn", message.usage)


def test_a_tool_is_called_and_its_result_with_a_picture_is_answered(client, upstream) -> None:
    with client.messages.stream(**ASKED, tools=[WEATHER], tool_choice={"type": "any"}) as stream:
        called = stream.get_final_message()
    assert called.stop_reason == "tool_use"
    [use] = called.content
    assert (use.name, use.input) == ("weather", {"city": "text"})
    result = {"type": "tool_result", "tool_use_id": use.id, "content": [{"type": "text", "text": "sunny"}, PICTURE]}
    turns = [*HELLO, {"role": "assistant", "content": called.content}, {"role": "user", "content": [result]}]
    client.messages.create(**{**ASKED, "messages": turns}, tools=[WEATHER], tool_choice={"type": "none"})
    said = upstream.requests[-1].json["messages"]
    assert [turn["role"] for turn in said] == ["user", "assistant", "tool", "user"]
    assert said[2]["tool_call_id"] == use.id
    assert said[3]["content"][0]["image_url"]["url"].startswith("data:image/png;base64,")


def test_tokens_are_counted_and_models_are_listed_in_pages(client) -> None:
    assert client.messages.count_tokens(model=MODEL, messages=HELLO).input_tokens > 0
    [listed] = client.models.list(limit=5)
    assert (listed.id, listed.type, listed.max_input_tokens) == (MODEL, "model", 200_000)
    assert client.models.retrieve(MODEL) == listed
    with pytest.raises(anthropic.NotFoundError) as unknown:
        client.models.retrieve("nobody-has-this")
    assert unknown.value.body["error"]["type"] == "not_found_error"
    assert unknown.value.request_id


def test_errors_are_of_the_clients_own_kinds(client, upstream) -> None:
    with pytest.raises(anthropic.NotFoundError):
        client.messages.create(**{**ASKED, "model": "nobody-has-this"})
    with pytest.raises(anthropic.AuthenticationError):
        client.with_options(api_key="gw-000000000000-wrong").messages.create(**ASKED)
    with pytest.raises(anthropic.BadRequestError, match=r"messages\.0\.content\.0\.type"):
        paper = {"type": "document", "source": {"type": "url", "url": "https://example.com/a.pdf"}}
        client.messages.create(**{**ASKED, "messages": [{"role": "user", "content": [paper]}]})
    upstream.reply_with(rate_limited(60))
    with pytest.raises(anthropic.RateLimitError):
        client.messages.create(**ASKED)


# With one of Anthropic's


@pytest.mark.parametrize(
    "more",
    [
        pytest.param({}, id="text"),
        pytest.param({"stop_sequences": ["three"]}, id="stop sequence"),
        pytest.param({"max_tokens": 2}, id="limit"),
        pytest.param({"thinking": {"type": "enabled", "budget_tokens": 1024}, "max_tokens": 2000}, id="thoughts"),
        pytest.param({"tools": [WEATHER]}, id="tools"),
        pytest.param({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, id="a tool of the vendor"),
        pytest.param(
            {"messages": [{"role": "user", "content": [PICTURE, {"type": "document", "source": {}}]}]}, id="a document"
        ),
        pytest.param(
            {"system": [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}]}, id="cache"
        ),
    ],
)
def test_a_native_answer_is_the_same_as_without_the_gateway(both, native, more) -> None:
    through, straight = both
    assert told(through.messages.create(**{**ASKED, **more})) == told(straight.messages.create(**{**ASKED, **more}))
    first, second = native.requests[-2:]
    assert first.json == second.json
    assert first.headers["anthropic-version"] == second.headers["anthropic-version"]

    def events(client: anthropic.Anthropic) -> list[dict[str, Any]]:
        with client.messages.stream(**{**ASKED, **more}) as stream:
            return [event.model_dump(exclude={"message": {"id"}, "snapshot": {"id"}}) for event in stream]

    assert events(through) == events(straight)


def test_native_counts_are_the_upstreams_and_betas_go_along(both, native) -> None:
    through, straight = both
    asked = {"model": MODEL, "messages": HELLO}
    assert through.messages.count_tokens(**asked) == straight.messages.count_tokens(**asked)
    through.beta.messages.create(**ASKED, betas=["context-1m-2025-08-07"])
    assert native.requests[-1].headers["anthropic-beta"] == "context-1m-2025-08-07"


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (fakes.error(400, "invalid_request_error", "messages: too many"), anthropic.BadRequestError),
        (fakes.error(403, "permission_error", "not yours"), anthropic.PermissionDeniedError),
        (fakes.error(404, "not_found_error", "model: gone"), anthropic.NotFoundError),
        (fakes.error(413, "request_too_large", "too long"), anthropic.APIStatusError),
        (fakes.error(429, "rate_limit_error", "slow down", headers={"retry-after": "60"}), anthropic.RateLimitError),
        (fakes.overloaded(), anthropic.APIStatusError),
        (fakes.spent(), anthropic.RateLimitError),
    ],
)
def test_native_refusals_are_the_same_as_without_the_gateway(both, native, answer, expected) -> None:
    seen = []
    for client in both:
        native.reply_with(answer, times=None)
        with pytest.raises(expected) as caught:
            client.messages.create(**ASKED)
        native.clear()
        body = caught.value.body["error"]
        seen.append((type(caught.value), caught.value.status_code, body["type"], body.get("details")))
        assert caught.value.body["error"]["message"].endswith(answer.json["error"]["message"])
    through, straight = seen
    if answer.status != 529:  # what failed for want of an upstream holds no details of it
        assert through == straight
    else:
        assert through[:3] == straight[:3]
