from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import reverse

from providers import audit, probes, revision
from providers.models import ApiKey, AuditEntry, ConnectionParameter, ProbeResult, Provider, ProviderModel
from providers.provider_rows import losing_their_only_provider
from tests.fakes.upstream import FakeUpstream, failure
from tests.page_forms import form_of_page

pytestmark = pytest.mark.django_db

CANARY = "sk-admin-canary-0123456789abcdef"
LIST = "admin:providers_provider_changelist"
CHANGE = "admin:providers_provider_change"
TEST = "admin:providers_provider_test"
DISCOVER = "admin:providers_provider_discover"


@pytest.fixture
def upstream() -> Iterator[FakeUpstream]:
    with FakeUpstream(api_key=CANARY) as fake:
        yield fake


def a_provider(name: str = "up", **fields: Any) -> Provider:
    fields = {"provider_type": "openai_compatible", "connection_params": {"base_url": "http://127.0.0.1:9/v1"}} | fields
    return Provider.objects.create(provider_id=name, **fields)


def a_probe(provider: Provider, *, healthy: bool = True, message: str = "") -> ProbeResult:
    stage = {"name": "one_token", "status": "ok" if healthy else "failed", "ms": 31.0, "message": message}
    return ProbeResult.objects.create(
        provider=provider, healthy=healthy, duration_ms=40, stages=[stage], message=message
    )


def save(client: Client, provider: Provider, tab: str = "connection", **changes: str) -> Any:
    url = f"{reverse(CHANGE, args=[provider.pk])}?tab={tab}"
    fields = form_of_page(client.get(url).content.decode()) | changes
    return client.post(url, {name: value for name, value in fields.items() if value is not None})


# The list


def test_the_list_shows_name_address_type_state_and_counts(admin_client: Client) -> None:
    provider = a_provider(display_name="Rack four")
    ProviderModel.objects.create(provider=provider, model_id="m")
    a_probe(provider, healthy=False, message="tcp: connection refused")

    html = admin_client.get(reverse(LIST)).content.decode()

    assert "Rack four" in html
    assert "http://127.0.0.1:9/v1" in html
    assert "OpenAI-compatible API" in html
    assert "unhealthy" in html
    assert "tcp: connection refused" in html
    assert "1 of 1 enabled" in html


def test_the_list_says_since_when_a_state_holds(admin_client: Client) -> None:
    provider = a_provider()
    for healthy in (True, False, False):
        last = a_probe(provider, healthy=healthy)
    first_bad = ProbeResult.objects.filter(healthy=False).earliest("id")
    ProbeResult.objects.filter(pk=first_bad.pk).update(at=first_bad.at.replace(year=2020))

    html = admin_client.get(reverse(LIST)).content.decode()

    assert "since 2020-" in html
    assert f"probed {last.at:%Y-%m-%d}" in html


def test_the_list_takes_the_same_queries_for_one_provider_and_for_many(
    admin_client: Client, django_assert_num_queries: Any
) -> None:
    a_probe(a_provider("p0"))
    admin_client.get(reverse(LIST))
    queries = 14
    with django_assert_num_queries(queries):
        admin_client.get(reverse(LIST))
    for number in range(1, 20):
        provider = a_provider(f"p{number}")
        ProviderModel.objects.create(provider=provider, model_id="m")
        ApiKey.objects.create(provider=provider, secret=CANARY)
        a_probe(provider)

    with django_assert_num_queries(queries):
        admin_client.get(reverse(LIST))


@pytest.mark.parametrize(("state", "shown"), [("healthy", "p-good"), ("unhealthy", "p-bad"), ("unknown", "p-new")])
def test_the_list_is_filtered_by_state(admin_client: Client, state: str, shown: str) -> None:
    a_probe(a_provider("p-good"))
    a_probe(a_provider("p-bad"), healthy=False)
    a_provider("p-new")

    html = admin_client.get(reverse(LIST), {"state": state}).content.decode()

    assert {name for name in ("p-good", "p-bad", "p-new") if f"<strong>{name}</strong>" in html} == {shown}


def test_an_empty_list_teaches(admin_client: Client) -> None:
    assert "No providers yet" in admin_client.get(reverse(LIST)).content.decode()


