"""`Idempotency-Key` through the data plane: one call, one charge, and the same answer however often it is asked for."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import redis

from inference import errors, idempotency, kept_replies
from inference.limits import Limits
from tests.inference import registry
from tests.inference.door import Answer, Door, chat_body
from tests.inference.scripted import DONE, EVENT, FINISH, USAGE, Far, far, in_turn, never, raising, streaming, whole
from tests.routing.test_metering import until

CHAT = "/v1/chat/completions"
KEY = {"idempotency-key": "order-4711"}


def one(serve: Any, behave: Any) -> Far:
    only, view = far("only", behave)
    serve(registry.model(view, "m"))
    return only


async def ask(door: Door, text: str = "Hello", **more: Any) -> Answer:
    headers = more.pop("headers", KEY)
    path = more.pop("path", CHAT)
    answer = await door.call(path, chat_body(text, "m", **more), headers=headers)
    await remembered(door)
    return answer


async def remembered(door: Door) -> None:
    assert door.app._plane is not None
    await door.app._plane.kept_replies.settled()


async def test_the_same_request_is_answered_twice_and_asked_and_paid_once(serve, door: Door, redis_url: str) -> None:
    only = one(serve, whole())
    first, second = await ask(door), await ask(door)
    assert (second.status, second.body) == (first.status, first.body)
    assert len(only.calls) == 1
    assert "x-gateway-idempotent-replay" not in first.headers
    assert second.headers["x-gateway-idempotent-replay"] == "1"
    assert second.headers["x-gateway-original-request-id"] == first.headers["x-gateway-request-id"]
    assert second.headers["x-gateway-request-id"] != first.headers["x-gateway-request-id"]
    assert second.headers["x-gateway-route"] == "only/m"
    assert int(second.headers["content-length"]) == len(second.body)
    await door.app.shutdown()
    paid, repeated = door.rows
    assert (paid.input_tokens, paid.output_tokens, paid.cost is not None) == (5, 7, True)
    assert (repeated.status, repeated.input_tokens, repeated.cost, repeated.requested_model) == (200, 0, 0, "m")
    assert idempotency.REASON in repeated.attempts_log


async def test_a_stream_is_told_again_as_a_stream(serve, door: Door, redis_url: str) -> None:
    only = one(serve, streaming(EVENT, FINISH, USAGE, DONE))
    first, second = await ask(door, stream=True), await ask(door, stream=True)
    assert second.body == first.body == EVENT + FINISH + USAGE + DONE
    assert second.headers["content-type"].startswith("text/event-stream")
    assert "content-length" not in second.headers
    assert len(only.calls) == 1


async def test_another_protocol_gets_its_own_words_again(serve, door: Door, redis_url: str) -> None:
    one(serve, whole(b'{"choices":[{"message":{"content":"Hi"},"finish_reason":"stop"}],"usage":{"prompt_tokens":1}}'))
    first = await ask(door, path="/v1/messages", max_tokens=5)
    second = await ask(door, path="/v1/messages", max_tokens=5)
    assert first.json["content"][0]["text"] == "Hi"
    assert second.body == first.body


async def test_two_at_the_same_moment_are_one(serve, door: Door, redis_url: str) -> None:
    only = one(serve, in_turn(streaming(EVENT, FINISH, DONE)))
    first, second = await asyncio.gather(ask(door, stream=True), ask(door, stream=True))
    assert first.body == second.body
    assert len(only.calls) == 1


async def test_who_waits_too_long_is_told_to_come_back(serve, door: Door, redis_url: str, monkeypatch) -> None:
    monkeypatch.setattr(idempotency, "WAIT_SECONDS", 0.05)
    only = one(serve, never)
    _, task = door.open(CHAT, chat_body("Hello", "m"), headers=KEY)
    await only.asked.wait()
    second = await ask(door)
    assert (second.status, second.error["code"]) == (409, "idempotency_in_progress")
    assert second.headers["retry-after"] == "5"
    assert "x-should-retry" not in second.headers
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_only_a_few_wait_for_one_answer(serve, door: Door, redis_url: str, monkeypatch) -> None:
    monkeypatch.setattr(idempotency, "MOST_WAITERS", 1)
    go = asyncio.Event()
    only = one(serve, streaming(EVENT, go, FINISH, DONE))
    opened = [door.open(CHAT, chat_body("Hello", "m", stream=True), headers=KEY) for _ in range(2)]
    await only.asked.wait()
    await until(lambda: door.app._plane.promises._waiting)
    beyond = await door.call(CHAT, chat_body("Hello", "m", stream=True), headers=KEY)
    assert (beyond.status, beyond.error["code"]) == (409, "idempotency_in_progress")
    assert beyond.headers["retry-after"] == "5"
    go.set()
    await asyncio.gather(*(task for _, task in opened))
    await remembered(door)
    assert {client.answer.status for client, _ in opened} == {200}
    assert (await ask(door, stream=True)).status == 200


@pytest.mark.parametrize("change", [{"text": "Bye"}, {"path": "/v1/messages", "max_tokens": 5}])
async def test_a_key_stands_for_one_request(serve, door: Door, redis_url: str, change: dict[str, Any]) -> None:
    one(serve, whole())
    await ask(door)
    other = await ask(door, **change)
    assert other.status == 422
    assert "another body or path" in other.error["message"]


async def test_keys_of_other_clients_are_other_keys(serve, door: Door, redis_url: str) -> None:
    other = "gw-ba9876543210-" + "t" * 43
    only, view = far("only", whole())
    serve(registry.model(view, "m"), keys=[registry.key_view(), registry.key_view(other, key_id=8)])
    await ask(door)
    answer = await door.call(CHAT, chat_body("Hello", "m"), headers=KEY, key=other)
    assert (answer.status, len(only.calls)) == (200, 2)


@pytest.mark.parametrize(
    ("failure", "calls"),
    [
        (errors.UpstreamUnreachable("away"), 2),
        (errors.UpstreamRateLimited("slow down", body=b"{}"), 2),
        (errors.UpstreamRejected("bad", body=b'{"error":{"message":"bad"}}', status=400), 1),
    ],
)
async def test_only_a_final_error_is_remembered(
    serve, door: Door, redis_url: str, failure: errors.GatewayError, calls: int
) -> None:
    only, view = far("only", in_turn(raising(failure), whole()))
    serve(registry.model(view, "m"), defaults=registry.RoutingDefaults(retries=0))
    first, second = await ask(door), await ask(door)
    assert first.status == failure.status
    assert len(only.calls) == calls
    assert (second.status == first.status) is (calls == 1)


async def test_a_stream_that_broke_off_is_not_an_answer(serve, door: Door, redis_url: str) -> None:
    only = one(serve, in_turn(streaming(EVENT, errors.UpstreamBroken("cut")), streaming(EVENT, FINISH, DONE)))
    assert b"[DONE]" not in (await ask(door, stream=True)).body
    assert b"[DONE]" in (await ask(door, stream=True)).body
    assert len(only.calls) == 2


async def test_who_left_finds_the_answer_later(serve, redis_url: str) -> None:
    go = asyncio.Event()
    only = one(serve, streaming(EVENT, go, FINISH, DONE))
    async with Door(Limits(watch_after_seconds=0.005)) as door:
        client, task = door.open(CHAT, chat_body("Hello", "m", stream=True), headers=KEY)
        await client.until_said()
        client.leave()
        await asyncio.wait_for(client.missed.wait(), 60)
        go.set()
        await task
        assert DONE not in client.answer.body
        assert (await ask(door, stream=True)).body == EVENT + FINISH + DONE
        assert len(only.calls) == 1
    assert [row.status for row in door.rows] == [200, 200]


async def test_an_answer_too_large_to_be_kept_is_not_paid_twice(serve, door, redis_url: str, monkeypatch) -> None:
    monkeypatch.setattr(idempotency, "LARGEST_BYTES", 10)
    only = one(serve, whole())
    first, second = await ask(door), await ask(door)
    assert first.status == 200
    assert (second.status, second.error["code"]) == (409, "idempotency_answer_not_kept")
    assert first.headers["x-gateway-request-id"] in second.error["message"]
    assert second.headers["x-should-retry"] == "false"
    assert len(only.calls) == 1


async def test_one_client_key_does_not_fill_redis_with_answers(serve, door, redis_url: str, monkeypatch) -> None:
    monkeypatch.setattr(idempotency, "MOST_KEPT_BYTES", 9000)
    monkeypatch.setattr(idempotency, "time", lambda: 0.0)
    body = b'{"data":[{"embedding":"' + b"x" * 5000 + b'"}]}'
    only = one(serve, whole(body))
    statuses = []
    for name in ("a", "b", "a", "b"):
        statuses.append((await ask(door, headers={"idempotency-key": f"order-{name}"})).status)
    assert statuses == [200, 200, 200, 409]
    assert len(only.calls) == 2


async def test_an_answer_that_is_written_at_the_second_try_is_counted_once(
    serve, door, redis_url: str, monkeypatch
) -> None:
    monkeypatch.setattr(kept_replies, "_LAST_WORK_SECONDS", 60.0)
    monkeypatch.setattr(idempotency, "MOST_KEPT_BYTES", 9000)
    say, tries = idempotency.Promises._say, []

    async def at_second_try(promises: Any, promise: Any, value: bytes, seconds: float) -> None:
        tries.append(value)
        if len(tries) == 1:
            raise redis.ConnectionError("away")
        await say(promises, promise, value, seconds)

    monkeypatch.setattr(idempotency.Promises, "_say", at_second_try)
    one(serve, whole(b'{"data":[{"embedding":"' + b"x" * 5000 + b'"}]}'))
    assert [(await ask(door)).status for _ in range(2)] == [200, 200]


@pytest.mark.parametrize("sent", ["", "a\x7fb", "k" * 256])
async def test_a_key_that_is_none_is_refused(serve, door: Door, redis_url: str, sent: str) -> None:
    only = one(serve, whole())
    answer = await ask(door, headers={"idempotency-key": sent})
    assert (answer.status, answer.error["code"]) == (400, "invalid_idempotency_key")
    assert not only.calls


async def test_without_redis_nothing_is_promised(serve, door: Door, settings) -> None:
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    only = one(serve, whole())
    answer = await ask(door)
    assert (answer.status, answer.error["code"]) == (503, "idempotency_unavailable")
    assert not only.calls
    assert (await ask(door, headers={})).status == 200


async def test_the_lease_of_a_request_under_way_is_renewed(serve, door, redis_url: str, monkeypatch) -> None:
    monkeypatch.setattr(idempotency, "LEASE_SECONDS", 600.0)
    monkeypatch.setattr(idempotency, "_RENEWED_EVERY", 0.05)
    go = asyncio.Event()
    only = one(serve, streaming(EVENT, go, FINISH, DONE))
    _, task = door.open(CHAT, chat_body("Hello", "m", stream=True), headers=KEY)
    await only.asked.wait()
    with redis.Redis.from_url(redis_url) as store:
        [name] = store.keys("gw:idem:*")
        store.expire(name, 300)
        await until(lambda: store.ttl(name) > 300)
    go.set()
    await task


async def test_a_renewal_under_way_does_not_take_a_freed_key_again(serve, door, redis_url: str, monkeypatch) -> None:
    monkeypatch.setattr(idempotency, "_RENEWED_EVERY", 0.01)
    renewing, go_on, say = asyncio.Event(), asyncio.Event(), idempotency.Promises._say

    async def slowly(promises: Any, promise: Any, value: bytes, seconds: float) -> None:
        if value == promise.claim:
            renewing.set()
            await go_on.wait()
        await say(promises, promise, value, seconds)

    monkeypatch.setattr(idempotency.Promises, "_say", slowly)
    go = asyncio.Event()
    one(serve, streaming(EVENT, go, errors.UpstreamBroken("cut")))
    _, task = door.open(CHAT, chat_body("Hello", "m", stream=True), headers=KEY)
    await renewing.wait()
    go.set()
    await task
    asyncio.get_running_loop().call_later(0.1, go_on.set)
    await remembered(door)
    await until(lambda: not door.app._plane.promises._held)
    await go_on.wait()
    await asyncio.sleep(0.05)
    with redis.Redis.from_url(redis_url) as store:
        assert store.keys("gw:idem:*") == []


async def test_redis_holds_neither_the_question_nor_the_answer(serve, door: Door, redis_url: str) -> None:
    one(serve, whole())
    await ask(door, "a secret question")
    with redis.Redis.from_url(redis_url) as store:
        [name] = store.keys("gw:idem:*")
        kept = store.get(name)
        assert 0 < store.ttl(name) <= idempotency.KEPT_SECONDS
    assert b"order-4711" not in name
    assert b"completion" not in kept
    assert b"secret" not in kept
    assert kept_replies.unseal(kept[65:], "another place") is None
