"""Takes a run back: what it created goes, what it changed is as it was, what was edited since stays and is named.

One transaction for each provider. It needs no memory of how far it came: a row that is gone or is again as it was has been
undone, so it may be killed anywhere and run again.
"""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from django.db import connection, models, transaction

from providers import audit, holding, keyring, revision
from providers.fields import EncryptedField, Sealed
from providers.importers import rows
from providers.importers.drafts import Kind
from providers.importers.findings import EDITED_SINCE, STILL_IN_USE, Finding, Outcome
from providers.importers.state import MODELS, Digester, differences, state
from providers.importers.tally import BundleBook, Tally
from providers.models import ImportRecord, ImportRun, ProbeResult, Provider
from providers.secrets import Secret, SecretError

BATCH = 1000
_CHANGED = (ImportRecord.Outcome.CREATED, ImportRecord.Outcome.UPDATED)
_PARTS = (Kind.MODEL, Kind.PARAMETER, Kind.KEY)


class Undo:
    def __init__(
        self,
        run: ImportRun,
        tally: Tally,
        *,
        before_each: Callable[[], None] = lambda: None,
        after_each: Callable[[str], None] = lambda provider_id: None,
    ) -> None:
        self._run, self._tally = run, tally
        self._before_each, self._after_each = before_each, after_each
        self._digester = Digester()

    def walk(self) -> None:
        for pk in self._providers():
            self._before_each()
            name = ""
            with contextlib.closing(BundleBook()) as self._book:
                try:
                    with transaction.atomic(), holding.guarded(Provider(pk=pk)):
                        name = self._provider(pk)
                except holding.SecretsStay as error:
                    self._leave(pk, error.messages[0])
                else:
                    self._tally.enter(self._book)
            self._after_each(name)
        self._tell_of_those_deleted_since()

    def _records(self, kind: str) -> models.QuerySet[ImportRecord]:
        return self._run.records.filter(target_kind=kind, outcome__in=_CHANGED)

    def _providers(self) -> list[int]:
        """Every provider that the run touched and that is still there."""
        touched = set(self._records(Kind.PROVIDER).values_list("target_id", flat=True))
        for kind in _PARTS:
            targets = self._records(kind).values("target_id")
            found = MODELS[kind]._base_manager.filter(pk__in=targets).order_by()
            touched |= set(found.values_list("provider_id", flat=True).distinct())
        return sorted(Provider._base_manager.filter(pk__in=touched).values_list("pk", flat=True))

    def _leave(self, pk: int, why: str) -> None:
        """Nothing of the provider is taken back."""
        book = BundleBook()
        for kind in MODELS:
            mine = MODELS[kind]._base_manager.filter(**{"pk" if kind == Kind.PROVIDER else "provider_id": pk})
            for records in self._batches(kind, mine):
                for record in records:
                    self._keep(record, EDITED_SINCE, why, book)
        self._tally.enter(book)

    def _provider(self, pk: int) -> str:
        book = self._book
        provider = Provider._base_manager.select_for_update().filter(pk=pk).first()
        if provider is None:
            return ""  # deleted this very moment, with all its parts
        done = self._done = Counter[str]()
        for kind in _PARTS:
            mine = MODELS[kind]._base_manager.filter(provider_id=pk)
            for records in self._batches(kind, mine):
                self._undo(kind, records, book, lambda row: "")
        record = self._records(Kind.PROVIDER).filter(target_id=pk).first()
        if record is not None:
            self._undo(Kind.PROVIDER, [record], book, what_hangs_on)
        if done:
            after = {"run": self._run.pk, "counts": dict(sorted(done.items()))}
            audit.record("undo import", "provider", provider.provider_id, before=None, after=after)
            revision.bump()
        return provider.provider_id

    def _batches(self, kind: str, mine: models.QuerySet) -> Iterator[list[ImportRecord]]:
        """The last change first."""
        records = self._records(kind).filter(target_id__in=mine.order_by().values("pk")).order_by("-pk")
        batch = list(records[:BATCH])
        while batch:
            yield batch
            batch = list(records.filter(pk__lt=batch[-1].pk)[:BATCH])

    def _undo(self, kind: str, records: Sequence[ImportRecord], book: BundleBook, in_use: Callable[[Any], str]) -> None:
        model = MODELS[kind]
        locked = model._base_manager.select_for_update().filter(pk__in=[record.target_id for record in records])
        found = {row.pk: row for row in locked}
        deleted: list[int] = []
        restored: dict[int, Any] = {}
        for record in records:
            row = found.get(record.target_id)
            if row is None:
                continue
            before = state(row)
            if record.outcome == ImportRecord.Outcome.UPDATED:
                was = as_it_was(row, record)
                if was is not None and not differences(before, state(was)):
                    self._count(record, Outcome.IMPORTED, "unchanged", book)
                    continue
            if self._digester.of_state(before) != record.after:
                self._keep(record, EDITED_SINCE, "Edited since the run; it stays as it is.", book)
            elif record.outcome == ImportRecord.Outcome.UPDATED:
                if was is not None and _its_name_is_taken(was, record, deleted):
                    self._keep(record, EDITED_SINCE, "Another row has the name that it had; it stays as it is.", book)
                    continue
                self._restore(record, was, found, restored, book)
            elif sentence := in_use(row):
                self._keep(record, STILL_IN_USE, sentence, book)
            else:
                deleted.append(row.pk)
                self._count(record, Outcome.IMPORTED, "deleted", book)
                self._done[f"{kind} deleted"] += 1
        if deleted:
            _delete(model, deleted)
        rows.update(model, list(restored.values()))

    def _restore(
        self, record: ImportRecord, was: Any, found: dict[int, Any], restored: dict[int, Any], book: BundleBook
    ) -> None:
        if was is None:
            detail = "What it was before is sealed under a key that is not on the ring; it stays as it is."
            self._keep(record, EDITED_SINCE, detail, book)
            return
        restored[record.target_id] = found[record.target_id] = was
        self._count(record, Outcome.IMPORTED, "updated", book)
        self._done[f"{record.target_kind} restored"] += 1

    def _keep(self, record: ImportRecord, code: Any, detail: str, book: BundleBook) -> None:
        self._count(record, Outcome.REJECTED, "kept", book)
        book.find(Finding(record.table, record.key, "", code, "kept", detail))

    def _count(self, record: ImportRecord, outcome: Outcome, step: str, book: BundleBook) -> None:
        book.count_row(record.table, "rows", "")
        book.count_row(record.table, outcome, step)

    def _tell_of_those_deleted_since(self) -> None:
        """Rows that the run changed and somebody deleted: there is nothing to restore them into."""
        for kind in MODELS:
            here = MODELS[kind]._base_manager.order_by().values("pk")
            lost = self._records(kind).filter(outcome=ImportRecord.Outcome.UPDATED).exclude(target_id__in=here)
            for record in lost.iterator(chunk_size=BATCH):
                self._tally.read(record.table)
                self._tally.count(record.table, Outcome.REJECTED)
                self._tally.findings.add(
                    Finding(record.table, record.key, "", EDITED_SINCE, "kept", "Deleted since the run; it stays so.")
                )


