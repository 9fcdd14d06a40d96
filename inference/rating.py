"""What a span of the ledger costs by other prices: reckoned for everybody to see, and then written beside what it cost.

The prices are those that somebody names, or those that the registry now has for the time of each record: an override that is entered
too late, with the day from which it holds, is found by it. The ledger itself is not touched, and nothing is written where the figures
agree already; so the same run twice writes nothing the second time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from itertools import islice
from typing import Any

from django.db import connection, transaction
from django.db.models import OuterRef, QuerySet, Subquery

from inference import rollups
from inference.backends.base import Usage
from inference.models import CostCorrection, RatingRun, UsageRecord
from inference.recording import cost_by
from providers import price_rows
from providers.models import ProviderModel
from providers.prices import UNKNOWN, Prices
from routing.rollout import LEGACY

_ROWS_AT_ONCE = 500
_PLACES = Decimal(1).scaleb(-10)
_NOTHING = Decimal(0)


@dataclass(frozen=True, slots=True)
class Span:
    """Records from `since` until before `until`, of one provider or model where one is named."""

    since: datetime
    until: datetime
    provider_id: str = ""
    model_id: str = ""


@dataclass(slots=True)
class Line:
    """What a run does to one model's records of one currency."""

    provider_id: str
    model_id: str
    currency: str
    records: int = 0
    changed: int = 0
    unpriced: int = 0
    """Nobody knows a price, or knows one in another currency: they keep what they have."""
    before: Decimal = _NOTHING
    after: Decimal = _NOTHING
    """Of all its records, changed or not."""


@dataclass(slots=True)
class Figures:
    lines: list[Line] = field(default_factory=list)

    @property
    def changed(self) -> int:
        return sum(line.changed for line in self.lines)

    @property
    def unpriced(self) -> int:
        return sum(line.unpriced for line in self.lines)


@dataclass(frozen=True, slots=True)
class _Rated:
    record: Any
    before: Decimal | None
    after: Decimal | None
    """None: no price is known."""
    prices: Prices

    @property
    def changes(self) -> bool:
        return self.after is not None and self.after != self.before


def preview(span: Span, prices: Prices | None = None) -> Figures:
    """What a run would do; nothing is written."""
    return _added_up(_rated(span, prices))


def run(span: Span, reason: str, by: str, prices: Prices | None = None) -> tuple[RatingRun, Figures]:
    """Write the corrections, all of them or none. Raises `ValueError` without a reason."""
    if not reason.strip():
        raise ValueError("Say why the costs are corrected.")
    with transaction.atomic():
        _let_others_wait()
        made = RatingRun.objects.create(
            made_by=by[:255],
            reason=reason.strip()[:500],
            since=span.since,
            until=span.until,
            provider_id=span.provider_id,
            model_id=span.model_id,
            prices="" if prices is None else prices.document,
        )
        told = rollups.Corrections()
        figures = _added_up(_written(_rated(span, prices), made, told))
        told.store()
        made.records, made.unpriced = figures.changed, figures.unpriced
        made.save(update_fields=["records", "unpriced"])
    return made, figures


def _let_others_wait() -> None:
    """Until the transaction ends: another run begins with what this one corrected. SQLite has one writer anyway."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute(f"LOCK TABLE {RatingRun._meta.db_table} IN SHARE ROW EXCLUSIVE MODE")


def costs(records: QuerySet[UsageRecord]) -> QuerySet[UsageRecord]:
    """With `corrected`: what the last run that changed a record made of its cost; None where none did."""
    latest = CostCorrection.objects.filter(record=OuterRef("pk")).order_by("-id").values("cost_after")[:1]
    return records.annotate(corrected=Subquery(latest))


def _rated(span: Span, prices: Prices | None) -> Iterator[_Rated]:
    known = _Known() if prices is None else None
    for record in _records(span):
        new = known.prices(record) if known is not None else prices or UNKNOWN
        usage = Usage(record.input_tokens, record.output_tokens, record.cached_tokens)
        after = cost_by(new, usage) if new.currency == record.currency else None
        before = record.cost if record.corrected is None else record.corrected
        yield _Rated(record, before, None if after is None else after.quantize(_PLACES), new)


def _records(span: Span) -> Iterator[Any]:
    found = UsageRecord.objects.filter(at__gte=span.since, at__lt=span.until).exclude(side=LEGACY).exclude(model_id="")
    if span.provider_id:
        found = found.filter(provider_id=span.provider_id)
    if span.model_id:
        found = found.filter(model_id=span.model_id)
    return costs(found).order_by("at", "id").iterator(chunk_size=_ROWS_AT_ONCE)


class _Known:
    """The registry's prices at the time of records, which come in the order of time."""

    def __init__(self) -> None:
        rows = ProviderModel.objects.select_related("provider")
        self._rows = {(row.provider.provider_id, row.model_id): row for row in rows}
        self._at: dict[int, Prices] = {}
        self._until: float | None = None
        self._begun = False

    def prices(self, record: Any) -> Prices:
        row = self._rows.get((record.provider_id, record.model_id))
        if row is None:
            return UNKNOWN
        at = record.at.timestamp()
        if not self._begun or (self._until is not None and at >= self._until):
            self._at, self._until = price_rows.of_models_at(self._rows.values(), at)
            self._begun = True
        return self._at[row.pk]


def _added_up(rated: Iterator[_Rated]) -> Figures:
    lines: dict[tuple[str, str, str], Line] = {}
    for one in rated:
        record = one.record
        key = (record.provider_id, record.model_id, record.currency)
        line = lines.setdefault(key, Line(*key))
        line.records += 1
        line.before += one.before or _NOTHING
        line.after += (one.before if one.after is None else one.after) or _NOTHING
        line.changed += one.changes
        line.unpriced += one.after is None
    return Figures([lines[key] for key in sorted(lines)])


def _written(rated: Iterator[_Rated], made: RatingRun, told: rollups.Corrections) -> Iterator[_Rated]:
    while some := list(islice(rated, _ROWS_AT_ONCE)):
        changed = [one for one in some if one.changes]
        CostCorrection.objects.bulk_create(
            CostCorrection(
                run=made,
                record_id=one.record.pk,
                at=one.record.at,
                cost_before=one.before,
                cost_after=one.after,
                currency=one.record.currency,
                prices=one.prices.document,
            )
            for one in changed
        )
        for one in changed:
            told.take(one.record, (one.after or _NOTHING) - (one.before or _NOTHING))
        yield from some
