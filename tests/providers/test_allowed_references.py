"""Nobody sends the gateway's own secrets to a provider, and whoever may not read its machine only keys that are named so."""

from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.test import Client
from django.urls import reverse

from providers import actor, allowed_references, configuration, upstream
from providers.importers.config_forms import BadConfiguration
from providers.models import ApiKey, ConnectionParameter, Provider
from providers.secrets import Secret
from tests.page_forms import form_of_page

pytestmark = pytest.mark.django_db

OWN = "belongs to the gateway itself"
HEAD = "version: 1\nproviders:\n  acme:\n    provider_type: openai\n"


def stranger() -> Any:
    return actor.acting_as("user:writer", may_handle_secrets=lambda: False)


@pytest.mark.parametrize("name", ["OPENAI_API_KEY", "GITHUB_TOKEN", "LLM_KEY_OPENAI_PRODUCTION_0a1b2c3d"])
def test_anybody_may_refer_to_a_variable_that_is_named_like_a_key(name: str) -> None:
    with stranger():
        assert allowed_references.why_not(f"env:{name}") == ""


@pytest.mark.parametrize("reference", ["env:HOME", "env:AWS_SECRET_ACCESS_KEY", "file:/run/secrets/openai"])
def test_other_variables_and_files_are_for_who_may_read_the_machine(reference: str) -> None:
    assert allowed_references.why_not(reference) == ""
    with stranger():
        assert "Only an admin may refer to a" in allowed_references.why_not(reference)


@pytest.mark.parametrize(
    "reference",
    [
        *("env:GATEWAY_ENCRYPTION_KEYS", "env:gateway_api_key", "env:DATABASE_URL_FILE", "env:REDIS_URL"),
        *("env:LEGACY_DATABASE_URL", "file:/proc/self/environ", "file://proc/1/environ", "file:/run/../proc/1/environ"),
        *("file:/proc/self/root/proc/1/environ", "file:/run/secrets/kubernetes.io/serviceaccount/token"),
    ],
)
def test_nobody_may_refer_to_what_the_gateway_is_opened_with(reference: str) -> None:
    assert OWN in allowed_references.why_not(reference)
    assert OWN in allowed_references.why_not(reference, held=True)


@pytest.mark.parametrize("text", ["env: NAME", " env:A_TOKEN", "ENV:HOME", "env:env:A_TOKEN", "file:secrets/a", "env:"])
def test_what_only_looks_like_a_reference_is_not_stored_for_a_key(text: str) -> None:
    assert "written env:NAME" in allowed_references.why_not(text)


def test_a_key_that_is_no_reference_is_nobodys_business() -> None:
    with stranger():
        assert allowed_references.why_not("sk-environment:file:0123") == ""


