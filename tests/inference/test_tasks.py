"""Jobs in real Celery workers: to their end, cancelled, and through the death of their worker."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from inference import events, jobs, relay
from inference.models import Job, Trace
from inference.wakeups import wake
from routing import client_keys, snapshot
from tests.fakes.upstream import FakeUpstream
from tests.inference import workers
from tests.inference.workers import Worker, eventually

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow, pytest.mark.xdist_group("tasks")]

QUEUES = "generation,llama_cpp,housekeeping"
CANARY = "canary-prompt-91c2"


@pytest.fixture(scope="module")
def worker(plugins: Path, django_db_setup: None, django_db_blocker: Any, tmp_path_factory: Any) -> Iterator[Worker]:
    with django_db_blocker.unblock():
        worker = Worker(plugins, tmp_path_factory.mktemp("worker") / "log", QUEUES).start()
    yield worker
    worker.stop()


@pytest.fixture(autouse=True)
def registry(transactional_db: None, plugins: Path) -> Iterator[None]:
    workers.fresh_registry()
    workers.add_model(workers.add_provider("web", "fake"))
    workers.add_model(workers.add_provider("local"), "local-words")
    yield
    snapshot.replace(None)


@pytest.fixture
def owner(registry: None) -> Any:
    _, secret = workers.client_key("generate")
    return snapshot.refresh().client_keys[client_keys.prefix_of(secret)].identity


def make(owner: Any, prompt: str, model: str = "words", **config: Any) -> Job:
    return jobs.create({"prompt_content": prompt, "config": {"model_identifier": model, **config}}, owner)


def state_of(job: Job) -> str:
    return Job.objects.values_list("state", flat=True).get(pk=job.pk)


def ends(job: Job, seconds: float = 60.0) -> Job:
    assert eventually(lambda: Job.objects.get(pk=job.pk).is_over, seconds), state_of(job)
    job.refresh_from_db()
    return job


def slow(provider_id: str, delay_seconds: float = 0.05) -> None:
    provider = workers.Provider.objects.get(provider_id=provider_id)
    provider.connection_params = {"delay_seconds": delay_seconds}
    provider.save()


def log_of(store: redis.Redis, job: Job) -> list[tuple[str, Any]]:
    return [(fields[b"k"].decode(), json.loads(fields[b"d"])) for _, fields in store.xrange(events.key(job.pk))]


def text_of(log: list[tuple[str, Any]]) -> str:
    deltas = [choice["delta"] for kind, data in log if kind == "chunk" for choice in data["choices"]]
    return "".join(delta.get("content") or "" for delta in deltas)


@pytest.mark.parametrize(("model", "provider_id"), [("words", "web"), ("local-words", "local")])
def test_a_job_runs_to_its_result_and_leaves_its_events_and_its_usage(
    worker: Worker, owner: Any, store: redis.Redis, model: str, provider_id: str
) -> None:
    job = ends(make(owner, "one two three", model))
    assert job.state == "succeeded"
    assert job.result["generated_content"] == "one two three"
    assert (job.result["finish_reason"], job.result["provider_id"]) == ("stop", provider_id)
    assert job.result["usage"] == {"prompt_tokens": 3, "completion_tokens": 3, "total_tokens": 6}
    metrics = job.result["performance_metrics"]
    assert metrics["total_duration_ms"] >= metrics["llm_latency_ms"] > 0
    usage = Trace.objects.get()
    assert (usage.request_id, usage.input_tokens, usage.output_tokens) == (jobs.request_id(job.pk), 3, 3)
    assert (usage.client_key_prefix, usage.provider_id, usage.status) == (owner.prefix, provider_id, 200)
    assert eventually(lambda: log_of(store, job)[-1][0] == "over")
    log = log_of(store, job)
    assert log[0][0] == "running"
    assert text_of(log) == "one two three"


def test_a_job_reaches_a_remote_upstream(worker: Worker, owner: Any) -> None:
    with FakeUpstream(api_key="sk-upstream-canary") as upstream:
        remote = workers.add_provider("remote", "openai_compatible", base_url=upstream.base_url, allow_private=True)
        workers.add_model(remote, "gpt-test")
        remote.api_keys.create(secret="sk-upstream-canary")
        job = ends(make(owner, "far away", "gpt-test", temperature=0, seed=7, stop_sequences=["END"]))
        assert job.state == "succeeded", job.error
        assert job.result["generated_content"] == "echo: far away"
        sent = upstream.requests[-1].json
        assert (sent["temperature"], sent["seed"], sent["stop"]) == (0, 7, ["END"])
        assert "provider_id" not in sent


def test_a_failure_is_the_jobs_error_and_is_written_down(worker: Worker, owner: Any) -> None:
    job = ends(make(owner, "/fail 503"))
    assert (job.state, job.result) == ("failed", None)
    assert job.error["retryable"] is True
    assert job.error["details"]["status"] == 503
    assert Trace.objects.get().status == 503


@pytest.mark.parametrize(("model", "provider_id"), [("words", "web"), ("local-words", "local")])
def test_a_cancelled_job_stops(worker: Worker, owner: Any, store: redis.Redis, model: str, provider_id: str) -> None:
    slow(provider_id, 0.2)
    job = make(owner, " ".join(["word"] * 600), model)
    assert eventually(lambda: len(log_of(store, job)) > 3)
    jobs.cancel(job)
    job = ends(job)
    assert job.state == "cancelled"
    assert eventually(lambda: log_of(store, job)[-1][0] == "over"), "the log is told after the row"
    length = store.xlen(events.key(job.pk))
    time.sleep(0.5)
    assert store.xlen(events.key(job.pk)) == length
    usage = Trace.objects.get()
    assert (usage.error_code, usage.estimated) == ("cancelled", True)
    assert 0 < usage.output_tokens < 600


def test_a_redelivered_job_is_not_run_again(worker: Worker, owner: Any) -> None:
    job = ends(make(owner, "once"))
    wake(*jobs.REMOTE, str(job.pk))
    wake(*jobs.REMOTE, str(job.pk))
    ends(make(owner, "a later one"))
    again = Job.objects.get(pk=job.pk)
    assert (again.attempts, again.fence, again.finished_at) == (1, 1, job.finished_at)


def test_jobs_whose_worker_is_killed_are_taken_up_again_and_end_once(
    worker: Worker, owner: Any, store: redis.Redis
) -> None:
    for provider_id in ("web", "local"):
        slow(provider_id, 0.5)
    prompt = " ".join(f"w{number}" for number in range(200))
    taken = [make(owner, prompt, model) for model in ("words", "local-words")]
    assert eventually(lambda: all(len(log_of(store, job)) > 5 for job in taken))
    worker.kill()
    for provider_id in ("web", "local"):
        slow(provider_id, 0)
    worker.start()

    def swept() -> bool:
        jobs.sweep()
        return not Job.objects.filter(fence__lte=1).exists()

    assert eventually(swept)
    for job in taken:
        job = ends(job)
        assert (job.state, job.attempts) == ("succeeded", 2)
        assert job.result["generated_content"] == prompt
        log = log_of(store, job)
        restarted = [kind for kind, _ in log].index("restarted")
        assert text_of(log[restarted:]) == prompt
    assert Trace.objects.count() == 2


def test_a_stopping_worker_gives_its_jobs_back(worker: Worker, owner: Any, store: redis.Redis) -> None:
    slow("web", 0.2)
    job = make(owner, " ".join(["word"] * 400))
    assert eventually(lambda: len(log_of(store, job)) > 3)
    slow("web", 0)
    worker.stop()
    job.refresh_from_db()
    assert (job.state, job.attempts) == ("queued", 0)
    worker.start()
    assert ends(job).state == "succeeded"


def test_messages_in_the_broker_hold_ids_and_nothing_else(worker: Worker, owner: Any, store: redis.Redis) -> None:
    worker.kill()
    store.ping()  # until Redis has seen that it is gone, it would hand it a message
    job, local = make(owner, CANARY), make(owner, CANARY, "local-words")
    for queue, expected in (("generation", job), (relay.QUEUE, local)):
        message = store.lindex(queue, 0)
        body = base64.b64decode(json.loads(message)["body"])
        assert CANARY.encode() not in message + body
        assert json.loads(body)[0] == [str(expected.pk)]
    worker.start()
    assert ends(job).state == ends(local).state == "succeeded"
    assert CANARY not in worker.log.read_text()
