"""What is to become of each draft: compared with the registry's row and with what earlier imports left there.

Reads, decides and writes nothing. Whether a row may be changed follows from its provenance: the last record of its source
row tells what the source said then and how the registry's row was left.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from typing import Any, NamedTuple

from django.db import models
from django.db.models.base import ModelState

from providers import keyring
from providers.importers.drafts import Draft, Kind, Origin
from providers.importers.state import MODELS, Digester, differences, state
from providers.models import (
    ApiKey,
    ConnectionParameter,
    ImportRecord,
    ImportRun,
    Provider,
    ProviderModel,
    RegistryModel,
)
from providers.secrets import Secret, SecretError


class Action(enum.StrEnum):
    CREATE = "created"
    UPDATE = "updated"
    UNCHANGED = "unchanged"
    KEEP = "kept"
    """Edited here, and the source says what it said before: the edit stays."""
    CONFLICT = "conflicts"
    """Both may be right: the registry's value stays and somebody has to look."""


class Known(NamedTuple):
    """The last record of a source row, or of a registry row, that counts."""

    digest: str
    after: str
    target_kind: str
    target_id: int
    outcome: str


@dataclass(slots=True)
class Step:
    draft: Draft
    action: Action
    row: Any = None
    """As the registry has it."""
    wanted: Any = None
    """As it would be with the draft laid over it."""
    before: Mapping[str, Any] = field(default_factory=dict)
    after: Mapping[str, Any] = field(default_factory=dict)
    changed: Sequence[str] = ()
    known: Known | None = None


@dataclass(slots=True)
class Place:
    """A provider that parts are laid beside. `is_new` ones have no parts in the registry yet."""

    provider: Provider
    is_new: bool


class Provenance:
    """What earlier runs of the same source left, those that were undone aside."""

    def __init__(self, digester: Digester, source_identity: str) -> None:
        self._digester, self._source = digester, source_identity
        self._runs = ImportRun.objects.filter(source_identity=source_identity, undone_at=None)
        self.is_empty = not ImportRecord.objects.filter(run__in=self._runs).exists()

    def origin(self, origin: Origin) -> str:
        return self._digester.of_origin(self._source, origin.table, origin.key)

    def of(self, drafts: Iterable[Draft]) -> dict[str, Known]:
        """By the digest of the origin; `merged` origins included."""
        if self.is_empty:
            return {}
        wanted = [self.origin(origin) for draft in drafts for origin in (draft.origin, *draft.merged)]
        found = self.records().filter(origin__in=wanted).order_by("id").values_list("origin", *_KNOWN)
        return {origin: Known(*rest) for origin, *rest in found}

    def of_rows(self, kind: str, ids: Iterable[int]) -> dict[int, Known]:
        if self.is_empty:
            return {}
        found = self.records().filter(target_kind=kind, target_id__in=list(ids)).order_by("id").values_list(*_KNOWN)
        return {known.target_id: known for known in (Known(*row) for row in found)}

    def records(self) -> models.QuerySet[ImportRecord]:
        return ImportRecord.objects.filter(run__in=self._runs)


def short(origin: str) -> int:
    """Enough of an origin's digest to remember hundreds of thousands of rows by."""
    return int(origin[:15], 16)


_KNOWN = ("digest", "after", "target_kind", "target_id", "outcome")


