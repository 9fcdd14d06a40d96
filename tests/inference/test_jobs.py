"""The life of a job, as its row tells it: claimed once, renewed, ended once, found again. No worker here; see test_tasks."""

from __future__ import annotations

import asyncio
import threading
import uuid
from concurrent import futures
from datetime import timedelta
from typing import Any

import orjson
import pytest
import redis
from django.db import IntegrityError, OperationalError
from django.db.models import QuerySet
from django.utils import timezone

from inference import answering, attempts, events, jobs, kept_responses, response_keeper
from inference.attempts import Paid
from inference.backends.base import Usage
from inference.errors import InvalidRequest, ModelNotFound, UpstreamFailed
from inference.models import Job, Trace, UsageRecord
from inference.wire import openai, responses
from routing import issuing, snapshot
from routing.models import ClientKey, Team
from routing.types import Identity
from tests.inference import workers

pytestmark = pytest.mark.django_db(transaction=True)

OWNER = Identity(key_id=1, prefix="gw-owner", name="owner", scopes=frozenset({"generate"}))
REQUEST = {"prompt_content": "hello", "config": {"model_identifier": "words"}}


@pytest.fixture(autouse=True)
def registry(transactional_db: None) -> Any:
    workers.fresh_registry()
    workers.add_model(workers.add_provider("web", "fake"))
    yield
    snapshot.replace(None)


@pytest.fixture
def job() -> Job:
    return jobs.create(REQUEST, OWNER)


def question_for(held: jobs.Claim) -> answering.Question:
    body = b'{"model": "words", "messages": [{"role": "user", "content": "hello"}]}'
    return answering.Question(openai.parse(openai.CHAT, body), OWNER, held.request_id, held.fence)


def entry_for(held: jobs.Claim, status: int = 200) -> Any:
    return question_for(held).entry(status)


def lose(job: Job) -> None:
    Job.objects.filter(pk=job.pk).update(leased_until=timezone.now() - timedelta(seconds=1))


def test_a_new_job_waits_and_one_wake_up_is_sent(job: Job, redis_url: str) -> None:
    assert job.state == "queued"
    with redis.Redis.from_url(redis_url) as store:
        assert store.llen("generation") == 1
        assert b"hello" not in store.lindex("generation", 0)


def test_a_request_that_nobody_can_serve_makes_no_job() -> None:
    with pytest.raises(ModelNotFound):
        jobs.create({**REQUEST, "config": {"model_identifier": "wrods"}}, OWNER)
    with pytest.raises(InvalidRequest):
        jobs.create({"config": {"model_identifier": "words"}}, OWNER)
    assert not Job.objects.exists()


def test_a_job_is_claimed_once(job: Job) -> None:
    held = jobs.claim(job.pk)
    assert held is not None
    assert (held.fence, held.attempt) == (1, 1)
    assert jobs.claim(job.pk) is None


def test_a_job_whose_lease_is_over_is_claimed_again_and_the_first_holder_can_do_nothing(job: Job) -> None:
    first = jobs.claim(job.pk)
    lose(job)
    second = jobs.claim(job.pk)
    assert second.fence == 2
    assert not jobs.renew(first)
    assert not jobs.complete(first, {"generated_content": "stale"}, entry_for(first))
    assert not Trace.objects.exists()
    assert jobs.complete(second, {"generated_content": "fresh"}, entry_for(second))
    job.refresh_from_db()
    assert (job.state, job.result) == ("succeeded", {"generated_content": "fresh"})
    assert Trace.objects.count() == 1


def test_an_end_is_written_and_told_once(job: Job, monkeypatch: Any) -> None:
    told: list[Any] = []
    monkeypatch.setattr(answering, "tell", told.append)
    held = jobs.claim(job.pk)
    assert jobs.fail(held, UpstreamFailed("It broke."), entry_for(held, 502))
    assert not jobs.complete(held, {}, entry_for(held))
    assert [entry.status for entry in told] == [502]
    job.refresh_from_db()
    assert (job.state, job.error["message"], job.result) == ("failed", "It broke.", None)
    assert Trace.objects.get().status == 502


