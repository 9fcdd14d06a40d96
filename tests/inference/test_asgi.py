from __future__ import annotations

import asyncio

import pytest

from inference.limits import Limits
from routing import snapshot
from tests.inference import registry
from tests.inference.door import Door, chat_body

ALWAYS = {
    "x-request-id",
    "openai-processing-ms",
    "openai-version",
    "x-gateway-request-id",
    "x-gateway-route",
    "x-gateway-revision",
    "x-gateway-attempts",
    "x-gateway-fallback",
    "x-gateway-overhead-ms",
    "x-trace-id",
}


async def test_a_chat_request_is_answered_and_recorded(door: Door) -> None:
    answer = await door.chat("one two three")
    assert answer.status == 200
    assert answer.json["choices"][0]["message"]["content"] == "one two three"
    assert answer.headers["x-gateway-route"] == "fake/fake-chat"
    assert int(answer.headers["content-length"]) == len(answer.body)
    await door.app.shutdown()
    [row] = door.rows
    assert (row.status, row.input_tokens, row.output_tokens, row.estimated) == (200, 3, 3, False)
    assert (row.client_key_id, row.provider_id, row.model_id) == (7, "fake", "fake-chat")
    assert row.request_id == answer.headers["x-gateway-request-id"]


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/v1/chat/completions", 405, "method_not_allowed"),
        ("POST", "/v1/models", 405, "method_not_allowed"),
        ("POST", "/v1/nothing", 404, "unknown_url"),
        ("GET", "/v1", 404, "unknown_url"),
        ("GET", "/v1/modelsandmore", 404, "unknown_url"),
    ],
)
async def test_what_is_not_there_answers_in_openais_envelope(
    door: Door, method: str, path: str, status: int, code: str
) -> None:
    answer = await door.call(path, {}, method=method)
    assert answer.status == status
    assert answer.error["code"] == code
    assert set(answer.error) == {"message", "type", "param", "code"}
    assert set(answer.headers) >= ALWAYS


async def test_who_asks_for_a_websocket_is_told_at_once_to_go_without(door: Door) -> None:
    answer = await door.call("/v1/responses", {}, method="GET", headers={"sec-websocket-key": "x"})
    assert (answer.status, answer.error["code"]) == (426, "method_not_allowed")


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions", "/v1/embeddings"])
async def test_every_generating_endpoint_wants_a_key(door: Door, path: str) -> None:
    answer = await door.call(path, chat_body(), key=None)
    assert answer.status == 401
    assert answer.error["code"] == "missing_api_key"
    assert set(answer.headers) >= ALWAYS


async def test_the_lists_of_models_want_a_key_too(door: Door) -> None:
    for path in ("/v1/models", "/v1/models/fake-chat"):
        assert (await door.get(path, key=None)).status == 401
        assert (await door.get(path, key="gw-0123456789ab-" + "x" * 43)).status == 401


async def test_models_are_listed_once_each(door: Door) -> None:
    answer = await door.get("/v1/models")
    assert [model["id"] for model in answer.json["data"]] == ["fake-chat", "fake-embedding"]
    assert all(model["object"] == "model" and model["owned_by"] == "fake" for model in answer.json["data"])


async def test_a_model_whose_id_has_slashes_is_found(serve, door: Door) -> None:
    serve(registry.model(registry.provider(), "org/family/model:7b"))
    for name in ("org/family/model:7b", "org%2Ffamily%2Fmodel:7b", "fake/org/family/model:7b"):
        answer = await door.get(f"/v1/models/{name}")
        assert answer.status == 200, name
    assert answer.json["id"] == "fake/org/family/model:7b"


async def test_a_key_sees_only_the_models_it_may_use(serve, door: Door) -> None:
    fake = registry.provider()
    serve(
        registry.model(fake, "open-one"),
        registry.model(fake, "closed-one"),
        keys=[registry.key_view(allowed_models=("open-*",))],
    )
    assert [model["id"] for model in (await door.get("/v1/models")).json["data"]] == ["open-one"]
    assert (await door.get("/v1/models/closed-one")).status == 404
    assert (await door.chat(model="open-one")).status == 200
    refused = await door.chat(model="closed-one")
    assert (refused.status, refused.error["code"]) == (404, "model_not_found")
    besides = await door.chat(model="open-one", models=["open-one", "dear-one"])
    assert (besides.status, besides.error["code"]) == (403, "permission_denied")
    tool = {"type": "image_generation", "model": "dear-one"}
    besides = await door.call("/v1/responses", {"model": "open-one", "input": "Hello", "store": False, "tools": [tool]})
    assert (besides.status, besides.error["code"]) == (403, "permission_denied")
    assert (await door.chat(model="open-one", models=["open-one"])).status == 200


async def test_an_unknown_model_is_404_with_the_nearest_names(door: Door) -> None:
    answer = await door.chat(model="fake-chap")
    assert (answer.status, answer.error["code"], answer.error["param"]) == (404, "model_not_found", "model")
    assert "fake-chat" in answer.error["message"]
    assert answer.headers["x-should-retry"] == "false"


async def test_provider_and_model_name_one_provider(serve, door: Door) -> None:
    first = registry.provider("first", connection={"reply": "from first"})
    second = registry.provider("second", connection={"reply": "from second"}, priority=200)
    serve(registry.model(first, "m"), registry.model(second, "m"))
    assert (await door.chat(model="m")).headers["x-gateway-route"] == "first/m"
    assert (await door.chat(model="second/m")).json["choices"][0]["message"]["content"] == "from second"