def test_a_providers_name_cannot_smuggle_markup_into_a_page(admin_client: Client) -> None:
    payload = "<script>alert(1)</script>"
    provider = a_provider(display_name=payload, connection_params={"base_url": f'http://x/"{payload}'})
    a_probe(provider, healthy=False, message=payload)

    for url in (reverse(LIST), reverse(CHANGE, args=[provider.pk]), reverse(TEST, args=[provider.pk])):
        assert payload not in admin_client.get(url).content.decode()


# The form


def test_adding_begins_with_the_choice_of_a_type(admin_client: Client) -> None:
    html = admin_client.get(reverse("admin:providers_provider_add")).content.decode()

    assert "?provider_type=groq" in html
    assert "?provider_type=llama_cpp" in html


def test_the_form_is_made_from_the_type_and_its_defaults_fill_it(admin_client: Client) -> None:
    html = admin_client.get(reverse("admin:providers_provider_add"), {"provider_type": "groq"}).content.decode()

    assert form_of_page(html)["param__base_url"] == "https://api.groq.com/openai/v1"
    assert form_of_page(html)["provider_id"] == "groq"
    assert "param__context_size" not in html


def add(client: Client, kind: str, **changes: str) -> Any:
    url = f"{reverse('admin:providers_provider_add')}?provider_type={kind}"
    return client.post(url, form_of_page(client.get(url).content.decode()) | changes)


def test_a_provider_is_added_with_its_key(admin_client: Client) -> None:
    response = add(admin_client, "groq", new_key=CANARY)

    provider = Provider.objects.get(provider_id="groq")
    assert response.url == reverse(CHANGE, args=[provider.pk])
    assert provider.provider_type == "groq"
    assert provider.connection_params == {}, "what equals the type's default is not stored"
    assert provider.api_keys.get().secret.reveal() == CANARY
    assert provider.api_keys.get().environment == "development"


def warnings_of(client: Client, response: Any) -> list[str]:
    """Those of the page on which saving ends."""
    return [str(one) for one in client.get(response.url).context["messages"] if one.level_tag == "warning"]


def test_a_reference_that_nothing_answers_to_yet_is_saved_with_a_warning(
    admin_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("UP_API_KEY", raising=False)
    told = warnings_of(admin_client, add(admin_client, "groq", new_key="env:UP_API_KEY"))

    provider = Provider.objects.get(provider_id="groq")
    assert provider.api_keys.get().secret.reveal() == "env:UP_API_KEY"
    assert "refers to the environment variable UP_API_KEY, which is not set" in "".join(told)
    assert len(warnings_of(admin_client, save(admin_client, provider, "keys"))) == 1
    assert warnings_of(admin_client, save(admin_client, provider, "settings")) == []

    monkeypatch.setenv("UP_API_KEY", CANARY)
    assert warnings_of(admin_client, save(admin_client, provider, "keys")) == []


def test_an_address_that_may_not_be_dialled_is_refused_with_the_reason(admin_client: Client) -> None:
    response = add(admin_client, "openai_compatible", provider_id="x", param__base_url="http://169.254.169.254/v1")

    assert "metadata service" in response.content.decode()
    assert not Provider.objects.exists()


def test_a_form_that_comes_back_says_that_the_key_did_not(admin_client: Client) -> None:
    html = add(admin_client, "openai_compatible", param__base_url="nowhere", new_key=CANARY).content.decode()

    assert "Enter the key once more" in html
    assert CANARY not in html


def test_every_change_names_the_user_and_the_request(admin_client: Client, admin_user: User) -> None:
    add(admin_client, "groq", new_key=CANARY)

    entries = list(AuditEntry.objects.all())
    assert {entry.target_type for entry in entries} == {"provider", "apikey"}
    assert {entry.actor for entry in entries} == {f"user:{admin_user.username}"}
    assert all(entry.request_id.startswith("req_") for entry in entries)
    assert list(audit.verify()) == []


def test_saving_a_form_unchanged_changes_nothing(admin_client: Client) -> None:
    provider = a_provider(connection_params={"api_base": "http://127.0.0.1:9/v1", "headers": {"X-A": "b"}, "odd": 1})
    before = (revision.current(), AuditEntry.objects.count())

    response = save(admin_client, provider)

    assert response.status_code == 302
    provider.refresh_from_db()
    assert provider.connection_params == {"api_base": "http://127.0.0.1:9/v1", "headers": {"X-A": "b"}, "odd": 1}
    assert (revision.current(), AuditEntry.objects.count()) == before


def test_a_changed_parameter_keeps_the_others_and_the_undeclared_ones(admin_client: Client) -> None:
    provider = a_provider(connection_params={"base_url": "http://127.0.0.1:9/v1", "odd": 1})

    save(admin_client, provider, param__organization="acme")

    provider.refresh_from_db()
    assert provider.connection_params == {"base_url": "http://127.0.0.1:9/v1", "odd": 1, "organization": "acme"}


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        (r'{"a": "\u0000"}', "Null characters"),
        (r'{"a": "\ud800"}', "Surrogate characters"),
        ('{"a": 1e400}', "Numbers without an end"),
        ('{"a": ' + "[" * 5000 + "]" * 5000 + "}", "Nested more than"),
    ],
)
def test_an_object_that_no_database_holds_is_refused_and_shown_as_it_was_typed(
    admin_client: Client, typed: str, told: str
) -> None:
    provider = a_provider()
    html = save(admin_client, provider, extra_params=typed).content.decode()
    assert told in html
    assert form_of_page(html)["extra_params"] == typed
    provider.refresh_from_db()
    assert "a" not in provider.connection_params


