"""A chat completion's chunks as the events of a Response; every one is read by the official client's own types."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from openai._models import construct_type_unchecked
from openai.types.responses import ResponseStreamEvent

from inference.wire import responses, sse
from inference.wire import responses_objects as objects
from inference.wire.responses_events import Passed, Told

USAGE = {
    "prompt_tokens": 5,
    "completion_tokens": 3,
    "total_tokens": 8,
    "prompt_tokens_details": {"cached_tokens": 2, "cache_write_tokens": 1},
}


def chunk(delta: dict[str, Any] | None = None, finish: str | None = None, **more: Any) -> bytes:
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish}]
    return b"data: " + orjson.dumps({"model": "m-1", "choices": choices, **more}) + b"\n\n"


def told(*pieces: bytes, tools: Any = ()) -> tuple[list[dict[str, Any]], Told]:
    asked = responses.read(orjson.dumps({"model": "m", "input": "x", "tools": list(tools)}))
    teller = Told(asked, objects.begun(asked, "resp_7", 100, kept=True), lambda: 200)
    said = b"".join(map(teller.feed, pieces)) + b"".join(map(sse.named, teller.end()))
    return events_of(said), teller


def events_of(said: bytes) -> list[dict[str, Any]]:
    events = []
    for block in said.decode().strip().split("\n\n"):
        name, _, data = block.partition("\n")
        event = orjson.loads(data.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        parsed: Any = construct_type_unchecked(value=event, type_=ResponseStreamEvent)
        assert parsed.type == event["type"]
        type(parsed).model_validate(event)
        events.append(event)
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    return events


def kinds(events: list[dict[str, Any]]) -> list[str]:
    return [event["type"].removeprefix("response.") for event in events]


def test_a_text_is_told_from_its_beginning_to_its_end() -> None:
    events, teller = told(
        chunk({"role": "assistant", "content": ""}),
        chunk({"content": "Hel"}),
        chunk({"content": "lo"}),
        chunk({}, "stop"),
        chunk(usage=USAGE),
        b"data: [DONE]\n\n",
    )
    assert kinds(events) == [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "completed",
    ]
    response = events[-1]["response"]
    assert teller.final == response
    assert response["output"][0]["content"][0]["text"] == events[6]["text"] == "Hello"
    assert response["output"][0]["id"] == events[2]["item"]["id"] == events[4]["item_id"]
    assert (response["status"], response["model"], response["completed_at"]) == ("completed", "m-1", 200)
    assert response["usage"]["input_tokens_details"]["cached_tokens"] == 2


def test_thoughts_a_refusal_and_calls_are_items_and_parts_of_their_own() -> None:
    look = {"index": 0, "id": "c1", "type": "function", "function": {"name": "look", "arguments": ""}}
    events, _ = told(
        chunk({"reasoning_content": "Hm"}),
        chunk({"content": "Well"}),
        chunk({"refusal": "No."}),
        chunk({"tool_calls": [look]}),
        chunk({"tool_calls": [{"index": 1, "id": "c2", "function": {"name": "hear", "arguments": "{"}}]}),
        chunk(
            {
                "tool_calls": [
                    {"index": 0, "function": {"arguments": "{}"}},
                    {"index": 1, "function": {"arguments": "}"}},
                ]
            }
        ),
        chunk({}, "tool_calls"),
        b"data: [DONE]\n\n",
    )
    output = events[-1]["response"]["output"]
    assert [item["type"] for item in output] == ["reasoning", "message", "function_call", "function_call"]
    assert output[0]["content"] == [{"type": "reasoning_text", "text": "Hm"}]
    assert [part["type"] for part in output[1]["content"]] == ["output_text", "refusal"]
    assert [item["arguments"] for item in output[2:]] == ["{}", "{}"]
    done = [event["item"] for event in events if event["type"] == "response.output_item.done"]
    assert done == output
    assert "function_call_arguments.done" in kinds(events)
    [refused] = [event for event in events if event["type"] == "response.refusal.done"]
    assert (refused["refusal"], refused["content_index"]) == ("No.", 1)


def test_a_call_is_told_once_its_name_is_known() -> None:
    pieces = [
        {"id": "c1", "function": {"arguments": "{"}},
        {"function": {"name": "a"}},
        {"function": {"arguments": "}"}},
    ]
    events, _ = told(*(chunk({"tool_calls": [{"index": 0, **piece}]}) for piece in pieces), chunk({}, "tool_calls"))
    [added] = [event["item"] for event in events if event["type"] == "response.output_item.added"]
    assert (added["name"], added["call_id"]) == ("a", "c1")
    assert [event["delta"] for event in events if event["type"].endswith("arguments.delta")] == ["{", "}"]
    assert events[-1]["response"]["output"][0]["arguments"] == "{}"


def test_a_call_without_arguments_says_an_empty_object() -> None:
    call = {"id": "c1", "function": {"name": "look", "arguments": ""}}
    events, _ = told(chunk({"tool_calls": [{"index": 0, **call}]}), chunk({}, "tool_calls"))
    assert [event["delta"] for event in events if event["type"].endswith("arguments.delta")] == ["{}"]
    asked = responses.read(b'{"model":"m","input":"x"}')
    begun = objects.begun(asked, "resp_7", 100, kept=True)
    whole = objects.from_completion(asked, {"choices": [{"message": {"tool_calls": [call]}}]}, begun, 200)
    assert whole["output"][0]["arguments"] == events[-1]["response"]["output"][0]["arguments"] == "{}"


def test_content_in_parts_is_read_as_thoughts_and_text() -> None:
    content = [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}, {"type": "text", "text": "a"}]
    events, _ = told(chunk({"content": content}), chunk({"content": "b"}, "stop"))
    output = events[-1]["response"]["output"]
    assert [item["content"][0]["text"] for item in output] == ["hm", "ab"]
    asked = responses.read(b'{"model":"m","input":"x"}')
    begun = objects.begun(asked, "resp_7", 100, kept=True)
    whole = objects.from_completion(asked, {"choices": [{"message": {"content": content}}]}, begun, 200)
    assert [item["content"][0]["text"] for item in whole["output"]] == ["hm", "a"]


def test_a_custom_tool_gets_its_text_back() -> None:
    call = {"index": 0, "id": "c1", "function": {"name": "patch", "arguments": '{"input":"*** '}}
    rest = {"index": 0, "function": {"arguments": 'Begin"}'}}
    tools = [{"type": "custom", "name": "patch"}]
    events, _ = told(chunk({"tool_calls": [call]}), chunk({"tool_calls": [rest]}, "tool_calls"), tools=tools)
    [item] = events[-1]["response"]["output"]
    assert (item["type"], item["input"], item["call_id"]) == ("custom_tool_call", "*** Begin", "c1")
    assert kinds(events)[-4:-1] == ["custom_tool_call_input.delta", "custom_tool_call_input.done", "output_item.done"]


def test_a_call_of_a_namespaces_tool_gets_its_two_names_back() -> None:
    within = [{"type": "custom", "name": "exec"}]
    tools = [{"type": "namespace", "name": "functions", "description": "", "tools": within}]
    call = {"index": 0, "id": "c1", "function": {"name": "functions__exec", "arguments": '{"input":"1"}'}}
    events, _ = told(chunk({"tool_calls": [call]}, "tool_calls"), tools=tools)
    items = [event["item"] for event in events if "item" in event]
    assert {(item["type"], item["name"], item["namespace"]) for item in items} == {
        ("custom_tool_call", "exec", "functions")
    }


def test_what_was_cut_off_says_so() -> None:
    events, _ = told(chunk({"content": "Hel"}), chunk({}, "length"), b"data: [DONE]\n\n")
    response = events[-1]["response"]
    assert events[-1]["type"] == "response.incomplete"
    assert response["incomplete_details"] == {"reason": "max_output_tokens"}
    assert response["output"][0]["status"] == events[-2]["item"]["status"] == "incomplete"


@pytest.mark.parametrize("before", [[], [chunk({"content": "Hel"})]])
def test_a_failure_is_an_event_and_the_end_of_the_response(before: list[bytes]) -> None:
    events, teller = told(*before, b'data: {"error":{"message":"It broke","code":"boom"}}\n\n', b"data: [DONE]\n\n")
    assert kinds(events)[0] == "created"
    assert kinds(events)[-2:] == ["error", "failed"]
    assert (events[-2]["message"], events[-2]["code"]) == ("It broke", "boom")
    assert teller.final is not None
    assert (teller.final["status"], teller.final["error"]["code"]) == ("failed", "server_error")


def test_an_upstreams_own_events_pass_under_our_id_and_only_those_with_a_response_are_read() -> None:
    asked = responses.read(b'{"model":"m","input":"x","previous_response_id":"resp_6"}')
    passed = Passed(objects.begun(asked, "resp_7", 100, kept=True))
    delta = (
        b'event: response.output_text.delta\ndata: {"type": "response.output_text.delta",  "sequence_number": 1}\n\n'
    )
    item = {"type": "message", "id": "msg_up", "content": []}
    own = {"id": "resp_up", "status": "completed", "store": False, "previous_response_id": None, "output": [item]}
    created = sse.named({"type": "response.created", "sequence_number": 0, "response": own})
    completed = sse.named({"type": "response.completed", "sequence_number": 2, "response": own})
    said = passed.feed(created) + passed.feed(delta + completed)
    assert delta in said
    assert b"resp_up" not in said
    assert passed.final is not None
    assert (passed.final["id"], passed.final["previous_response_id"], passed.final["store"]) == (
        "resp_7",
        "resp_6",
        True,
    )
    assert passed.final["output"] == [item]


def test_a_whole_answer_says_what_its_stream_says() -> None:
    asked = responses.read(b'{"model":"m","input":"x"}')
    begun = objects.begun(asked, "resp_7", 100, kept=True)
    message = {
        "reasoning_content": "Hm",
        "content": "Hello",
        "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": "{}"}}],
    }
    completion = {"model": "m-1", "choices": [{"message": message, "finish_reason": "stop"}], "usage": USAGE}
    events, _ = told(
        chunk({"reasoning_content": "Hm"}),
        chunk({"content": "Hello"}),
        chunk({"tool_calls": [{"index": 0, **message["tool_calls"][0]}]}, "stop"),
        chunk(usage=USAGE),
    )
    assert objects.from_completion(asked, completion, begun, 200) == {**events[-1]["response"], "tools": []}


def test_what_is_no_json_is_nothing_to_tell() -> None:
    events, _ = told(b"data: {broken\n\n", chunk({"content": "Hello"}, "stop"), b"data: [1]\n\n", b"data: [DONE]\n\n")
    assert events[-1]["response"]["output"][0]["content"][0]["text"] == "Hello"
