"""Columns that hold anything at all, as SQLite allows: no value of a row may stop the import of the others."""

from __future__ import annotations

import json
import random
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.providers.importers.commanding import migrate
from tests.providers.importers.legacy_databases import LegacyDatabase, build
from tests.providers.importers.legacy_rows import PASSPHRASE, sealed
from tests.providers.importers.registry_view import in_the_clear, registry

pytestmark = pytest.mark.django_db

JUNK: list[Any] = [
    None,
    "",
    " ",
    "\0",
    "a\0b",
    "null",
    "true",
    "NaN",
    "0",
    "-1",
    "1e400",
    0,
    -1,
    2,
    2**31,
    2**62,
    1.5,
    float("inf"),
    b"",
    b"\xff\xfe",
    b"\x00",
    "[]",
    "{}",
    "[" * 500,
    '{"a": ' * 200,
    '{"a": 1e999}',
    r'{"\ud800": "\udfff"}',
    r'{"\u0000": {"api_key": "\u0000"}}',
    '{"api_key": ["x", {"api_key": null}], "headers": [1]}',
    '{"base_url": 7, "timeout": "x"}',
    '{"headers": "Authorization: Bearer junk"}',
    '{"api_key": 12345}',
    '"{\\"api_key\\": \\"sk-twice-in-junk\\"}"',
    '[["chat"], {"chat": 1}, null, 3]',
    "chat;tools",
    "('chat', 'tools')",
    "{'chat': True}",
    "2024-02-30",
    "0000-00-00 00:00:00",
    "9999-12-31 23:59:59.999999",
    "0001-01-01",
    "infinity",
    "1700000000000",
    "x" * 70_000,
    "\u202e\u200b",
    "𝕏\U0010ffff",
    "gAAAAA",
    "${HOME}",
    "https://user:pass@host/",
    "DROP TABLE llm_providers; --",
]
IDS = [value for value in JUNK if not any(secret in str(value) for secret in ("api_key", "gAAAA"))]
"""A report names rows by their ids, so what is no secret may be one."""


@pytest.fixture(params=range(2))
def junk(request: pytest.FixtureRequest, tmp_path: Path) -> LegacyDatabase:
    chosen = random.Random(request.param)
    legacy = build(f"sqlite:///{tmp_path}/legacy.sqlite3", "gateway", messy=False)
    # Without its constraints, as a table is after somebody's own copy of it.
    for table, columns in legacy.family.columns.items():
        legacy.change(f"DROP TABLE {table}")
        legacy.change(f"CREATE TABLE {table} ({', '.join(sorted(columns))})")
    with closing(sqlite3.connect(tmp_path / "legacy.sqlite3")) as connection, connection:
        for table, values in _rows(legacy, chosen):
            places = ", ".join("?" * len(values))
            connection.execute(f"INSERT INTO {table} ({', '.join(values)}) VALUES ({places})", list(values.values()))
    return legacy


def _rows(legacy: LegacyDatabase, chosen: random.Random) -> Iterator[tuple[str, dict[str, Any]]]:
    def row(table: str, **known: Any) -> tuple[str, dict[str, Any]]:
        return table, {column: chosen.choice(JUNK) for column in sorted(legacy.family.columns[table])} | known

    providers = ["openai-main", "second", "trimmed ", 7, None, "", "x" * 256, b"bytes"]
    for number, provider_id in enumerate(providers):
        yield row("llm_providers", provider_id=provider_id)
        for of_it in range(12):
            owner = chosen.choice(providers)
            name = chosen.choice(IDS) if of_it % 4 == 0 else f"id-{number}-{of_it}"
            yield row("llm_models", provider_id=owner, model_id=name)
            key = chosen.choice([f"sk-{number}-{of_it}", sealed(f"sk-s-{number}-{of_it}", PASSPHRASE), *JUNK[:20]])
            row_id = 100 * number + of_it
            yield row("llm_provider_api_keys", provider_id=owner, key_id=row_id, key_value=key)
            yield row("llm_provider_connection_parameters", provider_id=owner, param_id=row_id, param_name=name)


def test_no_value_stops_the_import(junk, tmp_path):
    said = migrate(junk, tmp_path, "--apply")
    assert said.status == 2, said.screen[-2000:]
    assert "failed" not in said.codes
    for table, counts in said.tables.items():
        assert counts["rows"] == sum(counts[name] for name in ("imported", "merged", "rejected", "left_out")), table
    before = registry()
    again = migrate(junk, tmp_path, "--apply")
    assert registry() == before
    assert again.status == 2
    verified = migrate(junk, tmp_path, "--verify")
    assert [finding for finding in verified.findings if finding["code"] in {"missing_here", "differs_here"}] == []
    assert not any(row["secret"].startswith("gAAAA") for row in before.keys)
    assert in_the_clear(junk, said.text) == []
    assert "sk-twice-in-junk" not in said.text
    json.dumps(said.report)
