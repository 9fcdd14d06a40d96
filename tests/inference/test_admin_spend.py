from __future__ import annotations

import csv
import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from html import unescape
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from inference.models import UsageRecord
from routing import issuing
from routing.models import Team, TeamMember
from tests.inference.ledger import correct, record

pytestmark = pytest.mark.django_db


def page(client: Client, **asked: Any) -> str:
    answer = client.get(reverse("admin:spend"), asked)
    assert answer.status_code == 200
    return unescape(answer.content.decode())


def member(team: Team) -> Client:
    user = User.objects.create_user("bob", is_staff=True)
    user.user_permissions.add(Permission.objects.get(codename="view_usagerecord"))
    TeamMember.objects.create(team=team, user=user)
    client = Client()
    client.force_login(user)
    return client


def test_what_cost_nothing_is_said_in_words_and_not_drawn(admin_client: Client) -> None:
    record(cost=Decimal(0))
    assert "Nothing to draw" in page(admin_client)
    assert "Nothing to draw" not in page(admin_client, measure="requests")


def test_spend_is_shown_by_model_with_links_to_the_requests(admin_client: Client) -> None:
    record(3, cost=Decimal("0.5"))
    record(cost=Decimal("0.25"), model_id="large", status=502)
    html = page(admin_client)
    assert "1.75\u202fUSD" in html
    assert "served_by=up%2Flarge&side=gateway&since=" in html
    assert "outcome=failed" in html


def test_nothing_asked_is_said_in_words(admin_client: Client) -> None:
    assert "Nothing was asked" in page(admin_client)


@pytest.mark.parametrize(("by", "span"), [("key", "24h"), ("team", "30d"), ("tag", "365d")])
def test_groups_are_drawn_over_hours_days_and_months(admin_client: Client, by: str, span: str) -> None:
    record(2, cost=Decimal("0.5"), tags=",a,", policy="best", client_key_prefix="gw-1", team_id=1)
    html = page(admin_client, by=by, span=span)
    assert 'class="gw-fill-0"' in html
    assert html.count("<title>") >= {"24h": 25, "30d": 31, "365d": 13}[span]


@pytest.mark.parametrize("measure", ["cost", "error_rate", "p95"])
def test_hours_are_drawn_in_zones_that_are_half_an_hour_off(admin_client: Client, measure: str) -> None:
    record(cost=Decimal(1))
    with timezone.override("Asia/Kolkata"):
        assert "<title>" in page(admin_client, span="24h", measure=measure)


def test_the_hour_that_a_zone_repeats_is_drawn(admin_client: Client) -> None:
    for hour in (0, 1):
        record(cost=Decimal(1), at=datetime(2025, 10, 26, hour, 30, tzinfo=UTC))
    with timezone.override("Europe/Berlin"):
        html = page(admin_client, span="custom", since="2025-10-25", until="2025-10-27", step="hour")
    assert "2.00\u202fUSD" in html
    assert "<title>" in html


def test_a_correction_is_shown_beside_the_spend(admin_client: Client) -> None:
    record(cost=Decimal(1))
    assert "corrected" not in page(admin_client)
    correct(UsageRecord.objects.get(), Decimal("-0.25"))
    html = page(admin_client)
    assert "0.75\u202fUSD corrected" in html
    assert "0.75\u202fUSD after corrections of prices" in html


def test_a_group_leads_deeper_and_keeps_the_filters(admin_client: Client) -> None:
    record(tags=",a,")
    html = page(admin_client, by="provider", tag="a", span="7d")
    assert "?span=7d&tag=a&provider=up&view=all" in html


def test_a_filter_narrows(admin_client: Client) -> None:
    record(2, cost=Decimal(1), tags=",a,")
    record(cost=Decimal(5))
    assert "2.00\u202fUSD" in page(admin_client, tag="a")
    assert "Nothing was asked" in page(admin_client, provider="nobody")


def test_chosen_days_count_whole(admin_client: Client) -> None:
    day = timezone.localtime() - timedelta(days=3)
    record(2, at=day.replace(hour=23, minute=59), cost=Decimal(1))
    record(at=day + timedelta(days=2), cost=Decimal(5))
    told = f"{day:%Y-%m-%d}"
    assert "2.00\u202fUSD" in page(admin_client, span="custom", since=told, until=told)


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"span": "custom"}, "Say which day."),
        ({"span": "custom", "since": "2026-02-02", "until": "2026-02-01"}, "This is before the first day."),
        ({"span": "custom", "since": "1900-01-01", "until": "2026-02-01"}, "Too long"),
        ({"span": "forever"}, "Select a valid choice"),
        ({"by": "colour"}, "Select a valid choice"),
        ({"team": "x"}, "Select a valid choice"),
    ],
)
def test_what_cannot_be_shown_is_said_at_its_field(admin_client: Client, asked: dict[str, str], sentence: str) -> None:
    record()
    assert sentence in page(admin_client, **asked)


def test_members_see_the_spend_of_their_team_alone() -> None:
    own, other = Team.objects.create(name="own"), Team.objects.create(name="other")
    issuing.issue("secret project", ["generate"], team=other)
    record(2, team_id=own.pk, cost=Decimal(1))
    record(team_id=other.pk, cost=Decimal(40))
    client = member(own)
    html = page(client, by="team")
    assert "2.00\u202fUSD" in html
    assert "40.00" not in html
    assert "secret project" not in html
    assert ">other<" not in html
    assert "Select a valid choice" in page(client, team=other.pk)
    lines = b"".join(client.get(reverse("admin:spend-file"), {"by": "team"}).streaming_content).decode()
    assert [line["team"] for line in csv.DictReader(lines.splitlines())] == ["own"]


