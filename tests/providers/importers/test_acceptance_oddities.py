"""Single oddities of real installations, each on the engine that lets it happen."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from django.db import connection as database
from django.db.models import QuerySet

from providers.models import ApiKey, ConnectionParameter, ImportRun, Provider, ProviderModel
from tests.providers.importers.commanding import migrate, run
from tests.providers.importers.databases import empty_database
from tests.providers.importers.legacy_databases import LegacyDatabase, build
from tests.providers.importers.legacy_rows import sealed
from tests.providers.importers.registry_view import in_the_clear, registry

pytestmark = pytest.mark.django_db


@pytest.fixture
def in_mariadb(request: pytest.FixtureRequest) -> Iterator[LegacyDatabase]:
    with empty_database("mysql") as url:
        yield build(url, request.param, messy=False)


@pytest.fixture
def legacy(tmp_path: Path) -> LegacyDatabase:
    return build(f"sqlite:///{tmp_path}/legacy.sqlite3", "gateway", messy=False)


def _provider(legacy: LegacyDatabase, provider_id: str, **columns: object) -> None:
    values = {"provider_type": "openai_compatible", "display_name": "One", "enabled": True} | columns
    legacy.insert(legacy.family.providers, provider_id=provider_id, **values)


def _model(legacy: LegacyDatabase, provider_id: str, model_id: str, **columns: object) -> None:
    values = {"display_name": "One", "enabled": True, "created_at": "2024-01-01 00:00:00"} | columns
    legacy.insert(legacy.family.models, provider_id=provider_id, model_id=model_id, **values)


@pytest.mark.parametrize("in_mariadb", ["bollm"], indirect=True)
def test_models_under_every_spelling_of_their_provider_arrive(in_mariadb, tmp_path):
    _provider(in_mariadb, "Mistral")
    spellings = ["mistral", "MISTRAL", "Mistral", "mistral ", "MiStRaL"]
    for number in range(20):
        _model(in_mariadb, spellings[number % len(spellings)], f"m-{number:02}")
    said = migrate(in_mariadb, tmp_path, "--apply", "--batch-size", "3")
    assert [finding for finding in said.findings if finding["level"] == "person"] == []
    assert ProviderModel.objects.filter(provider__provider_id="Mistral").count() == 20
    assert migrate(in_mariadb, tmp_path, "--verify").status == 0


@pytest.mark.parametrize("in_mariadb", ["bollm"], indirect=True)
def test_providers_between_the_spellings_of_another_keep_their_own(in_mariadb, tmp_path):
    """In MariaDB's order of ids, those that only differ in accents stand among one another."""
    _provider(in_mariadb, "alpha")
    _provider(in_mariadb, "alpha-b")
    for number in range(6):
        _model(in_mariadb, ["ALPHA", "alpha-B", "alpha"][number % 3], f"m-{number}")
    migrate(in_mariadb, tmp_path, "--apply", "--batch-size", "1")
    assert ProviderModel.objects.filter(provider__provider_id="alpha").count() == 4
    assert ProviderModel.objects.filter(provider__provider_id="alpha-b").count() == 2


@pytest.mark.parametrize("in_mariadb", ["both"], indirect=True)
def test_an_older_provider_of_another_case_is_the_same_one(in_mariadb, tmp_path):
    in_mariadb.change("UPDATE providers SET provider_id = 'OPENAI-Main' WHERE provider_id = 'openai-main'")
    migrate(in_mariadb, tmp_path, "--apply")
    assert not Provider.objects.filter(provider_id="OPENAI-Main").exists()
    assert "sk-only-in-a" in {key.secret.reveal() for key in ApiKey.objects.filter(provider__provider_id="openai-main")}


@pytest.mark.parametrize("in_mariadb", ["bo"], indirect=True)
def test_a_timestamp_of_mariadb_is_an_instant_whatever_zone_was_named(in_mariadb, tmp_path):
    """TIMESTAMP keeps UTC; only DATETIME has no zone."""
    migrate(in_mariadb, tmp_path, "--apply", "--naive-timezone", "Europe/Berlin")
    made = Provider.objects.get(provider_id="openai-main").created_at
    assert made == datetime(2023, 5, 6, 7, 8, 9, tzinfo=UTC)


