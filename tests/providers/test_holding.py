"""Whoever writes the registry without the right to read secrets cannot have them sent somewhere else."""

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.test import Client
from django.urls import reverse

from providers import actor, configuration, destinations, holding
from providers.destinations import Destination
from providers.importers import runs
from providers.importers.state import Digester, state
from providers.models import ApiKey, ConnectionParameter, ImportRun, Provider, ProviderModel
from providers.references import reference_to
from tests.callers import REGISTRY, caller
from tests.page_forms import form_of_page

pytestmark = pytest.mark.django_db

HOME, ELSEWHERE = "https://api.example.com/v1", "https://elsewhere.example/v1"
CANARY = "sk-held-canary-0123456789abcdef"


@pytest.fixture
def provider() -> Provider:
    made = Provider.objects.create(
        provider_id="p", provider_type="openai_compatible", connection_params={"base_url": HOME}
    )
    ApiKey.objects.create(provider=made, secret=CANARY)
    return made


def stranger() -> Any:
    return actor.acting_as("user:writer", may_handle_secrets=lambda: False)


def move(provider: Provider, **params: Any) -> Provider:
    provider.refresh_from_db()
    provider.connection_params = {**provider.connection_params, **params}
    provider.save()
    return provider


def held_for(provider: Provider) -> str:
    return provider.api_keys.get().held_for


@pytest.mark.parametrize(
    ("before", "after", "covered"),
    [
        ({}, {}, True),
        ({"base_url": HOME}, {"base_url": "https://API.example.com:443/v2"}, True),
        ({"base_url": HOME}, {"base_url": "http://api.example.com/v1"}, False),
        ({"base_url": HOME}, {"base_url": "https://api.example.com:8443/v1"}, False),
        ({"base_url": HOME}, {"base_url": "https://api.example.com@elsewhere.example"}, False),
        ({}, {"proxy": "http://u:p@proxy:3128"}, False),
        ({"proxy": "http://proxy:3128"}, {}, True),
        ({}, {"verify_tls": "no"}, False),
        ({"verify_tls": False}, {}, True),
    ],
)
def test_a_destination_covers_the_same_place_by_the_same_or_a_safer_way(
    before: dict[str, Any], after: dict[str, Any], covered: bool
) -> None:
    assert destinations.of(before).covers(destinations.of(after)) is covered


@pytest.mark.parametrize(
    "destination",
    [
        Destination(),
        Destination("https://[::1]:443"),
        Destination("https://a:443", "http://proxy:3128", verified=False),
    ],
)
def test_a_destination_is_read_from_what_it_says(destination: Destination) -> None:
    assert destinations.read(str(destination)) == destination


def test_another_address_holds_the_keys_back_and_the_first_one_lets_them_go(provider: Provider) -> None:
    with stranger():
        move(provider, base_url=ELSEWHERE)
        assert held_for(provider) == "https://api.example.com:443"
        assert not provider.api_keys.filter(ApiKey.usable(provider.created_at)).exists()
        move(provider, base_url="https://third.example/v1")
        assert held_for(provider) == "https://api.example.com:443"
        move(provider, base_url=HOME)
    assert held_for(provider) == ""


@pytest.mark.parametrize("params", [{"proxy": "http://proxy.example:3128"}, {"verify_tls": False}])
def test_a_proxy_and_an_unverified_certificate_hold_them_back_too(provider: Provider, params: dict[str, Any]) -> None:
    with stranger():
        move(provider, **params)
    assert held_for(provider)


def test_another_type_is_another_address() -> None:
    provider = Provider.objects.create(provider_id="g", provider_type="groq")
    ApiKey.objects.create(provider=provider, secret=CANARY)
    with stranger():
        provider.provider_type = "mistral"
        provider.save()
    assert held_for(provider) == "https://api.groq.com:443"


def test_other_changes_hold_nothing_back(provider: Provider) -> None:
    with stranger():
        move(provider, organization="acme", base_url="https://api.example.com/v2")
    assert held_for(provider) == ""


def test_who_may_handle_secrets_moves_them_along(provider: Provider) -> None:
    move(provider, base_url=ELSEWHERE)
    assert held_for(provider) == ""


def test_a_row_of_the_environment_that_moves_holds_the_keys_of_that_environment(provider: Provider) -> None:
    ApiKey.objects.create(provider=provider, secret="sk-staging", environment="staging")
    with stranger():
        row = ConnectionParameter.objects.create(
            provider=provider, param_name="base_url", environment="staging", param_value=ELSEWHERE
        )
    assert [key.environment for key in holding.held(provider.api_keys.all())] == ["staging"]
    with stranger():
        row.delete()
    assert holding.held(provider.api_keys.all()) == []


def test_a_key_entered_anew_is_meant_for_the_new_address(provider: Provider) -> None:
    with stranger():
        move(provider, base_url=ELSEWHERE)
        key = provider.api_keys.get()
        key.name = "renamed"
        key.save()
        assert held_for(provider), "no other change releases it"
        key.secret = "sk-entered-anew"
        key.save()
    assert held_for(provider) == ""


