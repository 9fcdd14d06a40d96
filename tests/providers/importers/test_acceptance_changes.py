"""What happens when something changed: in the source, in the registry, in both, or by somebody's hand behind everybody's back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import connection as database
from django.db.models import QuerySet
from django.utils import timezone

from providers.models import ApiKey, ConnectionParameter, ImportRun, Provider, ProviderModel
from providers.secrets import Secret
from tests.providers.importers.commanding import Said, migrate, run
from tests.providers.importers.databases import empty_database
from tests.providers.importers.legacy_databases import LegacyDatabase, build
from tests.providers.importers.legacy_rows import sealed
from tests.providers.importers.registry_view import Registry, everything_stored, in_the_clear, registry

pytestmark = pytest.mark.django_db

AFTERWARDS = "2099-01-01 00:00:00"


@pytest.fixture
def legacy(tmp_path: Path) -> LegacyDatabase:
    """A well-kept database of generation C."""
    return build(f"sqlite:///{tmp_path}/legacy.sqlite3", "gateway", messy=False)


@pytest.fixture
def imported(legacy: LegacyDatabase, tmp_path: Path) -> LegacyDatabase:
    assert migrate(legacy, tmp_path, "--apply").status == 0
    return legacy


def _named(said: Said) -> set[tuple[str, str]]:
    return {
        (finding["key"], field)
        for finding in said.findings
        if finding["code"] in {"missing_here", "differs_here"}
        for field in finding["field"].split(", ")
    }


# --- Verifying ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("generation", ["bo", "bollm", "gateway"])
def test_a_clean_database_comes_over_without_a_word_for_a_person(generation, tmp_path):
    legacy = build(f"sqlite:///{tmp_path}/legacy.sqlite3", generation, messy=False)
    assert [migrate(legacy, tmp_path, *how).status for how in ((), ("--apply",), ("--apply",), ("--verify",))] == [
        0
    ] * 4


def test_verifying_before_the_import_names_every_row(legacy, tmp_path):
    said = migrate(legacy, tmp_path, "--verify")
    assert said.status != 0
    assert {"openai-main", "azure/prod:eu", "openai-main:gpt-4o"} <= {key for key, _ in _named(said)}


TAMPERING: dict[str, tuple[Callable[[], object], str, str]] = {
    "provider name": (lambda: _openai().update(display_name="Another"), "openai-main", "display_name"),
    "provider type": (lambda: _openai().update(provider_type="fake"), "openai-main", "provider_type"),
    "provider text": (lambda: _openai().update(description=""), "openai-main", "description"),
    "provider switch": (lambda: _openai().update(enabled=False), "openai-main", "enabled"),
    "provider settings": (lambda: _openai().update(request_settings={"retries": 3}), "openai-main", "request_settings"),
    "provider time": (lambda: _openai().update(created_at=timezone.now()), "openai-main", "created_at"),
    "provider time by a second": (lambda: _a_second_later(Provider, "openai-main"), "openai-main", "created_at"),
    "provider address": (lambda: _move_address(), "openai-main", "connection_params"),
    "model limit": (lambda: _gpt().update(max_tokens=4097), "openai-main:gpt-4o", "max_tokens"),
    "model window": (lambda: _gpt().update(context_window=None), "openai-main:gpt-4o", "context_window"),
    "model switch": (lambda: _gpt().update(enabled=False), "openai-main:gpt-4o", "enabled"),
    "model type": (lambda: _gpt().update(model_type="completion"), "openai-main:gpt-4o", "model_type"),
    "model abilities": (lambda: _gpt().update(capabilities=["chat"]), "openai-main:gpt-4o", "capabilities"),
    "model options": (lambda: _gpt().update(parameters={"temperature": 0.6}), "openai-main:gpt-4o", "parameters"),
    "model time": (lambda: _gpt().update(created_at=timezone.now()), "openai-main:gpt-4o", "created_at"),
    "model gone": (lambda: _gpt().delete(), "openai-main:gpt-4o", ""),
    "key": (lambda: _new_secret(), "1", "secret"),
    "key sealed otherwise": (lambda: _spoil_ciphertext(), "1", "secret"),
    "key of another": (lambda: _swap_ciphertexts(), "1", "secret"),
    "key switch": (lambda: _first_key().update(enabled=False), "1", "enabled"),
    "key environment": (lambda: _first_key().update(environment="production"), "1", ""),
    "key expiry": (lambda: _first_key().update(expires_at=timezone.now()), "1", "expires_at"),
    "key gone": (lambda: _first_key().delete(), "1", ""),
    "parameter": (lambda: _region().update(plain_value="elsewhere"), "4", "plain_value"),
    "parameter gone": (lambda: _region().delete(), "4", ""),
    "parameter environment": (lambda: _region().update(environment="test"), "4", ""),
    "provider gone": (lambda: Provider.objects.get(provider_id="azure/prod:eu").delete(), "azure/prod:eu", ""),
}


@pytest.mark.parametrize("what", TAMPERING)
def test_verifying_names_what_somebody_changed_here(what, imported, tmp_path):
    tamper, key, field = TAMPERING[what]
    tamper()
    said = migrate(imported, tmp_path, "--verify")
    assert said.status != 0
    assert key in {name for name, _ in _named(said)}
    if field:
        assert (key, field) in _named(said)
    assert in_the_clear(imported, said.text) == []


def _openai() -> Any:
    return Provider.objects.filter(provider_id="openai-main")


def _gpt() -> Any:
    return ProviderModel.objects.filter(provider__provider_id="openai-main", model_id="gpt-4o")


def _first_key() -> Any:
    return ApiKey.objects.filter(provider__provider_id="openai-main", environment="development")


def _region() -> Any:
    # Past the registry's own manager, which refuses to write values behind its back.
    return QuerySet(ConnectionParameter).filter(param_name="region", environment="development")


def _a_second_later(model: Any, provider_id: str) -> None:
    row = model.objects.get(provider_id=provider_id)
    model.objects.filter(pk=row.pk).update(created_at=row.created_at + timedelta(seconds=1))


def _move_address() -> None:
    provider = _openai().get()
    provider.connection_params = provider.connection_params | {"base_url": "https://elsewhere.example/v1"}
    provider.save()


def _new_secret() -> None:
    key = _first_key().get()
    key.secret = Secret("sk-of-a-thief")
    key.save()


def _spoil_ciphertext() -> None:
    """Behind the ORM's back: one letter of what is stored."""
    stored = _stored_secret(_first_key().get().pk)
    _store_secret(_first_key().get().pk, stored[:-6] + ("A" if stored[-6] != "A" else "B") + stored[-5:])


