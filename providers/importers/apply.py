"""Carries a plan out, or only tells of it: the same walk, with or without a writer.

Each provider with its parts is one transaction. The audit log gets one entry for each and is locked at its end only; the
rows themselves are written past it, many at a time.
"""

from __future__ import annotations

import contextlib
import json
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any

from django.db import DatabaseError, InterfaceError, connection, transaction

from providers import actor, audit, holding, revision
from providers.importers import rows
from providers.importers.drafts import Bundle, Draft, Kind, Origin, Source
from providers.importers.findings import (
    CONFLICT,
    CREATED,
    DUPLICATE,
    DUPLICATE_DIFFERS,
    EDITED_HERE,
    FAILED,
    GONE,
    PARENT_REJECTED,
    UPDATED,
    Finding,
    Outcome,
)
from providers.importers.plan import Action, Firsts, Known, Place, Planner, Provenance, Step, short
from providers.importers.state import MODELS, Digester, shown
from providers.importers.tally import BundleBook, Tally
from providers.models import ImportRecord, ImportRun, Provider
from providers.secrets import Secret, SecretError

BATCH = 1000
_RECORD = ("run_id", "origin", "table", "key", "digest", "outcome", "target_kind", "target_id", "before")
_RECORD += ("sealed_before", "after", "identity")


