"""The legacy backoffice as a source of an import: its rows as drafts, provider by provider, and what becomes of each row.

Providers, keys, parameters and users are held in memory; models come as a stream. What a value means is decided by
`mapping`, which tables there are by `generations`, how the database is kept from harm by `readonly`.

Where an older family of tables stands beside the registry, the registry's bundles come first. The older rows follow, each
compared with its counterpart: equal ones are merged, different ones reported, others imported and named.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from operator import itemgetter
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import sqlalchemy as sa

from providers import keyring, provider_types
from providers.importers import generations, mapping, merging, readonly, side_tables
from providers.importers.drafts import Bundle, Draft, Kind, Ledger, Origin, SourceError
from providers.importers.findings import (
    DIFFERS_FROM_REGISTRY,
    DUPLICATE,
    DUPLICATE_DIFFERS,
    ENVIRONMENT_GUESSED,
    ONLY_IN_OLDER,
    ORPHAN,
    PARENT_MATCHED,
    PARENT_REJECTED,
    Code,
    Finding,
    Outcome,
)
from providers.importers.generations import Family, Schema
from providers.importers.legacy_keys import LegacyKeys
from providers.importers.legacy_texts import readable, usable_id
from providers.importers.options import Options
from providers.importers.readonly import Column, ReadOnlyDatabase
from providers.importers.records import Table, Values, shown
from providers.importers.taken_references import TakenReferences
from providers.secrets import Secret

_NAMED = 20


@dataclass(slots=True, eq=False)
class _Provider:
    """A provider row and what is known of it while its parts are read."""

    raw_id: str
    draft: Draft | None = None
    is_wanted: bool = True
    counterpart: _Provider | None = None
    """The registry's provider of the same id, for one of the older family."""
    keys: list[Draft] = field(default_factory=list)
    extra_keys: list[Draft] = field(default_factory=list)
    """Keys that were found in other places than the table of keys."""
    parameters: list[Draft] = field(default_factory=list)
    settled: dict[tuple[Kind, str | Secret, str], Draft] = field(default_factory=dict)
    """Keys and parameters that were handed on."""
    names: set[str] = field(default_factory=set)
    """Of the models that were handed on, while they are."""
    is_given: bool = False

    @property
    def provider_id(self) -> str:
        whose = self.counterpart or self
        return whose.draft.provider_id if whose.draft else self.raw_id


_Map = Callable[[Any, Origin, mapping.Ways], mapping.Mapped]
_MAPS: Mapping[Kind, _Map] = {
    Kind.PROVIDER: mapping.provider,
    Kind.MODEL: mapping.model,
    Kind.KEY: mapping.key,
    Kind.PARAMETER: mapping.parameter,
}