def test_the_files_of_the_gateways_own_secrets_are_known_by_any_name(
    tmp_path: Path, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.GATEWAY_SECRET_FOLDERS = [tmp_path.resolve()]
    pepper, key = tmp_path / "pepper", tmp_path / "openai"
    pepper.write_text("ours")
    key.write_text("sk-theirs")
    monkeypatch.setenv("GATEWAY_CLIENT_KEY_PEPPERS_FILE", str(pepper))
    (tmp_path / "link").symlink_to(pepper)
    (tmp_path / "hard").hardlink_to(pepper)
    (tmp_path / "deep").mkdir()
    for name in ("pepper", "link", "hard", "deep/../pepper"):
        assert OWN in allowed_references.why_not(f"file:{tmp_path}/{name}")
        with pytest.raises(LookupError, match="own secrets"):
            upstream.resolve_reference(Secret(f"file:{tmp_path}/{name}"))
    assert upstream.resolve_reference(Secret(f"file:{key}")).reveal() == "sk-theirs"


def test_the_data_directory_is_the_gateways_own_but_for_a_folder_that_was_set_up_in_it(
    tmp_path: Path, settings: Any
) -> None:
    settings.DATA_DIR = tmp_path.resolve()
    settings.ENCRYPTION_KEYS_FILE = settings.DATA_DIR / "keys" / "encryption.keys"
    settings.GATEWAY_SECRET_FOLDERS = [settings.DATA_DIR, settings.DATA_DIR / "keys", Path("/")]
    (tmp_path / "keys").mkdir()
    for name in ("encryption.keys", "openai"):
        (tmp_path / "keys" / name).write_text("x")
    assert allowed_references.own_file(f"{tmp_path}/db.sqlite3")
    assert allowed_references.own_file(f"{tmp_path}/keys/encryption.keys")
    assert not allowed_references.own_file(f"{tmp_path}/keys/openai")


def test_the_data_directory_is_known_where_it_is_mounted_a_second_time(tmp_path: Path, settings: Any) -> None:
    (tmp_path / "data" / "keys").mkdir(parents=True)
    (tmp_path / "second").symlink_to(tmp_path / "data")
    settings.DATA_DIR = tmp_path / "second"  # not resolved: of two names of one folder, as a mount makes them
    for name in ("quickstart.json", "keys/openai"):
        (tmp_path / "data" / name).write_text("x")
    settings.GATEWAY_SECRET_FOLDERS = [tmp_path.resolve()]
    assert allowed_references.own_file(f"{tmp_path}/data/quickstart.json")
    settings.GATEWAY_SECRET_FOLDERS = [tmp_path.resolve() / "data" / "keys"]
    assert not allowed_references.own_file(f"{tmp_path}/data/keys/openai")


def test_a_file_that_a_variable_of_the_gateway_names_from_its_working_directory_is_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pepper").write_text("ours")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GATEWAY_CLIENT_KEY_PEPPERS_FILE", "pepper")
    assert allowed_references.own_file(f"{tmp_path}/pepper")


def test_a_pipe_is_not_waited_for(tmp_path: Path, settings: Any) -> None:
    settings.GATEWAY_SECRET_FOLDERS = [tmp_path.resolve()]
    with pytest.raises(LookupError, match="no file"):
        upstream.resolve_reference(Secret(f"file:{tmp_path}"))


# The admin's forms


@pytest.fixture
def provider() -> Provider:
    params = {"base_url": "http://127.0.0.1:9/v1", "note": "env:HOME"}
    return Provider.objects.create(provider_id="acme", provider_type="openai_compatible", connection_params=params)


@pytest.fixture
def operator(client: Client) -> Client:
    user = User.objects.create_user("linus", is_staff=True)
    user.groups.add(Group.objects.get(name="operator"))
    client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    return client


def saved(client: Client, provider: Provider, tab: str = "connection", **changes: str) -> str:
    url = f"{reverse('admin:providers_provider_change', args=[provider.pk])}?tab={tab}"
    fields = form_of_page(client.get(url).content.decode()) | changes
    return client.post(url, {name: value for name, value in fields.items() if value is not None}).content.decode()


def new_row(prefix: str, **fields: str) -> dict[str, str]:
    return {f"{prefix}-TOTAL_FORMS": "1", **{f"{prefix}-0-{name}": value for name, value in fields.items()}}


@pytest.mark.parametrize(
    ("reference", "told"),
    [("env:GATEWAY_SECRET_KEY", OWN), ("file:/etc/shadow", "Only an admin may refer to a file"), ("env:A_TOKEN", "")],
)
def test_an_operators_key_is_held_to_the_rule(operator: Client, provider: Provider, reference: str, told: str) -> None:
    row = new_row("api_keys", new_secret=reference, environment="development", weight="1", enabled="on")
    assert told in saved(operator, provider, "keys", **row)
    assert ApiKey.objects.exists() is not bool(told)


def test_nor_does_an_admin_add_a_provider_with_a_key_of_the_gateway(admin_client: Client) -> None:
    url = f"{reverse('admin:providers_provider_add')}?provider_type=groq"
    fields = form_of_page(admin_client.get(url).content.decode()) | {"new_key": "env:GATEWAY_SECRET_KEY"}
    assert OWN in admin_client.post(url, fields).content.decode()
    assert not Provider.objects.exists()


