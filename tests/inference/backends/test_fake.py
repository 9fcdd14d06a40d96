from __future__ import annotations

import asyncio
import math
from typing import Any

import msgspec
import orjson
import pytest

from inference import errors
from inference.backends.base import UpstreamCall
from inference.backends.fake import Fake, embedding
from tests.inference import registry


def call(operation: str = "chat", stream: bool = False, model: Any = None, **fields: Any) -> UpstreamCall:
    if operation == "chat":
        fields.setdefault("messages", [{"role": "user", "content": "one two three four five six"}])
    raw = msgspec.json.decode(orjson.dumps(fields), type=dict[str, msgspec.Raw])
    return UpstreamCall(operation, model or registry.model(registry.provider()), raw, stream, "req_1")


def fake(**connection: Any) -> Fake:
    return Fake(registry.provider(connection=connection))


async def whole(backend: Fake, asked: UpstreamCall) -> dict[str, Any]:
    return orjson.loads((await backend.send(asked)).body)


async def text(backend: Fake, **fields: Any) -> tuple[str, str]:
    choice = (await whole(backend, call(**fields)))["choices"][0]
    return choice["message"]["content"], choice["finish_reason"]


async def test_it_echoes_the_last_user_message_or_says_its_reply() -> None:
    assert await text(fake()) == ("one two three four five six", "stop")
    assert await text(fake(reply="as told")) == ("as told", "stop")


async def test_the_same_question_has_the_same_answer() -> None:
    asked = call(temperature=0)
    assert (await fake().send(asked)).body[60:] == (await fake().send(asked)).body[60:]


async def test_the_earliest_stop_string_ends_the_answer() -> None:
    assert await text(fake(), stop=["five", " three"]) == ("one two", "stop")


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
async def test_most_tokens_cut_the_answer(name) -> None:
    assert await text(fake(), **{name: 2}) == ("one two", "length")


async def test_usage_counts_words() -> None:
    body = await whole(fake(reply="a b c"), call())
    assert body["usage"] == {"prompt_tokens": 6, "completion_tokens": 3, "total_tokens": 9}


async def test_a_tool_is_called_until_it_has_answered() -> None:
    tools = [
        {"type": "function", "function": {"name": "a"}},
        {"type": "function", "function": {"name": "b", "parameters": {"properties": {"n": {"type": "integer"}}}}},
    ]
    choice = (await whole(fake(), call(tools=tools, tool_choice={"function": {"name": "b"}})))["choices"][0]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["tool_calls"][0]["function"] == {"name": "b", "arguments": '{"n":1}'}
    after = [{"role": "user", "content": "x"}, {"role": "tool", "content": "1", "tool_call_id": "c"}]
    assert (await text(fake(), tools=tools, messages=after))[1] == "stop"
    assert (await text(fake(), tools=tools, tool_choice="none"))[1] == "stop"


async def test_json_mode_answers_json_that_fits_the_schema() -> None:
    said, _ = await text(fake(), response_format={"type": "json_object"})
    assert isinstance(orjson.loads(said), dict)
    schema = {"properties": {"n": {"type": "integer"}, "s": {"type": "array", "items": {"type": "string"}}}}
    said, _ = await text(fake(), response_format={"type": "json_schema", "json_schema": {"schema": schema}})
    assert set(orjson.loads(said)) == {"n", "s"}


async def test_embeddings_are_unit_vectors_that_depend_on_the_text_alone() -> None:
    sized = registry.model(registry.provider(), "embed", dimension=12)
    body = await whole(fake(), call("embeddings", model=sized, input=["a", "b", "a"]))
    first, second, third = (item["embedding"] for item in body["data"])
    assert first == third != second
    assert len(first) == 12
    assert math.isclose(sum(value * value for value in first), 1.0, rel_tol=1e-5)
    shorter = await whole(fake(), call("embeddings", model=sized, input="a", dimensions=5))
    assert len(shorter["data"][0]["embedding"]) == 5


def test_embeddings_survive_32_bits() -> None:
    import struct

    vector = embedding("text", 6)
    assert list(struct.unpack("<6f", struct.pack("<6f", *vector))) == vector


@pytest.mark.parametrize(
    ("scenario", "kind"),
    [
        ("400", errors.UpstreamRejected),
        ("401", errors.UpstreamRefusedOurKey),
        ("429", errors.UpstreamRateLimited),
        ("500", errors.UpstreamFailed),
        ("503", errors.UpstreamFailed),
        ("504", errors.UpstreamTimeout),
        ("unreachable", errors.UpstreamUnreachable),
        ("timeout", errors.UpstreamTimeout),
        ("context", errors.ContextLengthExceeded),
        ("cut", errors.UpstreamFailed),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_it_fails_as_it_is_told(scenario, kind, stream) -> None:
    async def ask(backend: Fake, asked: UpstreamCall) -> None:
        reply = await backend.send(asked)
        async for _ in reply.chunks or ():
            pass

    with pytest.raises(kind):
        await ask(fake(scenario=scenario), call(stream=stream))
    with pytest.raises(kind):
        said = [{"role": "user", "content": f"/fail {scenario} with more words here"}]
        await ask(fake(), call(stream=stream, messages=said))


async def test_a_prompt_over_the_context_is_a_typed_error() -> None:
    small = registry.model(registry.provider(), context_window=3)
    with pytest.raises(errors.ContextLengthExceeded) as caught:
        await fake().send(call(model=small))
    assert caught.value.param == "messages"


@pytest.mark.parametrize("stream", [False, True])
async def test_a_stalled_answer_can_be_cancelled(stream) -> None:
    asked = call(stream=stream)
    backend = fake(scenario="stall")

    async def ask() -> None:
        reply = await backend.send(asked)
        async for _ in reply.chunks or ():
            started.set()

    started = asyncio.Event()
    task = asyncio.create_task(ask())
    if stream:
        await started.wait()
    else:
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize(("name", "value"), [("max_tokens", 0), ("max_tokens", "x"), ("n", True), ("stop", 5)])
async def test_a_parameter_that_makes_no_sense_is_named(name, value) -> None:
    with pytest.raises(errors.InvalidRequest) as caught:
        await fake().send(call(**{name: value}))
    assert caught.value.param == name


async def test_several_choices_and_logprobs() -> None:
    body = await whole(fake(reply="a b"), call(n=2, logprobs=True))
    assert [choice["message"]["content"] for choice in body["choices"]] == ["a b", "a b"]
    assert [item["token"] for item in body["choices"][0]["logprobs"]["content"]] == ["a", " b"]


async def test_a_stream_says_the_same_as_a_whole_reply() -> None:
    reply = await fake().send(call(stream=True, stream_options={"include_usage": True}))
    raw = b"".join([piece async for piece in reply.chunks])
    events = [orjson.loads(line[6:]) for line in raw.split(b"\n\n") if line.startswith(b"data: {")]
    said = "".join(event["choices"][0]["delta"].get("content", "") for event in events if event["choices"])
    assert said == "one two three four five six"
    assert events[-1]["usage"]["completion_tokens"] == 6
    assert raw.endswith(b"data: [DONE]\n\n")
    assert reply.usage.output_tokens == 6
