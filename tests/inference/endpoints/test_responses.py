"""`/v1/responses` through the data plane: the same admission, routing and books as a chat, in the words of the Responses API."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest

from inference import errors
from inference.asgi import Application
from inference.backends.base import Reply, Usage
from inference.limits import Limits
from inference.recording import Recorder
from inference.response_keeping import Before, Turn, no_such_response
from inference.wire import sse
from inference.wire.native import RESPONSES
from tests.inference import registry
from tests.inference.door import Door
from tests.inference.scripted import DONE, EVENT, FINISH, USAGE, Far, far, streaming, whole

PATH = "/v1/responses"
ASKED = {"model": "m", "input": "Hello there"}
ANSWER = orjson.dumps(
    {
        "model": "m-1",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 5, "completion_tokens": 7},
    }
)
OWN = {"id": "resp_up", "object": "response", "status": "completed", "store": False, "previous_response_id": None}
OWN |= {"output": [{"type": "message", "id": "msg_up", "role": "assistant", "content": []}], "metadata": {}}


class Memory:
    """Keeps what it is given, until it is told to fail."""

    def __init__(self) -> None:
        self.turns: dict[str, Turn] = {}
        self.works = True
        self.queued: list[Any] = []

    async def before(self, owner: str, previous: str, references: Any, model: str) -> Before:
        if previous and (previous not in self.turns or self.turns[previous].owner != owner):
            raise no_such_response(previous)
        turn = self.turns.get(previous)
        return Before([*turn.input, *turn.response["output"]] if turn else [], {})

    async def keep(self, turn: Turn) -> bool:
        if self.works:
            self.turns[turn.response["id"]] = turn
        return self.works

    async def queue(self, asked: Any, parsed: Any, identity: Any, response: Any) -> None:
        self.queued.append((asked, parsed, identity, response))

    async def follow(self, owner: str, response_id: str) -> AsyncIterator[bytes]:
        yield b'event: response.created\ndata: {"type":"response.created","sequence_number":0}\n\n'
        yield b'event: response.completed\ndata: {"type":"response.completed","sequence_number":1}\n\n'

    async def aclose(self) -> None:
        return None


@pytest.fixture
def memory() -> Memory:
    return Memory()


@pytest.fixture
async def kept(door: Door, memory: Memory) -> Door:
    """The data plane with somebody who keeps responses."""
    await door.app.shutdown()
    recorder = Recorder(door.rows.extend, door.metrics)
    door.app = Application(Limits(), recorder, counters=door.metrics, keeper=memory)
    await door.app.startup(follow_registry=False)
    return door


@pytest.fixture
def speaks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.inference.scripted.Scripted.speaks", frozenset({RESPONSES}), raising=False)


@pytest.fixture(autouse=True)
def speaks_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.inference.scripted.Scripted.speaks", frozenset(), raising=False)


def native(*events: dict[str, Any]) -> Any:
    if not events:
        return whole(orjson.dumps(OWN), api=RESPONSES, usage=Usage(3, 4))

    async def chunks() -> AsyncIterator[bytes]:
        for event in events:
            yield b"event: " + event["type"].encode() + b"\ndata: " + orjson.dumps(event) + b"\n\n"

    async def behave(call: Any) -> Reply:
        return Reply(chunks=chunks(), content_type=sse.CONTENT_TYPE, api=RESPONSES, usage=Usage(3, 4))

    return behave


def serving(serve: Any, behave: Any) -> Far:
    only, view = far("only", behave)
    serve(registry.model(view, "m"))
    return only


async def test_a_response_is_answered_booked_as_a_chat_and_kept(serve, kept: Door, memory: Memory) -> None:
    only = serving(serve, whole(ANSWER))
    answer = await kept.call(PATH, {**ASKED, "metadata": {"tags": "red"}})
    assert answer.status == 200
    assert answer.json["output"][0]["content"][0]["text"] == "Hi"
    assert (answer.json["status"], answer.json["store"], answer.json["usage"]["output_tokens"]) == (
        "completed",
        True,
        7,
    )
    assert int(answer.headers["content-length"]) == len(answer.body)
    assert memory.turns[answer.json["id"]].response == answer.json
    assert only.calls[0].field("messages") == [{"role": "user", "content": "Hello there"}]
    await kept.app.shutdown()
    [row] = kept.rows
    assert (row.operation, row.status, row.output_tokens, row.tags) == ("chat", 200, 7, ",red,")


async def test_a_conversation_goes_on_where_it_stood(serve, kept: Door) -> None:
    only = serving(serve, whole(ANSWER))
    first = (await kept.call(PATH, ASKED)).json
    second = (await kept.call(PATH, {**ASKED, "input": "And now?", "previous_response_id": first["id"]})).json
    assert [message["content"] for message in only.calls[1].field("messages")] == ["Hello there", "Hi", "And now?"]
    assert second["previous_response_id"] == first["id"]
    unknown = await kept.call(PATH, {**ASKED, "previous_response_id": "resp_0"})
    assert (unknown.status, unknown.error["code"]) == (400, "previous_response_not_found")


async def test_nothing_is_kept_of_who_does_not_want_it(serve, kept: Door, memory: Memory) -> None:
    serving(serve, whole(ANSWER))
    answer = await kept.call(PATH, {**ASKED, "store": False})
    assert (answer.json["store"], memory.turns) == (False, {})


async def test_an_answer_that_could_not_be_kept_is_told_and_says_so(serve, kept: Door, memory: Memory) -> None:
    serving(serve, whole(ANSWER))
    memory.works = False
    answer = await kept.call(PATH, ASKED)
    assert (answer.status, answer.json["store"]) == (200, False)


@pytest.mark.parametrize(
    ("last", "end"),
    [((FINISH, USAGE, DONE), "completed"), ((errors.UpstreamBroken("The provider's answer was cut."),), "failed")],
    ids=["whole", "cut"],
)
async def test_a_stream_that_could_not_be_kept_says_so_at_its_end(
    serve, kept: Door, memory: Memory, last: tuple[Any, ...], end: str
) -> None:
    memory.works = False
    serving(serve, streaming(EVENT, *last))
    events = (await kept.call(PATH, {**ASKED, "stream": True})).events
    assert (events[-1]["type"], events[-1]["response"]["store"]) == (f"response.{end}", False)
    assert [event["sequence_number"] for event in events] == list(range(len(events)))


async def test_so_does_the_stream_of_an_upstream_that_speaks_the_api(serve, kept: Door, memory, speaks) -> None:
    memory.works = False
    text = {"type": "response.output_text.delta", "delta": "Hi"}
    serving(
        serve,
        native({"type": "response.created", "response": OWN}, text, {"type": "response.completed", "response": OWN}),
    )
    events = (await kept.call(PATH, {**ASKED, "stream": True})).events
    assert (events[1], events[-1]["response"]["store"]) == (text, False)


async def test_a_gateway_that_keeps_nothing_says_so(serve, door: Door) -> None:
    serving(serve, whole(ANSWER))
    assert (await door.call(PATH, ASKED)).json["store"] is False
    for more in ({"previous_response_id": "resp_1"}, {"background": True}):
        refused = await door.call(PATH, {**ASKED, **more})
        assert (refused.status, refused.error["code"]) == (400, "responses_not_kept")


async def test_a_stream_is_kept_before_its_end_is_told(serve, kept: Door, memory: Memory) -> None:
    serving(serve, streaming(EVENT, FINISH, USAGE, DONE))
    client, task = kept.open(PATH, {**ASKED, "stream": True})
    while not any(b"response.completed" in piece for piece in client.answer.pieces):
        assert not client.answer.ended
        await client.until_said()
    assert memory.turns
    await task
    answer = client.answer
    assert answer.body.startswith(b"event: response.created\n")
    assert b"[DONE]" not in answer.body
    assert memory.turns[answer.events[0]["response"]["id"]].response == answer.events[-1]["response"]


async def test_a_stream_that_is_cut_ends_as_failed_and_is_kept_so(serve, kept: Door, memory: Memory) -> None:
    serving(serve, streaming(EVENT, errors.UpstreamBroken("The provider's answer was cut.")))
    answer = await kept.call(PATH, {**ASKED, "stream": True})
    assert [event["type"] for event in answer.events[-2:]] == ["error", "response.failed"]
    assert answer.events[-2]["message"] == "The provider's answer was cut."
    [turn] = memory.turns.values()
    assert turn.response["status"] == "failed"


async def test_an_upstream_that_speaks_the_api_gets_the_clients_own_words(serve, kept: Door, memory, speaks) -> None:
    only = serving(serve, native())
    asked = {
        **ASKED,
        "include": ["reasoning.encrypted_content"],
        "truncation": "auto",
        "tools": [{"type": "web_search"}],
    }
    answer = await kept.call(PATH, asked)
    sent = only.calls[0].native
    assert sent is not None
    assert orjson.loads(bytes(sent.fields["tools"])) == [{"type": "web_search"}]
    assert bytes(sent.fields["store"]) == b"false"
    assert answer.json["id"] != "resp_up"
    assert answer.json["store"] is True
    assert memory.turns[answer.json["id"]].response == answer.json
    await kept.app.shutdown()
    assert kept.rows[0].input_tokens == 3


@pytest.mark.parametrize("left_out", [{"output"}, {"status", "output"}], ids=["items", "both"])
async def test_an_answer_of_such_an_upstream_without_items_is_told_and_kept(
    serve, kept: Door, memory, speaks, left_out: set[str]
) -> None:
    own = {name: value for name, value in OWN.items() if name not in left_out}
    serving(serve, whole(orjson.dumps(own), api=RESPONSES, usage=Usage(3, 4)))
    answer = await kept.call(PATH, ASKED)
    assert (answer.status, answer.json["status"], answer.json["output"]) == (200, "completed", [])
    assert memory.turns[answer.json["id"]].response == answer.json


async def test_a_stateless_clients_answer_passes_byte_for_byte(serve, kept: Door, memory, speaks) -> None:
    serving(serve, native())
    assert (await kept.call(PATH, {**ASKED, "store": False})).body == orjson.dumps(OWN)
    assert memory.turns == {}


async def test_so_does_a_stateless_clients_stream(serve, kept: Door, memory, speaks) -> None:
    events = [{"type": "response.created", "response": OWN}, {"type": "response.completed", "response": OWN}]
    serving(serve, native(*events))
    assert (await kept.call(PATH, {**ASKED, "store": False, "stream": True})).events == events
    assert memory.turns == {}


async def test_a_kept_stream_of_such_an_upstream_has_our_id(serve, kept: Door, memory, speaks) -> None:
    events = [{"type": "response.created", "response": OWN}, {"type": "response.completed", "response": OWN}]
    serving(serve, native(*events))
    told = (await kept.call(PATH, {**ASKED, "stream": True})).events
    [its_id] = memory.turns
    assert {event["response"]["id"] for event in told} == {its_id}


async def test_an_upstreams_comments_are_no_reason_to_pass_on_its_own_events(serve, kept: Door) -> None:
    serving(serve, streaming(EVENT, b": busy\n\n" + EVENT, FINISH, DONE))
    answer = await kept.call(PATH, {**ASKED, "stream": True})
    assert answer.events[-1]["type"] == "response.completed"
    assert all(event["type"].startswith("response.") for event in answer.events)


async def test_what_no_chat_completion_can_say_is_refused_by_name(serve, kept: Door) -> None:
    serving(serve, whole(ANSWER))
    refused = await kept.call(PATH, {**ASKED, "tools": [{"type": "web_search"}]})
    assert (refused.status, refused.error["code"]) == (400, "unsupported_capability")
    assert "web_search" in refused.error["message"]


async def test_one_in_the_background_is_queued_and_is_in_the_books_of_its_job_alone(serve, kept: Door, memory) -> None:
    only = serving(serve, whole(ANSWER))
    answer = await kept.call(PATH, {**ASKED, "background": True})
    assert (answer.status, answer.json["status"], answer.json["background"]) == (200, "queued", True)
    assert memory.queued[0][3]["id"] == answer.json["id"]
    assert only.calls == []
    followed = await kept.call(PATH, {**ASKED, "background": True, "stream": True})
    assert [event["type"] for event in followed.events] == ["response.created", "response.completed"]
    assert (await kept.call(PATH, {**ASKED, "background": True, "store": False})).error["param"] == "background"
    assert (await kept.call(PATH, {**ASKED, "background": True, "model": "nobody"})).status == 404
    await kept.app.shutdown()
    assert [row.status for row in kept.rows] == [400, 404]


async def test_tokens_are_counted_without_asking_anybody_and_compaction_is_refused(serve, kept: Door) -> None:
    only = serving(serve, whole(ANSWER))
    counted = await kept.call(f"{PATH}/input_tokens", {**ASKED, "instructions": "Be kind."})
    assert counted.json["object"] == "response.input_tokens"
    assert counted.json["input_tokens"] > 0
    assert (await kept.call(f"{PATH}/compact", ASKED)).status == 501
    assert (await kept.call(f"{PATH}/compact", ASKED, key="gw-000000000000-wrong")).status == 401
    await kept.app.shutdown()
    assert (kept.rows, only.calls) == ([], [])


async def test_a_client_that_leaves_can_retrieve_what_there_was(serve, kept: Door, memory: Memory) -> None:
    serving(serve, streaming(EVENT, asyncio.Event()))
    client, task = kept.open(PATH, {**ASKED, "stream": True})
    while b"output_text.delta" not in client.answer.body:
        await client.until_said()
    client.leave()
    await asyncio.wait_for(task, 60)
    [turn] = memory.turns.values()
    assert turn.response["status"] == "cancelled"
