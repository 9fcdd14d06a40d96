"""The relay's protocol and its two ends, each against a real Redis and without the other."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
import redis

from inference import errors, relay, relayed_calls
from inference.backends.base import Chunk, Usage
from inference.backends.worker_relay import MOST_OF_ONE_KEY, MOST_WAITING_PIECES, Desk
from inference.errors import EngineError, GatewayError, GatewayOverloaded, UpstreamRejected
from inference.relay import Done, Failed, Payload, Piece, Started, Text, Times
from inference.relayed_calls import RelayedCalls
from routing import snapshot
from tests.inference import registry
from tests.inference.workers import eventually

STREAM = relay.stream_key("test")


def payload(text: str = "one two three", *, relay_id: str = "r1", **more: Any) -> Payload:
    messages = msgspec.Raw(json.dumps([{"role": "user", "content": text}]).encode())
    facts: dict[str, Any] = {
        "id": relay_id,
        "reply_to": STREAM,
        "operation": "chat",
        "provider_id": "fake",
        "model_id": "fake-chat",
        "fingerprint": snapshot.current().providers["fake"].fingerprint,
        "fields": {"model": msgspec.Raw(b'"x"'), "messages": messages},
        "stream": True,
        "request_id": "req_1",
    }
    return Payload(**{**facts, **more})


# What travels ---------------------------------------------------------------------------------------------------------


def test_every_error_of_the_tree_arrives_as_itself() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, GatewayError)]
    assert len(kinds) > 15
    for kind in kinds:
        more = {"body": b'{"error": {}}'} if issubclass(kind, UpstreamRejected) else {}
        sent = kind("m", detail="d", param="p", code="c", status=599, retry_after=1.5, retryable=True, **more)
        [frame] = relay.decode(relay.encode([Failed.of("id", sent)]))
        got = frame.exception()
        assert type(got) is kind
        assert vars(got) == vars(sent)


def test_an_error_of_a_class_that_is_not_known_here_is_an_engines() -> None:
    failed = Failed.of("id", EngineError("m"))
    assert type(msgspec.structs.replace(failed, error="FromTheFuture").exception()) is EngineError
    assert type(msgspec.structs.replace(failed, error="annotations").exception()) is EngineError


def test_a_chunk_survives_the_way_but_for_its_usage() -> None:
    chunk = Chunk("é\u2028", 2, "stop", None, {"content": []}, [{"id": "1"}], "because")
    [message] = relay.decode(relay.encode([Text("id", 0, [Piece.of(chunk)])]))
    assert message.pieces[0].chunk() == chunk


def test_fields_of_a_payload_travel_byte_for_byte(serve: Any) -> None:
    serve(registry.model(registry.provider()))
    odd = b'{"a":1.0,  "b":"\\u00e9"}'
    sent = payload(fields={"odd": msgspec.Raw(odd)})
    assert bytes(relay.decode_payload(relay.encode_payload(sent)).fields["odd"]) == odd


# The worker's end -----------------------------------------------------------------------------------------------------


@pytest.fixture
def calls(redis_url: str, serve: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[RelayedCalls]:
    slow = registry.provider(connection={"delay_seconds": 0.02})
    serve(registry.model(slow))
    monkeypatch.setattr(snapshot, "refresh", snapshot.current)
    monkeypatch.setattr(relayed_calls, "_ENDING_SECONDS", 60.0)
    made = RelayedCalls(redis_url)
    made.start()
    yield made
    made.stop()


def listen(store: redis.Redis, stream: str = STREAM) -> None:
    """As a web process makes its stream."""
    store.xadd(stream, {b"m": relay.encode([])})
    store.xtrim(stream, maxlen=0, approximate=False)


def said(store: redis.Redis, relay_id: str = "r1") -> list[Any]:
    frames = [relay.decode(fields[b"m"]) for _, fields in store.xrange(STREAM)]
    return [message for frame in frames for message in frame if getattr(message, "id", "") == relay_id]


def last(store: redis.Redis) -> Any:
    return next(reversed(said(store)), None)


def offer(store: redis.Redis, told: Payload) -> None:
    store.set(relay.payload_key(told.id), relay.encode_payload(told), ex=60)


def endless(calls: RelayedCalls, store: redis.Redis) -> threading.Thread:
    """A call at work that would take ten minutes."""
    offer(store, payload(" ".join(["w"] * 30_000)))
    running = threading.Thread(target=calls.serve, args=("r1",))
    running.start()
    return running


def test_a_claimed_call_is_answered_and_its_prompt_is_gone(calls: RelayedCalls, store: redis.Redis) -> None:
    listen(store)
    offer(store, payload())
    assert calls.serve("r1")
    assert not store.exists(relay.payload_key("r1"))
    assert eventually(lambda: isinstance(last(store), Done))
    messages = said(store)
    assert isinstance(messages[0], Started)
    pieces = [piece for message in messages if isinstance(message, Text) for piece in message.pieces]
    assert "".join(piece.text for piece in pieces) == "one two three"
    assert messages[-1] == Done("r1", len(pieces), Usage(3, 3))


def test_a_call_is_claimed_once(calls: RelayedCalls, store: redis.Redis) -> None:
    listen(store)
    offer(store, payload())
    assert calls.serve("r1")
    assert not calls.serve("r1")


def test_a_second_message_for_a_call_at_work_leaves_it_its_cancels(calls: RelayedCalls, store: redis.Redis) -> None:
    listen(store)
    running = endless(calls, store)
    assert eventually(lambda: len(said(store)) > 2)
    assert not calls.serve("r1")
    assert eventually(lambda: store.publish(relay.CANCEL_CHANNEL, "r1") == 1)
    running.join(60)
    assert not running.is_alive()


def test_a_worker_that_is_stopping_leaves_a_call_to_another(calls: RelayedCalls, store: redis.Redis) -> None:
    offer(store, payload())
    calls.stop()
    assert not calls.serve("r1")
    assert store.exists(relay.payload_key("r1"))


def test_a_worker_that_begins_to_stop_while_it_claims_puts_the_call_back(
    calls: RelayedCalls, store: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    listen(store)
    offer(store, payload())
    claim = calls._redis.getdel

    def claim_as_it_stops(key: str) -> Any:
        claimed = claim(key)
        calls.stop()
        return claimed

    monkeypatch.setattr(calls._redis, "getdel", claim_as_it_stops)
    assert not calls.serve("r1")
    assert relay.decode_payload(store.get(relay.payload_key("r1"))) == payload()
    assert 0 < store.ttl(relay.payload_key("r1")) <= Times().queue
    assert said(store) == []


def test_a_thread_that_ends_late_has_its_connection_until_then(
    calls: RelayedCalls, store: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert eventually(lambda: store.publish(relay.CANCEL_CHANNEL, "nobody") == 1)
    monkeypatch.setattr(relayed_calls, "_ENDING_SECONDS", 0.0)
    calls.stop()
    for thread in calls._threads:
        thread.join(60)  # an exception in it is pytest's to tell
    assert not any(thread.is_alive() for thread in calls._threads)


def test_pieces_are_numbered_without_a_gap(calls: RelayedCalls, store: redis.Redis) -> None:
    listen(store)
    offer(store, payload(" ".join(["w"] * 30)))
    calls.serve("r1")
    assert eventually(lambda: isinstance(last(store), Done))
    texts = [message for message in said(store) if isinstance(message, Text)]
    expected = 0
    for text in texts:
        assert text.number == expected
        expected += len(text.pieces)


def test_a_stream_that_nobody_reads_any_more_ends_the_generation(calls: RelayedCalls, store: redis.Redis) -> None:
    running = endless(calls, store)
    running.join(60)
    assert not running.is_alive()
    assert not store.exists(STREAM)


def test_a_published_cancel_ends_the_generation(calls: RelayedCalls, store: redis.Redis) -> None:
    listen(store)
    running = endless(calls, store)
    assert eventually(lambda: len(said(store)) > 2)
    assert eventually(lambda: store.publish(relay.CANCEL_CHANNEL, "r1") == 1)
    running.join(60)
    assert not running.is_alive()
    assert not isinstance(last(store), Done)


def test_a_call_whose_time_is_over_ends_with_a_timeout(calls: RelayedCalls, store: redis.Redis) -> None:
    listen(store)
    offer(store, payload(" ".join(["w"] * 30_000), seconds_left=0.5))
    calls.serve("r1")
    assert eventually(lambda: isinstance(last(store), Failed))
    assert said(store)[-1].error == "UpstreamTimeout"


def test_a_model_that_is_gone_is_a_typed_error(calls: RelayedCalls, store: redis.Redis) -> None:
    listen(store)
    offer(store, payload(model_id="gone"))
    calls.serve("r1")
    assert eventually(lambda: isinstance(last(store), Failed))
    assert said(store)[-1].error == "ModelUnavailable"


def test_a_worker_says_that_it_serves_the_queue(calls: RelayedCalls, store: redis.Redis) -> None:
    assert eventually(lambda: 0 < store.ttl(relay.SERVED) <= relay.SERVED_SECONDS)


# The web process's end ------------------------------------------------------------------------------------------------


@pytest.fixture
def times() -> Times:
    """The patience of those who are about to get what they wait for."""
    return Times(queue=60.0, no_worker=60.0, wake=60.0, silence=60.0, beat=0.1)


HARDLY = Times(queue=0.5, no_worker=0.2, silence=0.3, beat=0.1)
"""The patience of those who wait in vain, from when all is arranged."""


async def opened(redis_url: str, times: Times, woken: list[str], told: Payload | None = None) -> tuple[Desk, Any]:
    desk = Desk(redis_url, woken.append, times).join()
    told = told or payload()
    return desk, await desk.open(msgspec.structs.replace(told, reply_to=desk.stream))


def tell(store: redis.Redis, desk: Desk, *messages: Any) -> None:
    store.xadd(desk.stream, {b"m": relay.encode(list(messages))}, nomkstream=True)


@pytest.fixture(autouse=True)
def _registry(serve: Any) -> None:
    serve(registry.model(registry.provider()))


async def test_the_message_that_wakes_a_worker_is_the_id(redis_url: str, store: redis.Redis, times: Times) -> None:
    woken: list[str] = []
    desk, call = await opened(redis_url, times, woken)
    assert woken == [call.id]
    assert relay.decode_payload(store.get(relay.payload_key(call.id))).model_id == "fake-chat"
    assert 0 < store.ttl(relay.payload_key(call.id)) <= times.queue + 5
    await desk.leave()


async def test_a_message_that_came_twice_is_told_once(redis_url: str, store: redis.Redis, times: Times) -> None:
    desk, call = await opened(redis_url, times, [])
    first = Text(call.id, 0, [Piece("a"), Piece("b")])
    tell(store, desk, Started(call.id), first)
    tell(store, desk, first)
    tell(store, desk, Text(call.id, 1, [Piece("b"), Piece("c")]), Done(call.id, 3))
    assert [(await call.next()).text for _ in range(3)] == ["a", "b", "c"]
    assert isinstance(await call.next(), Done)
    await desk.leave()


@pytest.mark.parametrize("loss", ["in the middle", "at the end"])
async def test_a_lost_message_is_an_error_and_not_a_shorter_answer(
    redis_url: str, store: redis.Redis, times: Times, loss: str
) -> None:
    desk, call = await opened(redis_url, times, [])
    tell(store, desk, Started(call.id), Text(call.id, 0, [Piece("a")]))
    tell(store, desk, Text(call.id, 2, [Piece("c")]) if loss == "in the middle" else Done(call.id, 3))
    assert (await call.next()).text == "a"
    with pytest.raises(EngineError, match="lost"):
        await call.next()
    await desk.leave()


async def test_a_frame_that_cannot_be_read_ends_nobodys_reading(
    redis_url: str, store: redis.Redis, times: Times
) -> None:
    desk, call = await opened(redis_url, times, [])
    for unreadable in ({b"m": b"\xc1"}, {b"m": relay.encode([{"type": "of a later version"}])}, {b"other": b""}):  # type: ignore[list-item]
        store.xadd(desk.stream, unreadable, nomkstream=True)  # type: ignore[arg-type]
    tell(store, desk, Started(call.id), Text(call.id, 0, [Piece("a")]))
    assert (await call.next()).text == "a"
    await desk.leave()


async def test_silence_after_the_claim_is_a_lost_worker(redis_url: str, store: redis.Redis, times: Times) -> None:
    desk, call = await opened(redis_url, times, [])
    store.delete(relay.payload_key(call.id))
    tell(store, desk, Started(call.id))
    desk._times = HARDLY
    with pytest.raises(errors.WorkerLost):
        await call.next()
    await desk.leave()


async def test_heartbeats_keep_a_slow_call_alive(redis_url: str, store: redis.Redis, times: Times) -> None:
    desk, call = await opened(redis_url, times, [])
    for _ in range(3):
        call.heard_at -= times.silence / 2
        before = call.heard_at
        tell(store, desk, relay.Alive([call.id]))
        assert await asyncio.to_thread(eventually, lambda before=before: call.heard_at > before)
    tell(store, desk, Text(call.id, 0, [Piece("late")]))
    assert (await call.next()).text == "late"
    await desk.leave()


async def test_what_redis_takes_to_answer_is_not_a_workers_silence(
    redis_url: str, store: redis.Redis, times: Times, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk, call = await opened(redis_url, times, [])
    tell(store, desk, Started(call.id))
    assert await asyncio.to_thread(eventually, lambda: call.claimed)
    looks = []

    async def slowly() -> bool:
        looks.append(call.heard_at)
        await asyncio.sleep(2 * HARDLY.silence)
        return True

    monkeypatch.setattr(desk, "_look_after_stream", slowly)
    desk._times = HARDLY
    assert await asyncio.to_thread(eventually, lambda: len(looks) > 2)
    tell(store, desk, Text(call.id, 0, [Piece("late")]))
    assert (await call.next()).text == "late"
    await desk.leave()


async def test_a_worker_that_dies_between_claim_and_first_word_is_noticed(
    redis_url: str, store: redis.Redis, times: Times
) -> None:
    desk, call = await opened(redis_url, times, [])
    store.delete(relay.payload_key(call.id))
    desk._times = HARDLY
    with pytest.raises(errors.WorkerLost):
        await call.next()
    await desk.leave()


async def test_a_claim_that_nobody_told_of_is_found_out_when_a_worker_is_woken_again(
    redis_url: str, store: redis.Redis
) -> None:
    patient = Times(queue=3600.0, no_worker=3600.0, silence=0.3, beat=0.05, wake=0.05)
    desk, call = await opened(redis_url, patient, [])
    store.delete(relay.payload_key(call.id))
    with pytest.raises(errors.WorkerLost):
        await asyncio.wait_for(call.next(), 60)
    await desk.leave()


async def test_busy_workers_are_waited_for_longer_than_none(redis_url: str, store: redis.Redis, times: Times) -> None:
    store.set(relay.SERVED, 1)
    began = time.monotonic()
    desk, call = await opened(redis_url, times, [])
    desk._times = HARDLY
    with pytest.raises(EngineError) as caught:
        await call.next()
    assert caught.value.code == "workers_busy"
    assert time.monotonic() - began >= HARDLY.queue
    await desk.leave()


async def test_a_call_that_nobody_claims_wakes_a_worker_again(redis_url: str, store: redis.Redis) -> None:
    """A worker that is killed may take the message with it."""
    woken: list[str] = []
    desk, call = await opened(redis_url, Times(queue=60.0, no_worker=60.0, beat=0.05, wake=0.05), woken)
    assert await asyncio.to_thread(eventually, lambda: len(woken) >= 3)
    assert set(woken) == {call.id}
    await desk.leave()


async def test_a_call_that_is_left_in_the_queue_takes_its_prompt_with_it(
    redis_url: str, store: redis.Redis, times: Times
) -> None:
    desk, call = await opened(redis_url, times, [])
    call.close()
    await desk.leave()
    assert not store.exists(relay.payload_key(call.id))
    assert store.exists(relay.cancelled_key(call.id))


async def test_a_reader_that_does_not_read_is_given_up(redis_url: str, store: redis.Redis, times: Times) -> None:
    desk, call = await opened(redis_url, times, [])
    call.take(Text(call.id, 0, [Piece("x")] * (MOST_WAITING_PIECES + 1)))
    with pytest.raises(GatewayOverloaded) as caught:
        await call.next()
    assert caught.value.code == "client_too_slow"
    await desk.leave()


async def test_a_stream_that_redis_forgot_is_made_again(redis_url: str, store: redis.Redis, times: Times) -> None:
    desk, call = await opened(redis_url, times, [])
    store.delete(desk.stream)
    tell(store, desk, relay.Alive([call.id]))
    assert await asyncio.to_thread(eventually, lambda: store.exists(desk.stream))
    tell(store, desk, Text(call.id, 0, [Piece("after")]))
    assert (await call.next()).text == "after"
    await desk.leave()


async def test_what_was_read_does_not_stay_in_redis(redis_url: str, store: redis.Redis, times: Times) -> None:
    desk, call = await opened(redis_url, times, [])
    for number in range(20):
        tell(store, desk, Text(call.id, number, [Piece("x")]))
    for _ in range(20):
        await call.next()
    assert await asyncio.to_thread(eventually, lambda: store.xlen(desk.stream) <= 1)
    assert 0 < store.ttl(desk.stream) <= relay.STREAM_SECONDS
    await desk.leave()
    assert not store.exists(desk.stream)


async def test_a_broker_that_does_not_take_the_wake_up_leaves_no_prompt_behind(
    redis_url: str, store: redis.Redis, times: Times
) -> None:
    def refuse(relay_id: str) -> None:
        raise ConnectionError("the broker does not answer")

    desk = Desk(redis_url, refuse, times).join()
    with pytest.raises(EngineError) as caught:
        await desk.open(payload())
    assert caught.value.code == "relay_unavailable"
    await desk.leave()
    assert not store.exists(relay.payload_key("r1"))


async def test_one_key_does_not_fill_the_workers_queue(redis_url: str, times: Times) -> None:
    desk = Desk(redis_url, [].append, times).join()
    try:
        for _ in range(MOST_OF_ONE_KEY):
            await desk.place_of(1).__aenter__()
        assert desk.place_of(1).locked()
        assert not desk.place_of(2).locked()
    finally:
        await desk.leave()