def test_a_result_whose_usage_cannot_be_written_is_not_written_either(job: Job) -> None:
    held = jobs.claim(job.pk)
    UsageRecord.objects.create(request_id=held.request_id, at=timezone.now(), status=200, operation="chat")
    with pytest.raises(IntegrityError):
        jobs.complete(held, {"generated_content": "paid for"}, entry_for(held))
    job.refresh_from_db()
    assert job.state == "running"


def test_a_waiting_job_is_cancelled_at_once_and_never_claimed(job: Job) -> None:
    assert jobs.cancel(job).state == "cancelled"
    assert jobs.claim(job.pk) is None


def test_a_running_job_is_only_asked_to_stop(job: Job) -> None:
    jobs.claim(job.pk)
    asked = jobs.cancel(job)
    assert (asked.state, asked.cancel_requested) == ("running", True)


def test_a_job_that_is_over_stays_as_it_ended(job: Job) -> None:
    held = jobs.claim(job.pk)
    jobs.complete(held, {"generated_content": "done"}, entry_for(held))
    assert jobs.cancel(Job.objects.get(pk=job.pk)).state == "succeeded"


def test_a_released_job_does_not_count_as_an_attempt(job: Job) -> None:
    held = jobs.claim(job.pk)
    assert jobs.release(held)
    job.refresh_from_db()
    assert (job.state, job.attempts) == ("queued", 0)
    assert jobs.claim(job.pk).fence == 2


def test_a_run_that_was_given_back_is_paid_for_beside_the_one_that_ends_the_job(job: Job) -> None:
    first = jobs.claim(job.pk)
    question = question_for(first)
    question.trail.model = snapshot.refresh().models[0]
    question.events = 5
    jobs.release(first)
    jobs._book_run(first, question)
    second = jobs.claim(job.pk)
    assert jobs.complete(second, {}, entry_for(second))
    booked = UsageRecord.objects.order_by("attempt").values_list("attempt", "output_tokens", "estimated")
    assert list(booked) == [(0, 0, False), (attempts.RUN + 1, 5, True)]
    assert Trace.objects.count() == 1


def test_tries_of_every_run_that_failed_and_cost_money_are_booked(job: Job) -> None:
    for end in (jobs._book_run, lambda held, question: jobs.complete(held, {}, question.entry(200))):
        held = jobs.claim(job.pk)
        question = question_for(held)
        question.trail.model = snapshot.refresh().models[0]
        question.trail.paid = [Paid(question.trail.model, Usage(held.fence, 0), 502)]
        lose(job)
        end(held, question)
    paid = UsageRecord.objects.filter(status=502).values_list("attempt", "input_tokens")
    assert set(paid) == {(attempts.paid_number(attempts.RUN + run, 1), run) for run in (1, 2)}


def test_a_run_that_said_nothing_is_not_booked(job: Job) -> None:
    held = jobs.claim(job.pk)
    jobs._book_run(held, question_for(held))
    assert not UsageRecord.objects.exists()


def test_the_sweep_queues_a_job_whose_worker_was_lost(job: Job, redis_url: str) -> None:
    jobs.claim(job.pk)
    lose(job)
    with redis.Redis.from_url(redis_url) as store:
        store.delete("generation")
        jobs.sweep()
        assert store.llen("generation") == 1
    job.refresh_from_db()
    assert job.state == "queued"


def test_the_sweep_leaves_a_job_alone_whose_lease_stands(job: Job) -> None:
    jobs.claim(job.pk)
    jobs.sweep()
    job.refresh_from_db()
    assert job.state == "running"


def test_the_sweep_gives_up_a_job_that_killed_every_worker(job: Job) -> None:
    for _ in range(jobs.MOST_ATTEMPTS):
        assert jobs.claim(job.pk) is not None
        lose(job)
    jobs.sweep()
    job.refresh_from_db()
    assert job.state == "failed"
    assert job.error["details"]["code"] == "worker_lost"
    assert jobs.claim(job.pk) is None


def test_the_sweep_ends_a_cancelled_job_whose_worker_was_lost(job: Job) -> None:
    jobs.claim(job.pk)
    jobs.cancel(job)
    lose(job)
    jobs.sweep()
    job.refresh_from_db()
    assert job.state == "cancelled"


