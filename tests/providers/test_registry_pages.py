"""What the pages of providers and models say: tabs, signs, the gallery of kinds, what would be lost, what is held back."""

from decimal import Decimal
from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.test import Client
from django.urls import reverse

from providers import actor, model_cells, offer_prices, policy_uses, price_list, type_gallery
from providers.discovery import Offered
from providers.models import ApiKey, ProbeResult, Provider, ProviderModel
from providers.policy_uses import Losses, PolicyUse

pytestmark = pytest.mark.django_db

CHANGE = "admin:providers_provider_change"


def a_provider(name: str = "up", **fields: Any) -> Provider:
    fields = {"provider_type": "openai_compatible", "connection_params": {"base_url": "http://127.0.0.1:9/v1"}} | fields
    return Provider.objects.create(provider_id=name, **fields)


def test_the_gallery_finds_by_name_address_and_place() -> None:
    def names(wanted: str) -> set[str]:
        return {tile.name for group in type_gallery.groups(wanted) for tile in group.tiles}

    assert names("groq") == {"groq"}
    assert names("11434") == {"ollama"}
    assert {"llama_cpp", "vllm"} <= names("local")
    assert names("no such thing") == set()
    assert len(names("")) > 20


def test_no_two_kinds_of_a_group_share_a_monogram() -> None:
    for group in type_gallery.groups():
        shown = [tile.monogram for tile in group.tiles]
        assert len(set(shown)) == len(shown), group.title


@pytest.mark.parametrize(
    ("tokens", "shown"),
    [
        (512, "512"),
        (8191, "8.2k"),
        (8192, "8k"),
        (128_000, "128k"),
        (131_072, "128k"),
        (1_000_000, "1M"),
        (1_048_576, "1M"),
    ],
)
def test_a_context_is_written_as_vendors_do(tokens: int, shown: str) -> None:
    assert f">{shown}<" in model_cells.context(tokens)


def test_every_sign_has_a_name_and_the_rest_is_counted() -> None:
    html = model_cells.abilities(["chat", "function_calling", "vision", "streaming", "reasoning", "poetry"])
    assert html.count("material-symbols-outlined") == 4
    assert "calls tools" in html
    assert 'title="poetry, reasoning"' in html or 'title="reasoning, poetry"' in html


def test_a_free_price_is_a_word_and_an_unknown_one_is_none() -> None:
    assert "free" in model_cells.price(Decimal(0))
    assert "–" in model_cells.price(None)


def test_what_a_vendor_calls_deprecated_is_said() -> None:
    provider = a_provider(provider_type="openai", connection_params={})
    old = ProviderModel.objects.create(provider=provider, model_id="x", parameters={"deprecation_date": "2026-12-31"})
    new = ProviderModel.objects.create(provider=provider, model_id="nobody-lists-this")
    assert "2026-12-31" in model_cells.deprecation(old)
    assert model_cells.deprecation(new) == ""


def test_the_list_knows_the_context_of_a_model_that_is_offered_without() -> None:
    listed = price_list.listing("openai", "gpt-4o")
    assert listed is not None
    assert listed.context_window
    provider = a_provider(provider_type="openai", connection_params={})
    known, told = offer_prices.filled(provider, [Offered("gpt-4o"), Offered("gpt-4o-mini", context_window=7)])
    assert (known.context_window, told.context_window) == (listed.context_window, 7)
    assert offer_prices.priced(provider, [known])[0].prices.source == "list"


@pytest.mark.parametrize("tab", ["overview", "models", "keys", "connection", "settings", "policies", "history", "odd"])
def test_every_tab_opens_and_names_itself(admin_client: Client, tab: str) -> None:
    provider = a_provider(display_name="Rack four")
    ApiKey.objects.create(provider=provider, secret="sk-tab-canary-0123456789")
    html = admin_client.get(reverse(CHANGE, args=[provider.pk]), {"tab": tab}).content.decode()
    tabs = html[html.index('<nav class="gw-tabs"') :]
    assert tabs.partition('aria-current="page">')[2].partition("<")[0].lower() == tab.replace("odd", "overview")
    assert "Rack four" in html
    assert "sk-tab-canary-0123456789" not in html


def test_what_was_changed_is_for_who_may_read_the_audit_log(client: Client, django_user_model: Any) -> None:
    person = django_user_model.objects.create_user("keys", is_staff=True)
    person.user_permissions.add(Permission.objects.get(codename="view_provider"))
    client.force_login(person)
    html = client.get(reverse(CHANGE, args=[a_provider().pk]), {"tab": "history"}).content.decode()
    assert ("gw-change" in html, "tab=history" in html, "tab=models" in html) == (False, False, True)


