from __future__ import annotations

from itertools import count
from typing import Any

import orjson
import pytest

from inference.wire import ollama, sse
from inference.wire.ollama_events import Lines


def lines_of(read: Any = ollama.chat, **told: Any) -> Lines:
    asked = {"messages": [{"role": "user", "content": "x"}], "prompt": "x", "model": "m", **told}
    ticks = count(10.0)
    return Lines(read(orjson.dumps(asked)), lambda: next(ticks), lambda: 1_700_000_000.0, 8.0)


def chunk(delta: dict[str, Any] | None = None, finish: str | None = None, **more: Any) -> bytes:
    return sse.event({"choices": [{"index": 0, "delta": delta or {}, "finish_reason": finish, **more}]})


def read(lines: Lines, *pieces: bytes) -> list[dict[str, Any]]:
    said = b"".join(lines.feed(piece) for piece in pieces) + lines.end()
    assert not said or said.endswith(b"\n")
    return [orjson.loads(line) for line in said.splitlines()]


USAGE = sse.event({"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2}})


def test_text_comes_in_lines_and_the_last_tells_tokens_and_times() -> None:
    told = read(
        lines_of(), chunk({"role": "assistant", "content": ""}), chunk({"content": "a"}), chunk({"content": "b"})
    )
    assert [line["message"]["content"] for line in told] == ["a", "b", ""]
    told = read(lines_of(), chunk({"content": "a"}), chunk({"content": "b"}), chunk({}, "length"), USAGE, sse.DONE)
    last = told[-1]
    assert not told[0]["done"]
    assert (last["done"], last["done_reason"]) == (True, "length")
    assert (last["prompt_eval_count"], last["eval_count"]) == (3, 2)
    # The clock ticks once for each text and once at the end: 10, 11 and 12, and the request came at 8.
    assert (last["prompt_eval_duration"], last["eval_duration"], last["total_duration"]) == (
        2 * 10**9,
        10**9,
        4 * 10**9,
    )


def test_a_prompts_answer_stands_at_the_top() -> None:
    told = read(lines_of(ollama.generate), chunk({"reasoning_content": "hm"}), chunk({"content": "a"}), sse.DONE)
    assert [(line["response"], line.get("thinking")) for line in told] == [("", "hm"), ("a", None), ("", None)]


def test_a_completions_text_is_read_as_well() -> None:
    event = sse.event({"choices": [{"index": 0, "text": "a", "logprobs": None, "finish_reason": None}]})
    assert read(lines_of(ollama.generate, raw=True), event, sse.DONE)[0]["response"] == "a"


def test_a_call_is_told_whole_before_the_end() -> None:
    parts = [
        {"index": 0, "id": "c", "function": {"name": "f", "arguments": ""}},
        {"index": 0, "function": {"arguments": '{"x"'}},
        {"index": 0, "function": {"arguments": ":1}"}},
    ]
    told = read(lines_of(), *(chunk({"tool_calls": [part]}) for part in parts), chunk({}, "tool_calls"), sse.DONE)
    assert len(told) == 2
    assert told[0]["message"]["tool_calls"] == [{"id": "c", "function": {"name": "f", "arguments": {"x": 1}}}]
    assert told[1]["done_reason"] == "stop"


def test_log_probabilities_go_with_their_text() -> None:
    logprobs = {"content": [{"token": "a", "logprob": -0.5, "bytes": [97], "top_logprobs": []}]}
    told = read(lines_of(logprobs=True), chunk({"content": "a"}, logprobs=logprobs), sse.DONE)
    assert told[0]["logprobs"] == logprobs["content"]


def test_events_may_be_cut_anywhere_and_comments_are_dropped() -> None:
    stream = sse.KEEP_ALIVE + chunk({"content": "a"}) + sse.KEEP_ALIVE + chunk({}, "stop") + sse.DONE
    told = read(lines_of(), *(stream[place : place + 1] for place in range(len(stream))))
    assert [line["done"] for line in told] == [False, True]


@pytest.mark.parametrize("first", [b"", chunk({"content": "a"})])
def test_an_error_is_the_last_line(first: bytes) -> None:
    error = sse.event({"error": {"message": "it died", "type": "t", "param": None, "code": "upstream_broken"}})
    told = read(lines_of(), first, error, sse.DONE)
    assert told[-1] == {"error": "it died", "code": "upstream_broken"}


def test_an_upstreams_own_lines_pass_as_they_are() -> None:
    own = [{"model": "m", "message": {"content": "a"}, "done": False}, {"model": "m", "done": True, "context": [1]}]
    assert read(lines_of(), *(sse.event(line) for line in own)) == own


def test_a_stream_that_never_began_ends_without_a_word() -> None:
    assert read(lines_of(), sse.KEEP_ALIVE) == []


def test_content_in_parts_is_read_as_thoughts_and_text() -> None:
    content = [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}, {"type": "text", "text": "a"}]
    told = read(lines_of(), chunk({"content": content}), sse.DONE)
    assert (told[0]["message"]["thinking"], told[0]["message"]["content"]) == ("hm", "a")