@pytest.mark.parametrize("in_mariadb", ["bollm"], indirect=True)
def test_flags_kept_as_bits_are_read(in_mariadb, tmp_path):
    in_mariadb.change("ALTER TABLE llm_providers MODIFY enabled BIT(1)")
    assert migrate(in_mariadb, tmp_path, "--apply").status == 0
    found = {provider.provider_id: provider.enabled for provider in Provider.objects.all()}
    assert found == {"openai-main": True, "azure/prod:eu": False}


def test_ids_that_are_one_once_trimmed_do_not_vanish_in_silence(legacy, tmp_path):
    _model(legacy, "openai-main", "twin", max_tokens=1)
    _model(legacy, "openai-main", "twin ", max_tokens=2)
    _provider(legacy, "pair")
    _provider(legacy, "pair ", display_name="Another")
    _model(legacy, "pair ", "beneath-the-other")
    said = migrate(legacy, tmp_path, "--apply")
    assert said.status == 2
    assert ProviderModel.objects.get(model_id="twin").max_tokens in {1, 2}
    assert said.findings_of("llm_models", "openai-main:twin", "openai-main:twin ")
    assert said.findings_of("llm_providers", "pair", "pair ")
    arrived = ProviderModel.objects.filter(model_id="beneath-the-other").exists()
    assert arrived or said.findings_of("llm_models", "pair :beneath-the-other", "pair:beneath-the-other")


def test_a_key_kept_as_bytes_is_read(legacy, tmp_path):
    legacy.insert(
        "llm_provider_api_keys",
        key_id=70,
        provider_id="openai-main",
        key_value=sealed("sk-in-bytes").encode(),
        is_encrypted=1,
        environment="development",
        created_at="2024-01-01 00:00:00",
    )
    assert migrate(legacy, tmp_path, "--apply").status == 0
    assert "sk-in-bytes" in {key.secret.reveal() for key in ApiKey.objects.all()}


def test_a_token_that_was_stored_as_python_prints_it_is_opened(legacy, tmp_path):
    printed = repr(sealed("sk-printed").encode())
    legacy.change("UPDATE llm_provider_api_keys SET key_value = :value WHERE key_id = 1", value=printed)
    assert migrate(legacy, tmp_path, "--apply").status in {0, 2}
    keys = {key.secret.reveal() for key in ApiKey.objects.all()}
    assert "sk-printed" in keys
    assert not any("gAAAA" in key for key in keys)


def test_large_values_arrive_whole(legacy, tmp_path):
    text = "ä" * 100_000
    params = {"base_url": "https://legacy.example/v1", "note": text}
    legacy.change(
        "UPDATE llm_providers SET connection_params = :params, description = :text",
        params=json.dumps(params),
        text=text,
    )
    legacy.change("UPDATE llm_provider_connection_parameters SET param_value = :text WHERE param_id = 4", text=text)
    assert migrate(legacy, tmp_path, "--apply").status == 0
    assert Provider.objects.get(provider_id="openai-main").connection_params["note"] == text
    assert ConnectionParameter.objects.get(environment="development").plain_value == text
    assert migrate(legacy, tmp_path, "--verify").status == 0


def test_undoing_a_delta_restores_secrets_and_expiries(legacy, tmp_path):
    params = {"base_url": "https://legacy.example/v1", "headers": {"Authorization": "Bearer first-bearer"}}
    change = "UPDATE llm_providers SET connection_params = :params WHERE provider_id = 'openai-main'"
    legacy.change(change, params=json.dumps(params))
    migrate(legacy, tmp_path, "--apply")
    before = registry()
    params["headers"]["Authorization"] = "Bearer second-bearer"
    legacy.change(change, params=json.dumps(params))
    legacy.change("UPDATE llm_provider_api_keys SET expires_at = '2036-01-01 00:00:00' WHERE key_id = 1")
    said = migrate(legacy, tmp_path, "--delta")
    after = registry()
    assert after.providers["openai-main"]["params"]["headers"]["Authorization"] == "Bearer second-bearer"
    assert "second-bearer" not in said.text
    run_pk = ImportRun.objects.get(kind=ImportRun.Kind.DELTA).pk
    assert run(tmp_path, "--undo", str(run_pk)).status == 0
    assert registry() == before


