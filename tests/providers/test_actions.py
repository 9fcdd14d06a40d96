import threading

import pytest
from django.core.exceptions import ValidationError
from django.db import connection

from providers import actions, placeholders, revision
from providers.models import ApiKey, AuditEntry, ConnectionParameter, Provider, ProviderModel

pytestmark = pytest.mark.django_db

OPENAI = {"provider_id": "openai", "provider_type": "openai"}


@pytest.fixture
def provider():
    return actions.create_provider(OPENAI)


def test_a_provider_comes_with_all_its_parts():
    provider = actions.create_provider(
        OPENAI | {"display_name": "OpenAI"},
        models=[{"model_id": "a"}, {"model_id": "b", "model_type": "embedding"}],
        parameters=[{"param_name": "organization", "param_value": "acme"}],
        keys=[{"secret": "sk-1"}, {"secret": "sk-2", "environment": "production"}],
    )
    assert [model.model_id for model in provider.models.all()] == ["a", "b"]
    assert provider.parameters.get().plain_value == "acme"
    assert [key.secret.reveal() for key in provider.api_keys.order_by("id")] == ["sk-1", "sk-2"]


@pytest.mark.parametrize(
    "parts",
    [
        {"models": [{"model_id": "a"}, {"model_id": ""}]},
        {"models": [{"model_id": "a"}, {"model_id": "b", "context_window": -1}]},
        {"models": [{"model_id": "a"}, {"model_id": "a"}]},
        {"parameters": [{"param_name": " x", "param_value": "v"}]},
        {"parameters": [{"param_name": "x", "param_value": "1"}, {"param_name": "x", "param_value": "2"}]},
        {"keys": [{"secret": "sk-1"}, {"secret": ""}]},
        {"keys": [{"secret": "sk-1", "environment": "e" * 51}]},
    ],
)
def test_one_bad_part_and_nothing_was_written(parts):
    before = revision.current()
    with pytest.raises((ValidationError, actions.AlreadyExists)):
        actions.create_provider(OPENAI, **parts)
    for model in (Provider, ProviderModel, ApiKey, ConnectionParameter, AuditEntry):
        assert not model.objects.exists()
    assert revision.current() == before


def test_an_unknown_type_is_named_beside_the_known_ones():
    with pytest.raises(ValidationError, match=r"'opnai'.*openai"):
        actions.create_provider(OPENAI | {"provider_type": "opnai"})


def test_a_taken_id_is_told_apart_from_a_bad_one(provider):
    with pytest.raises(actions.AlreadyExists, match="'openai'"):
        actions.create_provider(OPENAI)


def test_a_provider_of_a_type_that_went_away_can_still_be_changed(provider):
    Provider.objects.update(provider_type="gone")
    changed = actions.update_provider(provider, {"provider_type": "gone", "enabled": False})
    assert (changed.provider_type, changed.enabled) == ("gone", False)
    with pytest.raises(ValidationError):
        actions.update_provider(provider, {"provider_type": "also_gone"})


def test_an_update_starts_from_the_row_and_not_from_what_was_read(provider):
    stale = Provider.objects.get()
    actions.update_provider(provider, {"priority": 7})
    actions.update_provider(stale, {"description": "d"})
    row = Provider.objects.get()
    assert (row.priority, row.description) == (7, "d")


def test_a_secret_left_out_is_kept_and_null_forgets_it(provider):
    def params():
        full = Provider.objects.get().full_connection_params()
        return {name: getattr(value, "reveal", lambda value=value: value)() for name, value in full.items()}

    actions.update_provider(provider, {"connection_params": {"base_url": "u", "api_key": "sk-1"}})
    actions.update_provider(provider, {"connection_params": {"base_url": "v"}})
    assert params() == {"base_url": "v", "api_key": "sk-1"}
    actions.update_provider(provider, {"connection_params": {"api_key": "sk-2"}})
    assert params() == {"api_key": "sk-2"}
    actions.update_provider(provider, {"connection_params": {"base_url": "v", "api_key": ""}})
    assert params() == {"base_url": "v"}


