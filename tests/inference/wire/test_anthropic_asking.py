"""A chat completion asked in Anthropic's words."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from inference.errors import InvalidRequest
from inference.wire.anthropic_asking import DEFAULT_MAX_TOKENS, messages_body

HI = [{"role": "user", "content": "hi"}]
MARK = {"type": "ephemeral"}
OLD, NEW = "claude-haiku-4-5-20251001", "claude-opus-4-8"


def said(model: str = OLD, most: int | None = None, *, samples: bool = True, **told: Any) -> dict[str, Any]:
    return orjson.loads(messages_body({"messages": HI, **told}, model, most, stream=False, samples=samples))


def turns(*messages: dict[str, Any], **told: Any) -> list[dict[str, Any]]:
    return said(messages=list(messages), **told)["messages"]


def call(name: str, arguments: str, call_id: str = "t1") -> dict[str, Any]:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def text(words: str) -> dict[str, str]:
    return {"type": "text", "text": words}


def test_a_plain_question_keeps_its_words_and_gets_a_limit() -> None:
    assert said(messages=[{"role": "developer", "content": "Be brief."}, *HI], stop="x", user="u", temperature=0.2) == {
        "model": OLD,
        "system": [text("Be brief.")],
        "messages": [{"role": "user", "content": [text("hi")]}],
        "max_tokens": DEFAULT_MAX_TOKENS,
        "stop_sequences": ["x"],
        "metadata": {"user_id": "u"},
        "temperature": 0.2,
    }


def test_what_anthropic_refuses_is_left_out_and_what_it_alone_knows_goes_along() -> None:
    told = said(
        frequency_penalty=1,
        seed=4,
        logprobs=True,
        n=1,
        metadata={"a": "b"},
        store=True,
        top_k=5,
        mcp_servers=[{"url": "https://example.com"}],
        service_tier="flex",
        stop=[" ", "x"],
    )
    assert told.keys() == {"model", "messages", "max_tokens", "top_k", "mcp_servers", "stop_sequences"}
    assert told["stop_sequences"] == ["x"]


@pytest.mark.parametrize(
    ("told", "most", "expected"),
    [
        ({}, None, DEFAULT_MAX_TOKENS),
        ({}, 4096, 4096),
        ({"max_tokens": 100}, 4096, 100),
        ({"max_completion_tokens": 9000, "max_tokens": 10}, 4096, 4096),
    ],
)
def test_the_limit_is_the_clients_within_that_of_the_model(told: dict, most: int | None, expected: int) -> None:
    assert said(most=most, **told)["max_tokens"] == expected


def test_a_conversation_with_tools_and_pictures_is_said_in_turns() -> None:
    told = turns(
        {"role": "user", "content": [text("Weather?"), {"type": "image_url", "image_url": {"url": "https://x/a.png"}}]},
        {"role": "assistant", "content": None, "tool_calls": [call("w", '{"a":1}'), call("w", "{broken", "t2")]},
        {"role": "tool", "tool_call_id": "t1", "content": "sunny"},
        {"role": "tool", "tool_call_id": "t2", "content": [text("rain")]},
        {"role": "user", "content": [text(""), {"type": "image_url", "image_url": "data:image/jpg;base64,AAAA"}]},
    )
    assert told == [
        {
            "role": "user",
            "content": [text("Weather?"), {"type": "image", "source": {"type": "url", "url": "https://x/a.png"}}],
        },
        {
            "role": "assistant",
            "content": [
                {"type": "tool_use", "id": "t1", "name": "w", "input": {"a": 1}},
                {"type": "tool_use", "id": "t2", "name": "w", "input": {"arguments": "{broken"}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "t1", "content": "sunny"},
                {"type": "tool_result", "tool_use_id": "t2", "content": [text("rain")]},
                {"type": "image", "source": {"type": "base64", "media_type": "image/jpeg", "data": "AAAA"}},
            ],
        },
    ]


def test_marks_for_the_cache_go_along_wherever_they_are_put() -> None:
    marked = {"cache_control": MARK}
    tool = {"type": "function", "function": {"name": "w"}, **marked}
    told = said(
        messages=[
            {"role": "system", "content": [{**text("long"), **marked}]},
            {"role": "user", "content": "hi", **marked},
        ],
        tools=[tool],
    )
    assert told["system"][0]["cache_control"] == told["messages"][0]["content"][0]["cache_control"] == MARK
    assert told["tools"][0]["cache_control"] == MARK


def test_instructions_alone_are_the_question() -> None:
    told = said(messages=[{"role": "system", "content": "Say hi."}])
    assert told["messages"] == [{"role": "user", "content": [text("Say hi.")]}]
    assert "system" not in told


def test_an_answer_that_is_begun_does_not_end_in_blanks() -> None:
    assert turns(*HI, {"role": "assistant", "content": "It is \n"})[-1]["content"] == [text("It is")]


def test_a_file_that_is_sent_whole_is_a_document() -> None:
    part = {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,AAAA"}}
    [block] = turns({"role": "user", "content": [part]})[0]["content"]
    assert (block["type"], block["title"], block["source"]["data"]) == ("document", "a.pdf", "AAAA")


@pytest.mark.parametrize(
    ("choice", "parallel", "expected"),
    [
        (None, None, None),
        ("auto", None, {"type": "auto"}),
        ("required", None, {"type": "any"}),
        ("none", False, {"type": "none"}),
        (None, False, {"type": "auto", "disable_parallel_tool_use": True}),
        ({"type": "function", "function": {"name": "w"}}, None, {"type": "tool", "name": "w"}),
    ],
)
def test_a_choice_of_tools_is_said_in_its_words(choice: Any, parallel: bool | None, expected: Any) -> None:
    tools = [{"type": "function", "function": {"name": "w", "description": "d"}}]
    told = said(tools=tools, tool_choice=choice, parallel_tool_calls=parallel)
    assert told["tools"] == [{"name": "w", "description": "d", "input_schema": {"type": "object"}}]
    assert told.get("tool_choice") == expected


def test_calls_of_the_past_have_their_tools_beside_also_when_none_is_offered() -> None:
    told = said(
        messages=[
            *HI,
            {"role": "assistant", "tool_calls": [call("w", "{}")]},
            {"role": "tool", "tool_call_id": "t1", "content": "sunny"},
        ]
    )
    assert (told["tools"][0]["name"], told["tool_choice"]) == ("w", {"type": "none"})


def test_a_schema_is_asked_for_with_closed_objects_and_json_in_words() -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer", "minimum": 1}}}
    told = said(response_format={"type": "json_schema", "json_schema": {"name": "a", "schema": schema}})
    assert told["output_config"]["format"]["schema"] == {
        "type": "object",
        "properties": {"n": {"type": "integer"}},
        "additionalProperties": False,
    }
    assert "JSON" in said(response_format={"type": "json_object"})["system"][0]["text"]


@pytest.mark.parametrize(
    ("model", "told", "thinking", "effort"),
    [
        (OLD, {"reasoning_effort": "low"}, {"type": "enabled", "budget_tokens": 2048}, None),
        (OLD, {"reasoning_effort": "high", "max_tokens": 4096}, {"type": "enabled", "budget_tokens": 2048}, None),
        (OLD, {"reasoning_effort": "high", "max_tokens": 1500}, None, None),
        (OLD, {"reasoning_effort": "none"}, None, None),
        (NEW, {"reasoning_effort": "minimal"}, {"type": "adaptive"}, "low"),
        (NEW, {"reasoning_effort": "xhigh"}, {"type": "adaptive"}, "xhigh"),
        ("claude-sonnet-4-6", {"reasoning_effort": "xhigh"}, {"type": "adaptive"}, "high"),
        (NEW, {"reasoning_effort": "none"}, {"type": "disabled"}, None),
        (NEW, {"reasoning_effort": "low", "thinking": {"type": "disabled"}}, {"type": "disabled"}, None),
    ],
)
def test_an_effort_is_told_in_the_form_that_the_model_knows(model, told, thinking, effort) -> None:
    answer = said(model, **told)
    assert answer.get("thinking") == thinking
    assert answer.get("output_config", {}).get("effort") == effort


def test_a_limit_that_nobody_set_leaves_room_beside_the_thoughts() -> None:
    thinking = {"type": "enabled", "budget_tokens": 16_000}
    assert said(OLD, thinking=thinking)["max_tokens"] == 16_000 + DEFAULT_MAX_TOKENS
    assert said(OLD, thinking=thinking, max_tokens=20_000)["max_tokens"] == 20_000


def test_calls_of_another_vendors_model_have_ids_that_anthropic_takes() -> None:
    made = {**call("w", "{}"), "id": "functions.w:0"}
    result = {"role": "tool", "tool_call_id": "functions.w:0", "content": "sunny"}
    turns = said(messages=[*HI, {"role": "assistant", "tool_calls": [made]}, result])["messages"]
    assert turns[1]["content"][0]["id"] == turns[2]["content"][0]["tool_use_id"] == "functions_w_0"


def test_a_turn_that_follows_a_call_thinks_only_when_its_thought_came_back() -> None:
    signed = {"type": "thinking", "thinking": "hm", "signature": "s"}
    result = {"role": "tool", "tool_call_id": "t1", "content": "sunny"}
    lost = [*HI, {"role": "assistant", "tool_calls": [call("w", "{}")]}, result]
    kept = [*HI, {"role": "assistant", "thinking_blocks": [signed], "tool_calls": [call("w", "{}")]}, result]
    assert "thinking" not in said(messages=lost, reasoning_effort="high")
    answer = said(messages=kept, reasoning_effort="high")
    assert answer["thinking"]["type"] == "enabled"
    assert answer["messages"][1]["content"][0] == signed


@pytest.mark.parametrize(
    ("model", "told", "expected"),
    [
        (OLD, {"temperature": 1.7}, {"temperature": 1}),
        (OLD, {"temperature": 0.5, "top_p": 0.9}, {"temperature": 0.5}),
        (OLD, {"top_p": 0.9}, {"top_p": 0.9}),
        (OLD, {"temperature": 0.5, "reasoning_effort": "low"}, {}),
        (NEW, {"temperature": 0.5}, {}),
        ("kimi-k2", {"temperature": 0.5}, {"temperature": 0.5}),
    ],
)
def test_a_temperature_is_told_to_those_who_take_one(model: str, told: dict, expected: dict) -> None:
    answer = said(model, **told)
    assert {name: answer[name] for name in ("temperature", "top_p") if name in answer} == expected
    assert "temperature" not in said(model, samples=False, **told)


@pytest.mark.parametrize(
    ("told", "param"),
    [
        ({"n": 2}, "n"),
        ({"messages": [{"role": "assistant", "tool_calls": 3}]}, "messages[0].tool_calls"),
        ({"messages": [{"role": "bot", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]}, "messages[0].content[0].type"),
        (
            {"messages": [{"role": "user", "content": [{"type": "file", "file": {"file_id": "f"}}]}]},
            "messages[0].content[0].file.file_data",
        ),
        ({"tools": [{"type": "custom", "custom": {"name": "w"}}]}, "tools[0]"),
        ({"tools": [{"type": "function", "function": {"name": "w"}}], "tool_choice": "all"}, "tool_choice"),
        ({"response_format": {"type": "json_schema"}}, "response_format"),
    ],
)
def test_what_the_model_cannot_do_is_refused_by_name(told: dict, param: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        said(**told)
    assert refused.value.param == param