def test_a_job_that_was_cancelled_is_not_given_back(job: Job) -> None:
    held = jobs.claim(job.pk)
    jobs.cancel(job)
    assert not jobs.release(held), "in the queue nobody would claim it"
    lose(job)
    jobs.sweep()
    job.refresh_from_db()
    assert job.state == "cancelled"


def test_a_job_that_is_cancelled_while_the_sweep_looks_at_it_is_not_queued_again(job: Job) -> None:
    jobs.claim(job.pk)
    lose(job)
    looked_at = Job.objects.get(pk=job.pk)
    jobs.cancel(job)
    jobs._bring_back(looked_at, timezone.now())
    jobs.sweep()
    job.refresh_from_db()
    assert job.state == "cancelled"


def test_a_job_that_is_given_back_while_it_is_cancelled_is_cancelled(job: Job, monkeypatch: Any) -> None:
    held, update, given = jobs.claim(job.pk), QuerySet.update, []

    def and_then(rows: Any, **told: Any) -> int:
        changed = update(rows, **told)
        if not given:
            given.append(held)
            jobs.release(held)
        return changed

    with monkeypatch.context() as patched:
        patched.setattr(QuerySet, "update", and_then)
        jobs.cancel(job)
    lose(job)
    jobs.sweep()
    job.refresh_from_db()
    assert job.state == "cancelled"


def test_a_message_that_redis_forgot_is_sent_again(job: Job, redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as store:
        store.flushdb() if store.get("test-session") is None else store.delete("generation", f"gw:job:{job.pk}:woken")
        assert jobs.sweep() == 1
        assert store.llen("generation") == 1
        assert jobs.sweep() == 0


def test_jobs_whose_messages_wait_are_not_told_again(job: Job, redis_url: str) -> None:
    jobs.create(REQUEST, OWNER)
    with redis.Redis.from_url(redis_url) as store:
        store.delete("generation", *(f"gw:job:{pk}:woken" for pk in Job.objects.values_list("pk", flat=True)))
        assert jobs.sweep() == 2
        store.delete(*(f"gw:job:{pk}:woken" for pk in Job.objects.values_list("pk", flat=True)))
        assert jobs.sweep() == 0
        store.lpop("generation")
        assert jobs.sweep() == 2, "one was lost, and which cannot be told"


def test_a_job_of_a_local_model_goes_to_the_queue_of_local_models(redis_url: str) -> None:
    local = workers.add_provider("demo", "llama_cpp", model_path="builtin:demo")
    workers.add_model(local, "demo")
    jobs.create({"prompt_content": "hello", "config": {"model_identifier": "demo"}}, OWNER)
    with redis.Redis.from_url(redis_url) as store:
        assert (store.llen("llama_cpp"), store.llen("generation")) == (1, 0)


def test_a_broker_that_is_away_keeps_the_job(settings: Any) -> None:
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    assert jobs.create(REQUEST, OWNER).state == "queued"


def test_a_job_of_a_key_that_was_taken_away_is_refused(job: Job) -> None:
    assert jobs.run(job.pk)
    job.refresh_from_db()
    assert (job.state, job.error["details"]["code"]) == ("failed", "invalid_api_key")


def test_a_job_of_a_key_that_expired_meanwhile_is_refused() -> None:
    key, _ = issuing.issue("short", ["generate"], expires_at=timezone.now() + timedelta(hours=1))
    job = jobs.create(REQUEST, Identity(key.pk, key.prefix, key.name, frozenset({"generate"})))
    ClientKey.objects.filter(pk=key.pk).update(expires_at=timezone.now() - timedelta(seconds=1))
    assert jobs.run(job.pk)
    job.refresh_from_db()
    assert (job.state, job.error["details"]["code"]) == ("failed", "invalid_api_key")


def _revoke(key: ClientKey) -> None:
    key.revoke("leaked")


def _switch_its_team_off(key: ClientKey) -> None:
    key.team.enabled = False
    key.team.save()


def _limit_it_to_a_policy(key: ClientKey) -> None:
    key.allowed_policies = ["p"]
    key.save()


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (_revoke, "invalid_api_key"),
        (_switch_its_team_off, "invalid_api_key"),
        (ClientKey.suspend, "invalid_api_key"),
        (_limit_it_to_a_policy, "model_not_found"),
    ],
)
def test_a_job_waits_for_no_leave_that_its_key_lost_meanwhile(change: Any, code: str) -> None:
    key, _ = issuing.issue("app", ["generate"], team=Team.objects.create(name="research"))
    job = jobs.create(REQUEST, Identity(key.pk, key.prefix, key.name, frozenset({"generate"})))
    change(key)
    assert jobs.run(job.pk)
    job.refresh_from_db()
    assert (job.state, job.error["details"]["code"]) == ("failed", code)


