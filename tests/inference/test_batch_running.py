"""Batches in this very process, from the file to the files: every line is answered once, whatever comes between."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import uuid
from datetime import timedelta
from typing import Any

import pytest
from django.db import DataError, OperationalError
from django.utils import timezone

from inference import batch_running, batches, kept_files
from inference.batch_models import Batch, BatchAnswer
from inference.file_models import FilePiece
from inference.models import Trace, UsageRecord
from routing.models import Budget, ClientKey
from tests.inference import workers
from tests.inference.batch_work import batch_of, line, lines_in, work

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("words")]


def test_every_line_is_answered_in_the_order_of_the_input(owner: Any) -> None:
    batch = work(batch_of(owner, [line(f"c{n}", f"say {n}") for n in range(40)], metadata={"tags": "night"}))
    assert (batch.state, batch.total, batch.completed, batch.failed) == ("completed", 40, 40, 0)
    assert batch.error_file_id == ""
    told = lines_in(batch.output_file_id)
    assert [one["custom_id"] for one in told] == [f"c{n}" for n in range(40)]
    assert told[7]["error"] is None
    assert told[7]["response"]["status_code"] == 200
    assert told[7]["response"]["body"]["choices"][0]["message"]["content"] == "say 7"
    usage = UsageRecord.objects.get(request_id=told[7]["response"]["request_id"])
    assert (usage.client_key_prefix, usage.attempt, usage.output_tokens) == (owner.prefix, 0, 2)
    assert UsageRecord.objects.count() == 40
    assert (batch.input_tokens, batch.output_tokens) == (80, 80)
    assert Trace.objects.first().tags == f",batch:{batch.pk},night,"
    assert not BatchAnswer.objects.exists()


def test_a_bad_line_keeps_all_from_running_and_is_named(owner: Any) -> None:
    batch = work(batch_of(owner, [line("a"), "{", line("a")]))
    assert (batch.state, batch.total) == ("failed", 0)
    assert [(one["line"], one["code"]) for one in batch.errors] == [
        (2, "invalid_json_line"),
        (3, "duplicate_custom_id"),
    ]
    assert not UsageRecord.objects.exists()


def test_what_fails_is_in_the_error_file(owner: Any) -> None:
    missing = {"model": "nobody-knows-it"}
    batch = work(batch_of(owner, [line("good"), line("bad", **missing), line("ugly", messages=3)]))
    assert (batch.state, batch.completed, batch.failed, batch.never_asked) == ("completed", 1, 2, 0)
    bad, ugly = lines_in(batch.error_file_id)
    assert (bad["custom_id"], bad["response"]["status_code"], bad["error"]) == ("bad", 404, None)
    assert bad["response"]["body"]["error"]["code"] == "model_not_found"
    assert ugly["response"]["status_code"] == 400


def test_a_failing_provider_is_asked_again_before_that_is_the_answer(owner: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr("inference.batch_asking.LONGEST_PAUSE_SECONDS", 0.1)
    monkeypatch.setattr("inference.batch_asking.MOST_WAITS", 2)
    batch = work(batch_of(owner, [line("x", "/fail 503"), line("y")]))
    assert (batch.state, batch.completed, batch.failed) == ("completed", 1, 1)
    assert lines_in(batch.error_file_id)[0]["response"]["status_code"] == 503
    assert UsageRecord.objects.filter(attempt=0).count() == 2


def test_who_takes_a_batch_up_again_does_only_what_is_missing(owner: Any) -> None:
    batch = batch_of(owner, [line(f"c{n}", f"say {n}") for n in range(30)])
    assert batch_running.run(batch.pk)
    held, row = batches.claim(batch.pk)
    asking = batch_running.batch_asking.asking_of(row, owner, batch_running.Turns())
    lost = batch_running.Run(held, row, asking, batch_running.queue.SimpleQueue())
    lost.feed(5, 0.0)
    assert workers.eventually(lambda: lost._lanes._arrived.qsize() >= 5)
    for _ in range(5):
        lost.take(lost._lanes._arrived.get()[1])
    lost._write()
    assert BatchAnswer.objects.count() == 5
    Batch.objects.update(leased_until=timezone.now() - timedelta(seconds=1))
    assert work(batch).state == "completed"
    assert [one["custom_id"] for one in lines_in(batch.output_file_id)] == [f"c{n}" for n in range(30)]
    assert UsageRecord.objects.filter(attempt=0).count() == 30
    lost.take(lost._lanes._arrived.get()[1])
    lost._write()
    assert lost.over
    assert UsageRecord.objects.filter(attempt=0).count() == 30, "one that was thought dead does no harm"


def test_a_cancelled_batch_keeps_what_is_answered_and_says_of_the_rest_that_it_was_not_asked(owner: Any) -> None:
    batch = batch_of(owner, [line(f"c{n}") for n in range(12)])
    batch_running.run(batch.pk)
    held, row = batches.claim(batch.pk)
    run = batch_running.Run(
        held,
        row,
        batch_running.batch_asking.asking_of(row, owner, batch_running.Turns()),
        batch_running.queue.SimpleQueue(),
    )
    run.feed(3, 0.0)
    for _ in range(3):
        run.take(run._lanes._arrived.get(timeout=60)[1])
    run._write()
    assert batches.cancel(batch).state == "cancelling"
    batches.release(held)
    assert work(batch).state == "cancelled"
    answered = [one["custom_id"] for one in lines_in(batch.output_file_id)]
    left = lines_in(batch.error_file_id)
    assert (len(answered), len(left), batch.failed, batch.never_asked) == (3, 9, 9, 9)
    assert {one["error"]["code"] for one in left} == {"batch_cancelled"}
    assert sorted(answered + [one["custom_id"] for one in left]) == sorted(f"c{n}" for n in range(12))


def test_a_batch_whose_time_is_over_is_expired(owner: Any) -> None:
    batch = batch_of(owner, [line("a"), line("b")])
    batch_running.run(batch.pk)
    Batch.objects.update(expires_at=timezone.now())
    assert work(batch).state == "expired"
    assert [one["error"]["code"] for one in lines_in(batch.error_file_id)] == ["batch_expired"] * 2


def test_a_budget_that_is_used_up_holds_the_batch_until_there_is_room(owner: Any) -> None:
    workers.add_model(
        workers.Provider.objects.get(), "dear", input_cost_per_million=1_000, output_cost_per_million=1_000
    )
    key = ClientKey.objects.get(prefix=owner.prefix)
    budget = Budget.objects.create(subject="key", client_key=key, amount="0.000001", period="day")
    batch = work(batch_of(owner, [line("a", model="dear"), line("b", model="dear")]))
    assert (batch.state, batch.held, batch.completed) == ("in_progress", "budget", 0)
    assert batches.document(batch)["x_gateway"]["held"] == "budget"
    assert not UsageRecord.objects.exists()
    assert not batches.sweep(timezone.now()), "nothing is due"
    budget.amount = 100
    budget.save()
    Batch.objects.update(held_until=timezone.now())
    batch = work(batch)
    assert (batch.state, batch.completed, batch.held) == ("completed", 2, "")
    assert batch.cost > 0


def test_a_batch_waits_for_its_hours(owner: Any, settings: Any) -> None:
    hour = timezone.now().hour
    settings.GATEWAY_BATCH_WINDOW = f"{(hour + 2) % 24:02}:00-{(hour + 3) % 24:02}:00"
    batch = work(batch_of(owner, [line("a")]))
    assert (batch.state, batch.held, batch.completed) == ("in_progress", "hours", 0)
    assert batch.held_until.hour == (hour + 2) % 24
    settings.GATEWAY_BATCH_WINDOW = ""
    Batch.objects.update(held_until=timezone.now())
    assert work(batch).state == "completed"


def _may_only_look(key: ClientKey) -> None:
    key.scopes = ["usage"]
    key.save()


@pytest.mark.parametrize("its_end", [lambda key: key.revoke("leaked"), _may_only_look])
def test_a_key_that_was_revoked_or_may_no_more_ends_its_batches(owner: Any, its_end: Any) -> None:
    batch = batch_of(owner, [line("a")])
    batch_running.run(batch.pk)
    its_end(ClientKey.objects.get(prefix=owner.prefix))
    batch = work(batch)
    assert (batch.state, batch.errors[0]["code"], batch.failed) == ("failed", "invalid_api_key", 1)
    assert not UsageRecord.objects.exists()


def test_the_lines_of_a_key_are_shared_out_among_its_batches_and_never_more_than_its_limit(owner: Any) -> None:
    held = []
    for priority in ("normal", "normal", "high"):
        batch = batch_of(owner, [line("a")], metadata={"priority": priority})
        batch_running.run(batch.pk)
        held.append(batches.claim(batch.pk)[0])
    now = timezone.now()
    first, second, urgent = held
    assert batches.renew(first, 0, now) == 0, "one of a higher priority is there"
    assert batches.renew(urgent, 0, now) == 8
    batches.finish(urgent, "completed")
    assert batches.renew(first, 0, now) == 4
    assert batches.renew(second, 0, now) == 4
    batches.finish(second, "completed")
    assert batches.renew(first, 4, now) == 8
    third = batch_of(owner, [line("a")])
    batch_running.run(third.pk)
    late = batches.claim(third.pk)[0]
    assert batches.renew(late, 0, now) == 0, "all are under way elsewhere"
    assert batches.renew(first, 6, now) == 4
    assert batches.renew(late, 0, now) == 2, "until those that are under way are answered"


def test_lines_that_only_lie_ready_take_no_place_from_another_batch_of_the_key(owner: Any) -> None:
    batch, other = batch_of(owner, [line(f"c{n}") for n in range(100)]), batch_of(owner, [line("a")])
    for one in (batch, other):
        batch_running.run(one.pk)
    run, _ = a_run(batch, owner)
    now = batch_running.time.monotonic()
    run.look(now)
    run.feed(run.allowed, now)
    second = batches.claim(other.pk)[0]
    assert batches.renew(second, 0, timezone.now()) == 0, "all are under way elsewhere"
    run.look(now + 2)
    run.feed(run.allowed, now + 2)
    assert workers.eventually(lambda: run._lanes.most == 4)
    assert run.under_way > 8
    run.look(now + 4)
    assert batches.renew(second, 0, timezone.now()) == 4


def test_embeddings_are_answered_too(owner: Any) -> None:
    workers.add_model(workers.Provider.objects.get(), "vectors", "embedding")
    url = "/v1/embeddings"
    asked = {"custom_id": "e", "method": "POST", "url": url, "body": {"model": "vectors", "input": "hello"}}
    batch = work(batch_of(owner, [asked], endpoint=url))
    assert lines_in(batch.output_file_id)[0]["response"]["body"]["data"][0]["embedding"]


def test_a_line_never_streams(owner: Any) -> None:
    batch = work(batch_of(owner, [line("a", stream=True, stream_options={"include_usage": True})]))
    assert lines_in(batch.output_file_id)[0]["response"]["body"]["object"] == "chat.completion"


def test_a_batch_whose_input_cannot_be_read_ends_and_the_others_go_on(owner: Any) -> None:
    broken, good = batch_of(owner, [line("a")]), batch_of(owner, [line("b")])
    for batch in (broken, good):
        batch_running.run(batch.pk)
    FilePiece.objects.filter(file_id=broken.input_file_id).update(identity=uuid.uuid4())
    assert work(broken).state == "failed"
    assert broken.errors[0]["code"] == "internal_error"
    assert work(good).state == "completed"


def a_run(batch: Batch, owner: Any) -> tuple[batch_running.Run, Any]:
    held, row = batches.claim(batch.pk)
    asking = batch_running.batch_asking.asking_of(row, owner, batch_running.Turns())
    arrived: Any = batch_running.queue.SimpleQueue()
    return batch_running.Run(held, row, asking, arrived), arrived


def test_a_database_that_is_away_while_the_input_is_read_leaves_no_line_out(owner: Any, monkeypatch: Any) -> None:
    batch = batch_of(owner, [line(f"c{n}", "x" * 60_000) for n in range(40)])
    read, failed = kept_files.piece, []

    def sometimes(file_id: str, number: int) -> bytes | None:
        if number and number % 2 and len(failed) < 3:
            failed.append(number)
            raise OperationalError("away")
        return read(file_id, number)

    batch_running.run(batch.pk)
    monkeypatch.setattr(kept_files, "piece", sometimes)
    monkeypatch.setattr(batch_running, "LOOK_SECONDS", 0.05)
    assert work(batch).state == "completed"
    assert (len(failed), batch.completed) == (3, 40)
    assert [one["custom_id"] for one in lines_in(batch.output_file_id)] == [f"c{n}" for n in range(40)]


def test_a_worker_that_cannot_renew_its_lease_begins_no_line_and_tells_what_it_paid_for(owner: Any) -> None:
    batch = batch_of(owner, [line(f"c{n}", f"say {n}") for n in range(9)])
    batch_running.run(batch.pk)
    run, arrived = a_run(batch, owner)
    run.feed(2, 0.0)
    run.take(arrived.get(timeout=60)[1])
    asked = run.under_way
    run.feed(50, batch_running.time.monotonic() + batches.LEASE_SECONDS)
    assert run.under_way == asked
    assert workers.eventually(lambda: not arrived.empty()), "answered before the batch is lost"
    Batch.objects.update(fence=9)
    run.look(batch_running.time.monotonic())
    assert run.over
    run.take(arrived.get(timeout=60)[1])
    given_back = UsageRecord.objects.exclude(attempt=0)
    assert sorted(given_back.values_list("status", "output_tokens")) == [(499, 2)] * 2
    batch.refresh_from_db()
    assert (batch.completed, batch.output_tokens) == (0, 4), "what the ledger has"


def test_a_batch_whose_files_cannot_be_written_is_not_tried_without_end(owner: Any, monkeypatch: Any) -> None:
    batch = batch_of(owner, [line("a")])
    for _ in range(2):
        batch_running.run(batch.pk)

    def full(*_: Any) -> None:
        raise OSError("No space left on device")

    rest, rests = batches.rest, []

    def told(held: batches.Claim, seconds: float) -> bool:
        rests.append(seconds)
        return rest(held, seconds)

    monkeypatch.setattr(batch_running.batch_output, "write", full)
    monkeypatch.setattr(batches, "rest", told)
    while work(batch).state == "finalizing":
        assert batch.leased_until is not None
        Batch.objects.update(leased_until=None)
    assert rests[:3] == [10, 20, 40]
    assert (len(rests), max(rests)) == (10, 900)
    assert (batch.state, batch.errors[0]["code"]) == ("failed", "files_not_written")
    assert batch_running.batch_output.forget_left(timezone.now()) == 0
    assert batch_running.batch_output.forget_left(timezone.now() + timedelta(days=2)) == 1
    assert not BatchAnswer.objects.exists()


def test_a_worker_that_was_thought_dead_leaves_the_files_of_a_batch_that_is_over(owner: Any) -> None:
    batch = batch_of(owner, [line("a")])
    for _ in range(2):
        batch_running.run(batch.pk)
    late = batches.claim(batch.pk)
    Batch.objects.update(leased_until=None)
    assert work(batch).state == "completed"
    assert not batch_running.batch_output.write(*late)
    assert [one["custom_id"] for one in lines_in(batch.output_file_id)] == ["a"]


def test_answers_of_whose_commit_nobody_heard_are_not_paid_for_twice(owner: Any, monkeypatch: Any) -> None:
    batch = batch_of(owner, [line("a")])
    batch_running.run(batch.pk)
    run, arrived = a_run(batch, owner)
    run.feed(1, 0.0)
    run.take(arrived.get(timeout=60)[1])
    store = batch_running._store

    def unheard(*told: Any) -> bool:
        store(*told)
        raise OperationalError("the connection broke")

    with monkeypatch.context() as patched, pytest.raises(OperationalError):
        patched.setattr(batch_running, "_store", unheard)
        run._write()
    Batch.objects.update(fence=9)
    run.settle(batch_running.time.monotonic())
    assert run.over
    assert UsageRecord.objects.get().attempt == 0


def test_a_line_that_is_answered_while_its_batch_ends_keeps_its_answer(owner: Any) -> None:
    batch = batch_of(owner, [line("a"), line("b")])
    batch_running.run(batch.pk)
    run, arrived = a_run(batch, owner)
    run.feed(1, 0.0)
    assert workers.eventually(lambda: arrived.qsize() == 2)
    batches.cancel(batch)
    run.look(batch_running.time.monotonic())
    run.settle(batch_running.time.monotonic())
    assert not run.over, "its answers are on their way"
    for _ in range(2):
        run.take(arrived.get()[1])
    run.settle(batch_running.time.monotonic())
    assert run.over
    batch.refresh_from_db()
    assert (batch.ends_as, batch.completed) == ("cancelled", 2)


def test_lines_that_a_busy_loop_was_offered_are_not_begun_once_the_batch_is_given_back(owner: Any) -> None:
    batch = batch_of(owner, [line("a")])
    batch_running.run(batch.pk)
    run, arrived = a_run(batch, owner)
    go_on = threading.Event()
    run._loop.call_soon_threadsafe(go_on.wait, 60)
    run.feed(1, 0.0)
    run._give_back("", None)
    run.settle(batch_running.time.monotonic())
    go_on.set()
    assert run.over
    assert arrived.get(timeout=60)[1] is None, "nobody was asked"


def test_what_is_answered_once_the_last_batch_is_lost_is_paid_for_at_once(owner: Any, monkeypatch: Any) -> None:
    begun, go_on = threading.Event(), threading.Event()
    ask = batch_running.batch_asking.Asking.ask

    async def held_up(asking: Any, task: Any) -> Any:
        begun.set()
        answer = asyncio.ensure_future(ask(asking, task))
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        await asyncio.to_thread(go_on.wait, 60)
        return await answer

    look = batch_running.Run.look

    def lost(run: batch_running.Run, now: float) -> None:
        if run.under_way:
            assert begun.wait(60)
            Batch.objects.update(fence=9)
        look(run, now)

    turn = batch_running.Engine._turn

    def turned(engine: batch_running.Engine, runs: list[batch_running.Run]) -> None:
        turn(engine, runs)
        if runs[0].over:
            go_on.set()

    monkeypatch.setattr(batch_running.batch_asking.Asking, "ask", held_up)
    monkeypatch.setattr(batch_running.Run, "look", lost)
    monkeypatch.setattr(batch_running.Engine, "_turn", turned)
    monkeypatch.setattr(batch_running, "LOOK_SECONDS", 0.0)
    batch = batch_of(owner, [line("a")])
    for _ in range(2):
        batch_running.run(batch.pk)
    assert UsageRecord.objects.get().attempt > 0


def test_an_answer_that_the_database_never_takes_ends_its_batch(owner: Any, monkeypatch: Any) -> None:
    def refused(*_: Any) -> None:
        raise DataError("value out of range")

    monkeypatch.setattr(batch_running, "_store", refused)
    batch = work(batch_of(owner, [line("a")]))
    assert (batch.state, batch.errors[0]["code"], batch.failed) == ("failed", "internal_error", 1)
    assert UsageRecord.objects.get().attempt > 0, "it was paid for"


def test_a_batch_that_is_broken_off_ends_also_where_its_usage_cannot_be_told(owner: Any, monkeypatch: Any) -> None:
    def broken(*_: Any) -> None:
        raise TypeError("an answer that nobody foresaw")

    monkeypatch.setattr(batch_running, "row_of", broken)
    assert work(batch_of(owner, [line("a")])).state == "failed"


def test_names_that_no_database_takes_are_a_lines_own_error(owner: Any) -> None:
    batch = work(batch_of(owner, [line("a", model="no\0body"), line("b")]))
    assert (batch.state, batch.completed, batch.failed) == ("completed", 1, 1)


def test_a_batch_that_nobody_takes_up_is_not_told_again_and_again(owner: Any) -> None:
    batch = batch_of(owner, [line("a")])
    assert batches.sweep(timezone.now()) == 0, "its message is on its way"
    batch_running.run(batch.pk)
    batches.claim(batch.pk)
    batches.was_told(batch.pk)
    assert batches.sweep(timezone.now()) == 0, "it is worked on"
    assert batches.sweep(timezone.now() + timedelta(seconds=batches.LEASE_SECONDS + 1)) == 1, "its worker is lost"
