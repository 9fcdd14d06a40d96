"""Chat completions in the words of Anthropic's clients."""

from __future__ import annotations

import orjson
import pytest

from inference.wire.anthropic import error_body, message_body
from inference.wire.anthropic_events import PING, Events


def events(*chunks: dict | bytes) -> list[dict]:
    made = Events("7")
    sent = b"".join(
        made.feed(chunk if isinstance(chunk, bytes) else b"data: " + orjson.dumps(chunk) + b"\n\n") for chunk in chunks
    )
    sent += made.end()
    return [
        orjson.loads(line[6:]) for line in sent.split(b"\n") if line.startswith(b"data: ") and b'"ping"' not in line
    ]


def order(told: list[dict]) -> list[tuple[str, int]]:
    """Where blocks begin and end. Nothing of a block comes behind its end."""
    places = [one["index"] for one in told if "index" in one]
    assert places == sorted(places)
    named = ((one["type"].removeprefix("content_block_"), one.get("index", 0)) for one in told)
    return [(what, index) for what, index in named if what in ("start", "stop")]


def delta(finish: str | None = None, **fields: object) -> dict:
    return {"model": "real", "choices": [{"index": 0, "delta": fields, "finish_reason": finish}]}


def test_a_whole_answer_holds_thoughts_text_calls_and_usage() -> None:
    completion = {
        "model": "real",
        "choices": [
            {
                "finish_reason": "tool_calls",
                "message": {
                    "reasoning_content": "hm",
                    "content": "Looking.",
                    "tool_calls": [
                        {"id": "t1", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}},
                        {"id": "t2", "function": {"name": "weather", "arguments": '{"city'}},
                    ],
                },
            }
        ],
        "usage": {"prompt_tokens": 30, "completion_tokens": 4, "prompt_tokens_details": {"cached_tokens": 10}},
    }
    told = orjson.loads(message_body(orjson.dumps(completion), "7"))
    assert [block["type"] for block in told["content"]] == ["thinking", "text", "tool_use", "tool_use"]
    assert [block.get("input") for block in told["content"][2:]] == [{"city": "Oslo"}, {}]
    assert (told["id"], told["model"], told["stop_reason"]) == ("msg_7", "real", "tool_use")
    assert told["usage"] == {
        "input_tokens": 20,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 10,
        "output_tokens": 4,
    }