class Import:
    """One walk over a source. Without `run` it writes nothing."""

    def __init__(
        self,
        source: Source,
        tally: Tally,
        *,
        run: ImportRun | None,
        source_wins: bool,
        delta: bool,
        whole: bool,
        now: datetime,
        before_each: Callable[[], None] = lambda: None,
        after_each: Callable[[str], None] = lambda provider_id: None,
    ) -> None:
        self._source, self._tally, self._delta, self._whole = source, tally, delta, whole
        self._before_each, self._after_each = before_each, after_each
        self._digester = Digester()
        self._provenance = Provenance(self._digester, source.identity)
        author = f"import:{run.pk}" if run else "import"
        self._planner = Planner(self._provenance, self._digester, source_wins=source_wins, now=now, author=author)
        self._writer = Writer(run, self._provenance, self._digester) if run else None
        self._firsts = Firsts()
        self._imagined: dict[str, Provider] = {}
        """What a dry run would have created by now."""
        self._origins: set[int] = set()
        tally.found = self._heard

    def walk(self) -> None:
        for bundle in self._source.bundles(self._tally):
            self._before_each()
            self._bundle(bundle)
            self._after_each(bundle.provider_id)
        if self._whole and not self._provenance.is_empty:
            self._tell_of_those_gone()

    def _bundle(self, bundle: Bundle) -> None:
        book, taken = BundleBook(), Counter[str]()
        parts = batches(bundle, taken)
        try:
            whole = transaction.atomic() if self._writer else contextlib.nullcontext()
            with whole, self._watched(bundle.provider_id):
                self._write(bundle, parts, book)
        except holding.SecretsStay as error:
            self._left_out(bundle, parts, taken, ValueError(error.messages[0]))
        except (DatabaseError, InterfaceError, ValueError, OverflowError) as error:
            if not connection.is_usable():
                raise
            self._left_out(bundle, parts, taken, error)
        else:
            self._tally.enter(book)
        finally:
            book.close()

    def _watched(self, provider_id: str) -> contextlib.AbstractContextManager[None]:
        """Rows are written past their models, so the watch over the provider's secrets is kept here."""
        if not self._writer or actor.current().may_handle_secrets():
            return contextlib.nullcontext()
        stored = Provider._base_manager.filter(provider_id=provider_id).first()
        return contextlib.nullcontext() if stored is None else holding.guarded(stored)

    def _left_out(
        self, bundle: Bundle, parts: Iterator[Sequence[Draft]], taken: Counter[str], error: Exception
    ) -> None:
        for _ in parts:
            pass  # the rest of its rows are rejected too, and counted
        if self._writer:
            self._writer.forget()
        self._imagined.pop(bundle.provider_id, None)
        for table, count in taken.items():
            self._tally.count(table, Outcome.REJECTED, count)
        self._tally.findings.add(_failed(bundle, taken, taken.total(), error))

    def _write(self, bundle: Bundle, batches: Iterator[Sequence[Draft]], book: BundleBook) -> None:
        place: Place | None = None
        missing: Action | None = None
        if bundle.provider is None:
            place = self._place(bundle.provider_id)
        for drafts in batches:
            if drafts[0].kind is Kind.PROVIDER:
                steps = self._batch(drafts, None, book)
                place = self._place_of(steps[0]) if steps else self._place(bundle.provider_id)
                missing = steps[0].action if steps and place is None else None
            elif place is not None:
                self._batch(drafts, place, book)
            else:
                self._without_a_place(drafts, missing, book)
        if place is not None:
            self._tell_of_those_created(bundle, place, book)
        if self._writer:
            self._writer.close_provider(bundle.provider_id, book.steps)

    def _place(self, provider_id: str) -> Place | None:
        row = Provider._base_manager.filter(provider_id=provider_id).first()
        if row is not None:
            return Place(row, is_new=False)
        imagined = self._imagined.get(provider_id)
        return Place(imagined, is_new=True) if imagined else None

    def _place_of(self, step: Step) -> Place | None:
        if step.action is Action.CREATE:
            if self._writer is None:
                self._imagined[step.draft.provider_id] = step.wanted
            return Place(step.wanted, is_new=True)
        return Place(step.row, is_new=False) if step.row is not None else None

    def _batch(self, drafts: Sequence[Draft], place: Place | None, book: BundleBook) -> list[Step]:
        known = self._provenance.of(drafts)
        if known or not self._provenance.is_empty:
            for draft in drafts:
                self._meet_all(draft)
        rest, others = self._firsts.split(drafts)
        if self._delta and not (place and place.is_new):
            rest = [draft for draft in rest if not self._skipped(draft, known, book)]
            if drafts[0].kind is Kind.PROVIDER and not (rest or others):
                return [Step(drafts[0], Action.UNCHANGED, self._row_of(drafts[0], known))]
        steps = self._planner.plan(rest, place, known) if rest else []
        if self._writer:
            steps = self._writer.write(steps, self._planner, place)
        for step in steps:
            self._tell(step, book)
        if self._writer:
            self._writer.record(steps, known)
        for draft, alike in others:
            if not (self._delta and alike and self._skipped(draft, known, book)):
                self._merge(draft, alike, known, place, book)
        return steps

    def _row_of(self, draft: Draft, known: dict[str, Known]) -> Provider | None:
        record = known[self._provenance.origin(draft.origin)]
        return Provider._base_manager.filter(pk=record.target_id).first()

    def _skipped(self, draft: Draft, known: dict[str, Known], book: BundleBook) -> bool:
        """Of a delta: the source says of the row, and of all that are one with it, what it said before."""
        for origin in (draft.origin, *draft.merged):
            record = known.get(self._provenance.origin(origin))
            if record is None or record.digest != origin.digest:
                return False
        if draft.kind is Kind.PROVIDER and self._row_of(draft, known) is None:
            return False  # what becomes of its parts depends on why it is not here
        if known[self._provenance.origin(draft.origin)].outcome == ImportRecord.Outcome.MERGED:
            book.count(draft, Outcome.MERGED)
        else:
            book.count(draft, Outcome.IMPORTED, Action.UNCHANGED)
        return True

    def _merge(self, draft: Draft, alike: bool, known: dict[str, Known], place: Place | None, book: BundleBook) -> None:
        """A second draft of a row: one with the first if it says the same, otherwise not imported."""
        if not alike:
            book.count(draft, Outcome.REJECTED)
            book.find(_finding(draft, DUPLICATE_DIFFERS, "rejected", "An earlier row of the same name was imported."))
            return
        book.count(draft, Outcome.MERGED)
        book.find(_finding(draft, DUPLICATE, "merged", "An earlier row says the same; they became one."))
        if self._writer:
            self._writer.record_merged(draft, known, self._planner, place)

    # --- What is said of it -------------------------------------------------------------------------------------------

    def _tell(self, step: Step, book: BundleBook) -> None:
        draft = step.draft
        if step.action is Action.CONFLICT:
            book.count(draft, Outcome.REJECTED, step.action)
            book.find(_finding(draft, CONFLICT, "kept", _why_conflict(step), step))
            return
        book.count(draft, Outcome.IMPORTED, step.action)
        if step.action is Action.UPDATE:
            book.find(_finding(draft, UPDATED, "updated", "The registry follows the source.", step))
        elif step.action is Action.KEEP:
            gone = step.row is None
            detail = (
                "Deleted here since the import; it stays so." if gone else "Edited here since the import; it stays so."
            )
            book.find(_finding(draft, EDITED_HERE, "kept", detail, step))

    def _without_a_place(self, drafts: Sequence[Draft], missing: Action | None, book: BundleBook) -> None:
        for draft in drafts:
            self._meet_all(draft)
            if missing is Action.KEEP:
                book.count(draft, Outcome.IMPORTED, Action.KEEP)
            elif missing is Action.CONFLICT:
                book.count(draft, Outcome.REJECTED, Action.CONFLICT)
                detail = "Its provider was deleted here since the import, and changed in the source."
                book.find(_finding(draft, CONFLICT, "kept", detail))
            else:
                book.count(draft, Outcome.REJECTED)
                detail = f"The registry has no provider {draft.provider_id!r}."
                book.find(_finding(draft, PARENT_REJECTED, "rejected", detail))

    def _tell_of_those_created(self, bundle: Bundle, place: Place, book: BundleBook) -> None:
        parts = {
            kind: book.steps[f"{kind} {Action.CREATE}"]
            for kind in (Kind.MODEL, Kind.KEY, Kind.PARAMETER)
            if book.steps[f"{kind} {Action.CREATE}"]
        }
        said = ", ".join(f"{count:,} {kind}{'s' if count > 1 else ''}" for kind, count in parts.items())
        new = bool(book.steps[f"{Kind.PROVIDER} {Action.CREATE}"])
        if not new and not parts:
            return
        detail = f"Created with {said or 'no parts'}." if new else f"Added to a provider that was here: {said}."
        table, key = _named(bundle, book.tables)
        book.find(Finding(table, key, "", CREATED, "created", detail))

    def _heard(self, finding: Finding) -> None:
        self._meet(finding.table, finding.key)
        self._tally.findings.add(finding)

    def _meet_all(self, draft: Draft) -> None:
        for origin in (draft.origin, *draft.merged):
            self._meet(origin.table, origin.key)

    def _meet(self, table: str, key: str) -> None:
        if not self._provenance.is_empty:
            self._origins.add(short(self._provenance.origin(Origin(table, key, ""))))

    def _tell_of_those_gone(self) -> None:
        for table, key, detail in gone(self._provenance, self._origins):
            self._tally.findings.add(Finding(table, key, "", GONE, "kept", detail))