def test_what_a_cancelled_job_used_is_told_once_its_work_has_ended(monkeypatch: Any) -> None:
    begun = threading.Event()

    async def streamed(question: answering.Question, *_: Any) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.2)
            question.events = 5

    monkeypatch.setattr(answering.Question, "streamed", streamed)
    monkeypatch.setattr(jobs, "_stand_by", lambda *_: begun.wait(60) and "cancelled")
    monkeypatch.setattr(jobs, "_END_SECONDS", 60.0)
    key, _ = issuing.issue("app", ["generate"])
    job = jobs.create(REQUEST, Identity(key.pk, key.prefix, key.name, frozenset({"generate"})))
    assert jobs.run(job.pk)
    assert (UsageRecord.objects.get().status, UsageRecord.objects.get().output_tokens) == (499, 5)


def test_a_worker_that_speaks_on_leaves_nothing_of_a_response_that_was_deleted(
    monkeypatch: Any, redis_url: str
) -> None:
    begun, deleted = threading.Event(), threading.Event()
    key, _ = issuing.issue("app", ["generate"])
    asked = responses.read(orjson.dumps({"model": "words", "input": "hello", "background": True}), needs_input=True)
    parsed = openai.parse(openai.CHAT, responses.chat_body(asked).body)
    identity = Identity(key.pk, key.prefix, key.name, frozenset({"generate"}))
    row = response_keeper.queued(asked, parsed, identity, {"id": "resp_1", "status": "queued", "output": []})

    async def streamed(question: answering.Question, on_events: Any, *_: Any) -> dict[str, Any]:
        begun.set()
        await asyncio.to_thread(deleted.wait, 60)
        await on_events([b'{"choices": []}'])
        return {"choices": [{"message": {"content": "hello"}}]}

    def stand_by(_: jobs.Claim, working: Any) -> None:
        begun.wait(60)
        kept_responses.delete(row)
        deleted.set()
        futures.wait([working], 60)

    monkeypatch.setattr(answering.Question, "streamed", streamed)
    monkeypatch.setattr(jobs, "_stand_by", stand_by)
    job_id = row.job_id
    assert jobs.run(job_id)
    assert events.summary(redis_url, job_id)[1] == 0


def test_an_end_of_whose_commit_nobody_heard_is_not_paid_for_twice(monkeypatch: Any) -> None:
    async def streamed(question: answering.Question, *_: Any) -> dict[str, Any]:
        question.trail.model, question.events = snapshot.current().models[0], 5
        return {"choices": [{"message": {"content": "hello"}}]}

    complete = jobs.complete

    def unheard(*told: Any) -> bool:
        if not complete(*told):
            return False
        raise OperationalError("the connection broke")

    monkeypatch.setattr(answering.Question, "streamed", streamed)
    monkeypatch.setattr(jobs, "complete", unheard)
    key, _ = issuing.issue("app", ["generate"])
    job = jobs.create(REQUEST, Identity(key.pk, key.prefix, key.name, frozenset({"generate"})))
    jobs.run(job.pk)
    assert Job.objects.get(pk=job.pk).state == "succeeded"
    assert list(UsageRecord.objects.values_list("attempt", "output_tokens")) == [(0, 5)]


def test_an_unknown_job_is_nothing_to_do() -> None:
    assert jobs.run(uuid.uuid4()) is False
