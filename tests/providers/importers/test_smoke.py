"""The smoke test, through the gateway's own dispatch at upstreams that behave and misbehave."""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from inference import client, loop
from inference.metrics import Metrics
from inference.recording import Recorder
from providers.importers import smoke
from providers.models import ApiKey, ImportRecord, ImportRun, Provider, ProviderModel
from routing import snapshot
from tests.fakes.upstream import FakeUpstream, failure, no_answer
from tests.inference import workers

pytestmark = pytest.mark.django_db(transaction=True)

KEY = "sk-smoke-canary-0123456789"


@pytest.fixture(autouse=True)
def recorder(transactional_db: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Recorder]:
    """A command's own plane; its usage rows are not this file's subject, and a thread that writes them would outlive a test."""
    workers.fresh_registry()
    kept = Recorder(lambda rows: None, Metrics())
    monkeypatch.setattr(client, "_recorder", kept)
    monkeypatch.setattr(loop, "_background_plane", None)
    yield kept
    kept.stop()
    snapshot.replace(None)


@pytest.fixture
def upstream() -> Iterator[FakeUpstream]:
    with FakeUpstream(api_key=KEY) as fake:
        yield fake


@pytest.fixture
def run() -> ImportRun:
    return ImportRun.objects.create(kind="apply", state="done", source_label="sqlite legacy")


@pytest.fixture
def imported(upstream: FakeUpstream, run: ImportRun) -> Any:
    """`imported("openai", …)` makes a provider at the fake upstream, as an import would have."""

    def make(provider_id: str = "openai", *, key: dict[str, Any] | None = None, **fields: Any) -> Provider:
        models = fields.pop("models", [{"model_id": "gpt-test"}])
        provider = Provider.objects.create(
            provider_id=provider_id,
            provider_type=fields.pop("provider_type", "openai"),
            connection_params={"base_url": upstream.base_url},
            **fields,
        )
        for model in models:
            ProviderModel.objects.create(provider=provider, **model)
        ApiKey.objects.create(provider=provider, **{"secret": KEY, **(key or {})})
        record(run, provider)
        return provider

    return make


def record(run: ImportRun, provider: Provider, kind: str = "provider") -> ImportRecord:
    return ImportRecord.objects.create(
        run=run,
        origin=uuid.uuid4().hex,
        table="llm_providers",
        key=provider.provider_id,
        digest="d",
        outcome="created",
        target_kind=kind,
        target_id=provider.pk,
        after="a",
    )


def test_the_seeds_request_is_sent_through_an_imported_provider(upstream: FakeUpstream, imported: Any) -> None:
    imported()

    [result] = smoke.run()

    [asked] = upstream.requests
    assert asked.json["messages"] == [{"role": "user", "content": "Hello, world!"}]
    assert asked.json["max_completion_tokens"] == smoke.MAX_TOKENS
    assert (result.provider_id, result.model_id, result.status) == ("openai", "gpt-test", "answered")
    assert result.first_words == "echo: Hello, world!"
    assert (result.input_tokens, result.output_tokens) == (2, 3)
    assert result.first_token_ms is not None
    assert result.first_token_ms <= (result.duration_ms or 0)
    assert smoke.exit_status([result]) == 0


def test_each_provider_is_asked_itself_though_all_have_the_same_model(imported: Any, upstream: FakeUpstream) -> None:
    for name in ("a", "b", "c"):
        imported(name)

    results = smoke.run()

    assert [(result.provider_id, result.status) for result in results] == [(n, "answered") for n in "abc"]
    assert len(upstream.requests) == 3


def test_a_refused_key_is_told_in_the_upstreams_words_and_never_shown(imported: Any, upstream: FakeUpstream) -> None:
    imported(key={"secret": "sk-wrong-canary-987654321"})

    [result] = smoke.run()

    assert result.status == "failed"
    assert "401" in result.message or "key" in result.message.lower()
    assert "sk-wrong-canary" not in json.dumps(smoke.report([result]))
    assert smoke.exit_status([result]) == 2


def test_an_answer_that_repeats_the_key_is_masked(imported: Any, upstream: FakeUpstream) -> None:
    imported()
    chunk = {"choices": [{"index": 0, "delta": {"content": f"you sent {KEY}"}, "finish_reason": "stop"}]}
    upstream.reply_with(events=[chunk, "[DONE]"])

    [result] = smoke.run()

    assert result.status == "answered"
    assert KEY not in json.dumps(smoke.report([result]))


def test_a_silent_provider_is_given_up_after_the_time_limit(imported: Any, upstream: FakeUpstream) -> None:
    imported()
    upstream.reply_with(no_answer(), times=None)

    [result] = smoke.run(timeout_seconds=0.2)

    assert (result.status, result.message) == ("failed", "No whole answer within 0.2 seconds.")
    assert upstream.wait_for_open_connections(0)


