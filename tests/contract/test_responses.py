"""OpenAI's official client at the Responses API, on a real socket and a real database: over an upstream of chat completions, over one
that speaks the API itself, and in the background."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import openai
import pytest
from django.db import connections
from pydantic import BaseModel

from gateway_project.asgi import control_plane
from inference import jobs
from inference.asgi import Application
from inference.limits import Limits
from inference.models import Job, KeptItem, KeptResponse
from inference.response_keeper import ResponseKeeper
from routing import snapshot
from tests.contract.gateway import Gateway
from tests.fakes.responses import SEALED
from tests.fakes.upstream import Answer, FakeUpstream
from tests.inference import workers

pytestmark = pytest.mark.django_db(transaction=True)

ECHO = "echo: one two three four"
ASKED = {"model": "chat", "input": "one two three four"}
WEATHER = {
    "type": "function",
    "name": "weather",
    "strict": True,
    "parameters": {
        "type": "object",
        "properties": {"place": {"type": "string"}},
        "required": ["place"],
        "additionalProperties": False,
    },
}


class Keeping(Gateway):
    """With the control plane behind, as `gateway_project.asgi` puts them together."""

    def __init__(self) -> None:
        super().__init__()
        self.app = Application(Limits(), self.recorder, counters=self.metrics, keeper=ResponseKeeper())

    async def _asgi(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "http" and scope["path"].startswith("/v1/responses/resp_"):
            await control_plane(scope, receive, send)
        else:
            await super()._asgi(scope, receive, send)


@pytest.fixture
def upstream() -> Iterator[FakeUpstream]:
    with FakeUpstream() as fake:
        yield fake


@pytest.fixture
def client(transactional_db: None, upstream: FakeUpstream) -> Iterator[openai.OpenAI]:
    workers.fresh_registry()
    far = workers.add_provider("far", "openai_compatible", base_url=upstream.base_url)
    workers.add_model(far, "chat", capabilities=["chat", "tools", "vision", "json_mode"])
    speaking = workers.add_provider("speaking", "openai", base_url=upstream.base_url)
    workers.add_model(speaking, "own")
    secret = workers.client_key("generate")[1]
    snapshot.refresh()
    with (
        Keeping().serving() as gateway,
        openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=secret, timeout=60, max_retries=0) as made,
    ):
        yield made
    snapshot.replace(None)
    connections.close_all()


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> Callable[[Job], bool]:
    """As a worker does, which serves no requests and has a loop of its own."""

    def work(job: Job) -> bool:
        with monkeypatch.context() as patched:
            patched.setattr("inference.loop._serving", None)
            return jobs.run(job.pk)

    return work


MODELS = pytest.mark.parametrize("model", ["chat", "own"])


@MODELS
def test_a_response_is_read_streamed_retrieved_and_gone_on_from(client: openai.OpenAI, model: str) -> None:
    with client.responses.stream(model=model, input=ASKED["input"], metadata={"purpose": "test"}) as stream:
        kinds = [event.type for event in stream]
        streamed = stream.get_final_response()
    assert kinds[0] == "response.created"
    assert kinds[-1] == "response.completed"
    whole = client.responses.create(**{**ASKED, "model": model})
    assert whole.output_text == streamed.output_text == ECHO
    assert whole.usage is not None
    assert whole.usage.output_tokens > 0
    again = client.responses.retrieve(streamed.id)
    assert again.output_text == ECHO
    assert again.metadata == {"purpose": "test"}
    second = client.responses.create(model=model, input="five", previous_response_id=streamed.id)
    assert (second.output_text, second.previous_response_id) == ("echo: five", streamed.id)
    items = client.responses.input_items.list(second.id).data
    assert [item.type for item in items] == ["message"]


def test_a_conversation_changes_upstreams_and_each_is_told_all_of_it(
    client: openai.OpenAI, upstream: FakeUpstream
) -> None:
    thinking: Any = {"effort": "low"}
    first = client.responses.create(model="own", input="one", reasoning=thinking)
    second = client.responses.create(model="own", input="two", previous_response_id=first.id, reasoning=thinking)
    told = upstream.requests[-1].json["input"]
    assert [item["type"] for item in told] == ["message", "reasoning", "message", "message"]
    assert told[1]["encrypted_content"] == SEALED
    client.responses.create(model="chat", input="three", previous_response_id=second.id)
    said = [message["content"] for message in upstream.requests[-1].json["messages"]]
    assert said == ["one", "echo: one", "two", "echo: two", "three"]


@MODELS
def test_a_tool_is_called_and_its_answer_taken(client: openai.OpenAI, model: str) -> None:
    asked: dict[str, Any] = {"model": model, "tools": [WEATHER]}
    first = client.responses.create(input="How is it in Rome?", **asked)
    [call] = [item for item in first.output if item.type == "function_call"]
    assert (call.name, call.arguments) == ("weather", '{"place": "text"}')
    output: Any = {"type": "function_call_output", "call_id": call.call_id, "output": "sunny"}
    done = client.responses.create(input=[output], previous_response_id=first.id, **asked, tool_choice="none")
    assert done.output_text


def test_structured_output_and_pictures_reach_a_chat_completion(client: openai.OpenAI, upstream: FakeUpstream) -> None:
    class Place(BaseModel):
        name: str

    parsed = client.responses.parse(model="chat", input="Where?", text_format=Place)
    assert parsed.output_parsed == Place(name="text")
    picture: Any = {"type": "input_image", "image_url": "data:image/png;base64,iVBORw0KGgo=", "detail": "auto"}
    client.responses.create(model="chat", input=[{"role": "user", "content": [picture]}])
    [shown] = upstream.requests[-1].json["messages"][0]["content"]
    assert shown["image_url"]["url"].startswith("data:image/png")


def test_what_an_agent_without_server_state_sends_passes_as_it_is(
    client: openai.OpenAI, upstream: FakeUpstream
) -> None:
    """As Codex and the Agents SDK do: nothing stored, sealed thoughts handed back, a custom tool, a key for the cache."""
    asked: dict[str, Any] = {
        "model": "own",
        "instructions": "Work.",
        "store": False,
        "include": ["reasoning.encrypted_content"],
        "reasoning": {"effort": "low", "summary": "auto"},
        "tools": [{"type": "custom", "name": "apply_patch", "format": {"type": "text"}}, WEATHER],
        "parallel_tool_calls": False,
        "prompt_cache_key": "thread-1",
    }
    first = client.responses.create(input="Go", **asked)
    thought, call = first.output
    assert thought.encrypted_content == SEALED
    assert (call.type, call.input) == ("custom_tool_call", "text")
    output: Any = {"type": "custom_tool_call_output", "call_id": call.call_id, "output": "done"}
    history: Any = [{"role": "user", "content": "Go"}, *(item.to_dict() for item in first.output), output]
    events = list(client.responses.create(input=history, stream=True, **asked))
    sent = upstream.requests[-1].json
    assert {name: sent[name] for name in asked} == asked
    assert sent["input"] == history
    assert events[-1].response.output_text == "echo: done"
    assert not KeptResponse.objects.exists()
    translated = client.responses.create(input="Go", **{**asked, "model": "chat"})
    assert translated.output[0].type == "custom_tool_call"


def test_the_client_reads_the_same_as_straight_from_the_upstream(client: openai.OpenAI, upstream: FakeUpstream) -> None:
    asked: dict[str, Any] = {"model": "own", "input": "one two", "store": False, "stream": True}
    with openai.OpenAI(base_url=upstream.base_url, api_key="any") as straight:
        events = [[event.to_dict() for event in one.responses.create(**asked)] for one in (straight, client)]
    direct, through = events
    assert [event["type"] for event in through] == [event["type"] for event in direct]
    assert [event.get("delta") for event in through] == [event.get("delta") for event in direct]
    assert through[-1]["response"]["usage"] == direct[-1]["response"]["usage"]


def test_an_upstream_without_the_api_is_asked_for_a_chat_completion(
    client: openai.OpenAI, upstream: FakeUpstream
) -> None:
    upstream.script(Answer(status=404, json={"detail": "Not Found"}))
    for _ in range(2):
        assert client.responses.create(model="own", input="one").output_text == "echo: one"
    assert [request.path for request in upstream.requests] == [
        "/v1/responses",
        "/v1/chat/completions",
        "/v1/chat/completions",
    ]


def test_items_can_be_named_instead_of_sent_and_what_is_deleted_is_gone(client: openai.OpenAI) -> None:
    first = client.responses.create(model="own", input="one")
    reference: Any = {"type": "item_reference", "id": first.output[-1].id}
    named = client.responses.create(model="chat", input=[reference, {"role": "user", "content": "two"}])
    assert named.output_text == "echo: two"
    client.responses.delete(first.id)
    assert not KeptItem.objects.filter(response__response_id=first.id).exists()
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(first.id)
    with pytest.raises(openai.BadRequestError, match="not found"):
        client.responses.create(model="chat", input=[{**reference, "id": "msg_of_nobody"}])
    with pytest.raises(openai.BadRequestError) as refused:
        client.responses.create(model="chat", input="x", previous_response_id=first.id)
    assert refused.value.code == "previous_response_not_found"


def test_another_key_sees_nothing_and_what_is_kept_is_sealed(client: openai.OpenAI) -> None:
    made = client.responses.create(**ASKED)
    other = workers.client_key("generate", name="other")[1]
    snapshot.refresh()
    with pytest.raises(openai.NotFoundError) as refused:
        client.with_options(api_key=other).responses.retrieve(made.id)
    assert refused.value.body["code"] == "response_not_found"
    with pytest.raises(openai.AuthenticationError):
        client.with_options(api_key="gw-000000000000-wrong").responses.retrieve(made.id)
    with connections["default"].cursor() as cursor:
        cursor.execute("SELECT input, body FROM inference_keptresponse")
        assert not any("three" in column for row in cursor.fetchall() for column in row)


def test_input_items_are_paged(client: openai.OpenAI) -> None:
    made = client.responses.create(model="chat", input=[{"role": "user", "content": f"say {n}"} for n in range(5)])
    texts = [item.content[0].text for item in client.responses.input_items.list(made.id, limit=2, order="asc")]
    assert texts == [f"say {n}" for n in range(5)]
    with pytest.raises(openai.BadRequestError):
        client.responses.input_items.list(made.id, limit=1000)


@MODELS
def test_one_in_the_background_is_polled_streamed_and_streamed_again(
    client: openai.OpenAI, model: str, work: Any
) -> None:
    queued = client.responses.create(**{**ASKED, "model": model}, background=True)
    assert queued.status == "queued"
    job = Job.objects.get()
    assert "three" not in str(job.request)
    told: list[Any] = []
    listening = threading.Thread(target=lambda: told.extend(client.responses.retrieve(queued.id, stream=True)))
    listening.start()
    assert work(job)
    listening.join(60)
    done = client.responses.retrieve(queued.id)
    assert (done.status, done.output_text, done.background) == ("completed", ECHO, True)
    assert [event.sequence_number for event in told] == list(range(len(told)))
    assert "".join(event.delta for event in told if event.type == "response.output_text.delta") == ECHO
    assert told[-1].response.output_text == ECHO
    rest = list(client.responses.retrieve(queued.id, stream=True, starting_after=told[-3].sequence_number))
    assert [event.to_dict() for event in rest] == [event.to_dict() for event in told[-2:]]
    assert (
        client.responses.create(model="chat", input="five", previous_response_id=queued.id).output_text == "echo: five"
    )


def test_one_in_the_background_can_be_cancelled_and_can_fail(client: Any, upstream: FakeUpstream, work: Any) -> None:
    queued = client.responses.create(**ASKED, background=True)
    assert client.responses.cancel(queued.id).status == "cancelled"
    assert work(Job.objects.get()) is False
    at_once = client.responses.create(**ASKED)
    with pytest.raises(openai.BadRequestError):
        client.responses.cancel(at_once.id)
    failing = client.responses.create(**ASKED, background=True)
    upstream.reply_with(status=400, times=None)
    assert work(Job.objects.get(state="queued"))
    failed = client.responses.retrieve(failing.id)
    assert failed.status == "failed"
    assert failed.error is not None
    assert list(client.responses.retrieve(failing.id, stream=True))[-1].type == "response.failed"
    with pytest.raises(ValueError, match="its client can ask again"):
        jobs.retry(Job.objects.get(state="failed"))


def test_one_that_is_deleted_while_it_waits_is_never_asked(client: Any, upstream: FakeUpstream, work: Any) -> None:
    first = client.responses.create(**ASKED, background=True)
    client.responses.delete(first.id)
    second = client.responses.create(**ASKED, background=True)
    KeptResponse.objects.filter(response_id=second.id).delete()  # as its days were over
    jobs_of_them = list(Job.objects.order_by("created_at"))
    assert not work(jobs_of_them[0])
    assert work(jobs_of_them[1])
    assert [job.state for job in Job.objects.order_by("created_at")] == ["cancelled", "failed"]
    assert upstream.requests == []


def test_tokens_are_counted(client: openai.OpenAI) -> None:
    assert client.responses.input_tokens.count(model="chat", input="one two three").input_tokens > 0
