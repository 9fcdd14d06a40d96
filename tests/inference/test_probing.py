"""Probes ask each model by the limit that it takes, and a model that thinks its tokens away is alive."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from inference import client, errors, loop, probing
from inference.metrics import Metrics
from inference.recording import Recorder
from routing import snapshot
from tests.fakes.upstream import Answer, FakeUpstream, RecordedRequest, failure
from tests.inference import registry

SPENT = (
    "Could not finish the message because max_tokens or model output limit was reached. "
    "Please try again with higher max_tokens."
)


@pytest.fixture
def upstream() -> Iterator[FakeUpstream]:
    with FakeUpstream() as fake:
        yield fake


@pytest.fixture
def probe(serve, monkeypatch, upstream: FakeUpstream) -> Iterator[Callable[..., Any]]:
    """Serves a model of a provider and says how it was asked for."""
    monkeypatch.setattr(client, "_read_registry", snapshot.current)
    monkeypatch.setattr(snapshot, "refresh", snapshot.current)
    recorder = Recorder(lambda rows: None, Metrics())
    monkeypatch.setattr(client, "_recorder", recorder)
    monkeypatch.setattr(loop, "_background_plane", None)

    def probe(
        model_id: str, kind: str = "openai_compatible", ask: Callable[..., Any] | None = None, **more: Any
    ) -> Any:
        owner = replace(registry.remote(upstream.base_url), provider_type=kind)
        serve(registry.model(owner, model_id, **more))
        return (ask or (lambda *name: probing.one_token(*name, stream=False)))("remote", model_id)

    yield probe
    recorder.stop()


def streamed(provider_id: str, model_id: str) -> Any:
    return probing.one_token(provider_id, model_id, stream=True)


def whole_answer(provider_id: str, model_id: str) -> Any:
    return probing.one_answer(provider_id, model_id, "hello", max_tokens=32, timeout_seconds=60)


def limits(upstream: FakeUpstream) -> list[dict[str, int]]:
    return [
        {name: value for name, value in request.json.items() if name.startswith("max_")}
        for request in upstream.requests
    ]


def refusing(
    name: str, message: str, param: str | None = None, status: int = 400
) -> Callable[[RecordedRequest], Answer]:
    """An upstream that takes every member but this one."""
    error = {"error": {"message": message, "type": "invalid_request_error", "param": param, "code": None}}
    return lambda request: Answer(status=status, json=error) if name in request.json else Answer()


@pytest.mark.parametrize(
    ("kind", "model_id", "name"),
    [
        ("openai", "gpt-4o", "max_completion_tokens"),
        *[
            ("openai_compatible", name, "max_completion_tokens")
            for name in ("o1", "o3-mini", "gpt-5.1", "openai/gpt-5")
        ],
        ("azure_openai", "o4-mini", "max_completion_tokens"),
        *[("openai_compatible", name, "max_tokens") for name in ("gpt-oss-20b", "o1x", "olmo", "qwen/o", "gpt-4o")],
        *[("azure_openai", "gpt-4o", "max_tokens"), ("mistral", "mistral-small", "max_tokens")],
    ],
)
def test_a_model_is_told_its_limit_by_the_name_that_it_takes(
    probe, upstream, kind: str, model_id: str, name: str
) -> None:
    probe(model_id, kind)
    assert limits(upstream) == [{name: 1}]


@pytest.mark.parametrize(("ask", "tokens"), [(None, 1), (streamed, 1), (whole_answer, 32)])
def test_a_deployment_of_which_nobody_knows_that_it_thinks_is_asked_again(probe, upstream, ask, tokens: int) -> None:
    told = "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
    upstream.answers = refusing("max_tokens", told, "max_tokens")
    assert probe("our-deployment", "azure_openai", ask)["total_ms"] > 0
    assert limits(upstream) == [{"max_tokens": tokens}, {"max_completion_tokens": tokens}]


def test_an_old_server_with_a_new_model_s_name_is_asked_again_by_the_old_one(probe, upstream) -> None:
    told = '[{"type":"extra_forbidden","loc":["body","max_completion_tokens"]}]'
    upstream.answers = refusing("max_completion_tokens", told, status=422)
    assert probe("gpt-5")["total_ms"] > 0
    assert limits(upstream) == [{"max_completion_tokens": 1}, {"max_tokens": 1}]


@pytest.mark.parametrize("ask", [None, streamed, whole_answer])
@pytest.mark.parametrize("model_id", ["gpt-5", "our-deployment"])
def test_a_model_that_thought_until_its_tokens_were_spent_is_alive(probe, upstream, ask, model_id: str) -> None:
    upstream.answers = lambda request: Answer(status=400, json={"error": {"message": SPENT, "param": None}})
    assert probe(model_id, ask=ask)["text"] == ""
    assert len(upstream.requests) == 1


def test_of_a_smoke_test_it_is_said_that_it_spent_them(probe, upstream) -> None:
    upstream.answers = lambda request: Answer(status=400, json={"error": {"message": SPENT}})
    assert probe("gpt-5", ask=whole_answer)["output_tokens"] == 32


def test_an_empty_answer_is_one(probe, upstream) -> None:
    choice = {"index": 0, "message": {"role": "assistant", "content": None}, "finish_reason": "length"}
    upstream.script(Answer(json={"id": "c", "object": "chat.completion", "choices": [choice]}))
    assert probe("gpt-5")["text"] == ""


@pytest.mark.parametrize(
    "answer",
    [
        failure(500),
        Answer(status=400, json={"error": {"message": "The model does not exist.", "param": "model"}}),
        Answer(status=404, json={"error": {"message": "No such deployment."}}),
    ],
)
def test_any_other_refusal_is_a_failure_and_is_not_asked_again(probe, upstream, answer: Answer) -> None:
    upstream.answers = lambda request: answer
    with pytest.raises(errors.UpstreamError):
        probe("gpt-5")
    assert {tuple(one) for one in limits(upstream)} == {("max_completion_tokens",)}


def test_a_model_that_refuses_both_names_has_failed(probe, upstream) -> None:
    told = "neither max_tokens nor max_completion_tokens are taken"
    upstream.answers = lambda request: Answer(status=400, json={"error": {"message": told}})
    with pytest.raises(errors.UpstreamRejected):
        probe("any")
    assert len(upstream.requests) == 2
