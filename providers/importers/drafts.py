"""What an import wants to write: rows in the registry's shape, each with its origin in the source. No ORM, no I/O."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from providers.importers.findings import Finding, Outcome
from providers.secrets import Secret


class Kind(enum.StrEnum):
    PROVIDER = "provider"
    KEY = "key"
    PARAMETER = "parameter"
    MODEL = "model"


@dataclass(frozen=True, slots=True)
class Origin:
    """A source row: its table, its primary key as text, and a keyed digest of the row as it was found.

    `inside` marks a value that was found within a row and became a draft of its own, such as a key of connection_params. Its
    `key` has the place appended (`openai#connection_params.api_key`), its `digest` is the row's, and it counts for no row of
    the table, neither as a draft's origin nor among those `merged`.
    """

    table: str
    key: str
    digest: str
    inside: bool = False


@dataclass(frozen=True, slots=True)
class Draft:
    """One row that the source wants the registry to have.

    It is the same row as a registry row with the same provider and: nothing else (provider), `name` (model: `model_id`),
    `name` and `environment` (parameter: `param_name`), the secret's fingerprint and `environment` (key).
    `facts` holds fields of the Django model by name; a field that it does not name is left alone. `secrets` holds what is
    stored encrypted: of a provider the members of connection_params by JSON path (see `providers.connection`), of a key
    `secret`, of a sensitive parameter `value` (a plain one has its value in `facts["plain_value"]`).
    """

    kind: Kind
    origin: Origin
    provider_id: str
    facts: Mapping[str, Any]
    name: str = ""
    environment: str = ""
    secrets: Mapping[str, Secret] = field(default_factory=dict)
    updated_at: datetime | None = None
    """When the source last changed it: stored with the row, compared never, as the registry counts its own edits."""
    merged: tuple[Origin, ...] = ()
    """Source rows that said the same and are one with this row."""


@dataclass(frozen=True, slots=True)
class Bundle:
    """A provider with its parts: what is written in one savepoint. `models` may be long: it comes in batches,
    and once.

    Without `provider`, the parts belong to a provider that an earlier bundle brought or the registry has.
    """

    provider_id: str
    provider: Draft | None
    keys: Sequence[Draft] = ()
    parameters: Sequence[Draft] = ()
    models: Iterable[Sequence[Draft]] = ()


class Ledger(Protocol):
    """Where a source says what becomes of its rows; nothing of it may be silent.

    For every table: rows read = imported + merged + rejected + left out. What a draft becomes the engine counts itself,
    `merged` origins included; a source counts the rows that make no draft.
    """

    def read(self, table: str, rows: int = 1) -> None: ...

    def count(self, table: str, outcome: Outcome, rows: int = 1) -> None: ...

    def find(self, finding: Finding) -> None: ...


class Source(Protocol):
    """A system to import from, open for reading only."""

    label: str
    """Where it is, for people: without credentials."""
    identity: str
    """The same for the same source on every run, at most 64 characters: what provenance is kept under."""
    facts: Mapping[str, Any]
    """What the report says of it: engine, generation, options. JSON, no secrets."""
    rows: Mapping[str, int]
    """Rows by table, for the progress bar."""

    def bundles(self, ledger: Ledger) -> Iterator[Bundle]:
        """Everything, in an order that is the same each time. A bundle's models are used up before the next is asked for."""
        ...

    def close(self) -> None: ...


class SourceError(Exception):
    """The source cannot be read; the text says why and what to do, and holds no secret."""
