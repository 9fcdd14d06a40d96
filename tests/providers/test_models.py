from datetime import timedelta
from decimal import Decimal

import pytest
from django.core.exceptions import ValidationError
from django.db import IntegrityError, connection, transaction
from django.test.utils import override_settings
from django.utils import timezone

from providers import actor, revision
from providers.models import ApiKey, AuditEntry, ConnectionParameter, ProbeResult, Provider, ProviderModel
from providers.secrets import Secret

pytestmark = pytest.mark.django_db


@pytest.fixture
def provider():
    return Provider.objects.create(provider_id="p", provider_type="openai")


def dump():
    """Every cell of the registry's tables, as the database holds them."""
    text = ""
    with connection.cursor() as cursor:
        for table in connection.introspection.table_names(cursor):
            if table.startswith(("providers_", "routing_")):
                cursor.execute(f'SELECT * FROM "{table}"')
                text += repr(cursor.fetchall())
    return text


def test_names_default_to_ids(provider):
    assert provider.display_name == "p"
    assert ProviderModel.objects.create(provider=provider, model_id="m").display_name == "m"


def test_secrets_in_connection_params_leave_for_encrypted_storage():
    params = {"base_url": "https://u", "api_key": "sk-canary", "headers": {"Authorization": "Bearer canary"}}
    provider = Provider.objects.create(provider_id="q", provider_type="openai_compatible", connection_params=params)
    assert provider.connection_params == {"base_url": "https://u", "headers": {}}
    assert Provider.objects.get(pk=provider.pk).full_connection_params()["api_key"] == Secret("sk-canary")
    assert "canary" not in dump()


def test_saving_named_fields_only_still_moves_secrets(provider):
    provider.connection_params = {"api_key": "sk-canary"}
    provider.save(update_fields=["connection_params"])
    assert "canary" not in dump()
    assert Provider.objects.get().full_connection_params()["api_key"] == Secret("sk-canary")


def test_a_parameter_named_like_a_secret_is_one(provider):
    row = ConnectionParameter.objects.create(provider=provider, param_name="api_token", param_value="canary")
    assert row.is_sensitive
    assert "canary" not in dump()
    assert ConnectionParameter.objects.get().param_value == Secret("canary")


def test_a_sensitive_value_cannot_lie_in_the_clear(provider):
    ConnectionParameter.objects.create(provider=provider, param_name="n", param_value="v", is_sensitive=True)
    with pytest.raises(IntegrityError), transaction.atomic():
        ConnectionParameter._base_manager.update(plain_value="v")


def test_a_key_has_a_hint_and_a_fingerprint_that_follow_its_secret(provider):
    key = ApiKey.objects.create(provider=provider, secret="sk-proj-0123456789abcd")
    assert key.hint == "sk-…abcd"
    before = key.fingerprint
    key.secret = "sk-proj-9876543210dcba"
    key.save()
    assert key.hint == "sk-…dcba"
    assert ApiKey.objects.get().fingerprint == key.fingerprint != before
    key.secret = "sk-proj-third0000000000"
    key.save(update_fields=["secret"])
    assert ApiKey.objects.get().hint == "sk-…0000"


def test_one_model_id_under_two_providers_but_once_under_each(provider):
    other = Provider.objects.create(provider_id="q", provider_type="openai")
    ProviderModel.objects.create(provider=provider, model_id="gpt-4o")
    ProviderModel.objects.create(provider=other, model_id="gpt-4o")
    with pytest.raises(IntegrityError), transaction.atomic():
        ProviderModel.objects.create(provider=other, model_id="gpt-4o")


def test_a_parameter_is_unique_for_provider_name_and_environment(provider):
    ConnectionParameter.objects.create(provider=provider, param_name="n", param_value="1")
    ConnectionParameter.objects.create(provider=provider, param_name="n", param_value="2", environment="production")
    with pytest.raises(IntegrityError), transaction.atomic():
        ConnectionParameter.objects.create(provider=provider, param_name="n", param_value="3")


@pytest.mark.parametrize("value", ["", " p", "p ", "a\nb", "a\x00b", "a\u200bb"])
def test_identifiers_that_nobody_could_type_are_refused(value):
    with pytest.raises(ValidationError):
        Provider(provider_id=value, provider_type="openai").full_clean()


@pytest.mark.parametrize("value", ["meta/llama:8b", "通义", "a b", "ünïcödé"])
def test_identifiers_of_any_script_are_fine(provider, value):
    ProviderModel(provider=provider, model_id=value).full_clean()


