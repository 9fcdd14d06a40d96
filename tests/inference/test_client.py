from __future__ import annotations

import asyncio

import pytest

from inference import client, errors, probing, trace_ids
from inference.client import LLMRequest, LLMResponse
from inference.metrics import Metrics
from inference.recording import Recorder
from inference.wire.problems import error_details
from routing import health, metering, snapshot
from tests.inference import registry
from tests.inference.scripted import EVENT, far, raising, streaming


@pytest.fixture
def rows(serve, monkeypatch):
    """A process that does not serve: the client's own loop and recorder, over a snapshot built by hand."""
    fake = registry.provider()
    other = registry.provider("other", connection={"reply": "from the other"}, priority=200)
    serve(registry.model(fake), registry.model(other), registry.model(fake, "fake-embedding", dimension=4))
    monkeypatch.setattr(client, "_read_registry", snapshot.current)
    monkeypatch.setattr(snapshot, "refresh", snapshot.current)
    written: list = []
    recorder = Recorder(written.extend, Metrics())
    monkeypatch.setattr(client, "_recorder", recorder)
    from inference import loop

    monkeypatch.setattr(loop, "_background_plane", None)
    written_after_stop = written

    def settle():
        recorder.stop()
        return written_after_stop

    yield settle
    recorder.stop()


def ask(prompt="hello there", **config) -> LLMRequest:
    return LLMRequest.from_dict(
        {
            "prompt_content": prompt,
            "config": {"model_identifier": "fake-chat", **config},
            "initial_context": {"request_id": "r-1", "session_id": "s-1"},
        }
    )


def test_a_prompt_is_answered_and_recorded(rows) -> None:
    response = client.generate("hello there", "fake-chat", session_id="s-9")
    assert response.generated_content == "hello there"
    assert response.usage == {"prompt_tokens": 2, "completion_tokens": 2, "total_tokens": 4}
    [row] = rows()
    assert (row.provider_id, row.output_tokens, row.session_id, row.status) == ("fake", 2, "s-9", 200)


async def test_the_same_from_async_code(rows) -> None:
    response = await client.generate_async("hello", "fake-chat")
    assert response.generated_content == "hello"


@pytest.mark.parametrize("asks", [client.generate, client.chat])
def test_what_is_asked_within_a_request_belongs_to_its_trace(rows, asks) -> None:
    with trace_ids.arriving(trace_ids.Origin("order-7", "b7ad6b7169203331", "192.0.2.7")):
        asks("hello", "fake-chat", metadata={"tags": ["nightly"]})
    [row] = rows()
    assert (row.trace_id, row.parent_span_id, row.address) == ("order-7", "b7ad6b7169203331", "192.0.2.7")
    assert row.tags == ",nightly,"


def test_a_provider_is_pinned(rows) -> None:
    assert client.generate("x", "fake-chat", provider_id="other").provider_id == "other"
    with pytest.raises(errors.ModelNotFound):
        client.generate("x", "fake-chat", provider_id="nobody")


def test_an_error_is_raised_and_never_text(rows) -> None:
    with pytest.raises(errors.UpstreamFailed):
        client.generate("/fail 500", "fake-chat")
    [row] = rows()
    assert (row.status, row.error_code) == (502, "upstream_error")


def test_embeddings_and_bodies_of_openai(rows) -> None:
    done = client.complete({"model": "fake-embedding", "input": "a b"}, operation="embeddings")
    assert len(done.body["data"][0]["embedding"]) == 4
    assert done.usage.input_tokens == 2
    assert done.total_seconds >= done.upstream_seconds >= 0


def test_a_response_object_tells_usage_and_times(rows) -> None:
    response = client.respond(ask(temperature=0.5, system_prompt="be short"))
    told = response.to_dict()
    assert (told["request_id"], told["generated_content"], told["finish_reason"]) == ("r-1", "hello there", "stop")
    metrics = told["performance_metrics"]
    assert metrics["gateway_overhead_ms"] >= 0
    assert metrics["total_duration_ms"] >= metrics["llm_latency_ms"]
    assert told["error_details"] is None


@pytest.mark.parametrize(
    ("prompt", "code", "retryable"),
    [("/fail 429", "RATE_LIMIT_EXCEEDED", True), ("/fail 400", "CLIENT_PROCESSING_ERROR", False)],
)
def test_a_response_object_tells_its_error(rows, prompt, code, retryable) -> None:
    response = client.respond(ask(prompt))
    assert response.generated_content is None
    assert response.finish_reason == "error"
    assert (response.error_details["code"], response.error_details["retryable"]) == (code, retryable)
    assert response.error_details["level"] in {"warning", "error"}


def test_a_provider_that_does_not_load_is_named_so() -> None:
    told = error_details(errors.ConfigurationError("no url"))
    assert told["code"] == "PROVIDER_INIT_FAILED"


def test_tool_calls_are_told_as_requests(rows) -> None:
    tool = {"type": "function", "function": {"name": "f", "parameters": {"properties": {"a": {"type": "integer"}}}}}
    response = client.generate("call it", "fake-chat", tools=[tool])
    assert response.finish_reason == "tool_calls"
    assert response.tool_use_requests[0]["function"]["name"] == "f"
    assert response.generated_content is None