def test_a_provider_that_fails_leaves_the_others_their_answers(imported: Any, upstream: FakeUpstream) -> None:
    imported("bad", models=[{"model_id": "broken"}])
    imported("good")
    upstream.reply_with(failure(400, "no such deployment"), times=1)

    results = smoke.run()

    assert sorted(result.status for result in results) == ["answered", "failed"]
    assert smoke.exit_status(results) == 2


def test_an_empty_answer_is_no_answer(imported: Any, upstream: FakeUpstream) -> None:
    imported()
    end = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    upstream.reply_with(events=[end, "[DONE]"])

    [result] = smoke.run()

    assert (result.status, result.message) == ("failed", "The answer is empty.")


def test_a_model_that_spends_its_tokens_on_thinking_has_answered(imported: Any, upstream: FakeUpstream) -> None:
    imported()
    end = {"choices": [{"index": 0, "delta": {}, "finish_reason": "length"}]}
    usage = {"choices": [], "usage": {"prompt_tokens": 4, "completion_tokens": 32, "total_tokens": 36}}
    upstream.reply_with(events=[end, usage, "[DONE]"])

    [result] = smoke.run()

    assert result.status == "answered"
    assert result.output_tokens == 32


@pytest.mark.parametrize(
    ("fields", "status", "reason"),
    [
        ({"models": [{"model_id": "e", "model_type": "embedding"}]}, "left_out", "embedding models only"),
        ({"models": []}, "left_out", "has no models"),
        ({"models": [{"model_id": "m", "enabled": False}]}, "left_out", "All its models are disabled"),
        ({"enabled": False}, "left_out", "disabled"),
        ({"key": {"expires_at": timezone.now() - timedelta(days=1)}}, "failed", "1 expired"),
        ({"key": {"enabled": False}}, "failed", "1 disabled"),
        ({"key": {"environment": "production"}}, "failed", "only for: production"),
        ({"provider_type": "biomedlm"}, "failed", "not registered"),
    ],
)
def test_a_provider_that_cannot_be_asked_is_named_with_its_reason(
    imported: Any, upstream: FakeUpstream, fields: Any, status: str, reason: str
) -> None:
    imported(**fields)

    [result] = smoke.run()

    assert result.status == status
    assert reason in result.message
    assert upstream.requests == []


def test_nobody_to_ask_is_neither_good_nor_bad(imported: Any) -> None:
    imported(enabled=False)
    assert smoke.exit_status(smoke.run()) == 1


def test_only_what_was_imported_is_asked(imported: Any, upstream: FakeUpstream) -> None:
    imported("from-the-legacy")
    mine = Provider.objects.create(
        provider_id="mine", provider_type="openai", connection_params={"base_url": upstream.base_url}
    )
    ProviderModel.objects.create(provider=mine, model_id="gpt-test")
    ApiKey.objects.create(provider=mine, secret=KEY)

    assert [result.provider_id for result in smoke.run()] == ["from-the-legacy"]
    assert [result.provider_id for result in smoke.run(every=True)] == ["from-the-legacy", "mine"]


def test_a_record_of_a_model_does_not_make_its_number_a_provider(imported: Any, run: ImportRun) -> None:
    imported("a")
    other = Provider.objects.create(provider_id="other", provider_type="openai")
    record(run, other, kind="model")

    assert [result.provider_id for result in smoke.run()] == ["a"]


def test_what_was_undone_is_not_imported_any_more(imported: Any, run: ImportRun) -> None:
    imported()
    ImportRun.objects.filter(pk=run.pk).update(undone_at=timezone.now())
    with pytest.raises(smoke.CannotRun, match="no imported provider"):
        smoke.run()


def test_named_providers_alone_are_asked_and_an_unknown_name_is_said(imported: Any, upstream: FakeUpstream) -> None:
    imported("a")
    imported("b")
    assert [result.provider_id for result in smoke.run(only=["b"])] == ["b"]
    with pytest.raises(smoke.CannotRun, match="nobody"):
        smoke.run(only=["b", "nobody"])
    assert len(upstream.requests) == 1


def test_a_process_that_cannot_generate_says_so(imported: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    imported()
    monkeypatch.setattr(smoke, "_generation", None)
    with pytest.raises(smoke.CannotRun, match="does not generate"):
        smoke.run()


def test_no_more_than_a_few_are_asked_at_once(imported: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(smoke.AT_ONCE + 3):
        imported(f"p{number:02}")
    full, running, most = threading.Event(), [0], [0]
    lock = threading.Lock()

    def generation(*_: Any, **__: Any) -> dict[str, Any]:
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
            if running[0] == smoke.AT_ONCE:
                full.set()
        assert full.wait(60)
        with lock:
            running[0] -= 1
        return {"text": "x", "first_token_ms": 1.0, "total_ms": 1.0, "input_tokens": 1, "output_tokens": 1}

    monkeypatch.setattr(smoke, "_generation", generation)
    heard: list[smoke.Result] = []

    results = smoke.run(progress=heard.append)

    assert most[0] == smoke.AT_ONCE
    assert sorted(heard, key=lambda result: result.provider_id) == results
