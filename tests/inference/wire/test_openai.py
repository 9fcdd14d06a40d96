from __future__ import annotations

import base64
import struct

import orjson
import pytest

from inference.backends.base import Chunk, Usage
from inference.errors import InvalidRequest
from inference.wire.openai import CHAT, COMPLETIONS, EMBEDDINGS, Rendering, embeddings_body, parse

GOOD = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


def parsed(operation=CHAT, **changes):
    return parse(operation, orjson.dumps({**GOOD, **changes}))


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b"", None),
        (b"not json", None),
        (b"[]", None),
        (b'{"model":7,"messages":[{}]}', "model"),
        (b'{"model":"m"}', "messages"),
        (b'{"model":"m","messages":null}', "messages"),
        (b'{"model":"m","messages":"hi"}', "messages"),
        (b'{"model":"m","messages":[ ]}', "messages"),
        (b'{"model":"m","messages":[{}],"stream":"yes"}', "stream"),
        (b'{"model":"m","messages":[{}],"stream":1}', "stream"),
        (b'{"model":"m","messages":[{}],"stream":true,"stream_options":[1]}', "stream_options"),
        (b'{"model":"m","messages":[{}],"provider_id":[]}', "provider_id"),
        (b'{"model":"' + b"m" * 600 + b'","messages":[{}]}', "model"),
        (b'{"model":"\xff","messages":[{}]}', "model"),
    ],
)
def test_a_bad_body_is_refused_naming_the_field(body, param) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse(CHAT, body)
    assert (caught.value.status, caught.value.param) == (400, param)


def test_numbers_and_spellings_of_unknown_fields_are_kept_byte_for_byte() -> None:
    request = parse(CHAT, b'{"model":"m","messages":[{"a":1.0e2}],"seed":12345678901234567890,"new":{"x" : 1.50}}')
    assert bytes(request.fields["seed"]) == b"12345678901234567890"
    assert bytes(request.fields["new"]) == b'{"x" : 1.50}'
    assert bytes(request.fields["messages"]) == b'[{"a":1.0e2}]'


def test_a_prompt_may_be_text_texts_or_tokens() -> None:
    for prompt in ("hi", ["a", "b"], [1, 2], [[1], [2]]):
        assert parse(COMPLETIONS, orjson.dumps({"model": "m", "prompt": prompt})).model == "m"
    with pytest.raises(InvalidRequest) as caught:
        parse(COMPLETIONS, b'{"model":"m","prompt":{}}')
    assert caught.value.param == "prompt"


def test_embeddings_never_stream() -> None:
    assert parse(EMBEDDINGS, b'{"model":"m","input":"a","stream":true}').stream is False


def test_the_model_may_be_left_to_the_gateway() -> None:
    for body in (b'{"messages":[{}]}', b'{"model":"","messages":[{}]}', b'{"model":null,"messages":[{}]}'):
        assert parse(CHAT, body).model == ""
    request = parse(CHAT, b'{"preferred_model":"p","messages":[{}]}')
    assert (request.model, request.preferred_model, "preferred_model" in request.fields) == ("", "p", False)


@pytest.mark.parametrize("depth", [199, 201, 900, 5000])
def test_nesting_is_bounded(depth) -> None:
    body = b'{"model":"m","messages":[{}],"x":' + b"[" * depth + b"]" * depth + b"}"
    if depth < 200:
        assert parse(CHAT, body).model == "m"
    else:
        with pytest.raises(InvalidRequest):
            parse(CHAT, body)


def test_brackets_in_text_and_in_breadth_are_not_depth() -> None:
    assert parsed(messages=[{"role": "user", "content": "[{" * 500 + '"\\' * 9}] * 150).model == "m"


def test_brackets_in_text_do_not_hide_depth() -> None:
    hidden = b'["]",' * 300 + b"1" + b"]" * 300
    with pytest.raises(InvalidRequest):
        parse(CHAT, b'{"model":"m","messages":[{}],"x":' + hidden + b"}")


def rendering(operation="chat", **more) -> Rendering:
    return Rendering(operation, "id-1", "m", 1, **more)


