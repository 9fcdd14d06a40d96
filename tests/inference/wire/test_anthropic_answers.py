"""Anthropic's messages and streams as chat completions."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from inference.wire.anthropic_answers import ChatEvents, Failed, NoMessage, completion_body
from tests.fakes.anthropic import event

USAGE = {
    "input_tokens": 10,
    "cache_creation_input_tokens": 5,
    "cache_read_input_tokens": 20,
    "output_tokens": 7,
    "output_tokens_details": {"thinking_tokens": 3},
}
THOUGHT = {"type": "thinking", "thinking": "hm", "signature": "s"}
HIDDEN = {"type": "redacted_thinking", "data": "x"}


def whole(*content: dict[str, Any], stop: str = "end_turn", **more: Any) -> dict[str, Any]:
    message = {"id": "msg_1", "type": "message", "model": "claude", "content": list(content), "stop_reason": stop}
    return orjson.loads(completion_body(orjson.dumps({**message, "usage": USAGE, **more}), created=5)[0])


def streamed(*events: bytes, include_usage: bool = False) -> list[Any]:
    made = ChatEvents(5, include_usage)
    said = b"".join(made.feed(one) for one in (START, *events))
    lines = [line[6:] for line in said.split(b"\n") if line.startswith(b"data: ")]
    return ["[DONE]" if line == b"[DONE]" else orjson.loads(line) for line in lines]


def deltas(*events: bytes) -> list[dict[str, Any]]:
    return [chunk["choices"][0]["delta"] for chunk in streamed(*events) if chunk != "[DONE]" and chunk["choices"]]


def opened(index: int, **block: Any) -> bytes:
    return event("content_block_start", index=index, content_block=block)


def moved(index: int, **delta: Any) -> bytes:
    return event("content_block_delta", index=index, delta=delta)


def closed(index: int) -> bytes:
    return event("content_block_stop", index=index)


START = event("message_start", message={"id": "msg_1", "model": "claude", "usage": {**USAGE, "output_tokens": 1}})
END = event("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 7}) + event("message_stop")


def test_a_whole_message_holds_text_thoughts_and_calls() -> None:
    told = whole(
        THOUGHT,
        HIDDEN,
        {"type": "text", "text": "Look"},
        {"type": "server_tool_use", "id": "s1", "name": "web_search", "input": {}},
        {"type": "text", "text": "ing."},
        {"type": "tool_use", "id": "t1", "name": "w", "input": {"city": "Oslo"}},
        stop="tool_use",
    )
    [choice] = told["choices"]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"] == {
        "role": "assistant",
        "content": "Looking.",
        "refusal": None,
        "reasoning_content": "hm",
        "thinking_blocks": [THOUGHT, HIDDEN],
        "tool_calls": [
            {"id": "t1", "type": "function", "function": {"name": "w", "arguments": '{"city":"Oslo"}'}},
        ],
    }
    assert (told["id"], told["object"], told["created"], told["model"]) == ("msg_1", "chat.completion", 5, "claude")


def test_tokens_of_the_cache_are_counted_with_the_rest() -> None:
    assert whole({"type": "text", "text": "a"})["usage"] == {
        "prompt_tokens": 35,
        "completion_tokens": 7,
        "total_tokens": 42,
        "prompt_tokens_details": {"cached_tokens": 20, "cache_write_tokens": 5},
        "completion_tokens_details": {"reasoning_tokens": 3},
    }


@pytest.mark.parametrize(
    ("stop", "finish"),
    [
        ("end_turn", "stop"),
        ("pause_turn", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("refusal", "content_filter"),
        ("a_word_of_next_year", "stop"),
    ],
)
def test_each_reason_to_stop_has_its_word(stop: str, finish: str) -> None:
    assert whole({"type": "text", "text": "a"}, stop=stop)["choices"][0]["finish_reason"] == finish
    ended = event("message_delta", delta={"stop_reason": stop}, usage={})
    assert streamed(ended)[-1]["choices"][0]["finish_reason"] == finish


def test_the_stop_that_was_met_stands_beside_the_reason() -> None:
    told = whole({"type": "text", "text": "a"}, stop="stop_sequence", stop_sequence="x")
    assert (told["choices"][0]["finish_reason"], told["choices"][0]["stop_reason"]) == ("stop", "x")


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b"<html>"])
def test_what_is_no_message_is_said_to_be_none(body: bytes) -> None:
    with pytest.raises(NoMessage):
        completion_body(body, created=5)


def test_a_stream_says_its_text_as_it_comes_and_its_usage_at_the_end() -> None:
    told = streamed(
        event("ping"),
        opened(0, type="text", text=""),
        moved(0, type="text_delta", text="a"),
        moved(0, type="text_delta", text="b"),
        closed(0),
        END,
        include_usage=True,
    )
    assert told[-1] == "[DONE]"
    assert told[-2]["choices"] == []
    assert told[-2]["usage"]["total_tokens"] == 42
    assert [chunk["choices"][0]["delta"] for chunk in told[:-2]] == [
        {"role": "assistant", "content": ""},
        {"content": "a"},
        {"content": "b"},
        {},
    ]
    assert {(chunk["id"], chunk["model"], chunk["created"]) for chunk in told[:-1]} == {("msg_1", "claude", 5)}


def test_calls_are_told_in_pieces_each_under_its_own_number() -> None:
    told = deltas(
        opened(0, type="text", text=""),
        moved(0, type="text_delta", text="a"),
        opened(1, type="tool_use", id="t1", name="w", input={}),
        moved(1, type="input_json_delta", partial_json='{"a'),
        moved(1, type="input_json_delta", partial_json='":1}'),
        closed(1),
        opened(2, type="tool_use", id="t2", name="now", input={}),
        closed(2),
    )
    pieces = [delta["tool_calls"][0] for delta in told if "tool_calls" in delta]
    assert [(piece["index"], piece.get("id")) for piece in pieces] == [
        (0, "t1"),
        (0, None),
        (0, None),
        (1, "t2"),
        (1, None),
    ]
    assert "".join(piece["function"]["arguments"] for piece in pieces[:3]) == '{"a":1}'
    assert pieces[4]["function"]["arguments"] == "{}"


def test_thoughts_come_as_they_are_thought_and_whole_with_their_signature() -> None:
    told = deltas(
        opened(0, type="thinking", thinking="", signature=""),
        moved(0, type="thinking_delta", thinking="h"),
        moved(0, type="thinking_delta", thinking="m"),
        moved(0, type="signature_delta", signature="s"),
        closed(0),
    )
    assert [delta.get("reasoning_content") for delta in told[1:3]] == ["h", "m"]
    assert told[3] == {"thinking_blocks": [THOUGHT]}


def test_nothing_is_said_before_the_model_says_something() -> None:
    made = ChatEvents(5, include_usage=False)
    assert made.feed(START + event("ping")) == b""
    with pytest.raises(Failed) as failed:
        made.feed(event("error", error={"type": "overloaded_error", "message": "Overloaded"}))
    assert failed.value.kind == "overloaded_error"


def test_an_event_that_is_not_json_is_no_event() -> None:
    with pytest.raises(NoMessage):
        ChatEvents(5, include_usage=False).feed(b"data: {\n\n")