@pytest.mark.parametrize("tab", ["keys", "connection", "settings"])
def test_what_another_tab_edits_stays_as_it_is(admin_client: Client, tab: str) -> None:
    settings = {"timeout_seconds": 30, "idle_timeout_seconds": 2.5, "odd": True}
    provider = a_provider(priority=7, description="Rack four", request_settings=settings, data_tags=["eu"])
    before = provider.facts()

    save(admin_client, provider, tab)

    provider = Provider.objects.get()
    assert provider.facts() == before


def test_timeouts_have_fields_of_their_own(admin_client: Client) -> None:
    provider = a_provider(request_settings={"timeout_seconds": 30, "odd": True})

    save(admin_client, provider, timeout_seconds="12", connect_timeout_seconds="1.5")

    provider.refresh_from_db()
    assert provider.request_settings == {"odd": True, "timeout_seconds": 12, "connect_timeout_seconds": 1.5}


def test_a_secret_inside_the_parameters_stays_until_it_is_forgotten(admin_client: Client) -> None:
    provider = a_provider(
        connection_params={"base_url": "http://127.0.0.1:9/v1", "headers": {"Authorization": CANARY, "X-A": "b"}}
    )

    save(admin_client, provider, param__organization="acme")
    provider.refresh_from_db()
    assert provider.full_connection_params()["headers"]["Authorization"].reveal() == CANARY

    save(admin_client, provider, forget_secrets='["headers", "Authorization"]')
    provider.refresh_from_db()
    assert provider.full_connection_params()["headers"] == {"X-A": "b"}


def test_a_key_is_replaced_by_a_new_secret_and_kept_by_an_empty_one(admin_client: Client) -> None:
    provider = a_provider()
    key = ApiKey.objects.create(provider=provider, secret=CANARY)

    save(admin_client, provider, "keys", **{"api_keys-0-name": "renamed"})
    key = ApiKey.objects.get(pk=key.pk)
    assert (key.name, key.secret.reveal()) == ("renamed", CANARY)

    save(admin_client, provider, "keys", **{"api_keys-0-new_secret": "sk-another-0123456789"})
    assert ApiKey.objects.get(pk=key.pk).secret.reveal() == "sk-another-0123456789"


def test_a_sensitive_parameter_is_kept_by_an_empty_value(admin_client: Client) -> None:
    provider = a_provider()
    ConnectionParameter.objects.create(
        provider=provider, param_name="proxy_token", is_sensitive=True, param_value=CANARY
    )

    response = save(admin_client, provider, **{"parameters-0-environment": "staging"})

    assert response.status_code == 302
    parameter = ConnectionParameter.objects.get()
    assert (parameter.environment, parameter.param_value.reveal()) == ("staging", CANARY)  # type: ignore[union-attr]


