from __future__ import annotations

import json
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.utils import timezone

from inference.models import Trace, TraceContent, UsageRecord
from routing.models import ClientKey
from tests.callers import caller

pytestmark = pytest.mark.django_db

URL = "/api/v1/traces"


def a_trace(name: str, **fields: Any) -> Trace:
    told = {
        "requested_model": "writer",
        "provider_id": "openrouter",
        "model_id": "gemini",
        "operation": "chat",
        "status": 200,
        "attempts": 1,
        "duration_ms": 120.0,
        "upstream_ms": 100.0,
        "overhead_ms": 2.0,
        **fields,
    }
    return Trace.objects.create(request_id=name, at=told.pop("at", timezone.now()), **told)


@pytest.fixture
def admin():
    return caller("admin")


def test_an_admin_lists_and_filters_all_of_them_page_by_page(admin) -> None:
    for number in range(3):
        a_trace(f"req_{number}", tags=",batch,", at=timezone.now() - timedelta(minutes=3 - number))
    a_trace("req_other")
    first = admin.get(URL, {"tag": "batch", "limit": 2}).json()
    assert [one["request_id"] for one in first["results"]] == ["req_2", "req_1"]
    rest = admin.get(URL, {"tag": "batch", "limit": 2, "cursor": first["next_cursor"]}).json()
    assert ([one["request_id"] for one in rest["results"]], rest["next_cursor"]) == (["req_0"], None)


def test_a_client_key_sees_its_own_and_no_other() -> None:
    mine = caller("generate")
    key = ClientKey.objects.latest("pk")
    a_trace("req_mine", client_key_id=key.pk)
    a_trace("req_other", client_key_id=key.pk + 1)
    assert [one["request_id"] for one in mine.get(URL).json()["results"]] == ["req_mine"]
    assert mine.get(f"{URL}/req_mine").status_code == 200
    for other in ("req_other", "%00", "%25"):
        assert mine.get(f"{URL}/{other}").status_code == 404
    TraceContent.objects.create(request_id="req_other", at=timezone.now(), request="a secret plan")
    assert mine.get(f"{URL}/req_other/content").status_code == 404


@pytest.mark.parametrize(
    "query",
    [
        {"limit": 0},
        {"limit": 501},
        {"cursor": "x"},
        {"status": "bad"},
        {"owner": "nobody"},
        {"outcome": "x"},
        {"since": "yesterday"},
        {"modle": "m"},
    ],
)
def test_what_cannot_be_asked_for_is_refused_by_name(admin, query: dict[str, Any]) -> None:
    answer = admin.get(URL, query)
    assert answer.status_code == 400
    assert next(iter(query)) in answer.content.decode()


def test_a_trace_tells_its_spans_tries_and_costs(admin) -> None:
    began = timezone.now()
    log = [
        {"provider_id": "a", "model_id": "m", "reason": "target", "status": 503, "started": began.timestamp() + 0.01,
         "code": "upstream_error", "duration_ms": 40.0, "key_id": 1},
        {"provider_id": "b", "model_id": "m", "reason": "breaker", "status": None, "started": began.timestamp() + 0.05},
        {"provider_id": "c", "model_id": "m", "reason": "fallback", "status": 200, "started": began.timestamp() + 0.05,
         "code": "", "duration_ms": 60.0, "key_id": 2},
    ]  # fmt: skip
    a_trace("req_1", at=began, attempts=2, attempts_log=json.dumps(log), stream=True, first_byte_ms=110.0, queue_ms=5.0)
    for attempt, cost in ((0, "0.003"), (1, "0.001")):
        UsageRecord.objects.create(
            request_id="req_1",
            attempt=attempt,
            at=began,
            operation="chat",
            requested_model="writer",
            status=200,
            cost=Decimal(cost),
            prices='{"input": "1.5"}',
        )
    told = admin.get(f"{URL}/req_1").json()
    assert [(one["kind"], one["status"]) for one in told["spans"]] == [
        ("waited", None),
        ("gateway", None),
        ("tried", 503),
        ("passed_over", None),
        ("tried", 200),
        ("answering", None),
    ]
    assert told["spans"][2]["start_ms"] == pytest.approx(10, abs=0.01)
    assert [(one["attempt"], one["cost"], one["prices"]) for one in told["costs"]] == [
        (0, "0.0030000000", {"input": "1.5"}),
        (1, "0.0010000000", {"input": "1.5"}),
    ]


def test_a_request_without_a_mishap_has_one_try(admin) -> None:
    a_trace("req_1")
    [gateway, tried] = admin.get(f"{URL}/req_1").json()["spans"]
    assert (gateway["duration_ms"], tried["start_ms"], tried["duration_ms"]) == (2.0, 2.0, 100.0)
    assert tried["name"] == "openrouter/gemini"


def test_a_trace_is_found_by_the_name_that_its_sender_gave_it(admin) -> None:
    a_trace("req_1", trace_id="order-7")
    assert admin.get(f"{URL}/order-7").json()["request_id"] == "req_1"
    assert admin.get(f"{URL}/order-8").status_code == 404


def test_what_was_captured_is_told_and_may_not_be_cached(admin) -> None:
    a_trace("req_1")
    assert admin.get(f"{URL}/req_1/content").status_code == 404
    TraceContent.objects.create(request_id="req_1", at=timezone.now(), request="What?", answer="That.", cut=True)
    answer = admin.get(f"{URL}/req_1/content")
    assert {"request": "What?", "answer": "That.", "cut": True}.items() <= answer.json().items()
    assert answer["Cache-Control"] == "no-store"
    assert admin.get(f"{URL}/req_1").json()["content_captured"] is True


def test_the_registrys_readers_are_told_of_nobodys_requests() -> None:
    assert caller("registry:read").get(URL).status_code == 403
