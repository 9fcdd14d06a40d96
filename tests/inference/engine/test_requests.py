from __future__ import annotations

from typing import Any

import pytest

from inference.engine.requests import GenerateRequest, embed_request, generate_requests
from inference.errors import InvalidRequest, UnsupportedCapability

HELLO = [{"role": "user", "content": "Hello"}]


def chat(**fields: Any) -> GenerateRequest:
    return generate_requests("chat", {"messages": HELLO, **fields}, {})[0]


def test_parts_of_text_are_joined() -> None:
    parts = [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]
    request = chat(messages=[{"role": "user", "content": parts}])
    assert request.messages == [{"role": "user", "content": "one\ntwo"}]


def test_pictures_are_refused_as_a_capability() -> None:
    with pytest.raises(UnsupportedCapability) as caught:
        chat(messages=[{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]}])
    assert caught.value.param == "messages[0].content"


def test_tools_go_with_a_chat() -> None:
    tools = [{"type": "function", "function": {"name": "f"}}]
    asked = chat(tools=tools)
    assert asked.tools is not None
    assert list(asked.tools.schemas) == ["f"]
    assert chat(tools=tools, tool_choice="none").tools is None


def test_earlier_calls_keep_their_arguments_as_text() -> None:
    function = {"name": "f", "arguments": '{"a": 1}'}
    turns = [*HELLO, {"role": "assistant", "content": None, "tool_calls": [{"id": "1", "function": function}]}]
    message = (chat(messages=turns).messages or [])[1]
    assert message["content"] == ""
    assert message["tool_calls"] == [{"id": "1", "type": "function", "function": function}]


def test_a_developers_message_is_the_systems() -> None:
    assert (chat(messages=[{"role": "developer", "content": "Be brief."}]).messages or [])[0]["role"] == "system"


def test_a_grammar_and_a_format_cannot_both_bind_the_answer() -> None:
    assert chat(grammar='root ::= "a"').grammar == 'root ::= "a"'
    with pytest.raises(InvalidRequest) as caught:
        chat(grammar='root ::= "a"', response_format={"type": "json_object"})
    assert caught.value.param == "grammar"


def test_a_grammar_that_would_harm_an_engine_is_refused() -> None:
    for harmful, why in (
        ('root ::= ("a"?){300} "z"', "repeats an optional part"),
        ("root ::= " + "(" * 9000, "too large"),
    ):
        with pytest.raises(InvalidRequest, match=why) as caught:
            chat(grammar=harmful)
        assert caught.value.param == "grammar"


def test_every_choice_has_a_request_with_its_own_seed() -> None:
    requests = generate_requests("chat", {"messages": HELLO, "n": 3, "seed": 7}, {})
    assert [request.sampling.seed for request in requests] == [7, 8, 9]


def test_every_prompt_has_n_requests_in_order() -> None:
    requests = generate_requests("completions", {"prompt": ["a", "b"], "n": 2}, {})
    assert [request.prompt for request in requests] == ["a", "a", "b", "b"]


@pytest.mark.parametrize("prompt", [[1, 2, 3], [[1, 2, 3]]])
def test_a_prompt_may_be_tokens(prompt: Any) -> None:
    assert [request.prompt for request in generate_requests("completions", {"prompt": prompt}, {})] == [[1, 2, 3]]


def test_a_request_overrides_the_models_parameters() -> None:
    defaults = {"temperature": "0.2", "top_k": 40}
    request = generate_requests("chat", {"messages": HELLO, "temperature": 0.9}, defaults)[0]
    assert (request.sampling.temperature, request.sampling.top_k) == (0.9, 40)


def test_max_completion_tokens_wins_over_its_old_name() -> None:
    assert chat(max_completion_tokens=5, max_tokens=9).max_tokens == 5


def test_the_models_own_limit_holds_when_the_client_names_none() -> None:
    assert generate_requests("chat", {"messages": HELLO}, {}, most_tokens=64)[0].max_tokens == 64


def _nested(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "integer"}
    for _ in range(depth):
        schema = {"type": "array", "items": schema}
    return schema


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": "hi"}, "messages"),
        ({"messages": [{"content": "hi"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": 3}]}, "messages[0].content"),
        ({"temperature": "hot"}, "temperature"),
        ({"temperature": 3}, "temperature"),
        ({"chat_template_kwargs": _nested(200)}, "chat_template_kwargs"),
        ({"messages": [{"role": "user", "content": "x", "more": _nested(200)}]}, "messages[0]"),
        ({"temperature": True}, "temperature"),
        ({"top_p": -0.1}, "top_p"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 1.5}, "max_tokens"),
        ({"n": 0}, "n"),
        ({"n": 100}, "n"),
        ({"stop": [""]}, "stop"),
        ({"stop": 3}, "stop"),
        ({"logit_bias": {"a": 1}}, "logit_bias"),
        ({"logit_bias": {"1": 101}}, "logit_bias"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"response_format": {"type": "xml"}}, "response_format"),
        ({"response_format": {"type": "json_schema"}}, "response_format"),
    ],
)
def test_a_wrong_value_names_its_field(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        chat(**fields)
    assert caught.value.param == param


@pytest.mark.parametrize("given", [None, [], "", [""], [[]], {"a": 1}, [1, "a"]])
def test_an_embedding_needs_something_to_embed(given: Any) -> None:
    with pytest.raises(InvalidRequest):
        embed_request({"input": given})


@pytest.mark.parametrize(
    ("given", "inputs"), [("a", ["a"]), (["a", "b"], ["a", "b"]), ([1, 2], [[1, 2]]), ([[1], [2]], [[1], [2]])]
)
def test_an_embeddings_input_takes_every_form(given: Any, inputs: list[Any]) -> None:
    assert embed_request({"input": given}).inputs == inputs


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "https://example.org/schema.json"},
        {"properties": {"a": {"anyOf": [{"$ref": "file:///etc/passwd"}]}}},
        {"type": "array", "maxItems": 100_000},
        {"type": "string", "minLength": 10**12},
        {"type": "string", "pattern": "^a{0,100000}$"},
        {"type": "string", "pattern": "^((a{100}){1,100}){100}$"},
        {"type": "string", "pattern": "^(a{30}b{30}){30}$"},
        {"enum": ["x" * 70_000]},
        _nested(20_000),
    ],
    ids=["remote", "file", "items", "length", "pattern", "nested pattern", "sums", "long", "deep"],
)
def test_a_schema_that_would_harm_an_engine_is_refused(schema: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest) as caught:
        chat(response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": schema}})
    assert caught.value.param == "response_format"


@pytest.mark.parametrize(
    "pattern",
    [
        "^[a-z]{3}-[0-9]{4,6}$",
        "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$",
        "^([A-Z]{2}[0-9]{2}){1,16}[{(]{1}\\{2000$",
    ],
    ids=["short", "uuid", "braces"],
)
def test_an_ordinary_schema_passes(pattern: str) -> None:
    schema = {"type": "object", "properties": {"id": {"type": "string", "pattern": pattern, "maxLength": 64}}}
    request = chat(response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": schema}})
    assert request.json_schema is not None
