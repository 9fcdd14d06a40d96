import pytest

from providers.models import AuditEntry, Provider, ProviderModel
from routing import issuing
from routing.models import Budget, ClientKey, RateLimit, Team
from tests.routing.allowance_makers import budget, limit, raised

pytestmark = pytest.mark.django_db


def deleted():
    entries = AuditEntry.objects.filter(action="delete").order_by("id")
    return [(entry.target_type, entry.target_id) for entry in entries]


def test_what_goes_with_a_key_is_told_by_itself():
    key, _ = issuing.issue("app", ["generate"])
    limit("key", client_key=key, requests_per_minute=1)
    raised(budget(5, "key", client_key=key, name="The app's"), 1)
    key.delete()
    assert not RateLimit.objects.exists()
    assert not Budget.objects.exists()
    assert set(deleted()) == {
        ("clientkey", key.prefix),
        ("ratelimit", "key app"),
        ("budget", "The app's"),
        ("budgetraise", "The app's"),
    }
    entry = AuditEntry.objects.get(action="delete", target_type="budget")
    assert entry.before["amount"] == "5.0000000000"


def test_what_goes_with_many_rows_is_told_as_well():
    provider = Provider.objects.create(provider_id="p", provider_type="fake")
    for name in ("a", "b"):
        model = ProviderModel.objects.create(provider=provider, model_id=name)
        limit("model", model=model, requests_per_minute=1)
    ProviderModel.objects.all().delete()
    assert sorted(entry for entry in deleted() if entry[0] == "ratelimit") == [
        ("ratelimit", "model p/a"),
        ("ratelimit", "model p/b"),
    ]


def test_what_is_deleted_itself_is_told_once():
    team = Team.objects.create(name="research")
    budget(5, "team", team=team).delete()
    limit("team", team=team, requests_per_minute=1)
    RateLimit.objects.all().delete()
    assert deleted() == [("budget", "team research, a month"), ("ratelimit", "team research")]
    assert not ClientKey.objects.exists()