def test_no_page_renders_a_secret(admin_client: Client) -> None:
    provider = a_provider(connection_params={"base_url": "http://127.0.0.1:9/v1", "api_key": CANARY})
    ApiKey.objects.create(provider=provider, secret=CANARY)
    ConnectionParameter.objects.create(provider=provider, param_name="token", is_sensitive=True, param_value=CANARY)
    entry = AuditEntry.objects.first()
    assert entry is not None

    for url in (
        reverse(LIST),
        reverse(CHANGE, args=[provider.pk]),
        reverse(TEST, args=[provider.pk]),
        reverse("admin:providers_provider_delete", args=[provider.pk]),
        reverse("admin:providers_auditentry_changelist"),
        reverse("admin:providers_auditentry_change", args=[entry.pk]),
    ):
        assert CANARY not in admin_client.get(url).content.decode(), url


# Testing and discovering


def test_the_test_page_walks_the_stages_at_once(admin_client: Client, upstream: FakeUpstream) -> None:
    provider = a_provider(connection_params={"base_url": upstream.base_url})
    ApiKey.objects.create(provider=provider, secret=CANARY)

    html = admin_client.post(reverse(TEST, args=[provider.pk])).content.decode()

    assert "It works." in html
    assert "List of models" in html
    assert provider.probes.get().trigger == "admin"


def test_the_dialog_gets_the_same_as_a_fragment(admin_client: Client) -> None:
    provider = a_provider(provider_type="fake", connection_params={})

    html = admin_client.post(reverse(TEST, args=[provider.pk]), headers={"X-Fragment": "1"}).content.decode()

    assert html.lstrip().startswith('<section class="gw-test"')
    assert "<html" not in html


