"""`/v1/messages` through the data plane: the same admission, routing and books as a chat, in Anthropic's words."""

from __future__ import annotations

from inference import errors
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
