"""The numbers of the first page: what they are of, what they are compared with, and where they lead."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from django.core.cache import cache
from django.urls import reverse

from gateway_project.overview import attention, spend, traffic
from gateway_project.overview.spans import SPANS
from gateway_project.overview.traffic import Card, Traffic
from routing.models import Team
from tests.inference.ledger import record

pytestmark = pytest.mark.django_db

NOW = datetime(2026, 11, 21, 14, 20, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


@pytest.fixture(autouse=True)
def _nothing_kept() -> None:
    cache.clear()


def at(back: timedelta, count: int = 1, **fields: Any) -> None:
    record(count, at=NOW - back, **fields)


def cards(span: str = "24h", teams: frozenset[int] | None = None) -> dict[str, Card]:
    return {card.label: card for card in traffic.cards(Traffic(SPANS[span], NOW, teams))}


def test_the_figures_are_of_the_last_day_to_the_minute() -> None:
    at(DAY - timedelta(minutes=5), cost=Decimal("0.002"))
    at(HOUR, cost=Decimal("0.003"))
    at(DAY + timedelta(minutes=5), cost=Decimal(5))

    told = cards()

    assert ">2<" in told["Requests"].value
    assert "0.005" in told["Spend"].value


def test_the_change_is_against_the_day_before_and_says_what_that_was() -> None:
    at(HOUR, 3)
    at(DAY + HOUR, 2)

    delta = cards()["Requests"].delta

    assert delta is not None
    assert (delta.text, delta.tone, delta.title) == ("▲ +50\u202f%", "up", "The 24 hours before: 2")


def test_more_errors_are_worse_and_told_in_points() -> None:
    at(HOUR, 3)
    at(HOUR, status=502, error_code="upstream_unreachable")
    at(DAY + HOUR, 4)

    card = cards()["Error rate"]

    assert "25" in card.value
    assert card.delta is not None
    assert (card.delta.text, card.delta.tone) == ("▲ +25.0", "down")


def test_without_a_day_before_there_is_nothing_to_compare_with() -> None:
    at(HOUR)

    assert [card.delta for card in cards().values()] == [None] * 6


def test_an_answer_cut_after_its_status_was_sent_counts_as_an_error() -> None:
    at(HOUR, status=200, error_code="upstream_broken")

    assert "100" in cards()["Error rate"].value


def test_the_percentile_is_of_what_was_measured() -> None:
    at(HOUR, 90, duration_ms=80.0)
    at(HOUR, 10, duration_ms=11_000.0)

    told = cards()

    assert "s<" in told["Latency p95"].value
    assert parse_qs(urlsplit(told["Latency p95"].link).query)["slower_than_ms"]


def test_what_the_legacy_side_served_is_not_this_gateway_s_traffic() -> None:
    at(HOUR)
    at(HOUR, side="legacy", status=500)

    assert ">1<" in cards()["Requests"].value


def test_of_a_team_there_are_means_and_tokens_in_place_of_percentiles() -> None:
    team = Team.objects.create(name="research")
    at(HOUR, team_id=team.pk, duration_ms=120.0, input_tokens=7, output_tokens=3)
    at(HOUR, duration_ms=9_000.0)

    told = cards(teams=frozenset({team.pk}))

    assert "120" in told["Mean time"].value
    assert ">10<" in told["Tokens"].value
    assert "Latency p95" not in told


@pytest.mark.parametrize(("span", "steps"), [("24h", 24), ("7d", 28), ("30d", 30)])
def test_each_span_has_its_steps_and_the_last_is_under_way(span: str, steps: int) -> None:
    at(timedelta(minutes=1), 2)

    chart = traffic.requests_chart(Traffic(SPANS[span], NOW, None))

    assert len(chart.columns) == steps
    assert chart.columns[-1].said[0].text == "2"
    assert chart.columns[0].said[0].text == "0"


def test_a_column_leads_to_the_requests_of_its_hour() -> None:
    at(HOUR)

    chart = traffic.requests_chart(Traffic(SPANS["24h"], NOW, None))

    asked = parse_qs(urlsplit(chart.columns[-2].link).query)
    assert (asked["since"], asked["until"]) == (["2026-11-21T13:00"], ["2026-11-21T14:00"])


def test_the_lines_of_the_percentiles_are_of_each_hour() -> None:
    at(HOUR, 20, duration_ms=50.0)

    chart = traffic.times_chart(Traffic(SPANS["24h"], NOW, None))

    assert chart is not None
    assert [key.name for key in chart.legend] == ["half (p50)", "p95", "p99"]
    assert chart.columns[-1].said[0].text == "–"
    assert chart.columns[-2].said[0].text != "–"


@pytest.mark.parametrize(("by", "name"), [("model", "up/gpt-test"), ("provider", "up"), ("team", "research")])
def test_spend_is_stacked_by_what_is_asked_for_and_by_day(by: str, name: str) -> None:
    team = Team.objects.create(name="research")
    at(HOUR, cost=Decimal(2), team_id=team.pk)
    at(2 * DAY, cost=Decimal(3), team_id=team.pk)
    at(20 * DAY, cost=Decimal(100), team_id=team.pk)

    told = spend.told(by, SPANS["24h"], NOW, None)

    assert (told.days, len(told.chart.columns)) == (14, 14)
    assert [key.name for key in told.chart.legend] == [name]
    assert [column.said[0].text.split("\u202f")[0] for column in told.chart.columns[-3:]] == ["3.00", "0.00", "2.00"]
    assert "5.00" in told.total


def test_money_of_another_currency_is_named_and_not_drawn() -> None:
    at(HOUR, cost=Decimal(2))
    at(HOUR, cost=Decimal(9), currency="EUR")

    told = spend.told("model", SPANS["24h"], NOW, None)

    assert told.others == "9.00\u202fEUR"
    assert "2.00" in told.total


def test_errors_are_grouped_by_cause_with_an_example_and_the_list_behind_them() -> None:
    at(HOUR, 3)
    at(HOUR, 2, status=502, error_code="upstream_unreachable", error_owner="provider")
    at(HOUR, status=499, error_code="client_disconnected", error_owner="caller")

    (cause,) = attention.causes(NOW - DAY, NOW, None)

    assert (cause.code, cause.times, cause.owner, cause.share) == ("upstream_unreachable", 2, "provider", 100.0)
    assert cause.example.startswith(reverse("admin:inference_trace_changelist"))
    asked = parse_qs(urlsplit(cause.link).query)
    assert (asked["error"], asked["status"], asked["provider"]) == (["upstream_unreachable"], ["502"], ["up"])


def test_a_rescue_is_no_error_and_counts_by_itself() -> None:
    tries = [{"provider_id": "up", "model_id": "m", "status": 502, "code": "upstream_error"}]
    at(HOUR, provider_id="other", attempts=2, attempts_log=json.dumps(tries))

    told = cards()

    assert ">1<" in told["Rescued by fallback"].value
    assert told["Error rate"].note == "0 failed"
