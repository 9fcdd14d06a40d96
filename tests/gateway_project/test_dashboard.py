"""What stands on the first page, and for whom; its figures are in `test_dashboard_figures`."""

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
from pytest_django import DjangoAssertNumQueries

from gateway_project import dashboard
from inference.batch_models import Batch
from inference.models import AlertIncident, Job
from providers.models import ProbeResult, Provider, ProviderModel
from routing import issuing, snapshot, spending
from routing.models import Team, TeamMember
from tests.inference.ledger import record
from tests.routing.allowance_makers import budget

pytestmark = pytest.mark.django_db

MOST_QUERIES = 36
"""Of the whole page for a superuser, however much was asked."""


@pytest.fixture(autouse=True)
def _nothing_kept() -> Any:
    cache.clear()
    snapshot.replace(None)
    yield
    cache.clear()


def the_page(**asked: str) -> dict[str, Any]:
    return dashboard.context(User(is_superuser=True), asked=asked)


def a_member(*permissions: str) -> tuple[User, Team]:
    team = Team.objects.create(name="research")
    user = User.objects.create_user("grace", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    TeamMember.objects.create(team=team, user=user)
    return User.objects.get(pk=user.pk), team


def batch(**facts: Any) -> Batch:
    usual = {"owner": "gw-1", "endpoint": "/v1/responses", "state": "in_progress", "expires_at": timezone.now()}
    return Batch.objects.create(**{**usual, **facts})


def test_who_may_not_see_usage_sees_no_figures(client: Client) -> None:
    client.force_login(User.objects.create_user("clerk", password="clerk-password", is_staff=True))

    html = client.get(reverse("admin:index")).content.decode()

    assert "Choose a page from the menu" in html
    assert "gw-kpis" not in html
    assert "Providers" not in html


def test_members_of_a_team_see_its_figures_alone() -> None:
    user, team = a_member()
    record(2, team_id=team.pk, cost=Decimal("0.5"))
    record(5, cost=Decimal("7"), status=500, error_code="internal_error")

    shown = dashboard.context(user)

    figures = {kpi.label: str(kpi.value) for kpi in shown["kpis"]}
    assert ">2<" in figures["Requests"]
    assert "1.00" in figures["Spend"]
    assert "1.00" in str(shown["spend"].total)
    assert shown["causes"] == []
    assert shown["times_chart"] is None
    assert "providers" not in shown
    assert "doctor" not in shown


def test_the_page_of_a_busy_installation_asks_no_more_than_that_of_an_idle_one(
    admin_client: Client, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    for number in range(12):
        provider = Provider.objects.create(provider_id=f"p{number}", provider_type="fake")
        ProbeResult.objects.create(provider=provider, healthy=True, duration_ms=1)
        ProviderModel.objects.create(provider=provider, model_id="m")
        record(3, provider_id=provider.provider_id, status=502, error_code=f"code_{number}")
    admin_client.get(reverse("admin:index"))  # the doctor looks, once in half a minute

    with django_assert_max_num_queries(MOST_QUERIES):
        html = admin_client.get(reverse("admin:index"), {"span": "30d", "spend": "team"}).content.decode()

    assert "gw-kpis" in html


def test_unwell_providers_come_first() -> None:
    for name, healthy in (("good", True), ("bad", False)):
        provider = Provider.objects.create(provider_id=name, provider_type="fake")
        ProbeResult.objects.create(provider=provider, healthy=healthy, duration_ms=1)

    assert [line.provider.provider_id for line in the_page()["providers"]] == ["bad", "good"]


def test_what_is_switched_off_stays_in_sight(admin_client: Client) -> None:
    Provider.objects.create(provider_id="awake", provider_type="openai")
    Provider.objects.create(provider_id="resting", display_name="At rest", provider_type="openai", enabled=False)
    record()

    page = admin_client.get("/admin/").content.decode()

    assert "Switched off:" in page
    assert ">At rest</a>" in page


def test_a_provider_is_shown_with_its_strip_its_errors_and_its_times() -> None:
    Provider.objects.create(provider_id="up", provider_type="fake")
    now = timezone.now()  # one cell of the strip
    record(3, at=now, duration_ms=100.0)
    tries = [{"provider_id": "up", "model_id": "m", "status": 502, "code": "upstream_error"}]
    record(at=now, provider_id="other", attempts=2, attempts_log=json.dumps(tries))

    (line,) = the_page()["providers"]

    assert line.tries == 4
    assert "25" in line.failed
    assert len(line.strip) == 48
    tone, title = next(cell for cell in reversed(line.strip) if cell[0])
    assert (tone, title.partition(": ")[2]) == ("warn", "4 tries, 1 failed")
    assert "47 idle" in line.said


def test_the_worst_finding_of_the_doctor_stands_in_a_line(admin_client: Client) -> None:
    Provider.objects.create(provider_id="odd", provider_type="no_such_type")

    html = admin_client.get(reverse("admin:index")).content.decode()

    assert 'class="gw-notice' in html
    assert reverse("admin:doctor") in html


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
    assert "openai: 12s" in admin_client.get("/admin/").content.decode()
    incident.acknowledge("user:ada", timezone.now())
    assert "openai: 12s" not in admin_client.get("/admin/").content.decode()


def test_the_budgets_nearest_to_their_end_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    record()
    budget(100, "all", name="Everything")
    budget(10, "all", period="day", name="The day")
    monkeypatch.setattr(spending, "_read", lambda asked: {"": Decimal(5)})

    assert [one["name"] for one in the_page()["budgets"]] == ["The day", "Everything"]


def test_without_budgets_the_page_has_no_place_for_them() -> None:
    record()
    assert the_page()["budgets"] is None


def test_members_of_a_team_see_its_budgets_only() -> None:
    user, _ = a_member("view_budget")
    budget(100, "all")

    assert dashboard.context(user)["budgets"] is None


def test_jobs_are_counted_by_their_state_and_those_that_run_are_named() -> None:
    record()
    Job.objects.create(owner="gw-1", request={}, model="waits")
    Job.objects.create(owner="gw-1", request={}, model="runs", state="running", started_at=timezone.now())
    Job.objects.create(owner="gw-1", request={}, model="over", state="succeeded")

    told = the_page()["under_way"]

    assert (told.running, told.queued) == (1, 1)
    assert {work.name for work in told.shown} == {"waits", "runs"}


def test_batches_tell_what_holds_them_how_much_is_left_and_what_failed_of_late(admin_client: Client) -> None:
    record()
    batch(model="runs", total=500, completed=200)
    batch(model="waits", total=90, completed=40, failed=10, held="budget")
    wrong = [{"message": "Line 3 has no model."}]
    batch(model="broke", state="failed", errors=wrong, ended_at=timezone.now() - timedelta(hours=2))
    batch(model="broke-long-ago", state="failed", errors=wrong, ended_at=timezone.now() - timedelta(days=2))

    told = the_page()["batches"]
    html = admin_client.get(reverse("admin:index")).content.decode()

    assert (told.running, told.held, told.left, told.more) == (1, 1, 340, 0)
    assert [line.name for line in told.open] == ["runs", "waits"]
    assert "held: budget" in told.open[1].state
    assert [(line.name, line.said) for line in told.failed] == [("broke", "Line 3 has no model.")]
    assert "1 under way, 1 held, 340 lines left" in " ".join(html.split())
    assert "Line 3 has no model." in html


def test_without_batches_the_page_has_no_place_for_them_nor_for_those_of_others() -> None:
    record()
    assert the_page()["batches"] is None
    batch(model="theirs")
    user, _ = a_member("view_batch")
    assert dashboard.context(user)["batches"] is None


def test_an_empty_installation_is_shown_its_first_steps_and_no_empty_charts(admin_client: Client) -> None:
    html = admin_client.get(reverse("admin:index")).content.decode()

    assert "Five steps to the first answer" in html
    assert "gw-kpis" not in html


def test_the_steps_stand_above_the_figures_until_they_are_done(admin_client: Client) -> None:
    provider = Provider.objects.create(provider_id="up", provider_type="fake")
    ProviderModel.objects.create(provider=provider, model_id="m")
    record()
    html = admin_client.get(reverse("admin:index")).content.decode()
    assert "gw-welcome-line" in html
    assert "gw-kpis" in html

    issuing.issue("app", ["generate"])

    assert "gw-welcome-line" not in admin_client.get(reverse("admin:index")).content.decode()


def test_what_is_asked_for_in_the_address_is_what_the_links_keep() -> None:
    record(at=timezone.now() - timedelta(days=3))

    shown = the_page(span="7d", spend="team")

    assert [label for _, label, here in shown["spans"] if here] == ["7 days"]
    assert [link for link, label, _ in shown["spend_by"] if label == "key"] == ["/admin/?span=7d&spend=key#spend"]
    assert [link for link, label, _ in shown["spans"] if label == "24 hours"] == ["/admin/?spend=team"]


def test_nonsense_in_the_address_is_the_usual_page() -> None:
    record()

    shown = the_page(span="a-year", spend="__class__")

    assert (shown["span"].key, shown["spend"].by) == ("24h", "model")
