from __future__ import annotations

import json
import random
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection
from django.db.models import Sum

from inference import usage_rows
from inference.backends.base import Usage
from inference.models import FailureRollup, LatencyRollup, TagRollup, TrafficRollup, UsageRecord, UsageRollup
from inference.recording import PaidRow, Row, row_of
from inference.rollup_models import BUCKETS, DURATION, FIRST_BYTE, HOUR, MINUTE
from tests.inference.ledger import correct
from tests.inference.test_recording import entry

pytestmark = pytest.mark.django_db

TEN = datetime(2026, 11, 21, 10, 0, tzinfo=UTC)


def row(number: int, at: datetime = TEN, **changed: Any) -> Row:
    usage = changed.pop("usage", Usage(3, 4))
    return row_of(entry(number, usage=usage))._replace(at=at, **changed)


def test_requests_of_an_hour_are_one_row() -> None:
    usage_rows.write([row(1), row(2, TEN + timedelta(minutes=59)), row(3, TEN + timedelta(minutes=60))])
    first, second = UsageRollup.objects.order_by("hour")
    assert (first.hour, first.requests, first.input_tokens, first.output_tokens) == (TEN, 2, 6, 8)
    assert first.last_at == TEN + timedelta(minutes=59)
    assert first.cost == 2 * Decimal("0.000011")
    assert second.requests == 1


def test_a_second_batch_is_added() -> None:
    usage_rows.write([row(1)])
    usage_rows.write([row(2, cost=Decimal("0.0000000001"))])
    assert UsageRollup.objects.get().requests == 2
    assert UsageRollup.objects.get().cost == Decimal("0.0000110001")


def test_what_is_written_again_is_not_added_again() -> None:
    usage_rows.write([row(1), row(2)])
    usage_rows.write([row(1), row(2), row(3)])
    assert UsageRollup.objects.get().requests == 3
    assert TrafficRollup.objects.get().requests == 3


def test_the_sum_of_the_rollups_is_the_sum_of_the_ledger_to_the_last_digit() -> None:
    costs = [Decimal(number) / Decimal(7_000_003) for number in range(200)]
    usage_rows.write([row(number, cost=cost) for number, cost in enumerate(costs)])
    ledger = sum(UsageRecord.objects.values_list("cost", flat=True), Decimal(0))
    for model in (UsageRollup, TrafficRollup):
        assert model.objects.aggregate(cost=Sum("cost"))["cost"] == ledger


def test_a_paid_try_that_failed_adds_money_to_its_own_model_and_no_request() -> None:
    paid = PaidRow(1, "other", "m2", 502, 10, 0, 0, 0, False, Decimal("0.5"), "USD", "{}")
    usage_rows.write([row(1, paid=(paid,))])
    of_try = UsageRollup.objects.get(provider_id="other")
    assert (of_try.requests, of_try.failed, of_try.input_tokens, of_try.cost) == (0, 0, 10, Decimal("0.5"))
    assert UsageRollup.objects.aggregate(all=Sum("requests"))["all"] == 1
    assert not LatencyRollup.objects.filter(provider_id="other").exists()


def test_a_failed_try_counts_at_its_own_provider_whoever_answered() -> None:
    tries = [
        {"provider_id": "bad", "model_id": "m", "status": 503, "code": "upstream_error"},
        {"provider_id": "odd", "model_id": "m", "status": None},
        {"provider_id": "gone", "model_id": "m", "status": 499, "code": "client_left"},
        {"provider_id": "good", "model_id": "m", "status": 200, "code": ""},
    ]
    usage_rows.write([row(1, provider_id="good", attempts=2, attempts_log=json.dumps(tries))])
    for model in (UsageRollup, TrafficRollup):
        told = {one.provider_id: (one.requests, one.failed_tries) for one in model.objects.all()}
        assert told == {"good": (1, 0), "bad": (0, 1)}


