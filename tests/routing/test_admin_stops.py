"""One dialog that stops the bleeding: it says what would come of an act, and the act is in the audit log with its reason."""

import json
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.urls import reverse

from providers import actions
from providers.models import AuditEntry, Provider, ProviderModel
from routing import health, policy_actions, snapshot
from routing.models import Override
from tests.callers import caller

pytestmark = pytest.mark.django_db
URL = reverse("admin:stop")


@pytest.fixture(autouse=True)
def _fresh(redis_url):
    health.replace(None)
    snapshot.replace(None)
    models = [{"model_id": "org/one"}, {"model_id": "two"}]
    actions.create_provider({"provider_id": "p", "provider_type": "fake"}, models=models)
    policy_actions.create({"name": "best", "document": {"targets": ["org/one"]}})
    yield
    snapshot.replace(None)


def shown(client, **asked):
    return client.get(URL, asked, headers={"X-Fragment": "1"}).content.decode()


def do(client, **fields):
    return client.post(URL, fields, follow=True).content.decode()


def breaker(route="p/org/one"):
    return health.look().conditions().of(route).breaker


def test_it_says_which_policies_would_lose_their_last_target(admin_client):
    html = shown(admin_client, route="p/org/one")
    assert "nobody could serve it any more" in html
    assert "manage.py breakers --open p/org/one" in html
    assert "<html" not in html
    assert "No policy that could use it" in shown(admin_client, route="p/two")
    of_provider = shown(admin_client, provider="p")
    assert "nobody could serve it any more" in of_provider
    assert "/api/v1/providers/p" in of_provider


def test_a_breaker_is_opened_and_reset_by_hand(admin_client):
    assert "is not asked for" in do(admin_client, route="p/org/one", do="open", reason="wrong answers")
    assert breaker() == "open"
    entry = AuditEntry.objects.first()
    assert (entry.action, entry.target_id, entry.reason) == ("open", "p/org/one", "wrong answers")
    assert "opened by hand" in admin_client.get("/admin/health/").content.decode()
    do(admin_client, route="p/org/one", do="reset")
    assert breaker() == "closed"


def test_a_model_and_a_provider_are_switched_off_and_on(admin_client):
    assert "p/org/one is switched off." in do(admin_client, route="p/org/one", do="off", reason="leaks")
    assert not ProviderModel.objects.get(model_id="org/one").enabled
    assert AuditEntry.objects.first().reason == "leaks"
    do(admin_client, provider="p", do="off", reason="all of it")
    assert not Provider.objects.get().enabled
    do(admin_client, provider="p", do="on")
    assert Provider.objects.get().enabled


def test_a_policy_is_sent_elsewhere_for_a_while(admin_client):
    fields = {"policy": "best", "do": "override", "target": "two", "span": "3600", "reason": "one is wrong"}
    assert "two serves best from the next request on." in do(admin_client, **fields)
    override = Override.objects.get()
    assert (override.target, override.reason, override.expires_at is not None) == ("two", "one is wrong", True)
    do(admin_client, policy="best", do="restore")
    assert not Override.objects.exists()
    assert "Nothing was changed: no enabled model" in do(admin_client, **fields | {"target": "gone"})
    assert "there is no such thing to do" in do(admin_client, **fields | {"do": "off"})
    assert not Override.objects.exists()


def test_what_a_file_owns_is_not_switched_here(admin_client):
    ProviderModel.objects.update(managed_by="/etc/gateway.yaml")
    assert "owns it" in shown(admin_client, route="p/two")
    assert "Nothing was changed" in do(admin_client, route="p/two", do="off")
    assert ProviderModel.objects.get(model_id="two").enabled


@pytest.mark.parametrize("asked", [{}, {"route": "p/gone"}, {"provider": "gone"}, {"policy": "gone"}])
def test_what_is_not_there_leads_to_health(admin_client, asked):
    assert admin_client.get(URL, asked)["Location"] == reverse("admin:health")


def test_it_leads_back_within_this_site_only(admin_client):
    fields = {"route": "p/two", "do": "reset"}
    back = admin_client.post(URL, fields | {"back": "http://testserver/admin/health/?q=p"})
    assert back["Location"] == "/admin/health/?q=p"
    assert admin_client.post(URL, fields | {"back": "https://elsewhere.example/"})["Location"] == "/admin/health/"


def test_rest_and_the_command_do_the_same():
    writer = caller()
    body = {"provider_id": "p", "model_id": "org/one", "reason": "wrong answers"}
    answer = writer.post("/api/v1/breakers/open", body, format="json")
    assert (answer.status_code, answer.json()["opened"], breaker()) == (200, "p/org/one", "open")
    assert AuditEntry.objects.first().reason == "wrong answers"
    assert writer.post("/api/v1/breakers/open", body | {"model_id": "gone"}, format="json").status_code == 404
    out = StringIO()
    call_command("breakers", open="p/two", off="p/org/one", reason="enough", json=True, stdout=out, stderr=StringIO())
    states = {one["route"]: one["state"] for one in json.loads(out.getvalue())["breakers"]}
    assert states == {"p/org/one": "open", "p/two": "open"}
    assert not ProviderModel.objects.get(model_id="org/one").enabled
    with pytest.raises(CommandError, match="belongs to a model"):
        call_command("breakers", open="p", stderr=StringIO())


@pytest.mark.parametrize("asked", [{"route": "p/org/one"}, {"provider": "p"}, {"policy": "best"}])
def test_a_dialog_asks_the_database_little(admin_client, asked, django_assert_max_num_queries):
    shown(admin_client, **asked)
    with django_assert_max_num_queries(12):
        shown(admin_client, **asked)