def test_a_billed_call_is_made_only_with_the_tick(
    admin_client: Client, upstream: FakeUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def generate(provider_id: str, model_id: str, stream: bool) -> dict[str, Any]:
        asked.append(model_id)
        return {"text": "ok", "first_token_ms": 1.0, "total_ms": 2.0}

    monkeypatch.setattr(probes, "_generation", generate)
    provider = a_provider(connection_params={"base_url": upstream.base_url})
    ProviderModel.objects.create(provider=provider, model_id="gpt-test")
    ApiKey.objects.create(provider=provider, secret=CANARY)

    admin_client.post(reverse(TEST, args=[provider.pk]))
    assert asked == []
    admin_client.post(reverse(TEST, args=[provider.pk]), {"generate": "1"})
    assert asked == ["gpt-test", "gpt-test"]


def test_discovered_models_are_added_and_gone_ones_disabled(admin_client: Client, upstream: FakeUpstream) -> None:
    provider = a_provider(connection_params={"base_url": upstream.base_url})
    ApiKey.objects.create(provider=provider, secret=CANARY)
    ProviderModel.objects.create(provider=provider, model_id="old")
    url = reverse(DISCOVER, args=[provider.pk])

    html = admin_client.get(url).content.decode()
    assert 'name="add" value="gpt-test"' in html
    assert 'name="disable" value="old"' in html

    admin_client.post(url, {"add": ["gpt-test", "not-listed"], "disable": ["old"]})
    assert dict(provider.models.values_list("model_id", "enabled")) == {"gpt-test": True, "old": False}


def test_what_is_told_otherwise_is_shown_and_taken_by_a_tick(admin_client: Client, upstream: FakeUpstream) -> None:
    upstream.reply_with(json={"data": [{"id": "m", "capabilities": ["tools"], "context_length": 9000}]}, times=None)
    provider = a_provider(connection_params={"base_url": upstream.base_url})
    ProviderModel.objects.create(provider=provider, model_id="m", capabilities=["chat"])
    url = reverse(DISCOVER, args=[provider.pk])

    html = admin_client.get(url).content.decode()
    assert 'name="refresh" value="m"' in html
    assert "chat, tools" in html

    admin_client.post(url, {})
    assert provider.models.get().capabilities == ["chat"]
    admin_client.post(url, {"refresh": ["m", "not-listed"]})
    assert provider.models.get().capabilities == ["chat", "tools"]
    assert provider.models.get().context_window == 9000
    assert 'name="refresh"' not in admin_client.get(url).content.decode()


def test_a_list_that_fails_is_explained_on_the_page(admin_client: Client, upstream: FakeUpstream) -> None:
    upstream.reply_with(failure(403, "this key may not list models"))
    provider = a_provider(connection_params={"base_url": upstream.base_url})

    html = admin_client.get(reverse(DISCOVER, args=[provider.pk])).content.decode()

    assert "HTTP 403: this key may not list models" in html


# Actions


def act(client: Client, action: str, *providers: Provider, **fields: str) -> Any:
    chosen = {"action": action, "_selected_action": [str(provider.pk) for provider in providers]}
    return client.post(reverse(LIST), chosen | fields)


def test_disabling_asks_first_and_lists_what_nobody_else_serves(admin_client: Client) -> None:
    first, second = a_provider("first"), a_provider("second")
    for provider, model_id in ((first, "shared"), (second, "shared"), (first, "only-here")):
        ProviderModel.objects.create(provider=provider, model_id=model_id)

    html = act(admin_client, "disable", first).content.decode()

    assert "only-here" in html
    assert "shared" not in html
    first.refresh_from_db()
    assert first.enabled


def test_a_confirmed_disabling_is_audited_with_its_reason(admin_client: Client) -> None:
    provider = a_provider()

    act(admin_client, "disable", provider, confirmed="1", reason="maintenance")

    provider.refresh_from_db()
    entry = AuditEntry.objects.first()
    assert not provider.enabled
    assert entry is not None
    assert (entry.action, entry.reason, entry.actor) == ("update", "maintenance", "user:admin")


def test_enabling_raises_the_revision(admin_client: Client) -> None:
    provider = a_provider(enabled=False)
    before = revision.current()

    act(admin_client, "enable", provider)

    provider.refresh_from_db()
    assert provider.enabled
    assert revision.current() > before


def test_a_deleted_selection_leaves_an_entry_per_provider_with_its_parts(admin_client: Client) -> None:
    first, second = a_provider("first"), a_provider("second")
    ProviderModel.objects.create(provider=first, model_id="m")

    act(admin_client, "delete_selected", first, second, post="yes")

    entries = AuditEntry.objects.filter(action="delete", target_type="provider").order_by("target_id")
    assert [entry.target_id for entry in entries] == ["first", "second"]
    assert [model["model_id"] for model in entries[0].before["models"]] == ["m"]


def test_deleting_needs_the_providers_name(admin_client: Client) -> None:
    provider = a_provider()
    url = reverse("admin:providers_provider_delete", args=[provider.pk])

    admin_client.post(url, {"post": "yes", "confirmation": "something else"})
    assert Provider.objects.exists()
    admin_client.post(url, {"post": "yes", "confirmation": "up", "reason": "moved"})
    assert not Provider.objects.exists()
    assert AuditEntry.objects.filter(action="delete", reason="moved").exists()


def test_disabling_models_in_bulk_is_audited_once(admin_client: Client) -> None:
    provider = a_provider()
    rows = [ProviderModel.objects.create(provider=provider, model_id=f"m{n}") for n in range(3)]
    before, entries = revision.current(), AuditEntry.objects.count()

    admin_client.post(
        reverse("admin:providers_providermodel_changelist"),
        {"action": "disable", "_selected_action": [str(row.pk) for row in rows]},
    )

    assert not ProviderModel.objects.filter(enabled=True).exists()
    assert (revision.current(), AuditEntry.objects.count()) == (before + 1, entries + 1)


def test_the_list_of_models_takes_the_same_queries_for_one_and_for_many(
    admin_client: Client, django_assert_num_queries: Any
) -> None:
    url = reverse("admin:providers_providermodel_changelist")
    provider = a_provider(display_name="Rack four")
    ProviderModel.objects.create(provider=provider, model_id="meta-llama/Llama-3:8b", input_cost_per_million="0.00042")
    html = admin_client.get(url).content.decode()
    assert "<strong>meta-llama/Llama-3:8b</strong>" in html
    assert "Rack four" in html
    assert "0.00042" in html

    for number in range(10):
        with django_assert_num_queries(12):
            admin_client.get(url)
        ProviderModel.objects.create(provider=provider, model_id=f"m{number}")


def test_a_model_is_saved_unchanged_without_an_entry(admin_client: Client) -> None:
    row = ProviderModel.objects.create(
        provider=a_provider(), model_id="m", capabilities=["chat", "tools"], parameters={"upstream_model_id": "x"}
    )
    url = reverse("admin:providers_providermodel_change", args=[row.pk])
    entries = AuditEntry.objects.count()

    assert admin_client.post(url, form_of_page(admin_client.get(url).content.decode())).status_code == 302
    row.refresh_from_db()
    assert (row.capabilities, row.parameters) == (["chat", "tools"], {"upstream_model_id": "x"})
    assert AuditEntry.objects.count() == entries


def test_a_model_of_a_disabled_provider_is_not_lost_again() -> None:
    ProviderModel.objects.create(provider=a_provider("off", enabled=False), model_id="m")

    assert losing_their_only_provider([Provider.objects.get().pk]) == []


# Permissions


@pytest.fixture
def viewer(client: Client) -> Client:
    user = User.objects.create_user("viewer", password="viewer-password", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__startswith="view_"))
    client.force_login(user)
    return client


