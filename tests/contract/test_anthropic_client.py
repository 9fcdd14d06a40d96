"""Anthropic's official client against the gateway on a real socket, with a scripted upstream of OpenAI's protocol behind it."""

from __future__ import annotations

import anthropic
import pytest

from routing import snapshot
from tests.contract.gateway import Gateway
from tests.fakes.upstream import FakeUpstream, rate_limited
from tests.inference import registry

ASKED = {"model": "gpt-test", "max_tokens": 50, "messages": [{"role": "user", "content": "one two three four"}]}


@pytest.fixture
def upstream():
    with FakeUpstream(api_key=registry.UPSTREAM_KEY) as fake:
        yield fake


@pytest.fixture
def client(upstream):
    remote = registry.remote(upstream.base_url)
    snapshot.replace(registry.snapshot(registry.model(remote, "gpt-test"), keys=[registry.key_view()]))
    with Gateway().serving() as gateway:
        yield anthropic.Anthropic(base_url=gateway.url, api_key=registry.CLIENT_KEY, timeout=10, max_retries=0)
    snapshot.replace(None)


def test_a_message_is_read(client) -> None:
    message = client.messages.create(**ASKED)
    assert message.content[0].text == "echo: one two three four"
    assert message.stop_reason == "end_turn"
    assert message.usage.output_tokens > 0


def test_a_stream_adds_up_to_the_same_message(client) -> None:
    with client.messages.stream(**ASKED) as stream:
        text = "".join(stream.text_stream)
        whole = stream.get_final_message()
    assert text == whole.content[0].text == "echo: one two three four"
    assert whole.stop_reason == "end_turn"
    assert whole.usage.input_tokens > 0
    assert whole.usage.output_tokens > 0


def test_tokens_are_counted(client) -> None:
    assert client.messages.count_tokens(model="gpt-test", messages=ASKED["messages"]).input_tokens > 0


def test_errors_are_of_the_clients_own_kinds(client, upstream) -> None:
    with pytest.raises(anthropic.NotFoundError):
        client.messages.create(**{**ASKED, "model": "nobody-has-this"})
    with pytest.raises(anthropic.AuthenticationError):
        client.with_options(api_key="gw-000000000000-wrong").messages.create(**ASKED)
    upstream.reply_with(rate_limited(60), times=None)
    with pytest.raises(anthropic.RateLimitError):
        client.messages.create(**ASKED)
