"""Which tables of a database are the legacy backoffice's: its families, their columns, the tables beside them. Pure.

Three generations exist. A ("bo") has tables of its own; B ("bollm") and C (the LLM Gateway) share names and differ in
columns. A and B may stand in one database, where B is the registry. Tables of other products are none of our business, even
if they carry the same name: a table counts for a family when it has the column that every table of the family has.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from providers.importers.drafts import Kind, SourceError

Columns = Mapping[str, Sequence[str]]
"""Column names by table name, as the database lists them."""


class Generation(enum.StrEnum):
    A = "A"
    B = "B"
    C = "C"


@dataclass(frozen=True, slots=True)
class TableOf:
    """One table of a family; `columns` are those of the record's fields that it has, the others are absent."""

    name: str
    columns: frozenset[str]


@dataclass(frozen=True, slots=True)
class Family:
    generation: Generation
    tables: Mapping[Kind, TableOf]


@dataclass(frozen=True, slots=True)
class Schema:
    registry: Family
    """The family whose word counts."""
    older: Family | None = None
    """The family that stands beside the registry and is compared with it."""
    side: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """The legacy's other tables that exist, with their columns."""
    ignored: tuple[str, ...] = ()
    """Tables of a legacy name that belong to something else."""

    @property
    def families(self) -> tuple[Family, ...]:
        return (self.registry, self.older) if self.older else (self.registry,)

    @property
    def generations(self) -> str:
        return "+".join(sorted(family.generation for family in self.families))


OLDER_TABLES = {
    Kind.PROVIDER: "providers",
    Kind.MODEL: "provider_models",
    Kind.KEY: "api_keys",
    Kind.PARAMETER: "connection_parameters",
}
NEWER_TABLES = {
    Kind.PROVIDER: "llm_providers",
    Kind.MODEL: "llm_models",
    Kind.KEY: "llm_provider_api_keys",
    Kind.PARAMETER: "llm_provider_connection_parameters",
}
SIDE_TABLES = (
    *("users", "roles", "users_providers", "configurations", "user_settings"),
    *("audit_logs", "api_key_usage", "llm_provider_audit_logs"),
)

_KEY = ("key_id", "provider_id", "key_value", "is_encrypted", "environment")
_PARAMETER = ("param_id", "provider_id", "param_name", "param_value", "is_sensitive", "environment")
OLDER_COLUMNS = {
    Kind.PROVIDER: ("provider_id", "provider_type", "display_name", "enabled"),
    Kind.MODEL: ("model_id", "provider_id", "display_name", "enabled"),
    Kind.KEY: _KEY,
    Kind.PARAMETER: _PARAMETER,
}
"""What a table has to have: everything whose want would mean that values are lost. Times, texts and limits may want."""
NEWER_COLUMNS = {
    **OLDER_COLUMNS,
    Kind.PROVIDER: (*OLDER_COLUMNS[Kind.PROVIDER], "connection_params", "request_settings"),
    Kind.MODEL: (*OLDER_COLUMNS[Kind.MODEL], "max_tokens", "capabilities", "parameters"),
}

_MARK = "provider_id"
_LISTED = 30


def recognise(found: Columns) -> Schema:
    """What of the legacy stands in the database. Raises `SourceError` naming what is missing and what is there instead."""
    newer = _is_meant(found, NEWER_TABLES)
    # `api_keys` is a name that many products use, so it does not announce a family.
    older = _is_meant(found, {kind: name for kind, name in OLDER_TABLES.items() if kind is not Kind.KEY})
    if not newer and not older:
        raise SourceError(_nothing(found))
    families = []
    if newer:
        families.append(_family(found, _newer_generation(found), NEWER_TABLES, NEWER_COLUMNS))
    if older:
        families.append(_family(found, Generation.A, OLDER_TABLES, OLDER_COLUMNS))
    ignored = () if older else tuple(name for name in OLDER_TABLES.values() if name in found)
    side = {name: frozenset(found[name]) for name in SIDE_TABLES if name in found}
    return Schema(families[0], families[1] if families[1:] else None, side, ignored)


def _is_meant(found: Columns, tables: Mapping[Kind, str]) -> bool:
    return any(_MARK in found.get(name, ()) for name in tables.values())


def _newer_generation(found: Columns) -> Generation:
    """Only B keeps `max_output_tokens`, and only C the author of a provider and an audit table of its own."""
    if "max_output_tokens" in found.get("llm_models", ()):
        return Generation.B
    of_c = "created_by_user_id" in found.get("llm_providers", ()) or "llm_provider_audit_logs" in found
    return Generation.C if of_c or "llm_models" in found else Generation.B


def _family(
    found: Columns, generation: Generation, tables: Mapping[Kind, str], needed: Mapping[Kind, Sequence[str]]
) -> Family:
    missing = [f"table {name}" for name in tables.values() if name not in found]
    for kind, name in tables.items():
        if name in found:
            missing += [f"column {name}.{column}" for column in needed[kind] if column not in found[name]]
    if missing:
        raise SourceError(
            f"This database has part of the legacy tables of generation {generation}, but not: {', '.join(missing)}. "
            f"Found were: {_listing(found, tables.values())}. Complete the copy of the database, or name another one."
        )
    return Family(generation, {kind: TableOf(name, frozenset(found[name])) for kind, name in tables.items()})


def _nothing(found: Columns) -> str:
    newer, older = ", ".join(NEWER_TABLES.values()), ", ".join(OLDER_TABLES.values())
    lookalikes = [
        f"{name} is there, but without the columns {', '.join(c for c in OLDER_COLUMNS[kind] if c not in found[name])}"
        for kind, name in OLDER_TABLES.items()
        if name in found
    ]
    lookalikes += [f"{name} is there, but without {_MARK}" for name in NEWER_TABLES.values() if name in found]
    return (
        f"This database has no tables of the legacy backoffice: neither {newer} nor {older}. "
        f"Found were: {_listing(found, found)}{''.join('; ' + text for text in lookalikes)}. "
        "Check the database's name in the URL."
    )


def _listing(found: Columns, names: object) -> str:
    wanted = sorted(set(names) & set(found))  # type: ignore[call-overload]
    shown = ", ".join(wanted[:_LISTED]) or "no tables at all"
    return f"{shown} and {len(wanted) - _LISTED} more" if len(wanted) > _LISTED else shown