class Planner:
    """Plans drafts of one kind and one provider at a time."""

    def __init__(
        self, provenance: Provenance, digester: Digester, *, source_wins: bool, now: datetime, author: str
    ) -> None:
        self.provenance, self._digester = provenance, digester
        self._source_wins, self._now, self._author = source_wins, now, author

    def plan(self, drafts: Sequence[Draft], place: Place | None, known: Mapping[str, Known]) -> list[Step]:
        """A step for each draft. `place` is where parts belong; providers have none."""
        rows = match(drafts, place, known, self.provenance)
        known = self._without_those_that_moved(drafts, rows, known)
        if place is not None and place.is_new:
            found = [known.get(self.provenance.origin(draft.origin)) if known else None for draft in drafts]
            return [self.step(draft, None, place, last, {}) for draft, last in zip(drafts, found, strict=True)]
        strangers = {
            row.pk: draft
            for draft, row in zip(drafts, rows, strict=True)
            if row is not None and not _is_of(known.get(self.provenance.origin(draft.origin)), draft, row)
        }
        left = self.provenance.of_rows(drafts[0].kind, strangers) if strangers else {}
        return [
            self.step(draft, row, place, known.get(self.provenance.origin(draft.origin)), left)
            for draft, row in zip(drafts, rows, strict=True)
        ]

    def _without_those_that_moved(
        self, drafts: Sequence[Draft], rows: Sequence[Any], known: Mapping[str, Known]
    ) -> Mapping[str, Known]:
        """Nobody deleted the row here if another provider has it: the source put the row under a new one."""
        missing: dict[str, Known] = {}
        for draft, row in zip(drafts, rows, strict=True) if known else ():
            origin = self.provenance.origin(draft.origin)
            if row is None and origin in known and known[origin].target_kind == draft.kind:
                missing[origin] = known[origin]
        if not missing:
            return known
        wanted = {record.target_id for record in missing.values()}
        here = set(MODELS[drafts[0].kind]._base_manager.filter(pk__in=wanted).values_list("pk", flat=True))
        return {
            origin: record for origin, record in known.items() if origin not in missing or record.target_id not in here
        }

    def step(
        self,
        draft: Draft,
        row: RegistryModel | None,
        place: Place | None,
        known: Known | None,
        left: Mapping[int, Known],
    ) -> Step:
        if row is None:
            if known is None or self._source_wins:
                wanted = self._lay(draft, None, place)
                return Step(draft, Action.CREATE, None, wanted, {}, state(wanted), (), known)
            action = Action.KEEP if known.digest == draft.origin.digest else Action.CONFLICT
            return Step(draft, action, known=known)
        wanted = self._lay(draft, row, place)
        before, after = state(row), state(wanted)
        changed = differences(before, after)
        mine = known if _is_of(known, draft, row) else left.get(row.pk)
        action = self._decide(draft, before, changed, mine, known)
        return Step(draft, action, row, wanted, before, after, changed, mine)

    def _decide(
        self, draft: Draft, before: Mapping[str, Any], changed: Sequence[str], mine: Known | None, known: Known | None
    ) -> Action:
        if not changed:
            return Action.UNCHANGED
        if self._source_wins:
            return Action.UPDATE
        if mine is None:
            return Action.CONFLICT
        if mine.after == self._digester.of_state(before):
            return Action.UPDATE
        return Action.KEEP if known is not None and known.digest == draft.origin.digest else Action.CONFLICT

    def _lay(self, draft: Draft, row: RegistryModel | None, place: Place | None) -> RegistryModel:
        wanted = lay(draft, row, place.provider if place else None, keep_secrets=self._source_wins)
        if row is None:
            wanted.created_by = wanted.created_by or self._author
            if draft.facts.get("created_at") is None:
                wanted.created_at = self._now
        wanted.updated_at = draft.updated_at or self._now
        return wanted


def match(
    drafts: Sequence[Draft], place: Place | None, known: Mapping[str, Known], provenance: Provenance
) -> list[Any]:
    """The registry's row for each draft, or None: the one of the same name, else the one that an earlier run made of it."""
    if place is not None and place.is_new:
        return [None] * len(drafts)
    kind = drafts[0].kind
    if kind is Kind.KEY:
        keys = list(ApiKey._base_manager.filter(provider=place.provider).order_by("-id")) if place else []
        named: dict[Any, Any] = {(row.fingerprint, row.environment): row for row in keys}
    elif kind is Kind.PARAMETER:
        parameters = ConnectionParameter._base_manager.filter(provider=place.provider) if place else []
        named = {(row.param_name, row.environment): row for row in parameters}
    elif kind is Kind.MODEL:
        names = [draft.name for draft in drafts]
        found = ProviderModel._base_manager.filter(provider=place.provider, model_id__in=names) if place else []
        named = {row.model_id: row for row in found}
    else:
        names = [draft.provider_id for draft in drafts]
        named = {row.provider_id: row for row in Provider._base_manager.filter(provider_id__in=names)}
    rows = [named.get(identity(draft)) for draft in drafts]
    if provenance.is_empty:
        return rows
    return _with_those_of_another_name(drafts, rows, place, known, provenance)


