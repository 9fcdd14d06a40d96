"""What was recorded before traces had partitions is there afterwards, and what comes then goes on from it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.utils import timezone

BEFORE, AFTER = [("inference", "0006_traces_and_ledger")], [("inference", "0007_traces_by_day")]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(connection.vendor != "postgresql", reason="only PostgreSQL's table is made anew"),
    pytest.mark.django_db(transaction=True),
]


@pytest.fixture
def at() -> Any:
    """Migrate to a state and give its apps; the latest state is put back."""

    def go(target: Any) -> Any:
        executor = MigrationExecutor(connection)
        executor.migrate(target)
        return executor.loader.project_state(target).apps

    yield go
    executor = MigrationExecutor(connection)
    executor.migrate(executor.loader.graph.leaf_nodes())


def test_rows_stay_and_new_ones_find_their_partition(at: Any) -> None:
    now = timezone.now()
    trace = at(BEFORE).get_model("inference", "Trace")
    for hours in (0, 30):
        trace.objects.create(
            request_id=f"req_{hours}",
            at=now - timedelta(hours=hours),
            operation="chat",
            requested_model="m",
            status=200,
        )
    trace = at(AFTER).get_model("inference", "Trace")
    trace.objects.create(
        request_id="req_new", at=now + timedelta(days=2), operation="chat", requested_model="m", status=200
    )
    assert sorted(trace.objects.values_list("request_id", flat=True)) == ["req_0", "req_30", "req_new"]
    assert len(set(trace.objects.values_list("pk", flat=True))) == 3
    with connection.cursor() as cursor:
        cursor.execute("SELECT DISTINCT tableoid::regclass::text FROM inference_trace ORDER BY 1")
        assert [name for (name,) in cursor.fetchall()] == [
            f"inference_trace_{now + timedelta(days=2):%Y%m%d}",
            "inference_trace_before",
        ]
    trace = at(BEFORE).get_model("inference", "Trace")
    assert sorted(trace.objects.values_list("request_id", flat=True)) == ["req_0", "req_30", "req_new"]