def test_an_earlier_run_is_not_undone_from_under_a_later_one(legacy, tmp_path):
    migrate(legacy, tmp_path, "--apply")
    legacy.change("UPDATE llm_models SET max_tokens = 7")
    migrate(legacy, tmp_path, "--delta")
    first, second = ImportRun.objects.order_by("pk").values_list("pk", flat=True)
    before = registry()
    said = run(tmp_path, "--undo", str(first))
    assert said.status == 1
    assert str(second) in said.screen
    assert registry() == before
    assert [run(tmp_path, "--undo", str(pk)).status for pk in (second, first)] == [0, 0]
    assert not Provider.objects.exists()


def test_a_second_source_does_not_overwrite_what_the_first_one_brought(legacy, tmp_path):
    migrate(legacy, tmp_path, "--apply")
    other = build(f"sqlite:///{tmp_path}/other.sqlite3", "bollm", messy=False)
    other.change("UPDATE llm_models SET max_tokens = 7 WHERE provider_id = 'openai-main' AND model_id = 'gpt-4o'")
    _model(other, "openai-main", "only-in-the-other")
    said = migrate(other, tmp_path, "--apply")
    assert said.status == 2
    gpt = ProviderModel.objects.get(provider__provider_id="openai-main", model_id="gpt-4o")
    assert gpt.max_tokens == 4096
    assert "conflict" in {finding["code"] for finding in said.findings_of("llm_models", "openai-main:gpt-4o")}
    assert ProviderModel.objects.filter(model_id="only-in-the-other").exists()
    assert migrate(legacy, tmp_path, "--verify").status == 0


def test_the_import_and_its_proof_may_be_asked_for_at_once(legacy, tmp_path):
    assert migrate(legacy, tmp_path, "--apply", "--verify").status == 0
    assert list(ImportRun.objects.order_by("pk").values_list("kind", flat=True)) == ["apply", "verify"]


def test_several_legacy_keys_may_stand_in_one_file(legacy, tmp_path):
    file = tmp_path / "all.key"
    file.write_text("# keys of the old system\n\n" + "\r\n".join(legacy.legacy_keys) + "\r\n")
    said = migrate(legacy, tmp_path, "--apply", "--legacy-key-file", str(file), keys=False)
    assert said.status == 0
    assert ApiKey.objects.count() == 3
    assert in_the_clear(legacy, said.text) == []


def test_an_empty_source_is_imported_without_a_word(legacy, tmp_path):
    for table in legacy.expected.rows:
        legacy.change(f"DELETE FROM {table}")
    said = migrate(legacy, tmp_path, "--apply")
    assert said.status == 0
    assert said.tables["llm_providers"]["rows"] == 0


def test_an_edit_that_says_what_the_source_says_now_is_no_conflict(legacy, tmp_path):
    migrate(legacy, tmp_path, "--apply")
    model = ProviderModel.objects.get(provider__provider_id="openai-main", model_id="gpt-4o")
    model.max_tokens = 7
    model.save()
    legacy.change("UPDATE llm_models SET max_tokens = 7 WHERE provider_id = 'openai-main' AND model_id = 'gpt-4o'")
    assert migrate(legacy, tmp_path, "--apply").status == 0


def test_a_key_disabled_here_is_not_enabled_by_the_next_import(legacy, tmp_path):
    """Somebody revoked it at the gateway; the source knows nothing of that."""
    migrate(legacy, tmp_path, "--apply")
    key = ApiKey.objects.get(environment="staging")
    key.enabled = False
    key.save()
    for how in ("--apply", "--delta"):
        migrate(legacy, tmp_path, how)
        assert ApiKey.objects.get(environment="staging").enabled is False


def test_a_provider_deleted_here_does_not_come_back(legacy, tmp_path):
    migrate(legacy, tmp_path, "--apply")
    Provider.objects.get(provider_id="azure/prod:eu").delete()
    said = migrate(legacy, tmp_path, "--apply")
    assert not Provider.objects.filter(provider_id="azure/prod:eu").exists()
    assert said.findings_of("llm_providers", "azure/prod:eu")
    assert said.tables["llm_models"]["rows"] == 3


