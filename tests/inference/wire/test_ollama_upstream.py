from __future__ import annotations

from typing import Any

import msgspec
import orjson
import pytest

from inference.backends.base import UpstreamCall
from inference.errors import InvalidRequest
from inference.wire import ollama_upstream
from tests.inference import registry

OWN = registry.provider("ollama")


def call(
    operation: str = "chat", *, stream: bool = False, model: dict[str, Any] | None = None, **fields: Any
) -> UpstreamCall:
    if operation == "chat":
        fields = {"messages": [{"role": "user", "content": "hello"}], **fields}
    raw = {name: msgspec.Raw(orjson.dumps(value)) for name, value in {"model": "theirs", **fields}.items()}
    return UpstreamCall(operation, registry.model(OWN, "llama3.2", **(model or {})), raw, stream, "req-1")


def body(asked: UpstreamCall, **connection: Any) -> dict[str, Any]:
    return ollama_upstream.body_of(asked, connection)


def test_a_chat_is_said_without_what_ollama_does_not_read() -> None:
    asked = call(stream=True, stream_options={"include_usage": True}, user="u", logit_bias={}, store=True)
    assert body(asked) == {"model": "llama3.2", "stream": True, "messages": [{"role": "user", "content": "hello"}]}


def test_sampling_becomes_options_and_single_options_are_understood() -> None:
    asked = call(
        temperature=0, max_completion_tokens=5, max_tokens=9, stop="x", top_k=3, num_ctx=99, options={"mirostat": 1}
    )
    assert body(asked)["options"] == {
        "temperature": 0,
        "num_predict": 5,
        "stop": ["x"],
        "top_k": 3,
        "num_ctx": 99,
        "mirostat": 1,
    }


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ({"response_format": {"type": "json_object"}}, {"format": "json"}),
        ({"response_format": {"type": "json_schema", "json_schema": {"schema": {"a": 1}}}}, {"format": {"a": 1}}),
        ({"response_format": {"type": "text"}}, {}),
        ({"reasoning_effort": "none"}, {"think": False}),
        ({"reasoning_effort": "minimal"}, {"think": "low"}),
        ({"reasoning": {"effort": "high"}}, {"think": "high"}),
        ({"think": True, "reasoning_effort": "none"}, {"think": True}),
        ({"logprobs": True, "top_logprobs": 2}, {"logprobs": True, "top_logprobs": 2}),
        ({"keep_alive": "3m"}, {"keep_alive": "3m"}),
    ],
)
def test_members_are_said_in_ollamas_words(told: dict[str, Any], said: dict[str, Any]) -> None:
    found = body(call(**told))
    assert {name: value for name, value in found.items() if name not in ("model", "stream", "messages")} == said


def test_a_conversation_is_said_with_objects_and_base64() -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,QUJD"}}
    made = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}}
    messages = [
        {"role": "developer", "content": "d"},
        {"role": "user", "content": [{"type": "text", "text": "see"}, picture]},
        {"role": "assistant", "content": None, "reasoning_content": "hm", "tool_calls": [made]},
        {"role": "tool", "tool_call_id": "c1", "content": "4"},
    ]
    assert body(call(messages=messages))["messages"] == [
        {"role": "system", "content": "d"},
        {"role": "user", "content": "see", "images": ["QUJD"]},
        {
            "role": "assistant",
            "content": "",
            "thinking": "hm",
            "tool_calls": [{"id": "c1", "function": {"name": "f", "arguments": {"x": 1}}}],
        },
        {"role": "tool", "content": "4", "tool_call_id": "c1", "tool_name": "f"},
    ]


def test_only_tools_that_may_be_called_are_told() -> None:
    tools = [{"type": "function", "function": {"name": name}} for name in ("a", "b")]
    assert body(call(tools=tools))["tools"] == tools
    assert "tools" not in body(call(tools=tools, tool_choice="none"))
    named = {"type": "function", "function": {"name": "b"}}
    assert body(call(tools=tools, tool_choice=named))["tools"] == tools[1:]


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        (call(n=2), "n"),
        (call("completions", prompt=["a", "b"]), "prompt"),
        (call("completions", prompt=[1, 2]), "prompt"),
        (call(options=3), "options"),
        (
            call(
                messages=[{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://x/y.png"}}]}]
            ),
            "messages[0].content[0].image_url",
        ),
        (call(messages=[{"role": "user", "content": [{"type": "input_audio"}]}]), "messages[0].content[0]"),
    ],
)
def test_what_would_change_the_answer_is_refused_by_name(asked: UpstreamCall, param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        body(asked)
    assert caught.value.param == param


def test_a_completion_is_a_prompt_with_its_gap() -> None:
    said = body(call("completions", prompt="p", suffix="s", max_tokens=4))
    assert said == {"model": "llama3.2", "stream": False, "prompt": "p", "suffix": "s", "options": {"num_predict": 4}}


def test_the_request_wins_over_the_model_and_the_model_over_the_provider() -> None:
    model = {"parameters": {"num_ctx": 8192, "keep_alive": "1h", "options": {"top_k": 2}}}
    connection = {"num_ctx": "4096", "keep_alive": "5m", "think": "false", "options": '{"top_k": 1, "num_gpu": 9}'}
    said = body(call(model=model), **connection)
    assert (said["keep_alive"], said["think"]) == ("1h", False)
    assert said["options"] == {"top_k": 2, "num_gpu": 9, "num_ctx": 8192}
    said = body(call(model=model, keep_alive=0, think=True, options={"num_ctx": 1}), **connection)
    assert (said["keep_alive"], said["think"], said["options"]["num_ctx"]) == (0, True, 1)


@pytest.mark.parametrize(("asked", "sent"), [(500, 100), (-1, 100), (50, 50)])
def test_no_answer_is_longer_than_the_registry_lets_it_be(asked: int, sent: int) -> None:
    assert body(call(model={"max_tokens": 100}, options={"num_predict": asked}))["options"]["num_predict"] == sent


def test_a_clients_own_words_get_the_upstreams_name_and_the_registrys_defaults() -> None:
    own = {"model": "m:latest", "prompt": "p", "context": [1], "options": {"top_k": 1}, "suffix": None}
    fields = {name: msgspec.Raw(orjson.dumps(value)) for name, value in own.items()}
    said = ollama_upstream.native_body(fields, call(stream=True), {"num_ctx": 512}, embeds=False)
    assert orjson.loads(msgspec.json.encode(said)) == {
        "model": "llama3.2",
        "prompt": "p",
        "context": [1],
        "stream": True,
        "options": {"num_ctx": 512, "top_k": 1},
    }


def test_texts_are_embedded_and_tokens_are_not() -> None:
    asked = call("embeddings", input=["a"], dimensions=4, encoding_format="base64")
    assert ollama_upstream.embed_body(asked, {"keep_alive": "5m", "think": True}) == {
        "model": "llama3.2",
        "input": ["a"],
        "dimensions": 4,
        "keep_alive": "5m",
    }
    with pytest.raises(InvalidRequest):
        ollama_upstream.embed_body(call("embeddings", input=[1, 2]), {})
