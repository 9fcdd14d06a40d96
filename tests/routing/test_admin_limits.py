from datetime import timedelta
from decimal import Decimal

import pytest
from django.conf import settings
from django.contrib.auth.models import Group, Permission, User
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from providers.models import AuditEntry
from routing import allowance_rows, budget_periods, issuing, metering_store, spending
from routing.models import Budget, BudgetRaise, RateLimit, Team, TeamMember
from tests.page_forms import form_of_page
from tests.routing.allowance_makers import budget, limit, raised

pytestmark = pytest.mark.django_db

LIMITS, BUDGETS = "admin:routing_ratelimit_changelist", "admin:routing_budget_changelist"


@pytest.fixture
def spent(monkeypatch):
    told = {}
    monkeypatch.setattr(spending, "_read", lambda asked: told.get(asked.subject, {}))
    return told


def page(client, name, *args):
    response = client.get(reverse(name, args=args))
    assert response.status_code == 200
    return response.content.decode()


def somebody(*roles, team=None):
    user = User.objects.create_user("grace", password="x", is_staff=True)
    user.groups.set(Group.objects.filter(name__in=roles))
    if team is not None:
        TeamMember.objects.create(team=team, user=user)
    client = Client()
    client.force_login(user)
    return client


def submit(client, name, *args, **told):
    form = form_of_page(page(client, name, *args))
    return client.post(reverse(name, args=args), form | told)


def test_an_empty_page_teaches(admin_client):
    assert "No limits yet" in page(admin_client, LIMITS)
    assert "Set up the usual ones" in page(admin_client, BUDGETS)


def test_a_limit_is_added_for_a_team(admin_client):
    team = Team.objects.create(name="research")
    told = {"subject": "team", "team": str(team.pk), "requests_per_minute": "60"}
    assert submit(admin_client, "admin:routing_ratelimit_add", **told).status_code == 302
    row = RateLimit.objects.get()
    assert (row.team, row.requests_per_minute) == (team, 60)
    assert AuditEntry.objects.first().actor == "user:admin"
    assert "team research" in page(admin_client, LIMITS)


def test_what_the_chosen_subject_does_not_need_does_not_count(admin_client):
    team = Team.objects.create(name="research")
    told = {"subject": "each_key", "team": str(team.pk), "tag": "blue", "requests_per_minute": "60"}
    assert submit(admin_client, "admin:routing_ratelimit_add", **told).status_code == 302
    row = RateLimit.objects.get()
    assert (row.team, row.tag) == (None, "")


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ({"subject": "team", "requests_per_minute": "60"}, "Say which"),
        ({"subject": "all"}, "Set at least one limit"),
        ({"subject": "all", "requests_per_minute": "0"}, "greater than or equal to 1"),
    ],
)
def test_a_limit_that_makes_no_sense_is_refused_in_words(admin_client, told, said):
    assert said in submit(admin_client, "admin:routing_ratelimit_add", **told).content.decode()
    assert not RateLimit.objects.exists()


def test_a_second_budget_for_the_same_is_refused_by_name(admin_client):
    budget(1, "all", name="Everything")
    told = {"subject": "all", "period": "month", "amount": "5"}
    answer = submit(admin_client, "admin:routing_budget_add", **told).content.decode()
    assert "There is one already: Everything" in answer


def test_the_list_shows_bars_paces_and_resets(admin_client, spent):
    budget(100, "all", name="Everything", time_zone="Europe/Berlin")
    key, _ = issuing.issue("app", ["generate"])
    budget(5, name="Each")
    spent |= {"all": {"": Decimal("12.5")}, "key": {key.pk: Decimal(5)}}
    html = page(admin_client, BUDGETS)
    assert "width:12.5%" in html
    assert "Europe/Berlin" in html
    assert "MONTHLY_BUDGET_EXCEEDED" in html
    assert "app" in html


def test_the_list_asks_for_all_its_figures_at_once(admin_client, django_assert_max_num_queries):
    for number in range(12):
        key, _ = issuing.issue(f"app{number}", ["generate"])
        budget(5, "key", client_key=key)
    page(admin_client, BUDGETS)
    with django_assert_max_num_queries(22):
        page(admin_client, BUDGETS)


def test_a_budgets_page_tells_its_past(admin_client, spent):
    row = budget(10, "all", period="day")
    spent["all"] = {"": Decimal("12.5")}
    html = page(admin_client, "admin:routing_budget_change", row.pk)
    assert "Past periods" in html
    assert "DAILY_BUDGET_EXCEEDED" in html
    assert f"manage.py budgets {row.pk}" in html


