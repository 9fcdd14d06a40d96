"""The gateway's registry as facts to compare: what stands in it, read without the importer's own code."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import connection as database

from providers import connection
from providers.models import ApiKey, ConnectionParameter, Provider, ProviderModel
from providers.secrets import Secret
from tests.providers.importers.legacy_databases import LegacyDatabase
from tests.providers.importers.legacy_rows import Expected

Facts = dict[str, Any]
LAST_YEAR_OF_THE_SOURCES = 2024


@dataclass(frozen=True, slots=True)
class Registry:
    providers: dict[str, Facts]
    models: dict[tuple[str, str], Facts]
    keys: list[Facts]
    parameters: dict[tuple[str, str, str], Facts]


def registry() -> Registry:
    """Every field of every row, secrets in the clear."""
    providers = {provider.pk: provider for provider in Provider.objects.all()}
    ids = {pk: provider.provider_id for pk, provider in providers.items()}
    return Registry(
        {
            provider.provider_id: _fields(provider) | {"params": _revealed(provider.full_connection_params())}
            for provider in providers.values()
        },
        {(ids[model.provider_id], model.model_id): _fields(model) for model in ProviderModel.objects.all()},
        [_fields(key) | {"provider": ids[key.provider_id]} for key in ApiKey.objects.order_by("pk")],
        {
            (ids[row.provider_id], row.param_name, row.environment): _fields(row)
            | {"value": _revealed(row.param_value)}
            for row in ConnectionParameter.objects.all()
        },
    )


def _fields(row: Any) -> Facts:
    return {field.attname: _revealed(getattr(row, field.attname)) for field in row._meta.concrete_fields}


def _revealed(value: Any) -> Any:
    if isinstance(value, Secret):
        return value.reveal()
    if isinstance(value, dict):
        return {name: _revealed(member) for name, member in value.items()}
    return [_revealed(member) for member in value] if isinstance(value, list) else value


def without_row_ids(found: Registry) -> Registry:
    """To compare two installations: primary keys, what is made at random with a row, and by which run and when, left out."""
    own = {"id", "identity", "provider_id", "secret_params", "updated_at"}

    def facts(row: Facts) -> Facts:
        kept = {name: value for name, value in row.items() if name not in own}
        if kept["created_at"].year > LAST_YEAR_OF_THE_SOURCES:
            kept["created_at"] = "when it was imported"
        return kept | {"created_by": re.sub(r"^import:\d+$", "import", kept["created_by"])}

    return Registry(
        {name: facts(row) for name, row in found.providers.items()},
        {name: facts(row) for name, row in found.models.items()},
        sorted(
            (facts(row) for row in found.keys), key=lambda row: (row["provider"], row["environment"], row["secret"])
        ),
        {name: facts(row) for name, row in found.parameters.items()},
    )


def everything_stored() -> dict[str, list[str]]:
    """All tables of the gateway's database as they are stored, row by row."""
    with database.cursor() as cursor:
        tables = {}
        for name in sorted(database.introspection.table_names(cursor)):
            cursor.execute(f"SELECT * FROM {database.ops.quote_name(name)}")
            tables[name] = sorted(repr(row) for row in cursor.fetchall())
        return tables


def digest(tables: dict[str, list[str]]) -> str:
    return hashlib.sha256(repr(tables).encode()).hexdigest()


def differences(expected: Expected, found: Registry, *, besides: frozenset[str] = frozenset()) -> list[str]:
    """What the registry holds otherwise than the fixture states, one sentence each; `besides` names other providers."""
    return [
        *_different_rows("provider", expected.providers, found.providers, besides),
        *_different_rows("model", expected.models, found.models, besides),
        *_different_keys(expected, found, besides),
        *_different_parameters(expected, found, besides),
    ]


def _different_rows(
    what: str, expected: dict[Any, Facts], found: dict[Any, Facts], besides: frozenset[str]
) -> list[str]:
    told = [f"{what} {name!r} is missing" for name in expected.keys() - found.keys()]
    told += [f"{what} {name!r} is there" for name in found.keys() - expected.keys() if _owner(name) not in besides]
    for name in expected.keys() & found.keys():
        told += [
            f"{what} {name!r}: {field} is {found[name][field]!r}, not {value!r}"
            for field, value in expected[name].items()
            if not _same(field, value, found[name][field])
        ]
    return told


def _owner(name: Any) -> str:
    return name if isinstance(name, str) else name[0]


def _same(field: str, expected: Any, found: Any) -> bool:
    if expected is ...:
        return found is not None
    if field == "params":
        return connection.canonical(found) == connection.canonical(expected)
    return found == expected and (type(found) is type(expected) or isinstance(found, datetime))


def _different_keys(expected: Expected, found: Registry, besides: frozenset[str]) -> list[str]:
    told, seen = [], Counter()
    for row in found.keys:
        names = [(row["provider"], row["environment"], row["secret"]), (row["provider"], None, row["secret"])]
        name = next((name for name in names if name in expected.keys), None)
        if name is None:
            told += [f"key {row['hint']} of {names[0][:2]} is there"] if row["provider"] not in besides else []
            continue
        seen[name] += 1
        told += [
            f"key {name!r}: {field} is {row[field]!r}, not {value!r}"
            for field, value in expected.keys[name].items()
            if not _same(field, value, row[field])
        ]
    return told + [f"key {name!r} is there {seen[name]} times" for name in expected.keys if seen[name] != 1]


def _different_parameters(expected: Expected, found: Registry, besides: frozenset[str]) -> list[str]:
    open_ends = {"api_key", "null-value"}  # a key, or a row without a value: the documents leave their place open
    told = [f"parameter {name!r} is missing" for name in expected.parameters.keys() - found.parameters.keys()]
    told += [
        f"parameter {name!r} is there"
        for name in found.parameters.keys() - expected.parameters.keys()
        if name[1] not in open_ends and name[0] not in besides
    ]
    for name in expected.parameters.keys() & found.parameters.keys():
        values, sensitive = expected.parameters[name]
        row = found.parameters[name]
        if row["value"] not in values:
            told.append(f"parameter {name!r} is {row['value']!r}")
        if sensitive is not None and row["is_sensitive"] is not sensitive:
            told.append(f"parameter {name!r} is {'' if row['is_sensitive'] else 'not '}encrypted")
    return told


def in_the_clear(legacy: LegacyDatabase, text: str) -> list[str]:
    """Secrets of the source, its tokens and its keys that `text` gives away."""
    hidden = [*legacy.expected.secrets, *legacy.legacy_keys]
    return sorted(
        {secret[:40] for secret in hidden if secret in text} | ({"a Fernet token"} if "gAAAAA" in text else set())
    )
