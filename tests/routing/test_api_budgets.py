from datetime import timedelta
from decimal import Decimal

import pytest
from django.utils import timezone

from providers.models import AuditEntry
from routing import issuing, spending
from routing.models import Budget, BudgetRaise, ClientKey, Team
from tests.callers import caller, with_key
from tests.routing.allowance_makers import budget, limit, raised

pytestmark = pytest.mark.django_db


def fields_at_fault(response):
    return [error["field"] for error in response.json()["errors"]]


URL = "/api/v1/budgets"


@pytest.fixture
def api():
    return caller("admin")


@pytest.fixture
def spent(monkeypatch):
    """What the ledger says that subjects spent, in whatever period."""
    told = {}
    monkeypatch.setattr(spending, "_read", lambda asked: told.get(asked.subject, {}))
    return told


def test_a_budget_is_made_changed_and_removed(api):
    made = api.post(URL, {"subject": "all", "period": "month", "amount": "500.0000000001", "name": "All of it"})
    assert made.status_code == 201
    assert made.json()["amount"] == "500.0000000001"
    path = f"{URL}/{made.json()['id']}"
    assert api.patch(path, {"hard": False, "time_zone": "Europe/Berlin"}).json()["time_zone"] == "Europe/Berlin"
    assert [row["name"] for row in api.get(URL, {"period": "month"}).json()["results"]] == ["All of it"]
    assert api.delete(path).status_code == 204


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"subject": "all", "amount": "-1"}, "amount"),
        ({"subject": "all", "amount": "NaN"}, "amount"),
        ({"subject": "all", "amount": "9000001"}, "amount"),
        ({"subject": "all"}, "amount"),
        ({"subject": "all", "amount": "1", "period": "week"}, "period"),
        ({"subject": "all", "amount": "1", "time_zone": "Mars/Olympus"}, "time_zone"),
        ({"subject": "all", "amount": "1", "by_role": True}, "by_role"),
        ({"subject": "all", "amount": "1", "warn_percent": 0}, "warn_percent"),
        ({"subject": "all", "amount": "1", "when_away": "maybe"}, "when_away"),
    ],
)
def test_what_makes_no_sense_is_refused_by_its_field(api, body, field):
    response = api.post(URL, body)
    assert response.status_code == 400
    assert field in fields_at_fault(response)
    assert not Budget.objects.exists()


def test_the_status_tells_what_is_used_and_when_it_begins_anew(api, spent):
    row = budget(100, "all", period="day", time_zone="Europe/Berlin")
    spent["all"] = {"": Decimal("12.5")}
    told = api.get(f"{URL}/{row.pk}/status").json()
    [one] = told["standings"]
    assert (told["code"], one["code"], one["state"]) == ("BUDGET_OK", "BUDGET_OK", "ok")
    assert (Decimal(one["amount"]), Decimal(one["used"]), Decimal(one["left"])) == (
        100,
        Decimal("12.5"),
        Decimal("87.5"),
    )
    assert (one["time_zone"], one["counted"]) == ("Europe/Berlin", False)
    assert one["resets_at"] > timezone.now().isoformat()
    assert len(told["history"]) == 14
    assert Decimal(told["history"][0]["used"]) == Decimal("12.5")


@pytest.mark.parametrize(
    ("period", "code"),
    [
        ("request", "REQUEST_BUDGET_EXCEEDED"),
        ("hour", "HOURLY_BUDGET_EXCEEDED"),
        ("day", "DAILY_BUDGET_EXCEEDED"),
        ("month", "MONTHLY_BUDGET_EXCEEDED"),
    ],
)
def test_each_code_of_seed_001_is_what_a_request_of_some_cost_would_meet(api, spent, period, code):
    path = f"{URL}/{budget(5, 'all', period=period).pk}/status"
    assert api.get(path, {"cost": "5"}).json()["code"] == "BUDGET_OK"
    assert api.get(path, {"cost": "5.01"}).json()["code"] == code


def test_a_soft_budget_refuses_nothing(api, spent):
    path = f"{URL}/{budget(5, 'all', hard=False).pk}/status"
    assert api.get(path, {"cost": "6"}).json()["code"] == "BUDGET_OK"


@pytest.mark.parametrize("cost", ["-1", "much", "Infinity", ""])
def test_a_cost_that_is_none_is_refused(api, cost):
    response = api.get(f"{URL}/{budget(5, 'all').pk}/status", {"cost": cost})
    assert response.status_code == 400
    assert "cost" in fields_at_fault(response)


