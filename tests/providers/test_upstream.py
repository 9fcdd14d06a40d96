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


def test_a_reference_inside_connection_params_stands_for_what_it_names(provider, monkeypatch):
    monkeypatch.setenv("ACME_TOKEN", "Bearer from-the-environment")
    provider.replace_connection_params(
        {"api_base": "http://one/v1", "headers": {"Authorization": "env:ACME_TOKEN", "X-Team": "env:ACME_TOKEN"}}
    )
    provider.save()
    headers = upstream.load(provider).connection["headers"]
    assert headers["Authorization"] == Secret("Bearer from-the-environment")
    assert headers["X-Team"] == "env:ACME_TOKEN"  # not a secret's place


def test_a_key_inside_connection_params_may_stand_in_a_file(provider, tmp_path, settings):
    settings.GATEWAY_SECRET_FOLDERS = [tmp_path.resolve()]
    (tmp_path / "acme").write_text("sk-from-a-file\n")
    provider.replace_connection_params({"api_base": "http://one/v1", "api_key": f"file:{tmp_path}/acme"})
    provider.save()
    assert [key.secret.reveal() for key in upstream.load(provider).keys] == ["sk-from-a-file"]


def test_a_sensitive_parameter_may_be_a_reference(provider, monkeypatch):
    monkeypatch.setenv("ACME_PROXY", "http://user:word@proxy:3128")
    ConnectionParameter(provider=provider, param_name="proxy", is_sensitive=True, param_value="env:ACME_PROXY").save()
    assert upstream.load(provider).connection["proxy"] == Secret("http://user:word@proxy:3128")


@pytest.mark.parametrize("reference", ["env:NOT_SET_ANYWHERE", "env:GATEWAY_SECRET_KEY", "file:/etc/passwd"])
def test_a_secret_that_refers_to_nothing_it_may_is_left_out_and_named(provider, reference):
    provider.replace_connection_params({"api_base": "http://one/v1", "headers": {"Cookie": reference, "X-Team": "a"}})
    provider.save()
    facts = upstream.load(provider)
    assert facts.connection["headers"] == {"X-Team": "a"}
    assert facts.connection["base_url"] == "http://one/v1"
    assert "connection parameters of provider 'acme' is left out: it refers to" in facts.notes[0]


def test_a_file_that_is_no_text_is_a_note_that_quotes_nothing_of_it(provider, tmp_path, settings):
    settings.GATEWAY_SECRET_FOLDERS = [tmp_path.resolve()]
    (tmp_path / "acme").write_bytes(b"sk-\xff\xfe")
    provider.replace_connection_params({"api_base": "http://one/v1", "api_key": f"file:{tmp_path}/acme"})
    provider.save()
    facts = upstream.load(provider)
    assert facts.keys == ()
    assert "UnicodeDecodeError" in facts.notes[0]
    assert "sk-" not in facts.notes[0]
