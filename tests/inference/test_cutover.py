"""The figures of both sides, from rows at chosen times."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from inference.cutover import HourOfSide, figures
from routing.rollout import GATEWAY, LEGACY
from tests.callers import caller
from tests.inference.ledger import record

pytestmark = pytest.mark.django_db

NOW = datetime(2026, 3, 29, 12, 30, tzinfo=UTC)
HOUR = timedelta(hours=1)


def rows(count: int = 1, **fields) -> None:
    told = {"at": NOW - HOUR / 4, "client_key_prefix": "gw-1", "side": GATEWAY, "duration_ms": 10.0} | fields
    record(count, **told)


def test_without_requests_both_sides_are_empty():
    told = figures(NOW - HOUR, NOW)
    assert (told.gateway.requests, told.gateway.error_rate, told.gateway.p95_ms) == (0, None, None)
    assert (told.legacy.requests, dict(told.legacy.costs)) == (0, {})


def test_the_sides_are_counted_apart():
    rows(3)
    rows(2, side=LEGACY, client_key_prefix="legacy-ab")
    told = figures(NOW - HOUR, NOW)
    assert (told.gateway.requests, told.legacy.requests) == (3, 2)


def test_times_are_told_of_each_side():
    rows(50, duration_ms=40.0)
    rows(50, duration_ms=950.0)
    rows(4, side=LEGACY, duration_ms=4.0)
    told = figures(NOW - HOUR, NOW)
    assert (told.gateway.p50_ms, told.gateway.p95_ms) == (40.0, pytest.approx(963.0))
    assert 2.5 <= told.legacy.p50_ms < told.legacy.p95_ms <= 4.0


def test_first_bytes_count_streams_only():
    rows(10, side=LEGACY)
    rows(2, side=LEGACY, stream=True, first_byte_ms=7.0)
    assert 6.3 < figures(NOW - HOUR, NOW).legacy.first_byte_p95_ms <= 10.0


@pytest.mark.parametrize(
    ("fields", "errors"),
    [
        ({"status": 500, "error_code": "http_500"}, 1),
        ({"status": 404}, 1),
        ({"status": 200, "error_code": "upstream_broken"}, 1),
        ({"status": 499, "error_code": "client_disconnected"}, 0),
        ({"status": 307}, 0),
    ],
)
def test_an_error_is_a_refusal_or_an_answer_that_broke_off(fields, errors):
    rows(3, side=LEGACY)
    rows(1, side=LEGACY, **fields)
    told = figures(NOW - HOUR, NOW).legacy
    assert (told.requests, told.errors, told.error_rate) == (4, errors, errors / 4)


def test_clients_tokens_and_costs_are_summed():
    rows(2, client_key_prefix="gw-1", input_tokens=10, output_tokens=1, cost=Decimal("0.25"))
    rows(1, client_key_prefix="gw-2", input_tokens=5, output_tokens=2, cost=Decimal("1"), currency="EUR")
    rows(1, client_key_prefix="gw-2", cost=None)
    told = figures(NOW - HOUR, NOW).gateway
    assert (told.clients, told.input_tokens, told.output_tokens) == (2, 25, 4)
    assert told.costs == {"USD": Decimal("0.5"), "EUR": Decimal("1")}


def test_what_generates_nothing_and_what_is_older_does_not_count():
    rows(1, operation="other", side=LEGACY)
    rows(1, at=NOW - 2 * HOUR, side=LEGACY)
    rows(1, at=NOW, side=LEGACY)
    assert figures(NOW - HOUR, NOW).legacy.requests == 0


def test_every_hour_of_the_span_is_there():
    rows(2, at=NOW - 2 * HOUR, duration_ms=10.0)
    rows(1, at=NOW - 2 * HOUR, duration_ms=40.0, status=502, side=LEGACY)
    hours = figures(NOW - 2 * HOUR, NOW).hours
    assert [hour.at for hour in hours] == [NOW.replace(minute=0) - back * HOUR for back in (2, 1, 0)]
    assert (hours[0].gateway, hours[0].legacy) == (HourOfSide(2, 0, 10.0), HourOfSide(1, 1, 40.0))
    assert hours[1].gateway == HourOfSide()


def test_a_few_queries_whatever_the_number_of_rows(django_assert_max_num_queries):
    rows(200, stream=True, first_byte_ms=1.0)
    rows(200, stream=True, first_byte_ms=1.0, side=LEGACY)
    with django_assert_max_num_queries(9):
        figures(NOW - 24 * HOUR, NOW)


class TestOverRest:
    def test_an_admin_reads_both_sides(self):
        rows(3, side=LEGACY, at=datetime.now(UTC), cost=Decimal("0.5"))
        told = caller("admin").get("/api/v1/rollout/figures?hours=2").json()
        assert (told["legacy"]["requests"], told["gateway"]["requests"]) == (3, 0)
        assert Decimal(told["legacy"]["costs"]["USD"]) == Decimal("1.5")
        assert len(told["hours"]) == 3

    @pytest.mark.parametrize("hours", ["0", "-1", "x", "100000", "nan"])
    def test_a_span_that_is_none_is_refused(self, hours):
        answer = caller("admin").get(f"/api/v1/rollout/figures?hours={hours}")
        assert (answer.status_code, answer.json()["errors"][0]["field"]) == (400, "hours")

    def test_others_may_not(self):
        assert caller("registry:read").get("/api/v1/rollout/figures").status_code == 403