def _swap_ciphertexts() -> None:
    first, other = _first_key().get().pk, ApiKey.objects.get(environment="staging").pk
    ours, theirs = _stored_secret(first), _stored_secret(other)
    _store_secret(first, theirs)
    _store_secret(other, ours)


def _stored_secret(pk: int) -> str:
    with database.cursor() as cursor:
        cursor.execute("SELECT secret FROM providers_apikey WHERE id = %s", [pk])
        return cursor.fetchone()[0]


def _store_secret(pk: int, text: str) -> None:
    with database.cursor() as cursor:
        cursor.execute("UPDATE providers_apikey SET secret = %s WHERE id = %s", [text, pk])


SOURCE_CHANGES: dict[str, tuple[str, str]] = {
    "UPDATE llm_providers SET display_name = 'Renamed' WHERE provider_id = 'openai-main'": (
        "openai-main",
        "display_name",
    ),
    "UPDATE llm_models SET max_tokens = 1 WHERE model_id = 'gpt-4o' AND provider_id = 'openai-main'": (
        "openai-main:gpt-4o",
        "max_tokens",
    ),
    "UPDATE llm_provider_connection_parameters SET param_value = 'moon' WHERE param_id = 4": ("4", "plain_value"),
    "UPDATE llm_providers SET created_at = '2023-05-06 07:08:10' WHERE provider_id = 'openai-main'": (
        "openai-main",
        "created_at",
    ),
}


@pytest.mark.parametrize("statement", SOURCE_CHANGES)
def test_verifying_names_what_changed_in_the_source(statement, imported, tmp_path):
    imported.change(statement)
    said = migrate(imported, tmp_path, "--verify")
    assert said.status != 0
    assert SOURCE_CHANGES[statement] in _named(said)


