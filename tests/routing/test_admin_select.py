"""Promises 0-19, 0-20 and 0-23: the page that lists live models and makes one the default."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import reverse

from providers import actions, offers, ownership
from providers.models import AuditEntry, Provider
from routing import defaults, live_models, snapshot
from routing.models import Policy, RoutingSettings
from tests.fakes.kamiwaza import FakeKamiwaza

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _no_snapshot() -> Iterator[None]:
    snapshot.replace(None)
    yield
    snapshot.replace(None)


@pytest.fixture
def models() -> None:
    actions.create_provider(
        {"provider_id": "one", "provider_type": "fake"},
        models=[{"model_id": "plain"}, {"model_id": "seeing", "capabilities": ["chat", "vision"]}],
    )


def page(client: Client, **query: str) -> str:
    response = client.get(reverse("admin:select"), query)
    assert response.status_code == 200
    return response.content.decode()


def make_default(client: Client, route: str) -> str:
    return client.post(reverse("admin:select"), {"route": route}, follow=True).content.decode()


def staff(*permissions: str) -> Client:
    user = User.objects.create_user("bob", password="x", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    client = Client()
    client.force_login(user)
    return client


def default_model() -> str:
    model, _ = live_models.standing(snapshot.refresh(), now=0)
    return model.model_id if model else ""


def test_live_models_are_listed_and_narrowed_by_what_they_declare(admin_client: Client, models: None) -> None:
    assert "plain" in page(admin_client)
    narrowed = page(admin_client, capability="vision")
    assert "one/seeing" in narrowed
    assert "one/plain" not in narrowed


def test_a_click_makes_a_model_the_default_and_keeps_the_one_before_as_fallback(
    admin_client: Client, models: None
) -> None:
    assert "seeing is the default" in make_default(admin_client, "one/seeing")
    assert default_model() == "seeing"
    assert RoutingSettings.load().default_policy == "default"
    make_default(admin_client, "one/plain")
    policy = Policy.objects.get(name="default")
    assert (default_model(), policy.document["fallbacks"], policy.version) == ("plain", ["one/seeing"], 2)
    assert AuditEntry.objects.filter(target_type="policy", actor="user:admin").count() == 2


def test_a_default_is_never_its_own_fallback(models: None) -> None:
    for model in ("plain", "seeing", "plain"):
        defaults.make_default("one", model)
    assert Policy.objects.get(name="default").document["fallbacks"] == ["one/seeing"]


def test_what_else_the_policy_says_stays(models: None) -> None:
    Policy.objects.create(name="default", document={"targets": [{"model": "plain"}], "max_cost": "0.5"})
    defaults.make_default("one", "seeing")
    document = Policy.objects.get(name="default").document
    assert (document["max_cost"], document["fallbacks"]) == ("0.5", ["plain"])


def test_a_default_that_a_file_owns_is_changed_there(admin_client: Client, models: None) -> None:
    document = {"targets": [{"model": "plain"}]}
    Policy.objects.create(name="default", document=document, managed_by="/etc/gateway.yaml")
    assert "/etc/gateway.yaml" in make_default(admin_client, "one/seeing")
    assert default_model() == "plain"
    with pytest.raises(ownership.OwnedByFile):
        defaults.make_default("one", "seeing")


def test_a_model_that_went_meanwhile_changes_nothing(admin_client: Client, models: None) -> None:
    assert "not live any more" in make_default(admin_client, "one/gone")
    assert not Policy.objects.exists()


def test_who_may_only_look_cannot_change(models: None) -> None:
    client = staff("view_providermodel")
    assert "Make default" not in page(client)
    assert client.post(reverse("admin:select"), {"route": "one/seeing"}).status_code == 403
    assert client.post(reverse("admin:select"), {"do": "read"}).status_code == 403


def test_who_may_not_see_models_sees_no_page() -> None:
    assert staff().get(reverse("admin:select")).status_code == 403


def test_an_empty_page_teaches(admin_client: Client) -> None:
    assert "No model is live" in page(admin_client)


def test_a_list_that_could_not_be_read_again_is_marked_and_can_be_read(admin_client: Client) -> None:
    with FakeKamiwaza() as platform:
        platform.deploy("llama3")
        params = {"endpoint": platform.endpoint, "verify_tls": False, "scheme": "https"}
        provider = Provider.objects.create(provider_id="kz", provider_type="kamiwaza", connection_params=params)
        offers.refresh(provider)
        platform.down = True
        read = admin_client.post(reverse("admin:select"), {"do": "read"}, follow=True).content.decode()
        assert "503" in read
        assert "list is old" in read
        assert "TLS not verified" in read
        platform.down = False
        read = admin_client.post(reverse("admin:select"), {"do": "read"}, follow=True).content.decode()
        assert "1 model is deployed" in read
        assert "list is old" not in read
