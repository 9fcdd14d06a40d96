"""The cache of answers through the data plane: what counts as the same question, and what a hit costs."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from decimal import Decimal
from functools import partial
from typing import Any

import msgspec
import orjson
import pytest
import redis

from inference import cache_waiting, errors, response_cache
from inference.backends.base import Reply
from inference.wire import native
from routing import cached_answers
from tests.inference import registry
from tests.inference.door import Answer, Door
from tests.inference.scripted import DONE, EVENT, Far, far, in_turn, streaming, whole
from tests.routing.test_metering import until

CHAT = "/v1/chat/completions"
SAID = orjson.dumps(
    {
        "id": "c-1",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12},
    }
)
HEAD = b'{"id":"c-1","object":"chat.completion.chunk","created":1,"model":"m","choices":'
PIECE = b"data: " + HEAD + b'[{"index":0,"delta":{"role":"assistant","content":"Hi"},"finish_reason":null}]}\n\n'
LAST = b"data: " + HEAD + b'[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
TOLD = b"data: " + HEAD + b'[],"usage":{"prompt_tokens":5,"completion_tokens":7,"total_tokens":12}}\n\n'


def caching(serve: Any, behave: Any, *, keys: Any = (), **cache: Any) -> Far:
    only, view = far("only", behave)
    document = {"targets": ["m"], "cache": {"ttl_seconds": 60, **cache}}
    serve(registry.model(view, "m"), documents={"writer": document}, keys=keys)
    return only


async def ask(door: Door, text: str = "Hello", **more: Any) -> Answer:
    extra = {name: more.pop(name) for name in ("headers", "key", "path") if name in more}
    body = {"model": "writer", "messages": [{"role": "user", "content": text}], **more}
    answer = await door.call(extra.pop("path", CHAT), body, **extra)
    assert door.app._plane is not None
    await door.app._plane.kept_replies.settled()
    return answer


async def test_the_same_question_is_answered_from_the_cache_for_nothing(
    serve, door: Door, redis_url: str, monkeypatch
) -> None:
    monkeypatch.setattr(response_cache, "time", partial(float, time.time()))
    only = caching(serve, whole(SAID))
    first, second = await ask(door), await ask(door)
    assert (first.headers["x-gateway-cache"], second.headers["x-gateway-cache"]) == ("miss", "hit")
    assert second.body == first.body
    assert second.headers["age"] == "0"
    assert second.headers["x-gateway-route"] == "only/m"
    assert second.headers["x-gateway-policy"] == "writer@1"
    assert len(only.calls) == 1
    metrics = door.metrics.render().decode()
    assert 'gateway_cache_hits_total{policy="writer"} 1.0' in metrics
    assert 'gateway_cache_misses_total{policy="writer"} 1.0' in metrics
    assert 'gateway_cache_saved_usd_total{policy="writer"} 1.9e-05' in metrics
    await door.app.shutdown()
    paid, hit = door.rows
    assert paid.cost == Decimal("0.000019")
    assert (hit.cost, hit.input_tokens, hit.output_tokens, hit.policy) == (0, 0, 0, "writer")
    [line] = orjson.loads(hit.attempts_log)
    assert (line["reason"], line["status"]) == (response_cache.REASON, None)
    assert line["saved"] == {"cost": "0.000019", "input_tokens": 5, "output_tokens": 7}


async def test_order_space_and_what_does_not_decide_do_not_count(serve, door: Door, redis_url: str) -> None:
    only = caching(serve, whole(SAID))
    await ask(door, temperature=1, user="ann", metadata={"a": "b"})
    spaced = b'{"temperature" : 1,"messages":[ {"content":"Hello", "role":"user"} ],"model":"writer","user":"bob"}'
    answer = await door.call(CHAT, spaced)
    assert answer.headers["x-gateway-cache"] == "hit"
    assert len(only.calls) == 1


@pytest.mark.parametrize(
    "other",
    [
        {"text": "hello"},
        {"temperature": 1},
        {"seed": 7},
        {"max_cost": 1},
        {"headers": {"x-gateway-cache": "off"}},
    ],
)
async def test_whatever_decides_the_answer_makes_another_question(serve, door, redis_url: str, other: Any) -> None:
    only = caching(serve, whole(SAID))
    await ask(door)
    assert (await ask(door, **other)).headers["x-gateway-cache"] in ("miss", "bypass")
    assert len(only.calls) == 2


async def test_numbers_that_a_parser_would_confuse_are_told_apart(serve, door: Door, redis_url: str) -> None:
    only = caching(serve, whole(SAID))
    for seed in (b"100000000000000000001", b"100000000000000000002"):
        await door.call(CHAT, b'{"model":"writer","messages":[{"role":"user","content":"a"}],"seed":%s}' % seed)
    assert len(only.calls) == 2


async def test_a_whole_answer_serves_a_stream(serve, door: Door, redis_url: str) -> None:
    only = caching(serve, whole(SAID))
    await ask(door)
    answer = await ask(door, stream=True, stream_options={"include_usage": True})
    assert answer.headers["x-gateway-cache"] == "hit"
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.events[0]["choices"][0]["delta"]["role"] == "assistant"
    said = "".join(event["choices"][0]["delta"].get("content") or "" for event in answer.events[:-2])
    assert said == "Hi"
    assert answer.events[-2]["usage"]["completion_tokens"] == 7
    assert answer.events[-1] == "[DONE]"
    assert len(only.calls) == 1


async def test_a_stream_serves_a_whole_answer(serve, door: Door, redis_url: str) -> None:
    only = caching(serve, streaming(PIECE, LAST, TOLD, DONE))
    await ask(door, stream=True)
    answer = await ask(door)
    assert answer.headers["x-gateway-cache"] == "hit"
    assert answer.json["choices"][0]["message"]["content"] == "Hi"
    assert answer.json["usage"]["total_tokens"] == 12
    assert len(only.calls) == 1


async def test_a_stream_that_nobody_can_put_together_serves_streams_alone(serve, door: Door, redis_url: str) -> None:
    odd = PIECE.replace(b'"content"', b'"hologram":1,"content"')
    only = caching(serve, streaming(odd, LAST, TOLD, DONE))
    await ask(door, stream=True)
    again = await ask(door, stream=True)
    assert (again.headers["x-gateway-cache"], again.body) == ("hit", odd + LAST + TOLD + DONE)
    only.behave = whole(SAID)
    assert (await ask(door)).headers["x-gateway-cache"] == "miss"


async def test_other_protocols_have_their_answers_from_it_too(serve, door: Door, redis_url: str) -> None:
    only = caching(serve, whole(SAID))
    await ask(door, path="/v1/messages", max_tokens=5)
    again = await ask(door, path="/v1/messages", max_tokens=5)
    assert (again.headers["x-gateway-cache"], again.json["content"][0]["text"]) == ("hit", "Hi")
    assert len(only.calls) == 1


@pytest.mark.parametrize(
    "behave",
    [
        whole(SAID.replace(b'"stop"', b'"content_filter"')),
        whole(b'{"error":{"message":"no"}}'),
        streaming(EVENT, errors.UpstreamBroken("cut")),
    ],
)
async def test_what_is_no_complete_answer_is_not_kept(serve, door: Door, redis_url: str, behave: Any) -> None:
    only = caching(serve, behave)
    streams = b"stream" in behave.__qualname__.encode()
    await ask(door, stream=streams)
    await ask(door, stream=streams)
    assert len(only.calls) == 2


@pytest.mark.parametrize(("scope", "calls"), [("key", 3), ("team", 2), ("everyone", 1)])
async def test_the_scope_says_whose_answers_one_gets(serve, door: Door, redis_url: str, scope: str, calls: int) -> None:
    secrets = [f"gw-{letter * 12}-{'s' * 43}" for letter in "abc"]
    views = [registry.key_view(secret, key_id=number) for number, secret in enumerate(secrets)]
    views = [
        replace(view, identity=replace(view.identity, team_id=team))
        for view, team in zip(views, (1, 1, None), strict=True)
    ]
    only = caching(serve, whole(SAID), keys=views, scope=scope)
    for secret in secrets:
        assert (await ask(door, key=secret)).status == 200
    assert len(only.calls) == calls


async def test_a_client_may_ask_for_a_fresh_answer_or_for_none_that_is_kept(serve, door: Door, redis_url: str) -> None:
    only = caching(serve, whole(SAID))
    await ask(door, headers={"cache-control": "no-store"})
    assert (await ask(door)).headers["x-gateway-cache"] == "miss"
    only.behave = whole(SAID.replace(b'"Hi"', b'"Hi again"'))
    assert (await ask(door, headers={"cache-control": "no-cache"})).headers["x-gateway-cache"] == "miss"
    kept = await ask(door, headers={"cache-control": "max-age=30"})
    assert (kept.headers["x-gateway-cache"], kept.json["choices"][0]["message"]["content"]) == ("hit", "Hi again")
    assert (await ask(door, headers={"x-gateway-cache": "maybe"})).status == 400


async def test_what_is_cached_under_a_policy_is_forgotten_at_once(serve, door: Door, redis_url: str) -> None:
    only = caching(serve, whole(SAID))
    await ask(door)
    cached_answers.forget("writer")
    assert (await ask(door)).headers["x-gateway-cache"] == "miss"
    assert (await ask(door)).headers["x-gateway-cache"] == "hit"
    assert len(only.calls) == 2


async def test_without_redis_every_request_is_served(serve, door: Door, settings) -> None:
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    only = caching(serve, whole(SAID))
    for _ in range(2):
        assert (await ask(door)).headers["x-gateway-cache"] == "miss"
    assert len(only.calls) == 2


async def test_a_policy_that_says_nothing_does_not_cache(serve, door: Door, redis_url: str) -> None:
    only, view = far("only", whole(SAID))
    serve(registry.model(view, "m"), documents={"writer": {"targets": ["m"]}})
    answers = [await ask(door) for _ in range(2)]
    assert all("x-gateway-cache" not in answer.headers for answer in answers)
    assert len(only.calls) == 2
    with redis.Redis.from_url(redis_url) as store:
        assert not store.keys("gw:cache:*")


def once(go: asyncio.Event) -> Any:
    """An upstream that answers from then on."""

    async def slowly(call: Any) -> Reply:
        await go.wait()
        return Reply(body=SAID)

    return slowly


async def test_equal_requests_at_the_same_moment_are_asked_once(serve, door: Door, redis_url: str) -> None:
    go = asyncio.Event()
    only = caching(serve, once(go))
    asking = [asyncio.create_task(ask(door)) for _ in range(3)]
    ahead = door.app._plane.cache._under_way
    await until(lambda: [len(over._waiters) for over in ahead.values()] == [2])
    go.set()
    answers = await asyncio.gather(*asking)
    assert sorted(answer.headers["x-gateway-cache"] for answer in answers) == ["hit", "hit", "miss"]
    assert len(only.calls) == 1


@pytest.mark.parametrize("most", ["MOST_OF_A_KEY", "MOST"])
async def test_beyond_a_few_equal_requests_ask_for_themselves(
    serve, door: Door, redis_url: str, monkeypatch, most: str
) -> None:
    monkeypatch.setattr(cache_waiting, most, 1)
    go = asyncio.Event()
    only = caching(serve, once(go))
    asking = [asyncio.create_task(ask(door)) for _ in range(3)]
    await until(lambda: len(only.calls) == 2)
    cache = door.app._plane.cache
    assert [len(over._waiters) for over in cache._under_way.values()] == [1]
    go.set()
    answers = await asyncio.gather(*asking)
    assert sorted(answer.headers["x-gateway-cache"] for answer in answers) == ["hit", "miss", "miss"]
    assert not cache._waiting._of, "who has its answer does not count any more"


async def test_who_waited_for_a_request_that_failed_is_served(serve, door: Door, redis_url: str) -> None:
    go = asyncio.Event()

    async def fails(call: Any) -> Reply:
        await go.wait()
        raise errors.UpstreamRejected("bad", body=b'{"error":{"message":"bad"}}', status=400)

    only = caching(serve, in_turn(fails, whole(SAID)))
    asking = [asyncio.create_task(ask(door)) for _ in range(2)]
    await only.asked.wait()
    go.set()
    assert sorted(answer.status for answer in await asyncio.gather(*asking)) == [200, 400]


async def test_embeddings_are_cached(serve, door: Door, redis_url: str) -> None:
    only, view = far(
        "only", whole(b'{"object":"list","data":[{"index":0,"embedding":[0.1]}],"usage":{"prompt_tokens":1}}')
    )
    document = {"targets": ["v-embedding"], "cache": {"ttl_seconds": 60}}
    serve(registry.model(view, "v-embedding", dimension=1), documents={"vectors": document})
    for _ in range(2):
        answer = await door.call("/v1/embeddings", {"model": "vectors", "input": "a"})
        await door.app._plane.kept_replies.settled()
    assert (answer.headers["x-gateway-cache"], len(only.calls)) == ("hit", 1)


async def test_one_client_key_does_not_fill_redis_with_answers(serve, door: Door, redis_url: str, monkeypatch) -> None:
    only = caching(serve, whole(SAID))
    with redis.Redis.from_url(redis_url) as store:
        told = [(await ask(door, "first")).headers["x-gateway-cache"]]
        [counter] = store.keys("gw:cache-bytes:*")
        assert 0 < store.ttl(counter) <= 24 * 3600
        monkeypatch.setattr(response_cache, "MOST_KEPT_BYTES", int(store.get(counter)))
    told += [(await ask(door, text)).headers["x-gateway-cache"] for text in ("second", "first", "second")]
    assert told == ["miss", "miss", "hit", "miss"]
    assert len(only.calls) == 3


async def test_redis_holds_neither_the_question_nor_the_answer(serve, door: Door, redis_url: str) -> None:
    caching(serve, whole(SAID))
    await ask(door, "a secret question")
    with redis.Redis.from_url(redis_url) as store:
        [name] = store.keys("gw:cache:*")
        kept = store.get(name)
        assert 0 < store.ttl(name) <= 60
    assert b"completion" not in kept
    assert b"secret" not in kept


def test_what_an_upstreams_own_answer_repeats_of_a_client_is_told_to_no_other() -> None:
    def key(api: str, user: bytes) -> list[bytes]:
        fields = {"input": msgspec.Raw(b'"Hello"'), "user": msgspec.Raw(user)}
        return response_cache._of_native(native.Native(api, fields))

    assert key(native.RESPONSES, b'"ann"') != key(native.RESPONSES, b'"bob"')
    assert key(native.RESPONSES, b'"ann"') == key(native.RESPONSES, b'"ann"')
    assert key(native.MESSAGES, b'"ann"') == key(native.MESSAGES, b'"bob"')