def test_verifying_names_a_key_that_the_source_has_instead(imported, tmp_path):
    imported.change("UPDATE llm_provider_api_keys SET key_value = :value WHERE key_id = 1", value=sealed("sk-rotated"))
    said = migrate(imported, tmp_path, "--verify")
    assert said.status != 0
    assert "1" in {key for key, _ in _named(said)}
    assert "sk-rotated" not in said.text


def test_verifying_writes_nothing_into_the_registry(imported, tmp_path):
    before = registry()
    migrate(imported, tmp_path, "--verify")
    assert registry() == before


# --- Later changes --------------------------------------------------------------------------------------------------------


@pytest.fixture(params=["sqlite", "mysql", "postgresql"])
def running(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[LegacyDatabase]:
    """An imported database in which the legacy programs go on working."""
    with empty_database(request.param) as url:
        legacy = build(url, "gateway", messy=False)
        assert migrate(legacy, tmp_path, "--apply").status == 0
        yield legacy


def test_a_delta_brings_only_what_changed_since(running, tmp_path):
    before = registry()
    running.change(
        f"UPDATE llm_providers SET display_name = 'Renamed', updated_at = '{AFTERWARDS}' WHERE provider_id = 'openai-main'"
    )
    running.insert(
        "llm_models",
        model_id="later",
        provider_id="openai-main",
        display_name="Later",
        enabled=True,
        max_tokens=5,
        created_at=AFTERWARDS,
        updated_at=AFTERWARDS,
    )
    running.insert(
        "llm_provider_api_keys",
        key_id=90,
        provider_id="openai-main",
        key_value=sealed("sk-later"),
        is_encrypted=True,
        environment="development",
        created_at=AFTERWARDS,
    )
    running.insert(
        "llm_provider_connection_parameters",
        param_id=90,
        provider_id="azure/prod:eu",
        param_name="later",
        param_value="yes",
        is_sensitive=False,
        environment="production",
        created_at=AFTERWARDS,
        updated_at=AFTERWARDS,
    )
    said = migrate(running, tmp_path, "--delta")
    assert said.status == 0
    after = registry()
    assert after.providers["openai-main"]["display_name"] == "Renamed"
    assert after.models["openai-main", "later"]["max_tokens"] == 5
    assert "sk-later" in {row["secret"] for row in after.keys}
    assert after.parameters["azure/prod:eu", "later", "production"]["value"] == "yes"
    assert _untouched(before, after)
    assert migrate(running, tmp_path, "--verify").status == 0


def _untouched(before: Registry, after: Registry) -> bool:
    """Everything but what the delta brought is the same row with the same times."""
    return (
        before.models == {name: row for name, row in after.models.items() if name != ("openai-main", "later")}
        and before.keys == [row for row in after.keys if row["secret"] != "sk-later"]
        and before.providers["azure/prod:eu"] == after.providers["azure/prod:eu"]
    )


def test_a_delta_sees_a_change_that_left_no_time_behind(imported, tmp_path):
    """The models screen writes by raw SQL and touches no `updated_at`."""
    imported.change("UPDATE llm_models SET max_tokens = 7 WHERE model_id = 'gpt-4o' AND provider_id = 'openai-main'")
    assert migrate(imported, tmp_path, "--delta").status == 0
    assert _gpt().get().max_tokens == 7


def test_a_delta_without_a_change_changes_nothing(imported, tmp_path):
    before = registry()
    assert migrate(imported, tmp_path, "--delta").status == 0
    assert registry() == before


def test_an_edit_made_here_stays_when_the_source_did_not_change(imported, tmp_path):
    _gpt().update(max_tokens=99)
    said = migrate(imported, tmp_path, "--apply")
    assert _gpt().get().max_tokens == 99
    assert "edited_here" in {finding["code"] for finding in said.findings_of("llm_models", "openai-main:gpt-4o")}


def test_a_field_changed_on_both_sides_stays_and_wants_a_person(imported, tmp_path):
    _gpt().update(max_tokens=99)
    imported.change("UPDATE llm_models SET max_tokens = 7 WHERE model_id = 'gpt-4o' AND provider_id = 'openai-main'")
    said = migrate(imported, tmp_path, "--apply")
    assert said.status == 2
    assert _gpt().get().max_tokens == 99
    assert "conflict" in {finding["code"] for finding in said.findings_of("llm_models", "openai-main:gpt-4o")}


def test_a_row_that_left_the_source_stays_and_is_named(imported, tmp_path):
    imported.change("DELETE FROM llm_models WHERE model_id = 'gpt-4o' AND provider_id = 'openai-main'")
    said = migrate(imported, tmp_path, "--apply")
    assert _gpt().exists()
    assert "gone" in {finding["code"] for finding in said.findings_of("llm_models", "openai-main:gpt-4o")}


def test_a_provider_made_here_of_the_same_id_keeps_its_values_and_wants_a_person(legacy, tmp_path):
    Provider(provider_id="openai-main", provider_type="openai_compatible", display_name="Made here").save()
    said = migrate(legacy, tmp_path, "--apply")
    assert said.status == 2
    assert _openai().get().display_name == "Made here"
    assert "conflict" in {finding["code"] for finding in said.findings_of("llm_providers", "openai-main")}
    assert _gpt().get().max_tokens == 4096


# --- Undoing --------------------------------------------------------------------------------------------------------------


def _undo(tmp_path: Path, kind: str = ImportRun.Kind.APPLY) -> Said:
    run_pk = ImportRun.objects.filter(kind=kind).latest("pk").pk
    return run(tmp_path, "--undo", str(run_pk), "--no-progress")


def test_undoing_needs_no_source(imported, tmp_path):
    Path(imported.url.removeprefix("sqlite:///")).unlink()
    assert _undo(tmp_path).status == 0
    assert not Provider.objects.exists()


def test_undoing_a_delta_restores_what_it_changed(imported, tmp_path):
    before = registry()
    imported.change("UPDATE llm_models SET max_tokens = 7 WHERE model_id = 'gpt-4o' AND provider_id = 'openai-main'")
    imported.change("UPDATE llm_provider_connection_parameters SET param_value = 'moon' WHERE param_id = 4")
    imported.insert("llm_models", model_id="later", provider_id="openai-main", display_name="Later", enabled=True)
    assert migrate(imported, tmp_path, "--delta").status == 0
    assert registry() != before
    assert _undo(tmp_path, ImportRun.Kind.DELTA).status == 0
    assert registry() == before


def test_an_edit_made_since_survives_undoing_and_is_reported(imported, tmp_path):
    model = _gpt().get()
    model.max_tokens = 99
    model.save()
    said = _undo(tmp_path)
    assert said.status == 2
    assert _gpt().get().max_tokens == 99
    assert "edited_since" in {finding["code"] for finding in said.findings}
    assert not ProviderModel.objects.exclude(model_id="gpt-4o", provider__provider_id="openai-main").exists()


def test_a_model_added_since_survives_undoing_with_its_provider(imported, tmp_path):
    ProviderModel(provider=_openai().get(), model_id="added-here").save()
    said = _undo(tmp_path)
    assert said.status == 2
    assert ProviderModel.objects.get(model_id="added-here").provider.provider_id == "openai-main"
    assert {"edited_since", "still_in_use"} & said.codes


def test_undoing_twice_is_told_and_changes_nothing(imported, tmp_path):
    _undo(tmp_path)
    before = registry()
    assert _undo(tmp_path).status in {0, 1}
    assert registry() == before


def test_after_undoing_the_same_import_works_again(imported, tmp_path):
    _undo(tmp_path)
    assert migrate(imported, tmp_path, "--apply").status == 0
    assert migrate(imported, tmp_path, "--verify").status == 0


def test_an_unknown_run_cannot_be_undone(tmp_path):
    said = run(tmp_path, "--undo", "4711")
    assert said.status == 1
    assert "4711" in said.screen


# --- What is asked for ----------------------------------------------------------------------------------------------------


def test_only_named_providers_come_over_and_the_rest_is_counted(legacy, tmp_path):
    said = migrate(legacy, tmp_path, "--apply", "--only", "azure/prod:eu")
    assert [provider.provider_id for provider in Provider.objects.all()] == ["azure/prod:eu"]
    assert ProviderModel.objects.count() == ApiKey.objects.count() == 1
    for table, rows in legacy.expected.rows.items():
        counts = said.tables[table]
        assert sum(counts.get(name, 0) for name in ("imported", "merged", "rejected", "left_out")) == rows
    assert said.tables["llm_providers"]["left_out"] == 1
    assert said.tables["llm_models"]["left_out"] == 2


def test_a_misspelt_provider_is_told(legacy, tmp_path):
    said = migrate(legacy, tmp_path, "--apply", "--only", "azure")
    assert said.status != 0
    assert "azure" in said.text
    assert not Provider.objects.exists()


def test_only_named_environments_come_over(legacy, tmp_path):
    said = migrate(legacy, tmp_path, "--apply", "--environment", "staging")
    assert {key.secret.reveal() for key in ApiKey.objects.all()} == {"sk-clean-staging"}
    assert {parameter.environment for parameter in ConnectionParameter.objects.all()} == {"staging"}
    assert ProviderModel.objects.count() == 3
    assert said.tables["llm_provider_api_keys"]["left_out"] == 2


def test_several_environments_may_be_named(legacy, tmp_path):
    migrate(legacy, tmp_path, "--apply", "--environment", "staging", "--environment", "production")
    assert {key.environment for key in ApiKey.objects.all()} == {"staging", "production"}


def test_what_was_left_out_comes_with_the_next_run(legacy, tmp_path):
    migrate(legacy, tmp_path, "--apply", "--only", "azure/prod:eu")
    migrate(legacy, tmp_path, "--apply")
    assert migrate(legacy, tmp_path, "--verify").status == 0
    assert Provider.objects.count() == 2


def test_naive_times_are_read_in_the_named_zone(legacy, tmp_path):
    legacy.insert(
        "llm_providers",
        provider_id="summer",
        provider_type="openai_compatible",
        display_name="Summer",
        enabled=True,
        created_at="2024-07-01 12:00:00",
    )
    migrate(legacy, tmp_path, "--apply", "--naive-timezone", "Europe/Berlin")
    assert Provider.objects.get(provider_id="summer").created_at == datetime(2024, 7, 1, 10, tzinfo=UTC)
    azure = ApiKey.objects.get(environment="production")
    assert azure.expires_at == datetime(2037, 1, 2, 2, 4, 5, tzinfo=UTC)


@pytest.mark.parametrize("moment", ["2024-10-27 02:30:00", "2024-03-31 02:30:00"])
def test_a_time_that_the_clock_change_makes_unclear_is_told(moment, legacy, tmp_path):
    legacy.change(f"UPDATE llm_providers SET created_at = '{moment}' WHERE provider_id = 'openai-main'")
    said = migrate(legacy, tmp_path, "--apply", "--naive-timezone", "Europe/Berlin")
    assert "time_guessed" in {finding["code"] for finding in said.findings_of("llm_providers", "openai-main")}
    assert migrate(legacy, tmp_path, "--verify", "--naive-timezone", "Europe/Berlin").status == 0


def test_an_unknown_zone_is_refused(legacy, tmp_path):
    said = migrate(legacy, tmp_path, "--apply", "--naive-timezone", "Europe/Atlantis")
    assert said.status == 1
    assert "Europe/Atlantis" in said.screen
    assert not Provider.objects.exists()


@pytest.mark.parametrize("size", ["1", "2", "7"])
def test_the_size_of_batches_changes_nothing(size, legacy, tmp_path):
    assert migrate(legacy, tmp_path, "--apply", "--batch-size", size).status == 0
    assert ProviderModel.objects.count() == 3
    assert migrate(legacy, tmp_path, "--verify", "--batch-size", size).status == 0


def test_without_its_legacy_key_no_token_becomes_a_key(legacy, tmp_path):
    said = migrate(legacy, tmp_path, "--apply", keys=False)
    assert said.status == 2
    assert not ApiKey.objects.exists()
    assert said.tables["llm_provider_api_keys"]["rejected"] == 3
    assert {finding["code"] for finding in said.findings_of("llm_provider_api_keys", "1", "2", "3")} == {
        "undecryptable"
    }


def test_a_key_that_opens_later_comes_with_a_second_run(legacy, tmp_path):
    migrate(legacy, tmp_path, "--apply", keys=False)
    assert migrate(legacy, tmp_path, "--apply").status == 0
    assert ApiKey.objects.count() == 3


def test_rotating_a_key_in_the_source_brings_the_new_one(imported, tmp_path):
    imported.change("UPDATE llm_provider_api_keys SET key_value = :value WHERE key_id = 1", value=sealed("sk-rotated"))
    said = migrate(imported, tmp_path, "--apply")
    usable = {key.secret.reveal() for key in ApiKey.objects.filter(ApiKey.usable(timezone.now()))}
    assert "sk-rotated" in usable
    assert in_the_clear(imported, said.text) == []


def test_encrypting_the_same_key_anew_is_no_change(imported, tmp_path):
    before = registry()
    imported.change(
        "UPDATE llm_provider_api_keys SET key_value = :value WHERE key_id = 1", value=sealed("sk-clean-openai-main")
    )
    assert migrate(imported, tmp_path, "--apply").status == 0
    assert registry() == before


# --- Sources that are none ------------------------------------------------------------------------------------------------


def test_a_database_of_something_else_is_refused_by_name(tmp_path):
    legacy = build(f"sqlite:///{tmp_path}/other.sqlite3", "gateway", messy=False)
    for table in (*legacy.expected.rows,):
        legacy.change(f"DROP TABLE {table}")
    legacy.change("CREATE TABLE wheels (id INTEGER)")
    before = everything_stored()
    said = migrate(legacy, tmp_path, "--apply")
    assert said.status == 1
    assert "llm_providers" in said.screen
    assert "providers" in said.screen
    assert "wheels" in said.screen
    assert everything_stored().get("providers_provider") == before["providers_provider"]


@pytest.mark.parametrize(
    ("statement", "named"),
    [
        ("DROP TABLE llm_models", "llm_models"),
        ("DROP TABLE llm_provider_connection_parameters", "llm_provider_connection_parameters"),
        ("ALTER TABLE llm_provider_api_keys DROP COLUMN key_value", "key_value"),
        ("ALTER TABLE llm_providers DROP COLUMN provider_type", "provider_type"),
    ],
)
def test_half_a_schema_is_refused_by_the_name_of_what_is_missing(statement, named, legacy, tmp_path):
    legacy.change(statement)
    said = migrate(legacy, tmp_path, "--apply")
    assert said.status == 1
    assert named in said.screen
    assert not Provider.objects.exists()


@pytest.mark.parametrize(
    "url",
    [
        "mysql+pymysql://somebody:pass-word-of-it@127.0.0.1:3306/bo_admin",
        "mysql+pymysql://somebody:pass-word-of-it@127.0.0.1:1/bo_admin",
        "postgresql+psycopg://somebody:pass-word-of-it@127.0.0.1:1/bo_admin",
        "postgresql+psycopg://somebody:pass-word-of-it@127.0.0.1/bo_admin?sslmode=nonsense",
        "oracle://somebody:pass-word-of-it@127.0.0.1/bo_admin",
        "mysql+pymysql://somebody:pass-word-of-it@127.0.0.1:port/bo_admin",
        "mysql+nonsense://somebody:pass-word-of-it@127.0.0.1/bo_admin",
        "somebody:pass-word-of-it",
    ],
)
def test_a_source_that_does_not_let_us_in_is_told_without_its_password(url, tmp_path):
    said = run(tmp_path, "--source", url, "--apply", "--no-progress")
    assert said.status == 1
    assert said.screen.strip()
    assert "pass-word-of-it" not in said.text
    assert "pass-word-of-it" not in repr(everything_stored())


def test_a_file_that_is_not_there_is_not_made(tmp_path):
    said = run(tmp_path, "--source", f"sqlite:///{tmp_path}/absent.sqlite3", "--apply", "--no-progress")
    assert said.status == 1
    assert not (tmp_path / "absent.sqlite3").exists()


def test_a_legacy_key_file_that_is_not_there_is_told(legacy, tmp_path):
    said = migrate(legacy, tmp_path, "--apply", "--legacy-key-file", str(tmp_path / "absent.key"))
    assert said.status == 1
    assert "absent.key" in said.screen
    assert not Provider.objects.exists()


def test_a_missing_source_is_told(tmp_path):
    said = run(tmp_path, "--apply")
    assert said.status == 1
    assert "--source" in said.screen
