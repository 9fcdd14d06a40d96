from __future__ import annotations

import threading
from decimal import Decimal

import pytest

from inference import recording
from inference.backends.base import Usage
from inference.metrics import Metrics
from inference.recording import BATCH_ROWS, Entry, Recorder, row_of
from inference.told_usage import read_usage, usage_tail
from routing.types import Prices
from tests.inference import registry


def entry(number: int = 0, **changes) -> Entry:
    told = {
        "request_id": f"req_{number}",
        "at": 1_700_000_000.0,
        "operation": "chat",
        "identity": registry.key_view().identity,
        "requested_model": "m",
        "model": registry.model(registry.provider(), "m"),
        "upstream_key_id": 3,
        "stream": False,
        "status": 200,
        "error_code": "",
        "attempts": 1,
        "usage": Usage(1_000_000, 500_000),
        "guess": (0, 0),
        "duration": 0.5,
        "first_byte": None,
        "upstream": 0.4,
        "overhead": 0.1,
        "session_id": None,
    }
    return Entry(**{**told, **changes})


@pytest.mark.parametrize(
    ("reply", "usage"),
    [
        (b'{"usage":{"prompt_tokens":3,"completion_tokens":4,"total_tokens":7}}', Usage(3, 4)),
        (b'{"usage" : {"prompt_tokens": 3}, "after": {"more": 1}}', Usage(3, 0)),
        (b'{"usage":{"input_tokens":3,"output_tokens":4}}', Usage(3, 4)),
        (
            b'{"usage":{"prompt_tokens":9,"prompt_tokens_details":{"cached_tokens":5},"completion_tokens":8,'
            b'"completion_tokens_details":{"reasoning_tokens":6}}}',
            Usage(9, 8, 5, 6),
        ),
        (b'{"usage":{"prompt_tokens":3,"prompt_tokens_details":null,"cost":0.001,"x":{"y":[1]}}}', Usage(3, 0)),
        (b'data: {"usage":null}\n\ndata: {"choices":[],"usage":{"prompt_tokens":2}}\n\ndata: [DONE]\n\n', Usage(2, 0)),
        (b'{"usage":{"prompt_tokens":-5,"completion_tokens":99999999999999}}', Usage(0, 0)),
    ],
)
def test_usage_is_read_from_the_end_of_a_reply(reply, usage) -> None:
    assert read_usage(usage_tail(reply)) == usage


@pytest.mark.parametrize(
    "reply",
    [b"", b"{}", b'{"usage":null}', b'{"type":"usage"}', b'{"content":"say \\"usage\\":{1}"}'],
)
def test_a_reply_without_usage_has_no_tail(reply) -> None:
    assert usage_tail(reply) is None


@pytest.mark.parametrize("tail", [b'"usage":{', b'"usage":{"prompt_tokens":"many"}', b'"usage":{"prompt_tokens":1.5}'])
def test_usage_that_cannot_be_read_is_none(tail) -> None:
    assert read_usage(tail) is None


def test_a_row_holds_the_cost_at_the_prices_of_the_moment() -> None:
    row = row_of(entry())
    assert (row.cost, row.currency) == (Decimal(2), "USD")
    assert (row.duration_ms, row.first_byte_ms, row.upstream_ms) == (500, None, 400)


def test_an_unknown_price_is_an_unknown_cost_and_not_zero() -> None:
    unpriced = registry.model(registry.provider(), "m", prices=Prices())
    assert row_of(entry(model=unpriced)).cost is None


def test_what_nobody_told_is_estimated_and_says_so() -> None:
    row = row_of(entry(usage=None, guess=(10, 3)))
    assert (row.input_tokens, row.output_tokens, row.estimated) == (10, 3, True)


def test_text_that_a_database_cannot_hold_is_made_fit() -> None:
    row = row_of(entry(requested_model="a\0b\ud800" + "x" * 300, session_id="s" * 300, error_code="up\0stream"))
    assert (row.requested_model.count("\0"), row.error_code) == (0, "upstream")
    row.requested_model.encode()
    assert (len(row.requested_model), len(row.session_id)) == (255, 255)


