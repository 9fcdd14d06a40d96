from __future__ import annotations

from typing import Any

import orjson
import pytest

from inference.wire import retold, sse

USAGE = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
CALL = {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": '{"a": 1}'}}


def completion(*choices: dict[str, Any], **more: Any) -> dict[str, Any]:
    head = {"id": "c-1", "created": 1, "model": "m", "system_fingerprint": "fp", **more}
    return {**head, "object": "chat.completion", "choices": list(choices), "usage": USAGE}


def choice(index: int = 0, finish_reason: str = "stop", **message: Any) -> dict[str, Any]:
    said = {"role": "assistant", "content": None, "refusal": None, **message}
    return {"index": index, "finish_reason": finish_reason, "logprobs": message.pop("logprobs", None), "message": said}


@pytest.mark.parametrize(
    "told",
    [
        completion(choice(content="Hello\n\ndata: you")),
        completion(choice(0, content="a"), choice(1, content="b")),
        completion(choice(0, "tool_calls", tool_calls=[CALL, {**CALL, "id": "call_2"}])),
        completion(choice(content="a", reasoning_content="since", annotations=[{"type": "url_citation"}])),
        completion({**choice(content="a"), "logprobs": {"content": [{"token": "a", "logprob": -0.1}]}}),
        completion({**choice(content="a"), "stop_reason": 7}, service_tier="default"),
        {
            **completion({"index": 0, "text": "b", "logprobs": None, "finish_reason": "length"}),
            "object": "text_completion",
        },
    ],
)
def test_what_is_told_as_a_stream_and_put_together_again_is_the_same(told: dict[str, Any]) -> None:
    events = retold.events(orjson.dumps(told), with_usage=True)
    assert events is not None
    assert events[-1] == sse.DONE
    assert orjson.loads(retold.whole(b"".join(events), None) or b"null") == told


def test_usage_is_told_only_to_who_asks_and_known_to_who_puts_together() -> None:
    told = completion(choice(content="a"))
    events = retold.events(orjson.dumps(told), with_usage=False) or []
    assert b'"usage"' not in b"".join(events)
    assert orjson.loads(retold.whole(b"".join(events), USAGE) or b"null") == told
    assert retold.whole(b"".join(events), None) is None


def test_calls_without_an_index_stay_apart() -> None:
    calls = [CALL, {**CALL, "id": "call_2"}]
    chunks = [{"index": 0, "delta": {"tool_calls": [call]}, "finish_reason": "tool_calls"} for call in calls]
    stream = b"".join(sse.event({"object": "chat.completion.chunk", "choices": [chunk]}) for chunk in chunks) + sse.DONE
    whole = retold.whole(stream, USAGE)
    assert whole is not None
    assert orjson.loads(whole)["choices"][0]["message"]["tool_calls"] == calls


def test_calls_that_came_in_pieces_are_joined() -> None:
    pieces = [
        {
            "role": "assistant",
            "tool_calls": [{"index": 0, "id": "call_1", "function": {"name": "look", "arguments": ""}}],
        },
        {"tool_calls": [{"index": 0, "function": {"arguments": '{"a"'}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": ": 1}"}}]},
    ]
    told = [{"choices": [{"index": 0, "delta": piece}], "object": "chat.completion.chunk"} for piece in pieces]
    told.append({"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]})
    stream = b": hello\n\n" + b"".join(map(sse.event, told)) + sse.DONE
    joined = orjson.loads(retold.whole(stream, USAGE) or b"null")
    assert joined["choices"][0]["message"]["tool_calls"] == [CALL]


@pytest.mark.parametrize(
    "stream",
    [
        sse.event({"choices": [{"index": 0, "delta": {"content": "a"}}]}),
        sse.event({"choices": [{"index": 0, "delta": {"hologram": "a"}, "finish_reason": "stop"}]}),
        sse.event({"error": {"message": "no"}}),
        b"data: {not json}\n\n",
    ],
)
def test_what_is_not_whole_or_not_known_is_not_put_together(stream: bytes) -> None:
    assert retold.whole(stream + sse.DONE, USAGE) is None


@pytest.mark.parametrize("body", [b"{}", b"[]", b"nothing", b'{"object":"chat.completion","choices":[{"message":1}]}'])
def test_what_is_no_answer_is_not_told_as_a_stream(body: bytes) -> None:
    assert retold.events(body, with_usage=True) is None
    audio = completion(choice(audio={"id": "a"}))
    assert retold.events(orjson.dumps(audio), with_usage=True) is None