def test_pages_lead_to_the_requests_that_they_speak_of(admin_client: Client) -> None:
    row = ProviderModel.objects.create(provider=a_provider(), model_id="org/one+1")
    overview = admin_client.get(reverse(CHANGE, args=[row.provider_id])).content.decode()
    assert '?provider=up"' in overview
    page = admin_client.get(reverse("admin:providers_providermodel_change", args=[row.pk])).content.decode()
    assert "?served_by=up%2Forg%2Fone%2B1" in page


def test_the_live_cells_are_those_of_the_rows_that_are_asked_for(admin_client: Client) -> None:
    first, second = a_provider("first"), a_provider("second", enabled=False)
    ProbeResult.objects.create(provider=first, healthy=True, duration_ms=3)
    html = admin_client.get(reverse("admin:providers_provider_live"), {"ids": f"{first.pk},x"}).content.decode()
    assert f'data-cell="{first.pk}-state"' in html
    assert f'data-cell="{second.pk}-state"' not in html


def test_who_switched_a_provider_off_is_on_hover(admin_client: Client) -> None:
    provider = a_provider()
    url = reverse("admin:providers_provider_disable", args=[provider.pk])
    admin_client.post(url, {"reason": "maintenance"})
    html = admin_client.get(reverse("admin:providers_provider_changelist")).content.decode()
    assert "off by hand" in html
    assert "Disabled by admin" in html
    assert "maintenance" in html


def test_what_policies_lose_is_said_before(admin_client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    provider = a_provider()
    monkeypatch.setattr(policy_uses, "_lose", lambda ids: Losses(("smart", "fast", "cheap")))
    monkeypatch.setattr(policy_uses, "_read", lambda name: [PolicyUse("smart", "alias", "", ("m",), False, 0)])
    html = admin_client.get(reverse("admin:providers_provider_disable", args=[provider.pk])).content.decode()
    assert "3 policies lose their only healthy target" in html
    html = admin_client.get(reverse(CHANGE, args=[provider.pk]), {"tab": "policies"}).content.decode()
    assert "nothing healthy is left" in html


def test_deleting_the_disabled_ones_asks_for_their_number(admin_client: Client) -> None:
    rows = [a_provider(f"p{n}", enabled=n == 0) for n in range(3)]
    url = reverse("admin:providers_provider_changelist")
    chosen = {"action": "delete_disabled", "_selected_action": [str(row.pk) for row in rows]}
    assert "Delete 2 disabled providers?" in admin_client.post(url, chosen).content.decode()
    assert Provider.objects.count() == 3
    admin_client.post(url, {**chosen, "confirmation": "2"})
    assert [row.provider_id for row in Provider.objects.all()] == ["p0"]


def test_a_held_key_is_named_on_every_tab_and_released_by_an_admin(admin_client: Client) -> None:
    provider = a_provider()
    key = ApiKey.objects.create(provider=provider, secret="sk-0123456789abcdef")
    with actor.acting_as("user:writer", may_handle_secrets=lambda: False):
        provider.connection_params = {"base_url": "https://elsewhere.example/v1"}
        provider.save()
    assert "1 key is held back." in admin_client.get(reverse(CHANGE, args=[provider.pk])).content.decode()
    release = reverse("admin:providers_provider_release", args=[provider.pk, key.pk])
    assert release in admin_client.get(reverse(CHANGE, args=[provider.pk]), {"tab": "keys"}).content.decode()
    admin_client.post(release)
    assert provider.api_keys.get().held_for == ""


def test_a_key_whose_variable_is_not_set_is_shown_as_left_out(
    admin_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider = a_provider()
    ApiKey.objects.create(provider=provider, secret="env:UP_API_KEY")

    def shown() -> str:
        return admin_client.get(reverse(CHANGE, args=[provider.pk]), {"tab": "keys"}).content.decode()

    monkeypatch.delenv("UP_API_KEY", raising=False)
    assert "left out" in shown()
    monkeypatch.setenv("UP_API_KEY", "sk-0123456789abcdef")
    assert "left out" not in shown()


def test_every_tab_tells_the_id_of_a_provider_that_is_shown_by_another_name(admin_client: Client) -> None:
    provider = a_provider(display_name="Ours")
    for tab in ("overview", "keys", "history"):
        html = admin_client.get(reverse(CHANGE, args=[provider.pk]), {"tab": tab}).content.decode()
        assert f'routes and policies name">{provider.provider_id}</code>' in html


def test_a_new_provider_s_id_holds_no_slash(admin_client: Client) -> None:
    told = {"provider_id": "a/b", "display_name": "", "priority": "1", "enabled": "on"}
    page = admin_client.post(reverse("admin:providers_provider_add") + "?provider_type=openai", told)
    assert "must not hold a slash" in page.content.decode()
    admin_client.post(reverse("admin:providers_provider_add") + "?provider_type=openai", told | {"provider_id": "ab"})
    assert [row.provider_id for row in Provider.objects.all()] == ["ab"]
