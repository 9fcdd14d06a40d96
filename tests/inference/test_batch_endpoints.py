"""What a line for each endpoint of a batch is answered with, in this very process: what the endpoint itself would say."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from inference import kept_responses
from inference.errors import InvalidRequest
from inference.models import UsageRecord
from inference.response_keeping import Turn
from inference.response_models import KeptResponse
from providers.models import ApiKey, ProviderModel
from tests.fakes.anthropic import FakeAnthropic
from tests.fakes.upstream import Answer, FakeUpstream
from tests.inference import workers
from tests.inference.batch_work import batch_of, lines_in, work

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("words")]

RESPONSES, MESSAGES, MODERATIONS = "/v1/responses", "/v1/messages", "/v1/moderations"
HELLO = {"model": "words", "max_tokens": 20, "messages": [{"role": "user", "content": "hello there"}]}
PAPER = {"type": "document", "source": {"type": "url", "url": "https://example.com/a.pdf"}}


@pytest.fixture
def openai() -> Iterator[FakeUpstream]:
    with FakeUpstream() as upstream:
        yield upstream


@pytest.fixture
def anthropic() -> Iterator[FakeAnthropic]:
    with FakeAnthropic() as upstream:
        yield upstream


def far(kind: str, upstream: FakeUpstream, name: str, model_type: str = "chat", **params: Any) -> ProviderModel:
    provider = workers.add_provider(kind, kind, base_url=upstream.base_url, allow_private=True, **params)
    if upstream.api_key:
        ApiKey(provider=provider, secret=upstream.api_key).save()
    return workers.add_model(provider, name, model_type, input_cost_per_million=1, output_cost_per_million=1)


def answers(owner: Any, endpoint: str, *bodies: dict[str, Any]) -> list[dict[str, Any]]:
    """What stands under `response`, refusals behind answers."""
    lines = [
        {"custom_id": f"c{n}", "method": "POST", "url": endpoint, "body": body} for n, body in enumerate(bodies, 1)
    ]
    batch = work(batch_of(owner, lines, endpoint=endpoint))
    assert batch.state == "completed"
    files = filter(None, (batch.output_file_id, batch.error_file_id))
    return [line["response"] for file_id in files for line in lines_in(file_id)]


def test_any_model_answers_a_response_which_is_whole_and_not_kept(owner: Any) -> None:
    asked = {"model": "words", "input": "hello there", "stream": True, "background": True, "store": True}
    [answer] = answers(owner, RESPONSES, asked)
    body = answer["body"]
    assert (body["object"], body["status"], body["store"], body["background"]) == (
        "response",
        "completed",
        False,
        False,
    )
    assert body["output"][0]["content"][0]["text"] == "hello there"
    assert body["id"] == f"resp_{answer['request_id']}"
    row = UsageRecord.objects.get()
    assert (row.request_id, row.operation, row.output_tokens) == (answer["request_id"], "chat", 2)
    assert not KeptResponse.objects.exists()


def test_a_response_goes_on_from_a_kept_one(owner: Any) -> None:
    said = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "blue"}]}
    kept = {"id": "resp_1", "status": "completed", "output": [said]}
    kept_responses.keep(Turn(owner.prefix, "words", "", [{"role": "user", "content": "which one"}], kept))
    before, unknown = (
        {"model": "words", "input": "why so", "previous_response_id": one} for one in ("resp_1", "resp_9")
    )
    good, bad = answers(owner, RESPONSES, before, unknown)
    assert good["body"]["previous_response_id"] == "resp_1"
    assert good["body"]["usage"]["input_tokens"] == 5
    assert (bad["status_code"], bad["body"]["error"]["code"]) == (400, "previous_response_not_found")


def test_an_upstream_that_speaks_responses_gets_a_lines_own_words(owner: Any, openai: FakeUpstream) -> None:
    far("openai_compatible", openai, "gpt-test", responses_api=True)
    asked = {"model": "gpt-test", "input": "hello", "tools": [{"type": "web_search"}], "tool_choice": "none"}
    [answer] = answers(owner, RESPONSES, asked)
    assert answer["body"]["object"] == "response"
    assert openai.requests[0].path.endswith("/responses")
    assert openai.requests[0].json == {**asked, "store": False, "stream": False}
    row = UsageRecord.objects.get()
    assert (row.input_tokens, row.cached_tokens, row.output_tokens, row.estimated) == (11, 3, 7, False)


def test_any_model_answers_a_message_and_refuses_one_in_anthropics_words(owner: Any) -> None:
    good, lost, empty = answers(owner, MESSAGES, HELLO, {**HELLO, "model": "nobody"}, {"model": "words"})
    assert good["body"]["content"] == [{"type": "text", "text": "hello there"}]
    assert (good["body"]["type"], good["body"]["id"]) == ("message", f"msg_{good['request_id']}")
    assert lost["status_code"] == 404
    assert lost["body"]["type"] == "error"
    assert lost["body"]["error"]["type"] == "not_found_error"
    assert lost["body"]["request_id"] == lost["request_id"]
    assert (empty["status_code"], empty["body"]["error"]["param"]) == (400, "messages")
    assert UsageRecord.objects.count() == 3


def test_what_a_line_says_of_its_stream_is_left_out_and_nothing_else_is_changed(
    owner: Any, openai: FakeUpstream
) -> None:
    far("openai_compatible", openai, "gpt-test")
    question = {"model": "gpt-test", "messages": HELLO["messages"], "seed": 2**70}
    [answer] = answers(owner, "/v1/chat/completions", {**question, "stream": True, "stream_options": {}})
    assert answer["status_code"] == 200
    assert openai.requests[0].json == question


def test_a_body_that_is_nested_too_deeply_is_the_callers_mistake(owner: Any) -> None:
    deep: Any = []
    for _ in range(400):
        deep = [deep]
    [answer] = answers(owner, MESSAGES, {**HELLO, "stream": True, "stop_sequences": deep})
    assert (answer["status_code"], answer["body"]["error"]["type"]) == (400, "invalid_request_error")


def test_an_overload_has_anthropics_number_in_the_file_and_ours_in_the_books(owner: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr("inference.batch_asking.LONGEST_PAUSE_SECONDS", 0.1)
    monkeypatch.setattr("inference.batch_asking.MOST_WAITS", 2)
    [answer] = answers(owner, MESSAGES, {**HELLO, "messages": [{"role": "user", "content": "/fail 503"}]})
    assert (answer["status_code"], answer["body"]["error"]["type"]) == (529, "overloaded_error")
    assert UsageRecord.objects.get(attempt=0).status == 503


def test_an_upstream_that_speaks_messages_gets_what_a_chat_cannot_say(owner: Any, anthropic: FakeAnthropic) -> None:
    far("anthropic", anthropic, "claude-test")
    with_paper = {**HELLO, "messages": [{"role": "user", "content": [PAPER]}]}
    native, refused = answers(owner, MESSAGES, {**with_paper, "model": "claude-test"}, with_paper)
    assert native["body"]["id"].startswith("msg_fake")
    assert anthropic.requests[0].json["messages"] == with_paper["messages"]
    assert (refused["status_code"], refused["body"]["error"]["type"]) == (400, "invalid_request_error")
    assert UsageRecord.objects.get(status=200).cost > 0


def test_moderations_pass_through_and_a_refusal_names_who_could(owner: Any, openai: FakeUpstream) -> None:
    far("openai_compatible", openai, "guard", "moderation")
    good, bad = answers(
        owner, MODERATIONS, {"model": "guard", "input": ["fine", "kill"]}, {"model": "words", "input": "fine"}
    )
    assert [result["flagged"] for result in good["body"]["results"]] == [False, True]
    assert bad["status_code"] == 400
    assert "These serve moderations: guard" in bad["body"]["error"]["message"]
    row = UsageRecord.objects.get(status=200)
    assert (row.operation, row.input_tokens, row.output_tokens) == ("moderations", 4, 0)


def test_an_answer_that_cannot_be_read_is_paid_for_once_and_not_asked_again(owner: Any, openai: FakeUpstream) -> None:
    far("openai_compatible", openai, "gpt-test")
    usage = {"prompt_tokens": 4, "completion_tokens": 6, "total_tokens": 10}
    openai.script(Answer(json={"choices": [{"message": {"tool_calls": [3]}}], "usage": usage}))
    [answer] = answers(owner, MESSAGES, {**HELLO, "model": "gpt-test"})
    assert (answer["status_code"], answer["body"]["error"]["code"]) == (502, "upstream_broken")
    assert len(openai.requests) == 1
    row = UsageRecord.objects.get()
    assert (row.status, row.input_tokens, row.output_tokens) == (502, 4, 6)
    assert row.cost > 0


def test_an_endpoint_that_is_none_is_refused_with_those_that_are(owner: Any) -> None:
    with pytest.raises(
        InvalidRequest, match=r"'endpoint' must be one of: .*/v1/responses, /v1/messages, .*/v1/moderations"
    ):
        batch_of(owner, [json.dumps({})], endpoint="/v1/rerank")