def identity(draft: Draft) -> Any:
    """What makes two rows of a provider and kind the same row."""
    if draft.kind is Kind.KEY:
        return keyring.fingerprint(draft.secrets["secret"].reveal()), draft.environment
    if draft.kind is Kind.PARAMETER:
        return draft.name, draft.environment
    return draft.name if draft.kind is Kind.MODEL else draft.provider_id


class Firsts:
    """Tells the first draft of a registry row from later ones of the same row. The bundles of a provider follow one another."""

    def __init__(self) -> None:
        self._provider_id = ""
        self._likeness: dict[int, int] = {}

    def split(self, drafts: Iterable[Draft]) -> tuple[list[Draft], list[tuple[Draft, bool]]]:
        """The first ones, and the others, each with whether it says the same as the first."""
        first, others = [], []
        for draft in drafts:
            if draft.provider_id != self._provider_id:
                self._provider_id, self._likeness = draft.provider_id, {}
            name, likeness = hash((draft.kind, identity(draft))), self._alike(draft)
            if name in self._likeness:
                others.append((draft, self._likeness[name] == likeness))
            else:
                self._likeness[name] = likeness
                first.append(draft)
        return first, others

    def _alike(self, draft: Draft) -> int:
        """Both come from the same mapping, so what is the same is written the same."""
        facts = [item for item in draft.facts.items() if item[0] not in _MAY_DIFFER]
        if draft.kind is Kind.KEY or not draft.secrets:
            return hash(repr(facts))
        secrets = {path: keyring.fingerprint(value.reveal()) for path, value in draft.secrets.items()}
        return hash(repr((facts, secrets)))


_MAY_DIFFER = {"created_at", "created_by", "name", "updated_at"}
"""Facts in which two rows may differ that are one all the same."""


def _with_those_of_another_name(
    drafts: Sequence[Draft], rows: list[Any], place: Place | None, known: Mapping[str, Known], provenance: Provenance
) -> list[Any]:
    taken = {row.pk for row in rows if row is not None}
    targets = {}
    for number, draft in enumerate(drafts):
        record = known.get(provenance.origin(draft.origin))
        if rows[number] is None and record is not None and record.target_kind == draft.kind:
            targets[number] = record.target_id
    if not targets:
        return rows
    found = MODELS[drafts[0].kind]._base_manager.filter(pk__in=targets.values())
    by_pk = {row.pk: row for row in (found.filter(provider=place.provider) if place else found)}
    for number, pk in targets.items():
        if pk in by_pk and pk not in taken:
            rows[number] = by_pk[pk]
            taken.add(pk)
    return rows


def _is_of(known: Known | None, draft: Draft, row: RegistryModel) -> bool:
    return known is not None and known.target_kind == draft.kind and known.target_id == row.pk


def lay(draft: Draft, row: RegistryModel | None, provider: Provider | None, *, keep_secrets: bool) -> Any:
    """The row with the draft laid over it, as it would be stored; a new one without `row`.

    Who writes a whole object leaves out its secrets, if they are `keep_secrets`: nobody who read it has seen one.
    """
    facts = _facts(draft)
    if row is None:
        return _new(draft, facts, provider)
    wanted: Any = type(row).__new__(type(row))
    wanted.__dict__ |= row.__dict__
    for name, value in facts.items():
        setattr(wanted, name, value)
    _lay_secrets(draft, wanted, row, keep_secrets)
    wanted.prepare()
    _keep_what_is_the_same(wanted, row)
    return wanted


