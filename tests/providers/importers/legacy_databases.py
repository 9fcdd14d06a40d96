"""Whole legacy databases on real engines, clean or messy, and what an import has to make of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from tests.providers.importers.legacy_rows import (
    AUTHOR,
    AUTHOR_NAME,
    LATER,
    LEGACY_KEYS,
    MOMENT,
    Expected,
    Rows,
    clean_rows,
    messy_rows,
    sealed,
)
from tests.providers.importers.legacy_tables import GATEWAY, NEWER, OLDER, Family, statements

GENERATIONS = ("bo", "bollm", "gateway", "both")
"""A, B, C, and A with B in one database."""
FAMILIES = {"bo": OLDER, "bollm": NEWER, "gateway": GATEWAY, "both": NEWER}


@dataclass(frozen=True, slots=True)
class LegacyDatabase:
    url: str
    """As `--source` takes it."""
    engine: str
    """mysql, postgresql or sqlite."""
    generation: str
    legacy_keys: tuple[str, ...]
    expected: Expected
    family: Family
    """Names of the tables that hold the registry."""

    def change(self, statement: str, **values: Any) -> None:
        """Run one statement of SQL, as the legacy programs would in the meantime."""
        made = _connected(self.url)
        with made.begin() as connection:
            _do_not_check(connection)
            connection.execute(sa.text(statement), values)
        made.dispose()

    def insert(self, table: str, **values: Any) -> None:
        made = _connected(self.url)
        with made.begin() as connection:
            _do_not_check(connection)
            _insert(connection, table, values)
        made.dispose()

    def dump(self) -> dict[str, list[str]]:
        """Every table with every row, in an order that does not depend on the database."""
        made = _connected(self.url)
        with made.connect() as connection:
            names = sorted(sa.inspect(connection).get_table_names())
            quote = made.dialect.identifier_preparer.quote
            tables = {
                name: sorted(repr(tuple(row)) for row in connection.execute(sa.text(f"SELECT * FROM {quote(name)}")))
                for name in names
            }
        made.dispose()
        return tables

    def checksum(self) -> str:
        """Of the file, where the database is one; else of all tables."""
        if self.engine == "sqlite":
            return hashlib.sha256(Path(sa.make_url(self.url).database or "").read_bytes()).hexdigest()
        return hashlib.sha256(json.dumps(self.dump()).encode()).hexdigest()

    def key_files(self, folder: Path) -> list[Path]:
        """One file for each legacy key, as `--legacy-key-file` takes them."""
        files = []
        for number, key in enumerate(self.legacy_keys):
            file = folder / f"legacy-{number}.key"
            file.write_text(key + "\n")
            file.chmod(0o600)
            files.append(file)
        return files


def source_url(url: str) -> str:
    """A test server's URL with the driver that reads it."""
    scheme, _, rest = url.partition("://")
    drivers = {"mysql": "mysql+pymysql", "postgresql": "postgresql+psycopg"}
    return f"{drivers.get(scheme, scheme)}://{rest}"


def build(url: str, generation: str, messy: bool = True) -> LegacyDatabase:
    """Make the tables of a generation in an empty database and fill them.

    `generation` is one of `GENERATIONS`; `url` may name no driver, as those of the `mariadb_url` and `postgresql_url`
    fixtures.
    """
    url = source_url(url)
    made = _connected(url)
    engine = made.dialect.name
    expected = Expected()
    family = FAMILIES[generation]
    rows = Rows(family, engine, expected)
    if generation == "gateway":
        _gateway_audit(rows)
    else:
        _side_tables(rows, "users_providers" if messy else "")
    clean_rows(rows)
    if messy:
        messy_rows(rows)
    inserts = list(rows.inserts)
    if generation == "both":
        inserts += _older_beside_newer(engine, expected)
    with made.begin() as connection:
        for statement in statements(engine, generation):
            connection.execute(sa.text(statement))
    with made.begin() as connection:
        _do_not_check(connection)
        for table, values in inserts:
            _insert(connection, table, values)
    made.dispose()
    return LegacyDatabase(url, engine, generation, LEGACY_KEYS, expected, family)


def _connected(url: str) -> sa.Engine:
    return sa.create_engine(url, poolclass=sa.NullPool)


def _do_not_check(connection: sa.Connection) -> None:
    """Let orphans in, as databases that grew without foreign keys hold them."""
    statement = {
        "mysql": "SET FOREIGN_KEY_CHECKS = 0, sql_mode = '', time_zone = '+00:00'",
        "postgresql": "SET LOCAL session_replication_role = replica",
        "sqlite": "PRAGMA foreign_keys = OFF",
    }
    connection.execute(sa.text(statement[connection.dialect.name]))


