import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from providers import configuration, exporting, keyring
from providers.importers import documents
from providers.models import ApiKey, ConnectionParameter, Provider, ProviderModel
from tests.providers import registries

pytestmark = pytest.mark.django_db


def export(file_format="yaml"):
    return exporting.text(file_format)


def apply(text, **kwargs):
    return configuration.apply_document(text, label="test", write=True, **kwargs)


def facts():
    rows = (
        *Provider.objects.all(),
        *ProviderModel.objects.all(),
        *ApiKey.objects.all(),
        *ConnectionParameter.objects.all(),
    )
    return sorted(
        json.dumps([row.audit_name().split("/key/")[0], row.facts()], default=str, sort_keys=True) for row in rows
    )


def test_an_export_names_every_configurable_field_in_a_fixed_order():
    registries.build()
    document = exporting.document()
    assert list(document) == ["version", "providers"]
    assert list(document["providers"]) == ["local", "openai"]
    provider = document["providers"]["openai"]
    assert provider["priority"] == 2
    assert [model["model_id"] for model in provider["models"]] == ["gpt-4o", "org/模型:7b"]
    assert set(exporting.PROVIDER_FACTS) < set(provider)
    for model, named in (
        (Provider, {*exporting.PROVIDER_FACTS, "provider_id", "secret_params"}),
        (ProviderModel, {*exporting.MODEL_FACTS, "provider", "model_id"}),
        (ApiKey, {*exporting.KEY_FACTS, "provider", "secret", "environment", "hint", "fingerprint"}),
        (ConnectionParameter, {"provider", "param_name", "environment", "is_sensitive", "plain_value", "secret_value"}),
    ):
        fields = {field.name for field in model._meta.concrete_fields}
        assert fields - model.unaudited - exporting.NO_CONFIGURATION == named


@pytest.mark.parametrize("file_format", ["yaml", "json"])
def test_no_secret_is_in_an_export(file_format):
    registries.build()
    text = export(file_format)
    assert not [secret for secret in registries.SECRETS if secret in text]


def test_a_secret_is_named_by_its_provider_place_and_fingerprint():
    registries.build()
    provider = exporting.document()["providers"]["openai"]
    mark = keyring.fingerprint(registries.OPENAI_KEY)[:8]
    assert provider["api_keys"][1]["secret"] == f"env:LLM_KEY_OPENAI_PRODUCTION_{mark}"
    headers = provider["connection_params"]["headers"]
    assert headers["X-Team"] == "Zürich"
    mark = keyring.fingerprint(registries.BEARER)[:8]
    assert headers["Authorization"] == f"env:LLM_KEY_OPENAI_HEADERS_AUTHORIZATION_{mark}"
    mark = keyring.fingerprint(registries.PROXY)[:8]
    assert provider["secret_params"] == [{"path": ["proxy"], "secret": f"env:LLM_KEY_OPENAI_PROXY_{mark}"}]


def test_a_stored_reference_stands_for_itself():
    registries.build()
    assert exporting.document()["providers"]["openai"]["api_keys"][2]["secret"] == "env:OPENAI_STAGING"


def test_prices_are_texts_and_unicode_is_itself():
    registries.build()
    assert "input_cost_per_million: '2.5'" in export().replace('"', "'")
    assert "org/模型:7b" in export()
    assert "created_at" not in export()


@pytest.mark.parametrize("file_format", ["yaml", "json"])
def test_an_export_applied_to_an_empty_registry_exports_the_same_bytes(file_format):
    registries.build()
    first = export(file_format)
    registries.forget()
    applied = apply(first)
    assert (applied.exit_status, applied.message) == (0, "")
    assert export(file_format) == first


def test_an_export_applied_where_it_was_made_changes_nothing():
    registries.build()
    before = facts()
    applied = apply(export())
    assert applied.changes == ()
    assert facts() == before
    assert not any(variable.name.startswith("LLM_KEY") for variable in applied.variables)