def _new(draft: Draft, facts: dict[str, Any], provider: Provider | None) -> Any:
    """As the model's constructor makes it, which takes longer than all the rest of an import's work on a row."""
    model = MODELS[draft.kind]
    defaults, made_anew, known = _defaults(model)
    if unknown := facts.keys() - known:
        raise TypeError(f"{model.__name__} has no field {', '.join(sorted(unknown))}")
    wanted: Any = model.__new__(model)
    wanted.__dict__ |= defaults
    wanted.__dict__ |= facts
    wanted._state = ModelState()
    for name, make in made_anew:
        if name not in facts:
            wanted.__dict__[name] = make()
    if provider is not None:
        wanted.provider_id = provider.pk
    _lay_secrets(draft, wanted, None, keep_secrets=False)
    wanted.prepare()
    return wanted


@cache
def _defaults(model: type[RegistryModel]) -> tuple[dict[str, Any], list[tuple[str, Any]], frozenset[str]]:
    """What a new row has of each field, what is made for each row, and the names of all fields."""
    fields = model._meta.concrete_fields
    fixed = {
        field.attname: None if field.has_default() and callable(field.default) else field.get_default()
        for field in fields
    }
    made = [(field.attname, field.default) for field in fields if field.has_default() and callable(field.default)]
    return fixed, made, frozenset(fixed)


def _facts(draft: Draft) -> dict[str, Any]:
    facts = dict(draft.facts)
    for name in ("updated_at", "provider", "provider_id"):
        facts.pop(name, None)
    if facts.get("created_at", True) is None:
        del facts["created_at"]
    if not facts.get("created_by", True):
        del facts["created_by"]
    if draft.kind is Kind.PROVIDER:
        facts["provider_id"] = draft.provider_id
    elif draft.kind is Kind.MODEL:
        facts["model_id"] = draft.name
        for name in _MONEY & facts.keys():
            money = ProviderModel._meta.get_field(name)
            if facts[name] is not None:
                facts[name] = round(money.to_python(facts[name]), money.decimal_places)  # type: ignore[attr-defined]
    else:
        facts["environment"] = draft.environment
        if draft.kind is Kind.PARAMETER:
            facts["param_name"] = draft.name
    return facts


_MONEY = {field.name for field in ProviderModel._meta.concrete_fields if isinstance(field, models.DecimalField)}


def _lay_secrets(draft: Draft, wanted: Any, row: Any, keep_secrets: bool) -> None:
    if draft.kind is Kind.KEY:
        wanted.secret = draft.secrets["secret"]
    elif draft.kind is Kind.PARAMETER:
        if "value" in draft.secrets:
            wanted.is_sensitive, wanted.plain_value = True, None
            wanted.secret_value = draft.secrets["value"]
        elif "plain_value" in draft.facts:
            wanted.is_sensitive, wanted.secret_value = False, None
    elif draft.kind is Kind.PROVIDER and "connection_params" in draft.facts:
        kept = _readable_secrets(row) if row is not None and keep_secrets else {}
        given = {path: secret.reveal() for path, secret in draft.secrets.items()}
        wanted.set_stored_secrets(kept | given)


def _readable_secrets(provider: Provider) -> dict[str, str]:
    try:
        return provider.stored_secrets()
    except SecretError:
        return {}


def _keep_what_is_the_same(wanted: Any, row: RegistryModel) -> None:
    """A secret that did not change keeps its ciphertext."""
    for name in ("secret", "secret_value", "secret_params"):
        new = wanted.__dict__.get(name)
        if isinstance(new, Secret):
            try:
                same = getattr(row, name) == new
            except SecretError:
                same = False
            if same:
                wanted.__dict__[name] = row.__dict__[name]