def test_a_page_that_was_opened_before_does_not_release_a_key(provider: Provider) -> None:
    opened = provider.api_keys.get()
    with stranger():
        move(provider, base_url=ELSEWHERE)
        opened.weight = 3
        opened.save()
    assert held_for(provider)


def test_a_key_is_held_back_when_it_is_given_to_an_environment_that_points_elsewhere(provider: Provider) -> None:
    ConnectionParameter.objects.create(
        provider=provider, param_name="base_url", environment="staging", param_value=ELSEWHERE
    )
    with stranger():
        key = provider.api_keys.get()
        key.environment = "staging"
        key.save()
    assert held_for(provider) == "https://api.example.com:443"


def test_secrets_inside_the_parameters_refuse_the_move_until_they_are_entered_anew(provider: Provider) -> None:
    move(provider, headers={"Authorization": CANARY})
    with stranger():
        with pytest.raises(holding.SecretsStay, match=r"headers\.Authorization"):
            move(provider, base_url=ELSEWHERE)
        move(provider, base_url=ELSEWHERE, headers={"Authorization": CANARY})
    assert provider.connection_params["base_url"] == ELSEWHERE


def test_a_sensitive_parameter_refuses_the_move(provider: Provider) -> None:
    ConnectionParameter.objects.create(
        provider=provider, param_name="session_token", is_sensitive=True, param_value=CANARY
    )
    with stranger(), pytest.raises(holding.SecretsStay, match="session_token of development"):
        move(provider, base_url=ELSEWHERE)


def test_deployments_stay_at_the_providers_host() -> None:
    provider = Provider.objects.create(
        provider_id="kz", provider_type="kamiwaza", connection_params={"base_url": "https://kz.example/api"}
    )
    with stranger():
        ProviderModel.objects.create(
            provider=provider, model_id="m", parameters={"base_urls": ["http://kz.example:8001/v1"]}
        )
        with pytest.raises(holding.SecretsStay):
            ProviderModel.objects.create(provider=provider, model_id="n", parameters={"base_urls": [ELSEWHERE]})


def deployment(provider: Provider, url: str, model_id: str = "m") -> ProviderModel:
    return ProviderModel.objects.create(provider=provider, model_id=model_id, parameters={"base_urls": [url]})


def test_a_detour_releases_no_key_while_a_deployment_is_left_elsewhere(provider: Provider) -> None:
    with stranger():
        move(provider, base_url=ELSEWHERE)
        left = deployment(provider, ELSEWHERE)
        move(provider, base_url=HOME)
        assert held_for(provider), "the deployment would get it"
        left.delete()
        move(provider, organization="acme")
    assert held_for(provider) == ""


def test_a_row_of_an_environment_without_keys_opens_no_host_for_deployments(provider: Provider) -> None:
    with stranger():
        ConnectionParameter.objects.create(
            provider=provider, param_name="base_url", environment="nobody", param_value=ELSEWHERE
        )
        with pytest.raises(holding.SecretsStay):
            deployment(provider, ELSEWHERE)


def test_deployments_that_the_platform_named_elsewhere_may_be_switched_off(provider: Provider) -> None:
    model = deployment(provider, ELSEWHERE)
    with stranger():
        model.enabled = False
        model.save()
    assert not ProviderModel.objects.get().enabled


# At the edges


@pytest.mark.parametrize("path", ["/providers/p", "/api/providers/p", "/api/v1/providers/p"])
def test_the_api_says_that_keys_are_held_back(provider: Provider, path: str) -> None:
    answer = caller(*REGISTRY).patch(path, {"connection_params": {"base_url": ELSEWHERE}}, format="json")

    assert answer.status_code == 200
    assert "held back: it was entered for https://api.example.com:443" in answer.json()["warnings"][0]
    assert held_for(provider)


def test_a_key_that_may_read_secrets_moves_them_along(provider: Provider) -> None:
    api = caller(*REGISTRY, "secrets:read")
    answer = api.patch("/api/v1/providers/p", {"connection_params": {"base_url": ELSEWHERE}}, format="json")
    assert "warnings" not in answer.json()
    assert held_for(provider) == ""


def test_a_refused_move_is_a_bad_request(provider: Provider) -> None:
    move(provider, headers={"Authorization": CANARY})
    body = {"connection_params": {"base_url": ELSEWHERE, "headers": {}}}
    answer = caller(*REGISTRY).patch("/api/v1/providers/p", body, format="json")
    assert answer.status_code == 400
    assert "headers.Authorization" in answer.content.decode()


def test_a_held_key_is_released_by_who_may_read_secrets(provider: Provider) -> None:
    with stranger():
        move(provider, base_url=ELSEWHERE)
    path = f"/api/v1/api-keys/{provider.api_keys.get().pk}/release"
    assert caller(*REGISTRY).post(path).status_code == 403
    assert caller("secrets:read").post(path).json()["held_for"] == ""
    assert held_for(provider) == ""


def as_role(client: Client, role: str) -> Client:
    user = User.objects.create_user(role, password="x", is_staff=True)
    user.groups.add(Group.objects.get(name=role))
    client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    return client