@pytest.mark.parametrize("log", ["no json", "{}", "[1]", '[{"status": null}]', "7"])
def test_a_log_of_tries_that_does_not_read_keeps_nothing_from_being_written(log: str) -> None:
    usage_rows.write([row(1, attempts=2, attempts_log=log)])
    assert UsageRollup.objects.get().failed_tries == 0


def test_failures_are_told_apart_from_clients_that_left() -> None:
    usage_rows.write(
        [
            row(1, status=502, error_code="upstream_error", error_owner="provider"),
            row(2, status=200, error_code="stream_broken"),
            row(3, status=499, error_code="client_left"),
            row(4, attempts=2),
        ]
    )
    told = UsageRollup.objects.get()
    assert (told.requests, told.failed, told.left, told.rescued) == (4, 2, 1, 1)
    assert FailureRollup.objects.count() == 3
    assert FailureRollup.objects.get(status=502).error_owner == "provider"


def test_each_tag_has_its_own_sums() -> None:
    usage_rows.write([row(1, tags=",a,b,"), row(2, tags=",b,")])
    assert dict(TagRollup.objects.values_list("tag", "requests")) == {"a": 1, "b": 2}


def test_names_that_nothing_was_found_under_are_not_kept() -> None:
    usage_rows.write([row(1, provider_id="", model_id="", policy="", requested_model="whatever a client sends")])
    assert UsageRollup.objects.get().requested_model == ""


def test_times_are_counted_in_buckets_by_minute_and_by_hour() -> None:
    later = TEN + timedelta(minutes=1)
    usage_rows.write([row(1, duration_ms=10_000.0), row(2, duration_ms=10_000.1), row(3, later, duration_ms=0.05)])
    of_hour = LatencyRollup.objects.get(span=HOUR, measure=DURATION)
    assert [getattr(of_hour, name) for name in BUCKETS][25:27] == [1, 1]
    assert (of_hour.b00, of_hour.requests) == (1, 3)
    assert LatencyRollup.objects.filter(span=MINUTE, measure=DURATION).count() == 2
    assert not LatencyRollup.objects.filter(measure=FIRST_BYTE).exists()


def test_a_call_without_a_known_price_is_counted_as_unpriced() -> None:
    usage_rows.write([row(1, cost=None), row(2, cost=None, input_tokens=0, output_tokens=0)])
    assert (UsageRollup.objects.get().unpriced, UsageRollup.objects.get().cost) == (1, 0)


def test_a_correction_stands_beside_the_cost() -> None:
    usage_rows.write([row(1, tags=",a,"), row(2, client_key_id=8)])
    correct(UsageRecord.objects.get(request_id="req_1"), Decimal("0.25"))
    told = UsageRollup.objects.get(client_key_id=7)
    assert (told.cost, told.correction) == (Decimal("0.000011"), Decimal("0.25"))
    assert UsageRollup.objects.get(client_key_id=8).correction == 0
    assert TagRollup.objects.get().correction == Decimal("0.25")


@pytest.mark.django_db(transaction=True)
def test_writers_at_once_lose_nothing_and_never_wait_in_a_circle() -> None:
    if connection.vendor != "postgresql":
        pytest.skip("SQLite has one writer at a time")

    def write(writer: int) -> None:
        try:
            for batch in range(6):
                numbers = random.Random(writer).sample(range(40), 40)
                usage_rows.insert(
                    [
                        row(0, request_id=f"{writer}-{batch}-{number}", model_id=f"m{number}", tags=f",t{number % 7},")
                        for number in numbers
                    ]
                )
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as writers:
        list(writers.map(write, range(4)))
    for model in (UsageRollup, TrafficRollup, TagRollup):
        assert model.objects.aggregate(all=Sum("requests"))["all"] == 4 * 6 * 40
    assert LatencyRollup.objects.filter(span=HOUR, measure=DURATION).aggregate(all=Sum("requests"))["all"] == 960