class Writer:
    """Writes the steps of a run and what undoing them takes."""

    def __init__(self, run: ImportRun, provenance: Provenance, digester: Digester) -> None:
        self._run, self._provenance, self._digester = run, provenance, digester
        self._facts: list[str] = []

    def write(self, steps: list[Step], planner: Planner, place: Place | None) -> list[Step]:
        """Returns the steps as they were carried out: a row that was edited in between is planned again."""
        steps = self._again_if_edited(steps, planner, place)
        for kind in {step.draft.kind for step in steps}:
            new = [step.wanted for step in steps if step.action is Action.CREATE and step.draft.kind is kind]
            if new:
                for row, pk in zip(new, rows.take_ids(MODELS[kind], len(new)), strict=True):
                    row.pk = pk
                    row._state.adding = False
                rows.insert(MODELS[kind], new)
            rows.update(
                MODELS[kind],
                [step.wanted for step in steps if step.action is Action.UPDATE and step.draft.kind is kind],
            )
        return steps

    def _again_if_edited(self, steps: list[Step], planner: Planner, place: Place | None) -> list[Step]:
        updates = {step.row.pk: step for step in steps if step.action is Action.UPDATE}
        if not updates:
            return steps
        model = MODELS[steps[0].draft.kind]
        locked = {row.pk: row for row in model._base_manager.select_for_update().filter(pk__in=list(updates))}
        return [
            planner.step(
                step.draft,
                locked.get(step.row.pk),
                place,
                step.known,
                {} if step.known is None else {step.row.pk: step.known},
            )
            if step.action is Action.UPDATE
            else step
            for step in steps
        ]

    def record(self, steps: Sequence[Step], known: dict[str, Known]) -> None:
        records: list[tuple] = []
        for step in steps:
            row = step.wanted
            if step.action in {Action.KEEP, Action.CONFLICT} or row is None:
                continue
            after = self._digester.of_state(step.after)
            if step.action in {Action.CREATE, Action.UPDATE}:
                self._facts.append(after)
            origin = self._provenance.origin(step.draft.origin)
            if step.action is not Action.UNCHANGED or not _is_recorded(
                known.get(origin), step.draft.origin, row, after
            ):
                records.append(self._record(step, origin, row, after))
            for merged in step.draft.merged:
                digest = self._provenance.origin(merged)
                if not _is_recorded(known.get(digest), merged, row, after):
                    records.append(self._row(digest, merged, ImportRecord.Outcome.MERGED, step.draft.kind, row, after))
        if records:
            rows.insert_values(ImportRecord, _RECORD, records)

    def record_merged(self, draft: Draft, known: dict[str, Known], planner: Planner, place: Place | None) -> None:
        step = planner.plan([draft], place and Place(place.provider, is_new=False), known)[0]
        origin = self._provenance.origin(draft.origin)
        after = self._digester.of_state(step.before)
        if step.row is not None and not _is_recorded(known.get(origin), draft.origin, step.row, after):
            outcome = ImportRecord.Outcome.MERGED
            rows.insert_values(
                ImportRecord, _RECORD, [self._row(origin, draft.origin, outcome, draft.kind, step.row, after)]
            )

    def close_provider(self, provider_id: str, steps: Counter[str]) -> None:
        """One entry for all of it, with a digest of the facts as they were left."""
        written = {name: count for name, count in sorted(steps.items()) if name.split()[1] in _WRITTEN}
        facts, self._facts = self._facts, []
        if not written:
            return
        digest = self._digester.of("".join(facts).encode())
        after = {"run": self._run.pk, "counts": written, "digest": digest}
        audit.record("import", "provider", provider_id, before=None, after=after)
        revision.bump()

    def forget(self) -> None:
        """The provider was rolled back."""
        self._facts = []

    def _record(self, step: Step, origin: str, row: Any, after: str) -> tuple:
        if step.action is Action.UPDATE:
            return self._row(
                origin,
                step.draft.origin,
                ImportRecord.Outcome.UPDATED,
                step.draft.kind,
                row,
                after,
                *_as_it_was(step.row, row),
            )
        outcome = ImportRecord.Outcome.CREATED if step.action is Action.CREATE else ImportRecord.Outcome.UNCHANGED
        return self._row(origin, step.draft.origin, outcome, step.draft.kind, row, after)

    def _row(
        self,
        origin: str,
        source: Origin,
        outcome: str,
        kind: str,
        row: Any,
        after: str,
        before: str | None = None,
        sealed: str | None = None,
        bound_to: Any = None,
    ) -> tuple:
        key = source.key[:600]
        # fmt: off
        return (
            self._run.pk, origin, source.table[:64], key, source.digest, str(outcome), str(kind), row.pk,
            before, sealed, after, bound_to,
        )
        # fmt: on