@pytest.mark.parametrize(("role", "held"), [("operator", True), ("admin", False)])
def test_the_admin_holds_back_what_an_operator_moves(client: Client, provider: Provider, role: str, held: bool) -> None:
    url = reverse("admin:providers_provider_change", args=[provider.pk]) + "?tab=connection"
    as_role(client, role)
    fields = form_of_page(client.get(url).content.decode()) | {"param__base_url": ELSEWHERE}
    page = client.post(url, {name: value for name, value in fields.items() if value is not None}, follow=True)
    assert bool(held_for(provider)) is held
    assert ("held back" in page.content.decode()) is held


def test_an_import_of_somebody_who_may_not_handle_secrets_holds_them_back(provider: Provider) -> None:
    text = f"providers:\n  p:\n    type: openai_compatible\n    connection_params:\n      base_url: {ELSEWHERE}\n"
    with stranger():
        applied = configuration.apply_document(text, label="theirs", write=True)
    provider.refresh_from_db()
    assert applied.written
    assert provider.connection_params["base_url"] == ELSEWHERE
    assert held_for(provider)
    assert ImportRun.objects.get().options["restricted"] is True


DOCUMENT = f"providers:\n  p:\n    type: openai_compatible\n    connection_params:\n      base_url: {ELSEWHERE}\n"


def test_a_reason_makes_nobody_trusted(provider: Provider) -> None:
    with stranger(), actor.giving_reason("because"):
        assert configuration.apply_document(DOCUMENT, label="theirs", write=True).written
    assert held_for(provider)
    assert ImportRun.objects.get().options == {"restricted": True, "reason": "because"}


def test_a_reference_to_a_stored_secret_takes_it_nowhere_else(provider: Provider) -> None:
    """A document may name a stored secret by its fingerprint, in any place of its provider."""
    key = provider.api_keys.get()
    named = reference_to(CANARY, "p", key.environment)
    head = f'providers:\n  p:\n    type: openai_compatible\n    connection_params:\n      base_url: "{ELSEWHERE}"\n'
    with stranger():
        for text in (
            f'{head}      headers: {{X-Token: "{named}"}}\n',
            f'{head}    connection_parameters: [{{param_name: a_token, is_sensitive: true, param_value: "{named}"}}]\n',
        ):
            configuration.apply_document(text, label="theirs", write=True)
            provider.refresh_from_db()
            assert provider.connection_params["base_url"] == HOME
        configuration.apply_document(DOCUMENT, label="theirs", write=True)
        assert held_for(provider)
        configuration.apply_document(f'{head}      headers: {{X-Token: "{named}"}}\n', label="theirs", write=True)
        configuration.apply_document(
            f'{head}    api_keys: [{{secret: "{named}", environment: another}}]\n', label="theirs", write=True
        )
    provider.refresh_from_db()
    assert CANARY not in provider.stored_secrets().values()
    assert not provider.api_keys.filter(held_for="").exists()


def test_a_document_cannot_put_deployments_elsewhere(provider: Provider) -> None:
    text = f"""
providers:
  p:
    type: openai_compatible
    connection_params: {{base_url: "{HOME}"}}
    models:
      - model_id: m
        parameters: {{base_urls: ["{ELSEWHERE}"]}}
"""
    with stranger():
        configuration.apply_document(text, label="theirs", write=True)
    assert not ProviderModel.objects.exists()


def test_taking_a_run_back_holds_the_keys_back_too(provider: Provider) -> None:
    applied = configuration.apply_document(DOCUMENT, label="ours", write=True)
    ApiKey.objects.create(provider=provider, secret="sk-entered-for-elsewhere", name="new")
    run = ImportRun.objects.get(pk=applied.run_pk)
    with stranger():
        runs.undo(runs.start(ImportRun.Kind.UNDO, run.source_label, actor="user:writer", undoes=run))
    provider.refresh_from_db()
    assert provider.connection_params["base_url"] == HOME
    assert provider.api_keys.get(name="new").held_for == "https://elsewhere.example:443"


def test_every_way_of_acting_says_whether_it_may_handle_secrets(settings: Any) -> None:
    ways: list[Callable[[], Any]] = [lambda: actor.giving_reason("why")]
    with stranger():
        for way in ways:
            with way():
                assert not actor.current().may_handle_secrets()


def test_a_run_is_not_taken_back_where_that_would_send_a_stored_secret_elsewhere(provider: Provider) -> None:
    applied = configuration.apply_document(DOCUMENT, label="ours", write=True)
    move(provider, headers={"Authorization": CANARY})
    run = ImportRun.objects.get(pk=applied.run_pk)
    run.records.update(after=Digester().of_state(state(provider)))  # as if the run had written the header too
    with stranger():
        undone = runs.undo(runs.start(ImportRun.Kind.UNDO, run.source_label, actor="user:writer", undoes=run))
    provider.refresh_from_db()
    assert provider.connection_params["base_url"] == ELSEWHERE
    assert "headers.Authorization" in undone.examples["edited_since"][0].detail