def test_a_raise_counts_until_its_end_and_is_audited(api):
    row = budget(100, "all")
    until = (timezone.now() + timedelta(hours=2)).isoformat()
    made = api.post(f"{URL}/{row.pk}/raises", {"amount": "50", "reason": "The fair", "expires_at": until})
    assert made.status_code == 201
    assert Decimal(api.get(f"{URL}/{row.pk}/status").json()["standings"][0]["amount"]) == 150
    entry = AuditEntry.objects.first()
    assert (entry.target_type, entry.after["reason"]) == ("budgetraise", "The fair")
    [listed] = api.get(f"{URL}/{row.pk}/raises").json()
    assert listed["created_by"].startswith("key:")
    assert api.delete(f"{URL}/{row.pk}/raises/{listed['id']}").status_code == 204
    assert Decimal(api.get(f"{URL}/{row.pk}/status").json()["standings"][0]["amount"]) == 100


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"reason": " "}, "reason"),
        ({"amount": "0"}, "amount"),
        ({"amount": "-5"}, "amount"),
        ({"expires_at": "2020-01-01T00:00:00Z"}, "expires_at"),
        ({"expires_at": None}, "expires_at"),
        ({"until": "x"}, "until"),
    ],
)
def test_a_raise_that_makes_no_sense_is_refused(api, changed, field):
    row = budget(100, "all")
    until = (timezone.now() + timedelta(hours=2)).isoformat()
    body = {"amount": "50", "reason": "The fair", "expires_at": until} | changed
    response = api.post(f"{URL}/{row.pk}/raises", body)
    assert response.status_code == 400
    assert field in fields_at_fault(response)
    assert not BudgetRaise.objects.exists()


def test_a_dry_run_raises_nothing(api):
    row = budget(100, "all")
    until = (timezone.now() + timedelta(hours=2)).isoformat()
    body = {"amount": "50", "reason": "The fair", "expires_at": until}
    assert api.post(f"{URL}/{row.pk}/raises?dry_run=true", body).status_code == 200
    assert not BudgetRaise.objects.exists()


def test_a_raise_of_another_budget_is_not_found(api):
    more = raised(budget(1, "all", period="day"), 1)
    other = budget(1, "all", period="month")
    assert api.delete(f"{URL}/{other.pk}/raises/{more.pk}").status_code == 404


def test_a_key_reads_its_own_limits_budgets_and_spend(spent):
    client = caller("generate", name="app")
    key = ClientKey.objects.get()
    key.team = Team.objects.create(name="research")
    key.save()
    limit(requests_per_minute=60, concurrent_requests=3)
    budget(10, period="day")
    budget(50, "team", team=key.team)
    budget(9999, "all")
    spent |= {"key": {key.pk: Decimal(4)}, "team": {key.team_id: Decimal(20)}, "all": {"": Decimal(999)}}
    told = client.get("/api/v1/me").json()
    assert (told["key"]["name"], told["key"]["team"], told["code"]) == ("app", "research", "BUDGET_OK")
    assert [(one["unit"], one["limit"], one["remaining"]) for one in told["limits"]] == [
        ("requests", 60, 60),
        ("calls", 3, 3),
    ]
    found = {one["subject"]: (one["who"], one["amount"], one["used"]) for one in told["budgets"]}
    assert found == {
        "all": ("", None, None),
        "key": ("app", "10.0000000000", "4.0000000000"),
        "team": ("research", "50.0000000000", "20.0000000000"),
    }
    assert Decimal(told["spend"]["month"]) == 4
    assert client.get("/api/v1/me", {"cost": "7"}).json()["code"] == "DAILY_BUDGET_EXCEEDED"


def test_a_key_learns_nothing_of_another(spent):
    other, _ = issuing.issue("other", ["generate"])
    limit("key", client_key=other, requests_per_minute=1)
    budget(1, "key", client_key=other)
    told = caller("generate", name="app").get("/api/v1/me").json()
    assert (told["limits"], told["budgets"]) == ([], [])


def test_a_key_without_scopes_for_the_registry_may_ask_who_it_is():
    _, secret = issuing.issue("app", ["registry:read"])
    assert with_key(secret.reveal()).get("/api/v1/me").json()["key"]["name"] == "app"


def test_no_key_but_an_admins_reaches_budgets():
    client, row = caller("generate", "registry:read", "registry:write", "secrets:read"), budget(1, "all")
    for method, path in (
        ("GET", URL),
        ("POST", URL),
        ("GET", f"{URL}/{row.pk}/status"),
        ("GET", f"{URL}/{row.pk}/raises"),
        ("POST", f"{URL}/{row.pk}/raises"),
        ("DELETE", f"{URL}/{row.pk}/raises/1"),
    ):
        assert client.generic(method, path, b"{}", content_type="application/json").status_code == 403, path