async def test_a_pinned_provider_serves_or_nobody_does(serve, door: Door) -> None:
    first = registry.provider("first", connection={"reply": "a"})
    second = registry.provider("second", connection={"reply": "b"}, priority=200)
    serve(registry.model(first, "m"), registry.model(second, "m"))
    assert (await door.chat(model="m", provider_id="second")).headers["x-gateway-route"] == "second/m"
    answer = await door.chat(model="m", provider_id="third")
    assert (answer.status, answer.error["param"]) == (404, "provider_id")


async def test_a_client_s_own_request_id_comes_back(door: Door) -> None:
    answer = await door.call("/v1/chat/completions", chat_body(), headers={"x-client-request-id": "mine-1"})
    assert answer.headers["x-request-id"] == "mine-1"
    assert answer.headers["x-gateway-request-id"].startswith("req_")


@pytest.mark.parametrize("sent", ["a b", "x" * 200, "a\x00b", "<script>"])
async def test_a_request_id_that_is_not_fit_for_a_log_is_replaced(door: Door, sent: str) -> None:
    answer = await door.call("/v1/chat/completions", chat_body(), headers={"x-request-id": sent})
    assert answer.headers["x-request-id"] == answer.headers["x-gateway-request-id"]


async def test_the_trace_id_is_that_of_the_traceparent(door: Door) -> None:
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    answer = await door.call("/v1/chat/completions", chat_body(), headers={"traceparent": parent})
    assert answer.headers["x-trace-id"] == "0af7651916cd43dd8448eb211c80319c"


@pytest.mark.parametrize("name", ["x-trace-id", "trace-id", "x-request-id", "request-id"])
async def test_the_trace_may_be_named_in_any_of_four_headers(door: Door, name: str) -> None:
    answer = await door.call("/v1/chat/completions", chat_body(), headers={name: "mine-1"})
    assert answer.headers["x-trace-id"] == "mine-1"


async def test_a_new_snapshot_serves_the_next_request(serve, door: Door) -> None:
    assert (await door.chat(model="new-model")).status == 404
    serve(registry.model(registry.provider(), "new-model"), revision=9)
    answer = await door.chat(model="new-model")
    assert (answer.status, answer.headers["x-gateway-revision"]) == (200, "9")


async def test_a_body_beyond_the_limit_is_413(serve) -> None:
    serve(registry.model(registry.provider()))
    async with Door(Limits(body_bytes=1000)) as door:
        announced = await door.call("/v1/chat/completions", chat_body(), headers={"content-length": "1001"})
        assert (announced.status, announced.error["code"]) == (413, "request_too_large")
        sent = await door.call("/v1/chat/completions", chat_body("x" * 2000))
        assert sent.status == 413
        in_pieces = await door.call("/v1/chat/completions", None, pieces=[b"{" + b" " * 600, b" " * 600])
        assert in_pieces.status == 413


async def test_a_body_may_come_in_pieces(door: Door) -> None:
    raw = b'{"model":"fake-chat","messages":[{"role":"user","content":"in pieces"}]}'
    answer = await door.call("/v1/chat/completions", None, pieces=[raw[:10], raw[10:30], raw[30:]])
    assert answer.json["choices"][0]["message"]["content"] == "in pieces"


async def test_embeddings_answer_as_floats_and_as_base64(door: Door) -> None:
    floats = await door.call("/v1/embeddings", {"model": "fake-embedding", "input": ["a b", "c"]})
    packed = await door.call(
        "/v1/embeddings", {"model": "fake-embedding", "input": ["a b", "c"], "encoding_format": "base64"}
    )
    assert [len(item["embedding"]) for item in floats.json["data"]] == [6, 6]
    assert floats.json["usage"] == {"prompt_tokens": 3, "total_tokens": 3}
    assert isinstance(packed.json["data"][0]["embedding"], str)


async def test_a_chat_model_does_not_embed(door: Door) -> None:
    answer = await door.call("/v1/embeddings", {"model": "fake-chat", "input": "a"})
    assert (answer.status, answer.error["code"]) == (400, "unsupported_capability")


async def test_completions_answer_with_text(door: Door) -> None:
    answer = await door.call("/v1/completions", {"model": "fake-chat", "prompt": "say this"})
    assert answer.json["object"] == "text_completion"
    assert answer.json["choices"][0]["text"] == "say this"


async def test_a_refused_key_is_not_repeated(door: Door) -> None:
    answer = await door.get("/v1/models", key="gw-wrong-key")
    assert answer.status == 401
    assert b"gw-wrong-key" not in answer.body


async def test_what_was_counted_reads_as_prometheus_text(door: Door) -> None:
    await door.chat()
    await door.chat(model="no-such-model")
    await asyncio.to_thread(door.app._recorder.stop)
    text = door.metrics.render().decode()
    assert 'gateway_requests_total{model="fake-chat",outcome="ok",policy="-",provider="fake"} 1.0' in text
    assert 'gateway_requests_total{model="-",outcome="model_not_found",policy="-",provider="-"} 1.0' in text
    assert 'gateway_tokens_total{direction="output",model="fake-chat",provider="fake"} 2.0' in text
    assert "gateway_inflight_requests 0.0" in text
    assert f"gateway_snapshot_revision {snapshot.current().revision}.0" in text
    assert "no-such-model" not in text