def test_a_raise_counts_at_once_and_can_be_ended(admin_client):
    row = budget(10, "all")
    answer = admin_client.post(
        reverse("admin:routing_budget_raise", args=[row.pk]), {"amount": "5", "hours": "24", "reason": "The fair"}
    )
    assert answer.status_code == 302
    more = BudgetRaise.objects.get()
    assert timedelta(hours=23) < more.expires_at - timezone.now() <= timedelta(hours=24)
    entry = AuditEntry.objects.first()
    assert (entry.actor, entry.reason) == ("user:admin", "The fair")
    html = page(admin_client, "admin:routing_budget_change", row.pk)
    assert "The fair" in html
    assert "15.00" in html
    admin_client.post(reverse("admin:routing_budget_end_raise", args=[row.pk, more.pk]))
    assert not BudgetRaise.objects.exists()


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"reason": " "}, "This field is required"),
        ({"amount": "0"}, "greater than or equal"),
        ({"hours": "5"}, "valid choice"),
    ],
)
def test_a_raise_that_makes_no_sense_is_refused_in_words(admin_client, changed, said):
    row = budget(10, "all")
    told = {"amount": "5", "hours": "24", "reason": "The fair"} | changed
    answer = admin_client.post(reverse("admin:routing_budget_raise", args=[row.pk]), told)
    assert said in answer.content.decode()
    assert not BudgetRaise.objects.exists()


def test_the_usual_budgets_are_one_button(admin_client):
    assert "500" in page(admin_client, "admin:routing_budget_usual")
    assert not Budget.objects.exists()
    assert admin_client.post(reverse("admin:routing_budget_usual")).status_code == 302
    assert sorted(Budget.objects.values_list("period", flat=True)) == ["day", "hour", "month", "request"]
    assert "They stand already" in page(admin_client, "admin:routing_budget_usual")


def test_what_a_file_owns_is_only_shown_and_may_be_raised_all_the_same(admin_client):
    row = budget(10, "all")
    Budget.objects.update(managed_by="/etc/gateway.yaml")
    html = page(admin_client, "admin:routing_budget_change", row.pk)
    assert "/etc/gateway.yaml" in html
    assert 'name="_save"' not in html
    assert "Raise for a while" in html


def test_a_viewer_sees_budgets_and_raises_none():
    row = budget(10, "all")
    more = raised(row, 5)
    client = somebody("viewer")
    html = page(client, "admin:routing_budget_change", row.pk)
    assert "Raise for a while" not in html
    for name, args in (
        ("admin:routing_budget_raise", [row.pk]),
        ("admin:routing_budget_end_raise", [row.pk, more.pk]),
        ("admin:routing_budget_usual", []),
    ):
        assert client.post(reverse(name, args=args)).status_code == 403, name
    assert BudgetRaise.objects.count() == 1


def test_finance_keeps_budgets_and_no_limits():
    client = somebody("finance")
    row = budget(10, "all")
    assert client.get(reverse("admin:routing_budget_raise", args=[row.pk])).status_code == 200
    assert client.get(reverse("admin:routing_ratelimit_add")).status_code == 403


def test_members_of_a_team_see_its_own_and_its_keys_only():
    team, other = Team.objects.create(name="research"), Team.objects.create(name="sales")
    client = somebody(team=team)
    user = User.objects.get(username="grace")
    names = ["view_budget", "view_ratelimit"]
    user.user_permissions.set(Permission.objects.filter(codename__in=names))
    key, _ = issuing.issue("ours", ["generate"])
    key.team = team
    key.save()
    mine = [budget(1, "team", team=team), budget(2, "key", client_key=key)]
    theirs = [budget(3, "team", team=other), budget(4, "all")]
    for row in mine:
        assert client.get(reverse("admin:routing_budget_change", args=[row.pk])).status_code == 200
    for row in theirs:
        assert client.get(reverse("admin:routing_budget_change", args=[row.pk])).status_code == 302
    limit("team", team=other, requests_per_minute=1)
    assert "sales" not in page(client, LIMITS)


def test_the_list_of_limits_shows_what_is_used_now(admin_client):
    row = limit("all", requests_per_day=200, concurrent_requests=9)
    [daily] = [rule.of() for rule in allowance_rows.limit_rules(row) if rule.slot == "rpd"]
    span = budget_periods.span("day", timezone.now())
    told = (daily, int(span.start.timestamp() * 1000), int(span.end.timestamp() * 1000), 50)
    metering_store.raise_to(settings.REDIS_URL, [told])
    html = page(admin_client, LIMITS)
    assert "width:25.0%" in html
    assert "requests / day" in html


def test_without_redis_the_list_of_limits_opens(admin_client, settings):
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    limit("all", requests_per_day=200)
    assert "everything together" in page(admin_client, LIMITS)
