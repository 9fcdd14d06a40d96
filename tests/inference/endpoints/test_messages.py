"""`/v1/messages` through the data plane: the same admission, routing and books as a chat, in Anthropic's words."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from inference import errors
from inference.endpoints import messages
from routing.types import ModelView
from tests.fakes.anthropic import FakeAnthropic, event, spent
from tests.inference import registry
from tests.inference.door import Door
from tests.inference.scripted import DONE, EVENT, FINISH, far, streaming

PATH = "/v1/messages"
ASKED = {"model": "fake-chat", "max_tokens": 20, "messages": [{"role": "user", "content": "Hello there"}]}


async def test_a_message_is_answered_and_booked_as_a_chat(serve, door: Door) -> None:
    serve(registry.model(registry.provider()))
    answer = await door.call(PATH, ASKED, key=None, headers={"x-api-key": registry.CLIENT_KEY})
    assert answer.status == 200
    assert answer.json["content"][0]["text"]
    assert answer.json["stop_reason"] == "end_turn"
    assert answer.headers["request-id"] == answer.headers["x-gateway-request-id"]
    assert int(answer.headers["content-length"]) == len(answer.body)
    await door.app.shutdown()
    [row] = door.rows
    assert (row.operation, row.status, row.output_tokens) == ("chat", 200, answer.json["usage"]["output_tokens"])


async def test_a_stream_is_told_in_named_events(serve, door: Door) -> None:
    only, view = far("only", streaming(EVENT, FINISH, DONE))
    serve(registry.model(view, "m"))
    answer = await door.call(PATH, {**ASKED, "model": "m", "stream": True})
    assert answer.ended
    assert answer.body.startswith(b"event: message_start\n")
    assert answer.events[-1] == {"type": "message_stop"}
    assert only.calls[0].field("stream_options") == {"include_usage": True}


@pytest.mark.parametrize(("able", "effort"), [({"chat"}, None), ({"chat", "reasoning"}, "high")])
async def test_only_a_model_that_thinks_is_told_how_much(serve, door: Door, able: set[str], effort: str | None) -> None:
    only, view = far("only", streaming(EVENT, FINISH, DONE))
    serve(registry.model(view, "m", capabilities=frozenset(able)))
    wish = {"thinking": {"type": "adaptive"}, "output_config": {"effort": "high"}}
    assert (await door.call(PATH, {**ASKED, **wish, "model": "m", "stream": True})).ended
    assert only.calls[0].field("reasoning_effort") == effort


async def test_a_stream_that_is_cut_ends_with_an_error_event(serve, door: Door) -> None:
    _, view = far("only", streaming(EVENT, errors.UpstreamBroken("The provider's answer was cut.")))
    serve(registry.model(view, "m"))
    answer = await door.call(PATH, {**ASKED, "model": "m", "stream": True})
    assert answer.events[-1]["error"]["message"] == "The provider's answer was cut."
    assert b"message_stop" not in answer.body


async def test_errors_are_told_in_its_envelope(serve, door: Door) -> None:
    serve(registry.model(registry.provider()))
    refused = await door.call(PATH, ASKED, key="gw-000000000000-wrong")
    assert (refused.status, refused.error["type"]) == (401, "authentication_error")
    unknown = await door.call(PATH, {**ASKED, "model": "nobody-has-this"})
    assert (unknown.status, unknown.error["type"]) == (404, "not_found_error")
    broken = await door.call(PATH, {"model": "fake-chat", "messages": []})
    assert (broken.status, broken.error["param"]) == (400, "messages")
    assert broken.json["request_id"] == broken.headers["request-id"]


async def test_tokens_are_counted_without_asking_anybody(serve, door: Door) -> None:
    _, view = far("only", streaming(EVENT))
    serve(registry.model(view, "m"))
    answer = await door.call(f"{PATH}/count_tokens", {"model": "m", "messages": ASKED["messages"]})
    assert answer.status == 200
    assert answer.json["input_tokens"] > 0
    assert (await door.call(f"{PATH}/count_tokens", ASKED, key="gw-000000000000-wrong")).status == 401
    await door.app.shutdown()
    assert door.rows == []


async def test_only_a_post_is_answered(door: Door) -> None:
    assert (await door.get(PATH)).status == 405


# With an upstream that speaks the protocol itself


@pytest.fixture(scope="module")
def upstream() -> Iterator[FakeAnthropic]:
    with FakeAnthropic(api_key=registry.UPSTREAM_KEY, models=["claude-test"]) as fake:
        yield fake


@pytest.fixture
def claude(upstream: FakeAnthropic) -> ModelView:
    upstream.clear()
    connection = {"base_url": upstream.base_url, "allow_private": True}
    backend = "inference.backends.anthropic.Anthropic"
    owner = registry.provider("claude", backend=backend, connection=connection, keys=[registry.UPSTREAM_KEY])
    return registry.model(owner, "claude-test")


CLAUDE = {**ASKED, "model": "claude-test"}
PAPER = {"type": "document", "source": {"type": "url", "url": "https://example.com/a.pdf"}}
WITH_PAPER = {**CLAUDE, "messages": [{"role": "user", "content": [PAPER]}]}


async def test_a_native_stream_is_passed_on_and_booked(serve, door: Door, claude, upstream) -> None:
    serve(claude)
    answer = await door.call(PATH, {**CLAUDE, "stream": True, "gateway_strategy": "balanced"})
    assert answer.body.startswith(b'event: message_start\ndata: {"type": "message_start", "message": {"id": "msg_fake')
    assert answer.events[-1] == {"type": "message_stop"}
    assert upstream.requests[0].json == {**CLAUDE, "stream": True}
    await door.app.shutdown()
    [row] = door.rows
    assert (row.status, row.input_tokens, row.output_tokens, row.estimated) == (200, 2, 3, False)


async def test_what_only_the_protocol_can_say_goes_to_whoever_speaks_it(serve, door: Door, claude, upstream) -> None:
    other = registry.model(registry.provider(priority=1), "claude-test")
    serve(other, claude)
    answer = await door.call(PATH, WITH_PAPER)
    assert answer.json["content"][0]["text"] == "echo: [document]"
    assert answer.headers["x-gateway-route"] == "claude/claude-test"
    serve(other)
    refused = await door.call(PATH, WITH_PAPER)
    assert (refused.status, refused.error["type"]) == (400, "invalid_request_error")
    assert refused.error["param"] == "messages.0.content.0.type"


async def test_an_upstream_that_is_overloaded_at_once_is_got_around(serve, door: Door, claude, upstream) -> None:
    overloaded = event("error", error={"type": "overloaded_error", "message": "Overloaded"})
    upstream.reply_with(events=[event("message_start", message={}), overloaded], times=None)
    serve(claude, registry.model(registry.provider(priority=200), "claude-test"))
    answer = await door.call(PATH, {**CLAUDE, "stream": True})
    assert answer.headers["x-gateway-fallback"] == "1"
    assert answer.events[-1] == {"type": "message_stop"}


async def test_a_key_whose_account_is_spent_is_not_asked_again(serve, door: Door, claude, upstream) -> None:
    upstream.reply_with(spent(), times=None)
    serve(claude)
    first = await door.call(PATH, CLAUDE)
    assert (first.status, first.error["type"], first.headers["x-should-retry"]) == (429, "rate_limit_error", "false")
    assert first.error["details"] == {"error_code": "enforced_spend_limit_reached"}
    again = await door.call(PATH, CLAUDE)
    assert again.status in (429, 529)
    assert len(upstream.requests) == 1


async def test_tokens_are_counted_by_who_would_answer_or_estimated(
    serve, door: Door, claude, upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(messages, "COUNT_WITHIN_SECONDS", 60.0)
    serve(claude)
    asked = {"model": "claude-test", "messages": [{"role": "user", "content": "one two three four five"}]}
    assert (await door.call(f"{PATH}/count_tokens", asked)).json == {"input_tokens": 5}
    upstream.reply_with(status=500)
    estimated = await door.call(f"{PATH}/count_tokens", asked)
    assert (estimated.status, estimated.json["input_tokens"]) == (200, 13)


async def test_errors_have_its_form_on_every_path_of_its_clients(door: Door) -> None:
    version = {"anthropic-version": "2023-06-01"}
    for path, method in ((PATH, "GET"), (f"{PATH}/batches", "POST"), ("/v1/nothing", "POST"), ("/v1/models", "POST")):
        answer = await door.call(path, method=method, headers=version)
        assert answer.json["type"] == "error"
        assert answer.json["request_id"] == answer.headers["request-id"]
    assert (await door.get("/v1/models", headers=version, key=None)).error["type"] == "authentication_error"


async def test_chats_reach_it_translated(serve, door: Door, claude, upstream) -> None:
    serve(claude)
    answer = await door.chat("one two", "claude-test", reasoning_effort="low", stream=True)
    chunks = [event for event in answer.events if event != "[DONE]"]
    said = "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks)
    assert said == "echo: one two"
    assert chunks[1]["choices"][0]["delta"]["reasoning_content"] == "let me think"
