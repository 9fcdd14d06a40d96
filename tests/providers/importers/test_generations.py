"""Which tables are the legacy's, and what is said when they are not."""

from __future__ import annotations

import pytest

from providers.importers.drafts import Kind, SourceError
from providers.importers.generations import NEWER_COLUMNS, NEWER_TABLES, OLDER_COLUMNS, OLDER_TABLES, recognise

OLDER = {OLDER_TABLES[kind]: [*columns, "created_at"] for kind, columns in OLDER_COLUMNS.items()}
NEWER = {NEWER_TABLES[kind]: [*columns, "created_at"] for kind, columns in NEWER_COLUMNS.items()}
BOLLM = NEWER | {"llm_models": [*NEWER["llm_models"], "max_output_tokens"], "users": ["id", "username"]}
GATEWAY = NEWER | {"llm_providers": [*NEWER["llm_providers"], "created_by_user_id"]}
FOREIGN = {"id": 1, "name": 1, "slug": 1}


def without(tables, table, *columns):
    return tables | {table: [column for column in tables[table] if column not in columns]}


@pytest.mark.parametrize(
    ("tables", "generations"),
    [(OLDER, "A"), (BOLLM, "B"), (GATEWAY, "C"), (OLDER | BOLLM, "A+B"), (OLDER | GATEWAY, "A+C")],
)
def test_each_generation_is_recognised(tables, generations):
    assert recognise(tables).generations == generations


def test_the_newer_family_is_the_registry_where_both_stand():
    schema = recognise(OLDER | BOLLM)

    assert schema.registry.tables[Kind.PROVIDER].name == "llm_providers"
    assert schema.older is not None
    assert schema.older.tables[Kind.KEY].name == "api_keys"


def test_the_older_family_is_the_registry_where_it_stands_alone():
    schema = recognise(OLDER)

    assert schema.registry.tables[Kind.MODEL].name == "provider_models"
    assert schema.older is None


def test_side_tables_are_found_with_their_columns():
    assert recognise(BOLLM | {"strangers": ["id"]}).side == {"users": frozenset({"id", "username"})}


def test_columns_that_only_some_have_may_want():
    schema = recognise(without(BOLLM, "llm_models", "created_at"))

    assert "created_at" not in schema.registry.tables[Kind.MODEL].columns
    assert "max_output_tokens" in schema.registry.tables[Kind.MODEL].columns


@pytest.mark.parametrize("table", sorted(NEWER))
def test_a_missing_table_is_named(table):
    tables = {name: columns for name, columns in BOLLM.items() if name != table}

    with pytest.raises(SourceError, match=f"not: table {table}\\. Found were: llm_"):
        recognise(tables)


def test_missing_columns_are_named():
    with pytest.raises(SourceError) as refusal:
        recognise(without(BOLLM, "llm_provider_api_keys", "key_value", "environment"))

    assert "column llm_provider_api_keys.key_value, column llm_provider_api_keys.environment" in str(refusal.value)


def test_half_of_the_older_family_beside_a_whole_registry_is_refused():
    tables = {name: columns for name, columns in OLDER.items() if name != "provider_models"}

    with pytest.raises(SourceError, match="generation A, but not: table provider_models"):
        recognise(tables | BOLLM)


def test_tables_of_another_product_with_the_same_names_are_ignored_beside_the_registry():
    schema = recognise(BOLLM | {"providers": ["id", "name"], "api_keys": ["id", "token"]})

    assert schema.older is None
    assert schema.ignored == ("providers", "api_keys")


def test_keys_of_another_product_do_not_announce_the_older_family():
    assert recognise(BOLLM | {"api_keys": ["id", "provider_id", "token"]}).older is None


def test_a_table_of_providers_of_another_product_is_not_taken_for_the_legacy():
    with pytest.raises(SourceError) as refusal:
        recognise({"providers": list(FOREIGN), "orders": ["id"]})

    assert "providers is there, but without the columns provider_id, provider_type" in str(refusal.value)
    assert "Found were: orders, providers" in str(refusal.value)


def test_an_empty_database_is_said_to_be_empty():
    with pytest.raises(SourceError, match="no tables at all"):
        recognise({})


def test_a_crowd_of_foreign_tables_is_not_listed_whole():
    with pytest.raises(SourceError, match="and 70 more"):
        recognise({f"table_{number:03}": ["id"] for number in range(100)})
