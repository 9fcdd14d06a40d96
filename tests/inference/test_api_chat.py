"""Promises 1-40, 1-41 and 1-45: the chat paths of a source system, whole and streamed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest
from django.test import Client

from inference.models import Trace
from inference.recording import Recorder
from routing import snapshot
from routing.models import Policy
from tests.fakes.upstream import FakeUpstream, failure
from tests.inference import workers

pytestmark = pytest.mark.django_db(transaction=True)

MESSAGES = [{"role": "user", "content": "one two three"}]


@pytest.fixture(autouse=True)
def registry(client_recorder: Recorder) -> Iterator[None]:
    workers.fresh_registry()
    echo = workers.add_provider("echo", "fake", priority=1)
    prices = {"input_cost_per_million": 1, "output_cost_per_million": 2}
    workers.add_model(echo, "plain", capabilities=["chat", "streaming"], **prices)
    workers.add_model(echo, "coder", capabilities=["chat", "code_generation", "function_calling"], cost_tier="PREMIUM")
    Policy.objects.create(name="writer", kind="node", document={"targets": [{"model": "coder"}]})
    yield
    snapshot.replace(None)


@pytest.fixture
def key(registry: None) -> str:
    return workers.client_key("generate")[1]


def post(key: str, path: str, body: Any, **headers: str) -> Any:
    return Client().post(
        f"/api/chat/{path}",
        json.dumps(body),
        content_type="application/json",
        headers={"Authorization": f"Bearer {key}", **headers},
    )


def events(answer: Any) -> list[tuple[str, dict[str, Any]]]:
    async def read() -> bytes:
        return b"".join([piece async for piece in answer.streaming_content])

    raw = asyncio.run(read()) if answer.is_async else b"".join(answer.streaming_content)
    found = []
    for block in raw.split(b"\n\n"):
        lines = dict(line.split(b": ", 1) for line in block.split(b"\n") if b": " in line and not line.startswith(b":"))
        if b"event" in lines:
            found.append((lines[b"event"].decode(), json.loads(lines[b"data"])))
    return found


def test_a_whole_answer_has_the_shape_of_that_system(key: str) -> None:
    answer = post(key, "complete", {"messages": MESSAGES, "conversation_id": "c-1"}, **{"x-trace-id": "t-1"})
    told = answer.json()
    assert answer.status_code == 200, told
    assert (told["content"], told["model_used"], told["provider"]) == ("one two three", "plain", "echo")
    assert told["tokens_used"] == {"prompt": 3, "completion": 3, "total": 6}
    assert told["cost_usd"] == pytest.approx(9e-6)
    assert (told["trace_id"], answer["X-Trace-Id"], told["conversation_id"]) == ("t-1", "t-1", "c-1")
    assert told["latency_ms"] >= 0
    assert told["timestamp"]


def test_the_model_is_chosen_by_capabilities_and_by_node(key: str) -> None:
    body = {"messages": MESSAGES, "capabilities": ["code_generation"]}
    assert post(key, "complete", body).json()["model_used"] == "coder"
    assert post(key, "complete", {"messages": MESSAGES, "node_name": "writer"}).json()["model_used"] == "coder"
    assert post(key, "complete", {"messages": MESSAGES, "node_name": "unheard-of"}).json()["model_used"] == "plain"


def test_a_price_that_is_unknown_is_not_zero(key: str) -> None:
    with FakeUpstream() as upstream:
        workers.add_model(workers.add_provider("real", "openai_compatible", base_url=upstream.base_url), "unpriced")
        assert post(key, "complete", {"messages": MESSAGES, "model": "unpriced"}).json()["cost_usd"] is None


def test_a_stream_has_metadata_content_and_done(key: str) -> None:
    answer = post(key, "stream", {"messages": MESSAGES}, **{"x-trace-id": "t-2"})
    assert answer["Content-Type"].startswith("text/event-stream")
    assert answer["X-Trace-Id"] == "t-2"
    found = events(answer)
    kinds = [kind for kind, _ in found]
    assert (kinds[0], kinds[-1]) == ("metadata", "done")
    assert set(kinds[1:-1]) == {"content"}
    metadata, done = found[0][1], found[-1][1]
    assert (metadata["model"], metadata["provider"], metadata["trace_id"]) == ("plain", "echo", "t-2")
    assert metadata["reasoning"]
    assert "".join(data["token"] for kind, data in found if kind == "content") == "one two three"
    assert (done["total_tokens"], done["chunk_count"]) == (6, len(kinds) - 2)


def test_progress_is_told_every_fifty_chunks(key: str) -> None:
    words = " ".join(str(number) for number in range(120))
    found = events(post(key, "stream", {"messages": [{"role": "user", "content": words}]}))
    assert [data["chunk_count"] for kind, data in found if kind == "progress"] == [50, 100]


def test_a_stream_that_breaks_says_so_in_an_event_and_not_in_the_content(key: str) -> None:
    with FakeUpstream() as upstream:
        upstream.reply_with(cut_after=2, times=None)
        workers.add_model(workers.add_provider("cut", "openai_compatible", base_url=upstream.base_url), "breaks")
        found = events(post(key, "stream", {"messages": MESSAGES, "model": "breaks"}))
    kind, data = found[-1]
    assert kind == "error"
    assert data["error_details"]["code"]
    assert "Error" not in "".join(data.get("token", "") for kind, data in found if kind == "content")


def test_what_fails_before_the_stream_is_a_status_with_a_structured_error(key: str) -> None:
    with FakeUpstream() as upstream:
        upstream.reply_with(failure(500), times=None)
        workers.add_model(workers.add_provider("down", "openai_compatible", base_url=upstream.base_url), "breaks")
        for path in ("stream", "complete"):
            answer = post(key, path, {"messages": MESSAGES, "model": "breaks"}, **{"trace-id": "t-3"})
            assert answer.status_code == 502
            assert answer.json()["error_details"]["message"]
            assert answer["X-Trace-Id"] == "t-3"


def test_the_oldest_form_takes_a_text_and_a_mode(key: str) -> None:
    told = post(key, "send", {"messages": "one two", "mode": "code"}).json()
    assert (told["content"], told["model_used"]) == ("one two", "coder")
    assert "warning" not in told


def test_a_mode_that_no_model_fulfils_is_served_all_the_same_and_says_so(key: str) -> None:
    told = post(key, "send", {"messages": "one two", "mode": "research"}).json()
    assert told["content"] == "one two"
    assert "web_search" in told["warning"]
    kinds = [kind for kind, _ in events(post(key, "send", {"messages": "one two", "stream": True}))]
    assert (kinds[0], kinds[-1]) == ("metadata", "done")


def test_a_capability_that_is_demanded_and_that_nobody_has_is_an_error(key: str) -> None:
    answer = post(key, "complete", {"messages": MESSAGES, "capabilities": ["web_search"]})
    assert answer.status_code >= 400
    assert answer.json()["error_details"]["code"]


def test_tools_and_json_mode_pass_through(key: str) -> None:
    tools = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}]
    with FakeUpstream() as upstream:
        workers.add_model(workers.add_provider("real", "openai_compatible", base_url=upstream.base_url), "tooled")
        told = post(key, "complete", {"messages": MESSAGES, "model": "tooled", "tools": tools}).json()
        json_mode = {"messages": MESSAGES, "model": "tooled", "response_format": {"type": "json_object"}}
        answer = post(key, "complete", json_mode).json()
        assert upstream.requests[-1].json["response_format"] == {"type": "json_object"}
        assert not {"node_name", "gateway_strategy"} & upstream.requests[-1].json.keys()
    assert told["tool_calls"][0]["function"]["name"] == "look"
    assert told["finish_reason"] == "tool_calls"
    assert isinstance(json.loads(answer["content"]), dict)


def test_what_would_be_chosen_is_told_without_asking_it(key: str, client_recorder: Recorder) -> None:
    told = post(key, "select-model?node_name=writer", {}).json()
    assert (told["selected_model"], told["provider"]) == ("coder", "echo")
    assert told["capabilities"]["function_calling"] is True
    assert len(told["capabilities"]) == 9
    assert {"reasoning", "confidence_score", "estimated_cost", "alternatives"} <= told.keys()
    assert post(key, "select-model", {"node_name": "x", "capabilities": ["code_generation"]}).json()[
        "selected_model"
    ] == ("coder")
    client_recorder.stop()
    assert not Trace.objects.exists()


def test_nobody_who_can_be_chosen_is_an_error(key: str) -> None:
    assert post(key, "select-model", {"node_name": "x", "capabilities": ["web_search"]}).status_code >= 400


def test_capabilities_are_open_and_name_the_strategies() -> None:
    answer = Client().get("/api/chat/capabilities")
    assert answer.status_code == 200
    assert answer["X-Trace-Id"]
    told = answer.json()
    assert len(told["capabilities"]) == 9
    assert "balanced" in {strategy["name"] for strategy in told["strategies"]}


def test_the_others_need_a_key() -> None:
    answer = Client().post("/api/chat/complete", "{}", content_type="application/json")
    assert answer.status_code == 401
    assert answer["X-Trace-Id"]