def test_everything_queued_is_written_in_batches() -> None:
    batches: list[int] = []
    recorder = Recorder(lambda rows: batches.append(len(rows)), Metrics())
    for number in range(BATCH_ROWS * 2 + 7):
        recorder.add(entry(number))
    recorder.start()
    recorder.stop()
    assert sum(batches) == BATCH_ROWS * 2 + 7
    assert max(batches) == BATCH_ROWS
    assert (recorder.dropped, recorder.written) == (0, BATCH_ROWS * 2 + 7)


def test_a_queue_that_is_full_says_so_and_still_takes_what_was_under_way(monkeypatch) -> None:
    monkeypatch.setattr(recording, "_UNDER_WAY_ROWS", 1)
    metrics = Metrics()
    recorder = Recorder(lambda rows: None, metrics, queue_rows=3)
    metrics.sources.append(recorder.families)
    for number in range(9):
        assert recorder.is_full == (number >= 3)
        recorder.add(entry(number))
    assert recorder.dropped == 2
    assert b"gateway_records_dropped_total 2.0" in metrics.render()


def test_rows_wait_for_a_database_that_is_away_and_are_written_once() -> None:
    written: list[str] = []
    tries = 0
    back = threading.Event()

    def write(rows) -> None:
        nonlocal tries
        tries += 1
        if tries < 3:
            raise OSError("away")
        written.extend(row.request_id for row in rows)
        back.set()

    recorder = Recorder(write, Metrics(), retry_seconds=0.01)
    recorder.add(entry(1))
    recorder.start()
    assert back.wait(60)
    recorder.stop()
    assert written == ["req_1"]


def test_a_stop_does_not_wait_for_ever_for_a_database() -> None:
    def write(rows) -> None:
        raise OSError("away")

    recorder = Recorder(write, Metrics(), retry_seconds=0.01)
    recorder.add(entry(1))
    recorder.start()
    recorder.stop(grace_seconds=0.05)
    assert recorder.dropped == 1


def test_a_row_that_cannot_be_made_does_not_take_the_others_with_it() -> None:
    written: list[str] = []
    recorder = Recorder(lambda rows: written.extend(row.request_id for row in rows), Metrics())
    recorder.add(entry(1))
    recorder.add(entry(2, at=float("nan")))
    recorder.add(entry(3))
    recorder.start()
    recorder.stop()
    assert (written, recorder.dropped) == (["req_1", "req_3"], 1)


def test_times_of_last_use_are_told_once_per_key() -> None:
    told: list[tuple[dict, dict]] = []
    recorder = Recorder(lambda rows: None, Metrics(), write_key_use=lambda client, ours: told.append((client, ours)))
    for number in range(5):
        recorder.add(entry(number, at=float(number)))
    recorder.start()
    recorder.stop()
    assert told[-1] == ({7: (4.0, "")}, {3: 4.0})


def test_tokens_are_counted_by_direction() -> None:
    metrics = Metrics()
    recorder = Recorder(lambda rows: None, metrics)
    recorder.add(entry(usage=Usage(10, 4)))
    recorder.start()
    recorder.stop()
    assert dict(metrics.tokens) == {("fake", "m", "input"): 10, ("fake", "m", "output"): 4}


def test_a_recorder_that_stopped_may_be_started_again() -> None:
    written: list = []
    recorder = Recorder(written.extend, Metrics())
    for number in range(2):
        recorder.start()
        recorder.add(entry(number))
        recorder.stop()
    assert [row.request_id for row in written] == ["req_0", "req_1"]


def test_a_recorder_that_was_started_again_goes_on_until_it_is_stopped() -> None:
    written: list = []
    heard = threading.Event()

    def write(rows) -> None:
        written.extend(rows)
        heard.set()

    recorder = Recorder(write, Metrics())
    recorder.start()
    recorder.stop()
    recorder.start()
    for number in range(2):
        heard.clear()
        recorder.add(entry(number))
        assert heard.wait(60)
    recorder.stop()
    assert len(written) == 2


def test_what_was_written_elsewhere_is_counted_and_not_written_again() -> None:
    rows, metrics = [], Metrics()
    recorder = Recorder(rows.extend, metrics)
    recorder.start()
    recorder.written_elsewhere(entry())
    recorder.stop()
    assert (rows, sum(metrics.cost.values())) == ([], 2)
