from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection

from inference import trace_partitions
from inference.models import Trace, TraceContent

NOW = datetime(2031, 5, 7, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)

pytestmark = pytest.mark.django_db


def a_trace(name: str, at: datetime) -> Trace:
    return Trace.objects.create(request_id=name, at=at, operation="chat", requested_model="m", status=200)


def left() -> list[str]:
    return sorted(Trace.objects.values_list("request_id", flat=True))


def partition_of(name: str) -> str:
    with connection.cursor() as cursor:
        cursor.execute("SELECT tableoid::regclass::text FROM inference_trace WHERE request_id = %s", [name])
        return cursor.fetchone()[0]


def test_traces_live_for_their_hours(settings) -> None:
    settings.GATEWAY_TRACE_HOURS = 5
    a_trace("old", NOW - 6 * HOUR)
    a_trace("young", NOW - 4 * HOUR)
    assert trace_partitions.keep(NOW).rows_deleted == 1
    assert left() == ["young"]


def test_content_has_hours_of_its_own(settings) -> None:
    settings.GATEWAY_TRACE_HOURS, settings.GATEWAY_CONTENT_HOURS = 100, 2
    for name, age in (("old", 3), ("young", 1)):
        a_trace(name, NOW - age * HOUR)
        TraceContent.objects.create(request_id=name, at=NOW - age * HOUR, request="asked")
    assert trace_partitions.keep(NOW).contents_deleted == 1
    assert (left(), TraceContent.objects.get().request_id) == (["old", "young"], "young")


@pytest.mark.skipif(connection.vendor != "postgresql", reason="partitions are PostgreSQL's")
class TestPartitions:
    def test_each_of_the_days_to_come_has_one_and_they_are_made_once(self) -> None:
        assert trace_partitions.keep(NOW).partitions_made == trace_partitions.DAYS_AHEAD
        assert trace_partitions.keep(NOW).partitions_made == 0
        a_trace("now", NOW)
        assert partition_of("now") == "inference_trace_20310507"

    def test_a_moment_without_one_is_written_all_the_same(self) -> None:
        a_trace("far", datetime(2040, 1, 1, tzinfo=UTC))
        assert partition_of("far") == "inference_trace_other"

    def test_a_day_that_began_without_one_goes_on_without(self) -> None:
        a_trace("early", NOW)
        assert trace_partitions.keep(NOW).partitions_made == trace_partitions.DAYS_AHEAD - 1
        a_trace("late", NOW + HOUR)
        assert partition_of("early") == partition_of("late") == "inference_trace_other"

    def test_a_day_that_is_over_for_long_enough_goes_whole(self, settings) -> None:
        settings.GATEWAY_TRACE_HOURS = 24
        trace_partitions.keep(NOW)
        a_trace("first", NOW)
        a_trace("second", NOW + 24 * HOUR)
        assert trace_partitions.keep(NOW + 36 * HOUR - timedelta(seconds=1)).partitions_dropped == 0
        assert trace_partitions.keep(NOW + 36 * HOUR).partitions_dropped >= 1
        assert left() == ["second"]

    def test_a_partition_has_the_indices_of_the_table(self) -> None:
        trace_partitions.keep(NOW)
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT tablename, count(*) FROM pg_indexes WHERE tablename IN "
                "('inference_trace', 'inference_trace_20310507') GROUP BY tablename"
            )
            counts = dict(cursor.fetchall())
        assert counts["inference_trace"] == counts["inference_trace_20310507"] == 15
