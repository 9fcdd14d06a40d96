import pytest
from django.core import serializers
from django.core.exceptions import ValidationError
from django.db import connection

from providers.models import ApiKey, ConnectionParameter, Provider
from providers.secrets import Secret, Undecryptable, is_ciphertext

pytestmark = pytest.mark.django_db


@pytest.fixture
def provider():
    return Provider.objects.create(provider_id="p", provider_type="openai")


def stored(pk):
    with connection.cursor() as cursor:
        cursor.execute("SELECT secret FROM providers_apikey WHERE id = %s", [pk])
        return cursor.fetchone()[0]


@pytest.mark.parametrize("value", ["sk-1", Secret("sk-1")])
def test_a_value_is_ciphertext_in_the_database_and_a_secret_in_hand(provider, value):
    key = ApiKey.objects.create(provider=provider, secret=value)
    assert is_ciphertext(stored(key.pk))
    assert ApiKey.objects.get().secret == Secret("sk-1")


def test_loading_a_row_does_not_decrypt_it(provider, monkeypatch):
    from providers import keyring

    ApiKey.objects.create(provider=provider, secret="sk-1")
    monkeypatch.setattr(keyring, "current", lambda: pytest.fail("the ring was asked"))
    assert ApiKey.objects.get().hint == "…"


def test_saving_without_a_change_keeps_the_ciphertext(provider):
    key = ApiKey.objects.create(provider=provider, secret="sk-1")
    before = stored(key.pk)
    loaded = ApiKey.objects.get()
    loaded.name = "renamed"
    loaded.save()
    assert stored(key.pk) == before


def test_a_value_moved_to_another_row_does_not_open(provider):
    one = ApiKey.objects.create(provider=provider, secret="sk-1")
    two = ApiKey.objects.create(provider=provider, secret="sk-2")
    ApiKey._base_manager.filter(pk=two.pk).update(secret=stored(one.pk))
    with pytest.raises(Undecryptable):
        _ = ApiKey.objects.get(pk=two.pk).secret


def test_cleaning_a_row_keeps_its_secret(provider):
    key = ApiKey(provider=provider, secret="sk-1")
    key.full_clean(exclude=["hint", "fingerprint"])
    key.save()
    assert ApiKey.objects.get().secret.reveal() == "sk-1"
    loaded = ApiKey.objects.get()
    loaded.full_clean()
    loaded.save()
    assert ApiKey.objects.get().secret.reveal() == "sk-1"


def test_an_empty_secret_is_invalid(provider):
    with pytest.raises(ValidationError, match="blank"):
        ApiKey(provider=provider, secret="").full_clean(exclude=["hint", "fingerprint"])


def test_plain_text_cannot_be_written_past_the_row(provider):
    ApiKey.objects.create(provider=provider, secret="sk-1")
    with pytest.raises(TypeError, match="save"):
        ApiKey._base_manager.update(secret="sk-2")
    with pytest.raises(TypeError):
        ApiKey.objects.filter(secret="sk-1").exists()


def test_a_null_secret_stays_null(provider):
    assert provider.secret_params is None
    parameter = ConnectionParameter.objects.create(provider=provider, param_name="n", param_value="v")
    assert ConnectionParameter.objects.get().secret_value is None
    assert parameter.param_value == "v"


def test_a_deferred_secret_is_fetched_when_asked_and_survives_a_save(provider):
    ApiKey.objects.create(provider=provider, secret="sk-1")
    key = ApiKey.objects.defer("secret").get()
    key.name = "renamed"
    key.save()
    assert ApiKey.objects.get().secret.reveal() == "sk-1"
    assert ApiKey.objects.defer("secret").get().secret.reveal() == "sk-1"


def test_a_dump_holds_ciphertext(provider):
    ApiKey.objects.create(provider=provider, secret="sk-canary")
    dumped = serializers.serialize("json", ApiKey.objects.all())
    assert "canary" not in dumped
    assert "gw1." in dumped