def test_who_may_not_see_spend_is_turned_away() -> None:
    client = Client()
    client.force_login(User.objects.create_user("eve", is_staff=True))
    assert client.get(reverse("admin:spend")).status_code == 403
    assert client.get(reverse("admin:spend-file")).status_code == 403


def test_the_files_hold_what_the_page_shows(admin_client: Client) -> None:
    record(2, cost=Decimal("0.1"))
    told = json.loads(admin_client.get(reverse("admin:spend-file"), {"as": "json"}).content)
    assert Decimal(told["totals"][0]["cost"]) == Decimal("0.2")
    refused = admin_client.get(reverse("admin:spend-file"), {"span": "forever"})
    assert (refused.status_code, list(refused.json()["errors"])) == (400, ["span"])


def test_a_model_that_nobody_knows_is_said(admin_client: Client) -> None:
    record(policy="best")
    assert "No model is named 'nope'." in page(admin_client, against="nope")


def test_members_without_the_right_to_models_are_told_no_prices() -> None:
    team = Team.objects.create(name="own")
    record(policy="best", team_id=team.pk)
    assert "What routing saved" not in page(member(team), savings="on")


def test_what_routing_saved_is_told(admin_client: Client) -> None:
    record(policy="best")
    assert "What routing saved" in page(admin_client, savings="on")


def test_names_are_never_markup(admin_client: Client) -> None:
    record(tags=",<script>alert(1)</script>,")
    answer = admin_client.get(reverse("admin:spend"), {"by": "tag"})
    assert b"<script>alert" not in answer.content


def test_a_few_queries_whatever_the_number_of_groups(admin_client: Client, django_assert_max_num_queries: Any) -> None:
    for number in range(30):
        record(model_id=f"model-{number}", policy="best")
    page(admin_client)
    with django_assert_max_num_queries(16):
        page(admin_client)


def test_two_groups_lead_to_the_requests_of_both(admin_client: Client) -> None:
    team = Team.objects.create(name="search")
    record(2, team_id=team.pk, status=502)
    html = page(admin_client, by="team", then="model", measure="requests")
    assert f"team={team.pk}&served_by=up%2Fgpt-test&outcome=failed" in html
    assert "search · up/gpt-test" in html


def test_a_span_is_compared_with_the_one_before(admin_client: Client) -> None:
    now = timezone.now()
    record(2, at=now - timedelta(days=2))
    record(1, at=now - timedelta(days=9))
    record(3, at=now - timedelta(days=9), model_id="old")
    html = page(admin_client, span="7d", measure="requests")
    assert "+100\u202f%" in html
    assert "-50\u202f%" in html
    assert "up/old" not in html.split("gw-usage-table")[1]


def test_an_error_rate_is_compared_in_percent(admin_client: Client) -> None:
    before = timezone.now() - timedelta(days=9)
    record(1, status=502, at=before)
    record(3, at=before)
    record()
    html = page(admin_client, span="7d", measure="error_rate")
    assert html.count("25.0\u202f%") == 2  # the figure's and the row's


def test_a_heading_sorts_and_turns_the_order(admin_client: Client) -> None:
    record(3, model_id="busy")
    record(model_id="dear", cost=Decimal(5))

    def order(**asked: str) -> list[str]:
        table = page(admin_client, **asked).split("gw-usage-table")[1]
        return sorted(("busy", "dear"), key=lambda name: table.index(f"up/{name}<"))

    assert order() == ["dear", "busy"]
    assert order(sort="-requests") == ["busy", "dear"]
    assert order(sort="requests") == ["dear", "busy"]
    assert "Select a valid" not in page(admin_client, sort="<script>")


def test_times_are_told_by_what_they_are_summed_by_and_else_it_is_said(admin_client: Client) -> None:
    record(20, duration_ms=80.0)
    html = page(admin_client, measure="p95", by="provider")
    assert "<polyline" in html or "gw-dot" in html
    assert "p99" in html
    refused = page(admin_client, measure="p95", by="key")
    assert "not by client key" in refused
    assert "measure=p95&by=provider" in refused or "by=provider&measure=p95" in refused
    told = admin_client.get(reverse("admin:spend-file"), {"measure": "p95", "by": "provider"}).json()
    assert told["lines"][0]["requests"] == 20
    assert 60 < told["lines"][0]["duration_ms"]["p95"] <= 100


def test_what_is_added_up_ends_at_the_sum(admin_client: Client) -> None:
    now = timezone.now()
    for days in (1, 2, 3):
        record(2, at=now - timedelta(days=days))
    chart = admin_client.get(reverse("admin:spend"), {"measure": "requests", "cumulative": "on", "span": "7d"})
    assert chart.context["chart"].columns[-1].said[0].text == "6"
    assert chart.context["chart"].columns[0].said[0].text == "0"


def test_hours_of_a_long_span_are_refused_with_a_reason(admin_client: Client) -> None:
    record()
    assert "14 days at most" in page(admin_client, step="hour")
    assert "14 days at most" not in page(admin_client, step="week")
