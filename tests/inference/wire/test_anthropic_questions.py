"""What Anthropic's clients ask, as a chat completion and in their own words."""

from __future__ import annotations

import orjson
import pytest

from inference.errors import InvalidRequest
from inference.wire.anthropic_questions import question
from inference.wire.dialects import Messages

ASKED = {"model": "m", "max_tokens": 10, "messages": [{"role": "user", "content": "hi"}]}


def said(**more: object) -> dict:
    return orjson.loads(question(orjson.dumps({**ASKED, **more}))[0])


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
    told = said(gateway_strategy="balanced", top_k=4, speed="fast", service_tier="auto", cache_control={})
    assert told["gateway_strategy"] == "balanced"
    assert not {"top_k", "speed", "service_tier", "cache_control"} & told.keys()


@pytest.mark.parametrize(
    ("thinking", "effort", "expected"),
    [
        ({"type": "enabled", "budget_tokens": 1024}, None, "low"),
        ({"type": "enabled", "budget_tokens": 10_000}, None, "medium"),
        ({"type": "enabled", "budget_tokens": 32_000}, None, "high"),
        ({"type": "adaptive"}, "max", "high"),
        ({"type": "adaptive"}, None, None),
        ({"type": "disabled"}, "high", None),
        (None, "high", None),
    ],
)
def test_thinking_becomes_an_effort_where_it_is_asked_for(thinking, effort, expected) -> None:
    config = {"effort": effort} if effort else {}
    told, native = question(orjson.dumps({**ASKED, "thinking": thinking, "output_config": config}))
    thinker, other = (native.completed({}, local=False, thinks=thinks) for thinks in (True, False))
    assert [orjson.loads(bytes(raw)) for raw in thinker.values()] == ([expected] if expected else [])
    assert not other
    assert b"effort" not in told


def test_what_the_system_says_is_one_message_at_the_head_and_a_reminder_once_the_model_has_answered() -> None:
    call = {"type": "tool_use", "id": "t", "name": "look", "input": {}}
    told = said(
        system=[
            {"type": "text", "text": "x-anthropic-billing-header: cc_version=2.1;"},
            {"type": "text", "text": "Be brief."},
        ],
        messages=[
            {"role": "user", "content": "hi"},
            {"role": "system", "content": "Agents: none."},
            {"role": "assistant", "content": [call]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": "sea"}]},
            {"role": "system", "content": [{"type": "text", "text": "It is late."}]},
        ],
    )
    assert told["messages"][:2] == [
        {"role": "system", "content": "Be brief.\n\nAgents: none."},
        {"role": "user", "content": "hi"},
    ]
    assert told["messages"][-1] == {
        "role": "tool",
        "tool_call_id": "t",
        "content": "sea\n\n<system-reminder>\nIt is late.\n</system-reminder>",
    }


def test_a_system_prompt_that_says_nothing_to_a_model_is_none() -> None:
    bill = [{"type": "text", "text": "x-anthropic-billing-header: cc_version=2.1;"}]
    assert said(system=bill)["messages"] == ASKED["messages"]


def test_a_reminder_stands_in_the_users_turn_or_makes_one() -> None:
    picture = {"type": "image", "source": {"type": "url", "url": "https://x.test/a.png"}}
    answer, late = {"role": "assistant", "content": "sea"}, {"role": "system", "content": "Late."}
    for last in ({"role": "user", "content": [picture]}, {"role": "user", "content": "and?"}, answer):
        told = said(messages=[{"role": "user", "content": "hi"}, answer, last, late])["messages"]
        assert {message["role"] for message in told} == {"user", "assistant"}
        assert told[-1]["role"] == "user"
        assert "Late." in str(told[-1]["content"])


def test_the_shape_of_the_answer_is_asked_for_in_the_others_words() -> None:
    schema = {"type": "object", "properties": {}}
    told = said(output_config={"format": {"type": "json_schema", "schema": schema}})
    assert told["response_format"]["json_schema"]["schema"] == schema


def test_only_a_schema_that_requires_all_its_members_is_to_be_followed_to_the_letter() -> None:
    def strict(**schema: object) -> tuple[bool, bool]:
        told = said(
            output_config={"format": {"type": "json_schema", "schema": schema}},
            tools=[{"name": "look", "strict": True, "input_schema": schema}],
        )
        return told["response_format"]["json_schema"]["strict"], told["tools"][0]["function"].get("strict", False)

    inner = {"type": "object", "properties": {"a": {"type": "string"}}, "additionalProperties": False}
    whole = {**inner, "required": ["a"]}
    assert strict(**whole) == strict(**whole, **{"$defs": {"one": whole}}) == (True, True)
    assert strict(**inner) == strict(**whole, **{"$defs": {"one": inner}}) == (False, False)
    assert strict(**{**whole, "properties": {"a": {"type": "array", "items": inner}}}) == (False, False)


def test_its_own_words_are_kept_without_the_gateways_and_with_its_headers() -> None:
    body = orjson.dumps({**ASKED, "gateway_strategy": "balanced", "session_id": "s", "top_k": 4})
    native = question(body, (("anthropic-beta", "x"),))[1]
    assert {name: orjson.loads(bytes(raw)) for name, raw in native.fields.items()} == {**ASKED, "top_k": 4}
    assert (native.api, native.headers, native.untranslatable) == ("messages", (("anthropic-beta", "x"),), None)


def test_documents_of_text_and_search_results_are_read_as_text() -> None:
    blocks = [
        {"type": "document", "title": "Notes", "source": {"type": "text", "media_type": "text/plain", "data": "one"}},
        {"type": "document", "source": {"type": "content", "content": [{"type": "text", "text": "two"}]}},
        {"type": "search_result", "title": "T", "source": "S", "content": [{"type": "text", "text": "three"}]},
    ]
    told = said(messages=[{"role": "user", "content": blocks}])
    assert told["messages"][0]["content"] == "Notes\none\n\ntwo\n\nT\nS\nthree"


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"messages": [{"role": "user", "content": [{"type": "document"}]}]}, "messages.0.content.0.type"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image", "source": {"type": "file"}}]}]},
            "messages.0.content.0.source.type",
        ),
        (
            {"messages": [{"role": "assistant", "content": [{"type": "server_tool_use"}]}]},
            "messages.0.content.0.type",
        ),
        (
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [{"type": "document", "source": {"type": "file", "file_id": "file-1"}}],
                    }
                ]
            },
            "messages.0.content.0.source.type",
        ),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools.0.type"),
        ({"mcp_servers": [{"url": "https://example.com"}]}, "mcp_servers"),
        ({"container": "c"}, "container"),
    ],
)
def test_what_only_its_own_protocol_can_say_is_told_by_name(more: dict, param: str) -> None:
    completion, native = question(orjson.dumps({**ASKED, **more}))
    assert native.untranslatable.param == param
    assert orjson.loads(completion)["messages"]


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
    told = said(tool_choice=choice, tools=[{"name": "weather", "input_schema": {"type": "object"}}])
    assert {name: told[name] for name in expected} == expected
    assert not expected.keys() & said(tool_choice=choice).keys()  # among none there is no choice


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"messages": []}, "messages"),
        ({"tool_choice": {"type": []}}, "tool_choice.type"),
        ({"max_tokens": None}, "max_tokens"),
        ({"messages": [{"role": "bot", "content": "x"}]}, "messages.0.role"),
        ({"messages": [{"role": "user"}]}, "messages.0.content"),
        ({"messages": [{"role": "user", "content": [7]}]}, "messages.0.content.0.type"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image", "source": "a.png"}]}]},
            "messages.0.content.0.source",
        ),
        ({"system": 7}, "system"),
        ({"metadata": []}, None),
        ({"metadata": "x"}, "metadata"),
        ({"tools": [{}]}, "tools.0.name"),
        ({"tool_choice": "auto"}, "tool_choice.type"),
    ],
)
def test_what_is_wrong_is_refused_by_name(more: dict, param: str | None) -> None:
    if param is None:
        assert said(**more)
        return
    with pytest.raises(InvalidRequest) as refused:
        said(**more)
    assert refused.value.param == param


