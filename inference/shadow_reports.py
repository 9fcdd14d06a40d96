"""What the compared answers say in sum: how alike both sides are, how fast, how dear, and where they differ most."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from statistics import fmean, median
from typing import Any

from django.db.models import Q, QuerySet, Sum

from inference.models import ShadowPair

WORST = 10
LONGEST_DAYS = 400


@dataclass(frozen=True, slots=True)
class Side:
    """`cost` is the sum of what is known, `unpriced` how many good answers have no known price. Spans in milliseconds."""

    answered: int
    failed: int
    mean_ms: float | None
    median_ms: float | None
    cost: Decimal
    unpriced: int


@dataclass(frozen=True, slots=True)
class Different:
    """A pair to look at, by its id."""

    id: int
    model: str
    similarity: float | None
    gateway: str
    legacy: str


@dataclass(frozen=True, slots=True)
class Report:
    """Shares and similarity are over the pairs that both sides answered; None when there is none."""

    days: int
    run: str
    pairs: int
    both_answered: int
    equal: int
    equal_share: float | None
    mean_similarity: float | None
    gateway: Side
    legacy: Side
    worst: tuple[Different, ...]
    one_failed: tuple[Different, ...]

    def as_dict(self) -> dict[str, Any]:
        told = asdict(self)
        for side in ("gateway", "legacy"):
            told[side]["cost"] = str(told[side]["cost"])
        return told


def report(days: int, now: datetime, *, run: str = "") -> Report:
    """The pairs of the last `days`: those of live traffic, or those of one `run` of a prompt set."""
    pairs = ShadowPair.objects.filter(at__gte=now - timedelta(days=days), run=run)
    both = pairs.exclude(similarity=None)
    alike = list(both.values_list("similarity", flat=True))
    equal = both.filter(equal=True).count()
    lone = pairs.filter(similarity=None).filter(_good("gateway") | _good("legacy"))
    return Report(
        days=days,
        run=run,
        pairs=pairs.count(),
        both_answered=len(alike),
        equal=equal,
        equal_share=round(equal / len(alike), 4) if alike else None,
        mean_similarity=round(fmean(alike), 4) if alike else None,
        gateway=_side(pairs, "gateway"),
        legacy=_side(pairs, "legacy"),
        worst=_different(both.filter(equal=False).order_by("similarity", "-id")),
        one_failed=_different(lone.order_by("-id")),
    )


def _good(side: str) -> Q:
    return Q(**{f"{side}_status__lt": 400, f"{side}_error": ""})


def _side(pairs: QuerySet[ShadowPair], side: str) -> Side:
    good = pairs.filter(_good(side))
    spans = list(good.values_list(f"{side}_ms", flat=True))
    return Side(
        answered=len(spans),
        failed=pairs.count() - len(spans),
        mean_ms=round(fmean(spans), 3) if spans else None,
        median_ms=round(median(spans), 3) if spans else None,
        cost=pairs.aggregate(total=Sum(f"{side}_cost"))["total"] or Decimal(0),
        unpriced=good.filter(**{f"{side}_cost": None}).count(),
    )


def _different(pairs: QuerySet[ShadowPair]) -> tuple[Different, ...]:
    columns = ("id", "model", "similarity", "gateway_status", "gateway_error", "legacy_status", "legacy_error")
    return tuple(
        Different(pk, model, similarity, f"{here} {why}".strip(), f"{there} {why_there}".strip())
        for pk, model, similarity, here, why, there, why_there in pairs.values_list(*columns)[:WORST]
    )