def events(raw: bytes) -> list:
    return [orjson.loads(line[6:]) for line in raw.split(b"\n\n") if line.startswith(b"data: {")]


def test_a_choice_s_role_comes_before_its_first_text_and_its_finish_alone() -> None:
    out = rendering()
    first = events(out.events(Chunk("he")))
    assert [event["choices"][0]["delta"] for event in first] == [
        {"role": "assistant", "content": ""},
        {"content": "he"},
    ]
    [last] = events(out.events(Chunk(finish_reason="stop")))
    assert (last["choices"][0]["delta"], last["choices"][0]["finish_reason"]) == ({}, "stop")
    assert out.end(None) == b"data: [DONE]\n\n"


def test_usage_has_an_event_of_its_own_when_asked_for() -> None:
    out = rendering(include_usage=True)
    assert all(event["usage"] is None for event in events(out.events(Chunk("a"))))
    [usage] = events(out.end(Usage(3, 4, cached_tokens=2)))
    assert usage["choices"] == []
    assert usage["usage"] == {
        "prompt_tokens": 3,
        "completion_tokens": 4,
        "total_tokens": 7,
        "prompt_tokens_details": {"cached_tokens": 2},
    }


def test_a_whole_reply_is_its_chunks_joined() -> None:
    body = orjson.loads(
        rendering().whole(
            [
                Chunk("he", 0, logprobs={"content": [1]}),
                Chunk("x", 1),
                Chunk("llo", 0, logprobs={"content": [2]}),
                Chunk(finish_reason="length"),
                Chunk(index=1, finish_reason="stop", usage=Usage(1, 2)),
            ]
        )
    )
    first, second = body["choices"]
    assert (first["message"]["content"], first["finish_reason"]) == ("hello", "length")
    assert first["logprobs"] == {"content": [1, 2]}
    assert (second["message"]["content"], second["finish_reason"]) == ("x", "stop")
    assert body["usage"]["total_tokens"] == 3


def test_pieces_of_a_tool_call_are_put_together() -> None:
    body = orjson.loads(
        rendering().whole(
            [
                Chunk(tool_calls=[{"index": 0, "id": "c", "function": {"name": "f", "arguments": '{"a'}}]),
                Chunk(tool_calls=[{"index": 0, "function": {"arguments": '":1}'}}]),
                Chunk(finish_reason="tool_calls"),
            ]
        )
    )
    message = body["choices"][0]["message"]
    assert message["content"] is None
    assert message["tool_calls"] == [{"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}]


def test_completions_render_text() -> None:
    [event] = events(rendering("completions").events(Chunk("hi")))
    assert (event["object"], event["choices"][0]["text"]) == ("text_completion", "hi")


def test_text_that_looks_like_an_event_stays_text() -> None:
    evil = "\n\ndata: [DONE]\n\n\u2028"
    raw = rendering().events(Chunk(evil))
    assert raw.count(b"\n\n") == 2
    assert events(raw)[1]["choices"][0]["delta"]["content"] == evil


def test_base64_embeddings_are_little_endian_floats() -> None:
    body = orjson.loads(embeddings_body([[0.5, -2.0]], "m", Usage(1), "base64"))
    assert struct.unpack("<2f", base64.b64decode(body["data"][0]["embedding"])) == (0.5, -2.0)


def test_what_a_model_must_be_is_read_and_kept_from_the_upstream() -> None:
    request = parsed(
        gateway_capabilities=["function_calling"], gateway_max_cost_tier="low", gateway_strategy="balanced"
    )
    assert (request.capabilities, request.max_cost_tier, request.strategy) == (frozenset({"tools"}), "LOW", "balanced")
    assert request.fields.keys() == GOOD.keys()


@pytest.mark.parametrize(("name", "value"), [("gateway_capabilities", "tools"), ("gateway_max_cost_tier", "cheap")])
def test_a_demand_that_cannot_be_read_is_refused_naming_it(name, value) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parsed(**{name: value})
    assert caught.value.param == name
