"""What a client asks of the gateway, in the body and in headers, and that none of it is told to an upstream."""

from __future__ import annotations

from decimal import Decimal

import pytest

from inference.asking import facts_of, fold_headers
from inference.errors import InvalidRequest
from inference.wire.openai import CHAT, EMBEDDINGS, parse
from tests.fakes.upstream import FakeUpstream
from tests.inference import registry
from tests.inference.door import Door, chat_body

OWN = {
    "preferred_model": "gpt-test",
    "require_vision": True,
    "max_cost": "0.5",
    "task": "chat_smart",
    "provider_id": "remote",
    "session_id": "private-wish-session",
    "x_gateway": {"explain": True},
    "gateway_capabilities": ["tools"],
    "gateway_anything": "private-wish-anything",
}
HEADERS = {
    "x-gateway-node": "writer",
    "x-gateway-task": "chat_smart",
    "x-gateway-data-tags": "private-wish-tag",
    "x-gateway-local-only": "true",
    "x-session-id": "private-wish-header-session",
}


def asked(sent: dict[bytes, bytes] | None = None, **members):
    import orjson

    request = parse(CHAT, orjson.dumps(chat_body(model="m", **members)))
    fold_headers(request, sent or {})
    return request


def test_headers_say_what_members_say() -> None:
    request = asked(
        {
            b"x-gateway-node": b"node/writer",
            b"x-gateway-task": b"chat_small",
            b"x-gateway-data-tags": b"pii, health ,",
            b"x-gateway-local-only": b"TRUE",
        }
    )
    facts = facts_of(request, None)
    assert (facts.model, facts.task, facts.local_only) == ("node/writer", "chat_small", True)
    assert facts.data_tags == {"pii", "health"}


@pytest.mark.parametrize(
    ("sent", "param"),
    [
        ({b"x-gateway-task": b"chat_fast"}, "x-gateway-task"),
        ({b"x-gateway-local-only": b"maybe"}, "x-gateway-local-only"),
        ({b"x-gateway-data-tags": b"a," * 200 + b"secret"}, "x-gateway-data-tags"),
    ],
)
def test_a_header_that_says_nothing_known_is_refused_by_its_name(sent, param) -> None:
    with pytest.raises(InvalidRequest) as caught:
        asked(sent)
    assert caught.value.param == param


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("require_vision", "yes"),
        ("max_cost", -1),
        ("max_cost", "cheap"),
        ("max_cost", "NaN"),
        ("max_cost", True),
        ("max_cost", []),
        ("task", "chat_fast"),
        ("task", 7),
        ("preferred_model", {}),
        ("x_gateway", "on"),
        ("gateway_strategy", "luck"),
        ("gateway_capabilities", ["x" * 101]),
        ("gateway_capabilities", ["x"] * 51),
    ],
)
def test_a_member_that_cannot_be_read_is_refused_by_its_name(member, value) -> None:
    with pytest.raises(InvalidRequest) as caught:
        asked(**{member: value})
    assert (caught.value.status, caught.value.param) == (400, member)


@pytest.mark.parametrize(
    ("member", "raw"), [("x_gateway", b'{"\xff":1}'), ("gateway_capabilities", b'["\xff"]'), ("model", b'"\xff"')]
)
def test_what_is_no_utf_8_is_refused_by_its_name(member, raw) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse(CHAT, b'{"messages":[{}],"%s":%s}' % (member.encode(), raw))
    assert caught.value.param == member


def test_money_is_read_to_the_last_digit() -> None:
    raw = b'{"model":"m","messages":[{}],"max_cost":0.10000000000000000001}'
    assert parse(CHAT, raw).max_cost == Decimal("0.10000000000000000001")
    assert asked(max_cost="0.05").max_cost == Decimal("0.05")
    assert asked(max_cost=1e-6).max_cost == Decimal("0.000001")
    assert asked(max_cost=None).max_cost is None


def test_the_body_s_session_goes_before_the_header_s_and_that_before_the_user() -> None:
    header = {b"x-session-id": b"header"}
    assert asked(header, session_id="body", user="user").session_id == "body"
    assert asked(header, user="user").session_id == "header"
    assert asked(user="user").session_id == "user"
    assert asked(user=7).session_id is None


def test_an_upstream_s_own_task_of_embeddings_is_left_alone() -> None:
    request = parse(EMBEDDINGS, b'{"model":"m","input":"a","task":"retrieval.query"}')
    assert (request.task, bytes(request.fields["task"])) == ("", b'"retrieval.query"')
    ours = parse(EMBEDDINGS, b'{"model":"m","input":"a","task":"embedding"}')
    assert (ours.task, "task" in ours.fields) == ("embedding", False)


def test_the_answer_s_length_is_read_where_it_is_one() -> None:
    assert asked(max_tokens=5, max_completion_tokens=7).max_output_tokens == 7
    assert asked(max_tokens=5).max_output_tokens == 5
    assert asked(max_tokens=-5).max_output_tokens is None
    assert asked(max_tokens=5, max_completion_tokens=None).max_output_tokens == 5
    assert asked(max_tokens=16000.0).max_output_tokens == 16000
    assert asked(max_tokens=10**15).max_output_tokens == 10**9


@pytest.mark.parametrize("stream", [False, True])
async def test_nothing_that_speaks_to_the_gateway_reaches_the_upstream(serve, stream) -> None:
    with FakeUpstream() as upstream:
        owner = registry.remote(upstream.base_url, local=True, data_tags=frozenset({"private-wish-tag"}))
        able = registry.model(
            owner,
            "gpt-test",
            capabilities=frozenset({"chat", "vision", "tools"}),
            tasks=frozenset({"chat_smart"}),
        )
        serve(able, documents={"writer": {"targets": [{"model": "gpt-test"}]}}, kinds={"writer": "node"})
        async with Door() as door:
            body = chat_body(model="gpt-test", stream=stream, user="u-1", brand_new={"kept": 1}, **OWN)
            answer = await door.call("/v1/chat/completions", body, headers=HEADERS)
            assert answer.status == 200, answer.body
            assert answer.headers["x-gateway-policy"] == "writer@1"
    [seen] = upstream.requests
    assert set(seen.json) - {"stream_options", "stream"} == {"model", "messages", "user", "brand_new"}
    assert not any(name.startswith("x-gateway") for name in seen.headers)
    everything = repr((seen.target, seen.headers, seen.body))
    assert "private-wish" not in everything
    assert "writer" not in everything


def test_the_text_of_a_long_prompt_is_read_and_that_of_a_short_one_is_not() -> None:
    long = facts_of(asked(messages=[{"role": "user", "content": "a " * 10_000}]), None)
    assert 10_000 <= (long.prompt_tokens or 0) < 10_500
    assert facts_of(asked(messages=[{"role": "user", "content": "a " * 100}]), None).prompt_tokens is None


def test_of_a_prompt_with_pictures_the_length_has_to_do() -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
    text = {"type": "text", "text": "a " * 10_000}
    facts = facts_of(asked(messages=[{"role": "user", "content": [text, picture]}]), None)
    assert (facts.images, facts.prompt_tokens) == (1, None)
    assert facts.prompt_bytes >= 20_000