_WRITTEN = {Action.CREATE, Action.UPDATE}


def _as_it_was(row: Any, wanted: Any) -> tuple[str | None, str | None, Any]:
    """The fields that an update changed, as they were: in the clear, sealed, and what the seal is bound to."""
    plain: dict[str, Any] = {}
    secret: dict[str, Any] = {}
    for field in row._meta.concrete_fields:
        old, new = row.__dict__.get(field.attname), wanted.__dict__.get(field.attname)
        if field.name in {"secret", "secret_value", "secret_params"}:
            if _ciphertext(old) != _ciphertext(new):
                secret[field.name] = _sealed_as_it_was(row, field.name)
        elif old != new:
            plain[field.attname] = field.value_from_object(row) if _is_json(old) else str(old)
    before = rows.json_text(plain)
    if not secret:
        return before, None, None
    holder = ImportRecord(identity=uuid.uuid4(), sealed_before=Secret(json.dumps(secret)))
    sealed = ImportRecord._meta.get_field("sealed_before").sealed(holder)  # type: ignore[attr-defined]
    bound_to = holder.identity if connection.vendor == "postgresql" else holder.identity.hex
    return before, sealed.ciphertext, bound_to


def _is_json(value: Any) -> bool:
    return value is None or isinstance(value, bool | int | float | str | list | dict)


def _ciphertext(value: Any) -> Any:
    return getattr(value, "ciphertext", value)


