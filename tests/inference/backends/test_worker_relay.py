"""The relay over a real Redis and real Celery workers: what reaches the web process, and what happens when a worker does not."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
import redis

from inference import relay
from inference.backends.base import Chunk, UpstreamCall
from inference.backends.worker_relay import WorkerRelay
from inference.errors import ContextLengthExceeded, EngineError, UpstreamFailed, UpstreamRateLimited, WorkerLost
from inference.relay import Times
from inference.wakeups import wake
from routing import snapshot
from tests.inference import workers
from tests.inference.workers import Worker

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.xdist_group("worker_relay")]

SECRET_PROMPT = "canary-prompt-7f3a"
PATIENT = Times(queue=60.0, no_worker=60.0, silence=60.0, beat=0.25)
HARDLY = Times(queue=60.0, no_worker=1.0, silence=1.0, beat=0.25)
"""Of those who wait in vain."""


@pytest.fixture(scope="module")
def the_worker(plugins: Path, tmp_path_factory: Any) -> Iterator[Worker]:
    worker = Worker(plugins, tmp_path_factory.mktemp("worker") / "log")
    yield worker
    worker.stop()


@pytest.fixture
def worker(the_worker: Worker, registry: None) -> Worker:
    """A running one: that of the test before, unless it was killed."""
    return the_worker if the_worker.runs else the_worker.start()


@pytest.fixture
def no_worker(the_worker: Worker) -> None:
    the_worker.kill()


@pytest.fixture(autouse=True)
def registry(transactional_db: None, plugins: Path) -> Iterator[None]:
    workers.fresh_registry()
    workers.add_model(workers.add_provider())
    yield
    snapshot.replace(None)


@pytest.fixture(autouse=True)
def _patience(redis_url: str) -> Iterator[None]:
    before = relay.connection()
    relay.configure(redis_url, partial(wake, relay.TASK, relay.QUEUE), PATIENT)
    yield
    relay.configure(*before)


@pytest.fixture
async def backend(registry: None) -> AsyncIterator[WorkerRelay]:
    made = WorkerRelay(await workers.aside(lambda: snapshot.current().providers["local"]))
    yield made
    await made.aclose()


def call(text: str, *, operation: str = "chat", model: str = "local/words", **fields: Any) -> UpstreamCall:
    if operation == "embeddings":
        body = {"model": "words", "input": text, **fields}
    else:
        body = {"model": "words", "messages": [{"role": "user", "content": text}], **fields}
    raw = {name: msgspec.Raw(json.dumps(value).encode()) for name, value in body.items()}
    return UpstreamCall(operation, snapshot.current().by_name[model][0], raw, stream=True, request_id="req_test")


async def gathered(chunks: AsyncIterator[Chunk]) -> list[Chunk]:
    return [chunk async for chunk in chunks]


async def first_of(chunks: AsyncIterator[Chunk]) -> Chunk:
    return await anext(chunks)


def prompts_in(store: redis.Redis) -> list[bytes]:
    """What no worker has claimed."""
    return [key for key in store.keys("gw:relay:*") if len(key) == len("gw:relay:") + 32]


def long_text(words: int = 400) -> str:
    return " ".join(f"w{number}" for number in range(words))


def slow(delay_seconds: float = 0.05) -> None:
    provider = workers.Provider.objects.get(provider_id="local")
    provider.connection_params = {"delay_seconds": delay_seconds}
    provider.save()
    snapshot.refresh()


async def test_a_streamed_answer_comes_through_whole_and_in_order(worker: Worker, backend: WorkerRelay) -> None:
    text = long_text()
    chunks = await gathered(backend.chunks(call(text)))
    assert "".join(chunk.text for chunk in chunks) == text
    assert [chunk.finish_reason for chunk in chunks if chunk.finish_reason] == ["stop"]
    assert chunks[-1].usage is not None
    assert (chunks[-1].usage.input_tokens, chunks[-1].usage.output_tokens) == (400, 400)


async def test_many_calls_at_once_share_one_stream_and_keep_apart(
    worker: Worker, backend: WorkerRelay, store: redis.Redis
) -> None:
    texts = [f"call {number} {long_text(30 + number)}" for number in range(24)]
    answers = await asyncio.gather(*(gathered(backend.chunks(call(text))) for text in texts))
    assert ["".join(chunk.text for chunk in chunks) for chunks in answers] == texts
    assert len(store.keys("gw:relay:out:*")) == 1


async def test_tool_calls_and_log_probabilities_survive_the_way(worker: Worker, backend: WorkerRelay) -> None:
    tool = {"type": "function", "function": {"name": "find", "parameters": {"type": "object", "properties": {}}}}
    chunks = await gathered(backend.chunks(call("look", tools=[tool])))
    calls = [chunk.tool_calls for chunk in chunks if chunk.tool_calls]
    assert calls[0][0]["function"]["name"] == "find"
    chunks = await gathered(backend.chunks(call("two words", logprobs=True)))
    assert [chunk.logprobs["content"][0]["token"] for chunk in chunks if chunk.logprobs] == ["two", " words"]


async def test_embeddings_come_through(worker: Worker, backend: WorkerRelay) -> None:
    vectors, usage = await backend.embed(call("one two three", operation="embeddings"))
    assert usage.input_tokens == 3
    assert sum(value * value for value in vectors[0]) == pytest.approx(1.0, abs=1e-5)


async def test_an_engines_error_arrives_as_the_same_class(worker: Worker, backend: WorkerRelay) -> None:
    with pytest.raises(ContextLengthExceeded) as caught:
        await gathered(backend.chunks(call("/fail context")))
    assert (caught.value.code, caught.value.status) == ("context_length_exceeded", 400)
    assert caught.value.param == "messages"
    with pytest.raises(UpstreamRateLimited) as limited:
        await gathered(backend.chunks(call("/fail 429")))
    assert limited.value.retry_after == 2.0
    assert b"scripted" in limited.value.body


async def test_an_error_in_the_middle_follows_the_text_that_came_before(worker: Worker, backend: WorkerRelay) -> None:
    chunks = backend.chunks(call("/fail cut a b c d e f"))
    read = []
    with pytest.raises(UpstreamFailed, match="in the middle"):
        async for chunk in chunks:
            read.append(chunk.text)
    assert len(read) == 3


async def test_a_reader_that_leaves_stops_the_generation(
    worker: Worker, backend: WorkerRelay, store: redis.Redis
) -> None:
    await workers.aside(slow)
    chunks = backend.chunks(call(long_text()))
    await first_of(chunks)
    await chunks.aclose()
    assert await workers.aside(workers.eventually, lambda: store.keys("gw:relay:cancelled:*"))
    relay_id = store.keys("gw:relay:cancelled:*")[0].decode().rpartition(":")[2]
    stream = store.keys("gw:relay:out:*")[0]

    def nothing_more_is_said() -> bool:
        position = store.xinfo_stream(stream)["last-generated-id"]
        time.sleep(1.0)
        said = [relay.decode(fields[b"m"]) for _, fields in store.xrange(stream, min=b"(" + position)]
        return not [message for frame in said for message in frame if getattr(message, "id", "") == relay_id]

    assert await workers.aside(workers.eventually, nothing_more_is_said)


async def test_a_cancel_that_nobody_heard_is_found_by_the_next_heartbeat(
    worker: Worker, backend: WorkerRelay, store: redis.Redis
) -> None:
    await workers.aside(slow)
    chunks = backend.chunks(call(long_text()))
    await first_of(chunks)
    [relay_id] = backend._desk._calls
    store.set(relay.cancelled_key(relay_id), 1, ex=60)
    stream = backend._desk.stream

    def only_beats_are_said() -> bool:
        before = store.xinfo_stream(stream)["entries-added"]
        time.sleep(1.2)
        said: int = store.xinfo_stream(stream)["entries-added"] - before
        return said <= 1

    assert await workers.aside(workers.eventually, only_beats_are_said)
    await chunks.aclose()


async def test_a_killed_worker_is_an_error_and_the_next_call_works(worker: Worker, backend: WorkerRelay) -> None:
    await workers.aside(slow)
    chunks = backend.chunks(call(long_text()))
    await first_of(chunks)
    await workers.aside(worker.kill)
    backend._desk._times = HARDLY
    with pytest.raises(WorkerLost) as caught:
        await gathered(chunks)
    backend._desk._times = PATIENT
    assert (caught.value.status, caught.value.code) == (502, "worker_lost")
    await workers.aside(worker.start)
    answer = await gathered(backend.chunks(call("still there")))
    assert "".join(chunk.text for chunk in answer) == "still there"


async def test_a_stopping_worker_says_so_instead_of_falling_silent(worker: Worker, backend: WorkerRelay) -> None:
    await workers.aside(slow)
    chunks = backend.chunks(call(long_text()))
    await first_of(chunks)
    stopping = asyncio.create_task(workers.aside(worker.stop))
    with pytest.raises(WorkerLost, match="stopping"):
        await gathered(chunks)
    await stopping


async def test_without_a_worker_the_call_is_refused_and_its_prompt_taken_back(
    no_worker: None, backend: WorkerRelay, store: redis.Redis
) -> None:
    store.delete(relay.SERVED)
    relay.configure(*relay.connection()[:2], HARDLY)
    with pytest.raises(EngineError) as caught:
        await gathered(backend.chunks(call(SECRET_PROMPT)))
    assert (caught.value.status, caught.value.code) == (503, "no_worker")
    assert caught.value.retry_after == HARDLY.no_worker
    assert prompts_in(store) == []


async def test_a_gateway_that_stops_takes_its_calls_back_before_it_lets_go_of_redis(
    no_worker: None, backend: WorkerRelay, store: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting = asyncio.create_task(gathered(backend.chunks(call(SECRET_PROMPT))))
    assert await workers.aside(workers.eventually, lambda: store.llen(relay.QUEUE) >= 1)
    at_once = backend._desk._cancel

    async def slowly(relay_id: str) -> None:
        await asyncio.sleep(0.5)
        await at_once(relay_id)

    monkeypatch.setattr(backend._desk, "_cancel", slowly)
    await backend.aclose()
    assert prompts_in(store) == []
    assert len(store.keys("gw:relay:cancelled:*")) == 1
    with pytest.raises(EngineError, match="stopping"):
        await waiting


async def test_the_celery_message_holds_the_id_alone(no_worker: None, backend: WorkerRelay, store: redis.Redis) -> None:
    waiting = asyncio.create_task(gathered(backend.chunks(call(SECRET_PROMPT))))
    assert await workers.aside(workers.eventually, lambda: store.llen(relay.QUEUE) >= 1)
    message = store.lindex(relay.QUEUE, 0)
    assert SECRET_PROMPT.encode() not in message + base64.b64decode(json.loads(message)["body"])
    [args, kwargs, _] = json.loads(base64.b64decode(json.loads(message)["body"]))
    assert (len(args[0]), kwargs) == (32, {})
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)


async def test_a_redelivered_message_does_nothing(worker: Worker, backend: WorkerRelay, store: redis.Redis) -> None:
    chunks = backend.chunks(call("once"))
    await first_of(chunks)
    [relay_id] = backend._desk._calls
    await gathered(chunks)
    position = store.xinfo_stream(backend._desk.stream)["last-generated-id"]
    await workers.aside(wake, relay.TASK, relay.QUEUE, relay_id)
    assert await workers.aside(
        workers.eventually, lambda: store.llen(relay.QUEUE) == 0 and worker.log.read_text().count("succeeded in") >= 2
    )
    stream = store.xrange(backend._desk.stream, min=b"(" + position)
    assert not [m for _, fields in stream for m in relay.decode(fields[b"m"]) if getattr(m, "id", "") == relay_id]


async def test_an_edit_of_the_registry_holds_for_the_next_call(worker: Worker, backend: WorkerRelay) -> None:
    await gathered(backend.chunks(call("before")))

    def edit() -> None:
        provider = workers.Provider.objects.get(provider_id="local")
        provider.connection_params = {"reply": "after the edit"}
        provider.save()
        snapshot.refresh()

    await workers.aside(edit)
    chunks = await gathered(backend.chunks(call("before")))
    assert "".join(chunk.text for chunk in chunks) == "after the edit"


async def test_redis_away_is_a_typed_error(backend: WorkerRelay) -> None:
    relay.configure("redis://127.0.0.1:1/0", partial(wake, relay.TASK, relay.QUEUE), PATIENT)
    with pytest.raises(EngineError) as caught:
        await gathered(backend.chunks(call("hello")))
    assert (caught.value.status, caught.value.code, caught.value.retry_after) == (503, "relay_unavailable", 1.0)
    assert caught.value.retryable
