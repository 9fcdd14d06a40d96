"""The legacy's tables that the gateway has no place for: counted, named with the reason, searched for broken references.

Nothing of them is imported, yet nothing of them is passed over in silence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from providers.importers.drafts import Kind, Ledger
from providers.importers.findings import NO_PLACE, SIDE_ORPHAN, Finding, Outcome
from providers.importers.generations import Schema
from providers.importers.readonly import ReadOnlyDatabase
from providers.importers.records import shown

REASONS = {
    "users": "Accounts are made here by an administrator and passwords do not travel; names are kept as authors.",
    "roles": "What a person may do here is said by the groups of the admin, which an administrator assigns.",
    "users_providers": "Who may use which provider is said here by client keys and teams, which an administrator makes.",
    "configurations": "Settings of the backoffice itself; the gateway's are in its environment and its admin.",
    "user_settings": "Personal settings of the backoffice's screens.",
    "audit_logs": "History stays where it was written; the gateway's audit log begins with this import.",
    "api_key_usage": "Usage by legacy keys and users; the gateway counts its own by client key from the first request.",
    "llm_provider_audit_logs": "History stays where it was written; the gateway's audit log begins with this import.",
}
_BATCH = 1000

Equal = Callable[[str, str, str, str], Any]
"""How the database compares two columns: table and column of a child, table and column of a parent."""


@dataclass(frozen=True, slots=True)
class _Reference:
    table: str
    column: str
    what: str
    parents: tuple[tuple[str, str], ...]


def account_for(
    database: ReadOnlyDatabase, schema: Schema, rows: Mapping[str, int], equal: Equal, ledger: Ledger
) -> None:
    for table in schema.side:
        ledger.read(table, rows[table])
        ledger.count(table, Outcome.REJECTED, rows[table])
        detail = f"{rows[table]} rows are not imported. {REASONS[table]}"
        ledger.find(Finding(table, "*", "", NO_PLACE, "rejected", detail))
    for reference in _references(schema):
        for finding in _broken(database, reference, equal):
            ledger.find(finding)


def _references(schema: Schema) -> Iterator[_Reference]:
    providers = tuple((family.tables[Kind.PROVIDER].name, "provider_id") for family in schema.families)
    keys = tuple((family.tables[Kind.KEY].name, "key_id") for family in schema.families)
    wanted = [
        _Reference("users_providers", "provider_id", "provider", providers),
        _Reference("users_providers", "user_id", "user", (("users", "id"),)),
        _Reference("api_key_usage", "key_id", "key", keys),
        _Reference("api_key_usage", "user_id", "user", (("users", "id"),)),
    ]
    for reference in wanted:
        has_column = reference.column in schema.side.get(reference.table, ())
        if has_column and (reference.what != "user" or "id" in schema.side.get("users", ())):
            yield reference


def _broken(database: ReadOnlyDatabase, reference: _Reference, equal: Equal) -> Iterator[Finding]:
    """A finding for each thing that is named and does not exist, with how often: usage has a row for every day."""
    child = sa.table(reference.table, sa.column(reference.column))
    named = child.c[reference.column]
    missing = [
        ~sa.exists(
            sa.select(sa.literal_column("1"))
            .select_from(sa.table(parent))
            .where(equal(reference.table, reference.column, parent, column))
        )
        for parent, column in reference.parents
    ]
    statement = (
        sa.select(named, sa.func.count())
        .select_from(child)
        .where(named.is_not(None), *missing)
        .group_by(named)
        .order_by(named)
    )
    for batch in database.stream(statement, _BATCH):
        yield from (_finding(reference, row) for row in batch)


def _finding(reference: _Reference, row: Sequence[Any]) -> Finding:
    name, count = shown(str(row[0])), row[1]
    times = "One row names" if count == 1 else f"{count} rows name"
    detail = f"{times} the {reference.what} {name}, which the source does not have."
    return Finding(
        reference.table, shown(f"{reference.column}={name}"), reference.column, SIDE_ORPHAN, "rejected", detail
    )
