from __future__ import annotations

from typing import Any

import orjson
import pytest

from inference.errors import InvalidRequest
from inference.wire import ollama
from inference.wire.openai import CHAT, COMPLETIONS

HELLO = [{"role": "user", "content": "hello"}]
PIXEL = "iVBORw0KGgo="


def asked(read: Any, **told: Any) -> tuple[dict[str, Any], ollama.Question]:
    question = read(orjson.dumps({"model": "m", **told}))
    return orjson.loads(question.body), question


def test_a_chat_streams_unless_it_says_otherwise() -> None:
    said, question = asked(ollama.chat, messages=HELLO)
    assert said == {"model": "m", "messages": HELLO, "stream": True, "stream_options": {"include_usage": True}}
    assert question.stream
    said, question = asked(ollama.chat, messages=HELLO, stream=False)
    assert said == {"model": "m", "messages": HELLO}
    assert not question.stream


def test_options_are_said_in_openais_words_where_it_has_some() -> None:
    options = {"temperature": 0, "top_p": 0.5, "seed": 3, "stop": ["x"], "num_predict": 9, "top_k": 4, "num_ctx": 99}
    said, question = asked(ollama.chat, messages=HELLO, options=options, keep_alive="5m")
    assert {name: said[name] for name in ("temperature", "top_p", "seed", "stop", "max_tokens")} == {
        "temperature": 0,
        "top_p": 0.5,
        "seed": 3,
        "stop": ["x"],
        "max_tokens": 9,
    }
    assert not {"top_k", "num_ctx", "keep_alive", "options"} & said.keys()
    assert orjson.loads(bytes(question.native.fields["options"])) == options
    assert "max_tokens" not in asked(ollama.chat, messages=HELLO, options={"num_predict": -1})[0]


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ({"format": "json"}, {"response_format": {"type": "json_object"}}),
        (
            {"format": {"type": "object"}},
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "response", "schema": {"type": "object"}},
                }
            },
        ),
        ({"format": ""}, {}),
        ({"think": "max"}, {"reasoning_effort": "high"}),
        ({"think": True}, {}),
        ({"logprobs": True, "top_logprobs": 3}, {"logprobs": True, "top_logprobs": 3}),
        ({"logprobs": False, "top_logprobs": 3}, {}),
        ({"user": "u", "keep_alive": -1, "truncate": True}, {"user": "u"}),
    ],
)
def test_members_are_said_in_openais_words(told: dict[str, Any], said: dict[str, Any]) -> None:
    found, _ = asked(ollama.chat, messages=HELLO, stream=False, **told)
    assert found == {"model": "m", "messages": HELLO, **said}


def test_a_conversation_with_tools_and_pictures_is_said() -> None:
    messages = [
        {"role": "System", "content": "s"},
        {"role": "user", "content": "look", "images": [PIXEL]},
        {
            "role": "assistant",
            "thinking": "hm",
            "tool_calls": [
                {"function": {"name": "a", "arguments": {"x": 1}}},
                {"id": "mine", "function": {"name": "b", "arguments": {}}},
            ],
        },
        {"role": "tool", "tool_name": "b", "content": "of b"},
        {"role": "tool", "content": "of a"},
    ]
    said, _ = asked(ollama.chat, messages=messages)
    system, user, assistant, first, second = said["messages"]
    assert system == {"role": "system", "content": "s"}
    assert user["content"] == [
        {"type": "text", "text": "look"},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}},
    ]
    assert assistant == {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {"id": "call_0", "type": "function", "function": {"name": "a", "arguments": '{"x":1}'}},
            {"id": "mine", "type": "function", "function": {"name": "b", "arguments": "{}"}},
        ],
    }
    assert [first["tool_call_id"], second["tool_call_id"]] == ["mine", "call_0"]


def test_a_prompt_is_a_chat_and_a_raw_one_a_completion() -> None:
    said, question = asked(ollama.generate, prompt="p", system="s", images=[PIXEL], stream=False)
    assert question.operation is CHAT
    assert [message["role"] for message in said["messages"]] == ["system", "user"]
    said, question = asked(ollama.generate, prompt="p", raw=True, stream=False)
    assert (question.operation, said) == (COMPLETIONS, {"model": "m", "prompt": "p"})
    said, question = asked(ollama.generate, prompt="p", suffix="s", stream=False)
    assert (question.operation, said) == (COMPLETIONS, {"model": "m", "prompt": "p", "suffix": "s"})


@pytest.mark.parametrize(
    ("told", "param"),
    [
        ({"template": "t"}, "template"),
        ({"context": [1]}, "context"),
        ({"raw": True, "format": "json"}, "format"),
        ({"suffix": "s", "images": [PIXEL]}, "images"),
    ],
)
def test_what_only_ollama_can_say_waits_for_an_upstream_that_does(told: dict[str, Any], param: str) -> None:
    _, question = asked(ollama.generate, prompt="p", **told)
    assert question.native.untranslatable is not None
    assert question.native.untranslatable.param == param
    assert {"model", "prompt", *told} == set(question.native.fields)


@pytest.mark.parametrize(
    ("read", "told", "loads"),
    [
        (ollama.chat, {"messages": []}, "load"),
        (ollama.chat, {}, "load"),
        (ollama.chat, {"keep_alive": 0}, "unload"),
        (ollama.generate, {"keep_alive": "0s"}, "unload"),
        (ollama.generate, {"prompt": "", "keep_alive": "5m"}, "load"),
        (ollama.embed, {"input": []}, "load"),
        (ollama.embeddings, {}, "load"),
        (ollama.chat, {"messages": HELLO, "keep_alive": 0}, ""),
    ],
)
def test_nothing_asked_loads_or_unloads(read: Any, told: dict[str, Any], loads: str) -> None:
    assert asked(read, **told)[1].loads == loads


