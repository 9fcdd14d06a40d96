import pytest

from providers import upstream
from providers.models import ApiKey, ConnectionParameter, Provider
from providers.secrets import Secret

pytestmark = pytest.mark.django_db


@pytest.fixture
def provider():
    provider = Provider(provider_id="acme", provider_type="openai", connection_params={"api_base": "http://one/v1"})
    provider.save()
    return provider


def test_connection_params_win_over_the_types_defaults_whatever_they_call_the_address(provider):
    assert upstream.load(provider).connection["base_url"] == "http://one/v1"


def test_a_parameter_of_this_environment_wins_over_connection_params(provider):
    ConnectionParameter(provider=provider, param_name="base_url", param_value="http://two/v1").save()
    ConnectionParameter(
        provider=provider, param_name="base_url", param_value="http://no/v1", environment="production"
    ).save()
    assert upstream.load(provider).connection["base_url"] == "http://two/v1"


def test_private_addresses_are_allowed_as_the_settings_say_unless_the_provider_says(provider, settings):
    settings.GATEWAY_ALLOW_PRIVATE_UPSTREAMS = False
    assert upstream.load(provider).connection["allow_private"] is False
    provider.connection_params = {**provider.connection_params, "allow_private": True}
    provider.save()
    assert upstream.load(provider).connection["allow_private"] is True


def test_a_key_row_wins_over_a_key_inside_connection_params(provider):
    provider.replace_connection_params({"api_base": "http://one/v1", "api_key": "sk-inline-0123456789"})
    provider.save()
    assert [key.secret.reveal() for key in upstream.load(provider).keys] == ["sk-inline-0123456789"]
    ApiKey(provider=provider, secret="sk-row-0123456789").save()
    assert [key.secret.reveal() for key in upstream.load(provider).keys] == ["sk-row-0123456789"]


def test_a_key_may_stand_in_the_environment(monkeypatch):
    monkeypatch.setenv("ACME_API_KEY", "sk-from-the-environment")
    assert upstream.resolve_reference(Secret("env:ACME_API_KEY")).reveal() == "sk-from-the-environment"


def test_a_key_may_stand_in_a_file_of_the_secret_folders(tmp_path, settings):
    settings.GATEWAY_SECRET_FOLDERS = [tmp_path.resolve()]
    (tmp_path / "acme").write_text("sk-from-a-file\n")
    assert upstream.resolve_reference(Secret(f"file:{tmp_path}/acme")).reveal() == "sk-from-a-file"


@pytest.mark.parametrize("name", ["GATEWAY_SECRET_KEY", "gateway_encryption_keys", "DATABASE_URL", "PGPASSWORD"])
def test_the_gateways_own_variables_cannot_be_sent_to_an_upstream(name, monkeypatch):
    monkeypatch.setenv(name, "ours")
    with pytest.raises(LookupError, match="own"):
        upstream.resolve_reference(Secret(f"env:{name}"))


def test_no_other_file_of_the_host_can_be_sent_to_an_upstream(tmp_path, settings):
    settings.GATEWAY_SECRET_FOLDERS = [(tmp_path / "secrets").resolve()]
    (tmp_path / "secrets").mkdir()
    (tmp_path / "encryption.keys").write_text("ours")
    with pytest.raises(LookupError, match="GATEWAY_SECRET_FOLDERS"):
        upstream.resolve_reference(Secret(f"file:{tmp_path}/secrets/../encryption.keys"))


def test_a_key_that_cannot_be_resolved_is_left_out_and_named(provider):
    ApiKey(provider=provider, secret="env:NOT_SET_ANYWHERE").save()
    facts = upstream.load(provider)
    assert facts.keys == ()
    assert "NOT_SET_ANYWHERE" in facts.notes[0]
