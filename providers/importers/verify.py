"""Reads both sides again and names every difference: field by field, secrets by what they decrypt to.

Trusts neither the records of earlier runs nor anything that was derived when the rows were written.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from providers.importers.apply import BATCH, batches, gone
from providers.importers.drafts import Bundle, Draft, Kind, Origin, Source
from providers.importers.findings import DIFFERS_HERE, DUPLICATE_DIFFERS, GONE, MISSING_HERE, Finding, Outcome
from providers.importers.plan import Firsts, Place, Provenance, lay, match, short
from providers.importers.state import MODELS, Digester, differences, shown, state
from providers.importers.tally import Tally
from providers.models import Provider

DIFFERENCES = (MISSING_HERE.name, DIFFERS_HERE.name)


class Comparison:
    """One walk over a source. What the source says of single values was told by the import and is not told again."""

    def __init__(
        self,
        source: Source,
        tally: Tally,
        *,
        whole: bool,
        before_each: Callable[[], None] = lambda: None,
        after_each: Callable[[str], None] = lambda provider_id: None,
    ) -> None:
        self._source, self._tally, self._whole = source, tally, whole
        self._before_each, self._after_each = before_each, after_each
        self._digester = Digester()
        self._provenance = Provenance(self._digester, source.identity)
        self._firsts = Firsts()
        self._met: set[int] = set()
        self._refused: set[tuple[str, str]] = set()
        tally.found = self._heard

    def walk(self) -> None:
        for bundle in self._source.bundles(self._tally):
            self._before_each()
            self._bundle(bundle)
            self._after_each(bundle.provider_id)
        self._find_rows_that_should_not_be()
        if self._whole and not self._provenance.is_empty:
            for table, key, detail in gone(self._provenance, self._met):
                self._tally.findings.add(Finding(table, key, "", GONE, "kept", detail))

    def _bundle(self, bundle: Bundle) -> None:
        provider = Provider._base_manager.filter(provider_id=bundle.provider_id).first()
        place = Place(provider, is_new=False) if provider else None
        for drafts in batches(bundle, Counter()):
            self._batch(drafts, None if drafts[0].kind is Kind.PROVIDER else place)

    def _batch(self, drafts: Sequence[Draft], place: Place | None) -> None:
        for draft in drafts:
            for origin in (draft.origin, *draft.merged):
                self._met.add(short(self._provenance.origin(origin)))
                self._refused.discard((origin.table, origin.key))
        firsts, others = self._firsts.split(drafts)
        if firsts:
            is_part = firsts[0].kind is not Kind.PROVIDER
            known = self._provenance.of(firsts)
            rows = match(firsts, place, known, self._provenance) if place or not is_part else [None for _ in firsts]
            for draft, row in zip(firsts, rows, strict=True):
                self._compare(draft, row, place)
        for draft, alike in others:
            self._count(draft, Outcome.MERGED if alike else Outcome.REJECTED)
            if not alike:
                detail = "An earlier row of the same name was imported."
                self._find(draft, DUPLICATE_DIFFERS, detail)

    def _compare(self, draft: Draft, row, place: Place | None) -> None:
        if row is None:
            self._count(draft, Outcome.REJECTED, "conflicts")
            self._find(draft, MISSING_HERE, f"The registry has no such {draft.kind}.")
            return
        before, after = state(row), state(lay(draft, row, place.provider if place else None, keep_secrets=False))
        changed = differences(before, after)
        if not changed:
            self._count(draft, Outcome.IMPORTED, "unchanged")
            return
        self._count(draft, Outcome.REJECTED, "conflicts")
        detail = f"Of the {draft.kind}, {', '.join(changed)} is not what the source says."
        self._find(draft, DIFFERS_HERE, detail, ", ".join(changed), shown(before, after, changed))

    def _heard(self, finding: Finding) -> None:
        self._met.add(short(self._provenance.origin(Origin(finding.table, finding.key, ""))))
        if finding.did == "rejected" and not self._provenance.is_empty:
            self._refused.add((finding.table, finding.key))

    def _find_rows_that_should_not_be(self) -> None:
        """A source row that cannot be imported must have left nothing here that counts as its import."""
        refused = sorted(self._refused)
        for start in range(0, len(refused), BATCH):
            some = {self._provenance.origin(Origin(*name, "")): name for name in refused[start : start + BATCH]}
            records = self._provenance.records().filter(origin__in=list(some)).order_by("id")
            last = {record.origin: record for record in records}
            for origin, record in last.items():
                latest = self._provenance.records().filter(target_kind=record.target_kind, target_id=record.target_id)
                here = MODELS[record.target_kind]._base_manager.filter(pk=record.target_id).exists()
                if here and latest.order_by("-id").values_list("origin", flat=True).first() == origin:
                    table, key = some[origin]
                    detail = f"The source row cannot be imported, yet the registry has the {record.target_kind} it once became."
                    self._tally.findings.add(Finding(table, key, "", DIFFERS_HERE, "named", detail))

    def _count(self, draft: Draft, outcome: Outcome, step: str = "") -> None:
        if not draft.origin.inside:
            self._tally.count(draft.origin.table, outcome)
            if step:
                self._tally.tables[draft.origin.table][step] += 1
        for origin in draft.merged:
            self._tally.count(origin.table, Outcome.MERGED, rows=not origin.inside)

    def _find(self, draft: Draft, code, detail: str, field: str = "", changes=None) -> None:
        self._tally.findings.add(
            Finding(draft.origin.table, draft.origin.key, field, code, "named", detail, changes or None)
        )
