from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from django.db.models import Q

from inference import rollup_windows
from inference.models import TrafficRollup
from inference.rollup_models import DURATION
from inference.rollup_windows import NOTHING, Times
from tests.inference.ledger import record

NOW = datetime(2026, 11, 21, 12, 30, 20, tzinfo=UTC)
HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)


@pytest.mark.django_db
class TestAmounts:
    def test_a_span_begins_and_ends_at_its_minutes(self):
        for back in (0 * MINUTE, 29 * MINUTE, HOUR, 2 * HOUR, 3 * HOUR, 3 * HOUR + MINUTE, -2 * MINUTE):
            record(at=NOW - back)
        assert rollup_windows.amounts(NOW - 3 * HOUR, NOW)[()].requests == 5

    def test_a_span_within_an_hour_is_of_minutes(self):
        record(at=NOW - 10 * MINUTE)
        record(at=NOW - 20 * MINUTE)
        assert rollup_windows.amounts(NOW - 15 * MINUTE, NOW)[()].requests == 1

    def test_a_span_older_than_the_minutes_begins_at_its_hour(self):
        record(at=NOW - timedelta(days=40))
        TrafficRollup.objects.all().delete()
        assert rollup_windows.amounts(NOW - timedelta(days=40), NOW)[()].requests == 1

    def test_both_parts_are_added_for_each_value(self):
        record(2, at=NOW - 2 * HOUR, model_id="a", cost=Decimal("0.5"), duration_ms=10.0)
        record(1, at=NOW, model_id="a", cost=Decimal("0.25"), duration_ms=40.0, status=500)
        record(1, at=NOW, model_id="b", side="shadow")
        told = rollup_windows.amounts(NOW - 3 * HOUR, NOW, Q(side="gateway"), ["model_id"])
        assert set(told) == {("a",)}
        assert (told[("a",)].cost, told[("a",)].mean_ms, told[("a",)].error_rate) == (Decimal("1.25"), 20.0, 1 / 3)

    def test_hours_of_edges_are_told_as_hours(self):
        record(at=NOW - 2 * HOUR)
        record(at=NOW)
        told = rollup_windows.amounts(NOW - 2 * HOUR - MINUTE, NOW + MINUTE, by=["hour"])
        assert {key[0].hour: value.requests for key, value in told.items()} == {10: 1, 12: 1}

    def test_without_requests_there_is_nothing(self):
        assert rollup_windows.amounts(NOW - HOUR, NOW).get((), NOTHING) == NOTHING


@pytest.mark.django_db
def test_times_are_of_the_measure_asked_for():
    record(99, at=NOW - 2 * HOUR, duration_ms=300.0)
    record(1, at=NOW, duration_ms=20_000.0, stream=True, first_byte_ms=5.0)
    told = rollup_windows.times(DURATION, NOW - 3 * HOUR, NOW)[()]
    assert told.requests == 100
    assert 250 < told.percentile(50) < 400
    assert 16_000 < told.percentile(99.5) <= 25_000
    assert told.mean_ms == pytest.approx(497.0)


def test_percentiles_lie_evenly_within_a_bucket():
    counts = [0] * 32
    counts[20] = 100
    told = Times(100, 50_000.0, tuple(counts))
    assert (told.percentile(50), told.percentile(100)) == (pytest.approx(815.0), 1_000.0)


def test_the_longest_waits_are_told_within_twice_the_last_bound():
    told = Times(1, 900_000.0, (*[0] * 31, 1))
    assert told.percentile(95) == 200_000.0


def test_no_request_is_told_to_have_taken_longer_than_all_together():
    assert Times(1, 300.0, (*[0] * 18, 1, *[0] * 13)).percentile(95) == 300.0
