"""The recorder with its spool: a database that is away, memory that is full, an end that comes too early."""

from __future__ import annotations

import threading

import pytest

from inference import recording
from inference import spool as spooling
from inference.attempts import Trail
from inference.kept_records import KeptRecords, rows_of
from inference.metrics import Metrics
from inference.recording import Recorder, Row
from inference.spool import LOG_BYTES, Spool, left_by_the_dead
from inference.wire.openai import CHAT, parse
from tests.inference import registry
from tests.inference.test_recording import entry


class Database:
    def __init__(self) -> None:
        self.rows: list[str] = []
        self.away = threading.Event()

    def write(self, rows: list[Row]) -> None:
        if self.away.is_set():
            raise OSError("away")
        self.rows += [row.request_id for row in rows]


@pytest.fixture
def database():
    return Database()


@pytest.fixture
def make(tmp_path, database):
    made: list[Recorder] = []

    def recorder(**options) -> Recorder:
        spool = Spool(tmp_path, most_bytes=options.pop("most_bytes", 4 * LOG_BYTES))
        one = Recorder(database.write, Metrics(), retry_seconds=0.01, kept=KeptRecords(spool), **options)
        made.append(one)
        one.start()
        return one

    yield recorder
    database.away.clear()
    for one in made:
        one.stop()


def left(tmp_path) -> list[str]:
    return [row.request_id for one in left_by_the_dead(tmp_path) for row in rows_of(list(one.finished()))]


def test_what_memory_does_not_hold_is_read_back_when_the_database_is_there_again(make, database) -> None:
    database.away.set()
    recorder = make(queue_rows=20)
    for number in range(3000):
        recorder.add(entry(number))
    assert not recorder.is_full
    database.away.clear()
    recorder.stop()
    assert database.rows == [f"req_{number}" for number in range(3000)]
    assert recorder.written == 3000


def test_after_a_time_behind_records_go_through_memory_again(make, database) -> None:
    database.away.set()
    recorder = make(queue_rows=5)
    for number in range(10):
        recorder.add(entry(number))
    database.away.clear()
    deadline = threading.Event()
    while len(database.rows) < 10 or recorder._behind:
        assert not deadline.wait(0.01)
    recorder.add(entry(10))
    recorder.stop()
    assert database.rows == [f"req_{number}" for number in range(11)]


def test_a_stop_without_a_database_leaves_the_records_for_the_next_process(make, database, tmp_path) -> None:
    database.away.set()
    recorder = make()
    for number in range(5):
        recorder.add(entry(number))
    recorder.stop(grace_seconds=0.02)
    assert recorder.dropped == 0
    assert left(tmp_path) == [f"req_{number}" for number in range(5)]


def test_a_stop_with_a_database_leaves_nothing(make, database, tmp_path) -> None:
    recorder = make()
    trail = Trail(identity=registry.key_view().identity, model=entry().model, attempts=1)
    recorder.began("req_0", parse(CHAT, b'{"model":"m","messages":[{}]}'), trail)
    recorder.add(entry(0), trail.slot)
    recorder.stop()
    assert database.rows == ["req_0"]
    assert not list(tmp_path.iterdir())


def test_where_neither_disk_nor_memory_has_room_new_requests_are_refused_and_nothing_is_lost(
    make, database, monkeypatch
) -> None:
    monkeypatch.setattr(spooling, "LOG_BYTES", 65_536)
    database.away.set()
    recorder = make(queue_rows=50, most_bytes=2 * 65_536)
    number = 0
    while not recorder.is_full:
        recorder.add(entry(number))
        number += 1
    recorder.add(entry(number))  # it was under way
    assert number > 200
    database.away.clear()
    recorder.stop()
    assert sorted(database.rows) == sorted(f"req_{n}" for n in range(number + 1))
    assert (recorder.dropped, recorder.is_full) == (0, False)


def test_a_record_that_finds_room_again_waits_behind_those_that_were_there_before(
    tmp_path, database, monkeypatch
) -> None:
    kept = KeptRecords(Spool(tmp_path, most_bytes=4 * LOG_BYTES))
    recorder = Recorder(database.write, Metrics(), kept=kept, queue_rows=2)
    kept.spool.open()
    for number in range(4):
        recorder.add(entry(number))
    recorder._write_some()  # what was queued; the others are in the spool alone
    keep, room = kept.keep, iter([False])
    monkeypatch.setattr(kept, "keep", lambda one, slot: next(room, True) and keep(one, slot))
    recorder.add(entry(4))
    while recorder._write_some():
        pass
    assert sorted(database.rows) == [f"req_{number}" for number in range(5)]
    kept.spool.close()


def test_a_disk_without_room_leaves_memory_up_to_its_bound(make, database, monkeypatch) -> None:
    def no_room(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", no_room)
    database.away.set()
    recorder = make(queue_rows=30)
    number = 0
    while not recorder.is_full:
        recorder.add(entry(number))
        number += 1
    assert 30 <= number <= 30 + recording.BATCH_ROWS, "its thread may have a batch in its hands"
    database.away.clear()
    recorder.stop()
    assert sorted(database.rows) == sorted(f"req_{n}" for n in range(number))


def test_what_the_spool_holds_can_be_seen_in_the_metrics(make, database) -> None:
    recorder = make()
    told = {sample.name for family in recorder.families() for sample in family.samples}
    assert told >= {"gateway_spool_bytes", "gateway_spool_full", "gateway_records_adopted_total"}
    assert told >= {"gateway_records_unprotected", "gateway_records_waiting", "gateway_records_dropped_total"}


def test_the_dead_are_looked_for_and_a_failure_of_that_stops_nothing(make, database, monkeypatch) -> None:
    monkeypatch.setattr(recording, "ADOPT_SECONDS", 0.0)
    looked = threading.Semaphore(0)

    def adopt() -> int:
        looked.release()
        raise OSError("unreadable")

    recorder = make(adopt=adopt)
    assert looked.acquire(timeout=60)
    assert looked.acquire(timeout=60)
    recorder.add(entry(1))
    recorder.stop()
    assert database.rows == ["req_1"]