def what_hangs_on(provider: Provider) -> str:
    """Why the provider cannot go: rows beneath it that are not of the run."""
    for related in Provider._meta.related_objects:
        if related.related_model is ProbeResult:
            continue  # what was observed of it goes with it
        count = related.related_model._base_manager.filter(**{related.field.name: provider}).count()
        if count:
            return f"{count} {related.related_model._meta.verbose_name_plural} hang on it; it stays."
    return ""


def as_it_was(row: Any, record: ImportRecord) -> Any:
    """The row as it was before the run; None when its secrets do not open any more."""
    was = type(row).__new__(type(row))
    was.__dict__ |= row.__dict__
    for name, value in (record.before or {}).items():
        field = next(field for field in row._meta.concrete_fields if field.attname == name)
        was.__dict__[name] = value if isinstance(field, models.JSONField) else field.to_python(value)
    if record.sealed_before is None:
        return was
    try:
        sealed = json.loads(record.sealed_before.reveal())
    except SecretError:
        return None
    for name, stored in sealed.items():
        was.__dict__[name] = _stored(row._meta.get_field(name), row, stored)
    return was


_NAMES = {
    Kind.PROVIDER: ("provider_id",),
    Kind.MODEL: ("provider_id", "model_id"),
    Kind.PARAMETER: ("provider_id", "param_name", "environment"),
}
"""What only one row may have, by attribute; keys have no name."""


def _its_name_is_taken(was: Any, record: ImportRecord, doomed: Sequence[int]) -> bool:
    names = _NAMES.get(Kind(record.target_kind), ())
    if not (record.before or {}).keys() & set(names):
        return False
    others = type(was)._base_manager.exclude(pk__in=[was.pk, *doomed])
    return others.filter(**{name: was.__dict__[name] for name in names}).exists()


def _stored(field: EncryptedField, row: Any, stored: dict[str, str] | None) -> Sealed | Secret | None:
    """The very ciphertext if its key is still on the ring, otherwise its text to be encrypted again."""
    if stored is None:
        return None
    sealed = Sealed(stored["ciphertext"])
    if "value" not in stored:
        return sealed
    try:
        keyring.current().decrypt(sealed.ciphertext, bound_to=field.bound_to(row))
    except SecretError:
        return Secret(stored["value"])
    return sealed


def _delete(model: type[models.Model], pks: list[int]) -> None:
    if model is Provider:
        ProbeResult._base_manager.filter(provider_id__in=pks).delete()
    doomed = models.QuerySet(model, using=connection.alias).filter(pk__in=pks)
    doomed._raw_delete(connection.alias)  # type: ignore[attr-defined]