@pytest.mark.parametrize("body", [b"[]", b"{", b"7", b""])
def test_a_body_that_is_no_object_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidRequest):
        question(body)


def test_a_body_that_is_nested_too_deeply_is_refused() -> None:
    deep = b"[" * 400 + b"]" * 400
    with pytest.raises(InvalidRequest, match="nested"):
        question(b'{"max_tokens": 1, "messages": [{"role": "user", "content": "x"}], "gateway_x": %b}' % deep)


def test_a_name_that_is_too_long_for_others_comes_back_whole() -> None:
    name = f"mcp__{'x' * 80}__look"
    used = {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": name, "input": {}}]}
    dialect = Messages((), "7")
    asked = {**ASKED, "messages": [*ASKED["messages"], used], "tools": [{"name": name, "input_schema": {}}]}
    told = orjson.loads(dialect.question(orjson.dumps({**asked, "tool_choice": {"type": "tool", "name": name}})))
    [short] = {
        told["tools"][0]["function"]["name"],
        told["messages"][1]["tool_calls"][0]["function"]["name"],
        told["tool_choice"]["function"]["name"],
    }
    assert len(short) <= 64
    call = {"index": 0, "id": "t", "function": {"name": short, "arguments": "{}"}}
    whole = dialect.answer(orjson.dumps({"choices": [{"message": {"tool_calls": [call]}}]}))
    streamed = dialect.piece(b"data: " + orjson.dumps({"choices": [{"delta": {"tool_calls": [call]}}]}) + b"\n\n")
    assert orjson.loads(whole)["content"][0]["name"] == name
    assert name.encode() in streamed


def test_of_deferred_tools_a_model_is_shown_those_that_were_found() -> None:
    tools = [{"name": "search"}, {"name": "add", "defer_loading": True}, {"name": "other", "defer_loading": True}]
    call = {"type": "tool_use", "id": "t", "name": "search", "input": {"query": "add"}}
    found = {"type": "tool_result", "tool_use_id": "t", "content": [{"type": "tool_reference", "tool_name": "add"}]}
    conversation = [*ASKED["messages"], {"role": "assistant", "content": [call]}, {"role": "user", "content": [found]}]
    assert [tool["function"]["name"] for tool in said(tools=tools)["tools"]] == ["search"]
    told = said(tools=tools, messages=conversation)
    assert [tool["function"]["name"] for tool in told["tools"]] == ["search", "add"]
    assert told["messages"][-1] == {"role": "tool", "tool_call_id": "t", "content": "The tool add can be called now."}