@pytest.mark.parametrize(
    "facts",
    [
        {"capabilities": "chat"},
        {"capabilities": [1]},
        {"tasks": {"a": 1}},
        {"parameters": []},
        {"input_cost_per_million": Decimal("-1")},
    ],
)
def test_a_models_lists_and_prices_are_checked(provider, facts):
    with pytest.raises(ValidationError):
        ProviderModel(provider=provider, model_id="m", **facts).full_clean()


@pytest.mark.parametrize(
    ("facts", "usable"),
    [
        ({}, True),
        ({"enabled": False}, False),
        ({"environment": "production"}, False),
        ({"expires_at": timedelta(minutes=-1)}, False),
        ({"expires_at": timedelta(minutes=1)}, True),
    ],
)
def test_which_keys_may_be_chosen(provider, facts, usable):
    now = timezone.now()
    if "expires_at" in facts:
        facts = {"expires_at": now + facts["expires_at"]}
    ApiKey.objects.create(provider=provider, secret="sk", **facts)
    assert ApiKey.objects.filter(ApiKey.usable(now)).exists() is usable


def test_the_environment_is_a_setting(provider):
    ApiKey.objects.create(provider=provider, secret="sk", environment="production")
    with override_settings(GATEWAY_ENVIRONMENT="production"):
        assert ApiKey.objects.filter(ApiKey.usable(timezone.now())).exists()


def test_every_write_is_counted_and_written_down_once(provider):
    for act in (
        lambda: ProviderModel.objects.create(provider=provider, model_id="m"),
        lambda: ApiKey.objects.create(provider=provider, secret="sk"),
        lambda: ConnectionParameter.objects.create(provider=provider, param_name="n", param_value="v"),
        lambda: save(provider, priority=9),
        lambda: ProviderModel.objects.get().delete(),
        lambda: ApiKey.objects.get().delete(),
        lambda: ConnectionParameter.objects.get().delete(),
        lambda: provider.delete(),
    ):
        before = revision.current(), AuditEntry.objects.count()
        act()
        assert (revision.current(), AuditEntry.objects.count()) == (before[0] + 1, before[1] + 1)


def save(row, **changes):
    for name, value in changes.items():
        setattr(row, name, value)
    row.save()


def test_saving_what_is_already_so_writes_nothing_down(provider):
    before = revision.current(), AuditEntry.objects.count(), provider.updated_at
    provider.save()
    Provider.objects.get().save()
    assert (revision.current(), AuditEntry.objects.count(), Provider.objects.get().updated_at) == before


def test_the_time_of_the_last_change_follows_changes(provider):
    before = provider.updated_at
    save(provider, description="new")
    assert Provider.objects.get().updated_at > before
    assert Provider.objects.get().created_at == provider.created_at


def test_a_rows_creator_is_who_acted():
    with actor.acting_as("user:ada"):
        provider = Provider.objects.create(provider_id="x", provider_type="openai")
    with actor.acting_as("user:bob"):
        save(provider, priority=2)
    assert Provider.objects.get().created_by == "user:ada"


def test_a_probe_is_not_configuration(provider):
    before = revision.current(), AuditEntry.objects.count()
    ProbeResult.objects.create(provider=provider, healthy=True, duration_ms=1)
    assert (revision.current(), AuditEntry.objects.count()) == before


def test_the_audit_log_of_everything_holds_no_secret():
    provider = Provider.objects.create(
        provider_id="x", provider_type="openai_compatible", connection_params={"api_key": "canary-1"}
    )
    key = ApiKey.objects.create(provider=provider, secret="canary-2")
    ConnectionParameter.objects.create(provider=provider, param_name="s", param_value="canary-3", is_sensitive=True)
    save(key, secret="canary-4")
    save(provider, connection_params={"api_key": "canary-5"})
    provider.delete()
    assert "canary" not in dump()


def test_a_secret_under_a_lost_key_does_not_stop_other_changes(provider):
    key = ApiKey.objects.create(provider=provider, secret="sk")
    ApiKey._base_manager.update(secret="gw1.deadbeef.AAAA")
    key = ApiKey.objects.get()
    save(key, enabled=False)
    assert AuditEntry.objects.first().after["secret"] == "unreadable (UnknownKey)"
    key.delete()


def test_a_model_that_moves_to_another_provider_raises_the_revision_and_leaves_an_entry(provider):
    model = ProviderModel.objects.create(provider=provider, model_id="m")
    model.provider = Provider.objects.create(provider_id="other", provider_type="openai")
    before = revision.current()
    model.save()
    entry = AuditEntry.objects.first()
    assert revision.current() == before + 1
    assert (entry.before["provider"], entry.after["provider"]) == (provider.provider_id, "other")