def _insert(connection: sa.Connection, table: str, values: Mapping[str, Any]) -> None:
    columns = [sa.column(name) for name in values]
    connection.execute(sa.insert(sa.table(table, *columns)).values(dict(values)))


def _side_tables(rows: Rows, mess: str) -> None:
    rows.side("roles", {"id": 1, "name": "admin", "description": None}, {"id": 2, "name": "user", "description": "All"})
    rows.side(
        "users",
        _user(AUTHOR, AUTHOR_NAME, role_id=1),
        _user(8, "grace", role_id=2),
    )
    assignment = {"role": "admin", "created_at": MOMENT}
    rows.side("users_providers", assignment | {"user_id": AUTHOR, "provider_id": "openai-main"})
    rows.side(
        "configurations",
        _setting(1, "default_provider", "openai-main", "string"),
        _setting(2, "max_retries", "3", "integer"),
        _setting(3, "smtp_password", "configured-password", "string"),
        _setting(4, "max_retries", "three", "integer", environment="production"),
    )
    rows.side("user_settings", {"id": 1, "user_id": AUTHOR, "setting_key": "theme", "setting_value": "dark"})
    entry = {"table_name": rows.family.keys, "record_id": "1", "action": "create", "changed_by_user_id": AUTHOR}
    told = json.dumps({"key_value": "sk-told-by-the-audit-log"})
    rows.side("audit_logs", entry | {"id": 1, "changed_at": MOMENT, "old_values": None, "new_values": told})
    usage = {"user_id": AUTHOR, "usage_date": "2023-06-01", "request_count": 5, "tokens_used": 700}
    rows.side("api_key_usage", usage | {"id": 1, "key_id": 1})
    rows.expected.secrets |= {"configured-password", "sk-told-by-the-audit-log", "hash-of-ada", "hash-of-grace"}
    if mess:
        rows.side("users_providers", assignment | {"user_id": 99, "provider_id": "nobody"})
        rows.side("api_key_usage", usage | {"id": 2, "key_id": 9999})


def _user(number: int, name: str, role_id: int) -> dict[str, Any]:
    return {
        "id": number,
        "username": name,
        "email": f"{name}@example.org",
        "password_hash": f"hash-of-{name}",
        "role_id": role_id,
    }


def _setting(number: int, key: str, value: str, kind: str, environment: str = "development") -> dict[str, Any]:
    return {"id": number, "config_key": key, "config_value": value, "config_type": kind, "environment": environment}


def _gateway_audit(rows: Rows) -> None:
    told = json.dumps({"key_value": "sk-told-by-the-audit-log"})
    rows.side(
        "llm_provider_audit_logs",
        {
            "log_id": 1,
            "table_name": "llm_models",
            "record_id": "openai-main:gpt-4o",
            "action": "update",
            "changed_by_user_id": AUTHOR,
            "old_values": told,
            "new_values": told,
            "timestamp": MOMENT,
        },
    )
    rows.expected.secrets.add("sk-told-by-the-audit-log")


def _older_beside_newer(engine: str, expected: Expected) -> list[tuple[str, dict[str, Any]]]:
    """Rows of A beside B's: equal, different, and only there."""
    # What A's rows have to become is stated apart: B's row, or one of their own.
    apart = Expected(side_tables=expected.side_tables)
    rows = Rows(OLDER, engine, apart)
    rows.provider("openai-main", display_name="OpenAI", description="The first one", outcome="merged")
    rows.provider("azure/prod:eu", display_name="An older name", outcome=None, codes="differs_from_registry")
    rows.model("openai-main", "gpt-4o", outcome="merged")
    rows.model("azure/prod:eu", "azure-only-in-a", codes="only_in_older")
    rows.key("openai-main", sealed("sk-clean-openai-main"), outcome="merged")
    rows.key("openai-main", sealed("sk-only-in-a"), is_now="sk-only-in-a", codes="only_in_older")
    rows.parameter("openai-main", "region", "region of development", outcome="merged")
    rows.parameter(
        "openai-main", "region", "another", environment="staging", outcome=None, codes="differs_from_registry"
    )
    rows.provider("only-in-a", codes="only_in_older", updated_at=LATER)
    rows.model("only-in-a", "model-only-in-a", codes="only_in_older")
    rows.key("only-in-a", "sk-of-only-in-a", is_now="sk-of-only-in-a", is_encrypted=False)
    rows.parameter("only-in-a", "region", "old town", environment="production")
    rows.model("nobody", "an-orphan-of-a", outcome="rejected", codes="orphan")
    expected.fates += apart.fates
    expected.rows += apart.rows
    expected.secrets |= apart.secrets
    expected.providers |= apart.providers
    expected.models |= apart.models
    expected.keys |= apart.keys
    expected.parameters |= apart.parameters
    return rows.inserts