def _sealed_as_it_was(row: Any, name: str) -> dict[str, str] | None:
    """The text, to be readable after a rotation of the key; and the ciphertext, which restores the row to the letter."""
    stored = row.__dict__.get(name)
    if stored is None:
        return None
    try:
        value = getattr(row, name).reveal()
    except SecretError:
        return {"ciphertext": stored.ciphertext}
    return {"ciphertext": stored.ciphertext, "value": value}


def _is_recorded(known: Known | None, origin: Origin, row: Any, after: str) -> bool:
    if known is None:
        return False
    return (known.digest, known.target_id, known.after) == (origin.digest, row.pk, after)


def gone(provenance: Provenance, met: set[int]) -> Iterator[tuple[str, str, str]]:
    """Table, key and a sentence for every registry row whose source row is there no more."""
    told: set[int] = set()
    waiting: dict[str, dict[int, tuple[str, str]]] = {}
    found = provenance.records().order_by("id").values_list("origin", "table", "key", "target_kind", "target_id")
    for origin, table, key, kind, target in found.iterator(chunk_size=2000):
        remembered = short(origin)
        if remembered in met or remembered in told:
            continue
        told.add(remembered)
        waiting.setdefault(kind, {})[target] = (table, key)
        if len(waiting[kind]) >= BATCH:
            yield from _still_here(kind, waiting.pop(kind))
    for kind, targets in waiting.items():
        yield from _still_here(kind, targets)


def _still_here(kind: str, targets: dict[int, tuple[str, str]]) -> Iterator[tuple[str, str, str]]:
    here = set(MODELS[kind]._base_manager.filter(pk__in=list(targets)).values_list("pk", flat=True))
    for pk, (table, key) in targets.items():
        if pk in here:
            yield table, key, f"The {kind} that it became stays in the registry."


def batches(bundle: Bundle, taken: Counter[str]) -> Iterator[Sequence[Draft]]:
    """The drafts of a bundle in the order they are written; `taken` counts the source rows behind them."""
    parts: list[Sequence[Draft]] = [[bundle.provider]] if bundle.provider else []
    for drafts in (bundle.keys, bundle.parameters):
        parts += [drafts[start : start + BATCH] for start in range(0, len(drafts), BATCH)]
    for drafts in parts:
        _take(drafts, taken)
        yield drafts
    for drafts in bundle.models:
        if drafts:
            _take(drafts, taken)
            yield drafts


def _take(drafts: Sequence[Draft], taken: Counter[str]) -> None:
    for draft in drafts:
        for origin in (draft.origin, *draft.merged):
            taken[origin.table] += not origin.inside


def _finding(draft: Draft, code: Any, did: str, detail: str, step: Step | None = None) -> Finding:
    changes = shown(step.before, step.after, step.changed) if step is not None and step.row is not None else None
    fields = ", ".join(step.changed) if step is not None and step.row is not None else ""
    return Finding(draft.origin.table, draft.origin.key, fields, code, did, detail, changes or None)


def _why_conflict(step: Step) -> str:
    if step.row is None:
        return "Deleted here since the import, and changed in the source."
    if step.known is None:
        return "Not brought by this source, and it says something else."
    return "Edited here since the import, and changed in the source."


def _failed(bundle: Bundle, tables: Iterable[str], count: int, error: Exception) -> Finding:
    """The database's own text may hold values of the row, so only what it calls the fault is told."""
    table, key = _named(bundle, tables)
    diagnosis = getattr(error.__cause__, "diag", None)
    places = [getattr(diagnosis, name, None) for name in ("sqlstate", "table_name", "constraint_name", "column_name")]
    where = " ".join(place for place in places if place)
    detail = f"{type(error).__name__}{f' ({where})' if where else ''}: all {count:,} rows of {bundle.provider_id!r} were rejected."
    return Finding(table, key, "", FAILED, "rejected", detail)


def _named(bundle: Bundle, tables: Iterable[str]) -> tuple[str, str]:
    """Table and key for what is said of a whole bundle; without a provider, the table of its parts and the provider's id."""
    if bundle.provider:
        return bundle.provider.origin.table, bundle.provider.origin.key
    parts = [draft.origin.table for draft in (*bundle.keys, *bundle.parameters)]
    return next(iter([*parts, *tables]), ""), bundle.provider_id