def test_a_request_object_becomes_a_chat_body() -> None:
    request = LLMRequest.from_dict(
        {
            "prompt_content": [
                "look",
                {"type": "text", "text_content": "here"},
                {"type": "image_url", "image_url": {}},
            ],
            "config": {
                "model_identifier": "m",
                "stop_sequences": ["x"],
                "system_prompt": "sys",
                "timeout_seconds": 3,
                "provider_id": "p",
                "top_k": 5,
                "temperature": None,
            },
            "initial_context": {"conversation_history": [{"role": "ai", "content": "before"}]},
        }
    )
    assert request.chat_body() == {
        "model": "m",
        "messages": [
            {"role": "system", "content": "sys"},
            {"role": "assistant", "content": "before"},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "look"},
                    {"type": "text", "text": "here"},
                    {"type": "image_url", "image_url": {}},
                ],
            },
        ],
        "stop": ["x"],
        "top_k": 5,
    }
    assert request.provider_id == "p"


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"config": None}, "config"),
        ({"config": {}}, "config.model_identifier"),
        ({"config": {"model_identifier": "m", "temperature": 3}}, "config.temperature"),
        ({"config": {"model_identifier": "m", "max_tokens": 0}}, "config.max_tokens"),
        ({"config": {"model_identifier": "m", "top_p": True}}, "config.top_p"),
        ({"prompt_content": ""}, "prompt_content"),
        ({"prompt_content": 5}, "prompt_content"),
        ({"tools": {}}, "tools"),
        ({"initial_context": []}, "initial_context"),
    ],
)
def test_a_bad_request_object_names_the_member(change, param) -> None:
    good = {"prompt_content": "x", "config": {"model_identifier": "m"}}
    with pytest.raises(errors.InvalidRequest) as caught:
        LLMRequest.from_dict({**good, **change})
    assert caught.value.param == param


async def test_a_stream_is_relayed_and_its_end_recorded(rows) -> None:
    from inference import loop

    async def collect() -> bytes:
        body = {"model": "fake-chat", "messages": [{"role": "user", "content": "a b c"}]}
        return b"".join([piece async for piece in client.stream_async(body)])

    raw = await loop.run_async(collect())
    assert raw.endswith(b"data: [DONE]\n\n")
    [row] = await asyncio.to_thread(rows)
    assert (row.stream, row.output_tokens, row.status) == (True, 3, 200)


async def test_a_stream_that_is_left_ends_the_upstream_s_work(rows, serve) -> None:
    from inference import loop

    async def leave() -> bool:
        ended = asyncio.Event()
        _, view = far("far", streaming(EVENT, asyncio.Event(), ended=ended))
        serve(registry.model(view, "m"))
        stream = client.stream_async({"model": "m", "messages": [{"role": "user", "content": "x"}]})
        assert await anext(stream) == EVENT
        await stream.aclose()
        return ended.is_set()

    assert await loop.run_async(leave())
    [row] = await asyncio.to_thread(rows)
    assert (row.status, row.estimated) == (499, True)


async def test_a_failure_of_a_stream_is_raised(rows, serve) -> None:
    from inference import loop

    async def read() -> None:
        _, view = far("bad", raising(errors.UpstreamTimeout("late")))
        serve(registry.model(view, "m"))
        async for _ in client.stream_async({"model": "m", "messages": [{"role": "user", "content": "x"}]}):
            pass

    with pytest.raises(errors.UpstreamTimeout):
        await loop.run_async(read())


def test_a_response_made_of_an_error_holds_no_content() -> None:
    told = LLMResponse.from_error(errors.UpstreamRateLimited("wait", body=b"", retry_after=2.4), "r").to_dict()
    assert told["generated_content"] is None
    assert told["error_details"]["retry_after_seconds"] == 2


def test_a_probe_asks_what_is_out_of_service_and_nobody_else_does(rows, serve) -> None:
    held = serve(registry.model(registry.provider(), auto_disabled="too many failures"))
    for _ in range(held.models[0].provider.breaker.failure_threshold):
        health.current().failed(held.models[0], "upstream_error")
    with pytest.raises(errors.GatewayError):
        client.generate("ping", "fake/fake-chat")
    assert probing.one_token("fake", "fake-chat", False)["total_ms"] > 0
    assert probing.one_token("fake", "fake-chat", True)["total_ms"] > 0


def test_a_process_that_does_not_serve_shares_what_it_sees_all_the_same(rows, redis_url, monkeypatch) -> None:
    monkeypatch.setattr(client, "_LAST_WORDS_SECONDS", 60.0)
    client.generate("hello", "fake-chat")
    assert health.current().is_shared
    client._stop_sharing()
    assert not health.current().is_shared
    assert health.read().of("fake/fake-chat").calls == 1


def test_a_process_that_could_not_tell_of_its_routes_gives_back_its_shares_of_budgets(monkeypatch) -> None:
    stopped = []

    async def not_in_time() -> None:
        raise TimeoutError

    async def stop() -> None:
        stopped.append("metering")

    monkeypatch.setattr(health, "stop", not_in_time)
    monkeypatch.setattr(metering, "stop", stop)
    client._stop_sharing()
    assert stopped == ["metering"]


def test_what_a_probe_asked_is_booked_and_is_no_traffic(rows, serve) -> None:
    serve(registry.model(registry.provider()))
    probing.one_token("fake", "fake-chat", False)
    probing.one_token("fake", "fake-chat", True)
    probing.one_answer("fake", "fake-chat", "hello", max_tokens=5, timeout_seconds=10)
    assert [row.side for row in rows()] == ["probe"] * 3