@pytest.mark.parametrize(
    "change",
    [
        {"extra_params": '{"note": "env:HOME", "session_token": "env:HOME"}'},
        {"extra_params": '{"api_key_env_var": "HOME"}'},
        {"param__headers": '{"Authorization": "file:/etc/passwd"}'},
        new_row("parameters", param_name="api_key_env_var", value="HOME", environment="development"),
        new_row("parameters", param_name="proxy", value="env:HOME", is_sensitive="on", environment="development"),
    ],
)
def test_every_place_of_the_connection_is_held_to_it(
    operator: Client, provider: Provider, change: dict[str, str]
) -> None:
    assert "Only an admin may refer to a" in saved(operator, provider, **change)
    provider.refresh_from_db()
    assert not provider.stored_secrets()
    assert not ConnectionParameter.objects.exists()


def test_what_stands_there_already_may_stay(operator: Client, provider: Provider) -> None:
    saved(operator, provider, extra_params='{"note": "env:HOME", "other": "x"}')
    provider.refresh_from_db()
    assert provider.connection_params["other"] == "x"


# Documents


@pytest.mark.parametrize(
    ("part", "place"),
    [
        ("    api_keys: [{secret: REFERENCE, environment: a}]\n", "providers.acme.api_keys[0]"),
        ("    connection_params: {headers: {Cookie: REFERENCE}}\n", "providers.acme.connection_params.headers.Cookie"),
        (
            "    secret_params: [{path: [proxy], secret: REFERENCE}]\n",
            "providers.acme.connection_params.proxy",
        ),
        (
            "    connection_parameters: [{param_name: a_token, is_sensitive: true, param_value: REFERENCE}]\n",
            "providers.acme.connection_parameters[0]",
        ),
    ],
)
def test_a_document_is_held_to_the_rule_and_names_the_place(part: str, place: str) -> None:
    with pytest.raises(BadConfiguration, match=OWN) as refused:
        configuration.apply_document(HEAD + part.replace("REFERENCE", "env:DATABASE_URL"), label="it", write=True)
    assert [problem.place for problem in refused.value.problems] == [place]
    with stranger(), pytest.raises(BadConfiguration, match="Only an admin"):
        configuration.apply_document(HEAD + part.replace("REFERENCE", "env:HOME"), label="it", write=True)
    assert not Provider.objects.exists()


def test_a_file_that_rules_is_trusted_whoever_has_it_read() -> None:
    text = HEAD + "    api_keys: [{secret: env:HOME, environment: a}, {secret: env:REDIS_URL, environment: b}]\n"
    with stranger():
        found = configuration.apply_document(
            text.replace(", {secret: env:REDIS_URL, environment: b}", ""),
            label="it",
            write=True,
            owner="/etc/gateway.yaml",
        )
    assert found.written
    assert ApiKey.objects.get().secret.reveal() == "env:HOME"


def test_a_document_may_say_again_what_its_provider_holds() -> None:
    text = (
        HEAD
        + "    api_keys: [{secret: env:HOME, environment: a}]\n    connection_params: {headers: {Cookie: env:HOME}}\n"
    )
    configuration.apply_document(text, label="it", write=True)
    with stranger():
        configuration.apply_document(text + "    display_name: Acme\n", label="it", write=True)
    assert Provider.objects.get().display_name == "Acme"


BRIDGE = """
providers:
  - id: acme
    type: openai
    api_key: "REFERENCE"
    base_url: https://acme.example/v1
    models: [{id: m, tasks: [chat_fast]}]
default_models: {chat_fast: m}
"""


@pytest.mark.parametrize("reference", ["x${AN_ODD_VARIABLE}", "${AN_ODD_VARIABLE}"])
def test_a_foreign_document_reads_no_variable_that_its_bringer_may_not_refer_to(
    monkeypatch: pytest.MonkeyPatch, reference: str
) -> None:
    monkeypatch.setenv("AN_ODD_VARIABLE", "a-secret-of-the-machine")
    text = BRIDGE.replace("REFERENCE", reference)
    with stranger():
        found = configuration.apply_document(text, label="it", write=True)
    assert "nly an admin may" in " ".join(one.detail for one in found.findings)
    assert not ApiKey.objects.exists()
    configuration.apply_document(text, label="it", write=True)
    assert ApiKey.objects.exists()