def test_applied_elsewhere_it_names_the_variables_that_are_wanted(monkeypatch):
    registries.build()
    text = export()
    registries.forget()
    monkeypatch.setenv("OPENAI_STAGING", "sk-1")
    applied = apply(text)
    assert [variable.name for variable in applied.variables] == exporting.variables(documents.parse(text))
    assert [variable.name for variable in applied.variables if variable.is_set] == ["OPENAI_STAGING"]


def test_only_the_providers_asked_for_are_exported():
    registries.build()
    assert list(exporting.document(["local"])["providers"]) == ["local"]


def test_two_equal_keys_are_exported_as_the_one_that_is_enabled():
    registries.build()
    provider = Provider.objects.get(provider_id="local")
    ApiKey(provider=provider, secret="sk-twice-8Xw2", enabled=False, name="a").save()
    ApiKey(provider=provider, secret="sk-twice-8Xw2", name="b").save()
    assert [key["name"] for key in exporting.document()["providers"]["local"]["api_keys"]] == ["b"]


def test_a_secret_in_an_object_that_is_stored_in_the_clear_does_not_leave_and_comes_back():
    registries.build()
    model = ProviderModel.objects.get(model_id="gpt-4o")
    model.parameters = {"api_key": registries.OPENAI_KEY, "top_p": 1}
    model.save()
    text = export()
    assert registries.OPENAI_KEY not in text
    assert apply(text).changes == ()
    assert ProviderModel.objects.get(model_id="gpt-4o").parameters["api_key"] == registries.OPENAI_KEY


def test_what_has_the_shape_of_a_key_does_not_leave_whatever_its_name():
    registries.build()
    shaped = "sk-abcdefghij0123456789"
    provider = Provider.objects.get(provider_id="openai")
    provider.connection_params = {"note": shaped, "notes": [shaped]}
    provider.request_settings = {"hint": [{"note": shaped}]}
    provider.save()
    provider.parameters.create(param_name="note", plain_value=shaped)
    text = export()
    assert shaped not in text
    apply(text)
    provider.refresh_from_db()
    assert provider.request_settings == {"hint": [{"note": shaped}]}
    assert provider.connection_params == {"notes": [shaped]}
    assert provider.full_connection_params()["note"].reveal() == shaped
    assert provider.parameters.get(param_name="note").secret_value.reveal() == shaped
    assert export() == text


def test_a_text_that_holds_a_secret_as_json_does_not_leave():
    registries.build()
    shaped = '{"Authorization": "Bearer sk-abcdefghij0123456789"}'
    provider = Provider.objects.get(provider_id="openai")
    provider.connection_params = {"extra": shaped}
    provider.save()
    provider.parameters.create(param_name="headers", plain_value=shaped)
    text = export()
    assert "sk-abcdefghij0123456789" not in text
    apply(text)
    provider.refresh_from_db()
    assert provider.full_connection_params()["extra"].reveal() == shaped
    assert provider.parameters.get(param_name="headers").secret_value.reveal() == shaped


def test_a_tokenizers_tokens_reach_another_installation():
    registries.build()
    tokens = {"eos_token": "</s>", "bos_token": "<s>"}
    model = ProviderModel.objects.get(model_id="gpt-4o")
    model.parameters = tokens
    model.save()
    text = export()
    registries.forget()
    apply(text)
    assert ProviderModel.objects.get(model_id="gpt-4o").parameters == tokens


def test_a_secret_whose_place_is_gone_is_kept():
    registries.build()
    provider = Provider.objects.get(provider_id="openai")
    provider.connection_params = {}
    provider.save()
    first = export()
    registries.forget()
    apply(first)
    assert export() == first


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(drawn=registries.PROVIDERS, file_format=st.sampled_from(["yaml", "json"]))
def test_any_registry_comes_back_from_its_export(drawn, file_format):
    registries.forget()
    registries.build_from(drawn)
    before, first = facts(), export(file_format)
    assert documents.parse(first, file_format) == exporting.document()
    applied = apply(first)
    assert (applied.exit_status, applied.message, applied.changes) == (0, "", ())
    assert facts() == before
    registries.forget()
    applied = apply(first)
    assert (applied.exit_status, applied.message) == (0, "")
    assert export(file_format) == first
