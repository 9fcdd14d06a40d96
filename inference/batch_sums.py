"""Adds lines of the ledger to the batches that they are of, in the transaction that writes them: what a batch has used and cost is
what the ledger says of it, whoever wrote that: its worker, or who found what a lost one had left.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from decimal import Decimal

from django.db.models import F

from inference.batch_models import ID_PREFIX, Batch
from inference.recording import Row
from inference.rollup_models import MONEY_PLACES
from providers.pricing import USD

_CENT = Decimal(1).scaleb(-MONEY_PLACES)
_TOKENS = ("input_tokens", "cached_tokens", "output_tokens", "reasoning_tokens")


def add(lines: Iterable[Row]) -> None:
    """In the order of the batches for every process: two of them wait for each other and never in a circle."""
    found: defaultdict[str, list[Row]] = defaultdict(list)
    for line in lines:
        if line.request_id.startswith(ID_PREFIX):
            found[line.request_id.rpartition("_")[0]].append(line)
    for batch_id in sorted(found):
        used = found[batch_id]
        told = {name: F(name) + sum(getattr(line, name) for line in used) for name in _TOKENS}
        cost = sum((_cost(line) for line in used), Decimal(0))
        Batch.objects.filter(pk=batch_id).update(cost=F("cost") + cost, **told)


def _cost(line: Row) -> Decimal:
    """As the ledger rounds it."""
    return line.cost.quantize(_CENT) if line.cost is not None and line.currency == USD else Decimal(0)
