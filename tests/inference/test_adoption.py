from __future__ import annotations

from datetime import timedelta

import pytest
from django.core.management import call_command
from django.db import OperationalError
from django.utils import timezone

from inference import adoption, attempts, tasks, usage_rows
from inference.attempts import Trail
from inference.kept_records import LOST, KeptRecords
from inference.models import Job, Trace, UsageRecord
from inference.recording import row_of
from inference.spool import LOG_BYTES, Spool
from inference.wire.openai import CHAT, parse
from tests.inference import registry
from tests.inference.test_recording import entry

pytestmark = pytest.mark.django_db

MODEL = registry.model(registry.provider(), "m")


@pytest.fixture
def dead(tmp_path):
    """The spool of a process, which the test lets die."""
    kept = KeptRecords(Spool(tmp_path, most_bytes=4 * LOG_BYTES))
    kept.spool.open()
    yield kept
    kept.spool.close()


def under_way(kept: KeptRecords, request_id: str, **facts) -> Trail:
    trail = Trail(identity=registry.key_view().identity, model=MODEL, attempts=1, **facts)
    kept.began(request_id, parse(CHAT, b'{"model":"m","messages":[{}],"stream":true}'), trail)
    return trail


def adopted(kept: KeptRecords) -> int:
    kept.spool._unlock()
    return adoption.adopt(kept.spool.folder)


def test_records_and_requests_of_a_dead_process_are_booked_once(dead, tmp_path) -> None:
    dead.keep(entry(1, model=MODEL), None)
    under_way(dead, "req_2").slot.saw(4)
    assert adopted(dead) == 2
    assert adoption.adopt(tmp_path) == 0
    assert not list(tmp_path.iterdir())
    assert set(UsageRecord.objects.values_list("request_id", "output_tokens")) == {("req_1", 500_000), ("req_2", 4)}
    assert Trace.objects.get(request_id="req_2").error_code == LOST


def test_what_the_database_has_already_is_not_written_again(dead) -> None:
    first = entry(1, model=MODEL)
    dead.keep(first, None)
    under_way(dead, "req_2").slot.saw(4)
    usage_rows.insert([row_of(first), row_of(entry(2, model=MODEL))])
    adopted(dead)
    assert UsageRecord.objects.count() == Trace.objects.count() == 2
    assert UsageRecord.objects.get(request_id="req_2").output_tokens == 500_000


def test_a_request_whose_end_was_stored_is_not_booked_by_its_begin_too(dead) -> None:
    under_way(dead, "req_1")
    dead.keep(entry(1, model=MODEL), None)
    assert adopted(dead) == 1
    assert UsageRecord.objects.get().status == 200


def test_a_folder_that_cannot_be_read_keeps_no_other_from_being_read(dead, tmp_path) -> None:
    broken = tmp_path / "0-broken"
    (broken / "log-000000").mkdir(parents=True)
    (broken / "owner").touch()
    dead.keep(entry(1, model=MODEL), None)
    assert adopted(dead) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["0-broken"]


def test_nothing_goes_while_the_database_is_away(dead, tmp_path, monkeypatch) -> None:
    dead.keep(entry(1, model=MODEL), None)

    def away(_: object) -> None:
        raise OperationalError("away")

    with monkeypatch.context() as patched, pytest.raises(OperationalError):
        patched.setattr(usage_rows, "write", away)
        adopted(dead)
    assert adoption.adopt(tmp_path) == 1
    assert UsageRecord.objects.count() == 1


def job(fence: int, state: str) -> Job:
    return Job.objects.create(
        owner="k", request={}, model="m", fence=fence, state=state, created_at=timezone.now() - timedelta(1)
    )


def test_a_run_of_a_job_is_booked_beside_the_one_that_ended_it(dead) -> None:
    one = job(2, Job.State.SUCCEEDED)
    name = f"job_{one.pk.hex}"
    under_way(dead, name, run=attempts.RUN + 1).slot.saw(4)
    under_way(dead, name, run=attempts.RUN + 2)
    usage_rows.insert([row_of(entry(request_id=name, model=MODEL))])
    adopted(dead)
    assert set(UsageRecord.objects.values_list("attempt", "output_tokens")) == {(0, 500_000), (attempts.RUN + 1, 4)}
    assert Trace.objects.count() == 1


@pytest.mark.parametrize("state", [Job.State.FAILED, Job.State.CANCELLED])
def test_a_run_whose_job_the_sweep_has_ended_is_booked(dead, state: str) -> None:
    under_way(dead, f"job_{job(3, state).pk.hex}", run=attempts.RUN + 3).slot.saw(4)
    adopted(dead)
    assert list(UsageRecord.objects.values_list("attempt", "output_tokens")) == [(attempts.RUN + 3, 4)]


def test_each_run_that_a_process_left_is_booked(dead) -> None:
    for run, seen in ((1, 4), (2, 5)):
        under_way(dead, "batch_1_1", run=attempts.RUN + run).slot.saw(seen)
    adopted(dead)
    booked = UsageRecord.objects.values_list("attempt", "output_tokens")
    assert set(booked) == {(attempts.RUN + 1, 4), (attempts.RUN + 2, 5)}


def test_a_batchs_line_is_booked_once_by_the_run_that_answered_it(dead) -> None:
    under_way(dead, "batch_1_1", run=attempts.RUN + 2)
    under_way(dead, "batch_1_2", run=attempts.RUN + 2).slot.saw(4)
    later = timezone.now().timestamp() + 60
    usage_rows.insert(
        [
            row_of(entry(request_id="batch_1_1", model=MODEL)),
            row_of(entry(request_id="batch_1_2", model=MODEL, at=later)),
        ]
    )
    adopted(dead)
    assert set(UsageRecord.objects.values_list("request_id", "attempt")) == {
        ("batch_1_1", 0),
        ("batch_1_2", 0),
        ("batch_1_2", attempts.RUN + 2),
    }, "the second was answered again by who had the batch later"


def test_the_command_and_the_task_adopt_too(dead, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(adoption, "folder", lambda: tmp_path)
    call_command("adopt_spool")
    assert "No dead process left anything" in capsys.readouterr().out
    dead.keep(entry(1, model=MODEL), None)
    dead.spool._unlock()
    call_command("adopt_spool")
    assert "1 records of processes that are gone" in capsys.readouterr().out
    assert tasks.adopt_spool() == 0
