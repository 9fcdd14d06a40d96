import json
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.test.utils import override_settings
from django.utils import timezone

from providers import actions
from providers.breaker_settings import DEFAULTS
from providers.models import AuditEntry, ProviderModel
from routing import health, shared_health, snapshot
from routing.breakers import Step
from routing.performance import Batch

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _fresh():
    health.replace(None)
    snapshot.replace(None)
    yield
    snapshot.replace(None)


@pytest.fixture
def provider(redis_url):
    models = [{"model_id": "org/broken"}, {"model_id": "fine"}, {"model_id": "gone"}]
    made = actions.create_provider({"provider_id": "p", "provider_type": "openai"}, models=models)
    failed = Step("p/org/broken", "bad", DEFAULTS, count=5, code="upstream_timeout")
    shared_health.ask(
        redis_url, shared_health.steps([failed]), shared_health.batches([("p/fine", Batch(99, 1, 250_000))])
    )
    row = ProviderModel.objects.get(model_id="gone")
    row.auto_disabled_at, row.auto_disabled_reason = timezone.now(), "6 failures in a row"
    row.save()
    return made


def test_the_page_tells_what_is_out_and_why(provider, admin_client):
    page = admin_client.get("/admin/health/").content.decode()
    assert "p/org/broken" in page
    assert "upstream_timeout" in page
    assert "5 failures in a row" in page
    assert "6 failures in a row" in page
    assert "99.0\u202f%" in page
    assert "manage.py breakers" in page
    assert "p/fine" in admin_client.get("/admin/health/live/").content.decode()


def test_what_is_switched_off_is_not_told_to_be_in_service(provider, admin_client):
    ProviderModel.objects.filter(model_id="fine").update(enabled=False)
    page = admin_client.get("/admin/health/").content.decode()
    assert ("p/fine" in page, "p/org/broken" in page) == (False, True)


def test_without_redis_the_page_says_so(provider, admin_client):
    with override_settings(REDIS_URL="redis://127.0.0.1:1/0"):
        assert "Redis does not answer" in admin_client.get("/admin/health/").content.decode()


def test_a_button_resets_and_names_the_user(provider, admin_client, admin_user):
    admin_client.post("/admin/health/reset/", {"provider_id": "p", "model_id": "org/broken"})
    assert health.read().of("p/org/broken").breaker == "closed"
    assert AuditEntry.objects.first().actor == f"user:{admin_user.username}"


def test_a_button_enables_again(provider, admin_client):
    row = ProviderModel.objects.get(model_id="gone")
    for pk in ("", "one", "9" * 5000, row.pk):
        admin_client.post("/admin/health/enable/", {"pk": pk})
    row.refresh_from_db()
    assert row.auto_disabled_at is None


def test_who_may_only_look_cannot_reset(provider, client, django_user_model):
    user = django_user_model.objects.create_user("eve", is_staff=True)
    client.force_login(user)
    assert client.get("/admin/health/").status_code == 403
    assert client.post("/admin/health/reset/", {"provider_id": "p"}).status_code == 403


def test_the_command_lists_resets_and_enables(provider):
    shown = StringIO()
    call_command("breakers", "--json", stdout=shown)
    listed = {row["route"]: row["state"] for row in json.loads(shown.getvalue())["breakers"]}
    assert listed == {"p/gone": "auto_disabled", "p/org/broken": "open", "p/fine": "closed"}
    told, after = StringIO(), StringIO()
    call_command("breakers", "--reset", "p/org/broken", "--enable", "p/gone", stdout=after, stderr=told)
    assert "p/org/broken" in told.getvalue()
    assert "auto_disabled" not in after.getvalue()
    assert AuditEntry.objects.filter(action="reset", actor__startswith="command:breakers").exists()


def test_the_command_knows_what_is_not_there(provider):
    with pytest.raises(CommandError, match="no model or provider"):
        call_command("breakers", "--reset", "p/nothing")


def test_the_provider_list_shows_the_worst_and_resets_it(provider, admin_client):
    page = admin_client.get("/admin/providers/provider/").content.decode()
    assert ">open</span>" in page
    done = admin_client.post(
        "/admin/providers/provider/", {"action": "reset_breakers", "_selected_action": [provider.pk]}, follow=True
    )
    assert "p/org/broken" in done.content.decode()
    assert health.read().of("p/org/broken").breaker == "closed"
    assert ">open</span>" not in admin_client.get("/admin/providers/provider/").content.decode()


def test_the_model_list_tells_what_disabled_itself(provider, admin_client):
    assert "disabled itself" in admin_client.get("/admin/providers/providermodel/").content.decode()


def test_the_list_is_filtered_by_state_and_name(provider, admin_client):
    def names(**asked):
        html = admin_client.get("/admin/health/", asked).content.decode()
        return {name for name in ("p/org/broken", "p/fine", "p/gone") if f">{name}<" in html}

    assert names() == {"p/org/broken", "p/fine", "p/gone"}
    assert names(state="out") == {"p/org/broken", "p/gone"}
    assert names(state="well") == {"p/fine"}
    assert names(q="BROK") == {"p/org/broken"}
    assert "No model is like that." in admin_client.get("/admin/health/?q=nothing").content.decode()


def test_a_page_of_very_many_is_short_and_leads_on(redis_url, admin_client, django_assert_max_num_queries):
    models = [{"model_id": f"m{number:03}"} for number in range(130)]
    actions.create_provider({"provider_id": "many", "provider_type": "openai"}, models=models)
    seen = [(f"many/m{number:03}", Batch(9, 0, 250_000)) for number in range(130)]
    shared_health.ask(redis_url, shared_health.batches(seen))
    with django_assert_max_num_queries(12):
        html = admin_client.get("/admin/health/").content.decode()
    assert (html.count(">many/m"), "page=2" in html) == (50, True)
    assert admin_client.get("/admin/health/?page=3").content.decode().count(">many/m") == 30