def test_a_viewer_sees_but_neither_tests_nor_changes(viewer: Client, upstream: FakeUpstream) -> None:
    provider = a_provider(connection_params={"base_url": upstream.base_url})

    assert viewer.get(reverse(LIST)).status_code == 200
    assert viewer.get(reverse(CHANGE, args=[provider.pk])).status_code == 200
    assert viewer.post(reverse(TEST, args=[provider.pk])).status_code == 403
    assert viewer.get(reverse(DISCOVER, args=[provider.pk])).status_code == 403
    assert viewer.post(reverse(CHANGE, args=[provider.pk]), {"provider_id": "taken-over"}).status_code == 403
    assert upstream.requests == []


def test_a_viewers_actions_do_nothing(viewer: Client) -> None:
    provider = a_provider()

    act(viewer, "disable", provider, confirmed="1")

    provider.refresh_from_db()
    assert provider.enabled


def test_a_stranger_is_sent_to_the_login(client: Client) -> None:
    provider = a_provider()

    assert client.post(reverse(TEST, args=[provider.pk])).status_code == 302
    assert not provider.probes.exists()


# Audit


def test_an_audit_entry_shows_before_and_after(admin_client: Client) -> None:
    provider = a_provider(display_name="Old name")
    provider.display_name = "New name"
    provider.save()
    entry = AuditEntry.objects.first()
    assert entry is not None

    html = admin_client.get(reverse("admin:providers_auditentry_change", args=[entry.pk])).content.decode()

    assert re.search(r'<th scope="row">display_name</th>.*Old name.*New name', html, re.DOTALL)
    assert ">priority</th>" not in html


def test_the_audit_list_says_whether_the_chain_is_whole(admin_client: Client) -> None:
    a_provider("one")
    a_provider("two")
    url = reverse("admin:providers_auditentry_changelist")
    assert "chain intact" in admin_client.get(url).content.decode()

    AuditEntry.objects.filter(target_id="one").update(actor="user:nobody")

    assert "chain broken" in admin_client.get(url, {"verify": "1"}).content.decode()


@pytest.mark.parametrize("method", ["get", "post"])
def test_nobody_changes_or_deletes_an_audit_entry(admin_client: Client, method: str) -> None:
    a_provider()
    entry = AuditEntry.objects.get()

    response = getattr(admin_client, method)(reverse("admin:providers_auditentry_delete", args=[entry.pk]))

    assert response.status_code == 403
    assert AuditEntry.objects.exists()


def test_an_empty_list_says_whether_a_search_emptied_it(admin_client: Client) -> None:
    keys = reverse("admin:routing_clientkey_changelist")

    assert "Nothing matches" in admin_client.get(keys, {"q": "nobody-is-called-this"}).content.decode()
    assert (
        "Nothing stands here yet" in admin_client.get(reverse("admin:inference_alertrule_changelist")).content.decode()
    )
