from __future__ import annotations

import json
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.core.cache import cache
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from gateway_project import dashboard
from inference.models import AlertIncident
from providers.models import ProbeResult, Provider
from routing import snapshot, spending
from routing.models import Team, TeamMember
from tests.inference.ledger import record
from tests.routing.allowance_makers import budget

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _nothing_kept() -> None:
    cache.clear()
    snapshot.replace(None)


def a_request(count: int = 1, **fields: Any) -> None:
    record(count, **fields)


def kpis() -> dict[str, str]:
    return {kpi.label: str(kpi.value) for kpi in dashboard.context(User(is_superuser=True))["kpis"]}


def test_the_figures_are_of_the_last_day_only() -> None:
    a_request(cost=Decimal("0.002"), duration_ms=100)
    a_request(cost=Decimal("5"), at=timezone.now() - timedelta(hours=25))

    assert ">1<" in kpis()["Requests"]
    assert "0.002" in kpis()["Spend"]


def test_errors_are_a_share_and_grouped_by_cause() -> None:
    a_request(3)
    a_request(status=502, error_code="upstream_unreachable")

    shown = dashboard.context(User(is_superuser=True))

    assert "25" in kpis()["Errors"]
    assert [(row["error_code"], row["times"]) for row in shown["troubles"]] == [("upstream_unreachable", 1)]


def test_an_answer_cut_after_its_status_was_sent_counts_as_an_error() -> None:
    a_request(status=200, error_code="upstream_broken")

    assert "100" in kpis()["Errors"]


def test_the_percentile_is_of_what_was_measured() -> None:
    a_request(90, duration_ms=80.0)
    a_request(10, duration_ms=11_000.0)

    assert "s<" in kpis()["p95"]


def test_every_hour_of_the_day_has_a_bar() -> None:
    a_request(1)

    hours = dashboard.context(User(is_superuser=True))["hours"]

    assert len(hours) == 24
    assert sum(hour.requests for hour in hours) == 1


def test_unwell_providers_come_first() -> None:
    for name, healthy in (("good", True), ("bad", False)):
        provider = Provider.objects.create(provider_id=name, provider_type="fake")
        ProbeResult.objects.create(provider=provider, healthy=healthy, duration_ms=1)

    assert [
        state["provider"].provider_id for state in dashboard.context(User(is_superuser=True))["provider_states"]
    ] == ["bad", "good"]


def test_a_finding_of_a_system_check_stands_on_the_page(admin_client: Client) -> None:
    Provider.objects.create(provider_id="odd", provider_type="no_such_type")

    html = admin_client.get(reverse("admin:index")).content.decode()

    assert "no such type is registered" in html


def test_a_new_installation_is_shown_its_first_steps(admin_client: Client) -> None:
    html = admin_client.get(reverse("admin:index")).content.decode()

    assert "First steps" in html
    assert "Create a client key" in html


def test_who_may_not_see_usage_sees_no_figures(client: Client) -> None:
    client.force_login(User.objects.create_user("clerk", password="clerk-password", is_staff=True))

    html = client.get(reverse("admin:index")).content.decode()

    assert "Last 24 hours" not in html
    assert "Providers" not in html


def test_what_the_legacy_side_served_is_not_this_gateway_s_traffic():
    a_request(1)
    a_request(side="legacy", status=500)
    assert ">1<" in kpis()["Requests"]


def test_a_provider_is_shown_with_its_errors_and_times() -> None:
    Provider.objects.create(provider_id="up", provider_type="fake")
    tries = [{"provider_id": "up", "model_id": "m", "status": 502, "code": "upstream_error"}]
    a_request(3, duration_ms=100.0)
    a_request(duration_ms=100.0, provider_id="other", attempts=2, attempts_log=json.dumps(tries))

    (state,) = dashboard.context(User(is_superuser=True))["provider_states"]

    assert state["requests"] == 3
    assert "25" in state["failed"]
    assert "98" in state["p95"]


def test_members_of_a_team_see_its_figures_alone() -> None:
    member = User.objects.create_user("member", is_staff=True)
    team = Team.objects.create(name="research")
    TeamMember.objects.create(team=team, user=member)
    a_request(2, team_id=team.pk, cost=Decimal("0.5"))
    a_request(5, cost=Decimal("7"))

    shown = dashboard.context(User.objects.get(username="member"))

    figures = {kpi.label: str(kpi.value) for kpi in shown["kpis"]}
    assert ">2<" in figures["Requests"]
    assert "1.00" in figures["Spend"]
    assert [row["requests"] for row in shown["busiest"]] == [2]


def test_the_budgets_nearest_to_their_end_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    budget(100, "all", name="Everything")
    budget(10, "all", period="day", name="The day")
    monkeypatch.setattr(spending, "_read", lambda asked: {"": Decimal(5)})

    shown = dashboard.context(User(is_superuser=True))["budgets"]

    assert [one["name"] for one in shown] == ["The day", "Everything"]


def test_without_budgets_the_page_has_no_place_for_them() -> None:
    assert dashboard.context(User(is_superuser=True))["budgets"] is None


def test_members_of_a_team_see_its_budgets_only() -> None:
    team = Team.objects.create(name="research")
    user = User.objects.create_user("grace", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename="view_budget"))
    TeamMember.objects.create(team=team, user=user)
    budget(100, "all")

    assert dashboard.context(User.objects.get(pk=user.pk))["budgets"] is None


def test_alerts_under_way_stand_at_the_top_until_somebody_looks_after_them(admin_client: Client) -> None:
    incident = AlertIncident.objects.create(
        rule_name="slow",
        condition="average_latency > 10s",
        unit="s",
        subject="openai",
        subject_name="openai",
        value=Decimal(12),
        worst=Decimal(12),
        told_at=timezone.now(),
    )
    assert "slow: openai, 12s." in admin_client.get("/admin/").content.decode()
    incident.acknowledge("user:ada", timezone.now())
    assert "slow: openai" not in admin_client.get("/admin/").content.decode()
