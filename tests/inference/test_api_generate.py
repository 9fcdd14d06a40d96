"""Generation over REST: an answer in the promised shape, or an HTTP error that says why; never an error in the content."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from django.test import Client

from inference.models import Trace
from inference.recording import Recorder
from routing import snapshot
from tests.fakes.upstream import FakeUpstream, rate_limited
from tests.inference import workers

pytestmark = pytest.mark.django_db(transaction=True)

PATHS = ["/api/v1/generate", "/api/v1/generate/", "/generate", "/generate/"]
BACKOFFICE = "/api/llm/gateway/generate"


@pytest.fixture(autouse=True)
def registry(client_recorder: Recorder) -> Iterator[None]:
    workers.fresh_registry()
    workers.add_model(workers.add_provider("first", "fake", priority=1, reply="from the first"), "words")
    workers.add_model(workers.add_provider("second", "fake", priority=2, reply="from the second"), "words")
    workers.add_model(workers.add_provider("echo", "fake"), "echo")
    yield
    snapshot.replace(None)


@pytest.fixture
def key(registry: None) -> str:
    return workers.client_key("generate")[1]


def post(key: str, path: str, body: Any) -> Any:
    text = body if isinstance(body, str) else json.dumps(body)
    return Client().post(path, text, content_type="application/json", headers={"Authorization": f"Bearer {key}"})


def request_for(model: str = "echo", prompt: Any = "one two three", **config: Any) -> dict[str, Any]:
    return {"prompt_content": prompt, "config": {"model_identifier": model, **config}}


@pytest.mark.parametrize("path", PATHS)
def test_an_answer_has_the_shape_of_the_source_systems(key: str, path: str) -> None:
    reply = post(key, path, {**request_for(), "initial_context": {"request_id": "ctx-1"}})
    assert reply.status_code == 200, reply.content
    answer = reply.json()
    assert (answer["version"], answer["request_id"]) == ("1.0", "ctx-1")
    assert (answer["generated_content"], answer["finish_reason"]) == ("one two three", "stop")
    assert answer["usage"] == {"prompt_tokens": 3, "completion_tokens": 3, "total_tokens": 6}
    assert (answer["error_details"], answer["tool_use_requests"]) == (None, None)
    metrics = answer["performance_metrics"]
    assert metrics["total_duration_ms"] >= metrics["llm_latency_ms"] >= 0
    assert metrics["gateway_overhead_ms"] >= 0


def test_a_request_without_an_id_gets_one(key: str) -> None:
    assert len(post(key, "/generate", request_for()).json()["request_id"]) == 36


def test_a_pinned_provider_is_honoured(key: str) -> None:
    assert post(key, "/generate", request_for("words")).json()["generated_content"] == "from the first"
    answer = post(key, "/generate", request_for("words", provider_id="second")).json()
    assert (answer["generated_content"], answer["provider_id"]) == ("from the second", "second")


def test_a_pin_on_a_provider_without_the_model_is_not_found(key: str) -> None:
    reply = post(key, "/generate", request_for("words", provider_id="echo"))
    assert (reply.status_code, reply.json()["code"]) == (404, "model_not_found")


def test_the_config_reaches_the_upstream_in_openais_terms(key: str) -> None:
    with FakeUpstream() as upstream:
        remote = workers.add_provider("remote", "openai_compatible", base_url=upstream.base_url, allow_private=True)
        workers.add_model(remote, "gpt-test")
        body = request_for("gpt-test", temperature=0.5, stop_sequences=["X"], system_prompt="Be brief.", seed=3)
        body["initial_context"] = {"conversation_history": [{"role": "assistant", "content": "Hi."}]}
        assert post(key, "/generate", body).status_code == 200
        sent = upstream.requests[-1].json
    assert (sent["temperature"], sent["stop"], sent["seed"]) == (0.5, ["X"], 3)
    assert [message["role"] for message in sent["messages"]] == ["system", "assistant", "user"]


def test_tool_calls_are_returned_as_requests(key: str) -> None:
    tool = {"type": "function", "function": {"name": "find", "parameters": {"type": "object", "properties": {}}}}
    answer = post(key, "/generate", {**request_for(), "tools": [tool]}).json()
    assert answer["finish_reason"] == "tool_calls"
    assert answer["tool_use_requests"][0]["function"]["name"] == "find"


@pytest.mark.parametrize("scenario", ["503", "unreachable", "timeout", "context"])
def test_a_failed_generation_is_an_http_error_and_never_content(key: str, scenario: str) -> None:
    reply = post(key, "/generate", request_for(prompt=f"/fail {scenario}"))
    problem = reply.json()
    assert reply.status_code == problem["status"] >= 400
    assert reply["Content-Type"] == "application/problem+json"
    assert "generated_content" not in problem
    details = problem["error_details"]
    assert details["message"] == problem["detail"]
    assert details["level"] in {"warning", "error"}
    assert isinstance(details["retryable"], bool)


def test_a_rate_limit_says_when_to_come_back(key: str) -> None:
    with FakeUpstream() as upstream:
        remote = workers.add_provider("remote", "openai_compatible", base_url=upstream.base_url, allow_private=True)
        workers.add_model(remote, "gpt-test")
        upstream.script(rate_limited(retry_after=17), rate_limited(retry_after=17))
        reply = post(key, "/generate", request_for("gpt-test"))
    assert (reply.status_code, reply["Retry-After"]) == (429, "17")
    assert reply.json()["error_details"]["retry_after_seconds"] == 17


def test_an_unknown_model_names_the_nearest(key: str) -> None:
    reply = post(key, "/generate", request_for("wrods"))
    assert reply.status_code == 404
    assert "words" in reply.json()["detail"]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"config": {}}, "config.model_identifier"),
        ({"config": {"model_identifier": "echo", "temperature": 3}}, "config.temperature"),
        ({"config": {"model_identifier": "echo", "max_tokens": 0}}, "config.max_tokens"),
        ({"prompt_content": 7}, "prompt_content"),
        ({"stream": True}, "stream"),
    ],
)
def test_a_bad_body_names_its_field(key: str, change: dict[str, Any], field: str) -> None:
    reply = post(key, "/generate", {**request_for(), **change})
    assert reply.status_code == 400
    assert field in [error["field"] for error in reply.json()["errors"]]


@pytest.mark.parametrize("body", ["", "{", "[]", '"text"', "null"])
def test_a_body_that_is_no_object_is_a_bad_request(key: str, body: str) -> None:
    assert post(key, "/generate", body).status_code == 400


def test_it_needs_a_key_with_the_scope(registry: None) -> None:
    assert Client().post("/generate", "{}", content_type="application/json").status_code == 401
    assert post("gw-000000000000-wrong", "/generate", request_for()).status_code == 401
    reader = workers.client_key("registry:read")[1]
    assert post(reader, "/generate", request_for()).status_code == 403


def test_a_key_may_only_use_the_models_it_is_allowed(registry: None) -> None:
    limited = workers.client_key("generate", allowed_models=["words"])[1]
    assert post(limited, "/generate", request_for("words")).status_code == 200
    assert post(limited, "/generate", request_for("echo")).status_code == 404


def test_the_session_is_found_on_the_usage_row(key: str) -> None:
    body = {**request_for(), "initial_context": {"session_id": "session-42"}}
    assert post(key, "/generate", body).status_code == 200
    assert workers.eventually(lambda: Trace.objects.filter(session_id="session-42", status=200).count() == 1)


@pytest.mark.parametrize("path", [BACKOFFICE, BACKOFFICE + "/"])
def test_the_backoffice_has_its_own_shape(key: str, path: str) -> None:
    reply = post(key, path, {"prompt": "one two", "model": "echo", "temperature": 0})
    assert reply.status_code == 200, reply.content
    answer = reply.json()
    assert set(answer) == {
        "request_id",
        "content",
        "model",
        "provider_id",
        "finish_reason",
        "prompt_tokens",
        "completion_tokens",
        "total_tokens",
        "latency_ms",
        "created_at",
    }
    assert (answer["content"], answer["model"], answer["provider_id"]) == ("one two", "echo", "echo")
    assert answer["total_tokens"] == answer["prompt_tokens"] + answer["completion_tokens"] == 4


def test_the_backoffice_gets_errors_as_errors_too(key: str) -> None:
    assert post(key, BACKOFFICE, {"prompt": "/fail 503", "model": "echo"}).status_code == 503
    assert post(key, BACKOFFICE, {"prompt": "hello", "model": "echo", "stream": True}).status_code == 400
    assert post(key, BACKOFFICE, {"model": "echo"}).status_code == 400