def test_a_key_that_was_given_a_name_here_still_says_what_the_source_says(legacy, tmp_path):
    """The source has no names of keys, so it has nothing to say against one."""
    migrate(legacy, tmp_path, "--apply")
    key = ApiKey.objects.get(environment="staging")
    key.name, key.weight = "The one for staging", 5
    key.save()
    assert migrate(legacy, tmp_path, "--verify").status == 0
    assert migrate(legacy, tmp_path, "--apply").status == 0
    assert ApiKey.objects.get(environment="staging").name == "The one for staging"


def test_what_only_the_gateway_knows_of_a_model_or_provider_is_no_difference(legacy, tmp_path):
    migrate(legacy, tmp_path, "--apply")
    provider = Provider.objects.get(provider_id="openai-main")
    provider.priority, provider.probe_interval_seconds = 7, 0
    provider.save()
    model = ProviderModel.objects.get(provider=provider, model_id="gpt-4o")
    model.input_cost_per_million, model.tasks = 3, ["chat_large"]
    model.save()
    assert migrate(legacy, tmp_path, "--verify").status == 0
    legacy.change("UPDATE llm_models SET max_tokens = 7 WHERE provider_id = 'openai-main' AND model_id = 'gpt-4o'")
    migrate(legacy, tmp_path, "--delta")
    model.refresh_from_db()
    assert (model.input_cost_per_million, model.tasks) == (3, ["chat_large"])


@pytest.fixture
def with_secrets(legacy, tmp_path) -> LegacyDatabase:
    """Imported, with a secret in every place that may hold one."""
    params = {
        "base_url": "https://legacy.example/v1",
        "api_key": "sk-in-params",
        "headers": {"Authorization": "Bearer b-1"},
    }
    legacy.change(
        "UPDATE llm_providers SET connection_params = :params WHERE provider_id = 'openai-main'",
        params=json.dumps(params),
    )
    legacy.change("UPDATE llm_provider_connection_parameters SET param_name = 'client_secret' WHERE param_id = 4")
    assert migrate(legacy, tmp_path, "--apply").status == 0
    return legacy


def _spoil(table: str, column: str) -> None:
    """One letter of every ciphertext in a column."""
    with database.cursor() as cursor:
        cursor.execute(f"SELECT id, {column} FROM {table} WHERE {column} IS NOT NULL")
        for pk, text in cursor.fetchall():
            spoilt = text[:-6] + ("A" if text[-6] != "A" else "B") + text[-5:]
            cursor.execute(f"UPDATE {table} SET {column} = %s WHERE id = %s", [spoilt, pk])


def _other_header() -> None:
    provider = Provider.objects.get(provider_id="openai-main")
    provider.connection_params = provider.connection_params | {"headers": {"Authorization": "Bearer b-2"}}
    provider.save()


def _plain_again() -> None:
    QuerySet(ConnectionParameter).filter(param_name="client_secret").update(
        secret_value=None, is_sensitive=False, plain_value="region of development"
    )


@pytest.mark.parametrize(
    ("tamper", "table", "key"),
    [
        (_other_header, "llm_providers", "openai-main"),
        (lambda: _spoil("providers_provider", "secret_params"), "llm_providers", "openai-main"),
        (lambda: _spoil("providers_connectionparameter", "secret_value"), "llm_provider_connection_parameters", "4"),
        (_plain_again, "llm_provider_connection_parameters", "4"),
        (
            lambda: ApiKey.objects.get(name__contains="api_key").delete(),
            "llm_providers",
            "openai-main#connection_params.api_key",
        ),
    ],
    ids=["header", "ciphertext of params", "ciphertext of a parameter", "parameter in the clear", "key of params"],
)
def test_verifying_names_the_place_of_a_secret_that_somebody_changed(tamper, table, key, with_secrets, tmp_path):
    assert migrate(with_secrets, tmp_path, "--verify").status == 0
    tamper()
    said = migrate(with_secrets, tmp_path, "--verify")
    assert said.status == 2
    assert {finding["code"] for finding in said.findings_of(table, key)} & {"differs_here", "missing_here"}
    assert not any(secret in said.text for secret in ("sk-in-params", "Bearer b-", "region of development"))