def test_the_callers_own_object_is_left_alone(provider):
    params = {"api_key": None, "headers": {"X": "1"}}
    actions.update_provider(provider, {"connection_params": params})
    assert params == {"api_key": None, "headers": {"X": "1"}}


def test_setting_a_parameter_creates_it_and_then_replaces_it(provider):
    first = actions.set_parameter(provider, "n", "1")
    second = actions.set_parameter(provider, "n", "2")
    elsewhere = actions.set_parameter(provider, "n", "3", environment="production")
    assert first.pk == second.pk != elsewhere.pk
    assert ConnectionParameter.objects.get(pk=first.pk).plain_value == "2"


def test_a_sensitive_parameter_is_made_open_only_when_said(provider):
    actions.set_parameter(provider, "n", "1", is_sensitive=True)
    assert actions.set_parameter(provider, "n", "2").is_sensitive
    assert not actions.set_parameter(provider, "n", "3", is_sensitive=False).is_sensitive
    assert ConnectionParameter.objects.get().plain_value == "3"


def test_an_open_parameter_can_be_made_sensitive_without_saying_it_again(provider):
    row = actions.set_parameter(provider, "n", "canary")
    actions.update_parameter(row, None, is_sensitive=True)
    stored = ConnectionParameter.objects.get()
    assert stored.plain_value is None
    assert stored.secret_value.reveal() == "canary"


@pytest.mark.django_db(transaction=True)
def test_the_same_parameter_set_by_many_at_once_is_one_row():
    provider = actions.create_provider(OPENAI)
    errors = []

    def set_it(number):
        try:
            actions.set_parameter(provider, "n", str(number))
        except Exception as error:
            errors.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=set_it, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert ConnectionParameter.objects.count() == 1


def test_revealing_leaves_an_entry_for_each_secret_and_no_revision(provider):
    key = actions.add_key(provider, {"secret": "sk-canary"})
    actions.set_parameter(provider, "open", "v")
    actions.set_parameter(provider, "hidden", "canary", is_sensitive=True)
    before, entries = revision.current(), AuditEntry.objects.count()
    assert actions.reveal_key(key).reveal() == "sk-canary"
    rows = provider.parameters.select_related("provider").order_by("param_name")
    assert actions.reveal_parameters(rows) == {"hidden": "canary", "open": "v"}
    assert AuditEntry.objects.count() == entries + 2
    assert revision.current() == before
    assert not any("canary" in f"{entry.before}{entry.after}" for entry in AuditEntry.objects.all())


def test_a_refresh_raises_the_revision(provider):
    before = revision.current()
    assert actions.refresh() == before + 1 == revision.current()


@pytest.mark.parametrize(
    "value",
    [
        "your-api-key",
        "your-api-key-here",
        "YOUR_API_KEY",
        "<key>",
        "changeme",
        "xxx",
        "sk-xxxx",
        "${OPENAI_API_KEY}",
        "{{ api_key }}",
        "{api_key}",
        "...",
    ],
)
def test_placeholders_are_recognised(value):
    assert placeholders.looks_like_placeholder(value)


@pytest.mark.parametrize(
    "value",
    [
        "sk-proj-4fT9aQ2LmZ",
        "gsk_abc123",
        "youth-8a7d6f",
        "env:OPENAI_API_KEY",
        "sk-or-v1-0a1b",
        '{"type": "service_account", "private_key": "0a1b"}',
    ],
)
def test_real_keys_are_not_taken_for_placeholders(value):
    assert not placeholders.looks_like_placeholder(value)


def test_a_model_has_the_type_that_its_name_gives_away_unless_another_is_said(provider):
    assert actions.add_model(provider, {"model_id": "whisper-1"}).model_type == "audio_transcription"
    assert actions.add_model(provider, {"model_id": "gpt-test"}).model_type == "chat"
    assert actions.add_model(provider, {"model_id": "tts-1", "model_type": "chat"}).model_type == "chat"
