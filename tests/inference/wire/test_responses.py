"""The Responses API said as a chat completion: what each member becomes, and what only an upstream that speaks it may be asked."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from inference.errors import InvalidRequest
from inference.wire import responses
from inference.wire.responses import Asked
from inference.wire.responses_names import MOST_LETTERS, said_name

ASKED = {"model": "m", "input": "Hello"}


def asked(**more: Any) -> Asked:
    return responses.read(orjson.dumps({**ASKED, **more}))


def said(**more: Any) -> dict[str, Any]:
    translation = responses.chat_body(asked(**more))
    assert translation.untold is None
    return orjson.loads(translation.body)


def messages(*items: dict[str, Any], **more: Any) -> list[dict[str, Any]]:
    return said(input=list(items), **more)["messages"]


CALL = {"type": "function_call", "call_id": "c1", "name": "look", "arguments": '{"at":"sea"}'}
SEALED = {"type": "encrypted_content", "encrypted_content": "gAAAAABo0-sealed"}
OUTPUT = {"type": "function_call_output", "call_id": "c1", "output": "blue"}


def test_a_text_becomes_the_users_message() -> None:
    assert said(instructions="Be kind.")["messages"] == [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "Hello"},
    ]


def test_items_become_messages_and_calls_stand_right_before_their_answers() -> None:
    told = messages(
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "input_text", "text": "What colour?"}]},
        {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "sealed"},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Looking."}]},
        CALL,
        {**CALL, "call_id": "c2"},
        OUTPUT,
        {**OUTPUT, "call_id": "c2", "output": [{"type": "input_text", "text": "grey"}]},
    )
    assert [message["role"] for message in told] == ["system", "user", "assistant", "tool", "tool"]
    assert told[2]["content"] == "Looking."
    assert [call["id"] for call in told[2]["tool_calls"]] == ["c1", "c2"]
    assert told[2]["tool_calls"][0]["function"] == {"name": "look", "arguments": '{"at":"sea"}'}
    assert [message["content"] for message in told[3:]] == ["blue", "grey"]


def test_what_the_developer_says_at_first_is_one_message() -> None:
    told = messages(
        {"role": "developer", "content": "Be brief."},
        {"role": "developer", "content": "Be kind."},
        {"role": "user", "content": "Hello"},
        {"role": "developer", "content": "It is late."},
        instructions="You help.",
    )
    assert [message["content"] for message in told] == ["You help.\n\nBe brief.\n\nBe kind.", "Hello", "It is late."]


def test_what_the_developer_says_after_a_picture_of_his_is_a_message_of_its_own() -> None:
    shown = [
        {"type": "input_text", "text": "Our logo:"},
        {"type": "input_image", "image_url": "data:image/png;base64,AA"},
    ]
    told = messages({"role": "developer", "content": shown}, {"role": "developer", "content": "Be kind."})
    assert [part["type"] for part in told[0]["content"]] == ["text", "image_url"]
    assert told[1:] == [{"role": "system", "content": "Be kind."}]


def test_pictures_are_shown_and_those_of_a_tool_follow_its_answer() -> None:
    picture = {"type": "input_image", "image_url": "data:image/png;base64,AA", "detail": "low"}
    shown = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA", "detail": "low"}}
    told = messages({"role": "user", "content": [picture]}, CALL, {**OUTPUT, "output": [picture]})
    assert told[0]["content"] == [shown]
    assert told[2:] == [
        {"role": "tool", "tool_call_id": "c1", "content": ""},
        {"role": "user", "content": [shown]},
    ]


def test_a_custom_tool_is_a_function_with_one_text() -> None:
    grammar = {"type": "grammar", "syntax": "lark", "definition": "start: WORD"}
    told = said(
        tools=[{"type": "custom", "name": "patch", "description": "Edits.", "format": grammar}],
        tool_choice={"type": "custom", "name": "patch"},
        input=[
            {"type": "custom_tool_call", "call_id": "c1", "name": "patch", "input": "*** Begin"},
            {"type": "custom_tool_call_output", "call_id": "c1", "output": "done"},
        ],
    )
    [tool] = told["tools"]
    assert "start: WORD" in tool["function"]["description"]
    assert tool["function"]["parameters"]["required"] == ["input"]
    assert told["tool_choice"]["function"]["name"] == "patch"
    [call] = told["messages"][0]["tool_calls"]
    assert orjson.loads(call["function"]["arguments"]) == {"input": "*** Begin"}


def test_wishes_are_said_in_a_chat_completions_words() -> None:
    schema = {"type": "json_schema", "name": "n", "schema": {"type": "object"}, "strict": True}
    told = said(
        text={"format": schema, "verbosity": "low"},
        reasoning={"effort": "high", "summary": "auto"},
        max_output_tokens=7,
        top_logprobs=2,
        include=["message.output_text.logprobs", "reasoning.encrypted_content"],
        safety_identifier="u1",
        metadata={"tags": "a, b", "other": "x"},
        prompt_cache_key="k",
        truncation="auto",
        store=False,
        stream=True,
    )
    assert told["response_format"]["json_schema"] == {"name": "n", "schema": {"type": "object"}, "strict": True}
    assert (told["verbosity"], told["reasoning_effort"], told["max_tokens"]) == ("low", "high", 7)
    assert (told["logprobs"], told["top_logprobs"], told["user"]) == (True, 2, "u1")
    assert told["metadata"] == {"tags": ["a", " b"]}
    assert told["stream_options"] == {"include_usage": True}
    assert not {"prompt_cache_key", "truncation", "store", "include", "text", "reasoning", "input"} & told.keys()


def test_allowed_tools_are_the_only_ones_that_are_offered() -> None:
    tools = [{"type": "function", "name": name, "parameters": {}} for name in ("a", "b")]
    choice = {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "b"}]}
    told = said(tools=tools, tool_choice=choice)
    assert [tool["function"]["name"] for tool in told["tools"]] == ["b"]
    assert told["tool_choice"] == "required"


@pytest.mark.parametrize(
    ("more", "named"),
    [
        ({"tools": [{"type": "web_search"}]}, "web_search"),
        ({"tools": [{"type": "function", "name": "f"}], "tool_choice": {"type": "file_search"}}, "file_search"),
        ({"input": [{"role": "user", "content": [{"type": "input_file", "file_id": "f"}]}]}, "input_file"),
        ({"input": [{"type": "computer_call_output", "call_id": "c"}]}, "computer_call_output"),
        ({"input": [{"type": "agent_message", "content": [SEALED]}]}, "encrypted_content"),
        ({"prompt": {"id": "p"}, "input": None}, "prompt"),
        ({"tools": [{"type": "namespace", "name": "n", "tools": [{"type": "web_search"}]}]}, "web_search"),
    ],
)
def test_what_no_chat_completion_can_say_is_named(more: dict[str, Any], named: str) -> None:
    untold = responses.chat_body(asked(**more)).untold
    assert untold is not None
    assert named in untold.message


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"input": None}, "input"),
        ({"input": 5}, "input"),
        ({"input": ["x"]}, "input[0]"),
        ({"input": [{"role": "king", "content": "x"}]}, "input[0].role"),
        ({"input": [{"role": "user", "content": [{}]}]}, "input[0].content[0].type"),
        ({"tools": [{}]}, "tools[0].type"),
        ({"tools": {}}, "tools"),
        ({"tools": [{"type": "namespace", "name": "n", "tools": [{"type": "custom"}]}]}, "tools[0].tools[0].name"),
        ({"tools": [{"type": "namespace", "name": "n"}]}, "tools[0].tools"),
        ({"input": [{"type": "additional_tools"}]}, "input[0].tools"),
        ({"text": "x"}, "text"),
        ({"text": {"format": {"type": "xml"}}}, "text.format.type"),
        ({"store": "no"}, "store"),
        ({"include": [1]}, "include"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"tools": [{"type": "function", "name": "f"}], "tool_choice": "maybe"}, "tool_choice"),
        *(
            ({"tools": [{"type": "function", "name": "f"}], "tool_choice": choice}, "tool_choice.tools")
            for choice in (
                {"type": "allowed_tools", "tools": [{"type": "namespace", "name": ""}]},
                {"type": "allowed_tools", "tools": [{"type": "namespace", "name": ["f"]}]},
            )
        ),
    ],
)
def test_what_is_wrong_is_named(more: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        responses.chat_body(asked(**more))
    assert refused.value.param == param


def test_a_stateless_clients_own_words_pass_byte_for_byte() -> None:
    body = b'{"model":"m","input":[{"type":"reasoning","encrypted_content":"s"}],"store":false,"x":{"y": 1.0},"gateway_strategy":"s"}'
    fields = responses.native_fields(responses.read(body))
    assert bytes(fields["input"]) == b'[{"type":"reasoning","encrypted_content":"s"}]'
    assert bytes(fields["x"]) == b'{"y": 1.0}'
    assert bytes(fields["store"]) == b"false"
    assert "gateway_strategy" not in fields


def test_a_conversation_that_is_kept_here_is_told_whole_and_kept_nowhere_else() -> None:
    question = asked(previous_response_id="resp_1", background=True)
    answer = {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": []}
    thoughts = [
        {"type": "reasoning", "id": "rs_1", "summary": []},
        {"type": "reasoning", "id": "rs_2", "encrypted_content": "s"},
    ]
    question.resolve([*thoughts, answer], {})
    fields = responses.native_fields(question)
    assert not {"previous_response_id", "background"} & fields.keys()
    assert bytes(fields["store"]) == b"false"
    told = orjson.loads(bytes(fields["input"]))
    assert [item.get("id") for item in told] == ["rs_2", None, None]
    assert told[2]["content"][0]["text"] == "Hello"


def test_items_that_are_only_named_are_put_in_their_place() -> None:
    question = asked(input=[{"type": "item_reference", "id": "msg_1"}])
    question.resolve([], {"msg_1": {"type": "message", "id": "msg_1", "role": "user", "content": "Before"}})
    assert orjson.loads(responses.chat_body(question).body)["messages"] == [{"role": "user", "content": "Before"}]
    with pytest.raises(InvalidRequest, match="'msg_2' not found"):
        asked(input=[{"type": "item_reference", "id": "msg_2"}]).resolve([], {})


def test_what_another_agent_says_is_a_users_message() -> None:
    head = {"type": "input_text", "text": "Sender: /root"}
    task = {"type": "encrypted_content", "encrypted_content": "Look."}
    sent = {"type": "agent_message", "author": "/root", "recipient": "/root/helper", "content": [head, task]}
    assert messages(sent) == [{"role": "user", "content": "Sender: /root\n\nLook."}]


ADD = {"type": "function", "name": "add", "description": "Adds.", "parameters": {"type": "object"}}
CALC = {
    "type": "namespace",
    "name": "mcp__calc",
    "description": "Sums.",
    "tools": [ADD, {"type": "custom", "name": "run"}],
}


def test_tools_of_a_namespace_are_functions_of_one_name_each() -> None:
    told = said(
        tools=[{"type": "function", "name": "add"}, CALC],
        tool_choice={"type": "function", "name": "add", "namespace": "mcp__calc"},
        input=[{**CALL, "name": "add", "namespace": "mcp__calc"}, OUTPUT],
    )
    functions = [tool["function"] for tool in told["tools"]]
    assert [function["name"] for function in functions] == ["add", "mcp__calc__add", "mcp__calc__run"]
    assert [function.get("description", "") for function in functions] == ["", "Sums.\n\nAdds.", ""]
    assert told["messages"][0]["tool_calls"][0]["function"]["name"] == "mcp__calc__add"
    assert told["tool_choice"]["function"]["name"] == "mcp__calc__add"


def test_a_namespace_may_be_all_that_is_allowed() -> None:
    choice = {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "namespace", "name": "mcp__calc"}]}
    told = said(tools=[{"type": "function", "name": "add"}, CALC], tool_choice=choice)
    assert [tool["function"]["name"] for tool in told["tools"]] == ["mcp__calc__add", "mcp__calc__run"]


def test_tools_that_the_conversation_brings_along_are_offered_once_and_are_no_message() -> None:
    brought = {"type": "additional_tools", "role": "developer", "tools": [CALC]}
    later = {**brought, "tools": [{**ADD, "description": "Adds more."}]}
    told = said(
        tools=[{"type": "function", "name": "look"}],
        input=[brought, {"role": "user", "content": "1+1"}, brought, later],
    )
    assert [tool["function"]["name"] for tool in told["tools"]] == ["look", "mcp__calc__add", "mcp__calc__run", "add"]
    assert told["messages"] == [{"role": "user", "content": "1+1"}]


def test_names_that_are_too_long_together_are_cut_and_stay_apart() -> None:
    names = [said_name("n" * 60 + end, "space") for end in ("a", "b")]
    assert len({*names}) == 2
    assert all(len(name) == MOST_LETTERS for name in names)
