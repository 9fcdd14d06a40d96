import pytest

from providers import unread_secrets
from providers.models import ApiKey, Provider

pytestmark = pytest.mark.django_db


@pytest.fixture
def provider():
    row = Provider(provider_id="acme", provider_type="openai_compatible", connection_params={"api_base": "http://one"})
    row.save()
    return row


def key_of(provider, secret, **fields):
    return ApiKey.objects.create(provider=provider, secret=secret, **fields)


def test_a_key_that_can_be_read_is_no_matter(provider, monkeypatch):
    monkeypatch.setenv("UP_API_KEY", "sk-0123456789abcdef")
    assert unread_secrets.of_key(key_of(provider, "env:UP_API_KEY")) == []
    assert unread_secrets.of_provider(provider) == []


def test_a_variable_that_is_not_set_is_named(provider, monkeypatch):
    monkeypatch.delenv("UP_API_KEY", raising=False)
    key = key_of(provider, "env:UP_API_KEY")
    (told,) = unread_secrets.of_key(key)
    assert f"key {key.pk} is left out: it refers to the environment variable UP_API_KEY, which is not set." in told
    assert len(unread_secrets.of_provider(provider)) == 1


def test_a_file_that_is_not_there_is_named(provider, tmp_path, settings):
    settings.GATEWAY_SECRET_FOLDERS = [tmp_path.resolve()]
    (told,) = unread_secrets.of_key(key_of(provider, f"file:{tmp_path}/acme"))
    assert f"the file {tmp_path}/acme, which cannot be read (No such file or directory)" in told


def test_a_key_of_another_environment_is_for_another_process_to_read(provider):
    assert unread_secrets.of_key(key_of(provider, "env:NOT_SET_ANYWHERE", environment="production")) == []


def test_a_variable_named_by_the_parameters_is_told_of_its_provider(provider):
    provider.replace_connection_params({"api_base": "http://one/v1", "api_key_env_var": "NOT_SET_ANYWHERE"})
    provider.save()
    (told,) = unread_secrets.of_provider(provider)
    assert "NOT_SET_ANYWHERE, which is not set" in told
