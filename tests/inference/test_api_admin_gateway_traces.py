"""Requests as traces, for the clients of a source system's admin API."""

from __future__ import annotations

import json
from datetime import timedelta
from decimal import Decimal

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from inference import rollups
from inference.models import Trace
from inference.recording import Entry, row_of
from tests.callers import caller

pytestmark = pytest.mark.django_db

URL = "/api/admin/gateway"


@pytest.fixture
def admin():
    return caller("admin")


def record(number, *, ago=timedelta(0), now=None, **facts):
    told = {
        "requested_model": "writer",
        "policy": "writer",
        "provider_id": "openrouter",
        "model_id": "gemini",
        "operation": "chat",
        "status": 200,
        "input_tokens": 10,
        "output_tokens": 5,
        "cost": Decimal("0.001"),
        "duration_ms": 120.0,
        "attempts": 1,
    }
    return Trace.objects.create(request_id=f"req-{number}", at=(now or timezone.now()) - ago, **(told | facts))


def test_the_requests_of_the_last_hours_are_listed_newest_first(admin):
    record(1, ago=timedelta(hours=3))
    record(2, ago=timedelta(minutes=30))
    record(3)
    told = admin.get(f"{URL}/traces").json()
    assert {"traces", "limit", "requested_by", "timestamp"} <= told.keys()
    assert [one["trace_id"] for one in told["traces"]] == ["req-3", "req-2"]
    assert len(admin.get(f"{URL}/traces", {"hours": 4}).json()["traces"]) == 3
    assert len(admin.get(f"{URL}/traces", {"limit": 1}).json()["traces"]) == 1


@pytest.mark.parametrize("query", [{"hours": 0}, {"hours": 169}, {"limit": 0}, {"limit": 501}, {"hours": "x"}])
def test_what_is_beyond_the_limits_is_refused(admin, query):
    assert admin.get(f"{URL}/traces", query).status_code == 400


def test_what_the_legacy_side_served_and_copies_are_no_traces(admin):
    record(1, side="legacy")
    record(2, side="shadow")
    assert admin.get(f"{URL}/traces").json()["traces"] == []


def test_a_trace_has_a_span_for_every_try(admin):
    log = [
        {
            "provider_id": "openai",
            "model_id": "gpt",
            "reason": "target",
            "status": 503,
            "started": 1_800_000_000.0,
            "code": "upstream_error",
            "duration_ms": 40.0,
            "key_id": 1,
        },
        {"provider_id": "azure", "model_id": "gpt", "reason": "breaker", "status": None, "started": 1_800_000_000.04},
        {
            "provider_id": "openrouter",
            "model_id": "gemini",
            "reason": "fallback",
            "status": 200,
            "started": 1_800_000_000.05,
            "code": "",
            "duration_ms": 70.0,
            "input_tokens": 10,
            "output_tokens": 5,
            "cost": "0.001",
        },
    ]
    record(1, attempts=2, attempts_log=json.dumps(log))
    told = admin.get(f"{URL}/traces/req-1").json()
    assert (told["trace_id"], told["total_duration_ms"]) == ("req-1", 120.0)
    root, *tries = told["spans"]
    assert (root["operation"], root["parent_span_id"], root["metadata"]["tokens_used"]) == ("llm_call_writer", None, 15)
    assert [(one["operation"], one["status"]) for one in tries] == [
        ("attempt", "error"),
        ("passed_over", "error"),
        ("attempt", "completed"),
    ]
    assert {one["parent_span_id"] for one in tries} == {root["span_id"]}
    assert len({one["span_id"] for one in told["spans"]}) == 4


def test_an_unknown_trace_is_404(admin):
    assert admin.get(f"{URL}/traces/nothing").status_code == 404


def sum_up(number, **facts):
    told = {
        "requested_model": "writer",
        "policy": "writer",
        "provider_id": "openrouter",
        "model_id": "gemini",
        "status": 200,
        "error_code": "",
        "duration_ms": 120.0,
        **facts,
    }
    entry = Entry(f"req-{number}", timezone.now().timestamp(), "chat", None, told.pop("requested_model"), None, None, False,
                  200, "", 1, None, (0, 0), 0.1, None, 0.1, 0.0, None)  # fmt: skip
    rollups.add([row_of(entry)._replace(**told)])


def test_metrics_are_counted_by_node(admin):
    sum_up(1)
    sum_up(2, duration_ms=240.0, status=502, error_code="upstream_error")
    sum_up(3, policy="", requested_model="gpt-4o", duration_ms=60.0)
    told = admin.get(f"{URL}/metrics", {"hours": 2}).json()
    assert told == {
        "total_traces": 3,
        "successful_traces": 2,
        "error_rate": pytest.approx(1 / 3),
        "avg_duration_ms": 140.0,
        "operations": {
            "llm_call_writer": {"count": 2, "errors": 1, "avg_duration_ms": 180.0},
            "llm_call_gpt-4o": {"count": 1, "errors": 0, "avg_duration_ms": 60.0},
        },
        "time_range_hours": 2,
    }


def test_a_client_that_left_is_an_error_here(admin):
    sum_up(1)
    sum_up(2, status=499, error_code="client_disconnected")
    assert admin.get(f"{URL}/metrics").json()["error_rate"] == 0.5


def test_a_stream_that_broke_off_is_an_error(admin):
    record(1, status=200, error_code="upstream_broken", policy="", requested_model="")
    (listed,) = admin.get(f"{URL}/traces").json()["traces"]
    (span,) = admin.get(f"{URL}/traces/req-1").json()["spans"]
    assert {(one["status"], one["operation"]) for one in (listed, span)} == {("error", "llm_call_unknown")}


def test_all_requests_of_a_trace_are_told_under_the_name_that_its_sender_gave_it(admin):
    now = timezone.now()
    record(1, trace_id="order-7", ago=timedelta(minutes=2), now=now)
    record(2, trace_id="order-7", now=now)
    with CaptureQueriesContext(connection) as queries:
        told = admin.get(f"{URL}/traces/order-7").json()
    assert len([one for one in queries if 'FROM "inference_trace"' in one["sql"]]) == 1
    assert (told["trace_id"], [one["metadata"]["request_id"] for one in told["spans"]]) == (
        "order-7",
        ["req-1", "req-2"],
    )
    assert told["total_duration_ms"] == pytest.approx(120_120)


def test_without_requests_there_are_no_errors(admin):
    told = admin.get(f"{URL}/metrics").json()
    assert (told["total_traces"], told["error_rate"], told["avg_duration_ms"]) == (0, 0, 0)


@pytest.mark.parametrize("path", ["traces", "traces/req-1", "metrics"])
def test_only_admins_see_traces(path):
    record(1)
    assert caller("generate").get(f"{URL}/{path}").status_code == 403