def open(options: Options, *, default_environment: str, now: datetime) -> Backoffice:
    """Raises `SourceError` when the database cannot be read or is none of the legacy's."""
    try:
        zone = ZoneInfo(options.naive_timezone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise SourceError(f"{options.naive_timezone!r} is no time zone of the IANA database, such as UTC.") from None
    opener = LegacyKeys(options.legacy_keys)
    database = readonly.open_database(options.source_url)
    try:
        columns = database.columns()
        schema = generations.recognise({name: [column.name for column in found] for name, found in columns.items()})
        ways = mapping.Ways(
            naive_timezone=zone,
            default_environment=default_environment,
            now=now,
            users=_users(database, schema),
            opener=opener,
            known_types=frozenset(provider_types.registered()),
        )
        source = Backoffice(database, columns, schema, options, ways)
        source.refuse_unknown_names()
    except BaseException:
        database.close()
        raise
    return source


def _users(database: ReadOnlyDatabase, schema: Schema) -> dict[int, str]:
    if not {"id", "username"} <= schema.side.get("users", frozenset()):
        return {}
    users = sa.table("users", sa.column("id"), sa.column("username"))
    found = database.fetch(sa.select(users.c.id, users.c.username))
    return {number: readable(name) for number, name in found if isinstance(number, int) and name}


class Backoffice:
    """A legacy database, open for reading only; satisfies `Source`."""

    def __init__(
        self,
        database: ReadOnlyDatabase,
        columns: Mapping[str, Sequence[Column]],
        schema: Schema,
        options: Options,
        ways: mapping.Ways,
    ) -> None:
        self._database, self._columns, self._schema = database, columns, schema
        self._options, self._ways = options, ways
        self.label, self.identity = database.address.label, database.address.identity
        pepper = keyring.peppers().derive("import")
        self._tables = {
            (family.generation, kind): Table(kind, table, columns[table.name], pepper)
            for family in schema.families
            for kind, table in family.tables.items()
        }
        names = [table.name for table in self._tables.values()] + list(schema.side)
        self.rows = {name: self._count(name) for name in names}
        self.facts = {
            "engine": database.dialect,
            "generations": schema.generations,
            "tables": names,
            "tables_of_others": list(schema.ignored),
            "options": options.shown(),
        }

    def close(self) -> None:
        self._database.close()

    def bundles(self, ledger: Ledger) -> Iterator[Bundle]:
        yield from TakenReferences().bundles(self._bundles(ledger), ledger)

    def _bundles(self, ledger: Ledger) -> Iterator[Bundle]:
        newer = self._providers(self._schema.registry, {}, ledger)
        yield from self._family(self._schema.registry, newer, {}, ledger)
        if self._schema.older:
            older = self._providers(self._schema.older, newer, ledger)
            yield from self._family(self._schema.older, older, newer, ledger)
        side_tables.account_for(self._database, self._schema, self.rows, self._equal, ledger)

    def refuse_unknown_names(self) -> None:
        """A misspelt `--only` would look like an import that had nothing to do."""
        wanted = set(self._options.only)
        if not wanted:
            return
        there: set[str] = set()
        for family in self._schema.families:
            table = self._tables[family.generation, Kind.PROVIDER]
            there |= {str(table.owner(values)).strip() for values in self._all(table)}
        if unknown := sorted(wanted - there):
            some = ", ".join(shown(name) for name in sorted(there)[:_NAMED]) or "none"
            more = f" and {len(there) - _NAMED} more" if len(there) > _NAMED else ""
            raise SourceError(f"The source has no provider {', '.join(unknown)}. It has: {some}{more}.")

    # --- Reading ----------------------------------------------------------------------------------------------------------

    def _count(self, table: str) -> int:
        return int(self._database.fetch(sa.select(sa.func.count()).select_from(sa.table(table)))[0][0])

    def _all(self, table: Table) -> Iterator[Values]:
        return table.read(self._database.fetch(table.select()))

    def _counted(self, table: Table, ledger: Ledger) -> Iterator[Values]:
        rows = self._database.fetch(table.select())
        ledger.read(table.name, len(rows))  # MyISAM has no snapshot: there may be more than were counted at first
        return table.read(rows)

    def _map(self, table: Table, values: Values, provider_id: str) -> mapping.Mapped:
        record = table.record(table.name, *table.belonging(values, provider_id))
        return _MAPS[table.kind](record, table.origin(values), self._ways)

    # --- Providers --------------------------------------------------------------------------------------------------------

    def _providers(self, family: Family, newer: Mapping[str, _Provider], ledger: Ledger) -> dict[str, _Provider]:
        """Every provider row of a family by its id as the table spells it, in an order that is the same each time."""
        table = self._tables[family.generation, Kind.PROVIDER]
        counterparts = self._counterparts(table.name, newer) if newer else {}
        taken: dict[str, Draft] = {}
        found: dict[str, _Provider] = {}
        rows = list(self._counted(table, ledger))
        rows.sort(key=lambda values: usable_id(table.owner(values)) != table.owner(values))
        for values in rows:  # those whose id needs no repair first: of two that become equal, they win
            raw_id = table.owner(values)
            provider = _Provider(str(raw_id), counterpart=counterparts.get(str(raw_id)))
            if self._is_wanted(provider):
                self._read_provider(provider, table, values, counterparts, taken, ledger)
            else:
                provider.is_wanted = False
                ledger.count(table.name, Outcome.LEFT_OUT)
            if raw_id is not None:
                found.setdefault(provider.raw_id, provider)
        return found

    def _is_wanted(self, provider: _Provider) -> bool:
        if provider.counterpart and provider.counterpart.is_wanted:
            return True
        return not self._options.only or provider.raw_id.strip() in self._options.only

    def _read_provider(
        self,
        provider: _Provider,
        table: Table,
        values: Values,
        counterparts: Mapping[str, _Provider],
        taken: dict[str, Draft],
        ledger: Ledger,
    ) -> None:
        mapped = self._map(table, values, table.owner(values))
        draft = mapped.draft
        if draft is None:
            _tell(mapped.findings, ledger)
            ledger.count(table.name, Outcome.REJECTED)
            return
        if draft.provider_id in taken:
            detail = f"{taken[draft.provider_id].origin.key} came first and is the same id once repaired."
            ledger.find(_finding(draft.origin, "provider_id", DUPLICATE_DIFFERS, "rejected", detail))
            ledger.count(table.name, Outcome.REJECTED)
            return
        provider.draft = taken[draft.provider_id] = draft
        provider.extra_keys += self._keys_inside(mapped.keys, ledger)
        provider.counterpart = provider.counterpart or counterparts.get(draft.provider_id)
        if provider.counterpart and provider.counterpart.draft:
            self._compare(draft, provider.counterpart.draft, ledger)
            return
        _tell(mapped.findings, ledger)
        if self._schema.older and table is self._tables[self._schema.older.generation, Kind.PROVIDER]:
            ledger.find(_only_in_older(draft))

    def _counterparts(self, older: str, newer: Mapping[str, _Provider]) -> dict[str, _Provider]:
        """The registry's providers by their ids, as the older table spells them too."""
        registry = self._tables[self._schema.registry.generation, Kind.PROVIDER].name
        found = {provider.provider_id: provider for provider in newer.values() if provider.draft}
        found |= {raw_id: provider for raw_id, provider in newer.items() if provider.draft}
        for spelling, meant in self._respelt(older, registry).items():
            if meant in found:
                found.setdefault(spelling, found[meant])
        return found

    def _compare(self, draft: Draft, settled: Draft, ledger: Ledger) -> None:
        """Account for a row that another one stands for already: one of the newer tables, or a key that was handed on."""
        differing = () if draft.origin.inside else merging.differences(draft, settled)
        where = f"{settled.origin.table} {settled.origin.key}"
        for name in differing:
            detail = f"{where} says something else and won."
            ledger.find(_finding(draft.origin, name, DIFFERS_FROM_REGISTRY, "rejected", detail))
        if not differing:
            ledger.find(_finding(draft.origin, "", DUPLICATE, "merged", f"{where} says the same."))
        _count([draft.origin], Outcome.REJECTED if differing else Outcome.MERGED, ledger)
        _count(draft.merged, Outcome.MERGED, ledger)

    # --- Parents ----------------------------------------------------------------------------------------------------------

    def _parents(
        self, child: Table, family: Family, providers: Mapping[str, _Provider], newer: Mapping[str, _Provider]
    ) -> _Parents:
        respelt: dict[str, str] = {}
        for parent in (family, self._schema.registry):
            for spelling, meant in self._respelt(child.name, parent.tables[Kind.PROVIDER].name).items():
                respelt.setdefault(spelling, meant)
        return _Parents({**newer, **providers}, respelt)

    def _respelt(self, child: str, parent: str) -> dict[str, str]:
        """The parent's spelling of ids that the database takes as equal though they differ in case or blanks.

        Only MySQL does; the question is left to it, as each collation has rules of its own.
        """
        if self._database.dialect != "mysql":
            return {}
        join = sa.table(child).join(sa.table(parent), self._equal(child, "provider_id", parent, "provider_id"))
        mine, theirs = f"{child}.provider_id", f"{parent}.provider_id"
        my_bytes, their_bytes = f"CAST({mine} AS BINARY)", f"CAST({theirs} AS BINARY)"
        # DISTINCT would take all spellings of an id for one. Those of a group are the same to the byte.
        statement: Any = (
            sa.select(sa.literal_column(f"MIN({mine})"), sa.literal_column(f"MIN({theirs})"))
            .select_from(join)
            .where(sa.text(f"{my_bytes} <> {their_bytes}"))
            .group_by(sa.text(my_bytes), sa.text(their_bytes))
        )
        return dict(self._database.fetch(statement))

    def _equal(self, child: str, column: str, parent: str, parent_column: str) -> Any:
        """Whether a child names the parent. Columns of different collations do not meet unless the parent's is asked for,
        and only in that does its index help. All names are words of ours."""
        mine, theirs = f"{child}.{column}", f"{parent}.{parent_column}"
        collation = next((found.collation for found in self._columns[parent] if found.name == parent_column), "")
        if collation.replace("_", "").isalnum():
            mine = f"CONVERT({mine} USING {collation.partition('_')[0]}) COLLATE {collation}"
        return sa.text(f"{theirs} = {mine}")

    def _place(self, table: Table, values: Values, parents: _Parents, ledger: Ledger) -> _Provider | None:
        """Whose row it is; None when it has been accounted for."""
        raw_id = table.owner(values)
        parent = parents.find(raw_id)
        if parent and parent.is_wanted and parent.draft:
            if parents.is_respelt(raw_id):
                detail = f"Written as {shown(str(raw_id))!r}, it belongs to {parent.provider_id!r}."
                ledger.find(Finding(table.name, table.key(values), "provider_id", PARENT_MATCHED, "repaired", detail))
            return parent
        if (parent and not parent.is_wanted) or (parent is None and self._options.only):
            ledger.count(table.name, Outcome.LEFT_OUT)
            return None
        code, what = (PARENT_REJECTED, "was rejected") if parent else (ORPHAN, "does not exist")
        detail = f"Its provider {shown(str(raw_id))!r} {what}."
        ledger.find(Finding(table.name, table.key(values), "provider_id", code, "rejected", detail))
        ledger.count(table.name, Outcome.REJECTED)
        return None

    # --- Keys and parameters ----------------------------------------------------------------------------------------------

    def _read_parts(
        self,
        kind: Kind,
        family: Family,
        providers: Mapping[str, _Provider],
        newer: Mapping[str, _Provider],
        ledger: Ledger,
    ) -> None:
        table = self._tables[family.generation, kind]
        parents = self._parents(table, family, providers, newer)
        for values in self._counted(table, ledger):
            if not (parent := self._place(table, values, parents, ledger)):
                continue
            mapped = self._map(table, values, parent.provider_id)
            draft = mapped.draft
            if draft and not self._is_wanted_environment(draft):
                ledger.count(table.name, Outcome.LEFT_OUT)
                continue
            _tell(mapped.findings, ledger)
            parent.extra_keys += self._keys_inside(mapped.keys, ledger)
            if draft is None:
                ledger.count(table.name, Outcome.REJECTED)
            elif kind is Kind.KEY:
                parent.keys.append(draft)
            else:
                parent.parameters.append(draft)

    def _is_wanted_environment(self, draft: Draft) -> bool:
        return not self._options.environments or draft.environment in self._options.environments

    def _keys_inside(self, drafts: Sequence[Draft], ledger: Ledger) -> Iterator[Draft]:
        for draft in drafts:
            if self._is_wanted_environment(draft):
                yield draft
            else:
                detail = f"It was taken for one of {draft.environment}, which was not asked for."
                ledger.find(_finding(draft.origin, "", ENVIRONMENT_GUESSED, "left_out", detail))

    def _settle_parts(self, provider: _Provider, ledger: Ledger) -> tuple[list[Draft], list[Draft]]:
        """The keys and parameters to import, duplicates and what the registry has already settled."""
        merged_keys = merging.merge_keys(provider.keys + provider.extra_keys)
        merged_parameters = merging.merge_parameters(provider.parameters)
        provider.keys, provider.parameters, provider.extra_keys = [], [], []
        kept = []
        for merged in (merged_keys, merged_parameters):
            _tell(merged.findings, ledger)
            _count(merged.rejected, Outcome.REJECTED, ledger)
            kept.append(self._only_here(provider, merged.drafts, ledger))
        keys, parameters = kept
        provider.settled |= {_same(draft): draft for draft in (*keys, *parameters)}
        return keys, parameters

    def _only_here(self, provider: _Provider, drafts: Iterable[Draft], ledger: Ledger) -> list[Draft]:
        there = {**(provider.counterpart.settled if provider.counterpart else {}), **provider.settled}
        kept = []
        for draft in drafts:
            if other := there.get(_same(draft)):
                self._compare(draft, other, ledger)
                continue
            if provider.counterpart:
                ledger.find(_only_in_older(draft))
            kept.append(draft)
        return kept

    # --- Models and bundles -----------------------------------------------------------------------------------------------

    def _family(
        self, family: Family, providers: Mapping[str, _Provider], newer: Mapping[str, _Provider], ledger: Ledger
    ) -> Iterator[Bundle]:
        for kind in (Kind.KEY, Kind.PARAMETER):
            self._read_parts(kind, family, providers, newer, ledger)
        for provider, models in itertools.groupby(self._models(family, providers, newer, ledger), key=itemgetter(0)):
            yield self._bundle(provider, self._batches(models), ledger)
            provider.names.clear()
            yield from self._rest(provider, ledger)
        for provider in (*providers.values(), *newer.values()):
            if provider.is_wanted and provider.draft:
                yield from self._rest(provider, ledger)

    def _rest(self, provider: _Provider, ledger: Ledger) -> Iterator[Bundle]:
        """What has not been handed on: a provider without models, or keys that were found inside its models."""
        bundle = self._bundle(provider, (), ledger)
        if bundle.provider or bundle.keys or bundle.parameters:
            yield bundle

    def _bundle(self, provider: _Provider, models: Iterable[Sequence[Draft]], ledger: Ledger) -> Bundle:
        keys, parameters = self._settle_parts(provider, ledger)
        draft = None if provider.counterpart or provider.is_given else provider.draft
        provider.is_given = True
        return Bundle(provider.provider_id, draft, keys, parameters, models)

    def _batches(self, models: Iterator[tuple[_Provider, Draft]]) -> Iterator[list[Draft]]:
        while batch := [draft for _, draft in itertools.islice(models, self._options.batch_size)]:
            yield batch

    def _models(
        self, family: Family, providers: Mapping[str, _Provider], newer: Mapping[str, _Provider], ledger: Ledger
    ) -> Iterator[tuple[_Provider, Draft]]:
        table = self._tables[family.generation, Kind.MODEL]
        parents = self._parents(table, family, providers, newer)
        for values, counterpart in self._model_rows(table, ledger):
            if not (parent := self._place(table, values, parents, ledger)):
                continue
            mapped = self._map(table, values, parent.provider_id)
            draft = mapped.draft
            if draft and counterpart and (other := self._registry_model(counterpart, parent)):
                self._compare(draft, other, ledger)
                continue
            _tell(mapped.findings, ledger)
            if draft is None:
                ledger.count(table.name, Outcome.REJECTED)
            elif draft.name in parent.names:
                detail = "An earlier row has the same id once repaired."
                ledger.find(_finding(draft.origin, "model_id", DUPLICATE_DIFFERS, "rejected", detail))
                ledger.count(table.name, Outcome.REJECTED)
            else:
                if family is self._schema.older:
                    ledger.find(_only_in_older(draft))
                parent.names.add(draft.name)
                parent.extra_keys += self._keys_inside(mapped.keys, ledger)
                yield parent, draft

    def _model_rows(self, table: Table, ledger: Ledger) -> Iterator[tuple[Values, Values | None]]:
        """Every row of a models table, beside it the registry's row of the same model when the table is the older one."""
        older = self._schema.older
        if not older or table is not self._tables[older.generation, Kind.MODEL]:
            for rows in self._database.stream(table.select(), self._options.batch_size):
                ledger.read(table.name, len(rows))
                yield from ((values, None) for values in table.read(rows))
            return
        registry = self._tables[self._schema.registry.generation, Kind.MODEL]
        width = len(table.present)
        for rows in self._database.stream(self._beside(table, registry), self._options.batch_size):
            ledger.read(table.name, len(rows))
            mine, theirs = table.read([row[:width] for row in rows]), registry.read([row[width:] for row in rows])
            for values, counterpart in zip(mine, theirs, strict=True):
                yield values, None if registry.owner(counterpart) is None else counterpart

    def _beside(self, older: Table, registry: Table) -> Any:
        theirs = registry.source
        same = [self._equal(older.name, name, registry.name, name) for name in ("provider_id", "model_id")]
        joined = older.source.join(theirs, sa.and_(*same), isouter=True)
        return older.select().add_columns(*(theirs.c[name] for name in registry.present)).select_from(joined)

    def _registry_model(self, values: Values, parent: _Provider) -> Draft | None:
        registry = self._tables[self._schema.registry.generation, Kind.MODEL]
        return self._map(registry, values, parent.provider_id).draft


class _Parents:
    """Finds a row's provider by the id that the row holds."""

    def __init__(self, providers: Mapping[str, _Provider], respelt: Mapping[str, str]) -> None:
        self._providers, self._respelt = providers, respelt

    def find(self, raw_id: Any) -> _Provider | None:
        if raw_id is None:
            return None
        name = str(raw_id)
        return self._providers.get(name) or self._providers.get(self._respelt.get(name, name))

    def is_respelt(self, raw_id: Any) -> bool:
        return str(raw_id) not in self._providers


def _same(draft: Draft) -> tuple[Kind, str | Secret, str]:
    """What makes two drafts of one provider the same row; see `Draft`."""
    return (draft.kind, draft.secrets["secret"] if draft.kind is Kind.KEY else draft.name, draft.environment)


def _tell(findings: Iterable[Finding], ledger: Ledger) -> None:
    for finding in findings:
        ledger.find(finding)


def _count(origins: Iterable[Origin], outcome: Outcome, ledger: Ledger) -> None:
    """Keys that were found inside a row are no rows."""
    for origin in origins:
        if not origin.inside:
            ledger.count(origin.table, outcome)


def _finding(origin: Origin, name: str, code: Code, did: str, detail: str) -> Finding:
    return Finding(origin.table, origin.key, name, code, did, detail)


def _only_in_older(draft: Draft) -> Finding:
    return _finding(draft.origin, "", ONLY_IN_OLDER, "kept", "The newer tables do not have it.")