def test_a_stream_of_text_is_one_block_that_begins_moves_and_ends() -> None:
    usage = {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2}}
    told = events(
        delta(role="assistant", content=""),
        delta(content="a"),
        delta(content="b"),
        delta("length"),
        usage,
        b"data: [DONE]\n\n",
    )
    assert [one["type"] for one in told] == [
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    assert told[-2]["delta"] == {"stop_reason": "max_tokens", "stop_sequence": None}
    assert told[-2]["usage"]["output_tokens"] == 2


def test_thoughts_text_and_each_call_are_blocks_of_their_own() -> None:
    def call(index: int, **function: str) -> list[dict]:
        return [{"index": index, "id": f"t{index}" if "name" in function else None, "function": function}]

    told = events(
        delta(reasoning_content="hm"),
        delta(content="Look."),
        delta(tool_calls=call(0, name="weather", arguments="")),
        delta(tool_calls=call(0, arguments='{"city":')),
        delta(tool_calls=call(0, arguments='"Oslo"}')),
        delta(tool_calls=call(1, name="time", arguments="{}")),
        delta("tool_calls"),
    )
    starts = [(one["index"], one["content_block"]["type"]) for one in told if one["type"] == "content_block_start"]
    assert starts == [(0, "thinking"), (1, "text"), (2, "tool_use"), (3, "tool_use")]
    moved = "".join(
        one["delta"]["partial_json"] for one in told if one["type"] == "content_block_delta" and one["index"] == 2
    )
    assert moved == '{"city":"Oslo"}'
    assert sum(one["type"] == "content_block_stop" for one in told) == 4


def test_two_calls_that_are_written_by_turns_keep_their_arguments_apart() -> None:
    def piece(index: int, arguments: str, name: str = "") -> dict:
        call = {"index": index, "function": {"arguments": arguments}}
        if name:
            call |= {"id": name, "function": {"name": name, "arguments": arguments}}
        return delta(tool_calls=[call])

    told = events(piece(0, "{", "a"), piece(1, "[", "b"), piece(0, "}"), piece(1, "]"), b"data: no JSON\n\ndata: 3\n\n")
    assert [one["content_block"]["name"] for one in told if one["type"] == "content_block_start"] == ["a", "b"]
    moved = [(one["index"], one["delta"]["partial_json"]) for one in told if one["type"] == "content_block_delta"]
    assert moved == [(0, "{"), (0, "}"), (1, "["), (1, "]")]
    assert order(told) == [("start", 0), ("stop", 0), ("start", 1), ("stop", 1)]


def test_what_comes_between_the_pieces_of_a_call_follows_it() -> None:
    def piece(index: int, arguments: str, name: str | None = None) -> list[dict]:
        return [{"index": index, "id": name, "function": {"name": name, "arguments": arguments}}]

    told = events(
        delta(tool_calls=[*piece(0, "", "a"), *piece(1, "", "b")]),
        delta(content="Hm. "),
        delta(tool_calls=piece(1, '{"x":')),
        delta(tool_calls=piece(0, "{}")),
        delta(tool_calls=piece(1, "1}")),
        delta(content="So."),
        delta(tool_calls=piece(2, "", "c")),
        delta(tool_calls=piece(3, "", "d")),
        delta("tool_calls"),
    )
    assert order(told) == [(what, index) for index in range(5) for what in ("start", "stop")]
    blocks = [one["content_block"] for one in told if one["type"] == "content_block_start"]
    assert [block.get("name") for block in blocks] == ["a", "b", None, "c", "d"]
    assert "".join(
        one["delta"].get("partial_json", "") for one in told if one.get("index") == 1 and "delta" in one
    ) == ('{"x":1}')
    assert "".join(one["delta"].get("text", "") for one in told if one.get("index") == 2 and "delta" in one) == (
        "Hm. So."
    )


def test_a_call_is_told_once_its_name_is_known() -> None:
    told = events(
        delta(tool_calls=[{"index": 0, "id": "t1", "function": {"arguments": '{"x"'}}]),
        delta(tool_calls=[{"index": 0, "function": {"name": "a", "arguments": ":"}}]),
        delta(tool_calls=[{"index": 0, "function": {"arguments": "1}"}}]),
        delta("tool_calls"),
    )
    [block] = [one["content_block"] for one in told if one["type"] == "content_block_start"]
    assert (block["id"], block["name"]) == ("t1", "a")
    assert "".join(one["delta"]["partial_json"] for one in told if one["type"] == "content_block_delta") == '{"x":1}'


def test_calls_without_ids_get_some_of_their_own() -> None:
    calls = [{"index": place, "id": "", "function": {"name": "a", "arguments": "{}"}} for place in range(2)]
    whole = orjson.loads(message_body(orjson.dumps({"choices": [{"message": {"tool_calls": calls}}]}), "7"))
    streamed = [one["content_block"] for one in events(delta(tool_calls=calls)) if "content_block" in one]
    assert len({block["id"] for block in whole["content"]}) == 2
    made = orjson.loads(
        message_body(orjson.dumps({"choices": [{"message": {"tool_calls": calls}}]}), f"req_{'f' * 32}")
    )
    assert max(len(block["id"]) for block in made["content"]) <= 40
    assert [block["id"] for block in streamed] == [block["id"] for block in whole["content"]]


def test_input_is_always_an_object() -> None:
    calls = [{"id": "t", "function": {"name": "a", "arguments": written}} for written in ("null", "3", '"x"')]
    told = orjson.loads(message_body(orjson.dumps({"choices": [{"message": {"tool_calls": calls}}]}), "7"))
    assert [block["input"] for block in told["content"]] == [{}, {}, {}]


def test_blanks_alone_are_no_text() -> None:
    call = [{"index": 0, "id": "t1", "function": {"name": "a", "arguments": "{}"}}]
    told = events(
        *(delta(reasoning_content="hm"), delta(content="\n"), delta(content="\n")),
        *(delta(tool_calls=call), delta(content="\n"), delta(content=" So"), delta(content="\n"), delta("tool_calls")),
    )
    starts = [one["content_block"]["type"] for one in told if one["type"] == "content_block_start"]
    assert starts == ["thinking", "tool_use", "text"]
    texts = [one["delta"]["text"] for one in told if "text" in one.get("delta", ())]
    assert texts == ["\n So", "\n"]
    whole = {"choices": [{"message": {"content": "\n\n", "tool_calls": call}}]}
    assert len(orjson.loads(message_body(orjson.dumps(whole), "7"))["content"]) == 1


def test_content_in_parts_is_read_as_thoughts_and_text() -> None:
    thinking = {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}
    content = [thinking, {"type": "text", "text": "a"}]
    whole = orjson.loads(message_body(orjson.dumps({"choices": [{"message": {"content": content}}]}), "7"))
    assert [block["type"] for block in whole["content"]] == ["thinking", "text"]
    told = events(delta(content=[thinking]), delta(content=content[1:]), delta(content="b"), delta("stop"))
    moved = [one["delta"] for one in told if one["type"] == "content_block_delta"]
    assert [piece.get("thinking") or piece.get("text") for piece in moved] == ["hm", "a", "b"]


def test_events_may_be_cut_anywhere_and_lines_may_end_in_both_ways() -> None:
    stream = b"".join(b"data: " + orjson.dumps(one) + b"\r\n\r\n" for one in (delta(content="\u2028ü"), delta("stop")))
    whole, cut = events(stream), events(*(stream[at : at + 1] for at in range(len(stream))))
    assert whole == cut
    assert whole[2]["delta"]["text"] == "\u2028ü"


def test_the_stop_that_was_met_is_told_where_a_server_tells_it() -> None:
    ended = {"finish_reason": "stop", "message": {"content": "a"}}

    def stop(**more: object) -> tuple[str, str | None]:
        told = orjson.loads(message_body(orjson.dumps({"choices": [{**ended, **more}]}), "7", ["x"]))
        return told["stop_reason"], told["stop_sequence"]

    assert stop(stop_reason="x") == stop(matched_stop="x") == ("stop_sequence", "x")
    assert stop(stop_reason="y") == stop(stop_reason=128_001) == stop() == ("end_turn", None)


def test_signed_thoughts_keep_their_signature() -> None:
    signed = {"type": "thinking", "thinking": "hm", "signature": "s"}
    told = events(delta(reasoning_content="hm"), delta(thinking_blocks=[signed]), delta(content="a"), delta("stop"))
    assert {"type": "signature_delta", "signature": "s"} in [one.get("delta") for one in told]
    sealed = {"type": "redacted_thinking", "data": "x"}
    unsaid = {"type": "thinking", "thinking": "", "signature": "t"}
    told = events(delta(thinking_blocks=[sealed]), delta(thinking_blocks=[unsaid]), delta(content="a"), delta("stop"))
    starts = [one["content_block"] for one in told if one["type"] == "content_block_start"]
    assert [block["type"] for block in starts] == ["redacted_thinking", "thinking", "text"]
    assert starts[0] == sealed
    assert order(told) == [(what, index) for index in range(3) for what in ("start", "stop")]
    whole = {"choices": [{"message": {"content": "a", "reasoning_content": "hm", "thinking_blocks": [signed]}}]}
    assert orjson.loads(message_body(orjson.dumps(whole), "7"))["content"][0] == signed


def test_a_comment_is_a_ping_and_an_error_in_the_stream_ends_it() -> None:
    made = Events("7")
    assert made.feed(b": keep-alive\n\n") == PING
    sent = made.feed(b'data: {"error": {"message": "broke", "code": "upstream_error"}}\n\n')
    assert sent.startswith(b"event: error\n")
    assert orjson.loads(sent.split(b"data: ")[1])["error"]["type"] == "api_error"
    assert made.feed(b"data: [DONE]\n\n") == made.end() == b""


@pytest.mark.parametrize(
    ("status", "kind"),
    [(401, "authentication_error"), (429, "rate_limit_error"), (418, "invalid_request_error"), (500, "api_error")],
)
def test_an_error_is_told_by_its_status(status: int, kind: str) -> None:
    told = orjson.loads(error_body(b'{"error": {"message": "no", "code": "c", "param": "model"}}', status, "7"))
    assert told == {
        "type": "error",
        "error": {"type": kind, "message": "no", "code": "c", "param": "model"},
        "request_id": "7",
    }
    assert orjson.loads(error_body(b"<html>", 502, "7"))["error"]["message"] == ""


def test_a_prompt_that_is_too_long_is_told_in_the_words_that_clients_look_for() -> None:
    for message in ("Reduce the length of the messages.", "Prompt is too long: 9 tokens"):
        told = orjson.dumps({"error": {"message": message, "code": "context_length_exceeded"}})
        said = orjson.loads(error_body(told, 400, "7"))["error"]["message"]
        assert said.lower().count("prompt is too long") == 1
        assert said.endswith(message)
