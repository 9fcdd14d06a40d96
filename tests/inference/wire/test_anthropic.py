"""Anthropic's words in OpenAI's and back."""

from __future__ import annotations

import orjson
import pytest

from inference.errors import InvalidRequest
from inference.wire.anthropic import chat_body, error_body, message_body
from inference.wire.anthropic_events import PING, Events

ASKED = {"model": "m", "max_tokens": 10, "messages": [{"role": "user", "content": "hi"}]}


def said(**more: object) -> dict:
    return orjson.loads(chat_body(orjson.dumps({**ASKED, **more})))


def events(*chunks: dict | bytes) -> list[dict]:
    made = Events("7")
    sent = b"".join(
        made.feed(chunk if isinstance(chunk, bytes) else b"data: " + orjson.dumps(chunk) + b"\n\n") for chunk in chunks
    )
    sent += made.end()
    return [
        orjson.loads(line[6:]) for line in sent.split(b"\n") if line.startswith(b"data: ") and b'"ping"' not in line
    ]


def delta(finish: str | None = None, **fields: object) -> dict:
    return {"model": "real", "choices": [{"index": 0, "delta": fields, "finish_reason": finish}]}


def test_a_plain_question_keeps_its_words_and_limits() -> None:
    assert said(system="Be brief.", temperature=0.2, top_p=0.9, stop_sequences=["x"], metadata={"user_id": "u"}) == {
        "model": "m",
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hi"}],
        "max_tokens": 10,
        "temperature": 0.2,
        "top_p": 0.9,
        "stop": ["x"],
        "user": "u",
    }


def test_a_stream_asks_for_its_usage() -> None:
    assert said(stream=True)["stream_options"] == {"include_usage": True}
    assert "stream" not in said(stream=False)


def test_the_gateways_own_members_go_along_and_hints_of_a_vendor_do_not() -> None:
    told = said(gateway_strategy="balanced", top_k=4, thinking={"type": "enabled", "budget_tokens": 1024})
    assert told["gateway_strategy"] == "balanced"
    assert not {"top_k", "thinking"} & told.keys()


def test_a_conversation_with_tools_and_pictures_is_said_in_order() -> None:
    asked = [
        {"role": "user", "content": [{"type": "text", "text": "Weather?"}]},
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "hm", "signature": "s"},
                {"type": "text", "text": "Looking."},
                {"type": "tool_use", "id": "t1", "name": "weather", "input": {"city": "Oslo"}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "and this"},
                {
                    "type": "tool_result",
                    "tool_use_id": "t1",
                    "is_error": True,
                    "content": [{"type": "text", "text": "no"}],
                },
                {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}},
                {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}},
            ],
        },
    ]
    tools = [{"name": "weather", "description": "d", "input_schema": {"type": "object"}}]
    told = said(messages=asked, tools=tools, tool_choice={"type": "tool", "name": "weather"})
    call = {"id": "t1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Oslo"}'}}
    assert told["messages"] == [
        {"role": "user", "content": "Weather?"},
        {"role": "assistant", "content": "Looking.", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "t1", "content": "Error: no"},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "and this"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
                {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
            ],
        },
    ]
    assert told["tools"] == [
        {"type": "function", "function": {"name": "weather", "description": "d", "parameters": {"type": "object"}}}
    ]
    assert told["tool_choice"] == {"type": "function", "function": {"name": "weather"}}


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ({"type": "auto"}, {"tool_choice": "auto"}),
        ({"type": "any", "disable_parallel_tool_use": True}, {"tool_choice": "required", "parallel_tool_calls": False}),
        ({"type": "none"}, {"tool_choice": "none"}),
    ],
)
def test_a_choice_of_tools_is_said_in_the_others_words(choice: dict, expected: dict) -> None:
    told = said(tool_choice=choice)
    assert {name: told[name] for name in expected} == expected


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"messages": []}, "messages"),
        ({"max_tokens": None}, "max_tokens"),
        ({"messages": [{"role": "bot", "content": "x"}]}, "messages.0.role"),
        ({"messages": [{"role": "user"}]}, "messages.0.content"),
        ({"messages": [{"role": "user", "content": [{"type": "document"}]}]}, "messages.0.content.0.type"),
        ({"messages": [{"role": "user", "content": [7]}]}, "messages.0.content.0.type"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image", "source": {"type": "file"}}]}]},
            "messages.0.content.0.source.type",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "image", "source": "a.png"}]}]},
            "messages.0.content.0.source",
        ),
        ({"system": 7}, "system"),
        ({"metadata": []}, None),
        ({"metadata": "x"}, "metadata"),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools.0.type"),
        ({"tools": [{}]}, "tools.0.name"),
        ({"tool_choice": "auto"}, "tool_choice.type"),
        ({"mcp_servers": [{"url": "https://example.com"}]}, "mcp_servers"),
    ],
)
def test_what_cannot_be_said_is_refused_by_name(more: dict, param: str | None) -> None:
    if param is None:
        assert said(**more)
        return
    with pytest.raises(InvalidRequest) as refused:
        said(**more)
    assert refused.value.param == param


@pytest.mark.parametrize("body", [b"[]", b"{", b"7", b""])
def test_a_body_that_is_no_object_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidRequest):
        chat_body(body)


def test_a_body_that_is_nested_too_deeply_is_refused() -> None:
    deep = b"[" * 400 + b"]" * 400
    with pytest.raises(InvalidRequest, match="nested"):
        chat_body(b'{"max_tokens": 1, "messages": [{"role": "user", "content": "x"}], "gateway_x": %b}' % deep)


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


def test_events_may_be_cut_anywhere_and_lines_may_end_in_both_ways() -> None:
    stream = b"".join(b"data: " + orjson.dumps(one) + b"\r\n\r\n" for one in (delta(content="\u2028ü"), delta("stop")))
    whole, cut = events(stream), events(*(stream[at : at + 1] for at in range(len(stream))))
    assert whole == cut
    assert whole[2]["delta"]["text"] == "\u2028ü"


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