@pytest.mark.parametrize(
    ("read", "told", "param"),
    [
        (ollama.chat, {"model": ""}, "model"),
        (ollama.chat, {"messages": "x"}, "messages"),
        (ollama.chat, {"messages": [{"role": "robot"}]}, "messages[0].role"),
        (ollama.chat, {"messages": HELLO, "stream": "yes"}, "stream"),
        (ollama.chat, {"messages": HELLO, "options": 3}, "options"),
        (ollama.chat, {"messages": HELLO, "format": 3}, "format"),
        (ollama.chat, {"messages": HELLO, "think": "hard"}, "think"),
        (ollama.chat, {"messages": HELLO, "logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        (ollama.generate, {"prompt": 3}, "prompt"),
        (ollama.generate, {"prompt": "p", "raw": True, "system": "s"}, "raw"),
        (ollama.embed, {"input": [1]}, "input"),
    ],
)
def test_what_is_wrong_is_named(read: Any, told: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        asked(read, **told)
    assert caught.value.param == param


def test_hints_are_kept_for_engines_that_read_them() -> None:
    _, question = asked(
        ollama.chat, messages=HELLO, options={"top_k": 7, "min_p": 0, "repeat_penalty": 1.1}, think=False
    )
    assert {name: orjson.loads(bytes(raw)) for name, raw in question.native.hints.items()} == {
        "top_k": 7,
        "repeat_penalty": 1.1,
        "chat_template_kwargs": {"enable_thinking": False},
    }


def test_the_gateways_own_members_go_with_the_chat_and_not_to_an_upstream() -> None:
    said, question = asked(ollama.chat, messages=HELLO, provider_id="p", gateway_strategy="x", x_gateway=True)
    assert {"provider_id", "gateway_strategy", "x_gateway"} < said.keys()
    assert set(question.native.fields) == {"model", "messages"}


def test_a_whole_answer_has_its_text_calls_thoughts_and_times() -> None:
    _, question = asked(ollama.chat, messages=HELLO, stream=False)
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}}
    message = {"role": "assistant", "content": "hi", "reasoning_content": "hm", "tool_calls": [call]}
    completion = {"choices": [{"message": message, "finish_reason": "tool_calls"}]}
    completion["usage"] = {"prompt_tokens": 4, "completion_tokens": 5}
    answer = orjson.loads(ollama.whole_answer(orjson.dumps(completion), question, 1_700_000_000.5, 2.5))
    assert answer == {
        "model": "m",
        "created_at": "2023-11-14T22:13:20.500000Z",
        "message": {
            "role": "assistant",
            "content": "hi",
            "thinking": "hm",
            "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": {"x": 1}}}],
        },
        "done": True,
        "done_reason": "stop",
        "total_duration": 2_500_000_000,
        "load_duration": 0,
        "prompt_eval_count": 4,
        "prompt_eval_duration": 0,
        "eval_count": 5,
        "eval_duration": 2_500_000_000,
    }


def test_thoughts_are_not_shown_to_who_wants_none() -> None:
    _, question = asked(ollama.chat, messages=HELLO, stream=False, think=False)
    completion = {"choices": [{"message": {"content": "hi", "reasoning_content": "hm"}, "finish_reason": "length"}]}
    answer = orjson.loads(ollama.whole_answer(orjson.dumps(completion), question, 0, 1))
    assert answer["message"] == {"role": "assistant", "content": "hi"}
    assert answer["done_reason"] == "length"


def test_an_engines_own_times_are_believed() -> None:
    _, question = asked(ollama.generate, prompt="p", stream=False)
    completion = {"choices": [{"message": {"content": "hi"}}], "timings": {"prompt_ms": 12.5, "predicted_ms": 250}}
    answer = orjson.loads(ollama.whole_answer(orjson.dumps(completion), question, 0, 1))
    assert (answer["prompt_eval_duration"], answer["eval_duration"]) == (12_500_000, 250_000_000)
    assert answer["response"] == "hi"


def test_arguments_that_are_no_object_are_not_lost() -> None:
    call = {"function": {"name": "f", "arguments": "not json"}}
    assert ollama.tool_call(call) == {"function": {"name": "f", "arguments": {"arguments": "not json"}}}


def test_vectors_are_told_in_the_order_of_their_texts() -> None:
    answer = {
        "data": [{"index": 1, "embedding": [2.0]}, {"index": 0, "embedding": [1.0]}],
        "usage": {"prompt_tokens": 7},
    }
    body = orjson.dumps(answer)
    told = orjson.loads(ollama.vectors(body, asked(ollama.embed, input=["a", "b"])[1], 0.5))
    assert (told["embeddings"], told["prompt_eval_count"], told["total_duration"]) == ([[1.0], [2.0]], 7, 500_000_000)
    assert orjson.loads(ollama.vectors(body, asked(ollama.embeddings, prompt="a")[1], 0.5)) == {"embedding": [1.0]}


def test_errors_are_texts_with_our_code_beside_them() -> None:
    envelope = {"error": {"message": "no", "type": "t", "param": None, "code": "c"}}
    assert orjson.loads(ollama.error_body(orjson.dumps(envelope))) == {"error": "no", "code": "c"}
    assert orjson.loads(ollama.error_body(b"<html>"))["error"]
